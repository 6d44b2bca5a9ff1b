//! SLOs on both sides: which seeds meet them, and where a change breaks or fixes one.
//!
//! SLOs are paired by name; of several of one name, the first with the first. An SLO of one side only is listed, but it
//! breaks nothing: there is nothing to compare it with.

use serde::Serialize;

use super::pairing::Pairs;
use crate::record::Results;
use crate::record::results::{Level, Slo};

/// An SLO on both sides.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SloRow {
    /// Its name; the second of one name is `name (2)`.
    pub name: String,
    /// `error` if it is of that level on either side: a change that lowers the level does not excuse itself.
    pub level: Level,
    /// Unit of values and limits: `ratio`, `us`, `ms`, `count`, `per_s`.
    pub unit: String,
    /// What became of it on base; none if base does not have it.
    pub base: Option<SloSide>,
    /// The same on head.
    pub head: Option<SloSide>,
    /// Seeds in which base meets it and head misses it.
    pub broken: Vec<u64>,
    /// Seeds in which base misses it and head meets it.
    pub fixed: Vec<u64>,
}

/// What became of an SLO on one side.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SloSide {
    /// The expression.
    pub expr: String,
    /// The limit.
    pub limit: f64,
    /// Seeds that have it.
    pub seeds: usize,
    /// Of those: the ones that meet it.
    pub seeds_met: usize,
    /// The value of the seed with the least room left; none if there was nothing to measure.
    pub worst: Option<f64>,
}

impl SloRow {
    /// Whether breaking it is a regression.
    #[must_use]
    pub fn is_gate(&self) -> bool {
        self.level == Level::Error
    }
}

/// All SLOs: those of base, then the ones only head has.
pub(super) fn rows(pairs: &Pairs<'_>) -> Vec<SloRow> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in pairs.runs().flat_map(named) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.into_iter().filter_map(|name| row(pairs, name)).collect()
}

fn row(pairs: &Pairs<'_>, name: String) -> Option<SloRow> {
    let found: Vec<_> = pairs.iter().map(|(base, head)| (base.seed, find(base, &name), find(head, &name))).collect();
    let of_base: Vec<_> = found.iter().filter_map(|(_, base, _)| *base).collect();
    let of_head: Vec<_> = found.iter().filter_map(|(_, _, head)| *head).collect();
    let any = of_head.first().or(of_base.first())?;
    let is_error = of_base.iter().chain(&of_head).any(|slo| slo.level == Level::Error);
    let turned = |from: bool| {
        let is_turned = |base: Option<&Slo>, head: Option<&Slo>| {
            base.is_some_and(|slo| slo.ok == from) && head.is_some_and(|slo| slo.ok != from)
        };
        found.iter().filter(|(_, base, head)| is_turned(*base, *head)).map(|(seed, ..)| *seed).collect()
    };
    Some(SloRow {
        level: if is_error { Level::Error } else { Level::Warn },
        unit: any.unit.clone(),
        base: side(&of_base),
        head: side(&of_head),
        broken: turned(true),
        fixed: turned(false),
        name,
    })
}

fn side(slos: &[&Slo]) -> Option<SloSide> {
    let first = slos.first()?;
    // Whether a high value is a bad one depends on the expression; the room left does not. Nothing measured, no room.
    let worst = slos
        .iter()
        .filter(|slo| slo.value.is_some())
        .min_by(|one, other| one.margin_ratio.unwrap_or(0.0).total_cmp(&other.margin_ratio.unwrap_or(0.0)));
    Some(SloSide {
        expr: first.expr.clone(),
        limit: first.limit,
        seeds: slos.len(),
        seeds_met: slos.iter().filter(|slo| slo.ok).count(),
        worst: worst.and_then(|slo| slo.value),
    })
}

fn named(run: &Results) -> impl Iterator<Item = (String, &Slo)> {
    run.slo.iter().enumerate().map(|(index, slo)| {
        let before = run.slo[..index].iter().filter(|other| other.name == slo.name).count();
        let name = if before == 0 { slo.name.clone() } else { format!("{} ({})", slo.name, before + 1) };
        (name, slo)
    })
}

fn find<'a>(run: &'a Results, name: &str) -> Option<&'a Slo> {
    named(run).find(|(found, _)| found == name).map(|(_, slo)| slo)
}
