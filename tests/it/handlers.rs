//! Handlers: order, isolation, cancel, and closures that panic or block.

use fanout::limits::HANDLER_THREADS_MAX;
use fanout::{
    Bus, Dispatch, Ending, Event, HandlerGuard, Notice, Overflow, PublishError, SubscribeError,
    WeakBus,
};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::support::{
    FOR_EVER, Gate, MODES, OnDrop, Random, bus, ends, eventually, in_every_mode,
    in_every_mode_and_shards, in_modes_with_threads, manual, panics_quietly, publish_each, rounds,
    yield_for_a_while,
};

/// The ids that a handler was called with. Fails if two calls overlap.
#[derive(Clone, Default)]
struct CallLog {
    ids: Arc<Mutex<Vec<u64>>>,
    inside: Arc<AtomicBool>,
}

impl CallLog {
    fn handler<T: 'static>(&self) -> impl FnMut(&Event<T>) + Send + 'static {
        let Self { ids, inside } = self.clone();
        move |event| {
            assert!(!inside.swap(true, Ordering::SeqCst), "one call at a time");
            ids.lock().expect("no handler panicked").push(event.id());
            inside.store(false, Ordering::SeqCst);
        }
    }

    fn ids(&self) -> Vec<u64> {
        self.ids.lock().expect("no handler panicked").clone()
    }
}

/// Notices, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(String, ThreadId)>>>);

