//! The automaton: it matches a whole pattern at once, braces included, in a time that is bounded.
//!
//! The segment matcher tries each expansion of the braces by itself, and tries a glob again
//! wherever a `**` permits it: that takes (bytes of the pattern) times (bytes of the topic) steps,
//! and with braces up to 64 times as many. The automaton reads the topic once, character by
//! character, and keeps the set of all states that it may be in as one bit each. A step is a few
//! operations for each 64 states, and [`WORDS_MAX`] words at most. Patterns that could be expensive
//! are matched with it, and the set operations search it.
//!
//! # How a pattern becomes states
//!
//! The topic is read as if a dot followed its last segment, too. There is a state before each part
//! of the pattern that reads one character: a character, `?`, a class, a dot. Reading it leads to
//! the next state, so all states advance with one shift. A `*` is a state that may remain as it is
//! at any character but a dot. A `**` is a state that may remain at any character. At the beginning
//! of a segment the `**` may also be *left* for the state behind the dot that follows it in the
//! pattern, because it has read that dot already, or has read nothing. Braces do not repeat what
//! surrounds them: the state before them *forks* to the beginnings of the alternatives, and the
//! ends of these *join* in the state behind.
//!
//! # Cost
//!
//! Memory: 8 bytes for each 64 states and each group of characters that the pattern distinguishes.
//! A pattern of 1024 bytes cannot have both many states and many such groups, so its automaton has
//! fewer bytes than [`AUTOMATON_BYTES_MAX`].
//!
//! # Sources of the ideas
//!
//! Bit-parallel simulation of an automaton is from Baeza-Yates and Gonnet, "A New Approach to Text
//! Searching" (1992). Stars as states that remain, and empty transitions in the order of the
//! states, are from Navarro and Raffinot, "Flexible Pattern Matching in Strings" (2002), chapter 4.

use std::collections::HashMap;
use std::sync::Arc;

use super::class::Class;
use super::glob::Atom;
use super::parse::{Part, Placed, Token};
use super::route::{Guard, Route, Segment};

/// How many words the states of the longest pattern need, 64 states to a word.
///
/// Each state stands for at least one byte of the pattern's text, except for the first, the last,
/// and one for each `Any` that was moved before a `Many`: that is 1024 states and few more.
pub(super) const WORDS_MAX: usize = 17;

/// The size of the largest automaton, in bytes.
pub(super) const AUTOMATON_BYTES_MAX: usize = 64 * 1024;

/// A set of states: state s is bit s % 64 of word s / 64.
pub(super) type StateSet = [u64; WORDS_MAX];

/// A pattern as an automaton over characters.
#[derive(Debug)]
pub(super) struct Automaton {
    /// How many words are in use: 1 to [`WORDS_MAX`].
    words: usize,
    alphabet: Alphabet,
    /// The states that read a character, in a row of `words` words for each row of the alphabet.
    readers: Box<[u64]>,
    /// The states that remain at any character but a dot.
    stars: Box<[u64]>,
    /// The states that remain at a dot, too, and may be left at the beginning of a segment.
    double_stars: Box<[u64]>,
    /// The transitions that read no character, in the order of their states.
    epsilons: Box<[Epsilon]>,
    /// The states at the beginning of the topic.
    start: StateSet,
    /// The state that a matching topic, with a dot behind it, leads to.
    accept: usize,
    guard: Guard,
}

/// Transitions that read no character.
#[derive(Debug)]
enum Epsilon {
    /// Each `**` in these words, first to last, may be left for the next state.
    Leave(usize, usize),
    /// From one state to several.
    Fork(usize, Sparse),
    /// From several states to one.
    Join(Sparse, usize),
}

/// The words of a set that are not zero, each with its index.
type Sparse = Box<[(usize, u64)]>;

