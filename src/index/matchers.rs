//! The globs and tails below each node, found by literal text that they require.
//!
//! Ten thousand patterns such as `orders.A1234*` put as many globs below one node. A walk must not
//! try all of them on each segment, so each matcher is in one bucket of its node. The key of a
//! bucket is an [`Anchor`] and a literal text, and a walk looks only into the buckets whose text
//! the topic has at that anchor.
//!
//! * **Indexed**: a matcher is usually in the bucket of the literal text that it begins with, or
//!   else of the text that it ends with. A node has a list of the lengths of these texts, so a walk
//!   looks up one bucket for each length.
//! * **Filtered**: where these buckets are crowded (`*-7-*`, `user-*-7-*`), a matcher is in the
//!   bucket of a *gram*: 1, 2, 4 or 8 successive bytes of a text that it requires anywhere. A walk
//!   then looks up each gram of the segment, which takes time in proportion to the length of the
//!   segment and not to the number of matchers. Of the grams that a matcher offers, it takes one
//!   whose bucket has few matchers at the time of the insertion.
//! * **Scanned**: matchers without any literal text (`[ab]?*`) are in one bucket of their node,
//!   and a walk tries all of them. So does it with matchers that differ in their wildcards and
//!   classes alone, where a topic has their text.
//!
//! Trigram indexes for regular expressions choose candidates in the same way: Russ Cox, "Regular
//! Expression Matching with a Trigram Index" (2012).

use std::cmp::Ordering;

use memchr::memmem;

use super::interner::{Matcher, Symbol};
use super::sorted::Sorted;
use super::table::{Entry, Mixer, Table, keyed_hash};
use super::text::Text;

/// A bucket at the beginning or the end of a segment takes further matchers while it has fewer
/// than this. Trying 32 globs takes less time than looking up the grams of a segment.
///
/// Tests have few matchers and use grams nevertheless.
const ANCHORED_FEW: usize = if cfg!(any(test, fuzzing)) { 2 } else { 32 };

/// A bucket of a gram with fewer matchers is taken without comparing it with the others.
const GRAM_FEW: usize = 4;

/// Of a bucket with more matchers than this, those are skipped that require a byte which the topic
/// lacks: for fewer, it takes longer to find out which bytes it has.
const MASK_MIN: usize = 8;

/// The lengths of grams, in bytes, longest first. A text offers those of the first length that it
/// has: so a walk makes four look-ups for each byte of a segment at most.
const GRAM_LENS: [usize; 4] = [8, 4, 2, 1];

/// How many grams of one text an insertion compares at most.
const GRAMS_COMPARED_MAX: usize = 64;

/// The matchers of all nodes of a trie.
#[derive(Clone)]
pub(super) struct Matchers {
    buckets: Table<Bucket>,
    lens: Table<AnchorLens>,
}

/// The matchers of a node with one text at one anchor.
#[derive(Clone)]
struct Bucket {
    hash: u64,
    node: u32,
    anchor: Anchor,
    text: Text,
    /// Never empty.
    edges: Sorted<Edge>,
}

/// A matcher, and the symbol that leads on from the node where it matches.
#[derive(Clone)]
struct Edge {
    symbol: Symbol,
    /// The [`byte_mask`] of the texts that the matcher requires.
    required: u64,
    matcher: Matcher,
}

/// Where a topic must have the text of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Anchor {
    /// At the beginning of the segment, for a glob.
    SegmentStart,
    /// At the end of the segment, for a glob. Globs without a text are here, under the empty text.
    SegmentEnd,
    /// Anywhere in the segment, for a glob; the text is a gram.
    SegmentInner,
    /// At the beginning of the rest of the topic, for a tail. Tails without a text are here,
    /// under the empty text.
    RestStart,
    /// At the end of the topic, for a tail.
    RestEnd,
    /// Anywhere in the rest of the topic, for a tail; the text is a gram.
    RestInner,
}

/// The anchors and lengths of the texts of a node's buckets.
#[derive(Clone)]
struct AnchorLens {
    node: u32,
    /// Never empty, and no two have both the anchor and the length in common.
    list: Vec<AnchorLen>,
}

