//! What a kubelet does when its node runs short of disk, or a pod takes more of it than it may.
//!
//! One file system holds images, logs, writable layers and `emptyDir` volumes, as on nodes without a disk of their own for images. So both of the kubelet's thresholds look at the same
//! bytes, and the one for images comes first: less than 15 % free is `DiskPressure`, and 10 % for all else never decides. Every ten seconds the kubelet looks. It removes images that nobody uses
//! ([`super::image_gc`]), and if that does not help it evicts one pod: first those that take more than they asked for, of these the least important, and of these the one that takes most above
//! that. While the condition holds, and for five minutes after, no pod is taken but critical ones.
//!
//! Limits are looked at whether there is a shortage or not: of each `emptyDir`, of the pod (the sum of those of its containers that have one), and of a container with its log.
//!
//! Left out: inodes, and a file system of its own for images.
//!
//! Source: Kubernetes v1.28.7 pkg/kubelet/eviction/{eviction_manager,helpers,defaults_linux}.go (`rankDiskPressureFunc`, `localStorageEviction`), pkg/kubelet/types/pod_update.go
//! (`IsCriticalPod`), pkg/kubelet/apis/config/v1beta1/defaults.go (`ContainerLogMaxSize`, `ContainerLogMaxFiles`).

use std::cmp::Reverse;
use std::rc::Rc;

use super::pressure::TRANSITION_PERIOD;
use super::shutdown::CRITICAL;
use crate::cluster::objects::{LocalStorage, StorageLimit};
use crate::units::SimTime;

/// The taint of a node with the condition.
pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
/// The name under which pods ask for disk, and nodes have it.
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
/// Less than this share of the disk has to be free, in percent, for a shortage. Source: defaults_linux.go `imagefs.available`.
const FREE_PERCENT: u64 = 15;
/// What is reserved of a disk, in percent, so that pods cannot ask for it. Source: the same (`nodefs.available`), pkg/kubelet/cm/node_container_manager_linux.go.
const RESERVED_PERCENT: u64 = 10;
/// A container's log is rotated at 10 MiB, and five files are kept.
pub const LOG_BYTES_MAX: u64 = 5 * (10 << 20);

/// What a pod takes of its node's disk.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DiskUse {
    /// The log of the container whose process is simulated, in bytes.
    pub log_bytes: u64,
    /// What that container has written where no volume is, in bytes.
    pub layer_bytes: u64,
    /// An `emptyDir` and what lies in it, in bytes.
    pub volume: Option<(Rc<str>, u64)>,
}

impl DiskUse {
    /// All of it.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let volume = self.volume.as_ref().map_or(0, |(_, bytes)| *bytes);
        self.log_bytes.saturating_add(self.layer_bytes).saturating_add(volume)
    }
}

/// What pods may ask for of a disk of this size, unless the node says otherwise.
#[must_use]
pub fn allocatable_bytes(capacity_bytes: u64) -> u64 {
    capacity_bytes - share(capacity_bytes, RESERVED_PERCENT)
}

/// What has to be free of a disk of this size.
#[must_use]
pub fn threshold_bytes(capacity_bytes: u64) -> u64 {
    share(capacity_bytes, FREE_PERCENT)
}

fn share(bytes: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(percent) / 100).expect("a part of 64 bits")
}

/// One node's disk, as its kubelet watches it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DiskWatch {
    /// When too little was last seen to be free.
    seen_at: Option<SimTime>,
}

impl DiskWatch {
    /// Looks at a disk of which `used_bytes` are taken: whether there is a shortage now.
    pub fn look(&mut self, now: SimTime, capacity_bytes: u64, used_bytes: u64) -> bool {
        let is_short = is_short(capacity_bytes, used_bytes);
        if is_short {
            self.seen_at = Some(now);
        }
        is_short
    }

    /// Whether the node has the condition `DiskPressure`.
    #[must_use]
    pub fn is_under_pressure(&self, now: SimTime) -> bool {
        self.seen_at.is_some_and(|seen_at| now.since(seen_at) < TRANSITION_PERIOD)
    }
}

/// Whether too little is free.
#[must_use]
pub fn is_short(capacity_bytes: u64, used_bytes: u64) -> bool {
    capacity_bytes.saturating_sub(used_bytes) < threshold_bytes(capacity_bytes)
}

