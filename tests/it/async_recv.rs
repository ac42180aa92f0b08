//! Receiving in tasks: on any runtime, without a loss when a future is dropped, and with one
//! wake-up per round.

use fanout::{
    Bus, Dispatch, Ending, Event, EventStream, Gap, Overflow, RecvError, SharedEvent, Subscriber,
};
use futures_core::stream::{FusedStream, Stream};
use smol::stream::StreamExt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use crate::support::{
    FOR_EVER, MODES, StreamItem, bus, ends, eventually, ids, in_every_mode_and_shards, manual,
    panics_quietly, publish_each, read_out, read_to_end,
};
use crate::tasks::{RUNTIMES, Runtime, Task, Wakes, block_on, now_or_never, poll};

// ---- runtimes -----------------------------------------------------------------------------------

/// The number of events that a reader received, the number that it lost, and its ending.
type Count = (u64, u64, Ending);

async fn count_one_by_one(mut sub: Subscriber<u64>) -> Count {
    let (mut received, mut lost) = (0, 0);
    loop {
        match sub.recv_async().await {
            Ok(_) => received += 1,
            Err(RecvError::Lost(gap)) => lost += gap.count(),
            Err(ending) => return (received, lost, as_ending(ending)),
        }
    }
}

async fn count_by_batch(mut sub: Subscriber<u64>) -> Count {
    let (mut received, mut lost) = (0, 0);
    loop {
        match sub.next_batch_async().await {
            Ok(batch) => received += batch.len() as u64,
            Err(RecvError::Lost(gap)) => lost += gap.count(),
            Err(ending) => return (received, lost, as_ending(ending)),
        }
    }
}

async fn count_stream(sub: Subscriber<u64>) -> Count {
    let mut stream = sub.into_stream();
    let (mut received, mut lost) = (0, 0);
    while let Some(item) = stream.next().await {
        match item {
            Ok(_) => received += 1,
            Err(gap) => lost += gap.count(),
        }
    }
    (received, lost, stream.ending().expect("it ended"))
}

async fn count_batch_stream(sub: Subscriber<u64>) -> Count {
    let mut stream = sub.into_batch_stream();
    let (mut received, mut lost) = (0, 0);
    while let Some(item) = stream.next().await {
        match item {
            Ok(batch) => received += batch.len() as u64,
            Err(gap) => lost += gap.count(),
        }
    }
    (received, lost, stream.ending().expect("it ended"))
}

fn as_ending(error: RecvError) -> Ending {
    match error {
        RecvError::Closed => Ending::Closed,
        RecvError::Cancelled => Ending::Cancelled,
        RecvError::Broken => Ending::Broken,
        other => panic!("{other} is no ending"),
    }
}

#[test]
fn tasks_receive_on_any_runtime() {
    const EVENTS: u64 = 5_000;
    for runtime in RUNTIMES {
        for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
            ends(&format!("{runtime:?}, {mode:?}"), move || {
                let bus = bus(|b| b.dispatch(mode).lane_capacity(64));
                let open = |overflow| {
                    let sub = bus.subscription("a").capacity(16).overflow(overflow);
                    sub.open().expect("open")
                };
                let all: Vec<Task<Count>> = vec![
                    Box::pin(count_one_by_one(open(Overflow::Block))),
                    Box::pin(count_by_batch(open(Overflow::Block))),
                    Box::pin(count_stream(open(Overflow::Block))),
                    Box::pin(count_batch_stream(open(Overflow::Block))),
                ];
                let some: Vec<Task<Count>> = vec![
                    Box::pin(count_one_by_one(open(Overflow::DropNewest))),
                    Box::pin(count_by_batch(open(Overflow::DropNewest))),
                    Box::pin(count_stream(open(Overflow::DropNewest))),
                    Box::pin(count_batch_stream(open(Overflow::DropNewest))),
                ];
                let publishing = thread::spawn(move || {
                    publish_each(&bus, 0..EVENTS);
                });
                let counts = runtime.run(all.into_iter().chain(some).collect());
                publishing.join().expect("published");
                for count in &counts[..4] {
                    assert_eq!(*count, (EVENTS, 0, Ending::Closed));
                }
                for (received, lost, ending) in &counts[4..] {
                    assert_eq!((received + lost, *ending), (EVENTS, Ending::Closed));
                }
            });
        }
    }
}

