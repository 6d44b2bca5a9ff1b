//! What a scenario says of a load: who asks, how often, and for what.

use std::time::Duration;

use super::{bounded, name};
use crate::drill::MixEntry;
use crate::load::{Pacing, RateSegment, Reuse};
use crate::manifest::{Field, Node, Place};
use crate::scenario::settings::{Address, LoadSettings, Location, MixSettings, WaySettings, defaults};

/// Requests per second of one load: more than any gateway takes, and than anyone can wait for.
const RATE_MAX: f64 = 10_000_000.0;

pub(super) fn load(field: &Field<'_>) -> Option<LoadSettings> {
    let fields = field.fields()?;
    let name = fields.require("name", "give the load a name").and_then(|field| name(&field));
    let rate_field = fields.require("rate", "write a rate such as 600/s, or segments: [ { for: 1m, at: 600/s } ]");
    let segments = rate_field.and_then(|field| segments(&field));
    let pacing = match fields.get("arrivals") {
        Some(field) if !matches!(field.node().value, crate::manifest::Value::Map(_)) => {
            let is_poisson = field.choice(&[("poisson", true), ("constant", false)]);
            is_poisson.map(|is_poisson| if is_poisson { Pacing::Poisson } else { Pacing::Constant })
        }
        Some(field) => {
            field.refuse("bursts and replays are not simulated yet", "write poisson or constant");
            None
        }
        None => Some(Pacing::Poisson),
    };
    let clients_field = fields.get("clients");
    let clients = clients_field.as_ref().and_then(|field| field.fields());
    let clients = clients.as_ref();
    let get = |key: &str| clients.and_then(|fields| fields.get(key));
    let connections =
        get("connections").map_or(Some(defaults::CONNECTIONS), |field| field.whole::<usize>(1, 1_000_000));
    let reuse = get("reuse").map_or(Some(Reuse::MostRecent), |field| {
        field.choice(&[("mru", Reuse::MostRecent), ("lru", Reuse::LeastRecent), ("none", Reuse::Never)])
    });
    if let Some(field) = get("protocol")
        && field.scalar() != Some("http/1.1")
    {
        field.refuse("only http/1.1 is simulated yet", "write protocol: http/1.1");
    }
    let keep_alive = get("keepAlive").map_or(Some(defaults::CLIENT_KEEP_ALIVE), |field| field.duration());
    let timeout = get("timeout").map_or(Some(defaults::TIMEOUT), |field| bounded(&field, field.positive_duration()?));
    let retries = get("retries").map_or(Some(0), |field| field.whole::<u32>(0, 100));
    let rtt = get("rtt").map(|field| field.duration());
    let way = way(&get, clients_field.as_ref().unwrap_or(field).place());
    let detect_idle_close = get("detectIdleClose").map_or(Some(true), |field| field.boolean());
    let honor_connection_close = get("honorConnectionClose").map_or(Some(true), |field| field.boolean());
    let cookies_field = get("cookies");
    let cookies = cookies_field.as_ref().map_or(Some(false), |field| field.boolean());
    if let Some(clients) = clients {
        clients.finish();
    }
    let mix_field = fields.require("mix", "say what is asked for: mix: [ { get: http://shop.example.com/ } ]");
    let mix: Vec<_> = mix_field.as_ref().map(|field| field.items()).unwrap_or_default().iter().map(mix_entry).collect();
    let mix: Option<Vec<MixSettings>> = mix.into_iter().collect();
    if let (Some(field), Some(mix)) = (&mix_field, &mix)
        && mix.iter().all(|kind| kind.entry.weight == 0)
    {
        field.refuse("nothing is asked for", "write at least one request with a weight above 0");
    }
    if let (Some(field), Some(true)) = (&cookies_field, cookies) {
        let kinds = mix_field.as_ref().map(Field::items).unwrap_or_default();
        check_cookies(field, reuse, kinds.iter().zip(mix.as_deref().unwrap_or_default()));
    }
    fields.finish();
    Some(LoadSettings {
        name: name?,
        segments: segments?,
        pacing: pacing?,
        connections: connections?,
        reuse: reuse?,
        keep_alive: keep_alive.map(|span| (!span.is_zero()).then_some(span))?,
        timeout: timeout?,
        retries: retries?,
        rtt: match (rtt, &way) {
            (Some(rtt), _) => Some(rtt?),
            (None, Some(way)) if way.location == Location::Cluster => None,
            (None, _) => Some(defaults::RTT),
        },
        way: way?,
        detect_idle_close: detect_idle_close?,
        honor_connection_close: honor_connection_close?,
        cookies: cookies?,
        mix: mix?,
    })
}

