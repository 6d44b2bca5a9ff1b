//! Quantities with their units in the type: an instant of virtual time cannot be mistaken for a span or a count. And [`Signal`], the one
//! thing tasks wait for that needs no executor of its own.

mod signal;

use std::fmt;
use std::time::Duration;

pub use signal::Signal;

/// An instant of virtual time: nanoseconds since the start of the run.
///
/// Range: 0 to about 584 years. A span is a [`Duration`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct SimTime(u64);

impl SimTime {
    /// The start of the run.
    pub const ZERO: Self = Self(0);
    /// The last instant there is; nothing happens after it.
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time elapsed from `earlier` to `self`.
    ///
    /// # Panics
    ///
    /// If `earlier` is later than `self`: virtual time never runs backwards.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = self.0.checked_sub(earlier.0);
        Duration::from_nanos(nanos.expect("virtual time never runs backwards"))
    }

    /// The instant `span` later, or [`SimTime::MAX`] if that is out of range.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// Seconds with all nine digits, as in `12.000000001s`.
impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_adds_and_subtracts_spans() {
        let at = SimTime::from_nanos(5).after(Duration::from_secs(2));
        assert_eq!(at.as_nanos(), 2_000_000_005);
        assert_eq!(at.since(SimTime::from_nanos(5)), Duration::from_secs(2));
        assert_eq!(at.to_string(), "2.000000005s");
    }

    #[test]
    fn the_far_future_saturates() {
        assert_eq!(SimTime::from_nanos(1).after(Duration::MAX), SimTime::MAX);
    }

    #[test]
    #[should_panic(expected = "never runs backwards")]
    fn time_does_not_run_backwards() {
        let _ = SimTime::ZERO.since(SimTime::from_nanos(1));
    }
}
