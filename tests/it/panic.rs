//! Panics of user code: they are contained, or the bus breaks and returns errors. No thread hangs.

use fanout::{
    Dispatch, Overflow, PublishError, PublishSequencedError, RecvError, SlowLimit, SubscribeError,
    TryPublishError,
};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::support::{
    FOR_EVER, MODES, OnDrop, StreamItem, blocking, bus, ends, eventually, fill, fill_both_lanes,
    in_every_mode, in_modes_with_threads, panics_quietly, publish_each, read_out, read_to_end,
    rounds, yield_for_a_while,
};

#[test]
fn a_payload_that_panics_in_a_ring_is_contained() {
    in_every_mode(|mode| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let bus = bus(|b| b.dispatch(mode));
        let mut reads = bus.subscribe("**").expect("open");
        let leaves = bus.subscribe("**").expect("open");
        for _ in 0..100 {
            bus.publish("a", OnDrop::panics()).expect("open");
            bus.publish("a", OnDrop::counts(&dropped)).expect("open");
            bus.publish("nobody", OnDrop::panics()).expect("open");
        }
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(read_out(&mut reads).0.len(), 300);
        drop(leaves);
        bus.publish("a", OnDrop::nothing()).expect("still open");
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(read_out(&mut reads).0, [StreamItem::Id(301)]);
        drop(reads);
        eventually("all of each block was dropped", || {
            bus.drive();
            dropped.load(Ordering::SeqCst) == 100
        });
    });
}

#[test]
fn a_payload_that_panics_when_it_has_no_room_is_contained() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscription("a").capacity(1).open().expect("open");
        (0..10).for_each(|_| bus.publish("a", OnDrop::panics()).expect("open"));
        assert!(bus.flush_within(FOR_EVER));
        bus.close();
        let (seen, ending) = read_to_end(&mut sub);
        assert!(
            matches!(seen[..], [StreamItem::Id(1), StreamItem::Lost(gap)] if gap.count() == 9),
            "{seen:?}"
        );
        assert_eq!(ending, RecvError::Closed);
    });
}

/// The dispatching thread drops the payload.
#[test]
fn a_payload_that_panics_when_it_is_evicted_is_contained() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let subscription = bus.subscription("a").capacity(1);
        let mut sub = subscription
            .overflow(Overflow::DropOldest)
            .open()
            .expect("open");
        for _ in 0..10 {
            bus.publish("a", OnDrop::panics()).expect("open");
            assert!(bus.flush_within(FOR_EVER));
        }
        bus.close();
        let (seen, ending) = read_to_end(&mut sub);
        assert!(
            matches!(seen[..], [StreamItem::Lost(gap), StreamItem::Id(10)] if gap.count() == 9),
            "{seen:?}"
        );
        assert_eq!(ending, RecvError::Closed);
        assert_eq!(sub.stats().lost, 9);
    });
}

/// A payload that is returned belongs to the test: its drop must not panic here.
fn was_accepted<T>(answer: Result<(), TryPublishError<T>>) -> bool {
    answer.map_err(std::mem::forget).is_ok()
}

#[test]
fn a_payload_that_panics_when_a_forced_close_drops_it_is_contained() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(16));
        let sub = blocking(&bus, 1);
        let mut publisher = bus.publisher();
        let own = fill(&bus, || {
            was_accepted(publisher.try_publish("a", OnDrop::panics()))
        });
        let shared = fill(&bus, || {
            was_accepted(bus.try_publish("a", OnDrop::panics()))
        });
        assert!(own >= 16 && shared >= 16);
        let report = bus.close_within(Duration::from_millis(1));
        assert!(!report.in_time && report.unsequenced > 0, "{report:?}");
        drop(sub);
    });
}

/// Events that are still in the lanes of a manual bus when the last handle is dropped are never
/// dispatched.
#[test]
fn a_payload_that_panics_when_the_bus_is_dropped_is_contained() {
    in_every_mode(|mode| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let bus = bus(|b| b.dispatch(mode).lane_capacity(64));
        let sub = blocking(&bus, 1);
        let mut publisher = bus.publisher();
        for n in 0..200 {
            let payload = || {
                if n % 2 == 0 {
                    OnDrop::counts(&dropped)
                } else {
                    OnDrop::panics()
                }
            };
            was_accepted(publisher.try_publish("a", payload()));
            was_accepted(bus.try_publish("a", payload()));
            if n < 100 {
                bus.drive();
            }
        }
        drop((publisher, bus));
        drop(sub);
    });
}

