//! Fields that the API server of an older version takes and drops, because their feature is off there: who writes one has it not.
//!
//! They are taken out before an object is read, with a warning where each stands. A server that does not know a field at all drops it too, unless its client asks it
//! to be strict. What is refused instead is in [`super::version_rules`].
//!
//! | field | counts from |
//! | --- | --- |
//! | a budget's `unhealthyPodEvictionPolicy` | 1.27 (`PDBUnhealthyPodEvictionPolicy`) |
//! | `matchLabelKeys`, `mismatchLabelKeys` of affinity between pods | 1.31 (`MatchLabelKeysInPodAffinity`) |
//! | `namespaceSelector` of affinity between pods | 1.22 (`PodAffinityNamespaceSelector`) |
//! | `matchLabelKeys` of topology spread | 1.27 (`MatchLabelKeysInPodTopologySpread`) |
//! | `minDomains` | 1.27 (`MinDomainsInPodTopologySpread`) |
//! | `nodeAffinityPolicy`, `nodeTaintsPolicy` | 1.26 (`NodeInclusionPolicyInPodTopologySpread`) |
//! | a probe's `terminationGracePeriodSeconds` | 1.25 (`ProbeTerminationGracePeriod`) |
//! | `internalTrafficPolicy` | 1.22 (`ServiceInternalTrafficPolicy`) |
//! | `loadBalancerClass` | 1.22 (`ServiceLoadBalancerClass`) |
//! | `allocateLoadBalancerNodePorts` | 1.22 (`ServiceLBNodePortControl`) |
//! | `trafficDistribution` | 1.31 (`ServiceTrafficDistribution`) |
//! | an autoscaler's `tolerance` | 1.35 (`HPAConfigurableTolerance`) |
//!
//! Source: kubernetes/website content/en/docs/reference/command-line-tools-reference/feature-gates (stages of each); the `dropDisabledFields` of
//! pkg/registry/policy/poddisruptionbudget/strategy.go, pkg/registry/core/service/strategy.go and pkg/api/pod/util.go.

use super::object::Object;
use super::read::Sink;
use super::yaml::{Node, Value};
use crate::cluster::Version;
use crate::record::results::FidelityStatus;

