//! Checks the statements of ARCHITECTURE.md: unsafe code is only in the listed files, atomics and
//! threads are used only through one file, imports point downwards and have no cycles, the library
//! depends on no runtime, server or wire format, and crates depend only on crates below them.
//!
//! Only code and manifests are checked, not comments, documentation and strings.

mod imports;

use std::fs;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The files and directories that may have `unsafe` code.
const UNSAFE_MODULES: [&str; 4] = ["ring/", "park.rs", "dispatch/role.rs", "dispatch/block/"];

/// Paths that only `sync.rs` may name, each with the other files that may name it and their
/// reasons.
const SYNC_ALONE: [(&str, &[(&str, &str)]); 10] = [
    ("std::sync::atomic", &[MODELS_DISPATCH, CONFORMANCE]),
    ("core::sync", &[]),
    (
        "std::thread",
        &[
            ("park.rs", "reads the number of processors"),
            ("time_limit.rs", "starts its thread, with a name"),
            ("bus/wake_timer.rs", "starts its thread, with a name"),
            (
                "bus/builder.rs",
                "reads the number of processors; starts the pool's threads, with names",
            ),
            ("handlers/pool.rs", "starts the workers, with names"),
            (
                "handlers/stall_monitor.rs",
                "starts its thread, with a name",
            ),
            CONFORMANCE,
        ],
    ),
    ("std::cell::UnsafeCell", &[]),
    (
        "std::sync::Mutex",
        &[
            CONFORMANCE,
            (
                "time_limit.rs",
                "is static, as loom's cannot be; models have no time limits",
            ),
        ],
    ),
    ("std::sync::RwLock", &[]),
    ("loom::", &[]),
    ("parking_lot", &[]),
    (
        "tracing::",
        &[("log.rs", "passes on what the library reports")],
    ),
    ("arc_swap", &[]),
];

const CONFORMANCE: (&str, &str) = (
    "broadcast/conformance.rs",
    "its tests use threads like any program",
);
const MODELS_DISPATCH: (&str, &str) =
    ("dispatch/models/mod.rs", "models count their own schedules");

/// The files that may name `catch_unwind`, and their reasons. Tests may, too. All other code uses
/// `contain.rs`, since the value of a panic may panic when it is dropped.
const CATCHES: [(&str, &str); 2] = [
    ("contain.rs", "contains the drop of the panic's value, too"),
    (
        "log.rs",
        "contains the panics of the code that reports panics",
    ),
];

/// The modules, from the bottom up. Each may use itself and the modules on lower layers.
const LAYERS: [&[&str]; 9] = [
    &["guide", "log"],
    &["contain"],
    &["sync", "time_limit"],
    &["park", "ring", "pattern"],
    &["index", "limits"],
    &["dispatch"],
    &["handlers"],
    &["bus"],
    &["broadcast"],
];

/// The crates of the workspace, from the bottom up. Each may depend on those on lower layers. The
/// last layer has only the command line: nothing depends on it.
const CRATES: [&[&str]; 2] = [&["fanout"], &["fanout-cli"]];

/// Runtimes, servers, wire formats, databases and tools, on which the library must not depend.
const EXCLUDED_CRATES: [&str; 16] = [
    "async_std",
    "axum",
    "clap",
    "futures",
    "hdrhistogram",
    "hyper",
    "indicatif",
    "jiff",
    "postcard",
    "prost",
    "redb",
    "serde",
    "serde_json",
    "smol",
    "tokio",
    "tungstenite",
];

/// The files that may name one of them, and the reasons.
const EXCLUDED_CRATE_EXCEPTIONS: [(&str, &str, &str); 4] = [
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
        "the tests of that, as text",
    ),
    (
        "pattern/serialize.rs",
        "postcard",
        "the tests of that, as bytes",
    ),
];

/// The files of no directory may import one another in a cycle. In these directories, some file
/// imports another, so the test must find imports there.
const ACYCLIC: [&str; 11] = [
    "crates/fanout-cli/src",
    "src/broadcast",
    "src/bus",
    "src/dispatch",
    "src/dispatch/block",
    "src/dispatch/feed",
    "src/handlers",
    "src/index",
    "src/pattern",
    "src/pattern/dialect",
    "src/ring",
];

struct Source {
    /// The path below `src`, with `/` between its parts.
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
    assert!(sources.len() > 30, "the test found the sources");
    sources
}

/// The text without comments and without the content of strings.
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

/// Whether a path or a word is in the code, as a whole: `serde` is not in `serde_json`.
fn names(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let ends = word.ends_with(':') || !code[at + word.len()..].starts_with(is_part);
        ends && !code[..at].ends_with(is_part)
    })
}

