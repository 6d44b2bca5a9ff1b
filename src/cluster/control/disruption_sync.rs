//! The disruption controller, which keeps the status of budgets, and the eviction API, which asks and uses them.
//!
//! A change of a pod reaches the controller a hop later, as with other controllers; an eviction is decided on the status as it stands then, and
//! takes its disruption off at once. So of two evictions in one instant the second one already finds one disruption less.
//! Invariant: an eviction never leaves fewer healthy pods than its budget desires, unless the pod was not among them.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/disruption/disruption.go, pkg/registry/core/pod/storage/eviction.go.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::pod::Pod;
use super::{Caller, Cluster, State, Work, in_namespace, namespace_of};
use crate::cluster::disruption::{
    Answer, Budget, BudgetPod, BudgetStatus, BudgetView, DisruptedPods, DisruptionBudget, EvictedPod, decide, settle,
};
use crate::engine::{Datum, EventId, Stream};
use crate::units::SimTime;

/// A budget as the control plane has it.
pub(super) struct BudgetState {
    spec: DisruptionBudget,
    status: BudgetStatus,
    disrupted: DisruptedPods,
    /// The status is of this spec.
    is_observed: bool,
    hops: Stream,
}

impl BudgetState {
    /// How long the disruption controller takes to react to it.
    pub(super) fn hops(&mut self) -> &mut Stream {
        &mut self.hops
    }
}

/// A budget's status, and how many evictions it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetReport {
    /// The status.
    pub status: BudgetStatus,
    /// Pods that were evicted and are not seen deleted yet.
    pub disrupted_count: usize,
}

impl Cluster {
    /// Creates a budget, or replaces it.
    pub fn apply_budget(&self, spec: DisruptionBudget) {
        let key = Rc::clone(&spec.key);
        {
            let mut state = self.inner.state.borrow_mut();
            match state.budgets.get_mut(&key) {
                Some(known) => {
                    known.is_observed &= known.spec == spec;
                    known.spec = spec;
                }
                None => {
                    let hops = self.inner.streams.stream("controller-hop", &format!("PodDisruptionBudget/{key}"));
                    let (status, disrupted) = (BudgetStatus::default(), DisruptedPods::new());
                    state
                        .budgets
                        .insert(Rc::clone(&key), BudgetState { spec, status, disrupted, is_observed: false, hops });
                }
            }
        }
        self.enqueue(Work::Budget(key));
    }

    /// Deletes a budget: no eviction asks it any more.
    pub fn delete_budget(&self, key: &str) {
        self.inner.state.borrow_mut().budgets.remove(key);
    }

    /// A budget as it stands.
    #[must_use]
    pub fn budget(&self, key: &str) -> Option<BudgetReport> {
        let state = self.inner.state.borrow();
        let known = state.budgets.get(key)?;
        Some(BudgetReport { status: known.status, disrupted_count: known.disrupted.len() })
    }

    /// All budgets, in the order of their names.
    #[must_use]
    pub fn budgets(&self) -> Vec<(Rc<str>, BudgetReport)> {
        let state = self.inner.state.borrow();
        let report = |(key, known): (&Rc<str>, &BudgetState)| {
            (Rc::clone(key), BudgetReport { status: known.status, disrupted_count: known.disrupted.len() })
        };
        state.budgets.iter().map(report).collect()
    }

    /// One request to evict the pod with this number; the HTTP status of the answer, or none if there is no such pod.
    pub fn evict_pod(&self, id: u64) -> Option<u16> {
        let is_there = self.inner.state.borrow().pods.contains_key(&id);
        is_there.then(|| self.evict(id, None, None).http_code())
    }

