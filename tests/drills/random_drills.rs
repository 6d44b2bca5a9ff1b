//! Drills that nobody thought of: rollouts, resizes, evictions, drains, autoscaling, failures of nodes and full disks, in any order and at any time.
//!
//! Goal: whatever happens, the invariants of ARCHITECTURE.md hold. A run checks most of them itself and stops where one does not: the surge of a rolling update and the pods that it has to
//! leave, budgets, bounds of autoscalers, that a pod fits on its node, the books, a cause for every loss. What can be seen from outside is looked at once more here, by the event log alone.
//! Method: a timeline is drawn, and run twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_assume, proptest};

use crate::scenarios::loaded;
use crate::shop::{new_clients, scenario_head, service_behind_nlb, shop_of_istio_edge};
use gatedrill::drill::{Continue, Outcome, run};
use gatedrill::engine::{Datum, Event};

const SCENARIO: &str = concat!(
    scenario_head!("random", "  duration: 120s\n  seed: SEED\n"),
    r#"  cluster:
    version: "VERSION"
    nodes: [ { name: pool, count: 4, zones: [a, b], allocatable: { cpu: "3", memory: 4Gi }, disk: { size: 20GiB, used: 4GiB } } ]
    timings: { podStart: { min: 1s, max: 4s }, imagePull: 2s }
    images: [ { name: "proxy:1", size: 1GiB } ]
    kubelet: { shutdownGracePeriod: 20s }
  loadBalancer: { controllerLatency: { min: 1s, max: 4s } }
  gateway: { cpuPerRequest: 20ms, memory: { base: 100MiB }, disk: { base: 100MiB, logPerRequest: 400B } }
  backends: [ { service: default/web, serviceTime: 5ms } ]
  load:
"#,
    new_clients!("10/s"),
    r#"    - { name: kept, rate: 10/s, clients: { connections: 5, timeout: 3s }, mix: [ { get: "http://shop.example.com/" } ] }
  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: istio-edge, namespace: istio-system }
spec:
  replicas: REPLICAS
  minReadySeconds: MIN_READY
  strategy: { rollingUpdate: { maxSurge: SURGE, maxUnavailable: UNAVAILABLE } }
  selector: { matchLabels: { istio: edge } }
  template:
    metadata: { labels: { istio: edge } }
    spec:
      terminationGracePeriodSeconds: 20
      containers:
        - name: istio-proxy
          image: proxy:1
          lifecycle: { preStop: { exec: { command: ["sleep", "5"] } } }
          readinessProbe: { httpGet: { path: /healthz/ready, port: 15021 }, periodSeconds: 1 }
          resources: { requests: { cpu: 900m, memory: 256Mi, ephemeral-storage: 64Mi }, limits: { cpu: "1", memory: 512Mi } }
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: edge, namespace: istio-system }
spec: { maxUnavailable: 1, selector: { matchLabels: { istio: edge } } }
---
"#,
    service_behind_nlb!(),
    r#"AUTOSCALER
"#,
    shop_of_istio_edge!()
);

const AUTOSCALER: &str = r#"---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: edge, namespace: istio-system }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: istio-edge }
  minReplicas: 2
  maxReplicas: 6
  metrics: [ { type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 20 } } } ]
---"#;

/// The most pods that anybody asks for.
const REPLICAS_MAX: u64 = 6;
/// Thousandths of a core that a node has, and that a pod asks for.
const NODE_MILLICORES: u64 = 3000;
const POD_MILLICORES: u64 = 900;

/// Verbs after which nothing is missing but what a rolling update takes.
const HARMLESS: [&str; 5] = [
    "restart: {}",
    "configPush: {}",
    "load: { factor: 2 }",
    "set: { \"target.spec.template.metadata.annotations.note\": \"note-INDEX\" }",
    "uncordonNode: { node: pool-1 }",
];
/// All others.
const OTHERS: [&str; 17] = [
    "scale: { replicas: 2 }",
    "scale: { replicas: 6 }",
    "set: { \"target.spec.template.spec.containers[istio-proxy].image\": \"proxy:INDEX\" }",
    "evict: { pod: ready }",
    "evict: { pod: newest }",
    "killPod: { pod: oldest, grace: 2s }",
    "killPod: { pod: pending }",
    "drainNode: { node: pool-1, timeout: 20s }",
    "drainNode: { node: busiest }",
    "killNode: { node: pool-2, for: 15s }",
    "killNode: { node: pool-3, mode: partition, for: 30s }",
    "killNode: { node: pool-4, mode: notReady, for: 30s }",
    "shutdownNode: { node: pool-2, for: 20s }",
    "removeNode: { node: pool-3 }",
    "addNode: {}",
    "fillDisk: { node: busiest, to: 95%, for: 30s }",
    "fillDisk: { node: pool-4, amount: 13GiB }",
];