impl Log {
    fn observer(&self) -> impl Fn(&Notice<'_>) + Send + Sync + 'static {
        let log = self.0.clone();
        move |notice| {
            let line = (notice.to_string(), thread::current().id());
            log.lock().expect("not poisoned").push(line);
        }
    }

    fn lines(&self) -> Vec<String> {
        let log = self.0.lock().expect("not poisoned");
        log.iter().map(|(line, _)| line.clone()).collect()
    }

    fn threads(&self) -> Vec<ThreadId> {
        let log = self.0.lock().expect("not poisoned");
        log.iter().map(|(_, thread)| *thread).collect()
    }
}

#[test]
fn events_are_handled_in_order_and_one_at_a_time() {
    in_every_mode_and_shards(|mode, dispatchers| {
        let bus = bus(|b| b.dispatch(mode).dispatchers(dispatchers).handler_threads(4));
        let logs: Vec<_> = (0..200).map(|_| CallLog::default()).collect();
        let handles: Vec<_> = logs
            .iter()
            .map(|calls| {
                let subscription = bus.subscription("**").overflow(Overflow::Block);
                subscription.handler(calls.handler()).expect("open")
            })
            .collect();
        let mut publisher = bus.publisher();
        for n in 0..2_000_u64 {
            if mode == Dispatch::Manual && n % 500 == 0 {
                bus.drive();
            }
            publisher.publish("a", n).expect("open");
        }
        assert!(bus.flush_within(FOR_EVER));
        for (calls, handle) in logs.iter().zip(&handles) {
            assert!(calls.ids().into_iter().eq(1..=2_000));
            let stats = handle.stats();
            assert_eq!(
                (stats.matched, stats.received, stats.unread),
                (2_000, 2_000, 0)
            );
        }
    });
}

/// The delivery law, for a handler that falls behind and for another one that keeps up.
#[test]
fn losses_of_a_slow_handler_are_counted_and_reported() {
    ends("slow", || {
        let log = Log::default();
        let bus = bus::<u64>(|b| b.observer(log.observer()).handler_threads(2));
        let gate = Gate::default();
        let (slow, fast) = (CallLog::default(), CallLog::default());
        let slow_handle = {
            let (gate, mut note) = (gate.clone(), slow.handler());
            let handler = move |event: &Event<u64>| {
                gate.wait();
                note(event);
            };
            bus.subscription("a")
                .capacity(1)
                .handler(handler)
                .expect("open")
        };
        let fast_subscription = bus.subscription("a").overflow(Overflow::Block);
        let fast_handle = fast_subscription.handler(fast.handler()).expect("open");
        bus.publish("a", 0).expect("open");
        eventually("the slow handler runs", || gate.waiting() == 1);
        (0..20).for_each(|n| bus.publish("a", n).expect("never waits for a handler"));
        eventually("the fast handler has all events", || {
            fast_handle.stats().received == 21
        });
        gate.open();
        assert!(bus.flush_within(FOR_EVER));
        let stats = slow_handle.stats();
        assert_eq!(stats.matched, 21);
        assert_eq!(stats.received + stats.lost, 21);
        assert_eq!(stats.received as usize, slow.ids().len());
        assert!(
            stats.lost >= 18,
            "there was room for one, and for what had been claimed"
        );
        // A flush waits for the events in the ring, not for the gap behind them.
        let seen = || log.lines().iter().filter(|l| l.contains("lost")).count();
        eventually("the loss is reported", || seen() > 0);
        drop(slow_handle);
        assert_eq!(seen(), 1, "once for the run");
        assert!(!log.threads().contains(&thread::current().id()));
        drop(fast_handle);
    });
}

/// While events flow, no call may begin after `cancel` has returned.
#[test]
fn no_call_begins_after_cancel() {
    ends("cancel", || {
        let bus = bus::<u64>(|b| b.handler_threads(2));
        let stop = Arc::new(AtomicBool::new(false));
        let publishing = {
            let (bus, stop) = (bus.clone(), stop.clone());
            thread::spawn(move || {
                let mut publisher = bus.publisher();
                while !stop.load(Ordering::Relaxed) {
                    publisher.publish("a", 1).expect("open");
                }
            })
        };
        let late = Arc::new(AtomicUsize::new(0));
        let mut called = 0;
        for n in rounds(10_000) {
            let cancelled = Arc::new(AtomicBool::new(false));
            let calls = Arc::new(AtomicUsize::new(0));
            let handle = {
                let (cancelled, calls, late) = (cancelled.clone(), calls.clone(), late.clone());
                bus.on("a", move |_| {
                    if cancelled.load(Ordering::SeqCst) {
                        late.fetch_add(1, Ordering::SeqCst);
                    }
                    calls.fetch_add(1, Ordering::SeqCst);
                })
                .expect("open")
            };
            if n % 4 == 0 {
                eventually("it is called", || calls.load(Ordering::SeqCst) > 0);
            }
            match n % 3 {
                0 => drop(handle),
                1 => assert!(handle.cancel()),
                _ => assert!(handle.cancel_and_wait(FOR_EVER)),
            }
            cancelled.store(true, Ordering::SeqCst);
            called += calls.load(Ordering::SeqCst);
        }
        stop.store(true, Ordering::Relaxed);
        publishing.join().expect("open");
        assert!(
            called > 0,
            "the handler was called, so the test has checked something"
        );
        assert_eq!(late.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn cancel_waits_for_a_call_only_when_asked_to() {
    in_modes_with_threads(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let gate = Gate::default();
        let over = Arc::new(AtomicBool::new(false));
        let handle = {
            let (gate, over) = (gate.clone(), over.clone());
            bus.on("a", move |_| {
                gate.wait();
                over.store(true, Ordering::SeqCst);
            })
            .expect("open")
        };
        bus.publish("a", 1).expect("open");
        bus.publish("a", 2).expect("open");
        eventually("the call is running", || gate.waiting() == 1);
        assert!(handle.cancel());
        assert!(!handle.cancel(), "idempotent");
        assert!(!handle.cancel_and_wait(Duration::from_millis(20)));
        assert!(!over.load(Ordering::SeqCst));
        gate.open();
        assert!(handle.cancel_and_wait(FOR_EVER));
        assert!(over.load(Ordering::SeqCst), "the running call finished");
        assert_eq!(handle.stats().received, 1, "and was the last");
    });
}

/// Inside its own call, a handler does not wait for that call.
#[test]
fn a_handler_cancels_itself() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let own = Arc::new(OnceLock::<HandlerGuard<u64>>::new());
        let answers = Arc::new(Mutex::new(Vec::new()));
        let handle = {
            let (own, answers) = (own.clone(), answers.clone());
            bus.on("a", move |event| {
                let Some(own) = own.get() else {
                    panic!("published too early")
                };
                let answer = (event.id(), own.cancel(), own.cancel_and_wait(FOR_EVER));
                answers.lock().expect("not poisoned").push(answer);
            })
            .expect("open")
        };
        own.set(handle).expect("once");
        publish_each(&bus, 0..10);
        assert!(bus.flush_within(FOR_EVER));
        eventually("its only call ends", || {
            !answers.lock().expect("not poisoned").is_empty()
        });
        let seen = answers.lock().expect("not poisoned").clone();
        assert_eq!(seen, [(1, true, false)], "it is running, and does not wait");
        assert!(own.get().expect("set").cancel_and_wait(FOR_EVER));
    });
}

#[test]
fn dropping_a_guard_cancels_unless_it_was_detached() {
    in_every_mode(|mode| {
        let bus = bus(|b| b.dispatch(mode));
        let (dropped, detached) = (CallLog::default(), CallLog::default());
        drop(bus.on("a", dropped.handler()).expect("open"));
        let subscription = bus.on("a", detached.handler()).expect("open").detach();
        bus.publish("a", 1).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        assert!(dropped.ids().is_empty());
        assert_eq!(detached.ids(), [1]);
        assert_eq!(bus.subscriptions().len(), 1);
        assert!(subscription.cancel());
        bus.publish("a", 2).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(detached.ids(), [1]);
    });
}

/// The closure is dropped once, when it will not be called any more, and outside of all locks.
#[test]
fn a_closure_is_dropped_when_its_subscription_ends() {
    in_every_mode(|mode| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let bus = bus::<u64>(|b| b.dispatch(mode));
        let own = |bus: &Bus<u64>, dropped: &Arc<AtomicUsize>| {
            let (owned, other) = (OnDrop::counts(dropped), bus.clone());
            let handle = bus.subscribe("b").ok();
            move |_: &Event<u64>| {
                let _ = (&owned, &other, &handle);
            }
        };
        let cancelled = bus.on("a", own(&bus, &dropped)).expect("open");
        cancelled.cancel();
        eventually("dropped after cancel", || {
            bus.drive();
            dropped.load(Ordering::SeqCst) == 1
        });
        bus.on("a", own(&bus, &dropped)).expect("open").detach();
        assert!(bus.close_within(FOR_EVER).in_time);
        assert_eq!(dropped.load(Ordering::SeqCst), 2, "dropped at the end");
        let refused = bus.on("a", own(&bus, &dropped));
        assert_eq!(refused.unwrap_err(), SubscribeError::Closed);
        assert_eq!(dropped.load(Ordering::SeqCst), 3, "dropped when refused");
        let never = bus.subscription("a..b").dedicated();
        assert!(never.handler(own(&bus, &dropped)).is_err());
        assert_eq!(dropped.load(Ordering::SeqCst), 4);
    });
}

