//! What keeps what alive. Each test hands a token of its own (an `Arc`) to user code that the bus
//! owns, and counts its owners: a leak leaves an owner that no code can reach.

use fanout::broadcast::{
    BroadcastEvent, Broadcaster, BroadcasterExt, CancelToken, Memory, MemoryBuilder,
    SubscriptionControl, SubscriptionGuard,
};
use fanout::{Bus, BusBuilder, Dispatch, Overflow, SlowLimit, SubscriptionHandle};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use crate::support::{FOR_EVER, ends, eventually, panics_quietly};

/// An `Arc` whose owners are counted.
type Mark = Arc<()>;

#[track_caller]
fn is_released(mark: &Mark) {
    eventually("the last other owner is dropped", || {
        Arc::strong_count(mark) == 1
    });
}

/// A broadcaster whose logger owns the mark. The logger lives as long as the bus inside.
fn marked(mark: &Mark) -> MemoryBuilder {
    let mark = mark.clone();
    Memory::builder().logger(move |_| drop(mark.clone()))
}

fn event() -> BroadcastEvent {
    BroadcastEvent::new("a", "n", "")
}

fn registered(token: &CancelToken) -> String {
    let text = format!("{token:?}");
    let (_, number) = text.split_once("registered: ").expect("the number");
    number.trim_end_matches(" }").to_owned()
}

// ---- the broadcaster in memory -----------------------------------------------------------------

#[test]
fn a_detached_subscription_keeps_no_broadcaster() {
    ends("dropping a broadcaster", || {
        for close in [true, false] {
            let mark = Mark::default();
            let memory = marked(&mark).build().expect("in range");
            memory.on("a", |_| ()).expect("open").detach();
            if close {
                assert!(memory.close_within(FOR_EVER).expect("closed").in_time);
            }
            drop(memory);
            is_released(&mark);
        }
    });
}

#[test]
fn a_guard_that_outlives_its_broadcaster_keeps_nothing_of_it() {
    ends("dropping a broadcaster", || {
        for dedicated in [false, true] {
            let mark = Mark::default();
            let memory = marked(&mark).dedicated(dedicated).build();
            let memory = memory.expect("in range");
            let owned = mark.clone();
            let guard = memory.on("a", move |_| drop(owned.clone())).expect("open");
            let control = memory.on("a", |_| ()).expect("open").into_control();
            memory.publish(event()).expect("open");
            drop(memory);
            is_released(&mark);
            assert!(guard.cancel_and_wait(FOR_EVER));
            control.cancel();
            assert!(control.wait(FOR_EVER));
        }
    });
}

/// The handler owns what cancels it, as a handler that is called once does.
#[test]
fn a_handler_that_owns_its_guard_is_dropped() {
    ends("dropping a broadcaster", || {
        let mark = Mark::default();
        let memory = marked(&mark).build().expect("in range");
        let place = Arc::new(Mutex::new(None));
        let (own, owned) = (place.clone(), mark.clone());
        let guard = memory.on("a", move |_| {
            let _ = (&own, &owned);
        });
        *place.lock().unwrap() = Some(guard.expect("open"));
        drop(place);
        drop(memory);
        is_released(&mark);
    });
}

/// A guard cancels also while nothing but its handler is left of the broadcaster.
#[test]
fn a_guard_cancels_a_handler_that_outlives_its_broadcaster() {
    ends("cancelling", || {
        let mark = Mark::default();
        let memory = Memory::new();
        let (go, gate) = mpsc::channel::<()>();
        let (entered, inside) = mpsc::channel();
        let calls = Arc::new(AtomicU64::new(0));
        let (count, owned) = (calls.clone(), mark.clone());
        let guard = memory.on("a", move |_| {
            let _ = &owned;
            count.fetch_add(1, Ordering::SeqCst);
            entered.send(()).expect("the test waits");
            let _ = gate.recv();
        });
        let guard = guard.expect("open");
        for _ in 0..100 {
            memory.publish(event()).expect("open");
        }
        assert!(inside.recv().is_ok());
        assert!(!memory.flush_within(Duration::from_millis(20)));
        drop(memory);
        guard.cancel();
        drop(go);
        is_released(&mark);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    });
}

/// The cycle of the program is taken apart by `close`.
#[test]
fn a_logger_that_owns_its_broadcaster_is_dropped_after_the_close() {
    ends("closing a broadcaster", || {
        let mark = Mark::default();
        let place = Arc::new(Mutex::new(None::<Arc<Memory>>));
        let (own, owned) = (place.clone(), mark.clone());
        let memory = Memory::builder().logger(move |_| {
            let _ = (&own, &owned);
        });
        let memory = Arc::new(memory.build().expect("in range"));
        *place.lock().unwrap() = Some(memory.clone());
        drop(place);
        memory.on("a", |_| ()).expect("open").detach();
        assert!(memory.close_within(FOR_EVER).expect("closed").in_time);
        drop(memory);
        is_released(&mark);
    });
}

