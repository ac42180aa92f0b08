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

// ---- shadows ------------------------------------------------------------------------------------------

/// A shadow of these events, which says its whole weight.
fn shadow_of<T>(
    source: &mut BlockSource<T>,
    block: &BlockRef<T>,
    mask: u64,
) -> Vec<(Waiting<T>, usize)> {
    let events = shadow(source, block.shares(1).take(), mask, usize::MAX);
    let weight = events.weight();
    events.map(|event| (event, weight)).collect()
}

fn references<T>(block: &BlockRef<T>) -> usize {
    block.block().references.load(Ordering::Relaxed)
}

#[test]
fn a_shadow_shows_the_events_that_it_borrows() {
    let drops = AtomicUsize::new(0);
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(64, 100, 5_000_000_000);
    for number in 0..64 {
        let name = ["even", "odd"][number % 2];
        let envelope = table.envelope(&format!("t.{number}"), Some(name), Some("here"));
        let (drops, armed) = (&drops, false);
        writer.push(
            envelope.unwrap(),
            Payload {
                number,
                drops,
                armed,
            },
            10,
        );
    }
    let block = writer.finish();
    let mut shadows = BlockSource::new();
    for mask in [1, 1 << 63, 0b1010_0110, u64::MAX] {
        let waiting = shadow_of(&mut shadows, &block, mask);
        assert_eq!(references(&block), 2, "one for the whole shadow");
        let mut numbers = (0..64_usize).filter(|number| mask & 1 << number != 0);
        let class = CLASSES.iter().position(|&places| waiting.len() <= places);
        let own = Block::<Payload<'_>>::bytes(class.unwrap());
        for (at, (event, weight)) in waiting.into_iter().enumerate() {
            assert_eq!(weight, own + block.weight());
            let number = numbers.next().expect("as many as there are bits");
            assert_eq!(event.id(), 100 + number as u64);
            event.set_superseded(3 * at as u64 + u64::from(u32::MAX));
            let taken = event.take();
            assert_eq!(taken.mask, 1 << at);
            assert_eq!(taken.freed == 0, numbers.clone().next().is_some());
            assert!([0, weight].contains(&taken.freed));
            let event = &taken.block.events()[at];
            let original = &block.events()[number];
            assert_eq!(
                (event.id(), event.topic()),
                (original.id(), original.topic())
            );
            assert_eq!(event.name(), Some(["even", "odd"][number % 2]));
            assert_eq!(event.source(), Some("here"));
            assert_eq!(event.created_at(), original.created_at());
            assert!(std::ptr::eq(event.data(), original.data()), "borrowed");
            assert_eq!(event.superseded(), 3 * at as u64 + u64::from(u32::MAX));
            assert_eq!(original.superseded(), 0, "its own story");
            let text = |event: &Event<Payload<'_>>| {
                (
                    event.data().number,
                    event.share().id(),
                    event.share().share().id(),
                )
            };
            assert_eq!(text(event), text(original));
        }
        assert_eq!(references(&block), 1, "given back");
    }
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    drop(block);
    assert_eq!(drops.load(Ordering::Relaxed), 64);
}

