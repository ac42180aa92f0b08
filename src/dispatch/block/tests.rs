use std::panic::{AssertUnwindSafe, catch_unwind};

use super::envelope::{Envelope, TABLE_BYTES_MAX, TABLE_ENVELOPE_BYTES_MAX};
use super::*;
use crate::sync::thread;

/// How often the long tests repeat what they do; Miri runs about a thousand times slower.
const REPEATS: usize = if cfg!(miri) { 30 } else { 20_000 };

/// Counts its drops, and panics in its drop if it is armed.
struct Payload {
    number: usize,
    drops: Arc<AtomicUsize>,
    armed: bool,
}

impl Payload {
    fn new(number: usize, drops: &Arc<AtomicUsize>) -> Self {
        Self {
            number,
            drops: drops.clone(),
            armed: false,
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
        assert!(!self.armed, "an armed payload panics");
    }
}

/// The bytes that a test payload is weighed at.
const WEIGHT: usize = 10;

/// A block with one event on each of these topics; the payload with the number `armed` panics.
fn fill(
    source: &mut BlockSource<Payload>,
    topics: &[&str],
    drops: &Arc<AtomicUsize>,
    armed: Option<usize>,
) -> BlockRef<Payload> {
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(topics.len(), 100, 5);
    for (number, topic) in topics.iter().enumerate() {
        let mut payload = Payload::new(number, drops);
        payload.armed = armed == Some(number);
        writer.push(envelope(&mut table, topic), payload, WEIGHT);
    }
    writer.finish()
}

fn envelope(table: &mut EnvelopeTable, topic: &str) -> EnvelopeRef {
    table.envelope(topic, None, None).unwrap()
}

#[test]
fn a_block_has_the_events_that_were_pushed() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut source = BlockSource::new();
    let block = fill(&mut source, &["a", "a", "b", "a", "c"], &drops, None);
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
    let class = CLASSES.iter().position(|&room| room == 8).unwrap();
    let envelopes: usize = block.groups().iter().map(|g| g.envelope.bytes()).sum();
    assert!(envelopes > 4 * size_of::<Envelope>());
    assert_eq!(
        block.weight(),
        Block::bytes(class, size_of::<Event<Payload>>()) + envelopes + 5 * WEIGHT
    );
}

#[test]
fn a_block_is_of_the_smallest_class_that_has_room() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut source = BlockSource::new();
    for (events, room) in [(1, 1), (2, 8), (8, 8), (9, 64), (64, 64)] {
        let topics = vec!["a"; events];
        let block = fill(&mut source, &topics, &drops, None);
        assert_eq!(CLASSES[block.block().class as usize], room);
        assert_eq!(block.events().len(), events);
        assert_eq!(block.groups().len(), 1);
        assert_eq!(block.groups()[0].mask, mask_of_first(events));
    }
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(1000, 1, 0);
    for number in 0..BLOCK_EVENTS_MAX {
        assert!(!writer.is_full());
        let payload = Payload::new(number, &drops);
        writer.push(envelope(&mut table, "a"), payload, 0);
    }
    assert!(writer.is_full());
}

/// The test runs on a thread whose stack has room for a quarter of a payload.
#[test]
fn a_block_of_large_payloads_is_allocated_in_place() {
    const LEN: usize = 1 << 20;
    let allocating = thread::Builder::new().stack_size(LEN / 4).spawn(|| {
        let mut source = BlockSource::<[u8; LEN]>::new();
        for events in CLASSES {
            assert!(!source.block(events, 1, 0).is_full());
        }
    });
    allocating.unwrap().join().unwrap();
}

/// The payload is moved from the caller into the block. The stack has room for it, for the copies
/// that a build without optimisation makes of it, and for no more.
#[test]
fn a_large_payload_is_pushed_in_place() {
    const LEN: usize = if cfg!(miri) { 1 << 10 } else { 1 << 18 };
    let pushing = thread::Builder::new().stack_size(8 * LEN).spawn(|| {
        let mut source = BlockSource::<[u8; LEN]>::new();
        let mut table = EnvelopeTable::new();
        let mut writer = source.block(2, 1, 0);
        for n in 1..=2 {
            writer.push(envelope(&mut table, "a"), [n; LEN], LEN);
        }
        let block = writer.finish();
        let ends = |event: &Event<[u8; LEN]>| (event.data()[0], event.data()[LEN - 1]);
        assert_eq!(ends(&block.events()[0]), (1, 1));
        assert_eq!(ends(&block.events()[1]), (2, 2));
        let mut shadows = RawSource::like(&block);
        let mut events = shadow(&mut shadows, block.into_any(), 0b10, usize::MAX);
        let taken = events.next().expect("one event").take();
        assert_eq!(ends(&taken.block.events::<[u8; LEN]>()[0]), (2, 2));
    });
    pushing.unwrap().join().unwrap();
}

