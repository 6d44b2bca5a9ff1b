//! The gallery as a user runs it: totals, causes, verdicts, exit codes and files are pinned.
//!
//! A change of these figures is a change of what the simulator says: it belongs into the changelog with its reason.

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

fn gatedrill(out_dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("gatedrill").expect("the binary is built with the tests");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("NO_COLOR", "1");
    command.args(arguments).arg("--out-dir").arg(out_dir).output().expect("the command runs")
}

fn results(out_dir: &Path, run: &str) -> Value {
    let text = fs::read_to_string(out_dir.join(run).join("results.json")).expect("a run folder with results");
    serde_json::from_str(&text).expect("JSON")
}

/// Lost requests by cause, as `code count`.
fn causes(results: &Value) -> Vec<String> {
    let rows = results["causes"].as_array().expect("a list");
    rows.iter().map(|row| format!("{} {}", row["code"].as_str().expect("a code"), row["count"])).collect()
}

#[test]
fn a_rolling_upgrade_with_the_consoles_defaults_loses_requests() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/rolling-upgrade"]);
    assert_eq!(output.status.code(), Some(99), "{}", String::from_utf8_lossy(&output.stderr));
    let found = results(folder.path(), "rolling-upgrade-42");
    assert_eq!(found["totals"]["sent"], 126_075);
    assert_eq!(found["totals"]["dropped"], 654);
    assert_eq!(found["verdict"], "fail");
    let causes = causes(&found);
    assert_eq!(causes.iter().map(|row| &row[..6]).collect::<Vec<_>>(), ["GD4302", "GD4101", "GD4103"]);
    // At least two of them name the line of a manifest that sets them.
    let rows = found["causes"].as_array().expect("a list");
    let with_lines = rows.iter().filter(|row| {
        let file = row["source"]["file"].as_str().unwrap_or_default();
        file.ends_with("manifests/gateway.yaml") && row["source"]["line"].as_u64().is_some()
    });
    assert!(with_lines.count() >= 2, "{rows:#?}");
    assert_eq!(found["phases"].as_array().map(Vec::len), Some(3), "before, rollout, after");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80 || line.contains("next:") || line.contains('[')),
        "{text}"
    );
    assert!(text.contains("manifests/gateway.yaml:4"), "{text}");
    for file in [
        "meta.json",
        "events.ndjson",
        "timeline.csv",
        "requests.csv",
        "latency.hgrm",
        "scenario.resolved.yaml",
        "report.html",
    ] {
        let path = folder.path().join("rolling-upgrade-42").join(file);
        assert!(fs::metadata(&path).is_ok_and(|file| file.len() > 0), "{file}");
    }
}

#[test]
fn with_graceful_shutdown_the_same_upgrade_loses_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/rolling-upgrade-fixed", "--verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let found = results(folder.path(), "rolling-upgrade-fixed-42");
    assert!(found["totals"]["sent"].as_u64() >= Some(100_000));
    assert_eq!(found["totals"]["dropped"], 0);
    assert!(causes(&found).is_empty());
}

#[test]
fn scaling_in_loses_none_only_with_a_drain_timeout() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/graceful-shutdown", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    let of = |run: &str| {
        let found = results(folder.path(), run);
        (found["totals"]["sent"].as_u64(), found["totals"]["dropped"].as_u64(), causes(&found).concat())
    };
    let (sent, dropped, by_cause) = of("graceful-shutdown-11");
    assert_eq!((sent, dropped), (Some(29_061), Some(320)));
    assert!(by_cause.contains("GD4101") && by_cause.contains("GD4104"), "{by_cause}");
    let (sent, dropped, by_cause) = of("graceful-shutdown-connection-drain-11");
    assert_eq!((sent, dropped), (Some(29_061), Some(316)));
    assert!(!by_cause.contains("GD4104"), "draining keeps the balancer from cutting: {by_cause}");
    assert_eq!(of("graceful-shutdown-drain-timeout-11"), (Some(29_061), Some(0), String::new()));
}

