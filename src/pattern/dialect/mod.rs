//! The languages of others: each reads its text to routes and says the text's canonical form.
//!
//! Three cut a topic at its dots as the native language does ([`nats`], [`amqp`], [`mqtt`]): their
//! wildcards are whole segments, so everything they say fits into the segments of a route. Two see
//! the topic as one text ([`path`], [`redis`]): what they begin with in plain text becomes
//! segments, and a glob over the rest of the topic the route's tail.
//!
//! A text that the real one accepts and that can match no topic of ours becomes a route with a
//! segment that no topic has (an empty one, or one with a control character): matcher and index
//! need to know nothing of it.

mod amqp;
mod mqtt;
mod nats;
pub(super) mod path;
mod redis;
#[cfg(test)]
mod tests;
mod whole;

use super::error::{PatternError, PatternRule};
use super::excerpt::char_boundary_at_most;
use super::route::Route;
use super::{PATTERN_BYTES_MAX, Syntax, parse, print};

/// A pattern, read.
pub(super) struct Compiled {
    pub(super) canonical: String,
    /// At least one.
    pub(super) routes: Vec<Route>,
}

/// Reads `text`, which may be of any length if it was a pattern before (see `Pattern::exact`).
pub(super) fn compile(
    text: &str,
    syntax: Syntax,
    any_length: bool,
) -> Result<Compiled, PatternError> {
    if !any_length && text.len() > PATTERN_BYTES_MAX {
        let offset = char_boundary_at_most(text, PATTERN_BYTES_MAX);
        return Err(PatternError::new(
            PatternRule::TooLong,
            offset,
            text,
            syntax,
        ));
    }
    match syntax {
        Syntax::Segments => {
            let parsed = parse::parse(text)?;
            Ok(Compiled {
                canonical: print::canonical(&parsed),
                routes: parsed.routes,
            })
        }
        Syntax::Nats => nats::compile(text),
        Syntax::Amqp => Ok(amqp::compile(text)),
        Syntax::Mqtt => mqtt::compile(text),
        Syntax::Path => path::compile(text),
        Syntax::Redis => Ok(redis::compile(text)),
    }
}
