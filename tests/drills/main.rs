//! Whole drills and what is read for them, in virtual time; one program, so that it is linked once.

mod annotations;
mod api_rules;
mod backend_memory;
mod bad_input;
mod bad_rollout;
mod balancers;
mod bare_pods;
mod clusters;
mod daemon_sets;
mod disk;
mod edits;
mod further_containers;
mod gateway_workloads;
mod kubelet;
mod layer_seven;
mod naive;
mod node_shutdown;
mod nodes;
mod operations;
mod phases;
mod products;
mod random_drills;
mod rollouts;
mod scenario_robust;
#[path = "../support/scenarios.rs"]
mod scenarios;
mod selectors;
mod service_types;
mod services;
mod sharing;
mod shop;
mod shutdown_settings;
mod views;
mod zones;
