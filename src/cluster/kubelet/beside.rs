//! Containers beside the one whose process is simulated: when each is ready, and how long it holds up the end of its pod.
//!
//! A pod is ready when all its containers are, and its end is over when all of them have ended. What such a container does is not known: it runs, passes
//! each probe whenever it is asked, and ends at SIGTERM.
//!
//! Source: Kubernetes v1.28.7 pkg/kubelet/prober/worker.go, pkg/kubelet/status/generate.go (`GenerateContainersReadyCondition`),
//! pkg/kubelet/kuberuntime/kuberuntime_container.go (`killContainersWithSyncResult`).

use std::time::Duration;

use super::grace::stop_times;
use super::probe::ProbeSpec;
use super::sidecar::started_at;
use crate::units::SimTime;

/// When a container that runs from `since` on is ready. Its probes tick in whole periods after `ticks_from`; readiness is asked once more as soon as the
/// container has started.
#[must_use]
pub fn ready_at(
    startup: Option<&ProbeSpec>,
    readiness: Option<&ProbeSpec>,
    ticks_from: SimTime,
    since: SimTime,
) -> SimTime {
    let started = started_at(startup, ticks_from, since);
    let Some(probe) = readiness else { return started };
    let delayed = since.after(Duration::from_secs(probe.initial_delay_seconds.into()));
    let first = if delayed <= started { started } else { started_at(Some(probe), ticks_from, since) };
    let more = probe.success_threshold.saturating_sub(1);
    if more == 0 {
        return first;
    }
    let period = Duration::from_secs(probe.period_seconds.max(1).into());
    super::probe::next_tick(ticks_from, period, first).after(period.saturating_mul(more - 1))
}

/// When the last of the containers with these hooks has ended, counted from the beginning of the pod's end.
#[must_use]
pub fn ended_at(grace_seconds: u32, hooks: impl Iterator<Item = Option<Duration>>) -> Duration {
    hooks.map(|hook| stop_times(grace_seconds, hook).sigterm).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_millis(ms))
    }

    #[test]
    fn a_container_is_ready_at_the_first_ask_after_its_delay() {
        let probe = |delay: u32, period: u32, successes: u32| ProbeSpec {
            initial_delay_seconds: delay,
            period_seconds: period,
            success_threshold: successes,
            ..ProbeSpec::default()
        };
        // Ticks at 300 ms and whole periods after it; the container runs from 4.1 s on.
        for (startup, readiness, expected) in [
            (None, None, 4_100),
            (None, Some(probe(0, 10, 1)), 4_100),
            (None, Some(probe(20, 10, 1)), 30_300),
            (None, Some(probe(5, 1, 1)), 9_300),
            (None, Some(probe(0, 10, 2)), 10_300),
            (None, Some(probe(0, 10, 3)), 20_300),
            (Some(probe(0, 5, 1)), None, 5_300),
            (Some(probe(0, 5, 1)), Some(probe(0, 10, 1)), 5_300),
            (Some(probe(0, 5, 1)), Some(probe(1, 10, 1)), 5_300),
            (Some(probe(30, 5, 1)), Some(probe(1, 10, 1)), 35_300),
        ] {
            let found = ready_at(startup.as_ref(), readiness.as_ref(), at(300), at(4_100));
            assert_eq!(found, at(expected), "{startup:?} {readiness:?}");
        }
    }

    #[test]
    fn the_longest_hook_within_the_grace_is_the_end() {
        let seconds = Duration::from_secs;
        for (grace, hooks, expected) in [
            (30, vec![], 0),
            (30, vec![None], 0),
            (30, vec![Some(5), None, Some(20)], 20),
            (30, vec![Some(30)], 30),
            (30, vec![Some(31)], 30),
        ] {
            let hooks = hooks.clone().into_iter().map(|hook: Option<u64>| hook.map(seconds));
            assert_eq!(ended_at(grace, hooks), seconds(expected), "{grace} s");
        }
    }
}
