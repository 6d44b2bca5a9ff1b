//! The timeline as it is written: what happens when, and the phase that begins with it.

use std::time::Duration;

use super::address::{Patch, Subject};
use super::operations;
use super::read::{key, name, workload};
use super::settings::{TimelineEntry, TimelineVerb};
use crate::cluster::OwnerKind;
use crate::manifest::{Field, Fields, Place};

/// The verbs that change objects or loads, each with the phase that it begins if nobody names one.
const VERBS: [(&str, &str); 10] = [
    ("restart", "rollout"),
    ("apply", "rollout"),
    ("set", "rollout"),
    ("scale", "scale"),
    ("rollback", "rollback"),
    ("pause", "paused"),
    ("resume", "rollout"),
    ("delete", "deletion"),
    ("load", "load"),
    ("configPush", "push"),
];

/// Objects that a `delete` may name beside Services: the field, and the kind.
const DELETED: [(&str, &str); 7] = [
    ("daemonSet", "DaemonSet"),
    ("podDisruptionBudget", "PodDisruptionBudget"),
    ("horizontalPodAutoscaler", "HorizontalPodAutoscaler"),
    ("gateway", "Gateway"),
    ("virtualService", "VirtualService"),
    ("destinationRule", "DestinationRule"),
    ("httpRoute", "HTTPRoute"),
];

/// Reads one entry of the timeline; `objects` turns what an `apply` names into objects.
pub(super) fn entry(
    field: &Field<'_>,
    duration: Option<Duration>,
    objects: &mut dyn FnMut(&Field<'_>) -> Vec<crate::manifest::Object>,
) -> Option<TimelineEntry> {
    let fields = field.fields()?;
    let at_field = fields.require("at", "write when it happens, from the start of the measured time: at: 1m");
    let at = at_field.as_ref().and_then(|field| field.duration());
    if let (Some(at), Some(duration), Some(field)) = (at, duration, &at_field)
        && at >= duration
    {
        let all = crate::manifest::quantity::duration_text(duration);
        field.refuse(
            "this is after the end of the run",
            format!("write less than {all}, or let the run last longer (spec.duration)"),
        );
    }
    let (of, cluster) = subject(&fields);
    let phase = fields.get("phase").and_then(|field| name(&field));
    let found: Vec<(&str, &str, Field<'_>)> = VERBS
        .into_iter()
        .chain(operations::VERBS)
        .filter_map(|(verb, phase)| Some((verb, phase, verb_field(&fields, verb)?)))
        .collect();
    fields.finish();
    let (verb, usual_phase) = match &found[..] {
        [] if phase.is_some() => (TimelineVerb::Phase, ""),
        [] => {
            field.refuse("nothing happens here", "write one of restart: {}, apply, set, scale, or phase alone");
            return None;
        }
        [(verb, phase, inner)] => (read_verb(verb, inner, objects)?, *phase),
        _ => {
            field.refuse("two things happen at once", "write one entry for each");
            return None;
        }
    };
    let phase = phase.unwrap_or_else(|| usual_phase.to_owned());
    Some(TimelineEntry { at: at?, phase, verb, of, cluster, place: field.place() })
}

/// The workload that an entry is for, and the cluster: a key of its own, or the first part of `of: cluster/namespace/name`.
fn subject(fields: &Fields<'_>) -> (Option<String>, Option<(String, Place)>) {
    let of_field = fields.get("of");
    let cluster = fields.get("cluster").and_then(|field| Some((field.text()?.to_owned(), field.place())));
    let Some(field) = &of_field else { return (None, cluster) };
    let parts = field.node().text().map(|text| text.split('/').collect::<Vec<_>>());
    let is_kind = |part: &str| OwnerKind::ALL.iter().any(|kind| kind.name() == part);
    match parts.as_deref() {
        Some([id, rest @ ..])
            if matches!(rest.len(), 2 | 3)
                && !is_kind(id)
                && (rest.len() == 2 || is_kind(rest[0]))
                && rest.iter().all(|part| !part.is_empty())
                && !id.is_empty() =>
        {
            if cluster.as_ref().is_some_and(|(named, _)| *named != **id) {
                field.refuse("this names another cluster than `cluster` does", "name the cluster once");
            }
            (Some(rest.join("/")), Some(((*id).to_owned(), field.place())))
        }
        _ => (workload(field), cluster),
    }
}

/// Reads what stands under a verb.
fn read_verb(
    verb: &str,
    field: &Field<'_>,
    objects: &mut dyn FnMut(&Field<'_>) -> Vec<crate::manifest::Object>,
) -> Option<TimelineVerb> {
    match verb {
        verb if operations::VERBS.iter().any(|(known, _)| *known == verb) => {
            return operations::read(verb, field).map(TimelineVerb::Operate);
        }
        "apply" => return Some(TimelineVerb::Apply(objects(field))),
        "set" => return Some(TimelineVerb::Set(patches(field))),
        _ => {}
    }
    let fields = field.fields()?;
    let verb = match verb {
        "scale" => {
            let replicas = fields.require("replicas", "write the new number: scale: { replicas: 8 }");
            replicas.and_then(|field| field.whole::<i32>(0, i64::from(i32::MAX))).map(TimelineVerb::Scale)
        }
        "rollback" => match fields.get("toRevision") {
            Some(field) => {
                field.whole::<i64>(1, i64::from(i32::MAX)).map(|number| TimelineVerb::Rollback(Some(number)))
            }
            None => Some(TimelineVerb::Rollback(None)),
        },
        "load" => {
            let name = fields.get("name").and_then(|field| name(&field));
            let factor = fields.require("factor", "write how much of the rate: load: { factor: 2 }");
            factor.and_then(|field| load_factor(&field)).map(|factor| TimelineVerb::Load(name, factor))
        }
        "pause" | "resume" => Some(TimelineVerb::Pause(verb == "pause")),
        "delete" => match fields.get("service") {
            Some(field) => key(&field).map(|key| TimelineVerb::DeleteService(key, field.place())),
            None => match DELETED.iter().find_map(|named| Some((*named, fields.get(named.0)?))) {
                Some((named, field)) => key(&field).map(|key| TimelineVerb::DeleteObject(named, key, field.place())),
                None => Some(TimelineVerb::Delete),
            },
        },
        "configPush" => Some(TimelineVerb::ConfigPush),
        _ => Some(TimelineVerb::Restart),
    };
    fields.finish();
    verb
}

/// From 0, which is silence, to as many times the rate as anyone can wait for.
fn load_factor(field: &Field<'_>) -> Option<f64> {
    let factor = field.float()?;
    let is_possible = factor.is_finite() && (0.0..=1000.0).contains(&factor);
    if !is_possible {
        field.refuse(format!("{factor} is no factor of a rate"), "write 0 to 1000, such as 2 or 0.5");
    }
    is_possible.then_some(factor)
}

/// `restart:` with nothing after it means `restart: {}`.
fn verb_field<'a>(fields: &Fields<'a>, verb: &str) -> Option<Field<'a>> {
    fields.look_even_null(verb)
}

fn patches(field: &Field<'_>) -> Vec<Patch> {
    let mut patches = Vec::new();
    for (path, value) in field.map() {
        match Patch::new(path, value.place(), value.node().clone()) {
            Ok(patch) if patch.subject == Subject::Scenario => {
                value.refuse(
                    format!("`{path}` is not part of a manifest"),
                    "write target.… or Kind/name.…; the scenario's own settings are fixed while it runs",
                );
            }
            Ok(patch) => patches.push(patch),
            Err(text) => value.refuse(text, "write target.spec.… or Kind/name.spec.…"),
        }
    }
    patches
}
