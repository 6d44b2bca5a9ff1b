//! When a container that has ended may start again: the crash back-off.
//!
//! Upstream: `pkg/kubelet/kuberuntime/kuberuntime_manager.go` (`computePodActions`, `SyncPod`, `doBackOff`) over
//! `staging/src/k8s.io/client-go/util/flowcontrol/backoff.go`; the times of the syncs are those of
//! `pkg/kubelet/pod_workers.go`. The rules:
//!
//! - The first restart is immediate. From then on the wait is 10 s, 20 s, 40 s … 300 s, counted from the *exit*.
//! - A restart doubles the wait. If the container had run for more than twice the longest wait since the restart
//!   before, the count begins anew.
//! - Housekeeping forgets a container whose last restart is more than twice the longest wait ago, even as it waits.
//! - A container that the kubelet itself kills for a probe's sake is started by the same sync, which goes by the pod's status from before the kill: there the
//!   newest exit is that of the run before. So the first kill neither waits nor counts as a restart, and a later one waits only if the run before it ended less than the wait ago; if so, the next
//!   sync knows the new exit, and counts from that.
//! - Whether the wait is over is looked at only when the pod is synced, so the real wait is longer.

use std::time::Duration;

use crate::units::SimTime;

/// The wait before the second restart.
pub const INITIAL_WAIT: Duration = Duration::from_secs(10);
/// The longest wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The time to the next sync of a pod with a waiting container, before the spread.
pub const SYNC_RETRY: Duration = Duration::from_secs(10);
/// The time to the next sync of a pod with nothing to do, before the spread.
pub const SYNC_PERIOD: Duration = Duration::from_secs(60);
/// The random spread of both: up to so many percent are added.
pub const SYNC_SPREAD_PERCENT: u32 = 50;
/// The time between two rounds of housekeeping.
pub const HOUSEKEEPING_PERIOD: Duration = Duration::from_secs(2);

/// Whether a container may start again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// Start it.
    Now,
    /// Not yet: the pod is in `CrashLoopBackOff`.
    At(SimTime),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    wait: Duration,
    last_update: SimTime,
}

/// The back-off of one container: a container of another pod, or with another specification, has its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrashBackoff {
    initial: Duration,
    longest: Duration,
    entry: Option<Entry>,
}

/// As a kubelet has it unless told otherwise.
impl Default for CrashBackoff {
    fn default() -> Self {
        Self::new(INITIAL_WAIT, LONGEST_WAIT)
    }
}

impl CrashBackoff {
    /// A container that has not been restarted, with its shortest and longest wait.
    #[must_use]
    pub const fn new(initial: Duration, longest: Duration) -> Self {
        Self { initial, longest, entry: None }
    }

    /// The wait in force, or zero if there is none.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.entry.map_or(Duration::ZERO, |entry| entry.wait)
    }

    /// The question of a pod's sync: may the container, which ended at `exit`, start again? `Now` counts as a restart.
    pub fn try_restart(&mut self, exit: SimTime, now: SimTime) -> Restart {
        if self.waits_since(exit, now) {
            return Restart::At(exit.after(self.wait()));
        }
        self.register(exit, now);
        Restart::Now
    }

    /// The question of the sync that has killed the container itself: it knows the exit of the run before, if there was one. `Now` counts as a restart, but for the first run's end.
    pub fn try_restart_after_kill(&mut self, exit_before: Option<SimTime>, now: SimTime) -> Restart {
        exit_before.map_or(Restart::Now, |exit| self.try_restart(exit, now))
    }

    /// Whether the wait, counted from `event`, is still on at `now`.
    #[must_use]
    pub fn waits_since(&self, event: SimTime, now: SimTime) -> bool {
        self.live_entry(event).is_some_and(|entry| elapsed(event, now) < entry.wait)
    }

    /// Whether the wait, counted from the last restart, is still on at `now`.
    #[must_use]
    pub fn waits_since_update(&self, now: SimTime) -> bool {
        self.live_entry(now).is_some_and(|entry| elapsed(entry.last_update, now) < entry.wait)
    }

    /// Takes note of a restart at `now` after an exit at `exit`: the wait doubles, or begins anew.
    pub fn register(&mut self, exit: SimTime, now: SimTime) {
        let wait = self.live_entry(exit).map_or(self.initial, |entry| entry.wait.saturating_mul(2).min(self.longest));
        self.entry = Some(Entry { wait, last_update: now });
    }

    /// Housekeeping: forgets a last restart that is too long ago.
    pub fn forget_expired(&mut self, now: SimTime) {
        self.entry = self.live_entry(now);
    }

    /// The entry, unless more than twice the longest wait lies between its last update and `event`.
    fn live_entry(&self, event: SimTime) -> Option<Entry> {
        let life = self.longest.saturating_mul(2);
        self.entry.filter(|entry| elapsed(entry.last_update, event) <= life)
    }
}

/// The time from one instant to another, or zero if that came first.
fn elapsed(from: SimTime, to: SimTime) -> Duration {
    if from < to { to.since(from) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_container_that_dies_at_once_waits_longer_and_longer() {
        let mut backoff = CrashBackoff::default();
        let mut exit = at(0);
        assert_eq!(backoff.try_restart(exit, exit), Restart::Now);
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            let again = exit.after(Duration::from_secs(wait));
            assert_eq!(backoff.try_restart(exit, exit), Restart::At(again));
            assert_eq!(backoff.try_restart(exit, again), Restart::Now);
            exit = again;
        }
    }

    #[test]
    fn a_kill_for_a_probe_waits_for_the_run_before() {
        // Runs of so many seconds, each killed: the first kill that has to wait, and from when on.
        for (run, first_wait) in [(9, Some(3)), (10, Some(4)), (19, Some(4)), (20, Some(5)), (300, None)] {
            let mut backoff = CrashBackoff::default();
            let mut exit_before = None;
            let mut waits = None;
            for number in 1..=12 {
                let now = at(run * number);
                match backoff.try_restart_after_kill(exit_before, now) {
                    Restart::Now => exit_before = Some(now),
                    Restart::At(again) => {
                        assert!(again > now, "{run} s, kill {number}");
                        // The next sync counts from the kill itself.
                        let wait = backoff.wait();
                        assert_eq!(backoff.try_restart(now, now), Restart::At(now.after(wait)));
                        waits = Some(number);
                        break;
                    }
                }
            }
            assert_eq!(waits, first_wait, "runs of {run} s");
        }
    }

    #[test]
    fn a_long_run_starts_the_count_anew() {
        let mut backoff = CrashBackoff::default();
        for second in 0..9 {
            backoff.register(at(second), at(second));
        }
        assert_eq!(backoff.wait(), LONGEST_WAIT);
        let mut steady = backoff.clone();
        assert_eq!(steady.try_restart(at(608), at(608)), Restart::At(at(908)));
        assert_eq!(backoff.try_restart(at(609), at(609)), Restart::Now);
        assert_eq!(backoff.wait(), INITIAL_WAIT);
    }

    #[test]
    fn housekeeping_cuts_a_wait_short() {
        let mut backoff = CrashBackoff::default();
        for _ in 0..9 {
            backoff.register(at(0), at(0));
        }
        assert_eq!(backoff.try_restart(at(400), at(600)), Restart::At(at(700)));
        backoff.forget_expired(at(600));
        assert_eq!(backoff.wait(), LONGEST_WAIT);
        backoff.forget_expired(at(601));
        assert_eq!(backoff.wait(), Duration::ZERO);
        assert_eq!(backoff.try_restart(at(400), at(602)), Restart::Now);
    }
}
