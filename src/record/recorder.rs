//! Hears of every request, keeps what matters, and balances the books.

use std::collections::BTreeMap;
use std::time::Duration;

use super::books::{Audit, BooksBroken};
use super::request::{Done, Lost, RequestRow, Source};
use super::results::{
    AutoscalerStep, Cause, Fidelity, GatewayFacts, Level, Load, Phase, Pod, Results, Rollout, SCHEMA_VERSION, Sample,
    ScenarioId, Slo, Span, Target, Verdict,
};
use super::series::{Gauge, Second, Series};
use super::tally::Tally;
use super::{CauseCode, Outcome, Remedy};
use crate::units::SimTime;

/// Lost requests named per cause in the results.
const SAMPLES_PER_CAUSE: usize = 5;

/// What a recorder measures and keeps.
#[derive(Clone, Debug)]
pub struct RecorderConfig {
    /// Requests due from here on are counted.
    pub start: SimTime,
    /// Requests due from here on are not.
    pub end: SimTime,
    /// Names of the loads, in scenario order.
    pub loads: Vec<String>,
    /// Name of the phase that begins at `start`.
    pub first_phase: String,
    /// Most lost requests to keep a row of; the earliest are kept.
    pub dropped_rows_max: usize,
    /// Served requests to keep a row of, chosen evenly over the run.
    pub served_rows: usize,
}

/// What the results tell beside the requests: filled in by whoever ran the world.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is the one of `Results` with that name")]
pub struct Facts {
    pub engine_version: String,
    pub scenario: ScenarioId,
    pub seed: u64,
    pub fingerprint: String,
    pub complete: bool,
    pub rollouts: Vec<Rollout>,
    pub pods: Vec<Pod>,
    pub targets: Vec<Target>,
    pub autoscaler: Vec<AutoscalerStep>,
    pub gateway: GatewayFacts,
    pub slo: Vec<Slo>,
    pub fidelity: Vec<Fidelity>,
}

/// Everything a run says, beside its event log.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// What `results.json` holds.
    pub results: Results,
    /// What `timeline.csv` holds.
    pub seconds: Vec<Second>,
    /// What `requests.csv` holds: lost requests and a sample of served ones, by intended time.
    pub requests: Vec<RequestRow>,
}

/// Hears of every request of a run.
#[derive(Debug)]
pub struct Recorder {
    config: RecorderConfig,
    phases: Vec<PhaseStart>,
    /// By phase, then by load.
    tallies: Vec<Vec<Tally>>,
    /// Counted on their own, so that the books have two sides.
    sent_count: u64,
    done_count: u64,
    series: Series,
    settled_s: u64,
    causes: BTreeMap<(CauseCode, Option<Source>), CauseTally>,
    pods: BTreeMap<String, PodTally>,
    dropped_rows: Vec<RequestRow>,
    served_rows: BTreeMap<u64, RequestRow>,
    audit: Audit,
}

#[derive(Debug)]
struct PhaseStart {
    name: String,
    at: SimTime,
}

#[derive(Debug, Default)]
struct CauseTally {
    count: u64,
    first: SimTime,
    last: SimTime,
    outcomes: BTreeMap<&'static str, u64>,
    flags: BTreeMap<String, u64>,
    remedies: BTreeMap<Option<Remedy>, u64>,
    samples: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct PodTally {
    requests: u64,
    dropped: u64,
}

impl Recorder {
    /// A recorder that has heard nothing.
    ///
    /// # Panics
    ///
    /// If the measured time ends before it starts.
    #[must_use]
    pub fn new(config: RecorderConfig) -> Self {
        assert!(config.start <= config.end, "the measured time ends after it starts");
        let first_s = whole_seconds(config.start);
        let count = usize::try_from(config.end.as_nanos().div_ceil(1_000_000_000) - first_s).unwrap_or(usize::MAX);
        Self {
            phases: vec![PhaseStart { name: config.first_phase.clone(), at: config.start }],
            tallies: vec![vec![Tally::default(); config.loads.len()]],
            sent_count: 0,
            done_count: 0,
            series: Series::new(first_s, count),
            settled_s: first_s,
            causes: BTreeMap::new(),
            pods: BTreeMap::new(),
            dropped_rows: Vec::new(),
            served_rows: BTreeMap::new(),
            audit: Audit::default(),
            config,
        }
    }

