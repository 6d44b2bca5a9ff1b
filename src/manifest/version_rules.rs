//! Fields that the API server of one version of Kubernetes refuses and that of another takes, in its words.
//!
//! | what | refused |
//! | --- | --- |
//! | a Service's name that begins with a digit | before 1.36 (KEP-5311, `RelaxedServiceNameValidation`) |
//! | a variable's name beyond letters, digits, `_`, `-` and `.` | before 1.32 (KEP-4369, `RelaxedEnvironmentVariableValidation`) |
//! | a deletion cost that is no number | from 1.22 on (KEP-2255, `PodDeletionCost`) |
//! | metrics of single containers | before 1.27 (KEP-1610, `HPAContainerMetrics`) |
//! | a probe over gRPC | before 1.24 (KEP-2727, `GRPCContainerProbe`) |
//! | `trafficDistribution` of another value than `PreferClose` | from 1.31 on, before 1.34 (KEP-3015, `PreferSameTrafficDistribution`) |
//! | an autoscaler's target without an API group | from 1.34 on (kubernetes/kubernetes pull 132537) |
//!
//! Source: Kubernetes pkg/features/kube_features.go; pkg/apis/core/validation/validation.go (`ValidateServiceName`, `ValidateEnv`,
//! `ValidatePodSpecificAnnotations`), pkg/apis/core/v1/helper (`GetDeletionCostFromPodAnnotations`),
//! pkg/registry/autoscaling/horizontalpodautoscaler/strategy.go (`dropContainerMetricSources`).

use super::names;
use super::object::Object;
use super::problem::{Place, Problem};
use super::read::Sink;
use super::yaml::Node;
use crate::cluster::Version;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SERVICE_NAMES: Version = Version::new(1, 36);
const VARIABLES: Version = Version::new(1, 32);
const CONTAINER_METRICS: Version = Version::new(1, 27);
const TARGET_GROUPS: Version = Version::new(1, 34);
const GRPC_PROBES: Version = Version::new(1, 24);
/// When `trafficDistribution` came, and when it got its other values.
const DISTRIBUTIONS: (Version, Version) = (Version::new(1, 31), Version::new(1, 34));

/// Reports what this version refuses of an object.
pub fn check(object: &Object, version: Version, sink: &Sink) {
    let rules = Rules { version, sink };
    match object.id.kind.as_str() {
        "Service" => rules.check_service(object, &object.id.name),
        // Its Service has this name.
        "IstioGateway" => rules.check_service(object, &format!("istio-{}", object.id.name)),
        "Deployment" | "DaemonSet" => {
            if let Some(template) = object.node.find(&["spec", "template"]) {
                rules.check_pods(template, "spec.template.");
            }
        }
        "Pod" => rules.check_pods(&object.node, ""),
        "HorizontalPodAutoscaler" => rules.check_autoscaler(object),
        _ => {}
    }
}

/// Whether the API version of an autoscaler's target has a group; none: it is no API version. Source: apimachinery pkg/runtime/schema
/// `ParseGroupVersion`.
pub(super) fn group(api_version: &str) -> Option<&str> {
    match api_version.matches('/').count() {
        0 => Some(""),
        1 => api_version.split('/').next(),
        _ => None,
    }
}

struct Rules<'a> {
    version: Version,
    sink: &'a Sink,
}

