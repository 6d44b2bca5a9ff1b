//! The figures that are compared, a row each, in the order in which they are shown.
//!
//! Names are those of SLO metrics where there is one. Figures are over the whole measured time, then lost requests by
//! cause, then by phase. Latency is that of answered requests only: a side that loses its slowest requests looks faster,
//! and one that loses many needs less CPU, so read lost requests first. A rollout's duration is the longest of the run's
//! rollouts, its pods the most and its ready pods the fewest in any of them.
//!
//! What is absent is none and never 0: a side without a rollout has no duration. A cause is an exception that is none:
//! a run without a row for it has lost no request for that reason, which is a count of 0.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::judge::{Better, Precision, Signs, Verdict};
use super::pairing::Pairs;
use crate::record::Results;
use crate::record::results::{LatencyUs, Phase};
use crate::report::units::float;

/// The part of the table a row stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Lost and failed requests, and what clients did about them.
    Requests,
    /// Lost requests by cause.
    Causes,
    /// Latency of answered requests.
    Latency,
    /// Rolling updates.
    Rollout,
    /// The gateway itself.
    Gateway,
    /// Figures of one phase.
    Phases,
}

/// A figure on both sides.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    /// The figure, named as the SLO metric is where there is one.
    pub name: &'static str,
    /// The part of the table it stands in.
    pub group: Group,
    /// The cause counted, as `GD4101 lb-stale-target`; none if it is not about a cause.
    pub cause: Option<String>,
    /// The phase measured; none for the whole measured time. The second phase of a name is `name (2)`.
    pub phase: Option<String>,
    /// `ratio`, `us`, `ms` or `count`.
    pub unit: &'static str,
    /// Which figures one wants.
    pub better: Better,
    /// Base: median over the seeds that have the figure.
    #[serde(serialize_with = "figure")]
    pub base: Option<f64>,
    /// Head: the same.
    #[serde(serialize_with = "figure")]
    pub head: Option<f64>,
    /// `head - base`, of the medians above, so that the row can be checked with a pencil. The verdict does not look at it.
    #[serde(serialize_with = "figure")]
    pub change: Option<f64>,
    /// The change as a part of `base`; none if that is 0.
    pub change_ratio: Option<f64>,
    /// Every seed, in the order of seeds.
    pub pairs: Vec<Pair>,
    /// Seeds in which head is better, beyond the precision of the figure.
    pub seeds_better: usize,
    /// Seeds in which head is worse.
    pub seeds_worse: usize,
    /// What that proves; none if there is nothing to compare, or if a change is neither good nor bad.
    pub verdict: Option<Verdict>,
}

impl Row {
    /// Whether the figures of a seed differ in that direction.
    pub(super) fn is_towards(&self, pair: &Pair, verdict: Verdict) -> bool {
        let Some((base, head)) = pair.base.zip(pair.head) else { return false };
        let is_better = if self.better == Better::Higher { head > base } else { head < base };
        match verdict {
            Verdict::Better => is_better,
            Verdict::Worse => !is_better && head.total_cmp(&base).is_ne(),
            Verdict::Identical | Verdict::NotProven => false,
        }
    }
}

/// A figure of one seed on both sides.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Pair {
    /// The seed.
    pub seed: u64,
    /// The figure of base.
    #[serde(serialize_with = "figure")]
    pub base: Option<f64>,
    /// The figure of head.
    #[serde(serialize_with = "figure")]
    pub head: Option<f64>,
}

/// What is measured and how to read it.
#[derive(Clone, Copy)]
struct Measure {
    name: &'static str,
    group: Group,
    unit: &'static str,
    better: Better,
    precision: Precision,
}

impl Measure {
    const fn count(name: &'static str, group: Group) -> Self {
        Self { name, group, unit: "count", better: Better::Lower, precision: Precision::Exact }
    }

    const fn ratio(name: &'static str, group: Group) -> Self {
        Self { unit: "ratio", ..Self::count(name, group) }
    }

    const fn latency(name: &'static str, group: Group) -> Self {
        Self { unit: "us", precision: Precision::ThreeDigits, ..Self::count(name, group) }
    }

