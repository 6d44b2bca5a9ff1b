//! The Deployment controller: one sync is at most one step of a rollout.
//!
//! A sync decides on the sizes that were asked for and on what the sets reported last. It is asked for by every change of the deployment or of one
//! of its sets, their status included; so its own writes bring the next sync, until one finds nothing to do.
//!
//! Left out: rollbacks by the removed annotation (`kubectl rollout undo` changes the template, which is all there is to it), and failures of the
//! API server.
//! Source: Kubernetes v1.28.7 pkg/controller/deployment/{deployment_controller,sync,rolling,recreate,progress}.go.

use std::rc::Rc;
use std::time::Duration;

use super::{Caller, Cluster, DeploymentState, Keeper, ReplicaSet, Rollout, Work, suffix};
use crate::cluster::deployment::floor::shortfall;
use crate::cluster::deployment::{
    DeploymentStatus, Progress, ProgressReason, ReplicaSetView, Strategy, excess_history, next_new_size, next_progress,
    old_pods_run, pause_progress, recheck_after, reconcile_new, reconcile_old, scale_in_proportion,
};
use crate::engine::EventId;

/// A Deployment's sets as its rules see them.
struct View {
    desired: i32,
    strategy: Strategy,
    is_paused: bool,
    old_ids: Vec<u64>,
    old: Vec<ReplicaSetView>,
    new_id: Option<u64>,
    new: Option<ReplicaSetView>,
}

impl View {
    /// A size is still that of another size of the deployment.
    fn has_resize(&self) -> bool {
        let mut sets = self.old.iter().chain(&self.new);
        sets.any(|set| set.replicas > 0 && set.desired_annotation.is_some_and(|annotated| annotated != self.desired))
    }

    /// What the sets were asked for, all together.
    fn total(&self) -> i32 {
        self.old.iter().chain(&self.new).map(|set| set.replicas).sum()
    }
}

impl Cluster {
    /// One sync of a Deployment: at most one step.
    pub(super) fn sync_deployment(&self, key: &Rc<str>) {
        self.note_pause(key);
        self.adopt_set(key);
        let Some(mut view) = self.view(key) else { return };
        // One that is paused when the run finds it has its pods: only later changes of it wait.
        let is_paused = view.is_paused && !self.stands();
        if is_paused || view.has_resize() {
            self.resize_all(&view);
            if is_paused {
                self.clean_up(key, &view);
            }
            self.write_status(key, &view, false);
            return;
        }
        let has_stepped = match view.strategy {
            Strategy::Recreate => self.step_recreate(key, &mut view),
            Strategy::RollingUpdate { .. } => self.step_rolling(key, &mut view),
        };
        let is_complete = self.inner.state.borrow().deployments.get(key).is_some_and(DeploymentState::is_complete);
        if !has_stepped && is_complete {
            self.clean_up(key, &view);
        }
        self.write_status(key, &view, true);
    }

    /// Whether the step of a rolling update changed anything.
    fn step_rolling(&self, key: &Rc<str>, view: &mut View) -> bool {
        if view.new.is_none() {
            let size = next_new_size(view.strategy, view.desired, 0, view.total());
            self.create_set(key, size, !view.old.is_empty());
            let Some(seen) = self.view(key) else { return true };
            *view = seen;
        }
        let (Some(id), Some(new)) = (view.new_id, &view.new) else { return true };
        let next = reconcile_new(view.strategy, view.desired, new, &view.old);
        if next != new.replicas {
            self.resize(id, next, false);
            return true;
        }
        let sizes = reconcile_old(view.strategy, view.desired, new, &view.old);
        // Every run checks its own books: what the step takes is looked at once more.
        let short = shortfall(view.strategy, view.desired, new, &view.old, &sizes);
        assert!(short.is_none(), "a step of {key} takes available pods that have to stay: {short:?}");
        let mut has_shrunk = false;
        for ((id, set), size) in view.old_ids.iter().zip(&view.old).zip(sizes) {
            has_shrunk |= size != set.replicas;
            self.resize(*id, size, false);
        }
        has_shrunk
    }