impl Rules<'_> {
    fn refuse(&self, at: Place, path: &str, text: &str, help: &str) {
        self.sink.report(Problem::at(at, path, text).help(help));
    }

    fn check_service(&self, object: &Object, name: &str) {
        let is_relaxed = self.version >= SERVICE_NAMES;
        let wrong = if is_relaxed { names::wrong_label(name) } else { names::wrong_label_1035(name) };
        if let Some(text) = wrong {
            let at = object.node.find(&["metadata", "name"]).map_or(object.place(), |node| node.at);
            let begins = if is_relaxed { "" } else { ", beginning with a letter" };
            let help = format!("`{name}` is not one: write at most 63 small letters, digits and dashes{begins}");
            self.refuse(at, "metadata.name", text, &help);
        }
        let (first, all) = DISTRIBUTIONS;
        let is_limited = (first..all).contains(&self.version);
        let distribution = object.node.find(&["spec", "trafficDistribution"]).filter(|_| is_limited);
        if let Some((node, text)) = distribution.and_then(|node| Some((node, node.text()?)))
            && ["PreferSameZone", "PreferSameNode"].contains(&text)
        {
            let told = format!("Unsupported value: \"{text}\": Kubernetes {} has it from {all} on", self.version);
            self.refuse(
                node.at,
                "spec.trafficDistribution",
                &told,
                "write PreferClose, or simulate a newer cluster.version",
            );
        }
    }

    fn check_pods(&self, pods: &Node, path: &str) {
        let cost = pods.find(&["metadata", "annotations"]).and_then(|node| node.find(&[DELETION_COST]));
        if let Some((node, text)) = cost.and_then(|node| Some((node, node.text()?)))
            && self.version.has_deletion_cost()
            && !is_cost(text)
        {
            let path = format!("{path}metadata.annotations[{DELETION_COST}]");
            self.refuse(node.at, &path, "must be a 32bit integer", &format!("`{text}` is none: write \"5\" or \"-5\""));
        }
        let is_relaxed = self.version >= VARIABLES;
        for list in ["initContainers", "containers"] {
            let containers = pods.find(&["spec", list]).map(Node::items).unwrap_or_default();
            for (index, container) in containers.iter().enumerate() {
                self.check_probes(container, &format!("{path}spec.{list}[{index}]"));
                let variables = container.find(&["env"]).map(Node::items).unwrap_or_default();
                for (place, node) in variables.iter().map(|item| item.find(&["name"])).enumerate() {
                    let Some((node, text)) = node.and_then(|node| Some((node, node.text()?))) else { continue };
                    if let Some(told) = names::wrong_variable(text, is_relaxed) {
                        let path = format!("{path}spec.{list}[{index}].env[{place}].name");
                        let more = if is_relaxed { "" } else { "; other signs are taken from cluster.version 1.32 on" };
                        self.refuse(
                            node.at,
                            &path,
                            told,
                            &format!("`{text}` does not: write one such as LOG_LEVEL{more}"),
                        );
                    }
                }
            }
        }
    }

    fn check_probes(&self, container: &Node, path: &str) {
        for probe in
            ["livenessProbe", "readinessProbe", "startupProbe"].into_iter().filter(|_| self.version < GRPC_PROBES)
        {
            if let Some(node) = container.find(&[probe, "grpc"]) {
                let text = format!("must specify a handler type: Kubernetes {} drops probes over gRPC", self.version);
                let help = "write exec, httpGet or tcpSocket, or simulate cluster.version \"1.24\" or newer";
                self.refuse(node.at, &format!("{path}.{probe}"), &text, help);
            }
        }
    }

    fn check_autoscaler(&self, object: &Object) {
        let metrics = object.node.find(&["spec", "metrics"]).map(Node::items).unwrap_or_default();
        for (index, metric) in metrics.iter().enumerate().filter(|_| self.version < CONTAINER_METRICS) {
            if let Some(kind) = metric.find(&["type"]).filter(|node| node.text() == Some("ContainerResource")) {
                let path = format!("spec.metrics[{index}].containerResource");
                let text = format!(
                    "must populate information for the given metric source: Kubernetes {} drops metrics of containers",
                    self.version
                );
                self.refuse(
                    kind.at,
                    &path,
                    &text,
                    "write type: Resource, or simulate cluster.version \"1.27\" or newer",
                );
            }
        }
        let Some(target) = object.node.find(&["spec", "scaleTargetRef"]).filter(|_| self.version >= TARGET_GROUPS)
        else {
            return;
        };
        let written = target.find(&["apiVersion"]);
        let text = written.and_then(Node::text).unwrap_or_default();
        let of_core = target.find(&["kind"]).and_then(Node::text) == Some("ReplicationController");
        let told = match group(text) {
            None => format!("unexpected GroupVersion string: {text}"),
            Some("") if !of_core => "apiVersion must specify API group".to_owned(),
            Some(_) => return,
        };
        let at = written.map_or(target.at, |node| node.at);
        self.refuse(at, "spec.scaleTargetRef.apiVersion", &told, "write apps/v1, the group of Deployments");
    }
}

