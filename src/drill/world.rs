//! The wiring of a world, and the run.
//!
//! At time zero the world stands: pods ready, targets healthy. Then comes the warm-up, in which the loads already run, and then the
//! measured time. Actions and phases are counted from its start.

mod actions;
mod endpoints;
mod nodes;
mod scaling;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::causes::{Evidence, cause_of};
use super::config::{ClusterSpec, MixEntry, OwnedReplicas, WorldConfig};
use super::memory::Memory;
use super::process::{BackendProcess, GatewayPod, GatewayProcess, GatewaySpec, IdleProcess, Surroundings, probe};
use crate::cluster::metrics::Usage;
use crate::cluster::{Cluster, LocalFuture, ProbeAction, Process, Runtime, StartingPod};
use crate::edge::{BackendMode, LoadBalancer};
use crate::engine::{Datum, EventLog, Sim, Stall, Streams};
use crate::gateway::locality::Site;
use crate::gateway::outlier::Detection;
use crate::gateway::{AccessRecord, EndpointConfig, Flags, Observer, Routes};
use crate::load::{Arrivals, Client, Finished, RateSegment, Request, Sink};
use crate::net::{Forward, Host, LinkConfig, Net};
use crate::record::results::{GatewayFacts, Rollout, Slo};
use crate::record::{
    self, BooksBroken, Done, Facts, Gauge, ObjectsShown, Recorder, RecorderConfig, RequestId, Run, lanes,
};
use crate::units::SimTime;

/// The load balancer's address.
const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Where its probes come from. Source: Alibaba Cloud CLB documents, health check address range 100.64.0.0/10.
const PROBER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// Where the kubelets' probes come from.
const KUBELET: Ipv4Addr = Ipv4Addr::new(192, 168, 255, 254);

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Virtual time so far, warm-up included.
    pub now: SimTime,
    /// Where it ends.
    pub end: SimTime,
    /// Requests lost so far.
    pub dropped: u64,
}

/// Whether the run goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Continue {
    /// On to the next second.
    Yes,
    /// It was interrupted: what there is, is told as incomplete.
    No,
}

