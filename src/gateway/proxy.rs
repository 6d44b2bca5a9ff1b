//! One request: route, endpoint, connection, answer, and the record of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, DATE, HOST, SERVER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::access::{AccessRecord, Flags};
use super::host::{Host, Work};
use super::routes::Route;
use super::server::{ConnectionState, Shared};
use super::upstream::{Active, Cluster, ConnectFailure, Lent, within};

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
/// Headers that concern one connection only.
const HOP_BY_HOP: [HeaderName; 4] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("upgrade"),
];

/// Sends again on another connection, at most so often, what a closing connection gave back unsent.
const UNSENT_MAX: u32 = 100;

/// A response that the gateway makes itself.
struct LocalReply {
    status: StatusCode,
    flags: Flags,
    details: &'static str,
    body: &'static str,
}

impl LocalReply {
    const fn new(status: StatusCode, flags: Flags, details: &'static str, body: &'static str) -> Self {
        Self { status, flags, details, body }
    }
}

/// Texts of Envoy's local replies. Source: envoy source/common/router/router.cc.
const NO_HEALTHY_UPSTREAM: &str = "no healthy upstream";
const CONNECT_FAILED: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
const CONNECT_TIMED_OUT: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection timeout";
const TERMINATED: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
const PROTOCOL_ERROR: &str = "upstream connect error or disconnect/reset before headers. reset reason: protocol error";
const TIMED_OUT: &str = "upstream request timeout";

/// Answers one request of a connection.
pub(super) async fn handle<H: Host>(
    shared: Rc<Shared<H>>,
    worker: usize,
    connection: Rc<ConnectionState>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let host = &shared.workers[worker];
    let now = host.now();
    let mut journal = Journal::new(Rc::clone(&shared) as Rc<dyn Audience>, now, &request, &connection);
    host.charge(Work::Request).await;
    let client_says_close = says_close(&request) || request.version() < Version::HTTP_11;
    if client_says_close {
        connection.client_said_close.set(true);
    }
    let result = forward(&shared, worker, &connection, &mut journal.record, &mut Some(request)).await;
    let mut response = match result {
        Ok((mut response, mut exchange)) => {
            let headers = response.headers_mut();
            remove_hop_by_hop(headers);
            let elapsed = host.now().since(exchange.sent_at);
            journal.record.service_time = Some(elapsed);
            let elapsed_ms = elapsed.as_millis();
            headers.insert(SERVICE_TIME, HeaderValue::from(u64::try_from(elapsed_ms).unwrap_or(u64::MAX)));
            journal.record.details = "via_upstream";
            response.map(|body| {
                exchange.incoming = Some(body);
                ResponseBody { local: None, upstream: Some(exchange), journal }
            })
        }
        Err(reply) => {
            journal.record.flags = journal.record.flags.and(reply.flags);
            journal.record.details = reply.details;
            let local = Bytes::from_static(reply.body.as_bytes());
            let mut response = Response::new(ResponseBody { local: Some(local), upstream: None, journal });
            *response.status_mut() = reply.status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
    };
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("istio-envoy"));
    if !headers.contains_key(DATE)
        && let Some(date) = host.date()
    {
        headers.insert(DATE, date);
    }
    if shared.says_close(worker, &connection) {
        connection.tell_to_leave(host.now());
    }
    if client_says_close || connection.was_told_to_leave_by_last_answer() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.body_mut().journal.record.status = Some(response.status());
    Ok(response)
}

/// Removes the headers that concern one connection only. Most heads have none: then nothing is looked up.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

fn says_close(request: &Request<Incoming>) -> bool {
    request.headers().get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Sends `unsent` to where its route leads. It is taken out when it is sent; a reference, because a request is large and every
/// future that owns it would hold it twice.
async fn forward<H: Host>(
    shared: &Rc<Shared<H>>,
    worker: usize,
    connection: &ConnectionState,
    record: &mut AccessRecord,
    unsent: &mut Option<Request<Incoming>>,
) -> Result<(Response<Incoming>, Exchange), LocalReply> {
    let request = unsent.as_mut().expect("nothing has been sent yet");
    if request.version() < Version::HTTP_11 {
        let details = "low_version";
        return Err(LocalReply::new(StatusCode::UPGRADE_REQUIRED, Flags::DPE, details, ""));
    }
    let host = &shared.workers[worker];
    prepare(request.headers_mut(), record, connection, host);
    if shared.wants_headers() {
        record.forwarded_for = request.headers().get(&FORWARDED_FOR).cloned();
    }
    let Some(authority) = record.authority.as_ref().and_then(|value| value.to_str().ok()) else {
        return Err(LocalReply::new(StatusCode::BAD_REQUEST, Flags::DPE, "missing_host_header", ""));
    };
    let route = {
        let routes = shared.routes_of(connection);
        let path = request.uri().path();
        routes.find(connection.port(), authority, request.method(), path, request.headers()).cloned()
    };
    let not_found = LocalReply::new(StatusCode::NOT_FOUND, Flags::NR, "route_not_found", "");
    let route: Rc<Route> = route.ok_or(not_found)?;
    record.route = Some(Rc::clone(&route.name));
    let no_cluster = || LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, Flags::NC, "cluster_not_found", "");
    let name = route.destination(|| host.random()).cloned().ok_or_else(no_cluster)?;
    let cluster = shared.clusters.borrow().get(&name).cloned().ok_or_else(no_cluster)?;
    record.cluster = Some(name);
    let mut tries = pin!(try_all(worker, host, &cluster, &route, record, unsent));
    match route.timeout {
        None => tries.await,
        Some(timeout) => within(host, timeout, tries.as_mut()).await.unwrap_or_else(|| {
            Err(LocalReply::new(StatusCode::GATEWAY_TIMEOUT, Flags::UT, "upstream_response_timeout", TIMED_OUT))
        }),
    }
}