/// A subscriber is polled by one task, moved to a task of another runtime, and then used by a
/// thread that blocks.
#[test]
fn a_subscriber_moves_between_runtimes_and_threads() {
    ends("moving", || {
        let bus = bus::<u64>(|b| b);
        let mut sub = bus.subscribe("a").expect("open");
        for round in 0..20 {
            for runtime in RUNTIMES {
                let publishing = thread::spawn({
                    let bus = bus.clone();
                    move || bus.publish("a", round).expect("open")
                });
                let task: Task<Subscriber<u64>> = Box::pin(async move {
                    assert_eq!(sub.recv_async().await.map(|e| *e.data()), Ok(round));
                    sub
                });
                sub = runtime.run(vec![task]).pop().expect("one task");
                publishing.join().expect("published");
            }
            // The waker of an unfinished wait must not be woken any more.
            assert!(now_or_never(sub.recv_async()).is_none());
            let publishing = thread::spawn({
                let bus = bus.clone();
                move || bus.publish("a", round).expect("open")
            });
            assert_eq!(sub.recv().map(|e| *e.data()), Ok(round));
            publishing.join().expect("published");
        }
    });
}

// ---- dropped futures ----------------------------------------------------------------------------

/// A future may be dropped at any time: before its first poll, while it waits, and after it was
/// woken. No event is taken, and all counters are exact each time.
#[test]
fn a_future_that_is_dropped_has_taken_nothing() {
    let bus = manual();
    let mut sub = bus.subscription("a").capacity(2).open().expect("open");
    let (wakes, waker) = Wakes::new();
    let accounts = |sub: &Subscriber<u32>| {
        let stats = sub.stats();
        assert_eq!(stats.received + stats.lost + stats.unread, stats.matched);
        (stats.received, stats.lost, stats.unread)
    };

    drop(sub.recv_async());
    drop(sub.next_batch_async());
    publish_each(&bus, 1..=5);
    drop(sub.recv_async());

    let mut waiting = sub.recv_async();
    assert!(poll(&mut waiting, &waker).is_pending());
    bus.drive();
    assert_eq!(wakes.count(), 1);
    drop(waiting); // woken, and never polled again
    assert_eq!(accounts(&sub), (0, 3, 2));
    let mut waiting = sub.next_batch_async();
    assert!(matches!(poll(&mut waiting, &waker), Poll::Ready(Ok(batch)) if batch.len() == 2));
    drop(waiting);
    assert_eq!(accounts(&sub), (2, 3, 0));

    drop(sub.recv_async()); // before the gap, which is available
    let seen = now_or_never(sub.recv_async()).expect("there").unwrap_err();
    assert!(matches!(seen, RecvError::Lost(gap)
            if (gap.first_id(), gap.last_id(), gap.count()) == (3, 5, 3)));

    // The future is woken by a gap only, and then dropped while the gap is available.
    publish_each(&bus, 6..=9);
    bus.drive();
    assert_eq!(
        now_or_never(sub.recv_async())
            .expect("there")
            .map(Event::id),
        Ok(6)
    );
    drop(sub.recv_async());
    drop(sub.next_batch_async());
    assert_eq!(accounts(&sub), (3, 5, 1));
    assert_eq!(
        now_or_never(sub.recv_async())
            .expect("there")
            .map(Event::id),
        Ok(7)
    );
    assert!(
        matches!(now_or_never(sub.recv_async()), Some(Err(RecvError::Lost(gap)))
            if gap.count() == 2)
    );

    // The future is dropped while the end is available.
    let mut waiting = sub.recv_async();
    assert!(poll(&mut waiting, &waker).is_pending());
    bus.close();
    assert_eq!(wakes.count(), 2);
    drop(waiting);
    assert_eq!(sub.recv().err(), Some(RecvError::Closed));
    assert_eq!(accounts(&sub), (4, 5, 0));
}

