//! One line becomes an event's topic, name and payload, or a bad line that says where and why.
//!
//! The line is walked once: its syntax is checked as a whole, and of its fields only those are
//! looked at that the topic and the name are made of. They are taken as they stand in the text, so
//! that a number keeps the digits that it was written with. Where a field is given twice, the last
//! one counts, as with most readers of JSON.

use fanout::Topic;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

use super::input::{LINE_BYTES_MAX, Line};
use super::template::Template;

/// The most characters that are printed of what is wrong with a line: its beginning and its end.
const BAD_LINE_CHARS_MAX: usize = 400;

/// How the lines of a run become events.
pub(crate) struct Recipe {
    template: Template,
    /// The fields to look for: the template's, in its order, then the name's if it is another.
    wanted: Vec<String>,
    /// Which of them holds the name, if any does.
    name: Option<usize>,
    /// The text of the current line's topic; kept so that it is allocated once.
    topic: String,
}

/// What a line publishes.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) topic: Topic,
    pub(crate) name: Option<Cow<'a, str>>,
    /// The line as it is, without its end.
    pub(crate) json: &'a str,
}

/// Why a line publishes nothing. Columns are bytes, counted from 1.
#[derive(Debug)]
pub(crate) struct BadLine {
    place: String,
    rule: String,
}

impl BadLine {
    pub(crate) fn new(place: impl Into<String>, rule: impl Into<String>) -> Self {
        BadLine {
            place: place.into(),
            rule: rule.into(),
        }
    }
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}: {}", self.place, self.rule);
        let chars = text.chars().count();
        if chars <= BAD_LINE_CHARS_MAX {
            return f.write_str(&text);
        }
        // The place stands at the beginning and the rule often at the end: leave out the middle.
        let half = BAD_LINE_CHARS_MAX / 2;
        let head: String = text.chars().take(half).collect();
        let tail: String = text.chars().skip(chars - half).collect();
        write!(f, "{head} .. {tail}")
    }
}

impl Recipe {
    pub(crate) fn new(template: Template, name_field: Option<String>) -> Self {
        let mut wanted = template.fields().to_vec();
        let name = name_field.map(|name| {
            wanted
                .iter()
                .position(|field| *field == name)
                .unwrap_or_else(|| {
                    wanted.push(name);
                    wanted.len() - 1
                })
        });
        Recipe {
            template,
            wanted,
            name,
            topic: String::new(),
        }
    }

    /// Makes an event of a line, or of a blank one nothing. `number` is the line's, from 1.
    pub(crate) fn draft<'a>(
        &mut self,
        line: Line<'a>,
        number: u64,
    ) -> Result<Option<Draft<'a>>, BadLine> {
        let bytes = match line {
            Line::Text(bytes) => bytes,
            Line::TooLong => {
                let rule = format!("longer than {LINE_BYTES_MAX} bytes");
                return Err(BadLine::new(format!("column {}", LINE_BYTES_MAX + 1), rule));
            }
        };
        let json = text(bytes, number)?;
        if json
            .bytes()
            .all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
        {
            return Ok(None);
        }

        let raw = pick(json, &self.wanted)?;
        let fields = self.template.fields();
        let mut values = Vec::with_capacity(fields.len());
        for (field, raw) in fields.iter().zip(&raw) {
            values.push(topic_value(field, *raw)?);
        }
        self.template.render(&values, &mut self.topic);
        let topic =
            Topic::new(&self.topic).map_err(|error| BadLine::new("topic", error.to_string()))?;

        let name = match self.name {
            Some(index) => raw[index].map(|raw| string_or_number(&self.wanted[index], raw)),
            None => None,
        };
        let name = name.transpose()?.flatten();
        Ok(Some(Draft { topic, name, json }))
    }
}

/// The line's text, without what is left of a line end of two characters, and without the byte
/// order mark that some programs begin a file with.
fn text(bytes: &[u8], number: u64) -> Result<&str, BadLine> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        BadLine::new(format!("column {}", error.valid_up_to() + 1), "not UTF-8")
    })?;
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok(if number == 1 {
        text.strip_prefix('\u{feff}').unwrap_or(text)
    } else {
        text
    })
}

