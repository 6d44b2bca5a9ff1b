//! What theory says of balancing, back-off and weights, measured in virtual time with fixed seeds.
//!
//! - Sojourn times of least request, random and round robin before M/M/1 servers against their closed forms (`sojourn`). The column of two
//!   choices goes through the real gateway, byte for byte. The others need up to four million requests for a sample as large as their
//!   tolerance asks for; hyper would take minutes over them in a build without optimisation, so there the real `Picker` over the real `HostSets`
//!   spreads them on the engine (`queues`).
//! - Balance and disruption of ring hash and Maglev (`hashing`), waits before retries and shares by weight (`draws`), through the gateway.
//!
//! A tolerance is either a given one (2 % for the column of two choices) or follows from the size of the sample.

mod draws;
mod hashing;
mod queues;
mod sojourn;
mod world;
