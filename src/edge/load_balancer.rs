//! The load balancer on the simulated network: what its controller tells it, its probes, and each connection's way.
//!
//! What the controller wants is [`super::controller`]'s, and so is the order of its calls. At [`Pace::Each`] it reacts to every change of an endpoint on its
//! own: the change takes effect after a latency drawn for that pod, so a slow registration holds up no removal.
//!
//! A SYN that is sent again goes where the first one went, as the balancer's connection table has it (Linux IPVS keeps an entry for a
//! connection that is being opened; that NLB does the same is an assumption).
//!
//! Nodes as targets are those that are ready, as the controller sees them; what they do with a connection is [`super::nodes`]'. A node whose machine dies
//! stays a target until that, or until its checks fail. Under policy `Local` a node's weight is the number of its pods; the scheduler `rr` does not heed
//! it, and then a pod that shares its node gets less. A check that asks the Service's `healthCheckNodePort` is answered by the node's kube-proxy.
//!
//! A connection that goes over a limit is dropped, [`super::limits`]; one that was silent for too long is reset or forgotten, [`super::idle`]. At a listener for HTTP
//! connections end here, and each request goes on by itself, [`super::http_proxy`].
//!
//! One choice is shared by all front ports, where the real product keeps one group per port; only one that is made anew chooses for itself (`groups`).
//!
//! Sources: kubernetes/cloud-provider-alibaba-cloud eeb0ddc68, pkg/controller/service/reconcile/backend (endpoint selection),
//! pkg/controller/service/{clbv1,nlbv2} (order of changes); CLB and NLB documents on health checks and draining.

mod changes;
mod checks;
mod groups;
mod http;
mod parting;
mod product;
mod silence;
mod targets;
mod zones;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

pub use self::changes::{Change, Failure};
pub use self::checks::{Failed, HttpProbe, Probe};
pub use self::http::Trial;
pub use self::parting::Parting;
pub use self::zones::address;
use super::NO_PORT;
use super::balancer::{Balancer, BalancerConfig, OnRemoval, TargetId};
use super::controller::{self, Pace, TargetRules, Wanted};
use super::http_proxy::HttpRules;
use super::idle::{IdleRule, IdleWatch, Look};
use super::kube_proxy::Origin;
use super::kube_proxy::categories::TrafficPolicy;
use super::limits::{Limit, Limits, Meter};
use super::nodes::Nodes;
use super::product::Ways;
use super::scheduler::Flow;
use crate::cluster::{EndpointView, Identity};
use crate::engine::{Delay, EventId, EventLog, Sim, Streams};
use crate::net::{ConnectionId, ConnectionMap, Forward, Host, Net, Sever, Syn, Verdict};
use crate::units::SimTime;

/// A node as a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeTarget {
    /// The node's name.
    pub name: Rc<str>,
    /// The node's address.
    pub ip: Ipv4Addr,
    /// Not it, but each of its pods is a target.
    pub is_virtual: bool,
}

/// What the balancer's targets are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackendMode {
    /// The pods themselves, by their own network interfaces (ENI).
    Pods,
    /// Nodes, which pass connections on: all of them, or those with an endpoint.
    Nodes(TrafficPolicy),
}

/// One load balancer in front of one Service.
#[derive(Clone, Debug)]
pub struct LoadBalancerConfig {
    /// The cluster of its Service.
    pub identity: Identity,
    /// The Service, as `namespace/name`.
    pub service: String,
    /// Its rules.
    pub balancer: BalancerConfig,
    /// What each of its addresses can take; a listener's limit is that of all addresses together.
    pub limits: Limits,
    /// The zones it has an address in; none: it has one address.
    pub zones: Vec<Rc<str>>,
    /// Each address sends to targets of all zones; else to those of its own.
    pub is_cross_zone: bool,
    /// How long connections may be silent; for ever, if absent.
    pub idle: Option<IdleRule>,
    /// What its targets are.
    pub targets: TargetRules,
    /// How the controller carries changes out.
    pub pace: Pace,
    /// What its health check does.
    pub probe: Probe,
    /// What it does with what the controller asks for.
    pub ways: Ways,
    /// From an endpoint's readiness, as the controller sees it, to its registration.
    pub register_latency: Delay,
    /// From an endpoint's removal, as the controller sees it, to the last new connection.
    pub deregister_latency: Delay,
    /// Front port to the pods' port.
    pub ports: BTreeMap<u16, u16>,
    /// Front port to the nodes' port. Empty: targets are pods.
    pub node_ports: BTreeMap<u16, u16>,
    /// The front ports at which it is a proxy for HTTP, and how.
    pub http: BTreeMap<u16, Rc<HttpRules>>,
    /// When the targets that the run finds are probed for the first time, from its start; none: each at a time of its own, drawn.
    pub first_probe: Option<Duration>,
    /// Targets that the controller sees at time zero are registered and healthy at once: the world as the run finds it.
    pub stands_at_zero: bool,
}

