//! How long a container gets to stop: the grace of a kill, and what its preStop hook leaves of it.
//!
//! Upstream: `pkg/kubelet/kuberuntime/kuberuntime_container.go` (`setTerminationGracePeriod`, `executePreStopHook`,
//! `killContainer`) and `pkg/kubelet/pod_workers.go` (`calculateEffectiveGracePeriod`). The rules:
//!
//! - The grace of a deletion comes before all others, then that of the failed probe, then that of the pod.
//! - While a pod is being terminated its grace is at least 1 s, and later requests can only shorten it.
//! - The preStop hook runs inside the grace, and at most for all of it; the whole seconds it took, cut off, are lost.
//! - From SIGTERM to SIGKILL pass at least [`MINIMUM_GRACE_SECONDS`], whatever is left.

use std::time::Duration;

/// The shortest time from SIGTERM to SIGKILL, in seconds.
pub const MINIMUM_GRACE_SECONDS: u32 = 2;

/// Why a container is killed, as far as the grace depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KillReason {
    /// Its startup probe failed.
    StartupProbe,
    /// Its liveness probe failed.
    LivenessProbe,
    /// Anything else, the deletion of the pod above all.
    Other,
}

/// The periods of grace, in seconds, that bear on a kill. `None` is not set.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct GraceSettings {
    /// Of the pod's deletion, if that has been asked for.
    pub deletion_seconds: Option<u32>,
    /// Of the pod's specification.
    pub pod_seconds: Option<u32>,
    /// Of the startup probe.
    pub startup_probe_seconds: Option<u32>,
    /// Of the liveness probe.
    pub liveness_probe_seconds: Option<u32>,
}

impl GraceSettings {
    /// The grace of a kill in seconds, before the preStop hook takes its part.
    ///
    /// A probe's own grace can be longer than the pod's, but counts only if the pod has one.
    #[must_use]
    pub fn for_kill(&self, reason: KillReason) -> u32 {
        if let Some(seconds) = self.deletion_seconds {
            return seconds;
        }
        let Some(pod_seconds) = self.pod_seconds else {
            return MINIMUM_GRACE_SECONDS;
        };
        let own = match reason {
            KillReason::StartupProbe => self.startup_probe_seconds,
            KillReason::LivenessProbe => self.liveness_probe_seconds,
            KillReason::Other => None,
        };
        own.unwrap_or(pod_seconds)
    }
}

/// The grace of a pod that is being terminated, over all requests to do so.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TerminationGrace {
    seconds: Option<u32>,
}

impl TerminationGrace {
    /// The grace in force, in seconds; `None` before the first request.
    #[must_use]
    pub const fn seconds(&self) -> Option<u32> {
        self.seconds
    }

    /// Takes note of a request and says whether it shortened a grace already in force: if so, kill anew with that.
    ///
    /// `deletion_seconds` is the grace of the deletion, `eviction_seconds` what the kubelet itself asks for; with
    /// neither, the first request falls back on `pod_seconds`, the pod's specification.
    pub fn request(
        &mut self,
        deletion_seconds: Option<u32>,
        eviction_seconds: Option<u32>,
        pod_seconds: Option<u32>,
    ) -> bool {
        let asked = [self.seconds, deletion_seconds, eviction_seconds].into_iter().flatten().min();
        let seconds = asked.or(pod_seconds).unwrap_or(1).max(1);
        let shortened = self.seconds.is_some_and(|before| seconds < before);
        self.seconds = Some(seconds);
        shortened
    }
}

/// What `spent` leaves of a grace, in seconds: only whole seconds of it are taken off.
///
/// So it goes for the preStop hook, and for a sidecar's wait until it is its turn.
#[must_use]
pub fn seconds_left(grace_seconds: u32, spent: Duration) -> u32 {
    u32::try_from(spent.as_secs()).map_or(0, |spent| grace_seconds.saturating_sub(spent))
}

/// The time from SIGTERM to SIGKILL, in seconds, if this much of the grace is left.
#[must_use]
pub fn kill_after_seconds(left_seconds: u32) -> u32 {
    left_seconds.max(MINIMUM_GRACE_SECONDS)
}

/// When the two signals reach a container, counted from the start of its kill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StopTimes {
    /// The time of SIGTERM: the preStop hook has ended or has been given up.
    pub sigterm: Duration,
    /// The time of SIGKILL, unless the container has ended before.
    pub sigkill: Duration,
}

/// When the signals come if the preStop hook would run for `pre_stop`; `None` is no hook.
///
/// A hook is given up when the grace is over, and with a grace of 0 it is not run at all.
#[must_use]
pub fn stop_times(grace_seconds: u32, pre_stop: Option<Duration>) -> StopTimes {
    let grace = Duration::from_secs(u64::from(grace_seconds));
    let sigterm = pre_stop.unwrap_or_default().min(grace);
    let left = kill_after_seconds(seconds_left(grace_seconds, sigterm));
    StopTimes { sigterm, sigkill: sigterm + Duration::from_secs(u64::from(left)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_takes_whole_seconds_of_the_grace() {
        let times = stop_times(30, Some(Duration::from_millis(5_900)));
        assert_eq!(times.sigterm, Duration::from_millis(5_900));
        assert_eq!(times.sigkill, Duration::from_millis(30_900));
    }

    #[test]
    fn a_hook_that_eats_it_all_leaves_two_seconds() {
        let times = stop_times(30, Some(Duration::from_secs(600)));
        assert_eq!((times.sigterm.as_secs(), times.sigkill.as_secs()), (30, 32));
    }

    #[test]
    fn the_floor_holds_without_a_hook_and_a_hook_needs_a_grace() {
        assert_eq!(stop_times(1, None).sigkill, Duration::from_secs(2));
        let forced = stop_times(0, Some(Duration::from_secs(5)));
        assert_eq!((forced.sigterm.as_secs(), forced.sigkill.as_secs()), (0, 2));
        assert_eq!(stop_times(30, None).sigkill, Duration::from_secs(30));
    }

    #[test]
    fn more_time_than_there_is_leaves_nothing() {
        assert_eq!(seconds_left(u32::MAX, Duration::MAX), 0);
        assert_eq!(seconds_left(3, Duration::from_secs(4)), 0);
    }

    #[test]
    fn a_deletion_comes_before_the_probe() {
        let settings = GraceSettings {
            deletion_seconds: Some(7),
            pod_seconds: Some(30),
            liveness_probe_seconds: Some(5),
            ..GraceSettings::default()
        };
        assert_eq!(settings.for_kill(KillReason::LivenessProbe), 7);
    }

    #[test]
    fn a_termination_can_only_get_shorter() {
        let mut grace = TerminationGrace::default();
        assert_eq!(grace.seconds(), None);
        assert!(!grace.request(Some(30), None, Some(60)));
        assert!(!grace.request(Some(45), None, Some(60)));
        assert_eq!(grace.seconds(), Some(30));
        assert!(grace.request(Some(45), Some(10), Some(60)));
        assert_eq!(grace.seconds(), Some(10));
        assert!(grace.request(Some(0), None, Some(60)));
        assert_eq!(grace.seconds(), Some(1));
        assert!(!grace.request(Some(0), None, Some(60)));
    }

    #[test]
    fn a_termination_nobody_timed_takes_the_pods_grace() {
        let mut grace = TerminationGrace::default();
        assert!(!grace.request(None, None, Some(60)));
        assert_eq!(grace.seconds(), Some(60));
        let mut unset = TerminationGrace::default();
        assert!(!unset.request(None, None, None));
        assert_eq!(unset.seconds(), Some(1));
    }
}
