//! The topology of the benchmark as a whole drill: behind a layer-4 balancer, in a cluster, with the recorder, the event log and the
//! causes of losses; half-way through its second the gateway is restarted under load.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gatedrill::backend::{BackendConfig, BodyShape};
use gatedrill::cluster::deployment::Strategy;
use gatedrill::cluster::int_or_percent::IntOrPercent;
use gatedrill::cluster::objects::{Deployment, Node, PodTemplate, Probes, Resources, Service, ServiceFace, TargetPort};
use gatedrill::cluster::{ClusterConfig, Identity, Placement, Version};
use gatedrill::drill::pod_host::CpuCosts;
use gatedrill::drill::{
    Action, BackendSpec, Continue, FrontSpec, GatewayPods, GatewaySpec, LoadSpec, MemberConfig, MixEntry, Outcome,
    ScalingSpec, Verb, WorldConfig,
};
use gatedrill::edge::load_balancer::{BackendMode, LoadBalancerConfig, Probe};
use gatedrill::edge::{BalancerConfig, Limits, OnRemoval, Pace, Scheduler, TargetRules};
use gatedrill::engine::Delay;
use gatedrill::gateway::agent::istio_paths;
use gatedrill::gateway::locality::EndpointPolicy;
use gatedrill::gateway::{self, AgentConfig, DownstreamConfig, DrainConfig, GatewayConfig, ShutdownMode};
use gatedrill::load::{ClientConfig, Pacing, RateSegment, Reuse};
use gatedrill::record::results::ScenarioId;

const EDGE: &str = "bench/edge";

/// Runs a drill of `duration` with `connections` keep-alive connections and `rate` requests per second.
pub(crate) fn run(seed: u64, connections: usize, rate: u32, duration: Duration) -> Outcome {
    let config = config(seed, connections, rate, duration);
    gatedrill::drill::run(config, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance")
}

fn config(seed: u64, connections: usize, rate: u32, duration: Duration) -> WorldConfig {
    let cluster: Arc<str> = Arc::from("web");
    let backends = BackendSpec {
        cluster: Arc::clone(&cluster),
        service: Rc::from("bench/web"),
        subset: BTreeMap::new(),
        target: TargetPort::Number(80),
        port: 80,
        has_pods: false,
        homes: Vec::new(),
        replicas: 4,
        zones: Vec::new(),
        endpoints: EndpointPolicy::default(),
        config: backend(),
    };
    let member = MemberConfig {
        weight: 1,
        cluster: nodes(),
        deployments: vec![deployment()],
        pods: Vec::new(),
        daemon_sets: Vec::new(),
        services: vec![Service {
            key: Rc::from(EDGE),
            selector: labels(),
            publish_not_ready: false,
            face: ServiceFace::default(),
        }],
        target: Rc::from(EDGE),
        budgets: Vec::new(),
        deletion_costs: Vec::new(),
        gateways: BTreeMap::from([(Rc::from(EDGE), GatewayPods::alike(gateway(&cluster)))]),
        routes: super::routes(&cluster),
        front: FrontSpec::balanced(balancer(), Duration::from_micros(100)),
        backends: vec![backends],
        processes: BTreeMap::new(),
        scaling: ScalingSpec::none(),
        sources: BTreeMap::new(),
    };
    WorldConfig {
        scenario: ScenarioId::default(),
        warmup: Duration::ZERO,
        members: vec![member],
        seed,
        duration,
        loads: vec![load(connections, rate, duration)],
        actions: vec![Action {
            at: duration / 2,
            member: 0,
            phase: Some("restart".to_owned()),
            verb: Some(Verb::Restart(Rc::from(EDGE))),
            text: "restart".to_owned(),
            place: None,
        }],
        fidelity: Vec::new(),
        watch: None,
    }
}

pub(crate) fn backend() -> BackendConfig {
    BackendConfig {
        service_time: Delay::Constant(Duration::from_millis(1)),
        concurrency: 1000,
        error_ppm: 0,
        keep_alive: None,
        body: BodyShape::Whole,
        body_bytes: 100,
    }
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), "edge".to_owned())])
}

fn nodes() -> ClusterConfig {
    ClusterConfig {
        identity: Identity::ALONE,
        version: Version::new(1, 33),
        wall_phase: Some(Duration::ZERO),
        nodes: vec![Node::new(
            Rc::from("node"),
            Ipv4Addr::new(192, 168, 0, 1),
            Rc::from("a"),
            Resources { cpu_millicores: 100_000, memory_bytes: 1 << 40 },
        )],
        hop: Delay::ZERO,
        schedule: Delay::ZERO,
        pod_start: Delay::Constant(Duration::from_millis(50)),
        image_pull: Delay::ZERO,
        bad_images: BTreeSet::new(),
        image_sizes: BTreeMap::new(),
        preloaded_images: BTreeSet::new(),
        terminated_pods_max: gatedrill::cluster::pod_collection::THRESHOLD,
        endpoint_propagation: Delay::Constant(Duration::from_millis(5)),
        init_container: Delay::ZERO,
        sandbox_removal: Delay::ZERO,
        autoscaler: None,
        client_rates: gatedrill::cluster::ClientRates::DEFAULT,
        stands_at_zero: true,
    }
}

