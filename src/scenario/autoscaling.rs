//! What a scenario says about autoscaling: the controller's settings, the values of metrics, who owns replicas; and what becomes of it.
//!
//! A metric of `cluster.metrics` is found by its name:
//!
//! - `{ name: requests_per_second, of: pods }`: each pod's own requests per second.
//! - `{ name: queue, of: pods, value: 30 }`: the same value for each running pod.
//! - `{ name: hits, of: object, object: Ingress/main, value: … }` and `{ name: lag, of: external, value: … }`.
//!
//! With `labels: { queue: orders }` it is one series of the metric, for autoscalers whose `metric.selector` means it; of several series those that are
//! meant are added up.
//!
//! A value is a quantity as Kubernetes writes it (`300`, `1500m`, `2k`), or segments as a load's rate has them: `[ { for: 1m, at: 10 },
//! { for: 30s, from: 10, to: 200 } ]`, from the start of the measured time; the first value holds before it, the last one after.

use std::rc::Rc;
use std::time::Duration;

use super::resolved::{bare, list, map, span, text};
use super::settings::{Settings, defaults};
use super::state::Resolved;
use crate::cluster::AutoscalingConfig;
use crate::cluster::autoscaler::{Metric, MetricId, ResourceName, Rules};
use crate::cluster::metrics::{Curve, MetricOf, NamedMetric, Stretch};
use crate::cluster::version::Version;
use crate::drill::{MemoryCosts, OwnedReplicas, ScalingSpec};
use crate::manifest::autoscaler::AutoscalerManifest;
use crate::manifest::{Field, Fields, Node, Place, Sink, Value};
use crate::record::results::FidelityStatus;
use crate::units::SimTime;

/// `cluster.horizontalAutoscaler` and `cluster.metrics`.
#[derive(Clone, PartialEq, Debug)]
pub struct AutoscalingSettings {
    /// From the end of a sync to the next.
    pub sync_period: Duration,
    /// How far from 1 a ratio may be without an effect.
    pub tolerance: f64,
    /// How long a recommendation keeps a target from shrinking.
    pub downscale_stabilization: Duration,
    /// How long a pod's processor use may be that of its start.
    pub cpu_initialization_period: Duration,
    /// A pod that was unready since so soon after its start has never been ready.
    pub initial_readiness_delay: Duration,
    /// The metrics server scrapes so often.
    pub metrics_resolution: Duration,
    /// The kubelet reads a container's counters so often.
    pub kubelet_sampling: Duration,
    /// Metrics by their names; curves begin at the start of the measured time.
    pub metrics: Vec<NamedMetric>,
}

impl AutoscalingSettings {
    /// Whether there is a series that is meant, and of this kind.
    fn has(&self, metric: &MetricId, is_given: impl Fn(&MetricOf) -> bool) -> bool {
        let is_meant = |it: &&NamedMetric| it.name == metric.name && metric.selector.matches(&it.labels);
        self.metrics.iter().filter(is_meant).any(|it| is_given(&it.of))
    }
}

/// Reads `cluster.horizontalAutoscaler` and `cluster.metrics`.
pub(super) fn read(cluster: Option<&Fields<'_>>, version: Option<Version>) -> Option<AutoscalingSettings> {
    let usual = AutoscalingConfig::of(version.unwrap_or(defaults::KUBERNETES));
    let rules = usual.rules;
    let fields = cluster.and_then(|fields| fields.get("horizontalAutoscaler")).and_then(|field| field.fields());
    let fields = fields.as_ref();
    let period = |key: &str, usual: Duration| match fields.and_then(|fields| fields.get(key)) {
        Some(field) => field.positive_duration(),
        None => Some(usual),
    };
    let or_none = |key: &str, usual: Duration| match fields.and_then(|fields| fields.get(key)) {
        Some(field) => field.duration(),
        None => Some(usual),
    };
    let tolerance = match fields.and_then(|fields| fields.get("tolerance")) {
        Some(field) => field.ratio(),
        None => Some(rules.tolerance),
    };
    let sync_period = period("syncPeriod", rules.sync_period);
    let downscale_stabilization = or_none("downscaleStabilization", rules.downscale_stabilization);
    let cpu_initialization_period = or_none("cpuInitializationPeriod", rules.cpu_initialization_period);
    let initial_readiness_delay = or_none("initialReadinessDelay", rules.initial_readiness_delay);
    let metrics_resolution = period("metricsResolution", usual.metrics_resolution);
    let kubelet_sampling = period("kubeletSampling", usual.kubelet_sampling);
    if let Some(fields) = fields {
        fields.finish();
    }
    let metrics = cluster.and_then(|fields| fields.get("metrics")).map(|field| field.items()).unwrap_or_default();
    let metrics: Vec<Option<NamedMetric>> = metrics.iter().map(read_metric).collect();
    Some(AutoscalingSettings {
        sync_period: sync_period?,
        tolerance: tolerance?,
        downscale_stabilization: downscale_stabilization?,
        cpu_initialization_period: cpu_initialization_period?,
        initial_readiness_delay: initial_readiness_delay?,
        metrics_resolution: metrics_resolution?,
        kubelet_sampling: kubelet_sampling?,
        metrics: metrics.into_iter().collect::<Option<_>>()?,
    })
}