#[test]
fn the_sum_of_weights_saturates() {
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(3, 1, 0);
    for _ in 0..3 {
        writer.push(envelope(&mut table, "a"), (), usize::MAX);
    }
    assert_eq!(writer.finish().weight(), usize::MAX);
}

#[test]
fn payloads_are_dropped_with_the_last_reference() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut source = BlockSource::new();
    let block = fill(&mut source, &["a", "b"], &drops, None);
    let mut refs = block.ref_batch(2);
    // One more than was counted at once.
    let taken = [refs.take(), refs.take(), refs.take()];
    drop(refs);
    let unused = block.ref_batch(5);
    drop(unused);
    let kept = block.events()[1].share();
    drop((block, taken));
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    assert_eq!((kept.id(), kept.data().number), (101, 1));
    let again = kept.clone();
    drop((kept, source));
    assert_eq!(
        drops.load(Ordering::Relaxed),
        0,
        "the source does not own what it handed out"
    );
    thread::scope(|scope| {
        scope.spawn(move || drop(again)).join().unwrap();
    });
    assert_eq!(drops.load(Ordering::Relaxed), 2);
}

#[test]
fn memory_is_reused_and_payloads_are_not_kept_until_then() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut source = BlockSource::new();
    let mut seen = Vec::new();
    for round in 0..10 {
        let block = fill(&mut source, &["a"], &drops, None);
        if !seen.contains(&block.block.block) {
            seen.push(block.block.block);
        }
        drop(block);
        assert_eq!(drops.load(Ordering::Relaxed), round + 1);
    }
    assert_eq!(seen.len(), 1, "one block was enough");
}

#[test]
fn free_memory_is_used_before_more_is_allocated() {
    const BLOCKS: usize = if REPEATS < 1000 { REPEATS } else { 1000 };
    let drops = Arc::new(AtomicUsize::new(0));
    let mut source = BlockSource::new();
    let blocks: Vec<_> = (0..BLOCKS)
        .map(|_| fill(&mut source, &["a"], &drops, None))
        .collect();
    let addresses: Vec<_> = blocks.iter().map(|block| block.block.block).collect();
    drop(blocks);
    assert_eq!(drops.load(Ordering::Relaxed), BLOCKS);
    let blocks: Vec<_> = (0..BLOCKS)
        .map(|_| fill(&mut source, &["a"], &drops, None))
        .collect();
    let reused = blocks
        .iter()
        .filter(|block| addresses.contains(&block.block.block));
    assert_eq!(reused.count(), BLOCKS, "the pool keeps that many");
}

#[test]
fn a_writer_that_is_dropped_drops_what_was_pushed() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let held = envelope(&mut table, "a");
    let before = held.references();
    let mut writer = source.block(8, 1, 0);
    for number in 0..3 {
        let payload = Payload::new(number, &drops);
        writer.push(envelope(&mut table, "a"), payload, 0);
    }
    drop(writer);
    assert_eq!(drops.load(Ordering::Relaxed), 3);
    drop(table);
    assert!(before >= 1);
    assert_eq!(held.references(), 1, "only the one held here is left");
}

#[test]
fn a_payload_whose_drop_panics_does_no_harm() {
    for armed in 0..3 {
        let drops = Arc::new(AtomicUsize::new(0));
        let mut source = BlockSource::new();
        let block = fill(&mut source, &["a", "a", "a"], &drops, Some(armed));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(block))).is_ok());
        assert_eq!(drops.load(Ordering::Relaxed), 3);
        drop(fill(&mut source, &["b", "b", "b"], &drops, None));
        assert_eq!(drops.load(Ordering::Relaxed), 6, "the memory was reused");
    }
}

#[test]
fn an_envelope_counts_its_references() {
    let mut table = EnvelopeTable::new();
    let first = table.envelope("a", Some("name"), Some("source")).unwrap();
    assert_eq!(first.topic().as_str(), "a");
    assert_eq!(
        (first.name(), first.source()),
        (Some("name"), Some("source"))
    );
    // Enough events that the table takes more references again and again.
    let count = REPEATS / 4;
    let more: Vec<_> = (0..count)
        .map(|_| table.envelope("a", Some("name"), Some("source")).unwrap())
        .collect();
    assert!(more.iter().all(|other| *other == first));
    assert!(first.references() > count + 1, "those in stock count, too");
    drop(more);
    drop(table);
    assert_eq!(first.references(), 1);
}

