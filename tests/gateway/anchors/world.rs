//! A real gateway between one client host and many backends, all a microsecond apart.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gatedrill::backend::{Backend, BackendConfig, BodyShape};
use gatedrill::drill::pod_host::{Cpu, CpuCosts, PodHost};
use gatedrill::engine::{Delay, Sim, Streams, TaskGroup};
use gatedrill::gateway::routes::{Action, Forward, PathMatch, Route, RouteMatch, Routes, VirtualHost};
use gatedrill::gateway::{
    AccessRecord, ClusterConfig, DownstreamConfig, DrainConfig, EndpointConfig, Gateway, GatewayConfig, Observer,
};
use gatedrill::net::{Host, LinkConfig, Net, TcpStream};
use gatedrill::units::SimTime;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);

/// The cluster that every world has.
pub(crate) const WEB: &str = "web";

/// Every link: half a microsecond each way.
pub(crate) fn link() -> LinkConfig {
    LinkConfig { latency: Duration::from_nanos(500), ..LinkConfig::default() }
}

/// The address of a backend.
pub(crate) fn endpoint(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 1, high, low), 80))
}

/// What the gateway wrote of its requests.
#[derive(Default)]
struct Log(RefCell<Vec<AccessRecord>>);

impl Observer for Log {
    fn finished(&self, record: &AccessRecord) {
        self.0.borrow_mut().push(record.clone());
    }
}

/// The world.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) net: Net,
    streams: Streams,
    client: Host,
    gateway: Gateway<PodHost>,
    log: Rc<Log>,
    backends: RefCell<Vec<(Host, Backend)>>,
    /// Connections to the gateway that are free.
    idle: Rc<RefCell<Vec<TcpStream>>>,
}

impl World {
    /// A gateway with one route, and these clusters beside [`WEB`].
    pub(crate) fn new(seed: u64, forward: Forward, config: ClusterConfig, others: &[&str]) -> Self {
        let (sim, streams) = (Sim::new(), Streams::new(seed));
        let net = Net::new(&sim, streams);
        let client = net.attach(CLIENT, link());
        let cpu = Rc::new(Cpu::new(CpuCosts { request: Duration::ZERO, connection: Duration::ZERO }, 1, None));
        let pod = net.attach(GATEWAY, link());
        let worker = PodHost::new(&sim, pod, TaskGroup::new(&sim), streams.stream("worker", "0"), cpu, 0);
        let path = RouteMatch::path(PathMatch::Prefix("/".to_owned()));
        let mut routes = Routes::default();
        routes.add(80, VirtualHost::new("*", vec![Arc::new(Route::new("all", path, Action::Forward(forward)))]));
        let clusters = others.iter().chain(&[WEB]).map(|name| (Arc::from(*name), config)).collect();
        let config = GatewayConfig {
            listeners: vec![(8080, 80)],
            clusters,
            downstream: DownstreamConfig::in_drill(),
            drain: DrainConfig::ISTIO,
        };
        let log = Rc::new(Log::default());
        let observer = Rc::clone(&log) as Rc<dyn Observer>;
        let gateway = Gateway::start(vec![worker], config, Rc::new(routes), observer).expect("ports are free");
        Self { sim, net, streams, client, gateway, log, backends: RefCell::default(), idle: Rc::default() }
    }

    /// Starts a backend that serves one request at a time.
    pub(crate) fn serve(&self, number: u16, service_time: Delay) {
        let config = BackendConfig {
            service_time,
            concurrency: 1,
            error_ppm: 0,
            keep_alive: None,
            body: BodyShape::Whole,
            body_bytes: 0,
        };
        let SocketAddr::V4(address) = endpoint(number) else { unreachable!("backends have IPv4 addresses") };
        let host = self.net.attach(*address.ip(), link());
        let backend = Backend::start(&self.sim, self.streams, &host, [80], config).expect("the host is there");
        self.backends.borrow_mut().push((host, backend));
    }

    /// Makes these the endpoints of a cluster.
    pub(crate) fn set_endpoints(&self, cluster: &str, numbers: impl Iterator<Item = u16>) {
        let endpoints: Vec<_> = numbers.map(|number| EndpointConfig::new(endpoint(number))).collect();
        self.gateway.set_endpoints(cluster, &gatedrill::gateway::LoadAssignment::new(endpoints));
    }

    /// Sends so many requests, number `n` with the headers that `headers(n)` has, each after a pause: each on a connection that is free, or
    /// else on a new one. Ends when all are answered.
    pub(crate) fn send(&self, count: u32, pause: &Delay, headers: impl Fn(u32) -> String + 'static) -> Vec<Sent> {
        let sent: Rc<RefCell<Vec<Sent>>> = Rc::default();
        let (sim, client, idle) = (self.sim.clone(), self.client.clone(), Rc::clone(&self.idle));
        let (told, pause, mut gaps) = (Rc::clone(&sent), pause.clone(), self.streams.stream("arrivals", "client"));
        self.sim.spawn("arrivals", async move {
            for number in 0..count {
                sim.sleep(pause.draw(&mut gaps)).await;
                let head = format!("GET /{number} HTTP/1.1\r\nhost: shop\r\n{}\r\n", headers(number));
                let (clock, client, idle, told) = (sim.clone(), client.clone(), Rc::clone(&idle), Rc::clone(&told));
                sim.spawn("request", async move {
                    let at = clock.now();
                    let free = idle.borrow_mut().pop();
                    let stream = match free {
                        Some(stream) => Ok(stream),
                        None => client.connect(SocketAddrV4::new(GATEWAY, 8080)).await,
                    };
                    let mut stream = stream.expect("the gateway accepts");
                    let answer = exchange(&mut stream, &head).await.expect("the gateway answers");
                    idle.borrow_mut().push(stream);
                    told.borrow_mut().push(Sent { number, at, took: clock.now().since(at), answer });
                });
            }
        });
        while sent.borrow().len() < usize::try_from(count).expect("a small number") {
            self.sim.run_until(self.sim.now().after(Duration::from_secs(1))).expect("the world goes on");
        }
        let mut sent = sent.take();
        sent.sort_by_key(|sent| sent.number);
        sent
    }

    /// What the gateway wrote since it was asked last, in the order of the requests of one call of [`Self::send`].
    pub(crate) fn log(&self) -> Vec<AccessRecord> {
        let mut records = self.log.0.take();
        records.sort_by_key(|record| record.uri.path()[1..].parse::<u32>().expect("a path is a number"));
        records
    }
}

/// A request and what became of it.
pub(crate) struct Sent {
    /// Its number.
    pub(crate) number: u32,
    /// When it was sent.
    pub(crate) at: SimTime,
    /// From then to the end of the answer.
    pub(crate) took: Duration,
    /// The head of the answer.
    pub(crate) answer: String,
}

/// The head of the answer, when its body is here too.
async fn exchange(stream: &mut TcpStream, request: &str) -> Option<String> {
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(head.to_owned());
            }
        }
        if stream.read(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
