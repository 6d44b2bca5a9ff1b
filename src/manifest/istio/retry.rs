//! `HTTPRetry`, and what a proxy makes of it.
//!
//! - Without a policy: two retries on failures to connect, refused streams and two statuses of gRPC. A policy without `retryOn` keeps these.
//! - `attempts: 0` is no policy. Numbers inside `retryOn` are statuses to retry, and imply `retriable-status-codes`.
//! - Endpoints already tried are avoided, up to five picks; not where requests are bound to endpoints by a hash, unless the policy asks for it.
//! - Before 1.24 Istio's own conditions had the status 503.
//!
//! Source: istio pilot/pkg/networking/core/route/retry/retry.go; istio issue 50506.

use std::time::Duration;

use http::StatusCode;

use super::values;
use crate::manifest::read::Field;
use crate::record::results::FidelityStatus;

/// `retries` of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retries {
    /// Tries after the first.
    pub attempts: u32,
    /// A try is given up after this time.
    pub per_try_timeout: Option<Duration>,
    /// The first interval of the back-off.
    pub backoff: Option<Duration>,
    /// What is tried again; empty: Istio's own list.
    pub retry_on: Vec<String>,
    /// Whether other localities are tried.
    pub remote_localities: bool,
    /// Whether endpoints already tried are avoided; unset: unless a hash binds requests to endpoints.
    pub avoid_previous_hosts: Option<bool>,
}

/// What a proxy does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetrySettings {
    /// Envoy's conditions.
    pub conditions: Vec<String>,
    /// Statuses that are tried again.
    pub codes: Vec<u16>,
    /// Tries after the first.
    pub attempts: u32,
    /// A try is given up after this time.
    pub per_try_timeout: Option<Duration>,
    /// The first interval of the back-off.
    pub backoff: Option<Duration>,
    /// Whether endpoints already tried are avoided.
    pub avoids_previous_hosts: bool,
    /// Picks after the first to find another endpoint.
    pub repicks_max: u32,
    /// Whether other priorities are tried.
    pub tries_other_priorities: bool,
}

/// Where Istio changed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Defaults {
    /// Since 1.24.
    #[default]
    Now,
    /// Before 1.24.
    With503,
}

impl Defaults {
    /// Those of a version of Istio, major and minor.
    #[must_use]
    pub fn of(version: (u32, u32)) -> Self {
        if version < (1, 24) { Self::With503 } else { Self::Now }
    }
}

const OWN_CONDITIONS: [&str; 5] =
    ["connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"];

/// Source: envoy docs configuration/http/http_filters/router_filter, `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
const CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// Reads `retries`.
pub(super) fn read(field: &Field<'_>) -> Option<Retries> {
    let fields = field.fields()?;
    // In the resource's type an absent number is 0, and 0 means none: the default of 2 holds where there is no policy at all.
    let attempts = fields.get("attempts").map_or(Some(0), |field| field.whole::<u32>(0, i64::from(i32::MAX)));
    let per_try = fields.get("perTryTimeout");
    let backoff = fields.get("backoff");
    let retry_on = fields.get("retryOn").filter(|field| !field.node().is_empty());
    let remote = fields.get("retryRemoteLocalities");
    let avoid = fields.get("retryIgnorePreviousHosts");
    fields.finish();
    if attempts == Some(0) && (per_try.is_some() || retry_on.is_some() || remote.is_some()) {
        field.refuse(
            "a policy without attempts retries nothing, and Istio refuses one",
            "write attempts: 2, for example",
        );
    }
    let mut conditions = Vec::new();
    if let Some(field) = &retry_on {
        for condition in field.text()?.split(',') {
            let code = condition.trim().parse::<u16>().ok().and_then(|code| StatusCode::from_u16(code).ok());
            let is_known = code.is_some_and(|code| code.canonical_reason().is_some());
            if !is_known && !CONDITIONS.contains(&condition) {
                let problem = field.problem(format!("`{condition}` is no condition of retries"));
                field.sink().report(problem.did_you_mean(condition, CONDITIONS));
            }
            conditions.push(condition.trim().to_owned());
        }
        if conditions.iter().any(|condition| condition == "http3-post-connect-failure") {
            field.note(FidelityStatus::Approximated, Some("HTTP/3 is not simulated"));
        }
    }
    Some(Retries {
        attempts: attempts?,
        per_try_timeout: per_try.and_then(|field| values::span(&field)),
        backoff: backoff.and_then(|field| values::span(&field)),
        retry_on: conditions,
        remote_localities: remote.and_then(|field| field.boolean()).unwrap_or(false),
        avoid_previous_hosts: avoid.and_then(|field| field.boolean()),
    })
}

/// What a proxy does; none: nothing is tried again. `is_hashed` tells whether the only destination binds requests to endpoints by a hash.
#[must_use]
pub fn settings(retries: Option<&Retries>, is_hashed: bool, defaults: Defaults) -> Option<RetrySettings> {
    let mut found = RetrySettings {
        conditions: OWN_CONDITIONS.map(str::to_owned).to_vec(),
        codes: if defaults == Defaults::With503 { vec![503] } else { Vec::new() },
        attempts: 2,
        per_try_timeout: None,
        backoff: None,
        avoids_previous_hosts: !is_hashed,
        repicks_max: 5,
        tries_other_priorities: false,
    };
    let Some(retries) = retries else { return Some(found) };
    if retries.attempts == 0 {
        return None;
    }
    if !retries.retry_on.is_empty() {
        let codes = retries.retry_on.iter().filter_map(|condition| condition.parse().ok());
        found.codes = codes.collect();
        let words = retries.retry_on.iter().filter(|condition| condition.parse::<u16>().is_err());
        found.conditions = words.cloned().collect();
        let implied = "retriable-status-codes".to_owned();
        if !found.codes.is_empty() && !found.conditions.contains(&implied) {
            found.conditions.push(implied);
        }
    }
    found.attempts = retries.attempts;
    found.per_try_timeout = retries.per_try_timeout;
    found.backoff = retries.backoff;
    found.avoids_previous_hosts = retries.avoid_previous_hosts.unwrap_or(!is_hashed);
    found.tries_other_priorities = retries.remote_localities;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_istio_retried_503() {
        let codes = |defaults| settings(None, false, defaults).map(|settings| settings.codes);
        assert_eq!([codes(Defaults::of((1, 24))), codes(Defaults::of((1, 23)))], [Some(vec![]), Some(vec![503])]);
    }

    #[test]
    fn a_hash_keeps_endpoints_that_were_tried() {
        let avoids =
            |is_hashed| settings(None, is_hashed, Defaults::Now).map(|settings| settings.avoids_previous_hosts);
        assert_eq!([avoids(false), avoids(true)], [Some(true), Some(false)]);
    }
}
