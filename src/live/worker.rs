//! A worker thread: an event loop, a gateway, and the commands it gets.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::host::LiveHost;
use super::log::{LogSender, WorkerLog};
use super::{Plan, Settings, Tables};
use crate::engine::random::Stream;
use crate::gateway::{DownstreamConfig, Gateway, GatewayConfig, Host, LoadAssignment, Observer, Order};

/// What control tells a worker.
pub(super) enum Command {
    /// Use this configuration from now on.
    Apply(Assignment, oneshot::Sender<()>),
    /// What the agent orders.
    Obey(Order),
    /// End.
    Stop,
}

/// A configuration with this worker's sockets.
pub(super) struct Assignment {
    pub(super) plan: Plan,
    /// Sockets that are new, by number.
    pub(super) sockets: Vec<(u16, TcpListener)>,
    /// All listeners: number, and the port by which routes know it.
    pub(super) listeners: Vec<(u16, u16)>,
}

/// What a worker is given at its start.
pub(super) struct Start {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) random: Stream,
    pub(super) open: Arc<AtomicUsize>,
    pub(super) log: Option<LogSender>,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) first: Assignment,
    pub(super) listening: oneshot::Sender<()>,
}

/// Runs a worker to its end.
pub(super) fn run(start: Start) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, work(start))
}

async fn work(start: Start) -> io::Result<()> {
    let Start { settings, clock, random, open, log, mut commands, first, listening } = start;
    let host = LiveHost::new(clock, random, open);
    let log = log.map(|sender| Rc::new(WorkerLog::new(sender, clock)));
    let observer: Rc<dyn Observer> = match &log {
        None => Rc::new(()),
        Some(log) => {
            let (flushed, ticks) = (Rc::clone(log), host.clone());
            host.spawn("access-log", async move { flushed.flush_each_second(ticks).await });
            Rc::<WorkerLog>::clone(log)
        }
    };
    let tables = (first.plan.build)();
    let config = GatewayConfig {
        listeners: Vec::new(),
        clusters: tables.clusters.iter().map(|(name, cluster)| (Arc::clone(name), cluster.config)).collect(),
        downstream: DownstreamConfig::ISTIO_GATEWAY,
        drain: settings.drain,
    };
    let gateway = Gateway::start(vec![host.clone()], config, Rc::clone(&tables.routes), observer)?;
    let worker = Worker { host, gateway, settings, current: RefCell::new(Rc::new(tables)) };
    worker.listen(first.sockets, &first.listeners)?;
    worker.set_endpoints();
    let _ = listening.send(());
    while let Some(command) = commands.recv().await {
        match command {
            Command::Apply(assignment, done) => {
                worker.apply(assignment)?;
                let _ = done.send(());
            }
            Command::Obey(order) => worker.gateway.obey(order),
            Command::Stop => break,
        }
    }
    if let Some(log) = log {
        log.flush();
    }
    Ok(())
}

struct Worker {
    host: LiveHost,
    gateway: Gateway<LiveHost>,
    settings: Settings,
    current: RefCell<Rc<Tables>>,
}

impl Worker {
    fn listen(&self, sockets: Vec<(u16, TcpListener)>, listeners: &[(u16, u16)]) -> io::Result<()> {
        for (number, socket) in sockets {
            self.host.give(number, socket);
        }
        self.gateway.set_listeners(listeners)
    }

    fn set_endpoints(&self) {
        for (name, cluster) in &self.current.borrow().clusters {
            self.gateway.set_endpoints(name, &LoadAssignment::new(cluster.endpoints.clone()));
        }
    }

    /// Takes a new configuration into use. Clusters come before the routes that lead to them; those that no route names any more go when the
    /// connections of removed listeners, which keep their routes, have had the drain time.
    fn apply(&self, assignment: Assignment) -> io::Result<()> {
        let tables = Rc::new((assignment.plan.build)());
        for (name, cluster) in &tables.clusters {
            self.gateway.set_cluster(name, cluster.config);
        }
        *self.current.borrow_mut() = Rc::clone(&tables);
        self.set_endpoints();
        // Listeners first: those that are removed keep the routes that held for them.
        self.listen(assignment.sockets, &assignment.listeners)?;
        self.gateway.set_routes(Rc::clone(&tables.routes));
        let over = self.host.sleep_until(self.host.now().after(self.settings.drain.drain_time));
        let gateway = self.gateway.clone();
        let applied = Rc::downgrade(&tables);
        drop(tables);
        self.host.spawn("gateway-unused-clusters", async move {
            over.await;
            // A later configuration sees to its own.
            if let Some(tables) = applied.upgrade() {
                gateway.retain_clusters(|name| tables.clusters.contains_key(name));
            }
        });
        Ok(())
    }
}
