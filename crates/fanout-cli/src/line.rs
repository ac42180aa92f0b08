//! One line becomes the topic, the name and the payload of an event, or a bad line with the place
//! and the reason.
//!
//! The line is parsed once. Its syntax is checked as a whole, but only the fields that the topic
//! and the name need are extracted. They are used as they are written, so a number keeps its
//! digits. If a field is given twice, the last one counts, as in most parsers of JSON.

use fanout::Topic;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

use crate::bad_lines::BadLine;
use crate::lines::Line;
use crate::template::Template;

/// How the lines of a run become events.
pub(crate) struct Recipe {
    template: Template,
    /// The fields to extract: those of the template in its order, then the field of the name
    /// unless the template has it already.
    wanted: Vec<String>,
    /// The index in `wanted` of the field that holds the name, if there is one.
    name: Option<usize>,
    /// The topic of the current line. It is kept so that its memory is allocated once.
    topic: String,
}

/// The content of the event that a line publishes.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) topic: Topic,
    pub(crate) name: Option<Cow<'a, str>>,
    /// The line as it was read, without its end.
    pub(crate) json: &'a str,
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

    /// Returns the content of the event of the line, or `None` for a blank line.
    pub(crate) fn draft<'a>(&mut self, line: Line<'a>) -> Result<Option<Draft<'a>>, BadLine> {
        let bytes = match line {
            Line::Text(bytes) => bytes,
            Line::TooLong => return Err(BadLine::too_long()),
        };
        let json = text(bytes)?;
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

/// The text of the line, without the carriage return of a line end of two characters.
fn text(bytes: &[u8]) -> Result<&str, BadLine> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        BadLine::new(
            format!("column {}", error.valid_up_to() + 1),
            "the line is not UTF-8",
        )
    })?;
    Ok(text.strip_suffix('\r').unwrap_or(text))
}

/// The value of a field as a part of a topic.
fn topic_value<'a>(field: &str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, BadLine> {
    let bad = |rule: String| Err(BadLine::new(format!("field {field:?}"), rule));
    let Some(raw) = raw else {
        return bad("the object has no such field".into());
    };
    let Some(value) = string_or_number(field, raw)? else {
        return bad(not_usable("null"));
    };
    if value.is_empty() {
        return bad("the value is empty; a topic has no empty segment".into());
    }
    if let Some(at) = value.find('.') {
        return bad(format!("{value:?} contains a dot at byte {at}"));
    }
    if let Some(at) = value.find(char::is_control) {
        return bad(format!(
            "{value:?} contains a control character at byte {at}"
        ));
    }
    Ok(value)
}

/// The content of a string, a number as it is written, or nothing for null. Other values are
/// refused.
fn string_or_number<'a>(field: &str, raw: &'a RawValue) -> Result<Option<Cow<'a, str>>, BadLine> {
    let raw = raw.get();
    let bad = |rule: String| BadLine::new(format!("field {field:?}"), rule);
    match raw.as_bytes().first() {
        // A string without escapes is its own content. The other case is rare and may still fail:
        // half of a surrogate pair is valid syntax, but not a character.
        Some(b'"') if !raw.contains('\\') => Ok(Some(Cow::Borrowed(&raw[1..raw.len() - 1]))),
        Some(b'"') => match serde_json::from_str(raw) {
            Ok(content) => Ok(Some(Cow::Owned(content))),
            Err(_) => Err(bad("half of a surrogate pair is not a character".into())),
        },
        Some(b'-' | b'0'..=b'9') => Ok(Some(Cow::Borrowed(raw))),
        Some(b'n') => Ok(None),
        _ => Err(bad(not_usable(kind_of(raw)))),
    }
}

/// What kind of value this text is, or begins with.
fn kind_of(json: &str) -> &'static str {
    match json.trim_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn not_usable(kind: &str) -> String {
    format!("the value is {kind}; a string or a number is needed")
}

/// The wanted fields of a JSON object, as they are written. The syntax of the whole line is
/// checked.
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
            let rule = match error.classify() {
                // The visitor accepts every object.
                Category::Data => format!("the value is {}; an object is needed", kind_of(json)),
                Category::Eof => "the line is not valid JSON: it ends too early".to_owned(),
                Category::Syntax | Category::Io => not_valid(&error),
            };
            BadLine::new(format!("column {}", error.column().max(1)), rule)
        })?;
    Ok(picked)
}

/// Says that a text is not valid JSON, and why, if the words of the parser are of use to a user.
fn not_valid(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // The text ends with the place, where the line is always 1.
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place).unwrap_or(&text) {
        // What is expected is known to the parser only.
        "expected ident" | "expected value" => "the line is not valid JSON".to_owned(),
        "trailing characters" => {
            "the line is not valid JSON: more text follows the value".to_owned()
        }
        reason => format!("the line is not valid JSON: {reason}"),
    }
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

