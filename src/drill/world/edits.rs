//! What becomes of a gateway and of the way to it when their objects are edited in mid-run.
//!
//! - The gateway's listeners, clusters and routes reach each pod with a push of the control plane (`push`).
//! - The Service in front reaches kube-proxies as its endpoints do, each node for itself; doors keep what clients may dial.
//! - Its balancer changes as its controller comes to it ([`crate::edge::load_balancer::Change`]).
//! - What only a process reads at its start counts for pods that start later: nothing restarts.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::front::{eligible, zones};
use super::member::Member;
use crate::drill::config::{BalancerFate, Creation, FrontChange, Listening};
use crate::drill::process::GatewaySpec;
use crate::edge::controller::is_virtual;
use crate::edge::load_balancer::{Change, Failed, address};
use crate::edge::{LoadBalancerConfig, ServiceFace};
use crate::engine::{Datum, EventId};
use crate::load::Finished;
use crate::record::{CauseCode, Outcome};
use crate::units::SimTime;

/// What the event of a Service's edit calls ports that lead to no port of any pod.
const NOWHERE: &str = "without_endpoint";

impl Member {
    /// The gateway listens elsewhere.
    pub(super) fn change_listeners(self: &Rc<Self>, changed: &Listening, event: EventId) {
        let old = self.listeners.replace(changed.listeners.clone());
        let bound = |listeners: &[(u16, u16)]| listeners.iter().map(|(bound, _)| *bound).collect::<BTreeSet<u16>>();
        let (old, new) = (bound(&old), bound(&changed.listeners));
        let mut removed = self.removed_listeners.borrow_mut();
        removed.retain(|port, _| !new.contains(port));
        removed.extend(old.difference(&new).map(|port| (*port, event)));
        drop(removed);
        self.heed_sources(&changed.sources);
        self.push_once(event);
    }

    /// Later losses go back to these lines.
    pub(super) fn heed_sources(&self, sources: &crate::drill::Sources) {
        self.sources.borrow_mut().extend(sources.iter().map(|(code, source)| (*code, source.clone())));
    }

    /// The Service in front is another.
    pub(super) fn change_front(self: &Rc<Self>, change: &FrontChange, event: EventId) {
        let (cluster, front) = (self.cluster(), &self.config.front);
        if !change.is_gone {
            cluster.apply_service(change.service.clone());
        }
        self.heed_sources(&change.sources);
        if change.is_gone {
            self.lose_front(change, event);
            return;
        }
        self.tell_front(change, event);
        for (door, spec) in self.doors.borrow().iter().zip(&change.doors) {
            if let (Some(door), Some(spec)) = (door, spec) {
                door.add_ports(&spec.ports);
            }
        }
        match &change.fate {
            BalancerFate::Stays => {}
            BalancerFate::TakenBack => self.wants_balancer.set(true),
            BalancerFate::Deleted => {
                self.wants_balancer.set(false);
                self.current_balancer().iter().for_each(|balancer| balancer.delete_later(event, || {}));
            }
            BalancerFate::Left(parting) => {
                self.wants_balancer.set(false);
                self.current_balancer().iter().for_each(|it| it.part_later(parting.clone(), event, || {}));
            }
            BalancerFate::Made(config, creation) => self.make_balancer(config, creation, event),
        }
        if let (Some(balancer), Some(edited)) = (self.current_balancer(), &change.balancer) {
            let ready: BTreeSet<Rc<str>> = cluster.ready_nodes().into_iter().map(|(name, _)| name).collect();
            let mut nodes = cluster.node_specs();
            nodes.retain(|node| ready.contains(&node.name) || is_virtual(node));
            let change = Change {
                config: edited.config.clone(),
                eligible: eligible(nodes, &edited.config.targets.nodes),
                writes_listeners: edited.writes_listeners,
                failure: edited.failure.clone(),
            };
            debug_assert_eq!(edited.config.service, front.service, "the balancer stays with its Service");
            if !edited.config.is_cross_zone {
                balancer.set_node_zones(zones(&cluster));
            }
            let mode = edited.config.targets.mode;
            let is_other = mode != balancer.mode();
            balancer.change_later(change, event);
            if is_other && !edited.failure.as_ref().is_some_and(|failure| failure.stops_all) {
                // Pods whose gates wait are dealt with by what targets are now.
                cluster.retell_endpoints(&front.service, "cloud-controller-manager", Some(event.number()));
            }
        }
    }

