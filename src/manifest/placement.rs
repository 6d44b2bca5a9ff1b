//! What pods ask of their nodes, as it is written: node selector, affinity, tolerations, spread constraints; and taints as nodes have them.
//!
//! Validation follows Kubernetes v1.28.7 pkg/apis/core/validation/validation.go (`ValidatePodTemplateSpec` and below: affinity, tolerations,
//! `validateTopologySpreadConstraints`) and staging/src/k8s.io/apimachinery/pkg/util/validation.

use std::collections::BTreeSet;

use super::problem::Place;
use super::read::{Field, Fields};
use super::selector::label_selector;
use crate::cluster::placement::{
    HOSTNAME, InclusionPolicy, NodeAffinity, NodeOperator, NodeRequirement, NodeTerm, Placement, PodAffinity, PodTerm,
    Taint, TaintEffect, Toleration, TolerationValue, TopologySpread, WhenUnsatisfiable, ZONE, is_label_value,
};
use crate::cluster::selector::Labels;
use crate::record::results::FidelityStatus;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// A label of nodes that a rule needs, and where that is written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TopologyKey {
    /// The label.
    pub key: String,
    /// Where.
    pub place: Place,
    /// The path of the key.
    pub path: String,
    /// What becomes of a pod if no node has it.
    pub without: WithoutKey,
}

/// What a rule comes to when no node has its label.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WithoutKey {
    /// The pod finds no node.
    Nowhere,
    /// The rule says nothing.
    Nothing,
}

/// What is written about a pod's place.
#[derive(Clone, Default, Debug)]
pub struct Written {
    /// What the scheduler gets.
    pub placement: Placement,
    /// The labels of nodes that it needs.
    pub topology_keys: Vec<TopologyKey>,
    /// Where it is written which nodes will do, if it is.
    pub nodes_at: Option<(Place, String)>,
}

/// Reads all of a pod's spec that concerns its node.
pub(super) fn read(spec: &Fields<'_>) -> Written {
    let mut written = read_custom(spec);
    if let Some(field) = spec.look("topologySpreadConstraints") {
        written.placement.topology_spread = constraints(&field, &mut written.topology_keys);
    }
    written
}

/// Reads what both a pod and an `IstioGateway` have: node selector, affinity, tolerations.
pub(super) fn read_custom(spec: &Fields<'_>) -> Written {
    let mut written = Written::default();
    let placement = &mut written.placement;
    if let Some(field) = spec.look("nodeSelector") {
        placement.node_selector = labels(&field);
        written.nodes_at = Some((field.place(), field.path().to_owned()));
        note(&field);
    }
    if let Some(fields) = spec.look("affinity").and_then(|field| field.fields()) {
        let keys = &mut written.topology_keys;
        if let Some(field) = fields.look("nodeAffinity") {
            placement.node_affinity = node_affinity(&field).unwrap_or_default();
            written.nodes_at.get_or_insert((field.place(), field.path().to_owned()));
        }
        if let Some(field) = fields.look("podAffinity") {
            placement.pod_affinity = pod_affinity(&field, WithoutKey::Nowhere, keys).unwrap_or_default();
        }
        if let Some(field) = fields.look("podAntiAffinity") {
            placement.pod_anti_affinity = pod_affinity(&field, WithoutKey::Nothing, keys).unwrap_or_default();
        }
        fields.finish();
    }
    if let Some(field) = spec.look("tolerations") {
        placement.tolerations = field.items().iter().filter_map(toleration).collect();
    }
    written
}

/// Notes a collection as simulated.
fn note(field: &Field<'_>) {
    if !field.node().is_empty() {
        field.note(FidelityStatus::Modelled, None);
    }
}

/// Labels, each with a name and a value that can be one.
pub(crate) fn labels(field: &Field<'_>) -> Labels {
    for (key, value) in field.map() {
        check_label_name(&value, key);
        if let Some(text) = value.text() {
            check_label_value(&value, text);
        }
    }
    field.text_map()
}

/// A label's name, or an annotation's, that stands as a key over `field`.
pub(super) fn check_label_name(field: &Field<'_>, name: &str) {
    if !is_label_name(name) {
        let help = "write letters, digits, `-`, `_` and `.`, at most 63, after an optional domain and `/`";
        field.refuse(format!("`{name}` is no label's name"), help);
    }
}

