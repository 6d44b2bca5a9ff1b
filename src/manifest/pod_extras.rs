//! Init containers, native sidecars and readiness gates of a pod template: judged as the API server judges them, and not simulated.
//!
//! A pod has one process here. An init container takes no time; a sidecar (an init container with `restartPolicy: Always`) starts with its pod
//! and ends with it; a gate counts as open, as the balancer's controller opens it once the target is registered.
//! Source: Kubernetes v1.33 pkg/apis/core/validation/validation.go (`validateInitContainers`, `validatePodSpec`).

use super::read::{Field, Fields};
use crate::record::results::FidelityStatus;

/// What only a container that goes on running may have.
const OF_RUNNING: [&str; 4] = ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];

/// Reads `initContainers` and `readinessGates` of a pod's specification.
pub(super) fn read(spec: &Fields<'_>) {
    for container in spec.look("initContainers").map(|field| field.items()).unwrap_or_default() {
        read_init_container(&container);
    }
    for gate in spec.look("readinessGates").map(|field| field.items()).unwrap_or_default() {
        read_gate(&gate);
    }
}

fn read_init_container(field: &Field<'_>) {
    let Some(fields) = field.fields() else { return };
    for (key, help) in [("name", "give the container a name"), ("image", "a container runs an image")] {
        if fields.look(key).is_none() {
            fields.missing(key, help);
        }
    }
    let policy = fields.look("restartPolicy");
    let is_sidecar = policy.as_ref().and_then(|policy| policy.choice(&[("Always", ())])).is_some();
    if policy.is_none() {
        for handler in OF_RUNNING.iter().filter_map(|key| fields.look(key)) {
            handler.refuse(
                "an init container has run to its end before it could matter",
                "make it a sidecar with restartPolicy: Always, or move it into containers",
            );
        }
    }
    let note = if is_sidecar {
        "a sidecar has no process here: it starts with its pod and ends with it"
    } else {
        "init containers take no time here; put it into cluster.timings.podStart"
    };
    field.note(FidelityStatus::Ignored, Some(note));
}

fn read_gate(field: &Field<'_>) {
    let Some(fields) = field.fields() else { return };
    let name = fields.look("conditionType");
    if name.is_none() {
        fields.missing("conditionType", "write the condition, such as service.readiness.alibabacloud.com/NAME");
    }
    if let Some(name) = name
        && let Some(text) = name.text()
    {
        if is_qualified(text) {
            name.note(
                FidelityStatus::Ignored,
                Some("gates count as open: a pod is ready as soon as its containers are"),
            );
        } else {
            name.refuse(
                format!("`{text}` is no name of a condition"),
                "write PREFIX/NAME, as in service.readiness.alibabacloud.com/edge",
            );
        }
    }
    fields.finish();
}

