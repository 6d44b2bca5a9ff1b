//! Axes: where their marks stand and what is written there.

use super::super::units;
use crate::record::Results;

/// Spans between marks of time that people count in, in seconds.
const TIME_STEPS_S: [u64; 16] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800];

/// Times as the page tells them: from the start of the measured time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// The start of the measured time, on the clock of the run.
    pub origin_ms: u64,
}

impl Clock {
    /// The clock of these results.
    pub(super) fn of(results: &Results) -> Self {
        Self { origin_ms: results.measured.start_ms }
    }

    /// An instant of the run, as in `1:07.5`; before the measured time it is negative.
    pub(super) fn tell(self, t_ms: u64) -> String {
        self.signed(t_ms, units::clock)
    }

    /// The same in whole seconds, as in `1:07`.
    pub(super) fn tell_s(self, t_ms: u64) -> String {
        self.signed(t_ms, |millis| units::clock_s(millis / 1_000))
    }

    fn signed(self, t_ms: u64, tell: impl Fn(u64) -> String) -> String {
        match t_ms.checked_sub(self.origin_ms) {
            Some(millis) => tell(millis),
            None => format!("−{}", tell(self.origin_ms - t_ms)),
        }
    }

    /// Instants of the run to mark between two others: round on this clock, `marks_max` at most.
    pub(super) fn marks(self, from_ms: u64, to_ms: u64, marks_max: u64) -> Vec<u64> {
        let span_ms = to_ms.saturating_sub(from_ms);
        let is_wide_enough = |step_s: &u64| span_ms / (step_s * 1_000) < marks_max;
        let days = 86_400 * (span_ms / 86_400_000).div_ceil(marks_max.max(1)).max(1);
        let step_ms = TIME_STEPS_S.into_iter().find(is_wide_enough).unwrap_or(days) * 1_000;
        let first_ms =
            self.origin_ms % step_ms + from_ms.saturating_sub(self.origin_ms % step_ms).div_ceil(step_ms) * step_ms;
        (first_ms..=to_ms).step_by(usize::try_from(step_ms).unwrap_or(usize::MAX)).collect()
    }
}

/// Counts to mark from 0 up to `most` or a little more: four at most, and 0.
pub(super) fn count_marks(most: u64) -> Vec<u64> {
    let mut steps = (0..19).flat_map(|exponent| [1, 2, 5].map(|factor| factor * 10_u64.pow(exponent)));
    let step = steps.find(|step| most.div_ceil(*step) <= 4).unwrap_or(u64::MAX / 4);
    (0..=most.div_ceil(step).max(1)).map(|index| index * step).collect()
}

/// Values to mark on a logarithmic axis that shows `least..=most`: 1, 2, 5, 10, … or, if that is many, powers of ten.
/// The first is not above `least`, the last not below `most`.
pub(super) fn log_marks(least: u64, most: u64) -> Vec<u64> {
    let (least, most) = (least.max(1), most.max(2));
    let take = |factors: &[u64]| {
        let decades = (0..18).map(|exponent| 10_u64.pow(exponent));
        let all: Vec<u64> = decades.flat_map(|decade| factors.iter().map(move |factor| decade * factor)).collect();
        let first = all.iter().rposition(|&value| value <= least).unwrap_or(0);
        let last = all.iter().position(|&value| value >= most).unwrap_or(all.len() - 1).max(first + 1);
        all[first..=last].to_vec()
    };
    let fine = take(&[1, 2, 5]);
    if fine.len() <= 8 { fine } else { take(&[1]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_the_start_of_the_measured_time() {
        let clock = Clock { origin_ms: 10_000 };
        assert_eq!([10_000, 77_540, 4_500].map(|t_ms| clock.tell(t_ms)), ["0:00.0", "1:07.5", "−0:05.5"]);
        assert_eq!(clock.tell_s(77_540), "1:07");
    }

    #[test]
    fn marks_of_time_are_round_on_the_clock_of_the_page() {
        let clock = Clock { origin_ms: 7_000 };
        let told = |from_ms, to_ms, most| -> Vec<String> {
            clock.marks(from_ms, to_ms, most).into_iter().map(|t_ms| clock.tell_s(t_ms)).collect()
        };
        assert_eq!(told(7_000, 187_000, 8), ["0:00", "0:30", "1:00", "1:30", "2:00", "2:30", "3:00"]);
        assert_eq!(told(53_000, 144_000, 10), ["0:50", "1:00", "1:10", "1:20", "1:30", "1:40", "1:50", "2:00", "2:10"]);
        assert_eq!(told(7_000, 7_000, 8), ["0:00"]);
        assert!(told(7_000, 10 * 86_400_000, 8).len() <= 9);
    }

    #[test]
    fn marks_of_counts_reach_the_most() {
        assert_eq!(count_marks(0), [0, 1]);
        assert_eq!(count_marks(3), [0, 1, 2, 3]);
        assert_eq!(count_marks(17), [0, 5, 10, 15, 20]);
        assert_eq!(count_marks(1_234), [0, 500, 1_000, 1_500]);
    }

    #[test]
    fn marks_of_a_logarithmic_axis_enclose_what_is_shown() {
        assert_eq!(log_marks(14_000, 206_000), [10_000, 20_000, 50_000, 100_000, 200_000, 500_000]);
        assert_eq!(log_marks(1, 5_000_000), [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000]);
        assert_eq!(log_marks(0, 0), [1, 2]);
        assert_eq!(log_marks(10, 10), [10, 20]);
    }
}
