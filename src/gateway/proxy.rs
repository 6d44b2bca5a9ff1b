//! One request: route, endpoint, connection, answer, and the record of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::access::{AccessRecord, Flags};
use super::host::{Host, Work, random_below};
use super::outlier::Outcome;
use super::retry::RetryOn;
use super::routes::Route;
use super::server::{ConnectionState, Shared};
use super::upstream::{Cluster, Lent, PickContext, PoolFailure, within};

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
const OVERFLOW: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
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
    let mut journal = Journal::new(Rc::clone(&shared) as Rc<dyn Audience>, now, &request, connection.open());
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
            let elapsed_ms = host.now().since(exchange.sent_at).as_millis();
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
    response.headers_mut().insert(SERVER, HeaderValue::from_static("istio-envoy"));
    if shared.says_close(worker) {
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
    let Some(authority) = record.authority.as_ref().and_then(|value| value.to_str().ok()) else {
        return Err(LocalReply::new(StatusCode::BAD_REQUEST, Flags::DPE, "missing_host_header", ""));
    };
    let host = &shared.workers[worker];
    let route = {
        let routes = shared.routes.borrow();
        let path = request.uri().path();
        routes.find(connection.port, authority, request.method(), path, request.headers()).cloned()
    };
    let not_found = LocalReply::new(StatusCode::NOT_FOUND, Flags::NR, "route_not_found", "");
    let route: Rc<Route> = route.ok_or(not_found)?;
    record.route = Some(Rc::clone(&route.name));
    let no_cluster = || LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, Flags::NC, "cluster_not_found", "");
    let name = route.destination(|| host.random()).cloned().ok_or_else(no_cluster)?;
    let cluster = shared.clusters.borrow().get(&name).cloned().ok_or_else(no_cluster)?;
    record.cluster = Some(name);
    prepare_for_upstream(request.headers_mut(), record.request_id.is_some(), connection, host);
    let mut tries = pin!(try_all(worker, host, &cluster, &route, record, unsent));
    match route.timeout {
        None => tries.await,
        Some(timeout) => within(host, timeout, tries.as_mut()).await.unwrap_or_else(|| {
            Err(LocalReply::new(StatusCode::GATEWAY_TIMEOUT, Flags::UT, "upstream_response_timeout", TIMED_OUT))
        }),
    }
}

