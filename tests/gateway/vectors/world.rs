//! A gateway between clients and pods, 1 ms apart, where every test says what clients send when, and what pods do with it.
//!
//! Clients and pods speak HTTP/1.1 with parsers of their own, so that both can break off anywhere.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gatedrill::drill::pod_host::{Cpu, CpuCosts, PodHost};
use gatedrill::engine::{Sim, Streams, TaskGroup};
use gatedrill::gateway::outlier::Detection;
use gatedrill::gateway::routes::{Action, Fault, Forward, PathMatch, Route, RouteMatch, Routes, VirtualHost};
use gatedrill::gateway::{
    AccessRecord, ClusterConfig, Destination, DownstreamConfig, DrainConfig, EndpointConfig, Gateway, GatewayConfig,
    LoadAssignment, Observer,
};
use gatedrill::net::{Host, LinkConfig, Net, TcpStream};
use gatedrill::units::SimTime;

/// The beginning of all time.
pub(crate) const NOW: Duration = Duration::ZERO;
pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// The cluster that the route leads to.
pub(crate) const WEB: &str = "web";
/// A cluster that a test may use beside it.
pub(crate) const COPY: &str = "copy";

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);

/// What a world begins with.
pub(crate) struct Setup {
    pub(crate) forward: Forward,
    pub(crate) fault: Option<Fault>,
    pub(crate) config: ClusterConfig,
}

/// Istio's defaults.
impl Default for Setup {
    fn default() -> Self {
        let forward = Forward::to(vec![Destination::cluster(WEB, 1)]);
        Self { forward, fault: None, config: ClusterConfig::ISTIO }
    }
}

/// What a pod does with a request.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    /// It answers at once.
    Status(u16),
    /// It answers 200 after a time.
    After(Duration),
    /// It sends head and half of the body of a 200 at once, and the rest after a time.
    HalfThen(Duration),
    /// The same, but it resets the connection in place of the rest.
    HalfThenReset(Duration),
    /// It resets the connection.
    Reset,
    /// It answers when it has the head, and then reads on; what comes after that is not a request to it.
    Early(u16),
}

/// A request as a pod saw it.
pub(crate) struct Seen {
    pub(crate) at: SimTime,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// An answer as a client saw it.
pub(crate) struct Answer {
    pub(crate) at: SimTime,
    pub(crate) head: String,
    /// Less than the head says, if the connection broke off.
    pub(crate) body_bytes: usize,
}

impl Answer {
    /// Milliseconds, status and length of the body.
    pub(crate) fn line(&self) -> String {
        let status = self.head.split(' ').nth(1).unwrap_or("none");
        format!("{} {status} {}", self.at.as_nanos() / 1_000_000, self.body_bytes)
    }
}

/// What the gateway says of itself.
struct Witness {
    sim: Sim,
    log: RefCell<Vec<String>>,
    ejections: RefCell<Vec<(SimTime, String)>>,
}

impl Observer for Witness {
    fn finished(&self, record: &AccessRecord) {
        let status = record.status.map_or(0, |status| status.as_u16());
        self.log.borrow_mut().push(format!("{status} {} {} {}", record.flags, record.details, record.attempts));
    }

    fn host_ejected(&self, _: &str, endpoint: SocketAddr, _: Detection) {
        self.ejections.borrow_mut().push((self.sim.now(), format!("{endpoint} out")));
    }

    fn host_returned(&self, _: &str, endpoint: SocketAddr) {
        self.ejections.borrow_mut().push((self.sim.now(), format!("{endpoint} back")));
    }
}

pub(crate) struct World {
    pub(crate) sim: Sim,
    net: Net,
    client: Host,
    gateway: Gateway<PodHost>,
    witness: Rc<Witness>,
    answers: Rc<RefCell<BTreeMap<usize, Answer>>>,
    sent_count: RefCell<usize>,
    hosts: RefCell<Vec<Host>>,
}

pub(crate) fn endpoint(last: u8) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 80))
}