/// A waker that panics when it is woken.
struct BadWaker;

impl Wake for BadWaker {
    fn wake(self: Arc<Self>) {
        panics_quietly();
    }
}

#[test]
fn a_waker_that_panics_is_contained() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(2));
        let mut sub = blocking(&bus, 1);
        let mut publisher = bus.publisher();
        let accepted = fill_both_lanes(&bus, &mut publisher, &0);
        let waker = Waker::from(Arc::new(BadWaker));
        let mut context = Context::from_waker(&waker);
        let mut own = pin!(publisher.publish_async("a", 1));
        let mut shared = pin!(bus.publish_async("a", 1));
        assert!(own.as_mut().poll(&mut context).is_pending());
        assert!(shared.as_mut().poll(&mut context).is_pending());
        bus.close();
        let (seen, ending) = read_to_end(&mut sub);
        assert_eq!(ending, RecvError::Closed);
        assert_eq!(
            seen.len() as u64,
            accepted,
            "no event is lost because of the wakers"
        );
        assert!(own.as_mut().poll(&mut context).is_ready());
        assert!(shared.as_mut().poll(&mut context).is_ready());
    });
}

/// The weigher panics, and then the drop of the payload that it was called with, which must not
/// abort the process.
#[test]
fn a_weigher_and_its_payload_may_both_panic() {
    in_every_mode(|mode| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let weighed = AtomicUsize::new(0);
        let bus = bus(|b| {
            b.dispatch(mode).weigh(move |_: &OnDrop| {
                if weighed.fetch_add(1, Ordering::SeqCst) == 2 {
                    panics_quietly();
                }
                0
            })
        });
        let mut sub = bus.subscribe("a").expect("open");
        for _ in 0..6 {
            let payload = OnDrop::new({
                let dropped = dropped.clone();
                move || {
                    dropped.fetch_add(1, Ordering::SeqCst);
                    panics_quietly();
                }
            });
            let _ = bus.publish("a", payload).map_err(std::mem::forget);
            bus.drive();
        }
        eventually("the bus is broken", || {
            bus.drive();
            bus.is_closed()
        });
        assert_eq!(read_to_end(&mut sub).1, RecvError::Broken);
        drop(sub);
        let report = bus.close_within(FOR_EVER);
        assert!(!report.in_time, "{report:?}");
        let refused = bus.publish("a", OnDrop::nothing());
        assert!(matches!(refused, Err(PublishError::Broken(_))));
    });
}

/// A subscriber that falls behind, an error of a handler, and a panic of a handler call each
/// callback, and each callback owns a value whose drop panics.
#[test]
fn callbacks_that_own_values_that_panic_are_contained() {
    in_every_mode(|mode| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let owned = || {
            let dropped = dropped.clone();
            OnDrop::new(move || {
                dropped.fetch_add(1, Ordering::SeqCst);
                panics_quietly();
            })
        };
        let (clock, weigher, observer, on_slow) = (owned(), owned(), owned(), owned());
        let bus = bus(|b| {
            b.dispatch(mode)
                .clock(move || {
                    let _owned = &clock;
                    std::time::SystemTime::now()
                })
                .weigh(Weigher(weigher).weigh())
                .observer(move |_| {
                    let _owned = &observer;
                })
                .on_slow(SlowLimit::events(1), move |_| {
                    let _owned = &on_slow;
                })
        });
        let handler = owned();
        let calls = Arc::new(AtomicUsize::new(0));
        let bad = bus
            .on("a", move |_| {
                let _owned = &handler;
            })
            .expect("open");
        let good = bus
            .on("a", {
                let calls = calls.clone();
                move |_| {
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            })
            .expect("open");
        bus.publish("a", 1).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        bad.cancel();
        eventually("the closure was dropped", || {
            bus.drive();
            dropped.load(Ordering::SeqCst) == 1
        });
        bus.publish("a", 1).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(
            calls.load(Ordering::SeqCst),
            2,
            "the other handler continues"
        );
        assert!(bus.close_within(FOR_EVER).in_time);
        drop((bad, good, bus));
        eventually("everything was dropped", || {
            dropped.load(Ordering::SeqCst) == 5
        });
    });
}

