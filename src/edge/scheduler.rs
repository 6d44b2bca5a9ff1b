//! How new connections are spread over the targets that may get some.
//!
//! - `rr`: in turn, in the order of registration; weights do not matter.
//! - `wrr`: in turn, in proportion to the weights, interleaved smoothly; weight 0 gets none.
//! - `wlc`: where there are fewest open connections for the weight; of equals the one registered first. Weight 0 gets none.
//! - `sch`, `tch`: by a hash over the client's address, or over both addresses and ports: a target that goes or comes moves only what it had, or gets.
//!   Weights do not matter, but 0 gets none. The product's hash is not documented; this one is rendezvous hashing.
//!
//! Turns and fewest connections cost the same however many targets there are: targets of one weight change their order only when they are chosen, so each
//! weight keeps a ranking of its own, and a choice looks at the first of each; whose turn it was goes to the ranking's end. A hash looks at all of them.
//!
//! Sources: CLB and NLB documents, scheduling algorithms; Linux `net/netfilter/ipvs/ip_vs_wlc.c` for what counts as fewest.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;

use super::balancer::TargetId;
use super::numbered::Numbered;

/// How new connections are spread over healthy targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheduler {
    /// `rr`.
    RoundRobin,
    /// `wrr`.
    WeightedRoundRobin,
    /// `wlc`.
    WeightedLeastConnections,
    /// `sch`.
    SourceHash,
    /// `tch`.
    FlowHash,
}

/// Who dials whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// The client's end.
    pub from: SocketAddrV4,
    /// The balancer's end.
    pub to: SocketAddrV4,
}

/// A target that may be chosen.
#[derive(Clone, Copy, Debug)]
struct Member {
    weight: u32,
    /// What it is ranked by within its weight, the least first: open connections, or how much it is owed less, whatever its class has grown by.
    rank: i64,
}

/// All targets of one weight.
#[derive(Debug, Default)]
struct Class {
    /// What each of them has been credited with in turns since the class came to be.
    grown: i64,
    ranking: Ranking,
}

/// Targets by rank, the least first.
#[derive(Debug, Default)]
struct Ranking(VecDeque<(i64, TargetId)>);

impl Ranking {
    fn first(&self) -> Option<(i64, TargetId)> {
        self.0.front().copied()
    }

    fn insert(&mut self, ranked: (i64, TargetId)) {
        match self.0.back() {
            Some(last) if *last > ranked => {
                let place = self.0.partition_point(|other| *other < ranked);
                self.0.insert(place, ranked);
            }
            _ => self.0.push_back(ranked),
        }
    }

