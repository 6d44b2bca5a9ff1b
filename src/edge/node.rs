//! What a node does with a connection that reaches its `NodePort`: the endpoints it may choose, and the choice.
//!
//! - `externalTrafficPolicy: Cluster`: any ready endpoint, on whichever node; the client's address is replaced by the node's.
//! - `Local`: only endpoints on this node. None there: the packet is dropped, and the client hears nothing.
//! - In either set, if no endpoint is ready, those that terminate and still serve are used instead.
//! - The choice is uniform per connection. Established connections follow conntrack and are not touched here.
//!
//! Source: Kubernetes v1.28.7 pkg/proxy/topology.go `CategorizeEndpoints`, pkg/proxy/iptables/proxier.go,
//! pkg/proxy/healthcheck/service_health.go.

use std::net::Ipv4Addr;

use crate::cluster::EndpointView;
use crate::engine::Stream;

/// Where a node sends a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodePath {
    /// To this endpoint. The node replaces the client's address under policy `Cluster`.
    To {
        /// The pod's address.
        ip: Ipv4Addr,
        /// It runs on another node: one more hop.
        is_remote: bool,
    },
    /// No endpoint anywhere: the connection is refused.
    Refuse,
    /// Policy `Local` and no endpoint here: the packet is dropped.
    Drop,
}

/// Which endpoints external traffic may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficPolicy {
    /// Those of all nodes.
    Cluster,
    /// Those of the node that the balancer chose.
    Local,
}

/// Where node `node` sends a new connection, by its own view of the endpoints.
pub fn choose_path(node: &str, endpoints: &[EndpointView], policy: TrafficPolicy, stream: &mut Stream) -> NodePath {
    let here = |endpoint: &&EndpointView| policy == TrafficPolicy::Cluster || &*endpoint.node == node;
    let candidates = || endpoints.iter().filter(here);
    let mut usable: Vec<&EndpointView> = candidates().filter(|endpoint| endpoint.ready).collect();
    if usable.is_empty() {
        usable = candidates().filter(|endpoint| endpoint.serving && endpoint.terminating).collect();
    }
    let count = u64::try_from(usable.len()).unwrap_or(u64::MAX);
    if count == 0 {
        return if policy == TrafficPolicy::Local { NodePath::Drop } else { NodePath::Refuse };
    }
    let index = usize::try_from(stream.below(count)).unwrap_or(0);
    let chosen = usable[index];
    NodePath::To { ip: chosen.ip, is_remote: &*chosen.node != node }
}

/// What the node's `healthCheckNodePort` answers: whether a *ready* endpoint runs here. Terminating ones do not count, though
/// traffic may still go to them.
#[must_use]
pub fn passes_health_check(node: &str, endpoints: &[EndpointView]) -> bool {
    endpoints.iter().any(|endpoint| endpoint.ready && &*endpoint.node == node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Streams;
    use std::rc::Rc;

    fn endpoint(last: u8, node: &str, state: &str) -> EndpointView {
        EndpointView {
            ip: Ipv4Addr::new(10, 0, 0, last),
            pod: Rc::from("p"),
            node: Rc::from(node),
            ready: state == "ready",
            serving: state == "ready" || state == "draining",
            terminating: state == "draining" || state == "dying",
            because: None,
        }
    }

    /// The last octets that node `a` chooses in 200 tries, or what it does instead.
    fn paths(endpoints: &[EndpointView], policy: TrafficPolicy) -> Vec<String> {
        let mut stream = Streams::new(1).stream("node", "a");
        let mut seen: Vec<String> = (0..200)
            .map(|_| match choose_path("a", endpoints, policy, &mut stream) {
                NodePath::To { ip, is_remote } => {
                    format!("{}{}", ip.octets()[3], if is_remote { " remote" } else { "" })
                }
                NodePath::Refuse => "refuse".to_owned(),
                NodePath::Drop => "drop".to_owned(),
            })
            .collect();
        seen.sort();
        seen.dedup();
        seen
    }

    #[test]
    fn cluster_uses_all_nodes_and_local_its_own() {
        let endpoints = [endpoint(1, "a", "ready"), endpoint(2, "b", "ready"), endpoint(3, "a", "draining")];
        assert_eq!(paths(&endpoints, TrafficPolicy::Cluster), ["1", "2 remote"]);
        assert_eq!(paths(&endpoints, TrafficPolicy::Local), ["1"]);
        assert!(passes_health_check("a", &endpoints));
    }

    #[test]
    fn the_terminating_serve_only_if_nobody_else_does() {
        let endpoints = [endpoint(1, "a", "draining"), endpoint(2, "b", "ready"), endpoint(3, "a", "dying")];
        assert_eq!(paths(&endpoints, TrafficPolicy::Cluster), ["2 remote"]);
        assert_eq!(paths(&endpoints, TrafficPolicy::Local), ["1"]);
        assert!(!passes_health_check("a", &endpoints));
    }

    #[test]
    fn nobody_left_is_a_refusal_or_a_black_hole() {
        let endpoints = [endpoint(2, "b", "ready")];
        assert_eq!(paths(&endpoints, TrafficPolicy::Local), ["drop"]);
        assert_eq!(paths(&[], TrafficPolicy::Cluster), ["refuse"]);
    }
}
