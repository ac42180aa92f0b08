//! Subjects of NATS, as they are written in subscriptions.
//!
//! A subject is cut at its dots into tokens. A token `*` is any one token. A token `>` must be the
//! last and is one token or more. Within a longer token, both are plain text: `a*`, `**` and `>>`
//! match equal topics only.
//!
//! This follows nats-server 2.10 to 2.12, `IsValidSubject` in server/sublist.go: it refuses an
//! empty subject, an empty token, anything behind `>`, and a token with a space, tab, line feed,
//! carriage return or form feed. It accepts other control characters. No topic of ours contains
//! one, so such a subject matches nothing.

use super::compiled::Compiled;
use crate::pattern::error::{PatternError, PatternRule};
use crate::pattern::route::{Route, Segment};
use crate::pattern::syntax::Syntax;

pub(super) fn compile(text: &str) -> Result<Compiled, PatternError> {
    let refuse = |rule, offset| Err(PatternError::new(rule, offset, text, Syntax::Nats));
    if text.is_empty() {
        return refuse(PatternRule::Empty, 0);
    }
    let mut segments = Vec::new();
    let mut offset = 0;
    let mut rest_at = None;
    for token in text.split('.') {
        if let Some(at) = rest_at {
            return refuse(PatternRule::RestNotLast, at);
        }
        if token.is_empty() {
            return refuse(PatternRule::EmptySegment, offset);
        }
        if let Some(at) = token.find([' ', '\t', '\n', '\r', '\x0c']) {
            return refuse(PatternRule::WhiteSpace, offset + at);
        }
        match token {
            "*" => segments.push(Segment::Any),
            ">" => {
                rest_at = Some(offset);
                segments.extend([Segment::Any, Segment::Many]);
            }
            _ => segments.push(Segment::Literal(token.into())),
        }
        offset += token.len() + 1;
    }
    Ok(Compiled {
        canonical: text.to_owned(), // no subject can be written in two ways
        routes: vec![Route::new(segments)],
    })
}
