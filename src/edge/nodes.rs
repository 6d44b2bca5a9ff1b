//! The nodes of a cluster, as connections to one Service pass over them: each with its kube-proxy and its connection table.
//!
//! Whoever sends a connection to a node asks [`Nodes::cross`] what becomes of its SYN: a balancer whose targets are nodes, a client that dials a node port, a
//! client on the node itself ([`super::door`]). The node chooses once per connection. A SYN that is sent again goes the same way, through the same node and
//! to the same pod, by the tables of whoever passed it on; that an NLB does the same is an assumption.
//!
//! A node whose machine is dead passes nothing on: what is sent to it is lost, and the connections through it hear nothing any more.
//!
//! Clients on a node are not modelled as pods of it: when their node dies, their open connections are lost like all others through it, and new ones come
//! from the nodes that are left.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use super::NO_PORT;
use super::conntrack::{ConnectionTable, Full, TableSize};
use super::kube_proxy::health::ServiceHealth;
use super::kube_proxy::{KubeProxy, NodePath, Origin, ProxyMode, ServiceRules};
use crate::cluster::{EndpointList, Identity};
use crate::engine::{EventId, EventLog, Sim, Stream, Streams};
use crate::net::{ConnectionId, ConnectionMap, Net, Sever, Syn, Verdict};
use crate::units::SimTime;

/// Within this time all SYNs of a connection are sent, the last one 7 s after the first.
const OPENING_TIME: Duration = Duration::from_secs(8);

/// What the nodes know of one Service, and what they can hold.
#[derive(Clone, Debug)]
pub struct NodesConfig {
    /// The cluster they are of.
    pub identity: Identity,
    /// The Service, as `namespace/name`.
    pub service: String,
    /// What the nodes' kube-proxies know of it.
    pub rules: ServiceRules,
    /// From one write of a kube-proxy's rules to the next, at least.
    pub min_sync_period: Duration,
    /// What a hop to another node adds in each direction.
    pub hop_latency: Duration,
    /// How long connection tables are.
    pub table: TableSize,
}

/// What a kube-proxy knows of a Service beside its endpoints.
#[derive(Clone, Debug)]
pub struct ServiceFace {
    /// How it chooses.
    pub rules: ServiceRules,
    /// The Service's ports, and what pods listen on.
    pub ports: BTreeMap<u16, u16>,
    /// Ports of the nodes, and what pods listen on.
    pub node_ports: BTreeMap<u16, u16>,
    /// The event that made it so.
    pub because: Option<EventId>,
}

impl ServiceFace {
    /// What the pods listen on for a connection to `port`.
    fn pod_port(&self, port: u16, origin: Origin) -> Option<u16> {
        let ports = if origin == Origin::External { &self.node_ports } else { &self.ports };
        ports.get(&port).copied()
    }

    /// What becomes of a connection to a port that the Service does not have. A node port that nobody listens on is refused by the node. Within the cluster
    /// rules of iptables let it pass to an address that nobody has; IPVS has the address on the node, and nftables refuses it. The balancer's address
    /// is the balancer's then, which has no listener.
    ///
    /// Source: Kubernetes pkg/proxy/{iptables,ipvs,nftables}/proxier.go (`cluster-ips-check`); KEP-3866.
    fn without_port(&self, by: Option<SocketAddrV4>, origin: Origin) -> Verdict {
        match (origin, self.rules.mode) {
            (Origin::Internal, ProxyMode::Iptables) => Verdict::Drop { by, why: self.because },
            _ => Verdict::Refuse { by, why: self.because },
        }
    }
}

/// A node, as those see it who send to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodePlace {
    /// Its name.
    pub name: Rc<str>,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its zone.
    pub zone: Rc<str>,
    /// Its processors.
    pub cores: u64,
}

/// Some of the nodes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NodeChoice {
    /// Only this one.
    pub node: Option<Rc<str>>,
    /// Only those of this zone.
    pub zone: Option<Rc<str>>,
}

impl NodeChoice {
    /// Whether a node is among them.
    #[must_use]
    pub fn has(&self, place: &NodePlace) -> bool {
        let is_one = |wanted: &Option<Rc<str>>, found: &Rc<str>| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is_one(&self.node, &place.name) && is_one(&self.zone, &place.zone)
    }
}

/// The nodes' part in the way to one Service. Clones share it.
#[derive(Clone)]
pub struct Nodes {
    inner: Rc<Inner>,
}