#[test]
fn a_surge_outruns_the_autoscaler_unless_there_is_headroom() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/hpa-surge", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99), "{}", String::from_utf8_lossy(&output.stderr));
    let of = |run: &str| {
        let found = results(folder.path(), run);
        let syncs = found["autoscaler"].as_array().expect("a list");
        let sizes = |key: &str| syncs.iter().filter_map(|sync| sync[key].as_u64()).collect::<Vec<_>>();
        let (before, after) = (sizes("current"), sizes("desired"));
        assert!(syncs.len() >= 10 && before.len() == syncs.len() && after.len() == syncs.len(), "{syncs:?}");
        assert!(after.iter().all(|size| (2..=12).contains(size)), "within its bounds: {after:?}");
        let first = syncs.iter().find(|sync| sync["desired"] != sync["current"]).expect("a change");
        let metric = &first["metrics"][0];
        assert_eq!((&metric["name"], &metric["target"]), (&"cpu".into(), &60.0.into()));
        let rows = fs::read_to_string(folder.path().join(run).join("timeline.csv")).expect("a timeline");
        let wanted = rows.lines().next().and_then(|head| head.split(',').position(|name| name == "hpa_desired"));
        let last = rows.lines().last().and_then(|row| row.split(',').nth(wanted.expect("a column")));
        assert_eq!(last.map(str::to_owned), after.last().map(ToString::to_string));
        let change = (first["t_ms"].as_u64(), first["current"].as_u64(), first["desired"].as_u64());
        (found["totals"]["dropped"].as_u64(), causes(&found).concat(), change)
    };
    // The surge begins at 80 s of the run and is full at 90 s: the first change comes 29 s after it began.
    let (dropped, by_cause, change) = of("hpa-surge-21");
    assert_eq!((dropped, &*by_cause, change), (Some(42_587), "GD4301 42587", (Some(109_132), Some(2), Some(4))));
    let (dropped, by_cause, _) = of("hpa-surge-quick-pods-21");
    assert_eq!((dropped, &*by_cause), (Some(37_301), "GD4301 37301"));
    assert_eq!(of("hpa-surge-headroom-21").0, Some(0));
}

#[test]
fn more_connections_than_memory_end_the_gateway_again_and_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/connection-storm", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    let found = results(folder.path(), "connection-storm-5");
    assert_eq!((found["totals"]["sent"].as_u64(), found["totals"]["dropped"].as_u64()), (Some(27_326), Some(17_164)));
    assert_eq!(causes(&found), ["GD4112 11261", "GD4130 5343", "GD4105 551", "GD4104 9"]);
    let row = found["causes"].as_array().and_then(|rows| rows.iter().find(|row| row["code"] == "GD4112"));
    let source = &row.expect("a row")["source"];
    assert_eq!((source["line"].as_u64(), source["value"].as_str()), (Some(25), Some("64Mi")));
    let limit = 64 << 20;
    let pods = found["pods"].as_array().expect("a list");
    assert_eq!(pods.len(), 3, "restarted in place, not replaced");
    for pod in pods {
        assert_eq!((pod["restarts"].as_u64(), pod["restart_reason"].as_str()), (Some(2), Some("OOMKilled")), "{pod}");
    }
    let most = |results: &Value| results["gateway"]["memory_bytes_max"].as_u64().expect("a figure");
    assert!(most(&found) <= limit, "looked at each second: nobody above the limit is left");
    let roomy = results(folder.path(), "connection-storm-roomy-5");
    assert_eq!((&roomy["totals"]["sent"], roomy["totals"]["dropped"].as_u64()), (&found["totals"]["sent"], Some(0)));
    assert!(most(&roomy) > limit && roomy["pods"].as_array().expect("a list").iter().all(|pod| pod["restarts"] == 0));
}

