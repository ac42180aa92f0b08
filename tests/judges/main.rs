//! Reference implementations, called judges: the programs whose pattern languages
//! [`Pattern::parse_as`] accepts. The same questions are put to a running server (or to Go's own
//! function) and to [`Pattern::matches`].
//!
//! `.ci/judges` installs the programs, starts them on the loopback interface, runs these tests and
//! stops everything. Without it, these tests are ignored, because no program is running. There are
//! two kinds of questions:
//!
//! * those of the conformance suite (`tests/testdata/patterns`), so that its files stay true;
//! * random questions with many of the special cases of each language. They are asked for
//!   `FANOUT_JUDGES_SECONDS` seconds for each program; the seed is printed, and
//!   `FANOUT_JUDGES_SEED` repeats it.
//!
//! With `FANOUT_JUDGES_RECORD`, nothing is compared: the answers to the questions in `quirks.rs`
//! are written into the files of the suite.
//!
//! The only intended differences are those in [`differs_knowingly`].

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

/// The size of a batch: each of the patterns is asked about each of the topics.
const BATCH_PATTERNS: usize = 128;
const BATCH_TOPICS: usize = 48;

/// How long each program is asked by default.
const SECONDS_DEFAULT: u64 = 5;

/// How many disagreements are shown, shortest first.
const SHOWN_MAX: usize = 20;

/// A program that can be asked.
trait Judge {
    /// The name and version that the program reports.
    fn name(&self) -> String;

    /// The answer to each of the patterns about all topics, which are valid topics of ours.
    fn ask(&mut self, patterns: &[String], topics: &[String]) -> Vec<Answer>;
}

/// The answer to a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// It is not a valid pattern.
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

/// Where a program can be found: its address, or its path.
fn address(judge: &str) -> String {
    let variable = format!("FANOUT_JUDGES_{judge}");
    std::env::var(&variable).unwrap_or_else(|_| panic!("{variable} is not set: run .ci/judges"))
}

/// Records the answers of the program, or compares them with ours.
fn examine(judge: &mut impl Judge, dialect: Dialect) {
    println!("{:?}: asking {}", dialect.syntax(), judge.name());
    if std::env::var_os("FANOUT_JUDGES_RECORD").is_some() {
        return record::record(judge, dialect);
    }
    let mut tally = Tally::default();
    ask_the_suite(judge, dialect, &mut tally);
    tally.report(judge, "of the conformance suite");

    let mut tally = Tally::default();
    ask_at_random(judge, dialect, &mut tally);
    tally.report(judge, "at random");
    // If all answers were equal, the questions would show nothing.
    assert!(tally.matches * 200 > tally.questions, "too few match");
    assert!(tally.matches * 10 < tally.questions * 9, "too many match");
    let refuses = !matches!(dialect, Dialect::Amqp | Dialect::Redis);
    assert_eq!(refuses, tally.refused > 0, "{} are refused", tally.refused);
}

fn ask_the_suite(judge: &mut impl Judge, dialect: Dialect, tally: &mut Tally) {
    for case in dialect.cases() {
        let topics: Vec<String> = case.verdicts().map(|(topic, _)| topic.to_owned()).collect();
        let (patterns, topics) = ([case.pattern.clone()], dialect.askable(&topics));
        if differs_knowingly(dialect, &case.pattern) || !dialect.can_be_asked(&case.pattern) {
            continue;
        }
        // A refusal is an answer, even if the suite has no topic.
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
        patterns.retain(|pattern| !differs_knowingly(dialect, pattern));
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

/// The intended differences from the program.
fn differs_knowingly(dialect: Dialect, pattern: &str) -> bool {
    match dialect {
        // Shared subscriptions are a feature of brokers; they are refused here.
        Dialect::Mqtt => pattern.starts_with("$share/"),
        // These two match everything here, as they did in the program that this language comes
        // from.
        Dialect::Path => pattern.is_empty() || pattern == "*",
        Dialect::Nats | Dialect::Amqp | Dialect::Redis => false,
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
    )
}

/// The questions and answers so far.
#[derive(Default)]
struct Tally {
    questions: u64,
    matches: u64,
    /// How many patterns were asked about.
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

/// The answers of this crate.
fn ours(syntax: Syntax, pattern: &str, topics: &[String]) -> Answer {
    match Pattern::parse_as(pattern, syntax) {
        Err(_) => Answer::Refused,
        Ok(pattern) => Answer::Verdicts(
            topics
                .iter()
                .map(|topic| pattern.matches(&Topic::new(topic).expect("the topic is valid")))
                .collect(),
        ),
    }
}
