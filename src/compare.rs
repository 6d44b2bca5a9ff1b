//! Two sets of results, base and head, paired by seed: what a change makes better and what worse. No I/O.
//!
//! Both sides run the same seeds under the same load, so that every pair of runs meets the same arrivals and their
//! difference is the effect of the change. [`judge`] has the rule by which a row is called better or worse and why it is
//! an honest one, [`rows`] the figures that are compared.
//!
//! # What a regression is
//!
//! [`Comparison::regressed`] is the gate of a pipeline, so it looks at little, and only at what hurts:
//!
//! - lost requests, their ratio, or the ratio of 5xx answers is worse over the whole measured time;
//! - the p99 of latency is worse *and* its median rose by more than 5 % ([`P99_TOLERANCE`]): smaller changes are proven
//!   easily and hurt nobody;
//! - an SLO of level `error` is met by base and missed by head in any one seed, as over many seeds the worst one counts.
//!
//! All other rows, phases and causes among them, inform and do not gate: with enough rows one is always worse. An
//! improvement is the same with the sides swapped.
//!
//! # Invariants
//!
//! Swapping the sides swaps `better` with `worse` in every row, and regressions with improvements. Identical sides are
//! identical in every row. Both are pinned by property tests.
//!
//! This room knows `record` and the formatting of `report`.

pub mod json;
pub mod judge;
pub mod md;
pub mod pairing;
pub mod rows;
pub mod slo;
pub mod text;

mod figures;
mod sentence;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::record::Results;
use pairing::Pairs;

pub use judge::{Better, Verdict};
pub use pairing::CompareError;
pub use rows::{Group, Pair, Row};
pub use slo::{SloRow, SloSide};

/// Version of the format of a comparison in JSON.
pub const SCHEMA_VERSION: &str = "1.0";

/// A p99 that rises by no more than this part of base is no regression.
pub const P99_TOLERANCE: f64 = 0.05;

/// One side: runs of one scenario, in any order, each with its own seed.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// What it is called, as in `rolling-upgrade/long-prestop`; see [`label`].
    pub label: &'a str,
    /// Its runs.
    pub runs: &'a [&'a Results],
}

/// The usual name of a side: `scenario` or `scenario/variant`.
#[must_use]
pub fn label(results: &Results) -> String {
    match &results.scenario.variant {
        Some(variant) => format!("{}/{variant}", results.scenario.name),
        None => results.scenario.name.clone(),
    }
}

/// What a change makes better and what worse.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// Version of this format.
    pub schema_version: &'static str,
    /// What was there before.
    pub base: SideId,
    /// What is to come.
    pub head: SideId,
    /// The seeds both were run with, in order.
    pub seeds: Vec<u64>,
    /// Whether both sides sent the same number of requests in every seed. If not (within
    /// [`pairing::SENT_TOLERANCE`]), they did not quite meet the same arrivals.
    pub same_arrivals: bool,
    /// What is to be said about head as a whole: `worse` if there are regressions, else `better` if there are
    /// improvements, `identical` if every figure is, else `not_proven`.
    pub verdict: Verdict,
    /// What became of lost requests, in a sentence.
    pub sentence: String,
    /// What fails a pipeline that asks for it.
    pub regressions: Vec<Finding>,
    /// What would be a regression with the sides swapped.
    pub improvements: Vec<Finding>,
    /// The figures.
    pub rows: Vec<Row>,
    /// The SLOs.
    pub slo: Vec<SloRow>,
}

/// What a side is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SideId {
    /// What it is called.
    pub label: String,
    /// Version of gatedrill that ran it.
    pub engine_version: String,
    /// Hash of everything that was read.
    pub input_hash: String,
}

/// A gate that head has crossed, in one direction or the other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Whether it is a figure or an SLO.
    pub kind: FindingKind,
    /// Name of the row or of the SLO.
    pub name: String,
    /// Seeds in which that happened.
    pub seeds: Vec<u64>,
}

/// What a finding is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingKind {
    /// One of [`Comparison::rows`], over the whole measured time.
    Row,
    /// One of [`Comparison::slo`].
    Slo,
}

impl Comparison {
    /// Whether head is worse in something that gates; see the module.
    #[must_use]
    pub fn regressed(&self) -> bool {
        !self.regressions.is_empty()
    }

    /// The row of a figure over the whole measured time.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name && row.cause.is_none() && row.phase.is_none())
    }
}

/// Compares head with base.
///
/// # Errors
///
/// If the runs do not pair: a side is empty, mixed or interrupted, or seeds or loads differ.
pub fn compare(base: Side<'_>, head: Side<'_>) -> Result<Comparison, CompareError> {
    let pairs = Pairs::of(base, head)?;
    let rows = rows::rows(&pairs);
    let slo = slo::rows(&pairs);
    let regressions = findings(&rows, &slo, Verdict::Worse);
    let improvements = findings(&rows, &slo, Verdict::Better);
    let verdict = if !regressions.is_empty() {
        Verdict::Worse
    } else if !improvements.is_empty() {
        Verdict::Better
    } else if rows.iter().all(|row| row.verdict == Some(Verdict::Identical)) {
        Verdict::Identical
    } else {
        Verdict::NotProven
    };
    let mut comparison = Comparison {
        schema_version: SCHEMA_VERSION,
        base: SideId::of(base),
        head: SideId::of(head),
        seeds: pairs.iter().map(|(run, _)| run.seed).collect(),
        same_arrivals: pairs.iter().all(|(base, head)| base.totals.sent == head.totals.sent),
        verdict,
        sentence: String::new(),
        regressions,
        improvements,
        rows,
        slo,
    };
    comparison.sentence = sentence::lost(&comparison);
    Ok(comparison)
}

impl SideId {
    fn of(side: Side<'_>) -> Self {
        let first = side.runs.first().expect("a side without runs does not pair");
        Self {
            label: side.label.to_owned(),
            engine_version: first.engine_version.clone(),
            input_hash: first.scenario.input_hash.clone(),
        }
    }
}

/// Gates crossed towards that verdict.
fn findings(rows: &[Row], slo: &[SloRow], towards: Verdict) -> Vec<Finding> {
    let crossed = rows.iter().filter(|row| row.verdict == Some(towards) && is_crossed(row));
    let of_rows = crossed.map(|row| Finding {
        kind: FindingKind::Row,
        name: row.name.to_owned(),
        seeds: row.pairs.iter().filter(|pair| row.is_towards(pair, towards)).map(|pair| pair.seed).collect(),
    });
    let of_slos = slo.iter().filter(|row| row.is_gate()).map(|row| Finding {
        kind: FindingKind::Slo,
        name: row.name.clone(),
        seeds: if towards == Verdict::Worse { row.broken.clone() } else { row.fixed.clone() },
    });
    of_rows.chain(of_slos.filter(|finding| !finding.seeds.is_empty())).collect()
}

/// Whether a row that is better or worse is so in something that gates, and by enough.
fn is_crossed(row: &Row) -> bool {
    match (row.group, row.name) {
        (Group::Requests, "dropped_count" | "dropped_ratio" | "error_ratio") => true,
        (Group::Latency, "latency_p99") => {
            // Of the lower figure, whichever side it is on: an improvement is a regression seen from the other side.
            row.base.zip(row.head).is_some_and(|(base, head)| (head - base).abs() > P99_TOLERANCE * base.min(head))
        }
        _ => false,
    }
}
