//! A kube-proxy: what its node does with a connection to a Service, over a node port or the cluster's own address.
//!
//! - [`categories`]: the endpoints that the node may use, by policy.
//! - [`affinity`]: the endpoint that a client sticks to.
//! - [`pace`]: when changes become rules.
//! - [`health`]: what it answers to those who ask for its health.
//! - [`shortcut`]: what becomes of the balancer's address within the cluster.
//!
//! The choice is made per connection, when its first packet comes; what follows goes the same way by the node's connection table,
//! whatever the rules have become. So connections to a removed endpoint live on, and a SYN that is sent again meets the same pod.
//!
//! - The iptables and nftables proxies choose uniformly at random, the IPVS proxy in turn, each node for itself.
//! - Without a usable endpoint: if there is none anywhere, the connection is refused; if policy `Local` forbids those that there are, the
//!   packet is dropped and the client hears nothing.
//! - Under external policy `Cluster` the node puts its own address in place of the client's.
//! - What the rules lead to is worked out when somebody asks: most nodes of a large cluster see no connection between two changes.
//! - Before 1.26 an endpoint that terminates serves nobody new, though no other were left (`ProxyTerminatingEndpoints`, KEP-1669).
//!
//! Source: Kubernetes v1.28.7 pkg/proxy/topology.go, pkg/proxy/{iptables,ipvs}/proxier.go.

pub mod affinity;
pub mod categories;
pub mod health;
pub mod pace;
pub mod shortcut;

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use affinity::{Affinity, RECENT_CLIENTS_MAX};
use categories::{Candidate, Policies, TrafficPolicy, categorize};
use health::{ProxyHealth, SYNC_PERIOD, ServiceHealth};
use shortcut::Shortcut;

use crate::cluster::EndpointList;
use crate::cluster::endpoints::EndpointConditions;
use crate::cluster::version::Version;
use crate::engine::{EventId, Stream};
use crate::units::SimTime;

/// How a kube-proxy writes its rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyMode {
    /// Rules of iptables.
    Iptables,
    /// Virtual servers of IPVS.
    Ipvs,
    /// Rules of nftables.
    Nftables,
}

/// What a kube-proxy knows of a Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceRules {
    /// How rules are written.
    pub mode: ProxyMode,
    /// Which endpoints traffic may use.
    pub policies: Policies,
    /// For how long a client sticks to an endpoint; none: it does not.
    pub affinity: Option<Duration>,
    /// Endpoints that terminate and still serve take over where no other is left.
    pub uses_terminating: bool,
    /// What a client in the cluster reaches at the balancer's address where the external policy is `Local`.
    pub shortcut: Shortcut,
}

impl ServiceRules {
    /// Whether the node's address takes the place of the client's.
    #[must_use]
    pub fn masquerades(&self, origin: Origin) -> bool {
        self.policies.external == TrafficPolicy::Cluster && origin != Origin::Internal
    }
}

/// Whether endpoints that terminate take over where no other is left: `ProxyTerminatingEndpoints`, on from 1.26.
#[must_use]
pub fn uses_terminating(version: Version) -> bool {
    version >= Version::new(1, 26)
}

/// Where a connection comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A pod of the cluster, to the Service's own address.
    Internal,
    /// A pod of the cluster, to the balancer's address.
    InternalToBalancer,
    /// Outside, over a node port or a balancer.
    External,
}

/// Where a node sends a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodePath {
    /// To this endpoint.
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

/// An endpoint that rules lead to.
#[derive(Clone, Copy, Debug)]
struct Destination {
    ip: Ipv4Addr,
    is_remote: bool,
}

/// The kube-proxy of one node, with the rules it has written for one Service.
#[derive(Clone, Debug)]
pub struct KubeProxy {
    node: Rc<str>,
    rules: ServiceRules,
    /// The endpoints that its rules are for.
    endpoints: EndpointList,
    /// What they lead to, once somebody has asked.
    found: Option<Found>,
    affinity: Option<Affinity>,
    /// Whom the IPVS proxy chose last.
    last_chosen: Option<Ipv4Addr>,
    health: ProxyHealth,
    /// The last change of any endpoint that its rules know, and of one on this node.
    last_change: [Option<EventId>; 2],
}

