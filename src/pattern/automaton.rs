//! The automaton: a whole pattern at once, braces and all, with a bound that no pattern escapes.
//!
//! The segment matcher takes each expansion of the braces by itself, and tries a glob again
//! wherever a `**` lets it: (bytes of the pattern) times (bytes of the topic), 64 times over at the
//! worst. The automaton reads the topic once, character by character, and keeps the set of all places
//! of the pattern that it may have come to as one bit each: a step is a few operations per 64 places,
//! [`WORDS_MAX`] words at most. It is what expensive patterns are matched with, and what the set
//! operations search.
//!
//! # How a pattern becomes places
//!
//! The topic is read as if a dot followed its last segment, too. A place stands before each thing
//! that takes one character: a character, `?`, a class, a dot. Taking it leads to the next place, so
//! that all places move with one shift. A `*` is a place that may stay where it is at anything but a
//! dot. A `**` stays at anything; at the beginning of a segment it may also be *left*, for the place
//! behind the dot that follows it in the pattern, because it has taken that dot already, or has
//! taken nothing. Braces do not repeat what stands around them: the place before them *forks* to
//! the beginnings of the alternatives, and their ends *join* at the place behind.
//!
//! # Cost
//!
//! Memory: 8 bytes for each 64 places and each character that the pattern tells from the others; a
//! pattern of 1024 bytes cannot have both many places and many such characters, and stays below
//! [`AUTOMATON_BYTES_MAX`].
//!
//! # Sources of the ideas
//!
//! Bit-parallel simulation of an automaton is from Baeza-Yates and Gonnet, "A New Approach to Text
//! Searching" (1992); stars as places that stay, and empty steps in the order of the places, from
//! Navarro and Raffinot, "Flexible Pattern Matching in Strings" (2002), chapter 4.

use std::collections::HashMap;
use std::sync::Arc;

use super::class::Class;
use super::glob::Atom;
use super::parse::{Part, Placed, Token};
use super::route::{Guard, Route, Segment};

/// How many words the places of the longest pattern take, 64 to a word.
///
/// A place takes at least one byte of the pattern's text, but for the first and the last and those
/// that an `Any` before a `Many` takes more: 1024 and few.
pub(super) const WORDS_MAX: usize = 17;

/// The most that an automaton takes, in bytes.
pub(super) const AUTOMATON_BYTES_MAX: usize = 64 * 1024;

/// A set of places: the place p is the bit p % 64 of the word p / 64.
pub(super) type Places = [u64; WORDS_MAX];

/// A pattern as an automaton over characters.
#[derive(Debug)]
pub(super) struct Automaton {
    /// How many words are in use: 1 to [`WORDS_MAX`].
    words: usize,
    classes: Classes,
    /// For each kind of character, the places that take it: rows of `words` words.
    takes: Box<[u64]>,
    /// The places that stay at anything but a dot.
    stars: Box<[u64]>,
    /// The places that stay at a dot, too, and may be left at the beginning of a segment.
    manys: Box<[u64]>,
    /// The steps that take no character, in the order of their places.
    moves: Box<[Move]>,
    /// The places at the beginning of the topic.
    start: Places,
    /// Where a topic that matches leads to, with the dot behind it.
    accept: usize,
    guard: Guard,
}

/// Steps that take no character.
#[derive(Debug)]
enum Move {
    /// Each `**` in these words, first to last, may be left for the next place.
    Leave(usize, usize),
    /// From one place to several.
    Fork(usize, Sparse),
    /// From several places to one.
    Join(Sparse, usize),
}

/// The words of a set that are not zero.
type Sparse = Box<[(usize, u64)]>;

impl Automaton {
    /// The automaton of one route without a tail.
    pub(super) fn of_route(route: &Route) -> Self {
        debug_assert!(route.tail().is_none(), "a tail has matchers of its own");
        let is_void =
            |segment: &Segment| matches!(segment, Segment::Literal(text) if !is_segment(text));
        let mut builder = Builder::new(route.guard());
        if route.segments().iter().any(is_void) {
            // A place that is never reached is all that is left of it.
            builder.push();
            return builder.finish();
        }
        for (at, segment) in route.segments().iter().enumerate() {
            if at > 0 {
                builder.dot();
            }
            builder.segment(segment);
        }
        builder.dot();
        builder.finish()
    }

