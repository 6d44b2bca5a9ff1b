//! What the API server refuses of a pod's fields that have no further meaning in a drill.
//!
//! An empty text is as good as none: the API server fills in its default.
//! Source: Kubernetes v1.33 pkg/apis/core/validation/validation.go (`validateContainerCommon`, `validateContainerPorts`, `ValidateEnv`,
//! `validateHTTPGetAction`, `ValidateVolumeMounts`, `ValidatePodSpec`, `validatePodDNSConfig`, `ValidatePodTemplateSpec`).

use std::collections::BTreeSet;

use super::deployment::Role;
use super::names;
use super::read::{Field, Fields};
use super::security;
use super::yaml::{Node, Value};
use crate::record::results::FidelityStatus;

/// Where a variable's value may come from.
const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

/// What a variable may be made from. Source: `validEnvDownwardAPIFieldPathExpressions`, `validContainerResourceFieldPathExpressions`.
const FIELD_PATHS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
];

/// Checks fields that are switches.
fn check_switches(fields: &Fields<'_>, keys: &[&str]) {
    for field in keys.iter().filter_map(|key| fields.look(key)) {
        let _ = field.boolean();
    }
}

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
    security::check_pod(spec);
    check_dns(spec);
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
    check_switches(
        spec,
        &[
            "automountServiceAccountToken",
            "setHostnameAsFQDN",
            "hostNetwork",
            "hostPID",
            "hostIPC",
            "hostUsers",
            "shareProcessNamespace",
            "enableServiceLinks",
        ],
    );
    for alias in spec.look("hostAliases").map(|field| field.items()).unwrap_or_default() {
        let Some(fields) = alias.fields() else { continue };
        match fields.look("ip") {
            Some(ip) => check_address(&ip),
            None => fields.missing("ip", "write the address that the names stand for"),
        }
        for name in fields.look("hostnames").map(|field| field.items()).unwrap_or_default() {
            if name.text().is_some_and(|text| !names::is_subdomain(text)) {
                name.refuse("a lowercase RFC 1123 subdomain is expected", "write a name such as db.example.com");
            }
        }
        fields.finish();
    }
    for secret in spec.look("imagePullSecrets").map(|field| field.items()).unwrap_or_default() {
        let Some(fields) = secret.fields() else { continue };
        // One without a name is taken, with a warning.
        if let Some(name) = fields.look("name") {
            let _ = name.text();
        }
        fields.finish();
    }
    check_volumes(spec);
    if let Some(os) = spec.look("os").and_then(|field| field.fields()) {
        check_word(&os, "name", &["linux", "windows"]);
        os.finish();
    }
}

/// Checks `dnsConfig`. Source: `validatePodDNSConfig`, with the limits since 1.22.
fn check_dns(spec: &Fields<'_>) {
    const SERVERS_MAX: usize = 3;
    const SEARCHES_MAX: usize = 32;
    let Some(dns) = spec.look("dnsConfig").and_then(|field| field.fields()) else { return };
    let servers_field = dns.look("nameservers");
    let servers = servers_field.as_ref().map(|field| field.items()).unwrap_or_default();
    servers.iter().for_each(check_address);
    if let Some(field) = servers_field.filter(|_| servers.len() > SERVERS_MAX) {
        field.refuse(format!("must not have more than {SERVERS_MAX} nameservers"), "leave the first three");
    }
    let searches_field = dns.look("searches");
    let searches = searches_field.as_ref().map(|field| field.items()).unwrap_or_default();
    for search in &searches {
        if let Some(text) = search.text()
            && text != "."
            && !names::is_subdomain(text.strip_suffix('.').unwrap_or(text))
        {
            search.refuse("a lowercase RFC 1123 subdomain is expected", "write a domain such as svc.cluster.local");
        }
    }
    if let Some(field) = searches_field.filter(|_| searches.len() > SEARCHES_MAX) {
        field.refuse(format!("must not have more than {SEARCHES_MAX} search paths"), "leave out what is not needed");
    }
    for option in dns.look("options").map(|field| field.items()).unwrap_or_default() {
        let Some(inner) = option.fields() else { continue };
        match inner.look("name") {
            Some(name) if name.text() != Some("") => {}
            _ => inner.missing("name", "write the option's name, such as ndots"),
        }
        if let Some(value) = inner.look("value") {
            let _ = value.text();
        }
        inner.finish();
    }
    dns.finish();
}

fn check_address(field: &Field<'_>) {
    if field.text().is_some_and(|text| names::address(text).is_none()) {
        field.refuse("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", "write an address");
    }
}

