//! The executor: `!Send` futures on one thread, and the queue of timers that moves the clock.
//!
//! Both are built for a few million wake-ups per second of one core, because those bound how fast a world runs. Tasks live in a
//! slab and are found by index; a task's number holds a generation, so that whoever keeps the number of an ended task never
//! meets its successor. `timers` says how timers are kept and `ready` how tasks wait for their turn.

mod heap;
mod lanes;
mod ready;
mod timers;
mod wakeup;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ready::{ReadyQueue, TaskWaker};
pub use timers::TimerKey;
use timers::Timers;
pub use wakeup::Wakeup;
use wakeup::{Current, Whom};

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
    timers: RefCell<Timers>,
    ready: Arc<ReadyQueue>,
    tasks: RefCell<Tasks>,
    /// The task that is being polled.
    current: Cell<Option<Current>>,
    polls_total: Cell<u64>,
    polls_per_instant_max: u64,
}

/// The tasks that have not ended, by the index in their [`TaskId`].
#[derive(Default)]
struct Tasks {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    /// How many tasks had this place before.
    generation: u32,
    task: Option<Task>,
}

struct Task {
    name: &'static str,
    /// Absent while the task is being polled. The waker goes with the future, so that a poll counts no references.
    body: Option<(LocalFuture, Waker)>,
    waker: Arc<TaskWaker>,
}

/// A task's place in the slab and its generation there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct TaskId {
    index: u32,
    generation: u32,
}

impl TaskId {
    /// Both numbers in one, as the ready queue holds them.
    fn packed(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn unpacked(packed: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).expect("half of 64 bits are 32");
        Self { index: half(packed), generation: half(packed >> 32) }
    }
}

