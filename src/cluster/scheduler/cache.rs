//! What the scheduler knows: the nodes with what is taken of them, and the pods that are on them.
//!
//! Pods that are alike (one revision of one Deployment) are counted, not listed, so that a look at all pods is a look at all kinds of
//! pods and the nodes they are on. Usage follows each change, so that a decision costs nothing for the pods that are there already.
//!
//! Invariant: a node's usage is the sum over the pods that were placed on it and not released.
//! Source: Kubernetes v1.28.7 pkg/scheduler/framework/types.go `NodeInfo`, pkg/scheduler/internal/cache.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::cluster::objects::{Node, Resources};
use crate::cluster::placement::{HostPort, Placement, ZONE};
use crate::cluster::selector::{LabelSelector, Labels};

use super::resources::counted;
use super::row::Row;

/// Pods that are alike.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PodKind {
    /// Their namespace.
    pub namespace: String,
    /// Their labels.
    pub labels: Labels,
    /// What they ask of their nodes.
    pub placement: Placement,
    /// What they ask for.
    pub requests: Resources,
    /// The images of their containers.
    pub images: Vec<String>,
    /// Which pods the default constraints spread: those of the Services and the set they belong to. None: no default constraint.
    pub peers: Option<LabelSelector>,
}

/// The number of a kind of pods.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KindId(usize);

/// A node and what is taken of it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The node.
    pub node: Node,
    /// What its pods ask for.
    pub asked: Resources,
    /// The same, with a stand-in for containers that ask for nothing.
    pub counted: Resources,
    /// What its pods ask for besides.
    pub extended: BTreeMap<String, u64>,
    /// Its ports that its pods take, with how many of them do.
    pub ports: BTreeMap<HostPort, u32>,
    /// Its pods.
    pub pods: usize,
    /// Its images.
    pub images: BTreeSet<String>,
}

/// An image, and the nodes that have it.
#[derive(Clone, Copy, Default, Debug)]
pub struct ImageInfo {
    /// Its size in bytes.
    pub bytes: u64,
    /// How many nodes have it.
    pub nodes: usize,
}

/// How many pods of a kind are on a node.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Presence {
    pub(super) all: u32,
    /// Those of them that are being deleted.
    pub(super) terminating: u32,
}

impl Presence {
    pub(super) fn staying(self) -> i64 {
        i64::from(self.all - self.terminating)
    }
}

/// A kind, and the nodes it is on.
#[derive(Clone, Debug)]
pub(super) struct KindInfo {
    pub(super) kind: Rc<PodKind>,
    pub(super) on: BTreeMap<usize, Presence>,
}

/// The domains that a label divides nodes into: a number from 0 for each of its values.
#[derive(Debug)]
pub(super) struct Domains {
    /// The domain of each node; none: it has no such label, or is gone.
    pub(super) of: Vec<Option<usize>>,
    /// How many there are.
    pub(super) count: usize,
}

/// The kinds of a namespace.
#[derive(Clone, Default, Debug)]
struct NamespaceKinds {
    all: Vec<KindId>,
    /// Those with a label, by its key and value.
    by_label: BTreeMap<String, BTreeMap<String, Vec<KindId>>>,
}

impl NamespaceKinds {
    /// Kinds among which are all that a selector means: of its labels, those with the rarest.
    fn among(&self, selector: &LabelSelector) -> &[KindId] {
        let with = |(key, value): (&String, &String)| {
            self.by_label.get(key).and_then(|values| values.get(value)).map_or(&[][..], Vec::as_slice)
        };
        selector.match_labels.iter().map(with).min_by_key(|kinds| kinds.len()).unwrap_or(&self.all)
    }
}

/// The scheduler's knowledge.
#[derive(Clone, Default, Debug)]
pub struct Cache {
    /// By index; none: the node is gone.
    nodes: Vec<Option<NodeInfo>>,
    /// What every search asks of them, by the same index.
    rows: Vec<Row>,
    kinds: Vec<KindInfo>,
    /// The kinds with terms about other pods.
    minding: BTreeSet<KindId>,
    by_namespace: BTreeMap<String, NamespaceKinds>,
    images: BTreeMap<String, ImageInfo>,
    namespaces: BTreeMap<String, Labels>,
    /// The nodes in the order in which they are looked at: one of each zone in turn.
    order: Vec<usize>,
    domains: RefCell<BTreeMap<String, Rc<Domains>>>,
}

impl Cache {
    /// Adds a node, or replaces what is known of it; its pods stay.
    pub fn put_node(&mut self, index: usize, node: Node) {
        let is_where_it_was = self.node(index).is_some_and(|known| known.node.labels == node.labels);
        self.keep_node(index, node);
        if !is_where_it_was {
            self.nodes_changed();
        }
    }

