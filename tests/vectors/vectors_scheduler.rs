//! Upstream's own tables for the scheduler's filters and scores: every case of every file.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;

use gatedrill::cluster::objects::{Node, Resources};
use gatedrill::cluster::placement::{
    InclusionPolicy, NodeAffinity, NodeOperator, NodeRequirement, NodeTerm, Placement, PodAffinity, PodTerm, Taint,
    TaintEffect, Toleration, TolerationValue, TopologySpread, Unasked, WhenUnsatisfiable,
};
use gatedrill::cluster::scheduler::pod_affinity::ScoreArguments;
use gatedrill::cluster::scheduler::resources::{Amounts, IgnoredResources, pod_requests};
use gatedrill::cluster::scheduler::rules::Balance;
use gatedrill::cluster::scheduler::spread::SpreadRules;
use gatedrill::cluster::scheduler::{Cache, PodKind, Verdict};
use gatedrill::cluster::scheduler::{node_affinity, pod_affinity, resources, spread, taints};
use gatedrill::cluster::selector::{LabelOperator, LabelRequirement, LabelSelector, Labels};
use serde_json::{Value, json};

/// Runs `check` over all cases of a file, which must be as many as it says; it is given the file, too.
fn each(file: &str, check: impl Fn(&Value, &Value)) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubernetes/vectors").join(file);
    let table: Value = serde_json::from_str(&fs::read_to_string(path).expect("the file is there")).expect("it is JSON");
    let cases = table["cases"].as_array().expect("it has cases");
    assert_eq!(Some(cases.len() as u64), table["count"].as_u64(), "{file}");
    for case in cases {
        check(case, &table);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(text).collect()
}

fn labels(value: &Value) -> Labels {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
}

/// An absent selector means nothing, an empty one everything.
fn selector(value: &Value) -> Option<LabelSelector> {
    let fields = value.as_object()?;
    for key in fields.keys() {
        assert!(["matchLabels", "matchExpressions"].contains(&key.as_str()), "nobody reads {key} of a selector");
    }
    let requirement = |value: &Value| LabelRequirement {
        key: text(&value["key"]),
        operator: match value["operator"].as_str().expect("an operator") {
            "In" => LabelOperator::In,
            "NotIn" => LabelOperator::NotIn,
            "Exists" => LabelOperator::Exists,
            "DoesNotExist" => LabelOperator::DoesNotExist,
            other => panic!("{other} is no operator"),
        },
        values: texts(&value["values"]),
    };
    Some(LabelSelector {
        match_labels: labels(&value["matchLabels"]),
        match_expressions: list(&value["matchExpressions"]).iter().map(requirement).collect(),
    })
}

fn node_term(value: &Value) -> NodeTerm {
    let requirement = |value: &Value| NodeRequirement {
        key: text(&value["key"]),
        operator: match value["operator"].as_str().expect("an operator") {
            "In" => NodeOperator::In,
            "NotIn" => NodeOperator::NotIn,
            "Exists" => NodeOperator::Exists,
            "DoesNotExist" => NodeOperator::DoesNotExist,
            "Gt" => NodeOperator::Gt,
            "Lt" => NodeOperator::Lt,
            other => panic!("{other} is no operator"),
        },
        values: texts(&value["values"]),
    };
    let all = |key: &str| list(&value[key]).iter().map(requirement).collect();
    NodeTerm { match_expressions: all("matchExpressions"), match_fields: all("matchFields") }
}

fn node_affinity_of(value: &Value) -> Option<NodeAffinity> {
    value.as_object()?;
    let required = value["required"].as_array().map(|terms| terms.iter().map(node_term).collect());
    let weighted = |value: &Value| (value["weight"].as_i64().expect("a weight"), node_term(value));
    Some(NodeAffinity { required, preferred: list(&value["preferred"]).iter().map(weighted).collect() })
}

