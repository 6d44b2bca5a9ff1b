//! The rules of the Deployment controller: how many pods of which revision come next.
//!
//! A sync does one thing: it scales the new `ReplicaSet` up, or the old ones down, or sizes all in proportion after a resize.
//! The rules look at the sizes that were asked for (`replicas`) and at what the `ReplicaSet`s report as available; they never count
//! pods. Terminating pods are counted nowhere, so the containers that run can exceed replicas + surge.
//!
//! Instants are those of the wall clock ([`super::api_clock`]); what is written into a condition is cut to the whole second.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/deployment/{rolling,sync,recreate,progress}.go,
//! pkg/controller/deployment/util/deployment_util.go.

pub mod floor;

use std::time::Duration;

use super::api_clock::whole_second;
use super::int_or_percent::{IntOrPercent, Rounding};
use crate::units::SimTime;

/// A deadline with this many seconds is none.
pub const NO_DEADLINE_SECONDS: u32 = 2_147_483_647;

/// How pods of an old revision give way to those of a new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// All old ones first.
    Recreate,
    /// Some at a time.
    RollingUpdate {
        /// Pods above the wanted number.
        max_surge: IntOrPercent,
        /// Pods below it.
        max_unavailable: IntOrPercent,
    },
}

/// The limits of a rolling update in pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fenceposts {
    /// Pods above the wanted number.
    pub surge: i32,
    /// Pods below it.
    pub unavailable: i32,
}

impl Fenceposts {
    /// The limits for `desired` pods: the surge rounded up, the unavailable down, and if both come out 0, one unavailable.
    #[must_use]
    pub fn resolve(max_surge: IntOrPercent, max_unavailable: IntOrPercent, desired: i32) -> Self {
        let surge = max_surge.scaled(desired, Rounding::Up);
        let unavailable = max_unavailable.scaled(desired, Rounding::Down);
        Self { surge, unavailable: if surge == 0 && unavailable == 0 { 1 } else { unavailable } }
    }
}

impl Strategy {
    /// Pods that may exist above `desired`.
    #[must_use]
    pub fn max_surge(self, desired: i32) -> i32 {
        match self {
            Self::Recreate => 0,
            Self::RollingUpdate { max_surge, max_unavailable } => {
                Fenceposts::resolve(max_surge, max_unavailable, desired).surge
            }
        }
    }

    /// Pods that may be missing of `desired`.
    #[must_use]
    pub fn max_unavailable(self, desired: i32) -> i32 {
        match self {
            Self::RollingUpdate { max_surge, max_unavailable } if desired > 0 => {
                Fenceposts::resolve(max_surge, max_unavailable, desired).unavailable.min(desired)
            }
            _ => 0,
        }
    }

    /// Pods that must be available. A `Recreate` promises none.
    #[must_use]
    pub fn min_available(self, desired: i32) -> i32 {
        match self {
            Self::Recreate => 0,
            Self::RollingUpdate { .. } => desired - self.max_unavailable(desired),
        }
    }
}

/// What the rules see of a `ReplicaSet`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ReplicaSetView {
    /// The size asked for.
    pub replicas: i32,
    /// Pods it reports.
    pub status_replicas: i32,
    /// Pods it reports ready.
    pub ready: i32,
    /// Pods it reports available.
    pub available: i32,
    /// Its place in the order of creation; greater is newer.
    pub created: i64,
    /// The deployment's size when it was last sized.
    pub desired_annotation: Option<i32>,
    /// That size plus the surge.
    pub max_annotation: Option<i32>,
    /// The number of its revision.
    pub revision: Option<i64>,
    /// It is being deleted.
    pub is_deleting: bool,
}

fn sum(sets: &[ReplicaSetView], of: impl Fn(&ReplicaSetView) -> i32) -> i32 {
    sets.iter().map(of).sum()
}

