//! Which endpoint a request goes to.
//!
//! - Least request: two endpoints drawn uniformly, with replacement; the first stays unless the second has strictly fewer active
//!   requests. Active are this process's requests in flight, over all its workers.
//! - Round robin: a rotating index per worker, from a random start.
//!
//! Source: envoy source/extensions/load_balancing_policies/{least_request,round_robin}.

use super::host::random_below;

/// The balancing policy of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// The less busy of two; Istio's default.
    LeastRequest,
    /// In turn.
    RoundRobin,
}

/// The state of one worker's choices in one cluster.
#[derive(Clone, Copy, Default, Debug)]
pub struct Picker {
    turn: Option<u64>,
}

impl Picker {
    /// The index of the next endpoint of `count`; none if there is none. `active` tells the requests in flight to one.
    pub fn pick(
        &mut self,
        policy: Policy,
        count: usize,
        active: impl Fn(usize) -> u32,
        mut random: impl FnMut() -> u64,
    ) -> Option<usize> {
        let bound = u64::try_from(count).ok().filter(|bound| *bound > 0)?;
        let index = |number: u64| usize::try_from(number).ok();
        match policy {
            Policy::LeastRequest => {
                let first = index(random_below(random(), bound))?;
                let second = index(random_below(random(), bound))?;
                Some(if active(second) < active(first) { second } else { first })
            }
            Policy::RoundRobin => {
                let turn = self.turn.unwrap_or_else(|| random_below(random(), bound));
                self.turn = Some(turn.wrapping_add(1));
                index(turn % bound)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Streams;

    #[test]
    fn least_request_keeps_the_first_of_equals() {
        let pick = |bits: [u64; 2], active: [u32; 2]| {
            let mut bits = bits.into_iter();
            Picker::default().pick(Policy::LeastRequest, 2, |index| active[index], || bits.next().unwrap()).unwrap()
        };
        let (low, high) = (0, u64::MAX);
        assert_eq!(pick([low, high], [1, 1]), 0);
        assert_eq!(pick([low, high], [1, 0]), 1);
        assert_eq!(pick([low, low], [9, 0]), 0, "the same endpoint may be drawn twice");
    }

    #[test]
    fn an_endpoint_that_never_has_requests_gets_its_draws_and_no_more() {
        // One idle endpoint among four busy ones: it wins whenever it is drawn, 1 − (3/4)² = 43.75 %.
        let mut stream = Streams::new(5).stream("pick", "");
        let mut picker = Picker::default();
        let picks = (0..40_000).filter(|_| {
            picker.pick(Policy::LeastRequest, 4, |index| u32::from(index > 0), || stream.bits()) == Some(0)
        });
        let share = picks.count();
        assert!((17_100..17_900).contains(&share), "{share} of 40000");
    }

    #[test]
    fn round_robin_takes_turns_from_a_random_start() {
        let mut picker = Picker::default();
        let picks: Vec<_> = (0..4).map(|_| picker.pick(Policy::RoundRobin, 3, |_| 0, || u64::MAX).unwrap()).collect();
        assert_eq!(picks, [2, 0, 1, 2]);
        assert_eq!(picker.pick(Policy::RoundRobin, 0, |_| 0, || 0), None);
    }
}
