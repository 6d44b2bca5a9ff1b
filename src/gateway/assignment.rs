//! The endpoints of a cluster, as a control plane assigns them to the gateways that see them alike.
//!
//! Gateways share it: what follows from an assignment alone, such as who is in which priority or a ring of hashes, is worked out once for all of them, when the
//! first one asks. What a gateway knows for itself (connections, requests in flight, ejections) is `upstream`'s, and refers to endpoints by their number here.
//!
//! Source: envoy api envoy/config/endpoint/v3/endpoint.proto (`ClusterLoadAssignment`).

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::balance::{BalanceConfig, BalancedHost, HostSets};
use super::cluster::{ClusterConfig, EndpointConfig};

/// The endpoints of a cluster. Clones share them.
#[derive(Clone, Default, Debug)]
pub struct LoadAssignment(Rc<Assigned>);

#[derive(Default, Debug)]
struct Assigned {
    endpoints: Box<[EndpointConfig]>,
    indexes: OnceCell<BTreeMap<SocketAddr, usize>>,
    has_equal_weights: OnceCell<bool>,
    /// As they were sorted last, and under which settings.
    sorted: RefCell<Option<Sorted>>,
}

/// Hosts for balancing, with the settings and the panic threshold, percent, that they are sorted for.
type Sorted = ((BalanceConfig, u32), Rc<HostSets>);

impl LoadAssignment {
    /// These endpoints.
    #[must_use]
    pub fn new(endpoints: Vec<EndpointConfig>) -> Self {
        Self(Rc::new(Assigned { endpoints: endpoints.into(), ..Assigned::default() }))
    }

    /// In the order in which they are assigned.
    #[must_use]
    pub fn endpoints(&self) -> &[EndpointConfig] {
        &self.0.endpoints
    }

    /// The number of the endpoint at this address.
    pub(super) fn index_of(&self, address: SocketAddr) -> Option<usize> {
        let indexes = self.0.indexes.get_or_init(|| {
            let mut indexes = BTreeMap::new();
            for (index, endpoint) in self.endpoints().iter().enumerate() {
                indexes.entry(endpoint.address).or_insert(index);
            }
            indexes
        });
        indexes.get(&address).copied()
    }

    /// Whether workers draw where their turns begin as soon as they hear of these, and not with their first pick.
    pub(super) fn takes_seed(&self, config: &ClusterConfig) -> bool {
        let equal = || self.0.endpoints.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let may_differ = config.balance.is_locality_weighted || !self.0.has_equal_weights.get_or_init(equal);
        may_differ && self.sorted(config).takes_seed()
    }

    /// Sorted for balancing, all that are ready in rotation and none in slow start.
    pub(super) fn sorted(&self, config: &ClusterConfig) -> Rc<HostSets> {
        let settings = (config.balance, config.panic_threshold_percent);
        let mut sorted = self.0.sorted.borrow_mut();
        match &*sorted {
            Some((known, sets)) if *known == settings => Rc::clone(sets),
            _ => {
                let hosts = self.0.endpoints.iter().map(|endpoint| balanced(endpoint, config)).collect();
                let sets = Rc::new(HostSets::new(settings.0, u64::from(settings.1), hosts));
                *sorted = Some((settings, Rc::clone(&sets)));
                sets
            }
        }
    }
}

/// A ready endpoint in rotation, as a balancer sees it.
pub(super) fn balanced(endpoint: &EndpointConfig, config: &ClusterConfig) -> BalancedHost {
    let hash_key = || endpoint.hash_key.clone().unwrap_or_else(|| Arc::from(endpoint.address.to_string()));
    BalancedHost {
        weight: endpoint.weight.max(1),
        priority: usize::try_from(endpoint.priority).expect("a priority is a small number"),
        locality: endpoint.locality.clone(),
        is_healthy: endpoint.is_healthy,
        hash_key: config.balance.policy.hashes().then(hash_key),
        slow_start_since: None,
    }
}
