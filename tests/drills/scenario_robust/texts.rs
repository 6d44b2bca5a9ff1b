//! The scenario and the manifests that the tests bend.

/// Every key that a scenario has.
pub(crate) const SCENARIO: &str = r#"
apiVersion: gatedrill/v1
kind: Scenario
metadata: { name: robust, description: "Every key that a scenario has: one of each" }
spec:
  duration: 2m
  warmup: 5s
  seed: 3
  target: istio-system/istio-edge
  manifests:
    - path: manifests/
    - inline: { apiVersion: v1, kind: ConfigMap, metadata: { name: other, creationTimestamp: null }, data: { a: "null" } }
  cluster:
    profile: ack-terway-nlb
    version: "1.33"
    nodes:
      - { name: pool-a, count: 3, zones: [a, b, c], allocatable: { cpu: "4", memory: 8Gi, example.com/cards: 2, ephemeral-storage: 80Gi }, disk: { size: 100GiB, used: 10GiB }, labels: { disk: ssd }, taints: [ { key: soft, effect: PreferNoSchedule } ] }
    autoscaler: { group: pool-a, min: 2, max: 9, nodeStart: { min: 60s, max: 120s }, scanInterval: 10s, unneededTime: 5m, utilizationPercent: 60 }
    controllerManager: { kubeApiQps: 50, kubeApiBurst: 60, terminatedPodGcThreshold: 100 }
    kubelet: { kubeAPIQPS: 5, kubeAPIBurst: 10, shutdownGracePeriodByPodPriority: [ { priority: 1000, shutdownGracePeriodSeconds: 60 }, { priority: 0, shutdownGracePeriodSeconds: 20 } ] }
    kubeProxy: { mode: ipvs, minSyncPeriod: 500ms }
    timings: { schedule: 10ms, podStart: { p50: 4s, p99: 11s }, imagePull: { mean: 1s }, sandboxRemoval: { values: [1s, 2s] } }
    horizontalAutoscaler: { syncPeriod: 10s, tolerance: 5%, downscaleStabilization: 1m, cpuInitializationPeriod: 0s, metricsResolution: 30s, kubeletSampling: 15s }
    metrics:
      - { name: rps, of: pods }
      - { name: depth, of: pods, value: 1500m }
      - { name: hits, of: object, object: Service/web, value: [ { for: 30s, from: 10, to: 2k }, { for: 1m, at: "300" } ] }
      - { name: lag, of: external, value: 7 }
  loadBalancer:
    controllerLatency: { min: 2s, max: 10s }
    healthCheck: { interval: 500ms, timeout: 5s, healthyThreshold: 2, unhealthyThreshold: 2 }
  gateway: { istio: "1.26", terminationDrainDuration: 5s, cpuPerRequest: 150us, memory: { base: 50MB, perRequest: 1KiB }, disk: { base: 1MiB, perRequest: 10B, logPerRequest: 300B }, replicasSync: 30s }
  backends:
    - { service: default/web, deployment: default/web, serviceTime: { p50: 8ms, p99: 60ms }, concurrency: 64, keepAlive: 0s, cpuPerRequest: 2ms, memory: { base: 64MiB, perRequest: 1KiB }, disk: { base: 1GiB } }
    - { service: default/api, replicas: 4, zones: [a, b], errorRatio: 0.1%, shutdownDelay: 1s, answer: 2KiB }
  load:
    - name: services
      rate: [ { for: 1m, from: 100/s, to: 300/s }, { for: 1m, at: 90/m } ]
      arrivals: constant
      clients: { connections: 60, protocol: http/1.1, reuse: lru, timeout: 5s, rtt: 2ms, retries: 1, detectIdleClose: false }
      mix:
        - { weight: 3, get: "http://shop.example.com/api/cart?a=b&c", headers: { x-tier: gold } }
        - { weight: 1, post: "http://shop.example.com/", body: 2KiB }
  timeline:
    - { at: 20s, restart: {}, phase: rollout }
    - { at: 21s, evict: { pod: 0 } }
    - { at: 22s, killPod: { pod: newest, grace: 5s }, of: default/web }
    - { at: 23s, drainNode: { node: busiest, timeout: 1m, grace: 30s, force: true } }
    - { at: 24s, uncordonNode: { node: pool-a-1 } }
    - { at: 25s, addNode: { group: pool-a, count: 2 } }
    - { at: 26s, killNode: { node: pool-a-5, for: 1m } }
    - { at: 27s, reclaimNode: { node: pool-a-4, notice: 30s, drain: false } }
    - { at: 27500ms, shutdownNode: { node: pool-a-1, for: 30s } }
    - { at: 27600ms, fillDisk: { node: pool-a-2, to: 90%, for: 20s } }
    - { at: 27700ms, fillDisk: { node: busiest, amount: 1GiB } }
    - { at: 28s, removeNode: { node: pool-a-3 } }
    - { at: 29s, configPush: {} }
    - { at: 40s, set: { target.spec.replicas: 6 } }
    - { at: 50s, scale: { replicas: 3 }, of: default/web }
    - at: 1m
      apply:
        inline:
          apiVersion: v1
          kind: List
          items:
            - apiVersion: apps/v1
              kind: Deployment
              metadata: { name: web, namespace: default }
              spec:
                replicas: 5
                selector: { matchLabels: { app: web } }
                template:
                  metadata: { labels: { app: web } }
                  spec: { containers: [ { name: web, image: "web:2", ports: [ { name: http, containerPort: 8080 } ] } ] }
  slo:
    - { name: nothing lost, expr: 'dropped_count{phase="rollout"} <= 0', over: p95 }
    - { expr: 'latency_p99{load="services"} <= 400ms', level: warn }
  variants:
    drained:
      description: "graceful"
      set:
        IstioGateway/edge.metadata.annotations["asm.alibabacloud.com/gateway-drain-timeout-seconds"]: "30"
        load.services.clients.rtt: 4ms
        target.spec.template.spec.terminationGracePeriodSeconds: 60
        Service/default/api.spec.ports[0].targetPort: 9090
