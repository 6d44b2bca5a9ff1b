//! Global and per-try time-outs from routes, headers and gRPC.

use std::collections::BTreeMap;
use std::time::Duration;

use gatedrill::gateway::timeouts::{GrpcTimeouts, RouteTimeouts};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::family;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    config: ConfigSpec,
    is_grpc: bool,
    headers: Vec<(String, String)>,
    elapsed_ms: Option<u64>,
    expect: Expectation,
}

/// Times of 0 mean no limit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigSpec {
    route_timeout_ms: Option<u64>,
    per_try_timeout_ms: Option<u64>,
    #[serde(default)]
    hedge_on_per_try_timeout: bool,
    max_grpc_timeout_ms: Option<u64>,
    grpc_timeout_offset_ms: Option<u64>,
    #[serde(default)]
    respect_expected_rq_timeout: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    global_timeout_ms: Option<u64>,
    per_try_timeout_ms: Option<u64>,
    #[serde(default)]
    upstream_headers: BTreeMap<String, Option<String>>,
}

fn limit(millis: Option<u64>) -> Option<Duration> {
    millis.filter(|millis| *millis > 0).map(Duration::from_millis)
}

pub(crate) fn headers(pairs: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().filter(|(name, _)| !name.starts_with(':')) {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        headers.append(name, HeaderValue::from_str(value).expect("a header's value"));
    }
    headers
}

#[test]
fn conformance_timeout() {
    for case in family::<Case>("envoy-timeout").cases {
        let config = &case.config;
        let route = RouteTimeouts {
            global: limit(config.route_timeout_ms),
            per_try: limit(config.per_try_timeout_ms),
            grpc: config.max_grpc_timeout_ms.map(|max| GrpcTimeouts {
                max: limit(Some(max)),
                offset: Duration::from_millis(config.grpc_timeout_offset_ms.unwrap_or(0)),
            }),
            hedges_on_per_try_timeout: config.hedge_on_per_try_timeout,
            respects_expected: config.respect_expected_rq_timeout,
        };
        let mut headers = headers(&case.headers);
        let timeouts = route.resolve(case.is_grpc, &mut headers);
        if let Some(elapsed) = case.elapsed_ms {
            timeouts.tell(Duration::from_millis(elapsed), &mut headers);
        }
        if let Some(expected) = case.expect.global_timeout_ms {
            assert_eq!(timeouts.global, limit(Some(expected)), "{}", case.id);
        }
        if let Some(expected) = case.expect.per_try_timeout_ms {
            assert_eq!(timeouts.per_try, limit(Some(expected)), "{}", case.id);
        }
        for (name, expected) in case.expect.upstream_headers {
            let found = headers.get(&name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(found, expected, "{}: {name}", case.id);
        }
    }
}
