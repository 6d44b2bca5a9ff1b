//! A pod's specification as text in which two that the Deployment controller takes for one are one.
//!
//! The controller compares templates as they are stored: with all defaults filled in, and field by field, where an empty list or map is as good as none and quantities are compared by
//! what they come to. So writing a default, or `0.2` for `200m`, rolls nothing; `lifecycle: {}` or `affinity: {}`, which are pointers to something empty, does.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/deployment/util/deployment_util.go (`EqualIgnoreHash`), pkg/apis/core/v1/defaults.go (`SetDefaults_PodSpec`, `…_Container`,
//! `…_ContainerPort`, `…_Probe`, `…_HTTPGetAction`, `…_Volume`, `…_ObjectFieldSelector`; those of `SetDefaults_Pod` are not for templates), apimachinery pkg/util/diff and
//! third_party/forked/golang/reflect/deep_equal.go.

use std::collections::BTreeMap;

use super::quantity;
use super::yaml::{Node, Value};
use crate::cluster::PullPolicy;

/// What a node stands for: it decides which of its fields have defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Pod,
    Containers,
    Container,
    Lifecycle,
    Handler,
    Probe,
    HttpGet,
    Grpc,
    Ports,
    Port,
    Mounts,
    Mount,
    Env,
    EnvVar,
    EnvSource,
    FieldRef,
    Resources,
    Quantities,
    Quantity,
    Volumes,
    Volume,
    EmptyDir,
    /// A volume whose files have a mode.
    Files,
    Texts,
    /// Something that is there or not, whatever is in it.
    Pointer,
    /// The same, but as good as absent while it is empty.
    Plain,
}

impl Kind {
    fn child(self, key: &str) -> Self {
        match (self, key) {
            (Self::Pod, "containers" | "initContainers" | "ephemeralContainers") => Self::Containers,
            (Self::Pod, "volumes") => Self::Volumes,
            (Self::Pod, "nodeSelector") | (_, "matchLabels" | "annotations" | "labels") => Self::Texts,
            (Self::Pod, "overhead") | (Self::Resources, "limits" | "requests") => Self::Quantities,
            (Self::Pod, "securityContext") | (Self::Volume, "name") => Self::Plain,
            (Self::Container, "resources") => Self::Resources,
            (Self::Container, "lifecycle") => Self::Lifecycle,
            (Self::Container, "ports") => Self::Ports,
            (Self::Container, "env") => Self::Env,
            (Self::Container, "volumeMounts") => Self::Mounts,
            (Self::Container, "livenessProbe" | "readinessProbe" | "startupProbe") => Self::Probe,
            (Self::Lifecycle, _) => Self::Handler,
            (Self::Handler | Self::Probe, "httpGet") => Self::HttpGet,
            (Self::Probe, "grpc") => Self::Grpc,
            (Self::EnvVar, "valueFrom") => Self::EnvSource,
            (Self::EnvSource, "fieldRef") => Self::FieldRef,
            (Self::Volume, "emptyDir") => Self::EmptyDir,
            (Self::Volume, "secret" | "configMap" | "downwardAPI" | "projected") => Self::Files,
            (Self::EmptyDir, "sizeLimit") | (_, "divisor") => Self::Quantity,
            _ => Self::Pointer,
        }
    }

    fn item(self) -> Self {
        match self {
            Self::Containers => Self::Container,
            Self::Ports => Self::Port,
            Self::Env => Self::EnvVar,
            Self::Mounts => Self::Mount,
            Self::Volumes => Self::Volume,
            _ => Self::Pointer,
        }
    }

    /// Whether an empty one is as good as none.
    fn is_absent_when_empty(self) -> bool {
        matches!(self, Self::Texts | Self::Quantities | Self::Resources | Self::Plain)
    }

    /// What a field is that nobody writes; beside the empty text, which no field of these kinds can be told from none.
    fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Pod => &[
                ("dnsPolicy", "ClusterFirst"),
                ("restartPolicy", "Always"),
                ("terminationGracePeriodSeconds", "30"),
                ("schedulerName", "default-scheduler"),
                ("hostNetwork", "false"),
                ("hostPID", "false"),
                ("hostIPC", "false"),
            ],
            Self::Container => &[
                ("terminationMessagePath", "/dev/termination-log"),
                ("terminationMessagePolicy", "File"),
                ("stdin", "false"),
                ("stdinOnce", "false"),
                ("tty", "false"),
            ],
            Self::Probe => &[
                ("initialDelaySeconds", "0"),
                ("timeoutSeconds", "1"),
                ("timeoutSeconds", "0"),
                ("periodSeconds", "10"),
                ("periodSeconds", "0"),
                ("successThreshold", "1"),
                ("successThreshold", "0"),
                ("failureThreshold", "3"),
                ("failureThreshold", "0"),
            ],
            Self::HttpGet => &[("path", "/"), ("scheme", "HTTP")],
            Self::Port => &[("protocol", "TCP"), ("hostPort", "0")],
            Self::Mount => &[("readOnly", "false")],
            Self::FieldRef => &[("apiVersion", "v1")],
            Self::Files => &[("defaultMode", "420"), ("defaultMode", "0644")],
            _ => &[],
        }
    }
}