    /// Whether the step of a `Recreate` ended before the new set had its size: it scales all old sets down, and then waits until their pods
    /// have ended.
    fn step_recreate(&self, key: &Rc<str>, view: &mut View) -> bool {
        if view.new_id.is_none() && !view.old.is_empty() {
            self.announce_rollout(key);
        }
        let mut has_scaled = false;
        for (id, set) in view.old_ids.iter().zip(&view.old).filter(|(_, set)| set.replicas > 0) {
            self.resize(*id, 0, false);
            has_scaled |= set.replicas > 0;
        }
        let must_wait = {
            let state = self.inner.state.borrow();
            let pods = view.old_ids.iter().filter_map(|id| state.sets.get(id)).flat_map(|set| &set.pods);
            old_pods_run(&view.old, pods.map(|id| state.pods[id].phase))
        };
        if has_scaled || must_wait {
            return true;
        }
        match view.new_id {
            Some(id) => self.resize(id, view.desired, false),
            None => {
                self.create_set(key, view.desired, false);
                if let Some(seen) = self.view(key) {
                    *view = seen;
                }
            }
        }
        false
    }

    /// Sizes all sets after a resize of the deployment.
    fn resize_all(&self, view: &View) {
        let sets = || view.old.iter().chain(&view.new);
        let status_replicas = sets().map(|set| set.status_replicas).sum();
        let (new_size, old_sizes) =
            scale_in_proportion(view.strategy, view.desired, status_replicas, view.new.as_ref(), &view.old);
        // Sized in proportion, they all learn of the new size of the deployment, even if their own stays.
        let annotates = sets().filter(|set| set.replicas > 0).count() > 1;
        for ((id, set), size) in view.old_ids.iter().zip(&view.old).zip(old_sizes) {
            self.resize(*id, size, annotates && set.replicas > 0);
        }
        if let (Some(id), Some(set), Some(size)) = (view.new_id, &view.new, new_size) {
            self.resize(id, size, annotates && set.replicas > 0);
        }
    }

    fn view(&self, key: &Rc<str>) -> Option<View> {
        let state = self.inner.state.borrow();
        let known = state.deployments.get(key)?;
        let mut view = View {
            desired: known.spec.replicas,
            strategy: known.spec.strategy,
            is_paused: known.spec.is_paused,
            old_ids: Vec::new(),
            old: Vec::new(),
            new_id: None,
            new: None,
        };
        for id in &known.sets {
            let set = &state.sets[id];
            let seen = set.view(*id);
            if view.new.is_none() && set.template == known.template {
                (view.new_id, view.new) = (Some(*id), Some(seen));
            } else {
                view.old_ids.push(*id);
                view.old.push(seen);
            }
        }
        Some(view)
    }

    /// A pause, or its end, is written down.
    fn note_pause(&self, key: &Rc<str>) {
        // One that the run finds is made like any other first.
        if self.stands() {
            return;
        }
        let now = self.inner.clock.wall(self.inner.sim.now());
        let mut state = self.inner.state.borrow_mut();
        let Some(known) = state.deployments.get_mut(key) else { return };
        let deadline = known.spec.progress_deadline_seconds;
        if let Some(progress) = pause_progress(known.progress, deadline, known.spec.is_paused, now) {
            known.progress = Some(progress);
            drop(state);
            self.enqueue(Work::Deployment(Rc::clone(key)));
        }
    }