#[test]
fn topic_name_and_source_identify_an_envelope() {
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
fn an_envelope_that_was_replaced_lives_as_long_as_its_references() {
    let mut table = EnvelopeTable::new();
    let held = envelope(&mut table, "held");
    for n in 0..4 * REPEATS {
        drop(envelope(&mut table, &format!("other.{n}")));
    }
    assert_eq!(held.references(), 1, "the table has replaced it");
    assert_eq!(held.topic().as_str(), "held");
    let again = envelope(&mut table, "held");
    assert!(again != held);
}

#[test]
fn a_block_releases_the_envelopes_of_all_its_events() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let [a, b] = ["a", "b"].map(|topic| envelope(&mut table, topic));
    let mut writer = source.block(64, 1, 0);
    for number in 0..64 {
        let topic = if number % 5 == 0 { "b" } else { "a" };
        let payload = Payload::new(number, &drops);
        writer.push(envelope(&mut table, topic), payload, 0);
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

/// Many threads release blocks while the source reuses their memory.
#[test]
fn stress_blocks() {
    const READERS: usize = 3;
    let drops = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        let (drops, mut source) = (&drops, BlockSource::new());
        let (mut rings, mut readers) = (Vec::new(), Vec::new());
        for _ in 0..READERS {
            let (producer, mut consumer) = crate::ring::spsc::ring::<BlockRef<Payload>>(8);
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
        for n in 0..REPEATS {
            let block = fill(&mut source, &["a", "b", "b"][..1 + n % 3], drops, None);
            let mut refs = block.ref_batch(READERS);
            for ring in &mut rings {
                let mut item = refs.take().typed();
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
            let expected: usize = (0..REPEATS).map(|n| [0, 1, 3][n % 3]).sum();
            assert_eq!(reader.join().unwrap(), expected);
        }
    });
    let pushed: usize = (0..REPEATS).map(|n| 1 + n % 3).sum();
    assert_eq!(drops.load(Ordering::Relaxed), pushed);
}

// ---- shadows ------------------------------------------------------------------------------------

/// The events of a shadow, each with the weight of the shadow.
fn shadow_of<T>(
    source: &mut BlockSource<T>,
    block: &BlockRef<T>,
    mask: u64,
) -> Vec<(ShadowEvent, usize)> {
    let events = shadow(&mut source.raw, block.clone().into_any(), mask, usize::MAX);
    let weight = events.weight();
    events.map(|event| (event, weight)).collect()
}

fn references<T>(block: &BlockRef<T>) -> usize {
    block.block().references.load(Ordering::Relaxed)
}

#[test]
fn a_shadow_shows_the_events_that_it_borrows() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(64, 100, 5_000_000_000);
    for number in 0..64 {
        let name = ["even", "odd"][number % 2];
        let envelope = table.envelope(&format!("t.{number}"), Some(name), Some("here"));
        writer.push(envelope.unwrap(), Payload::new(number, &drops), WEIGHT);
    }
    let block = writer.finish();
    let mut shadows = BlockSource::new();
    for mask in [1, 1 << 63, 0b1010_0110, u64::MAX] {
        let events = shadow_of(&mut shadows, &block, mask);
        assert_eq!(references(&block), 2, "one for the whole shadow");
        let mut numbers = (0..64_usize).filter(|number| mask & 1 << number != 0);
        let class = CLASSES.iter().position(|&room| events.len() <= room);
        let own = Block::bytes(class.unwrap(), size_of::<Event<Payload>>());
        for (at, (event, weight)) in events.into_iter().enumerate() {
            assert_eq!(weight, own + block.weight());
            let number = numbers.next().expect("as many as there are bits");
            assert_eq!(event.id(), 100 + number as u64);
            event.set_superseded(3 * at as u64 + u64::from(u32::MAX));
            let taken = event.take();
            assert_eq!(taken.mask, 1 << at);
            assert_eq!(taken.freed == 0, numbers.clone().next().is_some());
            assert!([0, weight].contains(&taken.freed));
            let event = &taken.block.events::<Payload>()[at];
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
            assert_eq!(original.superseded(), 0, "the original has no such number");
            let text = |event: &Event<Payload>| {
                (
                    event.data().number,
                    event.share().id(),
                    event.share().share().id(),
                )
            };
            assert_eq!(text(event), text(original));
        }
        assert_eq!(references(&block), 1, "released with the last event");
    }
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    drop(block);
    assert_eq!(drops.load(Ordering::Relaxed), 64);
}

/// The events are taken, released or dropped, in every order. The last one returns what was freed,
/// and the shadow is freed.
#[test]
fn the_last_event_of_a_shadow_releases_it() {
    const ORDERS: [[usize; 3]; 6] = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for order in ORDERS {
        for ways in (0..27_usize).step_by(if cfg!(miri) { 5 } else { 1 }) {
            let drops = Arc::new(AtomicUsize::new(0));
            let mut source = BlockSource::new();
            let block = fill(&mut source, &["a", "b", "c"], &drops, None);
            let mut shadows = BlockSource::new();
            let events = shadow_of(&mut shadows, &block, 0b111);
            let weight = events[0].1;
            let mut events: Vec<_> = events.into_iter().map(|(event, _)| Some(event)).collect();
            drop(block);
            let mut kept = Vec::new();
            for (step, &index) in order.iter().enumerate() {
                let event = events[index].take().expect("each once");
                let freed = match ways / 3_usize.pow(step as u32) % 3 {
                    0 => event.release(),
                    1 => {
                        let taken = event.take();
                        kept.push((taken.block.events::<Payload>()[index].share(), index));
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

/// The events of two shadows are added in every order. A shadow is freed when all its events were
/// added and an event of the other shadow follows, and not before; or when the batch is finished or
/// dropped.
#[test]
fn neighbours_are_released_together() {
    for order in 0..1_u32 << 4 {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut source, mut shadows) = (BlockSource::new(), BlockSource::new());
        let mut pinned = 0;
        let mut queues = [["a", "b"], ["c", "d"]].map(|topics| {
            let block = fill(&mut source, &topics, &drops, None);
            let events = shadow_of(&mut shadows, &block, 0b11);
            pinned += events[0].1;
            events.into_iter().map(|(event, _)| event)
        });
        let mut batch = ReleaseBatch::new();
        let mut added = [0, 0];
        for step in 0..4 {
            let wanted = (order >> step & 1) as usize;
            // From the other shadow if this one has no event left.
            let from = if added[wanted] < 2 {
                wanted
            } else {
                1 - wanted
            };
            batch.add(queues[from].next().expect("two of each"));
            added[from] += 1;
            let dropped = if added[1 - from] == 2 { 2 } else { 0 };
            assert_eq!(drops.load(Ordering::Relaxed), dropped);
        }
        if order < 8 {
            assert_eq!(batch.finish(), pinned as u64);
        } else {
            drop(batch);
        }
        assert_eq!(drops.load(Ordering::Relaxed), 4);
    }
}

#[test]
fn events_of_a_shadow_that_are_not_used_are_released() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut source = BlockSource::new();
    let mut shadows = BlockSource::<Payload>::new().raw;
    for used in 0..=3 {
        let block = fill(&mut source, &["a", "b", "c"], &drops, None);
        let mut events = shadow(&mut shadows, block.into_any(), 0b111, usize::MAX);
        for _ in 0..used {
            drop(events.next());
        }
        assert!(events.weight() > 0, "also when the shadow is freed");
        assert_eq!(events.next().is_some(), used < 3);
        drop(events);
        assert_eq!(drops.load(Ordering::Relaxed), 3 * (used + 1));
    }
}

#[test]
fn the_weight_of_a_shadow_is_bounded() {
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(1, 1, 0);
    writer.push(envelope(&mut table, "a"), (), usize::MAX);
    let block = writer.finish();
    for most in [usize::MAX, 1 << 40, 1] {
        let mut events = shadow(&mut source.raw, block.clone().into_any(), 1, most);
        assert_eq!(events.weight(), most);
        assert_eq!(events.next().expect("one").take().freed, most);
    }
}

/// The memory is reused for more and for fewer events than before; before, it was a shadow or not.
#[test]
fn memory_of_shadows_is_reused_and_keeps_nothing_of_before() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (mut source, mut both) = (BlockSource::new(), BlockSource::new());
    let mut seen = Vec::new();
    let mut pushed = 0;
    for round in 0..REPEATS.min(40) as u64 {
        let topics = &["a", "b", "c", "d", "e"][..2 + round as usize % 4];
        let mask = (1 << topics.len()) - 1;
        pushed += topics.len();
        if round % 3 == 2 {
            // No feed does this: it puts events with payloads into memory that was a shadow.
            let block = fill(&mut both, topics, &drops, None);
            assert!(block.events().iter().all(|event| event.superseded() == 0));
            drop(block);
            assert_eq!(drops.load(Ordering::Relaxed), pushed);
            continue;
        }
        let block = fill(&mut source, topics, &drops, None);
        let events = shadow_of(&mut both, &block, mask);
        drop(block);
        for (at, (event, _)) in events.into_iter().enumerate() {
            let marked = (at as u64 + round).is_multiple_of(2);
            if marked {
                event.set_superseded(round + 1);
            }
            let taken = event.take();
            if !seen.contains(&taken.block.block) {
                seen.push(taken.block.block);
            }
            let expected = if marked { round + 1 } else { 0 };
            assert_eq!(taken.block.events::<Payload>()[at].superseded(), expected);
        }
        assert_eq!(drops.load(Ordering::Relaxed), pushed);
    }
    assert_eq!(seen.len(), 1, "one block was enough");
}

#[test]
fn a_shadow_outlives_both_pools_and_the_table_of_its_envelopes() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (mut source, mut shadows) = (BlockSource::new(), BlockSource::new());
    let block = fill(&mut source, &["a", "b"], &drops, None);
    let mut events = shadow_of(&mut shadows, &block, 0b11);
    drop((block, source, shadows));
    let (second, _) = events.pop().expect("two");
    let (first, _) = events.pop().expect("two");
    assert_eq!(first.release(), 0);
    let raw = second.into_raw();
    // SAFETY: from `into_raw`, and turned back once.
    let second = unsafe { ShadowEvent::from_raw(raw) };
    let taken = second.take();
    let kept = taken.block.events::<Payload>()[1].share();
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

/// An event with any index is the same after it was turned into a pointer and back.
#[test]
fn an_event_of_a_shadow_fits_into_a_pointer() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut source = BlockSource::new();
    let block = fill(&mut source, &["a"; 64], &drops, None);
    for (index, (event, _)) in shadow_of(&mut BlockSource::new(), &block, u64::MAX)
        .into_iter()
        .enumerate()
    {
        let raw = event.into_raw();
        // SAFETY: from `into_raw`, and turned back once.
        let event = unsafe { ShadowEvent::from_raw(raw) };
        assert_eq!(event.id(), 100 + index as u64);
        assert_eq!(event.take().mask, 1 << index);
    }
    assert_eq!(references(&block), 1);
}

#[test]
fn a_payload_whose_drop_panics_does_no_harm_to_a_shadow() {
    for armed in 0..3 {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut source, mut shadows) = (BlockSource::new(), BlockSource::new());
        let block = fill(&mut source, &["a", "a", "a"], &drops, Some(armed));
        let events = shadow_of(&mut shadows, &block, 0b101);
        drop(block);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(events))).is_ok());
        assert_eq!(drops.load(Ordering::Relaxed), 3);
        let block = fill(&mut source, &["b", "b", "b"], &drops, None);
        drop(shadow_of(&mut shadows, &block, 0b111));
        drop(block);
        assert_eq!(drops.load(Ordering::Relaxed), 6, "both were reused");
    }
}

