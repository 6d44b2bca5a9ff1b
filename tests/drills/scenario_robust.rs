//! Loading what nobody should have written: whatever stands in a scenario or a manifest, it is read or refused in words, never by a panic.
//!
//! And what was loaded can be written and loaded again: `scenario.resolved.yaml` is the same drill.

pub(crate) mod texts;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::scenarios::{Memory, loaded};
use gatedrill::gateway::Move;
use gatedrill::manifest::{Place, Problems};
use gatedrill::scenario::{Input, Library, NamedText, Scenario, load};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest};
use texts::{MANIFEST, SCENARIO};

/// Files as a run would find them.
struct Folder(PathBuf);

impl Library for Folder {
    fn read(&self, path: &str) -> Result<Vec<NamedText>, (String, String)> {
        let path = self.0.join(path);
        let mut files: Vec<PathBuf> = match path.is_dir() {
            true => fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()).collect(),
            false => vec![path],
        };
        files.sort();
        Ok(files
            .iter()
            .map(|file| (file.to_string_lossy().into_owned(), fs::read_to_string(file).expect("a text")))
            .collect())
    }
}

/// Loads and looks at every way in which problems are told.
fn is_told(found: Result<Scenario, Problems>) -> bool {
    let Err(problems) = found else { return true };
    let rendered = problems.render(false) + &problems.to_string();
    !problems.list.is_empty() && problems.list.iter().all(|problem| !problem.text.is_empty() && !rendered.is_empty())
}

#[test]
fn everything_in_one_file_loads() {
    for variant in [None, Some("drained")] {
        if let Err(problems) = loaded(SCENARIO, MANIFEST, &[], variant) {
            panic!("{problems}");
        }
    }
}

/// What is put in the place of a value, one a line.
const ODD: &str = r#"
null
~
{}
[]
[[]]
{a: {b: c}}
0
-1
1
3.5
99999999999999999999
2147483648
4294967296
1e9
true
on
""
"7"
"null"
NaN
.inf
25%
-25%
1000%
0s
1ns
300000h
9223372036s
1e300/s
µs
*
a.b
a/b/c
/
..
é
'\u{2028}'
|
!!str 5
&a x
*a
- x
? y
#
"\0"
@
%
default/web
web
Service
HTTP
UDP
"#;

fn odd_value() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(ODD.lines().collect::<Vec<_>>()).prop_map(str::to_owned),
        1 => prop::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter),
        1 => (0_usize..3000).prop_map(|length| "long".repeat(length)),
    ]
}

/// One change to a text.
#[derive(Clone, Debug)]
enum Change {
    /// The value after the nth colon becomes another.
    Value(usize, String),
    /// The nth line goes away.
    DropLine(usize),
    /// The nth line is moved in or out.
    Indent(usize, usize),
    /// Letters at a share of the text become others.
    Splice(usize, usize, String),
    /// The nth line stands twice.
    Twice(usize),
    /// The text ends here.
    Cut(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = || any::<usize>();
    prop_oneof![
        6 => (at(), odd_value()).prop_map(|(at, value)| Change::Value(at, value)),
        2 => at().prop_map(Change::DropLine),
        1 => (at(), 0_usize..8).prop_map(|(at, depth)| Change::Indent(at, depth)),
        2 => (at(), 0_usize..20, odd_value()).prop_map(|(at, count, value)| Change::Splice(at, count, value)),
        1 => at().prop_map(Change::Twice),
        1 => (at(), Just(())).prop_map(|(at, ())| Change::Cut(at)),
    ]
}

fn changed(text: &str, change: &Change) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let letters: Vec<char> = text.chars().collect();
    let line_at = |at: &usize| at % lines.len().max(1);
    match change {
        Change::Value(at, value) => {
            let ends: Vec<usize> = text.match_indices(": ").map(|(index, _)| index + 2).collect();
            let Some(start) = ends.get(at % ends.len().max(1)) else { return text.to_owned() };
            let length = text[*start..].find([',', '}', ']', '\n']).unwrap_or(text.len() - start);
            return format!("{}{value}{}", &text[..*start], &text[start + length..]);
        }
        Change::Splice(at, count, value) => {
            let start = at % letters.len().max(1);
            let after = (start + count).min(letters.len());
            let start = start.min(letters.len());
            return letters[..start]
                .iter()
                .chain(&value.chars().collect::<Vec<_>>())
                .chain(&letters[after..])
                .collect();
        }
        Change::Cut(at) => return letters[..at % letters.len().max(1)].iter().collect(),
        _ if lines.is_empty() => {}
        Change::DropLine(at) => {
            lines.remove(line_at(at));
        }
        Change::Indent(at, depth) => {
            let index = line_at(at);
            lines[index] = " ".repeat(*depth) + lines[index].trim_start();
        }
        Change::Twice(at) => {
            let index = line_at(at);
            lines.insert(index, lines[index].clone());
        }
    }
    lines.join("\n") + "\n"
}

