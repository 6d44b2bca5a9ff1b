//! Autoscalers on a cluster whose pods use what they are told to.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;

use super::*;
use crate::cluster::autoscaler::{Behavior, ResourceName, ScalingRules};
use crate::cluster::deployment::Strategy;
use crate::cluster::int_or_percent::IntOrPercent;
use crate::cluster::metrics::{Curve, Stretch, Usage};
use crate::cluster::objects::{Node, ProbeAction, Resources};
use crate::cluster::selector::{LabelOperator, LabelRequirement, LabelSelector, Labels};
use crate::cluster::{ClientRates, ClusterConfig, Deployment, Identity, LocalFuture, Process, Runtime, StartingPod};
use crate::engine::{Delay, EventLog, Signal, Sim, Streams};

const EDGE: &str = "ns/edge";
const HPA: &str = "ns/hpa";

/// Pods that spend so many thousandths of a core from their start on.
struct Busy {
    sim: Sim,
    milli: Option<Cell<u64>>,
    started: RefCell<BTreeMap<Ipv4Addr, SimTime>>,
}

struct Endless(Signal);

impl Process for Endless {
    fn terminate(&self, _: EventId) {
        self.0.raise();
    }

    fn kill(&self, _: EventId) {
        self.0.raise();
    }

    fn exited(&self) -> LocalFuture<()> {
        Box::pin(self.0.raised())
    }
}

impl Runtime for Busy {
    fn start(&self, pod: &StartingPod) -> Rc<dyn Process> {
        self.started.borrow_mut().insert(pod.ip, self.sim.now());
        Rc::new(Endless(Signal::default()))
    }

    fn probe(&self, _: Ipv4Addr, _: &ProbeAction) -> LocalFuture<bool> {
        Box::pin(std::future::ready(true))
    }

    fn usage(&self, ip: Ipv4Addr) -> Option<Usage> {
        let milli = self.milli.as_ref()?.get();
        let age = self.sim.now().since(self.started.borrow()[&ip]);
        let cpu = age * u32::try_from(milli).expect("a small number") / 1000;
        Some(Usage {
            cpu: Some(cpu),
            memory_bytes: Some(1 << 20),
            requests: Some(u64::try_from(age.as_millis() / 100).unwrap_or(u64::MAX)),
        })
    }

    fn released(&self, _: Ipv4Addr) {}
}

struct World {
    sim: Sim,
    log: Rc<RefCell<EventLog>>,
    cluster: Cluster,
    busy: Rc<Busy>,
}

fn world(replicas: i32, milli: Option<u64>, stands_at_zero: bool) -> World {
    let sim = Sim::new();
    let log = Rc::new(RefCell::new(EventLog::default()));
    let busy = Rc::new(Busy { sim: sim.clone(), milli: milli.map(Cell::new), started: RefCell::default() });
    let room = Resources { cpu_millicores: 64_000, memory_bytes: 64 << 30 };
    let node = Node::new(Rc::from("node"), Ipv4Addr::new(192, 168, 0, 1), Rc::from("a"), room);
    let config = ClusterConfig {
        identity: Identity::ALONE,
        version: Version::new(1, 33),
        wall_phase: Some(Duration::ZERO),
        autoscaler: None,
        bad_images: BTreeSet::new(),
        image_sizes: BTreeMap::new(),
        preloaded_images: BTreeSet::new(),
        terminated_pods_max: crate::cluster::pod_collection::THRESHOLD,
        nodes: vec![node],
        hop: Delay::Constant(Duration::from_millis(10)),
        schedule: Delay::ZERO,
        pod_start: Delay::Constant(Duration::from_secs(4)),
        image_pull: Delay::ZERO,
        endpoint_propagation: Delay::ZERO,
        init_container: Delay::ZERO,
        sandbox_removal: Delay::ZERO,
        client_rates: ClientRates::DEFAULT,
        stands_at_zero,
    };
    let cluster = Cluster::new(&sim, Streams::new(1), Rc::clone(&log), config, Rc::clone(&busy) as Rc<dyn Runtime>);
    cluster.apply_deployment(deployment(replicas), None);
    World { sim, log, cluster, busy }
}

fn deployment(replicas: i32) -> Deployment {
    let limit = IntOrPercent::Percent(25);
    Deployment {
        key: Rc::from(EDGE),
        replicas,
        is_paused: false,
        strategy: Strategy::RollingUpdate { max_surge: limit, max_unavailable: limit },
        min_ready_seconds: 0,
        progress_deadline_seconds: None,
        revision_history_limit: 10,
        template: PodTemplate::plain(
            BTreeMap::new(),
            "proxy:1",
            Resources { cpu_millicores: 100, memory_bytes: 2 << 20 },
        ),
    }
}

