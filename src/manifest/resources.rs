//! What containers ask for: processor, memory, disk, and resources of somebody's own, judged as the API server judges them.
//!
//! A request that is not written is the limit. Extended resources come in whole numbers and are not shared: what is asked for is the limit.
//! Source: Kubernetes v1.33 pkg/apis/core/validation/validation.go (`ValidateContainerResourceRequirements`), pkg/apis/core/v1/defaults.go.

use std::collections::BTreeMap;

use super::deployment::MemoryLimit;
use super::read::{Field, Fields};
use super::{Place, yaml};
use crate::cluster::kubelet::disk::EPHEMERAL_STORAGE;
use crate::cluster::placement::Unasked;
use crate::cluster::{Resources, StorageLimit};

/// What a container asks for. A request that is not written is the limit, as the API server fills in.
#[derive(Clone, Default)]
pub(super) struct Asked {
    pub(super) cpu_millicores: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) cpu_limit_millicores: Option<u64>,
    pub(super) memory_limit: Option<MemoryLimit>,
    pub(super) storage_limit: Option<(StorageLimit, Place)>,
    pub(super) extended: BTreeMap<String, u64>,
}

/// One side of them: what is asked for, or the limits.
#[derive(Default)]
struct Side {
    cpu_millicores: Option<u64>,
    memory_bytes: Option<u64>,
    storage_bytes: Option<u64>,
    extended: BTreeMap<String, u64>,
}

/// Requests and limits of CPU, memory, disk and extended resources.
pub(super) fn read_resources(field: &Field<'_>) -> Asked {
    let Some(fields) = field.fields() else { return Default::default() };
    let side = |key: &str, is_limit: bool| {
        let side_field = fields.look(key)?;
        let side = side_field.fields()?;
        let cpu_millicores = side.get("cpu").and_then(|field| field.millis());
        let memory_note =
            "a gateway that holds more by the model of gateway.memory is killed; other processes never are";
        let memory = if is_limit { side.approximated("memory", memory_note) } else { side.get("memory") };
        let memory_bytes = memory.and_then(|field| field.units());
        let storage_bytes = side.get(EPHEMERAL_STORAGE).and_then(|field| field.units());
        side.allow(&["storage"]);
        let mut extended = BTreeMap::new();
        for (key, _) in side_field.map() {
            if is_extended(key) {
                extended.extend(side.get(key).and_then(|field| Some((key.to_owned(), whole_amount(&field)?))));
            } else if key.starts_with("hugepages-") {
                side.ignore(&[key], "huge pages have no place in scheduling here");
            }
        }
        side.finish();
        Some(Side { cpu_millicores, memory_bytes, storage_bytes, extended })
    };
    let (limits, requests) = (side("limits", true).unwrap_or_default(), side("requests", false).unwrap_or_default());
    fields.ignore(&["claims"], "not simulated");
    fields.finish();
    for (name, request, limit) in [
        ("cpu", requests.cpu_millicores, limits.cpu_millicores),
        ("memory", requests.memory_bytes, limits.memory_bytes),
        (EPHEMERAL_STORAGE, requests.storage_bytes, limits.storage_bytes),
    ] {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            field.refuse(format!("the {name} request is above its limit"), "make the limit at least as large");
        }
    }
    let written = |key: &str| fields.look("limits").and_then(|side| side.node().find(&[key]).cloned());
    let memory_limit = written("memory")
        .zip(limits.memory_bytes.filter(|bytes| *bytes > 0))
        .map(|(node, bytes)| MemoryLimit { bytes, written: node.text().unwrap_or_default().to_owned(), at: node.at });
    let storage_limit = written(EPHEMERAL_STORAGE).zip(limits.storage_bytes).map(|(node, bytes): (yaml::Node, u64)| {
        (StorageLimit { bytes, written: node.text().unwrap_or_default().to_owned() }, node.at)
    });
    let mut extended = limits.extended;
    for (name, request) in requests.extended {
        match extended.get(&name) {
            Some(limit) if *limit == request => {}
            Some(_) => field.refuse(format!("the {name} request is not its limit"), "write the same: it is not shared"),
            None => {
                field.refuse(format!("{name} has a request and no limit"), "write it under limits: it is not shared")
            }
        }
        extended.insert(name, request);
    }
    // Nodes have it beside processor and memory, as they have resources of somebody's own.
    let storage = requests.storage_bytes.or(limits.storage_bytes).filter(|bytes| *bytes > 0);
    extended.extend(storage.map(|bytes| (EPHEMERAL_STORAGE.to_owned(), bytes)));
    Asked {
        extended,
        cpu_millicores: requests.cpu_millicores.or(limits.cpu_millicores),
        memory_bytes: requests.memory_bytes.or(limits.memory_bytes),
        cpu_limit_millicores: limits.cpu_millicores,
        memory_limit,
        storage_limit,
    }
}

