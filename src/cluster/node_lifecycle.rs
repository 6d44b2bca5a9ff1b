//! The node lifecycle controller: which nodes have failed, and how fast their pods may be driven away.
//!
//! ```text
//! kubelet renews its lease, every 10 s ─→ a pass sees it, every 5 s ─→ none seen for longer than the grace ─→ Ready is Unknown,
//!   all its pods are not ready, in the same pass ─→ the next pass asks for the NoExecute taint ─→ tainted, as fast as the zone allows
//! ```
//!
//! - What counts is when the controller saw a renewal, by its own clock, and not the time that the renewal carries.
//! - A pass decides about taints by the condition that it found, so the taint is asked for one pass after the condition has changed.
//! - Each zone has a limit of its own: one node in ten seconds. A zone in partial disruption (more than two nodes and at least 55 % not
//!   ready) is slowed down to one node in 100 s if it has more than 50 nodes, and else stopped. A zone that is wholly down keeps the usual
//!   rate; but if all zones are, the controller takes its own connection for the culprit: taints are removed, and nothing is evicted.
//! - A node that is ready again loses its taints in the next pass.
//!
//! No clock and no task: a pass is a call with the time as its argument. Two nodes of one pass are handled in the order of their indexes, where
//! the real controller's workers run side by side.
//! Source: Kubernetes v1.28.7 pkg/controller/nodelifecycle/{node_lifecycle_controller.go,scheduler/rate_limited_queue.go},
//! cmd/kube-controller-manager/app/options/nodelifecyclecontroller.go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::version::Version;
use crate::units::SimTime;

/// The kubelet renews its lease so often. Source: pkg/kubelet/apis/config/v1beta1/defaults.go, a quarter of the lease's 40 s.
pub const LEASE_RENEWAL: Duration = Duration::from_secs(10);
/// From the end of a pass to the next. Source: pkg/controller/nodelifecycle/config/v1alpha1/defaults.go.
pub const MONITOR_PERIOD: Duration = Duration::from_secs(5);
/// How often the queues of taints are looked at. Source: node_lifecycle_controller.go `nodeEvictionPeriod`.
pub const TAINT_POLL: Duration = Duration::from_millis(100);
/// The share of a zone's nodes, in percent, that makes a partial disruption. Source: `unhealthyZoneThreshold`.
const UNHEALTHY_ZONE_PERCENT: usize = 55;
/// A zone of more nodes is slowed down instead of stopped. Source: `largeClusterSizeThreshold`.
const LARGE_ZONE: usize = 50;
/// From one node to the next. Source: `nodeEvictionRate` 0.1/s.
const USUAL_PERIOD: Duration = Duration::from_secs(10);
/// The same in a large zone in partial disruption. Source: `secondaryNodeEvictionRate` 0.01/s.
const SLOW_PERIOD: Duration = Duration::from_secs(100);

/// How long the controller waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Graces {
    /// Without a renewal, until a node counts as unreachable.
    pub monitor: Duration,
    /// The same for a node that never reported.
    pub startup: Duration,
}

impl Graces {
    /// Those of a version: 40 s, and 50 s from 1.32 on (issue 127352).
    #[must_use]
    pub fn of_version(version: Version) -> Self {
        let monitor = if version >= Version::new(1, 32) { 50 } else { 40 };
        Self { monitor: Duration::from_secs(monitor), startup: Duration::from_secs(60) }
    }
}

/// A node's condition `Ready`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Its kubelet says so.
    Ready,
    /// Its kubelet says that it is not.
    NotReady,
    /// Its kubelet says nothing any more.
    Unknown,
}

/// A node as the API has it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Names it for good.
    pub index: usize,
    /// Its zone.
    pub zone: Rc<str>,
    /// When it was created.
    pub created_at: SimTime,
    /// Its condition; none: its kubelet has never reported.
    pub readiness: Option<Readiness>,
    /// Its kubelet's last renewal of the lease.
    pub renewed_at: Option<SimTime>,
    /// It has the `NoExecute` taint of its condition.
    pub is_tainted: bool,
}

