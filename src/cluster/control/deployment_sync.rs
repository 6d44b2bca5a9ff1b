//! The Deployment controller: one sync is at most one step of a rollout.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/deployment.

use std::rc::Rc;
use std::time::Duration;

use super::pod::is_available;
use super::{Cluster, ReplicaSet, Rollout, State, Work, suffix};
use crate::cluster::deployment::{
    DeploymentStatus, Progress, ProgressReason, ReplicaSetView, Strategy, excess_history, next_new_size, next_progress,
    old_pods_run, recheck_after, reconcile_new, reconcile_old, scale_in_proportion,
};
use crate::engine::EventId;
use crate::units::SimTime;

impl Cluster {
    /// One sync of a Deployment: at most one step.
    pub(super) fn sync_deployment(&self, key: &Rc<str>) {
        let now = self.inner.sim.now();
        self.renew_revision(key);
        let Some(view) = self.view(key) else { return };
        let View { desired, strategy, old_ids, old, new_id, new, .. } = view;
        let has_resize = old
            .iter()
            .chain(&new)
            .any(|set| set.replicas > 0 && set.desired_annotation.is_some_and(|annotated| annotated != desired));
        if has_resize {
            let status_replicas = old.iter().chain(&new).map(|set| set.status_replicas).sum();
            let (new_size, old_sizes) = scale_in_proportion(strategy, desired, status_replicas, new.as_ref(), &old);
            for (id, size) in old_ids.iter().zip(old_sizes) {
                self.resize(*id, size, true);
            }
            if let (Some(id), Some(size)) = (new_id, new_size) {
                self.resize(id, size, true);
            }
        } else {
            match (new_id, &new, strategy) {
                (None, _, Strategy::Recreate) if self.must_wait_for_old(&old_ids, &old) => {}
                (None, _, _) => self.create_set(key, desired, strategy, &old),
                (Some(id), Some(_), Strategy::Recreate) => {
                    if !self.must_wait_for_old(&old_ids, &old) {
                        self.resize(id, desired, false);
                    }
                }
                (Some(id), Some(new_set), Strategy::RollingUpdate { .. }) => {
                    let next = reconcile_new(strategy, desired, new_set, &old);
                    if next == new_set.replicas {
                        let sizes = reconcile_old(strategy, desired, new_set, &old);
                        for (id, size) in old_ids.iter().zip(sizes) {
                            self.resize(*id, size, false);
                        }
                    } else {
                        self.resize(id, next, false);
                    }
                }
                (Some(_), None, _) => unreachable!("a set that has an id has a view"),
            }
        }
        self.update_status(key, now);
    }

    /// A Recreate scales all old sets down, and then waits until their pods have ended.
    fn must_wait_for_old(&self, old_ids: &[u64], old: &[ReplicaSetView]) -> bool {
        let mut has_scaled = false;
        for (id, set) in old_ids.iter().zip(old) {
            if set.replicas > 0 {
                self.resize(*id, 0, false);
                has_scaled = true;
            }
        }
        let state = self.inner.state.borrow();
        let phases = state.pods.values().filter(|pod| old_ids.contains(&pod.set)).map(|pod| pod.phase);
        has_scaled || old_pods_run(old, phases)
    }

    fn view(&self, key: &Rc<str>) -> Option<View> {
        let state = self.inner.state.borrow();
        let known = state.deployments.get(key)?;
        let now = self.inner.sim.now();
        let mut view = View {
            desired: known.spec.replicas,
            strategy: known.spec.strategy,
            old_ids: Vec::new(),
            old: Vec::new(),
            new_id: None,
            new: None,
        };
        for (id, set) in state.sets.iter().filter(|(_, set)| set.owner == *key) {
            let seen = state.view_of(*id, set, known.spec.min_ready_seconds, now);
            if view.new.is_none() && set.template == known.template {
                (view.new_id, view.new) = (Some(*id), Some(seen));
            } else {
                view.old_ids.push(*id);
                view.old.push(seen);
            }
        }
        Some(view)
    }

