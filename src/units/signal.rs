//! A flag that tasks can wait for: raised once, never lowered.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A flag that is raised once. Clones share it.
#[derive(Clone, Default)]
pub struct Signal {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    is_raised: Cell<bool>,
    waiting: RefCell<Waiting>,
    number_next: Cell<u64>,
}

/// Whoever waits, by number, which is the order of their first poll. Woken in that order. Mostly there is one, which needs no list.
#[derive(Default)]
struct Waiting {
    /// It came when nobody waited, so it is before all others.
    first: Option<(u64, Waker)>,
    others: BTreeMap<u64, Waker>,
}

impl Waiting {
    /// Takes somebody in, or takes another waker for them.
    fn insert(&mut self, number: u64, waker: Waker) {
        let is_first = match &self.first {
            Some((first, _)) => *first == number,
            None => self.others.is_empty(),
        };
        if is_first {
            self.first = Some((number, waker));
        } else {
            self.others.insert(number, waker);
        }
    }

    fn remove(&mut self, number: u64) {
        if self.first.as_ref().is_some_and(|(first, _)| *first == number) {
            self.first = None;
        } else {
            self.others.remove(&number);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.first.iter().count() + self.others.len()
    }
}

impl Signal {
    /// Raises the flag and wakes all who wait. Raising it again does nothing.
    pub fn raise(&self) {
        if !self.inner.is_raised.replace(true) {
            let Waiting { first, others } = self.inner.waiting.take();
            for waker in first.into_iter().map(|(_, waker)| waker).chain(others.into_values()) {
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
        Raised { inner: Rc::clone(&self.inner), waits_as: None }
    }
}

/// Waiting for a flag. Dropping it leaves the list, which is no longer than there are tasks that wait.
struct Raised {
    inner: Rc<Inner>,
    /// The number and the waker in the list. The waker is here too, because a task polls this with each thing that happens to
    /// it, and must not search the list each time.
    waits_as: Option<(u64, Waker)>,
}

impl Future for Raised {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let inner = &this.inner;
        if inner.is_raised.get() {
            return Poll::Ready(());
        }
        if this.waits_as.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let number = this
            .waits_as
            .as_ref()
            .map_or_else(|| inner.number_next.replace(inner.number_next.get() + 1), |(number, _)| *number);
        inner.waiting.borrow_mut().insert(number, cx.waker().clone());
        this.waits_as = Some((number, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some((number, _)) = &self.waits_as {
            self.inner.waiting.borrow_mut().remove(*number);
        }
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
        assert_eq!(signal.inner.waiting.borrow().len(), 3);
        drop(signal.raised());
        signal.raise();
        signal.raise();
        sim.run_until(SimTime::from_nanos(6)).unwrap();
        assert_eq!((passed.get(), signal.is_raised()), (3, true));
    }

    #[test]
    fn they_go_on_in_the_order_in_which_they_came() {
        let (sim, signal, passed) = (Sim::new(), Signal::default(), Rc::new(RefCell::new(Vec::new())));
        let wait = |number: u32| {
            let (raised, passed) = (signal.raised(), Rc::clone(&passed));
            let task = sim.spawn("waiter", async move {
                raised.await;
                passed.borrow_mut().push(number);
            });
            sim.run_until(sim.now()).unwrap();
            task
        };
        let tasks = [wait(0), wait(1), wait(2)];
        tasks[0].abort();
        wait(3);
        tasks[1].abort();
        wait(4);
        signal.raise();
        sim.run_until(sim.now()).unwrap();
        assert_eq!(*passed.borrow(), [2, 3, 4]);
    }

    #[test]
    fn who_stops_waiting_leaves_nothing_behind() {
        let (sim, signal) = (Sim::new(), Signal::default());
        for _ in 0..100 {
            let raised = signal.raised();
            let task = sim.spawn("waiter", raised);
            sim.run_until(sim.now()).unwrap();
            assert_eq!(signal.inner.waiting.borrow().len(), 1);
            task.abort();
        }
        assert_eq!(signal.inner.waiting.borrow().len(), 0);
    }
}