    fn remove(&mut self, ranked: (i64, TargetId)) {
        match self.first() {
            Some(first) if first == ranked => drop(self.0.pop_front()),
            _ => {
                let place = self.0.binary_search(&ranked).expect("what is ranked is there");
                self.0.remove(place);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The targets that may get new connections.
#[derive(Debug)]
pub(super) struct Spread {
    scheduler: Scheduler,
    members: Numbered<Member>,
    classes: BTreeMap<u32, Class>,
    weight_total: i64,
    /// The last choice of plain turns.
    last: Option<TargetId>,
}

impl Spread {
    pub(super) fn new(scheduler: Scheduler) -> Self {
        Self { scheduler, members: Numbered::default(), classes: BTreeMap::new(), weight_total: 0, last: None }
    }

    pub(super) fn has(&self, id: TargetId) -> bool {
        self.members.get(id.0).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Lets a target be chosen. `standing` is what [`Self::remove`] gave when it left: 0 for a new one.
    pub(super) fn add(&mut self, id: TargetId, weight: u32, standing: i64) {
        let class = self.classes.entry(weight).or_default();
        let rank = match self.scheduler {
            Scheduler::WeightedRoundRobin => class.grown - standing,
            _ => standing,
        };
        class.ranking.insert((rank, id));
        self.weight_total += i64::from(weight);
        let former = self.members.insert(id.0, Member { weight, rank });
        debug_assert!(former.is_none(), "a target is added once");
    }

    /// Lets it be chosen no more; what it is owed in turns, or its open connections.
    pub(super) fn remove(&mut self, id: TargetId) -> Option<i64> {
        let Member { weight, rank } = self.members.remove(id.0)?;
        self.weight_total -= i64::from(weight);
        let class = self.classes.get_mut(&weight)?;
        class.ranking.remove((rank, id));
        let standing = match self.scheduler {
            Scheduler::WeightedRoundRobin => class.grown - rank,
            _ => rank,
        };
        if class.ranking.is_empty() {
            self.classes.remove(&weight);
        }
        Some(standing)
    }

    /// The number of its open connections has changed.
    pub(super) fn set_open(&mut self, id: TargetId, open: i64) {
        if self.scheduler == Scheduler::WeightedLeastConnections {
            self.rank(id, open);
        }
    }

    fn rank(&mut self, id: TargetId, rank: i64) {
        if let Some(member) = self.members.get_mut(id.0)
            && let Some(class) = self.classes.get_mut(&member.weight)
        {
            class.ranking.remove((member.rank, id));
            class.ranking.insert((rank, id));
            member.rank = rank;
        }
    }

    /// The target of a new connection.
    pub(super) fn choose(&mut self, flow: Flow) -> Option<TargetId> {
        let id = match self.scheduler {
            Scheduler::RoundRobin => {
                let after = self.last.map_or(0, |last| last.0 + 1);
                let next = self.members.from(after).next().or_else(|| self.members.iter().next());
                TargetId(next?.0)
            }
            Scheduler::WeightedRoundRobin => self.take_turn()?,
            Scheduler::WeightedLeastConnections => self.least_connections()?,
            Scheduler::SourceHash => self.by_hash(u64::from(flow.from.ip().to_bits()))?,
            Scheduler::FlowHash => {
                let wide = |end: SocketAddrV4| u64::from(end.ip().to_bits()) << 16 | u64::from(end.port());
                self.by_hash(mixed(wide(flow.from)) ^ wide(flow.to))?
            }
        };
        self.last = Some(id);
        Some(id)
    }

    /// All are credited with their weight; who has most is chosen, and pays for all.
    fn take_turn(&mut self) -> Option<TargetId> {
        let mut best: Option<(i64, TargetId)> = None;
        for (weight, class) in self.classes.iter_mut().filter(|(weight, _)| **weight > 0) {
            class.grown += i64::from(*weight);
            let Some((rank, id)) = class.ranking.first() else { continue };
            let credit = class.grown - rank;
            if best.is_none_or(|(most, first)| credit > most || (credit == most && id < first)) {
                best = Some((credit, id));
            }
        }
        let (_, id) = best?;
        let rank = self.members.get(id.0)?.rank + self.weight_total;
        self.rank(id, rank);
        Some(id)
    }

    fn least_connections(&self) -> Option<TargetId> {
        let mut best: Option<(i64, u32, TargetId)> = None;
        for (weight, class) in self.classes.iter().filter(|(weight, _)| **weight > 0) {
            let Some((open, id)) = class.ranking.first() else { continue };
            let is_better = best.is_none_or(|(least, of, first)| {
                let (one, other) = (i128::from(open) * i128::from(of), i128::from(least) * i128::from(*weight));
                one < other || (one == other && id < first)
            });
            if is_better {
                best = Some((open, *weight, id));
            }
        }
        best.map(|(_, _, id)| id)
    }

    fn by_hash(&self, key: u64) -> Option<TargetId> {
        let key = mixed(key);
        let able = self.members.iter().filter(|(_, member)| member.weight > 0);
        able.map(|(id, _)| TargetId(id)).max_by_key(|id| (mixed(key ^ mixed(id.0)), *id))
    }
}

/// A number whose bits all depend on all bits of `bits`. Source: the finalizer of SplitMix64.
fn mixed(bits: u64) -> u64 {
    let mut bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    fn flow(client: u8, port: u16) -> Flow {
        Flow {
            from: SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, client), port),
            to: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 80),
        }
    }

    /// Smooth weighted turns as they are usually written: credits of all are raised, one by one.
    fn plainly(weights: &[u32], count: usize) -> Vec<u64> {
        let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
        let mut credits = vec![0_i64; weights.len()];
        let mut chosen = Vec::new();
        for _ in 0..count {
            let mut best: Option<usize> = None;
            for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
                credits[index] += i64::from(*weight);
                if best.is_none_or(|best| credits[index] > credits[best]) {
                    best = Some(index);
                }
            }
            let best = best.expect("one has a weight");
            credits[best] -= total;
            chosen.push(best as u64);
        }
        chosen
    }

    #[test]
    fn turns_by_classes_are_turns_one_by_one() {
        for weights in [vec![5, 1, 1, 0], vec![100; 7], vec![3, 2, 3, 2, 1], vec![1, 7, 7, 1, 2, 0, 2]] {
            let mut spread = Spread::new(Scheduler::WeightedRoundRobin);
            for (id, weight) in (0..).zip(&weights) {
                spread.add(TargetId(id), *weight, 0);
            }
            let chosen: Vec<u64> = (0..200).map(|_| spread.choose(flow(1, 1)).expect("there are targets").0).collect();
            assert_eq!(chosen, plainly(&weights, 200), "{weights:?}");
        }
    }

    #[test]
    fn who_comes_back_is_owed_what_it_was_owed() {
        let mut spread = Spread::new(Scheduler::WeightedRoundRobin);
        (0..3).for_each(|id| spread.add(TargetId(id), 100, 0));
        assert_eq!(spread.choose(flow(1, 1)), Some(TargetId(0)));
        let standing = spread.remove(TargetId(0)).expect("it was there");
        assert_eq!(standing, -200);
        assert_eq!(spread.choose(flow(1, 1)), Some(TargetId(1)));
        spread.add(TargetId(0), 100, standing);
        assert_eq!(spread.choose(flow(1, 1)), Some(TargetId(2)));
    }

    #[test]
    fn fewest_connections_count_by_weight() {
        let mut spread = Spread::new(Scheduler::WeightedLeastConnections);
        for (id, weight) in [(0, 1), (1, 3), (2, 0)] {
            spread.add(TargetId(id), weight, 0);
        }
        let mut open = [0_i64; 3];
        for _ in 0..40 {
            let id = spread.choose(flow(1, 1)).expect("there are targets");
            let index = usize::try_from(id.0).expect("a small number");
            open[index] += 1;
            spread.set_open(id, open[index]);
        }
        assert_eq!(open, [10, 30, 0]);
        spread.set_open(TargetId(0), 0);
        assert_eq!(spread.choose(flow(1, 1)), Some(TargetId(0)));
    }

    #[test]
    fn a_hash_moves_only_what_the_lost_target_had() {
        let mut spread = Spread::new(Scheduler::FlowHash);
        (0..8).for_each(|id| spread.add(TargetId(id), 100, 0));
        spread.add(TargetId(8), 0, 0);
        let all = |spread: &mut Spread| -> Vec<TargetId> {
            (0..4000).map(|port| spread.choose(flow(1, port)).expect("there are targets")).collect()
        };
        let before = all(&mut spread);
        for id in 0..8 {
            let count = before.iter().filter(|chosen| chosen.0 == id).count();
            assert!((400..=600).contains(&count), "target {id} has {count} of 4000");
        }
        assert!(before.iter().all(|id| id.0 != 8));
        spread.remove(TargetId(3));
        let after = all(&mut spread);
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || before.0 == 3));
    }

    #[test]
    fn a_source_keeps_its_target_whatever_its_port() {
        let mut spread = Spread::new(Scheduler::SourceHash);
        (0..8).for_each(|id| spread.add(TargetId(id), 100, 0));
        let of_client: BTreeSet<_> = (0..100).map(|port| spread.choose(flow(7, port))).collect();
        assert_eq!(of_client.len(), 1);
        let of_all: BTreeSet<_> = (0..200).map(|client| spread.choose(flow(client, 1))).collect();
        assert_eq!(of_all.len(), 8);
    }
}
