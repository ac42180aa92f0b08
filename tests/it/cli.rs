//! The command line as its users have it: the built binary, real files and real pipes.
//!
//! What is expected is computed here from the input's text, by other means than the program's:
//! fields are compared as strings, never by a pattern.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

const FLIGHTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/data/flights-2k.ndjson"
);
const FLIGHTS_TOPIC: &str = "flights.{origin}.{destination}";

// ---- tools ------------------------------------------------------------------------------------

/// A directory of one test, gone when the test has passed.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Dir {
        let name = format!("cli-{test}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a directory for the test");
        Dir(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a UTF-8 path").to_owned()
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("a file for the test");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

fn fanout(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
    command.args(args).stdin(Stdio::null());
    command
}

struct Ran {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ran {
    fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8 on standard output")
    }

    /// The report of a run with `--json`.
    fn report(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out(), self.stderr))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let stderr = String::from_utf8(output.stderr).expect("UTF-8 on standard error");
        assert!(!stderr.contains("panicked"), "{stderr}");
        let code = output.status.code().expect("it ended by itself");
        Ran {
            code,
            stdout: output.stdout,
            stderr,
        }
    }
}

fn ran(args: &[&str]) -> Ran {
    fanout(args).output().expect("the binary runs").into()
}

/// Runs with this on standard input.
fn ran_with(args: &[&str], input: &[u8]) -> Ran {
    let mut child = fanout(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ = stdin.write_all(input); // it may have ended before it read all
        });
        child.wait_with_output().expect("it ends").into()
    })
}

/// A line that a run wrote for an event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    id: u64,
    topic: String,
    name: Option<String>,
    source: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
    created_at: String,
}

fn written(text: &str) -> Vec<Written<'_>> {
    let read = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.lines().map(read).collect()
}

fn data<'a>(written: &[Written<'a>]) -> Vec<&'a str> {
    written.iter().map(|event| event.data.get()).collect()
}

struct Flight<'a> {
    line: &'a str,
    origin: String,
    destination: String,
}

fn flights(text: &str) -> Vec<Flight<'_>> {
    let flight = |line| {
        let fields: Value = serde_json::from_str(line).expect("the example is JSON");
        let field = |name: &str| fields[name].as_str().expect("a string").to_owned();
        Flight {
            line,
            origin: field("origin"),
            destination: field("destination"),
        }
    };
    text.lines().map(flight).collect()
}

// ---- run: real input --------------------------------------------------------------------------

/// The subscriptions of the README, and the same said about the fields.
type Selection = (&'static str, fn(&Flight<'_>) -> bool);
const SELECTIONS: [Selection; 5] = [
    ("flights.SFO.*", |flight| flight.origin == "SFO"),
    ("flights.*.JFK", |flight| flight.destination == "JFK"),
    ("flights.[A-D]*.**", |flight| {
        ('A'..='D').any(|first| flight.origin.starts_with(first))
    }),
    ("flights.{ORD,ATL}.?*", |flight| {
        flight.origin == "ORD" || flight.origin == "ATL"
    }),
    ("*", |_| true),
];

#[test]
fn real_flights_reach_every_subscription_that_matches_and_no_other() {
    let dir = Dir::new("flights");
    let text = fs::read_to_string(FLIGHTS).expect("the example is there");
    let flights = flights(&text);
    assert_eq!(flights.len(), 2000);

    let files: Vec<_> = (0..SELECTIONS.len())
        .map(|n| dir.path(&format!("{n}.ndjson")))
        .collect();
    let mut args = vec![
        "run",
        "--input",
        FLIGHTS,
        "--topic",
        FLIGHTS_TOPIC,
        "--json",
    ];
    let subscribe: Vec<_> = SELECTIONS
        .iter()
        .zip(&files)
        .map(|((p, _), file)| format!("{p}={file}"))
        .collect();
    subscribe
        .iter()
        .for_each(|argument| args.extend(["--subscribe", argument]));
    let ran = ran(&args);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));

    let report = ran.report();
    for (index, (pattern, selects)) in SELECTIONS.iter().enumerate() {
        let expected: Vec<_> = flights.iter().filter(|flight| selects(flight)).collect();
        assert!(
            !expected.is_empty(),
            "{pattern} says something about the example"
        );

        let reported = &report["subscriptions"][index];
        assert_eq!(reported["pattern"], *pattern);
        assert_eq!(reported["output"], files[index]);
        for key in ["matched", "received", "written"] {
            assert_eq!(reported[key], expected.len(), "{pattern}: {key}");
        }
        for key in ["lost", "unread"] {
            assert_eq!(reported[key], 0, "{pattern}: {key}");
        }

        let content = fs::read_to_string(&files[index]).expect("the output is there");
        let events = written(&content);
        let lines: Vec<_> = expected.iter().map(|flight| flight.line).collect();
        assert_eq!(data(&events), lines, "{pattern}");
        for (event, flight) in events.iter().zip(&expected) {
            let topic = format!("flights.{}.{}", flight.origin, flight.destination);
            assert_eq!(event.topic, topic);
            assert_eq!((&event.name, &event.source), (&None, &None));
        }
        assert_ids_and_times_rise(&events);
    }
}

