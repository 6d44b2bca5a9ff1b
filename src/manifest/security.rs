//! The security context of a pod and of its containers, judged as the API server judges it, and the one rule of the kubelet's that decides whether a container
//! starts: one that must not run as root, and is told to, has no configuration (`CreateContainerConfigError`).
//!
//! Which user an image runs as is not known, so `runAsNonRoot` without a `runAsUser` passes. What a process may do has no meaning in a drill.
//!
//! Source: Kubernetes v1.33 pkg/apis/core/validation/validation.go (`ValidateSecurityContext`, `validatePodSpecSecurityContext`, `validateSeccompProfile`,
//! `validateAppArmorProfile`, `validateSysctls`), pkg/apis/core/types.go; pkg/kubelet/kuberuntime/security_context.go (`verifyRunAsNonRoot`).

use std::collections::BTreeSet;

use super::deployment::{Container, Written};
use super::pod_extras::Init;
use super::read::{Field, Fields};
use super::yaml::Node;

/// The greatest number of a user or a group. Source: apimachinery pkg/util/validation `IsValidUserID`.
const ID_MAX: i64 = 2_147_483_647;
/// What both kinds of context have.
const SHARED: [&str; 8] = [
    "seLinuxOptions",
    "windowsOptions",
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "seccompProfile",
    "appArmorProfile",
    "procMount",
];

/// Checks a pod's context.
pub(super) fn check_pod(spec: &Fields<'_>) {
    if let (Some(share), Some(host)) = (spec.look("shareProcessNamespace"), spec.look("hostPID"))
        && [&share, &host].iter().all(|field| field.node().text() == Some("true"))
    {
        share.refuse("ShareProcessNamespace and HostPID cannot both be enabled", "take one of them out");
    }
    let Some(fields) = spec.look("securityContext").and_then(|field| field.fields()) else { return };
    check_shared(&fields);
    check_id(&fields, "fsGroup");
    for group in fields.look("supplementalGroups").map(|field| field.items()).unwrap_or_default() {
        check_id_of(&group);
    }
    check_word(&fields, "supplementalGroupsPolicy", &["Merge", "Strict"]);
    check_word(&fields, "fsGroupChangePolicy", &["OnRootMismatch", "Always"]);
    check_word(&fields, "seLinuxChangePolicy", &["MountOption", "Recursive"]);
    check_sysctls(&fields);
    // What an edit of an IstioGateway writes.
    fields.allow(&["runAsRoot"]);
    fields.finish();
}

/// Checks a container's context.
pub(super) fn check_container(container: &Fields<'_>) {
    let Some(fields) = container.look("securityContext").and_then(|field| field.fields()) else { return };
    check_shared(&fields);
    check_word(&fields, "procMount", &["Default", "Unmasked"]);
    let switch = |key: &str| fields.look(key).and_then(|field| field.boolean());
    let is_privileged = switch("privileged") == Some(true);
    let escalates = switch("allowPrivilegeEscalation");
    let _ = switch("readOnlyRootFilesystem");
    let mut added = Vec::new();
    if let Some(capabilities) = fields.look("capabilities").and_then(|field| field.fields()) {
        added = capabilities.look("add").map(|field| field.texts()).unwrap_or_default();
        let _ = capabilities.look("drop").map(|field| field.texts());
        capabilities.finish();
    }
    if let Some(field) = fields.look("allowPrivilegeEscalation").filter(|_| escalates == Some(false)) {
        if is_privileged {
            let text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            field.refuse(text, "take privileged out, or allowPrivilegeEscalation");
        } else if added.iter().any(|name| name == "CAP_SYS_ADMIN") {
            let text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            field.refuse(text, "take CAP_SYS_ADMIN out, or allowPrivilegeEscalation");
        }
    }
    fields.finish();
}

/// Checks what both kinds of context have.
fn check_shared(fields: &Fields<'_>) {
    fields.allow(&SHARED);
    check_id(fields, "runAsUser");
    check_id(fields, "runAsGroup");
    if let Some(field) = fields.look("runAsNonRoot") {
        let _ = field.boolean();
    }
    for key in ["seccompProfile", "appArmorProfile"] {
        check_profile(fields, key);
    }
    if let Some(options) = fields.look("seLinuxOptions").and_then(|field| field.fields()) {
        for field in ["user", "role", "type", "level"].iter().filter_map(|key| options.look(key)) {
            let _ = field.text();
        }
        options.finish();
    }
}

/// Checks a profile, which is one of the node's, or none, or the runtime's own.
fn check_profile(fields: &Fields<'_>, key: &str) {
    let Some(profile) = fields.look(key).and_then(|field| field.fields()) else { return };
    let kind = profile.look("type");
    if kind.is_none() {
        profile.missing("type", "write RuntimeDefault, Localhost or Unconfined");
    }
    let words = [("RuntimeDefault", false), ("Unconfined", false), ("Localhost", true)];
    let is_local = kind.and_then(|field| field.choice(&words));
    let file = profile.look("localhostProfile").filter(|field| field.text() != Some(""));
    match (is_local, file) {
        (Some(true), None) => profile.missing("localhostProfile", "name the profile on the node: type is Localhost"),
        (Some(false), Some(file)) => {
            file.refuse("can only be set when type is Localhost", "take it out, or write type: Localhost");
        }
        _ => {}
    }
    profile.finish();
}

