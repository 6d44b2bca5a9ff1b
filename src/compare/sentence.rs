//! The main thing in words: lost requests first, then whatever else crossed a gate.

use super::figures;
use super::pairing::seeds_in_words;
use super::{Comparison, Finding, FindingKind, Verdict};

/// What became of lost requests.
pub(super) fn lost(comparison: &Comparison) -> String {
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

/// The other gates that were crossed: a sentence for what is worse, one for what is better, as far as there is any.
pub(super) fn others(comparison: &Comparison) -> Vec<String> {
    let sentence_of = |towards: Verdict| {
        let (start, findings) = match towards {
            Verdict::Worse => ("Worse", &comparison.regressions),
            _ => ("Better", &comparison.improvements),
        };
        let told: Vec<_> = findings.iter().filter_map(|finding| tell(comparison, finding, towards)).collect();
        (!told.is_empty()).then(|| format!("{start}: {}.", told.join("; ")))
    };
    [Verdict::Worse, Verdict::Better].into_iter().filter_map(sentence_of).collect()
}

/// Whether a finding says more than another one: the lost ratio does not if the count has the same verdict.
pub(super) fn is_news(comparison: &Comparison, finding: &Finding) -> bool {
    let verdict_of = |name: &str| comparison.row(name).map(|row| row.verdict);
    finding.kind == FindingKind::Slo
        || finding.name != "dropped_ratio"
        || verdict_of("dropped_count") != verdict_of("dropped_ratio")
}

/// A finding in words; none if the first sentence has told it.
fn tell(comparison: &Comparison, finding: &Finding, towards: Verdict) -> Option<String> {
    if !is_news(comparison, finding) {
        return None;
    }
    match finding.kind {
        FindingKind::Slo => {
            let became = if towards == Verdict::Worse { "no longer met" } else { "now met" };
            let seeds = if finding.seeds.len() == comparison.seeds.len() {
                String::new()
            } else {
                format!(" with {}", seeds_in_words(&finding.seeds))
            };
            Some(format!("SLO `{}` is {became}{seeds}", finding.name))
        }
        FindingKind::Row if finding.name == "dropped_count" => None,
        FindingKind::Row => {
            let row = comparison.row(&finding.name)?;
            let (base, head) = (figures::value(row.base, row.unit), figures::value(row.head, row.unit));
            Some(format!("{} {base} → {head}", figures::full_label(row)))
        }
    }
}
