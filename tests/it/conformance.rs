//! Runs the conformance suite of every pattern language with the matcher, with an index of one
//! pattern, and with one index of the patterns of all languages, with and without a cache.

use fanout::index::MatchCache;
use fanout::{Pattern, PatternIndex, Syntax, Topic};

use crate::suite::{self, Case};

/// A case whose pattern is valid.
struct Accepted {
    syntax: Syntax,
    case: Case,
    pattern: Pattern,
}

impl Accepted {
    /// Fails unless a topic matches the pattern exactly if the suite says so.
    #[track_caller]
    fn assert_verdict(&self, topic: &Topic, matches: bool, verdict: bool) {
        let Self { syntax, case, .. } = self;
        assert_eq!(matches, verdict, "{syntax}, {topic}: {case}");
    }
}

/// The cases of all languages with a valid pattern. Fails if a pattern is refused or accepted
/// contrary to the suite, or is refused by another rule or at another place.
fn accepted() -> Vec<Accepted> {
    let mut accepted = Vec::new();
    for (language, _) in suite::FILES {
        let syntax: Syntax = language
            .parse()
            .expect("each file is named by its language");
        for case in suite::cases(language) {
            match (Pattern::parse_as(&case.pattern, syntax), &case.refusal) {
                (Ok(pattern), None) => accepted.push(Accepted {
                    syntax,
                    case,
                    pattern,
                }),
                (Err(error), Some(refusal)) => {
                    if let Some(rule) = &refusal.rule {
                        assert_eq!(format!("{:?}", error.rule()), *rule, "{case}");
                    }
                    if let Some(offset) = refusal.offset {
                        assert_eq!(error.offset(), offset, "{case}");
                    }
                }
                (Ok(_), Some(_)) => panic!("{syntax}: not refused: {case}"),
                (Err(error), None) => panic!("{syntax}: {error}: {case}"),
            }
        }
    }
    assert!(accepted.len() > 500, "only {} cases", accepted.len());
    accepted
}

#[test]
fn the_matcher_agrees_with_the_suite() {
    for accepted in accepted() {
        let Accepted { case, pattern, .. } = &accepted;
        for (topic, verdict) in case.verdicts() {
            let topic = Topic::new(topic).unwrap_or_else(|error| panic!("{error}: {case}"));
            accepted.assert_verdict(&topic, pattern.matches(&topic), verdict);
        }
        for text in &case.refused_topics {
            assert!(Topic::new(text).is_err(), "{text:?} of {case}");
        }
        assert_eq!(pattern.as_str(), case.pattern);
        if let Some(canonical) = &case.canonical {
            assert_eq!(pattern.to_string(), *canonical, "{case}");
        }
    }
}

#[test]
fn the_index_agrees_with_the_suite() {
    let all = accepted();
    let numbered = (0u32..).zip(&all);
    let together: PatternIndex<u32> = numbered
        .clone()
        .map(|(number, accepted)| (accepted.pattern.clone(), number))
        .collect();
    let mut cache = MatchCache::new();
    for (number, accepted) in numbered {
        let alone: PatternIndex<u32> = [(accepted.pattern.clone(), number)].into_iter().collect();
        for (topic, verdict) in accepted.case.verdicts() {
            let topic = Topic::new(topic).expect("the test of the matcher fails otherwise");
            for index in [&alone, &together] {
                let mut found = Vec::new();
                index.matches(&topic, &mut found);
                accepted.assert_verdict(&topic, found.contains(&number), verdict);
                // The answer is computed the first time, if the topic is new, and cached the second
                // time.
                for _ in 0..2 {
                    let cached = cache.lookup(index, &topic);
                    assert_eq!(cached, found, "{topic}: {}", accepted.case);
                }
            }
        }
    }
}

#[test]
fn every_language_has_cases_with_sources_of_both_kinds() {
    for (language, _) in suite::FILES {
        let cases = suite::cases(language);
        let observed = cases
            .iter()
            .filter(|case| case.source.starts_with("observed: "))
            .count();
        assert_eq!(language == "segments", observed == 0, "{language}");
        assert!(observed < cases.len(), "{language}: only observations");
        assert!(cases.len() >= 60, "{language}: {} cases", cases.len());
    }
}