/// A run that has no results.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The world makes no progress.
    #[error(transparent)]
    Stall(#[from] Stall),
    /// The counts do not add up.
    #[error(transparent)]
    Books(#[from] BooksBroken),
}

/// What a run gives.
#[derive(Debug)]
pub struct Outcome {
    /// The results and their rows.
    pub run: Run,
    /// The event log.
    pub log: EventLog,
    /// The cluster's objects at the moments that were asked for.
    pub objects: Vec<ObjectsShown>,
    /// Task polls: the engine's measure of work.
    pub polls: u64,
}

/// Endpoints, and where each is.
type Sited = Vec<(EndpointConfig, Site)>;

struct World {
    around: Surroundings,
    net: Net,
    config: WorldConfig,
    cluster: RefCell<Option<Cluster>>,
    balancer: RefCell<Option<LoadBalancer>>,
    hosts: RefCell<BTreeMap<Ipv4Addr, Host>>,
    gateways: RefCell<BTreeMap<Ipv4Addr, Rc<GatewayProcess>>>,
    /// Pods of backends that have a Deployment.
    backends: RefCell<BTreeMap<Ipv4Addr, Rc<BackendProcess>>>,
    kubelet: Host,
    routes: RefCell<Rc<Routes>>,
    /// Of each cluster, as the control plane knows them.
    endpoints: RefCell<BTreeMap<Arc<str>, Sited>>,
    /// Clusters that are not as the gateways began with.
    clusters: RefCell<BTreeMap<Arc<str>, ClusterSpec>>,
    flags: RefCell<BTreeMap<String, Flags>>,
    recorder: RefCell<Option<Recorder>>,
    connections: Cell<u64>,
    targets_healthy: Cell<u64>,
    /// The balancer has the targets its controller wants, and sends to all of them.
    targets_settled: Cell<bool>,
    cpu_seen: Cell<Duration>,
    /// The last action began a phase that ends when the gateway has settled; how often a second found it busy since.
    unsettled_s: Cell<Option<u64>>,
    cpu_ratios: RefCell<Vec<f64>>,
    /// Most memory of one gateway.
    memory_max: Cell<u64>,
    /// What the control plane writes.
    owned: Cell<Option<OwnedReplicas>>,
    objects: RefCell<Vec<ObjectsShown>>,
}

/// Runs a world to its end.
///
/// `slo` judges the recorder before it is closed; `progress` is called once per virtual second.
///
/// # Errors
///
/// If the simulator itself is at fault: a world that does not move, or books that do not balance.
///
/// # Panics
///
/// If an invariant of the simulator is broken.
pub fn run(
    config: WorldConfig,
    slo: impl FnOnce(&Recorder, &[crate::cluster::Rollout]) -> Vec<Slo>,
    mut progress: impl FnMut(Progress) -> Continue,
) -> Result<Outcome, RunError> {
    let world = World::build(config);
    let start = SimTime::ZERO.after(world.config.warmup);
    let end = start.after(world.config.duration);
    let sim = world.around.sim.clone();
    sim.run_until(SimTime::ZERO)?;
    world.cluster().set_deletion_costs(&world.config.target, &world.config.deletion_costs);
    let drains = world.start_loads(start);
    world.schedule_actions(start);
    world.schedule_looks(start);
    let mut complete = true;
    let mut next = SimTime::ZERO;
    while next < end {
        next = next.after(Duration::from_secs(1)).min(end);
        sim.run_until(next)?;
        world.read_gauges(next);
        let dropped = world.recorder().dropped();
        if progress(Progress { now: next, end, dropped }) == Continue::No {
            complete = false;
            break;
        }
    }
    if complete {
        // Every request has ended when its client gives up at the latest.
        sim.run_until(end.after(drains))?;
    }
    let outcome = world.finish(complete, slo);
    // Tasks hold the world they live in: without this it would stay in memory, and the next run's would come on top.
    sim.end();
    outcome
}

impl World {
    fn build(config: WorldConfig) -> Rc<Self> {
        let sim = Sim::new();
        let streams = Streams::new(config.seed);
        let log = Rc::new(RefCell::new(EventLog::default()));
        let net = Net::new(&sim, streams);
        let cloud = LinkConfig { latency: config.front.cloud_latency / 2, ..LinkConfig::default() };
        let kubelet = net.attach(KUBELET, cloud);
        let around = Surroundings { sim: sim.clone(), streams, log: Rc::clone(&log) };
        let routes = RefCell::new(Rc::new(config.routes.clone()));
        let world = Rc::new(Self {
            around,
            net: net.clone(),
            cluster: RefCell::new(None),
            balancer: RefCell::new(None),
            hosts: RefCell::default(),
            gateways: RefCell::default(),
            backends: RefCell::default(),
            kubelet,
            routes,
            endpoints: RefCell::default(),
            clusters: RefCell::default(),
            flags: RefCell::default(),
            recorder: RefCell::new(Some(recorder(&config))),
            connections: Cell::new(0),
            targets_healthy: Cell::new(0),
            targets_settled: Cell::new(true),
            cpu_seen: Cell::new(Duration::ZERO),
            unsettled_s: Cell::new(None),
            cpu_ratios: RefCell::default(),
            memory_max: Cell::new(0),
            owned: Cell::new(config.scaling.owned),
            objects: RefCell::default(),
            config,
        });
        world.start_fixed_backends();
        let runtime = Rc::new(Containers(Rc::downgrade(&world)));
        let cluster = Cluster::new(&sim, streams, log, world.config.cluster.clone(), runtime);
        *world.cluster.borrow_mut() = Some(cluster.clone());
        for service in &world.config.services {
            cluster.apply_service(service.clone());
        }
        for budget in &world.config.budgets {
            cluster.apply_budget(budget.clone());
        }
        for deployment in &world.config.deployments {
            cluster.apply_deployment(deployment.clone(), None);
        }
        world.start_scaling(&cluster);
        world.watch_backends(&cluster);
        world.start_balancer(&cluster);
        world
    }

    fn cluster(&self) -> Cluster {
        self.cluster.borrow().clone().expect("the cluster is built with the world")
    }

    fn recorder(&self) -> std::cell::RefMut<'_, Recorder> {
        std::cell::RefMut::map(self.recorder.borrow_mut(), |recorder| {
            recorder.as_mut().expect("the recorder is open until the run is over")
        })
    }

    fn cloud_link(&self) -> LinkConfig {
        LinkConfig { latency: self.config.front.cloud_latency / 2, ..LinkConfig::default() }
    }

    fn start_balancer(self: &Rc<Self>, cluster: &Cluster) {
        let sim = &self.around.sim;
        let config = self.config.front.balancer.clone();
        let prober = self.net.attach(PROBER, self.cloud_link());
        let (streams, log) = (self.around.streams, Rc::clone(&self.around.log));
        let balancer = LoadBalancer::new(sim, &self.net, prober, streams, log, config.clone());
        *self.balancer.borrow_mut() = Some(balancer.clone());
        let front: Rc<dyn Forward> = Rc::new(balancer.clone());
        // The client's link holds the way to the balancer.
        self.net.forward(VIP, LinkConfig::default(), front);
        if let BackendMode::Nodes { nodes, .. } = &config.mode {
            for node in nodes {
                self.start_kube_proxy(cluster, &balancer, &node.name);
            }
            self.watch_nodes(cluster, &balancer);
        }
        let watch = cluster.watch_endpoints(&config.service, "cloud-controller-manager");
        let mut watch = watch.expect("the balancer's Service is among the world's");
        let seen_by = balancer.clone();
        sim.spawn("cloud-controller-manager", async move {
            loop {
                let seen = watch.next().await;
                seen_by.handle_endpoints(&seen);
            }
        });
        let world = Rc::downgrade(self);
        sim.spawn("gauge-targets", async move {
            loop {
                let Some(world) = world.upgrade() else { return };
                let clock = world.around.sim.clone();
                let healthy = u64::try_from(balancer.healthy_count()).unwrap_or(u64::MAX);
                world.connections.set(u64::try_from(balancer.connection_count()).unwrap_or(u64::MAX));
                world.targets_healthy.set(healthy);
                world.targets_settled.set(balancer.is_settled());
                drop(world);
                clock.sleep(Duration::from_secs(1)).await;
            }
        });
    }

    fn gateway_spec(&self, other: &str) -> &GatewaySpec {
        let found = self.config.gateways.get(other).or_else(|| self.config.gateways.get(""));
        found.or_else(|| self.config.gateways.values().next()).expect("a world has a gateway")
    }

    /// Starts all clients; returns how long the last request may take after the end.
    fn start_loads(self: &Rc<Self>, start: SimTime) -> Duration {
        let sim = &self.around.sim;
        for (index, spec) in self.config.loads.iter().enumerate() {
            let ip =
                Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(198, 51, 100, 0)) + u32::try_from(index).unwrap_or(0) + 1);
            let host = self.net.attach(ip, LinkConfig { latency: spec.rtt / 2, ..LinkConfig::default() });
            let mix = spec.mix.iter().map(request).collect();
            let sink: Rc<dyn Sink> = Rc::new(Ledger(Rc::downgrade(self)));
            let client = Client::new(sim, host, (index, &spec.name), spec.client.clone(), mix, sink);
            let streams = self.around.streams;
            let mut segments = spec.segments.clone();
            let mut begins_at = start;
            if spec.runs_in_warmup && !self.config.warmup.is_zero() {
                let rate = segments.first().map_or(0.0, |first| first.from_per_s);
                let warmup = RateSegment { duration: self.config.warmup, from_per_s: rate, to_per_s: rate };
                segments.insert(0, warmup);
                begins_at = SimTime::ZERO;
            }
            let arrivals = Arrivals::new(segments, spec.pacing.clone(), streams.stream("arrivals", &spec.name));
            let mix_stream = streams.stream("mix", &spec.name);
            let clock = sim.clone();
            sim.spawn("load", async move {
                client.prewarm().await;
                clock.sleep_until(begins_at).await;
                client.run(arrivals, mix_stream).await;
            });
        }
        let longest = self.config.loads.iter().map(|load| load.client.timeout).max();
        longest.unwrap_or_default() + Duration::from_secs(1)
    }

    /// Ends the phase of an action once nothing of the gateway is on its way any more.
    fn watch_phase(&self, now: SimTime) {
        let Some(seconds) = self.unsettled_s.get() else { return };
        let cluster = self.cluster();
        let is_quiet = cluster.is_calm(&self.config.target) && self.targets_settled.get();
        // The second of the action itself proves nothing: its controllers may not have begun.
        if seconds > 0 && is_quiet {
            self.unsettled_s.set(None);
            self.look_at_change("the phase ends");
            // Requests that are due at this very instant have been counted already.
            self.recorder().phase("after", now.after(Duration::from_nanos(1)));
        } else {
            self.unsettled_s.set(Some(seconds + 1));
        }
    }

    fn read_gauges(&self, now: SimTime) {
        self.watch_phase(now);
        let cluster = self.cluster();
        let counts = cluster.counts(&self.config.target);
        let small = |count: usize| Some(u32::try_from(count).unwrap_or(u32::MAX));
        let (mut spent, mut limit_millicores) = (Duration::ZERO, 0_u64);
        for process in self.gateways.borrow().values() {
            spent += process.cpu.spent(now);
            let memory = process.usage(now).memory_bytes;
            self.memory_max.set(self.memory_max.get().max(memory.unwrap_or(0)));
            limit_millicores += process.limit_millicores.unwrap_or(0);
        }
        let used = spent.saturating_sub(self.cpu_seen.replace(spent));
        #[expect(clippy::cast_precision_loss, reason = "thousandths of a core fit a double")]
        let limit_cores = limit_millicores as f64 / 1000.0;
        let cpu_ratio = (limit_millicores > 0).then(|| used.as_secs_f64() / limit_cores);
        // The gauge belongs to the second that ends now.
        let within = SimTime::from_nanos(now.as_nanos().saturating_sub(1));
        if within >= SimTime::ZERO.after(self.config.warmup) {
            self.cpu_ratios.borrow_mut().extend(cpu_ratio);
        }
        let gauge = Gauge {
            pods: small(counts.active + counts.terminating),
            pods_ready: small(counts.ready),
            pods_available: small(counts.available),
            pods_terminating: small(counts.terminating),
            lb_targets_healthy: Some(u32::try_from(self.targets_healthy.get()).unwrap_or(u32::MAX)),
            hpa_desired: cluster.autoscaled_size(&self.config.target).and_then(|size| u32::try_from(size).ok()),
            cpu_ratio,
            connections: Some(self.connections.get()),
        };
        self.recorder().gauge(within, gauge);
    }

    fn finish(
        self: Rc<Self>,
        complete: bool,
        slo: impl FnOnce(&Recorder, &[crate::cluster::Rollout]) -> Vec<Slo>,
    ) -> Result<Outcome, RunError> {
        self.look_at_change("the end");
        let cluster = self.cluster();
        let rollouts = cluster.rollouts();
        let recorder = self.recorder.borrow_mut().take().expect("a run is finished once");
        let slo = slo(&recorder, &rollouts);
        let log = std::mem::take(&mut *self.around.log.borrow_mut());
        let target_pods: BTreeMap<String, ()> = cluster
            .pod_records()
            .into_iter()
            .filter(|record| record.owner == self.config.target)
            .map(|record| (format!("{}/{}", record.namespace, record.name), ()))
            .collect();
        let pods = lanes::pods(log.events(), |name| target_pods.contains_key(name));
        let facts = Facts {
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: self.config.scenario.clone(),
            seed: self.config.seed,
            fingerprint: log.fingerprint().to_string(),
            complete,
            rollouts: rollouts.iter().map(rollout_row).collect(),
            targets: lanes::targets(log.events()),
            pods,
            autoscaler: cluster.autoscaler_steps().iter().map(scaling::step_row).collect(),
            gateway: self.gateway_facts(),
            slo,
            fidelity: self.config.fidelity.clone(),
        };
        let run = recorder.finish(facts)?;
        Ok(Outcome { run, log, objects: self.objects.take(), polls: self.around.sim.polls_total() })
    }

    fn gateway_facts(&self) -> GatewayFacts {
        let ratios = self.cpu_ratios.borrow();
        #[expect(clippy::cast_precision_loss, reason = "a run has fewer than 2^53 seconds")]
        let mean = (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64);
        GatewayFacts {
            cpu_ratio_mean: mean,
            cpu_ratio_max: ratios.iter().copied().reduce(f64::max),
            memory_bytes_max: Some(self.memory_max.get()).filter(|bytes| *bytes > 0),
            ..GatewayFacts::default()
        }
    }

    /// An answer such as 404 that a route asks for is what its owner wants: the gateway remarked nothing.
    fn heed_configured(&self, finished: &mut Finished) {
        let may_be =
            finished.outcome == record::Outcome::GatewayError && finished.status.is_some_and(|status| status < 500);
        if may_be && !self.flags.borrow().contains_key(&self.request_name(finished)) {
            finished.outcome = record::Outcome::Ok;
        }
    }

    fn request_name(&self, finished: &Finished) -> String {
        format!("{}-r{}", self.config.loads[finished.load_index].name, finished.sequence)
    }

    /// The one outcome of a request, with its cause if it was lost.
    fn account(&self, finished: &Finished) {
        let load = &self.config.loads[finished.load_index];
        let entry = &load.mix[finished.mix_index];
        let ip = finished.sight.target.map(|target| *target.ip());
        let record = ip.and_then(|ip| self.cluster().pod_at(ip));
        let pod = record.as_ref().map(|record| Rc::clone(&record.key));
        // A name is made only for the few that are lost.
        let id = finished.outcome.is_dropped().then(|| self.request_name(finished));
        let flags = id.as_ref().and_then(|id| self.flags.borrow_mut().remove(id));
        let flag_text = flags.map(|flags| flags.to_string());
        let cause = finished.outcome.is_dropped().then(|| {
            let log = self.around.log.borrow();
            let ending = ip.and_then(|ip| self.gateways.borrow().get(&ip).map(|it| Rc::clone(&it.ending)));
            let last_resort = record.as_ref().and_then(|record| record.exit_event.or(record.sigterm_event));
            let node_death = self.node_death(finished);
            let evidence =
                Evidence { pod: record.as_ref(), node_death, ending: ending.as_deref(), flags, log: &log, last_resort };
            cause_of(finished, &evidence, &self.config.sources)
        });
        if let (Some(lost), Some(id)) = (&cause, &id) {
            let data = vec![
                ("request", id.as_str().into()),
                ("outcome", finished.outcome.name().into()),
                ("cause", lost.code.code().into()),
            ];
            let object = format!("Load/{}", load.name);
            self.around.log.borrow_mut().record(self.around.sim.now(), lost.event, "request_lost", object, data);
        }
        let mut recorder = self.recorder.borrow_mut();
        let Some(recorder) = recorder.as_mut() else { return };
        if finished.outcome == record::Outcome::Reset {
            recorder.connection_reset(finished.load_index, finished.intended_at);
        }
        recorder.done(&Done {
            request: RequestId { client: u32::try_from(finished.load_index).unwrap_or(0), number: finished.sequence },
            load: finished.load_index,
            intended_at: finished.intended_at,
            ended_at: finished.ended_at,
            outcome: finished.outcome,
            status: finished.status,
            flag: flag_text.as_deref(),
            cause,
            pod: pod.as_deref(),
            method: &entry.method,
            url: &entry.url,
            connection: finished.sight.connection.map(crate::net::ConnectionId::number),
            retries: finished.retries,
        });
    }
}

