//! How events enter: what `Publisher`, with its own lane, and `Bus`, with the shared one, have in common.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::error::{PublishError, PublishSequencedError, PublishTimeoutError, TryPublishError};
use super::message::Message;
use crate::dispatch::block::{EnvelopeRef, EnvelopeTable};
use crate::dispatch::engine::Engine;
use crate::dispatch::lane::{LaneShared, Pending, Receipt, receipt};
use crate::dispatch::topic_arg::AsTopic;
use crate::park::{NonBlockingScope, deadline_after, park, register_thread, thread_waker};
use crate::pattern::TopicError;
use crate::ring::mpsc::PushError;
use crate::ring::spsc;
use crate::sync::Arc;

/// A way into a lane.
pub(super) trait LaneSender<T> {
    fn engine(&self) -> &Engine<T>;

    /// The envelope for these, from the table in hand.
    fn envelope<K: AsTopic>(
        &mut self,
        topic: &K,
        name: Option<&str>,
        source: Option<&str>,
    ) -> Result<EnvelopeRef, TopicError>;

    /// The place of the next event in the lane, from 0; of a shared lane, as far as can be told.
    #[cfg(feature = "latency")]
    fn place(&self) -> u64;

    /// Puts the event into the lane, and sees to it that somebody comes for it.
    fn try_accept(&mut self, pending: Pending<T>) -> Result<(), Refusal<T>>;

    /// Asks for `waker` to be woken when the lane has room. Try once more afterwards.
    fn ask_for_room(&mut self, waker: &Waker);
}

/// Why an event was not accepted.
pub(super) enum Refusal<T> {
    Full(Pending<T>),
    Closed(Pending<T>),
}

/// The own lane of a `Publisher`.
pub(super) struct OwnLaneSender<'a, T> {
    pub(super) engine: &'a Engine<T>,
    pub(super) lane: &'a mut spsc::Producer<Pending<T>>,
    pub(super) shared: &'a Arc<LaneShared>,
    pub(super) table: &'a mut EnvelopeTable,
}

impl<T> LaneSender<T> for OwnLaneSender<'_, T> {
    fn engine(&self) -> &Engine<T> {
        self.engine
    }

    #[inline]
    fn envelope<K: AsTopic>(
        &mut self,
        topic: &K,
        name: Option<&str>,
        source: Option<&str>,
    ) -> Result<EnvelopeRef, TopicError> {
        self.table.envelope(topic, name, source)
    }

    #[cfg(feature = "latency")]
    fn place(&self) -> u64 {
        self.lane.staged_position()
    }

    #[inline]
    fn try_accept(&mut self, pending: Pending<T>) -> Result<(), Refusal<T>> {
        if self.engine.is_closing() {
            return Err(Refusal::Closed(pending));
        }
        self.lane.push(pending).map_err(Refusal::Full)?;
        match self.lane.commit() {
            Ok(wake_requested) => {
                self.shared.note_accepted(self.lane.staged_position());
                self.engine.accepted(wake_requested);
                Ok(())
            }
            Err(spsc::Closed) => Err(Refusal::Closed(
                self.lane.unstage().expect("staged two lines above"),
            )),
        }
    }

    fn ask_for_room(&mut self, waker: &Waker) {
        self.shared.room.register(waker);
        self.lane.request_wake();
    }
}

/// The shared lane of a `Bus`. The table belongs to the calling thread.
pub(super) struct SharedLaneSender<'a, T> {
    pub(super) engine: &'a Engine<T>,
}

impl<T> LaneSender<T> for SharedLaneSender<'_, T> {
    fn engine(&self) -> &Engine<T> {
        self.engine
    }

    fn envelope<K: AsTopic>(
        &mut self,
        topic: &K,
        name: Option<&str>,
        source: Option<&str>,
    ) -> Result<EnvelopeRef, TopicError> {
        thread_local!(static TABLE: RefCell<EnvelopeTable> = RefCell::new(EnvelopeTable::new()));
        TABLE
            .try_with(|table| table.borrow_mut().envelope(topic, name, source))
            // The thread is on its way out and its locals are gone: a table for this one time.
            .unwrap_or_else(|_| EnvelopeTable::new().envelope(topic, name, source))
    }

    #[cfg(feature = "latency")]
    fn place(&self) -> u64 {
        self.engine.shared_lane().claimed()
    }

    #[inline]
    fn try_accept(&mut self, pending: Pending<T>) -> Result<(), Refusal<T>> {
        if self.engine.is_closing() {
            return Err(Refusal::Closed(pending));
        }
        match self.engine.shared_lane().try_push(pending) {
            Ok(wake_requested) => {
                self.engine.accepted(wake_requested);
                Ok(())
            }
            Err(PushError::Full(pending)) => Err(Refusal::Full(pending)),
            Err(PushError::Closed(pending)) => Err(Refusal::Closed(pending)),
        }
    }

    fn ask_for_room(&mut self, waker: &Waker) {
        self.engine.shared.room.register(waker.clone());
    }
}

