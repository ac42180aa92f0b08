//! `fanout run`: everything is opened, lines are published, events are received and counted.
//!
//! ```text
//!  input --lines--> this thread --publish--> bus --+--> receiver thread --> output
//!                                                  +--> receiver thread --> output
//! ```
//!
//! # What is lost, and when
//!
//! Nothing, by default: the bus blocks, so the slowest output sets the pace of reading. With
//! `--overflow drop-newest`, `drop-oldest` or `conflate`, and past a `--block-timeout`, losses are counted per subscription
//! and reported. Should a blocking subscription have lost something all the same, the run has failed and says so; likewise
//! if one ended under `disconnect`.
//!
//! # When something fails
//!
//! - An output cannot be written: that receiver ends, and with it its subscription, so that nobody
//!   waits for it; the others go on. When no receiver is left, reading stops: nobody would hear.
//! - The input cannot be read any more: what was read is delivered, then the run has failed.
//! - A line is bad: it is named, counted and skipped; with `--strict` reading stops there.

use fanout::{Bus, Message, Publisher, RecvError, Subscriber, SubscriptionStats};
use hdrhistogram::Histogram;
use std::io::{self, Write};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::Status;
use super::args::{RunArgs, STANDARD_STREAM, Subscription};
use super::console::{BadLines, Progress, complain};
use super::input::Input;
use super::line::{Draft, Recipe};
use super::output::{self, Output};
use super::report::{LATENCY_DIGITS, Latency, Report, SubscriptionReport, rate};

/// What an event of a run carries.
pub(crate) struct Payload {
    /// The line as it was read: a JSON object.
    pub(crate) json: Box<str>,
    /// When it was about to be published.
    published_at: Instant,
}

/// Why a run ends before anything is published.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It makes no sense as asked for.
    Refused(String),
    /// Something outside failed.
    Failed(String),
}

/// Does what the arguments ask for, and says how it went.
pub(crate) fn run(args: RunArgs) -> Status {
    let wants_json = args.json;
    let stdout_taken = args
        .subscribe
        .iter()
        .any(|asked| asked.output.as_deref() == Some(STANDARD_STREAM));
    let report = match fan_out(args) {
        Ok(report) => report,
        Err(Stop::Refused(message)) => {
            complain(format_args!("{message}"));
            return Status::Refused;
        }
        Err(Stop::Failed(message)) => {
            complain(format_args!("{message}"));
            return Status::Failed;
        }
    };
    let text = if wants_json {
        report.json()
    } else {
        report.table()
    };
    let printed = print(&text, stdout_taken);
    if let Err(error) = &printed {
        complain(format_args!("the report cannot be printed: {error}"));
    }
    if printed.is_err() || has_failed(&report) {
        Status::Failed
    } else if report.bad_lines > 0 {
        Status::BadLines
    } else {
        Status::Good
    }
}

/// Opens everything, runs, and reports.
fn fan_out(args: RunArgs) -> Result<Report, Stop> {
    let input = Input::open(&args.input)
        .map_err(|error| Stop::Failed(format!("{}: {error}", args.input.display())))?;
    let (bus, subscribers) = open_bus(&args)?;
    let names: Vec<_> = args
        .subscribe
        .iter()
        .map(|asked| asked.output.as_deref())
        .collect();
    let outputs = output::open_all(&names, input.identity.as_ref())?;

    let shows_progress = !args.quiet && !draws_on_terminal(&args.subscribe);
    let progress = Progress::new(input.size_bytes, shows_progress);
    let input_name = input.name.clone();
    let recipe = Recipe::new(args.topic.clone(), args.name_field.clone());

    let started_at = Instant::now();
    let (published, received) = thread::scope(|scope| {
        let mut receivers = Vec::new();
        for (index, (subscriber, output)) in subscribers.into_iter().zip(outputs).enumerate() {
            let progress = progress.clone();
            let receiver = thread::Builder::new()
                .name(format!("fanout-out-{index}"))
                .spawn_scoped(scope, move || receive(subscriber, output, &progress))
                .map_err(|error| Stop::Failed(format!("a thread cannot be started: {error}")))?;
            receivers.push(receiver);
        }
        let publishing = Publishing {
            publisher: bus.publisher(),
            recipe,
            source: args.source.as_deref(),
            strict: args.strict,
            progress: progress.clone(),
        };
        let published = publishing.publish_all(input, &receivers);
        // The publisher is gone already; with the bus goes the last reason to wait for more.
        drop(bus);
        let received: Vec<_> = receivers.into_iter().map(join).collect();
        Ok((published, received))
    })?;
    let elapsed = started_at.elapsed();
    progress.finish();

    Ok(report(&args, input_name, published, received, elapsed))
}

