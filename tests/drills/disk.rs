//! Whole drills about disks of nodes: what fills them, what is removed, who is evicted, and who is turned away.
//!
//! Goal: each threshold decides, on both sides of it. Method: a gateway and a backend on nodes of 100 GiB; only what lies on the disks differs from run to run.

use crate::scenarios::loaded;
use crate::shop::{filled, new_clients, of_kind, ran, scenario_head, shop_of_istio_edge};
use gatedrill::drill::Outcome;
use gatedrill::engine::{Datum, Event};
use gatedrill::scenario::Scenario;
use gatedrill::units::SimTime;

const SCENARIO: &str = concat!(
    scenario_head!("disk", "  duration: DURATION\n  seed: 7\n"),
    r#"  cluster:
    version: "VERSION"
    nodes: [ { name: pool, count: 2, zones: [a, b], allocatable: { cpu: "8", memory: 16Gi }, NODE } ]
    timings: { podStart: 2s, imagePull: 5s }
    images: [ { name: "proxyv2:1.26", size: 1GiB }, { name: web, size: 20MiB } ]
    CLUSTER
  loadBalancer: { controllerLatency: 5s, controller: each }
  gateway: { GATEWAY }
  backends: [ { service: default/web, deployment: default/web, serviceTime: 1ms, BACKEND } ]
  load:
"#,
    new_clients!("6/s"),
    r#"  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: edge, namespace: istio-system }
spec:
  replicas: 2
  selector: { matchLabels: { istio: edge } }
  template:
    metadata: { labels: { istio: edge } }
    spec:
      terminationGracePeriodSeconds: 40
      volumes: [ VOLUMES ]
      containers:
        - name: istio-proxy
          image: proxyv2:1.26
          resources: { requests: { cpu: "1", memory: 256Mi, REQUESTS }, limits: { memory: 1Gi, LIMITS } }
          readinessProbe: { httpGet: { path: /healthz/ready, port: 15021 }, periodSeconds: 1 }
      topologySpreadConstraints:
        - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: { matchLabels: { istio: edge } } }
---
apiVersion: v1
kind: Service
metadata: { name: edge, namespace: istio-system, annotations: { service.beta.kubernetes.io/backend-type: eni } }
spec:
  type: LoadBalancer
  selector: { istio: edge }
  ports: [ { name: http, port: 80, targetPort: 80 } ]
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: default }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [ { name: web, image: web, resources: { requests: { cpu: 100m, memory: 128Mi } } } ] }
"#,
    shop_of_istio_edge!()
);

/// What differs from drill to drill.
struct Drill<'a> {
    node: &'a str,
    cluster: &'a str,
    gateway: &'a str,
    backend: &'a str,
    volumes: &'a str,
    requests: &'a str,
    limits: &'a str,
    timeline: &'a str,
    version: &'a str,
    duration: &'a str,
}

const USUAL: Drill<'_> = Drill {
    node: "disk: { size: 100GiB }",
    cluster: "",
    gateway: "",
    backend: "",
    volumes: "",
    requests: "",
    limits: "",
    timeline: "",
    version: "1.33",
    duration: "60s",
};

impl Drill<'_> {
    fn load(&self) -> Result<Scenario, String> {
        let values = [
            ("NODE", self.node),
            ("CLUSTER", self.cluster),
            ("GATEWAY", self.gateway),
            ("BACKEND", self.backend),
            ("VOLUMES", self.volumes),
            ("REQUESTS", self.requests),
            ("LIMITS", self.limits),
            ("TIMELINE", self.timeline),
            ("VERSION", self.version),
            ("DURATION", self.duration),
        ];
        loaded(&filled(SCENARIO, &values), &filled(MANIFEST, &values), &[], None)
            .map_err(|problems| problems.to_string())
    }

    fn run(&self) -> Outcome {
        ran(self.load())
    }
}

fn text<'a>(event: &'a Event, key: &str) -> &'a str {
    match event.data.iter().find(|(known, _)| *known == key) {
        Some((_, Datum::Text(text))) => text,
        _ => "",
    }
}

fn number(event: &Event, key: &str) -> i64 {
    match event.data.iter().find(|(known, _)| *known == key) {
        Some((_, Datum::Number(number))) => *number,
        _ => panic!("no {key} in {event:?}"),
    }
}

