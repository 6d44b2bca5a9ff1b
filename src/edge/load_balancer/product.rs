//! What products do otherwise: targets that linger, gates that wait for health, and nodes that answer for the address.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::{BackendMode, Inner, LoadBalancer, NodeTarget, Probe, State};
use crate::cluster::EndpointView;
use crate::edge::announcer;
use crate::edge::balancer::TargetId;
use crate::edge::controller::NodeReach;
use crate::edge::product::GateOpens;
use crate::engine::EventId;
use crate::units::SimTime;

impl LoadBalancer {
    /// A node's machine has died, or has booted again. Where nodes answer for the address, the others notice in the time that takes them.
    pub fn handle_machine(&self, node: &Rc<str>, is_alive: bool) {
        let Some(failover) = self.inner.config.ways.failover.clone() else { return };
        let (this, node) = (self.clone(), Rc::clone(node));
        self.inner.sim.spawn("lb-failover", async move {
            let inner = &this.inner;
            let wait = failover.draw(&mut inner.streams.stream("lb-failover", &node));
            inner.sim.sleep(if is_alive { Duration::ZERO } else { wait }).await;
            let endpoints = {
                let mut state = inner.state.borrow_mut();
                // It may have died or come back meanwhile.
                if inner.nodes.as_ref().is_some_and(|nodes| nodes.is_dead(&node)) {
                    state.silent.insert(node);
                } else {
                    state.silent.remove(&node);
                }
                state.endpoints.clone()
            };
            this.handle_endpoints(&endpoints);
        });
    }

    /// At the start targets may be known before their pods are: those whose checks would pass are healthy as soon as that is seen.
    pub(super) fn stand_up(&self) {
        let inner = &self.inner;
        let asks_for_pods = matches!(inner.live().probe, Probe::ServiceHealth { asks_status: true, .. });
        if !asks_for_pods || !inner.config.stands_at_zero || inner.sim.now() > SimTime::ZERO {
            return;
        }
        let mut state = inner.state.borrow_mut();
        let known: Vec<(Ipv4Addr, TargetId)> =
            state.registered.iter().filter_map(|(ip, id)| Some((*ip, (*id)?))).collect();
        for (ip, id) in known {
            let Some(name) = state.names.get(&id).cloned().filter(|_| !state.balancer.is_healthy(id)) else { continue };
            if inner.stands_healthy(&state, &name) {
                state.balancer.set_healthy(id);
                inner.tell(None, "target_healthy", &name, ip);
            }
        }
    }

    /// How long a target that is wanted no more stays registered. Where one node answers for the address, the old one does until the new one does.
    pub(super) fn removal_latency(&self, name: &str) -> Duration {
        let inner = &self.inner;
        let successor = inner.state.borrow().wanted.values().next().map(|wanted| Rc::clone(&wanted.name));
        match successor.filter(|_| inner.live().targets.reach == NodeReach::Leader) {
            Some(next) => inner.config.register_latency.draw(&mut inner.streams.stream("lb-register", &next)),
            None => inner.config.deregister_latency.draw(&mut inner.streams.stream("lb-deregister", name)),
        }
    }

    /// The controller deregisters a target: it is checked no more, though it may get new connections for a while. Nothing, if it is wanted again, or none.
    pub(super) fn stop_checks(
        &self,
        ip: Ipv4Addr,
        name: &str,
        because: Option<EventId>,
        lingers: bool,
    ) -> Option<(TargetId, EventId)> {
        let mut state = self.inner.state.borrow_mut();
        if state.wanted.contains_key(&ip) {
            // It came back while the controller was at it.
            return None;
        }
        let id = (*state.registered.get(&ip)?)?;
        if self.inner.nodes.is_none() {
            state.names.remove(&id);
        }
        let kind = if lingers { "target_deregistering" } else { "target_deregistered" };
        Some((id, self.inner.tell(because, kind, name, ip)))
    }

