//! What a row of paired figures proves: nothing, or that one side is better.
//!
//! # Pairs
//!
//! Both sides of a pair meet the same arrivals: streams of random numbers are named after the component that draws from
//! them, so a change of the gateway does not shift the load ("common random numbers"). The difference within a pair is
//! therefore an effect of the change, not of a luckier hour. What is left of chance is how the change happens to meet
//! these particular arrivals, which another seed would answer differently. Hence two rules:
//!
//! - **1 to 4 pairs**: the verdict speaks about *these seeds only*. Two runs of one seed are two exact counts, so any
//!   difference beyond the precision of the figure is real, but there are too few seeds to say what a sixth would do: even
//!   four that agree come out of fair coins once in eight times. A side is better if it is better in *every* pair; one
//!   that ties or disagrees leaves the row not proven. Reports say that fewer than five seeds were run.
//! - **5 pairs or more** ([`SIGN_TEST_PAIRS`]): the exact sign test, two-sided, at p ≤ 1/16 ([`SIGN_TEST_P`]). Pairs that
//!   tie are left out of it, as the test prescribes. Five pairs that all agree just pass (2/32); 7 of 8 do not (18/256); 8
//!   of 9 do (20/512).
//!
//! Why the sign test and not a t-test: lost requests are mostly zeros with a few large numbers, far from a normal
//! distribution, and the sign test asks for no distribution at all. It looks at the direction of a difference and not at
//! its size, so it errs on the side of "not proven". Why 1/16: it is what five seeds, which take seconds, can prove at best;
//! a usual 0.05 would need six. It also means that of sixteen rows that differ by pure chance, one is expected to be called
//! better or worse; the gate of [`Comparison::regressed`](super::Comparison::regressed) looks at four of them, in one
//! direction.
//!
//! # Precision
//!
//! A difference smaller than what the figure can show is a tie, see [`Precision`]. A tie is not `identical`: that word
//! is kept for pairs that are equal to the last digit.
//!
//! # What is left out
//!
//! A pair with a figure on one side only (no rollout there, nothing answered) proves nothing, and neither does its row:
//! such a row is never better or worse, whatever its other pairs say.
//!
//! Source: W. J. Dixon, A. M. Mood, "The Statistical Sign Test", Journal of the American Statistical Association 41 (1946).

use std::cmp::Ordering;

use serde::Serialize;

/// From this many pairs on, the sign test decides.
pub const SIGN_TEST_PAIRS: usize = 5;

/// Highest p, two-sided, at which the sign test calls a difference proven.
pub const SIGN_TEST_P: f64 = 0.0625;

/// What is known about head, seen from base.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All pairs are equal to the last digit.
    Identical,
    /// Head is better.
    Better,
    /// Head is worse.
    Worse,
    /// There are differences, but they do not prove that a side is better.
    NotProven,
}

impl Verdict {
    /// In words.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NotProven => "not proven",
        }
    }

    /// Seen from the other side.
    #[must_use]
    pub fn swapped(self) -> Self {
        match self {
            Self::Better => Self::Worse,
            Self::Worse => Self::Better,
            same => same,
        }
    }
}

/// Which figures one wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Low ones.
    Lower,
    /// High ones.
    Higher,
    /// No matter: the row shows a change and has no opinion on it.
    Neither,
}

/// The smallest difference a figure can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    /// Any: the figure is a count, or a quotient of two.
    Exact,
    /// A thousandth of the larger figure, as histograms keep three significant digits: neighbouring buckets are up to
    /// 1/1024 apart, and two latencies a microsecond apart may fall into both of them.
    ThreeDigits,
    /// More than one: figures are rounded down to whole milliseconds, so a difference of one may be a nanosecond.
    WholeMillis,
}

/// Pairs of a row, sorted by what they say about head.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Signs {
    /// Head is better.
    pub better: usize,
    /// Head is worse.
    pub worse: usize,
    /// The difference is below the precision.
    pub tied: usize,
    /// Of those: equal to the last digit.
    pub equal: usize,
    /// There is a figure on one side only.
    pub half: usize,
}