fn recorder(config: &WorldConfig) -> Recorder {
    let start = SimTime::ZERO.after(config.warmup);
    Recorder::new(RecorderConfig {
        start,
        end: start.after(config.duration),
        loads: config.loads.iter().map(|load| load.name.clone()).collect(),
        first_phase: "before".to_owned(),
        dropped_rows_max: 100_000,
        served_rows: 1000,
    })
}

fn rollout_row(rollout: &crate::cluster::Rollout) -> Rollout {
    let ms = |at: SimTime| at.as_nanos() / 1_000_000;
    let end_ms = rollout.ended_at.map(ms);
    Rollout {
        object: rollout.object.to_string(),
        revision: u64::try_from(rollout.revision).unwrap_or(0),
        start_ms: ms(rollout.started_at),
        end_ms,
        duration_ms: end_ms.map(|end_ms| end_ms - ms(rollout.started_at)),
        complete: end_ms.is_some(),
        pods_max: u32::try_from(rollout.pods_max).unwrap_or(u32::MAX),
        ready_min: u32::try_from(rollout.ready_min).unwrap_or(u32::MAX),
    }
}

fn request(entry: &MixEntry) -> Request {
    let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", entry.method, entry.path, entry.host);
    for (name, value) in &entry.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if entry.body_bytes > 0 {
        head.push_str(&format!("content-length: {}\r\n", entry.body_bytes));
    }
    let to = SocketAddrV4::new(VIP, entry.port);
    Request { weight: entry.weight, to, head: Rc::from(head), body_bytes: entry.body_bytes }
}

