//! The gateway process: workers, listeners, connections, and what a drain does to them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::Service;

use super::access::{AccessRecord, Observer};
use super::assignment::LoadAssignment;
use super::cluster::ClusterConfig;
use super::downstream::{DownstreamConfig, Peer};
use super::drain::DrainConfig;
use super::host::{Host, Work};
use super::proxy::{Audience, Passage, ResponseBody, handle};
use super::routes::Routes;
use super::shutdown::Order;
use super::upstream::Cluster;
use crate::units::{Signal, SimTime};

/// What a gateway starts with.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Where it listens: the port it binds, and the port by which its routes know it.
    pub listeners: Vec<(u16, u16)>,
    /// Its clusters.
    pub clusters: BTreeMap<Arc<str>, ClusterConfig>,
    /// What it does to requests before they are routed.
    pub downstream: DownstreamConfig,
    /// How it drains.
    pub drain: DrainConfig,
}

/// A gateway process. Clones share it.
pub struct Gateway<H> {
    shared: Rc<Shared<H>>,
}

impl<H> Clone for Gateway<H> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared) }
    }
}

/// A listening port of a process. Its connections hold it, so it lives as long as the last of them.
#[derive(Default)]
pub(super) struct Listener {
    /// The port by which routes know it.
    port: u16,
    /// It is no longer configured: it closes, and its connections are told to leave.
    removed: Signal,
    /// The routes as they were at its removal.
    kept: RefCell<Option<Rc<Routes>>>,
    /// The drain time since its removal is over.
    over: Signal,
}

/// What all workers of a process share.
pub(super) struct Shared<H> {
    pub(super) workers: Vec<H>,
    pub(super) routes: RefCell<Rc<Routes>>,
    pub(super) clusters: RefCell<BTreeMap<Arc<str>, Rc<Cluster>>>,
    pub(super) downstream: DownstreamConfig,
    drain: DrainConfig,
    drain_began_at: Cell<Option<SimTime>>,
    /// Every answer says close, whatever the strategy of a drain.
    tells_all: Cell<bool>,
    /// It quits: idle connections are closed at once.
    quits: Cell<bool>,
    /// What is still open is to be closed. Only who quits is told so.
    cut: Signal,
    listeners: RefCell<BTreeMap<(u16, u16), Rc<Listener>>>,
    listeners_close: Signal,
    connection_count: Rc<Cell<usize>>,
    observer: Rc<dyn Observer>,
}

impl<H: Host> Gateway<H> {
    /// Starts a process with these workers. It accepts at once.
    ///
    /// # Errors
    ///
    /// If a port cannot be bound.
    pub fn start(
        workers: Vec<H>,
        config: GatewayConfig,
        routes: Rc<Routes>,
        observer: Rc<dyn Observer>,
    ) -> io::Result<Self> {
        let shared = Rc::new(Shared {
            routes: RefCell::new(routes),
            clusters: RefCell::default(),
            downstream: config.downstream,
            drain: config.drain,
            drain_began_at: Cell::new(None),
            tells_all: Cell::new(false),
            quits: Cell::new(false),
            cut: Signal::default(),
            listeners: RefCell::default(),
            listeners_close: Signal::default(),
            connection_count: Rc::default(),
            observer,
            workers,
        });
        let gateway = Self { shared };
        for (name, settings) in &config.clusters {
            gateway.set_cluster(name, *settings);
        }
        gateway.set_listeners(&config.listeners)?;
        Ok(gateway)
    }

    /// Replaces all routes; requests under way keep theirs.
    pub fn set_routes(&self, routes: Rc<Routes>) {
        *self.shared.routes.borrow_mut() = routes;
    }

    /// Makes these the listeners, as in [`GatewayConfig::listeners`]. One that is removed takes what the system has accepted for it, then closes;
    /// its connections keep the present routes, are told to leave by their next answer, and after the drain time those that are idle are closed.
    ///
    /// Source: envoy docs/root/intro/arch_overview/operations/draining.rst (removal of a listener).
    ///
    /// # Errors
    ///
    /// If a port cannot be bound. Those that could be are listened on, and none is removed.
    pub fn set_listeners(&self, wanted: &[(u16, u16)]) -> io::Result<()> {
        let shared = &self.shared;
        for (bound, port) in wanted {
            if shared.listeners.borrow().contains_key(&(*bound, *port)) {
                continue;
            }
            let listener = Rc::new(Listener { port: *port, ..Listener::default() });
            for (index, worker) in shared.workers.iter().enumerate() {
                let socket = worker.listen(*bound)?;
                let (shared, listener) = (Rc::clone(shared), Rc::clone(&listener));
                worker.spawn("gateway-accept", async move { accept(shared, index, socket, listener).await });
            }
            shared.listeners.borrow_mut().insert((*bound, *port), listener);
        }
        let removed: Vec<Rc<Listener>> =
            shared.listeners.borrow_mut().extract_if(.., |key, _| !wanted.contains(key)).map(|(_, of)| of).collect();
        for listener in removed {
            *listener.kept.borrow_mut() = Some(Rc::clone(&shared.routes.borrow()));
            listener.removed.raise();
            let worker = &shared.workers[0];
            let over = worker.sleep_until(worker.now().after(shared.drain.drain_time));
            worker.spawn("gateway-listener-drain", async move {
                over.await;
                listener.over.raise();
            });
        }
        Ok(())
    }

