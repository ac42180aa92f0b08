//! The naive implementation: it finds out slowly, straight from the text, what a pattern matches.
//!
//! It shares no code with the parser and the matcher, which are compared with it. Braces are
//! multiplied out as text, and each expansion is cut at its dots and read character by character
//! while it is compared with the topic.
//!
//! Each of the other languages has a naive implementation that follows, step by step, the program
//! that the language comes from.

mod amqp;
mod mqtt;
mod nats;
mod path;
mod redis;

use super::syntax::Syntax;

/// Whether the pattern `text` in the language `syntax` matches `topic`; `None` if `text` is not a
/// valid pattern.
#[must_use]
pub fn matches_as(text: &str, topic: &str, syntax: Syntax) -> Option<bool> {
    if text.len() > 1024 {
        return None;
    }
    match syntax {
        Syntax::Segments => matches(text, topic),
        Syntax::Nats => nats::matches(text, topic),
        Syntax::Amqp => Some(amqp::matches(text, topic)),
        Syntax::Mqtt => mqtt::matches(text, topic),
        // Two patterns that have another meaning in Go.
        Syntax::Path if text.is_empty() || text == "*" => Some(true),
        Syntax::Path => path::matches(text.as_bytes(), topic.as_bytes()),
        Syntax::Redis => Some(redis::matches(text.as_bytes(), topic.as_bytes())),
    }
}

/// How many expansions a pattern may have.
const EXPANSIONS_MAX: usize = 64;

/// Whether the native pattern `text` matches `topic`; `None` if `text` is not a valid pattern.
#[must_use]
pub fn matches(text: &str, topic: &str) -> Option<bool> {
    let expansions = expansions(text)?;
    let topic: Vec<&str> = topic.split('.').collect();
    Some(expansions.iter().any(|expansion| {
        wild(
            expansion,
            &topic,
            |segment| segment == "**",
            |segment, text| {
                let text: Vec<char> = text.chars().collect();
                wild(
                    &units(segment),
                    &text,
                    |unit| *unit == Unit::Star,
                    |unit, c| unit.accepts(*c),
                )
            },
        )
    }))
}

/// The segments of each expansion, or `None` if `text` is not a valid pattern.
fn expansions(text: &str) -> Option<Vec<Vec<String>>> {
    if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
        return None;
    }
    if text == "*" {
        return Some(vec![vec!["**".to_owned()]]);
    }
    // Each brace becomes a list of texts. Its edges are marked with `\u{1}`, which no pattern has.
    let mut expansions = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(unit) = take_unit(&mut chars)? {
        let choices = match &*unit {
            "{" => braces(&mut chars)?,
            "}" => return None,
            _ => vec![unit],
        };
        let longer = |choice: &String| expansions.iter().map(|e| format!("{e}{choice}")).collect();
        expansions = choices.iter().flat_map::<Vec<String>, _>(longer).collect();
        if expansions.len() > EXPANSIONS_MAX {
            return None;
        }
    }
    expansions
        .iter()
        .map(|expansion| segments(expansion))
        .collect()
}

