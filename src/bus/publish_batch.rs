//! Publishing the payloads of an iterator: several events are published together.
//!
//! * **In**: a topic, and payloads from an iterator, which is user code.
//! * **Out**: pending events in a lane, up to 64 published by one atomic instruction. They are now
//!   **accepted**. Or an error, which returns the payloads that are not.
//! * **Called by**: `publish_batch` of [`Publisher`](super::Publisher) and [`Bus`](super::Bus).
//! * **Next file**: `dispatch/sequencer.rs`, as for a single event.
//!
//! | lane | an event waits for the rest of its batch |
//! | --- | --- |
//! | that of a `Publisher` | in the lane, staged: nobody else writes there |
//! | the shared one | in a buffer: a place in the lane that is claimed must be written at once |
//!
//! # Failure modes
//!
//! * **The lane is full**: what the batch has so far is published, and the call waits.
//! * **The lane is closed**: the error returns the payloads that are not published.
//! * **The iterator panics**: what it returned before is published: in the lane of a `Publisher`
//!   always, in the shared lane as far as it has room. The rest is dropped.

use std::collections::VecDeque;

use super::error::{PublishError, Refused, RefusedError};
use super::message::Heading;
#[cfg(feature = "latency")]
use super::publish::stamp_behind;
use super::publish::{
    EventHead, LaneSender, NoRoom, OwnLaneSender, Patience, SharedLaneSender, closed_or_broken,
    wait_for_room,
};
use crate::dispatch::block::{BLOCK_EVENTS_MAX, EnvelopeStock};
use crate::dispatch::lane::Pending;
use crate::dispatch::topic_arg::AsTopic;
use crate::park::Registration;
use crate::ring::spsc;

/// The largest number of events of a batch that are published together: those of a block. The first
/// of them is delayed by at most the time that the iterator takes to return a block of events.
const COMMIT_EVENTS: usize = BLOCK_EVENTS_MAX;

/// Accepts the payloads of an iterator in the lane of a `Publisher`. Returns how many.
pub(super) fn publish_to_own_lane<T, K: AsTopic>(
    mut sender: OwnLaneSender<'_, T>,
    heading: &Heading<'_, K>,
    payloads: impl Iterator<Item = T>,
) -> Result<usize, PublishError<Vec<T>>> {
    let envelopes = envelopes(&mut sender, heading)?;
    let mut batch = OwnBatch {
        sender,
        envelopes,
        staged: 0,
        accepted: 0,
    };
    for data in payloads {
        if let Err(refused) = batch.reserve() {
            return Err(batch.refuse(refused, Some(data)));
        }
        if batch.stage(data) == COMMIT_EVENTS
            && let Err(spsc::Closed) = batch.commit()
        {
            return Err(batch.refuse_staged());
        }
    }
    match batch.commit() {
        Ok(()) => Ok(batch.accepted),
        Err(spsc::Closed) => Err(batch.refuse_staged()),
    }
}

/// A batch for the lane of a `Publisher`. Its events are written into the lane one by one.
struct OwnBatch<'a, T> {
    sender: OwnLaneSender<'a, T>,
    envelopes: EnvelopeStock,
    /// Events in the lane that are not published yet, 0 to [`COMMIT_EVENTS`].
    staged: usize,
    accepted: usize,
}

impl<T> OwnBatch<'_, T> {
    /// Waits until there is room for an event.
    #[inline]
    fn reserve(&mut self) -> Result<(), Refused> {
        match self.sender.try_reserve() {
            Ok(()) => Ok(()),
            Err(no_room) => self.wait_for_room(no_room),
        }
    }

    #[cold]
    fn wait_for_room(&mut self, no_room: NoRoom) -> Result<(), Refused> {
        // The sequencer makes the room, so it has to see what is in the lane.
        if self.commit().is_err() {
            return Err(closed_or_broken(self.sender.engine));
        }
        let mut waited = Registration::default();
        wait_for_room(&mut self.sender, no_room, Patience::Unlimited, &mut waited)?;
        self.sender.forget_request(&mut waited);
        Ok(())
    }

    /// Stages an event, for which room was reserved. Returns how many are staged.
    #[inline]
    fn stage(&mut self, data: T) -> usize {
        let event = event_head(&mut self.envelopes, &self.sender, 0);
        self.sender.stage(event, data);
        self.staged += 1;
        debug_assert!(self.staged <= COMMIT_EVENTS);
        self.staged
    }

    /// Publishes what is staged.
    fn commit(&mut self) -> Result<(), spsc::Closed> {
        if self.staged == 0 {
            return Ok(());
        }
        self.sender.commit()?;
        self.accepted += std::mem::take(&mut self.staged);
        Ok(())
    }

    #[cold]
    fn refuse_staged(&mut self) -> PublishError<Vec<T>> {
        let refused = closed_or_broken(self.sender.engine);
        self.refuse(refused, None)
    }

    /// Returns the events that are staged, and the one that found no room, in their order.
    #[cold]
    fn refuse(&mut self, refused: Refused, last: Option<T>) -> PublishError<Vec<T>> {
        let mut payloads: Vec<T> = self.take_back().map(|pending| pending.data).collect();
        payloads.reverse();
        payloads.extend(last);
        PublishError::new(refused, payloads)
    }

    /// Takes back what is staged, the last event first.
    fn take_back(&mut self) -> impl Iterator<Item = Pending<T>> {
        self.staged = 0;
        std::iter::from_fn(|| self.sender.lane.unstage())
    }
}

