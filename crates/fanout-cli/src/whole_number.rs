//! Whole numbers as arguments.

/// Reads a number from 1 to `max`. The arguments that use this, and durations, allow values that
/// begin with a dash, so that the error for `-1` names the argument and the rule.
pub(crate) fn parse(text: &str, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(format!("write a whole number from 1 to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_within_the_bounds_are_accepted() {
        for (text, number) in [("1", 1), ("16", 16), ("007", 7)] {
            assert_eq!(parse(text, 16), Ok(number), "{text}");
        }
    }

    #[test]
    fn anything_else_is_answered_with_the_rule() {
        for text in ["", "0", "17", "-1", "1.5", "x", "99999999999999999999"] {
            let rule = "write a whole number from 1 to 16".to_owned();
            assert_eq!(parse(text, 16), Err(rule), "{text}");
        }
    }
}
