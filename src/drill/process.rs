//! What containers do: a gateway with its agent, a backend, or a process that only exists until it is told to end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use super::config::DiskCosts;
use super::memory::Memory;
use super::node_memory::NodeMemory;
use super::pod_host::{Cpu, CpuCosts, PodHost};
use crate::backend::{Backend, BackendConfig, Ledger};
use crate::cluster::kubelet::oom::Qos;
use crate::cluster::metrics::Usage;
use crate::cluster::{LocalFuture, Process, ProcessEnd};
use crate::engine::{Delay, EventId, EventLog, Signal, Sim, Streams, TaskGroup};
use crate::gateway::agent::{self, AgentConfig};
use crate::gateway::locality::Site;
use crate::gateway::{Gateway, GatewayConfig, Observer, Order, Routes};
use crate::net;
use crate::units::SimTime;

/// How the gateway's processes are.
#[derive(Clone, Debug)]
pub struct GatewaySpec {
    /// Listeners, clusters, drain.
    pub config: GatewayConfig,
    /// Readiness and the way to the end.
    pub agent: AgentConfig,
    /// What the preStop hook orders, and when, from its start. How long the hook runs is the pod template's.
    pub pre_stop: Vec<(Duration, Order)>,
    /// The image does not have the program of the preStop hook, whatever the template says.
    pub hook_fails: bool,
    /// Worker threads.
    pub workers: usize,
    /// What work costs.
    pub costs: CpuCosts,
    /// The CPU limit in thousandths of a core; none: no limit.
    pub cpu_limit_millicores: Option<u64>,
    /// The memory limit in bytes; none: no limit.
    pub memory_limit_bytes: Option<u64>,
    /// From an endpoint's change to the gateway's use of it.
    pub config_propagation: Delay,
    /// From the agent's decision to end to the end of the process.
    pub exit_delay: Delay,
}

/// What every process needs of its world.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) sim: Sim,
    pub(super) streams: Streams,
    pub(super) log: Rc<RefCell<EventLog>>,
}

/// The pod of a gateway's process.
pub(super) struct GatewayPod<'a> {
    /// `Pod/namespace/name`.
    pub(super) object: &'a str,
    /// Where it runs.
    pub(super) site: Site,
    /// What its process holds.
    pub(super) memory: Rc<Memory>,
}

/// What became of a gateway's listeners and connections before its process ended.
#[derive(Default)]
pub(super) struct Ending {
    /// When its listeners closed.
    pub(super) closed: Cell<Option<Closing>>,
    /// When it closed the connections that were still open, if any were.
    pub(super) cut: Cell<Option<(SimTime, EventId)>>,
    /// When it quit, which closed its idle connections.
    pub(super) quit: Cell<Option<(SimTime, EventId)>>,
    /// It was told to close its listeners; else they close because a drain time is over.
    was_told: Cell<bool>,
}

/// A port on which a gateway listened no more.
struct Removed {
    at: SimTime,
    event: EventId,
    /// Since when it listens there again.
    back_at: Option<SimTime>,
}

/// The end of a gateway's listeners.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closing {
    pub(super) at: SimTime,
    pub(super) event: EventId,
    /// Envoy's drain time was over, and nothing else.
    pub(super) is_drain_over: bool,
}

/// A gateway pod's process.
pub(super) struct GatewayProcess {
    pub(super) gateway: Gateway<PodHost>,
    /// Where it runs.
    pub(super) site: Site,
    pub(super) cpu: Rc<Cpu>,
    pub(super) limit_millicores: Option<u64>,
    pub(super) memory: Rc<Memory>,
    /// What became of its listeners and connections before its end.
    pub(super) ending: Rc<Ending>,
    /// Where it listens.
    listeners: RefCell<Vec<(u16, u16)>>,
    /// Ports where it listened no more, for a time or for good.
    removed: RefCell<BTreeMap<u16, Removed>>,
    pre_stop: Vec<(Duration, Order)>,
    hook_fails: bool,
    object: Rc<str>,
    around: Surroundings,
    tasks: TaskGroup,
    sigterm: Signal,
    sigterm_event: Rc<Cell<Option<EventId>>>,
    ended: Signal,
    own_end: Rc<Cell<Option<ProcessEnd>>>,
}

