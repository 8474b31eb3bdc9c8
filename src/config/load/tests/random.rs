use proptest::prelude::*;
use serde_json::Map;

use super::full::FULL;
use super::*;

/// The tree of [`FULL`] with one place changed, found by walking down at random.
fn spoil(tree: &mut Value, way: &[usize], with: Value) {
    let Some((step, rest)) = way.split_first() else {
        *tree = with;
        return;
    };
    let length = tree
        .as_object()
        .map_or_else(|| tree.as_array().map_or(0, Vec::len), Map::len);
    if length == 0 {
        *tree = with;
        return;
    }
    let position = step % length;
    match tree {
        Value::Object(object) => spoil(
            object.values_mut().nth(position).expect("in range"),
            rest,
            with,
        ),
        Value::Array(list) => spoil(&mut list[position], rest, with),
        _ => unreachable!("only collections have a length"),
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!(true)),
        Just(json!([[]])),
        Just(json!({"odd": {"er": []}})),
        Just(json!(u64::MAX)),
        ".{0,12}".prop_map(Value::from),
        "[a-z{}*>.:/0-9]{0,12}".prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_is_written_is_accepted_or_explained(
        spoils in prop::collection::vec((prop::collection::vec(0_usize..16, 1..6), odd_value()), 1..6)
    ) {
        let (_folder, sources) = file("natsway.yaml", FULL);
        let mut tree = sources.merged().unwrap();
        for (way, with) in spoils {
            spoil(&mut tree, &way, with);
        }
        let text = serde_json::to_string(&tree).unwrap();
        let (_folder, sources) = file("natsway.json", &text);
        match sources.load() {
            // What is accepted must mean the same when it is written down again.
            Ok(config) => {
                let (_folder, again) = file("natsway.json", &serde_json::to_string(&config).unwrap());
                prop_assert_eq!(again.load(), Ok(config));
            }
            Err(errors) => prop_assert!(!errors.0.is_empty() && errors.0.iter().all(|error| !error.what.is_empty())),
        }
    }
}
