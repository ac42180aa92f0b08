//! Counts allocations: in a steady state no event allocates, used topics are released, and an idle
//! subscription takes little memory.
//!
//! This is a separate binary, because a global allocator counts for the whole process, and it has
//! only one test, because other tests would be counted with it.

mod counting_allocator;

use counting_allocator::{allocated_bytes, allocations, live_bytes};
use fanout::broadcast::{
    self, Broadcaster, BroadcasterExt, CancelToken, Memory, SubscriptionGuard,
};
use fanout::{Bus, Dispatch, Message, Overflow, RecvError, Subscriber};
use futures_core::Stream;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

const FOR_EVER: Duration = Duration::from_secs(3600);
const MODES: [Dispatch; 4] = [
    Dispatch::Adaptive,
    Dispatch::Pool,
    Dispatch::Inline,
    Dispatch::Manual,
];

/// The number of events in a window.
const WINDOW: usize = 20_000;
const BURST: usize = 100;

/// The number of consecutive windows without an allocation that make a steady state.
const STEADY: usize = 5;
/// The number of windows in which the steady state must be reached. The number of blocks in use at
/// the same time depends on the scheduler.
const WINDOWS_MAX: usize = 200;

#[test]
fn memory() {
    for mode in MODES {
        steady_state(mode);
    }
    single_events_of_a_slow_reader_allocate_nothing();
    receiving_with_sleeping_allocates_nothing();
    handlers_allocate_nothing();
    receiving_as_a_task_allocates_nothing();
    broadcasting_allocates_nothing();
    #[cfg(feature = "latency")]
    sampling_allocates_nothing();
    used_topics_are_released();
    conflated_events_are_released();
    used_channels_are_released();
    dropped_subscriptions_and_publishers_are_released();
    dropped_publishers_of_a_stalled_bus_are_bounded();
    many_publishers_allocate_nothing();
    an_idle_subscription_takes_little_memory();
    a_change_of_one_of_many_patterns_copies_little();
}

// ---- no allocation per event --------------------------------------------------------------------