#[derive(Clone)]
struct AnchorLen {
    anchor: Anchor,
    /// In bytes: 0 to the length of a pattern.
    len: u16,
    /// How many buckets have this anchor and a text of this length: at least 1.
    buckets: u32,
}

impl Entry for Bucket {
    fn hash(&self, _: Mixer) -> u64 {
        self.hash
    }
}

impl Entry for AnchorLens {
    fn hash(&self, mixer: Mixer) -> u64 {
        mixer.mix(0, self.node)
    }
}

impl Edge {
    fn new(symbol: Symbol, matcher: &Matcher) -> Self {
        let mask = |texts: &mut dyn Iterator<Item = &[u8]>| {
            texts.fold(0, |mask, text| mask | byte_mask(text))
        };
        Edge {
            symbol,
            required: match matcher {
                Matcher::Glob(glob) => mask(&mut glob.texts().map(str::as_bytes)),
                Matcher::Tail(tail) => mask(&mut tail.texts()),
            },
            matcher: matcher.clone(),
        }
    }
}

/// A bit for each byte that the text has: a text that contains another has all bits of the other.
///
/// In ASCII, digits, punctuation and letters have bits of their own; the two cases of a letter
/// share one.
fn byte_mask(text: &[u8]) -> u64 {
    text.iter().fold(0, |mask, byte| {
        mask | 1 << ((byte & 0x1F) | (byte & 0x40) >> 1)
    })
}

impl PartialEq for Edge {
    fn eq(&self, other: &Self) -> bool {
        self.symbol == other.symbol
    }
}

impl Eq for Edge {}

impl PartialOrd for Edge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Edge {
    fn cmp(&self, other: &Self) -> Ordering {
        self.symbol.cmp(&other.symbol)
    }
}

impl Matchers {
    pub(super) fn new() -> Self {
        Matchers {
            buckets: Table::new(),
            lens: Table::new(),
        }
    }

    /// Adds a matcher below a node, which must not have one of this symbol.
    pub(super) fn add(&mut self, node: u32, symbol: Symbol, matcher: &Matcher) {
        let edge = Edge::new(symbol, matcher);
        debug_assert!(self.key_of(node, &edge).is_none(), "the symbol is new here");
        let key = self.choose_key(node, matcher);
        if let Some(bucket) = self.buckets.find_mut(key.hash, |bucket| key.is_of(bucket)) {
            bucket.edges.insert(edge);
            return;
        }
        let mut edges = Sorted::default();
        edges.insert(edge);
        self.buckets.insert(Bucket {
            hash: key.hash,
            node,
            anchor: key.anchor,
            text: Text::new(key.text),
            edges,
        });
        self.count_bucket(node, key.anchor, key.text.len() as u16);
    }

    /// Removes a matcher from a node. True if the node has no matcher any more.
    pub(super) fn remove(&mut self, node: u32, symbol: Symbol, matcher: &Matcher) -> bool {
        let edge = Edge::new(symbol, matcher);
        let key = self.key_of(node, &edge).expect("the matcher is there");
        let bucket = self.buckets.find_mut(key.hash, |bucket| key.is_of(bucket));
        let edges = &mut bucket.expect("the bucket is there").edges;
        edges.remove(&edge);
        if !edges.is_empty() {
            return false;
        }
        self.buckets.remove(key.hash, |bucket| key.is_of(bucket));
        self.discount_bucket(node, key.anchor, key.text.len() as u16)
    }