    /// A target gets no new connections any more; whether it was one. One that is wanted again by now is registered anew.
    pub(super) fn leave(&self, ip: Ipv4Addr, id: TargetId, event: EventId) -> bool {
        let mut state = self.inner.state.borrow_mut();
        if state.registered.get(&ip) != Some(&Some(id)) {
            return false;
        }
        state.registered.remove(&ip);
        state.balancer.deregister(id);
        state.leave_groups(id);
        state.names.remove(&id);
        state.last_removal = Some(event);
        let is_wanted = state.wanted.contains_key(&ip);
        if is_wanted {
            state.registered.insert(ip, None);
        }
        drop(state);
        self.forget_kept(id);
        if is_wanted {
            self.register_later(ip);
        }
        true
    }
}

impl Inner {
    /// The nodes that the controller chooses from.
    pub(super) fn candidates(&self, state: &State, endpoints: &[EndpointView]) -> Vec<NodeTarget> {
        let heard: Vec<NodeTarget> =
            state.eligible.iter().filter(|node| !state.silent.contains(&node.name)).cloned().collect();
        let live = self.live();
        match (live.targets.mode, live.targets.reach) {
            (BackendMode::Pods, _) => Vec::new(),
            (BackendMode::Nodes(policy), NodeReach::Leader) => {
                let leader = announcer::leader(&self.config.service, policy, endpoints, &heard);
                leader.into_iter().cloned().collect()
            }
            _ => heard,
        }
    }

    /// Where a SYN that is sent again goes: where the first one went, but for an address that has moved.
    pub(super) fn follows(&self, state: &State, before: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let has_moved = |ip: &Ipv4Addr| !matches!(state.registered.get(ip), Some(Some(_)));
        before.filter(|ip| self.live().targets.reach != NodeReach::Leader || !has_moved(ip))
    }

    /// Whether a target that the run finds passes its checks: where those ask for a pod, it has one.
    pub(super) fn stands_healthy(&self, state: &State, node: &str) -> bool {
        !matches!(self.live().probe, Probe::ServiceHealth { asks_status: true, .. }) || has_pod(&state.endpoints, node)
    }

    /// How many of the targets that the controller wants can be healthy.
    pub(super) fn healthy_wanted(&self, state: &State) -> usize {
        let asks_for_pods = matches!(self.live().probe, Probe::ServiceHealth { asks_status: true, .. });
        if !asks_for_pods {
            return state.wanted.len();
        }
        let serving = state.endpoints.iter().filter(|endpoint| serves(endpoint)).map(|endpoint| &*endpoint.node);
        let serving: BTreeSet<&str> = serving.collect();
        state.wanted.values().filter(|wanted| serving.contains(&*wanted.node)).count()
    }

    /// Whoever wants to know hears of a target that has been registered, and may be healthy at once.
    pub(super) fn tell_registered(&self, id: TargetId, ip: Ipv4Addr, event: EventId) {
        self.tell_hook(GateOpens::Registered, ip, event);
        if self.state.borrow().balancer.is_healthy(id) {
            self.tell_hook(GateOpens::Healthy, ip, event);
        }
    }

    /// Whoever wants to know hears that a gate may open.
    pub(super) fn tell_hook(&self, stage: GateOpens, ip: Ipv4Addr, event: EventId) {
        // Where nodes are the targets, the gates of pods open otherwise.
        let reaches_pods = self.live().targets.mode == BackendMode::Pods;
        let hook = self.on_registered.borrow().clone().filter(|_| reaches_pods && self.config.ways.gate == stage);
        if let Some(hook) = hook {
            hook(ip, event);
        }
    }
}

fn has_pod(endpoints: &[EndpointView], node: &str) -> bool {
    endpoints.iter().any(|endpoint| serves(endpoint) && *endpoint.node == *node)
}

fn serves(endpoint: &EndpointView) -> bool {
    endpoint.ready && !endpoint.terminating
}
