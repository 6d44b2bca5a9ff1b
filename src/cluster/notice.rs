//! Something that changes again and again, and the tasks that wait for its next change.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A counter of changes. Who has seen one can wait for the next, and misses none in between.
#[derive(Default)]
pub(super) struct Notice {
    version: Cell<u64>,
    waiting: RefCell<Waiting>,
}

/// Whoever waits, in the order of their first poll; woken in that order. Mostly there is one, which needs no list.
#[derive(Default)]
struct Waiting {
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Waiting {
    fn add(&mut self, waker: &Waker) {
        if self.first.iter().chain(&self.others).any(|known| known.will_wake(waker)) {
            return;
        }
        match &self.first {
            None => self.first = Some(waker.clone()),
            Some(_) => self.others.push(waker.clone()),
        }
    }
}

impl Notice {
    /// The number of changes so far.
    pub(super) fn version(&self) -> u64 {
        self.version.get()
    }

    /// Something has changed.
    pub(super) fn raise(&self) {
        self.version.set(self.version.get() + 1);
        let Waiting { first, others } = self.waiting.take();
        for waker in first.into_iter().chain(others) {
            waker.wake();
        }
    }

    /// Ends when there is a change later than the one numbered `seen`.
    pub(super) async fn changed_since(&self, seen: u64) {
        poll_fn(|cx| self.poll_changed(seen, cx)).await;
    }

    /// Whether there is such a change; if there is none yet, whoever polls is woken by it.
    pub(super) fn poll_changed(&self, seen: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.version.get() != seen {
            return Poll::Ready(());
        }
        self.waiting.borrow_mut().add(cx.waker());
        Poll::Pending
    }
}

/// The output of `future`, unless `end` comes first, or at the same time. A large future is given pinned (`pin!`): it would be in this one twice.
pub(super) async fn until<F: Future>(end: impl Future<Output = ()>, future: F) -> Option<F::Output> {
    let (mut end, mut future) = (pin!(end), pin!(future));
    poll_fn(|cx| {
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
