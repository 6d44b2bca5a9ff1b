//! Recorded shutdowns of real Envoys behind a real layer-4 balancer, replayed as drills from their inputs.
//!
//! Goal: what clients lost then, they lose here, within the tolerance that the data's README states. Every file of the folder is
//! replayed; none is named in code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gatedrill::backend::{BackendConfig, BodyShape};
use gatedrill::cluster::deployment::Strategy;
use gatedrill::cluster::int_or_percent::IntOrPercent;
use gatedrill::cluster::objects::{Deployment, Node, PodTemplate, Probes, Resources, Service};
use gatedrill::cluster::{ClusterConfig, Identity, Placement, Version};
use gatedrill::drill::pod_host::CpuCosts;
use gatedrill::drill::{
    Action, BackendSpec, Continue, FrontSpec, GatewaySpec, LoadSpec, MemberConfig, MixEntry, ScalingSpec, Verb,
    WorldConfig, run,
};
use gatedrill::edge::load_balancer::{BackendMode, LoadBalancerConfig, Probe};
use gatedrill::edge::{BalancerConfig, OnRemoval, Scheduler};
use gatedrill::engine::Delay;
use gatedrill::gateway::locality::EndpointPolicy;
use gatedrill::gateway::retry::{RetryOn, RetryPolicy};
use gatedrill::gateway::routes::{self, Destination, Forward, PathMatch, Route, RouteMatch, Routes, VirtualHost};
use gatedrill::gateway::{
    self, AgentConfig, DownstreamConfig, DrainConfig, DrainStrategy, GatewayConfig, ShutdownMode,
};
use gatedrill::load::{ClientConfig, Pacing, RateSegment, Reuse};
use gatedrill::record::results::ScenarioId;
use gatedrill::record::{Outcome, RequestRow};
use serde_json::Value;