/// Ids strictly; times, as RFC 3339 in UTC with nanoseconds, never fall.
fn assert_ids_and_times_rise(events: &[Written<'_>]) {
    let time = |event: &Written<'_>| -> jiff::Timestamp {
        let text = &event.created_at;
        assert!(text.ends_with('Z') && text.len() == "2001-01-01T00:00:00.000000000Z".len());
        text.parse()
            .unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    for pair in events.windows(2) {
        assert!(pair[0].id < pair[1].id, "{pair:?}");
        assert!(time(&pair[0]) <= time(&pair[1]), "{pair:?}");
    }
}

#[test]
fn one_subscription_to_everything_sees_ids_from_one_without_a_hole() {
    let ran = ran(&["run", "-i", FLIGHTS, "-t", FLIGHTS_TOPIC, "-s", "*=-"]);
    assert_eq!(ran.code, 0);
    let ids: Vec<_> = written(ran.out()).iter().map(|event| event.id).collect();
    assert_eq!(ids, (1..=2000).collect::<Vec<_>>());
}

#[test]
fn the_json_report_has_its_keys_and_adds_up() {
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<_> = value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        keys.sort();
        keys
    };
    let mut args = vec!["run", "-i", FLIGHTS, "-t", FLIGHTS_TOPIC, "--json"];
    SELECTIONS
        .iter()
        .for_each(|(pattern, _)| args.extend(["-s", pattern]));
    let report = ran(&args).report();
    assert_eq!(
        keys(&report).join(" "),
        "bad_lines blank_lines block_timeout_ms deliveries_per_s elapsed_s error events events_per_s input \
         latency_ns lines lost matched overflow received subscriptions superseded topic unread"
    );
    assert_eq!(
        keys(&report["subscriptions"][0]).join(" "),
        "error high_water latency_ns lost matched output pattern received superseded unread written"
    );
    let latency = &report["latency_ns"];
    assert_eq!(keys(latency).join(" "), "max p50 p90 p99 p99_9");
    let percentiles = ["p50", "p90", "p99", "p99_9", "max"]
        .map(|key| latency[key].as_u64().expect("a number of nanoseconds"));
    assert!(
        percentiles.is_sorted() && percentiles[0] > 0,
        "{percentiles:?}"
    );

    let sum = |key: &str| -> u64 {
        let all = report["subscriptions"].as_array().expect("a list");
        all.iter()
            .map(|each| each[key].as_u64().expect("a count"))
            .sum()
    };
    for key in ["matched", "received", "lost", "unread"] {
        assert_eq!(report[key], sum(key), "{key}");
    }
    assert_eq!(report["lines"], 2000);
    assert_eq!(report["events"], 2000);
    assert_eq!(report["overflow"], "block");
    assert_eq!(report["block_timeout_ms"], Value::Null);
    assert_eq!(report["error"], Value::Null);
    assert!(report["events_per_s"].as_f64() > Some(0.0));
    assert!(report["deliveries_per_s"].as_f64() > Some(0.0));
}

