//! `HorizontalPodAutoscaler`s, `autoscaling/v2`, `v2beta2` (whose fields are the same), `v2beta1` and `v1`, checked as the API server checks them. Whether a cluster has a
//! version is said in [`super::api_versions`].
//!
//! Defaults: 1 pod at least, CPU at 80 % of what is requested, and `behavior`'s of [`crate::cluster::autoscaler::behavior`] for what it leaves out.
//! Not simulated: targets other than Deployments.
//! Source: Kubernetes pkg/apis/autoscaling/{validation/validation.go, v1/defaults.go, v2/defaults.go}.

mod v2beta1;

use std::rc::Rc;

use super::object::{Object, ObjectId};
use super::problem::{Place, Problem};
use super::read::{Field, Fields, Sink};
use super::selector::label_selector;
use super::yaml::Node;
use crate::cluster::autoscaler::behavior::{Amount, Policy, SelectPolicy};
use crate::cluster::autoscaler::{
    AutoscalerSpec, Behavior, Metric, MetricId, ResourceName, ResourceTarget, ScalingRules, ValueTarget,
};
use crate::cluster::selector::LabelSelector;
use crate::record::results::FidelityStatus;

/// The API group.
pub const AUTOSCALING: &str = "autoscaling";
/// What a metric comes to where none is written. Source: v1 and v2 defaults, `DefaultCPUUtilization`.
const CPU_PERCENT: i32 = 80;
/// Source: validation `MaxStabilizationWindowSeconds`.
const WINDOW_MAX: i64 = 3600;
/// Source: validation `MaxPeriodSeconds`.
const PERIOD_MAX: i64 = 1800;

/// An autoscaler, with the places of what may have to be told about.
#[derive(Clone, Debug)]
pub struct AutoscalerManifest {
    /// What the cluster gets.
    pub spec: AutoscalerSpec,
    /// Where it stands.
    pub at: Place,
    /// Where its metrics stand, one each.
    pub metrics_at: Vec<Place>,
    /// How it is named in notes.
    pub prefix: String,
}

/// Reads an autoscaler; none, and a note, if its target is no Deployment.
pub fn read(object: &Object, sink: &Sink) -> Option<AutoscalerManifest> {
    let prefix = object.prefix();
    let version = object.node.find(&["apiVersion"]).and_then(Node::text).unwrap_or_default();
    let is_first = version == "autoscaling/v1";
    let is_beta = version == "autoscaling/v2beta1";
    if !is_first && !is_beta && !["autoscaling/v2", "autoscaling/v2beta2"].contains(&version) {
        let place = object.node.entry("apiVersion").map_or(object.place(), |entry| entry.node.at);
        let problem = Problem::at(place, "apiVersion", format!("`{version}` is no version whose fields are read"));
        sink.report(problem.help("write autoscaling/v2"));
        return None;
    }
    let fields = object.open(sink, &prefix)?;
    let spec = fields.look("spec");
    fields.finish();
    let Some(spec) = spec.and_then(|spec| spec.fields()) else {
        fields.missing("spec", "a HorizontalPodAutoscaler has a spec");
        return None;
    };
    let before = sink.problem_count();
    let target = target(&spec);
    let least = spec.get("minReplicas").map_or(Some(1), |field| field.whole::<i32>(1, i64::from(i32::MAX)));
    let most_field = spec.get("maxReplicas");
    if most_field.is_none() {
        spec.missing("maxReplicas", "say how many pods there may be at most");
    }
    let most = most_field.as_ref().and_then(|field| field.whole::<i32>(1, i64::from(i32::MAX)));
    if let (Some(least), Some(most), Some(field)) = (least, most, &most_field)
        && least > most
    {
        field
            .refuse(format!("minReplicas {least} is above maxReplicas {most}"), "make minReplicas at most maxReplicas");
    }
    let at = object.place();
    let (mut metrics, mut metrics_at) = (Vec::new(), Vec::new());
    let mut behavior = None;
    if is_first {
        if let Some(field) = spec.get("targetCPUUtilizationPercentage") {
            metrics.extend(field.whole(1, i64::from(i32::MAX)).map(cpu));
            metrics_at.push(field.place());
        }
    } else {
        for item in spec.look("metrics").map(|field| field.items()).unwrap_or_default() {
            metrics.extend(if is_beta { v2beta1::metric(&item) } else { metric(&item) });
            metrics_at.push(item.place());
        }
        if !is_beta {
            behavior = spec.look("behavior").and_then(|field| read_behavior(&field));
        }
    }
    if metrics_at.is_empty() {
        metrics.push(cpu(CPU_PERCENT));
        metrics_at.push(at);
    }
    spec.finish();
    if sink.problem_count() > before {
        return None;
    }
    let target = format!("{}/{}", object.id.namespace, target?);
    let spec = AutoscalerSpec {
        key: Rc::from(object.key()),
        target: Rc::from(target),
        min_replicas: least?,
        max_replicas: most?,
        metrics,
        behavior,
    };
    Some(AutoscalerManifest { spec, at, metrics_at, prefix })
}

