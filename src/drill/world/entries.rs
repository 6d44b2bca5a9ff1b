//! Entries of the timeline as they stand behind what happens: their lines, and what they decide whatever is set elsewhere.

use std::collections::BTreeMap;

use crate::cluster::operation::Operation;
use crate::drill::config::{Action, Verb};
use crate::engine::{Event, EventId, EventLog};
use crate::record::Source;

/// What has been done so far, by the event that tells of it.
pub(in crate::drill) type Entries = BTreeMap<EventId, Entry>;

/// An entry that was carried out.
#[derive(Debug)]
pub(in crate::drill) struct Entry {
    /// Where it stands, and what it does.
    pub(in crate::drill) source: Source,
    /// It gives pods another grace than their own.
    pub(in crate::drill) gives_grace: bool,
    /// It fills a node's disk.
    pub(in crate::drill) fills_disk: bool,
}

impl Entry {
    pub(in crate::drill) fn of(action: &Action, verb: &Verb) -> Self {
        let (file, line) = action.place.clone().unzip();
        let source = Source { file, line, path: "spec.timeline".to_owned(), value: Some(action.text.clone()) };
        let (gives_grace, fills_disk) = match verb {
            Verb::Operate(Operation::KillPod { grace_seconds, .. }) => (grace_seconds.is_some(), false),
            Verb::Operate(Operation::Drain { settings, .. }) => (settings.grace_seconds.is_some(), false),
            Verb::Operate(Operation::FillDisk { .. }) => (false, true),
            _ => (false, false),
        };
        Self { source, gives_grace, fills_disk }
    }
}

/// The entry that an event goes back to.
pub(in crate::drill) fn entry_behind<'a>(event: EventId, log: &EventLog, entries: &'a Entries) -> Option<&'a Entry> {
    log.causes(event).find_map(|cause: &Event| entries.get(&cause.id))
}
