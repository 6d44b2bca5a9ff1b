//! The share of each priority, and panic.
//!
//! - health of a priority = min(100, ⌊factor · healthy / hosts⌋), factor 140 by default: a priority that is 72 % healthy still
//!   takes all it is given. Each takes min(what is left, health · 100 / min(100, Σ health)); degraded hosts take what
//!   healthy ones left, and the first available priority what rounding left.
//! - Panic: in a priority with fewer healthy hosts than the threshold, in percent, all hosts are used. Not while Σ health is 100 or more. A
//!   threshold of 0 turns panic off. Where every priority is in panic, load follows the number of hosts.
//!
//! Source: envoy source/extensions/load_balancing_policies/common/load_balancer_impl.cc.

/// Envoy's over-provisioning factor, in percent.
pub const OVERPROVISIONING_PERCENT: u64 = 140;

/// The hosts of one priority by state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HostCounts {
    /// All.
    pub hosts: u64,
    /// Those that serve.
    pub healthy: u64,
    /// Those that serve if no healthy one does.
    pub degraded: u64,
    /// Those not yet counted, neither as healthy nor as missing.
    pub excluded: u64,
}

/// A priority as its load is computed from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Priority {
    /// Its hosts.
    pub counts: HostCounts,
    /// Sums of weights in place of numbers of hosts, where health goes by weight.
    pub weights: Option<HostCounts>,
    /// The over-provisioning factor, percent.
    pub overprovisioning_percent: u64,
}

/// Which hosts of a priority a request is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Availability {
    /// The healthy ones.
    Healthy,
    /// The degraded ones.
    Degraded,
}

/// The load of each priority in whole percent.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PriorityLoad {
    /// For healthy hosts. With `degraded` the sum is 100, if there is a priority.
    pub healthy: Vec<u64>,
    /// For degraded hosts.
    pub degraded: Vec<u64>,
    /// Which priorities use all their hosts.
    pub panic: Vec<bool>,
    health: Vec<u64>,
    degraded_health: Vec<u64>,
}

impl PriorityLoad {
    /// The load of these priorities.
    #[must_use]
    pub fn new(priorities: &[Priority], panic_threshold_percent: u64) -> Self {
        let zeros = vec![0; priorities.len()];
        let mut load = Self {
            healthy: zeros.clone(),
            degraded: zeros,
            panic: vec![false; priorities.len()],
            health: priorities.iter().map(|priority| priority.health(|counts| counts.healthy)).collect(),
            degraded_health: priorities.iter().map(|priority| priority.health(|counts| counts.degraded)).collect(),
        };
        let available = load.available();
        if available > 0 {
            load.distribute(&vec![false; priorities.len()]);
        }
        if panic_threshold_percent == 0 {
            if let (0, Some(first)) = (available, load.healthy.first_mut()) {
                *first = 100;
            }
            return load;
        }
        if available < 100 {
            let panics = |priority: &Priority| priority.counts.is_below(panic_threshold_percent.min(100));
            load.panic = priorities.iter().map(panics).collect();
            if load.panic.iter().all(|panics| *panics) {
                load.follow_hosts(priorities);
            }
        }
        load
    }

    /// The priority for a number, uniform over 0..100.
    #[must_use]
    pub fn choose(&self, number: u64) -> Option<(usize, Availability)> {
        let mut below = 0;
        let healthy = self.healthy.iter().enumerate().map(|(index, load)| (index, Availability::Healthy, load));
        let degraded = self.degraded.iter().enumerate().map(|(index, load)| (index, Availability::Degraded, load));
        healthy.chain(degraded).find_map(|(index, availability, load)| {
            below += load;
            (number < below).then_some((index, availability))
        })
    }

    /// The load without the priorities that were `tried`; as it was if no other is available.
    ///
    /// Source: envoy source/extensions/retry/priority/previous_priorities.
    #[must_use]
    pub fn without(&self, tried: &[bool]) -> Self {
        let mut load = self.clone();
        load.healthy.fill(0);
        load.degraded.fill(0);
        if load.distribute(tried) { load } else { self.clone() }
    }

    /// Σ health over all priorities, at most 100.
    fn available(&self) -> u64 {
        self.health.iter().chain(&self.degraded_health).sum::<u64>().min(100)
    }

