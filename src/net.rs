//! Simulated TCP, as its users feel it.
//!
//! - Connecting takes a round trip. A SYN to a closed port is refused after one; to a vanished host, or into a full accept queue,
//!   it is lost and sent again after 1, 3 and 7 seconds, and after 15 the attempt is over. Source: Linux `tcp_syn_retries`,
//!   RFC 6298 (initial timeout 1 s, doubling), shortened from 127 s by [`SYN_GIVE_UP`].
//! - Bytes of one direction arrive in order, each segment after the latency of the links it crosses plus a drawn jitter. A bounded
//!   buffer pushes back; the news that there is room again travels at once.
//! - A socket that is closed with unread data sends RST, else FIN: so it looks when a process is killed too (measured on
//!   Envoy: idle, fresh and busy connections end with FIN; only unread requests meet RST). Data for a closed socket is answered
//!   with RST. What has arrived before an RST can still be read.
//! - A [`Forward`] (a load balancer) decides for each SYN to its address; hops on the path may later [`Net::sever`] the connection
//!   and say why.
//!
//! Simultaneous arrivals keep the order in which they were sent. Not modelled: loss and retransmission of data, congestion windows,
//! TIME_WAIT, port exhaustion; bandwidth is per connection.

pub mod body;
mod connection_map;
pub mod cookie;
pub mod head;
pub mod host;
mod pipe;
pub mod stream;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::{Rc, Weak};
use std::time::Duration;

pub use connection_map::ConnectionMap;
pub use host::{ConnectError, ConnectErrorKind, Host, Listener};
pub use pipe::{Ending, EndingKind};
pub use stream::TcpStream;

use crate::engine::{EventId, Sim, Streams};
use crate::units::SimTime;
use host::HostState;
use stream::Connection;

/// When an unanswered SYN is sent again, after the first.
pub const SYN_RETRIES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(7)];
/// When connecting is given up.
pub const SYN_GIVE_UP: Duration = Duration::from_secs(15);
/// Bytes one direction of a connection holds before it pushes back.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// Names a connection of a run; the same on both of its ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub(crate) u64);

impl ConnectionId {
    /// The number itself, counted from 0 over the run.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// The link between a host and the fabric.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkConfig {
    /// One way.
    pub latency: Duration,
    /// Added to each segment, uniform from 0 to this. Order is kept.
    pub jitter: Duration,
    /// Bytes per second; unlimited if absent.
    pub bytes_per_s: Option<u64>,
}

impl LinkConfig {
    /// A path over both links: latencies and jitters add up, the slower bandwidth holds.
    fn joined(self, other: Self) -> Self {
        let bytes_per_s = match (self.bytes_per_s, other.bytes_per_s) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Self { latency: self.latency + other.latency, jitter: self.jitter + other.jitter, bytes_per_s }
    }
}

/// A SYN as a balancer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Syn {
    /// The connection to be.
    pub id: ConnectionId,
    /// Who dials.
    pub from: SocketAddrV4,
    /// The address dialled: the balancer's own.
    pub to: SocketAddrV4,
    /// Where the first SYN of the same connection was sent, if this is a retransmission.
    pub sent_to: Option<SocketAddrV4>,
}

/// What a balancer does with a SYN.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Passes it on.
    To {
        /// The host behind.
        target: SocketAddrV4,
        /// What hops on the way add in each direction.
        extra_latency: Duration,
        /// The address that replaces the client's, if a hop does so.
        snat: Option<Ipv4Addr>,
    },
    /// Answers with RST.
    Refuse {
        /// The hop behind the balancer that does so; none: the balancer itself.
        by: Option<SocketAddrV4>,
        /// The event that left nobody to pass it on to.
        why: Option<EventId>,
    },
    /// Says nothing.
    Drop {
        /// The hop behind the balancer that does so; none: the balancer itself.
        by: Option<SocketAddrV4>,
        /// The event that left nobody to pass it on to.
        why: Option<EventId>,
    },
}

/// What is known of a connection that is being opened, also to a caller that gives up before the outcome is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Trace {
    /// Where a balancer has passed the last SYN on to, or the hop that stopped it.
    pub reached: Option<SocketAddrV4>,
    /// The event that made a hop stop it.
    pub why: Option<EventId>,
}

