//! Load balancers of other clouds, as documented sets of timings and behaviours.
//!
//! Each product is one [`Profile`] in a file of its own, with its sources and what it leaves out: [`aws_nlb`], [`aws_alb`], [`gcp`], [`metallb`]. Alibaba's
//! balancers have none: their settings come from the class and the annotations of their Service.
//!
//! What differs between products, beside numbers:
//!
//! - what targets are, and which of the nodes ([`NodeReach`]);
//! - how long a new target waits for its first check, and how many it has to pass;
//! - for how long a target that is deregistered still gets new connections. It is not checked in that time;
//! - when the gate of a pod opens: with its registration, or when it is healthy;
//! - how soon another node answers for the address when the one that did is dead.
//!
//! Sources: those of the products' own files.

pub mod aws_alb;
pub mod aws_nlb;
pub mod gcp;
pub mod metallb;

use std::time::Duration;

use super::balancer::{HealthCheck, OnRemoval, Spacing};
use super::controller::NodeReach;
use super::http_proxy::HttpRules;
use super::idle::IdleRule;
use super::kube_proxy::categories::TrafficPolicy;
use super::load_balancer::{HttpProbe, Probe};
use super::scheduler::Scheduler;
use crate::engine::Delay;

/// A load balancer by its maker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the products' names")]
pub enum Product {
    Alibaba,
    AwsNlb,
    AwsAlb,
    GcpPassthrough,
    MetalLb,
}

impl Product {
    /// All of them, as scenarios name them.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("alibaba", Self::Alibaba),
        ("aws-nlb", Self::AwsNlb),
        ("aws-alb", Self::AwsAlb),
        ("gcp-passthrough", Self::GcpPassthrough),
        ("metallb-l2", Self::MetalLb),
    ];

    /// What scenarios call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, product)| *product == self).map_or("", |(name, _)| name)
    }

    /// How it behaves where nothing else is written; nothing for Alibaba's, whose Services say it. The policy decides which nodes are healthy.
    #[must_use]
    pub fn profile(self, policy: TrafficPolicy) -> Option<Profile> {
        match self {
            Self::Alibaba => None,
            Self::AwsNlb => Some(aws_nlb::profile()),
            Self::AwsAlb => Some(aws_alb::profile()),
            Self::GcpPassthrough => Some(gcp::profile(policy)),
            Self::MetalLb => Some(metallb::profile()),
        }
    }

    /// Whether AWS makes it, so that the AWS Load Balancer Controller looks after it.
    #[must_use]
    pub fn is_of_aws(self) -> bool {
        matches!(self, Self::AwsNlb | Self::AwsAlb)
    }
}

/// How a product behaves where nothing else is written.
#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    /// Its targets are nodes, these of them; none: pods.
    pub nodes: Option<NodeReach>,
    /// How new connections are spread.
    pub scheduler: Scheduler,
    /// With no healthy target, new connections go to any.
    pub fail_open: bool,
    /// When a target counts as healthy; nothing: always.
    pub health_check: Option<HealthCheck>,
    /// Checks that a new target has to pass.
    pub first_passes: u32,
    /// What a check does.
    pub check: Check,
    /// From an endpoint's change to the controller's call.
    pub controller: Delay,
    /// What the product itself does with that call.
    pub ways: Ways,
    /// What a deregistered target's connections meet.
    pub on_deregister: OnRemoval,
    /// What an unhealthy target's connections meet.
    pub on_unhealthy: OnRemoval,
    /// How long connections may be silent.
    pub idle: Option<IdleRule>,
    /// What it does with requests, if it is a proxy for HTTP.
    pub http: Option<HttpRules>,
}

/// What a product's checks do, before annotations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// Open a connection to the port that requests go to.
    Tcp,
    /// Ask the port that requests go to for `/`.
    Http,
    /// Ask each node's kube-proxy whether the Service has an endpoint there.
    ServiceHealth,
    /// Ask each node's kube-proxy for its own health.
    ProxyHealth,
}

impl Check {
    /// The probe of pods that listen on `port`; the Service's `healthCheckNodePort` is `health_port`.
    #[must_use]
    pub fn probe(self, port: u16, health_port: Option<u16>) -> Probe {
        match self {
            Self::Tcp => Probe::Tcp,
            // Source: AWS documents, "Health checks for Application Load Balancer target groups" (matcher).
            Self::Http => Probe::Http(HttpProbe { passes: vec![(200, 200)], ..HttpProbe::get(port, "/") }),
            Self::ServiceHealth => Probe::ServiceHealth { port: health_port.unwrap_or(port), asks_status: true },
            Self::ProxyHealth => Probe::ProxyHealth { port: PROXY_HEALTH_PORT, asks_status: true },
        }
    }
}

/// Where kube-proxies answer for their own health. Source: Kubernetes v1.28.7 pkg/cluster/ports (`ProxyHealthzPort`).
pub const PROXY_HEALTH_PORT: u16 = 10_256;

/// When the gate of a pod opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GateOpens {
    /// As soon as its pod is registered.
    Registered,
    /// When its pod is healthy for the first time.
    Healthy,
}

/// What a product does with what its controller asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ways {
    /// How reports call the product, if they name it.
    pub title: Option<&'static str>,
    /// From a registration to the first check.
    pub registration: Delay,
    /// From a deregistration to the last new connection.
    pub deregistration: Delay,
    /// When gates open.
    pub gate: GateOpens,
    /// The condition of that gate; empty: there is none.
    pub condition: String,
    /// One node answers for the address, and this long after its death another; nothing: an address is not a node's.
    pub failover: Option<Delay>,
}

impl Ways {
    /// What the controller asks for is done at once, and a gate with this condition opens with its pod's registration.
    #[must_use]
    pub fn at_once(condition: String) -> Self {
        Self {
            title: None,
            registration: Delay::ZERO,
            deregistration: Delay::ZERO,
            gate: GateOpens::Registered,
            condition,
            failover: None,
        }
    }
}

/// A check whose interval is counted from the start of a probe.
const fn check(interval: u64, timeout: u64, healthy_threshold: u32, unhealthy_threshold: u32) -> HealthCheck {
    HealthCheck {
        interval: Duration::from_secs(interval),
        spacing: Spacing::Starts,
        timeout: Duration::from_secs(timeout),
        healthy_threshold,
        unhealthy_threshold,
    }
}

#[cfg(test)]
mod tests;
