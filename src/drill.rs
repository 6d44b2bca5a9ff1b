//! Builds the world from a scenario, runs it and owns the timeline.

pub mod pod_host;
