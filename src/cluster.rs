//! Simulated Kubernetes: the rules of its controllers as plain functions, and the controllers that follow them.

pub mod endpoints;
pub mod kubelet;
