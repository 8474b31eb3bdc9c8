use super::*;
use crate::nats::Failure;

fn waiter(subject: &'static str) -> Waiter {
    let ticket = Ticket::new();
    assert!(ticket.hand_over());
    Waiter {
        subject: Subject::from_static(subject),
        messages: 1,
        ticket,
    }
}

async fn outcome(ticket: &Arc<Ticket>) -> Result<(), Failure> {
    ticket
        .outcome_by(Instant::now() + Duration::from_millis(10))
        .await
}

#[tokio::test]
async fn a_marker_settles_the_oldest_fence_alone() {
    let fences = Fences::default();
    let (first, second) = (waiter("a"), waiter("a"));
    fences.register(vec![first.clone()], 1);
    fences.register(vec![second.clone()], 1);
    assert!(fences.came_back(0).is_some());
    assert_eq!(outcome(&first.ticket).await, Ok(()));
    assert_eq!(outcome(&second.ticket).await, Err(Failure::Timeout));
}

#[tokio::test]
async fn a_denied_message_is_never_confirmed() {
    let fences = Fences::default();
    let (denied, allowed) = (waiter("no"), waiter("yes"));
    fences.register(vec![denied.clone(), allowed.clone()], 2);
    fences.deny("no", Verdict::Denied);
    fences.came_back(0);
    assert_eq!(
        outcome(&denied.ticket).await,
        Err(Failure::PermissionDenied)
    );
    assert_eq!(outcome(&allowed.ticket).await, Ok(()));
}

#[tokio::test]
async fn nothing_is_confirmed_where_a_denial_may_have_been_dropped() {
    let fences = Fences::default();
    let (crowded, next) = (waiter("a"), waiter("a"));
    fences.register(vec![crowded.clone()], 1);
    for _ in 0..CHANNEL_CAPACITY {
        fences.count_event();
    }
    fences.register(vec![next.clone()], 1);
    for _ in 1..CHANNEL_CAPACITY {
        fences.count_event();
    }
    fences.came_back(0);
    fences.came_back(0);
    assert_eq!(outcome(&crowded.ticket).await, Err(Failure::Lost));
    assert_eq!(
        outcome(&next.ticket).await,
        Ok(()),
        "the channel was not full"
    );
}

#[tokio::test]
async fn what_comes_after_the_connection_went_is_not_left_waiting() {
    let fences = Fences::default();
    fences.fail_all();
    let late = waiter("a");
    fences.register(vec![late.clone()], 1);
    assert_eq!(outcome(&late.ticket).await, Err(Failure::Lost));
}

static CERTAIN: AtomicBool = AtomicBool::new(false);
static UNCERTAIN: AtomicBool = AtomicBool::new(true);

async fn is_blocked(fences: &Fences, uncertain: &AtomicBool) -> bool {
    let room = fences.room(uncertain);
    tokio::time::timeout(Duration::from_millis(10), room)
        .await
        .is_err()
}

/// A fence that is sent alone since the oldest is late; returns its marker.
async fn late_fence(fences: &Fences) -> usize {
    tokio::time::sleep(LATE * 2).await;
    assert!(fences.look_for_late());
    fences.register(Vec::new(), 0)
}

#[tokio::test]
async fn where_messages_may_be_denied_few_are_under_way_at_once() {
    let fences = Fences::default();
    fences.register(vec![waiter("a")], UNCERTAIN_WINDOW);
    assert!(is_blocked(&fences, &UNCERTAIN).await);
    fences.came_back(0);
    assert_eq!(fences.room(&UNCERTAIN).await, UNCERTAIN_WINDOW);
}

#[tokio::test(start_paused = true)]
async fn one_late_fence_settles_all_whose_echoes_were_dropped() {
    let fences = Fences::default();
    let lost: Vec<_> = (0..FENCES_MAX).map(|_| waiter("a")).collect();
    for waiter in &lost {
        assert_eq!(fences.register(vec![waiter.clone()], 4), 0);
    }
    assert!(is_blocked(&fences, &CERTAIN).await);
    assert!(!fences.look_for_late());
    tokio::time::sleep(LATE * 2).await;
    assert!(fences.look_for_late());
    assert_eq!(fences.room(&UNCERTAIN).await, 0);
    assert!(is_blocked(&fences, &UNCERTAIN).await, "one is enough");
    assert_eq!(fences.register(Vec::new(), 0), 1);
    assert!(fences.came_back(1).is_some());
    for waiter in &lost {
        assert_eq!(outcome(&waiter.ticket).await, Ok(()));
    }
    assert_eq!(fences.under_way(), 0);
    assert_eq!(fences.room(&UNCERTAIN).await, UNCERTAIN_WINDOW);
}

#[tokio::test(start_paused = true)]
async fn after_a_dropped_echo_each_fence_waits_for_its_own_again() {
    let fences = Fences::default();
    fences.register(Vec::new(), 0);
    assert_eq!(late_fence(&fences).await, 1);
    fences.came_back(1);
    let (next, after) = (waiter("a"), waiter("a"));
    let marker = fences.register(vec![next.clone()], 1);
    fences.register(vec![after.clone()], 1);
    fences.came_back(marker);
    assert_eq!(outcome(&next.ticket).await, Ok(()));
    assert_eq!(outcome(&after.ticket).await, Err(Failure::Timeout));
}

#[tokio::test(start_paused = true)]
async fn an_echo_that_was_only_slow_settles_its_own_fence_alone() {
    let fences = Fences::default();
    let (slow, behind) = (waiter("a"), waiter("a"));
    fences.register(vec![slow.clone()], 1);
    assert_eq!(late_fence(&fences).await, 1);
    assert_eq!(fences.register(vec![behind.clone()], 1), 1);
    fences.came_back(0);
    assert_eq!(outcome(&slow.ticket).await, Ok(()));
    fences.came_back(1);
    assert_eq!(outcome(&behind.ticket).await, Err(Failure::Timeout));
    assert!(fences.came_back(0).is_none(), "it has come back before");
    fences.came_back(1);
    assert_eq!(fences.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_fence_whose_echo_is_dropped_is_followed_by_others_until_one_is_back() {
    let fences = Fences::default();
    fences.register(Vec::new(), 0);
    assert_eq!(late_fence(&fences).await, 1);
    assert_eq!(late_fence(&fences).await, 1, "the first marker is not free");
    fences.came_back(1);
    assert_eq!(fences.under_way(), 1, "that of the second is left");
    assert_eq!(late_fence(&fences).await, 0);
    fences.came_back(0);
    assert_eq!(fences.under_way(), 0);
}

#[tokio::test]
async fn whoever_may_have_lost_an_error_may_have_lost_an_echo() {
    let fences = Fences::default();
    fences.register(Vec::new(), 0);
    fences.register(Vec::new(), 0);
    for _ in 0..CHANNEL_CAPACITY {
        fences.count_event();
    }
    fences.came_back(0);
    assert_eq!(fences.register(Vec::new(), 0), 1);
    fences.came_back(1);
    assert_eq!(fences.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stands_still_gets_no_more_fences_than_their_echoes_have_room() {
    let fences = Fences::default();
    for _ in 0..FENCES_MAX {
        fences.register(vec![waiter("a")], 1);
    }
    for _ in 0..LATE_FENCES_MAX {
        late_fence(&fences).await;
        assert!(fences.look_for_late());
        let alone = fences.room(&CERTAIN);
        let alone = tokio::time::timeout(Duration::from_millis(10), alone).await;
        let is_last = fences.under_way() == FENCES_MAX + LATE_FENCES_MAX;
        assert_eq!(alone.is_err(), is_last);
    }
}