/// A pod's specification, apart from what makes no other revision.
pub(super) fn pod_text(spec: &Node) -> String {
    text(spec, Kind::Pod).unwrap_or_default()
}

/// None: it is as good as absent.
fn text(node: &Node, kind: Kind) -> Option<String> {
    match &node.value {
        // The API server keeps no null.
        Value::Null => None,
        Value::Scalar { text, .. } if kind == Kind::Quantity => Some(amount(text)),
        Value::Scalar { text, .. } => (!text.is_empty()).then(|| format!("{text:?}")),
        Value::List(items) if items.is_empty() => None,
        Value::List(items) => {
            // An item holds its place, whatever it is.
            let items = items.iter().map(|item| text(item, kind.item()).unwrap_or_default());
            Some(format!("[{}]", items.collect::<Vec<_>>().join(",")))
        }
        Value::Map(_) => {
            let fields = fields(node, kind);
            if fields.is_empty() && kind.is_absent_when_empty() {
                return None;
            }
            let parts: Vec<String> = fields.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
            Some(format!("{{{}}}", parts.join(",")))
        }
    }
}

/// Its fields that say anything, by name.
fn fields(node: &Node, kind: Kind) -> BTreeMap<String, String> {
    let is_default = |key: &str, value: Option<&str>| {
        kind.defaults().iter().any(|(known, default)| *known == key && value == Some(*default))
            || kind == Kind::Container && key == "imagePullPolicy" && value == Some(usual_policy(node))
    };
    let value = |key: &str, value: &Node| match (kind, &value.value) {
        // A map of texts keeps those that are empty.
        (Kind::Texts, Value::Scalar { text, .. }) => Some(format!("{text:?}")),
        (Kind::Quantities, Value::Scalar { text, .. }) => Some(amount(text)),
        _ => text(value, kind.child(key)),
    };
    let written = node.entries().iter().filter(|entry| !is_default(&entry.key, entry.node.text()));
    let mut fields: BTreeMap<String, String> =
        written.filter_map(|entry| Some((entry.key.to_string(), value(&entry.key, &entry.node)?))).collect();
    // A volume without a source is an `emptyDir`.
    if kind == Kind::Volume && fields.keys().all(|key| key == "name") {
        fields.insert("emptyDir".to_owned(), "{}".to_owned());
    }
    fields
}

/// When a container's image is pulled: as it is written, or else by the image's tag.
pub(super) fn pull_policy(container: &Node) -> PullPolicy {
    let written = container.find(&["imagePullPolicy"]).and_then(Node::text).filter(|text| !text.is_empty());
    match written.unwrap_or_else(|| usual_policy(container)) {
        "Always" => PullPolicy::Always,
        "Never" => PullPolicy::Never,
        _ => PullPolicy::IfNotPresent,
    }
}

/// Who writes no policy has one by the image's tag.
fn usual_policy(container: &Node) -> &'static str {
    let image = container.find(&["image"]).and_then(Node::text).unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or(image);
    let tag = name.split('@').next().unwrap_or(name).split_once(':').map(|(_, tag)| tag);
    match tag {
        Some("latest") => "Always",
        None if !image.contains('@') => "Always",
        _ => "IfNotPresent",
    }
}

