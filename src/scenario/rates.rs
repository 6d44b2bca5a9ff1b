//! Rates of loads that the timeline changes in mid-run.

use std::time::Duration;

use crate::load::RateSegment;

/// The segments, multiplied by the factor of the last change before each moment. A factor is of the rate as it is written: a later `1` brings it
/// back. `changes` are in the order of their times.
pub(super) fn scaled(segments: &[RateSegment], changes: &[(Duration, f64)]) -> Vec<RateSegment> {
    let mut scaled = Vec::new();
    let mut begins_at = Duration::ZERO;
    for segment in segments {
        let ends_at = begins_at.saturating_add(segment.duration);
        let mut cuts: Vec<Duration> =
            changes.iter().map(|(at, _)| *at).filter(|at| *at > begins_at && *at < ends_at).collect();
        cuts.insert(0, begins_at);
        cuts.push(ends_at);
        for pair in cuts.windows(2) {
            if pair[1] == pair[0] {
                continue;
            }
            let factor = changes.iter().rev().find(|(at, _)| *at <= pair[0]).map_or(1.0, |(_, factor)| *factor);
            scaled.push(RateSegment {
                duration: pair[1] - pair[0],
                from_per_s: rate_at(segment, pair[0] - begins_at) * factor,
                to_per_s: rate_at(segment, pair[1] - begins_at) * factor,
            });
        }
        begins_at = ends_at;
    }
    scaled
}

/// The rate of a segment so long after its begin. A level one is exactly level.
fn rate_at(segment: &RateSegment, after: Duration) -> f64 {
    if segment.from_per_s.to_bits() == segment.to_per_s.to_bits() || after.is_zero() {
        return segment.from_per_s;
    }
    let part = after.as_secs_f64() / segment.duration.as_secs_f64();
    segment.from_per_s + (segment.to_per_s - segment.from_per_s) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(seconds: u64, from_per_s: f64, to_per_s: f64) -> RateSegment {
        RateSegment { duration: Duration::from_secs(seconds), from_per_s, to_per_s }
    }

    fn check(segments: &[RateSegment], changes: &[(u64, f64)], expected: &[(u64, f64, f64)]) {
        let changes: Vec<_> = changes.iter().map(|(at, factor)| (Duration::from_secs(*at), *factor)).collect();
        let scaled = scaled(segments, &changes);
        let told: Vec<_> =
            scaled.iter().map(|part| (part.duration.as_secs(), part.from_per_s, part.to_per_s)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_change_holds_from_its_moment_until_the_next() {
        let level = [segment(60, 100.0, 100.0)];
        check(&level, &[], &[(60, 100.0, 100.0)]);
        check(&level, &[(20, 2.0), (40, 1.0)], &[(20, 100.0, 100.0), (20, 200.0, 200.0), (20, 100.0, 100.0)]);
        check(&level, &[(0, 0.5)], &[(60, 50.0, 50.0)]);
        check(&level, &[(60, 9.0)], &[(60, 100.0, 100.0)]);
    }

    #[test]
    fn slopes_are_cut_where_they_are() {
        let slope = [segment(10, 0.0, 100.0), segment(10, 100.0, 100.0)];
        check(&slope, &[(5, 2.0)], &[(5, 0.0, 50.0), (5, 100.0, 200.0), (10, 200.0, 200.0)]);
    }
}