/// Where values are set, one a line.
const PATHS: &str = r#"
seed
duration
load
load[0]
load.services
load.services.rate
load.services.mix[0].get
backends[0].deployment
cluster.nodes[0].count
cluster.timings.podStart
loadBalancer.healthCheck.interval
manifests
manifests[1].inline
timeline[0].at
timeline[1].set
timeline[3].apply
slo[0].expr
variants
target
target.spec
target.spec.replicas
target.spec.template
target.spec.template.spec.containers[0]
target.spec.template.metadata.labels
IstioGateway/edge.spec
IstioGateway/edge.metadata
IstioGateway/edge.spec.ports[0].targetPort
IstioGateway/edge.spec.env
Service/web.spec.ports
Service/default/api.spec
Service/api.metadata.name
Gateway/shop.spec.servers[0].hosts
VirtualService/shop.spec.http[0].route[0].destination
VirtualService/shop.spec.http[0].retries
Deployment/web.spec.strategy
Deployment/web.spec.template.spec
DestinationRule/api.spec
Nothing/here.spec
a..b
[
["x
"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_broken_scenario_is_refused_in_words(
        of_scenario in prop::collection::vec(change(), 0..3),
        of_manifest in prop::collection::vec(change(), 0..3),
        is_varied in any::<bool>(),
    ) {
        let text = of_scenario.iter().fold(SCENARIO.to_owned(), |text, change| changed(&text, change));
        let manifest = of_manifest.iter().fold(MANIFEST.to_owned(), |text, change| changed(&text, change));
        prop_assert!(is_told(loaded(&text, &manifest, &[], is_varied.then_some("drained"))));
    }

    #[test]
    fn an_odd_setting_is_refused_in_words(
        path in prop::sample::select(PATHS.lines().collect::<Vec<_>>()),
        value in odd_value(),
    ) {
        let set = format!("{path}={value}");
        prop_assert!(is_told(loaded(SCENARIO, MANIFEST, &[set], None)));
    }
}

#[test]
fn texts_that_grow_or_nest_without_end_are_refused_soon() {
    let nested = ["[".repeat(200_000), "{a: ".repeat(200_000), "- ".repeat(200_000)];
    let many_keys = (0..50_000).map(|index| format!("key{index}: 1\n")).collect::<String>();
    for text in nested.iter().chain([&many_keys]) {
        assert!(is_told(loaded(text, MANIFEST, &[], None)));
        assert!(is_told(loaded(SCENARIO, text, &[], None)));
        assert!(is_told(loaded(SCENARIO, MANIFEST, &[format!("load={text}")], None)));
    }
    let steps = format!("load{}=1", ".a".repeat(200_000));
    assert!(is_told(loaded(SCENARIO, MANIFEST, &[steps], None)));
}

