//! Placements of a real scheduler (Kubernetes v1.20.2), decided on anew from their inputs.
//!
//! Goal: every rule gives every node the score that the real one gave it, the node it chose is one of our best, and pods without a node are
//! told so in the same words. Every recorded case is read; none is named in code.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

mod case {
    /// A recorded case.
    pub(crate) struct Case {
        /// Its name.
        pub(crate) name: String,
        /// All of the file.
        pub(crate) json: serde_json::Value,
    }
}
#[path = "timelines/schedule.rs"]
mod schedule;

#[test]
fn timelines_schedule() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubernetes/timelines");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let (mut agreeing, mut count) = (0, 0);
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let text = fs::read_to_string(path).expect("a text");
        let json: Value = serde_json::from_str(&text).expect("it is JSON");
        if json["kind"] != "schedule" {
            continue;
        }
        let case = case::Case { name: json["name"].as_str().expect("a name").to_owned(), json };
        let differences = schedule::differences(&case);
        println!("schedule: {}: {}", case.name, if differences.is_empty() { "agrees" } else { "DIFFERS" });
        for difference in &differences {
            println!("    {difference}");
        }
        count += 1;
        agreeing += usize::from(differences.is_empty());
    }
    println!("schedule: {agreeing} of {count} agree");
    assert!(count > 0, "there are cases");
    assert_eq!(agreeing, count);
}