/// A future, a stream and a subscriber that were dropped keep no waker and wake no task.
#[test]
fn a_task_that_no_longer_waits_is_not_woken() {
    for mode in MODES {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        let handle = sub.handle();
        let (wakes, waker) = Wakes::new();
        let owners = || Arc::strong_count(&wakes);

        let mut waiting = sub.recv_async();
        assert!(poll(&mut waiting, &waker).is_pending());
        assert_eq!(owners(), 3, "it waits");
        drop(waiting);
        assert_eq!(owners(), 2);

        let mut stream = sub.into_stream();
        assert!(poll(&mut stream.next(), &waker).is_pending());
        assert_eq!(owners(), 3, "a stream waits between two polls");
        let sub = stream.into_inner();
        assert_eq!(owners(), 2);

        let mut stream = sub.into_batch_stream();
        assert!(poll(&mut stream.next(), &waker).is_pending());
        drop(stream);
        assert_eq!(owners(), 2);
        bus.publish("a", 1).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        assert!(!handle.cancel(), "the subscriber was dropped");
        assert_eq!((owners(), wakes.count()), (2, 0));
    }
}

// ---- wakes --------------------------------------------------------------------------------------

#[test]
fn only_the_last_waker_is_woken() {
    for mode in MODES {
        ends(&format!("{mode:?}"), move || {
            let bus = bus(|b| b.dispatch(mode));
            let mut sub = bus.subscribe("a").expect("open");
            let ((first, a), (second, b)) = (Wakes::new(), Wakes::new());
            let mut waiting = sub.recv_async();
            assert!(poll(&mut waiting, &a).is_pending());
            assert!(poll(&mut waiting, &b).is_pending());
            assert_eq!(Arc::strong_count(&first), 2, "the first one is forgotten");
            bus.publish("a", 1).expect("open");
            assert!(bus.flush_within(FOR_EVER));
            eventually("it is woken", || second.count() == 1);
            assert!(poll(&mut waiting, &b).is_ready());
            drop(waiting);
            // A thread that waits now has registered last.
            assert!(poll(&mut sub.recv_async(), &b).is_pending());
            let publishing = thread::spawn({
                let bus = bus.clone();
                move || {
                    bus.publish("a", 2).expect("open");
                    bus.drive();
                }
            });
            assert_eq!(sub.recv().map(Event::id), Ok(2));
            publishing.join().expect("published");
            assert_eq!((first.count(), second.count()), (0, 1));
        });
    }
}

/// A waker that receives all available events inside the wake-up, and so waits again at once.
/// (There must be fewer than 128 events: a waker that the poll itself calls would find its stream
/// in use.)
struct ReadsWhenWoken {
    stream: Mutex<Option<EventStream<u32>>>,
    wakes: AtomicUsize,
    seen: Mutex<Vec<StreamItem>>,
}

