//! A bound without queues and threads: the publishing thread calls all handlers itself. Nothing is
//! isolated: a slow handler delays the publisher and all other handlers. No fan-out library can be
//! faster than this on one thread. The difference to this bound is the cost of the queues and
//! threads of a library.

use std::iter;
use std::sync::{Arc, Mutex};

use crate::harness::{Handler, Outcome, System, Work, run_handlers};
use crate::tick::Ticks;

/// A loop over the handlers on the publishing thread.
pub struct Direct;

impl System for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn about(&self) -> &'static str {
        "a bound, not a peer: a loop over boxed handlers on the publishing thread, without queues \
         and isolation; several publishers share the handlers behind a mutex"
    }

    fn package(&self) -> Option<&'static str> {
        None
    }

    fn is_bound(&self) -> bool {
        true
    }

    fn run(&self, work: &Work) -> Outcome {
        if work.publishers == 1 {
            return run_handlers(work, |handlers| {
                let mut handlers: Vec<_> = handlers.into_iter().map(Handler::boxed).collect();
                vec![move |ticks: Ticks| {
                    for tick in ticks {
                        for handler in &mut handlers {
                            handler(&tick);
                        }
                    }
                }]
            });
        }
        run_handlers(work, |handlers| {
            let handlers: Vec<_> = handlers.into_iter().map(Handler::boxed).collect();
            let handlers = Arc::new(Mutex::new(handlers));
            iter::repeat_n(handlers, work.publishers as usize)
                .map(|handlers| {
                    move |ticks: Ticks| {
                        for tick in ticks {
                            for handler in &mut *handlers.lock().expect("no handler panicked") {
                                handler(&tick);
                            }
                        }
                    }
                })
                .collect()
        })
    }
}
