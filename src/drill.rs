//! Builds the world from plain settings, runs it and owns the timeline.
//!
//! - [`config`]: the settings. [`world`]: the wiring of all rooms, one member per cluster, and the run itself.
//! - [`process`]: what containers do: gateways, backends, and processes that only exist.
//! - [`memory`]: what a process holds, and the limit of it.
//! - [`pod_host`]: a gateway worker's world inside a pod.
//! - [`causes`]: from what a client saw and what happened to the pod, the one cause of a lost request.

pub mod causes;
pub mod config;
pub mod memory;
pub mod node_memory;
pub mod objects;
pub mod pod_host;
pub mod process;
pub mod world;

pub use causes::Sources;
pub use config::{
    Action, BackendPods, BackendSpec, ClusterSpec, Creation, DiskCosts, DoorSpec, FrontSpec, GatewayPods, LoadSpec,
    MemberConfig, MemoryCosts, MixEntry, NameSpec, OwnedReplicas, ScalingSpec, Share, SharedService, Size, Verb,
    WorldConfig,
};
pub use objects::Watch;
pub use process::GatewaySpec;
pub use world::{Continue, Outcome, Progress, RunError, run};