/// Who keeps cookies asks more than once, and writes the header itself.
fn check_cookies<'a>(
    field: &Field<'_>,
    reuse: Option<Reuse>,
    mix: impl Iterator<Item = (&'a Field<'a>, &'a MixSettings)>,
) {
    if reuse == Some(Reuse::Never) {
        field.refuse(
            "with reuse: none each request is from a client of its own, and nobody is there to keep them",
            "write reuse: mru or lru: then each of the connections is a client with cookies",
        );
    }
    for (kind, settings) in mix {
        if settings.entry.headers.iter().any(|(name, _)| name == "cookie") {
            kind.refuse("with cookies: true `cookie` is written by the client itself", "take one of the two out");
        }
    }
}

pub(super) fn duplicates(items: &[Field<'_>]) {
    let mut names: Vec<String> = Vec::new();
    for item in items {
        let Some(name) = item.node().find(&["name"]).and_then(Node::text) else { continue };
        if names.iter().any(|known| known == name) {
            item.refuse(format!("two loads are called `{name}`"), "give each a name of its own");
        }
        names.push(name.to_owned());
    }
}

/// Where clients are, and what they dial. Whether there is such a way is judged with the Service.
fn way<'a>(get: &dyn Fn(&str) -> Option<Field<'a>>, at: Place) -> Option<WaySettings> {
    let location = get("location").map_or(Some(Location::Internet), |field| field.choice(&LOCATIONS));
    let address_field = get("address");
    let address = address_field.as_ref().map(|field| field.choice(&ADDRESSES));
    let place = address_field.as_ref().map_or(at, Field::place);
    let text = |key: &str| get(key).and_then(|field| field.text().map(str::to_owned));
    let (node, zone) = (text("node"), text("zone"));
    let address = match address {
        Some(address) => Some(address?),
        None => None,
    };
    Some(WaySettings { location: location?, address, node, zone, at: place })
}

/// Where clients can be.
pub(in crate::scenario) const LOCATIONS: [(&str, Location); 2] =
    [("internet", Location::Internet), ("cluster", Location::Cluster)];

/// What they can dial.
pub(in crate::scenario) const ADDRESSES: [(&str, Address); 3] =
    [("loadBalancer", Address::LoadBalancer), ("nodePort", Address::NodePort), ("clusterIP", Address::ClusterIp)];

/// One figure, or segments. A single figure holds for as long as the run lasts.
fn segments(field: &Field<'_>) -> Option<Vec<RateSegment>> {
    let always = Duration::from_secs(u64::from(u32::MAX));
    if !matches!(field.node().value, crate::manifest::Value::List(_)) {
        // Nothing has no unit.
        let rate = if field.node().text() == Some("0") { 0.0 } else { bounded_rate(field)? };
        if rate <= 0.0 {
            field.refuse("a rate of 0 asks for nothing", "write a rate above 0, or take the load out");
            return None;
        }
        return Some(vec![RateSegment { duration: always, from_per_s: rate, to_per_s: rate }]);
    }
    let segments: Vec<_> = field.items().iter().map(segment).collect();
    let segments: Vec<RateSegment> = segments.into_iter().collect::<Option<_>>()?;
    if segments.iter().all(|segment| segment.from_per_s <= 0.0 && segment.to_per_s <= 0.0) {
        field.refuse("a rate of 0 asks for nothing", "write at least one segment with a rate above 0");
        return None;
    }
    Some(segments)
}

fn bounded_rate(field: &Field<'_>) -> Option<f64> {
    let rate = field.rate()?;
    if rate > RATE_MAX {
        field.refuse("this is more than a drill can ask", format!("write at most {RATE_MAX}/s"));
    }
    (rate <= RATE_MAX).then_some(rate)
}