#[test]
fn a_small_balancer_drops_what_it_cannot_take() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/clb-spec-limit", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    let found = results(folder.path(), "clb-spec-limit-3");
    assert_eq!((found["totals"]["sent"].as_u64(), found["totals"]["dropped"].as_u64()), (Some(38_254), Some(4_073)));
    assert_eq!(causes(&found), ["GD4125 4073"]);
    let source = &found["causes"][0]["source"];
    assert_eq!((source["line"].as_u64(), source["value"].as_str()), (Some(17), Some("slb.s1.small")));
    let phases: Vec<_> = found["phases"].as_array().expect("a list").iter().collect();
    assert_eq!(
        phases.iter().map(|phase| phase["totals"]["dropped"].as_u64()).collect::<Vec<_>>(),
        [0, 3061, 1012].map(Some)
    );
    for variant in ["larger", "by-usage"] {
        let cured = results(folder.path(), &format!("clb-spec-limit-{variant}-3"));
        assert_eq!(
            (&cured["totals"]["sent"], cured["totals"]["dropped"].as_u64()),
            (&found["totals"]["sent"], Some(0))
        );
    }
}

#[test]
fn a_listener_for_http_chooses_a_pod_for_each_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/clb-http-listener", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    for (variant, dropped, found) in [
        ("", 60, &["GD4104 35", "GD4101 15", "GD4302 8", "GD4102 1", "GD4103 1"][..]),
        ("-http", 202, &["GD4304 120", "GD4101 51", "GD4302 30", "GD4103 1"]),
        ("-http-patient", 82, &["GD4101 52", "GD4302 30"]),
        ("-http-sticky", 162, &["GD4101 121", "GD4302 39", "GD4103 2"]),
        ("-http-small", 1472, &["GD4127 1390", "GD4101 52", "GD4302 30"]),
        ("-http-fixed", 0, &[]),
    ] {
        let results = results(folder.path(), &format!("clb-http-listener{variant}-7"));
        let totals = &results["totals"];
        assert_eq!((totals["sent"].as_u64(), totals["dropped"].as_u64()), (Some(35_022), Some(dropped)), "{variant}");
        assert_eq!(causes(&results), found, "{variant}");
    }
}

#[test]
fn a_dead_zone_takes_half_of_the_addresses_and_a_third_of_the_pods() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/nlb-zone-failure", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    for (variant, dropped, found) in [
        ("", 720, &["GD4126 552", "GD4110 168"][..]),
        ("-short-dns", 381, &["GD4110 232", "GD4126 149"]),
        ("-own-zone-only", 542, &["GD4126 475", "GD4110 54", "GD4130 13"]),
        ("-address-only", 529, &["GD4126 529"]),
    ] {
        let results = results(folder.path(), &format!("nlb-zone-failure{variant}-11"));
        let totals = &results["totals"];
        assert_eq!((totals["sent"].as_u64(), totals["dropped"].as_u64()), (Some(43_113), Some(dropped)), "{variant}");
        assert_eq!(causes(&results), found, "{variant}");
        let verdict = if variant == "-short-dns" { "pass" } else { "fail" };
        assert_eq!(results["verdict"], verdict, "{variant}");
    }
}

#[test]
fn two_processes_and_two_threads_give_the_same_bytes() {
    let [one, two] = [1, 2].map(|jobs| {
        let folder = tempfile::tempdir().expect("a folder");
        let jobs = jobs.to_string();
        gatedrill(folder.path(), &["run", "scenarios/graceful-shutdown", "--seeds", "2", "-q", "-j", &jobs]);
        ["graceful-shutdown-11", "graceful-shutdown-12"].map(|run| {
            ["results.json", "events.ndjson", "timeline.csv", "requests.csv", "report.html", "scenario.resolved.yaml"]
                .map(|file| fs::read(folder.path().join(run).join(file)).expect("a file of the run"))
                .concat()
        })
    });
    // `report.html` names the command, and with it the folder: compared apart from it would be another test.
    assert_eq!(one[0].len(), two[0].len());
    let [a, b] = [&one, &two].map(|runs| {
        String::from_utf8_lossy(&runs[0]).lines().filter(|line| !line.contains("--out-dir")).collect::<String>()
    });
    assert!(a == b, "two runs of one seed differ");
    assert_ne!(one[0], one[1], "another seed tells another story");
}

