//! `HorizontalPodAutoscaler`s, `autoscaling/v2`, `v2beta2` (whose fields are the same), `v2beta1` and `v1`, checked as the API server checks them. Whether a cluster has a
//! version is said in [`super::api_versions`].
//!
//! Defaults: 1 pod at least, CPU at 80 % of what is requested, and `behavior`'s of [`crate::cluster::autoscaler::behavior`] for what it leaves out.
//! Not simulated: targets other than Deployments.
//! Source: Kubernetes pkg/apis/autoscaling/{validation/validation.go, v1/defaults.go, v2/defaults.go}.

mod annotations;
#[cfg(test)]
mod tests;
mod v2beta1;

use std::rc::Rc;

use super::names::wrong_segment;
use super::object::{Object, ObjectId};
use super::problem::{Place, Problem};
use super::read::{Field, Fields, Sink};
use super::selector::label_selector;
use super::version_rules::group;
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
    /// Where its target's API version is written, or would be, with what is written there, if no Deployment is of that.
    pub strange_target: Option<(Place, String)>,
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
        if let Some(field) = annotation(&fields, annotations::METRICS) {
            let written = annotations::metrics(&field);
            let items = written.as_ref().map(|node| field.standing_for(node).items()).unwrap_or_default();
            metrics.extend(items.iter().filter_map(metric));
            metrics_at.extend(items.iter().map(Field::place));
        }
        if let Some(field) = annotation(&fields, annotations::BEHAVIOR) {
            let written = annotations::behavior(&field);
            behavior = written.and_then(|node| read_behavior(&field.standing_for(&node)));
        }
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
    let Reference { name, strange_at } = target?;
    let mut target = format!("{}/{name}", object.id.namespace);
    if let Some((_, written)) = &strange_at {
        // A kind of another group is no Deployment: this is the name of none, so the controller finds nothing.
        target += if written.is_empty() { " of no group" } else { " of " };
        target += written;
    }
    let spec = AutoscalerSpec {
        key: Rc::from(object.key()),
        target: Rc::from(target),
        min_replicas: least?,
        max_replicas: most?,
        metrics,
        behavior,
    };
    Some(AutoscalerManifest { spec, at, metrics_at, prefix, strange_target: strange_at })
}

/// An annotation that is written.
fn annotation<'a>(fields: &Fields<'a>, name: &str) -> Option<Field<'a>> {
    fields.look("metadata")?.fields()?.look("annotations")?.fields()?.look(name)
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

/// What is to be sized.
struct Reference {
    name: String,
    /// The API version, if no Deployment is of it.
    strange_at: Option<(Place, String)>,
}

/// What is to be sized. Of the API version only the group counts, as the real controller asks for all versions of a kind.
/// Source: pkg/controller/podautoscaler/horizontal.go `reconcileAutoscaler` (`RESTMappings`).
fn target(spec: &Fields<'_>) -> Option<Reference> {
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
    for field in ["kind", "name"].iter().filter_map(|key| fields.look(key)) {
        check_segment(&field);
    }
    let (kind, name) = (text("kind"), text("name"));
    let version = fields.look("apiVersion");
    let group = version.as_ref().map_or(Some(""), |field| group(field.text()?));
    let at = version.as_ref().map_or(field.place(), Field::place);
    let written = version.as_ref().and_then(|field| field.node().text()).unwrap_or_default().to_owned();
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
    Some(Reference { name, strange_at: (group != Some("apps")).then_some((at, written)) })
}

/// Checks a name that becomes part of a path. Source: validation `ValidateCrossVersionObjectReference`.
fn check_segment(field: &Field<'_>) {
    match field.node().text() {
        Some("") => field.refuse("Required value", "write the kind and the name of an object"),
        Some(text) => {
            if let Some(told) = wrong_segment(text) {
                field.refuse(told, format!("`{text}` is no name: it becomes part of a path"));
            }
        }
        None => {}
    }
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
    if text.is_empty() || wrong_segment(text).is_some() {
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
    for field in ["kind", "name"].iter().filter_map(|key| fields.look(key)) {
        check_segment(&field);
    }
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
