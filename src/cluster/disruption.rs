//! Disruption budgets: how many pods may be evicted now, and whether this one may.
//!
//! The controller counts the healthy pods of a budget and works out how many of them may go: [`BudgetStatus::of`]. The API server asks for
//! each eviction whether one may still go, and takes it off at once: [`decide`]. Between the two stands the list of pods that were evicted and
//! are not seen deleted yet, so that no pod is counted as healthy that is about to leave.
//!
//! - Percentages round up, for `minAvailable` and for `maxUnavailable`; a Deployment's own `maxUnavailable` rounds down.
//! - Healthy is ready: `minReadySeconds` plays no part. Pods of an old and of a new revision count alike, and a ready surge pod allows one
//!   disruption more.
//! - Where the wanted pods have to be known and one of the pods is a `DaemonSet`'s, which has no scale, the controller gives up: no disruption is allowed, and
//!   what else the status says stays.
//! - Nothing but the eviction API asks: rollouts, scaling, deletions and taints do not.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/disruption/disruption.go, pkg/registry/core/pod/storage/eviction.go.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::deployment::PodPhase;
use super::int_or_percent::{IntOrPercent, Rounding};
use super::selector::{LabelSelector, Labels};
use crate::units::SimTime;

/// A pod that was evicted and is not deleted after this time counts as healthy again. Source: disruption.go `DeletionTimeout`.
pub const DELETION_TIMEOUT: Duration = Duration::from_secs(120);
/// So many evictions may wait for the controller at most. Source: eviction.go `MaxDisruptedPodSize`.
pub const DISRUPTED_PODS_MAX: usize = 2000;

/// What a budget protects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    /// So many pods stay healthy; a share is one of the pods that their controllers want.
    MinAvailable(IntOrPercent),
    /// So many pods of those that their controllers want may be missing.
    MaxUnavailable(IntOrPercent),
}

/// A `PodDisruptionBudget`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DisruptionBudget {
    /// `namespace/name`.
    pub key: Rc<str>,
    /// The pods of its namespace that it protects; none: no pod.
    pub selector: Option<LabelSelector>,
    /// What it protects; none: no eviction is allowed.
    pub budget: Option<Budget>,
    /// What holds for pods that are not ready.
    pub unhealthy: UnhealthyPods,
}

impl DisruptionBudget {
    /// Whether it protects pods of this namespace with these labels.
    #[must_use]
    pub fn protects(&self, namespace: &str, labels: &Labels) -> bool {
        self.key.split('/').next() == Some(namespace)
            && self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }
}

/// When a pod that is not ready may be evicted although no disruption is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum UnhealthyPods {
    /// If enough others are healthy.
    #[default]
    IfHealthyBudget,
    /// Always.
    AlwaysAllow,
}

/// What of a pod matters to its budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetPod<'a> {
    /// Its name.
    pub name: &'a str,
    /// It is ready.
    pub is_ready: bool,
    /// Its deletion was asked for.
    pub is_deleting: bool,
}

/// The pods that were evicted and are not seen deleted yet, with the time of the eviction.
pub type DisruptedPods = BTreeMap<Rc<str>, SimTime>;

/// What the API server knows of a budget.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BudgetStatus {
    /// So many pods may be evicted now.
    pub disruptions_allowed: i32,
    /// Healthy pods.
    pub current_healthy: i32,
    /// Healthy pods that there must be.
    pub desired_healthy: i32,
    /// Pods that the budget is for.
    pub expected_pods: i32,
}

impl Budget {
    /// Whether its controller has to know how many pods are wanted.
    #[must_use]
    pub fn counts_wanted(self) -> bool {
        !matches!(self, Self::MinAvailable(IntOrPercent::Int(_)))
    }

    /// The pods that count, and how many of them must be healthy. `matching`: pods that the budget selects; `wanted`: replicas that their
    /// controllers want, all together.
    #[must_use]
    pub fn desired(self, matching: i32, wanted: i32) -> (i32, i32) {
        match self {
            Self::MinAvailable(IntOrPercent::Int(count)) => (matching, count),
            Self::MinAvailable(share) => (wanted, share.scaled(wanted, Rounding::Up)),
            Self::MaxUnavailable(limit) => (wanted, (wanted - limit.scaled(wanted, Rounding::Up)).max(0)),
        }
    }
}