/// Accepts or waits for room.
#[inline]
pub(super) fn publish<T, K: AsTopic>(
    mut sender: impl LaneSender<T>,
    message: Message<'_, K, T>,
) -> Result<(), PublishError<T>> {
    let pending = match into_pending(&mut sender, message) {
        Ok(pending) => pending,
        Err((error, data)) => return Err(PublishError::Topic(error, data)),
    };
    match sender.try_accept(pending) {
        Ok(()) => Ok(()),
        Err(refusal) => wait_and_accept(&mut sender, refusal, None).map_err(PublishError::from),
    }
}

/// Accepts or says that there is no room.
pub(super) fn try_publish<T, K: AsTopic>(
    mut sender: impl LaneSender<T>,
    message: Message<'_, K, T>,
) -> Result<(), TryPublishError<T>> {
    let pending = match into_pending(&mut sender, message) {
        Ok(pending) => pending,
        Err((error, data)) => return Err(TryPublishError::Topic(error, data)),
    };
    sender.try_accept(pending).map_err(|refusal| match refusal {
        Refusal::Full(pending) => TryPublishError::Full(pending.data),
        Refusal::Closed(pending) if sender.engine().is_broken() => {
            TryPublishError::Broken(pending.data)
        }
        Refusal::Closed(pending) => TryPublishError::Closed(pending.data),
    })
}

/// Accepts or waits for room, for so long.
pub(super) fn publish_timeout<T, K: AsTopic>(
    mut sender: impl LaneSender<T>,
    message: Message<'_, K, T>,
    timeout: Duration,
) -> Result<(), PublishTimeoutError<T>> {
    match into_pending(&mut sender, message) {
        Ok(pending) => accept_within(sender, pending, Some(timeout)),
        Err((error, data)) => Err(PublishTimeoutError::Topic(error, data)),
    }
}

/// Accepts or waits for room, for so long, what names its topic itself.
pub(super) fn publish_by<T>(
    mut sender: impl LaneSender<T>,
    data: T,
    topic: fn(&T) -> &str,
    timeout: Option<Duration>,
) -> Result<(), PublishTimeoutError<T>> {
    match sender.envelope(&topic(&data), None, None) {
        Ok(envelope) => accept_within(sender, unreceipted(envelope, data), timeout),
        Err(error) => Err(PublishTimeoutError::Topic(error, data)),
    }
}

/// Accepts or waits for room, as a task.
pub(super) async fn publish_async<T, K: AsTopic>(
    mut sender: impl LaneSender<T>,
    message: Message<'_, K, T>,
) -> Result<(), PublishError<T>> {
    let mut waiting = match into_pending(&mut sender, message) {
        Ok(pending) => Some(pending),
        Err((error, data)) => return Err(PublishError::Topic(error, data)),
    };
    poll_fn(move |context| {
        let mut asked = false;
        loop {
            let pending = waiting.take().expect("not polled after it was ready");
            match sender.try_accept(pending) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(Refusal::Closed(pending)) => {
                    let broken = sender.engine().is_broken();
                    let refuse = if broken {
                        PublishError::Broken
                    } else {
                        PublishError::Closed
                    };
                    return Poll::Ready(Err(refuse(pending.data)));
                }
                Err(Refusal::Full(pending)) => waiting = Some(pending),
            }
            if asked {
                return Poll::Pending;
            }
            sender.ask_for_room(context.waker());
            asked = true;
        }
    })
    .await
}

