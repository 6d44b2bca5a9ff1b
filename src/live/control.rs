//! The process: starts the workers, then one loop that receives all that happens and decides what follows.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::host::LiveHost;
use super::log;
use super::sockets;
use super::worker::{self, Assignment, Command, Start};
use super::{BindError, End, Event, ListenerPlan, Operator, Plan, ServeError, Settings};
use crate::engine::random::Streams;
use crate::gateway::Host;
use crate::gateway::Order;
use crate::gateway::agent::{self, Proxy};

/// The number of the status port's socket. Listeners count up from 0.
const STATUS: u16 = u16::MAX;
/// At the end the log's last lines are waited for so long: who reads them may have stopped to.
const LOG_END_MAX: Duration = Duration::from_secs(2);

/// Serves until a signal ends it: SIGTERM and Ctrl-C drain, a second one of them ends at once; SIGHUP reloads.
///
/// # Errors
///
/// If an address cannot be bound at the start, or the system refuses what is needed.
pub fn serve(settings: &Settings, plan: Plan, operator: &mut impl Operator) -> Result<End, ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(refused("an event loop"))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, control(settings, plan, operator))
}

fn refused(what: &'static str) -> impl Fn(io::Error) -> ServeError {
    move |source| ServeError::System { what, source }
}

/// All that happens to the process.
enum Message {
    Hangup,
    Interrupt,
    Terminate,
    Drained,
    WorkerEnded(usize),
}

async fn control(settings: &Settings, plan: Plan, operator: &mut impl Operator) -> Result<End, ServeError> {
    let clock = Clock::start();
    let (messages, mut happened) = mpsc::unbounded_channel();
    // Before anything is served: a signal in the meantime must not end the process.
    for (kind, message) in [
        (SignalKind::hangup(), (|| Message::Hangup) as fn() -> Message),
        (SignalKind::interrupt(), || Message::Interrupt),
        (SignalKind::terminate(), || Message::Terminate),
    ] {
        let mut signals = signal(kind).map_err(refused("a signal handler"))?;
        let messages = messages.clone();
        tokio::task::spawn_local(
            async move { while signals.recv().await.is_some() && messages.send(message()).is_ok() {} },
        );
    }
    let mut addresses = Addresses::default();
    let (assignments, listeners) = addresses.assign(&plan, settings.workers)?;
    let open = Arc::new(AtomicUsize::new(0));
    let streams = Streams::new(settings.seed.map_or_else(entropy, Ok).map_err(refused("entropy"))?);
    let host = LiveHost::new(clock, streams.stream("live", "control"), Arc::default());
    let is_ready = Rc::new(Cell::new(false));
    let status = settings.status.map(|address| serve_status(&host, address, &is_ready)).transpose()?;
    let mut fleet = Fleet::start(settings, (clock, streams), &open, assignments, &messages)?;
    if let Err(index) = fleet.all_listen().await {
        return Err(ServeError::WorkerEnded(index));
    }
    is_ready.set(true);
    operator.told(Event::Listening { listeners, status });
    let mut is_draining = false;
    let end = loop {
        // The sender kept here outlives the loop.
        match happened.recv().await.expect("the channel is open") {
            Message::Hangup => fleet.reload(&mut addresses, settings, operator).await,
            Message::Interrupt if is_draining => break End::Interrupted,
            Message::Terminate if is_draining => break End::Terminated,
            Message::Interrupt | Message::Terminate => {
                is_draining = true;
                operator.told(Event::Draining(settings.shutdown));
                let (host, workers, moves) = (host.clone(), fleet.workers(), settings.shutdown.moves());
                let (messages, is_ready) = (messages.clone(), Rc::clone(&is_ready));
                // Unready even where the process ends at once.
                is_ready.set(false);
                tokio::task::spawn_local(async move {
                    agent::carry_out(&host, &workers, &moves, &is_ready, |_| {}).await;
                    let _ = messages.send(Message::Drained);
                });
            }
            Message::Drained => {
                operator.told(Event::Drained { connections: open.load(Ordering::Relaxed) });
                break End::Drained;
            }
            Message::WorkerEnded(index) => return Err(ServeError::WorkerEnded(index)),
        }
    };
    let lost = fleet.stop(end);
    if lost > 0 {
        operator.told(Event::LinesLost(lost));
    }
    Ok(end)
}

