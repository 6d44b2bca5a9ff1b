//! A real gateway in virtual time, between a client that sends one request after another and pods that remember what they saw.
//!
//! Client and pods speak HTTP/1.1 with parsers of their own: what goes over the wire is what a test wrote, and what a test reads is what
//! went over the wire. The network takes half a millisecond each way. A test binary takes this in with
//! `#[path = "support/gateway_world.rs"] mod gateway_world;`.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gatedrill::drill::pod_host::{Cpu, CpuCosts, PodHost};
use gatedrill::engine::{Sim, Streams, TaskGroup};
use gatedrill::gateway::routes::Routes;
use gatedrill::gateway::{
    AccessRecord, ClusterConfig, DownstreamConfig, DrainConfig, EndpointConfig, Gateway, GatewayConfig, Observer,
    Policy,
};
use gatedrill::net::{Host, LinkConfig, Net, TcpStream};

/// The client's address.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The gateway's address.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);

const STEP: Duration = Duration::from_millis(100);
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(120);
const LATENCY: Duration = Duration::from_micros(500);

/// What a world begins with.
pub(crate) struct Setup {
    /// Where all its randomness comes from.
    pub(crate) seed: u64,
    /// The ports that the gateway binds, each with the port by which its routes know it.
    pub(crate) listeners: Vec<(u16, u16)>,
    /// Its routes.
    pub(crate) routes: Routes,
    /// Its clusters.
    pub(crate) clusters: Vec<Cluster>,
    /// The pods behind it.
    pub(crate) pods: Vec<Pod>,
}

/// A cluster of the gateway.
pub(crate) struct Cluster {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// How requests are spread.
    pub(crate) config: ClusterConfig,
    /// Where they go.
    pub(crate) endpoints: Vec<SocketAddr>,
}

/// A pod that answers.
pub(crate) struct Pod {
    /// By this name it appears in what was seen.
    pub(crate) name: String,
    /// Its address.
    pub(crate) ip: Ipv4Addr,
    /// Where it listens.
    pub(crate) ports: Vec<u16>,
}

/// What pods do.
#[derive(Clone, Default, Debug)]
pub(crate) struct Behavior {
    /// With the first requests, over all pods, in this order.
    pub(crate) first: Vec<Reply>,
    /// With all others.
    pub(crate) then: Reply,
}

/// What a pod does with a request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// After this time.
    pub(crate) after: Duration,
    /// What.
    pub(crate) what: What,
}

/// What a pod does with a request when its time has come.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// It answers.
    Answer {
        /// The status.
        status: u16,
        /// Headers beside the length.
        headers: Vec<(String, String)>,
    },
    /// It resets the connection.
    Reset,
    /// It closes the connection.
    Close,
}

/// 200, at once.
impl Default for Reply {
    fn default() -> Self {
        Self { after: Duration::ZERO, what: What::Answer { status: 200, headers: Vec::new() } }
    }
}

/// A request as it goes over the wire; nothing is added but the length of a body.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The method.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Headers, `host` too.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

/// An answer as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// All headers, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body.
    pub(crate) body: Vec<u8>,
    /// From the connect to the last byte.
    pub(crate) took: Duration,
}

/// A request as a pod saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The pod.
    pub(crate) pod: String,
    /// The port it came to.
    pub(crate) port: u16,
    /// The method.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// All headers, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub(crate) fn new(method: &str, host: &str, target: &str) -> Self {
        let headers = vec![("host".to_owned(), host.to_owned())];
        Self { method: method.to_owned(), target: target.to_owned(), headers, body: Vec::new() }
    }

    /// The same with one more header.
    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The values of a header, joined by commas; none if it is not there.
