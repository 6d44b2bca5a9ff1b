//! What is tried again: the conditions of `retry_on`, and conditions on headers.
//!
//! Source: envoy docs/root/configuration/http/http_filters/router_filter.rst, source/common/router/retry_state_impl.cc.

use http::{HeaderMap, HeaderName, Method, StatusCode};

/// A set of retry conditions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RetryOn(u32);

impl RetryOn {
    /// Nothing is retried.
    pub const NONE: Self = Self(0);
    /// A status of 500 and above, and any reset.
    pub const FIVE_XX: Self = Self(1);
    /// 502, 503 and 504, and any reset.
    pub const GATEWAY_ERROR: Self = Self(1 << 1);
    /// A connection could not be made.
    pub const CONNECT_FAILURE: Self = Self(1 << 2);
    /// 409 Conflict.
    pub const RETRIABLE_4XX: Self = Self(1 << 3);
    /// The upstream refused the stream.
    pub const REFUSED_STREAM: Self = Self(1 << 4);
    /// One of a list of codes.
    pub const RETRIABLE_STATUS_CODES: Self = Self(1 << 5);
    /// One of a list of conditions on the answer's headers.
    pub const RETRIABLE_HEADERS: Self = Self(1 << 6);
    /// Any end without an answer.
    pub const RESET: Self = Self(1 << 7);
    /// An end before any of the request was sent.
    pub const RESET_BEFORE_REQUEST: Self = Self(1 << 8);
    /// An answer marked `x-envoy-ratelimited`.
    pub const ENVOY_RATE_LIMITED: Self = Self(1 << 9);
    /// An HTTP/3 connection that failed after it was made. No upstream of ours speaks HTTP/3.
    pub const HTTP3_POST_CONNECT_FAILURE: Self = Self(1 << 10);
    /// gRPC status 1.
    pub const CANCELLED: Self = Self(1 << 11);
    /// gRPC status 4.
    pub const DEADLINE_EXCEEDED: Self = Self(1 << 12);
    /// gRPC status 8.
    pub const RESOURCE_EXHAUSTED: Self = Self(1 << 13);
    /// gRPC status 13.
    pub const INTERNAL: Self = Self(1 << 14);
    /// gRPC status 14.
    pub const UNAVAILABLE: Self = Self(1 << 15);
    /// The time for one try was over. Envoy has no condition for this alone; the Gateway API asks for it where a route has retries and
    /// `timeouts.backendRequest`.
    pub const PER_TRY_TIMEOUT: Self = Self(1 << 16);

    /// All conditions on a gRPC status.
    pub const GRPC: Self = Self::CANCELLED
        .and(Self::DEADLINE_EXCEEDED)
        .and(Self::RESOURCE_EXHAUSTED)
        .and(Self::INTERNAL)
        .and(Self::UNAVAILABLE);

    /// Istio's default. Source: istio pilot/pkg/networking/core/route/retry/retry.go.
    pub const ISTIO: Self = Self::CONNECT_FAILURE
        .and(Self::REFUSED_STREAM)
        .and(Self::UNAVAILABLE)
        .and(Self::CANCELLED)
        .and(Self::RETRIABLE_STATUS_CODES);

