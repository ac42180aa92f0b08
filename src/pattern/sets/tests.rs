//! The set operations, compared with enumeration.
//!
//! A `false` of `covers` and a `true` of `intersects` come with a proof: the topic that was found
//! is given to the segment matcher, which shares no code with the search. The opposite answers are
//! compared with all topics of a small world. It is not proved that these topics suffice. But a
//! wrong answer of that kind would come from states that the search loses or joins wrongly, and
//! such states are few segments and characters deep in patterns as small as those tried here.

use proptest::prelude::*;

use super::*;
use crate::pattern::fuzzing::{SETS_BYTES_MAX, Side, World, check_sets, check_sets_of};
use crate::pattern::route::{Route, Segment};
use crate::pattern::tests::{cases, pattern_text, words};

/// Segments of each kind, and others that overlap with them in part.
const SEGMENTS: [&str; 15] = [
    "a", "b", "ab", "*", "**", "?", "a*", "*b", "*a*", "b?", "[ab]", "[^a]", "{a,b}", "?*",
    "{a,**}",
];

/// Texts of one segment that distinguish these: all of up to two characters a, b and c, and some
/// longer ones.
const TEXTS: [&str; 16] = [
    "a", "b", "c", "aa", "ab", "ac", "ba", "bb", "bc", "ca", "cb", "cc", "abb", "acb", "bab", "cac",
];

/// A pattern, and for each topic of the small world a bit that is set if the pattern matches it.
struct Known {
    text: String,
    automaton: Automaton,
    pattern: Pattern,
    verdicts: Vec<u64>,
}

impl Known {
    fn new(text: String, topics: &[String]) -> Self {
        let pattern = Pattern::parse(&text).expect(&text);
        let matches = |topic: &String| pattern.routes().iter().any(|route| route.matches(topic));
        let bits = |topics: &[String]| {
            let bit = |(at, topic)| u64::from(matches(topic)) << at;
            topics.iter().enumerate().map(bit).sum()
        };
        Known {
            automaton: match_plan::automaton(&text, pattern.routes()).expect("no tail"),
            verdicts: topics.chunks(64).map(bits).collect(),
            pattern,
            text,
        }
    }

    fn matches(&self, topic: &str) -> bool {
        self.pattern
            .routes()
            .iter()
            .any(|route| route.matches(topic))
    }

    fn check(&self, other: &Known) {
        let pairs = || self.verdicts.iter().zip(&other.verdicts);
        match find(&self.automaton, &other.automaton, Goal::Uncovered).expect("few steps") {
            Some(topic) => assert!(
                !self.matches(&topic) && other.matches(&topic),
                "{} does not cover {}: {topic}",
                self.text,
                other.text
            ),
            None => assert!(
                pairs().all(|(this, other)| other & !this == 0),
                "{} covers {}",
                self.text,
                other.text
            ),
        }
        match find(&self.automaton, &other.automaton, Goal::Shared).expect("few steps") {
            Some(topic) => assert!(
                self.matches(&topic) && other.matches(&topic),
                "{} and {}: {topic}",
                self.text,
                other.text
            ),
            None => assert!(
                pairs().all(|(this, other)| this & other == 0),
                "{} and {}",
                self.text,
                other.text
            ),
        }
    }
}

/// All topics of up to 3 segments of [`TEXTS`], and those of 4 and 5 segments of the first few.
fn world() -> Vec<String> {
    let mut topics = words(&TEXTS, 3);
    topics.extend(words(&TEXTS[..5], 5));
    topics
}

/// All pairs of patterns of up to 2 segments, and every 223rd pair of those of up to 3, in an order
/// in which each pattern occurs on both sides.
#[test]
fn small_patterns_are_compared_as_enumeration_does() {
    let patterns = known_patterns();
    let short = patterns
        .iter()
        .filter(|known| known.text.matches('.').count() < 2);
    let short: Vec<_> = short.collect();
    for this in &short {
        short.iter().for_each(|other| this.check(other));
    }
    for pair in (0..patterns.len().pow(2)).step_by(223) {
        patterns[pair / patterns.len()].check(&patterns[pair % patterns.len()]);
    }
}

/// The same for all 13 million pairs.
#[test]
#[ignore = "takes minutes: cargo test --release --lib every_pair -- --ignored"]
fn every_pair_of_patterns_is_compared_as_enumeration_does() {
    let patterns = known_patterns();
    for this in &patterns {
        patterns.iter().for_each(|other| this.check(other));
    }
}

/// All patterns of up to 3 segments.
fn known_patterns() -> Vec<Known> {
    let topics = world();
    words(&SEGMENTS, 3)
        .into_iter()
        .map(|text| Known::new(text, &topics))
        .collect()
}

