//! How fast the virtual world is, beside another simulator in the same run.
//!
//! - `proxied`: 100 keep-alive clients, 2 gateway pods, 4 backends, 20 routes; requests per second of one core.
//! - `drill`: the same topology and number of requests as a whole drill, recorder, event log and causes included.
//! - `two_seeds_one_core`, `two_seeds_two_cores`: two such drills, one after the other and side by side.
//! - `turmoil`: the same topology and the same hyper endpoints on turmoil, without routes, balancing or a processor model.
//! - `engine`: timers of the bare engine.
//! - `quiet_hour`: a cluster of 200 nodes without traffic for an hour of virtual time.
//!
//! Printed at the end: the ratio to turmoil, the ratio of two cores to one, the memory of an open connection, and what a request through a small and a large
//! balancer takes. Machines are
//! noisy: compare figures of one run only. With `--test` everything runs once and small.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use gatedrill::backend::Backend;
use gatedrill::drill::pod_host::{Cpu, CpuCosts, PodHost};
use gatedrill::engine::{Sim, Streams, TaskGroup};
use gatedrill::gateway::routes::{Action, Destination, Forward, PathMatch, Route, RouteMatch, Routes, VirtualHost};
use gatedrill::gateway::{
    ClusterConfig, DownstreamConfig, DrainConfig, EndpointConfig, Gateway, GatewayConfig, LoadAssignment,
};
use gatedrill::load::{
    Arrivals, Client, ClientConfig, Entrances, Finished, Pacing, RateSegment, Request, Reuse, Sink, Site,
};
use gatedrill::net::{LinkConfig, Net};
use gatedrill::units::SimTime;

mod balancer_world;
mod drill_world;
mod turmoil_world;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLIENTS: u8 = 100;
const REQUESTS_PER_CLIENT: u32 = 100;
const REQUESTS: u64 = CLIENTS as u64 * REQUESTS_PER_CLIENT as u64;

struct Ignore;

impl Sink for Ignore {
    fn sent(&self, _: usize, _: SimTime) {}
    fn finished(&self, finished: Finished) {
        assert_eq!(finished.status, Some(200));
    }
    fn opened(&self, _: usize, _: SimTime) {}
}

fn link() -> LinkConfig {
    LinkConfig { latency: Duration::from_micros(100), ..LinkConfig::default() }
}

fn routes(cluster: &Arc<str>) -> Routes {
    let mut routes = Routes::default();
    for number in 0..20 {
        let action = Action::Forward(Forward::to(vec![Destination::cluster(Arc::clone(cluster), 1)]));
        let condition = RouteMatch::path(PathMatch::Prefix(format!("/service-{number}/")));
        let route = Route::new("route", condition, action);
        routes.add(80, VirtualHost::new(format!("host-{number}.example.com"), vec![Arc::new(route)]));
    }
    routes
}

/// Two gateway pods and four backends.
fn servers(sim: &Sim, streams: Streams, net: &Net) {
    let cluster: Arc<str> = Arc::from("web");
    let mut backends = Vec::new();
    for number in 1..=4 {
        let ip = Ipv4Addr::new(10, 2, 0, number);
        Backend::start(sim, streams, &net.attach(ip, link()), [80], drill_world::backend()).expect("a fresh host");
        backends.push(EndpointConfig::new(SocketAddr::V4(SocketAddrV4::new(ip, 80))));
    }
    let backends = LoadAssignment::new(backends);
    let routes = Rc::new(routes(&cluster));
    for number in 1..=2 {
        let host = net.attach(Ipv4Addr::new(10, 1, 0, number), link());
        let tasks = TaskGroup::new(sim);
        let costs = CpuCosts { request: Duration::from_micros(50), connection: Duration::from_micros(30) };
        let cpu = Rc::new(Cpu::new(costs, 2, Some(2000)));
        let worker = |index: usize| {
            let random = streams.stream("worker", &format!("{number}/{index}"));
            PodHost::new(sim, host.clone(), tasks.clone(), random, Rc::clone(&cpu), index)
        };
        let config = GatewayConfig {
            listeners: vec![(80, 80)],
            clusters: BTreeMap::from([(Arc::clone(&cluster), ClusterConfig::ISTIO)]),
            downstream: DownstreamConfig::in_drill(),
            drain: DrainConfig::ISTIO,
        };
        let gateway = Gateway::start(vec![worker(0), worker(1)], config, Rc::clone(&routes), Rc::new(()));
        gateway.expect("fresh ports").set_endpoints(&cluster, &backends);
    }
}