    /// A pod has come, changed or gone: the budgets that protect it look anew.
    pub(super) fn enqueue_budgets_of(&self, namespace: &str, labels: &crate::cluster::selector::Labels) {
        let concerned: Vec<Rc<str>> = {
            let state = self.inner.state.borrow();
            let budgets = in_namespace(&state.budgets, namespace).map(|(_, known)| known);
            let protect = budgets.filter(|known| known.spec.protects(namespace, labels));
            protect.map(|known| Rc::clone(&known.spec.key)).collect()
        };
        for key in concerned {
            self.enqueue(Work::Budget(key));
        }
    }

    /// The same, of a pod that is there.
    pub(super) fn enqueue_budgets_of_pod(&self, id: u64) {
        let known = {
            let state = self.inner.state.borrow();
            // Most clusters have none, and need not look for the pod.
            let pod = state.pods.get(&id).filter(|_| !state.budgets.is_empty());
            pod.map(|pod| (Rc::clone(&pod.record.namespace), Rc::clone(&pod.template)))
        };
        if let Some((namespace, template)) = known {
            self.enqueue_budgets_of(&namespace, &template.labels);
        }
    }

    /// One sync of a budget.
    pub(super) fn sync_budget(&self, key: &Rc<str>) {
        let now = self.inner.sim.now();
        let next = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(protected) = state.budgets.get(key).map(|known| protected(state, &known.spec)) else { return };
            let Some(known) = state.budgets.get_mut(key) else { return };
            let protected: Vec<&Pod> = protected.iter().map(|id| &state.pods[id]).collect();
            let owners: BTreeSet<&Rc<str>> = protected.iter().map(|pod| &pod.owner).collect();
            let has_daemons = owners.iter().any(|owner| state.daemons.contains_key(*owner));
            let wanted = owners.iter().filter_map(|owner| state.deployments.get(*owner));
            let wanted: i32 = wanted.map(|owner| owner.spec.replicas).sum();
            let pods: Vec<BudgetPod<'_>> = protected
                .iter()
                .map(|pod| BudgetPod { name: &pod.record.name, is_ready: pod.is_ready, is_deleting: pod.is_deleting() })
                .collect();
            let next = settle(&mut known.disrupted, &pods, now);
            let is_countable = !(has_daemons && known.spec.budget.is_some_and(Budget::counts_wanted));
            known.is_observed |= is_countable;
            let status = match is_countable {
                true => BudgetStatus::of(known.spec.budget, &pods, wanted, &known.disrupted, now),
                false => BudgetStatus { disruptions_allowed: 0, ..known.status },
            };
            let has_changed = std::mem::replace(&mut known.status, status) != status;
            (next, has_changed)
        };
        let (next, has_changed) = next;
        if has_changed {
            self.call(Caller::Budgets);
        }
        if let Some(late_at) = next {
            let wait = late_at.since(now.min(late_at)) + Duration::from_nanos(1);
            self.enqueue_after(Work::Budget(Rc::clone(key)), wait);
        }
    }

    /// One request to evict a pod; the answer, with the name of the budget that was asked.
    pub(super) fn evict(&self, id: u64, grace_seconds: Option<u32>, because: Option<EventId>) -> Answer {
        let now = self.inner.sim.now();
        let asked = {
            let mut state = self.inner.state.borrow_mut();
            ask(&mut state, id, now)
        };
        let Some((pod, answer, budget)) = asked else { return Answer::Evicted };
        let mut data: Vec<(&'static str, Datum)> = vec![("code", i64::from(answer.http_code()).into())];
        if let Some((key, status)) = &budget {
            data.push(("budget", (&**key).into()));
            data.push(("allowed", i64::from(status.disruptions_allowed).into()));
            data.push(("healthy", i64::from(status.current_healthy).into()));
            data.push(("desired", i64::from(status.desired_healthy).into()));
        }
        if let Some(reason) = answer.refusal() {
            data.push(("reason", reason.into()));
        }
        let kind = if answer.is_evicted() { "evicted" } else { "eviction_denied" };
        let event = self.tell(because, kind, format!("Pod/{pod}"), data);
        if answer.is_evicted() {
            self.delete_pod(id, grace_seconds, Some(event));
        }
        if let Some((key, _)) = budget.filter(|_| answer == Answer::EvictedFromBudget) {
            self.enqueue(Work::Budget(key));
        }
        answer
    }
}

