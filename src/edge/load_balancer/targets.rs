//! Targets of a balancer as its controller has them changed: each by itself, or in the calls of one reconcile after the other.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use super::{Inner, LoadBalancer, State};
use crate::edge::balancer::{OnRemoval, TargetId};
use crate::edge::controller::{Backoff, Call, Pace, Wanted, plan};
use crate::engine::EventId;
use crate::net::{ConnectionId, Sever};
use crate::units::SimTime;

impl LoadBalancer {
    /// Each target that is new, gone or weighs otherwise changes after a latency of its own.
    pub(super) fn change_each(&self, wanted: BTreeMap<Ipv4Addr, Wanted>) {
        let (to_register, to_deregister, to_weigh) = {
            let mut state = self.inner.state.borrow_mut();
            let gone: Vec<Ipv4Addr> = state.registered.keys().filter(|ip| !wanted.contains_key(ip)).copied().collect();
            let new: Vec<Ipv4Addr> = wanted.keys().filter(|ip| !state.registered.contains_key(ip)).copied().collect();
            let causes: BTreeMap<Ipv4Addr, Option<EventId>> =
                state.endpoints.iter().map(|endpoint| (endpoint.ip, endpoint.because)).collect();
            let removals: Vec<(Ipv4Addr, Rc<str>, Option<EventId>)> = gone
                .into_iter()
                .map(|ip| {
                    let known = state.wanted.get(&ip);
                    let name = known.map_or_else(|| Rc::from(ip.to_string()), |known| Rc::clone(&known.name));
                    let because = known.and_then(|known| known.because);
                    (ip, name, causes.get(&ip).copied().flatten().or(because))
                })
                .collect();
            for ip in &new {
                state.registered.insert(*ip, None);
            }
            // A removal that waits for its latency is not asked for again.
            let removals: Vec<_> = removals.into_iter().filter(|(ip, ..)| state.wanted.contains_key(ip)).collect();
            let is_heavier =
                |ip: &Ipv4Addr, new: &Wanted| state.wanted.get(ip).is_some_and(|it| it.weight != new.weight);
            let others: Vec<Ipv4Addr> =
                wanted.iter().filter(|(ip, new)| is_heavier(ip, new)).map(|(ip, _)| *ip).collect();
            state.wanted = wanted;
            (new, removals, others)
        };
        for ip in to_register {
            self.register_later(ip);
        }
        for (ip, name, because) in to_deregister {
            self.deregister_later(ip, name, because);
        }
        for ip in to_weigh {
            self.weigh_later(ip);
        }
    }

    pub(super) fn register_later(&self, ip: Ipv4Addr) {
        let this = self.clone();
        self.inner.sim.spawn("lb-register", async move {
            let inner = &this.inner;
            let name =
                inner.state.borrow().wanted.get(&ip).map_or_else(|| Rc::from(""), |wanted| Rc::clone(&wanted.name));
            let stands = inner.config.stands_at_zero && inner.sim.now() == SimTime::ZERO;
            let latency = inner.config.register_latency.draw(&mut inner.streams.stream("lb-register", &name));
            inner.sim.sleep(if stands { Duration::ZERO } else { latency }).await;
            let registered = {
                let mut state = inner.state.borrow_mut();
                match state.wanted.get(&ip).cloned() {
                    None => {
                        state.registered.remove(&ip);
                        None
                    }
                    Some(wanted) => Some(inner.register(&mut state, ip, wanted, stands)),
                }
            };
            if let Some((id, event)) = registered {
                inner.tell_registered(id, ip, event);
                this.probe_in_groups(id, ip, event, None);
                this.probe(id, ip, event, stands).await;
            }
        });
    }

