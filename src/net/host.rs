//! Hosts: listening, accepting, connecting, vanishing.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use super::stream::{Connection, Path, Side, TcpStream};
use super::{ConnectionId, Forward, LinkConfig, Net, SYN_GIVE_UP, SYN_RETRIES, Syn, Trace, Verdict};
use crate::engine::{EventId, Stream, TimerKey, Wakeup};
use crate::units::SimTime;

/// The first of the ports that clients dial from. Source: Linux `ip_local_port_range`.
const EPHEMERAL_FIRST: u16 = 32_768;

/// Why a connection did not come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectErrorKind {
    /// RST came back.
    Refused,
    /// Nothing came back.
    TimedOut,
    /// The connection was reset while it waited to be accepted.
    Reset,
}

/// A connection that did not come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectError {
    /// How it failed.
    pub kind: ConnectErrorKind,
    /// The connection that was to be.
    pub id: ConnectionId,
    /// Where a balancer had passed the last SYN on to, the hop that stopped it, or the address dialled; none if a balancer had nobody.
    pub target: Option<SocketAddrV4>,
    /// The event that left a balancer nobody to pass it on to.
    pub why: Option<EventId>,
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            ConnectErrorKind::Refused => "connection refused",
            ConnectErrorKind::TimedOut => "connection timed out",
            ConnectErrorKind::Reset => "connection reset",
        })
    }
}

impl std::error::Error for ConnectError {}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match error.kind {
            ConnectErrorKind::Refused => io::ErrorKind::ConnectionRefused,
            ConnectErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ConnectErrorKind::Reset => io::ErrorKind::ConnectionReset,
        };
        Self::new(kind, error)
    }
}

pub(crate) struct HostState {
    ip: Ipv4Addr,
    link: LinkConfig,
    is_gone: Cell<bool>,
    listeners: RefCell<BTreeMap<u16, Vec<Rc<Queue>>>>,
    ends: RefCell<Ends>,
    jitter: RefCell<Stream>,
    port_next: Cell<u16>,
}

impl HostState {
    pub(crate) fn new(ip: Ipv4Addr, link: LinkConfig, jitter: Stream) -> Self {
        Self {
            ip,
            link,
            is_gone: Cell::new(false),
            listeners: RefCell::default(),
            ends: RefCell::default(),
            jitter: RefCell::new(jitter),
            port_next: Cell::new(EPHEMERAL_FIRST),
        }
    }

    /// A connection has an end here; where it is noted.
    pub(crate) fn note_end(&self, connection: Weak<Connection>, side: Side) -> u32 {
        self.ends.borrow_mut().add(connection, side)
    }

    /// Such a connection is over.
    pub(crate) fn forget_end(&self, place: u32) {
        self.ends.borrow_mut().remove(place);
    }

    /// The listener for a connection to `port`: one of several by the connection's number, as `SO_REUSEPORT` does by hash.
    fn listener(&self, port: u16, id: ConnectionId) -> Option<Rc<Queue>> {
        let listeners = self.listeners.borrow();
        let queues = listeners.get(&port).filter(|queues| !queues.is_empty())?;
        let count = u64::try_from(queues.len()).unwrap_or(1);
        // The numbers of neighbouring connections differ by one; multiplying by the golden ratio scatters them.
        let scattered = id.number().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let index = usize::try_from(scattered % count).expect("an index below a length");
        Some(Rc::clone(&queues[index]))
    }
}

/// The ends of connections on one host. A place is used again as soon as its connection is over: what has been held last is close at hand.
#[derive(Default)]
struct Ends {
    places: Vec<Option<(Weak<Connection>, Side)>>,
    free: Vec<u32>,
}

impl Ends {
    fn add(&mut self, connection: Weak<Connection>, side: Side) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 connections at a time")
        });
        self.places[place as usize] = Some((connection, side));
        place
    }

    fn remove(&mut self, place: u32) {
        let end = self.places[place as usize].take();
        assert!(end.is_some(), "an end is noted once and forgotten once");
        self.free.push(place);
    }
}

/// The accept queue of one listener.
struct Queue {
    backlog: usize,
    waiting: RefCell<VecDeque<(SimTime, TcpStream)>>,
    acceptor: RefCell<Option<Wakeup>>,
    timer: Cell<Option<TimerKey>>,
}

/// A host of the fabric. Clones are handles to the same host.
#[derive(Clone)]
pub struct Host {
    net: Net,
    state: Rc<HostState>,
}

impl Host {
    pub(crate) fn new(net: &Net, state: Rc<HostState>) -> Self {
        Self { net: net.clone(), state }
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.state.ip
    }

    /// Listens on a port. Several listeners may share one, as with `SO_REUSEPORT`; dropping a listener closes it.
    ///
    /// # Errors
    ///
    /// `NotConnected` if the host has vanished.
    pub fn listen(&self, port: u16, backlog: usize) -> io::Result<Listener> {
        if self.state.is_gone.get() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let queue = Rc::new(Queue {
            backlog,
            waiting: RefCell::default(),
            acceptor: RefCell::default(),
            timer: Cell::new(None),
        });
        self.state.listeners.borrow_mut().entry(port).or_default().push(Rc::clone(&queue));
        Ok(Listener { host: self.clone(), port, queue })
    }