/// What a pod takes, and what it asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PodDisk {
    /// Names it.
    pub id: u64,
    /// Bytes taken.
    pub usage_bytes: u64,
    /// Bytes asked for.
    pub request_bytes: u64,
    /// Its priority.
    pub priority: i32,
}

/// The pod that is evicted first; of equal ones the first. None: there is none that may be.
#[must_use]
pub fn victim(pods: &[PodDisk]) -> Option<PodDisk> {
    let rank = |pod: &&PodDisk| {
        let above = i128::from(pod.usage_bytes) - i128::from(pod.request_bytes);
        (above > 0, Reverse(pod.priority), above)
    };
    let candidates = pods.iter().rev().filter(|pod| pod.priority < CRITICAL);
    // Of several with the same rank the first: `max_by_key` would give the last.
    candidates.max_by_key(rank).copied()
}

/// What a pod is told that is evicted for want of disk; `container` is the one whose process is simulated.
#[must_use]
pub fn shortage_message(capacity_bytes: u64, used_bytes: u64, pod: &PodDisk, container: &str) -> String {
    let (threshold, free) = (threshold_bytes(capacity_bytes), capacity_bytes.saturating_sub(used_bytes));
    let mut text = format!(
        "The node was low on resource: {EPHEMERAL_STORAGE}. Threshold quantity: {}, available: {}.",
        quantity(threshold),
        quantity(free)
    );
    if pod.usage_bytes > pod.request_bytes {
        let (usage, request) = (quantity(pod.usage_bytes), quantity(pod.request_bytes));
        text += &format!(
            " Container {container} was using {usage}, request is {request}, has larger consumption of {EPHEMERAL_STORAGE}."
        );
    }
    text
}

/// Which of its limits a pod has exceeded, as it is told; exactly a limit may be taken.
#[must_use]
pub fn exceeded(used: &DiskUse, limits: &LocalStorage, container: &str) -> Option<String> {
    if let Some((name, bytes)) = &used.volume {
        let limit = limits.empty_dirs.iter().find(|volume| volume.name == *name).and_then(|it| it.limit.as_ref());
        // A limit of nothing is none.
        if let Some(limit) = limit.filter(|limit| limit.bytes > 0 && *bytes > limit.bytes) {
            return Some(format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\".", limit.written));
        }
    }
    let total: u64 = limits.containers.iter().map(|(_, limit)| limit.bytes).fold(0, u64::saturating_add);
    if !limits.containers.is_empty() && used.total_bytes() > total {
        let written = match &limits.containers[..] {
            [(_, StorageLimit { written, .. })] => written.clone(),
            _ => quantity(total),
        };
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {written}."));
    }
    let own = limits.containers.iter().find(|(name, limit)| **name == *container && limit.bytes > 0);
    let (_, limit) = own.filter(|(_, limit)| used.log_bytes.saturating_add(used.layer_bytes) > limit.bytes)?;
    Some(format!("Container {container} exceeded its local ephemeral storage limit \"{}\".", limit.written))
}

