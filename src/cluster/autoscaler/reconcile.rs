//! One sync of an autoscaler: from what it sees to the size it writes, with its status and conditions.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/podautoscaler/horizontal.go `reconcileAutoscaler`, `computeReplicasForMetrics`.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::behavior::{ScaleLog, Wish};
use super::groups::PodView;
use super::history::{Recommendation, Recommendations, Windows};
use super::legacy;
use super::replicas::Calculator;
use super::rules::{Rules, Tolerances};
use super::spec::{AutoscalerSpec, Metric, ResourceTarget, ValueTarget};
use super::usage::{MetricError, MetricsSource, samples};
use crate::units::SimTime;

/// An autoscaler with all it remembers.
#[derive(Clone, PartialEq, Debug)]
pub struct Autoscaler {
    /// What it is told.
    pub spec: AutoscalerSpec,
    /// What it recommended.
    pub recommendations: Recommendations,
    /// What it changed.
    pub changes: ScaleLog,
    /// What it reports.
    pub status: Status,
    /// It has been synced before, so its first size is recorded.
    pub is_known: bool,
}

/// What an autoscaler reports.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Status {
    /// The size that was wanted at the last sync.
    pub current: i32,
    /// The size that it wants.
    pub desired: i32,
    /// What its metrics came to, in the order of the spec; none for those that failed.
    pub metrics: Vec<Option<Reading>>,
    /// Its conditions.
    pub conditions: BTreeMap<ConditionKind, Condition>,
    /// When it last changed the size.
    pub scaled_at: Option<SimTime>,
}

/// What a metric came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Use of what is requested.
    Utilization {
        /// In hundredths.
        percent: i32,
        /// Per pod, in thousandths.
        average_milli: i64,
    },
    /// A value per pod, in thousandths.
    Average(i64),
    /// A value, in thousandths.
    Value(i64),
}

/// What a condition is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConditionKind {
    /// The target can be sized.
    AbleToScale,
    /// The metrics give a number.
    ScalingActive,
    /// That number was cut.
    ScalingLimited,
}

impl ConditionKind {
    /// As in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AbleToScale => "AbleToScale",
            Self::ScalingActive => "ScalingActive",
            Self::ScalingLimited => "ScalingLimited",
        }
    }
}

/// A condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condition {
    /// Whether it holds.
    pub holds: bool,
    /// Why.
    pub reason: &'static str,
}

/// The target's `scale`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// Pods wanted.
    pub spec_replicas: i32,
    /// Pods there are.
    pub status_replicas: i32,
    /// Its selector.
    pub selector: Selector,
}

/// What a target's selector is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selector {
    /// It selects pods.
    Clear,
    /// It cannot be read.
    Unparsable,
    /// Another autoscaler has the same pods.
    Shared,
}

/// A change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// None.
    None,
    /// More pods.
    Up,
    /// Fewer.
    Down,
}

impl Action {
    fn between(from: i32, to: i32) -> Self {
        match to.cmp(&from) {
            std::cmp::Ordering::Less => Self::Down,
            std::cmp::Ordering::Equal => Self::None,
            std::cmp::Ordering::Greater => Self::Up,
        }
    }
}

/// What a sync sees.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The target's scale; none: it cannot be read.
    pub scale: Option<Scale>,
    /// All pods that the target selects.
    pub pods: &'a [PodView],
    /// Who knows what they use.
    pub metrics: &'a dyn MetricsSource,
}

/// What came of a sync.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// What was done.
    pub action: Action,
    /// The first thing that went wrong; a change can be made all the same.
    pub error: Option<SyncError>,
    /// What each metric proposed, in the order of the spec; empty: none was asked.
    pub proposals: Vec<Result<i32, MetricError>>,
    /// What the greatest proposal was.
    pub recommended: Option<i32>,
}

/// What goes wrong in a sync.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SyncError {
    /// The target is not there.
    #[error("unable to get the target's current scale")]
    Scale,
    /// Its selector is of no use.
    #[error("the target's selector is of no use ({0})")]
    Selector(&'static str),
    /// Metrics failed.
    #[error("{failed} of {asked} metrics failed, first: {first}")]
    Metrics {
        /// How many failed.
        failed: usize,
        /// How many there are.
        asked: usize,
        /// The first of them.
        first: MetricError,
    },
    /// The size could not be written.
    #[error("unable to write the target's scale")]
    Write,
}

