//! A glob over the rest of a topic, dots and all: what the whole-topic dialects compile to.
//!
//! A tail is cut at its stars into chunks. The first chunk begins the rest, the last one ends it,
//! and those between take, from left to right, the leftmost place that their star can reach.
//!
//! That is what Go's `path.Match` says of itself. Redis tries the places of an earlier star again
//! when a later chunk fails, but to no effect: its stars pass over anything, and each of its chunks
//! has one length, so whatever lies behind a place further right lies behind the leftmost one, too
//! (Redis leaves its loops by the same argument, `skipLongerMatches`).
//!
//! A match does not allocate or recurse. A chunk of plain text is searched by `memchr`; any other
//! is compared at each place that leaves room for what follows, so that a match takes at most
//! (atoms of the tail) times (bytes of the rest) steps.

use memchr::{memchr, memmem};

use super::charset::{ByteSet, CharSet};

/// What the text behind the leading literal segments of a route must match.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tail {
    /// What every rest that matches begins with; may be empty, and may end within a character.
    head: Box<[u8]>,
    /// What follows the head.
    first: Chunk,
    /// Each behind a star. The last may be empty, the others are not.
    starred: Box<[Chunk]>,
    star: Star,
}

/// What a star passes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Star {
    /// Any bytes, as in Redis.
    Anything,
    /// Any bytes but slashes, as in Go.
    NoSlash,
}

/// What stands between two stars, or beside one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Chunk {
    atoms: Box<[Atom]>,
    /// How many bytes it matches at most.
    bytes_max: usize,
    /// How many bytes it and all behind it match at least.
    bytes_min: usize,
}

/// A part of a tail that is no star.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Atom {
    /// Exactly this text; not empty, and not beside another text.
    Text(Box<str>),
    /// Any bytes, as many; not beside another of these.
    Bytes(usize),
    /// One byte of a set.
    ByteSet(Box<ByteSet>),
    /// One character but a slash; within a character, one byte.
    Char,
    /// One character of a set; within a character, one byte, which counts as U+FFFD.
    CharSet(Box<CharSet>),
}

/// A part of a pattern on the whole topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Not beside another star.
    Star,
    Atom(Atom),
}

impl Tail {
    /// The tail of a head and the pieces behind it.
    pub(super) fn new(head: &str, pieces: Vec<Piece>, star: Star) -> Self {
        let mut chunks = vec![Vec::new()];
        for piece in pieces {
            match (piece, chunks.last_mut()) {
                (Piece::Atom(atom), Some(chunk)) => chunk.push(atom),
                _ => chunks.push(Vec::new()),
            }
        }
        let mut bytes_min = 0;
        let mut chunks: Vec<Chunk> = chunks
            .into_iter()
            .rev()
            .map(|atoms| {
                bytes_min += atoms.iter().map(Atom::bytes_min).sum::<usize>();
                Chunk {
                    bytes_max: atoms.iter().map(Atom::bytes_max).sum(),
                    bytes_min,
                    atoms: atoms.into(),
                }
            })
            .collect();
        let first = chunks.pop().expect("begins with one chunk");
        chunks.reverse();
        Tail {
            head: head.as_bytes().into(),
            first,
            starred: chunks.into(),
            star,
        }
    }

    /// Whether the whole of `rest` matches. Not empty, and a topic of its own.
    pub(crate) fn matches(&self, rest: &str) -> bool {
        if !rest.as_bytes().starts_with(self.head()) {
            return false;
        }
        let Some(mut at) = self.first.end(rest, self.head.len()) else {
            return false;
        };
        let Some((last, floating)) = self.starred.split_last() else {
            return at == rest.len();
        };
        for chunk in floating {
            match chunk.leftmost_end(rest, at, self.star) {
                Some(end) => at = end,
                None => return false,
            }
        }
        last.ends_behind(rest, at, self.star)
    }

