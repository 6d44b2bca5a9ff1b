//! The event log: every state change worth telling, with the event that caused it.
//!
//! The log is the one source of the timeline, of explanations and of the run's **fingerprint**, a hash over all of it.
//! Events are numbered from 1 in the order in which they happened; a cause is always an earlier event.

use std::fmt;

use crate::units::SimTime;

/// The number of an event in its run, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EventId(u64);

impl EventId {
    /// The number itself.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A value told with an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Datum {
    /// A count, a size or a time; its unit stands in the key.
    Number(i64),
    /// A name or a reason.
    Text(String),
    /// A fact.
    Flag(bool),
}

impl From<&str> for Datum {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Datum {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Datum {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Datum {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// One state change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its number.
    pub id: EventId,
    /// When it happened.
    pub at: SimTime,
    /// The earlier event that made it happen; none for what the scenario itself does.
    pub because: Option<EventId>,
    /// What happened, such as `sigterm`.
    pub kind: &'static str,
    /// To whom, as `Kind/namespace/name`.
    pub object: String,
    /// Details, in the order in which they were told.
    pub data: Vec<(&'static str, Datum)>,
}

/// All events of a run, in order.
#[derive(Default, Debug)]
pub struct EventLog {
    events: Vec<Event>,
    hash: Hash,
}

impl EventLog {
    /// Writes down an event.
    ///
    /// # Panics
    ///
    /// If time runs backwards or the cause has not happened: both are errors of the simulator.
    pub fn record(
        &mut self,
        at: SimTime,
        because: Option<EventId>,
        kind: &'static str,
        object: impl Into<String>,
        data: Vec<(&'static str, Datum)>,
    ) -> EventId {
        let id = EventId(self.events.last().map_or(1, |last| last.id.0 + 1));
        assert!(self.events.last().is_none_or(|last| last.at <= at), "events are recorded in the order of time");
        assert!(because.is_none_or(|cause| cause < id), "an event is caused by an earlier one");
        let event = Event { id, at, because, kind, object: object.into(), data };
        self.hash.write_event(&event);
        self.events.push(event);
        id
    }

    /// The events so far.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The chain of causes that ends in `id`: `id` first, then what caused it, back to the scenario.
    pub fn causes(&self, id: EventId) -> impl Iterator<Item = &Event> {
        let find = |id: EventId| self.events.get(usize::try_from(id.0 - 1).ok()?);
        std::iter::successors(find(id), move |event| find(event.because?))
    }

    /// A hash over the whole log so far: two runs with the same fingerprint told the same story.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(self.hash.0)
    }
}

/// The hash of an event log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// The hash of these texts, one after the other.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Hash::default();
        for text in texts {
            hash.write_text(text);
        }
        Self(hash.0)
    }
}

/// Eight groups of four hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in 0..8 {
            let dash = if group == 0 { "" } else { "-" };
            write!(f, "{dash}{:04x}", (self.0 >> (112 - 16 * group)) & 0xffff)?;
        }
        Ok(())
    }
}

/// FNV-1a, 128 bit: not secure, and need not be. Every field is closed by its length or a fixed width, so that no two
/// different events feed the same bytes.
#[derive(Debug)]
struct Hash(u128);

impl Default for Hash {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Hash {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    fn write_text(&mut self, text: &str) {
        self.write(&text.len().to_le_bytes());
        self.write(text.as_bytes());
    }

    fn write_event(&mut self, event: &Event) {
        self.write(&event.at.as_nanos().to_le_bytes());
        self.write(&event.because.map_or(0, |cause| cause.0).to_le_bytes());
        self.write_text(event.kind);
        self.write_text(&event.object);
        self.write(&event.data.len().to_le_bytes());
        for (key, datum) in &event.data {
            self.write_text(key);
            match datum {
                Datum::Number(number) => {
                    self.write(&[0]);
                    self.write(&number.to_le_bytes());
                }
                Datum::Text(text) => {
                    self.write(&[1]);
                    self.write_text(text);
                }
                Datum::Flag(flag) => self.write(&[2, u8::from(*flag)]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(object: &str, signal: i64) -> EventLog {
        let mut log = EventLog::default();
        let restart = log.record(SimTime::ZERO, None, "timeline", "Deployment/a/b", vec![("verb", "restart".into())]);
        let at = SimTime::from_nanos(7);
        log.record(at, Some(restart), "sigterm", object, vec![("signal", signal.into()), ("graceful", true.into())]);
        log
    }

    #[test]
    fn causes_lead_back_to_the_scenario() {
        let log = story("Pod/a/p", 15);
        let last = log.events().last().unwrap().id;
        let kinds: Vec<_> = log.causes(last).map(|event| event.kind).collect();
        assert_eq!(kinds, ["sigterm", "timeline"]);
    }

    #[test]
    fn the_fingerprint_tells_stories_apart() {
        let print = |object: &str, signal| story(object, signal).fingerprint().to_string();
        assert_eq!(print("Pod/a/p", 15), print("Pod/a/p", 15));
        assert_ne!(print("Pod/a/p", 15), print("Pod/a/q", 15));
        assert_ne!(print("Pod/a/p", 15), print("Pod/a/p", 9));
        assert_eq!(print("Pod/a/p", 15).len(), 39);
    }

    #[test]
    #[should_panic(expected = "caused by an earlier one")]
    fn a_cause_cannot_lie_in_the_future() {
        EventLog::default().record(SimTime::ZERO, Some(EventId(1)), "sigterm", "Pod/a/p", Vec::new());
    }
}
