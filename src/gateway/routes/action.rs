//! What a route does with a request: forward it, send it elsewhere, or answer it.
//!
//! Types only; how each is carried out is described where it is: `routes::rewrite` (redirects, rewrites), `routes::headers`, `fault`, `cors`,
//! `proxy`.
//!
//! Sources: envoy api envoy/config/route/v3/route_components.proto; istio api networking/v1alpha3/virtual_service.proto.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use regex::Regex;

use super::headers::{HeaderOps, InvalidHeader};
use super::matching::ValueMatch;
use crate::gateway::retry::RetryPolicy;

/// What becomes of a request.
#[expect(clippy::large_enum_variant, reason = "nearly every route forwards")]
#[derive(Clone, Debug)]
pub enum Action {
    /// It goes to a cluster.
    Forward(Forward),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// The gateway answers.
    Direct(DirectResponse),
}

/// How a request is forwarded.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Where to, by weight. Not empty; a weight of 0 gets nothing, unless the destination is the only one.
    pub destinations: Vec<Destination>,
    /// The path as the upstream sees it.
    pub path: Option<PathRewrite>,
    /// The `Host` header as the upstream sees it.
    pub host: Option<HostRewrite>,
    /// The former `Host` header is appended to `x-forwarded-host` where it is rewritten.
    pub append_forwarded_host: bool,
    /// From the complete request to the end of the answer, retries included; unset: no limit.
    pub timeout: Option<Duration>,
    /// What is tried again.
    pub retry: RetryPolicy,
    /// Who gets a copy.
    pub mirrors: Vec<Mirror>,
    /// What requests that belong together have in common, for balancers that hash.
    pub hash: Vec<HashPolicy>,
}

/// A destination and its share.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Where to.
    pub target: Target,
    /// Its share, relative to the sum of all.
    pub weight: u32,
    /// Changes to the request, made before the route's own. Istio puts those of a route's only destination at the end of the route's instead.
    pub request_headers: HeaderOps,
    /// Changes to the response, made before the route's own.
    pub response_headers: HeaderOps,
    /// Overrides the route's rewrite of the path.
    pub path: Option<PathRewrite>,
    /// Overrides the route's rewrite of the `Host` header.
    pub host: Option<HostRewrite>,
}

/// Where a share of the requests ends.
#[derive(Clone, Debug)]
pub enum Target {
    /// A cluster. One that does not exist is answered with 503.
    Cluster(Arc<str>),
    /// The cluster that a header of the request names; without that header none, which is answered with 503. Istio does not use it.
    ClusterHeader(HeaderName),
    /// The gateway answers with this status: the backend that a Gateway API route names is not valid.
    Unavailable(StatusCode),
    /// The client is sent elsewhere.
    Redirect(Box<Redirect>),
}

impl Target {
    /// The name of the cluster; empty where the header that should name it is missing. None if the target is no cluster.
    #[must_use]
    pub fn cluster<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a str> {
        match self {
            Self::Cluster(name) => Some(name),
            Self::ClusterHeader(name) => {
                Some(headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default())
            }
            Self::Unavailable(_) | Self::Redirect(_) => None,
        }
    }
}

/// Where a client is sent.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// The new scheme; else that of the request.
    pub scheme: Option<String>,
    /// The new host; else that of the request.
    pub host: Option<String>,
    /// The new port.
    pub port: RedirectPort,
    /// The new path; else that of the request.
    pub path: Option<PathRewrite>,
    /// The query is not taken along.
    pub strip_query: bool,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// The port of a redirect's location.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RedirectPort {
    /// That of the request's `Host` header, unless scheme or host change it.
    Keep,
    /// This one.
    Number(u16),
    /// That of the scheme, thus none is written.
    OfScheme,
    /// That of the listener.
    OfListener,
}

/// An answer of the gateway's own.
#[derive(Clone, Debug)]
pub struct DirectResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// A new path. The query stays.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// The whole path.
    Full(String),
    /// What the route's condition matched, the rest stays: `/api` → `/` makes `//v1` of `/api/v1`. Where the condition is no prefix, the whole
    /// path.
    Prefix(String),
    /// The segments that the route's condition matched; exactly one slash precedes the rest: `/api` → `/` makes `/v1` of `/api/v1`.
    Segments(String),
    /// Each match of the pattern; `\1` in the substitution is what its first group matched.
    Regex(RegexRewrite),
}

