//! Manifests as kubectl would apply them: YAML with the place of every value, and the objects we simulate, read and checked.
//!
//! - [`yaml`]: text into nodes that know where they stand; [`read`]: typed access that reports every problem and notes every field;
//!   [`problem`]: what is wrong, where, and what to write instead; [`quantity`]: durations, sizes, CPU, rates.
//! - [`object`]: documents sorted into objects; [`deployment`], [`pod`], [`service`], [`autoscaler`], [`disruption_budget`], [`istio_gateway`], [`routes`],
//!   [`gateway_api`]: the kinds we know; [`placement`]: what their pods ask of nodes;
//!   [`proxy_config`]: what a gateway's annotation holds.
//!
//! Kubernetes' own answer to unknown fields (strict decoding) is ours too: a field that the API does not have is an error, a field that it has
//! and we do not simulate is listed as ignored.

pub mod api_versions;
pub mod autoscaler;
mod containers;
pub mod daemon_set;
pub mod deployment;
pub mod disruption_budget;
pub mod gated;
pub mod gateway_api;
pub mod hook;
mod host_ports;
pub mod istio;
pub mod istio_gateway;
mod names;
pub mod object;
pub mod placement;
pub mod pod;
mod pod_extras;
mod pod_rules;
mod pod_text;
pub mod priority_class;
mod probes;
pub mod problem;
pub mod proxy_config;
pub mod quantity;
pub mod read;
pub mod resources;
mod rolling_update;
pub mod routes;
mod security;
mod selector;
pub mod service;
pub mod version_rules;
mod volumes;
pub mod yaml;

pub use object::{Object, ObjectId};
pub use problem::{Files, Place, Problem, Problems};
pub use read::{Dialect, Field, Fields, Note, Sink};
pub use yaml::{Node, Value};
