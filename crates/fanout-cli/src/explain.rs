//! `fanout match --explain`: how a pattern is read. If it is not valid, the position of the error,
//! and advice.
//!
//! The explanation is printed on standard output, a refusal on standard error. A caret below the
//! text marks the place, in columns of a terminal: wide characters take two columns, combining
//! characters none, and control characters are printed as escapes.

use std::fmt::Write as _;

use fanout::pattern::{PATTERN_BYTES_MAX, TOPIC_BYTES_MAX};
use fanout::{Pattern, PatternError, PatternRule, Syntax, Topic};
use unicode_width::UnicodeWidthStr;

use crate::console::{self, print_message};
use crate::hint;
use crate::identity::STDOUT_NAME;
use crate::status::Status;

/// The largest number of columns of a text that are printed before the position, and from the
/// position on.
const COLUMNS_AROUND_MAX: usize = 36;

/// Explains the pattern, and prints whether it matches the topic if there is one.
pub(crate) fn explain(pattern_text: &str, topic_text: Option<&str>, syntax: Syntax) -> Status {
    let pattern = Pattern::parse_as(pattern_text, syntax);
    let topic = topic_text.map(|text| (text, Topic::new(text)));
    if let Err(error) = &pattern {
        let pointed = pointed(pattern_text, error.offset());
        let mut message = format!("{error}\n\n{pointed}");
        if let Some(advice) = advice(error, pattern_text) {
            let _ = write!(message, "\n\n  {advice}");
        }
        print_message(format_args!("{message}"));
    }
    if let Some((text, Err(error))) = &topic {
        print_message(format_args!("{error}\n\n{}", pointed(text, error.offset())));
    }
    let Ok(pattern) = pattern else {
        return Status::Refused;
    };
    let mut answer = pattern.explain().to_string();
    let mut unmatched = None;
    let status = match topic {
        None => Status::Good,
        Some((_, Err(_))) => Status::Refused,
        Some((_, Ok(topic))) => {
            let (verdict, status) = if pattern.matches(&topic) {
                ("match", Status::Good)
            } else {
                ("no match", Status::NoMatch)
            };
            let _ = write!(answer, "\ntopic      {topic}\nverdict    {verdict}\n");
            unmatched = (status == Status::NoMatch).then_some(topic);
            status
        }
    };
    if let Err(error) = console::print(&answer) {
        print_message(format_args!("{STDOUT_NAME}: {error}"));
        return Status::NoAnswer;
    }
    if let Some(topic) = unmatched {
        hint::print_if_it_matches(pattern_text, syntax, &topic);
    }
    status
}

/// The text around the byte `offset`, and a caret below the character there, or after the end.
fn pointed(text: &str, offset: usize) -> String {
    let mut offsets = (0..=offset.min(text.len())).rev();
    let place = offsets.find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let (before, after) = text.split_at(place);
    let mut before: Vec<_> = before.chars().rev().map(shown).collect();
    let mut after: Vec<_> = after.chars().map(shown).collect();
    cut(&mut before);
    cut(&mut after);
    before.reverse();

    let before = before.concat();
    let caret = " ".repeat(before.width());
    format!("  {before}{}\n  {caret}^", after.concat())
}

/// Keeps as many of the first texts as have room, and marks the cut.
fn cut(texts: &mut Vec<String>) {
    let kept = fitting(texts);
    if kept < texts.len() {
        texts.truncate(kept);
        texts.push("…".to_owned());
    }
}

/// The number of texts, from the first one on, that have room. At least one.
fn fitting(texts: &[String]) -> usize {
    let mut columns = 0;
    let fits = texts.iter().take_while(|text| {
        columns += text.width();
        columns <= COLUMNS_AROUND_MAX
    });
    fits.count().max(1)
}

/// The character as it is printed: a control character as an escape.
fn shown(c: char) -> String {
    match c.is_control() {
        true => c.escape_default().collect(),
        false => c.to_string(),
    }
}

