//! The house in order: rooms use only the rooms that `ARCHITECTURE.md` says they use, every module says what it is, and words of the
//! workshop stay out of the project.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The words in backticks of a cell of a table.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The code map: each room with the rooms it may use.
fn code_map() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the architecture");
    let map = text.split("## Code map").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a code map");
    let rows = map.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        let room = quoted(cells[1]).remove(0);
        (room, quoted(cells[2]).into_iter().collect())
    })
    .collect()
}

#[test]
fn rooms_use_what_the_architecture_says() {
    let map = code_map();
    assert!(map.len() >= 10, "the code map is read: {map:?}");
    let source = root().join("src");
    let mut wrong = Vec::new();
    for file in rust_files(&source) {
        let inside = file.strip_prefix(&source).expect("a file of the source");
        let name = inside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if ["tests.rs", "sample.rs", "main.rs", "lib.rs"].contains(&name.as_str()) {
            continue;
        }
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let room = first.strip_suffix(".rs").unwrap_or(&first);
        let allowed = map.get(room).unwrap_or_else(|| panic!("the code map has no row for `{room}`"));
        let text = fs::read_to_string(&file).expect("a source file");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for part in line.split("crate::").skip(1) {
                let used: String =
                    part.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
                let is_room = map.contains_key(&used);
                if is_room && used != room && !allowed.contains(&used) {
                    wrong.push(format!("{}: {room} → {used}", inside.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that ARCHITECTURE.md does not have:\n{}", wrong.join("\n"));
}

#[test]
fn the_map_has_no_cycle() {
    let map = code_map();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    loop {
        let ready: Vec<&str> = map
            .iter()
            .filter(|(room, uses)| {
                !done.contains(room.as_str()) && uses.iter().all(|used| done.contains(used.as_str()))
            })
            .map(|(room, _)| room.as_str())
            .collect();
        if ready.is_empty() {
            break;
        }
        done.extend(ready);
    }
    let left: Vec<_> = map.keys().filter(|room| !done.contains(room.as_str())).collect();
    assert!(left.is_empty(), "these rooms use each other: {left:?}");
}

#[test]
fn every_module_says_what_it_is() {
    for file in ["src", "tests", "benches"].iter().flat_map(|folder| rust_files(&root().join(folder))) {
        let text = fs::read_to_string(&file).expect("a source file");
        let is_test_module = file.file_name().is_some_and(|name| name == "tests.rs");
        assert!(is_test_module || text.starts_with("//!"), "{} does not begin with `//!`", file.display());
    }
}

#[test]
fn every_scenario_is_told_and_tested() {
    let gallery = fs::read_to_string(root().join("tests/gallery.rs")).expect("the gallery's tests");
    for entry in fs::read_dir(root().join("scenarios")).expect("the gallery") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(path.join("README.md").is_file(), "{name} has no README.md");
        assert!(gallery.contains(&format!("\"scenarios/{name}\"")), "{name} is pinned by no test");
    }
}
