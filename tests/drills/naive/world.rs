//! A control plane whose processes follow a script, with constant delays.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::deployment::Strategy;
use gatedrill::cluster::int_or_percent::IntOrPercent;
use gatedrill::cluster::objects::{Deployment, Node, PodTemplate, Resources, Service, ServiceFace};
use gatedrill::cluster::{
    Cluster, ClusterConfig, Identity, LocalFuture, ProbeAction, Process, ProcessEnd, Runtime, StartingPod, Version,
};
use gatedrill::engine::{Delay, EventId, EventLog, Signal, Sim, Streams};
use gatedrill::units::SimTime;

pub(crate) const EDGE: &str = "ns/edge";
/// The label of its pods.
pub(crate) const APP: &str = "edge";

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn at(second: u64) -> SimTime {
    SimTime::ZERO.after(seconds(second))
}

/// What the processes do.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    /// Whether a probe of a port passes at an age.
    pub(crate) answers: fn(Duration, u16) -> bool,
    /// The age at which a process ends by itself, and what it says of that.
    pub(crate) crash: Option<(Duration, ProcessEnd)>,
    /// From SIGTERM to the exit.
    pub(crate) exits_after: Duration,
}

pub(crate) const OBEDIENT: Script = Script { answers: |_, _| true, crash: None, exits_after: seconds_const(5) };

const fn seconds_const(count: u64) -> Duration {
    Duration::from_secs(count)
}

struct Scripted {
    sim: Sim,
    script: Script,
    started: RefCell<BTreeMap<Ipv4Addr, SimTime>>,
}

struct ScriptedProcess {
    sim: Sim,
    script: Script,
    ended: Signal,
}

fn later(sim: &Sim, span: Duration, signal: &Signal) {
    let (clock, signal) = (sim.clone(), signal.clone());
    sim.spawn("later", async move {
        clock.sleep(span).await;
        signal.raise();
    });
}

impl Runtime for Scripted {
    fn start(&self, pod: &StartingPod) -> Rc<dyn Process> {
        self.started.borrow_mut().insert(pod.ip, self.sim.now());
        let ended = Signal::default();
        if let Some((age, _)) = self.script.crash {
            later(&self.sim, age, &ended);
        }
        Rc::new(ScriptedProcess { sim: self.sim.clone(), script: self.script, ended })
    }

    fn probe(&self, ip: Ipv4Addr, action: &ProbeAction) -> LocalFuture<bool> {
        let age = self.sim.now().since(self.started.borrow()[&ip]);
        let ProbeAction::Tcp { port } = action else { unreachable!("the script has ports only") };
        Box::pin(std::future::ready((self.script.answers)(age, *port)))
    }

    fn released(&self, _: Ipv4Addr) {}
}

impl Process for ScriptedProcess {
    fn terminate(&self, _: EventId) {
        later(&self.sim, self.script.exits_after, &self.ended);
    }

    fn kill(&self, _: EventId) {
        self.ended.raise();
    }

    fn exited(&self) -> LocalFuture<()> {
        Box::pin(self.ended.raised())
    }

    fn own_end(&self) -> Option<ProcessEnd> {
        self.script.crash.map(|(_, end)| end)
    }
}

/// Without limits on rollouts but these.
pub(crate) fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    let template = PodTemplate::plain(
        BTreeMap::from([("app".to_owned(), APP.to_owned())]),
        "edge:1",
        Resources { cpu_millicores: 1000, memory_bytes: 1 << 20 },
    );
    Deployment {
        key: Rc::from(EDGE),
        replicas,
        strategy: Strategy::RollingUpdate {
            max_surge: IntOrPercent::Int(surge),
            max_unavailable: IntOrPercent::Int(unavailable),
        },
        is_paused: false,
        min_ready_seconds: 0,
        progress_deadline_seconds: Some(600),
        revision_history_limit: 10,
        template,
    }
}

pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) log: Rc<RefCell<EventLog>>,
    pub(crate) cluster: Cluster,
}

