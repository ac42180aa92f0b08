use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::sync::thread;

/// Counts its drops, and panics in the one it is told to.
struct Payload<'a> {
    number: usize,
    drops: &'a AtomicUsize,
    armed: bool,
}

impl Drop for Payload<'_> {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
        assert!(!self.armed, "as told");
    }
}

/// A block with these topics, an event each.
fn lay<'a>(
    source: &mut BlockSource<Payload<'a>>,
    topics: &[&str],
    drops: &'a AtomicUsize,
) -> BlockRef<Payload<'a>> {
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(topics.len(), 100, 5);
    for (number, topic) in topics.iter().enumerate() {
        let envelope = table.envelope(topic, None, None).unwrap();
        let armed = false;
        writer.push(
            envelope,
            Payload {
                number,
                drops,
                armed,
            },
            10,
        );
    }
    writer.finish()
}

#[test]
fn a_block_says_what_was_laid() {
    let drops = AtomicUsize::new(0);
    let mut source = BlockSource::new();
    let block = lay(&mut source, &["a", "a", "b", "a", "c"], &drops);
    assert_eq!((block.first_id(), block.last_id()), (100, 104));
    for (index, event) in block.events().iter().enumerate() {
        assert_eq!(
            (event.id(), event.data().number),
            (100 + index as u64, index)
        );
        assert_eq!((event.name(), event.source()), (None, None));
    }
    let groups = block.groups().iter();
    let groups: Vec<_> = groups.map(|g| (g.topic().as_str(), g.mask)).collect();
    assert_eq!(
        groups,
        [("a", 0b11), ("b", 0b100), ("a", 0b1000), ("c", 0b1_0000)]
    );
    let class = CLASSES.iter().position(|&places| places == 8).unwrap();
    assert_eq!(block.weight(), Block::<Payload<'_>>::bytes(class) + 5 * 10);
}

#[test]
fn a_block_is_no_larger_than_it_has_to_be() {
    let drops = AtomicUsize::new(0);
    let mut source = BlockSource::new();
    for (events, places) in [(1, 1), (2, 8), (8, 8), (9, 64), (64, 64)] {
        let topics = vec!["a"; events];
        let block = lay(&mut source, &topics, &drops);
        assert_eq!(CLASSES[block.block().class as usize], places);
        assert_eq!(block.events().len(), events);
        assert_eq!(block.groups().len(), 1);
        let all = u64::MAX >> (64 - events);
        assert_eq!(block.groups()[0].mask, all);
    }
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(1000, 1, 0);
    for number in 0..BLOCK_EVENTS_MAX {
        assert!(!writer.is_full());
        let envelope = table.envelope("a", None, None).unwrap();
        let (drops, armed) = (&drops, false);
        writer.push(
            envelope,
            Payload {
                number,
                drops,
                armed,
            },
            0,
        );
    }
    assert!(writer.is_full());
}

#[test]
fn weights_add_up_to_no_more_than_can_be_said() {
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(3, 1, 0);
    for _ in 0..3 {
        writer.push(table.envelope("a", None, None).unwrap(), (), usize::MAX);
    }
    assert_eq!(writer.finish().weight(), usize::MAX);
}

#[test]
fn payloads_go_with_the_last_reference() {
    let drops = AtomicUsize::new(0);
    let mut source = BlockSource::new();
    let block = lay(&mut source, &["a", "b"], &drops);
    let mut shares = block.shares(2);
    // One more than was counted for.
    let taken = [shares.take(), shares.take(), shares.take()];
    drop(shares);
    let untaken = block.shares(5);
    drop(untaken);
    let kept = block.events()[1].share();
    drop((block, taken));
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    assert_eq!((kept.id(), kept.data().number), (101, 1));
    let again = kept.clone();
    drop((kept, source));
    assert_eq!(
        drops.load(Ordering::Relaxed),
        0,
        "the source is not the owner"
    );
    thread::scope(|scope| {
        scope.spawn(move || drop(again)).join().unwrap();
    });
    assert_eq!(drops.load(Ordering::Relaxed), 2);
}

#[test]
fn memory_is_used_again_and_payloads_are_not_kept_until_then() {
    let drops = AtomicUsize::new(0);
    let mut source = BlockSource::new();
    let mut seen = Vec::new();
    for round in 0..10 {
        let block = lay(&mut source, &["a"], &drops);
        if !seen.contains(&block.block) {
            seen.push(block.block);
        }
        drop(block);
        assert_eq!(drops.load(Ordering::Relaxed), round + 1);
    }
    assert_eq!(seen.len(), 1, "one block was enough");
}

#[test]
fn memory_that_rests_is_taken_before_more_is_asked_for() {
    let drops = AtomicUsize::new(0);
    let mut source = BlockSource::new();
    let blocks: Vec<_> = (0..1000)
        .map(|_| lay(&mut source, &["a"], &drops))
        .collect();
    let addresses: Vec<_> = blocks.iter().map(|block| block.block).collect();
    drop(blocks);
    assert_eq!(drops.load(Ordering::Relaxed), 1000);
    let blocks: Vec<_> = (0..1000)
        .map(|_| lay(&mut source, &["a"], &drops))
        .collect();
    let kept = blocks
        .iter()
        .take(256)
        .filter(|block| addresses.contains(&block.block));
    assert_eq!(kept.count(), 256, "those that the pool keeps come first");
}

#[test]
fn a_writer_that_is_not_finished_drops_what_was_laid() {
    let drops = AtomicUsize::new(0);
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let envelope = table.envelope("a", None, None).unwrap();
    let before = envelope.references();
    let mut writer = source.block(8, 1, 0);
    for number in 0..3 {
        let (drops, armed) = (&drops, false);
        let envelope = table.envelope("a", None, None).unwrap();
        writer.push(
            envelope,
            Payload {
                number,
                drops,
                armed,
            },
            0,
        );
    }
    drop(writer);
    assert_eq!(drops.load(Ordering::Relaxed), 3);
    drop(table);
    assert!(before >= 1);
    assert_eq!(envelope.references(), 1, "ours");
}

#[test]
fn a_payload_whose_drop_panics_takes_nobody_along() {
    for armed in 0..3 {
        let drops = AtomicUsize::new(0);
        let mut source = BlockSource::new();
        let mut table = EnvelopeTable::new();
        let mut writer = source.block(3, 1, 0);
        for number in 0..3 {
            let armed = number == armed;
            let drops = &drops;
            let envelope = table.envelope("a", None, None).unwrap();
            writer.push(
                envelope,
                Payload {
                    number,
                    drops,
                    armed,
                },
                0,
            );
        }
        let block = writer.finish();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(block))).is_ok());
        assert_eq!(drops.load(Ordering::Relaxed), 3);
        drop(lay(&mut source, &["b", "b", "b"], &drops));
        assert_eq!(
            drops.load(Ordering::Relaxed),
            6,
            "its memory is as good as new"
        );
    }
}

