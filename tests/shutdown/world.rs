//! The inputs of a recorded shutdown as the settings of a world.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gatedrill::backend::{BackendConfig, BodyShape};
use gatedrill::cluster::deployment::Strategy;
use gatedrill::cluster::int_or_percent::IntOrPercent;
use gatedrill::cluster::objects::{Deployment, Node, PodTemplate, Resources, Service, ServiceFace, TargetPort};
use gatedrill::cluster::{ClusterConfig, Identity, Version};
use gatedrill::drill::pod_host::CpuCosts;
use gatedrill::drill::{
    Action, BackendPods, BackendSpec, FrontSpec, GatewayPods, GatewaySpec, LoadSpec, MemberConfig, MixEntry,
    ScalingSpec, Verb, WorldConfig,
};
use gatedrill::edge::load_balancer::{BackendMode, HttpProbe, LoadBalancerConfig, Probe};
use gatedrill::edge::{BalancerConfig, HealthCheck, Limits, OnRemoval, Pace, Scheduler, TargetRules};
use gatedrill::engine::Delay;
use gatedrill::gateway::agent::istio_paths;
use gatedrill::gateway::locality::EndpointPolicy;
use gatedrill::gateway::retry::{RetryOn, RetryPolicy};
use gatedrill::gateway::routes::{self, Destination, Forward, PathMatch, Route, RouteMatch, Routes, VirtualHost};
use gatedrill::gateway::{
    self, AgentConfig, DownstreamConfig, DrainConfig, DrainStrategy, GatewayConfig, ShutdownMode,
};
use gatedrill::load::{ClientConfig, Pacing, RateSegment, Reuse};
use gatedrill::record::results::ScenarioId;
use serde_json::Value;

const EDGE: &str = "recorded/edge";
const UPSTREAM: &str = "recorded/upstream";
/// Connections are opened in it, one after the other, as in the recordings before their clock starts.
pub(crate) fn warmup(inputs: &Value) -> Duration {
    let connections = u32::try_from(inputs["client"]["connections"].as_u64().unwrap_or(0)).expect("few connections");
    let each = millis(&inputs["service_ms"]) + Duration::from_millis(2);
    Duration::from_secs((each * connections).as_secs() + 1)
}

/// The order in which the recordings delete pods: the last ones when scaled in, the oldest first when rolled.
///
/// Their names say `p1` to `pN`; the losses of keep-alive clients show that the balancer's first turn was `p2`'s (slot 1, 1 + N, 1 + 2 N
/// and so on of the client are on `pN`), so here, where the first turn is the first pod's, that pod stands for `p2`.
fn deletion_costs(inputs: &Value) -> Vec<i32> {
    let pods = i32::try_from(count(&inputs["pods"]["n"])).expect("few pods");
    let is_rolled = inputs["action"]["type"] == "rolling";
    let number = |index: i32| (index + 1) % pods;
    (0..pods).map(|index| if is_rolled { number(index) } else { -number(index) }).collect()
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs_f64(value.as_f64().expect("a number of seconds"))
}

fn millis(value: &Value) -> Duration {
    Duration::from_secs_f64(value.as_f64().expect("a number of milliseconds") / 1000.0)
}

pub(crate) fn count(value: &Value) -> u64 {
    value.as_u64().expect("a count")
}

/// The whole seconds under a key.
fn whole(value: &Value) -> u32 {
    u32::try_from(seconds(value).as_secs()).expect("few seconds")
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), "edge".to_owned())])
}

fn deployment(inputs: &Value) -> Deployment {
    let prestop = seconds(&inputs["shutdown"]["prestop_s"]);
    let template = PodTemplate {
        grace_seconds: whole(&inputs["shutdown"]["grace_period_s"]),
        pre_stop: (!prestop.is_zero()).then_some(prestop),
        ..PodTemplate::plain(labels(), "envoy", Resources::default())
    };
    let strategy = Strategy::RollingUpdate { max_surge: IntOrPercent::Int(1), max_unavailable: IntOrPercent::Int(0) };
    Deployment {
        key: Rc::from(EDGE),
        replicas: i32::try_from(count(&inputs["pods"]["n"])).expect("few pods"),
        strategy,
        is_paused: false,
        min_ready_seconds: 0,
        progress_deadline_seconds: None,
        revision_history_limit: 10,
        template,
    }
}

fn cluster(inputs: &Value) -> ClusterConfig {
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
        pod_start: Delay::Constant(seconds(&inputs["pods"]["new_ready_delay_s"])),
        image_pull: Delay::ZERO,
        bad_images: BTreeSet::new(),
        image_sizes: BTreeMap::new(),
        preloaded_images: BTreeSet::new(),
        terminated_pods_max: gatedrill::cluster::pod_collection::THRESHOLD,
        endpoint_propagation: Delay::ZERO,
        init_container: Delay::ZERO,
        sandbox_removal: Delay::Constant(Duration::from_secs(3600)),
        autoscaler: None,
        client_rates: gatedrill::cluster::ClientRates::DEFAULT,
        stands_at_zero: true,
    }
}

