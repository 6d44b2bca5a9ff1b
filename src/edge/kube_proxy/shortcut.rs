//! What a pod of the cluster reaches when it dials the balancer's own address.
//!
//! kube-proxy knows that address and keeps the connection within the cluster; the balancer never sees it. Under external policy `Cluster` any
//! endpoint takes it. Under `Local` the proxies differ:
//!
//! - iptables and nftables send a pod's connection to any endpoint, *if* kube-proxy can tell which addresses are pods' (`detectLocalMode` and
//!   `clusterCIDR`). Otherwise it is treated as one from outside: only this node's endpoints, and without one the packet is dropped.
//! - IPVS takes this node's endpoints, and where there is none, those of all nodes; before 1.21 only this node's.
//!
//! It is so only if the Service's status gives the balancer's address. Where it gives a name (an NLB, or a CLB with its `hostname` annotation) or,
//! from 1.30 on, an address with `ipMode: Proxy`, pods reach the balancer as everybody does.
//!
//! Sources: Kubernetes v1.28.7 pkg/proxy/iptables/proxier.go (`localDetector.IsImplemented`), pkg/proxy/ipvs/proxier.go and pull request 97081;
//! KEP-1860; Alibaba Cloud Service Mesh, "Resolve pods failing to access the CLB IP address of an ingress gateway" (only pods on nodes with a
//! gateway pod reach the address: kube-proxy there cannot tell pods).

use super::ProxyMode;
use crate::cluster::version::Version;

/// What a client in the cluster reaches at the balancer's address where the external policy is `Local`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shortcut {
    /// The endpoints of all nodes.
    Cluster,
    /// Those of its own node.
    Local,
    /// Those of its own node; without one, those of all.
    LocalFirst,
}

impl Shortcut {
    /// What a proxy does. `detects_pods`: it can tell pods' addresses from others.
    #[must_use]
    pub fn of(mode: ProxyMode, version: Version, detects_pods: bool) -> Self {
        match mode {
            ProxyMode::Ipvs if version >= Version::new(1, 21) => Self::LocalFirst,
            ProxyMode::Iptables | ProxyMode::Nftables if detects_pods => Self::Cluster,
            _ => Self::Local,
        }
    }

    /// Whether only the node's own endpoints may be used; `has_local`: it has one.
    #[must_use]
    pub fn is_local(self, has_local: bool) -> bool {
        match self {
            Self::Cluster => false,
            Self::Local => true,
            Self::LocalFirst => has_local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_differ_by_mode_version_and_what_they_can_tell() {
        let table = [
            (ProxyMode::Iptables, 33, false, Shortcut::Local),
            (ProxyMode::Iptables, 33, true, Shortcut::Cluster),
            (ProxyMode::Nftables, 33, false, Shortcut::Local),
            (ProxyMode::Nftables, 33, true, Shortcut::Cluster),
            (ProxyMode::Ipvs, 20, false, Shortcut::Local),
            (ProxyMode::Ipvs, 20, true, Shortcut::Local),
            (ProxyMode::Ipvs, 21, false, Shortcut::LocalFirst),
            (ProxyMode::Ipvs, 33, true, Shortcut::LocalFirst),
        ];
        for (mode, minor, detects_pods, expected) in table {
            assert_eq!(Shortcut::of(mode, Version::new(1, minor), detects_pods), expected, "{mode:?} 1.{minor}");
        }
    }
}