/// What rules lead to.
#[derive(Clone, Debug)]
struct Found {
    cluster: Vec<Destination>,
    local: Vec<Destination>,
    has_any: bool,
    local_ready_count: usize,
}

impl Found {
    fn of(endpoints: &EndpointList, node: &str, rules: ServiceRules) -> Self {
        let ips: Vec<Ipv4Addr> = endpoints.iter().map(|endpoint| endpoint.ip).collect();
        let candidates: Vec<Candidate<'_>> = endpoints
            .iter()
            .map(|endpoint| Candidate {
                conditions: EndpointConditions {
                    ready: endpoint.ready,
                    serving: endpoint.serving && (rules.uses_terminating || !endpoint.terminating),
                    terminating: endpoint.terminating,
                },
                is_local: *endpoint.node == *node,
                zone_hints: &[],
            })
            .collect();
        let found = categorize(&candidates, rules.policies, None);
        let destinations = |indexes: &Option<Vec<usize>>| -> Vec<Destination> {
            let indexes = indexes.iter().flatten();
            let of = |index: &usize| Destination { ip: ips[*index], is_remote: !candidates[*index].is_local };
            indexes.map(of).collect()
        };
        Self {
            cluster: destinations(&found.cluster),
            local: destinations(&found.local),
            has_any: found.has_any,
            local_ready_count: candidates.iter().filter(|it| it.is_local && it.conditions.ready).count(),
        }
    }

    /// Whether any rule leads to this address.
    fn reaches(&self, ip: Ipv4Addr) -> bool {
        self.cluster.iter().chain(&self.local).any(|found| found.ip == ip)
    }
}

impl KubeProxy {
    /// The kube-proxy of a node that has not heard of any endpoint.
    #[must_use]
    pub fn new(node: Rc<str>, rules: ServiceRules) -> Self {
        let clients_max = (rules.mode == ProxyMode::Iptables).then_some(RECENT_CLIENTS_MAX);
        Self {
            node,
            rules,
            endpoints: EndpointList::default(),
            found: None,
            affinity: rules.affinity.map(|timeout| Affinity::new(timeout, clients_max)),
            last_chosen: None,
            health: ProxyHealth::new(2 * SYNC_PERIOD),
            last_change: [None; 2],
        }
    }

    /// What it knows of the Service.
    #[must_use]
    pub fn rules(&self) -> ServiceRules {
        self.rules
    }

    /// The Service is another: what follows from that is written with the next rules.
    pub fn set_rules(&mut self, rules: ServiceRules) {
        self.found();
        if self.rules.affinity != rules.affinity {
            let clients_max = (rules.mode == ProxyMode::Iptables).then_some(RECENT_CLIENTS_MAX);
            self.affinity = rules.affinity.map(|timeout| Affinity::new(timeout, clients_max));
        }
        self.rules = rules;
    }

    /// A change has come; its rules are still to be written.
    pub fn handle_change(&mut self, now: SimTime) {
        self.health.handle_change(now);
    }

    /// Writes the rules for these endpoints.
    pub fn sync(&mut self, endpoints: &EndpointList) {
        self.health.handle_synced();
        for (last, change) in self.last_change.iter_mut().zip(endpoints.last_changes_since(&self.endpoints, &self.node))
        {
            *last = (*last).max(change);
        }
        (self.endpoints, self.found) = (endpoints.clone(), None);
        if self.affinity.is_some() {
            let found = Found::of(endpoints, &self.node, self.rules);
            if let Some(affinity) = &mut self.affinity {
                affinity.keep(|ip| found.reaches(ip));
            }
            self.found = Some(found);
        }
    }

    /// What its rules lead to.
    fn found(&mut self) -> &Found {
        self.found.get_or_insert_with(|| Found::of(&self.endpoints, &self.node, self.rules))
    }

