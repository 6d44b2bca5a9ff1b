//! Which endpoint a request goes to.
//!
//! - A priority is chosen first (`priority`): its healthy hosts, or in panic all of them.
//! - Least request: of `choice_count` hosts drawn uniformly, with replacement, the first stays unless a later one has strictly fewer
//!   active requests. Active are this process's requests in flight, over all its workers.
//! - Round robin: a rotating index per worker, from a random start. Random: uniform.
//! - Unequal weights, or a host in slow start: earliest deadline first (`edf`). Least request then divides a weight by
//!   (active + 1)^bias.
//! - Ring hash and Maglev (`hashing`): by the hash of the request's key; a request without one gets a random hash.
//! - Slow start: the weight of a host younger than the window is scaled by max(minimum, (age / window)^(1 / aggression)).
//! - Where localities have weights, one of them is chosen before the host (`locality`); not in panic.
//! - A pick that the caller rejects is made anew, up to the given number of times; the last one stands.
//!
//! What all workers share of a cluster is [`HostSets`], built anew when hosts or their health change; a [`Picker`] is one worker's place
//! in it. No pick allocates.
//!
//! Source: envoy source/extensions/load_balancing_policies/{least_request,round_robin,random,ring_hash,maglev,common}.

pub mod edf;
pub mod hashing;
mod locality;
pub mod priority;

use std::sync::Arc;
use std::time::Duration;

use edf::Edf;
use hashing::{HashedHost, Maglev, Ring};
use locality::Locality;
pub use locality::LocalityWeight;
use priority::{HostCounts, OVERPROVISIONING_PERCENT, Priority, PriorityLoad};

use crate::units::SimTime;

/// The balancing policy of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// The less busy of a few; Istio's default.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// Any.
    Random,
    /// By the hash of a key, on a ring.
    RingHash {
        /// Positions in all, at least. Istio's default is 1024.
        minimum: u64,
        /// And at most. Envoy's default is 8 Mi.
        maximum: u64,
    },
    /// By the hash of a key, in a table.
    Maglev {
        /// Places in the table, a prime number. Default 65537.
        table_size: u64,
    },
}

impl Policy {
    /// A ring of Istio's default size.
    pub const RING_HASH: Self = Self::RingHash { minimum: 1024, maximum: 8 << 20 };
    /// A table of the default size.
    pub const MAGLEV: Self = Self::Maglev { table_size: 65_537 };

    /// Whether hosts have their turns, one after the other, where their weights differ.
    const fn takes_turns(self) -> bool {
        matches!(self, Self::LeastRequest | Self::RoundRobin)
    }

    fn is_hashing(self) -> bool {
        matches!(self, Self::RingHash { .. } | Self::Maglev { .. })
    }

    /// Why Envoy refuses it, if it does.
    ///
    /// # Errors
    ///
    /// If the ring's bounds contradict each other, or the table's size is not prime.
    pub fn check(self) -> Result<(), PolicyError> {
        match self {
            Self::RingHash { minimum, maximum } if minimum > maximum => {
                Err(PolicyError::RingBounds { minimum, maximum })
            }
            Self::Maglev { table_size } if !hashing::is_prime(table_size) => Err(PolicyError::TableSize(table_size)),
            _ => Ok(()),
        }
    }
}

/// A policy that Envoy refuses.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error, Debug)]
pub enum PolicyError {
    /// No ring is as large as `minimum` and no larger than `maximum`.
    #[error("the least ring size {minimum} is above the largest {maximum}")]
    RingBounds {
        /// The least size.
        minimum: u64,
        /// The largest.
        maximum: u64,
    },
    /// A Maglev table of this size has permutations that miss places.
    #[error("the table size {0} is not a prime number")]
    TableSize(u64),
}