/// Whether a deletion cost is one: no plus, no zeros before other digits.
fn is_cost(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    (text == "0" || digits.starts_with(|letter: char| ('1'..='9').contains(&letter))) && text.parse::<i32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{object, yaml};

    fn told(text: &str, minor: u32) -> Vec<String> {
        let sink = Sink::default();
        let objects = object::objects(yaml::parse(text, 0).0, &sink);
        assert!(sink.take_problems().is_empty() && objects.len() == 1, "{text}");
        check(&objects[0], Version::new(1, minor), &sink);
        let problems = sink.take_problems();
        assert!(problems.iter().all(|problem| problem.help.is_some() && problem.place.is_written()), "{problems:?}");
        problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect()
    }

    /// Refused from the first to the last of these minor versions, and in no other.
    #[track_caller]
    fn refused(text: &str, (first, last): (u32, u32), part: &str) {
        for minor in 19..=40 {
            let told = told(text, minor);
            if (first..=last).contains(&minor) {
                assert!(told.len() == 1 && told[0].contains(part), "{text} in 1.{minor}: {told:?}");
            } else {
                assert_eq!(told, Vec::<String>::new(), "{text} in 1.{minor}");
            }
        }
    }

    const NEVER: (u32, u32) = (1, 0);
    const ALWAYS: (u32, u32) = (19, 40);

    #[test]
    fn names_of_services() {
        let service = |name: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\n");
        refused(&service("edge-1"), NEVER, "");
        refused(&service("1edge"), (19, 35), "metadata.name: a DNS-1035 label must");
        refused(&service(&"a".repeat(63)), NEVER, "");
        refused(&service(&"a".repeat(64)), ALWAYS, "metadata.name: must be no more than 63 characters");
        let gateway = |name: &str| {
            format!("apiVersion: istio.alibabacloud.com/v1\nkind: IstioGateway\nmetadata: {{ name: {name} }}\n")
        };
        refused(&gateway(&format!("1{}", "a".repeat(56))), NEVER, "");
        refused(&gateway(&"a".repeat(58)), ALWAYS, "metadata.name: must be no more than 63 characters");
        refused(&service("a.b"), ALWAYS, "label must consist of");
    }

    fn deployment(metadata: &str, env: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: a }}\nspec:\n  template:\n    metadata: {{ {metadata} }}\n    \
             spec: {{ containers: [ {{ name: a, image: a, env: [ {env} ] }} ] }}\n"
        )
    }

    #[test]
    fn names_of_variables() {
        refused(&deployment("", "{ name: A_1.b-c }"), NEVER, "");
        refused(&deployment("", "{ name: 1 A }"), (19, 31), "spec.template.spec.containers[0].env[0].name: a valid");
        refused(&deployment("", "{ name: A }, { name: \"A=B\" }"), ALWAYS, "containers[0].env[1].name: a valid");
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: { name: a }\nspec: { initContainers: [ { env: [ { name: 2 B } ] } ] }\n";
        refused(pod, (19, 31), "spec.initContainers[0].env[0].name");
    }

    #[test]
    fn costs_of_deletion() {
        let cost = |text: &str| deployment(&format!("annotations: {{ {DELETION_COST}: \"{text}\" }}"), "");
        for text in ["0", "5", "-5", "2147483647", "-2147483648"] {
            refused(&cost(text), NEVER, "");
        }
        for text in ["abc", "+5", "05", "", "-", "-05", "2147483648", "1.5", "5 "] {
            refused(&cost(text), (22, 40), "must be a 32bit integer");
        }
    }

    #[test]
    fn probes_over_grpc() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: { name: a }\nspec: { containers: [ { livenessProbe: { grpc: { port: 80 } } } ] }\n";
        refused(pod, (19, 23), "spec.containers[0].livenessProbe: must specify a handler type");
        let text = deployment("", "").replace("image: a,", "image: a, readinessProbe: { grpc: { port: 80 } },");
        refused(&text, (19, 23), "spec.template.spec.containers[0].readinessProbe: must specify");
    }

    #[test]
    fn distributions_of_traffic() {
        let service = |value: &str| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{ name: a }}\nspec: {{ trafficDistribution: {value} }}\n"
            )
        };
        refused(&service("PreferClose"), NEVER, "");
        refused(&service("PreferSameZone"), (31, 33), "spec.trafficDistribution: Unsupported value");
        refused(&service("PreferSameNode"), (31, 33), "spec.trafficDistribution: Unsupported value");
    }

    fn autoscaler(target: &str, metrics: &str) -> String {
        format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{ name: a }}\nspec: {{ scaleTargetRef: {{ {target} }}, \
             metrics: [ {metrics} ] }}\n"
        )
    }

    #[test]
    fn metrics_of_containers() {
        let target = "apiVersion: apps/v1, kind: Deployment, name: a";
        refused(&autoscaler(target, "{ type: Resource }"), NEVER, "");
        let text = autoscaler(target, "{ type: Resource }, { type: ContainerResource }");
        refused(&text, (19, 26), "spec.metrics[1].containerResource: must populate information");
    }

    #[test]
    fn groups_of_targets() {
        for api in ["apps/v1", "extensions/v1beta1", "apps/", "a/b"] {
            refused(&autoscaler(&format!("apiVersion: {api}, kind: Deployment, name: a"), ""), NEVER, "");
        }
        refused(&autoscaler("kind: Deployment, name: a", ""), (34, 40), "apiVersion must specify API group");
        refused(&autoscaler("apiVersion: v1, kind: Deployment, name: a", ""), (34, 40), "must specify API group");
        refused(&autoscaler("apiVersion: v1, kind: ReplicationController, name: a", ""), NEVER, "");
        refused(&autoscaler("apiVersion: a/b/c, kind: Deployment, name: a", ""), (34, 40), "unexpected GroupVersion");
    }
}
