use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::nats::Inbound;

fn message(bytes: usize) -> Slot {
    let payload = Bytes::from(vec![b'x'; bytes]);
    let message = Inbound {
        subject: "a".into(),
        reply: None,
        payload,
        headers: None,
        status: None,
        description: None,
        length: 0,
    };
    Slot::Message(Arc::new(Delivery::new(message)))
}

fn ring(messages: usize, bytes: usize) -> Ring {
    Ring::new(Buffer { messages, bytes }, Budget::new(1 << 30))
}

#[test]
fn a_slow_reader_learns_how_much_it_lost_and_a_fast_one_loses_nothing() {
    let mut ring = ring(4, 1 << 20);
    let (slow, fast) = (ring.sit_first(), ring.sit().unwrap());
    for _ in 0..10 {
        ring.push(message(1));
        assert!(matches!(ring.next(fast), Found::Slot(_)));
    }
    assert!(matches!(ring.next(slow), Found::Lost(6)));
    assert_eq!(
        (0..4)
            .filter(|_| matches!(ring.next(slow), Found::Slot(_)))
            .count(),
        4
    );
    assert!(matches!(ring.next(slow), Found::Nothing));
}

#[test]
fn a_gap_that_falls_off_is_told_once_and_is_no_message() {
    let mut ring = ring(4, 1 << 20);
    let (slow, fast) = (ring.sit_first(), ring.sit().unwrap());
    let reconnected = |found| matches!(found, Found::Slot(Slot::Gap(GapReason::Reconnected)));
    for _ in 0..2 {
        ring.push(Slot::Gap(GapReason::Reconnected));
        assert!(reconnected(ring.next(fast)));
        for _ in 0..6 {
            ring.push(message(1));
            assert!(matches!(ring.next(fast), Found::Slot(Slot::Message(_))));
        }
    }
    // 12 messages and two gaps, of which four messages are left.
    assert!(matches!(ring.next(slow), Found::Lost(8)));
    assert!(reconnected(ring.next(slow)));
    for _ in 0..4 {
        assert!(matches!(ring.next(slow), Found::Slot(Slot::Message(_))));
    }
    assert!(matches!(ring.next(slow), Found::Nothing));
    assert!(matches!(ring.next(fast), Found::Nothing));
}

#[test]
fn a_gap_that_finds_no_room_is_told() {
    let budget = Budget::new(10_000);
    let limits = Buffer {
        messages: 4,
        bytes: 1 << 20,
    };
    let mut ring = Ring::new(limits, Arc::clone(&budget));
    let reader = ring.sit_first();
    ring.push(message(1000));
    assert!(budget.take(5000));
    budget.set_limit(1000);
    ring.push(Slot::Gap(GapReason::Overloaded));
    assert!(matches!(ring.next(reader), Found::Lost(1)));
    let gap = ring.next(reader);
    assert!(matches!(gap, Found::Slot(Slot::Gap(GapReason::Overloaded))));
    assert!(matches!(ring.next(reader), Found::Nothing));
}

#[test]
fn a_reader_that_asks_for_more_gets_it_and_one_that_asks_for_less_takes_nothing_away() {
    let mut ring = ring(2, 10_000);
    let first = ring.sit_first();
    for (messages, bytes, held) in [(5, 10_000, 5), (3, 200_000, 5), (8, 1, 8)] {
        ring.widen(Buffer { messages, bytes });
        while !matches!(ring.next(first), Found::Nothing) {}
        for _ in 0..10 {
            ring.push(message(1000));
        }
        let lost = 10 - held;
        assert!(matches!(ring.next(first), Found::Lost(n) if n == lost));
    }
}

#[test]
fn what_is_dropped_is_given_back_to_the_process() {
    let budget = Budget::new(10_000);
    let mut ring = Ring::new(
        Buffer {
            messages: 100,
            bytes: 1 << 20,
        },
        Arc::clone(&budget),
    );
    let reader = ring.sit_first();
    for _ in 0..100 {
        ring.push(message(1000));
        assert!(budget.used() <= 10_000);
    }
    assert!(matches!(ring.next(reader), Found::Lost(92..)));
    drop(ring);
    assert_eq!(budget.used(), 0);
}