fn check_sysctls(fields: &Fields<'_>) {
    let mut known = BTreeSet::new();
    for sysctl in fields.look("sysctls").map(|field| field.items()).unwrap_or_default() {
        let Some(inner) = sysctl.fields() else { continue };
        let value = inner.look("value").map(|field| field.text());
        if value.is_none() {
            inner.missing("value", "write its value, in quotes");
        }
        match inner.look("name") {
            None => inner.missing("name", "write its name, such as net.core.somaxconn"),
            Some(name) => {
                if let Some(text) = name.text() {
                    if !is_sysctl(text) {
                        name.refuse(format!("`{text}` is no kernel parameter"), "write one such as net.core.somaxconn");
                    } else if !known.insert(text.replace('/', ".")) {
                        name.refuse(format!("Duplicate value: \"{text}\""), "write each parameter once");
                    }
                }
            }
        }
        inner.finish();
    }
}

/// Whether it is the name of a kernel parameter. Source: `IsValidSysctlName`.
fn is_sysctl(text: &str) -> bool {
    let is_part = |part: &str| {
        let is_end = |end: Option<u8>| end.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        is_end(part.bytes().next()) && is_end(part.bytes().last()) && part.bytes().all(is_inner)
    };
    text.len() <= 253 && text.split(['.', '/']).all(is_part)
}

fn check_id(fields: &Fields<'_>, key: &str) {
    if let Some(field) = fields.look(key) {
        check_id_of(&field);
    }
}

fn check_id_of(field: &Field<'_>) {
    let _ = field.integer(0, ID_MAX);
}

fn check_word(fields: &Fields<'_>, key: &str, words: &[&str]) {
    if let Some(field) = fields.look(key).filter(|field| field.node().text() != Some("")) {
        let words: Vec<(&str, ())> = words.iter().map(|word| (*word, ())).collect();
        let _ = field.choice(&words);
    }
}

