//! How a pattern is matched: chosen once, when it is compiled.
//!
//! A pattern with at most one wildcard in each expansion is matched against the whole text, as a [`Shape`] for each.
//! Others are matched segment by segment, one expansion after the other, which is the quickest way for all
//! that people write. What could take more than [`SEGMENTS_COST_MAX`] that way is matched as an
//! [`Automaton`], which is slower at the best and far quicker at the worst.

use super::automaton::Automaton;
use super::glob::Atom;
use super::parse;
use super::route::{Route, Segment};
use super::shape::Shape;

/// What the segment matcher may cost at the worst, in nanoseconds as [`cost`] estimates them; a
/// pattern that may cost more is matched as an automaton.
const SEGMENTS_COST_MAX: usize = 100_000;

/// The way to match a pattern.
#[derive(Debug)]
pub(super) enum Plan {
    Shape(Shape),
    /// One for each of several expansions.
    Shapes(Box<[Shape]>),
    Segments,
    Automaton(Box<Automaton>),
}

impl Plan {
    /// The way for the pattern `text`, which has these routes.
    pub(super) fn new(text: &str, routes: &[Route]) -> Self {
        let shape = |route| Shape::new(route, text);
        let at_once = match routes {
            [route] => shape(route).map(Plan::Shape),
            _ => routes
                .iter()
                .map(shape)
                .collect::<Option<_>>()
                .map(Plan::Shapes),
        };
        if let Some(plan) = at_once {
            return plan;
        }
        if routes.iter().map(cost).sum::<usize>() <= SEGMENTS_COST_MAX {
            return Plan::Segments;
        }
        match automaton(text, routes) {
            Some(automaton) => Plan::Automaton(Box::new(automaton)),
            None => Plan::Segments,
        }
    }

    /// Whether the whole `topic` matches; `text` and `routes` are those of the pattern.
    #[inline]
    pub(super) fn matches(&self, text: &str, routes: &[Route], topic: &str) -> bool {
        match self {
            Plan::Shape(shape) => shape.matches(text, topic),
            _ => self.matches_otherwise(text, routes, topic),
        }
    }

    /// Not inlined: with it in there, the way of a single shape took a fifth longer (November 2026).
    #[inline(never)]
    fn matches_otherwise(&self, text: &str, routes: &[Route], topic: &str) -> bool {
        match self {
            Plan::Shape(_) => unreachable!("matched before"),
            Plan::Shapes(shapes) => shapes.iter().any(|shape| shape.matches(text, topic)),
            Plan::Segments => routes.iter().any(|route| route.matches(topic)),
            Plan::Automaton(automaton) => automaton.matches(topic),
        }
    }
}

/// The automaton of the pattern `text`, which has these routes; `None` if one of them has a tail.
pub(super) fn automaton(text: &str, routes: &[Route]) -> Option<Automaton> {
    if routes.iter().any(|route| route.tail().is_some()) {
        return None;
    }
    match routes {
        [route] => Some(Automaton::of_route(route)),
        // Braces, which only the native language has.
        _ => Some(Automaton::of_parts(
            &parse::parts(text).expect("it was a pattern before"),
        )),
    }
}

/// What matching a route segment by segment may take, in nanoseconds, on a topic of 1024 bytes and
/// 128 segments: an estimate from above, within a few times.
fn cost(route: &Route) -> usize {
    // Where there is a `**`, each segment may be tried on every one of the topic.
    let tries = if route.segments().contains(&Segment::Many) {
        128
    } else {
        1
    };
    let segment = |segment: &Segment| match segment {
        Segment::Literal(_) | Segment::Any | Segment::Many => 8 * tries,
        Segment::Glob(glob) => {
            let pieces = glob.rest.iter().map(|piece| match &**piece {
                [] => 0,
                // Searched; what that takes on long segments, it saves by trying fewer.
                [Atom::Text(text)] => (64 + 4 * text.len()) * tries,
                // Tried at every character.
                atoms => 2048 * atoms.iter().map(chars).sum::<usize>(),
            });
            16 * tries + pieces.sum::<usize>()
        }
    };
    if route.tail().is_some() {
        0
    } else {
        route.segments().iter().map(segment).sum()
    }
}

fn chars(atom: &Atom) -> usize {
    match atom {
        Atom::Text(text) => text.len(),
        Atom::One | Atom::Class(_) => 1,
    }
}

/// A pattern, matched in every way there is, not in the chosen one alone.
#[cfg(any(test, fuzzing))]
pub(super) struct EveryWay<'a> {
    pattern: &'a super::Pattern,
    automaton: Option<Automaton>,
}

#[cfg(any(test, fuzzing))]
impl<'a> EveryWay<'a> {
    pub(super) fn new(pattern: &'a super::Pattern) -> Self {
        EveryWay {
            pattern,
            automaton: automaton(pattern.as_str(), pattern.routes()),
        }
    }

    /// Whether the whole `topic` matches.
    ///
    /// # Panics
    ///
    /// If one way says so and another does not.
    pub(super) fn matches(&self, topic: &super::Topic) -> bool {
        let verdict = self.pattern.matches(topic);
        let mut routes = self.pattern.routes().iter();
        let segments = routes.any(|route| route.matches(topic.as_str()));
        assert_eq!(
            segments, verdict,
            "{:?} {topic:?}, by segments",
            self.pattern
        );
        if let Some(automaton) = &self.automaton {
            let found = automaton.matches(topic.as_str());
            assert_eq!(found, verdict, "{:?} {topic:?}, by automaton", self.pattern);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;

    #[test]
    fn the_way_is_chosen_by_what_the_expansions_are() {
        let plan = |text: &str| {
            let pattern = Pattern::parse(text).expect(text);
            Plan::new(text, pattern.routes())
        };
        for text in ["a.*.b", "a.{b,b}.*"] {
            assert!(matches!(plan(text), Plan::Shape(_)), "{text}");
        }
        for (text, count) in [("{a,b}.c*", 2), ("{a,**.b}.{c,d}", 4)] {
            assert!(
                matches!(plan(text), Plan::Shapes(shapes) if shapes.len() == count),
                "{text}"
            );
        }
        for text in ["a.*.*", "{a,b}.*.*", "{a,?}.b"] {
            assert!(matches!(plan(text), Plan::Segments), "{text}");
        }
        let dear = "*a?b".repeat(20);
        assert!(matches!(plan(&dear), Plan::Automaton(_)), "{dear}");
    }
}