    /// A target gets another weight, once the controller has come to it.
    fn weigh_later(&self, ip: Ipv4Addr) {
        let this = self.clone();
        self.inner.sim.spawn("lb-weigh", async move {
            let inner = &this.inner;
            let name =
                inner.state.borrow().wanted.get(&ip).map_or_else(|| Rc::from(""), |wanted| Rc::clone(&wanted.name));
            let purpose = format!("{name}/{}", inner.sim.now().as_nanos());
            inner.sim.sleep(inner.config.register_latency.draw(&mut inner.streams.stream("lb-weigh", &purpose))).await;
            // What is not registered yet gets it with its registration.
            inner.state.borrow_mut().weigh(ip);
        });
    }

    fn deregister_later(&self, ip: Ipv4Addr, name: Rc<str>, because: Option<EventId>) {
        let this = self.clone();
        self.inner.sim.spawn("lb-deregister", async move {
            let inner = &this.inner;
            inner.sim.sleep(this.removal_latency(&name)).await;
            let lingers = inner.config.ways.deregistration.draw(&mut inner.streams.stream("lb-deregistration", &name));
            let stopped = this.stop_checks(ip, &name, because, !lingers.is_zero());
            let Some((id, mut event)) = stopped else { return };
            if !lingers.is_zero() {
                inner.sim.sleep(lingers).await;
            }
            if !this.leave(ip, id, event) {
                return;
            }
            if !lingers.is_zero() {
                event = inner.tell(Some(event), "target_deregistered", &name, ip);
                inner.state.borrow_mut().last_removal = Some(event);
            }
            let rule = match inner.removal.get().on_deregister {
                OnRemoval::CutAfter(delay) => OnRemoval::CutAfter(delay.saturating_sub(lingers)),
                other => other,
            };
            this.cut_later(id, name, ip, rule, event);
        });
    }

    /// Cuts a target's connections when their time is over: unless it has passed its check since, be it that it has failed again.
    pub(super) fn cut_later(&self, id: TargetId, name: Rc<str>, ip: Ipv4Addr, rule: OnRemoval, because: EventId) {
        let (delay, how) = match rule {
            OnRemoval::Keep => return,
            OnRemoval::CutAfter(delay) => (delay, Sever::Reset),
            OnRemoval::Forget => (Duration::ZERO, Sever::Silent),
        };
        let this = self.clone();
        self.inner.sim.spawn("lb-cut", async move {
            let inner = &this.inner;
            inner.sim.sleep(delay).await;
            let connections: Vec<ConnectionId> = {
                let state = inner.state.borrow();
                // A target that was removed is not known any more.
                if state.balancer.why(id).is_some_and(|why| why != because) {
                    return;
                }
                state.connections.ids(|entry| entry.target == id)
            };
            let event = inner.tell(Some(because), "target_drained", &name, ip);
            this.cut_requests(id, event);
            for connection in connections {
                if how == Sever::Silent {
                    inner.state.borrow_mut().forgotten.insert(connection, event);
                }
                inner.net.sever(connection, how, Some(event));
            }
        });
    }

    /// The controller comes to the Service, now or after the reconcile that runs.
    pub(super) fn reconcile_soon(&self, wanted: BTreeMap<Ipv4Addr, Wanted>) {
        let inner = &self.inner;
        let mut state = inner.state.borrow_mut();
        for (ip, target) in &wanted {
            state.last_seen.insert(*ip, target.clone());
        }
        // Why others leave: when the controller comes to them their endpoints may be gone.
        let others = state.endpoints.iter().filter(|endpoint| !wanted.contains_key(&endpoint.ip));
        let leaving: Vec<_> = others.map(|endpoint| (endpoint.ip, endpoint.because)).collect();
        for (ip, because) in leaving {
            if let Some(seen) = state.last_seen.get_mut(&ip) {
                seen.because = because.or(seen.because);
            }
        }
        state.wanted = wanted;
        state.is_due = true;
        if inner.config.stands_at_zero && inner.sim.now() == SimTime::ZERO {
            // As the run finds it: nothing has to be done.
            state.is_due = false;
            drop(state);
            self.stand();
            return;
        }
        if !std::mem::replace(&mut state.is_reconciling, true) {
            drop(state);
            let this = self.clone();
            inner.sim.spawn("lb-reconcile", async move { this.reconcile().await });
        }
    }

