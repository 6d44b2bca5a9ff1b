//! A cluster as the recordings had it, and what its API shows over time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::placement::ZONE;
use gatedrill::cluster::{
    ClientLimits, ClientRates, Cluster, ClusterConfig, DeploymentView, Identity, Node, Resources, Version,
};
use gatedrill::engine::{Delay, EventLog, Sim, Streams};
use gatedrill::units::SimTime;
use serde_json::{Map, Value, json};

use super::case::Case;
use super::eviction::Asked;
use super::kubelet::Programme;
use super::states::{Row, millis};

/// The instant of the trigger. Whatever is set up before it takes less.
const TRIGGER_S: u64 = 60;
/// What the recorded components were allowed by their flags.
const RATES: ClientLimits = ClientLimits { per_second: 500, burst: 1000 };
/// The look at the cluster is repeated so often; rows are as exact as this.
const LOOK: Duration = Duration::from_millis(1);
/// Deletions closer to each other than this, in milliseconds, belong to one step.
pub(crate) const STEP_MS: i64 = 150;

/// A replay under way.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) cluster: Cluster,
    pub(crate) kubelet: Rc<Programme>,
    /// The Deployments' manifests as they stand, by name.
    pub(crate) manifests: BTreeMap<String, Value>,
    pub(crate) trigger: SimTime,
    rows: Vec<Row>,
    deletions: Vec<Deletion>,
    /// Requests for evictions.
    pub(crate) asked: Vec<Asked>,
    polls: u64,
}

/// A pod's deletion, as it was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Deletion {
    pub(crate) at_ms: i64,
    /// The pod's ordinal, from 1 in the order of creation.
    pub(crate) pod: u64,
    /// Pods on its node, itself and those deleted with it included; none without a node.
    pub(crate) pods_on_node: Option<usize>,
}

fn quantity(value: Option<&Value>, usual: &str) -> u64 {
    let text = value.and_then(Value::as_str).unwrap_or(usual);
    let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let number: u64 = text[..text.len() - unit.len()].parse().expect("a number");
    match unit {
        "" => number * 1000,
        "m" => number,
        "Mi" => number << 20,
        "Gi" => number << 30,
        other => panic!("{other} is no unit we know"),
    }
}

fn node(index: usize, node: &Value) -> Node {
    let allocatable = &node["allocatable"];
    let resources = Resources {
        cpu_millicores: quantity(allocatable.get("cpu"), "8"),
        memory_bytes: quantity(allocatable.get("memory"), "32Gi"),
    };
    let ip = Ipv4Addr::from_bits(0xC0A8_0001 + u32::try_from(index).expect("few nodes"));
    let name = Rc::from(node["name"].as_str().expect("a name"));
    let zone = node["zone"].as_str();
    let mut made = Node::new(name, ip, Rc::from(zone.unwrap_or_default()), resources);
    if zone.is_none() {
        // Not an empty zone: none.
        made.labels.remove(ZONE);
    }
    for (key, value) in node["labels"].as_object().into_iter().flatten() {
        made.labels.insert(key.clone(), value.as_str().expect("a text").to_owned());
    }
    made
}

impl World {
    /// The empty cluster of a case, at the instant at which its set-up begins.
    pub(crate) fn new(case: &Case) -> Self {
        let inputs = &case.json["inputs"];
        let sim = Sim::new();
        let kubelet = Programme::new(&sim, &inputs["kubelet"]);
        let nodes = inputs["nodes"].as_array().expect("nodes");
        // Median reaction times of the recordings: a watch event to the controller's write 4 ms, a pod to its binding 6 ms.
        let config = ClusterConfig {
            identity: Identity::ALONE,
            version: Version::new(1, 20),
            wall_phase: Some(Duration::from_millis(
                u64::try_from(millis(&case.json["measured"]["trigger_wall_fraction_s"])).expect("not negative"),
            )),
            nodes: nodes.iter().enumerate().map(|(index, json)| node(index, json)).collect(),
            hop: Delay::Constant(Duration::from_millis(4)),
            schedule: Delay::Constant(Duration::from_millis(6)),
            pod_start: Delay::ZERO,
            image_pull: Delay::ZERO,
            bad_images: BTreeSet::new(),
            image_sizes: BTreeMap::new(),
            preloaded_images: BTreeSet::new(),
            terminated_pods_max: gatedrill::cluster::pod_collection::THRESHOLD,
            endpoint_propagation: Delay::ZERO,
            init_container: Delay::ZERO,
            sandbox_removal: Delay::ZERO,
            autoscaler: None,
            client_rates: ClientRates { controllers: RATES, scheduler: RATES, ..ClientRates::DEFAULT },
            stands_at_zero: false,
        };
        let log = Rc::new(RefCell::new(EventLog::default()));
        let cluster = Cluster::hollow(&sim, Streams::new(1), log, config, Rc::<Programme>::clone(&kubelet));
        kubelet.attach(&cluster);
        let trigger = SimTime::ZERO.after(Duration::from_secs(TRIGGER_S));
        // The set-up begins as long before the trigger as it did: time stamps are then of the same seconds.
        let created = case.json["replicasets"].as_array().expect("sets").iter().map(|set| millis(&set["created"]));
        let before = created.filter(|at_ms| *at_ms < 0).min().map_or(millis(&inputs["settle_s"]), |at_ms| 8 - at_ms);
        let before = Duration::from_millis(u64::try_from(before).expect("not negative"));
        sim.run_until(SimTime::from_nanos(trigger.as_nanos() - u64::try_from(before.as_nanos()).expect("short")))
            .expect("the world moves");
        let (rows, deletions, manifests) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { sim, cluster, kubelet, manifests, trigger, rows, deletions, asked: Vec::new(), polls: 0 }
    }

