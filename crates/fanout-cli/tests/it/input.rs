//! What a run reads: good lines unchanged, bad lines with place and rule, and standard input as it
//! arrives.

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::support::*;

#[test]
fn data_is_the_line_as_it_is() {
    let lines = [
        r#"{"z":1,"a":"x","b":{"y":[1.50,1e400,{}]}}"#,
        r#"{ "a" : "\u0078" , "big" : 123456789012345678901234567890 }"#,
        r#"{"a":"x","a2":"é \" \\ \u0007 \ud800","a":"x"}"#,
    ];
    let crlf = lines.join("\r\n"); // and no line end after the last
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
    assert_eq!(wait(child).code, 0);
}

/// Bad lines of every kind: the line, and the message for it after `FILE:LINE: `.
fn bad_lines() -> Vec<(Vec<u8>, &'static str)> {
    let long = "x".repeat(1025);
    vec![
        (
            b"{\"a\":\"x\",\"b\":\"y\"".to_vec(),
            "column 16: the line is not valid JSON: it ends too early",
        ),
        (b"nonsense".to_vec(), "column 2: the line is not valid JSON"),
        (
            b"[\"a\",\"b\"]".to_vec(),
            "column 1: the value is an array; an object is needed",
        ),
        (
            b"{\"a\":1,\"b\":2} {}".to_vec(),
            "column 15: the line is not valid JSON: more text follows the value",
        ),
        (
            b"{\"a\":1,\"b\":2,\"c\":01}".to_vec(),
            "column 19: the line is not valid JSON: invalid number",
        ),
        (
            b"{\"a\":\"x\"}".to_vec(),
            "field \"b\": the object has no such field",
        ),
        (
            b"{\"a\":\"\",\"b\":1}".to_vec(),
            "field \"a\": the value is empty",
        ),
        (
            b"{\"a\":\"x.y\",\"b\":1}".to_vec(),
            "field \"a\": \"x.y\" contains a dot at byte 1",
        ),
        (
            b"{\"a\":1.5,\"b\":1}".to_vec(),
            "field \"a\": \"1.5\" contains a dot at byte 1",
        ),
        (
            b"{\"a\":\"x\\u0007\",\"b\":1}".to_vec(),
            "field \"a\": \"x\\u{7}\" contains a control character",
        ),
        (
            b"{\"a\":\"\\u0085\",\"b\":1}".to_vec(),
            "field \"a\": \"\\u{85}\" contains a control character",
        ),
        (
            b"{\"a\":1,\"b\":null}".to_vec(),
            "field \"b\": the value is null; a string or a number is needed",
        ),
        (
            b"{\"a\":1,\"b\":false}".to_vec(),
            "field \"b\": the value is true or false;",
        ),
        (
            b"{\"a\":1,\"b\":[2]}".to_vec(),
            "field \"b\": the value is an array;",
        ),
        (
            b"{\"a\":1,\"b\":{\"c\":2}}".to_vec(),
            "field \"b\": the value is an object;",
        ),
        (
            b"{\"a\":\"\xc3\x28\",\"b\":1}".to_vec(),
            "column 7: the line is not UTF-8",
        ),
        (
            format!("{{\"a\":\"{long}\",\"b\":1}}").into_bytes(),
            "topic: ",
        ),
        (
            vec![b' '; (1 << 20) + 1],
            "column 1048577: the line is longer than 1048576 bytes",
        ),
        (
            vec![b'{'; 3 << 20],
            "column 1048577: the line is longer than 1048576 bytes",
        ),
    ]
}

#[test]
fn each_bad_line_is_named_and_skipped_and_nothing_valid_is_lost() {
    let dir = Dir::new("bad");
    let bad = bad_lines();
    // A byte order mark is not an error.
    let mut content = b"\xef\xbb\xbf{\"a\":0,\"b\":0}\n".to_vec();
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

    let messages: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(messages.len(), bad.len(), "{}", ran.stderr);
    for (index, (message, (_, expected))) in messages.iter().zip(&bad).enumerate() {
        let expected = format!("{input}:{}: {expected}", 2 + 3 * index);
        assert!(
            message.starts_with(&expected),
            "{message}\nshould start with\n{expected}"
        );
        assert!(message.len() < 1000, "{message}");
    }
    assert!(
        messages[16].contains("1024"),
        "the topic's bound is named: {}",
        messages[16]
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
    let messages: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(messages.len(), 21);
    assert_eq!(
        messages[19],
        "<stdin>:20: field \"a\": the object has no such field"
    );
    assert!(messages[20].contains("only counted"));
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
            .contains("<stdin>:3: column 5: the line is not valid JSON: it ends too early"),
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

#[cfg(unix)]
#[test]
fn an_input_that_cannot_be_read_changes_no_output_and_has_no_report() {
    use std::fs::{File, OpenOptions};

    let dir = Dir::new("unread");
    let out = dir.file("out.ndjson", "keep\n");
    let missing = dir.path("missing.ndjson");
    let here = dir.0.to_str().expect("UTF-8");
    let is_directory = "this is a directory; a file of lines is needed";
    let args = |input: &str| {
        let to_file = format!("*={out}");
        ["run", "-i", input, "-t", "{a}", "-s", &to_file].map(str::to_owned)
    };
    let refused = |ran: Ran, name: &str, expected: &str| {
        assert_eq!((ran.code, ran.out()), (1, ""), "{name}");
        let message = ran.stderr.strip_prefix(&format!("fanout: {name}: "));
        assert!(
            message.is_some_and(|message| message.contains(expected)),
            "{name}: {}",
            ran.stderr
        );
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        assert_eq!(fs::read(&out).expect("it is there"), b"keep\n", "{name}");
    };
    let by_name = |input: &str| {
        let args = args(input);
        ran(&args.each_ref().map(String::as_str))
    };
    refused(by_name(here), here, is_directory);
    refused(by_name(&missing), &missing, "No such file");
    if cfg!(target_os = "linux") {
        // A regular file whose first byte cannot be read.
        refused(by_name("/proc/self/mem"), "/proc/self/mem", "(os error");
    }

    let by_stdin = |stdin: File| {
        let args = args("-");
        ran_by(fanout(&args.each_ref().map(String::as_str)).stdin(stdin))
    };
    let directory = File::open(here).expect("a directory can be opened");
    refused(by_stdin(directory), "<stdin>", is_directory);
    let written_only = |name: &str| OpenOptions::new().write(true).open(name);
    for name in [&dir.file("in", ""), "/dev/null"] {
        let stdin = written_only(name).expect("it can be opened");
        refused(by_stdin(stdin), "<stdin>", "(os error");
    }
}

/// An output that is refused must not have changed the outputs before it.
#[test]
fn an_output_that_is_a_directory_changes_no_other_output() {
    let dir = Dir::new("into-directory");
    let out = dir.file("out.ndjson", "keep\n");
    let here = dir.0.to_str().expect("UTF-8");
    let (first, second) = (format!("*={out}"), format!("*={here}"));
    let ran = ran(&["run", "-i", FLIGHTS, "-t", "a", "-s", &first, "-s", &second]);
    assert_eq!((ran.code, ran.out()), (1, ""));
    assert!(ran.stderr.contains(here), "{}", ran.stderr);
    assert_eq!(fs::read(&out).expect("it is there"), b"keep\n");
}