/// Clients of one gateway pod who each send `rate` requests per second for `seconds`, from `start` on.
fn start_clients(
    sim: &Sim,
    streams: Streams,
    net: &Net,
    number: u8,
    connections: usize,
    rate: u32,
    seconds: u64,
) -> Client {
    let host = net.attach(Ipv4Addr::new(10, 3, 0, number), link());
    let config = ClientConfig {
        connections,
        reuse: Reuse::LeastRecent,
        keep_alive: Some(Duration::from_secs(60)),
        timeout: Duration::from_secs(5),
        retries: 0,
        detect_idle_close: true,
        honor_connection_close: true,
        cookies: false,
        prewarm: false,
    };
    let entrances = Entrances::new(vec![(Ipv4Addr::new(10, 1, 0, 1 + number % 2), 1)], streams.stream("entrance", ""));
    let service = number % 20;
    let head = format!("GET /service-{service}/item HTTP/1.1\r\nhost: host-{service}.example.com\r\n");
    let mix = vec![Request {
        weight: 1,
        port: 80,
        handshake: Duration::ZERO,
        head: Rc::from(head),
        site: Site::new(&format!("host-{service}.example.com"), &format!("/service-{service}/item"), false),
        body_bytes: 0,
    }];
    let client = Client::new(sim, host, (0, &format!("client-{number}")), config, (entrances, mix), Rc::new(Ignore));
    let rate = f64::from(rate);
    let segment = RateSegment { duration: Duration::from_secs(seconds), from_per_s: rate, to_per_s: rate };
    let arrivals = Arrivals::new(vec![segment], Pacing::Constant, streams.stream("arrivals", ""));
    let mix_stream = streams.stream("mix", "");
    let runner = client.clone();
    sim.spawn("load", async move { runner.run(arrivals, mix_stream).await });
    client
}

/// Clients, gateways and backends until every client has had its answers.
fn proxied() -> u64 {
    let (sim, streams) = (Sim::new(), Streams::new(1));
    let net = Net::new(&sim, streams);
    servers(&sim, streams, &net);
    for number in 0..CLIENTS {
        start_clients(&sim, streams, &net, number, 1, REQUESTS_PER_CLIENT, 1);
    }
    sim.run_until(SimTime::ZERO.after(Duration::from_secs(3))).expect("the world moves");
    sim.end();
    sim.polls_total()
}

/// The same number of requests as [`proxied`], in one second, as a whole drill.
fn drill(seed: u64) {
    let rate = u32::from(CLIENTS) * REQUESTS_PER_CLIENT;
    let outcome = drill_world::run(seed, usize::from(CLIENTS), rate, Duration::from_secs(1));
    assert_eq!(outcome.run.results.totals.sent, REQUESTS);
}

fn one_after_the_other() {
    drill(1);
    drill(2);
}

fn side_by_side() {
    rayon::join(|| drill(1), || drill(2));
}

fn engine() {
    let sim = Sim::new();
    for task in 0..100_u64 {
        let clock = sim.clone();
        sim.spawn("ticker", async move {
            for _ in 0..100 {
                clock.sleep(Duration::from_nanos(1000 + task)).await;
            }
        });
    }
    sim.run_until(SimTime::MAX).expect("the world moves");
}

mod quiet {
    use super::{BTreeMap, BTreeSet, Duration, Ipv4Addr, Rc, Sim, SimTime, Streams};
    use gatedrill::cluster::deployment::Strategy;
    use gatedrill::cluster::kubelet::probe::ProbeSpec;
    use gatedrill::cluster::objects::{Deployment, Node, PodTemplate, Probe, ProbeAction, Probes, Resources};
    use gatedrill::cluster::{
        Cluster, ClusterConfig, Identity, LocalFuture, Placement, Process, Runtime, StartingPod, Version,
    };
    use gatedrill::engine::{Delay, EventId, Signal};

