//! Patterns as sets of topics: does one cover another, do two have a topic in common?
//!
//! Rights are such questions: whoever may read `orders.**` may subscribe to `orders.*.created`,
//! since the first covers the second; two owners of topics are in conflict if their patterns
//! intersect. The answers are exact, not estimates: they hold for all topics of any number of
//! segments and any length (the limit on the length of a topic is not looked at), and where an
//! answer would take too long, there is an error and no answer.
//!
//! # How it is found
//!
//! Both patterns become automata, and the characters are cut into the kinds that neither of them
//! tells apart, so that one character stands for its kind. Then a topic is searched for, shortest
//! first: one that both match, or one that `other` matches and `self` does not. To intersect, it is
//! enough to try pairs of one place here and one there. To cover, each place of `other` is paired
//! with *all* places that `self` may be at after the same text; of two such sets for the same place,
//! the smaller one misses whatever the larger one misses, so only the smallest are kept.
//!
//! # Cost
//!
//! Microseconds for patterns as they are written. Pairs of places are at most as many as the product
//! of the lengths; sets can be exponentially many ([`SET_STEPS_MAX`] has an example). Therefore the
//! bound.
//!
//! # Sources of the ideas
//!
//! De Wulf, Doyen, Henzinger and Raskin, "Antichains: A New Algorithm for Checking Universality of
//! Finite Automata" (2006), for keeping the smallest sets only.

use std::collections::HashMap;

use super::automaton::{Automaton, Places, WORDS_MAX, insert};
use super::excerpt::excerpt;
use super::route::Guard;
use super::{Pattern, Syntax, plan};

/// How many steps [`Pattern::covers`] and [`Pattern::intersects`] may take.
///
/// A step is one kind of character taken from one place of the other and the places of this one, or
/// one set kept, or eight sets compared.
///
/// ```
/// use fanout::Pattern;
/// use fanout::pattern::{SET_STEPS_MAX, TooComplex};
///
/// // Is there a text of a and b without two the same at a distance of 20? Whoever reads it from
/// // left to right has to remember 20 characters, and that is a million sets.
/// let gap = "?".repeat(19);
/// let same = Pattern::parse(&format!("{{*a{gap}a*,*b{gap}b*}}"))?;
/// let text = Pattern::parse(&"[ab]".repeat(40))?;
/// assert!(matches!(same.covers(&text), Err(TooComplex::Steps { .. })));
/// assert_eq!(same.intersects(&text), Ok(true));
/// assert_eq!(SET_STEPS_MAX, 131_072);
/// # Ok::<(), fanout::PatternError>(())
/// ```
pub const SET_STEPS_MAX: usize = 1 << 17;

/// Why it is not known whether a pattern covers or intersects another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TooComplex {
    /// The answer takes more than [`SET_STEPS_MAX`] steps.
    #[error(
        "patterns `{pattern}` and `{other}`: to compare them takes more than {SET_STEPS_MAX} steps"
    )]
    Steps {
        /// The pattern that was asked, shortened where it is long.
        pattern: Box<str>,
        /// The pattern that it was asked about, shortened where it is long.
        other: Box<str>,
    },
    /// One of the patterns is in a language whose wildcards cross dots, [`Syntax::Path`] or [`Syntax::Redis`]: these are not
    /// compared.
    #[error(
        "patterns `{pattern}` and `{other}`: only those whose wildcards keep within dots are compared"
    )]
    Unsupported {
        /// The pattern that was asked, shortened where it is long.
        pattern: Box<str>,
        /// The pattern that it was asked about, shortened where it is long.
        other: Box<str>,
    },
}

impl Pattern {
    /// Whether this pattern matches every topic that `other` matches.
    ///
    /// # Errors
    ///
    /// [`TooComplex`] if that takes too long to find out, or is not supported: see
    /// [`SET_STEPS_MAX`].
    ///
    /// ```
    /// use fanout::Pattern;
    ///
    /// let allowed = Pattern::parse("orders.{eu,us}.**")?;
    /// assert!(allowed.covers(&Pattern::parse("orders.eu.*.created")?)?);
    /// assert!(!allowed.covers(&Pattern::parse("orders.*.created")?)?);
    /// assert!(Pattern::parse("?*.**")?.covers(&Pattern::parse("**.?*")?)?); // all topics, both
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn covers(&self, other: &Pattern) -> Result<bool, TooComplex> {
        self.search(other, Goal::Uncovered)
            .map(|topic| topic.is_none())
    }

