//! Connections that say nothing: when their time is over.
//!
//! Each open connection has a moment at which it is looked at, the earliest at which it can have been silent for long enough. One that has spoken meanwhile is
//! looked at again later, so traffic itself costs nothing here.
//!
//! Sources: CLB documents, "TCP listener" (an expired connection is reset on both sides); Linux IPVS and AWS's documents on its NLB for balancers that
//! forget it without a word and answer what comes later with RST.

use std::collections::BTreeSet;
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

/// When which connection is looked at, each once, in the order of the moments.
///
/// By far most are added in that order, since all may be silent for the same time: they stand in a row, from which one that is over is taken at a cost that does
/// not grow with the others. Those that are out of order, which have spoken since or were allowed less, are sorted.
#[derive(Debug, Default)]
pub struct IdleWatch {
    row: Row,
    sorted: BTreeSet<(SimTime, ConnectionId)>,
}

/// Where a connection is noted, and when it is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    at: SimTime,
    /// Its place in the row; none: it is among the sorted.
    place: Option<u32>,
}

impl IdleWatch {
    /// Looks at a connection at this moment. Its look is what [`Self::remove`] asks for.
    pub fn add(&mut self, at: SimTime, id: ConnectionId) -> Look {
        let place = self.row.last().is_none_or(|last| last < (at, id)).then(|| self.row.push((at, id)));
        if place.is_none() {
            self.sorted.insert((at, id));
        }
        Look { at, place }
    }

    /// A connection is over.
    ///
    /// # Panics
    ///
    /// If it was not looked after.
    pub fn remove(&mut self, look: Look, id: ConnectionId) {
        let found = match look.place {
            Some(place) => self.row.remove(place) == (look.at, id),
            None => self.sorted.remove(&(look.at, id)),
        };
        assert!(found, "only what was added is over");
    }

    /// The next moment with something to look at.
    #[must_use]
    pub fn next(&self) -> Option<SimTime> {
        self.first().map(|(at, _)| at)
    }

    /// A connection whose moment has come, and which is no longer looked after: it is over, or it is added again.
    pub fn due(&mut self, now: SimTime) -> Option<ConnectionId> {
        let first = self.first().filter(|(at, _)| *at <= now)?;
        if self.row.first() == Some(first) {
            self.row.remove(self.row.head);
        } else {
            self.sorted.remove(&first);
        }
        Some(first.1)
    }

    fn first(&self) -> Option<(SimTime, ConnectionId)> {
        self.row.first().into_iter().chain(self.sorted.first().copied()).min()
    }
}

/// No place.
const NONE: u32 = u32::MAX;

/// A row, doubly linked. A place is used again as soon as it is free: what has been held last is close at hand.
#[derive(Debug)]
struct Row {
    links: Vec<Link>,
    head: u32,
    tail: u32,
    /// Free places, linked by `next`.
    free: u32,
}

#[derive(Debug)]
struct Link {
    look: (SimTime, ConnectionId),
    before: u32,
    next: u32,
}

impl Default for Row {
    fn default() -> Self {
        Self { links: Vec::new(), head: NONE, tail: NONE, free: NONE }
    }
}

impl Row {
    fn first(&self) -> Option<(SimTime, ConnectionId)> {
        self.links.get(self.head as usize).map(|link| link.look)
    }

    fn last(&self) -> Option<(SimTime, ConnectionId)> {
        self.links.get(self.tail as usize).map(|link| link.look)
    }

    /// Adds one at the end; its place.
    fn push(&mut self, look: (SimTime, ConnectionId)) -> u32 {
        let link = Link { look, before: self.tail, next: NONE };
        let place = if self.free == NONE {
            self.links.push(link);
            u32::try_from(self.links.len() - 1).expect("fewer than 2^32 connections at a time")
        } else {
            let place = self.free;
            self.free = std::mem::replace(&mut self.links[place as usize], link).next;
            place
        };
        match self.links.get_mut(self.tail as usize) {
            Some(tail) => tail.next = place,
            None => self.head = place,
        }
        self.tail = place;
        place
    }

    fn remove(&mut self, place: u32) -> (SimTime, ConnectionId) {
        let Link { look, before, next } = self.links[place as usize];
        match self.links.get_mut(before as usize) {
            Some(link) => link.next = next,
            None => self.head = next,
        }
        match self.links.get_mut(next as usize) {
            Some(link) => link.before = before,
            None => self.tail = before,
        }
        self.links[place as usize].next = self.free;
        self.free = place;
        look
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        /// What a sorted set would give; and no more places than there ever were connections at a time.
        #[test]
        fn looks_come_in_the_order_of_their_times(
            steps in proptest::collection::vec((0_u64..60, 0_u8..6, 0_u64..3), 0..800),
        ) {
            let (mut watch, mut plain, mut most) = (IdleWatch::default(), BTreeSet::new(), 0);
            let mut looks: BTreeMap<ConnectionId, Look> = BTreeMap::new();
            for (now, (number, step, other)) in (0_u64..).zip(steps) {
                let (id, now) = (ConnectionId(number), SimTime::from_nanos(now));
                match step {
                    0..=2 => {
                        // Mostly one span for all.
                        let span = if other == 0 { 7 * number + 1 } else { 50 };
                        let at = SimTime::from_nanos(now.as_nanos() + span);
                        if looks.contains_key(&id) {
                            continue;
                        }
                        looks.insert(id, watch.add(at, id));
                        plain.insert((at, id));
                    }
                    3 => {
                        if let Some(look) = looks.remove(&id) {
                            plain.remove(&(look.at, id));
                            watch.remove(look, id);
                        }
                    }
                    _ => {
                        let first = plain.first().filter(|(at, _)| *at <= now).copied();
                        prop_assert_eq!(watch.due(now), first.map(|(_, id)| id));
                        let Some((at, id)) = first else { continue };
                        plain.remove(&(at, id));
                        looks.remove(&id);
                        if step == 5 {
                            let later = SimTime::from_nanos(now.as_nanos() + 40);
                            looks.insert(id, watch.add(later, id));
                            plain.insert((later, id));
                        }
                    }
                }
                most = most.max(plain.len());
                prop_assert_eq!(watch.next(), plain.first().map(|(at, _)| *at));
                prop_assert!(watch.row.links.len() <= most);
            }
        }
    }
}
