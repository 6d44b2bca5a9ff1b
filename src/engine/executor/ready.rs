//! The queue of tasks that wait for their turn: first in, first out.
//!
//! The standard library has no safe waker but an `Arc` that other threads may use, so the queue must be `Sync` although one
//! thread alone ever touches it. A lock for each push and pop costs more than the rest of a wake-up; so the queue is a ring of
//! atomics, read and written like plain memory (`Relaxed`), and only tasks that find it full go through a lock.
//!
//! Were two threads to push at once, a wake-up could be lost, but nothing worse: worlds never share wakers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

/// Places in the ring; a power of two. Few tasks are ready at once: 4 KiB per world are plenty.
const RING: usize = 512;

pub(super) struct ReadyQueue {
    ring: Box<[AtomicU64]>,
    /// Tasks taken out of the ring and put into it so far.
    taken: AtomicUsize,
    put: AtomicUsize,
    /// Those that found the ring full. As long as there are any, all later ones line up behind them.
    overflow: Mutex<VecDeque<u64>>,
    overflow_count: AtomicUsize,
}

impl Default for ReadyQueue {
    fn default() -> Self {
        Self {
            ring: (0..RING).map(|_| AtomicU64::new(0)).collect(),
            taken: AtomicUsize::new(0),
            put: AtomicUsize::new(0),
            overflow: Mutex::default(),
            overflow_count: AtomicUsize::new(0),
        }
    }
}

impl ReadyQueue {
    pub(super) fn push(&self, task: u64) {
        let put = self.put.load(Relaxed);
        if self.overflow_count.load(Relaxed) == 0 && put.wrapping_sub(self.taken.load(Relaxed)) < RING {
            self.ring[put % RING].store(task, Relaxed);
            self.put.store(put.wrapping_add(1), Relaxed);
        } else {
            let mut overflow = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
            overflow.push_back(task);
            self.overflow_count.store(overflow.len(), Relaxed);
        }
    }

    pub(super) fn pop(&self) -> Option<u64> {
        let taken = self.taken.load(Relaxed);
        if taken != self.put.load(Relaxed) {
            self.taken.store(taken.wrapping_add(1), Relaxed);
            return Some(self.ring[taken % RING].load(Relaxed));
        }
        if self.overflow_count.load(Relaxed) == 0 {
            return None;
        }
        let mut overflow = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
        let task = overflow.pop_front();
        self.overflow_count.store(overflow.len(), Relaxed);
        task
    }
}

/// Wakes one task. A task that is queued already is not queued twice.
pub(super) struct TaskWaker {
    task: u64,
    is_queued: AtomicBool,
    ready: Arc<ReadyQueue>,
}

impl TaskWaker {
    /// The waker of a task that its maker puts into the queue.
    pub(super) fn queued(task: u64, ready: Arc<ReadyQueue>) -> Self {
        Self { task, is_queued: AtomicBool::new(true), ready }
    }

    /// The task's turn has come: from now on it can be woken again.
    pub(super) fn leave_queue(&self) {
        self.is_queued.store(false, Relaxed);
    }

    pub(super) fn queue(&self) {
        // Not a swap: that would lock the bus for a race that one thread cannot have with itself.
        if !self.is_queued.load(Relaxed) {
            self.is_queued.store(true, Relaxed);
            self.ready.push(self.task);
        }
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_kept_when_the_ring_overflows() {
        let queue = ReadyQueue::default();
        let mut expected = 0;
        let mut pushed = 0;
        // Fills and empties by amounts that leave the ring full, partly full and empty, with and without overflow.
        for (push, pop) in [(700, 100), (1, 600), (5, 6), (512, 0), (3, 515), (2000, 2000)] {
            for _ in 0..push {
                queue.push(pushed);
                pushed += 1;
            }
            for _ in 0..pop {
                assert_eq!(queue.pop(), Some(expected));
                expected += 1;
            }
        }
        assert_eq!((queue.pop(), expected), (None, pushed));
    }
}
