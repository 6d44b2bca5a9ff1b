//! What an Istio ingress does in well-known situations, each on both sides of its threshold, seen from both ends of the real gateway: what the
//! client gets, what the pods see, what the access log says.
//!
//! What other tests show already is not repeated: `gateway` (refusals, one retry away from a dead endpoint, timeouts to the first byte, drains),
//! `draws` of `anchors` (waits before retries, weights).

#[path = "gateway_vectors/failures.rs"]
mod failures;
#[path = "gateway_vectors/limits.rs"]
mod limits;
#[path = "gateway_vectors/localities.rs"]
mod localities;
#[path = "gateway_vectors/outliers.rs"]
mod outliers;
#[path = "gateway_vectors/repeats.rs"]
mod repeats;
#[path = "gateway_vectors/world.rs"]
mod world;
