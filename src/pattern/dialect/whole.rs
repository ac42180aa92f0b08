//! The common part of the two languages on whole topics: it builds the route and the canonical text
//! from characters, stars and classes.

use std::sync::Arc;

use super::compiled::Compiled;
use crate::pattern::route::{Route, Segment};
use crate::pattern::tail::{Atom, Piece, Star, Tail};

/// Collects a pattern from left to right.
#[derive(Default)]
pub(super) struct Builder {
    pieces: Vec<Piece>,
    /// Plain text behind the pieces, which is not yet one of them.
    text: String,
    canonical: String,
}

impl Builder {
    /// A character that stands for itself.
    pub(super) fn literal(&mut self, c: char) {
        if matches!(c, '*' | '?' | '[' | '\\') {
            self.canonical.push('\\');
        }
        self.canonical.push(c);
        self.text.push(c);
    }

    /// Removes the escape before a backslash that is the last character of the pattern.
    pub(super) fn bare_last_backslash(&mut self) {
        if self.text.ends_with('\\') {
            self.canonical.pop();
        }
    }

    pub(super) fn star(&mut self) {
        self.end_text();
        if self.pieces.last() != Some(&Piece::Star) {
            self.pieces.push(Piece::Star);
            self.canonical.push('*');
        }
    }

    /// Any other atom, and its canonical text.
    pub(super) fn atom(&mut self, atom: Atom, written: &str) {
        self.end_text();
        self.canonical.push_str(written);
        match (self.pieces.last_mut(), atom) {
            (Some(Piece::Atom(Atom::Bytes(count))), Atom::Bytes(more)) => *count += more,
            (_, atom) => self.pieces.push(Piece::Atom(atom)),
        }
    }

    /// Whether the pattern is a single star.
    pub(super) fn is_star(&self) -> bool {
        self.pieces == [Piece::Star] && self.text.is_empty()
    }

    /// The plain text at the beginning becomes segments, up to its last dot. This does not change
    /// the meaning: each matching topic begins with this text, and segments contain no dots.
    pub(super) fn finish(mut self, star: Star) -> Compiled {
        if self.pieces.is_empty() {
            return Compiled {
                canonical: self.canonical,
                routes: vec![Route::new(literals(&self.text))],
            };
        }
        self.end_text();
        let begins_with_text = matches!(self.pieces[0], Piece::Atom(Atom::Text(_)));
        let behind = self.pieces.split_off(usize::from(begins_with_text));
        let front = match self.pieces.pop() {
            Some(Piece::Atom(Atom::Text(text))) => text,
            _ => Box::default(),
        };
        let (mut segments, head) = match front.rsplit_once('.') {
            Some((before, head)) => (literals(before), head),
            None => (Vec::new(), &*front),
        };
        let is_rest = head.is_empty() && star == Star::Anything && behind == [Piece::Star];
        let route = if is_rest {
            // A star behind a dot is at least one segment; a star alone matches everything.
            if !segments.is_empty() {
                segments.push(Segment::Any);
            }
            segments.push(Segment::Many);
            Route::new(segments)
        } else {
            Route::tailed(segments, Arc::new(Tail::new(head, behind, star)))
        };
        Compiled {
            canonical: self.canonical,
            routes: vec![route],
        }
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text).into();
            self.pieces.push(Piece::Atom(Atom::Text(text)));
        }
    }
}

fn literals(text: &str) -> Vec<Segment> {
    text.split('.')
        .map(|segment| Segment::Literal(segment.into()))
        .collect()
}