    /// Whether there is a topic that this pattern and `other` match.
    ///
    /// # Errors
    ///
    /// [`TooComplex`] if that takes too long to find out, or is not supported: see
    /// [`SET_STEPS_MAX`].
    ///
    /// ```
    /// use fanout::Pattern;
    ///
    /// let mine = Pattern::parse("orders.**.created")?;
    /// assert!(mine.intersects(&Pattern::parse("**.eu.*")?)?); // on orders.eu.created
    /// assert!(!mine.intersects(&Pattern::parse("**.[^c]*")?)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn intersects(&self, other: &Pattern) -> Result<bool, TooComplex> {
        self.search(other, Goal::Shared)
            .map(|topic| topic.is_some())
    }

    fn search(&self, other: &Pattern, goal: Goal) -> Result<Option<String>, TooComplex> {
        let shown = || (excerpt(self.as_str(), 0), excerpt(other.as_str(), 0));
        let (Some(here), Some(there)) = (automaton(self), automaton(other)) else {
            let (pattern, other) = shown();
            return Err(TooComplex::Unsupported { pattern, other });
        };
        find(&here, &there, goal).map_err(|OutOfSteps| {
            let (pattern, other) = shown();
            TooComplex::Steps { pattern, other }
        })
    }
}

/// The automaton of a pattern; `None` if its language has wildcards that cross dots, whether it uses one or not: so what is
/// supported can be told from the language alone.
fn automaton(pattern: &Pattern) -> Option<Automaton> {
    match pattern.syntax() {
        Syntax::Path | Syntax::Redis => None,
        Syntax::Segments | Syntax::Nats | Syntax::Amqp | Syntax::Mqtt => {
            plan::automaton(pattern.as_str(), pattern.routes())
        }
    }
}

/// Which topic is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// One that the other matches, and this one does not.
    Uncovered,
    /// One that both match.
    Shared,
}

/// [`SET_STEPS_MAX`] is reached.
#[derive(Debug)]
pub(super) struct OutOfSteps;

/// A shortest topic that reaches the goal, `None` if there is none; it may be longer than topics
/// are.
pub(super) fn find(
    here: &Automaton,
    there: &Automaton,
    goal: Goal,
) -> Result<Option<String>, OutOfSteps> {
    Search::new(here, there, goal).run()
}

/// A search over texts, shortest first.
struct Search<'a> {
    here: &'a Automaton,
    there: &'a Automaton,
    goal: Goal,
    /// One character of each kind that neither tells apart and a topic can have; the dot is one.
    kinds: Vec<char>,
    /// For each place there, the kinds that lead on from it, once they are known.
    ways: Vec<Option<Box<[char]>>>,
    /// Places here that match whatever follows.
    universal: Places,
    /// What was reached, in this order; those before `next` were left.
    nodes: Vec<Node>,
    /// Nodes that still matter, by place there, and whether a segment begins.
    kept: HashMap<(usize, bool), Kept>,
    steps: usize,
}

/// What a text leads to: one of the places there, and places here.
struct Node {
    there: usize,
    /// All places here if a topic is searched for that is not covered, else those that are new.
    here: Places,
    /// Whether a segment begins: the text is empty, or ends with a dot.
    at_segment: bool,
    /// The last character of the text, and the node before it; none for the empty text.
    from: Option<(usize, char)>,
    /// Whether another node makes this one needless.
    needless: bool,
}

/// What is known of a place there.
#[derive(Default)]
struct Kept {
    /// The nodes none of which has all the places here of another.
    smallest: Vec<usize>,
    /// All places here that were reached.
    union: Places,
}

impl<'a> Search<'a> {
    fn new(here: &'a Automaton, there: &'a Automaton, goal: Goal) -> Self {
        Search {
            here,
            there,
            goal,
            kinds: kinds(here, there),
            ways: vec![None; there.places_max()],
            universal: here.universal(),
            nodes: Vec::new(),
            kept: HashMap::new(),
            steps: 0,
        }
    }

    fn run(mut self) -> Result<Option<String>, OutOfSteps> {
        // With a guard, what matches all that follows does not match what the guard refuses.
        if self.here.guard() == Guard::Open && self.is_hopeless(self.here.start()) {
            return Ok(None);
        }
        for place in members(self.there.start()) {
            // Not one of those that are kept: a guard looks at the first character alone.
            self.nodes.push(Node {
                there: place,
                here: *self.here.start(),
                at_segment: true,
                from: None,
                needless: false,
            });
        }
        let mut next = 0;
        while next < self.nodes.len() {
            if !self.nodes[next].needless
                && let Some(topic) = self.leave(next)?
            {
                return Ok(Some(topic));
            }
            next += 1;
        }
        Ok(None)
    }