/// What is drawn.
#[derive(Clone, Debug)]
struct Draw {
    seed: u64,
    version: &'static str,
    replicas: u64,
    surge: u64,
    unavailable: u64,
    min_ready_seconds: u64,
    is_autoscaled: bool,
    is_harmless: bool,
    /// The Deployment is paused, and goes on ten seconds later.
    pauses_at_ms: Option<u64>,
    /// Milliseconds, and which verb.
    timeline: Vec<(u64, usize)>,
}

fn draw() -> impl Strategy<Value = Draw> {
    let limits = (2..=REPLICAS_MAX, 0_u64..3, 0_u64..3, prop::sample::select(vec![0_u64, 5]));
    let timeline = prop::collection::vec((3_000_u64..90_000, 0_usize..1000), 1..9);
    let version = prop::sample::select(vec!["1.20", "1.28", "1.33"]);
    let pause = prop::option::weighted(0.3, 3_000_u64..80_000);
    let flags = (any::<bool>(), prop::bool::weighted(0.3), pause);
    (1_u64..1000, version, limits, flags, timeline).prop_map(
        |(seed, version, (replicas, surge, unavailable, min_ready_seconds), flags, mut timeline)| {
            let (is_autoscaled, is_harmless, pauses_at_ms) = flags;
            timeline.sort_unstable();
            // Both limits cannot be 0.
            let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
            let is_autoscaled = is_autoscaled && !is_harmless;
            Draw {
                seed,
                version,
                replicas,
                surge,
                unavailable,
                min_ready_seconds,
                is_autoscaled,
                is_harmless,
                pauses_at_ms,
                timeline,
            }
        },
    )
}

impl Draw {
    fn verb(&self, number: usize) -> &'static str {
        let others = if self.is_harmless { &[][..] } else { &OTHERS[..] };
        HARMLESS.iter().chain(others).nth(number % (HARMLESS.len() + others.len())).expect("a verb of the list")
    }

    /// None if it restarts what is paused: kubectl refuses that.
    fn run(&self) -> Option<Outcome> {
        let verbs = self.timeline.iter().map(|(at, number)| (*at, self.verb(*number)));
        let pauses = self.pauses_at_ms.into_iter().flat_map(|at| [(at, "pause: {}"), (at + 10_000, "resume: {}")]);
        let mut all: Vec<(u64, &str)> = verbs.chain(pauses).collect();
        all.sort_by_key(|(at, _)| *at);
        let entries: Vec<String> = all
            .iter()
            .enumerate()
            .map(|(index, (at, verb))| {
                let verb = verb.replace("INDEX", &format!("of-{index}"));
                format!("{{ at: {at}ms, {verb}, phase: p{index} }}")
            })
            .collect();
        let scenario = SCENARIO
            .replace("SEED", &self.seed.to_string())
            .replace("VERSION", self.version)
            .replace("TIMELINE", &entries.join(", "));
        // Before 1.23 there is no autoscaling/v2.
        let autoscaler = match self.version {
            "1.20" => AUTOSCALER.replace("autoscaling/v2", "autoscaling/v2beta2"),
            _ => AUTOSCALER.to_owned(),
        };
        let policy = if self.version == "1.20" { "policy/v1beta1" } else { "policy/v1" };
        let manifest = MANIFEST
            .replace("REPLICAS", &self.replicas.to_string())
            .replace("MIN_READY", &self.min_ready_seconds.to_string())
            .replace("SURGE", &self.surge.to_string())
            .replace("UNAVAILABLE", &self.unavailable.to_string())
            .replace("policy/v1", policy)
            .replace("AUTOSCALER", if self.is_autoscaled { &autoscaler } else { "---" });
        let scenario = match loaded(&scenario, &manifest, &[], None) {
            Ok(scenario) => scenario,
            Err(problems) => {
                let told = problems.to_string();
                assert!(told.contains("istio-system/istio-edge is paused then"), "{self:?}: {told}");
                return None;
            }
        };
        Some(run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance"))
    }
}

