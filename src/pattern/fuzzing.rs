//! The checks of the fuzz targets. They are here because they use private parts of the matcher.

use super::automaton::Automaton;
use super::pattern::Pattern;
use super::route::Route;
use super::sets::{Goal, find};
use super::syntax::Syntax;
use super::topic::Topic;
use super::{match_plan, naive};

/// Checks that parsing a text of the native language does not panic, that an error names a byte
/// within the text, that the canonical form parses to an equal pattern, and that each expansion is
/// explained.
///
/// # Panics
///
/// If one of these does not hold.
pub fn check_parse(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(topic) = Topic::new(text) {
        let exact = Pattern::exact(&topic);
        assert!(exact.matches(&topic), "{exact:?}");
        assert_eq!(exact.as_str(), exact.canonical());
        assert_eq!(exact.explain().expansions.len(), 1);
    }
    check_parse_as(text, Syntax::Segments);
}

/// Like [`check_parse`], for a text in the language that the first byte chooses.
///
/// # Panics
///
/// If one of the conditions does not hold.
pub fn check_dialect_parse(data: &[u8]) {
    if let [first, text @ ..] = data
        && let Ok(text) = std::str::from_utf8(text)
    {
        check_parse_as(text, syntax_of(*first));
    }
}

/// The language that the first byte of an input chooses.
fn syntax_of(byte: u8) -> Syntax {
    Syntax::ALL[usize::from(byte) % Syntax::ALL.len()]
}

/// Like [`check_parse`], for a text in this language.
///
/// # Panics
///
/// If one of the conditions does not hold.
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
    let explained = pattern.explain().expansions.len();
    assert_eq!(explained, pattern.routes().len(), "{text}");
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

/// Checks that parser and matcher agree with the naive implementation of this language, in every
/// way of matching. The input is a pattern and topics, one to a line. Returns how many topics were
/// compared.
///
/// Each topic is also tried without its first characters, and further topics are made from the
/// characters of the pattern.
///
/// # Panics
///
/// If they disagree.
pub fn check_match_as(data: &[u8], syntax: Syntax) -> usize {
    // The naive implementation takes time in proportion to the product of the lengths.
    const BYTES_MAX: usize = 400;
    const SUFFIXES_MAX: usize = 8;
    const SPELLED: usize = 64;
    let Ok(text) = std::str::from_utf8(&data[..data.len().min(BYTES_MAX)]) else {
        return 0;
    };
    let (pattern, topics) = text.split_once('\n').unwrap_or((text, ""));
    let parsed = Pattern::parse_as(pattern, syntax).ok();
    let every_matcher = parsed.as_ref().map(EveryMatcher::new);
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
        let verdict = every_matcher.as_ref().map(|parsed| parsed.matches(&topic));
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

/// A pattern that is matched in every possible way, not only in the one that was chosen.
pub(super) struct EveryMatcher<'a> {
    pattern: &'a Pattern,
    automaton: Option<Automaton>,
}

impl<'a> EveryMatcher<'a> {
    pub(super) fn new(pattern: &'a Pattern) -> Self {
        EveryMatcher {
            pattern,
            automaton: match_plan::automaton(pattern.as_str(), pattern.routes()),
        }
    }

    /// Whether the whole `topic` matches.
    ///
    /// # Panics
    ///
    /// If the ways disagree.
    pub(super) fn matches(&self, topic: &Topic) -> bool {
        let verdict = self.pattern.matches(topic);
        let mut routes = self.pattern.routes().iter();
        let segments = routes.any(|route| route.matches(topic.as_str()));
        assert_eq!(
            segments, verdict,
            "{:?} {topic:?}, by segments",
            self.pattern
        );
        if let Some(automaton) = &self.automaton {
            let found = automaton.matches(topic.as_str());
            assert_eq!(found, verdict, "{:?} {topic:?}, by automaton", self.pattern);
        }
        verdict
    }
}

