//! The autoscaler's rules against the tables of upstream's own tests.
//!
//! `tests/data/kubernetes/vectors/README.md` says what the fields mean.

#[path = "vectors_hpa/calculator.rs"]
mod calculator;
#[path = "vectors_hpa/limits.rs"]
mod limits;
#[path = "vectors_hpa/reading.rs"]
mod reading;
#[path = "vectors_hpa/reconcile.rs"]
mod reconcile;
