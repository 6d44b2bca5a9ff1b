//! One replica: its listener, its life, and what its connections share.

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::connection::serve_connection;
use super::turn::Places;
use crate::engine::{Delay, Signal, Sim, Streams, TaskGroup};
use crate::net::{Host, Listener};

/// Connections that wait to be accepted before a SYN is dropped. Source: Linux `net.core.somaxconn` since 5.4.
const BACKLOG: usize = 4096;

/// How an answer leaves the replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyShape {
    /// Head and body together, after the service time.
    Whole,
    /// Head and half of the body at once, the rest after the service time: a streamed answer.
    HalfFirst,
}

/// How the replicas of one service behave.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// From a request's turn to its answer.
    pub service_time: Delay,
    /// Requests served at once by a replica; more wait.
    pub concurrency: usize,
    /// Answers that are a 500, in parts per million.
    pub error_ppm: u32,
    /// An idle connection is closed after this time; never if absent.
    pub keep_alive: Option<Duration>,
    /// How an answer leaves.
    pub body: BodyShape,
    /// Bytes of an answer's body.
    pub body_bytes: usize,
}

/// Whoever keeps count of what a replica holds.
pub trait Ledger {
    /// A connection has been accepted, and counted.
    fn connection_opened(&self);
    /// A request has come.
    fn request_begun(&self);
    /// It has been answered, or its connection is over.
    fn request_done(&self);
}

/// A running replica. Clones share it.
#[derive(Clone)]
pub struct Backend {
    replica: Rc<Replica>,
    tasks: TaskGroup,
}

pub(super) struct Replica {
    pub(super) sim: Sim,
    pub(super) streams: Streams,
    pub(super) config: BackendConfig,
    pub(super) places: Places,
    /// The last header line of an answer and the empty line after it.
    pub(super) length_line: String,
    pub(super) closing: Signal,
    ended: Signal,
    connection_count: Rc<Cell<usize>>,
    pub(super) request_count: Cell<u64>,
    ledger: OnceCell<Rc<dyn Ledger>>,
}

/// A request that is under way, for whoever keeps count.
pub(super) struct Held(Rc<dyn Ledger>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.request_done();
    }
}

impl Replica {
    /// A request has come; it is under way until this is dropped.
    pub(super) fn hold(&self) -> Option<Held> {
        let ledger = self.ledger.get()?;
        ledger.request_begun();
        Some(Held(Rc::clone(ledger)))
    }
}

impl Backend {
    /// Starts a replica that listens on these ports of `host`.
    ///
    /// # Errors
    ///
    /// If the host has vanished.
    pub fn start(
        sim: &Sim,
        streams: Streams,
        host: &Host,
        ports: impl IntoIterator<Item = u16>,
        config: BackendConfig,
    ) -> std::io::Result<Self> {
        let listeners =
            ports.into_iter().map(|port| host.listen(port, BACKLOG)).collect::<std::io::Result<Vec<_>>>()?;
        let replica = Rc::new(Replica {
            sim: sim.clone(),
            streams,
            places: Places::new(config.concurrency),
            length_line: format!("content-length: {}\r\n\r\n", config.body_bytes),
            config,
            closing: Signal::default(),
            ended: Signal::default(),
            connection_count: Rc::default(),
            request_count: Cell::new(0),
            ledger: OnceCell::new(),
        });
        let tasks = TaskGroup::new(sim);
        let backend = Self { replica: Rc::clone(&replica), tasks: tasks.clone() };
        for listener in listeners {
            let (replica, connections) = (Rc::clone(&replica), tasks.clone());
            tasks.spawn("backend-accept", async move { accept(replica, listener, connections).await });
        }
        Ok(backend)
    }

    /// SIGTERM: serves on for `delay`, then closes the listener and idle connections, finishes what is in flight and ends.
    pub fn shut_down(&self, delay: Duration) {
        let replica = Rc::clone(&self.replica);
        self.tasks.spawn("backend-shutdown", async move {
            replica.sim.sleep(delay).await;
            replica.closing.raise();
            if replica.connection_count.get() == 0 {
                replica.ended.raise();
            }
        });
    }

    /// SIGKILL: everything ends at once.
    pub fn kill(&self) {
        self.tasks.abort();
        self.replica.ended.raise();
    }

    /// Ends when the process has.
    pub fn ended(&self) -> impl Future<Output = ()> + 'static {
        self.replica.ended.raised()
    }

    /// Raised when the process has ended.
    #[must_use]
    pub fn end(&self) -> Signal {
        self.replica.ended.clone()
    }

    /// How many connections are open, now and later.
    #[must_use]
    pub fn connection_counter(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.replica.connection_count)
    }

    /// Has somebody keep count of what it holds.
    ///
    /// # Panics
    ///
    /// If somebody does already.
    pub fn keep_count(&self, ledger: Rc<dyn Ledger>) {
        assert!(self.replica.ledger.set(ledger).is_ok(), "a replica is counted once");
    }

    /// Requests whose turn has come so far.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.replica.request_count.get()
    }
}

async fn accept(replica: Rc<Replica>, listener: Listener, connections: TaskGroup) {
    let mut closing = pin!(replica.closing.raised());
    loop {
        let next = {
            let mut accepted = pin!(listener.accept());
            std::future::poll_fn(|cx| match closing.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => accepted.as_mut().poll(cx).map(Some),
            })
            .await
        };
        let Some(stream) = next else { return };
        replica.connection_count.set(replica.connection_count.get() + 1);
        if let Some(ledger) = replica.ledger.get() {
            ledger.connection_opened();
        }
        let replica = Rc::clone(&replica);
        connections.spawn("backend-connection", async move {
            serve_connection(&replica, stream).await;
            replica.connection_count.set(replica.connection_count.get() - 1);
            if replica.closing.is_raised() && replica.connection_count.get() == 0 {
                replica.ended.raise();
            }
        });
    }
}
