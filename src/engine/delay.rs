//! How long something takes: a constant, or a distribution given by what people can measure.

use std::time::Duration;

use super::Stream;

/// A span that is the same each time, or drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delay {
    /// Always the same.
    Constant(Duration),
    /// Lognormal with this median and 99th percentile: the shape of most latencies.
    Lognormal {
        /// The median.
        p50: Duration,
        /// The 99th percentile.
        p99: Duration,
    },
    /// Exponential with this mean.
    Exponential {
        /// The mean.
        mean: Duration,
    },
    /// Uniform between two bounds, both included.
    Uniform {
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// One of these, each as likely as the others. Not empty.
    Values(Vec<Duration>),
}

impl Delay {
    /// No time at all.
    pub const ZERO: Self = Self::Constant(Duration::ZERO);

    /// One draw.
    ///
    /// # Panics
    ///
    /// If there are no values to choose from, or a minimum exceeds its maximum: the scenario's checks exclude both.
    pub fn draw(&self, stream: &mut Stream) -> Duration {
        match self {
            Self::Constant(span) => *span,
            Self::Lognormal { p50, p99 } => stream.lognormal(*p50, *p99),
            Self::Exponential { mean } => stream.exponential(*mean),
            Self::Uniform { min, max } => stream.uniform(*min, *max),
            Self::Values(values) => {
                let count = u64::try_from(values.len()).unwrap_or(u64::MAX);
                values[usize::try_from(stream.below(count)).expect("an index below a length")]
            }
        }
    }

    /// Whether every draw is the same.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Streams;

    #[test]
    fn draws_stay_within_what_was_asked() {
        let [two, five] = [Duration::from_secs(2), Duration::from_secs(5)];
        let mut stream = Streams::new(1).stream("delay", "");
        for _ in 0..1000 {
            assert_eq!(Delay::Constant(two).draw(&mut stream), two);
            assert!((two..=five).contains(&Delay::Uniform { min: two, max: five }.draw(&mut stream)));
            assert!([two, five].contains(&Delay::Values(vec![two, five]).draw(&mut stream)));
        }
        assert!(Delay::Constant(two).is_constant() && !Delay::Exponential { mean: two }.is_constant());
    }
}
