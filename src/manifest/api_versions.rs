//! Versions of APIs that a cluster's API server has: of its own kinds by its version, of Istio's and the Gateway API's as far as their definitions have ever had them.
//!
//! Source: Kubernetes "Deprecated API Migration Guide" (1.16, 1.22, 1.25, 1.26); release notes of 1.21 (`policy/v1`) and 1.23 (`autoscaling/v2`); istio/api
//! kubernetes/customresourcedefinitions.gen.yaml; kubernetes-sigs/gateway-api config/crd.

use super::object::{GATEWAY_API, ISTIO, Object};
use super::problem::Problem;
use super::read::Sink;
use super::version_rules;
use crate::cluster::Version;

/// A version of a kind's API, the first version of Kubernetes that has it, and the first that has it no more.
struct Served {
    kind: &'static str,
    api: &'static str,
    from: Version,
    until: Option<Version>,
}

const fn served(kind: &'static str, api: &'static str, from: u32, until: Option<Version>) -> Served {
    Served { kind, api, from: Version::new(1, from), until }
}

const AUTOSCALER: &str = "HorizontalPodAutoscaler";
const BUDGET: &str = "PodDisruptionBudget";
/// The best version last.
const SERVED: [Served; 12] = [
    served("Deployment", "apps/v1", 9, None),
    served("DaemonSet", "apps/v1", 9, None),
    served("Pod", "v1", 0, None),
    served("Service", "v1", 0, None),
    served("PriorityClass", "scheduling.k8s.io/v1beta1", 11, Some(Version::new(1, 22))),
    served("PriorityClass", "scheduling.k8s.io/v1", 14, None),
    served(AUTOSCALER, "autoscaling/v1", 2, None),
    served(AUTOSCALER, "autoscaling/v2beta1", 8, Some(Version::new(1, 25))),
    served(AUTOSCALER, "autoscaling/v2beta2", 12, Some(Version::new(1, 26))),
    served(AUTOSCALER, "autoscaling/v2", 23, None),
    served(BUDGET, "policy/v1beta1", 5, Some(Version::new(1, 25))),
    served(BUDGET, "policy/v1", 21, None),
];

/// Groups of custom resources, with the versions that they have had, the best one last.
const CUSTOM: [(&str, &[&str]); 2] =
    [(ISTIO, &["v1alpha3", "v1beta1", "v1"]), (GATEWAY_API, &["v1alpha2", "v1beta1", "v1"])];

impl Served {
    fn is_in(&self, version: Version) -> bool {
        self.from <= version && self.until.is_none_or(|until| version < until)
    }
}

/// Reports objects whose API this version of Kubernetes does not have, in the words of the API server, and what it refuses of them; of Deployments, which
/// may be edited yet, it is for the caller to ask.
pub fn check(objects: &[Object], version: Version, sink: &Sink) {
    for object in objects {
        if object.id.kind != "Deployment" {
            version_rules::check(object, version, sink);
        }
        let kind = object.id.kind.as_str();
        check_custom(object, sink);
        let of_kind = || SERVED.iter().filter(|it| it.kind == kind);
        let Some(entry) = object.node.entry("apiVersion").filter(|_| of_kind().next().is_some()) else { continue };
        let api = entry.node.text().unwrap_or_default();
        let known = of_kind().find(|it| it.api == api);
        if known.is_some_and(|it| it.is_in(version)) {
            continue;
        }
        let why = match known {
            Some(it) if it.from > version => format!("Kubernetes {version} does not have it yet, {} does", it.from),
            Some(_) => format!("Kubernetes {version} does not have it any more"),
            None => "no version of Kubernetes has it".to_owned(),
        };
        let text = format!("no matches for kind \"{kind}\" in version \"{api}\": {why}");
        let right = of_kind().rfind(|it| it.is_in(version)).map_or("", |it| it.api);
        let problem = Problem::at(entry.node.at, format!("{}apiVersion", object.prefix()), text);
        sink.report(problem.help(format!("write {right}, or simulate the cluster.version that you have")));
    }
}