    /// The automaton of a pattern of the native language.
    pub(super) fn of_parts(parts: &[Part<'_>]) -> Self {
        let mut builder = Builder::new(Guard::Open);
        for part in parts {
            match part {
                Part::Token(placed) => builder.token(placed),
                Part::Braces(alternatives) => {
                    builder.braces(alternatives.iter().map(|alternative| &*alternative.tokens));
                }
            }
        }
        builder.dot();
        builder.finish()
    }

    /// Whether the whole `topic` matches.
    pub(super) fn matches(&self, topic: &str) -> bool {
        if !self.guard.admits(topic) {
            return false;
        }
        let mut places = self.start;
        for c in topic.chars() {
            self.step(&mut places, c);
            if places[..self.words].iter().all(|&word| word == 0) {
                return false;
            }
        }
        self.step(&mut places, '.');
        self.accepts(&places)
    }

    /// The places at the beginning of a topic.
    pub(super) fn start(&self) -> &Places {
        &self.start
    }

    /// What the topic must not begin with.
    pub(super) fn guard(&self) -> Guard {
        self.guard
    }

    /// How many places there are at most.
    pub(super) fn places_max(&self) -> usize {
        self.words * 64
    }

    /// Whether a topic that led here is matched.
    pub(super) fn accepts(&self, places: &Places) -> bool {
        contains(places, self.accept)
    }

    /// The places that whatever follows is accepted from.
    pub(super) fn universal(&self) -> Places {
        let mut universal = [0; WORDS_MAX];
        for place in (0..self.places_max()).filter(|&place| contains(&self.manys, place)) {
            let mut alone = [0; WORDS_MAX];
            insert(&mut alone, place);
            self.follow_moves(&mut alone, true);
            if self.accepts(&alone) {
                insert(&mut universal, place);
            }
        }
        universal
    }

    /// The first character of each kind that the pattern does not tell apart, in order.
    pub(super) fn boundaries(&self) -> &[u32] {
        &self.classes.starts
    }

    /// Takes one character, wherever a pattern can.
    #[inline]
    pub(super) fn step(&self, places: &mut Places, c: char) {
        let row = self.classes.row(c) * self.words;
        let takes = &self.takes[row..][..self.words];
        let stays = if c == '.' { &self.manys } else { &self.stars };
        let mut carry = 0;
        for ((word, take), stay) in places.iter_mut().zip(takes).zip(&**stays) {
            let taken = *word & take;
            *word = (taken << 1) | carry | (*word & stay);
            carry = taken >> 63;
        }
        if !self.moves.is_empty() {
            self.follow_moves(places, c == '.');
        }
    }

    fn follow_moves(&self, places: &mut Places, at_segment: bool) {
        for step in &self.moves {
            match step {
                Move::Leave(first, last) if at_segment => {
                    let mut carry = 0;
                    for (word, many) in places
                        .iter_mut()
                        .zip(&self.manys)
                        .take(last + 1)
                        .skip(*first)
                    {
                        let left = *word & many;
                        *word |= (left << 1) | carry;
                        carry = left >> 63;
                    }
                    // The last place of the last word is left for the next word.
                    if let Some(next) = places.get_mut(last + 1) {
                        *next |= carry;
                    }
                }
                Move::Leave(..) => {}
                Move::Fork(from, to) => {
                    if contains(places, *from) {
                        to.iter().for_each(|&(word, mask)| places[word] |= mask);
                    }
                }
                Move::Join(from, to) => {
                    if from.iter().any(|&(word, mask)| places[word] & mask != 0) {
                        insert(places, *to);
                    }
                }
            }
        }
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let sparse = |step: &Move| match step {
            Move::Leave(..) => 0,
            Move::Fork(_, set) | Move::Join(set, _) => size_of_val(&**set),
        };
        size_of::<Self>()
            + size_of_val(&*self.takes)
            + size_of_val(&*self.stars)
            + size_of_val(&*self.manys)
            + size_of_val(&*self.moves)
            + self.moves.iter().map(sparse).sum::<usize>()
            + size_of_val(&*self.classes.starts)
            + size_of_val(&*self.classes.rows)
    }
}

/// Whether the set has the place.
pub(super) fn contains(places: &[u64], place: usize) -> bool {
    places[place / 64] >> (place % 64) & 1 == 1
}

/// Adds a place to a set.
pub(super) fn insert(places: &mut [u64], place: usize) {
    places[place / 64] |= 1 << (place % 64);
}

/// Whether a topic can have this segment.
fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c == '.' || c.is_control())
}

