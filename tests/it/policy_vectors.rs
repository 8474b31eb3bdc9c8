//! The subject policy beside the permissions of a real nats-server, entry for entry the same.
//!
//! Where the two differ, natsway must be the stricter one, and only for the reasons its contract
//! names: reserved first tokens, root wildcards, and a deny entry that overlaps with a subscription.

use std::collections::BTreeSet;

use natsway::subject::{Subject, SubjectPattern, SubjectPolicy};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::harness::{Nats, raw};

const POLICIES: usize = 24;
const SEED: u64 = 20_260_401;

#[tokio::test]
async fn publishing_is_judged_as_the_server_judges_it() {
    let policies = policies();
    let nats = server(&policies).await;
    for (index, policy) in policies.iter().enumerate() {
        let mut user = connect(&nats, index).await;
        for subject in literals() {
            user.publish(&subject, b"").await;
        }
        user.flush().await;
        for subject in literals() {
            let complaint = format!("Permissions Violation for Publish to \"{subject}\"");
            let by_server = !user.errors.iter().any(|error| error.contains(&complaint));
            let ours = policy.permits_publish(&Subject::parse(&subject).unwrap());
            if is_reserved(&subject) {
                assert!(by_server || !ours, "{subject} under {policy:?}");
            } else {
                assert_eq!(ours, by_server, "{subject} under {policy:?}");
            }
        }
    }
}

#[tokio::test]
async fn subscribing_is_never_wider_than_at_the_server() {
    let policies = policies();
    let nats = server(&policies).await;
    let hides_all = !is_before_2_12(&nats).await;
    let mut admin = raw::Client::connect_with(&nats.host_port(), &login("admin")).await;
    for (index, policy) in policies.iter().enumerate() {
        let mut user = connect(&nats, index).await;
        for pattern in patterns() {
            let brought = brings(&mut user, &mut admin, pattern.as_str()).await;
            let brought = brought.map(|subjects| known(subjects, policy, hides_all));
            check(policy, &pattern, brought.as_ref());
        }
    }
}

async fn is_before_2_12(nats: &Nats) -> bool {
    let info = raw::server_info(&nats.host_port()).await.expect("INFO");
    let version = info["version"].as_str().expect("a version");
    ["2.10.", "2.11."]
        .iter()
        .any(|old| version.starts_with(old))
}

/// Before 2.12 the server delivers some messages that a deny entry names, where the entry only overlaps
/// with the subscription. Those are left out: natsway shows them with no server.
fn known(brought: BTreeSet<String>, policy: &SubjectPolicy, hides_all: bool) -> BTreeSet<String> {
    let is_denied = |subject: &String| policy.deny.iter().any(|entry| entry.matches(subject));
    let is_known = |subject: &String| hides_all || !is_denied(subject);
    brought.into_iter().filter(is_known).collect()
}

fn check(policy: &SubjectPolicy, pattern: &SubjectPattern, brought: Option<&BTreeSet<String>>) {
    let context = format!("{pattern} under {policy:?}");
    let ours = policy.permits_subscribe(pattern);
    let Some(brought) = brought else {
        assert!(!ours, "the server refuses {context}");
        return;
    };
    let has_own_reason = is_reserved(pattern.as_str())
        || (pattern.is_root_wildcard() && !policy.root_wildcards)
        || policy.deny.iter().any(|entry| entry.overlaps(pattern))
        // The server takes `>` for a token that `*` covers: `a.>` is allowed by `a.*`.
        || !policy.allow.iter().any(|entry| entry.covers(pattern));
    assert!(ours || has_own_reason, "the server takes {context}");
    let shown: BTreeSet<String> = literals()
        .filter(|subject| pattern.matches(subject) && policy.delivers(subject))
        .collect();
    let hidden = |subject: &&String| is_reserved(subject) && !shown.contains(*subject);
    if policy.allow.iter().any(|entry| entry.covers(pattern)) {
        let brought: BTreeSet<String> = brought.iter().filter(|s| !hidden(s)).cloned().collect();
        assert_eq!(shown, brought, "{context}");
    }
}

