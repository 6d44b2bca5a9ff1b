//! Something for each of many connections, found at a cost that does not grow with them.
//!
//! A table by hash; the hash is fixed here. Sixteen connections that were dialled one after the other stand side by side, so that those that come
//! and go touch few places in memory, however many others are open. Nobody sees the table's order: [`ConnectionMap::ids`] sorts.

use std::fmt;

use hashbrown::HashTable;

use super::ConnectionId;

/// Connections of which something is known. By far most are asked for by name.
pub struct ConnectionMap<T> {
    table: HashTable<(ConnectionId, T)>,
}

impl<T> Default for ConnectionMap<T> {
    fn default() -> Self {
        Self { table: HashTable::new() }
    }
}

impl<T: fmt::Debug> fmt::Debug for ConnectionMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.ids(|_| true).into_iter().map(|id| (id, self.get(id)))).finish()
    }
}

/// Where a connection stands: the table takes the low bits for the place and the seven highest to tell neighbours apart.
fn hash(id: ConnectionId) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    const TAG: u64 = 0x7f << 57;
    let block = (id.0 >> 4).wrapping_mul(GOLDEN) >> 32;
    (id.0.wrapping_mul(GOLDEN) & TAG) | block << 4 | (id.0 & 15)
}

impl<T> ConnectionMap<T> {
    /// Notes this of a connection; what was noted before.
    pub fn insert(&mut self, id: ConnectionId, value: T) -> Option<T> {
        if let Some(known) = self.get_mut(id) {
            return Some(std::mem::replace(known, value));
        }
        self.table.insert_unique(hash(id), (id, value), |(id, _)| hash(*id));
        None
    }

    /// What is noted of a connection.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<&T> {
        self.table.find(hash(id), |(known, _)| *known == id).map(|(_, value)| value)
    }

    /// The same, to change.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        self.table.find_mut(hash(id), |(known, _)| *known == id).map(|(_, value)| value)
    }

    /// Forgets a connection; what was noted of it.
    pub fn remove(&mut self, id: ConnectionId) -> Option<T> {
        let entry = self.table.find_entry(hash(id), |(known, _)| *known == id).ok()?;
        let ((_, value), _) = entry.remove();
        Some(value)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Those of which `is_meant` is true, in the order in which they were dialled. Looks at all.
    pub fn ids(&self, mut is_meant: impl FnMut(&T) -> bool) -> Vec<ConnectionId> {
        let meant = self.table.iter().filter(|(_, value)| is_meant(value));
        let mut ids: Vec<ConnectionId> = meant.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    proptest! {
        /// What a sorted map would give, whatever is put in and taken out.
        #[test]
        fn a_map_by_hash_is_a_sorted_map(steps in proptest::collection::vec((0_u64..400, 0_u8..5), 0..1500)) {
            let (mut map, mut plain) = (ConnectionMap::default(), BTreeMap::new());
            for (time, (number, step)) in (0_u32..).zip(steps) {
                let id = ConnectionId(number);
                match step {
                    0..=1 => prop_assert_eq!(map.insert(id, time), plain.insert(id, time)),
                    2 => prop_assert_eq!(map.remove(id), plain.remove(&id)),
                    3 => prop_assert_eq!(map.get(id), plain.get(&id)),
                    _ => prop_assert_eq!(map.get_mut(id), plain.get_mut(&id)),
                }
                prop_assert_eq!((map.len(), map.is_empty()), (plain.len(), plain.is_empty()));
            }
            let even: Vec<ConnectionId> = plain.iter().filter(|(_, time)| *time % 2 == 0).map(|(id, _)| *id).collect();
            prop_assert_eq!(map.ids(|time| time % 2 == 0), even);
        }
    }

    #[test]
    fn neighbours_stand_together_and_blocks_far_apart() {
        let places = |from: u64, to: u64| (from..to).map(|number| hash(ConnectionId(number)) & 0x1_ffff);
        assert!(places(32, 47).zip(places(33, 48)).all(|(one, next)| next == one + 1));
        // A hundred thousand that stay: no place of the table for twice as many is anybody else's.
        assert_eq!(places(0, 1 << 16).collect::<BTreeSet<_>>().len(), 1 << 16);
        let tags =
            |from: u64| (from..from + 16).map(|number| hash(ConnectionId(number)) >> 57).collect::<BTreeSet<_>>();
        assert!((0..1000).all(|block| tags(16 * block).len() == 16), "neighbours are told apart");
    }
}
