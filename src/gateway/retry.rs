//! Retries: which failures are tried again, how often, after how long, and on which endpoint.
//!
//! The default is Istio's: two retries, on failures to connect, refused streams and two gRPC statuses; a connection that breaks after
//! the request was sent is not retried. Conditions of the route and of the request's `x-envoy-retry-on` add up. Never retried: what a
//! circuit breaker refused, and what is marked `x-envoy-ratelimited` unless asked for. A wait precedes each retry (`backoff`).
//! Endpoints already tried are avoided: up to five more picks, and the last one is used whatever it is.
//!
//! Sources: istio pilot/pkg/networking/core/route/retry/retry.go; envoy source/common/router/retry_state_impl.cc.

pub mod backoff;
pub mod conditions;

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, StatusCode};

pub use backoff::{Backoff, RateLimitedBackoff, ResetFormat};
pub use conditions::{HeaderCondition, RetryOn, Subject, ValueCondition};

/// How often a pick that was tried before is picked anew.
pub const REPICKS_MAX: u32 = 5;

const RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
const RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
const MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const RETRIABLE_STATUS_CODES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
const RETRIABLE_HEADER_NAMES: HeaderName = HeaderName::from_static("x-envoy-retriable-header-names");
const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
const EARLY_DATA: HeaderName = HeaderName::from_static("early-data");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Headers by which a request steers its retries. They never reach an upstream; the last is one of `timeouts` and is read before.
pub static CONTROL_HEADERS: [HeaderName; 7] = [
    RETRY_ON,
    RETRY_GRPC_ON,
    MAX_RETRIES,
    RETRIABLE_STATUS_CODES,
    RETRIABLE_HEADER_NAMES,
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
];

/// The retries of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Tries after the first. 0 turns retries off.
    pub attempts: u32,
    /// A try is given up after this time, unset: no limit of its own.
    pub per_try_timeout: Option<Duration>,
    /// What is tried again.
    pub retry_on: RetryOn,
    /// The codes that [`RetryOn::RETRIABLE_STATUS_CODES`] means.
    pub retriable_status_codes: Cow<'static, [u16]>,
    /// The answers that [`RetryOn::RETRIABLE_HEADERS`] means; one of them suffices.
    pub retriable_headers: Vec<HeaderCondition>,
    /// Only requests that meet one of these are retried; all, if there are none.
    pub retriable_request_headers: Vec<HeaderCondition>,
    /// Whether 425 Too Early is retried for safe methods, as for an HTTP/3 upstream.
    pub retries_too_early: bool,
    /// The first interval of the back-off.
    pub backoff_base: Duration,
    /// The interval does not grow beyond this.
    pub backoff_max: Duration,
    /// Waits that answers ask for, in place of the back-off.
    pub rate_limited_backoff: Option<RateLimitedBackoff>,
    /// Whether endpoints already tried are avoided. Istio: not where a single destination hashes consistently.
    pub avoids_previous_hosts: bool,
    /// Whether priorities already tried are left out, from the second retry on.
    pub retry_remote_localities: bool,
}

impl RetryPolicy {
    /// What Istio sets where a route says nothing.
    pub const ISTIO: Self = Self::istio(2, &[]);

    /// What Istio before 1.24 sets: 503 is retried too, whatever its cause. Source: istio#50506.
    pub const ISTIO_BEFORE_1_24: Self = Self::istio(2, &[503]);

    /// No retries.
    pub const NONE: Self = Self::istio(0, &[]);

    const fn istio(attempts: u32, retriable_status_codes: &'static [u16]) -> Self {
        Self {
            attempts,
            per_try_timeout: None,
            retry_on: RetryOn::ISTIO,
            retriable_status_codes: Cow::Borrowed(retriable_status_codes),
            retriable_headers: Vec::new(),
            retriable_request_headers: Vec::new(),
            retries_too_early: false,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            rate_limited_backoff: None,
            avoids_previous_hosts: true,
            retry_remote_localities: false,
        }
    }

    /// The wait before retry `number`, counted from 1. `draw` gives a number uniform below its argument.
    #[must_use]
    pub fn backoff(&self, number: u32, draw: impl FnOnce(u64) -> u64) -> Duration {
        Backoff::Exponential { base: self.backoff_base, max: self.backoff_max }.delay(number, draw)
    }
}

/// How a try ended.
#[derive(Clone, Copy, Debug)]
pub enum TryEnd<'a> {
    /// With an answer. A gRPC status counts only if it is among these headers.
    Response {
        /// Its status.
        status: StatusCode,
        /// Its headers.
        headers: &'a HeaderMap,
    },
    /// Without any.
    Reset(Reset),
}

