//! Native sidecars: when the next container may start after one, and when each is told to end.
//!
//! Containers that start before a pod's own ones start one after another: an init container has to have ended, a sidecar to have started, its startup probe
//! included. At the end of a pod all preStop hooks begin at once, and each sidecar gets its SIGTERM when its hook is over, the pod's own containers have
//! ended, and so have the sidecars that started after it; or when its grace is used up. All share the grace of the pod.
//!
//! Upstream, from 1.29 on: `pkg/kubelet/kuberuntime/{kuberuntime_termination_order,kuberuntime_container}.go`
//! (`waitForTurn`, `killContainer`); KEP-753.

use std::time::Duration;

use super::probe::{ProbeSpec, next_tick};
use crate::units::SimTime;

/// When a sidecar that runs from `since` on counts as started, if its startup probe passes at its first ask. Probes are asked in whole periods after
/// `ticks_from`, and not before their initial delay.
#[must_use]
pub fn started_at(startup: Option<&ProbeSpec>, ticks_from: SimTime, since: SimTime) -> SimTime {
    let Some(probe) = startup else { return since };
    let period = Duration::from_secs(probe.period_seconds.max(1).into());
    // A tick at which whole seconds fewer than the delay have passed is left out.
    let delay = Duration::from_secs(probe.initial_delay_seconds.into());
    let earliest = since.after(delay).as_nanos().saturating_sub(1);
    next_tick(ticks_from, period, SimTime::from_nanos(earliest))
}

/// When each sidecar gets its SIGTERM, counted from the beginning of the pod's end; one that gets it ends at once.
///
/// `hooks` says how long each one's preStop hook runs, in the order of their start; `main_end` is when the pod's own containers have ended.
#[must_use]
pub fn sigterm_times(grace_seconds: u32, main_end: Duration, hooks: &[Option<Duration>]) -> Vec<Duration> {
    let grace = Duration::from_secs(grace_seconds.into());
    let mut times = vec![Duration::ZERO; hooks.len()];
    let mut turn = main_end;
    for (time, hook) in times.iter_mut().zip(hooks).rev() {
        let hook_end = hook.unwrap_or_default().min(grace);
        // The hook has used up whole seconds of the grace; the rest of it is what the wait may take.
        let patience = grace.saturating_sub(Duration::from_secs(hook_end.as_secs()));
        *time = turn.clamp(hook_end, hook_end + patience);
        turn = turn.max(*time);
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn sidecars_end_after_the_containers_in_reverse_order_within_the_grace() {
        let none = None::<u64>;
        for (grace, main_end, hooks, expected) in [
            (30, 5, vec![none, none], vec![5, 5]),
            (30, 5, vec![], vec![]),
            // A hook holds up the sidecars that started before, and not the ones after.
            (30, 5, vec![none, Some(12)], vec![12, 12]),
            (30, 5, vec![Some(12), none], vec![12, 5]),
            // A hook that is over before the containers are costs nothing.
            (30, 20, vec![Some(12)], vec![20]),
            // The containers take the whole grace and more.
            (30, 32, vec![none], vec![30]),
            (30, 5, vec![Some(600)], vec![30]),
            (30, 40, vec![Some(10), none], vec![30, 30]),
            (0, 2, vec![Some(10)], vec![0]),
        ] {
            let hooks: Vec<Option<Duration>> = hooks.into_iter().map(|hook| hook.map(seconds)).collect();
            let times = sigterm_times(grace, seconds(main_end), &hooks);
            assert_eq!(times, expected.into_iter().map(seconds).collect::<Vec<_>>(), "{grace}, {main_end}, {hooks:?}");
        }
    }

    #[test]
    fn only_whole_seconds_of_a_hook_count() {
        let hook = [Some(Duration::from_millis(2_900))];
        assert_eq!(sigterm_times(10, seconds(60), &hook), [Duration::from_millis(10_900)]);
    }

    #[test]
    fn a_sidecar_has_started_at_the_first_tick_after_its_delay() {
        let at = |ms: u64| SimTime::ZERO.after(Duration::from_millis(ms));
        let probe = |delay: u32, period: u32| ProbeSpec {
            initial_delay_seconds: delay,
            period_seconds: period,
            ..ProbeSpec::default()
        };
        assert_eq!(started_at(None, at(300), at(1200)), at(1200));
        for (delay, since, expected) in
            [(0, 1200, 1300), (0, 1300, 1300), (0, 1301, 2300), (2, 1200, 3300), (2, 1301, 4300)]
        {
            assert_eq!(started_at(Some(&probe(delay, 1)), at(300), at(since)), at(expected), "{delay} s, {since} ms");
        }
    }
}
