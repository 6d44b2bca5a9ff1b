//! The endpoints controller: works out the endpoints of all Services and tells their consumers.
//!
//! Source: Kubernetes v1.28.7 staging/src/k8s.io/endpointslice.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::Cluster;
use super::pod::Pod;
use super::pods::Pods;
use super::services::ServiceState;
use crate::cluster::endpoints::{EndpointConditions, EndpointPod, TerminatingPods, selects};
use crate::cluster::feed::EndpointView;
use crate::engine::{Datum, EventId};

impl Cluster {
    /// Works out all endpoints anew and tells the consumers of those that changed.
    pub(in crate::cluster) fn publish_all_endpoints(&self) {
        {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            for service in state.services.known.values_mut() {
                let selector = &service.spec.selector;
                let members = state.pods.iter().filter(|(_, pod)| selects(selector, &pod.template.labels));
                service.members = members.map(|(id, _)| *id).collect();
            }
        }
        self.publish(|_| true, None);
    }

    /// Works out the endpoints of the Services of a pod that has changed, and tells the consumers; `left` is the event of its end, if it is gone.
    pub(in crate::cluster) fn publish_endpoints_of(&self, id: u64, left: Option<EventId>) {
        let is_concerned = |service: &mut ServiceState, pod: Option<&Pod>| match pod {
            Some(pod) if selects(&service.spec.selector, &pod.template.labels) => {
                service.members.insert(id);
                true
            }
            _ => service.members.remove(&id),
        };
        let mut concerned = BTreeSet::new();
        {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            for (key, service) in &mut state.services.known {
                if is_concerned(service, state.pods.get(&id)) {
                    concerned.insert(Rc::clone(key));
                }
            }
        }
        if !concerned.is_empty() {
            self.publish(|key| concerned.contains(key), left);
        }
    }

    /// Works out the endpoints of some Services.
    fn publish(&self, is_meant: impl Fn(&str) -> bool, left: Option<EventId>) {
        let now = self.inner.sim.now();
        let mut state = self.inner.state.borrow_mut();
        let state = &mut *state;
        for (key, service) in &mut state.services.known {
            if !is_meant(key) {
                continue;
            }
            let Some(Difference { endpoints, pods, changed, gone }) = difference(service, &state.pods) else {
                continue;
            };
            let object = self.inner.config.identity.object(format!("Service/{}", service.spec.key));
            let mut log = self.inner.log.borrow_mut();
            for endpoint in &changed {
                let states = (endpoint.ready, endpoint.serving, endpoint.terminating);
                log.record(
                    now,
                    endpoint.because,
                    "endpoint",
                    object.as_str(),
                    endpoint_data(endpoint.ip, states, false),
                );
            }
            for endpoint in &gone {
                let because = left.or(endpoint.because);
                let states = (false, false, endpoint.terminating);
                log.record(now, because, "endpoint", object.as_str(), endpoint_data(endpoint.ip, states, true));
            }
            drop(log);
            service.snapshot = Rc::from(endpoints);
            service.snapshot_pods = pods;
            service.change += 1;
            for (consumer, queue) in &service.consumers {
                let purpose = format!("{}/{consumer}/{}", service.spec.key, service.change);
                let drawn =
                    self.inner.config.endpoint_propagation.draw(&mut self.inner.streams.stream("endpoint", &purpose));
                let delay = if self.stands() { Duration::ZERO } else { drawn };
                queue.borrow_mut().push(now.after(delay), Rc::clone(&service.snapshot), service.edition);
            }
        }
    }
}

/// How the endpoints of a Service are, if that is not as its snapshot says.
struct Difference {
    endpoints: Vec<EndpointView>,
    /// Their pods, one by one.
    pods: Vec<u64>,
    /// Those of them that are new, or in another state.
    changed: Vec<EndpointView>,
    /// Those that are no more.
    gone: Vec<EndpointView>,
}

/// Walks along members and snapshot, which both stand in the order of the pods. A large Service has many members and one of them changes, so that what
/// stays costs a look and no more.
fn difference(service: &ServiceState, pods: &Pods) -> Option<Difference> {
    let publish_not_ready = service.spec.publish_not_ready;
    let members = || {
        let living = service.members.iter().filter_map(|id| pods.get(id));
        living.filter_map(move |pod| Some((pod, state_of(pod, publish_not_ready)?)))
    };
    let is_as_before = members().map(|(pod, state)| (pod.record.id, state)).eq(service
        .snapshot_pods
        .iter()
        .zip(&*service.snapshot)
        .map(|(id, endpoint)| (*id, (endpoint.ip, endpoint.conditions()))));
    if is_as_before {
        return None;
    }
    let (mut endpoints, mut ids, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut former = service.snapshot_pods.iter().zip(&*service.snapshot).peekable();
    for (pod, state) in members() {
        while let Some((_, left)) = former.next_if(|(id, _)| **id < pod.record.id) {
            gone.push(left.clone());
        }
        let known = former.next_if(|(id, _)| **id == pod.record.id).map(|(_, known)| known);
        ids.push(pod.record.id);
        match known {
            // Whatever else has happened to the pod, its endpoint is as it was.
            Some(known) if (known.ip, known.conditions()) == state => endpoints.push(known.clone()),
            _ => {
                // Its machine has booted: it has another address.
                gone.extend(known.filter(|known| known.ip != state.0).cloned());
                let endpoint = endpoint_of(pod, state);
                changed.push(endpoint.clone());
                endpoints.push(endpoint);
            }
        }
    }
    gone.extend(former.map(|(_, left)| left.clone()));
    Some(Difference { endpoints, pods: ids, changed, gone })
}

/// The address and the conditions of a pod's endpoint, if it has one.
fn state_of(pod: &Pod, publish_not_ready: bool) -> Option<(Ipv4Addr, EndpointConditions)> {
    let facts = EndpointPod {
        has_ip: pod.ip.is_some(),
        finished: pod.phase.is_over(),
        ready: pod.is_ready,
        deleting: pod.is_deleting(),
    };
    let ip = pod.ip.filter(|_| facts.is_member(TerminatingPods::Include) && pod.record.node.is_some())?;
    Some((ip, facts.conditions(publish_not_ready)))
}

fn endpoint_of(pod: &Pod, (ip, conditions): (Ipv4Addr, EndpointConditions)) -> EndpointView {
    EndpointView {
        ip,
        pod: Rc::clone(&pod.record.name),
        node: pod.record.node.clone().expect("a pod with an endpoint has a node"),
        ready: conditions.ready,
        serving: conditions.serving,
        terminating: conditions.terminating,
        because: Some(pod.last_event),
    }
}

/// What is told of an endpoint that is now (ready, serving, terminating), or has left.
fn endpoint_data(ip: Ipv4Addr, states: (bool, bool, bool), is_gone: bool) -> Vec<(&'static str, Datum)> {
    let mut data = vec![
        ("address", ip.to_string().into()),
        ("ready", states.0.into()),
        ("serving", states.1.into()),
        ("terminating", states.2.into()),
    ];
    if is_gone {
        data.push(("gone", true.into()));
    }
    data
}