    /// Milliseconds since the trigger.
    pub(crate) fn now_ms(&self) -> i64 {
        let ms = |at: SimTime| i64::try_from(at.as_nanos() / 1_000_000).expect("short");
        ms(self.sim.now()) - ms(self.trigger)
    }

    /// Lets time pass until an instant, and writes down every change from the trigger on.
    pub(crate) fn run_to(&mut self, at: SimTime) {
        while self.sim.now() < at {
            let next = self.sim.now().after(LOOK).min(at);
            self.sim.run_until(next).expect("the world moves");
            self.look();
        }
    }

    /// Lets a span pass.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.run_to(self.sim.now().after(span));
    }

    /// Lets time pass until something is true.
    ///
    /// # Panics
    ///
    /// If it does not come true before the trigger.
    pub(crate) fn wait(&mut self, mut is_true: impl FnMut(&Self) -> bool) {
        while !is_true(self) {
            assert!(self.sim.now() < self.trigger, "the set-up is not done at the trigger");
            self.pass(LOOK);
        }
    }

    fn look(&mut self) {
        let polls = self.sim.polls_total();
        if polls == self.polls || self.sim.now() < self.trigger {
            return;
        }
        self.polls = polls;
        self.note_deletions();
        let shown = self.shown();
        if self.rows.last().is_none_or(|row| row.shown != shown) {
            self.rows.push(Row { at_ms: self.now_ms(), shown });
        }
    }

    fn note_deletions(&mut self) {
        let pods = self.cluster.all_pod_views();
        let is_new = |id: u64, known: &[Deletion]| known.iter().all(|deletion| deletion.pod != id + 1);
        let deleted: Vec<_> =
            pods.iter().filter(|pod| pod.is_deleting && is_new(pod.id, &self.deletions)).cloned().collect();
        for pod in &deleted {
            let on_node = pods.iter().filter(|other| other.node == pod.node);
            let now_ms = self.now_ms();
            let is_of_step = |id: u64| {
                let known = self.deletions.iter().find(|deletion| deletion.pod == id + 1);
                known.is_none_or(|known| now_ms - known.at_ms < STEP_MS)
            };
            let counted = on_node.filter(|other| !other.is_deleting || is_of_step(other.id));
            let pods_on_node = pod.node.is_some().then_some(counted.count());
            self.deletions.push(Deletion { at_ms: self.now_ms(), pod: pod.id + 1, pods_on_node });
        }
        // A pod without a node is gone as soon as it is deleted.
        for record in self.cluster.pod_records() {
            let Some(gone_at) = record.gone_at.filter(|_| record.scheduled_at.is_none()) else { continue };
            if gone_at < self.trigger || !is_new(record.id, &self.deletions) {
                continue;
            }
            self.deletions.push(Deletion { at_ms: self.now_ms(), pod: record.id + 1, pods_on_node: None });
        }
    }

    /// What the API shows now, in the words of the recordings.
    fn shown(&self) -> Value {
        let (mut sets, mut unscheduled, mut shown) = (Map::new(), 0, Map::new());
        let keys = self.cluster.deployment_keys();
        for key in &keys {
            for set in self.cluster.set_views(key) {
                unscheduled += set.unscheduled;
                sets.insert(
                    (set.id + 1).to_string(),
                    json!({
                        "spec": set.replicas, "pods": set.pods, "ready": set.ready, "terminating": set.terminating,
                        "st_replicas": set.status.replicas, "st_ready": set.status.ready,
                        "available": set.status.available,
                    }),
                );
            }
            if let Some(view) = self.cluster.deployment_view(key) {
                let name = key.rsplit('/').next().unwrap_or_default();
                let name = if keys.len() > 1 { format!("deploy:{name}") } else { "deploy".to_owned() };
                shown.insert(name, deployment(&view));
            }
        }
        shown.insert("rs".to_owned(), Value::Object(sets));
        let mut budgets = Map::new();
        for (key, report) in self.cluster.budgets() {
            let status = report.status;
            budgets.insert(
                key.rsplit('/').next().unwrap_or_default().to_owned(),
                json!({
                    "allowed": status.disruptions_allowed, "current_healthy": status.current_healthy,
                    "desired_healthy": status.desired_healthy, "expected": status.expected_pods,
                    "disrupted": report.disrupted_count,
                }),
            );
        }
        if !budgets.is_empty() {
            shown.insert("pdb".to_owned(), Value::Object(budgets));
        }
        if unscheduled > 0 {
            shown.insert("unscheduled".to_owned(), unscheduled.into());
        }
        Value::Object(shown)
    }

    /// The rows from the trigger on, with one at the end, and the deletions.
    pub(crate) fn finish(mut self) -> (Vec<Row>, Vec<Deletion>) {
        let end = Row { at_ms: self.now_ms(), shown: self.shown() };
        self.rows.push(end);
        self.sim.end();
        (self.rows, self.deletions)
    }

    /// Begins to write down.
    pub(crate) fn start_recording(&mut self) {
        let shown = self.shown();
        self.rows.push(Row { at_ms: 0, shown });
    }
}

fn deployment(view: &DeploymentView) -> Value {
    let mut shown = json!({
        "spec": view.replicas, "replicas": view.status.replicas, "updated": view.status.updated,
        "ready": view.status.ready, "available": view.status.available, "unavailable": view.unavailable,
        "observed": view.is_observed,
    });
    for (name, condition) in [("cond_available", view.available), ("cond_progressing", view.progressing)] {
        if let Some((status, reason)) = condition {
            shown[name] = format!("{status}/{reason}").into();
        }
    }
    shown
}