/// A field's value as a part of a topic.
fn topic_value<'a>(field: &str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, BadLine> {
    let bad = |rule: String| Err(BadLine::new(format!("field {field:?}"), rule));
    let Some(raw) = raw else {
        return bad("missing".into());
    };
    let Some(value) = string_or_number(field, raw)? else {
        return bad(not_usable("null"));
    };
    if value.is_empty() {
        return bad("empty, and a topic has no empty segment".into());
    }
    if let Some(at) = value.find('.') {
        return bad(format!("{value:?} holds a dot at byte {at}"));
    }
    if let Some(at) = value.find(char::is_control) {
        return bad(format!("{value:?} holds a control character at byte {at}"));
    }
    Ok(value)
}

/// A string's content, a number as written, or nothing for null. All else is refused.
fn string_or_number<'a>(field: &str, raw: &'a RawValue) -> Result<Option<Cow<'a, str>>, BadLine> {
    let raw = raw.get();
    let bad = |rule: String| BadLine::new(format!("field {field:?}"), rule);
    match raw.as_bytes().first() {
        // A string without escapes is its own content; the other case is rare, and may fail still:
        // half a surrogate pair is good syntax and no text.
        Some(b'"') if !raw.contains('\\') => Ok(Some(Cow::Borrowed(&raw[1..raw.len() - 1]))),
        Some(b'"') => match serde_json::from_str(raw) {
            Ok(content) => Ok(Some(Cow::Owned(content))),
            Err(error) => Err(bad(rule_of(&error))),
        },
        Some(b'-' | b'0'..=b'9') => Ok(Some(Cow::Borrowed(raw))),
        Some(b'n') => Ok(None),
        Some(b't' | b'f') => Err(bad(not_usable("true or false"))),
        Some(b'[') => Err(bad(not_usable("an array"))),
        _ => Err(bad(not_usable("an object"))),
    }
}

fn not_usable(kind: &str) -> String {
    format!("{kind}, where a string or a number is needed")
}

/// The wanted fields of a JSON object, as they stand in its text. The whole line is checked.
fn pick<'a>(json: &'a str, wanted: &[String]) -> Result<Vec<Option<&'a RawValue>>, BadLine> {
    let mut picked = vec![None; wanted.len()];
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer
        .deserialize_map(Pick {
            wanted,
            picked: &mut picked,
        })
        .and_then(|()| deserializer.end())
        .map_err(|error| {
            BadLine::new(format!("column {}", error.column().max(1)), rule_of(&error))
        })?;
    Ok(picked)
}

/// What a JSON error says, without the place that it appends: a line is always its line 1.
fn rule_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

struct Pick<'w, 'p, 'a> {
    wanted: &'w [String],
    picked: &'p mut [Option<&'a RawValue>],
}

