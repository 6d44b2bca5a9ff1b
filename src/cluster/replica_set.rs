//! The rules of the `ReplicaSet` controller: how many calls at once, and which pods go first.
//!
//! A pod that is being deleted is no longer counted: its replacement is created at once, not when its containers have ended.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/replicaset/replica_set.go, pkg/controller/controller_utils.go.

use std::cmp::Ordering;

use super::deployment::PodPhase;
use crate::units::SimTime;

/// Calls of one sync at most.
pub const BURST: usize = 500;

/// Makes `count` calls in batches of 1, 2, 4 and so on; after a batch with a failure there is no further one. `call` is given the
/// number of the call, from 0, and tells whether it succeeded. Returns the successes and whether a call failed.
pub fn slow_start(count: usize, first_batch: usize, mut call: impl FnMut(usize) -> bool) -> (usize, bool) {
    let (mut made, mut successes, mut batch) = (0, 0, first_batch.min(count));
    while batch > 0 {
        let passed = (made..made + batch).filter(|number| call(*number)).count();
        made += batch;
        successes += passed;
        if passed < batch {
            return (successes, true);
        }
        batch = (2 * batch).min(count - made);
    }
    (successes, false)
}

/// What the order of deletion looks at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// It has a node.
    pub is_assigned: bool,
    /// Its phase.
    pub phase: PodPhase,
    /// It is ready.
    pub is_ready: bool,
    /// The annotation `controller.kubernetes.io/pod-deletion-cost`; the cheaper goes first.
    pub deletion_cost: i32,
    /// Active pods of the same owner on its node; the more crowded goes first.
    pub rank: usize,
    /// When it became ready; none: long ago.
    pub ready_since: Option<SimTime>,
    /// Restarts of the container that restarted most.
    pub restarts: u32,
    /// When it was created; none: long ago.
    pub created_at: Option<SimTime>,
    /// Its random name, which decides between ages that count as equal.
    pub uid: String,
}

/// How ages are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AgeScale {
    /// In powers of two of a nanosecond: ages of 9 and 16 seconds are equal.
    Logarithmic,
    /// To the nanosecond.
    Exact,
}

/// Whether `a` is deleted before `b` (`Less`), after it, or neither.
#[must_use]
pub fn deletion_order(a: &Candidate, b: &Candidate, scale: AgeScale, now: SimTime) -> Ordering {
    let by_age = |a_since: Option<SimTime>, b_since: Option<SimTime>| younger_first(a, a_since, b, b_since, scale, now);
    let ready_age = if a.is_ready && b.is_ready { by_age(a.ready_since, b.ready_since) } else { Ordering::Equal };
    a.is_assigned
        .cmp(&b.is_assigned)
        .then(a.phase.cmp(&b.phase))
        .then(a.is_ready.cmp(&b.is_ready))
        .then(a.deletion_cost.cmp(&b.deletion_cost))
        .then(b.rank.cmp(&a.rank))
        .then(ready_age)
        .then(b.restarts.cmp(&a.restarts))
        .then_with(|| by_age(a.created_at, b.created_at))
}

/// The later of two times first; a time that is not known comes before any.
fn younger_first(
    a: &Candidate,
    a_since: Option<SimTime>,
    b: &Candidate,
    b_since: Option<SimTime>,
    scale: AgeScale,
    now: SimTime,
) -> Ordering {
    match (a_since, b_since) {
        (a_since, b_since) if a_since == b_since => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some(a_since), Some(b_since)) => match scale {
            AgeScale::Exact => b_since.cmp(&a_since),
            AgeScale::Logarithmic => {
                let bucket = |since: SimTime| (now.as_nanos().saturating_sub(since.as_nanos())).checked_ilog2();
                // An age of 0 has no logarithm and sorts below all, as the missing value does.
                bucket(a_since).cmp(&bucket(b_since)).then_with(|| a.uid.cmp(&b.uid))
            }
        },
    }
}

/// The indexes of the pods to delete, first to go first. If all go, their order stays.
#[must_use]
pub fn choose_to_delete(pods: &[Candidate], count: usize, scale: AgeScale, now: SimTime) -> Vec<usize> {
    if count >= pods.len() {
        return (0..pods.len()).collect();
    }
    // Insertion by hand: the rule is not transitive (equal times go on to the restarts, equal buckets to the uid), which the
    // sort of the standard library may answer with a panic.
    // Only the first places are kept: what comes after the last of them stays after it.
    let mut order: Vec<usize> = Vec::with_capacity(count + 1);
    for index in 0..pods.len() {
        let goes_after = |other: &usize| deletion_order(&pods[*other], &pods[index], scale, now) != Ordering::Greater;
        let place = order.iter().rposition(goes_after).map_or(0, |before| before + 1);
        if place < count {
            order.insert(place, index);
            order.truncate(count);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Streams;

    /// The order is not transitive (ages of one bucket are decided by name, equal ages by restarts), so a general sort may find it
    /// inconsistent and give up.
    #[test]
    fn many_pods_of_like_ages_are_chosen_without_complaint() {
        let mut stream = Streams::new(1).stream("victims", "");
        for _ in 0..100 {
            let pods: Vec<Candidate> = (0..100)
                .map(|_| Candidate {
                    is_assigned: true,
                    phase: PodPhase::Running,
                    is_ready: true,
                    deletion_cost: 0,
                    rank: 1,
                    ready_since: Some(SimTime::from_nanos(1_000_000_000 + stream.below(4))),
                    restarts: u32::try_from(stream.below(3)).unwrap(),
                    created_at: Some(SimTime::from_nanos(stream.below(1000))),
                    uid: format!("{:x}", stream.bits()),
                })
                .collect();
            let now = SimTime::from_nanos(60_000_000_000);
            let chosen = choose_to_delete(&pods, 30, AgeScale::Logarithmic, now);
            assert_eq!(chosen.len(), 30);
            let distinct: std::collections::BTreeSet<_> = chosen.into_iter().collect();
            assert_eq!(distinct.len(), 30);
        }
    }
}