impl Signs {
    /// Of `(base, head)` pairs; a pair without any figure is no pair.
    pub(super) fn of(
        pairs: impl Iterator<Item = (Option<f64>, Option<f64>)>,
        better: Better,
        precision: Precision,
    ) -> Self {
        let mut signs = Self::default();
        for pair in pairs {
            let (base, head) = match pair {
                (Some(base), Some(head)) => (base, head),
                (None, None) => continue,
                _ => {
                    signs.half += 1;
                    continue;
                }
            };
            let order = head.total_cmp(&base);
            if order == Ordering::Equal {
                signs.equal += 1;
            }
            if better == Better::Neither || is_tie(base, head, precision) {
                signs.tied += 1;
            } else if (order == Ordering::Less) == (better == Better::Lower) {
                signs.better += 1;
            } else {
                signs.worse += 1;
            }
        }
        signs
    }

    /// Pairs with figures on both sides.
    pub(super) fn pairs(self) -> usize {
        self.better + self.worse + self.tied
    }

    /// What they prove; none if no pair is complete, or if it does not matter which figure is higher and they differ.
    pub(super) fn verdict(self, better: Better) -> Option<Verdict> {
        let pairs = self.pairs();
        if pairs == 0 {
            None
        } else if self.half == 0 && self.equal == pairs {
            Some(Verdict::Identical)
        } else if better == Better::Neither {
            None
        } else if self.half == 0 && self.is_proven() {
            Some(if self.better > self.worse { Verdict::Better } else { Verdict::Worse })
        } else {
            Some(Verdict::NotProven)
        }
    }

    fn is_proven(self) -> bool {
        if self.pairs() < SIGN_TEST_PAIRS {
            self.better == self.pairs() || self.worse == self.pairs()
        } else {
            sign_test_p(self.better, self.worse) <= SIGN_TEST_P
        }
    }
}

fn is_tie(base: f64, head: f64, precision: Precision) -> bool {
    let difference = (head - base).abs();
    match precision {
        Precision::Exact => difference <= 0.0,
        // Multiplied and not divided, so that whole microseconds are compared without rounding.
        Precision::ThreeDigits => difference * 1_000.0 <= base.abs().max(head.abs()),
        Precision::WholeMillis => difference <= 1.0,
    }
}

/// Chance that fair coins are at least as lopsided as this, in either direction.
fn sign_test_p(better: usize, worse: usize) -> f64 {
    let tosses = better + worse;
    let scale = libm::ldexp(1.0, SCALE_BITS);
    // The sum of the binomial coefficients up to the smaller count, as `sum * 2^exponent`: for thousands of seeds it
    // exceeds the range of a float. Scaling by powers of two rounds nothing, so that p is exact where it matters.
    let (mut sum, mut term, mut exponent) = (0.0_f64, 1.0_f64, 0_i32);
    for index in 0..=better.min(worse) {
        sum += term;
        term *= float(tosses - index) / float(index + 1);
        if sum.max(term) > scale {
            (sum, term, exponent) = (sum / scale, term / scale, exponent + SCALE_BITS);
        }
    }
    let halvings = i32::try_from(tosses).expect("a comparison has fewer than two thousand million seeds");
    libm::ldexp(sum, exponent + 1 - halvings).min(1.0)
}

/// Far below the range of a float, far above any coefficient that needs to be exact.
const SCALE_BITS: i32 = 256;