/// The kinds of characters that a pattern tells apart.
#[derive(Debug)]
struct Classes {
    /// The row of each ASCII character.
    ascii: [u16; 128],
    /// Where each kind begins, as a scalar value, ascending; the first is 0.
    starts: Box<[u32]>,
    /// The row of each kind.
    rows: Box<[u16]>,
}

impl Classes {
    #[inline]
    fn row(&self, c: char) -> usize {
        match self.ascii.get(c as usize) {
            Some(&row) => usize::from(row),
            None => {
                let behind = self.starts.partition_point(|&start| start <= c as u32);
                usize::from(self.rows[behind - 1])
            }
        }
    }
}

/// What a place takes to lead to the next.
#[derive(Clone)]
enum Take {
    Nothing,
    Char(char),
    One,
    Class(Arc<Class>),
    Dot,
}

impl Take {
    /// Whether it takes `c`, which is no dot.
    fn takes(&self, c: char) -> bool {
        match self {
            Take::Nothing | Take::Dot => false,
            Take::Char(own) => *own == c,
            Take::One => true,
            Take::Class(class) => class.matches(c),
        }
    }
}

/// Makes places from left to right.
struct Builder {
    /// What each place takes.
    takes: Vec<Take>,
    stars: Vec<usize>,
    manys: Vec<usize>,
    moves: Vec<Draft>,
    /// Where the text so far leads to: the newest place; `None` right behind a `**`.
    here: Option<usize>,
    /// Places behind a `**`, which have to skip the dot that comes next.
    behind_many: Vec<usize>,
    /// The place behind a `**` and its dot, if that is the newest.
    after_many: Option<usize>,
    guard: Guard,
}

/// A [`Move`] with its places not yet in words.
enum Draft {
    Leave(usize, usize),
    Fork(usize, Vec<usize>),
    Join(Vec<usize>, usize),
}

impl Builder {
    fn new(guard: Guard) -> Self {
        Builder {
            takes: vec![Take::Nothing],
            stars: Vec::new(),
            manys: Vec::new(),
            moves: Vec::new(),
            here: Some(0),
            behind_many: Vec::new(),
            after_many: None,
            guard,
        }
    }

    fn segment(&mut self, segment: &Segment) {
        match segment {
            Segment::Literal(text) => self.text(text),
            Segment::Any => {
                self.take(Take::One);
                self.star();
            }
            Segment::Many => self.double_star(),
            Segment::Glob(glob) => {
                for (at, piece) in std::iter::once(&glob.head).chain(&glob.rest).enumerate() {
                    if at > 0 {
                        self.star();
                    }
                    piece.iter().for_each(|atom| self.atom(atom));
                }
            }
        }
    }

    fn atom(&mut self, atom: &Atom) {
        match atom {
            Atom::Text(text) => self.text(text),
            Atom::One => self.take(Take::One),
            Atom::Class(class) => self.take(Take::Class(Arc::clone(class))),
        }
    }

    fn text(&mut self, text: &str) {
        text.chars().for_each(|c| self.take(Take::Char(c)));
    }

    fn token(&mut self, placed: &Placed) {
        match &placed.token {
            Token::Text(text) => self.text(text),
            Token::One => self.take(Take::One),
            Token::Star => self.star(),
            Token::DoubleStar => self.double_star(),
            Token::Class(class) => self.take(Take::Class(Arc::clone(class))),
            Token::Dot => self.dot(),
        }
    }

    fn braces<'a>(&mut self, alternatives: impl Iterator<Item = &'a [Placed<'a>]>) {
        let fork = self.here.map(|open| {
            self.moves.push(Draft::Fork(open, Vec::new()));
            self.moves.len() - 1
        });
        let skipping = std::mem::take(&mut self.behind_many);
        let (mut begins, mut ends, mut still_skipping) = (Vec::new(), Vec::new(), Vec::new());
        for tokens in alternatives {
            let begin = self.push();
            begins.push(begin);
            self.here = Some(begin);
            self.behind_many.clone_from(&skipping);
            tokens.iter().for_each(|placed| self.token(placed));
            ends.extend(self.here);
            still_skipping.append(&mut self.behind_many);
        }
        if let Some(fork) = fork {
            let Draft::Fork(_, to) = &mut self.moves[fork] else {
                unreachable!("it was put there above")
            };
            *to = begins;
        }
        still_skipping.sort_unstable();
        still_skipping.dedup();
        self.behind_many = still_skipping;
        let close = self.push();
        self.moves.push(Draft::Join(ends, close));
        self.here = Some(close);
    }

