//! `fanout match`: does this pattern match this topic?
//!
//! One question has a verdict for people and an exit status for scripts. With `--stdin` there is a
//! question on each line and an answer on each line, which is the question as it came, byte for
//! byte, and the verdict behind it: so answers can be compared, joined and fed back as text.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
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
/// To read a pattern takes a fraction of a microsecond. So few of them stay in the processor's caches; with 65,536 in a
/// half, finding one and freeing it later took twice as long as reading it again, though that took half a microsecond
/// then (November 2026, 300,000 questions with as many patterns).
const PATTERNS_REMEMBERED_MAX: usize = 1 << 12;

/// Places for the marks of patterns that a [`Judge`] has seen, and how many marks each holds.
///
/// What is remembered lies far apart, and what comes once is remembered in vain: a million questions with a pattern each
/// took 1.4 times as long when each was remembered at once, and 1.7 times with classes and braces (November 2026).
const MARK_PLACES: usize = 1 << 13;
const MARKS: usize = 4;

/// Gives verdicts, and remembers patterns: to read one takes longer than to match a topic.
///
/// Its memory is bounded, and has two halves. When the young half is full it becomes the old one, and what was the
/// old one is forgotten; a pattern that is found in the old half moves to the young one. So what is remembered and
/// asked about again within as many other patterns as a half holds is always found.
///
/// A pattern is remembered when it comes back. The first time it leaves a mark of a few bits. Another pattern may have the same
/// mark, and is then remembered at once; or more than [`MARKS`] may take turns in one place, which are then read each time:
/// of 4,096 patterns asked about in turn, about one in 600. The marks are the doorkeeper of TinyLFU
/// (Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", 2017).
struct Judge {
    syntax: Syntax,
    /// Some bits of the hashes of texts, at the places that others of their bits name, the latest first; 0: none.
    seen: Box<[[u16; MARKS]]>,
    hasher: RandomState,
    young: Memory,
    old: Memory,
    /// The last pattern as written: questions tend to come sorted by it.
    last_text: Vec<u8>,
    /// What it was read as.
    last: Option<Pattern>,
}

/// Patterns by their text; `None` is one that is refused.
type Memory = HashMap<Box<[u8]>, Option<Pattern>>;

impl Judge {
    fn new(syntax: Syntax) -> Self {
        Judge {
            syntax,
            seen: vec![[0; MARKS]; MARK_PLACES].into(),
            hasher: RandomState::new(),
            young: Memory::new(),
            old: Memory::new(),
            last_text: Vec::new(),
            last: read(b"", syntax),
        }
    }

    fn verdict(&mut self, pattern: &[u8], topic: &[u8]) -> u8 {
        if self.last_text != pattern {
            self.last = self.recall(pattern);
            self.last_text.clear();
            self.last_text.extend_from_slice(pattern);
        }
        let Some(pattern) = &self.last else {
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

    /// What the text is read as; remembered from now on, if it came before.
    fn recall(&mut self, text: &[u8]) -> Option<Pattern> {
        if let Some(pattern) = self.young.get(text) {
            return pattern.clone();
        }
        let pattern = match self.old.remove(text) {
            Some(pattern) => pattern,
            None => {
                let pattern = read(text, self.syntax);
                if !self.has_seen(text) {
                    return pattern;
                }
                pattern
            }
        };
        if self.young.len() == PATTERNS_REMEMBERED_MAX {
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
        }
        self.young.insert(text.into(), pattern.clone());
        pattern
    }

    /// Whether this text came before, as far as is known. From now on it did.
    fn has_seen(&mut self, text: &[u8]) -> bool {
        let hash = self.hasher.hash_one(text);
        let marks = &mut self.seen[hash as usize % MARK_PLACES];
        let mark = (hash >> 48) as u16 | 1;
        if marks.contains(&mark) {
            return true;
        }
        marks.rotate_right(1);
        marks[0] = mark;
        false
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

    #[test]
    fn what_comes_once_is_not_remembered() {
        let mut judge = Judge::new(Syntax::Segments);
        const MANY: usize = 1000;
        let ask_each = |judge: &mut Judge| {
            for number in 0..MANY {
                let (text, topic) = (format!("{number}.*"), format!("{number}.x"));
                assert_eq!(judge.verdict(text.as_bytes(), topic.as_bytes()), b'1');
            }
        };
        ask_each(&mut judge);
        // But for those that have the mark of another.
        let remembered = judge.young.len();
        assert!(remembered < MANY / 20, "{remembered}");
        ask_each(&mut judge);
        // But for those of which too many share a place.
        let remembered = judge.young.len();
        assert!(
            (MANY * 19 / 20..=MANY).contains(&remembered),
            "{remembered}"
        );
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_again_stays() {
        let mut judge = Judge::new(Syntax::Segments);
        let most = PATTERNS_REMEMBERED_MAX;
        for number in 0..3 * most {
            let (text, topic) = (format!("{number}.*"), format!("{number}.x"));
            for _ in 0..2 {
                assert_eq!(judge.verdict(text.as_bytes(), topic.as_bytes()), b'1');
                judge.verdict(b"", b"in between");
            }
            assert_eq!(judge.verdict(b"a.*", b"a.x"), b'1');
            assert_eq!(judge.verdict(b"a..b", b"a.x"), b'E');
            assert!(judge.young.len() <= most && judge.old.len() <= most);
        }
        let remembered = |judge: &Judge, text: &[u8]| {
            judge.young.contains_key(text) || judge.old.contains_key(text)
        };
        assert!(remembered(&judge, b"a.*") && remembered(&judge, b"a..b"));
        assert!(!remembered(&judge, b"0.*"));
        assert!(!judge.old.is_empty(), "both halves were in use");
    }
}
