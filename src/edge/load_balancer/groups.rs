//! Server groups that a listener is given anew, because its Service's port leads to another port of the pods.
//!
//! The controller names a group by the target port where pods are the targets. So another port makes another group: it is filled, the listener is led to it, and
//! the old one is deleted. In the new one every target is new, and none gets a connection before it has passed its checks; who is connected through the old one
//! meets what becomes of a removed target's connections. Where nodes are the targets, their port stays, and so does their group.
//!
//! Until that happens all front ports share one choice ([`super`]); a port with a group of its own chooses there.
//!
//! Source: kubernetes/cloud-provider-alibaba-cloud eeb0ddc68 pkg/controller/service/clbv1/listeners.go (`getVGroupNamedKey`), nlbv2/server_groups.go
//! (`getServerGroupNamedKey`), {clbv1,nlbv2}/model_applier.go (`Apply`: groups, then listeners, then `cleanup`).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::{BackendMode, Entry, Inner, LoadBalancer, PROXIED, State};
use crate::edge::NO_PORT;
use crate::edge::balancer::{Balancer, BalancerConfig, HealthChange, OnRemoval, TargetId};
use crate::edge::scheduler::Flow;
use crate::engine::EventId;
use crate::net::{ConnectionId, Sever};
use crate::units::SimTime;

/// A group of one front port.
pub(super) struct Group {
    balancer: Balancer,
    /// Its targets, by what the balancer calls them.
    ids: BTreeMap<TargetId, TargetId>,
    /// The port of its targets.
    port: u16,
    /// Groups are counted from 1.
    number: u32,
    /// The event that made it.
    event: EventId,
}

impl State {
    /// The number of a front port's own group; 0 if it has none.
    pub(super) fn group_number(&self, port: u16) -> u32 {
        self.groups.get(&port).map_or(0, |group| group.number)
    }

    /// The target of a new connection to a front port.
    pub(super) fn choose(&mut self, now: SimTime, flow: Flow, zone: usize) -> Option<(TargetId, Ipv4Addr)> {
        let Some(group) = self.groups.get_mut(&flow.to.port()) else {
            return self.balancer.choose(now, flow, zone).map(|(id, address)| (id, *address.ip()));
        };
        let (_, address) = group.balancer.choose(now, flow, zone)?;
        let id = (*self.registered.get(address.ip())?)?;
        Some((id, *address.ip()))
    }

    /// The same for a request, where a proxy has the port; it goes to no target that has failed it.
    pub(super) fn choose_for_request(
        &mut self,
        now: SimTime,
        flow: Flow,
        failed: &[TargetId],
    ) -> Option<(TargetId, Ipv4Addr)> {
        let Some(group) = self.groups.get_mut(&flow.to.port()) else {
            return self.balancer.choose_for_request(now, flow, failed).map(|(id, address)| (id, *address.ip()));
        };
        let failed: Vec<TargetId> = failed.iter().filter_map(|id| group.ids.get(id).copied()).collect();
        let (_, address) = group.balancer.choose_for_request(now, flow, &failed)?;
        let id = (*self.registered.get(address.ip())?)?;
        Some((id, *address.ip()))
    }

    /// The target with this address, if a front port's requests may go to it whoever's turn it is.
    pub(super) fn claimed(&self, port: u16, ip: Ipv4Addr) -> Option<(TargetId, Ipv4Addr)> {
        let id = (*self.registered.get(&ip)?)?;
        let is_healthy = match self.groups.get(&port) {
            Some(group) => group.ids.get(&id).is_some_and(|its| group.balancer.is_healthy(*its)),
            None => self.balancer.is_healthy(id),
        };
        is_healthy.then_some((id, ip))
    }

    /// Why a front port has no target: its group is new; or a target is wanted and has never passed its check; or else what took the last one away.
    pub(super) fn why_nobody(&self, port: u16, zone: usize) -> Option<EventId> {
        if let Some(group) = self.groups.get(&port) {
            return Some(group.event);
        }
        let wanted = self.wanted.iter().filter(|(_, wanted)| wanted.weight > 0);
        let mut ids = wanted.filter_map(|(ip, _)| *self.registered.get(ip)?);
        let waiting = ids.find(|id| self.balancer.waits_for_check(*id, zone));
        waiting.and_then(|id| self.balancer.why(id)).or(self.last_removal)
    }

