//! Checks the documentation of the library's sources: examples for public items, the search
//! aliases, and that a public name has one meaning.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The source files of the library: path and text.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut directories = vec![root];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("it is text");
                sources.push((path, text));
            }
        }
    }
    assert!(sources.len() > 100, "the test found the sources");
    sources
}

/// The keyword and the name of a public item, if one begins in this line. Sealed traits, which are
/// in a module of their own, and the items of macros, whose names are parameters, do not count.
fn public_item(line: &str) -> Option<(&str, &str)> {
    let indented = line.starts_with(' ');
    let rest = line.trim_start().strip_prefix("pub ")?;
    let rest = rest.strip_prefix("const fn ").map_or(rest, |_| &rest[6..]);
    let (keyword, rest) = rest.split_once(' ')?;
    let known = ["fn", "struct", "enum", "trait", "type", "const"];
    if !known.contains(&keyword) || rest.starts_with('$') || keyword == "trait" && indented {
        return None;
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some((keyword, &rest[..end]))
}

/// An item has an example if its own documentation has one or refers to one, or if another example
/// in the same file calls it. (Items that are `pub` are part of the public interface, because of
/// the lint `unreachable_pub`.)
#[test]
fn every_public_item_has_an_example() {
    let internal = ["tests", "models", "fuzzing", "naive"];
    let mut missing = Vec::new();
    let mut checked = 0;
    for (path, text) in sources() {
        let text = text.split("\nmod tests {").next().expect("the first part");
        if internal
            .iter()
            .any(|part| path.display().to_string().contains(part))
        {
            continue;
        }
        let comments: Vec<&str> = text
            .lines()
            .filter(|line| line.trim_start().starts_with("//"))
            .collect();
        let examples = comments.join("\n");
        let mut documentation = String::new();
        for line in text.lines() {
            if let Some((keyword, name)) = public_item(line) {
                checked += 1;
                let called = [format!(".{name}("), format!("::{name}(")];
                let has_example = documentation.contains("```")
                    || documentation.contains("example")
                    || keyword == "fn" && called.iter().any(|call| examples.contains(call));
                if !has_example {
                    missing.push(format!("{}: {keyword} {name}", path.display()));
                }
            }
            if line.trim().is_empty() {
                documentation.clear();
            } else {
                documentation.push_str(line);
            }
        }
    }
    assert!(checked > 300, "the test found {checked} public items");
    assert!(missing.is_empty(), "without an example: {missing:#?}");
}

/// A search for a word of another library leads to one item.
#[test]
fn each_alias_is_on_one_item() {
    let mut aliases: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (path, text) in sources() {
        for line in text.lines() {
            let Some((_, list)) = line.split_once("#[doc(alias") else {
                continue;
            };
            for alias in list.split('"').skip(1).step_by(2) {
                aliases
                    .entry(alias.to_owned())
                    .or_default()
                    .push(path.clone());
            }
        }
    }
    for (alias, paths) in &aliases {
        assert_eq!(paths.len(), 1, "{alias}: {paths:?}");
    }
    let expected = [
        "Lagged",
        "Receiver",
        "Sender",
        "blocking_recv",
        "blocking_send",
        "channel",
        "receiver_count",
        "same_channel",
    ];
    for alias in expected {
        assert!(aliases.contains_key(alias), "{alias}");
    }
}

/// A public name stands for one item, whatever its module: a program can import all of them, and a
/// reader needs no path to know what is meant. (The lint `unreachable_pub` makes every item that is
/// `pub` part of the public interface. The items of indented modules, which seal traits, are not.)
#[test]
fn each_public_name_has_one_meaning() {
    let mut items: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (path, text) in sources() {
        if path.ends_with("fuzzing.rs") {
            continue; // only in builds for fuzz targets, and hidden in the documentation
        }
        let at_the_root = text.lines().filter(|line| line.starts_with("pub "));
        for (_, name) in at_the_root.filter_map(public_item) {
            items.entry(name.to_owned()).or_default().push(path.clone());
        }
    }
    for expected in ["Bus", "Event", "Broadcaster", "PatternIndex", "Syntax"] {
        assert!(items.contains_key(expected), "{expected} was not found");
    }
    items.retain(|_, paths| paths.len() > 1);
    assert!(items.is_empty(), "with more than one meaning: {items:#?}");
}