    /// Dials an address. The attempt begins at the first poll; dropping it gives up.
    ///
    /// # Errors
    ///
    /// If the far side refuses or nothing answers.
    pub fn connect(&self, to: SocketAddrV4) -> impl Future<Output = Result<TcpStream, ConnectError>> + 'static {
        self.connect_noting(to, Rc::default())
    }

    /// The same; `trace` tells how far the SYN came, also to a caller that gives up before the outcome is known.
    ///
    /// # Errors
    ///
    /// As for [`Self::connect`].
    pub fn connect_noting(
        &self,
        to: SocketAddrV4,
        trace: Rc<Cell<Trace>>,
    ) -> impl Future<Output = Result<TcpStream, ConnectError>> + 'static {
        let this = self.clone();
        async move { this.dial(to, &trace, None).await }
    }

    /// The same through a hop of the caller's own, in place of whoever owns the address.
    ///
    /// # Errors
    ///
    /// As for [`Self::connect`].
    pub fn connect_through(
        &self,
        to: SocketAddrV4,
        hop: Rc<dyn Forward>,
        trace: Rc<Cell<Trace>>,
    ) -> impl Future<Output = Result<TcpStream, ConnectError>> + 'static {
        let this = self.clone();
        async move { this.dial(to, &trace, Some(hop)).await }
    }

    /// Whether there is a host at an address, and nobody has ever listened there on this port.
    #[must_use]
    pub fn was_never_served(&self, at: SocketAddrV4) -> bool {
        let hosts = self.net.fabric.hosts.borrow();
        hosts.get(at.ip()).is_some_and(|host| !host.listeners.borrow().contains_key(&at.port()))
    }

    /// The host and its address are gone: what is sent to it is lost, and its connections hear nothing any more. The address can
    /// be used anew.
    pub fn vanish(&self) {
        if self.state.is_gone.replace(true) {
            return;
        }
        self.net.fabric.remove_host(self.state.ip);
        for (end, side) in self.state.ends.borrow().places.iter().flatten() {
            if let Some(connection) = end.upgrade() {
                connection.lose_host(*side);
            }
        }
    }

    async fn dial(
        &self,
        to: SocketAddrV4,
        trace: &Cell<Trace>,
        hop: Option<Rc<dyn Forward>>,
    ) -> Result<TcpStream, ConnectError> {
        let sim = self.net.fabric.sim.clone();
        let id = self.net.fabric.next_connection();
        let port = self.state.port_next.get();
        self.state.port_next.set(port.checked_add(1).unwrap_or(EPHEMERAL_FIRST));
        let local = SocketAddrV4::new(self.state.ip, port);
        let start = sim.now();
        let mut lost = ConnectError { kind: ConnectErrorKind::TimedOut, id, target: Some(to), why: None };
        // Where the first SYN was passed on to, if it was.
        let sent_to = Cell::new(None);
        for offset in std::iter::once(Duration::ZERO).chain(SYN_RETRIES) {
            sim.sleep_until(start.after(offset)).await;
            match self.try_syn(id, (local, to), (&sent_to, trace), hop.as_ref()).await {
                SynResult::Connected(stream) => return Ok(stream),
                SynResult::Refused { target, why } => {
                    return Err(ConnectError { kind: ConnectErrorKind::Refused, id, target, why });
                }
                SynResult::Lost { target, why } => {
                    // A balancer that drops a SYN sent again for its own reasons takes nothing back of how far an earlier one came.
                    let before = trace.get();
                    let reached = target.or(sent_to.get()).or(before.reached);
                    let why = if target.is_none() { before.why.or(why) } else { why };
                    (lost.target, lost.why) = (reached, why);
                    trace.set(Trace { reached, why });
                }
            }
        }
        sim.sleep_until(start.after(SYN_GIVE_UP)).await;
        Err(lost)
    }

    /// Sends one SYN, and waits for its answer if there will be one.
    async fn try_syn(
        &self,
        id: ConnectionId,
        (local, to): (SocketAddrV4, SocketAddrV4),
        (sent_to, trace): (&Cell<Option<SocketAddrV4>>, &Cell<Trace>),
        hop: Option<&Rc<dyn Forward>>,
    ) -> SynResult {
        let fabric = &self.net.fabric;
        let sim = &fabric.sim;
        let mut link = self.state.link;
        let (mut target, mut seen_from, mut forward) = (to, local, None::<Rc<dyn Forward>>);
        let mut client_latency = link.latency;
        let own = hop.map(|hop| (LinkConfig::default(), Rc::clone(hop)));
        if let Some((forward_link, found)) = own.or_else(|| fabric.forward(*to.ip())) {
            link = link.joined(forward_link);
            client_latency = link.latency;
            let there = self.delay(link);
            sim.sleep(there).await;
            match found.syn(&Syn { id, from: local, to, sent_to: sent_to.get() }) {
                Verdict::To { target: chosen, extra_latency, snat } => {
                    target = chosen;
                    sent_to.set(Some(target));
                    trace.set(Trace { reached: Some(target), why: None });
                    link.latency += extra_latency;
                    seen_from = SocketAddrV4::new(snat.unwrap_or(*local.ip()), local.port());
                    forward = Some(found);
                    sim.sleep(extra_latency).await;
                }
                Verdict::Refuse { by, why } => {
                    sim.sleep(there).await;
                    return SynResult::Refused { target: by, why };
                }
                Verdict::Drop { by, why } => return SynResult::Lost { target: by, why },
            }
        } else {
            sim.sleep(self.delay(link)).await;
        }
        // From here on the SYN counts as passed on; whatever happens, the balancer hears of its end.
        let passed_on = PassedOn { id, forward: forward.clone(), is_over: Cell::new(true) };
        let lost = SynResult::Lost { target: Some(target), why: None };
        let Some(server) = fabric.host(*target.ip()) else { return lost };
        let server_delay = self.delay(server.link);
        sim.sleep(server_delay).await;
        link = link.joined(server.link);
        if server.is_gone.get() {
            return lost;
        }
        let Some(queue) = server.listener(target.port(), id) else {
            sim.sleep(self.delay(link)).await;
            return SynResult::Refused { target: Some(target), why: None };
        };
        if queue.waiting.borrow().len() >= queue.backlog {
            return lost;
        }
        passed_on.is_over.set(false);
        let hosts = [Rc::clone(&self.state), Rc::clone(&server)];
        let connection = Connection::new(fabric, hosts, Path { id, link, client_latency, forward });
        let back = self.delay(link);
        // The server's end is complete when the client's ACK has come: a whole round trip after the SYN.
        let complete_at = sim.now().after(back).after(link.latency);
        queue.push(sim, complete_at, TcpStream::new(Rc::clone(&connection), Side::Server, target, seen_from, target));
        let stream = TcpStream::new(connection, Side::Client, local, to, target);
        sim.sleep(back).await;
        SynResult::Connected(stream)
    }

    /// One crossing of a link.
    fn delay(&self, link: LinkConfig) -> Duration {
        if link.jitter.is_zero() {
            return link.latency;
        }
        link.latency + self.state.jitter.borrow_mut().uniform(Duration::ZERO, link.jitter)
    }
}