/// The world as text, without what says where it was written.
fn world_of(scenario: &Scenario) -> String {
    let mut world = scenario.world.clone();
    world.members[0].sources.clear();
    world.fidelity.clear();
    world.actions.iter_mut().for_each(|action| action.place = None);
    world.scenario.input_hash.clear();
    world.scenario.variant = None;
    format!("{world:#?}")
}

fn assert_resolved_is_the_same(scenario: &Scenario, name: &str) {
    let library = Memory(BTreeMap::new());
    // Edits of a Deployment that an IstioGateway makes stand under a variant, as the head of the file says.
    let variant = scenario.resolved.contains("--variant as-run").then_some("as-run");
    let input = Input {
        name: "scenario.resolved.yaml",
        text: &scenario.resolved,
        library: &library,
        set: &[],
        variant,
        seed: None,
    };
    let again = load(&input).unwrap_or_else(|problems| panic!("{name}: {problems}\n{}", scenario.resolved));
    let (before, after) = (world_of(scenario), world_of(&again));
    if let Some((a, b)) = before.lines().zip(after.lines()).find(|(a, b)| a != b) {
        panic!("{name}: {a} became {b}");
    }
    assert_eq!(before.len(), after.len(), "{name}");
    // SLOs are not part of the world.
    let slos = |scenario: &Scenario| format!("{:?}", scenario.settings.slos);
    assert_eq!(slos(scenario), slos(&again), "{name}");
}

#[test]
fn what_was_resolved_is_the_same_drill() {
    for variant in [None, Some("drained")] {
        let scenario = loaded(SCENARIO, MANIFEST, &[], variant).unwrap_or_else(|problems| panic!("{problems}"));
        assert_resolved_is_the_same(&scenario, "robust");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let Ok(text) = fs::read_to_string(folder.join(format!("{name}.drill.yaml"))) else { continue };
        let library = Folder(folder.clone());
        let input = |variant| Input { name: &name, text: &text, library: &library, set: &[], variant, seed: None };
        let scenario = load(&input(None)).unwrap_or_else(|problems| panic!("{problems}"));
        for variant in std::iter::once(None).chain(scenario.variants.iter().map(|name| Some(name.as_str()))) {
            let scenario = load(&input(variant)).unwrap_or_else(|problems| panic!("{problems}"));
            assert_resolved_is_the_same(&scenario, &format!("{name} {variant:?}"));
        }
    }
}

#[test]
fn a_seed_that_no_file_can_hold_is_refused() {
    let library = Memory::of(MANIFEST);
    let input = Input { name: "x", text: SCENARIO, library: &library, set: &[], variant: None, seed: Some(u64::MAX) };
    assert!(is_told(load(&input)));
}

#[test]
fn problems_stand_where_letters_of_several_bytes_stand() {
    let text = SCENARIO.replace("rate: [", "raté: [");
    let problems = loaded(&text, MANIFEST, &[], None).unwrap_err();
    assert!(problems.list.iter().any(|problem| problem.place != Place::NOWHERE));
    assert!(is_told(Err(problems)));
}

/// Loads with one piece of the manifest replaced, and tells what is wrong, one problem a line.
fn told(of_manifest: &[(&str, &str)], of_scenario: &[(&str, &str)]) -> String {
    let replace = |text: &str, pairs: &[(&str, &str)]| {
        pairs.iter().fold(text.to_owned(), |text, (before, after)| {
            assert!(text.contains(before), "{before}");
            text.replacen(before, after, 1)
        })
    };
    let found = loaded(&replace(SCENARIO, of_scenario), &replace(MANIFEST, of_manifest), &[], None);
    found.err().map(|problems| problems.to_string()).unwrap_or_default()
}

