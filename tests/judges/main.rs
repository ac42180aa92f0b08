//! The real implementations as judges: the same questions, asked of a live server (or of Go's own
//! function) and of [`Pattern::parse_as`] with [`Pattern::matches`].
//!
//! `.ci/judges` installs them, starts them on the loopback, runs these tests and stops everything.
//! Alone, these tests are ignored: there is nobody to ask. Two kinds of questions are asked:
//!
//! * those of the conformance suite (`tests/testdata/patterns`), so that what its files say stays
//!   true;
//! * random ones, rich in what each language stumbles over, for as long as `FANOUT_JUDGES_SECONDS`
//!   says (for each judge); the seed is printed, and `FANOUT_JUDGES_SEED` repeats it.
//!
//! With `FANOUT_JUDGES_RECORD` set, nothing is compared: the answers to the questions in
//! `quirks.rs` are written into the suite's files.
//!
//! Who differs knowingly, and where, is said by [`asked_otherwise`], and nowhere else.

mod generate;
mod go;
mod mosquitto;
mod nats;
mod quirks;
mod rabbitmq;
mod record;
mod redis;
#[path = "../suite/mod.rs"]
mod suite;
mod wire;

use std::time::{Duration, Instant};

use fanout::pattern::Syntax;
use fanout::{Pattern, Topic};

use self::generate::{Dialect, Random};

/// Patterns and topics of a batch: each pattern is asked about each topic.
const BATCH_PATTERNS: usize = 128;
const BATCH_TOPICS: usize = 48;

/// How long each judge is asked, where nothing else is said.
const SECONDS_DEFAULT: u64 = 5;

/// Disagreements that are shown; the shortest come first.
const SHOWN_MAX: usize = 20;

/// A real implementation that can be asked.
trait Judge {
    /// Its name and version, as it says itself.
    fn name(&self) -> String;

    /// What it says to each of the patterns, about all of the topics, which are topics of ours.
    fn ask(&mut self, patterns: &[String], topics: &[String]) -> Vec<Answer>;
}

/// What is said to a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// It is none.
    Refused,
    /// Whether each of the topics matches.
    Verdicts(Vec<bool>),
}

#[test]
#[ignore = "needs a live nats-server: .ci/judges"]
fn nats_server_agrees() {
    let mut judge = nats::Nats::connect(&address("NATS"));
    examine(&mut judge, Dialect::Nats);
}

#[test]
#[ignore = "needs a live rabbitmq-server: .ci/judges"]
fn rabbitmq_agrees() {
    let mut judge = rabbitmq::RabbitMq::connect(&address("AMQP"), BATCH_PATTERNS);
    examine(&mut judge, Dialect::Amqp);
}

#[test]
#[ignore = "needs a live mosquitto: .ci/judges"]
fn mosquitto_agrees() {
    let mut judge = mosquitto::Mosquitto::connect(&address("MQTT"), BATCH_PATTERNS);
    examine(&mut judge, Dialect::Mqtt);
}

#[test]
#[ignore = "needs Go's path.Match, built: .ci/judges"]
fn path_match_agrees() {
    let mut judge = go::PathMatch::start(&address("PATH"));
    examine(&mut judge, Dialect::Path);
}

#[test]
#[ignore = "needs a live redis-server: .ci/judges"]
fn redis_agrees() {
    let mut judge = redis::Redis::connect(&address("REDIS"));
    examine(&mut judge, Dialect::Redis);
}

/// Where a judge can be found: an address, or a program.
fn address(judge: &str) -> String {
    let variable = format!("FANOUT_JUDGES_{judge}");
    std::env::var(&variable).unwrap_or_else(|_| panic!("{variable} is not set: run .ci/judges"))
}

/// Records the judge's answers, or compares them with ours.
fn examine(judge: &mut impl Judge, dialect: Dialect) {
    println!("{:?}: asking {}", dialect.syntax(), judge.name());
    if std::env::var_os("FANOUT_JUDGES_RECORD").is_some() {
        return record::record(judge, dialect);
    }
    let mut tally = Tally::default();
    ask_what_the_suite_asks(judge, dialect, &mut tally);
    tally.report(judge, "of the conformance suite");

    let mut tally = Tally::default();
    ask_at_random(judge, dialect, &mut tally);
    tally.report(judge, "at random");
    // Questions that all have one answer would show nothing.
    assert!(tally.matches * 200 > tally.questions, "too few match");
    assert!(tally.matches * 10 < tally.questions * 9, "too many match");
    let refuses = !matches!(dialect, Dialect::Amqp | Dialect::Redis);
    assert_eq!(refuses, tally.refused > 0, "{} are refused", tally.refused);
}

