//! A CLB's listeners for HTTP, from annotations.
//!
//! - `idle-timeout` (15 s) and `request-timeout` (60 s) are written to such listeners only; so are `xforwardedfor-…`. A number out of range is refused by the API.
//! - The API takes neither `sch` nor `tch` for them, and `sticky-session: on` only with its type and what that needs.
//! - `forward-port: "80:443"` makes a listener for HTTP redirect to one for HTTPS. The controller looks for its port and reads no further; of other listeners it reads
//!   nothing.
//! - Their health check is off unless `health-check-flag` is `on`: then it asks for `health-check-uri` with HTTP, within `health-check-timeout`.
//!
//! Source: kubernetes/cloud-provider-alibaba-cloud pkg/controller/service/clbv1/listeners.go (`setDefaultValueForListener`); Alibaba Cloud API
//! `CreateLoadBalancerHTTPListener`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::super::settings::Settings;
use super::Annotations;
use super::listeners::Protocol;
use crate::edge::HttpRules;
use crate::edge::http_proxy::{Forwarded, Sticky, clb};
use crate::manifest::{Place, Sink};
use crate::record::results::FidelityStatus;

/// What holds at listeners for HTTP only.
const ONLY: [&str; 9] = [
    "sticky-session",
    "forward-port",
    "idle-timeout",
    "request-timeout",
    "health-check-flag",
    "health-check-timeout",
    "xforwardedfor-proto",
    "xforwardedfor-slbport",
    "xforwardedfor-clientsrcport",
];

/// The rules of each listener for HTTP, by front port. `target_idle` is how long connections to targets are kept.
pub(super) fn rules(
    annotations: &Annotations<'_>,
    listeners: &BTreeMap<u16, Protocol>,
    target_idle: Option<Duration>,
) -> BTreeMap<u16, Rc<HttpRules>> {
    let usual = clb::rules();
    let seconds = |suffix: &str, most: u64, usual: Duration| {
        Duration::from_secs(annotations.number(suffix, 1, most, usual.as_secs()))
    };
    let client_idle = seconds("idle-timeout", 60, usual.client_idle);
    let answer_timeout = seconds("request-timeout", 180, usual.answer_timeout);
    let is_on = |suffix: &str| annotations.is_on(suffix, false);
    let (sticky, redirects) = (sticky(annotations), redirects(annotations, listeners));
    let of = |port: u16, protocol: Protocol| {
        let proto = if protocol == Protocol::Https { "https" } else { "http" };
        let forwarded = Forwarded {
            proto: is_on("xforwardedfor-proto").then_some(proto),
            port: is_on("xforwardedfor-slbport"),
            client_port: is_on("xforwardedfor-clientsrcport"),
        };
        let (sticky, redirect) = (sticky.clone(), redirects.get(&port).copied());
        Rc::new(HttpRules { client_idle, answer_timeout, target_idle, forwarded, sticky, redirect, ..usual.clone() })
    };
    if listeners.values().any(|protocol| protocol.is_http()) {
        refuse_unknown(annotations);
        check_redirects(annotations, listeners);
    }
    let http = listeners.iter().filter(|(_, protocol)| protocol.is_http());
    http.map(|(port, protocol)| (*port, of(*port, *protocol))).collect()
}

/// How sessions stay at targets. What is missing, or no word, is refused elsewhere.
fn sticky(annotations: &Annotations<'_>) -> Option<Sticky> {
    let usual = Duration::from_secs(1);
    let timeout = Duration::from_secs(annotations.number("cookie-timeout", 1, 86_400, usual.as_secs()));
    let cookie = annotations.text("cookie").filter(|name| check_cookie(annotations, name));
    match (annotations.text("sticky-session"), annotations.text("sticky-session-type")) {
        (Some("on"), Some("insert")) => Some(clb::inserted(timeout)),
        (Some("on"), Some("server")) => cookie.map(clb::rewritten),
        _ => None,
    }
}

/// Whether the API takes such a name for a cookie.
fn check_cookie(annotations: &Annotations<'_>, name: &str) -> bool {
    let is_name = (1..=200).contains(&name.len())
        && !name.starts_with('$')
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b';' | b'='));
    if !is_name {
        let text = format!("the API rejects `{name}` as the name of a cookie");
        annotations.refuse("cookie", text, "write 1 to 200 letters and digits");
    }
    is_name
}