    /// Where the first packet of a client's connection goes.
    pub fn choose(&mut self, now: SimTime, client: Ipv4Addr, origin: Origin, stream: &mut Stream) -> NodePath {
        self.found();
        let Some(found) = &self.found else { return NodePath::Refuse };
        let policies = self.rules.policies;
        let is_local = match origin {
            Origin::Internal => policies.internal == TrafficPolicy::Local,
            Origin::External => policies.external == TrafficPolicy::Local,
            Origin::InternalToBalancer => {
                policies.external == TrafficPolicy::Local && self.rules.shortcut.is_local(!found.local.is_empty())
            }
        };
        let usable = if is_local { &found.local } else { &found.cluster };
        if usable.is_empty() {
            return if found.has_any { NodePath::Drop } else { NodePath::Refuse };
        }
        let known = self.affinity.as_ref();
        let known = known.and_then(|known| known.endpoint_of(client, usable.iter().map(|found| found.ip), now));
        let sticks_to = usable.iter().find(|found| Some(found.ip) == known);
        let chosen = *sticks_to.unwrap_or_else(|| match self.rules.mode {
            ProxyMode::Iptables | ProxyMode::Nftables => {
                let count = u64::try_from(usable.len()).unwrap_or(u64::MAX);
                &usable[usize::try_from(stream.below(count)).unwrap_or(0)]
            }
            ProxyMode::Ipvs => {
                let last = usable.iter().position(|found| Some(found.ip) == self.last_chosen);
                &usable[last.map_or(0, |index| (index + 1) % usable.len())]
            }
        });
        if sticks_to.is_none() {
            self.last_chosen = Some(chosen.ip);
        }
        if let Some(affinity) = &mut self.affinity {
            affinity.handle_connection(client, chosen.ip, now);
        }
        NodePath::To { ip: chosen.ip, is_remote: chosen.is_remote }
    }

    /// What the Service's `healthCheckNodePort` answers here.
    #[must_use]
    pub fn service_health(&mut self, now: SimTime) -> ServiceHealth {
        ServiceHealth { local_endpoints: self.found().local_ready_count, is_proxy_healthy: self.health.is_healthy(now) }
    }

    /// What its own `/healthz` answers.
    #[must_use]
    pub fn healthz(&self, now: SimTime) -> u16 {
        self.health.healthz(now)
    }

    /// The endpoints that its rules are for.
    #[must_use]
    pub fn endpoints(&self) -> &EndpointList {
        &self.endpoints
    }

    /// The last change that left a connection no endpoint: of those on this node, if there are others elsewhere.
    #[must_use]
    pub fn why_none(&mut self) -> Option<EventId> {
        let [anywhere, here] = self.last_change;
        if self.found().has_any { here } else { anywhere }
    }
}

#[cfg(test)]
mod tests {
    use super::categories::Reach;
    use super::*;
    use crate::cluster::EndpointView;
    use crate::engine::Streams;
    use std::collections::BTreeSet;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

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

    fn rules(external: TrafficPolicy) -> ServiceRules {
        let policies = Policies { internal: TrafficPolicy::Cluster, external, reach: Reach::External };
        let (uses_terminating, shortcut) = (true, Shortcut::Local);
        ServiceRules { mode: ProxyMode::Iptables, policies, affinity: None, uses_terminating, shortcut }
    }

    fn status(mut proxy: KubeProxy) -> u16 {
        proxy.service_health(SimTime::ZERO).status()
    }

    fn proxy(rules: ServiceRules, endpoints: &[EndpointView]) -> KubeProxy {
        let mut proxy = KubeProxy::new(Rc::from("a"), rules);
        proxy.sync(&EndpointList::from(endpoints.to_vec()));
        proxy
    }

    fn told(path: &NodePath) -> String {
        match path {
            NodePath::To { ip, is_remote } => format!("{}{}", ip.octets()[3], if *is_remote { " remote" } else { "" }),
            NodePath::Refuse => "refuse".to_owned(),
            NodePath::Drop => "drop".to_owned(),
        }
    }

    /// The last octets that node `a` chooses in 200 tries, or what it does instead.
    fn paths(endpoints: &[EndpointView], policy: TrafficPolicy) -> Vec<String> {
        let mut proxy = proxy(rules(policy), endpoints);
        let mut stream = Streams::new(1).stream("node", "a");
        let mut seen: Vec<String> =
            (0..200).map(|_| told(&proxy.choose(SimTime::ZERO, CLIENT, Origin::External, &mut stream))).collect();
        seen.sort();
        seen.dedup();
        seen
    }