/// Whether it is a resource of somebody's own, such as `nvidia.com/gpu`. Source: pkg/apis/core/v1/helper `IsExtendedResourceName`.
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// An amount of an extended resource: there are no halves.
pub fn whole_amount(field: &Field<'_>) -> Option<u64> {
    let milli = field.millis()?;
    if milli % 1000 != 0 {
        field.refuse("an extended resource comes in whole numbers", "write 1, 2 and so on");
        return None;
    }
    Some(milli / 1000)
}

/// The containers that ask for no processor or no memory; a limit is a request, too.
pub(super) fn unasked(containers: &[Field<'_>]) -> Unasked {
    let count = |name: &str| {
        let asks = |side: &str, field: &Field<'_>| field.node().find(&["resources", side, name]).is_some();
        let silent = containers.iter().filter(|field| !asks("requests", field) && !asks("limits", field));
        u32::try_from(silent.count()).unwrap_or(u32::MAX)
    };
    Unasked { cpu_containers: count("cpu"), memory_containers: count("memory") }
}

/// Both together.
pub(super) fn plus(one: Resources, other: Resources) -> Resources {
    Resources {
        cpu_millicores: one.cpu_millicores.saturating_add(other.cpu_millicores),
        memory_bytes: one.memory_bytes.saturating_add(other.memory_bytes),
    }
}

/// What a pod takes for its sandbox besides its containers. Only a `RuntimeClass` gives it: the API server refuses any other.
/// Source: Kubernetes plugin/pkg/admission/runtimeclass.
pub(super) fn overhead(spec: &Fields<'_>) -> Resources {
    let Some(field) = spec.get("overhead") else { return Resources::default() };
    let Some(fields) = field.fields() else { return Resources::default() };
    if spec.look("runtimeClassName").is_none() && !field.map().is_empty() {
        field.refuse("only a RuntimeClass gives a pod an overhead", "name it in runtimeClassName, or take this out");
    }
    let cpu_millicores = fields.get("cpu").and_then(|field| field.millis()).unwrap_or(0);
    let memory_bytes = fields.get("memory").and_then(|field| field.units()).unwrap_or(0);
    fields.finish();
    Resources { cpu_millicores, memory_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::PodTemplate;
    use crate::manifest::read::Sink;
    use crate::manifest::{deployment, object, yaml};

    /// The pods of a Deployment whose two containers have these resources, and whose pods have these further fields; and the problems.
    fn load(one: &str, other: &str, pod: &str) -> (Option<PodTemplate>, Vec<String>) {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: edge, namespace: ns }}\nspec:\n  selector: {{ matchLabels: {{ a: b }} }}\n  \
             template:\n    metadata: {{ labels: {{ a: b }} }}\n    spec: {{ {pod} containers: [ {{ name: m, image: i, resources: {one} }}, \
             {{ name: other, image: i, resources: {other} }} ] }}\n"
        );
        let (documents, problems) = yaml::parse(&text, 0);
        assert!(problems.is_empty(), "{text}");
        let sink = Sink::default();
        let objects = object::objects(documents, &sink);
        let manifest = objects.first().and_then(|object| deployment::read(object, &sink));
        let problems = sink.take_problems().iter().map(|problem| problem.text.clone()).collect();
        (manifest.map(|manifest| manifest.deployment.template), problems)
    }

    #[test]
    fn extended_resources_add_up_and_are_whole() {
        let (pods, problems) = load(
            "{ limits: { example.com/gpu: 2 } }",
            "{ requests: { example.com/gpu: \"1\" }, limits: { example.com/gpu: 1, cpu: 1 } }",
            "",
        );
        assert_eq!(problems, Vec::<String>::new());
        let pods = pods.expect("it is whole");
        assert_eq!(pods.placement.extended, BTreeMap::from([("example.com/gpu".to_owned(), 3)]));
        assert_eq!(pods.requests.cpu_millicores, 1000);
        for (resources, problem) in [
            ("{ limits: { example.com/gpu: 500m } }", "whole numbers"),
            ("{ requests: { example.com/gpu: 1 } }", "example.com/gpu has a request and no limit"),
            (
                "{ requests: { example.com/gpu: 1 }, limits: { example.com/gpu: 2 } }",
                "example.com/gpu request is not its limit",
            ),
            ("{ limits: { kubernetes.io/gpu: 1 } }", "not a field"),
        ] {
            let (_, problems) = load(resources, "{}", "");
            assert!(problems.len() == 1 && problems[0].contains(problem), "{resources}: {problems:?}");
        }
    }

    #[test]
    fn disk_is_asked_for_as_memory_is() {
        let disk = |one: &str, other: &str| {
            let (pods, problems) = load(one, other, "");
            let asked = pods.as_ref().and_then(|pods| pods.placement.extended.get("ephemeral-storage").copied());
            let limits = pods.map(|pods| pods.storage.containers.iter().map(|(_, limit)| limit.bytes).collect());
            (asked, limits.unwrap_or_default(), problems)
        };
        let none: (Option<u64>, Vec<u64>, Vec<String>) = (None, vec![], vec![]);
        assert_eq!(disk("{}", "{}"), none);
        assert_eq!(disk("{ requests: { ephemeral-storage: 1Ki } }", "{}"), (Some(1024), vec![], vec![]));
        // A request that is not written is the limit.
        let (one, other) = (
            "{ limits: { ephemeral-storage: 2Ki } }",
            "{ requests: { ephemeral-storage: \"1\" }, limits: { ephemeral-storage: 4Ki } }",
        );
        assert_eq!(disk(one, other), (Some(2049), vec![2048, 4096], vec![]));
        let (_, _, problems) =
            disk("{ requests: { ephemeral-storage: 2Ki }, limits: { ephemeral-storage: 1Ki } }", "{}");
        assert!(
            problems.len() == 1 && problems[0].contains("ephemeral-storage request is above its limit"),
            "{problems:?}"
        );
        assert!(disk("{ limits: { ephemeral-storage: 1GB } }", "{}").2[0].contains("quantity"));
    }

    #[test]
    fn a_runtime_class_adds_its_overhead() {
        let pods = |pod: &str| load("{ requests: { cpu: 200m } }", "{ requests: { memory: 1Ki } }", pod);
        let (template, problems) = pods("runtimeClassName: kata, overhead: { cpu: 250m, memory: 120Mi },");
        assert_eq!(problems, Vec::<String>::new());
        let requests = template.expect("it is whole").requests;
        assert_eq!((requests.cpu_millicores, requests.memory_bytes), (450, 1024 + (120 << 20)));
        let (_, problems) = pods("overhead: { cpu: 250m },");
        assert!(problems.len() == 1 && problems[0].contains("only a RuntimeClass"), "{problems:?}");
        assert_eq!(pods("overhead: {},").1, Vec::<String>::new());
    }
}
