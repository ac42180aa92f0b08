//! The meaning of a pattern in words, for people who wonder why a topic matches.
//!
//! An [`Explanation`] describes what the matcher compares, and not what the text looks like: a
//! wildcard that is plain text where it stands is explained as text, braces are multiplied out, and
//! a part that can match no topic is said to match nothing. Making an explanation allocates, and
//! takes time in proportion to the length of the pattern for each expansion.
//!
//! The parts have the text that the user wrote, because the routes are simplified: their spelling
//! may be one that the user cannot know. The two languages on whole topics are the exception.

use std::fmt::{self, Write};

use super::charset::ByteSet;
use super::dialect::path;
use super::glob::{Atom, Glob, Piece};
use super::parse;
use super::pattern::Pattern;
use super::route::{Guard, Route, Segment};
use super::syntax::Syntax;
use super::tail::{self, Star, Tail};
use super::topic::Topic;

/// The meaning of a pattern in words, made by [`Pattern::explain`]. `Display` prints it in lines.
///
/// ```
/// use fanout::{Pattern, Syntax};
///
/// let explanation = Pattern::parse_as("orders/+/#", Syntax::Mqtt)?.explain();
/// assert_eq!(
///     explanation.to_string(),
///     "\
/// pattern    orders/+/#
/// syntax     mqtt
/// canonical  orders/+/#
///
///   orders  this text
///   +       any one segment
///   ##       any number of segments, also none
/// ",
/// );
/// # Ok::<(), fanout::PatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The text as it was written.
    pub written: String,
    /// The language of the pattern.
    pub syntax: Syntax,
    /// The canonical text, which equal patterns have in common.
    pub canonical: String,
    /// The expansions of the braces, at least one. A topic matches the pattern if it matches one of
    /// them.
    pub expansions: Vec<Expansion>,
}

/// One of the expansions of a pattern.
///
/// ```
/// let explanation = fanout::Pattern::parse("{a,b}.*")?.explain();
/// let second = &explanation.expansions[1];
/// let texts: Vec<_> = second.parts.iter().map(|part| &*part.text).collect();
/// assert_eq!(texts, ["b", "*"]);
/// # Ok::<(), fanout::PatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expansion {
    /// A condition on the topic as a whole, if there is one.
    pub guard: Option<String>,
    /// The parts that the segments of the topic must match, in order, with a dot between two.
    pub parts: Vec<ExplainedPart>,
    /// The parts that the rest of the topic behind these segments must match, in order. The rest is
    /// at least one segment, and its dots are plain characters. If this is empty, nothing may
    /// follow the segments.
    pub tail: Vec<ExplainedPart>,
}

/// A part of a pattern, and its meaning.
///
/// ```
/// let explanation = fanout::Pattern::parse("gate-[A-D]*")?.explain();
/// let part = &explanation.expansions[0].parts[0];
/// assert_eq!(part.text, "gate-[A-D]*");
/// assert_eq!(
///     part.meaning,
///     "the text `gate-`, one character of `[A-D]`, any run of characters",
/// );
/// # Ok::<(), fanout::PatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedPart {
    /// The part as it was written, control characters escaped. In the languages
    /// [`Path`](Syntax::Path) and [`Redis`](Syntax::Redis), its canonical spelling.
    ///
    /// ```
    /// let explanation = fanout::Pattern::parse("{a,b}.?*")?.explain();
    /// let last = &explanation.expansions[1].parts[1];
    /// assert_eq!((&*last.text, &*last.meaning), ("?*", "any one segment"));
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    pub text: String,
    /// What the part matches, in words.
    pub meaning: String,
}

