//! How a client reaches a pod: the cloud's load balancer, the controller that tells it about pods, and the path
//! over a node.
//!
//! - [`product`]: balancers of other clouds, as sets of timings. [`announcer`]: which node answers for an address.
//! - [`balancer`]: the balancer's own rules as a plain struct: registration, health, draining. [`scheduler`]: the choice of a target.
//!   [`http_proxy`]: what it does with requests where it speaks HTTP. [`limits`]: what it can take. [`idle`]: how long a connection may say nothing.
//! - [`kube_proxy`]: what a node does with a connection to a Service. [`conntrack`]: how many it can hold.
//! - [`nodes`]: both of all nodes, on the simulated network.
//! - [`controller`]: what the cloud's controller wants of a balancer, and in which calls.
//! - [`readiness_gate`]: which endpoints the balancer's controller takes, and the gate of pods that it opens.
//! - [`load_balancer`]: the balancer on the simulated network, driven by what the controller sees.
//! - [`door`]: ways in without a balancer: node ports, and clients within the cluster.
//!
//! Sources: Alibaba Cloud documents on CLB and NLB; kubernetes/cloud-provider-alibaba-cloud eeb0ddc68 (the controller);
//! Kubernetes v1.28.7 pkg/proxy (the node); those of each product in its own file. `docs/fidelity.md` says which rule rests on what.

pub mod announcer;
pub mod balancer;
pub mod conntrack;
pub mod controller;
pub mod door;
pub mod http_proxy;
pub mod idle;
pub mod kube_proxy;
pub mod limits;
pub mod load_balancer;
pub mod nodes;
mod numbered;
pub mod product;
pub mod readiness_gate;
pub mod scheduler;
mod slow_start;

/// The port of the pods where a Service's port leads to a name that none of their containers has: no pod is an endpoint for it.
/// Source: Kubernetes pkg/apis/core/pods (`FindPort`), staging/src/k8s.io/endpointslice (`getEndpointPorts` leaves such a port out).
pub const NO_PORT: u16 = 0;

pub use balancer::{Balancer, BalancerConfig, HealthCheck, OnRemoval, Spacing, TargetId};
pub use controller::{Calls, Eligibility, NodeReach, Pace, TargetRules};
pub use http_proxy::HttpRules;
pub use idle::{IdleEnd, IdleRule};
pub use kube_proxy::categories::TrafficPolicy;
pub use kube_proxy::{NodePath, ProxyMode, ServiceRules};
pub use limits::Limits;
pub use load_balancer::{BackendMode, HttpProbe, LoadBalancer, LoadBalancerConfig, Probe};
pub use nodes::{NodeChoice, NodePlace, Nodes, NodesConfig, ServiceFace};
pub use product::{Product, Ways};
pub use scheduler::Scheduler;