struct Weigher(OnDrop);

impl Weigher {
    fn weigh(self) -> impl Fn(&i32) -> usize + Send {
        let owned = Mutex::new(self.0);
        move |_| {
            let _owned = &owned;
            4
        }
    }
}

/// A program whose `tracing` subscriber panics loses log lines and nothing else: the bus breaks as
/// it should, a handler's failure is counted, and the observer is called.
#[cfg(feature = "tracing")]
#[test]
fn a_log_that_panics_is_contained() {
    use crate::support::with_logger;
    use std::sync::atomic::AtomicU64;
    use tracing::span;

    #[derive(Clone)]
    struct Panics(Arc<AtomicU64>);

    impl tracing::Subscriber for Panics {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            metadata.target() == "fanout"
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panics_quietly();
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    // The subscriber is that of this thread alone, so the bus has no threads.
    let lines = Arc::new(AtomicU64::new(0));
    with_logger(Panics(lines.clone()), || {
        let noticed = Arc::new(AtomicUsize::new(0));
        let bus = bus(|b| {
            let noticed = noticed.clone();
            b.dispatch(Dispatch::Manual)
                .weigh(weigher)
                .clock(|| {
                    panics_quietly();
                    std::time::SystemTime::now()
                })
                .observer(move |_| {
                    noticed.fetch_add(1, Ordering::SeqCst);
                    panics_quietly();
                })
        });
        let guard = bus
            .on("a", |event: &fanout::Event<i32>| {
                if *event.data() == 1 {
                    panics_quietly()
                };
                Err::<(), _>("an error")
            })
            .expect("open");
        publish_each(&bus, [1, 2]);
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(noticed.load(Ordering::SeqCst), 2);
        // A clock, two notices, two observers.
        assert!(lines.load(Ordering::SeqCst) >= 5, "{lines:?}");
        publish_each(&bus, [13]);
        bus.drive();
        assert!(bus.is_closed(), "broken");
        assert!(matches!(bus.publish("a", 1), Err(PublishError::Broken(1))));
        drop(guard);
    });
}

/// The error that a handler returned panics when it is displayed. The call counts as failed, and
/// the next one is made.
#[test]
fn an_error_that_panics_when_it_is_displayed_is_contained() {
    struct Bad;
    impl std::fmt::Display for Bad {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panics_quietly();
            Ok(())
        }
    }
    in_every_mode(|mode| {
        let noticed = Arc::new(AtomicUsize::new(0));
        let bus = bus(|b| {
            let noticed = noticed.clone();
            b.dispatch(mode).observer(move |notice| {
                noticed.fetch_add(1, Ordering::SeqCst);
                let _ = notice.to_string();
            })
        });
        let guard = bus.on("a", |_| Err::<(), _>(Bad)).expect("open");
        publish_each(&bus, 0..3);
        assert!(bus.flush_within(FOR_EVER));
        let stats = guard.stats();
        assert_eq!(stats.received, 3);
        assert_eq!(noticed.load(Ordering::SeqCst), 3);
    });
}

/// Arguments that are converted by user code: the panic is the caller's, and no lock is held.
#[test]
fn an_argument_that_panics_when_it_is_converted_harms_nothing() {
    struct Bad;
    impl AsRef<str> for Bad {
        fn as_ref(&self) -> &str {
            panics_quietly();
            ""
        }
    }
    in_every_mode(|mode| {
        let bus = bus::<i32>(|b| b.dispatch(mode));
        let panics = |f: &dyn Fn()| {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            assert!(outcome.map_err(std::mem::forget).is_err());
        };
        panics(&|| drop(bus.subscription("a").label(Bad, "x")));
        panics(&|| drop(bus.subscription("a").label("x", Bad)));
        let mut sub = bus.subscribe("a").expect("open");
        bus.publish("a", 1).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(read_out(&mut sub).0, [StreamItem::Id(1)]);
    });
}

fn weigher(data: &i32) -> usize {
    if *data == 13 {
        panics_quietly();
    }
    4
}

