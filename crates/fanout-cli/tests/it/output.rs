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
    let reported: Vec<_> = report["subscriptions"]
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
        reported,
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
fn an_output_that_fails_stops_only_its_own_subscription() {
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

/// A file that must not grow. Little is written, so only the last flush can fail.
#[cfg(target_os = "linux")]
#[test]
fn a_failure_of_the_last_flush_is_not_missed() {
    let dir = Dir::new("flush");
    let input = dir.file("in.ndjson", "{\"a\":1}\n");
    let out = dir.path("out.ndjson");
    let limited = "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"";
    let ran = ran_by(
        Command::new("sh")
            .args(["-c", limited, env!("CARGO_BIN_EXE_fanout")])
            .args(["run", "-i", &input, "-t", "{a}", "-s", &format!("*={out}")])
            .stdin(Stdio::null()),
    );
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let expected = format!("fanout: {out}: File too large");
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
}

#[test]
fn a_reader_that_goes_away_ends_a_run_without_other_subscriptions() {
    let mut child = fanout(&["run", "-i", "-", "-t", "{a}", "-s", "*=-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = child.stdout.take().expect("a pipe");
    // An input without an end: only the closed output can end the run.
    let endless = thread::spawn(move || while stdin.write_all(b"{\"a\":1}\n").is_ok() {});
    stdout.read_exact(&mut [0; 10]).expect("something comes");
    drop(stdout);
    let ran = wait(child);
    endless.join().expect("its pipe was closed");
    assert_eq!(ran.code, 1);
    // The subscription reports why it ended, and nothing else does.
    assert_eq!(
        errors(&ran.stderr),
        ["fanout: <stdout>: Broken pipe (os error 32)"]
    );
}

/// Standard output and standard error are files, as with `> out 2> err`.
#[cfg(unix)]
fn ran_into(args: &[&str], out: &str, err: &str) -> i32 {
    let append = |path: &str| {
        let mut options = fs::OpenOptions::new();
        options.append(true).create(true);
        options.open(path).expect("a file for the test")
    };
    let (stdout, stderr) = (append(out), append(err));
    let mut command = fanout(args);
    let status = command.stdout(stdout).stderr(stderr).status();
    status.expect("it runs").code().expect("it ends by itself")
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_under_another_name_is_standard_output() {
    let dir = Dir::new("stdout");
    let input = dir.file("in.ndjson", "{\"a\":1}\n{\"a\":2}\n".repeat(500));
    let (out, err) = (dir.path("out"), dir.path("err"));
    let link = dir.path("link");
    std::os::unix::fs::symlink(&out, &link).expect("a link");
    for name in ["-", "/dev/stdout", "/proc/self/fd/1", &out, &link] {
        fs::write(&out, "kept\n").expect("a file for the test");
        fs::write(&err, "").expect("a file for the test");
        let to_it = format!("1={name}");
        let args = ["run", "-i", &input, "-t", "{a}", "-s", &to_it, "-s", "2"];
        assert_eq!(ran_into(&args, &out, &err), 0, "{name}");
        let text = fs::read_to_string(&out).expect("it is there");
        let events = text.strip_prefix("kept\n").expect("nothing is overwritten");
        assert_eq!(data(&written(events)), ["{\"a\":1}"; 500], "{name}");
        let report = fs::read_to_string(&err).expect("it is there");
        assert!(report.contains("1,000 lines, 0 bad"), "{name}: {report}");
    }

    // The same with a pipe.
    let ran = ran(&[
        "run",
        "-i",
        &input,
        "-t",
        "{a}",
        "-s",
        "*=/dev/stdout",
        "--json",
    ]);
    assert_eq!(ran.code, 0);
    assert_eq!(written(ran.out()).len(), 1000);
    let report: Value = serde_json::from_str(&ran.stderr).expect("only the report");
    assert_eq!(report["subscriptions"][0]["output"], "/dev/stdout");
    assert_eq!(report["subscriptions"][0]["written"], 1000);
}

#[cfg(target_os = "linux")]
#[test]
fn a_standard_stream_that_is_another_file_of_the_run_is_refused() {
    let dir = Dir::new("streams");
    let content = "{\"a\":1}\n";
    let input = dir.file("in.ndjson", content);
    let (out, err) = (dir.path("out"), dir.path("err"));
    let refused = |args: &[&str], out: &str, err: &str, expected: &str| {
        let args = [&["run", "-i", &input, "-t", "{a}"], args].concat();
        assert_eq!(ran_into(&args, out, err), 2, "{args:?}");
        let message = fs::read_to_string(err).expect("it is there");
        let message = message.trim_start_matches(content);
        assert!(message.contains(expected), "{args:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{args:?}: {message}");
    };
    let is_input = "is the input file: the run would write into its own input";
    for name in ["/dev/stderr", &err] {
        let _ = fs::remove_file(&err);
        refused(
            &["-s", &format!("*={name}")],
            &out,
            &err,
            "is standard error",
        );
    }
    // The same if standard error is standard output, as with `2>&1`.
    for name in ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"] {
        let _ = fs::remove_file(&out);
        refused(
            &["-s", &format!("*={name}")],
            &out,
            &out,
            "is standard error",
        );
    }
    fs::remove_file(&out).expect("it is there");
    let _ = fs::remove_file(&err);
    let both = ["-s", "*=-", "-s", "1=/dev/stdout"];
    refused(
        &both,
        &out,
        &err,
        "both write to standard output (`-` and `/dev/stdout`)",
    );
    let _ = fs::remove_file(&err);
    refused(
        &["-s", "*"],
        &input,
        &err,
        &format!("standard output {is_input}"),
    );
    assert_eq!(fs::read_to_string(&input).expect("it is there"), content);
    refused(
        &["-s", "*"],
        &out,
        &input,
        &format!("standard error {is_input}"),
    );
    assert_eq!(fs::read_to_string(&out).expect("it is there"), "");
}

#[test]
fn an_equals_sign_can_be_part_of_a_pattern_and_of_a_file_name() {
    let dir = Dir::new("equals");
    let input = dir.file("in", "{\"a\":\"k=v\"}\n{\"a\":\"k\"}\n");
    for (syntax, pattern, shown) in [
        ("segments", r"t.k\=v", r"t.k\=v"),
        ("segments", "t.k=v", "t.k=v"),
        ("nats", r"t.k\=v", "t.k=v"),
        ("mqtt", r"t/k\=v", "t/k=v"),
    ] {
        let out = dir.path("n=1.ndjson");
        let escaped = out.replace('=', r"\=");
        let to_file = format!("{pattern}={escaped}");
        let mut args = vec!["run", "-i", &input, "-t", "t.{a}", "--json", "-x", syntax];
        args.extend(["-s", &to_file, "-s"]);
        let only_counted = format!("{pattern}=");
        args.push(if pattern.contains('\\') {
            pattern
        } else {
            &only_counted
        });
        let ran = ran(&args);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{to_file}");
        let report = ran.report();
        for (index, output) in [Some(out.as_str()), None].into_iter().enumerate() {
            let each = &report["subscriptions"][index];
            assert_eq!(each["pattern"], shown);
            assert_eq!(each["output"].as_str(), output);
            assert_eq!(each["matched"], 1);
        }
        let text = fs::read_to_string(&out).expect("the output is there");
        assert_eq!(data(&written(&text)), ["{\"a\":\"k=v\"}"]);
        fs::remove_file(&out).expect("it can be removed");
    }
}
