//! Weighted turns by earliest deadline: an item of weight w is due every 1/w.
//!
//! An item that is picked is put back with the weight it has then. Of equal deadlines the one put back first wins. A schedule begins
//! some picks into its course, so that workers do not move in step.
//!
//! Source: envoy source/common/upstream/edf_scheduler.h.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A schedule of items by number.
#[derive(Clone, Debug)]
pub struct Edf {
    queue: BinaryHeap<Entry>,
    now: f64,
    order_next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: f64,
    order: u64,
    item: usize,
}

impl Edf {
    /// A schedule of these items, `picks` picks after its start. Weights are above 0.
    #[must_use]
    pub fn new(items: &[usize], weight: impl Fn(usize) -> f64, picks: u32) -> Self {
        let mut edf = Self { queue: BinaryHeap::with_capacity(items.len()), now: 0.0, order_next: 0 };
        let total: f64 = items.iter().map(|item| weight(*item)).sum();
        // Each has had its share of the picks, rounded down; what rounding left over is picked one by one.
        let mut left = picks;
        for item in items {
            let weight = weight(*item);
            let had = whole(f64::from(picks) * weight / total);
            left = left.saturating_sub(had);
            edf.add(*item, (f64::from(had) + 1.0) / weight);
        }
        for _ in 0..left {
            edf.pick(&weight);
        }
        edf
    }

    /// The item due next; it is put back with its `weight` of now.
    pub fn pick(&mut self, weight: impl Fn(usize) -> f64) -> Option<usize> {
        let due = self.queue.pop()?;
        self.now = due.deadline;
        self.add(due.item, self.now + 1.0 / weight(due.item));
        Some(due.item)
    }

    fn add(&mut self, item: usize, deadline: f64) {
        self.queue.push(Entry { deadline, order: self.order_next, item });
        self.order_next += 1;
    }
}

/// The whole part of a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion from float saturates, and no share of `u32` picks is larger than it"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

/// The earliest is the greatest: the heap gives the greatest first.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then_with(|| other.order.cmp(&self.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(edf: &mut Edf, weights: &[f64], count: usize) -> Vec<usize> {
        (0..count).map(|_| edf.pick(|item| weights[item]).unwrap()).collect()
    }

    #[test]
    fn each_gets_its_share_in_every_round() {
        let weights = [1.0, 3.0, 6.0];
        for start in [0, 1, 7, 12_345] {
            let mut edf = Edf::new(&[0, 1, 2], |item| weights[item], start);
            let picked = picks(&mut edf, &weights, 100);
            let counts = [0, 1, 2].map(|item| picked.iter().filter(|other| **other == item).count());
            assert!((9..=11).contains(&counts[0]) && (29..=31).contains(&counts[1]), "{counts:?} from {start}");
        }
    }

    #[test]
    fn a_start_in_mid_course_is_the_course_with_its_start_cut_off() {
        let weights = [1.0, 2.0];
        let course = picks(&mut Edf::new(&[0, 1], |item| weights[item], 0), &weights, 12);
        for start in [1_u32, 2, 5] {
            let cut = picks(&mut Edf::new(&[0, 1], |item| weights[item], start), &weights, 6);
            let from = usize::try_from(start).unwrap();
            let counts = |list: &[usize]| list.iter().filter(|item| **item == 0).count();
            assert_eq!(counts(&cut), counts(&course[from..from + 6]), "from {start}");
        }
    }

    #[test]
    fn a_changed_weight_counts_from_the_next_pick_on() {
        let mut edf = Edf::new(&[0, 1], |_| 1.0, 0);
        assert_eq!(picks(&mut edf, &[0.1, 1.0], 5), [0, 1, 1, 1, 1]);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(Edf::new(&[], |_| 1.0, 3).pick(|_| 1.0), None);
    }
}
