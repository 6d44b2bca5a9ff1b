//! What the timeline does to a world, and the looks at its objects.

use std::rc::Rc;
use std::time::Duration;

use super::World;
use super::entries::Entry;
use super::member::Member;
use crate::cluster::kubelet::pressure;
use crate::cluster::operation::Operation;
use crate::cluster::{BarePod, PodEdit, owner};
use crate::drill::config::{Action, Verb};
use crate::drill::objects::{Front, Watch, tables};
use crate::engine::EventId;
use crate::record::{ObjectTable, ObjectsShown};
use crate::units::SimTime;

impl World {
    pub(super) fn schedule_actions(self: &Rc<Self>, start: SimTime) {
        for action in &self.config.actions {
            let (world, action) = (Rc::clone(self), action.clone());
            let clock = self.around.sim.clone();
            self.around.sim.spawn("timeline", async move {
                clock.sleep_until(start.after(action.at)).await;
                world.act(&action);
            });
        }
    }

    /// Looks at the cluster at the times that were asked for.
    pub(super) fn schedule_looks(self: &Rc<Self>, start: SimTime) {
        let Some(Watch::At(times)) = &self.config.watch else { return };
        for at in times {
            let (world, clock, at) = (Rc::clone(self), self.around.sim.clone(), start.after(*at));
            self.around.sim.spawn("look", async move {
                clock.sleep_until(at).await;
                world.look("");
            });
        }
    }

    /// Notes what happens, if changes are watched.
    pub(super) fn look_at_change(&self, why: &str) {
        if self.config.watch == Some(Watch::Changes) {
            self.look(why);
        }
    }

    fn look(&self, why: &str) {
        let now = self.around.sim.now();
        let ms = |at: SimTime| i64::try_from(at.as_nanos() / 1_000_000).unwrap_or(i64::MAX);
        let at_ms = ms(now) - ms(SimTime::ZERO.after(self.config.warmup));
        for member in &self.members {
            let tables = member.tables(now);
            let cluster = member.identity().name().map(ToString::to_string);
            self.objects.borrow_mut().push(ObjectsShown { at_ms, why: why.to_owned(), cluster, tables });
        }
    }

    fn act(self: &Rc<Self>, action: &Action) {
        let now = self.around.sim.now();
        // Of what one entry of the timeline does at once only the first is a change to look at.
        if let Some(phase) = &action.phase {
            self.look_at_change(&format!("before: {}", action.text));
            self.recorder().phase(phase, now);
        }
        let Some(verb) = &action.verb else { return };
        // The phase of another load lasts until the next one.
        self.unsettled_s.set(if matches!(verb, Verb::Load(..)) { None } else { Some(0) });
        let member = &self.members[action.member];
        self.begins_within_s.set(begins_within(verb, &self.members[action.member]).as_secs());
        let object = match verb {
            Verb::Load(name, _) => format!("Load/{}", name.as_deref().unwrap_or("*")),
            verb => member.identity().object(object_of(verb, &member.config.target, &member.config.front.service)),
        };
        let data = vec![("action", action.text.as_str().into())];
        let event = self.around.log.borrow_mut().record(now, None, "timeline", object, data);
        self.entries.borrow_mut().insert(event, Entry::of(action, verb));
        if let Verb::FailZone(zone, back_after) = verb {
            self.fail_zone(action.member, zone, *back_after, event);
        }
        member.act(verb, event);
    }
}

impl Member {
    /// Its objects as they stand.
    fn tables(&self, now: SimTime) -> Vec<ObjectTable> {
        let spec = &self.config.front;
        let known = self.front_ports.borrow();
        let ports = known.ports.keys().map(|port| (*port, known.node_ports.get(port).copied())).collect();
        let current = self.current_balancer().filter(|_| self.wants_balancer.get());
        let address = current.and_then(|balancer| self.address_shown(&balancer));
        let is_pending = self.wants_balancer.get() && address.is_none();
        let further = self.further.borrow().clone();
        let front = Front { service: &spec.service, address, ports, is_pending, further };
        tables(&self.cluster(), &self.config.target, &front, now)
    }