    const fn cpu(name: &'static str) -> Self {
        Self { precision: Precision::ThreeDigits, ..Self::ratio(name, Group::Gateway) }
    }

    const fn better(self, better: Better) -> Self {
        Self { better, ..self }
    }

    const fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }
}

type Read = fn(&Results) -> Option<f64>;

/// One row each: what is counted first and over the whole measured time.
const REQUESTS: &[(Measure, Read)] = &[
    (Measure::count("dropped_count", Group::Requests), |run| some(run.totals.dropped)),
    (Measure::ratio("dropped_ratio", Group::Requests), |run| run.totals.dropped_ratio),
    (Measure::ratio("error_ratio", Group::Requests), |run| run.totals.error_ratio),
    (Measure::count("retries", Group::Requests), |run| some(run.totals.retries)),
    (Measure::count("connections_reset", Group::Requests), |run| some(run.totals.connections_reset)),
];

/// One row each, after the causes.
const OTHERS: &[(Measure, Read)] = &[
    (Measure::latency("latency_p50", Group::Latency), |run| run.latency_us.p50.map(float)),
    (Measure::latency("latency_p90", Group::Latency), |run| run.latency_us.p90.map(float)),
    (Measure::latency("latency_p99", Group::Latency), |run| run.latency_us.p99.map(float)),
    (Measure::latency("latency_p99.9", Group::Latency), |run| run.latency_us.p99_9.map(float)),
    (Measure::latency("latency_max", Group::Latency), |run| run.latency_us.max.map(float)),
    (
        Measure::count("rollout_duration", Group::Rollout).unit("ms").precision(Precision::WholeMillis),
        rollout_duration_ms,
    ),
    (Measure::count("rollouts_unfinished", Group::Rollout), rollouts_unfinished),
    (Measure::count("pods_max", Group::Rollout).better(Better::Neither), |run| {
        run.rollouts.iter().map(|rollout| f64::from(rollout.pods_max)).max_by(f64::total_cmp)
    }),
    (Measure::count("ready_min", Group::Rollout).better(Better::Higher), |run| {
        run.rollouts.iter().map(|rollout| f64::from(rollout.ready_min)).min_by(f64::total_cmp)
    }),
    (Measure::cpu("cpu_ratio_mean"), |run| run.gateway.cpu_ratio_mean),
    (Measure::cpu("cpu_ratio_max"), |run| run.gateway.cpu_ratio_max),
];

const BY_CAUSE: Measure = Measure::count("dropped_count", Group::Causes);
const DROPPED_IN_PHASE: Measure = Measure::count("dropped_count", Group::Phases);
const P99_IN_PHASE: Measure = Measure::latency("latency_p99", Group::Phases);

/// All rows that have a figure on either side.
pub(super) fn rows(pairs: &Pairs<'_>) -> Vec<Row> {
    let plain = |table: &[(Measure, Read)]| -> Vec<_> {
        table.iter().filter_map(|(measure, read)| row(pairs, *measure, None, None, read)).collect()
    };
    let mut rows = plain(REQUESTS);
    rows.extend(cause_rows(pairs));
    rows.extend(plain(OTHERS));
    rows.extend(phase_rows(pairs));
    // That every rollout was completed is what one expects, and no figure.
    let is_above_zero = |pair: &Pair| pair.base.into_iter().chain(pair.head).any(|figure| figure > 0.0);
    rows.retain(|row| row.name != "rollouts_unfinished" || row.pairs.iter().any(is_above_zero));
    rows
}

/// The longest of the rollouts; none if there was none or one was not completed: then there is no such time.
fn rollout_duration_ms(run: &Results) -> Option<f64> {
    let durations: Option<Vec<_>> =
        run.rollouts.iter().map(|rollout| rollout.duration_ms.filter(|_| rollout.complete)).collect();
    durations?.into_iter().max().map(float)
}

fn rollouts_unfinished(run: &Results) -> Option<f64> {
    let unfinished = run.rollouts.iter().filter(|rollout| !rollout.complete).count();
    if run.rollouts.is_empty() { None } else { u64::try_from(unfinished).ok().map(float) }
}

