//! Goal: a comparison says what its pairs prove, and the same in every format. Method: hand-made results, snapshots, and
//! properties over random figures.

use proptest::collection::vec;
use proptest::prelude::*;

use super::sample::{FEW, Few, blank, cause, few, slo, varied};
use super::*;
use crate::record::results::{Level, Phase, Rollout};
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

fn without_colour(text: &str) -> String {
    let mut is_escape = false;
    let is_plain = |character: &char| {
        let was_escape = is_escape;
        is_escape = *character == '\x1b' || (is_escape && *character != 'm');
        !was_escape && !is_escape
    };
    text.chars().filter(is_plain).collect()
}

#[test]
fn a_fix_is_told_in_every_format() {
    let comparison = compared(&varied(LOSING, 42..=46), &varied(FIXED, 42..=46));
    assert_eq!(comparison.verdict, Verdict::Better);
    assert!(!comparison.regressed());
    let next = Some("gatedrill run rolling-upgrade-fixed");
    insta::assert_snapshot!("fix_text", text::text(&comparison, Paint::Plain, next));
    insta::assert_snapshot!("fix_md", md::md(&comparison));
}

#[test]
fn a_regression_is_told_in_every_format() {
    let comparison = compared(&varied(FIXED, 42..=42), &varied(LOSING, 42..=42));
    assert_eq!(comparison.verdict, Verdict::Worse);
    assert!(comparison.regressed());
    insta::assert_snapshot!("regression_text", text::text(&comparison, Paint::Plain, None));
    insta::assert_snapshot!("regression_md", md::md(&comparison));
}

#[test]
fn the_json_format_is_pinned() {
    let blank = blank();
    let runs = |dropped: [u64; 2]| -> Vec<_> {
        [7, 8].into_iter().zip(dropped).map(|(seed, dropped)| few(&blank, seed, Few { dropped, ..FEW })).collect()
    };
    let (base, mut head) = (runs([12, 3]), runs([9, 5]));
    head[0].latency_us.p99 = None;
    insta::assert_snapshot!("json", json::json(&compared(&base, &head)));
}

#[test]
fn identical_sides_are_identical_everywhere() {
    let runs = varied(LOSING, 42..=46);
    let comparison = compared(&runs, &runs);
    assert_eq!(comparison.verdict, Verdict::Identical);
    assert!(comparison.rows.iter().all(|row| row.verdict == Some(Verdict::Identical)));
    assert!(!comparison.regressed() && comparison.improvements.is_empty());
    assert_eq!(text::verdict(&comparison, Paint::Plain, None), "IDENTICAL no figure differs");
    // "IDENTICAL no figure differs · next: " has 36 signs.
    for (length, lines) in [(44, 1), (45, 2)] {
        let next = "x".repeat(length);
        for paint in [Paint::Plain, Paint::Ansi] {
            assert_eq!(text::verdict(&comparison, paint, Some(&next)).lines().count(), lines, "{length}");
        }
        assert!(text::verdict(&comparison, Paint::Plain, Some(&next)).ends_with(&format!("next: {next}")));
    }
}

#[test]
fn p99_gates_above_its_tolerance_only() {
    let of = |base, head| single(Few { p99: Some(base), ..FEW }, Few { p99: Some(head), ..FEW });
    let slower = of(20_000, 21_000);
    assert_eq!(slower.row("latency_p99").unwrap().verdict, Some(Verdict::Worse));
    assert!(!slower.regressed());
    assert_eq!(slower.verdict, Verdict::NotProven);
    let too_slow = of(20_000, 21_001);
    assert!(too_slow.regressed());
    assert_eq!(too_slow.regressions[0].name, "latency_p99");
    assert_eq!(of(21_000, 20_000).improvements, []);
    assert_eq!(of(21_001, 20_000).improvements.len(), 1);
}

#[test]
fn one_request_lost_more_is_a_regression() {
    let of = |base, head| single(Few { dropped: base, ..FEW }, Few { dropped: head, ..FEW });
    assert!(of(0, 1).regressed());
    assert!(!of(1, 1).regressed());
    assert!(!of(1, 0).regressed());
    assert_eq!(of(0, 1).sentence, "few is worse with seed 1: 0 → 1 lost.");
    assert!(single(FEW, Few { backend_error: 1, ..FEW }).regressed(), "a 5xx more is one, too");
}

