//! What operators, clouds and chance do to pods and nodes.
//!
//! An operation names its pod or node by a choice, which is made when it happens: who is oldest then, and where most pods are.

use std::rc::Rc;
use std::time::Duration;

use super::drain::DrainSettings;
use super::kubelet::shutdown::ShutdownGraces;
use super::objects::Node;

/// A pod of a Deployment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PodChoice {
    /// By the order of creation, over the whole run: 0 is the first pod there was.
    Ordinal(u64),
    /// By its name.
    Named(Rc<str>),
    /// The pod that was created first, of those that are not being deleted.
    Oldest,
    /// The one that was created last.
    Newest,
    /// The oldest one that is ready.
    Ready,
    /// The oldest one that runs and is not ready.
    Unready,
    /// The oldest one that has not started.
    Pending,
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeChoice {
    /// By its name.
    Named(Rc<str>),
    /// The one with most pods of this Deployment that are not being deleted; of several the first.
    Busiest(Rc<str>),
}

/// How a node fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeFailure {
    /// Its machine dies, and all that runs on it.
    Machine,
    /// Its kubelet and the API server do not hear each other. Its pods run on, and so does the traffic to them.
    Partition,
    /// Its kubelet says that it is not ready, and does its work as far as it goes: pods run on, and are ended when they are deleted.
    NotReady,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A pod is evicted by the API, if its budget allows it.
    Evict {
        /// The Deployment, as `namespace/name`.
        owner: Rc<str>,
        /// The pod.
        pod: PodChoice,
    },
    /// A pod is deleted, whatever its budget says.
    KillPod {
        /// The Deployment, as `namespace/name`.
        owner: Rc<str>,
        /// The pod.
        pod: PodChoice,
        /// Its grace in seconds; none: its own.
        grace_seconds: Option<u32>,
    },
    /// A node is cordoned and emptied by evictions.
    Drain {
        /// The node.
        node: NodeChoice,
        /// How.
        settings: DrainSettings,
    },
    /// A node takes no new pods, or takes them again.
    Cordon {
        /// The node.
        node: NodeChoice,
        /// It takes none.
        is_cordoned: bool,
    },
    /// A node fails.
    FailNode {
        /// The node.
        node: NodeChoice,
        /// How.
        failure: NodeFailure,
        /// It is well again after this time; none: never.
        back_after: Option<Duration>,
    },
    /// A machine is told to shut down, and its kubelet ends its pods before.
    ShutDownNode {
        /// The node.
        node: NodeChoice,
        /// How long pods may take.
        graces: ShutdownGraces,
        /// It boots again after this time without it; none: never.
        back_after: Option<Duration>,
    },
    /// The cloud takes a machine back and says so before.
    ReclaimNode {
        /// The node.
        node: NodeChoice,
        /// From the notice to the machine's end.
        notice: Duration,
        /// Somebody listens to the notice, and drains the node.
        is_heeded: bool,
    },
    /// A node is deleted, its machine with it, without a drain.
    RemoveNode {
        /// The node.
        node: NodeChoice,
    },
    /// Something from outside takes a part of a node's disk, for a time or for good.
    FillDisk {
        /// The node.
        node: NodeChoice,
        /// How much of it.
        fill: Fill,
        /// When it is gone again.
        back_after: Option<Duration>,
    },
    /// Nodes join, ready to take pods.
    AddNodes(Vec<Node>),
}

/// How much of a disk is filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Until so many millionths of it are taken, whatever lies there.
    To(u32),
    /// So many bytes.
    By(u64),
}
