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
    let name = fields.require("conditionType", "write the condition, such as service.readiness.alibabacloud.com/NAME");
    if let Some(name) = name
        && let Some(text) = name.text()
    {
        if is_qualified(text) {
            name.note(FidelityStatus::Ignored, Some("gates count as open: a pod is ready as soon as its containers are"));
        } else {
            name.refuse(format!("`{text}` is no name of a condition"), "write PREFIX/NAME, as in service.readiness.alibabacloud.com/edge");
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