/// In every order, taken or let go: the last one says what was freed, and then the shadow is gone.
#[test]
fn the_last_event_of_a_shadow_lets_it_go() {
    const ORDERS: [[usize; 3]; 6] = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for order in ORDERS {
        for ways in 0..27_usize {
            let drops = AtomicUsize::new(0);
            let mut source = BlockSource::new();
            let block = lay(&mut source, &["a", "b", "c"], &drops);
            let mut shadows = BlockSource::new();
            let waiting = shadow_of(&mut shadows, &block, 0b111);
            let weight = waiting[0].1;
            let mut waiting: Vec<_> = waiting.into_iter().map(|(event, _)| Some(event)).collect();
            drop(block);
            let mut kept = Vec::new();
            for (step, &index) in order.iter().enumerate() {
                let event = waiting[index].take().expect("each once");
                let freed = match ways / 3_usize.pow(step as u32) % 3 {
                    0 => event.let_go(),
                    1 => {
                        let taken = event.take();
                        kept.push((taken.block.events()[index].share(), index));
                        taken.freed
                    }
                    _ => {
                        let last = step == 2;
                        drop(event);
                        if last { weight } else { 0 }
                    }
                };
                assert_eq!(freed, if step == 2 { weight } else { 0 });
            }
            let held = !kept.is_empty();
            assert_eq!(drops.load(Ordering::Relaxed), if held { 0 } else { 3 });
            drop((source, shadows));
            for (event, index) in kept {
                assert_eq!(event.data().number, index);
                assert_eq!(drops.load(Ordering::Relaxed), 0);
            }
            assert_eq!(drops.load(Ordering::Relaxed), 3);
        }
    }
}

/// Of two shadows, in every order: a shadow goes when all its events have left and one of the other follows, not before; and
/// at the end.
#[test]
fn neighbours_leave_together() {
    for order in 0..1_u32 << 4 {
        let drops = AtomicUsize::new(0);
        let (mut source, mut shadows) = (BlockSource::new(), BlockSource::new());
        let mut pinned = 0;
        let mut queues = [["a", "b"], ["c", "d"]].map(|topics| {
            let block = lay(&mut source, &topics, &drops);
            let waiting = shadow_of(&mut shadows, &block, 0b11);
            pinned += waiting[0].1;
            waiting.into_iter().map(|(event, _)| event)
        });
        let mut leaving = Leaving::none();
        let mut left = [0, 0];
        for step in 0..4 {
            let wanted = (order >> step & 1) as usize;
            // The other one when this one has run out.
            let from = if left[wanted] < 2 { wanted } else { 1 - wanted };
            leaving.let_go(queues[from].next().expect("two of each"));
            left[from] += 1;
            let gone = if left[1 - from] == 2 { 2 } else { 0 };
            assert_eq!(drops.load(Ordering::Relaxed), gone);
        }
        if order < 8 {
            assert_eq!(leaving.finish(), pinned as u64);
        } else {
            drop(leaving);
        }
        assert_eq!(drops.load(Ordering::Relaxed), 4);
    }
}

#[test]
fn events_of_a_shadow_that_nobody_wants_are_let_go() {
    let drops = AtomicUsize::new(0);
    let (mut source, mut shadows) = (BlockSource::new(), BlockSource::new());
    for taken in 0..=3 {
        let block = lay(&mut source, &["a", "b", "c"], &drops);
        let mut events = shadow(&mut shadows, block, 0b111, usize::MAX);
        for _ in 0..taken {
            drop(events.next());
        }
        assert!(events.weight() > 0, "also when it has gone");
        assert_eq!(events.next().is_some(), taken < 3);
        drop(events);
        assert_eq!(drops.load(Ordering::Relaxed), 3 * (taken + 1));
    }
}

#[test]
fn a_shadow_weighs_no_more_than_it_may() {
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(1, 1, 0);
    writer.push(table.envelope("a", None, None).unwrap(), (), usize::MAX);
    let block = writer.finish();
    for most in [usize::MAX, 1 << 40, 1] {
        let mut events = shadow(&mut source, block.clone(), 1, most);
        assert_eq!(events.weight(), most);
        assert_eq!(events.next().expect("one").take().freed, most);
    }
}

