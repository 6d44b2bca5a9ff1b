//! The wish for a balancer that fails, and Services that share one.

use std::net::Ipv4Addr;
use std::rc::Rc;

use super::member::Member;
use crate::cluster::owner;
use crate::drill::config::{Share, SharedService};
use crate::drill::objects::Further;
use crate::edge::LoadBalancer;
use crate::engine::{Datum, EventId};
use crate::load::Finished;
use crate::net::{ConnectionId, Forward, Syn, Verdict};
use crate::record::results::GatewayStatus;
use crate::record::{CauseCode, Outcome};
use crate::units::SimTime;

/// An address that nobody has: a name that leads there, or nowhere.
struct Nowhere(EventId);

impl Forward for Nowhere {
    fn syn(&self, _: &Syn) -> Verdict {
        Verdict::Drop { why: Some(self.0), by: None }
    }

    fn ended(&self, _: ConnectionId) {}
}

impl Member {
    /// The controller cannot give the Service in front a balancer: it stays pending, and clients have nowhere to go.
    pub(super) fn fail_creation(&self, reason: &str) {
        let event = self.tell_service(&self.config.front.service, None, "lb_sync_failed", reason);
        self.not_created.set(Some(event));
        for vip in self.vips() {
            self.net.forward(vip, self.cloud_link(), Rc::new(Nowhere(event)));
        }
    }

    /// The gateway is served no configuration: its pods never get ready.
    pub(super) fn tell_unconfigured(&self, reason: &str) {
        let object = self.identity().object(owner::object_of(&self.config.target));
        let data = vec![("message", Datum::from(reason))];
        let now = self.around.sim.now();
        let event = self.around.log.borrow_mut().record(now, None, "gateway_unconfigured", object, data);
        self.unconfigured.set(Some(event));
    }

