//! One `--subscribe`: a pattern, and the file that its events are written to.
//!
//! `PATTERN=FILE` is split at the last `=` that no backslash escapes. Backslashes are special only
//! directly before an `=`: there, two of them stand for one, and one that is left escapes the `=`.
//! (The arguments of Windows programs treat quotation marks in the same way.) So every pattern and
//! every file name can be written, and all those without `\=` are written as they are.

use fanout::{Pattern, PatternError, Syntax};

/// A pattern, and the output for its events.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    /// The pattern as it was written.
    pub(crate) text: String,
    pub(crate) pattern: Pattern,
    /// A path, or `-`. If there is none, events are only counted.
    pub(crate) output: Option<String>,
}

impl Subscription {
    /// Reads the argument of one `--subscribe`.
    pub(crate) fn parse(argument: &str, syntax: Syntax) -> Result<Subscription, PatternError> {
        let (pattern, file) = match separator(argument) {
            Some(at) => (&argument[..at], &argument[at + 1..]),
            None => (argument, ""),
        };
        let text = match syntax {
            // A backslash is plain in these languages, so the escape is resolved here. The
            // separator is part of the text meanwhile, because there may be backslashes before it.
            Syntax::Nats | Syntax::Amqp | Syntax::Mqtt => {
                let with_separator = argument.get(..=pattern.len()).unwrap_or(argument);
                let mut text = unescaped(with_separator);
                text.truncate(text.len() - (with_separator.len() - pattern.len()));
                text
            }
            // In the others it escapes any character, with the same effect on `=` and `\`.
            _ => pattern.to_owned(),
        };
        Ok(Subscription {
            pattern: Pattern::parse_as(&text, syntax)?,
            text,
            output: (!file.is_empty()).then(|| unescaped(file)),
        })
    }
}

/// The position of the last `=` that no backslash escapes.
fn separator(argument: &str) -> Option<usize> {
    let mut signs = argument.rmatch_indices('=').map(|(at, _)| at);
    signs.find(|&at| backslashes_before(&argument[..at]).is_multiple_of(2))
}

fn backslashes_before(text: &str) -> usize {
    text.len() - text.trim_end_matches('\\').len()
}

/// Removes half of the backslashes directly before each `=`, and leaves everything else unchanged.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for piece in text.split_inclusive('=') {
        let body = piece.strip_suffix('=').unwrap_or(piece);
        let is_last = body.len() == piece.len();
        let backslashes = if is_last { 0 } else { backslashes_before(body) };
        plain.push_str(&body[..body.len() - backslashes.div_ceil(2)]);
        plain.push_str(&piece[body.len()..]);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_split_at_the_last_equals_sign_that_is_not_escaped() {
        use Syntax::{Mqtt, Nats, Segments};
        for (syntax, argument, pattern, file) in [
            (Segments, "a.*", "a.*", None),
            (Segments, "a.*=", "a.*", None),
            (Segments, "a.*=-", "a.*", Some("-")),
            (Segments, "a=b=", "a=b", None),
            (Segments, "a=b=f", "a=b", Some("f")),
            (Segments, r"a\=b", r"a\=b", None),
            (Segments, r"a\=b=f", r"a\=b", Some("f")),
            (Segments, r"a=f\=1", "a", Some("f=1")),
            (Segments, r"a=f\=1\=2", "a", Some("f=1=2")),
            (Segments, r"a=f\\\=1", "a", Some(r"f\=1")),
            (Segments, r"a\\=f", r"a\\", Some("f")),
            (Segments, r"a=C:\x\\y", "a", Some(r"C:\x\\y")),
            (Nats, r"a\=b", "a=b", None),
            (Nats, r"a\=b\c=f", r"a=b\c", Some("f")),
            (Nats, r"a\\=f", r"a\", Some("f")),
            (Nats, r"a\\", r"a\\", None),
            (Nats, r"a\\=", r"a\", None),
            (Nats, r"a\\\=", r"a\=", None),
            (Mqtt, r"a=b/c\=/+=f", "a=b/c=/+", Some("f")),
        ] {
            let read = Subscription::parse(argument, syntax).expect(argument);
            assert_eq!(
                (read.text.as_str(), read.output.as_deref()),
                (pattern, file),
                "{argument}"
            );
            assert_eq!(read.pattern.as_str(), pattern);
        }
    }

    #[test]
    fn a_pattern_that_is_refused_is_named() {
        for argument in ["", "=f", "a..b=f"] {
            let error = Subscription::parse(argument, Syntax::Segments).expect_err(argument);
            assert!(error.to_string().contains("empty"), "{error}");
        }
    }
}