impl Tasks {
    fn insert(&mut self, task: impl FnOnce(TaskId) -> Task) -> TaskId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 tasks at a time")
        });
        let slot = &mut self.slots[index as usize];
        let id = TaskId { index, generation: slot.generation };
        slot.task = Some(task(id));
        id
    }

    fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.task.as_mut().filter(|_| slot.generation == id.generation)
    }

    fn contains(&self, id: TaskId) -> bool {
        let slot = self.slots.get(id.index as usize);
        slot.is_some_and(|slot| slot.generation == id.generation && slot.task.is_some())
    }

    /// Takes a task out; what it owns must be dropped when `self` is no longer borrowed, for it may call back.
    fn remove(&mut self, id: TaskId) -> Option<Task> {
        if !self.contains(id) {
            return None;
        }
        let slot = &mut self.slots[id.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        slot.task.take()
    }

    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

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
                timers: RefCell::default(),
                ready: Arc::default(),
                tasks: RefCell::default(),
                current: Cell::new(None),
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
        self.core.timers.borrow().armed_count()
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.core.tasks.borrow().len()
    }

    /// Starts a task. It first runs after the ready tasks before it, at this same instant.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) -> TaskHandle {
        let core = &self.core;
        let future: LocalFuture = Box::pin(future);
        let id = core.tasks.borrow_mut().insert(|id| {
            let waker = Arc::new(TaskWaker::queued(id.packed(), Arc::clone(&core.ready)));
            Task { name, body: Some((future, Waker::from(Arc::clone(&waker)))), waker }
        });
        core.ready.push(id.packed());
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

    /// Whom a waker wakes, in a form that is kept and copied for less than the waker itself.
    #[must_use]
    pub fn wakeup(&self, waker: &Waker) -> Wakeup {
        Wakeup::new(waker, self.core.current.get())
    }

    /// Wakes somebody now.
    pub fn wake(&self, wakeup: Wakeup) {
        match wakeup.0 {
            Whom::Task(id) => {
                if let Some(task) = self.core.tasks.borrow_mut().get_mut(id) {
                    task.waker.queue();
                }
            }
            Whom::Other(waker) => waker.wake(),
        }
    }

    /// Wakes somebody at `at`, or when the world next runs if that has passed. Cheaper than a [`Sleep`] for a caller that keeps
    /// the key and looks at the clock itself.
    pub fn wake_at(&self, at: SimTime, wakeup: Wakeup) -> TimerKey {
        self.core.timers.borrow_mut().arm(self.now(), at, wakeup)
    }

    /// Disarms a timer of [`Sim::wake_at`]. Without effect if it has fired.
    pub fn cancel(&self, key: TimerKey) {
        let wakeup = self.core.timers.borrow_mut().disarm(key);
        drop(wakeup);
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
            let due = self.core.timers.borrow_mut().pop_due(end);
            let Some((at, wakeup)) = due else { break };
            if at > self.now() {
                self.core.now.set(at);
                polls = 0;
            }
            match wakeup.0 {
                // Nobody is ready, so it is its turn: it need not line up.
                Whom::Task(id) => self.poll_counted(id, &mut polls)?,
                other => self.wake(Wakeup(other)),
            }
        }
        self.core.now.set(end.max(self.now()));
        Ok(())
    }

    /// Ends the world: all tasks end as if aborted, in the order of their places. Tasks hold the world they live in, so a world that
    /// is only dropped would stay in memory.
    pub fn end(&self) {
        // A task that goes may start or end others; the list may grow meanwhile.
        let mut index = 0_u32;
        loop {
            let task = {
                let mut tasks = self.core.tasks.borrow_mut();
                let Some(slot) = tasks.slots.get(index as usize) else { return };
                let id = TaskId { index, generation: slot.generation };
                tasks.remove(id)
            };
            drop(task);
            index += 1;
        }
    }

    /// Polls ready tasks until none is left, counting into `polls`, the polls of this instant.
    fn run_ready(&self, polls: &mut u64) -> Result<(), Stall> {
        while let Some(packed) = self.core.ready.pop() {
            self.poll_counted(TaskId::unpacked(packed), polls)?;
        }
        Ok(())
    }

    fn poll_counted(&self, id: TaskId, polls: &mut u64) -> Result<(), Stall> {
        *polls += 1;
        if *polls > self.core.polls_per_instant_max {
            let mut tasks = self.core.tasks.borrow_mut();
            let task = tasks.get_mut(id).map_or("(ended)", |task| task.name).to_owned();
            return Err(Stall { at: self.now(), task });
        }
        self.poll_task(id);
        Ok(())
    }

    fn poll_task(&self, id: TaskId) {
        let core = &self.core;
        let (mut future, waker) = {
            let mut tasks = core.tasks.borrow_mut();
            let Some(task) = tasks.get_mut(id) else { return };
            task.waker.leave_queue();
            let Some(body) = task.body.take() else { return };
            body
        };
        core.polls_total.set(core.polls_total.get() + 1);
        core.current.set(Some(Current::new(&waker, id)));
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        core.current.set(None);
        let mut tasks = core.tasks.borrow_mut();
        match poll {
            Poll::Ready(()) => {
                let ended = tasks.remove(id);
                // What the future owns may call back into the executor as it goes.
                drop(tasks);
                drop((future, ended));
            }
            Poll::Pending => match tasks.get_mut(id) {
                Some(task) => task.body = Some((future, waker)),
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
    fn abort(&self, id: TaskId) {
        let task = self.tasks.borrow_mut().remove(id);
        drop(task);
    }
}

/// A started task. Dropping the handle lets the task go on.
#[derive(Clone)]
pub struct TaskHandle {
    id: TaskId,
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
        self.core.upgrade().is_none_or(|core| !core.tasks.borrow().contains(self.id))
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
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
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
    armed: Option<TimerKey>,
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
        let this = &mut *self;
        let core = &this.sim.core;
        match this.armed {
            None if this.deadline <= core.now.get() => Poll::Ready(()),
            None => {
                this.armed = Some(this.sim.wake_at(this.deadline, this.sim.wakeup(cx.waker())));
                Poll::Pending
            }
            Some(key) => match core.timers.borrow_mut().wakeup_mut(key) {
                Some(wakeup) => {
                    *wakeup = this.sim.wakeup(cx.waker());
                    Poll::Pending
                }
                None => {
                    this.armed = None;
                    Poll::Ready(())
                }
            },
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.armed {
            self.sim.cancel(key);
        }
    }
}

#[cfg(test)]
mod tests;