fn pod_affinity_of(value: &Value) -> PodAffinity {
    let term = |value: &Value| PodTerm {
        topology_key: text(&value["topologyKey"]),
        selector: selector(&value["selector"]),
        namespaces: texts(&value["namespaces"]),
        namespace_selector: selector(&value["namespaceSelector"]),
        match_label_keys: Vec::new(),
        mismatch_label_keys: Vec::new(),
    };
    let weighted = |value: &Value| (value["weight"].as_i64().expect("a weight"), term(value));
    PodAffinity {
        required: list(&value["required"]).iter().map(term).collect(),
        preferred: list(&value["preferred"]).iter().map(weighted).collect(),
    }
}

fn effect(value: &Value) -> Option<TaintEffect> {
    let all = [TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule, TaintEffect::NoExecute];
    let name = value.as_str().unwrap_or_default();
    let found = all.into_iter().find(|effect| effect.name() == name);
    assert!(found.is_some() || name.is_empty(), "{name} is no effect");
    found
}

fn toleration(value: &Value) -> Toleration {
    let value_of = match value["operator"].as_str().unwrap_or_default() {
        "Exists" => TolerationValue::Exists,
        "Equal" | "" => TolerationValue::Equal(text(&value["value"])),
        other => panic!("{other} is no operator"),
    };
    Toleration { key: text(&value["key"]), value: value_of, effect: effect(&value["effect"]), seconds: None }
}

fn topology_spread(value: &Value) -> TopologySpread {
    let policy = |key: &str, usual| match value[key].as_str() {
        None => usual,
        Some("Honor") => InclusionPolicy::Honor,
        Some("Ignore") => InclusionPolicy::Ignore,
        Some(other) => panic!("{other} is no policy"),
    };
    TopologySpread {
        max_skew: i32::try_from(value["maxSkew"].as_i64().expect("a skew")).expect("a small number"),
        topology_key: text(&value["topologyKey"]),
        when_unsatisfiable: match value["whenUnsatisfiable"].as_str().expect("what happens") {
            "DoNotSchedule" => WhenUnsatisfiable::DoNotSchedule,
            "ScheduleAnyway" => WhenUnsatisfiable::ScheduleAnyway,
            other => panic!("{other} is not what happens"),
        },
        selector: selector(&value["selector"]),
        min_domains: value["minDomains"].as_i64().map(|number| i32::try_from(number).expect("a small number")),
        node_affinity_policy: policy("nodeAffinityPolicy", InclusionPolicy::Honor),
        node_taints_policy: policy("nodeTaintsPolicy", InclusionPolicy::Ignore),
        match_label_keys: texts(&value["matchLabelKeys"]),
    }
}

fn amounts(value: &Value) -> Amounts {
    let number = |value: &Value| value.as_u64().expect("an amount");
    let name = |key: &str| if key == "cpuMilli" { "cpu".to_owned() } else { key.to_owned() };
    value.as_object().into_iter().flatten().map(|(key, value)| (name(key), number(value))).collect()
}

fn split(mut all: Amounts) -> (Resources, BTreeMap<String, u64>) {
    let [cpu, memory] = ["cpu", "memory"].map(|name| all.remove(name).unwrap_or(0));
    (Resources { cpu_millicores: cpu, memory_bytes: memory }, all)
}