#[must_use]
pub(crate) fn joined(headers: &[(String, String)], name: &str) -> Option<String> {
    let values = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

#[derive(Default)]
struct Log(RefCell<Vec<AccessRecord>>);

impl Observer for Log {
    fn finished(&self, record: &AccessRecord) {
        self.0.borrow_mut().push(record.clone());
    }
}

/// The world.
pub(crate) struct World {
    sim: Sim,
    client: Host,
    gateway: Gateway<PodHost>,
    log: Rc<Log>,
    stage: Rc<Stage>,
}

/// What all pods share.
struct Stage {
    sim: Sim,
    behavior: RefCell<Behavior>,
    served: Cell<usize>,
    seen: RefCell<Vec<Seen>>,
}

impl World {
    /// A world where all is ready.
    ///
    /// # Panics
    ///
    /// If two pods have one address, or a port is bound twice.
    #[must_use]
    pub(crate) fn new(setup: Setup) -> Self {
        let (sim, streams) = (Sim::new(), Streams::new(setup.seed));
        let net = Net::new(&sim, streams);
        let link = || LinkConfig { latency: LATENCY, ..LinkConfig::default() };
        let client = net.attach(CLIENT, link());
        let host = net.attach(GATEWAY, link());
        let tasks = TaskGroup::new(&sim);
        let cpu = Rc::new(Cpu::new(CpuCosts { request: Duration::ZERO, connection: Duration::ZERO }, 1, None));
        let worker = PodHost::new(&sim, host, tasks, streams.stream("worker", "0"), cpu, 0);
        let stage = Rc::new(Stage {
            sim: sim.clone(),
            behavior: RefCell::default(),
            served: Cell::new(0),
            seen: RefCell::default(),
        });
        for pod in setup.pods {
            let host = net.attach(pod.ip, link());
            for port in pod.ports {
                stand(&stage, &host, &pod.name, port);
            }
        }
        let config = GatewayConfig {
            listeners: setup.listeners,
            clusters: setup.clusters.iter().map(|cluster| (Arc::clone(&cluster.name), cluster.config)).collect(),
            downstream: DownstreamConfig::ISTIO_GATEWAY,
            drain: DrainConfig::ISTIO,
        };
        let log = Rc::new(Log::default());
        let observer = Rc::clone(&log) as Rc<dyn Observer>;
        let gateway = Gateway::start(vec![worker], config, Rc::new(setup.routes), observer).expect("ports are free");
        for cluster in &setup.clusters {
            let endpoints: Vec<_> = cluster.endpoints.iter().copied().map(EndpointConfig::new).collect();
            gateway.set_endpoints(&cluster.name, &gatedrill::gateway::LoadAssignment::new(endpoints));
        }
        Self { sim, client, gateway, log, stage }
    }

    /// The gateway.
    #[must_use]
    pub(crate) fn gateway(&self) -> &Gateway<PodHost> {
        &self.gateway
    }

    /// From now on pods do this; requests are counted anew.
    pub(crate) fn behave(&self, behavior: Behavior) {
        *self.stage.behavior.borrow_mut() = behavior;
        self.stage.served.set(0);
    }

    /// Sends a request to a port of the gateway, on a connection of its own. None if no answer comes.
    ///
    /// What goes on beside the answer, such as copies of the request, has 100 ms to end.
    ///
    /// # Panics
    ///
    /// If the world makes no progress.
    #[must_use]
    pub(crate) fn ask(&self, port: u16, request: &Request) -> Option<Answer> {
        let answer: Rc<RefCell<Option<Option<Answer>>>> = Rc::default();
        let (sim, client, request, told) = (self.sim.clone(), self.client.clone(), request.clone(), Rc::clone(&answer));
        self.sim.spawn("client", async move {
            let got = exchange(&sim, &client, SocketAddrV4::new(GATEWAY, port), &request).await;
            *told.borrow_mut() = Some(got);
        });
        let mut waited = Duration::ZERO;
        while answer.borrow().is_none() && waited < PATIENCE {
            self.pass(STEP);
            waited += STEP;
        }
        self.pass(STEP);
        answer.take().flatten()
    }

    /// Lets time pass.
    ///
    /// # Panics
    ///
    /// If the world makes no progress.
    pub(crate) fn pass(&self, time: Duration) {
        self.sim.run_until(self.sim.now().after(time)).expect("the world goes on");
    }

    /// What pods saw since it was asked last, in order.
    #[must_use]
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.stage.seen.take()
    }

    /// What the gateway wrote into its log since it was asked last.
    #[must_use]
    pub(crate) fn log(&self) -> Vec<AccessRecord> {
        self.log.0.take()
    }
}