fn segment(field: &Field<'_>) -> Option<RateSegment> {
    let fields = field.fields()?;
    let duration =
        fields.require("for", "write how long it lasts: for: 1m").and_then(|field| field.positive_duration());
    let rate = |key: &str| fields.get(key).map(|field| bounded_rate(&field));
    let (at, from, to) = (rate("at"), rate("from"), rate("to"));
    fields.finish();
    let (from_per_s, to_per_s) = match (at, from, to) {
        (Some(at), None, None) => (at?, at?),
        (None, Some(from), Some(to)) => (from?, to?),
        _ => {
            field.refuse(
                "this is no rate over time",
                "write { for: 1m, at: 600/s } or { for: 1m, from: 100/s, to: 600/s }",
            );
            return None;
        }
    };
    Some(RateSegment { duration: duration?, from_per_s, to_per_s })
}

const METHODS: [&str; 7] = ["get", "post", "put", "patch", "delete", "head", "options"];

fn mix_entry(field: &Field<'_>) -> Option<MixSettings> {
    let fields = field.fields()?;
    let weight = fields.get("weight").map_or(Some(1), |field| field.whole::<u32>(0, 1_000_000));
    let asked: Vec<(&str, Field<'_>)> =
        METHODS.into_iter().filter_map(|method| Some((method, fields.get(method)?))).collect();
    let body = fields.get("body").map_or(Some(0), |field| field.bytes());
    let headers = fields.get("headers").map(|field| headers(&field)).unwrap_or_default();
    let before = field.sink().problem_count();
    fields.finish();
    let (method, url_field) = match &asked[..] {
        [(method, url)] => (*method, url),
        // A slip in the method's name was told.
        [] if field.sink().problem_count() > before => return None,
        [] => {
            field.refuse("it names no URL", "write a method and a URL, such as get: http://shop.example.com/");
            return None;
        }
        _ => {
            field.refuse("it names more than one URL", "write one entry for each");
            return None;
        }
    };
    if method == "head" {
        url_field.refuse("HEAD is not simulated yet", "write get");
        return None;
    }
    let (host, port, path) = url(url_field)?;
    let entry = MixEntry {
        weight: weight?,
        method: method.to_ascii_uppercase(),
        url: url_field.text()?.to_owned(),
        host,
        port,
        tls_round_trips: 0,
        path,
        headers,
        body_bytes: usize::try_from(body?).ok()?,
    };
    Some(MixSettings { entry, at: url_field.place() })
}

fn headers(field: &Field<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in field.map() {
        let Some(text) = value.text() else { continue };
        let is_name = http::HeaderName::try_from(name).is_ok();
        if !is_name || http::HeaderValue::try_from(text).is_err() {
            value.refuse(format!("`{name}: {text}` is no header"), "write a name and a value in plain letters");
        } else if ["host", "content-length", "connection", "transfer-encoding", "x-request-id"]
            .contains(&name.to_ascii_lowercase().as_str())
        {
            value.refuse(format!("`{name}` is written by the client itself"), "take it out");
        } else {
            headers.push((name.to_ascii_lowercase(), text.to_owned()));
        }
    }
    headers
}

fn url(field: &Field<'_>) -> Option<(String, u16, String)> {
    let text = field.text()?;
    let usual = if text.starts_with("https://") { 443 } else { 80 };
    let uri = text.parse::<http::Uri>().ok().filter(|_| usual == 443 || text.starts_with("http://"));
    let found =
        uri.as_ref().and_then(|uri| Some((uri.host()?, uri.port_u16().unwrap_or(usual), uri.path_and_query()?)));
    let Some((host, port, path)) = found else {
        field.refuse(format!("`{text}` is not a URL"), "write http://host/path");
        return None;
    };
    let written = uri.as_ref().and_then(|uri| uri.authority()?.as_str().strip_prefix(host)?.strip_prefix(':'));
    if written.is_some_and(|written| written.parse::<u16>().ok().filter(|port| *port > 0).is_none()) {
        field.refuse(format!("`{text}` has no port that can be dialled"), "write one from 1 to 65535, or leave it out");
        return None;
    }
    let host = if port == usual { host.to_owned() } else { format!("{host}:{port}") };
    Some((host, port, path.to_string()))
}