#[test]
fn a_comparison_tells_the_fix_and_its_loss() {
    let folder = tempfile::tempdir().expect("a folder");
    let better = gatedrill(
        folder.path(),
        &["compare", "scenarios/rolling-upgrade", "scenarios/rolling-upgrade-fixed", "--seeds", "5", "-o", "json"],
    );
    assert_eq!(better.status.code(), Some(0), "{}", String::from_utf8_lossy(&better.stderr));
    let found: Value = serde_json::from_slice(&better.stdout).expect("standard output is pure JSON");
    assert_eq!(found["verdict"], "better");
    let lost = found["rows"]
        .as_array()
        .and_then(|rows| rows.iter().find(|row| row["name"] == "dropped_count"))
        .expect("a row");
    assert_eq!(lost["verdict"], "better");
    let pairs = lost["pairs"].as_array().expect("pairs");
    assert_eq!(pairs.len(), 5);
    assert!(pairs.iter().all(|pair| pair["head"].as_f64() < pair["base"].as_f64()), "{pairs:?}");
    let worse = gatedrill(
        folder.path(),
        &["compare", "scenarios/rolling-upgrade-fixed", "scenarios/rolling-upgrade", "--fail-on", "regression", "-q"],
    );
    assert_eq!(worse.status.code(), Some(98));
    let saved = [folder.path().join("rolling-upgrade-42"), folder.path().join("rolling-upgrade-fixed-42")];
    let [base, head] = saved.map(|path| path.to_string_lossy().into_owned());
    assert_eq!(gatedrill(folder.path(), &["compare", &base, &head, "-q"]).status.code(), Some(0));
}

#[test]
fn junit_is_read_by_a_junit_parser() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/graceful-shutdown", "-o", "junit"]);
    let report = quick_junit::Report::deserialize_from_str(&String::from_utf8_lossy(&output.stdout)).expect("JUnit");
    let cases: Vec<_> = report.test_suites.iter().flat_map(|suite| &suite.test_cases).collect();
    assert_eq!(cases.len(), 1, "one case per SLO");
    assert!(matches!(cases[0].status, quick_junit::TestCaseStatus::NonSuccess { .. }));
}

#[test]
fn an_image_that_cannot_be_pulled_costs_a_pod_until_somebody_acts() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/bad-image", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    let of = |run: &str| {
        let found = results(folder.path(), run);
        let rollouts: Vec<(bool, u64)> = found["rollouts"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|row| (row["complete"] == true, row["ready_min"].as_u64().expect("a count")))
            .collect();
        let events = fs::read_to_string(folder.path().join(run).join("events.ndjson")).expect("the log");
        let stuck = events.lines().filter(|line| line.contains("\"rollout_stuck\"")).count();
        (found["totals"]["sent"].as_u64(), found["totals"]["dropped"].as_u64(), rollouts, stuck)
    };
    assert_eq!(of("bad-image-42"), (Some(45_073), Some(2), vec![(false, 3)], 1));
    assert_eq!(of("bad-image-rolled-back-42"), (Some(45_073), Some(2), vec![(false, 3), (true, 3)], 1));
    assert_eq!(of("bad-image-unavailable-0-42"), (Some(45_073), Some(0), vec![(false, 4)], 1));
}

#[test]
fn what_kubectl_would_have_shown_of_a_rollout_that_sticks() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/bad-image", "--watch-objects=21s,1m"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let moments: Vec<&str> = text.split("\n\n").take(2).collect();
    let words = |moment: &str, start: &str| -> Vec<String> {
        let line = moment.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {moment}"));
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    };
    assert!(moments[0].starts_with("+21.0s") && moments[1].starts_with("+60.0s"), "{text}");
    let image = "registry.example.com/mesh/proxyv2:1.26.3-typo";
    assert_eq!(words(moments[1], "edge "), ["3/4", "2", "3", "65s", image]);
    assert!(moments[0].contains("ErrImagePull") && moments[0].contains("Terminating"), "{text}");
    assert!(moments[1].contains("ErrImagePull") || moments[1].contains("ImagePullBackOff"), "{text}");
    // An NLB is shown by its name.
    let front = ["LoadBalancer", "172.21.4.198", "nlb-490868fb6ee41571.nlb.aliyuncsslb.com", "80:32387/TCP", "65s"];
    let services = moments[1].lines().skip_while(|line| !line.contains("EXTERNAL-IP")).nth(1).expect("a Service");
    assert_eq!(services.split_whitespace().skip(1).collect::<Vec<_>>(), front, "{text}");
    assert_eq!(words(moments[1], "pool-a-1 "), ["Ready", "<none>", "65s", "v1.33.0", "192.168.0.10"]);
}