impl Autoscaler {
    /// A new one. Its status is empty until its first sync.
    #[must_use]
    pub fn new(spec: AutoscalerSpec) -> Self {
        Self {
            spec,
            recommendations: Recommendations::default(),
            changes: ScaleLog::default(),
            status: Status::default(),
            is_known: false,
        }
    }

    /// One sync. `write` sets the target's size and tells whether it could.
    pub fn reconcile(
        &mut self,
        rules: &Rules,
        sight: &Sight<'_>,
        now: SimTime,
        write: impl FnOnce(i32) -> bool,
    ) -> Verdict {
        let mut verdict = Verdict { action: Action::None, error: None, proposals: Vec::new(), recommended: None };
        let Some(scale) = sight.scale else {
            self.set(ConditionKind::AbleToScale, false, "FailedGetScale");
            verdict.error = Some(SyncError::Scale);
            return verdict;
        };
        self.set(ConditionKind::AbleToScale, true, "SucceededGetScale");
        let current = scale.spec_replicas;
        if !self.is_known {
            self.is_known = true;
            self.recommendations.entries.push(Recommendation { replicas: current, at: now });
        }
        self.status.current = current;
        let (least, most) = (self.spec.min_replicas, self.spec.max_replicas);
        let mut readings = Vec::new();
        let desired = if current == 0 && least != 0 {
            self.set(ConditionKind::ScalingActive, false, "ScalingDisabled");
            current
        } else if current > most {
            most
        } else if current < least {
            least
        } else {
            let best = self.best_proposal(rules, sight, scale, now, &mut readings, &mut verdict);
            let Some(best) = best else {
                self.status.metrics = readings;
                return verdict;
            };
            self.normalize(rules, Wish { current, desired: best, least, most }, now)
        };
        let is_change = desired != current;
        if is_change {
            if !write(desired) {
                self.set(ConditionKind::AbleToScale, false, "FailedUpdateScale");
                self.status.metrics = readings;
                verdict.error = Some(SyncError::Write);
                return verdict;
            }
            self.set(ConditionKind::AbleToScale, true, "SucceededRescale");
            self.changes.store(current, desired, self.spec.behavior.as_ref(), now);
            self.status.scaled_at = Some(now);
            verdict.action = Action::between(current, desired);
        }
        self.status.desired = desired;
        self.status.metrics = readings;
        verdict
    }

