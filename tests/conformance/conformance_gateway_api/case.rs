//! The format of the data, and one case against a world.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::gateway_world::{Answer, Behavior, GATEWAY, Reply, Request, Seen, What, World, joined};

/// Where a case is tried: a gateway between a client and pods.
pub(crate) trait Place {
    /// From now on pods do this; requests are counted anew.
    fn behave(&self, behavior: Behavior);
    /// Sends a request to a port of the gateway, on a connection of its own, and waits for so many copies of it to reach pods. None if no
    /// answer comes.
    fn ask(&self, port: u16, request: &Request, copies: usize) -> Option<Answer>;
    /// What pods saw since it was asked last, in order.
    fn seen(&self) -> Vec<Seen>;
    /// The same, once no more copies are on their way.
    fn last_copies(&self) -> Vec<Seen>;
    /// What the gateway said, for whoever looks into a failure.
    fn log(&self) -> String;
}

impl Place for World {
    fn behave(&self, behavior: Behavior) {
        Self::behave(self, behavior);
    }

    fn ask(&self, port: u16, request: &Request, _: usize) -> Option<Answer> {
        Self::ask(self, port, request)
    }

    fn seen(&self) -> Vec<Seen> {
        Self::seen(self)
    }

    fn last_copies(&self) -> Vec<Seen> {
        Self::seen(self)
    }

    fn log(&self) -> String {
        format!("{:?}", Self::log(self))
    }
}

/// `base.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Base {
    #[serde(rename = "description")]
    _description: String,
    #[serde(rename = "source")]
    _source: String,
    pub(crate) manifests: Vec<Value>,
}

