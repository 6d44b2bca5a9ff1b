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
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, DATE, EXPECT, HOST, SERVER, SET_COOKIE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;

use self::fields::{ResponseChanges, change_request};
use self::reply::LocalReply;
use self::request_body::Kept;
pub(super) use self::request_body::RequestBody;
pub(super) use self::response_body::{Audience, ResponseBody};
use self::response_body::{Done, Journal};
use self::tries::{Tries, Unsent};
use super::access::{AccessRecord, Flags};
use super::cors::CorsVerdict;
use super::downstream::{Prepared, Seen, Verdict};
use super::grpc;
use super::hash::{HashInput, Hashed, hash};
use super::host::{Host, Work};
use super::retry::{RetryState, remove_control_headers};
use super::routes::rewrite::https_location;
use super::routes::{Action, Cors, Destination, Forward, Found, Redirect, RequestView, Route, Routes, Target};
use super::server::{ConnectionState, Shared};
use super::timeouts::{RouteTimeouts, Timeouts};
use super::upstream::Cluster;
use crate::units::SimTime;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// A request on its way. In a box beside the future that works on it, which gets references alone: a request and its answer are large, every
/// future that owned one would hold it once more, and an allocation beyond a kilobyte is a slow one.
pub(super) struct Passage {
    /// Taken out when it is sent.
    request: Option<Request<RequestBody>>,
    seen: Seen,
    /// Bytes of its body so far; none: it has no body.
    received: Option<Rc<Cell<u64>>>,
    /// The upstream's answer.
    done: Option<Done>,
}

impl Passage {
    /// A request as it arrives.
    pub(super) fn new(request: Request<Incoming>) -> Box<Self> {
        let seen = Seen::of(request.headers());
        let (request, received) = RequestBody::counted(request);
        Box::new(Self { request: Some(request), seen, received, done: None })
    }

    fn request(&mut self) -> &mut Request<RequestBody> {
        self.request.as_mut().expect("nothing has been sent yet")
    }
}

/// Answers one request of a connection.
pub(super) async fn handle<H: Host>(
    shared: Rc<Shared<H>>,
    worker: usize,
    connection: Rc<ConnectionState>,
    mut passage: Box<Passage>,
) -> Result<Response<ResponseBody>, Infallible> {
    let host = &shared.workers[worker];
    let client_says_close = says_close(&mut passage);
    let mut journal = journal(&shared, host.now(), &connection, &mut passage);
    host.charge(Work::Request).await;
    if client_says_close {
        connection.client_said_close.set(true);
    }
    // The table of this moment holds for the whole request, whatever is pushed meanwhile.
    let routes = shared.routes_of(&connection);
    let context = Context { shared: &shared, worker, host, connection: &connection };
    let failed = context.answer(&routes, &mut journal.record, &mut passage).await.err();
    let mut response = match (failed, passage.done.take()) {
        (Some(mut reply), _) => {
            journal.record.flags = journal.record.flags.and(reply.flags);
            journal.record.details = reply.details;
            let headers = reply.take_headers();
            let mut response = Response::new(ResponseBody::local(std::mem::take(&mut reply.body), journal));
            *response.status_mut() = reply.status;
            *response.headers_mut() = headers;
            response
        }
        (None, done) => {
            let Done { response, mut exchange } = done.expect("what does not fail leaves an answer");
            journal.record.details = "via_upstream";
            response.map(|body| {
                exchange.incoming = Some(body);
                ResponseBody::upstream(exchange, journal)
            })
        }
    };
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("istio-envoy"));
    if let Some(date) = host.date()
        && !headers.contains_key(DATE)
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
    let record = response.body_mut().record();
    record.status = Some(status).filter(|_| !record.flags.has(Flags::DC));
    Ok(response)
}

