//! `fanout match`: does this pattern match this topic?
//!
//! One question has a verdict for people and an exit status for scripts. With `--stdin` there is a
//! question on each line and an answer on each line, which is the question as it came, byte for
//! byte, and the verdict behind it: so answers can be compared, joined and fed back as text.

use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write};

use fanout::{Pattern, Syntax, Topic};

use super::Status;
use super::args::MatchArgs;
use super::console::{BadLines, complain};
use super::explain;
use super::input::{LINE_BYTES_MAX, Line, Lines, STDIN_NAME};
use super::line::BadLine;
use super::output::STDOUT_NAME;

/// How much is written to the system at once, in bytes.
const WRITE_BYTES: usize = 1 << 16;

/// Answers one question, or those on standard input.
pub(crate) fn ask(args: &MatchArgs) -> Status {
    match (&args.pattern, &args.topic) {
        (Some(pattern), topic) if args.explain => {
            explain::explain(pattern, topic.as_deref(), args.syntax)
        }
        (Some(pattern), Some(topic)) => ask_once(pattern, topic, args.syntax),
        _ => ask_many(args.syntax),
    }
}

fn ask_once(pattern: &str, topic: &str, syntax: Syntax) -> Status {
    let (pattern, topic) = (Pattern::parse_as(pattern, syntax), Topic::new(topic));
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

fn ask_many(syntax: Syntax) -> Status {
    let mut output = BufWriter::with_capacity(WRITE_BYTES, io::stdout().lock());
    let mut bad_lines = BadLines::default();
    match answer_all(syntax, io::stdin().lock(), &mut output, &mut bad_lines) {
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
    let mut judge = Judge::new(syntax);
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

/// Patterns that each of the two halves of a [`Judge`]'s memory holds at most.
///
/// A pattern of 20 bytes takes about half a kibibyte, so that is 256 MiB for both.
const PATTERNS_REMEMBERED_MAX: usize = 1 << 18;

/// Gives verdicts, and remembers patterns: to read one takes longer than to match a topic.
///
/// Its memory is bounded, and has two halves. When the young half is full it becomes the old one, and what was the
/// old one is forgotten; a pattern that is found in the old half moves to the young one. So what is
/// asked about again within as many other patterns as a half holds is always found.
struct Judge {
    syntax: Syntax,
    young: Memory,
    old: Memory,
    /// The last pattern as written, and what it was read as: questions tend to come sorted by it.
    last: (Box<[u8]>, Option<Pattern>),
}

/// Patterns by their text; `None` is one that is refused.
type Memory = HashMap<Box<[u8]>, Option<Pattern>>;

impl Judge {
    fn new(syntax: Syntax) -> Self {
        Judge {
            syntax,
            young: Memory::new(),
            old: Memory::new(),
            last: (Box::default(), read(b"", syntax)),
        }
    }

    fn verdict(&mut self, pattern: &[u8], topic: &[u8]) -> u8 {
        if *self.last.0 != *pattern {
            self.recall(pattern);
        }
        let Some(pattern) = &self.last.1 else {
            return b'E';
        };
        let verdict = std::str::from_utf8(topic)
            .ok()
            .map(|topic| pattern.matches_text(topic));
        match verdict {
            Some(Ok(true)) => b'1',
            Some(Ok(false)) => b'0',
            _ => b'T',
        }
    }

    /// Makes this pattern the last one.
    fn recall(&mut self, text: &[u8]) {
        if let Some(pattern) = self.young.get(text) {
            self.last = (text.into(), pattern.clone());
            return;
        }
        let pattern = match self.old.remove(text) {
            Some(pattern) => pattern,
            None => read(text, self.syntax),
        };
        if self.young.len() == PATTERNS_REMEMBERED_MAX {
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
        }
        self.young.insert(text.into(), pattern.clone());
        self.last = (text.into(), pattern);
    }
}

fn read(pattern: &[u8], syntax: Syntax) -> Option<Pattern> {
    let pattern = std::str::from_utf8(pattern).ok()?;
    Pattern::parse_as(pattern, syntax).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judge_forgets_the_last_pattern_when_another_comes() {
        let mut judge = Judge::new(Syntax::Segments);
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
