//! What an autoscaler is told: its target, its bounds, its metrics.

use std::rc::Rc;

use super::behavior::Behavior;
use crate::cluster::selector::LabelSelector;

/// An autoscaler's `spec`.
#[derive(Clone, PartialEq, Debug)]
pub struct AutoscalerSpec {
    /// `namespace/name`.
    pub key: Rc<str>,
    /// The Deployment it sizes, as `namespace/name`.
    pub target: Rc<str>,
    /// Fewest pods.
    pub min_replicas: i32,
    /// Most pods.
    pub max_replicas: i32,
    /// What it looks at, one or more.
    pub metrics: Vec<Metric>,
    /// How fast it may change; none: the older rules of [`super::legacy`].
    pub behavior: Option<Behavior>,
}

/// Which series of a metric are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetricId {
    /// The metric's name.
    pub name: Rc<str>,
    /// The labels of its series; empty: all of them.
    pub selector: LabelSelector,
}

impl From<&str> for MetricId {
    fn from(name: &str) -> Self {
        Self { name: Rc::from(name), selector: LabelSelector::default() }
    }
}

/// One metric, and what it should come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Metric {
    /// What the pods' containers use.
    Resource {
        /// Of what.
        resource: ResourceName,
        /// Only the container of this name; none: all together.
        container: Option<Rc<str>>,
        /// What it should be.
        target: ResourceTarget,
    },
    /// A value that each pod has.
    Pods {
        /// Its name.
        metric: MetricId,
        /// What its mean over the pods should be, in thousandths.
        average_milli: i64,
    },
    /// A value of another object.
    Object {
        /// Its name.
        metric: MetricId,
        /// The object, as `Kind/name`.
        object: Rc<str>,
        /// What it should be.
        target: ValueTarget,
    },
    /// A value from outside of the cluster.
    External {
        /// Its name.
        metric: MetricId,
        /// What it should be.
        target: ValueTarget,
    },
    /// One that no API server lets through; what upstream does with it is in its tables.
    Unknown {
        /// The type it claims to be.
        kind: Rc<str>,
    },
}

impl Metric {
    /// The metric's `type`.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Resource { container: None, .. } => "Resource",
            Self::Resource { container: Some(_), .. } => "ContainerResource",
            Self::Pods { .. } => "Pods",
            Self::Object { .. } => "Object",
            Self::External { .. } => "External",
            Self::Unknown { kind } => kind,
        }
    }

    /// What it measures, by name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Resource { resource, .. } => resource.name(),
            Self::Pods { metric, .. } | Self::Object { metric, .. } | Self::External { metric, .. } => &metric.name,
            Self::Unknown { kind } => kind,
        }
    }

    /// The reason of the condition when it cannot be had.
    #[must_use]
    pub fn failure_reason(&self) -> &'static str {
        match self {
            Self::Resource { container: None, .. } => "FailedGetResourceMetric",
            Self::Resource { container: Some(_), .. } => "FailedGetContainerResourceMetric",
            Self::Pods { .. } => "FailedGetPodsMetric",
            Self::Object { .. } => "FailedGetObjectMetric",
            Self::External { .. } => "FailedGetExternalMetric",
            Self::Unknown { .. } => "InvalidMetricSourceType",
        }
    }
}

/// A resource of containers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ResourceName {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
}

impl ResourceName {
    /// As in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// What a resource's use should come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResourceTarget {
    /// So many hundredths of what the pods request, all together.
    Utilization(i32),
    /// So much per pod, in thousandths (of a core, of a byte).
    AverageMilli(i64),
}

/// What a single value should come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueTarget {
    /// It itself, in thousandths.
    ValueMilli(i64),
    /// Its share per pod, in thousandths.
    AverageMilli(i64),
}
