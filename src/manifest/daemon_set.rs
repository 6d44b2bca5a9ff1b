//! `DaemonSet`s.
//!
//! What is known of their pods is what is known of a Deployment's pods, so they are read into the same form: as a Deployment of one, of which only the template counts.
//! What their processes do is known where they are gateways, or a backend of the scenario names them, and nowhere else.
//!
//! Defaults are those of the API server (apps/v1: a rolling update of one node at a time, without a surge). Validation follows pkg/apis/apps/validation
//! (`ValidateRollingUpdateDaemonSet`).

use std::rc::Rc;

use super::deployment::{DeploymentManifest, Pods, read_template};
use super::object::Object;
use super::problem::Place;
use super::read::{Field, Fields, Sink};
use super::rolling_update::{DEFAULT_STRATEGY, int_or_percent};
use super::selector;
use crate::cluster::daemon_set::{Update, with_tolerations};
use crate::cluster::int_or_percent::IntOrPercent;
use crate::cluster::{DaemonSet, Deployment, PodTemplate};
use crate::record::results::FidelityStatus;

/// A `DaemonSet`, and all that is known of its pods.
#[derive(Clone, Debug)]
pub struct DaemonSetManifest {
    /// As a Deployment of one.
    pub manifest: DeploymentManifest,
    /// How a new revision takes the place of an old one.
    pub update: Update,
    /// Where its surge is written, if it has one.
    pub surge_at: Option<(Place, String)>,
    min_ready_seconds: u32,
}

impl DaemonSetManifest {
    /// What the cluster gets.
    #[must_use]
    pub fn daemon_set(&self) -> DaemonSet {
        let Deployment { key, template, .. } = &self.manifest.deployment;
        let placement = with_tolerations(template.placement.clone());
        let template = PodTemplate { placement, ..template.clone() };
        let min_ready_seconds = self.min_ready_seconds;
        DaemonSet { key: Rc::clone(key), update: self.update, min_ready_seconds, template }
    }
}

/// What is known of the processes in its pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Processes {
    /// They are gateways.
    Gateways,
    /// Nothing, unless a backend names them.
    Unknown,
}

/// Reads a `DaemonSet`.
pub fn read(object: &Object, sink: &Sink) -> Option<DaemonSetManifest> {
    read_as(Processes::Unknown, object, sink)
}

/// Reads one whose pods are gateways.
pub fn read_gateway(object: &Object, sink: &Sink) -> Option<DaemonSetManifest> {
    read_as(Processes::Gateways, object, sink)
}

fn read_as(processes: Processes, object: &Object, sink: &Sink) -> Option<DaemonSetManifest> {
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let spec = fields.look("spec");
    fields.finish();
    let Some(spec) = spec.and_then(|spec| spec.fields()) else {
        fields.missing("spec", "a DaemonSet has a spec");
        return None;
    };
    let selector = selector::of_maker(&spec, "DaemonSet");
    let strategy = spec.look("updateStrategy");
    let update = strategy.as_ref().map_or(Some(Update::DEFAULT), read_update);
    let surge = strategy.as_ref().and_then(|field| field.node().find(&["rollingUpdate", "maxSurge"]));
    let surge_at = surge.map(|node| (node.at, format!("{prefix}spec.updateStrategy.rollingUpdate.maxSurge")));
    let min_ready_seconds = spec.get("minReadySeconds").map_or(Some(0), |field| field.whole(0, i64::from(i32::MAX)));
    let history = spec.get("revisionHistoryLimit").map_or(Some(10), |field| field.whole(0, i64::from(i32::MAX)));
    let template = spec.look("template");
    if template.is_none() {
        spec.missing("template", "a DaemonSet has a pod template");
    }
    spec.finish();
    let template = template?;
    let pods = match processes {
        Processes::Gateways => read_template(&template)?,
        Processes::Unknown => read_unknown(&template, sink)?,
    };
    let selector = selector?;
    selector::check_own(&spec, &selector, &pods.template.labels, "DaemonSet");
    let deployment = Deployment {
        key: Rc::from(object.key()),
        replicas: 1,
        strategy: DEFAULT_STRATEGY,
        is_paused: false,
        min_ready_seconds: 0,
        progress_deadline_seconds: None,
        revision_history_limit: history?,
        template: pods.template.clone(),
    };
    let manifest = pods.with(deployment, selector);
    Some(DaemonSetManifest { manifest, update: update?, surge_at, min_ready_seconds: min_ready_seconds? })
}

