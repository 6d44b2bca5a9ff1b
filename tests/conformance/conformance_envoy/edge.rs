//! What the connection manager does to the headers of requests and responses.

use std::net::{IpAddr, SocketAddr};

use gatedrill::gateway::downstream::{
    CertDetail, Certificates, DownstreamConfig, ForwardClientCert, InternalAddresses, Peer, Prepared, Scheme, Seen,
    Verdict, forward_client_cert, is_http2, is_upgrade, is_valid_referer, last_address, missing_part,
    sanitize_connection,
};
use gatedrill::gateway::grpc;
use gatedrill::gateway::routes::rewrite::rewrite_host;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::reading::{Fields, header_map, run, same, same_headers};

const FORWARDED_CLIENT_CERT: &str = "x-forwarded-client-cert";

/// A connection manager and a connection to it.
struct Edge {
    config: DownstreamConfig,
    peer: Peer,
    /// The peer's address as the case tells it.
    remote: String,
}

impl Edge {
    /// Takes `config`, `remote_address`, `local_port` and `tls` of a case.
    fn take(case: &mut Fields) -> Self {
        let mut fields = case
            .optional_object("config")
            .unwrap_or_else(|| Fields::of("config", Value::Object(serde_json::Map::new())));
        let value = |text: Option<String>| text.map(|text| HeaderValue::from_str(&text).expect("a header value"));
        let names = fields.texts("internal_only_headers");
        let hops = fields.optional("xff_num_trusted_hops").and_then(|hops| hops.as_u64()).unwrap_or(0);
        let config = DownstreamConfig {
            uses_remote_address: fields.optional_flag("use_remote_address").unwrap_or(false),
            trusted_hops: u32::try_from(hops).expect("a few"),
            skips_forwarded_for: fields.optional_flag("skip_xff_append").unwrap_or(false),
            appends_forwarded_port: fields.optional_flag("append_x_forwarded_port").unwrap_or(false),
            keeps_external_request_id: fields.optional_flag("preserve_external_request_id").unwrap_or(false),
            via: value(fields.optional_text("via")),
            user_agent: value(fields.optional_text("add_user_agent")),
            scheme: fields.optional_text("scheme_to_overwrite").and_then(|name| Scheme::of_name(name.as_bytes())),
            internal_only: names.iter().map(|name| HeaderName::from_bytes(name.as_bytes()).expect("a name")).collect(),
            internal_addresses: InternalAddresses::Private,
            ..DownstreamConfig::ENVOY
        };
        let local: IpAddr =
            fields.optional_text("local_address").map_or("192.0.2.9".parse(), |text| text.parse()).expect("an address");
        fields.done();
        let port = case.optional("local_port").and_then(|port| port.as_u64()).unwrap_or(8080);
        let remote = case.optional_text("remote_address").unwrap_or_else(|| "192.0.2.1".to_owned());
        let is_tls = case.optional_flag("tls").unwrap_or(false);
        let local = SocketAddr::new(local, u16::try_from(port).expect("a port"));
        Self { config, peer: Peer::new(remote.parse().ok(), local, is_tls), remote }
    }

    fn prepare(&self, headers: &mut HeaderMap) -> Result<Prepared, String> {
        let mut bits = 0;
        let seen = Seen::of(headers);
        let verdict = self.config.prepare_headers(headers, seen, &self.peer, None, || {
            bits += 1;
            bits
        });
        match verdict {
            Verdict::Continue(prepared) => Ok(prepared),
            Verdict::Reply(refusal) => Err(format!("it is refused: {refusal:?}")),
        }
    }
}

/// Prepares the `headers` of a case, and compares what it tells of them.
fn check_request(case: &mut Fields) -> Result<(), String> {
    let edge = Edge::take(case);
    let mut headers = case.headers("headers");
    let sent = headers.clone();
    let prepared = edge.prepare(&mut headers)?;
    if let Some(expected) = case.optional_text("client_address") {
        let given = prepared.client.map_or_else(|| edge.remote.clone(), |client| client.to_string());
        same("the client", given, expected)?;
    }
    if let Some(expected) = case.optional_flag("internal") {
        same("internal", prepared.is_internal, expected)?;
    }
    if let Some(expected) = case.optional_text("scheme") {
        same("the scheme", prepared.scheme.as_str().to_owned(), expected)?;
    }
    for (key, name) in
        [("x_forwarded_proto", "x-forwarded-proto"), ("x_forwarded_port", "x-forwarded-port"), ("upstream_via", "via")]
    {
        if let Some(expected) = case.optional(key) {
            same_headers(&headers, [(name.to_owned(), expected)].into_iter().collect(), &[])?;
        }
    }
    if let Some(expected) = case.optional_text("x_request_id") {
        let id = headers.get("x-request-id");
        match expected.as_str() {
            "new" => same("a new id", id.is_some() && id != sent.get("x-request-id"), true)?,
            kept => same("the id", id.and_then(|id| id.to_str().ok()), Some(kept))?,
        }
    }
    if let Some(expected) = case.optional("response_via") {
        let mut response = HeaderMap::new();
        edge.config.prepare_response(&mut response, &prepared);
        same_headers(&response, [("via".to_owned(), expected)].into_iter().collect(), &[])?;
    }
    let expected = case.optional_object("upstream_headers").map(|mut fields| fields.all()).unwrap_or_default();
    same_headers(&headers, expected, &case.texts("absent_upstream_headers"))
}

