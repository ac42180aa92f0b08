//! What the code map promises, kept: unsafe code only in its rooms, atomics and threads only through one file, imports
//! downwards only, and an engine that knows no runtime, no server and no database.
//!
//! Comments, documentation and strings are free to say anything; only code is looked at.

use std::fs;
use std::path::{Path, PathBuf};

/// Where `unsafe` may stand.
const UNSAFE_ROOMS: [&str; 4] = ["ring/", "park.rs", "dispatch/role.rs", "dispatch/block/"];

/// What only `sync.rs` names, and who may all the same, for that reason.
const SYNC_ALONE: [(&str, &[(&str, &str)]); 10] = [
    (
        "std::sync::atomic",
        &[
            ("park.rs", "a static that loom's atomics cannot be"),
            MODELS_RING,
            MODELS_DISPATCH,
            CONFORMANCE,
        ],
    ),
    ("core::sync", &[]),
    (
        "std::thread",
        &[
            ("park.rs", "asks for the number of processors"),
            ("bus/wake_timer.rs", "starts its thread, with a name"),
            (
                "bus/builder.rs",
                "asks for the number of processors; starts the pool's threads, with names",
            ),
            ("handlers/pool.rs", "starts the workers, with names"),
            (
                "handlers/stall_monitor.rs",
                "starts its thread, with a name",
            ),
            ("cli/run.rs", "the command line is a program like any other"),
            CONFORMANCE,
        ],
    ),
    ("std::cell::UnsafeCell", &[]),
    ("std::sync::Mutex", &[CONFORMANCE]),
    ("std::sync::RwLock", &[]),
    ("loom::", &[]),
    ("parking_lot", &[]),
    ("arc_swap", &[]),
    ("atomic_waker", &[]),
];

const MODELS_RING: (&str, &str) = ("ring/models.rs", "models count their own schedules");
const CONFORMANCE: (&str, &str) = (
    "broadcast/conformance.rs",
    "tests are a program like any other",
);
const MODELS_DISPATCH: (&str, &str) =
    ("dispatch/models/mod.rs", "models count their own schedules");

/// The rooms, from the bottom up. Each may use itself and those on lower floors.
const FLOORS: [&[&str]; 9] = [
    &["guide"],
    &["sync", "contain"],
    &["park", "ring", "pattern"],
    &["index", "limits"],
    &["dispatch"],
    &["handlers"],
    &["bus"],
    &["broadcast"],
    &["cli"],
];

/// Who else may name some of it, and why.
const NOT_THE_CLI_ALONE: [(&str, &str, &str); 3] = [
    (
        "dispatch/latency.rs",
        "hdrhistogram",
        "sampled latencies, behind the feature `latency`",
    ),
    (
        "pattern/serialize.rs",
        "serde",
        "patterns and topics in files, behind the feature `serde`",
    ),
    (
        "pattern/serialize.rs",
        "serde_json",
        "the tests of that: no other format is as common",
    ),
];

/// What only the command line may use.
const CLI_ALONE: [&str; 13] = [
    "clap",
    "hdrhistogram",
    "indicatif",
    "jiff",
    "serde",
    "serde_json",
    "tokio",
    "axum",
    "hyper",
    "redb",
    "futures",
    "async_std",
    "smol",
];

struct Source {
    /// Below `src`, with `/`.
    path: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the sources are there") {
            let path: PathBuf = entry.expect("the sources are there").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("it is text");
                let path = path
                    .strip_prefix(&root)
                    .expect("below it")
                    .display()
                    .to_string();
                sources.push(Source {
                    path: path.replace('\\', "/"),
                    code: code_of(&text),
                });
            }
        }
    }
    assert!(
        sources.len() > 30,
        "this test must not pass because it found nothing"
    );
    sources
}

