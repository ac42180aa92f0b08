//! Topics: the addresses that events are published on.
//!
//! A [`Topic`] is checked once, when it is made, and carries a hash of its text. So the match
//! cache, which looks topics up for each event, neither checks nor hashes again. A clone costs one
//! reference count.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::iter::FusedIterator;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use memchr::memchr;

use super::excerpt::excerpt;
use super::limits::TOPIC_BYTES_MAX;

/// The address of an event: 1 to [`TOPIC_BYTES_MAX`] bytes of
/// UTF-8, in segments that are separated by dots.
///
/// No segment is empty, and no character is a control character (Unicode Cc). Every other character
/// is plain text in a topic, also the wildcards of patterns. Topics are case-sensitive and are
/// compared as they are, without Unicode normalisation.
///
/// ```
/// use fanout::Topic;
///
/// let topic = Topic::new("orders.eu.created")?;
/// assert_eq!(topic.as_str(), "orders.eu.created");
/// assert_eq!(topic.segments().collect::<Vec<_>>(), ["orders", "eu", "created"]);
/// # Ok::<(), fanout::TopicError>(())
/// ```
#[derive(Clone)]
pub struct Topic(Arc<Inner>);

struct Inner {
    /// [`hash_text`] of `text`.
    hash: u64,
    text: Box<str>,
}

impl Topic {
    /// Bytes of memory of a topic beside its text.
    pub(crate) const OWN_BYTES: usize = 2 * size_of::<usize>() + size_of::<Inner>();

    /// Checks `text` and makes a topic of it.
    ///
    /// # Errors
    ///
    /// [`TopicError`] names the rule that `text` breaks, and the byte at which it breaks it.
    ///
    /// ```
    /// use fanout::{Topic, TopicError};
    ///
    /// assert!(Topic::new("flights.SFO.*").is_ok()); // the star is plain text in a topic
    /// assert!(matches!(Topic::new("a..b"), Err(TopicError::EmptySegment { offset: 2, .. })));
    /// ```
    pub fn new(text: impl AsRef<str>) -> Result<Self, TopicError> {
        let text = text.as_ref();
        check(text)?;
        Ok(Topic(Arc::new(Inner {
            hash: hash_text(text),
            text: text.into(),
        })))
    }

    /// The whole text.
    ///
    /// ```
    /// assert_eq!(fanout::Topic::new("a.b")?.as_str(), "a.b");
    /// # Ok::<(), fanout::TopicError>(())
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The texts between the dots, first to last. There is at least one, and none is empty.
    ///
    /// ```
    /// let topic = fanout::Topic::new("a.b.c")?;
    /// assert_eq!(topic.segments().last(), Some("c"));
    /// # Ok::<(), fanout::TopicError>(())
    /// ```
    #[must_use]
    pub fn segments(&self) -> Segments<'_> {
        Segments::of(self.as_str())
    }

    /// Whether both are clones of one topic, and so equal. Does not compare the texts.
    pub(crate) fn ptr_eq(&self, other: &Topic) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The keyed hash of the text: the same for equal topics, and different in each process.
    pub(crate) fn hash64(&self) -> u64 {
        self.0.hash
    }
}

/// The keyed hash that a [`Topic`] of this text carries.
///
/// The hash is keyed because topics come from outside: a publisher that does not know the key
/// cannot choose topics whose hashes collide.
pub(crate) fn hash_text(text: &str) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    #[cfg(test)]
    if let Some(hash) = colliding::forced() {
        return hash;
    }
    KEY.hash_one(text)
}

/// Makes the hashes of texts collide. Code that uses the hashes may then be slower, but its results
/// must not change.
#[cfg(test)]
pub(crate) mod colliding {
    use std::cell::Cell;

    thread_local! {
        static FORCED: Cell<Option<u64>> = const { Cell::new(None) };
    }

    pub(super) fn forced() -> Option<u64> {
        FORCED.get()
    }

    /// Runs `test`. Every text that this thread hashes meanwhile has this hash.
    pub(crate) fn with_hash(hash: u64, test: impl FnOnce()) {
        struct Reset;
        impl Drop for Reset {
            fn drop(&mut self) {
                FORCED.set(None);
            }
        }
        FORCED.set(Some(hash));
        let _reset = Reset;
        test();
    }
}

