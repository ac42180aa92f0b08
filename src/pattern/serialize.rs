//! Serialization of patterns, syntaxes and topics with serde (feature `serde`).
//!
//! | | in human-readable formats | in other formats |
//! | --- | --- | --- |
//! | [`Topic`] | its text | its text |
//! | [`Syntax`] | its name | its index in [`Syntax::ALL`], a byte |
//! | [`Pattern`], native | its text, as written | syntax and text, as a pair |
//! | [`Pattern`], other | `{"syntax": "mqtt", "pattern": "a/+"}` | syntax and text, as a pair |
//!
//! A native pattern can also be deserialized from the long form. Each text is parsed, and refused
//! with the error of parsing.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::{Serialize, SerializeStruct, SerializeTuple, Serializer};

use super::dialect;
use super::error::{PatternError, PatternRule};
use super::limits::TOPIC_BYTES_MAX;
use super::pattern::Pattern;
use super::route::Segment;
use super::syntax::{Syntax, UnknownSyntax};
use super::topic::Topic;

const FIELDS: &[&str] = &["syntax", "pattern"];

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Topic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| Topic::new(text).map_err(|error| error.to_string());
        deserializer.deserialize_str(Text("a topic", read))
    }
}

impl Serialize for Syntax {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.serialize_str(self.name());
        }
        let found = (0..).zip(Syntax::ALL).find(|(_, other)| other == self);
        serializer.serialize_u8(found.expect("all are in `ALL`").0)
    }
}

impl<'de> Deserialize<'de> for Syntax {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let read = |name: &str| {
                name.parse()
                    .map_err(|error: UnknownSyntax| error.to_string())
            };
            return deserializer.deserialize_str(Text("the name of a syntax", read));
        }
        let index = u8::deserialize(deserializer)?;
        let found = Syntax::ALL.get(usize::from(index)).copied();
        let unexpected = Unexpected::Unsigned(index.into());
        found.ok_or_else(|| de::Error::invalid_value(unexpected, &"the number of a syntax"))
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            let mut pair = serializer.serialize_tuple(FIELDS.len())?;
            pair.serialize_element(&self.syntax())?;
            pair.serialize_element(self.as_str())?;
            return pair.end();
        }
        if self.syntax() == Syntax::Segments {
            return serializer.serialize_str(self.as_str());
        }
        let mut fields = serializer.serialize_struct("Pattern", FIELDS.len())?;
        fields.serialize_field(FIELDS[0], &self.syntax())?;
        fields.serialize_field(FIELDS[1], self.as_str())?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(PatternVisitor)
        } else {
            deserializer.deserialize_tuple(FIELDS.len(), PatternVisitor)
        }
    }
}

/// Parses a pattern. One that [`Pattern::exact`] made may be longer than others.
fn read(text: &str, syntax: Syntax) -> Result<Pattern, PatternError> {
    Pattern::parse_as(text, syntax).or_else(|error| {
        let is_long = error.rule() == PatternRule::TooLong && syntax == Syntax::Segments;
        let exact = is_long.then(|| read_exact(text)).flatten();
        exact.ok_or(error)
    })
}

fn read_exact(text: &str) -> Option<Pattern> {
    // At most, each byte of a topic is escaped.
    if text.len() > 2 * TOPIC_BYTES_MAX {
        return None;
    }
    let compiled = dialect::compile(text, Syntax::Segments, true).ok()?;
    let [route] = &*compiled.routes else {
        return None;
    };
    let literals: Option<Vec<&str>> = route
        .segments()
        .iter()
        .map(|segment| match segment {
            Segment::Literal(text) => Some(&**text),
            _ => None,
        })
        .collect();
    let topic = Topic::new(literals?.join(".")).ok()?;
    Some(Pattern::exact(&topic)).filter(|exact| exact.as_str() == text)
}

struct PatternVisitor;

