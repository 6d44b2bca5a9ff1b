//! Answers that the gateway makes itself: errors, redirects, direct responses.
//!
//! Texts and details are Envoy's. Sources: envoy source/common/router/router.cc,
//! docs/root/configuration/http/http_conn_man/response_code_details.rst.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::gateway::access::Flags;
use crate::gateway::downstream::Refusal;
use crate::gateway::routes::Abort;
use crate::gateway::{cors, fault, grpc};

/// An answer of the gateway's own.
#[derive(Debug)]
pub(super) struct LocalReply {
    pub(super) status: StatusCode,
    pub(super) flags: Flags,
    pub(super) details: &'static str,
    pub(super) body: Bytes,
    /// In a box: most answers have none, and a map is large.
    pub(super) headers: Option<Box<HeaderMap>>,
    /// What a gRPC client is told, unless the status says it.
    grpc_status: Option<u32>,
}

const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

impl LocalReply {
    pub(super) fn new(status: StatusCode, flags: Flags, details: &'static str, body: &'static str) -> Self {
        Self { status, flags, details, body: Bytes::from_static(body.as_bytes()), headers: None, grpc_status: None }
    }

    fn unavailable(flags: Flags, details: &'static str, body: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, flags, details, body)
    }

    pub(super) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, Flags::NR, "route_not_found", "")
    }

    pub(super) fn no_cluster() -> Self {
        Self::unavailable(Flags::NC, "cluster_not_found", "")
    }

    pub(super) fn no_host() -> Self {
        Self::unavailable(Flags::UH, "no_healthy_upstream", "no healthy upstream")
    }

    pub(super) fn refused() -> Self {
        Self::unavailable(
            Flags::UF,
            "upstream_reset_before_response_started{remote_connection_failure}",
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
        )
    }

    pub(super) fn connect_timeout() -> Self {
        Self::unavailable(
            Flags::UF,
            "upstream_reset_before_response_started{connection_timeout}",
            "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
        )
    }

    pub(super) fn terminated() -> Self {
        Self::unavailable(
            Flags::UC,
            "upstream_reset_before_response_started{connection_termination}",
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        )
    }

    /// To a client that went away before all of its request had come: nobody reads it, and the log has no status.
    pub(super) fn client_left() -> Self {
        Self::new(StatusCode::BAD_REQUEST, Flags::DC, "downstream_remote_disconnect", "")
    }

    pub(super) fn protocol_error() -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            Flags::UPE,
            "upstream_reset_before_response_started{protocol_error}",
            "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
        )
    }

    pub(super) fn overflow() -> Self {
        let mut reply = Self::unavailable(
            Flags::UO,
            "upstream_reset_before_response_started{overflow}",
            "upstream connect error or disconnect/reset before headers. reset reason: overflow",
        );
        reply.insert(OVERLOADED, HeaderValue::from_static("true"));
        reply
    }

    pub(super) fn timed_out(details: &'static str) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, Flags::UT, details, "upstream request timeout")
    }

    /// An answer that the configuration asks for.
    pub(super) fn direct(status: StatusCode, body: Bytes) -> Self {
        Self { status, flags: Flags::NONE, details: "direct_response", body, headers: None, grpc_status: None }
    }

    pub(super) fn redirect(status: StatusCode, location: &str) -> Self {
        let mut reply = Self::direct(status, Bytes::new());
        // What makes no header makes no redirect either: the client gets the status alone.
        if let Ok(location) = HeaderValue::from_str(location) {
            reply.insert(LOCATION, location);
        }
        reply
    }

    /// A fault that was drawn.
    pub(super) fn abort(abort: Abort) -> Self {
        let reply = Self::new(abort.status(), Flags::FI, fault::DETAILS, fault::BODY);
        Self { grpc_status: Some(abort.grpc_status()), ..reply }
    }

    /// What the connection manager refuses.
    pub(super) fn refusal(refusal: Refusal) -> Self {
        let is_fault = refusal.status == StatusCode::BAD_REQUEST;
        let flags = if is_fault { Flags::DPE } else { Flags::NONE };
        let mut reply = Self::new(refusal.status, flags, refusal.details, "");
        if let Some(location) = refusal.location {
            reply.insert(LOCATION, location);
        }
        reply
    }

    /// The answer to a preflight.
    pub(super) fn preflight(headers: HeaderMap) -> Self {
        let reply = Self::new(StatusCode::OK, Flags::NONE, cors::DETAILS, "");
        Self { headers: Some(Box::new(headers)), ..reply }
    }

    /// The answer as its client understands it: one that speaks gRPC gets 200, and the status in headers.
    pub(super) fn for_client(mut self: Box<Self>, is_grpc: bool) -> Box<Self> {
        if is_grpc {
            let code = self.grpc_status.unwrap_or_else(|| grpc::status_of(self.status, false));
            let message = std::mem::take(&mut self.body);
            self.status = StatusCode::OK;
            self.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            self.insert(GRPC_STATUS, HeaderValue::from(code));
            if let Ok(message) = HeaderValue::from_maybe_shared(message)
                && !message.is_empty()
            {
                self.insert(GRPC_MESSAGE, message);
            }
        }
        self
    }

    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers.get_or_insert_default()
    }

    pub(super) fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers_mut().insert(name, value);
    }

    /// Its headers, the type of its body among them.
    pub(super) fn take_headers(&mut self) -> HeaderMap {
        let mut headers = self.headers.take().map(|headers| *headers).unwrap_or_default();
        if !self.body.is_empty() {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain"));
        }
        headers
    }
}