#[test]
fn one_whose_readers_keep_up_finds_room_beside_those_whose_do_not() {
    let budget = Budget::new(1 << 20);
    let limits = Buffer {
        messages: 10_000,
        bytes: 1 << 20,
    };
    let mut stalled: Vec<_> = (0..9)
        .map(|_| Ring::new(limits, Arc::clone(&budget)))
        .collect();
    let mut read = Ring::new(limits, Arc::clone(&budget));
    for ring in &mut stalled {
        ring.sit_first();
    }
    let reader = read.sit_first();
    for _ in 0..1000 {
        for ring in &mut stalled {
            ring.push(message(1000));
        }
        read.push(message(1000));
        assert!(matches!(read.next(reader), Found::Slot(_)));
        assert!(budget.used() <= 1 << 20);
    }
    drop(stalled);
    assert_eq!(budget.used(), 0);
}

#[test]
fn what_everybody_has_read_takes_no_memory() {
    let budget = Budget::new(10_000);
    let limits = Buffer {
        messages: 100,
        bytes: 1 << 20,
    };
    let mut ring = Ring::new(limits, Arc::clone(&budget));
    let (one, two) = (ring.sit_first(), ring.sit().unwrap());
    for _ in 0..3 {
        ring.push(message(1000));
    }
    while matches!(ring.next(one), Found::Slot(_)) {}
    assert!(budget.used() > 3000);
    for _ in 0..3 {
        assert!(matches!(ring.next(two), Found::Slot(_)));
    }
    assert_eq!(budget.used(), 0);
    ring.push(message(1000));
    assert!(matches!(ring.next(one), Found::Slot(_)));
    assert!(budget.used() > 0);
    assert!(!ring.leave(two));
    assert_eq!(budget.used(), 0);
    ring.push(message(10_001));
    assert!(matches!(ring.next(one), Found::Lost(1)));
    assert!(matches!(ring.next(one), Found::Nothing));
}

proptest! {
    #[test]
    fn nobody_misses_what_another_has_read(steps in prop::collection::vec((0usize..3, 0usize..4, 0usize..300), 1..200)) {
        let mut ring = ring(8, 4096);
        let seats = [ring.sit_first(), ring.sit().unwrap(), ring.sit().unwrap()];
        let (mut pushed, mut seen) = (0u64, [0u64; 3]);
        let mut read = |ring: &mut Ring, who: usize| match ring.next(seats[who]) {
            Found::Lost(lost) => { seen[who] += lost; true }
            Found::Slot(_) => { seen[who] += 1; true }
            Found::Nothing => false,
        };
        for (who, reads, bytes) in steps {
            ring.push(message(bytes));
            pushed += 1;
            for _ in 0..reads { read(&mut ring, who); }
        }
        for who in 0..3 { while read(&mut ring, who) {} }
        prop_assert_eq!(seen, [pushed; 3]);
        prop_assert_eq!(ring.budget.used(), 0);
    }

    #[test]
    fn read_and_lost_add_up_to_what_was_pushed(steps in prop::collection::vec((0usize..4, 0usize..300, prop::bool::weighted(0.1)), 1..200)) {
        let mut ring = ring(8, 4096);
        let seat = ring.sit_first();
        let (mut pushed, mut seen) = (0u64, 0u64);
        let (mut gap, mut told) = (None, None);
        let mut read = |ring: &mut Ring, pushed| match ring.next(seat) {
            Found::Lost(lost) => { seen += lost; true }
            Found::Slot(Slot::Message(_)) => { seen += 1; true }
            Found::Slot(Slot::Gap(_)) => { told = Some(pushed); true }
            Found::Nothing => false,
        };
        for (reads, bytes, is_gap) in steps {
            if is_gap {
                ring.push(Slot::Gap(GapReason::Reconnected));
                gap = Some(pushed);
            } else {
                ring.push(message(bytes));
                pushed += 1;
            }
            for _ in 0..reads { read(&mut ring, pushed); }
        }
        while read(&mut ring, pushed) {}
        prop_assert_eq!(pushed, seen);
        // The last gap was told when it had come, or later.
        prop_assert!(told >= gap);
    }
}
