//! Topics and patterns: what events are published on, and what subscribers ask for.
//!
//! A [`Topic`] is 1 to [`TOPIC_BYTES_MAX`] bytes of text in segments separated by dots. A
//! [`Pattern`] says which topics it wants:
//!
//! | written | matches | for example |
//! | --- | --- | --- |
//! | `a` | this text | `orders.eu` matches `orders.eu` alone |
//! | `*` | any run of characters within a segment, also none | `orders.*` matches `orders.eu`, not `orders` or `orders.eu.created`; `e*` matches `e` and `eu` |
//! | `?` | one character (a Unicode scalar value) within a segment | `v?` matches `v1`; `?*` is exactly one segment |
//! | `[a-cx]`, `[^a-c]`, `[!a-c]` | one character in the class, or not in it; never the dot | `gate-[A-D]*` matches `gate-B7` |
//! | `{eu,us}` | each alternative; they may be empty, hold wildcards and span dots, but neither begin nor end with one | `{log,log.eu}.*` matches `log.x` and `log.eu.x` |
//! | `**` | any number of whole segments, none too; anywhere, any number of times | `a.**` matches `a`, `a.b` and `a.b.c` |
//! | `\` | takes the meaning from the character behind it | `\*` matches a star |
//! | `*` as the whole text | everything; the same as `**`, and printed so | |
//!
//! `]` `,` `!` `^` and `-` are plain outside of classes and braces, and `{` `}` and `,` inside of
//! classes. Matching is case-sensitive and compares characters as they are.
//!
//! # Other languages
//!
//! The above is the native language, [`Syntax::Segments`]. [`Pattern::parse_as`] reads five others,
//! each to the letter of a program that people know it from; patterns of all of them live on one
//! bus and in one index.
//!
//! | [`Syntax`] | as in | wildcards | refuses |
//! | --- | --- | --- | --- |
//! | `Nats` | nats-server 2.10 to 2.12 | `*` one segment, `>` one or more, last; within other text both are plain | an empty segment, `>` not last, white space |
//! | `Amqp` | RabbitMQ 3.10 to 4 | `*` one segment, `#` any number, anywhere; within other text both are plain | nothing |
//! | `Mqtt` | mosquitto 2.0.11 | `/` stands for our dot; `+` one segment, `#` any number, last; neither matches in front where the topic begins with `$` | an empty filter, `+` and `#` elsewhere, `$share`, more than 201 levels, control characters, noncharacters |
//! | `Path` | `path.Match` of Go 1.16 to 1.25 | on the whole topic: `*`, `?` (not `/`), `[a-z]`, `[^a-z]`, `\`; `*` alone and the empty text are everything | what Go calls a bad pattern |
//! | `Redis` | `PSUBSCRIBE` of Redis 7 | on the whole topic, byte by byte: `*`, `?`, `[a-z]`, `[^a-z]`, `\` | nothing |
//!
//! Where the program accepts what can match no topic of ours (an empty segment, a control
//! character, a dot in a filter of MQTT), the pattern is accepted and matches nothing. All have at
//! most [`PATTERN_BYTES_MAX`] bytes.
//!
//! Some odd corners, which are theirs:
//!
//! - NATS: `a*` and `>>` are plain text.
//! - MQTT: `a/#` matches `a`; `a//b`, `/a` and `a.b` match nothing. A filter has [`MQTT_LEVELS_MAX`] levels at most,
//!   as mosquitto has it; a topic may have more here.
//! - Go: `?` and classes see characters, and stars stop at bytes, so `*[^é]` matches `é`. A star
//!   takes the first place that fits what follows it and is not tried again: `*[/b]*c` does not
//!   match `b/c`. `[^a]` matches a slash. `**` is what `*` is in Go: anything without a slash.
//! - Redis: `?` is a byte, so `é` is `??`. `[]` matches nothing, `[^]` any byte, a class may lack its
//!   `]`, ranges may run backwards, and beyond ASCII they are ordered as signed bytes, as on x86-64.
//!   `!` does not negate, and the empty pattern matches nothing.
//!
//! # What is refused
//!
//! A text that is not in the language is refused when it is parsed, with the rule
//! ([`PatternRule`], which lists them all) and the byte: a pattern that is accepted can match some
//! topic. Braces multiply to [`BRACE_EXPANSIONS_MAX`] expansions at most, each of which must be a
//! valid pattern of its own; two `*` must not meet across a brace, though `**` would be one.
//!
//! # Canonical form
//!
//! `Display` prints it; equality, order and hash follow it, and parsing it gives the same pattern.
//! It has no escape that is not needed, `^` for negation, sorted and merged classes (one of a
//! single character is that character), `?` before `*`, `*` before `**` in a run of such segments,
//! and one `**` for several. Equal patterns match the same topics; not all patterns that match
//! the same topics are equal: several alternatives in braces keep their order, and keep `*` and
//! `?` as written. Patterns in two languages are never equal; each prints in its own.
//!
//! # Cost
//!
//! A pattern is parsed once, to one list of segments for each different expansion: at most a few
//! milliseconds and megabytes, for 64 expansions of a thousand one-letter segments. How it is
//! matched is chosen then, too:
//!
//! - with one wildcard at most in each expansion (`a.b`, `a.*.b`, `a.**`, `*.x`, `{a,b}.c*`), against the whole text at
//!   once: two comparisons and at most one search for each expansion;
//! - else segment by segment, in at most (bytes of the pattern) times (bytes of the topic) steps
//!   for each expansion;
//! - where that could be much, by an automaton that keeps all places that the topic may have come
//!   to as bits: some twenty operations for each character of the topic and each 64 bytes of the pattern,
//!   whatever the pattern;
//! - where wildcards cross dots, byte by byte, in at most (bytes of the pattern) times (bytes of the topic) steps.
//!
//! Matching does not allocate, recurse or try a place twice. `cargo bench --bench hostile` looks for the pattern and
//! the topic that take longest: well below 200 microseconds, and below 1 millisecond where wildcards cross dots.
//!
//! [`Pattern::covers`] and [`Pattern::intersects`] compare patterns as sets of topics, exactly, within
//! [`SET_STEPS_MAX`] steps.
//!
//! # Sources of the ideas
//!
//! The restart at the last star is from Russ Cox, "Glob Matching Can Be Simple And Fast Too"
//! (2017), which tells why the textbook recursion is exponential; whole-segment wildcards are from
//! the topic exchanges of AMQP 0-9-1 and the subjects of NATS; classes and braces are those of the
//! POSIX shells, with the traps of these (a bare `-` or `]`, equivalence classes) refused.

