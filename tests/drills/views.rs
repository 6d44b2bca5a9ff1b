//! What `kubectl get … -o wide` would have shown of a pod whose containers start one after another, of closed readiness gates, and of Services.
//!
//! Goal: the words that decide what somebody at a terminal believes. Method: a restart of one pod, looked at second by second.

use std::time::Duration;

use crate::scenarios::loaded;
use crate::shop::{scenario_head, shop_of_istio_edge};
use gatedrill::drill::{Continue, Watch, run};

const SCENARIO: &str = concat!(
    scenario_head!("views", "  duration: 60s\n"),
    r#"  cluster:
    BAD
    nodes: [ { name: pool, count: 1, zones: [a] } ]
    timings: { podStart: 2s, imagePull: 5s, initContainer: 2s, sandboxRemoval: 0s, schedule: 0s }
  backends: [ { service: default/web, serviceTime: 5ms } ]
  load: [ { name: new, rate: 5/s, clients: { reuse: none }, mix: [ { get: "http://shop.example.com/" } ] } ]
  timeline: [ { at: 5s, TIMELINE } ]
"#
);

const MANIFEST: &str = concat!(
    r#"apiVersion: apps/v1
kind: Deployment
metadata: { name: edge, namespace: istio-system }
spec:
  replicas: 1
  selector: { matchLabels: { istio: edge } }
  template:
    metadata: { labels: { istio: edge } }
    spec:
      # GATE
      initContainers:
        - { name: prepare, image: "proxy:1" }
        - { name: native, image: "IMAGE", restartPolicy: Always, readinessProbe: { tcpSocket: { port: 9 }, initialDelaySeconds: 20 } }
      containers:
        - { name: istio-proxy, image: "proxy:1", ports: [ { containerPort: 80 } ] }
        - { name: side, image: "proxy:1" }
---
apiVersion: v1
kind: Service
metadata: { name: edge, namespace: istio-system, annotations: { service.beta.kubernetes.io/backend-type: BACKENDS } }
spec: { type: LoadBalancer, selector: { istio: edge }, ports: [ { name: http, port: 80 } ] }
---
apiVersion: v1
kind: Service
metadata: { name: admin, namespace: istio-system }
spec:
  type: NodePort
  selector: { istio: edge }
  ports: [ { name: http, port: 81, nodePort: 30081 }, { name: dns, port: 53, protocol: UDP, nodePort: 30053 } ]
---
apiVersion: v1
kind: Service
metadata: { name: each, namespace: istio-system }
spec: { clusterIP: None, selector: { istio: edge }, ports: [ { name: http, port: 80 } ] }
"#,
    shop_of_istio_edge!()
);

/// The rows of one table at these seconds.
#[track_caller]
fn tables(manifest: &str, kind: &str, seconds: &[u64]) -> Vec<(Vec<&'static str>, Vec<Vec<String>>)> {
    tables_of(&SCENARIO.replace("BAD", "badImages: []").replace("TIMELINE", "restart: {}"), manifest, kind, seconds)
}

