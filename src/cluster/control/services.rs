//! Services as the control plane has them: made, edited, deleted, and watched.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::endpoints_sync::Unseen;
use super::{Cluster, namespace_of};
use crate::cluster::endpoints::selects;
use crate::cluster::feed::{EndpointWatch, Queue, Snapshot};
use crate::cluster::objects::{PodTemplate, Service};
use crate::units::SimTime;

/// A Service as the control plane has it.
pub(super) struct ServiceState {
    pub(super) spec: Service,
    pub(super) consumers: Vec<(Rc<str>, Rc<RefCell<Queue>>)>,
    /// Pods that it selects, whether or not they have an endpoint.
    pub(super) members: BTreeSet<u64>,
    pub(super) snapshot: Snapshot,
    /// The pods behind the snapshot's endpoints, one by one.
    pub(super) snapshot_pods: Vec<u64>,
    pub(super) unseen: Unseen,
    pub(super) change: u64,
    pub(super) created_at: SimTime,
}

impl Cluster {
    /// Deletes a Service: its endpoints go, and who watches it sees none any more.
    pub fn delete_service(&self, key: &str) {
        let delays = {
            let mut state = self.inner.state.borrow_mut();
            let Some(service) = state.services.remove(key) else { return };
            service.consumers
        };
        for (consumer, queue) in delays {
            let purpose = format!("{key}/{consumer}/deleted");
            let delay =
                self.inner.config.endpoint_propagation.draw(&mut self.inner.streams.stream("endpoint", &purpose));
            queue.borrow_mut().push(self.inner.sim.now().after(delay), Rc::from([]));
        }
    }

    /// Creates a Service, or replaces it; who watches it goes on doing so.
    pub fn apply_service(&self, spec: Service) {
        {
            let mut state = self.inner.state.borrow_mut();
            match state.services.get_mut(&spec.key) {
                Some(known) => known.spec = spec,
                None => {
                    let key = Rc::clone(&spec.key);
                    let fresh = ServiceState {
                        spec,
                        consumers: Vec::new(),
                        members: BTreeSet::new(),
                        snapshot: Rc::from([]),
                        snapshot_pods: Vec::new(),
                        unseen: Unseen::default(),
                        change: 0,
                        created_at: self.inner.sim.now(),
                    };
                    state.services.insert(key, fresh);
                }
            }
        }
        self.publish_all_endpoints();
    }

    /// Tells a consumer of a Service's endpoints once more; when it does at the latest. Of an edit of the Service, by its number, it hears as of its endpoints.
    pub fn retell_endpoints(&self, service: &str, consumer: &str, edit: Option<u64>) -> Option<SimTime> {
        let state = self.inner.state.borrow();
        let known = state.services.get(service)?;
        let delay = edit.map_or(Duration::ZERO, |edit| {
            let purpose = format!("{service}/{consumer}/edit-{edit}");
            self.inner.config.endpoint_propagation.draw(&mut self.inner.streams.stream("endpoint", &purpose))
        });
        let at = self.inner.sim.now().after(delay);
        let queues = known.consumers.iter().filter(|(name, _)| **name == *consumer);
        queues.map(|(_, queue)| queue.borrow_mut().push(at, Rc::clone(&known.snapshot))).max()
    }

    /// Watches a Service's endpoints on behalf of `consumer`; none if there is no such Service.
    #[must_use]
    pub fn watch_endpoints(&self, service: &str, consumer: &str) -> Option<EndpointWatch> {
        let queue = Rc::new(RefCell::new(Queue::default()));
        let mut state = self.inner.state.borrow_mut();
        let service = state.services.get_mut(service)?;
        service.consumers.push((Rc::from(consumer), Rc::clone(&queue)));
        queue.borrow_mut().push(self.inner.sim.now(), Rc::clone(&service.snapshot));
        Some(EndpointWatch::new(&self.inner.sim, queue))
    }

    /// The endpoints of a Service that are ready, as its slices have them now.
    #[must_use]
    pub fn ready_endpoints(&self, service: &str) -> Vec<Ipv4Addr> {
        let state = self.inner.state.borrow();
        let snapshot = state.services.get(service).map(|service| Rc::clone(&service.snapshot));
        snapshot
            .iter()
            .flat_map(|all| all.iter())
            .filter(|endpoint| endpoint.ready)
            .map(|endpoint| endpoint.ip)
            .collect()
    }

    /// Whether a Service, as `namespace/name`, selects the pods of a namespace that are made from a template.
    #[must_use]
    pub fn service_selects(&self, service: &str, namespace: &str, template: &PodTemplate) -> bool {
        let state = self.inner.state.borrow();
        let known = state.services.get(service).filter(|_| namespace_of(service) == namespace);
        known.is_some_and(|known| selects(&known.spec.selector, &template.labels))
    }
}
