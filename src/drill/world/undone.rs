//! What did not come about: operations of the timeline that were refused or found nothing, and rollouts that were not completed. A run in which nothing was lost
//! because nothing was done must not look like one in which all went well.

use std::time::Duration;

use super::entries::Entries;
use crate::cluster::{PodView, Rollout};
use crate::engine::{Datum, Event, EventLog};
use crate::record::Source;
use crate::record::results::{Fidelity, FidelityStatus};
use crate::units::SimTime;

/// What the timeline asked for in vain, in the order of time, each with the line of its entry.
pub(super) fn operations(log: &EventLog, entries: &Entries) -> Vec<Fidelity> {
    let told = log.events().iter().filter_map(|event| {
        let root = log.causes(event.id).find(|cause| cause.kind == "timeline")?;
        let asked = text(root, "action")?;
        let note = note(event, asked)?;
        let Source { file, line, .. } = entries.get(&root.id)?.source.clone();
        let path = format!("timeline, {asked}");
        Some(Fidelity { path, file, line, status: FidelityStatus::Warning, note: Some(note) })
    });
    let mut rows: Vec<Fidelity> = told.collect();
    rows.dedup();
    rows
}

/// Sizes that somebody wrote and ASM took back, one line for each Deployment.
pub(super) fn restored(log: &EventLog, warmup: Duration) -> Vec<Fidelity> {
    let mut seen: Vec<(&str, Vec<&Event>)> = Vec::new();
    for event in log.events().iter().filter(|event| event.kind == "replicas_restored") {
        match seen.iter_mut().find(|(object, _)| *object == event.object) {
            Some((_, events)) => events.push(event),
            None => seen.push((&event.object, vec![event])),
        }
    }
    let line = |(object, events): (&str, Vec<&Event>)| {
        let number = |key: &str| match events[0].data.iter().find(|(known, _)| *known == key) {
            Some((_, Datum::Number(number))) => *number,
            _ => 0,
        };
        let at = events[0].at.since(SimTime::ZERO.after(warmup)).as_millis();
        let again = match events.len() {
            1 => String::new(),
            count => {
                format!(", and {} more", if count == 2 { "once".to_owned() } else { format!("{} times", count - 1) })
            }
        };
        let note = format!(
            "ASM owns them and wrote its own number back: {} again where it was {}, {}.{} s after the start{again}",
            number("to"),
            number("from"),
            at / 1000,
            at % 1000 / 100,
        );
        let path = format!("replicas of {object}");
        Fidelity { path, file: None, line: None, status: FidelityStatus::Warning, note: Some(note) }
    };
    seen.into_iter().map(line).collect()
}

/// What such an event means; nothing if it is none, or belongs to something that goes on.
fn note(event: &Event, asked: &str) -> Option<String> {
    let reason = || text(event, "reason").map(|reason| format!(": {reason}")).unwrap_or_default();
    let name = event.object.rsplit('/').next().unwrap_or_default();
    match event.kind {
        "node_drain_refused" => Some(format!("refused for {name}, and no pod was evicted{}", reason())),
        "node_drain_failed" => Some(format!("given up for {name} before all pods had gone{}", reason())),
        "nothing_found" => Some(format!(
            "nothing was done{}",
            if reason().is_empty() { ": nobody of that name was there".to_owned() } else { reason() }
        )),
        // A drain asks again; who asks once is answered once.
        "eviction_denied" if asked.starts_with("evict") => {
            let budget = text(event, "budget").map(|budget| format!(" by the budget {budget}")).unwrap_or_default();
            // Who is asked one time is told why where it is not for want of a spare pod.
            let why = if budget.is_empty() { reason() } else { String::new() };
            Some(format!("the eviction of {name} was denied{budget}{why}"))
        }
        _ => None,
    }
}

/// A rollout that was not completed, and what its pods were waiting for.
pub(super) fn rollout(rollout: &Rollout, pods: &[PodView], log: &EventLog) -> Fidelity {
    let mut states: Vec<(String, usize)> = Vec::new();
    for pod in pods.iter().filter(|pod| !pod.is_ready && !pod.is_deleting) {
        let why = unplaced(pod, log).map(|why| format!(" ({})", why.trim_end_matches('.'))).unwrap_or_default();
        let state = format!("{}{why}", pod.status);
        match states.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => states.push((state, 1)),
        }
    }
    let states: Vec<String> = states.into_iter().map(|(status, count)| format!("{count} {status}")).collect();
    let ending = pods.iter().filter(|pod| pod.is_deleting).count();
    let pods = match (states.is_empty(), ending) {
        (false, _) => format!("pods that were not ready: {}", states.join(", ")),
        // Until they are gone their places are taken.
        (true, 1..) => format!("pods that had not ended yet: {ending} Terminating"),
        (true, 0) => "every pod was ready".to_owned(),
    };
    let stuck = if rollout.stuck_at.is_some() { ", and its progressDeadlineSeconds had passed" } else { "" };
    let note = format!("it was not completed when the run ended{stuck}; {pods}");
    let path = format!("rollout of {}, revision {}", rollout.object, rollout.revision);
    Fidelity { path, file: None, line: None, status: FidelityStatus::Warning, note: Some(note) }
}

/// Why the scheduler last found no node for a pod that waits for one.
fn unplaced<'a>(pod: &PodView, log: &'a EventLog) -> Option<&'a str> {
    let is_it =
        |event: &&Event| event.kind == "pod_unschedulable" && event.object.rsplit('/').next() == Some(&*pod.name);
    let waits = pod.node.is_none().then(|| log.events().iter().rev().find(is_it));
    text(waits??, "reason")
}

fn text<'a>(event: &'a Event, key: &str) -> Option<&'a str> {
    event.data.iter().find(|(known, _)| *known == key).and_then(|(_, datum)| match datum {
        Datum::Text(text) => Some(text.as_str()),
        Datum::Number(_) | Datum::Flag(_) => None,
    })
}
