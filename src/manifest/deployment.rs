//! Deployments and their pods.
//!
//! Defaults are those of the API server (apps/v1: 1 replica, 25 % and 25 %, 600 s, 10 revisions; core/v1: 30 s of grace, probes every 10 s
//! with 1 s of patience, 3 failures). Validation follows pkg/apis/apps/validation and pkg/apis/core/validation.
//! Not simulated: volumes, security.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::containers;
use super::hook::{Hook, read_lifecycle};
use super::host_ports;
use super::names;
use super::object::{Object, is_dns_label, read_metadata};
use super::placement::{self, TopologyKey};
use super::pod_extras::{self, Extras};
use super::pod_rules;
use super::pod_text::{pod_text, pull_policy};
use super::priority_class::{self, PodPriority};
use super::probes::read_probe;
use super::problem::{Place, Problem};
use super::read::{Field, Fields, Sink};
use super::resources::{self, Asked, read_resources, unasked};
use super::rolling_update::{DEFAULT_STRATEGY, read_strategy};
use super::security;
use super::selector;
use super::volumes;
use super::yaml::{Node, Value};
use crate::cluster::selector::LabelSelector;
use crate::cluster::{ContainerPort, ContainerRequest, Deployment, PodTemplate, Probes, Resources, StorageLimit};
use crate::record::results::FidelityStatus;

/// The variables that mean something to a simulated gateway. Source: istio pilot/cmd/pilot-agent/options.
pub const GATEWAY_ENV: [&str; 2] = ["EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "MINIMUM_DRAIN_DURATION"];
/// The pod annotation that carries a `ProxyConfig`.
pub const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// Source: Kubernetes "Considerations for large clusters": no more than 150,000 pods.
pub(super) const REPLICAS_MAX: i64 = 150_000;

/// A Deployment, with what a gateway's process needs to know of its container.
#[derive(Clone, Debug)]
pub struct DeploymentManifest {
    /// What the cluster gets.
    pub deployment: Deployment,
    /// The labels that make a pod its own.
    pub selector: LabelSelector,
    /// The main container's environment, with the place of each value.
    pub env: BTreeMap<String, (String, Place)>,
    /// The main container's CPU limit, in thousandths of a core.
    pub cpu_limit_millicores: Option<u64>,
    /// The main container's memory limit.
    pub memory_limit: Option<MemoryLimit>,
    /// A limit on what its pods may take of their nodes' disks: where it is written, and the path.
    pub storage_limit_at: Option<(Place, &'static str)>,
    /// `proxy.istio.io/config`, if a pod carries it.
    pub proxy_config: Option<(String, Place)>,
    /// The main container's preStop hook.
    pub hook: Option<Hook>,
    /// Where the grace period is written, or would be.
    pub grace_at: Place,
    /// The named ports of its containers.
    pub ports: BTreeMap<String, u16>,
    /// The labels of nodes that its pods need.
    pub topology_keys: Vec<TopologyKey>,
    /// Where it is written which nodes will do, if it is.
    pub nodes_at: Option<(Place, String)>,
    /// Its main container's liveness probe, or else its startup probe, as it is written.
    pub liveness: Option<Written>,
    /// Its readiness gates, as they are written.
    pub gates: Vec<Written>,
    /// Its scheduling gates, as they are written.
    pub scheduling_gates: Vec<Written>,
    /// Its sidecars among the init containers, as they are written.
    pub sidecars: Vec<Written>,
    /// Containers that no kubelet makes a configuration for, as that is written.
    pub unstartable: Vec<Written>,
    /// The priority of its pods, as it is written.
    pub priority: PodPriority,
}

/// A name, and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The name.
    pub name: String,
    /// Where.
    pub at: Place,
    /// The path to it.
    pub path: String,
}

/// A limit of memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryLimit {
    /// In bytes; not 0, which means no limit.
    pub bytes: u64,
    /// As it is written.
    pub written: String,
    /// Where.
    pub at: Place,
}