#[test]
fn a_weigher_that_panics_breaks_the_bus_for_all_users() {
    for mode in MODES {
        for dispatchers in [1, 3] {
            for _ in 0..20 {
                ends(&format!("{mode:?} with {dispatchers}"), move || {
                    breaks(mode, dispatchers);
                });
            }
        }
    }
}

/// At whatever place of a block the weigher panics: every event is counted once, and no block is
/// empty. (The bus breaks before the events of that round are delivered.)
#[test]
fn a_weigher_may_panic_at_any_place_of_a_block() {
    const EVENTS: u64 = 200;
    for at in [1, 2, 63, 64, 65, 66, 128, 129, EVENTS] {
        let bus = bus::<u64>(|b| {
            b.dispatch(Dispatch::Manual).weigh(move |&n| {
                assert!(n != at, "the weigher panics at {n}");
                0
            })
        });
        let mut sub = bus.subscribe("a").expect("open");
        publish_each(&bus, 1..=EVENTS);
        bus.drive();
        let stats = bus.stats();
        let counts = (stats.sequenced, stats.unsequenced, stats.queued);
        assert_eq!(counts, (at - 1, EVENTS - at + 1, 0), "at {at}");
        assert_eq!(stats.blocks, (at - 1).div_ceil(64), "at {at}");
        assert_eq!(sub.recv().err(), Some(RecvError::Broken), "at {at}");
    }
}

fn breaks(mode: Dispatch, dispatchers: usize) {
    let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers).weigh(weigher));
    let subs: Vec<_> = (0..5).map(|_| bus.subscribe("a").expect("open")).collect();
    let readers: Vec<_> = subs
        .into_iter()
        .map(|mut sub| {
            thread::spawn(move || {
                let mut received = Vec::new();
                let ending = loop {
                    match sub.recv() {
                        Ok(event) => received.push(*event.data()),
                        Err(ending) => break ending,
                    }
                };
                assert_eq!(sub.recv().err(), Some(ending), "for ever");
                (received, ending)
            })
        })
        .collect();
    publish_each(&bus, 0..10);
    assert!(bus.flush_within(FOR_EVER));
    let _ = bus.publish("a", 13);
    bus.drive();
    eventually("the bus is broken", || bus.is_closed());
    assert!(matches!(bus.publish("a", 1), Err(PublishError::Broken(1))));
    assert!(matches!(
        bus.publisher().publish("a", 2),
        Err(PublishError::Broken(2))
    ));
    assert!(!bus.flush_within(FOR_EVER), "a broken bus flushes nothing");
    for reader in readers {
        let (received, ending) = reader.join().expect("reported");
        assert_eq!(received, (0..10).collect::<Vec<_>>());
        assert_eq!(ending, RecvError::Broken);
    }
    let report = bus.close_within(FOR_EVER);
    assert_eq!((report.in_time, report.lost), (false, 0), "{report:?}");
    assert_eq!(bus.subscribe("a").err(), Some(SubscribeError::Broken));
    assert_eq!(bus.on("a", |_| {}).err(), Some(SubscribeError::Broken));
}