impl ReadsWhenWoken {
    fn start(sub: Subscriber<u32>) -> Arc<ReadsWhenWoken> {
        let task = Arc::new(ReadsWhenWoken {
            stream: Mutex::new(Some(sub.into_stream())),
            wakes: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        task.read();
        task
    }

    fn read(self: &Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut stream = self.stream.lock().expect("no panic");
        let stream = stream.as_mut().expect("it has not ended");
        while let Poll::Ready(Some(item)) = poll(&mut stream.next(), &waker) {
            let seen = match item {
                Ok(event) => StreamItem::Id(event.id()),
                Err(gap) => StreamItem::Lost(gap),
            };
            self.seen.lock().expect("no panic").push(seen);
        }
    }

    /// Takes the stream, and with it the waker that keeps this value alive.
    fn stop(&self) {
        self.stream.lock().expect("no panic").take();
    }
}

impl Wake for ReadsWhenWoken {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        self.read();
    }
}

/// A waker that waits again inside the wake-up would be woken for every push if the shard did not
/// wake at the end of its round.
#[test]
fn a_round_wakes_a_task_once() {
    let bus = manual();
    let burst = |n| publish_each(&bus, 0..n);
    let all = ReadsWhenWoken::start(bus.subscribe("a").expect("open"));
    let few = ReadsWhenWoken::start(bus.subscription("a").capacity(3).open().expect("open"));
    let (wakes, waker) = Wakes::new();
    let mut sub = bus.subscribe("a").expect("open");
    let mut waiting = sub.next_batch_async();
    assert!(poll(&mut waiting, &waker).is_pending());

    burst(64);
    bus.drive();
    assert_eq!(wakes.count(), 1);
    assert_eq!(all.wakes.load(Ordering::SeqCst), 1, "for 64 events");
    assert_eq!(
        few.wakes.load(Ordering::SeqCst),
        1,
        "for events and the gap behind"
    );
    burst(120); // in two blocks, and one round
    bus.drive();
    assert_eq!(wakes.count(), 1, "it has not requested another wake-up");
    assert_eq!(all.wakes.load(Ordering::SeqCst), 2);

    let seen = all.seen.lock().expect("no panic");
    assert_eq!(*seen, (1..=184).map(StreamItem::Id).collect::<Vec<_>>());
    let seen = few.seen.lock().expect("no panic");
    use StreamItem::{Id, Lost};
    assert!(matches!(seen[..4], [Id(1), Id(2), Id(3), Lost(gap)]
            if gap.count() == 61));
    all.stop();
    few.stop();
}

/// The subscription is cancelled, or the bus closes or breaks, while a task waits: the task is
/// woken, and every receive returns the same error.
#[test]
fn every_end_wakes_a_task_that_waits() {
    type End = (Ending, fn(&Bus<u32>, &Subscriber<u32>));
    let weigher = |data: &u32| {
        if *data == 13 {
            panics_quietly();
        }
        4
    };
    let end_by: [End; 3] = [
        (Ending::Cancelled, |_, sub| {
            sub.handle().cancel();
        }),
        (Ending::Closed, |bus, _| bus.close()),
        (Ending::Broken, |bus, _| {
            let _ = bus.publish("a", 13);
            bus.drive();
        }),
    ];
    for mode in MODES {
        for (ending, end) in end_by {
            ends(&format!("{mode:?}, {ending:?}"), move || {
                let bus = bus(|b| b.dispatch(mode).weigh(weigher));
                let [one, two, three, four] =
                    std::array::from_fn(|_| bus.subscribe("a").expect("open"));
                let subs = [one, two, three, four];
                let handles = subs.each_ref().map(Subscriber::handle);
                let [mut one, mut two, three, four] = subs;
                let (wakes, waker) = Wakes::new();
                let (mut stream, mut batches) = (three.into_stream(), four.into_batch_stream());
                {
                    let (mut event, mut batch) = (one.recv_async(), two.next_batch_async());
                    assert!(poll(&mut event, &waker).is_pending());
                    assert!(poll(&mut batch, &waker).is_pending());
                    assert!(poll(&mut stream.next(), &waker).is_pending());
                    assert!(poll(&mut batches.next(), &waker).is_pending());
                    assert_eq!((stream.ending(), stream.is_terminated()), (None, false));
                    let other = bus.subscribe("no.topic").expect("open");
                    end(&bus, &other);
                    if ending == Ending::Cancelled {
                        assert!(handles.iter().all(|handle| handle.cancel()));
                    }
                    eventually("all four are woken", || wakes.count() == 4);
                    let seen =
                        |error: Option<&RecvError>| error.copied().map(as_ending) == Some(ending);
                    assert!(
                        matches!(poll(&mut event, &waker), Poll::Ready(r) if seen(r.as_ref().err()))
                    );
                    assert!(
                        matches!(poll(&mut batch, &waker), Poll::Ready(r) if seen(r.as_ref().err()))
                    );
                }
                assert!(now_or_never(one.recv_async()).is_some_and(|r| r.is_err()));
                assert!(now_or_never(two.recv_async()).is_some_and(|r| r.is_err()));
                for _ in 0..300 {
                    assert!(matches!(
                        poll(&mut stream.next(), &waker),
                        Poll::Ready(None)
                    ));
                    assert!(matches!(
                        poll(&mut batches.next(), &waker),
                        Poll::Ready(None)
                    ));
                }
                assert_eq!(
                    (stream.ending(), batches.ending()),
                    (Some(ending), Some(ending))
                );
                assert!(stream.is_terminated() && batches.is_terminated());
                assert_eq!(stream.size_hint(), (0, Some(0)));
                assert_eq!(
                    stream.into_inner().recv().err().map(as_ending),
                    Some(ending)
                );
            });
        }
    }
}

/// A waker that runs a closure when it is woken for the first time.
struct Does(Mutex<Option<Box<dyn FnOnce() + Send>>>, AtomicBool);

impl Does {
    fn new(f: impl FnOnce() + Send + 'static) -> Arc<Does> {
        Arc::new(Does(Mutex::new(Some(Box::new(f))), AtomicBool::new(false)))
    }
}

impl Wake for Does {
    fn wake(self: Arc<Self>) {
        let f = self.0.lock().expect("no panic").take();
        self.1.store(true, Ordering::SeqCst);
        if let Some(f) = f {
            f();
        }
    }
}

/// Wakers panic, publish, cancel, and drop their own subscriber. The other subscribers still get
/// their events and are woken, and the bus continues.
#[test]
fn wakers_may_publish_cancel_drop_and_panic() {
    in_every_mode_and_shards(|mode, dispatchers| {
        let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers));
        let waiting = |waker: Arc<Does>| {
            let mut stream = bus.subscribe("a").expect("open").into_stream();
            assert!(poll(&mut stream.next(), &Waker::from(waker)).is_pending());
            stream
        };
        let panics = Does::new(panics_quietly);
        let panicked = waiting(panics.clone());

        let publishes = Does::new({
            let bus = bus.clone();
            move || bus.publish("b", 2).expect("there is room")
        });
        let published = waiting(publishes.clone());

        let mut cancelled = bus.subscribe("a").expect("open").into_stream();
        let cancels = Does::new({
            let handle = cancelled.handle();
            move || assert!(handle.cancel())
        });
        let cancelling = Waker::from(cancels.clone());
        assert!(poll(&mut cancelled.next(), &cancelling).is_pending());

        let held = Arc::new(Mutex::new(None));
        let drops = Does::new({
            let held = held.clone();
            move || drop(held.lock().expect("no panic").take())
        });
        *held.lock().expect("no panic") = Some(waiting(drops.clone()));

        let mut healthy = bus.subscribe("{a,b}").expect("open");
        let (wakes, waker) = Wakes::new();
        let mut healthily = healthy.recv_async();
        assert!(poll(&mut healthily, &waker).is_pending());

        bus.publish("a", 1).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        let all = [panics, publishes, cancels, drops];
        eventually("all are woken", || {
            bus.drive();
            all.iter().all(|waker| waker.1.load(Ordering::SeqCst)) && wakes.count() > 0
        });
        drop(healthily);
        eventually("the answer is there", || {
            bus.drive();
            bus.stats().sequenced == 2
        });
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(ids(&mut healthy), [1, 2]);
        assert_eq!(
            ids(&mut panicked.into_inner()),
            [1],
            "the event is available, with or without a wake-up"
        );
        assert_eq!(ids(&mut published.into_inner()), [1]);
        let ending = read_out(&mut cancelled.into_inner());
        assert_eq!(ending, (vec![], fanout::TryRecvError::Cancelled));
        eventually("the dropped subscription is removed", || {
            held.lock().expect("no panic").is_none()
        });
        bus.publish("a", 3).expect("the bus is not broken");
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(ids(&mut healthy), [3]);
    });
}

