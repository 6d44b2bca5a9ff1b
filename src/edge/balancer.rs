//! A layer-4 load balancer: which target a new connection gets, and what becomes of the old ones.
//!
//! ```text
//! register ─→ initial ─(healthy threshold)─→ healthy ⇄ unhealthy
//!                 └────────── deregister ────────┴──→ draining ─(drain timeout)─→ gone
//! ```
//!
//! Choices are made per connection. New connections go to healthy targets only; if none of the registered ones is healthy, to
//! none (a choice documented per product; see `fail_open`). A deregistered target keeps its connections for the drain timeout.
//! What happens to them when draining is off is [`OnRemoval`].
//!
//! Times are arguments; the caller carries out the probes, the cuts and the waiting.
//! Sources: CLB "Add a TCP listener" (draining), "Health check overview" (thresholds); NLB server group documents.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use crate::engine::EventId;

/// Names a registered target of one balancer. A target that is registered again gets a new name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TargetId(u64);

/// How new connections are spread over healthy targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheduler {
    /// In turn, in the order of registration; weights do not matter.
    RoundRobin,
    /// In turn, in proportion to the weights, interleaved smoothly. Weight 0 gets none.
    WeightedRoundRobin,
}

/// When a target counts as healthy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// From one probe of a target to the next.
    pub interval: Duration,
    /// A probe without an answer for so long has failed.
    pub timeout: Duration,
    /// Probes passed in a row that make a target healthy.
    pub healthy_threshold: u32,
    /// Probes failed in a row that make it unhealthy.
    pub unhealthy_threshold: u32,
}

/// What becomes of open connections when their target is deregistered or fails its check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnRemoval {
    /// They live on until one of their ends closes them.
    Keep,
    /// They are cut after this time: the drain timeout, or 0.
    CutAfter(Duration),
}

/// The rules of one balancer.
#[derive(Clone, Debug)]
pub struct BalancerConfig {
    /// How connections are spread.
    pub scheduler: Scheduler,
    /// The health check; targets are healthy at once if it is off.
    pub health_check: Option<HealthCheck>,
    /// What a deregistered target's connections meet.
    pub on_deregister: OnRemoval,
    /// What an unhealthy target's connections meet.
    pub on_unhealthy: OnRemoval,
    /// With no healthy target, new connections go to any registered one instead of none.
    pub fail_open: bool,
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
    /// Smooth weighted round robin: raised by the weight at each choice, lowered by the total when chosen.
    credit: i64,
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
    targets: BTreeMap<TargetId, Target>,
    id_next: u64,
    /// The last choice of plain round robin.
    last: Option<TargetId>,
}

impl Balancer {
    /// A balancer without targets.
    #[must_use]
    pub fn new(config: BalancerConfig) -> Self {
        Self { config, targets: BTreeMap::new(), id_next: 0, last: None }
    }

    /// Its rules.
    #[must_use]
    pub fn config(&self) -> &BalancerConfig {
        &self.config
    }

    /// Adds a target. Without a health check it is healthy at once.
    pub fn register(&mut self, address: SocketAddrV4, weight: u32, why: Option<EventId>) -> TargetId {
        let id = TargetId(self.id_next);
        self.id_next += 1;
        let health = match self.config.health_check {
            Some(_) => Health::Initial { passed: 0 },
            None => Health::Healthy { failed: 0 },
        };
        self.targets.insert(id, Target { address, weight, health, credit: 0, why });
        id
    }

    /// Takes a target out of the choice. What its connections meet is [`BalancerConfig::on_deregister`].
    pub fn deregister(&mut self, id: TargetId) -> bool {
        self.targets.remove(&id).is_some()
    }

    /// Changes a target's weight.
    pub fn set_weight(&mut self, id: TargetId, weight: u32) {
        if let Some(target) = self.targets.get_mut(&id) {
            target.weight = weight;
        }
    }

    /// Makes a target healthy without a probe: it was before the run began.
    pub fn set_healthy(&mut self, id: TargetId) {
        if let Some(target) = self.targets.get_mut(&id) {
            target.health = Health::Healthy { failed: 0 };
        }
    }