/// A shadow has the stamps of the events that it borrows, and no others.
#[cfg(feature = "latency")]
#[test]
fn a_shadow_has_the_stamps_of_its_events() {
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(8, 1, 0);
    for number in 0..8 {
        writer.push(envelope(&mut table, "a"), number, 0);
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
        for (at, event) in taken.block.events::<u64>().iter().enumerate() {
            let expected = (stamped >> at & 1 == 1).then_some(100 + *event.data());
            assert_eq!(taken.block.stamps().at(at as u32), expected);
        }
    }
}

#[test]
fn payloads_may_be_large_aligned_or_empty() {
    #[repr(align(128))]
    #[derive(Debug, PartialEq)]
    struct Aligned([u8; 300]);
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(2, 1, 0);
    for n in 0..2 {
        writer.push(envelope(&mut table, "a"), Aligned([n; 300]), 0);
    }
    let block = writer.finish();
    for (at, (event, _)) in shadow_of(&mut source, &block, 0b11).into_iter().enumerate() {
        let taken = event.take();
        assert_eq!(
            *taken.block.events::<Aligned>()[at].data(),
            Aligned([at as u8; 300])
        );
    }
    let mut source = BlockSource::new();
    let mut writer = source.block(2, 1, 0);
    for _ in 0..2 {
        writer.push(envelope(&mut table, "a"), (), 0);
    }
    let block = writer.finish();
    for (at, (event, _)) in shadow_of(&mut source, &block, 0b11).into_iter().enumerate() {
        let taken = event.take();
        assert_eq!(taken.block.events::<()>()[at].share().id(), 1 + at as u64);
        taken.block.events::<()>()[at].data();
    }
}