/// How a cluster balances.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BalanceConfig {
    /// The policy.
    pub policy: Policy,
    /// Hosts that least request draws. Default 2.
    pub choice_count: u32,
    /// How much active requests weigh where weights differ, 1 by default. Below 0 is taken as 1.
    pub active_request_bias: f64,
    /// Whether young hosts get less. Only for least request and round robin.
    pub slow_start: Option<SlowStart>,
    /// Whether a priority in panic serves nothing, rather than using all its hosts. Off by default.
    pub fails_traffic_on_panic: bool,
    /// Whether a locality is chosen first, by its weight, if hosts have localities. Off by default: all hosts of a priority are alike.
    pub is_locality_weighted: bool,
}

impl Policy {
    /// Whether hosts are chosen by hashes of their keys.
    #[must_use]
    pub const fn hashes(self) -> bool {
        matches!(self, Self::RingHash { .. } | Self::Maglev { .. })
    }
}

impl BalanceConfig {
    /// Istio's default.
    pub const ISTIO: Self = Self::new(Policy::LeastRequest);

    /// A policy with everything else at its default.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            choice_count: 2,
            active_request_bias: 1.0,
            slow_start: None,
            fails_traffic_on_panic: false,
            is_locality_weighted: false,
        }
    }
}

/// How a young host's weight grows. Istio calls it `warmup`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SlowStart {
    /// A host is young for so long. Zero: never.
    pub window: Duration,
    /// A weight is scaled by no less than this. Default 10 %.
    pub minimum_percent: f64,
    /// Above 1 a weight grows fast at first; 1 is linear.
    pub aggression: f64,
}

impl SlowStart {
    /// Envoy's defaults: it is off.
    pub const OFF: Self = Self { window: Duration::ZERO, minimum_percent: 10.0, aggression: 1.0 };

    /// What the weight of a host of this age is multiplied by.
    #[must_use]
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        // Envoy counts whole milliseconds, and begins with one.
        let millis = |span: Duration| f64::from(u32::try_from(span.as_millis()).unwrap_or(u32::MAX));
        let elapsed = millis(age).max(1.0) / millis(self.window).max(1.0);
        let aggression = if self.aggression > 0.0 { self.aggression } else { 1.0 };
        let is_linear = (aggression - 1.0).abs() < f64::EPSILON;
        let grown = if is_linear { elapsed } else { libm::pow(elapsed, 1.0 / aggression) };
        grown.max(self.minimum_percent / 100.0)
    }
}

/// A host as a balancer sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BalancedHost {
    /// Its weight, 1 or more.
    pub weight: u32,
    /// Its priority; 0 is served first.
    pub priority: usize,
    /// Its locality; none: never chosen where others have one and localities have weights.
    pub locality: Option<LocalityWeight>,
    /// Whether it is in rotation.
    pub is_healthy: bool,
    /// What is hashed for it, where the policy hashes: its address, unless it has a key of its own.
    pub hash_key: Option<Arc<str>>,
    /// Since when it has been in rotation, for slow start.
    pub slow_start_since: Option<SimTime>,
}

/// The hosts of a cluster, sorted for balancing. Hosts go by their number in the list it was made from.
#[derive(Clone, Debug)]
pub struct HostSets {
    config: BalanceConfig,
    hosts: Vec<BalancedHost>,
    load: PriorityLoad,
    sets: Vec<HostSet>,
    /// All load goes to this priority, as is nearly always so.
    only_priority: Option<usize>,
    /// From then on no host is in slow start.
    slow_start_ends_at: SimTime,
}

/// The hosts of one priority that are in use.
#[derive(Clone, Debug)]
struct HostSet {
    whole: Group,
    /// Those that can be chosen. Empty unless one is chosen first.
    localities: Vec<Locality>,
    table: Table,
}

/// Hosts among which one is picked.
#[derive(Clone, Debug)]
struct Group {
    members: Vec<usize>,
    has_equal_weights: bool,
}

#[derive(Clone, Debug)]
enum Table {
    None,
    Ring(Ring),
    Maglev(Maglev),
}

