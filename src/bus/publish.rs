//! How an event enters a lane: all methods that publish use this file.
//!
//! * **In**: a payload with its topic, name and source.
//! * **Out**: a pending event in a lane. The event is now **accepted**. Or an error, which returns
//!   the payload.
//! * **Called by**: the publish methods of [`Bus`](super::Bus), in `bus_publish.rs`, and of
//!   [`Publisher`](super::Publisher), in `publisher.rs`.
//! * **Next file**: `dispatch/sequencer.rs`, which takes the event out of the lane, on the thread
//!   that `dispatch/engine.rs` chooses. (`dispatch/lane.rs` has the lanes.)
//!
//! A [`Publisher`](super::Publisher) has its own lane; a [`Bus`](super::Bus) uses the shared lane.
//! [`LaneSender`] is implemented for each of the two. The methods differ in how long they wait for
//! room ([`Patience`]), and in whether they block a thread or suspend a task.
//!
//! All methods first reserve room, and then move the payload from the caller's argument directly
//! into the lane. Every error but one is known before that move, so the payload passes through a
//! `Result` only if publishing fails. This matters for large payloads: each function that holds a
//! payload by value has a copy of it on the stack.
//!
//! | step | needs | returns |
//! | --- | --- | --- |
//! | `LaneSender::envelope` | topic, name and source | the envelope, or the error of the topic |
//! | `LaneSender::try_reserve` | nothing | a place in the lane, or that it is full or closed |
//! | `LaneSender::accept` | the place, the payload and the rest of the event | nothing, or that the lane was closed meanwhile |

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::error::{PublishError, PublishSequencedError, Refused, RefusedError};
use super::message::Heading;
use crate::dispatch::Dispatch;
use crate::dispatch::block::{EnvelopeRef, EnvelopeTable};
use crate::dispatch::engine::Engine;
use crate::dispatch::lane::{LaneProducer, Pending, Receipt, ReceiptSender, ReceiptSlot, receipt};
use crate::dispatch::topic_arg::AsTopic;
use crate::park::{
    NonBlockingScope, Registration, deadline_after, forget_registered, park, register_task,
    register_thread, thread_waker,
};
use crate::pattern::TopicError;
use crate::ring::{mpsc, spsc};
use crate::sync::Arc;
use crate::time_limit::TimeLimit;

/// One end of a lane, through which events enter.
pub(super) trait LaneSender<T> {
    /// Room for one event.
    type Place;

    fn engine(&self) -> &Engine;

    /// Returns the envelope with this topic, name and source, from the table of the sender.
    fn envelope<K: AsTopic>(
        &mut self,
        topic: &K,
        name: Option<&str>,
        source: Option<&str>,
    ) -> Result<EnvelopeRef, Box<TopicError>>;

    /// Returns the position of the next event in the lane, from 0. In a shared lane this is an
    /// estimate.
    #[cfg(feature = "latency")]
    fn position(&self) -> u64;

    /// Reserves room for one event. The caller must call `accept` next.
    fn try_reserve(&mut self) -> Result<Self::Place, NoRoom>;

    /// Writes the event into its place, and wakes or runs the dispatcher if necessary. Returns an
    /// error if the lane was closed after the place was reserved; then
    /// [`take_back`](Self::take_back) returns the event.
    fn accept(&mut self, place: Self::Place, event: EventHead, data: T)
    -> Result<(), spsc::Closed>;

    /// Returns the event that `accept` has just failed to publish.
    fn take_back(&mut self) -> Pending<T>;

    /// Registers `waker` to be woken when the lane has room. The caller must try once more
    /// afterwards, and call `forget_request` when it no longer waits.
    fn ask_for_room(&mut self, registration: &mut Registration, waker: &Waker);

    /// The caller no longer waits for room.
    fn forget_request(&mut self, registration: &mut Registration);
}

/// Why no room was reserved.
#[derive(Clone, Copy)]
pub(super) enum NoRoom {
    Full,
    Closed,
}

impl From<mpsc::ClaimError> for NoRoom {
    #[inline(always)]
    fn from(error: mpsc::ClaimError) -> Self {
        match error {
            mpsc::ClaimError::Full => Self::Full,
            mpsc::ClaimError::Closed => Self::Closed,
        }
    }
}

/// How long a thread waits for room.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    None,
    AtMost(Duration),
    Unlimited,
}

/// The lane of a `Publisher`.
pub(super) struct OwnLaneSender<'a, T> {
    pub(super) engine: &'a Engine,
    pub(super) lane: &'a mut LaneProducer<T>,
    pub(super) table: &'a mut EnvelopeTable,
}