/// An iterator over the segments of a [`Topic`], made by [`Topic::segments`].
///
/// ```
/// let topic = fanout::Topic::new("a.b")?;
/// let mut segments = topic.segments();
/// assert_eq!(segments.next(), Some("a"));
/// assert_eq!(segments.clone().count(), 1); // a clone continues at the same segment
/// # Ok::<(), fanout::TopicError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    /// The text behind the last dot that was passed; `None` after the last segment.
    rest: Option<&'a str>,
}

impl<'a> Segments<'a> {
    /// The segments of a text that is known to be a topic.
    pub(crate) fn of(topic: &'a str) -> Self {
        Segments { rest: Some(topic) }
    }

    /// Whether the last segment was returned.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_none()
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        match memchr(b'.', rest.as_bytes()) {
            Some(dot) => {
                self.rest = Some(&rest[dot + 1..]);
                Some(&rest[..dot])
            }
            None => self.rest.take(),
        }
    }
}

impl FusedIterator for Segments<'_> {}

/// A text is not a valid topic.
///
/// The message names the byte at fault. Bytes are counted from 0.
///
/// ```
/// let error = fanout::Topic::new("orders..created").unwrap_err();
/// assert_eq!(error.offset(), 7);
/// assert_eq!(
///     error.to_string(),
///     "topic `orders..created`, byte 7: a segment must not be empty",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// The text is empty.
    Empty,
    /// The text has more than [`TOPIC_BYTES_MAX`] bytes.
    TooLong {
        /// The length of the text, in bytes.
        bytes: usize,
        /// The text, shortened, control characters escaped.
        input: Box<str>,
    },
    /// There is no text before, between or after dots.
    EmptySegment {
        /// The byte at which the segment should begin, counted from the start of the text.
        offset: usize,
        /// The text, shortened where it is long, control characters escaped.
        input: Box<str>,
    },
    /// The text contains a control character (Unicode Cc).
    Control {
        /// The byte at which the character begins, counted from the start of the text.
        offset: usize,
        /// The character.
        character: char,
        /// The text, shortened where it is long, control characters escaped.
        input: Box<str>,
    },
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicError::Empty => f.write_str("a topic must not be empty"),
            TopicError::TooLong { bytes, input } => write!(
                f,
                "topic `{input}`: a topic has {TOPIC_BYTES_MAX} bytes at most, this one has {bytes}"
            ),
            TopicError::EmptySegment { offset, input } => {
                write!(
                    f,
                    "topic `{input}`, byte {offset}: a segment must not be empty"
                )
            }
            TopicError::Control {
                offset,
                character,
                input,
            } => write!(
                f,
                "topic `{input}`, byte {offset}: the control character {character:?} is not allowed"
            ),
        }
    }
}

impl Error for TopicError {}

impl TopicError {
    /// The byte at which the text breaks the rule, counted from 0 at its start: 0 to its length.
    ///
    /// ```
    /// assert_eq!(fanout::Topic::new("a.").unwrap_err().offset(), 2);
    /// ```
    #[must_use]
    pub fn offset(&self) -> usize {
        match self {
            TopicError::Empty => 0,
            TopicError::TooLong { .. } => TOPIC_BYTES_MAX,
            TopicError::EmptySegment { offset, .. } | TopicError::Control { offset, .. } => *offset,
        }
    }
}

/// Checks all rules of a topic in one pass over the bytes.
pub(super) fn check(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        let input = excerpt(text, TOPIC_BYTES_MAX);
        return Err(TopicError::TooLong {
            bytes: text.len(),
            input,
        });
    }
    let mut before = b'.';
    for (offset, &byte) in text.as_bytes().iter().enumerate() {
        if byte == b'.' && before == b'.' {
            return Err(TopicError::EmptySegment {
                offset,
                input: excerpt(text, offset),
            });
        }
        // Cc is U+0000 to U+001F, U+007F, and U+0080 to U+009F, which is C2 80 to C2 9F in UTF-8.
        if byte < b' ' || byte == 0x7F || (before == 0xC2 && byte < 0xA0) {
            return Err(control(text, if byte < 0x80 { offset } else { offset - 1 }));
        }
        before = byte;
    }
    if before == b'.' {
        let offset = text.len();
        return Err(TopicError::EmptySegment {
            offset,
            input: excerpt(text, offset),
        });
    }
    Ok(())
}