/// The headers of a request as routes see them and the upstream gets them.
fn prepare<H: Host>(headers: &mut HeaderMap, record: &mut AccessRecord, connection: &ConnectionState, host: &H) {
    remove_hop_by_hop(headers);
    let client = &connection.client_ip;
    let forwarded_for = match headers.get(&FORWARDED_FOR).and_then(|value| value.to_str().ok()) {
        None => client.clone(),
        Some(earlier) => {
            let list = format!("{earlier},{}", client.to_str().unwrap_or_default());
            HeaderValue::from_str(&list).unwrap_or_else(|_| client.clone())
        }
    };
    headers.insert(FORWARDED_FOR, forwarded_for);
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    if record.request_id.is_none() {
        let id = HeaderValue::from_str(&uuid(host.random(), host.random())).expect("a UUID makes a header");
        record.request_id = Some(id.clone());
        headers.insert(REQUEST_ID, id);
    }
}

/// A random UUID (version 4) of these bits. Source: RFC 9562, section 5.4.
fn uuid(high: u64, low: u64) -> String {
    let (high, low) = (high & !0xf000 | 0x4000, low & (u64::MAX >> 2) | 1 << 63);
    let group = |bits: u64, from: u32, mask: u64| (bits >> from) & mask;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        group(high, 16, 0xffff),
        group(high, 0, 0xffff),
        low >> 48,
        group(low, 0, 0xffff_ffff_ffff)
    )
}

async fn try_all<H: Host>(
    worker: usize,
    host: &H,
    cluster: &Rc<Cluster>,
    route: &Route,
    record: &mut AccessRecord,
    unsent: &mut Option<Request<Incoming>>,
) -> Result<(Response<Incoming>, Exchange), LocalReply> {
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut retries = 0;
    loop {
        record.attempts += 1;
        let failure = match try_once(worker, host, cluster, route, record, unsent, &mut tried).await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        // What was sent is not sent again: by default only failures to connect are retried, and those leave it unsent.
        let is_retriable = route.retry.on_connect_failure && failure.flags.has(Flags::UF) && unsent.is_some();
        if !is_retriable || route.retry.attempts == 0 {
            return Err(failure);
        }
        if retries == route.retry.attempts {
            return Err(LocalReply { flags: failure.flags.and(Flags::URX), ..failure });
        }
        retries += 1;
        host.sleep_until(host.now().after(route.retry.backoff(retries, host.random()))).await;
    }
}

async fn try_once<H: Host>(
    worker: usize,
    host: &H,
    cluster: &Rc<Cluster>,
    route: &Route,
    record: &mut AccessRecord,
    unsent: &mut Option<Request<Incoming>>,
    tried: &mut Vec<SocketAddr>,
) -> Result<(Response<Incoming>, Exchange), LocalReply> {
    let unavailable = |flags, details, body| LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, flags, details, body);
    let Some(endpoint) = cluster.pick(worker, host, tried) else {
        return Err(unavailable(Flags::UH, "no_healthy_upstream", NO_HEALTHY_UPSTREAM));
    };
    record.upstream = Some(endpoint.address);
    tried.push(endpoint.address);
    let active = Active::new(Rc::clone(&endpoint));
    for _ in 0..UNSENT_MAX {
        let lent = endpoint.pool(worker).lend(host, endpoint.address, cluster.connect_timeout()).await;
        let mut lent = lent.map_err(|failure| match failure {
            ConnectFailure::Refused => unavailable(
                Flags::UF,
                "upstream_reset_before_response_started{remote_connection_failure}",
                CONNECT_FAILED,
            ),
            ConnectFailure::TimedOut => {
                unavailable(Flags::UF, "upstream_reset_before_response_started{connection_timeout}", CONNECT_TIMED_OUT)
            }
        })?;
        let mut request = unsent.take().expect("a try begins with the request unsent");
        record.upstream_local = lent.local();
        let attempt = if record.attempts == 1 { HeaderValue::from_static("1") } else { record.attempts.into() };
        request.headers_mut().insert(ATTEMPT_COUNT, attempt);
        let sent_at = host.now();
        let mut sending = pin!(lent.requests().try_send_request(request));
        let answer = match route.retry.per_try_timeout {
            None => sending.await,
            Some(timeout) => match within(host, timeout, sending.as_mut()).await {
                Some(answer) => answer,
                None => {
                    let details = "upstream_per_try_timeout";
                    return Err(LocalReply::new(StatusCode::GATEWAY_TIMEOUT, Flags::UT, details, TIMED_OUT));
                }
            },
        };
        match answer {
            Ok(response) => {
                return Ok((response, Exchange { incoming: None, lent: Some(lent), sent_at, _active: active }));
            }
            Err(mut error) => match error.take_message() {
                // The connection was closing as it was lent: Envoy would have known, and taken another.
                Some(request) => *unsent = Some(request),
                None if error.error().is_parse() => {
                    return Err(LocalReply::new(
                        StatusCode::BAD_GATEWAY,
                        Flags::UPE,
                        "upstream_reset_before_response_started{protocol_error}",
                        PROTOCOL_ERROR,
                    ));
                }
                None => {
                    return Err(unavailable(
                        Flags::UC,
                        "upstream_reset_before_response_started{connection_termination}",
                        TERMINATED,
                    ));
                }
            },
        }
    }
    Err(unavailable(Flags::UC, "upstream_reset_before_response_started{connection_termination}", TERMINATED))
}

