//! MetalLB in layer 2 mode: no balancer, but one node at a time that answers for the address.
//!
//! - All connections go to one node, which passes them on by kube-proxy's rules. Under policy `Cluster` any node with a speaker may be the one; under `Local` only
//!   one with an endpoint that serves, a terminating one included. Without an endpoint that serves nobody answers.
//! - The first by a hash over the node's name and the address is the one, so a node that comes or goes moves the address only if it is first.
//! - There are no health checks. Speakers notice a dead one by their gossip, not by Kubernetes' 40 s: a probe each second, then 4 s of suspicion, in all 5 to
//!   7 s (measured with three members: 5.7 to 6.6 s).
//! - The address moves with a gratuitous ARP. The new node does not know the old one's connections: who speaks next on one gets RST.
//!
//! Assumed: the time in which speakers hear of endpoints; that clients and routers heed the gratuitous ARP at once, as MetalLB's documents have it of most;
//! another hash than MetalLB's SHA-256, with the same properties; that a speaker is back as soon as its node is.
//!
//! Left out: clusters of more than ten nodes, whose suspicion is longer (4 s × log₁₀ of their number), the suspicion's extension where few peers confirm it,
//! pools and advertisements by node, kube-proxy in IPVS mode without strict ARP, and BGP mode.
//!
//! Sources: MetalLB documents "MetalLB in layer 2 mode"; metallb/metallb speaker/layer2_controller.go (`ShouldAnnounce`, `usableNodes`),
//! internal/k8s/epslices (`EndpointCanServe`), internal/speakerlist/speakerlist.go; hashicorp/memberlist config.go (`DefaultLANConfig`), util.go
//! (`suspicionTimeout`).

use std::time::Duration;

use super::{Check, GateOpens, Profile, Ways};
use crate::edge::balancer::OnRemoval;
use crate::edge::controller::NodeReach;
use crate::edge::scheduler::Scheduler;
use crate::engine::Delay;

/// How it behaves.
#[must_use]
pub fn profile() -> Profile {
    Profile {
        nodes: Some(NodeReach::Leader),
        scheduler: Scheduler::RoundRobin,
        fail_open: false,
        health_check: None,
        first_passes: 1,
        check: Check::Tcp,
        controller: Delay::Lognormal { p50: Duration::from_millis(200), p99: Duration::from_millis(1000) },
        ways: Ways {
            title: Some("MetalLB, layer 2"),
            registration: Delay::ZERO,
            deregistration: Delay::ZERO,
            gate: GateOpens::Registered,
            condition: String::new(),
            failover: Some(Delay::Uniform { min: Duration::from_secs(5), max: Duration::from_secs(7) }),
        },
        on_deregister: OnRemoval::Forget,
        on_unhealthy: OnRemoval::Keep,
        idle: None,
        http: None,
    }
}
