//! Emptying a node, as `kubectl drain` does it.
//!
//! A drain is refused as a whole if there is a pod that it may not take: of a `DaemonSet`, with data in an `emptyDir`, or without a controller that
//! would make another, unless the options allow it. The node stays cordoned then. Pods of a `DaemonSet` are never evicted, only passed over.
//!
//! The node is cordoned, and all its pods are asked to go at once, those that are being deleted too: their eviction is granted whatever a budget says, may shorten their grace, and their end is
//! waited for like any other. Who is refused for its budget is asked again after five seconds, any other
//! refusal ends the drain of that pod. Then the drain looks once a second whether the evicted pods are gone. A timeout ends
//! the waiting and undoes nothing.
//!
//! The real command asks for all evictions side by side; here they are asked for in the order of the pods' names, in one instant.
//! `--skip-wait-for-delete-timeout`, with which pods are passed over that have been on their way for longer, is not set.
//! Source: kubernetes/kubectl pkg/drain/drain.go (`evictPods`, `waitForDelete`), pkg/drain/filters.go (`skipDeletedFilter`), as of v1.28;
//! kubernetes/kubernetes pkg/registry/core/pod/storage/eviction.go (`canIgnorePDB`).

use std::time::Duration;

use super::disruption::Answer;
use super::version::Version;
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
    /// The longest grace of an eviction, in seconds; none: no limit. Only where no grace is given.
    pub grace_seconds_max: Option<u32>,
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
    /// `--force`: pods without a controller are evicted too, though nobody makes others.
    pub forces: bool,
}

/// As `kubectl drain` without options.
impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            grace_seconds: None,
            grace_seconds_max: None,
            retry: RETRY,
            retry_for: None,
            timeout: None,
            ignores_daemon_sets: false,
            deletes_empty_dir_data: false,
            forces: false,
        }
    }
}

impl DrainSettings {
    /// A drain that takes every pod but those of `DaemonSet`s, as machines do it that drain nodes.
    #[must_use]
    pub fn of_controllers() -> Self {
        Self { ignores_daemon_sets: true, deletes_empty_dir_data: true, forces: true, ..Self::default() }
    }
}

impl DrainSettings {
    /// The grace that the eviction of a pod asks for, in seconds, whose own is `own_seconds`; none: that.
    #[must_use]
    pub fn grace_for(&self, own_seconds: u32) -> Option<u32> {
        self.grace_seconds.or(self.grace_seconds_max.filter(|max| own_seconds > *max))
    }
}

/// What a drain finds on a node, each as `namespace/name`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Found<'a> {
    /// The pods of `DaemonSet`s there, as `namespace/name`.
    pub daemons: Vec<&'a str>,
    /// Pods with an `emptyDir`.
    pub with_data: Vec<&'a str>,
    /// Pods that no controller has made.
    pub unmanaged: Vec<&'a str>,
}

/// Why a drain is refused, in kubectl's words. None: it goes on. A pod that is refused for its data is not asked for its controller.
///
/// Source: kubernetes/kubectl pkg/drain/filters.go; kubernetes/kubernetes pull 120159 for the words of 1.30 on, which repeat themselves.
#[must_use]
pub fn refusal(settings: &DrainSettings, found: &Found<'_>, version: Version) -> Option<String> {
    let with_data = if settings.deletes_empty_dir_data { &[][..] } else { &found.with_data };
    let daemons = if settings.ignores_daemon_sets { &[][..] } else { &found.daemons };
    let unmanaged: Vec<&str> = match settings.forces {
        true => Vec::new(),
        false => found.unmanaged.iter().copied().filter(|pod| !with_data.contains(pod)).collect(),
    };
    let of_unmanaged = match version >= Version::new(1, 30) {
        true => "cannot delete Pods that declare no controller (use --force to override)",
        false => "Pods declare no controller (use --force to override)",
    };
    let rules = [
        ("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)", daemons),
        ("Pods with local storage (use --delete-emptydir-data to override)", with_data),
        (of_unmanaged, &unmanaged),
    ];
    let reasons = rules.into_iter().filter(|(_, pods)| !pods.is_empty());
    let reasons: Vec<String> =
        reasons.map(|(words, pods)| format!("cannot delete {words}: {}", pods.join(", "))).collect();
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
        let deleting = DrainSettings { deletes_empty_dir_data: true, ..plain };
        let forcing = DrainSettings { forces: true, ..plain };
        let all = DrainSettings::of_controllers();
        let daemon = Found { daemons: vec!["a/log"], ..Found::default() };
        let data = Found { with_data: vec!["b/x", "b/y"], ..Found::default() };
        let bare = Found { unmanaged: vec!["c/one", "c/two"], ..Found::default() };
        let bare_with_data = Found { with_data: vec!["c/one"], ..bare.clone() };
        let (daemons, datas) = (
            "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): a/log",
            "cannot delete Pods with local storage (use --delete-emptydir-data to override): b/x, b/y",
        );
        for (settings, found, minor, expected) in [
            (plain, &Found::default(), 33, None),
            (plain, &daemon, 33, Some(daemons)),
            (ignoring, &daemon, 33, None),
            (ignoring, &data, 33, Some(datas)),
            (forcing, &data, 33, Some(datas)),
            (deleting, &data, 33, None),
            (
                plain,
                &bare,
                29,
                Some("cannot delete Pods declare no controller (use --force to override): c/one, c/two"),
            ),
            (
                plain,
                &bare,
                30,
                Some(
                    "cannot delete cannot delete Pods that declare no controller (use --force to override): c/one, c/two",
                ),
            ),
            (forcing, &bare, 30, None),
            (
                deleting,
                &bare_with_data,
                29,
                Some("cannot delete Pods declare no controller (use --force to override): c/one, c/two"),
            ),
            (
                plain,
                &bare_with_data,
                29,
                Some(
                    "[cannot delete Pods with local storage (use --delete-emptydir-data to override): c/one, cannot delete Pods \
                     declare no controller (use --force to override): c/two]",
                ),
            ),
            (all, &bare_with_data, 33, None),
            (all, &daemon, 33, None),
        ] {
            let version = Version::new(1, minor);
            assert_eq!(refusal(&settings, found, version).as_deref(), expected, "{settings:?} {found:?}");
        }
    }

    #[test]
    fn a_grace_that_is_given_wins_and_a_longest_one_cuts() {
        let plain = DrainSettings::default();
        let given = DrainSettings { grace_seconds: Some(5), grace_seconds_max: Some(600), ..plain };
        let longest = DrainSettings { grace_seconds: None, ..given };
        let of = |own: u32| (plain.grace_for(own), given.grace_for(own), longest.grace_for(own));
        assert_eq!(of(600), (None, Some(5), None));
        assert_eq!(of(601), (None, Some(5), Some(600)));
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