/// Reads a Deployment.
pub fn read(object: &Object, sink: &Sink) -> Option<DeploymentManifest> {
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let spec = fields.look("spec");
    fields.finish();
    let Some(spec) = spec.and_then(|spec| spec.fields()) else {
        fields.missing("spec", "a Deployment has a spec");
        return None;
    };
    let replicas = spec.get("replicas").map_or(Some(1), |field| field.whole(0, REPLICAS_MAX));
    let selector = selector::of_maker(&spec, "Deployment");
    let strategy = spec.look("strategy").map_or(Some(DEFAULT_STRATEGY), |field| read_strategy(&field));
    let min_ready_seconds = spec.get("minReadySeconds").map_or(Some(0), |field| field.whole(0, i64::from(i32::MAX)));
    let deadline = spec.get("progressDeadlineSeconds").map_or(Some(600), |field| field.whole(1, i64::from(i32::MAX)));
    let history = spec.get("revisionHistoryLimit").map_or(Some(10), |field| field.whole(0, i64::from(i32::MAX)));
    if let (Some(deadline), Some(ready)) = (deadline, min_ready_seconds)
        && deadline <= ready
    {
        let field = spec.look("progressDeadlineSeconds").or_else(|| spec.look("minReadySeconds"));
        let text = format!("progressDeadlineSeconds, {deadline}, is not above minReadySeconds, {ready}");
        if let Some(field) = field {
            field.refuse(text, "raise progressDeadlineSeconds: a pod counts as available only after minReadySeconds");
        }
    }
    let is_paused = spec.get("paused").map_or(Some(false), |field| field.boolean());
    let template = spec.look("template");
    if template.is_none() {
        spec.missing("template", "a Deployment has a pod template");
    }
    spec.finish();
    let pods = read_template(&template?)?;
    let selector = selector?;
    selector::check_own(&spec, &selector, &pods.template.labels, "Deployment");
    let deployment = Deployment {
        key: Rc::from(object.key()),
        replicas: replicas?,
        strategy: strategy?,
        is_paused: is_paused?,
        min_ready_seconds: min_ready_seconds?,
        // The API's largest number means no deadline.
        progress_deadline_seconds: deadline.filter(|seconds: &u32| *seconds < i32::MAX.unsigned_abs()),
        revision_history_limit: history?,
        template: pods.template.clone(),
    };
    Some(pods.with(deployment, selector))
}

impl Pods {
    /// What makes them, with all that is known of them.
    pub(super) fn with(self, deployment: Deployment, selector: LabelSelector) -> DeploymentManifest {
        let Self {
            env, cpu_limit_millicores, memory_limit, storage_limit_at, proxy_config, hook, grace_at, ports, ..
        } = self;
        DeploymentManifest {
            deployment,
            selector,
            env,
            cpu_limit_millicores,
            memory_limit,
            storage_limit_at,
            proxy_config,
            hook,
            grace_at,
            ports,
            topology_keys: self.topology_keys,
            nodes_at: self.nodes_at,
            liveness: self.liveness,
            gates: self.gates,
            scheduling_gates: self.scheduling_gates,
            sidecars: self.sidecars,
            unstartable: self.unstartable,
            priority: self.priority,
        }
    }
}

pub(super) struct Pods {
    pub(super) template: PodTemplate,
    env: BTreeMap<String, (String, Place)>,
    cpu_limit_millicores: Option<u64>,
    memory_limit: Option<MemoryLimit>,
    storage_limit_at: Option<(Place, &'static str)>,
    proxy_config: Option<(String, Place)>,
    hook: Option<Hook>,
    grace_at: Place,
    ports: BTreeMap<String, u16>,
    topology_keys: Vec<TopologyKey>,
    nodes_at: Option<(Place, String)>,
    liveness: Option<Written>,
    gates: Vec<Written>,
    scheduling_gates: Vec<Written>,
    sidecars: Vec<Written>,
    unstartable: Vec<Written>,
    priority: PodPriority,
}

/// Who cares for a pod that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keeper {
    /// A controller.
    Controller,
    /// Nobody.
    Nobody,
}

