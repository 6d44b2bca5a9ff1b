//! The actions of the timeline, as the event log tells them.

use crate::engine::{Datum, Event};

/// An action of the timeline.
#[derive(Debug)]
pub(super) struct Action<'a> {
    /// When, on the clock of the run.
    pub t_ms: u64,
    /// What was done.
    pub text: &'a str,
    /// To whom, as `Kind/namespace/name`.
    pub object: &'a str,
}

/// The actions, in order.
pub(super) fn of(events: &[Event]) -> Vec<Action<'_>> {
    events.iter().filter(|event| event.kind == "timeline").map(action).collect()
}

fn action(event: &Event) -> Action<'_> {
    let text = event.data.iter().find_map(|(_, datum)| match datum {
        Datum::Text(text) => Some(text.as_str()),
        Datum::Number(_) | Datum::Flag(_) => None,
    });
    Action { t_ms: event.at.as_nanos() / 1_000_000, text: text.unwrap_or("action"), object: &event.object }
}
