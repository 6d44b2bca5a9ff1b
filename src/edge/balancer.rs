//! A layer-4 load balancer: which target a new connection gets, and what becomes of the old ones.
//!
//! ```text
//! register ─→ initial ─(healthy threshold)─→ healthy ⇄ unhealthy
//!                 └────────── deregister ────────┴──→ draining ─(drain timeout)─→ gone
//! ```
//!
//! Choices are made per connection, by the rules of [`super::scheduler`]. New connections go to healthy targets only; if none of the registered ones is healthy, to
//! none (a choice documented per product; see `fail_open`). A deregistered target keeps its connections for the drain timeout.
//! What happens to them when draining is off is [`OnRemoval`].
//!
//! Times are arguments; the caller carries out the probes, the cuts and the waiting.
//! Sources: CLB "Add a TCP listener" (draining), "Health check overview" (thresholds); NLB server group documents.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::numbered::Numbered;
use super::scheduler::{Flow, Scheduler, Spread};
use super::slow_start::SlowStart;
use crate::engine::EventId;
use crate::units::SimTime;

/// Names a registered target of one balancer. A target that is registered again gets a new name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TargetId(pub(super) u64);

/// When a target counts as healthy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// From one probe of a target to the next, as `spacing` has it.
    pub interval: Duration,
    /// What the interval is counted from.
    pub spacing: Spacing,
    /// A probe without an answer for so long has failed.
    pub timeout: Duration,
    /// Probes passed in a row that make a target healthy.
    pub healthy_threshold: u32,
    /// Probes failed in a row that make it unhealthy.
    pub unhealthy_threshold: u32,
}

/// What the interval of a health check is counted from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spacing {
    /// The start of a probe; one that takes longer is followed at once.
    Starts,
    /// The end of a probe that is not answered, the start of one that is. So a target that does not answer has failed after timeout × threshold + interval ×
    /// (threshold − 1), as the documents of CLB have it. (They add an answer's time to the interval too: less than a millisecond within a region.)
    Ends,
}

impl HealthCheck {
    /// When the probe after one with this start and end begins.
    #[must_use]
    pub fn next_probe(&self, started_at: SimTime, ended_at: SimTime) -> SimTime {
        match self.spacing {
            Spacing::Starts => started_at.after(self.interval).max(ended_at),
            Spacing::Ends if ended_at.since(started_at) >= self.timeout => ended_at.after(self.interval),
            Spacing::Ends => started_at.after(self.interval).max(ended_at),
        }
    }
}

/// What becomes of open connections when their target is deregistered or fails its check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnRemoval {
    /// They live on until one of their ends closes them.
    Keep,
    /// They are cut after this time: the drain timeout, or 0.
    CutAfter(Duration),
    /// They are forgotten at once: who speaks next gets RST.
    Forget,
}

/// The rules of one balancer.
#[derive(Clone, Debug)]
pub struct BalancerConfig {
    /// How connections are spread.
    pub scheduler: Scheduler,
    /// For so long after its last new connection a client's address keeps its target, as long as that is healthy; never if absent.
    pub persistence: Option<Duration>,
    /// The health check; targets are healthy at once if it is off.
    pub health_check: Option<HealthCheck>,
    /// Probes that a new target has to pass; as many as one that was unhealthy, if absent.
    pub first_passes: Option<u32>,
    /// What a deregistered target's connections meet.
    pub on_deregister: OnRemoval,
    /// What an unhealthy target's connections meet.
    pub on_unhealthy: OnRemoval,
    /// For how long a proxy sends a target that has become healthy less than its share; its scheduler is plain turns then. Never if absent.
    pub slow_start: Option<Duration>,
    /// With no healthy target, new connections go to any registered one instead of none. Where new targets pass like those that have failed (`first_passes` absent), only if one of
    /// them has failed: to those that have not been checked yet nothing is sent.
    pub fail_open: bool,
    /// Groups of targets, each with a choice of its own: zones that send to their own targets only. One: all are in the same.
    pub groups: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Health {
    /// Registered and not yet passed.
    Initial {
        passed: u32,
    },
    Healthy {
        failed: u32,
    },
    Unhealthy {
        passed: u32,
    },
}

#[derive(Debug)]
struct Target {
    address: SocketAddrV4,
    weight: u32,
    health: Health,
    /// Its group; none of them: it is never chosen.
    group: usize,
    /// What it is owed in turns while it may not be chosen.
    credit: i64,
    /// Its open connections.
    open: i64,
    why: Option<EventId>,
}

/// A change of a target's health.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HealthChange {
    /// It gets new connections from now on.
    Healthy,
    /// It gets none.
    Unhealthy,
}

