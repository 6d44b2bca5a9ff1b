//! The L7 gateway: real HTTP bytes, real routing and balancing.
//!
//! It never learns which world it lives in: everything it needs of one is the [`Host`] trait. Policies are plain structs: `downstream` (what
//! becomes of a request before it is routed), `routes`, `fault`, `cors`, `hash`, `balance`, `retry`, `timeouts`, `limits`, `outlier`, `drain`;
//! `cluster` has their settings, `assignment` what a control plane tells of endpoints. `server`, `proxy` and `upstream` carry hyper's bytes to them, `access` is the record of a request, and `agent`
//! plays Istio's pilot-agent, which runs the gateway and decides when it ends; `shutdown` has the ways in which this and other gateways end.
//!
//! Behaviour follows Envoy 1.40 as Istio configures it at an ingress. Not modelled yet: HTTP/2, TLS, upgrades to other protocols.
//! Sources: envoyproxy/envoy source/common/{router,http,conn_pool}, istio/istio pilot/pkg/networking/core, and measurements on
//! Envoy 1.40.0 where those disagree.

pub mod access;
pub mod agent;
pub mod assignment;
pub mod balance;
pub mod cluster;
pub mod cors;
pub mod downstream;
pub mod drain;
pub mod fault;
pub mod grpc;
pub mod hash;
pub mod host;
pub mod limits;
pub mod locality;
pub mod outlier;
pub mod parameters;
mod proxy;
pub mod retry;
pub mod routes;
mod server;
pub mod shutdown;
pub mod timeouts;
mod upstream;

pub use access::{AccessRecord, Flags, Observer};
pub use agent::AgentConfig;
pub use assignment::LoadAssignment;
pub use balance::Policy;
pub use cluster::{ClusterConfig, EndpointConfig};
pub use downstream::{DownstreamConfig, Peer, Prepared, Refusal, Verdict};
pub use drain::{DrainConfig, DrainStrategy};
pub use host::{Host, Work};
pub use retry::RetryPolicy;
pub use routes::{Destination, HeaderMatch, PathMatch, Route, RouteMatch, Routes, ValueMatch, VirtualHost};
pub use server::{Gateway, GatewayConfig};
pub use shutdown::{Move, Order, ShutdownMode};