/// The next size of the new `ReplicaSet`, whose size is `new_size`, if all together have `total`.
#[must_use]
pub fn next_new_size(strategy: Strategy, desired: i32, new_size: i32, total: i32) -> i32 {
    match strategy {
        Strategy::Recreate => desired,
        Strategy::RollingUpdate { .. } => {
            let limit = desired.saturating_add(strategy.max_surge(desired));
            if total >= limit { new_size } else { new_size + (limit - total).min(desired - new_size) }
        }
    }
}

/// The new `ReplicaSet`'s size after one scale-up step of a rolling update.
#[must_use]
pub fn reconcile_new(strategy: Strategy, desired: i32, new: &ReplicaSetView, old: &[ReplicaSetView]) -> i32 {
    if new.replicas >= desired {
        return desired;
    }
    next_new_size(strategy, desired, new.replicas, new.replicas + sum(old, |set| set.replicas))
}

/// The old `ReplicaSet`s' sizes after one scale-down step of a rolling update, in the order given.
#[must_use]
pub fn reconcile_old(strategy: Strategy, desired: i32, new: &ReplicaSetView, old: &[ReplicaSetView]) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|set| set.replicas).collect();
    let min_available = strategy.min_available(desired);
    let total = new.replicas + sum(old, |set| set.replicas);
    // New pods that are not available yet protect old ones.
    let removable = total - min_available - (new.replicas - new.available);
    if removable <= 0 || sizes.iter().all(|size| *size == 0) {
        return sizes;
    }
    if clean_up_unhealthy(old, &mut sizes, removable).is_none() {
        return sizes;
    }
    // What a set of size 0 still reports is on its way out.
    let available = new.available + sum(old, |set| if set.replicas > 0 { set.available } else { 0 });
    scale_down_available(old, &mut sizes, available, min_available);
    sizes
}

fn oldest_first(sets: &[ReplicaSetView]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sets.len()).collect();
    order.sort_by_key(|index| sets[*index].created);
    order
}

/// Takes pods that are not available out of `sizes`, at most `removable`; returns how many.
///
/// None if a set reports more available pods than it was asked to have: its report is older than its size, so the counts cannot be
/// trusted, and the step ends with what it has removed so far.
pub fn clean_up_unhealthy(old: &[ReplicaSetView], sizes: &mut [i32], removable: i32) -> Option<i32> {
    let mut removed = 0;
    for index in oldest_first(old) {
        if removed >= removable {
            break;
        }
        if sizes[index] == 0 {
            continue;
        }
        let unhealthy = sizes[index] - old[index].available;
        if unhealthy < 0 {
            return None;
        }
        let count = unhealthy.min(removable - removed);
        sizes[index] -= count;
        removed += count;
    }
    Some(removed)
}

/// Takes pods out of `sizes` while more than `min_available` of the `available` ones remain; returns how many.
pub fn scale_down_available(old: &[ReplicaSetView], sizes: &mut [i32], available: i32, min_available: i32) -> i32 {
    let quota = available - min_available;
    let mut removed = 0;
    for index in oldest_first(old) {
        let count = sizes[index].min(quota - removed);
        if count > 0 {
            sizes[index] -= count;
            removed += count;
        }
    }
    removed
}

