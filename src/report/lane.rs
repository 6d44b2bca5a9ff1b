//! The rollout as a picture: what each pod was doing, what the load balancer believed, and when requests were lost, all on
//! one axis of time. Terminal and page draw the same one.

use std::collections::BTreeMap;

use crate::record::results::{Pod, Results, Target};
use crate::record::{Run, Second};

/// What a pod is doing. The order is that of importance where a drawing has room for one only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum PodState {
    Ready,
    Unready,
    Starting,
    Draining,
}

/// What the balancer does with a target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum TargetState {
    /// Known, but without traffic so far.
    Registered,
    /// Out of the rotation: kept connections only.
    Removed,
    /// Out of the rotation because its health checks fail.
    Unhealthy,
    /// New connections are sent to it.
    Sending,
}

/// A state over a span of the run's clock; `to_ms` is not part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch<S> {
    pub from_ms: u64,
    pub to_ms: u64,
    pub state: S,
}

/// One pod, with the balancer's view of it.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    pub pod: &'a Pod,
    pub life: Vec<Stretch<PodState>>,
    pub view: Vec<Stretch<TargetState>>,
    /// Losses kept as rows, by the second in which they were due.
    pub lost_at_s: BTreeMap<u64, u64>,
}

/// A target that is no pod: a node.
#[derive(Debug)]
pub(crate) struct NodeLane<'a> {
    pub target: &'a Target,
    pub view: Vec<Stretch<TargetState>>,
}

/// The whole picture.
#[derive(Debug)]
pub(crate) struct Picture<'a> {
    /// The span shown, on the clock of the run.
    pub from_ms: u64,
    pub to_ms: u64,
    pub lanes: Vec<Lane<'a>>,
    pub nodes: Vec<NodeLane<'a>>,
    /// The measured seconds within the span.
    pub seconds: Vec<&'a Second>,
    /// Lanes left out because there are too many.
    pub hidden_count: usize,
    /// Requests lost with the pods left out.
    pub hidden_lost: u64,
    /// Targets that are no pod, left out likewise.
    pub hidden_node_count: usize,
}

/// What happened to the pods of a run, with `lanes_max` of them at most: those in which something happened first. The new
/// and the old pods of a rollout's first steps tell more than many lanes in which the same happens later.
pub(crate) fn picture(run: &Run, lanes_max: usize) -> Picture<'_> {
    let results = &run.results;
    let (from_ms, to_ms) = window(results);
    let mut lanes: Vec<_> =
        results.pods.iter().map(|pod| lane(pod, run)).filter(|lane| is_seen(lane, from_ms, to_ms)).collect();
    let (mut hidden_count, mut hidden_lost) = (0, 0);
    if lanes.len() > lanes_max {
        lanes.sort_by_key(|lane| first_change_ms(lane, from_ms, to_ms));
        // Beside those in which something happened, the others would only make the picture long.
        let eventful = lanes.partition_point(|lane| first_change_ms(lane, from_ms, to_ms) < u64::MAX);
        let hidden = lanes.split_off(if eventful == 0 { lanes_max } else { eventful.min(lanes_max) });
        hidden_count = hidden.len();
        hidden_lost = hidden.iter().map(|lane| lane.pod.dropped).sum();
        lanes.sort_by_key(|lane| (lane.pod.created_ms, lane.pod.terminating_ms.unwrap_or(u64::MAX)));
    }
    let is_node = |target: &&Target| target.pod.is_none();
    let end_ms = results.measured.end_ms;
    let node = |target| NodeLane { target, view: view(target, end_ms) };
    let mut nodes: Vec<_> = results.targets.iter().filter(is_node).map(node).collect();
    let hidden_node_count = nodes.len().saturating_sub(lanes_max);
    nodes.truncate(lanes_max);
    let is_shown = |row: &&Second| row.t_s * 1_000 < to_ms && (row.t_s + 1) * 1_000 > from_ms;
    Picture {
        from_ms,
        to_ms,
        lanes,
        nodes,
        seconds: run.seconds.iter().filter(is_shown).collect(),
        hidden_count,
        hidden_lost,
        hidden_node_count,
    }
}

