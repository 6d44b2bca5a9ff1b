//! Every scalar of a manifest, edited in mid-run, one at a time.
//!
//! Goal: whatever is edited is either simulated, with books that balance, or refused in words with file, line and what to write instead; nothing panics. What is refused only
//! because it is not simulated yet is listed here, so that the list can only become shorter. `cargo test --test drills every_field -- --nocapture` prints all that is refused.

use std::collections::BTreeSet;

use crate::scenario_robust::texts::MANIFEST;
use crate::scenarios::loaded;
use gatedrill::drill::{Continue, run};
use gatedrill::manifest::{Node, Value, yaml};

const SCENARIO: &str = r#"
apiVersion: gatedrill/v1
kind: Scenario
metadata: { name: every }
spec:
  duration: 12s
  warmup: 2s
  seed: 3
  manifests: [ { path: manifests/ } ]
  target: TARGET
  cluster:
    version: "1.33"
    nodes: [ { name: pool, count: 6, zones: [a, b], labels: { disk: ssd } } ]
    timings: { podStart: 1s, endpointPropagation: 100ms }
    metrics:
      - { name: rps, of: pods, value: 1 }
      - { name: hits, of: object, object: Service/web, value: 10 }
      - { name: lag, of: external, value: 2 }
  loadBalancer: { controllerLatency: 1s }
  backends: [ { service: default/web, deployment: default/web, cpuPerRequest: 1ms, memory: { base: 64MiB } }, { service: default/api } ]
  load:
    - { name: all, rate: 5/s, arrivals: constant, clients: { reuse: none, timeout: 1s }, mix: [ { get: "http://shop.example.com/" }, { get: "http://shop.example.com/api/a", headers: { x-tier: gold } } ] }
  timeline:
    - { at: 3s, set: { 'PATH': VALUE } }
"#;

/// A gateway whose objects are written: a Deployment and its Service, the Gateway API, a ProxyConfig.
const WRITTEN: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: edge, namespace: istio-system }
spec:
  replicas: 2
  minReadySeconds: 1
  progressDeadlineSeconds: 60
  revisionHistoryLimit: 3
  paused: false
  strategy: { type: RollingUpdate, rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }
  selector: { matchLabels: { istio: edge } }
  template:
    metadata: { labels: { istio: edge }, annotations: { proxy.istio.io/config: "drainDuration: 30s" } }
    spec:
      terminationGracePeriodSeconds: 20
      priority: 0
      containers:
        - name: istio-proxy
          image: "proxy:1"
          ports: [ { name: http, containerPort: 80 } ]
          resources: { requests: { cpu: 500m, memory: 256Mi }, limits: { cpu: "1", memory: 1Gi } }
          readinessProbe: { httpGet: { path: /healthz/ready, port: 15021 }, periodSeconds: 2, failureThreshold: 3, timeoutSeconds: 1, initialDelaySeconds: 1, successThreshold: 1 }
          lifecycle: { preStop: { exec: { command: [sleep, "3"] } } }
---
apiVersion: v1
kind: Service
metadata:
  name: front
  namespace: istio-system
  annotations:
    service.beta.kubernetes.io/backend-type: ecs
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-id: lb-hand
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-force-override-listeners: "true"
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-scheduler: wrr
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain: "on"
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain-timeout: "30"
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-health-check-type: http
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-health-check-connect-port: "31999"
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-health-check-httpcode: http_2xx
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-preserve-lb-on-delete: "true"
spec:
  type: LoadBalancer
  selector: { istio: edge }
  externalTrafficPolicy: Local
  internalTrafficPolicy: Cluster
  healthCheckNodePort: 31999
  allocateLoadBalancerNodePorts: true
  publishNotReadyAddresses: false
  sessionAffinity: ClientIP
  sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } }
  ports: [ { name: http, port: 80, targetPort: http, nodePort: 31080 } ]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: shop, namespace: default }
