//! The pattern languages: each compiles a text to routes and to the canonical form of the text.
//!
//! Three languages cut a topic at its dots as the native language does ([`nats`], [`amqp`],
//! [`mqtt`]). Their wildcards are whole segments, so the segments of a route can express all of
//! their patterns. Two languages treat the topic as one text ([`path`], [`redis`]): the plain text
//! at the beginning of a pattern becomes segments, and the rest of it becomes the tail of the
//! route.
//!
//! A text that the original program accepts and that can match no topic of ours becomes a route
//! with a segment that no topic has (an empty one, or one with a control character). So matcher and
//! index need no special case.

mod amqp;
mod compiled;
mod mqtt;
mod nats;
pub(super) mod path;
mod redis;
#[cfg(test)]
mod tests;
mod whole;

pub(super) use self::compiled::Compiled;
use super::error::{PatternError, PatternRule};
use super::excerpt::char_boundary_at_most;
use super::limits::PATTERN_BYTES_MAX;
use super::syntax::Syntax;
use super::{parse, print};

/// Compiles `text`. With `any_length`, it may be longer than others (see `Pattern::exact`).
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
