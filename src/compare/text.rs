//! The comparison in the terminal, for 80 columns: what is to be said, then the figures, then the verdict.

use super::figures;
use super::judge::SIGN_TEST_PAIRS;
use super::pairing::seeds_in_words;
use super::sentence::{is_news, others};
use super::{Comparison, FindingKind, Group, Row, SloRow, SloSide, Verdict};
use crate::report::text::{Paint, WIDTH, clip, with_next, wrap};

/// Headings of the groups, in the order in which they are shown.
const GROUPS: [(Group, &str); 6] = [
    (Group::Requests, "Requests"),
    (Group::Causes, "Lost, by cause"),
    (Group::Latency, "Latency of answered requests"),
    (Group::Rollout, "Rollout"),
    (Group::Gateway, "Gateway"),
    (Group::Phases, "Phases"),
];

/// The whole comparison. It ends with the verdict and the command to type next.
#[must_use]
pub fn text(comparison: &Comparison, paint: Paint, next: Option<&str>) -> String {
    let widths = Widths::of(&comparison.rows);
    let mut lines = heading(comparison, paint);
    lines.push(String::new());
    lines.extend(wrap(&comparison.sentence, 0, 2));
    lines.extend(others(comparison).iter().flat_map(|sentence| wrap(sentence, 0, 2)));
    lines.extend([String::new(), paint.dim(&columns(comparison.seeds.len(), &widths))]);
    for (group, title) in GROUPS {
        let rows: Vec<_> = comparison.rows.iter().filter(|row| row.group == group).collect();
        if !rows.is_empty() {
            lines.push(paint.bold(title));
            lines.extend(rows.into_iter().map(|row| row_line(row, &widths, paint)));
        }
    }
    if !comparison.slo.is_empty() {
        lines.push(paint.bold("SLOs, with their worst value"));
        lines.extend(comparison.slo.iter().map(|slo| slo_line(slo, paint)));
    }
    lines.push(String::new());
    lines.extend(notes(comparison).iter().flat_map(|note| wrap(note, 0, 0)));
    lines.push(verdict(comparison, paint, next));
    lines.join("\n") + "\n"
}

/// The verdict and the next command: the end, and all that `--quiet` prints.
#[must_use]
pub fn verdict(comparison: &Comparison, paint: Paint, next: Option<&str>) -> String {
    let (word, what) = match comparison.verdict {
        Verdict::Worse => ("WORSE", format!("regression in {}", gates(comparison, Verdict::Worse))),
        Verdict::Better => ("BETTER", format!("{}; no regression", gates(comparison, Verdict::Better))),
        Verdict::Identical => ("IDENTICAL", "no figure differs".to_owned()),
        Verdict::NotProven => ("NOT PROVEN", "no regression and no improvement".to_owned()),
    };
    let painted = |word: &str| match comparison.verdict {
        Verdict::Worse => paint.bad(word),
        Verdict::Better | Verdict::Identical => paint.good(word),
        Verdict::NotProven => paint.warn(word),
    };
    with_next(word, painted, &what, next)
}

/// The gates that were crossed, in a few words.
fn gates(comparison: &Comparison, towards: Verdict) -> String {
    let findings = if towards == Verdict::Worse { &comparison.regressions } else { &comparison.improvements };
    let of_kind = |kind| findings.iter().filter(move |finding| finding.kind == kind && is_news(comparison, finding));
    let rows = of_kind(FindingKind::Row).filter_map(|finding| comparison.row(&finding.name));
    let mut words: Vec<_> = rows.map(figures::full_label).collect();
    match of_kind(FindingKind::Slo).count() {
        0 => {}
        1 => words.push("1 SLO".to_owned()),
        count => words.push(format!("{count} SLOs")),
    }
    words.join(", ")
}

/// Both sides and the seeds; on lines of their own if they do not fit on one.
fn heading(comparison: &Comparison, paint: Paint) -> Vec<String> {
    let (base, head) = (&comparison.base, &comparison.head);
    let version = if base.engine_version == head.engine_version {
        format!("gatedrill {}", base.engine_version)
    } else {
        format!("gatedrill {} and {}", base.engine_version, head.engine_version)
    };
    let rest = format!("{} · {version}", seeds_in_words(&comparison.seeds));
    let sides = format!("{} → {}", base.label, head.label);
    if sides.chars().count() + rest.chars().count() + 3 <= WIDTH {
        return vec![format!("{}{}", paint.bold(&sides), paint.dim(&format!(" · {rest}")))];
    }
    let mut lines = if sides.chars().count() <= WIDTH {
        vec![paint.bold(&sides)]
    } else {
        vec![paint.bold(&clip(&base.label, WIDTH)), paint.bold(&clip(&format!("→ {}", head.label), WIDTH))]
    };
    lines.extend(wrap(&rest, 0, 0).iter().map(|line| paint.dim(line)));
    lines
}

