//! What a kubelet does when its machine is told to shut down.
//!
//! It holds the machine up, says that its node is not ready, takes no more pods, and ends those it has, group after group from the lowest priority on: all of a group at
//! once, each with its own grace but no more than the group's, and the next group when all have ended or the group's time is over. Then it lets the machine go.
//! Groups without a pod take no time. Without any time for pods it does nothing of this.
//!
//! Such a pod is not deleted: it fails when its containers have ended, and until then it stays as ready as it was, since nobody probes it any more
//! (kubernetes/kubernetes issues 116965 and 124648). So its endpoints stay for as long as its hook and its end take, and whoever sends it connections goes on.
//!
//! What the kubelet could not tell before the machine went stays as it was told, ready even, until the pod no longer bears the node's taint: the control plane writes
//! pods as not ready for the silence of a node alone that was ready before (issue 109998).
//!
//! Source: Kubernetes v1.28.7 pkg/kubelet/nodeshutdown/nodeshutdown_manager_linux.go (`migrateConfig`, `groupByPriority`, `processShutdownEvent`),
//! pkg/kubelet/prober/worker.go (`doProbe`), pkg/kubelet/status/status_manager.go (`mergePodStatus`).

use std::time::Duration;

/// The priority from which on pods are critical. Source: pkg/apis/scheduling/types.go `SystemCriticalPriority`.
pub const CRITICAL: i32 = 2_000_000_000;

/// The time that pods get from a priority on, up to that of the next group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GroupGrace {
    /// The lowest priority of the group.
    pub priority: i32,
    /// How long its pods may take, in seconds.
    pub seconds: u32,
}

/// The groups of a kubelet, from the lowest priority on; none: the machine goes at once.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ShutdownGraces {
    groups: Vec<GroupGrace>,
}

impl ShutdownGraces {
    /// `shutdownGracePeriodByPodPriority`, in any order.
    #[must_use]
    pub fn by_priority(mut groups: Vec<GroupGrace>) -> Self {
        groups.sort_by_key(|group| group.priority);
        Self { groups }
    }

    /// `shutdownGracePeriod`, of which `shutdownGracePeriodCriticalPods` is for critical pods: each is cut off to whole seconds.
    /// Without a time, or with more for critical pods than there is, there are no groups.
    #[must_use]
    pub fn of_periods(all: Duration, critical: Duration) -> Self {
        let Some(others) = all.checked_sub(critical).filter(|_| !all.is_zero()) else { return Self::default() };
        let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        Self {
            groups: vec![
                GroupGrace { priority: 0, seconds: seconds(others) },
                GroupGrace { priority: CRITICAL, seconds: seconds(critical) },
            ],
        }
    }

    /// The groups, from the lowest priority on.
    #[must_use]
    pub fn groups(&self) -> &[GroupGrace] {
        &self.groups
    }

    /// The pods of each group that has any, from the lowest priority on. A pod below all groups belongs to the first.
    #[must_use]
    pub fn order(&self, pods: impl IntoIterator<Item = (u64, i32)>) -> Vec<(GroupGrace, Vec<u64>)> {
        let mut order: Vec<(GroupGrace, Vec<u64>)> = self.groups.iter().map(|group| (*group, Vec::new())).collect();
        for (id, priority) in pods {
            let index = self.groups.partition_point(|group| group.priority <= priority).saturating_sub(1);
            if let Some((_, pods)) = order.get_mut(index) {
                pods.push(id);
            }
        }
        order.retain(|(_, pods)| !pods.is_empty());
        order
    }
}

/// The grace of a pod in seconds, of its own and what its group has.
#[must_use]
pub fn grace_seconds(own_seconds: u32, group: GroupGrace) -> u32 {
    own_seconds.min(group.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(priority: i32, seconds: u32) -> GroupGrace {
        GroupGrace { priority, seconds }
    }

    #[test]
    fn the_time_for_critical_pods_is_part_of_the_whole() {
        let ms = Duration::from_millis;
        for (all, critical, expected) in [
            (0, 0, vec![]),
            (0, 10_000, vec![]),
            (30_000, 10_000, vec![group(0, 20), group(CRITICAL, 10)]),
            (30_000, 0, vec![group(0, 30), group(CRITICAL, 0)]),
            (30_000, 30_000, vec![group(0, 0), group(CRITICAL, 30)]),
            (30_000, 30_001, vec![]),
            // Half a second is cut off of each.
            (30_500, 10_000, vec![group(0, 20), group(CRITICAL, 10)]),
            (30_000, 10_500, vec![group(0, 19), group(CRITICAL, 10)]),
        ] {
            let graces = ShutdownGraces::of_periods(ms(all), ms(critical));
            assert_eq!(graces.groups(), expected, "{all} ms, {critical} ms");
        }
    }

    #[test]
    fn a_pod_belongs_to_the_highest_group_that_is_not_above_it() {
        let graces = ShutdownGraces::by_priority(vec![group(100, 10), group(-5, 120), group(1000, 60)]);
        assert_eq!(graces.groups(), [group(-5, 120), group(100, 10), group(1000, 60)]);
        for (priority, expected) in [
            (i32::MIN, -5),
            (-6, -5),
            (-5, -5),
            (0, -5),
            (99, -5),
            (100, 100),
            (999, 100),
            (1000, 1000),
            (i32::MAX, 1000),
        ] {
            let order = graces.order([(7, priority)]);
            assert_eq!(
                order.iter().map(|(group, pods)| (group.priority, pods.clone())).collect::<Vec<_>>(),
                [(expected, vec![7])]
            );
        }
        let order = graces.order([(1, 1000), (2, 0), (3, 2000), (4, -9)]);
        let order: Vec<(i32, Vec<u64>)> = order.into_iter().map(|(group, pods)| (group.priority, pods)).collect();
        assert_eq!(order, [(-5, vec![2, 4]), (1000, vec![1, 3])], "a group without pods takes no time");
        assert_eq!(ShutdownGraces::default().order([(1, 0)]), []);
    }

    #[test]
    fn a_pod_gets_the_shorter_of_both_graces() {
        assert_eq!([10, 20, 30].map(|own| grace_seconds(own, group(0, 20))), [10, 20, 20]);
    }
}
