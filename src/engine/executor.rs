//! The executor: `!Send` futures on one thread, and the queue of timers that moves the clock.
//!
//! Timers live in a `BTreeMap` keyed by `(time, sequence)`: a little slower than a heap, but a cancelled entry is really
//! gone, where a heap would keep it until its time comes. Wakers are `Arc`s because the standard library has no safe
//! waker without one; their lock is never contended.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::units::SimTime;

/// Polls allowed at one instant before the run counts as stalled. A busy instant of a large world needs thousands.
const POLLS_PER_INSTANT_MAX: u64 = 5_000_000;

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// A handle to the virtual world's clock and executor; clones share it.
#[derive(Clone)]
pub struct Sim {
    core: Rc<Core>,
}

struct Core {
    now: Cell<SimTime>,
    sequence: Cell<u64>,
    timers: RefCell<BTreeMap<(SimTime, u64), Waker>>,
    ready: Arc<ReadyQueue>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    task_next: Cell<u64>,
    polls_total: Cell<u64>,
    polls_per_instant_max: u64,
}

struct Task {
    name: Rc<str>,
    /// Absent while the task is being polled.
    future: Option<LocalFuture>,
    waker: Arc<TaskWaker>,
}

#[derive(Default)]
struct ReadyQueue(Mutex<VecDeque<u64>>);

impl ReadyQueue {
    fn push(&self, task: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(task);
    }

    fn pop(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

struct TaskWaker {
    task: u64,
    is_queued: AtomicBool,
    ready: Arc<ReadyQueue>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            self.ready.push(self.task);
        }
    }
}

/// An armed timer: its time and its place among those of the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerKey(SimTime, u64);

/// The world makes no progress: too many polls at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When the clock stopped moving.
    pub at: SimTime,
    /// The task that was polled last.
    pub task: String,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the world makes no progress at {}: task `{}` keeps waking itself", self.at, self.task)
    }
}

impl std::error::Error for Stall {}

impl Default for Sim {
    fn default() -> Self {
        Self::new()
    }
}

impl Sim {
    /// A world at time zero with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::with_poll_limit(POLLS_PER_INSTANT_MAX)
    }

    /// Like [`Sim::new`], with another number of polls at one instant that counts as a stall.
    #[must_use]
    pub fn with_poll_limit(polls_per_instant_max: u64) -> Self {
        Self {
            core: Rc::new(Core {
                now: Cell::new(SimTime::ZERO),
                sequence: Cell::new(0),
                timers: RefCell::default(),
                ready: Arc::default(),
                tasks: RefCell::default(),
                task_next: Cell::new(0),
                polls_total: Cell::new(0),
                polls_per_instant_max,
            }),
        }
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.core.now.get()
    }

    /// How often a task has been polled since the start: the engine's measure of work.
    #[must_use]
    pub fn polls_total(&self) -> u64 {
        self.core.polls_total.get()
    }

    /// Timers now armed.
    #[must_use]
    pub fn timer_count(&self) -> usize {
        self.core.timers.borrow().len()
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.core.tasks.borrow().len()
    }

    /// Starts a task. It first runs after the ready tasks before it, at this same instant.
    pub fn spawn(&self, name: &str, future: impl Future<Output = ()> + 'static) -> TaskHandle {
        let core = &self.core;
        let id = core.task_next.replace(core.task_next.get() + 1);
        let waker = Arc::new(TaskWaker { task: id, is_queued: AtomicBool::new(true), ready: Arc::clone(&core.ready) });
        let task = Task { name: Rc::from(name), future: Some(Box::pin(future)), waker };
        core.tasks.borrow_mut().insert(id, task);
        core.ready.push(id);
        TaskHandle { id, core: Rc::downgrade(core) }
    }

    /// Ends `span` from now. Dropping the future disarms it.
    #[must_use]
    pub fn sleep(&self, span: Duration) -> Sleep {
        self.sleep_until(self.now().after(span))
    }

    /// Ends at `deadline`, or at once if that has passed. Dropping the future disarms it.
    #[must_use]
    pub fn sleep_until(&self, deadline: SimTime) -> Sleep {
        Sleep { sim: self.clone(), deadline, armed: None }
    }

    /// Wakes `waker` at `at`, or when the world next runs if that has passed. Cheaper than a [`Sleep`] for a caller that keeps
    /// the key and looks at the clock itself.
    pub fn wake_at(&self, at: SimTime, waker: Waker) -> TimerKey {
        let core = &self.core;
        let key = TimerKey(at, core.sequence.replace(core.sequence.get() + 1));
        core.timers.borrow_mut().insert((key.0, key.1), waker);
        key
    }

    /// Disarms a timer of [`Sim::wake_at`]. Without effect if it has fired.
    pub fn cancel(&self, key: TimerKey) {
        let waker = self.core.timers.borrow_mut().remove(&(key.0, key.1));
        drop(waker);
    }

    /// Runs the world up to and including `end`, and leaves the clock there.
    ///
    /// # Errors
    ///
    /// [`Stall`] if the clock stops moving. The world must not be run further then.
    pub fn run_until(&self, end: SimTime) -> Result<(), Stall> {
        let mut polls = 0;
        loop {
            self.run_ready(&mut polls)?;
            let mut timers = self.core.timers.borrow_mut();
            let Some(due) = timers.first_entry().filter(|entry| entry.key().0 <= end) else { break };
            let at = due.key().0;
            let waker = due.remove();
            drop(timers);
            if at > self.now() {
                self.core.now.set(at);
                polls = 0;
            }
            waker.wake();
        }
        self.core.now.set(end.max(self.now()));
        Ok(())
    }

    /// Polls ready tasks until none is left, counting into `polls`, the polls of this instant.
    fn run_ready(&self, polls: &mut u64) -> Result<(), Stall> {
        while let Some(id) = self.core.ready.pop() {
            *polls += 1;
            if *polls > self.core.polls_per_instant_max {
                let tasks = self.core.tasks.borrow();
                let task = tasks.get(&id).map_or_else(|| "(ended)".to_owned(), |task| task.name.to_string());
                return Err(Stall { at: self.now(), task });
            }
            self.poll_task(id);
        }
        Ok(())
    }

    fn poll_task(&self, id: u64) {
        let core = &self.core;
        let (mut future, task_waker) = {
            let mut tasks = core.tasks.borrow_mut();
            let Some(task) = tasks.get_mut(&id) else { return };
            task.waker.is_queued.store(false, Ordering::Relaxed);
            let Some(future) = task.future.take() else { return };
            (future, Arc::clone(&task.waker))
        };
        core.polls_total.set(core.polls_total.get() + 1);
        let waker = Waker::from(task_waker);
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut tasks = core.tasks.borrow_mut();
        match poll {
            Poll::Ready(()) => {
                let ended = tasks.remove(&id);
                // What the future owns may call back into the executor as it goes.
                drop(tasks);
                drop((future, ended));
            }
            Poll::Pending => match tasks.get_mut(&id) {
                Some(task) => task.future = Some(future),
                // Aborted from within its own poll.
                None => {
                    drop(tasks);
                    drop(future);
                }
            },
        }
    }
}

