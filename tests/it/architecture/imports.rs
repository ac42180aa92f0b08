//! Which files of a directory import which others, and the cycles among them.
//!
//! This reads code as a list of words and marks, without types or macros. It sees `use` items and
//! paths that start with `crate`, `self` or `super`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// For each file of a directory, the others that it imports.
pub(super) type Imports = BTreeMap<String, BTreeSet<String>>;

/// The imports between the files of a directory below `src`, such as `src/bus`.
///
/// The file that the directory is named by (`mod.rs`, `lib.rs`, `main.rs`) does not count: it
/// declares the others. What it exports from another file counts as that file. A directory within
/// the directory counts as one file. Files of tests and models do not count.
pub(super) fn imports_within(
    directory: &Path,
    module: &[&str],
    code_of: fn(&str) -> String,
) -> Imports {
    let mut modules = Vec::new();
    read(directory, &mut Vec::new(), &mut |path, text| {
        modules.push((path.to_vec(), code_of(text)));
    });
    let files: BTreeSet<&str> = modules
        .iter()
        .filter_map(|(path, _)| Some(path.first()?.as_str()))
        .collect();
    let mut exports = BTreeMap::new();
    let (roots, rest): (Vec<_>, Vec<_>) = modules.iter().partition(|(path, _)| path.is_empty());
    for (_, code) in roots {
        for path in uses(code) {
            if let [file, .., name] = &path[..] {
                exports.insert(name.clone(), file.clone());
            }
        }
    }

    let mut imports = Imports::new();
    for (below, code) in rest {
        let file = &below[0];
        let here: Vec<String> = module
            .iter()
            .map(|part| (*part).to_owned())
            .chain(below.iter().cloned())
            .collect();
        let targets = imports.entry(file.clone()).or_default();
        for path in paths(code, &here) {
            if !path.iter().zip(module).all(|(part, module)| part == module) {
                continue;
            }
            let Some(name) = path.get(module.len()) else {
                continue;
            };
            let target = if files.contains(name.as_str()) {
                Some(name)
            } else {
                exports.get(name)
            };
            if let Some(target) = target.filter(|target| *target != file) {
                targets.insert(target.clone());
            }
        }
    }
    imports
}

/// Calls `each` with every source file below a directory: its module path from there, and its text.
fn read(directory: &Path, path: &mut Vec<String>, each: &mut impl FnMut(&[String], &str)) {
    for entry in fs::read_dir(directory).expect("the sources are there") {
        let entry = entry.expect("the sources are there").path();
        let name = entry
            .file_stem()
            .expect("it has a name")
            .to_str()
            .expect("UTF-8")
            .to_owned();
        let is_test = ["tests", "models", "fuzzing"]
            .iter()
            .any(|end| name.ends_with(end));
        if is_test {
            continue;
        }
        let is_root = ["mod", "lib", "main"].contains(&name.as_str());
        if !is_root {
            path.push(name);
        }
        if entry.is_dir() {
            read(&entry, path, each);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            each(path, &fs::read_to_string(&entry).expect("it is text"));
        }
        if !is_root {
            path.pop();
        }
    }
}

/// Groups of files that import one another, directly or through others of the group.
pub(super) fn cycles(imports: &Imports) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = imports
        .keys()
        .map(|file| (file, reached(file, imports)))
        .collect();
    let mut groups = BTreeSet::new();
    for (file, others) in &reached {
        if others.contains(file) {
            let group = others.iter().filter(|other| reached[*other].contains(file));
            groups.insert(group.map(|file| (*file).clone()).collect::<Vec<_>>());
        }
    }
    groups.into_iter().collect()
}

/// The files that a file imports, directly or through others.
fn reached<'a>(from: &'a String, imports: &'a Imports) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        let next = imports.get(file).into_iter().flatten();
        open.extend(next.filter(|next| reached.insert(*next)));
    }
    reached
}

/// The paths that start with `crate`, `self` or `super`, from below the root of the crate. `here`
/// is the module that the code belongs to. Modules of tests do not count.
fn paths(code: &str, here: &[String]) -> Vec<Vec<String>> {
    let words = words(code);
    let mut found = Vec::new();
    // The modules that are declared with their content, and the depth of braces outside of each.
    let mut inner: Vec<(&str, usize)> = Vec::new();
    // The depth of braces outside of a module of tests.
    let mut tests: Option<usize> = None;
    let mut depth = 0;
    for (at, &word) in words.iter().enumerate() {
        let next = |by: usize| words.get(at + by).copied().unwrap_or("");
        match word {
            "mod" if next(2) == "{" => {
                if is_for_tests(&words[..at]) {
                    tests.get_or_insert(depth);
                }
                inner.push((next(1), depth));
            }
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inner.pop_if(|(_, outside)| *outside == depth);
                tests = tests.filter(|outside| *outside != depth);
            }
            "crate" | "self" | "super"
                if tests.is_none() && next(1) == "::" && (at == 0 || words[at - 1] != "::") =>
            {
                let mut base: Vec<String> = Vec::new();
                if word != "crate" {
                    base.extend(here.iter().cloned());
                    base.extend(inner.iter().map(|(name, _)| (*name).to_owned()));
                }
                tree(&words, at, &base, &mut found);
            }
            _ => {}
        }
    }
    found
}

