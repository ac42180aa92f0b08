//! The thread of each subscription: it receives, writes and counts.

use fanout::{RecvTimeoutError, Subscriber, SubscriptionStats};
use hdrhistogram::Histogram;
use std::fmt;
use std::io;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use crate::console::{Progress, print_message};
use crate::output::Output;
use crate::payload::Payload;
use crate::report::{self, Latency, SubscriptionReport};
use crate::subscription::Subscription;

/// The result of a receiving thread.
pub(crate) struct Received {
    stats: SubscriptionStats,
    latency: Histogram<u64>,
    written: u64,
    error: Option<String>,
}

/// Why receiving ended before the bus was closed.
enum Failure {
    /// The output cannot be written.
    Write(io::Error),
    /// The subscription ended.
    Receive(RecvTimeoutError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Write(error) => error.fmt(f),
            Failure::Receive(error) => error.fmt(f),
        }
    }
}

/// Receives until the bus is closed and all events are received, or until the output fails. The
/// subscriber is dropped at the end of this function. That frees a publisher that waits for room.
pub(crate) fn receive(
    mut subscriber: Subscriber<Payload>,
    asked: &Subscription,
    mut output: Option<Output>,
    progress: &Progress,
) -> Received {
    let mut latency = report::histogram();
    let mut written = 0;
    let ended = drain(&mut subscriber, output.as_mut(), &mut latency, &mut written);
    let error = ended.err().map(|failure| {
        let place = match (&failure, &output) {
            (Failure::Write(_), Some(output)) => output.name.clone(),
            _ => format!("subscription {:?}", asked.text),
        };
        progress.interrupt(|| print_message(format_args!("{place}: {failure}")));
        match failure {
            Failure::Write(_) => format!("{place}: {failure}"),
            Failure::Receive(_) => failure.to_string(),
        }
    });
    Received {
        stats: subscriber.stats(),
        latency,
        written,
        error,
    }
}

/// Receives and writes. All received events are written, however receiving ends.
fn drain(
    subscriber: &mut Subscriber<Payload>,
    mut output: Option<&mut Output>,
    latency: &mut Histogram<u64>,
    written: &mut u64,
) -> Result<(), Failure> {
    let ended = loop {
        let received = match subscriber.try_recv() {
            Ok(event) => Ok(event),
            // No event is available, so the received events must not wait in the buffer for too
            // long. If the error is not `Empty`, the next call reports it again, or it is a loss,
            // which the statistics contain.
            Err(_) => match output.as_ref().and_then(|o| o.may_wait(Instant::now())) {
                None => subscriber.recv().map_err(RecvTimeoutError::from),
                Some(Duration::ZERO) => {
                    output.as_mut().map_or(Ok(()), |output| output.flush())?;
                    subscriber.recv().map_err(RecvTimeoutError::from)
                }
                Some(wait) => subscriber.recv_timeout(wait),
            },
        };
        match received {
            Ok(event) => {
                let now = Instant::now();
                let waited = now.saturating_duration_since(event.data().published_at);
                // Recording fails only for values that are larger than any possible time.
                let _ = latency.record(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
                if let Some(output) = output.as_mut() {
                    output.write(event, now)?;
                    *written += 1;
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Lost(_)) => {}
            Err(RecvTimeoutError::Closed) => break Ok(()),
            Err(error) => break Err(Failure::Receive(error)),
        }
    };
    output.map_or(Ok(()), Output::flush)?;
    ended
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Write(error)
    }
}

/// Waits for a receiving thread. If it panicked, the result has only the error.
pub(crate) fn join(receiver: ScopedJoinHandle<'_, Received>) -> Received {
    receiver.join().unwrap_or_else(|_| Received {
        stats: SubscriptionStats::default(),
        latency: report::histogram(),
        written: 0,
        error: Some("the receiving thread panicked".into()),
    })
}

/// The latencies of all subscriptions.
pub(crate) fn total_latency(received: &[Received]) -> Option<Latency> {
    let mut total = report::histogram();
    for each in received {
        total.add(&each.latency).ok()?;
    }
    Latency::of(&total)
}

impl Received {
    pub(crate) fn report(self, asked: &Subscription) -> SubscriptionReport {
        SubscriptionReport {
            pattern: asked.text.clone(),
            output: asked.output.clone(),
            matched: self.stats.matched,
            received: self.stats.received,
            written: self.written,
            lost: self.stats.lost,
            superseded: self.stats.superseded,
            unread: self.stats.unread,
            high_water: self.stats.high_water,
            latency_ns: Latency::of(&self.latency),
            error: self.error,
        }
    }
}