#[test]
fn errors_and_panics_are_counted_reported_and_contained() {
    in_every_mode(|mode| {
        let log = Log::default();
        let bus = bus::<u64>(|b| b.dispatch(mode).observer(log.observer()));
        let other = CallLog::default();
        let failing = bus.on("a", |event| {
            (event.id() % 2 == 0)
                .then_some(())
                .ok_or("odd, and that is wrong")
        });
        let panicking = bus.on("a", |event| {
            if event.id() % 5 == 0 {
                panics_quietly();
            }
            if event.id() == 7 {
                // The value of the panic panics again when it is dropped.
                std::panic::resume_unwind(Box::new(OnDrop::panics()));
            }
        });
        let (failing, panicking) = (failing.expect("open"), panicking.expect("open"));
        let well = bus.on("a", other.handler()).expect("open");
        publish_each(&bus, 0..100);
        assert!(bus.flush_within(FOR_EVER));
        assert!(other.ids().into_iter().eq(1..=100));
        let stats = [&failing, &panicking, &well].map(HandlerGuard::stats);
        assert_eq!(stats.map(|s| s.received), [100; 3], "each event was a call");
        assert_eq!(stats.map(|s| s.errors), [50, 0, 0]);
        assert_eq!(stats.map(|s| s.panics), [0, 21, 0]);
        let sums = bus.stats();
        assert_eq!((sums.errors, sums.panics, sums.received), (50, 21, 300));
        let lines = log.lines();
        let number = failing.subscription().number();
        let first = format!(
            "subscription {number}: the handler failed for event 1 on topic a: odd, and that is wrong"
        );
        assert!(lines.contains(&first), "{lines:?}");
        let panics = lines.iter().filter(|line| line.contains("panicked"));
        assert_eq!(panics.count(), 21);
        assert_eq!(lines.len(), 71);
    });
}

#[test]
fn a_panic_of_the_observer_is_contained() {
    ends("observer", || {
        let bus = bus::<u64>(|b| b.observer(|_| panics_quietly()));
        let handle = bus.on("a", |_| Err::<(), _>("no")).expect("open");
        publish_each(&bus, 0..10);
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(handle.stats().errors, 10);
    });
}

/// More handlers hang than there are workers, and the other handlers still run.
#[test]
fn a_stalled_worker_is_replaced() {
    ends("stall", || {
        let log = Log::default();
        let bus = bus::<u64>(|b| b.handler_threads(2).observer(log.observer()));
        let gate = Gate::default();
        let stuck: Vec<_> = (0..5)
            .map(|_| {
                let gate = gate.clone();
                bus.on("stuck", move |_| gate.wait()).expect("open")
            })
            .collect();
        let calls = CallLog::default();
        let well = bus.on("well", calls.handler()).expect("open");
        bus.publish("stuck", 0).expect("open");
        eventually("all five run, on two threads and three spares", || {
            gate.waiting() == 5
        });
        bus.publish("well", 1).expect("open");
        eventually("handled meanwhile", || calls.ids() == [2]);
        let stalls = |handle: &HandlerGuard<u64>| handle.stats().stalls;
        eventually("each is counted", || stuck.iter().all(|h| stalls(h) == 1));
        assert_eq!(stalls(&well), 0);
        eventually("each stall is reported", || log.lines().len() == 5);
        assert!(log.lines().iter().all(|line| line.contains("spare")));
        gate.open();
        assert!(bus.flush_within(FOR_EVER));
        // The pool is as before: it works, and stalls are found again.
        (0..1_000).for_each(|n| bus.publish("well", n).expect("open"));
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(well.stats().received + well.stats().lost, 1_001);
    });
}

/// Beyond the limit handlers wait, which is reported. When a thread is free again, they continue.
#[test]
fn the_number_of_spare_threads_is_limited() {
    ends("limit", || {
        let log = Log::default();
        let bus = bus::<u64>(|b| {
            b.handler_threads(1)
                .max_handler_threads(2)
                .observer(log.observer())
        });
        let gates = [Gate::default(), Gate::default()];
        let stuck = gates.clone().map(|gate| {
            let first = AtomicBool::new(true);
            bus.on("stuck", move |_| {
                if first.swap(false, Ordering::SeqCst) {
                    gate.wait();
                }
            })
            .expect("open")
        });
        let calls = CallLog::default();
        let _well = bus.on("well", calls.handler()).expect("open");
        bus.publish("stuck", 0).expect("open");
        eventually("both run", || gates.iter().all(|g| g.waiting() == 1));
        bus.publish("well", 1).expect("open");
        eventually("the limit is reported", || {
            log.lines().iter().any(|line| line.contains("no spare"))
        });
        assert!(calls.ids().is_empty(), "no thread is left to call it");
        gates[0].open();
        eventually("one thread is back", || calls.ids() == [2]);
        gates[1].open();
        assert!(bus.flush_within(FOR_EVER));
        drop(stuck);
    });
}

#[test]
fn a_dedicated_handler_has_its_own_thread() {
    ends("dedicated", || {
        let bus = bus::<u64>(|b| b.handler_threads(1).max_handler_threads(1));
        let gate = Gate::default();
        let threads = Arc::new(Mutex::new(Vec::new()));
        let alone: Vec<_> = (0..3)
            .map(|_| {
                let (gate, threads) = (gate.clone(), threads.clone());
                let subscription = bus.subscription("a").dedicated();
                subscription
                    .handler(move |_| {
                        threads
                            .lock()
                            .expect("not poisoned")
                            .push(thread::current().id());
                        gate.wait();
                    })
                    .expect("open")
            })
            .collect();
        let calls = CallLog::default();
        let _pooled = bus.on("a", calls.handler()).expect("open");
        bus.publish("a", 1).expect("open");
        eventually("all run", || gate.waiting() == 3);
        eventually("the pool is free", || calls.ids() == [1]);
        gate.open();
        bus.publish("a", 2).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        let mut threads = threads.lock().expect("not poisoned").clone();
        assert_eq!(threads.len(), 6);
        threads.sort_by_key(|id| format!("{id:?}"));
        threads.dedup();
        assert_eq!(threads.len(), 3, "each on one thread");
        assert!(alone.iter().all(|handle| handle.stats().stalls == 0));
        assert!(alone[0].cancel_and_wait(FOR_EVER));
    });
}