// ---- tokens ------------------------------------------------------------------------------------

#[test]
fn a_token_keeps_nothing_of_a_broadcaster_that_closed() {
    ends("dropping broadcasters", || {
        let (mark, token) = (Mark::default(), CancelToken::new());
        for close in [true, false] {
            let memory = marked(&mark).build().expect("in range");
            for _ in 0..3 {
                let guard = memory.on_until(&token, "a", |_| ()).expect("open");
                guard.detach();
            }
            if close {
                assert!(memory.close_within(FOR_EVER).expect("closed").in_time);
                eventually("nothing is registered", || registered(&token) == "0");
            }
            drop(memory);
            is_released(&mark);
        }
        eventually("nothing is registered", || registered(&token) == "0");
    });
}

#[test]
fn a_token_keeps_no_subscription_that_was_disconnected() {
    ends("disconnecting", || {
        let token = CancelToken::new();
        let memory = Memory::builder().buffer(1).overflow(Overflow::Disconnect);
        let memory = memory.build().expect("in range");
        let (go, gate) = mpsc::channel::<()>();
        let guard = memory.on_until(&token, "a", move |_| {
            let _ = gate.recv();
        });
        guard.expect("open").detach();
        for _ in 0..3 {
            memory.publish(event()).expect("open");
            memory.flush_within(Duration::ZERO);
        }
        eventually("events are dropped", || memory.dropped() > 0);
        drop(go);
        eventually("nothing is registered", || registered(&token) == "0");
        assert!(memory.dropped() > 0);
    });
}

/// A handler that cancels its own token.
#[test]
fn a_handler_that_owns_its_token_is_dropped() {
    ends("dropping a broadcaster", || {
        let mark = Mark::default();
        let memory = marked(&mark).build().expect("in range");
        let token = CancelToken::new();
        let (own, owned) = (token.clone(), mark.clone());
        let guard = memory.on_until(&token, "a", move |_| {
            let _ = &owned;
            own.cancel();
        });
        guard.expect("open").detach();
        drop(token);
        drop(memory);
        is_released(&mark);
    });
}

/// The first token that is cancelled ends the subscription, so the others forget it.
#[test]
fn a_token_keeps_no_subscription_that_another_token_cancelled() {
    ends("cancelling", || {
        let mark = Mark::default();
        let memory = Memory::new();
        let tokens = [(); 3].map(|()| CancelToken::new());
        let owned = mark.clone();
        let local = memory.on("a", move |_| drop(owned.clone())).expect("open");
        let driver = SubscriptionGuard::new(Nothing(mark.clone()));
        for guard in [local, driver] {
            assert!(tokens.iter().all(|token| guard.cancel_with(token)));
            guard.detach();
        }
        tokens[1].cancel();
        assert_eq!([0, 1, 2].map(|n| registered(&tokens[n])), ["0", "0", "0"]);
        is_released(&mark);
    });
}

/// A request has a token of its own, and the subscription lives through many requests.
#[test]
fn a_subscription_keeps_no_token_that_was_dropped() {
    let mark = Mark::default();
    let memory = Memory::new();
    let guard = memory.on("a", |_| ()).expect("open");
    for _ in 0..1000 {
        let token = CancelToken::new();
        assert!(guard.cancel_with(&token));
        let other = SubscriptionGuard::new(Nothing(mark.clone()));
        assert!(other.cancel_with(&token));
        other.detach();
    }
    assert_eq!(Arc::strong_count(&mark), 1);
    let debug = format!("{guard:?}");
    assert!(debug.contains("tokens: 0"), "{debug}");
}

#[test]
fn a_token_registers_no_subscription_that_has_ended() {
    ends("cancelling", || {
        let (memory, token) = (Memory::new(), CancelToken::new());
        let cancelled = memory.on("a", |_| ()).expect("open");
        cancelled.cancel();
        assert!(cancelled.cancel_with(&token));
        let closed = memory.on("a", |_| ()).expect("open");
        assert!(memory.close_within(FOR_EVER).expect("closed").in_time);
        assert!(closed.cancel_with(&token));
        cancelled.detach();
        closed.detach();
        eventually("nothing is registered", || registered(&token) == "0");
    });
}