impl BudgetStatus {
    /// The status that the controller works out from the pods that the budget selects; `wanted`: replicas that their controllers want.
    /// Without a limit no pod is expected, and no disruption allowed.
    ///
    /// # Panics
    ///
    /// If there are 2^31 pods.
    #[must_use]
    pub fn of(
        budget: Option<Budget>,
        pods: &[BudgetPod<'_>],
        wanted: i32,
        disrupted: &DisruptedPods,
        now: SimTime,
    ) -> Self {
        let is_leaving = |pod: &BudgetPod<'_>| {
            disrupted.get(pod.name).is_some_and(|evicted_at| evicted_at.after(DELETION_TIMEOUT) > now)
        };
        let healthy = pods.iter().filter(|pod| !pod.is_deleting && !is_leaving(pod) && pod.is_ready).count();
        let count = |count: usize| i32::try_from(count).expect("fewer pods than 2^31");
        let current_healthy = count(healthy);
        let (expected_pods, desired_healthy) =
            budget.map_or((0, 0), |budget| budget.desired(count(pods.len()), wanted));
        let spare = (current_healthy - desired_healthy).max(0);
        let disruptions_allowed = if expected_pods <= 0 { 0 } else { spare };
        Self { disruptions_allowed, current_healthy, desired_healthy, expected_pods }
    }
}

/// Drops what is settled from the list of evicted pods: pods that are gone or being deleted, and those whose deletion did not come in time.
/// Returns when the next one will be late.
pub fn settle(disrupted: &mut DisruptedPods, pods: &[BudgetPod<'_>], now: SimTime) -> Option<SimTime> {
    disrupted.retain(|name, evicted_at| {
        let is_there = pods.iter().any(|pod| pod.name == &**name && !pod.is_deleting);
        is_there && evicted_at.after(DELETION_TIMEOUT) >= now
    });
    disrupted.values().map(|evicted_at| evicted_at.after(DELETION_TIMEOUT)).min()
}

/// A pod as an eviction finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EvictedPod {
    /// Its phase.
    pub phase: PodPhase,
    /// It is ready.
    pub is_ready: bool,
    /// Its deletion was asked for.
    pub is_deleting: bool,
}

/// A budget as an eviction finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetView {
    /// Its status.
    pub status: BudgetStatus,
    /// What holds for pods that are not ready.
    pub unhealthy: UnhealthyPods,
    /// Evictions that the controller has not seen yet.
    pub disrupted_count: usize,
    /// The controller has seen its last change.
    pub is_observed: bool,
}

/// What the API server says to an eviction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// 201: the pod is deleted, and no budget is used.
    Evicted,
    /// 201: the pod is deleted, and its budget has one disruption less.
    EvictedFromBudget,
    /// 429: the budget allows none now.
    TooManyRequests,
    /// 500: two budgets select the pod, which the API does not support.
    SeveralBudgets,
    /// 403: the budget waits for too many evictions.
    Forbidden,
}

impl Answer {
    /// The HTTP status.
    #[must_use]
    pub fn http_code(self) -> u16 {
        match self {
            Self::Evicted | Self::EvictedFromBudget => 201,
            Self::TooManyRequests => 429,
            Self::SeveralBudgets => 500,
            Self::Forbidden => 403,
        }
    }

    /// The API server's words, if it refuses. Source: pkg/registry/core/pod/storage/eviction.go.
    #[must_use]
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Evicted | Self::EvictedFromBudget => None,
            Self::TooManyRequests => Some("Cannot evict pod as it would violate the pod's disruption budget."),
            Self::SeveralBudgets => {
                Some("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
            }
            Self::Forbidden => Some("DisruptedPods map too big - too many evictions not confirmed by PDB controller"),
        }
    }

    /// Whether the pod is deleted.
    #[must_use]
    pub fn is_evicted(self) -> bool {
        matches!(self, Self::Evicted | Self::EvictedFromBudget)
    }
}

