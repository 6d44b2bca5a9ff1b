//! The wait before a retry.
//!
//! Full jitter: uniform below an interval that begins at the base and doubles up to its maximum: below 25 ms, 50, 100, 200, then
//! 250 ms. It also follows a failure to connect. An answer may ask for a wait of its own by a header: that long, and up to half as
//! long again.
//!
//! Envoy's documentation gives (2ⁿ − 1) · base as the interval; the code is as above, and measured. Envoy draws whole milliseconds, we
//! nanoseconds. Sources: envoy source/common/common/backoff_strategy.cc, source/common/router/reset_header_parser.cc.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// How waits follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backoff {
    /// Uniform below an interval that doubles.
    Exponential {
        /// The first interval.
        base: Duration,
        /// The largest.
        max: Duration,
    },
    /// So long, and up to half as long again.
    LowerBound(Duration),
    /// So long.
    Fixed(Duration),
}

impl Backoff {
    /// The wait before retry `number`, counted from 1. `draw` gives a number uniform below its argument, here nanoseconds.
    #[must_use]
    pub fn delay(self, number: u32, draw: impl FnOnce(u64) -> u64) -> Duration {
        let below = |span: Duration| {
            let bound = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
            Duration::from_nanos(if bound == 0 { 0 } else { draw(bound) })
        };
        match self {
            Self::Exponential { base, max } => {
                let doublings = number.saturating_sub(1).min(16);
                below(base.saturating_mul(1 << doublings).min(max))
            }
            Self::LowerBound(interval) => interval + below(interval / 2),
            Self::Fixed(interval) => interval,
        }
    }
}

/// Waits that answers ask for by a header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RateLimitedBackoff {
    /// The headers, and what they hold. The first that is there and can be read counts.
    pub headers: Vec<(HeaderName, ResetFormat)>,
    /// A longer wait is not taken. Default 300 s.
    pub max_interval: Duration,
}

/// What a header says of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetFormat {
    /// How many seconds.
    Seconds,
    /// Until which second since 1970.
    UnixTimestamp,
}

impl RateLimitedBackoff {
    /// Envoy's default for the longest wait.
    pub const MAX_INTERVAL: Duration = Duration::from_secs(300);

    /// The wait that an answer asks for.
    #[must_use]
    pub fn interval(&self, headers: &HeaderMap, unix_seconds: u64) -> Option<Duration> {
        self.headers.iter().find_map(|(name, format)| {
            let number: u64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
            let seconds = match format {
                ResetFormat::Seconds => number,
                ResetFormat::UnixTimestamp => number.checked_sub(unix_seconds)?,
            };
            let interval = Duration::from_secs(seconds);
            (interval <= self.max_interval).then_some(interval)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISTIO: Backoff = Backoff::Exponential { base: Duration::from_millis(25), max: Duration::from_millis(250) };

    #[test]
    fn the_wait_is_below_a_doubling_interval() {
        let longest = |number| ISTIO.delay(number, |bound| bound - 1).as_nanos();
        assert_eq!([1, 2, 3, 4, 5, 6].map(longest), [25, 50, 100, 200, 250, 250].map(|ms| ms * 1_000_000 - 1));
        assert_eq!(ISTIO.delay(3, |_| 0), Duration::ZERO);
        assert_eq!(ISTIO.delay(3, |bound| bound / 2), Duration::from_millis(50));
    }

    #[test]
    fn no_interval_no_wait() {
        let none = Backoff::Exponential { base: Duration::ZERO, max: Duration::ZERO };
        assert_eq!(none.delay(1, |_| unreachable!("nothing to draw")), Duration::ZERO);
    }
}