    /// Goes on from a node by each kind of character. Gives the topic if that reaches the goal.
    fn leave(&mut self, at: usize) -> Result<Option<String>, OutOfSteps> {
        let Node {
            there: place,
            here: before,
            at_segment,
            from,
            ..
        } = self.nodes[at];
        let ways = self.ways(place);
        for &c in &ways {
            // No segment of a topic is empty.
            if at_segment && c == '.' {
                continue;
            }
            let refused = |guard| from.is_none() && c == '$' && guard == Guard::NoDollar;
            if refused(self.there.guard()) {
                continue;
            }
            self.count()?;
            let mut here = if refused(self.here.guard()) {
                [0; WORDS_MAX]
            } else {
                before
            };
            self.here.step(&mut here, c);
            let mut there = single(place);
            self.there.step(&mut there, c);
            if self.is_hopeless(&here) {
                continue;
            }
            if c == '.'
                && self.there.accepts(&there)
                && self.here.accepts(&here) == (self.goal == Goal::Shared)
            {
                return Ok(Some(self.text(at)));
            }
            for place in members(&there) {
                self.keep(place, here, (at, c))?;
            }
        }
        self.ways[place] = Some(ways);
        Ok(None)
    }

    /// The kinds that lead on from a place there; taken out of the table.
    fn ways(&mut self, place: usize) -> Box<[char]> {
        let leads = |c: &char| {
            let mut places = single(place);
            self.there.step(&mut places, *c);
            places != [0; WORDS_MAX]
        };
        self.ways[place]
            .take()
            .unwrap_or_else(|| self.kinds.iter().copied().filter(leads).collect())
    }

    /// Whether nothing that follows can reach the goal.
    fn is_hopeless(&self, here: &Places) -> bool {
        match self.goal {
            Goal::Uncovered => here.iter().zip(&self.universal).any(|(a, b)| a & b != 0),
            Goal::Shared => *here == [0; WORDS_MAX],
        }
    }

    /// Adds a node, unless those that are there make it needless.
    fn keep(
        &mut self,
        there: usize,
        mut here: Places,
        from: (usize, char),
    ) -> Result<(), OutOfSteps> {
        let at_segment = from.1 == '.';
        let kept = self.kept.entry((there, at_segment)).or_default();
        match self.goal {
            Goal::Shared => {
                // Pairs of one place and one place: only new ones lead to new ones.
                for (place, known) in here.iter_mut().zip(&mut kept.union) {
                    (*place, *known) = (*place & !*known, *known | *place);
                }
                if here == [0; WORDS_MAX] {
                    return Ok(());
                }
            }
            Goal::Uncovered => {
                self.steps += kept.smallest.len() / 8;
                let nodes = &mut self.nodes;
                if kept
                    .smallest
                    .iter()
                    .any(|&at| is_subset(&nodes[at].here, &here))
                {
                    return Ok(());
                }
                kept.smallest.retain(|&at| {
                    nodes[at].needless = is_subset(&here, &nodes[at].here);
                    !nodes[at].needless
                });
                kept.smallest.push(nodes.len());
            }
        }
        self.nodes.push(Node {
            there,
            here,
            at_segment,
            from: Some(from),
            needless: false,
        });
        self.count()
    }

    fn count(&mut self) -> Result<(), OutOfSteps> {
        self.steps += 1;
        if self.steps > SET_STEPS_MAX {
            return Err(OutOfSteps);
        }
        Ok(())
    }

    /// The text that leads to a node.
    fn text(&self, node: usize) -> String {
        let before = |&(at, _): &(usize, char)| self.nodes[at].from;
        let mut chars: Vec<char> = std::iter::successors(self.nodes[node].from, before)
            .map(|(_, c)| c)
            .collect();
        chars.reverse();
        chars.into_iter().collect()
    }
}

/// One character of each kind that neither tells apart, if a topic can have one of that kind.
fn kinds(here: &Automaton, there: &Automaton) -> Vec<char> {
    let mut starts = [here.boundaries(), there.boundaries()].concat();
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).copied().chain([char::MAX as u32 + 1]);
    let kind = |(start, end)| {
        // There are fewer controls in a row than this, and surrogates are skipped in one step.
        let first = char::from_u32(start).expect("a kind begins with a scalar value");
        (first..=char::MAX)
            .take_while(|&c| (c as u32) < end)
            .find(|c| !c.is_control())
    };
    starts.iter().copied().zip(ends).filter_map(kind).collect()
}

fn single(place: usize) -> Places {
    let mut places = [0; WORDS_MAX];
    insert(&mut places, place);
    places
}

fn members(places: &Places) -> impl Iterator<Item = usize> + use<> {
    let places = *places;
    (0..WORDS_MAX).flat_map(move |at| {
        let mut word = places[at];
        std::iter::from_fn(move || {
            let lowest = (word != 0).then(|| word.trailing_zeros() as usize)?;
            word &= word - 1;
            Some(at * 64 + lowest)
        })
    })
}

fn is_subset(small: &Places, large: &Places) -> bool {
    small.iter().zip(large).all(|(a, b)| a & !b == 0)
}
