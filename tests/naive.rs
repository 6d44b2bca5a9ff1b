//! What a simple simulator of Kubernetes gets wrong: one test for each rule that is not what one would think.
//!
//! Goal: each of these rules decides whether a rollout, an autoscaler or a failure loses requests, and each has a plausible simpler rule
//! that gives other numbers. Method: the numbers are chosen so that the simpler rule fails the test, and where there is a threshold both of its
//! sides are asked. The rules as upstream's tables have them are in `tests/vectors_*.rs`; here they stand one by one, in words.
//! Source: Kubernetes v1.28.7, the files that the modules of `cluster` and `edge` name.

#[path = "naive/autoscaling.rs"]
mod autoscaling;
#[path = "naive/disruptions.rs"]
mod disruptions;
#[path = "naive/placement.rs"]
mod placement;
#[path = "naive/pods.rs"]
mod pods;
#[path = "naive/rollouts.rs"]
mod rollouts;
#[path = "support/scenarios.rs"]
mod scenarios;
#[path = "naive/traffic.rs"]
mod traffic;
#[path = "naive/world.rs"]
mod world;
