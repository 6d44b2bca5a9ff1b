//! `volumes` of pods: only whether their data stays behind on a node, which drains and the cluster autoscaler ask.

use std::collections::BTreeMap;

use super::yaml::{Node, Value};

/// Volumes, named and separated by commas, that the cluster autoscaler need not care for. Source: kubernetes/autoscaler cluster-autoscaler/FAQ.md.
const GIVEN_UP: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";

/// What the volumes of a pod mean for its node.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Volumes {
    /// There is an `emptyDir`, in memory or not: a drain asks before it takes the pod.
    pub(super) has_empty_dir: bool,
    /// There is a `hostPath`, or an `emptyDir` that is not in memory, and the annotation does not give it up.
    pub(super) has_local_storage: bool,
}

/// Reads them from a pod's spec. Source: cluster-autoscaler utils/drain/drain.go `HasBlockingLocalStorage`.
pub(super) fn read(volumes: Option<&Node>, annotations: &BTreeMap<String, String>) -> Volumes {
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
    }
    found
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
            let found = read(documents.first(), &annotations);
            assert_eq!(found, Volumes { has_empty_dir, has_local_storage }, "{volumes} {given_up}");
        }
        assert_eq!(read(None, &BTreeMap::new()), Volumes::default());
    }
}