/// The listeners for HTTP that redirect, each with the port that it leads to.
pub(super) fn redirects(annotations: &Annotations<'_>, listeners: &BTreeMap<u16, Protocol>) -> BTreeMap<u16, u16> {
    const SUFFIX: &str = "forward-port";
    let mut found = BTreeMap::new();
    let Some(text) = annotations.text(SUFFIX) else { return found };
    let example = "write \"80:443\", or \"80:443,88:6443\" for more";
    for port in listeners.iter().filter(|(_, protocol)| **protocol == Protocol::Http).map(|(port, _)| *port) {
        for part in text.split(',') {
            let Some((from, to)) = part.split_once(':').filter(|(_, to)| !to.contains(':')) else {
                annotations.refuse(SUFFIX, format!("`{part}` is no pair of ports"), example);
                return found;
            };
            if from != port.to_string() {
                continue;
            }
            let Ok(to) = to.parse::<u16>() else {
                annotations.refuse(SUFFIX, format!("`{to}` is no port"), example);
                return found;
            };
            // The controller takes 0 for nothing.
            if to != 0 {
                found.insert(port, to);
            }
            break;
        }
    }
    found
}

/// What a redirect needs, and parts that nobody reads.
fn check_redirects(annotations: &Annotations<'_>, listeners: &BTreeMap<u16, Protocol>) {
    const SUFFIX: &str = "forward-port";
    let Some(text) = annotations.text(SUFFIX) else { return };
    let redirects = redirects(annotations, listeners);
    for (from, to) in &redirects {
        if listeners.get(to) != Some(&Protocol::Https) {
            let text = format!("port {from} is led to port {to}, which is no listener for HTTPS: the API rejects that");
            annotations.refuse(SUFFIX, text, &format!("name https:{to} in protocol-port, or another port here"));
        }
    }
    for part in text.split(',') {
        let from = part.split(':').next().unwrap_or_default();
        if !redirects.keys().any(|port| port.to_string() == from) {
            annotations.warn(SUFFIX, &format!("`{part}` is not read: protocol-port names no http:{from}"));
        }
    }
}

/// What the API rejects for a listener for HTTP.
fn refuse_unknown(annotations: &Annotations<'_>) {
    if let Some(word @ ("sch" | "tch")) = annotations.text("scheduler") {
        let text = format!("the API takes no `{word}` for a listener for HTTP");
        annotations.refuse("scheduler", text, "write rr, wrr or wlc");
    }
    if annotations.text("sticky-session") != Some("on") {
        return;
    }
    let (suffix, help) = match annotations.text("sticky-session-type") {
        None => ("sticky-session-type", "write insert, with cookie-timeout, or server, with cookie"),
        Some("insert") => ("cookie-timeout", "write 1 to 86400 seconds in quotes, such as \"1800\""),
        Some(_) => ("cookie", "write the name of the gateway's cookie"),
    };
    if annotations.text(suffix).is_none() {
        let text = format!("sticky-session is on, and {suffix} is missing: the API rejects that");
        annotations.refuse(suffix, text, help);
    }
}

/// Sessions are kept by cookies, and no client keeps any.
pub(super) fn warn_no_jar(settings: &Settings, sink: &Sink, place: Place, path: String) {
    if settings.loads.iter().all(|load| !load.cookies) {
        let text = "no client keeps cookies, so nobody stays at a target: write cookies: true to load[].clients";
        sink.note(place, path, FidelityStatus::Warning, Some(text));
    }
}

/// What has no effect as it stands: settings of listeners for HTTP where there is none, and sessions of clients without cookies.
pub(super) fn warn(annotations: &Annotations<'_>, http: &BTreeMap<u16, Rc<HttpRules>>, settings: &Settings) {
    if http.values().any(|rules| rules.sticky.is_some()) {
        let (place, path) = annotations.place_and_path("sticky-session");
        warn_no_jar(settings, annotations.sink, place, path);
    }
    if !http.is_empty() {
        return;
    }
    for suffix in ONLY.into_iter().filter(|suffix| annotations.text(suffix).is_some()) {
        annotations.warn(suffix, "it holds at listeners for HTTP only, and protocol-port names none");
    }
}
