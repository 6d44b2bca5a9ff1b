//! AWS Application Load Balancer with IP targets, looked after by the AWS Load Balancer Controller.
//!
//! It is a proxy for HTTP ([`crate::edge::http_proxy`]): it chooses a target for each request, and keeps connections to targets for others.
//!
//! - Targets are ready pods; one that terminates is deregistered at once. A gate `target-health.elbv2.k8s.aws/…` opens when its pod is healthy.
//! - Checks: HTTP for `/` on the port of the requests, 200 passes, every 15 s, 5 s of patience, 2 to become well and 2 to become ill, the controller's defaults. A new
//!   target is in service with its first success.
//! - A deregistered target gets no new requests. Those under way are finished for the deregistration delay, 300 s unless written, and then cut: 502.
//! - An unhealthy target gets no new requests; those under way go on. Without a healthy target all registered ones are asked, without any the answer is 503.
//! - A connection on which nothing is said for 60 s is closed, on both sides (`loadBalancer.idleTimeout`). A client's that is an hour old is over with its next answer.
//! - A target that refuses, or closes or resets a connection under a request: 502. So where a gateway closes kept connections sooner than the balancer, some
//!   requests meet a close that is on its way. One that does not take a connection within 10 s, or says nothing for the idle time: 504. Nothing is tried again.
//! - Targets in turn, or with `load_balancing.algorithm.type=least_outstanding_requests` where fewest requests are under way.
//! - With `stickiness.enabled=true` a session stays at its target by a cookie: `AWSALB` in each answer, or (`app_cookie`) `AWSALBAPP` beside the cookie of the targets'
//!   own that is named. Its time, one day unless written, begins anew with each answer.
//! - With `slow_start.duration_seconds` (30 to 900) a target that becomes healthy gets its share little by little (`edge::slow_start`).
//!
//! Assumed: the controller's own time; that the product does at once what it is asked; that the kept connection which was used last is taken first, and those to a
//! deregistered target are closed at once.
//!
//! Left out: the second cookie for other origins (`AWSALBCORS`), `Expires` of cookies (seven days, longer than any drill), HTTP/2, and rules of an Ingress.
//!
//! Sources: AWS documents "Health checks for Application Load Balancer target groups", "Edit target group attributes" (deregistration delay, algorithms, slow start), "Sticky sessions
//! for your Application Load Balancer", "Edit attributes
//! for your Application Load Balancer" (idle timeout, client keepalive duration), "Troubleshoot your Application Load Balancers" (502, 503, 504), "How Elastic Load Balancing works"
//! (connections to targets, headers); kubernetes-sigs/aws-load-balancer-controller docs/guide/ingress/annotations.md, docs/deploy/pod_readiness_gate.md, issue 3621 (changes of
//! targets are fast).

use std::time::Duration;

use super::{Check, GateOpens, Profile, Ways, aws_nlb, check};
use crate::edge::balancer::OnRemoval;
use crate::edge::http_proxy::{Forwarded, HttpRules, Sticky};
use crate::edge::scheduler::Scheduler;
use crate::engine::Delay;

/// How long a connection may be silent.
pub const IDLE: Duration = Duration::from_secs(60);

/// The shortest time for which a target is new.
pub const SLOW_START_LEAST: Duration = Duration::from_secs(30);

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
        idle: None,
        http: Some(rules()),
    }
}

/// What it does with requests where nothing else is written.
#[must_use]
pub fn rules() -> HttpRules {
    HttpRules {
        client_idle: IDLE,
        client_requests: None,
        client_life: Some(Duration::from_secs(3600)),
        connect_timeout: Duration::from_secs(10),
        answer_timeout: IDLE,
        target_idle: Some(IDLE),
        tries_next: false,
        cuts_requests: true,
        no_healthy_status: 503,
        forwarded: Forwarded { proto: Some("http"), port: true, client_port: false },
        sticky: None,
        redirect: None,
    }
}

/// What is behind the values of its cookies.
const ATTRIBUTES: &str = "; Path=/";

/// `stickiness.type=lb_cookie`.
#[must_use]
pub fn sticky(duration: Duration) -> Sticky {
    Sticky::Own { name: "AWSALB", attributes: ATTRIBUTES, idle: duration, spares_errors: false }
}

/// `stickiness.type=app_cookie`.
#[must_use]
pub fn sticky_beside(cookie: &str, duration: Duration) -> Sticky {
    Sticky::Beside { name: "AWSALBAPP", attributes: ATTRIBUTES, of_target: cookie.into(), idle: duration }
}