#[test]
fn sentences_say_in_how_many_seeds() {
    let blank = blank();
    let runs = |dropped: &[u64]| -> Vec<_> {
        (1..).zip(dropped).map(|(seed, &dropped)| few(&blank, seed, Few { dropped, ..FEW })).collect()
    };
    let check = |base: &[u64], head: &[u64], expected: &str| {
        assert_eq!(compared(&runs(base), &runs(head)).sentence, expected);
    };
    check(&[1_234, 1_500, 900], &[0, 0, 2], "few is better in every seed: 1,234 → 0 lost (median).");
    check(&[9; 9], &[1, 1, 1, 1, 1, 1, 1, 1, 10], "few is better in 8 of 9 seeds: 9 → 1 lost (median).");
    check(
        &[5, 5, 5],
        &[4, 4, 6],
        "No difference in lost requests is proven: 5 → 4 lost (median), better in 2 and worse in 1 of 3 seeds.",
    );
    check(&[7, 8], &[7, 8], "Both sides lose the same in every seed: 7.5 (median).");
    check(&[0, 0], &[0, 0], "Neither side loses a request.");
}

#[test]
fn an_slo_of_level_error_that_one_seed_breaks_is_a_regression() {
    let blank = blank();
    let runs = |level, oks: [bool; 2]| -> Vec<_> {
        [1, 2]
            .into_iter()
            .zip(oks)
            .map(|(seed, ok)| Results { slo: vec![slo("x", level, ok)], ..few(&blank, seed, FEW) })
            .collect()
    };
    let of = |base_level, base, head_level, head| compared(&runs(base_level, base), &runs(head_level, head));
    let broken = of(Level::Error, [true, true], Level::Error, [true, false]);
    let finding = Finding { kind: FindingKind::Slo, name: "x".into(), seeds: vec![2] };
    assert_eq!(broken.regressions, [finding]);
    assert_eq!(sentence::others(&broken), ["Worse: SLO `x` is no longer met with seed 2."]);
    assert!(
        of(Level::Error, [true, true], Level::Warn, [true, false]).regressed(),
        "lowering the level excuses nothing"
    );
    assert!(!of(Level::Warn, [true, true], Level::Warn, [false, false]).regressed());
    assert!(!of(Level::Error, [true, false], Level::Error, [true, false]).regressed());
    // Seeds do not make up for each other.
    let both = of(Level::Error, [true, false], Level::Error, [false, true]);
    assert!(both.regressed() && both.improvements.len() == 1);
}

#[test]
fn an_slo_of_one_side_is_listed_and_breaks_nothing() {
    let blank = blank();
    let base = Results { slo: Vec::new(), ..few(&blank, 1, FEW) };
    let head = few(&blank, 1, Few { slo_ok: false, ..FEW });
    let comparison = compared(&[base], &[head]);
    assert!(!comparison.regressed());
    assert_eq!((comparison.slo[0].base.clone(), comparison.slo[0].head.as_ref().unwrap().seeds_met), (None, 0));
}

fn rollout(duration_ms: Option<u64>) -> Rollout {
    Rollout {
        object: "istio-system/istio-edge".into(),
        revision: 2,
        start_ms: 60_000,
        end_ms: duration_ms.map(|duration_ms| 60_000 + duration_ms),
        duration_ms,
        complete: duration_ms.is_some(),
        stuck_ms: None,
        pods_max: 5,
        ready_min: 4,
    }
}