/// Whether a path is in the code, also with braces: `use std::{thread, ..}` names `std::thread`.
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
fn unsafe_code_is_only_in_the_listed_files() {
    for Source { path, code } in sources() {
        let allowed = UNSAFE_MODULES.iter().any(|module| path.starts_with(module));
        assert!(allowed || !names(&code, "unsafe"), "{path} has unsafe code");
        assert!(
            allowed || !code.contains("allow(unsafe"),
            "{path} allows unsafe code"
        );
    }
    let manifest = manifest("Cargo.toml");
    assert_eq!(
        manifest["lints"]["rust"]["unsafe_code"].as_str(),
        Some("deny")
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
fn panics_are_caught_in_one_place() {
    for Source { path, code } in sources() {
        let is_test = |part: &str| ["models", "tests"].contains(&part.trim_end_matches(".rs"));
        let end = ["#[cfg(test)]", "#[cfg(all(test"].map(|test| code.find(test));
        let end = end.into_iter().flatten().min().unwrap_or(code.len());
        let is_listed = CATCHES.iter().any(|(file, _)| *file == path);
        assert!(
            is_listed == names(&code[..end], "catch_unwind") || path.split('/').any(is_test),
            "{path} names catch_unwind, or no longer does so"
        );
    }
}

#[test]
fn every_listed_exception_is_needed() {
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

/// Each module of the crate's root has a row in the table of modules of ARCHITECTURE.md.
#[test]
fn the_map_has_every_module_of_the_root() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("it is text");
    let table = map.split("## The modules").nth(1).expect("the section");
    let table = table.split("\n### ").next().expect("the first part");
    let cells = table.lines().filter_map(|line| line.split('|').nth(1));
    let cells: Vec<_> = cells.collect();
    for module in LAYERS.iter().copied().flatten() {
        let paths = [format!("`src/{module}.rs`"), format!("`src/{module}/`")];
        let has_row = |path: &String| cells.iter().any(|cell| cell.contains(path));
        assert!(paths.iter().any(has_row), "ARCHITECTURE.md has no {module}");
    }
}

#[test]
fn imports_point_downwards() {
    let layer_of = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    for Source { path, code } in sources() {
        let module = path
            .split(['/', '.'])
            .next()
            .expect("a path has a first part");
        let Some(layer) = layer_of(module) else {
            assert_eq!(module, "lib", "{path} has no place in the code map");
            continue;
        };
        let is_test = |part: &str| ["models", "tests"].contains(&part.trim_end_matches(".rs"));
        if path.split(['/', '_']).any(is_test) {
            continue; // they test a module together with the modules that use it
        }
        for (at, _) in code.match_indices("crate::") {
            let inside = &code[at + "crate::".len()..];
            let target = inside
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or("");
            let Some(target_layer) = layer_of(target) else {
                panic!(
                    "{path} names crate::{target}, which is an export of the crate or no module"
                );
            };
            assert!(
                target == module || target_layer < layer,
                "{path} names crate::{target}, which is not below it"
            );
        }
    }
}

#[test]
fn files_do_not_import_one_another_in_a_cycle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut roots = vec!["src".to_owned()];
    for (manifest, _) in crates() {
        roots.push(manifest.replace("Cargo.toml", "src"));
    }
    let mut with_imports = Vec::new();
    let mut found = Vec::new();
    for directory in roots.iter().flat_map(|path| directories(root, path)) {
        let (_, module) = directory.split_once("src").expect("sources");
        let module: Vec<_> = module.split('/').filter(|part| !part.is_empty()).collect();
        let imports = imports::imports_within(&root.join(&directory), &module, code_of);
        for cycle in imports::cycles(&imports) {
            found.push((directory.clone(), cycle));
        }
        if imports.values().any(|others| !others.is_empty()) {
            with_imports.push(directory);
        }
    }
    assert!(
        found.is_empty(),
        "files that import one another: {found:#?}"
    );
    for directory in ACYCLIC {
        let is_missing = directory.starts_with("crates/") && is_published();
        assert!(
            is_missing || with_imports.iter().any(|other| other == directory),
            "{directory}: no import was found, so nothing was checked"
        );
    }
}

/// Returns a directory and all directories below it, with `/`.
fn directories(root: &Path, path: &str) -> Vec<String> {
    let mut found = vec![path.to_owned()];
    for entry in fs::read_dir(root.join(path)).expect("it can be read") {
        let entry = entry.expect("it can be read");
        if entry.path().is_dir() {
            let name = entry.file_name();
            found.extend(directories(root, &format!("{path}/{}", name.display())));
        }
    }
    found
}

#[test]
fn the_library_depends_on_no_runtime_no_server_and_no_wire_format() {
    for Source { path, code } in sources() {
        for name in EXCLUDED_CRATES {
            let mut exceptions = EXCLUDED_CRATE_EXCEPTIONS.iter();
            let excepted =
                exceptions.any(|&(file, excepted, _)| (file, excepted) == (&*path, name));
            assert_eq!(excepted, names(&code, name), "{path} names {name}");
        }
    }
    // Optional dependencies are not part of a build without features.
    let manifest = manifest("Cargo.toml");
    for (name, dependency) in dependencies_of(&manifest, &["dependencies"]) {
        let is_optional = dependency.get("optional").and_then(Value::as_bool) == Some(true);
        let is_excluded = EXCLUDED_CRATES.contains(&&*name.replace('-', "_"));
        assert!(is_optional || !is_excluded, "the library depends on {name}");
    }
}

/// The manifest at this path below the root of the repository.
fn manifest(path: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.parse()
        .unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// The dependencies of a manifest, from these tables and from those of its targets.
fn dependencies_of<'a>(manifest: &'a Table, tables: &[&str]) -> Vec<(&'a str, &'a Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values);
    let owners = std::iter::once(manifest).chain(targets.filter_map(Value::as_table));
    let mut found = Vec::new();
    for owner in owners {
        for table in tables {
            let table = owner.get(*table).and_then(Value::as_table);
            for (key, value) in table.into_iter().flatten() {
                // `key` is a name of the manifest's own where `package` has the real one.
                let name = value.get("package").and_then(Value::as_str);
                found.push((name.unwrap_or(key), value));
            }
        }
    }
    found
}