    /// The greatest proposal; none if the metrics do not allow one.
    fn best_proposal(
        &mut self,
        rules: &Rules,
        sight: &Sight<'_>,
        scale: Scale,
        now: SimTime,
        readings: &mut Vec<Option<Reading>>,
        verdict: &mut Verdict,
    ) -> Option<i32> {
        let unusable = match scale.selector {
            Selector::Unparsable => Some("InvalidSelector"),
            Selector::Shared if rules.refuses_shared_pods() => Some("AmbiguousSelector"),
            Selector::Clear | Selector::Shared => None,
        };
        if let Some(reason) = unusable {
            self.set(ConditionKind::ScalingActive, false, reason);
            verdict.error = Some(SyncError::Selector(reason));
            return None;
        }
        let calculator = Calculator { rules, tolerances: self.tolerances(rules), pods: sight.pods, now };
        let mut best = 0;
        let mut first: Option<(&'static str, MetricError)> = None;
        for metric in &self.spec.metrics {
            match proposal(metric, &calculator, scale, sight.metrics) {
                Ok((replicas, reading)) => {
                    readings.push(Some(reading));
                    best = best.max(replicas);
                    verdict.proposals.push(Ok(replicas));
                }
                Err(error) => {
                    readings.push(None);
                    first.get_or_insert((metric.failure_reason(), error.clone()));
                    verdict.proposals.push(Err(error));
                }
            }
        }
        let asked = verdict.proposals.len();
        let failed = verdict.proposals.iter().filter(|proposal| proposal.is_err()).count();
        if let Some((reason, error)) = first {
            verdict.error = Some(SyncError::Metrics { failed, asked, first: error });
            // What could not be read may be what needs the pods.
            if failed == asked || best < scale.spec_replicas {
                self.set(ConditionKind::ScalingActive, false, reason);
                return None;
            }
        }
        self.set(ConditionKind::ScalingActive, true, "ValidMetricFound");
        verdict.recommended = Some(best);
        Some(best)
    }

    /// A recommendation after stabilization and limits.
    fn normalize(&mut self, rules: &Rules, wish: Wish, now: SimTime) -> i32 {
        let usual = rules.downscale_stabilization;
        let (stabilized, reason) = match &self.spec.behavior {
            None => (self.recommendations.stabilize(wish.desired, usual, now), "ScaleDownStabilized"),
            Some(behavior) => {
                let windows = Windows { up: behavior.up.window(Default::default()), down: behavior.down.window(usual) };
                self.recommendations.stabilize_both(wish.current, wish.desired, windows, rules, now)
            }
        };
        let is_held = stabilized != wish.desired;
        self.set(ConditionKind::AbleToScale, true, if is_held { reason } else { "ReadyForNewScale" });
        let wish = Wish { desired: stabilized, ..wish };
        let (limited, reason) = match &self.spec.behavior {
            None => legacy::limited(wish, rules),
            Some(behavior) => self.changes.limited(wish, behavior, rules, now),
        };
        self.set(ConditionKind::ScalingLimited, limited != stabilized, reason);
        limited
    }

    fn tolerances(&self, rules: &Rules) -> Tolerances {
        let own = self.spec.behavior.as_ref().filter(|_| rules.has_own_tolerances());
        Tolerances {
            up: own.and_then(|behavior| behavior.up.tolerance).unwrap_or(rules.tolerance),
            down: own.and_then(|behavior| behavior.down.tolerance).unwrap_or(rules.tolerance),
        }
    }

    fn set(&mut self, kind: ConditionKind, holds: bool, reason: &'static str) {
        self.status.conditions.insert(kind, Condition { holds, reason });
    }
}

/// What one metric proposes, and what it came to.
fn proposal(
    metric: &Metric,
    calculator: &Calculator<'_>,
    scale: Scale,
    source: &dyn MetricsSource,
) -> Result<(i32, Reading), MetricError> {
    let current = scale.spec_replicas;
    let single = |usage: i64, target: ValueTarget| match target {
        ValueTarget::ValueMilli(target) => Ok((calculator.by_value(current, usage, target)?, Reading::Value(usage))),
        ValueTarget::AverageMilli(target) => {
            let (replicas, share) = calculator.by_value_per_pod(scale.status_replicas, usage, target);
            Ok((replicas, Reading::Average(share)))
        }
    };
    match metric {
        Metric::Resource { resource, container, target } => {
            let usage = source.pod_usage()?;
            let container = container.as_deref();
            let samples = samples(&usage, *resource, container, calculator.rules.skips_missing_containers())?;
            if samples.is_empty() {
                return Err(MetricError::NoMetrics { api: Rc::from("resource metrics API") });
            }
            match target {
                ResourceTarget::Utilization(percent) => {
                    let (replicas, seen) =
                        calculator.by_utilization(current, samples, *resource, container, *percent)?;
                    let reading = Reading::Utilization { percent: seen.percent, average_milli: seen.average_milli };
                    Ok((replicas, reading))
                }
                ResourceTarget::AverageMilli(target) => {
                    let (replicas, average) = calculator.by_average(current, samples, Some(*resource), *target)?;
                    Ok((replicas, Reading::Average(average)))
                }
            }
        }
        Metric::Pods { metric, average_milli } => {
            let samples = source.pods_metric(metric)?;
            let (replicas, average) = calculator.by_average(current, samples, None, *average_milli)?;
            Ok((replicas, Reading::Average(average)))
        }
        Metric::Object { metric, object, target } => single(source.object_metric(metric, object)?, *target),
        Metric::External { metric, target } => {
            let values = source.external_metric(metric)?;
            single(values.iter().sum(), *target)
        }
        Metric::Unknown { kind } => Err(MetricError::UnknownKind { kind: Rc::clone(kind) }),
    }
}