/// Returns advice on how to correct the pattern `text`, if there is any.
fn advice(error: &PatternError, text: &str) -> Option<String> {
    if error.rule() == PatternRule::GluedWildcard
        && let Some(hint) = hint::for_pattern(text, error.syntax())
    {
        return Some(hint.to_string());
    }
    let advice = match (error.rule(), error.syntax()) {
        (PatternRule::Empty, Syntax::Segments) => "write `**` or `*` to match every topic",
        (PatternRule::Empty, Syntax::Nats) => "write `>` to match every topic",
        (PatternRule::Empty, Syntax::Mqtt) => {
            "write `#` to match every topic (except those that begin with `$`)"
        }
        (PatternRule::TooLong, _) => {
            return Some(format!(
                "a topic has at most {TOPIC_BYTES_MAX} bytes, a pattern at most \
                 {PATTERN_BYTES_MAX}: use wildcards, or several patterns"
            ));
        }
        (PatternRule::EmptySegment, _) => "remove the dot, or write the missing segment",
        (PatternRule::GluedDoubleStar, _) => {
            "write `*` for any characters of this segment, or `.**` for any further segments"
        }
        (PatternRule::JoinedDoubleStar, _) => {
            "remove one of the two stars: a single `*` means the same"
        }
        (PatternRule::EmptyClass, _) => "write `?` for any character, or `\\[` for a bracket",
        (PatternRule::UnclosedClass, _) => "close it with `]`, or write `\\[` for a bracket",
        (PatternRule::ReversedRange, _) => "write the smaller character first",
        (PatternRule::BareDash, _) => "write `\\-` for the character, or both ends of the range",
        (PatternRule::LeadingBracket, _) => "write `\\]` for the character",
        (PatternRule::ChainedRange, _) => {
            "write both ends of both ranges, or `\\-` for the character"
        }
        (PatternRule::PosixClass, _) => {
            "write the characters, as in `[a-zA-Z]`, or a `\\` before the second one"
        }
        (PatternRule::DotInClass, _) => {
            "a dot always separates segments: write several patterns, or braces, as in `{a.b,axb}`"
        }
        (PatternRule::EscapedDot, _) => "no segment contains a dot: remove the `\\`",
        (PatternRule::EmptyBraces | PatternRule::SingleAlternative, _) => {
            "write two or more alternatives, as in `{a,b}`, or `\\{` for a brace"
        }
        (PatternRule::NestedBraces, _) => {
            "write all combinations: `{a,bc,bd}` instead of `{a,b{c,d}}`"
        }
        (PatternRule::UnclosedBraces, _) => "close them with `}`, or write `\\{` for a brace",
        (PatternRule::UnopenedBraces, _) => "write `\\}` for a brace",
        (PatternRule::TooManyExpansions, _) => {
            "use several patterns, or a class for single characters, as in `[ab]`"
        }
        (PatternRule::TrailingBackslash, _) => "write `\\\\` for a backslash",
        (PatternRule::Control, _) => "remove it: no topic contains one",
        (PatternRule::WhiteSpace, _) => "remove it; `*` stands for any token",
        (PatternRule::RestNotLast, Syntax::Mqtt) => {
            "write `+` for one level, or end the filter here"
        }
        (PatternRule::RestNotLast, _) => "write `*` for one token, or end the subject here",
        (PatternRule::GluedWildcard, _) => {
            "write `+` for the whole level: this language cannot match parts of a level"
        }
        (PatternRule::TooManyLevels, _) => "end it with `#`, which matches all further levels",
        (PatternRule::SharedSubscription, _) => {
            "write only the filter that follows the name of the group"
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caret_at(text: &str, offset: usize) -> (String, usize) {
        let pointed = pointed(text, offset);
        let (shown, caret) = pointed.split_once('\n').expect("two lines");
        assert_eq!(caret.trim_start(), "^");
        (shown[2..].to_owned(), caret.len() - "  ^".len())
    }

    #[test]
    fn the_caret_counts_columns() {
        for (text, offset, expected) in [
            ("a..b", 2, ("a..b", 2)),
            ("", 0, ("", 0)),
            ("a.", 2, ("a.", 2)),
            ("é..b", 3, ("é..b", 2)),
            ("日本..b", 7, ("日本..b", 5)),
            ("🦀..b", 5, ("🦀..b", 3)),
            ("e\u{301}..b", 4, ("e\u{301}..b", 2)),
            ("a\t..b", 3, ("a\\t..b", 4)),
            ("a\u{1}b", 1, ("a\\u{1}b", 1)),
            ("日", 1, ("日", 0)), // within a character
        ] {
            let (shown, column) = caret_at(text, offset);
            assert_eq!((&*shown, column), expected, "{text:?}");
        }
    }

    #[test]
    fn long_texts_are_cut_at_the_bound_on_both_sides() {
        let most = COLUMNS_AROUND_MAX;
        let text = "x".repeat(2 * most);
        assert_eq!(caret_at(&text, most), (text.clone(), most));
        let (shown, column) = caret_at(&"x".repeat(2 * most + 2), most + 1);
        assert_eq!(shown, format!("…{}…", "x".repeat(2 * most)));
        assert_eq!(column, most + 1);
        let (shown, column) = caret_at(&"日".repeat(1000), 1500);
        assert_eq!((shown.width(), column), (2 * most + 2, most + 1));
    }
}