impl<T> OwnLaneSender<'_, T> {
    /// Writes an event into the lane, in the room that was reserved.
    #[inline(always)]
    pub(super) fn stage(&mut self, event: EventHead, data: T) {
        let vacant = self.lane.vacant().expect("room was reserved");
        vacant.stage(event.with(data));
    }

    /// Publishes what is staged, and wakes or runs the dispatcher if necessary.
    #[inline(always)]
    pub(super) fn commit(&mut self) -> Result<(), spsc::Closed> {
        let wake_requested = self.lane.commit(&self.engine.shared.lanes)?;
        self.engine.accepted(wake_requested);
        Ok(())
    }
}

impl<T> LaneSender<T> for OwnLaneSender<'_, T> {
    /// The lane has only this sender, so the room stays free until this sender uses it.
    type Place = ();

    #[inline(always)]
    fn engine(&self) -> &Engine {
        self.engine
    }

    #[inline]
    fn envelope<K: AsTopic>(
        &mut self,
        topic: &K,
        name: Option<&str>,
        source: Option<&str>,
    ) -> Result<EnvelopeRef, Box<TopicError>> {
        self.table.envelope(topic, name, source)
    }

    #[cfg(feature = "latency")]
    fn position(&self) -> u64 {
        self.lane.staged_position()
    }

    #[inline(always)]
    fn try_reserve(&mut self) -> Result<(), NoRoom> {
        if self.engine.is_closing() {
            Err(NoRoom::Closed)
        } else if self.lane.has_room(&self.engine.shared.lanes) {
            Ok(())
        } else {
            Err(NoRoom::Full)
        }
    }

    #[inline(always)]
    fn accept(&mut self, (): (), event: EventHead, data: T) -> Result<(), spsc::Closed> {
        self.stage(event, data);
        self.commit()
    }

    #[cold]
    fn take_back(&mut self) -> Pending<T> {
        self.lane.unstage().expect("accept has staged it")
    }

    fn ask_for_room(&mut self, registration: &mut Registration, waker: &Waker) {
        if !self.lane.register_for_room(waker) {
            self.engine.shared.room.register(registration, waker);
        }
    }

    fn forget_request(&mut self, registration: &mut Registration) {
        self.lane.forget_room_request();
        self.engine.shared.room.forget(registration);
    }
}

/// The shared lane of a `Bus`. Each thread has its own table of envelopes.
pub(super) struct SharedLaneSender<'a, T> {
    pub(super) engine: &'a Engine,
    pub(super) lane: &'a mpsc::Producers<Pending<T>>,
}

impl<'a, T> LaneSender<T> for SharedLaneSender<'a, T> {
    type Place = mpsc::Claim<'a, Pending<T>>;

    #[inline(always)]
    fn engine(&self) -> &Engine {
        self.engine
    }

    fn envelope<K: AsTopic>(
        &mut self,
        topic: &K,
        name: Option<&str>,
        source: Option<&str>,
    ) -> Result<EnvelopeRef, Box<TopicError>> {
        thread_local!(static TABLE: RefCell<EnvelopeTable> = RefCell::new(EnvelopeTable::new()));
        TABLE
            .try_with(|table| table.borrow_mut().envelope(topic, name, source))
            // The thread is ending and its thread-locals are destroyed, so this call uses a new
            // table.
            .unwrap_or_else(|_| EnvelopeTable::new().envelope(topic, name, source))
    }

    #[cfg(feature = "latency")]
    fn position(&self) -> u64 {
        self.lane.claimed()
    }

    #[inline(always)]
    fn try_reserve(&mut self) -> Result<Self::Place, NoRoom> {
        if self.engine.is_closing() {
            return Err(NoRoom::Closed);
        }
        Ok(self.lane.try_claim()?)
    }

    #[inline(always)]
    fn accept(
        &mut self,
        place: Self::Place,
        event: EventHead,
        data: T,
    ) -> Result<(), spsc::Closed> {
        let wake_requested = place.write(event.with(data));
        self.engine.accepted(wake_requested);
        Ok(())
    }

    fn take_back(&mut self) -> Pending<T> {
        unreachable!("a claimed place is always accepted")
    }

    fn ask_for_room(&mut self, registration: &mut Registration, waker: &Waker) {
        self.engine.shared.room.register(registration, waker);
    }

    fn forget_request(&mut self, registration: &mut Registration) {
        self.engine.shared.room.forget(registration);
    }
}

