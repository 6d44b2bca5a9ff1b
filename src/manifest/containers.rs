//! Containers of one pod among each other: which of them is simulated, and what is known of the others.

use super::deployment::Container;
use super::read::Field;
use super::yaml::Node;
use crate::cluster::{Beside, ContainerRequest, Probe, Sidecar};
use crate::record::results::FidelityStatus;

/// The container in which Istio runs a gateway.
const PROXY_CONTAINER: &str = "istio-proxy";

/// The index of the container whose process is simulated, and what each of them asks for, that one first.
pub(super) fn requests(containers: &[Field<'_>], read: &mut [Container]) -> (usize, Vec<ContainerRequest>) {
    check_names(containers);
    let main = read.iter().position(|container| container.name == PROXY_CONTAINER).unwrap_or(0);
    for (index, field) in containers.iter().enumerate().filter(|(index, _)| *index != main) {
        note_beside(field);
        read[index].asked.beside = Some(beside(&read[index], index < main));
    }
    let mut asked: Vec<ContainerRequest> = read.iter().map(|container| container.asked.clone()).collect();
    if !asked.is_empty() {
        asked[..=main].rotate_right(1);
    }
    (main, asked)
}

/// What is known of a container beside the one whose process is simulated.
fn beside(read: &Container, starts_before: bool) -> Beside {
    let spec = |probe: &Option<Probe>| probe.as_ref().map(|probe| probe.spec);
    let run = Sidecar {
        startup: spec(&read.probes.startup),
        readiness: spec(&read.probes.readiness),
        pre_stop: read.hook.as_ref().map(|hook| hook.duration),
    };
    Beside { image: read.image.clone(), pull: read.asked.pull, is_refused: read.asked.is_refused, starts_before, run }
}

/// Notes what is different about such a container.
fn note_beside(field: &Field<'_>) {
    let note = "this container has no process here: it runs, passes its probes whenever they ask, and ends at SIGTERM";
    field.note(FidelityStatus::Approximated, Some(note));
    let Some(fields) = field.fields() else { return };
    let inside = |key: &str, status: FidelityStatus, note: &str| {
        if let Some(field) = fields.look(key) {
            field.overrule_inside(status, note);
        }
    };
    inside("readinessProbe", FidelityStatus::Approximated, "it passes whenever it asks");
    inside("startupProbe", FidelityStatus::Approximated, "it passes at its first ask");
    inside("livenessProbe", FidelityStatus::Ignored, "this container has no process here, so it always passes");
    let note = "a hook of this container takes its time and does nothing else";
    inside("lifecycle", FidelityStatus::Approximated, note);
    let hook = fields.look("lifecycle").and_then(|field| field.fields()?.look("preStop"));
    if let Some(exec) = hook.and_then(|field| field.fields()?.look("exec")) {
        exec.overrule(FidelityStatus::Approximated, note);
    }
    inside("env", FidelityStatus::Ignored, "this container has no process here");
    if let Some(limits) = fields.look("resources").and_then(|field| field.fields()?.look("limits")) {
        limits.overrule_inside(FidelityStatus::Ignored, "this container has no process here that a limit could hold");
    }
}

/// Containers of a pod are told apart by their names. Source: pkg/apis/core/validation `validateContainers`.
fn check_names(containers: &[Field<'_>]) {
    let name = |field: &Field<'_>| field.node().find(&["name"]).and_then(Node::text).map(str::to_owned);
    for (index, field) in containers.iter().enumerate() {
        let known = containers[..index].iter().filter_map(name);
        if let Some(twice) = name(field).filter(|name| known.into_iter().any(|known| known == *name)) {
            field.refuse(format!("the pod has another container `{twice}`"), "give each container a name of its own");
        }
    }
}
