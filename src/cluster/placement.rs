//! What pods ask of their nodes, and nodes of their pods: selectors, affinity, taints and tolerations, topology spread.
//!
//! Plain data with the rules that concern one pod and one node. What follows from it for a cluster is the scheduler's business.
//!
//! Source: Kubernetes v1.28.7 pkg/apis/core/types.go, staging/src/k8s.io/component-helpers/scheduling/corev1/nodeaffinity,
//! staging/src/k8s.io/api/core/v1/toleration.go.

use std::collections::{BTreeMap, BTreeSet};

use super::objects::Node;
use super::selector::{LabelOperator, LabelRequirement, LabelSelector, Labels};
use super::version::Version;

/// The label of a node's own name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The label of a node's zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// The first version in which scheduling gates are on by default; before, they are dropped. Source: KEP-3521.
pub const SCHEDULING_GATES: Version = Version::new(1, 27);

/// Where a pod may run, and where it would rather.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Placement {
    /// Labels that the node must have.
    pub node_selector: Labels,
    /// Affinity to nodes.
    pub node_affinity: NodeAffinity,
    /// Affinity to pods.
    pub pod_affinity: PodAffinity,
    /// Anti-affinity to pods.
    pub pod_anti_affinity: PodAffinity,
    /// Taints that it bears.
    pub tolerations: Vec<Toleration>,
    /// How evenly it is spread.
    pub topology_spread: Vec<TopologySpread>,
    /// What its containers ask for besides processor and memory, by name.
    pub extended: BTreeMap<String, u64>,
    /// Containers that ask for no processor, and for no memory: scores count them with a stand-in.
    pub unasked: Unasked,
    /// Ports of its node that it takes.
    pub host_ports: BTreeSet<HostPort>,
    /// What its scheduling waits for: while there is a gate, nobody looks for a node.
    pub gates: Vec<String>,
    /// Its priority: of those that wait for a node the highest are tried first, and a kubelet evicts the lowest first.
    pub priority: i32,
}

/// What a port speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// `TCP`.
    Tcp,
    /// `UDP`.
    Udp,
    /// `SCTP`.
    Sctp,
}

/// A port of its node that a container takes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostPort {
    /// The port.
    pub number: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// The address of the node that it is taken of; none: all of them.
    pub ip: Option<String>,
}

impl HostPort {
    /// Whether a node cannot have both. Source: Kubernetes v1.28.7 pkg/scheduler/framework/types.go `CheckConflict`.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let is_one_address = self.ip.is_none() || other.ip.is_none() || self.ip == other.ip;
        is_one_address && (self.number, self.protocol) == (other.number, other.protocol)
    }
}

/// How many containers of a pod leave a request out.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Unasked {
    /// Containers without a processor request.
    pub cpu_containers: u32,
    /// Containers without a memory request.
    pub memory_containers: u32,
}

/// Affinity to nodes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NodeAffinity {
    /// Of these terms one must hold; none: any node will do. An empty list is held by no node.
    pub required: Option<Vec<NodeTerm>>,
    /// Terms with their weights, 1 to 100.
    pub preferred: Vec<(i64, NodeTerm)>,
}

/// What a term asks of one label or field of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeOperator {
    /// It is there, with one of the values.
    In,
    /// It is not there, or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
    /// It is a whole number above the value.
    Gt,
    /// It is a whole number below the value.
    Lt,
}

/// An expression about one label or field of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRequirement {
    /// The label, or the field.
    pub key: String,
    /// What is asked of it.
    pub operator: NodeOperator,
    /// The values.
    pub values: Vec<String>,
}

/// Expressions that must all hold. A term without any holds for no node.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NodeTerm {
    /// About labels.
    pub match_expressions: Vec<NodeRequirement>,
    /// About fields; the only one is `metadata.name`.
    pub match_fields: Vec<NodeRequirement>,
}

/// Affinity or anti-affinity to pods.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PodAffinity {
    /// Terms that must hold.
    pub required: Vec<PodTerm>,
    /// Terms with their weights, 1 to 100.
    pub preferred: Vec<(i64, PodTerm)>,
}

/// Pods, and the domain in which they count.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PodTerm {
    /// The label of nodes whose value makes the domain.
    pub topology_key: String,
    /// Which pods; none: no pod.
    pub selector: Option<LabelSelector>,
    /// Their namespaces by name.
    pub namespaces: Vec<String>,
    /// Their namespaces by label; an empty selector means all. Without this and without names: the namespace of the pod that has the term.
    pub namespace_selector: Option<LabelSelector>,
    /// Labels in whose value those pods are like the pod that has the term.
    pub match_label_keys: Vec<String>,
    /// Labels in whose value they are unlike it.
    pub mismatch_label_keys: Vec<String>,
}

/// What a constraint that does not hold comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenUnsatisfiable {
    /// The node is not possible.
    DoNotSchedule,
    /// The node counts less.
    ScheduleAnyway,
}

/// Whether nodes that the pod cannot use take part in a constraint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InclusionPolicy {
    /// Only nodes that the pod can use.
    Honor,
    /// All.
    Ignore,
}