/// The alternatives up to the closing brace.
fn braces(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Vec<String>> {
    let mut choices = vec!["\u{1}".to_owned()];
    loop {
        let unit = take_unit(chars)??;
        match &*unit {
            "{" => return None,
            "," => choices.push("\u{1}".to_owned()),
            "}" => break,
            unit => choices.last_mut()?.push_str(unit),
        }
    }
    // No escape and no class contains a dot, so each dot separates segments.
    let has_gap = |choice: &String| {
        choice.starts_with("\u{1}.") || choice.ends_with('.') || choice.contains("..")
    };
    if choices.iter().any(has_gap) {
        return None;
    }
    choices.iter_mut().for_each(|choice| choice.push('\u{1}'));
    (choices.len() > 1).then_some(choices)
}

/// The next character, escape or class as text; `Some(None)` at the end, `None` if it is invalid.
fn take_unit(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Option<String>> {
    let Some(first) = chars.next() else {
        return Some(None);
    };
    let mut unit = String::from(first);
    if first == '\\' {
        let escaped = chars.next()?;
        unit.push(escaped);
        return (escaped != '.').then_some(Some(unit));
    }
    if first == '[' {
        loop {
            let c = chars.next()?;
            unit.push(c);
            match c {
                '\\' => unit.push(chars.next()?),
                ']' => break,
                _ => {}
            }
        }
        class(&unit)?;
    }
    Some(Some(unit))
}

/// The segments of an expansion; `None` if one of them is not valid.
fn segments(expansion: &str) -> Option<Vec<String>> {
    let edges = |c: char| c == '\u{1}';
    let segments = expansion.split('.').map(|segment| {
        let text = segment.replace(edges, "");
        let stars = units(segment)
            .windows(2)
            .any(|pair| pair == [Unit::Star, Unit::Star]);
        let joined = units(&text)
            .windows(2)
            .any(|pair| pair == [Unit::Star, Unit::Star]);
        let valid = !text.is_empty() && if stars { text == "**" } else { !joined };
        valid.then_some(text)
    });
    segments.collect()
}

/// A part of a segment that stands for one character or for a run of characters.
#[derive(Debug, PartialEq)]
enum Unit {
    Star,
    One,
    /// The edge of a brace.
    Edge,
    Literal(char),
    /// A class: whether it is negated, and its items.
    Class(bool, Vec<(char, char)>),
}

impl Unit {
    fn accepts(&self, c: char) -> bool {
        match self {
            Unit::One => true,
            Unit::Literal(literal) => *literal == c,
            Unit::Class(negated, items) => {
                items.iter().any(|&(low, high)| low <= c && c <= high) != *negated
            }
            Unit::Star | Unit::Edge => false,
        }
    }
}

fn units(segment: &str) -> Vec<Unit> {
    let mut chars = segment.chars().peekable();
    std::iter::from_fn(|| take_unit(&mut chars).expect("checked before"))
        .map(|unit| match &*unit {
            "*" => Unit::Star,
            "?" => Unit::One,
            "\u{1}" => Unit::Edge,
            text if text.starts_with('[') => {
                let (negated, items) = class(text).expect("checked before");
                Unit::Class(negated, items)
            }
            unit => Unit::Literal(unit.chars().last().expect("not empty")),
        })
        .collect()
}

/// Whether a class, from `[` to `]`, is negated, and its items; `None` if it is invalid.
fn class(text: &str) -> Option<(bool, Vec<(char, char)>)> {
    if ["[:", "[.", "[="]
        .iter()
        .any(|posix| text.starts_with(posix))
    {
        return None;
    }
    let inner = &text[1..text.len() - 1];
    let negated = inner.starts_with(['^', '!']);
    let inner: Vec<char> = inner.chars().skip(usize::from(negated)).collect();

    // Each character with whether it was escaped.
    let mut members: Vec<(char, bool)> = Vec::new();
    let mut at = 0;
    while at < inner.len() {
        let escaped = inner[at] == '\\';
        at += usize::from(escaped);
        members.push((inner[at], escaped));
        at += 1;
    }
    let bracket = |pair: &[(char, bool)]| pair[0] == ('[', false);
    let posix = |pair: &[(char, bool)]| bracket(pair) && ":.=".contains(pair[1].0) && !pair[1].1;
    if members.is_empty() || members.iter().any(|m| m.0 == '.') || members.windows(2).any(posix) {
        return None;
    }

    let mut items = Vec::new();
    let dash = ('-', false);
    let mut rest = &*members;
    while let [first, behind @ ..] = rest {
        if *first == dash {
            return None;
        }
        rest = behind;
        let mut last = first;
        if let [next, end, behind @ ..] = behind
            && *next == dash
        {
            if *end == dash || end.0 < first.0 || behind.first() == Some(&dash) {
                return None;
            }
            last = end;
            rest = behind;
        }
        items.push((first.0, last.0));
    }
    // The first character that is not excluded, if any, follows an item or is the first of all.
    let excluded = |c: char| items.iter().any(|&(low, high)| low <= c && c <= high);
    let behind = |&(_, high): &(char, char)| topic_char_from(high, 1);
    let mut candidates = topic_char_from(' ', 0)
        .into_iter()
        .chain(items.iter().filter_map(behind));
    let void = negated && candidates.all(excluded);
    (!void).then_some((negated, items))
}

/// The first character that a segment can have, from the one `skip` characters after `c` on.
fn topic_char_from(c: char, skip: usize) -> Option<char> {
    (c..=char::MAX)
        .skip(skip)
        .find(|c| !c.is_control() && *c != '.')
}

/// Whether `pattern` matches the whole of `text`, where a star matches any run of items.
///
/// `reached[j]` is whether the part of the pattern that was read matches the first j items.
fn wild<P, T>(
    pattern: &[P],
    text: &[T],
    is_star: impl Fn(&P) -> bool,
    accepts: impl Fn(&P, &T) -> bool,
) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for p in pattern {
        let mut next = vec![false; text.len() + 1];
        for j in 0..=text.len() {
            next[j] = if is_star(p) {
                reached[j] || (j > 0 && next[j - 1])
            } else {
                j > 0 && reached[j - 1] && accepts(p, &text[j - 1])
            };
        }
        reached = next;
    }
    reached[text.len()]
}
