//! What containers ask for: processor, memory, and resources of somebody's own, judged as the API server judges them.
//!
//! A request that is not written is the limit. Extended resources come in whole numbers and are not shared: what is asked for is the limit.
//! Source: Kubernetes v1.33 pkg/apis/core/validation/validation.go (`ValidateContainerResourceRequirements`), pkg/apis/core/v1/defaults.go.

use std::collections::BTreeMap;

use super::deployment::MemoryLimit;
use super::read::{Field, Fields};
use crate::cluster::Resources;
use crate::cluster::placement::Unasked;

/// What a container asks for. A request that is not written is the limit, as the API server fills in.
#[derive(Clone, Default)]
pub(super) struct Asked {
    pub(super) cpu_millicores: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) cpu_limit_millicores: Option<u64>,
    pub(super) memory_limit: Option<MemoryLimit>,
    pub(super) extended: BTreeMap<String, u64>,
}

/// Requests and limits of CPU, memory and extended resources.
pub(super) fn read_resources(field: &Field<'_>) -> Asked {
    let Some(fields) = field.fields() else { return Default::default() };
    let side = |key: &str, is_limit: bool| {
        let side_field = fields.look(key)?;
        let side = side_field.fields()?;
        let cpu = side.get("cpu").and_then(|field| field.millis());
        let memory_note =
            "a gateway that holds more by the model of gateway.memory is killed; other processes never are";
        let memory = if is_limit { side.approximated("memory", memory_note) } else { side.get("memory") };
        let memory = memory.and_then(|field| field.units());
        side.allow(&["ephemeral-storage", "storage"]);
        let mut extended = BTreeMap::new();
        for (key, _) in side_field.map() {
            if is_extended(key) {
                extended.extend(side.get(key).and_then(|field| Some((key.to_owned(), whole_amount(&field)?))));
            } else if key.starts_with("hugepages-") {
                side.ignore(&[key], "huge pages have no place in scheduling here");
            }
        }
        side.finish();
        Some((cpu, memory, extended))
    };
    let (limits, requests) = (side("limits", true).unwrap_or_default(), side("requests", false).unwrap_or_default());
    fields.ignore(&["claims"], "not simulated");
    fields.finish();
    for (name, request, limit) in [("cpu", requests.0, limits.0), ("memory", requests.1, limits.1)] {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            field.refuse(format!("the {name} request is above its limit"), "make the limit at least as large");
        }
    }
    let written = fields.look("limits").and_then(|side| side.node().find(&["memory"]).cloned());
    let memory_limit = written.zip(limits.1.filter(|bytes| *bytes > 0)).map(|(node, bytes)| MemoryLimit {
        bytes,
        written: node.text().unwrap_or_default().to_owned(),
        at: node.at,
    });
    let mut extended = limits.2;
    for (name, request) in requests.2 {
        match extended.get(&name) {
            Some(limit) if *limit == request => {}
            Some(_) => field.refuse(format!("the {name} request is not its limit"), "write the same: it is not shared"),
            None => {
                field.refuse(format!("{name} has a request and no limit"), "write it under limits: it is not shared")
            }
        }
        extended.insert(name, request);
    }
    Asked {
        extended,
        cpu_millicores: requests.0.or(limits.0),
        memory_bytes: requests.1.or(limits.1),
        cpu_limit_millicores: limits.0,
        memory_limit,
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
