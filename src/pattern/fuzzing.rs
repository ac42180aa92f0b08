//! What the fuzz targets check, here so that the tests replay their corpus through the same code.

use super::plan::EveryWay;
use super::{Pattern, Topic, naive};

/// Parsing never panics, errors lie within the text, and the canonical form is what it says.
///
/// # Panics
///
/// If anything of that is not so.
pub fn check_parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(topic) = Topic::new(text) {
        let exact = Pattern::exact(&topic);
        assert!(exact.matches(&topic), "{exact:?}");
        assert_eq!(exact.as_str(), exact.canonical());
    }
    let pattern = match Pattern::parse(text) {
        Ok(pattern) => pattern,
        Err(error) => {
            assert!(text.is_char_boundary(error.offset()), "{error}");
            assert!(!error.to_string().contains(char::is_control), "{error}");
            return;
        }
    };
    let canonical = pattern.to_string();
    assert!(
        canonical.len() <= text.len().max("**".len()),
        "{canonical} is longer than {text}"
    );
    let again = Pattern::parse(&canonical).expect("the canonical form is a pattern");
    assert_eq!(again, pattern);
    assert_eq!(again.to_string(), canonical);
    assert_eq!(again.routes(), pattern.routes());
}

/// Parser and matcher, in every way of matching, agree with the judge on a pattern, a line feed, and topics, one to a line.
///
/// # Panics
///
/// If they do not.
pub fn check_match(data: &[u8]) {
    // The judge's time grows with the product of the lengths.
    const BYTES_MAX: usize = 400;
    let Ok(text) = std::str::from_utf8(&data[..data.len().min(BYTES_MAX)]) else {
        return;
    };
    let (pattern, topics) = text.split_once('\n').unwrap_or((text, ""));
    let parsed = Pattern::parse(pattern).ok();
    let every_way = parsed.as_ref().map(EveryWay::new);
    for topic in topics
        .split('\n')
        .filter_map(|topic| Topic::new(topic).ok())
    {
        let verdict = every_way.as_ref().map(|parsed| parsed.matches(&topic));
        assert_eq!(
            verdict,
            naive::matches(pattern, topic.as_str()),
            "{pattern:?} {topic:?}"
        );
    }
    assert_eq!(
        parsed.is_some(),
        naive::matches(pattern, "a").is_some(),
        "{pattern:?}"
    );
}
