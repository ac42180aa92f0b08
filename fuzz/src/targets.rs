use fanout::Syntax;
use fanout::pattern::fuzzing as pattern;
use fanout::{index, ring_fuzzing};

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of the target's file and of the directory of its corpus.
    pub name: &'static str,
    /// Panics if the library does not behave as documented for this input. Returns the number of
    /// comparisons.
    pub check: fn(&[u8]) -> usize,
}

/// All targets.
pub const TARGETS: [Target; 11] = [
    Target {
        name: "dialect_parse",
        check: |data| {
            pattern::check_dialect_parse(data);
            1
        },
    },
    Target {
        name: "index_ops",
        check: |data| {
            index::fuzzing::check_ops(data);
            1
        },
    },
    Target {
        name: "match_amqp",
        check: |data| pattern::check_match_as(data, Syntax::Amqp),
    },
    Target {
        name: "match_mqtt",
        check: |data| pattern::check_match_as(data, Syntax::Mqtt),
    },
    Target {
        name: "match_nats",
        check: |data| pattern::check_match_as(data, Syntax::Nats),
    },
    Target {
        name: "match_path",
        check: |data| pattern::check_match_as(data, Syntax::Path),
    },
    Target {
        name: "match_redis",
        check: |data| pattern::check_match_as(data, Syntax::Redis),
    },
    Target {
        name: "pattern_match",
        check: |data| pattern::check_match_as(data, Syntax::Segments),
    },
    Target {
        name: "pattern_parse",
        check: |data| {
            pattern::check_parse(data);
            1
        },
    },
    Target {
        name: "pattern_sets",
        check: pattern::check_sets,
    },
    Target {
        name: "ring_ops",
        check: |data| {
            ring_fuzzing::check_ops(data);
            1
        },
    },
];

/// Runs the target of this name on an input, as the fuzzer does.
///
/// # Panics
///
/// If the library does not behave as documented, or if there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").check)(data);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Files of a corpus: more would be too many to read, and too slow to replay.
    const FILES_MAX: usize = 100;

    /// Returns the number of comparisons.
    fn replay(target: Target) -> usize {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target.name);
        let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{corpus:?}: {error}"));
        let (mut count, mut compared) = (0, 0);
        for file in files {
            let path = file.expect("a file of the corpus").path();
            println!("{}", path.display()); // shown if the check panics
            compared += (target.check)(&fs::read(&path).expect("the file can be read"));
            count += 1;
        }
        assert!(
            (1..FILES_MAX).contains(&count),
            "{count} files in {corpus:?}"
        );
        assert!(compared >= count, "{corpus:?}: {compared} comparisons");
        compared
    }

    #[test]
    fn every_corpus_passes() {
        for target in TARGETS {
            let compared = replay(target);
            // An input has several patterns, and all pairs of them are compared.
            assert!(
                target.name != "pattern_sets" || compared > 1000,
                "{compared} pairs"
            );
        }
    }

    #[test]
    fn every_target_has_a_name_of_its_own_and_a_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
        let files = fs::read_dir(&folder).expect("the targets are there");
        let mut names: Vec<String> = files
            .map(|file| file.expect("a file").path())
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        assert_eq!(names, TARGETS.map(|target| target.name));
        for name in names {
            let path = folder.join(format!("{name}.rs"));
            let text = fs::read_to_string(&path).expect("the file can be read");
            let call = format!("run(\"{name}\", data)");
            assert!(
                text.contains(&call),
                "{} does not call {call}",
                path.display()
            );
        }
    }
}
