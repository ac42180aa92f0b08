//! `fanout bench`: what it measures is consistent, whatever the speed of this machine is.

use serde_json::{Value, json};
use std::fs;
#[cfg(target_os = "linux")]
use std::process::{Child, Command, Stdio};

use crate::support::*;

/// A short run, with its report as JSON.
fn measured(args: &[&str]) -> Value {
    let short = ["bench", "--duration", "20ms", "--rounds", "2", "--json"];
    let ran = ran(&[&short, args].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    ran.report()
}

fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"))
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

fn count(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no count: {value}"))
}

/// The rounds of all measurements, each with the settings of its bus.
fn rounds(report: &Value) -> Vec<(&Value, &Value)> {
    let measurements = list(&report["measurements"]).iter();
    let rounds = measurements.flat_map(|each| {
        let rounds = list(&each["rounds"]).iter();
        rounds.map(|round| (&each["case"]["bus"], round))
    });
    rounds.collect()
}

#[test]
fn each_scenario_is_measured_and_its_counts_are_consistent() {
    for (scenario, cases, metrics) in [
        ("threads", 2, &["deliveries_per_s", "ns_per_event"][..]),
        ("batches", 2, &["deliveries_per_s", "ns_per_event"]),
        ("tasks", 2, &["deliveries_per_s", "ns_per_event"]),
        ("HANDLERS", 2, &["deliveries_per_s", "ns_per_event"]),
        (
            "latency",
            2,
            &["p50_ns", "p90_ns", "p99_ns", "p99_9_ns", "max_ns"],
        ),
        ("lookups", 2, &["lookups_per_s", "ns_per_lookup"]),
    ] {
        let lists = match scenario {
            "latency" => &["--rate", "500,5000"][..],
            "lookups" => &[],
            _ => &["--subscribers", "1,3"],
        };
        let report = measured(&[&["--scenario", scenario], lists].concat());
        assert_eq!(report["format"], "fanout-bench");
        assert_eq!(report["format_version"], 1);
        assert_eq!(report["fanout"], env!("CARGO_PKG_VERSION"));
        assert_eq!(
            (&report["duration_ms"], &report["rounds"]),
            (&json!(20), &json!(2))
        );
        for key in ["signal", "error", "comparison"] {
            assert_eq!(report[key], Value::Null, "{key}");
        }
        assert!(count(&report["machine"]["processors"]) > 0);
        assert_eq!(list(&report["measurements"]).len(), cases);
        for each in list(&report["measurements"]) {
            assert_eq!(each["case"]["scenario"], scenario.to_lowercase());
            let summary = list(&each["summary"]);
            let names: Vec<_> = summary.iter().map(|metric| &metric["metric"]).collect();
            assert_eq!(names, metrics);
            for metric in summary {
                let [min, median, max] = ["min", "median", "max"].map(|key| number(&metric[key]));
                assert!(0.0 < min && min <= median && median <= max, "{metric}");
            }
            assert_eq!(list(&each["rounds"]).len(), 2);
            for round in list(&each["rounds"]) {
                assert_consistent(&each["case"], round);
            }
        }
    }
}

fn assert_consistent(case: &Value, round: &Value) {
    let [operations, deliveries, lost] =
        ["operations", "deliveries", "lost"].map(|key| count(&round[key]));
    assert!(
        operations > 0 && number(&round["elapsed_s"]) > 0.0,
        "{round}"
    );
    assert_eq!(lost, 0, "{round}");
    let latency = &round["latency_ns"];
    if case["scenario"] == "lookups" {
        assert_eq!((deliveries, latency), (operations * 6, &Value::Null));
        return;
    }
    assert_eq!(deliveries, operations * count(&case["bus"]["subscribers"]));
    if case["scenario"] != "latency" {
        assert_eq!(latency, &Value::Null);
        return;
    }
    assert_eq!(operations, count(&case["rate_per_s"]) / 50, "in 20 ms");
    let percentiles = ["p50", "p90", "p99", "p99_9", "max"].map(|key| count(&latency[key]));
    assert!(percentiles.is_sorted(), "{latency}");
}

#[test]
fn what_is_lost_or_replaced_is_counted() {
    for policy in ["drop-newest", "drop-oldest", "CONFLATE"] {
        for scenario in ["threads", "tasks", "handlers", "latency"] {
            let mut args = vec!["--policy", policy, "--capacity", "1"];
            args.extend(["--scenario", scenario]);
            match scenario {
                "latency" => args.extend(["--rate", "100000"]),
                _ => args.extend(["--subscribers", "3"]),
            }
            let report = measured(&args);
            for (bus, round) in rounds(&report) {
                assert_eq!(bus["policy"], policy.to_lowercase());
                assert_eq!(bus["capacity"], 1);
                assert_eq!(
                    count(&round["deliveries"]) + count(&round["lost"]),
                    count(&round["operations"]) * count(&bus["subscribers"]),
                    "{policy} {scenario}: {round}"
                );
            }
        }
    }
}

#[test]
fn each_setting_of_a_bus_can_be_chosen() {
    for bytes in ["16", "64", "256", "1024"] {
        for dispatch in ["adaptive", "pool", "inline"] {
            let report = measured(&[
                "--scenario",
                "batches",
                "--scenario",
                "handlers",
                "--subscribers",
                "2",
                "--publishers",
                "3",
                "--payload",
                bytes,
                "--dispatch",
                dispatch,
                "--quiet",
            ]);
            let expected = json!({
                "subscribers": 2,
                "publishers": 3,
                "payload_bytes": bytes.parse::<u64>().expect("a number"),
                "capacity": 1024,
                "policy": "block",
                "dispatch": dispatch,
            });
            assert_eq!(rounds(&report).len(), 4);
            for (bus, round) in rounds(&report) {
                assert_eq!(bus, &expected);
                assert_eq!(count(&round["deliveries"]), 2 * count(&round["operations"]));
            }
        }
    }
}

#[test]
fn the_tables_have_a_row_for_each_case() {
    let args = [
        "bench",
        "--duration",
        "1ms",
        "--rounds",
        "1",
        "--subscribers",
        "2",
        "--rate",
        "2000",
    ];
    let ran = ran(&args);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let firsts: Vec<_> = ran
        .out()
        .lines()
        .map(|line| line.split_whitespace().next().unwrap_or(""))
        .filter(|first| *first != "build") // only with debug assertions
        .collect();
    assert_eq!(
        firsts,
        [
            "machine",
            "fanout",
            "rounds",
            "bus",
            "",
            "throughput",
            "threads",
            "batches",
            "tasks",
            "handlers",
            "",
            "latency",
            "2,000",
            "",
            "look-ups",
            "cold",
            "warm"
        ],
        "{}",
        ran.out()
    );
    assert!(
        ran.out().contains("rounds   1 of 1ms: medians"),
        "{}",
        ran.out()
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let numbers = "a whole number from 1 to ";
    let seventeen = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17";
    for (args, words) in [
        (
            &["--scenario", "hope"][..],
            &["--scenario", "threads", "lookups"][..],
        ),
        (
            &["--scenario", "latency", "--scenario", "latency"],
            &["latency twice"],
        ),
        (
            &["--subscribers", "0"],
            &["'0' for '--subscribers", numbers, "4096"],
        ),
        (
            &["--subscribers", "1,4097"],
            &["'4097' for '--subscribers", numbers],
        ),
        (
            &["--subscribers", "-1"],
            &["'-1' for '--subscribers", numbers],
        ),
        (
            &["--subscribers", "1,,2"],
            &["'' for '--subscribers", numbers],
        ),
        (
            &["--subscribers", "4,4"],
            &["--subscribers has the value 4 twice"],
        ),
        (
            &["--subscribers", seventeen],
            &["--subscribers has 17 values: write at most 16"],
        ),
        (
            &["--publishers", "65"],
            &["'65' for '--publishers", numbers, "64"],
        ),
        (
            &["--payload", "65"],
            &["'65' for '--payload", "16, 64, 256 and 1024"],
        ),
        (
            &["--capacity", "16777217"],
            &["'16777217' for '--capacity", numbers],
        ),
        (
            &["--policy", "disconnect"],
            &["--policy", "drop-oldest", "conflate"],
        ),
        (
            &["--dispatch", "manual"],
            &["--dispatch", "adaptive", "pool", "inline"],
        ),
        (
            &["--rate", "10000001"],
            &["'10000001' for '--rate", numbers],
        ),
        (&["--rate", "7,7"], &["--rate has the value 7 twice"]),
        (
            &["--duration", "2"],
            &["'2' for '--duration", "write `2ms` or `2s`"],
        ),
        (&["--duration", "0ms"], &["--duration", "shorter than 1ms"]),
        (&["--duration", "61s"], &["--duration", "longer than 1m"]),
        (&["--rounds", "0"], &["'0' for '--rounds", numbers]),
        (
            &["--rounds", "1001"],
            &["'1001' for '--rounds", numbers, "1000"],
        ),
        (
            &["--scenario", "threads", "--rate", "5"],
            &["--rate has no effect in the chosen scenarios: it needs --scenario latency"],
        ),
        (
            &["--scenario", "lookups", "--payload", "64"],
            &[
                "--payload has no effect",
                "threads or batches or tasks or handlers or latency",
            ],
        ),
        (&["extra"], &["'extra'"]),
    ] {
        let ran = ran(&[&["bench"], args].concat());
        assert_eq!((ran.code, ran.out()), (2, ""), "{args:?}: {}", ran.stderr);
        for words in words {
            assert!(
                ran.stderr.contains(words),
                "{args:?}: {words}: {}",
                ran.stderr
            );
        }
    }
}

/// The cases of the tests of `--compare`.
const COMPARED: [&str; 10] = [
    "--scenario",
    "threads",
    "--scenario",
    "latency",
    "--scenario",
    "lookups",
    "--subscribers",
    "2",
    "--rate",
    "1000",
];

#[test]
fn a_run_can_be_compared_with_an_earlier_one() {
    let dir = Dir::new("compare");
    let before = measured(&COMPARED);
    let file = dir.file("before.json", before.to_string());
    let now = measured(&[&COMPARED[..], &["--compare", &file]].concat());
    let comparison = &now["comparison"];
    assert_eq!(comparison["file"], file);
    for key in ["fanout", "measured_at", "machine"] {
        assert_eq!(comparison[key], before[key], "{key}");
    }
    let rows = list(&comparison["rows"]);
    let compared: Vec<_> = rows
        .iter()
        .map(|row| (row["case"]["scenario"].as_str(), row["metric"].as_str()))
        .collect();
    assert_eq!(
        compared,
        [
            (Some("threads"), Some("deliveries_per_s")),
            (Some("latency"), Some("p50_ns")),
            (Some("latency"), Some("p99_ns")),
            (Some("lookups"), Some("lookups_per_s")),
            (Some("lookups"), Some("lookups_per_s")),
        ]
    );
    for row in rows {
        let [before, now, ratio] = ["before", "now", "ratio"].map(|key| number(&row[key]));
        assert!(before > 0.0 && (ratio - now / before).abs() < 1e-9, "{row}");
        let verdict = row["verdict"].as_str().expect("a word");
        assert!(["better", "worse", "within_spread"].contains(&verdict));
    }

    // A report that has a comparison can be compared with, too; and people get a table.
    let file = dir.file("now.json", now.to_string());
    let short = [
        "bench",
        "--duration",
        "1ms",
        "--rounds",
        "1",
        "--compare",
        &file,
    ];
    let ran = ran(&[&short[..], &COMPARED].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let (_, table) = ran.out().split_once("\nbefore   ").expect("a comparison");
    assert!(table.starts_with(&format!("{file}: fanout ")), "{table}");
    let lines: Vec<_> = table.lines().skip(1).collect();
    assert!(
        lines[0].starts_with("compared") && lines[0].contains("ratio"),
        "{table}"
    );
    assert_eq!(lines.len(), 6, "{table}");
}

/// A file that differs from a good report in one place.
fn changed(report: &Value, pointer: &str, value: Value) -> String {
    let mut report = report.clone();
    *report.pointer_mut(pointer).expect("it is there") = value;
    report.to_string()
}

#[test]
fn a_file_that_is_no_such_report_is_refused_before_anything_is_measured() {
    let dir = Dir::new("refused-compare");
    let good = measured(&COMPARED);
    let path = dir.path("file.json");
    let mut without_rounds = good.clone();
    without_rounds["measurements"][1]
        .as_object_mut()
        .expect("an object")
        .remove("rounds");
    let whole = good.to_string();
    for (content, place, rule) in [
        (
            String::new(),
            ":1:0: ",
            "not a report of fanout bench --json",
        ),
        (
            "machine  AMD\n".to_owned(),
            ":1:1: ",
            "not a report of fanout bench --json",
        ),
        (whole[..whole.len() - 1].to_owned(), ":1:", "EOF"),
        ("{\"a\":\n1}".to_owned(), ":2:2: ", "missing field `format`"),
        ("[1]".to_owned(), ":1:", "not a report"),
        (
            changed(&good, "/format", json!("x")),
            ": format: ",
            "\"x\" is not \"fanout-bench\"",
        ),
        (
            changed(&good, "/format_version", json!(2)),
            ": format_version: ",
            "2 is not 1",
        ),
        (without_rounds.to_string(), ":1:", "missing field `rounds`"),
        (
            changed(&good, "/measurements/0/case/scenario", json!("x")),
            ":1:",
            "unknown variant `x`",
        ),
        (
            changed(&good, "/measurements/1/rounds", json!([])),
            ": measurements[1].rounds: ",
            "above 0",
        ),
        (
            changed(&good, "/measurements/0/rounds/0/deliveries", json!(0)),
            ": measurements[0].rounds: ",
            "above 0",
        ),
        (
            changed(&good, "/measurements/0/rounds/0/elapsed_s", json!(-1)),
            ": measurements[0].rounds: ",
            "above 0",
        ),
        (
            changed(&good, "/measurements/0/case/bus/subscribers", json!(3)),
            ": measurements: ",
            "the case is missing: threads, 2 subscribers, 1 publisher, 64 bytes, capacity 1024, \
             block, adaptive",
        ),
    ] {
        fs::write(&path, &content).expect("a file for the test");
        let ran = ran(&[&["bench", "--compare", &path][..], &COMPARED].concat());
        assert_eq!((ran.code, ran.out()), (2, ""), "{rule}: {}", ran.stderr);
        let begin = format!("fanout: --compare {path}{place}");
        assert!(ran.stderr.starts_with(&begin), "{begin}: {}", ran.stderr);
        assert!(ran.stderr.contains(rule), "{rule}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
    for (path, error) in [
        (dir.path("missing.json"), "No such file"),
        (dir.path(""), "Is a directory"),
    ] {
        let ran = ran(&["bench", "--compare", &path]);
        assert_eq!((ran.code, ran.out()), (1, ""));
        let begin = format!("fanout: --compare {path}: {error}");
        assert!(ran.stderr.starts_with(&begin), "{}", ran.stderr);
    }
}

#[test]
fn a_report_of_another_machine_is_compared_with_a_warning() {
    let dir = Dir::new("machine");
    let good = measured(&["--scenario", "lookups"]);
    let file = dir.file(
        "file.json",
        changed(&good, "/machine/processor", json!("Z80")),
    );
    let ran = ran(&[
        "bench",
        "--scenario",
        "lookups",
        "--duration",
        "1ms",
        "--rounds",
        "1",
        "--compare",
        &file,
    ]);
    assert_eq!(ran.code, 0);
    assert!(
        ran.stderr
            .starts_with("fanout: --compare: the earlier report is from another machine (Z80, "),
        "{}",
        ran.stderr
    );
}

/// `/dev/full` is a disk without room.
#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_printed_is_a_failure() {
    let args = [
        "bench",
        "--scenario",
        "lookups",
        "--duration",
        "1ms",
        "--rounds",
        "1",
    ];
    for extra in [&[][..], &["--json"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let mut full = fanout(&[&args[..], extra].concat())
            .stdout(full.expect("Linux has it"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        full.stdin.take();
        let ran_full = wait(full);
        assert_eq!(ran_full.code, 1);
        assert_eq!(
            ran_full.stderr,
            "fanout: the report cannot be printed: No space left on device (os error 28)\n"
        );

        // A round of some length: a process that another test starts at this moment has a copy of
        // the pipe's end for a short time.
        let args = [&args[..3], &["--duration", "500ms", "--rounds", "1"]].concat();
        let mut closed = fanout(&[&args[..], extra].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        drop(closed.stdout.take());
        let ran_closed = wait(closed);
        assert_eq!(ran_closed.code, 1);
        assert_eq!(
            ran_closed.stderr,
            "fanout: the report cannot be printed: Broken pipe (os error 32)\n"
        );
    }
}

#[cfg(target_os = "linux")]
mod signals {
    use super::*;

    fn start(args: &[&str]) -> Child {
        fanout(&[&["bench"], args].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs")
    }

    /// Waits until the process catches signals.
    fn wait_until_ready(child: &Child) {
        eventually("it catches signals", || {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
            let status = status.unwrap_or_default();
            let mut lines = status.lines();
            let mask = lines.find_map(|line| line.strip_prefix("SigCgt:"));
            let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            mask.is_some_and(|mask| mask & 1 << (SIGTERM - 1) != 0)
        });
        // What SIGTERM does is set up in several steps, of which the first is visible.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }

    const SIGTERM: u64 = 15;

    fn signal(child: &Child, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &child.id().to_string()])
            .status();
        assert!(sent.expect("sh runs").success());
    }

    /// No round can be complete, since one takes a minute.
    #[test]
    fn a_signal_ends_a_round_of_each_scenario() {
        for scenario in [
            "threads", "batches", "tasks", "handlers", "latency", "lookups",
        ] {
            for (name, code) in [("INT", 130), ("TERM", 143)] {
                let child = start(&["--scenario", scenario, "--duration", "1m", "--json"]);
                wait_until_ready(&child);
                signal(&child, name);
                let ran = wait(child);
                assert_eq!((ran.code, ran.stderr.as_str()), (code, ""), "{scenario}");
                let report = ran.report();
                assert_eq!(report["signal"], format!("SIG{name}"));
                assert_eq!(report["measurements"], json!([]));
                assert_eq!(report["error"], Value::Null);
            }
        }
    }

    #[test]
    fn what_was_measured_before_a_signal_is_reported() {
        let args = [
            "--scenario",
            "lookups",
            "--duration",
            "1ms",
            "--rounds",
            "1000",
        ];
        let child = start(&args);
        wait_until_ready(&child);
        std::thread::sleep(std::time::Duration::from_millis(300));
        signal(&child, "INT");
        let ran = wait(child);
        assert_eq!((ran.code, ran.stderr.as_str()), (130, ""));
        assert!(ran.out().contains("\nended    by SIGINT"), "{}", ran.out());
    }
}
