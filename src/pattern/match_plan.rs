//! How a pattern is matched: chosen once, when the pattern is compiled.
//!
//! A pattern with at most one wildcard in each expansion is matched against the whole text, with a
//! [`Shape`] for each expansion. Others are matched segment by segment, one expansion after the
//! other, which is the fastest way for patterns that people write. A pattern for which that could
//! take more than [`SEGMENTS_COST_MAX`] is matched with an [`Automaton`], which is slower in the
//! best case and much faster in the worst.

use super::automaton::Automaton;
use super::glob::Atom;
use super::parse;
use super::route::{Route, Segment};
use super::shape::Shape;

/// What the segment matcher may cost in the worst case, in nanoseconds as [`cost`] estimates them.
/// A pattern that may cost more is matched with an automaton.
const SEGMENTS_COST_MAX: usize = 100_000;

/// How a pattern is matched.
#[derive(Debug)]
pub(super) enum MatchPlan {
    Shape(Shape),
    /// One for each of several expansions.
    Shapes(Box<[Shape]>),
    Segments,
    Automaton(Box<Automaton>),
}

impl MatchPlan {
    /// The plan for the pattern `text`, which has these routes.
    pub(super) fn new(text: &str, routes: &[Route]) -> Self {
        let shape = |route| Shape::new(route, text);
        let at_once = match routes {
            [route] => shape(route).map(MatchPlan::Shape),
            _ => routes
                .iter()
                .map(shape)
                .collect::<Option<_>>()
                .map(MatchPlan::Shapes),
        };
        if let Some(plan) = at_once {
            return plan;
        }
        if routes.iter().map(cost).sum::<usize>() <= SEGMENTS_COST_MAX {
            return MatchPlan::Segments;
        }
        match automaton(text, routes) {
            Some(automaton) => MatchPlan::Automaton(Box::new(automaton)),
            None => MatchPlan::Segments,
        }
    }

    /// Whether the whole `topic` matches; `text` and `routes` are those of the pattern.
    #[inline]
    pub(super) fn matches(&self, text: &str, routes: &[Route], topic: &str) -> bool {
        match self {
            MatchPlan::Shape(shape) => shape.matches(text, topic),
            _ => self.matches_otherwise(text, routes, topic),
        }
    }

    /// Not inlined: as a part of `matches` it made the plan of a single shape take 1.2 times as
    /// long (November 2026).
    #[inline(never)]
    fn matches_otherwise(&self, text: &str, routes: &[Route], topic: &str) -> bool {
        match self {
            MatchPlan::Shape(_) => unreachable!("`matches` handles it"),
            MatchPlan::Shapes(shapes) => shapes.iter().any(|shape| shape.matches(text, topic)),
            MatchPlan::Segments => routes.iter().any(|route| route.matches(topic)),
            MatchPlan::Automaton(automaton) => automaton.matches(topic),
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
        // Only the native language has braces.
        _ => Some(Automaton::of_parts(
            &parse::parts(text).expect("it was a pattern before"),
        )),
    }
}

/// The nanoseconds that it may take to match a route segment by segment on a topic of 1024 bytes
/// and 128 segments: an upper bound, a few times too high at most.
fn cost(route: &Route) -> usize {
    // With a `**`, each segment of the route may be tried on each segment of the topic.
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
                // A search. Where segments are long, it takes longer, and there are fewer of them.
                [Atom::Text(text)] => (64 + 4 * text.len()) * tries,
                // An attempt at each character.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;

    #[test]
    fn the_plan_depends_on_the_expansions() {
        let plan = |text: &str| {
            let pattern = Pattern::parse(text).expect(text);
            MatchPlan::new(text, pattern.routes())
        };
        for text in ["a.*.b", "a.{b,b}.*"] {
            assert!(matches!(plan(text), MatchPlan::Shape(_)), "{text}");
        }
        for (text, count) in [("{a,b}.c*", 2), ("{a,**.b}.{c,d}", 4)] {
            assert!(
                matches!(plan(text), MatchPlan::Shapes(shapes) if shapes.len() == count),
                "{text}"
            );
        }
        for text in ["a.*.*", "{a,b}.*.*", "{a,?}.b"] {
            assert!(matches!(plan(text), MatchPlan::Segments), "{text}");
        }
        let expensive = "*a?b".repeat(20);
        assert!(
            matches!(plan(&expensive), MatchPlan::Automaton(_)),
            "{expensive}"
        );
    }
}