/// The span in which something happened to pods or requests, with some air; the measured time if that is most of it.
fn window(results: &Results) -> (u64, u64) {
    let (start_ms, end_ms) = (results.measured.start_ms, results.measured.end_ms);
    let mut times: Vec<u64> = Vec::new();
    for pod in &results.pods {
        times.extend([pod.ready_ms, pod.terminating_ms, pod.exited_ms, pod.gone_ms].into_iter().flatten());
        times.push(pod.created_ms);
        times.extend(pod.readiness.iter().map(|change| change.t_ms));
    }
    times.extend(
        results
            .rollouts
            .iter()
            .flat_map(|rollout| [Some(rollout.start_ms), rollout.end_ms, rollout.stuck_ms])
            .flatten(),
    );
    times.extend(results.targets.iter().flat_map(|target| &target.states).map(|state| state.t_ms));
    times.retain(|&t_ms| start_ms < t_ms && t_ms < end_ms);
    // Who loses from the first moment on shows it.
    times.extend(results.causes.iter().flat_map(|cause| [cause.first_ms, cause.last_ms]));
    let (Some(&first), Some(&last)) = (times.iter().min(), times.iter().max()) else { return (start_ms, end_ms) };
    let air_ms = ((last - first) / 12).max(3_000);
    let from_ms = first.saturating_sub(air_ms).max(start_ms) / 1_000 * 1_000;
    let to_ms = ((last + air_ms).div_ceil(1_000) * 1_000).min(end_ms);
    let is_most = (to_ms - from_ms) * 10 >= (end_ms - start_ms) * 7;
    if is_most { (start_ms, end_ms) } else { (from_ms, to_ms) }
}

fn lane<'a>(pod: &'a Pod, run: &'a Run) -> Lane<'a> {
    let end_ms = run.results.measured.end_ms;
    let is_its = |target: &&Target| target.pod.as_deref() == Some(pod.name.as_str());
    let mut lost_at_s = BTreeMap::new();
    for row in run.requests.iter().filter(|row| row.cause.is_some() && row.pod.as_deref() == Some(pod.name.as_str())) {
        *lost_at_s.entry(super::units::whole(row.t_intended_s.floor())).or_default() += 1;
    }
    Lane {
        pod,
        life: life(pod, end_ms),
        view: run.results.targets.iter().filter(is_its).flat_map(|target| view(target, end_ms)).collect(),
        lost_at_s,
    }
}

/// When something happened to a pod or to its requests for the first time within the span; the far future if never.
fn first_change_ms(lane: &Lane<'_>, from_ms: u64, to_ms: u64) -> u64 {
    let states = lane.life.iter().map(|stretch| stretch.from_ms).chain(lane.view.iter().map(|stretch| stretch.from_ms));
    let times = states.chain(lane.lost_at_s.keys().map(|t_s| t_s * 1_000)).chain(lane.ended_ms());
    times.filter(|&t_ms| from_ms < t_ms && t_ms < to_ms).min().unwrap_or(u64::MAX)
}

fn is_seen(lane: &Lane<'_>, from_ms: u64, to_ms: u64) -> bool {
    let pod = lane.pod;
    let is_alive = pod.created_ms < to_ms && pod.exited_ms.or(pod.gone_ms).is_none_or(|gone_ms| gone_ms > from_ms);
    is_alive || pod.dropped > 0
}

fn life(pod: &Pod, end_ms: u64) -> Vec<Stretch<PodState>> {
    let mut changes = vec![(pod.created_ms, PodState::Starting)];
    if let Some(ready_ms) = pod.ready_ms {
        changes.push((ready_ms, PodState::Ready));
    }
    let state = |ready| if ready { PodState::Ready } else { PodState::Unready };
    changes.extend(pod.readiness.iter().map(|change| (change.t_ms, state(change.ready))));
    if let Some(terminating_ms) = pod.terminating_ms {
        changes.push((terminating_ms, PodState::Draining));
    }
    // A container that exits on its own is started again: only the end of a deleted pod ends its lane.
    let ended_ms = if pod.terminating_ms.is_some() { pod.exited_ms.or(pod.gone_ms) } else { pod.gone_ms };
    stretches(&changes, ended_ms.unwrap_or(end_ms).max(pod.created_ms))
}

