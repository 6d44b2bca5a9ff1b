//! One request to upstreams: as many tries as its route allows, each with an endpoint and a connection of its own.
//!
//! ```text
//! pick an endpoint ─→ connection from its pool ─→ send ─→ answer's head ─┬─ not to be tried again: it is the answer
//!        ▲                    │ refused, timed out        │ broken off   │
//!        └──── back-off ←─────┴───────────────────────────┴──────────────┘ to be tried again
//! ```
//!
//! A try's timeout counts from when the try is sent in full, the route's from when the client's request is complete; the latter covers all tries
//! and waits. Nothing is tried again once an answer's head has gone to the client.
//! Source: envoy source/common/router/{router,upstream_request,retry_state_impl}.cc.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};
use http_body::Body;

use super::reply::LocalReply;
use super::request_body::{Kept, RequestBody};
use super::response_body::{Done, Exchange, Limit};
use crate::gateway::access::{AccessRecord, Flags};
use crate::gateway::host::{Host, random_below};
use crate::gateway::outlier::Outcome;
use crate::gateway::retry::{Decision, Reset, RetryPolicy, RetryState, TryEnd};
use crate::gateway::timeouts::Timeouts;
use crate::gateway::upstream::{Cluster, Endpoint, PickContext, PoolFailure};
use crate::units::SimTime;

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// Sends again on another connection, at most so often, what a closing connection gave back unsent.
const UNSENT_MAX: u32 = 100;

/// A request that waits to be sent.
pub(super) enum Unsent<'u> {
    /// Once; nothing of it is kept.
    Once(&'u mut Option<Request<RequestBody>>),
    /// As often as need be.
    Often(Box<Parts>, Option<Rc<Kept>>),
}

impl Unsent<'_> {
    fn take(&mut self) -> Option<Request<RequestBody>> {
        match self {
            Self::Once(request) => request.take(),
            Self::Often(head, None) => Some(Request::from_parts(Parts::clone(head), RequestBody::Empty)),
            Self::Often(head, Some(kept)) => {
                let body = RequestBody::Kept(kept.read());
                kept.is_whole().then(|| Request::from_parts(Parts::clone(head), body))
            }
        }
    }

    fn put_back(&mut self, request: Request<RequestBody>) {
        if let Self::Once(place) = self {
            **place = Some(request);
        }
    }

    fn is_there(&self) -> bool {
        match self {
            Self::Once(request) => request.is_some(),
            Self::Often(_, kept) => kept.as_ref().is_none_or(|kept| kept.is_whole()),
        }
    }

    fn kept(&self) -> Option<&Rc<Kept>> {
        match self {
            Self::Once(_) => None,
            Self::Often(_, kept) => kept.as_ref(),
        }
    }
}

/// What all tries of a request share.
pub(super) struct Tries<'a, H> {
    pub(super) worker: usize,
    pub(super) host: &'a H,
    pub(super) cluster: &'a Rc<Cluster>,
    pub(super) retry: &'a RetryPolicy,
    pub(super) timeouts: Timeouts,
    /// The hash of the request's key.
    pub(super) hash: Option<u64>,
    /// Whose answer is waited for; empty at first.
    pub(super) waits_for: RefCell<Option<Rc<Endpoint>>>,
}

/// Why a try has no answer.
struct Failure {
    /// What the client gets, if it is the last one.
    reply: LocalReply,
    /// What decides on a retry; none where there is never one.
    reset: Option<Reset>,
}

impl Failure {
    fn new(reply: LocalReply, reset: Reset) -> Self {
        Self { reply, reset: Some(reset) }
    }

    fn of_pool(failure: PoolFailure) -> Self {
        match failure {
            PoolFailure::Refused => Self::new(LocalReply::refused(), Reset::ConnectFailure),
            PoolFailure::TimedOut => Self::new(LocalReply::connect_timeout(), Reset::ConnectFailure),
            PoolFailure::Overflow => Self::new(LocalReply::overflow(), Reset::Overflow),
        }
    }
}