/// The text without comments and without what stands in strings.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") && raw_hashes(rest).is_some() {
            let hashes = raw_hashes(rest).unwrap_or(0);
            let end = format!("\"{}", "#".repeat(hashes));
            let open = 2 + hashes;
            rest[open..]
                .find(&end)
                .map_or(rest.len(), |at| open + at + end.len())
        } else if first == '"' {
            string_length(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find('\'').map_or(rest.len(), |at| {
                at + 2 + usize::from(rest.starts_with("'\\''"))
            })
        } else {
            0
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

fn raw_hashes(text: &str) -> Option<usize> {
    let hashes = text[1..].chars().take_while(|&c| c == '#').count();
    text[1 + hashes..].starts_with('"').then_some(hashes)
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Where a path or word stands in code, as a whole: `serde` is not in `serde_json`.
fn names(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let ends = word.ends_with(':') || !code[at + word.len()..].starts_with(is_part);
        ends && !code[..at].ends_with(is_part)
    })
}

/// Also through braces: `use std::{thread, ..}` and `use std::sync::{atomic::X, ..}` name what stands in them.
fn names_path(code: &str, path: &str) -> bool {
    let Some((parent, last)) = path.rsplit_once("::").filter(|(_, last)| !last.is_empty()) else {
        return names(code, path);
    };
    let opened = format!("{parent}::{{");
    names(code, path)
        || code.match_indices(&opened).any(|(at, _)| {
            let inside = &code[at + opened.len()..];
            names(&inside[..inside.find(';').unwrap_or(inside.len())], last)
        })
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    for Source { path, code } in sources() {
        let allowed = UNSAFE_ROOMS.iter().any(|room| path.starts_with(room));
        assert!(allowed || !names(&code, "unsafe"), "{path} has unsafe code");
        assert!(
            allowed || !code.contains("allow(unsafe"),
            "{path} allows unsafe code"
        );
    }
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    assert!(
        manifest
            .expect("it is there")
            .contains("unsafe_code = \"deny\"")
    );
}

#[test]
fn atomics_cells_threads_and_locks_go_through_one_file() {
    for Source { path, code } in sources() {
        if path == "sync.rs" || path.starts_with("sync/") {
            continue;
        }
        for (name, exceptions) in SYNC_ALONE {
            let excepted = exceptions.iter().any(|(file, _)| *file == path);
            assert!(excepted || !names_path(&code, name), "{path} names {name}");
        }
    }
}

#[test]
fn no_exception_is_left_over() {
    let sources = sources();
    let code = |path: &str| {
        sources
            .iter()
            .find(|source| source.path == path)
            .map(|source| &source.code)
    };
    for (name, exceptions) in SYNC_ALONE {
        for (file, reason) in exceptions {
            let code = code(file).unwrap_or_else(|| panic!("there is no {file} any more"));
            assert!(
                names_path(code, name),
                "{file} does not name {name}; the exception was: {reason}"
            );
        }
    }
}

#[test]
fn imports_point_downwards() {
    let floor_of = |room: &str| FLOORS.iter().position(|floor| floor.contains(&room));
    for Source { path, code } in sources() {
        let room = path
            .split(['/', '.'])
            .next()
            .expect("a path has a first part");
        let Some(floor) = floor_of(room) else {
            assert!(
                ["lib", "main"].contains(&room),
                "{path} has no place in the code map"
            );
            continue;
        };
        let is_test = |part: &str| ["models", "tests"].contains(&part.trim_end_matches(".rs"));
        if path.split(['/', '_']).any(is_test) {
            continue; // they put a room together with whoever uses it
        }
        for (at, _) in code.match_indices("crate::") {
            let inside = &code[at + "crate::".len()..];
            let target = inside
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or("");
            let Some(target_floor) = floor_of(target) else {
                panic!(
                    "{path} names crate::{target}, which is a name of the public surface or of no room"
                );
            };
            assert!(
                target == room || target_floor < floor,
                "{path} names crate::{target}, which is not below it"
            );
        }
    }
}

#[test]
fn the_engine_knows_no_runtime_no_server_and_no_database() {
    for Source { path, code } in sources() {
        if path.starts_with("cli/") {
            continue;
        }
        for name in CLI_ALONE {
            let mut exceptions = NOT_THE_CLI_ALONE.iter();
            let excepted =
                exceptions.any(|&(file, excepted, _)| (file, excepted) == (&*path, name));
            assert_eq!(excepted, names(&code, name), "{path} names {name}");
        }
    }
}

/// The tool itself: what it must not see, it does not see, and the rest it does.
#[test]
fn only_code_is_looked_at() {
    let code = code_of(
        "// unsafe\n/* unsafe */ let a = \"unsafe \\\" unsafe\"; r#\"unsafe \" \"#; '\"'; unsafe { serde_json }",
    );
    assert_eq!(code.matches("unsafe").count(), 1, "{code}");
    assert!(names(&code, "unsafe") && names(&code, "serde_json") && !names(&code, "serde"));
    assert!(names_path("use std::{io, thread};", "std::thread"));
    assert!(names_path("std::thread::spawn", "std::thread"));
    assert!(!names_path("use std::{io}; thread", "std::thread"));
}