/// What a pass does to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Its condition becomes unknown.
    MarkUnknown(usize),
    /// All its pods are written as not ready.
    MarkPodsNotReady(usize),
    /// It loses the `NoExecute` taints of failed nodes.
    RemoveTaints(usize),
}

/// How a zone fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ZoneState {
    /// Most of its nodes are ready.
    Normal,
    /// More than two and at least 55 % are not.
    Partial,
    /// None is.
    Full,
}

/// A limit of one node per period; after a pause one may go at once, and no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Limiter {
    /// None: never.
    period: Option<Duration>,
    free_at: SimTime,
}

impl Limiter {
    fn try_accept(&mut self, now: SimTime) -> bool {
        let Some(period) = self.period.filter(|_| self.free_at <= now) else { return false };
        self.free_at = now.after(period);
        true
    }

    /// Another rate. Who had to wait before waits anew.
    fn swap(&mut self, period: Option<Duration>, now: SimTime) {
        if self.period == period {
            return;
        }
        let was_free = self.try_accept(now);
        *self = Self { period, free_at: now };
        if !was_free {
            self.try_accept(now);
        }
    }
}

#[derive(Debug)]
struct Zone {
    /// None: not judged yet.
    state: Option<ZoneState>,
    limiter: Limiter,
    queue: VecDeque<usize>,
}

#[derive(Debug)]
struct Health {
    /// When a renewal was last seen.
    seen_at: SimTime,
    renewed_at: Option<SimTime>,
    zone: Rc<str>,
}

/// The controller's memory.
#[derive(Debug)]
pub struct NodeLifecycle {
    graces: Graces,
    nodes: BTreeMap<usize, Health>,
    zones: BTreeMap<Rc<str>, Zone>,
}

impl NodeLifecycle {
    /// A controller that has seen nothing yet.
    #[must_use]
    pub fn new(graces: Graces) -> Self {
        Self { graces, nodes: BTreeMap::new(), zones: BTreeMap::new() }
    }

    /// One pass over all nodes.
    pub fn handle_pass(&mut self, now: SimTime, nodes: &[NodeView]) -> Vec<Order> {
        let there: BTreeSet<usize> = nodes.iter().map(|node| node.index).collect();
        self.nodes.retain(|index, _| there.contains(index));
        for zone in self.zones.values_mut() {
            zone.queue.retain(|index| there.contains(index));
        }
        let mut orders = Vec::new();
        let mut conditions: BTreeMap<Rc<str>, Vec<bool>> = BTreeMap::new();
        for node in nodes {
            let is_ready = self.judge(now, node, &mut orders);
            conditions.entry(Rc::clone(&node.zone)).or_default().push(is_ready);
        }
        self.zones.retain(|name, _| conditions.contains_key(name));
        self.judge_zones(now, nodes, &conditions, &mut orders);
        orders
    }

    /// The nodes that are tainted now.
    pub fn handle_taint_poll(&mut self, now: SimTime) -> Vec<usize> {
        let mut tainted = Vec::new();
        for zone in self.zones.values_mut() {
            while !zone.queue.is_empty() && zone.limiter.try_accept(now) {
                tainted.extend(zone.queue.pop_front());
            }
        }
        tainted
    }

    /// When a node may be tainted next; none: no node waits, or none may.
    #[must_use]
    pub fn next_taint_at(&self, now: SimTime) -> Option<SimTime> {
        let waiting = self.zones.values().filter(|zone| !zone.queue.is_empty() && zone.limiter.period.is_some());
        waiting.map(|zone| zone.limiter.free_at.max(now)).min()
    }

    /// How a zone fared in the last pass.
    #[must_use]
    pub fn zone_state(&self, zone: &str) -> Option<ZoneState> {
        self.zones.get(zone)?.state
    }