/// One thread takes events and another releases some: the last of them frees the shadow, and says
/// so.
#[test]
fn stress_shadows() {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut source = BlockSource::new();
    let mut shadows = BlockSource::<Payload>::new().raw;
    let (mut ring, mut consumer) = crate::ring::spsc::ring::<ShadowEvent>(256);
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
                let event = &taken.block.events::<Payload>()[index];
                assert_eq!((event.id(), event.superseded()), (id, id));
                assert_eq!(event.data().number as u64, id - 100);
            }
            freed
        });
        let mut send = |mut item| {
            while let Err(back) = ring.push(item) {
                item = back;
                thread::yield_now();
            }
            ring.commit().expect("open");
        };
        let (mut freed, mut pinned) = (0, 0);
        let mut batch = ReleaseBatch::new();
        for n in 0..REPEATS {
            let topics = &["a", "b", "c", "d"][..1 + n % 4];
            let block = fill(&mut source, topics, drops, None);
            let mask = mask_of_first(topics.len());
            let events = shadow(&mut shadows, block.into_any(), mask, usize::MAX);
            pinned += events.weight();
            for (at, event) in events.enumerate() {
                event.set_superseded(event.id());
                match (n + at) % 6 {
                    0 => freed += event.release(),
                    3 | 4 => batch.add(event),
                    _ => send(event),
                }
            }
        }
        freed += batch.finish() as usize;
        drop(ring);
        assert_eq!(freed + reading.join().unwrap(), pinned);
    });
    let pushed: usize = (0..REPEATS).map(|n| 1 + n % 4).sum();
    assert_eq!(drops.load(Ordering::Relaxed), pushed);
}