// ---- gaps and ends ------------------------------------------------------------------------------

/// Three rings overflow twice. Four receive methods return the same items.
#[test]
fn gaps_are_reported_in_their_places() {
    let bus = manual();
    let open = || bus.subscription("a").capacity(2).open().expect("open");
    let (mut one, mut two) = (open(), open());
    let (mut events, mut batches) = (open().into_stream(), open().into_batch_stream());
    let mut seen: [Vec<StreamItem>; 4] = Default::default();
    let told_of = |result: Result<u64, RecvError>| match result {
        Ok(id) => StreamItem::Id(id),
        Err(RecvError::Lost(gap)) => StreamItem::Lost(gap),
        Err(error) => panic!("{error}"),
    };
    for burst in [5, 1, 4] {
        publish_each(&bus, 0..burst);
        bus.drive();
        while let Some(result) = now_or_never(one.recv_async()) {
            seen[0].push(told_of(result.map(Event::id)));
        }
        while let Some(result) = now_or_never(two.next_batch_async()) {
            match result {
                Ok(batch) => seen[1].extend(batch.iter().map(|event| StreamItem::Id(event.id()))),
                Err(error) => seen[1].push(told_of(Err(error))),
            }
        }
        while let Some(Some(item)) = now_or_never(events.next()) {
            seen[2].push(item.map_or_else(StreamItem::Lost, |event| StreamItem::Id(event.id())));
        }
        while let Some(Some(item)) = now_or_never(batches.next()) {
            match item {
                Ok(batch) => {
                    seen[3].extend(batch.into_iter().map(|event| StreamItem::Id(event.id())))
                }
                Err(gap) => seen[3].push(StreamItem::Lost(gap)),
            }
        }
    }
    let lost = |gap: Gap| (gap.first_id(), gap.last_id(), gap.count());
    assert!(
        matches!(
            seen[0][..],
            [
                StreamItem::Id(1), StreamItem::Id(2), StreamItem::Lost(first),
                StreamItem::Id(6), StreamItem::Id(7), StreamItem::Id(8), StreamItem::Lost(second),
            ] if lost(first) == (3, 5, 3) && lost(second) == (9, 10, 2)
        ),
        "{:?}",
        seen[0]
    );
    assert!(seen.iter().all(|others| *others == seen[0]), "{seen:?}");
}

