//! The nodes of a scenario: groups of equal ones, as they are written, and the cluster's nodes that they make.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::disks;
use super::operations::node_name;
use super::settings::{NodeGroup, Settings};
use super::state::Resolved;
use super::target::Workload;
use crate::cluster::daemon_set::fit;
use crate::cluster::kubelet::disk::{EPHEMERAL_STORAGE, allocatable_bytes};
use crate::cluster::objects::{Node, PODS_PER_NODE, Resources};
use crate::cluster::placement::{HOSTNAME, Taint, ZONE};
use crate::cluster::selector::Labels;
use crate::cluster::{Identity, OwnerKind};
use crate::manifest::placement::{self, TopologyKey, WithoutKey, usual_node_labels};
use crate::manifest::resources::{is_extended, whole_amount};
use crate::manifest::{Field, Place, Problem, Sink};
use crate::record::results::FidelityStatus;

/// Nodes of a cluster. Source: Kubernetes "Considerations for large clusters": no more than 5,000 nodes.
pub(super) const NODES_MAX: i64 = 5000;
/// Pods of a node: more than any kubelet is set to.
const PODS_MAX: usize = 10_000;
/// More cores than any machine has.
const CORES_MAX: u64 = 4096;
/// What the eviction threshold of a kubelet alone takes.
const MEMORY_MIN: u64 = 1 << 20;

/// Reads a group.
pub(super) fn group(field: &Field<'_>) -> Option<NodeGroup> {
    let fields = field.fields()?;
    let name = fields.get("name").map_or(Some("node"), |field| field.text());
    let count = fields.get("count").map_or(Some(1), |field| field.whole::<usize>(1, NODES_MAX));
    let zones = fields.get("zones").map(|field| field.texts()).unwrap_or_default();
    let allocatable = fields.get("allocatable").and_then(|field| field.fields());
    let part = |key: &str| allocatable.as_ref().and_then(|fields| fields.get(key));
    let cpu = part("cpu").map_or(Some(4000), |field| at_most(&field, field.millis()?));
    let memory = part("memory").map_or(Some(8 << 30), |field| at_least(&field, field.units()?));
    let pods = allocatable.as_ref().and_then(|fields| fields.get("pods"));
    let pods_max = pods.map_or(Some(PODS_PER_NODE), |field| room_of(&field));
    let disk = match fields.get("disk") {
        Some(field) => disks::node(&field).map(Some),
        None => Some(None),
    };
    let mut extended = BTreeMap::new();
    if let Some(field) = allocatable.as_ref().and_then(|fields| fields.get(EPHEMERAL_STORAGE)) {
        let bytes = field.millis().map(|millis| millis / 1000);
        if let (Some(bytes), Some(disk)) = (bytes, disk.flatten())
            && bytes > disk.capacity_bytes
        {
            let text = format!("this is more than the disk has, {} bytes", disk.capacity_bytes);
            field.refuse(text, "leave it out: nine tenths of the disk are allocatable");
        }
        extended.extend(bytes.map(|bytes| (EPHEMERAL_STORAGE.to_owned(), bytes)));
    }
    let written = fields.get("allocatable").map(|field| field.map()).unwrap_or_default();
    // As a Node's status has them; pods that ask for huge pages are noted where they do.
    if let Some(fields) = &allocatable {
        let huge: Vec<&str> = written.iter().map(|(key, _)| *key).filter(|key| key.starts_with("hugepages-")).collect();
        fields.ignore(&huge, "huge pages have no place in scheduling here");
    }
    for key in written.iter().map(|(key, _)| *key).filter(|key| is_extended(key)) {
        let amount = allocatable.as_ref().and_then(|fields| fields.get(key)).and_then(|field| whole_amount(&field));
        extended.extend(amount.map(|amount| (key.to_owned(), amount)));
    }
    if let Some(fields) = &allocatable {
        fields.finish();
    }
    let labels = fields.get("labels").map(|field| node_labels(&field)).unwrap_or_default();
    let taints = fields.get("taints").map(|field| field.items()).unwrap_or_default();
    let taints: Vec<Option<Taint>> = taints.iter().map(placement::taint).collect();
    fields.finish();
    let zones = if zones.is_empty() { vec!["a".to_owned()] } else { zones };
    let allocatable = Resources { cpu_millicores: cpu?, memory_bytes: memory? };
    let taints = taints.into_iter().collect::<Option<_>>()?;
    let (name, at) = (name?.to_owned(), field.place());
    Some(NodeGroup {
        name,
        count: count?,
        zones,
        allocatable,
        extended,
        disk: disk?,
        pods_max: pods_max?,
        labels,
        taints,
        at,
    })
}