    /// Calls `found` once for each matcher below the node that matches the next part of the topic,
    /// with its symbol and with whether it is a tail, which matches all of `rest`. `rest` must
    /// begin with `segment`.
    pub(super) fn each_that_matches(
        &self,
        node: u32,
        segment: &str,
        rest: &str,
        mut found: impl FnMut(Symbol, bool),
    ) {
        let hash = self.lens.mixer().mix(0, node);
        let Some(lens) = self.lens.find(hash, |lens| lens.node == node) else {
            return;
        };
        let mut try_bucket = |bucket: &Bucket, subject: &[u8]| {
            let is_crowded = bucket.edges.len_estimate() > MASK_MIN;
            let missing = if is_crowded { !byte_mask(subject) } else { 0 };
            for edge in bucket.edges.slices().flatten() {
                if edge.required & missing != 0 {
                    continue;
                }
                match &edge.matcher {
                    Matcher::Glob(glob) if glob.matches(segment) => found(edge.symbol, false),
                    Matcher::Tail(tail) if tail.matches(rest) => found(edge.symbol, true),
                    _ => {}
                }
            }
        };
        for &AnchorLen { anchor, len, .. } in &lens.list {
            let (len, subject) = (usize::from(len), anchor.subject(segment, rest));
            let text = match anchor {
                Anchor::SegmentStart | Anchor::RestStart => subject.get(..len),
                Anchor::SegmentEnd | Anchor::RestEnd => {
                    let start = subject.len().checked_sub(len);
                    start.map(|start| &subject[start..])
                }
                Anchor::SegmentInner | Anchor::RestInner => {
                    for (at, gram) in subject.windows(len).enumerate() {
                        // Where a gram occurs twice, its bucket is looked at once.
                        if let Some(bucket) = self.bucket(&self.key(node, anchor, gram))
                            && memmem::find(subject, gram) == Some(at)
                        {
                            try_bucket(bucket, subject);
                        }
                    }
                    continue;
                }
            };
            if let Some(text) = text
                && let Some(bucket) = self.bucket(&self.key(node, anchor, text))
            {
                try_bucket(bucket, subject);
            }
        }
    }

    pub(super) fn unshare(&mut self) {
        self.buckets.unshare();
        self.lens.unshare();
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.lens.is_empty()
    }

    fn key<'a>(&self, node: u32, anchor: Anchor, text: &'a [u8]) -> Key<'a> {
        let hash = match anchor {
            Anchor::SegmentInner | Anchor::RestInner => {
                self.buckets.mixer().mix_gram(node, anchor as u8, text)
            }
            _ => keyed_hash((node, anchor, text)),
        };
        Key {
            hash,
            node,
            anchor,
            text,
        }
    }

    fn bucket(&self, key: &Key<'_>) -> Option<&Bucket> {
        self.buckets.find(key.hash, |bucket| key.is_of(bucket))
    }

    /// The bucket for a new matcher: the first under its beginning or its end that is not crowded,
    /// or else the least crowded of all that it may be in.
    fn choose_key<'a>(&self, node: u32, matcher: &'a Matcher) -> Key<'a> {
        let mut best: Option<(usize, Key<'a>)> = None;
        for (few, anchor, text) in candidates(matcher) {
            let key = self.key(node, anchor, text);
            let bucket = self.bucket(&key);
            let edges = bucket.map_or(0, |bucket| bucket.edges.len_estimate());
            if edges < few {
                return key;
            }
            if best.as_ref().is_none_or(|(fewest, _)| edges < *fewest) {
                best = Some((edges, key));
            }
        }
        best.expect("each matcher has a candidate").1
    }

    /// The bucket that an edge is in.
    fn key_of<'a>(&self, node: u32, edge: &'a Edge) -> Option<Key<'a>> {
        candidates(&edge.matcher)
            .map(|(_, anchor, text)| self.key(node, anchor, text))
            .find(|key| {
                self.bucket(key)
                    .is_some_and(|bucket| bucket.edges.contains(edge))
            })
    }

    fn count_bucket(&mut self, node: u32, anchor: Anchor, len: u16) {
        let first = AnchorLen {
            anchor,
            len,
            buckets: 1,
        };
        let hash = self.lens.mixer().mix(0, node);
        let Some(lens) = self.lens.find_mut(hash, |lens| lens.node == node) else {
            let list = vec![first];
            return self.lens.insert(AnchorLens { node, list });
        };
        match lens.list.iter_mut().find(|other| other.is(anchor, len)) {
            Some(other) => other.buckets += 1,
            None => {
                lens.list.reserve_exact(1);
                lens.list.push(first);
            }
        }
    }

    /// True if no bucket is left.
    fn discount_bucket(&mut self, node: u32, anchor: Anchor, len: u16) -> bool {
        let hash = self.lens.mixer().mix(0, node);
        let lens = self.lens.find_mut(hash, |lens| lens.node == node);
        let list = &mut lens.expect("the node has a bucket").list;
        let at = list.iter().position(|other| other.is(anchor, len));
        let at = at.expect("the node has such a bucket");
        debug_assert!(list[at].buckets > 0, "a length without buckets is removed");
        list[at].buckets -= 1;
        if list[at].buckets == 0 {
            list.remove(at);
        }
        let is_last = list.is_empty();
        if is_last {
            self.lens.remove(hash, |lens| lens.node == node);
        }
        is_last
    }
}