/// How a try ended without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    /// No connection: refused, failed or timed out.
    ConnectFailure,
    /// A circuit breaker refused it.
    Overflow,
    /// The upstream refused the stream.
    RefusedStream,
    /// The connection ended before any of the request was sent.
    BeforeRequest,
    /// The connection or the stream ended after that.
    AfterRequest,
    /// The time for one try was over.
    TooLate,
}

/// What follows from the end of a try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Try again, after the back-off.
    Retry,
    /// Try again without a wait.
    RetryAtOnce,
    /// It is no failure, or none that is retried.
    No,
    /// It would be retried, but all retries are used: flag `URX`.
    LimitExceeded,
    /// It would be retried, but the circuit breaker has no room: flag `UO`.
    Overflow,
}

/// The retries of one request.
#[derive(Debug)]
pub struct RetryState<'a> {
    policy: &'a RetryPolicy,
    retry_on: RetryOn,
    retries_left: u32,
    retries: u32,
    is_early_data: bool,
    /// What the request's headers add. In a box: most have none.
    asked: Option<Box<Asked>>,
}

#[derive(Default, Debug)]
struct Asked {
    status_codes: Vec<u16>,
    headers: Vec<HeaderCondition>,
}

impl<'a> RetryState<'a> {
    /// The retries of a request with this head.
    #[must_use]
    pub fn new(policy: &'a RetryPolicy, method: &Method, headers: &HeaderMap) -> Self {
        Self::begin(
            policy,
            method,
            headers,
            headers.keys().any(|name| is_envoys(name) && CONTROL_HEADERS.contains(name)),
        )
    }

    /// The same for a request that does not steer Envoy.
    #[must_use]
    pub fn of_policy(policy: &'a RetryPolicy, method: &Method, headers: &HeaderMap) -> Self {
        Self::begin(policy, method, headers, false)
    }

    fn begin(policy: &'a RetryPolicy, method: &Method, headers: &HeaderMap, asks: bool) -> Self {
        let mut state = Self {
            policy,
            retry_on: if policy.attempts == 0 { RetryOn::NONE } else { policy.retry_on },
            // Envoy's default, where a route has no policy but a request asks for retries.
            retries_left: if policy.attempts == 0 { 1 } else { policy.attempts },
            retries: 0,
            is_early_data: false,
            asked: None,
        };
        if asks {
            state.ask(headers);
        }
        if policy.retries_too_early && method.is_safe() {
            state.retry_on = state.retry_on.and(RetryOn::RETRIABLE_STATUS_CODES);
            state.asked.get_or_insert_default().status_codes.push(StatusCode::TOO_EARLY.as_u16());
            state.is_early_data = headers.contains_key(EARLY_DATA);
        }
        let limits = &policy.retriable_request_headers;
        if !limits.is_empty() && !limits.iter().any(|limit| limit.holds_for_request(method, headers)) {
            state.retry_on = RetryOn::NONE;
        }
        state
    }

    /// What the request asks for by its headers is added to what its route has.
    fn ask(&mut self, headers: &HeaderMap) {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let conditions = text(&RETRY_ON).map_or(RetryOn::NONE, |list| RetryOn::parse(list).0);
        let grpc = text(&RETRY_GRPC_ON).map_or(RetryOn::NONE, |list| RetryOn::parse_grpc(list).0);
        self.retry_on = self.retry_on.and(conditions).and(grpc);
        if let Some(retries) = text(&MAX_RETRIES).and_then(|text| text.trim().parse().ok()) {
            self.retries_left = retries;
        }
        let mut asked = Asked::default();
        if let Some(list) = text(&RETRIABLE_STATUS_CODES) {
            asked.status_codes.extend(list.split(',').filter_map(|code| code.trim().parse::<u16>().ok()));
        }
        if let Some(list) = text(&RETRIABLE_HEADER_NAMES) {
            let names = list.split(',').map(str::trim);
            asked.headers.extend(names.filter_map(Subject::parse).map(HeaderCondition::present));
        }
        self.asked = Some(Box::new(asked));
    }

