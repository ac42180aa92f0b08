//! [`Pattern`]: a text that is parsed once, with the plan to match it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use super::dialect;
use super::error::PatternError;
use super::match_plan::MatchPlan;
use super::parse;
use super::print;
use super::route::{Route, Segment};
use super::syntax::Syntax;
use super::topic::{self, Topic, TopicError};

/// The topics that a subscriber receives; the [module](crate::pattern) describes the language.
///
/// A clone costs one reference count. Equality, order and hash follow the canonical form; patterns
/// in different languages are never equal, although they may match the same topics.
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
    /// `None` if it is equal to the text.
    canonical: Option<Box<str>>,
    /// The different expansions: at least one.
    routes: Box<[Route]>,
    plan: MatchPlan,
}

impl Pattern {
    /// Parses a pattern of the native language.
    ///
    /// # Errors
    ///
    /// [`PatternError`] names the rule that `text` breaks, and the byte at which it breaks it.
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

    /// Parses a pattern of the language `syntax`.
    ///
    /// # Errors
    ///
    /// [`PatternError`] names the rule of that language that `text` breaks, and the byte at which
    /// it breaks it.
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

    /// Parses the text of a pattern once more. The text may be longer than
    /// [`PATTERN_BYTES_MAX`](super::PATTERN_BYTES_MAX): see [`exact`](Self::exact).
    pub(crate) fn parse_again(text: &str, syntax: Syntax) -> Self {
        let compiled = dialect::compile(text, syntax, true).expect("it was a pattern before");
        Pattern::new(text, syntax, compiled)
    }

    /// The pattern that matches `topic` and no other topic.
    ///
    /// Wildcard characters in the topic are escaped. Only such a pattern may have a text of more
    /// than [`PATTERN_BYTES_MAX`](crate::pattern::PATTERN_BYTES_MAX) bytes, at most twice as many.
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

    /// `text` with its wildcard characters escaped, so that it can be a part of a pattern of the
    /// native language, also within braces. Dots are not escaped.
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

    /// The language that the pattern is written in.
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

    /// The text as it was written. `Display` prints the canonical form.
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

    /// Whether the whole of `topic` matches. Does not allocate; the [module](crate::pattern)
    /// states the cost.
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

    /// Whether the whole of `text`, which must be a valid topic, matches. Unlike
    /// [`matches`](Self::matches) this needs no [`Topic`], and does not allocate.
    ///
    /// # Errors
    ///
    /// [`TopicError`] names the rule of topics that `text` breaks, and the byte at which it breaks
    /// it.
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

    /// Whether the text, which is known to be a topic, matches.
    fn matches_checked(&self, topic: &str) -> bool {
        let Inner {
            text, routes, plan, ..
        } = &*self.0;
        plan.matches(text, routes, topic)
    }

    /// The different expansions: at least one.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.0.routes
    }

    /// Equal patterns have equal keys.
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
            plan: MatchPlan::new(text, &routes),
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

/// Prints the canonical form.
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

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        Pattern::parse(&text)
    }
}

impl TryFrom<&String> for Pattern {
    type Error = PatternError;

    fn try_from(text: &String) -> Result<Self, PatternError> {
        Pattern::parse(text)
    }
}

/// The [exact](Pattern::exact) pattern of the topic.
///
/// ```
/// use fanout::{Pattern, Topic};
///
/// let topic = Topic::new("rates.USD*")?;
/// assert_eq!(Pattern::from(&topic), Pattern::exact(&topic));
/// # Ok::<(), fanout::TopicError>(())
/// ```
impl From<&Topic> for Pattern {
    fn from(topic: &Topic) -> Self {
        Pattern::exact(topic)
    }
}

/// The [exact](Pattern::exact) pattern of the topic.
impl From<Topic> for Pattern {
    fn from(topic: Topic) -> Self {
        Pattern::exact(&topic)
    }
}

/// Clones the pattern.
impl From<&Pattern> for Pattern {
    fn from(pattern: &Pattern) -> Self {
        pattern.clone()
    }
}
