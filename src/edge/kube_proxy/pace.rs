//! When a kube-proxy writes its rules: at once after a quiet time, then no faster than the least period.
//!
//! A bucket holds two runs and gains one per period. A change that finds a run in it is written at once; one that does not
//! waits until a period after the last run, together with all that come until then. So the first two changes of a rollout are seen
//! sooner than the rest. With a period of zero every change is written at once.
//!
//! Source: Kubernetes v1.28.7 pkg/util/async/bounded_frequency_runner.go (`tryRun`), pkg/proxy/iptables/proxier.go
//! (`burstSyncs` is 2); periods: pkg/proxy/apis/config/v1alpha1/defaults.go.

use std::time::Duration;

use crate::units::SimTime;

/// Runs that a full bucket holds.
const BURST: u32 = 2;

/// The pace of one kube-proxy.
#[derive(Clone, Debug)]
pub struct SyncPace {
    period: Duration,
    /// What the bucket held after the last run, in time: a run costs one period.
    left: Duration,
    last_run: Option<SimTime>,
}

impl SyncPace {
    /// With a full bucket.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self { period, left: period * BURST, last_run: None }
    }

    /// When a change that comes now is written; that run is counted.
    pub fn next_run(&mut self, now: SimTime) -> SimTime {
        let run_at = match self.last_run {
            Some(last) if self.held(now) < self.period => last.after(self.period),
            _ => now,
        };
        self.left = self.held(run_at) - self.period;
        self.last_run = Some(run_at);
        run_at
    }

    /// What the bucket holds, in time.
    fn held(&self, now: SimTime) -> Duration {
        let gained = self.last_run.map_or(Duration::ZERO, |last| now.since(last));
        (self.left + gained).min(self.period * BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_millis(millis))
    }

    /// When changes at these milliseconds are written.
    #[track_caller]
    fn check(period_ms: u64, changes: &[u64], written: &[u64]) {
        let mut pace = SyncPace::new(Duration::from_millis(period_ms));
        let runs: Vec<SimTime> = changes.iter().map(|change| pace.next_run(at(*change))).collect();
        assert_eq!(runs, written.iter().map(|millis| at(*millis)).collect::<Vec<_>>());
    }

    #[test]
    fn two_changes_are_written_at_once_and_then_one_per_period() {
        check(1000, &[100, 200, 300], &[100, 200, 1200]);
        // Each of the next finds less than a run in the bucket: it gains one while they wait.
        check(1000, &[100, 200, 300, 1300, 2300], &[100, 200, 1200, 2200, 3200]);
        check(1000, &[100, 5000, 5000, 5000], &[100, 5000, 5000, 6000]);
    }

    #[test]
    fn a_run_after_a_period_is_at_once() {
        check(1000, &[0, 1000, 2000, 3000, 3000], &[0, 1000, 2000, 3000, 3000]);
        check(1000, &[0, 0, 1000, 1999], &[0, 0, 1000, 2000]);
    }

    #[test]
    fn without_a_period_nothing_waits() {
        check(0, &[5, 5, 5, 6], &[5, 5, 5, 6]);
    }
}