#[test]
fn what_is_missing_is_absent_and_never_zero() {
    let base = Results { rollouts: vec![rollout(Some(40_000)), rollout(Some(58_500))], ..blank() };
    let comparison = compared(std::slice::from_ref(&base), &[blank()]);
    let row = comparison.row("rollout_duration").unwrap();
    assert_eq!((row.base, row.head, row.change, row.verdict), (Some(58_500.0), None, None, None));
    let stuck = Results { rollouts: vec![rollout(Some(40_000)), rollout(None)], ..blank() };
    let comparison = compared(&[base], &[stuck]);
    assert_eq!(comparison.row("rollout_duration").unwrap().head, None, "one that is stuck takes no time");
    assert_eq!(comparison.row("rollouts_unfinished").unwrap().verdict, Some(Verdict::Worse));
    let none = compared(&[blank()], &[blank()]);
    assert_eq!(none.row("rollout_duration"), None, "nothing on either side is no row");
}

#[test]
fn more_pods_are_neither_better_nor_worse() {
    let with = |pods_max, ready_min| Results {
        rollouts: vec![Rollout { pods_max, ready_min, ..rollout(Some(50_000)) }],
        ..blank()
    };
    let comparison = compared(&[with(5, 4)], &[with(6, 5)]);
    let row = comparison.row("pods_max").unwrap();
    assert_eq!((row.change, row.verdict), (Some(1.0), None));
    assert_eq!(comparison.row("ready_min").unwrap().verdict, Some(Verdict::Better));
}

#[test]
fn causes_of_one_side_count_zero_on_the_other() {
    let with = |causes| Results { causes, ..blank() };
    // One code, two settings behind it.
    let base = with(vec![cause("GD4101", "lb-stale-target", 3), cause("GD4101", "lb-stale-target", 2)]);
    let comparison = compared(&[base], &[with(vec![cause("GD4303", "keepalive-race", 9)])]);
    let causes: Vec<_> =
        comparison.rows.iter().filter_map(|row| Some((row.cause.as_deref()?, row.base, row.head))).collect();
    assert_eq!(
        causes,
        [("GD4303 keepalive-race", Some(0.0), Some(9.0)), ("GD4101 lb-stale-target", Some(5.0), Some(0.0))]
    );
}

#[test]
fn phases_are_the_union_and_repeated_names_are_numbered() {
    let told = sample::told(LOSING);
    let with = |names: &[&str]| {
        let phases =
            names.iter().zip(&told.phases).map(|(name, phase)| Phase { name: (*name).into(), ..phase.clone() });
        Results { phases: phases.collect(), ..blank() }
    };
    let comparison = compared(&[with(&["before", "restart", "restart"])], &[with(&["before", "restart", "drain"])]);
    let phases: Vec<_> = comparison
        .rows
        .iter()
        .filter(|row| row.name == "dropped_count")
        .filter_map(|row| Some((row.phase.as_deref()?, row.base.is_some(), row.head.is_some())))
        .collect();
    assert_eq!(
        phases,
        [("before", true, true), ("restart", true, true), ("restart (2)", true, false), ("drain", false, true)]
    );
}

#[test]
fn runs_that_do_not_pair_are_refused() {
    let blank = blank();
    let run = |seed| few(&blank, seed, FEW);
    let sending = |sent| {
        let mut run = run(1);
        run.totals.sent = sent;
        run
    };
    let other = || {
        let mut run = run(2);
        run.scenario.variant = Some("long".into());
        run
    };
    #[track_caller]
    fn check(base: &[Results], head: &[Results], expected: &str) {
        assert_eq!(of(base, head).unwrap_err().to_string(), expected);
    }
    check(&[run(1)], &[], "`head` has no runs");
    check(&[run(1), run(1)], &[run(1)], "`few` has seed 1 twice: which run should be compared?");
    check(
        &[run(1), other()],
        &[run(1)],
        "`few` has runs of several scenarios, `few` and `few/long`: a side is one of them",
    );
    check(
        &[run(1), run(2)],
        &[run(2), run(3)],
        "the seeds do not pair: `few` has seed 1, which `few` does not have (run both with the same seeds)",
    );
    let cut = Results { complete: false, ..run(1) };
    check(&[run(1)], &[cut], "the run of `few` with seed 1 was interrupted: run it again to the end");
    check(
        &[sending(10_000)],
        &[sending(9_899)],
        "the loads do not pair: with seed 1 `few` sends 10000 requests and `few` 9899 (give both the same load and duration)",
    );
    assert!(!of(&[sending(10_000)], &[sending(9_900)]).unwrap().same_arrivals, "a little less is told and not refused");
    assert!(of(&[run(2), run(1)], &[run(1), run(2)]).unwrap().same_arrivals, "the order of runs does not matter");
}

