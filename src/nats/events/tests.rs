use super::*;
use crate::nats::queue::QueueLimits;
use crate::nats::room::tests::Left;

#[test]
fn of_a_servers_error_only_its_kind_is_said() {
    for (text, kind) in [
        ("User Authentication Expired", "authentication expired"),
        ("Stale Connection", "stale connection"),
        ("Invalid Publish Subject \"orders.secret\"", "another"),
    ] {
        assert_eq!(kind_of(text), kind);
    }
}

fn signals() -> Arc<Signals> {
    let queue = SendQueue::new(QueueLimits {
        messages: 1,
        bytes: 1,
    });
    Signals::new(
        queue,
        ReplyTable::new("_I.x.r".into(), Left::new(0)),
        Arc::default(),
    )
}

fn says(signals: &Signals, text: &str) {
    signals.on(Event::ServerError(ServerError::Other(text.to_owned())));
}

fn takes_away(signals: &Signals, sid: u64) {
    let text = format!("Permissions Violation for Subscription to \"a.{sid}\" (sid \"{sid}\")");
    says(signals, &text);
}

#[test]
fn a_loss_is_told_to_its_own_subscription() {
    let signals = signals();
    let (mine, other) = (signals.watch(7), signals.watch(9));
    signals.on(Event::SlowConsumer(7));
    signals.doubt_losses();
    assert!(mine.alarm.has_lost());
    assert!(!mine.alarm.has_lost(), "once");
    assert!(!other.alarm.has_lost());
}

#[test]
fn losses_that_a_crowd_of_others_may_have_hidden_are_told_too() {
    let signals = signals();
    let other = signals.watch(9);
    for _ in 0..128 {
        signals.on(Event::SlowConsumer(7));
    }
    assert!(!other.alarm.has_lost());
    signals.doubt_losses();
    assert!(other.alarm.has_lost());
    signals.doubt_losses();
    assert!(!other.alarm.has_lost(), "once");
}

#[test]
fn a_subscription_that_is_taken_away_learns_it_alone() {
    let signals = signals();
    let (mine, other) = (signals.watch(7), signals.watch(9));
    takes_away(&signals, 7);
    assert!(mine.alarm.is_taken_away());
    assert!(!other.alarm.is_taken_away());
    assert!(!signals.closed.is_cancelled());
}

#[test]
fn a_crowd_that_is_taken_away_ends_the_connection() {
    let signals = signals();
    for sid in 0..CROWDED {
        assert!(!signals.closed.is_cancelled(), "{sid}");
        takes_away(&signals, sid + 10);
    }
    assert!(signals.closed.is_cancelled());
}

#[test]
fn an_inbox_that_is_taken_away_ends_the_connection() {
    let signals = signals();
    says(
        &signals,
        "Permissions Violation for Subscription to \"_I.x.r.*\" (sid \"1\")",
    );
    assert!(signals.closed.is_cancelled());
}

#[test]
fn a_denial_that_nobody_expected_makes_the_rules_uncertain() {
    let signals = signals();
    says(
        &signals,
        "Permissions Violation for Publish to \"_I.x.p.1\"",
    );
    assert!(!signals.uncertain.load(Ordering::Acquire), "asked for");
    says(&signals, "Permissions Violation for Publish to \"a\"");
    assert!(signals.uncertain.load(Ordering::Acquire));
}

#[test]
fn who_stops_listening_leaves_nothing_behind() {
    let signals = signals();
    drop(signals.watch(7));
    assert!(signals.alarms.lock().is_empty());
}