/// Whether this is the published package of the library, which has no other crates, and has the
/// manifest as it was written under another name.
fn is_published() -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("Cargo.toml.orig").exists()
}

/// The manifests of the crates below `crates`, with their paths.
fn crates() -> Vec<(String, Table)> {
    if is_published() {
        return Vec::new();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = fs::read_dir(root.join("crates")).expect("the workspace has crates");
    let mut crates = Vec::new();
    for folder in folders {
        let folder = folder.expect("the folder can be read").file_name();
        let path = format!("crates/{}/Cargo.toml", folder.display());
        let manifest = manifest(&path);
        crates.push((path, manifest));
    }
    assert!(!crates.is_empty(), "no crates are checked");
    crates
}

#[test]
fn crates_depend_only_on_crates_below_them() {
    let layer_of = |name: &str| CRATES.iter().position(|layer| layer.contains(&name));
    let crates = crates();
    let library = [("Cargo.toml".to_owned(), manifest("Cargo.toml"))];
    for (path, manifest) in crates.iter().chain(&library) {
        let name = manifest["package"]["name"].as_str().expect("a name");
        let layer = layer_of(name).unwrap_or_else(|| panic!("{path}: {name} has no layer"));
        let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
        for (dependency, _) in dependencies_of(manifest, &tables) {
            let is_of_the_workspace = dependency.starts_with("fanout");
            let below = layer_of(dependency).is_some_and(|other| other < layer);
            assert!(
                !is_of_the_workspace || below,
                "{path}: {dependency} is not below {name}"
            );
            assert_ne!(dependency, "fanout-cli", "{path}: nothing depends on it");
        }
    }
    assert_eq!(CRATES.last(), Some(&&["fanout-cli"][..]));
}

#[test]
fn no_crate_but_the_library_may_have_unsafe_code() {
    let crates = crates();
    let root = manifest("Cargo.toml");
    for (path, manifest) in &crates {
        let lints = &manifest["lints"];
        let inherits = lints.get("workspace").and_then(Value::as_bool) == Some(true);
        let lints = if inherits {
            &root["workspace"]["lints"]
        } else {
            lints
        };
        let level = lints["rust"]["unsafe_code"].as_str();
        assert_eq!(level, Some("forbid"), "{path}: unsafe_code");
    }
    // The library states its lints itself, because it cannot inherit all but one.
    if !crates.is_empty() {
        let mut lints = root["lints"].clone();
        lints["rust"]["unsafe_code"] = "forbid".into();
        assert_eq!(lints, root["workspace"]["lints"], "the library's lints");
    }
}

/// A test of the functions above: they ignore comments and strings, and find everything else.
#[test]
fn only_code_is_checked() {
    let code = code_of(
        "// unsafe\n/* unsafe */ let a = \"unsafe \\\" unsafe\"; r#\"unsafe \" \"#; '\"'; \
         unsafe { serde_json }",
    );
    assert_eq!(code.matches("unsafe").count(), 1, "{code}");
    assert!(names(&code, "unsafe") && names(&code, "serde_json") && !names(&code, "serde"));
    assert!(names_path("use std::{io, thread};", "std::thread"));
    assert!(names_path("std::thread::spawn", "std::thread"));
    assert!(!names_path("use std::{io}; thread", "std::thread"));
}
