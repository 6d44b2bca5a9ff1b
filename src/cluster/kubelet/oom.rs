//! Whom the kernel kills when a whole node runs out of memory.
//!
//! It does not wait for the kubelet, which looks every ten seconds: who asks for a page that is not there sets it going. It counts what each process holds, and
//! adds to it a share of the node's memory that the kubelet has written down for it: nearly all of it is taken off for pods whose limits are their requests,
//! all of it is added for those that asked for nothing, and for the others the less the more they asked for. Who counts most is killed; while a victim has not ended, no
//! other is chosen.
//!
//! A node has what its pods may ask for and the kubelet's threshold of 100 MiB; what is reserved for the system is held by the system.
//!
//! Left out: containers of one pod by themselves (a pod is one process), swap, page tables, and the kernel's try to free pages first.
//! Source: Kubernetes v1.28.7 pkg/kubelet/qos/policy.go (`GetContainerOOMScoreAdjust`), pkg/apis/core/v1/helper/qos/qos.go; Linux mm/oom_kill.c (`oom_badness`).

/// Free memory below which a kubelet evicts: it is not allocatable, and the kernel gives it to whoever asks. Source:
/// pkg/kubelet/apis/config/v1beta1/defaults_linux.go (`DefaultEvictionHard`).
pub const EVICTION_THRESHOLD_BYTES: u64 = 100 << 20;

/// How much a pod is guaranteed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Qos {
    /// Its limits are its requests, of processor and memory.
    Guaranteed,
    /// It asks for something.
    Burstable,
    /// It asks for nothing.
    BestEffort,
}

impl Qos {
    /// The class of a pod of one container: what it asks for, and what it may have, of processor and memory. A request that nobody writes is the limit.
    #[must_use]
    pub fn of(requests: [u64; 2], limits: [Option<u64>; 2]) -> Self {
        if requests == [0, 0] && limits == [None, None] {
            return Self::BestEffort;
        }
        let is_all = requests.iter().zip(limits).all(|(request, limit)| limit.is_some_and(|limit| limit == *request));
        if is_all && requests.iter().all(|request| *request > 0) { Self::Guaranteed } else { Self::Burstable }
    }

    /// `oom_score_adj` of its processes, in thousandths of the node's memory.
    #[must_use]
    pub fn oom_score_adj(self, request_bytes: u64, capacity_bytes: u64) -> i64 {
        match self {
            Self::Guaranteed => -997,
            Self::BestEffort => 1000,
            Self::Burstable => {
                let share = u128::from(request_bytes) * 1000 / u128::from(capacity_bytes.max(1));
                (1000 - i64::try_from(share).unwrap_or(1000)).clamp(3, 999)
            }
        }
    }
}

/// A process that holds memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Bytes held.
    pub bytes: u64,
    /// Its `oom_score_adj`.
    pub score_adj: i64,
}

/// The index of the one that is killed on a node with so much memory; none while they fit. Of equals the first.
#[must_use]
pub fn victim(holders: &[Holder], capacity_bytes: u64) -> Option<usize> {
    let held: u64 = holders.iter().map(|holder| holder.bytes).fold(0, u64::saturating_add);
    if held <= capacity_bytes {
        return None;
    }
    let thousandth = i128::from(capacity_bytes / 1000);
    let points = |index: &usize| i128::from(holders[*index].bytes) + i128::from(holders[*index].score_adj) * thousandth;
    // Of several with the same points the first: `max_by_key` would give the last.
    (0..holders.len()).rev().max_by_key(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn classes_follow_requests_and_limits() {
        for (requests, limits, expected) in [
            ([0, 0], [None, None], Qos::BestEffort),
            ([0, 0], [Some(1000), None], Qos::Burstable),
            ([100, GIB], [None, None], Qos::Burstable),
            ([100, GIB], [Some(100), Some(GIB)], Qos::Guaranteed),
            ([100, GIB], [Some(100), Some(2 * GIB)], Qos::Burstable),
            ([100, GIB], [None, Some(GIB)], Qos::Burstable),
        ] {
            assert_eq!(Qos::of(requests, limits), expected, "{requests:?} {limits:?}");
        }
    }

    #[test]
    fn scores_are_those_of_the_kubelet() {
        for (qos, request, capacity, expected) in [
            (Qos::Guaranteed, 8 * GIB, 8 * GIB, -997),
            (Qos::BestEffort, 0, 8 * GIB, 1000),
            (Qos::Burstable, 0, 8 * GIB, 999),
            (Qos::Burstable, 2 * GIB, 8 * GIB, 750),
            (Qos::Burstable, 8 * GIB - 1, 8 * GIB, 3),
            (Qos::Burstable, 9 * GIB, 8 * GIB, 3),
        ] {
            assert_eq!(qos.oom_score_adj(request, capacity), expected, "{qos:?} {request}");
        }
    }

    #[test]
    fn who_asked_for_less_goes_before_who_holds_more() {
        let holder = |bytes: u64, score_adj: i64| Holder { bytes, score_adj };
        for (holders, expected) in [
            (vec![], None),
            (vec![holder(1000, 999)], None),
            (vec![holder(1001, -997)], Some(0)),
            // 500 + 0.9 of the node against 501 + 0.1 of it.
            (vec![holder(501, 100), holder(500, 900)], Some(1)),
            (vec![holder(400, 500), holder(601, 500)], Some(1)),
            (vec![holder(501, 500), holder(501, 500)], Some(0)),
            (vec![holder(900, -997), holder(101, 3)], Some(1)),
        ] {
            assert_eq!(victim(&holders, 1000), expected, "{holders:?}");
        }
    }
}
