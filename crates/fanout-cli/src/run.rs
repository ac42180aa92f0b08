//! `fanout run`: opens all files, publishes lines, and receives and counts events.
//!
//! ```text
//!  input --lines--> this thread --publish--> bus --+--> receiving thread --> output
//!                                                  +--> receiving thread --> output
//! ```
//!
//! # What is lost, and when
//!
//! By default nothing is lost: the bus waits, so the slowest output determines the speed of
//! reading. With `--overflow drop-newest`, `drop-oldest` or `conflate`, and after a
//! `--block-timeout`, losses are counted for each subscription, a message names them, and the exit
//! status is another one than that of a run without losses. If a subscription with the policy block
//! lost events although there is no timeout, the run has failed. A run has also failed if a
//! subscription ended because of `--overflow disconnect`.
//!
//! # Failure modes
//!
//! - An output cannot be written: its receiving thread and its subscription end, so that the bus
//!   does not wait for it. The others continue. When no subscription is left, reading stops.
//! - The input cannot be read any more: the lines that were read are delivered, and the run has
//!   failed.
//! - A line is bad: it is printed, counted and skipped. With `--strict`, reading stops there.
//! - The process gets a signal: reading stops, and the lines that were read are delivered. If that
//!   takes long, a message names the outputs that the run waits for.

use fanout::{Bus, Message, Overflow, Publisher, Subscriber};
use indicatif::HumanCount;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::args::{OverflowChoice, RunArgs};
use crate::bad_lines::BadLines;
use crate::console::{self, Progress, print_message};
use crate::duration;
use crate::hint;
use crate::identity::{STANDARD_STREAM, STDOUT_NAME};
use crate::input::{self, Input, is_stop};
use crate::interrupt::{Interrupt, Signal};
use crate::line::{Draft, Recipe};
use crate::output::{self, Output};
use crate::payload::Payload;
use crate::receive::{Received, join, receive, total_latency};
use crate::report::{Report, SubscriptionReport, rate};
use crate::status::{StartError, Status};
use crate::subscription::Subscription;

/// How long after a signal a run may take to end without a message.
const PATIENCE: Duration = Duration::from_secs(1);

/// The largest number of outputs that this message names.
const WAITED_FOR_SHOWN_MAX: usize = 3;

/// Runs the command.
pub(crate) fn run(args: &RunArgs) -> Status {
    let done = match fan_out(args) {
        Ok(done) => done,
        Err(StartError::Refused(message)) => {
            print_message(format_args!("{message}"));
            return Status::Refused;
        }
        Err(StartError::Failed(message)) => {
            print_message(format_args!("{message}"));
            return Status::Failed;
        }
    };
    let report = &done.report;
    print_hints(args, report);
    print_losses(args, report);
    let text = if args.json {
        report.json()
    } else {
        report.table()
    };
    let printed = if done.is_stdout_taken {
        io::stderr().lock().write_all(text.as_bytes())
    } else {
        console::print(&text)
    };
    if let Err(error) = &printed {
        print_message(format_args!("the report cannot be printed: {error}"));
    }
    if has_failed(args, report) || printed.is_err() {
        Status::Failed
    } else if let Some(signal) = done.signal {
        Status::Ended(signal)
    } else if report.bad_lines > 0 {
        Status::BadLines
    } else if report.lost > 0 {
        Status::Lost
    } else {
        Status::Good
    }
}

/// A run that is over.
struct Done {
    report: Report,
    /// Whether events were written to standard output.
    is_stdout_taken: bool,
    signal: Option<Signal>,
}