fn seconds(event: &Event) -> f64 {
    event.at.since(SimTime::ZERO).as_secs_f64()
}

fn codes(outcome: &Outcome) -> Vec<&str> {
    outcome.run.results.causes.iter().map(|cause| cause.code.as_str()).collect()
}

const GIB: i64 = 1 << 30;

#[test]
fn a_node_is_short_of_disk_below_15_percent_and_evicts_one_pod_after_the_other() {
    // Each node has a pod of either kind, and so little more than 1 GiB of images.
    for (to, is_short) in [("85%", false), ("85.1%", true)] {
        let timeline = format!("{{ at: 10s, fillDisk: {{ node: pool-1, to: {to} }} }}");
        let outcome = Drill { timeline: &timeline, ..USUAL }.run();
        let short = of_kind(&outcome, "node_disk_pressure");
        assert_eq!(short.len(), usize::from(is_short), "{to}");
        let evicted = of_kind(&outcome, "evicted_by_kubelet");
        if !is_short {
            assert!(evicted.is_empty() && codes(&outcome).is_empty(), "{to}: {evicted:?}");
            continue;
        }
        assert_eq!(short[0].object, "Node/pool-1");
        assert!((10.0..20.0).contains(&seconds(short[0])), "the kubelet looks every 10 s");
        let told = ["images_bytes", "pods_bytes", "system_bytes"].map(|key| number(short[0], key));
        assert_eq!(told, [GIB + (20 << 20), 0, 0]);
        assert!(number(short[0], "outside_bytes") > 84 * GIB);
        // One after the other until none is left: it helps nobody, since it is not pods that fill the disk.
        assert_eq!(evicted.len(), 2, "{evicted:?}");
        let gone = of_kind(&outcome, "pod_gone").into_iter().find(|event| event.object == evicted[0].object);
        let waited = seconds(evicted[1]) - seconds(gone.expect("it ends"));
        assert!((0.0..=1.0).contains(&waited), "the next goes when the first has been cleaned up: {waited}");
        let reason = text(evicted[0], "reason");
        assert!(
            reason
                .starts_with("The node was low on resource: ephemeral-storage. Threshold quantity: 15Gi, available: "),
            "{reason}"
        );
        // The phase lasts until the kubelet has looked and all is over, and has what it costs.
        let phases = &outcome.run.results.phases;
        let lost: Vec<(&str, bool)> = phases.iter().map(|it| (it.name.as_str(), it.totals.dropped > 0)).collect();
        assert_eq!(lost, [("before", false), ("pressure", true), ("after", false)]);
        // The event log leads from the pod back to what filled the disk.
        let kinds: Vec<&str> = outcome.log.causes(evicted[0].id).map(|event| event.kind).collect();
        assert_eq!(kinds, ["evicted_by_kubelet", "node_disk_pressure", "node_disk_filled", "timeline"]);
        assert_eq!(text(short[0], "most_by"), "outside");
        // Others are made at once, and on the other node.
        let placed = of_kind(&outcome, "pod_scheduled").into_iter().filter(|event| event.at > evicted[0].at);
        let nodes: Vec<&str> = placed.map(|event| text(event, "node")).collect();
        assert_eq!(nodes, ["pool-2", "pool-2"]);
        assert!(codes(&outcome).contains(&"GD4131"), "{:?}", codes(&outcome));
        let cause = outcome.run.results.causes.iter().find(|cause| cause.code == "GD4131").expect("it is there");
        let source = cause.source.as_ref().expect("a source");
        assert_eq!(source.path, "spec.timeline");
        assert!(source.value.as_ref().is_some_and(|value| value.contains("pool-1")), "{source:?}");
    }
}

