//! The common shapes: at most one wildcard, matched against the whole text at once.
//!
//! `a.b`, `a.*.b`, `a.**`, `**.b`, `*.b`, `a.b*`, `*a.b`: what stands before the wildcard must begin
//! the topic, what stands behind it must end it, and the hole between them is looked at with one
//! `memchr` or with none. Since no segment of a topic is empty, "one segment" and "any run of
//! characters without a dot" are the same hole wherever dots or the ends of the text stand around it.

use memchr::memchr;

use super::glob::{Atom, Glob};
use super::route::{Guard, Route, Segment};

/// A route with at most one wildcard, as two texts and what may stand between them.
#[derive(Debug)]
pub(super) struct Shape {
    /// The texts one behind the other, if they are not what the pattern's text begins and ends with.
    copied: Option<Box<str>>,
    /// How many bytes of the beginning every match has: 0 to the length of the text.
    head: u16,
    /// How many bytes of the end every match has: 0 to the length of the text.
    tail: u16,
    /// How many bytes every match has at least: one less than `head + tail` where they share a dot.
    bytes_min: u16,
    hole: Hole,
    guard: Guard,
}

/// What may stand between the two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    /// Nothing.
    Closed,
    /// No dot.
    Run,
    /// Anything.
    Free,
    /// Nothing, or a dot and anything; there is no text behind.
    Behind,
    /// Nothing, or anything and a dot; there is no text before.
    Before,
}

impl Shape {
    /// The shape of a route of the pattern `text`, if it has one.
    pub(super) fn new(route: &Route, text: &str) -> Option<Self> {
        let Cut { head, hole, tail } = Cut::new(route)?;
        let shared_dot = hole == Hole::Free && head.ends_with('.') && tail.starts_with('.');
        let shared_dot = shared_dot && route.segments().contains(&Segment::Many);
        let one_or_more = route.segments().contains(&Segment::Any);
        let copied = !(text.starts_with(&head) && text.ends_with(&tail));
        Some(Shape {
            head: head.len().try_into().ok()?,
            tail: tail.len().try_into().ok()?,
            bytes_min: (head.len() + tail.len() - usize::from(shared_dot && !one_or_more))
                .try_into()
                .ok()?,
            hole,
            guard: route.guard(),
            copied: copied.then(|| (head + &tail).into()),
        })
    }

    /// Whether the whole `topic` matches; `text` is that of the pattern.
    #[inline]
    pub(super) fn matches(&self, text: &str, topic: &str) -> bool {
        let text = self.copied.as_deref().unwrap_or(text).as_bytes();
        let head = &text[..usize::from(self.head)];
        if !self.guard.admits(topic) {
            return false;
        }
        let topic = topic.as_bytes();
        if self.hole == Hole::Closed {
            return head.len() == topic.len() && same(head, topic);
        }
        let tail = &text[text.len() - usize::from(self.tail)..];
        if topic.len() < usize::from(self.bytes_min)
            || !same(&topic[..head.len()], head)
            || !same(&topic[topic.len() - tail.len()..], tail)
        {
            return false;
        }
        match self.hole {
            Hole::Run => !has_dot(&topic[head.len()..topic.len() - tail.len()]),
            Hole::Closed | Hole::Free => true,
            Hole::Behind => topic.get(head.len()).is_none_or(|&next| next == b'.'),
            Hole::Before => {
                let before = topic.len() - tail.len();
                before == 0 || topic[before - 1] == b'.'
            }
        }
    }
}

/// Whether two texts of one length are the same; short ones without a call.
#[inline]
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    debug_assert_eq!(a.len(), b.len());
    match a.len() {
        0 => true,
        1..=3 => a.iter().zip(b).all(|(a, b)| a == b),
        // Two words that may overlap.
        4..=7 => a.first_chunk::<4>() == b.first_chunk() && a.last_chunk::<4>() == b.last_chunk(),
        8..=16 => a.first_chunk::<8>() == b.first_chunk() && a.last_chunk::<8>() == b.last_chunk(),
        17..=32 => {
            a.first_chunk::<16>() == b.first_chunk() && a.last_chunk::<16>() == b.last_chunk()
        }
        _ => a == b,
    }
}

