//! Init containers, native sidecars, readiness gates and scheduling gates of a pod template, judged as the API server judges them.
//!
//! What these containers do is not known: an init container ends when its time is over, a sidecar (an init container with
//! `restartPolicy: Always`) runs, passes its probes at the first ask, and ends at SIGTERM.
//! Nobody takes a scheduling gate away here: such pods wait for ever.
//! Source: Kubernetes v1.33 pkg/apis/core/validation/validation.go (`validateInitContainers`, `validatePodSpec`, `validateSchedulingGates`),
//! staging/src/k8s.io/component-helpers/resource/helpers.go (`PodRequests`).

use std::collections::BTreeMap;

use super::deployment::{Role, Written, check_sleeps, read_container};
use super::names::is_qualified;
use super::problem::Problem;
use super::read::{Field, Fields};
use super::resources::plus;
use crate::cluster::{InitContainer, Resources, Sidecar};
use crate::record::results::FidelityStatus;

/// What only a container that goes on running may have.
const OF_RUNNING: [&str; 4] = ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];

/// What a pod has beside its own containers.
pub(super) struct Extras {
    /// What starts before them, in this order.
    pub(super) init: Vec<Init>,
    /// What its readiness waits for.
    pub(super) gates: Vec<Written>,
    /// What its scheduling waits for.
    pub(super) scheduling_gates: Vec<Written>,
}

/// An init container, and what it asks for.
pub(super) struct Init {
    pub(super) container: InitContainer,
    pub(super) requests: Resources,
    /// Further resources by name.
    pub(super) extended: BTreeMap<String, u64>,
    /// Where it is written that it is a sidecar, if it is.
    pub(super) sidecar: Option<Written>,
}

/// Reads `initContainers`, `readinessGates` and `schedulingGates` of a pod's specification.
pub(super) fn read(spec: &Fields<'_>, grace_seconds: Option<u32>) -> Extras {
    let init = spec.look("initContainers").map(|field| field.items()).unwrap_or_default();
    check_sleeps(&init, grace_seconds);
    let gates = spec.look("readinessGates").map(|field| field.items()).unwrap_or_default();
    let scheduling_gates = spec.look("schedulingGates").map(|field| field.items()).unwrap_or_default();
    let scheduling_gates: Vec<Written> = scheduling_gates.iter().filter_map(read_scheduling_gate).collect();
    for (index, gate) in scheduling_gates.iter().enumerate() {
        if scheduling_gates[..index].iter().any(|known| known.name == gate.name) {
            let text = format!("the gate `{}` is written twice", gate.name);
            spec.sink().report(Problem::at(gate.at, gate.path.clone(), text).help("write it once"));
        }
    }
    Extras {
        init: init.iter().filter_map(read_init_container).collect(),
        gates: gates.iter().filter_map(read_gate).collect(),
        scheduling_gates,
    }
}

/// What a pod asks for whose own containers ask for `own`: sidecars add up with them, and an init container needs its share beside the sidecars that
/// have started before it.
pub(super) fn with_init(own: Resources, init: &[Init]) -> Resources {
    let (mut sidecars, mut most) = (Resources::default(), Resources::default());
    let max = |a: Resources, b: Resources| Resources {
        cpu_millicores: a.cpu_millicores.max(b.cpu_millicores),
        memory_bytes: a.memory_bytes.max(b.memory_bytes),
    };
    for container in init {
        let needed = plus(sidecars, container.requests);
        most = max(most, needed);
        if container.container.sidecar.is_some() {
            sidecars = needed;
        }
    }
    max(plus(own, sidecars), most)
}

/// The same of the resources of somebody's own.
pub(super) fn extended_with_init(own: &BTreeMap<String, u64>, init: &[Init]) -> BTreeMap<String, u64> {
    let names = own.keys().chain(init.iter().flat_map(|container| container.extended.keys()));
    let of = |amounts: &BTreeMap<String, u64>, name: &String| amounts.get(name).copied().unwrap_or(0);
    let needed = |name: &String| {
        let (mut sidecars, mut most) = (0_u64, 0);
        for container in init {
            let needed = sidecars.saturating_add(of(&container.extended, name));
            most = most.max(needed);
            if container.container.sidecar.is_some() {
                sidecars = needed;
            }
        }
        of(own, name).saturating_add(sidecars).max(most)
    };
    names.map(|name| (name.clone(), needed(name))).collect()
}

fn read_init_container(field: &Field<'_>) -> Option<Init> {
    let fields = field.fields()?;
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
        "a sidecar has no process here: it runs, passes its probes at the first ask, and ends at SIGTERM"
    } else {
        "an init container takes cluster.timings.initContainer, whatever it does"
    };
    field.note(FidelityStatus::Approximated, Some(note));
    let read = read_container(field, Role::Init)?;
    let sidecar = is_sidecar.then(|| {
        let spec = |probe: &Option<crate::cluster::Probe>| probe.as_ref().map(|probe| probe.spec);
        Sidecar {
            startup: spec(&read.probes.startup),
            readiness: spec(&read.probes.readiness),
            pre_stop: read.hook.map(|hook| hook.duration),
        }
    });
    let at = policy.as_ref().map_or(field.place(), Field::place);
    let written = Written { name: read.name.clone(), at, path: format!("{}.restartPolicy", field.path()) };
    Some(Init {
        container: InitContainer { name: read.name.as_str().into(), image: read.image, sidecar, asked: read.asked },
        requests: read.requests,
        extended: read.extended,
        sidecar: is_sidecar.then_some(written),
    })
}