impl Automaton {
    /// The automaton of one route without a tail.
    pub(super) fn of_route(route: &Route) -> Self {
        debug_assert!(route.tail().is_none(), "a tail has a matcher of its own");
        let is_void =
            |segment: &Segment| matches!(segment, Segment::Literal(text) if !is_segment(text));
        let mut builder = Builder::new(route.guard());
        if route.segments().iter().any(is_void) {
            // The accepting state is one that nothing leads to.
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
        debug_assert!(
            (1..=WORDS_MAX).contains(&self.words),
            "{} words",
            self.words
        );
        let mut states = self.start;
        for c in topic.chars() {
            self.step(&mut states, c);
            if states[..self.words].iter().all(|&word| word == 0) {
                return false;
            }
        }
        self.step(&mut states, '.');
        self.accepts(&states)
    }

    /// The states at the beginning of a topic.
    pub(super) fn start(&self) -> &StateSet {
        &self.start
    }

    /// The condition on the topic as a whole.
    pub(super) fn guard(&self) -> Guard {
        self.guard
    }

    /// How many states there are at most.
    pub(super) fn states_max(&self) -> usize {
        self.words * 64
    }

    /// Whether a topic matches that leads to these states.
    pub(super) fn accepts(&self, states: &StateSet) -> bool {
        contains(states, self.accept)
    }

    /// The states from which everything is accepted that may follow.
    pub(super) fn universal(&self) -> StateSet {
        let mut universal = [0; WORDS_MAX];
        for state in (0..self.states_max()).filter(|&state| contains(&self.double_stars, state)) {
            let mut alone = [0; WORDS_MAX];
            insert(&mut alone, state);
            self.follow_epsilons(&mut alone, true);
            if self.accepts(&alone) {
                insert(&mut universal, state);
            }
        }
        universal
    }

    /// The first character of each group that the pattern does not distinguish, in order.
    pub(super) fn boundaries(&self) -> &[u32] {
        &self.alphabet.starts
    }

    /// Reads one character: replaces the states by those that they lead to.
    #[inline]
    pub(super) fn step(&self, states: &mut StateSet, c: char) {
        let row = self.alphabet.row(c) * self.words;
        let readers = &self.readers[row..][..self.words];
        let remaining = if c == '.' {
            &self.double_stars
        } else {
            &self.stars
        };
        let mut carry = 0;
        for ((word, readers), remaining) in states.iter_mut().zip(readers).zip(&**remaining) {
            let advancing = *word & readers;
            *word = (advancing << 1) | carry | (*word & remaining);
            carry = advancing >> 63;
        }
        if !self.epsilons.is_empty() {
            self.follow_epsilons(states, c == '.');
        }
    }

    fn follow_epsilons(&self, states: &mut StateSet, at_segment: bool) {
        for epsilon in &self.epsilons {
            match epsilon {
                Epsilon::Leave(first, last) if at_segment => {
                    let mut carry = 0;
                    for (word, many) in states
                        .iter_mut()
                        .zip(&self.double_stars)
                        .take(last + 1)
                        .skip(*first)
                    {
                        let left = *word & many;
                        *word |= (left << 1) | carry;
                        carry = left >> 63;
                    }
                    // The last state of the last word may be left for the first of the next word.
                    if let Some(next) = states.get_mut(last + 1) {
                        *next |= carry;
                    }
                }
                Epsilon::Leave(..) => {}
                Epsilon::Fork(from, to) => {
                    if contains(states, *from) {
                        to.iter().for_each(|&(word, mask)| states[word] |= mask);
                    }
                }
                Epsilon::Join(from, to) => {
                    if from.iter().any(|&(word, mask)| states[word] & mask != 0) {
                        insert(states, *to);
                    }
                }
            }
        }
    }

    /// The size in bytes.
    pub(super) fn bytes(&self) -> usize {
        let sparse = |epsilon: &Epsilon| match epsilon {
            Epsilon::Leave(..) => 0,
            Epsilon::Fork(_, set) | Epsilon::Join(set, _) => size_of_val(&**set),
        };
        size_of::<Self>()
            + size_of_val(&*self.readers)
            + size_of_val(&*self.stars)
            + size_of_val(&*self.double_stars)
            + size_of_val(&*self.epsilons)
            + self.epsilons.iter().map(sparse).sum::<usize>()
            + size_of_val(&*self.alphabet.starts)
            + size_of_val(&*self.alphabet.rows)
    }
}

/// Whether the set contains the state.
pub(super) fn contains(states: &[u64], state: usize) -> bool {
    states[state / 64] >> (state % 64) & 1 == 1
}

/// Adds a state to a set.
pub(super) fn insert(states: &mut [u64], state: usize) {
    states[state / 64] |= 1 << (state % 64);
}

/// Whether a topic can have this segment.
fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c == '.' || c.is_control())
}

/// The groups of characters that a pattern distinguishes. Each has a row of the states that read
/// its characters; groups that are read by the same states share a row.
#[derive(Debug)]
struct Alphabet {
    /// The row of each ASCII character.
    ascii: [u16; 128],
    /// The first scalar value of each group, ascending; the first is 0.
    starts: Box<[u32]>,
    /// The row of each group.
    rows: Box<[u16]>,
}

