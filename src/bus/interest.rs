//! Whether a topic has subscribers: an answer that takes no lock.
//!
//! The answer comes from the indexes of the shards, of which every thread can load a snapshot.
//! Apart from a cancel in progress, a subscription that has ended is in the index only if its shard
//! disconnected it, because a shard disconnects without a lock and does not change the index. This
//! file finds the disconnected subscriptions by their slots, so that they are not counted.

use std::sync::OnceLock;

use super::Bus;
use crate::dispatch::feed::{End, FeedShared};
use crate::dispatch::topic_arg::AsTopic;
use crate::dispatch::topic_arg::sealed::Key;
use crate::sync::{Arc, PublishedOption};

/// The first chunk has 32 slots. Each chunk has twice as many as the one before.
const FIRST_CHUNK_BITS: u32 = 5;

/// Enough chunks for all slots that a `u32` can name.
const CHUNKS: usize = (u32::BITS - FIRST_CHUNK_BITS + 1) as usize;

/// The feeds that a shard may disconnect, by slot. They are written under the registry's lock and
/// read without a lock. A chunk is allocated for the first such subscription in it.
pub(super) struct DisconnectableFeeds {
    chunks: [OnceLock<Chunk>; CHUNKS],
}

type Chunk = Box<[PublishedOption<FeedShared>]>;

impl DisconnectableFeeds {
    pub(super) fn new() -> Self {
        Self {
            chunks: [const { OnceLock::new() }; CHUNKS],
        }
    }

    /// Enters a subscription that may be disconnected, which has this slot from now on.
    pub(super) fn set(&self, slot: u32, feed: Arc<FeedShared>) {
        let (chunk, index) = place(slot);
        let slots = || (0..chunk_slots(chunk)).map(|_| PublishedOption::new());
        let chunk = self.chunks[chunk].get_or_init(|| slots().collect());
        chunk[index].store(Some(feed));
    }

    /// Removes the subscription that had this slot and was unregistered.
    pub(super) fn clear(&self, slot: u32) {
        let (chunk, index) = place(slot);
        if let Some(chunk) = self.chunks[chunk].get() {
            chunk[index].store(None);
        }
    }

    /// Whether the subscription that has this slot was disconnected.
    fn is_disconnected(&self, slot: u32) -> bool {
        let (chunk, index) = place(slot);
        let Some(chunk) = self.chunks[chunk].get() else {
            return false;
        };
        let feed = chunk[index].load();
        feed.as_ref().is_some_and(|feed| feed.end() != End::None)
    }
}

/// The chunk of a slot, and the position of the slot in the chunk.
fn place(slot: u32) -> (usize, usize) {
    // After the size of the first chunk is added, the highest set bit of a slot is the number of
    // its chunk.
    let shifted = u64::from(slot) + (1 << FIRST_CHUNK_BITS);
    let chunk = shifted.ilog2() - FIRST_CHUNK_BITS;
    let index = (shifted - (1 << shifted.ilog2())) as usize;
    debug_assert!(index < chunk_slots(chunk as usize));
    (chunk as usize, index)
}

fn chunk_slots(chunk: usize) -> usize {
    1 << (chunk + FIRST_CHUNK_BITS as usize)
}

impl<T: Send + Sync + 'static> Bus<T> {
    /// Returns whether an event on this topic would reach a subscription now. So a program can
    /// avoid the work of creating an event that no subscription would receive.
    ///
    /// The call takes no lock, never waits, and looks the topic up once in the index of each shard.
    /// It sees every subscription that was opened, cancelled or changed before the call began; it
    /// may or may not see changes that other threads make meanwhile. Handlers count, disconnected
    /// subscriptions do not. Returns `false` if the bus is closed or the text is not a valid topic.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<String>::new();
    /// assert!(!bus.has_subscribers("prices.eur"));
    /// let _sub = bus.subscribe("prices.*")?;
    /// if bus.has_subscribers("prices.eur") {
    ///     bus.publish("prices.eur", "an expensive payload".to_owned())?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn has_subscribers(&self, topic: impl AsTopic) -> bool {
        self.count_subscribers(&topic, 1) != 0
    }

    /// Returns the number of subscriptions that an event on this topic would reach now, handlers
    /// included. The cost and the limits are those of [`has_subscribers`](Self::has_subscribers).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bus = fanout::Bus::<u32>::new();
    /// let _all = bus.subscribe("**")?;
    /// let _some = bus.subscribe(["prices.*", "prices.eur"])?; // one subscription
    /// assert_eq!(bus.subscriber_count("prices.eur"), 2);
    /// assert_eq!(bus.subscriber_count("orders"), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscriber_count(&self, topic: impl AsTopic) -> usize {
        self.count_subscribers(&topic, usize::MAX)
    }

    /// Counts the subscriptions, up to `enough`.
    fn count_subscribers(&self, topic: &impl Key, enough: usize) -> usize {
        let core = &self.open.core;
        if core.engine.is_closing() {
            return 0;
        }
        let Ok(topic) = topic.to_topic() else {
            return 0;
        };
        let mut count = 0;
        for (shard, disconnectable) in core.disconnectable.iter().enumerate() {
            let routes = &core.engine.shard_shared(shard).routes;
            routes.with_matches(&topic, &mut |slots| {
                let open = |slot: &&u32| !disconnectable.is_disconnected(**slot);
                count += slots.iter().filter(open).take(enough - count).count();
            });
            if count >= enough {
                break;
            }
        }
        debug_assert!(count <= enough);
        count
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_place_of_its_own() {
        let mut expected = Vec::new();
        for chunk in 0..6 {
            expected.extend((0..chunk_slots(chunk)).map(|index| (chunk, index)));
        }
        let places: Vec<_> = (0..expected.len() as u32).map(place).collect();
        assert_eq!(places, expected);
        let (chunk, index) = place(u32::MAX);
        assert!(chunk < CHUNKS && index < chunk_slots(chunk));
    }
}