    /// A connection through a front port's group was opened, or is over.
    pub(super) fn count_in_group(&mut self, port: u16, number: u32, target: TargetId, is_opened: bool) {
        let Some(group) = self.groups.get_mut(&port).filter(|group| group.number == number) else { return };
        let Some(id) = group.ids.get(&target).copied() else { return };
        match is_opened {
            true => group.balancer.handle_open(id),
            false => group.balancer.handle_close(id),
        }
    }

    /// A target comes: all groups have it.
    pub(super) fn join_groups(
        &mut self,
        id: TargetId,
        (zone, ip): (Option<usize>, Ipv4Addr),
        weight: u32,
        event: EventId,
    ) {
        for group in self.groups.values_mut().filter(|group| group.port != NO_PORT) {
            let address = SocketAddrV4::new(ip, group.port);
            group.ids.insert(id, group.balancer.register_in(zone, address, weight, Some(event)));
        }
    }

    /// It goes.
    pub(super) fn leave_groups(&mut self, id: TargetId) {
        for group in self.groups.values_mut() {
            if let Some(its) = group.ids.remove(&id) {
                group.balancer.deregister(its);
            }
        }
    }

    /// It weighs otherwise.
    pub(super) fn weigh_in_groups(&mut self, id: TargetId, weight: u32) {
        for group in self.groups.values_mut() {
            if let Some(its) = group.ids.get(&id) {
                group.balancer.set_weight(*its, weight);
            }
        }
    }

    /// The rules of all groups are others.
    pub(super) fn change_groups(&mut self, config: &BalancerConfig, zones: &BTreeMap<TargetId, Option<usize>>) {
        for group in self.groups.values_mut() {
            let its = zones.iter().filter_map(|(id, zone)| Some((*group.ids.get(id)?, *zone))).collect();
            group.balancer.set_config(config.clone(), &its);
        }
    }

    /// Whether all groups send to as many targets as this, but for those that have none.
    pub(super) fn groups_send_to(&self, count: usize) -> bool {
        self.groups.values().filter(|group| group.port != NO_PORT).all(|group| group.balancer.healthy_count() == count)
    }

    /// Targets that get new connections at the first front port.
    pub(super) fn healthy_at(&self, port: Option<u16>) -> usize {
        let group = port.and_then(|port| self.groups.get(&port));
        group.map_or_else(|| self.balancer.healthy_count(), |group| group.balancer.healthy_count())
    }
}

impl LoadBalancer {
    /// A listener leads to another port of the pods from now on, and so to another group; `from` is the port of before.
    pub(super) fn renew(&self, front: u16, (from, to): (u16, u16), event: EventId) {
        let inner = &self.inner;
        let live = inner.live();
        if live.targets.mode != BackendMode::Pods {
            return;
        }
        let is_first = live.ports.keys().next() == Some(&front);
        let (known, open) = {
            let mut state = inner.state.borrow_mut();
            let state = &mut *state;
            let known: Vec<(Ipv4Addr, TargetId)> = state
                .registered
                .iter()
                .filter_map(|(ip, id)| Some((*ip, (*id)?)))
                .filter(|(_, id)| state.names.get(id).is_some_and(|name| !inner.is_node(name)))
                .collect();
            let count = if live.is_cross_zone { 1 } else { state.vips.len().max(1) };
            let mut balancer = Balancer::new(BalancerConfig { groups: count, ..live.balancer.clone() });
            let mut ids = BTreeMap::new();
            for (ip, id) in known.iter().filter(|_| to != NO_PORT) {
                let zone = if live.is_cross_zone { Some(0) } else { state.zone_of(*ip) };
                let weight = state.balancer.weight(*id).unwrap_or(live.targets.weight);
                ids.insert(*id, balancer.register_in(zone, SocketAddrV4::new(*ip, to), weight, Some(event)));
            }
            state.groups_made += 1;
            let number = state.groups_made;
            state.groups.insert(front, Group { balancer, ids, port: to, number, event });
            // A proxy's clients are connected to itself, whatever its targets are.
            let is_through = |entry: &Entry| entry.port == front && entry.target != PROXIED;
            let open: Vec<ConnectionId> = state.connections.ids(is_through);
            (known, open)
        };
        for (ip, id) in &known {
            let name = inner.state.borrow().names.get(id).cloned().unwrap_or_default();
            if from != NO_PORT && (is_first || to == NO_PORT) {
                let gone = inner.tell_at(Some(event), "target_deregistered", &name, SocketAddrV4::new(*ip, from));
                // Whoever asks why there is nobody is told of the last that went.
                if let Some(group) = inner.state.borrow_mut().groups.get_mut(&front).filter(|_| to == NO_PORT) {
                    group.event = gone;
                }
            }
            if to == NO_PORT {
                continue;
            }
            if is_first {
                inner.tell_at(Some(event), "target_registered", &name, SocketAddrV4::new(*ip, to));
            }
            self.probe_in_groups(*id, *ip, event, Some(front));
        }
        self.cut_former(open, event);
    }