async fn exchange(sim: &Sim, client: &Host, to: SocketAddrV4, request: &Request) -> Option<Answer> {
    let began_at = sim.now();
    let mut stream = client.connect(to).await.ok()?;
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.target).into_bytes();
    for (name, value) in &request.headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !request.body.is_empty() {
        bytes.extend_from_slice(format!("content-length: {}\r\n", request.body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&request.body);
    stream.write_all(&bytes).await.ok()?;
    let mut buffer = Vec::new();
    let (status, headers) = loop {
        let head = read_head(&mut stream, &mut buffer, |bytes| {
            let mut room = [httparse::EMPTY_HEADER; 100];
            let mut head = httparse::Response::new(&mut room);
            let length = head.parse(bytes).ok()?;
            let httparse::Status::Complete(length) = length else { return Some(None) };
            Some(Some((length, (head.code?, owned(head.headers)))))
        });
        let (status, headers) = head.await?;
        if status >= 200 {
            break (status, headers);
        }
    };
    let has_none = request.method == "HEAD" || status == 204 || status == 304;
    let body = if has_none { Vec::new() } else { read_body(&mut stream, &mut buffer, &headers, true).await? };
    Some(Answer { status, headers, body, took: sim.now().since(began_at) })
}

/// Listens on a port of a pod for as long as the world stands.
fn stand(stage: &Rc<Stage>, host: &Host, name: &str, port: u16) {
    let listener = host.listen(port, 128).expect("a port of its own");
    let (stage, name) = (Rc::clone(stage), name.to_owned());
    stage.sim.clone().spawn("pod", async move {
        loop {
            let stream = listener.accept().await;
            let (stage, name) = (Rc::clone(&stage), name.clone());
            stage.sim.clone().spawn("pod-connection", async move {
                serve(&stage, stream, &name, port).await;
            });
        }
    });
}

/// Serves a connection to its end.
async fn serve(stage: &Stage, mut stream: TcpStream, name: &str, port: u16) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let head = read_head(&mut stream, &mut buffer, |bytes| {
            let mut room = [httparse::EMPTY_HEADER; 100];
            let mut head = httparse::Request::new(&mut room);
            let length = head.parse(bytes).ok()?;
            let httparse::Status::Complete(length) = length else { return Some(None) };
            Some(Some((length, (head.method?.to_owned(), head.path?.to_owned(), owned(head.headers)))))
        });
        let (method, target, headers) = head.await?;
        let body = read_body(&mut stream, &mut buffer, &headers, false).await?;
        let is_head = method == "HEAD";
        stage.seen.borrow_mut().push(Seen { pod: name.to_owned(), port, method, target, headers, body });
        let number = stage.served.replace(stage.served.get() + 1);
        let Reply { after, what } = {
            let behavior = stage.behavior.borrow();
            behavior.first.get(number).unwrap_or(&behavior.then).clone()
        };
        stage.sim.sleep(after).await;
        match what {
            What::Reset => {
                stream.abort();
                return None;
            }
            What::Close => return None,
            What::Answer { status, headers } => {
                let body = if status == 204 || status == 304 { "" } else { name };
                let mut text = format!("HTTP/1.1 {status} Status\r\n");
                for (name, value) in &headers {
                    text += &format!("{name}: {value}\r\n");
                }
                text += &format!("content-length: {}\r\n\r\n", body.len());
                if !is_head {
                    text += body;
                }
                stream.write_all(text.as_bytes()).await.ok()?;
            }
        }
    }
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect()
}

/// A head with its length in bytes; none while it is not complete.
type Parsed<T> = Option<(usize, T)>;