fn control(text: &str, offset: usize) -> TopicError {
    let character = text[offset..].chars().next().unwrap_or_default();
    TopicError::Control {
        offset,
        character,
        input: excerpt(text, offset),
    }
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.ptr_eq(other) || (self.0.hash == other.0.hash && self.0.text == other.0.text)
    }
}

impl Eq for Topic {}

impl PartialEq<str> for Topic {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Topic {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Topic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Topic {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// Hashes the text and not the stored hash, because `Borrow<str>` requires that a topic and its
/// text have the same hash.
impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.as_str()).finish()
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Topic::new(text)
    }
}

impl TryFrom<&str> for Topic {
    type Error = TopicError;

    fn try_from(text: &str) -> Result<Self, TopicError> {
        Topic::new(text)
    }
}

impl TryFrom<String> for Topic {
    type Error = TopicError;

    fn try_from(text: String) -> Result<Self, TopicError> {
        Topic::new(text)
    }
}

impl TryFrom<&String> for Topic {
    type Error = TopicError;

    fn try_from(text: &String) -> Result<Self, TopicError> {
        Topic::new(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    #[test]
    fn accepts_what_the_rules_allow() {
        for text in [
            "a",
            "a.b",
            "*",
            "a.**",
            "{x}",
            "é.日本.🦀",
            " ",
            "a b",
            "\u{a0}",
            "\\",
            "-",
        ] {
            let topic = Topic::new(text).expect(text);
            assert_eq!(topic, text);
            assert_eq!(
                topic.segments().collect::<Vec<_>>(),
                text.split('.').collect::<Vec<_>>()
            );
            assert_eq!(topic.hash64(), hash_text(text));
        }
    }

    #[test]
    fn length_at_the_bound_and_one_past() {
        let text = "é".repeat(TOPIC_BYTES_MAX / 2);
        assert!(Topic::new(&text).is_ok());
        let error = Topic::new(text + "x").unwrap_err();
        assert!(
            matches!(error, TopicError::TooLong { bytes: 1025, .. }),
            "{error}"
        );
        assert!(
            error.to_string().len() < 200,
            "the input is shortened: {error}"
        );
    }

    #[test]
    fn refusals_name_rule_and_offset() {
        assert_eq!(Topic::new(""), Err(TopicError::Empty));
        for (text, offset) in [(".", 0), (".a", 0), ("a.", 2), ("a..b", 2), ("é..b", 3)] {
            let error = Topic::new(text).unwrap_err();
            assert!(matches!(error, TopicError::EmptySegment { .. }), "{error}");
            assert_eq!(error.offset(), offset, "{error}");
        }
        let controls = [
            "\0", "a\tb", "a.\n", "é\u{7f}", "é\u{80}", "\u{9f}", "a\u{85}",
        ];
        for (text, offset) in controls.into_iter().zip([0, 1, 2, 2, 2, 0, 1]) {
            let error = Topic::new(text).unwrap_err();
            assert!(matches!(error, TopicError::Control { .. }), "{error}");
            assert_eq!(error.offset(), offset, "{error}");
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn control_characters_are_those_of_unicode() {
        for c in '\0'..=char::MAX {
            assert_eq!(
                Topic::new(format!("a{c}")).is_err(),
                c.is_control() || c == '.',
                "{c:?}"
            );
        }
    }

    #[test]
    fn looks_like_its_text_to_collections() {
        let topics = ["b", "a.b", "a"].map(|text| Topic::new(text).unwrap());
        assert!(
            topics
                .iter()
                .cloned()
                .collect::<HashSet<_>>()
                .contains("a.b")
        );
        let sorted: BTreeSet<_> = topics.iter().cloned().collect();
        assert_eq!(
            sorted.iter().map(Topic::as_str).collect::<Vec<_>>(),
            ["a", "a.b", "b"]
        );
        assert!(topics[0].ptr_eq(&topics[0].clone()));
        assert!(!topics[0].ptr_eq(&Topic::new("b").unwrap()));
        assert_eq!(topics[0], Topic::new("b").unwrap());
        assert_eq!(
            format!("{:>3}|{:?}", topics[2], topics[2]),
            "  a|Topic(\"a\")"
        );
    }
}
