//! `fanout match --explain`: how a pattern was read; for what is refused, the place and what would be right.
//!
//! What was read goes to standard output, what is refused to standard error. The place is marked by a caret
//! below the text, in columns of a terminal: wide characters take two, combining ones none, and controls are
//! shown escaped.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use fanout::pattern::{PATTERN_BYTES_MAX, TOPIC_BYTES_MAX};
use fanout::{Pattern, PatternError, PatternRule, Syntax, Topic};
use unicode_width::UnicodeWidthStr;

use super::Status;
use super::console::complain;

/// Columns of a text that are shown before the place, and from it on; what is longer is cut.
const COLUMNS_AROUND_MAX: usize = 36;

/// Explains the pattern, and tells whether the topic matches, if there is one.
pub(crate) fn explain(pattern_text: &str, topic_text: Option<&str>, syntax: Syntax) -> Status {
    let pattern = Pattern::parse_as(pattern_text, syntax);
    let topic = topic_text.map(|text| (text, Topic::new(text)));
    if let Err(error) = &pattern {
        let pointed = pointed(pattern_text, error.offset());
        let mut message = format!("{error}\n\n{pointed}");
        if let Some(hint) = hint(error) {
            let _ = write!(message, "\n\n  {hint}");
        }
        complain(format_args!("{message}"));
    }
    if let Some((text, Err(error))) = &topic {
        complain(format_args!("{error}\n\n{}", pointed(text, error.offset())));
    }
    let Ok(pattern) = pattern else {
        return Status::Refused;
    };
    let mut answer = pattern.explain().to_string();
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
            status
        }
    };
    // The exit status answers as well: who closed standard output still gets it.
    let _ = io::stdout().lock().write_all(answer.as_bytes());
    status
}

/// The text around the byte `offset`, and a caret below the character there, or behind the end.
fn pointed(text: &str, offset: usize) -> String {
    let place = text.floor_char_boundary(offset.min(text.len()));
    let (before, behind) = text.split_at(place);
    let shown = |text: &str| text.chars().map(shown).collect::<Vec<_>>();
    let mut before = shown(before);
    let mut behind = shown(behind);

    before.reverse();
    let kept = fitting(&before);
    let is_cut = kept < before.len();
    before.truncate(kept);
    if is_cut {
        before.push("…".to_owned());
    }
    before.reverse();
    let kept = fitting(&behind);
    let is_cut = kept < behind.len();
    behind.truncate(kept);
    if is_cut {
        behind.push("…".to_owned());
    }

    let before = before.concat();
    let caret = " ".repeat(before.width());
    format!("  {before}{}\n  {caret}^", behind.concat())
}

/// How many of these texts, from the first on, the columns suffice for; at least one, if there is one.
fn fitting(texts: &[String]) -> usize {
    let mut columns = 0;
    let fits = texts.iter().take_while(|text| {
        columns += text.width();
        columns <= COLUMNS_AROUND_MAX
    });
    fits.count().max(1)
}

/// As terminals show it; controls escaped.
fn shown(c: char) -> String {
    match c.is_control() {
        true => c.escape_default().collect(),
        false => c.to_string(),
    }
}

/// What would be right instead, where it is known.
fn hint(error: &PatternError) -> Option<String> {
    let hint = match (error.rule(), error.syntax()) {
        (PatternRule::Empty, Syntax::Segments) => "everything is `**`, or `*` alone",
        (PatternRule::Empty, Syntax::Nats) => "everything is `>`",
        (PatternRule::Empty, Syntax::Mqtt) => "everything is `#` (but topics that begin with `$`)",
        (PatternRule::TooLong, _) => {
            return Some(format!(
                "topics have {TOPIC_BYTES_MAX} bytes at most, patterns {PATTERN_BYTES_MAX}: use wildcards, or several patterns"
            ));
        }
        (PatternRule::EmptySegment, _) => "take out the dot, or write what stands beside it",
        (PatternRule::GluedDoubleStar, _) => {
            "write `*` for any characters of this segment, or `.**` for any segments behind it"
        }
        (PatternRule::JoinedDoubleStar, _) => "one `*` will do: take out the one or the other",
        (PatternRule::EmptyClass, _) => "any one character is `?`; a bracket is written `\\[`",
        (PatternRule::UnclosedClass, _) => {
            "close it with `]`; a bracket that opens none is written `\\[`"
        }
        (PatternRule::ReversedRange, _) => "turn it round",
        (PatternRule::BareDash, _) => "write `\\-` for the character, or both ends of the range",
        (PatternRule::LeadingBracket, _) => "write `\\]` for the character",
        (PatternRule::ChainedRange, _) => {
            "write both ranges with both ends, or `\\-` for the character"
        }
        (PatternRule::PosixClass, _) => {
            "write the characters, as in `[a-zA-Z]`; or a `\\` before the second one"
        }
        (PatternRule::DotInClass, _) => {
            "dots stand between segments: write several patterns, or braces, as in `{a.b,axb}`"
        }
        (PatternRule::EscapedDot, _) => "no segment has a dot: leave the `\\` out",
        (PatternRule::EmptyBraces | PatternRule::SingleAlternative, _) => {
            "write two alternatives or more, as in `{a,b}`; a brace as a character is written `\\{`"
        }
        (PatternRule::NestedBraces, _) => "multiply them out: `{a,b{c,d}}` is `{a,bc,bd}`",
        (PatternRule::UnclosedBraces, _) => {
            "close them with `}`; a brace as a character is written `\\{`"
        }
        (PatternRule::UnopenedBraces, _) => "a brace as a character is written `\\}`",
        (PatternRule::TooManyExpansions, _) => {
            "use several patterns, or a class for single characters, as in `[ab]`"
        }
        (PatternRule::TrailingBackslash, _) => "a backslash as a character is written `\\\\`",
        (PatternRule::Control, _) => "no topic has any: take it out",
        (PatternRule::WhiteSpace, _) => "take it out; `*` is any one token",
        (PatternRule::RestNotLast, Syntax::Mqtt) => {
            "write `+` for one level, or end the filter here"
        }
        (PatternRule::RestNotLast, _) => "write `*` for one token, or end the subject here",
        (PatternRule::GluedWildcard, _) => {
            "write `+` for the whole level; parts of a level cannot be matched in this language"
        }
        (PatternRule::TooManyLevels, _) => "end it with `#`, which is all the levels that follow",
        (PatternRule::SharedSubscription, _) => "write the filter behind the group's name",
        _ => return None,
    };
    Some(hint.to_owned())
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
