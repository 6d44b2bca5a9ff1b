//! Spares an upstream connection the wake-ups that would find nothing to do.
//!
//! hyper wakes the task of a connection whenever a piece of an answer's body is taken, the last piece too, though nothing is left to bring then:
//! for each answer a poll of the whole connection in vain. So a connection is polled with a waker of its own, which is muffled while a
//! piece is taken; whoever took it says afterwards whether the wake-up matters.
//!
//! A connection and the requests on it live on one thread: nobody else wakes it meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// What wakes a connection's task. Clones are one bell.
#[derive(Clone, Default)]
pub(super) struct Bell {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    is_muffled: AtomicBool,
    /// Whom the last wake-up while muffled was for.
    unheard: Mutex<Option<Waker>>,
}

impl Bell {
    /// From now on wake-ups wait.
    pub(super) fn muffle(&self) {
        self.inner.is_muffled.store(true, Relaxed);
    }

    /// From now on wake-ups are heard again. One that came meanwhile is carried out if it matters, and forgotten otherwise.
    pub(super) fn release(&self, matters: bool) {
        self.inner.is_muffled.store(false, Relaxed);
        let unheard = self.inner.unheard.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = unheard.filter(|_| matters) {
            task.wake();
        }
    }
}

/// A task's waker behind a bell.
struct Rope {
    bell: Bell,
    task: Waker,
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.bell.inner.is_muffled.load(Relaxed) {
            let mut unheard = self.bell.inner.unheard.lock().unwrap_or_else(PoisonError::into_inner);
            *unheard = Some(self.task.clone());
        } else {
            self.task.wake_by_ref();
        }
    }
}

/// A future that is woken by a bell.
pub(super) struct Belled<F> {
    future: F,
    bell: Bell,
    /// The task's waker at the last poll, and the one made of it.
    rope: Option<(Waker, Waker)>,
}

impl<F> Belled<F> {
    pub(super) fn new(future: F, bell: Bell) -> Self {
        Self { future, bell, rope: None }
    }
}

impl<F: Future + Unpin> Future for Belled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, bell, rope } = &mut *self;
        let is_known = rope.as_ref().is_some_and(|(task, _)| task.will_wake(cx.waker()));
        if !is_known {
            let task = cx.waker().clone();
            *rope = Some((task.clone(), Arc::new(Rope { bell: bell.clone(), task }).into()));
        }
        let (_, waker) = rope.as_ref().expect("a rope was made a moment ago");
        Pin::new(future).poll(&mut Context::from_waker(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::engine::Sim;
    use crate::units::SimTime;

    /// How often a task is polled that is woken once while its bell is muffled, and then released.
    fn polls(matters: bool) -> u64 {
        let (sim, bell) = (Sim::new(), Bell::default());
        let kept: Rc<RefCell<Option<Waker>>> = Rc::default();
        let keep = Rc::clone(&kept);
        let future = std::future::poll_fn(move |cx| {
            *keep.borrow_mut() = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        sim.spawn("belled", Belled::new(future, bell.clone()));
        let run = || sim.run_until(SimTime::ZERO).expect("no stall");
        run();
        bell.muffle();
        kept.borrow().as_ref().expect("a waker").wake_by_ref();
        run();
        assert_eq!(sim.polls_total(), 1, "nobody hears a muffled bell");
        bell.release(matters);
        run();
        let polls = sim.polls_total();
        kept.borrow().as_ref().expect("a waker").wake_by_ref();
        run();
        assert_eq!(sim.polls_total(), polls + 1, "it is heard again");
        sim.end();
        polls
    }

    #[test]
    fn a_wake_up_while_muffled_comes_later_or_never() {
        assert_eq!(polls(true), 2);
        assert_eq!(polls(false), 1);
    }
}
