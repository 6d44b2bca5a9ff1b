//! How long something takes: a constant, or a distribution given by what people can measure.

use std::time::Duration;

use super::Stream;
use super::random::{lognormal_quantile, unit};

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

/// A delay whose draws are compared with spans, most of them without being worked out to the end: the quantile of a lognormal distribution costs more than all
/// else about a draw.
#[derive(Clone, Debug)]
pub struct Spread {
    delay: Delay,
    /// The quantiles of 0, 1/256 … 1, where working one out costs something.
    quantiles: Vec<Duration>,
}

/// Far more than what rounding makes of a quantile, so that two of them are in the order of their ranks.
const MARGIN: Duration = Duration::from_micros(1);

impl Spread {
    /// The draws of this delay.
    #[must_use]
    pub fn new(delay: Delay) -> Self {
        let quantiles = match delay {
            Delay::Lognormal { p50, p99 } => {
                let inner = (1..=u8::MAX).map(|rank| lognormal_quantile(f64::from(rank) / 256.0, p50, p99));
                std::iter::once(Duration::ZERO).chain(inner).chain([Duration::MAX]).collect()
            }
            _ => Vec::new(),
        };
        Self { delay, quantiles }
    }

    /// One draw.
    ///
    /// # Panics
    ///
    /// As [`Delay::draw`].
    pub fn draw(&self, stream: &mut Stream) -> Duration {
        self.delay.draw(stream)
    }

    /// Whether one draw is at most `span`.
    ///
    /// # Panics
    ///
    /// As [`Delay::draw`].
    pub fn is_within(&self, span: Duration, stream: &mut Stream) -> bool {
        let Delay::Lognormal { p50, p99 } = self.delay else { return self.delay.draw(stream) <= span };
        let bits = stream.bits();
        let rank = usize::try_from(bits >> 56).expect("eight bits");
        if self.quantiles[rank + 1].saturating_add(MARGIN) <= span {
            true
        } else if self.quantiles[rank] > span.saturating_add(MARGIN) {
            false
        } else {
            lognormal_quantile(unit(bits), p50, p99) <= span
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Streams;

    /// What is told without working a draw out is what the draw says, to the nanosecond.
    #[test]
    fn a_draw_is_within_what_it_is_at_most() {
        let millis = Duration::from_millis;
        let streams = Streams::new(3);
        for delay in [
            Delay::Lognormal { p50: millis(300), p99: millis(2000) },
            Delay::Lognormal { p50: millis(300), p99: millis(300) },
            Delay::Uniform { min: millis(1), max: millis(9) },
            Delay::Constant(millis(4)),
        ] {
            let spread = Spread::new(delay.clone());
            for number in 0..5000 {
                let names = streams.names("delay", "d");
                let draw = delay.draw(&mut names.numbered(number));
                assert_eq!(spread.draw(&mut names.numbered(number)), draw);
                let within = |span| spread.is_within(span, &mut names.numbered(number));
                assert!(within(draw) && within(draw * 2) && within(Duration::MAX), "{delay:?} {number}");
                assert!(!within(draw - Duration::from_nanos(1)) && !within(Duration::ZERO), "{delay:?} {number}");
            }
        }
    }

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