impl HostSets {
    /// Sorts these hosts.
    #[must_use]
    pub fn new(config: BalanceConfig, panic_threshold_percent: u64, hosts: Vec<BalancedHost>) -> Self {
        let count = hosts.iter().map(|host| host.priority + 1).max().unwrap_or(0);
        let priorities: Vec<Priority> = (0..count).map(|priority| tally(&hosts, priority)).collect();
        let load = PriorityLoad::new(&priorities, panic_threshold_percent);
        let set = |priority| HostSet::new(&config, &hosts, priority, load.panic[priority]);
        let sets = (0..count).map(set).collect();
        let only_priority = load.healthy.iter().position(|load| *load == 100);
        let window = config.slow_start.map_or(Duration::ZERO, |slow_start| slow_start.window);
        let since = hosts.iter().filter(|host| host.is_healthy).filter_map(|host| host.slow_start_since).max();
        let slow_start_ends_at = since.map_or(SimTime::ZERO, |since| since.after(window));
        Self { config, hosts, load, sets, only_priority, slow_start_ends_at }
    }

    /// The load of each priority.
    #[must_use]
    pub fn load(&self) -> &PriorityLoad {
        &self.load
    }

    /// Whether a picker that hears of them draws where its turns begin, hosts in slow start aside.
    #[must_use]
    pub fn takes_seed(&self) -> bool {
        let takes_turns = self.config.policy.takes_turns();
        let is_uneven = |group: &Group| takes_turns && !group.has_equal_weights && group.members.len() > 1;
        self.sets.iter().any(|set| !set.localities.is_empty() || is_uneven(&set.whole))
    }

    fn is_in_slow_start(&self, now: SimTime) -> bool {
        self.config.slow_start.is_some_and(|slow_start| !slow_start.window.is_zero()) && now <= self.slow_start_ends_at
    }

    /// The weight of a host at the time it is put back into a schedule.
    fn weight(&self, host: usize, active: u32, now: SimTime) -> f64 {
        let host = &self.hosts[host];
        let mut weight = f64::from(host.weight);
        if self.config.policy == Policy::LeastRequest {
            let bias = self.config.active_request_bias;
            let bias = if bias < 0.0 { 1.0 } else { bias };
            weight /= libm::pow(f64::from(active) + 1.0, bias);
        }
        match (self.config.slow_start, host.slow_start_since) {
            (Some(slow_start), Some(since)) if host.is_healthy => weight * slow_start.factor(now.since(since)),
            _ => weight,
        }
    }
}

impl HostSet {
    fn new(config: &BalanceConfig, hosts: &[BalancedHost], priority: usize, panics: bool) -> Self {
        let is_used = |host: &BalancedHost| {
            host.priority == priority && if panics { !config.fails_traffic_on_panic } else { host.is_healthy }
        };
        let members: Vec<usize> =
            hosts.iter().enumerate().filter(|(_, host)| is_used(host)).map(|(index, _)| index).collect();
        let is_by_locality = config.is_locality_weighted && hosts.iter().any(|host| host.locality.is_some());
        let localities = if is_by_locality { locality::sort(hosts, priority, &members) } else { Vec::new() };
        let hashed = || -> Vec<HashedHost> {
            let weighted = |members: &[usize]| -> Vec<(usize, u32)> {
                members.iter().map(|host| (*host, hosts[*host].weight)).collect()
            };
            let whole = [(1, weighted(&members))];
            let by_locality = || localities.iter().map(|of| (of.weight, weighted(&of.group.members)));
            let parts = if is_by_locality { by_locality().collect() } else { whole.to_vec() };
            let parts: Vec<(u32, &[(usize, u32)])> = parts.iter().map(|(weight, of)| (*weight, &of[..])).collect();
            let shares = hashing::shares(&parts);
            let hashed = shares.into_iter().map(|(host, share)| {
                let key = hosts[host].hash_key.as_deref().unwrap_or_default().to_owned();
                HashedHost { key, host, share }
            });
            hashed.collect()
        };
        let table = match config.policy {
            Policy::RingHash { minimum, maximum } => Table::Ring(Ring::new(&hashed(), minimum, maximum)),
            Policy::Maglev { table_size } => Table::Maglev(Maglev::new(&hashed(), table_size)),
            Policy::LeastRequest | Policy::RoundRobin | Policy::Random => Table::None,
        };
        // Those that are never chosen have had their share of a ring's or table's places; in panic there are none to choose from.
        let mut localities = localities;
        localities.retain(|locality| !panics && locality.effective_weight > 0.0);
        Self { whole: Group::new(members, hosts), localities, table }
    }
}