impl GatewayProcess {
    /// Starts a gateway on `host`, in a pod. It has no endpoints yet.
    pub(super) fn start(
        surroundings: &Surroundings,
        host: &net::Host,
        pod: GatewayPod<'_>,
        spec: &GatewaySpec,
        routes: Rc<Routes>,
        observer: Rc<dyn Observer>,
    ) -> Self {
        let Surroundings { sim, streams, .. } = surroundings;
        let GatewayPod { object, site, memory } = pod;
        let tasks = TaskGroup::new(sim);
        let cpu = Rc::new(Cpu::new(spec.costs, spec.workers, spec.cpu_limit_millicores));
        let worker = |index: usize| {
            let random = streams.stream("gateway-worker", &format!("{object}/{index}"));
            PodHost::new(sim, host.clone(), tasks.clone(), random, Rc::clone(&cpu), index)
                .with_memory(Rc::clone(&memory))
        };
        let workers: Vec<PodHost> = (0..spec.workers).map(worker).collect();
        let gateway = Gateway::start(workers, spec.config.clone(), routes, observer);
        let gateway = gateway.expect("a pod that starts has a network and no other process on its ports");
        let process = Self {
            gateway: gateway.clone(),
            site,
            cpu,
            limit_millicores: spec.cpu_limit_millicores,
            memory,
            ending: Rc::default(),
            listeners: RefCell::new(spec.config.listeners.clone()),
            removed: RefCell::default(),
            pre_stop: spec.pre_stop.clone(),
            hook_fails: spec.hook_fails,
            object: Rc::from(object),
            around: surroundings.clone(),
            tasks: tasks.clone(),
            sigterm: Signal::default(),
            sigterm_event: Rc::default(),
            ended: Signal::default(),
            own_end: Rc::default(),
        };
        process.watch_listeners();
        process.watch_memory(surroundings);
        let exit_delay = spec.exit_delay.draw(&mut streams.stream("exit-delay", object));
        let (agent_config, raised, ended) = (spec.agent.clone(), process.sigterm.raised(), process.ended.clone());
        let (clock, cause, witness) = (sim.clone(), Rc::clone(&process.sigterm_event), process.witness());
        sim.spawn("agent", async move {
            let watch = move |order| witness.tell(order, cause.get());
            let exits = agent::run(gateway, agent_config, raised, watch).await;
            exits.expect("the status port of a new pod is free");
            clock.sleep(exit_delay).await;
            tasks.abort();
            ended.raise();
        });
        process
    }

    /// Its node has so much memory, which it shares from now on.
    pub(super) fn share_memory(&self, node: &Rc<NodeMemory>, qos: Qos, request_bytes: u64) {
        let score_adj = qos.oom_score_adj(request_bytes, node.capacity_bytes());
        node.join(&self.object, &self.memory, self.ended.clone(), score_adj);
    }