#[test]
fn an_envelope_is_counted_by_those_who_hold_it() {
    let mut table = EnvelopeTable::new();
    let first = table.envelope("a", Some("name"), Some("source")).unwrap();
    assert_eq!(first.topic().as_str(), "a");
    assert_eq!(
        (first.name(), first.source()),
        (Some("name"), Some("source"))
    );
    // Thousands more, so that the stock is filled up again and again.
    let more: Vec<_> = (0..5000)
        .map(|_| table.envelope("a", Some("name"), Some("source")).unwrap())
        .collect();
    assert!(more.iter().all(|other| *other == first), "the very same");
    assert!(first.references() > 5001);
    drop(more);
    drop(table);
    assert_eq!(first.references(), 1);
}

#[test]
fn what_is_written_on_it_makes_an_envelope() {
    let mut table = EnvelopeTable::new();
    let mut envelope = |topic: &str, name, source| table.envelope(topic, name, source).unwrap();
    let all = [
        envelope("a", None, None),
        envelope("a", Some("n"), None),
        envelope("a", None, Some("n")),
        envelope("a", Some("n"), Some("n")),
        envelope("b", None, None),
    ];
    for (i, one) in all.iter().enumerate() {
        for (j, other) in all.iter().enumerate() {
            assert_eq!(one == other, i == j);
        }
    }
    assert!(table.envelope("", None, None).is_err());
}

