//! What the connection manager does to requests before they are routed, and to responses on their way out.
//!
//! - The client is the peer of the connection, or an address that one of so many trusted proxies in front wrote into `x-forwarded-for`; the
//!   peer is appended there. A request from outside loses the headers by which insiders steer Envoy (`x-envoy-…`).
//! - Headers that concern one connection only end here (`hop`); paths are brought into one form (`path`).
//! - A plain request costs one look at each header's name, and the headers that it gets.
//!
//! [`DownstreamConfig::ISTIO_GATEWAY`] is what Istio sets at an ingress gateway. Not done: stripping a fragment from the path instead of refusing
//! it, and the trace bits in `x-request-id`.
//!
//! Sources: envoy source/common/http/{conn_manager_utility,header_utility,utility}.cc; istio pilot/pkg/networking/core/{gateway,
//! listener_builder}.go.

mod address;
mod certificate;
mod hop;
pub mod path;
mod seen;

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE, USER_AGENT, VIA};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};

use address::{FORWARDED_FOR, append, joined};
pub use address::{InternalAddresses, Peer, last_address};
pub use certificate::{CertDetail, Certificates, ForwardClientCert, forward_client_cert};
pub use hop::{BadConnection, is_upgrade, is_valid_referer, sanitize_connection};
use path::{EscapedSlashes, PathPolicy, PathVerdict};
pub use seen::Seen;

const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
const FORCE_TRACE: HeaderName = HeaderName::from_static("x-envoy-force-trace");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVICE_CLUSTER: HeaderName = HeaderName::from_static("x-envoy-downstream-service-cluster");

/// What a client at the edge may not say.
static NOT_FROM_EDGE: [HeaderName; 4] = [
    HeaderName::from_static("x-envoy-decorator-operation"),
    SERVICE_CLUSTER,
    HeaderName::from_static("x-envoy-downstream-service-node"),
    HeaderName::from_static("x-envoy-original-path"),
];
/// What only an internal client may say.
static NOT_FROM_OUTSIDE: [HeaderName; 14] = [
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    FORCE_TRACE,
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-original-url"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
];

/// How the connection manager treats what comes from downstream.
#[derive(Clone, Debug)]
pub struct DownstreamConfig {
    /// The peer is the client, or the last trusted proxy. Else the client is the last address in `x-forwarded-for`.
    pub uses_remote_address: bool,
    /// Proxies in front of the gateway whose `x-forwarded-…` is believed (`gatewayTopology.numTrustedProxies`).
    pub trusted_hops: u32,
    /// `x-forwarded-for` is left alone.
    pub skips_forwarded_for: bool,
    /// `x-forwarded-port` is set to the port of the listener.
    pub appends_forwarded_port: bool,
    /// Appended to `via`.
    pub via: Option<HeaderValue>,
    /// The user agent of requests without one, and `x-envoy-downstream-service-cluster` of all.
    pub user_agent: Option<HeaderValue>,
    /// Requests without an `x-request-id` get one.
    pub generates_request_id: bool,
    /// An `x-request-id` that comes from outside stays.
    pub keeps_external_request_id: bool,
    /// The scheme of all requests, whatever the connection is.
    pub scheme: Option<Scheme>,
    /// What is done with paths.
    pub path: PathPolicy,
    /// Which ports of `Host` headers go.
    pub strip_port: StripPort,
    /// A dot at the end of the host goes.
    pub strips_trailing_dot: bool,
    /// Further headers that only internal clients may send.
    pub internal_only: Vec<HeaderName>,
    /// Whose requests are internal.
    pub internal_addresses: InternalAddresses,
    /// What is done with `x-forwarded-client-cert`.
    pub client_cert: ForwardClientCert,
    /// What that tells of a certificate, in this order.
    pub client_cert_details: &'static [CertDetail],
}

/// `http` or `https`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Encrypted.
    Https,
}

/// Which ports of `Host` headers go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StripPort {
    /// None.
    Keep,
    /// The listener's.
    Matching,
    /// Any.
    Any,
}

/// What is to be done with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on.
    Continue(Prepared),
    /// The gateway answers.
    Reply(Refusal),
}

/// What became known of a request that goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// The client, as far as it is known.
    pub client: Option<IpAddr>,
    /// Whether it is one of ours.
    pub is_internal: bool,
    /// The scheme that routes see.
    pub scheme: Scheme,
    /// Whether it asks for another protocol.
    pub is_upgrade: bool,
    /// Whether there may be headers by which it steers Envoy.
    pub may_steer: bool,
    /// The `x-request-id` that the response tells.
    pub returned_id: Option<HeaderValue>,
}

