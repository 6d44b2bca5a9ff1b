//! Entries in their order, most of them without a search.
//!
//! The clock never goes back, so timers that are all armed for the same span come due in the order in which they were armed: for them a plain queue, a
//! lane, is in order by itself. Nearly all timers of a world are of a few spans (a link's latency, a probe's period, a deadline), whatever number of connections
//! or pods they belong to; what is drawn from a distribution goes to the heap. The first entry of all is the least of the lanes' first ones and the heap's.

use std::collections::VecDeque;

use super::heap::{Heap, Ordered};

/// Lanes there can be.
const LANES: usize = 16;
/// Lanes that are looked at for a span.
const TRIED: usize = 4;
/// What an empty lane has in place of its first entry's order.
const EMPTY: u128 = u128::MAX;

/// Takes entries in any order and gives them back in theirs.
pub(super) struct Lanes<T> {
    lanes: [Lane<T>; LANES],
    /// The orders of the lanes' first entries.
    firsts: [u128; LANES],
    /// A knock-out among the lanes: place `n` has the lane that is first of those of places `2 n` and `2 n + 1`, and below the last row stand the lanes. So after
    /// a change of one lane four comparisons tell which is first of all.
    winners: [usize; LANES],
    heap: Heap<T>,
    count: usize,
}

struct Lane<T> {
    /// The span that was last asked for here. A lane takes entries of one span; an empty one changes to another when it is asked for that, and takes entries from
    /// the next such on: a span that is not seen again comes to nothing.
    span: u64,
    entries: VecDeque<T>,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        let lanes = std::array::from_fn(|_| Lane { span: u64::MAX, entries: VecDeque::new() });
        // While all are empty the leftmost lane below a place is its winner.
        let winners = std::array::from_fn(|place| (place << (LANES.ilog2() - place.max(1).ilog2())) % LANES);
        Self { lanes, firsts: [EMPTY; LANES], winners, heap: Heap::default(), count: 0 }
    }
}

impl<T: Ordered> Lanes<T> {
    /// Entries now kept.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Puts an entry in. Entries of one span must come in their order; those without, whose time has passed, may come in any.
    pub(super) fn push(&mut self, span: Option<u64>, entry: T) {
        self.count += 1;
        match span.and_then(|span| self.lane(span)) {
            Some(at) => {
                if self.firsts[at] == EMPTY {
                    self.rise(at, entry.order());
                }
                self.lanes[at].entries.push_back(entry);
            }
            None => self.heap.push(entry),
        }
    }

    /// The lane of a span, if it has one.
    fn lane(&mut self, span: u64) -> Option<usize> {
        // Spans are round numbers of nanoseconds; the multiplication spreads them over the upper bits.
        let start = (span.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60) as usize;
        let tried = (start..start + TRIED).map(|at| at % LANES);
        if let Some(at) = tried.clone().find(|at| self.lanes[*at].span == span) {
            return Some(at);
        }
        if let Some(at) = tried.clone().find(|at| self.firsts[*at] == EMPTY) {
            self.lanes[at].span = span;
        }
        None
    }

    /// Takes out the least entry, if its order is below `end`.
    pub(super) fn pop_below(&mut self, end: u128) -> Option<T> {
        let lane = self.winner(1);
        let (in_lane, in_heap) = (self.firsts[lane], self.heap.first().map_or(EMPTY, Ordered::order));
        if in_lane.min(in_heap) >= end {
            return None;
        }
        self.count -= 1;
        if in_heap < in_lane {
            return self.heap.pop();
        }
        let entry = self.lanes[lane].entries.pop_front();
        self.fall(lane);
        entry
    }

    /// The lane that is first of those at and below a place.
    fn winner(&self, place: usize) -> usize {
        if place < LANES { self.winners[place] } else { place - LANES }
    }

    /// A lane begins with an entry that is not later than its former first.
    fn rise(&mut self, lane: usize, order: u128) {
        self.firsts[lane] = order;
        let mut place = (LANES + lane) / 2;
        while place > 0 && self.firsts[self.winners[place]] >= order {
            self.winners[place] = lane;
            place /= 2;
        }
    }

    /// A lane has lost its first entry.
    fn fall(&mut self, lane: usize) {
        self.firsts[lane] = self.lanes[lane].entries.front().map_or(EMPTY, Ordered::order);
        let mut place = (LANES + lane) / 2;
        while place > 0 {
            let (left, right) = (self.winner(2 * place), self.winner(2 * place + 1));
            self.winners[place] = if self.firsts[right] < self.firsts[left] { right } else { left };
            place /= 2;
        }
    }

    /// Keeps what is asked for.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&T) -> bool) {
        self.heap.retain(&mut keeps);
        self.count = self.heap.len();
        for lane in 0..LANES {
            let entries = &mut self.lanes[lane].entries;
            entries.retain(&mut keeps);
            self.count += entries.len();
            self.fall(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert_eq, proptest};

    proptest! {
        /// What a sorted list would give, whatever is put in, taken out and swept. Spans are few, so that lanes fill, and more than there are lanes, so that
        /// some find none.
        #[test]
        fn entries_come_in_their_order(steps in proptest::collection::vec((0_u64..24, 0_u8..10), 0..600)) {
            let (mut lanes, mut list, mut now) = (Lanes::default(), Vec::new(), 0);
            for (number, (span, step)) in (0_u32..).zip(steps) {
                match step {
                    0..=4 => {
                        let at = now + u32::try_from(span * span).expect("small");
                        lanes.push(Some(span * span), (at, number));
                        list.push((at, number));
                    }
                    5..=8 => {
                        list.sort_unstable();
                        let is_due = list.first().is_some_and(|first| first.0 <= now + 50);
                        let first = if is_due { Some(list.remove(0)) } else { None };
                        prop_assert_eq!(lanes.pop_below(u128::from(now + 51) << 32), first);
                        now = first.map_or(now + 50, |first| first.0.max(now));
                    }
                    _ => {
                        let keeps = |entry: &(u32, u32)| entry.1 % 7 != number % 7;
                        lanes.retain(keeps);
                        list.retain(keeps);
                    }
                }
                prop_assert_eq!(lanes.len(), list.len());
            }
        }
    }

    #[test]
    fn a_span_that_comes_again_gets_a_lane_and_one_that_does_not_goes_to_the_heap() {
        let mut lanes = Lanes::default();
        for number in 0..100 {
            lanes.push(Some(5), (number + 5, number));
        }
        assert_eq!(lanes.heap.len(), 1, "the first of its span");
        // More spans, each seen once, than there are lanes: none takes a lane, and none takes the one in use.
        for number in 100..200 {
            lanes.push(Some(u64::from(number)), (2 * number, number));
        }
        assert_eq!(lanes.heap.len(), 101);
        lanes.push(Some(5), (205, 200));
        assert_eq!(lanes.heap.len(), 101);
    }
}