fn ask_what_the_suite_asks(judge: &mut impl Judge, dialect: Dialect, tally: &mut Tally) {
    for case in dialect.cases() {
        let topics: Vec<String> = case.verdicts().map(|(topic, _)| topic.to_owned()).collect();
        let (patterns, topics) = ([case.pattern.clone()], dialect.askable(&topics));
        if asked_otherwise(dialect, &case.pattern) || !dialect.can_be_asked(&case.pattern) {
            continue;
        }
        // A refusal is an answer also where the suite has no topic.
        let topics = if topics.is_empty() {
            vec!["a".to_owned()]
        } else {
            topics
        };
        let answers = judge.ask(&patterns, &topics);
        tally.compare(dialect, &patterns[0], &topics, &answers[0]);
    }
}

fn ask_at_random(judge: &mut impl Judge, dialect: Dialect, tally: &mut Tally) {
    let seed = number("FANOUT_JUDGES_SEED").unwrap_or_else(generate::seed_of_now);
    let seconds = number("FANOUT_JUDGES_SECONDS").unwrap_or(SECONDS_DEFAULT);
    println!("FANOUT_JUDGES_SEED={seed}");
    let mut random = Random::new(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        let mut patterns: Vec<String> = (0..BATCH_PATTERNS)
            .map(|_| dialect.pattern(&mut random))
            .collect();
        patterns.sort();
        patterns.dedup();
        patterns.retain(|pattern| !asked_otherwise(dialect, pattern));
        let topics: Vec<String> = (0..BATCH_TOPICS)
            .map(|_| dialect.topic(&patterns, &mut random))
            .collect();
        let answers = judge.ask(&patterns, &topics);
        assert_eq!(answers.len(), patterns.len());
        for (pattern, answer) in patterns.iter().zip(&answers) {
            tally.compare(dialect, pattern, &topics, answer);
        }
        if Instant::now() >= end {
            return;
        }
    }
}

/// Where we differ from the implementation, knowingly.
fn asked_otherwise(dialect: Dialect, pattern: &str) -> bool {
    match dialect {
        // Shared subscriptions are a matter of brokers: refused here.
        Dialect::Mqtt => pattern.starts_with("$share/"),
        // Both mean everything here, as they did where this language comes from.
        Dialect::Path => pattern.is_empty() || pattern == "*",
        Dialect::Nats | Dialect::Amqp | Dialect::Redis => false,
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
    )
}

/// What was asked and answered so far.
#[derive(Default)]
struct Tally {
    questions: u64,
    matches: u64,
    /// Patterns, not questions.
    refused: u64,
    disagreements: Vec<String>,
}

impl Tally {
    fn compare(&mut self, dialect: Dialect, pattern: &str, topics: &[String], theirs: &Answer) {
        self.questions += topics.len() as u64;
        match theirs {
            Answer::Refused => self.refused += 1,
            Answer::Verdicts(verdicts) => {
                assert_eq!(verdicts.len(), topics.len());
                self.matches += verdicts.iter().filter(|&&verdict| verdict).count() as u64;
            }
        }
        let ours = ours(dialect.syntax(), pattern, topics);
        match (&ours, theirs) {
            (Answer::Verdicts(ours), Answer::Verdicts(theirs)) => {
                for ((topic, ours), theirs) in topics.iter().zip(ours).zip(theirs) {
                    if ours != theirs {
                        self.disagreements.push(format!(
                            "{pattern:?} {topic:?}: ours {ours}, theirs {theirs}"
                        ));
                    }
                }
            }
            (Answer::Refused, Answer::Refused) => {}
            _ => {
                let said = |answer: &Answer| match answer {
                    Answer::Refused => "refused",
                    Answer::Verdicts(_) => "accepted",
                };
                self.disagreements.push(format!(
                    "{pattern:?}: ours {}, theirs {}",
                    said(&ours),
                    said(theirs)
                ));
            }
        }
    }

    fn report(&mut self, judge: &impl Judge, kind: &str) {
        println!(
            "{}: {} questions {kind}, {} match, {} patterns refused, {} disagreements",
            judge.name(),
            self.questions,
            self.matches,
            self.refused,
            self.disagreements.len(),
        );
        let disagreements = &mut self.disagreements;
        disagreements.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        disagreements.dedup();
        disagreements.truncate(SHOWN_MAX);
        assert!(
            disagreements.is_empty(),
            "{} differs:\n{}",
            judge.name(),
            disagreements.join("\n")
        );
    }
}

/// What this crate says.
fn ours(syntax: Syntax, pattern: &str, topics: &[String]) -> Answer {
    match Pattern::parse_as(pattern, syntax) {
        Err(_) => Answer::Refused,
        Ok(pattern) => Answer::Verdicts(
            topics
                .iter()
                .map(|topic| pattern.matches(&Topic::new(topic).expect("topics are topics")))
                .collect(),
        ),
    }
}
