//! Patterns that are written in the style of another language than the one they are read in, or
//! with dots between the levels of MQTT.
//!
//! `orders.>` is a valid native pattern: it matches the topic with exactly this text. A NATS user
//! probably expects the wildcard. The pattern is valid, so it is not refused; but if it matches
//! no topic, the program prints a hint.

use fanout::{Pattern, Syntax, Topic};
use std::fmt;

use crate::console::print_message;

/// A pattern that means more in another language, or in another spelling.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    /// The language.
    syntax: Syntax,
    /// Whether the pattern is read in this language already.
    is_known: bool,
    /// The pattern as it must be written in that language.
    text: String,
    /// Whether `text` differs from the pattern that the user wrote.
    is_rewritten: bool,
    /// The meaning that the user probably expects.
    meaning: &'static str,
}

impl Hint {
    /// Whether the pattern matches the topic in the other language or spelling.
    pub(crate) fn matches(&self, topic: &Topic) -> bool {
        Pattern::parse_as(&self.text, self.syntax).is_ok_and(|pattern| pattern.matches(topic))
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.meaning)?;
        let (syntax, text) = (self.syntax, &self.text);
        match (self.is_rewritten, self.is_known) {
            (true, true) => write!(f, ": write `{text}`"),
            (true, false) => write!(f, ": write `{text}` and use --syntax {syntax}"),
            (false, _) => write!(f, ": use --syntax {syntax}"),
        }
    }
}

/// Returns a hint if the pattern, which is read in the language `syntax`, means more in another
/// language, or in another spelling.
pub(crate) fn for_pattern(text: &str, syntax: Syntax) -> Option<Hint> {
    // `#` is a wildcard of two languages. The one that the user chose comes first.
    let candidates = match syntax {
        Syntax::Mqtt => [nats, mqtt, amqp, segments],
        _ => [nats, amqp, mqtt, segments],
    };
    let mut hints = candidates.iter().filter_map(|hint| {
        let hint = hint(text, syntax)?;
        let is_known = hint.syntax == syntax;
        Some(Hint { is_known, ..hint })
    });
    hints.find(|hint| {
        let is_other = !hint.is_known || hint.is_rewritten;
        is_other && Pattern::parse_as(&hint.text, hint.syntax).is_ok()
    })
}

/// Prints the hint for a pattern that does not match this topic, if it matches in the other
/// language or spelling.
pub(crate) fn print_if_it_matches(text: &str, syntax: Syntax, topic: &Topic) {
    if let Some(hint) = for_pattern(text, syntax)
        && hint.matches(topic)
    {
        let other = match hint.is_known {
            true => "spelling",
            false => "language",
        };
        print_message(format_args!(
            "{text:?} would match in another {other}; {hint}"
        ));
    }
}

fn as_written(text: &str, syntax: Syntax, meaning: &'static str) -> Option<Hint> {
    Some(Hint {
        syntax,
        is_known: false,
        text: text.to_owned(),
        is_rewritten: false,
        meaning,
    })
}

fn nats(text: &str, _: Syntax) -> Option<Hint> {
    let is_last = text.split('.').next_back() == Some(">");
    let meaning = "in NATS, `>` stands for one or more segments";
    is_last.then(|| as_written(text, Syntax::Nats, meaning))?
}

fn amqp(text: &str, _: Syntax) -> Option<Hint> {
    let has_any = text.split('.').any(|word| word == "#");
    let meaning = "in AMQP, `#` stands for any number of segments";
    has_any.then(|| as_written(text, Syntax::Amqp, meaning))?
}

fn mqtt(text: &str, syntax: Syntax) -> Option<Hint> {
    let meaning = "in MQTT, `+` stands for one segment, `#` for any number of them, and `/` for \
                   the dots of the topic";
    let rewritten = |meaning| Hint {
        syntax: Syntax::Mqtt,
        is_known: false,
        text: text.replace('.', "/"),
        is_rewritten: true,
        meaning,
    };
    if syntax == Syntax::Mqtt && text.contains('.') {
        return Some(rewritten(
            "in MQTT, `/` separates levels and stands for the dots of the topic",
        ));
    }
    if text.split('/').any(|level| level == "+" || level == "#") {
        return as_written(text, Syntax::Mqtt, meaning);
    }
    let has_plus = text.split('.').any(|level| level == "+");
    has_plus.then(|| rewritten(meaning))
}

