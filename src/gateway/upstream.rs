//! Endpoints and the connections to them.
//!
//! Each worker has a pool of its own for each endpoint. A request takes the connection used most recently; without a free one it
//! waits, first come first served, and a connect is started unless one is already under way for every waiting request. A
//! failure to connect fails all that wait for that endpoint. An endpoint that is taken away closes its idle connections;
//! busy ones finish first.
//!
//! Source: envoy source/common/conn_pool/conn_pool_base.cc, source/common/http/http1/conn_pool.cc.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};

use super::balance::{BalanceConfig, BalancedHost, HostSets, PickRequest, Picker, Policy};
use super::host::{Host, random_below};
use super::proxy::RequestBody;
use super::retry::REPICKS_MAX;
use crate::units::SimTime;

/// A cluster: endpoints and how to choose one.
pub(super) struct Cluster {
    policy: Policy,
    connect_timeout: Duration,
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    sets: RefCell<HostSets>,
    /// One for each worker.
    pickers: Vec<RefCell<Picker>>,
}

/// An endpoint as this process sees it.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    active: Cell<u32>,
    /// One for each worker.
    pools: Vec<Rc<Pool>>,
}

impl Cluster {
    pub(super) fn new(policy: Policy, connect_timeout: Duration, workers: usize) -> Self {
        let pickers = (0..workers).map(|_| RefCell::default()).collect();
        let sets = RefCell::new(HostSets::new(BalanceConfig::new(policy), 50, Vec::new()));
        Self { policy, connect_timeout, endpoints: RefCell::default(), sets, pickers }
    }

    /// Makes these the endpoints. Those that stay keep their connections and counts.
    pub(super) fn set_endpoints(&self, addresses: &[SocketAddr]) {
        let workers = self.pickers.len();
        let former = self.endpoints.take();
        let known: BTreeMap<SocketAddr, Rc<Endpoint>> =
            former.into_iter().map(|endpoint| (endpoint.address, endpoint)).collect();
        let next = addresses
            .iter()
            .map(|address| known.get(address).cloned().unwrap_or_else(|| Rc::new(Endpoint::new(*address, workers))));
        let next: Vec<Rc<Endpoint>> = next.collect();
        for (address, endpoint) in &known {
            if !addresses.contains(address) {
                endpoint.retire();
            }
        }
        let host = |endpoint: &Rc<Endpoint>| BalancedHost {
            weight: 1,
            priority: 0,
            is_healthy: true,
            hash_key: endpoint.address.to_string().into(),
            slow_start_since: None,
        };
        let sets = HostSets::new(BalanceConfig::new(self.policy), 50, next.iter().map(host).collect());
        for picker in &self.pickers {
            picker.borrow_mut().refresh(&sets, SimTime::ZERO, |_| 0, |_| 0);
        }
        *self.sets.borrow_mut() = sets;
        *self.endpoints.borrow_mut() = next;
    }

    /// An endpoint for the next try, if possible not one of `tried`.
    pub(super) fn pick<H: Host>(&self, worker: usize, host: &H, tried: &[SocketAddr]) -> Option<Rc<Endpoint>> {
        let endpoints = self.endpoints.borrow();
        let request = PickRequest { repicks: if tried.is_empty() { 0 } else { REPICKS_MAX }, ..PickRequest::default() };
        let chosen = self.pickers[worker].borrow_mut().pick(
            &self.sets.borrow(),
            &request,
            |index| tried.contains(&endpoints[index].address),
            |index| endpoints[index].active.get(),
            host.now(),
            |bound| random_below(host.random(), bound),
        );
        chosen.map(|index| Rc::clone(&endpoints[index]))
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    /// Its endpoints.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.endpoints.borrow().iter().map(|endpoint| endpoint.address).collect()
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}

impl Endpoint {
    fn new(address: SocketAddr, workers: usize) -> Self {
        Self { address, active: Cell::new(0), pools: (0..workers).map(|_| Rc::default()).collect() }
    }

    fn retire(&self) {
        for pool in &self.pools {
            pool.is_retired.set(true);
            let idle = pool.idle.take();
            drop(idle);
        }
    }

    pub(super) fn pool(&self, worker: usize) -> &Rc<Pool> {
        &self.pools[worker]
    }
}

/// Counts a request as active on an endpoint for as long as it lives.
pub(super) struct Active(Rc<Endpoint>);

impl Active {
    pub(super) fn new(endpoint: Rc<Endpoint>) -> Self {
        endpoint.active.set(endpoint.active.get() + 1);
        Self(endpoint)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
    }
}

/// The connections of one worker to one endpoint.
#[derive(Default)]
pub(super) struct Pool {
    /// The one used most recently is last.
    idle: RefCell<Vec<Sender>>,
    pending: RefCell<VecDeque<Rc<Slot>>>,
    connecting_count: Cell<usize>,
    is_retired: Cell<bool>,
    number_next: Cell<u64>,
}

/// The request side of an upstream connection.
struct Sender {
    number: u64,
    /// The gateway's end of it, where the host knows it.
    local: Option<SocketAddr>,
    requests: SendRequest<RequestBody>,
}

/// A connection lent to one request; dropping it without giving it back closes it.
pub(super) struct Lent {
    sender: Option<Sender>,
    pool: Weak<Pool>,
}

/// Why no connection came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ConnectFailure {
    Refused,
    TimedOut,
}