/// A pattern and what replaces its matches.
#[derive(Clone, Debug)]
pub struct RegexRewrite {
    /// The pattern.
    pub pattern: Regex,
    /// The substitution, with `\0` to `\9`.
    pub substitution: String,
}

/// A new `Host` header.
#[derive(Clone, Debug)]
pub enum HostRewrite {
    /// This one.
    Literal(String),
    /// The value of a header, where it is there.
    Header(HeaderName),
    /// The path, with each match of the pattern replaced.
    Path(RegexRewrite),
}

impl HostRewrite {
    /// To this host.
    ///
    /// # Errors
    ///
    /// If no header can have it.
    pub fn literal(host: &str) -> Result<Self, InvalidHeader> {
        checked(host).map(|()| Self::Literal(host.to_owned()))
    }

    /// To the value of this header.
    ///
    /// # Errors
    ///
    /// If the name is none.
    pub fn header(name: &str) -> Result<Self, InvalidHeader> {
        HeaderName::from_bytes(name.as_bytes()).map(Self::Header).map_err(|_| InvalidHeader::Name(name.to_owned()))
    }
}

impl PathRewrite {
    /// To this path.
    ///
    /// # Errors
    ///
    /// If no header can have it.
    pub fn full(path: &str) -> Result<Self, InvalidHeader> {
        checked(path).map(|()| Self::Full(path.to_owned()))
    }
}

fn checked(value: &str) -> Result<(), InvalidHeader> {
    HeaderValue::from_str(value).map(|_| ()).map_err(|_| InvalidHeader::Value(value.to_owned()))
}

/// A share, in millionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Millionths(pub u32);

impl Millionths {
    /// All.
    pub const ALL: Self = Self(1_000_000);

    /// Whether a draw of 64 uniform bits falls into the share.
    #[must_use]
    pub fn holds(self, random: u64) -> bool {
        crate::gateway::host::random_below(random, u64::from(Self::ALL.0)) < u64::from(self.0)
    }
}

/// A copy of requests for another cluster. Its answer is thrown away.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// The cluster.
    pub cluster: Arc<str>,
    /// Which share is copied.
    pub share: Millionths,
}

/// What requests that belong together have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashPolicy {
    /// The value of a header.
    Header(HeaderName),
    /// The value of a cookie, which is made where it is missing and a lifetime is given.
    Cookie {
        /// Its name.
        name: String,
        /// Its path.
        path: Option<String>,
        /// Its lifetime; zero is a session cookie. Unset: the gateway makes none.
        ttl: Option<Duration>,
    },
    /// The client's address.
    SourceAddress,
    /// The value of a query parameter.
    Query(String),
}

/// Trouble made on purpose. Delay and abort are drawn each for itself; the delay comes first.
#[derive(Clone, PartialEq, Debug)]
pub struct Fault {
    /// A delay and its share of requests.
    pub delay: Option<(Duration, Millionths)>,
    /// An abort and its share of requests.
    pub abort: Option<(Abort, Millionths)>,
}

/// How a request is aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abort {
    /// With an HTTP status.
    Http(StatusCode),
    /// With 200 and a `grpc-status`.
    Grpc(u32),
}

/// Who else may read answers in a browser.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Origins that may.
    pub origins: Vec<ValueMatch>,
    /// `access-control-allow-methods`; `*` is any.
    pub methods: Vec<String>,
    /// `access-control-allow-headers`; `*` is any.
    pub headers: Vec<String>,
    /// `access-control-expose-headers`.
    pub expose: Vec<String>,
    /// `access-control-max-age`.
    pub max_age: Option<Duration>,
    /// `access-control-allow-credentials`.
    pub credentials: bool,
    /// A preflight whose origin does not match goes to the upstream; else the gateway answers it without CORS headers.
    pub forwards_unmatched: bool,
}