/// Marks the containers that are told to run as root and must not; where that is written.
pub(super) fn forbid_root(
    pod: &Node,
    spec: &Fields<'_>,
    (fields, containers): (&[Field<'_>], &mut [Container]),
    init: &mut [Init],
) -> Vec<Written> {
    let init_fields = spec.look("initContainers").map(|field| field.items()).unwrap_or_default();
    let mut refused = Vec::new();
    for container in init {
        let name =
            |field: &&Field<'_>| field.node().find(&["name"]).and_then(Node::text) == Some(&*container.container.name);
        let found = init_fields.iter().find(name).and_then(|field| root_refused(pod, field));
        container.container.asked.is_refused = found.is_some();
        refused.extend(found);
    }
    for (field, container) in fields.iter().zip(containers) {
        let found = root_refused(pod, field);
        container.asked.is_refused = found.is_some();
        refused.extend(found);
    }
    refused
}

/// Where a container is told to run as root though it must not: the kubelet makes no configuration for it.
fn root_refused(pod: &Node, container: &Field<'_>) -> Option<Written> {
    let of = |node: &Node, key: &str| {
        let node = node.find(&["securityContext", key])?;
        Some((node.at, node.text()?.to_owned()))
    };
    let effective = |key: &str| of(container.node(), key).or_else(|| of(pod, key));
    let (_, non_root) = effective("runAsNonRoot").filter(|(_, text)| text == "true")?;
    let (at, _) = effective("runAsUser").filter(|(_, text)| text == "0").filter(|_| non_root == "true")?;
    let name = container.node().find(&["name"]).and_then(Node::text).unwrap_or_default().to_owned();
    Some(Written { name, at, path: format!("{}.securityContext.runAsUser", container.path()) })
}

#[cfg(test)]
mod tests {
    use crate::manifest::read::Sink;
    use crate::manifest::{deployment, object, yaml};

    /// What is told of a Deployment whose pods have these further fields and its container these, and the containers that the kubelet refuses.
    fn told(pod: &str, container: &str) -> (Vec<String>, Vec<String>) {
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
        assert!(problems.iter().all(|problem| problem.place.is_written()), "{problems:?}");
        let refused = manifest.map(|manifest| manifest.unstartable).unwrap_or_default();
        (
            problems.iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect(),
            refused.into_iter().map(|container| container.path).collect(),
        )
    }

    fn of_pod(inner: &str) -> String {
        format!("securityContext: {{ {inner} }},")
    }

    fn of_container(inner: &str) -> String {
        format!("securityContext: {{ {inner} }}")
    }

    #[test]
    fn contexts_are_taken() {
        for pod in [
            "",
            "runAsUser: 0, runAsGroup: 2147483647, fsGroup: 1, supplementalGroups: [ 0, 5 ], runAsNonRoot: false",
            "seccompProfile: { type: RuntimeDefault }, fsGroupChangePolicy: OnRootMismatch",
            "seccompProfile: { type: Localhost, localhostProfile: a.json }, seLinuxOptions: { level: \"s0:c1\" }",
            "sysctls: [ { name: net.core.somaxconn, value: \"1024\" }, { name: kernel/shm_rmid_forced, value: \"1\" } ]",
        ] {
            assert_eq!(told(&of_pod(pod), ""), (vec![], vec![]), "{pod}");
        }
        for container in [
            "privileged: true, allowPrivilegeEscalation: true",
            "privileged: false, allowPrivilegeEscalation: false, capabilities: { drop: [ ALL ], add: [ NET_BIND_SERVICE ] }",
            "readOnlyRootFilesystem: true, runAsUser: 1337, procMount: Default, appArmorProfile: { type: Unconfined }",
        ] {
            assert_eq!(told("", &of_container(container)), (vec![], vec![]), "{container}");
        }
    }

    #[test]
    fn contexts_are_refused() {
        let one = |(told, _): (Vec<String>, Vec<String>), part: &str| {
            assert!(told.len() == 1 && told[0].contains(part), "{told:?}, not {part}");
        };
        for (pod, part) in [
            ("runAsUser: -1", "securityContext.runAsUser: -1 is out of range"),
            ("runAsGroup: 2147483648", "runAsGroup: 2147483648 is out of range"),
            ("runAsUser: root", "runAsUser: `root` is not a whole number"),
            ("supplementalGroups: [ 1, -1 ]", "supplementalGroups[1]: -1 is out of range"),
            ("fsGroup: -5", "fsGroup: -5 is out of range"),
            ("fsGroupChangePolicy: Never", "fsGroupChangePolicy: `Never`"),
            ("runAsNonRoot: \"true\"", "runAsNonRoot: `true` is not a boolean"),
            ("seccompProfile: { type: runtime/default }", "seccompProfile.type: `runtime/default`"),
            ("seccompProfile: {}", "seccompProfile.type: this is missing"),
            ("seccompProfile: { type: Localhost }", "seccompProfile.localhostProfile: this is missing"),
            ("seccompProfile: { type: Unconfined, localhostProfile: a }", "can only be set when type is Localhost"),
            ("privileged: true", "`privileged` is not a field here"),
            ("sysctls: [ { name: net..core, value: \"1\" } ]", "sysctls[0].name: `net..core`"),
            ("sysctls: [ { name: a.b, value: \"1\" }, { name: a/b, value: \"1\" } ]", "sysctls[1].name: Duplicate"),
        ] {
            one(told(&of_pod(pod), ""), part);
        }
        one(told("shareProcessNamespace: true, hostPID: true,", ""), "ShareProcessNamespace and HostPID cannot both");
        assert_eq!(told("shareProcessNamespace: true, hostPID: false,", "").0, Vec::<String>::new());
        for (container, part) in [
            ("runAsUser: -1", "containers[0].securityContext.runAsUser: -1 is out of range"),
            (
                "privileged: true, allowPrivilegeEscalation: false",
                "`allowPrivilegeEscalation` to false and `privileged`",
            ),
            (
                "allowPrivilegeEscalation: false, capabilities: { add: [ CAP_SYS_ADMIN ] }",
                "`capabilities.Add` CAP_SYS_ADMIN",
            ),
            ("capabilities: { add: [ 5 ] }", "capabilities.add[0]: a text is expected"),
            ("capabilities: [ NET_ADMIN ]", "capabilities: a map is expected"),
            ("procMount: None", "procMount: `None`"),
            ("fsGroup: 1", "`fsGroup` is not a field here"),
            ("runAsNonroot: true", "`runAsNonroot` is not a field here"),
        ] {
            one(told("", &of_container(container)), part);
        }
    }

    #[test]
    fn who_must_not_be_root_and_is_told_to_be_does_not_start() {
        let at = "spec.template.spec.containers[0].securityContext.runAsUser";
        for (pod, container, refused) in [
            ("runAsNonRoot: true, runAsUser: 0", "", true),
            ("runAsNonRoot: true", "runAsUser: 0", true),
            ("runAsUser: 0", "runAsNonRoot: true", true),
            ("runAsNonRoot: true, runAsUser: 0", "runAsUser: 1", false),
            ("runAsNonRoot: true, runAsUser: 0", "runAsNonRoot: false", false),
            ("runAsNonRoot: true", "", false),
            ("runAsUser: 0", "", false),
        ] {
            let (problems, found) = told(&of_pod(pod), &of_container(container));
            assert_eq!(problems, Vec::<String>::new());
            assert_eq!(found, if refused { vec![at.to_owned()] } else { vec![] }, "{pod} / {container}");
        }
    }
}