/// A driver's control says when its local subscription has ended.
#[test]
fn a_token_keeps_few_subscriptions_of_drivers_that_have_ended() {
    ends("closing local halves", || {
        let (mark, token) = (Mark::default(), CancelToken::new());
        for _ in 0..100 {
            let local = Memory::new();
            let guard = local.on("a", |_| ()).expect("open");
            let control = Local(guard.into_control(), mark.clone());
            let guard = SubscriptionGuard::new(control);
            assert!(guard.cancel_with(&token));
            guard.detach();
            // That a close ends in time is the subject of other tests.
            let _ = local.close_within(Duration::from_secs(5)).expect("closed");
        }
        // It checks when there are 32, or twice as many as were left the last time.
        let kept = Arc::strong_count(&mark) - 1;
        assert!(kept <= 64, "{kept}");
        token.cancel();
        assert_eq!(Arc::strong_count(&mark), 1);
    });
}

struct Local(
    Arc<dyn SubscriptionControl>,
    #[expect(dead_code, reason = "its owners are counted")] Mark,
);

impl SubscriptionControl for Local {
    fn cancel(&self) {
        self.0.cancel();
    }
    fn wait(&self, timeout: Duration) -> bool {
        self.0.wait(timeout)
    }
    fn is_ended(&self) -> bool {
        self.0.is_ended()
    }
}

