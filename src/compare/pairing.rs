//! Runs of two sides, a pair per seed, and why they may refuse to pair.

use thiserror::Error;

use super::Side;
use crate::record::Results;
use crate::report::units::float;

/// Two runs of a seed may differ by this part in the number of requests sent.
///
/// Arrivals do not depend on the gateway, so one scenario sends the same requests whatever its manifests say, and a side
/// with another load sends visibly more or fewer. What is left between are loads that follow the rollout, and versions of
/// gatedrill that draw differently.
pub const SENT_TOLERANCE: f64 = 0.01;

/// Why two sides cannot be compared.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CompareError {
    /// A side is empty.
    #[error("`{label}` has no runs")]
    NoRuns {
        /// The side.
        label: String,
    },
    /// A side has runs of several scenarios.
    #[error("`{label}` has runs of several scenarios, `{one}` and `{other}`: a side is one of them")]
    SeveralScenarios {
        /// The side.
        label: String,
        /// One scenario.
        one: String,
        /// Another.
        other: String,
    },
    /// A run was interrupted.
    #[error("the run of `{label}` with seed {seed} was interrupted: run it again to the end")]
    Interrupted {
        /// The side.
        label: String,
        /// The seed of the run.
        seed: u64,
    },
    /// A seed comes twice on one side.
    #[error("`{label}` has seed {seed} twice: which run should be compared?")]
    SeedTwice {
        /// The side.
        label: String,
        /// The seed.
        seed: u64,
    },
    /// A seed was run on one side only.
    #[error(
        "the seeds do not pair: `{label}` has {}, which `{other}` does not have (run both with the same seeds)",
        seeds_in_words(.seeds)
    )]
    Seeds {
        /// The side that has them.
        label: String,
        /// The one that does not.
        other: String,
        /// The seeds without a partner.
        seeds: Vec<u64>,
    },
    /// The sides were put under different loads.
    #[error(
        "the loads do not pair: with seed {seed} `{base}` sends {base_sent} requests and `{head}` {head_sent} \
         (give both the same load and duration)"
    )]
    Load {
        /// The seed.
        seed: u64,
        /// Base.
        base: String,
        /// Head.
        head: String,
        /// Requests base sent.
        base_sent: u64,
        /// Requests head sent.
        head_sent: u64,
    },
}

/// Runs of base and head, a pair per seed.
#[derive(Debug)]
pub(super) struct Pairs<'a>(Vec<(&'a Results, &'a Results)>);

impl<'a> Pairs<'a> {
    /// Pairs the runs of two sides by their seeds, in the order of seeds.
    ///
    /// # Errors
    ///
    /// If they are not runs of the same seeds under the same load, each run to its end.
    pub(super) fn of(base: Side<'a>, head: Side<'a>) -> Result<Self, CompareError> {
        let (base_runs, head_runs) = (sorted(base)?, sorted(head)?);
        lone_seeds(base.label, &base_runs, head.label, &head_runs)?;
        lone_seeds(head.label, &head_runs, base.label, &base_runs)?;
        let pairs: Vec<_> = base_runs.into_iter().zip(head_runs).collect();
        for (of_base, of_head) in &pairs {
            let (base_sent, head_sent) = (of_base.totals.sent, of_head.totals.sent);
            if float(base_sent.abs_diff(head_sent)) > SENT_TOLERANCE * float(base_sent.max(head_sent)) {
                let (base, head) = (base.label.to_owned(), head.label.to_owned());
                return Err(CompareError::Load { seed: of_base.seed, base, head, base_sent, head_sent });
            }
        }
        Ok(Self(pairs))
    }

    /// Base and head of every seed.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a Results, &'a Results)> {
        self.0.iter().copied()
    }

    /// All runs, those of base first.
    pub(super) fn runs(&self) -> impl Iterator<Item = &'a Results> {
        self.iter().map(|pair| pair.0).chain(self.iter().map(|pair| pair.1))
    }
}

/// Runs in the order of seeds.
fn sorted<'a>(side: Side<'a>) -> Result<Vec<&'a Results>, CompareError> {
    let label = side.label.to_owned();
    let Some(first) = side.runs.first() else { return Err(CompareError::NoRuns { label }) };
    let id = |run: &Results| (run.scenario.name.clone(), run.scenario.variant.clone());
    if let Some(other) = side.runs.iter().find(|run| id(run) != id(first)) {
        return Err(CompareError::SeveralScenarios { label, one: super::label(first), other: super::label(other) });
    }
    if let Some(run) = side.runs.iter().find(|run| !run.complete) {
        return Err(CompareError::Interrupted { label, seed: run.seed });
    }
    let mut runs = side.runs.to_vec();
    runs.sort_by_key(|run| run.seed);
    match runs.windows(2).find(|pair| pair[0].seed == pair[1].seed) {
        Some(pair) => Err(CompareError::SeedTwice { label, seed: pair[0].seed }),
        None => Ok(runs),
    }
}

fn lone_seeds(label: &str, runs: &[&Results], other: &str, others: &[&Results]) -> Result<(), CompareError> {
    let is_lone = |run: &&&Results| others.binary_search_by_key(&run.seed, |other| other.seed).is_err();
    let seeds: Vec<_> = runs.iter().filter(is_lone).map(|run| run.seed).collect();
    if seeds.is_empty() {
        return Ok(());
    }
    Err(CompareError::Seeds { label: label.to_owned(), other: other.to_owned(), seeds })
}

/// As in `seed 7`, `seeds 1, 2, 9`, `seeds 42 to 46`; of many that are not in a row, the first few.
pub(super) fn seeds_in_words(seeds: &[u64]) -> String {
    let is_range = seeds.len() > 2 && seeds.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]));
    match seeds {
        [seed] => format!("seed {seed}"),
        [first, .., last] if is_range => format!("seeds {first} to {last}"),
        _ => {
            let few: Vec<_> = seeds.iter().take(5).map(u64::to_string).collect();
            let more = seeds.len() - few.len();
            let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("seeds {}{rest}", few.join(", "))
        }
    }
}
