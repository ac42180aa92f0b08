//! The list of subscriptions of a [`Memory`](super::Memory), and the control that cancels one of
//! them.
//!
//! The bus knows its subscriptions by number. The broadcaster needs two more things: the channel of
//! each subscription, for the logger, and how many events were dropped for subscriptions that have
//! ended, for [`dropped`](super::Broadcaster::dropped). Both are kept here.
//!
//! # Failure modes
//!
//! * **A subscription is cancelled while its shard delivers to it**: the shard may drop events for
//!   it for a moment longer. The entry stays until that number is final, so that no drop is
//!   forgotten or counted twice.
//! * **A handler owns guards or tokens of the same broadcaster**: dropping it cancels other
//!   subscriptions. Entries are therefore dropped only after the lock is released.

use std::collections::BTreeMap;
use std::time::Duration;

use super::control::SubscriptionControl;
use super::event::Event;
use super::incident::{Incident, Logger};
use crate::bus::SubscriptionHandle;
use crate::handlers::notice::Notice;
use crate::park::deadline_after;
use crate::pattern::Topic;
use crate::sync::{Arc, Mutex};

/// The subscriptions of one broadcaster, by number.
///
/// The lock is taken after the lock of the bus's registry, never before it. Neither publishing nor
/// handling an event takes it.
#[derive(Default)]
pub(super) struct Subscriptions {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    entries: BTreeMap<u64, Entry>,
    /// Numbers of cancelled subscriptions that may still lose events. Each has an entry.
    cancelled: Vec<u64>,
    /// Events dropped for subscriptions whose entries were removed. Only grows.
    dropped: u64,
}

struct Entry {
    channel: Topic,
    /// `None` until the bus has opened the subscription.
    handle: Option<SubscriptionHandle<Event>>,
}

impl Entry {
    /// Events dropped for this subscription so far.
    fn dropped(&self) -> u64 {
        self.handle.as_ref().map_or(0, |open| open.stats().lost)
    }

    /// Whether [`dropped`](Self::dropped) no longer changes. The shard fixes the last id when it
    /// stops delivering to the subscription.
    fn is_final(&self) -> bool {
        self.handle
            .as_ref()
            .is_none_or(|open| open.last_id().is_some())
    }
}

impl Subscriptions {
    /// Adds a subscription that the bus is opening. Its first event may arrive at once.
    pub(super) fn insert(&self, number: u64, channel: Topic) {
        let entry = Entry {
            channel,
            handle: None,
        };
        let previous = self.list.lock().entries.insert(number, entry);
        debug_assert!(previous.is_none(), "the bus used number {number} twice");
    }

    /// Completes the entry of a subscription that the bus has opened.
    pub(super) fn opened(&self, handle: &SubscriptionHandle<Event>) {
        let mut list = self.list.lock();
        let entry = list.entries.get_mut(&handle.number());
        debug_assert!(entry.is_some(), "an open subscription has an entry");
        if let Some(entry) = entry {
            entry.handle = Some(handle.clone());
        }
        let removed = list.remove_final();
        drop(list);
        drop(removed);
    }

    /// Removes a subscription that the bus did not open after all.
    pub(super) fn remove(&self, number: u64) {
        let removed = self.list.lock().entries.remove(&number);
        debug_assert!(removed.is_some_and(|entry| entry.handle.is_none()));
    }

    /// Removes a cancelled subscription, as soon as its count of dropped events is final.
    fn cancelled(&self, number: u64) {
        let mut list = self.list.lock();
        if list.entries.contains_key(&number) && !list.cancelled.contains(&number) {
            list.cancelled.push(number);
        }
        let removed = list.remove_final();
        drop(list);
        drop(removed);
    }

    /// Events dropped since the beginning, for all subscriptions, ended ones included.
    pub(super) fn dropped(&self) -> u64 {
        let mut list = self.list.lock();
        let removed = list.remove_final();
        let dropped = list.dropped + list.entries.values().map(Entry::dropped).sum::<u64>();
        drop(list);
        drop(removed);
        dropped
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

    /// The channel of a subscription. Empty if the subscription was cancelled and removed before
    /// its handler's thread could report.
    fn channel(&self, number: u64) -> String {
        let list = self.list.lock();
        let entry = list.entries.get(&number);
        entry.map_or_else(String::new, |entry| entry.channel.to_string())
    }
}

impl List {
    /// Removes the cancelled subscriptions that can lose no more events, and adds their losses to
    /// the sum. The caller drops the entries after it has released the lock: an entry may be the
    /// last owner of a handler, and dropping a handler runs user code.
    #[must_use]
    fn remove_final(&mut self) -> Vec<Entry> {
        let Self {
            entries,
            cancelled,
            dropped,
        } = self;
        let mut removed = Vec::new();
        cancelled.retain(|number| {
            if entries.get(number).is_some_and(|entry| !entry.is_final()) {
                return true;
            }
            if let Some(entry) = entries.remove(number) {
                *dropped += entry.dropped();
                removed.push(entry);
            }
            false
        });
        debug_assert!(
            cancelled.len() <= entries.len(),
            "each cancelled subscription that is listed has an entry"
        );
        removed
    }
}

/// Cancels one subscription of a [`Memory`](super::Memory).
pub(super) struct MemorySubscription {
    pub(super) handle: SubscriptionHandle<Event>,
    pub(super) subscriptions: Arc<Subscriptions>,
}

impl SubscriptionControl for MemorySubscription {
    fn cancel(&self) {
        self.handle.cancel_at_once();
        self.subscriptions.cancelled(self.handle.number());
    }

    fn wait(&self, timeout: Duration) -> bool {
        self.handle.wait_for_handler(deadline_after(timeout))
    }
}