/// The ways to publish one event.
type Way = (&'static str, fn(&mut Publishing, usize));

struct Publishing {
    bus: Bus<u64>,
    lane: fanout::Publisher<u64>,
    topics: Vec<fanout::Topic>,
}

const TEXTS: [&str; 6] = [
    "orders.eu.created",
    "orders.us.created",
    "orders.eu.paid",
    "flights.SFO.JFK",
    "a",
    "a.b.c.d.e.f",
];

const WAYS: [Way; 7] = [
    ("a lane, by topic", |p, n| {
        p.lane.publish(&p.topics[n % 6], 1).expect("open")
    }),
    ("a lane, by text", |p, n| {
        p.lane.publish(TEXTS[n % 6], 1).expect("open")
    }),
    ("a lane, with name and source", |p, n| {
        let name = ["Created", "Updated"][n % 2];
        p.lane
            .send(Message::new(TEXTS[n % 3], 1).name(name).source("billing"))
            .expect("open");
    }),
    ("the bus, by topic", |p, n| {
        p.bus.publish(&p.topics[n % 6], 1).expect("open")
    }),
    ("the bus, by text", |p, n| {
        p.bus.publish(TEXTS[n % 6], 1).expect("open")
    }),
    ("the bus, with name and source", |p, n| {
        let name = ["Created", "Updated"][n % 2];
        p.bus
            .send(Message::new(TEXTS[n % 3], 1).name(name).source("billing"))
            .expect("open");
    }),
    ("the bus, without waiting", |p, n| {
        p.bus.try_publish(TEXTS[n % 6], 1).expect("there is room")
    }),
];

const PATTERNS: [&str; 7] = [
    "orders.eu.created",
    "orders.*.created",
    "**",
    "orders.**",
    "fl[a-z]ghts.?*.J*",
    "orders.{eu,us}.**",
    "none",
];

fn steady_state(mode: Dispatch) {
    for dispatchers in [1, 2] {
        let bus = Bus::builder()
            .dispatch(mode)
            .dispatchers(dispatchers)
            .blocking(true);
        let bus = bus.build().expect("in range");
        let reading_along = [Overflow::Block, Overflow::DropOldest, Overflow::Conflate]
            .map(|overflow| bus.subscription("**").overflow(overflow).open());
        let mut subs: Vec<_> = PATTERNS
            .iter()
            .map(|pattern| bus.subscribe(*pattern))
            .chain(reading_along)
            .map(|opened| opened.expect("open"))
            .collect();
        // Some subscribers never read, and lose nearly all events: gaps, evicted events and
        // replaced events must not allocate either.
        let _full = [
            (Overflow::DropNewest, 64),
            (Overflow::DropOldest, 64),
            (Overflow::Conflate, 64), // as many as there are topics
            (Overflow::Conflate, 2),
        ]
        .map(|(overflow, capacity)| {
            let stalled = bus.subscription("**").overflow(overflow);
            stalled.capacity(capacity).open().expect("open")
        });
        let topics = TEXTS.map(|text| bus.topic(text).expect("a topic")).into();
        let mut publishing = Publishing {
            lane: bus.publisher(),
            bus,
            topics,
        };
        for (name, publish) in WAYS {
            let what = format!("{mode:?}, {dispatchers} dispatchers, {name}");
            until_steady(&what, || window(&mut publishing, publish, &mut subs));
        }
    }
}

fn window(
    publishing: &mut Publishing,
    publish: fn(&mut Publishing, usize),
    subs: &mut [Subscriber<u64>],
) {
    for burst in 0..WINDOW / BURST {
        (0..BURST).for_each(|n| publish(publishing, n));
        assert!(publishing.bus.flush_within(FOR_EVER));
        for (n, sub) in subs.iter_mut().enumerate() {
            drain(sub, (burst + n) % 3);
        }
    }
}

/// Receives all waiting events, with one of the receive methods.
fn drain(sub: &mut Subscriber<u64>, way: usize) {
    let unread = sub.stats().unread;
    let mut received = 0;
    while received < unread {
        received += match way {
            0 => sub.recv().map(|_| 1).expect("unread"),
            1 => sub
                .next_batch()
                .map(|batch| batch.iter().count() as u64)
                .expect("unread"),
            _ => sub.try_recv().map(|_| 1).expect("unread"),
        };
    }
    assert!(sub.try_recv().is_err());
}

fn until_steady(what: &str, mut window: impl FnMut()) {
    let mut steady = 0;
    let mut last = 0;
    for _ in 0..WINDOWS_MAX {
        let before = allocations();
        window();
        last = allocations() - before;
        steady = if last == 0 { steady + 1 } else { 0 };
        if steady == STEADY {
            return;
        }
    }
    panic!("{what}: still {last} allocations in the last {WINDOW} events");
}

/// A ring is full of single events, each in its own block; it is emptied at once, and fills up
/// again.
fn single_events_of_a_slow_reader_allocate_nothing() {
    let bus = Bus::builder().dispatch(Dispatch::Manual).build();
    let bus = bus.expect("in range");
    let mut publisher = bus.publisher();
    let mut sub = bus.subscribe("a").expect("open");
    until_steady("lone events", || {
        for n in 0..1024 {
            publisher.publish("a", n).expect("open");
            bus.drive();
        }
        drain(&mut sub, 0);
    });
}

/// Publishes single events to a subscriber that sleeps in `recv`: neither waking nor falling asleep
/// allocates.
fn receiving_with_sleeping_allocates_nothing() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        let bus = Bus::builder().dispatch(mode).build().expect("in range");
        let mut publisher = bus.publisher();
        let mut sub = bus.subscribe("a").expect("open");
        let rounds = Arc::new(Barrier::new(2));
        let receiving = thread::spawn({
            let rounds = rounds.clone();
            move || loop {
                match sub.recv() {
                    Ok(_) => drop(rounds.wait()),
                    Err(ending) => return assert_eq!(ending, RecvError::Closed),
                }
            }
        });
        until_steady(&format!("{mode:?}, asleep"), || {
            for n in 0..500 {
                publisher.publish("a", n).expect("open");
                rounds.wait();
            }
        });
        drop((bus, publisher));
        receiving.join().expect("closed");
    }
}

/// A task that is woken, receives and waits again, event by event.
fn receiving_as_a_task_allocates_nothing() {
    let bus = Bus::builder().dispatch(Dispatch::Manual);
    let bus = bus.build().expect("in range");
    let mut publisher = bus.publisher();
    let mut sub = bus.subscribe("a").expect("open");
    let mut stream = pin!(bus.subscribe("a").expect("open").into_stream());
    let waker = Waker::from(Arc::new(NoopWaker));
    let mut context = Context::from_waker(&waker);
    until_steady("as a task", || {
        for n in 0..500 {
            assert!(pin!(sub.recv_async()).poll(&mut context).is_pending());
            assert!(stream.as_mut().poll_next(&mut context).is_pending());
            let mut accepted = pin!(publisher.publish_async("a", n));
            assert!(accepted.as_mut().poll(&mut context).is_ready());
            bus.drive();
            assert!(pin!(sub.recv_async()).poll(&mut context).is_ready());
            assert!(stream.as_mut().poll_next(&mut context).is_ready());
        }
    });
}

