//! The conformance suite: cases of every pattern language, as data, each with its source.
//!
//! A file of `tests/testdata/patterns` is a language. It has groups, and a group has the source of
//! its cases (documentation, or the program and version that was asked) and the cases, one for each
//! pattern:
//!
//! ```toml
//! [[group]]
//! source = "language reference: braces"
//! cases = [
//!     { pattern = "x{a,}y", match = ["xay", "xy"], no_match = ["xby"], why = "an alternative may be empty" },
//!     { pattern = "a.*", topic_refused = ["a..b"] },
//!     { pattern = "{*,*}", canonical = "?*" },
//!     { pattern = "{a,}.b", refused = { rule = "EmptySegment", offset = 3, alternative = 2 } },
//!     { pattern = "a.", refused = true },
//! ]
//! ```
//!
//! `match`, `no_match` and `topic_refused` list topics, `refused` is said of the pattern. A file
//! with an unknown key, a case that says nothing or a group without a source is a failure.

use std::fmt;

use toml::{Table, Value};

/// A language of the suite, and its file.
pub(crate) const FILES: [(&str, &str); 6] = [
    (
        "segments",
        include_str!("../testdata/patterns/segments.toml"),
    ),
    ("nats", include_str!("../testdata/patterns/nats.toml")),
    ("amqp", include_str!("../testdata/patterns/amqp.toml")),
    ("mqtt", include_str!("../testdata/patterns/mqtt.toml")),
    ("path", include_str!("../testdata/patterns/path.toml")),
    ("redis", include_str!("../testdata/patterns/redis.toml")),
];

/// What is said about one pattern.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Where it is said.
    pub(crate) source: String,
    pub(crate) pattern: String,
    pub(crate) matches: Vec<String>,
    pub(crate) misses: Vec<String>,
    /// Texts that are no topics.
    pub(crate) refused_topics: Vec<String>,
    /// Whether and how the pattern is refused.
    pub(crate) refusal: Option<Refusal>,
    pub(crate) canonical: Option<String>,
}

/// How a pattern is refused, as far as it is said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal {
    /// The name of the rule.
    pub(crate) rule: Option<String>,
    /// In bytes from the start of the pattern.
    pub(crate) offset: Option<usize>,
    /// Counted from 1.
    pub(crate) alternative: Option<usize>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of {}", self.pattern.escape_debug(), self.source)?;
        if let Some(Refusal {
            rule,
            offset,
            alternative,
        }) = &self.refusal
        {
            write!(
                f,
                ", refused: {rule:?} at {offset:?}, alternative {alternative:?}"
            )?;
        }
        if let Some(canonical) = &self.canonical {
            write!(f, ", printed as `{}`", canonical.escape_debug())?;
        }
        for text in &self.refused_topics {
            write!(f, ", no topic: `{}`", text.escape_debug())?;
        }
        Ok(())
    }
}

impl Case {
    /// Each topic with the verdict that is said.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = (&str, bool)> {
        let matches = self.matches.iter().map(|topic| (&**topic, true));
        matches.chain(self.misses.iter().map(|topic| (&**topic, false)))
    }
}

/// The cases of a language.
pub(crate) fn cases(language: &str) -> Vec<Case> {
    let file = FILES.iter().find(|(name, _)| *name == language);
    let (_, text) = file.unwrap_or_else(|| panic!("there is no language {language}"));
    let mut file: Table =
        toml::from_str(text).unwrap_or_else(|error| panic!("{language}: {error}"));
    let Some(Value::Array(groups)) = file.remove("group") else {
        panic!("{language}: no groups");
    };
    assert!(file.is_empty(), "{language}: {file:?}");
    let mut cases = Vec::new();
    for group in groups {
        let mut group = table(group);
        let source = text_of(group.remove("source"), &group);
        assert!(!source.is_empty(), "{language}: a group has no source");
        let Some(Value::Array(entries)) = group.remove("cases") else {
            panic!("{language}, {source}: no cases");
        };
        assert!(group.is_empty(), "{language}, {source}: {group:?}");
        cases.extend(entries.into_iter().map(|entry| case(&source, table(entry))));
    }
    assert!(cases.len() > 20, "{language}: cases are missing");
    cases
}

fn case(source: &str, mut entry: Table) -> Case {
    let whole = entry.clone();
    let case = Case {
        source: source.to_owned(),
        pattern: text_of(entry.remove("pattern"), &whole),
        matches: texts_of(entry.remove("match"), &whole),
        misses: texts_of(entry.remove("no_match"), &whole),
        refused_topics: texts_of(entry.remove("topic_refused"), &whole),
        refusal: entry
            .remove("refused")
            .map(|refusal| refusal_of(refusal, &whole)),
        canonical: entry
            .remove("canonical")
            .map(|text| text_of(Some(text), &whole)),
    };
    entry.remove("why");
    assert!(entry.is_empty(), "unknown keys: {entry:?}");
    let accepted = case.verdicts().next().is_some()
        || !case.refused_topics.is_empty()
        || case.canonical.is_some();
    assert!(
        case.refusal.is_some() != accepted,
        "either refused or something else: {whole:?}"
    );
    case
}

fn refusal_of(value: Value, whole: &Table) -> Refusal {
    let mut said = match value {
        Value::Boolean(true) => return Refusal::default(),
        Value::Table(said) => said,
        _ => panic!("no refusal: {whole:?}"),
    };
    let mut number = |key: &str| {
        let number = said
            .remove(key)?
            .as_integer()
            .and_then(|number| number.try_into().ok());
        Some(number.unwrap_or_else(|| panic!("no number: {whole:?}")))
    };
    let (offset, alternative) = (number("offset"), number("alternative"));
    let rule = Some(text_of(said.remove("rule"), whole));
    assert!(said.is_empty(), "unknown keys: {said:?}");
    Refusal {
        rule,
        offset,
        alternative,
    }
}

fn table(value: Value) -> Table {
    match value {
        Value::Table(table) => table,
        other => panic!("no table: {other:?}"),
    }
}

fn text_of(value: Option<Value>, whole: &Table) -> String {
    match value {
        Some(Value::String(text)) => text,
        other => panic!("no text: {other:?} in {whole:?}"),
    }
}

fn texts_of(value: Option<Value>, whole: &Table) -> Vec<String> {
    match value {
        None => Vec::new(),
        Some(Value::Array(values)) if !values.is_empty() => values
            .into_iter()
            .map(|value| text_of(Some(value), whole))
            .collect(),
        other => panic!("no texts: {other:?} in {whole:?}"),
    }
}
