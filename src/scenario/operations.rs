//! Verbs of the timeline that do something to pods and nodes, from their fields to what the cluster is told.
//!
//! A pod is chosen by a number (0 is the first pod its Deployment ever had), by its name, or by a word: `oldest`, `newest`, `ready`, `unready`,
//! `pending`. A node is chosen by its name, or as `busiest`: the one with most pods of the Deployment. Words are resolved when it happens.

use std::rc::Rc;
use std::time::Duration;

use super::disks;
use super::settings::{NodeGroup, Settings, TimelineEntry};
use crate::cluster::Node;
use crate::cluster::drain::DrainSettings;
use crate::cluster::operation::{Fill, NodeChoice, NodeFailure, Operation, PodChoice};
use crate::drill::{Action, Verb};
use crate::manifest::{Field, Fields, Place, Problem, Sink, quantity};
use crate::record::results::FidelityStatus;

/// The verbs, each with the phase that it begins if nobody names one.
pub(super) const VERBS: [(&str, &str); 12] = [
    ("evict", "eviction"),
    ("killPod", "kill"),
    ("drainNode", "drain"),
    ("cordonNode", "cordon"),
    ("uncordonNode", "uncordon"),
    ("killNode", "failure"),
    ("failZone", "failure"),
    ("shutdownNode", "shutdown"),
    ("reclaimNode", "reclaim"),
    ("removeNode", "removal"),
    ("fillDisk", "pressure"),
    ("addNode", "growth"),
];

/// How a node fails, under `killNode.mode`.
pub(super) const FAILURES: [(&str, NodeFailure); 3] =
    [("machine", NodeFailure::Machine), ("partition", NodeFailure::Partition), ("notReady", NodeFailure::NotReady)];

/// Nodes that one entry may add.
const ADDED_MAX: i64 = 1000;
/// What clouds grant before they take a machine back. Source: Amazon EC2 spot instance interruption notices; Alibaba Cloud grants five minutes.
const NOTICE: Duration = Duration::from_secs(120);

/// What one verb says.
#[derive(Clone, Debug)]
pub enum OperationSettings {
    /// A pod is evicted.
    Evict(PodChoice),
    /// A pod is deleted, with this grace or its own.
    KillPod(PodChoice, Option<u32>),
    /// A node is emptied.
    Drain(NodeName, DrainSettings),
    /// A node is cordoned, or not any more.
    Cordon(NodeName, bool),
    /// A node fails in some way, for a time or for good.
    FailNode(NodeName, NodeFailure, Option<Duration>),
    /// A zone fails, for a time or for good: the balancer's address in it, and the machines of its nodes or not.
    FailZone(NodeName, Option<Duration>, bool),
    /// A machine is told to shut down; it boots again after this time, or never.
    ShutDownNode(NodeName, Option<Duration>),
    /// A machine is taken back after a notice, which somebody heeds or nobody.
    ReclaimNode(NodeName, Duration, bool),
    /// A node is deleted.
    RemoveNode(NodeName),
    /// A node's disk is filled from outside, for a time or for good.
    FillDisk(NodeName, Fill, Option<Duration>),
    /// Nodes of a group join.
    AddNode(Option<String>, usize),
}

/// A node as it is written, and where.
#[derive(Clone, Debug)]
pub struct NodeName {
    text: String,
    at: Place,
}

impl NodeName {
    /// Where it is written.
    pub(super) fn at(&self) -> Place {
        self.at
    }