/// A running load balancer. Clones share it.
#[derive(Clone)]
pub struct LoadBalancer {
    inner: Rc<Inner>,
}

struct Inner {
    sim: Sim,
    net: Net,
    host: Host,
    streams: Streams,
    log: Rc<RefCell<EventLog>>,
    /// As it was made. What may change since is `live`.
    config: LoadBalancerConfig,
    live: RefCell<Rc<LoadBalancerConfig>>,
    /// The nodes, where they are or may become the targets.
    nodes: Option<Nodes>,
    removal: Cell<Removal>,
    /// How often health checks have been switched on: probes of before end.
    probing: Cell<u64>,
    state: RefCell<State>,
    /// Beside the state, since connections that are dropped tell of it.
    proxy: RefCell<http::Proxy>,
    on_registered: RefCell<Option<OnRegistered>>,
    /// Called when it has other addresses than before.
    on_readdressed: RefCell<Option<Rc<dyn Fn()>>>,
}

impl LoadBalancerConfig {
    /// The port of the first listener that has targets, which checks ask unless they name another.
    fn usual_port(&self) -> u16 {
        self.ports.values().copied().find(|port| *port != NO_PORT).unwrap_or(NO_PORT)
    }
}

/// In place of a target: the connection ends at the balancer.
const PROXIED: TargetId = TargetId(u64::MAX);

/// A connection that runs through the balancer.
#[derive(Clone, Copy)]
struct Entry {
    target: TargetId,
    /// The address it came to, by its place.
    vip: usize,
    /// The port it came to.
    port: u16,
    /// The number of that port's own group; 0: it had none.
    group: u32,
    /// For how long it may be silent, as it was when it was opened.
    idle: Option<IdleRule>,
    /// When its silence is looked at; none: never.
    look: Option<Look>,
}

/// One address of the balancer.
struct Vip {
    /// Its zone, if it has one.
    zone: Option<Rc<str>>,
    ip: Ipv4Addr,
    /// The event that its zone died of, or with which it was given back.
    dead: Option<EventId>,
    /// It was given back, and does not come again.
    is_gone: bool,
    meter: Meter,
    /// Open connections that came to it.
    open_count: u64,
}

/// What becomes of open connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Removal {
    /// Of a target that is removed.
    on_deregister: OnRemoval,
    /// Of one that fails its check.
    on_unhealthy: OnRemoval,
}

/// Called with the address of each target that has been registered, and the event of that.
type OnRegistered = Rc<dyn Fn(Ipv4Addr, EventId)>;

