//! Pods that have ended, and that the garbage collector of pods deletes when there are too many.
//!
//! It looks every 20 s. Of more ended pods than the threshold the surplus goes, the oldest first; from 1.27 on those that a kubelet has evicted before all others.
//! Source: Kubernetes v1.28.7 pkg/controller/podgc/gc_controller.go, pkg/controller/podgc/config/v1alpha1/defaults.go; kubernetes/kubernetes pull 116167.

use std::rc::Rc;
use std::time::Duration;

use super::version::Version;
use crate::units::SimTime;

/// From one look to the next.
pub const PERIOD: Duration = Duration::from_secs(20);
/// `--terminated-pod-gc-threshold`: so many may stay.
pub const THRESHOLD: usize = 12_500;

/// The first version in which evicted pods go before others.
const EVICTED_FIRST: Version = Version::new(1, 27);

/// A pod that has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Its name.
    pub name: Rc<str>,
    /// When it was created, as it is stamped.
    pub created_at: SimTime,
    /// Its kubelet has evicted it.
    pub is_evicted: bool,
}

/// The indexes of the pods that go, in the order in which they go. A threshold of 0 is none.
#[must_use]
pub fn surplus(ended: &[Ended], threshold: usize, version: Version) -> Vec<usize> {
    let count = if threshold == 0 { 0 } else { ended.len().saturating_sub(threshold) };
    let mut order: Vec<usize> = (0..ended.len()).collect();
    let last = |pod: &Ended| version >= EVICTED_FIRST && !pod.is_evicted;
    order.sort_by_key(|index| (last(&ended[*index]), ended[*index].created_at, &ended[*index].name));
    order.truncate(count);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surplus_goes_evicted_ones_and_the_oldest_first() {
        let pod = |name: &str, seconds: u64, is_evicted: bool| Ended {
            name: Rc::from(name),
            created_at: SimTime::ZERO.after(Duration::from_secs(seconds)),
            is_evicted,
        };
        let ended = [pod("d", 5, true), pod("b", 1, false), pod("c", 5, true), pod("a", 1, false), pod("e", 3, true)];
        let (now, before) = (Version::new(1, 28), Version::new(1, 26));
        for (threshold, version, expected) in [
            (6, now, vec![]),
            (5, now, vec![]),
            (4, now, vec![4]),
            (0, now, vec![]),
            (1, now, vec![4, 2, 0, 3]),
            (2, before, vec![3, 1, 4]),
        ] {
            assert_eq!(surplus(&ended, threshold, version), expected, "{threshold} {version}");
        }
    }
}
