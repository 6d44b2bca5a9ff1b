//! What the API would show of the cluster's objects: the source of views, and of comparisons with real control planes.

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::daemon_set_sync::DaemonState;
use super::node_sync::NodeState;
use super::pod::Pod;
use super::{Cluster, SetStatus, State};
use crate::cluster::daemon_set::DaemonStatus;
use crate::cluster::deployment::{DeploymentStatus, PodPhase};
use crate::cluster::objects::Service;
use crate::cluster::selector::Labels;
use crate::cluster::version::Version;
use crate::units::SimTime;

/// A Deployment and its status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeploymentView {
    /// `namespace/name`.
    pub key: Rc<str>,
    /// Its image.
    pub image: String,
    /// `spec.replicas`.
    pub replicas: i32,
    /// The counts of its status.
    pub status: DeploymentStatus,
    /// `status.unavailableReplicas`.
    pub unavailable: i32,
    /// The status knows of the last change of the spec.
    pub is_observed: bool,
    /// The condition `Available`: its status and its reason.
    pub available: Option<(&'static str, &'static str)>,
    /// The condition `Progressing`: its status and its reason; none without a deadline.
    pub progressing: Option<(&'static str, &'static str)>,
    /// When it was created.
    pub created_at: SimTime,
}

/// A `ReplicaSet`, its status, and its pods as they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetView {
    /// Its number: sets are counted from 0 in the order of their creation.
    pub id: u64,
    /// Its name.
    pub name: Rc<str>,
    /// Its Deployment, as `namespace/name`.
    pub owner: Rc<str>,
    /// Its image.
    pub image: String,
    /// The number of its revision.
    pub revision: i64,
    /// `spec.replicas`.
    pub replicas: i32,
    /// The counts of its status.
    pub status: SetStatus,
    /// Its pods, those being deleted left out.
    pub pods: usize,
    /// Those of them that are ready.
    pub ready: usize,
    /// Its pods that are being deleted.
    pub terminating: usize,
    /// Its pods without a node.
    pub unscheduled: usize,
    /// When it was created.
    pub created_at: SimTime,
}

/// A `DaemonSet` and its status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaemonSetView {
    /// `namespace/name`.
    pub key: Rc<str>,
    /// Its image.
    pub image: String,
    /// The labels that its nodes must have.
    pub node_selector: Labels,
    /// The counts of its status.
    pub status: DaemonStatus,
    /// When it was created.
    pub created_at: SimTime,
}

/// A pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodView {
    /// Its number: pods are counted from 0 in the order of their creation.
    pub id: u64,
    /// Its name.
    pub name: Rc<str>,
    /// Its Deployment, as `namespace/name`; else its `DaemonSet`, as `namespace/daemonset/name`, or itself, as `namespace/pod/name`.
    pub owner: Rc<str>,
    /// Its set's number.
    pub set: u64,
    /// What `kubectl get pods` shows under STATUS.
    pub status: Cow<'static, str>,
    /// It is ready.
    pub is_ready: bool,
    /// Its containers that are ready, and all of them, sidecars among them.
    pub containers: (usize, usize),
    /// Its readiness gates that are open, and all of them.
    pub gates: (usize, usize),
    /// It is being deleted.
    pub is_deleting: bool,
    /// How often its container has been started anew.
    pub restarts: u32,
    /// When the run before the present one ended.
    pub last_exit: Option<SimTime>,
    /// Its address.
    pub ip: Option<Ipv4Addr>,
    /// Its node.
    pub node: Option<Rc<str>>,
    /// When it was created.
    pub created_at: SimTime,
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// Its name.
    pub name: Rc<str>,
    /// What `kubectl get nodes` shows under STATUS.
    pub status: String,
    /// Its version.
    pub version: Version,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its labels.
    pub labels: Labels,
    /// When it joined.
    pub created_at: SimTime,
}

impl Cluster {
    /// A Deployment as the API shows it; none if there is none.
    #[must_use]
    pub fn deployment_view(&self, key: &str) -> Option<DeploymentView> {
        let state = self.inner.state.borrow();
        let (key, known) = state.deployments.get_key_value(key).filter(|(_, known)| !known.is_deleted)?;
        let available = match known.is_available {
            true => ("True", "MinimumReplicasAvailable"),
            false => ("False", "MinimumReplicasUnavailable"),
        };
        Some(DeploymentView {
            key: Rc::clone(key),
            image: known.template.images().join(","),
            replicas: known.spec.replicas,
            status: known.status,
            unavailable: known.unavailable,
            is_observed: known.observed_generation == known.generation,
            available: (known.observed_generation > 0).then_some(available),
            progressing: known.progress.map(|progress| progress.reason.text()),
            created_at: known.created_at,
        })
    }

    /// The names of all Deployments, in the order of the alphabet.
    #[must_use]
    pub fn deployment_keys(&self) -> Vec<Rc<str>> {
        let state = self.inner.state.borrow();
        state.deployments.iter().filter(|(_, known)| !known.is_deleted).map(|(key, _)| Rc::clone(key)).collect()
    }

