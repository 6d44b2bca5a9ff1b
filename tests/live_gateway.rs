//! `gatedrill gateway` with real clients: curl, wrk, and a client of our own where it matters which request met which fate.
//!
//! Everything is on the loopback, on ports the system chooses, and ends by itself. Where curl or wrk is not installed, its tests say so
//! and do nothing; the gate installs both.

#![cfg(unix)]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes, real sockets, real time")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two services on `shop.example.com`: `/api/` to one, the rest to the other.
const SHOP: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: shop, namespace: istio-system }
spec:
  selector: { istio: edge }
  servers:
    - port: { number: 80, name: http, protocol: HTTP }
      hosts: [\"shop.example.com\"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop, namespace: default }
spec:
  hosts: [\"shop.example.com\"]
  gateways: [\"istio-system/shop\"]
  http:
    - name: api
      match:
        - uri: { prefix: /api/ }
      route:
        - destination: { host: api, port: { number: 80 } }
    - route:
        - destination: { host: web, port: { number: 80 } }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: api, namespace: default }
spec: { selector: { app: api }, ports: [{ port: 80 }] }
";

/// The same with one more server on the Gateway.
fn with_port_81(manifests: &str) -> String {
    let server = "    - port: { number: 81, name: more, protocol: HTTP }\n      hosts: [\"shop.example.com\"]\n---";
    manifests.replacen("---", server, 1)
}

/// An upstream: answers each request with its name and the path; `/slow` after a second.
struct Upstream {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Upstream {
    fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream {
                    thread::spawn(move || answer_all(stream, name));
                }
            }
        });
        Self { address, stop }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn answer_all(stream: TcpStream, name: &str) {
    let _ = stream.set_nodelay(true);
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some((first, length)) = read_head(&mut reader) {
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        if path == "/slow" {
            thread::sleep(Duration::from_secs(1));
        }
        let text = format!("{name} {path}\n");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The first line of a head and the length of the body after it; none at the end of the stream.
fn read_head(reader: &mut BufReader<TcpStream>) -> Option<(String, usize)> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Some((first, length));
        }
        if first.is_empty() {
            line.clone_into(&mut first);
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
}

/// A gateway process and what it says.
struct Gateway {
    child: Child,
    told: Receiver<String>,
    heard: Vec<String>,
    folder: tempfile::TempDir,
    listening: Vec<SocketAddr>,
    status: Option<SocketAddr>,
}

impl Gateway {
    /// Starts `gatedrill gateway shop.yaml` with these options, and waits until it serves.
    fn start(manifests: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("shop.yaml"), manifests).expect("a file");
        let log = fs::File::create(folder.path().join("access.log")).expect("a file");
        let mut child = command(folder.path(), options).stdout(log).stderr(Stdio::piped()).spawn().expect("it starts");
        let errors = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let (tell, told) = channel();
        thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let mut gateway = Self { child, told, heard: Vec::new(), folder, listening: Vec::new(), status: None };
        gateway.wait_for("reload: kill -HUP");
        for line in &gateway.heard {
            if let Some(rest) = line.strip_prefix("listening on ") {
                gateway.listening.push(rest.split(' ').next().unwrap_or_default().parse().expect("an address"));
            }
            if let Some(url) = line.strip_prefix("readiness at http://") {
                gateway.status = Some(url.split('/').next().unwrap_or_default().parse().expect("an address"));
            }
        }
        gateway
    }

    /// The next line on standard error that contains `part`.
    #[track_caller]
    fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.told.recv_timeout(left) else { panic!("`{part}` was not told: {:#?}", self.heard) };
            self.heard.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    fn write(&self, manifests: &str) {
        // In one step: a reload must not meet half a file.
        let (new, name) = (self.folder.path().join("new"), self.folder.path().join("shop.yaml"));
        fs::write(&new, manifests).and_then(|()| fs::rename(&new, &name)).expect("a file");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill is there");
        assert!(status.success());
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {:#?}", self.heard);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lines of the access log that contain `part`, once there are `count`.
    #[track_caller]
    fn log_lines(&self, part: &str, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(self.folder.path().join("access.log")).expect("the log");
            let found: Vec<String> = text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect();
            if found.len() >= count {
                return found;
            }
            assert!(Instant::now() < deadline, "`{part}` is not in {text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ready_status(&self) -> String {
        let url = format!("http://{}/healthz/ready", self.status.expect("it has a status port"));
        curl(&["-o", "/dev/null", "-w", "%{http_code}", &url])
    }

    fn get(&self, path: &str) -> String {
        curl(&["-i", "-H", "host: shop.example.com", &format!("http://{}{path}", self.listening[0])])
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatedrill"));
    command.current_dir(folder).env("NO_COLOR", "1").args(["gateway", "shop.yaml"]).args(options);
    command
}

/// What it says and how it ends when it cannot start.
fn refused(manifests: &str, options: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("shop.yaml"), manifests).expect("a file");
    let output = command(folder.path(), options).output().expect("it runs");
    assert!(output.stdout.is_empty(), "standard output is the access log's");
    (output.status.code().expect("it exits"), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-s", "-m", "20"]).args(arguments).output().expect("curl runs");
    assert!(output.status.success(), "curl {arguments:?}: {:?}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a tool is there; says so where it is not.
#[expect(clippy::print_stdout, reason = "a test that does nothing must not look like one that passed")]
fn has(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|folder: PathBuf| folder.join(tool).is_file());
    if !found {
        println!("{tool} is not installed: this test does nothing");
    }
    found
}

fn endpoint(name: &str, upstream: &Upstream) -> String {
    format!("{name}.default:80={}", upstream.address)
}

const ANY: [&str; 4] = ["--listen", "127.0.0.1:0", "--status-port", "0"];

#[test]
fn live_curl_is_routed_by_host_and_path() {
    if !has("curl") {
        return;
    }
    let (web, api) = (Upstream::start("web"), Upstream::start("api"));
    let (web, api) = (endpoint("web", &web), endpoint("api", &api));
    let mut gateway =
        Gateway::start(SHOP, &[&ANY[..], &["--endpoint", &web, "--endpoint", &api, "--workers", "2"]].concat());
    assert_eq!(gateway.ready_status(), "200");
    let answer = gateway.get("/cart?id=7");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("web /cart?id=7\n"), "{answer}");
    assert!(answer.contains("server: istio-envoy") && answer.contains("x-envoy-upstream-service-time: "), "{answer}");
    assert!(answer.contains("date: "), "{answer}");
    assert!(gateway.get("/api/cart").ends_with("api /api/cart\n"));
    let url = format!("http://{}/cart", gateway.listening[0]);
    let posted = curl(&["-d", "abc", "-H", "host: SHOP.example.com:8080", &url]);
    assert_eq!(posted, "web /cart\n", "the host is compared without case and port");
    let missed = curl(&["-i", "-H", "host: other.example.com", &url]);
    assert!(missed.starts_with("HTTP/1.1 404"), "{missed}");
    gateway.signal("-TERM");
    gateway.wait_for("drains for 5s");
    gateway.signal("-TERM");
    assert_eq!(gateway.wait().code(), Some(143), "the second signal ends it at once");
}

#[test]
fn live_a_seed_repeats_what_is_drawn() {
    if !has("curl") {
        return;
    }
    let (web, api) = (Upstream::start("web"), Upstream::start("api"));
    let (web, api) = (endpoint("web", &web), endpoint("api", &api));
    let halves = "        - destination: { host: web, port: { number: 80 } }
          weight: 50
        - destination: { host: api, port: { number: 80 } }
          weight: 50\n---";
    let manifests = SHOP.replacen("        - destination: { host: web, port: { number: 80 } }\n---", halves, 1);
    let ways = |seed: &str| {
        let options = ["--endpoint", &web, "--endpoint", &api, "--workers", "1", "--seed", seed];
        let gateway = Gateway::start(&manifests, &[&ANY[..], &options].concat());
        (0..24).map(|_| gateway.get("/").lines().last().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let first = ways("7");
    let to_web = first.iter().filter(|way| *way == "web /").count();
    let to_api = first.iter().filter(|way| *way == "api /").count();
    assert!(to_web > 0 && to_api > 0 && to_web + to_api == 24, "{first:?}");
    assert_eq!(ways("7"), first);
    assert_ne!(ways("8"), first);
}

#[test]
fn live_requests_are_logged_as_istio_does() {
    if !has("curl") {
        return;
    }
    let web = Upstream::start("web");
    let address = web.address;
    let web = endpoint("web", &web);
    let gateway = Gateway::start(SHOP, &[&ANY[..], &["--endpoint", &web]].concat());
    assert!(gateway.heard[0].contains("warning: api.default:80 has no endpoint"), "{:?}", gateway.heard);
    let unavailable = gateway.get("/api/cart");
    assert!(unavailable.starts_with("HTTP/1.1 503") && unavailable.ends_with("no healthy upstream"), "{unavailable}");
    let url = format!("http://{}/cart", gateway.listening[0]);
    curl(&["-d", "abc", "-H", "host: shop.example.com", "-A", "drill", &url]);
    let line = gateway.log_lines("drill", 1).remove(0);
    let (time, rest) = line.split_once("] ").expect("a time");
    assert!(time.len() == 25 && time.starts_with("[20") && time.ends_with('Z'), "{line}");
    let start = "\"POST /cart HTTP/1.1\" 200 - via_upstream - \"-\" 3 10 ";
    assert!(rest.starts_with(start), "{line}");
    let (before_id, rest) = rest.split_once("\"127.0.0.1\" \"drill\" \"").expect("client and agent");
    let service_time = before_id[start.len()..].split(' ').nth(1).expect("after the duration");
    assert!(service_time.parse::<u64>().is_ok(), "{line}");
    let (id, rest) = rest.split_once('"').expect("an id");
    assert!(id.len() == 36 && id.split('-').count() == 5, "a UUID: {line}");
    let mid = format!(" \"shop.example.com\" \"{address}\" outbound|80||web.default.svc.cluster.local 127.0.0.1:");
    assert!(rest.starts_with(&mid) && rest.contains(&format!(" {} 127.0.0.1:", gateway.listening[0])), "{line}");
    assert!(rest.ends_with(" - -"), "no name, no SNI: {line}");
    let line = gateway.log_lines("/api/cart", 1).remove(0);
    assert!(line.contains(" 503 UH no_healthy_upstream - \"-\" 0 19 ") && line.ends_with(" - api"), "{line}");

    let mut leaves = TcpStream::connect(gateway.listening[0]).expect("it listens");
    leaves
        .write_all(b"POST /slow HTTP/1.1\r\nhost: shop.example.com\r\ncontent-length: 9\r\n\r\nabc")
        .expect("it is open");
    thread::sleep(Duration::from_millis(200));
    drop(leaves);
    let line = gateway.log_lines("/slow", 1).remove(0);
    assert!(line.contains(" 0 DC downstream_remote_disconnect - \"-\" 3 0 "), "{line}");

    let gateway = Gateway::start(SHOP, &[&ANY[..], &["--endpoint", &web, "--access-log", "json"]].concat());
    gateway.get("/cart");
    let line = gateway.log_lines("/cart", 1).remove(0);
    let object: serde_json::Value = serde_json::from_str(&line).expect("a JSON object");
    assert_eq!((&object["response_code"], &object["upstream_host"]), (&200.into(), &address.to_string().into()));
    assert_eq!(object.as_object().expect("an object").len(), 24);
}

#[test]
fn live_a_reload_changes_routes_and_listeners_or_nothing() {
    if !has("curl") {
        return;
    }
    let (web, api) = (Upstream::start("web"), Upstream::start("api"));
    let (web, api) = (endpoint("web", &web), endpoint("api", &api));
    let listen = ["--listen", "80=127.0.0.1:0", "--listen", "81=127.0.0.1:0", "--status-port", "0"];
    let mut gateway = Gateway::start(SHOP, &[&listen[..], &["--endpoint", &web, "--endpoint", &api]].concat());
    assert_eq!(gateway.listening.len(), 1);
    assert!(gateway.get("/api/cart").ends_with("api /api/cart\n"));

    // A bad one: told with file, line and key; nothing changes.
    gateway.write(&SHOP.replace("prefix: /api/", "prefx: /api/"));
    gateway.signal("-HUP");
    gateway.wait_for("shop.yaml:20:18");
    gateway.wait_for("1 problem; the former configuration stays");
    assert!(gateway.get("/api/cart").ends_with("api /api/cart\n"));
    gateway.write("kind: [");
    gateway.signal("-HUP");
    gateway.wait_for("the former configuration stays");
    assert!(gateway.get("/api/cart").ends_with("api /api/cart\n"));

    // A good one with another path and another port.
    gateway.write(&with_port_81(&SHOP.replace("prefix: /api/", "prefix: /v2/")));
    gateway.signal("-HUP");
    let told = gateway.wait_for("reloaded: ");
    let second: SocketAddr = told.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address");
    assert!(gateway.get("/api/cart").ends_with("web /api/cart\n"));
    assert!(gateway.get("/v2/cart").ends_with("api /v2/cart\n"));
    let on_second = || curl(&["-H", "host: shop.example.com", &format!("http://{second}/v2/x")]);
    assert_eq!(on_second(), "api /v2/x\n");

    // The port is taken away: a client that stays on its connection is served by the routes as they were, and told to leave.
    let mut stayed = TcpStream::connect(second).expect("it listens");
    let ask = |stream: &mut TcpStream, path: &str| {
        write!(stream, "GET {path} HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").expect("it is open");
        let mut text = String::new();
        let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
        while reader.read_line(&mut text).expect("it answers") > 2 {}
        reader.read_line(&mut text).expect("it answers");
        text
    };
    assert!(!ask(&mut stayed, "/v2/1").contains("connection: close"));
    gateway.write(SHOP);
    gateway.signal("-HUP");
    gateway.wait_for("reloaded: ");
    let answer = ask(&mut stayed, "/v2/2");
    assert!(answer.contains("connection: close") && answer.ends_with("api /v2/2\n"), "{answer}");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(second).is_ok() {
        assert!(Instant::now() < deadline, "the port is closed");
    }
    assert!(gateway.get("/api/cart").ends_with("api /api/cart\n"));
}

#[test]
fn live_a_reload_that_cannot_listen_changes_nothing() {
    let web = Upstream::start("web");
    let to_web = endpoint("web", &web);
    let holds = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let held = format!("81={}", holds.local_addr().expect("a bound socket has an address"));
    let options = ["--listen", "80=127.0.0.1:0", "--listen", &held, "--endpoint", &to_web, "--access-log", "off"];
    let mut gateway = Gateway::start(SHOP, &options);
    gateway.write(&with_port_81(SHOP));
    gateway.signal("-HUP");
    let told = gateway.wait_for("error: cannot listen on ");
    assert!(told.ends_with("another process listens there; the former configuration stays"), "{told}");
    drop(holds);
    gateway.signal("-HUP");
    gateway.wait_for("reloaded: ");
    for address in [gateway.listening[0].to_string(), held.replace("81=", "")] {
        let stream = TcpStream::connect(address).expect("it listens");
        ask_once(stream).expect("it is served");
    }
}

#[test]
fn live_sigterm_drains_as_istio_does() {
    if !has("curl") {
        return;
    }
    let web = Upstream::start("web");
    let web = endpoint("web", &web);
    let mut gateway = Gateway::start(SHOP, &[&ANY[..], &["--endpoint", &web]].concat());
    let mut under_way = TcpStream::connect(gateway.listening[0]).expect("it listens");
    under_way.write_all(b"GET /slow HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").expect("it is open");
    thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    gateway.signal("-TERM");
    gateway.wait_for("drains for 5s");
    assert_eq!(gateway.ready_status(), "503");
    let answer = gateway.get("/cart");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"),
        "accepted to the end: {answer}"
    );
    let mut reader = BufReader::new(under_way);
    let mut text = String::new();
    while reader.read_line(&mut text).expect("it answers") > 2 {}
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text}");
    assert_eq!(gateway.wait().code(), Some(0));
    let took = began.elapsed();
    assert!((5.0..8.0).contains(&took.as_secs_f64()), "{took:?}");
    gateway.wait_for("drained");
    assert_eq!(gateway.log_lines("/slow", 1).len(), 1, "the last lines are written too");
}

#[test]
fn live_what_cannot_start_says_why_in_a_line() {
    let web = Upstream::start("web");
    let to_web = endpoint("web", &web);
    let holds = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let held = holds.local_addr().expect("a bound socket has an address").to_string();
    let two = format!(
        "{SHOP}---{}",
        SHOP.replace("name: shop", "name: other")
            .replace("istio-system/shop", "istio-system/other")
            .replace("istio: edge", "istio: other")
    );
    let ports =
        SHOP.replacen("---", "    - port: { number: 81, name: b, protocol: HTTP }\n      hosts: [\"*\"]\n---", 1);
    for (manifests, options, code, part) in [
        (SHOP, &["--listen", &held][..], 1, "error: cannot listen on 127.0.0.1:"),
        (SHOP, &["--listen", "192.0.2.1:80"], 1, "this machine has no such address"),
        (
            SHOP,
            &["--listen", "127.0.0.1:0", "--endpoint", "web.default:80=no.such.name.invalid:80"],
            1,
            "does not resolve",
        ),
        (
            SHOP,
            &["--listen", "127.0.0.1:0", "--endpoint", "wep.default:80=127.0.0.1:1"],
            2,
            "wep.default:80: no route names it",
        ),
        (SHOP, &["--listen", "127.0.0.1"], 2, "has no port"),
        (SHOP, &["--listen", "81=127.0.0.1:0"], 2, "its ports are 80"),
        (SHOP, &["--listen", "127.0.0.1:0", "--gateway", "a/b"], 2, "there are istio-system/shop"),
        (&two, &["--listen", "127.0.0.1:0"], 2, "choose one with --gateway istio-system/"),
        (&ports, &["--listen", "127.0.0.1:0"], 2, "the Gateway has ports 80, 81; say which one"),
        (&SHOP.replace("prefix: /api/", "prefx: /api/"), &["--listen", "127.0.0.1:0"], 65, "did you mean `prefix`?"),
        (
            &SHOP.replace("host: web", "host: shelf"),
            &["--listen", "127.0.0.1:0"],
            65,
            "no Service is called `default/shelf`",
        ),
        ("", &["--listen", "127.0.0.1:0"], 65, "the manifests hold no Gateway"),
    ] {
        let (exit, text) = refused(manifests, &[options, &["--endpoint", &to_web]].concat());
        assert!(exit == code && text.contains(part), "exit {exit} for {options:?}: {text}");
        let errors = text.lines().filter(|line| !line.starts_with("warning: "));
        assert!(code == 65 || errors.count() == 1, "{text}");
    }
}

/// What wrk reported, if it reported no lost request.
#[track_caller]
fn check_wrk(report: &str) {
    assert!(report.contains("requests in"), "{report}");
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
}

#[test]
fn live_a_thousand_reloads_under_load_lose_nothing() {
    if !has("wrk") {
        return;
    }
    let (web, api) = (Upstream::start("web"), Upstream::start("api"));
    let (web, api) = (endpoint("web", &web), endpoint("api", &api));
    let options = ["--endpoint", &web, "--endpoint", &api, "--workers", "2", "--access-log", "off"];
    let listen = ["--listen", "80=127.0.0.1:0", "--listen", "81=127.0.0.1:0"];
    let mut gateway = Gateway::start(SHOP, &[&listen[..], &options].concat());
    let url = format!("http://{}/api/cart", gateway.listening[0]);
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c16", "-d120s", "-H", "Host: shop.example.com", &url]);
    let load = wrk.stdout(Stdio::piped()).spawn().expect("wrk runs");
    // Other routes, other clusters, one more listener; and back.
    let other = with_port_81(&SHOP.replace("host: api", "host: web").replace("name: api\n", "name: v2\n"));
    for reload in 0..1000 {
        gateway.write(if reload % 2 == 0 { &other } else { SHOP });
        gateway.signal("-HUP");
        gateway.wait_for("reloaded: ");
    }
    // Ctrl-C makes wrk report what it has.
    let interrupted = Command::new("kill").args(["-INT", &load.id().to_string()]).status().expect("kill is there");
    assert!(interrupted.success());
    let report = load.wait_with_output().expect("wrk ends");
    check_wrk(&String::from_utf8_lossy(&report.stdout));
}

#[test]
fn live_sigterm_under_load_answers_all_that_was_asked() {
    let web = Upstream::start("web");
    let web = endpoint("web", &web);
    let mut gateway =
        Gateway::start(SHOP, &["--listen", "127.0.0.1:0", "--endpoint", &web, "--workers", "2", "--access-log", "off"]);
    let (to, stop) = (gateway.listening[0], Arc::new(AtomicBool::new(false)));
    let (answered, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, answered, told) = (Arc::clone(&stop), Arc::clone(&answered), Arc::clone(&told));
            thread::spawn(move || -> Result<(), String> {
                let mut connection = None;
                while !stop.load(Ordering::Relaxed) {
                    let stream = match connection.take() {
                        Some(stream) => stream,
                        None => TcpStream::connect(to).map_err(|error| format!("connect: {error}"))?,
                    };
                    let (stream, leaves) = ask_once(stream)?;
                    answered.fetch_add(1, Ordering::Relaxed);
                    told.fetch_add(usize::from(leaves), Ordering::Relaxed);
                    connection = (!leaves).then_some(stream);
                }
                Ok(())
            })
        })
        .collect();
    thread::sleep(Duration::from_secs(1));
    let before = answered.load(Ordering::Relaxed);
    gateway.signal("-TERM");
    gateway.wait_for("drains for 5s");
    // The balancer in front notices after some seconds; until then clients go on.
    thread::sleep(Duration::from_secs(3));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("a client does not panic").expect("every request is answered");
    }
    assert!(before > 0 && answered.load(Ordering::Relaxed) > before, "served before and during the drain");
    assert!(told.load(Ordering::Relaxed) > 8, "clients were told to leave");
    assert_eq!(gateway.wait().code(), Some(0));
}

/// One request and its answer; whether the answer says close.
fn ask_once(mut stream: TcpStream) -> Result<(TcpStream, bool), String> {
    let request = b"GET /cart HTTP/1.1\r\nhost: shop.example.com\r\n\r\n";
    stream.write_all(request).map_err(|error| format!("write: {error}"))?;
    let (mut bytes, mut chunk) = (Vec::new(), [0; 1024]);
    while !bytes.ends_with(b"web /cart\n") {
        let count = stream.read(&mut chunk).map_err(|error| format!("read: {error}"))?;
        if count == 0 {
            return Err(format!("closed after {} bytes of an answer", bytes.len()));
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
    let text = String::from_utf8_lossy(&bytes);
    if !text.starts_with("HTTP/1.1 200") {
        return Err(text.into_owned());
    }
    let leaves = text.contains("connection: close");
    if leaves {
        let _ = stream.shutdown(Shutdown::Both);
    }
    Ok((stream, leaves))
}
