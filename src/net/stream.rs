//! A connection and its two ends, with hyper's `Read` and `Write`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};

use super::host::HostState;
use super::pipe::{Ending, EndingKind, Jitter, Passage, Pipe};
use super::{ConnectionId, Fabric, Forward, LinkConfig, Sever};
use crate::engine::EventId;
use crate::units::SimTime;

/// Both ends of a connection and what lies between.
pub(crate) struct Connection {
    id: ConnectionId,
    fabric: Rc<Fabric>,
    /// From the client to the server, and back.
    pipes: [RefCell<Pipe>; 2],
    jitter: RefCell<Jitter>,
    /// The hosts of the client and the server, and where they note their ends.
    hosts: [(Rc<HostState>, u32); 2],
    /// From a hop on the path to each end.
    hop_latency: [Duration; 2],
    /// An end whose host has vanished sends nothing.
    is_gone: [Cell<bool>; 2],
    forward: Option<Rc<dyn Forward>>,
}

/// Which end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }
}

/// What a new connection is made of.
pub(crate) struct Path {
    pub(crate) id: ConnectionId,
    /// Client to server over all links.
    pub(crate) link: LinkConfig,
    /// The part of the path before the hop that may sever it.
    pub(crate) client_latency: Duration,
    pub(crate) forward: Option<Rc<dyn Forward>>,
}

impl Connection {
    pub(crate) fn new(fabric: &Rc<Fabric>, [client, server]: [Rc<HostState>; 2], path: Path) -> Rc<Self> {
        let now = fabric.sim.now();
        let connection = Rc::new_cyclic(|this| Self {
            id: path.id,
            fabric: Rc::clone(fabric),
            pipes: [RefCell::new(Pipe::new(path.link, now)), RefCell::new(Pipe::new(path.link, now))],
            jitter: RefCell::new(Jitter::new(fabric.streams, path.id)),
            hosts: [(client, Side::Client), (server, Side::Server)].map(|(host, side)| {
                let place = host.note_end(this.clone(), side);
                (host, place)
            }),
            hop_latency: [path.client_latency, path.link.latency.saturating_sub(path.client_latency)],
            is_gone: [Cell::new(false), Cell::new(false)],
            forward: path.forward,
        });
        fabric.note_connection(&connection);
        connection
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// The direction in which `side` writes.
    fn outgoing(&self, side: Side) -> &RefCell<Pipe> {
        &self.pipes[side.index()]
    }

    /// The direction in which `side` reads.
    fn incoming(&self, side: Side) -> &RefCell<Pipe> {
        &self.pipes[1 - side.index()]
    }

    /// When something last passed the hop on the path.
    pub(crate) fn last_passage(&self) -> SimTime {
        let passed = |side: Side| {
            let nanos = u64::try_from(self.hop_latency[side.index()].as_nanos()).unwrap_or(u64::MAX);
            SimTime::from_nanos(self.incoming(side).borrow().last_at().as_nanos().saturating_sub(nanos))
        };
        passed(Side::Client).max(passed(Side::Server))
    }

    pub(crate) fn sever(&self, how: Sever, why: Option<EventId>) {
        let sim = &self.fabric.sim;
        for side in [Side::Client, Side::Server] {
            let at = sim.now().after(self.hop_latency[side.index()]);
            let mut incoming = self.incoming(side).borrow_mut();
            match how {
                Sever::Reset => incoming.end_with_reset(sim, at, why),
                Sever::Fin => incoming.end_with_fin(sim, at, why),
                Sever::Silent | Sever::Blackhole => {}
            }
            let passage = if how == Sever::Blackhole { Passage::Lost } else { Passage::Refused };
            incoming.block(passage);
        }
    }

    /// The host of `side` is gone: nothing reaches it or leaves it any more.
    pub(crate) fn lose_host(&self, side: Side) {
        self.is_gone[side.index()].set(true);
        self.incoming(side).borrow_mut().block(Passage::Lost);
        self.outgoing(side).borrow_mut().block(Passage::Lost);
    }

    /// Something sent at `arrives_at` meets a closed socket, or a hop that knows nothing: RST comes back.
    fn bounce(&self, side: Side, arrives_at: SimTime) {
        let latency = self.outgoing(side).borrow().latency();
        let mut incoming = self.incoming(side).borrow_mut();
        incoming.end_with_reset(&self.fabric.sim, arrives_at.after(latency), None);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for (host, place) in &self.hosts {
            host.forget_end(*place);
        }
        self.fabric.forget_connection(self.id);
        if let Some(forward) = &self.forward {
            forward.ended(self.id);
        }
    }
}

/// One end of a connection. Dropping it closes the socket.
pub struct TcpStream {
    connection: Rc<Connection>,
    side: Side,
    local: SocketAddrV4,
    peer: SocketAddrV4,
    target: SocketAddrV4,
}

impl TcpStream {
    pub(crate) fn new(
        connection: Rc<Connection>,
        side: Side,
        local: SocketAddrV4,
        peer: SocketAddrV4,
        target: SocketAddrV4,
    ) -> Self {
        Self { connection, side, local, peer, target }
    }

    /// The connection's name.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.connection.id
    }