/// Any other file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(rename = "test")]
    _test: String,
    #[serde(rename = "source")]
    _source: Value,
    #[serde(rename = "features")]
    _features: Vec<String>,
    pub(crate) notes: Option<String>,
    pub(crate) manifests: Vec<Value>,
    pub(crate) cases: Vec<Case>,
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) about: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) listener: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) supported_kinds: Option<Vec<String>>,
    pub(crate) attached_routes: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) id: String,
    #[serde(rename = "name")]
    _name: Option<String>,
    pub(crate) gateway: String,
    port: u16,
    pub(crate) request: Asked,
    backend_behavior: Option<BackendBehavior>,
    repeat: Option<Repeat>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    scheme: String,
    method: String,
    host: Option<String>,
    path: String,
    query: Option<String>,
    headers: BTreeMap<String, String>,
    protocol: Option<String>,
    #[serde(rename = "sni")]
    _sni: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackendBehavior {
    #[serde(default)]
    set_response_headers: BTreeMap<String, String>,
    #[serde(default)]
    response_delay_ms: u64,
    #[serde(default)]
    fail_first_attempts: usize,
    fail_with_status: Option<u16>,
    fail_with: Option<String>,
    #[serde(default)]
    fail_delay_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeat {
    requests: usize,
    /// In words: the share of copies lies within three standard deviations.
    tolerance: Option<String>,
    fractions: Option<BTreeMap<String, f64>>,
    tolerance_absolute: Option<f64>,
    backends_seen: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: Option<u16>,
    status_any_of: Option<Vec<u16>>,
    /// Null: none, unless a namespace or a request is expected; then any.
    #[serde(default, deserialize_with = "given")]
    backend: Option<Value>,
    backend_namespace: Option<String>,
    backend_request: Option<BackendRequest>,
    #[serde(default)]
    response_headers: BTreeMap<String, String>,
    #[serde(default)]
    response_headers_any_of: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    absent_response_headers: Vec<String>,
    #[serde(default)]
    ignore_whitespace_in_response_headers: bool,
    redirect: Option<Redirect>,
    #[serde(default)]
    mirrored_to: Vec<Mirrored>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackendRequest {
    method: String,
    path: String,
    query: Option<String>,
    host: Option<String>,
    headers: BTreeMap<String, String>,
    absent_headers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redirect {
    scheme: String,
    host: Option<String>,
    port: Option<u16>,
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mirrored {
    backend: String,
    backend_namespace: String,
    percent: u32,
}

/// Also a null is given.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

impl Asked {
    /// What it needs that is not there yet, as it stands in the exceptions.
    pub(crate) fn need(&self) -> Option<String> {
        match (self.scheme.as_str(), &self.protocol) {
            ("http", None) => None,
            ("http", Some(protocol)) => Some(format!("protocol {protocol}")),
            (scheme, _) => Some(format!("scheme {scheme}")),
        }
    }

    fn host(&self, port: u16) -> String {
        let of_gateway = || if port == 80 { GATEWAY.to_string() } else { format!("{GATEWAY}:{port}") };
        self.host.clone().unwrap_or_else(of_gateway)
    }

    fn request(&self, port: u16) -> Request {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let mut request = Request::new(&self.method, &self.host(port), &format!("{}{query}", self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }
}

impl BackendBehavior {
    fn behavior(&self) -> Result<Behavior, String> {
        let headers = |headers: &BTreeMap<String, String>| headers.clone().into_iter().collect();
        let failure = match (self.fail_with_status, self.fail_with.as_deref()) {
            (Some(status), None) => What::Answer { status, headers: Vec::new() },
            (None, Some("connection-reset")) => What::Reset,
            (None, None) if self.fail_first_attempts == 0 => What::Close,
            other => return Err(format!("a failure of {other:?} is not known")),
        };
        let failure = Reply { after: Duration::from_millis(self.fail_delay_ms), what: failure };
        let answer = What::Answer { status: 200, headers: headers(&self.set_response_headers) };
        Ok(Behavior {
            first: vec![failure; self.fail_first_attempts],
            then: Reply { after: Duration::from_millis(self.response_delay_ms), what: answer },
        })
    }
}

impl Case {
    /// Asks, and compares.
    pub(crate) fn run(&self, world: &impl Place) -> Result<(), String> {
        let times = self.repeat.as_ref().map_or(1, |repeat| repeat.requests);
        let copies = self.expect.mirrored_to.iter().filter(|copy| copy.percent == 100).count();
        let mut all = Vec::new();
        for _ in 0..times {
            if let Some(behavior) = &self.backend_behavior {
                world.behave(behavior.behavior()?);
            }
            let answer = world.ask(self.port, &self.request.request(self.port), copies).ok_or("no answer")?;
            let seen = world.seen();
            let log = world.log();
            let told = |why| {
                let Answer { status, headers, .. } = &answer;
                format!("{why}\n    {status} {headers:?}\n    {seen:?}\n    {log}")
            };
            self.compare(&answer, &seen).map_err(told)?;
            all.extend(seen);
        }
        if !self.expect.mirrored_to.is_empty() {
            all.extend(world.last_copies());
        }
        self.compare_shares(&all)
    }

    fn is_copy(&self, seen: &Seen) -> bool {
        let names = self.expect.mirrored_to.iter().map(|copy| format!("{}/{}", copy.backend_namespace, copy.backend));
        names.clone().any(|name| is_of(seen, &name))
    }

    fn compare(&self, answer: &Answer, seen: &[Seen]) -> Result<(), String> {
        let expect = &self.expect;
        let mut statuses = expect.status.iter().chain(expect.status_any_of.iter().flatten());
        ensure(statuses.any(|status| *status == answer.status), || format!("status {}", answer.status))?;
        self.compare_headers(answer)?;
        if let Some(redirect) = &expect.redirect {
            redirect.compare(answer)?;
        }
        let tries: Vec<&Seen> = seen.iter().filter(|seen| !self.is_copy(seen)).collect();
        match &expect.backend {
            None => {}
            Some(Value::Null) if expect.backend_namespace.is_none() && expect.backend_request.is_none() => {
                // One that is too late has seen it, yet the answer is not its own.
                let is_own = !seen.iter().any(|seen| seen.pod.as_bytes() == answer.body);
                ensure(is_own && (seen.is_empty() || self.backend_behavior.is_some()), || "a backend".to_owned())?;
            }
            Some(name) => {
                let last = tries.last().ok_or("no backend")?;
                let namespace = expect.backend_namespace.as_deref().unwrap_or_default();
                let is_right = match name.as_str() {
                    Some(name) => is_of(last, &format!("{namespace}/{name}")),
                    None => last.pod.starts_with(&format!("{namespace}/")),
                };
                ensure(is_right, || format!("backend {}", last.pod))?;
                let is_once = tries.len() == 1 || self.backend_behavior.is_some();
                ensure(is_once, || format!("{} backends", tries.len()))?;
                if let Some(request) = &expect.backend_request {
                    request.compare(last, &self.request.host(self.port))?;
                }
            }
        }
        for copy in expect.mirrored_to.iter().filter(|copy| copy.percent == 100) {
            let name = format!("{}/{}", copy.backend_namespace, copy.backend);
            let count = seen.iter().filter(|seen| is_of(seen, &name)).count();
            ensure(count == 1, || format!("{count} copies for {name}"))?;
        }
        Ok(())
    }

    fn compare_headers(&self, answer: &Answer) -> Result<(), String> {
        let expect = &self.expect;
        let squeezed = |text: &str| {
            if expect.ignore_whitespace_in_response_headers { text.replace(' ', "") } else { text.to_owned() }
        };
        let exact = expect.response_headers.iter().map(|(name, value)| (name, vec![value.clone()]));
        let any = expect.response_headers_any_of.iter().map(|(name, values)| (name, values.clone()));
        for (name, values) in exact.chain(any) {
            let found = joined(&answer.headers, name).ok_or_else(|| format!("no header {name}"))?;
            let is_right = values.iter().any(|value| squeezed(value) == squeezed(&found));
            ensure(is_right, || format!("header {name}: {found}, not {values:?}"))?;
        }
        for name in &expect.absent_response_headers {
            ensure(joined(&answer.headers, name).is_none(), || format!("a header {name}"))?;
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of some hundred requests")]
    fn compare_shares(&self, seen: &[Seen]) -> Result<(), String> {
        let Some(repeat) = &self.repeat else { return Ok(()) };
        let total = repeat.requests as f64;
        let count = |name: &str| seen.iter().filter(|seen| is_of(seen, name)).count() as f64;
        let namespace = self.expect.backend_namespace.as_deref().unwrap_or_default();
        let shares = repeat.fractions.iter().flatten();
        for (name, share) in shares {
            let found = count(&format!("{namespace}/{name}")) / total;
            let allowed = if *share == 0.0 { 0.0 } else { repeat.tolerance_absolute.ok_or("no tolerance")? };
            ensure((found - share).abs() <= allowed, || format!("{name} has {found}, not {share}"))?;
        }
        if let Some(expected) = repeat.backends_seen {
            let mut names: Vec<&str> = seen.iter().map(|seen| deployment(&seen.pod)).collect();
            names.sort_unstable();
            names.dedup();
            ensure(names.len() == expected, || format!("backends {names:?}"))?;
        }
        for copy in &self.expect.mirrored_to {
            let words = "the mirrored count lies within 3 standard deviations of a binomial(requests, percent/100)";
            ensure(repeat.tolerance.as_deref() == Some(words), || "the tolerance is not known".to_owned())?;
            let share = f64::from(copy.percent) / 100.0;
            let found = count(&format!("{}/{}", copy.backend_namespace, copy.backend));
            let deviation = (total * share * (1.0 - share)).sqrt();
            ensure((found - total * share).abs() <= 3.0 * deviation, || format!("{found} copies"))?;
        }
        Ok(())
    }
}

impl BackendRequest {
    fn compare(&self, seen: &Seen, host: &str) -> Result<(), String> {
        let (path, query) = match seen.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (seen.target.as_str(), None),
        };
        ensure(self.method == seen.method, || format!("method {}", seen.method))?;
        ensure(self.path == path, || format!("path {path}"))?;
        ensure(self.query.as_deref() == query, || format!("query {query:?}"))?;
        let found = joined(&seen.headers, "host");
        let expected = self.host.as_deref().unwrap_or(host);
        ensure(found.as_deref() == Some(expected), || format!("host {found:?}"))?;
        for (name, value) in &self.headers {
            let found = joined(&seen.headers, name);
            ensure(found.as_ref() == Some(value), || format!("header {name}: {found:?}, not {value}"))?;
        }
        for name in &self.absent_headers {
            ensure(joined(&seen.headers, name).is_none(), || format!("a header {name} at the backend"))?;
        }
        Ok(())
    }
}

impl Redirect {
    fn compare(&self, answer: &Answer) -> Result<(), String> {
        let location = joined(&answer.headers, "location").ok_or("no location")?;
        let (scheme, rest) = location.split_once("://").ok_or_else(|| format!("location {location}"))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse::<u16>().ok()),
            None => (authority, None),
        };
        let usual = if scheme == "https" { 443 } else { 80 };
        let is_right = scheme == self.scheme
            && self.host.as_ref().is_none_or(|expected| expected == host)
            && port.unwrap_or(usual) == self.port.unwrap_or(usual)
            && path == self.path;
        ensure(is_right, || format!("location {location}"))
    }
}

/// Whether a pod of the Deployment `name` saw it.
fn is_of(seen: &Seen, name: &str) -> bool {
    deployment(&seen.pod) == name
}

/// `namespace/name-0` is of `namespace/name`.
fn deployment(pod: &str) -> &str {
    pod.rsplit_once('-').map_or(pod, |(name, _)| name)
}
