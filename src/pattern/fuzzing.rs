//! What the fuzz targets check, here so that the tests replay their corpus through the same code.

use super::automaton::Automaton;
use super::plan::{self, EveryWay};
use super::sets::{Goal, find};
use super::{Pattern, Route, Syntax, Topic, naive};

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

/// Parser and matcher, in every way of matching, agree with the naive implementation of that
/// language, on a pattern, a line feed, and topics, one to a line. Returns how many topics were
/// compared.
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
    let every_way = parsed.as_ref().map(EveryWay::new);
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
        let verdict = every_way.as_ref().map(|parsed| parsed.matches(&topic));
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

/// `covers` and `intersects` agree with the matcher on patterns, one to a line, and on others that are spelled with their
/// characters and wildcards, each with each: the topic that proves an answer does, and where there is none, no topic of
/// a small world contradicts. Says how many ordered pairs were compared.
///
/// # Panics
///
/// If they do not.
pub fn check_sets(data: &[u8]) -> usize {
    // Each pattern is tried on the whole world, and compared with every other.
    const BYTES_MAX: usize = 120;
    const PATTERNS_MAX: usize = 12;
    const SPELLED: usize = 24;
    let Ok(text) = std::str::from_utf8(&data[..data.len().min(BYTES_MAX)]) else {
        return 0;
    };
    let lines: Vec<&str> = text.split('\n').collect();
    let mut speller = Speller::new(text);
    let spelled: Vec<String> = (0..SPELLED)
        .map(|number| speller.pattern(lines[number % lines.len()]))
        .collect();
    let patterns: Vec<Pattern> = lines
        .into_iter()
        .chain(spelled.iter().map(String::as_str))
        .filter_map(|text| Pattern::parse(text).ok())
        .take(PATTERNS_MAX)
        .collect();
    let world = World::new(&alphabet(text));
    let sides: Vec<Side<'_>> = patterns
        .iter()
        .map(|pattern| Side::new(pattern, &world))
        .collect();
    for (at, here) in sides.iter().enumerate() {
        for there in &sides[at..] {
            check_sets_of(here, there, &world);
        }
    }
    // What is public says what was checked.
    let some = || patterns.iter().zip(&sides).take(2);
    for ((one, here), (two, there)) in some().flat_map(|one| some().map(move |two| (one, two))) {
        let covers = check_goal(here, there, Goal::Uncovered, &world).map(|found| !found);
        assert_eq!(one.covers(two).ok(), covers, "{one} {two}");
        let intersects = check_goal(here, there, Goal::Shared, &world);
        assert_eq!(one.intersects(two).ok(), intersects, "{one} {two}");
    }
    patterns.len() * patterns.len()
}

/// Like [`check_sets`], of two patterns, both ways.
pub(super) fn check_sets_of(here: &Side<'_>, there: &Side<'_>, world: &World) {
    let one = check_goal(here, there, Goal::Shared, world);
    let two = check_goal(there, here, Goal::Shared, world);
    assert!(
        one == two || one.is_none() || two.is_none(),
        "{:?} and {:?}: shared one way alone",
        here.routes,
        there.routes
    );
    check_goal(here, there, Goal::Uncovered, world);
    check_goal(there, here, Goal::Uncovered, world);
}

/// Whether a topic was found, if that is known.
fn check_goal(here: &Side<'_>, there: &Side<'_>, goal: Goal, world: &World) -> Option<bool> {
    let told = || format!("{goal:?}: {:?} and {:?}", here.routes, there.routes);
    let found = find(&here.automaton, &there.automaton, goal).ok()?;
    match &found {
        Some(topic) => {
            let reaches = there.matches(topic) && here.matches(topic) == (goal == Goal::Shared);
            assert!(reaches, "{} on {topic:?}", told());
        }
        None => {
            let mut both = here.matched.iter().zip(&there.matched).zip(&world.topics);
            let reaches = |here: bool, there: bool| there && here == (goal == Goal::Shared);
            let contradicts = both.find(|((here, there), _)| reaches(**here, **there));
            let topic = contradicts.map(|(_, topic)| topic);
            assert_eq!(topic, None, "{}", told());
        }
    }
    Some(found.is_some())
}

/// A pattern that is compared with another.
pub(super) struct Side<'a> {
    automaton: Automaton,
    routes: &'a [Route],
    /// For each topic of the world, whether it matches.
    matched: Vec<bool>,
}

