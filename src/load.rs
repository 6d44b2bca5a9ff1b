//! Who asks, when, and what they saw.
//!
//! The load is an open loop: a request is due at its time whether or not earlier ones are answered, and its latency counts
//! from that intended time, so that a stalled gateway shows the queue it caused (no coordinated omission).
//! Source: HdrHistogram README, "Corrected vs. Raw value recording calls".
//!
//! A client owns a number of connection slots. A request takes a free slot in the order of the [`Reuse`] rule; a slot
//! without a live connection dials within that request; a request that finds no free slot waits its turn, first come first
//! served. Clients read answers with a parser of their own instead of a well-behaved library, because the ones that matter in a
//! rollout misbehave: they do not watch idle connections, or go on after `Connection: close`.
//!
//! With `cookies` each slot is one user with a jar of its own ([`jar`]), whatever becomes of its connections.
//!
//! Not modelled: request pipelining, HTTP/2, TLS.

pub mod answer;
pub mod arrivals;
pub mod client;
pub mod jar;
pub mod names;

pub use answer::{Answer, AnswerParser};
pub use arrivals::{Arrivals, Pacing, RateSegment};
pub use client::{Client, ClientConfig, Entrances, Finished, Outcome, Request, Reuse, Sight, Sink};
pub use jar::{Jar, Site};
pub use names::Names;
