//! The intermediate form: what patterns compile to, what topics are matched against, and what the
//! index hangs its trie on.
//!
//! A [`Route`] is a list of segments without alternatives; a pattern is one route, or one for each
//! different expansion of its braces. Every dialect whose wildcards stay within dots fits in as it
//! is ("one or more segments" is [`Segment::Any`] before [`Segment::Many`]); a guard on the whole
//! topic, or a glob over what follows the segments, are further fields of the route.
//!
//! Routes are in normal form: in a run of `Any` and `Many`, the `Any` stand first and at most one
//! `Many` follows. A run with k of `Any` and at least one `Many` matches k or more segments in
//! whatever order it is written, so this changes no meaning, and equal routes have equal lists.

use std::sync::Arc;

use super::glob::Glob;
use super::shape::same;
use super::tail::Tail;
use super::topic::Segments;

/// One expansion of a pattern: a list of segments in normal form, never empty.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    segments: Box<[Segment]>,
    guard: Guard,
    tail: Option<Arc<Tail>>,
}

/// What a route wants of the whole topic, besides its segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Guard {
    /// Nothing.
    #[default]
    Open,
    /// That it does not begin with `$`.
    NoDollar,
}

impl Guard {
    /// Whether the topic may be matched at all.
    #[inline]
    pub(crate) fn admits(self, topic: &str) -> bool {
        match self {
            Guard::Open => true,
            Guard::NoDollar => !topic.starts_with('$'),
        }
    }
}

/// What a route wants of a segment of the topic, or of a run of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// This text.
    Literal(Box<str>),
    /// Any one segment.
    Any,
    /// Any number of segments, none too.
    Many,
    /// A segment that the glob matches.
    Glob(Arc<Glob>),
}

impl Route {
    /// The route of these segments as written, at least one.
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

    /// The route of these segments, all literal and maybe none, with a tail behind them.
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

    /// The segments in order; literals alone, or none at all, if there is a tail.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn guard(&self) -> Guard {
        self.guard
    }

    /// What the rest of the topic must match that follows the segments and their dots: at least
    /// one segment more. Without a tail, nothing may follow.
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

    /// What follows the segments, all literal, and a dot after each.
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
    /// When a segment does not fit, only the last `Many` passed takes one segment more: whatever
    /// an earlier one could take, the last one reaches the same places. So each pair of a segment
    /// here and a segment there is tried once at most.
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
    /// Whether the one segment `text` fits.
    fn matches_one(&self, text: &str) -> bool {
        match self {
            Segment::Literal(literal) => {
                literal.len() == text.len() && same(literal.as_bytes(), text.as_bytes())
            }
            Segment::Any | Segment::Many => true,
            Segment::Glob(glob) => glob.matches(text),
        }
    }
}