struct Inner {
    sim: Sim,
    net: Net,
    log: Rc<RefCell<EventLog>>,
    config: NodesConfig,
    state: RefCell<State>,
}

struct State {
    /// Whose objects are there.
    places: Vec<NodePlace>,
    /// What kube-proxies that start know of the Service; none: as at the start.
    face: Option<Rc<ServiceFace>>,
    /// By name, those that are gone included.
    nodes: BTreeMap<Rc<str>, NodeState>,
    stream: Stream,
    /// The way of connections that are being opened.
    opening: BTreeMap<ConnectionId, Opening>,
    /// The node of each connection, and its endpoint if it took a source port there.
    connections: ConnectionMap<(Rc<str>, Option<SocketAddrV4>)>,
    /// Connections that went through a node when it died, with the event of its death.
    cut_by_death: ConnectionMap<EventId>,
}

struct NodeState {
    ip: Ipv4Addr,
    proxy: KubeProxy,
    /// What its rules say; none: as at the start.
    face: Option<Rc<ServiceFace>>,
    /// What it hears next, and when.
    announced: Option<(SimTime, Rc<ServiceFace>)>,
    table: ConnectionTable,
    table_max: Option<u64>,
    is_dead: bool,
    /// It has no room, since this event.
    full_since: Option<EventId>,
}

/// How a connection that is being opened goes on.
#[derive(Clone, Debug)]
struct Opening {
    since: SimTime,
    node: Rc<str>,
    /// The pod, if the node chose one.
    way: Option<Way>,
}

#[derive(Clone, Copy, Debug)]
struct Way {
    target: SocketAddrV4,
    extra_latency: Duration,
    snat: Option<Ipv4Addr>,
}

impl Way {
    fn verdict(self) -> Verdict {
        Verdict::To { target: self.target, extra_latency: self.extra_latency, snat: self.snat }
    }

    fn masqueraded_to(self) -> Option<SocketAddrV4> {
        self.snat.map(|_| self.target)
    }
}

impl Nodes {
    /// No node yet.
    #[must_use]
    pub fn new(sim: &Sim, net: &Net, streams: Streams, log: Rc<RefCell<EventLog>>, config: NodesConfig) -> Self {
        let state = State {
            places: Vec::new(),
            face: None,
            nodes: BTreeMap::new(),
            stream: streams.stream("node-path", &config.service),
            opening: BTreeMap::new(),
            connections: ConnectionMap::default(),
            cut_by_death: ConnectionMap::default(),
        };
        let inner = Inner { sim: sim.clone(), net: net.clone(), log, config, state: RefCell::new(state) };
        Self { inner: Rc::new(inner) }
    }

    /// What they know and can hold.
    #[must_use]
    pub fn config(&self) -> &NodesConfig {
        &self.inner.config
    }

    /// These nodes are there now.
    pub fn handle_nodes(&self, places: Vec<NodePlace>) {
        let mut state = self.inner.state.borrow_mut();
        for place in &places {
            let table_max = self.inner.config.table.entries(place.cores);
            let face = state.face.clone();
            let rules = face.as_ref().map_or(self.inner.config.rules, |face| face.rules);
            state.nodes.entry(Rc::clone(&place.name)).or_insert_with(|| NodeState {
                ip: place.ip,
                proxy: KubeProxy::new(Rc::clone(&place.name), rules),
                face,
                announced: None,
                table: ConnectionTable::new(table_max),
                table_max,
                is_dead: false,
                full_since: None,
            });
        }
        state.places = places;
    }

    /// The nodes that are there.
    #[must_use]
    pub fn places(&self) -> Vec<NodePlace> {
        self.inner.state.borrow().places.clone()
    }

    /// A node's kube-proxy hears of a change, and has still to write its rules.
    pub fn handle_change(&self, node: &str) {
        let now = self.inner.sim.now();
        if let Some(node) = self.inner.state.borrow_mut().nodes.get_mut(node) {
            node.proxy.handle_change(now);
        }
    }

    /// The Service is edited from `before` to `after`: kube-proxies that start know it, and each that runs when it has heard of it.
    pub fn edit_service(
        &self,
        before: &ServiceFace,
        after: ServiceFace,
        mut heard_at: impl FnMut(&str) -> Option<SimTime>,
    ) {
        let (before, after) = (Rc::new(before.clone()), Rc::new(after));
        let mut state = self.inner.state.borrow_mut();
        state.face = Some(Rc::clone(&after));
        for (name, node) in &mut state.nodes {
            node.face.get_or_insert_with(|| Rc::clone(&before));
            node.announced = heard_at(name).map(|at| (at, Rc::clone(&after))).or(node.announced.take());
        }
    }