/// The names are static and the payload is shared, so nothing is copied on the way to the handlers.
fn broadcasting_allocates_nothing() {
    let memory = Memory::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let _subscriptions = ["orders.1", "orders.1", "chat:room 7"].map(|channel| {
        let calls = calls.clone();
        let counting = memory.on(channel, move |event| {
            assert_eq!(event.payload().len(), 1000);
            calls.fetch_add(1, Ordering::Relaxed);
        });
        counting.expect("open")
    });
    let payload = bytes::Bytes::from(vec![7; 1000]);
    let mut expected = 0;
    until_steady("broadcasting", || {
        for _ in 0..WINDOW / BURST {
            for n in 0..BURST {
                let channel = ["orders.1", "chat:room 7", "for nobody"][n % 3];
                let event =
                    broadcast::BroadcastEvent::new(channel, "OrderShipped", payload.clone());
                memory.publish(event).expect("open");
                expected += [2, 1, 0][n % 3];
            }
            while calls.load(Ordering::Relaxed) < expected {
                thread::yield_now();
            }
        }
    });
}

/// The waker of a task that is polled without being woken.
struct NoopWaker;

impl Wake for NoopWaker {
    fn wake(self: Arc<Self>) {}
}

/// Wakes and runs handlers, whose workers sleep in between. One handler always falls behind.
fn handlers_allocate_nothing() {
    for mode in MODES {
        const HANDLERS: usize = 100;
        let bus = Bus::builder().dispatch(mode).blocking(true);
        let bus = bus.handler_threads(3).build().expect("in range");
        let calls = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..HANDLERS)
            .map(|_| {
                let calls = calls.clone();
                let subscription = bus.subscription("a").overflow(Overflow::Block);
                let handler = subscription.handler(move |_| {
                    calls.fetch_add(1, Ordering::Relaxed);
                });
                handler.expect("open")
            })
            .collect();
        let mut publisher = bus.publisher();
        let mut expected = 0;
        until_steady(&format!("{mode:?}, handlers"), || {
            for burst in 0..20 {
                // One event, or a few, or more than a ring holds.
                let events = [1, 10, 300][burst % 3];
                for n in 0..events {
                    publisher.publish("a", n).expect("open");
                    bus.drive();
                }
                expected += HANDLERS * events as usize;
                while calls.load(Ordering::Relaxed) < expected {
                    bus.drive();
                    thread::yield_now();
                }
            }
        });
        drop(handles);
    }
}

/// Every event has a time stamp, and every receive is measured.
#[cfg(feature = "latency")]
fn sampling_allocates_nothing() {
    for mode in MODES {
        for every in [1, 64] {
            let bus = Bus::builder().dispatch(mode).sample_latency(every);
            let bus = bus.build().expect("in range");
            let mut publisher = bus.publisher();
            let mut sub = bus.subscribe("a").expect("open");
            let mut way = 0;
            until_steady(&format!("{mode:?}, one of {every} sampled"), || {
                for _ in 0..WINDOW / BURST {
                    (0..BURST as u64).for_each(|n| publisher.publish("a", n).expect("open"));
                    assert!(bus.flush_within(FOR_EVER));
                    drain(&mut sub, way % 3);
                    way += 1;
                }
            });
            assert!(sub.latency().count > 0);
        }
    }
}

// ---- memory is released
// ----------------------------------------------------------------------------

/// The bytes by which the memory may vary: tables that fill up, and blocks in the pool.
const SLACK: isize = 1 << 20;