fn link() -> LinkConfig {
    LinkConfig { latency: MS / 2, ..LinkConfig::default() }
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let (sim, streams) = (Sim::new(), Streams::new(1));
        let net = Net::new(&sim, streams);
        let client = net.attach(Ipv4Addr::new(10, 0, 0, 1), link());
        let pod = net.attach(GATEWAY, link());
        let cpu = Rc::new(Cpu::new(CpuCosts { request: Duration::ZERO, connection: Duration::ZERO }, 1, None));
        let worker = PodHost::new(&sim, pod, TaskGroup::new(&sim), streams.stream("worker", "0"), cpu, 0);
        let path = RouteMatch::path(PathMatch::Prefix("/".to_owned()));
        let route = Route { fault: setup.fault, ..Route::new("all", path, Action::Forward(setup.forward)) };
        let mut routes = Routes::default();
        routes.add(80, VirtualHost::new("*", vec![Arc::new(route)]));
        let config = GatewayConfig {
            listeners: vec![(8080, 80)],
            clusters: [WEB, COPY].map(|name| (Arc::from(name), setup.config)).into(),
            downstream: DownstreamConfig::in_drill(),
            drain: DrainConfig::ISTIO,
        };
        let witness = Rc::new(Witness { sim: sim.clone(), log: RefCell::default(), ejections: RefCell::default() });
        let observer = Rc::clone(&witness) as Rc<dyn Observer>;
        let gateway = Gateway::start(vec![worker], config, Rc::new(routes), observer).expect("ports are free");
        Self {
            sim,
            net,
            client,
            gateway,
            witness,
            answers: Rc::default(),
            sent_count: RefCell::default(),
            hosts: RefCell::default(),
        }
    }

    /// Makes these the endpoints of a cluster.
    pub(crate) fn set_endpoints(&self, cluster: &str, endpoints: impl Iterator<Item = u8>) {
        let endpoints: Vec<_> = endpoints.map(endpoint).map(EndpointConfig::new).collect();
        self.configure_endpoints(cluster, &endpoints);
    }

    /// The same, each as it is given.
    pub(crate) fn configure_endpoints(&self, cluster: &str, endpoints: &[EndpointConfig]) {
        self.gateway.set_endpoints(cluster, &LoadAssignment::new(endpoints.to_vec()));
    }

    /// A host without a server: it refuses connections.
    pub(crate) fn refuse(&self, last: u8) {
        self.hosts.borrow_mut().push(self.net.attach(Ipv4Addr::new(10, 0, 0, last), link()));
    }

    /// A pod; `act` is told the time and the number of the request, and says what becomes of it.
    pub(crate) fn pod(&self, last: u8, act: impl Fn(SimTime, usize) -> Act + 'static) -> Rc<RefCell<Vec<Seen>>> {
        let host = self.net.attach(Ipv4Addr::new(10, 0, 0, last), link());
        let listener = host.listen(80, 4096).expect("a port of its own");
        self.hosts.borrow_mut().push(host);
        let seen: Rc<RefCell<Vec<Seen>>> = Rc::default();
        let (sim, told, act) = (self.sim.clone(), Rc::clone(&seen), Rc::new(act));
        self.sim.spawn("pod", async move {
            loop {
                let stream = listener.accept().await;
                let (clock, told, act) = (sim.clone(), Rc::clone(&told), Rc::clone(&act));
                sim.spawn("pod-connection", async move {
                    serve(&clock, stream, &told, &*act).await;
                });
            }
        });
        seen
    }

    /// Sends a request without a body, on a connection of its own.
    pub(crate) fn get_at(&self, at: Duration) {
        self.send_at(at, "GET / HTTP/1.1\r\nhost: shop\r\n\r\n", &[]);
    }

    /// Sends a head, and then the parts of a body, each after a pause, on a connection of its own.
    pub(crate) fn send_at(&self, at: Duration, head: &str, body: &[(Duration, usize)]) {
        let number = self.sent_count.replace_with(|count| *count + 1);
        let (sim, client, answers) = (self.sim.clone(), self.client.clone(), Rc::clone(&self.answers));
        let (head, body) = (head.to_owned(), body.to_vec());
        self.sim.spawn("client", async move {
            sim.sleep_until(SimTime::ZERO.after(at)).await;
            let stream = client.connect(SocketAddrV4::new(GATEWAY, 8080)).await;
            let mut stream = stream.expect("the gateway accepts");
            let mut sent = stream.write_all(head.as_bytes()).await;
            for (pause, bytes) in body {
                sim.sleep(pause).await;
                if sent.is_ok() {
                    sent = stream.write_all(&pattern(bytes)).await;
                }
            }
            let (head, body) = read_message(&mut stream).await.unwrap_or_default();
            let answer = Answer { at: sim.now(), head, body_bytes: body.len() };
            answers.borrow_mut().insert(number, answer);
        });
    }

    /// All that happens until then; the answers so far, in the order in which their requests were given to this world.
    pub(crate) fn run_until(&self, end: Duration) -> Vec<Answer> {
        self.sim.run_until(SimTime::ZERO.after(end)).expect("the world goes on");
        self.answers.take().into_values().collect()
    }

    /// The same, as lines.
    pub(crate) fn lines_until(&self, end: Duration) -> Vec<String> {
        self.run_until(end).iter().map(Answer::line).collect()
    }

    /// `status flags details tries` of each request, in the order of their ends.
    pub(crate) fn log(&self) -> Vec<String> {
        self.witness.log.take()
    }

    /// When endpoints were taken out and put back.
    pub(crate) fn ejections(&self) -> Vec<(SimTime, String)> {
        self.witness.ejections.take()
    }
}

