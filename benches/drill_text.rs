//! A drill of a large cluster as a user writes it: a scenario and its manifests as texts. A twentieth of the pods are gateways behind a balancer that sends to
//! nodes, so that each node's kube-proxy follows them; the others belong to Deployments of up to a hundred pods behind Services, of which the first is routed.
//! Nearly no load; after ten minutes of an hour the gateway is restarted.

use std::fmt::Write as _;

use gatedrill::drill::Continue;
use gatedrill::scenario::{Input, Library, NamedText, load};

/// Pods of a Deployment that is no gateway.
const PODS_PER_SERVICE: usize = 100;

struct Manifests(String);

impl Library for Manifests {
    fn read(&self, path: &str) -> Result<Vec<NamedText>, (String, String)> {
        Ok(vec![(path.to_owned(), self.0.clone())])
    }
}

/// Plays the hour; the tasks that had their turn in it.
pub(crate) fn hour(pods: usize) -> u64 {
    let library = Manifests(manifests(pods));
    let text = scenario(pods);
    let input = Input { name: "large.drill.yaml", text: &text, library: &library, set: &[], variant: None, seed: None };
    let loaded = load(&input).expect("the scenario is right");
    let outcome = gatedrill::drill::run(loaded.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
    let rollouts = &outcome.run.results.rollouts;
    assert!(rollouts.len() == 1 && rollouts[0].complete, "the upgrade is through");
    outcome.polls
}

fn scenario(pods: usize) -> String {
    let nodes = pods / 2;
    format!(
        r#"apiVersion: gatedrill/v1
kind: Scenario
metadata: {{ name: large }}
spec:
  duration: 60m
  manifests: [ {{ path: manifests.yaml }} ]
  cluster:
    version: "1.33"
    nodes: [ {{ name: pool, count: {nodes}, zones: [a, b, c], allocatable: {{ cpu: "4", memory: 8Gi }} }} ]
  backends: [ {{ service: default/app-0, deployment: default/app-0, serviceTime: 10ms }} ]
  load:
    - name: visitors
      rate: 1/s
      arrivals: constant
      clients: {{ connections: 4, reuse: none, timeout: 5s, rtt: 20ms }}
      mix: [ {{ weight: 1, get: "http://shop.example.com/" }} ]
  timeline: [ {{ at: 10m, restart: {{}} }} ]
"#
    )
}

fn manifests(pods: usize) -> String {
    let gateways = pods / 20;
    let mut text = format!(
        r#"apiVersion: istio.alibabacloud.com/v1
kind: IstioGateway
metadata: {{ name: edge, namespace: istio-system }}
spec:
  gatewayType: ingress
  clusterIds: [c-edge-1]
  replicaCount: {gateways}
  maxReplicas: {gateways}
  minReplicas: {gateways}
  rollingMaxSurge: 25%
  rollingMaxUnavailable: 25%
  serviceType: LoadBalancer
  externalTrafficPolicy: Local
  serviceAnnotations:
    service.beta.kubernetes.io/backend-type: ecs
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-address-type: internet
  ports: [ {{ name: http-0, port: 80, targetPort: 80, protocol: TCP }} ]
  resources:
    limits: {{ cpu: "2", memory: 4G }}
    requests: {{ cpu: 200m, memory: 256Mi }}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: shop, namespace: istio-system }}
spec:
  selector: {{ istio: edge }}
  servers:
    - port: {{ number: 80, name: http, protocol: HTTP }}
      hosts: ["shop.example.com"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: shop, namespace: default }}
spec:
  hosts: ["shop.example.com"]
  gateways: ["istio-system/shop"]
  http: [ {{ route: [ {{ destination: {{ host: app-0, port: {{ number: 80 }} }} }} ] }} ]
"#
    );
    let mut left = pods - gateways;
    for number in 0.. {
        let replicas = left.min(PODS_PER_SERVICE);
        left -= replicas;
        if replicas == 0 {
            break;
        }
        let written = write!(
            text,
            r#"---
apiVersion: v1
kind: Service
metadata: {{ name: app-{number}, namespace: default }}
spec:
  selector: {{ app: app-{number} }}
  ports: [ {{ name: http, port: 80, targetPort: 8080 }} ]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: app-{number}, namespace: default }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: app-{number} }} }}
  template:
    metadata: {{ labels: {{ app: app-{number} }} }}
    spec:
      containers:
        - name: app
          image: app:1
          ports: [ {{ containerPort: 8080 }} ]
          resources: {{ requests: {{ cpu: 500m, memory: 512Mi }} }}
          readinessProbe: {{ tcpSocket: {{ port: 8080 }}, periodSeconds: 10 }}
"#
        );
        written.expect("a text takes all");
    }
    text
}
