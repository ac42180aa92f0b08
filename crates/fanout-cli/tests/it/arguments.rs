//! What is refused before anything is done, and the help that says what can be asked for.

use std::fs;

use crate::support::*;

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
            &["'0' for '--capacity", "a whole number from 1 to "],
        ),
        (
            vec!["--capacity".into(), "x".into()],
            &["'x' for '--capacity", "a whole number from 1 to "],
        ),
        (
            vec!["--capacity".into(), "-1".into()],
            &["'-1' for '--capacity", "a whole number from 1 to "],
        ),
        (
            vec!["--capacity".into(), "99999999999999999999".into()],
            &["--capacity", "a whole number from 1 to "],
        ),
        (
            vec!["--dispatchers".into(), "0".into()],
            &["--dispatchers", "a whole number from 1 to 64"],
        ),
        (
            vec!["--dispatchers".into(), "65".into()],
            &["'65' for '--dispatchers", "a whole number from 1 to 64"],
        ),
        (
            vec!["--dispatchers".into(), "-2".into()],
            &["'-2' for '--dispatchers", "a whole number from 1 to 64"],
        ),
        (
            vec!["--name-field".into(), "".into()],
            &["--name-field", "not empty"],
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
            &["--block-timeout", "as in 500ms, 5s or 2m"],
        ),
        (
            vec!["--block-timeout".into(), "5sec".into()],
            &["--block-timeout", "5sec", "as in 500ms, 5s or 2m"],
        ),
        (
            vec!["--block-timeout".into(), "-5s".into()],
            &["'-5s' for '--block-timeout", "as in 500ms", "at most 30d"],
        ),
        (
            vec!["--block-timeout".into(), "5".into()],
            &["'5' for '--block-timeout", "write `5ms` or `5s`"],
        ),
        (
            vec!["--syntax".into(), "kafka".into()],
            &["--syntax", "nats", "amqp", "mqtt"],
        ),
        (
            vec!["--block-timeout".into(), "2592000001ms".into()],
            &["--block-timeout", "the duration is longer than 30d"],
        ),
        (
            vec![
                "--block-timeout".into(),
                "5ms".into(),
                "--overflow".into(),
                "drop-newest".into(),
            ],
            &["--block-timeout", "without --overflow block"],
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
        assert!(!fs::exists(&other).expect("readable"), "{extra:?}");
    }
    for (template, expected) in [
        ("a.{b", "byte 2"),
        ("a}", "byte 1"),
        ("a..{b}", "byte 2: a segment must not be empty"),
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
fn help_teaches() {
    for (args, expected) in [
        (&["--help"][..], &["run", "match", "bench", "Examples:"][..]),
        (
            &["run", "--help"],
            &[
                "Examples:",
                "Exit status:",
                "  4    everything worked, but events were lost by the policy that was chosen",
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
        (
            &["bench", "--help"],
            &[
                "Examples:",
                "Exit status:",
                "--compare",
                "  - lookups:",
                "  - conflate:",
                "  - inline:",
                "Tasks run on a small executor",
                "measured_at machine duration_ms rounds signal error",
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

#[test]
fn durations_have_units() {
    for (text, ms) in [
        ("20ms", 20),
        ("5s", 5_000),
        ("2m", 120_000),
        ("30d", 2_592_000_000_u64),
    ] {
        let args = [
            "run",
            "-i",
            "-",
            "-t",
            "a",
            "-s",
            "a",
            "--json",
            "--block-timeout",
            text,
        ];
        let ran = ran_with(&args, b"{}\n");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{text}");
        assert_eq!(ran.report()["block_timeout_ms"], ms, "{text}");
    }
}

/// No line of the help is wider than 100 columns when it is not wrapped for a terminal.
#[test]
fn help_is_narrow() {
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["match", "--help"],
        &["bench", "--help"],
        &["bench", "-h"],
        &["run", "-h"],
    ] {
        let ran = ran(args);
        for line in ran.out().lines() {
            assert!(line.chars().count() <= 100, "{args:?}: {line}");
        }
    }
}
