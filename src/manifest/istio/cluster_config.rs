//! A traffic policy into the settings of a cluster.
//!
//! What a policy leaves out has Istio's default, not Envoy's: no limits, ten seconds to connect, no ejections. With `outlierDetection` the
//! panic threshold is its `minHealthPercent`; without it, and by default, there is no panic.
//!
//! Source: istio pilot/pkg/networking/core/cluster_traffic_policy.go, pilot/pkg/networking/core/loadbalancer/loadbalancer.go.

use super::load_balancer::{HashTable, LoadBalancer, Simple};
use super::traffic_policy::{ConnectionPool, OutlierDetection, TrafficPolicy};
use crate::gateway::balance::{BalanceConfig, SlowStart};
use crate::gateway::limits::{Limits, RetryBudget};
use crate::gateway::outlier::{Enforcing, OutlierConfig};
use crate::gateway::{ClusterConfig, Policy};

/// The settings of a cluster with this policy. `always_ejects_one` is whether the first ejection heeds no `maxEjectionPercent`, as before Istio 1.20.
#[must_use]
pub fn cluster_config(policy: &TrafficPolicy, always_ejects_one: bool) -> ClusterConfig {
    let usual = ClusterConfig::ISTIO;
    let pool = policy.connection_pool.clone().unwrap_or_default();
    ClusterConfig {
        balance: policy.load_balancer.as_ref().map_or(usual.balance, balance),
        limits: limits(&pool),
        retry_budget: policy
            .retry_budget
            .map(|budget| RetryBudget { percent: budget.percent, minimum_concurrency: budget.min_concurrency }),
        connect_timeout: pool.connect_timeout.unwrap_or(usual.connect_timeout),
        idle_timeout: match pool.idle_timeout {
            None => usual.idle_timeout,
            Some(timeout) => Some(timeout).filter(|timeout| !timeout.is_zero()),
        },
        max_requests_per_connection: pool.max_requests_per_connection,
        outlier: policy
            .outlier_detection
            .as_ref()
            .map(|of| OutlierConfig { always_eject_one_host: always_ejects_one, ..outlier(of) }),
        panic_threshold_percent: policy
            .outlier_detection
            .as_ref()
            .and_then(|outlier| outlier.min_health_percent)
            .unwrap_or(usual.panic_threshold_percent),
    }
}

fn balance(balancer: &LoadBalancer) -> BalanceConfig {
    let policy = match (&balancer.consistent_hash, balancer.simple) {
        (Some(hash), _) => match hash.table {
            HashTable::Ring(minimum) => match Policy::RING_HASH {
                Policy::RingHash { maximum, .. } => Policy::RingHash { minimum, maximum },
                other => other,
            },
            HashTable::Maglev(table_size) => Policy::Maglev { table_size },
        },
        (None, Some(Simple::RoundRobin)) => Policy::RoundRobin,
        (None, Some(Simple::Random)) => Policy::Random,
        (None, Some(Simple::LeastRequest | Simple::Passthrough) | None) => Policy::LeastRequest,
    };
    let takes_warmup = matches!(policy, Policy::LeastRequest | Policy::RoundRobin);
    let slow_start = balancer.warmup.filter(|_| takes_warmup).map(|warmup| SlowStart {
        window: warmup.duration,
        minimum_percent: warmup.minimum_percent,
        aggression: warmup.aggression,
    });
    BalanceConfig { slow_start, ..BalanceConfig::new(policy) }
}

fn limits(pool: &ConnectionPool) -> Limits {
    let or_none = |limit: Option<u32>, none: u32| limit.unwrap_or(none);
    Limits {
        connections: or_none(pool.max_connections, Limits::ISTIO.connections),
        pending_requests: or_none(pool.max_pending_requests, Limits::ISTIO.pending_requests),
        requests: or_none(pool.max_requests, Limits::ISTIO.requests),
        retries: or_none(pool.max_retries, Limits::ISTIO.retries),
    }
}

