//! One metric's proposal: how many pods would bring it to its target.
//!
//! Pods without a sample, and unready ones, are filled in so that they damp the change: they use nothing when a target grows, and all they
//! may when it shrinks (unready ones are left out then). Where that turns the direction, nothing changes.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/podautoscaler/replica_calculator.go, pkg/controller/podautoscaler/metrics/utilization.go.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::groups::{Groups, PodView, requests};
use super::rules::{Rules, Tolerances};
use super::spec::ResourceName;
use super::usage::{MetricError, Sample};
use super::{double, pods_above};
use crate::cluster::deployment::PodPhase;
use crate::units::SimTime;

/// Use against what is requested.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Utilization {
    /// Whole hundredths of the sum of requests, cut off.
    pub percent: i32,
    /// Use per pod, in thousandths, cut off.
    pub average_milli: i64,
    /// Hundredths over wanted hundredths.
    pub ratio: f64,
}

impl Utilization {
    /// Of these samples. Pods that have only one of sample and request are left out.
    ///
    /// # Errors
    ///
    /// If nothing is requested.
    pub fn of(
        samples: &BTreeMap<Rc<str>, Sample>,
        requests: &BTreeMap<Rc<str>, i64>,
        target_percent: i32,
    ) -> Result<Self, MetricError> {
        let pairs = samples.iter().filter_map(|(pod, sample)| Some((sample.milli, *requests.get(pod)?)));
        let (mut used, mut requested, mut count) = (0, 0, 0);
        for (milli, request) in pairs {
            used += milli;
            requested += request;
            count += 1;
        }
        if requested == 0 {
            return Err(MetricError::NoMatch);
        }
        let percent = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
        let ratio = double(percent.into()) / double(target_percent.into());
        Ok(Self { percent, average_milli: used / count, ratio })
    }
}

/// The mean of samples, which are one or more, in thousandths, cut off; and its ratio to what it should be.
#[must_use]
pub fn average_ratio(samples: &BTreeMap<Rc<str>, Sample>, target_milli: i64) -> (i64, f64) {
    let count = i64::try_from(samples.len()).unwrap_or(i64::MAX).max(1);
    let average = samples.values().map(|sample| sample.milli).sum::<i64>() / count;
    (average, double(average) / double(target_milli))
}

/// What a proposal looks at.
#[derive(Clone, Copy, Debug)]
pub struct Calculator<'a> {
    /// How the controller works.
    pub rules: &'a Rules,
    /// What change is too small.
    pub tolerances: Tolerances,
    /// All pods that the target selects.
    pub pods: &'a [PodView],
    /// Now.
    pub now: SimTime,
}

