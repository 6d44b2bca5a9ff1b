//! How fast the control plane's components may call the API server.
//!
//! Each controller of the controller-manager has a client of its own with the flags' limits, by default 20 calls a second after a burst of 30; the
//! scheduler binds with 50 a second after a burst of 100. Each kubelet has 50 and 100, before 1.27 only 5 and 10; its leases and the node's own
//! status go through another client. Who sets nothing has client-go's 5 and 10: `kubectl`, so a drain, and the cluster autoscaler.
//! A call takes a token, or waits for one: calls go out in the order in which they asked.
//! The events that controllers record are calls, too. Of one object 25 are recorded in a burst, and one more every five minutes; what is beyond
//! is dropped before it costs a call.
//!
//! A large rollout is as slow as its `ReplicaSet` controller: a pod that gives way to another is a creation, a deletion, and the statuses between
//! them. A node that fails with a hundred pods is as slow as the node controller, which writes each pod's status and an event of it.
//!
//! Left out: the clients of the cloud's controllers and of the mesh, which are part of their latencies, and the garbage collector's but for pods of `DaemonSet`s.
//! Source: Kubernetes v1.28.7 staging/src/k8s.io/client-go/util/flowcontrol/throttle.go (over golang.org/x/time/rate), rest/config.go (`DefaultQPS`),
//! pkg/controller/apis/config/v1alpha1/defaults.go, pkg/scheduler/apis/config/v1/defaults.go, pkg/kubelet/apis/config/v1beta1/defaults.go and
//! kubernetes/kubernetes pull 116121 for its former values, staging/src/k8s.io/client-go/tools/record/events_cache.go, kubernetes/autoscaler
//! cluster-autoscaler/main.go.

use std::time::Duration;

use super::version::Version;
use crate::units::SimTime;

/// A client's limits: `--kube-api-qps` and `--kube-api-burst`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientLimits {
    /// Calls per second, one or more.
    pub per_second: u32,
    /// Calls at once after a rest, one or more.
    pub burst: u32,
}

impl ClientLimits {
    /// A controller's.
    pub const CONTROLLER: Self = Self { per_second: 20, burst: 30 };
    /// The scheduler's.
    pub const SCHEDULER: Self = Self { per_second: 50, burst: 100 };
    /// Of whoever sets none.
    pub const UNSET: Self = Self { per_second: 5, burst: 10 };

    /// A kubelet's.
    #[must_use]
    pub fn of_kubelet(version: Version) -> Self {
        if version >= Version::new(1, 27) { Self { per_second: 50, burst: 100 } } else { Self::UNSET }
    }
}

/// The limits of all clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientRates {
    /// Of each controller.
    pub controllers: ClientLimits,
    /// Of the scheduler.
    pub scheduler: ClientLimits,
    /// Of each kubelet; none: as its version has them.
    pub kubelets: Option<ClientLimits>,
    /// Of each drain by hand, and of the cluster autoscaler.
    pub drains: ClientLimits,
}

impl ClientRates {
    /// As the components have them without flags.
    pub const DEFAULT: Self = Self {
        controllers: ClientLimits::CONTROLLER,
        scheduler: ClientLimits::SCHEDULER,
        kubelets: None,
        drains: ClientLimits::UNSET,
    };
}

/// The events of one object that a recorder lets through at once.
const EVENTS_BURST: u32 = 25;
/// From one further event to the next.
const EVENTS_EVERY: Duration = Duration::from_secs(300);

/// Tokens that come back one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenBucket {
    /// From one token to the next.
    interval: Duration,
    burst: u32,
    /// When it is full again if nothing is taken.
    full_at: SimTime,
}

impl TokenBucket {
    /// A full bucket with a client's limits.
    #[must_use]
    pub fn of_client(limits: ClientLimits) -> Self {
        Self { interval: Duration::from_secs(1) / limits.per_second, burst: limits.burst, full_at: SimTime::ZERO }
    }

    /// A full bucket for the events of one object.
    #[must_use]
    pub fn of_events() -> Self {
        Self { interval: EVENTS_EVERY, burst: EVENTS_BURST, full_at: SimTime::ZERO }
    }

    /// When a call that asked now would go out.
    #[must_use]
    pub fn free_at(&self, now: SimTime) -> SimTime {
        let full_at = self.full_at.max(now).after(self.interval);
        let credit = self.interval * self.burst;
        let since_start = full_at.since(SimTime::ZERO);
        since_start.checked_sub(credit).map_or(now, |at| SimTime::ZERO.after(at).max(now))
    }

    /// Whether so many calls that asked now would all go out at once.
    #[must_use]
    pub fn has(&self, count: usize, now: SimTime) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let owed = self.full_at.max(now).since(now) + self.interval.saturating_mul(count);
        owed <= self.interval * self.burst
    }

    /// Takes a token: when the call goes out.
    pub fn take(&mut self, now: SimTime) -> SimTime {
        let at = self.free_at(now);
        self.full_at = self.full_at.max(now).after(self.interval);
        at
    }

    /// Takes a token if there is one now; whether there was.
    pub fn take_now(&mut self, now: SimTime) -> bool {
        let has_one = self.free_at(now) == now;
        if has_one {
            self.take(now);
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(millis: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_goes_out_at_once_and_the_rest_at_its_pace() {
        let mut bucket = TokenBucket::of_client(ClientLimits::CONTROLLER);
        let start = at_ms(100_000);
        assert!(bucket.has(30, start) && !bucket.has(31, start));
        let calls: Vec<SimTime> = (0..33).map(|_| bucket.take(start)).collect();
        assert!(!bucket.has(1, start) && bucket.has(1, at_ms(100_200)));
        assert!(calls[..30].iter().all(|at| *at == start));
        assert_eq!(calls[30..], [at_ms(100_050), at_ms(100_100), at_ms(100_150)]);
        // A second later 20 have come back, three of which were owed.
        let later = at_ms(101_000);
        let calls = (0..18).map(|_| bucket.take(later)).filter(|at| *at == later).count();
        assert_eq!(calls, 17);
        // After a long rest there are 30 and no more.
        let rested = at_ms(900_000);
        assert_eq!((0..40).map(|_| bucket.take(rested)).filter(|at| *at == rested).count(), 30);
    }

    #[test]
    fn kubelets_call_ten_times_as_fast_from_1_27_on() {
        for (minor, burst) in [(20, 10), (26, 10), (27, 100), (33, 100)] {
            let mut bucket = TokenBucket::of_client(ClientLimits::of_kubelet(Version::new(1, minor)));
            let start = at_ms(100_000);
            let at_once = (0..200).map(|_| bucket.take(start)).filter(|at| *at == start).count();
            assert_eq!(at_once, burst, "1.{minor}");
        }
    }

    #[test]
    fn nothing_is_owed_at_the_start_of_time() {
        let mut bucket = TokenBucket::of_client(ClientLimits { per_second: 1, burst: 2 });
        let calls = [0; 4].map(|_| bucket.take(SimTime::ZERO));
        assert_eq!(calls, [at_ms(0), at_ms(0), at_ms(1000), at_ms(2000)]);
        assert_eq!(bucket.free_at(at_ms(2500)), at_ms(3000));
    }

    #[test]
    fn of_many_events_25_are_told_and_then_one_in_five_minutes() {
        let mut bucket = TokenBucket::of_events();
        let start = at_ms(1_000_000);
        assert_eq!((0..100).filter(|_| bucket.take_now(start)).count(), 25);
        let in_five_minutes = at_ms(1_300_000);
        assert_eq!((0..100).filter(|_| bucket.take_now(in_five_minutes)).count(), 1);
    }
}