const EDGE: &str = "recorded/edge";
const UPSTREAM: &str = "recorded/upstream";
/// Connections are opened in it, one after the other, as in the recordings before their clock starts.
fn warmup(inputs: &Value) -> Duration {
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

fn count(value: &Value) -> u64 {
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
        labels: labels(),
        annotations: BTreeMap::new(),
        image: "envoy".to_owned(),
        requests: Resources::default(),
        containers: Vec::new(),
        grace_seconds: whole(&inputs["shutdown"]["grace_period_s"]),
        pre_stop: (!prestop.is_zero()).then_some(prestop),
        probes: Probes::default(),
        placement: Placement::default(),
        other: String::new(),
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
        bad_images: std::collections::BTreeSet::new(),
        endpoint_propagation: Delay::ZERO,
        sandbox_removal: Delay::Constant(Duration::from_secs(3600)),
        autoscaler: None,
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

fn is_kill(inputs: &Value) -> bool {
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
        config: GatewayConfig {
            listeners: vec![(80, 80)],
            clusters: clusters(inputs).into_iter().map(|name| (name, settings)).collect(),
            downstream: DownstreamConfig::in_drill(),
            drain: DrainConfig { drain_time: seconds(&envoy["drain_time_s"]), strategy, ..DrainConfig::ISTIO },
        },
        agent: AgentConfig { shutdown: shutdown_mode, status_port: 15021 },
        workers: usize::try_from(count(&inputs["pods"]["concurrency"])).expect("few workers"),
        costs: CpuCosts { request: Duration::from_micros(50), connection: Duration::from_micros(30) },
        cpu_limit_millicores: None,
        memory_limit_bytes: None,
        config_propagation: Delay::Constant(seconds(&inputs["action"]["endpoint_removal_lag_s"])),
        exit_delay: Delay::ZERO,
    }
}

fn balancer(inputs: &Value) -> LoadBalancerConfig {
    let lb = &inputs["lb"];
    assert!(lb["health_check"].is_null(), "health checks are not replayed yet");
    let is_cut = lb["existing_connections"] == "cut";
    let on_deregister = if is_cut { OnRemoval::CutAfter(seconds(&lb["drain_timeout_s"])) } else { OnRemoval::Keep };
    let lag = |key: &str| if lb[key].is_null() { Duration::from_secs(3600) } else { seconds(&lb[key]) };
    LoadBalancerConfig {
        identity: Identity::ALONE,
        service: "recorded/edge".to_owned(),
        balancer: BalancerConfig {
            scheduler: Scheduler::RoundRobin,
            health_check: None,
            on_deregister,
            on_unhealthy: OnRemoval::Keep,
            fail_open: false,
        },
        mode: BackendMode::Pods,
        probe: Probe::Tcp,
        register_latency: Delay::Constant(lag("register_lag_s")),
        deregister_latency: Delay::Constant(lag("deregister_lag_s")),
        ports: BTreeMap::from([(80, 80)]),
        weight: 1,
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
        prewarm: client["prewarm"] == true,
    };
    let entry = MixEntry {
        weight: 1,
        method: "GET".to_owned(),
        url: "http://recorded/".to_owned(),
        host: "recorded".to_owned(),
        port: 80,
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
    vec![Action { at, member: 0, phase: Some("action".to_owned()), verb: Some(verb), text }]
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
        port: 80,
        deployment: is_kill(inputs).then(|| Rc::from(UPSTREAM)),
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
        // Where back ends are killed, nothing is to be finished.
        shutdown_delay: None,
    };
    clusters(inputs).into_iter().map(spec).collect()
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

fn world(case: &Value) -> WorldConfig {
    let inputs = &case["inputs"];
    let service = |key: &str, selector| Service { key: Rc::from(key), selector, publish_not_ready: false };
    let mut deployments = vec![deployment(inputs)];
    deployments.extend(is_kill(inputs).then(|| upstream_deployment(inputs)));
    // A relay before the back ends delays what they get and send. The way to the gateways is as long here, which moves no loss.
    let relay = millis(&inputs["upstream"]["one_way_delay_ms"]);
    let member = MemberConfig {
        weight: 1,
        cluster: cluster(inputs),
        deployments,
        services: vec![service(EDGE, labels()), service(UPSTREAM, upstream_labels())],
        target: Rc::from(EDGE),
        budgets: Vec::new(),
        deletion_costs: deletion_costs(inputs),
        gateways: BTreeMap::from([(String::new(), gateway(inputs))]),
        routes: table(inputs),
        front: FrontSpec { balancer: balancer(inputs), cloud_latency: relay.max(Duration::from_micros(50)) },
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

/// What was measured over the three runs of a case.
struct Measured {
    sent: u64,
    lost_min: u64,
    lost_max: u64,
    /// Earliest and latest of the first losses, and of the last losses, by due time.
    first_s: Option<(f64, f64)>,
    last_s: Option<(f64, f64)>,
}

/// The least and the greatest of what `pick` finds in the due times of each run's losses.
fn range(case: &Value, pick: fn(f64, f64) -> f64) -> Option<(f64, f64)> {
    let runs = case["runs"].as_array().expect("runs");
    let times = runs.iter().filter_map(|run| {
        let losses = run["losses"].as_array()?;
        losses.iter().filter_map(|loss| loss["t_intended"].as_f64()).reduce(pick)
    });
    times.fold(None, |range: Option<(f64, f64)>, at| {
        Some(range.map_or((at, at), |(low, high)| (low.min(at), high.max(at))))
    })
}

fn measured(case: &Value) -> Measured {
    Measured {
        sent: count(&case["spread"]["sent"]["max"]),
        lost_min: count(&case["spread"]["lost"]["min"]),
        lost_max: count(&case["spread"]["lost"]["max"]),
        first_s: range(case, f64::min),
        last_s: range(case, f64::max),
    }
}

/// How far the number lost may be from what was measured. Source: the README of the data.
fn tolerance(case: &Value, lost: u64) -> u64 {
    let inputs = &case["inputs"];
    let (least, percent) = match inputs["client"]["reuse"].as_str() {
        _ if lost == 0 => return 0,
        _ if is_kill(inputs) && inputs["envoy"]["retries"] == "none" => (0, 15),
        _ if is_kill(inputs) => (6, 25),
        _ if inputs["client"]["pools"] != 0 => (7, 8),
        Some("lru" | "mru") => (4, 5),
        _ => (2, 1),
    };
    least.max(lost * percent / 100)
}

/// The differences between what was measured and what is predicted, beyond the tolerance.
fn differences(case: &Value, seen: &Measured, sent: u64, losses: &[&RequestRow]) -> Vec<String> {
    let mut differences = Vec::new();
    let lost = losses.len() as u64;
    if sent != seen.sent {
        differences.push(format!("{sent} sent instead of {}", seen.sent));
    }
    let low = seen.lost_min.saturating_sub(tolerance(case, seen.lost_min));
    let high = seen.lost_max + tolerance(case, seen.lost_max);
    if !(low..=high).contains(&lost) {
        differences.push(format!("{lost} lost instead of {low} to {high}"));
    }
    if case["inputs"]["client"]["pools"] != 0 {
        differences.extend(other_races(case, losses));
        return differences;
    }
    let due = || losses.iter().map(|row| row.t_intended_s - warmup(&case["inputs"]).as_secs_f64());
    // Where chance tells which client leaves, two recordings of the same case differ by 0.12 s (README, "Repeatability").
    let is_drawn = case["inputs"]["envoy"]["drain_strategy"] == "gradual";
    let allowed_s = if is_drawn { 0.12 } else { 0.05 };
    let ends = [("first", seen.first_s, due().reduce(f64::min)), ("last", seen.last_s, due().reduce(f64::max))];
    for (what, seen, got) in ends {
        let (Some((low, high)), Some(got)) = (seen, got) else { continue };
        if got < low - allowed_s || got > high + allowed_s {
            differences.push(format!("{what} lost at {got:.3} s instead of {low:.3} to {high:.3} s"));
        }
    }
    differences
}

/// In a race a millisecond decides, and the recordings have that much jitter: which losses are the first and the last says nothing. So the
/// losses are compared request by request: three of four must have been lost in a recording too.
fn other_races(case: &Value, losses: &[&RequestRow]) -> Option<String> {
    let recorded: Vec<f64> = case["runs"]
        .as_array()
        .expect("runs")
        .iter()
        .flat_map(|run| run["losses"].as_array().expect("losses"))
        .filter_map(|loss| loss["t_intended"].as_f64())
        .collect();
    let due = losses.iter().map(|row| row.t_intended_s - warmup(&case["inputs"]).as_secs_f64());
    let agreed = due.filter(|due| recorded.iter().any(|seen| (seen - due).abs() < 0.000_2)).count();
    (agreed * 4 < losses.len() * 3).then(|| format!("{agreed} of {} lost requests were lost then", losses.len()))
}

fn cases() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/envoy-shutdown");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(&path).expect("a readable file");
            let case: Value = serde_json::from_str(&text).expect("a case in JSON");
            cases.push((case["name"].as_str().expect("a name").to_owned(), case));
        }
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

#[test]
fn shutdown_recordings_agree() {
    let cases = cases();
    assert!(!cases.is_empty());
    let mut table = String::from("case                       sent   lost then   lost here\n");
    let mut failures = Vec::new();
    for (name, case) in &cases {
        let seen = measured(case);
        let outcome = run(world(case), |_, _| Vec::new(), |_| Continue::Yes).expect("the replay runs");
        let served = [Outcome::Ok.name(), Outcome::BackendError.name()];
        let rows = outcome.run.requests.iter();
        let losses: Vec<&RequestRow> = rows.filter(|row| !served.contains(&row.outcome.as_str())).collect();
        let totals = &outcome.run.results.totals;
        assert_eq!(totals.dropped, losses.len() as u64);
        let (low, high) = (seen.lost_min, seen.lost_max);
        let then = if low == high { low.to_string() } else { format!("{low} to {high}") };
        let causes = outcome.run.results.causes.iter().map(|cause| format!("{} {}", cause.count, cause.name));
        let causes = causes.collect::<Vec<_>>().join(", ");
        writeln!(table, "{name:24} {:6} {then:>11} {:>11}   {causes}", totals.sent, totals.dropped).expect("a string");
        let found = differences(case, &seen, totals.sent, &losses);
        if !found.is_empty() {
            failures.push(format!("{name}: {}", found.join("; ")));
        }
    }
    assert!(failures.is_empty(), "{table}\n{}", failures.join("\n"));
    println!("{table}");
}
