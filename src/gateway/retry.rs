//! Retries: which failures are tried again, how often, after how long, and on which endpoint.
//!
//! The default is Istio's: two retries, on failures to connect; a connection that breaks after the request was sent is not
//! retried. A wait of full jitter precedes each, also after a failure to connect: uniform below 25 ms, 50, 100, 200, then 250 ms.
//! Endpoints already tried are avoided: up to five more picks, and the last one is used whatever it is.
//!
//! Of Istio's default conditions `connect-failure` is the one that HTTP/1.1 can meet; the others need HTTP/2 or gRPC.
//! Sources: istio pilot/pkg/networking/core/route/retry/retry.go; envoy source/common/router/retry_state_impl.cc,
//! source/common/common/backoff_strategy.cc.

use std::time::Duration;

use super::host::random_below;

/// How often a pick that was tried before is picked anew.
pub const REPICKS_MAX: u32 = 5;

/// The retries of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Tries after the first. 0 turns retries off.
    pub attempts: u32,
    /// A try is given up after this time, unset: no limit of its own.
    pub per_try_timeout: Option<Duration>,
    /// Whether a failure to connect is tried again.
    pub on_connect_failure: bool,
    /// The first interval of the back-off.
    pub backoff_base: Duration,
    /// The interval does not grow beyond this.
    pub backoff_max: Duration,
}

impl RetryPolicy {
    /// What Istio sets where a route says nothing.
    pub const ISTIO: Self = Self {
        attempts: 2,
        per_try_timeout: None,
        on_connect_failure: true,
        backoff_base: Duration::from_millis(25),
        backoff_max: Duration::from_millis(250),
    };

    /// No retries.
    pub const NONE: Self = Self { attempts: 0, ..Self::ISTIO };

    /// Whether something may be tried again of which a part was sent: then the request is kept.
    #[must_use]
    pub fn repeats_what_was_sent(&self) -> bool {
        false
    }

    /// The wait before retry `number`, counted from 1.
    #[must_use]
    pub fn backoff(&self, number: u32, random: u64) -> Duration {
        let doublings = number.saturating_sub(1).min(16);
        let interval = (self.backoff_base * 2_u32.pow(doublings)).min(self.backoff_max);
        Duration::from_nanos(random_below(random, u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_below_a_doubling_interval() {
        let longest = |number| RetryPolicy::ISTIO.backoff(number, u64::MAX).as_nanos();
        assert_eq!([1, 2, 3, 4, 5, 6].map(longest), [25, 50, 100, 200, 250, 250].map(|ms| ms * 1_000_000 - 1));
        assert_eq!(RetryPolicy::ISTIO.backoff(3, 0), Duration::ZERO);
        assert_eq!(RetryPolicy::ISTIO.backoff(3, 1 << 63), Duration::from_millis(50));
    }
}
