//! `ProxyConfig` and `ASMProxyConfig` as objects, and what all sources come to for a pod.

use std::collections::BTreeMap;

use super::{ProxyConfig, image_type, texts, written};
use crate::manifest::object::{ISTIO, Object};
use crate::manifest::read::{Field, Fields, Sink};

/// The kinds, with their API groups, from the stronger one.
pub const KINDS: [(&str, &str); 2] = [("ProxyConfig", ISTIO), ("ASMProxyConfig", "istio.alibabacloud.com")];

/// Where objects without a selector hold for the whole mesh.
const ROOT_NAMESPACE: &str = "istio-system";

/// One object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyConfigObject {
    /// Its namespace.
    pub namespace: String,
    /// The labels of the pods that it is for; none: all.
    pub selector: Option<BTreeMap<String, String>>,
    /// It is ASM's.
    pub is_asm: bool,
    /// What it says.
    pub config: ProxyConfig,
}

/// Reads an object of one of the two kinds.
pub fn read(object: &Object, sink: &Sink) -> Option<ProxyConfigObject> {
    let prefix = object.prefix();
    let before = sink.problem_count();
    let fields = object.open(sink, &prefix)?;
    let spec = fields.look("spec");
    fields.finish();
    let spec = spec.and_then(|field| field.fields());
    let is_asm = object.id.kind == KINDS[1].0;
    let selector = spec.as_ref().and_then(|spec| spec.look("selector")).and_then(|field| selector(&field));
    let config = spec.as_ref().map(|spec| if is_asm { read_asm(spec) } else { read_istio(spec) });
    if let Some(spec) = &spec {
        spec.finish();
    }
    let config = config.unwrap_or_default();
    (sink.problem_count() == before).then(|| ProxyConfigObject {
        namespace: object.id.namespace.clone(),
        selector,
        is_asm,
        config,
    })
}

fn selector(field: &Field<'_>) -> Option<BTreeMap<String, String>> {
    let fields = field.fields()?;
    let labels = fields.look("matchLabels").map(|labels| labels.text_map());
    fields.finish();
    labels
}

fn concurrency(spec: &Fields<'_>) -> Option<super::Written<u16>> {
    let field = spec.get("concurrency")?;
    written(&field, field.place(), field.whole(0, 1024))
}

fn read_istio(spec: &Fields<'_>) -> ProxyConfig {
    ProxyConfig {
        concurrency: concurrency(spec),
        env: spec.look("environmentVariables").map(|field| texts(&field, None)).unwrap_or_default(),
        image_type: spec.look("image").and_then(|field| image_type(&field, None)),
        ..ProxyConfig::default()
    }
}

/// Fields of an `ASMProxyConfig` without a part in how a gateway ends.
const ASM_OTHERS: [&str; 24] = [
    "sidecarProxyInitResource",
    "sidecarProxyResource",
    "scaledSidecarResource",
    "excludeOutboundPorts",
    "excludeOutboundIPRanges",
    "includeOutboundIPRanges",
    "excludeInboundPorts",
    "includeInboundPorts",
    "includeOutboundPorts",
    "istioDNSProxyEnabled",
    "proxyStatsMatcher",
    "holdApplicationUntilProxyStarts",
    "logLevel",
    "tracing",
    "interceptionMode",
    "extraStatTags",
    "privileged",
    "enableCoreDump",
    "readinessInitialDelaySeconds",
    "readinessPeriodSeconds",
    "readinessFailureThreshold",
    "sidecarProxyInitAckSloResource",
    "sidecarProxyAckSloResource",
    "runtimeValues",
];

fn read_asm(spec: &Fields<'_>) -> ProxyConfig {
    let span = |key: &str| spec.get(key).and_then(|field| written(&field, field.place(), field.duration()));
    let found = ProxyConfig {
        termination_drain: span("terminationDrainDuration"),
        drain: span("drainDuration"),
        concurrency: concurrency(spec),
        env: spec.look("proxyMetadata").map(|field| texts(&field, None)).unwrap_or_default(),
        image_type: None,
    };
    spec.ignore(&["parentShutdownDuration"], "Istio runs Envoy without hot restart, so it has no effect");
    spec.ignore(&["lifecycle"], "hooks of sidecars; a gateway's own stand in its `lifecycle`");
    spec.ignore(&["privateKeyProvider"], "TLS is not simulated");
    spec.ignore(&ASM_OTHERS, "it has no part in how a gateway ends");
    spec.ignore(&["smcConfiguration"], "it has no part in how a gateway ends");
    found
}