impl Group {
    fn new(members: Vec<usize>, hosts: &[BalancedHost]) -> Self {
        let has_equal_weights = members.windows(2).all(|pair| hosts[pair[0]].weight == hosts[pair[1]].weight);
        Self { members, has_equal_weights }
    }
}

fn tally(hosts: &[BalancedHost], priority: usize) -> Priority {
    let mut counts = HostCounts::default();
    for host in hosts.iter().filter(|host| host.priority == priority) {
        counts.hosts += 1;
        counts.healthy += u64::from(host.is_healthy);
    }
    Priority { counts, weights: None, overprovisioning_percent: OVERPROVISIONING_PERCENT }
}

/// What a pick is for.
#[derive(Clone, Copy, Default, Debug)]
pub struct PickRequest<'a> {
    /// The hash of the request's key, for ring hash and Maglev.
    pub hash: Option<u64>,
    /// How often a rejected pick is made anew.
    pub repicks: u32,
    /// The load of each priority, if not that of the hosts: a retry may leave out priorities.
    pub load: Option<&'a PriorityLoad>,
}

/// One worker's place in a cluster's hosts.
#[derive(Clone, Default, Debug)]
pub struct Picker {
    /// Where turns begin.
    seed: Option<u64>,
    /// One for each priority.
    schedules: Vec<Schedule>,
}

#[derive(Clone, Default, Debug)]
struct Schedule {
    whole: Turns,
    /// Where a locality is chosen first: whose turn it is, and the turns within each.
    localities: Option<Box<(Edf, Vec<Turns>)>>,
}

/// Whose turn it is in a group.
#[derive(Clone, Default, Debug)]
struct Turns {
    taken: u64,
    edf: Option<Edf>,
}

/// Seeds are drawn below this: so many picks into its course a schedule begins, at most.
const SEED_BOUND: u64 = 1 << 32;