mod automaton;
mod charset;
mod class;
mod dialect;
mod error;
mod excerpt;
mod explain;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod glob;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod naive;
mod parse;
mod plan;
mod print;
mod route;
#[cfg(feature = "serde")]
mod serialize;
mod sets;
#[cfg(test)]
mod sets_tests;
mod shape;
mod syntax;
mod tail;
#[cfg(test)]
pub(crate) mod tests;
mod topic;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

pub use self::error::{PatternError, PatternRule};
pub use self::explain::{Expansion, ExplainedPart, Explanation};
pub(crate) use self::glob::Glob;
use self::plan::Plan;
pub(crate) use self::route::{Guard, Route, Segment};
pub use self::sets::{SET_STEPS_MAX, TooComplex};
pub use self::syntax::{Syntax, UnknownSyntax};
pub(crate) use self::tail::Tail;
#[cfg(all(test, not(loom)))]
pub(crate) use self::topic::colliding;
pub(crate) use self::topic::hash_text;
pub use self::topic::{Segments, TOPIC_BYTES_MAX, Topic, TopicError};

/// The longest pattern, in bytes of UTF-8.
///
/// ```
/// use fanout::{Pattern, pattern::PATTERN_BYTES_MAX};
///
/// assert!(Pattern::parse(&"x".repeat(PATTERN_BYTES_MAX)).is_ok());
/// assert!(Pattern::parse(&"x".repeat(PATTERN_BYTES_MAX + 1)).is_err());
/// ```
pub const PATTERN_BYTES_MAX: usize = 1024;

/// How many expansions the braces of a pattern may multiply to.
///
/// ```
/// use fanout::{Pattern, pattern::BRACE_EXPANSIONS_MAX};
///
/// assert_eq!(BRACE_EXPANSIONS_MAX, 4 * 4 * 4);
/// assert!(Pattern::parse("{a,b,c,d}.{a,b,c,d}.{a,b,c,d}").is_ok());
/// assert!(Pattern::parse("{a,b,c,d}.{a,b,c,d}.{a,b,c,d,e}").is_err());
/// ```
pub const BRACE_EXPANSIONS_MAX: usize = 64;