/// Memory that was a shadow's, of more events than are laid next, and the other way round.
#[test]
fn memory_of_shadows_is_used_again_and_says_nothing_of_before() {
    let drops = AtomicUsize::new(0);
    let (mut source, mut both) = (BlockSource::new(), BlockSource::new());
    let mut seen = Vec::new();
    let mut laid = 0;
    for round in 0..40_u64 {
        let topics = &["a", "b", "c", "d", "e"][..2 + round as usize % 4];
        let mask = (1 << topics.len()) - 1;
        laid += topics.len();
        if round % 3 == 2 {
            // As it never happens: normal events in memory that was a shadow's.
            let block = lay(&mut both, topics, &drops);
            assert!(block.events().iter().all(|event| event.superseded() == 0));
            drop(block);
            assert_eq!(drops.load(Ordering::Relaxed), laid);
            continue;
        }
        let block = lay(&mut source, topics, &drops);
        let waiting = shadow_of(&mut both, &block, mask);
        drop(block);
        for (at, (event, _)) in waiting.into_iter().enumerate() {
            let marked = (at as u64 + round).is_multiple_of(2);
            if marked {
                event.set_superseded(round + 1);
            }
            let taken = event.take();
            if !seen.contains(&taken.block.block) {
                seen.push(taken.block.block);
            }
            let expected = if marked { round + 1 } else { 0 };
            assert_eq!(taken.block.events()[at].superseded(), expected);
        }
        assert_eq!(drops.load(Ordering::Relaxed), laid);
    }
    assert_eq!(seen.len(), 1, "one block was enough");
}

#[test]
fn a_shadow_outlives_both_pools_and_its_envelopes_table() {
    let drops = AtomicUsize::new(0);
    let (mut source, mut shadows) = (BlockSource::new(), BlockSource::new());
    let block = lay(&mut source, &["a", "b"], &drops);
    let mut waiting = shadow_of(&mut shadows, &block, 0b11);
    drop((block, source, shadows));
    let (second, _) = waiting.pop().expect("two");
    let (first, _) = waiting.pop().expect("two");
    assert_eq!(first.let_go(), 0);
    let raw = second.into_raw();
    // SAFETY: from `into_raw`, once.
    let second = unsafe { Waiting::<Payload<'_>>::from_raw(raw) };
    let taken = second.take();
    let kept = taken.block.events()[1].share();
    drop(taken);
    assert_eq!((kept.topic().as_str(), kept.data().number), ("b", 1));
    thread::scope(|scope| {
        let again = kept.clone();
        scope.spawn(move || drop(again)).join().unwrap();
    });
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    drop(kept);
    assert_eq!(drops.load(Ordering::Relaxed), 2);
}

/// Whatever the index, an event is the same after its journey as a pointer.
#[test]
fn an_event_that_waits_fits_into_a_pointer() {
    let drops = AtomicUsize::new(0);
    let mut source = BlockSource::new();
    let block = lay(&mut source, &["a"; 64], &drops);
    for (index, (event, _)) in shadow_of(&mut BlockSource::new(), &block, u64::MAX)
        .into_iter()
        .enumerate()
    {
        let raw = event.into_raw();
        // SAFETY: from `into_raw`, once.
        let event = unsafe { Waiting::<Payload<'_>>::from_raw(raw) };
        assert_eq!(event.id(), 100 + index as u64);
        assert_eq!(event.take().mask, 1 << index);
    }
    assert_eq!(references(&block), 1);
}

#[test]
fn a_payload_whose_drop_panics_takes_no_shadow_along() {
    for armed in 0..3 {
        let drops = AtomicUsize::new(0);
        let (mut source, mut shadows) = (BlockSource::new(), BlockSource::new());
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
        let waiting = shadow_of(&mut shadows, &writer.finish(), 0b101);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(waiting))).is_ok());
        assert_eq!(drops.load(Ordering::Relaxed), 3);
        let block = lay(&mut source, &["b", "b", "b"], &drops);
        drop(shadow_of(&mut shadows, &block, 0b111));
        drop(block);
        assert_eq!(drops.load(Ordering::Relaxed), 6, "both are as good as new");
    }
}

