//! `fanout match`: does this pattern match this topic?
//!
//! One question has a verdict for people and an exit status for scripts. With `--stdin` there is a
//! question on each line and an answer on each line, which is the question as it came, byte for
//! byte, and the verdict behind it: so answers can be compared, joined and fed back as text.

use fanout::{Pattern, Topic};
use std::io::{self, BufWriter, Read, Write};

use super::Status;
use super::args::MatchArgs;
use super::console::{BadLines, complain};
use super::input::{LINE_BYTES_MAX, Line, Lines, STDIN_NAME};
use super::line::BadLine;
use super::output::STDOUT_NAME;

/// How much is written to the system at once, in bytes.
const WRITE_BYTES: usize = 1 << 16;

/// Answers one question, or those on standard input.
pub(crate) fn ask(args: &MatchArgs) -> Status {
    match (&args.pattern, &args.topic) {
        (Some(pattern), Some(topic)) => ask_once(pattern, topic),
        _ => ask_many(),
    }
}

fn ask_once(pattern: &str, topic: &str) -> Status {
    let (pattern, topic) = (Pattern::parse(pattern), Topic::new(topic));
    if let Err(error) = &pattern {
        complain(format_args!("{error}"));
    }
    if let Err(error) = &topic {
        complain(format_args!("{error}"));
    }
    let (Ok(pattern), Ok(topic)) = (pattern, topic) else {
        return Status::Refused;
    };
    let (answer, status) = if pattern.matches(&topic) {
        ("match\n", Status::Good)
    } else {
        ("no match\n", Status::NoMatch)
    };
    // The exit status answers as well: who closed standard output still gets it.
    let _ = io::stdout().lock().write_all(answer.as_bytes());
    status
}

fn ask_many() -> Status {
    let mut output = BufWriter::with_capacity(WRITE_BYTES, io::stdout().lock());
    let mut bad_lines = BadLines::default();
    match answer_all(io::stdin().lock(), &mut output, &mut bad_lines) {
        Ok(()) if bad_lines.count == 0 => Status::Good,
        Ok(()) => {
            complain(format_args!("{} lines had no verdict", bad_lines.count));
            Status::BadLines
        }
        Err(Broken { stream, error }) => {
            complain(format_args!("{stream}: {error}"));
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
    let mut judge = Judge::default();
    loop {
        if lines.is_drained() {
            // The next read may wait for somebody who waits for these answers.
            output.flush().map_err(unwritten)?;
        }
        let number = lines.number() + 1;
        let bad = match lines.next().map_err(unread)? {
            None => break,
            Some(Line::TooLong) => {
                let rule = format!("longer than {LINE_BYTES_MAX} bytes");
                BadLine::new(format!("column {}", LINE_BYTES_MAX + 1), rule)
            }
            Some(Line::Text(line)) => match memchr::memchr(b'\t', line) {
                None => BadLine::new("line", "no TAB between a pattern and a topic"),
                Some(tab) => {
                    let verdict = judge.verdict(&line[..tab], &line[tab + 1..]);
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

/// Gives verdicts, and remembers the last pattern: questions tend to come sorted by it.
#[derive(Default)]
struct Judge {
    /// The last pattern as written; an empty one is refused, as the memory of nothing should be.
    text: Vec<u8>,
    /// The same, parsed, unless it is refused.
    pattern: Option<Pattern>,
}

impl Judge {
    fn verdict(&mut self, pattern: &[u8], topic: &[u8]) -> u8 {
        if self.text != pattern {
            self.text.clear();
            self.text.extend_from_slice(pattern);
            self.pattern = std::str::from_utf8(pattern)
                .ok()
                .and_then(|p| Pattern::parse(p).ok());
        }
        let Some(pattern) = &self.pattern else {
            return b'E';
        };
        let topic = std::str::from_utf8(topic)
            .ok()
            .and_then(|topic| Topic::new(topic).ok());
        match topic {
            None => b'T',
            Some(topic) if pattern.matches(&topic) => b'1',
            Some(_) => b'0',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judge_forgets_the_last_pattern_when_another_comes() {
        let mut judge = Judge::default();
        for (pattern, topic, verdict) in [
            (&b""[..], &b"a"[..], b'E'),
            (b"a.*", b"a.b", b'1'),
            (b"a.*", b"b.b", b'0'),
            (b"a..*", b"a.b", b'E'),
            (b"a.*", b"a..b", b'T'),
            (b"\xff", b"a.b", b'E'),
            (b"a.*", b"a.b", b'1'),
        ] {
            assert_eq!(
                judge.verdict(pattern, topic),
                verdict,
                "{pattern:?} {topic:?}"
            );
        }
    }
}