/// Opens everything, runs, and reports.
fn fan_out(args: &RunArgs) -> Result<Done, StartError> {
    let subscriptions = read_subscriptions(args)?;
    let input = Input::open(&args.input)
        .map_err(|error| StartError::Failed(format!("{}: {error}", input::name_of(&args.input))))?;
    let (bus, subscribers) = open_bus(args, &subscriptions)?;
    let names: Vec<_> = subscriptions
        .iter()
        .map(|asked| asked.output.as_deref())
        .collect();
    let outputs = output::open_all(&names, input.identity.as_ref())?;
    // Signals are caught only from here on: opening a named pipe may take for ever, and a signal
    // must end the process then. They are caught before the files are emptied, so that a signal
    // either leaves the content of all files or is followed by a report.
    let interrupt = Interrupt::install()
        .map_err(|error| StartError::Failed(format!("signals cannot be caught: {error}")))?;
    let outputs = outputs.begin()?;
    let is_any = |has: fn(&Output) -> bool| outputs.iter().flatten().any(has);
    let is_stdout_taken = is_any(|output| output.is_stdout);
    let shows_progress = !args.quiet && !is_any(|output| output.is_terminal);

    let progress = Progress::new(input.size_bytes, shows_progress);
    let input_name = input.name.clone();
    let recipe = Recipe::new(args.topic.clone(), args.name_field.clone());

    let started_at = Instant::now();
    let left = AtomicUsize::new(subscribers.len());
    let waited_for: Vec<_> = subscriptions.iter().map(WaitedFor::new).collect();
    let (published, received) = thread::scope(|scope| {
        let _over = RunOver(&interrupt);
        watch_for_slow_end(scope, &interrupt, &waited_for, progress.clone());
        let mut receivers = Vec::new();
        let each = subscribers.into_iter().zip(&subscriptions).zip(outputs);
        for (index, ((subscriber, asked), output)) in each.enumerate() {
            let progress = progress.clone();
            let one_left = OneLeft {
                left: &left,
                is_running: &waited_for[index].is_running,
                interrupt: &interrupt,
            };
            let receiver = thread::Builder::new()
                .name(format!("fanout-out-{index}"))
                .spawn_scoped(scope, move || {
                    let _one_left = one_left;
                    receive(subscriber, asked, output, &progress)
                })
                .map_err(|error| {
                    StartError::Failed(format!("a thread cannot be started: {error}"))
                })?;
            receivers.push(receiver);
        }
        let publishing = Publishing {
            publisher: bus.publisher(),
            recipe,
            source: args.source.as_deref(),
            strict: args.strict,
            progress: progress.clone(),
        };
        let published = publishing.publish_all(input, &interrupt);
        // The publisher is dropped already. When the bus is dropped, too, the receivers end as soon
        // as they have read everything.
        drop(bus);
        let received: Vec<_> = receivers.into_iter().map(join).collect();
        Ok((published, received))
    })?;
    let elapsed = started_at.elapsed();
    progress.finish();

    let outcome = Outcome {
        input_name,
        published,
        received,
        elapsed,
        signal: interrupt.signal(),
    };
    Ok(Done {
        signal: outcome.signal,
        report: report(args, &subscriptions, outcome),
        is_stdout_taken,
    })
}

fn read_subscriptions(args: &RunArgs) -> Result<Vec<Subscription>, StartError> {
    let read = |argument: &String| {
        Subscription::parse(argument, args.syntax)
            .map_err(|error| StartError::Refused(format!("--subscribe {argument:?}: {error}")))
    };
    args.subscribe.iter().map(read).collect()
}

/// A bus, and a subscriber for each subscription.
fn open_bus(
    args: &RunArgs,
    subscriptions: &[Subscription],
) -> Result<(Bus<Payload>, Vec<Subscriber<Payload>>), StartError> {
    let overflow = args.overflow.policy();
    let is_blocking = overflow == Overflow::Block;
    if args.block_timeout.is_some() && !is_blocking {
        return Err(StartError::Refused(
            "--block-timeout has no effect without --overflow block: the other policies never wait"
                .into(),
        ));
    }
    let mut builder = Bus::<Payload>::builder().blocking(is_blocking);
    if let Some(longest_wait) = args.block_timeout {
        builder = builder.block_timeout(longest_wait);
    }
    if let Some(threads) = args.dispatchers {
        builder = builder.dispatchers(threads);
    }
    let bus = builder
        .build()
        .map_err(|error| StartError::Failed(format!("the bus cannot be started: {error}")))?;
    let mut subscribers = Vec::new();
    for asked in subscriptions {
        let mut subscription = bus.subscription(asked.pattern.clone()).overflow(overflow);
        if let Some(events) = args.capacity {
            subscription = subscription.capacity(events);
        }
        let refused = |error| StartError::Refused(format!("--subscribe {:?}: {error}", asked.text));
        subscribers.push(subscription.open().map_err(refused)?);
    }
    Ok((bus, subscribers))
}

