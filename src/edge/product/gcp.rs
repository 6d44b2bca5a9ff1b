//! Google Cloud's external passthrough Network Load Balancer, as GKE makes it for a Service.
//!
//! - Targets are nodes, all that may be: a node is in or out by its check. Under policy `Local` the check asks the Service's `healthCheckNodePort`, every 3 s,
//!   with 1 s of patience, and 2 failures make a node ill; under `Cluster` it asks each kube-proxy for its own health on port 10256, every 8 s, and 3 do. One
//!   success makes it well.
//! - Open connections of an unhealthy node go on (TCP, tracking by connection: `DEFAULT_FOR_PROTOCOL`). Those of a node that is removed go on for the
//!   draining time, 30 s as GKE sets it.
//! - Connections are spread by a hash over addresses and ports. Without a healthy node all get some.
//! - Pods have no gate: the balancer does not know them.
//!
//! Assumed: the controller's own time. It matters when nodes come and go, and not in a rollout.
//!
//! Left out: the tracking table's own timeout (after 60 s of silence a connection is placed again by its hash: to the same node, unless the healthy ones have
//! changed meanwhile), the subset of 25 nodes under GKE subsetting, weighted balancing, zonal affinity, session affinity at the balancer, and failover policies.
//!
//! Sources: kubernetes/ingress-gce pkg/healthchecksl4/healthchecksl4.go (checks), pkg/backends/backends.go (`DefaultConnectionDrainingTimeoutSeconds`); Google
//! Cloud's Compute API, `BackendServiceConnectionTrackingPolicy.connectionPersistenceOnUnhealthyBackends`; its documents "Health checks overview", "Backend
//! service-based external passthrough Network Load Balancer overview", and GKE "About LoadBalancer Services".

use std::time::Duration;

use super::{Check, GateOpens, Profile, Ways, check};
use crate::edge::balancer::OnRemoval;
use crate::edge::controller::NodeReach;
use crate::edge::kube_proxy::categories::TrafficPolicy;
use crate::edge::scheduler::Scheduler;
use crate::engine::Delay;

/// How it behaves under a policy.
#[must_use]
pub fn profile(policy: TrafficPolicy) -> Profile {
    let (health_check, check) = match policy {
        TrafficPolicy::Local => (check(3, 1, 1, 2), Check::ServiceHealth),
        TrafficPolicy::Cluster => (check(8, 1, 1, 3), Check::ProxyHealth),
    };
    Profile {
        nodes: Some(NodeReach::All),
        scheduler: Scheduler::FlowHash,
        fail_open: true,
        health_check: Some(health_check),
        first_passes: 1,
        check,
        controller: Delay::Lognormal { p50: Duration::from_secs(5), p99: Duration::from_secs(30) },
        ways: Ways {
            title: Some("GCP passthrough Network Load Balancer"),
            registration: Delay::ZERO,
            deregistration: Delay::ZERO,
            gate: GateOpens::Registered,
            condition: String::new(),
            failover: None,
        },
        on_deregister: OnRemoval::CutAfter(Duration::from_secs(30)),
        on_unhealthy: OnRemoval::Keep,
        idle: None,
        http: None,
    }
}