fn read_metric(field: &Field<'_>) -> Option<NamedMetric> {
    let fields = field.fields()?;
    let name = fields.require("name", "name the metric, as autoscalers ask for it").and_then(|field| field.text());
    let kinds = [("pods", "pods"), ("object", "object"), ("external", "external")];
    let of = fields.require("of", "write pods, object or external").and_then(|field| field.choice(&kinds));
    let object = fields.get("object");
    let labels = fields.get("labels").map(|field| field.text_map()).unwrap_or_default();
    let value_field = fields.get("value");
    fields.finish();
    let value = match &value_field {
        Some(field) => Some(read_curve(field)?),
        None => None,
    };
    let of = match (of?, value, object) {
        ("pods", None, None) => MetricOf::Requests,
        ("pods", Some(curve), None) => MetricOf::Pods(curve),
        ("external", Some(curve), None) => MetricOf::External(curve),
        ("object", Some(curve), Some(object)) => {
            let text = object.text()?;
            if !matches!(text.split_once('/'), Some((kind, name)) if !kind.is_empty() && !name.is_empty()) {
                object.refuse(format!("`{text}` names no object"), "write Kind/name, such as Ingress/main");
                return None;
            }
            MetricOf::Object(Rc::from(text), curve)
        }
        ("object", Some(_), None) => {
            field.refuse("it is of no object", "write object: Kind/name");
            return None;
        }
        (_, _, Some(object)) => {
            object.refuse("only a metric of an object names one", "remove it, or write of: object");
            return None;
        }
        _ => {
            field.refuse("it has no value", "write value: 300, or segments: [ { for: 1m, at: 300 } ]");
            return None;
        }
    };
    Some(NamedMetric { name: Rc::from(name?), labels, of })
}

fn read_curve(field: &Field<'_>) -> Option<Curve> {
    let milli = |field: &Field<'_>| Some(i64::try_from(field.millis()?).unwrap_or(i64::MAX));
    let stretches: Vec<Option<Stretch>> = if matches!(field.node().value, Value::List(_)) {
        let items = field.items();
        if items.is_empty() {
            field.refuse("there is no segment", "write at least one: [ { for: 1m, at: 300 } ]");
            return None;
        }
        let stretch = |item: &Field<'_>| {
            let fields = item.fields()?;
            let length = fields.require("for", "write how long it lasts: for: 1m");
            let length = length.and_then(|field| field.positive_duration());
            let value = |key: &str| fields.get(key).map(|field| milli(&field));
            let (at, from, to) = (value("at"), value("from"), value("to"));
            fields.finish();
            let (from_milli, to_milli) = match (at, from, to) {
                (Some(at), None, None) => (at?, at?),
                (None, Some(from), Some(to)) => (from?, to?),
                _ => {
                    let help = "write { for: 1m, at: 300 } or { for: 1m, from: 100, to: 300 }";
                    item.refuse("this is no value over time", help);
                    return None;
                }
            };
            Some(Stretch { length: length?, from_milli, to_milli })
        };
        items.iter().map(stretch).collect()
    } else {
        let value = milli(field);
        vec![value.map(|value| Stretch { length: Duration::from_secs(1), from_milli: value, to_milli: value })]
    };
    Some(Curve { begins_at: SimTime::ZERO, stretches: stretches.into_iter().collect::<Option<_>>()? })
}

/// Reads `gateway.memory`.
pub(super) fn read_memory(gateway: Option<&Fields<'_>>) -> Option<MemoryCosts> {
    let fields = gateway.and_then(|fields| fields.get("memory")).and_then(|field| field.fields());
    let fields = fields.as_ref();
    let size = |key: &str, usual: u64| match fields.and_then(|fields| fields.get(key)) {
        Some(field) => field.bytes(),
        None => Some(usual),
    };
    let usual = defaults::MEMORY;
    let (base, cluster) = (size("base", usual.base_bytes), size("perCluster", usual.cluster_bytes));
    let (connection, request) =
        (size("perConnection", usual.connection_bytes), size("perRequest", usual.request_bytes));
    if let Some(fields) = fields {
        fields.finish();
    }
    Some(MemoryCosts {
        base_bytes: base?,
        cluster_bytes: cluster?,
        connection_bytes: connection?,
        request_bytes: request?,
    })
}