fn used_topics_are_released() {
    const TOPICS: usize = 1_000_000;
    let bus = Bus::<u64>::builder()
        .dispatch(Dispatch::Inline)
        .build()
        .expect("in range");
    let mut lane = bus.publisher();
    let mut subs =
        ["**", "t.?*", "t.7*", "none"].map(|pattern| bus.subscribe(pattern).expect("open"));
    let mut warm = 0;
    for n in 0..TOPICS {
        let topic = format!("t.{n}");
        let published = if n % 2 == 0 {
            lane.publish(topic, 1)
        } else {
            bus.publish(topic, 1)
        };
        published.expect("open");
        if n % BURST == BURST - 1 {
            assert!(bus.flush_within(FOR_EVER));
            subs.iter_mut().for_each(|sub| drain(sub, 1));
        }
        if n == TOPICS / 5 {
            warm = live_bytes();
        }
    }
    let grown = live_bytes() - warm;
    assert!(
        grown < SLACK,
        "{grown} bytes more after {TOPICS} different topics"
    );
}

/// One topic occurs again and again, the others once. Some subscribers read at once, and some
/// never. The memory for the topics that waited does not grow.
fn conflated_events_are_released() {
    const EVENTS: usize = 1_000_000;
    let bus = Bus::<u64>::builder().dispatch(Dispatch::Manual).build();
    let bus = bus.expect("in range");
    let mut lane = bus.publisher();
    let open = |pattern: &str, capacity| {
        let builder = bus.subscription(pattern).overflow(Overflow::Conflate);
        builder.capacity(capacity).open().expect("open")
    };
    let (mut same, mut each) = (open("same", 256), open("t.*", 256));
    let _stalled = (open("same", 256), open("t.*", 64));
    let mut warm = 0;
    for n in 0..EVENTS {
        lane.publish("same", 1).expect("open");
        bus.drive();
        assert!(same.try_recv().is_ok());
        if n % 4 == 0 {
            lane.publish(format!("t.{n}"), 1).expect("open");
            bus.drive();
            assert!(each.try_recv().is_ok());
        }
        if n == EVENTS / 5 {
            warm = live_bytes();
        }
    }
    let grown = live_bytes() - warm;
    assert!(
        grown < SLACK,
        "{grown} bytes more after {EVENTS} events, conflated"
    );
}

/// A million channels, each used once. Some of them have a subscriber for a while.
fn used_channels_are_released() {
    const CHANNELS: usize = 1_000_000;
    let memory = Memory::new();
    let token = CancelToken::new(); // lives as long as the program
    let mut kept: Option<SubscriptionGuard> = None;
    let mut warm = 0;
    for n in 0..CHANNELS {
        let channel = format!("private-orders.{n}");
        if n % 50 == 0 {
            kept = Some(memory.on_until(&token, &channel, |_| ()).expect("open"));
        }
        let event = broadcast::BroadcastEvent::new(channel, format!("Event{n}"), vec![7; 16]);
        memory.publish(event).expect("open");
        if n % BURST == BURST - 1 {
            assert!(memory.flush_within(FOR_EVER));
        }
        if n == CHANNELS / 5 {
            warm = live_bytes();
        }
    }
    drop(kept);
    let grown = live_bytes() - warm;
    assert!(
        grown < SLACK,
        "{grown} bytes more after {CHANNELS} different channels"
    );
}

fn dropped_subscriptions_and_publishers_are_released() {
    for mode in MODES {
        let bus = Bus::<u64>::builder()
            .dispatch(mode)
            .dispatchers(2)
            .build()
            .expect("in range");
        let mut warm = 0;
        const ROUNDS: usize = 20_000;
        for n in 0..=ROUNDS {
            let sub = bus
                .subscribe([format!("a.{n}"), format!("*.{}", n % 7)])
                .expect("open");
            sub.handle().add(&*format!("b.{n}.**")).expect("open");
            bus.publisher().publish("a.1", 1).expect("open");
            drop(sub);
            if n % 100 == 0 {
                assert!(bus.flush_within(FOR_EVER));
            }
            if n == ROUNDS / 5 {
                warm = live_bytes();
            }
        }
        let grown = live_bytes() - warm;
        assert!(
            grown < SLACK,
            "{mode:?}: {grown} bytes more after {ROUNDS} subscriptions"
        );
    }
}

