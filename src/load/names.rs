//! What a name server answers for the way in, and what clients make of it.
//!
//! A client asks, and keeps the answer for its time to live. So a new connection goes by an answer whose age is drawn between nothing and that: clients are many,
//! and each has asked at a time of its own. While the answer stays the same, its age does not matter and is not drawn.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::engine::Stream;
use crate::units::SimTime;

/// Addresses with their weights, relative to each other.
pub type Addresses = Vec<(Ipv4Addr, u32)>;

/// The answers of a name server over time.
#[derive(Debug)]
pub struct Names {
    ttl: Duration,
    /// Each with the moment from which on it is given, in the order of time.
    answers: RefCell<Vec<(SimTime, Addresses)>>,
}

impl Names {
    /// The same answer from the start on.
    ///
    /// # Panics
    ///
    /// If no address has a weight.
    #[must_use]
    pub fn new(ttl: Duration, addresses: Addresses) -> Self {
        assert!(addresses.iter().any(|(_, weight)| *weight > 0), "clients need a way in");
        Self { ttl, answers: RefCell::new(vec![(SimTime::ZERO, addresses)]) }
    }

    /// Another answer from now on. Without any address the last one stays.
    pub fn change(&self, now: SimTime, addresses: Addresses) {
        let mut answers = self.answers.borrow_mut();
        let is_same = answers.last().is_some_and(|(_, last)| *last == addresses);
        if !is_same && addresses.iter().any(|(_, weight)| *weight > 0) {
            answers.push((now, addresses));
        }
    }

    /// The address of a new connection.
    ///
    /// # Panics
    ///
    /// If there has never been an answer: the first one is there from the start.
    pub fn draw(&self, now: SimTime, draws: &mut Stream) -> Ipv4Addr {
        let answers = self.answers.borrow();
        let (last_at, last) = answers.last().expect("there is an answer from the start on");
        let is_settled = answers.len() == 1 || now.since(*last_at) >= self.ttl;
        let addresses = if is_settled {
            last
        } else {
            let age = draws.uniform(Duration::ZERO, self.ttl);
            let asked_ns = now.as_nanos().saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
            let given = answers.iter().rev().find(|(at, _)| at.as_nanos() <= asked_ns);
            given.map_or(&answers[0].1, |(_, addresses)| addresses)
        };
        if let [(only, _)] = addresses[..] {
            return only;
        }
        let total: u64 = addresses.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut drawn = draws.below(total);
        let found = addresses.iter().find(|(_, weight)| {
            let is_drawn = drawn < u64::from(*weight);
            drawn = drawn.saturating_sub(u64::from(*weight));
            is_drawn
        });
        found.expect("a draw is below the sum of weights").0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Streams;

    const A: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    const B: Ipv4Addr = Ipv4Addr::new(203, 0, 114, 1);

    fn at(second: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(second))
    }

    /// Connections to `A` of 10,000 that are opened at this second.
    fn to_a(names: &Names, second: u64) -> usize {
        let mut draws = Streams::new(1).stream("entrance", "x");
        (0..10_000).filter(|_| names.draw(at(second), &mut draws) == A).count()
    }

    #[test]
    fn a_dead_address_is_left_as_answers_grow_old() {
        let names = Names::new(Duration::from_secs(60), vec![(A, 1), (B, 1)]);
        assert!((4800..5200).contains(&to_a(&names, 10)));
        names.change(at(20), vec![(B, 1)]);
        // After a quarter of the time a quarter of the clients has asked again.
        for (second, expected) in [(20, 5000), (35, 3750), (50, 2500), (79, 83)] {
            let count = to_a(&names, second);
            assert!(count.abs_diff(expected) < 200, "at {second} s {count}");
        }
        assert_eq!(to_a(&names, 80), 0);
        names.change(at(100), vec![(A, 1), (B, 1)]);
        assert!(to_a(&names, 130).abs_diff(2500) < 200);
        assert!(to_a(&names, 160).abs_diff(5000) < 200);
    }

    #[test]
    fn an_answer_without_addresses_is_not_given() {
        let names = Names::new(Duration::ZERO, vec![(A, 1)]);
        names.change(at(1), Vec::new());
        assert_eq!(to_a(&names, 2), 10_000);
    }
}
