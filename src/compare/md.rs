//! The comparison as Markdown: a comment under a merge request, with the same figures as the terminal.

use super::figures;
use super::judge::SIGN_TEST_PAIRS;
use super::pairing::seeds_in_words;
use super::{Comparison, Group, Row, SloRow, SloSide, Verdict};
use crate::report::md::cell;

/// The whole comparison. Causes and phases are folded away.
#[must_use]
pub fn md(comparison: &Comparison) -> String {
    let mark = match comparison.verdict {
        Verdict::Worse => "❌",
        Verdict::Better => "✅",
        Verdict::Identical => "⚪",
        Verdict::NotProven => "❔",
    };
    let (base, head) = (cell(&comparison.base.label), cell(&comparison.head.label));
    let mut lines = vec![
        format!("## {mark} {base} → {head}: {}", comparison.verdict.word()),
        String::new(),
        prose(&comparison.sentence),
        String::new(),
    ];
    lines.extend(super::sentence::others(comparison).iter().flat_map(|sentence| [prose(sentence), String::new()]));
    let is_folded = |row: &&Row| matches!(row.group, Group::Causes | Group::Phases);
    lines.extend(table(comparison.rows.iter().filter(|row| !is_folded(row))));
    if !comparison.slo.is_empty() {
        lines.extend([String::new(), "| SLO | base | head |".to_owned(), "| --- | --- | --- |".to_owned()]);
        lines.extend(comparison.slo.iter().map(slo_row));
    }
    if comparison.rows.iter().any(|row| is_folded(&row)) {
        lines.extend(["", "<details><summary>Causes and phases</summary>", ""].map(str::to_owned));
        lines.extend(table(comparison.rows.iter().filter(is_folded)));
        lines.extend(["", "</details>"].map(str::to_owned));
    }
    let few = if comparison.seeds.len() < SIGN_TEST_PAIRS { " (too few to speak about others)" } else { "" };
    let foot = format!(
        "<sub>{}{few} · medians over seeds · gatedrill {}</sub>",
        seeds_in_words(&comparison.seeds),
        comparison.head.engine_version
    );
    lines.extend([String::new(), foot]);
    lines.join("\n") + "\n"
}

/// A sentence with names in backticks: those are code, in which nothing may be escaped.
fn prose(sentence: &str) -> String {
    let parts = sentence.split('`').enumerate();
    let escaped = parts.map(|(index, part)| if index % 2 == 0 { cell(part) } else { part.replace(['\n', '\r'], " ") });
    escaped.collect::<Vec<_>>().join("`")
}

fn table<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<String> {
    let head = ["| | base | head | change | | verdict |", "| --- | ---: | ---: | ---: | ---: | --- |"];
    head.map(str::to_owned).into_iter().chain(rows.map(row_line)).collect()
}

fn row_line(row: &Row) -> String {
    let seeds = row.pairs.len();
    let verdict = match row.verdict {
        Some(Verdict::Better) => format!("✅ better {}/{seeds}", row.seeds_better),
        Some(Verdict::Worse) => format!("❌ worse {}/{seeds}", row.seeds_worse),
        Some(verdict) => verdict.word().to_owned(),
        None => String::new(),
    };
    format!(
        "| {} | {} | {} | {} | {} | {verdict} |",
        cell(&figures::full_label(row)),
        figures::value(row.base, row.unit),
        figures::value(row.head, row.unit),
        figures::change(row.change, row.unit),
        cell(&figures::part(row)),
    )
}

fn slo_row(slo: &SloRow) -> String {
    format!("| {} | {} | {} |", cell(&slo.name), slo_side(slo, slo.base.as_ref()), slo_side(slo, slo.head.as_ref()))
}

fn slo_side(slo: &SloRow, side: Option<&SloSide>) -> String {
    let Some(side) = side else { return "–".to_owned() };
    let value = figures::value(side.worst, &slo.unit);
    let missed = side.seeds - side.seeds_met;
    match (missed, slo.is_gate()) {
        (0, _) => format!("✅ met {value}"),
        (_, true) => format!("❌ missed {missed}/{} {value}", side.seeds),
        (_, false) => format!("⚠️ missed {missed}/{} {value}", side.seeds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_in_a_sentence_is_not_escaped() {
        assert_eq!(prose("a<b: `p99 <= 5ms` is |"), "a&lt;b: `p99 <= 5ms` is \\|");
    }
}