/// Checks the volumes of a pod, and that what is mounted is one of them.
fn check_volumes(spec: &Fields<'_>) {
    let mut known = BTreeSet::new();
    for volume in spec.look("volumes").map(|field| field.items()).unwrap_or_default() {
        let Some(fields) = volume.fields() else { continue };
        let Some(name) = fields.look("name") else {
            fields.missing("name", "name the volume");
            continue;
        };
        let Some(text) = name.text() else { continue };
        if let Some(told) = names::wrong_label(text) {
            name.refuse(told, format!("`{text}` does not: write small letters, digits and dashes"));
        } else if !known.insert(text) {
            name.refuse(format!("Duplicate value: \"{text}\""), "each volume has a name of its own");
        }
        // Every source is a map.
        let sources = volume.node().entries().iter().filter(|entry| matches!(entry.node.value, Value::Map(_)));
        if sources.count() > 1 {
            volume.refuse("may not specify more than 1 volume type", "leave one of them");
        }
        let medium = fields.look("emptyDir").and_then(|field| field.fields()?.look("medium"));
        if let Some(medium) =
            medium.filter(|field| field.node().text().is_none_or(|text| !text.starts_with("HugePages")))
        {
            let _ = medium.choice(&[("", ()), ("Memory", ())]);
        }
    }
    let containers = ["initContainers", "containers"].iter().filter_map(|key| spec.look(key));
    for container in containers.flat_map(|field| field.items()) {
        // What injection adds to the pod is not known here.
        let is_injected = container.node().find(&["image"]).and_then(Node::text) == Some("auto");
        let mounts = container.fields().and_then(|fields| fields.look("volumeMounts"));
        for mount in mounts.filter(|_| !is_injected).map(|field| field.items()).unwrap_or_default() {
            if let Some(name) = mount.fields().and_then(|fields| fields.look("name"))
                && name.node().text().is_some_and(|text| !known.contains(text))
            {
                let text = format!("Not found: \"{}\"", name.node().text().unwrap_or_default());
                name.refuse(text, "write the name of one of the pod's volumes");
            }
        }
    }
}