/// Reports a custom resource of a version that its definition never had.
fn check_custom(object: &Object, sink: &Sink) {
    let Some(entry) = object.node.entry("apiVersion") else { return };
    let api = entry.node.text().unwrap_or_default();
    let Some((group, version)) = api.split_once('/') else { return };
    let Some((_, known)) = CUSTOM.iter().find(|(known, _)| *known == group) else { return };
    if let Some(best) = known.last().filter(|_| !known.contains(&version)) {
        let text = format!("no matches for kind \"{}\" in version \"{api}\"", object.id.kind);
        let problem = Problem::at(entry.node.at, format!("{}apiVersion", object.prefix()), text);
        sink.report(problem.help(format!("write {group}/{best}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{object, yaml};

    fn told(kind: &str, api: &str, minor: u32) -> Vec<(String, Option<String>)> {
        let text = format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{ name: a }}\n");
        let sink = Sink::default();
        let objects = object::objects(yaml::parse(&text, 0).0, &sink);
        assert_eq!(objects.len(), 1, "{text}");
        check(&objects, Version::new(1, minor), &sink);
        sink.take_problems().into_iter().map(|problem| (problem.text, problem.help)).collect()
    }

    #[test]
    fn each_version_has_its_first_and_its_last() {
        for (kind, api, first, last) in [
            (AUTOSCALER, "autoscaling/v1", 20, 40),
            (AUTOSCALER, "autoscaling/v2beta1", 20, 24),
            (AUTOSCALER, "autoscaling/v2beta2", 20, 25),
            (AUTOSCALER, "autoscaling/v2", 23, 40),
            (BUDGET, "policy/v1beta1", 20, 24),
            (BUDGET, "policy/v1", 21, 40),
        ] {
            for minor in 20..=40 {
                let is_there = told(kind, api, minor).is_empty();
                assert_eq!(is_there, (first..=last).contains(&minor), "{api} in 1.{minor}");
            }
        }
    }

    #[test]
    fn versions_that_nobody_has_are_refused() {
        for (kind, right, wrong) in [
            ("Deployment", "apps/v1", "apps/v1beta2"),
            ("DaemonSet", "apps/v1", "apps/v2"),
            ("Service", "v1", "v2"),
            ("Pod", "v1", "v1beta3"),
            ("Gateway", "networking.istio.io/v1", "networking.istio.io/v9"),
            ("VirtualService", "networking.istio.io/v1alpha3", "networking.istio.io/v1alpha1"),
            ("HTTPRoute", "gateway.networking.k8s.io/v1beta1", "gateway.networking.k8s.io/v2"),
        ] {
            assert_eq!(told(kind, right, 33), [], "{right}");
            let [(text, help)] = &told(kind, wrong, 33)[..] else { panic!("{wrong}: one problem") };
            assert!(text.starts_with(&format!("no matches for kind \"{kind}\" in version \"{wrong}\"")), "{text}");
            assert!(help.as_ref().is_some_and(|help| help.starts_with("write ")), "{help:?}");
        }
    }

    #[test]
    fn the_words_are_those_of_the_api_server() {
        let [(text, help)] = &told(BUDGET, "policy/v1beta1", 33)[..] else { panic!("one problem") };
        assert!(
            text.starts_with("no matches for kind \"PodDisruptionBudget\" in version \"policy/v1beta1\""),
            "{text}"
        );
        assert!(text.ends_with("Kubernetes 1.33 does not have it any more"), "{text}");
        assert!(help.as_ref().is_some_and(|help| help.starts_with("write policy/v1, ")), "{help:?}");
        let [(text, help)] = &told(AUTOSCALER, "autoscaling/v2", 22)[..] else { panic!("one problem") };
        assert!(text.ends_with("Kubernetes 1.22 does not have it yet, 1.23 does"), "{text}");
        assert!(help.as_ref().is_some_and(|help| help.starts_with("write autoscaling/v2beta2, ")), "{help:?}");
        let [(text, _)] = &told(AUTOSCALER, "autoscaling/v3", 33)[..] else { panic!("one problem") };
        assert!(text.ends_with("no version of Kubernetes has it"), "{text}");
    }
}
