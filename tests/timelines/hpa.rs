//! Autoscalers: what each sync made of the load, when it came, and what its status said.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::api_clock::whole_second;
use gatedrill::cluster::autoscaler::reconcile::Reading;
use gatedrill::cluster::autoscaler::{
    ContainerUsage, Metric, MetricError, MetricId, MetricsSource, PodUsage, ResourceName, Sample,
};
use gatedrill::cluster::{AutoscalerStep, AutoscalingConfig, Cluster, Version};
use gatedrill::engine::Sim;
use gatedrill::manifest::quantity;
use gatedrill::units::SimTime;
use serde_json::{Value, json};

use super::case::Case;
use super::states::millis;
use super::steps::replay_with;
use super::world::World;

/// Between two syncs, beyond the period: what a sync of the recordings took.
const SYNC_MS: i64 = 10;
/// How far the time of a sync may be off.
const TOLERANCE_MS: i64 = 100;
/// Status is written some milliseconds after the sync: a row so long after it shows what it wrote.
const SETTLED_MS: i64 = 1000;

/// Replays a case and says where it differs.
pub(crate) fn differences(case: &Case) -> Vec<String> {
    let config = config(case);
    let period_ms = i64::try_from(config.rules.sync_period.as_millis()).expect("a short period");
    let world = replay_with(case, |world| {
        world.cluster.set_autoscaling(config);
        world.cluster.set_metrics_source(Rc::new(Scripted::new(case, world)));
    });
    let steps = world.cluster.autoscaler_steps();
    let trigger_ms = i64::try_from(world.trigger.as_nanos() / 1_000_000).expect("short");
    drop(world.finish());
    let rows = case.json["timeline"].as_array().expect("a timeline");
    let recorded_ms = millis(&case.json["measured"]["recorded_s"]);
    let count = (recorded_ms - SETTLED_MS) / (period_ms + SYNC_MS);
    let mut differences = Vec::new();
    if i64::try_from(steps.len()).expect("few") < count {
        differences.push(format!("{} syncs instead of {count}", steps.len()));
    }
    for (step, k) in steps.iter().zip(1..=count) {
        let at_ms = i64::try_from(step.at.as_nanos() / 1_000_000).expect("short") - trigger_ms;
        let due_ms = k * (period_ms + SYNC_MS);
        if (at_ms - due_ms).abs() > TOLERANCE_MS {
            differences.push(format!("sync {k} comes at {at_ms} ms instead of {due_ms} ms"));
        }
        let shown = rows.iter().rev().find(|row| millis(&row["t"]) <= due_ms + SETTLED_MS);
        let wanted = &shown.expect("a row at the start")["hpa"];
        let wanted = json!({
            "current": wanted["current"], "desired": wanted["desired"], "conditions": wanted["conditions"],
            "metrics": by_name(&wanted["metrics"]),
        });
        let found = status(step);
        if wanted != found {
            differences.push(format!("sync {k}: {found}, not {wanted}"));
            // What follows differs because of this.
            break;
        }
    }
    differences
}

/// The controller's flags.
fn config(case: &Case) -> AutoscalingConfig {
    let mut config = AutoscalingConfig::of(Version::new(1, 20));
    let flags = case.json["inputs"]["control_plane_flags"]["kube-controller-manager"].as_str().unwrap_or_default();
    for flag in flags.split_whitespace() {
        let (name, value) = flag.split_once('=').expect("a flag has a value");
        let span = || quantity::duration(value).expect("a duration");
        match name.strip_prefix("--horizontal-pod-autoscaler-").expect("a flag of the autoscaler") {
            "downscale-stabilization" => config.rules.downscale_stabilization = span(),
            "tolerance" => config.rules.tolerance = value.parse().expect("a number"),
            "sync-period" => config.rules.sync_period = span(),
            "cpu-initialization-period" => config.rules.cpu_initialization_period = span(),
            other => panic!("no such flag: {other}"),
        }
    }
    config
}