"#;

/// What it names.
pub(crate) const MANIFEST: &str = r#"
apiVersion: istio.alibabacloud.com/v1beta1
kind: IstioGateway
metadata: { name: edge, namespace: istio-system, creationTimestamp: null, labels: { asm-gateway-type: ingress } }
spec:
  gatewayType: ingress
  clusterIds: [c-1]
  replicaCount: 4
  minReplicas: 4
  maxReplicas: 4
  autoscaleEnabled: false
  cpu: { targetAverageUtilization: 80 }
  memory: {}
  rollingMaxSurge: "1"
  rollingMaxUnavailable: 0%
  serviceType: LoadBalancer
  loadBalancerClass: alibabacloud.com/nlb
  externalTrafficPolicy: Local
  serviceAnnotations:
    service.beta.kubernetes.io/backend-type: eni
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-zone-maps: "cn-hangzhou-h:vsw-a,cn-hangzhou-i:vsw-b"
    service.beta.kubernetes.io/alicloud-loadbalancer-health-check-flag: "on"
  podLabels: { tier: edge }
  podAnnotations: { proxy.istio.io/config: "concurrency: 2" }
  ports: [ { name: http-0, port: 80, targetPort: 0, protocol: TCP } ]
  resources: { limits: { cpu: 2, memory: 4G }, requests: {} }
  env: [ { name: EXIT_ON_ZERO_ACTIVE_CONNECTIONS, value: "true" } ]
  nodeSelector: { disk: ssd }
  tolerations: [ { key: dedicated, operator: Exists, effect: NoSchedule } ]
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector: { matchExpressions: [ { key: istio, operator: In, values: [edge] } ] }
  lifecycle: { preStop: { exec: { command: ["/bin/sh", "-c", "sleep 5"] } } }
  readinessProbe: { failureThreshold: 30, periodSeconds: 2, successThreshold: 0 }
  secretVolumes: [ { name: certs, secretName: certs, mountPath: /etc/istio/certs } ]
  configVolumes: []
  kernel: { enabled: true, parameters: { net.core.somaxconn: "65535" } }
  compression: { enabled: true, gzip: { memory_level: 9, compression_level: BEST } }
  sds: {}
  hostNetwork: false
  runAsRoot: true
  dnsPolicy: ClusterFirst
