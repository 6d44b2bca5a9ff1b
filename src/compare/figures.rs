//! Figures, changes and names of rows as people read them.

use super::rows::{Group, Row};
use crate::report::units;

/// What a row is called where space is short.
pub(super) fn label(row: &Row) -> String {
    let name = match row.name {
        "dropped_count" => "lost",
        "dropped_ratio" => "lost ratio",
        "error_ratio" => "5xx ratio",
        "retries" => "client retries",
        "connections_reset" => "connections reset",
        "rollout_duration" => "rollout duration",
        "rollouts_unfinished" => "rollouts unfinished",
        "pods_max" => "pods, most at once",
        "ready_min" => "pods ready, fewest",
        "cpu_ratio_mean" => "CPU of limit, mean",
        "cpu_ratio_max" => "CPU of limit, max",
        name => name.strip_prefix("latency_").unwrap_or(name),
    };
    match (&row.cause, &row.phase) {
        (Some(cause), _) => cause.clone(),
        (None, Some(phase)) => format!("{phase}: {name}"),
        (None, None) => name.to_owned(),
    }
}

/// What a row is called where nothing says which group it is in.
pub(super) fn full_label(row: &Row) -> String {
    match row.group {
        Group::Latency => format!("{} latency", label(row)),
        _ => label(row),
    }
}

/// A figure in its unit; a dash if there is none.
pub(super) fn value(value: Option<f64>, unit: &str) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if unit == "count" => count(value),
        Some(value) => units::in_unit(value, unit),
    }
}

/// A count; medians may end in a half.
fn count(count: f64) -> String {
    let halves = units::whole(count * 2.0);
    let half = if halves.is_multiple_of(2) { "" } else { ".5" };
    units::count(halves / 2) + half
}

/// A change with its sign, as in `−1,234`, `+12.3ms`, `−0.685pp` (percentage points), `0`; a dash if there is none.
pub(super) fn change(change: Option<f64>, unit: &str) -> String {
    let Some(change) = change else { return "–".to_owned() };
    let sign = if change > 0.0 {
        "+"
    } else if change < 0.0 {
        "−"
    } else {
        return "0".to_owned();
    };
    let size = value(Some(change.abs()), unit);
    format!("{sign}{}", if unit == "ratio" { size.replace('%', "pp") } else { size })
}

/// A change as a part of base, in at most seven characters: `−100%`, `+5.2%`, `×12`. Nothing if there is no change, a dash
/// if it has no ratio.
pub(super) fn part(row: &Row) -> String {
    let ratio = match (row.change, row.change_ratio) {
        (Some(change), _) if change.abs() <= 0.0 => return String::new(),
        (_, None) => return "–".to_owned(),
        (_, Some(ratio)) => ratio,
    };
    if ratio >= 9.0 {
        return if ratio < 9_998.0 {
            format!("×{}", units::count(units::whole(ratio + 1.0)))
        } else {
            "≥×9,999".to_owned()
        };
    }
    let sign = if ratio > 0.0 { "+" } else { "−" };
    let percent = ratio.abs() * 100.0;
    if percent < 0.05 {
        format!("{sign}<0.1%")
    } else if percent < 9.95 {
        format!("{sign}{percent:.1}%")
    } else if (99.5..100.0).contains(&percent) {
        // Rounded to 100 % it would say that nothing is left.
        format!("{sign}{:.1}%", percent.min(99.9))
    } else {
        format!("{sign}{percent:.0}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Better;

    #[test]
    fn changes_have_a_sign_and_ratios_change_by_points() {
        assert_eq!(change(Some(-1_234.0), "count"), "−1,234");
        assert_eq!(change(Some(0.5), "count"), "+0.5");
        assert_eq!(change(Some(12_300.0), "us"), "+12.3ms");
        assert_eq!(change(Some(-0.006_85), "ratio"), "−0.685pp");
        assert_eq!(change(Some(0.0), "ms"), "0");
        assert_eq!(change(None, "ms"), "–");
    }

    #[track_caller]
    fn check(base: f64, head: f64, expected: &str) {
        let change = head - base;
        let row = Row {
            name: "dropped_count",
            group: Group::Requests,
            cause: None,
            phase: None,
            unit: "count",
            better: Better::Lower,
            base: Some(base),
            head: Some(head),
            change: Some(change),
            change_ratio: (base > 0.0).then(|| change / base),
            pairs: Vec::new(),
            seeds_better: 0,
            seeds_worse: 0,
            verdict: None,
        };
        assert_eq!(part(&row), expected);
        assert!(expected.chars().count() <= 7);
    }

    #[test]
    fn parts_are_short_and_round_nothing_away() {
        check(3.0, 3.0, "");
        check(0.0, 3.0, "–");
        check(100.0, 0.0, "−100%");
        check(10_000.0, 1.0, "−99.9%");
        check(1_000.0, 1_012.0, "+1.2%");
        check(1_000.0, 1_250.0, "+25%");
        check(100_000.0, 100_001.0, "+<0.1%");
        check(1.0, 9.9, "+890%");
        check(1.0, 12.0, "×12");
        check(1.0, 9_998.0, "×9,998");
        check(1.0, 1_000_000.0, "≥×9,999");
    }
}