#[test]
fn a_resize_in_the_middle_grows_both_revisions() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/mid-rollout-scale", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    let of = |run: &str| {
        let found = results(folder.path(), run);
        let rollout = &found["rollouts"][0];
        assert_eq!(found["rollouts"].as_array().map(Vec::len), Some(1), "a resize is no rollout");
        assert_eq!(rollout["complete"], true);
        (found["totals"]["dropped"].as_u64(), rollout["pods_max"].as_u64(), rollout["ready_min"].as_u64())
    };
    assert_eq!(of("mid-rollout-scale-42"), (Some(627), Some(26), Some(8)));
    assert_eq!(of("mid-rollout-scale-scaled-first-42"), (Some(2594), Some(26), Some(16)));
    assert_eq!(of("mid-rollout-scale-scaled-after-42"), (Some(1661), Some(13), Some(8)));
}

#[test]
fn a_budget_keeps_a_drain_from_taking_every_pod() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/node-drain", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    let of = |run: &str| {
        let found = results(folder.path(), run);
        (found["totals"]["sent"].as_u64(), found["totals"]["dropped"].as_u64(), causes(&found))
    };
    assert_eq!(of("node-drain-42"), (Some(96_037), Some(0), Vec::new()));
    assert_eq!(
        of("node-drain-without-budget-42"),
        (Some(96_037), Some(6107), vec!["GD4130 4003".to_owned(), "GD4105 2104".to_owned()])
    );
    let told = |run: &str, kind: &str| {
        let events = fs::read_to_string(folder.path().join(run).join("events.ndjson")).expect("the log");
        events.lines().filter(|line| line.contains(kind)).count()
    };
    assert_eq!(told("node-drain-42", "\"evicted\""), 3);
    assert!(told("node-drain-42", "\"eviction_denied\"") > 2, "refused ones are tried again every five seconds");
    assert_eq!(told("node-drain-without-budget-42", "\"eviction_denied\""), 0);
}

#[test]
fn a_dead_machine_loses_until_the_balancer_notices() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/node-failure", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    for (run, dropped) in
        [("node-failure-42", 1246), ("node-failure-quick-checks-42", 216), ("node-failure-comes-back-42", 1246)]
    {
        let found = results(folder.path(), run);
        assert_eq!(
            (found["totals"]["sent"].as_u64(), found["totals"]["dropped"].as_u64()),
            (Some(96_119), Some(dropped))
        );
        assert_eq!(causes(&found), [format!("GD4110 {dropped}")], "{run}");
    }
    let pods = |run: &str| results(folder.path(), run)["pods"].as_array().map(Vec::len);
    assert_eq!(
        (pods("node-failure-42"), pods("node-failure-comes-back-42")),
        (Some(6), Some(4)),
        "replaced, or restarted"
    );
}

#[test]
fn a_full_disk_costs_the_gateway_all_its_pods_unless_it_asks_and_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/disk-pressure", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    let of = |run: &str| {
        let found = results(folder.path(), run);
        (found["totals"]["sent"].as_u64(), found["totals"]["dropped"].as_u64(), causes(&found))
    };
    let lost = (Some(48_160), Some(35_134), vec!["GD4105 33137".to_owned(), "GD4131 1997".to_owned()]);
    assert_eq!(of("disk-pressure-42"), lost);
    // Whoever asks for what it takes still goes first, if it is no more important than a neighbour that asks for more than it takes.
    assert_eq!(of("disk-pressure-asks-42"), lost);
    // Whoever is more important goes first, too, as soon as it takes more than it asked for.
    assert_eq!(of("disk-pressure-counts-42"), (Some(48_160), Some(1781), vec!["GD4131 1781".to_owned()]));
    assert_eq!(of("disk-pressure-asks-and-counts-42"), (Some(48_160), Some(0), Vec::new()));
}