/// The wildcards that only the native language has. In the languages that match whole topics, the
/// same characters have a meaning, too.
fn segments(text: &str, syntax: Syntax) -> Option<Hint> {
    let (Syntax::Nats | Syntax::Amqp | Syntax::Mqtt) = syntax else {
        return None;
    };
    let is_wild = |segment: &str| {
        let has_star = segment.contains('*') && (segment != "*" || syntax == Syntax::Mqtt);
        has_star || segment.contains(['?', '[', '{'])
    };
    let meaning = "in the native language, `*`, `?`, `[a-z]`, `{x,y}` and `**` are wildcards";
    let is_native = text.split('.').any(is_wild);
    is_native.then(|| as_written(text, Syntax::Segments, meaning))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_in_the_style_of_another_language_is_recognized() {
        use Syntax::{Amqp, Mqtt, Nats, Path, Redis, Segments};
        for (read_as, text, expected) in [
            (
                Segments,
                "orders.>",
                Some("`>` stands for one or more segments: use --syntax nats"),
            ),
            (Segments, ">", Some("use --syntax nats")),
            (Segments, "a.#", Some("in AMQP, `#` stands for any number")),
            (Segments, "#", Some("use --syntax amqp")),
            (
                Segments,
                "a/+/b",
                Some("in MQTT, `+` stands for one segment"),
            ),
            (Segments, "a/#", Some("use --syntax mqtt")),
            (
                Segments,
                "a.+.b",
                Some("write `a/+/b` and use --syntax mqtt"),
            ),
            (Path, "a.>", Some("use --syntax nats")),
            (Redis, "a.#", Some("use --syntax amqp")),
            (Amqp, "a.>", Some("use --syntax nats")),
            (Amqp, "a.**", Some("use --syntax segments")),
            (Nats, "a.#", Some("use --syntax amqp")),
            (Nats, "{a,b}.c", Some("use --syntax segments")),
            (Nats, "a.b*", Some("use --syntax segments")),
            (
                Mqtt,
                "a.b",
                Some("`/` separates levels and stands for the dots of the topic: write `a/b`"),
            ),
            (Mqtt, "a.+", Some("`/` separates levels")), // MQTT refuses it as it is
            (Mqtt, "a/+.b", Some("write `a/+/b`")),
            (Mqtt, "a.#", Some("write `a/#`")),
            (Mqtt, "a.#.b", Some("use --syntax amqp")), // refused with slashes, too
            (Mqtt, "*", Some("use --syntax segments")),
            (Segments, "a.*.**", None),
            (Segments, "a.b", None),
            (Segments, "a/b", None),
            (Segments, "a>.b", None),
            (Segments, "a.>.b", None), // NATS refuses it
            (Nats, "a.*.>", None),
            (Amqp, "a.*.#", None),
            (Mqtt, "a/+/#", None),
            (Path, "a.*[b]", None),
        ] {
            let hint = for_pattern(text, read_as).map(|hint| hint.to_string());
            match expected {
                None => assert_eq!(hint, None, "{read_as} {text}"),
                Some(words) => assert!(
                    hint.as_ref().is_some_and(|hint| hint.contains(words)),
                    "{read_as} {text}: {hint:?}"
                ),
            }
            let same = format!("--syntax {read_as}");
            assert!(!hint.is_some_and(|hint| hint.contains(&same)), "{text}");
        }
    }

    #[test]
    fn a_hint_knows_what_the_pattern_would_match() {
        let hint = for_pattern("a.+.c", Syntax::Segments).expect("the style of MQTT");
        assert!(hint.matches(&Topic::new("a.b.c").expect("a topic")));
        assert!(!hint.matches(&Topic::new("a.b.d").expect("a topic")));
    }
}