/// What all sources come to for a pod.
#[must_use]
pub fn effective(
    namespace: &str,
    labels: &BTreeMap<String, String>,
    annotation: ProxyConfig,
    objects: &[ProxyConfigObject],
) -> ProxyConfig {
    let first = |is_asm: bool, of: &str, is_chosen: bool| {
        let holds = |object: &&ProxyConfigObject| {
            let selects = match &object.selector {
                None => !is_chosen,
                Some(selector) => {
                    is_chosen
                        && !selector.is_empty()
                        && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
                }
            };
            object.is_asm == is_asm && object.namespace == of && selects
        };
        objects.iter().find(holds).map(|object| object.config.clone()).unwrap_or_default()
    };
    let everywhere = first(false, ROOT_NAMESPACE, false).over(first(true, ROOT_NAMESPACE, false));
    let of_namespace = match namespace {
        ROOT_NAMESPACE => ProxyConfig::default(),
        other => first(false, other, false).over(first(true, other, false)),
    };
    let chosen = first(false, namespace, true).over(annotation).over(first(true, namespace, true));
    chosen.over(of_namespace).over(everywhere)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::manifest::object::objects;
    use crate::manifest::problem::Place;
    use crate::manifest::yaml;

    fn object(kind: &str, namespace: &str, spec: &str) -> ProxyConfigObject {
        let version = if kind == "ProxyConfig" { "networking.istio.io/v1beta1" } else { "istio.alibabacloud.com/v1" };
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: it, namespace: {namespace} }}\nspec: {spec}\n"
        );
        let sink = Sink::default();
        let found = objects(yaml::parse(&text, 0).0, &sink);
        let read = read(&found[0], &sink);
        assert_eq!(sink.take_problems(), []);
        read.expect("it is right")
    }

    #[test]
    fn the_closest_source_that_writes_a_setting_decides_it() {
        let labels = BTreeMap::from([("app".to_owned(), "edge".to_owned())]);
        let all = [
            object("ProxyConfig", "istio-system", "{ concurrency: 1, environmentVariables: { A: mesh, B: mesh } }"),
            object("ASMProxyConfig", "istio-system", "{ drainDuration: 40s, terminationDrainDuration: 11s }"),
            object("ASMProxyConfig", "edge", "{ terminationDrainDuration: 12s, proxyMetadata: { B: asm } }"),
            object("ProxyConfig", "edge", "{ environmentVariables: { B: namespace } }"),
            object("ProxyConfig", "edge", "{ selector: { matchLabels: { app: other } }, concurrency: 7 }"),
            object("ASMProxyConfig", "edge", "{ selector: { matchLabels: { app: edge } }, concurrency: 5 }"),
            object(
                "ProxyConfig",
                "edge",
                "{ selector: { matchLabels: { app: edge } }, environmentVariables: { C: pod } }",
            ),
        ];
        let sink = Sink::default();
        let annotation =
            super::super::read("terminationDrainDuration: 13s\nproxyMetadata: { C: text }", Place::NOWHERE, &sink);
        let found = effective("edge", &labels, annotation.expect("right"), &all);
        let span = |written: &Option<super::super::Written<Duration>>| written.as_ref().map(|it| it.value.as_secs());
        assert_eq!((span(&found.termination_drain), span(&found.drain)), (Some(13), Some(40)));
        assert_eq!(found.concurrency.map(|it| it.value), Some(5), "the other pod's is not for this one");
        let env: Vec<_> = found.env.iter().map(|(name, it)| (name.as_str(), it.value.as_str())).collect();
        assert_eq!(env, [("A", "mesh"), ("B", "namespace"), ("C", "pod")]);
        let without = effective("edge", &labels, ProxyConfig::default(), &all);
        assert_eq!(span(&without.termination_drain), Some(12), "of the namespace before of the mesh");
        let elsewhere = effective("default", &labels, ProxyConfig::default(), &all);
        assert_eq!((span(&elsewhere.termination_drain), elsewhere.concurrency.map(|it| it.value)), (Some(11), Some(1)));
    }
}
