//! Simulated Kubernetes: the rules of its controllers as plain functions, and the controllers that follow them.
//!
//! - Rules without I/O: [`autoscaler`], [`deployment`], [`replica_set`], [`daemon_set`], [`scheduler`], [`kubelet`], [`endpoints`], [`int_or_percent`],
//!   [`disruption`], [`drain`], [`node_lifecycle`], [`taint_eviction`], [`node_autoscaler`], [`pod_collection`].
//! - [`control`] keeps the objects and runs the controllers on them, each step a hop after the change that asked for it;
//!   [`node_agent`] takes a pod through its life on a node; [`feed`] tells consumers about endpoints, as an [`endpoint_list`]. [`identity`] tells clusters apart.
//!
//! What operators, clouds and chance do to pods and nodes is an [`operation`]. What a container does is the business of a [`Runtime`], which lies outside.
//! Source: Kubernetes v1.28.7; each module names its files. Not modelled: preemption.

pub mod api_client;
pub mod api_clock;
pub mod autoscaler;
pub mod control;
pub mod daemon_set;
mod demands;
pub mod deployment;
pub mod disruption;
pub mod drain;
pub mod endpoint_list;
pub mod endpoints;
pub mod feed;
pub mod hollow;
pub mod identity;
mod image_pulls;
pub mod int_or_percent;
pub mod kubelet;
pub mod metrics;
pub mod node_agent;
pub mod node_autoscaler;
pub mod node_lifecycle;
mod notice;
pub mod objects;
pub mod operation;
pub mod owner;
pub mod placement;
pub mod pod_collection;
mod prober;
pub mod replica_set;
pub mod scheduler;
pub mod selector;
pub mod taint_eviction;
mod ticks;
pub mod version;

pub use api_client::{ClientLimits, ClientRates};
pub use control::view::{DaemonSetView, DeploymentView, NodeView, PodView, SetView};
pub use control::{
    AutoscalerConfig, AutoscalerStep, AutoscalingConfig, BudgetReport, Cluster, ClusterConfig, Kill, KillCause,
    PodCounts, PodEdit, PodRecord, Rollout,
};
pub use endpoint_list::EndpointList;
pub use feed::{EndpointView, EndpointWatch};
pub use hollow::{HollowKubelet, HollowPod};
pub use identity::{CLUSTERS_MAX, Identity};
pub use kubelet::exit::ProcessEnd;
pub use objects::{
    BarePod, Beside, ContainerPort, ContainerRequest, DaemonSet, Deployment, EmptyDir, FacePort, InitContainer,
    LocalStorage, Node, NodeDisk, PodTemplate, Probe, ProbeAction, Probes, PullPolicy, Resources, Service, ServiceFace,
    ServiceKind, Sidecar, StorageLimit, TargetPort,
};
pub use owner::OwnerKind;
pub use placement::Placement;
pub use selector::LabelSelector;
pub use version::Version;

use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::rc::Rc;

use crate::engine::EventId;

/// A future of this single-threaded world.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// A pod whose containers are to start.
#[derive(Clone, Debug)]
pub struct StartingPod {
    /// The Deployment it belongs to, as `namespace/name`; else its `DaemonSet`, as `namespace/daemonset/name`, or itself, as `namespace/pod/name`.
    pub owner: Rc<str>,
    /// The pod's name.
    pub name: Rc<str>,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its node.
    pub node: Rc<str>,
    /// What it is made from.
    pub template: Rc<PodTemplate>,
    /// The event of the start.
    pub because: EventId,
}

/// What containers do: processes, their ports, and their answers to probes.
pub trait Runtime {
    /// Starts a pod's process.
    fn start(&self, pod: &StartingPod) -> Rc<dyn Process>;
    /// Probes a pod over the network; whether it passed. The caller limits the time.
    fn probe(&self, ip: Ipv4Addr, action: &ProbeAction) -> LocalFuture<bool>;
    /// Whether a pod that the run finds is ready: it has been probed before.
    fn stands_ready(&self, _ip: Ipv4Addr) -> bool {
        true
    }
    /// What a pod's process has used so far; none if that is not modelled.
    fn usage(&self, _ip: Ipv4Addr) -> Option<metrics::Usage> {
        None
    }
    /// What a pod takes of its node's disk; none if that is not modelled.
    fn disk_use(&self, _ip: Ipv4Addr) -> Option<kubelet::disk::DiskUse> {
        None
    }
    /// The pod's network is gone, and its address with it.
    fn released(&self, ip: Ipv4Addr);
    /// The machine of a node has died, or there is a new one.
    fn node_changed(&self, node: &Rc<str>, is_alive: bool, because: Option<EventId>) {
        let _ = (node, is_alive, because);
    }
}

/// A running process.
pub trait Process {
    /// Whether its image has what the template's preStop hook runs. If not the hook fails at once.
    fn has_hook(&self) -> bool {
        true
    }
    /// The preStop hook begins. How long it runs is the kubelet's business; what else it does is the process's.
    fn pre_stop(&self, _because: EventId) {}
    /// SIGTERM.
    fn terminate(&self, because: EventId);
    /// SIGKILL.
    fn kill(&self, because: EventId);
    /// Ends when the process has.
    fn exited(&self) -> LocalFuture<()>;
    /// How it ended, if that was not by a signal sent to it and it says so.
    fn own_end(&self) -> Option<ProcessEnd> {
        None
    }
}

#[cfg(test)]
mod tests;
