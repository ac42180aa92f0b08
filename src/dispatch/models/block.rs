//! Blocks and shadows: their last references, and the memory that is used again.

use super::super::block::{BlockSource, ReleaseBatch, ShadowEvent, shadow};
use super::{Layer, Payload};
use crate::sync::explore::{Steps, explore};
use crate::sync::thread;

/// Two threads let the last references to a block go while the source of blocks goes too: the payloads are dropped once,
/// after every read, and the memory is freed (the pool's `Arc` would be told as leaked).
#[test]
fn loom_last_block_reference() {
    explore(
        "block: last reference against the end of the source",
        || {
            let mut layer = Layer::new();
            let drops = layer.drops.clone();
            let block = layer.block(&["a", "b"]);
            let mut refs = block.ref_batch(3);
            let reading: Vec<_> = (0..2)
                .map(|_| {
                    let share = refs.take();
                    thread::spawn(move || {
                        share.events().iter().for_each(|event| event.data().read())
                    })
                })
                .collect();
            drop(refs); // one was not taken
            drop(block);
            drop(layer);
            reading.into_iter().for_each(|r| r.join().unwrap());
            assert_eq!(drops.count(), 2);
        },
    );
}

/// Memory that one thread gives back is laid again by the source.
#[test]
fn loom_block_recycled() {
    explore("block: given back against taken again", || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let drops = layer.drops.clone();
        let kept = layer.block(&["a"]);
        let shared = kept.events()[0].share();
        let given = layer.block(&["b"]);
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
            let block = layer.block(&["c"]);
            block.events()[0].data().read();
        }
        giving.join().unwrap();
        drop(layer);
        assert_eq!(drops.count(), 4);
    });
}

/// What becomes of the events of a shadow beside the one that the other thread takes.
enum Others {
    Taken,
    LetGo,
    /// Two of them, with one step.
    LetGoTogether,
}

/// Events of a shadow, some let go and some taken, while its pool and that of its origin go: it is freed once, by whoever is
/// last, after all that is read in it; and one of them says what it weighed.
fn last_of_a_shadow(name: &str, others: Others) {
    let topics: &[&str] = match others {
        Others::LetGoTogether => &["a", "b", "c"],
        Others::Taken | Others::LetGo => &["a", "b"],
    };
    explore(name, move || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let drops = layer.drops.clone();
        let mut shadows = BlockSource::new();
        let mut events = shadow(
            &mut shadows,
            layer.block(topics),
            (1 << topics.len()) - 1,
            usize::MAX,
        );
        let weight = events.weight();
        let [first, second] = [(); 2].map(|()| events.next().expect("two"));
        let third = events.next();
        drop(events);
        let read = |event: ShadowEvent<Payload>, superseded| {
            event.set_superseded(superseded);
            let taken = event.take();
            let index = taken.mask.trailing_zeros() as usize;
            let event = &taken.block.events()[index];
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
            Others::Taken => read(second, 9),
            Others::LetGo => second.release(),
            Others::LetGoTogether => {
                let mut leaving = ReleaseBatch::new();
                leaving.add(second);
                leaving.add(third.expect("three"));
                leaving.finish() as usize
            }
        };
        drop((shadows, layer));
        freed += taking.join().unwrap();
        assert_eq!(freed, weight);
        assert_eq!(drops.count(), topics.len());
    });
}

#[test]
fn loom_shadow_taken_against_let_go() {
    last_of_a_shadow("shadow: taken against let go", Others::LetGo);
}

#[test]
fn loom_shadow_taken_twice() {
    last_of_a_shadow("shadow: taken on both sides", Others::Taken);
}

#[test]
fn loom_shadow_taken_against_let_go_together() {
    last_of_a_shadow(
        "shadow: taken against two let go together",
        Others::LetGoTogether,
    );
}

/// The memory of a shadow that one thread lets go is laid again, for other events with other numbers.
#[test]
fn loom_shadow_recycled() {
    explore("shadow: let go against laid again", || {
        let steps = Steps::new();
        let mut layer = Layer::new();
        let drops = layer.drops.clone();
        let mut shadows = BlockSource::new();
        let mut lay = move |topics: &[&str], number: u64| {
            let block = layer.block(topics);
            let mask = (1 << topics.len()) - 1;
            let events = shadow(&mut shadows, block, mask, usize::MAX);
            events.map(move |event| {
                event.set_superseded(number);
                event
            })
        };
        fn read(event: ShadowEvent<Payload>, number: u64) {
            let taken = event.take();
            let event = &taken.block.events()[taken.mask.trailing_zeros() as usize];
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
