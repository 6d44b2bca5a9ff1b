//! Limits, stabilization and the history of changes.

use gatedrill::cluster::autoscaler::behavior::{ScaleEvent, ScaleEvents, ScaleLog, Wish};
use gatedrill::cluster::autoscaler::history::{Recommendation, Recommendations, Windows};
use gatedrill::cluster::autoscaler::{Behavior, ScalingRules, legacy};
use gatedrill::units::SimTime;
use serde_json::{Value, json};
use std::time::Duration;

use super::reading::{
    VERSIONS, before, cases, expected, flag, items, load, number, rules, scaling_rules, seconds, text,
};

/// Long after every time in these files.
fn now() -> SimTime {
    SimTime::ZERO.after(Duration::from_secs(1_000_000))
}

fn events(case: &Value, key: &str) -> ScaleEvents {
    let event = |value: &Value| ScaleEvent {
        change: number(value, "replicaChange"),
        at: before(now(), seconds(value, "ageSeconds")),
        is_outdated: value.get("outdated").is_some() && flag(value, "outdated"),
    };
    ScaleEvents { events: items(case, key).iter().map(event).collect() }
}

fn recommendations(case: &Value) -> Recommendations {
    let entry = |value: &Value| Recommendation {
        replicas: number(value, "recommendation"),
        at: before(now(), seconds(value, "ageSeconds")),
    };
    Recommendations { entries: items(case, "history").iter().map(entry).collect() }
}

fn wish(case: &Value) -> Wish {
    Wish {
        current: number(case, "currentReplicas"),
        desired: number(case, "desiredReplicas"),
        least: number(case, "minReplicas"),
        most: number(case, "maxReplicas"),
    }
}

#[test]
fn vectors_hpa_behavior_rate() {
    let file = load("hpa_behavior_rate.json");
    for version in VERSIONS {
        for (label, case) in cases(&file) {
            let log = ScaleLog { ups: events(case, "scaleUpEvents"), downs: events(case, "scaleDownEvents") };
            let (up, down) = (ScalingRules::default_up(), ScalingRules::default_down());
            let behavior = Behavior {
                up: scaling_rules(&case["scaleUpRules"], up.clone()).unwrap_or(up),
                down: scaling_rules(&case["scaleDownRules"], down.clone()).unwrap_or(down),
            };
            let (replicas, reason) = log.limited(wish(case), &behavior, &rules(&file, version), now());
            for (key, value) in expected(case, &label) {
                match key {
                    "replicas" => assert_eq!(json!(replicas), *value, "{label}: replicas"),
                    "reason" => assert_eq!(json!(reason), *value, "{label}: reason"),
                    other => panic!("{label}: no such expectation: {other}"),
                }
            }
        }
    }
}

#[test]
fn vectors_hpa_behavior_stabilize() {
    let file = load("hpa_behavior_stabilize.json");
    for version in VERSIONS {
        for (label, case) in cases(&file) {
            let mut history = recommendations(case);
            let windows = Windows {
                up: seconds(case, "scaleUpStabilizationSeconds"),
                down: seconds(case, "scaleDownStabilizationSeconds"),
            };
            let (current, desired) = (number(case, "currentReplicas"), number(case, "desiredReplicas"));
            let (stabilized, _) = history.stabilize_both(current, desired, windows, &rules(&file, version), now());
            for (key, value) in expected(case, &label) {
                match key {
                    "stabilizedReplicas" => assert_eq!(json!(stabilized), *value, "{label}: stabilized"),
                    "historyAfter" if value.is_null() => {}
                    "historyAfter" => {
                        let after: Vec<i32> = history.entries.iter().map(|entry| entry.replicas).collect();
                        assert_eq!(json!(after), *value, "{label}: history");
                    }
                    other => panic!("{label}: no such expectation: {other}"),
                }
            }
        }
    }
}

#[test]
fn vectors_hpa_limit_functions() {
    let file = load("hpa_limit_functions.json");
    for version in VERSIONS {
        let rules = rules(&file, version);
        for (label, case) in cases(&file) {
            let (log, current) = (ScaleLog::default(), number(case, "currentReplicas"));
            let limit = match text(case, "direction") {
                "up" => {
                    let allowed = scaling_rules(&case["rules"], ScalingRules::default_up()).expect("rules");
                    log.up_limit(current, &allowed, &rules, now())
                }
                "down" => {
                    let allowed = scaling_rules(&case["rules"], ScalingRules::default_down()).expect("rules");
                    log.down_limit(current, &allowed, &rules, now())
                }
                other => panic!("{label}: no such direction: {other}"),
            };
            for (key, value) in expected(case, &label) {
                assert_eq!((key, value), ("limit", &json!(limit)), "{label}");
            }
        }
    }
}

#[test]
fn vectors_hpa_store_scale_events() {
    let file = load("hpa_store_scale_events.json");
    for (label, case) in cases(&file) {
        let mut log = events(case, "previousEvents");
        let change = log.within(Duration::from_secs(60), now());
        let rules = scaling_rules(&case["rules"], ScalingRules::default_up());
        log.store(number(case, "replicaChange"), rules.as_ref(), now());
        for (key, value) in expected(case, &label) {
            match key {
                "changeInLast60s" => assert_eq!(json!(change), *value, "{label}: change"),
                "eventsAfterStore" => {
                    let row =
                        |event: &ScaleEvent| json!({"replicaChange": event.change, "outdated": event.is_outdated});
                    let after: Vec<Value> = log.events.iter().map(row).collect();
                    assert_eq!(json!(after), *value, "{label}: events");
                }
                other => panic!("{label}: no such expectation: {other}"),
            }
        }
    }
}

#[test]
fn vectors_hpa_legacy_limits() {
    let file = load("hpa_legacy_limits.json");
    for version in VERSIONS {
        for (label, case) in cases(&file) {
            let (replicas, reason) = legacy::limited(wish(case), &rules(&file, version));
            for (key, value) in expected(case, &label) {
                match key {
                    "replicas" => assert_eq!(json!(replicas), *value, "{label}: replicas"),
                    "reason" => assert_eq!(json!(reason), *value, "{label}: reason"),
                    other => panic!("{label}: no such expectation: {other}"),
                }
            }
        }
    }
}

#[test]
fn vectors_hpa_legacy_stabilize() {
    let file = load("hpa_legacy_stabilize.json");
    for version in VERSIONS {
        for (label, case) in cases(&file) {
            let mut history = recommendations(case);
            let window = rules(&file, version).downscale_stabilization;
            let stabilized = history.stabilize(number(case, "desiredReplicas"), window, now());
            for (key, value) in expected(case, &label) {
                match key {
                    "stabilizedReplicas" => assert_eq!(json!(stabilized), *value, "{label}: stabilized"),
                    "historyLength" => assert_eq!(json!(history.entries.len()), *value, "{label}: length"),
                    other => panic!("{label}: no such expectation: {other}"),
                }
            }
        }
    }
}