/// The stamps of the events that are borrowed, and no others.
#[cfg(feature = "latency")]
#[test]
fn a_shadow_has_the_stamps_of_its_events() {
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(8, 1, 0);
    for number in 0..8 {
        writer.push(table.envelope("a", None, None).unwrap(), number, 0);
        if [1, 2, 5, 6].contains(&number) {
            writer.stamp(100 + number);
        }
    }
    let block = writer.finish();
    for (mask, stamped) in [
        (0b0110_1011, 0b1_1010),
        (0b1001_1001, 0),
        (0b0010_0000, 0b1),
    ] {
        let (event, _) = shadow_of(&mut source, &block, mask).pop().expect("some");
        let taken = event.take();
        assert_eq!(taken.block.stamps().mask(), stamped);
        for (at, event) in taken.block.events().iter().enumerate() {
            let expected = (stamped >> at & 1 == 1).then_some(100 + *event.data());
            assert_eq!(taken.block.stamps().at(at as u32), expected);
        }
    }
}

#[test]
fn a_shadow_of_nothing_large_and_of_what_is_aligned() {
    #[repr(align(128))]
    #[derive(Debug, PartialEq)]
    struct Aligned([u8; 300]);
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(2, 1, 0);
    for n in 0..2 {
        writer.push(
            table.envelope("a", None, None).unwrap(),
            Aligned([n; 300]),
            0,
        );
    }
    let block = writer.finish();
    for (at, (event, _)) in shadow_of(&mut source, &block, 0b11).into_iter().enumerate() {
        let taken = event.take();
        assert_eq!(*taken.block.events()[at].data(), Aligned([at as u8; 300]));
    }
    let mut source = BlockSource::new();
    let mut writer = source.block(2, 1, 0);
    for _ in 0..2 {
        writer.push(table.envelope("a", None, None).unwrap(), (), 0);
    }
    let block = writer.finish();
    for (at, (event, _)) in shadow_of(&mut source, &block, 0b11).into_iter().enumerate() {
        let taken = event.take();
        assert_eq!(taken.block.events()[at].share().id(), 1 + at as u64);
        taken.block.events()[at].data();
    }
}

/// One side takes and the other lets go: whoever is last frees it, and says so.
#[test]
fn stress_shadows() {
    const BLOCKS: usize = 20_000;
    let drops = AtomicUsize::new(0);
    let (mut source, mut shadows) = (BlockSource::new(), BlockSource::new());
    let (mut ring, mut consumer) = crate::ring::spsc::ring::<Waiting<Payload<'_>>>(256);
    thread::scope(|scope| {
        let drops = &drops;
        let reading = scope.spawn(move || {
            let mut freed = 0;
            while !consumer.is_finished() {
                let Some(event) = consumer.pop() else {
                    thread::yield_now();
                    continue;
                };
                consumer.release();
                let id = event.id();
                let taken = event.take();
                freed += taken.freed;
                let index = taken.mask.trailing_zeros() as usize;
                let event = &taken.block.events()[index];
                assert_eq!((event.id(), event.superseded()), (id, id));
                assert_eq!(event.data().number as u64, id - 100);
            }
            freed
        });
        let mut send_block = |mut item| {
            while let Err(back) = ring.push(item) {
                item = back;
                thread::yield_now();
            }
            ring.commit().expect("open");
        };
        let (mut freed, mut pinned) = (0, 0);
        let mut leaving = Leaving::none();
        for n in 0..BLOCKS {
            let topics = &["a", "b", "c", "d"][..1 + n % 4];
            let block = lay(&mut source, topics, drops);
            let events = shadow(&mut shadows, block, (1 << topics.len()) - 1, usize::MAX);
            pinned += events.weight();
            for (at, event) in events.enumerate() {
                event.set_superseded(event.id());
                match (n + at) % 6 {
                    0 => freed += event.let_go(),
                    3 | 4 => leaving.let_go(event),
                    _ => send_block(event),
                }
            }
        }
        freed += leaving.finish() as usize;
        drop(ring);
        assert_eq!(freed + reading.join().unwrap(), pinned);
    });
    let laid: usize = (0..BLOCKS).map(|n| 1 + n % 4).sum();
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
    sent::<Waiting<u8>>();
}