impl Alphabet {
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

/// What a state reads before it leads to the next.
#[derive(Clone)]
enum Input {
    Nothing,
    Char(char),
    One,
    Class(Arc<Class>),
    Dot,
}

impl Input {
    /// Whether it accepts `c`, which must not be a dot.
    fn accepts(&self, c: char) -> bool {
        debug_assert_ne!(c, '.');
        match self {
            Input::Nothing | Input::Dot => false,
            Input::Char(own) => *own == c,
            Input::One => true,
            Input::Class(class) => class.matches(c),
        }
    }
}

/// Makes the states from left to right.
struct Builder {
    /// What each state reads.
    inputs: Vec<Input>,
    stars: Vec<usize>,
    double_stars: Vec<usize>,
    epsilons: Vec<EpsilonDraft>,
    /// The state that the text so far leads to, which is the newest; `None` right behind a `**`.
    here: Option<usize>,
    /// The states right behind a `**`, which have to skip the dot that comes next.
    skip_dot: Vec<usize>,
    /// The state behind a `**` and its dot, if that is the newest state.
    double_star_end: Option<usize>,
    guard: Guard,
}

/// An [`Epsilon`] whose states are not yet in words.
enum EpsilonDraft {
    Leave(usize, usize),
    Fork(usize, Vec<usize>),
    Join(Vec<usize>, usize),
}

impl Builder {
    fn new(guard: Guard) -> Self {
        Builder {
            inputs: vec![Input::Nothing],
            stars: Vec::new(),
            double_stars: Vec::new(),
            epsilons: Vec::new(),
            here: Some(0),
            skip_dot: Vec::new(),
            double_star_end: None,
            guard,
        }
    }