/// The clients' ledger.
struct Ledger(Weak<World>);

impl Sink for Ledger {
    fn sent(&self, load_index: usize, intended_at: SimTime) {
        if let Some(world) = self.0.upgrade()
            && let Some(recorder) = world.recorder.borrow_mut().as_mut()
        {
            recorder.sent(load_index, intended_at);
        }
    }

    fn finished(&self, mut finished: Finished) {
        if let Some(world) = self.0.upgrade() {
            world.heed_configured(&mut finished);
            world.account(&finished);
        }
    }

    fn opened(&self, load_index: usize, at: SimTime) {
        if let Some(world) = self.0.upgrade()
            && let Some(recorder) = world.recorder.borrow_mut().as_mut()
        {
            recorder.connection_opened(load_index, at);
        }
    }
}

/// What a gateway pod tells: its remarks on answers that it made itself or cut, kept until the client tells its outcome, and which endpoints
/// leave and enter rotation.
struct PodObserver {
    world: Weak<World>,
    object: String,
    memory: Rc<Memory>,
}

impl Observer for PodObserver {
    fn finished(&self, record: &AccessRecord) {
        self.memory.request_done();
        let is_error = record.status.is_some_and(|status| status.as_u16() >= 400);
        let is_cut = record.flags.has(Flags::UC) || record.flags.has(Flags::UT);
        if record.flags == Flags::NONE || record.flags.has(Flags::DC) || !(is_error || is_cut) {
            return;
        }
        let id = record.request_id.as_ref().and_then(|id| id.to_str().ok());
        if let (Some(world), Some(id)) = (self.world.upgrade(), id) {
            world.flags.borrow_mut().insert(id.to_owned(), record.flags);
        }
    }

