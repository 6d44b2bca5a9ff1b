//! The gateway in virtual time: a real hyper gateway between simulated clients and backends. Each test states what the client
//! sees, at the exact millisecond where it matters.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gatedrill::backend::{Backend, BackendConfig, BodyShape};
use gatedrill::drill::pod_host::{Cpu, CpuCosts, PodHost};
use gatedrill::engine::{Delay, Signal, Sim, Streams, TaskGroup};
use gatedrill::gateway::agent::{AgentConfig, istio_paths, run};
use gatedrill::gateway::routes::{Action, Destination, Forward, PathMatch, Route, RouteMatch, Routes, VirtualHost};
use gatedrill::gateway::{
    AccessRecord, ClusterConfig, DownstreamConfig, DrainConfig, DrainStrategy, EndpointConfig, Gateway, GatewayConfig,
    Move, Observer, RetryPolicy, ShutdownMode,
};
use gatedrill::net::{Host, LinkConfig, Net, TcpStream};
use gatedrill::units::SimTime;

const MS: Duration = Duration::from_millis(1);

/// Remembers `status flags details attempts` of each request.
#[derive(Default)]
struct Log(RefCell<Vec<String>>);

impl Observer for Log {
    fn finished(&self, record: &AccessRecord) {
        let status = record.status.map_or(0, |status| status.as_u16());
        let line = format!("{status} {} {} {}", record.flags, record.details, record.attempts);
        self.0.borrow_mut().push(line);
    }
}

struct World {
    sim: Sim,
    net: Net,
    client: Host,
    gateway: Gateway<PodHost>,
    tasks: TaskGroup,
    sigterm: Signal,
    log: Rc<Log>,
    said: Rc<RefCell<Vec<String>>>,
}

struct Setup {
    route_timeout: Option<Duration>,
    retry: RetryPolicy,
    drain: DrainConfig,
    shutdown: Vec<Move>,
    endpoints: Vec<u8>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            route_timeout: None,
            retry: RetryPolicy::ISTIO,
            drain: DrainConfig::ISTIO,
            shutdown: ShutdownMode::Drain { duration: Duration::from_secs(5) }.moves(),
            endpoints: vec![21],
        }
    }
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn link() -> LinkConfig {
    LinkConfig { latency: MS / 2, ..LinkConfig::default() }
}

/// A gateway on 10.0.0.11:8080, 1 ms away from everybody, whose route `/` leads to the cluster `web`.
fn world(setup: Setup) -> World {
    let (sim, streams) = (Sim::new(), Streams::new(1));
    let net = Net::new(&sim, streams);
    let client = net.attach(ip(1), link());
    let pod = net.attach(ip(11), link());
    let tasks = TaskGroup::new(&sim);
    let costs = CpuCosts { request: Duration::ZERO, connection: Duration::ZERO };
    let workers = (0..2)
        .map(|worker| {
            let cpu = Rc::new(Cpu::new(costs, 2, None));
            PodHost::new(&sim, pod.clone(), tasks.clone(), streams.stream("worker", &worker.to_string()), cpu, worker)
        })
        .collect();
    let cluster: Arc<str> = Arc::from("web");
    let route = |path: &str, cluster: &Arc<str>| {
        let (timeout, retry) = (setup.route_timeout, setup.retry.clone());
        let to = Forward::to(vec![Destination::cluster(Arc::clone(cluster), 1)]);
        let action = Action::Forward(Forward { timeout, retry, ..to });
        Arc::new(Route::new(path, RouteMatch::path(PathMatch::Prefix(path.to_owned())), action))
    };
    let mut routes = Routes::default();
    let nowhere = Arc::from("nowhere");
    let list = vec![route("/nowhere", &nowhere), route("/", &cluster)];
    routes.add(80, VirtualHost::new("shop", list));
    let config = GatewayConfig {
        listeners: vec![(8080, 80)],
        clusters: BTreeMap::from([(Arc::clone(&cluster), ClusterConfig::ISTIO)]),
        downstream: DownstreamConfig::in_drill(),
        drain: setup.drain,
    };
    let log = Rc::new(Log::default());
    let gateway =
        Gateway::start(workers, config, Rc::new(routes), Rc::clone(&log) as Rc<dyn Observer>).expect("ports are free");
    let address = |last: &u8| SocketAddr::V4(SocketAddrV4::new(ip(*last), 80));
    let endpoints: Vec<_> = setup.endpoints.iter().map(|last| EndpointConfig::new(address(last))).collect();
    gateway.set_endpoints(&cluster, &gatedrill::gateway::LoadAssignment::new(endpoints));
    let sigterm = Signal::default();
    let (agent, ended, raised) = (gateway.clone(), tasks.clone(), sigterm.raised());
    let agent_config = AgentConfig { shutdown: setup.shutdown, status_port: 15021, status_paths: istio_paths() };
    // The process is all its tasks; this one stands outside, as the kernel does.
    sim.spawn("agent", async move {
        run(agent, agent_config, raised, |_| {}).await.expect("the status port is free");
        ended.abort();
    });
    World { sim, net, client, gateway, tasks, sigterm, log, said: Rc::default() }
}