#[track_caller]
fn tables_of(
    scenario: &str,
    manifest: &str,
    kind: &str,
    seconds: &[u64],
) -> Vec<(Vec<&'static str>, Vec<Vec<String>>)> {
    let loaded = loaded(scenario, manifest, &[], None).unwrap_or_else(|problems| panic!("{problems}"));
    let times = seconds.iter().map(|second| Duration::from_secs(*second)).collect();
    let world = gatedrill::drill::WorldConfig { watch: Some(Watch::At(times)), ..loaded.world };
    let shown = run(world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance").objects;
    assert_eq!(shown.len(), seconds.len());
    let its = shown.into_iter().map(|moment| moment.tables.into_iter().find(|table| table.kind == kind));
    its.map(|table| table.expect("a table")).map(|table| (table.head, table.rows)).collect()
}

/// The row of the youngest pod.
fn newest(rows: &[Vec<String>]) -> Vec<String> {
    let age = |row: &&Vec<String>| row[4].trim_end_matches('s').parse::<u64>().expect("seconds");
    rows.iter().min_by_key(age).expect("a pod").clone()
}

/// READY and STATUS of the youngest pod in these rows.
fn words(rows: &[Vec<String>]) -> String {
    let row = newest(rows);
    format!("{} {}", row[1], row[2])
}

#[test]
fn containers_are_counted_as_they_start_and_become_ready() {
    // Its image is there: the first takes two seconds, the sidecar another two, the process two more; from the sixth on two of three are ready, and all when the sidecar is, 20 s after its start at the earliest.
    let manifest = MANIFEST.replace("IMAGE", "proxy:1").replace("BACKENDS", "eni");
    let shown = tables(&manifest, "pods", &[4, 6, 8, 10, 13, 24, 45]);
    let shown: Vec<String> = shown.iter().map(|(_, rows)| words(rows)).collect();
    assert_eq!(
        shown,
        [
            "3/3 Running",
            "0/3 Init:0/2",
            "0/3 Init:1/2",
            "0/3 PodInitializing",
            "2/3 Running",
            "2/3 Running",
            "3/3 Running"
        ]
    );
}

#[test]
fn an_init_container_without_its_image_says_so() {
    let manifest = MANIFEST.replace("IMAGE", "proxy:1").replace("BACKENDS", "eni");
    let timeline = "set: { \"target.spec.template.spec.initContainers[native].image\": \"bad:1\" }";
    let scenario = SCENARIO.replace("BAD", "badImages: [ \"bad:1\" ]").replace("TIMELINE", timeline);
    let shown = tables_of(&scenario, &manifest, "pods", &[6, 14]);
    let shown: Vec<String> = shown.iter().map(|(_, rows)| words(rows)).collect();
    assert_eq!(shown, ["0/3 Init:0/2", "0/3 Init:ErrImagePull"]);
}

#[test]
fn a_closed_gate_leaves_the_containers_ready_and_has_its_column() {
    let gate = "readinessGates: [ { conditionType: service.readiness.alibabacloud.com/edge } ]";
    let manifest = MANIFEST.replace("IMAGE", "proxy:1").replace("# GATE", gate).replace("BACKENDS", "eni");
    let shown = tables(&manifest, "pods", &(25..60).collect::<Vec<_>>());
    let last = |index: usize| {
        let (head, rows): &(Vec<&str>, Vec<Vec<String>>) = &shown[index];
        assert_eq!(head.last(), Some(&"READINESS GATES"));
        let row = newest(rows);
        (row[1].clone(), row[row.len() - 1].clone())
    };
    let seen: Vec<(String, String)> = (0..shown.len()).map(last).collect();
    let at = |ready: &str, gates: &str| seen.iter().position(|(a, b)| a == ready && b == gates);
    let (unready, closed, open) = (at("2/3", "0/1"), at("3/3", "0/1"), at("3/3", "1/1"));
    assert!(unready.is_some() && unready < closed && closed < open, "{seen:?}");
    // Without a gate there is no such column.
    let (head, _) = &tables(&MANIFEST.replace("IMAGE", "proxy:1").replace("BACKENDS", "eni"), "pods", &[4])[0];
    assert_eq!(head.last(), Some(&"NODE"));
}

#[test]
fn services_show_their_own_types_and_ports() {
    for targets in ["ecs", "eni"] {
        let manifest = MANIFEST.replace("IMAGE", "proxy:1").replace("BACKENDS", targets);
        let (_, rows) = tables(&manifest, "svc", &[4]).remove(0);
        let words: Vec<(&str, &str, &str)> = rows.iter().map(|row| (&*row[0], &*row[1], &*row[4])).collect();
        assert_eq!(words[0], ("admin", "NodePort", "81:30081/TCP,53:30053/UDP"), "{targets}");
        assert_eq!(words[1], ("each", "ClusterIP", "80/TCP"));
        assert_eq!(rows[1][2], "None");
        let (name, kind, ports) = words[2];
        assert_eq!((name, kind), ("edge", "LoadBalancer"));
        // A node port is drawn, whether balancers go to nodes or not.
        let node_port: u16 =
            ports.strip_prefix("80:").and_then(|rest| rest.strip_suffix("/TCP")).expect(ports).parse().expect("a port");
        assert!((30_086..=32_767).contains(&node_port), "{ports}");
    }
}