    /// One character more.
    fn take(&mut self, take: Take) {
        let here = self.here.expect("nothing but a dot stands behind a `**`");
        debug_assert_eq!(here + 1, self.takes.len(), "only the newest place leads on");
        self.takes[here] = take;
        self.here = Some(self.push());
    }

    fn star(&mut self) {
        self.stars
            .push(self.here.expect("nothing but a dot stands behind a `**`"));
    }

    fn double_star(&mut self) {
        let here = self.here.take().expect("a dot stands before a `**`");
        if self.after_many == Some(here) {
            // Two in a row are one.
            self.behind_many = vec![here];
            return;
        }
        self.stars.push(here);
        self.manys.push(here);
        let behind = self.push();
        self.behind_many = vec![behind];
        match self.moves.last_mut() {
            Some(Draft::Leave(_, last)) => *last = here,
            _ => self.moves.push(Draft::Leave(here, here)),
        }
    }

    fn dot(&mut self) {
        let skipping = std::mem::take(&mut self.behind_many);
        match (self.here, &*skipping) {
            (Some(_), []) => self.take(Take::Dot),
            (None, &[behind]) if behind + 1 == self.takes.len() => {
                self.here = Some(behind);
                self.after_many = Some(behind);
            }
            (here, _) => {
                match here {
                    Some(_) => self.take(Take::Dot),
                    None => self.here = Some(self.push()),
                }
                let here = self.here.expect("set above");
                self.moves.push(Draft::Join(skipping, here));
            }
        }
    }

    /// A new place.
    fn push(&mut self) -> usize {
        self.takes.push(Take::Nothing);
        self.takes.len() - 1
    }

    fn finish(self) -> Automaton {
        let words = self.takes.len().div_ceil(64);
        assert!(words <= WORDS_MAX, "{} places", self.takes.len());
        let (classes, takes) = self.tables(words);
        let set = |places: &[usize]| {
            let mut words = vec![0; words];
            places.iter().for_each(|&place| insert(&mut words, place));
            words
        };
        let sparse = |places: &[usize]| {
            let words = set(places).into_iter().enumerate();
            words.filter(|&(_, mask)| mask != 0).collect()
        };
        let moves = self.moves.iter().map(|draft| match draft {
            Draft::Leave(first, last) => Move::Leave(first / 64, last / 64),
            Draft::Fork(from, to) => Move::Fork(*from, sparse(to)),
            Draft::Join(from, to) => Move::Join(sparse(from), *to),
        });
        let mut automaton = Automaton {
            words,
            classes,
            takes,
            stars: set(&self.stars).into(),
            manys: set(&self.manys).into(),
            moves: moves.collect(),
            start: [0; WORDS_MAX],
            accept: self.takes.len() - 1,
            guard: self.guard,
        };
        let mut start = [0; WORDS_MAX];
        insert(&mut start, 0);
        automaton.follow_moves(&mut start, true);
        automaton.start = start;
        debug_assert!(
            automaton.bytes() <= AUTOMATON_BYTES_MAX,
            "{} bytes",
            automaton.bytes()
        );
        automaton
    }

    /// The kinds of characters, and for each what is taken by which places.
    fn tables(&self, words: usize) -> (Classes, Box<[u64]>) {
        let starts = self.starts();
        let mut known: HashMap<Vec<u64>, u16> = HashMap::new();
        let mut takes = Vec::new();
        let mut rows = Vec::with_capacity(starts.len());
        for &start in &starts {
            let c = char::from_u32(start).expect("a kind begins with a scalar value");
            let mut row = vec![0; words];
            for (place, take) in self.takes.iter().enumerate() {
                let takes = if c == '.' {
                    matches!(take, Take::Dot)
                } else {
                    take.takes(c)
                };
                if takes {
                    insert(&mut row, place);
                }
            }
            let next = u16::try_from(known.len()).expect("fewer rows than characters in a pattern");
            rows.push(*known.entry(row).or_insert_with_key(|row| {
                takes.extend_from_slice(row);
                next
            }));
        }
        let row = |c: usize| rows[starts.partition_point(|&start| start as usize <= c) - 1];
        let classes = Classes {
            ascii: std::array::from_fn(row),
            starts: starts.into(),
            rows: rows.into(),
        };
        (classes, takes.into())
    }

