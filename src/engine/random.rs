//! Named random streams: one generator per (seed, purpose, entity).
//!
//! Because a stream is found by its name, adding an entity or changing a setting shifts no other stream: two
//! configurations meet the same arrivals and the same service times, request by request (common random numbers).
//!
//! The generator is ChaCha with 8 rounds, keyed by a hash fixed here. Shapes are drawn by inverse distribution function
//! on `libm`, whose results do not depend on the platform, so that a draw is the same bits everywhere.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The source of all streams of a run.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// The streams of the run with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Streams for a part of the run: the same names give other draws than outside it.
    #[must_use]
    pub fn within(&self, part: &str) -> Self {
        Self { seed: self.stream("part", part).bits() }
    }

    /// The stream for one purpose of one entity, such as `("arrivals", "shoppers")`. The same names give the same draws.
    #[must_use]
    pub fn stream(&self, purpose: &str, entity: &str) -> Stream {
        self.names(purpose, entity).stream("")
    }

    /// The streams for one purpose of all entities whose names begin so.
    #[must_use]
    pub fn names(&self, purpose: &str, beginning: &str) -> Names {
        let mut name = Fnv::default();
        name.write(&self.seed.to_le_bytes());
        name.write(purpose.as_bytes());
        // No name contains this byte, so ("a", "bc") and ("ab", "c") differ.
        name.write(&[0xff]);
        name.write(beginning.as_bytes());
        Names(name)
    }
}

/// The streams of entities whose names begin alike.
#[derive(Clone, Copy, Debug)]
pub struct Names(Fnv);

impl Names {
    /// The stream of the entity whose name ends so.
    #[must_use]
    pub fn stream(&self, end: &str) -> Stream {
        let mut name = self.0;
        name.write(end.as_bytes());
        name.stream()
    }

    /// The stream of the entity whose name ends with this number.
    #[must_use]
    pub fn numbered(&self, number: u64) -> Stream {
        let (mut name, mut unit) = (self.0, 1);
        while number / unit >= 10 {
            unit *= 10;
        }
        while unit > 0 {
            let [digit, ..] = (number / unit % 10).to_le_bytes();
            name.write(&[b'0' + digit]);
            unit /= 10;
        }
        name.stream()
    }
}

/// FNV-1a, 64 bit.
#[derive(Clone, Copy, Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The stream of this name.
    fn stream(self) -> Stream {
        let mut state = self.0;
        let mut key = [0; 32];
        for word in key.chunks_exact_mut(8) {
            word.copy_from_slice(&split_mix(&mut state).to_le_bytes());
        }
        Stream { generator: ChaCha8Rng::from_seed(key) }
    }
}

/// One step of `SplitMix64`: spreads a 64-bit name over a 256-bit key.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// One stream of draws.
#[derive(Clone, Debug)]
pub struct Stream {
    generator: ChaCha8Rng,
}

impl Stream {
    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// A whole number uniform over `0..bound`, without bias.
    ///
    /// # Panics
    ///
    /// If `bound` is 0: there is nothing to choose from.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a draw needs at least one choice");
        // Lemire's method: the high half of the product is the draw, and the few low halves that would bias it are redrawn.
        let reject_below = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.bits()) * u128::from(bound);
            let [low, high] = [product & u128::from(u64::MAX), product >> 64]
                .map(|half| u64::try_from(half).expect("half of 128 bits are 64"));
            if low >= reject_below {
                return high;
            }
        }
    }

    /// True in `ppm` of a million draws. Range: 0 (never) to 1 000 000 (always).
    pub fn chance_ppm(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }

    /// Uniform in the open interval (0, 1), in steps of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    /// Exponential with this mean: the gap between Poisson arrivals.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let factor = self.exponential_unit();
        scaled(mean, factor)
    }

    /// Exponential with mean 1.
    pub fn exponential_unit(&mut self) -> f64 {
        -libm::log(self.unit())
    }

    /// Uniform from `min` to `max`, both included.
    ///
    /// # Panics
    ///
    /// If `min` is greater than `max`.
    pub fn uniform(&mut self, min: Duration, max: Duration) -> Duration {
        let width = max.checked_sub(min).expect("a uniform draw needs min <= max");
        let steps = u64::try_from(width.as_nanos()).unwrap_or(u64::MAX - 1);
        min + Duration::from_nanos(self.below(steps + 1))
    }

    /// Lognormal, given by what people measure: its median and its 99th percentile.
    pub fn lognormal(&mut self, p50: Duration, p99: Duration) -> Duration {
        lognormal_quantile(self.unit(), p50, p99)
    }
}

/// Where 64 bits lie in the open interval (0, 1), in steps of 2⁻⁵³.
#[expect(clippy::cast_precision_loss, reason = "53 bits are exact in a double")]
pub(super) fn unit(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) * (1.0 / 9_007_199_254_740_992.0)
}

/// The quantile of a lognormal distribution, given by its median and its 99th percentile; `unit` is in (0, 1).
pub(super) fn lognormal_quantile(unit: f64, p50: Duration, p99: Duration) -> Duration {
    let sigma = libm::log(p99.as_secs_f64() / p50.as_secs_f64()) / NORMAL_P99;
    scaled(p50, libm::exp(sigma * normal_quantile(unit)))
}

