//! The common shapes: patterns with at most one wildcard, which are matched against the whole text.
//!
//! These are `a.b`, `a.*.b`, `a.**`, `**.b`, `*.b`, `a.b*` and `*a.b`, for example. The text before
//! the wildcard must begin the topic, the text behind it must end the topic, and the middle between
//! them is checked with at most one `memchr`. No segment of a topic is empty: so where dots or the
//! ends of the text surround the middle, "one segment" and "any run of characters without a dot"
//! are the same.

use memchr::memchr;

use super::bytes::equal;
use super::glob::{Atom, Glob};
use super::route::{Guard, Route, Segment};

/// A route with at most one wildcard: two texts, and what may stand between them.
#[derive(Debug)]
pub(super) struct Shape {
    /// Both texts, one behind the other; `None` if the pattern's text begins and ends with them.
    copied: Option<Box<str>>,
    /// The length of the text that begins each match, in bytes: 0 to the length of a pattern.
    head: u16,
    /// The length of the text that ends each match, in bytes: 0 to the length of a pattern.
    tail: u16,
    /// The length of the shortest match, in bytes: `head + tail`, less one if they share a dot.
    bytes_min: u16,
    middle: Middle,
    guard: Guard,
}

/// What may stand between the two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Middle {
    /// Nothing.
    Empty,
    /// Any text without a dot.
    Within,
    /// Any text.
    Anything,
    /// Nothing, or a dot and any text; the second text is empty.
    DotAndMore,
    /// Nothing, or any text and a dot; the first text is empty.
    MoreAndDot,
}

impl Shape {
    /// The shape of a route of the pattern `text`, if it has one.
    pub(super) fn new(route: &Route, text: &str) -> Option<Self> {
        let Cut { head, middle, tail } = Cut::new(route)?;
        let shared_dot = middle == Middle::Anything && head.ends_with('.') && tail.starts_with('.');
        let shared_dot = shared_dot && route.segments().contains(&Segment::Many);
        let one_or_more = route.segments().contains(&Segment::Any);
        let copied = !(text.starts_with(&head) && text.ends_with(&tail));
        Some(Shape {
            head: head.len().try_into().ok()?,
            tail: tail.len().try_into().ok()?,
            bytes_min: (head.len() + tail.len() - usize::from(shared_dot && !one_or_more))
                .try_into()
                .ok()?,
            middle,
            guard: route.guard(),
            copied: copied.then(|| (head + &tail).into()),
        })
    }

    /// Whether the whole `topic` matches; `text` is that of the pattern.
    #[inline]
    pub(super) fn matches(&self, text: &str, topic: &str) -> bool {
        let text = self.copied.as_deref().unwrap_or(text).as_bytes();
        debug_assert!(usize::from(self.head.max(self.tail)) <= text.len());
        debug_assert!(self.head + self.tail - self.bytes_min <= 1);
        let head = &text[..usize::from(self.head)];
        if !self.guard.admits(topic) {
            return false;
        }
        let topic = topic.as_bytes();
        if self.middle == Middle::Empty {
            return head.len() == topic.len() && equal(head, topic);
        }
        let tail = &text[text.len() - usize::from(self.tail)..];
        if topic.len() < usize::from(self.bytes_min)
            || !equal(&topic[..head.len()], head)
            || !equal(&topic[topic.len() - tail.len()..], tail)
        {
            return false;
        }
        match self.middle {
            Middle::Within => !has_dot(&topic[head.len()..topic.len() - tail.len()]),
            Middle::Empty | Middle::Anything => true,
            Middle::DotAndMore => topic.get(head.len()).is_none_or(|&next| next == b'.'),
            Middle::MoreAndDot => {
                let before = topic.len() - tail.len();
                before == 0 || topic[before - 1] == b'.'
            }
        }
    }
}

/// Whether there is a dot. For short texts, a call of `memchr` costs more than it saves.
#[inline]
fn has_dot(text: &[u8]) -> bool {
    if text.len() < 16 {
        text.contains(&b'.')
    } else {
        memchr(b'.', text).is_some()
    }
}

