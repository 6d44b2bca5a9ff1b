//! Targets that have just become healthy and get their share little by little.
//!
//! - A target is new for a time from when it becomes healthy, if then any other is healthy and not new. One that becomes unhealthy or goes is new no more.
//! - A new target takes a part of its turns that grows evenly from none to all: of a tenth of its time's age, every tenth. The turns it lets pass are the next
//!   one's.
//! - Where all that may be chosen are new, whoever has let most pass takes the turn: an assumption, since somebody has to.
//!
//! Source: AWS documents "Target groups for your Application Load Balancers", "Slow start mode".

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::balancer::TargetId;
use crate::units::SimTime;

#[derive(Debug)]
struct New {
    since: SimTime,
    /// The part of a turn that it has let pass, in parts of the duration.
    owed_ns: u128,
}

/// Which targets are new.
#[derive(Debug)]
pub(super) struct SlowStart {
    /// For how long they are; never zero.
    pub(super) duration: Duration,
    new: BTreeMap<TargetId, New>,
}

impl SlowStart {
    /// Nobody is new yet.
    pub(super) fn new(duration: Duration) -> Self {
        Self { duration, new: BTreeMap::new() }
    }

    /// A target has become healthy, beside so many others.
    pub(super) fn handle_healthy(&mut self, now: SimTime, id: TargetId, others: usize) {
        let duration = self.duration;
        self.new.retain(|_, new| now.since(new.since) < duration);
        if others > self.new.len() {
            self.new.insert(id, New { since: now, owed_ns: 0 });
        }
    }

    /// A target is healthy no more.
    pub(super) fn handle_gone(&mut self, id: TargetId) {
        self.new.remove(&id);
    }

    /// Whose turn it is, if `turn` tells one after the other of `count` targets.
    pub(super) fn choose(
        &mut self,
        now: SimTime,
        count: usize,
        mut turn: impl FnMut() -> Option<TargetId>,
    ) -> Option<TargetId> {
        let mut passed = Vec::new();
        for _ in 0..count {
            let id = turn()?;
            if self.takes(now, id) {
                return Some(id);
            }
            passed.push(id);
        }
        let owed = |id: &TargetId| (self.new.get(id).map_or(0, |new| new.owed_ns), Reverse(*id));
        let id = passed.into_iter().max_by_key(owed)?;
        if let Some(new) = self.new.get_mut(&id) {
            new.owed_ns = 0;
        }
        Some(id)
    }

    /// It is a target's turn: whether it takes it.
    fn takes(&mut self, now: SimTime, id: TargetId) -> bool {
        let Some(new) = self.new.get_mut(&id) else { return true };
        let age = now.since(new.since);
        if age >= self.duration {
            self.new.remove(&id);
            return true;
        }
        new.owed_ns += age.as_nanos();
        let is_full = new.owed_ns >= self.duration.as_nanos();
        if is_full {
            new.owed_ns -= self.duration.as_nanos();
        }
        is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(s))
    }

    /// How often each target is chosen in so many turns at a second.
    fn shares<const N: usize>(slow: &mut SlowStart, second: u64, turns: usize) -> [usize; N] {
        let mut next = (0..N).cycle();
        let mut chosen = [0; N];
        for _ in 0..turns {
            let turn = || next.next().map(|index| TargetId(index as u64));
            let id = slow.choose(at(second), N, turn).expect("there are targets");
            chosen[usize::try_from(id.0).expect("a small number")] += 1;
        }
        chosen
    }

    #[test]
    fn a_new_target_gets_a_part_of_its_turns_that_grows_with_its_age() {
        let mut slow = SlowStart::new(Duration::from_secs(100));
        slow.handle_healthy(at(1000), TargetId(2), 2);
        // With the part f of its turns its share of all is f of 2 + f.
        for (second, expected) in
            [(1000, [150, 150, 0]), (1010, [143, 143, 14]), (1050, [120, 120, 60]), (1099, [100, 100, 100])]
        {
            let found = shares::<3>(&mut slow, second, 300);
            let is_near =
                found.iter().zip(expected).all(|(found, expected): (&usize, usize)| found.abs_diff(expected) <= 2);
            assert!(is_near, "at {second} s {found:?}");
        }
        assert_eq!(shares::<3>(&mut slow, 1100, 300), [100, 100, 100]);
    }

    #[test]
    fn nobody_is_new_without_another_that_is_not() {
        let duration = Duration::from_secs(100);
        let mut slow = SlowStart::new(duration);
        let is_new = |slow: &SlowStart, id: u64| slow.new.contains_key(&TargetId(id));
        // The first of all is not; the next is, beside it; and one more, since the first still is not.
        for (others, id, expected) in [(0, 0, false), (1, 1, true), (2, 2, true)] {
            slow.handle_healthy(at(0), TargetId(id), others);
            assert_eq!(is_new(&slow, id), expected, "{id}");
        }
        // The first goes: of the two that stay both are new, so the third is not.
        slow.handle_gone(TargetId(0));
        slow.handle_healthy(at(99), TargetId(3), 2);
        assert!(!is_new(&slow, 3));
        // A second later they are not new any more, and who comes then is.
        slow.handle_healthy(at(100), TargetId(4), 3);
        assert!(is_new(&slow, 4) && !is_new(&slow, 1));
        slow.handle_gone(TargetId(4));
        assert!(!is_new(&slow, 4));
    }

    #[test]
    fn where_all_are_new_somebody_takes_the_turn() {
        let mut slow = SlowStart::new(Duration::from_secs(100));
        slow.handle_healthy(at(0), TargetId(0), 1);
        slow.handle_healthy(at(0), TargetId(1), 2);
        let [one, other] = shares::<2>(&mut slow, 1, 100);
        assert!(one.abs_diff(other) <= 2, "{one} {other}");
    }
}
