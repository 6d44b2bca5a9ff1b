//! Whom a timer wakes.
//!
//! Nearly always the task that armed it: its number says that as well as its waker does, and costs no counting of references, which, counted for all
//! threads, are among the slowest steps of a timer. Whoever polls with a waker of its own, as a set of futures does, is woken by that.

use std::task::{RawWakerVTable, Waker};

use super::TaskId;

/// Somebody to be woken.
#[derive(Clone, Debug)]
pub struct Wakeup(pub(super) Whom);

#[derive(Clone, Debug)]
pub(super) enum Whom {
    Task(TaskId),
    Other(Waker),
}

/// A task and the waker that it is polled with.
#[derive(Clone, Copy)]
pub(super) struct Current {
    id: TaskId,
    data: *const (),
    kind: &'static RawWakerVTable,
}

impl Current {
    pub(super) fn new(waker: &Waker, id: TaskId) -> Self {
        Self { id, data: waker.data(), kind: waker.vtable() }
    }
}

impl Wakeup {
    /// Whom `waker` wakes, if `current` is the task that is being polled.
    pub(super) fn new(waker: &Waker, current: Option<Current>) -> Self {
        let is_own = |current: &Current| waker.data() == current.data && std::ptr::eq(waker.vtable(), current.kind);
        Self(match current.filter(is_own) {
            Some(current) => Whom::Task(current.id),
            None => Whom::Other(waker.clone()),
        })
    }
}