/// Whatever owns an address and passes connections on.
pub trait Forward {
    /// Decides for a SYN; asked again when it is sent again.
    fn syn(&self, syn: &Syn) -> Verdict;
    /// Both ends of a connection it passed on are closed.
    fn ended(&self, id: ConnectionId);
}

/// How a hop on the path ends a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sever {
    /// RST to both ends.
    Reset,
    /// FIN to both ends, behind what is on its way.
    Fin,
    /// The state is forgotten: whoever sends next gets RST, the other hears nothing.
    Silent,
    /// Nothing passes any more, in either direction.
    Blackhole,
}

/// The fabric that connects all hosts. Clones share it.
#[derive(Clone)]
pub struct Net {
    pub(crate) fabric: Rc<Fabric>,
}

/// A balancer and its link.
type Front = (LinkConfig, Rc<dyn Forward>);

pub(crate) struct Fabric {
    pub(crate) sim: Sim,
    pub(crate) streams: Streams,
    hosts: RefCell<BTreeMap<Ipv4Addr, Rc<HostState>>>,
    forwards: RefCell<BTreeMap<Ipv4Addr, Front>>,
    connections: RefCell<ConnectionMap<Weak<Connection>>>,
    connection_next: Cell<u64>,
}

impl Net {
    /// A fabric without hosts.
    #[must_use]
    pub fn new(sim: &Sim, streams: Streams) -> Self {
        let fabric = Fabric {
            sim: sim.clone(),
            streams,
            hosts: RefCell::default(),
            forwards: RefCell::default(),
            connections: RefCell::default(),
            connection_next: Cell::new(0),
        };
        Self { fabric: Rc::new(fabric) }
    }

    /// Connects a host.
    ///
    /// # Panics
    ///
    /// If the address is in use: addresses are given out by the simulator, so this is its error.
    #[must_use]
    pub fn attach(&self, ip: Ipv4Addr, link: LinkConfig) -> Host {
        let state = Rc::new(HostState::new(ip, link, self.fabric.streams.stream("link-jitter", &ip.to_string())));
        let former = self.fabric.hosts.borrow_mut().insert(ip, Rc::clone(&state));
        assert!(former.is_none(), "{ip} is in use");
        Host::new(self, state)
    }

    /// Gives an address to a balancer. A SYN reaches it over the client's link and `link`.
    pub fn forward(&self, ip: Ipv4Addr, link: LinkConfig, forward: Rc<dyn Forward>) {
        self.fabric.forwards.borrow_mut().insert(ip, (link, forward));
    }

    /// A hop ends a connection, and says which event made it do so. Without effect on one that is over.
    pub fn sever(&self, id: ConnectionId, how: Sever, why: Option<EventId>) {
        let connection = self.fabric.connections.borrow().get(id).and_then(Weak::upgrade);
        if let Some(connection) = connection {
            connection.sever(how, why);
        }
    }

    /// When something last passed the hop that may sever a connection; nothing if it is over.
    #[must_use]
    pub fn last_passage(&self, id: ConnectionId) -> Option<SimTime> {
        let connection = self.fabric.connections.borrow().get(id).and_then(Weak::upgrade)?;
        Some(connection.last_passage())
    }

    /// Connections with at least one open end.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.fabric.connections.borrow().len()
    }
}

impl Fabric {
    pub(crate) fn host(&self, ip: Ipv4Addr) -> Option<Rc<HostState>> {
        self.hosts.borrow().get(&ip).cloned()
    }

    pub(crate) fn remove_host(&self, ip: Ipv4Addr) {
        self.hosts.borrow_mut().remove(&ip);
    }

    pub(crate) fn forward(&self, ip: Ipv4Addr) -> Option<Front> {
        self.forwards.borrow().get(&ip).cloned()
    }

    pub(crate) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.connection_next.replace(self.connection_next.get() + 1))
    }

    pub(crate) fn note_connection(&self, connection: &Rc<Connection>) {
        self.connections.borrow_mut().insert(connection.id(), Rc::downgrade(connection));
    }

    pub(crate) fn forget_connection(&self, id: ConnectionId) {
        self.connections.borrow_mut().remove(id);
    }
}

#[cfg(test)]
mod tests;
