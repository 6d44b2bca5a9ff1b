//! Settings that change while the balancer runs, as its controller carries them out.
//!
//! - Which targets it wants it knows at once; each comes or goes after its latency, like any other.
//! - The balancer and its listeners change when the controller has come to them: first listeners go, then new ones come, then those that stay change. Open
//!   connections of a listener that goes are reset: the products' documents do not say what becomes of them, so that is an assumption.
//! - What the balancer's listeners say holds for connections that come after it: how long one may be silent is as it was when it was opened. What becomes of the
//!   connections of a target that goes is as it is then.
//! - What cannot change fails the whole reconcile, and that again and again: listeners and targets stay as they are until the Service is mended.
//!
//! Health goes on where a check changes its values; one that is switched on begins with all targets healthy. A listener that leads to another port of the pods
//! has another group ([`super::groups`]).
//!
//! Sources: kubernetes/cloud-provider-alibaba-cloud pkg/controller/service/clbv1/model_applier.go (`Apply`: the balancer, server groups, listeners, each only
//! if the one before it went well; `applyListeners`: deletions, additions, updates); CLB documents, "FAQ about CLB" (changes of a listener and open connections).

use std::rc::Rc;

use super::{BackendMode, LoadBalancer, LoadBalancerConfig, NodeTarget, Removal};
use crate::edge::balancer::BalancerConfig;
use crate::edge::controller::{Backoff, Eligibility};
use crate::engine::EventId;
use crate::net::{ConnectionId, Sever};

/// What a Service is edited to, as its balancer's controller sees it.
#[derive(Clone, Debug)]
pub struct Change {
    /// All settings as they are to be.
    pub config: LoadBalancerConfig,
    /// The nodes that may be targets by them.
    pub eligible: Vec<NodeTarget>,
    /// It writes the listeners of its ports, whoever had them.
    pub writes_listeners: bool,
    /// Why the controller cannot do it, or not all of it.
    pub failure: Option<Failure>,
}

/// An edit that the controller cannot carry out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What it says.
    pub message: Rc<str>,
    /// It does nothing else either until the Service is mended: neither listeners nor targets change.
    pub stops_all: bool,
}

impl Change {
    fn is_stopped(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.stops_all)
    }
}

/// Changes by their numbers.
#[derive(Default)]
pub(super) struct Numbers {
    /// On their way.
    pub(super) pending: usize,
    asked: u64,
    applied: u64,
}

impl LoadBalancer {
    /// The Service has been edited.
    pub fn change_later(&self, change: Change, because: EventId) {
        let inner = &self.inner;
        let number = self.ask_change();
        {
            let mut state = inner.state.borrow_mut();
            (state.is_stuck, state.is_left) = (change.is_stopped(), false);
        }
        if !change.is_stopped() {
            let old = inner.live();
            let soon = LoadBalancerConfig {
                targets: change.config.targets.clone(),
                // A port that nodes have is of no use before they are targets.
                node_ports: old.node_ports.iter().chain(&change.config.node_ports).map(|(a, b)| (*a, *b)).collect(),
                ..(*old).clone()
            };
            *inner.live.borrow_mut() = Rc::new(soon);
            self.handle_nodes(change.eligible.clone());
        }
        let this = self.clone();
        inner.sim.spawn("lb-update", async move {
            let inner = &this.inner;
            inner.sim.sleep(this.update_latency(&format!("{}/{}", inner.config.service, because.number()))).await;
            if !this.may_change(number) {
                return;
            }
            if !change.is_stopped() {
                this.apply(&change, because);
            }
            if let Some(failure) = &change.failure {
                this.fail(number, ("SyncLoadBalancerFailed", &failure.message), because).await;
            }
        });
    }

    /// The number of another change that is on its way.
    pub(super) fn ask_change(&self) -> u64 {
        let mut state = self.inner.state.borrow_mut();
        state.changes.asked += 1;
        state.changes.pending += 1;
        state.changes.asked
    }

    /// A change has come: whether it holds. A later one may have been quicker.
    pub(super) fn may_change(&self, number: u64) -> bool {
        let mut state = self.inner.state.borrow_mut();
        state.changes.pending -= 1;
        if number < state.changes.applied || state.deleted.is_some() {
            return false;
        }
        state.changes.applied = number;
        true
    }

    /// From an edit to its effect at the balancer, drawn by this name.
    #[must_use]
    pub fn update_latency(&self, purpose: &str) -> std::time::Duration {
        let mut stream = self.inner.streams.stream("lb-update", purpose);
        self.inner.config.deregister_latency.draw(&mut stream)
    }