/// Reads a head and takes it out of the buffer. None if the connection ends, or sends what is no HTTP.
async fn read_head<T>(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    parse: impl Fn(&[u8]) -> Option<Parsed<T>>,
) -> Option<T> {
    loop {
        if let Some((length, head)) = parse(buffer)? {
            buffer.drain(..length);
            return Some(head);
        }
        if stream.read(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// Reads a body and takes it out of the buffer; `to_end` if it may go to the end of the connection.
async fn read_body(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    headers: &[(String, String)],
    to_end: bool,
) -> Option<Vec<u8>> {
    if joined(headers, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        let mut body = Vec::new();
        loop {
            let (start, length) = loop {
                if let httparse::Status::Complete((start, length)) = httparse::parse_chunk_size(buffer).ok()? {
                    break (start, usize::try_from(length).ok()?);
                }
                if stream.read(buffer).await.ok()? == 0 {
                    return None;
                }
            };
            // A chunk, or the end of the trailers, which nobody sends here, ends with an empty line.
            while buffer.len() < start + length + 2 {
                if stream.read(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            body.extend_from_slice(&buffer[start..start + length]);
            buffer.drain(..start + length + 2);
            if length == 0 {
                return Some(body);
            }
        }
    }
    let length = match joined(headers, "content-length") {
        Some(text) => text.parse().ok()?,
        None if to_end => usize::MAX,
        None => 0,
    };
    while buffer.len() < length {
        if stream.read(buffer).await.ok()? == 0 {
            return (length == usize::MAX).then(|| std::mem::take(buffer));
        }
    }
    Some(buffer.drain(..length).collect())
}

/// The world itself; also so that every binary uses all of it.
mod tests {
    use gatedrill::gateway::routes::{Action, Destination, Forward, PathMatch, Route, RouteMatch, VirtualHost};

    use super::*;

    fn world() -> World {
        let pods: Vec<Pod> = [21, 22]
            .iter()
            .map(|last| Pod { name: format!("pod-{last}"), ip: Ipv4Addr::new(10, 0, 0, *last), ports: vec![3000] })
            .collect();
        let name: Arc<str> = Arc::from("web");
        let forward = Forward::to(vec![Destination::cluster(Arc::clone(&name), 1)]);
        let path = RouteMatch::path(PathMatch::Prefix("/".to_owned()));
        let mut routes = Routes::default();
        let route = Arc::new(Route::new("all", path, Action::Forward(forward)));
        routes.add(80, VirtualHost::new("*", vec![route]));
        let endpoints = pods.iter().map(|pod| SocketAddr::V4(SocketAddrV4::new(pod.ip, 3000))).collect();
        let clusters = vec![Cluster { name, config: ClusterConfig::balanced(Policy::RoundRobin), endpoints }];
        World::new(Setup { seed: 1, listeners: vec![(8080, 80)], routes, clusters, pods })
    }

    #[test]
    fn pods_remember_what_they_saw_and_do_as_they_are_told() {
        let world = world();
        let mut request = Request::new("POST", "shop", "/cart?id=1").header("x-a", "1").header("X-A", "2");
        request.body = b"two books".to_vec();
        let late = Reply { after: Duration::from_millis(10), ..Reply::default() };
        let headers = vec![("x-b".to_owned(), "3".to_owned())];
        let busy = Reply { after: Duration::ZERO, what: What::Answer { status: 429, headers } };
        world.behave(Behavior { first: vec![late], then: busy });
        let first = world.ask(8080, &request).expect("an answer");
        assert_eq!((first.status, first.took.as_millis() >= 10), (200, true));
        let second = world.ask(8080, &request).expect("an answer");
        assert_eq!((second.status, joined(&second.headers, "X-B").as_deref()), (429, Some("3")));
        let seen = world.seen();
        assert_eq!(seen.len(), 2);
        assert_ne!(seen[0].pod, seen[1].pod, "the pods take turns");
        assert_eq!(second.body, seen[1].pod.as_bytes());
        let Seen { port, method, target, headers, body, .. } = &seen[1];
        assert_eq!(
            (*port, method.as_str(), target.as_str(), &body[..]),
            (3000, "POST", "/cart?id=1", &b"two books"[..])
        );
        assert_eq!(joined(headers, "x-a").as_deref(), Some("1,2"));
        assert_eq!(world.log().len(), 2);
        assert_eq!(world.gateway().connection_count(), 0);
    }

    #[test]
    fn pods_reset_and_close() {
        for what in [What::Reset, What::Close] {
            let world = world();
            world.behave(Behavior { first: Vec::new(), then: Reply { after: Duration::ZERO, what } });
            let answer = world.ask(8080, &Request::new("HEAD", "shop", "/"));
            assert_eq!(answer.map(|answer| answer.status), Some(503));
        }
        assert!(world().ask(8081, &Request::new("GET", "shop", "/")).is_none(), "nobody listens there");
    }
}