/// Ten events are accepted before the first of them is sequenced, and the weigher panics at the
/// seventh. Each of them is counted, in the statistics and in the report of the close.
#[test]
fn an_event_that_is_accepted_is_counted_when_the_weigher_panics() {
    for lanes in ["shared", "own", "both", "each its own"] {
        in_every_mode(move |mode| {
            let gate = Arc::new(Mutex::new(()));
            let entered = Arc::new(AtomicBool::new(false));
            let clock = {
                let (gate, entered) = (gate.clone(), entered.clone());
                move || {
                    entered.store(true, Ordering::SeqCst);
                    drop(gate.lock().expect("no panic"));
                    std::time::SystemTime::now()
                }
            };
            let bus = bus(|b| b.dispatch(mode).clock(clock).weigh(weigher));
            let _sub = bus.subscribe("a").expect("open");
            // The clock holds the first round, which takes the first event.
            let closed = gate.lock().expect("no panic");
            let first = {
                let bus = bus.clone();
                thread::spawn(move || {
                    bus.publish("a", 1).expect("open");
                    bus.drive();
                })
            };
            eventually("the round has begun", || entered.load(Ordering::SeqCst));
            let mut publisher = bus.publisher();
            let mut others: Vec<_> = (0..10).map(|_| bus.publisher()).collect();
            for n in 2..=10 {
                let data = if n == 7 { 13 } else { n };
                match lanes {
                    "shared" => bus.publish("a", data),
                    "own" => publisher.publish("a", data),
                    "both" if n % 2 == 0 => publisher.publish("a", data),
                    "both" => bus.publish("a", data),
                    _ => others[n as usize - 1].publish("a", data),
                }
                .expect("open");
            }
            drop(closed);
            first.join().expect("no panic");
            let report = bus.close_within(FOR_EVER);
            let stats = bus.stats();
            let what = format!("{lanes}: {stats:?}, {report:?}");
            assert_eq!((stats.published, stats.queued), (10, 0), "{what}");
            assert_eq!(stats.sequenced + stats.unsequenced, 10, "{what}");
            assert_eq!(report.unsequenced, stats.unsequenced, "{what}");
            if matches!(lanes, "shared" | "own") {
                assert_eq!((stats.sequenced, stats.unsequenced), (6, 4), "{what}");
            }
            assert!(!report.in_time && stats.unsequenced > 0, "{what}");
        });
    }
}

/// Each event has a receipt, or the answer that it will never be sequenced, as the counts say.
#[test]
fn receipts_agree_with_the_counts_when_the_weigher_panics() {
    in_every_mode(|mode| {
        for own in [false, true] {
            let bus = bus(|b| b.dispatch(mode).weigh(weigher));
            let mut publishers: Vec<_> = (0..10).map(|_| bus.publisher()).collect();
            let mut accepted: Vec<_> = publishers
                .iter_mut()
                .enumerate()
                .map(|(n, publisher)| {
                    let data = if n == 6 { 13 } else { 0 };
                    let receipt: Pin<Box<dyn Future<Output = _>>> = if own {
                        Box::pin(publisher.publish_sequenced_async("a", data))
                    } else {
                        Box::pin(bus.publish_sequenced_async("a", data))
                    };
                    receipt
                })
                .collect();
            let mut context = Context::from_waker(Waker::noop());
            let mut answers = Vec::new();
            let mut polls = |answers: &mut Vec<_>| {
                accepted.retain_mut(|receipt| match receipt.as_mut().poll(&mut context) {
                    Poll::Ready(answer) => {
                        answers.push(answer);
                        false
                    }
                    Poll::Pending => true,
                });
                accepted.is_empty()
            };
            polls(&mut answers);
            bus.drive();
            let report = bus.close_within(FOR_EVER);
            assert!(polls(&mut answers), "no wait for a receipt is for ever");
            let (mut ids, mut never, mut refused) = (Vec::new(), 0, 0);
            for answer in answers {
                match answer {
                    Ok(receipt) => ids.push(receipt.id()),
                    Err(PublishSequencedError::Unsequenced) => never += 1,
                    Err(_) => refused += 1,
                }
            }
            ids.sort_unstable();
            let stats = bus.stats();
            assert_eq!(ids, (1..=stats.sequenced).collect::<Vec<_>>());
            assert_eq!((stats.unsequenced, report.unsequenced), (never, never));
            assert_eq!(stats.published + refused, 10);
            assert_eq!(stats.queued, 0);
        }
    });
}

/// Threads publish while the weigher panics: whatever was accepted is counted once all have ended.
#[test]
fn events_that_race_with_a_break_are_counted() {
    in_every_mode(|mode| {
        for round in rounds(200) {
            let bus = bus(|b| b.dispatch(mode).weigh(weigher));
            let publishing: Vec<_> = (0..3)
                .map(|n| {
                    let bus = bus.clone();
                    thread::spawn(move || {
                        let mut publisher = bus.publisher();
                        let mut publish = |data| match n {
                            0 => publisher.try_publish("a", data).is_ok(),
                            _ => bus.try_publish("a", data).is_ok(),
                        };
                        let accepted = (0..50).filter(|&event| {
                            let data = if event == round % 50 { 13 } else { 0 };
                            publish(data)
                        });
                        let accepted = accepted.count() as u64;
                        bus.drive();
                        accepted
                    })
                })
                .collect();
            let joined = publishing.into_iter().map(|t| t.join().expect("no panic"));
            let accepted: u64 = joined.sum();
            let report = bus.close_within(FOR_EVER);
            let stats = bus.stats();
            assert_eq!(stats.published, accepted, "{stats:?}");
            assert_eq!(stats.sequenced + stats.unsequenced, accepted, "{stats:?}");
            assert_eq!(report.unsequenced, stats.unsequenced);
        }
    });
}

