//! The clients through which the control plane's components call the API server: who has to wait, and for how long.
//!
//! Who shares a client: in the controller-manager nobody, since each controller is given one by its name; but before 1.29 the deletions for taints
//! are part of the node controller. The autoscaler has several: one for its objects and their events, one for the sizes of its targets, and one
//! for each API of metrics.
//!
//! Source: Kubernetes v1.28.7 cmd/kube-controller-manager/app/{apps,autoscaling,core,discovery,policy}.go,
//! pkg/controller/nodelifecycle/node_lifecycle_controller.go, pkg/kubelet/status/status_manager.go; kubernetes/enhancements KEP-3902.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Cluster, Work};
use crate::cluster::api_client::{ClientLimits, ClientRates, TokenBucket};
use crate::cluster::version::Version;
use crate::units::SimTime;

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::cluster) enum Caller {
    /// The controller of Deployments.
    Deployments,
    /// The controller of `ReplicaSet`s.
    Sets,
    /// The controller of `DaemonSet`s.
    Daemons,
    /// The garbage collector: it deletes what its owner's deletion has left behind.
    Collector,
    /// The controller of budgets.
    Budgets,
    /// The controller of `EndpointSlice`s.
    Endpoints,
    /// The controller of autoscalers: their status, and events.
    Autoscalers,
    /// The same controller: the sizes of its targets.
    Scales,
    /// The same controller: samples, from one of the APIs of metrics.
    Metrics(MetricsApi),
    /// The controller that looks whether nodes live.
    Nodes,
    /// Who deletes pods that do not bear their node's taints, where that is a controller of its own.
    Taints,
    /// Who deletes the pods of nodes that are gone.
    PodCollector,
    /// The scheduler.
    Scheduler,
    /// The kubelet of the node with this index.
    Kubelet(usize),
    /// The drain with this number.
    Drain(u64),
    /// The cluster autoscaler.
    NodeAutoscaler,
}

/// Where samples come from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::cluster) enum MetricsApi {
    /// Processor and memory of pods.
    Resource,
    /// Metrics of pods and of objects.
    Custom,
    /// Metrics of what is outside.
    External,
}

/// The clients, and the recorders of events.
pub(in crate::cluster) struct Clients {
    rates: ClientRates,
    version: Version,
    /// Who has called so far.
    buckets: BTreeMap<Caller, TokenBucket>,
    /// By the object that events are about.
    events: BTreeMap<Work, TokenBucket>,
    /// Drains so far.
    drains: u64,
}

impl Clients {
    pub(super) fn new(rates: ClientRates, version: Version) -> Self {
        Self { rates, version, buckets: BTreeMap::new(), events: BTreeMap::new(), drains: 0 }
    }

    pub(super) fn bucket(&mut self, caller: Caller) -> &mut TokenBucket {
        let limits = match caller {
            Caller::Scheduler => self.rates.scheduler,
            Caller::Kubelet(_) => self.rates.kubelets.unwrap_or_else(|| ClientLimits::of_kubelet(self.version)),
            Caller::Drain(_) | Caller::NodeAutoscaler => self.rates.drains,
            _ => self.rates.controllers,
        };
        self.buckets.entry(caller).or_insert_with(|| TokenBucket::of_client(limits))
    }

    /// A client for a drain.
    pub(super) fn next_drain(&mut self) -> Caller {
        self.drains += 1;
        Caller::Drain(self.drains)
    }

    /// Who deletes pods for taints: a controller of its own from 1.29 on.
    pub(super) fn of_taints(&self) -> Caller {
        if self.version >= Version::new(1, 29) { Caller::Taints } else { Caller::Nodes }
    }

    /// The calls that a deletion on behalf of the cluster takes: from 1.26 on the reason is written to the pod before
    /// (`PodDisruptionConditions`).
    pub(super) fn calls_to_delete(&self) -> u32 {
        if self.version >= Version::new(1, 26) { 2 } else { 1 }
    }
}

impl Cluster {
    /// A call to the API server: when it goes out. What makes the world that the run finds costs nothing.
    pub(in crate::cluster) fn call(&self, caller: Caller) -> SimTime {
        self.calls(caller, 1)
    }

    /// Calls to the API server, one after the other: when the last one goes out.
    pub(in crate::cluster) fn calls(&self, caller: Caller, count: u32) -> SimTime {
        let now = self.inner.sim.now();
        if self.stands() {
            return now;
        }
        let mut state = self.inner.state.borrow_mut();
        let bucket = state.clients.bucket(caller);
        (0..count).map(|_| bucket.take(now)).last().unwrap_or(now)
    }

    /// The same: ends when the last one goes out. Whether that took time.
    pub(in crate::cluster) async fn called(&self, caller: Caller, count: u32) -> bool {
        let at = self.calls(caller, count);
        let waits = at > self.inner.sim.now();
        if waits {
            self.inner.sim.sleep_until(at).await;
        }
        waits
    }

    /// The same: does something when the last one goes out, at once if nobody has to wait.
    pub(super) fn when_called(&self, caller: Caller, count: u32, what: impl FnOnce(&Self) + 'static) {
        let at = self.calls(caller, count);
        if at <= self.inner.sim.now() {
            return what(self);
        }
        let this = self.clone();
        self.inner.sim.spawn("api-call", async move {
            this.inner.sim.sleep_until(at).await;
            what(&this);
        });
    }

    /// Calls of a node's kubelet, which runs containers: ends when the last one goes out. Whether that took time.
    pub(in crate::cluster) async fn kubelet_called(&self, index: Option<usize>, count: u32) -> bool {
        match index {
            Some(index) => self.called(Caller::Kubelet(index), count).await,
            None => false,
        }
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
