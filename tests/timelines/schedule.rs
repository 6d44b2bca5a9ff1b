//! Placement: the scores that each pod's nodes got, the node that was chosen, and the words for pods that got none.
//!
//! The pods of a case are decided on one after the other, each with the earlier ones where the recording has them: so one drawn tie does not
//! make all that follows differ. Scores must be equal, rule by rule; the recorded node must be one of the best. Then the case is decided
//! anew with ties of our own, under many seeds: how many pods each node gets must be as in one of the recorded runs, where nodes that are
//! equal may stand for each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;

use gatedrill::cluster::objects::{Node, PodTemplate, Resources};
use gatedrill::cluster::placement::{HOSTNAME, Taint, TaintEffect, ZONE};
use gatedrill::cluster::scheduler::{KindId, PodKind, Rules, Scheduler};
use gatedrill::cluster::selector::{LabelSelector, Labels};
use gatedrill::engine::Streams;
use gatedrill::manifest::{Files, Sink, deployment, object, quantity, yaml};
use serde_json::{Value, json};

use super::case::Case;

/// How often a case is decided anew.
const SEEDS: u64 = 20;
/// A rule of the recorded version that gave the same to every node, which we leave out.
const CONSTANT: &str = "NodePreferAvoidPods";

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn node(value: &Value) -> Node {
    let amount = |key: &str, usual: &str| {
        let written = value["allocatable"][key].as_str().unwrap_or(usual);
        quantity::kubernetes_millis(written).expect("a quantity")
    };
    let allocatable = Resources { cpu_millicores: amount("cpu", "8"), memory_bytes: amount("memory", "32Gi") / 1000 };
    let name = text(&value["name"]);
    let mut node = Node::new(Rc::from(name), Ipv4Addr::LOCALHOST, Rc::from(""), allocatable);
    node.labels = Labels::from([(HOSTNAME.to_owned(), name.to_owned())]);
    if let Some(zone) = value["zone"].as_str() {
        node.labels.insert(ZONE.to_owned(), zone.to_owned());
    }
    let labels = value["labels"].as_object().into_iter().flatten();
    node.labels.extend(labels.map(|(key, value)| (key.clone(), text(value).to_owned())));
    let effects = [TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule, TaintEffect::NoExecute];
    node.taints = list(&value["taints"])
        .iter()
        .map(|taint| Taint {
            key: text(&taint["key"]).to_owned(),
            value: taint["value"].as_str().unwrap_or_default().to_owned(),
            effect: *effects.iter().find(|effect| effect.name() == taint["effect"]).expect("an effect"),
        })
        .collect();
    node
}

/// A Deployment's template as the tool reads it.
fn template(manifest: &Value) -> PodTemplate {
    let (mut files, sink) = (Files::default(), Sink::default());
    let text = manifest.to_string();
    let (nodes, problems) = yaml::parse(&text, files.add("manifest.json", &text));
    assert!(problems.is_empty(), "{problems:?}");
    let objects = object::objects(nodes, &sink);
    let read = deployment::read(&objects[0], &sink);
    assert_eq!(sink.problem_count(), 0, "{:?}", sink.take_problems());
    read.expect("it is read").deployment.template
}

fn kind(template: &PodTemplate, set: Option<u64>) -> PodKind {
    let mut labels = template.labels.clone();
    let hash = set.map(|number| ("pod-template-hash".to_owned(), number.to_string()));
    labels.extend(hash.clone());
    PodKind {
        namespace: "default".to_owned(),
        labels,
        placement: template.placement.clone(),
        requests: template.requests,
        images: vec![template.image.clone()],
        peers: hash.map(|hash| LabelSelector::of_labels(Labels::from([hash]))),
    }
}

/// What a case begins with.
struct Setting {
    scheduler: Scheduler,
    names: Vec<String>,
    /// The kinds of pods of each set, by its number.
    kinds: BTreeMap<u64, KindId>,
}

