//! The protocols of a balancer's listeners, from `protocol-port`.
//!
//! - What it does not name has the protocol of the Service's port, and of two parts for one port the first counts. A part that is no pair, or names no protocol,
//!   stops the controller before it changes anything. An NLB's words count in any case of letters.
//! - `TCPSSL` of an NLB ends TLS: clients shake hands with the balancer, and the gateway behind gets plain TCP on the port that the Service's is mapped to. So
//!   the gateway's server there has to be one for plain HTTP, and who speaks no TLS to the balancer gets no answer. Silence, limits and checks are as at any
//!   listener.
//! - `http` and `https` of a CLB make it a proxy for HTTP ([`super::http`]). `https` ends TLS as `TCPSSL` does, and both need a gateway that speaks plain HTTP behind.
//!
//! Source: kubernetes/cloud-provider-alibaba-cloud pkg/controller/service/{clbv1,nlbv2}/listeners.go (`protocol`); NLB API, CreateListener.

use std::collections::BTreeMap;

use super::{Annotations, is_nlb};
use crate::manifest::service::ServiceManifest;

/// What a listener speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::scenario) enum Protocol {
    Tcp,
    Udp,
    Http,
    Https,
    TcpSsl,
}

impl Protocol {
    /// Whether clients speak TLS to the balancer.
    pub(in crate::scenario) fn ends_tls(self) -> bool {
        matches!(self, Self::TcpSsl | Self::Https)
    }