/// A status in the words of the recordings.
fn status(step: &AutoscalerStep) -> Value {
    let conditions: BTreeMap<&str, String> = step
        .conditions
        .iter()
        .map(|(kind, condition)| {
            (kind.name(), format!("{}/{}", if condition.holds { "True" } else { "False" }, condition.reason))
        })
        .collect();
    let metrics: Vec<Value> = step
        .metrics
        .iter()
        .filter_map(|(metric, reading)| {
            let is_memory = matches!(metric, Metric::Resource { resource: ResourceName::Memory, .. });
            let amount = |milli: i64| {
                let is_whole = is_memory || milli % 1000 == 0;
                if is_whole { (milli / 1000).to_string() } else { format!("{milli}m") }
            };
            Some(match (*reading)? {
                Reading::Utilization { percent, average_milli } => json!({
                    "name": metric.name(), "averageValue": amount(average_milli), "averageUtilization": percent,
                }),
                Reading::Average(milli) | Reading::Value(milli) => {
                    json!({"name": metric.name(), "averageValue": amount(milli)})
                }
            })
        })
        .collect();
    json!({
        "current": step.current, "desired": step.desired, "conditions": conditions,
        "metrics": by_name(&Value::Array(metrics)),
    })
}

/// Metrics by their names: their order is that of the API's version.
fn by_name(metrics: &Value) -> Value {
    let rows = metrics.as_array().expect("metrics");
    rows.iter().map(|row| (row["name"].as_str().expect("a name").to_owned(), row.clone())).collect()
}

/// The metrics API of the recordings: the load is shared by the ready pods.
struct Scripted {
    sim: Sim,
    cluster: Cluster,
    script: Value,
    trigger: SimTime,
    wall_phase: Duration,
}

impl Scripted {
    fn new(case: &Case, world: &World) -> Self {
        let phase_ms = millis(&case.json["measured"]["trigger_wall_fraction_s"]);
        Self {
            sim: world.sim.clone(),
            cluster: world.cluster.clone(),
            script: case.json["inputs"]["metrics"].clone(),
            trigger: world.trigger,
            wall_phase: Duration::from_millis(u64::try_from(phase_ms).expect("not negative")),
        }
    }

    fn elapsed_s(&self) -> f64 {
        self.sim.now().since(self.trigger).as_secs_f64()
    }

    /// The value of a step function now; 0 before its first step.
    fn total(&self, key: &str) -> i64 {
        let steps = self.script[key].as_array().expect("steps").iter().rev();
        let mut past = steps.filter(|step| step[0].as_f64().expect("a time") <= self.elapsed_s());
        past.next().map_or(0, |step| step[1].as_i64().expect("a value"))
    }

    fn is_down(&self) -> bool {
        let outages = self.script["outage"].as_array().into_iter().flatten();
        let during = |outage: &Value| {
            let at = |index: usize| outage[index].as_f64().expect("a time");
            (at(0)..at(1)).contains(&self.elapsed_s())
        };
        outages.into_iter().any(during)
    }
}

fn none(api: &str) -> MetricError {
    MetricError::NoMetrics { api: Rc::from(api) }
}

impl MetricsSource for Scripted {
    fn pod_usage(&self) -> Result<Vec<PodUsage>, MetricError> {
        if self.is_down() {
            return Err(none("resource metrics API"));
        }
        let pods = self.cluster.all_pod_views();
        let ready = pods.iter().filter(|pod| pod.is_ready && !pod.is_deleting).count();
        let ready = i64::try_from(ready).expect("few").max(1);
        let missing = &self.script["missing_pods"];
        let is_missing = |id: u64| missing.as_array().into_iter().flatten().any(|pod| *pod == json!(id + 1));
        let base_mib = self.script["mem_base_mi"].as_i64().expect("a size");
        let reported = pods.iter().filter(|pod| !pod.is_deleting && !is_missing(pod.id)).filter_map(|pod| {
            let cpu_milli = if pod.is_ready {
                self.total("cpu_total_m") / ready
            } else {
                self.script["unready_cpu_m"].as_i64().filter(|_| pod.ip.is_some())?
            };
            let mib = self.total("mem_total_mi") / ready + base_mib;
            let app = ContainerUsage {
                name: Rc::from("app"),
                cpu_milli: Some(cpu_milli),
                memory_milli: Some((mib << 20) * 1000),
            };
            Some(PodUsage {
                pod: Rc::clone(&pod.name),
                at: whole_second(self.sim.now().after(self.wall_phase)),
                window: Duration::from_secs(self.script["window_s"].as_u64().expect("a window")),
                containers: vec![app],
            })
        });
        Ok(reported.collect())
    }

    fn pods_metric(&self, _: &MetricId) -> Result<BTreeMap<Rc<str>, Sample>, MetricError> {
        Err(none("custom metrics API"))
    }

    fn object_metric(&self, _: &MetricId, _: &str) -> Result<i64, MetricError> {
        Err(none("custom metrics API"))
    }

    fn external_metric(&self, _: &MetricId) -> Result<Vec<i64>, MetricError> {
        Err(none("external metrics API"))
    }
}