/// A handler may publish, subscribe, cancel and close on the bus that calls it.
#[test]
fn handlers_publish_subscribe_cancel_and_close() {
    in_every_mode(|mode| {
        let bus = bus::<u64>(|b| b.dispatch(mode).handler_threads(2).lane_capacity(1024));
        let answers = CallLog::default();
        let inner = Arc::new(Mutex::new(Vec::new()));
        let weak: WeakBus<u64> = bus.downgrade();
        let _asks = {
            let inner = inner.clone();
            bus.on("ask", move |event| {
                let bus = weak.upgrade().expect("open");
                bus.publish("answer", *event.data()).expect("there is room");
                let opened = bus.on("inner", |_| {}).expect("open");
                inner.lock().expect("not poisoned").push(opened);
                if event.id() % 2 == 0 {
                    let cancelled = inner.lock().expect("not poisoned").pop();
                    drop(cancelled);
                }
                assert!(!bus.flush_within(FOR_EVER) || mode != Dispatch::Pool);
                bus.stats();
            })
            .expect("open")
        };
        let _answers = bus.on("answer", answers.handler()).expect("open");
        (0..10).for_each(|n| bus.publish("ask", n).expect("open"));
        eventually("all are answered", || {
            bus.drive();
            answers.ids().len() == 10
        });
        let weak = bus.downgrade();
        let report = Arc::new(OnceLock::new());
        let closing = {
            let report = report.clone();
            bus.on("close", move |_| {
                let bus = weak.upgrade().expect("open");
                // The call starts the close and returns: waiting would deadlock.
                report.set(bus.close_within(FOR_EVER)).expect("once");
                assert!(matches!(bus.publish("a", 1), Err(PublishError::Closed(1))));
            })
            .expect("open")
        };
        bus.publish("close", 0).expect("open");
        eventually("it is closed", || {
            bus.drive();
            bus.is_closed()
        });
        assert!(bus.close_within(FOR_EVER).in_time);
        assert!(report.get().is_some());
        assert_eq!(closing.stats().panics, 0);
    });
}