#[test]
fn images_that_nobody_uses_go_before_any_pod_and_are_pulled_anew() {
    // A rollout leaves the old image of 1 GiB on both nodes. Then the disk of one is filled, until more or less than that is missing. The rollout back may only use this node.
    let image = "target.spec.template.spec.containers[istio-proxy].image";
    let timeline = |to: &str| {
        format!(
            "{{ at: 10s, set: {{ \"{image}\": \"proxyv2:1.27\" }} }}, {{ at: 150s, fillDisk: {{ node: pool-1, to: {to}, for: 20s }} }}, \
             {{ at: 690s, cordonNode: {{ node: pool-2 }} }}, {{ at: 700s, set: {{ \"{image}\": \"proxyv2:1.26\" }} }}"
        )
    };
    for (to, is_short, evicts) in [("84%", false, false), ("85.5%", true, false), ("86.5%", true, true)] {
        let outcome = Drill { timeline: &timeline(to), duration: "900s", ..USUAL }.run();
        let removed = of_kind(&outcome, "image_removed");
        let of_first: Vec<(&str, &str, i64)> =
            removed.iter().map(|event| (event.object.as_str(), text(event, "image"), number(event, "bytes"))).collect();
        let expected = [("Node/pool-1", "proxyv2:1.26", GIB)];
        assert_eq!(of_first.first(), expected[..usize::from(is_short)].first(), "{to}");
        // Images of pods that are evicted are used by nobody, too.
        assert_eq!(of_first.len() > 1, evicts, "{to}: {of_first:?}");
        assert_eq!(!of_kind(&outcome, "evicted_by_kubelet").is_empty(), evicts, "{to}");
        let [short, over] = ["node_disk_pressure", "node_disk_pressure_over"].map(|kind| of_kind(&outcome, kind));
        assert_eq!((short.len(), over.len()), (usize::from(is_short), usize::from(is_short)), "{to}");
        if let (Some(short), Some(over)) = (short.first(), over.first()) {
            // With its taint it stays for five minutes after the last look that found a shortage.
            let lasted = seconds(over) - seconds(short);
            assert!((300.0..330.0).contains(&lasted), "{lasted}");
        }
        let back = of_kind(&outcome, "pod_scheduled").into_iter().find(|event| seconds(event) > 700.0);
        let back = back.expect("the rollout back makes pods");
        assert_eq!(text(back, "node"), "pool-1");
        let started = of_kind(&outcome, "container_started").into_iter().find(|event| event.object == back.object);
        let took = seconds(started.expect("it starts")) - seconds(back);
        let expected = if is_short { 6.9..7.5 } else { 1.9..2.5 };
        assert!(expected.contains(&took), "{to}: the image takes 5 s if it is pulled anew, the start 2 s: {took}");
    }
}

#[test]
fn a_kubelet_turns_pods_away_while_it_is_short_of_disk_and_daemons_bear_the_taint() {
    let daemon = "{ at: 40s, apply: { inline: { apiVersion: apps/v1, kind: DaemonSet, metadata: { name: log, namespace: kube-system }, spec: { selector: { matchLabels: { app: log } }, \
                  template: { metadata: { labels: { app: log } }, spec: { containers: [ { name: log, image: log } ] } } } } } }";
    let critical = daemon.replace("spec: { containers", "spec: { priorityClassName: system-node-critical, containers");
    let filled = "{ at: 10s, fillDisk: { node: pool-1, to: 90% } }";
    for (daemon, is_taken) in [(daemon, false), (&*critical, true)] {
        let timeline = format!("{filled}, {daemon}");
        let outcome = Drill { timeline: &timeline, duration: "90s", ..USUAL }.run();
        let rejected = of_kind(&outcome, "pod_rejected");
        assert_eq!(rejected.is_empty(), is_taken, "{rejected:?}");
        if let Some(first) = rejected.first() {
            assert!(first.object.contains("/log-"));
            assert_eq!(text(first, "reason"), "The node had condition: [DiskPressure].");
        }
        let on_it = of_kind(&outcome, "container_started");
        let count = on_it.iter().filter(|event| event.object.contains("/log-")).count();
        // It neither turns critical pods away, nor evicts them.
        assert_eq!(count, 1 + usize::from(is_taken));
        assert!(of_kind(&outcome, "evicted_by_kubelet").iter().all(|event| !event.object.contains("/log-")));
    }
}