/// The balancer's view of its targets.
#[derive(Debug)]
pub struct Balancer {
    config: BalancerConfig,
    targets: Numbered<Target>,
    id_next: u64,
    /// Those that may be chosen, by group.
    spreads: Vec<Spread>,
    healthy_count: usize,
    /// Where a client's address is kept, and until when.
    kept: BTreeMap<Ipv4Addr, (TargetId, SimTime)>,
    slow_start: Option<SlowStart>,
}

impl Balancer {
    /// A balancer without targets.
    #[must_use]
    pub fn new(config: BalancerConfig) -> Self {
        let spreads = (0..=config.groups).map(|_| Spread::new(config.scheduler)).collect();
        let slow_start = config.slow_start.map(SlowStart::new);
        Self {
            config,
            targets: Numbered::default(),
            id_next: 0,
            spreads,
            healthy_count: 0,
            kept: BTreeMap::new(),
            slow_start,
        }
    }

    /// Its rules.
    #[must_use]
    pub fn config(&self) -> &BalancerConfig {
        &self.config
    }

    /// Its rules are others from now on; targets are in these groups, or in none. Turns begin anew, and who is healthy stays so; without a check all are.
    pub fn set_config(&mut self, config: BalancerConfig, groups: &BTreeMap<TargetId, Option<usize>>) {
        let is_same = config.scheduler == self.config.scheduler && config.groups == self.config.groups;
        let loses_check = config.health_check.is_none() && self.config.health_check.is_some();
        self.config = config;
        match (&mut self.slow_start, self.config.slow_start) {
            (Some(slow), Some(duration)) => slow.duration = duration,
            // Those that are healthy by then are not new.
            (slow, duration) => *slow = duration.map(SlowStart::new),
        }
        if !is_same {
            self.spreads = (0..=self.config.groups).map(|_| Spread::new(self.config.scheduler)).collect();
            for (number, target) in self.targets.iter_mut() {
                let group = groups.get(&TargetId(number)).copied().flatten().unwrap_or(self.config.groups);
                (target.group, target.credit) = (group.min(self.config.groups), 0);
            }
        }
        let all: Vec<TargetId> =
            self.targets.iter().map(|(number, _)| TargetId(number)).filter(|_| loses_check).collect();
        for id in all {
            self.set_healthy(id);
        }
        self.admit_all();
    }

    /// Adds a target to the first group. Without a health check it is healthy at once.
    pub fn register(&mut self, address: SocketAddrV4, weight: u32, why: Option<EventId>) -> TargetId {
        self.register_in(Some(0), address, weight, why)
    }

    /// Adds a target to a group, or to none: then it is never chosen.
    pub fn register_in(
        &mut self,
        group: Option<usize>,
        address: SocketAddrV4,
        weight: u32,
        why: Option<EventId>,
    ) -> TargetId {
        let group = group.unwrap_or(self.config.groups).min(self.config.groups);
        let id = TargetId(self.id_next);
        self.id_next += 1;
        let health = match self.config.health_check {
            Some(_) => Health::Initial { passed: 0 },
            None => Health::Healthy { failed: 0 },
        };
        self.targets.insert(id.0, Target { address, weight, health, group, credit: 0, open: 0, why });
        if matches!(health, Health::Healthy { .. }) {
            self.healthy_count += 1;
        }
        self.admit_all();
        id
    }

