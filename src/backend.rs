//! The simulated services behind the gateway.
