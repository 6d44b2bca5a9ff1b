//! What a large cluster costs: an hour of virtual time without traffic, with one rolling upgrade of a twentieth of its pods.
//!
//! There is a node for every two pods. A twentieth of the pods are gateways behind a Service, probed every two seconds as ASM has it; the others
//! belong to Deployments of 95 pods each, probed every ten. Printed for 100, 1,000 and 10,000 pods: the time, the processor time per pod, which others on
//! the machine disturb less, how many nodes the scheduler looked at to place one (all of 50, enough of 5,000: as the real one does), and the most memory the
//! process had by then. Small clusters are played several times. The aim: 10,000 pods on 5,000 nodes in less than 10 s and 2 GiB, at a cost per pod that stays about the same.
//! Then the same for a whole drill out of its file's text (`drill_text`), with real gateways, a balancer, kube-proxies and nearly no load: the same aim.
//! With numbers as arguments only clusters of so many pods, each once; with `drill` as well, only the drills. With `--test` only 100 and 400 pods, and a drill of 100, which costs little; the cluster's state at the end is checked in any case.

mod drill_text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::deployment::Strategy;
use gatedrill::cluster::int_or_percent::IntOrPercent;
use gatedrill::cluster::kubelet::probe::ProbeSpec;
use gatedrill::cluster::objects::{
    Deployment, Node, PodTemplate, Probe, ProbeAction, Probes, Resources, Service, ServiceFace,
};
use gatedrill::cluster::{
    Cluster, ClusterConfig, Identity, LocalFuture, Placement, Process, Runtime, StartingPod, Version,
};
use gatedrill::engine::{Delay, EventId, Signal, Sim, Streams};
use gatedrill::units::SimTime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GATEWAY: &str = "infra/gateway";
/// Pods of a Deployment that is no gateway.
const PODS_PER_DEPLOYMENT: usize = 95;

/// Containers that are well, and end when they are told to.
struct Well;
struct Running(Signal);

impl Runtime for Well {
    fn start(&self, _: &StartingPod) -> Rc<dyn Process> {
        Rc::new(Running(Signal::default()))
    }
    fn probe(&self, _: Ipv4Addr, _: &ProbeAction) -> LocalFuture<bool> {
        Box::pin(std::future::ready(true))
    }
    fn released(&self, _: Ipv4Addr) {}
}

impl Process for Running {
    fn terminate(&self, _: EventId) {
        self.0.raise();
    }
    fn kill(&self, _: EventId) {
        self.0.raise();
    }
    fn exited(&self) -> LocalFuture<()> {
        Box::pin(self.0.raised())
    }
}

fn deployment(key: &str, replicas: usize, period_seconds: u32) -> Deployment {
    let spec = ProbeSpec { period_seconds, ..ProbeSpec::default() };
    let readiness = Some(Probe { action: ProbeAction::Tcp { port: 80 }, spec });
    let quarter = IntOrPercent::Percent(25);
    Deployment {
        key: Rc::from(key),
        replicas: i32::try_from(replicas).expect("a number of pods"),
        strategy: Strategy::RollingUpdate { max_surge: quarter, max_unavailable: quarter },
        min_ready_seconds: 0,
        progress_deadline_seconds: Some(600),
        revision_history_limit: 10,
        is_paused: false,
        template: PodTemplate {
            labels: BTreeMap::from([("app".to_owned(), key.replace('/', "-"))]),
            annotations: BTreeMap::new(),
            image: "image".to_owned(),
            requests: Resources { cpu_millicores: 500, memory_bytes: 512 << 20 },
            containers: Vec::new(),
            grace_seconds: 30,
            pre_stop: None,
            probes: Probes { readiness, ..Probes::default() },
            init: Vec::new(),
            has_empty_dir: false,
            has_local_storage: false,
            storage: gatedrill::cluster::LocalStorage::default(),
            ports: Vec::new(),
            readiness_gates: Vec::new(),
            placement: Placement::default(),
            other: String::new(),
        },
    }
}

