//! AWS Network Load Balancer with IP targets, looked after by the AWS Load Balancer Controller.
//!
//! - Targets are ready pods; one that terminates is deregistered at once. A gate `target-health.elbv2.k8s.aws/…` opens when its pod is healthy.
//! - Checks: TCP to the port of the requests, every 10 s, 10 s of patience, 3 to become well and 3 to become ill. That is the controller's default; the
//!   product's own is 30 s. A new target is in service with its first success.
//! - It takes 90 to 180 s from a target's registration to its first check, as a maintainer of the controller has it. AWS says "a few minutes".
//! - A deregistered target still gets new connections for about 120 s, whatever the deregistration delay, as users measured. AWS's documents say that
//!   there are none. Where the measured lag is not seen, `loadBalancer.deregistrationTime` says so.
//! - Open connections of a deregistered target live on, while the target serves them; with `deregistration_delay.connection_termination.enabled` they are
//!   cut at the end of the deregistration delay, 300 s unless written.
//! - Connections of an unhealthy target are reset, unless `target_health_state.unhealthy.connection_termination.enabled` is false.
//! - A connection that says nothing for 350 s is forgotten: who speaks next gets RST.
//! - Without a healthy target all registered ones get connections.
//!
//! Assumed: the controller's own time (its median and 99th percentile), that checks of a deregistered target no longer matter, and that the hash over
//! addresses and ports may be taken for the product's flow hash.
//!
//! Left out: addresses by zone (one stands for all, as if cross-zone balancing were on), passive checks, several checkers that agree, the 30 to 40 s for which
//! users saw new connections after a target was unhealthy, and instance targets.
//!
//! Sources: AWS documents "Health checks for Network Load Balancer target groups", "Edit target group attributes", "Update the TCP idle timeout";
//! kubernetes-sigs/aws-load-balancer-controller docs/guide/service/annotations.md, docs/deploy/pod_readiness_gate.md, pkg/service/model_builder.go, issues 1834
//! (registration, 2021) and 3270; aws/containers-roadmap issue 470 (deregistration, 2023).

use std::time::Duration;

use super::{Check, GateOpens, Profile, Ways, check};
use crate::edge::balancer::OnRemoval;
use crate::edge::idle::{IdleEnd, IdleRule};
use crate::edge::scheduler::Scheduler;
use crate::engine::Delay;

/// The prefix of the conditions that the controller sets; the target group's name follows.
pub const CONDITION_PREFIX: &str = "target-health.elbv2.k8s.aws/";
/// How long the controller's checks of HTTP wait. Source: docs/guide/service/annotations.md.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(6);
/// The deregistration delay.
pub const DRAIN: Duration = Duration::from_secs(300);

/// An assumption: from an endpoint's change to the controller's call, with AWS's answer.
pub(super) const CONTROLLER: Delay =
    Delay::Lognormal { p50: Duration::from_millis(1000), p99: Duration::from_millis(5000) };

/// How it behaves where no annotation says otherwise.
#[must_use]
pub fn profile() -> Profile {
    Profile {
        nodes: None,
        scheduler: Scheduler::FlowHash,
        fail_open: true,
        health_check: Some(check(10, 10, 3, 3)),
        first_passes: 1,
        check: Check::Tcp,
        controller: CONTROLLER,
        ways: Ways {
            title: Some("AWS Network Load Balancer, IP targets"),
            registration: Delay::Uniform { min: Duration::from_secs(90), max: Duration::from_secs(180) },
            deregistration: Delay::Constant(Duration::from_secs(120)),
            gate: GateOpens::Healthy,
            condition: String::new(),
            failover: None,
        },
        on_deregister: OnRemoval::Keep,
        on_unhealthy: OnRemoval::CutAfter(Duration::ZERO),
        idle: Some(IdleRule { timeout: Duration::from_secs(350), end: IdleEnd::Forgotten }),
        http: None,
    }
}