fn journal<H: Host>(
    shared: &Rc<Shared<H>>,
    now: SimTime,
    connection: &Rc<ConnectionState>,
    passage: &mut Passage,
) -> Box<Journal> {
    let received = passage.received.take();
    let has_id = passage.seen.has(Seen::REQUEST_ID);
    let request = passage.request();
    let user_agent = shared.wants_headers().then(|| request.headers().get(USER_AGENT).cloned());
    let record = AccessRecord {
        started_at: now,
        ended_at: now,
        method: request.method().clone(),
        uri: request.uri().clone(),
        version: request.version(),
        authority: request.headers().get(HOST).cloned(),
        request_id: if has_id { request.headers().get(&REQUEST_ID).cloned() } else { None },
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
    };
    Journal::new(Rc::clone(shared) as Rc<dyn Audience>, record, received, connection.open())
}

fn says_close(passage: &mut Passage) -> bool {
    let may_say = passage.seen.has(Seen::SPECIAL);
    let request = passage.request();
    let said = if may_say { request.headers().get(CONNECTION) } else { None };
    said.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close")) || request.version() < Version::HTTP_11
}

/// Where a request is answered.
struct Context<'a, H> {
    shared: &'a Rc<Shared<H>>,
    worker: usize,
    host: &'a H,
    connection: &'a ConnectionState,
}

/// What becomes of a request.
struct Plan<'r> {
    is_grpc: bool,
    /// A fault: it waits so long first.
    delay: Option<Duration>,
    /// The policy and the origin by which its answer is to be signed.
    cors: Option<(&'r Cors, HeaderValue)>,
    /// Where it goes, or the answer; none: no route is for it.
    onward: Option<Result<Box<Onward<'r>>, Box<LocalReply>>>,
}

/// A request that goes to an upstream.
struct Onward<'r> {
    forward: &'r Forward,
    cluster: Rc<Cluster>,
    retries: RetryState<'r>,
    timeouts: Timeouts,
    hashed: Hashed,
    prepared: Prepared,
    changes: ResponseChanges<'r>,
}