/// An autoscaler as an object: what ASM makes for a gateway, between `least` and `most` pods, for the targets in hundredths.
pub(super) fn make(
    target: &ObjectId,
    (least, most): (Node, Node),
    utilization: Vec<(&str, Node)>,
    metadata: Node,
    at: Place,
) -> Object {
    let text = |value: &str| Node::string(Place::NOWHERE, value);
    let map = |entries: Vec<(&str, Node)>| Node::map(at, entries);
    let metric = |(resource, percent): (&str, Node)| {
        let place = percent.at;
        let target = map(vec![("type", text("Utilization")), ("averageUtilization", percent)]);
        let resource = map(vec![("name", text(resource)), ("target", target)]);
        let mut metric = map(vec![("type", text("Resource")), ("resource", resource)]);
        metric.at = if place.is_written() { place } else { at };
        metric
    };
    let reference =
        map(vec![("apiVersion", text("apps/v1")), ("kind", text("Deployment")), ("name", text(&target.name))]);
    let spec = map(vec![
        ("scaleTargetRef", reference),
        ("minReplicas", least),
        ("maxReplicas", most),
        ("metrics", Node::list(at, utilization.into_iter().map(metric).collect())),
    ]);
    let node = map(vec![
        ("apiVersion", text("autoscaling/v2")),
        ("kind", text("HorizontalPodAutoscaler")),
        ("metadata", metadata),
        ("spec", spec),
    ]);
    let id = ObjectId {
        kind: "HorizontalPodAutoscaler".to_owned(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        group: AUTOSCALING.to_owned(),
    };
    Object { id, node }
}

fn cpu(percent: i32) -> Metric {
    Metric::Resource { resource: ResourceName::Cpu, container: None, target: ResourceTarget::Utilization(percent) }
}

/// The Deployment's name.
fn target(spec: &Fields<'_>) -> Option<String> {
    let Some(field) = spec.look("scaleTargetRef") else {
        spec.missing("scaleTargetRef", "name what is to be sized: { apiVersion: apps/v1, kind: Deployment, name: … }");
        return None;
    };
    let fields = field.fields()?;
    let text = |key: &str| {
        let found = fields.get(key);
        if found.is_none() {
            fields.missing(key, "write apiVersion, kind and name of what is to be sized");
        }
        Some(found?.text()?.to_owned())
    };
    let (kind, name) = (text("kind"), text("name"));
    fields.allow(&["apiVersion"]);
    fields.finish();
    let (kind, name) = (kind?, name?);
    if kind == "DaemonSet" {
        let text = "a DaemonSet has no size: the controller reports FailedGetScale (the server could not find the requested resource) and sizes nothing";
        field.overrule(FidelityStatus::Warning, text);
        return None;
    }
    if kind != "Deployment" {
        spec.ignore(&["scaleTargetRef"], "only Deployments are sized here");
        return None;
    }
    Some(name)
}

/// A metric's type, and what stands under the key of that type.
fn source_of<'a>(field: &Field<'a>) -> Option<(&'static str, Fields<'a>)> {
    let fields = field.fields()?;
    let Some(kind) = fields.get("type") else {
        fields.missing("type", "write Resource, ContainerResource, Pods, Object or External");
        return None;
    };
    let kinds = ["Resource", "ContainerResource", "Pods", "Object", "External"].map(|kind| (kind, kind));
    let kind = kind.choice(&kinds)?;
    let key = match kind {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        _ => "external",
    };
    let Some(source) = fields.look(key) else {
        fields.missing(key, &format!("a metric of type {kind} says here what it looks at"));
        return None;
    };
    fields.finish();
    Some((kind, source.fields()?))
}