/// Whose field it is.
#[derive(Clone, Copy)]
enum Of {
    /// A pod's, in a template or by itself.
    Pod,
    /// An object's of this kind.
    Kind(&'static str),
}

/// Where the fields stand, keys with dots between and `[]` behind lists; their names; the first version in which they are on by default.
type Gate = (Of, &'static str, &'static [&'static str], Version);

const AFFINITY_KEYS: &[&str] = &["matchLabelKeys", "mismatchLabelKeys"];
const NAMESPACES: &[&str] = &["namespaceSelector"];
const GRACE: &[&str] = &["terminationGracePeriodSeconds"];
const SPREAD: &str = "topologySpreadConstraints[]";
/// The four places of a term of affinity between pods.
const TERMS: [&str; 4] = [
    "affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[]",
    "affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[].podAffinityTerm",
    "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[]",
    "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[].podAffinityTerm",
];
/// The probes that a grace period of their own may have.
const PROBES: [&str; 4] = [
    "containers[].livenessProbe",
    "containers[].startupProbe",
    "initContainers[].livenessProbe",
    "initContainers[].startupProbe",
];

fn gates() -> impl Iterator<Item = Gate> {
    let of_terms = TERMS.into_iter().flat_map(|term| {
        [(Of::Pod, term, AFFINITY_KEYS, Version::new(1, 31)), (Of::Pod, term, NAMESPACES, Version::new(1, 22))]
    });
    let of_probes = PROBES.into_iter().map(|probe| (Of::Pod, probe, GRACE, Version::new(1, 25)));
    let others: [Gate; 9] = [
        (Of::Kind("PodDisruptionBudget"), "spec", &["unhealthyPodEvictionPolicy"], Version::new(1, 27)),
        (Of::Pod, SPREAD, &["matchLabelKeys", "minDomains"], Version::new(1, 27)),
        (Of::Pod, SPREAD, &["nodeAffinityPolicy", "nodeTaintsPolicy"], Version::new(1, 26)),
        (Of::Kind("Service"), "spec", &["internalTrafficPolicy"], Version::new(1, 22)),
        (Of::Kind("Service"), "spec", &["loadBalancerClass"], Version::new(1, 22)),
        (Of::Kind("Service"), "spec", &["allocateLoadBalancerNodePorts"], Version::new(1, 22)),
        (Of::Kind("Service"), "spec", &["trafficDistribution"], Version::new(1, 31)),
        (Of::Kind("HorizontalPodAutoscaler"), "spec.behavior.scaleUp", &["tolerance"], Version::new(1, 35)),
        (Of::Kind("HorizontalPodAutoscaler"), "spec.behavior.scaleDown", &["tolerance"], Version::new(1, 35)),
    ];
    of_terms.chain(of_probes).chain(others)
}

/// Takes out what this version drops, each field with a warning.
pub fn drop_fields(object: &mut Object, version: Version, sink: &Sink) {
    let pod = match object.id.kind.as_str() {
        "Deployment" | "DaemonSet" => Some("spec.template.spec"),
        // An IstioGateway has the affinity of its pods.
        "Pod" | "IstioGateway" => Some("spec"),
        _ => None,
    };
    let prefix = object.prefix();
    for (of, path, fields, from) in gates().filter(|(.., from)| version < *from) {
        let path = match of {
            Of::Kind(kind) if kind == object.id.kind => path.to_owned(),
            Of::Pod => match pod {
                Some(pod) => format!("{pod}.{path}"),
                None => continue,
            },
            Of::Kind(_) => continue,
        };
        let text =
            format!("Kubernetes {version} drops this field, so it does not count: its feature is on from {from} on");
        let told = |node: &Node, path: &str| {
            sink.note(node.at, format!("{prefix}{path}"), FidelityStatus::Warning, Some(&text));
        };
        take_out(&mut object.node, &path, fields, "", &told);
    }
}

/// Takes fields out of the maps that a path leads to.
fn take_out(node: &mut Node, path: &str, fields: &[&str], at: &str, told: &dyn Fn(&Node, &str)) {
    if path.is_empty() {
        if let Value::Map(entries) = &mut node.value {
            entries.retain(|entry| {
                let is_kept = !fields.contains(&&*entry.key);
                if !is_kept {
                    told(&entry.node, &format!("{at}.{}", entry.key));
                }
                is_kept
            });
        }
        return;
    }
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let (key, is_list) = step.strip_suffix("[]").map_or((step, false), |key| (key, true));
    let Value::Map(entries) = &mut node.value else { return };
    let Some(entry) = entries.iter_mut().find(|entry| &*entry.key == key) else { return };
    let at = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match &mut entry.node.value {
        Value::List(items) if is_list => {
            for (index, item) in items.iter_mut().enumerate() {
                take_out(item, rest, fields, &format!("{at}[{index}]"), told);
            }
        }
        _ if !is_list => take_out(&mut entry.node, rest, fields, &at, told),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{object, yaml};

    /// The paths of what a version drops of an object.
    fn dropped(text: &str, minor: u32) -> Vec<String> {
        let sink = Sink::default();
        let mut objects = object::objects(yaml::parse(text, 0).0, &sink);
        assert!(sink.take_problems().is_empty() && objects.len() == 1, "{text}");
        let before = format!("{:?}", objects[0].node);
        drop_fields(&mut objects[0], Version::new(1, minor), &sink);
        let notes = sink.take_notes();
        assert_eq!(
            notes.is_empty(),
            format!("{:?}", objects[0].node) == before,
            "what is dropped is told of, and nothing else"
        );
        assert!(notes.iter().all(|note| note.place.is_written() && note.status == FidelityStatus::Warning));
        let short = |path: &str| path.rsplit(' ').next().unwrap_or_default().to_owned();
        notes.iter().map(|note| short(&note.path)).collect()
    }

    /// Dropped before this minor version, in which it counts.
    #[track_caller]
    fn check(text: &str, path: &str, from: u32) {
        assert_eq!(dropped(text, from - 1), [path], "{text} in 1.{}", from - 1);
        assert_eq!(dropped(text, from), Vec::<String>::new(), "{text} in 1.{from}");
    }

    #[test]
    fn each_field_counts_from_its_version_on() {
        let deployment = |spec: &str| {
            format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: a }}\nspec: {{ template: {{ spec: {{ {spec} }} }} }}\n"
            )
        };
        let spread =
            |field: &str| deployment(&format!("topologySpreadConstraints: [ {{ maxSkew: 1 }}, {{ {field} }} ]"));
        let at = "spec.template.spec.topologySpreadConstraints[1]";
        for (field, from) in
            [("matchLabelKeys", 27), ("minDomains", 27), ("nodeAffinityPolicy", 26), ("nodeTaintsPolicy", 26)]
        {
            check(&spread(&format!("{field}: x")), &format!("{at}.{field}"), from);
        }
        for (field, from) in [("matchLabelKeys", 31), ("mismatchLabelKeys", 31), ("namespaceSelector", 22)] {
            for kind in ["podAffinity", "podAntiAffinity"] {
                let required = "requiredDuringSchedulingIgnoredDuringExecution";
                let text = deployment(&format!("affinity: {{ {kind}: {{ {required}: [ {{ {field}: x }} ] }} }}"));
                check(&text, &format!("spec.template.spec.affinity.{kind}.{required}[0].{field}"), from);
                let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
                let term = format!("{{ weight: 1, podAffinityTerm: {{ {field}: x }} }}");
                let text = deployment(&format!("affinity: {{ {kind}: {{ {preferred}: [ {term} ] }} }}"));
                let path = format!("spec.template.spec.affinity.{kind}.{preferred}[0].podAffinityTerm.{field}");
                check(&text, &path, from);
            }
        }
        for probe in ["livenessProbe", "startupProbe"] {
            let text = deployment(&format!("containers: [ {{ {probe}: {{ terminationGracePeriodSeconds: 5 }} }} ]"));
            check(&text, &format!("spec.template.spec.containers[0].{probe}.terminationGracePeriodSeconds"), 25);
        }
        let service =
            |field: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{ name: a }}\nspec: {{ {field}: x }}\n");
        for (field, from) in [
            ("internalTrafficPolicy", 22),
            ("loadBalancerClass", 22),
            ("allocateLoadBalancerNodePorts", 22),
            ("trafficDistribution", 31),
        ] {
            check(&service(field), &format!("spec.{field}"), from);
        }
        let budget = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: { name: a }\nspec: { unhealthyPodEvictionPolicy: x }\n";
        check(budget, "spec.unhealthyPodEvictionPolicy", 27);
        for side in ["scaleUp", "scaleDown"] {
            let text = format!(
                "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{ name: a }}\nspec: {{ behavior: {{ {side}: {{ tolerance: 0 }} }} }}\n"
            );
            check(&text, &format!("spec.behavior.{side}.tolerance"), 35);
        }
    }

    #[test]
    fn only_what_is_the_field_is_taken() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: { name: a }\nspec: { minDomains: 1, containers: { livenessProbe: \
                   { terminationGracePeriodSeconds: 1 } }, terminationGracePeriodSeconds: 5 }\n";
        assert_eq!(dropped(pod, 20), Vec::<String>::new());
    }
}
