//! Recorded shutdowns of real Envoys behind a real layer-4 balancer, replayed as drills from their inputs; and closed forms that hold in the same
//! world.
//!
//! Goal: what clients lost then, they lose here, within the tolerance that the data's README states. Every file of the folder is
//! replayed; none is named in code. A case that is known to differ stands in `exceptions.json` beside the data with its reason, and one that has
//! come to hold fails the test.

mod closed_forms;
mod kinds;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use gatedrill::drill::{Continue, WorldConfig, run};
use gatedrill::record::{Outcome, RequestRow, Run};
use serde_json::Value;

use world::{count, is_kill, warmup, world};

/// What was measured over the three runs of a case.
struct Measured {
    sent: u64,
    lost_min: u64,
    lost_max: u64,
    /// Earliest and latest of the first losses, and of the last losses, by due time.
    first_s: Option<(f64, f64)>,
    last_s: Option<(f64, f64)>,
}

/// The least and the greatest of what `pick` finds in the due times of each run's losses.
fn range(case: &Value, pick: fn(f64, f64) -> f64) -> Option<(f64, f64)> {
    let runs = case["runs"].as_array().expect("runs");
    let times = runs.iter().filter_map(|run| {
        let losses = run["losses"].as_array()?;
        losses.iter().filter_map(|loss| loss["t_intended"].as_f64()).reduce(pick)
    });
    times.fold(None, |range: Option<(f64, f64)>, at| {
        Some(range.map_or((at, at), |(low, high)| (low.min(at), high.max(at))))
    })
}

fn measured(case: &Value) -> Measured {
    Measured {
        sent: count(&case["spread"]["sent"]["max"]),
        lost_min: count(&case["spread"]["lost"]["min"]),
        lost_max: count(&case["spread"]["lost"]["max"]),
        first_s: range(case, f64::min),
        last_s: range(case, f64::max),
    }
}

/// How far the number lost may be from what was measured. Source: the README of the data.
fn tolerance(case: &Value, lost: u64) -> u64 {
    let inputs = &case["inputs"];
    let (least, percent) = match inputs["client"]["reuse"].as_str() {
        _ if lost == 0 => return 0,
        _ if is_kill(inputs) && inputs["envoy"]["retries"] == "none" => (0, 15),
        _ if is_kill(inputs) => (6, 25),
        _ if inputs["client"]["pools"] != 0 => (7, 8),
        Some("lru" | "mru") => (4, 5),
        _ => (2, 1),
    };
    least.max(lost * percent / 100)
}

/// The differences between what was measured and what is predicted, beyond the tolerance.
fn differences(case: &Value, seen: &Measured, sent: u64, losses: &[&RequestRow]) -> Vec<String> {
    let mut differences = Vec::new();
    let lost = losses.len() as u64;
    if sent != seen.sent {
        differences.push(format!("{sent} sent instead of {}", seen.sent));
    }
    let low = seen.lost_min.saturating_sub(tolerance(case, seen.lost_min));
    let high = seen.lost_max + tolerance(case, seen.lost_max);
    if !(low..=high).contains(&lost) {
        differences.push(format!("{lost} lost instead of {low} to {high}"));
    }
    if case["inputs"]["client"]["pools"] != 0 {
        differences.extend(other_races(case, losses));
        return differences;
    }
    let due = || losses.iter().map(|row| row.t_intended_s - warmup(&case["inputs"]).as_secs_f64());
    // Where chance tells which client leaves, two recordings of the same case differ by 0.12 s (README, "Repeatability").
    let is_drawn = case["inputs"]["envoy"]["drain_strategy"] == "gradual";
    let allowed_s = if is_drawn { 0.12 } else { 0.05 };
    let ends = [("first", seen.first_s, due().reduce(f64::min)), ("last", seen.last_s, due().reduce(f64::max))];
    for (what, seen, got) in ends {
        let (Some((low, high)), Some(got)) = (seen, got) else { continue };
        if got < low - allowed_s || got > high + allowed_s {
            differences.push(format!("{what} lost at {got:.3} s instead of {low:.3} to {high:.3} s"));
        }
    }
    differences
}

