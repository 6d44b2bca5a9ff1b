//! What the access log knows of a request: flags, details, who served it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Uri, Version};

use super::outlier::Detection;
use crate::units::SimTime;

/// Envoy's response flags, as a set.
///
/// Source: envoy docs/root/configuration/observability/access_log/usage.rst.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags(u32);

impl Flags {
    /// Nothing to remark.
    pub const NONE: Self = Self(0);
    /// No route.
    pub const NR: Self = Self(1);
    /// The route's cluster is unknown.
    pub const NC: Self = Self(1 << 1);
    /// No healthy upstream.
    pub const UH: Self = Self(1 << 2);
    /// Upstream connection failure.
    pub const UF: Self = Self(1 << 3);
    /// Upstream connection termination.
    pub const UC: Self = Self(1 << 4);
    /// Upstream request timeout.
    pub const UT: Self = Self(1 << 5);
    /// Upstream protocol error.
    pub const UPE: Self = Self(1 << 6);
    /// Retries exhausted.
    pub const URX: Self = Self(1 << 7);
    /// The downstream client ended the connection first.
    pub const DC: Self = Self(1 << 8);
    /// Downstream protocol error.
    pub const DPE: Self = Self(1 << 9);
    /// Upstream overflow: a limit of connections or requests.
    pub const UO: Self = Self(1 << 10);
    /// A delay was injected.
    pub const DI: Self = Self(1 << 11);
    /// An abort was injected.
    pub const FI: Self = Self(1 << 12);

    const NAMES: [(Self, &'static str); 13] = [
        (Self::NR, "NR"),
        (Self::NC, "NC"),
        (Self::UH, "UH"),
        (Self::UF, "UF"),
        (Self::UC, "UC"),
        (Self::UT, "UT"),
        (Self::UPE, "UPE"),
        (Self::URX, "URX"),
        (Self::DC, "DC"),
        (Self::DPE, "DPE"),
        (Self::UO, "UO"),
        (Self::DI, "DI"),
        (Self::FI, "FI"),
    ];

    /// Both sets together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// As the access log prints them: `UF,URX`, or `-`.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("-");
        }
        let names: Vec<&str> = Self::NAMES.iter().filter(|(flag, _)| self.has(*flag)).map(|(_, name)| *name).collect();
        f.write_str(&names.join(","))
    }
}

/// One request as the gateway saw it, told when its stream ends.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// When its head had been read.
    pub started_at: SimTime,
    /// When its stream ended.
    pub ended_at: SimTime,
    /// The method.
    pub method: Method,
    /// Path and query as the client sent them.
    pub uri: Uri,
    /// The protocol of the request.
    pub version: Version,
    /// The `Host` header.
    pub authority: Option<HeaderValue>,
    /// `x-request-id`.
    pub request_id: Option<HeaderValue>,
    /// The status sent; 0 in the log if the client left before one was.
    pub status: Option<StatusCode>,
    /// Remarks.
    pub flags: Flags,
    /// Envoy's text for how the response came about.
    pub details: &'static str,
    /// The route, if one matched.
    pub route: Option<Arc<str>>,
    /// The cluster, once one was drawn.
    pub cluster: Option<Arc<str>>,
    /// The endpoint of the last try.
    pub upstream: Option<SocketAddr>,
    /// Tries, the first included.
    pub attempts: u32,
    /// The last try's request head to the head of its answer; none if there was no answer.
    pub service_time: Option<Duration>,
    /// Bytes of the request's body that came.
    pub bytes_received: u64,
    /// Bytes of the answer's body.
    pub bytes_sent: u64,
    /// The client.
    pub client: SocketAddr,
    /// The end of the connection to the client, where the host knows it.
    pub downstream_local: Option<SocketAddr>,
    /// The end of the connection to the endpoint, where the host knows it.
    pub upstream_local: Option<SocketAddr>,
    /// `x-forwarded-for` with the client in it, if [`Observer::wants_headers`].
    pub forwarded_for: Option<HeaderValue>,
    /// `user-agent`, if [`Observer::wants_headers`].
    pub user_agent: Option<HeaderValue>,
}

/// Who hears of finished requests, and of endpoints that leave and enter rotation.
pub trait Observer {
    /// A request's stream has ended.
    fn finished(&self, record: &AccessRecord);

    /// Whether records should hold the headers that only a log prints.
    fn wants_headers(&self) -> bool {
        false
    }

    /// An endpoint was taken out of rotation.
    fn host_ejected(&self, _cluster: &str, _endpoint: SocketAddr, _by: Detection) {}

    /// An endpoint is in rotation again.
    fn host_returned(&self, _cluster: &str, _endpoint: SocketAddr) {}
}

/// Nobody.
impl Observer for () {
    fn finished(&self, _: &AccessRecord) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_as_the_log_does() {
        assert_eq!(Flags::NONE.to_string(), "-");
        assert_eq!(Flags::URX.and(Flags::UF).to_string(), "UF,URX");
        assert!(Flags::URX.and(Flags::UF).has(Flags::UF) && !Flags::UF.has(Flags::URX));
    }
}