    struct Still;
    struct Running(Signal);

    impl Runtime for Still {
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

    /// 200 nodes, one pod on each, probed as the injected gateway is.
    pub(crate) fn hour() {
        let sim = Sim::new();
        let node = |index: u8| {
            Node::new(
                Rc::from(format!("node-{index}")),
                Ipv4Addr::new(192, 168, 0, index),
                Rc::from("a"),
                Resources { cpu_millicores: 4000, memory_bytes: 8 << 30 },
            )
        };
        let config = ClusterConfig {
            identity: Identity::ALONE,
            version: Version::new(1, 33),
            wall_phase: Some(Duration::ZERO),
            nodes: (0..200).map(node).collect(),
            hop: Delay::Constant(Duration::from_millis(10)),
            schedule: Delay::ZERO,
            pod_start: Delay::ZERO,
            image_pull: Delay::ZERO,
            bad_images: BTreeSet::new(),
            image_sizes: BTreeMap::new(),
            preloaded_images: BTreeSet::new(),
            terminated_pods_max: gatedrill::cluster::pod_collection::THRESHOLD,
            endpoint_propagation: Delay::ZERO,
            init_container: Delay::ZERO,
            sandbox_removal: Delay::ZERO,
            autoscaler: None,
            client_rates: gatedrill::cluster::ClientRates::DEFAULT,
            stands_at_zero: true,
        };
        let spec = ProbeSpec { period_seconds: 15, failure_threshold: 4, ..ProbeSpec::default() };
        let readiness = Some(Probe { action: ProbeAction::Tcp { port: 80 }, spec });
        let template = PodTemplate {
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            image: "proxy".to_owned(),
            requests: Resources { cpu_millicores: 3000, memory_bytes: 0 },
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
        };
        let deployment = Deployment {
            key: Rc::from("ns/edge"),
            replicas: 200,
            strategy: Strategy::Recreate,
            is_paused: false,
            min_ready_seconds: 0,
            progress_deadline_seconds: None,
            revision_history_limit: 10,
            template,
        };
        let cluster = Cluster::new(&sim, Streams::new(1), Rc::default(), config, Rc::new(Still));
        cluster.apply_deployment(deployment, None);
        sim.run_until(SimTime::ZERO.after(Duration::from_secs(3600))).expect("the world moves");
        assert_eq!(cluster.counts("ns/edge").ready, 200);
    }
}

fn main() {
    let is_smoke = std::env::args().any(|argument| argument == "--test");
    // The other simulator takes seconds for what takes us a fraction of one.
    let turmoil_requests = if is_smoke { 1 } else { REQUESTS_PER_CLIENT };
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let mut group = criterion.benchmark_group("virtual_time");
    group.throughput(Throughput::Elements(REQUESTS));
    group.bench_function("proxied", |bencher| bencher.iter(proxied));
    group.bench_function("drill", |bencher| bencher.iter(|| drill(1)));
    group.throughput(Throughput::Elements(2 * REQUESTS));
    group.bench_function("two_seeds_one_core", |bencher| bencher.iter(one_after_the_other));
    group.bench_function("two_seeds_two_cores", |bencher| bencher.iter(side_by_side));
    group.throughput(Throughput::Elements(u64::from(CLIENTS) * u64::from(turmoil_requests)));
    group.bench_function("turmoil", |bencher| bencher.iter(|| turmoil_world::run(CLIENTS, turmoil_requests)));
    group.throughput(Throughput::Elements(100 * 100));
    group.bench_function("engine", |bencher| bencher.iter(engine));
    group.throughput(Throughput::Elements(1));
    group.bench_function("quiet_hour", |bencher| bencher.iter(quiet::hour));
    group.finish();
    criterion.final_summary();
    report_memory(if is_smoke { 200 } else { 4000 });
    report_balancers(if is_smoke { 100 } else { 1000 }, if is_smoke { 100 } else { 20_000 });
    if !is_smoke {
        report_ratios();
    }
}

/// Two ways of doing the same work in turns, so that the machine's noise meets both alike; the time that each took.
#[expect(clippy::disallowed_types, reason = "a benchmark measures")]
fn in_turns(rounds: u32, one: impl Fn(), other: impl Fn()) -> [f64; 2] {
    let mut spent = [Duration::ZERO; 2];
    for _ in 0..rounds {
        for (spent, work) in spent.iter_mut().zip([&one as &dyn Fn(), &other]) {
            let start = std::time::Instant::now();
            work();
            *spent += start.elapsed();
        }
    }
    spent.map(|spent| spent.as_secs_f64() / f64::from(rounds))
}

/// Whether a request through a balancer costs more where it has 400 targets and 100 times the open connections.
#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a benchmark prints, and counts fit a double")]
fn report_balancers(connections: usize, requests: usize) {
    let (small, large) =
        (balancer_world::Balanced::new(4, connections), balancer_world::Balanced::new(400, 100 * connections));
    let us = |spent: f64| spent * 1e6 / requests as f64;
    let on_kept = |of: &balancer_world::Balanced, speaking| of.on_kept(requests, speaking);
    let kept = in_turns(5, || on_kept(&small, connections), || on_kept(&large, connections)).map(us);
    let all = in_turns(5, || on_kept(&small, connections), || on_kept(&large, 100 * connections)).map(us);
    let new = in_turns(5, || small.on_new(requests), || large.on_new(requests)).map(us);
    let past = in_turns(5, || small.past_it(requests), || large.past_it(requests)).map(us);
    println!(
        "a request through a balancer with 4 targets and {connections} connections, with 400 and {}: \
         kept {:.2} and {:.2} µs (where all of these speak {:.2}), new {:.2} and {:.2} µs \
         (new past the balancer {:.2} and {:.2})",
        100 * connections,
        kept[0],
        kept[1],
        all[1],
        new[0],
        new[1],
        past[0],
        past[1],
    );
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn report_ratios() {
    let requests = f64::from(u32::from(CLIENTS) * REQUESTS_PER_CLIENT);
    let ours = || {
        proxied();
    };
    let [ours, theirs] =
        in_turns(3, ours, || turmoil_world::run(CLIENTS, REQUESTS_PER_CLIENT)).map(|spent| requests / spent);
    println!("proxied requests per core-second: gatedrill {ours:.0}, turmoil {theirs:.0}, ratio {:.2}", ours / theirs);
    let [in_row, in_pair] = in_turns(20, one_after_the_other, side_by_side);
    println!("two seeds on two cores: {:.2} times as fast as on one", in_row / in_pair);
}

/// How much memory an open connection takes, both ends and the gateway's state included, and whether requests leave any behind.
#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a benchmark prints, and bytes fit a double")]
fn report_memory(connections: u32) {
    let (sim, streams) = (Sim::new(), Streams::new(1));
    let net = Net::new(&sim, streams);
    servers(&sim, streams, &net);
    let count = usize::try_from(connections).expect("a small number");
    let before = resident_bytes();
    // Each connection is opened by its first request and is idle after its last, one per second.
    let client = start_clients(&sim, streams, &net, 1, count, connections, 20);
    let run = |seconds: u64| {
        sim.run_until(SimTime::ZERO.after(Duration::from_secs(seconds))).expect("the world moves");
        resident_bytes()
    };
    // By then each slot's task has armed its timer for the second time: what there is to a connection is there.
    let (first, last) = (run(11), run(21));
    assert_eq!(client.idle_connections(), count);
    sim.end();
    let (Some(before), Some(first), Some(last)) = (before, first, last) else {
        println!("memory per open connection: not known on this system");
        return;
    };
    let each = last.saturating_sub(before) as f64 / f64::from(connections);
    let growth = last.saturating_sub(first) as f64 / f64::from(connections * 10);
    println!("memory per open connection: {:.1} KiB; per request that is over: {growth:.0} bytes", each / 1024.0);
}

/// Memory of this process; none where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}
