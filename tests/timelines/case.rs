//! The cases: one file each, as they were recorded.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// A recorded case.
pub(crate) struct Case {
    /// Its name, which is the file's.
    pub(crate) name: String,
    /// What is tested.
    pub(crate) kind: String,
    /// All of the file.
    pub(crate) json: Value,
}

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubernetes")
}

/// Every case of the folder, in the order of the alphabet.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(data().join("timelines")).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("the file is text");
        let json: Value = serde_json::from_str(&text).expect("the file is JSON");
        let name = json["name"].as_str().expect("a name").to_owned();
        assert_eq!(Some(name.as_str()), path.file_stem().and_then(|stem| stem.to_str()));
        cases.push(Case { name, kind: json["kind"].as_str().expect("a kind").to_owned(), json });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// Cases that are known to differ, with the reason.
pub(crate) fn exceptions() -> BTreeMap<String, String> {
    let text = fs::read_to_string(data().join("timelines_exceptions.json")).expect("the file is there");
    serde_json::from_str(&text).expect("the file maps names to reasons")
}
