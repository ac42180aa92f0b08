//! What the fuzz targets check, here so that the tests replay their corpus through the same code.

use super::{Pattern, Syntax, Topic, naive};

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
    check_parse_as(text, Syntax::Segments);
}

/// The same of a text in any language, which the first byte picks.
///
/// # Panics
///
/// If anything of that is not so.
pub fn check_dialect_parse(data: &[u8]) {
    if let [first, text @ ..] = data
        && let Ok(text) = std::str::from_utf8(text)
    {
        check_parse_as(text, syntax_of(*first));
    }
}

/// The language that the first byte of an input picks.
fn syntax_of(byte: u8) -> Syntax {
    Syntax::ALL[usize::from(byte) % Syntax::ALL.len()]
}

/// The same of a text in that language.
///
/// # Panics
///
/// If anything of that is not so.
pub fn check_parse_as(text: &str, syntax: Syntax) {
    let pattern = match Pattern::parse_as(text, syntax) {
        Ok(pattern) => pattern,
        Err(error) => {
            assert!(text.is_char_boundary(error.offset()), "{error}");
            assert!(!error.to_string().contains(char::is_control), "{error}");
            assert_eq!(error.syntax(), syntax, "{error}");
            return;
        }
    };
    assert_eq!((pattern.as_str(), pattern.syntax()), (text, syntax));
    let canonical = pattern.to_string();
    assert!(
        canonical.len() <= text.len().max("**".len()),
        "{canonical} is longer than {text}"
    );
    let again = Pattern::parse_as(&canonical, syntax).expect("the canonical form is a pattern");
    assert_eq!(again, pattern);
    assert_eq!(again.to_string(), canonical, "{text}");
    assert_eq!(again.routes(), pattern.routes(), "{text} {canonical}");
}

/// Parser and matcher agree with the judge on a pattern, a line feed, and topics, one to a line.
///
/// # Panics
///
/// If they do not.
pub fn check_match(data: &[u8]) {
    check_match_as(data, Syntax::Segments);
}

/// The same in that language. Says how many topics were compared.
///
/// Besides each topic, what is left of it when one character after the other is taken away in
/// front, and topics spelled with the pattern's own characters, as far as those are topics.
///
/// # Panics
///
/// If they do not.
pub fn check_match_as(data: &[u8], syntax: Syntax) -> usize {
    // The judge's time grows with the product of the lengths.
    const BYTES_MAX: usize = 400;
    const SUFFIXES_MAX: usize = 8;
    const SPELLED: usize = 64;
    let Ok(text) = std::str::from_utf8(&data[..data.len().min(BYTES_MAX)]) else {
        return 0;
    };
    let (pattern, topics) = text.split_once('\n').unwrap_or((text, ""));
    let parsed = Pattern::parse_as(pattern, syntax).ok();
    let suffixes = |topic| {
        let starts = str::char_indices(topic).take(SUFFIXES_MAX);
        starts.map(move |(start, _)| &topic[start..])
    };
    let mut speller = Speller::new(pattern);
    let spelled: Vec<String> = (0..SPELLED).map(|_| speller.topic(pattern)).collect();
    let all = topics
        .split('\n')
        .flat_map(suffixes)
        .chain(spelled.iter().map(String::as_str));
    let mut compared = 0;
    for topic in all {
        let Ok(topic) = Topic::new(topic) else {
            continue;
        };
        let verdict = parsed.as_ref().map(|parsed| parsed.matches(&topic));
        assert_eq!(
            verdict,
            naive::matches_as(pattern, topic.as_str(), syntax),
            "{syntax} {pattern:?} {topic:?}"
        );
        compared += 1;
    }
    assert_eq!(
        parsed.is_some(),
        naive::matches_as(pattern, "a", syntax).is_some(),
        "{syntax} {pattern:?}"
    );
    compared
}

/// Makes topics of a pattern: its characters, some left out and some replaced, the same ones each
/// time. Many of them match, or almost do, which mutations of a topic alone seldom reach.
struct Speller(u64);

impl Speller {
    const CHARACTERS_MAX: usize = 40;

    fn new(pattern: &str) -> Self {
        // FNV-1a: the inputs only have to differ.
        Speller(pattern.bytes().fold(0xcbf2_9ce4_8422_2325, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        }))
    }

    fn topic(&mut self, pattern: &str) -> String {
        let mut topic = String::new();
        for c in pattern.chars().take(Self::CHARACTERS_MAX) {
            let is_wild = "*?+#>[]^-\\".contains(c);
            match self.below(if is_wild { 4 } else { 12 }) {
                0 => {}
                1 => topic.extend(self.other(pattern)),
                2 => {
                    topic.extend(self.other(pattern));
                    topic.extend(self.other(pattern));
                }
                _ => topic.push(c),
            }
        }
        let is_levels = self.below(2) == 0;
        let separators: &[char] = if is_levels { &['.', '/'] } else { &['.'] };
        let segments = topic
            .split(separators)
            .filter(|segment| !segment.is_empty());
        segments.collect::<Vec<_>>().join(".")
    }

    /// One of the pattern's characters, or one of a few.
    fn other(&mut self, pattern: &str) -> Option<char> {
        let at = self.below(2 * Self::CHARACTERS_MAX);
        pattern
            .chars()
            .nth(at)
            .or_else(|| "ab.$/é".chars().nth(at % 6))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % bound
    }
}
