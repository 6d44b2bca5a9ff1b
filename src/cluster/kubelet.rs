//! What the agent on a node decides: when a container counts as ready, how long a stop may take, when to start again.
//!
//! The rules are those of `pkg/kubelet` in kubernetes/kubernetes, v1.28.7; each sub-module names its file there. They
//! are structs and functions without I/O: whoever drives them brings the time, the probes' outcomes and the containers.

pub mod backoff;
pub mod beside;
pub mod disk;
pub mod exit;
pub mod grace;
pub mod image_backoff;
pub mod image_gc;
pub mod oom;
pub mod pressure;
pub mod probe;
pub mod shutdown;
pub mod sidecar;
