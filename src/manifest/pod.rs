//! Pods without a controller.
//!
//! What is known of such a pod is what is known of a Deployment's pods, so it is read into the same form: as a Deployment of one, of which only the template
//! counts. A pod that names a controller as its owner was read from a cluster, and is what that controller makes.
//!
//! Source: Kubernetes v1.28.7 staging/src/k8s.io/api/core/v1/types.go (`Pod`), staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/controller_ref.go.

use std::rc::Rc;

use super::deployment::{DeploymentManifest, Keeper, Written, read_pod};
use super::object::Object;
use super::pod_text::pod_text;
use super::read::Sink;
use super::rolling_update::DEFAULT_STRATEGY;
use super::yaml::{Node, Value};
use crate::cluster::selector::LabelSelector;
use crate::cluster::{BarePod, Deployment};
use crate::record::results::FidelityStatus;

/// A pod, and all that is known of it.
#[derive(Clone, Debug)]
pub struct PodManifest {
    /// As a Deployment of one.
    pub manifest: DeploymentManifest,
    /// The node that it names, past the scheduler.
    pub node: Option<Written>,
    /// What no edit of it may change, as text: all of its specification but the image of the container whose process is simulated.
    pub fixed: String,
}

impl PodManifest {
    /// What the cluster gets.
    #[must_use]
    pub fn pod(&self) -> BarePod {
        let Deployment { key, template, .. } = &self.manifest.deployment;
        BarePod {
            key: Rc::clone(key),
            template: template.clone(),
            node_name: self.node.as_ref().map(|node| Rc::from(node.name.as_str())),
        }
    }
}

/// Reads a pod; none if it is a controller's.
pub fn read(object: &Object, sink: &Sink) -> Option<PodManifest> {
    if is_made(object) {
        let note = "a controller made it: its owner is what is simulated";
        sink.note(object.place(), object.id.to_string(), FidelityStatus::Ignored, Some(note));
        return None;
    }
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let pods = read_pod(&fields, Keeper::Nobody);
    fields.finish();
    let pods = pods?;
    let deployment = Deployment {
        key: Rc::from(object.key()),
        replicas: 1,
        strategy: DEFAULT_STRATEGY,
        is_paused: false,
        min_ready_seconds: 0,
        progress_deadline_seconds: None,
        revision_history_limit: 0,
        template: pods.template.clone(),
    };
    let node = object.node.find(&["spec", "nodeName"]).and_then(|node| {
        let name = node.text().filter(|name| !name.is_empty())?.to_owned();
        Some(Written { name, at: node.at, path: format!("{prefix}spec.nodeName") })
    });
    let fixed = fixed(object, pods.template.containers.first().map(|container| &*container.name));
    Some(PodManifest { manifest: pods.with(deployment, LabelSelector::default()), node, fixed })
}

/// Its specification without the image of this container.
fn fixed(object: &Object, container: Option<&str>) -> String {
    let Some(mut spec) = object.node.find(&["spec"]).cloned() else { return String::new() };
    let Value::Map(fields) = &mut spec.value else { return String::new() };
    let containers = fields.iter_mut().find(|field| &*field.key == "containers").map(|field| &mut field.node.value);
    let Some(Value::List(containers)) = containers else { return pod_text(&spec) };
    let is_it = |node: &&mut Node| container.is_none() || node.find(&["name"]).and_then(Node::text) == container;
    if let Some(Value::Map(fields)) = containers.iter_mut().find(is_it).map(|node| &mut node.value) {
        fields.retain(|field| &*field.key != "image");
    }
    pod_text(&spec)
}

/// Whether its metadata names a controller.
fn is_made(object: &Object) -> bool {
    let owners = object.node.find(&["metadata", "ownerReferences"]).map(|node| &node.value);
    let Some(Value::List(owners)) = owners else { return false };
    owners.iter().any(|owner| owner.find(&["controller"]).and_then(|node| node.text()) == Some("true"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::manifest::{object, yaml};

    fn load(metadata: &str, spec: &str) -> (Option<PodManifest>, Vec<String>, Vec<String>) {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{ name: web, namespace: shop, labels: {{ app: web }}{metadata} }}\n\
             spec: {{ {spec} containers: [ {{ name: m, image: i, resources: {{ requests: {{ cpu: 100m, memory: 64Mi }} }} }} ] }}\n\
             status: {{ phase: Running }}\n"
        );
        let (documents, problems) = yaml::parse(&text, 0);
        assert!(problems.is_empty(), "{text}");
        let sink = Sink::default();
        let objects = object::objects(documents, &sink);
        let manifest = objects.first().and_then(|object| read(object, &sink));
        let problems =
            sink.take_problems().iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect();
        let notes = sink.take_notes().into_iter().filter(|note| note.status != FidelityStatus::Modelled);
        (manifest, problems, notes.filter_map(|note| note.text).collect())
    }

    #[test]
    fn a_pod_is_read_as_a_template_is() {
        let (manifest, problems, notes) = load("", "terminationGracePeriodSeconds: 7,");
        assert_eq!((problems, notes), (Vec::new(), Vec::new()));
        let pod = manifest.expect("it is whole").pod();
        assert_eq!((&*pod.key, pod.template.grace_seconds, pod.template.requests.cpu_millicores), ("shop/web", 7, 100));
        assert_eq!(pod.template.labels, BTreeMap::from([("app".to_owned(), "web".to_owned())]));
    }

    #[test]
    fn a_pod_may_name_its_node() {
        for (spec, expected) in [("", None), ("nodeName: pool-1,", Some("pool-1"))] {
            let (manifest, problems, notes) = load("", spec);
            assert_eq!((problems, notes), (Vec::new(), Vec::new()), "{spec}");
            assert_eq!(manifest.expect("it is whole").pod().node_name.as_deref(), expected);
        }
    }

    #[test]
    fn a_pod_may_say_that_it_is_not_restarted_and_a_template_may_not() {
        for (policy, noted) in [("Always", false), ("OnFailure", true), ("Never", true)] {
            let (manifest, problems, notes) = load("", &format!("restartPolicy: {policy},"));
            assert!(manifest.is_some() && problems.is_empty(), "{policy}: {problems:?}");
            assert_eq!(notes.iter().any(|note| note.contains("until the pod is deleted")), noted, "{policy}");
        }
        let (_, problems, _) = load("", "restartPolicy: Sometimes,");
        assert!(problems.len() == 1 && problems[0].contains("spec.restartPolicy"), "{problems:?}");
    }

    #[test]
    fn mistakes_are_told_and_what_a_controller_made_is_left_to_it() {
        let (_, problems, _) = load("", "nodeSelektor: { a: b },");
        assert!(problems.len() == 1 && problems[0].contains("spec.nodeSelektor"), "{problems:?}");
        let owner = |controller: bool| {
            format!(
                ", ownerReferences: [ {{ apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: x, controller: {controller} }} ]"
            )
        };
        let (manifest, problems, notes) = load(&owner(true), "");
        assert!(manifest.is_none() && problems.is_empty() && notes.len() == 1, "{problems:?} {notes:?}");
        let (manifest, problems, _) = load(&owner(false), "");
        assert!(manifest.is_some() && problems.is_empty(), "{problems:?}");
    }
}