fn spec(least: i32, most: i32, metrics: Vec<Metric>) -> AutoscalerSpec {
    AutoscalerSpec {
        key: Rc::from(HPA),
        target: Rc::from(EDGE),
        min_replicas: least,
        max_replicas: most,
        metrics,
        behavior: None,
    }
}

fn cpu(percent: i32) -> Metric {
    Metric::Resource { resource: ResourceName::Cpu, container: None, target: ResourceTarget::Utilization(percent) }
}

impl World {
    fn run(&self, seconds: u64) {
        self.sim.run_until(SimTime::ZERO.after(Duration::from_secs(seconds))).expect("the world moves");
    }

    /// Seconds, size before and after, of each sync.
    fn syncs(&self) -> Vec<(u64, i32, i32)> {
        let steps = self.cluster.autoscaler_steps();
        steps.iter().map(|step| (step.at.as_nanos() / 1_000_000_000, step.current, step.desired)).collect()
    }

    fn reason(&self, kind: ConditionKind) -> &'static str {
        self.cluster.autoscaler(HPA).expect("the autoscaler is there").status.conditions[&kind].reason
    }
}

#[test]
fn the_first_sync_of_a_new_autoscaler_comes_after_a_period() {
    let world = world(2, Some(160), false);
    world.run(40);
    world.cluster.apply_autoscaler(spec(1, 10, vec![cpu(80)]), None);
    world.run(54);
    assert_eq!(world.syncs(), []);
    world.run(100);
    // At 55 s the kubelets have been read at 40 s and 50 s, and scraped once or twice since.
    let syncs = world.syncs();
    assert_eq!(syncs.iter().map(|sync| sync.0).collect::<Vec<_>>(), [55, 70, 85]);
    assert_eq!(syncs.last().map(|sync| sync.2 >= 4), Some(true), "{syncs:?}");
}

#[test]
fn a_busy_target_grows_to_its_most_and_no_further() {
    let world = world(2, Some(200), true);
    world.cluster.apply_autoscaler(spec(1, 6, vec![cpu(80)]), None);
    world.run(120);
    let sizes: Vec<i32> = world.syncs().iter().map(|sync| sync.2).collect();
    assert_eq!(sizes.iter().max(), Some(&6));
    assert!(sizes.is_sorted(), "{sizes:?}");
    assert_eq!(world.cluster.counts(EDGE).ready, 6);
    assert_eq!(world.cluster.deployment(EDGE).map(|it| it.replicas), Some(6));
    assert_eq!(world.cluster.autoscaled_size(EDGE), Some(6));
    assert_eq!(world.reason(ConditionKind::ScalingLimited), "TooManyReplicas");
    let log = world.log.borrow();
    let scaled: Vec<_> = log.events().iter().filter(|event| event.kind == "hpa_scaled").collect();
    assert!(!scaled.is_empty());
    for event in scaled {
        let because = event.because.expect("a change has a cause");
        let cause = log.events().iter().find(|other| other.id == because).expect("the cause is in the log");
        assert_eq!(cause.kind, "hpa_evaluated");
    }
}

#[test]
fn a_size_out_of_bounds_is_corrected_without_a_look_at_metrics() {
    let world = world(9, None, true);
    world.cluster.apply_autoscaler(spec(2, 4, vec![cpu(80)]), None);
    world.run(42);
    assert_eq!(world.syncs().first().map(|sync| (sync.1, sync.2)), Some((9, 4)));
    assert_eq!(world.cluster.autoscaler_steps()[0].metrics, [(cpu(80), None)]);
}

#[test]
fn a_use_that_is_not_modelled_is_a_missing_metric() {
    let world = world(3, None, true);
    world.cluster.apply_autoscaler(spec(1, 9, vec![cpu(80)]), None);
    world.run(60);
    assert_eq!(world.reason(ConditionKind::ScalingActive), "FailedGetResourceMetric");
    assert_eq!(world.cluster.deployment(EDGE).map(|it| it.replicas), Some(3));
}