    /// A phase begins: requests due from `at` on count in it. At the instant another began, it takes that one's place.
    ///
    /// # Panics
    ///
    /// If phases are not told in order of time.
    pub fn phase(&mut self, name: &str, at: SimTime) {
        let at = at.max(self.config.start);
        let last = self.phases.last_mut().expect("there is a first phase");
        assert!(last.at <= at, "phases are told in order of time");
        if last.at == at {
            name.clone_into(&mut last.name);
        } else if at < self.config.end {
            self.phases.push(PhaseStart { name: name.to_owned(), at });
            self.tallies.push(vec![Tally::default(); self.config.loads.len()]);
        }
    }

    /// A request of that load is due. Told when it is due, before [`Recorder::done`].
    ///
    /// # Panics
    ///
    /// If there is no such load.
    pub fn sent(&mut self, load: usize, intended_at: SimTime) {
        let Some(index) = self.second(intended_at) else { return };
        self.sent_count += 1;
        self.series.row(index).sent += 1;
        self.tally(load, intended_at).sent += 1;
    }

    /// A request has ended.
    ///
    /// # Panics
    ///
    /// If there is no such load, or it ended before it was due.
    pub fn done(&mut self, done: &Done<'_>) {
        let Some(index) = self.second(done.intended_at) else { return };
        self.done_count += 1;
        let is_dropped = done.outcome.is_dropped();
        if is_dropped != done.cause.is_some() {
            let has = if is_dropped { "no cause" } else { "a cause of loss" };
            self.audit.wrong(|| format!("request {} ended as {} and has {has}", done.request, done.outcome));
        }
        let latency_us = done.latency_us();
        let cause = done.cause.as_ref().map(|lost| lost.code);
        let answered_after_us = (!is_dropped).then_some(latency_us);
        self.tally(done.load, done.intended_at).end(done.outcome, cause, done.retries, answered_after_us);

        let row = self.series.row(index);
        match done.outcome {
            Outcome::Ok => row.ok += 1,
            Outcome::BackendError => row.backend_error += 1,
            _ => row.dropped += 1,
        }
        if let Some(latency_us) = answered_after_us {
            self.series.answered(index, latency_us);
        }
        self.settle(done.ended_at);

        if let Some(pod) = done.pod {
            self.count_on_pod(pod, is_dropped);
        }
        if let Some(lost) = &done.cause {
            self.count_cause(lost, done);
        }
        self.keep(done);
    }

    /// A client opened a connection.
    pub fn connection_opened(&mut self, load: usize, at: SimTime) {
        if self.is_measured(at) {
            self.tally(load, at).connections_opened += 1;
        }
    }

    /// A client's connection ended with a reset.
    pub fn connection_reset(&mut self, load: usize, at: SimTime) {
        if self.is_measured(at) {
            self.tally(load, at).connections_reset += 1;
        }
    }

    /// What else is so in the second that contains `at`; the last word of a second counts.
    pub fn gauge(&mut self, at: SimTime, gauge: Gauge) {
        if let Some(index) = self.second(at) {
            self.series.row(index).gauge = gauge;
        }
    }

    /// The figures of all phases of that name (none: of every phase) and of that load (none: of every load).
    #[must_use]
    pub fn figures(&self, phase: Option<&str>, load: Option<&str>) -> Tally {
        let mut sum = Tally::default();
        for (start, loads) in self.phases.iter().zip(&self.tallies) {
            if phase.is_some_and(|name| name != start.name) {
                continue;
            }
            for (name, tally) in self.config.loads.iter().zip(loads) {
                if load.is_none_or(|wanted| wanted == name) {
                    sum.add(tally);
                }
            }
        }
        sum
    }

