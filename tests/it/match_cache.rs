//! The cache in front of the indexes of a bus changes only the speed.

use fanout::{Bus, Dispatch, TryRecvError};

/// The events on few topics that a subscriber receives while other subscriptions begin and end.
fn received(match_cache: bool) -> Vec<(u64, String)> {
    let bus = Bus::<u32>::builder()
        .dispatch(Dispatch::Manual)
        .match_cache(match_cache)
        .build()
        .expect("in range");
    let mut sub = bus.subscribe("a.*").expect("open");
    let handle = sub.handle();
    let mut others = Vec::new();
    let mut received = Vec::new();
    for n in 0..400u32 {
        match n % 40 {
            3 => assert!(handle.add("*.x").expect("open")),
            11 => assert!(handle.remove("a.*").expect("open")),
            17 => others.push(bus.subscribe(format!("*.{n}")).expect("open")),
            23 => drop(others.pop()),
            29 => assert!(handle.add("a.*").expect("open")),
            37 => assert!(handle.remove("*.x").expect("open")),
            _ => {}
        }
        bus.publish(["a.x", "b.x", "a.y"][n as usize % 3], n)
            .expect("open");
        bus.drive();
        loop {
            match sub.try_recv() {
                Ok(event) => received.push((event.id(), event.topic().to_string())),
                Err(TryRecvError::Empty) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    received
}

#[test]
fn the_same_events_are_delivered_with_and_without_a_cache() {
    let with = received(true);
    assert_eq!(with, received(false));
    for topic in ["a.x", "b.x", "a.y"] {
        assert!(with.iter().any(|(_, on)| on == topic), "{topic}");
    }
    assert!(with.len() < 400);
}