    /// The Service in front is deleted. While it has a balancer its object stays, until the controller has cleaned up and takes its finalizer away.
    fn lose_front(self: &Rc<Self>, change: &FrontChange, event: EventId) {
        let (member, gone) = (Rc::clone(self), change.clone());
        let then = move || {
            member.tell_front(&gone, event);
            member.cluster().delete_service(&member.config.front.service);
        };
        match (&change.fate, self.current_balancer()) {
            (BalancerFate::Deleted, Some(balancer)) => {
                self.wants_balancer.set(false);
                balancer.delete_later(event, then);
            }
            (BalancerFate::Left(parting), Some(balancer)) => {
                // What cannot be cleaned up keeps its object, with the address.
                self.wants_balancer.set(parting.failure.is_some());
                balancer.part_later(parting.clone(), event, then);
            }
            _ => then(),
        }
    }

    /// Kube-proxies, and whoever looks at objects, are told of its ports.
    fn tell_front(&self, change: &FrontChange, event: EventId) {
        self.front_ports.replace(change.after.clone());
        self.tell_nodes(change, event);
    }

    /// The Service in front wants a balancer, and has had none, or has none any more. Its controller makes one at an address that no client has heard of.
    fn make_balancer(self: &Rc<Self>, config: &LoadBalancerConfig, creation: &Creation, event: EventId) {
        self.wants_balancer.set(true);
        let number = self.made_count.get() + 1;
        self.made_count.set(number);
        let (member, config) = (Rc::clone(self), config.clone());
        if let Creation::Fails { reason } = creation {
            self.tell_service(&config.service, Some(event), "lb_sync_failed", reason);
            return;
        }
        let latency = config.register_latency.clone();
        self.listeners_pending.set(self.listeners_pending.get() + 1);
        let mut stream = self.around.streams.stream("lb-create", &format!("{}/{number}", config.service));
        self.around.sim.spawn("lb-create", async move {
            member.around.sim.sleep(latency.draw(&mut stream)).await;
            member.listeners_pending.set(member.listeners_pending.get() - 1);
            if !member.wants_balancer.get() || member.made_count.get() != number {
                return;
            }
            let object = member.identity().object(format!("Service/{}", config.service));
            let now = member.around.sim.now();
            member.around.log.borrow_mut().record(now, Some(event), "lb_created", object, Vec::new());
            // Others than any balancer of before has or had.
            let first = address(member.vip, 32 * usize::try_from(number).unwrap_or(1));
            let prober = Ipv4Addr::from_bits(member.prober.to_bits() + (number << 16));
            let vips = (0..config.zones.len().max(1)).map(|zone| address(first, zone)).collect();
            let config = LoadBalancerConfig { stands_at_zero: false, ..config };
            let made = member.place_balancer(&member.cluster(), config, (prober, vips));
            *member.made.borrow_mut() = Some(made);
        });
    }