/// Whether a pod may be evicted; `budgets` are those that select it.
#[must_use]
pub fn decide(pod: &EvictedPod, budgets: &[BudgetView]) -> Answer {
    if pod.phase == PodPhase::Pending || pod.phase.is_over() || pod.is_deleting {
        return Answer::Evicted;
    }
    let budget = match budgets {
        [] => return Answer::Evicted,
        [only] => only,
        _ => return Answer::SeveralBudgets,
    };
    let status = &budget.status;
    let is_spare = status.current_healthy >= status.desired_healthy && status.desired_healthy > 0;
    if !pod.is_ready && (budget.unhealthy == UnhealthyPods::AlwaysAllow || is_spare) {
        return Answer::Evicted;
    }
    if !budget.is_observed {
        Answer::TooManyRequests
    } else if budget.disrupted_count > DISRUPTED_PODS_MAX {
        Answer::Forbidden
    } else if status.disruptions_allowed > 0 {
        Answer::EvictedFromBudget
    } else {
        Answer::TooManyRequests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(seconds))
    }

    fn pod(name: &str) -> BudgetPod<'_> {
        BudgetPod { name, is_ready: true, is_deleting: false }
    }

    #[test]
    fn shares_round_up_in_both_directions() {
        use IntOrPercent::{Int, Percent};
        for (budget, matching, wanted, expected) in [
            (Budget::MaxUnavailable(Percent(30)), 10, 10, (10, 7)),
            (Budget::MaxUnavailable(Percent(25)), 5, 5, (5, 3)),
            (Budget::MinAvailable(Percent(28)), 10, 10, (10, 3)),
            (Budget::MinAvailable(Int(2)), 3, 7, (3, 2)),
            (Budget::MaxUnavailable(Int(9)), 3, 3, (3, 0)),
        ] {
            assert_eq!(budget.desired(matching, wanted), expected, "{budget:?}");
        }
    }

    #[test]
    fn a_ready_surge_pod_allows_one_more() {
        let pods = ["a", "b", "c", "d", "e"].map(pod);
        let budget = Some(Budget::MaxUnavailable(IntOrPercent::Int(1)));
        let status = BudgetStatus::of(budget, &pods, 4, &DisruptedPods::new(), at(0));
        assert_eq!((status.disruptions_allowed, status.desired_healthy), (2, 3));
    }

    #[test]
    fn an_evicted_pod_counts_again_if_nobody_deletes_it_for_two_minutes() {
        let pods = ["a", "b"].map(pod);
        let budget = Some(Budget::MinAvailable(IntOrPercent::Int(1)));
        let mut disrupted = DisruptedPods::from([(Rc::from("a"), at(10))]);
        for (now, healthy, listed) in [(10, 1, 1), (129, 1, 1), (130, 2, 1), (131, 2, 0)] {
            let status = BudgetStatus::of(budget, &pods, 2, &disrupted, at(now));
            assert_eq!(status.current_healthy, healthy, "at {now} s");
            let next = settle(&mut disrupted, &pods, at(now));
            assert_eq!(disrupted.len(), listed, "at {now} s");
            assert_eq!(next, (listed == 1).then(|| at(130)));
        }
    }

    #[test]
    fn a_pod_that_is_seen_deleted_leaves_the_list() {
        let mut disrupted = DisruptedPods::from([(Rc::from("a"), at(10)), (Rc::from("b"), at(11))]);
        let pods = [BudgetPod { is_deleting: true, ..pod("a") }, pod("c")];
        assert_eq!(settle(&mut disrupted, &pods, at(12)), None);
        assert!(disrupted.is_empty());
    }

    #[test]
    fn two_budgets_are_one_too_many_unless_none_is_needed() {
        let budget = BudgetView {
            status: BudgetStatus::default(),
            unhealthy: UnhealthyPods::AlwaysAllow,
            disrupted_count: 0,
            is_observed: true,
        };
        let running = EvictedPod { phase: PodPhase::Running, is_ready: false, is_deleting: false };
        assert_eq!(decide(&running, &[budget, budget]).http_code(), 500);
        assert_eq!(decide(&running, &[budget]), Answer::Evicted);
        assert_eq!(decide(&EvictedPod { phase: PodPhase::Pending, ..running }, &[budget, budget]), Answer::Evicted);
        let full = BudgetView { disrupted_count: DISRUPTED_PODS_MAX + 1, ..budget };
        let ready = EvictedPod { is_ready: true, ..running };
        assert_eq!(decide(&ready, &[full]).http_code(), 403);
    }
}