/// A full `Block` ring on a manual bus that is closing: only its reader is left to drive the bus.
#[test]
fn polling_drives_a_manual_bus_that_is_closing() {
    ends("the end comes", || {
        let bus = manual();
        let sub = bus.subscription("a").capacity(1).overflow(Overflow::Block);
        let mut stream = sub.open().expect("open").into_stream();
        let mut other = bus.subscribe("a").expect("open");
        publish_each(&bus, 0..10);
        drop(bus);
        let events = block_on(async {
            let mut events = Vec::new();
            while let Some(event) = stream.next().await {
                events.push(event.expect("nothing is lost").id());
            }
            events
        });
        assert_eq!(events, (1..=10).collect::<Vec<_>>());
        assert_eq!(read_to_end(&mut other).0.len(), 10);
    });
}

// ---- letting others run -------------------------------------------------------------------------

/// On one thread, a task that always finds events lets another task run.
#[test]
fn a_task_that_never_waits_lets_others_run() {
    const EVENTS: u64 = 2_000;
    for by_batch in [false, true] {
        ends("both tasks end", move || {
            let bus = bus(|b| b.dispatch(Dispatch::Manual).lane_capacity(4096));
            // One event in each round, so that each event has its own slot.
            let mut sub = bus.subscription("a").capacity(4096).open().expect("open");
            (0..EVENTS).for_each(|n| {
                bus.publish("a", n).expect("open");
                bus.drive();
            });
            let ran = Arc::new(AtomicBool::new(false));
            let reader = {
                let ran = ran.clone();
                async move {
                    for n in 1..=EVENTS {
                        if by_batch {
                            sub.next_batch_async().await.expect("it is there");
                        } else {
                            sub.recv_async().await.expect("it is there");
                        }
                        if ran.load(Ordering::SeqCst) {
                            return n;
                        }
                    }
                    EVENTS
                }
            };
            let other = async move {
                ran.store(true, Ordering::SeqCst);
                0
            };
            let tasks: Vec<Task<u64>> = vec![Box::pin(reader), Box::pin(other)];
            let read = Runtime::TokioCurrentThread.run(tasks)[0];
            assert!(read <= 129, "read {read} before the other one ran");
        });
    }
}

/// The task wakes itself and returns `Pending` once, and loses no event.
#[test]
fn a_task_that_lets_others_run_returns_pending_once() {
    let bus = manual();
    let mut sub = bus.subscribe("a").expect("open");
    publish_each(&bus, 0..1000);
    bus.drive();
    let (wakes, waker) = Wakes::new();
    let mut received = Vec::new();
    let mut pending = 0;
    while received.len() < 1000 {
        match poll(&mut sub.recv_async(), &waker) {
            Poll::Ready(event) => received.push(event.expect("all fit").id()),
            Poll::Pending => {
                pending += 1;
                assert_eq!(wakes.count(), pending, "woken, or it would wait for ever");
            }
        }
    }
    assert_eq!(received, (1..=1000).collect::<Vec<_>>());
    assert_eq!(pending, 999 / 128);
}

/// A stream is `Unpin`, and its items borrow nothing.
#[test]
fn items_outlive_their_stream() {
    let bus = manual();
    let mut stream = bus.subscribe("a").expect("open").into_stream();
    bus.publish("a", String::from("kept")).expect("open");
    bus.drive();
    let polled = Pin::new(&mut stream).poll_next(&mut Context::from_waker(Waker::noop()));
    drop((stream, bus));
    let Poll::Ready(Some(Ok(event))) = polled else {
        panic!("it is there");
    };
    let event: SharedEvent<String> = event;
    assert_eq!(event.data(), "kept");
}