    fn segment(&mut self, segment: &Segment) {
        match segment {
            Segment::Literal(text) => self.text(text),
            Segment::Any => {
                self.read(Input::One);
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
            Atom::One => self.read(Input::One),
            Atom::Class(class) => self.read(Input::Class(Arc::clone(class))),
        }
    }

    fn text(&mut self, text: &str) {
        text.chars().for_each(|c| self.read(Input::Char(c)));
    }

    fn token(&mut self, placed: &Placed) {
        match &placed.token {
            Token::Text(text) => self.text(text),
            Token::One => self.read(Input::One),
            Token::Star => self.star(),
            Token::DoubleStar => self.double_star(),
            Token::Class(class) => self.read(Input::Class(Arc::clone(class))),
            Token::Dot => self.dot(),
        }
    }

    fn braces<'a>(&mut self, alternatives: impl Iterator<Item = &'a [Placed<'a>]>) {
        let fork = self.here.map(|open| {
            self.epsilons.push(EpsilonDraft::Fork(open, Vec::new()));
            self.epsilons.len() - 1
        });
        let skip = std::mem::take(&mut self.skip_dot);
        let (mut begins, mut ends, mut still_skip) = (Vec::new(), Vec::new(), Vec::new());
        for tokens in alternatives {
            let begin = self.push();
            begins.push(begin);
            self.here = Some(begin);
            self.skip_dot.clone_from(&skip);
            tokens.iter().for_each(|placed| self.token(placed));
            ends.extend(self.here);
            still_skip.append(&mut self.skip_dot);
        }
        if let Some(fork) = fork {
            let EpsilonDraft::Fork(_, to) = &mut self.epsilons[fork] else {
                unreachable!("it was put there above")
            };
            *to = begins;
        }
        still_skip.sort_unstable();
        still_skip.dedup();
        self.skip_dot = still_skip;
        let close = self.push();
        self.epsilons.push(EpsilonDraft::Join(ends, close));
        self.here = Some(close);
    }

    /// Appends a part that reads one character.
    fn read(&mut self, input: Input) {
        let here = self.here.expect("nothing but a dot stands behind a `**`");
        debug_assert_eq!(here + 1, self.inputs.len(), "the newest state leads on");
        self.inputs[here] = input;
        self.here = Some(self.push());
    }

    fn star(&mut self) {
        self.stars
            .push(self.here.expect("nothing but a dot stands behind a `**`"));
    }

    fn double_star(&mut self) {
        let here = self.here.take().expect("a dot stands before a `**`");
        if self.double_star_end == Some(here) {
            // Two `**` in a row are one.
            self.skip_dot = vec![here];
            return;
        }
        self.stars.push(here);
        self.double_stars.push(here);
        let behind = self.push();
        self.skip_dot = vec![behind];
        match self.epsilons.last_mut() {
            Some(EpsilonDraft::Leave(_, last)) => *last = here,
            _ => self.epsilons.push(EpsilonDraft::Leave(here, here)),
        }
    }

    fn dot(&mut self) {
        let skip = std::mem::take(&mut self.skip_dot);
        match (self.here, &*skip) {
            (Some(_), []) => self.read(Input::Dot),
            (None, &[behind]) if behind + 1 == self.inputs.len() => {
                self.here = Some(behind);
                self.double_star_end = Some(behind);
            }
            (here, _) => {
                match here {
                    Some(_) => self.read(Input::Dot),
                    None => self.here = Some(self.push()),
                }
                let here = self.here.expect("set above");
                self.epsilons.push(EpsilonDraft::Join(skip, here));
            }
        }
    }

    /// Appends a state.
    fn push(&mut self) -> usize {
        self.inputs.push(Input::Nothing);
        self.inputs.len() - 1
    }

    fn finish(self) -> Automaton {
        let words = self.inputs.len().div_ceil(64);
        assert!(words <= WORDS_MAX, "{} states", self.inputs.len());
        let (alphabet, readers) = self.tables(words);
        let set = |states: &[usize]| {
            let mut words = vec![0; words];
            states.iter().for_each(|&state| insert(&mut words, state));
            words
        };
        let sparse = |states: &[usize]| {
            let words = set(states).into_iter().enumerate();
            words.filter(|&(_, mask)| mask != 0).collect()
        };
        let epsilons = self.epsilons.iter().map(|draft| match draft {
            EpsilonDraft::Leave(first, last) => Epsilon::Leave(first / 64, last / 64),
            EpsilonDraft::Fork(from, to) => Epsilon::Fork(*from, sparse(to)),
            EpsilonDraft::Join(from, to) => Epsilon::Join(sparse(from), *to),
        });
        let mut automaton = Automaton {
            words,
            alphabet,
            readers,
            stars: set(&self.stars).into(),
            double_stars: set(&self.double_stars).into(),
            epsilons: epsilons.collect(),
            start: [0; WORDS_MAX],
            accept: self.inputs.len() - 1,
            guard: self.guard,
        };
        let mut start = [0; WORDS_MAX];
        insert(&mut start, 0);
        automaton.follow_epsilons(&mut start, true);
        automaton.start = start;
        debug_assert!(
            automaton.bytes() <= AUTOMATON_BYTES_MAX,
            "{} bytes",
            automaton.bytes()
        );
        automaton
    }

    /// The groups of characters, and for each row the states that read its characters.
    fn tables(&self, words: usize) -> (Alphabet, Box<[u64]>) {
        let starts = self.starts();
        let mut known: HashMap<Vec<u64>, u16> = HashMap::new();
        let mut readers = Vec::new();
        let mut rows = Vec::with_capacity(starts.len());
        for &start in &starts {
            let c = char::from_u32(start).expect("a group begins with a scalar value");
            let mut row = vec![0; words];
            for (state, input) in self.inputs.iter().enumerate() {
                let accepts = match c {
                    '.' => matches!(input, Input::Dot),
                    _ => input.accepts(c),
                };
                if accepts {
                    insert(&mut row, state);
                }
            }
            let next = u16::try_from(known.len()).expect("fewer rows than characters in a pattern");
            rows.push(*known.entry(row).or_insert_with_key(|row| {
                readers.extend_from_slice(row);
                next
            }));
        }
        let row = |c: usize| rows[starts.partition_point(|&start| start as usize <= c) - 1];
        let alphabet = Alphabet {
            ascii: std::array::from_fn(row),
            starts: starts.into(),
            rows: rows.into(),
        };
        (alphabet, readers.into())
    }

    /// The scalar values with which the groups of characters begin.
    fn starts(&self) -> Vec<u32> {
        let mut starts = vec![0];
        let mut cut = |first: char, last: char| starts.extend([first as u32, last as u32 + 1]);
        cut('.', '.');
        if self.guard == Guard::NoDollar {
            cut('$', '$');
        }
        for input in &self.inputs {
            match input {
                Input::Char(c) => cut(*c, *c),
                Input::Class(class) => class.ranges().iter().for_each(|&(a, b)| cut(a, b)),
                Input::Nothing | Input::One | Input::Dot => {}
            }
        }
        for start in &mut starts {
            // Surrogates are no scalar values.
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
    use super::*;
    use crate::pattern::fuzzing::EveryMatcher;
    use crate::pattern::match_plan::automaton;
    use crate::pattern::{PATTERN_BYTES_MAX, Pattern, Topic};

    fn compiled(text: &str) -> Automaton {
        let pattern = Pattern::parse(text).unwrap_or_else(|error| panic!("{error}"));
        automaton(text, pattern.routes()).expect("no tail")
    }

    /// Patterns with as many states, or as many groups of characters, as fit in a pattern.
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

    /// Transitions that read no character, several in a row, across the bounds of the words.
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
                let every_matcher = EveryMatcher::new(&pattern);
                let topics = ends.map(|end| Topic::new(format!("{head}{end}")).unwrap());
                let found = topics.iter().filter(|topic| every_matcher.matches(topic));
                assert_eq!(found.count(), matched, "{tail}");
            }
        }
    }
}