struct Nothing(#[expect(dead_code, reason = "its owners are counted")] Mark);

impl SubscriptionControl for Nothing {
    fn cancel(&self) {}
    fn wait(&self, _timeout: Duration) -> bool {
        true
    }
}

// ---- the bus -----------------------------------------------------------------------------------

/// A bus whose clock owns the mark. The clock lives as long as the core of the bus.
fn marked_bus(mark: &Mark) -> BusBuilder<u32> {
    let mark = mark.clone();
    Bus::builder().clock(move || {
        let _ = &mark;
        SystemTime::now()
    })
}

/// What a callback of a bus finds its subscriptions in.
type Handles = Arc<Mutex<Vec<SubscriptionHandle<u32>>>>;

const DISPATCH: [Dispatch; 4] = [
    Dispatch::Adaptive,
    Dispatch::Pool,
    Dispatch::Manual,
    Dispatch::Inline,
];

/// An observer gets numbers, so a program gives it the handles that it finds by number.
#[test]
fn an_observer_that_owns_handles_is_dropped_with_its_bus() {
    ends("dropping a bus", || {
        for dispatch in DISPATCH {
            let mark = Mark::default();
            let handles = Handles::default();
            let known = handles.clone();
            let bus = marked_bus(&mark)
                .dispatch(dispatch)
                .observer(move |notice| {
                    let _ = (notice, known.lock().unwrap().len());
                })
                .build()
                .expect("in range");
            let handle = bus.on("a", |_| ()).expect("open").detach();
            handles.lock().unwrap().push(handle);
            bus.publish("a", 1).expect("open");
            drop(handles);
            drop(bus);
            is_released(&mark);
        }
    });
}

/// The same without any handler, so that there is no pool.
#[test]
fn an_observer_of_a_bus_without_handlers_is_dropped_with_it() {
    ends("dropping a bus", || {
        for dispatch in DISPATCH {
            let mark = Mark::default();
            let handles = Handles::default();
            let known = handles.clone();
            let bus = marked_bus(&mark)
                .dispatch(dispatch)
                .observer(move |_| {
                    let _ = known.lock().unwrap().len();
                })
                .build()
                .expect("in range");
            let handle = bus.subscribe("a").expect("open").handle();
            handles.lock().unwrap().push(handle);
            drop(handles);
            drop(bus);
            is_released(&mark);
        }
    });
}

/// A callback keeps the handles of the subscribers that are slow.
#[test]
fn a_callback_for_slow_subscribers_that_owns_handles_is_dropped_with_its_bus() {
    ends("dropping a bus", || {
        for dispatch in DISPATCH {
            for close in [true, false] {
                let mark = Mark::default();
                let handles = Handles::default();
                let slow = handles.clone();
                let bus = marked_bus(&mark)
                    .dispatch(dispatch)
                    .on_slow(SlowLimit::percent(50), move |notice| {
                        slow.lock().unwrap().push(notice.subscription().clone());
                    })
                    .build()
                    .expect("in range");
                let sub = bus.subscription("a").capacity(2).open().expect("open");
                for n in 0..4 {
                    bus.publish("a", n).expect("open");
                }
                bus.drive();
                eventually("the subscriber is slow", || {
                    !handles.lock().unwrap().is_empty()
                });
                drop(handles);
                if close {
                    bus.close();
                }
                drop(sub);
                drop(bus);
                is_released(&mark);
            }
        }
    });
}

#[test]
fn callbacks_that_own_a_weak_bus_are_dropped_with_it() {
    ends("dropping a bus", || {
        for dispatch in DISPATCH {
            let mark = Mark::default();
            let place = Arc::new(Mutex::new(None::<fanout::WeakBus<u32>>));
            let (observers, slow) = (place.clone(), place.clone());
            let bus = marked_bus(&mark)
                .dispatch(dispatch)
                .observer(move |_| drop(observers.lock().unwrap().clone()))
                .on_slow(SlowLimit::percent(50), move |_| {
                    drop(slow.lock().unwrap().clone());
                })
                .build()
                .expect("in range");
            *place.lock().unwrap() = Some(bus.downgrade());
            let own = bus.downgrade();
            let _handle = bus
                .on("a", move |_| drop(own.upgrade()))
                .expect("open")
                .detach();
            drop(_handle);
            bus.publish("a", 1).expect("open");
            drop(bus);
            is_released(&mark);
        }
    });
}

/// Inside a handler no handler of another bus runs, so the events of that bus wait in its rings.
#[test]
fn a_manual_bus_that_is_dropped_inside_a_handler_is_released() {
    ends("dropping a bus inside a handler", || {
        let mark = Mark::default();
        let outer = Bus::<u32>::new();
        let inner = marked_bus(&mark).dispatch(Dispatch::Manual);
        let inner = inner.build().expect("in range");
        let owned = mark.clone();
        let guard = inner.on("a", move |_| drop(owned.clone())).expect("open");
        drop(guard.detach());
        inner.publish("a", 1).expect("open");
        let mut inner = Some(inner);
        let (done, dropped) = mpsc::channel();
        let guard = outer.on("a", move |_| {
            drop(inner.take());
            let _ = done.send(());
        });
        outer.publish("a", 1).expect("open");
        dropped.recv().expect("the handler runs");
        drop(guard);
        is_released(&mark);
    });
}

#[test]
fn a_handler_of_a_bus_that_refuses_it_is_dropped() {
    let mark = Mark::default();
    let bus = marked_bus(&mark).build().expect("in range");
    bus.close();
    let owned = mark.clone();
    assert!(bus.on("a", move |_| drop(owned.clone())).is_err());
    let owned = mark.clone();
    let dedicated = bus.subscription("a").dedicated();
    assert!(dedicated.handler(move |_| drop(owned.clone())).is_err());
    drop(bus);
    is_released(&mark);
}

/// A handler that owns its own guard, or the only handle to its bus, for each way to dispatch.
#[test]
fn a_handler_that_owns_its_guard_or_its_bus_is_dropped() {
    ends("dropping a bus", || {
        for dispatch in DISPATCH {
            for (dedicated, owns_bus) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                let mark = Mark::default();
                let bus = marked_bus(&mark).dispatch(dispatch).build();
                let bus = bus.expect("in range");
                let place = Arc::new(Mutex::new(None));
                let (own, owned) = (place.clone(), mark.clone());
                let mut subscription = bus.subscription("a");
                if dedicated {
                    subscription = subscription.dedicated();
                }
                let guard = subscription.handler(move |_| {
                    let _ = (&own, &owned);
                });
                let guard = guard.expect("open");
                bus.publish("a", 1).expect("open");
                if owns_bus {
                    *place.lock().unwrap() = Some((guard, Some(bus.clone())));
                    bus.close();
                } else {
                    *place.lock().unwrap() = Some((guard, None));
                }
                drop(place);
                drop(bus);
                is_released(&mark);
            }
        }
    });
}

/// The handlers of a bus that breaks end, and so does what they and the observer own.
#[test]
fn a_bus_that_broke_is_released() {
    ends("dropping a bus", || {
        for dispatch in DISPATCH {
            let mark = Mark::default();
            let handles = Handles::default();
            let (known, own, owned) = (handles.clone(), handles.clone(), mark.clone());
            let bus = marked_bus(&mark)
                .dispatch(dispatch)
                .weigh(|&n| {
                    if n == 2 {
                        panics_quietly();
                    }
                    0
                })
                .observer(move |_| {
                    let _ = &known;
                })
                .build()
                .expect("in range");
            let handle = bus.on("a", move |_| {
                let _ = (&own, &owned);
            });
            handles.lock().unwrap().push(handle.expect("open").detach());
            drop(handles);
            bus.publish("a", 1).expect("open");
            let _ = bus.publish("a", 2);
            eventually("the bus is broken", || {
                bus.drive();
                bus.publish("a", 3).is_err()
            });
            drop(bus);
            is_released(&mark);
        }
    });
}