    /// A node's kube-proxy writes its rules for the Service's endpoints, and for what it has heard of the Service itself.
    pub fn handle_endpoints(&self, node: &str, endpoints: &EndpointList) {
        let now = self.inner.sim.now();
        if let Some(node) = self.inner.state.borrow_mut().nodes.get_mut(node) {
            if let Some((_, face)) = node.announced.take_if(|(at, _)| *at <= now) {
                node.proxy.set_rules(face.rules);
                node.face = Some(face);
            }
            node.proxy.sync(endpoints);
        }
    }

    /// A node's machine has died.
    pub fn handle_death(&self, name: &str, why: Option<EventId>) {
        let through = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(node) = state.nodes.get_mut(name) else { return };
            node.is_dead = true;
            let through = state.connections.ids(|(node, _)| **node == *name);
            for id in &through {
                state.connections.remove(*id);
                if let Some(why) = why {
                    state.cut_by_death.insert(*id, why);
                }
            }
            through
        };
        for connection in through {
            self.inner.net.sever(connection, Sever::Blackhole, why);
        }
    }

    /// It has booted again, with an empty table.
    pub fn handle_boot(&self, name: &str) {
        if let Some(node) = self.inner.state.borrow_mut().nodes.get_mut(name) {
            node.is_dead = false;
            node.table = ConnectionTable::new(node.table_max);
            node.full_since = None;
        }
    }

    /// Whether a node is called so.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.inner.state.borrow().nodes.contains_key(name)
    }

    /// Whether a node's machine is dead.
    #[must_use]
    pub fn is_dead(&self, name: &str) -> bool {
        self.inner.state.borrow().nodes.get(name).is_some_and(|node| node.is_dead)
    }

    /// Whether this is the address of a node.
    #[must_use]
    pub fn is_node(&self, ip: Ipv4Addr) -> bool {
        self.inner.state.borrow().nodes.values().any(|node| node.ip == ip)
    }

    /// The death of the node that a connection went through.
    #[must_use]
    pub fn cut_by_death(&self, connection: ConnectionId) -> Option<EventId> {
        self.inner.state.borrow().cut_by_death.get(connection).copied()
    }

    /// Connections that run over them.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.inner.state.borrow().connections.len()
    }

    /// Whether these are the ready endpoints, as all nodes that live have it in their rules.
    #[must_use]
    pub fn all_know(&self, ready: &BTreeSet<Ipv4Addr>) -> bool {
        let state = self.inner.state.borrow();
        let mut living = state.places.iter().filter_map(|place| state.nodes.get(&place.name)).filter(|it| !it.is_dead);
        // Most have rules for one and the same list.
        let mut right: Option<&EndpointList> = None;
        living.all(|node| {
            let known = node.proxy.endpoints();
            if node.announced.is_some() {
                return false;
            }
            if right.is_some_and(|right| right.is_same(known)) {
                return true;
            }
            right = Some(known);
            known.iter().filter(|endpoint| endpoint.ready).map(|endpoint| endpoint.ip).collect::<BTreeSet<_>>()
                == *ready
        })
    }

    /// What the Service's `healthCheckNodePort` answers on a node; nothing if its machine is dead.
    #[must_use]
    pub fn service_health(&self, node: &str) -> Option<ServiceHealth> {
        let mut state = self.inner.state.borrow_mut();
        let node = state.nodes.get_mut(node).filter(|node| !node.is_dead)?;
        Some(node.proxy.service_health(self.inner.sim.now()))
    }

    /// What a node's kube-proxy answers when it is asked for its own health; nothing if its machine is dead.
    #[must_use]
    pub fn proxy_health(&self, node: &str) -> Option<u16> {
        let state = self.inner.state.borrow();
        let node = state.nodes.get(node).filter(|node| !node.is_dead)?;
        Some(node.proxy.healthz(self.inner.sim.now()))
    }

    /// The endpoint that a node would send a probe from outside to.
    #[must_use]
    pub fn behind(&self, node: &str, prober: Ipv4Addr) -> Option<Ipv4Addr> {
        let mut state = self.inner.state.borrow_mut();
        let state = &mut *state;
        let proxy = &mut state.nodes.get_mut(node)?.proxy;
        match proxy.choose(self.inner.sim.now(), prober, Origin::External, &mut state.stream) {
            NodePath::To { ip, .. } => Some(ip),
            NodePath::Refuse | NodePath::Drop => None,
        }
    }

    /// The node that an earlier SYN of a connection was sent to.
    #[must_use]
    pub fn opened_via(&self, connection: ConnectionId) -> Option<NodePlace> {
        let state = self.inner.state.borrow();
        let opening = state.opening.get(&connection)?;
        let ip = state.nodes.get(&opening.node)?.ip;
        Some(NodePlace { name: Rc::clone(&opening.node), ip, zone: Rc::from(""), cores: 0 })
    }

    /// What becomes of a SYN that is sent to `port` of a node, for the pods' port `pod_port`.
    #[must_use]
    pub fn cross(&self, syn: &Syn, name: &Rc<str>, (port, pod_port): (u16, u16), origin: Origin) -> Verdict {
        let (now, config) = (self.inner.sim.now(), &self.inner.config);
        let mut state = self.inner.state.borrow_mut();
        let state = &mut *state;
        state.forget_opened(now);
        let Some(node) = state.nodes.get_mut(name) else { return Verdict::Drop { by: None, why: None } };
        let by = Some(SocketAddrV4::new(node.ip, port));
        let known = state.opening.entry(syn.id);
        let opening = known.or_insert_with(|| Opening { since: now, node: Rc::clone(name), way: None });
        if node.is_dead {
            // Nobody is there.
            let target = SocketAddrV4::new(node.ip, port);
            return Verdict::To { target, extra_latency: Duration::ZERO, snat: None };
        }
        let way = if let Some(way) = opening.way {
            if state.connections.get(syn.id).is_none_or(|(node, _)| node != name) {
                node.table.reopen(way.masqueraded_to());
            }
            way
        } else {
            let pod_port = match &node.face {
                None => pod_port,
                Some(face) => match face.pod_port(port, origin) {
                    // As where a Service has no endpoint at all.
                    Some(NO_PORT) => return Verdict::Refuse { by, why: face.because },
                    Some(pod_port) => pod_port,
                    None => return face.without_port(by, origin),
                },
            };
            let rules = node.proxy.rules();
            let (ip, is_remote) = match node.proxy.choose(now, *syn.from.ip(), origin, &mut state.stream) {
                NodePath::To { ip, is_remote } => (ip, is_remote),
                NodePath::Drop => return Verdict::Drop { by, why: node.proxy.why_none() },
                NodePath::Refuse => return Verdict::Refuse { by, why: node.proxy.why_none() },
            };
            let is_second_hop = is_remote && origin == Origin::External;
            let way = Way {
                target: SocketAddrV4::new(ip, pod_port),
                extra_latency: if is_second_hop { config.hop_latency } else { Duration::ZERO },
                snat: rules.masquerades(origin).then_some(node.ip),
            };
            if let Err(full) = node.table.open(now, way.masqueraded_to()) {
                let why = *node.full_since.get_or_insert_with(|| self.inner.tell_full(name, full, way.target));
                return Verdict::Drop { by, why: Some(why) };
            }
            node.full_since = None;
            opening.way = Some(way);
            way
        };
        state.connections.insert(syn.id, (Rc::clone(name), way.masqueraded_to()));
        way.verdict()
    }

    /// Both ends of a connection are closed, or it came to nothing.
    pub fn ended(&self, id: ConnectionId) {
        let now = self.inner.sim.now();
        let mut state = self.inner.state.borrow_mut();
        if let Some((name, masqueraded_to)) = state.connections.remove(id)
            && let Some(node) = state.nodes.get_mut(&name)
        {
            node.table.close(now, masqueraded_to);
        }
    }
}

impl State {
    /// Forgets connections whose last SYN has been sent. Younger ones have higher numbers.
    fn forget_opened(&mut self, now: SimTime) {
        while let Some(oldest) = self.opening.first_entry()
            && now.since(oldest.get().since) > OPENING_TIME
        {
            oldest.remove();
        }
    }
}

impl Inner {
    /// Tells that a node drops connections for want of room: once, until one finds room again.
    fn tell_full(&self, node: &str, full: Full, endpoint: SocketAddrV4) -> EventId {
        let (kind, data) = match full {
            Full::Table => ("conntrack_full", Vec::new()),
            Full::SourcePorts => ("snat_ports_exhausted", vec![("endpoint", endpoint.to_string().as_str().into())]),
        };
        self.log.borrow_mut().record(
            self.sim.now(),
            None,
            kind,
            self.config.identity.object(format!("Node/{node}")),
            data,
        )
    }
}
