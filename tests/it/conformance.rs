//! The conformance suite, every language: by the matcher, by an index of one pattern, and by one index with
//! the patterns of all languages in it, with a cache and without.

use fanout::index::MatchCache;
use fanout::{Pattern, PatternIndex, Syntax, Topic};

use crate::suite::{self, Case};

/// Each case of the suite, with its language and what it parsed to, unless it is refused as the suite says.
fn accepted() -> Vec<(Syntax, Case, Pattern)> {
    let mut accepted = Vec::new();
    for (language, _) in suite::FILES {
        let syntax: Syntax = language.parse().expect("a language has a file");
        for case in suite::cases(language) {
            match (Pattern::parse_as(&case.pattern, syntax), &case.refusal) {
                (Ok(pattern), None) => accepted.push((syntax, case, pattern)),
                (Err(error), Some(refusal)) => {
                    let rule = format!("{:?}", error.rule());
                    assert!(
                        refusal.rule.as_ref().is_none_or(|said| *said == rule),
                        "{case}"
                    );
                    assert!(
                        refusal.offset.is_none_or(|said| said == error.offset()),
                        "{case}"
                    );
                }
                (Ok(_), Some(_)) => panic!("{syntax}: not refused: {case}"),
                (Err(error), None) => panic!("{syntax}: {error}: {case}"),
            }
        }
    }
    assert!(accepted.len() > 500, "cases are missing");
    accepted
}

#[test]
fn the_matcher_says_what_the_suite_says() {
    for (syntax, case, pattern) in accepted() {
        for (topic, verdict) in case.verdicts() {
            let topic = Topic::new(topic).unwrap_or_else(|error| panic!("{error}: {case}"));
            assert_eq!(
                pattern.matches(&topic),
                verdict,
                "{syntax}, {topic}: {case}"
            );
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
fn the_index_says_what_the_suite_says() {
    let accepted = accepted();
    let numbered = (0u32..).zip(&accepted);
    let together: PatternIndex<u32> = numbered
        .clone()
        .map(|(number, (_, _, pattern))| (pattern.clone(), number))
        .collect();
    let mut cache = MatchCache::new();
    for (number, (syntax, case, pattern)) in numbered {
        let alone: PatternIndex<u32> = [(pattern.clone(), number)].into_iter().collect();
        for (topic, verdict) in case.verdicts() {
            let topic = Topic::new(topic).expect("the matcher's test says so");
            for index in [&alone, &together] {
                let mut found = Vec::new();
                index.matches(&topic, &mut found);
                assert_eq!(
                    found.contains(&number),
                    verdict,
                    "{syntax}, {topic}: {case}"
                );
                // Many topics are asked about again and again: computed, and remembered.
                for _ in 0..2 {
                    assert_eq!(
                        cache.lookup(index, &topic),
                        found,
                        "{syntax}, {topic}: {case}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_dialect_has_cases_with_sources_of_both_kinds() {
    for (language, _) in suite::FILES {
        let cases = suite::cases(language);
        let observed = cases
            .iter()
            .filter(|case| case.source.starts_with("observed: "))
            .count();
        assert_eq!(language == "segments", observed == 0, "{language}");
        assert!(
            observed < cases.len(),
            "{language}: nothing but observations"
        );
        assert!(cases.len() >= 60, "{language}: {} cases", cases.len());
    }
}