/// A row per cause on either side, most frequent first; equally frequent ones by code.
fn cause_rows(pairs: &Pairs<'_>) -> Vec<Row> {
    let mut totals: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for cause in pairs.runs().flat_map(|run| &run.causes) {
        *totals.entry((&cause.code, &cause.name)).or_default() += cause.count;
    }
    let mut causes: Vec<_> = totals.into_iter().filter(|(_, count)| *count > 0).collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let row_of = |((code, name), _): ((&str, &str), u64)| {
        // One code may stand in several rows, one for each setting behind it.
        let count =
            |run: &Results| some(run.causes.iter().filter(|cause| cause.code == code).map(|cause| cause.count).sum());
        row(pairs, BY_CAUSE, Some(format!("{code} {name}")), None, count)
    };
    causes.into_iter().filter_map(row_of).collect()
}

/// Two rows per phase on either side: those of base, then the ones only head has.
fn phase_rows(pairs: &Pairs<'_>) -> Vec<Row> {
    let mut names: Vec<String> = Vec::new();
    for run in pairs.runs() {
        for (name, _) in named_phases(run) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let rows_of = |name: String| {
        let of = |run: &Results, read: fn(&Phase) -> Option<f64>| {
            named_phases(run).find(|(found, _)| *found == name).and_then(|(_, phase)| read(phase))
        };
        let dropped =
            row(pairs, DROPPED_IN_PHASE, None, Some(name.clone()), |run| of(run, |phase| some(phase.totals.dropped)));
        let p99 = row(pairs, P99_IN_PHASE, None, Some(name.clone()), |run| {
            of(run, |Phase { latency_us: LatencyUs { p99, .. }, .. }| p99.map(float))
        });
        [dropped, p99].into_iter().flatten().collect::<Vec<_>>()
    };
    names.into_iter().flat_map(rows_of).collect()
}

/// Phases with a number behind names that come again.
fn named_phases(run: &Results) -> impl Iterator<Item = (String, &Phase)> {
    run.phases.iter().enumerate().map(|(index, phase)| {
        let before = run.phases[..index].iter().filter(|other| other.name == phase.name).count();
        let name = if before == 0 { phase.name.clone() } else { format!("{} ({})", phase.name, before + 1) };
        (name, phase)
    })
}

/// One row; none if neither side has a figure in any seed.
fn row(
    pairs: &Pairs<'_>,
    measure: Measure,
    cause: Option<String>,
    phase: Option<String>,
    read: impl Fn(&Results) -> Option<f64>,
) -> Option<Row> {
    let Measure { name, group, unit, better, precision } = measure;
    let pairs: Vec<_> =
        pairs.iter().map(|(base, head)| Pair { seed: base.seed, base: read(base), head: read(head) }).collect();
    let base = median(pairs.iter().filter_map(|pair| pair.base).collect());
    let head = median(pairs.iter().filter_map(|pair| pair.head).collect());
    base.or(head)?;
    let signs = Signs::of(pairs.iter().map(|pair| (pair.base, pair.head)), better, precision);
    let change = base.zip(head).map(|(base, head)| head - base);
    Some(Row {
        name,
        group,
        cause,
        phase,
        unit,
        better,
        base,
        head,
        change,
        change_ratio: change.zip(base).filter(|(_, base)| *base > 0.0).map(|(change, base)| change / base),
        seeds_better: signs.better,
        seeds_worse: signs.worse,
        verdict: signs.verdict(better),
        pairs,
    })
}

/// The middle figure, or the mean of the two in the middle.
fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    Some(if figures.len() % 2 == 1 { upper } else { f64::midpoint(figures[figures.len() / 2 - 1], upper) })
}

#[expect(clippy::unnecessary_wraps, reason = "what is always there is read like what may be absent")]
fn some(count: u64) -> Option<f64> {
    Some(float(count))
}

/// Counts as JSON integers: a tool that reads them expects `12` and not `12.0`.
#[expect(clippy::ref_option, reason = "the signature is serde's")]
pub(super) fn figure<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 53 bits, checked just before")]
        Some(value) if value.fract().abs() <= 0.0 && value.abs() < 9e15 => serializer.serialize_i64(value as i64),
        Some(value) => serializer.serialize_f64(value),
        None => serializer.serialize_none(),
    }
}
