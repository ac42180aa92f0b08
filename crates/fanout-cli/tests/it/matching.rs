//! `fanout match`: one question, and many on standard input.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::support::*;

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

/// The usage below an error must not show the use that the error refuses as the only one.
#[test]
fn the_usage_of_match_lists_the_three_ways_to_use_it() {
    let usage = "\
Usage: fanout match [OPTIONS] <PATTERN> <TOPIC>
       fanout match [OPTIONS] --explain <PATTERN> [TOPIC]
       fanout match [OPTIONS] --stdin
";
    for (args, code) in [
        (&["match", "a"][..], 2),
        (&["match"], 2),
        (&["match", "--stdin", "a"], 2),
        (&["match", "--stdin", "--explain"], 2),
        (&["match", "a", "b", "--unknown"], 2),
        (&["match", "--help"], 0),
    ] {
        let ran = ran(args);
        let text = if code == 0 { ran.out() } else { &ran.stderr };
        assert_eq!(ran.code, code, "{args:?}");
        assert!(text.contains(usage), "{args:?}: {text}");
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
        (b"a.*\ta.b\t1", b'T'), // a topic contains no TAB
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
        // with and without a line end after the last line
        let ran = ran_with(&["match", "--stdin"], &input[..input.len() - end]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert_eq!(ran.stdout, expected);
    }
    let ran = ran_with(&["match", "--stdin"], b"");
    assert_eq!((ran.code, ran.out(), ran.stderr.as_str()), (0, "", ""));
}

#[test]
fn match_stdin_reports_lines_that_are_no_questions_and_continues() {
    let mut input = b"a\ta\nno tab\n\na\tb\n".to_vec();
    input.extend(vec![b'\t'; (1 << 20) + 1]);
    input.extend(b"\na\ta");
    let ran = ran_with(&["match", "--stdin"], &input);
    assert_eq!(ran.code, 3);
    assert_eq!(ran.out(), "a\ta\t1\na\tb\t0\na\ta\t1\n");
    let messages: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(
        messages[0],
        "<stdin>:2: line: the line has no TAB between a pattern and a topic"
    );
    assert_eq!(
        messages[1],
        "<stdin>:3: line: the line has no TAB between a pattern and a topic"
    );
    assert_eq!(
        messages[2],
        "<stdin>:5: column 1048577: the line is longer than 1048576 bytes"
    );
    assert!(messages[3].contains("3 lines had no verdict"));
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
    // A question that has arrived only in part does not hold up the answers before it.
    write!(stdin, "a\ta\na").expect("it reads");
    let mut line = String::new();
    stdout.read_line(&mut line).expect("it answers");
    assert_eq!(line, "a\ta\t1\n");
    writeln!(stdin, "\tb").expect("it reads");
    drop(stdout);
    while stdin.write_all(b"a\ta\n").is_ok() {}
    let ran = wait(child);
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
        let many = ran_with(&["match", "-x", syntax, "--stdin"], question.as_bytes());
        let verdict = ["1", "0", "E"][usize::try_from(code).expect("a code")];
        assert_eq!(many.out(), format!("{question}\t{verdict}\n"), "{syntax}");
        assert_eq!(many.code, 0);
    }
    let unknown = ran(&["match", "--syntax", "kafka", "a", "a"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.stderr.contains("redis"),
        "the names are listed: {}",
        unknown.stderr
    );
}

/// Patterns are repeated, after few or many others, and there are more of them than are remembered.
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
fn match_stdin_drops_a_byte_order_mark_as_run_does() {
    let input = b"\xef\xbb\xbfa.*\ta.b\n\xef\xbb\xbfa\ta\n";
    let ran = ran_with(&["match", "--stdin"], input);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    // Only the first line has one; elsewhere it is a character like any other.
    assert_eq!(ran.stdout, b"a.*\ta.b\t1\n\xef\xbb\xbfa\ta\t0\n");
}

/// `/dev/full` is a disk without room.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    for (args, code) in [
        (&["match", "a.*", "a.b"][..], 2),
        (&["match", "a.*", "b"], 2),
        (&["match", "--explain", "a.*"], 2),
        (&["match", "--explain", "a.*", "a.b"], 2),
        (&["match", "--stdin"], 1),
        (&["--help"], 1),
        (&["match", "--help"], 1),
        (&["--version"], 1),
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
        let mut child = fanout(args)
            .stdin(Stdio::piped())
            .stdout(full.expect("it is there"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let _ = stdin.write_all(b"a\ta\n"); // most of the commands do not read it
        drop(stdin);
        let ran = wait(child);
        assert_eq!(ran.code, code, "{args:?}");
        assert_eq!(
            ran.stderr, "fanout: <stdout>: No space left on device (os error 28)\n",
            "{args:?}"
        );
    }
}

#[test]
fn a_language_is_named_in_upper_or_lower_case() {
    for name in ["nats", "NATS", "Nats"] {
        assert_eq!(
            ran(&["match", "--syntax", name, "a.>", "a.b"]).code,
            0,
            "{name}"
        );
    }
}