fn pod(value: &Value) -> PodKind {
    for key in value.as_object().expect("a pod").keys() {
        let known = [
            "name",
            "namespace",
            "labels",
            "nodeName",
            "nodeSelector",
            "containers",
            "initContainers",
            "overhead",
            "tolerations",
            "nodeAffinity",
            "podAffinity",
            "podAntiAffinity",
            "spreadConstraints",
            "terminating",
        ];
        assert!(known.contains(&key.as_str()), "nobody reads {key} of a pod");
    }
    let each = |key: &str| -> Vec<Amounts> { list(&value[key]).iter().map(amounts).collect() };
    let containers = each("containers");
    let without = |name: &str| {
        u32::try_from(containers.iter().filter(|container| !container.contains_key(name)).count()).expect("few")
    };
    let unasked = Unasked { cpu_containers: without("cpu"), memory_containers: without("memory") };
    let (requests, extended) = split(pod_requests(&containers, &each("initContainers"), &amounts(&value["overhead"])));
    PodKind {
        namespace: text(&value["namespace"]),
        labels: labels(&value["labels"]),
        requests,
        placement: Placement {
            node_selector: labels(&value["nodeSelector"]),
            node_affinity: node_affinity_of(&value["nodeAffinity"]).unwrap_or_default(),
            pod_affinity: pod_affinity_of(&value["podAffinity"]),
            pod_anti_affinity: pod_affinity_of(&value["podAntiAffinity"]),
            tolerations: list(&value["tolerations"]).iter().map(toleration).collect(),
            topology_spread: list(&value["spreadConstraints"]).iter().map(topology_spread).collect(),
            extended,
            unasked,
            ..Placement::default()
        },
        images: Vec::new(),
        peers: None,
    }
}

fn node(value: &Value) -> Node {
    for key in value.as_object().expect("a node").keys() {
        assert!(["name", "labels", "taints", "allocatable"].contains(&key.as_str()), "nobody reads {key} of a node");
    }
    let mut all = amounts(&value["allocatable"]);
    let pods_max = all.remove("pods").map_or(110, |number| usize::try_from(number).expect("a small number"));
    let (allocatable, extended) = split(all);
    let mut node = Node::new(Rc::from(text(&value["name"])), Ipv4Addr::LOCALHOST, Rc::from(""), allocatable);
    let taint = |value: &Value| Taint {
        key: text(&value["key"]),
        value: text(&value["value"]),
        effect: effect(&value["effect"]).expect("a taint has an effect"),
    };
    node.labels = labels(&value["labels"]);
    node.taints = list(&value["taints"]).iter().map(taint).collect();
    node.extended = extended;
    node.pods_max = pods_max;
    node
}

/// The nodes and the pods that are on them.
struct World {
    cache: Cache,
    names: Vec<String>,
}

fn world(nodes: &[&Value], pods: &Value, namespaces: &Value) -> World {
    let mut cache = Cache::default();
    let mut names = Vec::new();
    for (name, found) in namespaces.as_object().into_iter().flatten() {
        cache.put_namespace(name, labels(found));
    }
    for (index, value) in nodes.iter().enumerate() {
        cache.put_node(index, node(value));
        names.push(text(&value["name"]));
    }
    for value in list(pods) {
        // A pod on a node that nobody knows counts nowhere.
        let on = names.iter().position(|name| *name == text(&value["nodeName"]));
        let kind = cache.add_kind(pod(value));
        if let Some(index) = on {
            cache.place(kind, index);
            if value["terminating"] == true {
                cache.terminate(kind, index);
            }
        }
    }
    World { cache, names }
}

impl World {
    fn of(case: &Value, file: &Value) -> Self {
        world(&list(&case["nodes"]).iter().collect::<Vec<_>>(), &case["existingPods"], &file["namespaceLabels"])
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        (0..self.names.len()).map(|index| &self.cache.node(index).expect("it is there").node)
    }

