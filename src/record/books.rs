//! The books: what was sent is what was answered plus what was lost, and every loss has its cause.

use thiserror::Error;

/// The most entries a [`BooksBroken`] lists; one wrong line of code breaks thousands.
const LISTED_MAX: usize = 20;

/// The simulator lost count: its results would be wrong, so there are none.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("the books do not balance (an error of gatedrill, not of your manifests):\n  {}", .entries.join("\n  "))]
pub struct BooksBroken {
    /// What is wrong, the first twenty entries.
    pub entries: Vec<String>,
}

/// Collects what is wrong.
#[derive(Clone, Default, Debug)]
pub(super) struct Audit {
    entries: Vec<String>,
}

impl Audit {
    /// Notes something that must never happen.
    pub(super) fn wrong(&mut self, entry: impl FnOnce() -> String) {
        if self.entries.len() < LISTED_MAX {
            self.entries.push(entry());
        }
    }

    /// Checks that two figures of the same thing agree.
    pub(super) fn equal(&mut self, what: &str, left: (&str, u64), right: (&str, u64)) {
        if left.1 != right.1 {
            self.wrong(|| format!("{what}: {} {} but {} {}", left.1, left.0, right.1, right.0));
        }
    }

    /// The verdict.
    pub(super) fn close(self) -> Result<(), BooksBroken> {
        if self.entries.is_empty() { Ok(()) } else { Err(BooksBroken { entries: self.entries }) }
    }
}
