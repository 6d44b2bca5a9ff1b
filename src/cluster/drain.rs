//! Emptying a node, as `kubectl drain` does it.
//!
//! The node is cordoned, and all its pods are asked to go at once. Who is refused for its budget is asked again after five seconds, any other
//! refusal ends the drain of that pod. Then the drain looks once a second whether the evicted pods are gone. A timeout ends
//! the waiting and undoes nothing.
//!
//! The real command asks for all evictions side by side; here they are asked for in the order of the pods' names, in one instant.
//! Source: kubernetes/kubectl pkg/drain/drain.go (`evictPods`, `waitForDelete`), as of v1.28.

use std::time::Duration;

use super::disruption::Answer;
use crate::units::SimTime;

/// From a refusal to the next try. Source: drain.go.
pub const RETRY: Duration = Duration::from_secs(5);
/// How often an evicted pod is looked for. Source: drain.go `waitForDelete`.
pub const POLL: Duration = Duration::from_secs(1);

/// How a node is emptied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrainSettings {
    /// Grace of the evictions, in seconds; none: each pod's own.
    pub grace_seconds: Option<u32>,
    /// From a refusal to the next try.
    pub retry: Duration,
    /// How long who is refused is asked again; none: to the end.
    pub retry_for: Option<Duration>,
    /// When it is given up; none: never.
    pub timeout: Option<Duration>,
}

/// As `kubectl drain` without options.
impl Default for DrainSettings {
    fn default() -> Self {
        Self { grace_seconds: None, retry: RETRY, retry_for: None, timeout: None }
    }
}

/// What follows an answer to an eviction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The pod is on its way: its end is looked for, from now on once per [`POLL`].
    Await,
    /// It is asked again then.
    Retry(SimTime),
    /// This pod stays.
    GiveUp,
}

/// What a drain that began at `began_at` does after the answer to an eviction.
#[must_use]
pub fn next_step(settings: &DrainSettings, answer: Answer, began_at: SimTime, now: SimTime) -> Step {
    match answer {
        Answer::Evicted | Answer::EvictedFromBudget => Step::Await,
        Answer::TooManyRequests => {
            let retry_at = now.after(settings.retry);
            let limits = settings.retry_for.iter().chain(&settings.timeout);
            let is_late = limits.min().is_some_and(|limit| retry_at > began_at.after(*limit));
            if is_late { Step::GiveUp } else { Step::Retry(retry_at) }
        }
        Answer::SeveralBudgets | Answer::Forbidden => Step::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_budget_is_asked_again_and_only_within_the_timeout() {
        let at = |seconds: u64| SimTime::ZERO.after(Duration::from_secs(seconds));
        let endless = DrainSettings::default();
        let short = DrainSettings { timeout: Some(Duration::from_secs(12)), ..endless };
        for (settings, answer, now, expected) in [
            (endless, Answer::EvictedFromBudget, 10, Step::Await),
            (endless, Answer::Evicted, 10, Step::Await),
            (endless, Answer::TooManyRequests, 10, Step::Retry(at(15))),
            (short, Answer::TooManyRequests, 17, Step::Retry(at(22))),
            (short, Answer::TooManyRequests, 18, Step::GiveUp),
            (endless, Answer::SeveralBudgets, 10, Step::GiveUp),
        ] {
            assert_eq!(next_step(&settings, answer, at(10), at(now)), expected, "{answer:?} at {now} s");
        }
    }
}
