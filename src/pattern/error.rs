//! The error of parsing a pattern: the rule, the byte, and the alternative of the braces at fault.

use std::convert::Infallible;
use std::fmt;

use super::excerpt::excerpt;
use super::limits::{BRACE_EXPANSIONS_MAX, MQTT_LEVELS_MAX, PATTERN_BYTES_MAX};
use super::syntax::Syntax;

/// A text is not a valid pattern.
///
/// The message names the byte at fault. Bytes are counted from 0, alternatives of braces from 1.
///
/// ```
/// use fanout::{Pattern, PatternRule};
///
/// let error = Pattern::parse("orders.{eu,}.created").unwrap_err();
/// assert_eq!(error.rule(), PatternRule::EmptySegment);
/// assert_eq!(error.offset(), 11);
/// assert_eq!(error.alternative(), Some(2));
/// assert_eq!(
///     error.to_string(),
///     "pattern `orders.{eu,}.created`, byte 11, with alternative 2 of its braces (empty): \
///      a segment must not be empty",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    rule: PatternRule,
    offset: usize,
    syntax: Syntax,
    input: Box<str>,
    alternative: Option<Alternative>,
}

/// The alternative of braces with which an expansion is not a valid pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Alternative {
    /// Counted from 1 within its braces.
    number: usize,
    text: Box<str>,
}

impl PatternError {
    /// The rule that the text breaks.
    ///
    /// ```
    /// use fanout::{Pattern, PatternRule};
    ///
    /// assert_eq!(Pattern::parse("a**").unwrap_err().rule(), PatternRule::GluedDoubleStar);
    /// ```
    #[must_use]
    pub fn rule(&self) -> PatternRule {
        self.rule
    }

    /// The byte at which the text breaks the rule, counted from 0 at its start: 0 to its length.
    ///
    /// ```
    /// assert_eq!(fanout::Pattern::parse("a.[b").unwrap_err().offset(), 2);
    /// ```
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The language in which the text was parsed. The message names it, unless it is the native
    /// one.
    ///
    /// ```
    /// use fanout::{Pattern, Syntax};
    ///
    /// let error = Pattern::parse_as("a/#/b", Syntax::Mqtt).unwrap_err();
    /// assert_eq!(error.syntax(), Syntax::Mqtt);
    /// assert_eq!(
    ///     error.to_string(),
    ///     "mqtt pattern `a/#/b`, byte 2: `#` stands for the rest of the topic and must be last",
    /// );
    /// ```
    #[must_use]
    pub fn syntax(&self) -> Syntax {
        self.syntax
    }

    /// The alternative of the braces at that byte with which the pattern is invalid, counted from
    /// 1; `None` if the error has nothing to do with braces.
    ///
    /// ```
    /// assert_eq!(fanout::Pattern::parse("a{b,*}*").unwrap_err().alternative(), Some(2));
    /// ```
    #[must_use]
    pub fn alternative(&self) -> Option<usize> {
        self.alternative
            .as_ref()
            .map(|alternative| alternative.number)
    }

    pub(super) fn new(rule: PatternRule, offset: usize, text: &str, syntax: Syntax) -> Self {
        debug_assert!(offset <= text.len(), "{offset} is outside of {text:?}");
        PatternError {
            rule,
            offset,
            syntax,
            input: excerpt(text, offset),
            alternative: None,
        }
    }

    pub(super) fn in_alternative(mut self, number: usize, text: &str) -> Self {
        self.alternative = Some(Alternative {
            number,
            text: excerpt(text, 0),
        });
        self
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.syntax != Syntax::Segments {
            write!(f, "{} ", self.syntax)?;
        }
        write!(f, "pattern `{}`, byte {}", self.input, self.offset)?;
        if let Some(Alternative { number, text }) = &self.alternative {
            write!(f, ", with alternative {number} of its braces")?;
            match &**text {
                "" => write!(f, " (empty)")?,
                text => write!(f, " (`{text}`)")?,
            }
        }
        match (self.rule, self.syntax) {
            (PatternRule::RestNotLast, Syntax::Nats) => write!(f, ": `>` {REST_NOT_LAST}"),
            (PatternRule::RestNotLast, Syntax::Mqtt) => write!(f, ": `#` {REST_NOT_LAST}"),
            (rule, _) => write!(f, ": {rule}"),
        }
    }
}

/// The rule, to be preceded by the wildcard.
const REST_NOT_LAST: &str = "stands for the rest of the topic and must be last";

impl std::error::Error for PatternError {}