    /// All that is wanted is registered at once, and healthy; and weighs what it should, since the run finds one pod of a node after the other.
    fn stand(&self) {
        let wanted: Vec<Ipv4Addr> = self.inner.state.borrow().wanted.keys().copied().collect();
        for ip in wanted {
            self.add(ip, true);
            self.inner.state.borrow_mut().weigh(ip);
        }
    }

    /// Reconciles until nothing has changed since the last one.
    async fn reconcile(&self) {
        let inner = &self.inner;
        let Pace::Batches { calls, further, throttled_ppm } = inner.config.pace else { return };
        let purpose = format!("{}/{}", inner.config.service, inner.sim.now().as_nanos());
        let mut throttling = inner.streams.stream("lb-throttle", &purpose);
        let mut backoff = Backoff::default();
        while std::mem::take(&mut inner.state.borrow_mut().is_due) {
            let todo = {
                let state = inner.state.borrow();
                let weight = |id: &TargetId| state.balancer.weight(*id).unwrap_or(0);
                let known = state.registered.iter().filter_map(|(ip, id)| Some((*ip, weight(id.as_ref()?))));
                plan(&inner.live().targets, &known.collect(), &state.wanted)
            };
            let mut failure = todo.is_over_quota.then_some("quota");
            for (index, call) in todo.calls.iter().enumerate() {
                let latency = if index == 0 { self.latency_until(call) } else { further };
                let (wait, is_throttled) = calls.throttle(|| throttling.chance_ppm(throttled_ppm));
                inner.sim.sleep(wait).await;
                if is_throttled {
                    inner.sim.sleep(latency).await;
                    failure = failure.or(Some("throttling"));
                    continue;
                }
                let (ends_after, is_given_up) = calls.end(latency);
                let started_at = inner.sim.now();
                if is_given_up {
                    // The job goes on; the controller does not wait for it.
                    let (this, call) = (self.clone(), call.clone());
                    inner.sim.spawn("lb-job", async move {
                        this.inner.sim.sleep(latency).await;
                        this.carry_out(&call);
                    });
                    inner.sim.sleep(ends_after).await;
                    failure = failure.or(Some("timeout"));
                    break;
                }
                inner.sim.sleep(latency).await;
                self.carry_out(call);
                inner.sim.sleep_until(started_at.after(ends_after)).await;
            }
            if let Some(reason) = failure {
                self.tell_failure(reason);
                let until = inner.sim.now().after(backoff.fail());
                // A change in between is heeded at once.
                while inner.sim.now() < until && !inner.state.borrow().is_due {
                    let next = inner.sim.now().after(Duration::from_secs(1)).min(until);
                    inner.sim.sleep_until(next).await;
                }
                inner.state.borrow_mut().is_due = true;
            } else {
                backoff.succeed();
            }
        }
        inner.state.borrow_mut().is_reconciling = false;
    }

    /// From a reconcile's start to the end of its first call, as its purpose and its moment have it.
    fn latency_until(&self, call: &Call) -> Duration {
        let inner = &self.inner;
        let config = &inner.config;
        let (purpose, delay) = match call {
            Call::Add(_) => ("lb-call-add", &config.register_latency),
            Call::Remove(_) => ("lb-call-remove", &config.deregister_latency),
            Call::Weigh(_) => ("lb-call-weigh", &config.register_latency),
        };
        let number = {
            let mut state = inner.state.borrow_mut();
            state.calls_made += 1;
            state.calls_made
        };
        delay.draw(&mut inner.streams.stream(purpose, &format!("{}/{number}", config.service)))
    }

