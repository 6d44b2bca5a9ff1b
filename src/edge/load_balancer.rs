//! The load balancer on the simulated network: what its controller tells it, its probes, and each connection's way.
//!
//! The controller reacts to every change of an endpoint on its own: the change takes effect after a latency drawn for that pod,
//! so a slow registration holds up no removal. (The real controller handles the changes of one Service one batch at a time;
//! the batches are small and the difference is inside the spread of the measured 2 to 10 s.) An endpoint that terminates is removed
//! at once, even if it still serves.
//!
//! A SYN that is sent again goes where the first one went, as the balancer's connection table has it (Linux IPVS keeps an entry for a
//! connection that is being opened; that NLB does the same is an assumption).
//!
//! Nodes as targets are those that are ready, as the controller sees them; what they do with a connection is [`super::nodes`]'. A node whose machine dies
//! stays a target until that, or until its checks fail. Under policy `Local` a node's weight is the number of its pods; the scheduler `rr` does not heed
//! it, and then a pod that shares its node gets less. A check that asks the Service's `healthCheckNodePort` is answered by the node's kube-proxy.
//!
//! One choice is shared by all front ports, where the real product keeps one group per port. Not modelled: limits of the
//! specification, idle timeouts, source-address stickiness.
//!
//! Sources: kubernetes/cloud-provider-alibaba-cloud eeb0ddc68, pkg/controller/service/reconcile/backend (endpoint selection),
//! pkg/controller/service/{clbv1,nlbv2} (order of changes); CLB and NLB documents on health checks and draining.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::balancer::{Balancer, BalancerConfig, HealthChange, OnRemoval, TargetId};
use super::kube_proxy::Origin;
use super::kube_proxy::categories::TrafficPolicy;
use super::nodes::Nodes;
use crate::cluster::{EndpointView, Identity};
use crate::engine::{Delay, EventId, EventLog, Sim, Streams};
use crate::net::{ConnectionId, Forward, Host, Net, Sever, Syn, Verdict};
use crate::units::SimTime;

/// A node as a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeTarget {
    /// The node's name.
    pub name: Rc<str>,
    /// The node's address.
    pub ip: Ipv4Addr,
}

/// What the balancer's targets are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackendMode {
    /// The pods themselves, by their own network interfaces (ENI).
    Pods,
    /// Nodes, which pass connections on: all of them, or those with an endpoint.
    Nodes(TrafficPolicy),
}

/// What a health check does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probe {
    /// Opens a connection to the first target port and resets it.
    Tcp,
    /// Asks for a path; 200 to 399 passes.
    Http {
        /// The port of the target.
        port: u16,
        /// The path.
        path: String,
    },
    /// Asks the Service's `healthCheckNodePort` of a node; 200 passes.
    ServiceHealth {
        /// The port.
        port: u16,
    },
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
    /// What its targets are.
    pub mode: BackendMode,
    /// What its health check does.
    pub probe: Probe,
    /// From an endpoint's readiness, as the controller sees it, to its registration.
    pub register_latency: Delay,
    /// From an endpoint's removal, as the controller sees it, to the last new connection.
    pub deregister_latency: Delay,
    /// Front port to the pods' port.
    pub ports: BTreeMap<u16, u16>,
    /// Front port to the nodes' port. Empty: targets are pods.
    pub node_ports: BTreeMap<u16, u16>,
    /// The weight of every target, unless policy `Local` gives nodes others.
    pub weight: u32,
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
    config: LoadBalancerConfig,
    /// The nodes, where they are the targets.
    nodes: Option<Nodes>,
    removal: Cell<Removal>,
    state: RefCell<State>,
    on_registered: RefCell<Option<OnRegistered>>,
}

/// A target as the controller wants it.
#[derive(Clone)]
struct Wanted {
    /// As events tell it.
    name: Rc<str>,
    because: Option<EventId>,
    weight: u32,
}