fn serve_status(host: &LiveHost, address: SocketAddr, is_ready: &Rc<Cell<bool>>) -> Result<SocketAddr, ServeError> {
    let mut bound = sockets::bind(address, 1)?;
    let socket = bound.remove(0);
    let address = socket.local_addr().map_err(refused("a socket"))?;
    host.give(STATUS, socket);
    let listener = host.listen(STATUS).map_err(refused("a socket"))?;
    host.spawn(
        "agent-status",
        agent::serve_status(host.clone(), listener, Rc::clone(is_ready), agent::istio_paths().into()),
    );
    Ok(address)
}

/// The addresses that are listened on.
#[derive(Default)]
struct Addresses {
    known: Vec<Known>,
    number_next: u16,
}

#[derive(Clone, Copy)]
struct Known {
    wanted: ListenerPlan,
    bound: SocketAddr,
    number: u16,
}

impl Addresses {
    /// Binds what is new in a plan, for all workers; if something cannot be bound, nothing changes.
    fn assign(&mut self, plan: &Plan, workers: usize) -> Result<(Vec<Assignment>, Vec<ListenerPlan>), BindError> {
        let mut next: Vec<Known> = Vec::new();
        let mut new: Vec<(u16, Vec<std::net::TcpListener>)> = Vec::new();
        for wanted in &plan.listeners {
            if let Some(known) = self.known.iter().find(|known| known.wanted == *wanted) {
                next.push(*known);
                continue;
            }
            // The same address for another port of the manifests: both are listened on until the former is closed.
            let is_same = |known: &&Known| known.wanted.address == wanted.address && wanted.address.port() != 0;
            let ours = self.known.iter().find(is_same);
            let sockets = match ours {
                Some(known) => sockets::bind_again(known.bound, workers)?,
                None => sockets::bind(wanted.address, workers)?,
            };
            let bound = sockets[0].local_addr().map_err(|source| BindError { address: wanted.address, source })?;
            // Numbers are used again after 65,535 new listeners; the first ones are gone by then.
            let number = self.number_next;
            self.number_next = (self.number_next + 1) % STATUS;
            next.push(Known { wanted: *wanted, bound, number });
            new.push((number, sockets));
        }
        self.known = next;
        let listeners: Vec<(u16, u16)> = self.known.iter().map(|known| (known.number, known.wanted.port)).collect();
        let mut assignments: Vec<Assignment> = (0..workers)
            .map(|_| Assignment { plan: plan.clone(), sockets: Vec::new(), listeners: listeners.clone() })
            .collect();
        for (number, sockets) in new {
            for (assignment, socket) in assignments.iter_mut().zip(sockets) {
                assignment.sockets.push((number, socket));
            }
        }
        let shown = self.known.iter().map(|known| ListenerPlan { address: known.bound, ..known.wanted });
        Ok((assignments, shown.collect()))
    }
}

/// The workers' ends of the commands, and their open connections: what the agent sees as one gateway.
#[derive(Clone)]
struct Workers {
    commands: Vec<mpsc::UnboundedSender<Command>>,
    open: Arc<AtomicUsize>,
}

impl Proxy for Workers {
    fn obey(&self, order: Order) {
        for commands in &self.commands {
            // A worker that has ended is told by its own message.
            let _ = commands.send(Command::Obey(order));
        }
    }