struct State {
    balancer: Balancer,
    /// What the controller wants registered, by address.
    wanted: BTreeMap<Ipv4Addr, Wanted>,
    /// What is registered, or on its way to be (absent id).
    registered: BTreeMap<Ipv4Addr, Option<TargetId>>,
    names: BTreeMap<TargetId, Rc<str>>,
    /// All that are open. Who wants those of one target or one address looks at all: that is seldom, and a list for each would cost every connection.
    connections: ConnectionMap<Entry>,
    /// The nodes that may be targets.
    eligible: Vec<NodeTarget>,
    /// Nodes that the others have not heard of for too long, where one of them answers for the address.
    silent: BTreeSet<Rc<str>>,
    /// What the controller last saw.
    endpoints: Vec<EndpointView>,
    /// What is or was a target, as it was last wanted.
    last_seen: BTreeMap<Ipv4Addr, Wanted>,
    /// Something has changed since the last reconcile began.
    is_due: bool,
    /// A reconcile runs.
    is_reconciling: bool,
    calls_made: u64,
    /// Its addresses.
    vips: Vec<Vip>,
    /// The zones of nodes, where they matter.
    node_zones: BTreeMap<Rc<str>, Rc<str>>,
    /// Of all addresses together.
    meter: Meter,
    /// When each limit was last told to have been reached, by front port, in seconds; and the event that tells it.
    told: BTreeMap<(Limit, u16), (u64, EventId)>,
    idle: IdleWatch,
    /// Who looks after silent connections.
    idle_watcher: silence::Watcher,
    /// Connections that were forgotten for their silence, with the event that tells it.
    forgotten: BTreeMap<ConnectionId, EventId>,
    /// The last event that took a target away: the reason if none is left.
    last_removal: Option<EventId>,
    /// The event of its own deletion.
    deleted: Option<EventId>,
    /// Front ports whose listeners another Service has overwritten.
    handed: BTreeMap<u16, Handed>,
    /// Connections that went to another Service, with the event of its takeover.
    through_other: BTreeMap<ConnectionId, EventId>,
    /// Front ports whose listeners are gone, with the event of that.
    closed: BTreeMap<u16, EventId>,
    /// Front ports with a group of their own.
    groups: BTreeMap<u16, groups::Group>,
    groups_made: u32,
    /// Its controller fails, or has let go of it: targets stay as they are.
    is_stuck: bool,
    /// Its controller has let go of it.
    is_left: bool,
    /// Changes of its settings that have not come to it yet, the number of the last one that was asked for, and of the last that holds.
    changes: changes::Numbers,
}

/// A listener that leads to another Service.
struct Handed {
    to: LoadBalancer,
    since: SimTime,
    event: EventId,
}

impl LoadBalancer {
    /// A balancer without targets; the caller makes it the [`Forward`] of its address. It probes from `host`.
    ///
    /// # Panics
    ///
    /// If nodes are to be its targets, and there are none.
    #[must_use]
    pub fn new(
        sim: &Sim,
        net: &Net,
        host: Host,
        streams: Streams,
        log: Rc<RefCell<EventLog>>,
        (config, nodes): (LoadBalancerConfig, Option<Nodes>),
    ) -> Self {
        assert!(nodes.is_some() || config.targets.mode == BackendMode::Pods, "targets that are nodes need nodes");
        let state = State {
            eligible: Vec::new(),
            silent: BTreeSet::new(),
            endpoints: Vec::new(),
            last_seen: BTreeMap::new(),
            is_due: false,
            is_reconciling: false,
            calls_made: 0,
            balancer: Balancer::new(config.balancer.clone()),
            wanted: BTreeMap::new(),
            registered: BTreeMap::new(),
            names: BTreeMap::new(),
            connections: ConnectionMap::default(),
            vips: Vec::new(),
            node_zones: BTreeMap::new(),
            meter: Meter::default(),
            told: BTreeMap::new(),
            idle: IdleWatch::default(),
            idle_watcher: silence::Watcher::default(),
            forgotten: BTreeMap::new(),
            last_removal: None,
            deleted: None,
            handed: BTreeMap::new(),
            through_other: BTreeMap::new(),
            closed: BTreeMap::new(),
            groups: BTreeMap::new(),
            groups_made: 0,
            is_stuck: false,
            is_left: false,
            changes: changes::Numbers::default(),
        };
        let (sim, net, state) = (sim.clone(), net.clone(), RefCell::new(state));
        let BalancerConfig { on_deregister, on_unhealthy, .. } = config.balancer;
        let removal = Cell::new(Removal { on_deregister, on_unhealthy });
        let (on_registered, on_readdressed) = (RefCell::default(), RefCell::default());
        let live = RefCell::new(Rc::new(config.clone()));
        let probing = Cell::new(0);
        let proxy = RefCell::default();
        let inner = Inner {
            sim,
            net,
            host,
            streams,
            log,
            config,
            live,
            nodes,
            removal,
            probing,
            state,
            proxy,
            on_registered,
            on_readdressed,
        };
        let this = Self { inner: Rc::new(inner) };
        this.listen_http();
        this
    }

    /// From now on `hook` is called for each target that has been registered.
    pub fn when_registered(&self, hook: Rc<dyn Fn(Ipv4Addr, EventId)>) {
        *self.inner.on_registered.borrow_mut() = Some(hook);
    }