    /// Where the kinds of characters begin.
    fn starts(&self) -> Vec<u32> {
        let mut starts = vec![0];
        let mut cut = |first: char, last: char| starts.extend([first as u32, last as u32 + 1]);
        cut('.', '.');
        if self.guard == Guard::NoDollar {
            cut('$', '$');
        }
        for take in &self.takes {
            match take {
                Take::Char(c) => cut(*c, *c),
                Take::Class(class) => class.ranges().iter().for_each(|&(a, b)| cut(a, b)),
                Take::Nothing | Take::One | Take::Dot => {}
            }
        }
        for start in &mut starts {
            // What follows the last scalar value before the surrogates.
            if *start == 0xD800 {
                *start = 0xE000;
            }
        }
        starts.retain(|&start| start <= char::MAX as u32);
        starts.sort_unstable();
        starts.dedup();
        starts
    }
}

#[cfg(test)]
mod tests {
    use crate::pattern::plan::{EveryWay, automaton};
    use crate::pattern::{PATTERN_BYTES_MAX, Pattern, Topic};

    use super::*;

    fn compiled(text: &str) -> Automaton {
        let pattern = Pattern::parse(text).unwrap_or_else(|error| panic!("{error}"));
        automaton(text, pattern.routes()).expect("no tail")
    }

    /// The most places, and the most kinds of characters, that fit in a pattern.
    #[test]
    fn size_at_the_bound() {
        let distinct: Vec<char> = ('\u{100}'..).step_by(2).take(511).collect();
        let one: String = distinct.iter().collect();
        let ranges: String = distinct
            .iter()
            .map(|c| format!("[{c}a]"))
            .take(204)
            .collect();
        let pairs = |c: char| c.to_string() + ".**.";
        let starred: String = distinct
            .iter()
            .copied()
            .map(pairs)
            .take(170)
            .collect::<String>()
            + "a";
        let ascii: String = ('0'..='9')
            .chain('A'..='Z')
            .chain('a'..='z')
            .cycle()
            .take(1024)
            .collect();
        for text in [
            "a".repeat(PATTERN_BYTES_MAX),
            "a.".repeat(511) + "ab",
            "**.a.".repeat(204) + "ab.c",
            "{a,b}".repeat(6) + &"a".repeat(994),
            format!("{{{}}}", ["a.**.b.c.d.efg"; 64].join(",")),
            ascii,
            one,
            ranges,
            starred,
        ] {
            assert!(
                text.len() <= PATTERN_BYTES_MAX && text.len() > 900,
                "{}",
                text.len()
            );
            let automaton = compiled(&text);
            let bytes = automaton.bytes();
            assert!(bytes <= AUTOMATON_BYTES_MAX, "{bytes} bytes: {text}");
        }
        let topic = Topic::new("*".repeat(1024)).unwrap();
        let exact = Pattern::exact(&topic);
        assert_eq!(exact.as_str().len(), 2048);
        assert!(
            automaton(exact.as_str(), exact.routes())
                .unwrap()
                .matches(topic.as_str())
        );
    }

    /// Moves that take no character, one behind the other, at every place relative to the words.
    #[test]
    fn braces_and_double_stars_across_words() {
        let ends = [
            "", "a", "b", "ab", "abc", ".d", "a.d", "b.d", "abc.d", "ca.d", ".a.d", ".b.d", ".x.d",
            ".a.x.b.d", ".a.x",
        ];
        for pad in 50..70 {
            let head = "x".repeat(pad);
            for (tail, matched) in [
                ("{,a}{,b}{,c}.d", 4),
                ("{a,b}.{**,a}.d", 2),
                (".{**,a}.**.{b,**}.d", 5),
                (".{**,a.**}{,}.d", 5),
            ] {
                let Ok(pattern) = Pattern::parse(&format!("{head}{tail}")) else {
                    panic!("{tail}")
                };
                let every_way = EveryWay::new(&pattern);
                let topics = ends.map(|end| Topic::new(format!("{head}{end}")).unwrap());
                let found = topics.iter().filter(|topic| every_way.matches(topic));
                assert_eq!(found.count(), matched, "{tail}");
            }
        }
    }
}