spec:
  parentRefs: [ { name: shop, namespace: istio-system, sectionName: http } ]
  hostnames: ["shop.example.com"]
  rules:
    - matches: [ { path: { type: PathPrefix, value: /api }, headers: [ { name: x-tier, value: gold } ] } ]
      timeouts: { request: 3s }
      filters: [ { type: ResponseHeaderModifier, responseHeaderModifier: { set: [ { name: x-via, value: edge } ] } } ]
      backendRefs: [ { name: api, port: 80, weight: 2 }, { name: web, port: 80, weight: 1 } ]
    - backendRefs: [ { name: web, port: 80 } ]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: shop, namespace: istio-system }
spec:
  gatewayClassName: istio
  addresses: [ { type: Hostname, value: front.istio-system.svc.cluster.local } ]
  listeners: [ { name: http, port: 80, protocol: HTTP, hostname: "*.example.com", allowedRoutes: { namespaces: { from: All } } } ]
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: { name: all, namespace: istio-system }
spec: { concurrency: 2, environmentVariables: { MINIMUM_DRAIN_DURATION: 3s } }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web, namespace: default }
spec:
  host: web
  trafficPolicy:
    loadBalancer: { simple: LEAST_REQUEST }
    connectionPool: { tcp: { maxConnections: 100, connectTimeout: 2s }, http: { http1MaxPendingRequests: 50, maxRequestsPerConnection: 10, maxRetries: 3, idleTimeout: 30s } }
    outlierDetection: { consecutive5xxErrors: 5, interval: 10s, baseEjectionTime: 30s, maxEjectionPercent: 50 }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default }
spec: { selector: { app: web }, ports: [ { port: 80 } ] }
---
apiVersion: v1
kind: Service
metadata: { name: api, namespace: default }
spec: { selector: { app: api }, ports: [ { port: 80 } ] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: default }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template: { metadata: { labels: { app: web } }, spec: { containers: [ { name: web, image: "web:1" } ] } }
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: edge, namespace: istio-system }
spec: { maxUnavailable: 1, selector: { matchLabels: { istio: edge } } }
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: edge, namespace: istio-system }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: edge }
  minReplicas: 2
  maxReplicas: 4
  metrics: [ { type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 70 } } } ]
"#;

/// What another word for one of a few is.
const OTHERS: [(&str, &str); 20] = [
    ("LoadBalancer", "ClusterIP"),
    ("Local", "Cluster"),
    ("Cluster", "Local"),
    ("eni", "ecs"),
    ("ecs", "eni"),
    ("on", "off"),
    ("wrr", "rr"),
    ("http", "tcp"),
    ("http_2xx", "http_4xx"),
    ("ClientIP", "None"),
    ("RollingUpdate", "Recreate"),
    ("ROUND_ROBIN", "RANDOM"),
    ("LEAST_REQUEST", "RANDOM"),
    ("PathPrefix", "Exact"),
    ("Max", "Min"),
    ("Disabled", "Min"),
    ("Utilization", "AverageValue"),
    ("AlwaysAllow", "IfHealthyBudget"),
    ("Exists", "Equal"),
    ("NoSchedule", "NoExecute"),
];

/// Another value, as YAML.
fn other(text: &str, is_quoted: bool) -> String {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let value = match (OTHERS.iter().find(|(known, _)| *known == text), text.parse::<bool>()) {
        (Some((_, other)), _) => (*other).to_owned(),
        (_, Ok(flag)) => (!flag).to_string(),
        _ if digits > 0 => {
            let number: u64 = text[..digits].parse().expect("digits");
            format!("{}{}", number + 1, &text[digits..])
        }
        _ => format!("{text}x"),
    };
    if is_quoted { format!("{value:?}") } else { value }
}