    /// Lets those be chosen that may be: the healthy, or all if none is and the product then sends to any.
    fn admit_all(&mut self) {
        let fails_open = self.healthy_count == 0 && self.config.fail_open && self.may_be_sick();
        let admitted: usize = self.spreads.iter().map(Spread::len).sum();
        if admitted == if fails_open { self.targets.len() } else { self.healthy_count } {
            return;
        }
        let ids: Vec<TargetId> = self.targets.iter().map(|(number, _)| TargetId(number)).collect();
        for id in ids {
            self.admit(id, fails_open);
        }
    }

    /// Whether targets may be sent to although they are not healthy.
    fn may_be_sick(&self) -> bool {
        let has_failed = |target: &Target| matches!(target.health, Health::Unhealthy { .. });
        self.config.first_passes.is_some() || self.targets.iter().any(|(_, target)| has_failed(target))
    }

    /// Lets a target be chosen, or no more.
    fn admit(&mut self, id: TargetId, fails_open: bool) {
        let Some(target) = self.targets.get_mut(id.0) else { return };
        let may_be = fails_open || matches!(target.health, Health::Healthy { .. });
        let spread = &mut self.spreads[target.group];
        if may_be && !spread.has(id) {
            let by_open = self.config.scheduler == Scheduler::WeightedLeastConnections;
            spread.add(id, target.weight, if by_open { target.open } else { target.credit });
        } else if !may_be && let Some(standing) = spread.remove(id) {
            target.credit = standing;
        }
    }

    /// A target's health becomes this.
    fn set_health(&mut self, id: TargetId, health: Health) {
        let Some(target) = self.targets.get_mut(id.0) else { return };
        let is_healthy = |health: Health| matches!(health, Health::Healthy { .. });
        let (was, is) = (is_healthy(target.health), is_healthy(health));
        target.health = health;
        if was != is {
            self.healthy_count = if is { self.healthy_count + 1 } else { self.healthy_count - 1 };
            self.admit(id, false);
        }
        if was != is || self.healthy_count == 0 {
            self.admit_all();
        }
    }

    /// Takes a target out of the choice. What its connections meet is [`BalancerConfig::on_deregister`].
    pub fn deregister(&mut self, id: TargetId) -> bool {
        let Some(target) = self.targets.remove(id.0) else { return false };
        self.spreads[target.group].remove(id);
        if let Some(slow) = &mut self.slow_start {
            slow.handle_gone(id);
        }
        if matches!(target.health, Health::Healthy { .. }) {
            self.healthy_count -= 1;
        }
        self.admit_all();
        true
    }

    /// Changes a target's weight.
    pub fn set_weight(&mut self, id: TargetId, weight: u32) {
        if let Some(target) = self.targets.get_mut(id.0) {
            target.weight = weight;
            let spread = &mut self.spreads[target.group];
            if let Some(standing) = spread.remove(id) {
                spread.add(id, weight, standing);
            }
        }
    }

    /// A target's weight.
    #[must_use]
    pub fn weight(&self, id: TargetId) -> Option<u32> {
        Some(self.targets.get(id.0)?.weight)
    }

    /// A connection to a target was opened.
    pub fn handle_open(&mut self, id: TargetId) {
        self.count(id, 1);
    }

    /// One is over.
    pub fn handle_close(&mut self, id: TargetId) {
        self.count(id, -1);
    }

    fn count(&mut self, id: TargetId, change: i64) {
        if let Some(target) = self.targets.get_mut(id.0) {
            target.open += change;
            self.spreads[target.group].set_open(id, target.open);
        }
    }

    /// Makes a target healthy without a probe: it was before the run began.
    pub fn set_healthy(&mut self, id: TargetId) {
        self.set_health(id, Health::Healthy { failed: 0 });
    }