/// `cluster.horizontalAutoscaler` and `cluster.metrics` with every default.
pub(super) fn written(settings: &AutoscalingSettings) -> [(&'static str, Node); 2] {
    let controller = map(vec![
        ("syncPeriod", span(settings.sync_period)),
        ("tolerance", bare(settings.tolerance)),
        ("downscaleStabilization", span(settings.downscale_stabilization)),
        ("cpuInitializationPeriod", span(settings.cpu_initialization_period)),
        ("initialReadinessDelay", span(settings.initial_readiness_delay)),
        ("metricsResolution", span(settings.metrics_resolution)),
        ("kubeletSampling", span(settings.kubelet_sampling)),
    ]);
    let milli = |value: i64| text(&format!("{value}m"));
    let curve = |curve: &Curve| {
        let stretch = |stretch: &Stretch| {
            map(vec![
                ("for", span(stretch.length)),
                ("from", milli(stretch.from_milli)),
                ("to", milli(stretch.to_milli)),
            ])
        };
        list(curve.stretches.iter().map(stretch).collect())
    };
    let metric = |metric: &NamedMetric| {
        let mut entries = vec![("name", text(&metric.name))];
        if !metric.labels.is_empty() {
            let labels = metric.labels.iter().map(|(key, value)| (key.as_str(), text(value)));
            entries.push(("labels", map(labels.collect())));
        }
        match &metric.of {
            MetricOf::Requests => entries.push(("of", text("pods"))),
            MetricOf::Pods(value) => entries.extend([("of", text("pods")), ("value", curve(value))]),
            MetricOf::Object(object, value) => {
                entries.extend([("of", text("object")), ("object", text(object)), ("value", curve(value))]);
            }
            MetricOf::External(value) => entries.extend([("of", text("external")), ("value", curve(value))]),
        }
        map(entries)
    };
    [("horizontalAutoscaler", controller), ("metrics", list(settings.metrics.iter().map(metric).collect()))]
}

/// `gateway.memory` with every default.
pub(super) fn written_memory(memory: MemoryCosts) -> Node {
    let size = |bytes: u64| text(&format!("{bytes}B"));
    map(vec![
        ("base", size(memory.base_bytes)),
        ("perCluster", size(memory.cluster_bytes)),
        ("perConnection", size(memory.connection_bytes)),
        ("perRequest", size(memory.request_bytes)),
    ])
}

/// Who sizes what in the world.
pub(super) fn spec(resolved: &Resolved, settings: &Settings, sink: &Sink) -> ScalingSpec {
    let said = &settings.cluster.autoscaling;
    let begins_at = SimTime::ZERO.after(settings.warmup);
    let moved = |curve: &Curve| Curve { begins_at, ..curve.clone() };
    let named = said.metrics.iter().map(|metric| NamedMetric {
        name: Rc::clone(&metric.name),
        labels: metric.labels.clone(),
        of: match &metric.of {
            MetricOf::Requests => MetricOf::Requests,
            MetricOf::Pods(curve) => MetricOf::Pods(moved(curve)),
            MetricOf::Object(object, curve) => MetricOf::Object(Rc::clone(object), moved(curve)),
            MetricOf::External(curve) => MetricOf::External(moved(curve)),
        },
    });
    let config = AutoscalingConfig {
        rules: Rules {
            sync_period: said.sync_period,
            tolerance: said.tolerance,
            downscale_stabilization: said.downscale_stabilization,
            cpu_initialization_period: said.cpu_initialization_period,
            initial_readiness_delay: said.initial_readiness_delay,
            ..Rules::of(settings.cluster.version)
        },
        metrics_resolution: said.metrics_resolution,
        kubelet_sampling: said.kubelet_sampling,
        named: named.collect(),
        selectors: resolved.deployments.iter().map(|(key, it)| (Rc::from(key.as_str()), it.selector.clone())).collect(),
    };
    for manifest in resolved.autoscalers.values() {
        warn(manifest, resolved, settings, sink);
    }
    let backend_cpu = settings.backends.iter().filter_map(|backend| {
        let (deployment, _) = backend.deployment.as_ref()?;
        Some((Rc::from(deployment.as_str()), backend.cpu_per_request?))
    });
    ScalingSpec {
        config,
        autoscalers: resolved.autoscalers.values().map(|manifest| manifest.spec.clone()).collect(),
        memory: settings.gateway.memory,
        disk: settings.gateway.disk.as_ref().map(|disk| disk.costs.clone()),
        backend_cpu: backend_cpu.collect(),
        owned: owned(resolved, settings),
    }
}

/// What the mesh's control plane writes.
pub(super) fn owned(resolved: &Resolved, settings: &Settings) -> Option<OwnedReplicas> {
    let replicas = resolved.owned_replicas?;
    Some(OwnedReplicas { replicas, period: settings.gateway.replicas_sync })
}

/// Notes what an autoscaler asks for and will not get: as a warning where the real controller would not get it either.
pub(super) fn warn(manifest: &AutoscalerManifest, resolved: &Resolved, settings: &Settings, sink: &Sink) {
    let AutoscalerManifest { spec, at, metrics_at, prefix, strange_target } = manifest;
    let note = |at: Place, path: String, text: &str| {
        sink.note(at, format!("{prefix}{path}"), FidelityStatus::Ignored, Some(text));
    };
    if let Some((at, written)) = strange_target {
        let text = format!(
            "`{written}` is not of the group apps, which Deployments are of: the controller reports FailedGetScale and sizes nothing; write apps/v1"
        );
        sink.note(*at, format!("{prefix}spec.scaleTargetRef.apiVersion"), FidelityStatus::Warning, Some(&text));
        return;
    }
    let Some(target) = resolved.deployments.get(&*spec.target) else {
        let text =
            format!("no Deployment is called {}: the controller reports FailedGetScale and sizes nothing", spec.target);
        sink.note(*at, format!("{prefix}spec.scaleTargetRef"), FidelityStatus::Warning, Some(&text));
        return;
    };
    let is_target = *spec.target == *resolved.target.owner();
    if is_target && resolved.owned_replicas.is_some() {
        let text = "ASM owns the replicas of this gateway and writes replicaCount again and again (gateway.replicasSync); set the annotation \
                    asm.alibabacloud.com/replicas-managed-by-asm to \"false\"";
        sink.note(*at, format!("{prefix}spec"), FidelityStatus::Warning, Some(text));
    }
    let backend = settings
        .backends
        .iter()
        .find(|backend| backend.deployment.as_ref().is_some_and(|(deployment, _)| **deployment == *spec.target));
    for ((index, metric), at) in spec.metrics.iter().enumerate().zip(metrics_at) {
        let path = format!("spec.metrics[{index}]");
        match metric {
            Metric::Resource { resource, container, .. } => {
                let asks = |it: &&crate::cluster::ContainerRequest| {
                    let wanted = container.as_deref().is_none_or(|name| *name == *it.name);
                    let request = match resource {
                        ResourceName::Cpu => it.cpu_millicores,
                        ResourceName::Memory => it.memory_bytes,
                    };
                    wanted && request.is_none()
                };
                let is_share = matches!(
                    metric,
                    Metric::Resource { target: crate::cluster::autoscaler::ResourceTarget::Utilization(_), .. }
                );
                let template = &target.deployment.template;
                let sidecars = template.init.iter().filter(|init| init.sidecar.is_some());
                let sidecars = sidecars.filter(|_| settings.cluster.version >= Version::new(1, 29));
                let silent = template.containers.iter().chain(sidecars.map(|init| &init.asked)).find(asks);
                if let Some(silent) = silent.filter(|_| is_share) {
                    let text = format!(
                        "container {} does not say how much {} it requests, so there is no utilization: the controller reports \
                         {} and nothing grows or shrinks by it",
                        silent.name,
                        resource.name(),
                        metric.failure_reason(),
                    );
                    sink.note(*at, format!("{prefix}{path}"), FidelityStatus::Warning, Some(&text));
                    continue;
                }
                let is_known = is_target
                    || backend.is_some_and(|backend| match resource {
                        ResourceName::Cpu => backend.cpu_per_request.is_some(),
                        ResourceName::Memory => backend.memory.is_some(),
                    });
                if !is_known {
                    let text = "what its pods use is not modelled, so the metric is missing; a backend's processor time is known with \
                                backends[].cpuPerRequest, its memory with backends[].memory";
                    note(*at, path, text);
                }
            }
            Metric::Pods { metric, .. } => {
                let is_given = |of: &MetricOf| match of {
                    MetricOf::Requests => is_target || backend.is_some(),
                    MetricOf::Pods(_) => true,
                    _ => false,
                };
                if !settings.cluster.autoscaling.has(metric, is_given) {
                    note(*at, path, "cluster.metrics has no such metric of pods: it is missing");
                }
            }
            Metric::Object { metric, object, .. } => {
                let is_given = |of: &MetricOf| matches!(of, MetricOf::Object(known, _) if known == object);
                if !settings.cluster.autoscaling.has(metric, is_given) {
                    note(*at, path, "cluster.metrics has no such metric of this object: it is missing");
                }
            }
            Metric::External { metric, .. } => {
                let is_given = |of: &MetricOf| matches!(of, MetricOf::External(_));
                if !settings.cluster.autoscaling.has(metric, is_given) {
                    note(*at, path, "cluster.metrics has no such external metric: it is missing");
                }
            }
            Metric::Unknown { .. } => {}
        }
    }
}