fn view(target: &Target, end_ms: u64) -> Vec<Stretch<TargetState>> {
    let mut changes = Vec::new();
    let mut drained_ms = None;
    for state in &target.states {
        match state.state.as_str() {
            "registered" => changes.push((state.t_ms, TargetState::Registered)),
            "healthy" => changes.push((state.t_ms, TargetState::Sending)),
            "unhealthy" => changes.push((state.t_ms, TargetState::Unhealthy)),
            "deregistered" => changes.push((state.t_ms, TargetState::Removed)),
            _ => drained_ms = Some(state.t_ms),
        }
    }
    stretches(&changes, drained_ms.unwrap_or(end_ms))
}

/// From changes in order of time to stretches up to `end_ms`; empty ones are left out.
fn stretches<S: Copy>(changes: &[(u64, S)], end_ms: u64) -> Vec<Stretch<S>> {
    let ends = changes.iter().skip(1).map(|(t_ms, _)| *t_ms).chain([end_ms]);
    let all =
        changes.iter().zip(ends).map(|(&(from_ms, state), to_ms)| Stretch { from_ms, to_ms: to_ms.min(end_ms), state });
    all.filter(|stretch| stretch.from_ms < stretch.to_ms).collect()
}

/// The stretches within `from_ms..to_ms`.
pub(crate) fn within<S: Copy>(stretches: &[Stretch<S>], from_ms: u64, to_ms: u64) -> impl Iterator<Item = Stretch<S>> {
    stretches
        .iter()
        .map(move |stretch| Stretch {
            from_ms: stretch.from_ms.max(from_ms),
            to_ms: stretch.to_ms.min(to_ms),
            ..*stretch
        })
        .filter(|stretch| stretch.from_ms < stretch.to_ms)
}

impl Lane<'_> {
    /// When the process was gone, if it went.
    pub(crate) fn ended_ms(&self) -> Option<u64> {
        self.pod.terminating_ms.and(self.pod.exited_ms.or(self.pod.gone_ms))
    }

    /// When the balancer went on sending new connections to a pod that was gone.
    pub(crate) fn stale(&self) -> impl Iterator<Item = Stretch<TargetState>> {
        let ended_ms = self.ended_ms().unwrap_or(u64::MAX);
        within(&self.view, ended_ms, u64::MAX).filter(|stretch| stretch.state == TargetState::Sending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{FIXED, LOSING};

    #[test]
    fn a_lane_shows_the_balancer_still_sending_to_a_pod_that_is_gone() {
        let (run, _) = LOSING.tell();
        let picture = picture(&run, 100);
        let lane = &picture.lanes[0];
        let states: Vec<_> = lane.life.iter().map(|stretch| (stretch.from_ms, stretch.state)).collect();
        assert_eq!(states, [(0, PodState::Ready), (67_500, PodState::Draining)]);
        let stale: Vec<_> = lane.stale().map(|stretch| (stretch.from_ms, stretch.to_ms)).collect();
        assert_eq!(stale, [(72_500, 76_500)]);
        assert!(lane.lost_at_s.keys().all(|t_s| (72..77).contains(t_s)));
        assert_eq!((picture.lanes.len(), picture.hidden_count), (8, 0));
    }

    #[test]
    fn a_pod_that_drains_long_enough_is_never_stale() {
        let (run, _) = FIXED.tell();
        assert!(picture(&run, 100).lanes.iter().all(|lane| lane.stale().next().is_none()));
    }

    #[test]
    fn too_many_pods_leave_out_those_that_changed_last() {
        let (run, _) = LOSING.tell();
        let picture = picture(&run, 3);
        let shown: Vec<_> = picture.lanes.iter().map(|lane| (lane.pod.created_ms, lane.pod.terminating_ms)).collect();
        assert_eq!(shown, [(0, Some(67_500)), (60_000, None), (77_000, None)]);
        let shown_lost: u64 = picture.lanes.iter().map(|lane| lane.pod.dropped).sum();
        assert_eq!((picture.hidden_count, picture.hidden_lost), (5, run.results.totals.dropped - shown_lost));
    }

    #[test]
    fn a_run_in_which_nothing_happens_is_shown_whole() {
        let (mut run, _) = FIXED.tell();
        run.results.pods.clear();
        run.results.targets.clear();
        run.results.rollouts.clear();
        let picture = picture(&run, 6);
        assert_eq!((picture.from_ms, picture.to_ms), (10_000, 190_000));
    }
}