/// The headers of a request as the upstream gets them.
fn prepare_for_upstream<H: Host>(headers: &mut HeaderMap, has_id: bool, connection: &ConnectionState, host: &H) {
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
    if !has_id {
        let id = format!("{:016x}{:016x}", host.random(), host.random());
        headers.insert(REQUEST_ID, HeaderValue::from_str(&id).expect("hexadecimal digits make a header"));
    }
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
    let mut _permit = None;
    loop {
        record.attempts += 1;
        let failure = match try_once(worker, host, cluster, route, record, unsent, &mut tried).await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        // What was sent is not sent again: by default only failures to connect are retried, and those leave it unsent.
        let is_retriable =
            route.retry.retry_on.has(RetryOn::CONNECT_FAILURE) && failure.flags.has(Flags::UF) && unsent.is_some();
        if !is_retriable || route.retry.attempts == 0 {
            return Err(failure);
        }
        if retries == route.retry.attempts {
            return Err(LocalReply { flags: failure.flags.and(Flags::URX), ..failure });
        }
        // A retry is in flight until the next one, or the end of all.
        drop(_permit.take());
        _permit = cluster.begin_retry();
        if _permit.is_none() {
            return Err(failure);
        }
        retries += 1;
        host.sleep_until(host.now().after(route.retry.backoff(retries, |bound| random_below(host.random(), bound))))
            .await;
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
    let context = PickContext { hash: None, tried, retry: &route.retry };
    let Some(endpoint) = cluster.pick(worker, host, &context) else {
        return Err(unavailable(Flags::UH, "no_healthy_upstream", NO_HEALTHY_UPSTREAM));
    };
    record.upstream = Some(endpoint.address);
    tried.push(endpoint.address);
    let report = |outcome| cluster.report(host, &endpoint, outcome);
    for _ in 0..UNSENT_MAX {
        let mut lent = match endpoint.lend(host, worker).await {
            Ok(lent) => lent,
            Err(failure) => {
                if failure != PoolFailure::Overflow {
                    report(Outcome::ConnectFailed);
                }
                return Err(pool_failure(failure));
            }
        };
        report(Outcome::Connected);
        let mut request = unsent.take().expect("a try begins with the request unsent");
        let attempt = if record.attempts == 1 { HeaderValue::from_static("1") } else { record.attempts.into() };
        request.headers_mut().insert(ATTEMPT_COUNT, attempt);
        let sent_at = host.now();
        let mut sending = pin!(lent.requests().try_send_request(request));
        let answer = match route.retry.per_try_timeout {
            None => sending.await,
            Some(timeout) => match within(host, timeout, sending.as_mut()).await {
                Some(answer) => answer,
                None => {
                    report(Outcome::TimedOut);
                    let details = "upstream_per_try_timeout";
                    return Err(LocalReply::new(StatusCode::GATEWAY_TIMEOUT, Flags::UT, details, TIMED_OUT));
                }
            },
        };
        match answer {
            Ok(response) => {
                report(Outcome::Status(response.status().as_u16()));
                return Ok((response, Exchange { incoming: None, lent: Some(lent), sent_at }));
            }
            Err(mut error) => match error.take_message() {
                // The connection was closing as it was lent: Envoy would have known, and taken another.
                Some(request) => *unsent = Some(request),
                None if error.error().is_parse() => {
                    report(Outcome::ConnectFailed);
                    return Err(LocalReply::new(
                        StatusCode::BAD_GATEWAY,
                        Flags::UPE,
                        "upstream_reset_before_response_started{protocol_error}",
                        PROTOCOL_ERROR,
                    ));
                }
                None => {
                    report(Outcome::ConnectFailed);
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

/// What a client is told when there is no connection for its request.
fn pool_failure(failure: PoolFailure) -> LocalReply {
    let (flags, details, body) = match failure {
        PoolFailure::Refused => {
            (Flags::UF, "upstream_reset_before_response_started{remote_connection_failure}", CONNECT_FAILED)
        }
        PoolFailure::TimedOut => {
            (Flags::UF, "upstream_reset_before_response_started{connection_timeout}", CONNECT_TIMED_OUT)
        }
        PoolFailure::Overflow => (Flags::UO, "upstream_reset_before_response_started{overflow}", OVERFLOW),
    };
    LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, flags, details, body)
}

/// The upstream half of a request under way.
struct Exchange {
    incoming: Option<Incoming>,
    lent: Option<Lent>,
    sent_at: crate::units::SimTime,
}

/// Who is told of finished requests.
pub(super) trait Audience {
    fn now(&self) -> crate::units::SimTime;
    fn tell(&self, record: &AccessRecord);
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
        open: super::server::OpenRequest,
    ) -> Box<Self> {
        let record = AccessRecord {
            started_at: now,
            ended_at: now,
            method: request.method().clone(),
            uri: request.uri().clone(),
            authority: request.headers().get(HOST).cloned(),
            request_id: request.headers().get(&REQUEST_ID).cloned(),
            status: None,
            flags: Flags::NONE,
            details: "-",
            route: None,
            cluster: None,
            upstream: None,
            attempts: 0,
        };
        Box::new(Self { audience, record, is_complete: false, _open: open })
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
            return Poll::Ready((!local.is_empty()).then(|| Ok(Frame::data(local))));
        }
        let Some(incoming) = self.upstream.as_mut().and_then(|exchange| exchange.incoming.as_mut()) else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(incoming).poll_frame(cx);
        match &frame {
            Poll::Ready(None) => self.complete(),
            Poll::Ready(Some(Err(_))) => self.journal.record.flags = self.journal.record.flags.and(Flags::UC),
            Poll::Ready(Some(Ok(_))) => {
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
