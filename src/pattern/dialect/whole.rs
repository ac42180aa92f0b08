//! What the two dialects on the whole topic have in common: from characters, stars and classes to
//! a route and to the canonical text, at once.

use std::sync::Arc;

use super::Compiled;
use crate::pattern::tail::{Atom, Piece, Star};
use crate::pattern::{Route, Segment, Tail};

/// Collects a pattern from left to right.
#[derive(Default)]
pub(super) struct Builder {
    pieces: Vec<Piece>,
    /// Plain text that is not in the pieces yet.
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

    /// Takes the escape from a backslash that is the last character of the pattern.
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

    /// Something else, and how it is written.
    pub(super) fn atom(&mut self, atom: Atom, written: &str) {
        self.end_text();
        self.canonical.push_str(written);
        match (self.pieces.last_mut(), atom) {
            (Some(Piece::Atom(Atom::Bytes(count))), Atom::Bytes(more)) => *count += more,
            (_, atom) => self.pieces.push(Piece::Atom(atom)),
        }
    }

    /// Whether all there is is a star.
    pub(super) fn is_star(&self) -> bool {
        self.pieces == [Piece::Star] && self.text.is_empty()
    }

    /// The plain text in front becomes segments up to its last dot. That is exact: it is what any
    /// topic that matches begins with, and segments have no dots.
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
            // Behind a dot that is at least one segment; without one, everything.
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
