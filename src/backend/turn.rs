//! Places for requests that are served at once, with a queue for the rest: first come, first served.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A limited number of places. Clones share them.
#[derive(Clone)]
pub struct Places {
    inner: Rc<RefCell<Inner>>,
}

struct Inner {
    free_count: usize,
    ticket_next: u64,
    waiting: VecDeque<(u64, Waker)>,
    /// Places given to waiting tickets that have not yet run to take them.
    granted: Vec<u64>,
}

impl Places {
    /// `count` free places.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let inner = Inner { free_count: count, ticket_next: 0, waiting: VecDeque::new(), granted: Vec::new() };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    /// Waits for a place behind all who came earlier.
    #[must_use]
    pub fn take(&self) -> Wait {
        Wait { places: self.clone(), ticket: None }
    }

    fn give_back(&self) {
        let mut inner = self.inner.borrow_mut();
        match inner.waiting.pop_front() {
            Some((ticket, waker)) => {
                inner.granted.push(ticket);
                drop(inner);
                waker.wake();
            }
            None => inner.free_count += 1,
        }
    }
}

/// A place; dropping it lets the next one in.
pub struct Place {
    places: Places,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back();
    }
}

/// Waiting for a [`Place`]. Dropping it leaves the queue.
pub struct Wait {
    places: Places,
    ticket: Option<u64>,
}

impl Future for Wait {
    type Output = Place;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Place> {
        let places = self.places.clone();
        let mut inner = places.inner.borrow_mut();
        match self.ticket {
            None if inner.free_count > 0 => {
                inner.free_count -= 1;
                Poll::Ready(Place { places: places.clone() })
            }
            None => {
                let ticket = inner.ticket_next;
                inner.ticket_next += 1;
                inner.waiting.push_back((ticket, cx.waker().clone()));
                self.ticket = Some(ticket);
                Poll::Pending
            }
            Some(ticket) => {
                if let Some(index) = inner.granted.iter().position(|granted| *granted == ticket) {
                    inner.granted.swap_remove(index);
                    self.ticket = None;
                    return Poll::Ready(Place { places: places.clone() });
                }
                if let Some((_, waker)) = inner.waiting.iter_mut().find(|(waiting, _)| *waiting == ticket) {
                    waker.clone_from(cx.waker());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let was_granted = {
            let mut inner = self.places.inner.borrow_mut();
            inner.waiting.retain(|(waiting, _)| *waiting != ticket);
            let index = inner.granted.iter().position(|granted| *granted == ticket);
            index.map(|index| inner.granted.swap_remove(index)).is_some()
        };
        if was_granted {
            self.places.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Sim;
    use crate::units::SimTime;
    use std::time::Duration;

    #[test]
    fn one_place_serves_in_order_and_a_leaver_holds_nobody_up() {
        let (sim, places) = (Sim::new(), Places::new(1));
        let seen: Rc<RefCell<Vec<(u32, u64)>>> = Rc::default();
        let tasks: Vec<_> = (0..4)
            .map(|number| {
                let (clock, places, seen) = (sim.clone(), places.clone(), Rc::clone(&seen));
                sim.spawn("request", async move {
                    let _place = places.take().await;
                    clock.sleep(Duration::from_nanos(10)).await;
                    seen.borrow_mut().push((number, clock.now().as_nanos()));
                })
            })
            .collect();
        sim.run_until(SimTime::from_nanos(5)).unwrap();
        tasks[1].abort();
        sim.run_until(SimTime::from_nanos(15)).unwrap();
        // Task 2 holds the place now; as it goes, task 3 gets it at once.
        tasks[2].abort();
        sim.run_until(SimTime::MAX).unwrap();
        assert_eq!(seen.take(), [(0, 10), (3, 25)]);
        assert_eq!(places.inner.borrow().free_count, 1);
    }
}