#[test]
fn a_second_service_takes_the_listener_and_every_new_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/shared-balancer", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    let of = |run: &str| {
        let found = results(folder.path(), run);
        (found["totals"]["sent"].as_u64(), found["totals"]["dropped"].as_u64(), causes(&found))
    };
    assert_eq!(of("shared-balancer-42"), (Some(36_044), Some(8723), vec!["GD4116 8723".to_owned()]));
    for variant in ["listeners-kept", "other-port", "own-balancer"] {
        assert_eq!(of(&format!("shared-balancer-{variant}-42")), (Some(36_044), Some(0), Vec::new()), "{variant}");
    }
    let found = results(folder.path(), "shared-balancer-42");
    assert_eq!(found["gateway"]["status"][0]["state"], "Running", "nothing looks wrong from inside");
}

#[test]
fn a_readiness_gate_keeps_the_old_pods_until_the_balancer_knows_the_new_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/readiness-gate", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    let of = |run: &str| {
        let found = results(folder.path(), run);
        let rollout = &found["rollouts"][0];
        assert_eq!((&found["totals"]["sent"], &rollout["ready_min"]), (&30_056.into(), &2.into()), "{run}");
        (causes(&found), rollout["duration_ms"].as_u64().expect("it ends"))
    };
    assert_eq!(of("readiness-gate-42"), (vec!["GD4130 223".to_owned()], 6_086));
    // The gate leaves too little time for the balancer's checks; a fixed wait knows nothing of the registration.
    assert_eq!(of("readiness-gate-gate-42"), (vec!["GD4130 31".to_owned()], 11_620));
    for (run, duration_ms) in [("wait", 27_163), ("gate-and-wait", 32_639)] {
        assert_eq!(of(&format!("readiness-gate-{run}-42")), (Vec::new(), duration_ms), "{run}");
    }
}

#[test]
fn a_node_without_a_pod_swallows_what_comes_under_policy_local() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/local-vs-cluster", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99));
    let of = |variant: &str| {
        let found = results(folder.path(), &format!("local-vs-cluster{variant}-42"));
        assert_eq!(found["totals"]["sent"].as_u64(), Some(40_027), "{variant}");
        (found["totals"]["dropped"].as_u64(), causes(&found).join(", "))
    };
    let nothing = || (Some(0), String::new());
    assert_eq!(of(""), (Some(225), "GD4106 167, GD4121 51, GD4103 7".to_owned()));
    assert_eq!((of("-cluster"), of("-drained"), of("-cluster-drained")), (nothing(), nothing(), nothing()));
    assert_eq!(of("-drained-1.25"), (Some(485), "GD4106 485".to_owned()));
    assert_eq!(of("-from-within"), (Some(3396), "GD4106 3349, GD4121 41, GD4103 6".to_owned()));
    let found = results(folder.path(), "local-vs-cluster-42");
    let row = found["causes"].as_array().and_then(|rows| rows.iter().find(|row| row["code"] == "GD4106"));
    let source = &row.expect("a row")["source"];
    assert_eq!((source["line"].as_u64(), source["value"].as_str()), (Some(17), Some("Local")));
}