    /// The controller sees the Service's endpoints.
    pub fn handle_endpoints(&self, endpoints: &[EndpointView]) {
        let wanted = {
            let mut state = self.inner.state.borrow_mut();
            state.endpoints = endpoints.to_vec();
            if state.is_stuck {
                return;
            }
            let candidates = self.inner.candidates(&state, endpoints);
            controller::wanted(&self.inner.live().targets, endpoints, &candidates)
        };
        match self.inner.config.pace {
            Pace::Each => {
                self.change_each(wanted);
                self.stand_up();
            }
            Pace::Batches { .. } => self.reconcile_soon(wanted),
        }
    }

    /// Its Service has been deleted. When the controller has come to it, the balancer goes, and its address with it: open connections are reset, and
    /// nobody answers any more; then `then` is called. What a cloud does to open connections then is not documented: an assumption. Until it goes its targets stay as
    /// they are, since the next reconcile is the one that deletes it.
    pub fn delete_later(&self, because: EventId, then: impl FnOnce() + 'static) {
        let this = self.clone();
        {
            let mut state = self.inner.state.borrow_mut();
            state.changes.pending += 1;
            state.is_stuck = true;
        }
        self.inner.sim.spawn("lb-delete", async move {
            let inner = &this.inner;
            let mut stream = inner.streams.stream("lb-delete", &inner.config.service);
            inner.sim.sleep(inner.config.deregister_latency.draw(&mut stream)).await;
            let object = inner.config.identity.object(format!("Service/{}", inner.config.service));
            let event = inner.log.borrow_mut().record(inner.sim.now(), Some(because), "lb_deleted", object, Vec::new());
            let open: Vec<ConnectionId> = {
                let mut state = inner.state.borrow_mut();
                state.deleted = Some(event);
                state.changes.pending -= 1;
                state.connections.ids(|_| true)
            };
            for connection in open {
                inner.net.sever(connection, Sever::Reset, Some(event));
            }
            this.forget_all_kept();
            then();
        });
    }

    /// A listener is overwritten: from now on new connections to this front port go where another Service's part leads. Those that are open stay.
    pub fn hand_over(&self, port: u16, to: &Self, event: EventId) {
        let handed = Handed { to: to.clone(), since: self.inner.sim.now(), event };
        self.inner.state.borrow_mut().handed.insert(port, handed);
    }

    /// The takeover that a connection to this front port met. One that was never made is known by the time of the try.
    #[must_use]
    pub fn handed_by(&self, connection: Option<ConnectionId>, port: u16, tried_at: SimTime) -> Option<EventId> {
        let state = self.inner.state.borrow();
        match connection {
            Some(id) => state.through_other.get(&id).copied(),
            None => state.handed.get(&port).filter(|handed| handed.since <= tried_at).map(|handed| handed.event),
        }
    }

