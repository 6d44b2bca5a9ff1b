//! The clients through which the control plane's components call the API server: who has to wait, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Cluster, Work};
use crate::cluster::api_client::{ClientRates, TokenBucket};
use crate::units::SimTime;

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::cluster) enum Caller {
    /// The controller of Deployments.
    Deployments,
    /// The controller of `ReplicaSet`s.
    Sets,
    /// The controller of budgets.
    Budgets,
    /// The scheduler.
    Scheduler,
}

/// The clients, and the recorders of events.
pub(in crate::cluster) struct Clients {
    buckets: BTreeMap<Caller, TokenBucket>,
    /// By the object that events are about.
    events: BTreeMap<Work, TokenBucket>,
}

impl Clients {
    pub(super) fn new(rates: ClientRates) -> Self {
        let controller = TokenBucket::of_client(rates.controllers);
        let buckets = BTreeMap::from([
            (Caller::Deployments, controller),
            (Caller::Sets, controller),
            (Caller::Budgets, controller),
            (Caller::Scheduler, TokenBucket::of_client(rates.scheduler)),
        ]);
        Self { buckets, events: BTreeMap::new() }
    }

    fn bucket(&mut self, caller: Caller) -> &mut TokenBucket {
        self.buckets.get_mut(&caller).expect("every caller has a client")
    }
}

impl Cluster {
    /// A call to the API server: when it goes out. What makes the world that the run finds costs nothing.
    pub(in crate::cluster) fn call(&self, caller: Caller) -> SimTime {
        let now = self.inner.sim.now();
        if self.stands() { now } else { self.inner.state.borrow_mut().clients.bucket(caller).take(now) }
    }

    /// Whether so many calls would all go out at once.
    pub(super) fn has_calls(&self, caller: Caller, count: usize) -> bool {
        self.inner.state.borrow_mut().clients.bucket(caller).has(count, self.inner.sim.now())
    }

    /// How long whoever wants to call would have to wait.
    pub(super) fn wait_for(&self, caller: Caller) -> Duration {
        let now = self.inner.sim.now();
        self.inner.state.borrow_mut().clients.bucket(caller).free_at(now).since(now)
    }

    /// Records an event about an object: a call that nobody waits for, unless there are too many of that object.
    pub(super) fn record_event(&self, caller: Caller, about: Work) {
        if self.stands() {
            return;
        }
        let now = self.inner.sim.now();
        let mut state = self.inner.state.borrow_mut();
        let recorder = state.clients.events.entry(about).or_insert_with(TokenBucket::of_events);
        if recorder.take_now(now) {
            state.clients.bucket(caller).take(now);
        }
    }
}
