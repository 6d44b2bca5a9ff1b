//! The check that every run makes of its own rolling updates: a step that shrinks old sets leaves as many available pods as the strategy promises.
//!
//! It holds of what the sets have reported, which is all that the controller knows. What has failed since, and is not reported yet, is no fault of the step; and of two old
//! sets one may report pods that it was asked to give up before (`clean_up_unhealthy` stops there, but not always in time), so what is taken is counted, and not what stays.

use super::{ReplicaSetView, Strategy, sum};

/// By how much a step breaks its promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shortfall {
    /// Available pods that would be left.
    pub left: i32,
    /// Those that the strategy promises.
    pub least: i32,
}

/// Whether giving old sets these sizes, in the order of `old`, takes available pods that have to stay. Pods that are not available go first, so a set gives up available ones only
/// below as many as it reports.
#[must_use]
pub fn shortfall(
    strategy: Strategy,
    desired: i32,
    new: &ReplicaSetView,
    old: &[ReplicaSetView],
    sizes: &[i32],
) -> Option<Shortfall> {
    let taken_of = |(set, size): (&ReplicaSetView, &i32)| (set.available.min(set.replicas) - size).max(0);
    let taken: i32 = old.iter().zip(sizes).map(taken_of).sum();
    let available = new.available + sum(old, |set| if set.replicas > 0 { set.available } else { 0 });
    let (left, least) = (available - taken, strategy.min_available(desired));
    (taken > 0 && left < least).then_some(Shortfall { left, least })
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert_eq, proptest};

    use super::*;
    use crate::cluster::deployment::reconcile_old;
    use crate::cluster::int_or_percent::IntOrPercent;

    fn rolling(surge: i32, unavailable: i32) -> Strategy {
        Strategy::RollingUpdate { max_surge: IntOrPercent::Int(surge), max_unavailable: IntOrPercent::Int(unavailable) }
    }

    fn set(replicas: i32, available: i32) -> ReplicaSetView {
        ReplicaSetView { replicas, available, status_replicas: replicas, ..ReplicaSetView::default() }
    }

    #[test]
    fn one_pod_too_many_is_noticed() {
        for (unavailable, new, old, sizes, expected) in [
            // Of ten available pods two may go, and not three.
            (2, set(2, 0), vec![set(10, 10)], vec![8], None),
            (2, set(2, 0), vec![set(10, 10)], vec![7], Some((7, 8))),
            // Those that were not available are free to go.
            (2, set(2, 0), vec![set(10, 8)], vec![8], None),
            (2, set(2, 0), vec![set(10, 8)], vec![7], Some((7, 8))),
            // New ones that are available count, over all old sets together.
            (0, set(4, 3), vec![set(4, 4), set(3, 3)], vec![4, 3], None),
            (0, set(4, 4), vec![set(4, 4), set(3, 3)], vec![3, 3], None),
            (0, set(4, 4), vec![set(4, 4), set(3, 3)], vec![3, 2], Some((9, 10))),
            // What has failed by itself is no fault of a step that takes nothing.
            (0, set(0, 0), vec![set(10, 4)], vec![4], None),
            (0, set(0, 0), vec![set(10, 4)], vec![3], Some((3, 10))),
        ] {
            let found = shortfall(rolling(1, unavailable), 10, &new, &old, &sizes);
            assert_eq!(found.map(|it| (it.left, it.least)), expected, "{new:?} {old:?} {sizes:?}");
        }
    }

    #[test]
    fn a_controller_with_a_wrong_limit_is_caught() {
        let (new, old) = (set(3, 0), [set(10, 10)]);
        let sizes = |unavailable| reconcile_old(rolling(3, unavailable), 10, &new, &old);
        assert_eq!(shortfall(rolling(3, 2), 10, &new, &old, &sizes(2)), None);
        let found = shortfall(rolling(3, 2), 10, &new, &old, &sizes(3));
        assert_eq!(found, Some(Shortfall { left: 7, least: 8 }));
    }

    proptest! {
        /// Whatever sets report, older than their sizes or not, the rules keep the promise.
        #[test]
        fn the_rules_never_trip_it(
            surge in 0_i32..6,
            unavailable in 0_i32..6,
            desired in 0_i32..20,
            new in (0_i32..20, 0_i32..20),
            old in proptest::collection::vec((0_i32..20, 0_i32..20, 0_i64..9), 0..5),
        ) {
            let new = set(new.0, new.1);
            let old: Vec<_> =
                old.into_iter().map(|(size, available, created)| ReplicaSetView { created, ..set(size, available) }).collect();
            let strategy = rolling(surge, unavailable);
            let sizes = reconcile_old(strategy, desired, &new, &old);
            prop_assert_eq!(shortfall(strategy, desired, &new, &old, &sizes), None);
        }
    }
}
