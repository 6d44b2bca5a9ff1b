//! The endpoints controller: works out the endpoints of all Services and tells their consumers.
//!
//! A change of a pod is a look at that pod, whatever else the Service has; what is told is the whole list, which consumers go through anyway. A write is a
//! call for each slice of a hundred endpoints, of which there are only so many a second: what changes while a Service waits for its turn goes out with
//! that write. How endpoints are packed into slices is not kept, so a write is as few calls as its changes can be.
//!
//! A pod whose node's object is gone has no endpoint any more, unless its Service publishes addresses that are not ready. That a node goes is no reason to look: its pods'
//! endpoints leave with the next look at their Service, for whatever pod's sake, or when they are collected.
//!
//! Source: Kubernetes v1.28.7 staging/src/k8s.io/endpointslice (`reconciler.go`, `util/controller_utils.go`), pkg/controller/endpointslice/endpointslice_controller.go.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::Cluster;
use super::node_sync::NodeState;
use super::pod::Pod;
use super::pods::Pods;
use super::services::ServiceState;
use super::{Caller, in_namespace, namespace_of};
use crate::cluster::endpoints::{EndpointConditions, EndpointPod, MAX_ENDPOINTS_PER_SLICE, TerminatingPods, selects};
use crate::cluster::feed::{EndpointView, Way};
use crate::engine::{Datum, EventId};
use crate::units::SimTime;

/// What a Service's next sync looks at.
#[derive(Default)]
pub(super) struct Unseen {
    /// Its pods that have come, changed or gone since the last one; of those that are gone the event of their end, where it is known.
    pods: BTreeMap<u64, Option<EventId>>,
    /// It waits for its controller's client.
    is_waiting: bool,
}

impl Cluster {
    /// Works out all endpoints anew and tells the consumers of those that changed.
    pub(in crate::cluster) fn publish_all_endpoints(&self) {
        let all: Vec<Rc<str>> = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let keys: Vec<Rc<str>> = state.services.known.keys().cloned().collect();
            for key in &keys {
                let selector = &state.services.known[key].spec.selector;
                let members = state.pods_with(namespace_of(key), |labels| selects(selector, labels));
                let service = state.services.known.get_mut(key).expect("the service has just been seen");
                service.members = members;
                for id in service.members.iter().copied().chain(service.snapshot.pods()) {
                    service.unseen.pods.entry(id).or_default();
                }
            }
            keys
        };
        all.iter().for_each(|key| self.publish(key));
    }

    /// Works out the endpoints of the Services of a pod that has changed, and tells the consumers; `left` is the event of its end, if it is gone.
    pub(in crate::cluster) fn publish_endpoints_of(&self, id: u64, left: Option<EventId>) {
        let concerned: Vec<Rc<str>> = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let concerned: Vec<Rc<str>> = match state.pods.get(&id) {
                Some(pod) => {
                    let services = in_namespace(&state.services.known, &pod.record.namespace);
                    let concerned = services.filter(|(_, service)| {
                        selects(&service.spec.selector, &pod.template.labels) || service.members.contains(&id)
                    });
                    concerned.map(|(key, _)| Rc::clone(key)).collect()
                }
                None => {
                    let concerned = state.services.known.iter().filter(|(_, service)| service.members.contains(&id));
                    concerned.map(|(key, _)| Rc::clone(key)).collect()
                }
            };
            let labels = state.pods.get(&id).map(|pod| &pod.template.labels);
            for key in &concerned {
                let service = state.services.known.get_mut(key).expect("the service has just been seen");
                if labels.is_some_and(|labels| selects(&service.spec.selector, labels)) {
                    service.members.insert(id);
                } else {
                    service.members.remove(&id);
                }
                service.unseen.pods.insert(id, left);
            }
            concerned
        };
        concerned.iter().for_each(|key| self.publish(key));
    }

    /// The object of a node is gone: its pods are looked at when their Services are looked at next. `because` is the event of its end.
    pub(super) fn lose_endpoints_on(&self, index: usize, because: EventId) {
        let mut state = self.inner.state.borrow_mut();
        let state = &mut *state;
        let lost: Vec<u64> = state.pods.on(index).map(|(id, _)| *id).collect();
        for service in state.services.known.values_mut() {
            for id in lost.iter().filter(|id| service.members.contains(id)) {
                service.unseen.pods.insert(*id, Some(because));
            }
        }
    }

    /// A pod has been made: its Services are looked at, which matters only where others have lost their node.
    pub(super) fn look_for_lost_endpoints(&self, id: u64) {
        let is_any_lost = self.inner.state.borrow().services.known.values().any(|it| !it.unseen.pods.is_empty());
        if is_any_lost {
            self.publish_endpoints_of(id, None);
        }
    }

    /// Works out a Service's endpoints: now, or when its controller may call.
    fn publish(&self, key: &Rc<str>) {
        let at = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(service) = state.services.known.get_mut(key).filter(|service| !service.unseen.is_waiting) else {
                return;
            };
            let changes = difference(service, &state.pods, &state.nodes);
            let count = changes.changed.len() + changes.gone.len();
            if count == 0 {
                service.unseen.pods.clear();
                return;
            }
            // Each slice is a call: how many there are at least.
            let at = if self.stands() {
                self.inner.sim.now()
            } else {
                let client = state.clients.bucket(Caller::Endpoints);
                let calls = (0..slices_of(count)).map(|_| client.take(self.inner.sim.now()));
                calls.last().expect("there is a change")
            };
            if at <= self.inner.sim.now() {
                service.unseen.pods.clear();
                self.write_endpoints(service, changes);
                return;
            }
            service.unseen.is_waiting = true;
            at
        };
        self.publish_at(at, Rc::clone(key));
    }

    /// Writes a Service's endpoints as they are at a time that is to come.
    fn publish_at(&self, at: SimTime, key: Rc<str>) {
        let this = self.clone();
        self.inner.sim.spawn("endpointslice-sync", async move {
            this.inner.sim.sleep_until(at).await;
            let mut state = this.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(service) = state.services.known.get_mut(&key) else { return };
            let changes = difference(service, &state.pods, &state.nodes);
            service.unseen = Unseen::default();
            if !changes.changed.is_empty() || !changes.gone.is_empty() {
                this.write_endpoints(service, changes);
            }
        });
    }

    /// Tells of the endpoints that have changed, and their consumers of all.
    fn write_endpoints(&self, service: &mut ServiceState, changes: Changes) {
        let now = self.inner.sim.now();
        let object = self.inner.config.identity.object(format!("Service/{}", service.spec.key));
        let mut log = self.inner.log.borrow_mut();
        for endpoint in changes.changed.values() {
            let states = (endpoint.ready, endpoint.serving, endpoint.terminating);
            let data = endpoint_data(endpoint.ip, states, false);
            log.record(now, endpoint.because, "endpoint", object.as_str(), data);
        }
        for (endpoint, left) in &changes.gone {
            let because = left.or(endpoint.because);
            let states = (false, false, endpoint.terminating);
            log.record(now, because, "endpoint", object.as_str(), endpoint_data(endpoint.ip, states, true));
        }
        drop(log);
        service.snapshot = service.snapshot.with(changes.changed, &changes.left);
        service.change += 1;
        let way = if self.stands() { Way::AtOnce } else { Way::Change(service.change) };
        service.feed.tell_all(now, way, &service.snapshot, service.edition);
    }
}

