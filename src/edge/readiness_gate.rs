//! Which endpoints the balancer's controller takes as targets, and the readiness gate that it opens.
//!
//! An endpoint that terminates is left out at once, one that is ready is in. One that is not ready is out, unless its pod has the gate of this Service:
//! then it is in as soon as its containers are ready. Until they are, nothing would tell the controller: the pod's endpoint does not change
//! when its containers become ready and its gate is closed. So it looks again after a fixed time, for as long as there is such a pod.
//!
//! The controller writes the gate's condition as true when the pod has been added. That says that the balancer knows the pod, and not that the
//! balancer's health checks pass.
//!
//! Source: kubernetes/cloud-provider-alibaba-cloud eeb0ddc68, pkg/controller/service/reconcile/backend,
//! pkg/controller/service/{clbv1,nlbv2}.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::cluster::EndpointView;

/// The prefix of the conditions that the controller sets; the Service's name follows.
pub const CONDITION_PREFIX: &str = "service.readiness.alibabacloud.com/";

/// After a look that found a pod whose containers are not ready, the next one comes at the latest then.
pub const RECHECK: Duration = Duration::from_secs(10);

/// The condition that the controller sets for pods of a Service, named `namespace/name`.
#[must_use]
pub fn condition_of(service: &str) -> String {
    format!("{CONDITION_PREFIX}{}", service.rsplit('/').next().unwrap_or_default())
}

/// What the controller makes of the endpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection {
    /// All endpoints; those that it takes are ready.
    pub endpoints: Vec<EndpointView>,
    /// Those that it takes for their gate: their condition is set when they have been added.
    pub gated: Vec<Ipv4Addr>,
    /// There are pods that may come to be ready without a change of their endpoints.
    pub looks_again: bool,
}

/// Judges the endpoints; `gate_of` says of a pod with the gate whether its containers are ready, and nothing of any other.
#[must_use]
pub fn select(endpoints: Vec<EndpointView>, gate_of: impl Fn(Ipv4Addr) -> Option<bool>) -> Selection {
    let mut selection = Selection { endpoints, gated: Vec::new(), looks_again: false };
    for endpoint in &mut selection.endpoints {
        if endpoint.terminating {
            endpoint.ready = false;
            continue;
        }
        match gate_of(endpoint.ip) {
            Some(are_containers_ready) if endpoint.ready || are_containers_ready => {
                endpoint.ready = true;
                selection.gated.push(endpoint.ip);
            }
            Some(_) => selection.looks_again = true,
            None => {}
        }
    }
    selection
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn endpoint(state: &str) -> EndpointView {
        EndpointView {
            ip: Ipv4Addr::new(10, 64, 0, 1),
            pod: Rc::from("edge-1"),
            node: Rc::from("node-1"),
            ready: state == "ready",
            serving: state != "not ready",
            terminating: state == "terminating",
            because: None,
        }
    }

    #[test]
    fn an_endpoint_that_is_not_ready_is_taken_only_for_its_open_containers() {
        for (state, gate, taken, gated, looks_again) in [
            ("ready", None, true, false, false),
            ("not ready", None, false, false, false),
            ("terminating", None, false, false, false),
            ("ready", Some(true), true, true, false),
            ("not ready", Some(true), true, true, false),
            ("not ready", Some(false), false, false, true),
            ("terminating", Some(true), false, false, false),
            ("terminating", Some(false), false, false, false),
        ] {
            let selection = select(vec![endpoint(state)], |_| gate);
            let found = (selection.endpoints[0].ready, !selection.gated.is_empty(), selection.looks_again);
            assert_eq!(found, (taken, gated, looks_again), "{state}, {gate:?}");
        }
    }

    #[test]
    fn a_gate_bears_the_name_of_its_service_alone() {
        assert_eq!(condition_of("istio-system/edge"), "service.readiness.alibabacloud.com/edge");
    }
}