    /// Adds many nodes at once: their order is worked out once.
    pub fn put_nodes(&mut self, nodes: impl IntoIterator<Item = (usize, Node)>) {
        for (index, node) in nodes {
            self.keep_node(index, node);
        }
        self.nodes_changed();
    }

    fn keep_node(&mut self, index: usize, node: Node) {
        if self.nodes.len() <= index {
            self.nodes.resize(index + 1, None);
            self.rows.resize(index + 1, Row::default());
        }
        let place = &mut self.nodes[index];
        match place {
            Some(known) => known.node = node,
            None => {
                let (asked, extended, ports) = (Resources::default(), BTreeMap::new(), BTreeMap::new());
                let images = BTreeSet::new();
                *place = Some(NodeInfo { node, asked, counted: asked, extended, ports, pods: 0, images });
                self.recount(index);
            }
        }
        self.rows[index] = Row::of(self.node(index));
    }

    /// Takes a node away. Pods on it count nowhere, until it comes back.
    pub fn remove_node(&mut self, index: usize) {
        if let Some(gone) = self.nodes.get_mut(index).and_then(Option::take) {
            for image in &gone.images {
                if let Some(info) = self.images.get_mut(image) {
                    info.nodes -= 1;
                }
            }
            self.rows[index] = Row::default();
            self.nodes_changed();
        }
    }

    /// The usage of a node that came back with pods on it.
    fn recount(&mut self, index: usize) {
        let Some(Some(info)) = self.nodes.get_mut(index) else { return };
        for kind in &self.kinds {
            let all = kind.on.get(&index).map_or(0, |presence| presence.all);
            (0..all).for_each(|_| info.add(&kind.kind));
        }
    }

    fn nodes_changed(&mut self) {
        self.domains.borrow_mut().clear();
        let mut zones: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut names: Vec<&str> = Vec::new();
        for (index, info) in self.nodes.iter().enumerate() {
            let Some(info) = info else { continue };
            let zone = info.node.labels.get(ZONE).map_or("", String::as_str);
            let of_zone = zones.entry(zone).or_default();
            if of_zone.is_empty() {
                names.push(zone);
            }
            of_zone.push(index);
        }
        let longest = zones.values().map(Vec::len).max().unwrap_or(0);
        let rounds = (0..longest).flat_map(|round| names.iter().map(move |name| (round, *name)));
        self.order = rounds.filter_map(|(round, name)| zones[name].get(round).copied()).collect();
    }

    /// Makes a namespace's labels known.
    pub fn put_namespace(&mut self, name: &str, labels: Labels) {
        self.namespaces.insert(name.to_owned(), labels);
    }

    /// The labels of a namespace; one that nobody described has none.
    pub(super) fn namespace(&self, name: &str) -> &Labels {
        static NONE: Labels = Labels::new();
        self.namespaces.get(name).unwrap_or(&NONE)
    }

    /// Makes a kind of pods known.
    pub fn add_kind(&mut self, kind: PodKind) -> KindId {
        let id = KindId(self.kinds.len());
        let (ours, theirs) = (&kind.placement.pod_affinity, &kind.placement.pod_anti_affinity);
        if [ours, theirs].iter().any(|terms| !terms.required.is_empty() || !terms.preferred.is_empty()) {
            self.minding.insert(id);
        }
        let of_namespace = self.by_namespace.entry(kind.namespace.clone()).or_default();
        of_namespace.all.push(id);
        for (key, value) in &kind.labels {
            let values = of_namespace.by_label.entry(key.clone()).or_default();
            values.entry(value.clone()).or_default().push(id);
        }
        self.kinds.push(KindInfo { kind: Rc::new(kind), on: BTreeMap::new() });
        id
    }

    /// A kind of pods.
    #[must_use]
    pub fn kind(&self, id: KindId) -> Rc<PodKind> {
        Rc::clone(&self.kinds[id.0].kind)
    }

    /// A pod of this kind is on a node.
    pub fn place(&mut self, id: KindId, index: usize) {
        let info = &mut self.kinds[id.0];
        info.on.entry(index).or_default().all += 1;
        if let Some(Some(node)) = self.nodes.get_mut(index) {
            node.add(&info.kind);
            self.rows[index] = Row::of(Some(node));
        }
    }

    /// A pod of this kind on a node is being deleted: it keeps what it asked for, but no longer counts for spreading.
    ///
    /// # Panics
    ///
    /// If there is no such pod.
    pub fn terminate(&mut self, id: KindId, index: usize) {
        let presence = self.kinds[id.0].on.get_mut(&index).expect("a pod that is deleted was placed");
        presence.terminating += 1;
        assert!(presence.terminating <= presence.all, "more pods terminate than there are");
    }