    /// Tells of each try, until the Service is edited again.
    pub(super) async fn fail(&self, number: u64, (reason, why): (&'static str, &str), because: EventId) {
        let inner = &self.inner;
        let mut backoff = Backoff::default();
        while inner.state.borrow().changes.asked == number && inner.state.borrow().deleted.is_none() {
            let data = vec![("reason", reason.into()), ("message", why.into())];
            self.tell_service(because, "lb_sync_failed", data);
            inner.sim.sleep(backoff.fail()).await;
        }
    }

    pub(super) fn tell_service(
        &self,
        because: EventId,
        kind: &'static str,
        data: Vec<(&'static str, crate::engine::Datum)>,
    ) -> EventId {
        let inner = &self.inner;
        let object = inner.config.identity.object(format!("Service/{}", inner.config.service));
        inner.log.borrow_mut().record(inner.sim.now(), Some(because), kind, object, data)
    }

    /// All that the Service says holds from now on.
    fn apply(&self, change: &Change, because: EventId) {
        let (inner, old, new) = (&self.inner, self.inner.live(), &change.config);
        let port_of = |port: u16| vec![("port", i64::from(port).into())];
        for port in old.ports.keys().filter(|port| !new.ports.contains_key(port)) {
            let event = self.tell_service(because, "lb_listener_deleted", port_of(*port));
            self.close(*port, event);
        }
        let mut moved = Vec::new();
        for (port, target) in &new.ports {
            let is_taken = inner.state.borrow().handed.contains_key(port);
            // A listener that is to speak something else is another one.
            let is_other = old.ports.contains_key(port) && old.http.contains_key(port) != new.http.contains_key(port);
            if is_other && (change.writes_listeners || !is_taken) {
                let event = self.tell_service(because, "lb_listener_deleted", port_of(*port));
                self.close(*port, event);
            }
            let kind = match old.ports.get(port) {
                None => Some("lb_listener_created"),
                Some(_) if is_taken && change.writes_listeners => Some("lb_listener_taken_back"),
                Some(known) if known != target => Some("lb_listener_changed"),
                Some(_) => inner.state.borrow().closed.contains_key(port).then_some("lb_listener_created"),
            };
            // A listener that is not its own to write stays as it is.
            let Some(kind) = kind.filter(|_| change.writes_listeners || !is_taken) else { continue };
            let event = self.tell_service(because, kind, port_of(*port));
            let mut state = inner.state.borrow_mut();
            state.closed.remove(port);
            state.handed.remove(port);
            drop(state);
            if let Some(known) = old.ports.get(port).filter(|known| *known != target) {
                moved.push((*port, (*known, *target), event));
            }
        }
        let BalancerConfig { on_deregister, on_unhealthy, .. } = new.balancer;
        inner.removal.set(Removal { on_deregister, on_unhealthy });
        // Nodes that are targets until the controller has come to them are reached as before.
        let node_ports = old.node_ports.iter().chain(&new.node_ports).map(|(port, node_port)| (*port, *node_port));
        let node_ports = node_ports.filter(|(port, _)| new.ports.contains_key(port)).collect();
        *inner.live.borrow_mut() = Rc::new(LoadBalancerConfig { node_ports, ..new.clone() });
        self.listen_http();
        if old.zones != new.zones {
            self.move_to(&new.zones, because);
        }
        self.change_rules(&old, new);
        if new.targets.mode != BackendMode::Pods {
            inner.state.borrow_mut().groups.clear();
        }
        moved.into_iter().for_each(|(port, ports, event)| self.renew(port, ports, event));
    }

    /// How targets are chosen and checked.
    fn change_rules(&self, old: &LoadBalancerConfig, new: &LoadBalancerConfig) {
        let inner = &self.inner;
        let is_checked = |config: &LoadBalancerConfig| config.balancer.health_check.is_some();
        let fresh = {
            let mut state = inner.state.borrow_mut();
            let state = &mut *state;
            let known: Vec<_> = state.registered.iter().filter_map(|(ip, id)| Some((*ip, (*id)?))).collect();
            let groups =
                known.iter().map(|(ip, id)| (*id, if new.is_cross_zone { Some(0) } else { state.zone_of(*ip) }));
            let groups = groups.collect();
            let count = if new.is_cross_zone { 1 } else { state.vips.len().max(1) };
            let config = BalancerConfig { groups: count, ..new.balancer.clone() };
            state.change_groups(&config, &groups);
            state.balancer.set_config(config, &groups);
            known
        };
        if is_checked(new) && !is_checked(old) {
            inner.probing.set(inner.probing.get() + 1);
            for (ip, id) in fresh {
                let this = self.clone();
                let Some(event) = inner.state.borrow().balancer.why(id) else { continue };
                inner.sim.spawn("lb-probe", async move { this.probe(id, ip, event, false).await });
                self.probe_in_groups(id, ip, event, None);
            }
        }
    }

    /// What its pods listen on for a front port.
    #[must_use]
    pub fn target_port(&self, port: u16) -> Option<u16> {
        self.inner.live().ports.get(&port).copied()
    }

    /// What its targets are by now.
    #[must_use]
    pub fn mode(&self) -> BackendMode {
        self.inner.live().targets.mode
    }

    /// Whether its targets are nodes by now.
    #[must_use]
    pub fn reaches_nodes(&self) -> bool {
        self.inner.live().targets.mode != BackendMode::Pods
    }

    /// Which nodes may be its targets by now.
    #[must_use]
    pub fn node_rules(&self) -> Eligibility {
        self.inner.live().targets.nodes.clone()
    }

    /// Whether each of its addresses sends to targets of all zones by now.
    #[must_use]
    pub fn is_cross_zone(&self) -> bool {
        self.inner.live().is_cross_zone
    }

    /// A listener goes, and with it the connections through it.
    pub(super) fn close(&self, port: u16, event: EventId) {
        let inner = &self.inner;
        let open: Vec<ConnectionId> = {
            let mut state = inner.state.borrow_mut();
            state.closed.insert(port, event);
            state.groups.remove(&port);
            state.connections.ids(|entry| entry.port == port)
        };
        for connection in open {
            inner.net.sever(connection, Sever::Reset, Some(event));
        }
    }

    /// The Service that had overwritten listeners is gone: its controller deletes them, and whoever had them before is not asked.
    pub fn give_up_listeners(&self, of: &Self, because: EventId) {
        let ports: Vec<u16> = {
            let state = self.inner.state.borrow();
            let its = state.handed.iter().filter(|(_, handed)| Rc::ptr_eq(&handed.to.inner, &of.inner));
            its.map(|(port, _)| *port).collect()
        };
        for port in ports {
            let event = self.tell_service(because, "lb_listener_deleted", vec![("port", i64::from(port).into())]);
            self.inner.state.borrow_mut().handed.remove(&port);
            self.inner.state.borrow_mut().closed.insert(port, event);
            of.close(port, event);
        }
    }
}
