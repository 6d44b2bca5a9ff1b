//! The controller's settings, and what differs between versions of Kubernetes.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/podautoscaler/config/v1alpha1/defaults.go; the changes: kubernetes/kubernetes pull requests 97348
//! (stabilization, in 1.21), 109058 (both directions in a policy's period, in 1.25), 112178 (targets above 100 %, in 1.26), 127193 (containers
//! without a sample, in 1.32), enhancement 4951 (tolerance, in 1.33).

use std::time::Duration;

use super::double;
use crate::cluster::version::Version;

/// How the controller works, whatever the autoscaler.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rules {
    /// From the end of a sync to the next: `--horizontal-pod-autoscaler-sync-period`.
    pub sync_period: Duration,
    /// How far from 1 a ratio may be without an effect: `--horizontal-pod-autoscaler-tolerance`.
    pub tolerance: f64,
    /// How long a recommendation keeps a target from shrinking: `--horizontal-pod-autoscaler-downscale-stabilization`.
    pub downscale_stabilization: Duration,
    /// How long a pod's processor use may be that of its start: `--horizontal-pod-autoscaler-cpu-initialization-period`.
    pub cpu_initialization_period: Duration,
    /// A pod that was unready since so soon after its start has never been ready:
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`.
    pub initial_readiness_delay: Duration,
    /// Without `behavior`: most pods after a step, as a multiple of those before.
    pub scale_up_factor: i32,
    /// Without `behavior`: a step may always lead to so many pods.
    pub scale_up_minimum: i32,
    /// Whose behaviour.
    pub version: Version,
}

/// How far from 1 a ratio may be, by direction.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tolerances {
    /// Above.
    pub up: f64,
    /// Below.
    pub down: f64,
}

impl Rules {
    /// The defaults of a version.
    #[must_use]
    pub fn of(version: Version) -> Self {
        Self {
            sync_period: Duration::from_secs(15),
            tolerance: 0.1,
            downscale_stabilization: Duration::from_secs(300),
            cpu_initialization_period: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
            scale_up_factor: 2,
            scale_up_minimum: 4,
            version,
        }
    }

    /// Whether a ratio is so close to 1 that nothing changes.
    #[must_use]
    pub fn tolerates(&self, ratio: f64, tolerances: Tolerances) -> bool {
        if self.version >= Version::new(1, 33) {
            (1.0 - tolerances.down) <= ratio && ratio <= (1.0 + tolerances.up)
        } else {
            (1.0 - ratio).abs() <= self.tolerance
        }
    }

    /// Whether an autoscaler may have tolerances of its own. The feature gate is on by default from 1.35 on.
    #[must_use]
    pub fn has_own_tolerances(&self) -> bool {
        self.version >= Version::new(1, 35)
    }

    /// Whether stabilization keeps what is wanted now between the bounds of both windows; before, it took the extreme of one window, and could
    /// lead away from both.
    #[must_use]
    pub(super) fn stabilizes_between_bounds(&self) -> bool {
        self.version >= Version::new(1, 21)
    }

    /// Whether a policy's period begins from the size before the changes of both directions; before, only its own counted.
    #[must_use]
    pub(super) fn counts_both_directions(&self) -> bool {
        self.version >= Version::new(1, 25)
    }

    /// What a pod without a sample counts as when a target shrinks, in hundredths of its request.
    #[must_use]
    pub(super) fn fallback_percent(&self, target_percent: i32) -> i64 {
        let least = if self.version >= Version::new(1, 26) { target_percent } else { 100 };
        i64::from(least.max(100))
    }

    /// Whether a pod without a sample of the wanted container counts as one without a sample; before, the metric failed.
    #[must_use]
    pub fn skips_missing_containers(&self) -> bool {
        self.version >= Version::new(1, 32)
    }

    /// Whether two autoscalers of the same pods are refused.
    #[must_use]
    pub(super) fn refuses_shared_pods(&self) -> bool {
        self.version >= Version::new(1, 27)
    }

    /// Most pods after a step without `behavior`.
    #[must_use]
    pub(super) fn scale_up_limit(&self, current: i32) -> i32 {
        let multiple = double(self.scale_up_factor.into()) * double(current.into());
        super::pods_above(multiple.max(double(self.scale_up_minimum.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(version: Version, percent: i32, target: i32, tolerated: bool) {
        let rules = Rules::of(version);
        let ratio = double(percent.into()) / double(target.into());
        let tolerances = Tolerances { up: rules.tolerance, down: rules.tolerance };
        assert_eq!(rules.tolerates(ratio, tolerances), tolerated, "{version}: {percent} of {target}");
    }

    #[test]
    fn eleven_tenths_are_too_much_for_the_older_test_only() {
        check(Version::new(1, 32), 88, 80, false);
        check(Version::new(1, 33), 88, 80, true);
        for version in [Version::new(1, 32), Version::new(1, 33)] {
            check(version, 72, 80, true);
            check(version, 89, 80, false);
            check(version, 71, 80, false);
        }
    }

    #[test]
    fn what_a_pod_without_a_sample_counts_as_depends_on_the_version() {
        let fallback = |minor| [50, 100, 300].map(|target| Rules::of(Version::new(1, minor)).fallback_percent(target));
        assert_eq!(fallback(25), [100, 100, 100]);
        assert_eq!(fallback(26), [100, 100, 300]);
    }
}
