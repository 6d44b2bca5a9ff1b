//! A CLB's listeners for HTTP, from annotations.
//!
//! - `idle-timeout` (15 s) and `request-timeout` (60 s) are written to such listeners only; so are `xforwardedfor-…`. A number out of range is refused by the API.
//! - The API takes neither `sch` nor `tch` for them, and `sticky-session: on` only with its type and what that needs.
//! - Their health check is off unless `health-check-flag` is `on`: then it asks for `health-check-uri` with HTTP, within `health-check-timeout`.
//!
//! Source: kubernetes/cloud-provider-alibaba-cloud pkg/controller/service/clbv1/listeners.go (`setDefaultValueForListener`); Alibaba Cloud API
//! `CreateLoadBalancerHTTPListener`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::Annotations;
use super::listeners::Protocol;
use crate::edge::HttpRules;
use crate::edge::http_proxy::{Forwarded, clb};

/// What holds at listeners for HTTP only.
const ONLY: [&str; 7] = [
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
    let of = |protocol: Protocol| {
        let proto = if protocol == Protocol::Https { "https" } else { "http" };
        let forwarded = Forwarded {
            proto: is_on("xforwardedfor-proto").then_some(proto),
            port: is_on("xforwardedfor-slbport"),
            client_port: is_on("xforwardedfor-clientsrcport"),
        };
        Rc::new(HttpRules { client_idle, answer_timeout, target_idle, forwarded, ..usual.clone() })
    };
    if listeners.values().any(|protocol| protocol.is_http()) {
        refuse_unknown(annotations);
    }
    let http = listeners.iter().filter(|(_, protocol)| protocol.is_http());
    http.map(|(port, protocol)| (*port, of(*protocol))).collect()
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

/// Settings of listeners for HTTP where there is none.
pub(super) fn warn_none(annotations: &Annotations<'_>) {
    for suffix in ONLY.into_iter().filter(|suffix| annotations.text(suffix).is_some()) {
        annotations.warn(suffix, "it holds at listeners for HTTP only, and protocol-port names none");
    }
}