    /// All `DaemonSet`s, in the order of the alphabet.
    #[must_use]
    pub fn daemon_set_views(&self) -> Vec<DaemonSetView> {
        let state = self.inner.state.borrow();
        let there = state.daemons.values().filter(|known| !known.is_deleted);
        let view = |known: &DaemonState| DaemonSetView {
            key: Rc::clone(&known.spec.key),
            image: known.spec.template.image.clone(),
            node_selector: known.spec.template.placement.node_selector.clone(),
            status: known.status,
            created_at: known.created_at,
        };
        there.map(view).collect()
    }

    /// The sets of a Deployment, oldest first.
    #[must_use]
    pub fn set_views(&self, owner: &str) -> Vec<SetView> {
        let state = self.inner.state.borrow();
        let Some(known) = state.deployments.get(owner) else { return Vec::new() };
        known.sets.iter().map(|id| state.set_view(*id)).collect()
    }

    /// The pods of a Deployment, oldest first.
    #[must_use]
    pub fn pod_views(&self, owner: &str) -> Vec<PodView> {
        let state = self.inner.state.borrow();
        let Some(known) = state.deployments.get(owner) else { return Vec::new() };
        let mut ids: Vec<u64> = known.sets.iter().flat_map(|id| state.sets[id].pods.iter().copied()).collect();
        ids.sort_unstable();
        ids.iter().map(|id| state.pod_view(*id)).collect()
    }
}

impl Cluster {
    /// All pods, oldest first, those included that have failed and are no more than objects.
    #[must_use]
    pub fn all_pod_views(&self) -> Vec<PodView> {
        let state = self.inner.state.borrow();
        let mut views: Vec<PodView> = state.pods.keys().map(|id| state.pod_view(*id)).collect();
        views.extend(state.remains().cloned());
        views.sort_by_key(|view| view.id);
        views
    }

    /// The names of all Services, as `namespace/name`, and when they were created.
    #[must_use]
    pub fn services(&self) -> Vec<(Service, SimTime)> {
        let state = self.inner.state.borrow();
        state.services.known.values().map(|service| (service.spec.clone(), service.created_at)).collect()
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.inner.config.version
    }

    /// All nodes, in the order in which they joined.
    #[must_use]
    pub fn node_views(&self) -> Vec<NodeView> {
        let (state, config) = (self.inner.state.borrow(), &self.inner.config);
        let view = |node: &NodeState| NodeView {
            name: Rc::clone(&node.spec.name),
            status: node.status_text(),
            version: config.version,
            ip: node.spec.ip,
            labels: node.spec.labels.clone(),
            created_at: node.created_at(),
        };
        state.nodes.iter().filter(|node| node.is_there()).map(view).collect()
    }

    /// The names of the nodes.
    #[must_use]
    pub fn node_names(&self) -> Vec<Rc<str>> {
        self.nodes().into_iter().map(|(name, _)| name).collect()
    }
}

impl State {
    fn set_view(&self, id: u64) -> SetView {
        let set = &self.sets[&id];
        let mut view = SetView {
            id,
            name: Rc::clone(&set.name),
            owner: Rc::clone(&set.owner),
            image: set.template.images().join(","),
            revision: set.revision,
            replicas: set.replicas,
            status: set.status,
            pods: 0,
            ready: 0,
            terminating: 0,
            unscheduled: 0,
            created_at: set.created_at,
        };
        for pod in set.pods.iter().map(|id| &self.pods[id]) {
            view.unscheduled += usize::from(pod.record.node.is_none());
            if pod.is_active() {
                view.pods += 1;
                view.ready += usize::from(pod.is_ready);
            } else {
                view.terminating += 1;
            }
        }
        view
    }

    pub(super) fn pod_view(&self, id: u64) -> PodView {
        let pod = &self.pods[&id];
        let status = status_text(pod);
        // The first status that tells an address is written when the first sync has made or failed to make a container.
        let has_address = status != "ContainerCreating";
        PodView {
            id,
            name: Rc::clone(&pod.record.name),
            owner: Rc::clone(&pod.owner),
            set: pod.set,
            status,
            is_ready: pod.is_ready,
            containers: (pod.shown_ready, pod.containers()),
            gates: (pod.open_gates.len(), pod.template.readiness_gates.len()),
            is_deleting: pod.is_deleting(),
            restarts: pod.restarts,
            last_exit: pod.last_exit,
            ip: pod.ip.or(pod.sandbox_ip.filter(|_| has_address)),
            node: pod.record.node.clone(),
            created_at: pod.record.created_at,
        }
    }
}

/// The word under STATUS. Source: Kubernetes v1.28.7 pkg/printers/internalversion/printers.go `printPod`.
fn status_text(pod: &Pod) -> Cow<'static, str> {
    let inits = pod.template.init.len();
    let word = match pod.phase {
        _ if pod.is_deleting() => "Terminating",
        PodPhase::Pending if pod.record.node.is_none() => pod.waiting.unwrap_or("Pending"),
        PodPhase::Pending if pod.init_done < inits => {
            let progress = format!("{}/{inits}", pod.init_done);
            return format!("Init:{}", pod.waiting.unwrap_or(&progress)).into();
        }
        PodPhase::Pending if inits > 0 => pod.waiting.unwrap_or("PodInitializing"),
        PodPhase::Pending => pod.waiting.unwrap_or("ContainerCreating"),
        PodPhase::Unknown => "Unknown",
        PodPhase::Running => pod.waiting.unwrap_or("Running"),
        PodPhase::Succeeded => "Completed",
        PodPhase::Failed => "Error",
    };
    word.into()
}