fn deployment() -> Deployment {
    let template = PodTemplate {
        labels: labels(),
        annotations: BTreeMap::new(),
        image: "proxy".to_owned(),
        requests: Resources::default(),
        containers: Vec::new(),
        grace_seconds: 1,
        pre_stop: None,
        probes: Probes::default(),
        init: Vec::new(),
        has_empty_dir: false,
        has_local_storage: false,
        storage: gatedrill::cluster::LocalStorage::default(),
        ports: Vec::new(),
        readiness_gates: Vec::new(),
        placement: Placement::default(),
        other: String::new(),
    };
    let strategy = Strategy::RollingUpdate { max_surge: IntOrPercent::Int(1), max_unavailable: IntOrPercent::Int(0) };
    Deployment {
        key: Rc::from(EDGE),
        replicas: 2,
        strategy,
        is_paused: false,
        min_ready_seconds: 0,
        progress_deadline_seconds: None,
        revision_history_limit: 10,
        template,
    }
}

fn gateway(cluster: &Arc<str>) -> GatewaySpec {
    GatewaySpec {
        hook_fails: false,
        config: GatewayConfig {
            listeners: vec![(80, 80)],
            clusters: BTreeMap::from([(Arc::clone(cluster), gateway::ClusterConfig::ISTIO)]),
            downstream: DownstreamConfig::in_drill(),
            drain: DrainConfig::ISTIO,
        },
        agent: AgentConfig {
            shutdown: ShutdownMode::ExitAtOnce.moves(),
            status_port: 15021,
            status_paths: istio_paths(),
        },
        pre_stop: Vec::new(),
        workers: 2,
        costs: CpuCosts { request: Duration::from_micros(50), connection: Duration::from_micros(30) },
        cpu_limit_millicores: Some(2000),
        memory_limit_bytes: None,
        config_propagation: Delay::ZERO,
        exit_delay: Delay::ZERO,
    }
}

fn balancer() -> LoadBalancerConfig {
    LoadBalancerConfig {
        identity: Identity::ALONE,
        service: EDGE.to_owned(),
        balancer: BalancerConfig {
            scheduler: Scheduler::RoundRobin,
            persistence: None,
            health_check: None,
            first_passes: None,
            on_deregister: OnRemoval::Keep,
            on_unhealthy: OnRemoval::Keep,
            slow_start: None,
            fail_open: false,
            groups: 1,
        },
        limits: Limits::default(),
        zones: Vec::new(),
        is_cross_zone: true,
        idle: None,
        targets: TargetRules::of(BackendMode::Pods, 1),
        pace: Pace::Each,
        probe: Probe::Tcp,
        ways: gatedrill::edge::Ways::at_once(String::new()),
        register_latency: Delay::Constant(Duration::from_millis(5)),
        deregister_latency: Delay::Constant(Duration::from_millis(5)),
        ports: BTreeMap::from([(80, 80)]),
        node_ports: BTreeMap::new(),
        http: BTreeMap::new(),
        first_probe: None,
        stands_at_zero: true,
    }
}

fn load(connections: usize, rate: u32, duration: Duration) -> LoadSpec {
    let rate = f64::from(rate);
    let mix = (0..20).map(|number| MixEntry {
        weight: 1,
        method: "GET".to_owned(),
        url: format!("http://host-{number}.example.com/service-{number}/item"),
        host: format!("host-{number}.example.com"),
        port: 80,
        tls_round_trips: 0,
        path: format!("/service-{number}/item"),
        headers: Vec::new(),
        body_bytes: 0,
    });
    LoadSpec {
        name: "clients".to_owned(),
        segments: vec![RateSegment { duration, from_per_s: rate, to_per_s: rate }],
        pacing: Pacing::Constant,
        runs_in_warmup: false,
        client: ClientConfig {
            connections,
            reuse: Reuse::LeastRecent,
            keep_alive: Some(Duration::from_secs(60)),
            timeout: Duration::from_secs(5),
            retries: 0,
            detect_idle_close: true,
            honor_connection_close: true,
            cookies: false,
            prewarm: false,
        },
        rtt: Duration::from_micros(200),
        mix: mix.collect(),
    }
}
