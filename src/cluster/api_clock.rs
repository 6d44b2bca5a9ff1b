//! The clock of the API's time stamps.
//!
//! Time stamps of objects are whole seconds of the wall clock, cut off. Where the seconds of the wall clock fall in a run is the phase: it
//! decides when a pod counts as available, which of two pods counts as older, and when a deadline has passed.
//!
//! Stamps are instants on the wall clock, which runs ahead of the run's own by the phase; they are compared with [`ApiClock::wall`] and with
//! nothing else.
//!
//! Source: Kubernetes v1.28.7 staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/time.go, pkg/api/v1/pod/util.go.

use std::time::Duration;

use crate::units::SimTime;

const SECOND_NS: u64 = 1_000_000_000;

/// The second of the wall clock in which an instant of it lies.
#[must_use]
pub fn whole_second(wall: SimTime) -> SimTime {
    SimTime::from_nanos(wall.as_nanos() - wall.as_nanos() % SECOND_NS)
}

/// Turns instants of the run into time stamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApiClock {
    phase: Duration,
    stands_at_zero: bool,
}

impl ApiClock {
    /// A clock whose second is `phase` old at time zero. In a world that stands at zero, what is there then has been for long.
    ///
    /// # Panics
    ///
    /// If the phase is a second or more.
    #[must_use]
    pub fn new(phase: Duration, stands_at_zero: bool) -> Self {
        assert!(phase < Duration::from_secs(1), "a phase lies within its second");
        Self { phase, stands_at_zero }
    }

    /// An instant on the wall clock.
    #[must_use]
    pub fn wall(self, at: SimTime) -> SimTime {
        at.after(self.phase)
    }

    /// What the API writes for it: the second it lies in.
    #[must_use]
    pub fn stamp(self, at: SimTime) -> SimTime {
        whole_second(self.wall(at))
    }

    /// Whether a pod that has been ready since then is available: for longer than `min_ready_seconds`, or at once if that is 0.
    #[must_use]
    pub fn is_available(self, ready_since: SimTime, min_ready_seconds: u32, now: SimTime) -> bool {
        min_ready_seconds == 0
            || (self.stands_at_zero && ready_since == SimTime::ZERO)
            || self.stamp(ready_since).after(Duration::from_secs(min_ready_seconds.into())) < self.wall(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SimTime {
        SimTime::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn availability_counts_from_the_whole_second_of_the_wall_clock() {
        let clock = ApiClock::new(Duration::from_millis(300), false);
        // Ready at 2.2 s, which is 2.5 s on the wall: stamped 2 s, so available after 7 s on the wall, 6.7 s here.
        assert_eq!(clock.stamp(at(2200)), at(2000));
        assert!(!clock.is_available(at(2200), 5, at(6700)), "strictly later");
        assert!(clock.is_available(at(2200), 5, at(6701)));
        assert!(clock.is_available(at(2200), 0, at(2200)));
    }

    #[test]
    fn what_stands_at_zero_is_available_at_once() {
        assert!(ApiClock::new(Duration::ZERO, true).is_available(SimTime::ZERO, 30, SimTime::ZERO));
        assert!(!ApiClock::new(Duration::ZERO, true).is_available(at(1), 30, at(2)));
        assert!(!ApiClock::new(Duration::ZERO, false).is_available(SimTime::ZERO, 30, at(1)));
    }
}
