//! Emptying a node, as `kubectl drain` does it.
//!
//! A drain is refused as a whole if there is a pod that it may not take: of a `DaemonSet`, or with data in an `emptyDir`, unless the
//! options allow it. The node stays cordoned then. Pods of a `DaemonSet` are never evicted, only passed over.
//!
//! The node is cordoned, and all its pods are asked to go at once. Who is refused for its budget is asked again after five seconds, any other
//! refusal ends the drain of that pod. Then the drain looks once a second whether the evicted pods are gone. A timeout ends
//! the waiting and undoes nothing.
//!
//! The real command asks for all evictions side by side; here they are asked for in the order of the pods' names, in one instant.
//! Source: kubernetes/kubectl pkg/drain/drain.go (`evictPods`, `waitForDelete`), pkg/drain/filters.go, as of v1.28.

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
    /// `--ignore-daemonsets`: pods of a `DaemonSet` are passed over.
    pub ignores_daemon_sets: bool,
    /// `--delete-emptydir-data`: pods with data in an `emptyDir` are evicted too.
    pub deletes_empty_dir_data: bool,
}

/// As `kubectl drain` without options.
impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            grace_seconds: None,
            retry: RETRY,
            retry_for: None,
            timeout: None,
            ignores_daemon_sets: false,
            deletes_empty_dir_data: false,
        }
    }
}

impl DrainSettings {
    /// A drain that takes every pod but those of `DaemonSet`s, as machines do it that drain nodes.
    #[must_use]
    pub fn of_controllers() -> Self {
        Self { ignores_daemon_sets: true, deletes_empty_dir_data: true, ..Self::default() }
    }
}

/// Why a drain is refused, in kubectl's words: `daemons` are the pods of `DaemonSet`s, `with_data` those with an `emptyDir`. None: it goes on.
#[must_use]
pub fn refusal(settings: &DrainSettings, daemons: &[&str], with_data: &[&str]) -> Option<String> {
    let daemons = (!daemons.is_empty() && !settings.ignores_daemon_sets).then(|| {
        format!("cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): {}", daemons.join(", "))
    });
    let with_data = (!with_data.is_empty() && !settings.deletes_empty_dir_data).then(|| {
        format!(
            "cannot delete Pods with local storage (use --delete-emptydir-data to override): {}",
            with_data.join(", ")
        )
    });
    let reasons: Vec<String> = daemons.into_iter().chain(with_data).collect();
    match &reasons[..] {
        [] => None,
        [only] => Some(only.clone()),
        many => Some(format!("[{}]", many.join(", "))),
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
    fn what_a_drain_may_not_take_stops_it_as_a_whole() {
        let plain = DrainSettings::default();
        let ignoring = DrainSettings { ignores_daemon_sets: true, ..plain };
        let all = DrainSettings::of_controllers();
        for (settings, daemons, with_data, expected) in [
            (plain, &[][..], &[][..], None),
            (
                plain,
                &["a/log"],
                &[],
                Some("cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): a/log"),
            ),
            (ignoring, &["a/log"], &[], None),
            (
                ignoring,
                &["a/log"],
                &["b/x", "b/y"],
                Some("cannot delete Pods with local storage (use --delete-emptydir-data to override): b/x, b/y"),
            ),
            (all, &["a/log"], &["b/x"], None),
        ] {
            assert_eq!(refusal(&settings, daemons, with_data).as_deref(), expected);
        }
        let both = refusal(&plain, &["a/log"], &["b/x"]).expect("it is refused");
        assert!(both.starts_with("[cannot delete DaemonSet-managed") && both.ends_with("b/x]"), "{both}");
    }

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