    /// Whether the balancer is a proxy for HTTP there.
    pub(in crate::scenario) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

const CLB: [(&str, Protocol); 4] =
    [("http", Protocol::Http), ("https", Protocol::Https), ("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const NLB: [(&str, Protocol); 3] = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("TCPSSL", Protocol::TcpSsl)];

/// The listeners that are named, by front port; or what is wrong with the text, and what to write instead.
fn parse(text: &str, is_nlb: bool) -> Result<BTreeMap<u16, Protocol>, (String, String)> {
    let known: &[(&str, Protocol)] = if is_nlb { &NLB } else { &CLB };
    let example = if is_nlb { "write \"TCPSSL:443,TCP:80\"" } else { "write \"https:443,tcp:80\"" };
    let mut found = BTreeMap::new();
    for part in text.split(',') {
        let Some((word, port)) = part.split_once(':') else {
            return Err((format!("`{part}` is no protocol with a port"), example.to_owned()));
        };
        let Some((_, protocol)) =
            known.iter().find(|(name, _)| *name == word || (is_nlb && name.eq_ignore_ascii_case(word)))
        else {
            let words: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            return Err((format!("the controller knows no protocol `{word}`"), format!("write {}", words.join(", "))));
        };
        let Ok(port) = port.parse::<u16>() else {
            return Err((format!("`{port}` is no port"), example.to_owned()));
        };
        found.entry(port).or_insert(*protocol);
    }
    Ok(found)
}

/// The front ports at which the balancer ends TLS.
pub(in crate::scenario) fn tls_ports(service: &ServiceManifest) -> Vec<u16> {
    let found = written(service);
    found.into_iter().filter(|(_, protocol)| protocol.ends_tls()).map(|(port, _)| port).collect()
}

/// The listeners that a Service names, if it does so rightly.
pub(in crate::scenario) fn written(service: &ServiceManifest) -> BTreeMap<u16, Protocol> {
    let written = service.balancer_annotation("protocol-port");
    written.and_then(|(text, _)| parse(text, is_nlb(service)).ok()).unwrap_or_default()
}

/// Reads the annotation and judges it: `ports` leads from front ports to those of pods, and on `plain` the gateway listens for plain HTTP.
pub(super) fn read(
    annotations: &Annotations<'_>,
    ports: &BTreeMap<u16, u16>,
    plain: &[u16],
) -> BTreeMap<u16, Protocol> {
    const SUFFIX: &str = "protocol-port";
    let Some(text) = annotations.text(SUFFIX) else { return BTreeMap::new() };
    let found = match parse(text, is_nlb(annotations.service)) {
        Ok(found) => found,
        Err((text, help)) => {
            annotations.refuse(SUFFIX, text, &help);
            return BTreeMap::new();
        }
    };
    let redirects = super::http::redirects(annotations, &found);
    for (port, protocol) in &found {
        let Some(of_pod) = ports.get(port) else {
            annotations.warn(SUFFIX, &format!("the Service has no port {port}, so it makes no listener"));
            continue;
        };
        if !protocol.ends_tls() && !protocol.is_http() {
            continue;
        }
        if protocol.ends_tls() && annotations.text("cert-id").is_none() {
            let text = format!("the listener of port {port} ends TLS without a certificate: the API rejects it");
            annotations.refuse(SUFFIX, text, "write cert-id beside it");
        }
        // A listener that redirects sends nothing there.
        if !plain.contains(of_pod) && !redirects.contains_key(port) {
            let what = if protocol.ends_tls() { "ends TLS" } else { "sends plain HTTP" };
            let text = format!("the balancer {what}, and the gateway has no server for plain HTTP on port {of_pod}");
            annotations.refuse(SUFFIX, text, "write a Gateway server with protocol: HTTP there, or TCP for this port");
        }
    }
    found
}

/// Whether any listener of a CLB is one for HTTP.
pub(super) fn has_http(listeners: &BTreeMap<u16, Protocol>) -> bool {
    listeners.values().any(|protocol| protocol.is_http())
}

/// Notes that a Service's listeners differ from those it is simulated with: `all` are its ports.
pub(super) fn note(listeners: &BTreeMap<u16, Protocol>, all: usize, annotations: &Annotations<'_>) {
    use crate::record::results::FidelityStatus::{Approximated, Modelled};
    let count = |is: fn(&Protocol) -> bool| listeners.values().filter(|protocol| is(protocol)).count();
    let note = |status, text: &str| {
        let (place, path) = annotations.place_and_path("protocol-port");
        annotations.sink.note(place, path, status, Some(text));
    };
    if count(|protocol| *protocol == Protocol::Udp) > 0 {
        note(Approximated, "a listener for UDP is simulated as one for TCP");
    }
    match count(|protocol| protocol.is_http()) {
        0 => {}
        some if some < all => {
            note(Approximated, "all listeners share the choice and the check of those for TCP");
        }
        _ if annotations.text("health-check-flag") != Some("on") => {
            note(
                Modelled,
                "targets of listeners for HTTP are checked with health-check-flag: on only, so these are not",
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_pairs_of_a_known_protocol_and_a_port() {
        for (is_nlb, text, expected) in [
            (false, "https:443,http:80", "{80: Http, 443: Https}"),
            (false, "tcp:80,udp:53", "{53: Udp, 80: Tcp}"),
            (false, "http:80,tcp:80", "{80: Http}"),
            (false, "tcp:80,http:80,https:443", "{80: Tcp, 443: Https}"),
            (true, "TCPSSL:443", "{443: TcpSsl}"),
            (true, "tcpssl:443,tcp:80", "{80: Tcp, 443: TcpSsl}"),
            (true, "TCPSSL:443,TCP:80,UDP:53", "{53: Udp, 80: Tcp, 443: TcpSsl}"),
        ] {
            assert_eq!(parse(text, is_nlb).map(|found| format!("{found:?}")), Ok(expected.to_owned()), "{text}");
        }
        for (is_nlb, text, expected) in [
            (false, "https", "`https` is no protocol with a port"),
            (false, "HTTPS:443", "the controller knows no protocol `HTTPS`"),
            (false, "TCPSSL:443", "the controller knows no protocol `TCPSSL`"),
            (true, "https:443", "the controller knows no protocol `https`"),
            (true, "TCPSSL:https", "`https` is no port"),
            (true, "TCPSSL:70000", "`70000` is no port"),
            (true, "TCPSSL:443,", "`` is no protocol with a port"),
        ] {
            assert_eq!(parse(text, is_nlb).map_err(|(text, _)| text), Err(expected.to_owned()), "{text}");
        }
    }
}
