//! What an autoscaler is told of use: samples, who gives them, and why there may be none.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::spec::{MetricId, ResourceName};
use crate::units::SimTime;

/// The metrics APIs as an autoscaler asks them.
pub trait MetricsSource {
    /// The use of all pods that have samples.
    ///
    /// # Errors
    ///
    /// If the API does not answer.
    fn pod_usage(&self) -> Result<Vec<PodUsage>, MetricError>;
    /// A metric of each pod, by the pod's name.
    ///
    /// # Errors
    ///
    /// If there is no such metric.
    fn pods_metric(&self, metric: &MetricId) -> Result<BTreeMap<Rc<str>, Sample>, MetricError>;
    /// A metric of an object (`Kind/name`), in thousandths.
    ///
    /// # Errors
    ///
    /// If there is no such metric.
    fn object_metric(&self, metric: &MetricId, object: &str) -> Result<i64, MetricError>;
    /// The values of a metric from outside, in thousandths.
    ///
    /// # Errors
    ///
    /// If there is no such metric.
    fn external_metric(&self, metric: &MetricId) -> Result<Vec<i64>, MetricError>;
}

/// What a pod's containers use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodUsage {
    /// The pod's name.
    pub pod: Rc<str>,
    /// When it was measured: the end of the window.
    pub at: SimTime,
    /// Over how long.
    pub window: Duration,
    /// Its containers.
    pub containers: Vec<ContainerUsage>,
}

/// What a container uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerUsage {
    /// Its name.
    pub name: Rc<str>,
    /// Thousandths of a core.
    pub cpu_milli: Option<i64>,
    /// Thousandths of a byte.
    pub memory_milli: Option<i64>,
}

impl ContainerUsage {
    /// Its use of one resource, in thousandths.
    #[must_use]
    pub fn of(&self, resource: ResourceName) -> Option<i64> {
        match resource {
            ResourceName::Cpu => self.cpu_milli,
            ResourceName::Memory => self.memory_milli,
        }
    }
}

/// One pod's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// In thousandths.
    pub milli: i64,
    /// When it was measured: the end of the window.
    pub at: SimTime,
    /// Over how long.
    pub window: Duration,
}

/// Why a metric gives no proposal.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MetricError {
    /// The API has no values.
    #[error("no metrics returned from {api}")]
    NoMetrics {
        /// Which one.
        api: Rc<str>,
    },
    /// Nothing is selected.
    #[error("no pods returned by selector while calculating replica count")]
    NoPods,
    /// No pod that counts has a sample.
    #[error("did not receive metrics for targeted pods (pods might be unready)")]
    NoSamples,
    /// A request is not written.
    #[error("missing request for {} in container {container} of pod {pod}", .resource.name())]
    MissingRequest {
        /// Of what.
        resource: ResourceName,
        /// The container.
        container: Rc<str>,
        /// Its pod.
        pod: Rc<str>,
    },
    /// The samples are those of other pods.
    #[error("no metrics returned matched known pods")]
    NoMatch,
    /// The container has no sample.
    #[error("container {container} not present in metrics for pod {pod}")]
    MissingContainer {
        /// The container.
        container: Rc<str>,
        /// Its pod.
        pod: Rc<str>,
    },
    /// The metric is of no known type.
    #[error("unknown metric source type {kind}")]
    UnknownKind {
        /// The type it claims to be.
        kind: Rc<str>,
    },
}

/// One resource's samples by pod: the sum over the pod's containers, or the named container's. A pod one of whose containers lacks it is left out.
///
/// # Errors
///
/// If a pod has no sample of the named container, before 1.32.
pub fn samples(
    usage: &[PodUsage],
    resource: ResourceName,
    container: Option<&str>,
    skips_missing: bool,
) -> Result<BTreeMap<Rc<str>, Sample>, MetricError> {
    let mut samples = BTreeMap::new();
    for pod in usage {
        let milli = match container {
            None if pod.containers.is_empty() => None,
            None => pod.containers.iter().map(|container| container.of(resource)).sum(),
            Some(wanted) => match pod.containers.iter().find(|container| &*container.name == wanted) {
                Some(container) => container.of(resource),
                None if skips_missing => None,
                None => {
                    return Err(MetricError::MissingContainer { container: wanted.into(), pod: Rc::clone(&pod.pod) });
                }
            },
        };
        if let Some(milli) = milli {
            samples.insert(Rc::clone(&pod.pod), Sample { milli, at: pod.at, window: pod.window });
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_counts_with_all_of_its_containers_or_not_at_all() {
        let container = |name: &str, cpu_milli| ContainerUsage { name: Rc::from(name), cpu_milli, memory_milli: None };
        let pod = |name: &str, containers| PodUsage {
            pod: Rc::from(name),
            at: SimTime::ZERO,
            window: Duration::from_secs(15),
            containers,
        };
        let usage = [
            pod("whole", vec![container("app", Some(10)), container("log", Some(5))]),
            pod("half", vec![container("app", Some(10)), container("log", None)]),
            pod("empty", Vec::new()),
        ];
        let of = |resource, container, skips| {
            let samples = samples(&usage, resource, container, skips)?;
            Ok::<_, MetricError>(samples.iter().map(|(pod, it)| (pod.to_string(), it.milli)).collect::<Vec<_>>())
        };
        assert_eq!(of(ResourceName::Cpu, None, false), Ok(vec![("whole".to_owned(), 15)]));
        assert_eq!(of(ResourceName::Memory, None, false), Ok(Vec::new()));
        assert_eq!(of(ResourceName::Cpu, Some("log"), true), Ok(vec![("whole".to_owned(), 5)]));
        let missing = MetricError::MissingContainer { container: Rc::from("log"), pod: Rc::from("empty") };
        assert_eq!(of(ResourceName::Cpu, Some("log"), false), Err(missing));
    }
}