impl<'de> Visitor<'de> for PatternVisitor {
    type Value = Pattern;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pattern, or a pattern with its syntax")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Pattern, E> {
        read(text, Syntax::Segments).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Pattern, A::Error> {
        let missing = |at| de::Error::invalid_length(at, &self);
        let syntax: Syntax = pair.next_element()?.ok_or_else(|| missing(0))?;
        let found = pair.next_element_seed(PatternText(syntax))?;
        found.ok_or_else(|| missing(1))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Pattern, A::Error> {
        // The text may come first; it is parsed when the syntax is known.
        let mut syntax = None;
        let mut text = None;
        while let Some(field) = fields.next_key_seed(Text("a field", field))? {
            let (found, value_is_new) = match field {
                0 => (FIELDS[0], syntax.replace(fields.next_value()?).is_none()),
                _ => {
                    let copy = Text("a pattern", |text: &str| Ok(Box::<str>::from(text)));
                    (
                        FIELDS[1],
                        text.replace(fields.next_value_seed(copy)?).is_none(),
                    )
                }
            };
            if !value_is_new {
                return Err(de::Error::duplicate_field(found));
            }
        }
        let text = text.ok_or_else(|| de::Error::missing_field(FIELDS[1]))?;
        read(&text, syntax.unwrap_or_default()).map_err(de::Error::custom)
    }
}

/// The index of a field in [`FIELDS`].
fn field(name: &str) -> Result<usize, String> {
    let found = FIELDS.iter().position(|field| *field == name);
    found.ok_or_else(|| {
        format!("unknown field `{name}` of a pattern: it must be `syntax` or `pattern`")
    })
}

/// Deserializes the text of a pattern in this syntax.
struct PatternText(Syntax);

impl<'de> de::DeserializeSeed<'de> for PatternText {
    type Value = Pattern;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Pattern, D::Error> {
        let read = |text: &str| read(text, self.0).map_err(|error| error.to_string());
        Text("a pattern", read).deserialize(deserializer)
    }
}

/// Deserializes a text: the name of what is expected, and the function that parses it.
struct Text<F>(&'static str, F);

impl<'de, V, F: FnOnce(&str) -> Result<V, String>> de::DeserializeSeed<'de> for Text<F> {
    type Value = V;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<V, F: FnOnce(&str) -> Result<V, String>> Visitor<'_> for Text<F> {
    type Value = V;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<V, E> {
        self.1(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns() -> Vec<Pattern> {
        let long = Topic::new("*".repeat(TOPIC_BYTES_MAX)).unwrap();
        let mut patterns: Vec<_> = [
            ("a.[!b].**", Syntax::Segments),
            ("a.>", Syntax::Nats),
            ("", Syntax::Amqp),
            ("a/+", Syntax::Mqtt),
            ("[^\\]]\"é", Syntax::Path),
            ("[\n", Syntax::Redis),
        ]
        .map(|(text, syntax)| Pattern::parse_as(text, syntax).unwrap())
        .into();
        patterns.push(Pattern::exact(&long));
        patterns
    }

    #[test]
    fn patterns_are_deserialized_as_they_were_written() {
        for pattern in patterns() {
            let json = serde_json::to_string(&pattern).unwrap();
            let bytes = postcard::to_allocvec(&pattern).unwrap();
            for again in [
                serde_json::from_str::<Pattern>(&json).expect(&json),
                serde_json::from_reader(json.as_bytes()).expect(&json),
                serde_json::from_value(serde_json::to_value(&pattern).unwrap()).expect(&json),
                postcard::from_bytes(&bytes).expect(&json),
            ] {
                assert_eq!(again, pattern);
                assert_eq!(again.as_str(), pattern.as_str());
                assert_eq!(again.syntax(), pattern.syntax());
            }
        }
    }

    #[test]
    fn the_formats_are_as_documented() {
        let json = |pattern: &Pattern| serde_json::to_string(pattern).unwrap();
        let [native, nats, _, mqtt, ..] = &*patterns() else {
            unreachable!()
        };
        assert_eq!(json(native), r#""a.[!b].**""#);
        assert_eq!(json(mqtt), r#"{"syntax":"mqtt","pattern":"a/+"}"#);
        assert_eq!(postcard::to_allocvec(native).unwrap(), b"\0\x09a.[!b].**");
        assert_eq!(postcard::to_allocvec(nats).unwrap(), b"\x01\x03a.>");
        for text in [r#"{"pattern":"a/+","syntax":"mqtt"}"#, r#"["mqtt","a/+"]"#] {
            assert_eq!(serde_json::from_str::<Pattern>(text).expect(text), *mqtt);
        }
        let plain: Pattern = serde_json::from_str(r#"{"pattern":"a.[!b].**"}"#).unwrap();
        assert_eq!(plain, *native);
    }

    #[test]
    fn topics_and_syntaxes_are_deserialized_as_they_were() {
        let topic = Topic::new("a.*\"").unwrap();
        let json = serde_json::to_string(&topic).unwrap();
        assert_eq!(json, r#""a.*\"""#);
        assert_eq!(serde_json::from_str::<Topic>(&json).unwrap(), topic);
        let bytes = postcard::to_allocvec(&topic).unwrap();
        assert_eq!(postcard::from_bytes::<Topic>(&bytes).unwrap(), topic);
        for (at, syntax) in (0u8..).zip(Syntax::ALL) {
            let json = serde_json::to_string(&syntax).unwrap();
            assert_eq!(json, format!("\"{syntax}\""));
            assert_eq!(serde_json::from_str::<Syntax>(&json).unwrap(), syntax);
            assert_eq!(postcard::to_allocvec(&syntax).unwrap(), [at]);
            assert_eq!(postcard::from_bytes::<Syntax>(&[at]).unwrap(), syntax);
        }
        assert!(postcard::from_bytes::<Syntax>(&[6]).is_err());
    }

    #[test]
    fn errors_are_those_of_parsing() {
        let too_long = format!("\"{}\"", "a".repeat(TOPIC_BYTES_MAX + 1));
        let long_glob = format!("\"*{}\"", "a".repeat(TOPIC_BYTES_MAX));
        for (json, message) in [
            (
                r#""a..b""#,
                "pattern `a..b`, byte 2: a segment must not be empty",
            ),
            (
                r##"{"syntax":"mqtt","pattern":"#/a"}"##,
                "mqtt pattern `#/a`, byte 0: `#` stands for the rest of the topic and must be last",
            ),
            (r#"{"syntax":"mqtt"}"#, "missing field `pattern`"),
            (
                r#"{"syntax":"nuts","pattern":"a"}"#,
                "unknown syntax `nuts`",
            ),
            (
                r#"{"pattern":"a","pattern":"b"}"#,
                "duplicate field `pattern`",
            ),
            (r#"{"patern":"a"}"#, "unknown field `patern`"),
            ("7", "expected a pattern, or a pattern with its syntax"),
            ("[]", "expected a pattern, or a pattern with its syntax"),
            (&too_long, "a pattern has 1024 bytes at most"),
            (&long_glob, "a pattern has 1024 bytes at most"),
        ] {
            let error = serde_json::from_str::<Pattern>(json)
                .unwrap_err()
                .to_string();
            assert!(error.contains(message), "{error}");
        }
        let error = serde_json::from_str::<Topic>(r#""a..b""#)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("topic `a..b`, byte 2: a segment must not be empty"),
            "{error}"
        );
    }
}
