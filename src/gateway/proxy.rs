//! One request, from its head to the record of it.
//!
//! ```text
//! head ─→ route ─→ faults ─→ CORS ─→ redirect or direct answer?
//!                                     └─→ destination ─→ headers, path, host as the upstream gets them ─→ mirrors
//!                                                                                                        └─→ tries ─→ answer
//! ```
//!
//! Nothing that a fault, CORS, a redirect or a direct answer makes is ever tried again: all of that comes before the first try.
//! Source: envoy source/common/router/router.cc `decodeHeaders`; istio pilot/pkg/networking/core/listener_builder.go (the order of filters).

mod mirror;
mod reply;
mod request_body;
mod response_body;
mod tries;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, DATE, EXPECT, HOST, SERVER, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;

use self::reply::LocalReply;
use self::request_body::Kept;
pub(super) use self::request_body::RequestBody;
pub(super) use self::response_body::{Audience, ResponseBody};
use self::response_body::{Exchange, Journal};
use self::tries::{Tries, Unsent};
use super::access::{AccessRecord, Flags};
use super::host::{Host, Work};
use super::routes::rewrite::https_location;
use super::routes::{
    Action, Destination, Fault, Forward, Found, Redirect, RequestView, RequireTls, Route, Routes, Target,
};
use super::server::{ConnectionState, Shared};
use super::upstream::Cluster;
use crate::units::SimTime;

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

