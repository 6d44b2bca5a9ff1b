//! Armed timers, in the order in which they fire: by `(time, sequence)`.
//!
//! Small entries in `lanes`, and a slab with whom they wake. Disarming frees the place in the slab and leaves the entry, which is
//! known to be dead by its sequence number; most timers are disarmed long before their time (a request's deadline), and taking
//! each out of the middle of the queue would cost more than the timer itself. Dead entries are swept out as soon as they outnumber
//! the living, so that they stay within twice the armed timers and a constant.

use super::heap::Ordered;
use super::lanes::Lanes;
use super::wakeup::Wakeup;
use crate::units::SimTime;

/// Dead entries that are not worth a sweep.
const DEAD_MAX: usize = 64;

/// An armed timer: its place and its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerKey {
    index: u32,
    sequence: u64,
}

#[derive(Default)]
pub(super) struct Timers {
    entries: Lanes<Entry>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    sequence_next: u64,
}

/// Compared by time, then by number; numbers are unique.
#[derive(Clone, Copy)]
struct Entry {
    at: SimTime,
    sequence: u64,
    index: u32,
}

impl Ordered for Entry {
    /// Both numbers in one: a heap compares a dozen pairs per timer, and one wide comparison is half the work of two in turn.
    fn order(&self) -> u128 {
        order(self.at, self.sequence)
    }
}

fn order(at: SimTime, sequence: u64) -> u128 {
    u128::from(at.as_nanos()) << 64 | u128::from(sequence)
}

/// A place for a timer.
struct Slot {
    /// The number of the timer that is, or was last, here.
    sequence: u64,
    /// Absent if the place is free.
    wakeup: Option<Wakeup>,
}

impl Timers {
    /// Arms a timer, behind all that are armed for the same time. `now` never goes back.
    pub(super) fn arm(&mut self, now: SimTime, at: SimTime, wakeup: Wakeup) -> TimerKey {
        let sequence = self.sequence_next;
        self.sequence_next += 1;
        let slot = Slot { sequence, wakeup: Some(wakeup) };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 timers at a time")
            }
        };
        self.entries.push(at.as_nanos().checked_sub(now.as_nanos()), Entry { at, sequence, index });
        TimerKey { index, sequence }
    }

    /// Disarms a timer; whom it would have woken, unless it has fired.
    pub(super) fn disarm(&mut self, key: TimerKey) -> Option<Wakeup> {
        let wakeup = self.vacate(key.index, key.sequence);
        if self.entries.len() > 2 * self.armed_count() + DEAD_MAX {
            let slots = &self.slots;
            self.entries.retain(|entry| {
                let slot = &slots[entry.index as usize];
                slot.sequence == entry.sequence && slot.wakeup.is_some()
            });
        }
        wakeup
    }

    /// Whom a timer wakes that is armed.
    pub(super) fn wakeup_mut(&mut self, key: TimerKey) -> Option<&mut Wakeup> {
        let slot = &mut self.slots[key.index as usize];
        if slot.sequence == key.sequence { slot.wakeup.as_mut() } else { None }
    }

    /// Takes out the next timer, if its time is not after `end`.
    pub(super) fn pop_due(&mut self, end: SimTime) -> Option<(SimTime, Wakeup)> {
        while let Some(first) = self.entries.pop_below(order(end, u64::MAX)) {
            if let Some(wakeup) = self.vacate(first.index, first.sequence) {
                return Some((first.at, wakeup));
            }
        }
        None
    }

    pub(super) fn armed_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn vacate(&mut self, index: u32, sequence: u64) -> Option<Wakeup> {
        let slot = &mut self.slots[index as usize];
        if slot.sequence != sequence {
            return None;
        }
        let wakeup = slot.wakeup.take()?;
        self.free.push(index);
        Some(wakeup)
    }

    /// Entries kept, dead ones included.
    #[cfg(test)]
    pub(super) fn entry_count(&self) -> usize {
        self.entries.len()
    }
}
