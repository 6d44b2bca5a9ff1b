//! One request as it is told to the recorder, and the rows that are kept of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CauseCode, Outcome, Remedy};
use crate::engine::EventId;
use crate::units::SimTime;

/// A request's name: the client that sent it, and its number within the load.
///
/// Both come from the order of arrivals, so the same request has the same name under another configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestId {
    /// The client, from 0.
    pub client: u32,
    /// The request, from 0, in the order in which requests are due.
    pub number: u64,
}

/// As in `c0017-r48213`.
impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:04}-r{}", self.client, self.number)
    }
}

/// A place in the user's files that set what caused a loss, or the setting that nobody wrote.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Source {
    /// File as the user named it; none for a default nobody wrote down.
    pub file: Option<String>,
    /// Line in that file, from 1.
    pub line: Option<u32>,
    /// Path of the setting, such as `spec.gracefulShutdown`.
    pub path: String,
    /// Its value, as one would write it; none if it is not set.
    pub value: Option<String>,
}

/// Why a request was lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The cause.
    pub code: CauseCode,
    /// The event that severed it.
    pub event: Option<EventId>,
    /// The setting behind it.
    pub source: Option<Source>,
    /// What to set, where the cause's own advice does not fit what happened.
    pub remedy: Option<Remedy>,
}

/// A request that has ended.
#[derive(Debug)]
pub struct Done<'a> {
    /// Its name.
    pub request: RequestId,
    /// Its load, as an index into [`super::RecorderConfig::loads`].
    pub load: usize,
    /// When it was due to be sent.
    pub intended_at: SimTime,
    /// When its client knew the outcome.
    pub ended_at: SimTime,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status, if an answer began.
    pub status: Option<u16>,
    /// Envoy's response flag, such as `UF`, if the gateway set one.
    pub flag: Option<&'a str>,
    /// Why it was lost: present exactly when the outcome is a drop.
    pub cause: Option<Lost>,
    /// The gateway pod it reached or was sent to, as `namespace/name`.
    pub pod: Option<&'a str>,
    /// HTTP method.
    pub method: &'a str,
    /// URL as the client wrote it.
    pub url: &'a str,
    /// Number of the client's connection, if one was made or tried.
    pub connection: Option<u64>,
    /// Attempts after the first, by the client.
    pub retries: u32,
}

/// A kept request: one row of `requests.csv`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RequestRow {
    /// Its name, as in `c0017-r48213`.
    pub request: String,
    /// When it was due, seconds on the clock of the run.
    pub t_intended_s: f64,
    /// Name of its load.
    pub load: String,
    /// HTTP method.
    pub method: String,
    /// URL.
    pub url: String,
    /// Name of its [`Outcome`].
    pub outcome: String,
    /// HTTP status, if an answer began.
    pub status: Option<u16>,
    /// Envoy's response flag.
    pub flag: Option<String>,
    /// Code of the cause, as in `GD4101`.
    pub cause: Option<String>,
    /// Number of the event that severed it.
    pub event: Option<u64>,
    /// Number of the client's connection.
    pub connection: Option<u64>,
    /// Gateway pod, as `namespace/name`.
    pub pod: Option<String>,
    /// Node of that pod.
    pub node: Option<String>,
    /// From the intended send time to the outcome, in microseconds.
    pub latency_us: u64,
}

impl RequestRow {
    /// The row of a request; the node is filled in at the end of the run.
    pub(super) fn new(done: &Done<'_>, load: &str) -> Self {
        Self {
            request: done.request.to_string(),
            t_intended_s: seconds(done.intended_at),
            load: load.to_owned(),
            method: done.method.to_owned(),
            url: done.url.to_owned(),
            outcome: done.outcome.name().to_owned(),
            status: done.status,
            flag: done.flag.map(str::to_owned),
            cause: done.cause.as_ref().map(|lost| lost.code.code().to_owned()),
            event: done.cause.as_ref().and_then(|lost| lost.event).map(EventId::number),
            connection: done.connection,
            pod: done.pod.map(str::to_owned),
            node: None,
            latency_us: done.latency_us(),
        }
    }
}

impl Done<'_> {
    /// From the intended send time to the outcome, in microseconds, rounded down.
    pub(super) fn latency_us(&self) -> u64 {
        u64::try_from(self.ended_at.since(self.intended_at).as_micros()).unwrap_or(u64::MAX)
    }
}

/// Seconds with microseconds, so that the number prints short.
fn seconds(at: SimTime) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a run fit 53 bits for 285 years")]
    let micros = (at.as_nanos() / 1_000) as f64;
    micros / 1e6
}