    /// This end's address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddrV4 {
        self.local
    }

    /// The address dialled, on the client; on the server the client's, as hops on the path leave it.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddrV4 {
        self.peer
    }

    /// The server that the connection really ends at, behind any balancer.
    #[must_use]
    pub fn target(&self) -> SocketAddrV4 {
        self.target
    }

    /// How the far side or a hop ended the connection, once that has arrived here.
    #[must_use]
    pub fn ended_by(&self) -> Option<Ending> {
        self.connection.incoming(self.side).borrow().ending(self.connection.fabric.sim.now())
    }

    /// Ready once the end of the connection has arrived, whether or not data before it has been read.
    pub fn poll_peer_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended_by().is_some() {
            return Poll::Ready(());
        }
        let sim = &self.connection.fabric.sim;
        self.connection.incoming(self.side).borrow_mut().wait_to_read(sim, cx.waker());
        Poll::Pending
    }

    /// Reads what has arrived to the end of `buffer`; 0 at the end of the connection.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` if the connection was reset.
    pub async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read_into(cx, buffer)).await
    }

    /// As [`TcpStream::read`].
    pub(crate) fn poll_read_into(&mut self, cx: &mut Context<'_>, buffer: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        self.poll_take(cx, usize::MAX, |bytes| buffer.extend_from_slice(bytes))
    }

    /// Writes all of `bytes`, waiting for room.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` if the connection was reset, `BrokenPipe` after a shutdown.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| Pin::new(&mut *self).poll_write(cx, bytes)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Closes the socket with RST, whatever is unread.
    pub fn abort(self) {
        self.close(true);
    }

    /// Hands bytes that have arrived to `sink`; how many they were, 0 at the end.
    fn poll_take(&mut self, cx: &mut Context<'_>, limit: usize, sink: impl FnOnce(&[u8])) -> Poll<io::Result<usize>> {
        let sim = &self.connection.fabric.sim;
        let now = sim.now();
        let mut incoming = self.connection.incoming(self.side).borrow_mut();
        if let Some(taken) = incoming.take(now, limit, sink) {
            return Poll::Ready(Ok(taken));
        }
        if incoming.fin_has_come(now) {
            return Poll::Ready(Ok(0));
        }
        if incoming.ending(now).is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        incoming.wait_to_read(sim, cx.waker());
        Poll::Pending
    }

    /// How many bytes can be written now.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let sim = &self.connection.fabric.sim;
        let mut incoming = self.connection.incoming(self.side).borrow_mut();
        if incoming.ending(sim.now()).is_some_and(|ending| ending.kind == EndingKind::Reset) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut outgoing = self.connection.outgoing(self.side).borrow_mut();
        if outgoing.writer_is_done {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = outgoing.room();
        if room == 0 {
            outgoing.wait_for_room(cx.waker());
            // An RST must also end the wait.
            incoming.wait_to_read(sim, cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(room))
    }

    /// Sends as many bytes as there is room for, or fewer.
    fn send(&mut self, bytes: &[u8]) {
        let connection = &self.connection;
        let sim = &connection.fabric.sim;
        let mut outgoing = connection.outgoing(self.side).borrow_mut();
        match outgoing.passage {
            Passage::Lost => {}
            Passage::Refused => {
                drop(outgoing);
                let hop = connection.hop_latency[self.side.index()];
                let mut incoming = connection.incoming(self.side).borrow_mut();
                incoming.end_with_reset(sim, sim.now().after(hop).after(hop), None);
            }
            Passage::Open if outgoing.reader_is_closed => {
                let at = sim.now().after(outgoing.latency());
                drop(outgoing);
                connection.bounce(self.side, at);
            }
            Passage::Open => {
                outgoing.send(sim, bytes, &mut connection.jitter.borrow_mut());
            }
        }
    }

    fn finish_writing(&self) {
        let connection = &self.connection;
        let mut outgoing = connection.outgoing(self.side).borrow_mut();
        if !outgoing.writer_is_done {
            outgoing.writer_is_done = true;
            if outgoing.passage == Passage::Open {
                outgoing.send_fin(&connection.fabric.sim, &mut connection.jitter.borrow_mut());
            }
        }
    }

    fn close(&self, with_reset: bool) {
        let connection = &self.connection;
        let sim = &connection.fabric.sim;
        let now = sim.now();
        let mut incoming = connection.incoming(self.side).borrow_mut();
        if incoming.reader_is_closed {
            return;
        }
        let must_reset = with_reset || incoming.has_unread(now);
        let bounced_at = incoming.next_arrival(now);
        incoming.close_reader(sim);
        drop(incoming);
        if connection.is_gone[self.side.index()].get() {
            return;
        }
        if must_reset {
            let mut outgoing = connection.outgoing(self.side).borrow_mut();
            if outgoing.passage == Passage::Open {
                let at = now.after(outgoing.latency());
                outgoing.writer_is_done = true;
                outgoing.end_with_reset(sim, at, None);
            }
        } else {
            self.finish_writing();
            // What is still on its way to this socket will be answered with RST.
            if let Some(at) = bounced_at {
                let latency = connection.outgoing(self.side).borrow().latency();
                connection.outgoing(self.side).borrow_mut().end_with_reset(sim, at.after(latency), None);
            }
        }
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.close(false);
    }
}

impl Read for TcpStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let limit = buf.remaining();
        self.poll_take(cx, limit, |bytes| buf.put_slice(bytes)).map_ok(|_| ())
    }
}

impl Write for TcpStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = match self.poll_room(cx) {
            Poll::Ready(Ok(room)) => room,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        let length = bytes.len().min(room);
        if length > 0 {
            self.send(&bytes[..length]);
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish_writing();
        Poll::Ready(Ok(()))
    }
}