    /// A number for each node by name.
    fn named(&self, scores: &[i64]) -> Value {
        assert!(scores.len() <= self.names.len());
        self.names
            .iter()
            .zip(scores)
            .map(|(name, score)| (name.clone(), json!(score)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    fn verdicts(&self, check: impl Fn(usize) -> Verdict) -> Value {
        let word = |index: usize| match check(index) {
            Verdict::Fits => "Success",
            Verdict::Unschedulable(_) => "Unschedulable",
            Verdict::Unresolvable(_) => "UnschedulableAndUnresolvable",
        };
        let named = self.names.iter().enumerate().map(|(index, name)| (name.clone(), json!(word(index))));
        named.collect::<serde_json::Map<_, _>>().into()
    }
}

#[test]
fn vectors_sched_resources_fit_filter() {
    each("sched_resources_fit_filter.json", |case, file| {
        let node = json!({ "name": "node", "allocatable": file["nodeAllocatable"] });
        let mut existing = case["existingPods"].clone();
        for pod in existing.as_array_mut().expect("a list") {
            pod["nodeName"] = json!("node");
        }
        let world = world(&[&node], &existing, &Value::Null);
        let ignored =
            IgnoredResources { names: texts(&case["ignoredResources"]), groups: texts(&case["ignoredResourceGroups"]) };
        let info = world.cache.node(0).expect("it is there");
        let mut missing: Vec<Value> = resources::insufficient(info, &pod(&case["pod"]), &ignored)
            .into_iter()
            .map(|it| {
                json!({ "resource": it.resource, "requested": it.requested, "used": it.used, "capacity": it.capacity })
            })
            .collect();
        let mut expected = list(&case["expected"]["insufficient"]).to_vec();
        for list in [&mut missing, &mut expected] {
            list.sort_by_key(ToString::to_string);
        }
        assert_eq!(missing, expected, "{case}");
        assert_eq!(case["expected"]["fits"], missing.is_empty(), "{case}");
    });
}

#[test]
fn vectors_sched_taint_toleration_filter() {
    each("sched_taint_toleration_filter.json", |case, _| {
        let is_free = taints::untolerated(&node(&case["node"]), &pod(&case["pod"]).placement).is_none();
        assert_eq!(case["expected"]["fits"], is_free, "{case}");
    });
}

#[test]
fn vectors_sched_taint_toleration_score() {
    each("sched_taint_toleration_score.json", |case, file| {
        let world = World::of(case, file);
        let scores = taints::scores(world.nodes(), &pod(&case["pod"]).placement);
        assert_eq!(world.named(&scores), case["expected"], "{case}");
    });
}

#[test]
fn vectors_sched_node_affinity_filter() {
    each("sched_node_affinity_filter.json", |case, _| {
        let added = node_affinity_of(&case["addedAffinity"]);
        let admits = node_affinity::admits(&node(&case["node"]), &pod(&case["pod"]).placement, added.as_ref());
        assert_eq!(case["expected"]["fits"], admits, "{case}");
    });
}

#[test]
fn vectors_sched_node_affinity_score() {
    each("sched_node_affinity_score.json", |case, file| {
        let world = World::of(case, file);
        let added = node_affinity_of(&case["addedAffinity"]);
        let scores = node_affinity::scores(world.nodes(), &pod(&case["pod"]).placement, added.as_ref());
        assert_eq!(world.named(&scores), case["expected"], "{case}");
    });
}

#[test]
fn vectors_sched_inter_pod_affinity_filter() {
    each("sched_inter_pod_affinity_filter.json", |case, file| {
        let world = World::of(case, file);
        let filter = pod_affinity::Filter::new(&world.cache, &pod(&case["pod"]));
        let verdicts = world.verdicts(|index| filter.as_ref().map_or(Verdict::Fits, |filter| filter.check(index)));
        assert_eq!(verdicts, case["expected"], "{case}");
    });
}

#[test]
fn vectors_sched_inter_pod_affinity_score() {
    each("sched_inter_pod_affinity_score.json", |case, file| {
        let world = World::of(case, file);
        let arguments = ScoreArguments {
            hard_weight: case["hardPodAffinityWeight"].as_i64().unwrap_or(1),
            heeds_others: case["ignorePreferredTermsOfExistingPods"] != true,
            counts_zero: false,
        };
        let candidates: Vec<usize> = (0..world.names.len()).collect();
        let scores = pod_affinity::scores(&world.cache, &pod(&case["pod"]), &candidates, arguments);
        assert_eq!(case["expected"]["skip"] == true, scores.is_none(), "{case}");
        if let Some(scores) = scores {
            assert_eq!(world.named(&scores), case["expected"]["scores"], "{case}");
        }
    });
}

/// The features of a case; what it does not name is as in v1.28.
fn spread_rules(case: &Value) -> SpreadRules {
    let is_on = |key: &str| case[key] != false;
    SpreadRules {
        has_inclusion_policies: is_on("nodeInclusionPolicyEnabled"),
        has_min_domains: is_on("minDomainsEnabled"),
        has_match_label_keys: is_on("matchLabelKeysEnabled"),
        default_needs_all_labels: false,
        is_full_without: false,
        rounds: true,
    }
}

#[test]
fn vectors_sched_topology_spread_filter() {
    each("sched_topology_spread_filter.json", |case, file| {
        let world = World::of(case, file);
        let filter = spread::Filter::new(&world.cache, &pod(&case["pod"]), spread_rules(case));
        let verdicts = world.verdicts(|index| filter.as_ref().map_or(Verdict::Fits, |filter| filter.check(index)));
        assert_eq!(verdicts, case["expected"], "{case}");
    });
}

#[test]
fn vectors_sched_topology_spread_score() {
    each("sched_topology_spread_score.json", |case, file| {
        let nodes: Vec<&Value> = list(&case["nodes"]).iter().chain(list(&case["failedNodes"])).collect();
        let world = world(&nodes, &case["existingPods"], &Value::Null);
        let mut pod = pod(&case["pod"]);
        let mut merged: Option<LabelSelector> = None;
        for service in list(&case["serviceSelectors"]).iter().map(labels) {
            if LabelSelector::of_labels(service.clone()).matches(&pod.labels) {
                merged.get_or_insert_default().match_labels.extend(service);
            }
        }
        pod.peers = merged;
        let defaults = json!([
            { "topologyKey": "kubernetes.io/hostname", "maxSkew": 3, "whenUnsatisfiable": "ScheduleAnyway" },
            { "topologyKey": "topology.kubernetes.io/zone", "maxSkew": 5, "whenUnsatisfiable": "ScheduleAnyway" },
        ]);
        assert_eq!(file["systemDefaultConstraints"], defaults, "the defaults are those of the scheduler");
        let candidates: Vec<usize> = (0..list(&case["nodes"]).len()).collect();
        let scores = spread::scores(&world.cache, &pod, &candidates, spread_rules(case));
        // Without a constraint nothing is scored, which is 0 for all.
        let scores = scores.unwrap_or_else(|| vec![0; candidates.len()]);
        assert_eq!(world.named(&scores), case["expected"], "{case}");
    });
}

#[test]
fn vectors_sched_least_allocated_score() {
    each("sched_least_allocated_score.json", |case, file| {
        let world = World::of(case, file);
        let pod = pod(&case["pod"]);
        let weights = list(&case["resources"]).iter();
        let names: Vec<(String, i64)> =
            weights.map(|it| (text(&it["name"]), it["weight"].as_i64().expect("a weight"))).collect();
        let names: Vec<(&str, i64)> = names.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
        let score = |index| resources::least_allocated(world.cache.node(index).expect("it is there"), &pod, &names);
        let scores: Vec<i64> = (0..world.names.len()).map(score).collect();
        assert_eq!(world.named(&scores), case["expected"], "{case}");
    });
}

#[test]
fn vectors_sched_balanced_allocation_score() {
    each("sched_balanced_allocation_score.json", |case, file| {
        let world = World::of(case, file);
        let pod = pod(&case["pod"]);
        let names: Vec<String> = list(&case["resources"]).iter().map(|it| text(&it["name"])).collect();
        assert!(list(&case["resources"]).iter().all(|it| it["weight"] == 1), "weights play no role");
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let info = |index| world.cache.node(index).expect("it is there");
        let score = |index| resources::balanced(info(index), &pod, &names, Balance::Deviation);
        let scores: Vec<i64> = (0..world.names.len()).map(score).collect();
        assert_eq!(world.named(&scores), case["expected"], "{case}");
    });
}