/// Dropped when a receiving thread ends. When the last one ends, reading must stop, because no
/// subscription would receive the lines.
struct OneLeft<'a> {
    /// The number of receiving threads that have not ended.
    left: &'a AtomicUsize,
    /// Whether this one has not ended.
    is_running: &'a AtomicBool,
    interrupt: &'a Interrupt,
}

impl Drop for OneLeft<'_> {
    fn drop(&mut self) {
        // Relaxed: the flag and the number guard no other memory.
        self.is_running.store(false, Ordering::Relaxed);
        let before = self.left.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before >= 1);
        if before == 1 {
            self.interrupt.stop();
        }
    }
}

/// A receiving thread, for the message that names those that a run waits for.
struct WaitedFor {
    /// The output, or the subscription if its events are only counted.
    name: String,
    is_running: AtomicBool,
}

impl WaitedFor {
    fn new(asked: &Subscription) -> WaitedFor {
        WaitedFor {
            name: match asked.output.as_deref() {
                Some(STANDARD_STREAM) => STDOUT_NAME.to_owned(),
                Some(output) => output.to_owned(),
                None => format!("subscription {:?}", asked.text),
            },
            is_running: AtomicBool::new(true),
        }
    }
}

/// Dropped when the run is over, however it ends.
struct RunOver<'a>(&'a Interrupt);

impl Drop for RunOver<'_> {
    fn drop(&mut self) {
        self.0.run_is_over();
    }
}

/// Starts the thread that prints a message if a signal does not end the run soon, because an output
/// takes no events. Without that message, the user would not know what a second signal does. If
/// the thread cannot be started, there is no message.
fn watch_for_slow_end<'scope>(
    scope: &'scope Scope<'scope, '_>,
    interrupt: &'scope Interrupt,
    waited_for: &'scope [WaitedFor],
    progress: Progress,
) {
    let watch = move || {
        let Some(signal) = interrupt.wait_for_slow_end(PATIENCE) else {
            return;
        };
        // Relaxed: the flags guard no other memory.
        let running = waited_for
            .iter()
            .filter(|each| each.is_running.load(Ordering::Relaxed));
        let names: Vec<_> = running.map(|each| each.name.as_str()).collect();
        if names.is_empty() {
            return; // the last one has just ended
        }
        let shown = names.len().min(WAITED_FOR_SHOWN_MAX);
        let mut text = names[..shown].join(", ");
        if shown < names.len() {
            text += &format!(" and {} more", names.len() - shown);
        }
        progress.interrupt(|| {
            print_message(format_args!(
                "{}: waiting until {text} can take the events that are left; a second signal \
                 (Ctrl-C) ends the process at once, without these events",
                signal.name()
            ));
        });
    };
    let _ = thread::Builder::new()
        .name("fanout-signals".into())
        .spawn_scoped(scope, watch);
}

/// The state of the publishing side. Publishing consumes it, so that the publisher is dropped at
/// the end.
struct Publishing<'a> {
    publisher: Publisher<Payload>,
    recipe: Recipe,
    source: Option<&'a str>,
    strict: bool,
    progress: Progress,
}

/// The result of publishing.
#[derive(Default)]
struct Published {
    lines: u64,
    blank_lines: u64,
    bad_lines: BadLines,
    events: u64,
    /// Why publishing ended before the end of the input, unless a bad line or a signal ended it.
    error: Option<String>,
}