#[test]
fn an_envelope_that_is_pushed_out_lives_as_long_as_it_is_held() {
    let mut table = EnvelopeTable::new();
    let held = table.envelope("held", None, None).unwrap();
    for n in 0..40_000 {
        drop(table.envelope(&format!("other.{n}"), None, None).unwrap());
    }
    assert_eq!(held.references(), 1, "the table has let it go");
    assert_eq!(held.topic().as_str(), "held");
    let again = table.envelope("held", None, None).unwrap();
    assert!(again != held);
}

#[test]
fn a_block_gives_back_all_that_its_events_hold() {
    let drops = AtomicUsize::new(0);
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let [a, b] = ["a", "b"].map(|topic| table.envelope(topic, None, None).unwrap());
    let mut writer = source.block(64, 1, 0);
    for number in 0..64 {
        let topic = if number % 5 == 0 { "b" } else { "a" };
        let (drops, armed) = (&drops, false);
        let envelope = table.envelope(topic, None, None).unwrap();
        writer.push(
            envelope,
            Payload {
                number,
                drops,
                armed,
            },
            0,
        );
    }
    let block = writer.finish();
    drop(table);
    assert_eq!((a.references(), b.references()), (1 + 51, 1 + 13));
    let kept = block.events()[63].share();
    drop(block);
    assert_eq!((a.references(), kept.topic().as_str()), (1 + 51, "a"));
    drop(kept);
    assert_eq!((a.references(), b.references()), (1, 1));
}

/// Blocks let go on many threads while the source takes their memory again.
#[test]
fn stress_blocks() {
    const BLOCKS: usize = 20_000;
    const READERS: usize = 3;
    let drops = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (drops, mut source) = (&drops, BlockSource::new());
        let (mut rings, mut readers) = (Vec::new(), Vec::new());
        for _ in 0..READERS {
            let (producer, mut consumer) = crate::ring::spsc::ring::<BlockRef<Payload<'_>>>(8);
            rings.push(producer);
            readers.push(scope.spawn(move || {
                let mut sum = 0;
                while !consumer.is_finished() {
                    let Some(block) = consumer.pop() else {
                        thread::yield_now();
                        continue;
                    };
                    consumer.release();
                    assert_eq!(block.events()[0].topic().as_str(), "a");
                    sum += block
                        .events()
                        .iter()
                        .map(|event| event.data().number)
                        .sum::<usize>();
                    let kept = block.events()[0].share();
                    drop(block);
                    sum += kept.data().number;
                }
                sum
            }));
        }
        for n in 0..BLOCKS {
            let block = lay(&mut source, &["a", "b", "b"][..1 + n % 3], drops);
            let mut shares = block.shares(READERS);
            for ring in &mut rings {
                let mut item = shares.take();
                while let Err(back) = ring.push(item) {
                    item = back;
                    thread::yield_now();
                }
                ring.commit().expect("open");
            }
        }
        drop((rings, source));
        for reader in readers {
            // 0, 0 + 1, 0 + 1 + 2, in turn.
            let expected: usize = (0..BLOCKS).map(|n| [0, 1, 3][n % 3]).sum();
            assert_eq!(reader.join().unwrap(), expected);
        }
    });
    let laid: usize = (0..BLOCKS).map(|n| 1 + n % 3).sum();
    assert_eq!(drops.load(Ordering::Relaxed), laid);
}

#[test]
fn what_refers_to_a_block_can_be_shared_and_sent_if_the_payload_can() {
    fn shared<T: Send + Sync>() {}
    shared::<BlockRef<u8>>();
    shared::<Event<u8>>();
    shared::<SharedEvent<u8>>();
    fn sent<T: Send>() {}
    sent::<BlockSource<u8>>();
}
