//! Builds the world from plain settings, runs it and owns the timeline.
//!
//! - [`world`]: the settings, the wiring of all rooms, the run itself.
//! - [`process`]: what containers do: gateways, backends, and processes that only exist.
//! - [`pod_host`]: a gateway worker's world inside a pod.
//! - [`causes`]: from what a client saw and what happened to the pod, the one cause of a lost request.

pub mod causes;
pub mod pod_host;
pub mod process;
pub mod world;

pub use causes::Sources;
pub use world::{
    Action, BackendSpec, Continue, FrontSpec, GatewaySpec, LoadSpec, MixEntry, Outcome, Progress, RunError, Verb,
    WorldConfig, run,
};
