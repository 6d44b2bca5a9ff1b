//! What an Istio ingress does in well-known situations, each on both sides of its threshold, seen from both ends of the real gateway: what the
//! client gets, what the pods see, what the access log says.
//!
//! What other tests show already is not repeated: `requests` (refusals, one retry away from a dead endpoint, timeouts to the first byte, drains),
//! `draws` of `anchors` (waits before retries, weights).

mod failures;
mod limits;
mod localities;
mod outliers;
mod repeats;
mod world;
