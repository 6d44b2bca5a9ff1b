//! Bytes from a result: terminal text, JSON, CSV, HTML, JUnit, Markdown, percentile text. No I/O.
//!
//! Every format is a pure function of what `record` holds, so the same run gives the same bytes, now or from its folder.
//! The wall clock, the terminal and the files are the command line's.

pub mod csv;
pub mod events;
pub mod hgrm;
pub mod html;
pub mod json;
pub mod junit;
pub mod md;
pub mod objects;
pub mod text;

mod lane;
mod scaling;
pub(crate) mod units;

#[cfg(test)]
pub(crate) mod sample;

use crate::record::results::Cause;
use crate::record::{Results, Source};

/// The scenario with its variant, as in `graceful-shutdown [long-prestop]`.
pub(crate) fn title(results: &Results) -> String {
    match &results.scenario.variant {
        Some(variant) => format!("{} [{variant}]", results.scenario.name),
        None => results.scenario.name.clone(),
    }
}

/// Where a setting stands and what it says, as in `manifests/edge.yaml:31 spec.replicas: 2`.
pub(crate) fn place(source: &Source) -> String {
    let Source { file, line, path, value } = source;
    let setting = match value {
        Some(value) => format!("{path}: {value}"),
        // The place to which it would be added.
        None if line.is_some() => format!("{path} (not set)"),
        None => path.clone(),
    };
    match (file, line) {
        (Some(file), Some(line)) => format!("{file}:{line} {setting}"),
        (Some(file), None) => format!("{file} {setting}"),
        (None, _) => format!("{setting} (default)"),
    }
}

/// What happened, in one or two sentences.
pub(crate) fn sentence(results: &Results) -> String {
    let clock = units::Clock::of(results);
    let totals = &results.totals;
    let Some(ratio) = totals.dropped_ratio else { return "No request was sent.".to_owned() };
    let sent = units::count(totals.sent);
    if totals.dropped == 0 {
        return format!("None of {sent} requests was lost.");
    }
    let requests = if totals.dropped == 1 { "request was" } else { "requests were" };
    let start = format!("{} of {sent} {requests} lost ({})", units::count(totals.dropped), units::percent(ratio));
    let first = results.causes.iter().map(|cause| cause.first_ms).min();
    let last = results.causes.iter().map(|cause| cause.last_ms).max();
    let when = match (first, last) {
        (Some(first), Some(last)) => format!(", between {} and {}", clock.tell(first), clock.tell(last)),
        _ => String::new(),
    };
    format!(
        "{start}{when}.{}",
        results.causes.first().map(|cause| main_cause(cause, totals.dropped)).unwrap_or_default()
    )
}

fn main_cause(cause: &Cause, dropped: u64) -> String {
    let meaning = crate::record::CauseCode::find(&cause.code).map_or(cause.name.as_str(), |code| code.meaning());
    let share = if cause.count == dropped { "All of them" } else { "Most of them" };
    if cause.count * 2 > dropped { format!(" {share}: {meaning}.") } else { format!(" The largest part: {meaning}.") }
}