fn float(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seeds are few")]
    let float = count as f64;
    float
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict over pairs that are all complete.
    #[track_caller]
    fn check(better: Better, precision: Precision, pairs: &[(f64, f64)], expected: Option<Verdict>) {
        let judged = |swap: bool| {
            let pairs = pairs.iter().map(|&(base, head)| if swap { (head, base) } else { (base, head) });
            Signs::of(pairs.map(|(base, head)| (Some(base), Some(head))), better, precision).verdict(better)
        };
        assert_eq!(judged(false), expected, "{pairs:?}");
        assert_eq!(judged(true), expected.map(Verdict::swapped), "{pairs:?} swapped");
    }

    #[test]
    fn few_seeds_must_all_agree() {
        let lost = |pairs: &[(f64, f64)], expected| check(Better::Lower, Precision::Exact, pairs, Some(expected));
        lost(&[(9.0, 9.0)], Verdict::Identical);
        lost(&[(9.0, 8.0)], Verdict::Better);
        lost(&[(0.0, 1.0)], Verdict::Worse);
        lost(&[(9.0, 8.0), (9.0, 1.0), (2.0, 1.0), (7.0, 0.0)], Verdict::Better);
        lost(&[(9.0, 8.0), (9.0, 1.0), (2.0, 1.0), (7.0, 7.0)], Verdict::NotProven);
        lost(&[(9.0, 8.0), (8.0, 9.0)], Verdict::NotProven);
    }

    #[test]
    fn from_five_seeds_on_the_sign_test_decides() {
        let lost = |better: usize, worse: usize, tied: usize, expected| {
            let pairs = [vec![(2.0, 1.0); better], vec![(1.0, 2.0); worse], vec![(3.0, 3.0); tied]].concat();
            check(Better::Lower, Precision::Exact, &pairs, Some(expected));
        };
        lost(5, 0, 0, Verdict::Better);
        lost(4, 1, 0, Verdict::NotProven);
        lost(0, 5, 0, Verdict::Worse);
        lost(7, 1, 0, Verdict::NotProven);
        lost(8, 1, 0, Verdict::Better);
        // Ties count neither way: four signs of nine pairs are four tosses.
        lost(4, 0, 5, Verdict::NotProven);
        lost(5, 0, 5, Verdict::Better);
        lost(0, 0, 9, Verdict::Identical);
    }

    #[test]
    fn high_figures_can_be_the_good_ones() {
        check(Better::Higher, Precision::Exact, &[(3.0, 4.0)], Some(Verdict::Better));
        check(Better::Higher, Precision::Exact, &[(4.0, 3.0)], Some(Verdict::Worse));
    }

    #[test]
    fn a_row_without_an_opinion_is_identical_or_nothing() {
        check(Better::Neither, Precision::Exact, &[(3.0, 3.0)], Some(Verdict::Identical));
        check(Better::Neither, Precision::Exact, &[(3.0, 4.0)], None);
    }

    #[test]
    fn differences_below_the_precision_are_ties() {
        let time = |precision, base, head, expected| check(Better::Lower, precision, &[(base, head)], Some(expected));
        time(Precision::ThreeDigits, 250_000.0, 250_250.0, Verdict::NotProven);
        time(Precision::ThreeDigits, 250_000.0, 250_251.0, Verdict::Worse);
        time(Precision::ThreeDigits, 500.0, 501.0, Verdict::Worse);
        time(Precision::ThreeDigits, 0.0, 0.0, Verdict::Identical);
        time(Precision::WholeMillis, 58_500.0, 58_501.0, Verdict::NotProven);
        time(Precision::WholeMillis, 58_500.0, 58_502.0, Verdict::Worse);
        // Many ties prove no more than one.
        check(Better::Lower, Precision::ThreeDigits, &[(250_000.0, 250_001.0); 9], Some(Verdict::NotProven));
    }

    #[test]
    fn a_figure_on_one_side_only_proves_nothing() {
        let verdict = |pairs: &[(Option<f64>, Option<f64>)]| {
            Signs::of(pairs.iter().copied(), Better::Lower, Precision::Exact).verdict(Better::Lower)
        };
        assert_eq!(verdict(&[(None, None)]), None);
        assert_eq!(verdict(&[(Some(3.0), None)]), None);
        assert_eq!(verdict(&[(Some(3.0), Some(3.0)), (None, Some(3.0))]), Some(Verdict::NotProven));
        assert_eq!(verdict(&[(Some(3.0), Some(2.0)), (None, Some(3.0))]), Some(Verdict::NotProven));
        // A pair without any figure is no pair.
        assert_eq!(verdict(&[(Some(3.0), Some(2.0)), (None, None)]), Some(Verdict::Better));
    }

    #[test]
    fn the_sign_test_is_exact() {
        let cases =
            [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2.0 / 32.0), (7, 1, 18.0 / 256.0), (8, 1, 20.0 / 512.0), (3, 3, 1.0)];
        for (better, worse, expected) in cases {
            assert!((sign_test_p(better, worse) - expected).abs() < 1e-15, "{better} to {worse}");
            assert!((sign_test_p(worse, better) - expected).abs() < 1e-15, "{worse} to {better}");
        }
        // With the correction for whole numbers 1.85 and 1.89 standard deviations: p is about 0.064 and 0.059.
        assert!(sign_test_p(5_093, 4_907) > SIGN_TEST_P && sign_test_p(5_095, 4_905) < SIGN_TEST_P);
    }
}
