//! Outlier detection: timelines, thresholds, ejection times, settings.

use std::time::Duration;

use gatedrill::gateway::outlier::{Detector, HostId, Outcome, OutlierConfig};
use gatedrill::units::SimTime;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::family;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    test: String,
    #[serde(default)]
    note: String,
    #[serde(default)]
    hosts: usize,
    #[serde(default)]
    config: Map<String, Value>,
    #[serde(default)]
    steps: Vec<Step>,
    repeat: Option<RepeatSpec>,
    #[serde(default)]
    ejected_for_s: Vec<u64>,
    jitter_ms: Option<u64>,
    config_in: Option<Map<String, Value>>,
    effective: Option<Map<String, Value>>,
    #[serde(default)]
    reject: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    at_ms: Option<u64>,
    op: String,
    host: Option<usize>,
    status: Option<u16>,
    #[serde(default)]
    results: Vec<ResultSpec>,
    count: Option<usize>,
    random: Option<u64>,
    ejected: Vec<usize>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum ResultSpec {
    Plain(String),
    WithStatus(StatusSpec),
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct StatusSpec {
    result: String,
    status: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RepeatSpec {
    op: String,
    host: usize,
    status: u16,
    count: usize,
    interval_s: u64,
}

fn at(millis: u64) -> SimTime {
    SimTime::ZERO.after(Duration::from_millis(millis))
}

/// Sets the field of this name. Times are numbers of milliseconds with the unit in the name, or texts of seconds without.
fn set(config: &mut OutlierConfig, name: &str, value: &Value) {
    if let Some(text) = value.as_str() {
        let seconds: f64 = text.strip_suffix('s').expect("seconds").parse().expect("a number");
        let millis = u64::try_from(Duration::from_secs_f64(seconds).as_millis()).expect("a number of milliseconds");
        return set(config, &format!("{name}_ms"), &json!(millis));
    }
    let flag = || value.as_bool().expect("true or false");
    let whole = || value.as_u64().expect("a whole number");
    let small = || u32::try_from(whole()).expect("a small number");
    let count = || usize::try_from(whole()).expect("a small number");
    let millis = || Duration::from_millis(whole());
    match name {
        "interval_ms" => config.interval = millis(),
        "base_ejection_time_ms" => config.base_ejection_time = millis(),
        "max_ejection_time_ms" => config.max_ejection_time = Some(millis()),
        "max_ejection_time_jitter_ms" => config.max_ejection_time_jitter = millis(),
        "max_ejection_percent" => config.max_ejection_percent = small(),
        "always_eject_one_host" => config.always_eject_one_host = flag(),
        "consecutive_5xx" => config.consecutive_5xx = small(),
        "consecutive_gateway_failure" => config.consecutive_gateway_failure = small(),
        "consecutive_local_origin_failure" => config.consecutive_local_origin_failure = small(),
        "split_external_local_origin_errors" => config.split_external_local_origin_errors = flag(),
        "enforcing_consecutive_5xx" => config.enforcing.consecutive_5xx = small(),
        "enforcing_consecutive_gateway_failure" => config.enforcing.consecutive_gateway_failure = small(),
        "enforcing_consecutive_local_origin_failure" => config.enforcing.consecutive_local_origin_failure = small(),
        "enforcing_success_rate" => config.enforcing.success_rate = small(),
        "enforcing_local_origin_success_rate" => config.enforcing.local_origin_success_rate = small(),
        "enforcing_failure_percentage" => config.enforcing.failure_percentage = small(),
        "enforcing_failure_percentage_local_origin" => config.enforcing.failure_percentage_local_origin = small(),
        "success_rate_minimum_hosts" => config.success_rate.minimum_hosts = count(),
        "success_rate_request_volume" => config.success_rate.request_volume = whole(),
        "success_rate_stdev_factor" => config.success_rate.stdev_factor = small(),
        "failure_percentage_threshold" => config.failure_percentage.threshold = whole(),
        "failure_percentage_minimum_hosts" => config.failure_percentage.minimum_hosts = count(),
        "failure_percentage_request_volume" => config.failure_percentage.request_volume = whole(),
        other => panic!("no setting {other}"),
    }
}

/// All settings that are in force, by name.
fn effective(config: &OutlierConfig) -> Value {
    json!({
        "interval_ms": config.interval.as_millis(),
        "base_ejection_time_ms": config.base_ejection_time.as_millis(),
        "max_ejection_time_ms": config.longest_ejection().as_millis(),
        "max_ejection_percent": config.max_ejection_percent,
        "consecutive_5xx": config.consecutive_5xx,
        "consecutive_gateway_failure": config.consecutive_gateway_failure,
        "consecutive_local_origin_failure": config.consecutive_local_origin_failure,
        "enforcing_consecutive_5xx": config.enforcing.consecutive_5xx,
        "enforcing_consecutive_gateway_failure": config.enforcing.consecutive_gateway_failure,
        "enforcing_consecutive_local_origin_failure": config.enforcing.consecutive_local_origin_failure,
        "enforcing_success_rate": config.enforcing.success_rate,
        "enforcing_local_origin_success_rate": config.enforcing.local_origin_success_rate,
        "enforcing_failure_percentage": config.enforcing.failure_percentage,
        "enforcing_failure_percentage_local_origin": config.enforcing.failure_percentage_local_origin,
        "success_rate_minimum_hosts": config.success_rate.minimum_hosts,
        "success_rate_request_volume": config.success_rate.request_volume,
        "success_rate_stdev_factor": config.success_rate.stdev_factor,
        "failure_percentage_threshold": config.failure_percentage.threshold,
        "failure_percentage_minimum_hosts": config.failure_percentage.minimum_hosts,
        "failure_percentage_request_volume": config.failure_percentage.request_volume,
        "max_ejection_time_jitter_ms": config.max_ejection_time_jitter.as_millis(),
        "split_external_local_origin_errors": config.split_external_local_origin_errors,
    })
}

fn config(fields: &Map<String, Value>) -> OutlierConfig {
    let mut config = OutlierConfig::ENVOY;
    fields.iter().for_each(|(name, value)| set(&mut config, name, value));
    config
}

impl ResultSpec {
    /// A status that comes with a result is what counts, unless local results count apart.
    fn outcome(&self, is_split: bool) -> Outcome {
        let (result, status) = match self {
            Self::Plain(result) => (result, None),
            Self::WithStatus(spec) => (&spec.result, Some(spec.status)),
        };
        match (result.as_str(), status) {
            ("connect-success" | "connect-failed" | "connect-timeout", Some(status)) if !is_split => {
                Outcome::Status(status)
            }
            ("connect-success", _) => Outcome::Connected,
            ("connect-failed", _) => Outcome::ConnectFailed,
            ("connect-timeout", _) => Outcome::TimedOut,
            ("request-success", _) => Outcome::Status(200),
            ("request-failed", _) => Outcome::Status(500),
            (other, _) => panic!("no result {other}"),
        }
    }
}

/// A detector in the course of a case.
struct Course {
    detector: Detector,
    hosts: Vec<HostId>,
    now: SimTime,
}

impl Course {
    fn new(config: OutlierConfig, hosts: usize) -> Self {
        let mut detector = Detector::new(config, SimTime::ZERO);
        let hosts = (0..hosts).map(|_| detector.add()).collect();
        Self { detector, hosts, now: SimTime::ZERO }
    }

    fn report(&mut self, host: usize, outcomes: &[Outcome], rounds: usize, random: Option<u64>) {
        for outcome in (0..rounds).flat_map(|_| outcomes) {
            let draw = |bound| random.expect("a random number") % bound;
            self.detector.report(self.hosts[host], *outcome, self.now, draw);
        }
    }

    fn sweep(&mut self) {
        self.detector.sweep_once(self.now, |_| unreachable!("all is enforced or nothing"), &mut Vec::new());
    }

    fn take(&mut self, step: &Step, is_split: bool) {
        self.now = step.at_ms.map_or(self.now, at);
        let outcomes: Vec<Outcome> = match (step.op.as_str(), step.status) {
            ("responses", Some(status)) => vec![Outcome::Status(status)],
            ("results", None) => step.results.iter().map(|result| result.outcome(is_split)).collect(),
            ("interval", None) => {
                assert!(step.host.is_none() && step.count.is_none());
                return self.sweep();
            }
            (other, _) => panic!("no step {other}"),
        };
        let hosts = step.host.map_or(0..self.hosts.len(), |host| host..host + 1);
        for host in hosts {
            self.report(host, &outcomes, step.count.expect("how often"), step.random);
        }
    }

    fn ejected(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.detector.is_ejected(self.hosts[*host])).collect()
    }
}

fn check(case: &Case) {
    let label = format!("{} {} {}", case.id, case.test, case.note);
    if let Some(fields) = &case.config_in {
        let config = config(fields);
        assert_eq!(config.check().is_err(), case.reject, "{label}");
        let effective = effective(&config);
        for (name, expected) in case.effective.iter().flatten() {
            assert_eq!(&effective[name], expected, "{label}: {name}");
        }
        return;
    }
    assert!(!case.reject && case.effective.is_none(), "{label}: no settings to judge");
    let config = config(&case.config);
    let mut course = Course::new(config, case.hosts);
    for (number, step) in case.steps.iter().enumerate() {
        course.take(step, config.split_external_local_origin_errors);
        assert_eq!(course.ejected(), step.ejected, "{label}, step {number}");
    }
    if let Some(jitter) = case.jitter_ms {
        let whole = config.base_ejection_time + Duration::from_millis(jitter);
        for (span, ejected) in [(whole - Duration::from_millis(1), vec![0]), (whole, vec![])] {
            course.now = SimTime::ZERO.after(span);
            course.sweep();
            assert_eq!(course.ejected(), ejected, "{label}: after {span:?}");
        }
    }
    if let Some(repeat) = &case.repeat {
        assert_eq!(repeat.op, "responses", "{label}");
        let mut lasted = Vec::new();
        while lasted.len() < case.ejected_for_s.len() {
            course.report(repeat.host, &[Outcome::Status(repeat.status)], repeat.count, None);
            let ejected_at = course.now;
            while !course.ejected().is_empty() {
                course.now = course.now.after(Duration::from_secs(repeat.interval_s));
                course.sweep();
            }
            lasted.push(course.now.since(ejected_at).as_secs());
        }
        assert_eq!(lasted, case.ejected_for_s, "{label}");
    }
}

#[test]
fn conformance_outlier() {
    let family = family::<Case>("envoy-outlier");
    assert_eq!(effective(&OutlierConfig::ENVOY), Value::Object(family.defaults));
    family.cases.iter().for_each(check);
}
