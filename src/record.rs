//! What a run says: outcomes, causes, histograms, series, results. Data only.
//!
//! A [`Recorder`] is told every request twice, once when it was due to be sent and once when the client knows how it
//! ended. From that it keeps counts and latencies per phase and load, one row per virtual second, every lost request (up
//! to a stated cap) and a sample of the served ones. Its memory depends on the length of the run, not on the requests
//! sent.
//!
//! At the end it checks the books ([`books`]): sent = ok + backend errors + dropped, in total and in every phase, load and
//! second, and every drop has a cause. A run whose books do not balance has no results.
//!
//! # Times
//!
//! Everything is on the clock of the run, the one of the event log: a run with 10 s of warm-up has its first row at 10 s.
//! A request counts in the phase and in the second in which it was *due*, whenever it ends.
//!
//! This room knows `units` and, of `engine`, only the event log: an event's number, and what happened to pods and targets.

pub mod books;
pub mod cause;
pub mod lanes;
pub mod objects;
pub mod outcome;
pub mod recorder;
pub mod request;
pub mod results;
pub mod series;
pub mod tally;

pub use books::BooksBroken;
pub use cause::{CauseCode, Remedy};
pub use objects::{ObjectTable, ObjectsShown};
pub use outcome::Outcome;
pub use recorder::{Facts, Recorder, RecorderConfig, Run};
pub use request::{Done, Lost, RequestId, RequestRow, Source};
pub use results::Results;
pub use series::{Gauge, Second};
pub use tally::{Latencies, Tally};
