//! Draining: whether a response tells its client to leave, and how long one that stays is served.
//!
//! ```text
//! drain begins ─ every response says close (immediate), or a growing share (gradual) ─→ drain time over: listeners close
//! first such response on a connection ─ 5 s served on ─→ requests swallowed ─ 1 s ─→ closed
//! ```
//!
//! An idle connection hears nothing. Every response during an immediate drain carries `Connection: close`, not only the first.
//! Sources: envoy source/server/drain_manager_impl.cc, source/common/http/conn_manager_impl.cc; the behaviour of a client that
//! stays was measured on Envoy 1.40.0 (served 5.0 s, closed at 6.0 s, requests in between lost).

use std::time::Duration;

use super::host::random_below;
use crate::units::SimTime;

/// Which responses during a drain say `Connection: close`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DrainStrategy {
    /// All. Istio starts Envoy so.
    Immediate,
    /// A share that grows from none to all over the drain time. Envoy's own default.
    Gradual,
}

/// The settings of a drain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrainConfig {
    /// Listeners accept for so long after the drain began. Istio passes 45 s.
    pub drain_time: Duration,
    /// Which responses tell.
    pub strategy: DrainStrategy,
    /// A connection that has been told is served for so long. HCM `drain_timeout`, 5 s.
    pub drain_timeout: Duration,
    /// Then it is closed after this time. HCM `delayed_close_timeout`, 1 s.
    pub delayed_close: Duration,
}

impl DrainConfig {
    /// What Istio runs Envoy with.
    pub const ISTIO: Self = Self {
        drain_time: Duration::from_secs(45),
        strategy: DrainStrategy::Immediate,
        drain_timeout: Duration::from_secs(5),
        delayed_close: Duration::from_secs(1),
    };

    /// Whether a response sent `now` says close, in a drain that `began_at`; `random` gives 64 uniform bits if asked.
    #[must_use]
    pub fn says_close(&self, began_at: SimTime, now: SimTime, random: impl FnOnce() -> u64) -> bool {
        match self.strategy {
            DrainStrategy::Immediate => true,
            DrainStrategy::Gradual => {
                let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
                let (elapsed, total) = (nanos(now.since(began_at)), nanos(self.drain_time));
                elapsed >= total || random_below(random(), total) < elapsed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradual_drain_tells_a_growing_share() {
        let drain = DrainConfig { strategy: DrainStrategy::Gradual, ..DrainConfig::ISTIO };
        let says = |seconds: f64, bits| {
            let now = SimTime::from_nanos(7).after(Duration::from_secs_f64(seconds));
            drain.says_close(SimTime::from_nanos(7), now, || bits)
        };
        assert!(!says(0.0, 0), "no share at the start");
        assert!(says(9.1, u64::MAX / 5) && !says(8.9, u64::MAX / 5), "a fifth after 9 of 45 s");
        assert!(says(45.0, u64::MAX), "all at the end");
    }

    #[test]
    fn an_immediate_drain_tells_all_and_draws_nothing() {
        let draw = || unreachable!("no draw is needed");
        assert!(DrainConfig::ISTIO.says_close(SimTime::ZERO, SimTime::ZERO, draw));
    }
}
