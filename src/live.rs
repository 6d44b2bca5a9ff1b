//! The gateway on real sockets: [`Host`](crate::gateway::Host) on tokio, and the process around it.
//!
//! ```text
//! control thread: signals, configuration, agent ──commands──→ worker threads: one gateway each, listening on the same ports (SO_REUSEPORT)
//!                                                                   └─ lines of the access log ──→ log thread ──→ standard output
//! ```
//!
//! - A worker is one thread with an event loop and a gateway of its own, as an Envoy worker is: it owns its connections, down- and upstream.
//!   Nothing is shared but the number of open connections.
//! - `control` is one loop that receives all that happens: signals, workers that end, drains that are over. It binds every socket before a
//!   worker hears of it, so a port that is taken changes nothing.
//! - `host` and `sockets` are the world of a worker; `log` prints requests as Istio does.
//!
//! This room may use what the simulated world must not: the clock, threads, the system's entropy. Instants are nanoseconds since the
//! process began, so the gateway sees the same kind of time in both worlds.

mod clock;
mod control;
mod host;
pub mod log;
mod sockets;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use std::collections::BTreeMap;

use crate::gateway::{ClusterConfig, DrainConfig, EndpointConfig, Routes, ShutdownMode};

pub use control::serve;
pub use log::LogFormat;

/// What does not change while the gateway runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Worker threads.
    pub workers: usize,
    /// Where `/healthz/ready` is answered, if anywhere.
    pub status: Option<SocketAddr>,
    /// What SIGTERM leads to.
    pub shutdown: ShutdownMode,
    /// How it drains.
    pub drain: DrainConfig,
    /// How requests are printed; none: not at all.
    pub log: Option<LogFormat>,
    /// What draws start from, each worker's on its own; none: the system's entropy.
    pub seed: Option<u64>,
}

/// A configuration that was found good. It goes to all workers.
#[derive(Clone)]
pub struct Plan {
    /// Where to listen.
    pub listeners: Vec<ListenerPlan>,
    /// What each worker builds for itself: routes are not shared between threads.
    pub build: Arc<dyn Fn() -> Tables + Send + Sync>,
}

/// A listening address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerPlan {
    /// The address; with port 0 the system chooses one.
    pub address: SocketAddr,
    /// The port by which routes know it.
    pub port: u16,
}

/// Routes and what they lead to.
pub struct Tables {
    /// The routes.
    pub routes: Rc<Routes>,
    /// The clusters, by name.
    pub clusters: BTreeMap<Arc<str>, ClusterTable>,
}

/// A cluster.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterTable {
    /// Its settings.
    pub config: ClusterConfig,
    /// Where they go.
    pub endpoints: Vec<EndpointConfig>,
}

/// Who started the gateway: gives the configuration anew when asked to, and is told what happens.
pub trait Operator {
    /// Reads the configuration again; none if it is not good, which the operator has told its user.
    fn reload(&mut self) -> Option<Plan>;
    /// Something happened.
    fn told(&mut self, event: Event);
}

/// What happens to a gateway.
#[derive(Debug)]
pub enum Event {
    /// All workers accept; in the order of the plan, with the ports that were bound.
    Listening {
        /// The listeners.
        listeners: Vec<ListenerPlan>,
        /// Where readiness is answered.
        status: Option<SocketAddr>,
    },
    /// All workers have the new configuration.
    Reloaded {
        /// The listeners, with the ports that were bound.
        listeners: Vec<ListenerPlan>,
    },
    /// A new configuration could not be used; the former one stays.
    NotReloaded(BindError),
    /// It drains.
    Draining(ShutdownMode),
    /// It has drained.
    Drained {
        /// Connections that were still open.
        connections: usize,
    },
    /// Lines of the access log were left out because nobody read them.
    LinesLost(u64),
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Drained.
    Drained,
    /// At once, by a second Ctrl-C.
    Interrupted,
    /// At once, by a second SIGTERM.
    Terminated,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Why a gateway ended that should not have.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system refused a thread, an event loop or entropy.
    #[error("the system refused {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A worker ended by itself: a defect of gatedrill.
    #[error("worker {0} ended by itself; this is a mistake of gatedrill: please report it")]
    WorkerEnded(usize),
}
