//! Fields of an `IstioGateway` that are its pods' and that nothing here acts on: an edit of one makes another template all the same, so the gateway rolls.
//!
//! They are not part of the template from the start, so that what they say then changes no name of a set or a pod.
//!
//! Source: aliyun/alibabacloud-servicemesh-api v1 istiogateway_types.go (what goes into the pods). That ASM writes kernel parameters into them is an assumption.

use super::address::Patch;
use super::state::{Resolved, State};
use crate::manifest::{Node, Place, Problem, Sink, deployment};

/// Each field, and where in the template it is written.
const FIELDS: [(&str, &str); 6] = [
    ("hostNetwork", "spec.template.spec.hostNetwork"),
    ("dnsPolicy", "spec.template.spec.dnsPolicy"),
    ("runAsRoot", "spec.template.spec.securityContext.runAsRoot"),
    ("kernel", "spec.template.spec.securityContext.sysctls"),
    ("secretVolumes", "spec.template.spec.volumes"),
    ("configVolumes", "spec.template.spec.volumes"),
];

/// What stands in the template for what is said of a field.
fn written(key: &str, said: Option<&Node>, at: Place) -> Node {
    match said {
        Some(kernel) if key == "kernel" => {
            let is_enabled = kernel.find(&["enabled"]).and_then(Node::text) == Some("true");
            let parameters = kernel.find(&["parameters"]).filter(|_| is_enabled);
            let sysctl = |entry: &crate::manifest::yaml::Entry| {
                Node::map(at, vec![("name", Node::string(at, &entry.key)), ("value", entry.node.clone())])
            };
            Node::list(at, parameters.map(Node::entries).unwrap_or_default().iter().map(sysctl).collect())
        }
        None if key == "kernel" => Node::list(at, Vec::new()),
        Some(said) => said.clone(),
        None => Node::string(at, ""),
    }
}

/// Writes into the target's template what an entry at `at` has changed of these fields.
pub(super) fn follow(state: &mut State, current: &Resolved, at: Place, sink: &Sink) {
    if state.departed.is_some() {
        return;
    }
    let before = &current.origin;
    let Some(after) = state.objects.iter().find(|object| object.id == before.id && object.id.kind == "IstioGateway")
    else {
        return;
    };
    let text = |node: &Node, key: &str| node.find(&["spec", key]).map(deployment::canonical);
    let changed: Vec<(&str, Node)> = FIELDS
        .iter()
        .filter(|(key, _)| text(&before.node, key) != text(&after.node, key))
        .map(|(key, path)| (*path, written(key, after.node.find(&["spec", key]), at)))
        .collect();
    for (path, value) in changed {
        match Patch::new(path, at, value) {
            Ok(patch) => state.edit(&current.target, patch),
            Err(why) => sink.report(Problem::at(at, path, why)),
        }
    }
}
