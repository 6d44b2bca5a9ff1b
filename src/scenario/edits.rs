//! Edits of Deployments by the timeline, which lie over the objects as they are written: of two that write one field the last wins.
//!
//! As with `kubectl apply`, an object that is written again wins over earlier edits of what it writes, and of what it wrote when it was last applied and does not write
//! any more (that falls back to its default); it leaves the others as they are.
//!
//! Source: Kubernetes documents "Declarative Management of Kubernetes Objects Using Configuration Files", merge patch calculation.

use super::address::Patch;
use crate::manifest::deployment::canonical;
use crate::manifest::{Node, Problem, Sink};

/// The edits in their order, each with the owner of the pods: a Deployment's `namespace/name`, or what a `DaemonSet` is called.
#[derive(Clone, Debug, Default)]
pub(super) struct Edits(Vec<(String, Patch)>);

impl Edits {
    /// One more. What it writes anew needs no earlier edit.
    pub(super) fn push(&mut self, key: &str, patch: Patch) {
        self.0.retain(|(edited, earlier)| edited != key || !earlier.steps.starts_with(&patch.steps));
        self.0.push((key.to_owned(), patch));
    }

    /// Those of an object are as if they had never been.
    pub(super) fn forget(&mut self, key: &str) {
        self.0.retain(|(edited, _)| edited != key);
    }

    /// Those of a Deployment.
    pub(super) fn of<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a Patch> {
        self.0.iter().filter(move |(edited, _)| edited == key).map(|(_, patch)| patch)
    }

    /// A Deployment is written as this: it wins where it says something, and where what was written `before` did; and what an edit led into may be gone.
    pub(super) fn written(&mut self, key: &str, before: Option<&Node>, node: &Node) {
        self.0.retain(|(edited, patch)| {
            let is_written = patch.is_written_in(node) || before.is_some_and(|before| patch.is_written_in(before));
            edited != key || !is_written && patch.write(&mut node.clone()).is_ok()
        });
    }

    /// A controller has made it as `before`, and makes it as `after` now: it writes what differs.
    pub(super) fn made(&mut self, key: &str, before: &Node, after: &Node) {
        let at = |node: &Node, patch: &Patch| patch.found_in(node).map(canonical);
        self.0.retain(|(edited, patch)| {
            edited != key || at(before, patch) == at(after, patch) && patch.write(&mut after.clone()).is_ok()
        });
    }

    /// Writes those of a Deployment into it; what cannot be written is reported.
    pub(super) fn write(&self, key: &str, node: &mut Node, sink: &Sink) {
        for patch in self.of(key) {
            patch.apply(node, sink);
        }
    }
}

/// Whether an edit would write what an object is known by; then it is reported.
pub(super) fn is_refused(patch: &Patch, sink: &Sink) -> bool {
    if patch.is_of_identity() {
        let problem = Problem::at(patch.at, patch.text.clone(), "an edit cannot make another object of this one");
        sink.report(problem.help("edit the manifest, or write the path of one field, such as metadata.labels"));
    }
    patch.is_of_identity()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Place, yaml};

    fn node(text: &str) -> Node {
        yaml::parse(text, 0).0.remove(0)
    }

    fn patch(path: &str, value: &str) -> Patch {
        Patch::new(&format!("target.{path}"), Place::NOWHERE, node(value)).expect("a path")
    }

    fn edits(of: &[(&str, &str)]) -> Edits {
        let mut edits = Edits::default();
        of.iter().for_each(|(path, value)| edits.push("a/b", patch(path, value)));
        edits
    }

    /// What a Deployment of this text comes to.
    fn over(edits: &Edits, text: &str) -> String {
        let (mut found, sink) = (node(text), Sink::default());
        edits.write("a/b", &mut found, &sink);
        assert_eq!(sink.problem_count(), 0);
        yaml::write(&found).replace('\n', " ").trim().to_owned()
    }

    #[test]
    fn the_last_write_wins() {
        for (of, expected) in [
            (&[("x", "1"), ("x", "2")][..], "x: 2 y:   z: 0"),
            (&[("y.z", "1"), ("y", "{ w: 2 }")], "x: 0 y:   w: 2"),
            (&[("y", "{ w: 2 }"), ("y.z", "1")], "x: 0 y:   w: 2   z: 1"),
            (&[("x", "1"), ("y.z", "3")], "x: 1 y:   z: 3"),
        ] {
            assert_eq!(over(&edits(of), "x: 0\ny: { z: 0 }"), expected, "{of:?}");
        }
        let mut both = edits(&[("x", "1")]);
        both.push("a/c", patch("x", "2"));
        assert_eq!(over(&both, "x: 0"), "x: 1", "another Deployment's edit is another's");
    }

    #[test]
    fn what_is_written_again_wins_where_it_says_something() {
        let after = |text: &str| {
            let mut found = edits(&[("x", "1"), ("y.w", "2"), ("l[1].v", "3")]);
            found.written("a/b", None, &node(text));
            over(&found, text)
        };
        assert_eq!(after("x: 0"), "x: 0 y:   w: 2 l:   1:     v: 3");
        assert_eq!(after("y: { w: 0 }\nl: [ { v: 7 } ]"), "y:   w: 0 l:   - v: 7 x: 1", "there is no second item now");
    }

    #[test]
    fn what_is_not_written_any_more_loses_its_edits() {
        let after = |before: &str, text: &str| {
            let mut found = edits(&[("x", "1"), ("y.w", "2")]);
            found.written("a/b", Some(&node(before)), &node(text));
            over(&found, text)
        };
        assert_eq!(after("x: 0\nz: 0", "z: 0"), "z: 0 y:   w: 2");
        assert_eq!(after("z: 0", "z: 0"), "z: 0 x: 1 y:   w: 2");
    }

    #[test]
    fn a_controller_writes_what_differs() {
        let after = |text: &str| {
            let mut found = edits(&[("x", "1"), ("y", "{ z: 2 }")]);
            found.made("a/b", &node("x: 0\ny: { z: 0 }"), &node(text));
            over(&found, text)
        };
        assert_eq!(after("x: 0\ny: { z: 0 }\nw: 5"), "x: 1 y:   z: 2 w: 5");
        assert_eq!(after("x: 3\ny: { z: 0 }"), "x: 3 y:   z: 2");
        assert_eq!(after("x: 0\ny: { z: 0, w: 1 }"), "x: 1 y:   z: 0   w: 1");
    }
}
