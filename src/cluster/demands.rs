//! What is asked of a pod's end: by whoever deletes it, and by its own kubelet. Its node agent reads that, even when the pod's object is gone.
//!
//! A second request can only shorten the grace of the first. One for no grace at all takes the object away at once.
//! Source: Kubernetes v1.28.7 staging/src/k8s.io/apiserver/pkg/registry/rest/delete.go (`BeforeDelete`), pkg/kubelet/pod_workers.go
//! (`calculateEffectiveGracePeriod`).

use std::cell::Cell;

use super::kubelet::grace::TerminationGrace;
use super::notice::Notice;
use crate::engine::EventId;

/// The requests to end a pod, as they stand.
#[derive(Default)]
pub(super) struct Demands {
    deletion_seconds: Cell<Option<u32>>,
    kubelet_seconds: Cell<Option<u32>>,
    because: Cell<Option<EventId>>,
    changes: Notice,
}

impl Demands {
    /// Whether a deletion with this grace would be the first, or shorten the one in force.
    pub(super) fn is_new(&self, seconds: u32) -> bool {
        self.deletion_seconds.get().is_none_or(|before| seconds < before)
    }

    /// A deletion that [is new](Self::is_new).
    pub(super) fn delete(&self, seconds: u32, because: EventId) {
        self.deletion_seconds.set(Some(seconds));
        self.because.set(Some(because));
        self.changes.raise();
    }

    /// The kubelet has a reason of its own, and gives the pod so long.
    pub(super) fn end_within(&self, seconds: u32) {
        self.kubelet_seconds.set(Some(seconds));
        self.changes.raise();
    }

    /// The grace of the deletion in seconds, if that has been asked for.
    pub(super) fn deletion_seconds(&self) -> Option<u32> {
        self.deletion_seconds.get()
    }

    /// What the kubelet gives it for a reason of its own.
    pub(super) fn kubelet_seconds(&self) -> Option<u32> {
        self.kubelet_seconds.get()
    }

    /// The event of the last deletion.
    pub(super) fn because(&self) -> Option<EventId> {
        self.because.get()
    }

    /// Tells of each change.
    pub(super) fn changes(&self) -> &Notice {
        &self.changes
    }

    /// Takes them all into account; whether that shortens a grace in force. `own_seconds` counts for who is not asked otherwise.
    pub(super) fn count(&self, grace: &mut TerminationGrace, own_seconds: u32) -> bool {
        grace.request(self.deletion_seconds.get(), self.kubelet_seconds.get(), Some(own_seconds))
    }
}