/// Reads a pod template.
pub(super) fn read_template(field: &Field<'_>) -> Option<Pods> {
    let fields = field.fields()?;
    let pods = read_pod(&fields, Keeper::Controller);
    fields.finish();
    pods
}

fn read_restart_policy(policy: &Field<'_>, keeper: Keeper) {
    match keeper {
        // The only one that a Deployment's pods may have.
        Keeper::Controller => drop(policy.choice(&[("Always", ())])),
        Keeper::Nobody => {
            if let Some(true) = policy.choice(&[("Always", false), ("OnFailure", true), ("Never", true)]) {
                let note = "its process runs until the pod is deleted, and is restarted whenever it is killed";
                policy.note(FidelityStatus::Approximated, Some(note));
            }
        }
    }
}

/// What pods are known by.
#[derive(Default)]
struct Known {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    proxy_config: Option<(String, Place)>,
}

fn read_known(fields: &Fields<'_>) -> Known {
    let mut known = Known::default();
    if let Some(metadata) = fields.look("metadata").and_then(|metadata| metadata.fields()) {
        read_metadata(&metadata);
        known.labels = metadata.look("labels").map(|field| field.text_map()).unwrap_or_default();
        known.annotations = metadata.look("annotations").map(|field| field.text_map()).unwrap_or_default();
        let found = metadata.look("annotations").and_then(|field| field.fields());
        if let Some(config) = found.and_then(|annotations| annotations.look(PROXY_CONFIG)) {
            known.proxy_config = config.text().map(|text| (text.to_owned(), config.place()));
        }
        metadata.finish();
    }
    known
}

