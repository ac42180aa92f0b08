//! Globs within one segment.
//!
//! A glob is cut at its stars. The piece before the first star must begin the segment, the piece
//! behind the last star must end it, and the pieces between are searched from left to right. The
//! leftmost position of each leaves the most room for the rest, so no position is tried twice. A
//! match takes time in proportion to the length of the segment for pieces of plain text (which
//! `memchr` searches), and to glob length times segment length for pieces with `?` or classes.

use std::sync::Arc;

use memchr::memmem;

use super::class::Class;

/// A segment of a pattern that is neither plain text nor a whole wildcard.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Glob {
    /// The piece before the first star.
    pub(super) head: Piece,
    /// The pieces behind the stars, one for each. The last one ends the segment and may be empty;
    /// the others may be anywhere in between and are not empty.
    pub(super) rest: Box<[Piece]>,
}

/// What stands between two stars, or before the first or behind the last; may be empty.
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

    /// Plain text with which every matching segment begins; may be empty.
    pub(crate) fn head(&self) -> &str {
        match self.head.first() {
            Some(Atom::Text(text)) => text,
            _ => "",
        }
    }

    /// Plain text with which every matching segment ends; may be empty.
    pub(crate) fn end(&self) -> &str {
        match self.rest.last().unwrap_or(&self.head).last() {
            Some(Atom::Text(text)) => text,
            _ => "",
        }
    }

    /// The plain texts that every matching segment contains.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let pieces = std::iter::once(&self.head).chain(&self.rest);
        pieces.flatten().filter_map(|atom| match atom {
            Atom::Text(text) => Some(&**text),
            Atom::One | Atom::Class(_) => None,
        })
    }
}

/// The part of `text` behind `piece`, if `text` begins with it.
fn strip_prefix<'a>(piece: &[Atom], text: &'a str) -> Option<&'a str> {
    piece.iter().try_fold(text, |text, atom| match atom {
        Atom::Text(literal) => text.strip_prefix(&**literal),
        Atom::One => after_first(text, |_| true),
        Atom::Class(class) => after_first(text, |c| class.matches(c)),
    })
}

/// The part of `text` before `piece`, if `text` ends with it.
fn strip_suffix<'a>(piece: &[Atom], text: &'a str) -> Option<&'a str> {
    piece.iter().rev().try_fold(text, |text, atom| match atom {
        Atom::Text(literal) => text.strip_suffix(&**literal),
        Atom::One => before_last(text, |_| true),
        Atom::Class(class) => before_last(text, |c| class.matches(c)),
    })
}

/// The part of `text` behind the leftmost `piece` in it.
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