fn check_forwarded_for(case: &mut Fields) -> Result<(), String> {
    let list = case.optional_text("x_forwarded_for").unwrap_or_default();
    let skipped = u32::try_from(case.number("skip_from_right")).expect("a few");
    let address = last_address(&list, skipped).map(|(address, _)| address.to_string());
    same("the address", address, case.optional_text("address"))
}

fn check_append(case: &mut Fields) -> Result<(), String> {
    let remote: Option<IpAddr> = case.text("remote_address").parse().ok();
    // The peer's own address stands for that of the gateway, which is told in place of a loopback address.
    let local = SocketAddr::new(remote.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)), 80);
    let sent = case.optional_text("x_forwarded_for").map(|list| ("x-forwarded-for".to_owned(), list));
    let mut headers = header_map(&sent.into_iter().collect::<Vec<_>>());
    Peer::new(remote, local, false).append_to(&mut headers);
    let result = headers.get("x-forwarded-for").map(|list| list.to_str().expect("text").to_owned());
    same("the list", result, case.optional_text("result"))
}

fn check_referer(case: &mut Fields) -> Result<(), String> {
    let values = case.texts("referer");
    let kept = case.flag("kept");
    if let [only] = &values[..] {
        same("the judgement", is_valid_referer(only), kept)?;
    }
    let pairs: Vec<_> = values.into_iter().map(|value| ("referer".to_owned(), value)).collect();
    let mut headers = header_map(&pairs);
    Edge::take(case).prepare(&mut headers)?;
    same("kept", headers.contains_key("referer"), kept)
}

/// The client is an internal one, so that its wish for a trace is heard.
fn check_returned_id(case: &mut Fields) -> Result<(), String> {
    let mut edge = Edge::take(case);
    edge.config.uses_remote_address = true;
    edge.peer = Peer::new("10.0.0.1".parse().ok(), SocketAddr::from(([10, 0, 0, 2], 80)), false);
    let prepared = edge.prepare(&mut case.headers("headers"))?;
    let mut response = HeaderMap::new();
    edge.config.prepare_response(&mut response, &prepared);
    let id = response.get("x-request-id").map(|id| id.to_str().expect("text").to_owned());
    same("the id", id, case.optional_text("response_x_request_id"))
}

fn check_response(case: &mut Fields) -> Result<(), String> {
    let edge = Edge::take(case);
    let prepared = edge.prepare(&mut case.headers("request_headers"))?;
    let (pseudo, pairs): (Vec<_>, Vec<_>) =
        case.pairs("upstream_response_headers").into_iter().partition(|(name, _)| name.starts_with(':'));
    let mut headers = header_map(&pairs);
    edge.config.prepare_response(&mut headers, &prepared);
    let mut expected = case.object("response_headers").all();
    let status = expected.remove(":status");
    same("the status", pseudo.first().map(|(_, value)| Value::from(value.as_str())), status)?;
    same_headers(&headers, expected, &case.texts("absent_response_headers"))
}

fn check_connection(case: &mut Fields) -> Result<(), String> {
    let mut headers = case.headers("headers");
    let sanitized = sanitize_connection(&mut headers);
    same("the refusal", sanitized.is_err(), case.flag("reject"))?;
    let expected = case.optional_object("upstream_headers").map(|mut fields| fields.all()).unwrap_or_default();
    same_headers(&headers, expected, &case.texts("absent_upstream_headers"))
}

