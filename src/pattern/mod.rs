//! Topics and patterns: publishers publish events on topics, subscribers select them with
//! patterns.
//!
//! A [`Topic`] is 1 to [`TOPIC_BYTES_MAX`] bytes of text, in segments that are separated by dots. A
//! [`Pattern`] matches some of the topics:
//!
//! | written | matches | for example |
//! | --- | --- | --- |
//! | `a` | this text | `orders.eu` matches `orders.eu` alone |
//! | `*` | any run of characters within a segment, also none | `orders.*` matches `orders.eu`, not `orders` or `orders.eu.created`; `e*` matches `e` and `eu` |
//! | `?` | one character (a Unicode scalar value) within a segment | `v?` matches `v1`; `?*` is exactly one segment |
//! | `[a-cx]`, `[^a-c]`, `[!a-c]` | one character in the class, or not in it; never the dot | `gate-[A-D]*` matches `gate-B7` |
//! | `{eu,us}` | each alternative; it may be empty, contain wildcards and span dots, but neither begin nor end with a dot | `{log,log.eu}.*` matches `log.x` and `log.eu.x` |
//! | `**` | any number of whole segments, also none; anywhere, and more than once | `a.**` matches `a`, `a.b` and `a.b.c` |
//! | `\` | the next character as plain text | `\*` matches a star |
//! | `*` as the whole text | everything; the same as `**`, and printed as `**` | |
//!
//! `]` `,` `!` `^` and `-` are plain text outside of classes and braces; `{` `}` and `,` are plain
//! text inside of classes. Matching is case-sensitive and compares characters as they are.
//!
//! # Other languages
//!
//! The above is the native language, [`Syntax::Segments`]. [`Pattern::parse_as`] parses five
//! others. Each matches exactly what the program in the table matches. Patterns of all
//! languages can be used on one bus and in one index.
//!
//! | [`Syntax`] | as in | wildcards | refuses |
//! | --- | --- | --- | --- |
//! | `Nats` | nats-server 2.10 to 2.12 | `*` one segment, `>` one or more, last; both are plain text within other text | an empty segment, `>` not last, white space |
//! | `Amqp` | RabbitMQ 3.10 to 4 | `*` one segment, `#` any number, anywhere; both are plain text within other text | nothing |
//! | `Mqtt` | mosquitto 2.0.11 | `/` stands for our dot; `+` one segment, `#` any number, last; as the first segment, neither matches a topic that begins with `$` | an empty filter, `+` and `#` elsewhere, `$share`, more than 201 levels, control characters, noncharacters |
//! | `Path` | `path.Match` of Go 1.16 to 1.25 | on the whole topic: `*`, `?` (not `/`), `[a-z]`, `[^a-z]`, `\`; `*` alone and the empty text match everything | what Go calls a bad pattern |
//! | `Redis` | `PSUBSCRIBE` of Redis 7 | on the whole topic, byte by byte: `*`, `?`, `[a-z]`, `[^a-z]`, `\` | nothing |
//!
//! A pattern that the program accepts and that can match no topic of ours (because of an empty
//! segment, a control character, or a dot in a filter of MQTT) is accepted and matches nothing. A
//! pattern of any language has at most [`PATTERN_BYTES_MAX`] bytes.
//!
//! Some details may surprise; they are those of the programs:
//!
//! - NATS: `a*` and `>>` are plain text.
//! - MQTT: `a/#` matches `a`; `a//b`, `/a` and `a.b` match nothing. A filter has
//!   [`MQTT_LEVELS_MAX`] levels at most, as in mosquitto; a topic may have more segments here.
//! - Go: `?` and classes read characters, and stars stop at bytes, so `*[^é]` matches `é`. A star
//!   takes the first position that fits what follows it and does not try another: `*[/b]*c` does
//!   not match `b/c`. `[^a]` matches a slash. `**` is what `*` is in Go: anything without a slash.
//! - Redis: `?` is a byte, so `é` is `??`. `[]` matches nothing, `[^]` matches any byte, a class
//!   may lack its `]`, ranges may run backwards, and bytes beyond ASCII are ordered as signed
//!   bytes, as on x86-64. `!` does not negate, and the empty pattern matches nothing.
//!
//! # What is refused
//!
//! A text that is not in the language is refused when it is parsed. The error names the rule
//! ([`PatternRule`] lists them all) and the byte. A pattern of the native language that is accepted
//! can match some topic; one of another language may match none (see above). Braces multiply to
//! [`BRACE_EXPANSIONS_MAX`] expansions at most, and each expansion must be a valid pattern; two `*`
//! must not meet across a brace, although `**` would be valid.
//!
//! # Canonical form
//!
//! `Display` prints the canonical form. Equality, order and hash follow it, and parsing it gives an
//! equal pattern. In the canonical form, nothing is escaped without need, classes are sorted and
//! merged and negated with `^`, a class of a single character is that character, `?` stands before
//! `*` and `*` before `**` in a run of such segments, and several `**` in a row are one. Equal
//! patterns match the same topics, but not all patterns that match the same topics are equal:
//! alternatives in braces keep their order, and keep `*` and `?` as written. Patterns in two
//! languages are never equal. Each prints in its own language.
//!
//! # Cost
//!
//! A pattern is parsed once, to one list of segments for each different expansion. That takes at
//! most a few milliseconds and megabytes, for 64 expansions of a thousand segments of one letter.
//! Parsing also chooses how the pattern is matched:
//!
//! - with one wildcard at most in each expansion (`a.b`, `a.*.b`, `a.**`, `*.x`, `{a,b}.c*`),
//!   against the whole text at once: two comparisons and at most one search for each expansion;
//! - otherwise segment by segment, in at most (bytes of the pattern) times (bytes of the topic)
//!   steps for each expansion;
//! - where that could be much, with an automaton that keeps its set of states as bits: about twenty
//!   operations for each character of the topic and each 64 bytes of the pattern;
//! - where wildcards cross dots, byte by byte, in at most (bytes of the pattern) times (bytes of
//!   the topic) steps.
//!
//! Matching does not allocate, does not recurse, and does not try a position twice. `cargo bench
//! --bench hostile` searches for the pattern of the native language and the topic that take
//! longest: well below 200 microseconds. Where wildcards cross dots, the longest known match takes
//! about 1 millisecond.
//!
//! [`Pattern::covers`] and [`Pattern::intersects`] compare patterns as sets of topics, exactly,
//! within [`SET_STEPS_MAX`] steps.
//!
//! # Sources of the ideas
//!
//! The restart at the last star is from Russ Cox, "Glob Matching Can Be Simple And Fast Too"
//! (2017), which explains why the textbook recursion takes exponential time. Wildcards for whole
//! segments are from the topic exchanges of AMQP 0-9-1 and the subjects of NATS. Classes and braces
//! are those of the POSIX shells, except for the parts that are easily mistaken (a bare `-` or `]`,
//! equivalence classes), which are refused.