    /// The result of a probe; the change it makes, if any.
    pub fn handle_probe(
        &mut self,
        now: SimTime,
        id: TargetId,
        is_ok: bool,
        why: Option<EventId>,
    ) -> Option<HealthChange> {
        let check = self.config.health_check?;
        let target = self.targets.get_mut(id.0)?;
        let is_new = matches!(target.health, Health::Initial { .. });
        let passes = self.config.first_passes.filter(|_| is_new).unwrap_or(check.healthy_threshold);
        let (health, change) = match (target.health, is_ok) {
            (Health::Initial { passed } | Health::Unhealthy { passed }, true) => {
                if passed + 1 >= passes {
                    (Health::Healthy { failed: 0 }, Some(HealthChange::Healthy))
                } else if is_new {
                    (Health::Initial { passed: passed + 1 }, None)
                } else {
                    (Health::Unhealthy { passed: passed + 1 }, None)
                }
            }
            // Where both pass alike, a new one that has failed is like any other.
            (Health::Initial { .. }, false) if self.config.first_passes.is_none() => {
                (Health::Unhealthy { passed: 0 }, None)
            }
            (Health::Initial { .. }, false) => (Health::Initial { passed: 0 }, None),
            (Health::Unhealthy { .. }, false) => (Health::Unhealthy { passed: 0 }, None),
            (Health::Healthy { .. }, true) => (Health::Healthy { failed: 0 }, None),
            (Health::Healthy { failed }, false) => {
                if failed + 1 >= check.unhealthy_threshold {
                    (Health::Unhealthy { passed: 0 }, Some(HealthChange::Unhealthy))
                } else {
                    (Health::Healthy { failed: failed + 1 }, None)
                }
            }
        };
        if change.is_some() {
            target.why = why;
        }
        match (&mut self.slow_start, change) {
            (Some(slow), Some(HealthChange::Healthy)) => slow.handle_healthy(now, id, self.healthy_count),
            (Some(slow), Some(HealthChange::Unhealthy)) => slow.handle_gone(id),
            _ => {}
        }
        self.set_health(id, health);
        change
    }

    /// The target of a new connection to a group, or none.
    pub fn choose(&mut self, now: SimTime, flow: Flow, group: usize) -> Option<(TargetId, SocketAddrV4)> {
        let spread = self.spreads[..self.config.groups].get_mut(group)?;
        let Some(persistence) = self.config.persistence else {
            let id = spread.choose(flow)?;
            return Some((id, self.targets.get(id.0)?.address));
        };
        let client = *flow.from.ip();
        let kept = self.kept.get(&client).filter(|(id, until)| now < *until && spread.has(*id));
        let id = match kept {
            Some((id, _)) => *id,
            None => spread.choose(flow)?,
        };
        self.kept.insert(client, (id, now.after(persistence)));
        Some((id, self.targets.get(id.0)?.address))
    }

    /// The target of a request that a proxy has; or none. It heeds no client's address, and no target that has failed this request.
    pub fn choose_for_request(
        &mut self,
        now: SimTime,
        flow: Flow,
        failed: &[TargetId],
    ) -> Option<(TargetId, SocketAddrV4)> {
        let spread = self.spreads[..self.config.groups].first_mut()?;
        let aside: Vec<(TargetId, u32, i64)> =
            failed.iter().filter_map(|id| Some((*id, self.targets.get(id.0)?.weight, spread.remove(*id)?))).collect();
        let chosen = match &mut self.slow_start {
            None => spread.choose(flow),
            Some(slow) => slow.choose(now, spread.len(), || spread.choose(flow)),
        };
        for (id, weight, standing) in aside {
            spread.add(id, weight, standing);
        }
        let id = chosen?;
        Some((id, self.targets.get(id.0)?.address))
    }

    /// Whether a target gets new connections.
    #[must_use]
    pub fn is_healthy(&self, id: TargetId) -> bool {
        self.targets.get(id.0).is_some_and(|target| matches!(target.health, Health::Healthy { .. }))
    }

