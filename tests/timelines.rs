//! Recorded timelines of a real control plane (Kubernetes v1.20.2), replayed on the simulated cluster from their inputs.
//!
//! Goal: the simulated controllers do what the real ones did, in the same order and at the same times, within the tolerances that the data's
//! README states. Method: every file of the folder is a case; its steps are carried out on a cluster with hollow kubelets, which behave as the
//! README describes; what the API shows is written down whenever it changes; both timelines are cut into settled states and compared. No case is
//! named in code: what is known to differ stands in `tests/data/kubernetes/timelines_exceptions.json` with its reason, and an
//! exception that has come to hold fails the test.
//!
//! To replay another kind: name it in [`KINDS`] with its comparison; new steps go to `timelines/steps.rs`.

#[path = "timelines/case.rs"]
mod case;
#[path = "timelines/eviction.rs"]
mod eviction;
#[path = "timelines/hpa.rs"]
mod hpa;
#[path = "timelines/kubelet.rs"]
mod kubelet;
#[path = "timelines/rollout.rs"]
mod rollout;
#[path = "timelines/schedule.rs"]
mod schedule;
#[path = "timelines/states.rs"]
mod states;
#[path = "timelines/steps.rs"]
mod steps;
#[path = "timelines/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use case::Case;

/// Replays a case and says where it differs; empty if it agrees.
type Replay = fn(&Case) -> Vec<String>;

/// The kinds of cases, and how each is replayed. None: its controllers are not simulated yet.
const KINDS: [(&str, Option<Replay>); 5] = [
    ("rollout", Some(rollout::differences)),
    ("scaledown", Some(rollout::differences)),
    ("hpa", Some(hpa::differences)),
    ("schedule", Some(schedule::differences)),
    ("eviction", Some(eviction::differences)),
];

/// Replays all cases of a kind and prints how each agrees; fails on one that differs unexpectedly, or agrees unexpectedly.
#[expect(clippy::print_stdout, reason = "the agreement of each case is what the test is read for")]
fn replay_all(kind: &str) {
    let (_, replay) = KINDS.iter().find(|(known, _)| *known == kind).expect("the kind is listed");
    let replay = replay.expect("the kind is replayed");
    let exceptions = case::exceptions();
    let (mut agreeing, mut unexpected) = (0, Vec::new());
    let cases: Vec<Case> = case::all().into_iter().filter(|case| case.kind == kind).collect();
    for case in &cases {
        let differences = replay(case);
        let is_excepted = exceptions.contains_key(&case.name);
        agreeing += usize::from(differences.is_empty());
        let verdict = match (differences.is_empty(), is_excepted) {
            (true, _) => "agrees",
            (false, true) => "differs, as explained",
            (false, false) => "DIFFERS",
        };
        println!("{kind}: {}: {verdict}", case.name);
        for difference in &differences {
            println!("    {difference}");
        }
        if differences.is_empty() == is_excepted {
            unexpected.push(case.name.clone());
        }
    }
    println!("{kind}: {agreeing} of {} agree", cases.len());
    assert!(!cases.is_empty(), "no case of kind {kind}");
    assert!(unexpected.is_empty(), "not as expected: {unexpected:?}");
}

#[test]
fn timelines_rollout() {
    replay_all("rollout");
}

#[test]
fn timelines_eviction() {
    replay_all("eviction");
}

#[test]
fn timelines_schedule() {
    replay_all("schedule");
}

#[test]
fn timelines_hpa() {
    replay_all("hpa");
}

#[test]
fn timelines_scaledown() {
    replay_all("scaledown");
}

#[test]
fn timelines_every_case_is_of_a_listed_kind() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for case in case::all() {
        *counts.entry(case.kind).or_default() += 1;
    }
    let listed: BTreeSet<String> = KINDS.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    assert_eq!(counts.keys().cloned().collect::<BTreeSet<_>>(), listed);
    for (kind, replay) in KINDS {
        println!("{kind}: {} cases, {}", counts[kind], if replay.is_some() { "replayed" } else { "not replayed yet" });
    }
    let names: BTreeSet<String> = case::all().into_iter().map(|case| case.name).collect();
    for (name, reason) in case::exceptions() {
        assert!(names.contains(&name) && !reason.is_empty(), "the exception {name} has no case, or no reason");
    }
}