    /// As it is written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// Reads what stands under a verb.
pub(super) fn read(verb: &str, field: &Field<'_>) -> Option<OperationSettings> {
    let fields = field.fields()?;
    let operation = match verb {
        "evict" => pod(&fields).map(OperationSettings::Evict),
        "killPod" => {
            let (pod, grace) = (pod(&fields), grace(&fields));
            Some(OperationSettings::KillPod(pod?, grace?))
        }
        "drainNode" => {
            let node = node(&fields);
            let grace_seconds = grace(&fields);
            let timeout = optional(&fields, "timeout");
            let flag = |key: &str| fields.get(key).map_or(Some(false), |field| field.boolean());
            let (ignores, deletes, forces) = (flag("ignoreDaemonSets"), flag("deleteEmptyDirData"), flag("force"));
            let settings = DrainSettings {
                grace_seconds: grace_seconds?,
                timeout: timeout?,
                ignores_daemon_sets: ignores?,
                deletes_empty_dir_data: deletes?,
                forces: forces?,
                ..DrainSettings::default()
            };
            Some(OperationSettings::Drain(node?, settings))
        }
        "cordonNode" | "uncordonNode" => {
            node(&fields).map(|node| OperationSettings::Cordon(node, verb == "cordonNode"))
        }
        "killNode" => {
            let (node, back_after) = (node(&fields), optional(&fields, "for"));
            let failure = fields.get("mode").map_or(Some(NodeFailure::Machine), |field| field.choice(&FAILURES));
            Some(OperationSettings::FailNode(node?, failure?, back_after?))
        }
        "failZone" => {
            let zone = fields.require("zone", "write a zone's name, as zone-maps and cluster.nodes have it");
            let zone = zone.and_then(|field| Some(NodeName { text: field.text()?.to_owned(), at: field.place() }));
            let back_after = optional(&fields, "for");
            let with_nodes = fields.get("nodes").map_or(Some(true), |field| field.boolean());
            Some(OperationSettings::FailZone(zone?, back_after?, with_nodes?))
        }
        "reclaimNode" => {
            let node = node(&fields);
            let notice = fields.get("notice").map_or(Some(NOTICE), |field| field.duration());
            let is_heeded = fields.get("drain").map_or(Some(true), |field| field.boolean());
            Some(OperationSettings::ReclaimNode(node?, notice?, is_heeded?))
        }
        "shutdownNode" => {
            let (node, back_after) = (node(&fields), optional(&fields, "for"));
            Some(OperationSettings::ShutDownNode(node?, back_after?))
        }
        "fillDisk" => {
            let (node, back_after) = (node(&fields), optional(&fields, "for"));
            let fill = disks::fill(&fields);
            Some(OperationSettings::FillDisk(node?, fill?, back_after?))
        }
        "removeNode" => node(&fields).map(OperationSettings::RemoveNode),
        _ => {
            let group = fields.get("group").map(|field| field.text());
            let count = fields.get("count").map_or(Some(1), |field| field.whole::<usize>(1, ADDED_MAX));
            let group = match group {
                Some(text) => Some(text?.to_owned()),
                None => None,
            };
            Some(OperationSettings::AddNode(group, count?))
        }
    };
    fields.finish();
    operation
}

fn pod(fields: &Fields<'_>) -> Option<PodChoice> {
    let Some(field) = fields.get("pod") else { return Some(PodChoice::Oldest) };
    let text = field.scalar()?;
    Some(match text {
        "oldest" => PodChoice::Oldest,
        "newest" => PodChoice::Newest,
        "ready" => PodChoice::Ready,
        "unready" => PodChoice::Unready,
        "pending" => PodChoice::Pending,
        number if number.parse::<i64>().is_ok() => PodChoice::Ordinal(field.whole::<u64>(0, i64::from(i32::MAX))?),
        name => PodChoice::Named(Rc::from(name)),
    })
}

fn node(fields: &Fields<'_>) -> Option<NodeName> {
    let field = fields.require("node", "write a node's name, or busiest: the one with most pods of the target")?;
    Some(NodeName { text: field.text()?.to_owned(), at: field.place() })
}

/// A grace in whole seconds, as the API has it.
#[expect(clippy::option_option, reason = "outside: whether it could be read; inside: whether it is written")]
fn grace(fields: &Fields<'_>) -> Option<Option<u32>> {
    let Some(field) = fields.get("grace") else { return Some(None) };
    let span = field.duration()?;
    let seconds = u32::try_from(span.as_secs()).ok().filter(|_| span.subsec_nanos() == 0);
    if seconds.is_none() {
        field.refuse("a grace is a number of whole seconds", "write one such as 30s");
    }
    seconds.map(Some)
}

#[expect(clippy::option_option, reason = "outside: whether it could be read; inside: whether it is written")]
fn optional(fields: &Fields<'_>, key: &str) -> Option<Option<Duration>> {
    match fields.get(key) {
        Some(field) => field.positive_duration().map(Some),
        None => Some(None),
    }
}

/// The nodes that there are at a moment of the timeline, by name; and the numbers of those to come.
pub(super) struct NodeNames<'a> {
    settings: &'a Settings,
    known: Vec<String>,
    /// How many nodes each group has had.
    counts: Vec<usize>,
}