/// The paths of all scalars beneath a node, each with another value.
fn scalars(node: &Node, path: &str, found: &mut Vec<(String, String)>) {
    match &node.value {
        Value::Scalar { text, is_quoted } => found.push((path.to_owned(), other(text, *is_quoted))),
        Value::List(items) => {
            items.iter().enumerate().for_each(|(index, item)| scalars(item, &format!("{path}[{index}]"), found));
        }
        Value::Map(entries) => {
            for entry in entries {
                let is_plain = entry.key.chars().all(|letter| letter.is_alphanumeric() || letter == '-');
                let step = if is_plain { format!("{path}.{}", entry.key) } else { format!("{path}[{}]", entry.key) };
                scalars(&entry.node, &step, found);
            }
        }
        Value::Null => {}
    }
}

/// Every edit of one scalar in these manifests.
fn edits(manifest: &str) -> Vec<(String, String)> {
    let (documents, problems) = yaml::parse(manifest, 0);
    assert!(problems.is_empty());
    let items = documents.iter().flat_map(|document| match document.find(&["items"]) {
        Some(items) => items.items().iter().collect(),
        None => vec![document],
    });
    let mut found = Vec::new();
    for object in items {
        let text = |path: &[&str]| object.find(path).and_then(Node::text).map(str::to_owned);
        let (kind, name) = (text(&["kind"]).expect("a kind"), text(&["metadata", "name"]).expect("a name"));
        let namespace = text(&["metadata", "namespace"]).unwrap_or_else(|| "default".to_owned());
        for part in ["annotations", "labels"] {
            if let Some(node) = object.find(&["metadata", part]) {
                scalars(node, &format!("{kind}/{namespace}/{name}.metadata.{part}"), &mut found);
            }
        }
        scalars(object.find(&["spec"]).expect("a spec"), &format!("{kind}/{namespace}/{name}.spec"), &mut found);
    }
    found
}

/// Makes each edit; what is refused, as `path: words`.
fn refused(manifest: &str, target: &str) -> Vec<String> {
    let mut told = Vec::new();
    for (path, value) in edits(manifest) {
        let text = SCENARIO.replace("TARGET", target).replace("PATH", &path).replace("VALUE", &value);
        match loaded(&text, manifest, &[], None) {
            Ok(scenario) => {
                let outcome = run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes);
                let outcome = outcome.unwrap_or_else(|error| panic!("{path} to {value}: {error}"));
                let totals = &outcome.run.results.totals;
                assert_eq!(totals.sent, totals.ok + totals.backend_error + totals.dropped, "{path} to {value}");
                assert_eq!(totals.sent, 60, "{path} to {value}");
            }
            Err(problems) => {
                for problem in &problems.list {
                    let line = problems.files.position(problem.place);
                    assert!(line.is_some(), "{path} to {value}: {} has no line", problem.text);
                    assert!(problem.help.as_ref().is_some_and(|help| !help.is_empty()), "{path}: {}", problem.text);
                }
                let words = problems.to_string();
                let line = text.lines().position(|line| line.contains("at: 3s")).expect("the entry") + 1;
                let entry = format!("test.drill.yaml:{line}:");
                assert!(words.contains(&entry) || words.contains("manifests/all.yaml:"), "{path} to {value}: {words}");
                told.push(format!("{path} to {value}: {}", words.trim()));
            }
        }
    }
    told
}

/// Those that are refused because they are not simulated yet.
fn gaps(told: &[String]) -> BTreeSet<&str> {
    let is_gap = |text: &&String| text.contains("compare two scenarios") || text.contains("not simulated");
    told.iter().filter(is_gap).map(|text| text.split(" to ").next().unwrap_or_default()).collect()
}

#[test]
fn every_field_of_an_istio_gateway_and_what_is_behind_it_can_be_edited() {
    let told = refused(MANIFEST, "istio-system/istio-edge");
    told.iter().for_each(|text| println!("{text}\n"));
    assert_eq!(gaps(&told), BTreeSet::from([]));
}

#[test]
fn every_field_of_written_objects_can_be_edited() {
    let told = refused(WRITTEN, "istio-system/edge");
    told.iter().for_each(|text| println!("{text}\n"));
    assert_eq!(gaps(&told), BTreeSet::from([]));
}