/// How many slices so many endpoints take at least.
pub(super) fn slices_of(endpoints: usize) -> u32 {
    u32::try_from(endpoints.div_ceil(MAX_ENDPOINTS_PER_SLICE)).unwrap_or(u32::MAX)
}

/// How the endpoints of a Service differ from its snapshot.
struct Changes {
    /// Those that are new, or in another state, by their pods.
    changed: BTreeMap<u64, EndpointView>,
    /// Those that are no more, in the order of their pods, with what ended them.
    gone: Vec<(EndpointView, Option<EventId>)>,
    /// The pods that have no endpoint any more.
    left: Vec<u64>,
}

/// Looks at the pods that a Service has not seen yet, and at no other.
fn difference(service: &ServiceState, pods: &Pods, nodes: &[NodeState]) -> Changes {
    let mut changes = Changes { changed: BTreeMap::new(), gone: Vec::new(), left: Vec::new() };
    for (id, left) in &service.unseen.pods {
        let pod = pods.get(id).filter(|_| service.members.contains(id));
        let has_node = |pod: &&Pod| pod.node_index.is_none_or(|index| nodes[index].is_there());
        let pod = pod.filter(|pod| service.spec.publish_not_ready || has_node(pod));
        let state = pod.and_then(|pod| Some((pod, state_of(pod, service.spec.publish_not_ready)?)));
        let known = service.snapshot.of_pod(*id);
        match (state, known) {
            // Whatever else has happened to the pod, its endpoint is as it was.
            (Some((_, state)), Some(known)) if (known.ip, known.conditions()) == state => {}
            (Some((pod, state)), known) => {
                // Its machine has booted: it has another address.
                changes.gone.extend(known.filter(|known| known.ip != state.0).map(|known| (known.clone(), *left)));
                changes.changed.insert(*id, endpoint_of(pod, state));
            }
            (None, Some(known)) => {
                changes.gone.push((known.clone(), *left));
                changes.left.push(*id);
            }
            (None, None) => {}
        }
    }
    changes
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
