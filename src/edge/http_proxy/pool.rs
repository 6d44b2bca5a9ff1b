//! Connections to targets that a proxy keeps for other requests.
//!
//! The one used last is taken first (an assumption: the products' documents do not say), so those that are not needed grow old together.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::edge::balancer::TargetId;
use crate::units::SimTime;

/// Kept connections, by target and front port.
#[derive(Debug)]
pub struct Pool<T> {
    /// Of each: those that are idle, with the moment since which, the longest first.
    kept: BTreeMap<(TargetId, u16), VecDeque<(SimTime, T)>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { kept: BTreeMap::new() }
    }
}

impl<T> Pool<T> {
    /// Keeps a connection that is idle from now on.
    pub fn keep(&mut self, now: SimTime, to: (TargetId, u16), connection: T) {
        self.kept.entry(to).or_default().push_back((now, connection));
    }

    /// Takes the one that was used last.
    pub fn take(&mut self, to: (TargetId, u16)) -> Option<T> {
        let of_target = self.kept.get_mut(&to)?;
        let taken = of_target.pop_back().map(|(_, connection)| connection);
        if of_target.is_empty() {
            self.kept.remove(&to);
        }
        taken
    }

    /// Takes out all that have been idle for so long.
    pub fn expire(&mut self, now: SimTime, idle: Duration) -> Vec<T> {
        let mut expired = Vec::new();
        self.kept.retain(|_, of_target| {
            while of_target.front().is_some_and(|(since, _)| since.after(idle) <= now) {
                expired.extend(of_target.pop_front().map(|(_, connection)| connection));
            }
            !of_target.is_empty()
        });
        expired
    }

    /// When the next one will have been idle for so long; none: there are none.
    #[must_use]
    pub fn next_expiry(&self, idle: Duration) -> Option<SimTime> {
        self.kept.values().filter_map(|of_target| Some(of_target.front()?.0.after(idle))).min()
    }

    /// Takes out all.
    pub fn clear(&mut self) -> Vec<T> {
        let kept = std::mem::take(&mut self.kept);
        kept.into_values().flatten().map(|(_, connection)| connection).collect()
    }

    /// Takes out those to a target.
    pub fn remove(&mut self, target: TargetId) -> Vec<T> {
        let ports: Vec<_> = self.kept.range((target, 0)..=(target, u16::MAX)).map(|(to, _)| *to).collect();
        let of_target = ports.into_iter().filter_map(|to| self.kept.remove(&to));
        of_target.flatten().map(|(_, connection)| connection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(s))
    }

    #[test]
    fn the_last_one_used_is_taken_first_and_the_oldest_expires() {
        let idle = Duration::from_secs(60);
        let [one, other] = [(TargetId(1), 80), (TargetId(2), 80)];
        let mut pool = Pool::default();
        assert_eq!((pool.take(one), pool.next_expiry(idle)), (None, None));
        for (now, to, name) in [(0, one, "a"), (10, one, "b"), (5, other, "c"), (20, one, "d")] {
            pool.keep(at(now), to, name);
        }
        assert_eq!((pool.take(one), pool.take(other), pool.take(other)), (Some("d"), Some("c"), None));
        assert_eq!(pool.next_expiry(idle), Some(at(60)));
        assert_eq!(pool.expire(at(59), idle), Vec::<&str>::new());
        assert_eq!(pool.expire(at(60), idle), ["a"]);
        assert_eq!(pool.next_expiry(idle), Some(at(70)));
        pool.keep(at(61), other, "e");
        assert_eq!((pool.remove(TargetId(1)), pool.clear()), (vec!["b"], vec!["e"]));
    }
}
