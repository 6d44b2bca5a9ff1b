//! `volumes` of pods: whether their data stays behind on a node, which drains and the cluster autoscaler ask, and how much of its disk an `emptyDir` may take.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::yaml::{Node, Value};
use super::{Place, Problem, Sink, quantity};
use crate::cluster::{EmptyDir, LocalStorage, StorageLimit};

/// Volumes, named and separated by commas, that the cluster autoscaler need not care for. Source: kubernetes/autoscaler cluster-autoscaler/FAQ.md.
const GIVEN_UP: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";

/// What the volumes of a pod mean for its node.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Volumes {
    /// There is an `emptyDir`, in memory or not: a drain asks before it takes the pod.
    pub(super) has_empty_dir: bool,
    /// There is a `hostPath`, or an `emptyDir` that is not in memory, and the annotation does not give it up.
    pub(super) has_local_storage: bool,
    /// Each `emptyDir` on disk.
    pub(super) empty_dirs: Vec<EmptyDir>,
    /// Where the first of their limits is written.
    pub(super) limit_at: Option<Place>,
}

impl Volumes {
    /// What a pod with these limits of its containers may take of its node's disk; and where the first of all limits is written, with its path.
    pub(super) fn storage<'a>(
        &self,
        limits: impl Iterator<Item = (&'a str, &'a (StorageLimit, Place))>,
    ) -> (LocalStorage, Option<(Place, &'static str)>) {
        let limits: Vec<_> = limits.collect();
        let of_container = limits.first().map(|(_, (_, at))| (*at, "resources.limits.ephemeral-storage"));
        let limit_at = of_container.or(self.limit_at.map(|at| (at, "volumes.emptyDir.sizeLimit")));
        let containers = limits.into_iter().map(|(name, (limit, _))| (Rc::from(name), limit.clone())).collect();
        (LocalStorage { containers, empty_dirs: self.empty_dirs.clone() }, limit_at)
    }
}

/// Reads them from a pod's spec. Source: cluster-autoscaler utils/drain/drain.go `HasBlockingLocalStorage`.
pub(super) fn read(volumes: Option<&Node>, annotations: &BTreeMap<String, String>, sink: &Sink) -> Volumes {
    let Some(Value::List(items)) = volumes.map(|node| &node.value) else { return Volumes::default() };
    let text = |node: &Node, path: &[&str]| match node.find(path).map(|node| &node.value) {
        Some(Value::Scalar { text, .. }) => text.to_string(),
        _ => String::new(),
    };
    let given_up = annotations.get(GIVEN_UP).map_or("", String::as_str);
    let mut found = Volumes::default();
    for item in items {
        let is_empty_dir = item.entry("emptyDir").is_some();
        let is_on_disk = is_empty_dir && text(item, &["emptyDir", "medium"]) != "Memory";
        let is_local = is_on_disk || item.entry("hostPath").is_some();
        let name = text(item, &["name"]);
        found.has_empty_dir |= is_empty_dir;
        found.has_local_storage |= is_local && !given_up.split(',').any(|named| named == name);
        if is_on_disk {
            let written = item.find(&["emptyDir", "sizeLimit"]);
            let limit = written.and_then(|node| size_limit(node, sink));
            found.limit_at = found.limit_at.or(written.filter(|_| limit.is_some()).map(|node| node.at));
            found.empty_dirs.push(EmptyDir { name: Rc::from(name), limit });
        }
    }
    found
}

/// A `sizeLimit`. Source: Kubernetes pkg/apis/core/validation (`validateEmptyDirVolumeSource`).
fn size_limit(node: &Node, sink: &Sink) -> Option<StorageLimit> {
    let Value::Scalar { text, .. } = &node.value else { return None };
    match quantity::kubernetes_millis(text) {
        Ok(millis) => Some(StorageLimit { bytes: millis / 1000, written: text.to_string() }),
        Err(wrong) => {
            sink.report(Problem::at(node.at, "volumes.emptyDir.sizeLimit", wrong.text).help(wrong.help));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::yaml;

    #[test]
    fn what_stays_behind_on_a_node() {
        for (volumes, given_up, has_empty_dir, has_local_storage) in [
            ("[]", "", false, false),
            ("[{ name: a, configMap: { name: c } }]", "", false, false),
            ("[{ name: a, emptyDir: {} }]", "", true, true),
            ("[{ name: a, emptyDir: { medium: \"\" } }]", "", true, true),
            ("[{ name: a, emptyDir: { medium: Memory } }]", "", true, false),
            ("[{ name: a, hostPath: { path: /var } }]", "", false, true),
            ("[{ name: a, emptyDir: {} }]", "b,a", true, false),
            // The names are compared as they are written.
            ("[{ name: a, emptyDir: {} }]", "b, a", true, true),
            ("[{ name: a, emptyDir: {} }, { name: b, hostPath: { path: /b } }]", "a", true, true),
        ] {
            let (documents, problems) = yaml::parse(volumes, 0);
            assert_eq!(problems, []);
            let annotations = BTreeMap::from([(GIVEN_UP.to_owned(), given_up.to_owned())]);
            let found = read(documents.first(), &annotations, &Sink::default());
            assert_eq!(
                (found.has_empty_dir, found.has_local_storage),
                (has_empty_dir, has_local_storage),
                "{volumes} {given_up}"
            );
        }
        assert_eq!(read(None, &BTreeMap::new(), &Sink::default()), Volumes::default());
    }

    #[test]
    fn what_an_empty_dir_may_take() {
        for (volume, expected, problems) in [
            ("emptyDir: {}", Some(None), 0),
            ("emptyDir: { sizeLimit: 1Gi }", Some(Some(1 << 30)), 0),
            ("emptyDir: { sizeLimit: \"0\" }", Some(Some(0)), 0),
            ("emptyDir: { sizeLimit: -1 }", Some(None), 1),
            ("emptyDir: { sizeLimit: 1GiB }", Some(None), 1),
            // What is in memory takes no disk.
            ("emptyDir: { medium: Memory, sizeLimit: 1Gi }", None, 0),
            ("hostPath: { path: /var }", None, 0),
        ] {
            let (documents, _) = yaml::parse(&format!("[{{ name: a, {volume} }}]"), 0);
            let sink = Sink::default();
            let found = read(documents.first(), &BTreeMap::new(), &sink);
            let limits = found.empty_dirs.first().map(|volume| volume.limit.as_ref().map(|limit| limit.bytes));
            assert_eq!((limits, sink.take_problems().len()), (expected, problems), "{volume}");
        }
    }
}