/// Only a handler could make room in the lane: publishing does not wait.
#[test]
fn a_handler_never_waits_for_room() {
    ends("full", || {
        let bus = bus::<u64>(|b| b.lane_capacity(2).handler_threads(1).max_handler_threads(1));
        let weak = bus.downgrade();
        let refused = Arc::new(AtomicU64::new(0));
        let _floods = {
            let refused = refused.clone();
            let flood = bus.subscription("a").overflow(Overflow::Block).capacity(1);
            flood
                .handler(move |event| {
                    let bus = weak.upgrade().expect("open");
                    if event.id() > 1 {
                        return;
                    }
                    loop {
                        match bus.publish("a", 0) {
                            Ok(()) => {}
                            Err(PublishError::WouldDeadlock(0)) => break,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    refused.fetch_add(1, Ordering::SeqCst);
                })
                .expect("open")
        };
        bus.publish("a", 0).expect("open");
        eventually("refused", || refused.load(Ordering::SeqCst) == 1);
        assert!(bus.flush_within(FOR_EVER));
    });
}

/// Accepted events are handled before the bus ends.
#[test]
fn close_drains_into_handlers() {
    for mode in MODES {
        for by_drop in [false, true] {
            ends(&format!("{mode:?}, {by_drop}"), move || {
                let dropped = Arc::new(AtomicUsize::new(0));
                let logs: Vec<_> = (0..50).map(|_| CallLog::default()).collect();
                let bus = bus::<u64>(|b| b.dispatch(mode).handler_threads(2));
                for calls in &logs {
                    let (mut note, owned) = (calls.handler(), OnDrop::counts(&dropped));
                    let handler = move |event: &Event<u64>| {
                        let _ = &owned;
                        note(event);
                    };
                    bus.on("a", handler).expect("open").detach();
                }
                publish_each(&bus, 0..500);
                if by_drop {
                    drop(bus);
                    eventually("all closures are dropped", || {
                        dropped.load(Ordering::SeqCst) == 50
                    });
                } else {
                    let report = bus.close_within(FOR_EVER);
                    assert!(report.in_time);
                    assert_eq!((report.unread, report.lost, report.unsequenced), (0, 0, 0));
                    assert_eq!(dropped.load(Ordering::SeqCst), 50);
                }
                for calls in &logs {
                    assert!(calls.ids().into_iter().eq(1..=500));
                }
            });
        }
    }
}

#[test]
fn a_close_with_a_limit_reports_a_handler_that_is_not_done() {
    ends("close", || {
        let bus = bus::<u64>(|b| b.handler_threads(1));
        let gate = Gate::default();
        let handle = {
            let gate = gate.clone();
            bus.on("a", move |_| gate.wait()).expect("open")
        };
        publish_each(&bus, 0..10);
        eventually("the call is running", || gate.waiting() == 1);
        let report = bus.close_within(Duration::from_millis(20));
        assert!(!report.in_time);
        assert_eq!(
            report.unread, 10,
            "a running call does not count as handled"
        );
        gate.open();
        eventually("the handler continues", || handle.stats().received == 10);
        assert!(bus.close_within(FOR_EVER).in_time);
    });
}

#[test]
fn a_flush_waits_until_all_events_are_handled() {
    in_every_mode(|mode| {
        let bus = bus::<u64>(|b| b.dispatch(mode).handler_threads(3));
        let handled = Arc::new(AtomicU64::new(0));
        let handles: Vec<_> = (0..30)
            .map(|n| {
                let handled = handled.clone();
                bus.on("a", move |_| {
                    if n % 10 == 0 {
                        yield_for_a_while();
                    }
                    handled.fetch_add(1, Ordering::SeqCst);
                })
                .expect("open")
            })
            .collect();
        for round in 1..=20 {
            publish_each(&bus, 0..10);
            assert!(bus.flush_within(FOR_EVER));
            assert_eq!(handled.load(Ordering::SeqCst), round * 300);
        }
        drop(handles);
    });
}

/// Handlers run only in `drive`, and in the same order each time.
#[test]
fn a_manual_bus_runs_handlers_only_in_drive() {
    let run = || {
        let bus = manual::<u64>();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let here = thread::current().id();
        let handles: Vec<_> = (0..40_u64)
            .map(|n| {
                let (calls, weak) = (calls.clone(), bus.downgrade());
                bus.subscription(["a", "b"])
                    .handler(move |event| {
                        assert_eq!(thread::current().id(), here);
                        calls.lock().expect("one thread").push((n, event.id()));
                        if event.topic().as_str() == "a" && n == 3 {
                            let bus = weak.upgrade().expect("open");
                            bus.publish("b", 1).expect("there is room");
                            assert!(!bus.drive() || calls.lock().is_ok());
                        }
                    })
                    .expect("open")
            })
            .collect();
        publish_each(&bus, 0..10);
        assert!(calls.lock().expect("one thread").is_empty());
        assert!(bus.drive());
        assert!(!bus.drive());
        drop((handles, bus));
        Arc::into_inner(calls).map(|calls| calls.into_inner().expect("one thread"))
    };
    let first = run();
    // The bus and all closures are dropped.
    assert_eq!(first.as_ref().map(Vec::len), Some(40 * 20));
    assert_eq!(first, run());
}

#[test]
fn tens_of_thousands_of_handlers_share_two_threads() {
    ends("many", || {
        const HANDLERS: usize = 20_000;
        let bus = bus::<u64>(|b| b.handler_threads(2).max_handler_threads(2));
        let calls = Arc::new(AtomicUsize::new(0));
        let threads = Arc::new(Mutex::new(Vec::new()));
        let handles: Vec<_> = (0..HANDLERS)
            .map(|n| {
                let (calls, threads) = (calls.clone(), threads.clone());
                let patterns = [format!("own.{n}"), "all".to_owned()];
                bus.on(patterns, move |_| {
                    if calls.fetch_add(1, Ordering::Relaxed) % 1_000 == 0 {
                        threads.lock().expect("fine").push(thread::current().id());
                    }
                })
                .expect("open")
            })
            .collect();
        for _ in 0..10 {
            bus.publish("all", 1).expect("open");
        }
        bus.publish("own.7", 1).expect("open");
        assert!(bus.flush_within(FOR_EVER));
        assert_eq!(calls.load(Ordering::Relaxed), 10 * HANDLERS + 1);
        let mut threads = threads.lock().expect("fine").clone();
        threads.sort_by_key(|id| format!("{id:?}"));
        threads.dedup();
        assert!(threads.len() <= 2, "{threads:?}");
        drop(handles);
        assert_eq!(bus.stats().subscriptions, 0);
    });
}

/// The delivery law under churn: handlers are opened and cancelled, with both policies, while four
/// threads publish.
#[test]
fn the_delivery_law_holds_for_handlers_that_come_and_go() {
    ends("the delivery law", || {
        let bus = bus::<u64>(|b| b.dispatchers(2).handler_threads(3));
        let stop = Arc::new(AtomicBool::new(false));
        let publishing: Vec<_> = (0..4)
            .map(|p| {
                let (bus, stop) = (bus.clone(), stop.clone());
                thread::spawn(move || {
                    let mut publisher = bus.publisher();
                    let mut n = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let topic = ["a", "b", "c.d"][n % 3];
                        publisher.publish(topic, p).expect("open");
                        n += 1;
                    }
                })
            })
            .collect();
        let mut random = Random::new(7);
        let mut open: Vec<(HandlerGuard<u64>, Arc<AtomicU64>)> = Vec::new();
        let mut ended = Vec::new();
        for n in rounds(3_000) {
            let calls = Arc::new(AtomicU64::new(0));
            let policy = [Overflow::DropNewest, Overflow::Block][n as usize % 2];
            let capacity = [1, 2, 63, 64, 65, 1024][random.below(6)];
            let mut last = 0;
            let counts = calls.clone();
            let subscription = bus.subscription(["a", "**"]).overflow(policy);
            let handler = subscription.capacity(capacity).handler(move |event| {
                assert!(event.id() > last, "ids rise");
                last = event.id();
                counts.fetch_add(1, Ordering::SeqCst);
            });
            open.push((handler.expect("open"), calls));
            while open.len() > 16 {
                let (handle, calls) = open.swap_remove(random.below(open.len()));
                assert!(handle.cancel_and_wait(FOR_EVER));
                ended.push((handle, calls));
            }
        }
        stop.store(true, Ordering::Relaxed);
        publishing.into_iter().for_each(|p| p.join().expect("open"));
        assert!(bus.close_within(FOR_EVER).in_time);
        for (handle, calls) in ended.iter().chain(&open) {
            let stats = handle.stats();
            assert_eq!(stats.panics, 0);
            assert_eq!(stats.received, calls.load(Ordering::SeqCst));
            assert_eq!(stats.received + stats.lost + stats.unread, stats.matched);
        }
        for (handle, _) in &open {
            assert_eq!(handle.stats().unread, 0, "closing drains");
        }
    });
}

/// Inline dispatch never runs handlers on the publishing thread.
#[test]
fn handlers_do_not_run_on_a_publishing_thread() {
    ends("inline", || {
        let bus = bus::<u64>(|b| b.dispatch(Dispatch::Inline));
        let (sender, threads) = mpsc::channel();
        let _handle = bus.on("a", move |_| sender.send(thread::current().id()));
        publish_each(&bus, 0..100);
        assert!(bus.flush_within(FOR_EVER));
        let here = thread::current().id();
        assert!(threads.try_iter().all(|thread| thread != here));
    });
}

#[test]
fn a_broken_bus_ends_its_handlers() {
    in_every_mode(|mode| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let bus = bus::<u64>(|b| {
            b.dispatch(mode).weigh(|data| {
                if *data == 13 {
                    panics_quietly();
                }
                0
            })
        });
        let owned = OnDrop::counts(&dropped);
        let _handle = bus.on("a", move |_| {
            let _ = &owned;
        });
        (0..20).for_each(|n| drop(bus.publish("a", n)));
        eventually("the closure is dropped", || {
            bus.drive();
            dropped.load(Ordering::SeqCst) == 1
        });
        assert!(!bus.flush_within(FOR_EVER));
    });
}