    #[test]
    fn cluster_uses_all_nodes_and_local_its_own() {
        let endpoints = [endpoint(1, "a", "ready"), endpoint(2, "b", "ready"), endpoint(3, "a", "draining")];
        assert_eq!(paths(&endpoints, TrafficPolicy::Cluster), ["1", "2 remote"]);
        assert_eq!(paths(&endpoints, TrafficPolicy::Local), ["1"]);
        assert_eq!(status(proxy(rules(TrafficPolicy::Local), &endpoints)), 200);
    }

    #[test]
    fn the_terminating_serve_only_if_nobody_else_does() {
        let endpoints = [endpoint(1, "a", "draining"), endpoint(2, "b", "ready"), endpoint(3, "a", "dying")];
        assert_eq!(paths(&endpoints, TrafficPolicy::Cluster), ["2 remote"]);
        assert_eq!(paths(&endpoints, TrafficPolicy::Local), ["1"]);
        // The balancer is told to leave while the node still serves.
        assert_eq!(status(proxy(rules(TrafficPolicy::Local), &endpoints)), 503);
    }

    #[test]
    fn before_1_26_the_terminating_serve_nobody_new() {
        assert!(!uses_terminating(Version::new(1, 25)) && uses_terminating(Version::new(1, 26)));
        let endpoints = [endpoint(1, "a", "draining"), endpoint(2, "b", "ready")];
        let old = |policy| ServiceRules { uses_terminating: false, ..rules(policy) };
        let mut stream = Streams::new(1).stream("node", "a");
        let mut choose = |rules: ServiceRules, endpoints: &[EndpointView]| {
            told(&proxy(rules, endpoints).choose(SimTime::ZERO, CLIENT, Origin::External, &mut stream))
        };
        assert_eq!(choose(old(TrafficPolicy::Local), &endpoints), "drop");
        assert_eq!(choose(rules(TrafficPolicy::Local), &endpoints), "1");
        assert_eq!(choose(old(TrafficPolicy::Cluster), &endpoints[..1]), "refuse");
        assert_eq!(choose(rules(TrafficPolicy::Cluster), &endpoints[..1]), "1");
    }

    #[test]
    fn a_kube_proxy_behind_its_time_fails_the_check_of_a_node_with_pods() {
        let mut proxy = proxy(rules(TrafficPolicy::Local), &[endpoint(1, "a", "ready"), endpoint(2, "b", "ready")]);
        let at = |seconds: u64| SimTime::ZERO.after(Duration::from_secs(seconds));
        proxy.handle_change(at(10));
        assert_eq!([69, 70].map(|seconds| proxy.service_health(at(seconds)).status()), [200, 503]);
        assert_eq!(proxy.service_health(at(70)).local_endpoints, 1);
        proxy.sync(&EndpointList::from(vec![endpoint(1, "a", "ready")]));
        assert_eq!(proxy.service_health(at(70)).status(), 200);
    }

    #[test]
    fn the_balancers_address_within_the_cluster_follows_its_shortcut() {
        let (here, elsewhere) = (endpoint(1, "a", "ready"), endpoint(2, "b", "ready"));
        let mut stream = Streams::new(1).stream("node", "a");
        let mut choose = |shortcut: Shortcut, policy, endpoints: &[EndpointView]| {
            let mut proxy = proxy(ServiceRules { shortcut, ..rules(policy) }, endpoints);
            told(&proxy.choose(SimTime::ZERO, CLIENT, Origin::InternalToBalancer, &mut stream))
        };
        let only_elsewhere = [elsewhere.clone()];
        assert_eq!(choose(Shortcut::Local, TrafficPolicy::Local, &only_elsewhere), "drop");
        assert_eq!(choose(Shortcut::LocalFirst, TrafficPolicy::Local, &only_elsewhere), "2 remote");
        assert_eq!(choose(Shortcut::Cluster, TrafficPolicy::Local, &only_elsewhere), "2 remote");
        assert_eq!(choose(Shortcut::Local, TrafficPolicy::Cluster, &only_elsewhere), "2 remote");
        let both = [here, elsewhere];
        assert!((0..20).all(|_| choose(Shortcut::LocalFirst, TrafficPolicy::Local, &both) == "1"));
        assert!((0..50).any(|_| choose(Shortcut::Cluster, TrafficPolicy::Local, &both) == "2 remote"));
    }