/// An answer without a body to a request that goes no further.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// Envoy's text for the reason.
    pub details: &'static str,
    /// Its `location`.
    pub location: Option<HeaderValue>,
}

impl Refusal {
    const fn new(status: StatusCode, details: &'static str) -> Self {
        Self { status, details, location: None }
    }
}

impl Scheme {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The scheme of a name, in any case.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Option<Self> {
        match name {
            name if name.eq_ignore_ascii_case(b"http") => Some(Self::Http),
            name if name.eq_ignore_ascii_case(b"https") => Some(Self::Https),
            _ => None,
        }
    }

    fn of(peer: &Peer) -> Self {
        if peer.is_tls { Self::Https } else { Self::Http }
    }
}

impl DownstreamConfig {
    /// What Istio sets at an ingress gateway.
    pub const ISTIO_GATEWAY: Self = Self::new(
        true,
        PathPolicy { normalizes: true, merges_slashes: false, escaped_slashes: EscapedSlashes::Keep },
        ForwardClientCert::SanitizeSet,
        &[CertDetail::Subject, CertDetail::Cert, CertDetail::Uri, CertDetail::Dns],
    );

    /// The same in a drill: the client's `x-request-id` stays, so that a request can be followed to the backend and back.
    #[must_use]
    pub fn in_drill() -> Self {
        Self { keeps_external_request_id: true, ..Self::ISTIO_GATEWAY }
    }

    /// Envoy's own defaults.
    pub const ENVOY: Self = Self::new(false, PathPolicy::NONE, ForwardClientCert::Sanitize, &[]);

    const fn new(
        uses_remote_address: bool,
        path: PathPolicy,
        client_cert: ForwardClientCert,
        client_cert_details: &'static [CertDetail],
    ) -> Self {
        Self {
            uses_remote_address,
            trusted_hops: 0,
            skips_forwarded_for: false,
            appends_forwarded_port: false,
            via: None,
            user_agent: None,
            generates_request_id: true,
            keeps_external_request_id: false,
            scheme: None,
            path,
            strip_port: StripPort::Keep,
            strips_trailing_dot: false,
            internal_only: Vec::new(),
            internal_addresses: InternalAddresses::Nobody,
            client_cert,
            client_cert_details,
        }
    }

    /// Judges a request and brings it into the form that is routed. `seen` is of its headers as they came; `random` gives 64 uniform bits.
    pub fn prepare_request<B>(
        &self,
        request: &mut Request<B>,
        seen: Seen,
        peer: &Peer,
        certificates: Option<&Certificates>,
        random: impl FnMut() -> u64,
    ) -> Verdict {
        let mut has_host = seen.has(Seen::HOST);
        if let Some(authority) = request.uri().authority() {
            // The host of an absolute target outweighs the header. Source: RFC 9112 §3.2.2.
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            if let Ok(host) = HeaderValue::from_str(host) {
                request.headers_mut().insert(HOST, host);
                has_host = true;
            }
            let target = request.uri().path_and_query().cloned();
            *request.uri_mut() = target.map_or_else(|| Uri::from_static("/"), Uri::from);
        }
        if !has_host {
            return Verdict::Reply(Refusal::new(StatusCode::BAD_REQUEST, "missing_host_header"));
        }
        if !request.uri().path().starts_with('/') {
            return Verdict::Reply(Refusal::new(StatusCode::NOT_FOUND, "absolute_path_rejected"));
        }
        let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let changed = match self.path.apply(target) {
            PathVerdict::Continue(Cow::Borrowed(_)) => None,
            PathVerdict::Continue(Cow::Owned(target)) => Some(Uri::try_from(target)),
            PathVerdict::Reject => {
                return Verdict::Reply(Refusal::new(StatusCode::BAD_REQUEST, "path_normalization_failed"));
            }
            PathVerdict::Redirect(target) => {
                let location = HeaderValue::from_str(&target).ok();
                let refusal = Refusal::new(StatusCode::TEMPORARY_REDIRECT, "path_normalization_failed");
                return Verdict::Reply(Refusal { location, ..refusal });
            }
        };
        match changed {
            None => {}
            Some(Ok(target)) => *request.uri_mut() = target,
            Some(Err(_)) => {
                return Verdict::Reply(Refusal::new(StatusCode::BAD_REQUEST, "path_normalization_failed"));
            }
        }
        self.prepare_headers(request.headers_mut(), seen, peer, certificates, random)
    }