#[test]
fn an_idle_target_shrinks_when_its_window_is_over() {
    for (window, shrinks_by) in [(None, 370), (Some(60), 130)] {
        let world = world(5, Some(5), true);
        let behavior = window.map(|seconds| Behavior {
            up: ScalingRules::default_up(),
            down: ScalingRules { stabilization_seconds: Some(seconds), ..ScalingRules::default_down() },
        });
        world.cluster.apply_autoscaler(AutoscalerSpec { behavior, ..spec(2, 9, vec![cpu(80)]) }, None);
        let hold = u64::from(window.unwrap_or(300));
        world.run(hold);
        assert_eq!(world.cluster.deployment(EDGE).map(|it| it.replicas), Some(5), "{window:?}");
        world.run(shrinks_by);
        assert_eq!(world.cluster.deployment(EDGE).map(|it| it.replicas), Some(2), "{window:?}");
    }
}

#[test]
fn two_autoscalers_of_one_target_do_nothing() {
    let world = world(2, Some(200), true);
    world.cluster.apply_autoscaler(spec(1, 6, vec![cpu(80)]), None);
    world.cluster.apply_autoscaler(AutoscalerSpec { key: Rc::from("ns/other"), ..spec(1, 9, vec![cpu(10)]) }, None);
    world.run(60);
    assert_eq!(world.reason(ConditionKind::ScalingActive), "AmbiguousSelector");
    world.cluster.delete_autoscaler("ns/other");
    world.run(150);
    assert_eq!(world.cluster.deployment(EDGE).map(|it| it.replicas), Some(6));
}

#[test]
fn metrics_have_values_by_their_names() {
    let world = world(2, Some(0), true);
    let value = |milli| Curve {
        begins_at: SimTime::ZERO,
        stretches: vec![Stretch { length: Duration::from_secs(1), from_milli: milli, to_milli: milli }],
    };
    let named = |name: &str, of| NamedMetric { name: Rc::from(name), labels: Labels::new(), of };
    let labels = |queue: &str| Labels::from([("queue".to_owned(), queue.to_owned())]);
    let queue = |of: &str, milli| NamedMetric {
        name: Rc::from("length"),
        labels: labels(of),
        of: MetricOf::External(value(milli)),
    };
    world.cluster.set_autoscaling(AutoscalingConfig {
        named: vec![
            named("rps", MetricOf::Requests),
            named("depth", MetricOf::Pods(value(3000))),
            named("hits", MetricOf::Object(Rc::from("Ingress/main"), value(12_000))),
            named("lag", MetricOf::External(value(7500))),
            queue("orders", 2000),
            queue("bills", 3000),
            queue("mail", 40_000),
        ],
        ..AutoscalingConfig::of(Version::new(1, 33))
    });
    let length = |queues: &[&str]| MetricId {
        name: Rc::from("length"),
        selector: LabelSelector {
            match_expressions: vec![LabelRequirement {
                key: "queue".to_owned(),
                operator: LabelOperator::In,
                values: queues.iter().map(|queue| (*queue).to_owned()).collect(),
            }],
            ..LabelSelector::default()
        },
    };
    let metrics = vec![
        Metric::Pods { metric: "rps".into(), average_milli: 10_000 },
        Metric::Pods { metric: "depth".into(), average_milli: 3000 },
        Metric::Object {
            metric: "hits".into(),
            object: Rc::from("Ingress/main"),
            target: ValueTarget::AverageMilli(6000),
        },
        Metric::External { metric: "lag".into(), target: ValueTarget::ValueMilli(5000) },
        Metric::External { metric: "none".into(), target: ValueTarget::ValueMilli(5000) },
        // All series of a metric that its selector means, added up; and one that means none.
        Metric::External { metric: length(&["orders", "bills"]), target: ValueTarget::ValueMilli(5000) },
        Metric::External { metric: length(&["letters"]), target: ValueTarget::ValueMilli(5000) },
    ];
    world.cluster.apply_autoscaler(spec(1, 9, metrics), None);
    world.run(60);
    let steps = world.cluster.autoscaler_steps();
    let texts: Vec<String> = steps[0].metrics.iter().map(|(metric, reading)| reading_text(metric, *reading)).collect();
    assert_eq!(
        texts[1..],
        ["depth 3/3 (avg)", "hits 6/6 (avg)", "lag 7500m/5", "none <unknown>/5", "length 5/5", "length <unknown>/5"]
    );
    // 7.5 of 5 by two ready pods: 3.
    assert_eq!(steps[0].desired, 3);
    let of_requests = steps.iter().find_map(|step| step.metrics[0].1);
    assert!(
        matches!(of_requests, Some(Reading::Average(9500..=10_500))),
        "ten requests per second, counted whole: {of_requests:?}"
    );
    assert!(world.busy.started.borrow().len() >= 3);
}