/// A quantity by what it comes to, in thousandths.
fn amount(text: &str) -> String {
    quantity::kubernetes_millis(text).map_or_else(|_| format!("{text:?}"), |millis| millis.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::yaml;

    const WRITTEN: &str = r#"
containers:
  - name: proxy
    image: "proxy:1"
    resources: { requests: { cpu: 200m, memory: 256Mi } }
    ports: [ { containerPort: 80 } ]
    readinessProbe: { httpGet: { path: /ready, port: 15021 } }
    env: [ { name: A, valueFrom: { fieldRef: { fieldPath: status.podIP } } } ]
    volumeMounts: [ { name: v, mountPath: /v } ]
volumes: [ { name: v } ]
"#;

    fn text_of(yaml: &str) -> String {
        let (nodes, problems) = yaml::parse(yaml, 0);
        assert!(problems.is_empty(), "{yaml}");
        pod_text(&nodes[0])
    }

    #[test]
    fn defaults_and_other_spellings_are_no_other_revision() {
        for (from, to) in [
            ("port: 15021 } }", "port: 15021 }, timeoutSeconds: 1, failureThreshold: 3, initialDelaySeconds: 0 }"),
            ("port: 15021 } }", "port: 15021, scheme: HTTP }, periodSeconds: 10, successThreshold: 1 }"),
            ("containerPort: 80", "containerPort: 80, protocol: TCP, hostPort: 0, hostIP: \"\""),
            ("    env:", "    imagePullPolicy: IfNotPresent\n    terminationMessagePolicy: File\n    env:"),
            ("    env:", "    stdin: false\n    tty: false\n    command: []\n    envFrom: null\n    env:"),
            ("cpu: 200m, memory: 256Mi", "memory: 262144Ki, cpu: \"0.2\""),
            ("cpu: 200m, memory: 256Mi } }", "cpu: 200m, memory: 256Mi }, limits: {} }"),
            ("volumes:", "restartPolicy: Always\ndnsPolicy: ClusterFirst\nsecurityContext: {}\nvolumes:"),
            ("volumes:", "nodeSelector: {}\ntolerations: []\ninitContainers: []\nhostNetwork: false\nvolumes:"),
            (
                "volumes:",
                "terminationGracePeriodSeconds: 30\nschedulerName: default-scheduler\npriorityClassName: \"\"\nvolumes:",
            ),
            ("{ name: v }", "{ name: v, emptyDir: {} }"),
            ("fieldPath: status.podIP", "fieldPath: status.podIP, apiVersion: v1"),
            ("mountPath: /v", "mountPath: /v, readOnly: false"),
        ] {
            assert_eq!(text_of(&WRITTEN.replacen(from, to, 1)), text_of(WRITTEN), "{to}");
        }
    }

    #[test]
    fn whatever_else_is_written_is_another_revision() {
        for (from, to) in [
            ("port: 15021 } }", "port: 15021 }, timeoutSeconds: 2 }"),
            ("containerPort: 80", "containerPort: 80, protocol: UDP"),
            ("containerPort: 80", "containerPort: 80, hostPort: 80"),
            ("    env:", "    imagePullPolicy: Always\n    env:"),
            ("    env:", "    lifecycle: {}\n    env:"),
            ("    env:", "    securityContext: {}\n    env:"),
            ("    env:", "    command: [ \"\" ]\n    env:"),
            ("cpu: 200m", "cpu: 201m"),
            ("cpu: 200m, memory: 256Mi } }", "cpu: 200m, memory: 256Mi }, limits: { cpu: 200m } }"),
            ("volumes:", "affinity: {}\nvolumes:"),
            ("volumes:", "enableServiceLinks: true\nvolumes:"),
            ("volumes:", "shareProcessNamespace: false\nvolumes:"),
            ("volumes:", "priority: 0\nvolumes:"),
            ("volumes:", "nodeSelector: { a: \"\" }\nvolumes:"),
            ("volumes:", "automountServiceAccountToken: false\nvolumes:"),
            ("{ name: v }", "{ name: v, emptyDir: { sizeLimit: 1Gi } }"),
        ] {
            let changed = WRITTEN.replacen(from, to, 1);
            assert_ne!(changed, WRITTEN, "{to}");
            assert_ne!(text_of(&changed), text_of(WRITTEN), "{to}");
        }
    }

    #[test]
    fn the_policy_that_nobody_wrote_follows_the_tag() {
        for (image, policy) in [
            ("proxy:1", "IfNotPresent"),
            ("proxy:latest", "Always"),
            ("registry.example.com:5000/mesh/proxy", "Always"),
            ("registry.example.com:5000/mesh/proxy@sha256:0a", "IfNotPresent"),
            ("proxy:latest@sha256:0a", "Always"),
        ] {
            let of = |more: &str| text_of(&format!("containers: [ {{ name: a, image: \"{image}\"{more} }} ]"));
            for written in ["IfNotPresent", "Always"] {
                let is_same = of(&format!(", imagePullPolicy: {written}")) == of("");
                assert_eq!(is_same, written == policy, "{image} {written}");
            }
        }
    }
}
