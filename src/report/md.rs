//! Markdown: a comment under a merge request, with the same figures as the terminal.

use std::fmt::Write as _;

use super::units;
use crate::record::CauseCode;
use crate::record::Results;
use crate::record::results::{Cause, Level, Phase, Slo, Verdict};

/// These runs, one after the other.
#[must_use]
pub fn runs(runs: &[&Results]) -> String {
    let texts: Vec<_> = runs.iter().map(|results| one(results)).collect();
    texts.join("\n---\n\n")
}

fn one(results: &Results) -> String {
    let mut text = String::new();
    let (mark, verdict) = match results.verdict {
        Verdict::Pass => ("✅", "pass"),
        Verdict::Fail => ("❌", "fail"),
    };
    let title = format!("## {mark} {}: {verdict}\n", cell(&super::title(results)));
    line(&mut text, &title);
    line(&mut text, &format!("{}\n", super::sentence(results)));
    if !results.complete {
        line(&mut text, "**Interrupted: these results are partial.**\n");
    }
    if !results.slo.is_empty() {
        line(&mut text, "| | SLO | measured | limit |\n| --- | --- | ---: | ---: |");
        results.slo.iter().for_each(|slo| line(&mut text, &slo_row(slo)));
        line(&mut text, "");
    }
    line(
        &mut text,
        "| phase | sent | dropped | ratio | p50 | p99 | max |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    );
    results.phases.iter().for_each(|phase| line(&mut text, &phase_row(phase)));
    line(&mut text, "");
    if !results.causes.is_empty() {
        line(&mut text, "| lost | cause | set by | instead |\n| ---: | --- | --- | --- |");
        results.causes.iter().for_each(|cause| line(&mut text, &cause_row(cause)));
        line(&mut text, "");
    }
    let foot = format!(
        "<sub>seed {} · fingerprint `{}` · gatedrill {}</sub>",
        results.seed, results.fingerprint, results.engine_version
    );
    line(&mut text, &foot);
    text
}

fn slo_row(slo: &Slo) -> String {
    let mark = match (slo.ok, slo.level) {
        (true, _) => "✅",
        (false, Level::Error) => "❌",
        (false, Level::Warn) => "⚠️",
    };
    let value = slo.value.map_or("–".to_owned(), |value| units::in_unit(value, &slo.unit));
    format!("| {mark} | {} | {value} | {} |", cell(&slo.name), units::in_unit(slo.limit, &slo.unit))
}

fn phase_row(phase: &Phase) -> String {
    let totals = &phase.totals;
    let latency = |value: Option<u64>| value.map_or("–".to_owned(), units::micros);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} |",
        cell(&phase.name),
        units::count(totals.sent),
        units::count(totals.dropped),
        totals.dropped_ratio.map_or("–".to_owned(), units::percent),
        latency(phase.latency_us.p50),
        latency(phase.latency_us.p99),
        latency(phase.latency_us.max),
    )
}

fn cause_row(cause: &Cause) -> String {
    let known = CauseCode::find(&cause.code);
    let meaning = known.map_or(cause.name.as_str(), |code| code.meaning());
    let place = cause
        .source
        .as_ref()
        .map_or("–".to_owned(), |source| format!("`{}`", super::place(source).replace('`', "'")));
    let fix = cause.fix().unwrap_or_default();
    format!(
        "| {} | **{}** {} | {} | {} |",
        units::count(cause.count),
        cause.code,
        cell(meaning),
        place.replace('|', "\\|"),
        cell(fix)
    )
}

/// Text that stays within its cell.
pub(crate) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace(['\n', '\r'], " ")
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to memory succeeds");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::LOSING;

    #[test]
    fn the_format_is_pinned() {
        let (run, _) = LOSING.tell();
        insta::assert_snapshot!(runs(&[&run.results]));
    }

    #[test]
    fn names_cannot_break_the_table() {
        assert_eq!(cell("a|b<c\nd"), "a\\|b&lt;c d");
    }
}
