//! A stream of bytes becomes lines, in bounded memory, whatever the size of the stream.
//!
//! A line ends with a line feed; the last one may go without. A line that is too long is never
//! held: its beginning is thrown away and the rest is skipped up to its end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::args::STANDARD_STREAM;
use super::output::Identity;

/// The longest line that is read, in bytes, its end not counted.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;

/// How much is read from the system at once, in bytes.
const READ_BYTES: usize = 1 << 16;

/// What standard input is called in messages.
pub(crate) const STDIN_NAME: &str = "<stdin>";

/// An opened input: its lines, and what is known about it.
pub(crate) struct Input {
    /// How messages call it.
    pub(crate) name: String,
    pub(crate) lines: Lines<Box<dyn Read>>,
    /// Its size, where it is a file, for showing progress only.
    pub(crate) size_bytes: Option<u64>,
    /// Which file it is, so that no output is written over it.
    pub(crate) identity: Option<Identity>,
}

impl Input {
    pub(crate) fn open(path: &Path) -> io::Result<Input> {
        if path.as_os_str() == STANDARD_STREAM {
            return Ok(Input {
                name: STDIN_NAME.to_owned(),
                lines: Lines::new(Box::new(io::stdin().lock())),
                size_bytes: None,
                identity: Identity::of_stdin(),
            });
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(Input {
            name: path.display().to_string(),
            size_bytes: metadata.is_file().then_some(metadata.len()),
            identity: Identity::of(&file, path),
            lines: Lines::new(Box::new(file)),
        })
    }
}

/// One line as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The line's bytes without the line feed, at most [`LINE_BYTES_MAX`] of them.
    Text(&'a [u8]),
    /// The line was longer; it has been skipped.
    TooLong,
}

/// The lines of a stream.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    /// The current line: 0 ..= `LINE_BYTES_MAX + 1` bytes.
    buffer: Vec<u8>,
    /// Lines read so far, which is the number of the current one, counted from 1.
    number: u64,
    /// Bytes of the stream read so far.
    position_bytes: u64,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(stream: R) -> Self {
        let reader = BufReader::with_capacity(READ_BYTES, stream);
        Lines {
            reader,
            buffer: Vec::new(),
            number: 0,
            position_bytes: 0,
        }
    }

    /// The next line, or none at the end of the stream.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        // One more than a line may have: room for its line feed, or the proof that it is too long.
        let limit_bytes = LINE_BYTES_MAX + 1;
        let read = (&mut self.reader)
            .take(limit_bytes as u64)
            .read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.position_bytes += read as u64;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        } else if read == limit_bytes {
            self.position_bytes += self.reader.skip_until(b'\n')? as u64;
            return Ok(Some(Line::TooLong));
        }
        Ok(Some(Line::Text(&self.buffer)))
    }

    /// The number of the line that [`next`](Self::next) answered last, counted from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of the stream read so far.
    pub(crate) fn position_bytes(&self) -> u64 {
        self.position_bytes
    }

    /// Whether the next line must be waited for: nothing of it is here yet.
    pub(crate) fn is_drained(&self) -> bool {
        self.reader.buffer().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &[u8]) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::new(stream);
        let mut all = Vec::new();
        while let Some(line) = lines.next().expect("memory can be read") {
            all.push(match line {
                Line::Text(text) => Some(text.to_vec()),
                Line::TooLong => None,
            });
        }
        assert_eq!(lines.number(), all.len() as u64);
        assert_eq!(lines.position_bytes(), stream.len() as u64);
        all
    }

    #[test]
    fn lines_end_with_a_line_feed_and_the_last_may_go_without() {
        assert_eq!(read(b""), []);
        assert_eq!(read(b"\n"), [Some(vec![])]);
        assert_eq!(read(b"a\nb"), [Some(b"a".to_vec()), Some(b"b".to_vec())]);
        assert_eq!(
            read(b"a\r\n\nb\n"),
            [Some(b"a\r".to_vec()), Some(vec![]), Some(b"b".to_vec())]
        );
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_is_skipped() {
        let longest = vec![b'x'; LINE_BYTES_MAX];
        for end in [&b"\n"[..], b""] {
            let stream = [&longest[..], end].concat();
            assert_eq!(read(&stream), [Some(longest.clone())]);
            let stream = [b"a\n", &longest[..], b"x", end].concat();
            assert_eq!(read(&stream), [Some(b"a".to_vec()), None]);
        }
        let stream = [&longest[..], &longest[..], &longest[..], b"\nafter\n"].concat();
        assert_eq!(read(&stream), [None, Some(b"after".to_vec())]);
    }
}
