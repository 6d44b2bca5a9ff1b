//! Which node answers for an address that several could answer for.
//!
//! Under policy `Local` a node needs an endpoint that serves, a terminating one included; under `Cluster` any will do, as long as some endpoint serves
//! somewhere. Of those the first by a hash over its name and the Service's is the one: who is not the first may come and go without moving the address.
//!
//! Source: metallb/metallb speaker/layer2_controller.go (`ShouldAnnounce`, `usableNodes`), internal/k8s/epslices (`EndpointCanServe`). Its hash is SHA-256 over the
//! node's name and the address.

use super::kube_proxy::categories::TrafficPolicy;
use super::load_balancer::NodeTarget;
use crate::cluster::EndpointView;

/// The node that answers for a Service's address; none if nobody does.
#[must_use]
pub fn leader<'a>(
    service: &str,
    policy: TrafficPolicy,
    endpoints: &[EndpointView],
    eligible: &'a [NodeTarget],
) -> Option<&'a NodeTarget> {
    let serves = |endpoint: &&EndpointView| endpoint.ready || endpoint.serving;
    let mut serving = endpoints.iter().filter(serves);
    let may_be = |node: &&NodeTarget| match policy {
        TrafficPolicy::Cluster => true,
        TrafficPolicy::Local => endpoints.iter().filter(serves).any(|endpoint| endpoint.node == node.name),
    };
    serving.next()?;
    eligible.iter().filter(may_be).min_by_key(|node| (rank(&node.name, service), node.ip))
}

/// FNV-1a over both names, mixed once more so that the last letters count as much as the first.
fn rank(node: &str, service: &str) -> u64 {
    let bytes = node.bytes().chain([b'#']).chain(service.bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::rc::Rc;

    use super::*;

    fn nodes(count: u8) -> Vec<NodeTarget> {
        let node = |number| NodeTarget {
            is_virtual: false,
            name: Rc::from(format!("n-{number}")),
            ip: Ipv4Addr::new(192, 168, 0, number),
        };
        (1..=count).map(node).collect()
    }

    /// An endpoint on a node: `r`eady, `s`erving while it terminates, or `t`erminating and no more.
    fn endpoint(number: u8, state: char) -> EndpointView {
        EndpointView {
            ip: Ipv4Addr::new(10, 0, 0, number),
            pod: Rc::from("p"),
            node: Rc::from(format!("n-{number}")),
            ready: state == 'r',
            serving: state != 't',
            terminating: state != 'r',
            because: None,
        }
    }

    #[test]
    fn an_endpoint_must_serve_and_under_local_on_the_node() {
        use TrafficPolicy::{Cluster, Local};
        let table = [
            (Cluster, vec![], 3, false),
            (Cluster, vec![endpoint(1, 't')], 3, false),
            (Cluster, vec![endpoint(1, 's')], 3, true),
            (Local, vec![endpoint(2, 't')], 3, false),
            (Local, vec![endpoint(2, 's')], 3, true),
            (Local, vec![endpoint(2, 'r')], 3, true),
            (Local, vec![endpoint(3, 'r')], 2, false),
            (Cluster, vec![endpoint(3, 'r')], 2, true),
            (Cluster, vec![endpoint(1, 'r')], 0, false),
        ];
        for (policy, endpoints, count, is_one) in table {
            let nodes = nodes(count);
            let found = leader("default/edge", policy, &endpoints, &nodes);
            assert_eq!(found.is_some(), is_one, "{policy:?} {endpoints:?}");
            if let (Local, Some(found)) = (policy, found) {
                assert_eq!(&*found.name, "n-2");
            }
        }
    }

    #[test]
    fn only_the_first_moves_the_address_and_each_can_be_it() {
        let all = nodes(9);
        let endpoints = [endpoint(1, 'r')];
        let mut leaders = BTreeSet::new();
        for number in 0..200 {
            let service = format!("default/edge-{number}");
            let of = |nodes: &[NodeTarget]| {
                leader(&service, TrafficPolicy::Cluster, &endpoints, nodes).expect("there are nodes").clone()
            };
            let first = of(&all);
            for gone in &all {
                let rest: Vec<NodeTarget> = all.iter().filter(|node| *node != gone).cloned().collect();
                assert_eq!(of(&rest) == first, *gone != first, "{service} without {}", gone.name);
            }
            leaders.insert(first.name);
        }
        assert_eq!(leaders.len(), 9);
    }
}
