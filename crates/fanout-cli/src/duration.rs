//! Durations as arguments: a whole number and a unit, as in `500ms` or `5s`.
//!
//! A number without a unit is refused: the users of other programs expect seconds or milliseconds.

use std::time::Duration;

/// Each unit and its length in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Reads a duration of at most `max`.
pub(crate) fn parse(text: &str, max: Duration) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if digits > 0 && unit.is_empty() {
        return Err(format!(
            "the unit is missing: write `{number}ms` or `{number}s` (the units are ms, s, m, h \
             and d)"
        ));
    }
    let unit_ms = UNITS.iter().find(|(name, _)| *name == unit);
    let (Some((_, unit_ms)), true) = (unit_ms, digits > 0) else {
        return Err(format!(
            "write a whole number and a unit (ms, s, m, h or d), as in 500ms, 5s or 2m, at most {}",
            shown(max)
        ));
    };
    // A number that overflows is longer than any bound.
    let duration = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*unit_ms))
        .map(Duration::from_millis);
    match duration {
        Some(duration) if duration <= max => Ok(duration),
        _ => Err(format!("the duration is longer than {}", shown(max))),
    }
}

/// Displays the duration in the largest unit that needs no fraction.
pub(crate) fn shown(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, unit_ms): &&(&str, u64)| ms % unit_ms == 0;
    let (unit, unit_ms) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
    format!("{}{unit}", ms / unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(30 * 86_400);

    #[test]
    fn a_number_and_a_unit_are_a_duration() {
        for (text, ms) in [
            ("0ms", 0),
            ("250ms", 250),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("30d", 30 * 86_400_000),
        ] {
            assert_eq!(parse(text, MAX), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_answered_with_the_right_form() {
        for text in ["", "s", "5 s", "5sec", "1.5s", "-5s", "+5s", "5S", "½s"] {
            let error = parse(text, MAX).expect_err(text);
            assert!(error.contains("as in 500ms, 5s or 2m"), "{text}: {error}");
        }
        for text in ["31d", "2592000001ms", "99999999999999999999s"] {
            assert_eq!(
                parse(text, MAX),
                Err("the duration is longer than 30d".to_owned()),
                "{text}"
            );
        }
        for text in ["0", "5", "99999999999999999999"] {
            let error = parse(text, MAX).expect_err(text);
            let forms = format!("write `{text}ms` or `{text}s`");
            assert!(error.contains(&forms), "{error}");
        }
        assert_eq!(
            parse("2s", Duration::from_millis(1500)),
            Err("the duration is longer than 1500ms".to_owned())
        );
    }
}
