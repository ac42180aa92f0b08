//! Patterns as sets of topics: whether a pattern covers another, and whether two intersect.
//!
//! Access rights raise such questions: a program that may read `orders.**` may subscribe to
//! `orders.*.created`, because the first pattern covers the second. Two owners of topics are in
//! conflict if their patterns intersect. The answers are exact. They hold for topics of any number
//! of segments and any length (the limit on the length of a topic is not taken into account). Where
//! an answer would take too long, there is an error instead.
//!
//! # Method
//!
//! Both patterns become automata. The characters are divided into groups that neither automaton
//! distinguishes, so that one character can stand for its group. Then a topic is searched for,
//! shortest first: one that both patterns match, or one that `other` matches and `self` does not.
//! To find whether the patterns intersect, it is enough to try pairs of one state of each. To find
//! whether `self` covers `other`, each state of `other` is paired with *all* states in which `self`
//! may be after the same text. Of two such sets for the same state, the smaller one fails to match
//! whatever the larger one fails to match, so only the smallest sets are kept.
//!
//! # Cost
//!
//! Microseconds for patterns that people write. There are at most as many pairs of states as the
//! product of the lengths. Sets can be exponentially many ([`SET_STEPS_MAX`] has an example), so
//! the number of steps is bounded.
//!
//! # Sources of the ideas
//!
//! De Wulf, Doyen, Henzinger and Raskin, "Antichains: A New Algorithm for Checking Universality of
//! Finite Automata" (2006), for keeping only the smallest sets.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use super::automaton::{Automaton, StateSet, WORDS_MAX, insert};
use super::excerpt::excerpt;
use super::limits::SET_STEPS_MAX;
use super::match_plan;
use super::pattern::Pattern;
use super::route::Guard;
use super::syntax::Syntax;

/// The reason why it is not known whether a pattern covers or intersects another.
///
/// ```
/// use fanout::{Pattern, Syntax, TooComplex};
///
/// let pattern = Pattern::parse("orders.**")?;
/// let glob = Pattern::parse_as("orders.*", Syntax::Redis)?;
/// let error = pattern.covers(&glob).unwrap_err();
/// assert!(matches!(error, TooComplex::Unsupported { .. }));
/// assert_eq!(
///     error.to_string(),
///     "patterns `orders.**` and `orders.*`: \
///      patterns in the languages path and redis cannot be compared",
/// );
/// # Ok::<(), fanout::PatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TooComplex {
    /// The answer takes more than [`SET_STEPS_MAX`] steps.
    Steps {
        /// The pattern whose method was called, shortened where it is long.
        pattern: Box<str>,
        /// The pattern that was its argument, shortened where it is long.
        other: Box<str>,
    },
    /// One of the patterns is in a language whose wildcards cross dots, [`Syntax::Path`] or
    /// [`Syntax::Redis`]. Such patterns are not compared.
    Unsupported {
        /// The pattern whose method was called, shortened where it is long.
        pattern: Box<str>,
        /// The pattern that was its argument, shortened where it is long.
        other: Box<str>,
    },
}

impl fmt::Display for TooComplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (TooComplex::Steps { pattern, other } | TooComplex::Unsupported { pattern, other }) =
            self;
        write!(f, "patterns `{pattern}` and `{other}`: ")?;
        match self {
            TooComplex::Steps { .. } => {
                write!(f, "the comparison takes more than {SET_STEPS_MAX} steps")
            }
            TooComplex::Unsupported { .. } => {
                f.write_str("patterns in the languages path and redis cannot be compared")
            }
        }
    }
}

impl Error for TooComplex {}

impl Pattern {
    /// Whether this pattern matches every topic that `other` matches.
    ///
    /// # Errors
    ///
    /// [`TooComplex`] if the answer takes more than
    /// [`SET_STEPS_MAX`] steps, or if one of the patterns is in a
    /// language whose wildcards cross dots.
    ///
    /// ```
    /// use fanout::Pattern;
    ///
    /// let allowed = Pattern::parse("orders.{eu,us}.**")?;
    /// assert!(allowed.covers(&Pattern::parse("orders.eu.*.created")?)?);
    /// assert!(!allowed.covers(&Pattern::parse("orders.*.created")?)?);
    /// // Both match all topics:
    /// assert!(Pattern::parse("?*.**")?.covers(&Pattern::parse("**.?*")?)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn covers(&self, other: &Pattern) -> Result<bool, TooComplex> {
        self.search(other, Goal::Uncovered)
            .map(|topic| topic.is_none())
    }

    /// Whether there is a topic that both this pattern and `other` match.
    ///
    /// # Errors
    ///
    /// [`TooComplex`] if the answer takes more than
    /// [`SET_STEPS_MAX`] steps, or if one of the patterns is in a
    /// language whose wildcards cross dots.
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
        let (Some(this), Some(other)) = (automaton(self), automaton(other)) else {
            let (pattern, other) = shown();
            return Err(TooComplex::Unsupported { pattern, other });
        };
        find(&this, &other, goal).map_err(|OutOfSteps| {
            let (pattern, other) = shown();
            TooComplex::Steps { pattern, other }
        })
    }
}