    fn carry_out(&self, call: &Call) {
        match call {
            Call::Add(ips) => ips.iter().for_each(|ip| self.add(*ip, false)),
            Call::Remove(ips) => ips.iter().for_each(|ip| self.remove(*ip)),
            Call::Weigh(ips) => {
                let mut state = self.inner.state.borrow_mut();
                for ip in ips {
                    state.weigh(*ip);
                }
            }
        }
    }

    /// Registers a target, if it is not.
    fn add(&self, ip: Ipv4Addr, stands: bool) {
        let inner = &self.inner;
        let registered = {
            let mut state = inner.state.borrow_mut();
            if state.registered.contains_key(&ip) || state.is_left {
                return;
            }
            // What was wanted when the call was made is added, even if it is not wanted any more.
            let Some(wanted) = state.wanted.get(&ip).or_else(|| state.last_seen.get(&ip)).cloned() else { return };
            inner.register(&mut state, ip, wanted, stands)
        };
        let (this, (id, event)) = (self.clone(), registered);
        inner.tell_registered(id, ip, event);
        self.probe_in_groups(id, ip, event, None);
        inner.sim.spawn("lb-probe", async move { this.probe(id, ip, event, stands).await });
    }

    /// Removes a target, if it is one.
    fn remove(&self, ip: Ipv4Addr) {
        let inner = &self.inner;
        let (id, name, event) = {
            let mut state = inner.state.borrow_mut();
            let Some(Some(id)) = state.registered.remove(&ip) else { return };
            let endpoint = state.endpoints.iter().find(|endpoint| endpoint.ip == ip);
            let because = endpoint.and_then(|endpoint| endpoint.because);
            let because = because.or_else(|| state.last_seen.get(&ip)?.because);
            let name = state.names.remove(&id).unwrap_or_else(|| Rc::from(ip.to_string()));
            state.balancer.deregister(id);
            state.leave_groups(id);
            if !state.wanted.contains_key(&ip) {
                state.last_seen.remove(&ip);
            }
            let event = inner.tell(because, "target_deregistered", &name, ip);
            state.last_removal = Some(event);
            (id, name, event)
        };
        self.forget_kept(id);
        self.cut_later(id, name, ip, inner.removal.get().on_deregister, event);
    }

    fn tell_failure(&self, reason: &'static str) {
        let inner = &self.inner;
        let object = inner.config.identity.object(format!("Service/{}", inner.config.service));
        let data = vec![("reason", reason.into())];
        inner.log.borrow_mut().record(inner.sim.now(), None, "lb_sync_failed", object, data);
    }
}

impl State {
    /// A target gets the weight that is wanted by now.
    fn weigh(&mut self, ip: Ipv4Addr) {
        if let (Some(weight), Some(Some(id))) =
            (self.wanted.get(&ip).map(|wanted| wanted.weight), self.registered.get(&ip).copied())
        {
            self.balancer.set_weight(id, weight);
            self.weigh_in_groups(id, weight);
        }
    }
}

impl Inner {
    /// Writes a target down; its name at the balancer, and the event.
    fn register(&self, state: &mut State, ip: Ipv4Addr, wanted: Wanted, stands: bool) -> (TargetId, EventId) {
        let Wanted { name, node, because, weight } = wanted;
        let zone = if self.live().is_cross_zone {
            Some(0)
        } else {
            state.node_zones.get(&node).and_then(|it| state.vip_in(it))
        };
        let event = self.tell(because, "target_registered", &name, ip);
        let address = SocketAddrV4::new(ip, self.probe_port());
        let id = state.balancer.register_in(zone, address, weight, Some(event));
        state.join_groups(id, (zone, ip), weight, event);
        state.registered.insert(ip, Some(id));
        state.names.insert(id, Rc::clone(&name));
        if stands && self.stands_healthy(state, &node) {
            state.balancer.set_healthy(id);
        }
        if state.balancer.is_healthy(id) {
            self.tell(Some(event), "target_healthy", &name, ip);
        }
        (id, event)
    }
}
