//! The topic template: text with `{field}` where a field's value goes.
//!
//! A template is checked when the program starts: if every value is a valid part of a topic, the
//! result has no empty segment and no control character. So a line can only be wrong in its fields
//! and in the length of the topic.
//!
//! - `{field}` names a top-level field of the line, literally: it is not a path, spaces count, and
//!   it cannot contain braces.
//! - `{{` and `}}` stand for `{` and `}`.
//! - A template may have no field. Every line is then published on the same topic.

use fanout::{Topic, TopicError};
use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// A checked topic template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    text: String,
    parts: Vec<Part>,
    /// The fields in it, each once, in the order of their first use.
    fields: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// An index into the template's fields.
    Field(usize),
}

/// Why a template is refused. Offsets are bytes of the template, counted from 0.
#[derive(Debug)]
pub(crate) enum TemplateError {
    Empty,
    Malformed {
        text: String,
        offset: usize,
        rule: &'static str,
    },
    NoTopic {
        text: String,
        error: TopicError,
    },
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::Empty => f.write_str("the topic template is empty"),
            TemplateError::Malformed { text, offset, rule } => {
                write!(f, "topic template {text:?}: byte {offset}: {rule}")
            }
            TemplateError::NoTopic { text, error } => write!(
                f,
                "topic template {text:?}: no value of its fields makes a valid topic: {error}"
            ),
        }
    }
}

// The error of the topic is part of the text already, so there is no `source`.
impl Error for TemplateError {}

impl Template {
    /// The template as written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The fields in it, each once.
    pub(crate) fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Writes the topic for these values into `topic`. They are in the order of
    /// [`fields`](Self::fields).
    pub(crate) fn render<V: AsRef<str>>(&self, values: &[V], topic: &mut String) {
        debug_assert_eq!(values.len(), self.fields.len());
        topic.clear();
        for part in &self.parts {
            topic.push_str(match part {
                Part::Text(text) => text,
                Part::Field(index) => values[*index].as_ref(),
            });
        }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut parser = Parser {
            text,
            parts: Vec::new(),
            fields: Vec::new(),
            segment_empty: true,
        };
        parser
            .parse()
            .map_err(|Fault { offset, rule }| TemplateError::Malformed {
                text: text.to_owned(),
                offset,
                rule,
            })?;
        let template = Template {
            text: text.to_owned(),
            parts: parser.parts,
            fields: parser.fields,
        };

        // The library checks the rest, with the shortest possible values.
        let mut shortest = String::new();
        template.render(&vec!["x"; template.fields.len()], &mut shortest);
        match Topic::new(&shortest) {
            Ok(_) => Ok(template),
            Err(error) => Err(TemplateError::NoTopic {
                text: text.to_owned(),
                error,
            }),
        }
    }
}

struct Fault {
    offset: usize,
    rule: &'static str,
}

struct Parser<'a> {
    text: &'a str,
    parts: Vec<Part>,
    fields: Vec<String>,
    /// Whether the current segment has no character yet.
    segment_empty: bool,
}

impl Parser<'_> {
    fn parse(&mut self) -> Result<(), Fault> {
        let mut rest = self.text;
        while let Some(first) = rest.chars().next() {
            let offset = self.text.len() - rest.len();
            let fault = |rule| Err(Fault { offset, rule });
            let taken = if rest.starts_with("{{") || rest.starts_with("}}") {
                self.literal(first);
                2
            } else if first == '{' {
                let Some(close) = rest.find('}') else {
                    return fault("the `{` has no `}` (write `{{` for a brace)");
                };
                let field = &rest[1..close];
                if field.is_empty() {
                    return fault("`{}` has no field name");
                }
                if field.contains('{') {
                    return fault("a field name cannot contain a brace");
                }
                self.field(field);
                close + 1
            } else if first == '}' {
                return fault("the `}` has no `{` (write `}}` for a brace)");
            } else if first == '.' && self.segment_empty {
                return fault("a segment must not be empty");
            } else if first.is_control() {
                return fault("a control character is not allowed");
            } else {
                self.literal(first);
                first.len_utf8()
            };
            rest = &rest[taken..];
        }
        if self.segment_empty {
            return Err(Fault {
                offset: self.text.len(),
                rule: "a segment must not be empty",
            });
        }
        Ok(())
    }

    fn literal(&mut self, character: char) {
        self.segment_empty = character == '.';
        match self.parts.last_mut() {
            Some(Part::Text(text)) => text.push(character),
            _ => self.parts.push(Part::Text(character.into())),
        }
    }

    fn field(&mut self, name: &str) {
        self.segment_empty = false; // a value is never empty
        let index = self
            .fields
            .iter()
            .position(|field| field == name)
            .unwrap_or_else(|| {
                self.fields.push(name.to_owned());
                self.fields.len() - 1
            });
        self.parts.push(Part::Field(index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str, values: &[&str]) -> String {
        let template: Template = template.parse().expect("a good template");
        let mut topic = "what was there before".to_owned();
        template.render(values, &mut topic);
        topic
    }

    #[test]
    fn fields_are_filled_in_each_by_its_name() {
        assert_eq!(rendered("a.b", &[]), "a.b");
        assert_eq!(rendered("{x}", &["1"]), "1");
        assert_eq!(rendered("a.{x}.{y}-{x}", &["1", "2"]), "a.1.2-1");
        assert_eq!(rendered("{{{x}}}.é", &["1"]), "{1}.é");
        let template: Template = "{b}{a.c}{b}{ d}".parse().expect("a good template");
        assert_eq!(template.fields(), ["b", "a.c", " d"]);
    }

    #[test]
    fn a_malformed_template_is_refused_with_place_and_rule() {
        for (template, message) in [
            ("a.{x", "byte 2: the `{` has no `}`"),
            ("a.x}", "byte 3: the `}` has no `{`"),
            ("é{}", "byte 2: `{}` has no field name"),
            ("{a{b}", "byte 0: a field name cannot contain a brace"),
            (".a", "byte 0: a segment must not be empty"),
            ("{x}..b", "byte 4: a segment must not be empty"),
            ("{x}.", "byte 4: a segment must not be empty"),
            ("a\tb", "byte 1: a control character is not allowed"),
        ] {
            let error = template
                .parse::<Template>()
                .expect_err(template)
                .to_string();
            assert!(error.contains(message), "{template}: {error}");
        }
        assert!(matches!("".parse::<Template>(), Err(TemplateError::Empty)));
        let long = "x".repeat(2000);
        assert!(matches!(
            long.parse::<Template>(),
            Err(TemplateError::NoTopic { .. })
        ));
    }
}