    fn act(self: &Rc<Self>, verb: &Verb, event: EventId) {
        let cluster = self.cluster();
        match verb {
            Verb::Restart(key) => cluster.restart(key, Some(event)),
            Verb::Scale(key, replicas) => cluster.scale(key, *replicas, Some(event)),
            Verb::Apply(deployment, size) => self.apply(deployment, *size, event),
            Verb::Autoscale(spec) => cluster.apply_autoscaler((**spec).clone(), Some(event)),
            Verb::StopAutoscaling(key) => cluster.delete_autoscaler(key),
            Verb::Own(owned) => self.owned.set(*owned),
            Verb::Budget(budget) => cluster.apply_budget(budget.clone()),
            Verb::DeleteBudget(key) => cluster.delete_budget(key),
            Verb::Pod(pod) => {
                if !cluster.apply_pod((**pod).clone(), Some(event)) {
                    self.edit_pod(pod, event);
                }
            }
            Verb::EditPod(pod) => self.edit_pod(pod, event),
            Verb::DaemonSet(daemon) => cluster.apply_daemon_set((**daemon).clone(), Some(event)),
            Verb::DeleteDaemonSet(key) => drop(cluster.delete_daemon_set(key, Some(event))),
            Verb::Operate(operation) => cluster.operate(operation, event),
            Verb::Delete(key) => cluster.delete_deployment(key, Some(event)),
            Verb::Share(shared) => self.share(shared, event),
            Verb::ConfigPush => self.push_config(event),
            // Clients and their name server are the world's.
            Verb::Load(..) | Verb::FailZone(..) | Verb::Unchanged => {}
            Verb::Listeners(changed) => self.change_listeners(changed, event),
            Verb::Front(change) => self.change_front(change, event),
            Verb::Service(change) => self.change_service(change, event),
            Verb::DeleteService(key, sources) => self.lose_service(key, sources),
            Verb::Process(owner, other, spec) => self.change_process(owner, other, spec),
            Verb::Unshare(key) => self.unshare(key, event),
            Verb::Clusters(changed) => {
                self.change_clusters(changed);
                self.heed_sources(&changed.sources);
                self.push_once(event);
            }
            Verb::Routes(routes, sources) => {
                self.heed_sources(sources);
                *self.routes.borrow_mut() = Rc::new(routes.clone());
                self.push_once(event);
            }
        }
    }

    /// A pod without a controller is edited. The mesh's control plane hears of its labels, by which it tells subsets apart.
    fn edit_pod(&self, pod: &BarePod, event: EventId) {
        let object = format!("Pod/{}", pod.key);
        match self.cluster().edit_pod(pod, Some(event)) {
            PodEdit::Edited => self.find_subsets_anew(),
            PodEdit::Unchanged => self.tell_of("pod_unchanged", object, event),
            PodEdit::NotFound => self.tell_of("nothing_found", object, event),
        }
    }

    /// Tells what an action has come to.
    fn tell_of(&self, kind: &'static str, object: String, because: EventId) {
        let (now, object) = (self.around.sim.now(), self.identity().object(object));
        self.around.log.borrow_mut().record(now, Some(because), kind, object, Vec::new());
    }
}

/// How long nothing may show of what somebody looks for from time to time.
fn begins_within(verb: &Verb, member: &Member) -> Duration {
    match verb {
        Verb::Operate(Operation::FillDisk { .. }) => pressure::CHECK_PERIOD,
        // The hops around a sync are well below a second.
        Verb::Autoscale(_) => member.config.scaling.config.rules.sync_period + Duration::from_secs(1),
        _ => Duration::ZERO,
    }
}

/// The object that a verb is about, in a cluster with this gateway and this Service in front.
fn object_of(verb: &Verb, target: &str, front: &str) -> String {
    match verb {
        Verb::Restart(key) | Verb::Scale(key, _) | Verb::Delete(key) => format!("Deployment/{key}"),
        Verb::Apply(deployment, _) => format!("Deployment/{}", deployment.key),
        Verb::Autoscale(spec) => format!("HorizontalPodAutoscaler/{}", spec.key),
        Verb::StopAutoscaling(key) => format!("HorizontalPodAutoscaler/{key}"),
        Verb::Budget(budget) => format!("PodDisruptionBudget/{}", budget.key),
        Verb::DeleteBudget(key) => format!("PodDisruptionBudget/{key}"),
        Verb::Pod(pod) | Verb::EditPod(pod) => format!("Pod/{}", pod.key),
        Verb::DaemonSet(daemon) => format!("DaemonSet/{}", daemon.key),
        Verb::DeleteDaemonSet(key) => format!("DaemonSet/{key}"),
        Verb::Share(shared) => format!("Service/{}", shared.service.key),
        Verb::FailZone(zone, _) => format!("Zone/{zone}"),
        Verb::Front(_) => format!("Service/{front}"),
        Verb::Service(change) => format!("Service/{}", change.service.key),
        Verb::Unshare(key) | Verb::DeleteService(key, _) => format!("Service/{key}"),
        Verb::Routes(..)
        | Verb::Unchanged
        | Verb::Listeners(_)
        | Verb::Process(..)
        | Verb::Clusters(_)
        | Verb::Operate(_)
        | Verb::Own(_)
        | Verb::Load(..)
        | Verb::ConfigPush => owner::object_of(target),
    }
}
