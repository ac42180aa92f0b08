//! Writes the answers of a program to the questions of `quirks.rs` into the conformance suite.
//!
//! The part of a file before the [`MARK`] is written by people and is kept. The part behind it is
//! replaced.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::generate::Dialect;
use super::{Answer, Judge, quirks};

/// The line behind which a file is recorded.
const MARK: &str = "# ---- recorded by `.ci/judges record`: everything below ----\n";

pub(crate) fn record(judge: &mut impl Judge, dialect: Dialect) {
    let mut recorded = String::new();
    for (title, questions) in quirks::of(dialect) {
        let source = format!("observed: {} ({title})", judge.name());
        write!(
            recorded,
            "\n[[group]]\nsource = {}\ncases = [\n",
            quoted(&source)
        )
        .expect("it is a string");
        for (pattern, topics) in *questions {
            let topics: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
            let askable =
                dialect.can_be_asked(pattern) && dialect.askable(&topics).len() == topics.len();
            assert!(askable, "{pattern:?} cannot be asked of {}", judge.name());
            let answer = judge.ask(&[(*pattern).to_owned()], &topics).remove(0);
            recorded += &line(pattern, &topics, &answer);
        }
        recorded += "]\n";
    }
    let path = format!("tests/testdata/patterns/{}.toml", dialect.language());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let file = fs::read_to_string(&path).unwrap_or_default();
    let (written, _) = file.split_once(MARK).unwrap_or((&file, ""));
    fs::write(&path, format!("{written}{MARK}{recorded}")).expect("the suite can be written");
    println!("{} recorded in {}", judge.name(), path.display());
}

fn line(pattern: &str, topics: &[String], answer: &Answer) -> String {
    let mut line = format!("    {{ pattern = {}", quoted(pattern));
    match answer {
        Answer::Refused => line += ", refused = true",
        Answer::Verdicts(verdicts) => {
            for (key, wanted) in [("match", true), ("no_match", false)] {
                let with = topics
                    .iter()
                    .zip(verdicts)
                    .filter(|&(_, &verdict)| verdict == wanted);
                let texts: Vec<String> = with.map(|(topic, _)| quoted(topic)).collect();
                if !texts.is_empty() {
                    write!(line, ", {key} = [{}]", texts.join(", ")).expect("it is a string");
                }
            }
        }
    }
    line + " },\n"
}

/// The text in TOML, in a spelling without escapes if there is one.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