/// Accepts an event, or waits for room as long as `patience` says.
#[inline]
pub(super) fn publish<T, K, S, E>(
    mut sender: S,
    heading: &Heading<'_, K>,
    data: T,
    patience: Patience,
) -> Result<(), E>
where
    K: AsTopic,
    S: LaneSender<T>,
    E: RefusedError<T>,
{
    let _limit = time_limit(&sender, patience);
    let mut waited = Registration::default();
    match prepare(&mut sender, heading, None, patience, &mut waited) {
        Ok((place, event)) => put_and_forget(&mut sender, place, event, data, &mut waited),
        Err(refused) => refuse(refused, data),
    }
}

/// Accepts an event whose payload names the topic, or waits for room as long as `patience` says.
pub(super) fn publish_by<T, S, E>(
    mut sender: S,
    data: T,
    topic: fn(&T) -> &str,
    patience: Patience,
) -> Result<(), E>
where
    S: LaneSender<T>,
    E: RefusedError<T>,
{
    let _limit = time_limit(&sender, patience);
    let mut waited = Registration::default();
    let heading = Heading::topic(topic(&data));
    match prepare(&mut sender, &heading, None, patience, &mut waited) {
        Ok((place, event)) => put_and_forget(&mut sender, place, event, data, &mut waited),
        Err(refused) => refuse(refused, data),
    }
}

/// Under inline and adaptive dispatch the publishing thread also dispatches, and so runs user code.
/// (The time limit of the wait for room is in `wait_for_room`.)
#[inline]
fn time_limit<T>(sender: &impl LaneSender<T>, patience: Patience) -> Option<TimeLimit> {
    match patience {
        Patience::AtMost(limit)
            if matches!(
                sender.engine().dispatch(),
                Dispatch::Adaptive | Dispatch::Inline
            ) =>
        {
            Some(TimeLimit::enter(limit))
        }
        _ => None,
    }
}

/// Accepts an event, and waits until it has its id.
pub(super) fn publish_sequenced<T, K, S>(
    mut sender: S,
    heading: &Heading<'_, K>,
    data: T,
) -> Result<Receipt, PublishSequencedError<T>>
where
    K: AsTopic,
    S: LaneSender<T>,
{
    let (receipt, slot) = receipt();
    let mut waited = Registration::default();
    let prepared = if NonBlockingScope::is_active() {
        Err(Refused::WouldDeadlock)
    } else {
        let patience = Patience::Unlimited;
        prepare(&mut sender, heading, Some(receipt), patience, &mut waited)
    };
    let accepted = match prepared {
        Ok((place, event)) => put_and_forget(&mut sender, place, event, data, &mut waited),
        Err(refused) => refuse(refused, data),
    };
    // Without `map_err` and `?`: in a build without optimisation, each would copy the payload.
    match accepted {
        Ok(()) => match wait_for_receipt(&slot) {
            Some(receipt) => Ok(receipt),
            None => Err(PublishSequencedError::Unsequenced),
        },
        Err(error) => Err(PublishSequencedError::Refused(error)),
    }
}

/// Waits as a thread. `None`: the event will never be sequenced.
fn wait_for_receipt(slot: &ReceiptSlot) -> Option<Receipt> {
    loop {
        if let Some(answer) = slot.try_get() {
            return answer;
        }
        register_thread(&slot.waker);
        if slot.try_get().is_none() {
            park(None);
        }
    }
}

/// Everything that must be known before the payload is moved: its place, and the rest of the event.
///
/// The payload is not an argument of this function. The compiler does not move a copy across an
/// atomic operation, so a large payload would be copied when it is passed here, and once more into
/// its place.
#[inline(always)]
fn prepare<T, K, S>(
    sender: &mut S,
    heading: &Heading<'_, K>,
    receipt: Option<ReceiptSender>,
    patience: Patience,
    waited: &mut Registration,
) -> Result<(S::Place, EventHead), Refused>
where
    K: AsTopic,
    S: LaneSender<T>,
{
    let event = event_head(sender, heading, receipt).map_err(Refused::Topic)?;
    let place = match sender.try_reserve() {
        Ok(place) => place,
        Err(no_room) => wait_for_room(sender, no_room, patience, waited)?,
    };
    Ok((place, event))
}

#[inline(always)]
fn event_head<T, K, S>(
    sender: &mut S,
    heading: &Heading<'_, K>,
    receipt: Option<ReceiptSender>,
) -> Result<EventHead, Box<TopicError>>
where
    K: AsTopic,
    S: LaneSender<T>,
{
    // This comes first, because the latency includes the whole call.
    #[cfg(feature = "latency")]
    let stamp_ns = stamp(sender);
    let name = heading.name.as_deref();
    let envelope = sender.envelope(&heading.topic, name, heading.source.as_deref())?;
    Ok(EventHead {
        envelope,
        receipt,
        #[cfg(feature = "latency")]
        stamp_ns,
    })
}

