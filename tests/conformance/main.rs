//! The conformance suites: every case of every file of `tests/data/conformance`.

mod conformance_envoy;
mod conformance_gateway_api;
mod conformance_istio;
mod conformance_policies;
#[path = "../support/gateway_world.rs"]
mod gateway_world;