impl<'a> Visitor<'a> for Pick<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(wanted) = map.next_key_seed(Key(self.wanted))? {
            match wanted {
                Some(index) => self.picked[index] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads a key without keeping it: answers with its place among the wanted fields.
struct Key<'w>(&'w [String]);

impl<'a> DeserializeSeed<'a> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|wanted| wanted == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        let template = "t.{a}.{b}".parse().expect("a good template");
        Recipe::new(template, Some("n".to_owned()))
    }

    fn topic(json: &str) -> Result<String, String> {
        match recipe().draft(Line::Text(json.as_bytes()), 1) {
            Ok(draft) => Ok(draft.expect("not blank").topic.as_str().to_owned()),
            Err(bad) => Err(bad.to_string()),
        }
    }

    #[test]
    fn values_are_taken_as_they_are_written() {
        for (json, expected) in [
            (r#"{"a":"x","b":"y"}"#, "t.x.y"),
            (r#" {"b":-0 , "c":[{"a":7}], "a":1e400} "#, "t.1e400.-0"),
            (r#"{"a":"\u00e9\"","b":"*"}"#, "t.é\".*"),
            (
                r#"{"\u0061":"x","b":12345678901234567890123}"#,
                "t.x.12345678901234567890123",
            ),
            (r#"{"a":"first","b":"y","a":"last"}"#, "t.last.y"),
            (r#"{"a":"first.","b":"y","a":"last"}"#, "t.last.y"),
            ("\u{feff}{\"a\":\"x\",\"b\":\"y\"}\r", "t.x.y"),
        ] {
            assert_eq!(topic(json).as_deref(), Ok(expected), "{json}");
        }
    }

    #[test]
    fn a_bad_line_names_place_and_rule() {
        for (json, expected) in [
            ("{", "column 1: EOF while parsing an object"),
            (r#"{"a":1,}"#, "column 8: trailing comma"),
            (r#"{"a":1,"b":2}x"#, "column 14: trailing characters"),
            (r#"{"a":1,"b":2,"c":nul}"#, "column 21: expected ident"),
            (
                r#"[1]"#,
                "column 1: invalid type: sequence, expected a JSON object",
            ),
            (r#"{"a":1}"#, r#"field "b": missing"#),
            (r#"{"b":1}"#, r#"field "a": missing"#),
            (
                r#"{"a":"","b":1}"#,
                r#"field "a": empty, and a topic has no empty segment"#,
            ),
            (
                r#"{"a":1.5,"b":1}"#,
                r#"field "a": "1.5" holds a dot at byte 1"#,
            ),
            (
                r#"{"a":"x.y","b":1}"#,
                r#"field "a": "x.y" holds a dot at byte 1"#,
            ),
            (
                r#"{"a":"x\ty","b":1}"#,
                r#"field "a": "x\ty" holds a control character at byte 1"#,
            ),
            (
                r#"{"a":null,"b":1}"#,
                r#"field "a": null, where a string or a number is needed"#,
            ),
            (
                r#"{"a":true,"b":1}"#,
                r#"field "a": true or false, where a string or a number is needed"#,
            ),
            (
                r#"{"a":[1],"b":1}"#,
                r#"field "a": an array, where a string or a number is needed"#,
            ),
            (
                r#"{"a":{},"b":1}"#,
                r#"field "a": an object, where a string or a number is needed"#,
            ),
            (r#"{"a":1,"b":2,"n":{}}"#, "field \"n\": an object, where"),
        ] {
            let bad = topic(json).expect_err(json);
            assert!(bad.starts_with(expected), "{json}: {bad}");
        }
        let bad = topic(r#"{"a":"\ud800","b":1}"#).expect_err("half a pair");
        assert!(bad.starts_with("field \"a\": "), "{bad}");
        let bad = recipe()
            .draft(Line::Text(b"{\"a\":\"\xff\"}"), 1)
            .expect_err("not UTF-8");
        assert_eq!(bad.to_string(), "column 7: not UTF-8");
        let bad = recipe().draft(Line::TooLong, 1).expect_err("too long");
        assert_eq!(bad.to_string(), "column 1048577: longer than 1048576 bytes");
    }

    #[test]
    fn what_is_printed_of_a_bad_line_is_bounded() {
        let json = format!(r#"{{"a":"{}","b":1}}"#, "é".repeat(5000));
        let bad = topic(&json).expect_err("the topic is too long");
        assert!(bad.starts_with("topic: "), "{bad}");
        assert!(bad.chars().count() < BAD_LINE_CHARS_MAX + 10, "{bad}");
    }

    #[test]
    fn a_blank_line_is_nothing_and_an_empty_object_is_bad() {
        for blank in ["", " ", "\r", " \t \r"] {
            assert!(matches!(
                recipe().draft(Line::Text(blank.as_bytes()), 1),
                Ok(None)
            ));
        }
        assert!(topic("{}").is_err());
    }

    #[test]
    fn the_name_may_be_missing_or_null() {
        for (json, expected) in [
            (r#"{"a":1,"b":2,"n":"N.1"}"#, Some("N.1")),
            (r#"{"a":1,"b":2,"n":7}"#, Some("7")),
            (r#"{"a":1,"b":2,"n":null}"#, None),
            (r#"{"a":1,"b":2}"#, None),
        ] {
            let mut recipe = recipe();
            let draft = recipe.draft(Line::Text(json.as_bytes()), 1).expect("good");
            assert_eq!(
                draft.expect("not blank").name.as_deref(),
                expected,
                "{json}"
            );
        }
        let template = "{a}".parse().expect("a good template");
        let mut same_field = Recipe::new(template, Some("a".to_owned()));
        let draft = same_field
            .draft(Line::Text(br#"{"a":"x"}"#), 1)
            .expect("good");
        assert_eq!(draft.expect("not blank").name.as_deref(), Some("x"));
    }
}
