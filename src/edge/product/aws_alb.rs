//! AWS Application Load Balancer with IP targets, looked after by the AWS Load Balancer Controller.
//!
//! It is a proxy of HTTP: clients have connections to it, it has others to its targets, and it chooses a target for each request. The balancer here works on
//! connections. So clients of this profile open one for each request (`reuse: none` is demanded), and each stands for one request of the proxy to a target.
//! What that shows truly: which targets are asked, from when and until when, so how many requests are lost to a target that is gone.
//!
//! - Targets are ready pods; one that terminates is deregistered at once. A gate `target-health.elbv2.k8s.aws/…` opens when its pod is healthy.
//! - Checks: HTTP for `/` on the port of the requests, every 15 s, 5 s of patience, 2 to become well and 2 to become ill, the controller's defaults. A new
//!   target is in service with its first success.
//! - A deregistered target gets no new requests. Those under way are finished for the deregistration delay, 300 s unless written, and then cut.
//! - An unhealthy target gets no new requests; those under way go on. Without a healthy target all registered ones are asked.
//! - A request during which nothing is said for 60 s is ended.
//!
//! Assumed: the controller's own time, and that the product does at once what it is asked.
//!
//! Left out: connections of clients that outlive a target, the pool of kept connections to targets and the race with a gateway that closes one first
//! (keep the gateway's idle timeout above the balancer's 60 s), answers 502, 503 and 504 (a lost request shows here as what its connection met), success
//! codes other than 200 to 399, stickiness, slow start, least outstanding requests, HTTP/2, and rules of an Ingress. A gateway pays for one new connection for
//! each request here, and would not for the product's kept ones.
//!
//! Sources: AWS documents "Health checks for Application Load Balancer target groups", "Target groups" (deregistration delay), "Application Load Balancers"
//! (idle timeout); kubernetes-sigs/aws-load-balancer-controller docs/guide/ingress/annotations.md, docs/deploy/pod_readiness_gate.md, issue 3621 (changes of
//! targets are fast).

use std::time::Duration;

use super::{Check, GateOpens, Profile, Ways, aws_nlb, check};
use crate::edge::balancer::OnRemoval;
use crate::edge::idle::{IdleEnd, IdleRule};
use crate::edge::scheduler::Scheduler;
use crate::engine::Delay;

/// How it behaves where no annotation says otherwise.
#[must_use]
pub fn profile() -> Profile {
    Profile {
        nodes: None,
        scheduler: Scheduler::RoundRobin,
        fail_open: true,
        health_check: Some(check(15, 5, 2, 2)),
        first_passes: 1,
        check: Check::Http,
        controller: aws_nlb::CONTROLLER,
        ways: Ways {
            title: Some("AWS Application Load Balancer, IP targets"),
            registration: Delay::ZERO,
            deregistration: Delay::ZERO,
            gate: GateOpens::Healthy,
            condition: String::new(),
            failover: None,
        },
        on_deregister: OnRemoval::CutAfter(aws_nlb::DRAIN),
        on_unhealthy: OnRemoval::Keep,
        idle: Some(IdleRule { timeout: Duration::from_secs(60), end: IdleEnd::Reset }),
    }
}