/// The 99th percentile of the standard normal distribution.
const NORMAL_P99: f64 = 2.326_347_874_040_841;

/// `span` times `factor`, to the nanosecond; saturates at about 584 years.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a draw has 53 bits; the conversion of a double saturates and is defined alike on every machine"
)]
fn scaled(span: Duration, factor: f64) -> Duration {
    Duration::from_nanos((span.as_nanos() as f64 * factor) as u64)
}

/// The inverse of the standard normal distribution function, for `p` in (0, 1).
///
/// A coarse rational start (Hastings' approximation, error below 5·10⁻⁴) and three Newton steps on `erfc`: every digit
/// comes from the function itself, not from a table of coefficients. Accurate to about 10⁻¹³ over the draws of [`Stream::unit`].
fn normal_quantile(p: f64) -> f64 {
    let tail = p.min(1.0 - p);
    let t = libm::sqrt(-2.0 * libm::log(tail));
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let mut z = t - above / below;
    for _ in 0..3 {
        let excess = 0.5 * libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2) - tail;
        let density = libm::exp(-0.5 * z * z) * 0.398_942_280_401_432_7;
        z += excess / density;
    }
    if p < 0.5 { -z } else { z }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_names_give_the_same_draws_and_other_names_do_not() {
        let draws = |seed, purpose: &str, entity: &str| -> Vec<u64> {
            let mut stream = Streams::new(seed).stream(purpose, entity);
            (0..4).map(|_| stream.bits()).collect()
        };
        assert_eq!(draws(42, "arrivals", "shoppers"), draws(42, "arrivals", "shoppers"));
        for (seed, purpose, entity) in [
            (43, "arrivals", "shoppers"),
            (42, "service", "shoppers"),
            (42, "arrivals", "bots"),
            (42, "arrivalss", "hoppers"),
        ] {
            assert_ne!(draws(42, "arrivals", "shoppers"), draws(seed, purpose, entity), "{seed} {purpose} {entity}");
        }
    }

    #[test]
    fn a_name_in_two_parts_is_the_name() {
        let streams = Streams::new(5);
        let names = streams.names("endpoint", "svc/node-1/");
        for number in [0, 7, 10, 120, u64::MAX] {
            let whole = streams.stream("endpoint", &format!("svc/node-1/{number}")).bits();
            assert_eq!(names.numbered(number).bits(), whole, "{number}");
            assert_eq!(names.stream(&number.to_string()).bits(), whole, "{number}");
        }
    }

    /// Pins the draws themselves: results published for a seed must not change with a dependency.
    #[test]
    fn the_first_draws_of_seed_1_never_change() {
        let mut stream = Streams::new(1).stream("arrivals", "a");
        assert_eq!([stream.bits(), stream.bits()], [10_195_597_017_247_342_530, 8_583_705_178_153_695_751]);
    }

    #[test]
    fn a_bounded_draw_covers_its_range_evenly() {
        let mut stream = Streams::new(7).stream("below", "");
        let mut counts = [0_u32; 5];
        for _ in 0..50_000 {
            counts[usize::try_from(stream.below(5)).unwrap()] += 1;
        }
        for count in counts {
            assert!((9_600..10_400).contains(&count), "{counts:?}");
        }
        assert_eq!(stream.below(1), 0);
    }

    #[test]
    fn the_edges_of_chance_are_never_and_always() {
        let mut stream = Streams::new(7).stream("chance", "");
        for _ in 0..1000 {
            assert!(!stream.chance_ppm(0));
            assert!(stream.chance_ppm(1_000_000));
        }
    }

    #[test]
    fn normal_quantiles_match_the_published_table() {
        for (p, z) in [
            (0.5, 0.0),
            (0.9, 1.281_551_565_544_600_4),
            (0.99, NORMAL_P99),
            (0.999, 3.090_232_306_167_813_5),
            (0.01, -NORMAL_P99),
        ] {
            let got = normal_quantile(p);
            assert!((got - z).abs() < 1e-12, "quantile of {p}: {got}, want {z}");
        }
        assert!(normal_quantile(1e-16).is_finite());
    }

    #[test]
    fn shapes_have_the_moments_they_were_asked_for() {
        const DRAWS: u32 = 200_000;
        let mut stream = Streams::new(3).stream("shapes", "");
        let mean = Duration::from_millis(10);
        let total: Duration = (0..DRAWS).map(|_| stream.exponential(mean)).sum();
        let ratio = (total / DRAWS).as_secs_f64() / mean.as_secs_f64();
        assert!((0.99..1.01).contains(&ratio), "mean of exponential draws: {ratio} of what was asked");

        let [p50, p99] = [Duration::from_millis(12), Duration::from_millis(140)];
        let draws: Vec<Duration> = (0..DRAWS).map(|_| stream.lognormal(p50, p99)).collect();
        let above = |limit| draws.iter().filter(|draw| **draw > limit).count();
        assert!((99_000..101_000).contains(&above(p50)), "{} above the median", above(p50));
        assert!((1_850..2_150).contains(&above(p99)), "{} above the 99th percentile", above(p99));

        let [min, max] = [Duration::from_nanos(5), Duration::from_nanos(7)];
        let seen: std::collections::BTreeSet<_> = (0..1000).map(|_| stream.uniform(min, max).as_nanos()).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [5, 6, 7]);
    }
}