/// Checks handlers of which only that they are there is of interest here.
fn check_handlers(fields: &Fields<'_>) {
    for key in ["postStart", "preStop"] {
        let hook = fields.look("lifecycle").and_then(|field| field.fields()?.look(key));
        if let Some(hook) = hook.filter(|field| field.node().is_empty()) {
            hook.refuse("must specify a handler type", "write exec, httpGet or sleep, or take it out");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"].iter().filter_map(|key| fields.look(key)) {
        let Some(probe) = probe.fields() else { continue };
        if let Some(exec) = probe.look("exec").and_then(|field| field.fields()) {
            match exec.look("command").map(|field| field.texts()) {
                Some(words) if !words.is_empty() => {}
                _ => exec.missing("command", "write the command that is run"),
            }
        }
        if let Some(grpc) = probe.look("grpc").and_then(|field| field.fields()) {
            match grpc.look("port") {
                Some(port) => drop(port.whole::<u16>(1, 65_535)),
                None => grpc.missing("port", "write the container's port"),
            }
        }
    }
}

/// Checks what becomes of a container whose resources change. Source: `validateResizePolicy`, `validateInitContainers`.
pub(super) fn check_resizing(fields: &Fields<'_>, role: Role) {
    let Some(field) = fields.look("resizePolicy") else { return };
    if !field.node().is_empty() {
        field.note(FidelityStatus::Ignored, Some("not simulated"));
    }
    let policies = field.items();
    if role == Role::Init && !policies.is_empty() && fields.look("restartPolicy").is_none() {
        field.refuse("must not be set for init containers", "take it out");
    }
    let mut known = BTreeSet::new();
    for policy in &policies {
        let Some(inner) = policy.fields() else { continue };
        let resource = inner.look("resourceName");
        match &resource {
            Some(name) => {
                let text = name.node().text().unwrap_or_default();
                if name.choice(&[("cpu", ()), ("memory", ())]).is_some() && !known.insert(text) {
                    name.refuse(format!("Duplicate value: \"{text}\""), "write each resource once");
                }
            }
            None => inner.missing("resourceName", "write cpu or memory"),
        }
        match inner.look("restartPolicy") {
            Some(word) => drop(word.choice(&[("NotRequired", ()), ("RestartContainer", ())])),
            None => inner.missing("restartPolicy", "write NotRequired or RestartContainer"),
        }
        inner.finish();
    }
}

/// Checks what else a container has.
pub(super) fn check_container(fields: &Fields<'_>) {
    security::check_container(fields);
    check_word(fields, "restartPolicy", &["Always", "Never", "OnFailure"]);
    check_switches(fields, &["stdin", "stdinOnce", "tty"]);
    for field in ["command", "args"].iter().filter_map(|key| fields.look(key)) {
        let _ = field.texts();
    }
    for field in ["workingDir", "terminationMessagePath"].iter().filter_map(|key| fields.look(key)) {
        let _ = field.text();
    }
    check_handlers(fields);
    for source in fields.look("envFrom").map(|field| field.items()).unwrap_or_default() {
        let has = |key: &&str| source.node().find(&[key]).is_some();
        if ["configMapRef", "secretRef"].iter().filter(|key| has(key)).count() != 1 {
            source.refuse("must specify one of: `configMapRef` or `secretRef`", "write one of them");
        }
    }
    check_word(fields, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"]);
    check_word(fields, "imagePullPolicy", &["Always", "IfNotPresent", "Never"]);
    if let Some(policy) = fields.look("imagePullPolicy") {
        let (status, note) = match policy.node().text() {
            Some("Always") => {
                let note = "the kubelet asks the registry at every start of the container; that it answers, and at once, is assumed";
                (FidelityStatus::Approximated, Some(note))
            }
            Some("Never") => {
                let note =
                    "a node has the images of pods that have run there, and those that cluster.images calls preloaded";
                (FidelityStatus::Modelled, Some(note))
            }
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
                if text.contains(':') {
                    field.refuse("must not contain ':'", "write a path such as /etc/certs");
                } else if !text.is_empty() && !paths.insert(text) {
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
    // Judged with those of the pod's other containers (`host_ports`).
    fields.allow(&["hostPort"]);
    if let Some(field) = fields.look("hostIP").filter(|field| field.node().text() != Some("")) {
        check_address(&field);
    }
}

/// Checks a variable's name, and where its value comes from.
pub(super) fn check_variable(fields: &Fields<'_>) {
    if let Some(name) = fields.look("name").filter(|name| name.node().text() == Some("")) {
        name.refuse("Required value", "give the variable a name");
    }
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
    let inner = |source: &str, key: &str| field.fields()?.look(source)?.fields()?.look(key);
    if let Some(path) = inner("fieldRef", "fieldPath")
        && let Some(text) = path.text()
        && !FIELD_PATHS.contains(&text)
        && !["metadata.labels['", "metadata.annotations['"].iter().any(|begin| text.starts_with(begin))
    {
        path.refuse(
            format!("`{text}` is no field of a pod that a variable may be made from"),
            "write metadata.name, for example",
        );
    }
    if let Some(resource) = inner("resourceFieldRef", "resource")
        && let Some(text) = resource.text()
        && !RESOURCES.contains(&text)
        && !["requests.hugepages-", "limits.hugepages-"].iter().any(|begin| text.starts_with(begin))
    {
        resource.refuse(
            format!("`{text}` is no resource that a variable may be made from"),
            "write limits.cpu, for example",
        );
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
            "command: [ sleep, \"5\" ], args: [], workingDir: /, tty: true, stdin: false, restartPolicy: Always",
            "envFrom: [ { prefix: A, configMapRef: { name: a } } ]",
            "resizePolicy: [ { resourceName: cpu, restartPolicy: NotRequired }, { resourceName: memory, restartPolicy: RestartContainer } ]",
            "env: [ { name: A, valueFrom: { fieldRef: { fieldPath: \"metadata.labels['a']\" } } } ]",
            "env: [ { name: A, valueFrom: { resourceFieldRef: { resource: limits.cpu } } } ]",
            "livenessProbe: { exec: { command: [ a ] } }, startupProbe: { grpc: { port: 80 } }",
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
            ("restartPolicy: Foo", "restartPolicy: `Foo`"),
            ("command: [ sleep, 5 ]", "command[1]: a text is expected"),
            ("args: now", "args: a list is expected"),
            ("resizePolicy: [ { resourceName: disk, restartPolicy: NotRequired } ]", "resourceName: `disk`"),
            ("resizePolicy: [ { resourceName: cpu, restartPolicy: Never } ]", "restartPolicy: `Never`"),
            ("resizePolicy: [ { resourceName: cpu } ]", "resizePolicy[0].restartPolicy: this is missing"),
            (
                "resizePolicy: [ { resourceName: cpu, restartPolicy: NotRequired }, { resourceName: cpu, restartPolicy: NotRequired } ]",
                "resizePolicy[1].resourceName: Duplicate value: \"cpu\"",
            ),
            ("workingDir: 5", "workingDir: a text is expected"),
            ("tty: x", "tty: `x` is not a boolean"),
            ("lifecycle: { preStop: {} }", "lifecycle.preStop: must specify a handler type"),
            ("livenessProbe: { exec: {} }", "livenessProbe.exec.command: this is missing"),
            ("livenessProbe: { grpc: {} }", "livenessProbe.grpc.port: this is missing"),
            ("envFrom: [ {} ]", "envFrom[0]: must specify one of: `configMapRef`"),
            ("env: [ { name: \"\", value: a } ]", "env[0].name: Required value"),
            ("env: [ { name: A, valueFrom: { fieldRef: { fieldPath: spec.foo } } } ]", "`spec.foo` is no field"),
            ("env: [ { name: A, valueFrom: { resourceFieldRef: { resource: limits.gpu } } } ]", "`limits.gpu` is no"),
        ] {
            check("", container, part);
        }
    }

    #[test]
    fn volumes_are_there_and_are_mounted_once_at_a_place() {
        const TWO: &str =
            "volumes: [ { name: a, emptyDir: { medium: Memory } }, { name: b, hostPath: { path: /b } } ],";
        let mounts = |list: &str| format!("volumeMounts: [ {list} ]");
        assert_eq!(told(TWO, &mounts("{ name: a, mountPath: /a }, { name: a, mountPath: /b }")), Vec::<String>::new());
        for (list, part) in [
            ("{ name: a, mountPath: /a }, { name: b, mountPath: /a }", "mountPath: must be unique"),
            ("{ name: a }", "mountPath: this is missing"),
            ("{ name: a, mountPath: \"/a:b\" }", "mountPath: must not contain ':'"),
            ("{ name: c, mountPath: /a }", "volumeMounts[0].name: Not found: \"c\""),
        ] {
            check(TWO, &mounts(list), part);
        }
        for (volumes, part) in [
            ("{ name: A_b, emptyDir: {} }", "volumes[0].name: a lowercase RFC 1123 label"),
            ("{ name: a }, { name: a }", "volumes[1].name: Duplicate value: \"a\""),
            ("{ name: a, emptyDir: {}, hostPath: { path: / } }", "may not specify more than 1 volume type"),
            ("{ name: a, emptyDir: { medium: Disk } }", "emptyDir.medium: `Disk`"),
            ("{ emptyDir: {} }", "volumes[0].name: this is missing"),
        ] {
            check(&format!("volumes: [ {volumes} ],"), "", part);
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
            "imagePullSecrets: [ { name: registry } ], hostAliases: [ { ip: 1.2.3.4, hostnames: [ a.b ] } ],",
            "dnsConfig: { searches: [ a.b., . ], options: [ { name: ndots, value: \"2\" }, { name: edns0 } ] },",
            "initContainers: [ { name: a, image: b, restartPolicy: Always, resizePolicy: [ { resourceName: cpu, restartPolicy: NotRequired } ] } ],",
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
            ("hostAliases: [ { ip: 1.2.3.400, hostnames: [ a ] } ],", "hostAliases[0].ip: must be a valid IP address"),
            ("dnsConfig: { nameservers: [ x ] },", "dnsConfig.nameservers[0]: must be a valid IP address"),
            (
                "dnsConfig: { nameservers: [ 1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4 ] },",
                "must not have more than 3 nameservers",
            ),
            ("dnsConfig: { searches: [ A.b ] },", "dnsConfig.searches[0]: a lowercase RFC 1123 subdomain"),
            ("dnsConfig: { options: [ { value: a } ] },", "dnsConfig.options[0].name: this is missing"),
            ("dnsConfig: { servers: [ 1.1.1.1 ] },", "`servers` is not a field here"),
            ("hostAliases: [ { hostnames: [ a ] } ],", "hostAliases[0].ip: this is missing"),
            ("hostAliases: [ { ip: 1.2.3.4, hostnames: [ A ] } ],", "hostAliases[0].hostnames[0]: a lowercase"),
            ("imagePullSecrets: [ registry ],", "imagePullSecrets[0]: a map is expected"),
            ("imagePullSecrets: [ { secret: a } ],", "imagePullSecrets[0].secret: `secret` is not a field here"),
            (
                "initContainers: [ { name: a, image: b, resizePolicy: [ { resourceName: cpu, restartPolicy: NotRequired } ] } ],",
                "resizePolicy: must not be set for init containers",
            ),
            (
                "activeDeadlineSeconds: 5,",
                "activeDeadlineSeconds: activeDeadlineSeconds in a template is not supported",
            ),
            ("hostNetwork: \"true\",", "hostNetwork: `true` is not a boolean"),
            ("shareProcessNamespace: maybe,", "shareProcessNamespace: `maybe` is not a boolean"),
            ("preemptionPolicy: Sometimes,", "preemptionPolicy: `Sometimes`"),
        ] {
            check(pod, "", part);
        }
    }
}
