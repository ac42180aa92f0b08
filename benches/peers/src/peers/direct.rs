//! No system at all: the publishing thread calls all closures itself. Nobody is isolated from
//! anybody: a slow closure holds up the publisher and all other closures. No fan-out engine can be
//! faster than this on one thread; how near one comes is what its queues and threads cost.

use std::iter;
use std::sync::{Arc, Mutex};

use crate::race::{Outcome, System, Work, race_handlers};
use crate::tick::Ticks;

/// See the module.
pub struct Direct;

impl System for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn about(&self) -> &'static str {
        "no peer, an upper bound: a loop over boxed closures on the publishing thread, no queue, no \
         isolation; several publishers share the loop behind a mutex"
    }

    fn package(&self) -> Option<&'static str> {
        None
    }

    fn is_bound(&self) -> bool {
        true
    }

    fn run(&self, work: &Work) -> Outcome {
        if work.publishers == 1 {
            return race_handlers(work, |handlers| {
                let mut closures: Vec<_> = handlers.into_iter().map(|one| one.boxed()).collect();
                vec![move |ticks: Ticks| {
                    for tick in ticks {
                        for closure in &mut closures {
                            closure(&tick);
                        }
                    }
                }]
            });
        }
        race_handlers(work, |handlers| {
            let closures: Vec<_> = handlers.into_iter().map(|one| one.boxed()).collect();
            let closures = Arc::new(Mutex::new(closures));
            iter::repeat_n(closures, work.publishers as usize)
                .map(|closures| {
                    move |ticks: Ticks| {
                        for tick in ticks {
                            for closure in &mut *closures.lock().expect("no closure panicked") {
                                closure(&tick);
                            }
                        }
                    }
                })
                .collect()
        })
    }
}
