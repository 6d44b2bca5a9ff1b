//! What a kubelet does when its node runs short of memory.
//!
//! Every ten seconds it compares what its pods hold with what there is for them. Below the threshold of free memory it evicts one pod, and looks again: first those
//! that hold more than they asked for, of these the least important, and of these the one that holds most above that; critical ones stay. The condition `MemoryPressure` stays for five minutes after it was last
//! seen; meanwhile pods that asked for nothing are kept away.
//!
//! What is allocatable is the node's capacity less what is reserved, the threshold of 100 MiB included. So there is less than the threshold left when the pods
//! hold more than is allocatable. What the system itself holds counts as what is reserved for it.
//!
//! Source: Kubernetes v1.28.7 pkg/kubelet/eviction/{eviction_manager,helpers}.go (`rankMemoryPressure`),
//! pkg/kubelet/kubelet.go (`evictionMonitoringPeriod`), pkg/kubelet/cm/node_container_manager_linux.go.

use std::cmp::Reverse;
use std::time::Duration;

use super::shutdown::CRITICAL;
use crate::cluster::version::Version;
use crate::units::SimTime;

/// How often it looks. Source: kubelet.go `evictionMonitoringPeriod`.
pub const CHECK_PERIOD: Duration = Duration::from_secs(10);
/// How long the condition stays. Source: pkg/kubelet/apis/config/v1beta1/defaults.go `evictionPressureTransitionPeriod`.
pub const TRANSITION_PERIOD: Duration = Duration::from_secs(300);
/// The taint of a node with the condition.
pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

/// What a pod holds of its node's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PodMemory {
    /// Names it.
    pub id: u64,
    /// Bytes held.
    pub usage_bytes: u64,
    /// Bytes asked for.
    pub request_bytes: u64,
    /// Its priority.
    pub priority: i32,
}

/// The pod that is evicted first; of equal ones the first. None: there is none that may be.
#[must_use]
pub fn victim(pods: &[PodMemory]) -> Option<u64> {
    let rank = |pod: &&PodMemory| {
        let above = i128::from(pod.usage_bytes) - i128::from(pod.request_bytes);
        (above > 0, Reverse(pod.priority), above)
    };
    // Of several with the same rank the first: `max_by_key` would give the last.
    let candidates = pods.iter().rev().filter(|pod| pod.priority < CRITICAL);
    candidates.max_by_key(rank).map(|pod| pod.id)
}

/// The grace of an eviction for want of memory, in seconds. Before 1.30 a grace of 0 was taken for none, so that the pod got its own.
/// Source: kubernetes/kubernetes pull 124063; the fix came to patch versions of 1.27 to 1.29 too.
#[must_use]
pub fn grace_seconds(version: Version, own_seconds: u32) -> u32 {
    if version >= Version::new(1, 30) { 1 } else { own_seconds.max(1) }
}

/// One node's memory, as its kubelet watches it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PressureWatch {
    /// When too little was last seen to be free.
    seen_at: Option<SimTime>,
}

/// What a look finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// The node has the condition `MemoryPressure`.
    pub is_under_pressure: bool,
    /// A pod has to go now.
    pub evicts: bool,
}

impl PressureWatch {
    /// Looks at a node whose pods hold `usage_bytes`.
    pub fn look(&mut self, now: SimTime, allocatable_bytes: u64, usage_bytes: u64) -> Look {
        let evicts = usage_bytes > allocatable_bytes;
        if evicts {
            self.seen_at = Some(now);
        }
        let is_under_pressure = self.seen_at.is_some_and(|seen_at| now.since(seen_at) < TRANSITION_PERIOD);
        Look { is_under_pressure, evicts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(id: u64, usage_bytes: u64, request_bytes: u64) -> PodMemory {
        PodMemory { id, usage_bytes, request_bytes, priority: 0 }
    }

    #[test]
    fn of_those_above_their_request_the_least_important_goes_first() {
        let with = |pod: PodMemory, priority: i32| PodMemory { priority, ..pod };
        for (pods, expected) in [
            (vec![with(pod(1, 101, 100), 5), with(pod(2, 900, 100), 6)], Some(1)),
            (vec![with(pod(1, 101, 100), 6), with(pod(2, 900, 100), 5)], Some(2)),
            (vec![with(pod(1, 101, 100), 5), with(pod(2, 102, 100), 5)], Some(2)),
            (vec![with(pod(1, 1, 100), 5), with(pod(2, 900, 100), CRITICAL)], Some(1)),
            (vec![with(pod(2, 900, 100), CRITICAL)], None),
            // Who asked for what it holds stays, however little it counts.
            (vec![with(pod(1, 100, 100), -9), with(pod(2, 101, 100), 2000)], Some(2)),
        ] {
            assert_eq!(victim(&pods), expected, "{pods:?}");
        }
    }

    #[test]
    fn who_holds_most_above_its_request_goes_first() {
        for (pods, expected) in [
            (vec![], None),
            (vec![pod(1, 50, 100)], Some(1)),
            // The larger one asked for what it holds.
            (vec![pod(1, 900, 1000), pod(2, 101, 100)], Some(2)),
            (vec![pod(1, 300, 100), pod(2, 400, 250)], Some(1)),
            (vec![pod(1, 100, 100), pod(2, 90, 100)], Some(1)),
            (vec![pod(1, 200, 100), pod(2, 200, 100)], Some(1)),
        ] {
            assert_eq!(victim(&pods), expected, "{pods:?}");
        }
    }

    #[test]
    fn what_is_allocatable_may_be_held_and_the_condition_stays_for_five_minutes() {
        let at = |seconds: u64| SimTime::ZERO.after(Duration::from_secs(seconds));
        let mut watch = PressureWatch::default();
        let quiet = Look { is_under_pressure: false, evicts: false };
        assert_eq!(watch.look(at(0), 1000, 1000), quiet);
        assert_eq!(watch.look(at(10), 1000, 1001), Look { is_under_pressure: true, evicts: true });
        let after = Look { is_under_pressure: true, evicts: false };
        assert_eq!([watch.look(at(20), 1000, 1000), watch.look(at(309), 1000, 0)], [after, after]);
        assert_eq!(watch.look(at(310), 1000, 0), quiet);
    }

    #[test]
    fn an_eviction_is_at_once_from_1_30_on() {
        assert_eq!([28, 29, 30, 33].map(|minor| grace_seconds(Version::new(1, minor), 40)), [40, 40, 1, 1]);
    }
}
