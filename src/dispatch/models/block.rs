//! Blocks and shadows: their last references, and the memory that is used again.

use super::super::block::{RawSource, ReleaseBatch, ShadowEvent, shadow};
use super::{BlockMaker, Payload};
use crate::sync::explore::{Steps, explore};
use crate::sync::thread;

/// Two threads drop the last references to a block while the source of blocks is dropped, too. The
/// payloads are dropped once, after every read, and the memory is freed (otherwise loom would
/// report the pool's `Arc` as leaked).
#[test]
fn loom_last_block_reference() {
    explore(
        "block: last reference against the end of the source",
        || {
            let mut maker = BlockMaker::new();
            let drops = maker.drops.clone();
            let block = maker.block(&["a", "b"]);
            let mut references = block.ref_batch(3);
            let reading: Vec<_> = (0..2)
                .map(|_| {
                    let reference = references.take().typed::<Payload>();
                    thread::spawn(move || {
                        reference
                            .events()
                            .iter()
                            .for_each(|event| event.data().read())
                    })
                })
                .collect();
            drop(references); // one was not taken
            drop(block);
            drop(maker);
            reading.into_iter().for_each(|r| r.join().unwrap());
            assert_eq!(drops.count(), 2);
        },
    );
}

/// Memory that one thread gives back is used again by the source.
#[test]
fn loom_block_recycled() {
    explore("block: memory given back against taken again", || {
        let steps = Steps::new();
        let mut maker = BlockMaker::new();
        let drops = maker.drops.clone();
        let kept = maker.block(&["a"]);
        let shared = kept.events()[0].share();
        let given = maker.block(&["b"]);
        let giving = {
            let steps = steps.clone();
            thread::spawn(move || {
                drop(kept);
                steps.step();
                drop(given);
                steps.step();
                shared.data().read();
                drop(shared);
            })
        };
        for _ in 0..2 {
            steps.step();
            let block = maker.block(&["c"]);
            block.events()[0].data().read();
        }
        giving.join().unwrap();
        drop(maker);
        assert_eq!(drops.count(), 4);
    });
}

/// What becomes of the events of a shadow that the other thread does not take.
enum OtherEvents {
    Taken,
    Released,
    /// Two of them, in one batch.
    ReleasedTogether,
}

/// Events of a shadow are released or taken, while its pool and that of its origin are dropped: the
/// shadow is freed once, by the last of them, after everything in it was read, and that one returns
/// its weight.
fn shadow_last_reference(name: &str, others: OtherEvents) {
    let topics: &[&str] = match others {
        OtherEvents::ReleasedTogether => &["a", "b", "c"],
        OtherEvents::Taken | OtherEvents::Released => &["a", "b"],
    };
    explore(name, move || {
        let steps = Steps::new();
        let mut maker = BlockMaker::new();
        let drops = maker.drops.clone();
        let block = maker.block(topics).into_any();
        let mut shadows = RawSource::like(&block);
        let mut events = shadow(&mut shadows, block, (1 << topics.len()) - 1, usize::MAX);
        let weight = events.weight();
        let [first, second] = [(); 2].map(|()| events.next().expect("two"));
        let third = events.next();
        drop(events);
        let read = |event: ShadowEvent, superseded| {
            event.set_superseded(superseded);
            let taken = event.take();
            let index = taken.mask.trailing_zeros() as usize;
            let event = &taken.block.events::<Payload>()[index];
            event.data().read();
            assert_eq!(event.superseded(), superseded);
            taken.freed
        };
        let taking = {
            let steps = steps.clone();
            thread::spawn(move || {
                steps.step();
                read(first, 7)
            })
        };
        steps.step();
        let mut freed = match others {
            OtherEvents::Taken => read(second, 9),
            OtherEvents::Released => second.release(),
            OtherEvents::ReleasedTogether => {
                let mut leaving = ReleaseBatch::new();
                leaving.add(second);
                leaving.add(third.expect("three"));
                leaving.finish() as usize
            }
        };
        drop((shadows, maker));
        freed += taking.join().unwrap();
        assert_eq!(freed, weight);
        assert_eq!(drops.count(), topics.len());
    });
}

#[test]
fn loom_shadow_taken_against_released() {
    shadow_last_reference("shadow: taken against released", OtherEvents::Released);
}

#[test]
fn loom_shadow_taken_twice() {
    shadow_last_reference("shadow: taken on both sides", OtherEvents::Taken);
}

#[test]
fn loom_shadow_taken_against_released_together() {
    shadow_last_reference(
        "shadow: taken against two released together",
        OtherEvents::ReleasedTogether,
    );
}

/// The memory of a shadow whose last event one thread releases is used again, for other events with
/// other numbers.
#[test]
fn loom_shadow_recycled() {
    explore("shadow: released against used again", || {
        let steps = Steps::new();
        let mut maker = BlockMaker::new();
        let drops = maker.drops.clone();
        let mut shadows = None;
        let mut lay = move |topics: &[&str], number: u64| {
            let block = maker.block(topics).into_any();
            let mask = (1 << topics.len()) - 1;
            let shadows = shadows.get_or_insert_with(|| RawSource::like(&block));
            let events = shadow(shadows, block, mask, usize::MAX);
            events.map(move |event| {
                event.set_superseded(number);
                event
            })
        };
        fn read(event: ShadowEvent, number: u64) {
            let taken = event.take();
            let event = &taken.block.events::<Payload>()[taken.mask.trailing_zeros() as usize];
            event.data().read();
            assert_eq!(event.superseded(), number);
        }
        let mut events = lay(&["a", "b"], 1);
        let [first, second] = [(); 2].map(|()| events.next().expect("two"));
        drop(events);
        let taking = {
            let steps = steps.clone();
            thread::spawn(move || {
                steps.step();
                read(first, 1);
            })
        };
        second.release();
        for number in 2..=3 {
            steps.step();
            lay(&["c", "d"], number).for_each(|event| read(event, number));
        }
        taking.join().unwrap();
        drop(lay);
        assert_eq!(drops.count(), 6);
    });
}