    /// A pod of this kind has left a node.
    ///
    /// # Panics
    ///
    /// If there is no such pod.
    pub fn release(&mut self, id: KindId, index: usize, was_terminating: bool) {
        let info = &mut self.kinds[id.0];
        let presence = info.on.get_mut(&index).expect("a pod that leaves was placed");
        presence.all -= 1;
        presence.terminating -= u32::from(was_terminating);
        if presence.all == 0 {
            info.on.remove(&index);
        }
        if let Some(Some(node)) = self.nodes.get_mut(index) {
            node.remove(&info.kind);
            self.rows[index] = Row::of(Some(node));
        }
    }

    /// An image is on a node from now on.
    pub fn put_image(&mut self, image: &str, bytes: u64, index: usize) {
        if let Some(Some(node)) = self.nodes.get_mut(index)
            && node.images.insert(image.to_owned())
        {
            let info = self.images.entry(image.to_owned()).or_default();
            info.bytes = bytes;
            info.nodes += 1;
        }
    }

    /// An image is no more on a node.
    pub fn remove_image(&mut self, image: &str, index: usize) {
        if let Some(Some(node)) = self.nodes.get_mut(index)
            && node.images.remove(image)
            && let Some(info) = self.images.get_mut(image)
        {
            info.nodes -= 1;
        }
    }

    /// What is known of an image.
    #[must_use]
    pub fn image(&self, image: &str) -> ImageInfo {
        self.images.get(image).copied().unwrap_or_default()
    }

    /// A node, unless it is gone.
    #[must_use]
    pub fn node(&self, index: usize) -> Option<&NodeInfo> {
        self.nodes.get(index).and_then(Option::as_ref)
    }

    /// What a search asks of a node first.
    pub(super) fn row(&self, index: usize) -> &Row {
        &self.rows[index]
    }

    /// The nodes in the order in which they are looked at.
    #[must_use]
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The kinds with terms about other pods.
    pub(super) fn minding(&self) -> impl Iterator<Item = &KindInfo> {
        self.minding.iter().map(|id| &self.kinds[id.0])
    }

    /// All kinds.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &KindInfo> {
        self.kinds.iter()
    }

    /// The kinds of a namespace that a selector means.
    pub(super) fn kinds_meant<'a>(
        &'a self,
        namespace: &str,
        selector: &'a LabelSelector,
    ) -> impl Iterator<Item = &'a KindInfo> {
        let among = self.by_namespace.get(namespace).map_or(&[][..], |kinds| kinds.among(selector));
        among.iter().map(|id| &self.kinds[id.0]).filter(|info| selector.matches(&info.kind.labels))
    }

    /// The domains of a label.
    pub(super) fn domains(&self, key: &str) -> Rc<Domains> {
        if let Some(known) = self.domains.borrow().get(key) {
            return Rc::clone(known);
        }
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let of = self.nodes.iter().map(|info| {
            let value = info.as_ref()?.node.labels.get(key)?;
            let next = numbers.len();
            Some(*numbers.entry(value).or_insert(next))
        });
        let of: Vec<Option<usize>> = of.collect();
        let domains = Rc::new(Domains { of, count: numbers.len() });
        self.domains.borrow_mut().insert(key.to_owned(), Rc::clone(&domains));
        domains
    }
}

impl NodeInfo {
    fn add(&mut self, kind: &PodKind) {
        let counted = counted(kind);
        self.asked.cpu_millicores += kind.requests.cpu_millicores;
        self.asked.memory_bytes += kind.requests.memory_bytes;
        self.counted.cpu_millicores += counted.cpu_millicores;
        self.counted.memory_bytes += counted.memory_bytes;
        for (name, amount) in &kind.placement.extended {
            *self.extended.entry(name.clone()).or_default() += amount;
        }
        for port in &kind.placement.host_ports {
            *self.ports.entry(port.clone()).or_default() += 1;
        }
        self.pods += 1;
    }

    fn remove(&mut self, kind: &PodKind) {
        let counted = counted(kind);
        self.asked.cpu_millicores -= kind.requests.cpu_millicores;
        self.asked.memory_bytes -= kind.requests.memory_bytes;
        self.counted.cpu_millicores -= counted.cpu_millicores;
        self.counted.memory_bytes -= counted.memory_bytes;
        for (name, amount) in &kind.placement.extended {
            if let Some(taken) = self.extended.get_mut(name) {
                *taken -= amount;
            }
        }
        for port in &kind.placement.host_ports {
            let count = self.ports.get_mut(port).expect("a pod that leaves has its ports");
            *count -= 1;
            if *count == 0 {
                self.ports.remove(port);
            }
        }
        self.pods -= 1;
    }

    /// Whether the ports that a pod takes are free. Source: Kubernetes v1.28.7 pkg/scheduler/framework/plugins/nodeports/node_ports.go.
    pub(super) fn has_free_ports(&self, pod: &PodKind) -> bool {
        let mut wanted = pod.placement.host_ports.iter();
        !wanted.any(|port| self.ports.keys().any(|taken| taken.conflicts_with(port)))
    }
}