#[test]
fn a_handler_that_is_refused_is_dropped_without_a_panic() {
    in_every_mode(|mode| {
        let bus = bus::<u64>(|b| b.dispatch(mode));
        let handler = || {
            let payload = OnDrop::panics();
            move |_: &fanout::Event<u64>| {
                let _ = &payload;
            }
        };
        assert!(bus.on("a..b", handler()).is_err());
        let too_small = || bus.subscription("a").capacity(0);
        assert!(too_small().handler(handler()).is_err());
        assert!(too_small().dedicated().handler(handler()).is_err());
        bus.close();
        assert!(bus.on("a", handler()).is_err());
    });
}

/// A payload whose weigher and whose drop panic, with a value whose drop panics.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        resume_unwind(Box::new(PanicsOnceDropped));
    }
}

struct PanicsOnceDropped;

impl Drop for PanicsOnceDropped {
    fn drop(&mut self) {
        if !thread::panicking() {
            panics_quietly();
        }
    }
}

#[test]
fn a_weigher_and_a_drop_that_panic_for_one_event_are_contained() {
    let this_binary = std::env::current_exe().expect("known");
    // Alone, because a panic during a panic aborts the process.
    let alone = std::process::Command::new(this_binary)
        .args(["--exact", "panic::double_panics_run_alone", "--ignored"])
        .output()
        .expect("it runs");
    let output = String::from_utf8_lossy(&alone.stdout);
    assert!(
        alone.status.success() && output.contains("1 passed"),
        "{}: {output}",
        alone.status
    );
}

#[test]
#[ignore = "run by another test"]
fn double_panics_run_alone() {
    in_every_mode(|mode| {
        for own in [false, true] {
            let weigher =
                |_: &PanicsInDrop| -> usize { resume_unwind(Box::new(PanicsOnceDropped)) };
            let bus = bus(|b| b.dispatch(mode).weigh(weigher));
            let mut sub = bus.subscribe("a").expect("open");
            let mut publisher = bus.publisher();
            let accepted = if own {
                publisher.try_publish("a", PanicsInDrop)
            } else {
                bus.try_publish("a", PanicsInDrop)
            };
            assert!(was_accepted(accepted));
            bus.drive();
            assert_eq!(sub.recv().err(), Some(RecvError::Broken));
            let report = bus.close_within(FOR_EVER);
            assert_eq!((report.in_time, report.unsequenced), (false, 1));
        }
    });
}

#[test]
fn waiting_publishers_get_an_error_when_the_bus_breaks() {
    in_modes_with_threads(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(2).weigh(weigher));
        let mut sub = blocking(&bus, 1);
        let mut publisher = bus.publisher();
        // The lanes fill up behind a full ring, with an event that breaks the bus at their ends.
        fill_both_lanes(&bus, &mut publisher, &1);
        let waiting = [
            thread::spawn(move || {
                loop {
                    match publisher.publish("a", 13) {
                        Ok(()) => {}
                        Err(error) => break matches!(error, PublishError::Broken(13)),
                    }
                }
            }),
            thread::spawn({
                let bus = bus.clone();
                move || loop {
                    match bus.publish("a", 13) {
                        Ok(()) => {}
                        Err(error) => break matches!(error, PublishError::Broken(13)),
                    }
                }
            }),
        ];
        yield_for_a_while();
        let ending = loop {
            if let Err(ending) = sub.recv() {
                break ending;
            }
        };
        assert_eq!(ending, RecvError::Broken);
        for waiting in waiting {
            assert!(
                waiting.join().expect("no panic"),
                "the error has the reason and the payload"
            );
        }
        assert!(bus.publish_sequenced("a", 1).is_err());
    });
}