    /// Whether any listener has been overwritten.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !self.inner.state.borrow().handed.is_empty()
    }

    /// The event of its deletion.
    #[must_use]
    pub fn deleted_by(&self) -> Option<EventId> {
        self.inner.state.borrow().deleted
    }

    /// Passes a SYN on to the Service that has the listener now; none if it is still its own.
    fn pass_over(&self, syn: &Syn) -> Option<Verdict> {
        let (to, event) = {
            let mut state = self.inner.state.borrow_mut();
            let handed = state.handed.get(&syn.to.port())?;
            let (to, event) = (handed.to.clone(), handed.event);
            state.through_other.insert(syn.id, event);
            (to, event)
        };
        Some(match to.syn(syn) {
            Verdict::Refuse { by, .. } => Verdict::Refuse { why: Some(event), by },
            Verdict::Drop { by, .. } => Verdict::Drop { why: Some(event), by },
            passed => passed,
        })
    }

    /// The nodes that may be targets before the controller has seen any.
    pub fn set_eligible(&self, nodes: Vec<NodeTarget>) {
        self.inner.state.borrow_mut().eligible = nodes;
    }

    /// The controller sees which nodes may be targets. Without an effect where pods are the targets.
    pub fn handle_nodes(&self, nodes: Vec<NodeTarget>) {
        let endpoints = {
            let mut state = self.inner.state.borrow_mut();
            state.eligible = nodes;
            state.endpoints.clone()
        };
        self.handle_endpoints(&endpoints);
    }

    /// Targets that get new connections, at the first front port.
    #[must_use]
    pub fn healthy_count(&self) -> usize {
        self.inner.state.borrow().healthy_at(self.inner.live().ports.keys().next().copied())
    }

    /// Whether it has exactly the targets that its controller wants, and sends new connections to all of them.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let state = self.inner.state.borrow();
        let is_known = |ip: &Ipv4Addr| state.registered.get(ip).is_some_and(Option::is_some);
        let all_registered = state.wanted.keys().all(is_known) && state.registered.len() == state.wanted.len();
        let is_as_written = state.changes.pending == 0;
        if is_as_written && (state.is_left || state.deleted.is_some()) {
            // Nobody wants anything of it.
            return true;
        }
        let wanted = self.inner.healthy_wanted(&state);
        let all_healthy = state.balancer.healthy_count() == wanted && state.groups_send_to(wanted);
        is_as_written && all_registered && all_healthy
    }

    /// Registered targets, healthy or not.
    #[must_use]
    pub fn target_count(&self) -> usize {
        self.inner.state.borrow().balancer.target_count()
    }

    /// Connections that run through it.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.inner.state.borrow().connections.len()
    }

    /// A SYN for a listener for HTTP: it ends at the balancer's own host.
    fn take_in(&self, state: &mut State, syn: &Syn, limits: &Limits) -> Verdict {
        let (inner, vip, port) = (&self.inner, state.vip(*syn.to.ip()), syn.to.port());
        if let Some(event) = state.vips[vip].dead {
            return Verdict::Drop { by: None, why: Some(event) };
        }
        if syn.sent_to.is_none()
            && let Err((limit, value)) = state.check_limits(limits, vip, inner.sim.now(), port)
        {
            return Verdict::Drop { by: None, why: Some(inner.tell_limit(state, port, limit, value)) };
        }
        self.pass(state, syn, PROXIED);
        let target = SocketAddrV4::new(inner.host.ip(), port);
        Verdict::To { target, extra_latency: Duration::ZERO, snat: None }
    }

    /// A SYN goes on to a target, or to a pod behind it.
    fn pass(&self, state: &mut State, syn: &Syn, target: TargetId) {
        let now = self.inner.sim.now();
        let vip = state.vip(*syn.to.ip());
        // A proxy looks after its own.
        let (idle, port) = (self.inner.live().idle.filter(|_| target != PROXIED), syn.to.port());
        let group = state.group_number(port);
        if state.connections.get(syn.id).is_some() {
            return;
        }
        let look_at = idle.map(|rule| now.after(rule.timeout));
        let look = look_at.map(|at| state.idle.add(at, syn.id));
        state.connections.insert(syn.id, Entry { target, vip, port, group, idle, look });
        state.balancer.handle_open(target);
        state.count_in_group(port, group, target, true);
        state.vips[vip].meter.handle_open(now, syn.to.port());
        state.vips[vip].open_count += 1;
        if let Some(number) = look_at.and_then(|at| state.idle_watcher.is_wanted(at)) {
            self.watch_idle(number);
        }
    }
}

impl State {
    /// Which of the addresses this is; the first, if it is one of another's making.
    fn vip(&self, ip: Ipv4Addr) -> usize {
        self.vips.iter().position(|vip| vip.ip == ip).unwrap_or(0)
    }

    /// Whether an address may take one more connection.
    fn check_limits(&mut self, limits: &Limits, vip: usize, now: SimTime, port: u16) -> Result<(), (Limit, u64)> {
        let vip = &mut self.vips[vip];
        vip.meter.check(limits, now, port, vip.open_count)
    }

    /// A connection is over, or forgotten.
    fn forget(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.remove(id) else { return };
        if let Some(look) = entry.look {
            self.idle.remove(look, id);
        }
        self.vips[entry.vip].open_count -= 1;
        self.balancer.handle_close(entry.target);
        self.count_in_group(entry.port, entry.group, entry.target, false);
    }

    /// The name of the target with this address.
    fn node_at(&self, ip: Ipv4Addr) -> Option<&Rc<str>> {
        self.names.get(&(*self.registered.get(&ip)?)?)
    }
}

impl Inner {
    /// Its settings as they are by now.
    fn live(&self) -> Rc<LoadBalancerConfig> {
        Rc::clone(&self.live.borrow())
    }

    /// Whether a target of this name is a node.
    fn is_node(&self, name: &str) -> bool {
        self.nodes.as_ref().is_some_and(|nodes| nodes.has(name))
    }