/// The automaton of a pattern; `None` if wildcards of its language cross dots, even if the pattern
/// has none: so the language alone decides what is supported.
fn automaton(pattern: &Pattern) -> Option<Automaton> {
    match pattern.syntax() {
        Syntax::Path | Syntax::Redis => None,
        Syntax::Segments | Syntax::Nats | Syntax::Amqp | Syntax::Mqtt => {
            match_plan::automaton(pattern.as_str(), pattern.routes())
        }
    }
}

/// The topic that is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// One that `other` matches and `self` does not.
    Uncovered,
    /// One that both match.
    Shared,
}

/// The search has taken [`SET_STEPS_MAX`] steps.
#[derive(Debug)]
pub(super) struct OutOfSteps;

/// A shortest topic that reaches the goal, or `None` if there is none. It may be longer than topics
/// may be.
pub(super) fn find(
    this: &Automaton,
    other: &Automaton,
    goal: Goal,
) -> Result<Option<String>, OutOfSteps> {
    Search::new(this, other, goal).run()
}

/// A search over texts, shortest first. `this` is the pattern whose method was called.
struct Search<'a> {
    this: &'a Automaton,
    other: &'a Automaton,
    goal: Goal,
    /// One character of each group that neither automaton distinguishes and that topics can have;
    /// the dot is a group.
    groups: Vec<char>,
    /// For each state of `other`, the groups that it reads, once they are known.
    leading: Vec<Option<Box<[char]>>>,
    /// The states of `this` that match everything that may follow.
    universal: StateSet,
    /// The nodes in the order in which they were reached.
    nodes: Vec<Node>,
    /// The nodes that still matter, by the state of `other` and by whether a segment begins.
    kept: HashMap<(usize, bool), Kept>,
    /// Steps taken: 0 to a little more than [`SET_STEPS_MAX`].
    steps: usize,
}

/// What a text leads to: one of the states of `other`, and states of `this`.
struct Node {
    other: usize,
    /// For [`Goal::Uncovered`] all states of `this`, for [`Goal::Shared`] those that are new.
    this: StateSet,
    /// Whether a segment begins: the text is empty, or ends with a dot.
    at_segment: bool,
    /// The node before, and the last character of the text; `None` for the empty text.
    from: Option<(usize, char)>,
    /// Whether another node makes this one redundant.
    is_redundant: bool,
}

/// The nodes that matter for a state of `other`.
#[derive(Default)]
struct Kept {
    /// An antichain: no node has all the states of `this` that another one has.
    smallest: Vec<usize>,
    /// All states of `this` that were reached.
    union: StateSet,
}

impl<'a> Search<'a> {
    fn new(this: &'a Automaton, other: &'a Automaton, goal: Goal) -> Self {
        Search {
            this,
            other,
            goal,
            groups: groups(this, other),
            leading: vec![None; other.states_max()],
            universal: this.universal(),
            nodes: Vec::new(),
            kept: HashMap::new(),
            steps: 0,
        }
    }

    fn run(mut self) -> Result<Option<String>, OutOfSteps> {
        // A pattern with a guard does not match everything, even if it starts in such a state.
        if self.this.guard() == Guard::Open && self.is_dead_end(self.this.start()) {
            return Ok(None);
        }
        for state in members(self.other.start()) {
            // These nodes are not kept: a guard makes the first character a special case.
            self.nodes.push(Node {
                other: state,
                this: *self.this.start(),
                at_segment: true,
                from: None,
                is_redundant: false,
            });
        }
        let mut next = 0;
        while next < self.nodes.len() {
            if !self.nodes[next].is_redundant
                && let Some(topic) = self.expand(next)?
            {
                return Ok(Some(topic));
            }
            next += 1;
        }
        Ok(None)
    }