#[test]
fn a_wait_for_a_receipt_ends_when_the_bus_breaks() {
    in_modes_with_threads(|mode| {
        let bus = bus(|b| b.dispatch(mode).weigh(weigher));
        let answer = bus.publish_sequenced("a", 13);
        assert!(answer.is_err(), "{answer:?}");
        assert!(bus.publisher().publish_sequenced("a", 1).is_err());
    });
}

/// The thread that drops a payload inside the dispatch is the thread that would have to make room.
#[test]
fn publishing_from_a_drop_inside_the_dispatch_never_waits() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(2));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let greedy = OnDrop::new({
            let (bus, answers) = (bus.clone(), answers.clone());
            move || {
                let mut publisher = bus.publisher();
                let mut own = || {
                    publisher
                        .publish("a", OnDrop::nothing())
                        .map_err(|e| e.to_string())
                };
                let own = (0..100).map(|_| own()).find_map(Result::err);
                let shared = || {
                    bus.publish("a", OnDrop::nothing())
                        .map_err(|e| e.to_string())
                };
                let shared = (0..100).map(|_| shared()).find_map(Result::err);
                let sequenced = bus
                    .publish_sequenced("a", OnDrop::nothing())
                    .map_err(|e| e.to_string());
                let mut answers = answers.lock().expect("no panic");
                answers.extend([own, shared, sequenced.err()]);
            }
        });
        bus.publish("nobody.listens", greedy).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        eventually("the payload was dropped", || {
            answers.lock().expect("no panic").len() == 3
        });
        let would_deadlock = PublishError::WouldDeadlock(()).to_string();
        let answers = answers.lock().expect("no panic").clone();
        assert_eq!(answers[2], Some(would_deadlock.clone()));
        for answer in answers.into_iter().flatten() {
            assert_eq!(answer, would_deadlock);
        }
    });
}

/// Cancelling applies the change itself, and releases the block that waited for the subscription.
/// The drop of a payload of that block runs inside the dispatch.
#[test]
fn publishing_from_a_drop_inside_a_cancel_never_waits() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode).lane_capacity(2));
        let full = blocking(&bus, 1);
        let armed = Arc::new(AtomicBool::new(true));
        let payload = || {
            OnDrop::new({
                let (bus, armed) = (bus.clone(), armed.clone());
                move || {
                    for _ in 0..100 {
                        if !armed.load(Ordering::SeqCst) {
                            return; // dropped by the test, outside of any dispatch
                        }
                        // Waiting here would be a deadlock.
                        let _ = bus.publish("nobody", OnDrop::nothing());
                    }
                }
            })
        };
        fill(&bus, || was_accepted(bus.try_publish("a", payload())));
        assert!(full.handle().cancel());
        assert!(bus.flush_within(FOR_EVER));
        armed.store(false, Ordering::SeqCst);
    });
}

/// Closing from inside the dispatch starts the close and returns: the dispatching thread does the
/// rest.
#[test]
fn closing_from_a_drop_inside_the_dispatch_does_not_wait() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = bus.subscribe("a").expect("open");
        let in_time = Arc::new(Mutex::new(None));
        let close = OnDrop::new({
            let (bus, in_time) = (bus.clone(), in_time.clone());
            move || *in_time.lock().expect("no panic") = Some(bus.close_within(FOR_EVER).in_time)
        });
        bus.publish("nobody.listens", close).expect("open");
        bus.drive();
        assert_eq!(sub.recv().err(), Some(RecvError::Closed));
        assert_eq!(*in_time.lock().expect("no panic"), Some(false));
        assert!(bus.close_within(FOR_EVER).in_time);
    });
}

#[test]
fn the_last_handle_may_be_dropped_inside_the_dispatch() {
    in_modes_with_threads(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let mut sub = blocking(&bus, 1);
        (0..2).for_each(|_| bus.publish("a", OnDrop::nothing()).expect("open"));
        assert!(!bus.flush_within(Duration::from_millis(1)));
        // The event is behind a block that has no room, so that it is released after the test's own
        // handle.
        let last_handle = bus.clone();
        bus.publish("nobody.listens", OnDrop::new(move || drop(last_handle)))
            .expect("open");
        drop(bus);
        let (seen, ending) = read_to_end(&mut sub);
        assert_eq!((seen.len(), ending), (2, RecvError::Closed));
    });
}