/// The clusters of a case: one, or one for each pool of the client.
fn clusters(inputs: &Value) -> Vec<Arc<str>> {
    let pools = inputs["client"]["pools"].as_u64().unwrap_or(0);
    (0..pools.max(1)).map(|pool| Arc::from(format!("upstream-{pool}"))).collect()
}

fn retries(inputs: &Value) -> RetryPolicy {
    let condition = |name: &str| match RetryOn::parse(name) {
        (condition, true) => condition,
        (_, false) => panic!("{name} is no condition"),
    };
    match inputs["envoy"]["retries"].as_str().expect("a policy").split_once('+') {
        Some(("istio-default", more)) => {
            RetryPolicy { retry_on: RetryOn::ISTIO.and(condition(more)), ..RetryPolicy::ISTIO }
        }
        None if inputs["envoy"]["retries"] == "istio-default" => RetryPolicy::ISTIO,
        None if inputs["envoy"]["retries"] == "none" => RetryPolicy::NONE,
        _ => panic!("{} is no policy", inputs["envoy"]["retries"]),
    }
}

pub(crate) fn is_kill(inputs: &Value) -> bool {
    inputs["action"]["type"] == "upstream_kill"
}

fn gateway(inputs: &Value) -> GatewaySpec {
    let (shutdown, envoy) = (&inputs["shutdown"], &inputs["envoy"]);
    let shutdown_mode = match shutdown["mode"].as_str() {
        Some("envoy_sigterm") => ShutdownMode::ExitAtOnce,
        Some("pilot_agent") => ShutdownMode::Drain { duration: seconds(&shutdown["termination_drain_duration_s"]) },
        Some("pilot_agent_exit_on_zero") => {
            ShutdownMode::ExitOnZero { minimum: seconds(&shutdown["minimum_drain_duration_s"]) }
        }
        other => panic!("{other:?} is no mode"),
    };
    let idle = seconds(&envoy["upstream_idle_timeout_s"]);
    let idle_timeout = if idle.is_zero() { gateway::ClusterConfig::ISTIO.idle_timeout } else { Some(idle) };
    let settings = gateway::ClusterConfig { idle_timeout, ..gateway::ClusterConfig::ISTIO };
    let strategy = if envoy["drain_strategy"] == "gradual" { DrainStrategy::Gradual } else { DrainStrategy::Immediate };
    GatewaySpec {
        hook_fails: false,
        config: GatewayConfig {
            listeners: vec![(80, 80)],
            clusters: clusters(inputs).into_iter().map(|name| (name, settings)).collect(),
            downstream: DownstreamConfig::in_drill(),
            drain: DrainConfig { drain_time: seconds(&envoy["drain_time_s"]), strategy, ..DrainConfig::ISTIO },
        },
        agent: AgentConfig { shutdown: shutdown_mode.moves(), status_port: 15021, status_paths: istio_paths() },
        pre_stop: Vec::new(),
        workers: usize::try_from(count(&inputs["pods"]["concurrency"])).expect("few workers"),
        costs: CpuCosts { request: Duration::from_micros(50), connection: Duration::from_micros(30) },
        cpu_limit_millicores: None,
        memory_limit_bytes: None,
        config_propagation: Delay::Constant(seconds(&inputs["action"]["endpoint_removal_lag_s"])),
        exit_delay: Delay::ZERO,
    }
}

/// The balancer's check of a case, and when it asks for the first time: at the phase that the first run of the recording had.
///
/// The event is written when the last of the failures that count has come in, so the probe went out then, and a whole number of intervals before.
fn health_check(case: &Value) -> (Option<HealthCheck>, Option<Duration>) {
    let check = &case["inputs"]["lb"]["health_check"];
    if check.is_null() {
        return (None, None);
    }
    assert_eq!(check["cut_on_down"], false, "connections of a target that fails stay");
    let interval = seconds(&check["interval_s"]);
    let threshold = |key: &str| u32::try_from(count(&check[key])).expect("a small number");
    let events = case["runs"][0]["events"].as_array().expect("events");
    let down = events.iter().find(|event| event["what"] == "lb_health_down").expect("the check fails in the end");
    let down_at = warmup(&case["inputs"]) + seconds(&down["t"]);
    let first = Duration::from_nanos(u64::try_from(down_at.as_nanos() % interval.as_nanos()).expect("an interval"));
    let check = HealthCheck {
        interval,
        spacing: gatedrill::edge::Spacing::Starts,
        timeout: interval,
        healthy_threshold: threshold("rise"),
        unhealthy_threshold: threshold("fall"),
    };
    (Some(check), Some(first))
}

