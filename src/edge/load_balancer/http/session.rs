//! One client's connection to a listener for HTTP: its requests, one after the other, each with a target of its own.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Write as _;

use super::super::BackendMode;
use super::{Leg, LoadBalancer, Target, Trial};
use crate::edge::balancer::TargetId;
use crate::edge::http_proxy::message::{self, AnswerHead, RequestHead};
use crate::edge::http_proxy::sticky::Claim;
use crate::edge::http_proxy::{Ending, HttpRules};
use crate::edge::scheduler::Flow;
use crate::engine::{Sim, Sleep};
use crate::net::body::Body;
use crate::net::{ConnectErrorKind, TcpStream};
use crate::units::SimTime;

/// A request that waits for its answer.
struct Asked<'a> {
    request: &'a RequestHead,
    /// As targets get it.
    onward: Vec<u8>,
    /// The client's connection is over with it.
    closes: bool,
    rules: &'a HttpRules,
    /// The target that it asks for.
    claim: Option<Claim>,
}

/// A request that a target has: it counts there until it is over.
struct UnderWay<'a> {
    balancer: &'a LoadBalancer,
    target: TargetId,
    /// The front port and its group.
    at: (u16, u32),
}

impl<'a> UnderWay<'a> {
    fn new(balancer: &'a LoadBalancer, target: TargetId, port: u16) -> Self {
        let mut state = balancer.inner.state.borrow_mut();
        let group = state.group_number(port);
        state.balancer.handle_open(target);
        state.count_in_group(port, group, target, true);
        Self { balancer, target, at: (port, group) }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.balancer.inner.state.borrow_mut();
        state.balancer.handle_close(self.target);
        state.count_in_group(self.at.0, self.at.1, self.target, false);
    }
}

/// How long the other side may take and say nothing. Its timer is armed again only when it has rung.
struct Patience {
    timeout: Duration,
    since: SimTime,
    timer: Option<Sleep>,
}

impl Patience {
    fn new(timeout: Duration, sim: &Sim) -> Self {
        Self { timeout, since: sim.now(), timer: None }
    }

    fn renew(&mut self, sim: &Sim) {
        self.since = sim.now();
    }

