//! `TrafficPolicy`: how requests are spread, how many may be under way, which endpoints are put aside.
//!
//! Source: istio api networking/v1alpha3/destination_rule.proto; istio pkg/config/validation/validation.go.

use std::time::Duration;

use super::load_balancer::{self, LoadBalancer};
use super::{tls, values};
use crate::manifest::read::{Field, Fields};
use crate::manifest::yaml::Value;
use crate::record::results::FidelityStatus;

/// A policy. A group that is absent says nothing of it.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct TrafficPolicy {
    /// How requests are spread.
    pub load_balancer: Option<LoadBalancer>,
    /// How many may be under way.
    pub connection_pool: Option<ConnectionPool>,
    /// Which endpoints are put aside.
    pub outlier_detection: Option<OutlierDetection>,
    /// How many of the requests may be retries.
    pub retry_budget: Option<RetryBudget>,
    /// Policies of single ports.
    pub ports: Vec<(u16, TrafficPolicy)>,
}

/// Limits. What is unset has none, or the mesh's.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ConnectionPool {
    /// Connections of the cluster.
    pub max_connections: Option<u32>,
    /// For TCP and TLS together.
    pub connect_timeout: Option<Duration>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests under way.
    pub max_requests: Option<u32>,
    /// Requests per connection; 1 turns keep-alive off.
    pub max_requests_per_connection: Option<u32>,
    /// Retries under way.
    pub max_retries: Option<u32>,
    /// How long an unused connection is kept; zero: for ever.
    pub idle_timeout: Option<Duration>,
    /// Streams of an HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// How old a connection may get.
    pub max_connection_duration: Option<Duration>,
    /// HTTP/2 to the upstream.
    pub upgrades_to_http2: bool,
    /// The client's version of HTTP is used to the upstream.
    pub uses_client_protocol: bool,
}

/// When an endpoint is put aside. What is unset has Istio's default.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct OutlierDetection {
    /// Answers of 5xx in a row; 0: never.
    pub consecutive_5xx: Option<u32>,
    /// Answers of 502, 503 and 504 in a row; 0: never.
    pub consecutive_gateway_errors: Option<u32>,
    /// Between two sweeps.
    pub interval: Option<Duration>,
    /// For how long at first.
    pub base_ejection_time: Option<Duration>,
    /// How many of the endpoints at most.
    pub max_ejection_percent: Option<u32>,
    /// Below this share of healthy endpoints all are used.
    pub min_health_percent: Option<u32>,
    /// Failures to connect and to be answered have a count of their own.
    pub splits_local_errors: bool,
    /// That count's limit.
    pub consecutive_local_failures: Option<u32>,
}

/// Retries under way, as a share of the requests.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetryBudget {
    /// Of 100.
    pub percent: f64,
    /// So many may always be.
    pub min_concurrency: u32,
}

/// Reads a policy.
pub(super) fn read(field: &Field<'_>) -> Option<TrafficPolicy> {
    let fields = field.fields()?;
    let mut policy = read_groups(&fields);
    for item in fields.look("portLevelSettings").map(|field| field.items()).unwrap_or_default() {
        policy.ports.extend(read_port_policy(&item));
    }
    let groups = ["portLevelSettings", "tunnel", "proxyProtocol", "retryBudget"];
    let is_nothing = groups.iter().all(|key| fields.look(key).is_none()) && has_no_group(&fields);
    if is_nothing {
        field.refuse(
            "a policy without a setting",
            "write one of loadBalancer, connectionPool, outlierDetection and tls",
        );
    }
    if let Some(tunnel) = fields.look("tunnel") {
        check_tunnel(&tunnel);
    }
    if let Some(protocol) = fields.look("proxyProtocol") {
        protocol.note(FidelityStatus::Ignored, Some("the PROXY protocol is not simulated"));
    }
    policy.retry_budget = fields.look("retryBudget").and_then(|field| read_retry_budget(&field));
    fields.finish();
    Some(policy)
}

/// Whether none of the groups is written that a port's policy may have too.
fn has_no_group(fields: &Fields<'_>) -> bool {
    ["loadBalancer", "connectionPool", "outlierDetection", "tls"].iter().all(|key| fields.look(key).is_none())
}

