//! Rollouts: when each began and ended, and the most and the fewest pods it had.

use std::rc::Rc;

use super::{Cluster, State};
use crate::units::SimTime;

/// One rollout of one Deployment, or of one `DaemonSet`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rollout {
    /// The Deployment, as `namespace/name`, or the `DaemonSet`, as `namespace/daemonset/name`.
    pub object: Rc<str>,
    /// The revision rolled out.
    pub revision: i64,
    /// When its set was made; one that recreates: when its first old pods were to go.
    pub started_at: SimTime,
    /// When every wanted pod was of this revision and available.
    pub ended_at: Option<SimTime>,
    /// When it had made no progress for `progressDeadlineSeconds`, the first time.
    pub stuck_at: Option<SimTime>,
    /// Most pods at one time, those being deleted left out.
    pub pods_max: usize,
    /// Fewest ready pods at one time, those being deleted left out.
    pub ready_min: usize,
}

impl Rollout {
    /// One that begins.
    pub(super) fn begun(owner: &Rc<str>, revision: i64, started_at: SimTime) -> Self {
        let object = Rc::clone(owner);
        Self { object, revision, started_at, ended_at: None, stuck_at: None, pods_max: 0, ready_min: usize::MAX }
    }
}

impl State {
    /// The index of the rollout of an owner that is under way.
    fn rollout_of(&self, owner: &str) -> Option<usize> {
        let of_daemon = || self.daemons.get(owner).and_then(|known| known.rollout);
        self.deployments.get(owner).map_or_else(of_daemon, |known| known.rollout)
    }
}

impl Cluster {
    /// All rollouts, in the order of their start.
    #[must_use]
    pub fn rollouts(&self) -> Vec<Rollout> {
        self.inner.state.borrow().rollouts.clone()
    }

    /// Whether any has begun.
    #[must_use]
    pub fn has_rolled(&self) -> bool {
        !self.inner.state.borrow().rollouts.is_empty()
    }

    /// A rollout that is under way takes note of its pods.
    pub(super) fn note_counts(&self, owner: &Rc<str>) {
        let index = self.inner.state.borrow().rollout_of(owner);
        if let Some(index) = index {
            let counts = self.counts(owner);
            let rollout = &mut self.inner.state.borrow_mut().rollouts[index];
            rollout.pods_max = rollout.pods_max.max(counts.active);
            rollout.ready_min = rollout.ready_min.min(counts.ready);
        }
    }
}
