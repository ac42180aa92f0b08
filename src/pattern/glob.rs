//! Globs within one segment.
//!
//! A glob is cut at its stars. What stands before the first star must begin the segment, what
//! stands behind the last must end it, and the pieces between are searched from left to right:
//! the leftmost place of each leaves the most room for the rest, so nothing is ever tried twice.
//! That makes a match linear in the segment for plain pieces (which `memchr` searches), and
//! bounded by glob length times segment length for pieces with `?` or classes.

use std::sync::Arc;

use memchr::memmem;

use super::class::Class;

/// A segment of a pattern that is neither plain text nor a whole wildcard.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Glob {
    pub(super) head: Piece,
    /// What the stars separate behind the head; empty if there is no star. The last one ends the
    /// segment, the ones before it float. All but the last are non-empty.
    pub(super) rest: Box<[Piece]>,
}

/// What stands between two stars, or beside one; may be empty.
pub(super) type Piece = Box<[Atom]>;

/// A part of a piece.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Atom {
    /// Exactly this text; not empty, and not beside another text.
    Text(Box<str>),
    /// Any one character.
    One,
    /// One character of a class.
    Class(Arc<Class>),
}

impl Glob {
    /// Whether the whole `segment` matches.
    pub(crate) fn matches(&self, segment: &str) -> bool {
        let Some(rest) = strip_prefix(&self.head, segment) else {
            return false;
        };
        let Some((tail, floating)) = self.rest.split_last() else {
            return rest.is_empty();
        };
        let Some(mut rest) = strip_suffix(tail, rest) else {
            return false;
        };
        for piece in floating {
            match find(piece, rest) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        true
    }

    /// Plain text that every segment which matches begins with; may be empty.
    pub(crate) fn head(&self) -> &str {
        match self.head.first() {
            Some(Atom::Text(text)) => text,
            _ => "",
        }
    }

    /// Plain text that every segment which matches ends with; may be empty.
    pub(crate) fn end(&self) -> &str {
        match self.rest.last().unwrap_or(&self.head).last() {
            Some(Atom::Text(text)) => text,
            _ => "",
        }
    }

    /// The literal texts that every segment which matches contains.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let pieces = std::iter::once(&self.head).chain(&self.rest);
        pieces.flatten().filter_map(|atom| match atom {
            Atom::Text(text) => Some(&**text),
            Atom::One | Atom::Class(_) => None,
        })
    }
}

/// What follows `piece` at the beginning of `text`.
fn strip_prefix<'a>(piece: &[Atom], text: &'a str) -> Option<&'a str> {
    piece.iter().try_fold(text, |text, atom| match atom {
        Atom::Text(literal) => text.strip_prefix(&**literal),
        Atom::One => after_first(text, |_| true),
        Atom::Class(class) => after_first(text, |c| class.matches(c)),
    })
}

/// What precedes `piece` at the end of `text`.
fn strip_suffix<'a>(piece: &[Atom], text: &'a str) -> Option<&'a str> {
    piece.iter().rev().try_fold(text, |text, atom| match atom {
        Atom::Text(literal) => text.strip_suffix(&**literal),
        Atom::One => before_last(text, |_| true),
        Atom::Class(class) => before_last(text, |c| class.matches(c)),
    })
}

/// What follows the leftmost `piece` in `text`.
fn find<'a>(piece: &[Atom], text: &'a str) -> Option<&'a str> {
    if let [Atom::Text(literal)] = piece {
        let at = memmem::find(text.as_bytes(), literal.as_bytes())?;
        return Some(&text[at + literal.len()..]);
    }
    let mut text = text;
    loop {
        if let Some(behind) = strip_prefix(piece, text) {
            return Some(behind);
        }
        text = after_first(text, |_| true)?;
    }
}

fn after_first(text: &str, accept: impl Fn(char) -> bool) -> Option<&str> {
    let mut chars = text.chars();
    chars.next().filter(|&c| accept(c)).map(|_| chars.as_str())
}

fn before_last(text: &str, accept: impl Fn(char) -> bool) -> Option<&str> {
    let mut chars = text.chars();
    chars
        .next_back()
        .filter(|&c| accept(c))
        .map(|_| chars.as_str())
}
