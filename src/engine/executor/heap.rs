//! A heap with four children a place: half as deep as one with two, and the children stand side by side. A queue of ten thousand timers, which is
//! what ten thousand probed pods are, costs a third less that way.

/// Something with a place in an order.
pub(super) trait Ordered: Copy {
    /// The least comes first. No two are equal.
    fn order(&self) -> u128;
}

/// The least first.
pub(super) struct Heap<T> {
    /// The children of `at` stand at `4 at + 1` to `4 at + 4`, and none is less than their parent.
    entries: Vec<T>,
}

impl<T> Default for Heap<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T: Ordered> Heap<T> {
    /// The least.
    pub(super) fn first(&self) -> Option<&T> {
        self.entries.first()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn push(&mut self, entry: T) {
        let mut at = self.entries.len();
        self.entries.push(entry);
        while at > 0 {
            let parent = (at - 1) / 4;
            if self.entries[parent].order() < entry.order() {
                break;
            }
            self.entries[at] = self.entries[parent];
            at = parent;
        }
        self.entries[at] = entry;
    }

    /// Takes out the least.
    pub(super) fn pop(&mut self) -> Option<T> {
        let last = self.entries.pop()?;
        let Some(first) = self.entries.first().copied() else { return Some(last) };
        self.sink(0, last);
        Some(first)
    }

    /// Keeps what is asked for.
    pub(super) fn retain(&mut self, keeps: impl FnMut(&T) -> bool) {
        self.entries.retain(keeps);
        for at in (0..self.entries.len().div_ceil(4)).rev() {
            self.sink(at, self.entries[at]);
        }
    }

    /// Puts an entry at a place, or below it, whose former entry is no longer needed.
    fn sink(&mut self, mut at: usize, entry: T) {
        let order = entry.order();
        while let Some((least, least_order)) = self.least_child(at)
            && least_order < order
        {
            self.entries[at] = self.entries[least];
            at = least;
        }
        self.entries[at] = entry;
    }

    /// The least of the children of a place, and its order.
    fn least_child(&self, at: usize) -> Option<(usize, u128)> {
        let first = 4 * at + 1;
        let children = self.entries.get(first..)?;
        // Nearly all places have either four children or none.
        let (child, order) = match children.first_chunk::<4>() {
            Some(all) => {
                let [a, b, c, d] = all;
                let (a, b, c, d) = (a.order(), b.order(), c.order(), d.order());
                let left = if b < a { (1, b) } else { (0, a) };
                let right = if d < c { (3, d) } else { (2, c) };
                if right.1 < left.1 { right } else { left }
            }
            None => children.iter().map(Ordered::order).enumerate().min_by_key(|(_, order)| *order)?,
        };
        Some((first + child, order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    impl Ordered for (u32, u32) {
        fn order(&self) -> u128 {
            u128::from(self.0) << 32 | u128::from(self.1)
        }
    }

    proptest! {
        /// What a sorted list would give, whatever is put in, taken out and swept.
        #[test]
        fn the_least_comes_first(steps in proptest::collection::vec((0_u32..40, 0_u8..8), 0..300)) {
            let (mut heap, mut list) = (Heap::default(), Vec::new());
            for (number, (value, step)) in (0_u32..).zip(steps) {
                match step {
                    0..=4 => {
                        heap.push((value, number));
                        list.push((value, number));
                    }
                    5 | 6 => {
                        list.sort_unstable();
                        let first = if list.is_empty() { None } else { Some(list.remove(0)) };
                        prop_assert_eq!(heap.pop(), first);
                    }
                    _ => {
                        heap.retain(|entry| entry.0 != value);
                        list.retain(|entry| entry.0 != value);
                    }
                }
                prop_assert_eq!(heap.len(), list.len());
                prop_assert!(heap.first() == list.iter().min());
            }
        }
    }
}