    /// An undo: the template is that of an older set, which is the newest revision from now on.
    fn renew_revision(&self, key: &Rc<str>) {
        let renewed = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(known) = state.deployments.get_mut(key) else { return };
            let same = |set: &&mut ReplicaSet| set.owner == *key && set.template == known.template;
            let Some(set) = state.sets.values_mut().find(same) else { return };
            if set.revision == known.revision {
                return;
            }
            known.revision += 1;
            set.revision = known.revision;
            (known.revision, known.because)
        };
        let event = self.begin_rollout(key, renewed.0, renewed.1);
        if let Some(known) = self.inner.state.borrow_mut().deployments.get_mut(key) {
            known.because = Some(event);
        }
    }

    /// A revision takes the place of another. A rollout that is under way ends incomplete.
    fn begin_rollout(&self, key: &Rc<str>, revision: i64, because: Option<EventId>) -> EventId {
        let data = vec![("revision", revision.into())];
        let event = self.tell(because, "rollout_started", format!("Deployment/{key}"), data);
        let mut state = self.inner.state.borrow_mut();
        let index = state.rollouts.len();
        state.rollouts.push(Rollout {
            object: Rc::clone(key),
            revision,
            started_at: self.inner.sim.now(),
            ended_at: None,
            pods_max: 0,
            ready_min: usize::MAX,
        });
        if let Some(known) = state.deployments.get_mut(key) {
            known.rollout = Some(index);
        }
        drop(state);
        self.note_counts(key);
        event
    }

    /// Makes the set of a new revision, with its first size.
    fn create_set(&self, key: &Rc<str>, desired: i32, strategy: Strategy, old: &[ReplicaSetView]) {
        let total = old.iter().map(|set| set.replicas).sum();
        let size = next_new_size(strategy, desired, 0, total);
        let (revision, because) = {
            let mut state = self.inner.state.borrow_mut();
            let known = state.deployments.get_mut(key).expect("the deployment has just been seen");
            known.revision += 1;
            known.progress = Some(Progress { reason: ProgressReason::Other, updated_at: self.inner.sim.now() });
            (known.revision, known.because)
        };
        let cause = if old.is_empty() { because } else { Some(self.begin_rollout(key, revision, because)) };
        let (namespace, plain) = key.split_once('/').unwrap_or(("", key));
        let mut names = self.inner.streams.stream("set-name", &format!("{key}/{revision}"));
        let name: Rc<str> = Rc::from(format!("{plain}-{}", suffix(&mut names, 10)));
        let object = format!("ReplicaSet/{namespace}/{name}");
        let event = self.tell(cause, "replicaset_created", object, vec![("revision", revision.into())]);
        let id = {
            let mut state = self.inner.state.borrow_mut();
            let id = state.set_next;
            state.set_next += 1;
            let known = state.deployments.get_mut(key).expect("the deployment has just been seen");
            known.because = Some(event);
            let set = ReplicaSet {
                name,
                owner: Rc::clone(key),
                template: Rc::clone(&known.template),
                replicas: 0,
                desired_annotation: None,
                max_annotation: None,
                revision,
                because: Some(event),
            };
            state.sets.insert(id, set);
            id
        };
        self.resize(id, size, false);
        // The new object is a change that the controller sees in turn.
        self.enqueue(Work::Deployment(Rc::clone(key)));
    }

    /// Asks for another size of a set. In a resize of the deployment every set gets the annotations, whatever its size.
    fn resize(&self, id: u64, size: i32, annotates: bool) {
        let change = {
            let mut state = self.inner.state.borrow_mut();
            let Some(set) = state.sets.get(&id) else { return };
            let known = &state.deployments[&set.owner];
            let desired = known.spec.replicas;
            let max = desired + known.spec.strategy.max_surge(desired);
            let because = known.because;
            let owner = Rc::clone(&set.owner);
            let Some(set) = state.sets.get_mut(&id) else { return };
            let from = set.replicas;
            if from == size && !annotates && set.desired_annotation.is_some() {
                return;
            }
            set.replicas = size;
            set.desired_annotation = Some(desired);
            set.max_annotation = Some(max);
            let is_rolling = matches!(state.deployments[&owner].spec.strategy, Strategy::RollingUpdate { .. });
            let total: i32 = state.sets.values().filter(|set| set.owner == owner).map(|set| set.replicas).sum();
            assert!(
                !is_rolling || size <= from || total <= max,
                "a step of {owner} exceeds its surge: {total} of {max}"
            );
            let set = &state.sets[&id];
            let namespace = owner.split('/').next().unwrap_or_default();
            (from != size).then(|| (format!("ReplicaSet/{namespace}/{}", set.name), set.revision, from, because))
        };
        if let Some((object, revision, from, because)) = change {
            let data =
                vec![("revision", revision.into()), ("from", i64::from(from).into()), ("to", i64::from(size).into())];
            let event = self.tell(because, "replicaset_scaled", object, data);
            if let Some(set) = self.inner.state.borrow_mut().sets.get_mut(&id) {
                set.because = Some(event);
            }
        }
        // New annotations alone are a change, too: the deployment looks again.
        self.enqueue(Work::Set(id));
    }

    fn update_status(&self, key: &Rc<str>, now: SimTime) {
        let Some(view) = self.view(key) else { return };
        let status = DeploymentStatus::of(view.new.as_ref(), &view.old);
        let mut guard = self.inner.state.borrow_mut();
        let state = &mut *guard;
        let Some(known) = state.deployments.get_mut(key) else { return };
        let deadline = known.spec.progress_deadline_seconds;
        let was_stuck = is_stuck(known.progress);
        known.progress = next_progress(known.progress, deadline, view.desired, &known.status, &status, now);
        known.status = status;
        let because = known.because;
        if !status.is_complete(view.desired) {
            let becomes_stuck = is_stuck(known.progress) && !was_stuck;
            let wait = recheck_after(known.progress, deadline, view.desired, &status, now);
            let recheck = wait.filter(|_| !known.has_recheck);
            known.has_recheck |= recheck.is_some();
            drop(guard);
            if becomes_stuck {
                let data = vec![("reason", "ProgressDeadlineExceeded".into())];
                self.tell(because, "rollout_stuck", format!("Deployment/{key}"), data);
            }
            if let Some(wait) = recheck {
                self.recheck_later(key, wait + Duration::from_secs(1));
            }
            return;
        }
        let excess: Vec<u64> = excess_history(&view.old, known.spec.revision_history_limit)
            .into_iter()
            .map(|index| view.old_ids[index])
            .collect();
        let ended = known.rollout.take();
        state.sets.retain(|id, _| !excess.contains(id));
        if let Some(index) = ended {
            let rollout = &mut state.rollouts[index];
            rollout.ended_at = Some(now);
            let data = vec![("revision", rollout.revision.into())];
            self.tell(because, "rollout_completed", format!("Deployment/{key}"), data);
        }
    }

    /// Looks at the progress deadline again, once for all who ask until then.
    fn recheck_later(&self, key: &Rc<str>, delay: Duration) {
        let (this, key) = (self.clone(), Rc::clone(key));
        self.inner.sim.spawn("progress-deadline", async move {
            this.inner.sim.sleep(delay).await;
            if let Some(known) = this.inner.state.borrow_mut().deployments.get_mut(&key) {
                known.has_recheck = false;
            }
            this.enqueue(Work::Deployment(key));
        });
    }

    pub(super) fn note_counts(&self, owner: &Rc<str>) {
        let counts = self.counts(owner);
        let mut state = self.inner.state.borrow_mut();
        let index = state.deployments.get(owner).and_then(|known| known.rollout);
        if let Some(index) = index {
            let rollout = &mut state.rollouts[index];
            rollout.pods_max = rollout.pods_max.max(counts.active);
            rollout.ready_min = rollout.ready_min.min(counts.ready);
        }
    }
}

impl State {
    fn view_of(&self, id: u64, set: &ReplicaSet, min_ready: u32, now: SimTime) -> ReplicaSetView {
        let mut view = ReplicaSetView {
            replicas: set.replicas,
            created: i64::try_from(id).unwrap_or(i64::MAX),
            desired_annotation: set.desired_annotation,
            max_annotation: set.max_annotation,
            revision: Some(set.revision),
            ..ReplicaSetView::default()
        };
        for pod in self.pods.values().filter(|pod| pod.set == id && pod.is_active()) {
            view.status_replicas += 1;
            view.ready += i32::from(pod.is_ready);
            view.available += i32::from(is_available(pod, min_ready, now));
        }
        view
    }
}

/// A Deployment's sets as its rules see them.
struct View {
    desired: i32,
    strategy: Strategy,
    old_ids: Vec<u64>,
    old: Vec<ReplicaSetView>,
    new_id: Option<u64>,
    new: Option<ReplicaSetView>,
}

fn is_stuck(progress: Option<Progress>) -> bool {
    progress.is_some_and(|progress| progress.reason == ProgressReason::ProgressDeadlineExceeded)
}