/// A label's value that stands in `field`.
pub(super) fn check_label_value(field: &Field<'_>, value: &str) {
    if !is_label_value(value) {
        field.refuse(
            format!("`{value}` is no label's value"),
            "write at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
        );
    }
}

/// Whether a text can be a label's name: `name`, or `domain/name`.
fn is_label_name(text: &str) -> bool {
    let is_part = |part: &str| {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(is_inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    let is_domain = |domain: &str| domain.len() <= 253 && domain.split('.').all(is_part);
    let (is_prefixed, name) = match text.split_once('/') {
        Some((domain, name)) => (is_domain(domain), name),
        None => (true, text),
    };
    is_prefixed && !name.is_empty() && is_label_value(name)
}

fn node_affinity(field: &Field<'_>) -> Option<NodeAffinity> {
    let fields = field.fields()?;
    let mut affinity = NodeAffinity::default();
    if let Some(required) = fields.look(REQUIRED).and_then(|field| field.fields()) {
        let terms = required.require("nodeSelectorTerms", "write at least one term");
        let items = terms.as_ref().map(|field| field.items()).unwrap_or_default();
        if let Some(field) = terms.filter(|_| items.is_empty()) {
            field.refuse(
                "no term is written, so no node would do",
                "write at least one term, or leave the affinity out",
            );
        }
        affinity.required = Some(items.iter().filter_map(node_term).collect());
        required.finish();
    }
    for item in fields.look(PREFERRED).map(|field| field.items()).unwrap_or_default() {
        let Some(inner) = item.fields() else { continue };
        let weight = weight(&inner);
        let preference = inner.require("preference", "write what a node should have: matchExpressions");
        let term = preference.and_then(|field| node_term(&field));
        inner.finish();
        affinity.preferred.extend(weight.zip(term));
    }
    fields.finish();
    Some(affinity)
}

fn weight(fields: &Fields<'_>) -> Option<i64> {
    fields.require("weight", "write a weight from 1 to 100").and_then(|field| field.integer(1, 100))
}

fn node_term(field: &Field<'_>) -> Option<NodeTerm> {
    let fields = field.fields()?;
    let all = |key: &str, read: fn(&Field<'_>) -> Option<NodeRequirement>| {
        let items = fields.look(key).map(|field| field.items()).unwrap_or_default();
        items.iter().filter_map(read).collect()
    };
    let term = NodeTerm {
        match_expressions: all("matchExpressions", label_requirement),
        match_fields: all("matchFields", field_requirement),
    };
    fields.finish();
    Some(term)
}

const NODE_OPERATORS: [(&str, NodeOperator); 6] = [
    ("In", NodeOperator::In),
    ("NotIn", NodeOperator::NotIn),
    ("Exists", NodeOperator::Exists),
    ("DoesNotExist", NodeOperator::DoesNotExist),
    ("Gt", NodeOperator::Gt),
    ("Lt", NodeOperator::Lt),
];

fn requirement(field: &Field<'_>, operators: &[(&str, NodeOperator)]) -> Option<NodeRequirement> {
    let fields = field.fields()?;
    let key = fields.require("key", "write the name of the label").and_then(|field| field.text().map(str::to_owned));
    let operator = fields.require("operator", "write In, NotIn, Exists, DoesNotExist, Gt or Lt");
    let operator = operator.and_then(|field| field.choice(operators));
    let values = fields.look("values").map(|field| field.texts()).unwrap_or_default();
    fields.finish();
    note(field);
    Some(NodeRequirement { key: key?, operator: operator?, values })
}

fn label_requirement(field: &Field<'_>) -> Option<NodeRequirement> {
    let found = requirement(field, &NODE_OPERATORS)?;
    check_label_name(field, &found.key);
    let values = found.values.len();
    let (is_right, help) = match found.operator {
        NodeOperator::In | NodeOperator::NotIn => (values > 0, "write one value or more"),
        NodeOperator::Exists | NodeOperator::DoesNotExist => (values == 0, "leave the values out"),
        NodeOperator::Gt | NodeOperator::Lt => (values == 1, "write one whole number, in quotes"),
    };
    let is_number = !matches!(found.operator, NodeOperator::Gt | NodeOperator::Lt)
        || found.values.iter().all(|value| value.parse::<i64>().is_ok());
    if !is_right || !is_number {
        let name = NODE_OPERATORS.iter().find(|(_, known)| *known == found.operator).map_or("", |(name, _)| *name);
        field.refuse(format!("`{name}` does not go with {values} such values"), help);
        return None;
    }
    Some(found)
}

fn field_requirement(field: &Field<'_>) -> Option<NodeRequirement> {
    let found = requirement(field, &NODE_OPERATORS[..2])?;
    if found.key != "metadata.name" {
        field.refuse(format!("`{}` is no field that can be asked for", found.key), "write metadata.name");
        return None;
    }
    if found.values.len() != 1 {
        field.refuse("a field is compared with one value", "write one value, or one term for each");
        return None;
    }
    Some(found)
}

fn pod_affinity(field: &Field<'_>, without: WithoutKey, keys: &mut Vec<TopologyKey>) -> Option<PodAffinity> {
    let fields = field.fields()?;
    let mut affinity = PodAffinity::default();
    for item in fields.look(REQUIRED).map(|field| field.items()).unwrap_or_default() {
        affinity.required.extend(pod_term(&item, without, keys));
    }
    for item in fields.look(PREFERRED).map(|field| field.items()).unwrap_or_default() {
        let Some(inner) = item.fields() else { continue };
        let weight = weight(&inner);
        let term = inner.require("podAffinityTerm", "write which pods are meant: labelSelector and topologyKey");
        let term = term.and_then(|field| pod_term(&field, WithoutKey::Nothing, keys));
        inner.finish();
        affinity.preferred.extend(weight.zip(term));
    }
    fields.finish();
    Some(affinity)
}

fn pod_term(field: &Field<'_>, without: WithoutKey, keys: &mut Vec<TopologyKey>) -> Option<PodTerm> {
    let fields = field.fields()?;
    // Without a selector a term means no pod at all.
    let selector = fields.look("labelSelector").map(|field| label_selector(&field));
    let namespaces = fields.look("namespaces").map(|field| field.texts()).unwrap_or_default();
    let namespace_selector = fields.look("namespaceSelector").map(|field| label_selector(&field));
    let key = topology_key(&fields, without, keys);
    let [like, unlike] = ["matchLabelKeys", "mismatchLabelKeys"].map(|key| label_keys(&fields, key));
    fields.finish();
    note(field);
    Some(PodTerm {
        topology_key: key?,
        selector: transposed(selector)?,
        namespaces,
        namespace_selector: transposed(namespace_selector)?,
        match_label_keys: like?,
        mismatch_label_keys: unlike?,
    })
}

/// None if what is written could not be read.
#[expect(clippy::option_option, reason = "absent, and there but wrong, are two things")]
fn transposed<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

fn topology_key(fields: &Fields<'_>, without: WithoutKey, keys: &mut Vec<TopologyKey>) -> Option<String> {
    let help = "write the label of nodes that makes a domain: kubernetes.io/hostname, or topology.kubernetes.io/zone";
    let field = fields.require("topologyKey", help)?;
    let text = field.text()?;
    if text.is_empty() || !is_label_name(text) {
        field.refuse(format!("`{text}` is no label of nodes"), help);
        return None;
    }
    let (place, path, key) = (field.place(), field.path().to_owned(), text.to_owned());
    keys.push(TopologyKey { key: key.clone(), place, path, without });
    Some(key)
}

/// Labels of the pod that make part of a selector: which there must be, then.
fn label_keys(fields: &Fields<'_>, name: &str) -> Option<Vec<String>> {
    let Some(field) = fields.look(name) else { return Some(Vec::new()) };
    let keys = field.texts();
    if fields.look("labelSelector").is_none() && !keys.is_empty() {
        field.refuse(format!("`{name}` needs a labelSelector"), "write the labelSelector that it adds to");
        return None;
    }
    for (item, key) in field.items().iter().zip(&keys) {
        check_label_name(item, key);
    }
    Some(keys)
}

const EFFECTS: [(&str, TaintEffect); 3] = [
    ("NoSchedule", TaintEffect::NoSchedule),
    ("PreferNoSchedule", TaintEffect::PreferNoSchedule),
    ("NoExecute", TaintEffect::NoExecute),
];

fn toleration(field: &Field<'_>) -> Option<Toleration> {
    let fields = field.fields()?;
    let key = fields.look("key").map_or(Some(""), |field| field.text())?;
    let exists = fields.look("operator").map_or(Some(false), |field| {
        if field.node().text() == Some("") {
            return Some(false);
        }
        field.choice(&[("Exists", true), ("Equal", false)])
    });
    let value_field = fields.look("value");
    let value = value_field.as_ref().map_or(Some(""), |field| field.text())?;
    let effect_field = fields.look("effect").filter(|field| field.node().text() != Some(""));
    let effect = effect_field.as_ref().map(|field| field.choice(&EFFECTS));
    let seconds_field = fields.look("tolerationSeconds");
    let seconds = seconds_field.as_ref().map(|field| field.integer(i64::MIN, i64::MAX));
    fields.finish();
    let (exists, effect, seconds) = (exists?, transposed(effect)?, transposed(seconds)?);
    if !key.is_empty() {
        check_label_name(field, key);
    } else if !exists {
        field.refuse("a toleration without a key is one of all taints", "write operator: Exists, or a key");
        return None;
    }
    if let Some(value_field) = value_field.filter(|_| exists && !value.is_empty()) {
        value_field
            .refuse("with operator Exists any value is tolerated", "leave the value out, or write operator: Equal");
        return None;
    }
    if let Some(field) = seconds_field.filter(|_| effect != Some(TaintEffect::NoExecute)) {
        field.refuse(
            "tolerationSeconds are for taints that drive pods away",
            "write effect: NoExecute, or leave it out",
        );
        return None;
    }
    if !exists {
        check_label_value(field, value);
    }
    note(field);
    let value = if exists { TolerationValue::Exists } else { TolerationValue::Equal(value.to_owned()) };
    Some(Toleration { key: key.to_owned(), value, effect, seconds })
}

/// Reads a node's taint.
pub(crate) fn taint(field: &Field<'_>) -> Option<Taint> {
    let fields = field.fields()?;
    let key_field = fields.require("key", "write the taint's name");
    let key = key_field.as_ref().and_then(|field| field.text());
    let value_field = fields.get("value");
    let value = value_field.as_ref().map_or(Some(""), |field| field.text());
    let effect = fields.require("effect", "write NoSchedule, PreferNoSchedule or NoExecute");
    let effect = effect.and_then(|field| field.choice(&EFFECTS));
    fields.finish();
    if let (Some(field), Some(key)) = (key_field, key) {
        check_label_name(&field, key);
    }
    if let (Some(field), Some(value)) = (value_field, value) {
        check_label_value(&field, value);
    }
    Some(Taint { key: key?.to_owned(), value: value?.to_owned(), effect: effect? })
}

fn constraints(field: &Field<'_>, keys: &mut Vec<TopologyKey>) -> Vec<TopologySpread> {
    let mut known = BTreeSet::new();
    let mut all = Vec::new();
    for item in field.items() {
        let Some(constraint) = constraint(&item, keys) else { continue };
        let is_hard = constraint.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule;
        if !known.insert((constraint.topology_key.clone(), is_hard)) {
            item.refuse(
                format!("a second constraint over `{}` of the same strictness", constraint.topology_key),
                "write one constraint for each topologyKey and whenUnsatisfiable",
            );
        }
        all.push(constraint);
    }
    all
}

fn constraint(field: &Field<'_>, keys: &mut Vec<TopologyKey>) -> Option<TopologySpread> {
    let fields = field.fields()?;
    let max_skew = fields.require("maxSkew", "write by how many pods domains may differ, 1 or more");
    let max_skew = max_skew.and_then(|field| field.whole(1, i64::from(i32::MAX)));
    let when = fields.require("whenUnsatisfiable", "write DoNotSchedule or ScheduleAnyway");
    let when = when.and_then(|field| {
        field.choice(&[
            ("DoNotSchedule", WhenUnsatisfiable::DoNotSchedule),
            ("ScheduleAnyway", WhenUnsatisfiable::ScheduleAnyway),
        ])
    });
    let without = match when {
        Some(WhenUnsatisfiable::DoNotSchedule) => WithoutKey::Nowhere,
        _ => WithoutKey::Nothing,
    };
    let key = topology_key(&fields, without, keys);
    let selector = fields.look("labelSelector").map(|field| label_selector(&field));
    let min_domains_field = fields.get("minDomains");
    let min_domains = min_domains_field.as_ref().map(|field| field.whole(1, i64::from(i32::MAX)));
    let policy = |key: &str, usual| {
        let words = [("Honor", InclusionPolicy::Honor), ("Ignore", InclusionPolicy::Ignore)];
        fields.get(key).map_or(Some(usual), |field| field.choice(&words))
    };
    let affinity_policy = policy("nodeAffinityPolicy", InclusionPolicy::Honor);
    let taints_policy = policy("nodeTaintsPolicy", InclusionPolicy::Ignore);
    let match_label_keys = label_keys(&fields, "matchLabelKeys");
    fields.finish();
    note(field);
    if let Some(field) = min_domains_field.filter(|_| when == Some(WhenUnsatisfiable::ScheduleAnyway)) {
        field.refuse(
            "minDomains is for constraints that must hold",
            "write whenUnsatisfiable: DoNotSchedule, or leave it out",
        );
        return None;
    }
    Some(TopologySpread {
        max_skew: max_skew?,
        topology_key: key?,
        when_unsatisfiable: when?,
        selector: transposed(selector)?,
        min_domains: transposed(min_domains)?,
        node_affinity_policy: affinity_policy?,
        node_taints_policy: taints_policy?,
        match_label_keys: match_label_keys?,
    })
}

/// The labels that every node has, whatever a scenario says. Source: Kubernetes "Well-Known Labels, Annotations and Taints", as an ACK
/// node on x86 has them.
#[must_use]
pub fn usual_node_labels(name: &str, zone: &str) -> Labels {
    let all = [
        (HOSTNAME, name),
        (ZONE, zone),
        ("failure-domain.beta.kubernetes.io/zone", zone),
        ("kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/arch", "amd64"),
    ];
    all.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Dialect, Sink, yaml};

    fn spec(text: &str) -> (Written, Vec<String>) {
        let sink = Sink::default();
        let (documents, problems) = yaml::parse(text, 0);
        assert!(problems.is_empty(), "{problems:?}");
        let root = Field::root(&sink, Dialect::Kubernetes, "", &documents[0]);
        let fields = root.fields().expect("a map");
        let written = read(&fields);
        fields.finish();
        (written, sink.take_problems().iter().map(|problem| format!("{problem:?}")).collect())
    }

    #[test]
    fn what_the_api_server_takes_is_read_whole() {
        let (written, problems) = spec(
            "
nodeSelector: { disk: ssd, kubernetes.io/os: linux }
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions: [ { key: cores, operator: Gt, values: [\"8\"] }, { key: old, operator: DoesNotExist } ]
        - matchFields: [ { key: metadata.name, operator: In, values: [node-1] } ]
    preferredDuringSchedulingIgnoredDuringExecution:
      - { weight: 7, preference: { matchExpressions: [ { key: tier, operator: NotIn, values: [a, b] } ] } }
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - { topologyKey: topology.kubernetes.io/zone, labelSelector: { matchLabels: { app: db } }, namespaces: [data] }
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm: { topologyKey: rack, labelSelector: {}, namespaceSelector: {}, matchLabelKeys: [app] }
tolerations:
  - { key: dedicated, value: edge, effect: NoSchedule }
  - { operator: Exists, effect: NoExecute, tolerationSeconds: 60 }
topologySpreadConstraints:
  - { maxSkew: 2, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, minDomains: 3,
      labelSelector: { matchExpressions: [ { key: app, operator: Exists } ] }, nodeTaintsPolicy: Honor, matchLabelKeys: [tier] }
",
        );
        assert_eq!(problems, [] as [&str; 0]);
        let placement = written.placement;
        assert_eq!(placement.node_selector.len(), 2);
        let terms = placement.node_affinity.required.as_ref().unwrap();
        assert_eq!((terms.len(), terms[0].match_expressions.len(), terms[1].match_fields.len()), (2, 2, 1));
        assert_eq!(placement.node_affinity.preferred[0].0, 7);
        assert_eq!(placement.pod_affinity.required[0].namespaces, ["data"]);
        let (weight, term) = &placement.pod_anti_affinity.preferred[0];
        assert_eq!((*weight, term.selector.as_ref().map(|it| it.is_empty())), (100, Some(true)));
        assert!(term.namespace_selector.is_some() && term.match_label_keys == ["app"]);
        assert_eq!(placement.tolerations[1].seconds, Some(60));
        let spread = &placement.topology_spread[0];
        assert_eq!(
            (spread.max_skew, spread.min_domains, spread.node_taints_policy),
            (2, Some(3), InclusionPolicy::Honor)
        );
        let keys: Vec<_> = written.topology_keys.iter().map(|key| (key.key.as_str(), key.without)).collect();
        let [nowhere, nothing] = [WithoutKey::Nowhere, WithoutKey::Nothing];
        assert_eq!(keys, [(ZONE, nowhere), ("rack", nothing), (HOSTNAME, nowhere)]);
        // Pods get the values of their own labels into the selector.
        let labels = Labels::from([("app".to_owned(), "edge".to_owned())]);
        let own = placement.for_pods_with(&labels);
        let selector = own.pod_anti_affinity.preferred[0].1.selector.as_ref().unwrap();
        assert!(selector.matches(&labels) && !selector.matches(&Labels::new()));
    }

    #[test]
    fn what_the_api_server_refuses_is_refused() {
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        let node = |inner: &str| {
            format!("affinity: {{ nodeAffinity: {{ {required}: {{ nodeSelectorTerms: [ {{ {inner} }} ] }} }} }}")
        };
        let apart = |inner: &str| format!("affinity: {{ podAntiAffinity: {{ {inner} }} }}");
        let spread = |inner: &str| format!("topologySpreadConstraints: [ {{ {inner} }} ]");
        let usual = "topologyKey: zone, labelSelector: {}";
        for (text, expected) in [
            ("nodeSelector: { \"-a\": b }".to_owned(), "`-a` is no label's name"),
            ("nodeSelector: { a: \"b c\" }".to_owned(), "`b c` is no label's value"),
            ("nodeSelector: { A_b.io/a: b }".to_owned(), "`A_b.io/a` is no label's name"),
            (
                format!("affinity: {{ nodeAffinity: {{ {required}: {{ nodeSelectorTerms: [] }} }} }}"),
                "no term is written",
            ),
            (node("matchExpressions: [ { key: a, operator: Is, values: [b] } ]"), "`Is` is not known here"),
            (node("matchExpressions: [ { key: a, operator: In } ]"), "`In` does not go with 0 such values"),
            (node("matchExpressions: [ { key: a, operator: Exists, values: [b] } ]"), "`Exists` does not go with 1"),
            (node("matchExpressions: [ { key: a, operator: Gt, values: [\"1\", \"2\"] } ]"), "`Gt` does not go with 2"),
            (
                node("matchFields: [ { key: metadata.uid, operator: In, values: [b] } ]"),
                "no field that can be asked for",
            ),
            (node("matchFields: [ { key: metadata.name, operator: In, values: [b, c] } ]"), "compared with one value"),
            (apart(&format!("{preferred}: [ {{ weight: 0, podAffinityTerm: {{ {usual} }} }} ]")), "weight"),
            (apart(&format!("{preferred}: [ {{ weight: 101, podAffinityTerm: {{ {usual} }} }} ]")), "weight"),
            (apart(&format!("{preferred}: [ {{ weight: 1 }} ]")), "podAffinityTerm"),
            (apart(&format!("{required}: [ {{ labelSelector: {{}} }} ]")), "topologyKey"),
            (
                apart(&format!("{required}: [ {{ topologyKey: \"\", labelSelector: {{}} }} ]")),
                "`` is no label of nodes",
            ),
            (apart(&format!("{required}: [ {{ topologyKey: zone, matchLabelKeys: [a] }} ]")), "needs a labelSelector"),
            ("tolerations: [ { value: b } ]".to_owned(), "without a key is one of all taints"),
            ("tolerations: [ { key: a, operator: Exists, value: b } ]".to_owned(), "any value is tolerated"),
            ("tolerations: [ { key: a, effect: Never } ]".to_owned(), "`Never` is not known here"),
            ("tolerations: [ { key: a, tolerationSeconds: 5 } ]".to_owned(), "taints that drive pods away"),
            (spread("maxSkew: 0, topologyKey: zone, whenUnsatisfiable: DoNotSchedule"), "maxSkew"),
            (spread("maxSkew: 1, topologyKey: zone"), "whenUnsatisfiable"),
            (spread("maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, minDomains: 2"), "must hold"),
            (
                "topologySpreadConstraints: [ { maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule }, \
                 { maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule } ]"
                    .to_owned(),
                "a second constraint over `zone`",
            ),
        ] {
            let (_, problems) = spec(&text);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{expected}: {text}: {problems:?}");
        }
    }
}