    /// The set whose template is the deployment's takes the deployment's settings; after an undo it is an older one, which is the newest
    /// revision from now on.
    fn adopt_set(&self, key: &Rc<str>) {
        let stamp = self.inner.clock.stamp(self.inner.sim.now());
        let renewed = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(known) = state.deployments.get_mut(key) else { return };
            let id = known.sets.iter().find(|id| state.sets[id].template == known.template).copied();
            let Some(set) = id.and_then(|id| state.sets.get_mut(&id)) else { return };
            set.min_ready_seconds = known.spec.min_ready_seconds;
            if known.progress.is_none() && known.spec.progress_deadline_seconds.is_some() {
                known.progress = Some(Progress { reason: ProgressReason::FoundNewReplicaSet, updated_at: stamp });
            }
            // The template of a rollout that was waiting for its set has been taken back.
            let is_taken_back = known.announced.take().is_some();
            if set.revision == known.revision && !is_taken_back {
                return;
            }
            if set.revision != known.revision {
                known.revision += 1;
                set.revision = known.revision;
            }
            (known.revision, known.because)
        };
        let event = self.begin_rollout(key, renewed.0, renewed.1);
        if let Some(known) = self.inner.state.borrow_mut().deployments.get_mut(key) {
            known.because = Some(event);
        }
        self.enqueue(Work::Deployment(Rc::clone(key)));
    }

    /// A rollout by `Recreate` begins when its first old pods are to go, though its set comes when the last of them have ended.
    fn announce_rollout(&self, key: &Rc<str>) {
        let begun = {
            let mut state = self.inner.state.borrow_mut();
            let Some(known) = state.deployments.get_mut(key) else { return };
            let is_known = known.announced.as_ref().is_some_and(|announced| *announced == known.template);
            if is_known || known.is_deleted {
                return;
            }
            known.announced = Some(Rc::clone(&known.template));
            (known.revision + 1, known.because)
        };
        let event = self.begin_rollout(key, begun.0, begun.1);
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
        state.rollouts.push(Rollout::begun(key, revision, self.inner.sim.now()));
        if let Some(known) = state.deployments.get_mut(key) {
            known.rollout = Some(index);
        }
        drop(state);
        self.note_counts(key);
        event
    }

    /// Makes the set of a new revision, with its first size; it may begin a rollout, unless that has been announced.
    fn create_set(&self, key: &Rc<str>, size: i32, is_rollout: bool) {
        let stamp = self.inner.clock.stamp(self.inner.sim.now());
        let (revision, because) = {
            let mut state = self.inner.state.borrow_mut();
            let known = state.deployments.get_mut(key).expect("the deployment has just been seen");
            known.revision += 1;
            known.announced = None;
            if known.spec.progress_deadline_seconds.is_some() {
                known.progress = Some(Progress { reason: ProgressReason::NewReplicaSetCreated, updated_at: stamp });
            }
            (known.revision, known.because)
        };
        let cause = if is_rollout { Some(self.begin_rollout(key, revision, because)) } else { because };
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
            known.sets.insert(id);
            let (template, now) = (Rc::clone(&known.template), self.inner.sim.now());
            let set = ReplicaSet::empty((name, Rc::clone(key)), template, Keeper::Deployment, now);
            let (min_ready_seconds, because) = (known.spec.min_ready_seconds, Some(event));
            state.sets.insert(id, ReplicaSet { min_ready_seconds, revision, because, ..set });
            id
        };
        self.resize(id, size, false);
        // The new object is a change that the controller sees in turn.
        self.enqueue(Work::Deployment(Rc::clone(key)));
    }

    /// Asks for another size of a set, or, if it `annotates`, only makes it known that the deployment has another.
    fn resize(&self, id: u64, size: i32, annotates: bool) {
        let change = {
            let mut state = self.inner.state.borrow_mut();
            let Some(set) = state.sets.get(&id) else { return };
            let known = &state.deployments[&set.owner];
            let desired = known.spec.replicas;
            let max = desired.saturating_add(known.spec.strategy.max_surge(desired));
            let because = known.because;
            let owner = Rc::clone(&set.owner);
            let annotations = (Some(desired), Some(max));
            let knows = (set.desired_annotation, set.max_annotation) == annotations;
            let from = set.replicas;
            if from == size && (knows || !annotates) && set.desired_annotation.is_some() {
                return;
            }
            let set = state.sets.get_mut(&id).expect("the set has just been seen");
            set.replicas = size;
            set.is_resized = true;
            (set.desired_annotation, set.max_annotation) = annotations;
            let known = &state.deployments[&owner];
            let is_rolling = matches!(known.spec.strategy, Strategy::RollingUpdate { .. });
            let total: i32 = known.sets.iter().map(|id| state.sets[id].replicas).sum();
            assert!(
                !is_rolling || size <= from || total <= max || known.spec.is_paused,
                "a step of {owner} exceeds its surge: {total} of {max}"
            );
            let set = &state.sets[&id];
            let namespace = owner.split('/').next().unwrap_or_default();
            let object = format!("ReplicaSet/{namespace}/{}", set.name);
            (from != size).then_some((object, set.revision, from, because, owner))
        };
        self.call(Caller::Deployments);
        if let Some((object, revision, from, because, owner)) = change {
            self.record_event(Caller::Deployments, Work::Deployment(owner));
            let data =
                vec![("revision", revision.into()), ("from", i64::from(from).into()), ("to", i64::from(size).into())];
            let event = self.tell(because, "replicaset_scaled", object, data);
            if let Some(set) = self.inner.state.borrow_mut().sets.get_mut(&id) {
                set.because = Some(event);
            }
        }
        // The set looks at its size first, and then the deployment at the set: recorded timelines never show more pods than replicas + surge, so
        // the real one's next step, some calls later, comes after the pods of this one have been deleted.
        self.enqueue(Work::Set(id));
    }

    /// Writes what the deployment reports of the sets in `view`. A sync that was not about a rollout leaves its progress alone.
    fn write_status(&self, key: &Rc<str>, view: &View, estimates_progress: bool) {
        let status = DeploymentStatus::of(view.new.as_ref(), &view.old);
        let now = self.inner.clock.wall(self.inner.sim.now());
        let mut guard = self.inner.state.borrow_mut();
        let state = &mut *guard;
        let Some(known) = state.deployments.get_mut(key) else { return };
        let deadline = known.spec.progress_deadline_seconds;
        let was_stuck = is_stuck(known.progress);
        let former = known.report();
        if estimates_progress {
            known.progress = next_progress(known.progress, deadline, view.desired, &known.status, &status, now);
        }
        known.status = status;
        known.unavailable = (view.total() - status.available).max(0);
        known.is_available = status.available >= view.desired - view.strategy.max_unavailable(view.desired);
        known.observed_generation = known.generation;
        let becomes_stuck = is_stuck(known.progress) && !was_stuck;
        let has_changed = known.report() != former;
        let recheck = recheck_after(known.progress, deadline, view.desired, &status, now);
        let because = known.because;
        let is_complete = status.is_complete(view.desired) && !known.spec.is_paused;
        if is_complete {
            // Recorded timelines (`stuck-*`): a look at the deadline that was asked for before the last rollout was complete does not swallow
            // those of the next one, though the queue's source does not say why.
            state.delayed.remove(&Work::Deployment(Rc::clone(key)));
        }
        if let Some(index) = known.rollout.filter(|_| becomes_stuck) {
            state.rollouts[index].stuck_at.get_or_insert(self.inner.sim.now());
        }
        let ended = known.rollout.filter(|_| is_complete && estimates_progress);
        if let Some(index) = ended {
            known.rollout = None;
            state.rollouts[index].ended_at = Some(self.inner.sim.now());
            let data = vec![("revision", state.rollouts[index].revision.into())];
            self.tell(because, "rollout_completed", format!("Deployment/{key}"), data);
        }
        drop(guard);
        if becomes_stuck {
            let data = vec![("reason", "ProgressDeadlineExceeded".into())];
            self.tell(because, "rollout_stuck", format!("Deployment/{key}"), data);
        }
        if has_changed {
            self.call(Caller::Deployments);
            self.enqueue(Work::Deployment(Rc::clone(key)));
        } else if estimates_progress && let Some(left) = recheck {
            // When little is left it looks again at once, over and over, until the deadline has passed.
            let wait = if left.is_zero() { DEADLINE_POLL } else { left + Duration::from_secs(1) };
            self.enqueue_after(Work::Deployment(Rc::clone(key)), wait);
        }
    }

    /// Deletes empty old sets beyond the history limit.
    fn clean_up(&self, key: &Rc<str>, view: &View) {
        let mut state = self.inner.state.borrow_mut();
        let state = &mut *state;
        let Some(known) = state.deployments.get_mut(key) else { return };
        for index in excess_history(&view.old, known.spec.revision_history_limit) {
            let id = view.old_ids[index];
            let has_pods = state.sets.get(&id).is_some_and(|set| !set.pods.is_empty());
            // Its last pods are still ending: they are counted under it until they are gone.
            if !has_pods {
                known.sets.remove(&id);
                state.sets.remove(&id);
                state.remains.retain(|remains| remains.set() != id);
            }
        }
    }
}