    fn connection_count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// A seed that nobody knows beforehand.
fn entropy() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

/// The threads.
struct Fleet {
    workers: Workers,
    threads: Vec<JoinHandle<()>>,
    listening: Vec<oneshot::Receiver<()>>,
    log: Option<(JoinHandle<()>, Arc<AtomicU64>)>,
}

/// Says that a worker has ended, also if it panics.
struct SaysEnded(mpsc::UnboundedSender<Message>, usize);

impl Drop for SaysEnded {
    fn drop(&mut self) {
        let _ = self.0.send(Message::WorkerEnded(self.1));
    }
}

impl Fleet {
    fn start(
        settings: &Settings,
        (clock, streams): (Clock, Streams),
        open: &Arc<AtomicUsize>,
        assignments: Vec<Assignment>,
        messages: &mpsc::UnboundedSender<Message>,
    ) -> Result<Self, ServeError> {
        let mut log = None;
        let mut lines = None;
        if let Some(format) = settings.log {
            let (sender, reader, lost) = log::channel(format);
            let thread = Builder::new().name("access-log".to_owned()).spawn(move || reader.write_all());
            log = Some((thread.map_err(refused("a thread"))?, lost));
            lines = Some(sender);
        }
        let workers = Workers { commands: Vec::new(), open: Arc::clone(open) };
        let mut fleet = Self { workers, threads: Vec::new(), listening: Vec::new(), log };
        for (index, first) in assignments.into_iter().enumerate() {
            let (sender, commands) = mpsc::unbounded_channel();
            let (listening, listens) = oneshot::channel();
            let random = streams.stream("live", &format!("worker-{index}"));
            let (settings, open, log) = (settings.clone(), Arc::clone(open), lines.clone());
            let start = Start { settings, clock, random, open, log, commands, first, listening };
            let says_ended = SaysEnded(messages.clone(), index);
            let thread = Builder::new().name(format!("worker-{index}")).spawn(move || {
                let _says_ended = says_ended;
                // Its sockets were bound before; what may still fail here is told as the worker's end.
                let _ = worker::run(start);
            });
            fleet.threads.push(thread.map_err(refused("a thread"))?);
            fleet.workers.commands.push(sender);
            fleet.listening.push(listens);
        }
        Ok(fleet)
    }

    /// Ends when all workers listen; tells the one that ended before.
    async fn all_listen(&mut self) -> Result<(), usize> {
        for (index, listens) in self.listening.drain(..).enumerate() {
            listens.await.map_err(|_| index)?;
        }
        Ok(())
    }

    fn workers(&self) -> Workers {
        self.workers.clone()
    }

    async fn reload(&mut self, addresses: &mut Addresses, settings: &Settings, operator: &mut impl Operator) {
        let Some(plan) = operator.reload() else { return };
        let (assignments, listeners) = match addresses.assign(&plan, settings.workers) {
            Ok(assigned) => assigned,
            Err(error) => return operator.told(Event::NotReloaded(error)),
        };
        let mut waiting = Vec::new();
        for (commands, assignment) in self.workers.commands.iter().zip(assignments) {
            let (done, is_done) = oneshot::channel();
            let _ = commands.send(Command::Apply(assignment, done));
            waiting.push(is_done);
        }
        for is_done in waiting {
            // A worker that has ended is told by its own message.
            let _ = is_done.await;
        }
        operator.told(Event::Reloaded { listeners });
    }

    /// Ends all threads, unless the process is to end at once; returns the lines of the log that were left out.
    fn stop(self, end: End) -> u64 {
        if end != End::Drained {
            return 0;
        }
        for commands in &self.workers.commands {
            let _ = commands.send(Command::Stop);
        }
        for thread in self.threads {
            // A worker that panicked has said so.
            let _ = thread.join();
        }
        let Some((thread, lost)) = self.log else { return 0 };
        let (ended, has_ended) = std::sync::mpsc::channel();
        let waits = Builder::new().spawn(move || {
            let _ = thread.join();
            let _ = ended.send(());
        });
        if waits.is_ok() {
            let _ = has_ended.recv_timeout(LOG_END_MAX);
        }
        lost.load(Ordering::Relaxed)
    }
}