// Each file imports from those that it needs, never from here: so the imports have no cycles.
mod automaton;
mod bytes;
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
mod limits;
mod match_plan;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod naive;
mod parse;
#[expect(
    clippy::module_inception,
    reason = "a file is named after the type in it"
)]
mod pattern;
mod print;
mod route;
#[cfg(feature = "serde")]
mod serialize;
mod sets;
mod shape;
mod syntax;
mod tail;
#[cfg(test)]
pub(crate) mod tests;
mod topic;

pub use self::error::{PatternError, PatternRule};
pub use self::explain::{Expansion, ExplainedPart, Explanation};
pub(crate) use self::glob::Glob;
pub use self::limits::{
    BRACE_EXPANSIONS_MAX, MQTT_LEVELS_MAX, PATTERN_BYTES_MAX, SET_STEPS_MAX, TOPIC_BYTES_MAX,
};
pub use self::pattern::Pattern;
pub(crate) use self::route::{Guard, Route, Segment};
pub use self::sets::TooComplex;
pub use self::syntax::{Syntax, UnknownSyntax};
pub(crate) use self::tail::Tail;
#[cfg(all(test, not(loom)))]
pub(crate) use self::topic::colliding;
pub(crate) use self::topic::hash_text;
pub use self::topic::{Segments, Topic, TopicError};