/// The pods that a budget protects, in the order of their creation.
fn protected(state: &State, budget: &DisruptionBudget) -> BTreeSet<u64> {
    let namespace = namespace_of(&budget.key);
    state.pods_with(namespace, |labels| budget.protects(namespace, labels))
}

fn protects(budget: &DisruptionBudget, pod: &Pod) -> bool {
    budget.protects(&pod.record.namespace, &pod.template.labels)
}

/// Whether an eviction of this pod would be refused now.
pub(super) fn is_protected(state: &State, pod: &Pod) -> bool {
    let views: Vec<BudgetView> = views_of(state, pod).collect();
    !decide(&facts_of(pod), &views).is_evicted()
}

/// Whether there is a budget for this pod.
pub(super) fn has_budget(state: &State, pod: &Pod) -> bool {
    views_of(state, pod).next().is_some()
}

fn facts_of(pod: &Pod) -> EvictedPod {
    EvictedPod { phase: pod.phase, is_ready: pod.is_ready, is_deleting: pod.is_deleting() }
}

/// The budgets that protect a pod, as an eviction finds them.
fn views_of<'a>(state: &'a State, pod: &'a Pod) -> impl Iterator<Item = BudgetView> + 'a {
    let budgets = in_namespace(&state.budgets, &pod.record.namespace).map(|(_, known)| known);
    let protecting = budgets.filter(move |known| protects(&known.spec, pod));
    protecting.map(|known| BudgetView {
        status: known.status,
        unhealthy: known.spec.unhealthy,
        disrupted_count: known.disrupted.len(),
        is_observed: known.is_observed,
    })
}

/// Whether the pods of a budget can spare one as they are now; true if the controller has not seen their last change yet.
fn is_spare(state: &State, key: &Rc<str>) -> bool {
    let known = &state.budgets[key];
    let is_healthy = |pod: &Pod| pod.is_ready && !pod.is_deleting() && !known.disrupted.contains_key(&pod.record.name);
    let healthy = protected(state, &known.spec).iter().filter(|id| is_healthy(&state.pods[id])).count();
    let is_seen = !state.queued.contains(&Work::Budget(Rc::clone(key)));
    !is_seen || i32::try_from(healthy).is_ok_and(|healthy| healthy > known.status.desired_healthy)
}

/// A pod's name, what the API server says to its eviction, and its budget with the status after that.
type Asked = (Rc<str>, Answer, Option<(Rc<str>, BudgetStatus)>);

/// Asks the pod's budget, and uses it. None: there is no such pod.
fn ask(state: &mut State, id: u64, now: SimTime) -> Option<Asked> {
    let pod = state.pods.get(&id)?;
    let views: Vec<BudgetView> = views_of(state, pod).collect();
    let answer = decide(&facts_of(pod), &views);
    let budgets = in_namespace(&state.budgets, &pod.record.namespace).map(|(_, known)| known);
    let protecting = budgets.filter(|known| protects(&known.spec, pod));
    let keys: Vec<Rc<str>> = protecting.map(|known| Rc::clone(&known.spec.key)).collect();
    let (key, name) = (Rc::clone(&pod.record.key), Rc::clone(&pod.record.name));
    let budget = match &keys[..] {
        [only] => Some((is_spare(state, only), state.budgets.get_mut(only)?)),
        _ => None,
    };
    let asked = budget.map(|(is_spare, known)| {
        if answer == Answer::EvictedFromBudget {
            assert!(is_spare, "an eviction leaves as many healthy pods as its budget desires");
            known.status.disruptions_allowed -= 1;
            known.disrupted.insert(name, now);
        }
        (Rc::clone(&known.spec.key), known.status)
    });
    Some((key, answer, asked))
}