    /// Connections through the former group meet what a removed target's do.
    fn cut_former(&self, open: Vec<ConnectionId>, event: EventId) {
        let (delay, how) = match self.inner.removal.get().on_deregister {
            OnRemoval::Keep => return,
            OnRemoval::CutAfter(delay) => (delay, Sever::Reset),
            OnRemoval::Forget => (std::time::Duration::ZERO, Sever::Silent),
        };
        let this = self.clone();
        self.inner.sim.spawn("lb-cut", async move {
            let inner = &this.inner;
            inner.sim.sleep(delay).await;
            let object = inner.config.identity.object(format!("Service/{}", inner.config.service));
            let now = inner.sim.now();
            let cut = inner.log.borrow_mut().record(now, Some(event), "group_drained", object, Vec::new());
            for connection in open {
                let is_open = inner.state.borrow().connections.get(connection).is_some();
                if is_open && how == Sever::Silent {
                    inner.state.borrow_mut().forgotten.insert(connection, cut);
                }
                if is_open {
                    inner.net.sever(connection, how, Some(cut));
                }
            }
        });
    }

    /// Checks a target in the groups that have it: in one, or in all.
    pub(super) fn probe_in_groups(&self, id: TargetId, ip: Ipv4Addr, event: EventId, only: Option<u16>) {
        let groups: Vec<(u16, u32)> = {
            let state = self.inner.state.borrow();
            let meant = state.groups.iter().filter(|(front, _)| only.is_none_or(|only| only == **front));
            meant.map(|(front, group)| (*front, group.number)).collect()
        };
        for (front, number) in groups {
            let this = self.clone();
            self.inner.sim.spawn("lb-probe", async move { this.probe_in(front, number, (id, ip), event).await });
        }
    }

    async fn probe_in(&self, front: u16, number: u32, (id, ip): (TargetId, Ipv4Addr), mut because: EventId) {
        let inner = &self.inner;
        let (mut next, probing) = (inner.sim.now(), inner.probing.get());
        loop {
            let Some(check) = inner.live().balancer.health_check.filter(|_| inner.probing.get() == probing) else {
                return;
            };
            let known =
                inner.state.borrow().groups.get(&front).filter(|group| group.number == number).map(|it| it.port);
            let Some(port) = known else { return };
            let is_ok = inner.passes(ip, port, check.timeout).await;
            let (change, name) = {
                let mut state = inner.state.borrow_mut();
                let Some(name) = state.names.get(&id).cloned() else { return };
                let Some(group) = state.groups.get_mut(&front).filter(|group| group.number == number) else { return };
                let Some(its) = group.ids.get(&id).copied() else { return };
                (group.balancer.handle_probe(inner.sim.now(), its, is_ok, Some(because)), name)
            };
            if let Some(change) = change
                && inner.live().ports.keys().next() == Some(&front)
            {
                let kind = match change {
                    HealthChange::Healthy => "target_healthy",
                    HealthChange::Unhealthy => "target_unhealthy",
                };
                because = inner.tell_at(Some(because), kind, &name, SocketAddrV4::new(ip, port));
            }
            next = check.next_probe(next, inner.sim.now());
            inner.sim.sleep_until(next).await;
        }
    }
}

impl Inner {
    /// What happens to a target, by its address.
    pub(super) fn tell_at(
        &self,
        because: Option<EventId>,
        kind: &'static str,
        name: &str,
        address: SocketAddrV4,
    ) -> EventId {
        let address = address.to_string();
        let identity = &self.config.identity;
        let object = identity.object(format!("Target/{}/{address}", self.config.service));
        let namespace = self.config.service.split('/').next().unwrap_or_default();
        let data = match self.is_node(name) {
            false => {
                let pod = identity.key(&format!("{namespace}/{name}"));
                vec![("pod", (&*pod).into()), ("address", address.into())]
            }
            true => vec![("node", name.into()), ("address", address.into())],
        };
        self.log.borrow_mut().record(self.sim.now(), because, kind, object, data)
    }
}
