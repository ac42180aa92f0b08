//! What a run delivers: every event to every subscription whose pattern matches it, with each
//! overflow policy.

use indicatif::HumanCount;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::support::*;

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

#[test]
fn one_subscription_to_everything_sees_ids_from_one_without_a_hole() {
    let ran = ran(&["run", "-i", FLIGHTS, "-t", FLIGHTS_TOPIC, "-s", "*=-"]);
    assert_eq!(ran.code, 0);
    let ids: Vec<_> = written(ran.out()).iter().map(|event| event.id).collect();
    assert_eq!(ids, (1..=2000).collect::<Vec<_>>());
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
fn a_ring_of_one_event_loses_nothing_by_default_and_counts_losses_with_other_policies() {
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

    let ran_waiting = ran(&[&base[..], &["--block-timeout", "2592000000ms"]].concat());
    assert_eq!(ran_waiting.code, 0, "{}", ran_waiting.stderr);
    assert_eq!(ran_waiting.report()["received"], 2000);

    for policy in ["drop-newest", "drop-oldest", "conflate"] {
        let ran_dropping = ran(&[&base[..], &["--overflow", policy]].concat());
        let report = ran_dropping.report();
        let count = |key: &str| report[key].as_u64().expect("a count");
        // What was allowed to be lost is no failure, but not the same as a run without losses.
        let lost = count("lost");
        let (code, message) = match lost {
            0 => (0, String::new()),
            _ => {
                let why = format!("its ring was full (--overflow {policy})");
                let lost = HumanCount(lost);
                let message = format!("subscription \"*\": lost {lost} of 2,000 events: {why}");
                (4, format!("fanout: {message}\n"))
            }
        };
        assert_eq!((ran_dropping.code, &ran_dropping.stderr), (code, &message));
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
    // The receiver may have been fast enough.
    match ran_disconnecting.code {
        0 => assert_eq!((&report["lost"], error), (&Value::from(0), &Value::Null)),
        1 => {
            let text = error.as_str().expect("a text");
            assert!(text.starts_with("disconnected: lost "), "{text}");
        }
        other => panic!("{other}: {}", ran_disconnecting.stderr),
    }
}

/// Standard output is a pipe that is not read until the whole input is read. Without a longest
/// wait, that would never happen.
#[test]
fn an_output_that_hangs_delays_a_run_by_the_longest_wait() {
    const LINES: usize = 50_000;
    let args = ["run", "-i", "-", "-t", "{a}", "--json", "--capacity", "1"];
    let subscribed = ["-s", "*=-", "-s", "*", "--block-timeout", "20ms"];
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
    let ran = wait(child);
    assert_eq!(ran.code, 4, "lost by the policy: {}", ran.stderr);
    let (messages, json) = ran.stderr.split_at(ran.stderr.find('{').expect("a report"));
    let report: Value = serde_json::from_str(json).expect("the report is there");
    assert_eq!(report["overflow"], "block");
    assert_eq!(report["block_timeout_ms"], 20);
    let count = |value: &Value| value.as_u64().expect("a count");
    let hung = &report["subscriptions"][0];
    let lost = HumanCount(count(&hung["lost"]));
    assert!(lost.0 > 0, "{hung}");
    let why = "its ring was full for longer than --block-timeout 20ms";
    let first = format!("fanout: subscription \"*\": lost {lost} of 50,000 events: {why}\n");
    assert!(messages.starts_with(&first), "{messages}");
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

/// Standard output is a pipe that is not read until the whole input is read, so most events are
/// lost.
#[test]
fn losses_by_the_policy_have_their_place_in_the_exit_status() {
    let args = ["run", "-i", "-", "-t", "{a}", "--capacity", "1", "--json"];
    for policy in ["drop-newest", "drop-oldest", "conflate"] {
        for (bad, code) in [("", 4), ("nonsense\n", 3)] {
            let chosen = ["-s", "*=-", "--overflow", policy];
            let mut child = fanout(&[&args[..], &chosen].concat())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the binary runs");
            let mut stdin = child.stdin.take().expect("a pipe");
            let lines: String = (0..20_000).map(|n| format!("{{\"a\":{n}}}\n")).collect();
            stdin
                .write_all((lines + bad).as_bytes())
                .expect("it reads on");
            drop(stdin);
            let ran = wait(child);
            assert_eq!(ran.code, code, "{policy}: {}", ran.stderr);
            let messages = errors(&ran.stderr);
            assert!(
                messages.len() == 1
                    && messages[0].starts_with("fanout: subscription \"*\": lost ")
                    && messages[0].ends_with(&format!("(--overflow {policy})")),
                "{messages:?}"
            );
        }
    }
}

/// Ids rise strictly. Times are RFC 3339, in UTC and with nanoseconds, and never fall.
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

/// A subscription that is disconnected writes what it has received.
#[test]
fn every_event_that_was_received_is_written_with_each_policy() {
    let dir = Dir::new("policies");
    let out = dir.path("out.ndjson");
    let to_file = format!("*={out}");
    for policy in [
        "block",
        "drop-newest",
        "drop-oldest",
        "conflate",
        "disconnect",
        "DISCONNECT",
    ] {
        let base = [
            "run",
            "-i",
            FLIGHTS,
            "-t",
            FLIGHTS_TOPIC,
            "-s",
            &to_file,
            "--json",
        ];
        let ran = ran(&[&base[..], &["--overflow", policy, "--capacity", "64"]].concat());
        let report = ran.report();
        let subscription = &report["subscriptions"][0];
        let text = fs::read_to_string(&out).expect("the output is there");
        let count = written(&text).len();
        assert!(count > 0, "{policy}");
        assert_eq!(subscription["written"], count, "{policy}");
        assert_eq!(subscription["received"], count, "{policy}");
    }
}
