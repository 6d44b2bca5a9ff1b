//! Which pods a service's endpoint slices hold, and what they say of them.
//!
//! Upstream: `staging/src/k8s.io/endpointslice/util/controller_utils.go` (`ShouldPodBeInEndpoints`) and
//! `staging/src/k8s.io/endpointslice/utils.go` (`podToEndpoint`). The rules:
//!
//! - A pod that the service selects is in as soon as it has an address, ready or not, and out when its phase is final or
//!   it is gone. Being deleted puts it out of the old Endpoints object, but not out of the slices.
//! - It is *serving* while its Ready condition holds, *terminating* from its deletion on, and *ready* if serving and
//!   not terminating. A service that publishes addresses which are not ready calls all of its pods ready.

use std::collections::BTreeMap;

/// The most endpoints one slice holds.
pub const MAX_ENDPOINTS_PER_SLICE: usize = 100;

/// What of a pod matters to its services' endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EndpointPod {
    /// It has at least one address.
    pub has_ip: bool,
    /// Its phase is `Succeeded` or `Failed`.
    pub finished: bool,
    /// Its Ready condition is true.
    pub ready: bool,
    /// Its deletion has been asked for.
    pub deleting: bool,
}

/// What becomes of the pods that are being deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TerminatingPods {
    /// They stay until they have ended: endpoint slices.
    Include,
    /// They leave at once: the old Endpoints object.
    Exclude,
}

/// What a slice says of one endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndpointConditions {
    /// New connections should go there.
    pub ready: bool,
    /// It would answer, terminating or not.
    pub serving: bool,
    /// It is about to end.
    pub terminating: bool,
}

impl EndpointPod {
    /// Whether the endpoints of a service that selects the pod hold it.
    #[must_use]
    pub fn is_member(&self, terminating: TerminatingPods) -> bool {
        let stays = !self.deleting || terminating == TerminatingPods::Include;
        self.has_ip && !self.finished && stays
    }

    /// The conditions of the pod's endpoint; `publish_not_ready` is the service's `publishNotReadyAddresses`.
    #[must_use]
    pub const fn conditions(&self, publish_not_ready: bool) -> EndpointConditions {
        let (serving, terminating) = (self.ready, self.deleting);
        EndpointConditions { ready: publish_not_ready || (serving && !terminating), serving, terminating }
    }
}

/// Whether a service with this selector selects a pod with these labels. An empty selector selects none.
#[must_use]
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVING: EndpointPod = EndpointPod { has_ip: true, finished: false, ready: true, deleting: false };

    #[test]
    fn deletion_takes_ready_away_and_leaves_serving() {
        let pod = EndpointPod { deleting: true, ..SERVING };
        assert!(pod.is_member(TerminatingPods::Include) && !pod.is_member(TerminatingPods::Exclude));
        let expected = EndpointConditions { ready: false, serving: true, terminating: true };
        assert_eq!(pod.conditions(false), expected);
        assert_eq!(pod.conditions(true), EndpointConditions { ready: true, ..expected });
        assert!(SERVING.conditions(false).ready);
    }

    #[test]
    fn a_pod_that_has_ended_is_out_even_while_it_is_deleted() {
        let pod = EndpointPod { finished: true, deleting: true, ..SERVING };
        assert!(!pod.is_member(TerminatingPods::Include));
    }

    #[test]
    fn a_selector_wants_all_of_its_labels() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let labels = map(&[("app", "shop"), ("tier", "web")]);
        assert!(selects(&map(&[("app", "shop")]), &labels));
        assert!(!selects(&map(&[("app", "shop"), ("tier", "db")]), &labels));
        assert!(!selects(&map(&[]), &labels));
    }
}