impl<'a> NodeNames<'a> {
    /// Those of the start.
    pub(super) fn new(settings: &'a Settings) -> Self {
        let groups = &settings.cluster.nodes;
        let known = groups.iter().flat_map(|group| (0..group.count).map(|index| node_name(group, index))).collect();
        Self { settings, known, counts: groups.iter().map(|group| group.count).collect() }
    }

    /// What an entry of the timeline does, for the Deployment `owner`, behind a balancer with addresses in these zones.
    pub(super) fn actions(
        &mut self,
        entry: &TimelineEntry,
        operation: &OperationSettings,
        (owner, zones): (&str, &[Rc<str>]),
        sink: &Sink,
    ) -> Vec<Action> {
        match operation {
            OperationSettings::FailZone(zone, back_after, with_nodes) => {
                self.fail_zone(entry, zone, (*back_after, *with_nodes), zones, sink)
            }
            operation => self.action(entry, operation, owner, sink).into_iter().collect(),
        }
    }

    /// The address of a balancer goes, and the nodes of its zone at once, as far as they are known by name beforehand.
    fn fail_zone(
        &self,
        entry: &TimelineEntry,
        zone: &NodeName,
        (back_after, with_nodes): (Option<Duration>, bool),
        zones: &[Rc<str>],
        sink: &Sink,
    ) -> Vec<Action> {
        let groups = &self.settings.cluster.nodes;
        let nodes: Vec<String> = groups
            .iter()
            .zip(&self.counts)
            .flat_map(|(group, count)| (0..*count).map(move |index| (group, index)))
            .filter(|(group, index)| group.zones.get(index % group.zones.len().max(1)) == Some(&zone.text))
            .map(|(group, index)| node_name(group, index))
            .collect();
        let has_address = zones.iter().any(|known| **known == *zone.text);
        if !has_address && nodes.is_empty() {
            let problem = Problem::at(zone.at, "spec.timeline", format!("no zone is called `{}`", zone.text));
            let of_nodes = groups.iter().flat_map(|group| group.zones.iter().map(String::as_str));
            sink.report(problem.did_you_mean(&zone.text, zones.iter().map(|zone| &**zone).chain(of_nodes)));
            return Vec::new();
        }
        let span = back_after.map(|span| format!(" for {}", quantity::duration_text(span))).unwrap_or_default();
        let action = |verb: Verb, phase: Option<String>| Action {
            at: entry.at,
            member: 0,
            phase,
            verb: Some(verb),
            text: format!("fail zone {}{span}", zone.text),
            place: None,
        };
        let failure = action(Verb::FailZone(Rc::from(zone.text.as_str()), back_after), Some(entry.phase.clone()));
        let deaths = nodes.iter().filter(|_| with_nodes).map(|name| {
            let node = NodeChoice::Named(Rc::from(name.as_str()));
            action(Verb::Operate(Operation::FailNode { node, failure: NodeFailure::Machine, back_after }), None)
        });
        std::iter::once(failure).chain(deaths).collect()
    }

