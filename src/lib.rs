//! gatedrill: a fire drill for gateways.
//!
//! The rooms of the house, each a module; `ARCHITECTURE.md` draws the arrows between them.

pub mod engine;
pub mod units;
