//! The connections of one worker to one endpoint.
//!
//! A request takes the connection used most recently; without a free one it waits, first come first served, unless too many wait already.
//! A connect is started unless one is under way for every request that waits, or the cluster has its share of connections; an endpoint
//! without any may always have one. A failure to connect fails all that wait. A request is active, and counts against the limit of
//! requests, from when it has its connection.
//!
//! A connection is closed when it has had its share of requests, or none for the idle time-out. One timer for each pool watches
//! that: it sleeps until the connection idle for longest would be due, and looks again.
//!
//! Source: envoy source/common/conn_pool/conn_pool_base.cc, source/common/http/http1/conn_pool.cc.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};

use super::bell::{Bell, Belled};
use super::{Endpoint, Terms, within};
use crate::gateway::host::Host;
use crate::gateway::proxy::RequestBody;
use crate::units::SimTime;

/// Connects that one event may start.
const CONNECTS_AT_ONCE: usize = 3;

/// The connections of one worker to one endpoint.
#[derive(Default)]
pub(super) struct Pool {
    /// The one used most recently is last.
    idle: RefCell<Vec<Sender>>,
    pending: RefCell<VecDeque<Rc<Slot>>>,
    connecting_count: Cell<usize>,
    /// Connections, those being made included.
    connection_count: Cell<usize>,
    is_retired: Cell<bool>,
    is_watched: Cell<bool>,
    number_next: Cell<u64>,
}

/// The request side of an upstream connection.
struct Sender {
    number: u64,
    /// The gateway's end of it, where the host knows it.
    local: Option<SocketAddr>,
    requests: SendRequest<RequestBody>,
    bell: Bell,
    request_count: u32,
    idle_since: SimTime,
}

/// A connection lent to one request, which is active until then; dropping it without giving it back closes the connection.
pub(in crate::gateway) struct Lent {
    sender: Option<Sender>,
    pool: Rc<Pool>,
    endpoint: Rc<Endpoint>,
}

/// Why there is no connection for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::gateway) enum PoolFailure {
    /// It could not be made.
    Refused,
    /// It took too long.
    TimedOut,
    /// A circuit breaker is open.
    Overflow,
}

/// Where a waiting request is given its connection.
#[derive(Default)]
struct Slot {
    result: RefCell<Option<Result<Lent, PoolFailure>>>,
    waker: RefCell<Option<Waker>>,
}

impl Slot {
    fn fill(&self, result: Result<Lent, PoolFailure>) {
        *self.result.borrow_mut() = Some(result);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A place in the queue; leaving it early passes on what it was given.
struct Waiting<'a> {
    pool: &'a Pool,
    terms: &'a Terms,
    slot: Rc<Slot>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut pending = self.pool.pending.borrow_mut();
        if let Some(index) = pending.iter().position(|slot| Rc::ptr_eq(slot, &self.slot)) {
            pending.remove(index);
            self.terms.resources.pending_requests.release();
        }
        drop(pending);
        if let Some(Ok(lent)) = self.slot.result.take() {
            lent.give_back();
        }
    }
}

/// Counts a connection for as long as it lives.
struct Connection {
    pool: Rc<Pool>,
    terms: Rc<Terms>,
}

impl Connection {
    fn new(pool: &Rc<Pool>, terms: &Rc<Terms>) -> Self {
        pool.connection_count.set(pool.connection_count.get() + 1);
        terms.resources.connections.acquire();
        Self { pool: Rc::clone(pool), terms: Rc::clone(terms) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.pool.connection_count.set(self.pool.connection_count.get() - 1);
        self.terms.resources.connections.release();
    }
}

impl Pool {
    /// Without connections; those of one that `is_retired` are closed after their use.
    pub(super) fn new(is_retired: bool) -> Self {
        Self { is_retired: Cell::new(is_retired), ..Self::default() }
    }

