//! The books under honest and dishonest worlds.

use super::*;
use crate::record::RequestId;

fn recorder() -> Recorder {
    Recorder::new(RecorderConfig {
        start: at(10_000),
        end: at(14_000),
        loads: vec!["web".into(), "mobile".into()],
        first_phase: "before".into(),
        dropped_rows_max: 3,
        served_rows: 5,
    })
}

fn facts() -> Facts {
    Facts {
        engine_version: "test".into(),
        scenario: ScenarioId::default(),
        seed: 1,
        fingerprint: String::new(),
        complete: true,
        rollouts: Vec::new(),
        pods: vec![Pod { name: "a/p".into(), node: Some("n1".into()), ..Pod::default() }],
        targets: Vec::new(),
        autoscaler: Vec::new(),
        gateway: GatewayFacts::default(),
        slo: Vec::new(),
        fidelity: Vec::new(),
    }
}

fn at(t_ms: u64) -> SimTime {
    SimTime::from_nanos(t_ms * 1_000_000)
}

fn served(number: u64, due_ms: u64, latency_ms: u64) -> Done<'static> {
    Done {
        request: RequestId { client: 1, number },
        load: 0,
        intended_at: at(due_ms),
        ended_at: at(due_ms + latency_ms),
        outcome: Outcome::Ok,
        status: Some(200),
        flag: None,
        cause: None,
        pod: Some("a/p"),
        method: "GET",
        url: "http://web.example.com/",
        connection: Some(7),
        retries: 0,
    }
}

fn lost(number: u64, due_ms: u64) -> Done<'static> {
    let cause = Lost { code: CauseCode::LbStaleTarget, event: None, source: None, remedy: None };
    Done { outcome: Outcome::Refused, status: None, cause: Some(cause), ..served(number, due_ms, 20) }
}

fn tell(recorder: &mut Recorder, done: &Done<'_>) {
    recorder.sent(done.load, done.intended_at);
    recorder.done(done);
}

#[test]
fn requests_count_in_the_phase_and_second_they_were_due_in() {
    let mut recorder = recorder();
    recorder.sent(0, at(11_999));
    recorder.phase("rollout", at(12_000));
    tell(&mut recorder, &lost(2, 12_000));
    recorder.done(&served(1, 11_999, 1_500));
    tell(&mut recorder, &Done { load: 1, outcome: Outcome::BackendError, ..served(3, 13_000, 5) });

    let run = recorder.finish(facts()).unwrap();
    let phases: Vec<_> = run.results.phases.iter().map(|phase| (phase.name.as_str(), phase.totals.sent)).collect();
    assert_eq!(phases, [("before", 1), ("rollout", 2)]);
    let rows: Vec<_> = run.seconds.iter().map(|row| (row.t_s, row.phase.as_str(), row.ok, row.dropped)).collect();
    assert_eq!(rows, [(10, "before", 0, 0), (11, "before", 1, 0), (12, "rollout", 0, 1), (13, "rollout", 0, 0)]);
    assert_eq!(run.seconds[1].latency_p50_us, Some(1_500_159));
    assert_eq!(run.results.loads[1].totals.backend_error, 1);
    assert_eq!(run.results.totals.error_ratio, Some(1.0 / 3.0));
    assert_eq!((run.results.pods[0].requests, run.results.pods[0].dropped), (3, 1));
    assert_eq!(run.requests[1].node.as_deref(), Some("n1"));
}

#[test]
fn warm_up_and_tail_are_not_counted() {
    let mut recorder = recorder();
    tell(&mut recorder, &lost(1, 9_999));
    tell(&mut recorder, &lost(2, 14_000));
    recorder.connection_opened(0, at(9_999));
    recorder.connection_opened(0, at(10_000));
    let run = recorder.finish(facts()).unwrap();
    assert_eq!((run.results.totals.sent, run.results.totals.connections_opened), (0, 1));
    assert_eq!(run.results.totals.dropped_ratio, None);
}

#[test]
fn a_request_that_never_ends_breaks_the_books() {
    let mut recorder = recorder();
    tell(&mut recorder, &served(1, 10_000, 1));
    recorder.sent(0, at(10_001));
    let broken = recorder.finish(facts()).unwrap_err();
    assert!(broken.to_string().contains("total: 2 sent but 1 answered or dropped"), "{broken}");
}

#[test]
fn a_request_that_ends_twice_breaks_the_books() {
    let mut recorder = recorder();
    tell(&mut recorder, &served(1, 10_000, 1));
    recorder.done(&served(1, 10_000, 1));
    assert!(recorder.finish(facts()).is_err());
}

#[test]
fn a_loss_without_a_cause_breaks_the_books() {
    let mut recorder = recorder();
    tell(&mut recorder, &Done { cause: None, ..lost(1, 10_000) });
    let broken = recorder.finish(facts()).unwrap_err();
    assert!(broken.to_string().contains("request c0001-r1 ended as refused and has no cause"), "{broken}");
}

#[test]
fn an_interrupted_run_counts_what_had_ended() {
    let mut recorder = recorder();
    tell(&mut recorder, &served(1, 10_000, 1));
    recorder.sent(0, at(10_001));
    let run = recorder.finish(Facts { complete: false, ..facts() }).unwrap();
    assert_eq!((run.results.totals.sent, run.results.unfinished, run.results.complete), (1, 1, false));
}

#[test]
fn rows_are_kept_up_to_a_cap_and_the_sample_is_even() {
    let mut recorder = recorder();
    for number in 0..1_000 {
        tell(&mut recorder, &served(number, 10_000 + number, 1));
        tell(&mut recorder, &lost(1_000 + number, 11_000));
    }
    let run = recorder.finish(facts()).unwrap();
    let dropped = run.requests.iter().filter(|row| row.outcome == "refused").count();
    assert_eq!((dropped, run.requests.len()), (3, 8));
    assert_eq!(run.results.causes[0].count, 1_000);
    assert_eq!(run.results.samples[0].requests.len(), 5);
}

#[test]
fn losses_are_told_apart_by_the_setting_behind_them() {
    let mut recorder = recorder();
    let source =
        |line| Some(Source { file: Some("a.yaml".into()), line: Some(line), path: "spec.x".into(), value: None });
    for (number, line) in [(1, 3), (2, 9), (3, 9)] {
        let cause = Lost { code: CauseCode::ExitInFlight, event: None, source: source(line), remedy: None };
        tell(&mut recorder, &Done { cause: Some(cause), flag: Some("UC"), ..lost(number, 10_000 + number) });
    }
    let causes = recorder.finish(facts()).unwrap().results.causes;
    let rows: Vec<_> = causes.iter().map(|row| (row.count, row.source.clone(), row.first_ms)).collect();
    assert_eq!(rows, [(2, source(9), 10_002), (1, source(3), 10_001)]);
    assert_eq!((causes[0].client_sees.as_str(), causes[0].envoy_flag.as_deref()), ("refused", Some("UC")));
}

#[test]
fn a_phase_at_the_same_instant_takes_the_place_of_the_other() {
    let mut recorder = recorder();
    recorder.phase("warm", at(9_000));
    recorder.phase("rollout", at(12_000));
    recorder.phase("rollback", at(12_000));
    recorder.phase("too late", at(14_000));
    tell(&mut recorder, &lost(1, 12_000));
    assert_eq!(recorder.figures(Some("rollback"), Some("web")).dropped(), 1);
    assert_eq!(
        recorder.seconds().map(|(phase, _)| phase).collect::<Vec<_>>(),
        ["warm", "warm", "rollback", "rollback"]
    );
}
