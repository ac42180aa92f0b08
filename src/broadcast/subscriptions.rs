//! The list of subscriptions of a [`Memory`](super::Memory), and the control that cancels one of
//! them.
//!
//! The bus has a number for each of its subscriptions. The broadcaster needs two more things: the
//! channel of each subscription, for the logger, and how many events were dropped for subscriptions
//! that have ended, for [`dropped`](super::Broadcaster::dropped). Both are kept here.
//!
//! # What keeps what alive
//!
//! The bus owns the logger, the logger's observer owns this list, and each handler owns its
//! [`Listing`] in it. Nothing here owns the bus: an entry has only the counters of its
//! subscription, and a control has only weak references. A strong reference would keep the whole
//! bus alive for as long as the program keeps a guard or a token, or for ever, as a cycle.
//!
//! # Failure modes
//!
//! * **A subscription ends**, for whatever reason: its handler is dropped, and with it the listing,
//!   which removes the entry, and the registrations with tokens. Its shard may drop events for it
//!   for a moment longer. The counters stay until they are final, so that no drop is forgotten or
//!   counted twice.
//! * **The bus does not open a subscription after all**: its handler is dropped, and so is the
//!   listing. The next subscription may have got the same number before that, so a listing removes
//!   an entry only if the counters are its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cancel::Registrations;
use super::control::SubscriptionControl;
use super::event::BroadcastEvent;
use super::incident::{Incident, Logger};
use crate::bus::WeakHandler;
use crate::dispatch::feed::FeedShared;
use crate::handlers::notice::Notice;
use crate::park::deadline_after;
use crate::pattern::Topic;
use crate::sync::{Arc, Mutex};

/// The counters of ended subscriptions are not checked while there are fewer than this.
const UNSETTLED_MIN: usize = 32;

/// The subscriptions of one broadcaster, by number.
///
/// The lock is taken after the lock of the bus's registry, never before it. No user code runs under
/// it. Neither publishing nor handling an event takes it.
#[derive(Default)]
pub(super) struct Subscriptions {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    entries: BTreeMap<u64, Entry>,
    /// The counters of subscriptions that have ended, and were not final at the last check.
    unsettled: Vec<Arc<FeedShared>>,
    /// The length at which these are checked: at least twice their number after the last check, so
    /// that each is checked a few times only.
    check_at: usize,
    /// Events dropped for ended subscriptions whose counters were final. Only grows.
    dropped: u64,
}

struct Entry {
    channel: Topic,
    counters: Arc<FeedShared>,
}

/// The place of a subscription in the list. Its handler owns it.
pub(super) struct Listing {
    subscriptions: Arc<Subscriptions>,
    number: u64,
    counters: Arc<FeedShared>,
    registrations: Arc<Registrations>,
}

impl Subscriptions {
    /// Adds a subscription that the bus is opening. Its first event may arrive at once.
    pub(super) fn insert(
        self: &Arc<Self>,
        number: u64,
        channel: Topic,
        counters: &Arc<FeedShared>,
        registrations: Arc<Registrations>,
    ) -> Listing {
        let entry = Entry {
            channel,
            counters: counters.clone(),
        };
        // What is replaced was never open, and has lost nothing.
        self.list.lock().entries.insert(number, entry);
        Listing {
            subscriptions: self.clone(),
            number,
            counters: counters.clone(),
            registrations,
        }
    }

    /// Events dropped since the beginning, for all subscriptions, ended ones included.
    pub(super) fn dropped(&self) -> u64 {
        let list = &mut *self.list.lock();
        list.settle();
        let open = list.entries.values().map(|entry| &entry.counters);
        list.dropped + open.chain(&list.unsettled).map(lost).sum::<u64>()
    }

    /// Reports a notice of the bus to the logger, by channel.
    pub(super) fn report(&self, logger: &Logger, notice: &Notice<'_>) {
        match *notice {
            Notice::Failed { topic, error, .. } => logger(&Incident::failed(topic.as_str(), error)),
            Notice::Panicked { topic, message, .. } => {
                logger(&Incident::panicked(topic.as_str(), message));
            }
            Notice::Lost { subscription, gap } => {
                logger(&Incident::dropped(&self.channel(subscription), gap.count()));
            }
            Notice::Disconnected { subscription, gap } => {
                logger(&Incident::disconnected(
                    &self.channel(subscription),
                    gap.count(),
                ));
            }
            Notice::Stalled {
                subscription,
                replaced,
            } => logger(&Incident::stalled(&self.channel(subscription), replaced)),
        }
    }

    /// The channel of a subscription. Empty if the subscription has ended, and its handler was
    /// dropped, before another thread could report.
    fn channel(&self, number: u64) -> String {
        let list = self.list.lock();
        let entry = list.entries.get(&number);
        entry.map_or_else(String::new, |entry| entry.channel.to_string())
    }

    /// The numbers of entries, and of ended subscriptions whose counters are kept.
    #[cfg(all(test, not(loom)))]
    pub(super) fn sizes(&self) -> (usize, usize) {
        let list = self.list.lock();
        (list.entries.len(), list.unsettled.len())
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        {
            let list = &mut *self.subscriptions.list.lock();
            let is_own = |entry: &Entry| Arc::ptr_eq(&entry.counters, &self.counters);
            if list.entries.get(&self.number).is_some_and(is_own) {
                list.entries.remove(&self.number);
                list.unsettled.push(self.counters.clone());
                if list.unsettled.len() >= list.check_at.max(UNSETTLED_MIN) {
                    list.settle();
                    list.check_at = 2 * list.unsettled.len();
                }
            }
        }
        self.registrations.end();
    }
}

impl List {
    /// Adds the counters that are final to the sum, and drops them.
    fn settle(&mut self) {
        let Self {
            unsettled, dropped, ..
        } = self;
        unsettled.retain(|counters| {
            // This check comes first: counters that are read after it are final.
            let is_final = counters.is_settled();
            if is_final {
                *dropped += lost(counters);
            }
            !is_final
        });
    }
}

/// Events dropped for this subscription so far.
fn lost(counters: &Arc<FeedShared>) -> u64 {
    counters.stats().lost.iter().sum()
}

/// Cancels one subscription of a [`Memory`](super::Memory).
pub(super) struct MemorySubscription {
    pub(super) handler: WeakHandler<BroadcastEvent>,
    /// They end when the handler is dropped, or when the subscription is cancelled.
    pub(super) registrations: Arc<Registrations>,
}

impl SubscriptionControl for MemorySubscription {
    fn cancel(&self) {
        self.handler.cancel_at_once();
    }

    fn wait(&self, timeout: Duration) -> bool {
        self.handler.wait(deadline_after(timeout))
    }

    fn is_ended(&self) -> bool {
        self.registrations.have_ended()
    }
}
