//! Connections that say nothing: when their time is over.
//!
//! Each open connection has a moment at which it is looked at, the earliest at which it can have been silent for long enough. One that has spoken meanwhile is
//! looked at again later, so traffic itself costs nothing here.
//!
//! Sources: CLB documents, "TCP listener" (an expired connection is reset on both sides); Linux IPVS and AWS's documents on its NLB for balancers that
//! forget it without a word and answer what comes later with RST.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::net::ConnectionId;
use crate::units::SimTime;

/// How long a connection may be silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdleRule {
    /// So long.
    pub timeout: Duration,
    /// What it meets then.
    pub end: IdleEnd,
}

/// What a connection meets that was silent for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdleEnd {
    /// RST to both of its ends.
    Reset,
    /// Nothing: it is forgotten, and whoever speaks next gets RST.
    Forgotten,
}

/// So many entries of connections that are over are kept in any case.
const STALE_MIN: usize = 64;

/// When which connection is looked at.
///
/// Who comes and goes costs a push to the end of a heap: connections that are over stay in it until their moment comes, or until they are more than those
/// that are open; then all of them are swept out. So this must be told, entry by entry, which hold.
#[derive(Debug, Default)]
pub struct IdleWatch {
    looks: BinaryHeap<Reverse<(SimTime, ConnectionId)>>,
    /// How many connections are looked after.
    watched_count: usize,
}

impl IdleWatch {
    /// Looks at a new connection at this moment.
    pub fn add(&mut self, at: SimTime, id: ConnectionId) {
        self.watched_count += 1;
        self.add_again(at, id);
    }

    /// Looks at one that was due at a later moment.
    pub fn add_again(&mut self, at: SimTime, id: ConnectionId) {
        self.looks.push(Reverse((at, id)));
    }

    /// A connection is over: its entry, if it is still there, no longer `holds`.
    ///
    /// # Panics
    ///
    /// If none was looked after.
    pub fn end_one(&mut self, holds: impl Fn(SimTime, ConnectionId) -> bool) {
        self.watched_count = self.watched_count.checked_sub(1).expect("only what was added is over");
        if self.looks.len() > 2 * self.watched_count + STALE_MIN {
            self.looks.retain(|Reverse((at, id))| holds(*at, *id));
        }
    }

    /// The next moment with something to look at: of the entries that hold.
    pub fn next(&mut self, holds: impl Fn(SimTime, ConnectionId) -> bool) -> Option<SimTime> {
        while let Some(Reverse((at, id))) = self.looks.peek().copied() {
            if holds(at, id) {
                return Some(at);
            }
            self.looks.pop();
        }
        None
    }

    /// A connection whose moment has come. Its entry is gone; it is over, or it is added again.
    pub fn due(&mut self, now: SimTime, holds: impl Fn(SimTime, ConnectionId) -> bool) -> Option<ConnectionId> {
        self.next(holds).filter(|at| *at <= now)?;
        self.looks.pop().map(|Reverse((_, id))| id)
    }

    #[cfg(test)]
    fn entry_count(&self) -> usize {
        self.looks.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        /// What a sorted set would give from which all that is over is taken out at once; and no more entries than twice those that hold.
        #[test]
        fn looks_come_in_the_order_of_their_times(steps in proptest::collection::vec((0_u64..60, 0_u8..6), 0..800)) {
            let (mut watch, mut plain) = (IdleWatch::default(), BTreeSet::new());
            let mut looks: BTreeMap<ConnectionId, SimTime> = BTreeMap::new();
            for (now, (number, step)) in (0_u64..).zip(steps) {
                let (id, now) = (ConnectionId(number), SimTime::from_nanos(now));
                match step {
                    0..=2 => {
                        let at = SimTime::from_nanos(now.as_nanos() + 7 * number + 1);
                        if looks.contains_key(&id) {
                            continue;
                        }
                        looks.insert(id, at);
                        plain.insert((at, id));
                        watch.add(at, id);
                    }
                    3 => {
                        if let Some(at) = looks.remove(&id) {
                            plain.remove(&(at, id));
                            watch.end_one(|at, id| looks.get(&id) == Some(&at));
                        }
                    }
                    _ => {
                        let first = plain.first().filter(|(at, _)| *at <= now).copied();
                        prop_assert_eq!(watch.due(now, |at, id| looks.get(&id) == Some(&at)), first.map(|(_, id)| id));
                        let Some((at, id)) = first else { continue };
                        plain.remove(&(at, id));
                        if step == 4 {
                            looks.remove(&id);
                            watch.end_one(|at, id| looks.get(&id) == Some(&at));
                        } else {
                            let later = SimTime::from_nanos(now.as_nanos() + 100);
                            looks.insert(id, later);
                            plain.insert((later, id));
                            watch.add_again(later, id);
                        }
                    }
                }
                let next = watch.next(|at, id| looks.get(&id) == Some(&at));
                prop_assert_eq!(next, plain.first().map(|(at, _)| *at));
                prop_assert!(watch.entry_count() <= 2 * plain.len() + STALE_MIN);
            }
        }
    }
}