enum SynResult {
    Connected(TcpStream),
    Refused { target: Option<SocketAddrV4>, why: Option<EventId> },
    Lost { target: Option<SocketAddrV4>, why: Option<EventId> },
}

/// Tells the balancer that a connection it passed on has come to nothing.
struct PassedOn {
    id: ConnectionId,
    forward: Option<Rc<dyn Forward>>,
    is_over: Cell<bool>,
}

impl Drop for PassedOn {
    fn drop(&mut self) {
        if self.is_over.get()
            && let Some(forward) = &self.forward
        {
            forward.ended(self.id);
        }
    }
}

impl Queue {
    fn push(&self, sim: &crate::engine::Sim, complete_at: SimTime, stream: TcpStream) {
        self.waiting.borrow_mut().push_back((complete_at, stream));
        if self.timer.get().is_none()
            && let Some(acceptor) = &*self.acceptor.borrow()
        {
            self.timer.set(Some(sim.wake_at(complete_at, acceptor.clone())));
        }
    }
}

/// A listening socket. Dropping it closes the port; connections that wait to be accepted are reset.
pub struct Listener {
    host: Host,
    port: u16,
    queue: Rc<Queue>,
}

impl Listener {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.host.ip(), self.port)
    }

    /// The next connection, in the order of their SYNs.
    pub async fn accept(&self) -> TcpStream {
        let sim = &self.host.net.fabric.sim;
        poll_fn(|cx| {
            let mut waiting = self.queue.waiting.borrow_mut();
            let next_at = waiting.front().map(|(at, _)| *at);
            if let Some(timer) = self.queue.timer.take() {
                sim.cancel(timer);
            }
            if next_at.is_some_and(|at| at <= sim.now())
                && let Some((_, stream)) = waiting.pop_front()
            {
                return Poll::Ready(stream);
            }
            let acceptor = sim.wakeup(cx.waker());
            if let Some(at) = next_at {
                self.queue.timer.set(Some(sim.wake_at(at, acceptor.clone())));
            }
            *self.queue.acceptor.borrow_mut() = Some(acceptor);
            Poll::Pending
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.host.state.listeners.borrow_mut();
        if let Some(queues) = listeners.get_mut(&self.port) {
            queues.retain(|queue| !Rc::ptr_eq(queue, &self.queue));
        }
        drop(listeners);
        if let Some(timer) = self.queue.timer.take() {
            self.host.net.fabric.sim.cancel(timer);
        }
        let waiting = self.queue.waiting.take();
        for (_, stream) in waiting {
            stream.abort();
        }
    }
}