    fn host_ejected(&self, cluster: &str, endpoint: SocketAddr, by: Detection) {
        self.tell(
            "host_ejected",
            vec![
                ("cluster", cluster.into()),
                ("endpoint", endpoint.to_string().as_str().into()),
                ("by", by.name().into()),
            ],
        );
    }

    fn host_returned(&self, cluster: &str, endpoint: SocketAddr) {
        let data = vec![("cluster", cluster.into()), ("endpoint", endpoint.to_string().as_str().into())];
        self.tell("host_returned", data);
    }
}

impl PodObserver {
    fn tell(&self, kind: &'static str, data: Vec<(&'static str, Datum)>) {
        if let Some(world) = self.world.upgrade() {
            let now = world.around.sim.now();
            world.around.log.borrow_mut().record(now, None, kind, self.object.as_str(), data);
        }
    }
}

/// What the cluster's containers do in this world.
struct Containers(Weak<World>);

impl Runtime for Containers {
    fn start(&self, pod: &StartingPod) -> Rc<dyn Process> {
        let world = self.0.upgrade().expect("the world outlives its cluster");
        let host = {
            let mut hosts = world.hosts.borrow_mut();
            let attach = || world.net.attach(pod.ip, world.cloud_link());
            hosts.entry(pod.ip).or_insert_with(attach).clone()
        };
        let namespace = pod.owner.split('/').next().unwrap_or_default();
        let object = format!("Pod/{namespace}/{}", pod.name);
        if pod.owner == world.config.target {
            let spec = world.gateway_spec(&pod.template.other);
            let costs = world.config.scaling.memory;
            let memory = Rc::new(Memory::new(costs, spec.config.clusters.len(), spec.memory_limit_bytes));
            let observer: Rc<dyn Observer> = Rc::new(PodObserver {
                world: Weak::clone(&self.0),
                object: object.clone(),
                memory: Rc::clone(&memory),
            });
            let routes = Rc::clone(&world.routes.borrow());
            let site = world.site(&pod.node, &pod.template);
            let pod_of_it = GatewayPod { object: &object, site, memory };
            let process = Rc::new(GatewayProcess::start(&world.around, &host, pod_of_it, spec, routes, observer));
            world.tell_all(&process);
            world.gateways.borrow_mut().insert(pod.ip, Rc::clone(&process));
            return process;
        }
        let backend = world.config.backends.iter().find(|spec| spec.deployment.as_ref() == Some(&pod.owner));
        match backend {
            Some(spec) => {
                let (port, config) = (spec.port, spec.config.clone());
                let mut process = BackendProcess::start(&world.around, &host, port, config, spec.shutdown_delay);
                process.cpu_per_request = world.config.scaling.backend_cpu.get(&pod.owner).copied();
                let process = Rc::new(process);
                world.backends.borrow_mut().insert(pod.ip, Rc::clone(&process));
                process
            }
            None => Rc::new(IdleProcess::default()),
        }
    }

    fn probe(&self, ip: Ipv4Addr, action: &ProbeAction) -> LocalFuture<bool> {
        let world = self.0.upgrade().expect("the world outlives its cluster");
        Box::pin(probe(world.kubelet.clone(), ip, action.clone()))
    }

    fn usage(&self, ip: Ipv4Addr) -> Option<Usage> {
        self.0.upgrade()?.usage(ip)
    }

    fn node_changed(&self, node: &Rc<str>, is_alive: bool, because: Option<crate::engine::EventId>) {
        let Some(world) = self.0.upgrade() else { return };
        if let Some(balancer) = &*world.balancer.borrow() {
            if is_alive {
                balancer.handle_node_boot(node);
            } else {
                balancer.handle_node_death(node, because);
            }
        }
    }

    fn released(&self, ip: Ipv4Addr) {
        if let Some(world) = self.0.upgrade()
            && let Some(host) = world.hosts.borrow_mut().remove(&ip)
        {
            host.vanish();
        }
    }
}
