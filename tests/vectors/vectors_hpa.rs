//! The autoscaler's rules against the tables of upstream's own tests.
//!
//! `tests/data/kubernetes/vectors/README.md` says what the fields mean.

mod calculator;
mod limits;
mod reading;
mod reconcile;