    /// The result of a probe; the change it makes, if any.
    pub fn handle_probe(&mut self, id: TargetId, is_ok: bool, why: Option<EventId>) -> Option<HealthChange> {
        let check = self.config.health_check?;
        let target = self.targets.get_mut(&id)?;
        let (health, change) = match (target.health, is_ok) {
            (Health::Initial { passed } | Health::Unhealthy { passed }, true) => {
                if passed + 1 >= check.healthy_threshold {
                    (Health::Healthy { failed: 0 }, Some(HealthChange::Healthy))
                } else if matches!(target.health, Health::Initial { .. }) {
                    (Health::Initial { passed: passed + 1 }, None)
                } else {
                    (Health::Unhealthy { passed: passed + 1 }, None)
                }
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
        target.health = health;
        if change.is_some() {
            target.why = why;
        }
        change
    }

    /// The target of a new connection, or none.
    pub fn choose(&mut self) -> Option<(TargetId, SocketAddrV4)> {
        let has_healthy = self.targets.values().any(|target| matches!(target.health, Health::Healthy { .. }));
        if !has_healthy && !self.config.fail_open {
            return None;
        }
        let may = |target: &Target| !has_healthy || matches!(target.health, Health::Healthy { .. });
        let id = match self.config.scheduler {
            Scheduler::RoundRobin => {
                let after = self.last.map_or(0, |last| last.0 + 1);
                let next = self.targets.range(TargetId(after)..).find(|(_, target)| may(target));
                let (id, _) = next.or_else(|| self.targets.iter().find(|(_, target)| may(target)))?;
                *id
            }
            Scheduler::WeightedRoundRobin => {
                let total: i64 = self.targets.values().filter(|target| may(target)).map(|t| i64::from(t.weight)).sum();
                let mut best: Option<(TargetId, i64)> = None;
                for (id, target) in &mut self.targets {
                    if target.weight == 0 || !may(target) {
                        continue;
                    }
                    target.credit += i64::from(target.weight);
                    if best.is_none_or(|(_, credit)| target.credit > credit) {
                        best = Some((*id, target.credit));
                    }
                }
                let (id, _) = best?;
                self.targets.get_mut(&id)?.credit -= total;
                id
            }
        };
        self.last = Some(id);
        Some((id, self.targets[&id].address))
    }

    /// Whether a target gets new connections.
    #[must_use]
    pub fn is_healthy(&self, id: TargetId) -> bool {
        self.targets.get(&id).is_some_and(|target| matches!(target.health, Health::Healthy { .. }))
    }

    /// Targets that get new connections.
    #[must_use]
    pub fn healthy_count(&self) -> usize {
        self.targets.values().filter(|target| matches!(target.health, Health::Healthy { .. })).count()
    }

    /// Registered targets.
    #[must_use]
    pub fn target_count(&self) -> usize {
        self.targets.len()
    }

    /// The event that last changed a target.
    #[must_use]
    pub fn why(&self, id: TargetId) -> Option<EventId> {
        self.targets.get(&id)?.why
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn balancer(scheduler: Scheduler, thresholds: Option<(u32, u32)>) -> Balancer {
        let health_check = thresholds.map(|(healthy_threshold, unhealthy_threshold)| HealthCheck {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            healthy_threshold,
            unhealthy_threshold,
        });
        Balancer::new(BalancerConfig {
            scheduler,
            health_check,
            on_deregister: OnRemoval::Keep,
            on_unhealthy: OnRemoval::Keep,
            fail_open: false,
        })
    }

    fn address(last: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 80)
    }

    fn chosen(balancer: &mut Balancer, count: usize) -> Vec<u8> {
        (0..count).map(|_| balancer.choose().map_or(0, |(_, address)| address.ip().octets()[3])).collect()
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
            assert_eq!(balancer.handle_probe(id, is_ok, None), change);
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
            assert_eq!(balancer.handle_probe(id, is_ok, None), change);
        }
        assert_eq!(chosen(&mut balancer, 1), [0]);
    }

    #[test]
    fn a_balancer_that_fails_open_uses_the_sick() {
        let mut balancer = balancer(Scheduler::WeightedRoundRobin, Some((2, 2)));
        balancer.config.fail_open = true;
        balancer.register(address(1), 100, None);
        assert_eq!(chosen(&mut balancer, 1), [1]);
    }
}