    /// It listens there from now on, and tells what that changes.
    pub(super) fn listen(&self, wanted: &[(u16, u16)], because: EventId) {
        let old = self.listeners.replace(wanted.to_vec());
        self.gateway.set_listeners(wanted).expect("a pod has no other process on the gateway's ports");
        let tell = |kind: &'static str, port: u16| {
            let now = self.around.sim.now();
            let data = vec![("port", i64::from(port).into())];
            self.around.log.borrow_mut().record(now, Some(because), kind, self.object.to_string(), data)
        };
        let has = |all: &[(u16, u16)], port: u16| all.iter().any(|(bound, _)| *bound == port);
        for (port, _) in old.iter().filter(|(port, _)| !has(wanted, *port)) {
            let event = tell("listener_removed", *port);
            let at = self.around.sim.now();
            self.removed.borrow_mut().insert(*port, Removed { at, event, back_at: None });
        }
        for (port, _) in wanted.iter().filter(|(port, _)| !has(&old, *port)) {
            tell("listener_added", *port);
            if let Some(removed) = self.removed.borrow_mut().get_mut(port) {
                removed.back_at = Some(self.around.sim.now());
            }
        }
    }

    /// The event with which it had ceased to listen on a port that somebody dialled at one time and was refused at by another.
    pub(super) fn removed_listener(&self, port: u16, dialled_at: SimTime, refused_at: SimTime) -> Option<EventId> {
        let removed = self.removed.borrow();
        let Removed { at, event, back_at } = removed.get(&port)?;
        let was_gone = *at <= refused_at && back_at.is_none_or(|back_at| dialled_at < back_at);
        was_gone.then_some(*event)
    }

    fn witness(&self) -> Witness {
        Witness {
            around: self.around.clone(),
            object: Rc::clone(&self.object),
            ending: Rc::clone(&self.ending),
            open: self.gateway.connection_counter(),
        }
    }

    /// What it has used so far.
    pub(super) fn usage(&self, now: SimTime) -> Usage {
        Usage {
            cpu: Some(self.cpu.spent(now)),
            memory_bytes: Some(self.memory.bytes()),
            requests: Some(self.memory.requests()),
        }
    }

    /// The kernel ends it at once when it holds more than its limit.
    fn watch_memory(&self, surroundings: &Surroundings) {
        let (exceeded, ended, own_end) = (self.memory.exceeded(), self.ended.clone(), Rc::clone(&self.own_end));
        let memory = Rc::clone(&self.memory);
        let tasks = self.tasks.clone();
        surroundings.sim.spawn("oom-killer", async move {
            exceeded.raised().await;
            if !ended.is_raised() {
                let of_node = memory.ended_for_node();
                own_end.set(Some(if of_node { ProcessEnd::NodeOutOfMemory } else { ProcessEnd::OutOfMemory }));
                tasks.abort();
                ended.raise();
            }
        });
        self.memory.count_connections(self.gateway.connection_counter());
    }

    fn watch_listeners(&self) {
        let closed = self.gateway.listeners_closed();
        let (witness, cause) = (self.witness(), Rc::clone(&self.sigterm_event));
        self.tasks.spawn("gateway-watch", async move {
            closed.await;
            let event = witness.record("listener_closed", cause.get());
            let (at, is_drain_over) = (witness.around.sim.now(), !witness.ending.was_told.get());
            witness.ending.closed.set(Some(Closing { at, event, is_drain_over }));
        });
    }
}

/// Tells the event log what the process is ordered to do.
struct Witness {
    around: Surroundings,
    object: Rc<str>,
    ending: Rc<Ending>,
    /// Connections that are open.
    open: Rc<Cell<usize>>,
}

impl Witness {
    fn record(&self, kind: &'static str, because: Option<EventId>) -> EventId {
        let now = self.around.sim.now();
        self.around.log.borrow_mut().record(now, because, kind, self.object.to_string(), Vec::new())
    }

    fn tell(&self, order: Order, because: Option<EventId>) {
        match order {
            Order::Drain { .. } | Order::TellToLeave => drop(self.record("drain_started", because)),
            Order::CloseListeners => self.ending.was_told.set(true),
            Order::Quit => {
                self.ending.was_told.set(true);
                let event = self.record("drain_started", because);
                self.ending.quit.set(Some((self.around.sim.now(), event)));
            }
            Order::Cut => {
                let event = self.record("connections_cut", because);
                // The order is the last one of some gateways also where they have waited until nobody was left.
                if self.open.get() > 0 {
                    self.ending.cut.set(Some((self.around.sim.now(), event)));
                }
            }
        }
    }
}

impl Process for GatewayProcess {
    fn has_hook(&self) -> bool {
        !self.hook_fails
    }

    fn pre_stop(&self, because: EventId) {
        let (gateway, witness, clock) = (self.gateway.clone(), self.witness(), self.around.sim.clone());
        let (orders, begins_at) = (self.pre_stop.clone(), clock.now());
        self.tasks.spawn("pre-stop", async move {
            for (after, order) in orders {
                clock.sleep_until(begins_at.after(after)).await;
                gateway.obey(order);
                witness.tell(order, Some(because));
            }
        });
    }

    fn terminate(&self, because: EventId) {
        self.sigterm_event.set(Some(because));
        self.sigterm.raise();
    }

    fn kill(&self, _: EventId) {
        self.tasks.abort();
        self.ended.raise();
    }

    fn exited(&self) -> LocalFuture<()> {
        Box::pin(self.ended.raised())
    }

    fn own_end(&self) -> Option<ProcessEnd> {
        self.own_end.get()
    }
}

/// A backend pod's process.
pub(super) struct BackendProcess {
    backend: Backend,
    shutdown_delay: Option<Duration>,
    /// Processor time of one request, if it is known.
    pub(super) cpu_per_request: Option<Duration>,
    /// What it takes of its node's disk, if that is known.
    pub(super) disk: Option<DiskCosts>,
    /// What it holds, if that is known.
    memory: Option<Rc<Memory>>,
    own_end: Rc<Cell<Option<ProcessEnd>>>,
}