fn metric(field: &Field<'_>) -> Option<Metric> {
    let (kind, source) = source_of(field)?;
    let metric = match kind {
        "Resource" | "ContainerResource" => {
            let resource = resource(&source);
            let container = if kind == "Resource" {
                None
            } else {
                let found = source.get("container");
                if found.is_none() {
                    source.missing("container", "name the container");
                }
                Some(Rc::from(found?.text()?))
            };
            let target = resource_target(&source);
            source.finish();
            Metric::Resource { resource: resource?, container, target: target? }
        }
        "Pods" => {
            let (metric, target) = (name(&source), value_target(&source, true));
            source.finish();
            match target? {
                ValueTarget::AverageMilli(average_milli) => Metric::Pods { metric: metric?, average_milli },
                ValueTarget::ValueMilli(_) => unreachable!("a Pods metric has an average only"),
            }
        }
        "Object" => {
            let object = described(&source);
            let (metric, target) = (name(&source), value_target(&source, false));
            source.finish();
            Metric::Object { metric: metric?, object: object?, target: target? }
        }
        _ => {
            let (metric, target) = (name(&source), value_target(&source, false));
            source.finish();
            Metric::External { metric: metric?, target: target? }
        }
    };
    Some(metric)
}

fn resource(source: &Fields<'_>) -> Option<ResourceName> {
    let Some(field) = source.get("name") else {
        source.missing("name", "write cpu or memory");
        return None;
    };
    match field.text()? {
        "cpu" => Some(ResourceName::Cpu),
        "memory" => Some(ResourceName::Memory),
        other => {
            field.refuse(format!("`{other}` is no resource that has a use here"), "write cpu or memory");
            None
        }
    }
}

/// The name of a metric, and the labels of the series that are meant.
///
/// The API server looks at the name alone; a selector that cannot be read would fail at every sync.
fn name(source: &Fields<'_>) -> Option<MetricId> {
    let Some(field) = source.look("metric") else {
        source.missing("metric", "name the metric: metric: { name: … }");
        return None;
    };
    let fields = field.fields()?;
    let name = fields.get("name");
    if name.is_none() {
        fields.missing("name", "name the metric");
    }
    let selector = fields.get("selector");
    fields.finish();
    metric_id(&name?, selector.as_ref())
}

fn metric_id(name: &Field<'_>, selector: Option<&Field<'_>>) -> Option<MetricId> {
    let selector = selector.map_or(Some(LabelSelector::default()), label_selector);
    let text = name.text()?;
    if matches!(text, "" | "." | "..") || text.contains(['/', '%']) {
        name.refuse(
            format!("`{text}` is no name of a metric"),
            "it is part of a path: no `/`, no `%`, not `.` or `..`",
        );
        return None;
    }
    Some(MetricId { name: Rc::from(text), selector: selector? })
}

/// `describedObject`.
fn described(source: &Fields<'_>) -> Option<Rc<str>> {
    let Some(field) = source.look("describedObject") else {
        source.missing("describedObject", "name the object: { apiVersion: …, kind: …, name: … }");
        return None;
    };
    reference(&field)
}

/// An object, as `Kind/name`.
fn reference(field: &Field<'_>) -> Option<Rc<str>> {
    let fields = field.fields()?;
    let text = |key: &str| {
        let found = fields.get(key);
        if found.is_none() {
            fields.missing(key, "an object has a kind and a name");
        }
        found?.text()
    };
    let (kind, name) = (text("kind"), text("name"));
    fields.allow(&["apiVersion"]);
    fields.finish();
    Some(Rc::from(format!("{}/{}", kind?, name?)))
}

/// The parts of `target`, each only if it is written.
struct Target<'a> {
    field: Field<'a>,
    utilization: Option<i32>,
    value: Option<i64>,
    average: Option<i64>,
}

