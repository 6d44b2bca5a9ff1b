//! Services: they are made, edited and deleted, and consumers watch their endpoints.
//!
//! Each edit makes another edition of a Service, and what consumers are told of its endpoints says by which edition it was worked out. So an edit of what is not
//! here, such as its ports, reaches each consumer with its endpoints and in their order.
//!
//! Who watches a Service that is deleted, or that is not there yet, goes on: it hears of the one that comes by the same name.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::Cluster;
use super::calls::Caller;
use super::endpoints_sync::{Unseen, slices_of};
use crate::cluster::feed::{EndpointWatch, Queue, Snapshot};
use crate::cluster::objects::Service;
use crate::units::SimTime;

/// Who watches a Service, by name.
type Consumers = Vec<(Rc<str>, Rc<RefCell<Queue>>)>;

/// All Services.
#[derive(Default)]
pub(super) struct Services {
    /// Those that there are.
    pub(super) known: BTreeMap<Rc<str>, ServiceState>,
    /// Who waits for one that there is not.
    awaited: BTreeMap<Rc<str>, Consumers>,
    /// The edits of all of them so far.
    edits: u64,
}

/// A Service as the control plane has it.
pub(super) struct ServiceState {
    pub(super) spec: Service,
    /// Grows with each edit.
    pub(super) edition: u64,
    pub(super) consumers: Consumers,
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
        let mut state = self.inner.state.borrow_mut();
        let Some(service) = state.services.known.remove(key) else { return };
        state.services.edits += 1;
        let edition = state.services.edits;
        for (consumer, queue) in &service.consumers {
            let purpose = format!("{key}/{consumer}/deleted");
            let delay =
                self.inner.config.endpoint_propagation.draw(&mut self.inner.streams.stream("endpoint", &purpose));
            queue.borrow_mut().push(self.inner.sim.now().after(delay), Rc::from([]), edition);
        }
        state.services.awaited.entry(Rc::from(key)).or_default().extend(service.consumers);
    }

    /// Creates a Service, or replaces it; who watches it goes on doing so. Which edition of it this is.
    pub fn apply_service(&self, spec: Service) -> u64 {
        let edition = {
            let mut state = self.inner.state.borrow_mut();
            let services = &mut state.services;
            let is_known = services.known.contains_key(&spec.key);
            services.edits += u64::from(is_known || services.awaited.contains_key(&spec.key));
            let edition = services.edits;
            match services.known.get_mut(&spec.key) {
                Some(known) => (known.spec, known.edition) = (spec, edition),
                None => {
                    let key = Rc::clone(&spec.key);
                    let fresh = ServiceState {
                        spec,
                        edition,
                        consumers: services.awaited.remove(&key).unwrap_or_default(),
                        members: BTreeSet::new(),
                        snapshot: Rc::from([]),
                        snapshot_pods: Vec::new(),
                        unseen: Unseen::default(),
                        change: 0,
                        created_at: self.inner.sim.now(),
                    };
                    services.known.insert(key, fresh);
                }
            }
            edition
        };
        self.publish_all_endpoints();
        edition
    }

    /// Tells a consumer of a Service's endpoints once more; when it does at the latest. Of an edit of the Service, by its number, it hears as of its endpoints.
    pub fn retell_endpoints(&self, service: &str, consumer: &str, edit: Option<u64>) -> Option<SimTime> {
        let state = self.inner.state.borrow();
        let known = state.services.known.get(service)?;
        let its = known.consumers.iter().filter(|(name, _)| **name == *consumer);
        its.map(|(name, queue)| self.retell(known, (name, queue), edit)).max()
    }

    /// Tells all consumers of a Service's endpoints of an edit that they hear of with these: each of its slices is written anew, when its controller may call.
    pub fn retell_edit(&self, service: &str, edit: u64) {
        let calls = self.inner.state.borrow().services.known.get(service).map(|known| slices_of(known.snapshot.len()));
        let Some(calls) = calls else { return };
        let key: Rc<str> = Rc::from(service);
        self.when_called(Caller::Endpoints, calls, move |this| {
            let state = this.inner.state.borrow();
            let Some(known) = state.services.known.get(&key) else { return };
            for (name, queue) in &known.consumers {
                this.retell(known, (name, queue), Some(edit));
            }
        });
    }

    fn retell(&self, service: &ServiceState, (consumer, queue): (&str, &RefCell<Queue>), edit: Option<u64>) -> SimTime {
        let delay = edit.map_or(Duration::ZERO, |edit| {
            let purpose = format!("{}/{consumer}/edit-{edit}", service.spec.key);
            self.inner.config.endpoint_propagation.draw(&mut self.inner.streams.stream("endpoint", &purpose))
        });
        let at = self.inner.sim.now().after(delay);
        queue.borrow_mut().push(at, Rc::clone(&service.snapshot), service.edition)
    }

    /// Watches a Service's endpoints on behalf of `consumer`; none if there is no such Service.
    #[must_use]
    pub fn watch_endpoints(&self, service: &str, consumer: &str) -> Option<EndpointWatch> {
        let is_known = self.inner.state.borrow().services.known.contains_key(service);
        is_known.then(|| self.await_endpoints(service, consumer))
    }

    /// Watches the endpoints of a Service that may come later.
    #[must_use]
    pub fn await_endpoints(&self, service: &str, consumer: &str) -> EndpointWatch {
        let queue = Rc::new(RefCell::new(Queue::default()));
        let named = (Rc::from(consumer), Rc::clone(&queue));
        let mut state = self.inner.state.borrow_mut();
        match state.services.known.get_mut(service) {
            Some(known) => {
                known.consumers.push(named);
                queue.borrow_mut().push(self.inner.sim.now(), Rc::clone(&known.snapshot), known.edition);
            }
            None => state.services.awaited.entry(Rc::from(service)).or_default().push(named),
        }
        EndpointWatch::new(&self.inner.sim, queue)
    }

    /// The endpoints of a Service that are ready, as its slices have them now.
    #[must_use]
    pub fn ready_endpoints(&self, service: &str) -> Vec<Ipv4Addr> {
        let state = self.inner.state.borrow();
        let snapshot = state.services.known.get(service).map(|service| Rc::clone(&service.snapshot));
        snapshot
            .iter()
            .flat_map(|all| all.iter())
            .filter(|endpoint| endpoint.ready)
            .map(|endpoint| endpoint.ip)
            .collect()
    }
}