    const NAMES: [(&'static str, Self); 11] = [
        ("5xx", Self::FIVE_XX),
        ("gateway-error", Self::GATEWAY_ERROR),
        ("connect-failure", Self::CONNECT_FAILURE),
        ("retriable-4xx", Self::RETRIABLE_4XX),
        ("refused-stream", Self::REFUSED_STREAM),
        ("retriable-status-codes", Self::RETRIABLE_STATUS_CODES),
        ("retriable-headers", Self::RETRIABLE_HEADERS),
        ("reset", Self::RESET),
        ("reset-before-request", Self::RESET_BEFORE_REQUEST),
        ("envoy-ratelimited", Self::ENVOY_RATE_LIMITED),
        ("http3-post-connect-failure", Self::HTTP3_POST_CONNECT_FAILURE),
    ];

    const GRPC_NAMES: [(&'static str, u32, Self); 5] = [
        ("cancelled", 1, Self::CANCELLED),
        ("deadline-exceeded", 4, Self::DEADLINE_EXCEEDED),
        ("resource-exhausted", 8, Self::RESOURCE_EXHAUSTED),
        ("internal", 13, Self::INTERNAL),
        ("unavailable", 14, Self::UNAVAILABLE),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in this set.
    #[must_use]
    pub const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The conditions of a list with commas, and whether all its words are conditions.
    #[must_use]
    pub fn parse(list: &str) -> (Self, bool) {
        collect(list, |word| Self::NAMES.iter().find(|(name, _)| *name == word).map(|(_, condition)| *condition))
    }

    /// The same for a list of gRPC statuses.
    #[must_use]
    pub fn parse_grpc(list: &str) -> (Self, bool) {
        collect(list, |word| Self::GRPC_NAMES.iter().find(|(name, ..)| *name == word).map(|(.., condition)| *condition))
    }

    /// The condition that a gRPC status meets.
    #[must_use]
    pub fn for_grpc(status: u32) -> Self {
        Self::GRPC_NAMES
            .iter()
            .find(|(_, number, _)| *number == status)
            .map_or(Self::NONE, |(.., condition)| *condition)
    }
}

fn collect(list: &str, find: impl Fn(&str) -> Option<RetryOn>) -> (RetryOn, bool) {
    let found = list.split(',').map(|word| find(word.trim()));
    found.fold((RetryOn::NONE, true), |(set, is_valid), found| match found {
        Some(condition) => (set.and(condition), is_valid),
        None => (set, false),
    })
}

/// A condition on a request or an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderCondition {
    /// What it looks at.
    pub subject: Subject,
    /// What it wants of it.
    pub value: ValueCondition,
    /// The condition must not hold.
    pub inverted: bool,
}

/// What a condition looks at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// `:method` of a request.
    Method,
    /// `:status` of an answer.
    Status,
    /// A header's first value.
    Header(HeaderName),
}

/// What a condition wants of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ValueCondition {
    /// That there is one.
    Present,
    /// The whole value.
    Exact(String),
    /// Its first characters.
    Prefix(String),
    /// A whole number from the first up to below the second.
    Range(i64, i64),
}

impl Subject {
    /// The subject of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            ":method" => Some(Self::Method),
            ":status" => Some(Self::Status),
            _ => HeaderName::from_bytes(name.as_bytes()).ok().map(Self::Header),
        }
    }
}

impl HeaderCondition {
    /// That there is one.
    #[must_use]
    pub fn present(subject: Subject) -> Self {
        Self { subject, value: ValueCondition::Present, inverted: false }
    }

    /// Whether it holds for a request.
    #[must_use]
    pub fn holds_for_request(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.holds(Some(method.as_str()), None, headers)
    }

    /// Whether it holds for an answer.
    #[must_use]
    pub fn holds_for_response(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.holds(None, Some(status.as_str()), headers)
    }

    fn holds(&self, method: Option<&str>, status: Option<&str>, headers: &HeaderMap) -> bool {
        let value = match &self.subject {
            Subject::Method => method,
            Subject::Status => status,
            Subject::Header(name) => headers.get(name).map(|value| value.to_str().unwrap_or_default()),
        };
        value.is_some_and(|value| self.value.holds(value)) != self.inverted
    }
}

impl ValueCondition {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(text) => value == text,
            Self::Prefix(text) => value.starts_with(text.as_str()),
            Self::Range(start, end) => value.parse().is_ok_and(|number: i64| (*start..*end).contains(&number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_is_found_by_its_name() {
        for (name, condition) in RetryOn::NAMES {
            assert_eq!(RetryOn::parse(name), (condition, true));
        }
        for (name, number, condition) in RetryOn::GRPC_NAMES {
            assert_eq!(RetryOn::parse_grpc(name), (condition, true));
            assert_eq!(RetryOn::for_grpc(number), condition);
        }
        assert_eq!(RetryOn::parse("never"), (RetryOn::NONE, false));
        assert_eq!(RetryOn::for_grpc(0), RetryOn::NONE);
    }
}
