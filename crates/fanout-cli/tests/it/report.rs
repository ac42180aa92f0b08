//! What a run prints at its end, for people and for programs.

use serde_json::Value;
use std::process::Stdio;

use crate::support::*;

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
        "bad_lines blank_lines block_timeout_ms deliveries_per_s elapsed_s error events \
         events_per_s input latency_ns lines lost matched overflow received signal subscriptions \
         superseded syntax topic unread"
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
    assert_eq!(report["syntax"], "segments");
    assert_eq!(report["signal"], Value::Null);
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
fn a_report_that_no_program_reads_is_a_failure_and_no_panic() {
    let mut child = fanout(&["run", "-i", "-", "-t", "{a}", "-s", "*"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    drop(child.stdin.take());
    let ran = wait(child);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("the report cannot be printed"),
        "{}",
        ran.stderr
    );
}
