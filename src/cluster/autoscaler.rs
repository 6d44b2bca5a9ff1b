//! The rules of the horizontal autoscaler: how many pods a target should have, from what its pods use.
//!
//! One sync ([`Autoscaler::reconcile`]): each metric proposes a number ([`replicas`], over the pods that count: [`groups`]); the greatest valid
//! one is held against recent recommendations ([`history`]) and against limits on the rate of change ([`behavior`], or [`legacy`] for an
//! autoscaler without `behavior`), and is written if it differs from what is wanted now.
//!
//! Upstream computes ratios in IEEE doubles, and artefacts of that are real: 88 % of a target of 80 % is a ratio of 1.1, whose distance from 1 is
//! slightly above 0.1. So this room, alone, decides by doubles; only divisions, products, sums and roundings are used, which are exact
//! to the bit on every machine.
//!
//! Not modelled: label selectors of metrics (a metric is found by its name), averages over the timestamps of external metrics.
//! Source: Kubernetes v1.28.7 pkg/controller/podautoscaler/{horizontal,replica_calculator}.go, pkg/controller/podautoscaler/metrics; what
//! differs between versions: [`rules`].

pub mod behavior;
pub mod groups;
pub mod history;
pub mod legacy;
pub mod reconcile;
pub mod replicas;
pub mod rules;
pub mod spec;
pub mod usage;

pub use behavior::{Behavior, ScalingRules};
pub use groups::{ContainerRequests, PodView, ReadyCondition, Start};
pub use reconcile::{Action, Autoscaler, Condition, ConditionKind, Scale, Selector, Status, Verdict};
pub use rules::Rules;
pub use spec::{AutoscalerSpec, Metric, MetricId, ResourceName, ResourceTarget, ValueTarget};
pub use usage::{ContainerUsage, MetricError, MetricsSource, PodUsage, Sample};

/// A whole number as a double.
#[expect(clippy::cast_precision_loss, reason = "upstream computes in doubles, with the same loss")]
pub(crate) fn double(value: i64) -> f64 {
    value as f64
}

/// The next number of pods at or above a double.
#[expect(clippy::cast_possible_truncation, reason = "a number out of range becomes the nearest one that is in it")]
pub(crate) fn pods_above(value: f64) -> i32 {
    value.ceil() as i32
}