/// In a race a millisecond decides, and the recordings have that much jitter: which losses are the first and the last says nothing. So the
/// losses are compared request by request: three of four must have been lost in a recording too.
fn other_races(case: &Value, losses: &[&RequestRow]) -> Option<String> {
    let recorded: Vec<f64> = case["runs"]
        .as_array()
        .expect("runs")
        .iter()
        .flat_map(|run| run["losses"].as_array().expect("losses"))
        .filter_map(|loss| loss["t_intended"].as_f64())
        .collect();
    let due = losses.iter().map(|row| row.t_intended_s - warmup(&case["inputs"]).as_secs_f64());
    let agreed = due.filter(|due| recorded.iter().any(|seen| (seen - due).abs() < 0.000_2)).count();
    (agreed * 4 < losses.len() * 3).then(|| format!("{agreed} of {} lost requests were lost then", losses.len()))
}

/// What is known to differ, beside the data.
const EXCEPTIONS: &str = "exceptions.json";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/envoy-shutdown")
}

/// Cases that are known to differ, with the reason.
fn exceptions() -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder().join(EXCEPTIONS)).expect("a readable file");
    serde_json::from_str(&text).expect("names and reasons")
}

/// Runs a world to its end.
pub(crate) fn replayed(world: WorldConfig) -> Run {
    run(world, |_, _| Vec::new(), |_| Continue::Yes).expect("the replay runs").run
}

/// The requests that were lost.
pub(crate) fn losses(run: &Run) -> Vec<&RequestRow> {
    let served = [Outcome::Ok.name(), Outcome::BackendError.name()];
    let losses: Vec<&RequestRow> = run.requests.iter().filter(|row| !served.contains(&row.outcome.as_str())).collect();
    assert_eq!(run.results.totals.dropped, losses.len() as u64);
    losses
}

fn cases() -> Vec<(String, Value)> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "json") && !path.ends_with(EXCEPTIONS) {
            let text = fs::read_to_string(&path).expect("a readable file");
            let case: Value = serde_json::from_str(&text).expect("a case in JSON");
            cases.push((case["name"].as_str().expect("a name").to_owned(), case));
        }
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

#[test]
fn shutdown_recordings_agree() {
    let (cases, exceptions) = (cases(), exceptions());
    assert!(!cases.is_empty());
    let mut table = String::from("case                       sent   lost then   lost here\n");
    let mut failures = Vec::new();
    for (name, case) in &cases {
        let seen = measured(case);
        let run = replayed(world(case));
        let (losses, totals) = (losses(&run), &run.results.totals);
        let (low, high) = (seen.lost_min, seen.lost_max);
        let then = if low == high { low.to_string() } else { format!("{low} to {high}") };
        let causes = run.results.causes.iter().map(|cause| format!("{} {}", cause.count, cause.name));
        let causes = causes.collect::<Vec<_>>().join(", ");
        writeln!(table, "{name:24} {:6} {then:>11} {:>11}   {causes}", totals.sent, totals.dropped).expect("a string");
        let found = differences(case, &seen, totals.sent, &losses);
        match (found.is_empty(), exceptions.get(name)) {
            (true, Some(reason)) => failures.push(format!("{name} holds: it is no exception any more ({reason})")),
            (false, None) => failures.push(format!("{name}: {}", found.join("; "))),
            _ => {}
        }
    }
    for (name, reason) in &exceptions {
        assert!(cases.iter().any(|(known, _)| known == name) && !reason.is_empty(), "{name}: no case, or no reason");
    }
    assert!(failures.is_empty(), "{table}\n{}", failures.join("\n"));
    println!("{table}");
}
