//! A glob over the rest of a topic, in which dots are plain characters. The languages on whole
//! topics compile to it.
//!
//! A tail is cut at its stars into chunks. The first chunk begins the rest, the last one ends it,
//! and those between take, from left to right, the leftmost position that their star can reach.
//!
//! Go documents `path.Match` in this way. Redis tries the positions of an earlier star again when a
//! later chunk fails, but that has no effect: its stars pass over all bytes, and each of its chunks
//! has one length, so text behind a position further right is also behind the leftmost one. (Redis
//! leaves its loops for the same reason, see `skipLongerMatches`.)
//!
//! A match does not allocate and does not recurse. A chunk of plain text is searched with `memchr`;
//! others are compared at each position that leaves room for what follows. So a match takes at most
//! (atoms of the tail) times (bytes of the rest) steps.

use memchr::{memchr, memmem};

use super::charset::{ByteSet, CharSet};

/// The glob for the text behind the leading literal segments of a route.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tail {
    /// The bytes with which every matching rest begins. May be empty.
    head: Box<[u8]>,
    /// The chunk behind the head.
    first: Chunk,
    /// The chunks behind the stars, one for each. Only the last may be empty.
    starred: Box<[Chunk]>,
    star: Star,
}

/// The bytes that a star may pass over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Star {
    /// All bytes, as in Redis.
    Anything,
    /// All bytes but slashes, as in Go.
    NoSlash,
}

/// What stands between two stars, or before the first or behind the last.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Chunk {
    atoms: Box<[Atom]>,
    /// The length of the longest text that matches the chunk, in bytes.
    bytes_max: usize,
    /// The length of the shortest text that matches it and all chunks behind it, in bytes.
    bytes_min: usize,
}

/// A part of a chunk.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Atom {
    /// Exactly this text. Not empty, and not next to another text.
    Text(Box<str>),
    /// This number of bytes, of any value. Not next to another atom of this kind.
    Bytes(usize),
    /// One byte of a set.
    ByteSet(Box<ByteSet>),
    /// One character but a slash; at a position within a character, one byte.
    Char,
    /// One character of a set; at a position within a character, one byte, which counts as U+FFFD.
    CharSet(Box<CharSet>),
}

/// A part of a pattern on the whole topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Not next to another star.
    Star,
    Atom(Atom),
}

impl Tail {
    /// The tail of a text and the pieces behind it.
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

    /// Whether the whole of `rest` matches, which must be a valid topic by itself.
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

    /// The atoms of each chunk, first to last. Between two chunks is a star.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &[Atom]> {
        std::iter::once(&self.first)
            .chain(&self.starred)
            .map(|chunk| &*chunk.atoms)
    }

    /// The bytes that the stars pass over.
    pub(super) fn star(&self) -> Star {
        self.star
    }

    /// The bytes with which every matching rest begins. May be empty.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Plain text with which every matching rest ends. May be empty.
    pub(crate) fn end(&self) -> &str {
        let last = self.starred.last().unwrap_or(&self.first);
        match last.atoms.last() {
            Some(Atom::Text(text)) => text,
            _ => "",
        }
    }

    /// The plain texts that every matching rest contains.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        let atoms = self.chunks().flatten().filter_map(|atom| match atom {
            Atom::Text(text) => Some(text.as_bytes()),
            _ => None,
        });
        std::iter::once(self.head()).chain(atoms)
    }
}

impl Star {
    /// The last position that a star which begins at `at` can reach.
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
    /// The end of the chunk if it begins at `at`; `None` if it does not match there.
    fn end(&self, text: &str, at: usize) -> Option<usize> {
        self.atoms
            .iter()
            .try_fold(at, |at, atom| atom.end(text, at))
    }

    /// The end of the chunk at the leftmost position that a star from `at` on can reach.
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

    /// Whether the chunk ends the text from a position that a star from `at` on can reach.
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

    /// The end of the atom if it begins at `at`; `None` if it does not match there.
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

/// The length of the character that begins with this byte; 1 for a byte within a character.
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
