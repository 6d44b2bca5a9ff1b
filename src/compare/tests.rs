//! Goal: a comparison says what its pairs prove, and the same in every format. Method: hand-made results, snapshots, and
//! properties over random figures.

use proptest::collection::vec;
use proptest::prelude::*;

use super::sample::{FEW, Few, blank, cause, few, slo, varied};
use super::*;
use crate::record::results::{Level, Rollout};
use crate::report::sample::{FIXED, LOSING};
use crate::report::text::Paint;

#[track_caller]
fn compared(base: &[Results], head: &[Results]) -> Comparison {
    of(base, head).unwrap()
}

fn of(base: &[Results], head: &[Results]) -> Result<Comparison, CompareError> {
    let name = |runs: &[Results], other: &str| runs.first().map_or(other.to_owned(), label);
    let (base_runs, head_runs): (Vec<_>, Vec<_>) = (base.iter().collect(), head.iter().collect());
    compare(
        Side { label: &name(base, "base"), runs: &base_runs },
        Side { label: &name(head, "head"), runs: &head_runs },
    )
}

/// A comparison of single runs.
#[track_caller]
fn single(base: Few, head: Few) -> Comparison {
    let blank = blank();
    compared(&[few(&blank, 1, base)], &[few(&blank, 1, head)])
}

#[test]
fn a_fix_is_told() {
    let comparison = compared(&varied(LOSING, 42..=46), &varied(FIXED, 42..=46));
    assert_eq!(comparison.verdict, Verdict::Better);
    assert!(!comparison.regressed());
    insta::assert_snapshot!("fix_text", text::text(&comparison, Paint::Plain, Some("gatedrill explain reports/x-42")));
    insta::assert_snapshot!("fix_md", md::md(&comparison));
}
