//! A stream of bytes becomes lines, in bounded memory, whatever the size of the stream.
//!
//! A line ends with a line feed; the last line may lack it. A line that is too long is never kept
//! in memory: its beginning is dropped, and the rest is skipped up to its end. A byte order mark,
//! which some programs write at the beginning of a file, is not part of the first line.

use std::io::{self, BufRead, BufReader, Read};

/// The longest line that is read, in bytes, without its end.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;

/// The size of a read from the system, in bytes.
const READ_BYTES: usize = 1 << 16;

/// The byte order mark in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One line as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The bytes of the line without the line feed, at most [`LINE_BYTES_MAX`] of them.
    Text(&'a [u8]),
    /// The line was longer and has been skipped.
    TooLong,
}

/// The lines of a stream.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    /// The current line: 0 ..= `LINE_BYTES_MAX + 1` bytes.
    buffer: Vec<u8>,
    /// Lines read so far. This is the number of the current line, counted from 1.
    number: u64,
    /// Bytes read from the stream so far.
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

    /// The next line, or `None` at the end of the stream. After an error, the line that was being
    /// read is incomplete and lost.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        // One byte more than a line may have: either its line feed, or the proof that the line is
        // too long.
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
        let text = &self.buffer[..];
        Ok(Some(Line::Text(if self.number == 1 {
            text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
        } else {
            text
        })))
    }

    /// The number of the line that [`next`](Self::next) returned last, counted from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes read from the stream so far.
    pub(crate) fn position_bytes(&self) -> u64 {
        self.position_bytes
    }

    /// Returns whether the end of the next line is not in memory yet, so that reading the line may
    /// have to wait.
    pub(crate) fn may_wait(&self) -> bool {
        memchr::memchr(b'\n', self.reader.buffer()).is_none()
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
    fn a_byte_order_mark_is_stripped_from_the_first_line_only() {
        assert_eq!(read(b"\xef\xbb\xbf"), [Some(vec![])]);
        assert_eq!(
            read(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n"),
            [Some(b"a".to_vec()), Some(b"\xef\xbb\xbfb".to_vec())]
        );
    }

    #[test]
    fn lines_end_with_a_line_feed_and_the_last_line_may_lack_it() {
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