/// Widths of the figures, at least those of the headings; what they leave is for the name.
struct Widths {
    name: usize,
    base: usize,
    head: usize,
    change: usize,
}

impl Widths {
    fn of(rows: &[Row]) -> Self {
        let widest = |text: fn(&Row) -> String| rows.iter().map(|row| text(row).chars().count()).fold(9, usize::max);
        let base = widest(|row| figures::value(row.base, row.unit));
        let head = widest(|row| figures::value(row.head, row.unit));
        let change = widest(|row| figures::change(row.change, row.unit));
        // Two before the name, one between figures, seven for the part, two and thirteen for the verdict.
        Self { name: WIDTH.saturating_sub(2 + base + head + change + 3 + 8 + 15).max(12), base, head, change }
    }

    fn line(&self, [name, base, head, change, part]: [&str; 5]) -> String {
        let Widths { base: of_base, head: of_head, change: of_change, name: of_name } = *self;
        let name = clip(name, of_name);
        format!("{name:<of_name$} {base:>of_base$} {head:>of_head$} {change:>of_change$} {part:>7}")
    }
}

fn columns(seeds: usize, widths: &Widths) -> String {
    let what = if seeds == 1 { String::new() } else { format!("median of {seeds} seeds") };
    format!("  {}  verdict", widths.line([&what, "base", "head", "change", ""]))
}

fn row_line(row: &Row, widths: &Widths, paint: Paint) -> String {
    let figures = widths.line([
        &figures::label(row),
        &figures::value(row.base, row.unit),
        &figures::value(row.head, row.unit),
        &figures::change(row.change, row.unit),
        &figures::part(row),
    ]);
    let line = format!("  {figures}");
    let seeds = row.pairs.len();
    let share = |count: usize| if seeds == 1 { String::new() } else { format!(" {count}/{seeds}") };
    match row.verdict {
        Some(Verdict::Better) => format!("{line}  {}", paint.good(&format!("better{}", share(row.seeds_better)))),
        Some(Verdict::Worse) => format!("{line}  {}", paint.bad(&format!("worse{}", share(row.seeds_worse)))),
        Some(Verdict::NotProven) => format!("{line}  {}", paint.warn(Verdict::NotProven.word())),
        Some(Verdict::Identical) => paint.dim(&format!("{line}  {}", Verdict::Identical.word())),
        None => line.trim_end().to_owned(),
    }
}

fn slo_line(slo: &SloRow, paint: Paint) -> String {
    let base = slo_side(slo, slo.base.as_ref());
    let gap = " ".repeat(20_usize.saturating_sub(base.chars().count()));
    let painted = |side: Option<&SloSide>, text: &str| match side {
        None => text.to_owned(),
        Some(side) if side.seeds_met == side.seeds => paint.good(text),
        Some(_) if slo.is_gate() => paint.bad(text),
        Some(_) => paint.warn(text),
    };
    let head = painted(slo.head.as_ref(), &slo_side(slo, slo.head.as_ref()));
    format!("  {:<35} {}{gap} {head}", clip(&slo.name, 35), painted(slo.base.as_ref(), &base))
}

fn slo_side(slo: &SloRow, side: Option<&SloSide>) -> String {
    let Some(side) = side else { return "–".to_owned() };
    let value = figures::value(side.worst, &slo.unit);
    match (side.seeds - side.seeds_met, side.seeds) {
        (0, _) => format!("✓ met {value}"),
        (_, 1) => format!("✗ missed {value}"),
        (missed, seeds) => format!("✗ missed {missed}/{seeds} {value}"),
    }
}

/// What one should know before one believes the table.
fn notes(comparison: &Comparison) -> Vec<String> {
    let mut notes = Vec::new();
    if comparison.verdict != Verdict::Identical && comparison.seeds.len() < SIGN_TEST_PAIRS {
        let seeds = if comparison.seeds.len() == 1 { "this seed" } else { "these seeds" };
        notes.push(format!(
            "The verdicts hold for {seeds}; {SIGN_TEST_PAIRS} seeds or more say something about others."
        ));
    }
    if !comparison.same_arrivals {
        notes.push(
            "The sides did not send quite the same number of requests: small differences may be chance.".to_owned(),
        );
    }
    notes
}
