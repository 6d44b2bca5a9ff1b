//! Scenarios that stand in memory: a text, and the manifests it names.

use std::collections::BTreeMap;

use gatedrill::manifest::Problems;
use gatedrill::scenario::{Input, Library, NamedText, Scenario, load};

/// A folder that stands in memory: the texts of each path.
pub(crate) struct Memory(pub(crate) BTreeMap<String, Vec<NamedText>>);

impl Memory {
    /// `manifests/` with one file.
    pub(crate) fn of(manifest: &str) -> Self {
        Self(BTreeMap::from([("manifests/".to_owned(), vec![("manifests/all.yaml".to_owned(), manifest.to_owned())])]))
    }
}

impl Library for Memory {
    fn read(&self, path: &str) -> Result<Vec<NamedText>, (String, String)> {
        let nothing = || (format!("`{path}` does not exist"), "name manifests/".to_owned());
        self.0.get(path).cloned().ok_or_else(nothing)
    }
}

/// The scenario of a text whose `manifests/` hold one file; `set` and `variant` as on the command line.
pub(crate) fn loaded(text: &str, manifest: &str, set: &[String], variant: Option<&str>) -> Result<Scenario, Problems> {
    let library = Memory::of(manifest);
    load(&Input { name: "test.drill.yaml", text, library: &library, set, variant, seed: None })
}
