//! What a simple simulator of Kubernetes gets wrong: one test for each rule that is not what one would think.
//!
//! Goal: each of these rules decides whether a rollout, an autoscaler or a failure loses requests, and each has a plausible simpler rule
//! that gives other numbers. Method: the numbers are chosen so that the simpler rule fails the test, and where there is a threshold both of its
//! sides are asked. The rules as upstream's tables have them are in `tests/vectors_*.rs`; here they stand one by one, in words.
//! Source: Kubernetes v1.28.7, the files that the modules of `cluster` and `edge` name.

mod autoscaling;
mod disruptions;
mod placement;
mod pods;
mod rollouts;
mod traffic;
mod world;
