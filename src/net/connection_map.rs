//! Something for each of many connections, found at a cost that does not grow with them.
//!
//! Sixteen connections that were dialled one after the other stand side by side in one block, and blocks are found by hash; the hash is fixed here. So those that
//! come and go touch few places in memory, however many others are open, and the table of blocks changes once where sixteen connections come or go. A connection
//! that outlives its neighbours holds the whole block. Nobody sees the table's order: [`ConnectionMap::ids`] sorts.

use std::fmt;

use hashbrown::HashTable;

use super::ConnectionId;

/// Connections in a block.
const BLOCK: usize = 16;
/// The same.
const NUMBERS: u64 = 16;

/// Connections of which something is known. By far most are asked for by name.
pub struct ConnectionMap<T> {
    blocks: HashTable<Box<Block<T>>>,
    /// The block that was emptied last: those that come and go one at a time need no other.
    spare: Option<Box<Block<T>>>,
    count: usize,
}

struct Block<T> {
    /// The first connection's number, by [`NUMBERS`].
    number: u64,
    count: u8,
    places: [Option<T>; BLOCK],
}

impl<T> Default for ConnectionMap<T> {
    fn default() -> Self {
        Self { blocks: HashTable::new(), spare: None, count: 0 }
    }
}

impl<T: fmt::Debug> fmt::Debug for ConnectionMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.ids(|_| true).into_iter().map(|id| (id, self.get(id)))).finish()
    }
}

/// Where a block stands: the table takes the low bits for the place and the seven highest to tell neighbours apart. Source: the finalizer of SplitMix64.
fn hash(block: u64) -> u64 {
    let bits = (block ^ (block >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// The block of a connection, and its place there.
fn place(id: ConnectionId) -> (u64, usize) {
    (id.0 / NUMBERS, usize::try_from(id.0 % NUMBERS).expect("a place in a block"))
}

impl<T> ConnectionMap<T> {
    /// Notes this of a connection; what was noted before.
    pub fn insert(&mut self, id: ConnectionId, value: T) -> Option<T> {
        let (number, place) = place(id);
        let block = match self.blocks.find_mut(hash(number), |block| block.number == number) {
            Some(block) => block,
            None => {
                let empty = || Box::new(Block { number, count: 0, places: [const { None }; BLOCK] });
                let mut block = self.spare.take().unwrap_or_else(empty);
                block.number = number;
                self.blocks.insert_unique(hash(number), block, |block| hash(block.number)).into_mut()
            }
        };
        let former = block.places[place].replace(value);
        block.count += u8::from(former.is_none());
        self.count += usize::from(former.is_none());
        former
    }

    /// What is noted of a connection.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<&T> {
        let (number, place) = place(id);
        self.blocks.find(hash(number), |block| block.number == number)?.places[place].as_ref()
    }

    /// The same, to change.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        let (number, place) = place(id);
        self.blocks.find_mut(hash(number), |block| block.number == number)?.places[place].as_mut()
    }

    /// Forgets a connection; what was noted of it.
    pub fn remove(&mut self, id: ConnectionId) -> Option<T> {
        let (number, place) = place(id);
        let mut entry = self.blocks.find_entry(hash(number), |block| block.number == number).ok()?;
        let block = entry.get_mut();
        let value = block.places[place].take()?;
        block.count -= 1;
        self.count -= 1;
        if block.count == 0 {
            self.spare = Some(entry.remove().0);
        }
        Some(value)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Those of which `is_meant` is true, in the order in which they were dialled. Looks at all.
    pub fn ids(&self, mut is_meant: impl FnMut(&T) -> bool) -> Vec<ConnectionId> {
        let mut ids = Vec::new();
        for block in &self.blocks {
            let of_block = (block.number * NUMBERS..).zip(&block.places);
            ids.extend(of_block.filter_map(|(number, value)| {
                value.as_ref().is_some_and(&mut is_meant).then_some(ConnectionId(number))
            }));
        }
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
    fn blocks_stand_apart_and_are_told_apart() {
        let hashes: BTreeSet<u64> = (0..100_000).map(|block| hash(block) & 0x1_ffff).collect();
        assert!(hashes.len() > 69_000, "{} places of a table for 100,000", hashes.len());
        let tags: BTreeSet<u64> = (0..1000).map(|block| hash(block) >> 57).collect();
        assert!(tags.len() > 100, "{} of 128 marks", tags.len());
    }

    #[test]
    fn blocks_go_with_their_last_connection() {
        let mut map = ConnectionMap::default();
        for number in 0..10_000 {
            map.insert(ConnectionId(number), number);
            map.remove(ConnectionId(number));
        }
        assert_eq!((map.blocks.len(), map.len()), (0, 0));
        map.insert(ConnectionId(5), 5);
        map.insert(ConnectionId(31), 31);
        assert_eq!((map.blocks.len(), map.len(), map.get(ConnectionId(6))), (2, 2, None));
    }
}