/// A bus, and a subscriber for each of the subscriptions asked for.
fn open_bus(args: &RunArgs) -> Result<(Bus<Payload>, Vec<Subscriber<Payload>>), Stop> {
    let overflow = args.overflow.policy();
    let blocking = overflow == fanout::Overflow::Block;
    if args.block_timeout.is_some() && !blocking {
        return Err(Stop::Refused(
            "--block-timeout is for --overflow block alone: the others never wait".into(),
        ));
    }
    let mut builder = Bus::<Payload>::builder().blocking(blocking);
    if let Some(ms) = args.block_timeout {
        builder = builder.block_timeout(Duration::from_millis(ms));
    }
    if let Some(threads) = args.dispatchers {
        builder = builder.dispatchers(threads);
    }
    let bus = builder
        .build()
        .map_err(|error| Stop::Refused(format!("the bus: {error}")))?;
    let mut subscribers = Vec::new();
    for asked in &args.subscribe {
        let mut subscription = bus.subscription(asked.pattern.clone()).overflow(overflow);
        if let Some(events) = args.capacity {
            subscription = subscription.capacity(events);
        }
        let refused = |error| Stop::Refused(format!("subscription {:?}: {error}", asked.text));
        subscribers.push(subscription.open().map_err(refused)?);
    }
    Ok((bus, subscribers))
}

/// Whether events are printed where the progress would be.
fn draws_on_terminal(subscriptions: &[Subscription]) -> bool {
    use std::io::IsTerminal;
    let to_stdout = |asked: &Subscription| asked.output.as_deref() == Some(STANDARD_STREAM);
    io::stdout().is_terminal() && subscriptions.iter().any(to_stdout)
}

/// What the publishing side needs; it is used up by publishing, so that the publisher goes with it.
struct Publishing<'a> {
    publisher: Publisher<Payload>,
    recipe: Recipe,
    source: Option<&'a str>,
    strict: bool,
    progress: Progress,
}

/// What came of publishing.
#[derive(Default)]
struct Published {
    lines: u64,
    blank_lines: u64,
    bad_lines: BadLines,
    events: u64,
    /// Why it ended before the end of the input, other than by a bad line.
    error: Option<String>,
}

impl Publishing<'_> {
    /// Publishes line after line, up to the end of the input or to what makes it pointless.
    fn publish_all(
        mut self,
        mut input: Input,
        receivers: &[ScopedJoinHandle<'_, Received>],
    ) -> Published {
        let mut done = Published::default();
        loop {
            if receivers.iter().all(ScopedJoinHandle::is_finished) {
                done.fail(
                    "no subscription is left to publish to".into(),
                    &self.progress,
                );
                break;
            }
            let number = input.lines.number() + 1;
            let drafted = match input.lines.next() {
                Ok(Some(line)) => self.recipe.draft(line, number),
                Ok(None) => break,
                Err(error) => {
                    done.fail(format!("{}:{number}: {error}", input.name), &self.progress);
                    break;
                }
            };
            done.lines += 1;
            match drafted {
                Ok(Some(draft)) => {
                    let now = Instant::now();
                    if let Err(error) = self.publish(&draft, now) {
                        done.fail(format!("{}:{number}: {error}", input.name), &self.progress);
                        break;
                    }
                    done.events += 1;
                    self.progress
                        .advance(now, input.lines.position_bytes(), done.events);
                }
                Ok(None) => done.blank_lines += 1,
                Err(bad) => {
                    self.progress
                        .interrupt(|| done.bad_lines.add(&input.name, number, &bad));
                    if self.strict {
                        break;
                    }
                }
            }
        }
        done
    }

    /// Publishes one event; waits where the lane is full.
    fn publish(&mut self, draft: &Draft<'_>, published_at: Instant) -> Result<(), String> {
        let payload = Payload {
            json: draft.json.into(),
            published_at,
        };
        let mut message = Message::new(&draft.topic, payload);
        if let Some(name) = draft.name.as_deref() {
            message = message.name(name);
        }
        if let Some(source) = self.source {
            message = message.source(source);
        }
        self.publisher
            .send(message)
            .map_err(|error| error.to_string())
    }
}

impl Published {
    fn fail(&mut self, error: String, progress: &Progress) {
        progress.interrupt(|| complain(format_args!("{error}")));
        self.error = Some(error);
    }
}

/// What came of receiving.
struct Received {
    stats: SubscriptionStats,
    latency: Histogram<u64>,
    written: u64,
    error: Option<String>,
}