    /// The atoms between the stars, first to last: a star stands between two.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &[Atom]> {
        std::iter::once(&self.first)
            .chain(&self.starred)
            .map(|chunk| &*chunk.atoms)
    }

    /// What its stars pass over.
    pub(super) fn star(&self) -> Star {
        self.star
    }

    /// What every rest that matches begins with.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Literal text that every rest which matches ends with; may be empty.
    pub(crate) fn end(&self) -> &str {
        let last = self.starred.last().unwrap_or(&self.first);
        match last.atoms.last() {
            Some(Atom::Text(text)) => text,
            _ => "",
        }
    }

    /// The literal texts that every rest which matches contains.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        let atoms = self.chunks().flatten().filter_map(|atom| match atom {
            Atom::Text(text) => Some(text.as_bytes()),
            _ => None,
        });
        std::iter::once(self.head()).chain(atoms)
    }
}

impl Star {
    /// How far a star that begins at `at` can reach.
    fn reach(self, text: &str, at: usize) -> usize {
        match self {
            Star::Anything => text.len(),
            Star::NoSlash => {
                memchr(b'/', &text.as_bytes()[at..]).map_or(text.len(), |slash| at + slash)
            }
        }
    }
}

impl Chunk {
    /// Where the chunk ends if it begins at `at`.
    fn end(&self, text: &str, at: usize) -> Option<usize> {
        self.atoms
            .iter()
            .try_fold(at, |at, atom| atom.end(text, at))
    }

    /// Where the leftmost place of the chunk ends that a star from `at` on can reach.
    fn leftmost_end(&self, text: &str, at: usize, star: Star) -> Option<usize> {
        let start_max = star
            .reach(text, at)
            .min(text.len().checked_sub(self.bytes_min)?);
        let [Atom::Text(literal), behind @ ..] = &*self.atoms else {
            return (at..=start_max).find_map(|start| self.end(text, start));
        };
        let mut at = at;
        while at <= start_max {
            let window = &text.as_bytes()[at..start_max + literal.len()];
            let start = at + memmem::find(window, literal.as_bytes())?;
            let end = behind
                .iter()
                .try_fold(start + literal.len(), |at, atom| atom.end(text, at));
            if end.is_some() {
                return end;
            }
            at = start + 1;
        }
        None
    }

    /// Whether the chunk has a place that ends the text and that a star from `at` on can reach.
    fn ends_behind(&self, text: &str, at: usize, star: Star) -> bool {
        let reach = star.reach(text, at);
        let Some(start_max) = text.len().checked_sub(self.bytes_min) else {
            return false;
        };
        let start_min = text.len().saturating_sub(self.bytes_max).max(at);
        (start_min..=start_max.min(reach)).any(|start| self.end(text, start) == Some(text.len()))
    }
}

impl Atom {
    fn bytes_min(&self) -> usize {
        match self {
            Atom::Text(text) => text.len(),
            Atom::Bytes(count) => *count,
            Atom::ByteSet(_) | Atom::Char | Atom::CharSet(_) => 1,
        }
    }

    fn bytes_max(&self) -> usize {
        match self {
            Atom::Char | Atom::CharSet(_) => char::MAX.len_utf8(),
            _ => self.bytes_min(),
        }
    }

    /// Where the atom ends if it begins at `at`.
    #[inline]
    fn end(&self, text: &str, at: usize) -> Option<usize> {
        let bytes = &text.as_bytes()[at..];
        match self {
            Atom::Text(literal) => bytes
                .starts_with(literal.as_bytes())
                .then_some(at + literal.len()),
            Atom::Bytes(count) => (*count <= bytes.len()).then_some(at + count),
            Atom::ByteSet(set) => set.contains(*bytes.first()?).then_some(at + 1),
            Atom::Char => match *bytes.first()? {
                b'/' => None,
                first => Some(at + width(first)),
            },
            Atom::CharSet(set) => {
                let first = *bytes.first()?;
                let c = if is_continuation(first) {
                    char::REPLACEMENT_CHARACTER
                } else {
                    text[at..].chars().next()?
                };
                set.contains(c).then_some(at + width(first))
            }
        }
    }
}

/// How many bytes the character has that begins with this one; 1 if it is within a character.
fn width(first: u8) -> usize {
    match first {
        0..0xc0 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0.. => 4,
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}