/// Whether the item that follows these words has an attribute such as `#[cfg(test)]`.
fn is_for_tests(before: &[&str]) -> bool {
    let mut attributes = before
        .iter()
        .rev()
        .take_while(|word| ![";", "{", "}"].contains(word));
    attributes.any(|word| *word == "test")
}

/// The paths of the `use` items of a file that are relative to it.
fn uses(code: &str) -> Vec<Vec<String>> {
    let words = words(code);
    let mut found = Vec::new();
    for (at, &word) in words.iter().enumerate() {
        let first = words.get(at + 1).copied();
        if word == "use" && first.is_some_and(|first| !["crate", "super", "::"].contains(&first)) {
            tree(&words, at + 1, &[], &mut found);
        }
    }
    found
}

/// Adds the paths of the tree that starts with the word at `at`. Returns where it ends.
fn tree(words: &[&str], mut at: usize, base: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = base.to_vec();
    loop {
        match words.get(at).copied().unwrap_or(";") {
            "{" => {
                at += 1;
                while !["}", ";"].contains(&words.get(at).copied().unwrap_or(";")) {
                    at = if words[at] == "," {
                        at + 1
                    } else {
                        tree(words, at, &path, found)
                    };
                }
                return at + 1;
            }
            "self" => {}
            "super" => {
                path.pop();
            }
            "crate" => path.clear(),
            word => path.push(word.to_owned()),
        }
        at += 1;
        match words.get(at).copied().unwrap_or(";") {
            "::" => at += 1,
            "as" => {
                // The other name comes last.
                path.extend(words.get(at + 1).map(|alias| (*alias).to_owned()));
                found.push(path);
                return at + 2;
            }
            _ => {
                found.push(path);
                return at;
            }
        }
    }
}

/// Words, `::`, and all other marks one by one. Character literals are left out.
fn words(code: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_part(first) {
            rest.find(|c| !is_part(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else if let Some(length) = character_length(rest) {
            rest = &rest[length..];
            continue;
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            words.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    words
}

/// The length of the character literal at the beginning, if it is one and not a lifetime.
fn character_length(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    let content = if first == '\\' {
        // The escaped character may itself be a quotation mark.
        let escaped = 1 + inside[1..].chars().next()?.len_utf8();
        escaped + inside[escaped..].find('\'')?
    } else {
        first.len_utf8()
    };
    inside[content..].starts_with('\'').then_some(content + 2)
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use super::{a::{X, self}, b, c as d}; use crate::module::e::Y;
        use crate::other::f; fn x() { super::g::z('{', '\\'', '}'); self::own(); }
        mod inner { use super::*; fn x() { super::super::h() } } mod i; super::i::<u8>();
        #[cfg(test)] mod tests { use super::super::j; mod k { use crate::module::k; } } super::l;";
    let here = ["module".to_owned(), "file".to_owned()];
    let found: BTreeSet<String> = paths(code, &here)
        .iter()
        .map(|path| path.join("."))
        .collect();
    let expected = [
        "other.f",
        "module.a",
        "module.a.X",
        "module.b",
        "module.c.d",
        "module.e.Y",
        "module.file.*",
        "module.file.own",
        "module.g.z",
        "module.h",
        "module.i.<",
        "module.l",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
    let exported = uses("mod a; pub use a::{X, Y as Z}; pub use self::b::V; use std::io;");
    let exported: Vec<String> = exported.iter().map(|path| path.join(".")).collect();
    assert_eq!(exported, ["a.X", "a.Y.Z", "b.V", "std.io"]);
}

#[test]
fn cycles_are_found() {
    let imports = |edges: &[(&str, &[&str])]| -> Imports {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let edges = edges
            .iter()
            .map(|(from, to)| ((*from).to_owned(), owned(to)));
        edges.collect()
    };
    let none = imports(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]);
    assert!(cycles(&none).is_empty());
    let two = imports(&[
        ("a", &["b"]),
        ("b", &["c"]),
        ("c", &["a", "d"]),
        ("d", &["e"]),
        ("e", &["d"]),
    ]);
    assert_eq!(cycles(&two), [vec!["a", "b", "c"], vec!["d", "e"]]);
}