impl<T> Drop for OwnBatch<'_, T> {
    /// The iterator has panicked: the payloads that it returned before are published.
    fn drop(&mut self) {
        if self.commit().is_err() {
            self.take_back().for_each(Pending::discard);
        }
    }
}

/// Accepts the payloads of an iterator in the shared lane. Returns how many.
pub(super) fn publish_to_shared_lane<T, K: AsTopic>(
    mut sender: SharedLaneSender<'_, T>,
    heading: &Heading<'_, K>,
    payloads: impl Iterator<Item = T>,
) -> Result<usize, PublishError<Vec<T>>> {
    let envelopes = envelopes(&mut sender, heading)?;
    let expected = payloads.size_hint().1.unwrap_or(COMMIT_EVENTS);
    let mut batch = SharedBatch {
        sender,
        envelopes,
        buffer: VecDeque::with_capacity(expected.min(COMMIT_EVENTS)),
        accepted: 0,
    };
    for data in payloads {
        batch.push(data);
        if batch.buffer.len() == COMMIT_EVENTS
            && let Err(refused) = batch.publish()
        {
            return Err(batch.refuse(refused));
        }
    }
    match batch.publish() {
        Ok(()) => Ok(batch.accepted),
        Err(refused) => Err(batch.refuse(refused)),
    }
}

/// A batch for the shared lane.
struct SharedBatch<'a, T> {
    sender: SharedLaneSender<'a, T>,
    envelopes: EnvelopeStock,
    /// Events that are not in the lane yet, 0 to [`COMMIT_EVENTS`].
    buffer: VecDeque<Pending<T>>,
    accepted: usize,
}

impl<T> SharedBatch<'_, T> {
    #[inline]
    fn push(&mut self, data: T) {
        let event = event_head(&mut self.envelopes, &self.sender, self.buffer.len());
        self.buffer.push_back(event.with(data));
        debug_assert!(self.buffer.len() <= COMMIT_EVENTS);
    }

    /// Publishes what is in the buffer, and waits for room if necessary.
    fn publish(&mut self) -> Result<(), Refused> {
        while let Err(no_room) = self.try_publish() {
            let mut waited = Registration::default();
            let sender = &mut self.sender;
            let place = wait_for_room(sender, no_room, Patience::Unlimited, &mut waited)?;
            let event = self.buffer.pop_front().expect("it found no room");
            let wake_requested = place.write(event);
            self.accepted += 1;
            self.sender.engine.accepted(wake_requested);
            self.sender.forget_request(&mut waited);
        }
        Ok(())
    }

    /// Publishes what is in the buffer, as far as the lane has room.
    fn try_publish(&mut self) -> Result<(), NoRoom> {
        while !self.buffer.is_empty() {
            if self.sender.engine.is_closing() {
                return Err(NoRoom::Closed);
            }
            let before = self.buffer.len();
            let wake_requested = self.sender.lane.try_push_batch(&mut self.buffer)?;
            self.accepted += before - self.buffer.len();
            self.sender.engine.accepted(wake_requested);
        }
        Ok(())
    }

    #[cold]
    fn refuse(&mut self, refused: Refused) -> PublishError<Vec<T>> {
        let payloads = self.buffer.drain(..).map(|pending| pending.data);
        PublishError::new(refused, payloads.collect())
    }
}

impl<T> Drop for SharedBatch<'_, T> {
    /// If there is something in the buffer, the iterator has panicked.
    fn drop(&mut self) {
        if self.try_publish().is_err() {
            self.buffer.drain(..).for_each(Pending::discard);
        }
    }
}

/// The envelopes of the events of a batch.
fn envelopes<T, K: AsTopic>(
    sender: &mut impl LaneSender<T>,
    heading: &Heading<'_, K>,
) -> Result<EnvelopeStock, PublishError<Vec<T>>> {
    let name = heading.name.as_deref();
    match sender.envelope(&heading.topic, name, heading.source.as_deref()) {
        Ok(envelope) => Ok(EnvelopeStock::new(envelope)),
        Err(error) => Err(PublishError::Topic(*error, Vec::new())),
    }
}

/// An event of a batch, without its payload. `others` events wait in front of it, outside of the
/// lane.
#[inline]
#[allow(unused_variables, reason = "needed with the feature `latency` only")]
fn event_head<T>(
    envelopes: &mut EnvelopeStock,
    sender: &impl LaneSender<T>,
    others: usize,
) -> EventHead {
    EventHead {
        envelope: envelopes.take(),
        receipt: None,
        #[cfg(feature = "latency")]
        stamp_ns: stamp_behind(sender, others),
    }
}
