//! A call that blocks a thread does not use the token of `std::thread::park`, which belongs to the
//! program.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use fanout::{Bus, Dispatch, Overflow, RecvTimeoutError, TryRecvError};

use crate::support::ends;
use crate::tasks::block_on;

const SHORT: Duration = Duration::from_millis(20);

/// Runs a call inside an executor that parks its thread, after the task was woken. If the call took
/// the token, the executor would sleep for ever.
fn blocks_inside_an_executor(what: &str, mut call: impl FnMut() + Send + 'static) {
    ends(what, move || {
        let mut called = false;
        block_on(poll_fn(|context| {
            if std::mem::replace(&mut called, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            call();
            Poll::Pending
        }));
    });
}

#[test]
fn a_receive_that_times_out_takes_no_token() {
    let bus = Bus::<u64>::new();
    let mut sub = bus.subscribe("a").expect("open");
    blocks_inside_an_executor("recv_timeout in a task", move || {
        let timeout = sub.recv_timeout(SHORT).map(|_| ()).unwrap_err();
        assert_eq!(timeout, RecvTimeoutError::Timeout);
    });
}

#[test]
fn a_receive_that_is_woken_takes_no_token() {
    let bus = Bus::<u64>::new();
    let mut sub = bus.subscribe("a").expect("open");
    blocks_inside_an_executor("recv in a task", move || {
        assert_eq!(sub.try_recv().map(|_| ()).unwrap_err(), TryRecvError::Empty);
        let bus = bus.clone();
        // Not in a scope, whose end unparks this thread.
        let publishing = std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            bus.publish("a", 7).expect("open");
        });
        assert_eq!(*sub.recv().expect("published").data(), 7);
        publishing.join().expect("published");
    });
}

#[test]
fn a_flush_that_times_out_takes_no_token() {
    let builder = Bus::<u64>::builder().dispatch(Dispatch::Manual);
    let bus = builder.blocking(true).build().expect("in range");
    let block = bus.subscription("a").capacity(1).overflow(Overflow::Block);
    let _full = block.open().expect("open");
    bus.publish("a", 7).expect("open");
    bus.publish("a", 8).expect("open");
    blocks_inside_an_executor("flush_within in a task", move || {
        assert!(!bus.flush_within(SHORT), "the second event has no room");
    });
}
