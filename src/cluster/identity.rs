//! Which of several clusters one is: what its objects are called where all clusters are told of, and which addresses are its own.
//!
//! All clusters of a world share one network, as clusters do whose VPCs are joined, so no two may use the same address. A cluster that is alone
//! has all of them, and its objects are called as they are.

use std::net::Ipv4Addr;
use std::rc::Rc;

/// How many clusters one world may have: so many fit into the address ranges.
pub const CLUSTERS_MAX: usize = 8;

/// Pods. A cluster that is alone has 2^22 addresses.
const PODS: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
/// Pods that started anew after their node's machine had booted.
const SPARE_PODS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
/// Addresses of pods, over all clusters.
const PODS_BITS: u32 = 22;
/// Nodes that the run finds or its timeline adds.
const NODES: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);
/// Nodes that an autoscaler makes.
const SCALED_NODES: Ipv4Addr = Ipv4Addr::new(192, 169, 0, 1);
/// Nodes of each kind, over all clusters.
const NODES_BITS: u32 = 16;
/// The bits that tell clusters apart.
const CLUSTER_BITS: u32 = CLUSTERS_MAX.ilog2();

/// Which cluster it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its number and name, if there are several.
    of_several: Option<(u32, Rc<str>)>,
}

impl Identity {
    /// The only cluster.
    pub const ALONE: Self = Self { of_several: None };

    /// One of several clusters; `index` counts from 0.
    ///
    /// # Panics
    ///
    /// If there are more than [`CLUSTERS_MAX`].
    #[must_use]
    pub fn of_several(index: usize, name: Rc<str>) -> Self {
        assert!(index < CLUSTERS_MAX, "there are addresses for {CLUSTERS_MAX} clusters");
        Self { of_several: Some((u32::try_from(index).expect("a small number"), name)) }
    }

    /// Its name, if there are several.
    #[must_use]
    pub fn name(&self) -> Option<&Rc<str>> {
        self.of_several.as_ref().map(|(_, name)| name)
    }

    /// What `namespace/name` is called among several clusters: `cluster/namespace/name`.
    #[must_use]
    pub fn key(&self, key: &str) -> Rc<str> {
        match self.name() {
            Some(cluster) => Rc::from(format!("{cluster}/{key}")),
            None => Rc::from(key),
        }
    }

    /// What the object of an event is called: `Kind/namespace/name`, with the cluster after the kind.
    #[must_use]
    pub fn object(&self, object: String) -> String {
        match (self.name(), object.split_once('/')) {
            (Some(cluster), Some((kind, key))) => format!("{kind}/{cluster}/{key}"),
            _ => object,
        }
    }

    fn share(&self, bits: u32) -> u32 {
        if self.of_several.is_some() { bits - CLUSTER_BITS } else { bits }
    }

    fn first(&self, of_all: Ipv4Addr, bits: u32) -> u32 {
        let index = self.of_several.as_ref().map_or(0, |(index, _)| *index);
        of_all.to_bits() + (index << self.share(bits))
    }

    /// Every pod has an address of its own, until there have been more than there are addresses.
    pub(super) fn pod_ip(&self, id: u64) -> Ipv4Addr {
        let count = 1_u64 << self.share(PODS_BITS);
        Ipv4Addr::from_bits(self.first(PODS, PODS_BITS) + u32::try_from(id % count).expect("below 2^22"))
    }

    /// The pods that have, had or will have an address, of those before `next`.
    pub(super) fn ids_of_ip(&self, ip: Ipv4Addr, next: u64) -> impl Iterator<Item = u64> + use<> {
        let count = 1_u64 << self.share(PODS_BITS);
        let number = ip.to_bits().checked_sub(self.first(PODS, PODS_BITS)).map(u64::from);
        let step = usize::try_from(count).expect("2^22 is an index");
        number.filter(|number| *number < count).into_iter().flat_map(move |number| (number..next).step_by(step))
    }

    /// An address for the `number`th pod that starts anew on a booted machine.
    pub(super) fn spare_pod_ip(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first(SPARE_PODS, PODS_BITS) + number)
    }

    /// The address of the `index`th node.
    #[must_use]
    pub fn node_ip(&self, index: usize) -> Ipv4Addr {
        let offset = u32::try_from(index).unwrap_or(u32::MAX);
        Ipv4Addr::from_bits(self.first(NODES, NODES_BITS).saturating_add(offset))
    }

    /// The address of a node that an autoscaler has made.
    pub(super) fn scaled_node_ip(&self, number: usize) -> Ipv4Addr {
        let offset = u32::try_from(number).expect("fewer than 2^32 nodes");
        Ipv4Addr::from_bits(self.first(SCALED_NODES, NODES_BITS) + offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_is_alone_names_things_as_they_are() {
        let alone = Identity::ALONE;
        assert_eq!(&*alone.key("ns/edge"), "ns/edge");
        assert_eq!(alone.object("Pod/ns/edge-1".to_owned()), "Pod/ns/edge-1");
        assert_eq!([alone.pod_ip(0), alone.pod_ip(1 << 22)], [PODS, PODS]);
        assert_eq!(alone.ids_of_ip(PODS, (1 << 22) + 1).collect::<Vec<_>>(), [0, 1 << 22]);
    }

    #[test]
    fn clusters_share_no_name_and_no_address() {
        let clusters: Vec<Identity> =
            (0..CLUSTERS_MAX).map(|index| Identity::of_several(index, Rc::from(format!("c-{index}")))).collect();
        assert_eq!(&*clusters[1].key("ns/edge"), "c-1/ns/edge");
        assert_eq!(clusters[1].object("Pod/ns/edge-1".to_owned()), "Pod/c-1/ns/edge-1");
        let last_pod = (1 << 19) - 1;
        for pair in clusters.windows(2) {
            let next = |ip: Ipv4Addr| Ipv4Addr::from_bits(ip.to_bits() + 1);
            assert_eq!(next(pair[0].pod_ip(last_pod)), pair[1].pod_ip(0));
            assert_eq!(next(pair[0].node_ip(8191)), pair[1].node_ip(0));
            assert_eq!(pair[0].ids_of_ip(pair[1].pod_ip(0), u64::MAX).next(), None);
            assert_eq!(pair[1].ids_of_ip(pair[1].pod_ip(7), 8).collect::<Vec<_>>(), [7]);
        }
        // The pods' ranges end before those of booted machines begin.
        assert!(clusters[CLUSTERS_MAX - 1].pod_ip(last_pod) < clusters[0].spare_pod_ip(1));
    }
}
