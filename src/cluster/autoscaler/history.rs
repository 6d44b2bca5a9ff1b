//! Recommendations, and how recent ones hold back a change.
//!
//! What is stored is each sync's own recommendation, before any limit.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/podautoscaler/horizontal.go `stabilizeRecommendation`, `stabilizeRecommendationWithBehaviors`;
//! v1.20.2, the same file.

use std::time::Duration;

use super::rules::Rules;
use crate::units::SimTime;

/// What recent syncs recommended, in slots: one that is too old gives its place to the next.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Recommendations {
    /// The slots.
    pub entries: Vec<Recommendation>,
}

/// What a sync recommended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recommendation {
    /// So many pods.
    pub replicas: i32,
    /// When.
    pub at: SimTime,
}

impl Recommendations {
    /// Without `behavior`: the greatest recommendation of the window, which counts to its very end. It can be above what is wanted now.
    pub fn stabilize(&mut self, desired: i32, window: Duration, now: SimTime) -> i32 {
        let recent = self.entries.iter().filter(|entry| now.since(entry.at) <= window);
        let greatest = recent.map(|entry| entry.replicas).fold(desired, i32::max);
        self.store(desired, window, now);
        greatest
    }

    /// With `behavior`: the size within the windows of both directions, and the reason if it differs from the recommendation.
    pub fn stabilize_both(
        &mut self,
        current: i32,
        desired: i32,
        windows: Windows,
        rules: &Rules,
        now: SimTime,
    ) -> (i32, &'static str) {
        let grows = desired >= current;
        let recent = |window: Duration| {
            let entries = self.entries.iter().filter(move |entry| now.since(entry.at) < window);
            entries.map(|entry| entry.replicas)
        };
        let stabilized = if rules.stabilizes_between_bounds() {
            let at_least = recent(windows.up).fold(desired, i32::min);
            let at_most = recent(windows.down).fold(desired, i32::max);
            current.max(at_least).min(at_most)
        } else if grows {
            recent(windows.up).fold(desired, i32::min)
        } else {
            recent(windows.down).fold(desired, i32::max)
        };
        self.store(desired, windows.up.max(windows.down), now);
        (stabilized, if grows { "ScaleUpStabilized" } else { "ScaleDownStabilized" })
    }

    fn store(&mut self, replicas: i32, longest: Duration, now: SimTime) {
        let fresh = Recommendation { replicas, at: now };
        match self.entries.iter_mut().rfind(|entry| now.since(entry.at) > longest) {
            Some(slot) => *slot = fresh,
            None => self.entries.push(fresh),
        }
    }
}

/// How long recommendations count, by direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Windows {
    /// Towards more pods.
    pub up: Duration,
    /// Towards fewer.
    pub down: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::version::Version;

    /// Three pods; a minute ago seven were recommended, now two are. Both windows are five minutes.
    fn after_a_peak(version: Version) -> (i32, &'static str) {
        let now = SimTime::ZERO.after(Duration::from_secs(600));
        let peak = Recommendation { replicas: 7, at: SimTime::ZERO.after(Duration::from_secs(540)) };
        let window = Duration::from_secs(300);
        let mut history = Recommendations { entries: vec![peak] };
        history.stabilize_both(3, 2, Windows { up: window, down: window }, &Rules::of(version), now)
    }

    #[test]
    fn an_old_peak_no_longer_leads_away_from_what_is_wanted() {
        assert_eq!(after_a_peak(Version::new(1, 20)), (7, "ScaleDownStabilized"));
        assert_eq!(after_a_peak(Version::new(1, 21)), (3, "ScaleDownStabilized"));
    }
}