fn read_groups(fields: &Fields<'_>) -> TrafficPolicy {
    let outlier_field = fields.look("outlierDetection");
    let has_outlier = outlier_field.is_some();
    if let Some(tls) = fields.look("tls") {
        tls::check_client(&tls);
    }
    TrafficPolicy {
        load_balancer: fields.look("loadBalancer").and_then(|field| load_balancer::read(&field, has_outlier)),
        connection_pool: fields.look("connectionPool").and_then(|field| read_pool(&field)),
        outlier_detection: outlier_field.and_then(|field| read_outlier(&field)),
        retry_budget: None,
        ports: Vec::new(),
    }
}

fn read_port_policy(item: &Field<'_>) -> Option<(u16, TrafficPolicy)> {
    let fields = item.fields()?;
    let port_field = fields.look("port");
    let policy = read_groups(&fields);
    if has_no_group(&fields) {
        item.refuse(
            "a port's policy without a setting",
            "write one of loadBalancer, connectionPool, outlierDetection and tls",
        );
    }
    fields.finish();
    let Some(port) = port_field else {
        fields.missing("port", "say which port: { number: … }");
        return None;
    };
    let inner = port.fields()?;
    let number = inner.require("number", "a port has a number").and_then(|field| values::port(&field));
    inner.finish();
    Some((number?, policy))
}

/// A limit; 0 stands for none. Source: istio pilot/pkg/networking/core/cluster_traffic_policy.go.
fn limit(fields: &Fields<'_>, key: &str) -> Option<u32> {
    let field = fields.get(key)?;
    field.whole::<u32>(0, i64::from(i32::MAX)).filter(|limit| *limit > 0)
}

fn read_pool(field: &Field<'_>) -> Option<ConnectionPool> {
    let fields = field.fields()?;
    let (tcp, http) = (fields.look("tcp"), fields.look("http"));
    fields.finish();
    if tcp.is_none() && http.is_none() {
        field.refuse("a connection pool without a setting", "write tcp or http");
    }
    let mut pool = ConnectionPool::default();
    if let Some(fields) = tcp.as_ref().and_then(Field::fields) {
        pool.max_connections = limit(&fields, "maxConnections");
        pool.connect_timeout = fields.get("connectTimeout").and_then(|field| values::span(&field));
        if let Some(field) = fields.look("maxConnectionDuration") {
            pool.max_connection_duration = values::span(&field);
            field.note(FidelityStatus::Ignored, Some("connections to upstreams are not closed for their age"));
        }
        if let Some(field) = fields.look("idleTimeout") {
            let _ = values::span_or_zero(&field);
            field.note(FidelityStatus::Ignored, Some("it is for TCP proxies; http.idleTimeout is for HTTP"));
        }
        if let Some(field) = fields.look("tcpKeepalive") {
            field.note(FidelityStatus::Ignored, Some("probes of TCP are not simulated"));
            check_keepalive(&field);
        }
        fields.finish();
    }
    if let Some(field) = &http {
        read_http_pool(field, &mut pool);
    }
    Some(pool)
}

fn check_keepalive(field: &Field<'_>) {
    let Some(fields) = field.fields() else { return };
    for key in ["time", "interval"] {
        if let Some(field) = fields.look(key) {
            let _ = values::span(&field);
        }
    }
    fields.allow(&["probes"]);
    fields.finish();
}

fn read_http_pool(field: &Field<'_>, pool: &mut ConnectionPool) {
    let Some(fields) = field.fields() else { return };
    pool.max_pending_requests = limit(&fields, "http1MaxPendingRequests");
    pool.max_requests = limit(&fields, "http2MaxRequests");
    pool.max_requests_per_connection = limit(&fields, "maxRequestsPerConnection");
    pool.max_retries = limit(&fields, "maxRetries");
    pool.idle_timeout = fields.get("idleTimeout").and_then(|field| values::span_or_zero(&field));
    let http2 = "HTTP/2 is not simulated yet";
    if let Some(field) = fields.look("maxConcurrentStreams") {
        pool.max_concurrent_streams = field.whole::<u32>(0, i64::from(i32::MAX)).filter(|limit| *limit > 0);
        field.note(FidelityStatus::Ignored, Some(http2));
    }
    let policies = [("DEFAULT", false), ("DO_NOT_UPGRADE", false), ("UPGRADE", true)];
    if let Some(field) = fields.look("h2UpgradePolicy") {
        pool.upgrades_to_http2 = field.choice(&policies).unwrap_or(false);
        if pool.upgrades_to_http2 {
            field.note(FidelityStatus::Ignored, Some(http2));
        }
    }
    if let Some(field) = fields.look("useClientProtocol") {
        pool.uses_client_protocol = field.boolean().unwrap_or(false);
        field.note(FidelityStatus::Modelled, None);
        if pool.uses_client_protocol && pool.upgrades_to_http2 {
            field.refuse("useClientProtocol and h2UpgradePolicy: UPGRADE exclude each other", "write one of them");
        }
    }
    if let Some(field) = fields.look("http2KeepAlive") {
        field.note(FidelityStatus::Ignored, Some(http2));
        if let Some(inner) = field.fields() {
            for key in ["interval", "timeout"] {
                let _ =
                    inner.require(key, "pings have an interval and a timeout").and_then(|field| values::span(&field));
            }
            inner.finish();
        }
    }
    fields.finish();
}