/// What becomes of open connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removal {
    /// Of a target that is removed.
    pub on_deregister: OnRemoval,
    /// Of one that fails its check.
    pub on_unhealthy: OnRemoval,
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
    connections: BTreeMap<ConnectionId, TargetId>,
    by_target: BTreeMap<TargetId, BTreeSet<ConnectionId>>,
    /// The nodes that may be targets.
    eligible: Vec<NodeTarget>,
    /// What the controller last saw.
    endpoints: Vec<EndpointView>,
    /// The last event that took a target away: the reason if none is left.
    last_removal: Option<EventId>,
    /// The event of its own deletion.
    deleted: Option<EventId>,
    /// Front ports whose listeners another Service has overwritten.
    handed: BTreeMap<u16, Handed>,
    /// Connections that went to another Service, with the event of its takeover.
    through_other: BTreeMap<ConnectionId, EventId>,
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
        let nodes = nodes.filter(|_| config.mode != BackendMode::Pods);
        assert!(nodes.is_some() || config.mode == BackendMode::Pods, "targets that are nodes need nodes");
        let places = nodes.as_ref().map(Nodes::places).unwrap_or_default();
        let state = State {
            eligible: places.into_iter().map(|place| NodeTarget { name: place.name, ip: place.ip }).collect(),
            endpoints: Vec::new(),
            balancer: Balancer::new(config.balancer.clone()),
            wanted: BTreeMap::new(),
            registered: BTreeMap::new(),
            names: BTreeMap::new(),
            connections: BTreeMap::new(),
            by_target: BTreeMap::new(),
            last_removal: None,
            deleted: None,
            handed: BTreeMap::new(),
            through_other: BTreeMap::new(),
        };
        let (sim, net, state) = (sim.clone(), net.clone(), RefCell::new(state));
        let BalancerConfig { on_deregister, on_unhealthy, .. } = config.balancer;
        let removal = Cell::new(Removal { on_deregister, on_unhealthy });
        let on_registered = RefCell::default();
        let inner = Inner { sim, net, host, streams, log, config, nodes, removal, state, on_registered };
        Self { inner: Rc::new(inner) }
    }

    /// From now on `hook` is called for each target that has been registered.
    pub fn when_registered(&self, hook: Rc<dyn Fn(Ipv4Addr, EventId)>) {
        *self.inner.on_registered.borrow_mut() = Some(hook);
    }

    /// The controller sees the Service's endpoints.
    pub fn handle_endpoints(&self, endpoints: &[EndpointView]) {
        let wanted = self.inner.wanted(endpoints);
        let (to_register, to_deregister, to_weigh) = {
            let mut state = self.inner.state.borrow_mut();
            state.endpoints = endpoints.to_vec();
            let gone: Vec<Ipv4Addr> = state.registered.keys().filter(|ip| !wanted.contains_key(ip)).copied().collect();
            let new: Vec<Ipv4Addr> = wanted.keys().filter(|ip| !state.registered.contains_key(ip)).copied().collect();
            let mut causes = BTreeMap::new();
            for endpoint in endpoints {
                causes.insert(endpoint.ip, endpoint.because);
            }
            let removals: Vec<(Ipv4Addr, Rc<str>, Option<EventId>)> = gone
                .into_iter()
                .map(|ip| {
                    let known = state.wanted.get(&ip);
                    let name = known.map_or_else(|| Rc::from(ip.to_string()), |known| Rc::clone(&known.name));
                    let because = known.and_then(|known| known.because);
                    (ip, name, causes.get(&ip).copied().flatten().or(because))
                })
                .collect();
            for ip in &new {
                state.registered.insert(*ip, None);
            }
            // A removal that waits for its latency is not asked for again.
            let removals: Vec<_> = removals.into_iter().filter(|(ip, ..)| state.wanted.contains_key(ip)).collect();
            let is_heavier =
                |ip: &Ipv4Addr, new: &Wanted| state.wanted.get(ip).is_some_and(|it| it.weight != new.weight);
            let others: Vec<Ipv4Addr> =
                wanted.iter().filter(|(ip, new)| is_heavier(ip, new)).map(|(ip, _)| *ip).collect();
            state.wanted = wanted;
            (new, removals, others)
        };
        for ip in to_register {
            self.register_later(ip);
        }
        for (ip, name, because) in to_deregister {
            self.deregister_later(ip, name, because);
        }
        for ip in to_weigh {
            self.weigh_later(ip);
        }
    }

    /// Its Service has been deleted. When the controller has come to it, the balancer goes, and its address with it: open connections are reset, and
    /// nobody answers any more. What a cloud does to open connections then is not documented: an assumption.
    pub fn delete_later(&self, because: EventId) {
        let this = self.clone();
        self.inner.sim.spawn("lb-delete", async move {
            let inner = &this.inner;
            let mut stream = inner.streams.stream("lb-delete", &inner.config.service);
            inner.sim.sleep(inner.config.deregister_latency.draw(&mut stream)).await;
            let object = inner.config.identity.object(format!("Service/{}", inner.config.service));
            let event = inner.log.borrow_mut().record(inner.sim.now(), Some(because), "lb_deleted", object, Vec::new());
            let open: Vec<ConnectionId> = {
                let mut state = inner.state.borrow_mut();
                state.deleted = Some(event);
                state.connections.keys().copied().collect()
            };
            for connection in open {
                inner.net.sever(connection, Sever::Reset, Some(event));
            }
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

    /// Another rule for connections is written into the Service; it holds when the controller has come to it.
    pub fn set_removal_later(&self, removal: Removal, because: EventId) {
        let this = self.clone();
        self.inner.sim.spawn("lb-update", async move {
            let inner = &this.inner;
            let mut stream =
                inner.streams.stream("lb-update", &format!("{}/{}", inner.config.service, because.number()));
            inner.sim.sleep(inner.config.deregister_latency.draw(&mut stream)).await;
            inner.removal.set(removal);
        });
    }

    /// The controller sees which nodes are ready. Without an effect where pods are the targets.
    pub fn handle_nodes(&self, nodes: Vec<NodeTarget>) {
        let endpoints = {
            let mut state = self.inner.state.borrow_mut();
            state.eligible = nodes;
            state.endpoints.clone()
        };
        self.handle_endpoints(&endpoints);
    }

    /// Targets that get new connections.
    #[must_use]
    pub fn healthy_count(&self) -> usize {
        self.inner.state.borrow().balancer.healthy_count()
    }

    /// Whether it has exactly the targets that its controller wants, and sends new connections to all of them.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let state = self.inner.state.borrow();
        let is_known = |ip: &Ipv4Addr| state.registered.get(ip).is_some_and(Option::is_some);
        let all_registered = state.wanted.keys().all(is_known) && state.registered.len() == state.wanted.len();
        all_registered && state.balancer.healthy_count() == state.wanted.len()
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

    fn register_later(&self, ip: Ipv4Addr) {
        let this = self.clone();
        self.inner.sim.spawn("lb-register", async move {
            let inner = &this.inner;
            let name =
                inner.state.borrow().wanted.get(&ip).map_or_else(|| Rc::from(""), |wanted| Rc::clone(&wanted.name));
            let stands = inner.config.stands_at_zero && inner.sim.now() == SimTime::ZERO;
            let latency = inner.config.register_latency.draw(&mut inner.streams.stream("lb-register", &name));
            inner.sim.sleep(if stands { Duration::ZERO } else { latency }).await;
            let registered = {
                let mut state = inner.state.borrow_mut();
                match state.wanted.get(&ip).cloned() {
                    None => {
                        state.registered.remove(&ip);
                        None
                    }
                    Some(Wanted { name, because, weight }) => {
                        let event = inner.tell(because, "target_registered", &name, ip);
                        let address = SocketAddrV4::new(ip, inner.probe_port());
                        let id = state.balancer.register(address, weight, Some(event));
                        state.registered.insert(ip, Some(id));
                        state.names.insert(id, Rc::clone(&name));
                        if stands {
                            state.balancer.set_healthy(id);
                        }
                        if state.balancer.is_healthy(id) {
                            inner.tell(Some(event), "target_healthy", &name, ip);
                        }
                        Some((id, event))
                    }
                }
            };
            if let Some((id, event)) = registered {
                let hook = inner.on_registered.borrow().clone();
                if let Some(hook) = hook {
                    hook(ip, event);
                }
                this.probe(id, ip, event, stands).await;
            }
        });
    }

    /// A target gets another weight, once the controller has come to it.
    fn weigh_later(&self, ip: Ipv4Addr) {
        let this = self.clone();
        self.inner.sim.spawn("lb-weigh", async move {
            let inner = &this.inner;
            let name =
                inner.state.borrow().wanted.get(&ip).map_or_else(|| Rc::from(""), |wanted| Rc::clone(&wanted.name));
            let purpose = format!("{name}/{}", inner.sim.now().as_nanos());
            inner.sim.sleep(inner.config.register_latency.draw(&mut inner.streams.stream("lb-weigh", &purpose))).await;
            let mut state = inner.state.borrow_mut();
            // Written as it is wanted by now; what is not registered yet gets it with its registration.
            if let (Some(weight), Some(Some(id))) =
                (state.wanted.get(&ip).map(|wanted| wanted.weight), state.registered.get(&ip).copied())
            {
                state.balancer.set_weight(id, weight);
            }
        });
    }

    /// Probes a target for as long as it is registered.
    async fn probe(&self, id: TargetId, ip: Ipv4Addr, mut because: EventId, stands: bool) {
        let inner = &self.inner;
        let Some(check) = inner.config.balancer.health_check else { return };
        let mut next = inner.sim.now();
        if stands {
            // Its probes began at some time before the run.
            next = next.after(inner.config.first_probe.unwrap_or_else(|| {
                inner.streams.stream("lb-probe-phase", &ip.to_string()).uniform(Duration::ZERO, check.interval)
            }));
            inner.sim.sleep_until(next).await;
        }
        loop {
            let is_ok = {
                let mut probing = pin!(inner.probe_once(ip));
                let mut limit = pin!(inner.sim.sleep(check.timeout));
                std::future::poll_fn(|cx| match probing.as_mut().poll(cx) {
                    Poll::Ready(is_ok) => Poll::Ready(is_ok),
                    Poll::Pending => limit.as_mut().poll(cx).map(|()| false),
                })
                .await
            };
            let change = {
                let mut state = inner.state.borrow_mut();
                let Some(name) = state.names.get(&id).cloned() else { return };
                let change = state.balancer.handle_probe(id, is_ok, Some(because));
                if let Some(change) = change {
                    let kind = match change {
                        HealthChange::Healthy => "target_healthy",
                        HealthChange::Unhealthy => "target_unhealthy",
                    };
                    because = inner.tell(Some(because), kind, &name, ip);
                }
                change
            };
            if change == Some(HealthChange::Unhealthy) {
                let name = inner.state.borrow().names.get(&id).cloned().unwrap_or_else(|| Rc::from(""));
                self.cut_later(id, name, ip, inner.removal.get().on_unhealthy, because);
            }
            next = next.after(check.interval).max(inner.sim.now());
            inner.sim.sleep_until(next).await;
        }
    }

    fn deregister_later(&self, ip: Ipv4Addr, name: Rc<str>, because: Option<EventId>) {
        let this = self.clone();
        self.inner.sim.spawn("lb-deregister", async move {
            let inner = &this.inner;
            let latency = inner.config.deregister_latency.draw(&mut inner.streams.stream("lb-deregister", &name));
            inner.sim.sleep(latency).await;
            let removed = {
                let mut state = inner.state.borrow_mut();
                if state.wanted.contains_key(&ip) {
                    // It came back while the controller was at it.
                    return;
                }
                let Some(Some(id)) = state.registered.remove(&ip) else { return };
                state.balancer.deregister(id);
                state.names.remove(&id);
                let event = inner.tell(because, "target_deregistered", &name, ip);
                state.last_removal = Some(event);
                (id, event)
            };
            this.cut_later(removed.0, name, ip, inner.removal.get().on_deregister, removed.1);
        });
    }

    /// Cuts a target's connections when their time is over.
    fn cut_later(&self, id: TargetId, name: Rc<str>, ip: Ipv4Addr, rule: OnRemoval, because: EventId) {
        let OnRemoval::CutAfter(delay) = rule else { return };
        let this = self.clone();
        self.inner.sim.spawn("lb-cut", async move {
            let inner = &this.inner;
            inner.sim.sleep(delay).await;
            let connections: Vec<ConnectionId> = {
                let state = inner.state.borrow();
                if state.balancer.is_healthy(id) {
                    return;
                }
                state.by_target.get(&id).map(|open| open.iter().copied().collect()).unwrap_or_default()
            };
            let event = inner.tell(Some(because), "target_drained", &name, ip);
            for connection in connections {
                inner.net.sever(connection, Sever::Reset, Some(event));
            }
        });
    }
}

impl State {
    /// A SYN goes on to a target, or to a pod behind it.
    fn pass(&mut self, id: ConnectionId, target: TargetId) {
        self.connections.insert(id, target);
        self.by_target.entry(target).or_default().insert(id);
    }

    /// The name of the target with this address.
    fn node_at(&self, ip: Ipv4Addr) -> Option<&Rc<str>> {
        self.names.get(&(*self.registered.get(&ip)?)?)
    }
}

impl Inner {
    /// What the controller wants as targets, by its rules.
    fn wanted(&self, endpoints: &[EndpointView]) -> BTreeMap<Ipv4Addr, Wanted> {
        let ready = || endpoints.iter().filter(|endpoint| endpoint.ready && !endpoint.terminating);
        let BackendMode::Nodes(policy) = self.config.mode else {
            let wanted = |pod: &EndpointView| Wanted {
                name: Rc::clone(&pod.pod),
                because: pod.because,
                weight: self.config.weight,
            };
            return ready().map(|pod| (pod.ip, wanted(pod))).collect();
        };
        let because = endpoints.iter().filter_map(|endpoint| endpoint.because).max();
        let weight = |node: &NodeTarget| match policy {
            TrafficPolicy::Cluster => self.config.weight,
            TrafficPolicy::Local => {
                let pods = ready().filter(|endpoint| endpoint.node == node.name).count();
                u32::try_from(pods).unwrap_or(u32::MAX)
            }
        };
        let state = self.state.borrow();
        let all = state.eligible.iter();
        let all = all.map(|node| (node.ip, Wanted { name: Rc::clone(&node.name), because, weight: weight(node) }));
        all.filter(|(_, wanted)| wanted.weight > 0).collect()
    }

    fn probe_port(&self) -> u16 {
        match &self.config.probe {
            Probe::Http { port, .. } | Probe::ServiceHealth { port } => *port,
            Probe::Tcp => self.config.ports.values().next().copied().unwrap_or(0),
        }
    }

    /// One probe of the target at `ip`; a node passes it on as it would any connection.
    async fn probe_once(&self, ip: Ipv4Addr) -> bool {
        let mut ip = ip;
        if let Some(nodes) = &self.nodes {
            let Some(node) = self.state.borrow().node_at(ip).cloned() else { return false };
            if nodes.is_dead(&node) {
                // Nobody answers: only the time limit ends it.
                std::future::pending::<()>().await;
            }
            if matches!(self.config.probe, Probe::ServiceHealth { .. }) {
                self.sim.sleep(2 * nodes.config().hop_latency).await;
                return nodes.service_health(&node).is_some_and(|health| health.status() == 200);
            }
            let Some(pod) = nodes.behind(&node, self.host.ip()) else { return false };
            ip = pod;
        }
        let Ok(mut stream) = self.host.connect(SocketAddrV4::new(ip, self.probe_port())).await else { return false };
        match &self.config.probe {
            Probe::Tcp | Probe::ServiceHealth { .. } => {
                stream.abort();
                true
            }
            Probe::Http { path, .. } => {
                let request = format!("GET {path} HTTP/1.1\r\nhost: {ip}\r\nconnection: close\r\n\r\n");
                if stream.write_all(request.as_bytes()).await.is_err() {
                    return false;
                }
                let mut answer = Vec::new();
                // "HTTP/1.1 200": the status is complete after twelve bytes.
                while answer.len() < 12 {
                    if !matches!(stream.read(&mut answer).await, Ok(1..)) {
                        return false;
                    }
                }
                matches!(&answer[9..12], [b'2' | b'3', _, _])
            }
        }
    }

    fn tell(&self, because: Option<EventId>, kind: &'static str, name: &str, ip: Ipv4Addr) -> EventId {
        let address = format!("{ip}:{}", self.probe_port());
        let identity = &self.config.identity;
        let object = identity.object(format!("Target/{}/{address}", self.config.service));
        let namespace = self.config.service.split('/').next().unwrap_or_default();
        let data = match self.config.mode {
            BackendMode::Pods => {
                let pod = identity.key(&format!("{namespace}/{name}"));
                vec![("pod", (&*pod).into()), ("address", address.into())]
            }
            BackendMode::Nodes(_) => vec![("node", name.into()), ("address", address.into())],
        };
        self.log.borrow_mut().record(self.sim.now(), because, kind, object, data)
    }
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
        let Some(port) = inner.config.ports.get(&syn.to.port()).copied() else {
            return Verdict::Refuse { by: None, why: None };
        };
        // The balancer keeps the choice it made for the first SYN; once that target is removed, it drops what follows.
        let before = match &inner.nodes {
            None => syn.sent_to.map(|sent_to| *sent_to.ip()),
            Some(nodes) => nodes.opened_via(syn.id).map(|place| place.ip),
        };
        let chosen = match before {
            Some(ip) => match state.registered.get(&ip) {
                Some(Some(id)) => Some((*id, ip)),
                _ => return Verdict::Drop { by: None, why: state.last_removal },
            },
            None => state.balancer.choose().map(|(id, address)| (id, *address.ip())),
        };
        let Some((id, ip)) = chosen else {
            return Verdict::Refuse { by: None, why: state.last_removal };
        };
        let verdict = match &inner.nodes {
            None => {
                let target = SocketAddrV4::new(ip, port);
                Verdict::To { target, extra_latency: Duration::ZERO, snat: None }
            }
            Some(nodes) => {
                let node = state.names.get(&id).expect("every target has a name");
                let node_port = inner.config.node_ports.get(&syn.to.port()).copied().unwrap_or(port);
                nodes.cross(syn, node, (node_port, port), Origin::External)
            }
        };
        if matches!(verdict, Verdict::To { .. }) {
            state.pass(syn.id, id);
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
        let mut state = self.inner.state.borrow_mut();
        if let Some(target) = state.connections.remove(&id)
            && let Some(open) = state.by_target.get_mut(&target)
        {
            open.remove(&id);
            if open.is_empty() {
                state.by_target.remove(&target);
            }
        }
    }
}