impl World {
    fn backend(&self, last: u8, service_time: Duration, body: BodyShape, keep_alive: Option<Duration>) -> Backend {
        let config = BackendConfig {
            service_time: Delay::Constant(service_time),
            concurrency: 100,
            error_ppm: 0,
            keep_alive,
            body,
            body_bytes: 100,
        };
        let host = self.net.attach(ip(last), link());
        Backend::start(&self.sim, Streams::new(1), &host, [80], config).expect("the host is there")
    }

    fn at<F: Future<Output = ()> + 'static>(&self, time: Duration, act: impl FnOnce(Speaker) -> F + 'static) {
        let speaker = Speaker { sim: self.sim.clone(), client: self.client.clone(), said: Rc::clone(&self.said) };
        let sim = self.sim.clone();
        self.sim.spawn("test", async move {
            sim.sleep_until(SimTime::ZERO.after(time)).await;
            act(speaker).await;
        });
    }

    fn sigterm_at(&self, time: Duration) {
        let sigterm = self.sigterm.clone();
        self.at(time, |_| async move { sigterm.raise() });
    }

    fn run(&self) -> Vec<String> {
        self.sim.run_until(SimTime::ZERO.after(Duration::from_secs(120))).expect("the world goes on");
        self.said.take()
    }
}

/// A client that says what it sees.
#[derive(Clone)]
struct Speaker {
    sim: Sim,
    client: Host,
    said: Rc<RefCell<Vec<String>>>,
}

impl Speaker {
    fn say(&self, text: &str) {
        let at_ms = self.sim.now().as_nanos() / 1_000_000;
        self.said.borrow_mut().push(format!("{at_ms} {text}"));
    }

