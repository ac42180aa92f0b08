//! The globs of Redis' `PSUBSCRIBE`, on the whole topic.
//!
//! `*` is any run of bytes, `?` one byte, `[..]` and `[^..]` one byte in the class or not in it,
//! and `\` makes the next byte plain text. Nothing is refused.
//!
//! This follows Redis 7, `stringmatchlen` in src/util.c, with all consequences of its code:
//!
//! - It reads bytes: `?` does not match `é`, but `??` does, and `[é]` is one of its two bytes.
//! - A class ends at its first `]` that is not escaped, even right behind the `[`: `[]` matches
//!   nothing, `[^]` matches any byte. A class that is not closed ends with the pattern and is
//!   valid: `[ab` is `[ab]`. A `\` that is the last byte of a pattern stands for itself, also in a
//!   class.
//! - A range is any byte, `-`, and any byte: `[a-]` has a range up to `]` and is not closed.
//!   Neither end can be escaped, so `[\a-c]` is `a`, `-` or `c`. The ends of a range that runs
//!   backwards are exchanged. Bytes are ordered as the `char` of C, which is signed on x86-64:
//!   `[é-z]` ranges from 0xa9, through 0xff and 0, to `z`.
//! - The empty pattern matches nothing.

use super::compiled::Compiled;
use super::whole::Builder;
use crate::pattern::charset::ByteSet;
use crate::pattern::tail::{Atom, Star};

pub(super) fn compile(text: &str) -> Compiled {
    let mut builder = Builder::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' => builder.star(),
            '?' => builder.atom(Atom::Bytes(1), "?"),
            '[' => {
                let class = Class::parse(rest);
                class.build(&mut builder);
                rest = &rest[class.written.len()..];
            }
            '\\' => match rest.chars().next() {
                Some(escaped) => {
                    // The escaped byte begins this character, whose other bytes are plain anyway.
                    rest = &rest[escaped.len_utf8()..];
                    builder.literal(escaped);
                }
                None => builder.literal('\\'),
            },
            c => builder.literal(c),
        }
    }
    builder.bare_last_backslash();
    builder.finish(Star::Anything)
}

/// A class.
struct Class<'a> {
    negated: bool,
    /// The bytes that are written in it, negated or not.
    items: ByteSet,
    /// The text behind the `[`, with the `]` if there is one.
    written: &'a str,
    is_closed: bool,
}

impl<'a> Class<'a> {
    fn parse(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let negated = bytes.first() == Some(&b'^');
        let mut items = ByteSet::default();
        let mut at = usize::from(negated);
        let is_closed = loop {
            match bytes[at..] {
                [] => break false,
                [b'\\', byte, ..] => {
                    items.insert(byte);
                    at += 2;
                }
                [b']', ..] => {
                    at += 1;
                    break true;
                }
                [start, b'-', end, ..] => {
                    insert_range(&mut items, start, end);
                    at += 3;
                }
                [byte, ..] => {
                    items.insert(byte);
                    at += 1;
                }
            }
        };
        Class {
            negated,
            items,
            written: &text[..at],
            is_closed,
        }
    }

    fn build(&self, builder: &mut Builder) {
        let runs = self.items.runs();
        match (self.negated, &*runs) {
            // No character consists of one byte twice, so a single byte is ASCII.
            (false, &[(byte, last)]) if byte == last => builder.literal(char::from(byte)),
            (true, []) => builder.atom(Atom::Bytes(1), "?"),
            _ => {
                // The bytes of a character cannot be sorted, because the result would not be UTF-8.
                // In a class that is not closed, there may be no room for an escape that sorting
                // would need.
                let written = if self.is_closed && self.written.is_ascii() {
                    print(self.negated, &runs)
                } else {
                    format!("[{}", self.written)
                };
                let set = match self.negated {
                    true => self.items.complement(),
                    false => self.items.clone(),
                };
                builder.atom(Atom::ByteSet(Box::new(set)), &written);
            }
        }
    }
}

fn insert_range(items: &mut ByteSet, start: u8, end: u8) {
    let [start, end] = [start, end].map(u8::cast_signed);
    for byte in start.min(end)..=start.max(end) {
        items.insert(byte.cast_unsigned());
    }
}

/// The text of the class with its items in order, except for two: an item with a `-` comes first,
/// where its neighbours make no range of it, and an item that begins with `^` does not come first.
fn print(negated: bool, runs: &[(u8, u8)]) -> String {
    let mut runs = runs.to_vec();
    let has_dash = |&(low, high): &(u8, u8)| low == b'-' || (low, high) == (b',', b'-');
    if let Some(at) = runs.iter().position(has_dash) {
        runs[..=at].rotate_right(1);
    }
    // The range from `\` to `^` is written backwards.
    let has_caret = |(low, high): (u8, u8)| low == b'^' || (low, high) == (b'\\', b'^');
    if !negated && runs.len() > 1 && has_caret(runs[0]) {
        runs.swap(0, 1);
    }
    let mut text = String::from(if negated { "[^" } else { "[" });
    for (low, high) in runs {
        let is_negation = text == "[" && has_caret((low, high));
        if (low, high) == (b',', b'-') {
            text.push_str("-,");
        } else if is_negation && (low, high) == (b'^', b'_') {
            text.push_str("_^");
        } else if high - low < 2 || (is_negation && high == b'^') {
            (low..=high).for_each(|byte| item(&mut text, byte));
        } else if is_negation || matches!(low, b'\\' | b']') {
            // These bytes cannot begin a range, but they can end one.
            text.extend([high, b'-', low].map(char::from));
        } else {
            text.extend([low, b'-', high].map(char::from));
        }
    }
    text.push(']');
    text
}

fn item(text: &mut String, byte: u8) {
    if matches!(byte, b'\\' | b']') {
        text.push('\\');
    }
    text.push(char::from(byte));
}