    pub(super) fn tell_service(
        &self,
        key: &str,
        because: Option<EventId>,
        kind: &'static str,
        message: &str,
    ) -> EventId {
        let object = self.identity().object(format!("Service/{key}"));
        let mut data: Vec<(&'static str, Datum)> = Vec::new();
        if kind == "lb_sync_failed" {
            data.push(("reason", "SyncLoadBalancerFailed".into()));
        }
        data.push(("message", message.into()));
        self.around.log.borrow_mut().record(self.around.sim.now(), because, kind, object, data)
    }

    /// What the Service's status shows of a balancer that is there: its name, if it has one, or its address.
    pub(super) fn address_shown(&self, balancer: &LoadBalancer) -> Option<String> {
        let address = balancer.addresses().first()?.to_string();
        Some(self.config.front.balancer_name.clone().unwrap_or(address))
    }

    /// A further Service of type `LoadBalancer` comes: its controller does to the balancer in front what its annotations say.
    pub(super) fn share(self: &Rc<Self>, shared: &SharedService, event: EventId) {
        let key = &shared.service.key;
        let cluster = self.cluster();
        cluster.apply_service(shared.service.clone());
        // Addresses of balancers that nobody asks come after those of the clusters.
        let number = u32::try_from(100 + 16 * self.index + self.further.borrow().len()).unwrap_or(u32::MAX);
        let own = Ipv4Addr::from_bits(Ipv4Addr::new(203, 0, 113, 1).to_bits().saturating_add(number));
        let ip = match &shared.share {
            Share::Own => Some(own),
            Share::LeavesAlone | Share::Overwrites => Some(self.vip),
            Share::Fails { reason } => {
                self.tell_service(key, Some(event), "lb_sync_failed", reason);
                None
            }
        };
        self.further.borrow_mut().insert(Rc::clone(key), Further { ip });
        let front = self.balancer.borrow().clone();
        match (&shared.share, front) {
            (Share::Overwrites, Some(front)) => self.overwrite(shared, &front, event),
            (Share::LeavesAlone, _) => {
                self.tell_service(key, Some(event), "lb_listeners_kept", "listener override is false");
            }
            _ => {}
        }
    }

    /// The other Service gets its own targets at once, and the listeners when its controller has come to them.
    fn overwrite(self: &Rc<Self>, shared: &SharedService, front: &LoadBalancer, event: EventId) {
        let (sim, cluster, key) = (&self.around.sim, self.cluster(), Rc::clone(&shared.service.key));
        // Its own address for probes: one past those of the fronts for each further Service.
        let offset = u32::try_from(self.further.borrow().len() * 256).unwrap_or(0);
        let prober = Ipv4Addr::from_bits(self.prober.to_bits() + offset);
        let host = self.net.attach(prober, self.cloud_link());
        let (streams, log) = (self.around.streams, Rc::clone(&self.around.log));
        let other = LoadBalancer::new(sim, &self.net, host, streams, log, (shared.balancer.clone(), None));
        other.set_addresses(self.vips());
        self.sharing.borrow_mut().insert(Rc::clone(&key), other.clone());
        if let Some(mut watch) = cluster.watch_endpoints(&key, "cloud-controller-manager") {
            let seen_by = other.clone();
            sim.spawn("cloud-controller-manager", async move {
                loop {
                    let seen = watch.next().await;
                    seen_by.handle_endpoints(&seen.to_vec());
                }
            });
        }
        let latency = shared.balancer.register_latency.draw(&mut streams.stream("lb-listeners", &key));
        let (front, clock, log) = (front.clone(), sim.clone(), Rc::clone(&self.around.log));
        let object = self.identity().object(format!("Service/{}", self.config.front.service));
        let mine: Vec<u16> = self.config.front.ports.keys().copied().collect();
        let ports: Vec<u16> = shared.balancer.ports.keys().copied().filter(|port| mine.contains(port)).collect();
        self.listeners_pending.set(self.listeners_pending.get() + 1);
        let member = Rc::downgrade(self);
        sim.spawn("lb-listeners", async move {
            clock.sleep(latency).await;
            if let Some(member) = member.upgrade() {
                member.listeners_pending.set(member.listeners_pending.get() - 1);
            }
            // It may have been deleted meanwhile.
            let is_there = member.upgrade().is_some_and(|member| member.sharing.borrow().contains_key(&key));
            for port in ports.into_iter().filter(|_| is_there) {
                let data = vec![("port", i64::from(port).into()), ("by", (&*key).into())];
                let taken =
                    log.borrow_mut().record(clock.now(), Some(event), "lb_listener_taken", object.clone(), data);
                front.hand_over(port, &other, taken);
            }
        });
    }

    /// A further Service is deleted. Listeners that it had overwritten go with it when its controller has come to that; the Service in front gets them back when
    /// it is edited itself, since its controller looks at listeners only then.
    pub(super) fn unshare(self: &Rc<Self>, key: &Rc<str>, event: EventId) {
        self.cluster().delete_service(key);
        self.further.borrow_mut().remove(key);
        let (front, other) = (self.balancer.borrow().clone(), self.sharing.borrow_mut().remove(key));
        let (Some(front), Some(other)) = (front, other) else { return };
        let purpose = format!("{key}/{}", event.number());
        let latency = front.update_latency(&purpose);
        let (clock, member) = (self.around.sim.clone(), Rc::downgrade(self));
        self.listeners_pending.set(self.listeners_pending.get() + 1);
        self.around.sim.spawn("lb-listeners", async move {
            clock.sleep(latency).await;
            front.give_up_listeners(&other, event);
            if let Some(member) = member.upgrade() {
                member.listeners_pending.set(member.listeners_pending.get() - 1);
            }
        });
    }

    /// What kept a request from reaching the gateway: no configuration, no balancer, or a listener that leads elsewhere.
    pub(super) fn front_trouble(&self, finished: &Finished, port: u16) -> Option<(CauseCode, EventId)> {
        let sight = &finished.sight;
        if let Some(event) = self.unconfigured.get() {
            return Some((CauseCode::GatewayUnconfigured, event));
        }
        // Who dials a node's port or the Service's own address does not ask the balancer.
        if !sight.entrance.is_some_and(|entrance| self.vips().contains(&entrance)) {
            return None;
        }
        if let Some(event) = self.not_created.get() {
            return Some((CauseCode::LbNotCreated, event));
        }
        let balancer = self.balancer.borrow();
        let balancer = balancer.as_ref()?;
        let is_ours = || sight.target.is_some_and(|target| self.gateways.borrow().contains_key(target.ip()));
        let taken = balancer.handed_by(sight.connection, port, sight.tried_at).filter(|_| !is_ours());
        taken.map(|event| (CauseCode::LbListenerTaken, event))
    }

    /// An answer that comes from somebody else's pod is not what the client asked for.
    pub(super) fn heed_foreign(&self, finished: &mut Finished, port: u16) {
        let is_shared = self.balancer.borrow().as_ref().is_some_and(LoadBalancer::is_shared);
        let is_answer = matches!(finished.outcome, Outcome::Ok | Outcome::BackendError);
        if is_shared && is_answer && self.front_trouble(finished, port).is_some() {
            finished.outcome = Outcome::GatewayError;
        }
    }

    /// The gateway as ASM's console shows it: Running when it is ready and has an address.
    pub(super) fn status(&self, now: SimTime) -> GatewayStatus {
        let ready = self.counts().ready;
        let failed = self.not_created.get();
        let told = failed.or(self.unconfigured.get());
        let wants_balancer = self.wants_balancer.get();
        let address = self.current_balancer().filter(|_| wants_balancer && failed.is_none());
        let has_address = address.is_some();
        let log = self.around.log.borrow();
        let message = told.and_then(|event| log.causes(event).next()).and_then(|event| {
            event.data.iter().find(|(key, _)| *key == "message").map(|(_, datum)| match datum {
                Datum::Text(text) => text.clone(),
                Datum::Number(_) | Datum::Flag(_) => String::new(),
            })
        });
        let state = if has_address == wants_balancer && ready > 0 { "Running" } else { "Pending" };
        GatewayStatus {
            object: self.identity().key(&self.config.target).to_string(),
            t_ms: now.as_nanos() / 1_000_000,
            state: state.to_owned(),
            address: address.and_then(|balancer| self.address_shown(&balancer)),
            message,
        }
    }
}
