//! gatedrill: a fire drill for gateways.
//!
//! The rooms of the house, each a module; `ARCHITECTURE.md` draws the arrows between them.

pub mod backend;
pub mod cli;
pub mod cluster;
pub mod compare;
pub mod drill;
pub mod edge;
pub mod engine;
pub mod gateway;
#[cfg(unix)]
pub mod live;
pub mod load;
pub mod manifest;
pub mod net;
pub mod record;
pub mod report;
pub mod scenario;
pub mod units;