/// Reads the metadata and the spec of pods.
pub(super) fn read_pod(fields: &Fields<'_>, keeper: Keeper) -> Option<Pods> {
    let Known { labels, annotations, proxy_config } = read_known(fields);
    let spec_field = fields.look("spec");
    if spec_field.is_none() {
        fields.missing(
            "spec",
            if keeper == Keeper::Controller { "a pod template has a spec" } else { "a pod has a spec" },
        );
    }
    let spec_field = spec_field?;
    let spec = spec_field.fields()?;
    let grace = spec.get("terminationGracePeriodSeconds");
    let grace_seconds = grace.as_ref().map_or(Some(30), read_grace);
    let placement::Written { mut placement, topology_keys, nodes_at } = placement::read(&spec);
    let priority = priority_class::read_pod(&spec);
    match keeper {
        Keeper::Controller => spec.ignore(&["nodeName"], "not simulated in a template: the scheduler chooses the node"),
        Keeper::Nobody => spec.allow(&["nodeName"]),
    }
    if let Some(field) = spec.look("activeDeadlineSeconds") {
        // Source: pkg/apis/apps/validation `ValidatePodTemplateSpecForReplicaSet`, pkg/apis/core/validation `ValidatePodSpec`.
        match keeper {
            Keeper::Controller => field.refuse("activeDeadlineSeconds in a template is not supported", "take it out"),
            Keeper::Nobody => drop(field.integer(1, i64::from(i32::MAX))),
        }
    }
    pod_rules::check_pod(&spec);
    ignore_pod_fields(&spec);
    let Extras { init, gates, scheduling_gates } = pod_extras::read(&spec, grace_seconds);
    placement.gates = scheduling_gates.iter().map(|gate| gate.name.clone()).collect();
    let volumes = volumes::read(spec_field.node().find(&["volumes"]), &annotations, spec_field.sink());
    let containers = spec.look("containers").map(|field| field.items()).unwrap_or_default();
    if containers.is_empty() {
        spec.missing("containers", "a pod has at least one container");
    }
    if let Some(policy) = spec.look("restartPolicy") {
        read_restart_policy(&policy, keeper);
    }
    check_sleeps(&containers, grace_seconds);
    placement.host_ports = host_ports::read(&spec, &containers);
    let overhead = resources::overhead(&spec);
    spec.finish();
    let read: Vec<Option<Container>> = containers.iter().map(|field| read_container(field, Role::Main)).collect();
    let mut read: Vec<Container> = read.into_iter().collect::<Option<_>>()?;
    let mut init = init;
    let unstartable = security::forbid_root(spec_field.node(), &spec, (&containers, &mut read), &mut init);
    let total = |pick: fn(&Resources) -> u64| read.iter().map(|container| pick(&container.requests)).sum();
    let requests =
        Resources { cpu_millicores: total(|it| it.cpu_millicores), memory_bytes: total(|it| it.memory_bytes) };
    let requests = resources::plus(pod_extras::with_init(requests, &init), overhead);
    placement.unasked = unasked(&containers);
    let mut extended = BTreeMap::new();
    for (name, amount) in read.iter().flat_map(|container| &container.extended) {
        *extended.entry(name.clone()).or_default() += amount;
    }
    placement.extended = pod_extras::extended_with_init(&extended, &init);
    let limits = read.iter().filter_map(|it| Some((it.name.as_str(), it.storage_limit.as_ref()?)));
    let (storage, storage_limit_at) = volumes.storage(limits);
    let ports = read.iter().flat_map(|container| container.ports.clone()).collect();
    let declared = read.iter().flat_map(|container| container.declared.clone()).collect();
    let (main, asked) = containers::requests(&containers, &mut read);
    let main = read.into_iter().nth(main)?;
    let template = PodTemplate {
        labels,
        annotations,
        image: main.image,
        requests,
        containers: asked,
        grace_seconds: grace_seconds?,
        pre_stop: main.hook.as_ref().map(|hook| hook.duration),
        has_empty_dir: volumes.has_empty_dir,
        has_local_storage: volumes.has_local_storage,
        storage,
        probes: main.probes,
        init: init.iter().map(|container| container.container.clone()).collect(),
        ports: declared,
        readiness_gates: gates.iter().map(|gate| gate.name.clone()).collect(),
        placement,
        // Whatever else stands there makes another revision too; the proxy's configuration names the process it makes.
        other: pod_text(spec_field.node()) + proxy_config.as_ref().map_or("", |(text, _): &(String, Place)| text),
    };
    let (env, cpu_limit_millicores, memory_limit) = (main.env, main.cpu_limit_millicores, main.memory_limit);
    let (hook, grace_at) = (main.hook, grace.map_or(spec_field.place(), |field| field.place()));
    let sidecars = init.into_iter().filter_map(|container| container.sidecar).collect();
    Some(Pods {
        template,
        env,
        cpu_limit_millicores,
        memory_limit,
        storage_limit_at,
        proxy_config,
        hook,
        grace_at,
        ports,
        topology_keys,
        nodes_at,
        liveness: main.liveness,
        gates,
        scheduling_gates,
        sidecars,
        unstartable,
        priority,
    })
}

/// The grace period. A negative one counts as a second. Source: pkg/registry/core/pod/strategy.go `CheckGracefulDelete`.
fn read_grace(field: &Field<'_>) -> Option<u32> {
    let seconds = field.integer(i64::MIN, i64::MAX)?;
    if seconds < 0 {
        field.note(FidelityStatus::Modelled, Some("it is negative, which counts as 1"));
        return Some(1);
    }
    // Longer than any run.
    Some(u32::try_from(seconds.min(i64::from(i32::MAX))).expect("it is in range"))
}