    /// Each node's kube-proxy hears of a Service that has other ports or rules.
    fn tell_nodes(&self, change: &FrontChange, event: EventId) {
        let old = &change.before;
        let (nodes, Some(rules)) = (self.nodes.borrow(), change.rules) else { return };
        let Some(nodes) = &*nodes else { return };
        if change.after == *old && change.rules_before == change.rules {
            return;
        }
        let gone = old.ports.keys().filter(|port| !change.after.ports.contains_key(port));
        let gone = gone.map(u16::to_string).collect::<Vec<_>>().join(",");
        let mut data: Vec<(&'static str, Datum)> = vec![("gone", gone.as_str().into())];
        let nowhere = change.after.leading_nowhere();
        if !nowhere.is_empty() {
            data.push((NOWHERE, nowhere.iter().map(u16::to_string).collect::<Vec<_>>().join(",").as_str().into()));
        }
        let object = self.identity().object(format!("Service/{}", self.config.front.service));
        let now = self.around.sim.now();
        let told = self.around.log.borrow_mut().record(now, Some(event), "service_ports_changed", object, data);
        let face = |ports: &crate::drill::config::FrontPorts, rules, because| ServiceFace {
            rules,
            ports: ports.ports.clone(),
            node_ports: ports.behind_nodes(),
            because,
        };
        let before = face(old, change.rules_before.unwrap_or(rules), None);
        let after = face(&change.after, rules, Some(told));
        let (cluster, service) = (self.cluster(), &self.config.front.service);
        nodes.edit_service(&before, after, |node| {
            cluster.retell_endpoints(service, &format!("kube-proxy/{node}"), Some(event.number()))
        });
    }

    /// Processes that start from now on read this at their start.
    pub(super) fn change_process(&self, owner: &Rc<str>, other: &str, spec: &GatewaySpec) {
        self.specs.borrow_mut().insert((Rc::clone(owner), other.to_owned()), spec.clone());
    }

    /// The gateway of a pod that starts now; none if its owner's pods are no gateways.
    pub(super) fn spec_of_new(&self, owner: &Rc<str>, other: &str) -> Option<GatewaySpec> {
        let pods = self.config.gateways.get(owner)?;
        let changed = self.specs.borrow().get(&(Rc::clone(owner), other.to_owned())).cloned();
        let mut spec = changed.unwrap_or_else(|| pods.spec(other).clone());
        spec.config.listeners.clone_from(&self.listeners.borrow());
        let gone = self.gone_clusters.borrow();
        spec.config.clusters.retain(|name, _| !gone.contains(name));
        Some(spec)
    }

    /// The balancer has no healthy target though a pod is one and has been ready for longer than its checks take: they ask what no gateway answers.
    pub(super) fn check_trouble(&self, finished: &Finished) -> Option<(CauseCode, EventId)> {
        let sight = &finished.sight;
        let is_dialled = sight.entrance.is_some_and(|entrance| self.vips().contains(&entrance));
        if !finished.outcome.is_dropped() || sight.target.is_some() || !is_dialled {
            return None;
        }
        let (cluster, balancer) = (self.cluster(), self.balancer.borrow());
        let (span, targets) = balancer.as_ref()?.failed_targets()?;
        if balancer.as_ref()?.asks_nobody() {
            return targets.first().map(|failed| (CauseCode::LbCheckFails, failed.event));
        }
        let (now, ready) = (finished.ended_at, cluster.ready_endpoints(&self.config.front.service));
        let log = self.around.log.borrow();
        let is_over = |since: SimTime| since == SimTime::ZERO || since.after(span) <= now;
        let is_fine = |Failed { ip, event, is_new }: &Failed| {
            let pod = cluster.pod_at(*ip)?;
            let is_alive = pod.exited_at.is_none() && cluster.death_at(*ip, now, now).is_none();
            let running_since = pod.killed.map_or(pod.ready_at, |kill| kill.restarted_at)?;
            let was_checked = !is_new || log.causes(*event).next().is_some_and(|event| is_over(event.at));
            Some(is_alive && ready.contains(ip) && is_over(running_since) && was_checked)
        };
        let wrong = targets.iter().find(|target| is_fine(target) == Some(true));
        wrong.map(|failed| (CauseCode::LbCheckFails, failed.event))
    }

    /// A port that is gone, on the way to the gateway or at it.
    pub(super) fn port_trouble(&self, finished: &Finished, port: u16) -> Option<(CauseCode, EventId)> {
        let sight = &finished.sight;
        if !finished.outcome.is_dropped() {
            return None;
        }
        let is_gone = |event: &EventId| {
            let log = self.around.log.borrow();
            let kind = log.causes(*event).next().map(|event| event.kind);
            matches!(kind, Some("lb_listener_deleted" | "service_ports_changed"))
        };
        if let Some(event) = sight.why.filter(is_gone) {
            // A port that leads to no port of any pod is there, and has no endpoint.
            let log = self.around.log.borrow();
            let nowhere = log.causes(event).next().and_then(|event| event.data.iter().find(|(key, _)| *key == NOWHERE));
            let leads_nowhere =
                matches!(nowhere, Some((_, Datum::Text(ports))) if ports.split(',').any(|it| it == port.to_string()));
            let code = if leads_nowhere { CauseCode::NoEndpoint } else { CauseCode::FrontPortClosed };
            return Some((code, event));
        }
        // Who waits to be accepted when the port closes is reset.
        let is_reset = finished.outcome == Outcome::Reset && !sight.was_reused;
        if finished.outcome != Outcome::Refused && !is_reset {
            return None;
        }
        let removed = match sight.target {
            Some(target) => {
                let gateways = self.gateways.borrow();
                let process = gateways.get(target.ip())?;
                // Who has started since then has never had it.
                let never = || self.removed_listeners.borrow().get(&target.port()).copied();
                process.removed_listener(target.port(), sight.tried_at, finished.ended_at).or_else(never)
            }
            // The balancer has nobody left because its checks ask a port that is gone.
            None => {
                let bound = self.balancer.borrow().as_ref()?.target_port(port)?;
                self.removed_listeners.borrow().get(&bound).copied()
            }
        };
        removed.map(|event| (CauseCode::ListenerRemoved, event))
    }
}
