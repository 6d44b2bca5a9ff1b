//! Services: they are made, edited and deleted, and consumers watch their endpoints.
//!
//! Each edit makes another edition of a Service, and what consumers are told of its endpoints says by which edition it was worked out. So an edit of what is not
//! here, such as its ports, reaches each consumer with its endpoints and in their order.
//!
//! Who watches a Service that is deleted, or that is not there yet, goes on: it hears of the one that comes by the same name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::Cluster;
use super::calls::Caller;
use super::endpoints_sync::{Unseen, slices_of};
use crate::cluster::endpoint_list::EndpointList;
use crate::cluster::feed::{EndpointWatch, Feed, Way};
use crate::cluster::objects::Service;
use crate::units::SimTime;

/// All Services.
#[derive(Default)]
pub(super) struct Services {
    /// Those that there are.
    pub(super) known: BTreeMap<Rc<str>, ServiceState>,
    /// Who waits for one that there is not.
    awaited: BTreeMap<Rc<str>, Feed>,
    /// The edits of all of them so far.
    edits: u64,
}

/// A Service as the control plane has it.
pub(super) struct ServiceState {
    pub(super) spec: Service,
    /// Grows with each edit.
    pub(super) edition: u64,
    pub(super) feed: Feed,
    /// Pods that it selects, whether or not they have an endpoint.
    pub(super) members: BTreeSet<u64>,
    pub(super) snapshot: EndpointList,
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
        service.feed.tell_all(self.inner.sim.now(), Way::Deletion, &EndpointList::default(), edition);
        state.services.awaited.insert(Rc::from(key), service.feed);
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
                        feed: services.awaited.remove(&key).unwrap_or_else(|| self.feed(&key)),
                        members: BTreeSet::new(),
                        snapshot: EndpointList::default(),
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

    /// Nobody watches this Service yet.
    fn feed(&self, key: &str) -> Feed {
        Feed::new(self.inner.streams, key, self.inner.config.endpoint_propagation.clone())
    }

    /// Tells a consumer of a Service's endpoints once more; when it does at the latest. Of an edit of the Service, by its number, it hears as of its endpoints.
    pub fn retell_endpoints(&self, service: &str, consumer: &str, edit: Option<u64>) -> Option<SimTime> {
        let state = self.inner.state.borrow();
        let known = state.services.known.get(service)?;
        known.feed.named(consumer).into_iter().map(|consumer| self.retell(known, consumer, edit)).max()
    }

    /// Tells all consumers of a Service's endpoints of an edit that they hear of with these: each of its slices is written anew, when its controller may call.
    pub fn retell_edit(&self, service: &str, edit: u64) {
        let calls = self.inner.state.borrow().services.known.get(service).map(|known| slices_of(known.snapshot.len()));
        let Some(calls) = calls else { return };
        let key: Rc<str> = Rc::from(service);
        self.when_called(Caller::Endpoints, calls, move |this| {
            let state = this.inner.state.borrow();
            let Some(known) = state.services.known.get(&key) else { return };
            for consumer in 0..known.feed.consumer_count() {
                this.retell(known, consumer, Some(edit));
            }
        });
    }

    fn retell(&self, service: &ServiceState, consumer: usize, edit: Option<u64>) -> SimTime {
        let way = edit.map_or(Way::AtOnce, Way::Edit);
        service.feed.tell(consumer, self.inner.sim.now(), way, &service.snapshot, service.edition)
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
        let mut state = self.inner.state.borrow_mut();
        match state.services.known.get(service) {
            Some(known) => {
                let (watch, index) = known.feed.join(&self.inner.sim, consumer);
                known.feed.tell(index, self.inner.sim.now(), Way::AtOnce, &known.snapshot, known.edition);
                watch
            }
            None => {
                let feed = state.services.awaited.entry(Rc::from(service)).or_insert_with(|| self.feed(service));
                feed.join(&self.inner.sim, consumer).0
            }
        }
    }

    /// The endpoints of a Service that are ready, as its slices have them now.
    #[must_use]
    pub fn ready_endpoints(&self, service: &str) -> Vec<Ipv4Addr> {
        let state = self.inner.state.borrow();
        let snapshot = state.services.known.get(service).map(|service| &service.snapshot);
        let ready = snapshot.into_iter().flat_map(EndpointList::iter).filter(|endpoint| endpoint.ready);
        ready.map(|endpoint| endpoint.ip).collect()
    }
}