/// How many levels a filter of [`Syntax::Mqtt`] has at most: mosquitto refuses more than 200 `/`.
///
/// ```
/// use fanout::{Pattern, PatternRule, Syntax, pattern::MQTT_LEVELS_MAX};
///
/// let filter = |levels| Pattern::parse_as(&vec!["+"; levels].join("/"), Syntax::Mqtt);
/// assert!(filter(MQTT_LEVELS_MAX).is_ok());
/// let error = filter(MQTT_LEVELS_MAX + 1).unwrap_err();
/// assert_eq!(error.rule(), PatternRule::TooManyLevels);
/// ```
pub const MQTT_LEVELS_MAX: usize = 201;

/// Which topics a subscriber wants; the [module](self) describes the language.
///
/// A clone is one reference count. Equality, order and hash follow the canonical form; patterns
/// in different languages are never equal, though they may match the same topics.
///
/// ```
/// use fanout::{Pattern, Topic};
///
/// let pattern = Pattern::parse("orders.{eu,us}.**")?;
/// assert!(pattern.matches(&Topic::new("orders.eu.created")?));
/// assert!(pattern.matches(&Topic::new("orders.us")?));
/// assert!(!pattern.matches(&Topic::new("orders.asia.created")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Pattern(Arc<Inner>);

