//! Flushing and closing in tasks: the same guarantees as those of the blocking methods, without a
//! thread that waits.

use fanout::{Bus, BusBuilder, Dispatch, Overflow, RecvError, Subscriber};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use crate::support::{
    FOR_EVER, MODES, bus, ends, eventually, ids, manual, panics_quietly, publish_each, read_to_end,
};
use crate::tasks::{RUNTIMES, Runtime, Task, Wakes, block_on, now_or_never, poll};

#[test]
fn a_task_flushes_on_any_runtime() {
    for runtime in RUNTIMES {
        for mode in MODES {
            ends(&format!("{runtime:?}, {mode:?}"), move || {
                let bus = bus::<u64>(|b| b.dispatch(mode).capacity(1 << 14));
                let subs = (0..3).map(|_| bus.subscribe("a").expect("open"));
                let mut subs: Vec<_> = subs.collect();
                let handled = Arc::new(AtomicUsize::new(0));
                let counter = handled.clone();
                let _handler = bus.on("a", move |_| {
                    counter.fetch_add(1, Ordering::SeqCst);
                });
                let flushing: Task<()> = Box::pin({
                    let (bus, handled) = (bus.clone(), handled.clone());
                    async move {
                        for round in 1..=5 {
                            for n in 0..200 {
                                bus.publish_async("a", n).await.expect("open");
                            }
                            assert!(bus.flush_async().await);
                            assert_eq!(handled.load(Ordering::SeqCst), 200 * round);
                        }
                    }
                });
                runtime.run(vec![flushing]);
                for sub in &mut subs {
                    assert_eq!(ids(sub), (1..=1000).collect::<Vec<_>>());
                }
            });
        }
    }
}

#[test]
fn an_idle_bus_is_flushed_at_once() {
    let bus = manual::<u32>();
    assert_eq!(now_or_never(bus.flush_async()), Some(true));
    bus.publish("a", 1).expect("open");
    assert_eq!(now_or_never(bus.flush_async()), Some(true));
    bus.close();
    assert_eq!(now_or_never(bus.flush_async()), Some(true));
}

/// A flush waits for a full `Block` subscriber, is woken when the subscriber makes room, and may be
/// dropped.
#[test]
fn a_flush_waits_for_room_and_may_be_dropped() {
    for mode in MODES {
        ends(&format!("{mode:?}"), move || {
            let bus = bus::<u64>(|b| b.dispatch(mode));
            let sub = bus.subscription("a").capacity(2);
            let mut sub = sub.overflow(Overflow::Block).open().expect("open");
            publish_each(&bus, 0..3);
            let (wakes, waker) = Wakes::new();
            let mut dropped = bus.flush_async();
            assert!(poll(&mut dropped, &waker).is_pending());
            drop(dropped);
            let mut flush = bus.flush_async();
            assert!(poll(&mut flush, &waker).is_pending());
            let mut read = ids(&mut sub);
            eventually("there is room, and the flush is done", || {
                wakes.count() > 0 && poll(&mut flush, &waker) == Poll::Ready(true)
            });
            read.extend(ids(&mut sub));
            assert_eq!(read, [1, 2, 3]);
        });
    }
}

/// A flush that waits for a full subscriber is woken when that is read, cancelled or dropped, also
/// under manual dispatch, where no thread of the bus would drive it.
#[test]
fn a_flush_is_woken_when_a_full_subscriber_makes_room_or_ends() {
    type MakesRoom = fn(&mut Option<Subscriber<u64>>);
    let ways: [(&str, MakesRoom); 3] = [
        ("read", |sub| {
            for _ in 0..3 {
                sub.as_mut().expect("open").recv().expect("published");
            }
        }),
        ("cancelled", |sub| {
            sub.as_ref().expect("open").handle().cancel();
        }),
        ("dropped", |sub| drop(sub.take())),
    ];
    for mode in MODES {
        for (way, make_room) in ways {
            for in_task in [false, true] {
                ends(
                    &format!("{mode:?}, {way}, in a task: {in_task}"),
                    move || {
                        let bus = bus::<u64>(|b| b.dispatch(mode));
                        let sub = bus.subscription("a").capacity(1);
                        let mut sub = Some(sub.overflow(Overflow::Block).open().expect("open"));
                        publish_each(&bus, 0..3);
                        let flushing = thread::spawn(move || match in_task {
                            true => block_on(bus.flush_async()),
                            false => bus.flush_within(FOR_EVER),
                        });
                        thread::sleep(Duration::from_millis(20)); // most often, it waits by now
                        make_room(&mut sub);
                        assert!(flushing.join().expect("no panic"));
                    },
                );
            }
        }
    }
}

/// A handler that is busy delays the flush, and wakes the task when it is done.
#[test]
fn a_flush_waits_for_handlers() {
    for mode in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        for dedicated in [false, true] {
            ends(&format!("{mode:?}, dedicated {dedicated}"), move || {
                let bus = bus::<u64>(|b| b.dispatch(mode));
                let gate = Arc::new(AtomicBool::new(false));
                let opened = gate.clone();
                let mut subscription = bus.subscription("a");
                if dedicated {
                    subscription = subscription.dedicated();
                }
                let handler = subscription.handler(move |_| {
                    while !opened.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                });
                let handler = handler.expect("open");
                bus.publish("a", 1).expect("open");
                let (wakes, waker) = Wakes::new();
                let mut flush = bus.flush_async();
                assert!(poll(&mut flush, &waker).is_pending());
                gate.store(true, Ordering::SeqCst);
                eventually("the flush is done", || {
                    wakes.count() > 0 && poll(&mut flush, &waker) == Poll::Ready(true)
                });
                assert_eq!(handler.stats().received, 1);
            });
        }
    }
}