/// A name of at most 63 letters, digits, `-`, `_` and `.`, letters or digits at both ends; before it perhaps a DNS name and a slash.
/// Source: apimachinery pkg/util/validation (`IsQualifiedName`, `IsDNS1123Subdomain`).
fn is_qualified(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let is_name = |text: &str, length: usize, others: &str| {
        let is_end = |end: Option<u8>| end.is_some_and(|byte| byte.is_ascii_alphanumeric());
        text.len() <= length
            && is_end(text.bytes().next())
            && is_end(text.bytes().last())
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || others.contains(letter))
    };
    let is_dns = |text: &str| {
        text.len() <= 253
            && text.split('.').all(|label| is_name(label, 253, "-"))
            && !text.contains(|letter: char| letter.is_ascii_uppercase())
    };
    is_name(name, 63, "-_.") && prefix.is_none_or(is_dns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::deployment::{self, DeploymentManifest};
    use crate::manifest::read::Sink;
    use crate::manifest::{object, yaml};

    /// A Deployment whose pods have these further fields and its container these: what was read, the problems, the notes.
    fn load(pod: &str, container: &str) -> (Option<DeploymentManifest>, Vec<String>, Vec<String>) {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: edge, namespace: ns }}\nspec:\n  selector: {{ matchLabels: {{ a: b }} }}\n  \
             template:\n    metadata: {{ labels: {{ a: b }} }}\n    spec: {{ {pod} containers: [ {{ name: m, image: i, {container} }} ] }}\n"
        );
        let (documents, problems) = yaml::parse(&text, 0);
        assert!(problems.is_empty(), "{text}");
        let sink = Sink::default();
        let objects = object::objects(documents, &sink);
        let manifest = objects.first().and_then(|object| deployment::read(object, &sink));
        let problems =
            sink.take_problems().iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect();
        let notes = sink.take_notes().into_iter().filter(|note| note.status == FidelityStatus::Ignored);
        (manifest, problems, notes.filter_map(|note| note.text).collect())
    }

    #[test]
    fn sidecars_may_have_what_init_containers_may_not() {
        let container = |more: &str| format!("initContainers: [ {{ name: a, image: b, {more} }} ],");
        for more in ["", "restartPolicy: Always", "restartPolicy: Always, startupProbe: {}, lifecycle: {}"] {
            let (_, problems, notes) = load(&container(more), "");
            assert_eq!(problems, Vec::<String>::new(), "{more}");
            let word = if more.is_empty() { "init containers take no time" } else { "a sidecar has no process here" };
            assert!(notes.iter().any(|note| note.starts_with(word)), "{more}: {notes:?}");
        }
        for (more, problem) in [
            ("startupProbe: {}", "initContainers[0].startupProbe: an init container has run to its end"),
            ("lifecycle: {}", "initContainers[0].lifecycle: an init container has run to its end"),
            ("restartPolicy: Sometimes", "initContainers[0].restartPolicy: `Sometimes` is not known here"),
        ] {
            let (_, problems, _) = load(&container(more), "");
            assert!(problems.len() == 1 && problems[0].contains(problem), "{more}: {problems:?}");
        }
        let (_, problems, _) = load("initContainers: [ { name: a } ],", "");
        assert_eq!(problems.len(), 1, "an image is missing: {problems:?}");
    }

    #[test]
    fn gates_have_names_and_are_noted() {
        let (_, problems, notes) =
            load("readinessGates: [ { conditionType: service.readiness.alibabacloud.com/edge } ],", "");
        assert_eq!((problems, notes.len()), (Vec::new(), 1));
        for gate in ["{}", "{ conditionType: a/b/c }", "{ conditionType: a, status: b }"] {
            let (_, problems, _) = load(&format!("readinessGates: [ {gate} ],"), "");
            assert_eq!(problems.len(), 1, "{gate}: {problems:?}");
        }
    }

    #[test]
    fn a_memory_limit_is_read_and_0_is_none() {
        let limit = |limits: &str| {
            let (manifest, problems, _) = load("", &format!("resources: {{ limits: {limits} }}"));
            assert_eq!(problems, Vec::<String>::new());
            manifest.expect("it is whole").memory_limit.map(|limit| (limit.bytes, limit.written))
        };
        assert_eq!(limit("{ memory: 64Mi, cpu: 1 }"), Some((64 << 20, "64Mi".to_owned())));
        assert_eq!(limit("{ memory: \"0\" }"), None);
        assert_eq!(limit("{ cpu: 1 }"), None);
    }

    #[test]
    fn names_of_conditions_have_their_bounds() {
        let (most, more) = ("a".repeat(63), "a".repeat(64));
        for name in ["ready", "a.b/ready", "service.readiness.alibabacloud.com/edge", "a/B_c.d-e", most.as_str()] {
            assert!(is_qualified(name), "{name}");
        }
        for name in ["", "/ready", "a/", "A.b/ready", "a..b/ready", "a/b/c", "-a", "a-", "a b", more.as_str()] {
            assert!(!is_qualified(name), "{name}");
        }
    }
}
