//! The conformance suite: cases of every pattern language, as data, each with its source.
//!
//! Each file of `tests/testdata/patterns` is for one language. It has groups. A group has the
//! source of its cases (a document, or the program and its version that were asked) and the cases,
//! one for each pattern:
//!
//! ```toml
//! [[group]]
//! source = "language reference: braces"
//! cases = [
//!     { pattern = "x{a,}y", match = ["xay", "xy"], no_match = ["xby"], why = "it may be empty" },
//!     { pattern = "a.*", topic_refused = ["a..b"] },
//!     { pattern = "{*,*}", canonical = "?*" },
//!     { pattern = "{a,}.b", refused = { rule = "EmptySegment", offset = 3, alternative = 2 } },
//!     { pattern = "a.", refused = true },
//! ]
//! ```
//!
//! `match`, `no_match` and `topic_refused` are lists of topics; `refused` is about the pattern. A
//! file with an unknown key, a case that states nothing, or a group without a source is an error.

use std::fmt;

use toml::{Table, Value};

/// The languages of the suite, and their files.
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

/// What the suite states about one pattern.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The source of the statement.
    pub(crate) source: String,
    pub(crate) pattern: String,
    pub(crate) matches: Vec<String>,
    pub(crate) misses: Vec<String>,
    /// Texts that are not valid topics.
    pub(crate) refused_topics: Vec<String>,
    /// Whether and how the pattern is refused.
    pub(crate) refusal: Option<Refusal>,
    pub(crate) canonical: Option<String>,
}

/// How a pattern is refused, as far as it is stated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal {
    /// The name of the rule.
    pub(crate) rule: Option<String>,
    /// The byte, counted from the start of the pattern.
    pub(crate) offset: Option<usize>,
    /// The number of the alternative, counted from 1.
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
            write!(f, ", not a topic: `{}`", text.escape_debug())?;
        }
        Ok(())
    }
}

impl Case {
    /// Each topic, and whether the pattern matches it.
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
    let mut stated = match value {
        Value::Boolean(true) => return Refusal::default(),
        Value::Table(stated) => stated,
        _ => panic!("not a refusal: {whole:?}"),
    };
    let mut number = |key: &str| {
        let number = stated
            .remove(key)?
            .as_integer()
            .and_then(|number| number.try_into().ok());
        Some(number.unwrap_or_else(|| panic!("not a number: {whole:?}")))
    };
    let (offset, alternative) = (number("offset"), number("alternative"));
    let rule = Some(text_of(stated.remove("rule"), whole));
    assert!(stated.is_empty(), "unknown keys: {stated:?}");
    Refusal {
        rule,
        offset,
        alternative,
    }
}

fn table(value: Value) -> Table {
    match value {
        Value::Table(table) => table,
        other => panic!("not a table: {other:?}"),
    }
}

fn text_of(value: Option<Value>, whole: &Table) -> String {
    match value {
        Some(Value::String(text)) => text,
        other => panic!("not a text: {other:?} in {whole:?}"),
    }
}

fn texts_of(value: Option<Value>, whole: &Table) -> Vec<String> {
    match value {
        None => Vec::new(),
        Some(Value::Array(values)) if !values.is_empty() => values
            .into_iter()
            .map(|value| text_of(Some(value), whole))
            .collect(),
        other => panic!("not a list of texts: {other:?} in {whole:?}"),
    }
}
