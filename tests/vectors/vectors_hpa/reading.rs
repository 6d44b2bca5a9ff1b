//! Vector files, and the fields that several of them share.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::autoscaler::behavior::{Amount, Policy, SelectPolicy};
use gatedrill::cluster::autoscaler::{Rules, Sample, ScalingRules};
use gatedrill::cluster::deployment::PodPhase;
use gatedrill::cluster::version::Version;
use gatedrill::units::SimTime;
use serde_json::Value;

/// The versions whose behaviour the tables hold for: that of the tables, and one with the newer test of tolerance.
pub(crate) const VERSIONS: [Version; 2] = [Version::new(1, 28), Version::new(1, 33)];

/// The file of this name, and a check that it holds as many cases as it says.
pub(crate) fn load(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubernetes/vectors").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: Value = serde_json::from_str(&text).expect("a vector file is JSON");
    let count = file["count"].as_u64().expect("a vector file has a count");
    assert_eq!(u64::try_from(items(&file, "cases").len()), Ok(count), "{name}: cases");
    file
}

/// The cases with the names by which failed checks call them: number and upstream's name.
pub(crate) fn cases(file: &Value) -> impl Iterator<Item = (String, &Value)> {
    let cases = items(file, "cases").iter().enumerate();
    cases.map(|(index, case)| (format!("case {index}, {}", case["name"]), case))
}

/// The entries of "expected": at least one, or nothing is checked.
pub(crate) fn expected<'a>(case: &'a Value, label: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let entries = case["expected"].as_object().expect("a case has expectations");
    assert!(!entries.is_empty(), "{label}: expects nothing");
    entries.iter().map(|(key, value)| (key.as_str(), value))
}

pub(crate) fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is no list in {value}"))
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

pub(crate) fn flag(value: &Value, key: &str) -> bool {
    value[key].as_bool().unwrap_or_else(|| panic!("{key} is no flag in {value}"))
}

pub(crate) fn long(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_else(|| panic!("{key} is no whole number in {value}"))
}

pub(crate) fn number(value: &Value, key: &str) -> i32 {
    i32::try_from(long(value, key)).expect("a number of 32 bits")
}

/// A time or a span: whole, though the files write some with a point.
pub(crate) fn seconds(value: &Value, key: &str) -> Duration {
    let seconds = value[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {value}"));
    let span = Duration::try_from_secs_f64(seconds).expect("a time is not negative");
    assert_eq!(span.subsec_nanos(), 0, "{key} is whole in {value}");
    span
}

pub(crate) fn at(value: &Value, key: &str) -> SimTime {
    SimTime::ZERO.after(seconds(value, key))
}

/// What was so long before `now`.
pub(crate) fn before(now: SimTime, span: Duration) -> SimTime {
    SimTime::from_nanos(now.as_nanos() - u64::try_from(span.as_nanos()).expect("a span of 64 bits"))
}

/// The rules of a version with the constants of a file.
pub(crate) fn rules(file: &Value, version: Version) -> Rules {
    let mut rules = Rules::of(version);
    let constants = file["constants"].as_object();
    for (key, value) in constants.into_iter().flatten() {
        let span = || value.as_u64().map(Duration::from_secs).expect("whole seconds");
        let small = || value.as_i64().and_then(|value| i32::try_from(value).ok()).expect("a small number");
        match key.as_str() {
            "tolerance" => rules.tolerance = value.as_f64().expect("a number"),
            "cpuInitializationPeriodSeconds" => rules.cpu_initialization_period = span(),
            "initialReadinessDelaySeconds" => rules.initial_readiness_delay = span(),
            "downscaleStabilizationSeconds" => rules.downscale_stabilization = span(),
            "legacyScaleUpLimitFactor" => rules.scale_up_factor = small(),
            "legacyScaleUpLimitMinimum" => rules.scale_up_minimum = small(),
            "now" | "metricTimestamp" | "metricWindowSeconds" | "containersPerPod" => {}
            other => panic!("no such constant: {other}"),
        }
    }
    rules
}

pub(crate) fn phase(pod: &Value) -> PodPhase {
    match text(pod, "phase") {
        "Pending" => PodPhase::Pending,
        "Running" => PodPhase::Running,
        "Succeeded" => PodPhase::Succeeded,
        "Failed" => PodPhase::Failed,
        other => panic!("no such phase: {other}"),
    }
}

/// Pod names with values, as samples of no particular time.
pub(crate) fn values(map: &Value) -> BTreeMap<Rc<str>, Sample> {
    let entries = map.as_object().expect("a map of values");
    let sample = |value: &Value| Sample {
        milli: value.as_i64().expect("a whole number"),
        at: SimTime::ZERO,
        window: Duration::ZERO,
    };
    entries.iter().map(|(pod, value)| (Rc::from(pod.as_str()), sample(value))).collect()
}

/// One direction's rules over the API's defaults; none if null.
pub(crate) fn scaling_rules(value: &Value, usual: ScalingRules) -> Option<ScalingRules> {
    if value.is_null() {
        return None;
    }
    let mut rules = usual;
    for (key, field) in value.as_object().expect("rules are a map").iter().filter(|(_, field)| !field.is_null()) {
        match key.as_str() {
            "stabilizationWindowSeconds" => {
                rules.stabilization_seconds = Some(u32::try_from(number(value, key)).expect("not negative"));
            }
            "selectPolicy" => {
                rules.select = match text(value, key) {
                    "Max" => SelectPolicy::Max,
                    "Min" => SelectPolicy::Min,
                    "Disabled" => SelectPolicy::Disabled,
                    other => panic!("no such choice: {other}"),
                };
            }
            "policies" => rules.policies = field.as_array().expect("a list").iter().map(policy).collect(),
            other => panic!("no such rule: {other}"),
        }
    }
    Some(rules)
}

fn policy(value: &Value) -> Policy {
    let amount = match text(value, "type") {
        "Pods" => Amount::Pods(number(value, "value")),
        "Percent" => Amount::Percent(number(value, "value")),
        other => panic!("no such policy: {other}"),
    };
    Policy { amount, period_seconds: u32::try_from(number(value, "periodSeconds")).expect("not negative") }
}
