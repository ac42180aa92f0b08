//! Go's `path.Match`, on the whole topic.
//!
//! `*` is any run of bytes but slashes, `?` one character but a slash, `[a-z]` and `[^a-z]` one
//! character in the class or not in it, and `\` makes the next character plain text. A dot is a
//! plain character.
//!
//! This follows Go 1.16 to 1.25, src/path/match.go, in every detail:
//!
//! - Characters are compared as bytes, but `?` and classes read a whole character. A star stops at
//!   any byte, so a `?` or a class behind it may begin within a character. It then reads one byte
//!   as U+FFFD: `*[^é]` matches `é`.
//! - Each star takes the leftmost position for the text behind it, up to the next star, and no
//!   other position is tried later. Only the last star may stop anywhere. The effect is visible
//!   with classes that contain a slash: `*[/b]*c` does not match `b/c`, because the class takes the
//!   `b`, and then no star reaches the `c`.
//! - A class may contain a slash, and a negated class contains it unless the slash is written in
//!   it. A range may run backwards; it is empty.
//! - What Go calls a bad pattern is refused, whatever the topic: a class that is empty or not
//!   closed, an item of a class that begins with a `-` or `]` without `\`, also behind the `-` of a
//!   range, and a `\` at the end. `!` and braces have no meaning.
//!
//! In one respect this differs from Go: the text `*` alone and the empty text match everything,
//! slashes included, as in the program whose patterns these were. `**` is what `*` is in Go.

use super::compiled::Compiled;
use super::whole::Builder;
use crate::pattern::charset::CharSet;
use crate::pattern::error::{PatternError, PatternRule};
use crate::pattern::route::{Route, Segment};
use crate::pattern::syntax::Syntax;
use crate::pattern::tail::{Atom, Star};

pub(super) fn compile(text: &str) -> Result<Compiled, PatternError> {
    if matches!(text, "" | "*") {
        return Ok(Compiled {
            canonical: "*".to_owned(),
            routes: vec![Route::new(vec![Segment::Many])],
        });
    }
    let mut scanner = Scanner { text, at: 0 };
    let mut builder = Builder::default();
    while let Some(c) = scanner.next() {
        match c {
            '*' => builder.star(),
            '?' => builder.atom(Atom::Char, "?"),
            '[' => class(scanner.class()?, &mut builder),
            '\\' => builder.literal(scanner.escaped()?),
            c => builder.literal(c),
        }
    }
    let is_star = builder.is_star();
    let mut compiled = builder.finish(Star::NoSlash);
    if is_star {
        compiled.canonical = "**".to_owned(); // a single star would match everything
    }
    Ok(compiled)
}

fn class(set: CharSet, builder: &mut Builder) {
    match (set.is_negated(), set.ranges()) {
        // U+FFFD also stands for a byte within a character, which no literal matches.
        (false, &[(c, last)]) if c == last && c != char::REPLACEMENT_CHARACTER => {
            builder.literal(c);
        }
        _ => {
            let written = print(&set);
            builder.atom(Atom::CharSet(Box::new(set)), &written);
        }
    }
}

/// The shortest text of the class whose items are in order. Only a `^` may be out of order, because
/// behind another item it needs no escape.
pub(in crate::pattern) fn print(set: &CharSet) -> String {
    let mut ranges = set.ranges().to_vec();
    if !set.is_negated() && ranges.len() > 1 && ranges[0].0 == '^' {
        ranges.swap(0, 1);
    }
    let mut text = String::from(if set.is_negated() { "[^" } else { "[" });
    if ranges.is_empty() {
        text.push_str("b-a");
    }
    for (low, high) in ranges {
        let is_negation = low == '^' && text == "[";
        if is_negation && matches!(high, '_' | '`') {
            // No text of these is shorter.
            text.extend('_'..=high);
            text.push(low);
            continue;
        }
        member(&mut text, low, is_negation);
        if low != high {
            if u32::from(low) + 1 < u32::from(high) {
                text.push('-');
            }
            member(&mut text, high, false);
        }
    }
    text.push(']');
    text
}

fn member(text: &mut String, c: char, needs_escape: bool) {
    if needs_escape || matches!(c, '\\' | ']' | '-') {
        text.push('\\');
    }
    text.push(c);
}

/// Reads the text character by character.
struct Scanner<'a> {
    text: &'a str,
    /// The offset of the next character: 0 to the length of the text, on a character boundary.
    at: usize,
}

impl Scanner<'_> {
    /// The class whose `[` was read.
    fn class(&mut self) -> Result<CharSet, PatternError> {
        let open = self.at - 1;
        let negated = self.peek() == Some('^');
        self.at += usize::from(negated);
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut is_range = false;
        loop {
            let start = self.at;
            let low = match self.peek() {
                Some(']') if ranges.is_empty() => return self.nothing_in_class(open),
                Some(']') => {
                    self.at += 1;
                    return Ok(CharSet::new(negated, ranges));
                }
                Some('-') if is_range => return self.refuse(PatternRule::ChainedRange, start),
                Some('-') => return self.refuse(PatternRule::BareDash, start),
                _ => self.member(open)?,
            };
            let dash = self.at;
            is_range = self.peek() == Some('-');
            let mut high = low;
            if is_range {
                self.at += 1;
                if matches!(self.peek(), Some('-' | ']')) {
                    return self.refuse(PatternRule::BareDash, dash);
                }
                high = self.member(open)?;
            }
            ranges.push((low, high));
        }
    }

    /// A character of a class, escaped or not.
    fn member(&mut self, open: usize) -> Result<char, PatternError> {
        match self.next() {
            Some('\\') => self.escaped(),
            Some(c) => Ok(c),
            None => self.refuse(PatternRule::UnclosedClass, open),
        }
    }

    /// The character behind a `\`.
    fn escaped(&mut self) -> Result<char, PatternError> {
        let offset = self.at - 1;
        match self.next() {
            Some(c) => Ok(c),
            None => self.refuse(PatternRule::TrailingBackslash, offset),
        }
    }

    /// The error for a `]` at the beginning of a class. It was meant as a character if another `]`
    /// follows.
    fn nothing_in_class<T>(&self, open: usize) -> Result<T, PatternError> {
        let behind = &self.text[self.at + 1..];
        match behind.find([']', '[']).map(|at| behind.as_bytes()[at]) {
            Some(b']') => self.refuse(PatternRule::LeadingBracket, self.at),
            _ => self.refuse(PatternRule::EmptyClass, open),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn refuse<T>(&self, rule: PatternRule, offset: usize) -> Result<T, PatternError> {
        Err(PatternError::new(rule, offset, self.text, Syntax::Path))
    }
}