fn balancer(case: &Value) -> LoadBalancerConfig {
    let inputs = &case["inputs"];
    let lb = &inputs["lb"];
    let (health_check, first_probe) = health_check(case);
    let is_cut = lb["existing_connections"] == "cut";
    let on_deregister = if is_cut { OnRemoval::CutAfter(seconds(&lb["drain_timeout_s"])) } else { OnRemoval::Keep };
    let lag = |key: &str| if lb[key].is_null() { Duration::from_secs(3600) } else { seconds(&lb[key]) };
    LoadBalancerConfig {
        identity: Identity::ALONE,
        service: "recorded/edge".to_owned(),
        balancer: BalancerConfig {
            scheduler: Scheduler::RoundRobin,
            persistence: None,
            health_check,
            first_passes: None,
            on_deregister,
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
        probe: Probe::Http(HttpProbe::get(15021, "/healthz/ready")),
        ways: gatedrill::edge::Ways::at_once(String::new()),
        first_probe,
        register_latency: Delay::Constant(lag("register_lag_s")),
        deregister_latency: Delay::Constant(lag("deregister_lag_s")),
        ports: BTreeMap::from([(80, 80)]),
        node_ports: BTreeMap::new(),
        http: BTreeMap::new(),
        stands_at_zero: true,
    }
}

fn segments(inputs: &Value) -> Vec<RateSegment> {
    let rate = inputs["rate_per_s"].as_f64().expect("a rate");
    let (mut segments, mut at) = (Vec::new(), Duration::ZERO);
    let mut push = |until: Duration, rate: f64| {
        let duration = until.saturating_sub(at);
        at = until;
        if !duration.is_zero() {
            segments.push(RateSegment { duration, from_per_s: rate, to_per_s: rate });
        }
    };
    for silence in inputs["silence_s"].as_array().expect("a list") {
        push(seconds(&silence[0]), rate);
        push(seconds(&silence[1]), 0.0);
    }
    push(seconds(&inputs["duration_s"]), rate);
    segments
}

/// The streams of requests: one, or one for each pool, at the times that were recorded.
fn loads(case: &Value) -> Vec<LoadSpec> {
    let inputs = &case["inputs"];
    let pools = inputs["client"]["pools"].as_u64().unwrap_or(0);
    if pools == 0 {
        assert_eq!(inputs["arrivals"], "uniform");
        return vec![load(inputs, 0, 1, Pacing::Constant)];
    }
    let arrivals = case["runs"][0]["arrivals"].as_array().expect("recorded arrivals");
    let of_pool = |pool: u64| -> Rc<[Duration]> {
        arrivals.iter().filter(|arrival| arrival[1] == pool).map(|arrival| seconds(&arrival[0])).collect()
    };
    (0..pools).map(|pool| load(inputs, pool, pools, Pacing::Listed(of_pool(pool)))).collect()
}

fn load(inputs: &Value, pool: u64, pools: u64, pacing: Pacing) -> LoadSpec {
    let client = &inputs["client"];
    let reuse = match client["reuse"].as_str() {
        Some("lru") => Reuse::LeastRecent,
        Some("mru") => Reuse::MostRecent,
        _ => Reuse::Never,
    };
    let config = ClientConfig {
        connections: usize::try_from(client["connections"].as_u64().unwrap_or(0) / pools).expect("few connections"),
        reuse,
        keep_alive: None,
        timeout: seconds(&client["timeout_s"]),
        retries: 0,
        detect_idle_close: client["detect_idle_close"] == true,
        honor_connection_close: client["honor_connection_close"] == true,
        cookies: false,
        prewarm: client["prewarm"] == true,
    };
    let entry = MixEntry {
        weight: 1,
        method: "GET".to_owned(),
        url: "http://recorded/".to_owned(),
        host: "recorded".to_owned(),
        port: 80,
        tls_round_trips: 0,
        path: format!("/{pool}/"),
        headers: Vec::new(),
        body_bytes: 0,
    };
    LoadSpec {
        name: format!("client-{pool}"),
        segments: segments(inputs),
        pacing,
        runs_in_warmup: false,
        client: config,
        rtt: Duration::from_micros(100),
        mix: vec![entry],
    }
}

fn actions(inputs: &Value) -> Vec<Action> {
    let action = &inputs["action"];
    let verb = match action["type"].as_str() {
        Some("none") => return Vec::new(),
        Some("scale_in") => {
            let left = count(&inputs["pods"]["n"]) - count(&action["k"]);
            Verb::Scale(Rc::from(EDGE), i32::try_from(left).expect("few pods"))
        }
        Some("rolling") => Verb::Restart(Rc::from(EDGE)),
        Some("upstream_kill") => {
            let left = count(&inputs["upstream"]["count"]) - count(&action["k"]);
            Verb::Scale(Rc::from(UPSTREAM), i32::try_from(left).expect("few back ends"))
        }
        other => panic!("{other:?} is no action"),
    };
    let (at, text) = (seconds(&inputs["t0_s"]), action["type"].to_string());
    vec![Action { at, member: 0, phase: Some("action".to_owned()), verb: Some(verb), text, place: None }]
}

fn table(inputs: &Value) -> Routes {
    let route = |(pool, cluster): (usize, Arc<str>)| {
        let to = Forward::to(vec![Destination::cluster(cluster, 1)]);
        let action = routes::Action::Forward(Forward { retry: retries(inputs), ..to });
        let condition = RouteMatch::path(PathMatch::Prefix(format!("/{pool}/")));
        Arc::new(Route::new("pool", condition, action))
    };
    let mut routes = Routes::default();
    routes.add(80, VirtualHost::new("*", clusters(inputs).into_iter().enumerate().map(route).collect()));
    routes
}

/// The back ends, once for each cluster: none is ever busy, so it makes no difference whether clusters share them.
fn backends(inputs: &Value) -> Vec<BackendSpec> {
    let upstream = &inputs["upstream"];
    let keep_alive = seconds(&upstream["keepalive_idle_s"]);
    let spec = |cluster: Arc<str>| BackendSpec {
        cluster,
        service: Rc::from(UPSTREAM),
        subset: BTreeMap::new(),
        target: TargetPort::Number(80),
        port: 80,
        has_pods: is_kill(inputs),
        homes: Vec::new(),
        replicas: usize::try_from(count(&upstream["count"])).expect("few back ends"),
        zones: Vec::new(),
        endpoints: EndpointPolicy::default(),
        config: BackendConfig {
            service_time: Delay::Constant(millis(&inputs["service_ms"])),
            concurrency: 100_000,
            error_ppm: 0,
            keep_alive: (!keep_alive.is_zero()).then_some(keep_alive),
            body: if inputs["stream_body"] == true { BodyShape::HalfFirst } else { BodyShape::Whole },
            body_bytes: 100,
        },
    };
    clusters(inputs).into_iter().map(spec).collect()
}

fn pods(spec: BackendSpec) -> (Rc<str>, BackendPods) {
    let pods = BackendPods {
        ports: BTreeSet::from([spec.port]),
        config: spec.config,
        memory: None,
        disk: None,
        shutdown_delay: None,
    };
    (Rc::from(UPSTREAM), pods)
}

/// The back ends as a Deployment, where one of them is to be killed.
fn upstream_deployment(inputs: &Value) -> Deployment {
    let mut deployment = deployment(inputs);
    deployment.key = Rc::from(UPSTREAM);
    deployment.replicas = i32::try_from(count(&inputs["upstream"]["count"])).expect("few back ends");
    deployment.template.labels = upstream_labels();
    deployment.template.pre_stop = None;
    deployment
}

fn upstream_labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), "upstream".to_owned())])
}

