//! Virtual time: one thread, a nanosecond clock, and an order of events that never varies.
//!
//! # Ordering contract
//!
//! - Timers fire by `(time, sequence)`. The sequence is drawn when the timer is armed, so equal times are first-in
//!   first-out.
//! - Tasks that are ready run first-in first-out, and all of them run before the clock moves or the next timer fires.
//! - A task woken twice before it runs, runs once.
//!
//! # What costs nothing
//!
//! Time in which nothing happens is skipped. A cancelled timer is swept before the dead outnumber the living, and an ended task leaves nothing behind.
//!
//! A world that makes no progress (a task that wakes itself, a loop of zero delays) ends in a [`Stall`] which names the
//! task, not in a hang.

pub mod delay;
pub mod events;
pub mod executor;
pub mod random;

pub use delay::{Delay, Spread};
pub use events::{Datum, Event, EventId, EventLog, Fingerprint};
pub use executor::{Sim, Sleep, Stall, TaskGroup, TaskHandle, TimerKey, Wakeup};
pub use random::{Names, Stream, Streams};

pub use crate::units::Signal;