#[test]
fn eighty_columns_suffice() {
    let (mut base, mut head) = (varied(LOSING, 1..=12), varied(FIXED, 1..=12));
    base.remove(7);
    head.remove(7);
    for run in &mut base {
        run.scenario.variant = Some("a-variant-with-a-rather-long-name".into());
        run.totals.dropped *= 1_000_000;
        run.causes[0].name = "a-cause-with-a-rather-long-name".into();
        run.latency_us.max = Some(3_600_000_000);
    }
    head.iter_mut().for_each(|run| run.rollouts.clear());
    let next = "gatedrill compare scenarios/rolling-upgrade scenarios/rolling-upgrade-fixed --seeds 5";
    let text = text::text(&compared(&base, &head), Paint::Plain, Some(next))
        + &text::text(&compared(&head, &base), Paint::Plain, None);
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn colour_adds_nothing_but_colour() {
    let comparison = compared(&varied(LOSING, 1..=2), &varied(FIXED, 1..=2));
    let coloured = text::text(&comparison, Paint::Ansi, Some("next"));
    assert!(coloured.contains('\x1b'));
    assert_eq!(without_colour(&coloured), text::text(&comparison, Paint::Plain, Some("next")));
}

#[test]
fn json_counts_are_whole_and_keys_sorted() {
    let comparison = compared(&varied(LOSING, 1..=2), &varied(FIXED, 1..=2));
    let text = json::json(&comparison);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let row = &value["rows"][0];
    assert_eq!((row["name"].as_str(), row["pairs"][0]["head"].as_u64()), (Some("dropped_count"), Some(0)));
    let keys: Vec<_> = text.lines().filter(|line| line.starts_with("  \"")).collect();
    assert!(keys.is_sorted() && keys.len() > 8, "{keys:?}");
}

fn any_few() -> impl Strategy<Value = Few> {
    let p99 =
        prop_oneof![1 => Just(None), 9 => (19_990_u64..20_030).prop_map(Some), 3 => (1_u64..90_000).prop_map(Some)];
    (0_u64..4, 0_u64..3, p99, any::<bool>()).prop_map(|(dropped, backend_error, p99, slo_ok)| Few {
        dropped,
        backend_error,
        p99,
        slo_ok,
    })
}

proptest! {
    #[test]
    fn swapping_the_sides_swaps_the_verdicts(pairs in vec((any_few(), any_few()), 1..9)) {
        let blank = blank();
        let runs = |pick: fn(&(Few, Few)) -> Few| -> Vec<_> {
            (1..).zip(&pairs).map(|(seed, pair)| few(&blank, seed, pick(pair))).collect()
        };
        let (base, head) = (runs(|pair| pair.0), runs(|pair| pair.1));
        let (there, back) = (compared(&base, &head), compared(&head, &base));
        for (there, back) in there.rows.iter().zip(&back.rows) {
            prop_assert_eq!((there.name, &there.cause), (back.name, &back.cause));
            prop_assert_eq!(there.verdict, back.verdict.map(Verdict::swapped));
            prop_assert_eq!((there.seeds_better, there.seeds_worse), (back.seeds_worse, back.seeds_better));
            prop_assert_eq!((there.base, there.head), (back.head, back.base));
        }
        prop_assert_eq!(there.rows.len(), back.rows.len());
        prop_assert_eq!(&there.regressions, &back.improvements);
        prop_assert_eq!(&there.improvements, &back.regressions);
        prop_assert_eq!(there.regressed(), there.verdict == Verdict::Worse);

        let same = compared(&base, &base);
        prop_assert_eq!(same.verdict, Verdict::Identical);
        prop_assert!(same.rows.iter().all(|row| row.verdict == Some(Verdict::Identical)));
        prop_assert!(!same.regressed());
    }
}
