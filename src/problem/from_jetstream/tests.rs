use super::*;

fn problem(err_code: u64, description: &str) -> Problem {
    Problem::from_jetstream(&JetStreamError {
        code: 400,
        err_code,
        description: description.to_owned(),
    })
}

/// A row a line: the number, the status, the code, and a sentence of nats-server's.
fn rows() -> impl Iterator<Item = (u64, u16, &'static str, &'static str)> {
    include_str!("rows.txt").lines().map(|line| {
        let mut words = line.splitn(4, ' ');
        let mut next = || words.next().unwrap_or_else(|| panic!("{line}"));
        let (err_code, status) = (next().parse().unwrap(), next().parse().unwrap());
        (err_code, status, next(), next())
    })
}

#[test]
fn every_row_has_its_status_and_code() {
    for (err_code, status, code, description) in rows() {
        let problem = problem(err_code, description);
        assert_eq!(problem.code().as_str(), code, "{err_code} {description}");
        assert_eq!(problem.http_status(), status, "{err_code} {description}");
        let body = problem.to_json(None);
        assert_eq!(body["nats"]["err_code"], err_code);
        assert_eq!(body["nats"]["description"], description);
        assert_eq!(
            problem.is_retryable(),
            code == "jetstream-unavailable",
            "{err_code}"
        );
        assert_ne!(problem.message_outcome(), Outcome::Unknown, "{err_code}");
    }
}

#[test]
fn every_number_of_the_table_is_tested() {
    let tested: std::collections::BTreeSet<u64> = rows().map(|row| row.0).collect();
    for err_code in 10_000..=10_250 {
        let is_listed = code_of(err_code, "") != Code::NatsError;
        assert!(!is_listed || tested.contains(&err_code), "{err_code}");
    }
}

#[test]
fn a_wrong_last_sequence_says_the_right_one() {
    assert_eq!(
        problem(10071, "wrong last sequence: 41").to_json(None)["current"],
        41
    );
    assert!(
        problem(10164, "wrong last sequence")
            .to_json(None)
            .get("current")
            .is_none()
    );
}

#[test]
fn a_leader_that_is_none_any_more_has_no_number_and_passes() {
    let text = r#"{"code":503,"description":"raft: not leader"}"#;
    let problem = Problem::from_jetstream(&serde_json::from_str(text).unwrap());
    assert_eq!(problem.code(), Code::JetStreamUnavailable);
    assert!(problem.is_retryable());
}

#[test]
fn an_answer_of_an_old_server_can_be_read() {
    let error: JetStreamError = serde_json::from_str(r#"{"code":404,"description":"x"}"#).unwrap();
    assert_eq!((error.err_code, error.description.as_str()), (0, "x"));
}