    /// How many clusters it has.
    #[must_use]
    pub fn cluster_count(&self) -> usize {
        self.shared.clusters.borrow().len()
    }

    /// Makes these the settings of a cluster, which is made if there is none of this name. Where they differ from those before, connections and
    /// counts begin anew.
    pub fn set_cluster(&self, name: &Arc<str>, config: ClusterConfig) {
        let known = self.shared.cluster(name);
        match known {
            Some(known) => known.set_config(config, self.worker()),
            None => {
                let (workers, observer) = (self.shared.workers.len(), Rc::clone(&self.shared.observer));
                let made = Cluster::new(Arc::clone(name), config, workers, observer, self.worker());
                self.shared.clusters.borrow_mut().insert(Arc::clone(name), Rc::new(made));
            }
        }
    }

    /// Removes all clusters but these. Requests under way keep theirs.
    pub fn retain_clusters(&self, is_kept: impl Fn(&str) -> bool) {
        self.shared.clusters.borrow_mut().retain(|name, _| is_kept(name));
    }

    /// Makes these the endpoints of a cluster. Those that stay keep their connections, counts and ejections. A cluster that is not known has none.
    pub fn set_endpoints(&self, cluster: &str, assignment: &LoadAssignment) {
        if let Some(cluster) = self.shared.cluster(cluster) {
            cluster.set_endpoints(assignment, self.worker());
        }
    }

    /// Carries out an order of whoever runs the process. Giving one again does nothing.
    pub fn obey(&self, order: Order) {
        let shared = &self.shared;
        match order {
            Order::Drain { closes_listeners } => self.begin_drain(closes_listeners),
            Order::TellToLeave => shared.tells_all.set(true),
            Order::CloseListeners => shared.listeners_close.raise(),
            Order::Quit => {
                shared.tells_all.set(true);
                shared.quits.set(true);
                shared.listeners_close.raise();
                for listener in shared.listeners.borrow().values() {
                    listener.over.raise();
                }
            }
            Order::Cut => shared.cut.raise(),
        }
    }

    /// Begins to drain, as `POST /drain_listeners?graceful` does.
    pub fn drain(&self) {
        self.obey(Order::Drain { closes_listeners: true });
    }

    /// A drain that is under way stays as it is. Source: envoy source/server/admin/listeners_handler.cc.
    fn begin_drain(&self, closes_listeners: bool) {
        let shared = &self.shared;
        let worker = &shared.workers[0];
        if shared.drain_began_at.get().is_some() {
            return;
        }
        shared.drain_began_at.set(Some(worker.now()));
        if !closes_listeners {
            return;
        }
        let closes = shared.listeners_close.clone();
        let over = worker.sleep_until(worker.now().after(shared.drain.drain_time));
        worker.spawn("gateway-drain", async move {
            over.await;
            closes.raise();
        });
    }

    /// Ends when the listeners have closed: the drain time was over, or it was told so.
    pub fn listeners_closed(&self) -> impl Future<Output = ()> + 'static {
        self.shared.listeners_close.raised()
    }

    /// Open downstream connections.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.shared.connection_count.get()
    }

    /// The count itself, for whoever must not hold on to the gateway.
    #[must_use]
    pub fn connection_counter(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.shared.connection_count)
    }

    /// The first worker, for tasks of the process as a whole.
    pub(super) fn worker(&self) -> &H {
        &self.shared.workers[0]
    }
}

impl<H: Host> Shared<H> {
    /// Whether records should hold the headers that only a log prints.
    pub(super) fn wants_headers(&self) -> bool {
        self.observer.wants_headers()
    }

    /// A cluster by its name.
    pub(super) fn cluster(&self, name: &str) -> Option<Rc<Cluster>> {
        self.clusters.borrow().get(name).cloned()
    }