    /// Continues from a node with each group of characters. Returns the topic that reaches the
    /// goal, if there is one.
    fn expand(&mut self, at: usize) -> Result<Option<String>, OutOfSteps> {
        let Node {
            other: state,
            this: before,
            at_segment,
            from,
            ..
        } = self.nodes[at];
        let leading = self.leading(state);
        for &c in &leading {
            // No segment of a topic is empty.
            if at_segment && c == '.' {
                continue;
            }
            let refused = |guard| from.is_none() && c == '$' && guard == Guard::NoDollar;
            if refused(self.other.guard()) {
                continue;
            }
            self.count()?;
            let mut this = if refused(self.this.guard()) {
                [0; WORDS_MAX]
            } else {
                before
            };
            self.this.step(&mut this, c);
            let mut other = single(state);
            self.other.step(&mut other, c);
            if self.is_dead_end(&this) {
                continue;
            }
            if c == '.'
                && self.other.accepts(&other)
                && self.this.accepts(&this) == (self.goal == Goal::Shared)
            {
                return Ok(Some(self.text(at)));
            }
            for state in members(&other) {
                self.keep(state, this, (at, c))?;
            }
        }
        self.leading[state] = Some(leading);
        Ok(None)
    }

    /// The groups that a state of `other` reads; removed from the table.
    fn leading(&mut self, state: usize) -> Box<[char]> {
        let leads = |c: &char| {
            let mut states = single(state);
            self.other.step(&mut states, *c);
            states != [0; WORDS_MAX]
        };
        self.leading[state]
            .take()
            .unwrap_or_else(|| self.groups.iter().copied().filter(leads).collect())
    }

    /// Whether nothing that follows these states of `this` can reach the goal.
    fn is_dead_end(&self, this: &StateSet) -> bool {
        match self.goal {
            Goal::Uncovered => this.iter().zip(&self.universal).any(|(a, b)| a & b != 0),
            Goal::Shared => *this == [0; WORDS_MAX],
        }
    }

    /// Adds a node, unless another node makes it redundant.
    fn keep(
        &mut self,
        other: usize,
        mut this: StateSet,
        from: (usize, char),
    ) -> Result<(), OutOfSteps> {
        let at_segment = from.1 == '.';
        let kept = self.kept.entry((other, at_segment)).or_default();
        match self.goal {
            Goal::Shared => {
                // Only new pairs of one state and one state lead to new pairs.
                for (state, known) in this.iter_mut().zip(&mut kept.union) {
                    (*state, *known) = (*state & !*known, *known | *state);
                }
                if this == [0; WORDS_MAX] {
                    return Ok(());
                }
            }
            Goal::Uncovered => {
                self.steps += kept.smallest.len() / 8;
                let nodes = &mut self.nodes;
                if kept
                    .smallest
                    .iter()
                    .any(|&at| is_subset(&nodes[at].this, &this))
                {
                    return Ok(());
                }
                kept.smallest.retain(|&at| {
                    nodes[at].is_redundant = is_subset(&this, &nodes[at].this);
                    !nodes[at].is_redundant
                });
                kept.smallest.push(nodes.len());
            }
        }
        self.nodes.push(Node {
            other,
            this,
            at_segment,
            from: Some(from),
            is_redundant: false,
        });
        self.count()
    }

    /// Counts a step.
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

/// One character of each group that neither automaton distinguishes, if a topic can have one of
/// them.
fn groups(this: &Automaton, other: &Automaton) -> Vec<char> {
    let mut starts = [this.boundaries(), other.boundaries()].concat();
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).copied().chain([char::MAX as u32 + 1]);
    let representative = |(start, end)| {
        let first = char::from_u32(start).expect("a group begins with a scalar value");
        (first..=char::MAX)
            .take_while(|&c| (c as u32) < end)
            .find(|c| !c.is_control())
    };
    let bounds = starts.iter().copied().zip(ends);
    bounds.filter_map(representative).collect()
}

fn single(state: usize) -> StateSet {
    let mut states = [0; WORDS_MAX];
    insert(&mut states, state);
    states
}

fn members(states: &StateSet) -> impl Iterator<Item = usize> + use<> {
    let states = *states;
    (0..WORDS_MAX).flat_map(move |at| {
        let mut word = states[at];
        std::iter::from_fn(move || {
            let lowest = (word != 0).then(|| word.trailing_zeros() as usize)?;
            word &= word - 1;
            Some(at * 64 + lowest)
        })
    })
}

fn is_subset(small: &StateSet, large: &StateSet) -> bool {
    small.iter().zip(large).all(|(a, b)| a & !b == 0)
}
