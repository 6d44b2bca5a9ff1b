//! Carries out what operators, clouds and chance do to pods and nodes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::Cluster;
use crate::cluster::deployment::PodPhase;
use crate::cluster::drain::{DrainSettings, POLL, Step, next_step, refusal};
use crate::cluster::operation::{NodeChoice, Operation, PodChoice};
use crate::engine::EventId;

/// Whether every pod that was to go has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DrainEnd {
    Empty,
    PodsLeft,
}

impl Cluster {
    /// Carries out an operation. What it is for may not be there: then only that is told.
    pub fn operate(&self, operation: &Operation, because: EventId) {
        let found = match operation {
            Operation::Evict { owner, pod } => self.chosen_pod(owner, pod).map(|id| {
                self.evict(id, None, Some(because));
            }),
            Operation::KillPod { owner, pod, grace_seconds } => {
                self.chosen_pod(owner, pod).map(|id| self.delete_pod(id, *grace_seconds, Some(because)))
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
        let end = self.evict_all(index, settings, because).await;
        let kind = if end == DrainEnd::Empty { "node_drained" } else { "node_drain_failed" };
        self.tell_of_node(index, Some(because), kind, Vec::new());
        self.count_operation(-1);
        end
    }

    /// Why a node may not be drained with these settings.
    fn drain_refusal(&self, index: usize, settings: &DrainSettings) -> Option<String> {
        let pods = self.by_name(self.pods_on(index));
        let state = self.inner.state.borrow();
        let daemons: Vec<&str> = state.nodes[index].spec.daemons.iter().map(|daemon| &*daemon.key).collect();
        let with_data = pods.iter().map(|id| &state.pods[id]).filter(|pod| pod.template.has_empty_dir);
        let with_data: Vec<&str> = with_data.map(|pod| &*pod.record.key).collect();
        refusal(settings, &daemons, &with_data)
    }

    /// An operation has begun, or ended.
    fn count_operation(&self, change: isize) {
        let mut state = self.inner.state.borrow_mut();
        state.operations_count = state.operations_count.saturating_add_signed(change);
    }

    /// Evicts the pods that are on a node now, each until it has gone or stays for good.
    pub(super) async fn evict_all(&self, index: usize, settings: DrainSettings, because: EventId) -> DrainEnd {
        let sim = &self.inner.sim;
        let began_at = sim.now();
        let mut waiting = self.by_name(self.pods_on(index));
        let (mut leaving, mut end) = (Vec::new(), DrainEnd::Empty);
        while !waiting.is_empty() {
            let (mut refused, mut retry_at) = (Vec::new(), None);
            for id in waiting {
                let answer = self.evict(id, settings.grace_seconds, Some(because));
                match next_step(&settings, answer, began_at, sim.now()) {
                    Step::Await => leaving.push(id),
                    Step::Retry(at) => {
                        refused.push(id);
                        retry_at = Some(at);
                    }
                    Step::GiveUp => end = DrainEnd::PodsLeft,
                }
            }
            waiting = refused;
            if let Some(at) = retry_at {
                sim.sleep_until(at).await;
            }
        }
        loop {
            leaving.retain(|id| self.inner.state.borrow().pods.contains_key(id));
            if leaving.is_empty() {
                return end;
            }
            if settings.timeout.is_some_and(|timeout| sim.now() >= began_at.after(timeout)) {
                return DrainEnd::PodsLeft;
            }
            sim.sleep(POLL).await;
        }
    }

    fn by_name(&self, mut pods: Vec<u64>) -> Vec<u64> {
        let state = self.inner.state.borrow();
        pods.sort_by(|a, b| state.pods[a].record.key.cmp(&state.pods[b].record.key));
        pods
    }

    fn chosen_pod(&self, owner: &str, choice: &PodChoice) -> Option<u64> {
        let state = self.inner.state.borrow();
        let mut living = state.pods.iter().filter(|(_, pod)| &*pod.owner == owner && pod.is_active());
        let found = match choice {
            PodChoice::Ordinal(number) => living.find(|(_, pod)| ordinal_of(&pod.identity) == *number),
            PodChoice::Named(name) => living.find(|(_, pod)| pod.record.name == *name),
            PodChoice::Oldest => living.next(),
            PodChoice::Newest => living.next_back(),
            PodChoice::Ready => living.find(|(_, pod)| pod.is_ready),
            PodChoice::Unready => living.find(|(_, pod)| pod.phase == PodPhase::Running && !pod.is_ready),
            PodChoice::Pending => living.find(|(_, pod)| pod.phase == PodPhase::Pending),
        };
        found.map(|(id, _)| *id)
    }

    fn chosen_node(&self, choice: &NodeChoice) -> Option<usize> {
        match choice {
            NodeChoice::Named(name) => self.node_named(name),
            NodeChoice::Busiest(owner) => {
                let state = self.inner.state.borrow();
                let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
                for pod in state.pods.values().filter(|pod| pod.owner == *owner && pod.is_active()) {
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