impl Core {
    fn abort(&self, id: u64) {
        let task = self.tasks.borrow_mut().remove(&id);
        drop(task);
    }
}

/// A started task. Dropping the handle lets the task go on.
#[derive(Clone)]
pub struct TaskHandle {
    id: u64,
    core: Weak<Core>,
}

impl TaskHandle {
    /// Ends the task now and drops all it owns. Without effect on a task that has ended.
    pub fn abort(&self) {
        if let Some(core) = self.core.upgrade() {
            core.abort(self.id);
        }
    }

    /// Whether the task has ended or was aborted.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.core.upgrade().is_none_or(|core| !core.tasks.borrow().contains_key(&self.id))
    }
}

/// Tasks that die together, as the threads of a process do. Clones share the group.
#[derive(Clone)]
pub struct TaskGroup {
    sim: Sim,
    members: Rc<RefCell<Members>>,
}

#[derive(Default)]
struct Members {
    handles: Vec<TaskHandle>,
    /// Ended members are swept out when the list reaches this length, so that it stays within twice the living.
    sweep_at: usize,
    is_dead: bool,
}

impl TaskGroup {
    /// A group with no tasks.
    #[must_use]
    pub fn new(sim: &Sim) -> Self {
        Self { sim: sim.clone(), members: Rc::default() }
    }

    /// Starts a task of this group. A dead group starts nothing: the future is dropped.
    pub fn spawn(&self, name: &str, future: impl Future<Output = ()> + 'static) {
        let mut members = self.members.borrow_mut();
        if members.is_dead {
            drop(members);
            drop(future);
            return;
        }
        if members.handles.len() >= members.sweep_at {
            members.handles.retain(|handle| !handle.is_ended());
            members.sweep_at = (2 * members.handles.len()).max(16);
        }
        members.handles.push(self.sim.spawn(name, future));
    }

    /// Ends all tasks in the order in which they started; the group can start no more.
    pub fn abort(&self) {
        let handles = {
            let mut members = self.members.borrow_mut();
            members.is_dead = true;
            std::mem::take(&mut members.handles)
        };
        for handle in handles {
            handle.abort();
        }
    }

    /// Entries kept for tasks, ended ones not yet swept included.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.members.borrow().handles.len()
    }
}

/// A timer as a future. It is armed at its first poll, and disarmed when dropped.
pub struct Sleep {
    sim: Sim,
    deadline: SimTime,
    armed: Option<(SimTime, u64)>,
}

impl Sleep {
    /// When it ends.
    #[must_use]
    pub fn deadline(&self) -> SimTime {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let core = Rc::clone(&self.sim.core);
        let mut timers = core.timers.borrow_mut();
        match self.armed {
            None if self.deadline <= core.now.get() => Poll::Ready(()),
            None => {
                let key = (self.deadline, core.sequence.replace(core.sequence.get() + 1));
                timers.insert(key, cx.waker().clone());
                self.armed = Some(key);
                Poll::Pending
            }
            Some(key) => match timers.get_mut(&key) {
                Some(waker) => {
                    waker.clone_from(cx.waker());
                    Poll::Pending
                }
                None => {
                    self.armed = None;
                    Poll::Ready(())
                }
            },
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.armed {
            let waker = self.sim.core.timers.borrow_mut().remove(&key);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests;