    /// A connection that can take a request.
    pub(super) async fn lend<H: Host>(self: &Rc<Self>, host: &H, endpoint: &Rc<Endpoint>) -> Result<Lent, PoolFailure> {
        loop {
            let has_idle = !self.idle.borrow().is_empty();
            let mut lent = if has_idle { self.lend_idle(endpoint)? } else { self.wait(host, endpoint).await? };
            // The connection may still be busy with the end of the last answer, or have been closed since.
            if poll_fn(|cx| lent.requests().poll_ready(cx)).await.is_ok() {
                return Ok(lent);
            }
        }
    }

    /// The connection used most recently; there must be an idle one.
    fn lend_idle(self: &Rc<Self>, endpoint: &Rc<Endpoint>) -> Result<Lent, PoolFailure> {
        let sender = self.idle.borrow_mut().pop().expect("an idle connection");
        self.attach(sender, endpoint)
    }

    /// Gives a connection a request, unless the cluster has its share of them.
    fn attach(self: &Rc<Self>, mut sender: Sender, endpoint: &Rc<Endpoint>) -> Result<Lent, PoolFailure> {
        let requests = &endpoint.terms.resources.requests;
        if !requests.has_room() {
            self.idle.borrow_mut().push(sender);
            return Err(PoolFailure::Overflow);
        }
        requests.acquire();
        endpoint.active.set(endpoint.active.get() + 1);
        sender.request_count += 1;
        Ok(Lent { sender: Some(sender), pool: Rc::clone(self), endpoint: Rc::clone(endpoint) })
    }

