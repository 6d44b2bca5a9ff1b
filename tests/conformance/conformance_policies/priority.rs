//! Load by priority, over-provisioning, panic.

use std::sync::Arc;

use gatedrill::gateway::balance::priority::{
    Availability, HostCounts, OVERPROVISIONING_PERCENT, Priority, PriorityLoad,
};
use gatedrill::gateway::balance::{BalanceConfig, BalancedHost, HostSets, PickRequest, Picker};
use gatedrill::units::SimTime;
use serde::Deserialize;

use super::{family, nullable};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    test: String,
    #[serde(default)]
    note: String,
    priorities: Vec<PrioritySpec>,
    healthy_load: Option<Vec<u64>>,
    degraded_load: Option<Vec<u64>>,
    panic: Option<Vec<bool>>,
    #[serde(default, deserialize_with = "nullable")]
    first_choice: Option<Option<ChoiceSpec>>,
    healthy_panic_threshold: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrioritySpec {
    hosts: u64,
    healthy: u64,
    #[serde(default)]
    degraded: u64,
    #[serde(default)]
    excluded: u64,
    weights: Option<WeightsSpec>,
    overprovisioning_factor: Option<u64>,
}

/// Sums of weights by state.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightsSpec {
    #[serde(default)]
    healthy: u64,
    #[serde(default)]
    degraded: u64,
    #[serde(default)]
    excluded: u64,
    #[serde(default)]
    unhealthy: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChoiceSpec {
    priority: usize,
    host: String,
}

impl PrioritySpec {
    fn priority(&self) -> Priority {
        let (hosts, healthy, degraded, excluded) = (self.hosts, self.healthy, self.degraded, self.excluded);
        let weights = self.weights.as_ref().map(|weights| HostCounts {
            hosts: weights.healthy + weights.degraded + weights.excluded + weights.unhealthy,
            healthy: weights.healthy,
            degraded: weights.degraded,
            excluded: weights.excluded,
        });
        let overprovisioning_percent = self.overprovisioning_factor.unwrap_or(OVERPROVISIONING_PERCENT);
        Priority { counts: HostCounts { hosts, healthy, degraded, excluded }, weights, overprovisioning_percent }
    }
}

/// What a balancer of these priorities picks with all draws at 0: the priority, and the host's health.
fn first_pick(priorities: &[PrioritySpec], threshold: u64) -> Option<(usize, &'static str)> {
    let hosts: Vec<BalancedHost> = priorities
        .iter()
        .enumerate()
        .flat_map(|(priority, spec)| {
            (0..spec.hosts).map(move |number| BalancedHost {
                weight: 1,
                priority,
                locality: None,
                is_healthy: number < spec.healthy,
                hash_key: Some(Arc::from("host")),
                slow_start_since: None,
            })
        })
        .collect();
    let sets = HostSets::new(BalanceConfig::ISTIO, threshold, hosts.clone());
    let mut picker = Picker::default();
    picker.refresh(&sets, SimTime::ZERO, |_| 0, |_| 0);
    let picked = picker.pick(&sets, &PickRequest::default(), |_| false, |_| 0, SimTime::ZERO, |_| 0)?;
    let health = if hosts[picked].is_healthy { "healthy" } else { "unhealthy" };
    Some((hosts[picked].priority, health))
}

#[test]
fn conformance_priority_load() {
    for case in family::<Case>("envoy-priority-load").cases {
        let label = format!("{} {} {}", case.id, case.test, case.note);
        let priorities: Vec<Priority> = case.priorities.iter().map(PrioritySpec::priority).collect();
        let threshold = case.healthy_panic_threshold.unwrap_or(50);
        let load = PriorityLoad::new(&priorities, threshold);
        if let Some(expected) = &case.healthy_load {
            assert_eq!(&load.healthy, expected, "{label}");
        }
        if let Some(expected) = &case.degraded_load {
            assert_eq!(&load.degraded, expected, "{label}");
        }
        if let Some(expected) = &case.panic {
            assert_eq!(&load.panic, expected, "{label}");
        }
        if let Some(expected) = &case.first_choice {
            let expected = expected.as_ref().map(|choice| (choice.priority, choice.host.as_str()));
            assert_eq!(first_pick(&case.priorities, threshold), expected, "{label}");
            let (priority, availability) = load.choose(0).expect("the load is somebody's");
            assert_eq!(availability, Availability::Healthy, "{label}");
            assert!(expected.is_none_or(|(expected, _)| expected == priority), "{label}");
        }
    }
}