status: { Status: Running }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: shop, namespace: istio-system }
spec:
  selector: { istio: edge }
  servers:
    - { port: { number: 80, name: http, protocol: HTTP }, hosts: ["*.example.com"] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop, namespace: default }
spec:
  hosts: ["shop.example.com"]
  gateways: ["istio-system/shop"]
  http:
    - name: api
      match:
        - { uri: { prefix: /api/ }, headers: { x-tier: { exact: gold } }, method: { regex: "GET|POST" } }
      timeout: 3s
      retries: { attempts: 1, perTryTimeout: 1s, retryOn: "5xx,connect-failure" }
      route:
        - { destination: { host: api, port: { number: 80 } }, weight: 90 }
        - { destination: { host: web.default.svc.cluster.local }, weight: 10 }
    - route:
        - destination: { host: web }
---
apiVersion: v1
kind: List
metadata: { resourceVersion: "" }
items:
  - apiVersion: v1
    kind: Service
    metadata: { name: web, namespace: default }
    spec: { selector: { app: web }, ports: [ { name: http, port: 80, targetPort: http } ] }
  - apiVersion: v1
    kind: Service
    metadata: { name: api }
    spec: { selector: { app: api }, ports: [ { port: 80 } ], clusterIP: None }
  - apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata: { name: web, creationTimestamp: null }
    spec:
      scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: web }
      minReplicas: 2
      maxReplicas: 9
      metrics:
        - { type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 70 } } }
        - { type: ContainerResource, containerResource: { name: memory, container: web, target: { type: AverageValue, averageValue: 100Mi } } }
        - { type: Pods, pods: { metric: { name: rps }, target: { type: AverageValue, averageValue: 500m } } }
        - { type: Object, object: { metric: { name: hits }, describedObject: { apiVersion: v1, kind: Service, name: web }, target: { type: Value, value: "10" } } }
        - { type: External, external: { metric: { name: lag }, target: { type: AverageValue, averageValue: "2" } } }
      behavior:
        scaleUp: { stabilizationWindowSeconds: 0, selectPolicy: Max, policies: [ { type: Pods, value: 2, periodSeconds: 30 } ] }
        scaleDown: { selectPolicy: Disabled }
    status: { currentReplicas: 2 }
  - apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: { name: api }
    spec: { host: api, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN }, connectionPool: { tcp: {} } } }
  - apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: { name: web, creationTimestamp: null }
    spec: { minAvailable: 50%, unhealthyPodEvictionPolicy: AlwaysAllow, selector: { matchLabels: { app: web }, matchExpressions: [ { key: tier, operator: NotIn, values: [test] } ] } }
    status: { currentHealthy: 0, desiredHealthy: 0, disruptionsAllowed: 0, expectedPods: 0 }
  - apiVersion: apps/v1
    kind: Deployment
    metadata: { name: web, annotations: {}, generation: 3, creationTimestamp: "2026-01-01T00:00:00Z" }
    spec:
      replicas: 2
      minReadySeconds: 1
      strategy: { type: RollingUpdate, rollingUpdate: { maxSurge: 25%, maxUnavailable: 1 } }
      selector: { matchLabels: { app: web } }
      template:
        metadata: { labels: { app: web }, creationTimestamp: null }
        spec:
          terminationGracePeriodSeconds: 20
          containers:
            - name: web
              image: "web:1"
              ports: [ { name: http, containerPort: 8080 } ]
              readinessProbe: { httpGet: { path: /ready, port: http }, periodSeconds: 0 }
              livenessProbe: { tcpSocket: { port: 8080 }, initialDelaySeconds: 5 }
              lifecycle: { preStop: { sleep: { seconds: 3 } } }
    status: {}
"#;