#[cfg(feature = "latency")]
#[inline]
fn stamp<T>(sender: &impl LaneSender<T>) -> u64 {
    stamp_behind(sender, 0)
}

/// The stamp of an event that `others` events wait in front of, outside of the lane.
#[cfg(feature = "latency")]
#[inline]
pub(super) fn stamp_behind<T>(sender: &impl LaneSender<T>, others: usize) -> u64 {
    match &sender.engine().sampling {
        Some(sampling) => sampling.stamp(sender.position() + others as u64),
        None => 0,
    }
}

/// A pending event without its payload.
pub(super) struct EventHead {
    pub(super) envelope: EnvelopeRef,
    pub(super) receipt: Option<ReceiptSender>,
    #[cfg(feature = "latency")]
    pub(super) stamp_ns: u64,
}

impl EventHead {
    #[inline(always)]
    pub(super) fn with<T>(self, data: T) -> Pending<T> {
        Pending {
            envelope: self.envelope,
            data,
            receipt: self.receipt,
            #[cfg(feature = "latency")]
            stamp_ns: self.stamp_ns,
        }
    }
}

/// Moves the event into its place in the lane. Then gives back what was registered to wait for that
/// place: this may run user code, for which other publishers of the shared lane must not wait.
///
/// The large result is made last. A copy of it that waits in a variable is copied to its place also
/// if there is no error: that was 57 % of the time of a `try_publish` (2026-11-27).
#[inline(always)]
fn put_and_forget<T, S, E>(
    sender: &mut S,
    place: S::Place,
    event: EventHead,
    data: T,
    waited: &mut Registration,
) -> Result<(), E>
where
    S: LaneSender<T>,
    E: RefusedError<T>,
{
    let accepted = sender.accept(place, event, data);
    if waited.is_registered() {
        sender.forget_request(waited);
    }
    match accepted {
        Ok(()) => Ok(()),
        Err(spsc::Closed) => refuse_accepted(sender),
    }
}

/// Errors are built in separate functions that are never inlined. Each of them needs stack space
/// for one more payload, which the path of an accepted event should not reserve.
#[cold]
#[inline(never)]
fn refuse<T, R, E: RefusedError<T>>(refused: Refused, data: T) -> Result<R, E> {
    Err(E::new(refused, data))
}

#[cold]
#[inline(never)]
fn refuse_accepted<T, S, E>(sender: &mut S) -> Result<(), E>
where
    S: LaneSender<T>,
    E: RefusedError<T>,
{
    let refused = closed_or_broken(sender.engine());
    Err(E::new(refused, sender.take_back().data))
}

pub(super) fn closed_or_broken(engine: &Engine) -> Refused {
    if engine.is_broken() {
        Refused::Broken
    } else {
        Refused::Closed
    }
}

#[cold]
#[inline(never)]
pub(super) fn wait_for_room<T, S: LaneSender<T>>(
    sender: &mut S,
    no_room: NoRoom,
    patience: Patience,
    waited: &mut Registration,
) -> Result<S::Place, Refused> {
    let place = wait_registered(sender, no_room, patience, waited);
    if place.is_err() && !matches!(patience, Patience::None) {
        sender.forget_request(waited);
    }
    place
}

fn wait_registered<T, S: LaneSender<T>>(
    sender: &mut S,
    mut no_room: NoRoom,
    patience: Patience,
    registration: &mut Registration,
) -> Result<S::Place, Refused> {
    let deadline = match patience {
        Patience::None | Patience::Unlimited => None,
        Patience::AtMost(limit) => deadline_after(limit),
    };
    let mut asked = false;
    let mut late = false;
    loop {
        match no_room {
            NoRoom::Closed => return Err(closed_or_broken(sender.engine())),
            NoRoom::Full if matches!(patience, Patience::None) => return Err(Refused::Full),
            NoRoom::Full if NonBlockingScope::is_active() => return Err(Refused::WouldDeadlock),
            NoRoom::Full if late => return Err(Refused::Timeout),
            NoRoom::Full => {}
        }
        if asked {
            late = !park(deadline);
        } else {
            sender.ask_for_room(registration, &thread_waker());
        }
        asked = !asked;
        match sender.try_reserve() {
            Ok(place) => return Ok(place),
            Err(again) => no_room = again,
        }
    }
}

/// The topic of an event is not valid: its error, and the payload.
type InvalidTopic<T> = (Box<TopicError>, T);