/// A deployment whose deadline is less than a second away is looked at so often. Upstream's rate limiter starts with 5 ms and doubles; which of its
/// looks comes first after the deadline makes no difference that could be seen.
const DEADLINE_POLL: Duration = Duration::from_millis(100);

impl DeploymentState {
    /// All that its status tells.
    fn report(&self) -> (DeploymentStatus, i32, bool, Option<Progress>, u64) {
        (self.status, self.unavailable, self.is_available, self.progress, self.observed_generation)
    }

    /// Its status says that the rollout is complete.
    fn is_complete(&self) -> bool {
        self.observed_generation == self.generation && self.status.is_complete(self.spec.replicas)
    }
}

impl ReplicaSet {
    fn view(&self, id: u64) -> ReplicaSetView {
        ReplicaSetView {
            replicas: self.replicas,
            status_replicas: self.status.replicas,
            ready: self.status.ready,
            available: self.status.available,
            created: i64::try_from(id).unwrap_or(i64::MAX),
            desired_annotation: self.desired_annotation,
            max_annotation: self.max_annotation,
            revision: Some(self.revision),
            is_deleting: false,
        }
    }
}

fn is_stuck(progress: Option<Progress>) -> bool {
    progress.is_some_and(|progress| progress.reason == ProgressReason::ProgressDeadlineExceeded)
}