impl Picker {
    /// A picker whose turns begin at `seed`, instead of at random.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self { seed: Some(seed), schedules: Vec::new() }
    }

    /// Draws where turns begin, unless that is known.
    pub fn take_seed(&mut self, draw: impl FnOnce(u64) -> u64) {
        self.seed.get_or_insert_with(|| draw(SEED_BOUND));
    }

    /// Takes note of hosts that changed. `draw` gives a number uniform below its argument.
    pub fn refresh(
        &mut self,
        sets: &HostSets,
        now: SimTime,
        active: impl Fn(usize) -> u32,
        mut draw: impl FnMut(u64) -> u64,
    ) {
        self.schedules.resize_with(sets.sets.len(), Schedule::default);
        let takes_turns = sets.config.policy.takes_turns();
        let is_in_slow_start = sets.is_in_slow_start(now);
        let mut picks = || {
            let seed = *self.seed.get_or_insert_with(|| draw(SEED_BOUND));
            u32::try_from(seed % SEED_BOUND).unwrap_or(u32::MAX)
        };
        for (schedule, set) in self.schedules.iter_mut().zip(&sets.sets) {
            let mut edf = |group: &Group| {
                let is_even = group.has_equal_weights && !is_in_slow_start;
                let has_turns = takes_turns && !is_even && group.members.len() > 1;
                has_turns.then(|| Edf::new(&group.members, |host| sets.weight(host, active(host), now), picks()))
            };
            schedule.whole.edf = edf(&set.whole);
            if set.localities.is_empty() {
                schedule.localities = None;
                continue;
            }
            let mut within = schedule.localities.take().map(|former| former.1).unwrap_or_default();
            within.resize_with(set.localities.len(), Turns::default);
            for (turns, locality) in within.iter_mut().zip(&set.localities) {
                turns.edf = edf(&locality.group);
            }
            let all: Vec<usize> = (0..set.localities.len()).collect();
            let between = Edf::new(&all, |index| set.localities[index].effective_weight, picks());
            schedule.localities = Some(Box::new((between, within)));
        }
    }

    /// The number of the next host; none if there is none. `active` tells the requests in flight to one, `draw` gives a number uniform
    /// below its argument.
    pub fn pick(
        &mut self,
        sets: &HostSets,
        request: &PickRequest<'_>,
        is_rejected: impl Fn(usize) -> bool,
        active: impl Fn(usize) -> u32,
        now: SimTime,
        mut draw: impl FnMut(u64) -> u64,
    ) -> Option<usize> {
        if sets.hosts.is_empty() {
            return None;
        }
        if sets.config.policy.is_hashing() {
            return pick_by_hash(sets, request, is_rejected, draw);
        }
        let mut picked = None;
        for _ in 0..=request.repicks {
            let priority = match (request.load, sets.only_priority) {
                (None, Some(only)) => only,
                (load, _) => load.unwrap_or(&sets.load).choose(draw(100))?.0,
            };
            picked = self.pick_in(sets, priority, &active, now, &mut draw);
            if picked.is_none_or(|host| !is_rejected(host)) {
                break;
            }
        }
        picked
    }

    fn pick_in(
        &mut self,
        sets: &HostSets,
        priority: usize,
        active: impl Fn(usize) -> u32,
        now: SimTime,
        mut draw: impl FnMut(u64) -> u64,
    ) -> Option<usize> {
        let set = sets.sets.get(priority)?;
        let schedule = &mut self.schedules[priority];
        let (group, turns) = match &mut schedule.localities {
            None => (&set.whole, &mut schedule.whole),
            Some(localities) => {
                let (between, within) = &mut **localities;
                let index = between.pick(|index| set.localities[index].effective_weight)?;
                (&set.localities[index].group, &mut within[index])
            }
        };
        let members = &group.members;
        let bound = u64::try_from(members.len()).ok().filter(|bound| *bound > 0)?;
        let member = |number: u64| usize::try_from(number).ok().and_then(|index| members.get(index)).copied();
        if let Some(edf) = &mut turns.edf {
            return edf.pick(|host| sets.weight(host, active(host), now));
        }
        if sets.config.policy == Policy::RoundRobin {
            let seed = *self.seed.get_or_insert_with(|| draw(SEED_BOUND));
            let turn = seed.wrapping_add(turns.taken);
            turns.taken = turns.taken.wrapping_add(1);
            return member(turn % bound);
        }
        let mut best = member(draw(bound))?;
        if sets.config.policy == Policy::LeastRequest {
            for _ in 1..sets.config.choice_count {
                let other = member(draw(bound))?;
                if active(other) < active(best) {
                    best = other;
                }
            }
        }
        Some(best)
    }
}

fn pick_by_hash(
    sets: &HostSets,
    request: &PickRequest<'_>,
    is_rejected: impl Fn(usize) -> bool,
    mut draw: impl FnMut(u64) -> u64,
) -> Option<usize> {
    let hash = request.hash.unwrap_or_else(|| draw(u64::MAX));
    let priority = match (request.load, sets.only_priority) {
        (None, Some(only)) => only,
        (load, _) => load.unwrap_or(&sets.load).choose(hash % 100)?.0,
    };
    let mut picked = None;
    for attempt in 0..=request.repicks {
        picked = match &sets.sets.get(priority)?.table {
            Table::Ring(ring) => ring.pick(hash, attempt),
            Table::Maglev(table) => table.pick(hash, attempt),
            Table::None => None,
        };
        if picked.is_none_or(|host| !is_rejected(host)) {
            break;
        }
    }
    picked
}

#[cfg(test)]
mod tests;