/// Bytes of an input of [`check_sets`] that are read; the rest is ignored.
pub(super) const SETS_BYTES_MAX: usize = 120;

/// Checks that `covers` and `intersects` agree with the matcher on all pairs of the patterns in the
/// input, one to a line, and of others that are made from their characters. Where the search finds
/// a topic, the topic must prove the answer; where it finds none, no topic of a small world may
/// contradict. Returns how many ordered pairs were compared.
///
/// # Panics
///
/// If they disagree.
pub fn check_sets(data: &[u8]) -> usize {
    // Each pattern is matched with the whole world, and compared with each other pattern.
    const PATTERNS_MAX: usize = 12;
    const SPELLED: usize = 24;
    let Ok(text) = std::str::from_utf8(&data[..data.len().min(SETS_BYTES_MAX)]) else {
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
    // The public functions give the answers that were checked.
    let some = || patterns.iter().zip(&sides).take(2);
    for ((one, here), (two, there)) in some().flat_map(|one| some().map(move |two| (one, two))) {
        let covers = check_goal(here, there, Goal::Uncovered, &world).map(|found| !found);
        assert_eq!(one.covers(two).ok(), covers, "{one} {two}");
        let intersects = check_goal(here, there, Goal::Shared, &world);
        assert_eq!(one.intersects(two).ok(), intersects, "{one} {two}");
    }
    patterns.len() * patterns.len()
}

/// Like [`check_sets`], for two patterns, in both directions.
pub(super) fn check_sets_of(here: &Side<'_>, there: &Side<'_>, world: &World) {
    let one = check_goal(here, there, Goal::Shared, world);
    let two = check_goal(there, here, Goal::Shared, world);
    assert!(
        one == two || one.is_none() || two.is_none(),
        "{:?} and {:?}: shared in one direction only",
        here.routes,
        there.routes
    );
    check_goal(here, there, Goal::Uncovered, world);
    check_goal(there, here, Goal::Uncovered, world);
}

/// Whether a topic that reaches the goal was found; `None` if the search gave up.
fn check_goal(here: &Side<'_>, there: &Side<'_>, goal: Goal, world: &World) -> Option<bool> {
    let context = || format!("{goal:?}: {:?} and {:?}", here.routes, there.routes);
    let found = find(&here.automaton, &there.automaton, goal).ok()?;
    match &found {
        Some(topic) => {
            let reaches = there.matches(topic) && here.matches(topic) == (goal == Goal::Shared);
            assert!(reaches, "{} on {topic:?}", context());
        }
        None => {
            let mut both = here.matched.iter().zip(&there.matched).zip(&world.topics);
            let reaches = |here: bool, there: bool| there && here == (goal == Goal::Shared);
            let contradicts = both.find(|((here, there), _)| reaches(**here, **there));
            let topic = contradicts.map(|(_, topic)| topic);
            assert_eq!(topic, None, "{}", context());
        }
    }
    Some(found.is_some())
}

/// One of two patterns that are compared.
pub(super) struct Side<'a> {
    automaton: Automaton,
    routes: &'a [Route],
    /// Whether the pattern matches, for each topic of the world.
    matched: Vec<bool>,
}

impl<'a> Side<'a> {
    fn new(pattern: &'a Pattern, world: &World) -> Self {
        let automaton = match_plan::automaton(pattern.as_str(), pattern.routes()).expect("no tail");
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

    /// Matches by segments, which shares no code with the search.
    fn matches(&self, topic: &str) -> bool {
        self.routes.iter().any(|route| route.matches(topic))
    }
}

/// All topics of a few characters with up to 4 segments: the fewer segments, the longer they are.
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

/// A few characters that the patterns in `text` may distinguish, and one more.
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

/// Makes texts from a pattern: its characters, of which some are left out and some replaced. The
/// same pattern always gives the same texts. Many of the topics match or almost match, and many of
/// the patterns cover each other or almost do. Random changes of one text reach such cases rarely.
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

    /// Often the text is not a valid pattern.
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