    /// The rows so far, each with the name of the phase it began in.
    pub fn seconds(&self) -> impl Iterator<Item = (&str, &Second)> {
        self.series.rows().iter().map(|row| (self.phases[self.phase_index(start_of(row.t_s))].name.as_str(), row))
    }

    /// Requests lost so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.causes.values().map(|cause| cause.count).sum()
    }

    /// Balances the books and says what happened.
    ///
    /// # Errors
    ///
    /// If requests are missing or counted twice, or one was lost without a cause: then no figure can be trusted.
    pub fn finish(mut self, facts: Facts) -> Result<Run, BooksBroken> {
        let unfinished = self.strike_unfinished(facts.complete);
        self.check(unfinished);
        std::mem::take(&mut self.audit).close()?;
        let total = self.figures(None, None);
        let phases = self.phase_rows();
        let loads = self.load_rows();
        let (causes, samples) = self.cause_rows();
        let pods = self.pod_rows(facts.pods);
        let requests = self.request_rows(&pods);
        let is_missed = facts.slo.iter().any(|slo| slo.level == Level::Error && !slo.ok);
        let results = Results {
            schema_version: SCHEMA_VERSION.to_owned(),
            engine_version: facts.engine_version,
            scenario: facts.scenario,
            seed: facts.seed,
            fingerprint: facts.fingerprint,
            complete: facts.complete,
            verdict: if is_missed { Verdict::Fail } else { Verdict::Pass },
            measured: Span { start_ms: millis(self.config.start), end_ms: millis(self.config.end) },
            unfinished,
            totals: total.totals(),
            latency_us: total.latencies.figures(),
            phases,
            loads,
            causes,
            rollouts: facts.rollouts,
            pods,
            targets: facts.targets,
            autoscaler: facts.autoscaler,
            gateway: facts.gateway,
            slo: facts.slo,
            fidelity: facts.fidelity,
            samples,
        };
        let starts: Vec<_> = self.phases;
        let seconds = self.series.finish(|t_s| name_at(&starts, start_of(t_s)).to_owned());
        Ok(Run { results, seconds, requests })
    }

    fn is_measured(&self, at: SimTime) -> bool {
        self.config.start <= at && at < self.config.end
    }

    /// Index of the row of a measured instant.
    fn second(&self, at: SimTime) -> Option<usize> {
        if self.is_measured(at) { self.series.index(whole_seconds(at)) } else { None }
    }

    /// Phases are few and requests usually belong to the last: searched from the end.
    fn phase_index(&self, at: SimTime) -> usize {
        self.phases.iter().rposition(|phase| phase.at <= at).unwrap_or(0)
    }

    fn tally(&mut self, load: usize, at: SimTime) -> &mut Tally {
        let phase = self.phase_index(at);
        &mut self.tallies[phase][load]
    }

    fn settle(&mut self, now: SimTime) {
        let now_s = whole_seconds(now);
        if now_s > self.settled_s {
            self.settled_s = now_s;
            self.series.settle(now_s);
        }
    }

    fn count_on_pod(&mut self, pod: &str, is_dropped: bool) {
        let count = |tally: &mut PodTally| {
            tally.requests += 1;
            tally.dropped += u64::from(is_dropped);
        };
        // Looked up by `&str` first: a request to a known pod allocates nothing.
        match self.pods.get_mut(pod) {
            Some(tally) => count(tally),
            None => count(self.pods.entry(pod.to_owned()).or_default()),
        }
    }

