//! Simulated Kubernetes: the rules of its controllers as plain functions, and the controllers that follow them.

pub mod deployment;
pub mod endpoints;
pub mod int_or_percent;
pub mod kubelet;
pub mod replica_set;