/// Whether there is a dot; a call of `memchr` costs more than it saves where the text is short.
#[inline]
fn has_dot(text: &[u8]) -> bool {
    if text.len() < 16 {
        text.contains(&b'.')
    } else {
        memchr(b'.', text).is_some()
    }
}

/// A route, cut at its one wildcard.
struct Cut {
    head: String,
    hole: Hole,
    tail: String,
}

impl Cut {
    fn new(route: &Route) -> Option<Self> {
        if route.tail().is_some() {
            return None;
        }
        let segments = route.segments();
        let wild = segments
            .iter()
            .position(|segment| !matches!(segment, Segment::Literal(_)));
        let Some(wild) = wild else {
            return Some(Cut {
                head: joined(segments)?,
                hole: Hole::Closed,
                tail: String::new(),
            });
        };
        let (before, rest) = segments.split_at(wild);
        let (hole, around, after) = match rest {
            // One segment or more: with a dot or an end on both sides, that is anything.
            [Segment::Any, Segment::Many, after @ ..] => (Hole::Free, ["", ""], after),
            [Segment::Any, after @ ..] => (Hole::Run, ["", ""], after),
            [Segment::Glob(glob), after @ ..] => (Hole::Run, one_star(glob)?, after),
            [Segment::Many, after @ ..] => {
                let hole = match (before, after) {
                    ([_, ..], []) => Hole::Behind,
                    ([], [_, ..]) => Hole::Before,
                    _ => Hole::Free,
                };
                (hole, ["", ""], after)
            }
            [Segment::Literal(_), ..] | [] => unreachable!("a wildcard stands here"),
        };
        let dot = |texts: &[Segment], hole: Hole| {
            let inside = matches!(hole, Hole::Behind | Hole::Before);
            if texts.is_empty() || inside { "" } else { "." }
        };
        // Before anything else is joined, since here it often fails.
        let behind = joined(after)?;
        Some(Cut {
            head: joined(before)? + dot(before, hole) + around[0],
            hole,
            tail: around[1].to_owned() + dot(after, hole) + &behind,
        })
    }
}

/// Literal segments with their dots, if there is nothing else, and each can be a segment.
fn joined(segments: &[Segment]) -> Option<String> {
    let texts: Option<Vec<&str>> = segments
        .iter()
        .map(|segment| match segment {
            Segment::Literal(text) if !text.is_empty() && !text.contains('.') => Some(&**text),
            _ => None,
        })
        .collect();
    Some(texts?.join("."))
}

