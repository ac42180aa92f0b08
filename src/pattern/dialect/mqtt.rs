//! Topic filters of MQTT 3.1.1 and 5.
//!
//! A filter is cut at its `/` into levels, which stand for the segments of our topics: the filter
//! `a/+` matches the topic `a.b`. A dot in a filter is a plain character. No segment contains one,
//! so such a filter matches nothing. Neither does a filter with an empty level (`a//b`, `/`).
//!
//! A level `+` is any one level. A level `#` must be the last and is any number of levels, also
//! none: `a/#` matches `a`. A filter that begins with a wildcard matches no topic that begins with
//! `$` (\[MQTT-4.7.2-1\]).
//!
//! This follows mosquitto 2.0.11, whose answers to the filters below were observed (2026-11-22). It
//! refuses what the standard forbids: an empty filter, `+` and `#` in a level with other text, and
//! `#` before the end. It also refuses what the standard permits it to refuse: control characters
//! (Unicode Cc), and the code points that Unicode calls noncharacters. And it refuses a filter of
//! more than [`MQTT_LEVELS_MAX`] levels, and `$share` alone. Where it subscribes to a group
//! (`$share/..`), this module refuses the filter: there are no such groups here.

use super::compiled::Compiled;
use crate::pattern::error::{PatternError, PatternRule};
use crate::pattern::limits::MQTT_LEVELS_MAX;
use crate::pattern::route::{Guard, Route, Segment};
use crate::pattern::syntax::Syntax;

pub(super) fn compile(text: &str) -> Result<Compiled, PatternError> {
    check_characters(text)?;
    let mut segments = Vec::new();
    let mut offset = 0;
    for level in text.split('/') {
        if segments.len() == MQTT_LEVELS_MAX {
            return refuse(text, PatternRule::TooManyLevels, offset - 1);
        }
        let end = offset + level.len();
        segments.push(match level {
            "$share" if offset == 0 => return refuse(text, PatternRule::SharedSubscription, 0),
            "+" => Segment::Any,
            "#" if end < text.len() => return refuse(text, PatternRule::RestNotLast, offset),
            "#" => Segment::Many,
            _ => match level.find(['+', '#']) {
                Some(at) => return refuse(text, PatternRule::GluedWildcard, offset + at),
                None => Segment::Literal(level.into()),
            },
        });
        offset = end + 1;
    }
    let guard = match segments[0] {
        Segment::Literal(_) => Guard::Open,
        _ => Guard::NoDollar,
    };
    Ok(Compiled {
        canonical: text.to_owned(), // `#` is last, so no filter can be written in two ways
        routes: vec![Route::guarded(segments, guard)],
    })
}

fn check_characters(text: &str) -> Result<(), PatternError> {
    if text.is_empty() {
        return refuse(text, PatternRule::Empty, 0);
    }
    for (offset, c) in text.char_indices() {
        if c.is_control() {
            return refuse(text, PatternRule::Control, offset);
        }
        if is_noncharacter(c) {
            return refuse(text, PatternRule::Noncharacter, offset);
        }
    }
    Ok(())
}

/// Whether the code point is one that Unicode never assigns to a character: 32 in one block, and
/// the last two of each plane.
fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

fn refuse<T>(text: &str, rule: PatternRule, offset: usize) -> Result<T, PatternError> {
    Err(PatternError::new(rule, offset, text, Syntax::Mqtt))
}