/// Bytes as Kubernetes writes them: with the largest unit of which they are a whole number.
#[must_use]
pub fn quantity(bytes: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let power = if bytes == 0 { 0 } else { (bytes.trailing_zeros() / 10).min(5) };
    format!("{}{}", bytes >> (10 * power), units[power as usize])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::objects::EmptyDir;

    const GIB: u64 = 1 << 30;

    fn pod(id: u64, usage_bytes: u64, request_bytes: u64, priority: i32) -> PodDisk {
        PodDisk { id, usage_bytes, request_bytes, priority }
    }

    #[test]
    fn fifteen_percent_have_to_be_free() {
        for (used, expected) in [(0, false), (85, false), (86, true), (100, true), (120, true)] {
            assert_eq!(is_short(100, used), expected, "{used} of 100");
        }
        assert_eq!((allocatable_bytes(100 * GIB), threshold_bytes(100 * GIB)), (90 * GIB, 15 * GIB));
    }

    #[test]
    fn the_condition_stays_for_five_minutes() {
        let at = |seconds: u64| SimTime::ZERO.after(Duration::from_secs(seconds));
        let mut watch = DiskWatch::default();
        assert!(!watch.look(at(0), 100, 85) && !watch.is_under_pressure(at(0)));
        assert!(watch.look(at(10), 100, 86) && watch.is_under_pressure(at(10)));
        assert!(!watch.look(at(20), 100, 85));
        assert!(watch.is_under_pressure(at(309)) && !watch.is_under_pressure(at(310)));
    }

    #[test]
    fn who_goes_first() {
        for (pods, expected) in [
            (vec![], None),
            // Who asked for what it takes stays, however little it counts.
            (vec![pod(1, 900, 900, -9), pod(2, 1, 0, 5)], Some(2)),
            (vec![pod(1, 10, 0, 5), pod(2, 900, 0, 6)], Some(1)),
            (vec![pod(1, 10, 0, 5), pod(2, 900, 0, 5)], Some(2)),
            (vec![pod(1, 900, 800, 5), pod(2, 300, 100, 5)], Some(2)),
            // Those that take nothing may go too, if there is nobody else.
            (vec![pod(1, 0, 0, 0), pod(2, 0, 0, 0)], Some(1)),
            // Critical pods stay.
            (vec![pod(1, 900, 0, CRITICAL), pod(2, 0, 0, CRITICAL - 1)], Some(2)),
            (vec![pod(1, 900, 0, CRITICAL)], None),
        ] {
            assert_eq!(victim(&pods).map(|pod| pod.id), expected, "{pods:?}");
        }
    }

    fn limit(bytes: u64) -> StorageLimit {
        StorageLimit { bytes, written: quantity(bytes) }
    }

    #[test]
    fn each_limit_may_be_reached_and_not_exceeded() {
        let storage = |containers: &[(&str, u64)], volume: Option<u64>| LocalStorage {
            containers: containers.iter().map(|(name, bytes)| (Rc::from(*name), limit(*bytes))).collect(),
            empty_dirs: vec![EmptyDir { name: Rc::from("cache"), limit: volume.map(limit) }],
        };
        let used = |log_bytes, layer_bytes, volume| DiskUse {
            log_bytes,
            layer_bytes,
            volume: Some((Rc::from("cache"), volume)),
        };
        for (used, limits, expected) in [
            (used(9, 9, 99), storage(&[], None), None),
            (used(9, 9, 1024), storage(&[], Some(1024)), None),
            (
                used(9, 9, 1025),
                storage(&[], Some(1024)),
                Some("Usage of EmptyDir volume \"cache\" exceeds the limit \"1Ki\"."),
            ),
            (used(9, 9, 1025), storage(&[], Some(0)), None),
            // The volume counts in the pod's limit, and not in its container's.
            (used(1, 1, 8), storage(&[("web", 10)], None), None),
            (
                used(1, 1, 9),
                storage(&[("web", 10)], None),
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 10."),
            ),
            (used(5, 5, 0), storage(&[("web", 10), ("log", 10)], None), None),
            (
                used(5, 6, 0),
                storage(&[("web", 10), ("log", 10)], None),
                Some("Container web exceeded its local ephemeral storage limit \"10\"."),
            ),
            // Containers without a limit add nothing to the pod's.
            (
                used(5, 6, 0),
                storage(&[("log", 10)], None),
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 10."),
            ),
        ] {
            assert_eq!(exceeded(&used, &limits, "web").as_deref(), expected, "{used:?} {limits:?}");
        }
    }

    #[test]
    fn pods_are_told_what_there_was() {
        let told = shortage_message(100 * GIB, 86 * GIB, &pod(1, 3 << 20, 1 << 20, 0), "web");
        assert_eq!(
            told,
            "The node was low on resource: ephemeral-storage. Threshold quantity: 15Gi, available: 14Gi. \
             Container web was using 3Mi, request is 1Mi, has larger consumption of ephemeral-storage."
        );
        assert!(shortage_message(100 * GIB, 86 * GIB, &pod(1, 1, 1, 0), "web").ends_with("available: 14Gi."));
        assert_eq!([0, 1, 1000, 1024, 1536, 1 << 40].map(quantity), ["0", "1", "1000", "1Ki", "1536", "1Ti"]);
    }
}