#[test]
fn what_refers_to_a_block_can_be_shared_and_sent_if_the_payload_can() {
    fn shared<T: Send + Sync>() {}
    shared::<BlockRef<u8>>();
    shared::<Event<u8>>();
    shared::<SharedEvent<u8>>();
    fn sent<T: Send>() {}
    sent::<BlockSource<u8>>();
    sent::<ShadowEvent>();
    fn unpin<T: Unpin>() {}
    unpin::<SharedEvent<std::marker::PhantomPinned>>();
}

/// Code that is not generic hands out blocks of any type; they are never read as another type.
#[test]
fn a_block_is_not_read_as_one_of_another_type() {
    let mut source = BlockSource::new();
    let mut table = EnvelopeTable::new();
    let mut writer = source.block(1, 1, 0);
    writer.push(envelope(&mut table, "a"), 7_u64, 0);
    let block = writer.finish().into_any();
    assert_eq!(*block.events::<u64>()[0].data(), 7);
    let typed = || block.clone().typed::<i64>();
    assert!(catch_unwind(AssertUnwindSafe(|| typed().events().len())).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| block.events::<i64>().len())).is_err());
    let mut others = BlockSource::<i64>::new().raw;
    let other = || shadow(&mut others, block.clone(), 1, usize::MAX).weight();
    assert!(catch_unwind(AssertUnwindSafe(other)).is_err());
    assert_eq!(*block.typed::<u64>().events()[0].data(), 7);
}

/// A table holds many short envelopes, few long ones, and no very long one.
#[test]
fn a_table_of_envelopes_is_bounded_in_bytes() {
    let mut table = EnvelopeTable::new();
    let name = "n".repeat(1000);
    for n in 0..if cfg!(miri) { 20 } else { 5000 } {
        let envelope = table.envelope(&format!("topic.{n}"), Some(&name), None);
        assert!(envelope.unwrap().bytes() > 1000);
        assert_eq!(table.bytes(), table.bytes_counted());
        assert!(table.bytes() <= TABLE_BYTES_MAX);
    }
    assert!(table.bytes() > 1000, "it keeps some");
    let before = table.bytes();
    let long = "n".repeat(TABLE_ENVELOPE_BYTES_MAX);
    let envelope = table.envelope("topic.0", Some(&long), None).unwrap();
    assert_eq!((table.bytes(), envelope.references()), (before, 1));
}