    /// Whether a target of this group has never passed its check.
    #[must_use]
    pub fn waits_for_check(&self, id: TargetId, group: usize) -> bool {
        let target = self.targets.get(id.0).filter(|target| target.group == group);
        target.is_some_and(|target| matches!(target.health, Health::Initial { .. }))
    }

    /// The event with which a target came that has not passed its checks yet, or last failed them; and whether it is new.
    #[must_use]
    pub fn why_unhealthy(&self, id: TargetId) -> Option<(EventId, bool)> {
        let target = self.targets.get(id.0)?;
        let is_new = matches!(target.health, Health::Initial { .. });
        target.why.filter(|_| !matches!(target.health, Health::Healthy { .. })).map(|event| (event, is_new))
    }

    /// Targets that get new connections.
    #[must_use]
    pub fn healthy_count(&self) -> usize {
        self.healthy_count
    }

    /// Registered targets.
    #[must_use]
    pub fn target_count(&self) -> usize {
        self.targets.len()
    }

    /// This event tells the last change of a target.
    pub fn set_why(&mut self, id: TargetId, event: EventId) {
        if let Some(target) = self.targets.get_mut(id.0) {
            target.why = Some(event);
        }
    }

    /// The event that last changed a target.
    #[must_use]
    pub fn why(&self, id: TargetId) -> Option<EventId> {
        self.targets.get(id.0)?.why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(scheduler: Scheduler, thresholds: Option<(u32, u32)>) -> Balancer {
        let health_check = thresholds.map(|(healthy_threshold, unhealthy_threshold)| HealthCheck {
            interval: Duration::from_secs(10),
            spacing: Spacing::Ends,
            timeout: Duration::from_secs(5),
            healthy_threshold,
            unhealthy_threshold,
        });
        Balancer::new(BalancerConfig {
            scheduler,
            persistence: None,
            health_check,
            first_passes: None,
            on_deregister: OnRemoval::Keep,
            on_unhealthy: OnRemoval::Keep,
            slow_start: None,
            fail_open: false,
            groups: 1,
        })
    }

    fn address(last: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 80)
    }

    fn chosen(balancer: &mut Balancer, count: usize) -> Vec<u8> {
        (0..count).map(|_| from(balancer, 1, 0)).collect()
    }