fn open_target<'a>(source: &Fields<'a>) -> Option<Target<'a>> {
    let Some(field) = source.look("target") else {
        source.missing("target", "say what it should come to: target: { type: …, … }");
        return None;
    };
    let fields = field.fields()?;
    let kinds = ["Utilization", "Value", "AverageValue"].map(|kind| (kind, kind));
    match fields.get("type") {
        Some(kind) => drop(kind.choice(&kinds)),
        None => fields.missing("type", "write Utilization, Value or AverageValue"),
    }
    let quantity = |key: &str| {
        let field = fields.get(key)?;
        let milli = field.millis()?;
        if milli == 0 {
            field.refuse("it must be above 0", "write a quantity such as 500m");
            return None;
        }
        Some(i64::try_from(milli).unwrap_or(i64::MAX))
    };
    let utilization = fields.get("averageUtilization").and_then(|field| field.whole(1, i64::from(i32::MAX)));
    let (value, average) = (quantity("value"), quantity("averageValue"));
    fields.finish();
    Some(Target { field, utilization, value, average })
}

/// Of a resource: a share of what is requested, or an amount per pod.
fn resource_target(source: &Fields<'_>) -> Option<ResourceTarget> {
    let before = source.sink().problem_count();
    let target = open_target(source)?;
    match (target.utilization, target.average, target.value) {
        (Some(percent), None, None) => Some(ResourceTarget::Utilization(percent)),
        (None, Some(milli), None) => Some(ResourceTarget::AverageMilli(milli)),
        // What could not be read has been told.
        (None, None, None) if source.sink().problem_count() > before => None,
        (_, _, Some(_)) => {
            target.field.refuse("a resource has no value of its own", "write averageUtilization or averageValue");
            None
        }
        _ => {
            target.field.refuse("it needs one of two figures", "write either averageUtilization or averageValue");
            None
        }
    }
}

/// Of any other metric: a value, or a value per pod.
fn value_target(source: &Fields<'_>, is_average_only: bool) -> Option<ValueTarget> {
    let before = source.sink().problem_count();
    let target = open_target(source)?;
    let help = if is_average_only { "write averageValue" } else { "write either value or averageValue" };
    match (target.value, target.average, target.utilization) {
        (Some(milli), None, None) if !is_average_only => Some(ValueTarget::ValueMilli(milli)),
        (None, Some(milli), None) => Some(ValueTarget::AverageMilli(milli)),
        (None, None, None) if source.sink().problem_count() > before => None,
        (_, _, Some(_)) => {
            target.field.refuse("only resources have a utilization", help);
            None
        }
        _ => {
            target.field.refuse("this is no target for such a metric", help);
            None
        }
    }
}

/// `behavior`; none if neither half is written.
fn read_behavior(field: &Field<'_>) -> Option<Behavior> {
    let fields = field.fields()?;
    let half = |key: &str, usual: ScalingRules| match fields.look(key) {
        Some(field) => (true, read_rules(&field, usual)),
        None => (false, Some(usual)),
    };
    let (has_up, up) = half("scaleUp", ScalingRules::default_up());
    let (has_down, down) = half("scaleDown", ScalingRules::default_down());
    fields.finish();
    (has_up || has_down).then_some(Behavior { up: up?, down: down? })
}

fn read_rules(field: &Field<'_>, usual: ScalingRules) -> Option<ScalingRules> {
    let fields = field.fields()?;
    let window = match fields.get("stabilizationWindowSeconds") {
        Some(field) => field.whole::<u32>(0, WINDOW_MAX).map(Some),
        None => Some(usual.stabilization_seconds),
    };
    let select = fields.get("selectPolicy").map_or(Some(usual.select), |field| {
        field.choice(&[("Max", SelectPolicy::Max), ("Min", SelectPolicy::Min), ("Disabled", SelectPolicy::Disabled)])
    });
    let policies = match fields.look("policies") {
        None => Some(usual.policies),
        Some(field) => {
            let items = field.items();
            if items.is_empty() {
                field.refuse("there is no policy", "write at least one, or leave policies out for the default ones");
            }
            items.iter().map(read_policy).collect()
        }
    };
    let tolerance = fields.approximated("tolerance", "it counts from 1.35 on; before, the feature is off by default");
    let tolerance = match tolerance {
        #[expect(clippy::cast_precision_loss, reason = "a share has few digits")]
        Some(field) => field.millis().map(|milli| Some(milli as f64 / 1000.0)),
        None => Some(None),
    };
    fields.finish();
    Some(ScalingRules { stabilization_seconds: window?, select: select?, policies: policies?, tolerance: tolerance? })
}