/// Reads the template of pods whose processes are nobody's business, unless a backend names them.
fn read_unknown(template: &Field<'_>, sink: &Sink) -> Option<Pods> {
    let note = "the scheduler and the kubelets have its pods like any other; what their processes do is not simulated, unless a backend names them: they pass every probe";
    template.note(FidelityStatus::Approximated, Some(note));
    // What is said of single fields speaks of a gateway.
    let quiet = Sink::default();
    let read = read_template(&template.into_sink(&quiet));
    for problem in quiet.take_problems() {
        sink.report(problem);
    }
    read
}

fn read_update(field: &Field<'_>) -> Option<Update> {
    let fields = field.fields()?;
    let kind =
        fields.get("type").map_or(Some(true), |kind| kind.choice(&[("RollingUpdate", true), ("OnDelete", false)]));
    let rolling = fields.look("rollingUpdate");
    fields.finish();
    match (kind?, rolling) {
        (false, rolling) => {
            if let Some(rolling) = rolling.filter(|rolling| !rolling.node().is_empty()) {
                rolling.note(FidelityStatus::Ignored, Some("it has no meaning with type OnDelete"));
            }
            Some(Update::OnDelete)
        }
        (true, None) => Some(Update::DEFAULT),
        (true, Some(rolling)) => read_limits(&rolling.fields()?),
    }
}