#[test]
fn known_answers() {
    for (this, other, covers, intersects) in [
        ("**", "a.*.{b,c}", true, true),
        ("*", "**", true, true),
        ("?*", "**", false, true),
        ("a.**", "a", true, true),
        ("a.?*.**", "a.**", false, true),
        ("a.**", "a.?*.**", true, true),
        ("**.a.**", "a.**.b", true, true),
        ("**.b", "a.**.b", true, true),
        ("a.**.b", "a.b", true, true),
        ("a.**.a", "a", false, false),
        ("{a,b}", "[ab]", true, true),
        ("[ab]", "{a,b}", true, true),
        ("[ab].*", "{a.*,b.x}", true, true),
        ("{a.*,b.x}", "[ab].*", false, true),
        ("[a-m]", "[n-z]", false, false),
        ("[^a]", "[^b]", false, true),
        ("?", "é", true, true),
        ("*é*", "*è*", false, true),
        ("a*", "*a", false, true),
        ("*a*", "a*a", true, true),
        ("a*a", "aa*", false, true),
        ("{,x}a", "a", true, true),
        ("**.{**,a}.b", "**.b", true, true),
        ("{a.**,b}.c", "a.c", true, true),
        // Two classes with all characters that topics can have.
        ("{[ -m],[n-\u{10FFFF}]}", "?", true, true),
        ("{[\"-m],[n-\u{10FFFF}]}", "?", false, true),
    ] {
        let [one, two] = [this, other].map(|text| Pattern::parse(text).expect(text));
        assert_eq!(one.covers(&two), Ok(covers), "{this} covers {other}");
        assert_eq!(one.intersects(&two), Ok(intersects), "{this} and {other}");
        assert_eq!(two.intersects(&one), Ok(intersects), "{other} and {this}");
    }
}

/// A guard excludes the topics that begin with `$`, and no others.
#[test]
fn guards_are_honoured() {
    let route = |segments: &[&str], guard| {
        let segments = segments.iter().map(|text| match *text {
            "*" => Segment::Any,
            "**" => Segment::Many,
            text => Segment::Literal(text.into()),
        });
        Automaton::of_route(&Route::guarded(segments.collect(), guard))
    };
    let open = |segments: &[&str]| route(segments, Guard::Open);
    let guarded = |segments: &[&str]| route(segments, Guard::NoDollar);
    let covers = |this: &Automaton, other: &Automaton| {
        find(this, other, Goal::Uncovered)
            .expect("few steps")
            .is_none()
    };
    let shared =
        |this: &Automaton, other: &Automaton| find(this, other, Goal::Shared).expect("few steps");
    let all = [open(&["**"]), guarded(&["**"])];
    assert!(covers(&all[0], &all[1]) && !covers(&all[1], &all[0]));
    assert_eq!(
        find(&all[1], &all[0], Goal::Uncovered).unwrap(),
        Some("$".to_owned())
    );
    assert!(covers(&all[1], &open(&["a", "**"])));
    assert!(!covers(&all[1], &open(&["$SYS", "**"])));
    assert!(covers(&all[1], &guarded(&["*", "**"])) && covers(&all[1], &all[1]));
    assert_eq!(shared(&all[1], &open(&["$SYS", "**"])), None);
    assert!(shared(&all[1], &guarded(&["*", "$"])).is_some());
    assert!(
        covers(&open(&["x"]), &guarded(&["$x"])),
        "every pattern covers one that matches nothing"
    );
}

/// A pattern that matches no topic is covered by all patterns and intersects none.
#[test]
fn patterns_that_match_nothing() {
    let void = |text: &str| {
        let segments = vec![Segment::Many, Segment::Literal(text.into())];
        Automaton::of_route(&Route::new(segments))
    };
    let all = Automaton::of_route(&Route::new(vec![Segment::Many]));
    for text in ["", "a.b", "a\n"] {
        let nothing = void(text);
        assert_eq!(find(&all, &nothing, Goal::Uncovered).unwrap(), None);
        assert_eq!(find(&nothing, &nothing, Goal::Uncovered).unwrap(), None);
        assert_eq!(find(&all, &nothing, Goal::Shared).unwrap(), None);
        assert_eq!(find(&nothing, &all, Goal::Shared).unwrap(), None);
        assert!(find(&nothing, &all, Goal::Uncovered).unwrap().is_some());
        assert!(!nothing.matches("a") && !nothing.matches("a.b"));
    }
}