/// Lets a function that accepts texts and patterns, as `TryInto<Pattern>`, return one error type: a
/// conversion from a pattern cannot fail.
impl From<Infallible> for PatternError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The rules of the pattern languages that a text can break.
///
/// Examples are in the native language, unless another one is named.
///
/// ```
/// use fanout::PatternRule;
///
/// let reversed = PatternRule::ReversedRange.to_string();
/// assert_eq!(reversed, "the end of the range comes before its start");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PatternRule {
    /// The text, or an expansion of its braces, is empty.
    Empty,
    /// The text has more than [`PATTERN_BYTES_MAX`] bytes.
    TooLong,
    /// There is no text before, between or after dots: `a..b`, `.a`, `{a,}.b`.
    EmptySegment,
    /// `**` shares its segment with other text: `a**`, `***`.
    GluedDoubleStar,
    /// Two `*` meet across the edge of braces: `{*,a}*`.
    JoinedDoubleStar,
    /// A class that contains no character: `[]`, or a negated class that excludes all.
    EmptyClass,
    /// A class without its `]`.
    UnclosedClass,
    /// The end of a range comes before its start: `[z-a]`.
    ReversedRange,
    /// A `-` without `\` at the beginning or the end of a class, or twice: `[-a]`, `[a-]`, `[a--]`.
    BareDash,
    /// A `]` without `\` as the first item of a class: `[]a]`.
    LeadingBracket,
    /// A range that begins with the end of another: `[a-b-c]`.
    ChainedRange,
    /// `[:` or `[=`, or an element such as `[.a.]`, which have a meaning in other languages.
    PosixClass,
    /// A dot in a class, escaped or not: no class can match a dot.
    DotInClass,
    /// `\.`: a dot always separates segments.
    EscapedDot,
    /// `{}`.
    EmptyBraces,
    /// Braces with one alternative: `{a}`.
    SingleAlternative,
    /// Braces within braces.
    NestedBraces,
    /// A `{` without its `}`.
    UnclosedBraces,
    /// A `}` without its `{`.
    UnopenedBraces,
    /// The braces multiply to more than [`BRACE_EXPANSIONS_MAX`] expansions.
    TooManyExpansions,
    /// A `\` at the end, where no character follows.
    TrailingBackslash,
    /// A control character (Unicode Cc), escaped or not: no topic contains one.
    Control,
    /// A space, tab, line feed, carriage return or form feed, which NATS refuses.
    WhiteSpace,
    /// The wildcard for the rest of the topic is not last: `>.a` of NATS, `#/a` of MQTT.
    RestNotLast,
    /// A wildcard of MQTT shares its level with other text: `a+`, `##`.
    GluedWildcard,
    /// A filter of MQTT has more than [`MQTT_LEVELS_MAX`] levels.
    TooManyLevels,
    /// The first level of a filter of MQTT is `$share`: shared subscriptions are not supported.
    SharedSubscription,
    /// A code point that Unicode calls a noncharacter, which brokers of MQTT may refuse.
    Noncharacter,
}

impl fmt::Display for PatternRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self {
            PatternRule::Empty => "a pattern must not be empty",
            PatternRule::TooLong => {
                return write!(f, "a pattern has {PATTERN_BYTES_MAX} bytes at most");
            }
            PatternRule::EmptySegment => "a segment must not be empty",
            PatternRule::GluedDoubleStar => "`**` must be a segment of its own",
            PatternRule::JoinedDoubleStar => "`*` and `*` must not meet across braces",
            PatternRule::EmptyClass => "the class contains no character",
            PatternRule::UnclosedClass => "the class has no `]`",
            PatternRule::ReversedRange => "the end of the range comes before its start",
            PatternRule::BareDash => "a `-` that is not part of a range must be written `\\-`",
            PatternRule::LeadingBracket => "a `]` in a class must be written `\\]`",
            PatternRule::ChainedRange => "a range must not begin with the end of another range",
            PatternRule::PosixClass => {
                "`[:`, `[.` and `[=` are not supported: escape the second character"
            }
            PatternRule::DotInClass => "a class cannot match a dot",
            PatternRule::EscapedDot => "a dot separates segments and cannot be escaped",
            PatternRule::EmptyBraces => "the braces are empty",
            PatternRule::SingleAlternative => "braces need at least two alternatives",
            PatternRule::NestedBraces => "braces must not contain braces",
            PatternRule::UnclosedBraces => "the braces have no `}`",
            PatternRule::UnopenedBraces => "the `}` has no `{`",
            PatternRule::TooManyExpansions => {
                return write!(
                    f,
                    "braces multiply to {BRACE_EXPANSIONS_MAX} expansions at most"
                );
            }
            PatternRule::TrailingBackslash => "a `\\` needs a character to escape",
            PatternRule::Control => "a control character is not allowed",
            PatternRule::WhiteSpace => "white space is not allowed",
            PatternRule::RestNotLast => "the wildcard for the rest of the topic must be last",
            PatternRule::GluedWildcard => {
                "`+` and `#` must be a level of their own, and levels are separated by `/`"
            }
            PatternRule::TooManyLevels => {
                return write!(f, "a filter has {MQTT_LEVELS_MAX} levels at most");
            }
            PatternRule::SharedSubscription => "shared subscriptions (`$share`) are not supported",
            PatternRule::Noncharacter => "a Unicode noncharacter is not allowed",
        };
        f.write_str(rule)
    }
}