/// The future of publishing an event.
///
/// The topic is parsed when the future is created. The event is not accepted before the future is
/// polled.
pub(super) struct PublishFuture<S: LaneSender<T>, T> {
    sender: S,
    /// Whether the future waits for room, and so is registered.
    waits: bool,
    registration: Registration,
    /// `None` once the future has been ready.
    state: Option<Result<(EventHead, T), InvalidTopic<T>>>,
}

impl<S: LaneSender<T>, T> PublishFuture<S, T> {
    pub(super) fn new<K: AsTopic>(sender: S, heading: &Heading<'_, K>, data: T) -> Self {
        Self::with_receipt(sender, heading, data, None)
    }

    fn with_receipt<K: AsTopic>(
        mut sender: S,
        heading: &Heading<'_, K>,
        data: T,
        receipt: Option<ReceiptSender>,
    ) -> Self {
        let state = match event_head(&mut sender, heading, receipt) {
            Ok(event) => Ok((event, data)),
            Err(error) => Err((error, data)),
        };
        Self {
            sender,
            waits: false,
            registration: Registration::default(),
            state: Some(state),
        }
    }

    /// Whether the event was accepted or refused.
    fn is_done(&self) -> bool {
        self.state.is_none()
    }

    /// Returns the error: either the topic is not valid, or the lane is closed.
    #[cold]
    fn refuse(&mut self) -> Poll<Result<(), PublishError<T>>> {
        self.stop_waiting();
        let error = match self.state.take() {
            Some(Ok((_, data))) => PublishError::new(closed_or_broken(self.sender.engine()), data),
            Some(Err((error, data))) => PublishError::Topic(*error, data),
            None => panic!("the future was polled after it had been ready"),
        };
        Poll::Ready(Err(error))
    }

    fn stop_waiting(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.sender.forget_request(&mut self.registration);
        }
    }
}

impl<S: LaneSender<T>, T> Drop for PublishFuture<S, T> {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}

/// Nothing of it is pinned: it may be moved between two polls.
impl<S: LaneSender<T>, T> Unpin for PublishFuture<S, T> {}

impl<S: LaneSender<T>, T> Future for PublishFuture<S, T> {
    type Output = Result<(), PublishError<T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !matches!(this.state, Some(Ok(_))) {
            return this.refuse();
        }
        let mut asked = false;
        let place = loop {
            match this.sender.try_reserve() {
                Ok(place) => break place,
                Err(NoRoom::Closed) => return this.refuse(),
                Err(NoRoom::Full) if asked => return Poll::Pending,
                Err(NoRoom::Full) => {
                    this.waits = true;
                    this.sender
                        .ask_for_room(&mut this.registration, context.waker());
                }
            }
            asked = true;
        };
        let Some(Ok((event, data))) = this.state.take() else {
            unreachable!("the state was checked above");
        };
        let accepted = this.sender.accept(place, event, data);
        // After that: it may run user code, for which other publishers of the shared lane must not
        // wait.
        this.stop_waiting();
        Poll::Ready(match accepted {
            Ok(()) => Ok(()),
            Err(spsc::Closed) => refuse_accepted(&mut this.sender),
        })
    }
}

/// The future of publishing an event and waiting until it has its id.
pub(super) struct PublishSequencedFuture<S: LaneSender<T>, T> {
    publish: PublishFuture<S, T>,
    slot: Arc<ReceiptSlot>,
}

impl<S: LaneSender<T>, T> PublishSequencedFuture<S, T> {
    pub(super) fn new<K: AsTopic>(sender: S, heading: &Heading<'_, K>, data: T) -> Self {
        let (receipt, slot) = receipt();
        Self {
            publish: PublishFuture::with_receipt(sender, heading, data, Some(receipt)),
            slot,
        }
    }
}

impl<S: LaneSender<T>, T> Drop for PublishSequencedFuture<S, T> {
    fn drop(&mut self) {
        if self.publish.is_done() {
            forget_registered(&self.slot.waker);
        }
    }
}

/// Nothing of it is pinned: it may be moved between two polls.
impl<S: LaneSender<T>, T> Unpin for PublishSequencedFuture<S, T> {}

impl<S: LaneSender<T>, T> Future for PublishSequencedFuture<S, T> {
    type Output = Result<Receipt, PublishSequencedError<T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !this.publish.is_done() {
            ready!(Pin::new(&mut this.publish).poll(context))?;
        }
        let mut registered = false;
        loop {
            if let Some(answer) = this.slot.try_get() {
                return Poll::Ready(answer.ok_or(PublishSequencedError::Unsequenced));
            }
            if registered {
                return Poll::Pending;
            }
            register_task(&this.slot.waker, context.waker());
            registered = true;
        }
    }
}