    /// Judges one node; whether it is ready now.
    fn judge(&mut self, now: SimTime, node: &NodeView, orders: &mut Vec<Order>) -> bool {
        let zone = Rc::clone(&node.zone);
        let first_seen_at = if node.readiness.is_none() { node.created_at } else { now };
        let fresh = || Health { seen_at: first_seen_at, renewed_at: node.renewed_at, zone };
        let health = self.nodes.entry(node.index).or_insert_with(fresh);
        if health.renewed_at < node.renewed_at {
            (health.renewed_at, health.seen_at) = (node.renewed_at, now);
        }
        let grace = if node.readiness.is_none() { self.graces.startup } else { self.graces.monitor };
        let is_silent = now > health.seen_at.after(grace);
        let found = node.readiness.unwrap_or(Readiness::Unknown);
        let after = if is_silent { Readiness::Unknown } else { found };
        // Taints follow the condition that the pass found.
        let usual =
            Zone { state: None, limiter: Limiter { period: Some(USUAL_PERIOD), free_at: now }, queue: VecDeque::new() };
        let queue = &mut self.zones.entry(Rc::clone(&health.zone)).or_insert(usual).queue;
        match found {
            // Who never reported is let alone until its time is over.
            _ if node.readiness.is_none() && !is_silent => {}
            Readiness::Ready => {
                queue.retain(|index| *index != node.index);
                if node.is_tainted {
                    orders.push(Order::RemoveTaints(node.index));
                }
            }
            Readiness::NotReady | Readiness::Unknown if !node.is_tainted => {
                // Asked for anew in every pass: behind those who wait already.
                queue.retain(|index| *index != node.index);
                queue.push_back(node.index);
            }
            Readiness::NotReady | Readiness::Unknown => {}
        }
        if after != found || (is_silent && node.readiness.is_none()) {
            orders.push(Order::MarkUnknown(node.index));
        }
        if found == Readiness::Ready && after != Readiness::Ready {
            orders.push(Order::MarkPodsNotReady(node.index));
        }
        after == Readiness::Ready
    }

    fn judge_zones(
        &mut self,
        now: SimTime,
        nodes: &[NodeView],
        conditions: &BTreeMap<Rc<str>, Vec<bool>>,
        orders: &mut Vec<Order>,
    ) {
        let is_all_down = conditions.values().all(|ready| state_of(ready) == ZoneState::Full);
        let was_all_down = self.zones.values().all(|zone| zone.state == Some(ZoneState::Full));
        if is_all_down && was_all_down {
            return;
        }
        if is_all_down {
            for zone in self.zones.values_mut() {
                zone.limiter.swap(None, now);
                zone.state = Some(ZoneState::Full);
                zone.queue.clear();
            }
            orders.extend(nodes.iter().filter(|node| node.is_tainted).map(|node| Order::RemoveTaints(node.index)));
            return;
        }
        if was_all_down {
            // Nobody could be heard: the silence of that time is forgiven.
            for health in self.nodes.values_mut() {
                health.seen_at = now;
            }
        }
        for (name, zone) in &mut self.zones {
            let ready = &conditions[name];
            let state = state_of(ready);
            if zone.state != Some(state) || was_all_down {
                zone.limiter.swap(period_of(state, ready.len()), now);
                zone.state = Some(state);
            }
        }
    }
}

fn state_of(ready: &[bool]) -> ZoneState {
    let failed = ready.iter().filter(|is_ready| !**is_ready).count();
    if failed == ready.len() && failed > 0 {
        ZoneState::Full
    } else if failed > 2 && failed * 100 >= ready.len() * UNHEALTHY_ZONE_PERCENT {
        ZoneState::Partial
    } else {
        ZoneState::Normal
    }
}

fn period_of(state: ZoneState, node_count: usize) -> Option<Duration> {
    match state {
        ZoneState::Partial if node_count > LARGE_ZONE => Some(SLOW_PERIOD),
        ZoneState::Partial => None,
        ZoneState::Normal | ZoneState::Full => Some(USUAL_PERIOD),
    }
}

#[cfg(test)]
mod tests;