impl Publishing<'_> {
    /// Publishes line after line, until the input ends or there is a reason to stop.
    fn publish_all(mut self, input: Input, interrupt: &Interrupt) -> Published {
        let mut done = Published::default();
        let name = input.name.clone();
        let mut lines = input.lines(interrupt);
        loop {
            let number = lines.number() + 1;
            let drafted = match lines.next() {
                Ok(Some(line)) => self.recipe.draft(line),
                Ok(None) => break,
                Err(error) if is_stop(&error) => {
                    if interrupt.signal().is_none() {
                        // Each subscription has printed its own reason.
                        done.error = Some("every subscription has ended".into());
                    }
                    break;
                }
                Err(error) => {
                    done.fail(format!("{name}:{number}: {error}"), &self.progress);
                    break;
                }
            };
            done.lines += 1;
            match drafted {
                Ok(Some(draft)) => {
                    let now = Instant::now();
                    if let Err(error) = self.publish(&draft, now) {
                        done.fail(format!("{name}:{number}: {error}"), &self.progress);
                        break;
                    }
                    done.events += 1;
                    self.progress
                        .advance(now, lines.position_bytes(), done.events);
                }
                Ok(None) => done.blank_lines += 1,
                Err(bad) => {
                    self.progress
                        .interrupt(|| done.bad_lines.add(&name, number, &bad));
                    if self.strict {
                        break;
                    }
                }
            }
        }
        done
    }

    /// Publishes one event. Waits if the lane is full.
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
        progress.interrupt(|| print_message(format_args!("{error}")));
        self.error = Some(error);
    }
}

/// The result of a run.
struct Outcome {
    input_name: String,
    published: Published,
    /// The results of the receiving threads, in the order of the subscriptions.
    received: Vec<Received>,
    elapsed: Duration,
    signal: Option<Signal>,
}

fn report(args: &RunArgs, subscriptions: &[Subscription], outcome: Outcome) -> Report {
    let Outcome {
        published, elapsed, ..
    } = outcome;
    let latency_ns = total_latency(&outcome.received);
    let subscriptions: Vec<_> = subscriptions
        .iter()
        .zip(outcome.received)
        .map(|(asked, received)| received.report(asked))
        .collect();
    let sum = |of: fn(&SubscriptionReport) -> u64| subscriptions.iter().map(of).sum();
    let received = sum(|each| each.received);
    Report {
        input: outcome.input_name,
        topic: args.topic.as_str().to_owned(),
        syntax: args.syntax.name(),
        overflow: args.overflow.name(),
        block_timeout_ms: args.block_timeout.map(whole_ms),
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
        latency_ns,
        signal: outcome.signal.map(Signal::name),
        error: published.error,
        subscriptions,
    }
}

/// The duration in milliseconds, which is exact: the arguments have no smaller unit, and are
/// bounded.
fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Prints a hint for each pattern that matched nothing and looks like one of another language.
fn print_hints(args: &RunArgs, report: &Report) {
    if report.events == 0 {
        return; // no pattern could match
    }
    let unmatched = report.subscriptions.iter().filter(|each| each.matched == 0);
    for SubscriptionReport { pattern, .. } in unmatched {
        if let Some(hint) = hint::for_pattern(pattern, args.syntax) {
            print_message(format_args!("{pattern:?} matched no event; {hint}"));
        }
    }
}

/// Prints how many events each subscription lost, and why.
fn print_losses(args: &RunArgs, report: &Report) {
    let policy = report.overflow;
    let why = match (args.overflow, args.block_timeout) {
        (OverflowChoice::Block, Some(timeout)) => {
            let timeout = duration::shown(timeout);
            format!("its ring was full for longer than --block-timeout {timeout}")
        }
        (OverflowChoice::Block, None) => format!("although --overflow {policy} loses none"),
        _ => format!("its ring was full (--overflow {policy})"),
    };
    for subscription in &report.subscriptions {
        // The error of a subscription that was disconnected contains its loss, and is printed.
        let is_known = args.overflow == OverflowChoice::Disconnect && subscription.error.is_some();
        if subscription.lost > 0 && !is_known {
            let [lost, matched] = [subscription.lost, subscription.matched].map(HumanCount);
            print_message(format_args!(
                "subscription {:?}: lost {lost} of {matched} events: {why}",
                subscription.pattern
            ));
        }
    }
}

/// Returns whether anything failed, apart from bad lines. Losses are not a failure if the policy
/// allows them.
fn has_failed(args: &RunArgs, report: &Report) -> bool {
    let may_lose = args.overflow != OverflowChoice::Block || args.block_timeout.is_some();
    let has_error = |subscription: &SubscriptionReport| subscription.error.is_some();
    (report.lost > 0 && !may_lose)
        || report.error.is_some()
        || report.subscriptions.iter().any(has_error)
}
