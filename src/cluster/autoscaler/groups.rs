//! Which pods count: those with a sample that says something about their steady use.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/podautoscaler/replica_calculator.go `groupPods`, `calculatePodRequests`.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::rules::Rules;
use super::spec::ResourceName;
use super::usage::{MetricError, Sample};
use crate::cluster::deployment::PodPhase;
use crate::units::SimTime;

/// A pod as an autoscaler sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodView {
    /// Its name.
    pub name: Rc<str>,
    /// Its phase.
    pub phase: PodPhase,
    /// It is being deleted.
    pub is_deleting: bool,
    /// When the kubelet accepted it: `status.startTime`.
    pub start: Option<Start>,
    /// Its Ready condition.
    pub ready: Option<ReadyCondition>,
    /// What its containers request.
    pub containers: Rc<[ContainerRequests]>,
}

/// When a pod began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Long before the run.
    LongAgo,
    /// In it.
    At(SimTime),
}

/// The Ready condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadyCondition {
    /// Whether it holds.
    pub is_ready: bool,
    /// Since when.
    pub since: SimTime,
}

/// What a container requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerRequests {
    /// Its name.
    pub name: Rc<str>,
    /// Thousandths of a core.
    pub cpu_milli: Option<i64>,
    /// Thousandths of a byte.
    pub memory_milli: Option<i64>,
}

impl ContainerRequests {
    fn of(&self, resource: ResourceName) -> Option<i64> {
        match resource {
            ResourceName::Cpu => self.cpu_milli,
            ResourceName::Memory => self.memory_milli,
        }
    }
}

/// The pods, by how they count.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Groups {
    /// Pods that count with their sample.
    pub ready_count: i32,
    /// Pods that are not ready, or whose sample is of their start.
    pub unready: BTreeSet<Rc<str>>,
    /// Pods without a sample.
    pub missing: BTreeSet<Rc<str>>,
    /// Pods that are on their way out.
    pub ignored: BTreeSet<Rc<str>>,
}

impl Groups {
    /// Sorts the pods. Readiness plays a role for processor time only.
    #[must_use]
    pub fn of(
        pods: &[PodView],
        samples: &BTreeMap<Rc<str>, Sample>,
        resource: Option<ResourceName>,
        rules: &Rules,
        now: SimTime,
    ) -> Self {
        let mut groups = Self::default();
        for pod in pods {
            if pod.is_deleting || pod.phase == PodPhase::Failed {
                groups.ignored.insert(Rc::clone(&pod.name));
            } else if pod.phase == PodPhase::Pending {
                groups.unready.insert(Rc::clone(&pod.name));
            } else if let Some(sample) = samples.get(&pod.name) {
                if resource == Some(ResourceName::Cpu) && !sample_counts(pod, sample, rules, now) {
                    groups.unready.insert(Rc::clone(&pod.name));
                } else {
                    groups.ready_count += 1;
                }
            } else {
                groups.missing.insert(Rc::clone(&pod.name));
            }
        }
        groups
    }
}

/// Whether a pod's processor use is that of its work and not of its start.
fn sample_counts(pod: &PodView, sample: &Sample, rules: &Rules, now: SimTime) -> bool {
    match (pod.ready, pod.start) {
        (None, _) | (_, None) => false,
        (Some(_), Some(Start::LongAgo)) => true,
        (Some(ready), Some(Start::At(start))) if start.after(rules.cpu_initialization_period) > now => {
            ready.is_ready && sample.at >= ready.since.after(sample.window)
        }
        // One that was ready once, and is not now, counts.
        (Some(ready), Some(Start::At(start))) => {
            ready.is_ready || start.after(rules.initial_readiness_delay) <= ready.since
        }
    }
}

/// What each pod requests of a resource, in all its containers or in the named one. Pods that do not count are asked, too.
///
/// # Errors
///
/// If a container does not say what it requests.
pub(super) fn requests(
    pods: &[PodView],
    resource: ResourceName,
    container: Option<&str>,
) -> Result<BTreeMap<Rc<str>, i64>, MetricError> {
    let mut requests = BTreeMap::new();
    for pod in pods {
        let mut sum = 0;
        for asked in pod.containers.iter().filter(|asked| container.is_none_or(|wanted| &*asked.name == wanted)) {
            sum += asked.of(resource).ok_or_else(|| MetricError::MissingRequest {
                resource,
                container: Rc::clone(&asked.name),
                pod: Rc::clone(&pod.name),
            })?;
        }
        requests.insert(Rc::clone(&pod.name), sum);
    }
    Ok(requests)
}