    /// The part of [`Self::prepare_request`] that concerns headers.
    pub fn prepare_headers(
        &self,
        headers: &mut HeaderMap,
        mut seen: Seen,
        peer: &Peer,
        certificates: Option<&Certificates>,
        mut random: impl FnMut() -> u64,
    ) -> Verdict {
        let needs_care = seen.has(Seen::SPECIAL) || !self.internal_only.is_empty();
        let mut is_upgrade = false;
        if needs_care {
            if sanitize_connection(headers).is_err() {
                return Verdict::Reply(Refusal::new(StatusCode::BAD_REQUEST, "http1.connection_header_rejected"));
            }
            is_upgrade = hop::is_upgrade(headers);
            end_at_this_hop(headers, is_upgrade);
            hop::sanitize_te(headers);
            hop::sanitize_referer(headers);
            headers.remove(INTERNAL);
            seen = Seen::of(headers);
        }
        self.prepare_host(headers, peer.local_port);
        let (client, may_be_internal) = self.client(headers, seen, peer);
        let scheme = self.forwarded_scheme(headers, seen, peer);
        let client = client.or(peer.address);
        let is_internal = may_be_internal && client.is_some_and(|client| self.internal_addresses.has(client));
        let is_edge = !is_internal && self.uses_remote_address;
        if is_internal {
            headers.insert(INTERNAL, HeaderValue::from_static("true"));
        } else if needs_care {
            let of_edge: &[HeaderName] = if is_edge { &NOT_FROM_EDGE } else { &[] };
            for name in of_edge.iter().chain(&NOT_FROM_OUTSIDE).chain(&self.internal_only) {
                headers.remove(name);
            }
        }
        self.sign(headers);
        if let Some(client) = client.filter(|_| is_edge) {
            headers.insert(EXTERNAL_ADDRESS, peer.text_of(client));
        }
        if self.generates_request_id {
            let is_replaced = is_edge && !self.keeps_external_request_id;
            let has_id = if needs_care { headers.contains_key(REQUEST_ID) } else { seen.has(Seen::REQUEST_ID) };
            if is_replaced || !has_id {
                headers.insert(REQUEST_ID, request_id(random(), random()));
            }
        }
        if needs_care || certificates.is_some() {
            forward_client_cert(headers, self.client_cert, self.client_cert_details, certificates);
        }
        let returned_id = if needs_care && headers.contains_key(FORCE_TRACE) { headers.get(REQUEST_ID) } else { None };
        let returned_id = returned_id.cloned();
        Verdict::Continue(Prepared { client, is_internal, scheme, is_upgrade, may_steer: needs_care, returned_id })
    }

    /// Brings a response of an upstream into the form that goes downstream.
    pub fn prepare_response(&self, headers: &mut HeaderMap, request: &Prepared) {
        if Seen::of(headers).has(Seen::SPECIAL) {
            end_at_this_hop(headers, request.is_upgrade && is_upgrade(headers));
            headers.remove(TRANSFER_ENCODING);
        }
        if let Some(id) = &request.returned_id {
            headers.insert(REQUEST_ID, id.clone());
        }
        if let Some(via) = &self.via {
            append(headers, VIA, ", ", via);
        }
    }

    /// The client, and whether it may count as internal: only if no proxy in between is known.
    fn client(&self, headers: &mut HeaderMap, seen: Seen, peer: &Peer) -> (Option<IpAddr>, bool) {
        let earlier = if seen.has(Seen::FORWARDED_FOR) { joined(headers, &FORWARDED_FOR) } else { None };
        let listed = |skipped: u32| last_address(earlier.as_ref()?.to_str().ok()?, skipped);
        if !self.uses_remote_address {
            return listed(self.trusted_hops).map_or((None, false), |(client, is_only)| (Some(client), is_only));
        }
        let trusted = self.trusted_hops.checked_sub(1).and_then(listed).map(|(client, _)| client);
        let is_direct = earlier.is_none();
        if !self.skips_forwarded_for {
            peer.append_after(earlier, headers);
        }
        (trusted.or(peer.address), is_direct)
    }