impl BackendProcess {
    pub(super) fn start(
        surroundings: &Surroundings,
        host: &net::Host,
        ports: impl IntoIterator<Item = u16>,
        config: BackendConfig,
        shutdown_delay: Option<Duration>,
    ) -> Self {
        let backend = Backend::start(&surroundings.sim, surroundings.streams, host, ports, config);
        let backend = backend.expect("a pod that starts has a network");
        Self { backend, shutdown_delay, cpu_per_request: None, disk: None, memory: None, own_end: Rc::default() }
    }

    /// It holds this much from now on, on a node with so much, and ends when that is too much for either.
    pub(super) fn hold(
        &mut self,
        sim: &Sim,
        (object, node): (&str, &Rc<NodeMemory>),
        memory: &Rc<Memory>,
        score_adj: i64,
    ) {
        let (backend, ended) = (self.backend.clone(), self.backend.end());
        let (held, own_end) = (Rc::clone(memory), Rc::clone(&self.own_end));
        sim.spawn("oom-killer", async move {
            held.exceeded().raised().await;
            if !backend.end().is_raised() {
                let of_node = held.ended_for_node();
                own_end.set(Some(if of_node { ProcessEnd::NodeOutOfMemory } else { ProcessEnd::OutOfMemory }));
                backend.kill();
            }
        });
        let ledger: Rc<dyn Ledger> = Rc::<Memory>::clone(memory);
        self.backend.keep_count(ledger);
        memory.count_connections(self.backend.connection_counter());
        node.join(object, memory, ended, score_adj);
        self.memory = Some(Rc::clone(memory));
    }
}

impl BackendProcess {
    /// What it has used so far: processor time where a request has a cost.
    pub(super) fn usage(&self) -> Usage {
        let requests = self.backend.request_count();
        let spent = |cost: Duration| {
            let nanos = cost.as_nanos() * u128::from(requests);
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        let memory_bytes = self.memory.as_ref().map(|memory| memory.bytes());
        Usage { cpu: self.cpu_per_request.map(spent), memory_bytes, requests: Some(requests) }
    }
}

impl Process for BackendProcess {
    fn terminate(&self, _: EventId) {
        match self.shutdown_delay {
            Some(delay) => self.backend.shut_down(delay),
            None => self.backend.kill(),
        }
    }

    fn kill(&self, _: EventId) {
        self.backend.kill();
    }

    fn exited(&self) -> LocalFuture<()> {
        Box::pin(self.backend.ended())
    }

    fn own_end(&self) -> Option<ProcessEnd> {
        self.own_end.get()
    }
}

/// A process of a Deployment that plays no part: it ends when it is told to.
#[derive(Default)]
pub(super) struct IdleProcess {
    ended: Signal,
}

impl Process for IdleProcess {
    fn terminate(&self, _: EventId) {
        self.ended.raise();
    }

    fn kill(&self, _: EventId) {
        self.ended.raise();
    }

    fn exited(&self) -> LocalFuture<()> {
        Box::pin(self.ended.raised())
    }
}

/// Asks a pod over the network, as the kubelet does; whether the probe passed. A probe over TLS asks without it: where nobody speaks TLS it is not asked.
pub(super) async fn probe(host: net::Host, ip: Ipv4Addr, action: crate::cluster::ProbeAction) -> bool {
    use crate::cluster::ProbeAction;
    let (port, path) = match action {
        ProbeAction::Tcp { port } => (port, None),
        ProbeAction::Http { port, path } | ProbeAction::Https { port, path } => (port, Some(path)),
    };
    let Ok(mut stream) = host.connect(SocketAddrV4::new(ip, port)).await else { return false };
    let Some(path) = path else { return true };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {ip}\r\nuser-agent: kube-probe\r\nconnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let (mut parser, mut bytes) = (crate::load::AnswerParser::default(), Vec::new());
    loop {
        match parser.push(&mut bytes) {
            Ok(Some(answer)) => return crate::cluster::kubelet::probe::http_status_passes(answer.status),
            Ok(None) => {}
            Err(_) => return false,
        }
        if !matches!(stream.read(&mut bytes).await, Ok(1..)) {
            return false;
        }
    }
}