fn read_policy(field: &Field<'_>) -> Option<Policy> {
    let fields = field.fields()?;
    let number = |key: &str, most: i64| {
        let found = fields.get(key);
        if found.is_none() {
            fields.missing(key, "a policy has type, value and periodSeconds");
        }
        found?.integer(1, most)
    };
    let kind = fields.get("type");
    if kind.is_none() {
        fields.missing("type", "write Pods or Percent");
    }
    let is_pods = kind.and_then(|field| field.choice(&[("Pods", true), ("Percent", false)]));
    let (value, period) = (number("value", i64::from(i32::MAX)), number("periodSeconds", PERIOD_MAX));
    fields.finish();
    let value = i32::try_from(value?).ok()?;
    let amount = if is_pods? { Amount::Pods(value) } else { Amount::Percent(value) };
    Some(Policy { amount, period_seconds: u32::try_from(period?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{object, yaml};

    fn load(version: &str, spec: &str) -> (Option<AutoscalerManifest>, Vec<String>, Vec<Option<String>>) {
        let text = format!(
            "apiVersion: {version}\nkind: HorizontalPodAutoscaler\nmetadata: {{ name: edge, namespace: ns }}\nspec: {spec}\n"
        );
        let (documents, problems) = yaml::parse(&text, 0);
        assert!(problems.is_empty(), "{text}");
        let sink = Sink::default();
        let objects = object::objects(documents, &sink);
        let manifest = objects.first().and_then(|object| read(object, &sink));
        let problems =
            sink.take_problems().iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect();
        (manifest, problems, sink.take_notes().into_iter().map(|note| note.text).collect())
    }

    const TARGET: &str = "scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: edge }, maxReplicas: 5";

    fn metric(text: &str) -> String {
        format!("{{ {TARGET}, metrics: [ {text} ] }}")
    }

    #[track_caller]
    fn refused(version: &str, spec: &str, problem: &str) {
        let (manifest, problems, _) = load(version, spec);
        assert!(manifest.is_none(), "{spec}");
        assert!(problems.iter().any(|told| told.contains(problem)), "{spec}: {problems:?}, not {problem}");
    }

    #[test]
    fn what_is_left_out_has_the_apis_defaults() {
        for version in ["autoscaling/v1", "autoscaling/v2"] {
            let (manifest, problems, _) = load(version, &format!("{{ {TARGET} }}"));
            assert_eq!(problems, Vec::<String>::new());
            let spec = manifest.expect("it is whole").spec;
            assert_eq!((spec.min_replicas, spec.max_replicas), (1, 5));
            assert_eq!((&*spec.key, &*spec.target), ("ns/edge", "ns/edge"));
            assert_eq!(spec.metrics, [cpu(80)]);
            assert_eq!(spec.behavior, None);
        }
        let (manifest, ..) = load("autoscaling/v1", &format!("{{ {TARGET}, targetCPUUtilizationPercentage: 55 }}"));
        assert_eq!(manifest.expect("it is whole").spec.metrics, [cpu(55)]);
    }

    #[test]
    fn every_kind_of_metric_is_read() {
        let spec = metric(
            "{ type: Resource, resource: { name: memory, target: { type: AverageValue, averageValue: 200Mi } } },
             { type: ContainerResource, containerResource: { name: cpu, container: app, target: { type: Utilization, averageUtilization: 70 } } },
             { type: Pods, pods: { metric: { name: rps }, target: { type: AverageValue, averageValue: 1500m } } },
             { type: Object, object: { metric: { name: hits }, describedObject: { apiVersion: v1, kind: Service, name: web }, target: { type: Value, value: 2k } } },
             { type: External, external: { metric: { name: lag, selector: { matchLabels: { a: b } } }, target: { type: AverageValue, averageValue: \"30\" } } }",
        );
        let (manifest, problems, _) = load("autoscaling/v2", &spec);
        assert_eq!(problems, Vec::<String>::new());
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let expected = [
            Metric::Resource {
                resource: ResourceName::Memory,
                container: None,
                target: ResourceTarget::AverageMilli((200 << 20) * 1000),
            },
            Metric::Resource {
                resource: ResourceName::Cpu,
                container: Some(Rc::from("app")),
                target: ResourceTarget::Utilization(70),
            },
            Metric::Pods { metric: "rps".into(), average_milli: 1500 },
            Metric::Object {
                metric: "hits".into(),
                object: Rc::from("Service/web"),
                target: ValueTarget::ValueMilli(2_000_000),
            },
            Metric::External {
                metric: MetricId { name: Rc::from("lag"), selector: LabelSelector::of_labels(labels) },
                target: ValueTarget::AverageMilli(30_000),
            },
        ];
        assert_eq!(manifest.expect("it is whole").spec.metrics, expected);
    }

    #[test]
    fn half_a_behavior_fills_the_other() {
        let behavior = |text: &str| {
            let (manifest, problems, _) = load("autoscaling/v2", &format!("{{ {TARGET}, behavior: {text} }}"));
            assert_eq!(problems, Vec::<String>::new(), "{text}");
            manifest.expect("it is whole").spec.behavior
        };
        assert_eq!(behavior("{}"), None);
        let fast = behavior("{ scaleDown: { stabilizationWindowSeconds: 15 } }").expect("a behavior");
        assert_eq!(fast.up, ScalingRules::default_up());
        let down = ScalingRules { stabilization_seconds: Some(15), ..ScalingRules::default_down() };
        assert_eq!(fast.down, down);
        let slow = behavior(
            "{ scaleUp: { selectPolicy: Min, tolerance: 50m, policies: [ { type: Pods, value: 2, periodSeconds: 60 } ] } }",
        );
        let up = slow.expect("a behavior").up;
        assert_eq!(up.policies, [Policy { amount: Amount::Pods(2), period_seconds: 60 }]);
        assert_eq!((up.select, up.stabilization_seconds, up.tolerance), (SelectPolicy::Min, Some(0), Some(0.05)));
    }

    #[test]
    fn what_the_api_server_refuses_is_refused() {
        let v2 = "autoscaling/v2";
        refused("autoscaling/v3", "{}", "is no version");
        refused(v2, "{ maxReplicas: 3 }", "spec.scaleTargetRef: this is missing");
        refused(v2, "{ scaleTargetRef: { kind: Deployment, name: edge } }", "spec.maxReplicas: this is missing");
        refused(v2, &format!("{{ {TARGET}, minReplicas: 6 }}"), "minReplicas 6 is above maxReplicas 5");
        refused(v2, &format!("{{ {TARGET}, minReplicas: 0 }}"), "0 is out of range");
        refused(v2, &format!("{{ {TARGET}, targetCPUUtilizationPercentage: 5 }}"), "targetCPUUtilizationPercentage");
        let resource =
            |target: &str| metric(&format!("{{ type: Resource, resource: {{ name: cpu, target: {target} }} }}"));
        refused(v2, &resource("{ type: Utilization, averageUtilization: 0 }"), "0 is out of range");
        refused(v2, &resource("{ type: Utilization }"), "one of two figures");
        refused(v2, &resource("{ type: Value, value: 3 }"), "no value of its own");
        refused(v2, &resource("{ type: AverageValue, averageValue: 3 cores }"), "averageValue");
        refused(v2, &resource("{ type: AverageValue, averageValue: 100m, averageUtilization: 50 }"), "one of two");
        refused(v2, &metric("{ type: Resource }"), "resource: this is missing");
        refused(v2, &metric("{ type: Cheddar }"), "not known here");
        let external = |identifier: &str| {
            metric(&format!(
                "{{ type: External, external: {{ metric: {identifier}, target: {{ type: Value, value: 3 }} }} }}"
            ))
        };
        refused(v2, &external("{ name: a/b }"), "`a/b` is no name of a metric");
        refused(v2, &external("{ name: .. }"), "`..` is no name of a metric");
        let missing = "{ name: a, selector: { matchExpressions: [ { key: b, operator: In } ] } }";
        refused(v2, &external(missing), "selector.matchExpressions[0].values: this is missing");
        let pods = "{ type: Pods, pods: { metric: { name: rps }, target: { type: Value, value: 3 } } }";
        refused(v2, &metric(pods), "no target for such a metric");
        let behavior = |text: &str| format!("{{ {TARGET}, behavior: {{ scaleUp: {text} }} }}");
        refused(v2, &behavior("{ policies: [] }"), "there is no policy");
        refused(v2, &behavior("{ stabilizationWindowSeconds: 3601 }"), "out of range");
        refused(v2, &behavior("{ policies: [ { type: Pods, value: 0, periodSeconds: 15 } ] }"), "0 is out of range");
        refused(v2, &behavior("{ policies: [ { type: Pods, value: 1, periodSeconds: 1801 } ] }"), "out of range");
        refused(v2, &behavior("{ policys: [] }"), "policys");
    }

    #[test]
    fn a_target_that_is_no_deployment_is_noted() {
        let spec = "{ scaleTargetRef: { apiVersion: apps/v1, kind: StatefulSet, name: db }, maxReplicas: 5 }";
        let (manifest, problems, notes) = load("autoscaling/v2", spec);
        assert!(manifest.is_none() && problems.is_empty());
        assert!(notes.iter().flatten().any(|note| note.contains("only Deployments")), "{notes:?}");
    }

    #[test]
    fn the_first_beta_has_its_figures_in_keys_of_their_own() {
        let beta = "autoscaling/v2beta1";
        let both = |old: &str, new: &str| {
            let (found, problems, _) = load(beta, &metric(old));
            assert_eq!(problems, Vec::<String>::new(), "{old}");
            let expected = load("autoscaling/v2", &metric(new)).0.expect("it is whole").spec.metrics;
            assert_eq!(found.expect("it is whole").spec.metrics, expected, "{old}");
        };
        both(
            "{ type: Resource, resource: { name: cpu, targetAverageUtilization: 60 } }",
            "{ type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 60 } } }",
        );
        both(
            "{ type: Resource, resource: { name: memory, targetAverageValue: 200Mi } }",
            "{ type: Resource, resource: { name: memory, target: { type: AverageValue, averageValue: 200Mi } } }",
        );
        both(
            "{ type: ContainerResource, containerResource: { name: cpu, container: web, targetAverageValue: 150m } }",
            "{ type: ContainerResource, containerResource: { name: cpu, container: web, target: { type: AverageValue, averageValue: 150m } } }",
        );
        both(
            "{ type: Pods, pods: { metricName: rps, selector: { matchLabels: { a: b } }, targetAverageValue: 50 } }",
            "{ type: Pods, pods: { metric: { name: rps, selector: { matchLabels: { a: b } } }, target: { type: AverageValue, averageValue: 50 } } }",
        );
        let object = |figures: &str| {
            format!(
                "{{ type: Object, object: {{ target: {{ kind: Service, name: web }}, metricName: hits, {figures} }} }}"
            )
        };
        let is_to_be = |target: &str| {
            format!(
                "{{ type: Object, object: {{ describedObject: {{ kind: Service, name: web }}, metric: {{ name: hits }}, target: {target} }} }}"
            )
        };
        both(&object("targetValue: 10"), &is_to_be("{ type: Value, value: 10 }"));
        both(&object("targetValue: 10, averageValue: 3"), &is_to_be("{ type: AverageValue, averageValue: 3 }"));
        both(
            "{ type: External, external: { metricName: lag, metricSelector: { matchLabels: { q: x } }, targetValue: 30 } }",
            "{ type: External, external: { metric: { name: lag, selector: { matchLabels: { q: x } } }, target: { type: Value, value: 30 } } }",
        );
        for (text, problem) in [
            ("{ type: Resource, resource: { name: cpu } }", "targetAverageUtilization"),
            (
                "{ type: Resource, resource: { name: cpu, targetAverageUtilization: 60, targetAverageValue: 1 } }",
                "may not set both",
            ),
            (
                "{ type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 60 } } }",
                "target",
            ),
            ("{ type: Pods, pods: { metricName: rps } }", "targetAverageValue"),
            ("{ type: Pods, pods: { targetAverageValue: 1 } }", "metricName"),
            ("{ type: Object, object: { metricName: a, targetValue: 1 } }", "target"),
            ("{ type: Object, object: { target: { kind: Service, name: web }, metricName: a } }", "targetValue"),
            (
                "{ type: External, external: { metricName: a, targetValue: 1, targetAverageValue: 1 } }",
                "may not set both",
            ),
            ("{ type: External, external: { metricName: a, targetValue: 0 } }", "above 0"),
        ] {
            refused(beta, &metric(text), problem);
        }
        refused(
            beta,
            &format!("{{ {TARGET}, behavior: {{ scaleDown: {{ stabilizationWindowSeconds: 15 }} }} }}"),
            "behavior",
        );
        refused(
            "autoscaling/v2",
            &metric("{ type: Resource, resource: { name: cpu, targetAverageUtilization: 60 } }"),
            "target",
        );
    }
}