fn outlier(outlier: &OutlierDetection) -> OutlierConfig {
    let usual = OutlierConfig::ISTIO;
    let gateway_errors = outlier.consecutive_gateway_errors.unwrap_or(0);
    OutlierConfig {
        interval: outlier.interval.unwrap_or(usual.interval),
        base_ejection_time: outlier.base_ejection_time.unwrap_or(usual.base_ejection_time),
        max_ejection_percent: outlier.max_ejection_percent.unwrap_or(usual.max_ejection_percent),
        consecutive_5xx: outlier.consecutive_5xx.unwrap_or(usual.consecutive_5xx),
        consecutive_gateway_failure: gateway_errors,
        consecutive_local_origin_failure: outlier
            .consecutive_local_failures
            .unwrap_or(usual.consecutive_local_origin_failure),
        split_external_local_origin_errors: outlier.splits_local_errors,
        enforcing: Enforcing {
            consecutive_gateway_failure: if gateway_errors > 0 { 100 } else { 0 },
            ..usual.enforcing
        },
        ..usual
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::load_balancer::{ConsistentHash, Warmup};
    use super::*;

    #[test]
    fn what_is_left_out_has_istios_default() {
        assert_eq!(cluster_config(&TrafficPolicy::default(), false), ClusterConfig::ISTIO);
        let empty = TrafficPolicy {
            load_balancer: Some(LoadBalancer::default()),
            connection_pool: Some(ConnectionPool::default()),
            outlier_detection: Some(OutlierDetection::default()),
            ..TrafficPolicy::default()
        };
        let config = cluster_config(&empty, false);
        let outlier = config.outlier.unwrap();
        assert_eq!((outlier.consecutive_5xx, outlier.consecutive_gateway_failure), (5, 0));
        assert_eq!(outlier.enforcing.consecutive_gateway_failure, 0);
        assert_eq!(ClusterConfig { outlier: None, ..config }, ClusterConfig::ISTIO);
    }

    #[test]
    fn what_is_written_counts() {
        let consistent_hash = Some(ConsistentHash { key: None, table: HashTable::Ring(512) });
        let warmup = Warmup { duration: Duration::from_secs(30), minimum_percent: 5.0, aggression: 2.0 };
        let hashed = LoadBalancer { consistent_hash, warmup: Some(warmup), ..LoadBalancer::default() };
        assert_eq!(balance(&hashed).policy, Policy::RingHash { minimum: 512, maximum: 8 << 20 });
        assert_eq!(balance(&hashed).slow_start, None, "rings know no slow start");
        let turns = LoadBalancer { simple: Some(Simple::RoundRobin), warmup: Some(warmup), ..LoadBalancer::default() };
        assert_eq!(balance(&turns).slow_start.map(|start| start.window), Some(Duration::from_secs(30)));
        let pool = ConnectionPool {
            max_connections: Some(7),
            idle_timeout: Some(Duration::ZERO),
            max_requests_per_connection: Some(1),
            ..ConnectionPool::default()
        };
        let detection = OutlierDetection {
            consecutive_5xx: Some(0),
            consecutive_gateway_errors: Some(3),
            min_health_percent: Some(20),
            ..OutlierDetection::default()
        };
        let policy = TrafficPolicy {
            connection_pool: Some(pool),
            outlier_detection: Some(detection),
            ..TrafficPolicy::default()
        };
        let config = cluster_config(&policy, false);
        assert!(!config.outlier.unwrap().always_eject_one_host);
        assert!(cluster_config(&policy, true).outlier.unwrap().always_eject_one_host);
        assert_eq!((config.limits.connections, config.limits.requests), (7, u32::MAX));
        assert_eq!((config.idle_timeout, config.max_requests_per_connection), (None, Some(1)));
        assert_eq!(config.panic_threshold_percent, 20);
        let outlier = config.outlier.unwrap();
        assert_eq!((outlier.consecutive_5xx, outlier.consecutive_gateway_failure), (0, 3));
        assert_eq!(outlier.enforcing.consecutive_gateway_failure, 100);
    }
}