impl Anchor {
    /// The part of the topic that must have the text.
    fn subject<'a>(self, segment: &'a str, rest: &'a str) -> &'a [u8] {
        match self {
            Anchor::SegmentStart | Anchor::SegmentEnd | Anchor::SegmentInner => segment.as_bytes(),
            Anchor::RestStart | Anchor::RestEnd | Anchor::RestInner => rest.as_bytes(),
        }
    }
}

impl AnchorLen {
    fn is(&self, anchor: Anchor, len: u16) -> bool {
        (self.anchor, self.len) == (anchor, len)
    }
}

/// What a bucket is found by.
struct Key<'a> {
    hash: u64,
    node: u32,
    anchor: Anchor,
    text: &'a [u8],
}

impl Key<'_> {
    fn is_of(&self, bucket: &Bucket) -> bool {
        // The hash first: it differs from that of almost every neighbour.
        bucket.hash == self.hash
            && bucket.node == self.node
            && bucket.anchor == self.anchor
            && bucket.text.as_bytes() == self.text
    }
}

/// The buckets that a matcher may be in, at least one, best first; each with the number of
/// matchers from which on the bucket is compared with the others.
fn candidates(matcher: &Matcher) -> impl Iterator<Item = (usize, Anchor, &[u8])> {
    let (start, end) = match matcher {
        Matcher::Glob(glob) => (
            (Anchor::SegmentStart, glob.head().as_bytes()),
            (Anchor::SegmentEnd, glob.end().as_bytes()),
        ),
        Matcher::Tail(tail) => (
            (Anchor::RestStart, tail.head()),
            (Anchor::RestEnd, tail.end().as_bytes()),
        ),
    };
    let neither = match matcher {
        Matcher::Glob(_) => end,
        Matcher::Tail(_) => start,
    };
    let has_neither = start.1.is_empty() && end.1.is_empty();
    let anchored = [start, end]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .chain(has_neither.then_some(neither))
        .map(|(anchor, text)| (ANCHORED_FEW, anchor, text));
    let (globs, tails) = match matcher {
        Matcher::Glob(glob) => (Some(glob.texts()), None),
        Matcher::Tail(tail) => (None, Some(tail.texts())),
    };
    let of_glob = globs
        .into_iter()
        .flatten()
        .flat_map(|text| grams(text.as_bytes()).map(|gram| (GRAM_FEW, Anchor::SegmentInner, gram)));
    let of_tail = tails
        .into_iter()
        .flatten()
        .flat_map(|text| grams(text).map(|gram| (GRAM_FEW, Anchor::RestInner, gram)));
    anchored.chain(of_glob).chain(of_tail)
}

