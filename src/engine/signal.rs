//! A flag that tasks can wait for: raised once, never lowered.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A flag that is raised once. Clones share it.
#[derive(Clone, Default)]
pub struct Signal {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    is_raised: Cell<bool>,
    /// Whoever waits, in the order of their first poll. Woken in that order.
    waiting: RefCell<Vec<Waker>>,
}

impl Signal {
    /// Raises the flag and wakes all who wait. Raising it again does nothing.
    pub fn raise(&self) {
        if !self.inner.is_raised.replace(true) {
            for waker in self.inner.waiting.take() {
                waker.wake();
            }
        }
    }

    /// Whether the flag is up.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.inner.is_raised.get()
    }

    /// Ends when the flag is up.
    pub fn raised(&self) -> impl Future<Output = ()> + 'static {
        let inner = Rc::clone(&self.inner);
        std::future::poll_fn(move |cx| {
            if inner.is_raised.get() {
                return Poll::Ready(());
            }
            let mut waiting = inner.waiting.borrow_mut();
            // One entry for each task, however often it polls.
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Sim;
    use crate::units::SimTime;

    #[test]
    fn all_who_wait_go_on_when_the_flag_is_raised() {
        let (sim, signal, passed) = (Sim::new(), Signal::default(), Rc::new(Cell::new(0)));
        for _ in 0..3 {
            let (raised, passed) = (signal.raised(), Rc::clone(&passed));
            sim.spawn("waiter", async move {
                raised.await;
                passed.set(passed.get() + 1);
            });
        }
        sim.run_until(SimTime::from_nanos(5)).unwrap();
        assert_eq!((passed.get(), signal.is_raised()), (0, false));
        signal.raise();
        signal.raise();
        sim.run_until(SimTime::from_nanos(6)).unwrap();
        assert_eq!((passed.get(), signal.is_raised()), (3, true));
    }
}
