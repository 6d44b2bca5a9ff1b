//! What the API server refuses of a pod's fields that have no further meaning in a drill.
//!
//! An empty text is as good as none: the API server fills in its default.
//! Source: Kubernetes v1.33 pkg/apis/core/validation/validation.go (`validateContainerCommon`, `validateContainerPorts`, `ValidateEnv`,
//! `validateHTTPGetAction`, `ValidateVolumeMounts`, `ValidatePodSpec`, `validatePodDNSConfig`, `ValidatePodTemplateSpec`).

use std::collections::BTreeSet;

use super::names;
use super::read::{Field, Fields};
use crate::record::results::FidelityStatus;

/// Where a variable's value may come from.
const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

/// Checks a field that has one of a few values.
fn check_word(fields: &Fields<'_>, key: &str, words: &[&str]) {
    if let Some(field) = fields.look(key).filter(|field| field.node().text() != Some("")) {
        let words: Vec<(&str, ())> = words.iter().map(|word| (*word, ())).collect();
        let _ = field.choice(&words);
    }
}

/// Checks a field that is a name.
fn check_name(fields: &Fields<'_>, key: &str, wrong: impl Fn(&str) -> Option<&'static str>) {
    if let Some(field) = fields.look(key)
        && let Some(text) = field.text().filter(|text| !text.is_empty())
        && let Some(told) = wrong(text)
    {
        field.refuse(told, format!("`{text}` does not: write small letters, digits and dashes"));
    }
}