impl<H: Host> Tries<'_, H> {
    /// Sends the request until there is an answer to keep, or nothing more to try.
    pub(super) async fn run(
        &self,
        retries: &mut RetryState<'_>,
        record: &mut AccessRecord,
        unsent: &mut Unsent<'_>,
        done: &mut Option<Done>,
    ) -> Result<(), Box<LocalReply>> {
        let mut limit = self.timeouts.global.map(|timeout| self.limit(timeout, unsent.kept().cloned()));
        // In a box: with it, the future of a request would be beyond the kilobyte up to which an allocation is a fast one.
        let tries = Box::pin(self.try_all(retries, record, unsent, done));
        let ended = before(tries, &mut limit).await;
        let Some(ended) = ended else {
            if let Some(endpoint) = self.waits_for.take() {
                self.cluster.report(self.host, &endpoint, Outcome::TimedOut);
            }
            return Err(LocalReply::timed_out("upstream_response_timeout").into());
        };
        if let Some(done) = done {
            done.exchange.limit = limit;
        }
        ended
    }

    /// A timeout, which begins when the client's request is complete.
    fn limit(&self, timeout: Duration, kept: Option<Rc<Kept>>) -> Limit {
        let host = self.host.clone();
        Box::pin(async move {
            if let Some(kept) = kept {
                kept.ended().await;
            }
            host.sleep_until(host.now().after(timeout)).await;
        })
    }

    async fn try_all(
        &self,
        retries: &mut RetryState<'_>,
        record: &mut AccessRecord,
        unsent: &mut Unsent<'_>,
        done: &mut Option<Done>,
    ) -> Result<(), Box<LocalReply>> {
        let began_at = self.host.now();
        let mut tried: Vec<SocketAddr> = Vec::new();
        let draw = |bound| random_below(self.host.random(), bound);
        // A retry is in flight to the end of its try.
        let mut permit = None;
        loop {
            record.attempts += 1;
            let failure = self.try_once(began_at, record, unsent, &tried, done).await.err();
            drop(permit.take());
            let is_possible = retries.is_enabled() && unsent.is_there();
            let result = |failure: Option<Box<Failure>>| failure.map_or(Ok(()), |failure| Err(failure.reply.into()));
            let reset = failure.as_ref().map(|failure| failure.reset);
            let end = match (&*done, reset) {
                (_, Some(Some(reset))) => TryEnd::Reset(reset),
                (Some(Done { response, .. }), None) => {
                    TryEnd::Response { status: response.status(), headers: response.headers() }
                }
                (_, Some(None)) | (None, None) => return result(failure),
            };
            let begin_retry = || {
                permit = self.cluster.begin_retry();
                permit.is_some()
            };
            let decision = if is_possible { retries.decide(&end, begin_retry) } else { Decision::No };
            let wait = match decision {
                Decision::No => return result(failure),
                Decision::Overflow => {
                    record.flags = record.flags.and(Flags::UO);
                    return result(failure);
                }
                Decision::LimitExceeded => {
                    record.flags = record.flags.and(Flags::URX);
                    return result(failure);
                }
                Decision::RetryAtOnce => Duration::ZERO,
                Decision::Retry => retries.backoff(&end, self.host.now().as_nanos() / 1_000_000_000, draw),
            };
            tried.extend(record.upstream);
            // An answer that is not kept goes with its connection, unless nothing more is to come on it.
            if let Some(Done { response, mut exchange }) = done.take()
                && response.body().is_end_stream()
                && let Some(lent) = exchange.lent.take()
            {
                lent.give_back();
            }
            self.host.sleep_until(self.host.now().after(wait)).await;
        }
    }

    async fn try_once(
        &self,
        began_at: SimTime,
        record: &mut AccessRecord,
        unsent: &mut Unsent<'_>,
        tried: &[SocketAddr],
        done: &mut Option<Done>,
    ) -> Result<(), Box<Failure>> {
        let endpoint = {
            let context = PickContext { hash: self.hash, tried, retry: self.retry };
            self.cluster.pick(self.worker, self.host, &context)
        };
        let Some(endpoint) = endpoint else {
            return Err(Failure { reply: LocalReply::no_host(), reset: None }.into());
        };
        record.upstream = Some(endpoint.address);
        let report = |outcome| self.cluster.report(self.host, &endpoint, outcome);
        for _ in 0..UNSENT_MAX {
            let lent = endpoint.lend(self.host, self.worker).await;
            let mut lent = lent.map_err(|failure| {
                if failure != PoolFailure::Overflow {
                    report(Outcome::ConnectFailed);
                }
                Failure::of_pool(failure)
            })?;
            report(Outcome::Connected);
            record.upstream_local = lent.local();
            if self.timeouts.global.is_some() {
                *self.waits_for.borrow_mut() = Some(Rc::clone(&endpoint));
            }
            let sent_at = self.host.now();
            // In a block of its own, so that the request is not kept a place for while its answer is waited for.
            let sending = {
                let Some(mut request) = unsent.take() else {
                    return Err(Failure { reply: LocalReply::terminated(), reset: None }.into());
                };
                self.mark(record.attempts, sent_at.since(began_at), &mut request);
                lent.requests().try_send_request(request)
            };
            let mut limit = self.timeouts.per_try.map(|timeout| self.limit(timeout, unsent.kept().cloned()));
            let answer = before(pin!(sending), &mut limit).await;
            self.waits_for.take();
            let Some(answer) = answer else {
                report(Outcome::TimedOut);
                let reply = LocalReply::timed_out("upstream_per_try_timeout");
                return Err(Failure::new(reply, Reset::TooLate).into());
            };
            match answer {
                Ok(response) => {
                    report(Outcome::Status(response.status().as_u16()));
                    let exchange = Exchange { incoming: None, lent: Some(lent), sent_at, limit: None };
                    *done = Some(Done { response, exchange });
                    return Ok(());
                }
                Err(mut error) => match error.take_message() {
                    // The connection was closing as it was lent: Envoy would have known, and taken another.
                    Some(request) => unsent.put_back(request),
                    // The request's body broke off: that is the client's doing, and no fault of the endpoint.
                    None if error.error().is_user() => {
                        return Err(Failure { reply: LocalReply::client_left(), reset: None }.into());
                    }
                    None => {
                        report(Outcome::ConnectFailed);
                        let is_malformed = error.error().is_parse();
                        let reply = if is_malformed { LocalReply::protocol_error() } else { LocalReply::terminated() };
                        return Err(Failure::new(reply, Reset::AfterRequest).into());
                    }
                },
            }
        }
        Err(Failure::new(LocalReply::terminated(), Reset::BeforeRequest).into())
    }

    /// Tells the upstream which try this is, and how long it has.
    fn mark(&self, attempts: u32, elapsed: Duration, request: &mut Request<RequestBody>) {
        let attempt = if attempts == 1 { HeaderValue::from_static("1") } else { attempts.into() };
        request.headers_mut().insert(ATTEMPT_COUNT, attempt);
        if attempts > 1 {
            self.timeouts.tell(elapsed, request.headers_mut());
        }
    }
}

/// The output of a future, unless a limit is over first. A future of its own kind: an async function would hold what it is given twice.
struct Before<'l, F> {
    future: F,
    limit: &'l mut Option<Limit>,
}

fn before<F: Future + Unpin>(future: F, limit: &mut Option<Limit>) -> Before<'_, F> {
    Before { future, limit }
}

impl<F: Future + Unpin> Future for Before<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match (Pin::new(&mut self.future).poll(cx), &mut *self.limit) {
            (Poll::Ready(output), _) => Poll::Ready(Some(output)),
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Pending, Some(limit)) => limit.as_mut().poll(cx).map(|()| None),
        }
    }
}