impl<H: Host> Context<'_, H> {
    /// Sends a request on and leaves the answer in its place, or fails with an answer of the gateway's own.
    async fn answer(
        &self,
        routes: &Routes,
        record: &mut AccessRecord,
        passage: &mut Passage,
    ) -> Result<(), Box<LocalReply>> {
        // It stays where it is: moved, it would be in this future twice.
        let mut plan = self.plan(routes, record, passage)?;
        let Passage { request: unsent, done, .. } = passage;
        if let Some(delay) = plan.delay {
            record.flags = record.flags.and(Flags::DI);
            self.host.sleep_until(self.host.now().after(delay)).await;
        }
        let result = match &mut plan.onward {
            None => Err(LocalReply::no_route().into()),
            Some(Err(_)) => Ok(()),
            Some(Ok(onward)) => {
                let is_repeated = onward.retries.repeats_what_was_sent(plan.is_grpc);
                let mut unsent = self.keep(onward.forward, &onward.timeouts, is_repeated, unsent);
                let tries = Tries {
                    worker: self.worker,
                    host: self.host,
                    cluster: &onward.cluster,
                    retry: &onward.forward.retry,
                    hash: onward.hashed.hash,
                    timeouts: onward.timeouts,
                    waits_for: RefCell::default(),
                };
                let result = tries.run(&mut onward.retries, record, &mut unsent, done).await;
                if let Some(done) = done {
                    self.finish(done, record, onward);
                }
                result
            }
        };
        let result = match plan.onward {
            Some(Err(reply)) => Err(reply),
            _ => result,
        };
        let mut result = result.map_err(|reply| reply.for_client(plan.is_grpc));
        if let Some((cors, origin)) = &plan.cors {
            match (&mut result, done) {
                (Err(reply), _) => cors.sign(origin, reply.headers_mut()),
                (Ok(()), Some(done)) => cors.sign(origin, done.response.headers_mut()),
                (Ok(()), None) => {}
            }
        }
        result
    }

    /// Decides what becomes of a request, and makes of it what an upstream is to see.
    fn plan<'r>(
        &self,
        routes: &'r Routes,
        record: &mut AccessRecord,
        passage: &mut Passage,
    ) -> Result<Plan<'r>, Box<LocalReply>> {
        let seen = passage.seen;
        let request = passage.request();
        if request.version() < Version::HTTP_11 {
            return Err(LocalReply::new(StatusCode::UPGRADE_REQUIRED, Flags::DPE, "low_version", "").into());
        }
        let downstream = &self.shared.downstream;
        let has_new_host = request.uri().authority().is_some() || downstream.shortens_hosts();
        let verdict = downstream.prepare_request(request, seen, &self.connection.peer, None, || self.host.random());
        let prepared = match verdict {
            Verdict::Continue(prepared) => prepared,
            Verdict::Reply(refusal) => return Err(LocalReply::refusal(refusal).into()),
        };
        let headers = request.headers_mut();
        if seen.has(Seen::EXPECT) {
            headers.remove(EXPECT);
        }
        // The record has them as they came.
        if prepared.may_steer || !seen.has(Seen::REQUEST_ID) || !downstream.keeps_external_request_id {
            record.request_id = headers.get(&REQUEST_ID).cloned();
        }
        if has_new_host {
            record.authority = headers.get(HOST).cloned();
        }
        if self.shared.wants_headers() {
            record.forwarded_for = headers.get(&FORWARDED_FOR).cloned();
        }
        let is_grpc = seen.has(Seen::CONTENT_TYPE) && grpc::is_request(headers);
        let mut plan = Plan { is_grpc, delay: None, cors: None, onward: None };
        let Some(found) = routes.find(self.connection.port(), &view(request, record, &prepared)) else {
            return Ok(plan);
        };
        if found.host.require_tls.redirects(prepared.scheme.as_str(), prepared.is_internal) {
            let location = https_location(&view(request, record, &prepared));
            plan.onward = Some(Err(LocalReply::redirect(StatusCode::MOVED_PERMANENTLY, &location).into()));
            return Ok(plan);
        }
        let Some(route) = found.route else { return Ok(plan) };
        record.route = Some(Arc::clone(&route.name));
        if let Some(fault) = &route.fault {
            let injected = fault.draw(|| self.host.random());
            plan.delay = injected.delay;
            if let Some(abort) = injected.abort {
                plan.onward = Some(Err(LocalReply::abort(abort).into()));
                return Ok(plan);
            }
        }
        if let Some(cors) = &route.cors {
            match cors.judge(request.method(), request.headers()) {
                CorsVerdict::Pass => {}
                CorsVerdict::Sign(origin) => plan.cors = Some((cors, origin)),
                CorsVerdict::Answer(headers) => {
                    plan.onward = Some(Err(LocalReply::preflight(headers).into()));
                    return Ok(plan);
                }
            }
        }
        plan.onward = Some(match &route.action {
            Action::Forward(forward) => self.onward(&found, route, forward, is_grpc, prepared, record, request),
            Action::Redirect(redirect) => {
                let reply = self.redirect(redirect, &view(request, record, &prepared), route);
                Err(self.changed(reply, &found, route, request, &prepared).into())
            }
            Action::Direct(direct) => {
                let reply = LocalReply::direct(direct.status, direct.body.clone());
                Err(self.changed(reply, &found, route, request, &prepared).into())
            }
        });
        Ok(plan)
    }

    /// An answer of the gateway's own, with the changes that its route asks for.
    fn changed(
        &self,
        mut reply: LocalReply,
        found: &Found<'_>,
        route: &Route,
        request: &Request<RequestBody>,
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
    ) -> Result<Choice<'r>, Box<LocalReply>> {
        let destination = forward.destination(|| self.host.random()).ok_or_else(LocalReply::no_cluster)?;
        let name = match &destination.target {
            Target::Cluster(name) => Arc::clone(name),
            Target::ClusterHeader(header) => {
                let name = view.headers.get(header).and_then(|value| value.to_str().ok());
                name.map(Arc::from).ok_or_else(LocalReply::no_cluster)?
            }
            Target::Unavailable(status) => return Err(LocalReply::direct(*status, Bytes::new()).into()),
            Target::Redirect(redirect) => return Err(self.redirect(redirect, view, route).into()),
        };
        let cluster = self.shared.cluster(&name).ok_or_else(LocalReply::no_cluster)?;
        Ok(Choice { destination, name, cluster })
    }

    #[expect(clippy::too_many_arguments, reason = "all that is known of a request comes together here")]
    fn onward<'r>(
        &self,
        found: &Found<'r>,
        route: &'r Route,
        forward: &'r Forward,
        is_grpc: bool,
        prepared: Prepared,
        record: &mut AccessRecord,
        request: &mut Request<RequestBody>,
    ) -> Result<Box<Onward<'r>>, Box<LocalReply>> {
        let Choice { destination, name, cluster } = self.choose(route, forward, &view(request, record, &prepared))?;
        record.cluster = Some(name);
        let timeouts = RouteTimeouts::istio(forward.timeout, forward.retry.per_try_timeout);
        let (retries, timeouts) = if prepared.may_steer {
            let retries = RetryState::new(&forward.retry, request.method(), request.headers());
            let timeouts = timeouts.resolve(is_grpc, request.headers_mut());
            remove_control_headers(request.headers_mut());
            (retries, timeouts)
        } else {
            let retries = RetryState::of_policy(&forward.retry, request.method(), request.headers());
            (retries, timeouts.resolve_unasked(is_grpc, request.headers_mut()))
        };
        let changes = found.response_changes(Some(destination));
        let changes = ResponseChanges::new(changes, request, &prepared, self.connection, route);
        let own = found.request_changes(Some(destination));
        change_request(&own, request, &prepared, self.connection, route);
        rewrite(route, forward, destination, request);
        let hashed = self.hash(forward, request, &prepared);
        Ok(Box::new(Onward { forward, cluster, retries, timeouts, hashed, prepared, changes }))
    }

    /// Makes of an upstream's answer what the client is to see.
    fn finish(&self, done: &mut Done, record: &mut AccessRecord, onward: &mut Onward<'_>) {
        let status = done.response.status();
        let headers = done.response.headers_mut();
        self.shared.downstream.prepare_response(headers, &onward.prepared);
        let elapsed = self.host.now().since(done.exchange.sent_at);
        record.service_time = Some(elapsed);
        headers.insert(SERVICE_TIME, milliseconds(elapsed));
        for cookie in onward.hashed.cookies.drain(..) {
            headers.append(SET_COOKIE, cookie);
        }
        onward.changes.make(status, headers);
    }

    /// What a balancer that hashes goes by.
    fn hash(&self, forward: &Forward, request: &Request<RequestBody>, prepared: &Prepared) -> Hashed {
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

    /// The request as it is to be sent: once, or with its body kept if it may be needed again. Sends the copies.
    fn keep<'u>(
        &self,
        forward: &Forward,
        timeouts: &Timeouts,
        is_repeated: bool,
        unsent: &'u mut Option<Request<RequestBody>>,
    ) -> Unsent<'u> {
        let has_body = unsent.as_ref().is_some_and(|request| !request.body().is_end_stream());
        let is_timed = timeouts.global.is_some() || timeouts.per_try.is_some();
        let mirrors = forward.mirrors.iter().filter(|mirror| mirror.share.holds(self.host.random()));
        let mirrors: Vec<Rc<Cluster>> = mirrors.filter_map(|mirror| self.shared.cluster(&mirror.cluster)).collect();
        if mirrors.is_empty() && !is_repeated && !(has_body && is_timed) {
            return Unsent::Once(unsent);
        }
        let (head, body) = unsent.take().expect("nothing has been sent yet").into_parts();
        let kept = match body {
            RequestBody::Passing(body) => Some(Kept::new(body)),
            RequestBody::Empty | RequestBody::Kept(_) => None,
        };
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

/// A time in whole milliseconds. Most answers take a few, which are written already.
fn milliseconds(time: Duration) -> HeaderValue {
    const FEW: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let count = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let written = usize::try_from(count).ok().and_then(|count| FEW.get(count));
    written.map_or_else(|| HeaderValue::from(count), |text| HeaderValue::from_static(text))
}

/// Gives a request the path and the host that the upstream is to see.
fn rewrite(route: &Route, forward: &Forward, destination: &Destination, request: &mut Request<RequestBody>) {
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
fn view<'a>(request: &'a Request<RequestBody>, record: &'a AccessRecord, prepared: &Prepared) -> RequestView<'a> {
    let authority = record.authority.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    RequestView {
        method: request.method(),
        authority,
        scheme: prepared.scheme.as_str(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
    }
}
