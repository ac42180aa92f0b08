//! The intermediate form: patterns of all languages are compiled to it, topics are matched against
//! it, and the index is a trie of it.
//!
//! A [`Route`] is a list of segments without alternatives. A pattern has one route, or one for each
//! different expansion of its braces. Languages whose wildcards do not cross dots need nothing else
//! ("one or more segments" is [`Segment::Any`] before [`Segment::Many`]). For the others, a route
//! has a guard on the whole topic, and a glob over the text that follows its segments.
//!
//! Routes are in normal form: in a run of `Any` and `Many`, the `Any` stand first and at most one
//! `Many` follows. A run with k `Any` and at least one `Many` matches k or more segments in
//! whatever order it is written. So this changes no meaning, and equal routes have equal lists.

use std::sync::Arc;

use super::bytes::equal;
use super::glob::Glob;
use super::tail::Tail;
use super::topic::Segments;

/// One expansion of a pattern: a list of segments in normal form, never empty.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    segments: Box<[Segment]>,
    guard: Guard,
    tail: Option<Arc<Tail>>,
}

/// A condition of a route on the whole topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Guard {
    /// No condition.
    #[default]
    Open,
    /// The topic must not begin with `$`.
    NoDollar,
}

impl Guard {
    /// Whether the topic meets the condition.
    #[inline]
    pub(crate) fn admits(self, topic: &str) -> bool {
        match self {
            Guard::Open => true,
            Guard::NoDollar => !topic.starts_with('$'),
        }
    }
}

/// What a route requires of a segment of the topic, or of a run of segments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// This text.
    Literal(Box<str>),
    /// Any one segment.
    Any,
    /// Any number of segments, also none.
    Many,
    /// A segment that matches the glob.
    Glob(Arc<Glob>),
}

impl Route {
    /// The route of these segments, at least one, in the order in which they are written.
    pub(super) fn new(mut segments: Vec<Segment>) -> Self {
        debug_assert!(!segments.is_empty(), "a pattern has a segment");
        let is_wild = |segment: &Segment| matches!(segment, Segment::Any | Segment::Many);
        for run in segments.chunk_by_mut(|a, b| is_wild(a) && is_wild(b)) {
            if is_wild(&run[0]) {
                run.sort_by_key(|segment| *segment == Segment::Many);
            }
        }
        segments.dedup_by(|a, b| *a == Segment::Many && *b == Segment::Many);
        Route {
            segments: segments.into(),
            guard: Guard::Open,
            tail: None,
        }
    }

    /// The route of these segments under a guard.
    pub(super) fn guarded(segments: Vec<Segment>, guard: Guard) -> Self {
        Route {
            guard,
            ..Route::new(segments)
        }
    }

    /// The route of these segments, which are literal and may be none, with a tail behind them.
    pub(super) fn tailed(segments: Vec<Segment>, tail: Arc<Tail>) -> Self {
        debug_assert!(
            segments
                .iter()
                .all(|segment| matches!(segment, Segment::Literal(_)))
        );
        Route {
            segments: segments.into(),
            guard: Guard::Open,
            tail: Some(tail),
        }
    }

    /// The segments in order. If there is a tail, they are literals or none.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn guard(&self) -> Guard {
        self.guard
    }

    /// The glob for the rest of the topic behind the segments and their dots, which is at least one
    /// segment. Without a tail, nothing may follow the segments.
    pub(crate) fn tail(&self) -> Option<&Arc<Tail>> {
        self.tail.as_ref()
    }

    /// Whether the whole topic matches.
    pub(super) fn matches(&self, topic: &str) -> bool {
        self.guard().admits(topic)
            && match self.tail() {
                None => self.segments_match(Segments::of(topic)),
                Some(tail) => self.rest(topic).is_some_and(|rest| tail.matches(rest)),
            }
    }

    /// The rest of the topic behind the segments, which are literal, and a dot after each.
    fn rest<'a>(&self, topic: &'a str) -> Option<&'a str> {
        self.segments
            .iter()
            .try_fold(topic, |rest, segment| match segment {
                Segment::Literal(text) => rest.strip_prefix(&**text)?.strip_prefix('.'),
                _ => unreachable!("only literals stand before a tail"),
            })
    }

    /// Whether the segments match the whole topic.
    ///
    /// When a segment does not fit, only the last `Many` that was passed takes one more segment: it
    /// reaches every position that an earlier one could reach. So each pair of a segment of the
    /// route and a segment of the topic is tried once at most.
    fn segments_match(&self, topic: Segments<'_>) -> bool {
        let mut rest = topic;
        let mut at = 0;
        let mut last_many: Option<(usize, Segments<'_>)> = None;
        loop {
            match self.segments.get(at) {
                Some(Segment::Many) => {
                    at += 1;
                    if at == self.segments.len() {
                        return true;
                    }
                    last_many = Some((at, rest.clone()));
                    continue;
                }
                Some(segment) if rest.next().is_some_and(|text| segment.matches_one(text)) => {
                    at += 1;
                    continue;
                }
                None if rest.is_done() => return true,
                _ => {}
            }
            let Some((behind, from)) = &mut last_many else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            at = *behind;
            rest = from.clone();
        }
    }
}

impl Segment {
    /// Whether `text`, which is one segment, fits.
    fn matches_one(&self, text: &str) -> bool {
        match self {
            Segment::Literal(literal) => {
                literal.len() == text.len() && equal(literal.as_bytes(), text.as_bytes())
            }
            Segment::Any | Segment::Many => true,
            Segment::Glob(glob) => glob.matches(text),
        }
    }
}