/// A route that is cut at its one wildcard.
struct Cut {
    head: String,
    middle: Middle,
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
                middle: Middle::Empty,
                tail: String::new(),
            });
        };
        let (before, rest) = segments.split_at(wild);
        let (middle, around, after) = match rest {
            // One segment or more: between dots or ends, that is any text.
            [Segment::Any, Segment::Many, after @ ..] => (Middle::Anything, ["", ""], after),
            [Segment::Any, after @ ..] => (Middle::Within, ["", ""], after),
            [Segment::Glob(glob), after @ ..] => (Middle::Within, one_star(glob)?, after),
            [Segment::Many, after @ ..] => {
                let middle = match (before, after) {
                    ([_, ..], []) => Middle::DotAndMore,
                    ([], [_, ..]) => Middle::MoreAndDot,
                    _ => Middle::Anything,
                };
                (middle, ["", ""], after)
            }
            [Segment::Literal(_), ..] | [] => unreachable!("a wildcard stands here"),
        };
        let dot = |texts: &[Segment], middle: Middle| {
            let inside = matches!(middle, Middle::DotAndMore | Middle::MoreAndDot);
            if texts.is_empty() || inside { "" } else { "." }
        };
        // First, because this fails for most routes without a shape.
        let behind = joined(after)?;
        Some(Cut {
            head: joined(before)? + dot(before, middle) + around[0],
            middle,
            tail: around[1].to_owned() + dot(after, middle) + &behind,
        })
    }
}

/// The text of literal segments with their dots; `None` if there are other segments, or literals
/// that no segment of a topic can equal.
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

/// The texts before and behind the star; `None` if there is anything but one star and text.
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
    use crate::pattern::fuzzing::EveryMatcher;
    use crate::pattern::{Pattern, Topic};

    fn shape(text: &str) -> Option<Shape> {
        let pattern = Pattern::parse(text).expect(text);
        let [route] = pattern.routes() else {
            return None;
        };
        Shape::new(route, text)
    }

    #[test]
    fn common_patterns_have_a_shape() {
        for (text, middle) in [
            ("a.b", Middle::Empty),
            ("a.*.b", Middle::Within),
            ("a.*", Middle::Within),
            ("*.x", Middle::Within),
            ("?*", Middle::Within),
            ("a.b*", Middle::Within),
            ("*a.b", Middle::Within),
            ("a.b*c.d", Middle::Within),
            ("a.**", Middle::DotAndMore),
            ("**.x", Middle::MoreAndDot),
            ("a.**.b", Middle::Anything),
            ("a.?*.**", Middle::Anything),
            ("**.?*.b", Middle::Anything),
            ("*", Middle::Anything),
        ] {
            assert_eq!(
                shape(text).map(|shape| shape.middle),
                Some(middle),
                "{text}"
            );
        }
        for text in ["a.*.*", "*a*", "a?", "**.a.**", "[ab]", "?*.*"] {
            assert!(shape(text).is_none(), "{text}");
        }
    }

    #[test]
    fn texts_are_copied_only_if_the_pattern_spells_them_differently() {
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

    /// Texts that overlap, and topics that have nothing, a dot or more between the texts.
    #[test]
    fn heads_and_tails_overlap_in_a_dot_at_most() {
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
                        let every_matcher = EveryMatcher::new(&pattern);
                        for middle in ["", ".", "a", ".a.", "a.", ".a", "..", ".a.a."] {
                            let topics = [
                                format!("{head}{middle}{tail}"),
                                format!("{head}{middle}"),
                                format!("{middle}{tail}"),
                                format!("{head}{}", &tail[1..]),
                            ];
                            for topic in topics.iter().filter_map(|text| Topic::new(text).ok()) {
                                checked += usize::from(every_matcher.matches(&topic));
                            }
                        }
                    }
                }
            }
        }
        assert!(checked > 1000, "{checked} topics matched");
    }

    /// A literal that no segment can equal must not become a text that a topic can contain.
    #[test]
    fn routes_that_match_nothing_have_no_shape() {
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
