//! When requests are due: a rate that changes over time, and gaps that are even or random.
//!
//! The rate is a list of segments, each linear. With [`Pacing::Constant`] request `i` is due when the integral of the rate
//! reaches `i` (the first at once); with [`Pacing::Poisson`] the integral between two requests is exponential with mean 1,
//! which is exact for changing rates too (time change of a Poisson process). [`Pacing::Listed`] replays times that were recorded.

use std::rc::Rc;
use std::time::Duration;

use crate::engine::Stream;

/// How gaps between requests are drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pacing {
    /// Evenly, as a metronome.
    Constant,
    /// Independently: what many users make together.
    Poisson,
    /// At these times, in order, whatever the rate.
    Listed(Rc<[Duration]>),
}

/// A stretch of the load in which the rate runs linearly from one value to another.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RateSegment {
    /// How long it lasts.
    pub duration: Duration,
    /// Requests per second at its start.
    pub from_per_s: f64,
    /// Requests per second at its end.
    pub to_per_s: f64,
}

impl RateSegment {
    /// Requests due within the first `elapsed_s` seconds of the segment.
    fn count_after(&self, elapsed_s: f64) -> f64 {
        let slope = (self.to_per_s - self.from_per_s) / self.duration.as_secs_f64();
        elapsed_s * (self.from_per_s + 0.5 * slope * elapsed_s)
    }

    /// Seconds into the segment at which `count` requests have been due; `count` is at most what the segment holds.
    fn elapsed_s_at(&self, count: f64) -> f64 {
        let slope = (self.to_per_s - self.from_per_s) / self.duration.as_secs_f64();
        // The root of count = from·t + slope/2·t² in the form that does not cancel, and that holds for slope 0.
        let root = libm::sqrt((self.from_per_s * self.from_per_s + 2.0 * slope * count).max(0.0));
        let sum = self.from_per_s + root;
        if sum > 0.0 { 2.0 * count / sum } else { 0.0 }
    }
}

/// The due times of one load, as offsets from its start, in order.
#[derive(Debug)]
pub struct Arrivals {
    segments: Vec<RateSegment>,
    pacing: Pacing,
    stream: Stream,
    /// The segment of the next request, and the start of that segment in seconds and in requests.
    segment_index: usize,
    segment_start_s: f64,
    segment_start_count: f64,
    /// The integral of the rate at which the next request is due.
    due_count: f64,
    /// The next of the listed times.
    listed_index: usize,
}

impl Arrivals {
    /// The arrivals of these segments, one after the other.
    #[must_use]
    pub fn new(segments: Vec<RateSegment>, pacing: Pacing, mut stream: Stream) -> Self {
        let due_count = match &pacing {
            Pacing::Constant | Pacing::Listed(_) => 0.0,
            Pacing::Poisson => stream.exponential_unit(),
        };
        Self {
            segments,
            pacing,
            stream,
            segment_index: 0,
            segment_start_s: 0.0,
            segment_start_count: 0.0,
            due_count,
            listed_index: 0,
        }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if let Pacing::Listed(times) = &self.pacing {
            self.listed_index += 1;
            return times.get(self.listed_index - 1).copied();
        }
        loop {
            let segment = self.segments.get(self.segment_index)?;
            let length_s = segment.duration.as_secs_f64();
            let segment_count = segment.count_after(length_s);
            let count = self.due_count - self.segment_start_count;
            // A request due exactly at a border belongs to the segment that begins there.
            if count < segment_count - 1e-9 {
                let at_s = self.segment_start_s + segment.elapsed_s_at(count);
                self.due_count += match &self.pacing {
                    Pacing::Constant | Pacing::Listed(_) => 1.0,
                    Pacing::Poisson => self.stream.exponential_unit(),
                };
                return Some(nanos(at_s));
            }
            self.segment_index += 1;
            self.segment_start_s += length_s;
            self.segment_start_count += segment_count;
        }
    }
}

/// Seconds as a span, rounded to the nanosecond.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "due times are not negative and far below 584 years; the conversion saturates"
)]
fn nanos(seconds: f64) -> Duration {
    Duration::from_nanos((seconds * 1e9 + 0.5) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Streams;

    fn segment(seconds: u64, from_per_s: f64, to_per_s: f64) -> RateSegment {
        RateSegment { duration: Duration::from_secs(seconds), from_per_s, to_per_s }
    }

    #[test]
    fn listed_times_are_replayed_whatever_the_rate() {
        let times: Vec<Duration> = [5, 7, 7].map(Duration::from_millis).to_vec();
        assert_eq!(arrivals(Pacing::Listed(times.clone().into()), &[segment(1, 0.0, 0.0)]), times);
    }

    fn arrivals(pacing: Pacing, segments: &[RateSegment]) -> Vec<Duration> {
        Arrivals::new(segments.to_vec(), pacing, Streams::new(1).stream("arrivals", "test")).collect()
    }

    #[test]
    fn an_even_load_sends_exactly_rate_times_duration() {
        for (rate, count) in [(550.0, 5500), (900.0, 9000), (0.5, 5), (0.0, 0)] {
            let due = arrivals(Pacing::Constant, &[segment(10, rate, rate)]);
            assert_eq!(due.len(), count, "at {rate}/s");
        }
        let due = arrivals(Pacing::Constant, &[segment(1, 300.0, 300.0)]);
        assert_eq!(due[..3], [0, 3_333_333, 6_666_667].map(Duration::from_nanos));
    }

    #[test]
    fn a_ramp_sends_its_mean_rate_and_segments_join_without_a_gap() {
        let due = arrivals(Pacing::Constant, &[segment(10, 0.0, 100.0), segment(10, 100.0, 100.0)]);
        assert_eq!(due.len(), 500 + 1000);
        assert_eq!(due[500], Duration::from_secs(10));
        assert_eq!(due[501], Duration::from_millis(10_010));
        assert!(due.is_sorted());
        // Half of the ramp's requests are due after 1/√2 of its time.
        assert_eq!(due[250].as_millis(), 7071);
    }

    #[test]
    fn a_poisson_load_has_the_mean_and_the_variance_of_one() {
        let due = arrivals(Pacing::Poisson, &[segment(1000, 100.0, 100.0)]);
        assert!((99_000..101_000).contains(&due.len()), "{} in 1000 s at 100/s", due.len());
        let mut per_second = vec![0_u32; 1000];
        for at in &due {
            per_second[usize::try_from(at.as_secs()).unwrap()] += 1;
        }
        let variance = per_second.iter().map(|count| (f64::from(*count) - 100.0).powi(2)).sum::<f64>() / 1000.0;
        assert!((85.0..115.0).contains(&variance), "variance {variance} of counts with mean 100");
    }
}