/// Where a waiting request is given its connection.
#[derive(Default)]
struct Slot {
    result: RefCell<Option<Result<Sender, ConnectFailure>>>,
    waker: RefCell<Option<Waker>>,
}

impl Slot {
    fn fill(&self, result: Result<Sender, ConnectFailure>) {
        *self.result.borrow_mut() = Some(result);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A place in the queue; leaving it early passes on what it was given.
struct Waiting<'a> {
    pool: &'a Rc<Pool>,
    slot: Rc<Slot>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pool.pending.borrow_mut().retain(|slot| !Rc::ptr_eq(slot, &self.slot));
        if let Some(Ok(sender)) = self.slot.result.take() {
            self.pool.give(sender);
        }
    }
}

impl Pool {
    /// A connection that can take a request.
    pub(super) async fn lend<H: Host>(
        self: &Rc<Self>,
        host: &H,
        to: SocketAddr,
        connect_timeout: Duration,
    ) -> Result<Lent, ConnectFailure> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            let mut sender = match idle {
                Some(sender) => sender,
                None => self.wait(host, to, connect_timeout).await?,
            };
            // The connection may still be busy with the end of the last answer, or have been closed since.
            if poll_fn(|cx| sender.requests.poll_ready(cx)).await.is_ok() {
                return Ok(Lent { sender: Some(sender), pool: Rc::downgrade(self) });
            }
        }
    }

    async fn wait<H: Host>(
        self: &Rc<Self>,
        host: &H,
        to: SocketAddr,
        connect_timeout: Duration,
    ) -> Result<Sender, ConnectFailure> {
        let slot = Rc::new(Slot::default());
        self.pending.borrow_mut().push_back(Rc::clone(&slot));
        let waiting = Waiting { pool: self, slot };
        if self.pending.borrow().len() > self.connecting_count.get() {
            self.connecting_count.set(self.connecting_count.get() + 1);
            let (pool, dialler) = (Rc::clone(self), host.clone());
            host.spawn("upstream-connect", async move { pool.connect(dialler, to, connect_timeout).await });
        }
        poll_fn(|cx| match waiting.slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                *waiting.slot.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    async fn connect<H: Host>(self: Rc<Self>, host: H, to: SocketAddr, timeout: Duration) {
        let dialled = within(&host, timeout, pin!(host.dial(to))).await;
        self.connecting_count.set(self.connecting_count.get() - 1);
        let established = match dialled {
            None => Err(ConnectFailure::TimedOut),
            Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(ConnectFailure::TimedOut),
            Some(Err(_)) => Err(ConnectFailure::Refused),
            Some(Ok(stream)) => {
                let local = host.local_address(&stream);
                let shaken = http1::handshake(stream).await.map_err(|_| ConnectFailure::Refused);
                shaken.map(|(requests, connection)| (requests, connection, local))
            }
        };
        match established {
            Ok((requests, connection, local)) => {
                let number = self.number_next.replace(self.number_next.get() + 1);
                let pool = Rc::downgrade(&self);
                host.spawn("upstream-connection", async move {
                    // How it ends, each request on it learns for itself.
                    let _ = connection.await;
                    if let Some(pool) = pool.upgrade() {
                        pool.idle.borrow_mut().retain(|sender| sender.number != number);
                    }
                });
                self.give(Sender { number, local, requests });
            }
            Err(failure) => {
                let purged = self.pending.take();
                for slot in purged {
                    slot.fill(Err(failure));
                }
            }
        }
    }

    /// Gives a free connection to the request that has waited longest, or keeps it.
    fn give(&self, sender: Sender) {
        if sender.requests.is_closed() {
            return;
        }
        let next = self.pending.borrow_mut().pop_front();
        match next {
            Some(slot) => slot.fill(Ok(sender)),
            None if self.is_retired.get() => drop(sender),
            None => self.idle.borrow_mut().push(sender),
        }
    }
}

impl Lent {
    pub(super) fn requests(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.sender.as_mut().expect("a lent connection is there until it is given back").requests
    }

    /// The gateway's end of the connection.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.sender.as_ref().and_then(|sender| sender.local)
    }

    /// The answer is complete: the connection is free for the next request.
    pub(super) fn give_back(mut self) {
        if let (Some(sender), Some(pool)) = (self.sender.take(), self.pool.upgrade()) {
            pool.give(sender);
        }
    }
}

/// The output of `future`, unless `timeout` passes first. It takes the future by reference: one taken by value would be held twice in
/// the caller's state, and copied.
pub(super) async fn within<H: Host, F: Future>(
    host: &H,
    timeout: Duration,
    mut future: Pin<&mut F>,
) -> Option<F::Output> {
    let mut limit = pin!(host.sleep_until(host.now().after(timeout)));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => limit.as_mut().poll(cx).map(|()| None),
    })
    .await
}