/// What the server delivers; nothing where it refuses the subscription.
async fn brings(
    user: &mut raw::Client,
    admin: &mut raw::Client,
    pattern: &str,
) -> Option<BTreeSet<String>> {
    user.errors.clear();
    let sid = user.subscribe(pattern).await;
    if !user.errors.is_empty() {
        return None;
    }
    for subject in literals() {
        admin.publish(&subject, b"").await;
    }
    admin.flush().await;
    let brought = user.drain().await;
    user.send(format!("UNSUB {sid}\r\n").as_bytes()).await;
    user.flush().await;
    Some(brought.into_iter().map(|message| message.subject).collect())
}

fn is_reserved(subject: &str) -> bool {
    subject.starts_with('$')
}

/// All subjects of up to three tokens; `z` stands for whatever no entry names.
fn literals() -> impl Iterator<Item = String> {
    sequences(&["a", "b", "$S", "z"])
}

/// The same for patterns, each also open at its end.
fn patterns() -> Vec<SubjectPattern> {
    let closed = sequences(&["a", "$S", "*"]);
    let open = sequences(&["a", "b", "*"])
        .filter(|text| text.split('.').count() < 3)
        .map(|text| text + ".>");
    closed
        .chain(open)
        .chain([">".to_owned()])
        .map(|text| pattern(&text))
        .collect()
}

fn pattern(text: &str) -> SubjectPattern {
    SubjectPattern::parse(text).expect("a pattern of this test")
}

fn sequences(tokens: &'static [&'static str]) -> impl Iterator<Item = String> {
    let one = || tokens.iter().map(|token| (*token).to_owned());
    let longer = move |head: String| tokens.iter().map(move |token| format!("{head}.{token}"));
    let two = move || one().flat_map(longer);
    one().chain(two()).chain(two().flat_map(longer))
}

fn policies() -> Vec<SubjectPolicy> {
    let mut random = StdRng::seed_from_u64(SEED);
    let entries: Vec<SubjectPattern> = patterns()
        .into_iter()
        .chain(["$S.>", "$S.a", "$S.*"].map(pattern))
        .collect();
    let mut some = |most: usize, least: usize| -> Vec<SubjectPattern> {
        let count = random.random_range(least..=most);
        entries
            .choose_multiple(&mut random, count)
            .cloned()
            .collect()
    };
    let everything = pattern(">");
    (0..POLICIES)
        .map(|index| {
            let mut allow = some(4, 1);
            if index % 3 == 0 {
                allow.push(everything.clone());
            }
            SubjectPolicy {
                allow,
                deny: some(2, 0),
                root_wildcards: index % 2 == 0,
            }
        })
        .collect()
}

async fn server(policies: &[SubjectPolicy]) -> Nats {
    let users: String = policies
        .iter()
        .enumerate()
        .map(|(index, policy)| {
            let entries = format!("{{ allow: {}, deny: {} }}", list(&policy.allow), list(&policy.deny));
            format!(
                "{{ user: u{index}, password: secret, permissions: {{ publish: {entries}, subscribe: {entries} }} }}\n"
            )
        })
        .collect();
    let config =
        format!("authorization {{ users = [\n{{ user: admin, password: secret }}\n{users}] }}");
    Nats::builder()
        .without_jetstream()
        .config(&config)
        .start()
        .await
}

fn list(entries: &[SubjectPattern]) -> String {
    let quoted: Vec<String> = entries.iter().map(|entry| format!("\"{entry}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

async fn connect(nats: &Nats, index: usize) -> raw::Client {
    raw::Client::connect_with(&nats.host_port(), &login(&format!("u{index}"))).await
}

fn login(user: &str) -> String {
    format!("\"user\":\"{user}\",\"pass\":\"secret\",")
}
