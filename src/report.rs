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
        return match totals.sent {
            1 => "The only request was not lost.".to_owned(),
            _ => format!("None of {sent} requests was lost."),
        };
    }
    let requests = if totals.sent == 1 { "request" } else { "requests" };
    let were = if totals.dropped == 1 { "was" } else { "were" };
    let start =
        format!("{} of {sent} {requests} {were} lost ({})", units::count(totals.dropped), units::percent(ratio));
    let first = results.causes.iter().map(|cause| cause.first_ms).min();
    let last = results.causes.iter().map(|cause| cause.last_ms).max();
    let when = match (first.map(|first| clock.tell(first)), last.map(|last| clock.tell(last))) {
        (Some(first), Some(last)) if first == last => format!(", at {first}"),
        (Some(first), Some(last)) => format!(", between {first} and {last}"),
        _ => String::new(),
    };
    format!(
        "{start}{when}.{}",
        results.causes.first().map(|cause| main_cause(cause, totals.dropped)).unwrap_or_default()
    )
}

fn main_cause(cause: &Cause, dropped: u64) -> String {
    let meaning = crate::record::CauseCode::find(&cause.code).map_or(cause.name.as_str(), |code| code.meaning());
    let share = match (cause.count == dropped, dropped) {
        (true, 1) => "It",
        (true, 2) => "Both of them",
        (true, _) => "All of them",
        (false, _) => "Most of them",
    };
    if cause.count * 2 > dropped { format!(" {share}: {meaning}.") } else { format!(" The largest part: {meaning}.") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::LOSING;

    /// The sentence about so many requests, of which so many were lost for one cause, the last so many milliseconds after the first.
    fn told(sent: u64, dropped: u64, after_ms: u64) -> String {
        let mut results = LOSING.tell().0.results;
        let origin_ms = units::Clock::of(&results).origin_ms;
        results.totals.sent = sent;
        results.totals.dropped = dropped;
        results.causes.truncate(usize::from(dropped > 0));
        for cause in &mut results.causes {
            cause.count = dropped;
            cause.first_ms = origin_ms + 22_800;
            cause.last_ms = cause.first_ms + after_ms;
        }
        sentence(&results)
    }

    #[test]
    fn one_is_not_several() {
        for (sent, dropped, after_ms, begin, middle) in [
            (902, 1, 0, "1 of 902 requests was lost (", "), at 0:22.8. It: "),
            (902, 2, 1200, "2 of 902 requests were lost (", "), between 0:22.8 and 0:24.0. Both of them: "),
            // What is told alike is one moment.
            (902, 3, 40, "3 of 902 requests were lost (", "), at 0:22.8. All of them: "),
            (1, 1, 0, "1 of 1 request was lost (", "), at 0:22.8. It: "),
            (902, 0, 0, "None of 902 requests was lost.", ""),
            (1, 0, 0, "The only request was not lost.", ""),
        ] {
            let told = told(sent, dropped, after_ms);
            assert!(told.starts_with(begin) && told.contains(middle), "{told}");
        }
    }
}