#[test]
fn the_numbers_of_threads_are_bounded() {
    let build = |threads, max| {
        let builder = Bus::<u64>::builder().handler_threads(threads);
        builder.max_handler_threads(max).build().map(drop)
    };
    assert!(build(1, 1).is_ok());
    assert!(build(HANDLER_THREADS_MAX, HANDLER_THREADS_MAX).is_ok());
    let refused = [(0, 1), (2, 1), (1, 0), (1, HANDLER_THREADS_MAX + 1)];
    for (threads, max) in refused {
        let text = build(threads, max).expect_err("out of range").to_string();
        assert!(text.contains("handler threads"), "{text}");
    }
}

/// The pool and the observer are dropped with the bus.
#[test]
fn a_pool_releases_all_its_memory() {
    in_every_mode(|mode| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let owned = OnDrop::counts(&dropped);
        let bus = bus::<u64>(|b| {
            b.dispatch(mode).observer(move |_| {
                let _ = &owned;
            })
        });
        let cancelled = bus.on("a", |_| {}).expect("open");
        bus.on("a", |_| {}).expect("open").detach();
        publish_each(&bus, 0..100);
        cancelled.cancel();
        assert!(bus.close_within(FOR_EVER).in_time);
        drop((bus, cancelled));
        eventually("the observer is dropped", || {
            dropped.load(Ordering::SeqCst) == 1
        });
    });
}

/// On a manual bus, a `Block` handler makes the room that the dispatch waits for: the close
/// dispatches and handles alternately.
#[test]
fn a_manual_bus_that_closes_drains_into_a_small_ring() {
    for by_drop in [false, true] {
        let calls = CallLog::default();
        let bus = manual::<u64>();
        let subscription = bus.subscription("a").overflow(Overflow::Block).capacity(1);
        subscription
            .handler(calls.handler())
            .expect("open")
            .detach();
        publish_each(&bus, 0..10);
        if by_drop {
            drop(bus);
        } else {
            assert!(bus.close_within(Duration::ZERO).in_time);
        }
        assert!(calls.ids().into_iter().eq(1..=10));
    }
}

/// If every call of one handler takes long, the handler uses one thread, and the pool continues
/// with one spare thread.
#[test]
fn one_slow_handler_uses_at_most_one_spare_thread() {
    ends("slow", || {
        let bus = bus::<u64>(|b| b.handler_threads(1).max_handler_threads(2));
        let slow = bus.on("slow", |_| thread::sleep(Duration::from_millis(30)));
        let slow = slow.expect("open");
        let calls = CallLog::default();
        let subscription = bus.subscription("well").overflow(Overflow::Block);
        let _well = subscription.handler(calls.handler()).expect("open");
        (0..8).for_each(|n| bus.publish("slow", n).expect("open"));
        let mut published = 0;
        while slow.stats().received < 8 {
            bus.publish("well", 1).expect("open");
            published += 1;
            eventually("handled meanwhile", || calls.ids().len() == published);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(slow.stats().stalls > 0);
        bus.publish("well", 1).expect("open");
        assert!(bus.flush_within(FOR_EVER), "the pool is alive");
        assert_eq!(calls.ids().len(), published + 1);
    });
}

/// Jobs that wait behind a stuck call on the same worker are run, however busy the other workers
/// are.
#[test]
fn a_stuck_call_delays_no_other_handler_under_load() {
    ends("tray", || {
        let bus = bus::<u64>(|b| b.handler_threads(1).max_handler_threads(2));
        let gate = Gate::default();
        let handled = Arc::new(AtomicUsize::new(0));
        let mut handles: Vec<_> = (0..10)
            .map(|_| {
                let handled = handled.clone();
                bus.on("go", move |_| {
                    handled.fetch_add(1, Ordering::SeqCst);
                })
                .expect("open")
            })
            .collect();
        handles.push({
            let gate = gate.clone();
            bus.on("go", move |_| gate.wait()).expect("open")
        });
        for _ in 0..3 {
            let busy = bus.subscription("busy").overflow(Overflow::Block);
            let handler = busy.handler(|_| thread::sleep(Duration::from_micros(20)));
            handles.push(handler.expect("open"));
        }
        bus.publish("go", 1).expect("open");
        let stop = Arc::new(AtomicBool::new(false));
        let publishing = {
            let (bus, stop) = (bus.clone(), stop.clone());
            thread::spawn(move || {
                let mut publisher = bus.publisher();
                while !stop.load(Ordering::Relaxed) {
                    publisher.publish("busy", 0).expect("open");
                }
            })
        };
        eventually("all ten are handled", || {
            thread::sleep(Duration::from_millis(1));
            handled.load(Ordering::SeqCst) == 10
        });
        stop.store(true, Ordering::Relaxed);
        gate.open();
        publishing.join().expect("open");
    });
}

/// Events that are lost after a flush has begun do not count as handled for this flush.
#[test]
fn a_flush_is_exact_also_under_loss() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        ends(&format!("flush with {overflow:?}"), move || {
            let bus = bus::<u64>(|b| b.handler_threads(1));
            let gate = Gate::default();
            let handle = {
                let gate = gate.clone();
                let subscription = bus.subscription("a").capacity(2).overflow(overflow);
                subscription.handler(move |_| gate.wait()).expect("open")
            };
            bus.publish("a", 0).expect("open");
            eventually("the call is running", || gate.waiting() == 1);
            bus.publish("a", 0).expect("open");
            let flushing = {
                let bus = bus.clone();
                thread::spawn(move || bus.flush_within(Duration::from_millis(300)))
            };
            yield_for_a_while();
            publish_each(&bus, 0..50);
            assert!(!flushing.join().expect("fine"), "neither was handled");
            gate.open();
            assert!(bus.flush_within(FOR_EVER));
            let stats = handle.stats();
            assert!(stats.lost > 0);
            assert_eq!(stats.received + stats.lost, 52);
        });
    }
}