    /// The target of a client at this second.
    fn from(balancer: &mut Balancer, client: u8, second: u64) -> u8 {
        let end = |last: u8| SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, last), 40_000);
        let now = SimTime::ZERO.after(Duration::from_secs(second));
        let chosen = balancer.choose(now, Flow { from: end(client), to: end(250) }, 0);
        chosen.map_or(0, |(_, address)| address.ip().octets()[3])
    }

    #[test]
    fn round_robin_goes_on_after_a_removal() {
        let mut balancer = balancer(Scheduler::RoundRobin, None);
        let ids: Vec<_> = (1..=3).map(|last| balancer.register(address(last), 1, None)).collect();
        assert_eq!(chosen(&mut balancer, 4), [1, 2, 3, 1]);
        assert!(balancer.deregister(ids[1]));
        assert_eq!(chosen(&mut balancer, 3), [3, 1, 3]);
        balancer.register(address(4), 1, None);
        assert_eq!(chosen(&mut balancer, 4), [4, 1, 3, 4]);
    }

    #[test]
    fn weights_interleave_and_zero_gets_nothing() {
        let mut balancer = balancer(Scheduler::WeightedRoundRobin, None);
        for (last, weight) in [(1, 5), (2, 1), (3, 1), (4, 0)] {
            balancer.register(address(last), weight, None);
        }
        assert_eq!(chosen(&mut balancer, 7), [1, 1, 2, 1, 3, 1, 1]);
    }

    #[test]
    fn health_changes_exactly_at_its_thresholds() {
        let mut balancer = balancer(Scheduler::RoundRobin, Some((2, 3)));
        let id = balancer.register(address(1), 1, None);
        assert_eq!(chosen(&mut balancer, 1), [0]);
        // A failure in between starts the count anew.
        let probes = [(true, None), (false, None), (true, None), (true, Some(HealthChange::Healthy))];
        for (is_ok, change) in probes {
            assert_eq!(balancer.handle_probe(SimTime::ZERO, id, is_ok, None), change);
        }
        assert_eq!((chosen(&mut balancer, 1), balancer.healthy_count()), (vec![1], 1));
        for (is_ok, change) in [
            (false, None),
            (false, None),
            (true, None),
            (false, None),
            (false, None),
            (false, Some(HealthChange::Unhealthy)),
            (false, None),
        ] {
            assert_eq!(balancer.handle_probe(SimTime::ZERO, id, is_ok, None), change);
        }
        assert_eq!(chosen(&mut balancer, 1), [0]);
    }

    #[test]
    fn a_balancer_that_fails_open_uses_the_sick() {
        let mut balancer = balancer(Scheduler::WeightedRoundRobin, Some((2, 2)));
        balancer.config.fail_open = true;
        balancer.config.first_passes = Some(2);
        let sick = balancer.register(address(1), 100, None);
        assert_eq!(chosen(&mut balancer, 1), [1]);
        let other = balancer.register(address(2), 100, None);
        assert_eq!(chosen(&mut balancer, 4), [1, 2, 1, 2]);
        balancer.set_healthy(other);
        assert_eq!(chosen(&mut balancer, 2), [2, 2]);
        assert!(balancer.deregister(other));
        assert_eq!((chosen(&mut balancer, 2), balancer.is_healthy(sick)), (vec![1, 1], false));
    }

    #[test]
    fn targets_that_nobody_has_checked_are_not_sent_to() {
        let mut balancer = balancer(Scheduler::WeightedRoundRobin, Some((2, 2)));
        balancer.config.fail_open = true;
        let first = balancer.register(address(1), 100, None);
        balancer.register(address(2), 100, None);
        assert_eq!(chosen(&mut balancer, 1), [0]);
        assert_eq!(balancer.handle_probe(SimTime::ZERO, first, false, None), None);
        assert_eq!(chosen(&mut balancer, 2), [1, 2], "one has failed, and none is well");
        balancer.set_healthy(first);
        assert_eq!(chosen(&mut balancer, 2), [1, 1]);
        assert!(balancer.deregister(first));
        assert_eq!(chosen(&mut balancer, 1), [0]);
    }

    #[test]
    fn a_client_keeps_its_target_until_its_time_is_over_or_the_target_is_sick() {
        let mut balancer = balancer(Scheduler::RoundRobin, Some((2, 1)));
        balancer.config.persistence = Some(Duration::from_secs(60));
        let ids: Vec<_> = (1..=3).map(|last| balancer.register(address(last), 1, None)).collect();
        ids.iter().for_each(|id| balancer.set_healthy(*id));
        let at = |balancer: &mut Balancer, client, second| from(balancer, client, second);
        // The second look renews: 59 + 60 s.
        assert_eq!([0, 59, 118, 178].map(|second| at(&mut balancer, 1, second)), [1, 1, 1, 2]);
        assert_eq!(at(&mut balancer, 2, 178), 3);
        balancer.handle_probe(SimTime::ZERO, ids[1], false, None);
        assert_eq!([179, 180].map(|second| at(&mut balancer, 1, second)), [1, 1]);
    }

    /// From the start of the first probe that finds a target changed to the change of its health, if each takes this long to answer, or never does.
    fn window(check: HealthCheck, is_ok: bool, answer: Option<Duration>) -> Duration {
        let mut balancer = balancer(Scheduler::RoundRobin, Some((2, 2)));
        balancer.config.health_check = Some(check);
        let id = balancer.register(address(1), 1, None);
        if !is_ok {
            balancer.set_healthy(id);
        }
        let mut started_at = SimTime::ZERO;
        loop {
            let ended_at = started_at.after(answer.unwrap_or(check.timeout).min(check.timeout));
            if balancer.handle_probe(SimTime::ZERO, id, is_ok, None).is_some() {
                return ended_at.since(SimTime::ZERO);
            }
            started_at = check.next_probe(started_at, ended_at);
        }
    }

    #[test]
    fn windows_are_those_of_the_documents() {
        let check = |interval: u64, timeout: u64, healthy_threshold: u32, unhealthy_threshold: u32| HealthCheck {
            interval: Duration::from_secs(interval),
            spacing: Spacing::Ends,
            timeout: Duration::from_secs(timeout),
            healthy_threshold,
            unhealthy_threshold,
        };
        let (clb, nlb) = (check(2, 5, 3, 3), check(10, 5, 2, 2));
        let at_once = Some(Duration::ZERO);
        // Failure: timeout × threshold + interval × (threshold − 1); success at once: interval × (threshold − 1).
        let table = [
            ("CLB, no answer", clb, false, None, 19_000),
            ("CLB, refused", clb, false, at_once, 4_000),
            ("CLB, well", clb, true, at_once, 4_000),
            ("NLB, no answer", nlb, false, None, 20_000),
            ("NLB, refused", nlb, false, at_once, 10_000),
            ("NLB, well", nlb, true, at_once, 10_000),
            ("the longest of a CLB", check(50, 300, 10, 10), false, None, 3_450_000),
            ("the shortest of a CLB", check(1, 1, 2, 2), false, None, 3_000),
        ];
        for (name, check, is_ok, answer, expected_ms) in table {
            assert_eq!(window(check, is_ok, answer), Duration::from_millis(expected_ms), "{name}");
        }
        let starts = HealthCheck { spacing: Spacing::Starts, ..clb };
        assert_eq!(window(starts, false, None), Duration::from_secs(15));
        assert_eq!(window(starts, false, at_once), Duration::from_secs(4));
    }

    #[test]
    fn a_request_goes_to_a_target_that_has_not_failed_it() {
        for scheduler in [Scheduler::RoundRobin, Scheduler::WeightedRoundRobin, Scheduler::WeightedLeastConnections] {
            let mut balancer = balancer(scheduler, None);
            let ids: Vec<_> = (1..=3).map(|last| balancer.register(address(last), 100, None)).collect();
            let flow = Flow { from: address(200), to: address(250) };
            let mut failed = Vec::new();
            while let Some((id, _)) = balancer.choose_for_request(SimTime::ZERO, flow, &failed) {
                assert!(!failed.contains(&id), "{scheduler:?}");
                failed.push(id);
            }
            assert_eq!(failed.len(), 3, "{scheduler:?}");
            // Who failed one request is asked by the next.
            let next: Vec<_> = (0..3)
                .filter_map(|_| balancer.choose_for_request(SimTime::ZERO, flow, &[]))
                .map(|(id, _)| id)
                .collect();
            assert!(next.iter().all(|id| ids.contains(id)) && next.len() == 3, "{scheduler:?}");
        }
    }

    #[test]
    fn groups_choose_among_their_own() {
        let mut balancer = balancer(Scheduler::WeightedRoundRobin, None);
        balancer = Balancer::new(BalancerConfig { groups: 2, ..balancer.config });
        for (last, group) in [(1, Some(0)), (2, Some(1)), (3, Some(1)), (4, None)] {
            balancer.register_in(group, address(last), 100, None);
        }
        let flow = Flow { from: address(200), to: address(250) };
        let mut of = |group: usize| -> Vec<u8> {
            let mut chosen = || balancer.choose(SimTime::ZERO, flow, group).map_or(0, |(_, it)| it.ip().octets()[3]);
            (0..4).map(|_| chosen()).collect()
        };
        assert_eq!((of(0), of(1), of(2)), (vec![1; 4], vec![2, 3, 2, 3], vec![0; 4]));
    }
}
