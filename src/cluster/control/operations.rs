//! Carries out what operators, clouds and chance do to pods and nodes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::pod::Pod;
use super::pod_deletion::Deletion;
use super::{Caller, Cluster, Keeper, namespace_of};
use crate::cluster::deployment::PodPhase;
use crate::cluster::drain::{DrainSettings, Found, POLL, Step, next_step, refusal};
use crate::cluster::operation::{NodeChoice, Operation, PodChoice};
use crate::cluster::owner::object_of;
use crate::engine::EventId;
use crate::units::SimTime;

/// Whether every pod that was to go has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DrainEnd {
    Empty,
    PodsLeft,
}

/// What a drain asks of a pod.
enum Question {
    /// To go.
    Evict,
    /// Whether it is still there.
    IsThere,
}

impl Cluster {
    /// Carries out an operation. What it is for may not be there: then only that is told.
    pub fn operate(&self, operation: &Operation, because: EventId) {
        let found = match operation {
            Operation::Evict { owner, pod } => self.chosen_pod(owner, pod).map(|id| {
                self.evict(id, None, Some(because));
            }),
            Operation::KillPod { owner, pod, grace_seconds } => {
                let chosen = self.chosen_pod(owner, pod).map(|id| self.kill_pod(id, *grace_seconds, because));
                chosen.or_else(|| self.delete_failed(owner, pod))
            }
            Operation::Drain { node, settings } => self.chosen_node(node).map(|index| {
                let (this, settings) = (self.clone(), *settings);
                self.inner.sim.spawn("drain", async move {
                    this.drain(index, settings, because).await;
                });
            }),
            Operation::Cordon { node, is_cordoned } => {
                self.chosen_node(node).map(|index| self.set_cordon(index, *is_cordoned, Some(because)))
            }
            Operation::FailNode { node, failure, back_after } => {
                self.chosen_node(node).map(|index| self.fail_node(index, *failure, *back_after, because))
            }
            Operation::ShutDownNode { node, graces, back_after } => {
                self.chosen_node(node).map(|index| self.shut_down(index, graces, *back_after, because))
            }
            Operation::ReclaimNode { node, notice, is_heeded } => {
                self.chosen_node(node).map(|index| self.reclaim(index, *notice, *is_heeded, because))
            }
            Operation::FillDisk { node, fill, back_after } => self.chosen_node(node).map(|index| {
                if let Err(reason) = self.fill_disk(index, *fill, *back_after, because) {
                    let object = format!("Node/{}", self.node_name(index));
                    self.tell(Some(because), "nothing_found", object, vec![("reason", reason.into())]);
                }
            }),
            Operation::RemoveNode { node } => self.chosen_node(node).map(|index| {
                self.kill_machine(index, true, Some(because));
                self.delete_node(index, Some(because));
            }),
            Operation::AddNodes(nodes) => {
                for node in nodes {
                    self.add_node(node.clone(), Some(because));
                }
                Some(())
            }
        };
        if found.is_none() {
            let (object, reason) = wanted(operation);
            self.tell(Some(because), "nothing_found", object, vec![("reason", reason.into())]);
        }
    }

    /// Deletes a pod; that it changes nothing is told.
    fn kill_pod(&self, id: u64, grace_seconds: Option<u32>, because: EventId) {
        if let Deletion::Unchanged(before) = self.delete_pod(id, grace_seconds, Some(because)) {
            let object = self.inner.state.borrow().pods.get(&id).map(|pod| format!("Pod/{}", pod.record.key));
            let reason = format!("it is being deleted already, and its grace of {before} s can only be shortened");
            let object = object.unwrap_or_default();
            self.tell(Some(because), "nothing_found", object, vec![("reason", reason.into())]);
        }
    }

    fn reclaim(&self, index: usize, notice: Duration, is_heeded: bool, because: EventId) {
        let event = self.tell_of_node(index, Some(because), "node_reclaim_notice", Vec::new());
        if is_heeded {
            let this = self.clone();
            let settings = DrainSettings { timeout: Some(notice), ..DrainSettings::of_controllers() };
            self.inner.sim.spawn("termination-handler", async move {
                this.drain(index, settings, event).await;
            });
        }
        self.count_operation(1);
        let this = self.clone();
        self.inner.sim.spawn("reclaim", async move {
            this.inner.sim.sleep(notice).await;
            this.kill_machine(index, true, Some(event));
            this.count_operation(-1);
        });
    }