    /// Gives 100 percent to the priorities that are not `excluded`; false if none of them is available.
    fn distribute(&mut self, excluded: &[bool]) -> bool {
        let is_in = |index: usize| !excluded.get(index).copied().unwrap_or_default();
        let kept = |health: &[u64]| -> Vec<u64> {
            health.iter().enumerate().map(|(index, health)| if is_in(index) { *health } else { 0 }).collect()
        };
        let (health, degraded) = (kept(&self.health), kept(&self.degraded_health));
        let available = health.iter().chain(&degraded).sum::<u64>().min(100);
        if available == 0 {
            return false;
        }
        let mut left = 100;
        for (loads, health) in [(&mut self.healthy, &health), (&mut self.degraded, &degraded)] {
            for (load, health) in loads.iter_mut().zip(health) {
                *load = left.min(health * 100 / available);
                left -= *load;
            }
        }
        let first = |health: &[u64]| health.iter().position(|health| *health > 0);
        match (first(&health), first(&degraded)) {
            (Some(first), _) => self.healthy[first] += left,
            (None, Some(first)) => self.degraded[first] += left,
            (None, None) => {}
        }
        true
    }

    /// Load by number of hosts, whatever their health.
    fn follow_hosts(&mut self, priorities: &[Priority]) {
        let total: u64 = priorities.iter().map(|priority| priority.counts.hosts).sum();
        let Some(first) = priorities.iter().position(|priority| priority.counts.hosts > 0) else {
            if let Some(first) = self.healthy.first_mut() {
                *first = 100;
            }
            return;
        };
        self.degraded.fill(0);
        for (load, priority) in self.healthy.iter_mut().zip(priorities) {
            *load = 100 * priority.counts.hosts / total;
        }
        self.healthy[first] += 100 - self.healthy.iter().sum::<u64>();
    }
}

impl Priority {
    fn health(&self, part: impl Fn(&HostCounts) -> u64) -> u64 {
        let counts = self.weights.unwrap_or(self.counts);
        let total = counts.hosts.saturating_sub(counts.excluded);
        let health = self.overprovisioning_percent.saturating_mul(part(&counts)).checked_div(total);
        health.unwrap_or(0).min(100)
    }
}

impl HostCounts {
    /// Whether fewer than `percent` of the hosts serve.
    fn is_below(&self, percent: u64) -> bool {
        let total = self.hosts.saturating_sub(self.excluded);
        total == 0 || 100 * (self.healthy + self.degraded) < percent * total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priorities(healthy_of_100: &[u64]) -> Vec<Priority> {
        let counts = |healthy: &u64| HostCounts { hosts: 100, healthy: *healthy, ..HostCounts::default() };
        let priority = |counts| Priority { counts, weights: None, overprovisioning_percent: OVERPROVISIONING_PERCENT };
        healthy_of_100.iter().map(counts).map(priority).collect()
    }

    #[track_caller]
    fn check(healthy: &[u64], threshold: u64, expected: &[u64]) {
        assert_eq!(PriorityLoad::new(&priorities(healthy), threshold).healthy, expected);
    }

    #[test]
    fn a_priority_spills_over_when_its_health_falls_below_what_it_was_provisioned_for() {
        check(&[72, 100], 0, &[100, 0]);
        check(&[71, 100], 0, &[99, 1]);
        check(&[50, 100], 0, &[70, 30]);
        check(&[25, 100], 0, &[35, 65]);
        check(&[25, 25], 0, &[50, 50]);
        check(&[0, 0], 0, &[100, 0]);
    }

    #[test]
    fn panic_is_below_the_threshold_and_not_at_it() {
        let panics = |healthy, threshold| PriorityLoad::new(&priorities(&[healthy]), threshold).panic[0];
        assert!(!panics(50, 50) && panics(49, 50));
        assert!(!panics(0, 0), "a threshold of 0 turns it off");
    }

    #[test]
    fn a_retry_leaves_out_priorities_that_were_tried() {
        let load = PriorityLoad::new(&priorities(&[100, 100, 30]), 50);
        assert_eq!(load.without(&[true]).healthy, [0, 100, 0]);
        assert_eq!(load.without(&[true, true]).healthy, [0, 0, 100]);
        assert_eq!(load.without(&[true, true, true]), load, "none is left: as if none had been tried");
    }

    #[test]
    fn a_number_falls_to_the_priority_whose_share_it_is_in() {
        let load = PriorityLoad::new(&priorities(&[50, 50]), 50);
        assert_eq!(load.choose(69), Some((0, Availability::Healthy)));
        assert_eq!(load.choose(70), Some((1, Availability::Healthy)));
        assert_eq!(PriorityLoad::new(&[], 50).choose(0), None);
    }
}
