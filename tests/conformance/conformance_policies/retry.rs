//! Retries: conditions, limits, budgets, headers, and the waits between tries.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::gateway::limits::{Limits, Resources};
use gatedrill::gateway::retry::{
    Backoff, Decision, HeaderCondition, RateLimitedBackoff, Reset, ResetFormat, RetryOn, RetryPolicy, RetryState,
    Subject, TryEnd, ValueCondition, remove_control_headers,
};
use gatedrill::gateway::timeouts::RouteTimeouts;
use http::{HeaderName, Method, StatusCode};
use serde::Deserialize;

use super::limits::BudgetSpec;
use super::timeout::headers;
use super::{Group, family, nullable};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicySpec {
    num_retries: Option<u32>,
    #[serde(default)]
    retry_on: String,
    #[serde(default)]
    retriable_status_codes: Vec<u16>,
    #[serde(default)]
    retriable_headers: Vec<HeaderSpec>,
    #[serde(default)]
    retriable_request_headers: Vec<HeaderSpec>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterSpec {
    #[serde(default)]
    http3: bool,
    max_retries: Option<u32>,
    retry_budget: Option<BudgetSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderSpec {
    name: String,
    string_match: Option<TextSpec>,
    range_match: Option<RangeSpec>,
    #[serde(default)]
    invert_match: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum TextSpec {
    Exact(String),
    Prefix(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeSpec {
    start: i64,
    end: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    #[serde(default)]
    request_headers: Vec<(String, String)>,
    #[serde(default = "yes")]
    retry_enabled: bool,
    #[serde(default)]
    attempts: Vec<Attempt>,
    value: Option<String>,
    #[serde(default)]
    conditions: Vec<String>,
    all_valid: Option<bool>,
    #[serde(default)]
    absent_upstream_headers: Vec<String>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attempt {
    reset: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    decision: String,
    #[serde(default)]
    other_active_retries: usize,
    #[serde(default)]
    active_requests: usize,
}

impl HeaderSpec {
    fn condition(&self) -> HeaderCondition {
        let value = match (&self.string_match, &self.range_match) {
            (None, None) => ValueCondition::Present,
            (Some(TextSpec::Exact(text)), None) => ValueCondition::Exact(text.clone()),
            (Some(TextSpec::Prefix(text)), None) => ValueCondition::Prefix(text.clone()),
            (None, Some(range)) => ValueCondition::Range(range.start, range.end),
            (Some(_), Some(_)) => panic!("{}: two conditions", self.name),
        };
        HeaderCondition {
            subject: Subject::parse(&self.name).expect("a header's name"),
            value,
            inverted: self.invert_match,
        }
    }
}

fn policy(spec: &PolicySpec, cluster: &ClusterSpec) -> RetryPolicy {
    let conditions = |list: &[HeaderSpec]| list.iter().map(HeaderSpec::condition).collect();
    RetryPolicy {
        attempts: spec.num_retries.unwrap_or(1),
        retry_on: RetryOn::parse(&spec.retry_on).0.and(RetryOn::parse_grpc(&spec.retry_on).0),
        retriable_status_codes: Cow::Owned(spec.retriable_status_codes.clone()),
        retriable_headers: conditions(&spec.retriable_headers),
        retriable_request_headers: conditions(&spec.retriable_request_headers),
        retries_too_early: cluster.http3,
        ..RetryPolicy::ISTIO
    }
}

/// The value of a pseudo-header.
fn pseudo<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

/// What the state decides, in the words of the cases.
fn decide(state: &mut RetryState<'_>, attempt: &Attempt, cluster: &ClusterSpec) -> &'static str {
    let limits = Limits { retries: cluster.max_retries.unwrap_or(1), ..Limits::ISTIO };
    let budget = cluster.retry_budget.as_ref().map(BudgetSpec::budget);
    let resources = Rc::new(Resources::new(limits, budget));
    (0..attempt.active_requests).for_each(|_| resources.requests.acquire());
    let others: Vec<_> =
        (0..attempt.other_active_retries).map(|_| resources.begin_retry().expect("room for others")).collect();
    let fields = headers(&attempt.headers);
    let end = match attempt.reset.as_deref() {
        None => {
            let status = pseudo(&attempt.headers, ":status").expect("an answer has a status");
            let status = StatusCode::from_bytes(status.as_bytes()).expect("a status");
            TryEnd::Response { status, headers: &fields }
        }
        Some("remote-reset") => TryEnd::Reset(Reset::AfterRequest),
        Some("connect-failure") => TryEnd::Reset(Reset::ConnectFailure),
        Some("overflow") => TryEnd::Reset(Reset::Overflow),
        Some(other) => panic!("no reset {other}"),
    };
    let decision = state.decide(&end, || resources.begin_retry().is_some());
    drop(others);
    let is_too_early = matches!(end, TryEnd::Response { status: StatusCode::TOO_EARLY, .. });
    match decision {
        Decision::Retry if !is_too_early => "retry",
        Decision::RetryAtOnce if is_too_early => "retry",
        Decision::Retry | Decision::RetryAtOnce => "retry, but not when it should be",
        Decision::No => "no",
        Decision::LimitExceeded => "limit-exceeded",
        Decision::Overflow => "overflow",
    }
}

fn check_attempts(group: &Group<Case>, case: &Case) {
    let policy = policy(&group.policy, &group.cluster);
    // Where a case has no method, it is one that no condition asks for.
    let method = pseudo(&case.request_headers, ":method").unwrap_or("NONE");
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let mut state = RetryState::new(&policy, &method, &headers(&case.request_headers));
    assert_eq!(state.is_enabled(), case.retry_enabled, "{} {}", group.name, case.id);
    for (number, attempt) in case.attempts.iter().enumerate() {
        let decision = decide(&mut state, attempt, &group.cluster);
        assert_eq!(decision, attempt.decision, "{} {}, attempt {number}", group.name, case.id);
    }
}

fn check_parse(case: &Case, parse: fn(&str) -> (RetryOn, bool)) {
    let expected = case.conditions.iter().fold(RetryOn::NONE, |set, name| set.and(parse(name).0));
    let parsed = parse(case.value.as_ref().expect("a list"));
    assert_eq!(parsed, (expected, case.all_valid.expect("whether it is valid")), "{}", case.id);
    let each = case.conditions.iter().all(|name| parse(name).1);
    assert!(each, "{}: every condition that is expected is one", case.id);
}

/// The order of the pipeline: time-outs, then retries.
fn check_upstream_request(group: &Group<Case>, case: &Case) {
    let mut headers = headers(&case.request_headers);
    let policy = policy(&group.policy, &group.cluster);
    let timeouts = RouteTimeouts::istio(None, policy.per_try_timeout).resolve(false, &mut headers);
    assert!(timeouts.per_try.is_some(), "{}: the header counts", case.id);
    assert!(RetryState::new(&policy, &Method::GET, &headers).is_enabled(), "{}: the headers count", case.id);
    remove_control_headers(&mut headers);
    for name in &case.absent_upstream_headers {
        assert!(!headers.contains_key(name), "{}: {name}", case.id);
    }
}

#[test]
fn conformance_retry() {
    for group in family::<Case>("envoy-retry").groups {
        for case in &group.cases {
            match group.operation.as_deref() {
                None => check_attempts(&group, case),
                Some("parse_retry_on") => check_parse(case, RetryOn::parse),
                Some("parse_retry_grpc_on") => check_parse(case, RetryOn::parse_grpc),
                Some("upstream_request") => check_upstream_request(&group, case),
                Some(other) => panic!("no operation {other}"),
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackoffCase {
    id: String,
    test: String,
    kind: String,
    base_interval_ms: Option<u64>,
    max_interval_ms: Option<u64>,
    #[serde(default)]
    max_interval_default: bool,
    #[serde(default)]
    random: Vec<u64>,
    #[serde(default)]
    delays_ms: Vec<u128>,
    #[serde(default, deserialize_with = "nullable")]
    interval_ms: Option<Option<u64>>,
    now_unix_s: Option<u64>,
    #[serde(default)]
    reset_headers: Vec<ResetSpec>,
    #[serde(default)]
    response_headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResetSpec {
    name: String,
    format: FormatSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum FormatSpec {
    Seconds,
    UnixTimestamp,
}

#[test]
fn conformance_retry_backoff() {
    for case in family::<BackoffCase>("envoy-retry-backoff").cases {
        let label = format!("{} {}", case.id, case.test);
        let millis = |millis: Option<u64>| Duration::from_millis(millis.expect("a time"));
        let interval = || millis(case.interval_ms.flatten());
        let backoff = match case.kind.as_str() {
            "exponential-full-jitter" => {
                let (base, max) = (millis(case.base_interval_ms), millis(case.max_interval_ms));
                assert!(!case.max_interval_default || base * 10 == max, "{label}");
                Backoff::Exponential { base, max }
            }
            "lower-bound-half-jitter" => Backoff::LowerBound(interval()),
            "fixed" => Backoff::Fixed(interval()),
            "reset-interval" => {
                check_reset_interval(&case, &label);
                continue;
            }
            other => panic!("{label}: no kind {other}"),
        };
        let delays: Vec<u128> = (0..case.delays_ms.len())
            .map(|index| {
                // The cases draw whole milliseconds.
                let draw = |bound: u64| case.random[index] % (bound / 1_000_000) * 1_000_000;
                backoff.delay(u32::try_from(index).unwrap() + 1, draw).as_millis()
            })
            .collect();
        assert_eq!(delays, case.delays_ms, "{label}");
    }
}

fn check_reset_interval(case: &BackoffCase, label: &str) {
    let format = |spec: &ResetSpec| match spec.format {
        FormatSpec::Seconds => ResetFormat::Seconds,
        FormatSpec::UnixTimestamp => ResetFormat::UnixTimestamp,
    };
    let name = |spec: &ResetSpec| HeaderName::from_bytes(spec.name.as_bytes()).expect("a header's name");
    let backoff = RateLimitedBackoff {
        headers: case.reset_headers.iter().map(|spec| (name(spec), format(spec))).collect(),
        max_interval: case.max_interval_ms.map_or(RateLimitedBackoff::MAX_INTERVAL, Duration::from_millis),
    };
    let fields: Vec<(String, String)> = case.response_headers.clone().into_iter().collect();
    let interval = backoff.interval(&headers(&fields), case.now_unix_s.expect("the time"));
    let expected = case.interval_ms.expect("an interval or null");
    assert_eq!(interval, expected.map(Duration::from_millis), "{label}");
}