    /// Whether anything at all is retried.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.retry_on != RetryOn::NONE
    }

    /// Whether anything is retried of which a part was sent; then the request has to be kept. A gRPC status is looked for only where the request
    /// was gRPC.
    #[must_use]
    pub fn repeats_what_was_sent(&self, is_grpc: bool) -> bool {
        let sent = [
            RetryOn::RESET,
            RetryOn::FIVE_XX,
            RetryOn::GATEWAY_ERROR,
            RetryOn::RETRIABLE_4XX,
            RetryOn::RETRIABLE_HEADERS,
            RetryOn::ENVOY_RATE_LIMITED,
            RetryOn::PER_TRY_TIMEOUT,
        ];
        let has_codes = !self.policy.retriable_status_codes.is_empty()
            || self.asked.as_ref().is_some_and(|asked| !asked.status_codes.is_empty());
        sent.into_iter().any(|condition| self.retry_on.has(condition))
            || has_codes && self.retry_on.has(RetryOn::RETRIABLE_STATUS_CODES)
            || is_grpc && self.retry_on.has_any(RetryOn::GRPC)
    }

    /// Retries so far.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// What follows from the end of a try. `begin_retry` says whether the circuit breaker has room for a retry, and takes it.
    pub fn decide(&mut self, end: &TryEnd<'_>, begin_retry: impl FnOnce() -> bool) -> Decision {
        let decision = match end {
            TryEnd::Response { status, headers } => self.judge_response(*status, headers),
            TryEnd::Reset(reset) => self.judge_reset(*reset),
        };
        if decision == Decision::No {
            return decision;
        }
        let Some(left) = self.retries_left.checked_sub(1) else { return Decision::LimitExceeded };
        self.retries_left = left;
        if !begin_retry() {
            return Decision::Overflow;
        }
        self.retries += 1;
        decision
    }

    /// The wait before the retry just decided on. `unix_seconds` is the time on the gateway's clock.
    #[must_use]
    pub fn backoff(&self, end: &TryEnd<'_>, unix_seconds: u64, draw: impl FnOnce(u64) -> u64) -> Duration {
        let asked_for = match (&self.policy.rate_limited_backoff, end) {
            (Some(backoff), TryEnd::Response { headers, .. }) => backoff.interval(headers, unix_seconds),
            _ => None,
        };
        match asked_for {
            Some(interval) => Backoff::LowerBound(interval).delay(self.retries, draw),
            None => self.policy.backoff(self.retries, draw),
        }
    }

    fn judge_response(&self, status: StatusCode, headers: &HeaderMap) -> Decision {
        let decision = self.judge_answer(status, headers);
        // What was rate-limited is retried only by those who say so. Looked for last, for it matters to few answers.
        let retries_limited = self.retry_on.has(RetryOn::ENVOY_RATE_LIMITED);
        match retries_limited || decision != Decision::No {
            true if headers.contains_key(RATE_LIMITED) => {
                if retries_limited {
                    Decision::Retry
                } else {
                    Decision::No
                }
            }
            _ => decision,
        }
    }

    fn judge_answer(&self, status: StatusCode, headers: &HeaderMap) -> Decision {
        let is_on = |condition| self.retry_on.has(condition);
        let retry_if = |holds| if holds { Decision::Retry } else { Decision::No };
        let code = status.as_u16();
        if is_on(RetryOn::RETRIABLE_STATUS_CODES) && self.is_retriable(code) {
            if status != StatusCode::TOO_EARLY {
                return Decision::Retry;
            }
            // Who sent it as early data must send it again: the gateway may not.
            if !self.is_early_data {
                return Decision::RetryAtOnce;
            }
        }
        let asked = self.asked.iter().flat_map(|asked| &asked.headers);
        let mut retriable = self.policy.retriable_headers.iter().chain(asked);
        retry_if(
            is_on(RetryOn::FIVE_XX) && status.is_server_error()
                || is_on(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&code)
                || is_on(RetryOn::RETRIABLE_4XX) && status == StatusCode::CONFLICT
                || is_on(RetryOn::RETRIABLE_HEADERS)
                    && retriable.any(|condition| condition.holds_for_response(status, headers))
                || self.retry_on.has_any(RetryOn::GRPC)
                    && grpc_status(headers).is_some_and(|status| self.retry_on.has_any(RetryOn::for_grpc(status))),
        )
    }

    fn judge_reset(&self, reset: Reset) -> Decision {
        let any = RetryOn::RESET.and(RetryOn::FIVE_XX).and(RetryOn::GATEWAY_ERROR);
        let conditions = match reset {
            Reset::Overflow => return Decision::No,
            Reset::ConnectFailure => any.and(RetryOn::CONNECT_FAILURE).and(RetryOn::RESET_BEFORE_REQUEST),
            Reset::RefusedStream => any.and(RetryOn::REFUSED_STREAM),
            Reset::BeforeRequest => any.and(RetryOn::RESET_BEFORE_REQUEST),
            Reset::AfterRequest => any,
            Reset::TooLate => any.and(RetryOn::PER_TRY_TIMEOUT),
        };
        if self.retry_on.has_any(conditions) { Decision::Retry } else { Decision::No }
    }

    fn is_retriable(&self, code: u16) -> bool {
        self.policy.retriable_status_codes.contains(&code)
            || self.asked.as_ref().is_some_and(|asked| asked.status_codes.contains(&code))
    }
}