    /// Whether a response sent now on this connection tells its client to leave.
    pub(super) fn says_close(&self, worker: usize, connection: &ConnectionState) -> bool {
        let host = &self.workers[worker];
        let began_at = self.drain_began_at.get();
        self.tells_all.get()
            || connection.listener.removed.is_raised()
            || began_at.is_some_and(|began_at| self.drain.says_close(began_at, host.now(), || host.random()))
    }

    /// The routes that hold for the requests of a connection.
    pub(super) fn routes_of(&self, connection: &ConnectionState) -> Rc<Routes> {
        let kept = connection.listener.kept.borrow();
        kept.as_ref().map_or_else(|| Rc::clone(&self.routes.borrow()), Rc::clone)
    }
}

impl<H: Host> Audience for Shared<H> {
    fn now(&self) -> SimTime {
        self.workers[0].now()
    }

    fn tell(&self, record: &AccessRecord) {
        self.observer.finished(record);
    }
}

/// A port that is removed takes at most so many clients more: no more can have waited at it. Source: Linux `net.core.somaxconn`.
const LAST_CLIENTS_MAX: u32 = 4096;

async fn accept<H: Host>(shared: Rc<Shared<H>>, worker: usize, socket: H::Listener, listener: Rc<Listener>) {
    let host = shared.workers[worker].clone();
    let mut closing = pin!(shared.listeners_close.raised());
    let mut removed = pin!(listener.removed.raised());
    let mut last_left = LAST_CLIENTS_MAX;
    loop {
        if listener.removed.is_raised() {
            if last_left == 0 {
                return;
            }
            last_left -= 1;
        }
        let accepted = {
            let mut next = pin!(host.accept(&socket));
            poll_fn(|cx| {
                if closing.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                // A port that is removed closes when no client waits at it: none of them is to be lost to a change of configuration.
                match next.as_mut().poll(cx) {
                    Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
                    Poll::Pending => removed.as_mut().poll(cx).map(|()| None),
                }
            })
            .await
        };
        match accepted {
            None => return,
            // The client is gone again, or the process is out of descriptors: the next one may do better.
            Some(Err(_)) => {}
            Some(Ok((stream, client))) => {
                let (shared, listener) = (Rc::clone(&shared), Rc::clone(&listener));
                host.spawn("gateway-connection", async move {
                    let open = OpenConnection::new(Rc::clone(&shared));
                    shared.workers[worker].charge(Work::Connection).await;
                    serve(shared, worker, stream, client, listener).await;
                    drop(open);
                });
            }
        }
    }
}

/// Counts a downstream connection for as long as it lives.
struct OpenConnection<H> {
    shared: Rc<Shared<H>>,
}

impl<H> OpenConnection<H> {
    fn new(shared: Rc<Shared<H>>) -> Self {
        shared.connection_count.set(shared.connection_count.get() + 1);
        Self { shared }
    }
}

impl<H> Drop for OpenConnection<H> {
    fn drop(&mut self) {
        self.shared.connection_count.set(self.shared.connection_count.get() - 1);
    }
}

/// What the requests of one downstream connection share.
pub(super) struct ConnectionState {
    listener: Rc<Listener>,
    pub(super) client: SocketAddr,
    /// The client, as headers tell of it.
    pub(super) peer: Peer,
    /// The gateway's end, where the host knows it.
    pub(super) local: Option<SocketAddr>,
    pub(super) client_said_close: Cell<bool>,
    open_count: Cell<usize>,
    /// It has brought a request.
    has_asked: Cell<bool>,
    /// When the first answer said close because of a drain.
    told_at: Cell<Option<SimTime>>,
    last_answer_told: Cell<bool>,
}

impl ConnectionState {
    /// The port by which routes know where it came in.
    pub(super) fn port(&self) -> u16 {
        self.listener.port
    }

    pub(super) fn open(self: &Rc<Self>) -> OpenRequest {
        self.open_count.set(self.open_count.get() + 1);
        self.has_asked.set(true);
        self.last_answer_told.set(false);
        OpenRequest(Rc::clone(self))
    }

    /// The answer now being made says close, because of a drain.
    pub(super) fn tell_to_leave(&self, now: SimTime) {
        self.told_at.set(self.told_at.get().or(Some(now)));
        self.last_answer_told.set(true);
    }

    pub(super) fn was_told_to_leave_by_last_answer(&self) -> bool {
        self.last_answer_told.get()
    }
}

/// Marks a request as open, from its head to the end of its answer.
pub(super) struct OpenRequest(Rc<ConnectionState>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open_count.set(self.0.open_count.get() - 1);
    }
}

