//! Pods as the control plane has them, and what follows when one of them changes.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::{Cluster, Work};
use crate::cluster::deployment::{PodPhase, Strategy};
use crate::cluster::objects::PodTemplate;
use crate::cluster::scheduler::Change;
use crate::engine::{EventId, Signal};
use crate::units::SimTime;

/// A pod as the control plane has it.
pub(in crate::cluster) struct Pod {
    pub(in crate::cluster) record: PodRecord,
    pub(in crate::cluster) set: u64,
    pub(in crate::cluster) owner: Rc<str>,
    pub(in crate::cluster) template: Rc<PodTemplate>,
    pub(in crate::cluster) node_index: Option<usize>,
    pub(in crate::cluster) ip: Option<Ipv4Addr>,
    pub(in crate::cluster) phase: PodPhase,
    pub(in crate::cluster) is_ready: bool,
    pub(in crate::cluster) ready_since: Option<SimTime>,
    /// When its container last started.
    pub(in crate::cluster) started_at: Option<SimTime>,
    pub(in crate::cluster) restarts: u32,
    /// Which pod of its Deployment it is, as `namespace/name/ordinal`: the name of its random streams. Its draws are the same in a run
    /// whose other Deployments differ.
    pub(in crate::cluster) identity: Rc<str>,
    pub(super) deletion_cost: i32,
    pub(super) uid: String,
    /// Raised when the pod is deleted, with the grace in seconds.
    pub(in crate::cluster) deletion: Signal,
    pub(in crate::cluster) deleted_because: Option<EventId>,
    /// The last event of this pod.
    pub(in crate::cluster) last_event: EventId,
}

impl Pod {
    pub(in crate::cluster) fn is_deleting(&self) -> bool {
        self.deletion.is_raised()
    }

    pub(super) fn is_active(&self) -> bool {
        !self.is_deleting() && !self.phase.is_over()
    }
}

/// The life of a pod: when it came to each of its states, if it did.
#[derive(Clone, Debug)]
pub struct PodRecord {
    /// Its name.
    pub name: Rc<str>,
    /// Its namespace.
    pub namespace: Rc<str>,
    /// Both, as `namespace/name`: every request that reaches the pod is counted under it.
    pub key: Rc<str>,
    /// The Deployment it belongs to, as `namespace/name`.
    pub owner: Rc<str>,
    /// The revision of its template.
    pub revision: i64,
    /// Its node.
    pub node: Option<Rc<str>>,
    /// Its address.
    pub ip: Option<Ipv4Addr>,
    /// Created.
    pub created_at: SimTime,
    /// Bound to a node.
    pub scheduled_at: Option<SimTime>,
    /// Containers running.
    pub started_at: Option<SimTime>,
    /// Ready for the first time.
    pub ready_at: Option<SimTime>,
    /// Its deletion was asked for.
    pub terminating_at: Option<SimTime>,
    /// SIGTERM.
    pub sigterm_at: Option<SimTime>,
    /// The containers had ended.
    pub exited_at: Option<SimTime>,
    /// The object was gone.
    pub gone_at: Option<SimTime>,
    /// Why the containers ended.
    pub exit_reason: Option<&'static str>,
    /// The event of that end.
    pub exit_event: Option<EventId>,
    /// The event of its SIGTERM.
    pub sigterm_event: Option<EventId>,
    /// The last time the kernel killed its process for its memory.
    pub oom: Option<OomKill>,
}

impl PodRecord {
    /// Its container runs again.
    pub(in crate::cluster) fn note_restart(&mut self, now: SimTime) {
        self.exited_at = None;
        if let Some(oom) = &mut self.oom {
            oom.restarted_at.get_or_insert(now);
        }
    }
}

/// The kernel killed a process for its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OomKill {
    /// When.
    pub at: SimTime,
    /// The event of that end.
    pub event: EventId,
    /// When its container ran again, if it has.
    pub restarted_at: Option<SimTime>,
}

/// How many pods of a Deployment are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PodCounts {
    /// Pods that are not being deleted.
    pub active: usize,
    /// Those of them that are ready.
    pub ready: usize,
    /// Those of them that have been ready for long enough.
    pub available: usize,
    /// Pods that are being deleted.
    pub terminating: usize,
}

impl Cluster {
    /// A pod's state has changed: its set's status, and its endpoints, with it.
    pub(in crate::cluster) fn pod_changed(&self, id: u64) {
        let (owner, set) = {
            let mut state = self.inner.state.borrow_mut();
            let Some(pod) = state.pods.get(&id) else { return };
            let set = pod.set;
            let (owner, event, since) = (Rc::clone(&pod.owner), pod.last_event, pod.ready_since);
            let is_ready = pod.is_ready;
            let known = state.deployments.get_mut(&owner);
            let min_ready = known.map_or(0, |known| {
                known.because = Some(event);
                known.spec.min_ready_seconds
            });
            if is_ready && min_ready > 0 && since == Some(self.inner.sim.now()) {
                // Available strictly later than that; the set looks again by itself.
                let wait = Duration::from_secs(min_ready.into()) + Duration::from_nanos(1);
                self.enqueue_after(Work::Set(set), wait);
            }
            (owner, set)
        };
        self.note_counts(&owner);
        self.publish_endpoints(None);
        self.enqueue(Work::Set(set));
    }

    /// A pod is gone: its object, its resources, its endpoint.
    pub(in crate::cluster) fn pod_gone(&self, id: u64) {
        let Some(mut pod) = self.inner.state.borrow_mut().pods.remove(&id) else { return };
        pod.record.gone_at = Some(self.inner.sim.now());
        let object = format!("Pod/{}/{}", pod.record.namespace, pod.record.name);
        let event = self.tell(Some(pod.last_event), "pod_gone", object, Vec::new());
        {
            let mut state = self.inner.state.borrow_mut();
            let known = state.deployments.get_mut(&pod.owner);
            // No step of a rolling update waits for an end.
            if let Some(known) = known.filter(|known| known.spec.strategy == Strategy::Recreate) {
                known.because = Some(event);
            }
            state.placing.release(pod.set, pod.node_index, pod.deletion.is_raised());
            state.records.push(pod.record);
        }
        self.inner.changes.raise(Change::PodGone);
        self.publish_endpoints(Some(event));
        self.enqueue(Work::Set(pod.set));
    }
}

pub(super) fn is_available(pod: &Pod, min_ready_seconds: u32, now: SimTime) -> bool {
    let min_ready = Duration::from_secs(min_ready_seconds.into());
    pod.is_ready && (min_ready.is_zero() || pod.ready_since.is_some_and(|since| since.after(min_ready) < now))
}
