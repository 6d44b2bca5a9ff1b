//! The conformance suite of the Gateway API: every request and every condition of every file of `tests/data/conformance/gateway-api`.

#[path = "support/gateway_world.rs"]
mod gateway_world;