/// Evicted events were pushed, and are never handled.
#[test]
fn a_flush_does_not_wait_for_evicted_events() {
    in_every_mode(|mode| {
        let bus = bus::<u64>(|b| b.dispatch(mode).handler_threads(2));
        let handle = bus
            .subscription("a")
            .capacity(3)
            .overflow(Overflow::DropOldest)
            .handler(|_| yield_for_a_while())
            .expect("open");
        for round in 1..=20 {
            publish_each(&bus, 0..20);
            assert!(bus.flush_within(FOR_EVER));
            let stats = handle.stats();
            assert_eq!(stats.received + stats.lost, 20 * round, "{stats:?}");
        }
        assert!(mode != Dispatch::Manual || handle.stats().received == 3 * 20);
        assert!(bus.close_within(FOR_EVER).in_time);
    });
}

/// A disconnected handler handles the waiting events. A flush and a close wait for that.
#[test]
fn a_flush_waits_for_the_events_of_a_disconnected_handler() {
    for (dedicated, ending) in [false, true]
        .into_iter()
        .flat_map(|d| (0..3).map(move |e| (d, e)))
    {
        ends(
            &format!("dedicated {dedicated}, ending {ending}"),
            move || {
                let log = Log::default();
                let bus = bus::<u64>(|b| b.handler_threads(1).observer(log.observer()));
                let gate = Gate::default();
                let handle = {
                    let gate = gate.clone();
                    let mut subscription = bus
                        .subscription("a")
                        .capacity(2)
                        .overflow(Overflow::Disconnect);
                    if dedicated {
                        subscription = subscription.dedicated();
                    }
                    subscription.handler(move |_| gate.wait()).expect("open")
                };
                bus.publish("a", 1).expect("open");
                eventually("the call is running", || gate.waiting() == 1);
                publish_each(&bus, 2..=5);
                assert!(!bus.flush_within(Duration::from_millis(50)), "three wait");
                assert_eq!(handle.stats().received, 0);
                match ending {
                    0 => {
                        gate.open();
                        assert!(bus.flush_within(FOR_EVER));
                        assert_eq!(handle.stats().received, 3);
                    }
                    1 => {
                        let report = bus.close_within(Duration::from_millis(20));
                        assert!(!report.in_time && report.unread == 3, "{report:?}");
                        gate.open();
                        let report = bus.close_within(FOR_EVER);
                        assert!(report.in_time && report.unread == 0, "{report:?}");
                        assert_eq!(handle.stats().received, 3);
                    }
                    _ => {
                        let flushing = {
                            let bus = bus.clone();
                            thread::spawn(move || bus.flush_within(FOR_EVER))
                        };
                        yield_for_a_while();
                        handle.cancel();
                        gate.open();
                        assert!(flushing.join().expect("fine"), "nothing more is handled");
                        // A flush after the cancel has nothing to wait for.
                        assert!(handle.cancel_and_wait(FOR_EVER));
                        assert_eq!(handle.stats().received, 1);
                        return;
                    }
                }
                let seen = || -> Vec<_> {
                    let lines = log.lines().into_iter();
                    lines.filter(|line| line.contains("lost")).collect()
                };
                eventually("it is reported", || !seen().is_empty());
                let seen = seen();
                assert!(
                    seen.len() == 1
                        && seen[0].contains("disconnected")
                        && (seen[0].contains("ids 4 to") || seen[0].contains("id 4:")),
                    "{seen:?}"
                );
                eventually("it is unregistered", || bus.stats().subscriptions == 0);
                let stats = handle.stats();
                assert_eq!(stats.received + stats.lost, stats.matched);
            },
        );
    }
}

/// The bus breaks while a call runs, and then the handler is cancelled: the handler still ends.
#[test]
fn a_handler_cancelled_on_a_broken_bus_ends() {
    ends("broken", || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let bus = bus::<u64>(|b| {
            b.handler_threads(1).weigh(|data| {
                if *data == 13 {
                    panics_quietly();
                }
                0
            })
        });
        let gates = [Gate::default(), Gate::default()];
        let handle = {
            let (gates, owned) = (gates.clone(), OnDrop::counts(&dropped));
            // The second call is in a turn that began after the bus broke.
            bus.on("a", move |event| {
                let _ = &owned;
                match event.id() {
                    1 => gates[0].wait(),
                    20 => gates[1].wait(),
                    _ => {}
                }
            })
            .expect("open")
        };
        for _ in 0..30 {
            bus.publish_sequenced("a", 0).expect("open");
        }
        eventually("the call is running", || gates[0].waiting() == 1);
        let _refused_or_not = bus.publish("a", 13);
        eventually("it breaks", || bus.is_closed());
        gates[0].open();
        eventually("the handler continues", || gates[1].waiting() == 1);
        handle.cancel();
        gates[1].open();
        eventually("the closure is dropped", || {
            dropped.load(Ordering::SeqCst) == 1
        });
    });
}

/// An error panics in its `Display`: the call still counts once.
#[test]
fn an_error_that_panics_counts_its_call_once() {
    struct Hostile;
    impl std::fmt::Display for Hostile {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panics_quietly();
            Ok(())
        }
    }
    ends("hostile", || {
        let bus = bus::<u64>(|b| b.observer(|notice| drop(notice.to_string())));
        let handle = bus.on("a", |_| Err::<(), _>(Hostile)).expect("open");
        publish_each(&bus, 0..100);
        assert!(bus.flush_within(FOR_EVER));
        let stats = handle.stats();
        assert_eq!(
            (stats.matched, stats.received, stats.errors),
            (100, 100, 100)
        );
    });
}