    async fn dial(&self, port: u16) -> Option<TcpStream> {
        match self.client.connect(SocketAddrV4::new(ip(11), port)).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                self.say(&error.to_string());
                None
            }
        }
    }

    /// Sends a request and says the status, whether the answer says close, and how long its body is.
    async fn get(&self, stream: &mut TcpStream, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n");
        if stream.write_all(request.as_bytes()).await.is_err() {
            return self.say("write failed");
        }
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    let status = head.split(' ').nth(1).unwrap_or("?");
                    let close = if head.contains("connection: close") { " close" } else { "" };
                    return self.say(&format!("{status}{close} {}", body.len()));
                }
            }
            match stream.read(&mut bytes).await {
                Ok(0) => return self.say(if bytes.is_empty() { "closed" } else { "truncated" }),
                Ok(_) => {}
                Err(_) => return self.say("reset"),
            }
        }
    }

    async fn get_once(&self, path: &str) {
        if let Some(mut stream) = self.dial(8080).await {
            self.get(&mut stream, path).await;
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn requests_reuse_connections_on_both_sides() {
    let world = world(Setup::default());
    let backend = world.backend(21, 10 * MS, BodyShape::Whole, None);
    world.at(Duration::ZERO, |speaker| async move {
        let mut stream = speaker.dial(8080).await.unwrap();
        for _ in 0..3 {
            speaker.get(&mut stream, "/").await;
        }
    });
    // Dial 2 ms, request 1, connect to the backend 2, request 1, service 10, answer 1 + 1; then without the connects.
    assert_eq!(world.run(), ["18 200 100", "32 200 100", "46 200 100"]);
    assert_eq!(world.log.0.take(), vec!["200 - via_upstream 1"; 3]);
    assert_eq!(backend.request_count(), 3);
    assert_eq!(world.gateway.connection_count(), 0);
}

#[test]
fn a_streamed_body_passes_as_it_comes() {
    let world = world(Setup::default());
    world.backend(21, 500 * MS, BodyShape::HalfFirst, None);
    world.at(Duration::ZERO, |speaker| async move {
        let mut stream = speaker.dial(8080).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n").await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(&[b'.'; 50]) {
            stream.read(&mut bytes).await.unwrap();
        }
        speaker.say("half");
        while !bytes.ends_with(&[b'.'; 100]) {
            stream.read(&mut bytes).await.unwrap();
        }
        speaker.say("whole");
    });
    assert_eq!(world.run(), ["8 half", "508 whole"]);
}

#[test]
fn what_has_no_route_or_no_cluster_or_no_endpoint_is_answered_by_the_gateway() {
    let world = world(Setup { endpoints: Vec::new(), ..Setup::default() });
    world.at(Duration::ZERO, |speaker| async move {
        let mut stream = speaker.dial(8080).await.unwrap();
        speaker.get(&mut stream, "/").await;
        speaker.get(&mut stream, "/nowhere").await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: other\r\n\r\n").await.unwrap();
        stream.read(&mut Vec::new()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        stream.read(&mut Vec::new()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\nhost: shop\r\n\r\n").await.unwrap();
        stream.read(&mut Vec::new()).await.unwrap();
    });
    world.run();
    assert_eq!(
        world.log.0.take(),
        [
            "503 UH no_healthy_upstream 1",
            "503 NC cluster_not_found 0",
            "404 NR route_not_found 0",
            "400 DPE missing_host_header 0",
            "426 DPE low_version 0",
        ]
    );
}

#[test]
fn a_refusing_endpoint_is_tried_three_times_with_waits() {
    let world = world(Setup::default());
    let _closed = world.net.attach(ip(21), link());
    world.at(Duration::ZERO, |speaker| async move { speaker.get_once("/").await });
    let said = world.run();
    let flags = "503 UF,URX upstream_reset_before_response_started{remote_connection_failure} 3";
    assert_eq!(world.log.0.take(), [flags]);
    // 2 + 1 to ask, three refusals of 2 ms each, 1 back, and waits below 25 and 50 ms.
    let at_ms: u64 = said[0].split(' ').next().unwrap().parse().unwrap();
    assert!((10..10 + 75).contains(&at_ms), "{said:?}");
}

#[test]
fn without_retries_there_is_one_try_and_no_urx() {
    let world = world(Setup { retry: RetryPolicy::NONE, ..Setup::default() });
    let _closed = world.net.attach(ip(21), link());
    world.at(Duration::ZERO, |speaker| async move { speaker.get_once("/").await });
    assert_eq!(world.run(), ["6 503 98"]);
    assert_eq!(world.log.0.take(), ["503 UF upstream_reset_before_response_started{remote_connection_failure} 1"]);
}

#[test]
fn a_vanished_endpoint_times_out_after_the_connect_timeout() {
    let world = world(Setup { retry: RetryPolicy::NONE, ..Setup::default() });
    world.at(Duration::ZERO, |speaker| async move { speaker.get_once("/").await });
    assert_eq!(world.run(), ["10004 503 91"]);
    assert_eq!(world.log.0.take(), ["503 UF upstream_reset_before_response_started{connection_timeout} 1"]);
}

#[test]
fn a_second_endpoint_saves_the_request() {
    let world = world(Setup { endpoints: vec![21, 22], ..Setup::default() });
    let _closed = world.net.attach(ip(21), link());
    let backend = world.backend(22, 10 * MS, BodyShape::Whole, None);
    for number in 0..50 {
        world.at(number * 100 * MS, |speaker| async move { speaker.get_once("/").await });
    }
    world.run();
    assert_eq!(backend.request_count(), 50);
}

#[test]
fn a_connection_that_breaks_under_a_request_is_not_retried() {
    let world = world(Setup::default());
    let backend = world.backend(21, 200 * MS, BodyShape::Whole, None);
    world.at(100 * MS, move |_| async move { backend.kill() });
    world.at(Duration::ZERO, |speaker| async move { speaker.get_once("/").await });
    assert_eq!(world.run(), ["102 503 95"]);
    assert_eq!(world.log.0.take(), ["503 UC upstream_reset_before_response_started{connection_termination} 1"]);
}

#[test]
fn a_backend_that_closes_idle_connections_costs_nothing_once_the_gateway_knows() {
    let world = world(Setup::default());
    let backend = world.backend(21, 10 * MS, BodyShape::Whole, Some(SECOND));
    for number in 0..10 {
        world.at(number * 3 * SECOND, |speaker| async move { speaker.get_once("/").await });
    }
    world.run();
    assert_eq!((backend.request_count(), world.log.0.take()), (10, vec!["200 - via_upstream 1".to_owned(); 10]));
}

#[test]
fn a_route_timeout_answers_504() {
    let world = world(Setup { route_timeout: Some(50 * MS), ..Setup::default() });
    world.backend(21, 200 * MS, BodyShape::Whole, None);
    world.at(Duration::ZERO, |speaker| async move { speaker.get_once("/").await });
    assert_eq!(world.run(), ["54 504 24"]);
    assert_eq!(world.log.0.take(), ["504 UT upstream_response_timeout 1"]);
}

#[test]
fn a_draining_gateway_accepts_says_close_and_ends_after_five_seconds() {
    let world = world(Setup::default());
    world.backend(21, 10 * MS, BodyShape::Whole, None);
    world.sigterm_at(SECOND);
    // Idle before, used in the drain; idle all along; new in the drain; new after the end.
    for (dialled_ms, used_ms) in [(500, 3000), (500, 9000), (5900, 5900), (6100, 6100)] {
        world.at(dialled_ms * MS, move |speaker| async move {
            let Some(mut stream) = speaker.dial(8080).await else { return };
            if dialled_ms < 1000 {
                speaker.get(&mut stream, "/").await;
            }
            speaker.sim.sleep_until(SimTime::ZERO.after(used_ms * MS)).await;
            speaker.get(&mut stream, "/").await;
        });
    }
    world.at(900 * MS, |speaker| async move { ready(&speaker).await });
    world.at(1100 * MS, |speaker| async move { ready(&speaker).await });
    assert_eq!(
        world.run(),
        [
            "518 200 100",
            "518 200 100",
            "904 200 0",
            "1104 503 0",
            "3014 200 close 100",
            "5916 200 close 100",
            "6102 connection refused",
            "9000 closed",
        ]
    );
}

async fn ready(speaker: &Speaker) {
    if let Some(mut stream) = speaker.dial(15021).await {
        speaker.get(&mut stream, "/healthz/ready").await;
    }
}

#[test]
fn a_client_that_ignores_close_is_served_for_five_seconds_and_then_swallowed() {
    let world = world(Setup { shutdown: ShutdownMode::Drain { duration: 30 * SECOND }.moves(), ..Setup::default() });
    world.backend(21, 10 * MS, BodyShape::Whole, None);
    world.sigterm_at(SECOND);
    world.at(1990 * MS, |speaker| async move {
        let mut stream = speaker.dial(8080).await.unwrap();
        for second in 2..9 {
            speaker.sim.sleep_until(SimTime::ZERO.after(second * SECOND + MS)).await;
            speaker.get(&mut stream, "/").await;
        }
    });
    // First told at 2.014 s; the request of 7.001 s still comes in time, that of 8 s is swallowed until 8.014 s.
    let said = world.run();
    assert_eq!(
        said[..6],
        [
            "2017 200 close 100",
            "3015 200 close 100",
            "4015 200 close 100",
            "5015 200 close 100",
            "6015 200 close 100",
            "7015 200 close 100"
        ]
    );
    assert_eq!(said[6], "8017 reset");
}

#[test]
fn listeners_close_when_the_drain_time_ends_before_the_process() {
    let drain = DrainConfig { drain_time: 3 * SECOND, ..DrainConfig::ISTIO };
    let world =
        world(Setup { drain, shutdown: ShutdownMode::Drain { duration: 8 * SECOND }.moves(), ..Setup::default() });
    world.backend(21, 10 * MS, BodyShape::Whole, None);
    world.sigterm_at(SECOND);
    for at_ms in [3990, 4010] {
        world.at(at_ms * MS, |speaker| async move { speaker.get_once("/").await });
    }
    assert_eq!(world.run(), ["4008 200 close 100", "4012 connection refused"]);
}

#[test]
fn a_gradual_drain_tells_only_some_at_first() {
    let drain = DrainConfig { strategy: DrainStrategy::Gradual, ..DrainConfig::ISTIO };
    let world =
        world(Setup { drain, shutdown: ShutdownMode::Drain { duration: 40 * SECOND }.moves(), ..Setup::default() });
    world.backend(21, MS, BodyShape::Whole, None);
    world.sigterm_at(SECOND);
    for number in 0..400 {
        world.at(SECOND + number * 50 * MS, |speaker| async move { speaker.get_once("/").await });
    }
    let said = world.run();
    let told = |range: std::ops::Range<usize>| said[range].iter().filter(|line| line.contains("close")).count();
    // Shares of 0 to 22 % and 22 to 44 % on average 11 and 33 %.
    assert!(
        (8..40).contains(&told(0..200)) && (45..90).contains(&told(200..400)),
        "{} {}",
        told(0..200),
        told(200..400)
    );
}

#[test]
fn exit_on_zero_leaves_at_the_first_look_that_finds_nobody() {
    let world = world(Setup { shutdown: ShutdownMode::ExitOnZero { minimum: 5 * SECOND }.moves(), ..Setup::default() });
    world.backend(21, 10 * MS, BodyShape::Whole, None);
    world.sigterm_at(SECOND);
    // Held until 8.5 s: the looks at 7 and 8 s find it, that of 9 s does not.
    world.at(500 * MS, |speaker| async move {
        let stream = speaker.dial(8080).await;
        speaker.sim.sleep(8 * SECOND).await;
        drop(stream);
    });
    for at_ms in [8990, 9010] {
        world.at(at_ms * MS, |speaker| async move {
            let stream = speaker.dial(8080).await;
            speaker.say(if stream.is_some() { "accepted" } else { "gone" });
        });
    }
    assert_eq!(world.run(), ["8992 accepted", "9012 connection refused", "9012 gone"]);
}

#[test]
fn a_killed_process_ends_its_connections_in_order() {
    let world = world(Setup::default());
    world.backend(21, SECOND, BodyShape::Whole, None);
    let tasks = world.tasks.clone();
    world.at(100 * MS, |_| async move { tasks.abort() });
    world.at(Duration::ZERO, |speaker| async move { speaker.get_once("/").await });
    assert_eq!(world.run(), ["101 closed"]);
}

#[test]
fn two_runs_are_the_same() {
    let once = || {
        let world = world(Setup { endpoints: vec![21, 22, 23], ..Setup::default() });
        world.backend(21, 10 * MS, BodyShape::Whole, None);
        world.backend(23, 30 * MS, BodyShape::HalfFirst, Some(SECOND));
        for number in 0..100 {
            world.at(number * 7 * MS, |speaker| async move { speaker.get_once("/").await });
        }
        (world.run(), world.log.0.take(), world.sim.polls_total())
    };
    assert_eq!(once(), once());
}