#[test]
fn what_the_api_server_or_istio_would_refuse_is_refused_once_and_in_its_place() {
    for (before, after, expected) in [
        ("httpGet: { path: /ready, port: http }, ", "", "readinessProbe: a probe asks in one way, and here are 0"),
        (
            "httpGet: { path: /ready, port: http }",
            "httpGet: { path: / }",
            "readinessProbe.httpGet.port: this is missing",
        ),
        ("initialDelaySeconds: 5", "successThreshold: 2", "livenessProbe.successThreshold: only a readiness probe"),
        (
            "sleep: { seconds: 3 }",
            "sleep: { seconds: 21 }",
            "sleep.seconds: 21 s are longer than the grace period of 20 s",
        ),
        ("sleep: { seconds: 3 }", "sleep: { seconds: 3 }, exec: { command: [a] }", "preStop: a hook does one thing"),
        ("maxUnavailable: 1 }", "maxUnavailable: 101% }", "more than 100% cannot be unavailable"),
        ("image: \"web:1\"", "command: []", "containers[0].image: this is missing"),
        ("terminationGracePeriodSeconds: 20", "restartPolicy: Never", "restartPolicy: `Never` is not known here"),
        (
            "minReadySeconds: 1",
            "minReadySeconds: 600",
            "progressDeadlineSeconds, 600, is not above minReadySeconds, 600",
        ),
        ("replicas: 2\n", "replicas: 2000000000\n", "spec.replicas: 2000000000 is out of range (write 0 to 150000)"),
        ("attempts: 1, ", "", "http[0].retries: a policy without attempts retries nothing"),
        ("attempts: 1, ", "attempts: -1, ", "retries.attempts: -1 is out of range"),
        ("weight: 90", "weight: 0", ""),
        ("host: web }", "host: web.default }", "host: Istio takes `web.default` for a whole name"),
        (
            "protocol: HTTP }",
            "protocol: HTP }",
            "servers[0].port.protocol: invalid protocol `HTP` (did you mean `HTTP`?)",
        ),
        (
            "selector: { istio: edge }",
            "selector: { istio: other }",
            "spec.selector: the selector matches no pod of the target",
        ),
        (
            "serviceType: LoadBalancer",
            "serviceType: ClusterIP",
            "spec.loadBalancerClass: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            "alicloud-loadbalancer-health-check-flag: \"on\"",
            "alicloud-loadbalancer-scheduler: fastest",
            "spec.serviceAnnotations[service.beta.kubernetes.io/alicloud-loadbalancer-scheduler]: the API rejects `fastest`",
        ),
        (
            "cpu: { targetAverageUtilization: 80 }",
            "cpu: { targetAverageUtilisation: 80 }",
            "(did you mean `targetAverageUtilization`?)",
        ),
        ("net.core.somaxconn: \"65535\"", "net.core.somaxcon: \"65535\"", "(did you mean `net.core.somaxconn`?)"),
        ("secretName: certs, ", "secret: certs, ", "secretVolumes[0].secret: `secret` is not a field here"),
        ("replicaCount: 4", "replicaCount: 0", "spec.replicaCount: the gateway begins without pods"),
        ("\"concurrency: 2\"", "\"drainDuration: 2\"", "proxy.istio.io/config].drainDuration: `2` has no unit"),
        ("apiVersion: apps/v1\n", "apiVersion: v1\n", "apiVersion: `v1` has no Deployment (write apps/v1)"),
        (
            "metadata: { name: api }\n    spec: { selector",
            "metadata: { name: A/b }\n    spec: { selector",
            "metadata.name: `A/b` is not a name",
        ),
    ] {
        let told = told(&[(before, after)], &[]);
        if expected.is_empty() {
            assert_eq!(told, "", "{after}");
        } else {
            assert!(told.contains(expected), "{after}: {told}");
            assert_eq!(told.lines().filter(|line| line.contains(expected)).count(), 1, "{told}");
        }
    }
}