fn config(nodes: usize) -> ClusterConfig {
    let node = |index: usize| {
        let ip = Ipv4Addr::from_bits(0xC0A8_0000 + u32::try_from(index).expect("a number of nodes"));
        let allocatable = Resources { cpu_millicores: 4000, memory_bytes: 8 << 30 };
        Node::new(Rc::from(format!("node-{index}")), ip, Rc::from(["a", "b", "c"][index % 3]), allocatable)
    };
    ClusterConfig {
        identity: Identity::ALONE,
        version: Version::new(1, 33),
        wall_phase: None,
        autoscaler: None,
        bad_images: BTreeSet::new(),
        image_sizes: BTreeMap::new(),
        preloaded_images: BTreeSet::new(),
        terminated_pods_max: gatedrill::cluster::pod_collection::THRESHOLD,
        nodes: (0..nodes).map(node).collect(),
        hop: Delay::Constant(Duration::from_millis(10)),
        schedule: Delay::Constant(Duration::from_millis(10)),
        pod_start: Delay::Constant(Duration::from_secs(2)),
        image_pull: Delay::ZERO,
        endpoint_propagation: Delay::Constant(Duration::from_millis(300)),
        init_container: Delay::ZERO,
        sandbox_removal: Delay::ZERO,
        client_rates: gatedrill::cluster::ClientRates::DEFAULT,
        stands_at_zero: true,
    }
}

/// Plays the hour; the nodes that the scheduler looked at for a pod it placed.
fn hour(pods: usize) -> u64 {
    let sim = Sim::new();
    let cluster = Cluster::new(&sim, Streams::new(1), Rc::default(), config(pods / 2), Rc::new(Well));
    let gateways = pods / 20;
    cluster.apply_service(Service {
        key: Rc::from(GATEWAY),
        selector: BTreeMap::from([("app".to_owned(), GATEWAY.replace('/', "-"))]),
        publish_not_ready: false,
        face: ServiceFace::default(),
    });
    let mut watch = cluster.watch_endpoints(GATEWAY, "balancer").expect("the Service is there");
    sim.spawn("balancer", async move {
        loop {
            let _ = watch.next().await;
        }
    });
    cluster.apply_deployment(deployment(GATEWAY, gateways, 2), None);
    let mut left = pods - gateways;
    while left > 0 {
        let size = left.min(PODS_PER_DEPLOYMENT);
        left -= size;
        cluster.apply_deployment(deployment(&format!("shop/app-{left}"), size, 10), None);
    }
    let until = |seconds: u64| sim.run_until(SimTime::ZERO.after(Duration::from_secs(seconds))).expect("it moves");
    until(0);
    assert!(cluster.is_settled(GATEWAY), "the cluster stands at zero");
    until(600);
    cluster.restart(GATEWAY, None);
    until(3600);
    assert!(cluster.is_settled(GATEWAY), "the upgrade is through");
    let ready: usize =
        cluster.pod_records().iter().filter(|pod| pod.gone_at.is_none() && pod.ready_at.is_some()).count();
    assert_eq!((cluster.rollouts().len(), ready), (1, pods));
    sim.end();
    cluster.nodes_looked_at() / u64::try_from(pods + gateways).expect("a number of pods")
}

fn main() {
    let is_smoke = std::env::args().any(|argument| argument == "--test");
    let asked: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (sizes, is_brief): (&[usize], bool) = match &asked[..] {
        [] if is_smoke => (&[100, 400], true),
        [] => (&[100, 1000, 10_000], false),
        asked => (asked, true),
    };
    let drills: &[usize] = if is_smoke { &sizes[..1] } else { sizes };
    for pods in sizes.iter().filter(|_| !std::env::args().any(|argument| argument == "drill")) {
        measured(*pods, is_brief, "pods", |pods| format!("{} nodes looked at for each", hour(pods)));
    }
    for pods in drills {
        measured(*pods, is_brief, "pods in a drill", |pods| {
            format!("{} polls a pod", drill_text::hour(pods) / u64::try_from(pods).expect("a number of pods"))
        });
    }
}

/// Plays a cluster of so many pods, a small one several times, and prints what that cost.
#[expect(clippy::print_stdout, clippy::disallowed_types, reason = "a benchmark measures and prints")]
fn measured(pods: usize, is_brief: bool, title: &str, play: impl Fn(usize) -> String) {
    let runs = if is_brief { 1 } else { 10_000 / pods };
    let (start, processor_start) = (std::time::Instant::now(), processor_time());
    let told = (0..runs).map(|_| play(pods)).max().unwrap_or_default();
    let spent = start.elapsed();
    let processor = processor_time().zip(processor_start).map_or(spent, |(end, start)| end - start);
    let each_us = processor.as_micros() / u128::try_from(pods * runs).expect("a number of pods");
    let memory = most_resident().map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string());
    let seconds = spent.as_secs_f64() / f64::from(u32::try_from(runs).expect("a few runs"));
    println!("{pods} {title}: {seconds:.2} s, {each_us} µs of processor a pod, {told}, {memory} MiB at most");
}

/// The processor time of this process so far; none where the system does not tell.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The most memory that this process had so far, in bytes; none where the system does not tell.
fn most_resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}