/// What stands before and behind the star, if there is one and nothing else but text.
fn one_star(glob: &Glob) -> Option<[&str; 2]> {
    let [tail] = &*glob.rest else { return None };
    let mut texts = [""; 2];
    for (text, piece) in texts.iter_mut().zip([&glob.head, tail]) {
        *text = match &**piece {
            [] => "",
            [Atom::Text(literal)] if !literal.contains('.') => literal,
            _ => return None,
        };
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::plan::EveryWay;
    use crate::pattern::{Pattern, Topic};

    fn shape(text: &str) -> Option<Shape> {
        let pattern = Pattern::parse(text).expect(text);
        let [route] = pattern.routes() else {
            return None;
        };
        Shape::new(route, text)
    }

    #[test]
    fn what_people_write_has_a_shape() {
        for (text, hole) in [
            ("a.b", Hole::Closed),
            ("a.*.b", Hole::Run),
            ("a.*", Hole::Run),
            ("*.x", Hole::Run),
            ("?*", Hole::Run),
            ("a.b*", Hole::Run),
            ("*a.b", Hole::Run),
            ("a.b*c.d", Hole::Run),
            ("a.**", Hole::Behind),
            ("**.x", Hole::Before),
            ("a.**.b", Hole::Free),
            ("a.?*.**", Hole::Free),
            ("**.?*.b", Hole::Free),
            ("*", Hole::Free),
        ] {
            assert_eq!(shape(text).map(|shape| shape.hole), Some(hole), "{text}");
        }
        for text in ["a.*.*", "*a*", "a?", "**.a.**", "[ab]", "?*.*"] {
            assert!(shape(text).is_none(), "{text}");
        }
    }

    #[test]
    fn texts_are_copied_only_where_they_are_written_otherwise() {
        for text in ["a.b", "a.*.b", "a.**", "**.x", "*a.b", "a.{b,b}.*"] {
            let copied = shape(text).expect(text).copied;
            assert_eq!(copied.is_some(), text.contains('{'), "{text}");
        }
        assert_eq!(
            shape(r"a\*.**.\?").unwrap().copied.as_deref(),
            Some("a*..?")
        );
        assert!(size_of::<Shape>() <= 24);
    }

    #[test]
    fn texts_of_any_length_differ_in_any_place() {
        let text: Vec<u8> = (0..50).collect();
        for length in 0..=text.len() {
            let text = &text[..length];
            assert!(same(text, text));
            for at in 0..length {
                let mut other = text.to_vec();
                other[at] ^= 1;
                assert!(!same(text, &other), "{length} bytes, byte {at}");
            }
        }
    }

    /// Texts that overlap, and topics that are the texts with nothing, a dot or more in the hole.
    #[test]
    fn heads_and_tails_do_not_share_what_they_must_not() {
        let parts = ["a", "aa", "ab", "a.a", "a.b", "b.a", "a.a.a"];
        let mut checked = 0;
        for head in parts {
            for tail in parts {
                for wild in [
                    "*", "**", ".*", ".**", "*.", "**.", ".*.", ".**.", ".?*.**.", "*.**",
                ] {
                    for text in [
                        format!("{head}{wild}{tail}"),
                        format!("{head}{wild}"),
                        format!("{wild}{tail}"),
                    ] {
                        let Ok(pattern) = Pattern::parse(&text) else {
                            continue;
                        };
                        let every_way = EveryWay::new(&pattern);
                        for hole in ["", ".", "a", ".a.", "a.", ".a", "..", ".a.a."] {
                            let topics = [
                                format!("{head}{hole}{tail}"),
                                format!("{head}{hole}"),
                                format!("{hole}{tail}"),
                                format!("{head}{}", &tail[1..]),
                            ];
                            for topic in topics.iter().filter_map(|text| Topic::new(text).ok()) {
                                checked += usize::from(every_way.matches(&topic));
                            }
                        }
                    }
                }
            }
        }
        assert!(checked > 1000, "{checked} topics matched");
    }

    /// A literal that no segment can equal must not become a text that a topic can.
    #[test]
    fn what_matches_nothing_has_no_shape() {
        for text in ["", "a.b"] {
            for wild in [None, Some(Segment::Any), Some(Segment::Many)] {
                let literal = Segment::Literal(text.into());
                let segments = [Some(literal), wild].into_iter().flatten().collect();
                let route = Route::new(segments);
                assert!(Shape::new(&route, text).is_none());
                assert!(!route.matches("a.b") && !route.matches("a") && !route.matches("a.b.c"));
            }
        }
    }

    #[test]
    fn guards_are_honoured() {
        for segments in [
            vec![Segment::Many],
            vec![Segment::Any],
            vec![Segment::Any, Segment::Literal("b".into())],
            vec![Segment::Literal("$a".into())],
        ] {
            let route = Route::guarded(segments, Guard::NoDollar);
            let shape = Shape::new(&route, "").expect("a shape");
            for topic in ["$", "$a", "$a.b", "a", "a.b", "a.$b"] {
                assert_eq!(
                    shape.matches("", topic),
                    route.matches(topic),
                    "{route:?} {topic}"
                );
                assert!(!topic.starts_with('$') || !route.matches(topic));
            }
        }
    }
}
