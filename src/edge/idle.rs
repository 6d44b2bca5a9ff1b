//! Connections that say nothing: when their time is over.
//!
//! Each open connection has a moment at which it is looked at, the earliest at which it can have been silent for long enough. One that has spoken meanwhile is
//! looked at again later, so traffic itself costs nothing here.
//!
//! Sources: CLB documents, "TCP listener" (an expired connection is reset on both sides); Linux IPVS and AWS's documents on its NLB for balancers that
//! forget it without a word and answer what comes later with RST.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::net::ConnectionId;
use crate::units::SimTime;

/// How long a connection may be silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdleRule {
    /// So long.
    pub timeout: Duration,
    /// What it meets then.
    pub end: IdleEnd,
}

/// What a connection meets that was silent for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdleEnd {
    /// RST to both of its ends.
    Reset,
    /// Nothing: it is forgotten, and whoever speaks next gets RST.
    Forgotten,
}

/// When which connection is looked at.
#[derive(Debug, Default)]
pub struct IdleWatch {
    looks: BTreeSet<(SimTime, ConnectionId)>,
}

impl IdleWatch {
    /// Looks at a connection at this moment.
    pub fn add(&mut self, at: SimTime, id: ConnectionId) {
        self.looks.insert((at, id));
    }

    /// It is over.
    pub fn remove(&mut self, at: SimTime, id: ConnectionId) {
        self.looks.remove(&(at, id));
    }

    /// The next moment with something to look at.
    #[must_use]
    pub fn next(&self) -> Option<SimTime> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// A connection whose moment has come.
    pub fn due(&mut self, now: SimTime) -> Option<ConnectionId> {
        let (at, id) = *self.looks.first().filter(|(at, _)| *at <= now)?;
        self.looks.remove(&(at, id));
        Some(id)
    }
}