#[test]
fn the_table_names_counts_for_people() {
    let ran = ran(&[
        "run",
        "-i",
        FLIGHTS,
        "-t",
        FLIGHTS_TOPIC,
        "-s",
        "*",
        "-s",
        "none.*",
    ]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let out = ran.out();
    assert!(out.contains("2,000 lines, 0 bad, 0 blank"), "{out}");
    for words in [
        "pattern matched received lost superseded unread",
        "* 2,000 2,000 0 0",
        "none.* 0 0 0 0",
    ] {
        let found = |line: &str| {
            line.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .starts_with(words)
        };
        assert!(out.lines().any(found), "{words}: {out}");
    }
    for word in [
        "events/s",
        "deliveries/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
    ] {
        assert!(out.contains(word), "{word}: {out}");
    }
}

#[test]
fn a_line_of_standard_input_is_published_as_it_comes_and_written_before_the_next() {
    let mut child = fanout(&["run", "-i", "-", "-t", "t.{a}", "-s", "t.*=-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    for n in 1..=3 {
        writeln!(stdin, "{{\"a\":{n}}}").expect("it reads");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it writes");
        assert_eq!(written(&line)[0].topic, format!("t.{n}"));
    }
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn with_events_on_standard_output_the_report_goes_to_standard_error() {
    let input = b"{\"a\":1}\n{\"a\":2}\n";
    let ran = ran_with(
        &["run", "-i", "-", "-t", "t.{a}", "-s", "*=-", "--json"],
        input,
    );
    assert_eq!(ran.code, 0);
    assert_eq!(data(&written(ran.out())), ["{\"a\":1}", "{\"a\":2}"]);
    let report: Value = serde_json::from_str(&ran.stderr).expect("only the report");
    assert_eq!(report["input"], "<stdin>");
    assert_eq!(report["subscriptions"][0]["output"], "-");
}

#[test]
fn data_is_the_line_as_it_is() {
    let lines = [
        r#"{"z":1,"a":"x","b":{"y":[1.50,1e400,{}]}}"#,
        r#"{ "a" : "\u0078" , "big" : 123456789012345678901234567890 }"#,
        r#"{"a":"x","a2":"é \" \\ \u0007 \ud800","a":"x"}"#,
    ];
    let crlf = lines.join("\r\n"); // and no end behind the last
    let ran = ran_with(
        &["run", "-i", "-", "-t", "{a}", "-s", "x=-"],
        crlf.as_bytes(),
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for (event, line) in ran.out().lines().zip(lines) {
        assert!(
            event.contains(&format!(",\"data\":{line},\"created_at\":\"")),
            "{event}"
        );
    }
    assert_eq!(ran.out().lines().count(), lines.len());
}

#[test]
fn name_and_source_are_carried() {
    let input = b"{\"a\":1,\"kind\":\"N\\\"1\"}\n{\"a\":2}\n{\"a\":3,\"kind\":null}\n";
    let ran = ran_with(
        &[
            "run",
            "-i",
            "-",
            "-t",
            "t",
            "-s",
            "t=-",
            "--name-field",
            "kind",
            "--source",
            "here",
        ],
        input,
    );
    assert_eq!(ran.code, 0);
    let events = written(ran.out());
    let names: Vec<_> = events.iter().map(|event| event.name.as_deref()).collect();
    assert_eq!(names, [Some("N\"1"), None, None]);
    assert!(
        events
            .iter()
            .all(|event| event.source.as_deref() == Some("here"))
    );
}

#[test]
fn subscribe_splits_at_its_last_equals_sign() {
    let dir = Dir::new("split");
    let input = dir.file("in", "{\"a\":\"k=v\"}\n{\"a\":\"k\"}\n");
    let out = dir.path("out");
    let args =
        ["t.k=v=", "t.*=v=", &format!("t.k=v={out}"), "t.k"].map(|s| ["-s".to_owned(), s.into()]);
    let mut all = vec!["run", "-i", &input, "-t", "t.{a}", "--json"];
    all.extend(args.iter().flatten().map(String::as_str));
    let ran = ran(&all);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report = ran.report();
    let told: Vec<_> = report["subscriptions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|each| {
            (
                each["pattern"].as_str(),
                each["output"].as_str(),
                each["matched"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some("t.k=v"), None, Some(1)),
            (Some("t.*=v"), None, Some(1)),
            (Some("t.k=v"), Some(out.as_str()), Some(1)),
            (Some("t.k"), None, Some(1)),
        ]
    );
    assert_eq!(
        fs::read_to_string(&out).expect("written").lines().count(),
        1
    );
}

#[test]
fn a_ring_of_one_event_loses_nothing_by_default_and_counts_what_it_drops_if_told_to() {
    let base = [
        "run",
        "-i",
        FLIGHTS,
        "-t",
        FLIGHTS_TOPIC,
        "-s",
        "*",
        "--json",
        "--capacity",
        "1",
    ];
    let ran_blocking = ran(&[&base[..], &["--dispatchers", "2"]].concat());
    assert_eq!(ran_blocking.code, 0, "{}", ran_blocking.stderr);
    assert_eq!(ran_blocking.report()["received"], 2000);

    let ran_waiting = ran(&[&base[..], &["--block-timeout", "2592000000"]].concat());
    assert_eq!(ran_waiting.code, 0, "{}", ran_waiting.stderr);
    assert_eq!(ran_waiting.report()["received"], 2000);

    for policy in ["drop-newest", "drop-oldest", "conflate"] {
        let ran_dropping = ran(&[&base[..], &["--overflow", policy]].concat());
        assert_eq!(
            ran_dropping.code, 0,
            "what was allowed to be lost is no failure"
        );
        let report = ran_dropping.report();
        let count = |key: &str| report[key].as_u64().expect("a count");
        assert_eq!(count("matched"), 2000);
        assert_eq!(
            count("received") + count("lost") + count("superseded"),
            2000
        );
        assert_eq!(count("unread"), 0);
        assert_eq!(report["overflow"], policy);
    }

    let ran_disconnecting = ran(&[&base[..], &["--overflow", "disconnect"]].concat());
    let report = ran_disconnecting.report();
    let error = &report["subscriptions"][0]["error"];
    // It may have been quick enough.
    match ran_disconnecting.code {
        0 => assert_eq!((&report["lost"], error), (&Value::from(0), &Value::Null)),
        1 => {
            let text = error.as_str().expect("a text");
            assert!(text.starts_with("disconnected: lost "), "{text}");
        }
        other => panic!("{other}: {}", ran_disconnecting.stderr),
    }
}

/// Standard output is a pipe that nobody reads until all the input is taken: without a longest wait it never were.
#[test]
fn an_output_that_hangs_holds_a_run_up_for_the_longest_wait() {
    const LINES: usize = 50_000;
    let args = ["run", "-i", "-", "-t", "{a}", "--json", "--capacity", "1"];
    let subscribed = ["-s", "*=-", "-s", "*", "--block-timeout", "20"];
    let mut child = fanout(&[&args[..], &subscribed].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    for _ in 0..LINES {
        stdin.write_all(b"{\"a\":1}\n").expect("it reads on");
    }
    drop(stdin);
    let ran: Ran = child.wait_with_output().expect("it ends").into();
    assert_eq!(ran.code, 0, "allowed to be lost: {}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stderr).expect("the report is there");
    assert_eq!(report["overflow"], "block");
    assert_eq!(report["block_timeout_ms"], 20);
    let count = |value: &Value| value.as_u64().expect("a count");
    let hung = &report["subscriptions"][0];
    assert!(count(&hung["lost"]) > 0, "{hung}");
    assert_eq!(count(&hung["written"]), ran.out().lines().count() as u64);
    for each in report["subscriptions"].as_array().expect("a list") {
        let [matched, received, lost] =
            ["matched", "received", "lost"].map(|key| count(&each[key]));
        assert_eq!(
            (matched, received + lost),
            (LINES as u64, matched),
            "{each}"
        );
    }
}

// ---- run: bad lines ---------------------------------------------------------------------------

/// Bad lines of every kind: the line, and what is said of it after `FILE:LINE: `.
fn bad_lines() -> Vec<(Vec<u8>, &'static str)> {
    let long = "x".repeat(1025);
    vec![
        (
            b"{\"a\":\"x\",\"b\":\"y\"".to_vec(),
            "column 16: EOF while parsing an object",
        ),
        (b"nonsense".to_vec(), "column 2: expected ident"),
        (
            b"[\"a\",\"b\"]".to_vec(),
            "column 1: invalid type: sequence, expected a JSON object",
        ),
        (
            b"{\"a\":1,\"b\":2} {}".to_vec(),
            "column 15: trailing characters",
        ),
        (
            b"{\"a\":1,\"b\":2,\"c\":01}".to_vec(),
            "column 19: invalid number",
        ),
        (b"{\"a\":\"x\"}".to_vec(), "field \"b\": missing"),
        (b"{\"a\":\"\",\"b\":1}".to_vec(), "field \"a\": empty"),
        (
            b"{\"a\":\"x.y\",\"b\":1}".to_vec(),
            "field \"a\": \"x.y\" holds a dot at byte 1",
        ),
        (
            b"{\"a\":1.5,\"b\":1}".to_vec(),
            "field \"a\": \"1.5\" holds a dot at byte 1",
        ),
        (
            b"{\"a\":\"x\\u0007\",\"b\":1}".to_vec(),
            "field \"a\": \"x\\u{7}\" holds a control character",
        ),
        (
            b"{\"a\":\"\\u0085\",\"b\":1}".to_vec(),
            "field \"a\": \"\\u{85}\" holds a control character",
        ),
        (
            b"{\"a\":1,\"b\":null}".to_vec(),
            "field \"b\": null, where a string or a number is needed",
        ),
        (
            b"{\"a\":1,\"b\":false}".to_vec(),
            "field \"b\": true or false, where",
        ),
        (
            b"{\"a\":1,\"b\":[2]}".to_vec(),
            "field \"b\": an array, where",
        ),
        (
            b"{\"a\":1,\"b\":{\"c\":2}}".to_vec(),
            "field \"b\": an object, where",
        ),
        (
            b"{\"a\":\"\xc3\x28\",\"b\":1}".to_vec(),
            "column 7: not UTF-8",
        ),
        (
            format!("{{\"a\":\"{long}\",\"b\":1}}").into_bytes(),
            "topic: ",
        ),
        (
            vec![b' '; (1 << 20) + 1],
            "column 1048577: longer than 1048576 bytes",
        ),
        (
            vec![b'{'; 3 << 20],
            "column 1048577: longer than 1048576 bytes",
        ),
    ]
}

#[test]
fn each_bad_line_is_named_and_skipped_and_nothing_valid_is_lost() {
    let dir = Dir::new("bad");
    let bad = bad_lines();
    let mut content = b"\xef\xbb\xbf{\"a\":0,\"b\":0}\n".to_vec(); // a byte order mark is no fault
    for (index, (line, _)) in bad.iter().enumerate() {
        content.extend_from_slice(line);
        let _ = write!(content, "\n{{\"a\":{},\"b\":1}}\n \t\r\n", index + 1);
    }
    let input = dir.file("in.ndjson", &content);
    let out = dir.path("out.ndjson");
    let ran = ran(&[
        "run",
        "-i",
        &input,
        "-t",
        "t.{a}.{b}",
        "-s",
        &format!("*={out}"),
        "--json",
    ]);
    assert_eq!(ran.code, 3);

    let said: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(said.len(), bad.len(), "{}", ran.stderr);
    for (index, (said, (_, expected))) in said.iter().zip(&bad).enumerate() {
        let expected = format!("{input}:{}: {expected}", 2 + 3 * index);
        assert!(
            said.starts_with(&expected),
            "{said}\nshould start with\n{expected}"
        );
        assert!(said.len() < 1000, "{said}");
    }
    assert!(
        said[16].contains("1024"),
        "the topic's bound is named: {}",
        said[16]
    );

    let report = ran.report();
    assert_eq!(report["lines"], 1 + 3 * bad.len());
    assert_eq!(report["bad_lines"], bad.len());
    assert_eq!(report["blank_lines"], bad.len());
    assert_eq!(report["events"], 1 + bad.len());
    let written_text = fs::read_to_string(&out).expect("written");
    let expected: Vec<_> = (0..=bad.len())
        .map(|n| format!("t.{n}.{}", n.min(1)))
        .collect();
    let topics: Vec<_> = written(&written_text)
        .into_iter()
        .map(|event| event.topic)
        .collect();
    assert_eq!(topics, expected);
}

#[test]
fn after_many_bad_lines_they_are_only_counted() {
    let input = "{}\n".repeat(1000);
    let args = ["run", "-i", "-", "-t", "{a}", "-s", "*", "--json"];
    let ran = ran_with(&args, input.as_bytes());
    assert_eq!(ran.code, 3);
    assert_eq!(ran.report()["bad_lines"], 1000);
    let said: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(said.len(), 21);
    assert_eq!(said[19], "<stdin>:20: field \"a\": missing");
    assert!(said[20].contains("only counted"));
}

#[test]
fn strict_stops_at_the_first_bad_line_and_delivers_what_was_before_it() {
    let input = b"{\"a\":1}\n{\"a\":2}\n{\"a\":\n{\"a\":4}\n{\n";
    let ran = ran_with(
        &["run", "-i", "-", "-t", "t.{a}", "-s", "*=-", "--strict"],
        input,
    );
    assert_eq!(ran.code, 3);
    assert_eq!(data(&written(ran.out())), ["{\"a\":1}", "{\"a\":2}"]);
    assert!(
        ran.stderr
            .contains("<stdin>:3: column 5: EOF while parsing"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("<stdin>:5"), "{}", ran.stderr);
    assert!(ran.stderr.contains("3 lines, 1 bad"), "{}", ran.stderr);
}

#[test]
fn an_empty_input_is_a_good_run() {
    for input in [&b""[..], b"\n\n \n"] {
        let ran = ran_with(&["run", "-i", "-", "-t", "{a}", "-s", "*", "--json"], input);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        let report = ran.report();
        assert_eq!(report["events"], 0);
        assert_eq!(report["latency_ns"], Value::Null);
    }
}

// ---- run: refusals and failures ---------------------------------------------------------------

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let dir = Dir::new("refused");
    let kept = dir.file("kept.ndjson", "{\"a\":1}\n");
    let other = dir.path("other.ndjson");
    #[cfg(unix)]
    let link = {
        std::os::unix::fs::symlink(&kept, dir.path("link")).expect("a link");
        dir.path("link")
    };
    #[cfg(not(unix))]
    let link = kept.clone();
    let long_pattern = "a".repeat(1025);
    let to = |pattern: &str, file: &str| format!("{pattern}={file}");
    let cases: Vec<(Vec<String>, &[&str])> = vec![
        (
            vec!["--subscribe".into(), "a..b".into()],
            &["--subscribe", "a..b", "2", "empty"],
        ),
        (
            vec!["--subscribe".into(), "a.[z".into()],
            &["--subscribe", "a.[z", "2", "class"],
        ),
        (
            vec!["--subscribe".into(), "".into()],
            &["--subscribe", "empty"],
        ),
        (
            vec!["--subscribe".into(), "=x".into()],
            &["--subscribe", "empty"],
        ),
        (
            vec!["--subscribe".into(), long_pattern],
            &["--subscribe", "1024"],
        ),
        (
            vec!["--capacity".into(), "0".into()],
            &["--capacity", "0 is not in 1.."],
        ),
        (vec!["--capacity".into(), "x".into()], &["--capacity"]),
        (
            vec!["--capacity".into(), "99999999999999999999".into()],
            &["--capacity"],
        ),
        (
            vec!["--dispatchers".into(), "0".into()],
            &["--dispatchers", "0 is not in 1.."],
        ),
        (
            vec!["--overflow".into(), "hope".into()],
            &[
                "--overflow",
                "block",
                "drop-newest",
                "drop-oldest",
                "conflate",
                "disconnect",
            ],
        ),
        (
            vec!["--block-timeout".into(), "x".into()],
            &["--block-timeout"],
        ),
        (
            vec!["--block-timeout".into(), "2592000001".into()],
            &["--block-timeout", "2592000001 is not in 0..=2592000000"],
        ),
        (
            vec![
                "--block-timeout".into(),
                "5".into(),
                "--overflow".into(),
                "drop-newest".into(),
            ],
            &["--block-timeout", "--overflow block"],
        ),
        (
            vec!["-s".into(), to("*", &other), "-s".into(), to("a", &other)],
            &["same file"],
        ),
        (
            vec!["-s".into(), "*=-".into(), "-s".into(), "a=-".into()],
            &["`-`"],
        ),
        (vec!["-s".into(), to("*", &kept)], &["is the input"]),
        (vec!["-s".into(), to("*", &link)], &["is the input"]),
    ];
    for (extra, expected) in cases {
        let mut args = vec!["run", "-i", &kept, "-t", "{a}", "-s", "*"];
        args.extend(extra.iter().map(String::as_str));
        let ran = ran(&args);
        assert_eq!((ran.code, ran.out()), (2, ""), "{extra:?}: {}", ran.stderr);
        for words in expected {
            assert!(
                ran.stderr.contains(words),
                "{extra:?}: {words}: {}",
                ran.stderr
            );
        }
        assert_eq!(
            fs::read(&kept).expect("still there"),
            b"{\"a\":1}\n",
            "{extra:?}"
        );
    }
    for (template, expected) in [
        ("a.{b", "byte 2"),
        ("a}", "byte 1"),
        ("a..{b}", "byte 2: empty segment"),
        ("", "empty"),
    ] {
        let ran = ran(&["run", "-i", &kept, "-t", template, "-s", "*"]);
        assert_eq!(ran.code, 2);
        assert!(
            ran.stderr.contains("--topic") && ran.stderr.contains(expected),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(
        ran(&["run", "-i", &kept, "-t", "{a}"]).code,
        2,
        "a run without subscriptions"
    );
}

#[test]
fn a_missing_or_unreadable_input_fails_and_is_named() {
    let dir = Dir::new("no-input");
    let missing = dir.path("missing.ndjson");
    let here = dir.0.to_str().expect("UTF-8");
    for input in [missing.as_str(), here] {
        let ran = ran(&["run", "-i", input, "-t", "{a}", "-s", "*"]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(input), "{}", ran.stderr);
    }
}

#[test]
fn an_output_that_cannot_be_opened_fails_before_anything_is_published() {
    let dir = Dir::new("unopened");
    let out = dir.path("missing/out.ndjson");
    let ran = ran(&[
        "run",
        "-i",
        FLIGHTS,
        "-t",
        FLIGHTS_TOPIC,
        "-s",
        &format!("*={out}"),
    ]);
    assert_eq!((ran.code, ran.out()), (1, ""));
    assert!(ran.stderr.contains(&out), "{}", ran.stderr);
}

/// `/dev/full` is a disk without room.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_fails_stops_its_subscription_alone() {
    let dir = Dir::new("full");
    let out = dir.path("out.ndjson");
    let args = [
        "run",
        "-i",
        FLIGHTS,
        "-t",
        FLIGHTS_TOPIC,
        "--json",
        "--capacity",
        "4",
    ];
    let good = format!("*={out}");
    let ran = ran(&[&args[..], &["-s", "*=/dev/full", "-s", &good, "-s", "*"]].concat());
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("/dev/full: No space left"),
        "{}",
        ran.stderr
    );
    let report = ran.report();
    let subscriptions = &report["subscriptions"];
    assert!(
        subscriptions[0]["error"]
            .as_str()
            .is_some_and(|error| error.contains("/dev/full"))
    );
    for index in [1, 2] {
        assert_eq!(subscriptions[index]["received"], 2000);
        assert_eq!(subscriptions[index]["error"], Value::Null);
    }
    assert_eq!(
        written(&fs::read_to_string(&out).expect("written")).len(),
        2000
    );
}

/// A file that may not grow: little is written, so only the last flush can find out.
#[cfg(target_os = "linux")]
#[test]
fn a_failure_of_the_last_flush_is_not_missed() {
    let dir = Dir::new("flush");
    let input = dir.file("in.ndjson", "{\"a\":1}\n");
    let out = dir.path("out.ndjson");
    let limited = "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"";
    let ran: Ran = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_fanout")])
        .args(["run", "-i", &input, "-t", "{a}", "-s", &format!("*={out}")])
        .output()
        .expect("sh runs")
        .into();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let expected = format!("fanout: {out}: File too large");
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
}

#[test]
fn a_reader_that_goes_away_ends_a_run_that_nobody_else_listens_to() {
    let mut child = fanout(&["run", "-i", "-", "-t", "{a}", "-s", "*=-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = child.stdout.take().expect("a pipe");
    // An input without an end: only the closed output can end this.
    let endless = thread::spawn(move || while stdin.write_all(b"{\"a\":1}\n").is_ok() {});
    stdout.read_exact(&mut [0; 10]).expect("something comes");
    drop(stdout);
    let ran: Ran = child.wait_with_output().expect("it ends").into();
    endless.join().expect("its pipe was closed");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("<stdout>: "), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("no subscription is left"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_report_that_nobody_reads_is_a_failure_and_no_panic() {
    let mut child = fanout(&["run", "-i", "-", "-t", "{a}", "-s", "*"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    drop(child.stdin.take());
    let ran: Ran = child.wait_with_output().expect("it ends").into();
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("the report cannot be printed"),
        "{}",
        ran.stderr
    );
}

/// The peak of the resident memory, in KiB, of a run over this many lines. The run is measured
/// when it has read all but what a pipe holds, and before it may end.
#[cfg(target_os = "linux")]
fn peak_kib(lines: usize, out: &str) -> u64 {
    let mut child = fanout(&[
        "run",
        "-i",
        "-",
        "-t",
        "t.{n}.{m}",
        "--json",
        "-s",
        &format!("**={out}"),
        "-s",
        "*",
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut chunk = String::new();
    for n in 0..lines {
        let _ = writeln!(
            chunk,
            "{{\"n\":{n},\"m\":{},\"text\":\"{:>100}\"}}",
            n % 7,
            n
        );
        if chunk.len() > 1 << 16 || n + 1 == lines {
            stdin.write_all(chunk.as_bytes()).expect("it reads");
            chunk.clear();
        }
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("its peak");
    drop(stdin);
    let ran: Ran = child.wait_with_output().expect("it ends").into();
    assert_eq!(ran.code, 0);
    assert_eq!(ran.report()["received"], 2 * lines);
    peak.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of KiB")
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_input() {
    let dir = Dir::new("memory");
    let small = peak_kib(20_000, &dir.path("small.ndjson"));
    let large = peak_kib(400_000, &dir.path("large.ndjson"));
    // The large input alone is 50 MiB, and every line has a topic of its own.
    assert!(
        large < small + (16 << 10),
        "{small} KiB for 20,000 lines, {large} KiB for 400,000"
    );
}

// ---- match ------------------------------------------------------------------------------------

#[test]
fn match_answers_by_words_and_by_its_exit_status() {
    for (pattern, topic, out, code) in [
        ("flights.SFO.*", "flights.SFO.LAX", "match\n", 0),
        ("flights.SFO.*", "flights.LAX.SFO", "no match\n", 1),
        ("*", "a.b.c", "match\n", 0),
        ("?*", "a.b.c", "no match\n", 1),
    ] {
        let ran = ran(&["match", pattern, topic]);
        assert_eq!((ran.code, ran.out(), ran.stderr.as_str()), (code, out, ""));
    }
    assert_eq!(ran(&["match", "--", "-x.*", "-x.y"]).code, 0);
}

#[test]
fn match_refuses_naming_place_and_rule() {
    for (pattern, topic, expected) in [
        ("a..b", "a", &["a..b", "2", "empty"][..]),
        ("a.**b", "a", &["a.**b", "2"]),
        ("a.[", "a", &["a.[", "2", "class"]),
        ("a.{b}", "a", &["a.{b}", "2"]),
        ("a\\", "a", &["1", "\\"]),
        ("", "a", &["empty"]),
        ("a", "", &["empty"]),
        ("a", "a..b", &["a..b", "2", "empty"]),
        ("a", "a\tb", &["1", "control"]),
        ("a..b", "a..c", &["a..b", "a..c"]),
    ] {
        let ran = ran(&["match", pattern, topic]);
        assert_eq!((ran.code, ran.out()), (2, ""), "{pattern} {topic}");
        for words in expected {
            assert!(
                ran.stderr.contains(words),
                "{pattern} {topic}: {words}: {}",
                ran.stderr
            );
        }
    }
    for args in [
        &["match"][..],
        &["match", "a"],
        &["match", "a", "b", "--stdin"],
    ] {
        assert_eq!(ran(args).code, 2, "{args:?}");
    }
}

#[test]
fn match_stdin_echoes_each_question_and_its_verdict() {
    let questions: [(&[u8], u8); 18] = [
        (b"a.*\ta.b", b'1'),
        (b"a.*\tb.b", b'0'),
        (b"a.*\ta.b.c", b'0'),
        (b"*\ta.b.c", b'1'),
        (b"a..*\ta.b", b'E'),
        (b"a..*\ta..b", b'E'), // both are bad
        (b"\ta", b'E'),
        (b"\t", b'E'),
        (b"a.*\t", b'T'),
        (b"a.*\ta..b", b'T'),
        (b"a.*\ta.b\t1", b'T'), // an answer is no question: its topic holds a TAB
        (b"a.*\ta.b\r", b'T'),
        (b"a.*\ta.\xff", b'T'),
        (b"\xff\ta.b", b'E'),
        ("a.é?\ta.éé".as_bytes(), b'1'),
        (b" a \t a ", b'1'),
        (b"a.*\ta.\x00", b'T'),
        (b"a.*\ta.*", b'1'), // wildcards are plain text in a topic
    ];
    let mut input = Vec::new();
    let mut expected = Vec::new();
    for (question, verdict) in questions {
        input.extend([question, b"\n"].concat());
        expected.extend([question, &[b'\t', verdict, b'\n']].concat());
    }
    for end in [0, 1] {
        // with and without an end of the last line
        let ran = ran_with(&["match", "--stdin"], &input[..input.len() - end]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert_eq!(ran.stdout, expected);
    }
    let ran = ran_with(&["match", "--stdin"], b"");
    assert_eq!((ran.code, ran.out(), ran.stderr.as_str()), (0, "", ""));
}

#[test]
fn match_stdin_names_lines_that_are_no_questions_and_goes_on() {
    let mut input = b"a\ta\nno tab\n\na\tb\n".to_vec();
    input.extend(vec![b'\t'; (1 << 20) + 1]);
    input.extend(b"\na\ta");
    let ran = ran_with(&["match", "--stdin"], &input);
    assert_eq!(ran.code, 3);
    assert_eq!(ran.out(), "a\ta\t1\na\tb\t0\na\ta\t1\n");
    let said: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(
        said[0],
        "<stdin>:2: line: no TAB between a pattern and a topic"
    );
    assert_eq!(
        said[1],
        "<stdin>:3: line: no TAB between a pattern and a topic"
    );
    assert_eq!(
        said[2],
        "<stdin>:5: column 1048577: longer than 1048576 bytes"
    );
    assert!(said[3].contains("3 lines had no verdict"));
}

#[test]
fn match_stdin_answers_at_once_and_survives_a_reader_that_goes_away() {
    let mut child = fanout(&["match", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    for (question, answer) in [("a\ta", "a\ta\t1\n"), ("a\tb", "a\tb\t0\n")] {
        writeln!(stdin, "{question}").expect("it reads");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it answers");
        assert_eq!(line, answer);
    }
    drop(stdout);
    while stdin.write_all(b"a\ta\n").is_ok() {}
    let ran: Ran = child.wait_with_output().expect("it ends").into();
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("<stdout>: "), "{}", ran.stderr);
}

#[test]
fn match_speaks_every_language() {
    for (syntax, pattern, topic, code) in [
        ("segments", "a.**", "a", 0),
        ("nats", "a.>", "a", 1),
        ("nats", "a.>", "a.b.c", 0),
        ("amqp", "#.c", "a.b.c", 0),
        ("mqtt", "a/+/#", "a.b", 0),
        ("mqtt", "#", "$a", 1),
        ("path", "a*", "a.b", 0),
        ("path", "*", "a/b", 0),
        ("redis", "a[^.]b*", "axb.c", 0),
        ("nats", "a.>.b", "a.b", 2),
        ("mqtt", "a+", "a", 2),
        ("path", "[", "a", 2),
    ] {
        let once = ran(&["match", "--syntax", syntax, pattern, topic]);
        assert_eq!(
            once.code, code,
            "{syntax} {pattern} {topic}: {}",
            once.stderr
        );
        let question = format!("{pattern}\t{topic}");
        let many = ran_with(&["match", "-s", syntax, "--stdin"], question.as_bytes());
        let verdict = ["1", "0", "E"][usize::try_from(code).expect("a code")];
        assert_eq!(many.out(), format!("{question}\t{verdict}\n"), "{syntax}");
        assert_eq!(many.code, 0);
    }
    let unknown = ran(&["match", "--syntax", "kafka", "a", "a"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.stderr.contains("redis"),
        "the names are told: {}",
        unknown.stderr
    );
}

/// Patterns come again, sooner and later, refused ones too, and more of them than are remembered.
#[test]
fn match_stdin_answers_the_same_whether_it_remembers_a_pattern_or_not() {
    let mut input = String::new();
    let mut expected = String::new();
    let mut ask = |pattern: &str, topic: &str, verdict: char| {
        writeln!(input, "{pattern}\t{topic}").expect("it is a string");
        writeln!(expected, "{pattern}\t{topic}\t{verdict}").expect("it is a string");
    };
    for round in 0..2 {
        for number in 0..20_000 {
            if number % 1000 == 0 {
                ask("a..b", "a.b", 'E');
                ask("a.*", "a.b", '1');
            }
            if round == 0 || number % 7 == 0 {
                ask(
                    &format!("{number}.*"),
                    &format!("{}.x", number & !1),
                    if number % 2 == 0 { '1' } else { '0' },
                );
            }
        }
    }
    let ran = ran_with(&["match", "--stdin"], input.as_bytes());
    assert_eq!(ran.code, 0);
    assert!(ran.out() == expected, "an answer differs");
}

#[test]
fn match_explains_how_a_pattern_was_read() {
    let whole = ran(&["match", "--explain", "flights.{SFO,L?X}.*"]);
    assert_eq!((whole.code, whole.stderr.as_str()), (0, ""));
    assert_eq!(
        whole.out(),
        "\
pattern    flights.{SFO,L?X}.*
syntax     segments
canonical  flights.{SFO,L?X}.*

expansion 1 of 2
  flights  this text
  SFO      this text
  *        any one segment

expansion 2 of 2
  flights  this text
  L?X      the text `L`, any one character, the text `X`
  *        any one segment
"
    );
    for (syntax, pattern, topic, code, verdict) in [
        ("mqtt", "#", "a.b", 0, "match"),
        ("mqtt", "#", "$a.b", 1, "no match"),
        ("redis", "a?c", "a.c", 0, "match"),
    ] {
        let ran = ran(&["match", "--explain", "-s", syntax, pattern, topic]);
        assert_eq!(ran.code, code);
        let end = format!("\ntopic      {topic}\nverdict    {verdict}\n");
        assert!(ran.out().ends_with(&end), "{}", ran.out());
        assert!(ran.out().contains(&format!("\nsyntax     {syntax}\n")));
    }
    let guarded = ran(&["match", "--explain", "-s", "mqtt", "#"]);
    assert!(
        guarded.out().contains("the topic must not begin with `$`"),
        "{}",
        guarded.out()
    );
    assert_eq!(ran(&["match", "--explain", "--stdin"]).code, 2);
    assert_eq!(ran(&["match", "--explain"]).code, 2);
}

#[test]
fn match_explains_a_refusal_with_a_caret_below_the_place() {
    for (args, place) in [
        (&["flights.[D-A]*"][..], "  flights.[D-A]*\n           ^\n"),
        (&["日本.**é"], "  日本.**é\n       ^\n"),
        (&["a\tb..c"], "  a\\tb..c\n"),
        (&["a."], "  a.\n    ^\n"),
        (&["-s", "mqtt", "a/#/b"], "  a/#/b\n    ^\n"),
        (&["-s", "path", "é[a-]"], "  é[a-]\n     ^\n"),
        (&["a", "b..c"], "  b..c\n    ^\n"),
    ] {
        let args = [&["match", "--explain"], args].concat();
        let ran = ran(&args);
        assert_eq!(ran.code, 2, "{args:?}");
        assert!(ran.stderr.contains(place), "{args:?}:\n{}", ran.stderr);
    }
    let hinted = ran(&["match", "--explain", "a**"]);
    assert!(hinted.stderr.contains("`.**`"), "{}", hinted.stderr);
    assert_eq!(hinted.out(), "");
}

// ---- help -------------------------------------------------------------------------------------

#[test]
fn help_teaches() {
    for (args, expected) in [
        (&["--help"][..], &["run", "match", "Examples:"][..]),
        (
            &["run", "--help"],
            &[
                "Examples:",
                "Exit status:",
                "Topics:",
                "Bad lines:",
                "--strict",
            ],
        ),
        (
            &["match", "--help"],
            &[
                "Examples:",
                "Exit status:",
                "--stdin",
                "T  the topic is refused",
                "--syntax",
                "--explain",
                "mqtt ",
            ],
        ),
    ] {
        let ran = ran(args);
        assert_eq!(ran.code, 0);
        for words in expected {
            assert!(
                ran.out().contains(words),
                "{args:?}: {words}: {}",
                ran.out()
            );
        }
    }
    assert_eq!(ran(&[]).code, 2);
}