/// The sizes after a resize of the deployment to `desired`: of `new` (if there is one) and of `old`, in the order given.
/// `status_replicas` is the deployment's own count, used for sets that carry no annotation.
#[must_use]
pub fn scale_in_proportion(
    strategy: Strategy,
    desired: i32,
    status_replicas: i32,
    new: Option<&ReplicaSetView>,
    old: &[ReplicaSetView],
) -> (Option<i32>, Vec<i32>) {
    let all: Vec<&ReplicaSetView> = old.iter().chain(new).collect();
    let mut sizes: Vec<i32> = all.iter().map(|set| set.replicas).collect();
    let mut active: Vec<usize> = (0..all.len()).filter(|index| all[*index].replicas > 0).collect();
    if active.len() <= 1 {
        // With none active it is the new one, even if an undo made an older set the new one; without a new one, the newest.
        let newest = (0..all.len()).max_by_key(|index| (*index >= old.len(), all[*index].created));
        if let Some(only) = active.first().copied().or(newest) {
            sizes[only] = desired;
        }
    } else if new.is_some_and(|new| is_saturated(desired, new)) {
        sizes[..old.len()].fill(0);
    } else if matches!(strategy, Strategy::RollingUpdate { .. }) {
        let allowed = if desired > 0 { desired.saturating_add(strategy.max_surge(desired)) } else { 0 };
        let to_add = allowed - active.iter().map(|index| all[*index].replicas).sum::<i32>();
        // The bigger first; of the same size the newer ones grow first, and the older ones shrink first.
        active.sort_by_key(|index| {
            let age = if to_add > 0 { -all[*index].created } else { all[*index].created };
            (-all[*index].replicas, age)
        });
        let mut added = 0;
        for index in &active {
            let share = proportion(all[*index], strategy, desired, status_replicas, to_add, added);
            sizes[*index] += share;
            added += share;
        }
        if let Some(first) = active.first() {
            sizes[*first] = (sizes[*first] + to_add - added).max(0);
        }
    }
    let new_size = new.map(|_| sizes[old.len()]);
    sizes.truncate(old.len());
    (new_size, sizes)
}

fn is_saturated(desired: i32, new: &ReplicaSetView) -> bool {
    new.replicas == desired && new.desired_annotation == Some(desired) && new.available == desired
}

/// What one set gets of `to_add`, `added` of which are given out.
fn proportion(
    set: &ReplicaSetView,
    strategy: Strategy,
    desired: i32,
    status_replicas: i32,
    to_add: i32,
    added: i32,
) -> i32 {
    if set.replicas == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let share = if desired == 0 {
        -set.replicas
    } else {
        let former_max = set.max_annotation.unwrap_or(status_replicas);
        let scaled = i64::from(set.replicas) * i64::from(desired.saturating_add(strategy.max_surge(desired)));
        round_half_away(scaled, i64::from(former_max.max(1))) - set.replicas
    };
    if to_add > 0 { share.min(to_add - added) } else { share.max(to_add - added) }
}

/// `numerator / denominator`, halves away from zero; both are positive here.
fn round_half_away(numerator: i64, denominator: i64) -> i32 {
    i32::try_from((2 * numerator + denominator).div_euclid(2 * denominator)).unwrap_or(i32::MAX)
}

/// The phase of a pod, as far as a `Recreate` and the deletion order care.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PodPhase {
    /// Not started.
    Pending,
    /// Its node does not answer.
    Unknown,
    /// Started.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
}

impl PodPhase {
    /// Its containers have ended for good.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// Whether a `Recreate` must still wait: an old set reports pods, or a pod that is not the new set's has not ended.
#[must_use]
pub fn old_pods_run(old: &[ReplicaSetView], mut other_phases: impl Iterator<Item = PodPhase>) -> bool {
    sum(old, |set| set.status_replicas) > 0 || other_phases.any(|phase| !phase.is_over())
}

/// The indexes of old sets beyond the history limit that can be deleted: empty ones, lowest revision first.
#[must_use]
pub fn excess_history(old: &[ReplicaSetView], limit: i32) -> Vec<usize> {
    if limit == i32::MAX {
        return Vec::new();
    }
    let mut kept: Vec<usize> = (0..old.len()).filter(|index| !old[*index].is_deleting).collect();
    let excess = kept.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    kept.sort_by_key(|index| (old[*index].revision.unwrap_or(0), old[*index].created));
    kept.truncate(excess);
    kept.retain(|index| {
        let set = &old[*index];
        set.replicas == 0 && set.status_replicas == 0
    });
    kept
}

/// What a deployment reports.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DeploymentStatus {
    /// Pods of all sets.
    pub replicas: i32,
    /// Pods of the new set.
    pub updated: i32,
    /// Ready pods of all sets.
    pub ready: i32,
    /// Available pods of all sets.
    pub available: i32,
}