/// The upstream half of a request under way.
struct Exchange {
    incoming: Option<Incoming>,
    lent: Option<Lent>,
    sent_at: crate::units::SimTime,
    _active: Active,
}

/// Who is told of finished requests.
pub(super) trait Audience {
    fn now(&self) -> crate::units::SimTime;
    fn tell(&self, record: &AccessRecord);
    fn wants_headers(&self) -> bool;
}

/// The record of a request; it is told when it is dropped, at the end of the stream.
struct Journal {
    audience: Rc<dyn Audience>,
    record: AccessRecord,
    is_complete: bool,
    _open: super::server::OpenRequest,
}

impl Journal {
    fn new(
        audience: Rc<dyn Audience>,
        now: crate::units::SimTime,
        request: &Request<Incoming>,
        connection: &Rc<ConnectionState>,
    ) -> Box<Self> {
        let user_agent = audience.wants_headers().then(|| request.headers().get(USER_AGENT).cloned());
        let record = AccessRecord {
            started_at: now,
            ended_at: now,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            authority: request.headers().get(HOST).cloned(),
            request_id: request.headers().get(&REQUEST_ID).cloned(),
            status: None,
            flags: Flags::NONE,
            details: "-",
            route: None,
            cluster: None,
            upstream: None,
            attempts: 0,
            service_time: None,
            bytes_received: request.body().size_hint().exact().unwrap_or(0),
            bytes_sent: 0,
            client: connection.client,
            downstream_local: connection.local,
            upstream_local: None,
            forwarded_for: None,
            user_agent: user_agent.flatten(),
        };
        Box::new(Self { audience, record, is_complete: false, _open: connection.open() })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.record.ended_at = self.audience.now();
        if !self.is_complete && !self.record.flags.has(Flags::UC) {
            self.record.flags = self.record.flags.and(Flags::DC);
        }
        self.audience.tell(&self.record);
    }
}

/// The body of an answer: the gateway's own, or the upstream's as it comes.
pub(super) struct ResponseBody {
    local: Option<Bytes>,
    upstream: Option<Exchange>,
    /// In a box: the record is large, and an answer is moved a few times on its way out.
    journal: Box<Journal>,
}

impl ResponseBody {
    /// The upstream's body is complete: its connection is free.
    fn complete(&mut self) {
        self.journal.is_complete = true;
        if let Some(lent) = self.upstream.take().and_then(|mut exchange| exchange.lent.take()) {
            lent.give_back();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(local) = self.local.take() {
            self.journal.is_complete = true;
            self.journal.record.bytes_sent += local.len() as u64;
            return Poll::Ready((!local.is_empty()).then(|| Ok(Frame::data(local))));
        }
        let Some(incoming) = self.upstream.as_mut().and_then(|exchange| exchange.incoming.as_mut()) else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(incoming).poll_frame(cx);
        match &frame {
            Poll::Ready(None) => self.complete(),
            Poll::Ready(Some(Err(_))) => self.journal.record.flags = self.journal.record.flags.and(Flags::UC),
            Poll::Ready(Some(Ok(frame))) => {
                self.journal.record.bytes_sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                let incoming = self.upstream.as_ref().and_then(|exchange| exchange.incoming.as_ref());
                if incoming.is_some_and(Body::is_end_stream) {
                    self.complete();
                }
            }
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match (&self.local, &self.upstream) {
            (Some(local), _) => local.is_empty(),
            (None, Some(exchange)) => exchange.incoming.as_ref().is_none_or(Body::is_end_stream),
            (None, None) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.local, &self.upstream) {
            (Some(local), _) => SizeHint::with_exact(local.len() as u64),
            (None, Some(exchange)) => {
                exchange.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
            }
            (None, None) => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // hyper does not poll a body that says it is at its end: an empty answer is complete without a frame.
        if self.is_end_stream() {
            self.complete();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids() {
        assert_eq!(uuid(u64::MAX, u64::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid(0, 0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(0x0123_4567_89ab_cdef, 0x0123_4567_89ab_cdef), "01234567-89ab-4def-8123-456789abcdef");
    }
}