    /// A limit is told once for each second in which it holds somebody up.
    fn tell_limit(&self, state: &mut State, port: u16, limit: Limit, value: u64) -> EventId {
        let now = self.sim.now();
        let second = now.as_nanos() / 1_000_000_000;
        let key = (limit, if limit == Limit::ListenerConnectionsPerSecond { port } else { 0 });
        if let Some((told, event)) = state.told.get(&key)
            && *told == second
        {
            return *event;
        }
        let object = self.config.identity.object(format!("Service/{}", self.config.service));
        let data = vec![("limit", limit.name().into()), ("value", number(value).into())];
        let event = self.log.borrow_mut().record(now, None, "lb_limit_reached", object, data);
        state.told.insert(key, (second, event));
        event
    }

    fn tell(&self, because: Option<EventId>, kind: &'static str, name: &str, ip: Ipv4Addr) -> EventId {
        self.tell_at(because, kind, name, SocketAddrV4::new(ip, self.probe_port()))
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Forward for LoadBalancer {
    fn syn(&self, syn: &Syn) -> Verdict {
        if let Some(verdict) = self.pass_over(syn) {
            return verdict;
        }
        let inner = &self.inner;
        let mut state = inner.state.borrow_mut();
        let state = &mut *state;
        if let Some(event) = state.deleted {
            return Verdict::Drop { by: None, why: Some(event) };
        }
        if let Some(event) = state.closed.get(&syn.to.port()) {
            return Verdict::Refuse { by: None, why: Some(*event) };
        }
        let live = inner.live();
        let Some(port) = live.ports.get(&syn.to.port()).copied() else {
            return Verdict::Refuse { by: None, why: None };
        };
        if port == NO_PORT && live.targets.mode == BackendMode::Pods {
            return Verdict::Refuse { by: None, why: state.why_nobody(syn.to.port(), 0) };
        }
        if live.http.contains_key(&syn.to.port()) {
            return self.take_in(state, syn, &live.limits);
        }
        // The balancer keeps the choice it made for the first SYN; once that target is removed, it drops what follows.
        let before = match &inner.nodes {
            None => syn.sent_to.map(|sent_to| *sent_to.ip()),
            Some(nodes) => {
                let direct = || syn.sent_to.map(|to| *to.ip()).filter(|ip| state.registered.contains_key(ip));
                nodes.opened_via(syn.id).map(|place| place.ip).or_else(direct)
            }
        };
        let before = inner.follows(state, before);
        let (now, front_port) = (inner.sim.now(), syn.to.port());
        let vip = state.vip(*syn.to.ip());
        if let Some(event) = state.vips[vip].dead {
            return Verdict::Drop { by: None, why: Some(event) };
        }
        if before.is_none()
            && let Err((limit, value)) = state.check_limits(&live.limits, vip, now, front_port)
        {
            return Verdict::Drop { by: None, why: Some(inner.tell_limit(state, front_port, limit, value)) };
        }
        let zone = if live.is_cross_zone { 0 } else { vip };
        let chosen = match before {
            Some(ip) => match state.registered.get(&ip) {
                Some(Some(id)) => Some((*id, ip)),
                _ => return Verdict::Drop { by: None, why: state.last_removal },
            },
            None => {
                let flow = Flow { from: syn.from, to: syn.to };
                state.choose(now, flow, zone)
            }
        };
        let Some((id, ip)) = chosen else {
            return Verdict::Refuse { by: None, why: state.why_nobody(front_port, zone) };
        };
        let node = || state.names.get(&id).filter(|name| inner.is_node(name)).cloned();
        let verdict = match inner.nodes.as_ref().and_then(|nodes| Some((nodes, node()?))) {
            None => {
                let target = SocketAddrV4::new(ip, port);
                Verdict::To { target, extra_latency: Duration::ZERO, snat: None }
            }
            Some((nodes, node)) => {
                let node_port = live.node_ports.get(&syn.to.port()).copied().unwrap_or(port);
                nodes.cross(syn, &node, (node_port, port), Origin::External)
            }
        };
        if matches!(verdict, Verdict::To { .. }) {
            self.pass(state, syn, id);
        }
        verdict
    }

    fn ended(&self, id: ConnectionId) {
        let others: Vec<Self> = self.inner.state.borrow().handed.values().map(|handed| handed.to.clone()).collect();
        for other in others {
            other.ended(id);
        }
        if let Some(nodes) = &self.inner.nodes {
            nodes.ended(id);
        }
        self.inner.state.borrow_mut().forget(id);
    }
}