impl<'a> Side<'a> {
    fn new(pattern: &'a Pattern, world: &World) -> Self {
        let automaton = plan::automaton(pattern.as_str(), pattern.routes()).expect("no tail");
        Side::of(automaton, pattern.routes(), world)
    }

    #[cfg(test)]
    pub(super) fn of_route(route: &'a Route, world: &World) -> Self {
        Side::of(
            Automaton::of_route(route),
            std::slice::from_ref(route),
            world,
        )
    }

    fn of(automaton: Automaton, routes: &'a [Route], world: &World) -> Self {
        let mut side = Side {
            automaton,
            routes,
            matched: Vec::new(),
        };
        side.matched = world
            .topics
            .iter()
            .map(|topic| side.matches(topic))
            .collect();
        side
    }

    /// By segments, which shares no code with the search.
    fn matches(&self, topic: &str) -> bool {
        self.routes.iter().any(|route| route.matches(topic))
    }
}

/// The topics of a few characters: up to 4 segments, the shorter the topic the longer these.
pub(super) struct World {
    topics: Vec<String>,
}

impl World {
    pub(super) fn new(alphabet: &[char]) -> Self {
        let join = |before: &[String], between: &str, after: &[String]| -> Vec<String> {
            let joined = |a| after.iter().map(move |b| format!("{a}{between}{b}"));
            before.iter().flat_map(joined).collect()
        };
        let one: Vec<String> = alphabet.iter().map(char::to_string).collect();
        let two = join(&one, "", &one);
        let up_to_two = [&*one, &two].concat();
        let three = join(&two, "", &one);
        let pairs = join(&up_to_two, ".", &up_to_two);
        let short = join(&one, ".", &one);
        let four = join(&short, ".", &short);
        let triples = join(&short, ".", &one);
        World {
            topics: [up_to_two, three, pairs, triples, four].concat(),
        }
    }
}

/// A few characters that the patterns of `text` may tell apart, and one more.
fn alphabet(text: &str) -> Vec<char> {
    let mut alphabet = vec!['z'];
    for c in text.chars() {
        let is_plain = !c.is_control() && !".*?,{}\\".contains(c);
        if is_plain && alphabet.len() < 4 && !alphabet.contains(&c) {
            alphabet.push(c);
        }
    }
    alphabet
}

/// Makes texts of a pattern: its characters, some left out and some replaced, the same ones each
/// time. Many of the topics match, or almost do, and many of the patterns cover each other, or almost, which
/// mutations of one text alone seldom reach.
struct Speller(u64);

impl Speller {
    const CHARACTERS_MAX: usize = 40;

    fn new(seed: &str) -> Self {
        // FNV-1a: the inputs only have to differ.
        Speller(seed.bytes().fold(0xcbf2_9ce4_8422_2325, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        }))
    }

    fn topic(&mut self, pattern: &str) -> String {
        let topic = self.spell(pattern, "ab.$/é");
        let is_levels = self.below(2) == 0;
        let separators: &[char] = if is_levels { &['.', '/'] } else { &['.'] };
        let segments = topic
            .split(separators)
            .filter(|segment| !segment.is_empty());
        segments.collect::<Vec<_>>().join(".")
    }

    /// Often the text is no pattern.
    fn pattern(&mut self, pattern: &str) -> String {
        self.spell(pattern, "*?.*?.")
    }

    fn spell(&mut self, pattern: &str, others: &str) -> String {
        let mut text = String::new();
        for c in pattern.chars().take(Self::CHARACTERS_MAX) {
            let is_wild = "*?+#>[]^-\\".contains(c);
            match self.below(if is_wild { 4 } else { 12 }) {
                0 => {}
                1 => text.extend(self.other(pattern, others)),
                2 => {
                    text.extend(self.other(pattern, others));
                    text.extend(self.other(pattern, others));
                }
                _ => text.push(c),
            }
        }
        text
    }

    /// One of the pattern's characters, or one of six others.
    fn other(&mut self, pattern: &str, others: &str) -> Option<char> {
        let at = self.below(2 * Self::CHARACTERS_MAX);
        pattern
            .chars()
            .nth(at)
            .or_else(|| others.chars().nth(at % 6))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % bound
    }
}