/// A handler was disconnected, and is cancelled before it has handled what waits: the notice comes,
/// once, although no call begins any more.
#[test]
fn a_disconnected_handler_that_is_cancelled_is_reported() {
    for by_drop in [false, true] {
        ends(&format!("by drop: {by_drop}"), move || {
            let notices = Arc::new(Mutex::new(Vec::new()));
            let bus = bus::<u64>(|b| {
                let notices = notices.clone();
                b.handler_threads(1).observer(move |notice| {
                    if let Notice::Disconnected { gap, .. } = notice {
                        notices.lock().expect("fine").push(gap.count());
                    }
                })
            });
            let gate = Gate::default();
            let guard = {
                let gate = gate.clone();
                let subscription = bus.subscription("a").capacity(14);
                let subscription = subscription.overflow(Overflow::Disconnect);
                subscription.handler(move |_| gate.wait()).expect("open")
            };
            bus.publish("a", 0).expect("open");
            eventually("it is called", || gate.waiting() == 1);
            for n in 0..16 {
                bus.publish("a", n).expect("open");
                assert!(!bus.flush_within(Duration::from_millis(1)));
            }
            let handle = guard.subscription().clone();
            eventually("it is disconnected", || handle.is_ended());
            if by_drop {
                drop(guard);
            } else {
                assert!(!guard.cancel(), "it had ended before");
            }
            gate.open();
            let reported = || notices.lock().expect("fine").clone();
            eventually("it is reported", || !reported().is_empty());
            assert!(bus.close_within(FOR_EVER).in_time);
            assert_eq!(reported().len(), 1, "once");
            let stats = handle.stats();
            assert_eq!(stats.received, 1, "no call begins after the cancel");
            assert_eq!(stats.received + stats.lost + stats.unread, stats.matched);
            assert_eq!(stats.unread, 14);
        });
    }
}

/// A cancel races with the disconnect: whichever is first, a disconnected handler is reported
/// once, and another one not at all.
#[test]
fn each_disconnected_handler_is_reported_once() {
    ends("race", || {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let bus = bus::<u64>(|b| {
            let reported = reported.clone();
            b.handler_threads(2).observer(move |notice| {
                if let Notice::Disconnected { subscription, .. } = notice {
                    reported.lock().expect("fine").push(*subscription);
                }
            })
        });
        let mut disconnected = Vec::new();
        for n in rounds(2_000) {
            let guard = {
                let subscription = bus.subscription("a").capacity(3);
                let subscription = subscription.overflow(Overflow::Disconnect);
                let handler = move |_: &_| (0..n % 7).for_each(|_| thread::yield_now());
                subscription.handler(handler).expect("open")
            };
            publish_each(&bus, 0..n % 50);
            let cancelled = guard.cancel();
            let handle = guard.subscription().clone();
            drop(guard);
            match handle.ending() {
                Some(Ending::Disconnected(_)) => {
                    assert!(!cancelled);
                    disconnected.push(handle.number());
                }
                ending => assert!(cancelled, "{ending:?}"),
            }
        }
        assert!(bus.close_within(FOR_EVER).in_time);
        let mut reported = reported.lock().expect("fine").clone();
        reported.sort_unstable();
        println!("{} of the handlers were disconnected", disconnected.len());
        assert_eq!(reported, disconnected);
    });
}

/// The drop of a closure panics with a value whose drop panics: threads that wait for the end of
/// the call, and for the close, are notified.
#[test]
fn a_closure_whose_drop_panics_delays_no_wait() {
    for dedicated in [false, true] {
        ends(&format!("dedicated: {dedicated}"), move || {
            let bus = bus::<u64>(|b| b.handler_threads(1).max_handler_threads(1));
            let gate = Gate::default();
            let guard = {
                let gate = gate.clone();
                let owned = OnDrop::new(|| std::panic::resume_unwind(Box::new(OnDrop::panics())));
                let handler = move |_: &_| {
                    let _ = &owned;
                    gate.wait();
                };
                let mut subscription = bus.subscription("a");
                if dedicated {
                    subscription = subscription.dedicated();
                }
                subscription.handler(handler).expect("open")
            };
            bus.publish("a", 0).expect("open");
            eventually("it is called", || gate.waiting() == 1);
            let opening = {
                let gate = gate.clone();
                thread::spawn(move || {
                    yield_for_a_while();
                    gate.open();
                })
            };
            assert!(guard.cancel_and_wait(FOR_EVER));
            opening.join().expect("fine");
            assert!(bus.close_within(FOR_EVER).in_time);
        });
    }
}

/// The logger panics, with a value whose drop panics: the handler is called with the next event.
#[cfg(feature = "tracing")]
#[test]
fn a_logger_that_panics_stops_no_handler() {
    #[derive(Clone)]
    struct Panics;
    impl tracing::Subscriber for Panics {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            metadata.target() == "fanout"
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            std::panic::resume_unwind(Box::new(OnDrop::panics()));
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    let notices = Arc::new(AtomicUsize::new(0));
    let bus = {
        let notices = notices.clone();
        bus::<u64>(|b| {
            // Handlers run on this thread, which has the logger.
            b.dispatch(Dispatch::Manual).observer(move |_| {
                notices.fetch_add(1, Ordering::SeqCst);
                panics_quietly();
            })
        })
    };
    let guard = bus.on("a", |_| Err::<(), _>("no")).expect("open");
    crate::support::with_logger(Panics, || {
        publish_each(&bus, 0..10);
        bus.drive();
    });
    assert_eq!(guard.stats().errors, 10);
    assert_eq!(notices.load(Ordering::SeqCst), 10);
}