    fn poll_over(&mut self, sim: &Sim, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.since.after(self.timeout);
        loop {
            if deadline <= sim.now() {
                return Poll::Ready(());
            }
            let timer = self.timer.get_or_insert_with(|| sim.sleep_until(deadline));
            if Pin::new(timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}

/// Why nothing more comes of a target.
enum Stop {
    /// It, or somebody on the way, ended it.
    Failed(Ending),
    /// The client has left.
    ClientGone,
}

/// How a request ended at a target.
enum Tried {
    /// All of its answer has been passed on; whether the client's connection stays open.
    Answered { stays: bool },
    /// There is nothing to pass on.
    Failed(Ending),
    /// The answer broke off in the middle.
    Cut(Ending),
    /// The client has left.
    ClientGone,
}

/// What a client's connection waits for.
enum Next {
    Request(RequestHead),
    Idle,
    Malformed,
    Gone,
}

/// One client's connection.
pub(super) struct Session {
    balancer: LoadBalancer,
    sim: Sim,
    client: TcpStream,
    /// What has been read of it and not yet understood.
    buffer: Vec<u8>,
    /// The front port.
    port: u16,
    opened_at: SimTime,
    /// Requests so far.
    request_count: u64,
}

impl Session {
    pub(super) fn new(balancer: LoadBalancer, client: TcpStream, port: u16) -> Self {
        let sim = balancer.inner.sim.clone();
        let opened_at = sim.now();
        Self { balancer, sim, client, buffer: Vec::new(), port, opened_at, request_count: 0 }
    }

    /// The rules of its listener, as they are by now.
    fn rules(&self) -> Option<Rc<HttpRules>> {
        self.balancer.inner.live().http.get(&self.port).cloned()
    }

    /// Answers requests until somebody has enough. Its end closes the connection.
    pub(super) async fn serve(mut self) {
        let mut idle = Patience::new(Duration::ZERO, &self.sim);
        while let Some(rules) = self.rules() {
            idle.timeout = rules.client_idle;
            idle.renew(&self.sim);
            match self.next(&mut idle).await {
                Next::Request(request) => {
                    if self.answer(&request, &rules).await.is_none() {
                        return;
                    }
                }
                Next::Idle => return self.balancer.tell_idle(self.client.id()),
                Next::Malformed => {
                    let _ = self.client.write_all(&message::own(400, true)).await;
                    return;
                }
                Next::Gone => return,
            }
        }
    }

    /// The next request's head.
    async fn next(&mut self, idle: &mut Patience) -> Next {
        poll_fn(|cx| {
            loop {
                let head = if self.buffer.is_empty() { Ok(None) } else { message::read_request(&self.buffer) };
                match head {
                    Ok(Some(head)) => return Poll::Ready(Next::Request(head)),
                    Ok(None) => {}
                    Err(_) => return Poll::Ready(Next::Malformed),
                }
                match self.client.poll_read_into(cx, &mut self.buffer) {
                    Poll::Ready(Ok(1..)) => idle.renew(&self.sim),
                    Poll::Ready(_) => return Poll::Ready(Next::Gone),
                    Poll::Pending => return idle.poll_over(&self.sim, cx).map(|()| Next::Idle),
                }
            }
        })
        .await
    }

    /// Answers a request; none if the connection is over with it.
    async fn answer(&mut self, request: &RequestHead, rules: &HttpRules) -> Option<()> {
        self.request_count += 1;
        let head: Vec<u8> = self.buffer.drain(..request.length).collect();
        let body = self.read_body(request.body).await?;
        let is_last = rules.is_last(self.request_count, self.opened_at, self.sim.now());
        let closes = is_last || request.says_close;
        let tried = match (self.balancer.admit_query(self.port), rules.redirect) {
            (Err(event), _) => {
                let trial = Trial { ending: Some(Ending::OverLimit), why: Some(event), ..self.trial() };
                self.note(request, trial);
                Err(Ending::OverLimit)
            }
            (Ok(()), Some(port)) => {
                self.client.write_all(&message::redirect(&head, port, closes)).await.ok()?;
                Ok(!closes)
            }
            (Ok(()), None) => {
                let peer = self.client.peer_addr();
                let mut onward = message::onward(&head, peer, self.port, rules.forwarded, rules.target_idle.is_none());
                onward.extend_from_slice(&body);
                let claim = rules.sticky.as_ref().and_then(|sticky| sticky.claim(&head, self.sim.now()));
                self.tried(&Asked { request, onward, closes, rules, claim }).await?
            }
        };
        let stays = match tried {
            Ok(stays) => stays,
            Err(ending) => {
                self.client.write_all(&message::own(rules.status(ending), closes)).await.ok()?;
                !closes
            }
        };
        stays.then_some(())
    }

    /// A request's body, as it stands; none if the client breaks off.
    async fn read_body(&mut self, mut body: Body) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let (taken, is_complete) = body.take(&self.buffer).ok()?;
            bytes.extend(self.buffer.drain(..taken));
            if is_complete {
                return Some(bytes);
            }
            self.client.read(&mut self.buffer).await.ok().filter(|length| *length > 0)?;
        }
    }

    /// Has a request answered by a target: whether the client's connection stays open, or why the balancer has to answer; none if the client is gone, or cut off.
    async fn tried(&mut self, asked: &Asked<'_>) -> Option<Result<bool, Ending>> {
        let (balancer, request) = (self.balancer.clone(), asked.request);
        let mut trial = self.trial();
        let front = balancer.inner.state.borrow().vips.first().map_or(Ipv4Addr::UNSPECIFIED, |vip| vip.ip);
        let flow = Flow { from: self.client.peer_addr(), to: SocketAddrV4::new(front, self.port) };
        let (mut failed, mut claimed) = (Vec::new(), asked.claim.map(|claim| claim.target));
        let ending = loop {
            let target = match balancer.choose(flow, &failed, claimed.take()) {
                Ok(target) => target,
                Err((ending, why)) => {
                    // Who was asked says more than that nobody is left.
                    if failed.is_empty() {
                        (trial.ending, trial.why) = (Some(ending), why);
                    }
                    break trial.ending.unwrap_or(ending);
                }
            };
            trial = self.trial();
            trial.target = Some(SocketAddrV4::new(target.1, self.port));
            self.note(request, trial.clone());
            let under_way = UnderWay::new(&balancer, target.0, self.port);
            let tried = self.try_target(target, asked, &mut trial).await;
            drop(under_way);
            trial.ended_at = Some(self.sim.now());
            match tried {
                Tried::Answered { stays } => {
                    self.amend(request, trial);
                    return Some(Ok(stays));
                }
                Tried::ClientGone => {
                    self.amend(request, trial);
                    return None;
                }
                Tried::Cut(ending) => {
                    trial.ending = Some(ending);
                    self.amend(request, trial);
                    return None;
                }
                Tried::Failed(ending) => {
                    trial.ending = Some(ending);
                    failed.push(target.0);
                    if !asked.rules.goes_on_after(ending) {
                        break ending;
                    }
                }
            }
        };
        trial.ended_at = Some(self.sim.now());
        self.note(request, trial);
        Some(Err(ending))
    }

    fn trial(&self) -> Trial {
        let tried_at = self.sim.now();
        Trial {
            connection: None,
            target: None,
            why: None,
            was_reused: false,
            tried_at,
            ended_at: None,
            ending: None,
            way: Rc::default(),
        }
    }

    /// Writes down what becomes of a request.
    fn note(&self, request: &RequestHead, trial: Trial) {
        self.balancer.inner.proxy.borrow_mut().trials.insert(request.id.clone(), trial);
    }

    /// The same, unless its client has left meanwhile and told of its end.
    fn amend(&self, request: &RequestHead, trial: Trial) {
        if let Some(known) = self.balancer.inner.proxy.borrow_mut().trials.get_mut(&*request.id) {
            *known = trial;
        }
    }

    /// Sends a request to a target and passes its answer on.
    async fn try_target(&mut self, target: Target, asked: &Asked<'_>, trial: &mut Trial) -> Tried {
        let rules = asked.rules;
        let mut leg = match self.kept(target) {
            Some(kept) => {
                trial.was_reused = true;
                kept
            }
            None => match self.dial(target, rules.connect_timeout, trial).await {
                Ok(leg) => leg,
                Err(Stop::Failed(ending)) => return Tried::Failed(ending),
                Err(Stop::ClientGone) => return Tried::ClientGone,
            },
        };
        (trial.connection, trial.target) = (Some(leg.id()), Some(leg.target()));
        self.amend(asked.request, trial.clone());
        let mut patience = Patience::new(rules.answer_timeout, &self.sim);
        let tried = self.exchange(&mut leg, target, asked, &mut patience).await;
        match tried {
            Ok((head, stays)) => {
                if rules.target_idle.is_some() && !head.says_close {
                    self.balancer.keep((target.0, self.port), leg);
                }
                Tried::Answered { stays }
            }
            Err(tried) => {
                trial.why = leg.ended_by().and_then(|ending| ending.why);
                tried
            }
        }
    }

    /// A kept connection to a target of which no end is known.
    fn kept(&self, target: Target) -> Option<TcpStream> {
        loop {
            let kept = self.balancer.inner.proxy.borrow_mut().pool.take((target.0, self.port))?;
            // A server group that was made anew for another port of the pods has none of the former one's connections.
            let live = self.balancer.inner.live();
            let is_of_pods = live.targets.mode == BackendMode::Pods;
            let is_of_group = !is_of_pods || live.ports.get(&self.port) == Some(&kept.target().port());
            if is_of_group && kept.ended_by().is_none() {
                return Some(kept);
            }
        }
    }

    /// A new connection to a target.
    async fn dial(&self, target: Target, timeout: Duration, trial: &mut Trial) -> Result<TcpStream, Stop> {
        let inner = &self.balancer.inner;
        let leg = Leg { inner: Rc::downgrade(inner), target, port: self.port };
        let trace = Rc::clone(&trial.way);
        let to = SocketAddrV4::new(target.1, inner.live().ports.get(&self.port).copied().unwrap_or(self.port));
        trial.target = Some(to);
        let mut dialled = pin!(inner.host.connect_through(to, Rc::new(leg), Rc::clone(&trace)));
        let mut patience = Patience::new(timeout, &self.sim);
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = dialled.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(|error| {
                    trial.connection = Some(error.id);
                    (trial.target, trial.why) = (error.target, error.why);
                    Stop::Failed(match error.kind {
                        ConnectErrorKind::Refused => Ending::Refused,
                        ConnectErrorKind::TimedOut => Ending::ConnectTimedOut,
                        ConnectErrorKind::Reset => Ending::Reset,
                    })
                }));
            }
            self.poll_given_up(&mut patience, Ending::ConnectTimedOut, cx).map(Err)
        })
        .await;
        if matches!(result, Err(Stop::ClientGone | Stop::Failed(Ending::ConnectTimedOut))) && trial.connection.is_none()
        {
            (trial.target, trial.why) = (trace.get().reached.or(trial.target), trace.get().why);
        }
        result
    }

    /// Whether the balancer has waited for long enough, or the client has.
    fn poll_given_up(&self, patience: &mut Patience, ending: Ending, cx: &mut Context<'_>) -> Poll<Stop> {
        if patience.poll_over(&self.sim, cx).is_ready() {
            return Poll::Ready(Stop::Failed(ending));
        }
        self.client.poll_peer_closed(cx).map(|()| Stop::ClientGone)
    }

    /// Sends a request over a connection and passes the answer on as it comes: its head, and whether the client's connection stays open.
    async fn exchange(
        &mut self,
        leg: &mut TcpStream,
        target: Target,
        asked: &Asked<'_>,
        patience: &mut Patience,
    ) -> Result<(AnswerHead, bool), Tried> {
        let early = |stop| match stop {
            Stop::Failed(ending) => Tried::Failed(ending),
            Stop::ClientGone => Tried::ClientGone,
        };
        self.send(leg, &asked.onward, patience).await.map_err(early)?;
        let mut answer = Vec::new();
        let head = loop {
            match message::read_answer(&answer, asked.request.wants_no_body) {
                // An informational answer only precedes the real one.
                Ok(Some(head)) if head.status < 200 => drop(answer.drain(..head.length)),
                Ok(Some(head)) => break head,
                Ok(None) => match self.more(leg, &mut answer, patience).await {
                    Ok(0) => return Err(Tried::Failed(Ending::Closed)),
                    Ok(_) => {}
                    Err(stop) => return Err(early(stop)),
                },
                Err(_) => return Err(Tried::Failed(Ending::Closed)),
            }
        };
        let closes = asked.closes || head.body == Body::UntilEnd;
        let mark = asked.rules.sticky.as_ref().and_then(|sticky| {
            let address = self.balancer.address_of(target, self.port);
            sticky.mark((&answer[..head.length], head.status), address, asked.claim, self.sim.now())
        });
        let mut out = message::back(&answer[..head.length], closes, mark.as_ref());
        answer.drain(..head.length);
        let mut body = head.body;
        loop {
            let (taken, is_complete) = body.take(&answer).map_err(|_| Tried::Cut(Ending::Closed))?;
            out.extend(answer.drain(..taken));
            if !out.is_empty() {
                self.client.write_all(&out).await.map_err(|_| Tried::ClientGone)?;
                out.clear();
            }
            if is_complete {
                return Ok((head, !closes));
            }
            match self.more(leg, &mut answer, patience).await {
                Ok(0) if body == Body::UntilEnd => return Ok((head, false)),
                Ok(0) => return Err(Tried::Cut(Ending::Closed)),
                Ok(_) => {}
                Err(Stop::Failed(ending)) => return Err(Tried::Cut(ending)),
                Err(Stop::ClientGone) => return Err(Tried::ClientGone),
            }
        }
    }

    /// Sends bytes to a target, waiting for room.
    async fn send(&self, leg: &mut TcpStream, mut bytes: &[u8], patience: &mut Patience) -> Result<(), Stop> {
        while !bytes.is_empty() {
            let sent = poll_fn(|cx| match Pin::new(&mut *leg).poll_write(cx, bytes) {
                Poll::Ready(sent) => Poll::Ready(sent.map_err(|_| Stop::Failed(Ending::Reset))),
                Poll::Pending => self.poll_given_up(patience, Ending::TimedOut, cx).map(Err),
            });
            bytes = &bytes[sent.await?..];
            patience.renew(&self.sim);
        }
        Ok(())
    }

    /// Reads more from a target; 0 at the end of the connection.
    async fn more(&self, leg: &mut TcpStream, answer: &mut Vec<u8>, patience: &mut Patience) -> Result<usize, Stop> {
        let read = poll_fn(|cx| match leg.poll_read_into(cx, answer) {
            Poll::Ready(read) => Poll::Ready(read.map_err(|_: io::Error| Stop::Failed(Ending::Reset))),
            Poll::Pending => self.poll_given_up(patience, Ending::TimedOut, cx).map(Err),
        });
        let length = read.await?;
        patience.renew(&self.sim);
        Ok(length)
    }
}
