//! Publishing as a task: the event is accepted when the future is ready, and not before.

use fanout::{Dispatch, PublishError};
use std::task::Poll;

use crate::support::{MODES, bus, ends, eventually, payloads};
use crate::tasks::{RUNTIMES, Task, Wakes, now_or_never, poll};

/// A future that is dropped before its first poll, or while it waits, has published nothing. This
/// holds for the lane of a publisher and for the shared lane.
#[test]
fn a_future_that_is_dropped_has_published_nothing() {
    let bus = bus(|b| b.dispatch(Dispatch::Manual).lane_capacity(2));
    let mut sub = bus.subscribe("a").expect("open");
    let mut publisher = bus.publisher();
    let (_, waker) = Wakes::new();

    drop(bus.publish_async("a", 90));
    drop(publisher.publish_async("a", 91));
    for n in 1..=2 {
        now_or_never(bus.publish_async("a", n))
            .expect("room")
            .expect("open");
        let own = now_or_never(publisher.publish_async("a", 10 + n));
        own.expect("room").expect("open");
    }
    // The lane is full. One future waits for room and is dropped; another one waits, is woken and
    // is dropped.
    for called in [false, true] {
        let mut shared = Box::pin(bus.publish_async("a", 92));
        let mut own = Box::pin(publisher.publish_async("a", 93));
        assert!(poll(&mut shared, &waker).is_pending());
        assert!(poll(&mut own, &waker).is_pending());
        if called {
            bus.drive();
        }
    }
    now_or_never(bus.publish_async("a", 3))
        .expect("room")
        .expect("open");
    bus.drive();
    let mut received = payloads(&mut sub);
    received.sort_unstable();
    assert_eq!(received, [1, 2, 3, 11, 12]);
}

/// The task is woken when there is room, and when the bus closes, which returns the payload.
#[test]
fn a_task_that_waits_for_room_is_woken() {
    for mode in MODES {
        ends(&format!("{mode:?}"), move || {
            let bus = bus(|b| b.dispatch(mode).lane_capacity(2));
            let full = bus.subscription("a").capacity(1);
            let mut sub = full.overflow(fanout::Overflow::Block).open().expect("open");
            let mut publisher = bus.publisher();
            let mut accepted = crate::support::fill_both_lanes(&bus, &mut publisher, &0);
            let ((for_own, own_waker), (for_shared, shared_waker)) = (Wakes::new(), Wakes::new());
            let mut own = Box::pin(publisher.publish_async("a", 1));
            let mut shared = Box::pin(bus.publish_async("a", 2));
            assert!(poll(&mut own, &own_waker).is_pending());
            assert!(poll(&mut shared, &shared_waker).is_pending());
            eventually("both tasks are woken when there is room", || {
                while sub.try_recv().is_ok() {
                    accepted -= 1;
                }
                bus.drive();
                for_own.count() > 0 && for_shared.count() > 0
            });
            assert!(matches!(poll(&mut own, &own_waker), Poll::Ready(Ok(()))));
            assert!(matches!(
                poll(&mut shared, &shared_waker),
                Poll::Ready(Ok(()))
            ));
            drop((own, shared));
            eventually("both arrive, and nothing else", || {
                bus.drive();
                while sub.try_recv().is_ok() {
                    accepted = accepted.wrapping_sub(1);
                }
                accepted == 2_u64.wrapping_neg()
            });

            crate::support::fill(&bus, || bus.try_publish("a", 0).is_ok());
            let mut waiting = Box::pin(bus.publish_async("a", 3));
            let (wakes, waker) = Wakes::new();
            assert!(poll(&mut waiting, &waker).is_pending());
            bus.close();
            drop(sub);
            eventually("the task is woken by the close", || {
                bus.drive();
                wakes.count() > 0
            });
            let answer = poll(&mut waiting, &waker);
            assert!(matches!(answer, Poll::Ready(Err(PublishError::Closed(3)))));
        });
    }
}

/// Many tasks publish through a shared lane with a capacity of two, on any runtime. Each event is
/// accepted once.
#[test]
fn tasks_publish_on_any_runtime() {
    const TASKS: u64 = 8;
    const EACH: u64 = 200;
    for runtime in RUNTIMES {
        ends(&format!("{runtime:?}"), move || {
            let bus = bus(|b| b.lane_capacity(2));
            let mut sub = bus.subscription("a").capacity(4096).open().expect("open");
            let publishing = (0..TASKS).map(|task| -> Task<()> {
                let bus = bus.clone();
                Box::pin(async move {
                    let mut publisher = bus.publisher();
                    for n in 0..EACH {
                        let data = task * EACH + n;
                        let published = if n % 2 == 0 {
                            bus.publish_async("a", data).await
                        } else {
                            publisher.publish_async("a", data).await
                        };
                        published.expect("open");
                    }
                })
            });
            runtime.run(publishing.collect());
            bus.close();
            assert!(bus.close_within(crate::support::FOR_EVER).in_time);
            let mut received = payloads(&mut sub);
            received.sort_unstable();
            assert_eq!(received, (0..TASKS * EACH).collect::<Vec<_>>());
        });
    }
}