impl Setting {
    fn new(case: &Case) -> Self {
        let inputs = &case.json["inputs"];
        let mut scheduler = Scheduler::new(Rules::of_version(20));
        let mut names = Vec::new();
        for (index, value) in list(&inputs["nodes"]).iter().enumerate() {
            scheduler.cache.put_node(index, node(value));
            names.push(text(&value["name"]).to_owned());
        }
        let mut setting = Self { scheduler, names, kinds: BTreeMap::new() };
        for step in list(&inputs["setup"]).iter().chain(list(&inputs["actions"])) {
            match text(&step["do"]) {
                "create" if step["manifest"]["kind"] == "Pod" => setting.fill(&step["manifest"]),
                "create" => {
                    let number = u64::try_from(setting.kinds.len()).expect("few") + 1;
                    let kind = kind(&template(&step["manifest"]), Some(number));
                    let id = setting.scheduler.cache.add_kind(kind);
                    setting.kinds.insert(number, id);
                }
                // Every pod is decided on before the first one goes.
                "scale" => {}
                other => panic!("nobody carries out `{other}`"),
            }
        }
        setting
    }

    /// A pod that stands where it is told to.
    fn fill(&mut self, pod: &Value) {
        let (labels, mut spec) = (&pod["metadata"]["labels"], pod["spec"].clone());
        let on = spec.as_object_mut().expect("a spec").remove("nodeName").expect("it has its node");
        let manifest = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": pod["metadata"]["name"] },
            "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": spec } },
        });
        let id = self.scheduler.cache.add_kind(kind(&template(&manifest), None));
        let index = self.index(text(&on));
        self.scheduler.cache.place(id, index);
    }

    fn index(&self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).expect("a node of the case")
    }
}

/// Replays a case and says where it differs.
pub(crate) fn differences(case: &Case) -> Vec<String> {
    let mut differences = Vec::new();
    let mut setting = Setting::new(case);
    let pods: Vec<&Value> = list(&case.json["pods"]).iter().filter(|pod| !pod["rs"].is_null()).collect();
    for pod in &pods {
        differences
            .extend(decide(case, &mut setting, pod).into_iter().map(|text| format!("pod {}: {text}", pod["pod"])));
    }
    let order: Vec<u64> = pods.iter().map(|pod| pod["rs"].as_u64().expect("a set")).collect();
    let recorded: BTreeSet<Histogram> =
        list(&case.json["repeats"]).iter().map(|run| recorded_histogram(case, run)).collect();
    for seed in 0..SEEDS {
        let histogram = drawn_histogram(case, &order, seed);
        if !recorded.contains(&histogram) {
            differences.push(format!("with seed {seed} nodes get {histogram:?}; recorded are {recorded:?}"));
        }
    }
    differences
}

/// One decision, with the earlier pods where the recording has them.
fn decide(case: &Case, setting: &mut Setting, pod: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    let id = setting.kinds[&pod["rs"].as_u64().expect("a set")];
    let kind = setting.scheduler.cache.kind(id);
    let mut possible = match setting.scheduler.possible(&kind) {
        Ok(possible) => possible,
        Err(refused) => {
            let events = list(&case.json["events"]).iter();
            let mut told = events.filter(|event| event["type"] == "unschedulable" && event["pod"] == pod["pod"]);
            if !told.any(|event| event["message"] == refused.message.as_str()) {
                differences.push(format!("it is said: {}", refused.message));
            }
            if !pod["node"].is_null() {
                differences.push(format!("no node is possible, but it got {}", pod["node"]));
            }
            return differences;
        }
    };
    possible.sort_unstable();
    let Some(chosen) = pod["node"].as_str().map(|name| setting.index(name)) else {
        return vec![format!("it got no node, though {possible:?} are possible")];
    };
    setting.scheduler.cache.place(id, chosen);
    let Some(recorded) = list(&case.json["scores"]).iter().find(|row| row["pod"] == pod["pod"]) else {
        if possible != [chosen] {
            differences.push(format!("{possible:?} are possible, but there was no choice"));
        }
        return differences;
    };
    // As it was before the pod was there.
    setting.scheduler.cache.release(id, chosen, false);
    let scores = setting.scheduler.scores(&kind, &possible);
    setting.scheduler.cache.place(id, chosen);
    let named: BTreeSet<&str> = possible.iter().map(|index| setting.names[*index].as_str()).collect();
    let recorded_names: BTreeSet<&str> =
        recorded["total"].as_object().expect("totals").keys().map(String::as_str).collect();
    if named != recorded_names {
        return vec![format!("possible are {named:?}, not {recorded_names:?}")];
    }
    for (index, score) in possible.iter().zip(&scores) {
        let name = &setting.names[*index];
        for (plugin, by_node) in recorded["plugins"].as_object().expect("plugins") {
            let ours = match plugin.as_str() {
                "TaintToleration" => score.taints,
                "NodeAffinity" => score.node_affinity,
                "PodTopologySpread" => score.spread,
                "InterPodAffinity" => score.pod_affinity,
                "NodeResourcesLeastAllocated" => score.least_allocated,
                "NodeResourcesBalancedAllocation" => score.balanced,
                "ImageLocality" => score.images,
                CONSTANT => 1_000_000,
                other => panic!("nobody computes {other}"),
            };
            if by_node[name] != ours {
                differences.push(format!("{plugin} of {name}: {ours}, not {}", by_node[name]));
            }
        }
        let constant = recorded["plugins"][CONSTANT][name].as_i64().expect("a score");
        if recorded["total"][name] != score.total() + constant {
            differences.push(format!("total of {name}: {}, not {}", score.total() + constant, recorded["total"][name]));
        }
    }
    let best = scores.iter().map(gatedrill::cluster::scheduler::NodeScores::total).max();
    let place = possible.iter().position(|index| *index == chosen);
    if place.map(|place| scores[place].total()) != best {
        differences.push(format!("{} is not one of the best", pod["node"]));
    }
    differences
}

