//! Runs made up for tests: drills of the reports' sample story, and small ones in which only a few figures matter.

use crate::record::Results;
use crate::record::results::{
    Cause, GatewayFacts, LatencyUs, Level, SCHEMA_VERSION, ScenarioId, Slo, Span, Totals, Verdict,
};
use crate::report::sample::Story;

/// The figures that matter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Few {
    pub dropped: u64,
    pub backend_error: u64,
    pub p99: Option<u64>,
    pub slo_ok: bool,
}

pub(crate) const FEW: Few = Few { dropped: 0, backend_error: 0, p99: Some(20_000), slo_ok: true };
const SENT: u64 = 10_000;

/// A run of the sample story, without the text of its histograms.
pub(crate) fn told(story: Story) -> Results {
    let mut run = story.tell().0.results;
    run.latency_us.hdr_v2_base64.clear();
    run.phases.iter_mut().for_each(|phase| phase.latency_us.hdr_v2_base64.clear());
    run
}

/// Runs of `base` and `head` with these seeds, told once each and then varied a little: by seed, lost requests and
/// latencies go up.
pub(crate) fn varied(story: Story, seeds: std::ops::RangeInclusive<u64>) -> Vec<Results> {
    let run = told(story);
    seeds
        .enumerate()
        .map(|(index, seed)| {
            let mut run = run.clone();
            run.seed = seed;
            let more = u64::try_from(index).unwrap();
            let bump = |latency: &mut LatencyUs| {
                for figure in [&mut latency.p99, &mut latency.p99_9, &mut latency.max].into_iter().flatten() {
                    *figure += 40 * more;
                }
            };
            if let Some(cause) = run.causes.first_mut() {
                cause.count += more;
                lose(&mut run.totals, more);
                lose(&mut run.phases[1].totals, more);
            }
            bump(&mut run.latency_us);
            run.phases.iter_mut().for_each(|phase| bump(&mut phase.latency_us));
            run
        })
        .collect()
}

fn lose(totals: &mut Totals, more: u64) {
    totals.refused += more;
    totals.dropped += more;
    totals.ok -= more;
    totals.dropped_ratio = crate::record::tally::ratio(totals.dropped, totals.sent);
}

/// A run without rollouts and phases.
pub(crate) fn few(blank: &Results, seed: u64, figures: Few) -> Results {
    let Few { dropped, backend_error, p99, slo_ok } = figures;
    let ratio = |part| crate::record::tally::ratio(part, SENT);
    Results {
        seed,
        totals: Totals {
            sent: SENT,
            ok: SENT - dropped - backend_error,
            backend_error,
            refused: dropped,
            dropped,
            dropped_ratio: ratio(dropped),
            error_ratio: ratio(backend_error),
            ..Totals::default()
        },
        latency_us: LatencyUs { p99, ..LatencyUs::default() },
        causes: if dropped == 0 { Vec::new() } else { vec![cause("GD4101", "lb-stale-target", dropped)] },
        slo: vec![slo("no loss", Level::Error, slo_ok)],
        verdict: if slo_ok { Verdict::Pass } else { Verdict::Fail },
        ..blank.clone()
    }
}

/// A run with nothing in it.
pub(crate) fn blank() -> Results {
    Results {
        schema_version: SCHEMA_VERSION.into(),
        engine_version: "0.1.0".into(),
        scenario: ScenarioId { name: "few".into(), variant: None, input_hash: "5f2c9a10d7e3b846".into() },
        seed: 1,
        fingerprint: "7f3a".into(),
        complete: true,
        verdict: Verdict::Pass,
        measured: Span::default(),
        unfinished: 0,
        totals: Totals::default(),
        latency_us: LatencyUs::default(),
        phases: Vec::new(),
        loads: Vec::new(),
        causes: Vec::new(),
        rollouts: Vec::new(),
        pods: Vec::new(),
        targets: Vec::new(),
        autoscaler: Vec::new(),
        gateway: GatewayFacts::default(),
        slo: Vec::new(),
        fidelity: Vec::new(),
        samples: Vec::new(),
    }
}

pub(crate) fn cause(code: &str, name: &str, count: u64) -> Cause {
    Cause {
        code: code.into(),
        name: name.into(),
        count,
        first_ms: 0,
        last_ms: 0,
        client_sees: "refused".into(),
        envoy_flag: None,
        source: None,
        advice: None,
    }
}

pub(crate) fn slo(name: &str, level: Level, ok: bool) -> Slo {
    let value = if ok { 0.0 } else { 0.002 };
    Slo {
        name: name.into(),
        expr: "dropped_ratio <= 0.1%".into(),
        level,
        limit: 0.001,
        value: Some(value),
        unit: "ratio".into(),
        ok,
        margin_ratio: Some(1.0 - value / 0.001),
    }
}