/// The longest patterns get an answer, or an error that names them, within seconds.
#[test]
fn steps_at_the_bound() {
    let hard = |gap: usize| {
        let gap = "?".repeat(gap - 1);
        Pattern::parse(&format!("{{*a{gap}a*,*b{gap}b*}}")).unwrap()
    };
    let text = |length: usize| Pattern::parse(&"[ab]".repeat(length)).unwrap();
    assert_eq!(hard(8).covers(&text(16)), Ok(false));
    let error = hard(20).covers(&text(40)).unwrap_err();
    assert!(matches!(error, TooComplex::Steps { .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("131072 steps") && message.contains("[ab][ab]"),
        "{message}"
    );

    let long = [
        "a.".repeat(511) + "a",
        "**.a.".repeat(200) + "a",
        "*a".repeat(512),
        "é".repeat(512),
    ];
    for this in &long {
        for other in &long {
            let [this, other] = [this, other].map(|text| Pattern::parse(text).unwrap());
            let start = std::time::Instant::now();
            let _ = (this.covers(&other), this.intersects(&other));
            assert!(
                start.elapsed() < std::time::Duration::from_secs(5),
                "{this} {other}"
            );
            assert_eq!(this.covers(&this), Ok(true), "{this}");
        }
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn random_patterns_are_compared_as_enumeration_does(
        this in pattern_text(),
        other in pattern_text(),
    ) {
        let text = format!("{this}\n{other}");
        let compared = check_sets(text.as_bytes());
        let are_patterns = Pattern::parse(&this).is_ok() && Pattern::parse(&other).is_ok();
        // Otherwise the second pattern may be cut off, and what is left of it may be no pattern.
        let are_read = are_patterns && text.len() <= SETS_BYTES_MAX;
        assert!(compared >= 4 || !are_read, "{text}: {compared} pairs");
    }

    #[test]
    fn random_routes_are_compared_under_guards(
        this in small_route(),
        other in small_route(),
    ) {
        let world = World::new(&['a', 'b', '$', 'z']);
        let [this, other] = [&this, &other].map(|route| Side::of_route(route, &world));
        check_sets_of(&this, &other, &world);
    }
}

/// Up to four segments of the simplest kinds, with or without a guard. Some match no topic.
fn small_route() -> impl Strategy<Value = Route> {
    let segment = prop_oneof![
        2 => Just(Segment::Any),
        2 => Just(Segment::Many),
        4 => "[ab$]{1,2}".prop_map(|text| Segment::Literal(text.into())),
        1 => "|a\\.b".prop_map(|text| Segment::Literal(text.into())),
    ];
    let guard = prop_oneof![Just(Guard::Open), Just(Guard::NoDollar)];
    (prop::collection::vec(segment, 1..5), guard)
        .prop_map(|(segments, guard)| Route::guarded(segments, guard))
}

/// Patterns in different languages are compared by what they match. Patterns in a language whose
/// wildcards cross dots are not compared.
#[test]
fn languages_are_compared() {
    let parse = |(text, syntax): (&str, Syntax)| Pattern::parse_as(text, syntax).expect(text);
    let native = |text| parse((text, Syntax::Segments));
    for (text, others) in [
        (
            "a.?*.**",
            [
                ("a.>", Syntax::Nats),
                ("a.*.#", Syntax::Amqp),
                ("a/+/#", Syntax::Mqtt),
            ],
        ),
        (
            "a.**",
            [
                ("a.**", Syntax::Segments),
                ("a.#", Syntax::Amqp),
                ("a/#", Syntax::Mqtt),
            ],
        ),
    ] {
        for other in others.map(parse) {
            assert_eq!(native(text).covers(&other), Ok(true), "{text} {other:?}");
            assert_eq!(other.covers(&native(text)), Ok(true), "{other:?} {text}");
        }
    }
    // In MQTT, `#` in front does not match a topic that begins with `$`.
    let everything = parse(("#", Syntax::Mqtt));
    assert_eq!(native("**").covers(&everything), Ok(true));
    assert_eq!(everything.covers(&native("**")), Ok(false));
    assert_eq!(everything.intersects(&native("$*")), Ok(false));
    assert_eq!(
        parse(("$SYS/#", Syntax::Mqtt)).intersects(&native("$*.**")),
        Ok(true)
    );
    // No topic has an empty segment.
    let nothing = parse(("a//b", Syntax::Mqtt));
    assert_eq!(nothing.intersects(&native("**")), Ok(false));
    assert_eq!(native("x").covers(&nothing), Ok(true));
    for whole in [
        ("a", Syntax::Path),
        ("a", Syntax::Redis),
        ("a.*", Syntax::Redis),
    ]
    .map(parse)
    {
        for answer in [
            whole.covers(&native("a")),
            native("a").covers(&whole),
            whole.intersects(&whole),
        ] {
            assert!(
                matches!(answer, Err(TooComplex::Unsupported { .. })),
                "{whole:?}"
            );
        }
    }
}