/// Whether a header is one of Envoy's own: few are, and a look at its start is cheaper than at a list of names.
pub(super) fn is_envoys(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-envoy-")
}

/// Takes the headers away by which a request steers its retries.
pub fn remove_control_headers(headers: &mut HeaderMap) {
    if headers.keys().any(|name| is_envoys(name) && CONTROL_HEADERS.contains(name)) {
        for name in &CONTROL_HEADERS {
            headers.remove(name);
        }
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(policy: &RetryPolicy, reset: Reset) -> Decision {
        RetryState::new(policy, &Method::GET, &HeaderMap::new()).decide(&TryEnd::Reset(reset), || true)
    }

    #[test]
    fn by_default_only_failures_to_connect_and_refused_streams_are_retried() {
        let default = |reset| decide(&RetryPolicy::ISTIO, reset);
        assert_eq!(default(Reset::ConnectFailure), Decision::Retry);
        assert_eq!(default(Reset::RefusedStream), Decision::Retry);
        assert_eq!(default(Reset::AfterRequest), Decision::No);
        assert_eq!(default(Reset::BeforeRequest), Decision::No);
        let on = |retry_on, reset| decide(&RetryPolicy { retry_on, ..RetryPolicy::ISTIO }, reset);
        assert_eq!(on(RetryOn::RESET, Reset::AfterRequest), Decision::Retry);
        assert_eq!(on(RetryOn::RESET_BEFORE_REQUEST, Reset::AfterRequest), Decision::No);
        assert_eq!(on(RetryOn::RESET_BEFORE_REQUEST, Reset::BeforeRequest), Decision::Retry);
        assert_eq!(on(RetryOn::FIVE_XX, Reset::Overflow), Decision::No);
        assert_eq!(on(RetryOn::PER_TRY_TIMEOUT, Reset::TooLate), Decision::Retry);
        assert_eq!(on(RetryOn::PER_TRY_TIMEOUT, Reset::AfterRequest), Decision::No);
        assert_eq!(default(Reset::TooLate), Decision::No);
    }

    #[test]
    fn two_attempts_are_three_tries_and_none_is_one() {
        let policy = RetryPolicy::ISTIO;
        let mut state = RetryState::new(&policy, &Method::GET, &HeaderMap::new());
        let mut decide = || state.decide(&TryEnd::Reset(Reset::ConnectFailure), || true);
        assert_eq!([decide(), decide(), decide()], [Decision::Retry, Decision::Retry, Decision::LimitExceeded]);
        assert_eq!(tests::decide(&RetryPolicy::NONE, Reset::ConnectFailure), Decision::No);
    }

    #[test]
    fn older_istio_retries_every_503() {
        let judge = |policy: &RetryPolicy| {
            let end = TryEnd::Response { status: StatusCode::SERVICE_UNAVAILABLE, headers: &HeaderMap::new() };
            RetryState::new(policy, &Method::GET, &HeaderMap::new()).decide(&end, || true)
        };
        assert_eq!(judge(&RetryPolicy::ISTIO), Decision::No);
        assert_eq!(judge(&RetryPolicy::ISTIO_BEFORE_1_24), Decision::Retry);
    }

    #[test]
    fn an_answer_can_say_when() {
        let policy = RetryPolicy {
            retry_on: RetryOn::FIVE_XX,
            rate_limited_backoff: Some(RateLimitedBackoff {
                headers: vec![(http::header::RETRY_AFTER, ResetFormat::Seconds)],
                max_interval: Duration::from_secs(300),
            }),
            ..RetryPolicy::ISTIO
        };
        let mut headers = HeaderMap::new();
        headers.insert(http::header::RETRY_AFTER, 2.into());
        let end = TryEnd::Response { status: StatusCode::SERVICE_UNAVAILABLE, headers: &headers };
        let mut state = RetryState::new(&policy, &Method::GET, &HeaderMap::new());
        assert_eq!(state.decide(&end, || true), Decision::Retry);
        assert_eq!(state.backoff(&end, 0, |_| 0), Duration::from_secs(2));
        assert!(state.backoff(&TryEnd::Reset(Reset::AfterRequest), 0, |_| 0).is_zero());
    }
}