/// Why a connection is served no longer.
enum Ending {
    /// hyper is done with it.
    Served(hyper::Result<()>),
    /// It is idle, and its time is up.
    TimeUp,
    /// It is cut, whatever it does.
    Cut,
}

/// Serves a downstream connection to its end.
///
/// hyper ends a connection after an answer that says close. Envoy does not: a client that stays is served until the drain
/// timeout, so the bytes are taken back from hyper and served anew.
async fn serve<H: Host>(
    shared: Rc<Shared<H>>,
    worker: usize,
    stream: H::Stream,
    client: SocketAddr,
    listener: Rc<Listener>,
) {
    let local = shared.workers[worker].local_address(&stream);
    let own_ip = local.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |local| local.ip());
    let peer = Peer::new(Some(client.ip()), SocketAddr::new(own_ip, listener.port), false);
    let mut listener_over = pin!(listener.over.raised());
    let mut cut = pin!(shared.cut.raised());
    let state = Rc::new(ConnectionState {
        listener,
        client,
        peer,
        local,
        client_said_close: Cell::new(false),
        open_count: Cell::new(0),
        has_asked: Cell::new(false),
        told_at: Cell::new(None),
        last_answer_told: Cell::new(false),
    });
    let mut server = http1::Builder::new();
    server.auto_date_header(false).header_read_timeout(None);
    let mut stream = Rewound { head: Bytes::new(), rest: stream };
    loop {
        let requests = Requests { shared: Rc::clone(&shared), worker, state: Rc::clone(&state) };
        let mut connection = server.serve_connection(stream, requests);
        let deadline = state.told_at.get().map(|told_at| told_at.after(shared.drain.drain_timeout));
        let end = {
            let host = &shared.workers[worker];
            let mut limit = pin!(deadline.map(|deadline| host.sleep_until(deadline)));
            poll_fn(|cx| {
                if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
                    return Poll::Ready(Ending::Served(result));
                }
                let is_over = limit.as_mut().as_pin_mut().is_some_and(|limit| limit.poll(cx).is_ready())
                    || listener_over.as_mut().poll(cx).is_ready();
                if !is_over {
                    return Poll::Pending;
                }
                // Who quits waits for the first request of a new connection.
                let is_awaited = shared.quits.get() && !state.has_asked.get();
                // A request under way is still answered; hyper ends the connection after it.
                if state.open_count.get() == 0 && !is_awaited {
                    return Poll::Ready(Ending::TimeUp);
                }
                cut.as_mut().poll(cx).map(|()| Ending::Cut)
            })
            .await
        };
        let parts = connection.into_parts();
        let host = &shared.workers[worker];
        let is_time_up = |told_at: SimTime| host.now() >= told_at.after(shared.drain.drain_timeout);
        match end {
            Ending::Cut | Ending::Served(Err(_)) => return,
            Ending::Served(Ok(())) if state.client_said_close.get() || !state.last_answer_told.get() => return,
            Ending::Served(Ok(())) | Ending::TimeUp if shared.quits.get() => return,
            Ending::Served(Ok(())) if !state.told_at.get().is_some_and(is_time_up) => {
                state.last_answer_told.set(false);
                let head =
                    if parts.io.head.is_empty() { parts.read_buf } else { joined(&parts.read_buf, &parts.io.head) };
                stream = Rewound { head, rest: parts.io.rest };
            }
            // The drain timeout is over: what still comes is swallowed, then the connection closes.
            Ending::Served(Ok(())) | Ending::TimeUp => {
                host.sleep_until(host.now().after(shared.drain.delayed_close)).await;
                drop(parts);
                return;
            }
        }
    }
}

fn joined(first: &Bytes, second: &Bytes) -> Bytes {
    [first.as_ref(), second.as_ref()].concat().into()
}

/// The requests of one connection, as hyper hands them over.
struct Requests<H> {
    shared: Rc<Shared<H>>,
    worker: usize,
    state: Rc<ConnectionState>,
}

impl<H: Host> Service<Request<Incoming>> for Requests<H> {
    type Response = Response<ResponseBody>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(handle(Rc::clone(&self.shared), self.worker, Rc::clone(&self.state), Passage::new(request)))
    }
}

/// A stream with bytes that were read from it before.
struct Rewound<S> {
    head: Bytes,
    rest: S,
}

impl<S: Read + Unpin> Read for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.rest).poll_read(cx, buf);
        }
        let length = self.head.len().min(buf.remaining());
        buf.put_slice(&self.head[..length]);
        self.head.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: Write + Unpin> Write for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.rest.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write_vectored(cx, parts)
    }
}
