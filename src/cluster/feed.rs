//! What consumers see of a Service's endpoints, and when.
//!
//! Every change of an endpoint reaches every consumer after a delay of its own: from the pod's state over the `EndpointSlice` and
//! the watch to whoever acts on it. A consumer sees changes in the order in which they happened.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::endpoints::EndpointConditions;
use super::notice::until;
use crate::engine::{EventId, Sim};
use crate::units::SimTime;

/// An endpoint of a Service as one consumer sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointView {
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The pod's name.
    pub pod: Rc<str>,
    /// The node it runs on.
    pub node: Rc<str>,
    /// It gets new connections.
    pub ready: bool,
    /// Its readiness probe passes, whether or not it terminates.
    pub serving: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// The event that brought it into this state.
    pub because: Option<EventId>,
}

impl EndpointView {
    /// What its slice says of it.
    pub(super) fn conditions(&self) -> EndpointConditions {
        EndpointConditions { ready: self.ready, serving: self.serving, terminating: self.terminating }
    }
}

/// A consumer's view of one Service.
pub struct EndpointWatch {
    sim: Sim,
    queue: Rc<RefCell<Queue>>,
    edition: u64,
}

/// All endpoints of a Service at one time.
pub(super) type Snapshot = Rc<[EndpointView]>;

#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<(SimTime, Snapshot, u64)>,
    last_at: SimTime,
    waker: Option<Waker>,
}

impl Queue {
    /// A snapshot by an edition of its Service, which arrives `at`, or behind the one before it; when it does.
    pub(super) fn push(&mut self, at: SimTime, snapshot: Snapshot, edition: u64) -> SimTime {
        self.last_at = self.last_at.max(at);
        self.waiting.push_back((self.last_at, snapshot, edition));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        self.last_at
    }
}

impl EndpointWatch {
    pub(super) fn new(sim: &Sim, queue: Rc<RefCell<Queue>>) -> Self {
        Self { sim: sim.clone(), queue, edition: 0 }
    }

    /// The next state of all endpoints. The first comes with the consumer's first delay.
    pub async fn next(&mut self) -> Rc<[EndpointView]> {
        loop {
            let front = self.queue.borrow().waiting.front().map(|(at, ..)| *at);
            match front {
                Some(at) => {
                    self.sim.sleep_until(at).await;
                    if let Some((_, snapshot, edition)) = self.queue.borrow_mut().waiting.pop_front() {
                        self.edition = edition;
                        return snapshot;
                    }
                }
                None => {
                    poll_fn(|cx| {
                        let mut queue = self.queue.borrow_mut();
                        if queue.waiting.is_empty() {
                            queue.waker = Some(cx.waker().clone());
                            Poll::Pending
                        } else {
                            Poll::Ready(())
                        }
                    })
                    .await;
                }
            }
        }
    }

    /// The edition of the Service by which the last state was worked out.
    #[must_use]
    pub const fn edition(&self) -> u64 {
        self.edition
    }

    /// The next state, unless it comes later than `limit`.
    pub async fn next_by(&mut self, limit: Option<SimTime>) -> Option<Rc<[EndpointView]>> {
        match limit {
            None => Some(self.next().await),
            Some(limit) => {
                let sim = self.sim.clone();
                until(sim.sleep_until(limit), self.next()).await
            }
        }
    }

    /// The state that follows this one when no other comes at once, and how many came: where nothing takes time, as at the start of a run, changes come one
    /// after the other within an instant, and who acts on the last of them alone does the same at less cost.
    pub async fn last_at_once(&mut self, mut seen: Rc<[EndpointView]>) -> (Rc<[EndpointView]>, usize) {
        let mut count = 0;
        loop {
            after_the_ready().await;
            let before = count;
            while let Some(newer) = self.next_now() {
                (seen, count) = (newer, count + 1);
            }
            if count == before {
                return (seen, count);
            }
        }
    }

    /// The next state, if it has come already.
    pub fn next_now(&mut self) -> Option<Rc<[EndpointView]>> {
        let mut queue = self.queue.borrow_mut();
        let has_come = queue.waiting.front().is_some_and(|(at, ..)| *at <= self.sim.now());
        let (_, snapshot, edition) = if has_come { queue.waiting.pop_front()? } else { return None };
        self.edition = edition;
        Some(snapshot)
    }
}

/// Lets all tasks have their turn that are ready now.
async fn after_the_ready() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
