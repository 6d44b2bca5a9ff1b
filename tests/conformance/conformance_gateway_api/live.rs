//! The same cases on real sockets: `gatedrill gateway` with the manifests of a file, between a client and pods on the loopback.
//!
//! The process reads the manifests itself, as a user's does; it is told of each Service that a route names where its pods listen.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::case::Place;
use super::cluster::Cluster;
use crate::gateway_world::{Answer, Behavior, Reply, Request, Seen, What, joined};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Copies of requests that may or may not come have this time to come.
const LAST_COPIES: Duration = Duration::from_millis(300);

/// The gateway's process, and the pods.
pub(crate) struct Live {
    child: Child,
    /// What it said when it had started.
    told: String,
    /// Where it listens for each port of the manifests.
    ports: BTreeMap<u16, SocketAddr>,
    stage: Arc<Stage>,
    _folder: tempfile::TempDir,
}

/// What all pods share.
#[derive(Default)]
struct Stage {
    acts: Mutex<Acts>,
}

#[derive(Default)]
struct Acts {
    behavior: Behavior,
    served: usize,
    seen: Vec<Seen>,
}

impl Stage {
    fn acts(&self) -> MutexGuard<'_, Acts> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Starts the gateway of one Gateway with listeners for HTTP; none if it has none.
    pub(crate) fn start(cluster: &Cluster, gateway: &str) -> Option<Self> {
        let routing = cluster.routing(gateway);
        let stage = Arc::new(Stage::default());
        let mut standing: BTreeMap<SocketAddr, SocketAddr> = BTreeMap::new();
        let mut options = vec!["--gateway".to_owned(), gateway.to_owned()];
        for (_, port) in &routing.listeners {
            options.extend(["--listen".to_owned(), format!("{port}=127.0.0.1:0")]);
        }
        let mut named: Vec<(&str, u16)> =
            routing.upstreams.iter().map(|upstream| (upstream.service.as_str(), upstream.port)).collect();
        named.sort_unstable();
        named.dedup();
        for (service, port) in named {
            let mut addresses = Vec::new();
            for (pod, address) in cluster.endpoints(service, port) {
                let real = standing.entry(address).or_insert_with(|| stand(&stage, &pod, address.port()));
                addresses.push(real.to_string());
            }
            let (namespace, name) = service.split_once('/').expect("a key");
            if !addresses.is_empty() {
                options.extend(["--endpoint".to_owned(), format!("{name}.{namespace}:{port}={}", addresses.join(","))]);
            }
        }
        if routing.listeners.is_empty() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("manifests.yaml"), cluster.manifests()).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatedrill"));
        command.current_dir(folder.path()).env("NO_COLOR", "1").args(["gateway", "manifests.yaml"]).args(&options);
        // With the system's entropy one share in 370 would lie beyond three standard deviations by chance.
        command.args(["--workers", "1", "--seed", "1", "--access-log", "off"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut errors = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let (mut told, mut ports) = (String::new(), BTreeMap::new());
        while !told.contains("reload: kill -HUP") {
            let mut line = String::new();
            if errors.read_line(&mut line).expect("its words are text") == 0 {
                let _ = child.wait();
                panic!("{gateway} with {options:?} did not start: {told}");
            }
            if let Some((address, port)) =
                line.strip_prefix("listening on ").and_then(|rest| rest.split_once(" for port "))
            {
                ports.insert(port.trim().parse().expect("a port"), address.parse().expect("an address"));
            }
            told += &line;
        }
        // What it says later is of no interest, but it must not wait for a reader.
        thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Some(Self { child, told, ports, stage, _folder: folder })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place for Live {
    fn behave(&self, behavior: Behavior) {
        *self.stage.acts() = Acts { behavior, ..Acts::default() };
    }

    fn ask(&self, port: u16, request: &Request, copies: usize) -> Option<Answer> {
        let answer = exchange(*self.ports.get(&port)?, request).ok()?;
        // Copies go beside the answer.
        let until = Instant::now() + PATIENCE;
        while copies > 0 && self.stage.acts().seen.len() <= copies && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        Some(answer)
    }

    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.stage.acts().seen)
    }

    fn last_copies(&self) -> Vec<Seen> {
        thread::sleep(LAST_COPIES);
        self.seen()
    }

    fn log(&self) -> String {
        self.told.clone()
    }
}

fn invalid(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

/// A request on a connection of its own.
fn exchange(to: SocketAddr, request: &Request) -> std::io::Result<Answer> {
    let began_at = Instant::now();
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all((text + "\r\n").as_bytes())?;
    let mut buffer = Vec::new();
    let (status, headers) = loop {
        let head = read_head(&mut stream, &mut buffer, |bytes| {
            let mut room = [httparse::EMPTY_HEADER; 100];
            let mut head = httparse::Response::new(&mut room);
            let parsed = head.parse(bytes).ok()?;
            let httparse::Status::Complete(length) = parsed else { return Some(None) };
            Some(Some((length, (head.code?, owned(head.headers)))))
        })?;
        let (status, headers) = head.ok_or_else(|| invalid("closed without an answer"))?;
        if status >= 200 {
            break (status, headers);
        }
    };
    let has_none = request.method == "HEAD" || status == 204 || status == 304;
    let length = if has_none { Some(0) } else { joined(&headers, "content-length").and_then(|text| text.parse().ok()) };
    let length: usize = length.ok_or_else(|| invalid("an answer without a length"))?;
    let mut body = vec![0; length.saturating_sub(buffer.len())];
    stream.read_exact(&mut body)?;
    buffer.extend_from_slice(&body);
    Ok(Answer { status, headers, body: buffer, took: began_at.elapsed() })
}

/// A pod's port on a port that the system chooses, for as long as this process lives.
fn stand(stage: &Arc<Stage>, pod: &str, port: u16) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    let (stage, pod) = (Arc::clone(stage), pod.to_owned());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (stage, pod) = (Arc::clone(&stage), pod.clone());
            thread::spawn(move || serve(&stage, stream, &pod, port));
        }
    });
    address
}