impl World {
    /// Nodes of 4 cores, one in each of these zones; 10 ms a hop and to schedule, 2 s to start.
    pub(crate) fn new(script: Script, zones: &[&str]) -> Self {
        let node = |(index, zone): (usize, &&str)| {
            let ip = Ipv4Addr::from_bits(0xC0A8_0001 + u32::try_from(index).expect("few nodes"));
            let allocatable = Resources { cpu_millicores: 4000, memory_bytes: 8 << 30 };
            Node::new(Rc::from(format!("node-{index}")), ip, Rc::from(*zone), allocatable)
        };
        let config = ClusterConfig {
            identity: Identity::ALONE,
            version: Version::new(1, 28),
            wall_phase: Some(Duration::ZERO),
            nodes: zones.iter().enumerate().map(node).collect(),
            hop: Delay::Constant(Duration::from_millis(10)),
            schedule: Delay::Constant(Duration::from_millis(10)),
            pod_start: Delay::Constant(seconds(2)),
            init_container: Delay::ZERO,
            image_pull: Delay::ZERO,
            bad_images: BTreeSet::from(["edge:bad".to_owned()]),
            image_sizes: BTreeMap::new(),
            preloaded_images: BTreeSet::new(),
            terminated_pods_max: gatedrill::cluster::pod_collection::THRESHOLD,
            endpoint_propagation: Delay::Constant(Duration::from_millis(300)),
            sandbox_removal: Delay::ZERO,
            autoscaler: None,
            client_rates: gatedrill::cluster::ClientRates::DEFAULT,
            stands_at_zero: false,
        };
        let sim = Sim::new();
        let log = Rc::new(RefCell::new(EventLog::default()));
        let runtime = Rc::new(Scripted { sim: sim.clone(), script, started: RefCell::default() });
        let cluster = Cluster::new(&sim, Streams::new(1), Rc::clone(&log), config, runtime);
        Self { sim, log, cluster }
    }

    /// With a deployment that has settled by 20 s, and a Service in front of it.
    pub(crate) fn with(script: Script, zones: &[&str], spec: Deployment) -> Self {
        let world = Self::new(script, zones);
        world.cluster.apply_service(Service {
            key: Rc::from(EDGE),
            selector: BTreeMap::from([("app".to_owned(), APP.to_owned())]),
            publish_not_ready: false,
            face: ServiceFace::default(),
        });
        world.cluster.apply_deployment(spec, None);
        world.run_to(20);
        world
    }

    pub(crate) fn run_to(&self, second: u64) {
        self.sim.run_until(at(second)).expect("the world moves");
    }

    pub(crate) fn pass_ms(&self, millis: u64) {
        self.sim.run_until(self.sim.now().after(Duration::from_millis(millis))).expect("the world moves");
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Deployment)) {
        let mut spec = self.cluster.deployment(EDGE).expect("it is there");
        change(&mut spec);
        self.cluster.apply_deployment(spec, None);
    }

    pub(crate) fn image(&self, image: &str) {
        self.change(|spec| spec.template.image = image.to_owned());
    }

    /// What is done to pods and nodes.
    pub(crate) fn operate(&self, operation: &gatedrill::cluster::operation::Operation) {
        let event = self.log.borrow_mut().record(self.sim.now(), None, "timeline", "", Vec::new());
        self.cluster.operate(operation, event);
    }

    /// The sizes asked for, oldest set first.
    pub(crate) fn sizes(&self) -> Vec<i32> {
        self.cluster.set_views(EDGE).iter().map(|set| set.replicas).collect()
    }

    /// Pods with containers or about to have some, those that are being deleted included.
    pub(crate) fn pods(&self) -> usize {
        self.cluster.pod_views(EDGE).len()
    }

    /// The times of all events of a kind, in milliseconds.
    pub(crate) fn times_ms(&self, kind: &str) -> Vec<u64> {
        let log = self.log.borrow();
        let of_kind = log.events().iter().filter(|event| event.kind == kind);
        of_kind.map(|event| event.at.as_nanos() / 1_000_000).collect()
    }
}