    /// Says in `x-forwarded-proto` and `x-forwarded-port` how the client came, unless a trusted proxy has. The scheme that follows.
    fn forwarded_scheme(&self, headers: &mut HeaderMap, seen: Seen, peer: &Peer) -> Scheme {
        let trusts_nobody = self.uses_remote_address && self.trusted_hops == 0;
        if self.appends_forwarded_port && (trusts_nobody || !headers.contains_key(FORWARDED_PORT)) {
            headers.insert(FORWARDED_PORT, HeaderValue::from(peer.local_port));
        }
        let of_peer = Scheme::of(peer);
        let told = if seen.has(Seen::FORWARDED_PROTO) { headers.get(FORWARDED_PROTO) } else { None };
        let scheme = match (self.scheme, told) {
            (Some(scheme), _) => scheme,
            (None, Some(told)) if !trusts_nobody => return Scheme::of_name(told.as_bytes()).unwrap_or(of_peer),
            (None, _) => of_peer,
        };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
        scheme
    }

    /// Adds what the gateway says of itself.
    fn sign(&self, headers: &mut HeaderMap) {
        if let Some(agent) = &self.user_agent {
            headers.insert(SERVICE_CLUSTER, agent.clone());
            if headers.get(USER_AGENT).is_none_or(HeaderValue::is_empty) {
                headers.insert(USER_AGENT, agent.clone());
            }
        }
        if let Some(via) = &self.via {
            append(headers, VIA, ", ", via);
        }
    }

    /// Whether the host of a request may become another.
    pub(super) fn shortens_hosts(&self) -> bool {
        self.strip_port != StripPort::Keep || self.strips_trailing_dot
    }

    fn prepare_host(&self, headers: &mut HeaderMap, listener_port: u16) {
        if !self.shortens_hosts() {
            return;
        }
        let Some(host) = headers.get(HOST).and_then(|value| value.to_str().ok()) else { return };
        let prepared = self.host(host, listener_port);
        if prepared != host {
            let prepared = HeaderValue::from_str(&prepared).expect("a part of a header's value is one");
            headers.insert(HOST, prepared);
        }
    }

    /// A host without what is stripped.
    #[must_use]
    pub fn host<'h>(&self, host: &'h str, listener_port: u16) -> Cow<'h, str> {
        let mut host = Cow::Borrowed(host);
        if self.strips_trailing_dot {
            host = match &host[..] {
                text if text.ends_with('.') => Cow::Owned(text[..text.len() - 1].to_owned()),
                text => match text.rfind('.') {
                    Some(dot) if text[dot + 1..].starts_with(':') => {
                        Cow::Owned([&text[..dot], &text[dot + 1..]].concat())
                    }
                    _ => host,
                },
            };
        }
        let port = port_of(&host).filter(|(_, port)| match self.strip_port {
            StripPort::Keep => false,
            StripPort::Matching => *port == u32::from(listener_port),
            StripPort::Any => true,
        });
        match port {
            Some((start, _)) => Cow::Owned(host[..start].to_owned()),
            None => host,
        }
    }
}

/// Where the port of a host begins, with its colon, and its number.
#[must_use]
pub fn port_of(host: &str) -> Option<(usize, u32)> {
    let start = host.rfind(':').filter(|colon| host.rfind(']').is_none_or(|bracket| bracket < *colon))?;
    host[start + 1..].parse().ok().map(|port| (start, port))
}

/// Removes what concerns one connection. An upgrade is agreed on end to end.
fn end_at_this_hop(headers: &mut HeaderMap, is_upgrade: bool) {
    if !is_upgrade {
        headers.remove(CONNECTION);
        headers.remove(UPGRADE);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
}

/// A random UUID of version 4.
fn request_id(high: u64, low: u64) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = (u128::from(high) << 64 | u128::from(low)) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let mut text = Vec::with_capacity(36);
    for (index, byte) in bits.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).expect("hexadecimal digits and hyphens make a header")
}

/// The first part of a request that is missing, by Envoy's name of it.
#[must_use]
pub fn missing_part(method: Option<&str>, path: Option<&str>, authority: Option<&str>) -> Option<&'static str> {
    match (method, path, authority) {
        (None, _, _) => Some(":method"),
        (Some("CONNECT"), _, None) => Some(":authority"),
        (Some("CONNECT"), _, _) | (Some(_), Some(_), _) => None,
        (Some(_), None, _) => Some(":path"),
    }
}

/// Whether a connection speaks HTTP/2: by what was agreed on in its handshake, else by its first bytes.
#[must_use]
pub fn is_http2(first_bytes: &[u8], alpn: &str) -> bool {
    match alpn {
        "" => first_bytes.starts_with(b"PRI * HTTP/2"),
        agreed => agreed == "h2",
    }
}

#[cfg(test)]
mod tests;