#[test]
fn what_follows_from_a_problem_is_not_told_too() {
    // Without its IstioGateway the target is missing, which is no news.
    let told = told(&[("replicaCount: 4", "replicaCount: four")], &[]);
    assert_eq!(told.lines().count(), 1, "{told}");
    for (before, after, expected) in [
        ("path: manifests/", "path: elsewhere/", "`elsewhere/` does not exist"),
        (", get: ", ", gett: ", "did you mean `get`?"),
        ("at: 90/m", "at: 90", "`90` has no unit"),
        ("rate: [", "rate: 0\n      other: [", "a rate of 0 asks for nothing"),
        ("restart: {}", "configPush: { to: all }", "`to` is not a field here"),
    ] {
        let told = self::told(&[], &[(before, after)]);
        let lines: Vec<&str> = told.lines().filter(|line| !line.contains("`other` is not a field")).collect();
        assert!(lines.len() == 1 && lines[0].contains(expected), "{told}");
    }
}

#[test]
fn destinations_need_a_share() {
    let told = told(&[("weight: 90", "weight: 0"), ("weight: 10 }", "weight: 0 }")], &[]);
    assert!(told.contains("http[0].route: the weights of several destinations are all 0"), "{told}");
}

#[test]
fn what_they_take_is_taken() {
    for (before, after) in [
        ("topologyKey: kubernetes.io/hostname", "topologyKey: example.com/rack"),
        ("memory: 4G }", "memory: 4G, aliyun.com/gpu: 1 }"),
        ("protocol: TCP } ]", "protocol: TCP }, { name: h3, port: 80, protocol: UDP } ]"),
        (
            "EXIT_ON_ZERO_ACTIVE_CONNECTIONS, value: \"true\"",
            "POD_IP, valueFrom: { fieldRef: { fieldPath: status.podIP } }",
        ),
        (
            "---\napiVersion: v1\n",
            "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: { name: other }\nspec: { selector: { a: b }, servers: [ { port: { number: 80, name: http, protocol: HTTP }, hosts: [\"*\"] } ] }\n---\napiVersion: v1\n",
        ),
        (
            "---\napiVersion: v1\n",
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: mesh }\nspec: { hosts: [x], http: [ { route: [ { destination: { host: nowhere } } ] } ] }\n---\napiVersion: v1\n",
        ),
        (
            "---\napiVersion: v1\n",
            "---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: { name: x }\n---\napiVersion: v1\n",
        ),
    ] {
        assert_eq!(told(&[(before, after)], &[]), "", "{after}");
    }
}

#[test]
fn exported_objects_have_nothing_to_confess() {
    // What the API server writes by itself is no setting.
    let service = "clusterIP: 10.0.0.1, sessionAffinity: None, internalTrafficPolicy: Cluster, ipFamilies: [IPv4]";
    let pod = "schedulerName: default-scheduler\n          dnsPolicy: ClusterFirst\n          restartPolicy: Always\n          priority: 0";
    let manifest = MANIFEST.replace("clusterIP: None", service).replace("terminationGracePeriodSeconds: 20", pod);
    let scenario = loaded(SCENARIO, &manifest, &[], None).unwrap_or_else(|problems| panic!("{problems}"));
    let rows = scenario.world.fidelity.iter();
    let ignored: Vec<&str> = rows
        .filter(|row| row.path.contains("/api") || row.path.contains("Deployment"))
        .map(|row| row.path.as_str())
        .collect();
    for key in
        ["sessionAffinity", "internalTrafficPolicy", "schedulerName", "priority", "healthCheckNodePort", "allocate"]
    {
        assert!(!ignored.iter().any(|path| path.ends_with(key)), "{ignored:?}");
    }
}

#[test]
fn a_named_target_port_is_where_the_gateway_listens() {
    let manifest = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: gw }
spec:
  selector: { matchLabels: { app: gw } }
  template:
    metadata: { labels: { app: gw } }
    spec: { containers: [ { name: istio-proxy, image: auto, ports: [ { name: web, containerPort: 8081 } ] } ] }