/// Answers one request of a connection.
pub(super) async fn handle<H: Host>(
    shared: Rc<Shared<H>>,
    worker: usize,
    connection: Rc<ConnectionState>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let host = &shared.workers[worker];
    let record = new_record(&shared, host.now(), &request, &connection);
    let mut journal = Journal::new(Rc::clone(&shared) as Rc<dyn Audience>, record, connection.open());
    host.charge(Work::Request).await;
    let client_says_close = says_close(&request) || request.version() < Version::HTTP_11;
    if client_says_close {
        connection.client_said_close.set(true);
    }
    // The table of this moment holds for the whole request, whatever is pushed meanwhile.
    let routes = shared.routes_of(&connection);
    let context = Context { shared: &shared, worker, host, connection: &connection };
    let result = context.answer(&routes, &mut journal.record, &mut Some(request)).await;
    let mut response = match result {
        Ok((response, mut exchange)) => {
            journal.record.details = "via_upstream";
            response.map(|body| {
                exchange.incoming = Some(body);
                ResponseBody::upstream(exchange, journal)
            })
        }
        Err(mut reply) => {
            journal.record.flags = journal.record.flags.and(reply.flags);
            journal.record.details = reply.details;
            let headers = reply.take_headers();
            let mut response = Response::new(ResponseBody::local(reply.body, journal));
            *response.status_mut() = reply.status;
            *response.headers_mut() = headers;
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
    let status = response.status();
    response.body_mut().record().status = Some(status);
    Ok(response)
}

fn new_record<H: Host>(
    shared: &Shared<H>,
    now: SimTime,
    request: &Request<Incoming>,
    connection: &ConnectionState,
) -> AccessRecord {
    let user_agent = shared.wants_headers().then(|| request.headers().get(USER_AGENT).cloned());
    AccessRecord {
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
    }
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

/// Where a request is answered.
struct Context<'a, H> {
    shared: &'a Rc<Shared<H>>,
    worker: usize,
    host: &'a H,
    connection: &'a ConnectionState,
}

impl<H: Host> Context<'_, H> {
    /// The answer to `unsent`. The request is taken out when it is sent; a reference, because it is large and every future that owns it would
    /// hold it twice.
    async fn answer(
        &self,
        routes: &Routes,
        record: &mut AccessRecord,
        unsent: &mut Option<Request<Incoming>>,
    ) -> Result<(Response<Incoming>, Exchange), LocalReply> {
        let request = unsent.as_mut().expect("nothing has been sent yet");
        if request.version() < Version::HTTP_11 {
            return Err(LocalReply::new(StatusCode::UPGRADE_REQUIRED, Flags::DPE, "low_version", ""));
        }
        // A target with a host of its own outweighs the header.
        if let Some(authority) = request.uri().authority() {
            record.authority = HeaderValue::from_str(authority.as_str()).ok();
        }
        let authority = record.authority.clone();
        let Some(authority) = authority.as_ref().and_then(|value| value.to_str().ok()) else {
            return Err(LocalReply::new(StatusCode::BAD_REQUEST, Flags::DPE, "missing_host_header", ""));
        };
        let headers = request.headers_mut();
        normalize(headers, record, self.connection, self.host);
        if self.shared.wants_headers() {
            record.forwarded_for = headers.get(&FORWARDED_FOR).cloned();
        }
        let view = view(request, authority);
        let found = routes.find(self.connection.port(), &view).ok_or_else(LocalReply::no_route)?;
        // Plain HTTP is all there is, so every request to a host that requires TLS is sent there.
        if found.host.require_tls != RequireTls::No {
            return Err(LocalReply::redirect(StatusCode::MOVED_PERMANENTLY, &https_location(&view)));
        }
        let route = found.route.ok_or_else(LocalReply::no_route)?;
        record.route = Some(Arc::clone(&route.name));
        if let Some(fault) = &route.fault {
            self.make_trouble(fault, record).await?;
        }
        match &route.action {
            Action::Forward(forward) => self.forward(&found, route, forward, record, unsent).await,
            Action::Redirect(redirect) => Err(self.redirect(redirect, &view, &found, route)),
            Action::Direct(direct) => {
                let mut reply = LocalReply::direct(direct.status, direct.body.clone());
                found.change_response(None, reply.headers_mut());
                Err(reply)
            }
        }
    }

    /// Delays or aborts the request, as drawn.
    async fn make_trouble(&self, fault: &Fault, record: &mut AccessRecord) -> Result<(), LocalReply> {
        if let Some((delay, share)) = fault.delay
            && share.holds(self.host.random())
        {
            record.flags = record.flags.and(Flags::DI);
            self.host.sleep_until(self.host.now().after(delay)).await;
        }
        match fault.abort {
            Some((abort, share)) if share.holds(self.host.random()) => Err(LocalReply::abort(abort)),
            _ => Ok(()),
        }
    }

    fn redirect(&self, redirect: &Redirect, view: &RequestView<'_>, found: &Found<'_>, route: &Route) -> LocalReply {
        let location = redirect.location(view, &route.condition.path, self.connection.port());
        let mut reply = LocalReply::redirect(redirect.status, &location);
        found.change_response(None, reply.headers_mut());
        reply
    }

    async fn forward(
        &self,
        found: &Found<'_>,
        route: &Route,
        forward: &Forward,
        record: &mut AccessRecord,
        unsent: &mut Option<Request<Incoming>>,
    ) -> Result<(Response<Incoming>, Exchange), LocalReply> {
        let request = unsent.as_mut().expect("nothing has been sent yet");
        let destination = forward.destination(|| self.host.random()).ok_or_else(LocalReply::no_cluster)?;
        let name = match &destination.target {
            Target::Cluster(name) => name,
            Target::Unavailable(status) => return Err(LocalReply::direct(*status, Bytes::new())),
            Target::Redirect(redirect) => {
                let authority = record.authority.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
                return Err(self.redirect(redirect, &view(request, authority), found, route));
            }
        };
        let cluster = self.shared.cluster(name).ok_or_else(LocalReply::no_cluster)?;
        record.cluster = Some(Arc::clone(name));
        self.prepare(found, route, forward, destination, request);
        let mut unsent = self.keep(forward, unsent);
        let tries = Tries { worker: self.worker, host: self.host, cluster: &cluster, forward };
        let (mut response, exchange) = tries.run(record, &mut unsent).await?;
        let headers = response.headers_mut();
        remove_hop_by_hop(headers);
        let elapsed = self.host.now().since(exchange.sent_at);
        record.service_time = Some(elapsed);
        let elapsed_ms = elapsed.as_millis();
        headers.insert(SERVICE_TIME, HeaderValue::from(u64::try_from(elapsed_ms).unwrap_or(u64::MAX)));
        found.change_response(Some(destination), headers);
        Ok((response, exchange))
    }

    /// Makes of a request what the upstream gets to see.
    fn prepare(
        &self,
        found: &Found<'_>,
        route: &Route,
        forward: &Forward,
        destination: &Destination,
        request: &mut Request<Incoming>,
    ) {
        if request.uri().authority().is_some() {
            take_authority(request);
        }
        found.change_request(destination, request.headers_mut());
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
        if let Some(path) = forward.rewrite(destination, &route.condition.path, &path, request.headers_mut())
            && let Ok(uri) = Uri::try_from(path)
        {
            *request.uri_mut() = uri;
        }
    }

    /// Takes the request out, with its body kept if it may be needed again, and sends the copies.
    fn keep(&self, forward: &Forward, unsent: &mut Option<Request<Incoming>>) -> Unsent {
        let (head, body) = unsent.take().expect("nothing has been sent yet").into_parts();
        let has_body = !body.is_end_stream();
        let is_timed = forward.timeout.is_some() || forward.retry.per_try_timeout.is_some();
        let mirrors: Vec<Rc<Cluster>> = forward
            .mirrors
            .iter()
            .filter(|mirror| mirror.share.holds(self.host.random()))
            .filter_map(|mirror| self.shared.cluster(&mirror.cluster))
            .collect();
        let is_repeated = forward.retry.repeats_what_was_sent();
        if mirrors.is_empty() && !is_repeated && !(has_body && is_timed) {
            let body = if has_body { RequestBody::Passing(body) } else { RequestBody::Empty };
            return Unsent::Once(Some(Request::from_parts(head, body)));
        }
        let kept = has_body.then(|| Kept::new(body));
        for mirror in mirrors {
            mirror::send(self.worker, self.host, mirror, head.clone(), kept.as_ref(), forward.timeout);
        }
        Unsent::Often(Box::new(head), kept)
    }
}

/// What routes ask of a request.
fn view<'a>(request: &'a Request<Incoming>, authority: &'a str) -> RequestView<'a> {
    RequestView {
        method: request.method(),
        authority,
        scheme: "http",
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
    }
}

/// Moves the host of an absolute target to the `Host` header.
fn take_authority(request: &mut Request<Incoming>) {
    let uri = request.uri();
    let host = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
}

/// The headers of a request as routes see them. Source: envoy source/common/http/conn_manager_utility.cc `mutateRequestHeaders`.
fn normalize<H: Host>(headers: &mut HeaderMap, record: &mut AccessRecord, connection: &ConnectionState, host: &H) {
    remove_hop_by_hop(headers);
    headers.remove(EXPECT);
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
