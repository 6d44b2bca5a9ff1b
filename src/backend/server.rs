//! One replica: its listener, its life, and what its connections share.

use std::cell::Cell;
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
    connection_count: Cell<usize>,
    pub(super) request_count: Cell<u64>,
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
            connection_count: Cell::new(0),
            request_count: Cell::new(0),
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