/// A pause before the end must end within the grace period. Source: pkg/apis/core/validation `validateSleepAction`.
pub(super) fn check_sleeps(containers: &[Field<'_>], grace_seconds: Option<u32>) {
    let path = ["lifecycle", "preStop", "sleep", "seconds"];
    for container in containers {
        let written = container.node().find(&path).and_then(|node| Some((node.at, node.text()?.parse::<i64>().ok()?)));
        if let (Some((at, seconds)), Some(grace)) = (written, grace_seconds)
            && seconds > i64::from(grace)
        {
            let path = format!("{}.{}", container.path(), path.join("."));
            let text = format!("{seconds} s are longer than the grace period of {grace} s");
            container.sink().report(Problem::at(at, path, text).help("raise terminationGracePeriodSeconds"));
        }
    }
}

fn ignore_pod_fields(spec: &Fields<'_>) {
    spec.ignore_unless("hostNetwork", "false", "pods take their ports of the node, and have addresses of their own");
    spec.ignore_unless("preemptionPolicy", "PreemptLowerPriority", "not simulated");
    spec.ignore_unless("schedulerName", "default-scheduler", "not simulated");
    spec.ignore(&["runtimeClassName", "resources"], "not simulated");
    spec.ignore(&["activeDeadlineSeconds"], "not simulated: a real pod fails when that time is over");
    spec.allow(&[
        "serviceAccountName",
        "serviceAccount",
        "automountServiceAccountToken",
        "dnsPolicy",
        "dnsConfig",
        "securityContext",
        "volumes",
        "imagePullSecrets",
        "hostname",
        "subdomain",
        "setHostnameAsFQDN",
        "hostAliases",
        "hostPID",
        "hostIPC",
        "hostUsers",
        "shareProcessNamespace",
        "enableServiceLinks",
        "os",
    ]);
}

pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) requests: Resources,
    /// Further resources by name.
    pub(super) extended: BTreeMap<String, u64>,
    pub(super) asked: ContainerRequest,
    cpu_limit_millicores: Option<u64>,
    memory_limit: Option<MemoryLimit>,
    storage_limit: Option<(StorageLimit, Place)>,
    env: BTreeMap<String, (String, Place)>,
    pub(super) hook: Option<Hook>,
    pub(super) probes: Probes,
    liveness: Option<Written>,
    ports: BTreeMap<String, u16>,
    declared: Vec<ContainerPort>,
}

/// Which of a pod's lists a container stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Main,
    Init,
}

