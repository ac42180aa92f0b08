//! Payloads as large as the documentation of [`Bus`] allows fit on a usual stack.
//!
//! How many copies of a payload are on the stack depends on the optimisation of the build. So these
//! tests are a package of their own, which continuous integration also builds with optimisation and
//! without any.

use std::thread;
use std::time::Duration;

use fanout::{Bus, Dispatch, Message};
use futures_lite::future::block_on;

/// The largest payload by value that the documentation of [`Bus`] promises to fit on a usual stack.
const LARGE_BYTES: usize = if cfg!(debug_assertions) { 96 } else { 384 } << 10;

type Large = [u8; LARGE_BYTES];

/// Runs on a thread with the usual stack.
fn on_usual_stack<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let thread = thread::Builder::new().stack_size(2 << 20).spawn(f);
    thread.expect("a thread").join().expect("no panic")
}

fn bus_of_large(dispatch: Dispatch) -> Bus<Large> {
    on_usual_stack(move || {
        let builder = Bus::builder().dispatch(dispatch).lane_capacity(8);
        builder.build().expect("in range")
    })
}

fn assert_intact(data: &[u8], filled_with: u8) {
    assert!(data.iter().all(|&byte| byte == filled_with));
}

/// A large payload by value: no way to publish may hold more than a few copies of it on the stack,
/// and neither may what dispatches it.
#[test]
fn a_large_payload_needs_little_stack() {
    let ways: [fn(&Bus<Large>); 7] = [
        |bus| assert!(bus.publish("a", [1; LARGE_BYTES]).is_ok()),
        |bus| assert!(bus.send(Message::new("a", [1; LARGE_BYTES])).is_ok()),
        |bus| assert!(bus.try_publish("a", [1; LARGE_BYTES]).is_ok()),
        |bus| {
            let sent = bus.publish_timeout("a", [1; LARGE_BYTES], Duration::ZERO);
            assert!(sent.is_ok());
        },
        |bus| assert!(bus.publisher().publish("a", [1; LARGE_BYTES]).is_ok()),
        |bus| assert!(bus.publisher().try_publish("a", [1; LARGE_BYTES]).is_ok()),
        |bus| {
            let mut publishing = std::pin::pin!(bus.publish_async("a", [1; LARGE_BYTES]));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(publishing.as_mut().poll(&mut context).is_ready());
        },
    ];
    let bus = bus_of_large(Dispatch::Manual);
    let mut sub = bus.subscribe("a").expect("open");
    for way in ways {
        let (publishing, driving) = (bus.clone(), bus.clone());
        on_usual_stack(move || way(&publishing));
        assert!(on_usual_stack(move || driving.drive()));
        assert_intact(sub.try_recv().expect("dispatched").data(), 1);
    }
    // The thread that drops the last handle also drops the events that were not sequenced.
    let left = bus.clone();
    on_usual_stack(move || assert!(left.publish("a", [2; LARGE_BYTES]).is_ok()));
    drop(sub);
    on_usual_stack(move || drop(bus));
}

#[test]
fn a_large_payload_is_dispatched_by_the_pool_and_by_its_publisher() {
    for dispatch in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        let bus = bus_of_large(dispatch);
        let mut sub = bus.subscribe("a").expect("open");
        for n in 1..=3 {
            let publishing = bus.clone();
            on_usual_stack(move || {
                let receipt = publishing.publish_sequenced("a", [n; LARGE_BYTES]);
                assert!(receipt.is_ok());
            });
            assert_intact(sub.recv().expect("an event").data(), n);
        }
    }
}

/// A future has its payload inside, so it needs more room.
#[test]
fn a_large_payload_in_a_future_needs_little_stack() {
    const BYTES: usize = if cfg!(debug_assertions) { 48 } else { 128 } << 10;
    for dispatch in [Dispatch::Adaptive, Dispatch::Pool, Dispatch::Inline] {
        on_usual_stack(move || {
            let builder = Bus::builder().dispatch(dispatch).lane_capacity(8);
            let bus = builder.build().expect("in range");
            let mut sub = bus.subscribe("a").expect("open");
            let sending = bus.clone();
            on_usual_stack(move || {
                let message = Message::new("a", [1; BYTES]);
                assert!(block_on(sending.send_sequenced_async(message)).is_ok());
            });
            let mut publisher = bus.publisher();
            on_usual_stack(move || {
                let message = Message::new("a", [1; BYTES]);
                assert!(block_on(publisher.send_sequenced_async(message)).is_ok());
            });
            for _ in 0..2 {
                assert_intact(sub.recv().expect("an event").data(), 1);
            }
        });
    }
}

/// The stack of a dispatcher thread grows with the payloads.
#[test]
fn a_dispatcher_thread_has_room_for_payloads_of_any_size() {
    const BYTES: usize = 1 << 20;
    let publishing = thread::Builder::new().stack_size(64 << 20).spawn(|| {
        let builder = Bus::<[u8; BYTES]>::builder().lane_capacity(2);
        let bus = builder.build().expect("in range");
        let mut sub = bus.subscribe("a").expect("open");
        for n in 1..=3 {
            assert!(bus.publish("a", [n; BYTES]).is_ok());
            assert_intact(sub.recv().expect("an event").data(), n);
        }
    });
    publishing.expect("a thread").join().expect("no panic");
}
