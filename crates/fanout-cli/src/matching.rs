//! `fanout match`: does this pattern match this topic?
//!
//! The answer to one question is a word for people and an exit status for scripts. With `--stdin`
//! there is a question on each line and an answer on each line: the unchanged question, followed by
//! the verdict. So answers can be compared, joined and used as input again as text.

use std::io::{self, BufWriter, Read, Write};

use fanout::{Pattern, Syntax, Topic};

use crate::args::MatchArgs;
use crate::bad_lines::{BadLine, BadLines};
use crate::cached_matcher::CachedMatcher;
use crate::console::{self, print_message};
use crate::explain;
use crate::hint;
use crate::identity::{STDIN_NAME, STDOUT_NAME};
use crate::lines::{Line, Lines};
use crate::status::Status;

/// The size of a write to the system, in bytes.
const WRITE_BYTES: usize = 1 << 16;

/// Answers one question, or those on standard input.
pub(crate) fn run(args: &MatchArgs) -> Status {
    match (&args.pattern, &args.topic) {
        (Some(pattern), topic) if args.explain => {
            explain::explain(pattern, topic.as_deref(), args.syntax)
        }
        (Some(pattern), Some(topic)) => ask_once(pattern, topic, args.syntax),
        _ => ask_many(args.syntax),
    }
}

fn ask_once(pattern_text: &str, topic: &str, syntax: Syntax) -> Status {
    let pattern = Pattern::parse_as(pattern_text, syntax);
    let topic = Topic::new(topic);
    if let Err(error) = &pattern {
        print_message(format_args!("{error}"));
    }
    if let Err(error) = &topic {
        print_message(format_args!("{error}"));
    }
    let (Ok(pattern), Ok(topic)) = (pattern, topic) else {
        return Status::Refused;
    };
    let (answer, status) = if pattern.matches(&topic) {
        ("match\n", Status::Good)
    } else {
        ("no match\n", Status::NoMatch)
    };
    if let Err(error) = console::print(answer) {
        print_message(format_args!("{STDOUT_NAME}: {error}"));
        return Status::NoAnswer;
    }
    if status == Status::NoMatch {
        hint::print_if_it_matches(pattern_text, syntax, &topic);
    }
    status
}

fn ask_many(syntax: Syntax) -> Status {
    let mut output = BufWriter::with_capacity(WRITE_BYTES, io::stdout().lock());
    let mut bad_lines = BadLines::default();
    match answer_all(syntax, io::stdin().lock(), &mut output, &mut bad_lines) {
        Ok(()) if bad_lines.count == 0 => Status::Good,
        Ok(()) => {
            print_message(format_args!("{} lines had no verdict", bad_lines.count));
            Status::BadLines
        }
        Err(Broken { stream, error }) => {
            print_message(format_args!("{stream}: {error}"));
            Status::Failed
        }
    }
}

/// A standard stream that failed.
#[derive(Debug)]
struct Broken {
    stream: &'static str,
    error: io::Error,
}

fn answer_all(
    syntax: Syntax,
    input: impl Read,
    output: &mut impl Write,
    bad_lines: &mut BadLines,
) -> Result<(), Broken> {
    let unread = |error| Broken {
        stream: STDIN_NAME,
        error,
    };
    let unwritten = |error| Broken {
        stream: STDOUT_NAME,
        error,
    };
    let mut lines = Lines::new(input);
    let mut matcher = CachedMatcher::new(syntax);
    loop {
        if lines.may_wait() {
            // The next read may wait for a program that waits for these answers.
            output.flush().map_err(unwritten)?;
        }
        let number = lines.number() + 1;
        let bad = match lines.next().map_err(unread)? {
            None => break,
            Some(Line::TooLong) => BadLine::too_long(),
            Some(Line::Text(line)) => match memchr::memchr(b'\t', line) {
                None => BadLine::new("line", "the line has no TAB between a pattern and a topic"),
                Some(tab) => {
                    let verdict = matcher.verdict(&line[..tab], &line[tab + 1..]);
                    let answer = [b'\t', verdict, b'\n'];
                    output
                        .write_all(line)
                        .and_then(|()| output.write_all(&answer))
                        .map_err(unwritten)?;
                    continue;
                }
            },
        };
        bad_lines.add(STDIN_NAME, number, &bad);
    }
    output.flush().map_err(unwritten)
}