    /// Cordons a node and evicts its pods.
    pub(super) async fn drain(&self, index: usize, settings: DrainSettings, because: EventId) -> DrainEnd {
        self.set_cordon(index, true, Some(because));
        if let Some(reason) = self.drain_refusal(index, &settings) {
            self.tell_of_node(index, Some(because), "node_drain_refused", vec![("reason", reason.as_str().into())]);
            return DrainEnd::PodsLeft;
        }
        self.count_operation(1);
        let client = self.inner.state.borrow_mut().clients.next_drain();
        // Before, it has patched the node, listed its pods and looked for the DaemonSet of each that has one.
        let daemons = self.held_on(index).len() - self.evictable_on(index).len();
        self.called(client, 2 + u32::try_from(daemons).unwrap_or(u32::MAX)).await;
        let end = self.evict_all(index, settings, client, because).await;
        if end == DrainEnd::Empty {
            self.tell_of_node(index, Some(because), "node_drained", Vec::new());
        } else {
            let reason = self.left_on(index, settings.timeout);
            self.tell_of_node(index, Some(because), "node_drain_failed", vec![("reason", reason.into())]);
        }
        self.count_operation(-1);
        end
    }

    /// What a drain that failed has left, and how long it could take at most.
    fn left_on(&self, index: usize, timeout: Option<Duration>) -> String {
        let state = self.inner.state.borrow();
        let left = state.pods.on(index).filter(|(_, pod)| pod.keeper != Keeper::DaemonSet);
        let mut names: Vec<&str> = left.map(|(_, pod)| &*pod.record.key).collect();
        names.sort_unstable();
        let timeout = timeout.map(|timeout| format!("; its timeout is {} s", timeout.as_secs_f64()));
        format!("still there: {}{}", names.join(", "), timeout.unwrap_or_default())
    }

    /// Why a node may not be drained with these settings.
    fn drain_refusal(&self, index: usize, settings: &DrainSettings) -> Option<String> {
        let pods = self.by_name(self.held_on(index));
        let state = self.inner.state.borrow();
        let named = |is_meant: fn(&Pod) -> bool| {
            let meant = pods.iter().map(|id| &state.pods[id]).filter(|pod| is_meant(pod));
            meant.map(|pod| &*pod.record.key).collect()
        };
        let found = Found {
            daemons: named(|pod| pod.keeper == Keeper::DaemonSet),
            with_data: named(|pod| pod.template.has_empty_dir && pod.keeper != Keeper::DaemonSet),
            unmanaged: named(|pod| pod.keeper == Keeper::Nobody),
        };
        refusal(settings, &found, self.inner.config.version)
    }

    /// An operation has begun, or ended.
    pub(super) fn count_operation(&self, change: isize) {
        let mut state = self.inner.state.borrow_mut();
        state.operations_count = state.operations_count.saturating_add_signed(change);
    }

    /// Evicts the pods that are on a node now, each until it has gone or stays for good. Every question is a call: whether it may be evicted, and whether
    /// it is still there.
    pub(super) async fn evict_all(
        &self,
        index: usize,
        settings: DrainSettings,
        caller: Caller,
        because: EventId,
    ) -> DrainEnd {
        let sim = &self.inner.sim;
        let began_at = sim.now();
        // What has failed is deleted, too; nobody waits for that.
        let name = self.node_name(index);
        self.inner.state.borrow_mut().forget_remains(|pod| pod.node.as_ref() == Some(&name));
        let mut end = DrainEnd::Empty;
        let mut agenda: BTreeMap<(SimTime, u64), (u64, Question)> = BTreeMap::new();
        let mut asked = 0;
        let mut ask = |agenda: &mut BTreeMap<_, _>, at: SimTime, id: u64, question: Question| {
            agenda.insert((at, asked), (id, question));
            asked += 1;
        };
        for id in self.by_name(self.evictable_on(index)) {
            ask(&mut agenda, began_at, id, Question::Evict);
        }
        while let Some(((at, _), (id, question))) = agenda.pop_first() {
            if at > sim.now() {
                sim.sleep_until(at).await;
            }
            self.called(caller, 1).await;
            match question {
                Question::Evict => {
                    let own_seconds = self.inner.state.borrow().pods.get(&id).map(|pod| pod.template.grace_seconds);
                    let grace_seconds = own_seconds.and_then(|own| settings.grace_for(own));
                    let answer = self.evict(id, grace_seconds, Some(because));
                    match next_step(&settings, answer, began_at, sim.now()) {
                        Step::Await => ask(&mut agenda, sim.now(), id, Question::IsThere),
                        Step::Retry(at) => ask(&mut agenda, at, id, Question::Evict),
                        Step::GiveUp => end = DrainEnd::PodsLeft,
                    }
                }
                Question::IsThere if self.inner.state.borrow().pods.contains_key(&id) => {
                    if settings.timeout.is_some_and(|timeout| sim.now() >= began_at.after(timeout)) {
                        return DrainEnd::PodsLeft;
                    }
                    ask(&mut agenda, sim.now().after(POLL), id, Question::IsThere);
                }
                Question::IsThere => {}
            }
        }
        end
    }