/// Accepts, and waits until the event has its id.
pub(super) fn publish_sequenced<T, K: AsTopic>(
    mut sender: impl LaneSender<T>,
    message: Message<'_, K, T>,
) -> Result<Receipt, PublishSequencedError<T>> {
    let mut pending = match into_pending(&mut sender, message) {
        Ok(pending) => pending,
        Err((error, data)) => return Err(PublishError::Topic(error, data).into()),
    };
    if NonBlockingScope::is_active() {
        return Err(PublishError::WouldDeadlock(pending.data).into());
    }
    let (receipt_sender, slot) = receipt();
    pending.receipt = Some(receipt_sender);
    if let Err(refusal) = sender.try_accept(pending) {
        wait_and_accept(&mut sender, refusal, None).map_err(PublishError::from)?;
    }
    loop {
        if let Some(answer) = slot.try_get() {
            return answer.ok_or(PublishSequencedError::Unsequenced);
        }
        register_thread(&slot.waker);
        if slot.try_get().is_none() {
            park(None);
        }
    }
}

enum Refused<T> {
    Closed(T),
    Broken(T),
    WouldDeadlock(T),
    Timeout(T),
}

impl<T> From<Refused<T>> for PublishError<T> {
    /// Of a wait without a deadline.
    fn from(refused: Refused<T>) -> Self {
        match refused {
            Refused::Closed(data) => Self::Closed(data),
            Refused::Broken(data) => Self::Broken(data),
            Refused::WouldDeadlock(data) => Self::WouldDeadlock(data),
            Refused::Timeout(_) => unreachable!("there was no deadline"),
        }
    }
}

#[inline]
fn into_pending<T, K: AsTopic>(
    sender: &mut impl LaneSender<T>,
    message: Message<'_, K, T>,
) -> Result<Pending<T>, (TopicError, T)> {
    let Message {
        topic,
        data,
        name,
        source,
    } = message;
    #[cfg(feature = "latency")]
    let stamp_ns = match &sender.engine().sampling {
        Some(sampling) => sampling.stamp(sender.place()),
        None => 0,
    };
    match sender.envelope(&topic, name, source) {
        Ok(envelope) => {
            let pending = unreceipted(envelope, data);
            #[cfg(feature = "latency")]
            let pending = Pending {
                stamp_ns,
                ..pending
            };
            Ok(pending)
        }
        Err(error) => Err((error, data)),
    }
}

fn unreceipted<T>(envelope: EnvelopeRef, data: T) -> Pending<T> {
    Pending {
        envelope,
        data,
        receipt: None,
        #[cfg(feature = "latency")]
        stamp_ns: 0,
    }
}

fn accept_within<T>(
    mut sender: impl LaneSender<T>,
    pending: Pending<T>,
    timeout: Option<Duration>,
) -> Result<(), PublishTimeoutError<T>> {
    let refusal = match sender.try_accept(pending) {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    let deadline = timeout.and_then(deadline_after);
    wait_and_accept(&mut sender, refusal, deadline).map_err(|refused| match refused {
        Refused::Closed(data) => PublishTimeoutError::Closed(data),
        Refused::Broken(data) => PublishTimeoutError::Broken(data),
        Refused::WouldDeadlock(data) => PublishTimeoutError::WouldDeadlock(data),
        Refused::Timeout(data) => PublishTimeoutError::Timeout(data),
    })
}

#[cold]
fn wait_and_accept<T>(
    sender: &mut impl LaneSender<T>,
    mut refusal: Refusal<T>,
    deadline: Option<Instant>,
) -> Result<(), Refused<T>> {
    let mut asked = false;
    let mut late = false;
    loop {
        let pending = match refusal {
            Refusal::Closed(pending) if sender.engine().is_broken() => {
                return Err(Refused::Broken(pending.data));
            }
            Refusal::Closed(pending) => return Err(Refused::Closed(pending.data)),
            Refusal::Full(pending) if NonBlockingScope::is_active() => {
                return Err(Refused::WouldDeadlock(pending.data));
            }
            Refusal::Full(pending) if late => return Err(Refused::Timeout(pending.data)),
            Refusal::Full(pending) => pending,
        };
        if asked {
            late = !park(deadline);
        } else {
            sender.ask_for_room(&thread_waker());
        }
        asked = !asked;
        match sender.try_accept(pending) {
            Ok(()) => return Ok(()),
            Err(again) => refusal = again,
        }
    }
}