/// More cores than any machine has are thousandths without their unit.
fn at_most(field: &Field<'_>, millicores: u64) -> Option<u64> {
    if millicores > 1000 * CORES_MAX {
        let text = field.node().text().unwrap_or_default();
        field.refuse(
            format!("no machine has {text} cores"),
            format!("write at most {CORES_MAX}, or thousandths as in 4000m"),
        );
        return None;
    }
    Some(millicores)
}

/// Less memory than any machine has is a number without its unit.
fn at_least(field: &Field<'_>, bytes: u64) -> Option<u64> {
    if bytes < MEMORY_MIN {
        let text = field.node().text().unwrap_or_default();
        field.refuse(format!("{text} are {bytes} bytes, in which no pod finds room"), "write its unit, as in 8Gi");
        return None;
    }
    Some(bytes)
}

/// How many pods a node takes: a quantity, as a Node's status has it.
fn room_of(field: &Field<'_>) -> Option<usize> {
    let pods = usize::try_from(whole_amount(field)?).ok()?;
    if !(1..=PODS_MAX).contains(&pods) {
        field.refuse(
            format!("{pods} is not between 1 and {PODS_MAX}"),
            "a kubelet takes 110 unless it is told otherwise",
        );
        return None;
    }
    Some(pods)
}

/// The labels of a group's nodes, without those that differ from node to node.
fn node_labels(field: &Field<'_>) -> Labels {
    for (key, value) in field.map() {
        if key == HOSTNAME || key == ZONE {
            let help = if key == ZONE {
                "write the zones under `zones`"
            } else {
                "a node's name is that of its group, and a number"
            };
            value.refuse(format!("`{key}` is not the same for all nodes of a group"), help);
        }
    }
    placement::labels(field)
}

/// The groups, each of another name; three nodes if there are none.
pub(super) fn checked(mut groups: Vec<NodeGroup>, written: Option<&Field<'_>>) -> Vec<NodeGroup> {
    if let Some(field) = written {
        for (index, group) in groups.iter().enumerate() {
            if groups[..index].iter().any(|known| known.name == group.name) {
                field.refuse(format!("two groups of nodes are called `{}`", group.name), "give each a name of its own");
            }
        }
    }
    if groups.is_empty() {
        groups.push(NodeGroup {
            name: "node".to_owned(),
            count: 3,
            zones: ["a", "b", "c"].map(str::to_owned).to_vec(),
            allocatable: Resources { cpu_millicores: 4000, memory_bytes: 8 << 30 },
            extended: BTreeMap::new(),
            disk: None,
            pods_max: PODS_PER_NODE,
            labels: Labels::new(),
            taints: Vec::new(),
            at: Place::NOWHERE,
        });
    }
    groups
}

/// The nodes, group by group.
pub(super) fn made(settings: &Settings) -> Vec<Node> {
    let groups = settings.cluster.nodes.iter();
    let places = groups.flat_map(|group| (0..group.count).map(move |in_group| (group, in_group)));
    let ip = |index: usize| settings.cluster.identity.node_ip(index);
    let node = |(index, (group, in_group)): (usize, (&NodeGroup, usize))| group.node(in_group, ip(index));
    places.enumerate().map(node).collect()
}

