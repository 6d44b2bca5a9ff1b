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

mod fields;
mod mirror;
mod reply;
mod request_body;
mod response_body;
mod tries;

use std::cell::Cell;
use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, DATE, EXPECT, HOST, SERVER, SET_COOKIE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;

use self::fields::{ResponseChanges, change_request};
use self::reply::LocalReply;
pub(super) use self::request_body::RequestBody;
use self::request_body::{Counted, Kept};
pub(super) use self::response_body::{Audience, ResponseBody};
use self::response_body::{Exchange, Journal};
use self::tries::{Tries, Unsent};
use super::access::{AccessRecord, Flags};
use super::cors::CorsVerdict;
use super::downstream::{Prepared, Scheme, Verdict};
use super::grpc;
use super::hash::{HashInput, Hashed, hash};
use super::host::{Host, Work};
use super::retry::{RetryState, remove_control_headers};
use super::routes::rewrite::https_location;
use super::routes::{
    Action, Cors, Destination, Forward, Found, Redirect, RequestView, RequireTls, Route, Routes, Target,
};
use super::server::{ConnectionState, Shared};
use super::timeouts::{RouteTimeouts, Timeouts};
use super::upstream::Cluster;
use crate::units::SimTime;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
/// Answers one request of a connection.
pub(super) async fn handle<H: Host>(
    shared: Rc<Shared<H>>,
    worker: usize,
    connection: Rc<ConnectionState>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let host = &shared.workers[worker];
    let record = new_record(&shared, host.now(), &request, &connection);
    let received = (!request.body().is_end_stream()).then(Rc::default);
    let audience = Rc::clone(&shared) as Rc<dyn Audience>;
    let mut journal = Journal::new(audience, record, received.clone(), connection.open());
    host.charge(Work::Request).await;
    let client_says_close = says_close(&request) || request.version() < Version::HTTP_11;
    if client_says_close {
        connection.client_said_close.set(true);
    }
    // The table of this moment holds for the whole request, whatever is pushed meanwhile.
    let routes = shared.routes_of(&connection);
    let context = Context { shared: &shared, worker, host, connection: &connection, received };
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
        bytes_received: 0,
        bytes_sent: 0,
        client: connection.client,
        downstream_local: connection.local,
        upstream_local: None,
        forwarded_for: None,
        user_agent: user_agent.flatten(),
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
    /// Where the bytes of the request's body are counted; none: it has none.
    received: Option<Rc<Cell<u64>>>,
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
        let downstream = &self.shared.downstream;
        let verdict = downstream.prepare_request(request, &self.connection.peer, None, || self.host.random());
        let prepared = match verdict {
            Verdict::Continue(prepared) => prepared,
            Verdict::Reply(refusal) => return Err(LocalReply::refusal(refusal)),
        };
        let headers = request.headers_mut();
        headers.remove(EXPECT);
        record.request_id = headers.get(&REQUEST_ID).cloned();
        record.authority = headers.get(HOST).cloned();
        if self.shared.wants_headers() {
            record.forwarded_for = headers.get(&FORWARDED_FOR).cloned();
        }
        let is_grpc = grpc::is_request(headers);
        let authority = record.authority.clone();
        let authority = authority.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some(found) = routes.find(self.connection.port(), &view(request, authority, &prepared)) else {
            return Err(LocalReply::no_route().for_client(is_grpc));
        };
        let cors = found.route.and_then(|route| route.cors.as_ref());
        let cors = cors.map(|cors| (cors, cors.judge(request.method(), request.headers())));
        let exchanged = self.exchange(&found, cors.as_ref(), &prepared, is_grpc, record, unsent).await;
        let mut exchanged = exchanged.map_err(|reply| reply.for_client(is_grpc));
        if let Some((cors, CorsVerdict::Sign(origin))) = &cors {
            let headers = match &mut exchanged {
                Ok((response, _)) => response.headers_mut(),
                Err(reply) => reply.headers_mut(),
            };
            cors.sign(origin, headers);
        }
        exchanged
    }

    async fn exchange(
        &self,
        found: &Found<'_>,
        cors: Option<&(&Cors, CorsVerdict)>,
        prepared: &Prepared,
        is_grpc: bool,
        record: &mut AccessRecord,
        unsent: &mut Option<Request<Incoming>>,
    ) -> Result<(Response<Incoming>, Exchange), LocalReply> {
        let request = unsent.as_mut().expect("nothing has been sent yet");
        let authority = record.authority.clone();
        let authority = authority.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
        let view = view(request, authority, prepared);
        let is_secured = match found.host.require_tls {
            RequireTls::No => true,
            RequireTls::All => prepared.scheme == Scheme::Https,
            RequireTls::External => prepared.is_internal || prepared.scheme == Scheme::Https,
        };
        if !is_secured {
            return Err(LocalReply::redirect(StatusCode::MOVED_PERMANENTLY, &https_location(&view)));
        }
        let route = found.route.ok_or_else(LocalReply::no_route)?;
        record.route = Some(Arc::clone(&route.name));
        if let Some(fault) = &route.fault {
            let injected = fault.draw(|| self.host.random());
            if let Some(delay) = injected.delay {
                record.flags = record.flags.and(Flags::DI);
                self.host.sleep_until(self.host.now().after(delay)).await;
            }
            if let Some(abort) = injected.abort {
                return Err(LocalReply::abort(abort));
            }
        }
        if let Some((_, CorsVerdict::Answer(headers))) = cors {
            return Err(LocalReply::preflight(headers));
        }
        match &route.action {
            Action::Forward(forward) => {
                let choice = self.choose(route, forward, &view)?;
                self.forward(found, route, forward, choice, is_grpc, prepared, record, unsent).await
            }
            Action::Redirect(redirect) => {
                let reply = self.redirect(redirect, &view, route);
                Err(self.changed(reply, found, route, request, prepared))
            }
            Action::Direct(direct) => {
                let reply = LocalReply::direct(direct.status, direct.body.clone());
                Err(self.changed(reply, found, route, request, prepared))
            }
        }
    }

    /// An answer of the gateway's own, with the changes that its route asks for.
    fn changed(
        &self,
        mut reply: LocalReply,
        found: &Found<'_>,
        route: &Route,
        request: &Request<Incoming>,
        prepared: &Prepared,
    ) -> LocalReply {
        let changes = ResponseChanges::new(found.response_changes(None), request, prepared, self.connection, route);
        let status = reply.status;
        changes.make(status, reply.headers_mut());
        reply
    }

    fn redirect(&self, redirect: &Redirect, view: &RequestView<'_>, route: &Route) -> LocalReply {
        let location = redirect.location(view, &route.condition.path, self.connection.port());
        LocalReply::redirect(redirect.status, &location)
    }

    /// Draws the destination, which stays the same over all tries.
    fn choose<'r>(
        &self,
        route: &Route,
        forward: &'r Forward,
        view: &RequestView<'_>,
    ) -> Result<Choice<'r>, LocalReply> {
        let destination = forward.destination(|| self.host.random()).ok_or_else(LocalReply::no_cluster)?;
        let name = match &destination.target {
            Target::Cluster(name) => Arc::clone(name),
            Target::ClusterHeader(header) => {
                let name = view.headers.get(header).and_then(|value| value.to_str().ok());
                name.map(Arc::from).ok_or_else(LocalReply::no_cluster)?
            }
            Target::Unavailable(status) => return Err(LocalReply::direct(*status, Bytes::new())),
            Target::Redirect(redirect) => return Err(self.redirect(redirect, view, route)),
        };
        let cluster = self.shared.cluster(&name).ok_or_else(LocalReply::no_cluster)?;
        Ok(Choice { destination, name, cluster })
    }

    #[expect(clippy::too_many_arguments, reason = "all that is known of a request comes together here")]
    async fn forward(
        &self,
        found: &Found<'_>,
        route: &Route,
        forward: &Forward,
        choice: Choice<'_>,
        is_grpc: bool,
        prepared: &Prepared,
        record: &mut AccessRecord,
        unsent: &mut Option<Request<Incoming>>,
    ) -> Result<(Response<Incoming>, Exchange), LocalReply> {
        let Choice { destination, name, cluster } = choice;
        record.cluster = Some(name);
        let request = unsent.as_mut().expect("nothing has been sent yet");
        let retries = RetryState::new(&forward.retry, request.method(), request.headers());
        let timeouts = RouteTimeouts::istio(forward.timeout, forward.retry.per_try_timeout);
        let timeouts = timeouts.resolve(is_grpc, request.headers_mut());
        remove_control_headers(request.headers_mut());
        let changes = found.response_changes(Some(destination));
        let changes = ResponseChanges::new(changes, request, prepared, self.connection, route);
        let own = found.request_changes(Some(destination));
        change_request(&own, request, prepared, self.connection, route);
        rewrite(route, forward, destination, request);
        let hashed = self.hash(forward, request, prepared);
        let is_repeated = retries.repeats_what_was_sent(is_grpc);
        let mut unsent = self.keep(forward, &timeouts, is_repeated, unsent);
        let tries = Tries {
            worker: self.worker,
            host: self.host,
            cluster: &cluster,
            retry: &forward.retry,
            hash: hashed.hash,
            timeouts,
            waits_for: RefCell::default(),
        };
        let (mut response, exchange) = tries.run(retries, record, &mut unsent).await?;
        let headers = response.headers_mut();
        self.shared.downstream.prepare_response(headers, prepared);
        let elapsed = self.host.now().since(exchange.sent_at);
        record.service_time = Some(elapsed);
        headers.insert(SERVICE_TIME, HeaderValue::from(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)));
        for cookie in hashed.cookies {
            headers.append(SET_COOKIE, cookie);
        }
        let status = response.status();
        changes.make(status, response.headers_mut());
        Ok((response, exchange))
    }

    /// What a balancer that hashes goes by.
    fn hash(&self, forward: &Forward, request: &Request<Incoming>, prepared: &Prepared) -> Hashed {
        if forward.hash.is_empty() {
            return Hashed::default();
        }
        let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.connection.port());
        let input = HashInput {
            headers: request.headers(),
            query: request.uri().query(),
            client: prepared.client,
            remote: self.connection.client,
            local: self.connection.local.unwrap_or(unknown),
        };
        hash(&forward.hash, &input)
    }

    /// Takes the request out, with its body kept if it may be needed again, and sends the copies.
    fn keep(
        &self,
        forward: &Forward,
        timeouts: &Timeouts,
        is_repeated: bool,
        unsent: &mut Option<Request<Incoming>>,
    ) -> Unsent {
        let (head, body) = unsent.take().expect("nothing has been sent yet").into_parts();
        let body = self.received.as_ref().map(|received| Counted::new(body, Rc::clone(received)));
        let is_timed = timeouts.global.is_some() || timeouts.per_try.is_some();
        let mirrors = forward.mirrors.iter().filter(|mirror| mirror.share.holds(self.host.random()));
        let mirrors: Vec<Rc<Cluster>> = mirrors.filter_map(|mirror| self.shared.cluster(&mirror.cluster)).collect();
        if mirrors.is_empty() && !is_repeated && !(body.is_some() && is_timed) {
            let body = body.map_or(RequestBody::Empty, RequestBody::Passing);
            return Unsent::Once(Some(Request::from_parts(head, body)));
        }
        let kept = body.map(Kept::new);
        for mirror in mirrors {
            mirror::send(self.worker, self.host, mirror, head.clone(), kept.as_ref(), timeouts.global);
        }
        Unsent::Often(Box::new(head), kept)
    }
}

/// A destination that was drawn.
struct Choice<'r> {
    destination: &'r Destination,
    name: Arc<str>,
    cluster: Rc<Cluster>,
}

/// Gives a request the path and the host that the upstream is to see.
fn rewrite(route: &Route, forward: &Forward, destination: &Destination, request: &mut Request<Incoming>) {
    if !forward.rewrites(destination) {
        return;
    }
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
    if let Some(path) = forward.rewrite(destination, &route.condition.path, &path, request.headers_mut())
        && let Ok(uri) = Uri::try_from(path)
    {
        *request.uri_mut() = uri;
    }
}

/// What routes ask of a request.
fn view<'a>(request: &'a Request<Incoming>, authority: &'a str, prepared: &Prepared) -> RequestView<'a> {
    RequestView {
        method: request.method(),
        authority,
        scheme: prepared.scheme.as_str(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
    }
}