fn read_outlier(field: &Field<'_>) -> Option<OutlierDetection> {
    let fields = field.fields()?;
    let count = |key: &str| fields.get(key).and_then(|field| field.whole::<u32>(0, i64::from(u32::MAX)));
    let percent = |key: &str| fields.get(key).and_then(|field| field.whole::<u32>(0, 100));
    let span = |key: &str| fields.get(key).and_then(|field| values::span(&field));
    let mut found = OutlierDetection {
        consecutive_5xx: count("consecutive5xxErrors"),
        consecutive_gateway_errors: count("consecutiveGatewayErrors"),
        interval: span("interval"),
        base_ejection_time: span("baseEjectionTime"),
        max_ejection_percent: percent("maxEjectionPercent"),
        min_health_percent: percent("minHealthPercent"),
        splits_local_errors: values::flag(&fields, "splitExternalLocalOriginErrors"),
        consecutive_local_failures: count("consecutiveLocalOriginFailures"),
    };
    if let Some(field) = fields.look("consecutiveErrors") {
        let _ = field.whole::<i32>(i64::from(i32::MIN), i64::from(i32::MAX));
        values::warn(
            &field,
            "consecutive5xxErrors has taken the place of consecutiveErrors, which has no effect any more",
        );
    }
    if let Some(field) = fields.look("outlierDetectionHttpErrorCodes") {
        field.note(FidelityStatus::Ignored, Some("all of 5xx count"));
    }
    fields.finish();
    if !found.splits_local_errors && found.consecutive_local_failures.is_some_and(|count| count > 0) {
        field.refuse(
            "consecutiveLocalOriginFailures counts only with splitExternalLocalOriginErrors",
            "write splitExternalLocalOriginErrors: true, or take the other out",
        );
        found.consecutive_local_failures = None;
    }
    Some(found)
}

fn read_retry_budget(field: &Field<'_>) -> Option<RetryBudget> {
    let fields = field.fields()?;
    let percent_field = fields.get("percent");
    let percent = percent_field.as_ref().map_or(Some(20.0), |field| {
        let percent = match &field.node().value {
            Value::Map(_) => {
                let inner = field.fields()?;
                let value = inner.get("value");
                inner.finish();
                value?.float()?
            }
            _ => field.float()?,
        };
        if !(0.0..=100.0).contains(&percent) {
            field.refuse(format!("{percent} is no percentage"), "write 0 to 100");
            return None;
        }
        Some(percent)
    });
    let least = fields.get("minRetryConcurrency").map_or(Some(3), |field| field.whole::<u32>(0, i64::from(u32::MAX)));
    fields.finish();
    Some(RetryBudget { percent: percent?, min_concurrency: least? })
}

fn check_tunnel(field: &Field<'_>) {
    field.note(FidelityStatus::Ignored, Some("tunnels are not simulated"));
    let Some(fields) = field.fields() else { return };
    if let Some(protocol) = fields.look("protocol").filter(|field| !field.node().is_empty()) {
        let _ = protocol.choice(&[("CONNECT", ()), ("POST", ())]);
    }
    if let Some(host) = fields.require("targetHost", "a tunnel has a target")
        && let Some(text) = host.text()
        && text.parse::<std::net::IpAddr>().is_err()
    {
        let _ = values::check_domain(&host, text, values::Wildcard::No);
    }
    let _ = fields.require("targetPort", "a tunnel has a target's port").and_then(|field| values::port(&field));
    fields.finish();
}