    fn action(
        &mut self,
        entry: &TimelineEntry,
        operation: &OperationSettings,
        owner: &str,
        sink: &Sink,
    ) -> Option<Action> {
        let (operation, text) = self.resolve(operation, owner, entry.place, sink)?;
        Some(Action {
            at: entry.at,
            member: 0,
            phase: Some(entry.phase.clone()),
            verb: Some(Verb::Operate(operation)),
            text,
            place: None,
        })
    }

    /// What a verb means for the cluster, and how the timeline tells it.
    fn resolve(
        &mut self,
        operation: &OperationSettings,
        owner: &str,
        place: Place,
        sink: &Sink,
    ) -> Option<(Operation, String)> {
        let owner: Rc<str> = Rc::from(owner);
        Some(match operation {
            OperationSettings::Evict(pod) => (
                Operation::Evict { owner: Rc::clone(&owner), pod: pod.clone() },
                format!("evict {}", told(pod, &owner)),
            ),
            OperationSettings::KillPod(pod, grace_seconds) => (
                Operation::KillPod { owner: Rc::clone(&owner), pod: pod.clone(), grace_seconds: *grace_seconds },
                format!("kill {}{}", told(pod, &owner), grace_text(*grace_seconds)),
            ),
            OperationSettings::Drain(name, settings) => {
                let node = self.choice(name, &owner, sink)?;
                let text = format!("drain node {}{}", name.text, grace_text(settings.grace_seconds));
                (Operation::Drain { node, settings: *settings }, text)
            }
            OperationSettings::Cordon(name, is_cordoned) => {
                let node = self.choice(name, &owner, sink)?;
                let verb = if *is_cordoned { "cordon" } else { "uncordon" };
                (Operation::Cordon { node, is_cordoned: *is_cordoned }, format!("{verb} node {}", name.text))
            }
            OperationSettings::FailNode(name, failure, back_after) => {
                let node = self.choice(name, &owner, sink)?;
                let span = back_after.map(|span| format!(" for {}", quantity::duration_text(span))).unwrap_or_default();
                let text = match failure {
                    NodeFailure::Machine => format!("kill node {}{span}", name.text),
                    NodeFailure::Partition => format!("cut node {} off{span}", name.text),
                    NodeFailure::NotReady => format!("node {} says it is not ready{span}", name.text),
                };
                (Operation::FailNode { node, failure: *failure, back_after: *back_after }, text)
            }
            OperationSettings::FailZone(..) => unreachable!("a zone is not one operation"),
            OperationSettings::ShutDownNode(name, back_after) => {
                let node = self.choice(name, &owner, sink)?;
                let span = back_after.map(|span| format!(" for {}", quantity::duration_text(span))).unwrap_or_default();
                let graces = self.settings.cluster.kubelet.shutdown.graces();
                let note = if graces.groups().is_empty() {
                    "kubelets have no time for pods when a machine shuts down, so this is as killNode: see cluster.kubelet.shutdownGracePeriod"
                } else {
                    "pods that end with their machine keep their endpoints until their processes have ended, so hooks and drains that wait \
                     for balancers do not help: drain the node before it shuts down"
                };
                sink.note(name.at, format!("shutdownNode {}", name.text), FidelityStatus::Warning, Some(note));
                let text = format!("shut node {} down{span}", name.text);
                (Operation::ShutDownNode { node, graces, back_after: *back_after }, text)
            }
            OperationSettings::ReclaimNode(name, notice, is_heeded) => {
                let node = self.choice(name, &owner, sink)?;
                let text = format!("reclaim node {} after {}", name.text, quantity::duration_text(*notice));
                (Operation::ReclaimNode { node, notice: *notice, is_heeded: *is_heeded }, text)
            }
            OperationSettings::FillDisk(name, fill, back_after) => {
                let node = self.choice(name, &owner, sink)?;
                disks::check_fill(self.settings, (name.text(), name.at()), sink);
                let span = back_after.map(|span| format!(" for {}", quantity::duration_text(span))).unwrap_or_default();
                let text = format!("fill the disk of node {} {}{span}", name.text, disks::fill_text(*fill));
                (Operation::FillDisk { node, fill: *fill, back_after: *back_after }, text)
            }
            OperationSettings::RemoveNode(name) => {
                let node = self.choice(name, &owner, sink)?;
                (Operation::RemoveNode { node }, format!("remove node {}", name.text))
            }
            OperationSettings::AddNode(group, count) => {
                let nodes = self.add(group.as_deref(), *count, place, sink)?;
                let names: Vec<&str> = nodes.iter().map(|node| &*node.name).collect();
                let text = format!("add node {}", names.join(", "));
                (Operation::AddNodes(nodes), text)
            }
        })
    }