#[test]
fn who_takes_more_than_it_asked_for_goes_first() {
    // 82 GiB are taken without the pods, of which each node has one of either kind: a gateway that writes 2 GiB, and a backend.
    for (backend_bytes, requests, expected) in
        [("5GiB", "", "web"), ("1GiB", "", "edge"), ("1GiB", "ephemeral-storage: 2Gi", "web")]
    {
        let node = "disk: { size: 100GiB, used: 81GiB }";
        let (gateway, backend) = ("disk: { base: 2GiB }", format!("disk: {{ base: {backend_bytes} }}"));
        let drill = Drill { node, gateway, backend: &backend, requests, ..USUAL };
        let outcome = drill.run();
        let evicted = of_kind(&outcome, "evicted_by_kubelet");
        let first = evicted.first().unwrap_or_else(|| panic!("nobody is evicted: {backend_bytes}"));
        assert!(first.object.contains(&format!("/{expected}-")), "{backend_bytes} {requests}: {first:?}");
        assert!(text(first, "reason").contains("has larger consumption of ephemeral-storage"));
        let most_by = text(of_kind(&outcome, "node_disk_pressure")[0], "most_by");
        let largest = if backend_bytes == "5GiB" { "web" } else { "istio-system/edge" };
        assert!(most_by.starts_with("Pod/") && most_by.contains(largest), "{most_by}");
    }
}

#[test]
fn local_limits_hold_whether_the_node_is_short_or_not() {
    let volumes = "{ name: cache, emptyDir: { sizeLimit: 1Gi } }";
    for (gateway, limits, expected) in [
        ("disk: { base: 1GiB, volume: cache }", "", None),
        (
            "disk: { base: 1073741825B, volume: cache }",
            "",
            Some("Usage of EmptyDir volume \"cache\" exceeds the limit \"1Gi\"."),
        ),
        ("disk: { base: 1GiB }", "ephemeral-storage: 1Gi", None),
        (
            "disk: { base: 1073741825B }",
            "ephemeral-storage: 1Gi",
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 1Gi."),
        ),
        // A file that nobody rotates grows above any limit; a log to stdout does not.
        (
            "disk: { perRequest: 1MiB }",
            "ephemeral-storage: 60Mi",
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 60Mi."),
        ),
        ("disk: { logPerRequest: 1MiB }", "ephemeral-storage: 60Mi", None),
        (
            "disk: { logPerRequest: 1MiB }",
            "ephemeral-storage: 49Mi",
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 49Mi."),
        ),
    ] {
        let outcome = Drill { node: "", gateway, limits, volumes, ..USUAL }.run();
        let evicted = of_kind(&outcome, "evicted_by_kubelet");
        assert_eq!(evicted.first().map(|event| text(event, "reason")), expected, "{gateway} {limits}");
        assert_eq!(
            codes(&outcome).contains(&"GD4132"),
            expected.is_some(),
            "{gateway} {limits}: {:?}",
            codes(&outcome)
        );
        // It is told with what is written there.
        for cause in outcome.run.results.causes.iter().filter(|cause| cause.code == "GD4132") {
            let value = cause.source.as_ref().and_then(|source| source.value.as_deref()).expect("a value");
            assert!([limits, volumes].iter().any(|written| written.contains(value)), "{value}");
        }
        assert!(of_kind(&outcome, "node_disk_pressure").is_empty());
    }
}

#[test]
fn what_pods_ask_for_has_to_fit_on_the_disk() {
    // 90 GiB of 100 are allocatable: a node takes one pod of 46 GiB, or two of 45.
    for (request, waits) in [("45Gi", false), ("46Gi", true)] {
        let requests = format!("ephemeral-storage: {request}");
        let timeline = "{ at: 10s, scale: { replicas: 4 } }";
        let outcome = Drill { requests: &requests, timeline, ..USUAL }.run();
        let waiting = of_kind(&outcome, "pod_unschedulable");
        assert_eq!(!waiting.is_empty(), waits, "{request}");
        assert!(waiting.iter().all(|event| text(event, "reason").contains("2 Insufficient ephemeral-storage")));
        // Without a size the disk has room for all.
        let outcome = Drill { node: "", requests: &requests, timeline, ..USUAL }.run();
        assert!(of_kind(&outcome, "pod_unschedulable").is_empty(), "{request}");
    }
}

#[test]
fn a_kubelet_collects_images_from_85_percent_on() {
    // 84 % are no shortage and reason for nothing; from 84.1 % on, which count as 85, the old image goes within five minutes of being seen.
    let image = "target.spec.template.spec.containers[istio-proxy].image";
    for (to, is_collected) in [("84%", false), ("84.5%", true)] {
        let timeline = format!(
            "{{ at: 10s, set: {{ \"{image}\": \"proxyv2:1.27\" }} }}, {{ at: 100s, fillDisk: {{ node: pool-1, to: {to} }} }}"
        );
        let outcome = Drill { timeline: &timeline, duration: "800s", ..USUAL }.run();
        let removed = of_kind(&outcome, "image_removed");
        assert_eq!(removed.len(), usize::from(is_collected), "{to}: {removed:?}");
        assert!(of_kind(&outcome, "node_disk_pressure").is_empty(), "{to}");
    }
}