struct Inner {
    syntax: Syntax,
    /// As written.
    text: Box<str>,
    /// `None` if it is the text.
    canonical: Option<Box<str>>,
    /// The different expansions; at least one.
    routes: Box<[Route]>,
    plan: Plan,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// [`PatternError`] names the rule that `text` breaks, and the byte where it does.
    ///
    /// ```
    /// use fanout::{Pattern, PatternRule};
    ///
    /// assert!(Pattern::parse("flights.[A-D]*.**").is_ok());
    /// let error = Pattern::parse("flights.[D-A]*.**").unwrap_err();
    /// assert_eq!((error.rule(), error.offset()), (PatternRule::ReversedRange, 9));
    /// ```
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Pattern::parse_as(text, Syntax::Segments)
    }

    /// Reads a pattern of another language.
    ///
    /// # Errors
    ///
    /// [`PatternError`] names the rule of that language that `text` breaks, and the byte.
    ///
    /// ```
    /// use fanout::{Pattern, Syntax, Topic};
    ///
    /// let topic = Topic::new("orders.eu.created")?;
    /// for (text, syntax) in [
    ///     ("orders.>", Syntax::Nats),
    ///     ("#.created", Syntax::Amqp),
    ///     ("orders/+/created", Syntax::Mqtt),
    ///     ("orders.*", Syntax::Path),
    ///     ("o[a-z]ders.*ed", Syntax::Redis),
    /// ] {
    ///     assert!(Pattern::parse_as(text, syntax)?.matches(&topic));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse_as(text: &str, syntax: Syntax) -> Result<Self, PatternError> {
        let compiled = dialect::compile(text, syntax, false)?;
        Ok(Pattern::new(text, syntax, compiled))
    }

    /// Reads what [`as_str`](Self::as_str) of a pattern said, which may be longer than others: see
    /// [`exact`](Self::exact).
    pub(crate) fn parse_again(text: &str, syntax: Syntax) -> Self {
        let compiled = dialect::compile(text, syntax, true).expect("it was a pattern before");
        Pattern::new(text, syntax, compiled)
    }

    /// The pattern that matches `topic` and no other topic.
    ///
    /// Where the topic holds wildcard characters, they are escaped; this is the one way to a
    /// pattern with a text of more than [`PATTERN_BYTES_MAX`] bytes (at most twice as many).
    ///
    /// ```
    /// use fanout::{Pattern, Topic};
    ///
    /// let pattern = Pattern::exact(&Topic::new("rates.USD*")?);
    /// assert_eq!(pattern.as_str(), "rates.USD\\*");
    /// assert!(!pattern.matches(&Topic::new("rates.USDT")?));
    /// # Ok::<(), fanout::TopicError>(())
    /// ```
    #[must_use]
    pub fn exact(topic: &Topic) -> Self {
        let segments = topic
            .segments()
            .map(|text| Segment::Literal(text.into()))
            .collect();
        let parsed = parse::Parsed {
            parts: Vec::new(),
            routes: vec![Route::new(segments)],
        };
        let canonical = print::canonical(&parsed);
        let compiled = dialect::Compiled {
            canonical: canonical.clone(),
            routes: parsed.routes,
        };
        Pattern::new(&canonical, Syntax::Segments, compiled)
    }

    /// `text` with its wildcard characters escaped, also for use within braces; dots stay what
    /// they are.
    ///
    /// ```
    /// use fanout::Pattern;
    ///
    /// let customer = "a*,b";
    /// let pattern = Pattern::parse(&format!("orders.{}.*", Pattern::escape(customer)))?;
    /// assert_eq!(pattern.as_str(), r"orders.a\*\,b.*");
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    #[must_use]
    pub fn escape(text: &str) -> String {
        print::escape(text)
    }

    /// The language that it was written in.
    ///
    /// ```
    /// use fanout::{Pattern, Syntax};
    ///
    /// assert_eq!(Pattern::parse("a.*")?.syntax(), Syntax::Segments);
    /// assert_eq!(Pattern::parse_as("a.*", Syntax::Nats)?.syntax(), Syntax::Nats);
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    #[must_use]
    pub fn syntax(&self) -> Syntax {
        self.0.syntax
    }

    /// The text as it was written; `Display` prints the canonical form.
    ///
    /// ```
    /// let pattern = fanout::Pattern::parse("a.[!ba]")?;
    /// assert_eq!(pattern.as_str(), "a.[!ba]");
    /// assert_eq!(pattern.to_string(), "a.[^ab]");
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether the whole of `topic` matches. Does not allocate; the [module](self) tells the cost.
    ///
    /// ```
    /// use fanout::{Pattern, Topic};
    ///
    /// let pattern: Pattern = "flights.*.JFK".parse()?;
    /// assert!(pattern.matches(&Topic::new("flights.SFO.JFK")?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        self.matches_checked(topic.as_str())
    }

    /// Whether the whole of `text` matches, which must be a topic: a [`Topic`] need not be made for
    /// one question. Does not allocate.
    ///
    /// # Errors
    ///
    /// [`TopicError`] names the rule of topics that `text` breaks, and the byte where it does.
    ///
    /// ```
    /// let pattern = fanout::Pattern::parse("flights.*.JFK")?;
    /// assert_eq!(pattern.matches_text("flights.SFO.JFK"), Ok(true));
    /// assert_eq!(pattern.matches_text("flights.SFO"), Ok(false));
    /// assert_eq!(pattern.matches_text("flights..JFK").unwrap_err().offset(), 8);
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    pub fn matches_text(&self, text: &str) -> Result<bool, TopicError> {
        topic::check(text)?;
        Ok(self.matches_checked(text))
    }

    /// Whether the topic of this text matches.
    fn matches_checked(&self, topic: &str) -> bool {
        let Inner {
            text, routes, plan, ..
        } = &*self.0;
        plan.matches(text, routes, topic)
    }

    /// The different expansions; at least one.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.0.routes
    }

    /// What makes it equal to others.
    fn key(&self) -> (Syntax, &str) {
        (self.syntax(), self.canonical())
    }

    /// The canonical text.
    pub(crate) fn canonical(&self) -> &str {
        self.0.canonical.as_deref().unwrap_or(&self.0.text)
    }

    fn new(text: &str, syntax: Syntax, compiled: dialect::Compiled) -> Self {
        let dialect::Compiled { canonical, routes } = compiled;
        let canonical = (canonical != text).then(|| canonical.into());
        Pattern(Arc::new(Inner {
            syntax,
            text: text.into(),
            canonical,
            plan: Plan::new(text, &routes),
            routes: routes.into(),
        }))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.key() == other.key()
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// The canonical form.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.canonical())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("Pattern");
        tuple.field(&self.as_str());
        if self.syntax() != Syntax::Segments {
            tuple.field(&self.syntax());
        }
        tuple.finish()
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Pattern::parse(text)
    }
}

impl TryFrom<&str> for Pattern {
    type Error = PatternError;

    fn try_from(text: &str) -> Result<Self, PatternError> {
        Pattern::parse(text)
    }
}

/// A clone.
impl From<&Pattern> for Pattern {
    fn from(pattern: &Pattern) -> Self {
        pattern.clone()
    }
}