fn text<'a>(event: &'a Event, key: &str) -> &'a str {
    match event.data.iter().find(|(known, _)| *known == key) {
        Some((_, Datum::Text(text))) => text,
        _ => panic!("no {key} in {event:?}"),
    }
}

/// The most that the gateway's pods have asked of one node at one time, in thousandths of a core.
fn asked_max(outcome: &Outcome) -> u64 {
    let mut on: BTreeMap<&str, &str> = BTreeMap::new();
    let mut most = 0;
    for event in outcome.log.events().iter().filter(|event| event.object.contains("/istio-edge-")) {
        match event.kind {
            "pod_scheduled" => drop(on.insert(&event.object, text(event, "node"))),
            "pod_gone" => drop(on.remove(event.object.as_str())),
            _ => continue,
        }
        let mut asked: BTreeMap<&str, u64> = BTreeMap::new();
        for node in on.values() {
            *asked.entry(node).or_default() += POD_MILLICORES;
        }
        most = asked.into_values().fold(most, u64::max);
    }
    most
}

/// The longest time for which there were more gateway pods than that, those being deleted left out.
fn longest_above(outcome: &Outcome, limit: u64) -> Duration {
    let limit = usize::try_from(limit).expect("a small number");
    let (mut active, mut since, mut longest) = (BTreeSet::new(), None, Duration::ZERO);
    for event in outcome.log.events().iter().filter(|event| event.object.contains("/istio-edge-")) {
        match event.kind {
            "pod_created" => drop(active.insert(event.object.as_str())),
            "pod_terminating" | "pod_gone" => drop(active.remove(event.object.as_str())),
            _ => continue,
        }
        since = match since {
            None => (active.len() > limit).then_some(event.at),
            Some(begun) => {
                longest = longest.max(event.at.since(begun));
                (active.len() > limit).then_some(begun)
            }
        };
    }
    longest
}

/// Two sets are synced side by side, as the real controller's workers do: the new one's pod may be there some calls before the old one's is deleted.
const CROSSING: Duration = Duration::from_millis(100);

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_invariants_hold(draw in draw()) {
        let outcome = draw.run();
        prop_assume!(outcome.is_some());
        let outcome = outcome.expect("it was loaded");
        let results = &outcome.run.results;
        let totals = &results.totals;
        let answered = totals.ok + totals.backend_error + totals.dropped;
        prop_assert_eq!(totals.sent, answered);
        let caused: u64 = results.causes.iter().map(|cause| cause.count).sum();
        prop_assert_eq!(totals.dropped, caused, "every loss has one cause");
        prop_assert!(asked_max(&outcome) <= NODE_MILLICORES);
        let replicas = if draw.is_harmless { draw.replicas } else { REPLICAS_MAX };
        let above = longest_above(&outcome, replicas + draw.surge);
        prop_assert!(above <= CROSSING, "{above:?} above {replicas} and {}", draw.surge);
        for rollout in results.rollouts.iter().filter(|rollout| rollout.object.contains("istio-edge")) {
            if draw.is_harmless {
                let least = draw.replicas.saturating_sub(draw.unavailable);
                prop_assert!(u64::from(rollout.ready_min) >= least, "{rollout:?} of {}", draw.replicas);
            }
        }
        prop_assert!(results.autoscaler.iter().all(|step| (2..=6).contains(&step.desired)), "{:?}", results.autoscaler);
        // Whoever was evicted by its kubelet has had its reason.
        let reasons = ["The node was low on resource: ephemeral-storage", "the node was low on resource: memory"];
        for event in outcome.log.events().iter().filter(|event| event.kind == "evicted_by_kubelet") {
            prop_assert!(reasons.iter().any(|reason| text(event, "reason").starts_with(reason)));
        }
        let again = draw.run().expect("it was loaded before");
        prop_assert_eq!(&again.run.results.fingerprint, &results.fingerprint);
    }
}