    fn choice(&self, name: &NodeName, owner: &Rc<str>, sink: &Sink) -> Option<NodeChoice> {
        if name.text == "busiest" {
            return Some(NodeChoice::Busiest(Rc::clone(owner)));
        }
        // Nodes that the autoscaler makes have the next numbers.
        let may_come = self.settings.cluster.autoscaler.as_ref().is_some_and(|autoscaler| {
            let number = name.text.strip_prefix(&autoscaler.group).and_then(|rest| rest.strip_prefix('-'));
            number.is_some_and(|number| number.parse::<usize>().is_ok())
        });
        if may_come || self.known.contains(&name.text) {
            return Some(NodeChoice::Named(Rc::from(name.text.as_str())));
        }
        let problem = Problem::at(name.at, "spec.timeline", format!("no node is called `{}`", name.text));
        let known = self.known.iter().map(String::as_str).chain(["busiest"]);
        sink.report(problem.did_you_mean(&name.text, known));
        None
    }

    fn add(&mut self, group: Option<&str>, count: usize, place: Place, sink: &Sink) -> Option<Vec<Node>> {
        let groups = &self.settings.cluster.nodes;
        let found = match group {
            Some(name) => groups.iter().position(|known| known.name == name),
            None => Some(0),
        };
        let Some(index) = found else {
            let name = group.unwrap_or_default();
            let problem = Problem::at(place, "spec.timeline", format!("no group of nodes is called `{name}`"));
            sink.report(problem.did_you_mean(name, groups.iter().map(|group| group.name.as_str())));
            return None;
        };
        let group = &groups[index];
        let first = self.counts[index];
        self.counts[index] += count;
        let all_before: usize = self.counts.iter().sum::<usize>() - count;
        let nodes: Vec<Node> = (0..count)
            .map(|offset| {
                let ip = self.settings.cluster.identity.node_ip(all_before + offset);
                group.node(first + offset, ip)
            })
            .collect();
        self.known.extend(nodes.iter().map(|node| node.name.to_string()));
        Some(nodes)
    }

    /// How many nodes a group has had at the end.
    pub(super) fn count(&self, group: &str) -> usize {
        let groups = self.settings.cluster.nodes.iter().zip(&self.counts);
        groups.filter(|(known, _)| known.name == group).map(|(_, count)| *count).sum()
    }
}

/// The name of a group's node; `index` counts from 0.
pub(super) fn node_name(group: &NodeGroup, index: usize) -> String {
    format!("{}-{}", group.name, index + 1)
}

/// A grace that is another than the pods' own.
fn grace_text(seconds: Option<u32>) -> String {
    seconds.map(|seconds| format!(" with {seconds} s of grace")).unwrap_or_default()
}

fn told(pod: &PodChoice, owner: &str) -> String {
    match pod {
        PodChoice::Ordinal(number) => format!("pod {number} of {owner}"),
        PodChoice::Named(name) => format!("pod {name}"),
        PodChoice::Oldest => format!("the oldest pod of {owner}"),
        PodChoice::Newest => format!("the newest pod of {owner}"),
        PodChoice::Ready => format!("the oldest ready pod of {owner}"),
        PodChoice::Unready => format!("the oldest unready pod of {owner}"),
        PodChoice::Pending => format!("the oldest pending pod of {owner}"),
    }
}