/// Publishers are made and dropped, each with or without an event, while the events wait.
fn dropped_publishers_of_a_stalled_bus_are_bounded() {
    const PUBLISHERS: u64 = 100_000;
    /// The lanes and their events, the shards' inputs, and what warms up.
    const BOUND: isize = 4 << 20;
    for mode in MODES {
        let bus = Bus::<u64>::builder().dispatch(mode).blocking(true).build();
        let bus = bus.expect("in range");
        let full = bus.subscription("a").capacity(1).overflow(Overflow::Block);
        let full = full.open().expect("open");
        let before = live_bytes();
        let grown = |what: &str| {
            let grown = live_bytes() - before;
            println!("{mode:?}, {what}: {grown} bytes for {PUBLISHERS} publishers");
            assert!(grown < BOUND, "{mode:?}, {what}: {grown} bytes");
        };
        for n in 0..PUBLISHERS {
            let _full = bus.publisher().try_publish("a", n);
        }
        grown("with events");
        (0..PUBLISHERS).for_each(|_| drop(bus.publisher()));
        grown("without events");
        bus.close();
        for n in 0..PUBLISHERS {
            bus.publisher().try_publish("a", n).expect_err("closed");
        }
        grown("closed");
        drop(full);
    }
}

/// The lanes of many publishers are parked and taken up again, all the time.
fn many_publishers_allocate_nothing() {
    for mode in MODES {
        let bus = Bus::<u64>::builder().dispatch(mode).blocking(true).build();
        let bus = bus.expect("in range");
        let mut publishers: Vec<_> = (0..200).map(|_| bus.publisher()).collect();
        let mut sub = bus.subscribe("a").expect("open");
        let mut next = 0;
        until_steady(&format!("{mode:?}, 200 publishers"), || {
            for burst in 0..50 {
                for _ in 0..=burst {
                    next = (next + 7) % publishers.len();
                    publishers[next].publish("a", 1).expect("open");
                }
                assert!(bus.flush_within(FOR_EVER));
                drain(&mut sub, burst % 3);
            }
        });
    }
}

// ---- idle subscriptions ------------------------------------------------------------------

/// The bound on the memory of an idle subscription, with its two ends, its record, its pattern and
/// its place in the index.
const SUBSCRIPTION_MAX: isize = 1024;

fn an_idle_subscription_takes_little_memory() {
    const SUBSCRIPTIONS: usize = 10_000;
    fn cost_of<S>(what: &str, open: impl Fn(&Bus<u64>, String) -> S) {
        let bus = Bus::<u64>::builder().dispatch(Dispatch::Manual).build();
        let bus = bus.expect("in range");
        let before = live_bytes();
        let mut subs = Vec::with_capacity(SUBSCRIPTIONS);
        subs.extend((0..SUBSCRIPTIONS).map(|n| open(&bus, format!("t.{n}.x"))));
        let each = (live_bytes() - before) / SUBSCRIPTIONS as isize;
        println!("{each} bytes per idle {what}");
        assert!(each <= SUBSCRIPTION_MAX, "{each} bytes per idle {what}");
    }
    cost_of("subscriber", |bus, pattern| {
        bus.subscribe(pattern).expect("open")
    });
    cost_of("handler", |bus, pattern| {
        bus.on(pattern, |_| {}).expect("open")
    });
}

/// What a change copies does not depend on how many patterns the subscription has. The old list of
/// their texts was copied as a whole.
fn a_change_of_one_of_many_patterns_copies_little() {
    const PATTERNS: usize = 20_000;
    const CHANGES: usize = 1_000;
    const BYTES_MAX: usize = 40 << 10;

    let bus = Bus::<u64>::builder().dispatch(Dispatch::Manual).build();
    let bus = bus.expect("the settings are valid");
    let texts = |from: usize| (from..from + PATTERNS).map(|n| format!("t.[ab]{n}.x"));
    let before = live_bytes();
    let sub = bus.subscribe(texts(0).collect::<Vec<_>>()).expect("open");
    let handle = sub.handle();
    let each = (live_bytes() - before) as usize / PATTERNS;
    println!("a pattern of a subscription with {PATTERNS}: {each} bytes");
    let changes: [(&str, &dyn Fn(usize)); 3] = [
        ("add", &|n| {
            assert_eq!(handle.add(format!("s.[ab]{n}.x")), Ok(true))
        }),
        ("remove", &|n| {
            assert_eq!(handle.remove(format!("s.[ab]{n}.x")), Ok(true))
        }),
        ("remove another spelling", &|n| {
            assert_eq!(handle.remove(format!("t.[ba]{n}.x")), Ok(true))
        }),
    ];
    for (what, change) in changes {
        let before = allocated_bytes();
        (0..CHANGES).for_each(change);
        let each = (allocated_bytes() - before) / CHANGES;
        println!("{what}: {each} bytes are allocated");
        assert!(each < BYTES_MAX, "{what}: {each} bytes");
    }
}