#[test]
fn the_garbage_collector_deletes_ended_pods_beyond_its_threshold() {
    // A pod that is evicted as soon as it has started comes again and again.
    for (most, is_collected) in [("12500", false), ("3", true)] {
        let cluster = format!("controllerManager: {{ terminatedPodGcThreshold: {most} }}");
        let gateway = "disk: { base: 2GiB }";
        let drill = Drill { cluster: &cluster, gateway, limits: "ephemeral-storage: 1Gi", duration: "120s", ..USUAL };
        let outcome = drill.run();
        assert!(of_kind(&outcome, "evicted_by_kubelet").len() > 6);
        let collected = of_kind(&outcome, "pod_collected");
        assert_eq!(!collected.is_empty(), is_collected, "{most}");
        // The oldest go first.
        let created = |object: &str| {
            let event = of_kind(&outcome, "pod_created").into_iter().find(|event| event.object == object);
            event.map(|event| event.at)
        };
        let ages: Vec<_> = collected.iter().map(|event| created(&event.object)).collect();
        assert!(ages.is_sorted(), "{ages:?}");
    }
}

#[test]
fn disks_that_cannot_be_are_refused_with_their_lines() {
    let filled = "{ at: 10s, fillDisk: { node: pool-1, to: 90% } }";
    for (drill, expected) in [
        (Drill { node: "disk: { used: 1GiB }", ..USUAL }, "disk.size: this is missing"),
        (Drill { node: "disk: { size: 100 }", ..USUAL }, "has no unit"),
        (Drill { node: "disk: { size: 1GiB, used: 2GiB }", ..USUAL }, "there is more on the disk than its size"),
        (Drill { node: "disk: { size: 1GiB, inodes: 5 }", ..USUAL }, "`inodes` is not a field here"),
        (Drill { node: "", timeline: filled, ..USUAL }, "the disk of pool-1 has no size, so it never fills"),
        (Drill { timeline: "{ at: 1s, fillDisk: { node: pool-1 } }", ..USUAL }, "write how full it gets"),
        (Drill { timeline: "{ at: 1s, fillDisk: { node: pool-9, to: 90% } }", ..USUAL }, "no node is called `pool-9`"),
        (Drill { timeline: "{ at: 1s, fillDisk: { node: pool-1, to: 120% } }", ..USUAL }, "out of range"),
        (
            Drill { timeline: "{ at: 1s, fillDisk: { node: pool-1, to: 90%, amount: 1GiB } }", ..USUAL },
            "`to` says how full it gets",
        ),
        (Drill { gateway: "disk: { volume: logs }", ..USUAL }, "no emptyDir on disk that is called `logs`"),
        (Drill { gateway: "disk: { base: 5 }", ..USUAL }, "has no unit"),
        (Drill { limits: "ephemeral-storage: 1GB", ..USUAL }, "is not a quantity"),
        (Drill { volumes: "{ name: c, emptyDir: { sizeLimit: -1Gi } }", ..USUAL }, "is not a quantity"),
    ] {
        let told = drill.load().err().unwrap_or_else(|| panic!("not refused: {expected}"));
        assert!(told.contains(expected) && told.contains(".yaml:"), "{expected} is not in {told}");
    }
    let above = SCENARIO.replace("memory: 16Gi }", "memory: 16Gi, ephemeral-storage: 200Gi }");
    let text = [("NODE", USUAL.node), ("CLUSTER", ""), ("GATEWAY", ""), ("BACKEND", ""), ("TIMELINE", "")];
    let above = text.iter().fold(above, |text, (name, value)| text.replace(name, value));
    let above = above.replace("VERSION", "1.33").replace("DURATION", "60s");
    let manifest =
        ["VOLUMES", "REQUESTS", "LIMITS"].iter().fold(MANIFEST.to_owned(), |text, name| text.replace(name, ""));
    let told = loaded(&above, &manifest, &[], None).err().map(|problems| problems.to_string());
    assert!(told.as_ref().is_some_and(|told| told.contains("this is more than the disk has")), "{told:?}");
}