    async fn wait<H: Host>(self: &Rc<Self>, host: &H, endpoint: &Rc<Endpoint>) -> Result<Lent, PoolFailure> {
        let terms = &endpoint.terms;
        if !terms.resources.pending_requests.has_room() {
            return Err(PoolFailure::Overflow);
        }
        let slot = Rc::new(Slot::default());
        terms.resources.pending_requests.acquire();
        self.pending.borrow_mut().push_back(Rc::clone(&slot));
        let waiting = Waiting { pool: self, terms, slot };
        self.connect_as_needed(host, endpoint);
        poll_fn(|cx| match waiting.slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                *waiting.slot.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Starts as many connects as requests wait without one, within limits.
    fn connect_as_needed<H: Host>(self: &Rc<Self>, host: &H, endpoint: &Rc<Endpoint>) {
        for _ in 0..CONNECTS_AT_ONCE {
            let is_needed = self.pending.borrow().len() > self.connecting_count.get();
            let may_connect = endpoint.terms.resources.connections.has_room() || self.connection_count.get() == 0;
            if !is_needed || !may_connect {
                return;
            }
            self.connecting_count.set(self.connecting_count.get() + 1);
            let connection = Connection::new(self, &endpoint.terms);
            let (pool, dialler, endpoint) = (Rc::clone(self), host.clone(), Rc::clone(endpoint));
            host.spawn("upstream-connect", async move { pool.connect(dialler, endpoint, connection).await });
        }
    }

    async fn connect<H: Host>(self: Rc<Self>, host: H, endpoint: Rc<Endpoint>, connection: Connection) {
        let config = &endpoint.terms.config;
        let dialled = within(&host, config.connect_timeout, pin!(host.dial(endpoint.address))).await;
        self.connecting_count.set(self.connecting_count.get() - 1);
        let established = match dialled {
            None => Err(PoolFailure::TimedOut),
            Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(PoolFailure::TimedOut),
            Some(Err(_)) => Err(PoolFailure::Refused),
            Some(Ok(stream)) => {
                let local = host.local_address(&stream);
                let shaken = http1::handshake(stream).await.map_err(|_| PoolFailure::Refused);
                shaken.map(|(requests, io)| (requests, io, local))
            }
        };
        match established {
            Ok((requests, io, local)) => {
                let number = self.number_next.replace(self.number_next.get() + 1);
                let bell = Bell::default();
                let io = Belled::new(io, bell.clone());
                let sender = Sender { number, local, requests, bell, request_count: 0, idle_since: host.now() };
                let (pool, worker, at) = (Rc::downgrade(&self), host.clone(), Rc::downgrade(&endpoint));
                host.spawn("upstream-connection", async move {
                    // How it ends, each request on it learns for itself.
                    let _ = io.await;
                    drop(connection);
                    if let (Some(pool), Some(endpoint)) = (pool.upgrade(), at.upgrade()) {
                        pool.idle.borrow_mut().retain(|sender| sender.number != number);
                        pool.connect_as_needed(&worker, &endpoint);
                    }
                });
                if let Some(timeout) = config.idle_timeout
                    && !self.is_watched.replace(true)
                {
                    let (pool, worker) = (Rc::downgrade(&self), host.clone());
                    host.spawn("upstream-idle", async move { watch(pool, worker, timeout).await });
                }
                self.give(sender, &endpoint);
            }
            Err(failure) => {
                drop(connection);
                let purged = self.pending.take();
                for slot in purged {
                    endpoint.terms.resources.pending_requests.release();
                    slot.fill(Err(failure));
                }
            }
        }
    }

    /// Gives a free connection to the request that has waited longest, or keeps it.
    fn give(self: &Rc<Self>, sender: Sender, endpoint: &Rc<Endpoint>) {
        let most = endpoint.terms.config.max_requests_per_connection;
        if sender.requests.is_closed() || most.is_some_and(|most| sender.request_count >= most) {
            return;
        }
        self.idle.borrow_mut().push(Sender { idle_since: (endpoint.terms.now)(), ..sender });
        loop {
            let next = self.pending.borrow_mut().pop_front();
            let Some(slot) = next else { break };
            endpoint.terms.resources.pending_requests.release();
            let free = self.idle.borrow_mut().pop().expect("a connection that was free a moment ago");
            let attached = self.attach(free, endpoint);
            let is_given = attached.is_ok();
            slot.fill(attached);
            if is_given {
                return;
            }
        }
        if self.is_retired.get() {
            let idle = self.idle.take();
            drop(idle);
        }
    }

    /// Closes the connections that are idle, and others once they are.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
        let idle = self.idle.take();
        drop(idle);
    }

    /// Closes what has been idle for the time-out; tells when the next one may be due.
    fn close_idle(&self, now: SimTime, timeout: Duration) -> SimTime {
        let mut idle = self.idle.borrow_mut();
        let due = idle.partition_point(|sender| sender.idle_since.after(timeout) <= now);
        let closed: Vec<Sender> = idle.drain(..due).collect();
        let oldest = idle.first().map_or(now, |sender| sender.idle_since);
        drop(idle);
        drop(closed);
        oldest.after(timeout)
    }
}

/// Closes idle connections when their time is over, for as long as the pool has connections.
async fn watch<H: Host>(pool: Weak<Pool>, host: H, timeout: Duration) {
    let mut next = host.now().after(timeout);
    loop {
        host.sleep_until(next).await;
        let Some(pool) = pool.upgrade() else { return };
        next = pool.close_idle(host.now(), timeout);
        if pool.connection_count.get() == 0 {
            pool.is_watched.set(false);
            return;
        }
    }
}

impl Lent {
    pub(in crate::gateway) fn requests(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.sender.as_mut().expect("a lent connection is there until it is given back").requests
    }

    /// The gateway's end of the connection.
    pub(in crate::gateway) fn local(&self) -> Option<SocketAddr> {
        self.sender.as_ref().and_then(|sender| sender.local)
    }

    /// A piece of the answer is about to be taken from the connection.
    pub(in crate::gateway) fn begin_taking(&self) {
        if let Some(sender) = &self.sender {
            sender.bell.muffle();
        }
    }

    /// A piece was taken, or there was none. A connection that has brought its last and is ready for the next request has nothing to do.
    pub(in crate::gateway) fn end_taking(&self, is_last: bool) {
        if let Some(sender) = &self.sender {
            sender.bell.release(!is_last || !sender.requests.is_ready());
        }
    }

    /// The answer is complete: the connection is free for the next request.
    pub(in crate::gateway) fn give_back(mut self) {
        let sender = self.sender.take();
        let (pool, endpoint) = (Rc::clone(&self.pool), Rc::clone(&self.endpoint));
        // Its request is over before the connection gets another.
        drop(self);
        if let Some(sender) = sender {
            pool.give(sender, &endpoint);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.endpoint.active.set(self.endpoint.active.get() - 1);
        self.endpoint.terms.resources.requests.release();
    }
}