/// Serves a connection to its end.
fn serve(stage: &Stage, mut stream: TcpStream, pod: &str, port: u16) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let head = read_head(&mut stream, &mut buffer, |bytes| {
            let mut room = [httparse::EMPTY_HEADER; 100];
            let mut head = httparse::Request::new(&mut room);
            let parsed = head.parse(bytes).ok()?;
            let httparse::Status::Complete(length) = parsed else { return Some(None) };
            Some(Some((length, (head.method?.to_owned(), head.path?.to_owned(), owned(head.headers)))))
        })?;
        let Some((method, target, headers)) = head else { return Ok(()) };
        let is_head = method == "HEAD";
        let Reply { after, what } = {
            let mut acts = stage.acts();
            acts.seen.push(Seen { pod: pod.to_owned(), port, method, target, headers, body: Vec::new() });
            acts.served += 1;
            acts.behavior.first.get(acts.served - 1).unwrap_or(&acts.behavior.then).clone()
        };
        thread::sleep(after);
        match what {
            What::Reset => return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
            What::Close => return Ok(()),
            What::Answer { status, headers } => {
                let body = if status == 204 || status == 304 { "" } else { pod };
                let mut text = format!("HTTP/1.1 {status} Status\r\n");
                for (name, value) in &headers {
                    text += &format!("{name}: {value}\r\n");
                }
                text += &format!("content-length: {}\r\n\r\n", body.len());
                stream.write_all((text + if is_head { "" } else { body }).as_bytes())?;
            }
        }
    }
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect()
}

/// Reads a head and takes it out of the buffer; none if the connection ends before.
fn read_head<T>(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    parse: impl Fn(&[u8]) -> Option<Option<(usize, T)>>,
) -> std::io::Result<Option<T>> {
    loop {
        if let Some((length, head)) = parse(buffer).ok_or_else(|| invalid("no HTTP"))? {
            buffer.drain(..length);
            return Ok(Some(head));
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Ok(None);
        }
        buffer.extend_from_slice(&piece[..count]);
    }
}
