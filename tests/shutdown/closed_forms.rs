//! What a shutdown costs can be calculated where every request opens a connection of its own and arrivals are constant.
//!
//! One of N pods is deleted at 0. It serves until X: preStop and drain, or the end of the grace period; the balancer removes it at L. Of λ requests
//! a second that take S each, the pod refuses those that come from X to L, and cuts those that are open at X:
//!
//! ```text
//! lost = λ/N · ( max(0, L − X) + max(0, S − max(0, X − L)) )
//! ```
//!
//! The deletion falls between two arrivals, with more room on both sides than all latencies need, so the numbers are exact.
//! Source of the second term: the recordings' README; of the first, plain counting.

use std::time::Duration;

use gatedrill::cluster::kubelet::grace::stop_times;
use gatedrill::drill::{LoadSpec, WorldConfig};
use serde_json::{Value, json};

use crate::world::world;
use crate::{losses, replayed};

const PODS: u64 = 4;
/// Requests a second over all pods: each pod gets one every 50 ms.
const RATE: u64 = 80;

/// One shutdown, in whole seconds but for the service time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shutdown {
    pub(crate) lag_s: u32,
    pub(crate) pre_stop_s: u32,
    pub(crate) drain_s: u32,
    pub(crate) grace_s: u32,
    pub(crate) service_ms: u64,
}

impl Shutdown {
    /// From the deletion to the end of the process.
    fn ends_after(self) -> Duration {
        let pre_stop = (self.pre_stop_s > 0).then(|| Duration::from_secs(self.pre_stop_s.into()));
        let times = stop_times(self.grace_s, pre_stop);
        (times.sigterm + Duration::from_secs(self.drain_s.into())).min(times.sigkill)
    }

    /// Refused, and cut in mid-request.
    fn expected(self) -> (u64, u64) {
        let (end_ms, lag_ms) =
            (u64::try_from(self.ends_after().as_millis()).expect("seconds"), u64::from(self.lag_s) * 1000);
        let of_ms = |ms: u64| ms * RATE / (PODS * 1000);
        let cut_ms = self.service_ms.saturating_sub(end_ms.saturating_sub(lag_ms));
        // A request that is shorter than the gap to the next one is never open at the end.
        (of_ms(lag_ms.saturating_sub(end_ms)), of_ms(cut_ms))
    }

    /// Until nothing more can be lost.
    fn duration_s(self) -> u64 {
        6 + self.ends_after().as_secs().max(self.lag_s.into()) + self.service_ms / 1000
    }

    /// As a recorded case has it.
    pub(crate) fn case(self) -> Value {
        json!({ "inputs": {
            // 6.25 ms before an arrival, and after one: arrivals are 12.5 ms apart.
            "duration_s": self.duration_s(), "t0_s": 4.006_25, "rate_per_s": RATE, "arrivals": "uniform", "seed": 1, "silence_s": [],
            "service_ms": self.service_ms, "stream_body": false,
            "client": { "connections": 4000, "reuse": "none", "detect_idle_close": true, "honor_connection_close": true,
                        "timeout_s": 60, "prewarm": false, "pools": 0 },
            "lb": { "deregister_lag_s": self.lag_s, "register_lag_s": 0, "existing_connections": "keep",
                    "drain_timeout_s": 0, "health_check": null },
            "pods": { "n": PODS, "concurrency": 1, "new_ready_delay_s": 2 },
            "action": { "type": "scale_in", "k": 1, "endpoint_removal_lag_s": 0 },
            "shutdown": { "mode": "pilot_agent", "prestop_s": self.pre_stop_s,
                          "termination_drain_duration_s": self.drain_s, "minimum_drain_duration_s": 5,
                          "grace_period_s": self.grace_s },
            "envoy": { "drain_time_s": 45, "drain_strategy": "immediate", "retries": "istio-default",
                       "upstream_idle_timeout_s": 0 },
            "upstream": { "count": 1, "keepalive_idle_s": 0, "one_way_delay_ms": 0 },
        } })
    }
}

/// Losses of a run: refused, and all others.
pub(crate) fn lost(world: WorldConfig) -> (u64, u64) {
    let run = replayed(world);
    let losses = losses(&run);
    let refused = losses.iter().filter(|row| row.outcome == "refused").count();
    (refused as u64, (losses.len() - refused) as u64)
}

fn grid() -> Vec<Shutdown> {
    let mut grid = Vec::new();
    for lag_s in [0, 4, 9] {
        for pre_stop_s in [0, 4, 12] {
            for drain_s in [1, 6] {
                for (grace_s, service_ms) in [(8, 2), (8, 3000), (30, 2), (30, 3000)] {
                    grid.push(Shutdown { lag_s, pre_stop_s, drain_s, grace_s, service_ms });
                }
            }
        }
    }
    grid
}

#[test]
fn shutdown_closed_forms_hold_exactly() {
    let (mut with_losses, mut without) = (0, 0);
    for shutdown in grid() {
        let expected = shutdown.expected();
        assert_eq!(lost(world(&shutdown.case())), expected, "{shutdown:?}");
        if expected == (0, 0) { without += 1 } else { with_losses += 1 }
    }
    assert!(with_losses > 20 && without > 10, "the grid covers both: {with_losses} and {without}");
}

/// Readiness alone; a preStop longer than the grace period; a grace period above it: fewer losses each time, and none in the end. Half of the
/// requests come over 200 kept connections, the others over new ones.
///
/// Source: a rolling update under load published at dingyu.dev: 12, 3 and 0 errors of some 750,000 requests over 200 connections.
#[test]
fn shutdown_gets_better_in_the_order_that_was_measured() {
    let of = |pre_stop_s, grace_s| {
        let shutdown = Shutdown { lag_s: 8, pre_stop_s, drain_s: 5, grace_s, service_ms: 2500 };
        let mut case = shutdown.case();
        let mut all = world(&case);
        case["inputs"]["client"]["reuse"] = json!("lru");
        case["inputs"]["client"]["connections"] = json!(200);
        case["inputs"]["client"]["prewarm"] = json!(true);
        all.loads.extend(world(&case).loads.into_iter().map(|load| LoadSpec { name: "kept".to_owned(), ..load }));
        let (refused, others) = lost(all);
        refused + others
    };
    let (readiness_only, hook_too_long, right) = (of(0, 30), of(40, 30), of(40, 50));
    assert!(readiness_only > hook_too_long && hook_too_long > right, "{readiness_only} > {hook_too_long} > {right}");
    assert_eq!(right, 0);
}