#[test]
fn a_flush_of_a_broken_bus_returns_false() {
    for mode in MODES {
        ends(&format!("{mode:?}"), move || {
            let bus = bus::<u64>(|b| {
                b.dispatch(mode).weigh(|_| {
                    panics_quietly();
                    0
                })
            });
            bus.publish("a", 1).expect("open");
            assert!(!block_on(bus.flush_async()));
        });
    }
}

/// Under manual dispatch, no other thread checks whether a block timeout is over: a timer wakes the
/// task.
#[test]
fn a_manual_bus_wakes_the_task_after_a_block_timeout() {
    for closes in [false, true] {
        ends(&format!("closes: {closes}"), move || {
            let bus = manual::<u64>();
            let sub = bus.subscription("a").capacity(1).overflow(Overflow::Block);
            let sub = sub.block_timeout(Duration::from_millis(20)).open();
            let sub = sub.expect("open");
            publish_each(&bus, 0..3);
            if closes {
                let report = block_on(bus.close_async());
                assert!(report.in_time);
                assert_eq!((report.unread, report.unsequenced), (1, 0));
            } else {
                assert!(block_on(bus.flush_async()));
            }
            assert_eq!((sub.stats().lost, sub.stats().unread), (2, 1));
        });
    }
}

#[test]
fn a_task_closes_on_any_runtime() {
    for runtime in RUNTIMES {
        for mode in MODES {
            ends(&format!("{runtime:?}, {mode:?}"), move || {
                let bus = bus::<u64>(|b| b.dispatch(mode).capacity(1 << 10));
                let mut sub = bus.subscribe("a").expect("open");
                let handled = Arc::new(AtomicUsize::new(0));
                let counter = handled.clone();
                let _handler = bus.on("a", move |_| {
                    counter.fetch_add(1, Ordering::SeqCst);
                });
                let closing: Task<()> = Box::pin(async move {
                    for n in 0..500 {
                        bus.publish_async("a", n).await.expect("open");
                    }
                    let report = bus.close_async().await;
                    assert_eq!((report.in_time, report.unread, report.lost), (true, 500, 0));
                    assert!(bus.publish_async("a", 500).await.is_err());
                });
                runtime.run(vec![closing]);
                assert_eq!(handled.load(Ordering::SeqCst), 500);
                let (seen, ending) = read_to_end(&mut sub);
                assert_eq!((seen.len(), ending), (500, RecvError::Closed));
            });
        }
    }
}

/// A future that was never polled closes nothing. If the future is dropped while it waits, the bus
/// stays closed, and the rest can be dropped with `close_within`.
#[test]
fn a_close_may_be_dropped() {
    for mode in MODES {
        ends(&format!("{mode:?}"), move || {
            let bus = bus::<u64>(|b| b.dispatch(mode));
            drop(bus.close_async());
            assert!(!bus.is_closed());
            let sub = bus.subscription("a").capacity(2);
            let sub = sub.overflow(Overflow::Block).open().expect("open");
            publish_each(&bus, 0..5);
            let (_, waker) = Wakes::new();
            let mut close = bus.close_async();
            assert!(poll(&mut close, &waker).is_pending());
            drop(close);
            assert!(bus.is_closed());
            let report = bus.close_within(Duration::ZERO);
            assert_eq!((report.in_time, report.unread), (false, 2));
            assert_eq!(report.lost + report.unsequenced, 3);
            drop(sub);
            let report = block_on(bus.close_async());
            assert_eq!((report.in_time, report.unread), (true, 0));
        });
    }
}

/// One thread runs the reader and the close, so the close must not block the thread.
#[test]
fn a_close_does_not_block_the_thread_of_the_reader() {
    ends("one thread", || {
        let build = |b: BusBuilder<u64>| b.overflow(Overflow::Block).capacity(1);
        let bus: Bus<u64> = bus(build);
        let mut sub = bus.subscribe("a").expect("open");
        (0..300).for_each(|n| bus.publish("a", n).expect("the lane has room"));
        let reading: Task<u64> = Box::pin(async move {
            let mut received = 0;
            while sub.recv_async().await.is_ok() {
                received += 1;
            }
            received
        });
        let closing: Task<u64> = Box::pin(async move {
            let report = bus.close_async().await;
            report.lost + report.unsequenced
        });
        let results = Runtime::TokioCurrentThread.run(vec![closing, reading]);
        assert_eq!(results, [0, 300]);
    });
}

/// Several concurrent flushes and closes all end.
#[test]
fn many_tasks_flush_and_close_at_once() {
    for runtime in RUNTIMES {
        ends(&format!("{runtime:?}"), move || {
            let bus = bus::<u64>(|b| b.capacity(1 << 14));
            let sub = bus.subscribe("a").expect("open");
            let tasks = (0..8).map(|task| -> Task<()> {
                let bus = bus.clone();
                Box::pin(async move {
                    for n in 0..50 {
                        bus.publish_async("a", n).await.expect("open");
                        assert!(bus.flush_async().await);
                    }
                    drop(bus.flush_async());
                    if task % 2 == 0 {
                        assert!(bus.flush_async().await);
                    }
                })
            });
            runtime.run(tasks.collect());
            let closes = (0..4).map(|_| -> Task<()> {
                let close = bus.close_async();
                Box::pin(async move { assert!(close.await.in_time) })
            });
            runtime.run(closes.collect());
            assert!(bus.flush_within(FOR_EVER));
            assert_eq!(sub.stats().unread, 400);
        });
    }
}
