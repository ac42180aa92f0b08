//! Where a run writes: files and pipes, and what happens when one of them fails.

use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use crate::support::*;

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
