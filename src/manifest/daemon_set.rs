//! `DaemonSet`s, as far as nodes have to do with them: what their pods ask for, and on which nodes they are.
//!
//! A pod of it is on every node that its template admits and whose taints it bears, from the start; it takes up what it asks for, and no drain takes it away.
//! What its process does is not simulated, and neither are its rollouts.
//! Source: Kubernetes v1.28.7 pkg/controller/daemon/{daemon_controller.go,util/daemonset_util.go} (`NodeShouldRunDaemonPod`,
//! `AddOrUpdateDaemonPodTolerations`).

use std::rc::Rc;

use super::deployment::read_template;
use super::object::Object;
use super::read::Sink;
use crate::cluster::placement::{TaintEffect, Toleration, TolerationValue};
use crate::cluster::{Daemon, Node, Placement};
use crate::record::results::FidelityStatus;

/// Taints with `NoSchedule` that every such pod bears.
const BORNE: [&str; 4] = ["disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"];

/// A `DaemonSet`.
#[derive(Clone, Debug)]
pub struct DaemonSetManifest {
    daemon: Daemon,
    placement: Placement,
}

impl DaemonSetManifest {
    /// Its pod on a node, if it has one there.
    #[must_use]
    pub fn on(&self, node: &Node) -> Option<Daemon> {
        let keeps_away = |effect| matches!(effect, TaintEffect::NoSchedule | TaintEffect::NoExecute);
        let bears_all = node.taints.iter().all(|taint| !keeps_away(taint.effect) || self.placement.tolerates(taint));
        (self.placement.admits(node) && bears_all).then(|| self.daemon.clone())
    }
}

/// Reads a `DaemonSet`.
pub fn read(object: &Object, sink: &Sink) -> Option<DaemonSetManifest> {
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let spec = fields.look("spec");
    fields.finish();
    let Some(spec) = spec.and_then(|spec| spec.fields()) else {
        fields.missing("spec", "a DaemonSet has a spec");
        return None;
    };
    spec.allow(&["minReadySeconds", "revisionHistoryLimit", "selector", "updateStrategy"]);
    let template = spec.look("template");
    if template.is_none() {
        spec.missing("template", "a DaemonSet has a pod template");
    }
    spec.finish();
    let template = template?;
    let note = "its pods are on their nodes, take up what they ask for, and stay through drains; what they do is not simulated";
    template.note(FidelityStatus::Approximated, Some(note));
    // What is said of single fields speaks of a gateway.
    let quiet = Sink::default();
    let read = read_template(&template.into_sink(&quiet));
    for problem in quiet.take_problems() {
        sink.report(problem);
    }
    let template = read?.template;
    let mut placement = template.placement;
    placement.tolerations.extend(BORNE.map(|name| Toleration {
        key: format!("node.kubernetes.io/{name}"),
        value: TolerationValue::Exists,
        effect: Some(TaintEffect::NoSchedule),
        seconds: None,
    }));
    Some(DaemonSetManifest { daemon: Daemon { key: Rc::from(object.key()), requests: template.requests }, placement })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::cluster::Resources;
    use crate::cluster::placement::Taint;
    use crate::manifest::{object, yaml};

    fn load(pod: &str) -> (Option<DaemonSetManifest>, Vec<String>) {
        let text = format!(
            "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{ name: log, namespace: kube-system }}\nspec:\n  selector: {{ matchLabels: {{ a: b }} }}\n  \
             updateStrategy: {{ type: RollingUpdate }}\n  template:\n    metadata: {{ labels: {{ a: b }} }}\n    spec: {{ {pod} containers: [ {{ name: m, image: i, \
             resources: {{ requests: {{ cpu: 100m, memory: 64Mi }} }} }} ] }}\n"
        );
        let (documents, problems) = yaml::parse(&text, 0);
        assert!(problems.is_empty(), "{text}");
        let sink = Sink::default();
        let objects = object::objects(documents, &sink);
        let manifest = objects.first().and_then(|object| read(object, &sink));
        (manifest, sink.take_problems().iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect())
    }

    fn node(labels: &[(&str, &str)], taint: Option<(&str, TaintEffect)>) -> Node {
        let mut node = Node::new(Rc::from("n"), Ipv4Addr::LOCALHOST, Rc::from("a"), Resources::default());
        node.labels.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        node.taints.extend(taint.map(|(key, effect)| Taint { key: key.to_owned(), value: String::new(), effect }));
        node
    }

    #[test]
    fn its_pods_are_on_the_nodes_that_will_do() {
        let gpu = [("gpu", "yes")];
        let unschedulable = ("node.kubernetes.io/unschedulable", TaintEffect::NoSchedule);
        for (pod, labels, taint, is_there) in [
            ("", &[][..], None, true),
            ("nodeSelector: { gpu: \"yes\" },", &[], None, false),
            ("nodeSelector: { gpu: \"yes\" },", &gpu, None, true),
            ("", &[], Some(("own", TaintEffect::NoSchedule)), false),
            ("", &[], Some(("own", TaintEffect::PreferNoSchedule)), true),
            ("tolerations: [ { operator: Exists } ],", &[], Some(("own", TaintEffect::NoExecute)), true),
            ("", &[], Some(unschedulable), true),
        ] {
            let (manifest, problems) = load(pod);
            assert_eq!(problems, Vec::<String>::new(), "{pod}");
            let daemon = manifest.expect("it is whole").on(&node(labels, taint));
            assert_eq!(daemon.is_some(), is_there, "{pod} {taint:?}");
            let expected = Resources { cpu_millicores: 100, memory_bytes: 64 << 20 };
            assert!(daemon.is_none_or(|daemon| (&*daemon.key, daemon.requests) == ("kube-system/log", expected)));
        }
    }

    #[test]
    fn mistakes_are_told() {
        let (_, problems) = load("nodeSelektor: { a: b },");
        assert!(problems.len() == 1 && problems[0].contains("spec.template.spec.nodeSelektor"), "{problems:?}");
    }
}