/// The limits of a rolling update, one of which is 0.
fn read_limits(fields: &Fields<'_>) -> Option<Update> {
    let limit = |key: &str, usual: i32| {
        let field = fields.get(key);
        let limit = field.as_ref().map_or(Some(IntOrPercent::Int(usual)), int_or_percent);
        if let (Some(field), Some(IntOrPercent::Percent(101..))) = (&field, limit) {
            field.refuse("must not be greater than 100%", "write 100% or less");
            return None;
        }
        limit
    };
    let (max_surge, max_unavailable) = (limit("maxSurge", 0), limit("maxUnavailable", 1));
    fields.finish();
    let (max_surge, max_unavailable) = (max_surge?, max_unavailable?);
    let is_zero = |limit| matches!(limit, IntOrPercent::Int(0) | IntOrPercent::Percent(0));
    match (is_zero(max_surge), is_zero(max_unavailable)) {
        (false, false) => {
            if let Some(field) = fields.look("maxSurge") {
                field.refuse(
                    "may not be set when maxUnavailable is non-zero",
                    "write maxUnavailable: 0 beside it (without it, it is 1), or take maxSurge out",
                );
            }
            None
        }
        (true, true) => {
            if let Some(field) = fields.look("maxUnavailable") {
                field.refuse("cannot be 0 when maxSurge is 0", "write maxUnavailable: 1, or maxSurge: 1 beside it");
            }
            None
        }
        _ => Some(Update::Rolling { max_surge, max_unavailable }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Resources;
    use crate::manifest::{object, yaml};

    fn load(spec: &str, pod: &str) -> (Option<DaemonSetManifest>, Vec<String>) {
        let text = format!(
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{ name: log, namespace: kube-system }}\nspec:\n  {spec}\n  selector: {{ matchLabels: {{ a: b }} }}\n  \
             template:\n    metadata: {{ labels: {{ a: b }} }}\n    spec: {{ {pod} containers: [ {{ name: m, image: i, \
             resources: {{ requests: {{ cpu: 100m, memory: 64Mi }} }} }} ] }}\n"
        );
        let (documents, problems) = yaml::parse(&text, 0);
        assert!(problems.is_empty(), "{text}");
        let sink = Sink::default();
        let objects = object::objects(documents, &sink);
        let manifest = objects.first().and_then(|object| read(object, &sink));
        (manifest, sink.take_problems().iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect())
    }

    #[test]
    fn its_pods_ask_for_what_they_are_written_with_and_bear_what_nodes_have_at_times() {
        let (manifest, problems) = load("minReadySeconds: 7", "tolerations: [ { key: own, operator: Exists } ],");
        assert_eq!(problems, Vec::<String>::new());
        let set = manifest.expect("it is whole").daemon_set();
        assert_eq!(
            (&*set.key, &*set.owner(), set.min_ready_seconds),
            ("kube-system/log", "kube-system/daemonset/log", 7)
        );
        assert_eq!(set.template.requests, Resources { cpu_millicores: 100, memory_bytes: 64 << 20 });
        let borne: Vec<&str> = set.template.placement.tolerations.iter().map(|it| it.key.as_str()).collect();
        assert_eq!((borne.len(), borne[0]), (7, "own"), "{borne:?}");
    }

    #[test]
    fn the_limits_are_read_as_the_api_server_has_them() {
        use IntOrPercent::{Int, Percent};
        let rolling = |max_surge, max_unavailable| Ok(Update::Rolling { max_surge, max_unavailable });
        for (written, expected) in [
            ("", rolling(Int(0), Int(1))),
            ("type: RollingUpdate", rolling(Int(0), Int(1))),
            ("rollingUpdate: {}", rolling(Int(0), Int(1))),
            ("rollingUpdate: { maxUnavailable: 20% }", rolling(Int(0), Percent(20))),
            ("rollingUpdate: { maxUnavailable: 100% }", rolling(Int(0), Percent(100))),
            ("rollingUpdate: { maxUnavailable: 0, maxSurge: 2 }", rolling(Int(2), Int(0))),
            ("rollingUpdate: { maxUnavailable: 0%, maxSurge: 30% }", rolling(Percent(30), Percent(0))),
            ("type: OnDelete", Ok(Update::OnDelete)),
            ("type: OnDelete, rollingUpdate: { maxSurge: 1 }", Ok(Update::OnDelete)),
            // Without it, as many as 1 may be unavailable.
            ("rollingUpdate: { maxSurge: 1 }", Err("maxSurge: may not be set when maxUnavailable is non-zero")),
            ("rollingUpdate: { maxUnavailable: 0 }", Err("maxUnavailable: cannot be 0 when maxSurge is 0")),
            ("rollingUpdate: { maxUnavailable: 101% }", Err("maxUnavailable: must not be greater than 100%")),
            ("rollingUpdate: { maxUnavailable: -1 }", Err("maxUnavailable: ")),
            ("type: Recreate", Err("updateStrategy.type: ")),
        ] {
            let (manifest, problems) = load(&format!("updateStrategy: {{ {written} }}"), "");
            match expected {
                Ok(update) => {
                    assert_eq!(problems, Vec::<String>::new(), "{written}");
                    assert_eq!(manifest.map(|it| it.update), Some(update), "{written}");
                }
                Err(text) => {
                    assert!(problems.len() == 1 && problems[0].contains(text), "{written}: {problems:?}");
                    assert!(manifest.is_none(), "{written}");
                }
            }
        }
    }

    #[test]
    fn mistakes_are_told() {
        let (_, problems) = load("", "nodeSelektor: { a: b },");
        assert!(problems.len() == 1 && problems[0].contains("spec.template.spec.nodeSelektor"), "{problems:?}");
        let (_, problems) = load("minReadySeconds: -1", "");
        assert!(problems.len() == 1 && problems[0].contains("spec.minReadySeconds"), "{problems:?}");
        let (_, problems) = load("replicas: 3", "");
        assert!(problems.len() == 1 && problems[0].contains("spec.replicas"), "{problems:?}");
    }

    #[test]
    fn it_selects_its_own_pods() {
        let text = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: { name: log }\nspec: { selector: { matchLabels: { a: c } }, template: { metadata: { labels: { a: b } }, \
                    spec: { containers: [ { name: m, image: i } ] } } }\n";
        let (documents, _) = yaml::parse(text, 0);
        let sink = Sink::default();
        let objects = object::objects(documents, &sink);
        read(&objects[0], &sink);
        let problems = sink.take_problems();
        assert!(problems.len() == 1 && problems[0].text.contains("`a: c` is not among the labels"), "{problems:?}");
    }
}