/// Receives until the bus is closed and all is read, or until the output fails. The subscriber is
/// dropped with the end of this function, which frees whoever waits for room in its ring.
fn receive(
    mut subscriber: Subscriber<Payload>,
    mut output: Option<Output>,
    progress: &Progress,
) -> Received {
    let mut latency = histogram();
    let mut written = 0;
    let ended = drain(&mut subscriber, output.as_mut(), &mut latency, &mut written);
    let error = match (ended, &output) {
        (Ok(()), _) => None,
        (Err(error), Some(output)) => Some(format!("{}: {error}", output.name)),
        (Err(error), None) => Some(error.to_string()),
    };
    if let Some(error) = &error {
        progress.interrupt(|| complain(format_args!("{error}")));
    }
    Received {
        stats: subscriber.stats(),
        latency,
        written,
        error,
    }
}

fn drain(
    subscriber: &mut Subscriber<Payload>,
    mut output: Option<&mut Output>,
    latency: &mut Histogram<u64>,
    written: &mut u64,
) -> io::Result<()> {
    loop {
        // Before waiting, a pipe gets what is buffered for it. Whatever else there is to say than
        // an event, `recv` says it again or has nothing to add: losses are in the statistics.
        let received = match subscriber.try_recv() {
            Ok(event) => Ok(event),
            Err(_) => {
                output.as_mut().map_or(Ok(()), |output| output.rest())?;
                subscriber.recv()
            }
        };
        match received {
            Ok(event) => {
                let waited = event.data().published_at.elapsed();
                // The histogram grows with its values: only one past all clocks would not fit.
                let _ = latency.record(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
                if let Some(output) = output.as_mut() {
                    output.write(event)?;
                    *written += 1;
                }
            }
            Err(RecvError::Lost(_)) => {}
            Err(RecvError::Closed) => break,
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
    output.map_or(Ok(()), Output::finish)
}

/// Waits for a receiver. One that panicked has told nothing but that.
fn join(receiver: ScopedJoinHandle<'_, Received>) -> Received {
    receiver.join().unwrap_or_else(|_| Received {
        stats: SubscriptionStats::default(),
        latency: histogram(),
        written: 0,
        error: Some("the receiving thread panicked".into()),
    })
}

fn histogram() -> Histogram<u64> {
    Histogram::new(LATENCY_DIGITS).expect("the number of digits is one of 0 to 5")
}

/// The latencies of all subscriptions together.
fn merged(received: &[Received]) -> Option<Histogram<u64>> {
    let mut all = histogram();
    for each in received {
        all.add(&each.latency).ok()?;
    }
    Some(all)
}

impl Received {
    fn report(self, asked: &Subscription) -> SubscriptionReport {
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

/// Puts together what the run has to say.
fn report(
    args: &RunArgs,
    input: String,
    published: Published,
    received: Vec<Received>,
    elapsed: Duration,
) -> Report {
    let latency = merged(&received);
    let subscriptions: Vec<_> = args
        .subscribe
        .iter()
        .zip(received)
        .map(|(asked, done)| done.report(asked))
        .collect();
    let sum = |of: fn(&SubscriptionReport) -> u64| subscriptions.iter().map(of).sum();
    let received = sum(|each| each.received);
    Report {
        input,
        topic: args.topic.as_str().to_owned(),
        overflow: args.overflow.name(),
        block_timeout_ms: args.block_timeout,
        lines: published.lines,
        blank_lines: published.blank_lines,
        bad_lines: published.bad_lines.count,
        events: published.events,
        matched: sum(|each| each.matched),
        received,
        lost: sum(|each| each.lost),
        superseded: sum(|each| each.superseded),
        unread: sum(|each| each.unread),
        elapsed_s: elapsed.as_secs_f64(),
        events_per_s: rate(published.events, elapsed),
        deliveries_per_s: rate(received, elapsed),
        latency_ns: latency.as_ref().and_then(Latency::of),
        error: published.error,
        subscriptions,
    }
}

/// Whether something went wrong that is not the fault of the lines. A policy that loses may lose.
fn has_failed(report: &Report) -> bool {
    let may_lose = report.overflow != "block" || report.block_timeout_ms.is_some();
    let lost_while_blocking = report.lost > 0 && !may_lose;
    if lost_while_blocking {
        complain(format_args!(
            "{} events were lost, see the report",
            report.lost
        ));
    }
    lost_while_blocking
        || report.error.is_some()
        || report
            .subscriptions
            .iter()
            .any(|subscription| subscription.error.is_some())
}

/// Prints the report, beside standard output if events went there.
fn print(text: &str, stdout_taken: bool) -> io::Result<()> {
    if stdout_taken {
        return io::stderr().lock().write_all(text.as_bytes());
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