impl Calculator<'_> {
    /// Pods for a resource's use in hundredths of what is requested, and the use of the pods that count.
    ///
    /// # Errors
    ///
    /// If no pod counts, or requests are missing.
    pub fn by_utilization(
        &self,
        current: i32,
        samples: BTreeMap<Rc<str>, Sample>,
        resource: ResourceName,
        container: Option<&str>,
        target_percent: i32,
    ) -> Result<(i32, Utilization), MetricError> {
        let (groups, samples) = self.counting(samples, Some(resource))?;
        let requests = requests(self.pods, resource, container)?;
        let seen = Utilization::of(&samples, &requests, target_percent)?;
        let fallback = self.rules.fallback_percent(target_percent);
        let fill = |pod: &Rc<str>| match seen.ratio {
            ratio if ratio < 1.0 => Some(requests.get(pod).copied().unwrap_or(0) * fallback / 100),
            ratio if ratio > 1.0 => Some(0),
            _ => None,
        };
        let ratio = |samples: &_| Utilization::of(samples, &requests, target_percent).map(|it| it.ratio);
        Ok((self.propose(current, &groups, samples, seen.ratio, fill, ratio)?, seen))
    }

    /// Pods for a mean over pods, and the mean over those that count, in thousandths.
    ///
    /// # Errors
    ///
    /// If no pod counts.
    pub fn by_average(
        &self,
        current: i32,
        samples: BTreeMap<Rc<str>, Sample>,
        resource: Option<ResourceName>,
        target_milli: i64,
    ) -> Result<(i32, i64), MetricError> {
        let (groups, samples) = self.counting(samples, resource)?;
        let (average, seen) = average_ratio(&samples, target_milli);
        let fill = |_: &Rc<str>| Some(if seen < 1.0 { target_milli } else { 0 });
        let ratio = |samples: &_| Ok(average_ratio(samples, target_milli).1);
        Ok((self.propose(current, &groups, samples, seen, fill, ratio)?, average))
    }

    /// Pods for a single value: in proportion to those that are ready.
    ///
    /// # Errors
    ///
    /// If there are no pods at all.
    pub fn by_value(&self, current: i32, usage_milli: i64, target_milli: i64) -> Result<i32, MetricError> {
        let ratio = double(usage_milli) / double(target_milli);
        if current == 0 {
            return Ok(pods_above(ratio));
        }
        if self.rules.tolerates(ratio, self.tolerances) {
            return Ok(current);
        }
        if self.pods.is_empty() {
            return Err(MetricError::NoPods);
        }
        let is_ready =
            |pod: &&PodView| pod.phase == PodPhase::Running && pod.ready.is_some_and(|condition| condition.is_ready);
        let ready = i64::try_from(self.pods.iter().filter(is_ready).count()).unwrap_or(i64::MAX);
        Ok(pods_above(ratio * double(ready)))
    }

    /// Pods for a single value's share per pod, and that share as it is, in thousandths, rounded up.
    #[must_use]
    pub fn by_value_per_pod(&self, status_replicas: i32, usage_milli: i64, target_milli: i64) -> (i32, i64) {
        let ratio = double(usage_milli) / (double(target_milli) * double(status_replicas.into()));
        let is_far = !self.rules.tolerates(ratio, self.tolerances);
        let wanted = if is_far { pods_above(double(usage_milli) / double(target_milli)) } else { status_replicas };
        let share = match i64::from(status_replicas) {
            0 => usage_milli,
            pods => -(-usage_milli).div_euclid(pods),
        };
        (wanted, share)
    }

    /// The groups, and the samples of pods that count.
    fn counting(
        &self,
        mut samples: BTreeMap<Rc<str>, Sample>,
        resource: Option<ResourceName>,
    ) -> Result<(Groups, BTreeMap<Rc<str>, Sample>), MetricError> {
        if self.pods.is_empty() {
            return Err(MetricError::NoPods);
        }
        let groups = Groups::of(self.pods, &samples, resource, self.rules, self.now);
        samples.retain(|pod, _| !groups.ignored.contains(pod) && !groups.unready.contains(pod));
        if samples.is_empty() { Err(MetricError::NoSamples) } else { Ok((groups, samples)) }
    }

    fn propose(
        &self,
        current: i32,
        groups: &Groups,
        mut samples: BTreeMap<Rc<str>, Sample>,
        seen: f64,
        fill: impl Fn(&Rc<str>) -> Option<i64>,
        ratio: impl Fn(&BTreeMap<Rc<str>, Sample>) -> Result<f64, MetricError>,
    ) -> Result<i32, MetricError> {
        let grows_with_unready = !groups.unready.is_empty() && seen > 1.0;
        if !grows_with_unready && groups.missing.is_empty() {
            let is_close = self.rules.tolerates(seen, self.tolerances);
            return Ok(if is_close { current } else { pods_above(seen * double(groups.ready_count.into())) });
        }
        let guess = |milli| Sample { milli, at: self.now, window: std::time::Duration::ZERO };
        samples.extend(groups.missing.iter().filter_map(|pod| Some((Rc::clone(pod), guess(fill(pod)?)))));
        if grows_with_unready {
            samples.extend(groups.unready.iter().map(|pod| (Rc::clone(pod), guess(0))));
        }
        let filled = ratio(&samples)?;
        let has_turned = (seen < 1.0 && filled > 1.0) || (seen > 1.0 && filled < 1.0);
        if has_turned || self.rules.tolerates(filled, self.tolerances) {
            return Ok(current);
        }
        let wanted = pods_above(filled * double(i64::try_from(samples.len()).unwrap_or(i64::MAX)));
        // More pods were filled in than the size says: no change against the ratio's direction.
        let is_backwards = (filled < 1.0 && wanted > current) || (filled > 1.0 && wanted < current);
        Ok(if is_backwards { current } else { wanted })
    }
}
