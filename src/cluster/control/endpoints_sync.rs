//! The endpoints controller: works out the endpoints of all Services and tells their consumers.
//!
//! Source: Kubernetes v1.28.7 staging/src/k8s.io/endpointslice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::pod::Pod;
use super::{Cluster, ServiceState};
use crate::cluster::endpoints::{EndpointPod, TerminatingPods, selects};
use crate::cluster::feed::EndpointView;
use crate::engine::{Datum, EventId};

impl Cluster {
    /// Works out all endpoints anew and tells the consumers of those that changed.
    pub(in crate::cluster) fn publish_all_endpoints(&self) {
        {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            for service in state.services.values_mut() {
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
            for (key, service) in &mut state.services {
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
        for (key, service) in &mut state.services {
            if !is_meant(key) {
                continue;
            }
            let former: BTreeMap<Ipv4Addr, &EndpointView> =
                service.snapshot.iter().map(|endpoint| (endpoint.ip, endpoint)).collect();
            let mut changed = Vec::new();
            let mut endpoints: Vec<EndpointView> = Vec::new();
            for pod in service.members.iter().filter_map(|id| state.pods.get(id)) {
                let Some(mut endpoint) = endpoint_of(pod, service.spec.publish_not_ready) else { continue };
                match former.get(&endpoint.ip) {
                    // Whatever else has happened to the pod, its endpoint is as it was.
                    Some(known) if known.is_alike(&endpoint) => endpoint.because = known.because,
                    _ => changed.push(endpoint.clone()),
                }
                endpoints.push(endpoint);
            }
            let stays: BTreeSet<Ipv4Addr> = endpoints.iter().map(|endpoint| endpoint.ip).collect();
            let gone: Vec<EndpointView> =
                service.snapshot.iter().filter(|endpoint| !stays.contains(&endpoint.ip)).cloned().collect();
            if changed.is_empty() && gone.is_empty() {
                continue;
            }
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
            service.change += 1;
            for (consumer, queue) in &service.consumers {
                let purpose = format!("{}/{consumer}/{}", service.spec.key, service.change);
                let drawn =
                    self.inner.config.endpoint_propagation.draw(&mut self.inner.streams.stream("endpoint", &purpose));
                let delay = if self.stands() { Duration::ZERO } else { drawn };
                queue.borrow_mut().push(now.after(delay), Rc::clone(&service.snapshot));
            }
        }
    }
}

fn endpoint_of(pod: &Pod, publish_not_ready: bool) -> Option<EndpointView> {
    let facts = EndpointPod {
        has_ip: pod.ip.is_some(),
        finished: pod.phase.is_over(),
        ready: pod.is_ready,
        deleting: pod.is_deleting(),
    };
    let ip = pod.ip.filter(|_| facts.is_member(TerminatingPods::Include))?;
    let conditions = facts.conditions(publish_not_ready);
    Some(EndpointView {
        ip,
        pod: Rc::clone(&pod.record.name),
        node: pod.record.node.clone()?,
        ready: conditions.ready,
        serving: conditions.serving,
        terminating: conditions.terminating,
        because: Some(pod.last_event),
    })
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