impl NodeGroup {
    /// One of its nodes; `index` counts from 0.
    pub(super) fn node(&self, index: usize, ip: Ipv4Addr) -> Node {
        let (name, zone) = (node_name(self, index), &self.zones[index % self.zones.len()]);
        let mut labels = usual_node_labels(&name, zone);
        labels.extend(self.labels.clone());
        let node = Node::new(Rc::from(name), ip, Rc::from(zone.as_str()), self.allocatable);
        let (taints, mut extended) = (self.taints.clone(), self.extended.clone());
        // Where nobody says how large the disk is, pods may ask for any part of it.
        let has = self.disk.map_or(u64::MAX, |disk| allocatable_bytes(disk.capacity_bytes));
        extended.entry(EPHEMERAL_STORAGE.to_owned()).or_insert(has);
        Node { labels, taints, extended, disk: self.disk, pods_max: self.pods_max, ..node }
    }
}

/// How many pods of a workload the run finds.
pub(super) fn pods_of(workload: &Workload, resolved: &Resolved, settings: &Settings) -> usize {
    let Some(manifest) = resolved.manifest(workload) else { return 0 };
    match resolved.daemons.get(&workload.key).filter(|_| workload.kind == OwnerKind::DaemonSet) {
        Some(daemon) => {
            let placement = daemon.daemon_set().template.placement;
            made(settings).iter().filter(|node| fit(&placement, node).should_run).count()
        }
        None => usize::try_from(manifest.deployment.replicas).unwrap_or(0),
    }
}

/// What no node has: pods would wait for ever, or a rule says nothing.
pub(super) fn check_placement(resolved: &Resolved, settings: &Settings, sink: &Sink) {
    let nodes: Vec<Node> = settings.cluster.nodes.iter().flat_map(one_of_each_zone).collect();
    let made = resolved.deployments.iter().map(|(name, manifest)| (format!("Deployment {name}"), manifest));
    let bare = resolved.pods.iter().map(|(name, pod)| (format!("Pod {name}"), &pod.manifest));
    let daemons = resolved.daemons.iter().map(|(name, daemon)| (format!("DaemonSet {name}"), &daemon.manifest));
    for (name, manifest) in made.chain(bare).chain(daemons) {
        check_topology_keys(&name, &manifest.topology_keys, &nodes, sink);
        let placement = &manifest.deployment.template.placement;
        if let Some((place, path)) = &manifest.nodes_at
            && !nodes.iter().any(|node| placement.admits(node))
        {
            let problem = Problem::at(*place, path.clone(), "no node has what is asked for here");
            sink.report(
                problem.help("give cluster.nodes these labels: without them the pods would wait for a node for ever"),
            );
        }
    }
}

/// Nodes as a group has them. A name that a rule may ask for belongs to one of them.
fn one_of_each_zone(group: &NodeGroup) -> Vec<Node> {
    let count = group.count.max(group.zones.len());
    (0..count).map(|index| group.node(index, Identity::ALONE.node_ip(index))).collect()
}

fn check_topology_keys(owner: &str, keys: &[TopologyKey], nodes: &[Node], sink: &Sink) {
    for TopologyKey { key, place, path, without } in keys {
        if nodes.iter().any(|node| node.labels.contains_key(key)) {
            continue;
        }
        match without {
            WithoutKey::Nowhere => {
                let problem = Problem::at(*place, path.clone(), format!("no node has the label `{key}`"));
                sink.report(problem.help(
                    "write kubernetes.io/hostname or topology.kubernetes.io/zone, or give cluster.nodes this label: without it \
                     the pods would wait for a node for ever",
                ));
            }
            WithoutKey::Nothing => {
                let note = format!("no node has the label `{key}`, so this has no effect");
                sink.note(*place, format!("{owner} {path}"), FidelityStatus::Modelled, Some(&note));
            }
        }
    }
}