impl DeploymentStatus {
    /// What it reports for these sets.
    #[must_use]
    pub fn of(new: Option<&ReplicaSetView>, old: &[ReplicaSetView]) -> Self {
        let total = |of: fn(&ReplicaSetView) -> i32| sum(old, of) + new.map_or(0, of);
        Self {
            replicas: total(|set| set.status_replicas),
            updated: new.map_or(0, |new| new.status_replicas),
            ready: total(|set| set.ready),
            available: total(|set| set.available),
        }
    }

    /// Every wanted pod is of the new revision and available, and there is no other.
    #[must_use]
    pub fn is_complete(&self, desired: i32) -> bool {
        self.updated == desired && self.replicas == desired && self.available == desired
    }

    /// Something has moved since `former`.
    #[must_use]
    pub fn is_progress_from(&self, former: &Self) -> bool {
        self.updated > former.updated
            || self.replicas - self.updated < former.replicas - former.updated
            || self.ready > former.ready
            || self.available > former.available
    }
}

/// Why a deployment is said to progress or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgressReason {
    /// The rollout is complete.
    NewReplicaSetAvailable,
    /// Something moves.
    ReplicaSetUpdated,
    /// Nothing has moved for the deadline. The rollout goes on all the same.
    ProgressDeadlineExceeded,
    /// The set of the new revision has been made.
    NewReplicaSetCreated,
    /// A set that was there is the new revision's.
    FoundNewReplicaSet,
    /// The deployment is paused: the deadline is not looked at.
    DeploymentPaused,
    /// It is no longer paused.
    DeploymentResumed,
    /// Any other reason.
    Other,
}

impl ProgressReason {
    /// The condition as `kubectl describe` tells it: its status and its reason.
    #[must_use]
    pub fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::NewReplicaSetAvailable => ("True", "NewReplicaSetAvailable"),
            Self::ReplicaSetUpdated => ("True", "ReplicaSetUpdated"),
            Self::ProgressDeadlineExceeded => ("False", "ProgressDeadlineExceeded"),
            Self::NewReplicaSetCreated => ("True", "NewReplicaSetCreated"),
            Self::FoundNewReplicaSet => ("True", "FoundNewReplicaSet"),
            Self::DeploymentPaused => ("Unknown", "DeploymentPaused"),
            Self::DeploymentResumed => ("Unknown", "DeploymentResumed"),
            Self::Other => ("Unknown", "Other"),
        }
    }
}

/// The Progressing condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Its reason.
    pub reason: ProgressReason,
    /// The last progress, as it is stamped.
    pub updated_at: SimTime,
}

fn deadline_of(seconds: Option<u32>) -> Option<Duration> {
    seconds.filter(|seconds| *seconds != NO_DEADLINE_SECONDS).map(|seconds| Duration::from_secs(seconds.into()))
}

/// Whether the deadline has passed without progress.
#[must_use]
pub fn is_timed_out(progress: Option<Progress>, deadline_seconds: Option<u32>, now: SimTime) -> bool {
    let (Some(deadline), Some(progress)) = (deadline_of(deadline_seconds), progress) else { return false };
    match progress.reason {
        ProgressReason::NewReplicaSetAvailable => false,
        ProgressReason::ProgressDeadlineExceeded => true,
        _ => progress.updated_at.after(deadline) < now,
    }
}