/// Checks a pod's own fields.
pub(super) fn check_pod(spec: &Fields<'_>) {
    check_word(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    check_word(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"]);
    if let Some(policy) = spec.look("dnsPolicy").filter(|field| field.node().text() == Some("None")) {
        let servers = spec.look("dnsConfig").and_then(|field| field.node().find(&["nameservers"]).cloned());
        if servers.is_none_or(|node| node.items().is_empty()) {
            let text = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            policy.refuse(text, "write dnsConfig.nameservers, or dnsPolicy: ClusterFirst");
        }
    }
    check_name(spec, "hostname", names::wrong_label);
    check_name(spec, "subdomain", names::wrong_label);
    let subdomain = |text: &str| (!names::is_subdomain(text)).then_some("a lowercase RFC 1123 subdomain is expected");
    check_name(spec, "serviceAccountName", subdomain);
    check_name(spec, "runtimeClassName", subdomain);
    if let Some(field) = spec.look("ephemeralContainers").filter(|field| !field.node().is_empty()) {
        field.refuse("ephemeral containers are not allowed here", "they are added to a running pod: take them out");
    }
    if let Some(os) = spec.look("os").and_then(|field| field.fields()) {
        check_word(&os, "name", &["linux", "windows"]);
        os.finish();
    }
}

/// Checks what else a container has.
pub(super) fn check_container(fields: &Fields<'_>) {
    check_word(fields, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"]);
    check_word(fields, "imagePullPolicy", &["Always", "IfNotPresent", "Never"]);
    if let Some(policy) = fields.look("imagePullPolicy") {
        let (status, note) = match policy.node().text() {
            Some("Always") => {
                let note = "the kubelet asks the registry at every start of the container; that it answers, and at once, is assumed";
                (FidelityStatus::Approximated, Some(note))
            }
            Some("Never") => (
                FidelityStatus::Ignored,
                Some("not simulated: an image that is not on the node is pulled all the same"),
            ),
            _ => (FidelityStatus::Modelled, None),
        };
        policy.note(status, note);
    }
    let mounts = fields.look("volumeMounts").map(|field| field.items()).unwrap_or_default();
    let mut paths = BTreeSet::new();
    for mount in mounts.iter().filter_map(Field::fields) {
        match mount.look("mountPath") {
            Some(field) => {
                let text = field.text().unwrap_or_default();
                if !text.is_empty() && !paths.insert(text) {
                    field.refuse("must be unique", format!("another volume is mounted at {text} already"));
                }
            }
            None => mount.missing("mountPath", "say where the volume is mounted"),
        }
        if mount.look("name").is_none() {
            mount.missing("name", "name the volume");
        }
    }
}

/// Checks one port of a container, beside its number; `names` are those of the ports before it.
pub(super) fn check_port<'a>(fields: &Fields<'a>, names: &mut BTreeSet<&'a str>) {
    check_word(fields, "protocol", &["SCTP", "TCP", "UDP"]);
    if let Some(field) = fields.look("name")
        && let Some(text) = field.text().filter(|text| !text.is_empty())
    {
        if let Some(told) = names::wrong_port(text) {
            field.refuse(told, format!("`{text}` does not: write a name such as http-admin"));
        } else if !names.insert(text) {
            field.refuse(format!("Duplicate value: \"{text}\""), "each named port has a name of its own");
        }
    }
    let host_port = fields.look("hostPort");
    if let Some(field) = host_port.filter(|field| field.whole::<u16>(0, 65_535).is_some_and(|number| number > 0)) {
        let note = "not simulated: nobody dials it, and it keeps no other pod off the node";
        field.note(FidelityStatus::Ignored, Some(note));
    }
    if let Some(field) = fields.look("hostIP").filter(|field| field.node().text() != Some(""))
        && field.text().is_some_and(|text| names::address(text).is_none())
    {
        field.refuse(
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "write an address, or leave it out",
        );
    }
}

/// Checks where a variable's value comes from.
pub(super) fn check_variable(fields: &Fields<'_>) {
    let Some(field) = fields.look("valueFrom") else { return };
    let sources = SOURCES.iter().filter(|key| field.node().find(&[key]).is_some()).count();
    let has_value = fields.look("value").is_some_and(|value| value.node().text() != Some(""));
    if sources == 0 {
        let text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        field.refuse(text, "write one of them, or value in place of valueFrom");
    } else if has_value {
        field.refuse("may not be specified when `value` is not empty", "take value or valueFrom out");
    } else if sources > 1 {
        field.refuse("may not have more than one field specified at a time", "leave one of them");
    }
}

/// Checks how a probe asks over HTTP.
pub(super) fn check_scheme(fields: &Fields<'_>) {
    check_word(fields, "scheme", &["HTTP", "HTTPS"]);
}

#[cfg(test)]
mod tests {
    use crate::manifest::read::Sink;
    use crate::manifest::{deployment, object, yaml};

    /// What is told of a Deployment whose pods have these further fields and its container these.
    fn told(pod: &str, container: &str) -> Vec<String> {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: edge, namespace: ns }}\nspec:\n  selector: {{ matchLabels: {{ a: b }} }}\n  \
             template:\n    metadata: {{ labels: {{ a: b }} }}\n    spec: {{ {pod} containers: [ {{ name: m, image: i, {container} }} ] }}\n"
        );
        let (documents, problems) = yaml::parse(&text, 0);
        assert!(problems.is_empty(), "{text}");
        let sink = Sink::default();
        let objects = object::objects(documents, &sink);
        let manifest = deployment::read(&objects[0], &sink);
        let problems = sink.take_problems();
        assert!(problems.iter().all(|problem| problem.help.is_some() && problem.place.is_written()), "{problems:?}");
        assert!(manifest.is_some() || !problems.is_empty(), "{text}");
        problems.iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect()
    }

    #[track_caller]
    fn check(pod: &str, container: &str, part: &str) {
        let told = told(pod, container);
        assert!(told.len() == 1 && told[0].contains(part), "{pod} {container}: {told:?}, not {part}");
    }

    #[test]
    fn containers_are_taken() {
        for container in [
            "imagePullPolicy: Always",
            "imagePullPolicy: Never",
            "imagePullPolicy: IfNotPresent",
            "imagePullPolicy: \"\"",
            "terminationMessagePolicy: FallbackToLogsOnError",
            "ports: [ { containerPort: 80, name: http, protocol: TCP, hostPort: 65535 }, { containerPort: 53, name: dns, protocol: UDP } ]",
            "ports: [ { containerPort: 80, name: fifteen-letters, hostIP: 10.0.0.1 }, { containerPort: 80, hostPort: 0 } ]",
            "env: [ { name: A, value: \"\", valueFrom: { fieldRef: { fieldPath: metadata.name } } } ]",
            "env: [ { name: A, valueFrom: { secretKeyRef: { name: s, key: k } } }, { name: A, value: b } ]",
            "readinessProbe: { httpGet: { port: 80, scheme: HTTP } }",
            "livenessProbe: { httpGet: { port: 80, scheme: HTTPS } }",
            "volumeMounts: [ { name: a, mountPath: /a }, { name: a, mountPath: /b } ]",
        ] {
            assert_eq!(told("", container), Vec::<String>::new(), "{container}");
        }
    }

    #[test]
    fn containers_are_refused() {
        for (container, part) in [
            ("imagePullPolicy: Sometimes", "imagePullPolicy: `Sometimes` is not known here"),
            ("imagePullPolicy: always", "imagePullPolicy: `always`"),
            ("terminationMessagePolicy: X", "terminationMessagePolicy: `X`"),
            ("ports: [ { containerPort: 80, name: sixteen-letters- } ]", "ports[0].name: must be no more than 15"),
            ("ports: [ { containerPort: 80, name: \"80\" } ]", "at least one letter"),
            (
                "ports: [ { containerPort: 80, name: a }, { containerPort: 81, name: a } ]",
                "ports[1].name: Duplicate value: \"a\"",
            ),
            ("ports: [ { containerPort: 80, protocol: HTTP } ]", "ports[0].protocol: `HTTP`"),
            ("ports: [ { containerPort: 80, hostPort: 65536 } ]", "ports[0].hostPort: 65536 is out of range"),
            ("ports: [ { containerPort: 80, hostIP: a } ]", "must be a valid IP address"),
            (
                "env: [ { name: A, value: b, valueFrom: { fieldRef: { fieldPath: metadata.name } } } ]",
                "env[0].valueFrom: may not be specified when `value` is not empty",
            ),
            ("env: [ { name: A, valueFrom: {} } ]", "must specify one of: `fieldRef`"),
            ("env: [ { name: A, valueFrom: { fieldRef: {}, secretKeyRef: {} } } ]", "more than one field"),
            ("readinessProbe: { httpGet: { port: 80, scheme: http } }", "httpGet.scheme: `http`"),
            ("volumeMounts: [ { name: a, mountPath: /a }, { name: b, mountPath: /a } ]", "mountPath: must be unique"),
            ("volumeMounts: [ { name: a } ]", "mountPath: this is missing"),
        ] {
            check("", container, part);
        }
    }

    #[test]
    fn pods_are_taken_and_refused() {
        for pod in [
            "dnsPolicy: ClusterFirst,",
            "dnsPolicy: None, dnsConfig: { nameservers: [ 1.1.1.1 ] },",
            "hostname: a-1, subdomain: b,",
            "serviceAccountName: a.b,",
            "os: { name: linux },",
            "ephemeralContainers: [],",
            "preemptionPolicy: Never,",
            "terminationGracePeriodSeconds: -1,",
        ] {
            assert_eq!(told(pod, ""), Vec::<String>::new(), "{pod}");
        }
        for (pod, part) in [
            ("dnsPolicy: Foo,", "dnsPolicy: `Foo` is not known here"),
            ("dnsPolicy: None,", "must provide at least one DNS nameserver"),
            ("hostname: A,", "hostname: a lowercase RFC 1123 label"),
            ("subdomain: a.b,", "subdomain: a lowercase RFC 1123 label"),
            ("serviceAccountName: A,", "serviceAccountName: a lowercase RFC 1123 subdomain"),
            ("os: { name: mac },", "os.name: `mac`"),
            ("ephemeralContainers: [ { name: a } ],", "ephemeral containers are not allowed"),
            ("preemptionPolicy: Sometimes,", "preemptionPolicy: `Sometimes`"),
        ] {
            check(pod, "", part);
        }
    }
}
