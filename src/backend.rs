//! The simulated services behind the gateway: real HTTP answers after a drawn time.
//!
//! A replica takes a number of requests at once and lets more wait, first come first served; it may fail a share of them with
//! a 500, closes idle connections after its keep-alive time, and on SIGTERM goes on for a while before it stops listening.
//!
//! Service times and errors are drawn from a stream named after the request, not after the replica: whichever replica serves
//! request `shoppers-r42`, under whichever configuration, it takes the same time.

mod connection;
mod request;
pub mod server;
pub mod turn;

pub use server::{Backend, BackendConfig, BodyShape, Ledger};