/// The Progressing condition after a pause or a resume, if that changes it. Without a deadline there is no condition, and one that
/// has timed out stays.
#[must_use]
pub fn pause_progress(
    progress: Option<Progress>,
    deadline_seconds: Option<u32>,
    is_paused: bool,
    now: SimTime,
) -> Option<Progress> {
    deadline_of(deadline_seconds)?;
    let was_paused = match progress.map(|progress| progress.reason) {
        Some(ProgressReason::ProgressDeadlineExceeded) => return None,
        reason => reason == Some(ProgressReason::DeploymentPaused),
    };
    let reason = match (is_paused, was_paused) {
        (true, false) => ProgressReason::DeploymentPaused,
        (false, true) => ProgressReason::DeploymentResumed,
        _ => return None,
    };
    Some(Progress { reason, updated_at: whole_second(now) })
}

/// The Progressing condition after a sync that changed the status from `former` to `status`; none without a deadline.
#[must_use]
pub fn next_progress(
    progress: Option<Progress>,
    deadline_seconds: Option<u32>,
    desired: i32,
    former: &DeploymentStatus,
    status: &DeploymentStatus,
    now: SimTime,
) -> Option<Progress> {
    deadline_of(deadline_seconds)?;
    let was_complete = status.replicas == status.updated
        && progress.is_some_and(|progress| progress.reason == ProgressReason::NewReplicaSetAvailable);
    if was_complete {
        return progress;
    }
    let because = |reason| Some(Progress { reason, updated_at: whole_second(now) });
    if status.is_complete(desired) {
        because(ProgressReason::NewReplicaSetAvailable)
    } else if status.is_progress_from(former) {
        because(ProgressReason::ReplicaSetUpdated)
    } else if is_timed_out(progress, deadline_seconds, now) {
        let former = progress.filter(|progress| progress.reason == ProgressReason::ProgressDeadlineExceeded);
        former.or_else(|| because(ProgressReason::ProgressDeadlineExceeded))
    } else {
        progress
    }
}

/// The time left until the deadline is to be looked at again, if at all; less than a second counts as none. The controller
/// comes back a second later than that, so that the deadline has passed for sure.
#[must_use]
pub fn recheck_after(
    progress: Option<Progress>,
    deadline_seconds: Option<u32>,
    desired: i32,
    status: &DeploymentStatus,
    now: SimTime,
) -> Option<Duration> {
    let (deadline, progress) = (deadline_of(deadline_seconds)?, progress?);
    if status.is_complete(desired) || progress.reason == ProgressReason::ProgressDeadlineExceeded {
        return None;
    }
    let due_at = progress.updated_at.after(deadline);
    let left = if due_at > now { due_at.since(now) } else { Duration::ZERO };
    Some(if left < Duration::from_secs(1) { Duration::ZERO } else { left })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_no_active_set_the_new_one_grows_even_if_it_is_older() {
        let set = |created| ReplicaSetView { created, ..ReplicaSetView::default() };
        let strategy = Strategy::RollingUpdate {
            max_surge: IntOrPercent::Percent(25),
            max_unavailable: IntOrPercent::Percent(25),
        };
        let (new, old) = scale_in_proportion(strategy, 5, 0, Some(&set(1)), &[set(2)]);
        assert_eq!((new, old), (Some(5), vec![0]));
        let (new, old) = scale_in_proportion(strategy, 5, 0, None, &[set(2), set(1)]);
        assert_eq!((new, old), (None, vec![5, 0]));
    }

    #[test]
    fn a_report_older_than_the_size_ends_the_scale_down() {
        let strategy =
            Strategy::RollingUpdate { max_surge: IntOrPercent::Int(3), max_unavailable: IntOrPercent::Int(2) };
        let set = |replicas, available| ReplicaSetView { replicas, available, ..ReplicaSetView::default() };
        assert_eq!(reconcile_old(strategy, 10, &set(5, 3), &[set(8, 10)]), [8]);
        assert_eq!(reconcile_old(strategy, 10, &set(5, 3), &[set(8, 8)]), [5]);
        // Nor do the pods count that a set of size 0 still reports.
        assert_eq!(reconcile_old(strategy, 10, &set(7, 3), &[set(0, 4), set(6, 6)]), [0, 5]);
    }
}
