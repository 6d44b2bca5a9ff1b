//! Carries out what operators, clouds and chance do to pods and nodes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::pod::Pod;
use super::{Caller, Cluster, Keeper, namespace_of};
use crate::cluster::deployment::PodPhase;
use crate::cluster::drain::{DrainSettings, Found, POLL, Step, next_step, refusal};
use crate::cluster::operation::{NodeChoice, Operation, PodChoice};
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
                let chosen = self.chosen_pod(owner, pod).map(|id| self.delete_pod(id, *grace_seconds, Some(because)));
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
            let wanted = match operation {
                Operation::Evict { owner, pod } | Operation::KillPod { owner, pod, .. } => {
                    format!("Pod/{owner}: {pod:?}")
                }
                _ => "Node".to_owned(),
            };
            self.tell(Some(because), "nothing_found", wanted, Vec::new());
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
        let daemons = self.pods_on(index).len() - self.evictable_on(index).len();
        self.called(client, 2 + u32::try_from(daemons).unwrap_or(u32::MAX)).await;
        let end = self.evict_all(index, settings, client, because).await;
        let kind = if end == DrainEnd::Empty { "node_drained" } else { "node_drain_failed" };
        self.tell_of_node(index, Some(because), kind, Vec::new());
        self.count_operation(-1);
        end
    }

    /// Why a node may not be drained with these settings.
    fn drain_refusal(&self, index: usize, settings: &DrainSettings) -> Option<String> {
        let pods = self.by_name(self.pods_on(index));
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
                    let answer = self.evict(id, settings.grace_seconds, Some(because));
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

    /// The pods on a node that a drain takes: those of `DaemonSet`s would be made anew at once.
    fn evictable_on(&self, index: usize) -> Vec<u64> {
        let mut pods = self.pods_on(index);
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
        let key = if name.contains('/') { name.to_string() } else { format!("{}/{name}", namespace_of(owner)) };
        self.inner.state.borrow_mut().delete_remains(&key).then_some(())
    }

    fn chosen_pod(&self, owner: &str, choice: &PodChoice) -> Option<u64> {
        if let PodChoice::Named(name) = choice
            && let Some(bare) = self.bare_pod(name, owner)
        {
            return Some(bare);
        }
        let state = self.inner.state.borrow();
        let mut living = state.ordered_pods_of(owner).into_iter().filter(|pod| pod.is_active());
        let found = match choice {
            PodChoice::Ordinal(number) => living.find(|pod| ordinal_of(&pod.identity) == *number),
            PodChoice::Named(name) => living.find(|pod| pod.record.name == *name),
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

/// Which pod of its Deployment it is, by the order of creation.
fn ordinal_of(identity: &Rc<str>) -> u64 {
    identity.rsplit('/').next().and_then(|number| number.parse().ok()).expect("an identity ends with a number")
}