/// The grams that a text offers, spread evenly if they are many.
fn grams(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let len = GRAM_LENS.into_iter().find(|&len| len <= text.len());
    // The empty text has no grams: a window longer than the text is nowhere.
    let windows = text.windows(len.unwrap_or(1));
    let step = windows.len().div_ceil(GRAMS_COMPARED_MAX).max(1);
    windows.step_by(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::{Pattern, Segment, Syntax};

    const CROWD: u32 = 5_000;

    /// The one matcher of a pattern.
    fn matcher(text: &str, syntax: Syntax) -> Matcher {
        let pattern = Pattern::parse_as(text, syntax).unwrap();
        match (pattern.routes()[0].segments(), pattern.routes()[0].tail()) {
            ([Segment::Glob(glob)], None) => Matcher::Glob(glob.clone()),
            ([], Some(tail)) => Matcher::Tail(tail.clone()),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn found(matchers: &Matchers, segment: &str) -> Vec<Symbol> {
        let mut symbols = Vec::new();
        matchers.each_that_matches(1, segment, segment, |symbol, _| symbols.push(symbol));
        symbols
    }

    #[test]
    #[cfg_attr(miri, ignore = "needs thousands of matchers, and Miri is slow")]
    fn a_crowd_is_divided_among_small_buckets() {
        type Form = (fn(u32) -> String, Syntax, fn(u32) -> String);
        let forms: [Form; 5] = [
            (
                |n| format!("*-{n}-*"),
                Syntax::Segments,
                |n| format!("a-{n}-b"),
            ),
            (
                |n| format!("web-*-{n:04}-*-eu"),
                Syntax::Segments,
                |n| format!("web-a-{n:04}-b-eu"),
            ),
            (
                |n| format!("web-*-{n}"),
                Syntax::Segments,
                |n| format!("web-a-{n}"),
            ),
            (
                |n| format!("*user-session-{n:06}?*"),
                Syntax::Path,
                |n| format!("x-user-session-{n:06}-y"),
            ),
            (
                |n| format!("*:{n}:[a-z]*"),
                Syntax::Redis,
                |n| format!("u:{n}:b"),
            ),
        ];
        for (form, syntax, segment) in forms {
            let mut matchers = Matchers::new();
            for n in 0..CROWD {
                matchers.add(1, n, &matcher(&form(n), syntax));
            }
            for n in (0..CROWD).step_by(CROWD as usize / 10) {
                assert_eq!(found(&matchers, &segment(n)), [n], "{}", form(n));
                let largest = candidates(&matcher(&form(n), syntax))
                    .filter_map(|(_, anchor, text)| {
                        let bucket = matchers.bucket(&matchers.key(1, anchor, text))?;
                        Some(bucket.edges.len_estimate())
                    })
                    .max();
                let bound = Some(CROWD as usize / 10);
                assert!(largest <= bound, "{}: {largest:?}", form(n));
            }
            for n in 0..CROWD {
                let is_last = matchers.remove(1, n, &matcher(&form(n), syntax));
                assert_eq!(is_last, n + 1 == CROWD);
            }
            assert!(matchers.is_empty());
        }
    }

    #[test]
    fn a_gram_that_occurs_twice_finds_its_matchers_once() {
        let mut matchers = Matchers::new();
        let texts = [
            "*ab*", "*aba*", "*ab?*", "*b*", "*a*a*", "*abab*", "*ab*ab*",
        ];
        for (text, symbol) in texts.iter().zip(0..) {
            matchers.add(1, symbol, &matcher(text, Syntax::Segments));
        }
        let mut symbols = found(&matchers, "ababab");
        symbols.sort_unstable();
        assert_eq!(symbols, (0..texts.len() as Symbol).collect::<Vec<_>>());
        assert!(found(&matchers, "xyz").is_empty());
    }

    #[test]
    fn a_text_offers_grams_of_one_length() {
        let offered = |text: &str| {
            let grams = grams(text.as_bytes());
            grams
                .map(|gram| String::from_utf8(gram.to_vec()).unwrap())
                .collect::<Vec<_>>()
        };
        assert!(offered("").is_empty());
        assert_eq!(offered("a"), ["a"]);
        assert_eq!(offered("abc"), ["ab", "bc"]);
        assert_eq!(offered("abcde"), ["abcd", "bcde"]);
        assert_eq!(offered("abcdefghi"), ["abcdefgh", "bcdefghi"]);
        assert_eq!(offered(&"a".repeat(1024)).len(), 1017_usize.div_ceil(16));
    }
}