fn check_client_cert(case: &mut Fields) -> Result<(), String> {
    let mode = match case.text("forward_client_cert").as_str() {
        "sanitize" => ForwardClientCert::Sanitize,
        "forward_only" => ForwardClientCert::ForwardOnly,
        "append_forward" => ForwardClientCert::AppendForward,
        "sanitize_set" => ForwardClientCert::SanitizeSet,
        "always_forward_only" => ForwardClientCert::AlwaysForwardOnly,
        other => panic!("{other}"),
    };
    let details = case.texts("set_current_client_cert_details");
    let details = details.iter().map(|detail| match detail.as_str() {
        "subject" => CertDetail::Subject,
        "cert" => CertDetail::Cert,
        "chain" => CertDetail::Chain,
        "uri" => CertDetail::Uri,
        "dns" => CertDetail::Dns,
        other => panic!("{other}"),
    });
    let mut certificates = Certificates { local_uris: case.texts("local_uri_sans"), ..Certificates::default() };
    if let Some(mut peer) = case.optional_object("peer_certificate") {
        certificates.uris = peer.texts("uri_sans");
        certificates.hash = peer.text("hash");
        certificates.pem = peer.text("pem");
        certificates.chain = peer.text("chain");
        certificates.dns_names = peer.texts("dns_sans");
        certificates.subject = peer.optional_text("subject").unwrap_or_default();
        peer.left_over()?;
    }
    let shown = match case.text("connection").as_str() {
        "mutual" => Some(&certificates),
        "tls" | "plain" => None,
        other => panic!("{other}"),
    };
    let sent = case.optional_text("x_forwarded_client_cert").map(|value| (FORWARDED_CLIENT_CERT.to_owned(), value));
    let mut headers = header_map(&sent.into_iter().collect::<Vec<_>>());
    forward_client_cert(&mut headers, mode, &details.collect::<Vec<_>>(), shown);
    let given = headers.get(FORWARDED_CLIENT_CERT).map(|value| value.to_str().expect("text").to_owned());
    same("the header", given, case.optional_text("upstream_x_forwarded_client_cert"))
}

fn check_authority(case: &mut Fields) -> Result<(), String> {
    let mut pairs = vec![("host".to_owned(), case.text("authority"))];
    pairs.extend(case.optional_text("x_forwarded_host").map(|value| ("x-forwarded-host".to_owned(), value)));
    let mut headers = header_map(&pairs);
    let host = HeaderValue::from_str(&case.text("rewrite_to")).expect("a host");
    rewrite_host(&mut headers, host, case.flag("append_x_forwarded_host"));
    let expected =
        [("host", case.value("upstream_authority")), ("x-forwarded-host", case.value("upstream_x_forwarded_host"))];
    same_headers(&headers, expected.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(), &[])
}

fn check_required(case: &mut Fields) -> Result<(), String> {
    let headers = case.pairs("headers");
    let value = |name: &str| headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
    let missing = missing_part(value(":method"), value(":path"), value(":authority"));
    same("what is missing", missing.map(str::to_owned), case.optional_text("missing"))
}

fn check_protocol(case: &mut Fields) -> Result<(), String> {
    let is_http2 = is_http2(case.text("first_bytes").as_bytes(), &case.text("alpn"));
    same("the protocol", is_http2.then(|| "h2".to_owned()), case.optional_text("protocol"))
}

fn check_grpc(case: &mut Fields) -> Result<(), String> {
    let status = grpc::status_of(StatusCode::TOO_MANY_REQUESTS, case.flag("rate_limited_as_resource_exhausted"));
    same("the status", i64::from(status), case.number("grpc_status"))
}

#[test]
fn conformance_envoy_edge_headers() {
    run("envoy-edge-headers", |shared, case| match shared.clone().text("name").as_str() {
        "client address"
        | "internal-only headers from an external client"
        | "x-forwarded-proto and scheme"
        | "x-forwarded-port"
        | "x-request-id"
        | "via"
        | "user-agent and service cluster"
        | "hop-by-hop request headers" => check_request(case),
        "last address of x-forwarded-for" => check_forwarded_for(case),
        "append to x-forwarded-for" => check_append(case),
        "referer" => check_referer(case),
        "x-request-id in the response" => check_returned_id(case),
        "hop-by-hop response headers" => check_response(case),
        "headers nominated by Connection (sanitize_connection)" => check_connection(case),
        "is an upgrade" => same("an upgrade", is_upgrade(&case.headers("headers")), case.flag("upgrade")),
        "x-forwarded-client-cert" => check_client_cert(case),
        "protocol detection on a plaintext port" => check_protocol(case),
        "authority rewrite and x-forwarded-host" => check_authority(case),
        "required request headers" => check_required(case),
        "scheme values" => same("valid", Scheme::of_name(case.text("scheme").as_bytes()).is_some(), case.flag("valid")),
        "gRPC status of a rate-limited request (429)" => check_grpc(case),
        other => panic!("an unknown group: {other}"),
    });
}