    /// The pods on a node as a drain lists them: those that are being deleted, too.
    fn held_on(&self, index: usize) -> Vec<u64> {
        self.inner.state.borrow().pods.on(index).map(|(id, _)| *id).collect()
    }

    /// The pods on a node that a drain takes: those of `DaemonSet`s would be made anew at once.
    fn evictable_on(&self, index: usize) -> Vec<u64> {
        let mut pods = self.held_on(index);
        let state = self.inner.state.borrow();
        pods.retain(|id| state.pods[id].keeper != Keeper::DaemonSet);
        pods
    }

    fn by_name(&self, mut pods: Vec<u64>) -> Vec<u64> {
        let state = self.inner.state.borrow();
        pods.sort_by(|a, b| state.pods[a].record.key.cmp(&state.pods[b].record.key));
        pods
    }

    /// Deletes the object of a pod that has failed, if that is meant by its name.
    fn delete_failed(&self, owner: &str, choice: &PodChoice) -> Option<()> {
        let PodChoice::Named(name) = choice else { return None };
        self.inner.state.borrow_mut().delete_remains(&key_of(owner, name)).then_some(())
    }

    /// Who names a pod or its number means it even when it is being deleted.
    fn chosen_pod(&self, owner: &str, choice: &PodChoice) -> Option<u64> {
        let state = self.inner.state.borrow();
        let pods = state.ordered_pods_of(owner);
        let mut living = pods.iter().copied().filter(|pod| pod.is_active());
        let found = match choice {
            PodChoice::Ordinal(number) => pods.iter().copied().find(|pod| ordinal_of(&pod.identity) == *number),
            PodChoice::Named(name) => {
                let key = key_of(owner, name);
                state.pods.values().find(|pod| *pod.record.key == *key)
            }
            PodChoice::Oldest => living.next(),
            PodChoice::Newest => living.next_back(),
            PodChoice::Ready => living.find(|pod| pod.is_ready),
            PodChoice::Unready => living.find(|pod| pod.phase == PodPhase::Running && !pod.is_ready),
            PodChoice::Pending => living.find(|pod| pod.phase == PodPhase::Pending),
        };
        found.map(|pod| pod.record.id)
    }

    fn chosen_node(&self, choice: &NodeChoice) -> Option<usize> {
        match choice {
            NodeChoice::Named(name) => self.node_named(name),
            NodeChoice::Busiest(owner) => {
                let state = self.inner.state.borrow();
                let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
                for pod in state.pods_of(owner).filter(|pod| pod.is_active()) {
                    if let Some(index) = pod.node_index {
                        *counts.entry(index).or_default() += 1;
                    }
                }
                // Of several with the same count the first: `max_by_key` would give the last.
                counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(index, _)| index)
            }
        }
    }
}

/// A pod that is named is in the namespace of the target, unless it is said to be in another.
fn key_of(owner: &str, name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("{}/{name}", namespace_of(owner)) }
}

/// What an operation was for that found nothing, and what there was not.
fn wanted(operation: &Operation) -> (String, String) {
    match operation {
        Operation::Evict { owner, pod } | Operation::KillPod { owner, pod, .. } => {
            let reason = match pod {
                PodChoice::Named(name) => {
                    return (format!("Pod/{}", key_of(owner, name)), "there is no such pod".to_owned());
                }
                PodChoice::Ordinal(number) => format!("its pod {number} is gone, or was never made"),
                PodChoice::Oldest | PodChoice::Newest => "it has no pod that is not being deleted".to_owned(),
                PodChoice::Ready => "none of its pods is ready".to_owned(),
                PodChoice::Unready => "none of its pods runs without being ready".to_owned(),
                PodChoice::Pending => "none of its pods waits for its start".to_owned(),
            };
            (object_of(owner), reason)
        }
        Operation::Drain { node, .. }
        | Operation::Cordon { node, .. }
        | Operation::FailNode { node, .. }
        | Operation::ShutDownNode { node, .. }
        | Operation::ReclaimNode { node, .. }
        | Operation::FillDisk { node, .. }
        | Operation::RemoveNode { node } => match node {
            NodeChoice::Named(name) => (format!("Node/{name}"), "there is no such node".to_owned()),
            NodeChoice::Busiest(owner) => (object_of(owner), "none of its pods is on a node".to_owned()),
        },
        Operation::AddNodes(_) => unreachable!("nodes that join are not looked for"),
    }
}

/// Which pod of its owner it is, by the order of creation.
fn ordinal_of(identity: &Rc<str>) -> u64 {
    identity.rsplit('/').next().and_then(|number| number.parse().ok()).expect("an identity ends with a number")
}