pub(super) fn read_container(field: &Field<'_>, role: Role) -> Option<Container> {
    let fields = field.fields()?;
    let text = |key: &str, help: &str| {
        let found = fields.look(key);
        if found.is_none() {
            fields.missing(key, help);
        }
        found.and_then(|field| field.text()).unwrap_or_default().to_owned()
    };
    let (name, image) = (text("name", "give the container a name"), text("image", "a container runs an image"));
    // Source: pkg/apis/core/validation `validateContainerCommon`.
    if let Some(field) = fields.look("name").filter(|_| !is_dns_label(&name)) {
        field.refuse(format!("`{name}` is no container's name"), "write small letters, digits and dashes, at most 63");
    }
    if let Some(field) = fields.look("image").filter(|_| image.is_empty() || image.trim() != image) {
        field.refuse(
            format!("`{image}` is no image"),
            "write one such as registry.example.com/proxy:1.26, without blanks",
        );
    } else if let Some(field) = fields.look("image").filter(|_| names::is_bad_image(&image)) {
        field.refuse(
            format!("no kubelet takes `{image}` for an image's name (InvalidImageName)"),
            "write small letters and no blanks before the tag, as in registry.example.com/proxy:1.26",
        );
    }
    let Asked { cpu_millicores, memory_bytes, cpu_limit_millicores, memory_limit, storage_limit, extended } =
        fields.look("resources").map(|field| read_resources(&field)).unwrap_or_default();
    let requests = Resources { cpu_millicores: cpu_millicores.unwrap_or(0), memory_bytes: memory_bytes.unwrap_or(0) };
    let pull = pull_policy(field.node());
    let asked = ContainerRequest {
        name: Rc::from(name.as_str()),
        cpu_millicores,
        memory_bytes,
        pull,
        is_refused: false,
        beside: None,
    };
    let env = fields.look("env").map(|field| read_env(&field)).unwrap_or_default();
    let (mut ports, mut declared, mut port_names) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
    for port in fields.look("ports").map(|field| field.items()).unwrap_or_default() {
        let Some(inner) = port.fields() else { continue };
        let number = inner.look("containerPort").and_then(|field| field.whole::<u16>(1, 65535));
        let name_field = inner.look("name");
        let name = name_field.as_ref().and_then(|field| field.text());
        if let (Some(name), Some(number)) = (name, number) {
            ports.insert(name.to_owned(), number);
        }
        declared.extend(number.map(|number| ContainerPort { name: name.map(str::to_owned), number }));
        pod_rules::check_port(&inner, &mut port_names);
        inner.finish();
    }
    let hook = fields.look("lifecycle").and_then(|field| read_lifecycle(&field));
    let probe = |key: &str| fields.look(key).and_then(|field| read_probe(key, &field, &ports));
    let probes =
        Probes { readiness: probe("readinessProbe"), liveness: probe("livenessProbe"), startup: probe("startupProbe") };
    fields.ignore(&["envFrom"], "environment from other objects is not read");
    pod_rules::check_resizing(&fields, role);
    if role == Role::Main {
        fields.ignore(&["restartPolicy"], "not simulated");
    } else {
        fields.allow(&["restartPolicy"]);
    }
    pod_rules::check_container(&fields);
    fields.allow(&[
        "command",
        "args",
        "workingDir",
        "imagePullPolicy",
        "volumeMounts",
        "volumeDevices",
        "securityContext",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "stdin",
        "stdinOnce",
        "tty",
    ]);
    fields.finish();
    let ending = ["livenessProbe", "startupProbe"].into_iter().find_map(|key| fields.look(key));
    let liveness = ending.map(|field| Written { name: name.clone(), at: field.place(), path: field.path().to_owned() });
    Some(Container {
        name,
        image,
        requests,
        extended,
        asked,
        cpu_limit_millicores,
        memory_limit,
        storage_limit,
        env,
        hook,
        probes,
        liveness,
        ports,
        declared,
    })
}

/// Environment variables with values; those taken from elsewhere are noted as ignored if they mean something to a gateway.
pub(super) fn read_env(field: &Field<'_>) -> BTreeMap<String, (String, Place)> {
    let mut env = BTreeMap::new();
    for item in field.items() {
        let Some(fields) = item.fields() else { continue };
        let name = fields.look("name").and_then(|field| field.text());
        let value = fields.look("value");
        if let Some(name) = name {
            let is_known = GATEWAY_ENV.contains(&name);
            if let Some(value) = &value {
                let text = value.text();
                if is_known {
                    value.note(FidelityStatus::Modelled, None);
                } else {
                    value.note(FidelityStatus::Ignored, Some("this variable has no meaning in the simulation"));
                }
                if let Some(text) = text {
                    env.insert(name.to_owned(), (text.to_owned(), value.place()));
                }
            }
        } else {
            fields.missing("name", "an environment variable has a name");
        }
        if name.is_some_and(|name| GATEWAY_ENV.contains(&name)) {
            fields.ignore(&["valueFrom"], "environment from other objects is not read");
        }
        pod_rules::check_variable(&fields);
        fields.finish();
    }
    env
}

/// A node as text in which the order of keys does not matter.
#[must_use]
pub fn canonical(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Scalar { text, .. } => format!("{text:?}"),
        Value::List(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => {
            // The API server keeps no null.
            let there = entries.iter().filter(|entry| !matches!(entry.node.value, Value::Null));
            let sorted: BTreeMap<&str, String> = there.map(|entry| (&*entry.key, canonical(&entry.node))).collect();
            let parts: Vec<String> = sorted.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
            format!("{{{}}}", parts.join(","))
        }
    }
}