impl Pattern {
    /// The meaning of the pattern in words.
    ///
    /// ```
    /// use fanout::{Pattern, Syntax};
    ///
    /// let explanation = Pattern::parse_as("a>.b", Syntax::Nats)?.explain();
    /// let first = &explanation.expansions[0].parts[0];
    /// assert_eq!((&*first.text, &*first.meaning), ("a>", "this text"));
    /// # Ok::<(), fanout::PatternError>(())
    /// ```
    #[must_use]
    pub fn explain(&self) -> Explanation {
        let (text, syntax) = (self.as_str(), self.syntax());
        let expansions = match syntax {
            Syntax::Segments => native(text, self.routes()),
            _ => {
                let routes = self.routes().iter();
                routes.map(|route| foreign(text, route, syntax)).collect()
            }
        };
        Explanation {
            written: text.to_owned(),
            syntax,
            canonical: self.canonical().to_owned(),
            expansions,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pattern    {}", shown(&self.written))?;
        writeln!(f, "syntax     {}", self.syntax)?;
        write!(f, "canonical  {}", shown(&self.canonical))?;
        if self.canonical != self.written {
            write!(f, "  (another spelling, for the same topics)")?;
        }
        writeln!(f)?;
        let count = self.expansions.len();
        for (number, expansion) in (1..).zip(&self.expansions) {
            writeln!(f)?;
            if count > 1 {
                writeln!(f, "expansion {number} of {count}")?;
            }
            write!(f, "{expansion}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Expansion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(guard) = &self.guard {
            writeln!(f, "  {guard}")?;
        }
        let all = self.parts.iter().chain(&self.tail);
        let width = all.map(|part| part.text.chars().count()).max().unwrap_or(0);
        for part in &self.parts {
            writeln!(f, "  {:width$}  {}", part.text, part.meaning)?;
        }
        if !self.tail.is_empty() {
            let what = match self.parts.is_empty() {
                true => "the whole topic, in which a dot is a plain character:",
                false => "the rest, at least one segment, in which a dot is a plain character:",
            };
            writeln!(f, "  {what}")?;
        }
        for part in &self.tail {
            writeln!(f, "  {:width$}  {}", part.text, part.meaning)?;
        }
        Ok(())
    }
}

/// The expansions of a pattern of the native language. Expansions that mean the same are explained
/// once, as they are compiled once: to `routes`.
fn native(text: &str, routes: &[Route]) -> Vec<Expansion> {
    let expansion = |parts| Expansion {
        guard: None,
        parts,
        tail: Vec::new(),
    };
    if text == "*" {
        let meaning = "any number of segments: every topic matches";
        return vec![expansion(vec![part(text, meaning)])];
    }
    let mut known = Vec::new();
    let mut expansions = Vec::new();
    for written in parse::expansions(text) {
        // Every dot separates segments: classes contain none, and none can be escaped.
        let segments: Vec<_> = written
            .split('.')
            .map(|segment| (segment, native_segment(segment)))
            .collect();
        let route = Route::new(segments.iter().map(|(_, parsed)| parsed.clone()).collect());
        if known.contains(&route) {
            continue;
        }
        known.push(route);
        let parts = segments
            .iter()
            .map(|(written, segment)| explain_segment(written, segment));
        expansions.push(expansion(parts.collect()));
    }
    debug_assert_eq!(known, routes, "{text}");
    expansions
}

/// A segment of an expansion. A single `*` is any one segment here.
fn native_segment(text: &str) -> Segment {
    match text {
        "*" => Segment::Any,
        _ => {
            let parsed = parse::parse(text).expect("a segment of a valid pattern is valid");
            parsed.routes[0].segments()[0].clone()
        }
    }
}

/// The only expansion of a pattern of another language.
fn foreign(text: &str, route: &Route, syntax: Syntax) -> Expansion {
    let guard = match route.guard() {
        Guard::Open => None,
        Guard::NoDollar => Some("the topic must not begin with `$`"),
    };
    Expansion {
        guard: guard.map(str::to_owned),
        parts: match syntax {
            Syntax::Nats => words(text, '.', "*", ">"),
            Syntax::Amqp => words(text, '.', "*", "#"),
            Syntax::Mqtt => words(text, '/', "+", "#"),
            _ => head(route.segments()),
        },
        tail: route.tail().map_or_else(Vec::new, |tail| tail_parts(tail)),
    }
}

/// The parts of a pattern whose wildcards are whole words: `any` is one segment, `many` several.
fn words(text: &str, separator: char, any: &str, many: &str) -> Vec<ExplainedPart> {
    let words = text.split(separator).map(|word| match word {
        ">" if word == many => part(word, "one or more segments"),
        _ if word == many => explain_segment(word, &Segment::Many),
        _ if word == any => explain_segment(word, &Segment::Any),
        _ => explain_segment(word, &Segment::Literal(word.into())),
    });
    words.collect()
}

/// The segments of a pattern on the whole topic, in front of its tail. They are plain text, except
/// a star at the end, which stands for segments if there is no tail.
fn head(segments: &[Segment]) -> Vec<ExplainedPart> {
    let (texts, star) = match segments {
        [Segment::Many] => (&[][..], Some("every topic matches")),
        [texts @ .., Segment::Any, Segment::Many] => (texts, Some("one or more segments")),
        texts => (texts, None),
    };
    let explained = texts.iter().map(|segment| match segment {
        Segment::Literal(text) => explain_segment(text, segment),
        other => unreachable!("a segment in front of a tail is plain text: {other:?}"),
    });
    explained
        .chain(star.map(|meaning| part("*", meaning)))
        .collect()
}

fn explain_segment(written: &str, segment: &Segment) -> ExplainedPart {
    match segment {
        Segment::Literal(text) => literal(written, text),
        Segment::Any => part(written, "any one segment"),
        Segment::Many => part(written, "any number of segments, also none"),
        Segment::Glob(glob) => part(written, &glob_meaning(glob)),
    }
}

fn literal(written: &str, text: &str) -> ExplainedPart {
    let is_segment = Topic::new(text).is_ok() && !text.contains('.');
    let meaning = match (is_segment, text) {
        (true, _) if written != text => return part(written, &format!("the text `{text}`")),
        (true, _) => "this text",
        (false, "") => "an empty segment, which no topic has: nothing matches",
        (false, _) => "this text, which no topic has as a segment: nothing matches",
    };
    part(written, meaning)
}

fn glob_meaning(glob: &Glob) -> String {
    let mut words = Vec::new();
    glob_words(&glob.head, &mut words);
    for piece in &glob.rest {
        words.push("any run of characters".to_owned());
        glob_words(piece, &mut words);
    }
    words.join(", ")
}

fn glob_words(piece: &Piece, words: &mut Vec<String>) {
    words.extend(piece.iter().map(|atom| match atom {
        Atom::Text(text) => format!("the text `{text}`"),
        Atom::One => "any one character".to_owned(),
        Atom::Class(class) => format!("one character of `{class}`"),
    }));
}

fn tail_parts(tail: &Tail) -> Vec<ExplainedPart> {
    let mut parts = Vec::new();
    let head = String::from_utf8_lossy(tail.head());
    if !head.is_empty() {
        parts.push(part(&head, "this text"));
    }
    let star = match tail.star() {
        Star::Anything => "any run of bytes, also none",
        Star::NoSlash => "any run of characters but `/`, also none",
    };
    for (number, atoms) in tail.chunks().enumerate() {
        if number > 0 {
            parts.push(part("*", star));
        }
        parts.extend(atoms.iter().map(|atom| match atom {
            tail::Atom::Text(text) => part(text, "this text"),
            tail::Atom::Bytes(count) => match count {
                1 => part("?", "any one byte"),
                _ => part(&"?".repeat(*count), &format!("any {count} bytes")),
            },
            tail::Atom::ByteSet(set) => byte_set(set),
            tail::Atom::Char => part("?", "any one character but `/`"),
            tail::Atom::CharSet(set) => part(&path::print(set), "one character of this class"),
        }));
    }
    parts
}

/// Lists the bytes in the set, or those that are not in it if these are fewer.
fn byte_set(set: &ByteSet) -> ExplainedPart {
    let in_set = (0..=u8::MAX).filter(|&byte| set.contains(byte)).count();
    let (listed, text, meaning) = match in_set {
        0 => return part("[]", "one byte of an empty class: nothing matches"),
        1..=128 => (set.clone(), "[", "one of these bytes"),
        _ => (set.complement(), "[^", "one byte, but none of these"),
    };
    let mut text = text.to_owned();
    for (low, high) in listed.runs() {
        write_byte(&mut text, low);
        if low < high {
            text.push('-');
            write_byte(&mut text, high);
        }
    }
    text.push(']');
    part(&text, meaning)
}

fn write_byte(text: &mut String, byte: u8) {
    match byte {
        b'\\' | b']' | b'-' | b'^' => text.extend(['\\', char::from(byte)]),
        b' '..=b'~' => text.push(char::from(byte)),
        _ => write!(text, "\\x{byte:02x}").expect("writing to a string succeeds"),
    }
}

fn part(text: &str, meaning: &str) -> ExplainedPart {
    ExplainedPart {
        text: shown(text),
        meaning: shown(meaning),
    }
}

fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(text: &str, syntax: Syntax) -> Vec<Vec<String>> {
        let explanation = Pattern::parse_as(text, syntax).expect(text).explain();
        assert!(!explanation.to_string().contains('\t'), "{explanation}");
        let expansions = explanation.expansions.iter();
        expansions
            .map(|expansion| {
                let all = expansion.parts.iter().chain(&expansion.tail);
                let lines = all.map(|part| format!("{} = {}", part.text, part.meaning));
                expansion.guard.clone().into_iter().chain(lines).collect()
            })
            .collect()
    }

    #[test]
    fn every_kind_of_part_has_a_meaning() {
        for (text, syntax, expected) in [
            (
                "*",
                Syntax::Segments,
                &["* = any number of segments: every topic matches"][..],
            ),
            (
                "**.*.**",
                Syntax::Segments,
                &[
                    "** = any number of segments, also none",
                    "* = any one segment",
                    "** = any number of segments, also none",
                ],
            ),
            ("?*", Syntax::Segments, &["?* = any one segment"]),
            (
                "a.*?.[b]",
                Syntax::Segments,
                &[
                    "a = this text",
                    "*? = any one segment",
                    "[b] = the text `b`",
                ],
            ),
            (
                "\\*.b",
                Syntax::Segments,
                &["\\* = the text `*`", "b = this text"],
            ),
            (
                "a*?",
                Syntax::Segments,
                &["a*? = the text `a`, any one character, any run of characters"],
            ),
            (
                "a.>",
                Syntax::Nats,
                &["a = this text", "> = one or more segments"],
            ),
            (
                "*.>",
                Syntax::Nats,
                &["* = any one segment", "> = one or more segments"],
            ),
            (
                "a\u{1}",
                Syntax::Nats,
                &["a\\u{1} = this text, which no topic has as a segment: nothing matches"],
            ),
            (
                "#.a*",
                Syntax::Amqp,
                &["# = any number of segments, also none", "a* = this text"],
            ),
            (
                "#.*.#",
                Syntax::Amqp,
                &[
                    "# = any number of segments, also none",
                    "* = any one segment",
                    "# = any number of segments, also none",
                ],
            ),
            (".", Syntax::Amqp, &[]),
            (
                "+",
                Syntax::Mqtt,
                &["the topic must not begin with `$`", "+ = any one segment"],
            ),
            (
                "a.b",
                Syntax::Mqtt,
                &["a.b = this text, which no topic has as a segment: nothing matches"],
            ),
            (
                "a.b*?[^/]\\*",
                Syntax::Path,
                &[
                    "a = this text",
                    "b = this text",
                    "* = any run of characters but `/`, also none",
                    "? = any one character but `/`",
                    "[^/] = one character of this class",
                    "* = this text",
                ],
            ),
            (
                "??*[a-c][^-x][é]",
                Syntax::Redis,
                &[
                    "?? = any 2 bytes",
                    "* = any run of bytes, also none",
                    "[a-c] = one of these bytes",
                    "[^\\-x] = one byte, but none of these",
                    "[\\xa9\\xc3] = one of these bytes",
                ],
            ),
            (
                "a.**",
                Syntax::Redis,
                &["a = this text", "* = one or more segments"],
            ),
            ("*", Syntax::Redis, &["* = every topic matches"]),
            ("*", Syntax::Path, &["* = every topic matches"]),
            (
                "[]",
                Syntax::Redis,
                &["[] = one byte of an empty class: nothing matches"],
            ),
        ] {
            if expected.is_empty() {
                let empty = "an empty segment, which no topic has: nothing matches";
                assert!(explained(text, syntax)[0][0].ends_with(empty), "{text}");
            } else {
                assert_eq!(explained(text, syntax), [expected], "{text}");
            }
        }
    }

    #[test]
    fn every_expansion_is_explained() {
        let both = explained("{a,b.c}", Syntax::Segments);
        assert_eq!(both[1], ["b = this text", "c = this text"]);
        let starred = explained("x{?,[yx]}*.{a,*}", Syntax::Segments);
        assert_eq!(starred.len(), 4);
        assert_eq!(
            starred[1],
            [
                "x[yx]* = the text `x`, one character of `[xy]`, any run of characters",
                "a = this text"
            ]
        );
        assert_eq!(
            starred[2],
            [
                "x?* = the text `x`, any one character, any run of characters",
                "* = any one segment"
            ]
        );
        let alone = explained("{a\\,,*}", Syntax::Segments);
        assert_eq!(alone, [["a\\, = the text `a,`"], ["* = any one segment"]]);
        assert_eq!(explained("{a,[a],a}", Syntax::Segments).len(), 1);
        let text = Pattern::parse("{a,b}.x")
            .expect("a pattern")
            .explain()
            .to_string();
        assert!(
            text.contains("\nexpansion 2 of 2\n  b  this text\n"),
            "{text}"
        );
    }

    #[test]
    fn a_canonical_form_that_differs_is_explained() {
        let canonical = |text| {
            let explanation = Pattern::parse(text).expect(text).explain().to_string();
            explanation.lines().nth(2).expect("three lines").to_owned()
        };
        assert_eq!(canonical("a.*"), "canonical  a.*");
        assert_eq!(
            canonical("a.?*"),
            "canonical  a.*  (another spelling, for the same topics)"
        );
    }

    #[test]
    fn tails_are_distinguished_from_segments() {
        let text = Pattern::parse_as("a.b*", Syntax::Path)
            .expect("a pattern")
            .explain()
            .to_string();
        assert!(
            text.contains("  a  this text\n  the rest, at least one segment"),
            "{text}"
        );
        let text = Pattern::parse_as("[ab]*", Syntax::Redis)
            .expect("a pattern")
            .explain()
            .to_string();
        assert!(text.contains("  the whole topic, in which a dot"), "{text}");
    }
}
