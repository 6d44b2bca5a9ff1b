//! Round robin, least request and random; weights, slow start, panic, rejected picks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use gatedrill::gateway::balance::{BalanceConfig, BalancedHost, HostSets, PickRequest, Picker, Policy, SlowStart};
use gatedrill::units::SimTime;
use serde::Deserialize;

use super::family;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    test: String,
    #[serde(default)]
    note: String,
    policy: String,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    config: ConfigSpec,
    #[serde(default)]
    steps: Vec<Step>,
    slow_start_defaults: Option<DefaultsSpec>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ConfigSpec {
    slow_start: Option<SlowStartSpec>,
    #[serde(default)]
    fail_traffic_on_panic: bool,
    choice_count: Option<u32>,
    active_request_bias: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlowStartSpec {
    window_s: u64,
    min_weight_percent: Option<f64>,
    aggression: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultsSpec {
    window_ms: u128,
    aggression: f64,
    min_weight_percent: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    at_s: Option<u64>,
    hosts: Option<Vec<HostSpec>>,
    healthy: Option<Vec<String>>,
    panic: Option<bool>,
    #[serde(default)]
    weights: BTreeMap<String, u32>,
    #[serde(default)]
    rebuild: bool,
    #[serde(default)]
    active_requests: BTreeMap<String, u32>,
    #[serde(default)]
    random: VecDeque<u64>,
    #[serde(default)]
    rejected: Vec<String>,
    #[serde(default)]
    host_selection_retries: u32,
    #[serde(default)]
    picks: Vec<Option<String>>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct HostSpec {
    name: String,
    weight: Option<u32>,
    slow_start_since_s: Option<u64>,
    #[serde(default)]
    no_slow_start: bool,
}

impl Case {
    fn balance(&self) -> BalanceConfig {
        let policy = match self.policy.as_str() {
            "round_robin" => Policy::RoundRobin,
            "least_request" => Policy::LeastRequest,
            "random" => Policy::Random,
            other => panic!("no policy {other}"),
        };
        let defaults = BalanceConfig::new(policy);
        let slow_start = self.config.slow_start.as_ref().map(|spec| SlowStart {
            window: Duration::from_secs(spec.window_s),
            minimum_percent: spec.min_weight_percent.unwrap_or(SlowStart::OFF.minimum_percent),
            aggression: spec.aggression.unwrap_or(SlowStart::OFF.aggression),
        });
        BalanceConfig {
            choice_count: self.config.choice_count.unwrap_or(defaults.choice_count),
            active_request_bias: self.config.active_request_bias.unwrap_or(defaults.active_request_bias),
            fails_traffic_on_panic: self.config.fail_traffic_on_panic,
            slow_start,
            ..defaults
        }
    }
}

fn seconds(count: u64) -> SimTime {
    SimTime::ZERO.after(Duration::from_secs(count))
}

/// A balancer in the course of a case.
struct Course {
    config: BalanceConfig,
    now: SimTime,
    hosts: Vec<HostSpec>,
    healthy: Option<Vec<String>>,
    active: BTreeMap<String, u32>,
    sets: HostSets,
    picker: Picker,
}

impl Course {
    fn sort(&mut self) {
        let hosts = self.hosts.iter().map(|host| BalancedHost {
            weight: host.weight.unwrap_or(1),
            priority: 0,
            locality: None,
            is_healthy: self.healthy.as_ref().is_none_or(|healthy| healthy.contains(&host.name)),
            hash_key: Some(Arc::from(host.name.as_str())),
            slow_start_since: host.slow_start_since_s.filter(|_| !host.no_slow_start).map(seconds),
        });
        self.sets = HostSets::new(self.config, 50, hosts.collect());
    }

    fn active(&self, host: usize) -> u32 {
        self.active.get(&self.hosts[host].name).copied().unwrap_or(0)
    }

    fn take(&mut self, step: &Step) {
        self.now = step.at_s.map_or(self.now, seconds);
        if let Some(hosts) = &step.hosts {
            self.hosts.clone_from(hosts);
            self.healthy.clone_from(&step.healthy);
        }
        for host in &mut self.hosts {
            host.weight = step.weights.get(&host.name).copied().or(host.weight);
        }
        self.sort();
        // Changed weights alone are seen when a host is next put back.
        if step.hosts.is_some() || step.rebuild {
            let mut picker = std::mem::take(&mut self.picker);
            picker.refresh(&self.sets, self.now, |host| self.active(host), |_| unreachable!("the seed is given"));
            self.picker = picker;
        }
        self.active.extend(step.active_requests.clone());
    }

    fn pick(&mut self, step: &Step, random: &mut VecDeque<u64>) -> Option<String> {
        let request = PickRequest { repicks: step.host_selection_retries, ..PickRequest::default() };
        let mut picker = std::mem::take(&mut self.picker);
        let is_rejected = |host: usize| step.rejected.contains(&self.hosts[host].name);
        let draw = |bound| random.pop_front().expect("as many draws as are given") % bound;
        let picked = picker.pick(&self.sets, &request, is_rejected, |host| self.active(host), self.now, draw);
        self.picker = picker;
        picked.map(|host| self.hosts[host].name.clone())
    }
}

fn check(case: &Case) {
    let label = format!("{} {} {}", case.id, case.test, case.note);
    let config = case.balance();
    if let Some(defaults) = &case.slow_start_defaults {
        assert_eq!(SlowStart::OFF.window.as_millis(), defaults.window_ms, "{label}");
        let expected = SlowStart {
            window: SlowStart::OFF.window,
            minimum_percent: defaults.min_weight_percent,
            aggression: defaults.aggression,
        };
        assert_eq!(SlowStart::OFF, expected, "{label}");
    }
    let mut course = Course {
        config,
        now: SimTime::ZERO,
        hosts: Vec::new(),
        healthy: None,
        active: BTreeMap::new(),
        sets: HostSets::new(config, 50, Vec::new()),
        picker: Picker::with_seed(case.seed),
    };
    for (number, step) in case.steps.iter().enumerate() {
        course.take(step);
        if let Some(panics) = step.panic {
            assert_eq!(course.sets.load().panic, [panics], "{label}, step {number}");
        }
        let mut random = step.random.clone();
        // Envoy draws for the priority even if there is one only; we do not.
        if config.policy == Policy::LeastRequest {
            random.pop_front();
        }
        let picks: Vec<_> = step.picks.iter().map(|_| course.pick(step, &mut random)).collect();
        assert_eq!(picks, step.picks, "{label}, step {number}");
    }
}

#[test]
fn conformance_round_robin() {
    family("envoy-round-robin").cases.iter().for_each(check);
}

#[test]
fn conformance_least_request() {
    family("envoy-least-request").cases.iter().for_each(check);
}
