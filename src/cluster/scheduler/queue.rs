//! When a pod that found no node is tried again.
//!
//! It waits for a change that may help it, or five minutes, and in any case its back-off: a second, and twice as much after each further
//! attempt, up to ten. Who is woken after its back-off is tried at once. Else it waits in a queue that is looked at once a second, as the
//! unschedulable ones are once in half a minute.
//!
//! Source: Kubernetes v1.28.7 pkg/scheduler/internal/queue/scheduling_queue.go.

use std::time::Duration;

use crate::units::SimTime;

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
/// Pods that have waited for longer than this are tried again though nothing has changed.
pub const LEFTOVER_AFTER: Duration = Duration::from_secs(300);
/// How often those are looked for.
pub const LEFTOVER_PERIOD: Duration = Duration::from_secs(30);
/// How often the back-off queue is looked at.
pub const BACKOFF_PERIOD: Duration = Duration::from_secs(1);

/// How long a pod waits at least after so many attempts.
#[must_use]
pub fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(10);
    (BACKOFF_FIRST * 2_u32.pow(doublings)).min(BACKOFF_MOST)
}

/// When a pod whose last of so many attempts was at `tried_at` is tried again, if a change wakes it at `woken_at`. The queues are looked at
/// at `phase` and every period from then on.
#[must_use]
pub fn retry_at(tried_at: SimTime, attempts: u32, woken_at: SimTime, phase: Duration) -> SimTime {
    let backed_off_at = tried_at.after(backoff(attempts));
    if backed_off_at <= woken_at { woken_at } else { next_tick(backed_off_at, phase, BACKOFF_PERIOD) }
}

/// When a pod that was put aside at `since` is tried again though nothing has changed.
#[must_use]
pub fn leftover_at(since: SimTime, phase: Duration) -> SimTime {
    next_tick(since.after(LEFTOVER_AFTER + Duration::from_nanos(1)), phase, LEFTOVER_PERIOD)
}

/// The first tick at or after a time.
fn next_tick(at: SimTime, phase: Duration, period: Duration) -> SimTime {
    let phase = nanos(phase) % nanos(period);
    let ticks = at.as_nanos().saturating_sub(phase).div_ceil(nanos(period));
    SimTime::from_nanos(phase + ticks * nanos(period))
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).expect("a period of the scheduler")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_to_ten_seconds() {
        let seconds: Vec<u64> = (1..=7).map(|attempts| backoff(attempts).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10, 10]);
        assert_eq!(backoff(u32::MAX), BACKOFF_MOST);
    }

    #[test]
    fn who_is_woken_too_early_waits_for_the_next_look_at_the_queue() {
        let at = |ms: u64| SimTime::ZERO.after(Duration::from_millis(ms));
        let phase = Duration::from_millis(250);
        for (attempts, woken_ms, retry_ms) in
            [(1, 10_500, 11_250), (1, 11_000, 11_000), (1, 15_000, 15_000), (3, 10_500, 14_250), (3, 13_999, 14_250)]
        {
            assert_eq!(retry_at(at(10_000), attempts, at(woken_ms), phase), at(retry_ms), "woken at {woken_ms} ms");
        }
    }

    #[test]
    fn who_is_not_woken_waits_for_more_than_five_minutes() {
        let at = |ms: u64| SimTime::ZERO.after(Duration::from_millis(ms));
        let phase = Duration::from_millis(250);
        assert_eq!(leftover_at(at(0), phase), at(300_250));
        assert_eq!(leftover_at(at(250), phase), at(330_250), "five minutes must be over, not just reached");
        assert_eq!(leftover_at(at(1000), phase), at(330_250));
    }
}