    fn count_cause(&mut self, lost: &Lost, done: &Done<'_>) {
        let cause = self.causes.entry((lost.code, lost.source.clone())).or_insert_with(|| CauseTally {
            first: done.intended_at,
            last: done.intended_at,
            ..CauseTally::default()
        });
        cause.count += 1;
        cause.first = cause.first.min(done.intended_at);
        cause.last = cause.last.max(done.intended_at);
        *cause.outcomes.entry(done.outcome.name()).or_default() += 1;
        *cause.remedies.entry(lost.remedy).or_default() += 1;
        if let Some(flag) = done.flag {
            *cause.flags.entry(flag.to_owned()).or_default() += 1;
        }
        if cause.samples.len() < SAMPLES_PER_CAUSE {
            cause.samples.push(done.request.to_string());
        }
    }

    /// Keeps the row of a lost request, and of the served requests those whose names hash lowest: an even sample that
    /// needs no random numbers, does not depend on the order of events, and merges with another run's.
    fn keep(&mut self, done: &Done<'_>) {
        let load = &self.config.loads[done.load];
        if done.outcome.is_dropped() {
            if self.dropped_rows.len() < self.config.dropped_rows_max {
                self.dropped_rows.push(RequestRow::new(done, load));
            }
            return;
        }
        let hash = sample_hash(done.load, done.request.number);
        let is_full = self.served_rows.len() >= self.config.served_rows;
        if is_full && self.served_rows.last_key_value().is_none_or(|(&highest, _)| highest <= hash) {
            return;
        }
        self.served_rows.insert(hash, RequestRow::new(done, load));
        if self.served_rows.len() > self.config.served_rows {
            self.served_rows.pop_last();
        }
    }

    /// In an interrupted run, takes back what was sent but has not ended. Returns how many.
    fn strike_unfinished(&mut self, is_complete: bool) -> u64 {
        if is_complete {
            return 0;
        }
        for tally in self.tallies.iter_mut().flatten() {
            tally.sent = tally.ended();
        }
        for index in 0..self.series.rows().len() {
            let row = self.series.row(index);
            row.sent = row.ok + row.backend_error + row.dropped;
        }
        self.sent_count.saturating_sub(self.done_count)
    }

    fn check(&mut self, unfinished: u64) {
        let mut audit = std::mem::take(&mut self.audit);
        let answered = |tally: &Tally| tally.count(Outcome::Ok) + tally.count(Outcome::BackendError);
        let balance = |audit: &mut Audit, what: &str, tally: &Tally| {
            audit.equal(what, ("sent", tally.sent), ("answered or dropped", answered(tally) + tally.dropped()));
            audit.equal(what, ("dropped", tally.dropped()), ("causes", tally.causes.values().sum()));
            audit.equal(what, ("answered", answered(tally)), ("latencies", tally.latencies.count()));
        };
        let total = self.figures(None, None);
        balance(&mut audit, "total", &total);
        audit.equal("total", ("sent", self.sent_count), ("done", self.done_count + unfinished));
        audit.equal("total", ("done", self.done_count), ("in phases", total.ended()));
        audit.equal("total", ("dropped", total.dropped()), ("in causes", self.dropped()));
        for (phase, loads) in self.phases.iter().zip(&self.tallies) {
            for (load, tally) in self.config.loads.iter().zip(loads) {
                balance(&mut audit, &format!("phase {}, load {load}", phase.name), tally);
            }
        }
        let mut sent_in_rows = 0;
        for row in self.series.rows() {
            sent_in_rows += row.sent;
            let ended = row.ok + row.backend_error + row.dropped;
            audit.equal(&format!("second {}", row.t_s), ("sent", row.sent), ("answered or dropped", ended));
        }
        audit.equal("total", ("sent", total.sent), ("sent in seconds", sent_in_rows));
        self.audit = audit;
    }

    fn phase_rows(&self) -> Vec<Phase> {
        let ends = self.phases.iter().skip(1).map(|phase| phase.at).chain([self.config.end]);
        let rows = self.phases.iter().zip(ends).zip(&self.tallies);
        rows.map(|((phase, end), loads)| {
            let mut sum = Tally::default();
            loads.iter().for_each(|tally| sum.add(tally));
            Phase {
                name: phase.name.clone(),
                start_ms: millis(phase.at),
                end_ms: millis(end),
                totals: sum.totals(),
                latency_us: sum.latencies.figures(),
            }
        })
        .collect()
    }

