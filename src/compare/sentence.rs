//! The main thing, in a sentence or two: lost requests first, then whatever else crossed a gate.

use super::figures;
use super::pairing::seeds_in_words;
use super::{Comparison, Finding, FindingKind, Verdict};

/// What became of lost requests; then regressions and improvements beside them.
pub(super) fn sentence(comparison: &Comparison) -> String {
    let mut text = lost(comparison);
    for (what, findings) in [("Worse", &comparison.regressions), ("Better", &comparison.improvements)] {
        let told: Vec<_> = findings.iter().filter_map(|finding| tell(comparison, finding)).collect();
        if !told.is_empty() {
            text.push_str(&format!(" {what}: {}.", told.join("; ")));
        }
    }
    text
}

fn lost(comparison: &Comparison) -> String {
    let row = comparison.row("dropped_count").expect("every run counts its lost requests");
    let head = &comparison.head.label;
    let seeds = row.pairs.len();
    let (base_lost, head_lost) = (figures::value(row.base, row.unit), figures::value(row.head, row.unit));
    let median = if seeds == 1 { "" } else { " (median)" };
    let figures = format!("{base_lost} → {head_lost} lost{median}");
    let in_seeds = |count: usize| match comparison.seeds.as_slice() {
        [seed] => format!("with seed {seed}"),
        _ if count == seeds => "in every seed".to_owned(),
        _ => format!("in {count} of {seeds} seeds"),
    };
    match row.verdict {
        Some(Verdict::Better) => format!("{head} is better {}: {figures}.", in_seeds(row.seeds_better)),
        Some(Verdict::Worse) => format!("{head} is worse {}: {figures}.", in_seeds(row.seeds_worse)),
        Some(Verdict::Identical) if row.pairs.iter().all(|pair| pair.base <= Some(0.0)) => {
            "Neither side loses a request.".to_owned()
        }
        Some(Verdict::Identical) => format!("Both sides lose the same {}: {base_lost}{median}.", in_seeds(seeds)),
        Some(Verdict::NotProven) | None => format!(
            "No difference in lost requests is proven: {figures}, better in {} and worse in {} of {seeds} seeds.",
            row.seeds_better, row.seeds_worse
        ),
    }
}

/// A finding in words; none if the first sentence has told it.
fn tell(comparison: &Comparison, finding: &Finding) -> Option<String> {
    match finding.kind {
        FindingKind::Slo => Some(format!("SLO `{}` ({})", finding.name, seeds_in_words(&finding.seeds))),
        FindingKind::Row => {
            let row = comparison.row(&finding.name)?;
            let is_told = match finding.name.as_str() {
                "dropped_count" => true,
                // The ratio says more only if the count does not already say the same.
                "dropped_ratio" => comparison.row("dropped_count").is_some_and(|count| count.verdict == row.verdict),
                _ => false,
            };
            let (base, head) = (figures::value(row.base, row.unit), figures::value(row.head, row.unit));
            (!is_told).then(|| format!("{} {base} → {head}", figures::full_label(row)))
        }
    }
}