/// A body of which every part can be told from every other.
pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    (0..251).cycle().take(bytes).collect()
}

async fn serve(
    sim: &Sim,
    mut stream: TcpStream,
    seen: &RefCell<Vec<Seen>>,
    act: &dyn Fn(SimTime, usize) -> Act,
) -> Option<()> {
    loop {
        let (head, mut body) = read_head(&mut stream).await?;
        let number = seen.borrow().len();
        let act = act(sim.now(), number);
        if !matches!(act, Act::Early(_)) {
            read_body(&mut stream, &head, &mut body).await;
        }
        seen.borrow_mut().push(Seen { at: sim.now(), head, body });
        match act {
            Act::Early(status) => {
                answer(&mut stream, status).await?;
                while stream.read(&mut Vec::new()).await.ok()? > 0 {}
                return None;
            }
            Act::Reset => {
                stream.abort();
                return None;
            }
            Act::Status(status) => answer(&mut stream, status).await?,
            Act::After(time) => {
                sim.sleep(time).await;
                answer(&mut stream, 200).await?;
            }
            Act::HalfThen(time) | Act::HalfThenReset(time) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345").await.ok()?;
                sim.sleep(time).await;
                if matches!(act, Act::HalfThenReset(_)) {
                    stream.abort();
                    return None;
                }
                stream.write_all(b"67890").await.ok()?;
            }
        }
    }
}

async fn answer(stream: &mut TcpStream, status: u16) -> Option<()> {
    let text = format!("HTTP/1.1 {status} Status\r\ncontent-length: 10\r\n\r\n1234567890");
    stream.write_all(text.as_bytes()).await.ok()
}

/// A head in lower case and a body, as much of it as comes. None if nothing comes.
async fn read_message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (head, mut body) = read_head(stream).await?;
    read_body(stream, &head, &mut body).await;
    Some((head, body))
}

/// A head in lower case, and what came behind it.
async fn read_head(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end;
        }
        if stream.read(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    Some((head, bytes.split_off(end + 4)))
}

/// The rest of a body, as much of it as comes.
async fn read_body(stream: &mut TcpStream, head: &str, body: &mut Vec<u8>) {
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap_or(0);
    while body.len() < length && stream.read(body).await.unwrap_or(0) > 0 {}
}