    fn load_rows(&self) -> Vec<Load> {
        let rows = self.config.loads.iter().map(|name| {
            let sum = self.figures(None, Some(name));
            Load { name: name.clone(), totals: sum.totals(), latency_us: sum.latencies.figures() }
        });
        rows.collect()
    }

    fn cause_rows(&self) -> (Vec<Cause>, Vec<Sample>) {
        let mut causes: Vec<_> = self.causes.iter().collect();
        causes.sort_by_key(|(key, tally)| (std::cmp::Reverse(tally.count), *key));
        let row = |((code, source), tally): &(&(CauseCode, Option<Source>), &CauseTally)| Cause {
            code: code.code().to_owned(),
            name: code.name().to_owned(),
            count: tally.count,
            first_ms: millis(tally.first),
            last_ms: millis(tally.last),
            client_sees: by_frequency(&tally.outcomes),
            envoy_flag: (!tally.flags.is_empty()).then(|| by_frequency(&tally.flags)),
            source: source.clone(),
            // Of several the one that would have saved most.
            advice: tally
                .remedies
                .iter()
                .max_by_key(|(_, count)| **count)
                .and_then(|(remedy, _)| Some(remedy.as_ref()?.text().to_owned())),
        };
        let sample = |((code, _), tally): &(&(CauseCode, Option<Source>), &CauseTally)| Sample {
            cause: code.code().to_owned(),
            requests: tally.samples.clone(),
        };
        (causes.iter().map(row).collect(), causes.iter().map(sample).collect())
    }

    fn pod_rows(&self, mut pods: Vec<Pod>) -> Vec<Pod> {
        for pod in &mut pods {
            let tally = self.pods.get(&pod.name).copied().unwrap_or_default();
            pod.requests = tally.requests;
            pod.dropped = tally.dropped;
        }
        pods
    }

    fn request_rows(&mut self, pods: &[Pod]) -> Vec<RequestRow> {
        let nodes: BTreeMap<_, _> = pods.iter().map(|pod| (pod.name.as_str(), &pod.node)).collect();
        let mut rows = std::mem::take(&mut self.dropped_rows);
        rows.extend(std::mem::take(&mut self.served_rows).into_values());
        for row in &mut rows {
            row.node = row.pod.as_deref().and_then(|pod| nodes.get(pod).copied().cloned().flatten());
        }
        rows.sort_by(|left, right| {
            left.t_intended_s.total_cmp(&right.t_intended_s).then_with(|| left.request.cmp(&right.request))
        });
        rows
    }
}

fn name_at(phases: &[PhaseStart], at: SimTime) -> &str {
    let phase = phases.iter().rfind(|phase| phase.at <= at).or(phases.first());
    phase.map_or("", |phase| phase.name.as_str())
}

fn whole_seconds(at: SimTime) -> u64 {
    at.as_nanos() / 1_000_000_000
}

fn start_of(t_s: u64) -> SimTime {
    SimTime::ZERO.after(Duration::from_secs(t_s))
}

/// Milliseconds on the clock of the run, rounded down.
#[must_use]
pub fn millis(at: SimTime) -> u64 {
    at.as_nanos() / 1_000_000
}

/// The keys, most frequent first; of equal ones the first by name.
fn by_frequency<K: AsRef<str>>(counts: &BTreeMap<K, u64>) -> String {
    let mut keys: Vec<_> = counts.iter().collect();
    keys.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    keys.into_iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>().join(", ")
}

/// Spreads (load, number) evenly over all 64-bit numbers, each to a different one (for fewer than 2^48 requests).
/// Source: the finalizer of splitmix64 (Steele, Lea, Flood 2014).
fn sample_hash(load: usize, number: u64) -> u64 {
    let mut hash = number ^ (u64::try_from(load).unwrap_or(u64::MAX) << 48);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests;