pub(crate) fn world(case: &Value) -> WorldConfig {
    let inputs = &case["inputs"];
    let service = |key: &str, selector| Service {
        key: Rc::from(key),
        selector,
        publish_not_ready: false,
        face: ServiceFace::default(),
    };
    let mut deployments = vec![deployment(inputs)];
    deployments.extend(is_kill(inputs).then(|| upstream_deployment(inputs)));
    // A relay before the back ends delays what they get and send. The way to the gateways is as long here, which moves no loss.
    let relay = millis(&inputs["upstream"]["one_way_delay_ms"]);
    let member = MemberConfig {
        weight: 1,
        cluster: cluster(inputs),
        deployments,
        pods: Vec::new(),
        daemon_sets: Vec::new(),
        services: vec![service(EDGE, labels()), service(UPSTREAM, upstream_labels())],
        target: Rc::from(EDGE),
        budgets: Vec::new(),
        deletion_costs: deletion_costs(inputs),
        gateways: BTreeMap::from([(Rc::from(EDGE), GatewayPods::alike(gateway(inputs)))]),
        routes: table(inputs),
        front: FrontSpec::balanced(balancer(case), relay.max(Duration::from_micros(50))),
        // Where back ends are killed, nothing is to be finished.
        processes: backends(inputs).into_iter().map(pods).collect(),
        backends: backends(inputs),
        scaling: ScalingSpec::none(),
        sources: BTreeMap::new(),
    };
    WorldConfig {
        scenario: ScenarioId::default(),
        seed: count(&inputs["seed"]),
        warmup: warmup(inputs),
        duration: seconds(&inputs["duration_s"]),
        members: vec![member],
        loads: loads(case),
        actions: actions(inputs),
        fidelity: Vec::new(),
        watch: None,
    }
}