---
apiVersion: v1
kind: Service
metadata: { name: gw }
spec: { type: LoadBalancer, selector: { app: gw }, ports: [ { port: 80, targetPort: web } ] }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gw }
spec: { selector: { app: gw }, servers: [ { port: { number: 80, name: http, protocol: HTTP }, hosts: [\"*\"] } ] }
";
    let text = "{ apiVersion: gatedrill/v1, kind: Scenario, metadata: { name: x }, spec: { duration: 1m, manifests: [ { path: manifests/ } ], loadBalancer: { healthCheck: { interval: 500ms, timeout: 1500ms } }, load: [ { name: a, rate: 1/s, mix: [ { get: http://x/ } ] } ] } }";
    let scenario = loaded(text, manifest, &[], None).unwrap_or_else(|problems| panic!("{problems}"));
    let gateway = scenario.world.members[0].target_spec();
    assert_eq!(gateway.config.listeners, [(8081, 80)]);
    assert_eq!(scenario.world.members[0].front.ports[&80], 8081);
    // A check that no annotation sets is as the scenario says, to the millisecond.
    let check = scenario.world.members[0].front.balancer.as_ref().unwrap().balancer.health_check.unwrap();
    assert_eq!((check.interval.as_millis(), check.timeout.as_millis()), (500, 1500));
    // What neither says is the product's: a CLB's three, where an NLB would have two.
    assert_eq!((check.healthy_threshold, check.unhealthy_threshold), (3, 3));
}

#[test]
fn the_process_follows_its_proxy_config() {
    for (config, drain, expected) in [
        ("concurrency: 3", "drained", "terminationDrainDuration: 30s"),
        ("proxyMetadata: { MINIMUM_DRAIN_DURATION: 7s }", "", "proxyMetadata"),
    ] {
        let manifest = MANIFEST.replace("\"concurrency: 2\"", &format!("\"{config}\""));
        let scenario = loaded(SCENARIO, &manifest, &[], (!drain.is_empty()).then_some(drain)).unwrap();
        let world = format!("{:?}", scenario.world);
        assert!(world.contains(expected), "{world}");
        let gateway = scenario.world.members[0].target_spec();
        if drain.is_empty() {
            assert!(gateway.agent.shutdown.contains(&Move::Wait(Duration::from_secs(7))), "{:?}", gateway.agent);
        } else {
            assert_eq!(gateway.workers, 3);
        }
    }
}

#[test]
fn what_is_applied_later_wins_over_earlier_edits_of_the_same_fields() {
    // The Deployment web is scaled to 3 at 50 s, restarted, and applied with 5 replicas at 1 m.
    let scenario = told_world(&[("- at: 1m\n", "- { at: 55s, restart: {}, of: default/web }\n    - at: 1m\n")]);
    let applied: Vec<String> =
        scenario.world.actions.iter().filter_map(|action| Some(format!("{:?}", action.verb.as_ref()?))).collect();
    let [.., scaled, restarted, last] = &applied[..] else { panic!("{applied:?}") };
    assert!(scaled.contains("replicas: 3"), "{scaled}");
    assert!(restarted.contains("replicas: 3") && restarted.contains("restartedAt"), "{restarted}");
    assert!(last.contains("replicas: 5") && last.contains("restartedAt") && last.contains("web:2"), "{last}");
}

fn told_world(of_scenario: &[(&str, &str)]) -> Scenario {
    let text = of_scenario.iter().fold(SCENARIO.to_owned(), |text, (before, after)| text.replacen(before, after, 1));
    loaded(&text, MANIFEST, &[], None).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn settings_that_could_not_be_simulated_are_refused() {
    for (before, after, expected) in [
        ("at: 90/m", "at: 1e300/s", "this is more than a drill can ask"),
        (
            "labels: { disk: ssd }, taints: [ { key: soft, effect: PreferNoSchedule } ] }",
            "labels: {} }\n      - { name: pool-a }",
            "two groups of nodes are called `pool-a`",
        ),
    ] {
        let told = told(&[], &[(before, after)]);
        assert!(told.contains(expected), "{after}: {told}");
    }
}