fn read_gate(field: &Field<'_>) -> Option<Written> {
    let fields = field.fields()?;
    let name = fields.look("conditionType");
    if name.is_none() {
        fields.missing("conditionType", "write the condition, such as service.readiness.alibabacloud.com/NAME");
    }
    fields.finish();
    let name = name?;
    let text = name.text()?;
    if !is_qualified(text) {
        name.refuse(
            format!("`{text}` is no name of a condition"),
            "write PREFIX/NAME, as in service.readiness.alibabacloud.com/edge",
        );
        return None;
    }
    name.note(FidelityStatus::Modelled, None);
    Some(Written { name: text.to_owned(), at: name.place(), path: name.path().to_owned() })
}

fn read_scheduling_gate(field: &Field<'_>) -> Option<Written> {
    let fields = field.fields()?;
    let name = fields.look("name");
    if name.is_none() {
        fields.missing("name", "write the gate's name, such as example.com/quota");
    }
    fields.finish();
    let name = name?;
    let text = name.text()?;
    if !is_qualified(text) {
        name.refuse(format!("`{text}` is no name of a gate"), "write NAME, or PREFIX/NAME as in example.com/quota");
        return None;
    }
    name.note(FidelityStatus::Modelled, Some("nobody takes the gate away: the pods wait for ever"));
    Some(Written { name: text.to_owned(), at: name.place(), path: name.path().to_owned() })
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
        let notes = sink.take_notes().into_iter().filter(|note| note.status != FidelityStatus::Modelled);
        (manifest, problems, notes.filter_map(|note| note.text).collect())
    }

    #[test]
    fn sidecars_may_have_what_init_containers_may_not() {
        let container = |more: &str| format!("initContainers: [ {{ name: a, image: b, {more} }} ],");
        for more in [
            "",
            "restartPolicy: Always",
            "restartPolicy: Always, startupProbe: { tcpSocket: { port: 1 } }, lifecycle: {}",
        ] {
            let (_, problems, notes) = load(&container(more), "");
            assert_eq!(problems, Vec::<String>::new(), "{more}");
            let word = if more.is_empty() { "an init container takes" } else { "a sidecar has no process here" };
            assert!(notes.iter().any(|note| note.starts_with(word)), "{more}: {notes:?}");
        }
        for (more, problem) in [
            (
                "startupProbe: { tcpSocket: { port: 1 } }",
                "initContainers[0].startupProbe: an init container has run to its end",
            ),
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
    fn scheduling_gates_have_names_of_their_own() {
        let (manifest, problems, _) = load("schedulingGates: [{ name: example.com/quota }, { name: wait }],", "");
        let gates = manifest.expect("it is whole").deployment.template.placement.gates;
        assert_eq!((problems, gates), (Vec::new(), vec!["example.com/quota".to_owned(), "wait".to_owned()]));
        for (gates, expected) in [
            ("[{ name: a }, { name: a }]", "the gate `a` is written twice"),
            ("[{ name: a/b/c }]", "`a/b/c` is no name of a gate"),
            ("[{}]", "name"),
        ] {
            let (_, problems, _) = load(&format!("schedulingGates: {gates},"), "");
            assert!(problems.len() == 1 && problems[0].contains(expected), "{gates}: {problems:?}");
        }
    }

    #[test]
    fn gates_have_names() {
        let gate = "service.readiness.alibabacloud.com/edge";
        let (manifest, problems, _) = load(&format!("readinessGates: [ {{ conditionType: {gate} }} ],"), "");
        let gates = manifest.expect("it is whole").deployment.template.readiness_gates;
        assert_eq!((problems, gates), (Vec::new(), vec![gate.to_owned()]));
        for gate in ["{}", "{ conditionType: a/b/c }", "{ conditionType: a, status: b }"] {
            let (_, problems, _) = load(&format!("readinessGates: [ {gate} ],"), "");
            assert_eq!(problems.len(), 1, "{gate}: {problems:?}");
        }
    }

    #[test]
    fn sidecars_ask_beside_the_containers_and_init_containers_before_them() {
        let requests = |init: &str| {
            let (manifest, problems, _) =
                load(&format!("initContainers: [ {init} ],"), "resources: { requests: { cpu: 200m } }");
            assert_eq!(problems, Vec::<String>::new(), "{init}");
            manifest.expect("it is whole").deployment.template.requests.cpu_millicores
        };
        let of = |name: &str, cpu: &str, more: &str| {
            format!("{{ name: {name}, image: b, resources: {{ requests: {{ cpu: {cpu} }} }}, {more} }}")
        };
        let sidecar = "restartPolicy: Always";
        assert_eq!(requests(&of("a", "150m", "")), 200, "an init container ends before the others start");
        assert_eq!(requests(&of("a", "250m", "")), 250);
        assert_eq!(requests(&of("a", "150m", sidecar)), 350);
        assert_eq!(requests(&format!("{}, {}", of("a", "150m", sidecar), of("b", "250m", ""))), 400);
        assert_eq!(requests(&format!("{}, {}", of("b", "250m", ""), of("a", "150m", sidecar))), 350);
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
}