/// By set: how many pods each node got. Nodes that are equal stand in the order of their counts.
type Histogram = BTreeMap<u64, Vec<(String, Vec<usize>)>>;

/// What makes nodes equal: all but their names, and the pods of the set-up.
fn likeness(case: &Case, name: &str) -> String {
    let inputs = &case.json["inputs"];
    let node = list(&inputs["nodes"]).iter().find(|node| node["name"] == name).expect("a node of the case");
    let fillers = list(&inputs["setup"]).iter().filter(|step| step["manifest"]["spec"]["nodeName"] == name);
    let fillers: Vec<String> = fillers.map(|step| step["manifest"]["spec"]["containers"].to_string()).collect();
    format!("{} {} {} {} {fillers:?}", node["allocatable"], node["zone"], node["labels"], node["taints"])
}

fn histogram(case: &Case, placed: &[(u64, Option<String>)]) -> Histogram {
    let names: Vec<&str> = list(&case.json["inputs"]["nodes"]).iter().map(|node| text(&node["name"])).collect();
    let mut all = Histogram::new();
    for set in placed.iter().map(|(set, _)| *set).collect::<BTreeSet<u64>>() {
        let on = |name: &str| placed.iter().filter(|(of, node)| *of == set && node.as_deref() == Some(name)).count();
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for name in &names {
            groups.entry(likeness(case, name)).or_default().push(on(name));
        }
        for counts in groups.values_mut() {
            counts.sort_unstable();
        }
        all.insert(set, groups.into_iter().collect());
    }
    all
}

fn recorded_histogram(case: &Case, run: &Value) -> Histogram {
    let rows = list(&run["placement"]).iter().filter(|row| !row[1].is_null());
    let placed: Vec<(u64, Option<String>)> =
        rows.map(|row| (row[1].as_u64().expect("a set"), row[2].as_str().map(str::to_owned))).collect();
    histogram(case, &placed)
}

fn drawn_histogram(case: &Case, order: &[u64], seed: u64) -> Histogram {
    let mut setting = Setting::new(case);
    let mut ties = Streams::new(seed).stream("scheduler", &case.name);
    let mut placed = Vec::new();
    for set in order {
        let id = setting.kinds[set];
        let kind = setting.scheduler.cache.kind(id);
        let node = setting.scheduler.choose(&kind, &mut ties).ok();
        if let Some(index) = node {
            setting.scheduler.cache.place(id, index);
        }
        placed.push((*set, node.map(|index| setting.names[index].clone())));
    }
    histogram(case, &placed)
}
