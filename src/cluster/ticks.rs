//! The ticks of all probes of a cluster, and the one task that sees to them.
//!
//! The quiet hours of a large cluster are nothing but probes: ten thousand pods tick four million times an hour. A task and a timer for each probe would be too many for the
//! processor's caches, which then cost more than the work. So ticks stand in a queue, and what a tick touches is the probe itself and its container.
//!
//! Who owns a probe is its own task ([`super::prober`]): when that ends, its ticks come to nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::notice::{Notice, until};
use super::prober::Prober;
use crate::engine::Sim;
use crate::units::SimTime;

/// The ticks to come.
#[derive(Default)]
pub(super) struct Ticks {
    /// One queue for each period, in order of time: the probes of one period come due nearly in the order in which they were queued.
    queues: RefCell<Vec<(Duration, VecDeque<Tick>)>>,
    sequence_next: Cell<u64>,
    /// The task begins with the first tick.
    is_started: Cell<bool>,
    /// The task sleeps until then; for ever if absent.
    sleeps_until: Cell<Option<SimTime>>,
    /// There is an earlier one.
    earlier: Notice,
}

/// One tick of one probe. Of two at the same time the one that was queued first comes first.
struct Tick {
    at: SimTime,
    sequence: u64,
    prober: Weak<Prober>,
}

impl Ticks {
    /// Queues a tick of a probe that ticks each `period`.
    pub(super) fn push(self: &Rc<Self>, sim: &Sim, period: Duration, at: SimTime, prober: &Rc<Prober>) {
        let sequence = self.sequence_next.replace(self.sequence_next.get() + 1);
        let tick = Tick { at, sequence, prober: Rc::downgrade(prober) };
        let mut queues = self.queues.borrow_mut();
        let index = queues.iter().position(|(other, _)| *other == period).unwrap_or_else(|| {
            queues.push((period, VecDeque::new()));
            queues.len() - 1
        });
        let queue = &mut queues[index].1;
        // Whoever waited for an answer before queues for a time that is a little earlier than the last one's.
        let later = queue.iter().rev().take_while(|other| other.at > at).count();
        match later {
            0 => queue.push_back(tick),
            later => queue.insert(queue.len() - later, tick),
        }
        drop(queues);
        if !self.is_started.replace(true) {
            sim.spawn("probes", Rc::clone(self).run(sim.clone()));
        } else if self.sleeps_until.get().is_none_or(|until| at < until) {
            self.earlier.raise();
        }
    }

    /// Lets every probe look when its tick comes.
    async fn run(self: Rc<Self>, sim: Sim) {
        loop {
            let seen = self.earlier.version();
            let next = loop {
                let Some((at, _, index)) = self.first() else { break None };
                if at > sim.now() {
                    break Some(at);
                }
                let tick = self.queues.borrow_mut()[index].1.pop_front();
                if let Some(prober) = tick.and_then(|tick| tick.prober.upgrade()) {
                    prober.tick(at);
                }
            };
            self.sleeps_until.set(next);
            let earlier = self.earlier.changed_since(seen);
            match next {
                Some(at) => {
                    until(earlier, sim.sleep_until(at)).await;
                }
                None => earlier.await,
            }
        }
    }

    /// The earliest tick: when, its number, and in which queue.
    fn first(&self) -> Option<(SimTime, u64, usize)> {
        let queues = self.queues.borrow();
        let firsts = queues.iter().enumerate().filter_map(|(index, (_, queue))| {
            let first = queue.front()?;
            Some((first.at, first.sequence, index))
        });
        firsts.min()
    }
}