#[test]
fn drain_annotations_help_where_gateway_and_balancer_drain() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/drain-annotations", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99), "{}", String::from_utf8_lossy(&output.stderr));
    let warnings = |found: &Value| {
        let rows = found["fidelity"].as_array().expect("a list");
        let warned = rows.iter().filter(|row| row["status"] == "warning");
        warned.map(|row| row["note"].as_str().expect("a note").to_owned()).collect::<Vec<_>>()
    };
    for (variant, dropped, warning) in [
        ("", 344, None),
        ("-on", 342, None),
        ("-true", 344, Some("parsed as off")),
        ("-too-long", 342, Some("the pod is killed after 30 s")),
        ("-too-early", 344, Some("it has no effect before 1.26")),
        ("-with-proxy", 0, None),
        ("-new-on", 0, None),
        ("-new-short", 57, None),
    ] {
        let found = results(folder.path(), &format!("drain-annotations{variant}-11"));
        assert_eq!(
            (&found["totals"]["sent"], &found["totals"]["dropped"]),
            (&19_980.into(), &dropped.into()),
            "{variant}"
        );
        let cuts = causes(&found).iter().any(|row| row.starts_with("GD4104"));
        assert_eq!(cuts, dropped == 344, "the balancer cuts where it does not drain: {variant}");
        let told = warnings(&found);
        assert_eq!(told.len(), usize::from(warning.is_some()), "{variant}: {told:?}");
        assert!(warning.is_none_or(|warning| told[0].contains(warning)), "{variant}: {told:?}");
    }
}

#[test]
fn five_gateways_lose_in_five_ways() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/five-gateways", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99), "{}", String::from_utf8_lossy(&output.stderr));
    for (variant, dropped, most) in [
        ("", 81, Some("GD4103 40")),
        ("-ingress-nginx", 670, Some("GD4101 574")),
        ("-contour", 0, None),
        ("-traefik", 659, Some("GD4101 561")),
        ("-haproxy", 656, Some("GD4101 561")),
        ("-haproxy-sigterm", 723, Some("GD4302 479")),
        ("-istio-remedy", 0, None),
        ("-ingress-nginx-remedy", 80, Some("GD4102 80")),
        ("-contour-remedy", 0, None),
        ("-traefik-remedy", 80, Some("GD4102 80")),
        ("-haproxy-remedy", 80, Some("GD4102 80")),
    ] {
        let found = results(folder.path(), &format!("five-gateways{variant}-17"));
        assert_eq!(
            (&found["totals"]["sent"], &found["totals"]["dropped"]),
            (&20_681.into(), &dropped.into()),
            "{variant}"
        );
        assert_eq!(causes(&found).first().map(String::as_str), most, "{variant}");
        let decided = found["causes"].as_array().expect("a list").first().map(|row| &row["source"]);
        let line = decided.is_none_or(|source| source["line"].is_u64() && source["file"].is_string());
        assert!(line, "{variant}: a cause without its line: {decided:?}");
    }
}

#[test]
fn other_clouds_balancers_lose_by_their_own_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = gatedrill(folder.path(), &["run", "scenarios/other-balancers", "--variant", "*", "-q"]);
    assert_eq!(output.status.code(), Some(99), "{}", String::from_utf8_lossy(&output.stderr));
    let nlb = "AWS Network Load Balancer, IP targets";
    let alb = "AWS Application Load Balancer, IP targets";
    let (gcp, metallb) = ("GCP passthrough Network Load Balancer", "MetalLB, layer 2");
    for (variant, product, dropped, most) in [
        ("", nlb, 4536, Some("GD4302 4502")),
        ("-aws-nlb-gate", nlb, 2635, Some("GD4302 2613")),
        ("-aws-nlb-remedy", nlb, 0, None),
        ("-aws-alb", alb, 0, None),
        ("-aws-alb-remedy", alb, 0, None),
        ("-gcp-passthrough", gcp, 7, Some("GD4106 7")),
        ("-gcp-passthrough-remedy", gcp, 0, None),
        ("-metallb-l2", metallb, 15, Some("GD4104 14")),
        ("-metallb-l2-cluster", metallb, 0, None),
        ("-metallb-l2-remedy", metallb, 0, None),
    ] {
        let found = results(folder.path(), &format!("other-balancers{variant}-11"));
        assert_eq!(
            (&found["totals"]["sent"], &found["totals"]["dropped"]),
            (&28_900.into(), &dropped.into()),
            "{variant}"
        );
        assert_eq!(causes(&found).first().map(String::as_str), most, "{variant}");
        assert_eq!(found["gateway"]["balancer"], product, "{variant}");
        assert_eq!(found["rollouts"][0]["complete"], true, "{variant}");
    }
}