    #[test]
    fn nobody_here_is_a_black_hole_and_nobody_anywhere_a_refusal() {
        let endpoints = [endpoint(2, "b", "ready"), endpoint(3, "a", "dying")];
        assert_eq!(paths(&endpoints, TrafficPolicy::Local), ["drop"]);
        assert_eq!(paths(&endpoints[1..], TrafficPolicy::Local), ["refuse"]);
        assert_eq!(paths(&[], TrafficPolicy::Local), ["refuse"]);
        assert_eq!(paths(&[], TrafficPolicy::Cluster), ["refuse"]);
    }

    #[test]
    fn clients_within_have_a_policy_of_their_own() {
        let endpoints = [endpoint(2, "b", "ready")];
        let policies =
            Policies { internal: TrafficPolicy::Local, external: TrafficPolicy::Cluster, reach: Reach::External };
        let mut proxy = proxy(ServiceRules { policies, ..rules(TrafficPolicy::Cluster) }, &endpoints);
        let mut stream = Streams::new(1).stream("node", "a");
        let mut choose = |origin| told(&proxy.choose(SimTime::ZERO, CLIENT, origin, &mut stream));
        assert_eq!((choose(Origin::Internal), choose(Origin::External)), ("drop".to_owned(), "2 remote".to_owned()));
    }

    #[test]
    fn ipvs_goes_round_and_goes_on_when_endpoints_leave() {
        let endpoints = [endpoint(1, "a", "ready"), endpoint(2, "b", "ready"), endpoint(3, "b", "ready")];
        let mut proxy = proxy(ServiceRules { mode: ProxyMode::Ipvs, ..rules(TrafficPolicy::Cluster) }, &endpoints);
        let mut stream = Streams::new(1).stream("node", "a");
        let mut choose =
            |proxy: &mut KubeProxy| told(&proxy.choose(SimTime::ZERO, CLIENT, Origin::External, &mut stream));
        let first: Vec<String> = (0..4).map(|_| choose(&mut proxy)).collect();
        assert_eq!(first, ["1", "2 remote", "3 remote", "1"]);
        proxy.sync(&EndpointList::from(vec![endpoint(1, "a", "ready"), endpoint(3, "b", "ready")]));
        assert_eq!([choose(&mut proxy), choose(&mut proxy)], ["3 remote", "1"]);
    }

    #[test]
    fn a_client_sticks_to_its_endpoint_until_that_leaves_or_it_stays_away() {
        let endpoints: Vec<EndpointView> = (1..=9).map(|last| endpoint(last, "a", "ready")).collect();
        let rules = ServiceRules { affinity: Some(Duration::from_secs(60)), ..rules(TrafficPolicy::Cluster) };
        let mut proxy = proxy(rules, &endpoints);
        let mut stream = Streams::new(1).stream("node", "a");
        let at = |seconds: u64| SimTime::ZERO.after(Duration::from_secs(seconds));
        let mut choose = |proxy: &mut KubeProxy, seconds: u64| {
            told(&proxy.choose(at(seconds), CLIENT, Origin::External, &mut stream)).parse::<u8>().unwrap()
        };
        let first = choose(&mut proxy, 0);
        // Each connection renews it: twenty in turn, each 50 s after the one before.
        assert!((1..=20).all(|turn| choose(&mut proxy, turn * 50) == first));
        let others: Vec<EndpointView> =
            endpoints.iter().filter(|endpoint| endpoint.ip.octets()[3] != first).cloned().collect();
        proxy.sync(&EndpointList::from(others.to_vec()));
        let second = choose(&mut proxy, 1001);
        assert_ne!(second, first);
        // The first one comes back, and is unknown.
        proxy.sync(&EndpointList::from(endpoints.to_vec()));
        assert_eq!(choose(&mut proxy, 1002), second);
        // After the timeout the choice is made anew: not always the same.
        let later: BTreeSet<u8> = (0..20).map(|turn| choose(&mut proxy, 2000 + turn * 61)).collect();
        assert!(later.len() > 3, "{later:?}");
    }
}