/// How evenly pods are spread over the domains of a label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopologySpread {
    /// By how many pods a domain may be above the emptiest one; 1 or more.
    pub max_skew: i32,
    /// The label of nodes whose value makes the domain.
    pub topology_key: String,
    /// What happens otherwise.
    pub when_unsatisfiable: WhenUnsatisfiable,
    /// Which pods count; none: no pod.
    pub selector: Option<LabelSelector>,
    /// With fewer domains than this the emptiest one counts as empty.
    pub min_domains: Option<i32>,
    /// Nodes that the pod's selector and affinity exclude.
    pub node_affinity_policy: InclusionPolicy,
    /// Nodes whose taints the pod does not tolerate.
    pub node_taints_policy: InclusionPolicy,
    /// Labels in whose value counted pods are like this one.
    pub match_label_keys: Vec<String>,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TaintEffect {
    /// New ones are kept away.
    NoSchedule,
    /// New ones go elsewhere if they can.
    PreferNoSchedule,
    /// New ones are kept away, and those that are there have to leave.
    NoExecute,
}

impl TaintEffect {
    /// Its name in Kubernetes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// A mark on a node that keeps pods away.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Taint {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// Which values a toleration bears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TolerationValue {
    /// Any.
    Exists,
    /// This one.
    Equal(String),
}

/// A taint that a pod bears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Toleration {
    /// The taint's name; empty with `Exists`: every taint.
    pub key: String,
    /// Its value.
    pub value: TolerationValue,
    /// Its effect; none: every effect.
    pub effect: Option<TaintEffect>,
    /// How long it bears `NoExecute`, in seconds; none: for ever. Zero and less: not at all.
    pub seconds: Option<i64>,
}

impl Toleration {
    /// Whether it bears this taint.
    #[must_use]
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match &self.value {
                TolerationValue::Exists => true,
                TolerationValue::Equal(value) => *value == taint.value,
            }
    }
}

impl NodeRequirement {
    /// Whether it holds for a label or field that has this value, or is not there.
    #[must_use]
    pub fn holds(&self, found: Option<&str>) -> bool {
        let is_listed = || found.is_some_and(|found| self.values.iter().any(|value| value == found));
        let compared = |is_held: fn(&i64, &i64) -> bool| {
            let number = found.and_then(|found| found.parse::<i64>().ok());
            let limit = match &self.values[..] {
                [limit] => limit.parse::<i64>().ok(),
                _ => None,
            };
            number.zip(limit).is_some_and(|(number, limit)| is_held(&number, &limit))
        };
        match self.operator {
            NodeOperator::In => is_listed(),
            NodeOperator::NotIn => !is_listed(),
            NodeOperator::Exists => found.is_some(),
            NodeOperator::DoesNotExist => found.is_none(),
            NodeOperator::Gt => compared(i64::gt),
            NodeOperator::Lt => compared(i64::lt),
        }
    }

    /// Whether the API server would take it; a term with one that it would not take holds for no node.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        match self.operator {
            NodeOperator::In | NodeOperator::NotIn => {
                !self.values.is_empty() && self.values.iter().all(|value| is_label_value(value))
            }
            NodeOperator::Exists | NodeOperator::DoesNotExist => self.values.is_empty(),
            NodeOperator::Gt | NodeOperator::Lt => matches!(&self.values[..], [value] if value.parse::<i64>().is_ok()),
        }
    }
}

/// Whether a text can be a label's value: up to 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends; or nothing.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_end = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && bytes.iter().all(|byte| is_inner(*byte)) && is_end(bytes.first()) && is_end(bytes.last())
}

impl NodeTerm {
    /// Whether all of it holds for a node.
    #[must_use]
    pub fn matches(&self, node: &Node) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        let label = |requirement: &NodeRequirement| {
            requirement.is_valid() && requirement.holds(node.labels.get(&requirement.key).map(String::as_str))
        };
        let field = |requirement: &NodeRequirement| {
            requirement.holds((requirement.key == "metadata.name").then_some(&node.name))
        };
        self.match_expressions.iter().all(label) && self.match_fields.iter().all(field)
    }
}

impl NodeAffinity {
    /// Whether a node has what is required.
    #[must_use]
    pub fn admits(&self, node: &Node) -> bool {
        self.required.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }
}

impl Placement {
    /// Whether a node has what the pod's selector and required affinity ask for.
    #[must_use]
    pub fn admits(&self, node: &Node) -> bool {
        self.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
            && self.node_affinity.admits(node)
    }

    /// The same for pods with these labels: what their terms say of the labels' values is part of the selectors, as the API server writes
    /// it there.
    #[must_use]
    pub fn for_pods_with(&self, labels: &Labels) -> Self {
        let mut placement = self.clone();
        for affinity in [&mut placement.pod_affinity, &mut placement.pod_anti_affinity] {
            let preferred = affinity.preferred.iter_mut().map(|(_, term)| term);
            for term in affinity.required.iter_mut().chain(preferred) {
                let Some(selector) = &mut term.selector else { continue };
                for (keys, operator) in
                    [(&term.match_label_keys, LabelOperator::In), (&term.mismatch_label_keys, LabelOperator::NotIn)]
                {
                    let own = keys.iter().filter_map(|key| labels.get_key_value(key));
                    selector.match_expressions.extend(own.map(|(key, value)| LabelRequirement {
                        key: key.clone(),
                        operator,
                        values: vec![value.clone()],
                    }));
                }
            }
        }
        placement
    }

    /// Whether one of its tolerations bears this taint.
    #[must_use]
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }
}