/// Reads a key without keeping it, and returns its index in the wanted fields.
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
        f.write_str("the name of a field")
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
        match recipe().draft(Line::Text(json.as_bytes())) {
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
            ("{\"a\":\"x\",\"b\":\"y\"}\r", "t.x.y"),
        ] {
            assert_eq!(topic(json).as_deref(), Ok(expected), "{json}");
        }
    }

    #[test]
    fn a_bad_line_names_place_and_rule() {
        for (json, expected) in [
            (
                "{",
                "column 1: the line is not valid JSON: it ends too early",
            ),
            (
                r#"{"a":1,}"#,
                "column 8: the line is not valid JSON: trailing comma",
            ),
            (
                r#"{"a":1,"b":2}x"#,
                "column 14: the line is not valid JSON: more text follows the value",
            ),
            (
                r#"{"a":1,"b":2,"c":nul}"#,
                "column 21: the line is not valid JSON",
            ),
            (
                r#"{"a":1,"b":2,"c":x}"#,
                "column 18: the line is not valid JSON",
            ),
            ("not json", "column 2: the line is not valid JSON"),
            (
                r#"[1]"#,
                "column 1: the value is an array; an object is needed",
            ),
            (" 7", "column 2: the value is a number; an object is needed"),
            ("-", "column 1: the line is not valid JSON"),
            (
                r#""x""#,
                "column 3: the value is a string; an object is needed",
            ),
            ("null", "column 4: the value is null; an object is needed"),
            (
                "true",
                "column 4: the value is true or false; an object is needed",
            ),
            (r#"{"a":1}"#, r#"field "b": the object has no such field"#),
            (r#"{"b":1}"#, r#"field "a": the object has no such field"#),
            (
                r#"{"a":"","b":1}"#,
                r#"field "a": the value is empty; a topic has no empty segment"#,
            ),
            (
                r#"{"a":1.5,"b":1}"#,
                r#"field "a": "1.5" contains a dot at byte 1"#,
            ),
            (
                r#"{"a":"x.y","b":1}"#,
                r#"field "a": "x.y" contains a dot at byte 1"#,
            ),
            (
                r#"{"a":"x\ty","b":1}"#,
                r#"field "a": "x\ty" contains a control character at byte 1"#,
            ),
            (
                r#"{"a":null,"b":1}"#,
                r#"field "a": the value is null; a string or a number is needed"#,
            ),
            (
                r#"{"a":true,"b":1}"#,
                r#"field "a": the value is true or false; a string or a number is needed"#,
            ),
            (
                r#"{"a":[1],"b":1}"#,
                r#"field "a": the value is an array; a string or a number is needed"#,
            ),
            (
                r#"{"a":{},"b":1}"#,
                r#"field "a": the value is an object; a string or a number is needed"#,
            ),
            (
                r#"{"a":1,"b":2,"n":{}}"#,
                "field \"n\": the value is an object;",
            ),
        ] {
            let bad = topic(json).expect_err(json);
            assert!(bad.starts_with(expected), "{json}: {bad}");
        }
        let bad = topic(r#"{"a":"\ud800","b":1}"#).expect_err("half a pair");
        assert_eq!(
            bad,
            "field \"a\": half of a surrogate pair is not a character"
        );
        let bad = recipe()
            .draft(Line::Text(b"{\"a\":\"\xff\"}"))
            .expect_err("the line is not UTF-8");
        assert_eq!(bad.to_string(), "column 7: the line is not UTF-8");
        let bad = recipe().draft(Line::TooLong).expect_err("too long");
        assert_eq!(
            bad.to_string(),
            "column 1048577: the line is longer than 1048576 bytes"
        );
    }

    #[test]
    fn a_blank_line_is_nothing_and_an_empty_object_is_bad() {
        for blank in ["", " ", "\r", " \t \r"] {
            assert!(matches!(
                recipe().draft(Line::Text(blank.as_bytes())),
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
            let draft = recipe.draft(Line::Text(json.as_bytes())).expect("good");
            assert_eq!(
                draft.expect("not blank").name.as_deref(),
                expected,
                "{json}"
            );
        }
        let template = "{a}".parse().expect("a good template");
        let mut same_field = Recipe::new(template, Some("a".to_owned()));
        let draft = same_field.draft(Line::Text(br#"{"a":"x"}"#)).expect("good");
        assert_eq!(draft.expect("not blank").name.as_deref(), Some("x"));
    }
}
