//! Whole rollouts on a cluster whose processes do as they are told.

mod bare_pods;
mod calls;
mod daemon_sets;
mod deletions;
mod disk;
mod indexes;
mod nodes;
mod recreate;
mod shutdown;
mod waiting;

use super::*;
use crate::cluster::deployment::Strategy;
use crate::cluster::int_or_percent::IntOrPercent;
use crate::cluster::kubelet::disk::DiskUse;
use crate::cluster::kubelet::probe::ProbeSpec;
use crate::cluster::objects::{Probe, ProbeAction, Probes, Resources, Service, ServiceFace};
use crate::cluster::{ClientRates, ContainerRequest, LocalFuture, Process, PullPolicy, StartingPod};
use crate::engine::Signal;
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
use std::cell::Cell;

/// Processes that become ready a while after their start, and exit a while after SIGTERM.
struct Fake {
    sim: Sim,
    ready_after: Duration,
    exits_after: Duration,
    /// The process exits by itself after this time.
    crashes_after: Option<Duration>,
    started: RefCell<BTreeMap<Ipv4Addr, SimTime>>,
    released: RefCell<Vec<(u64, Ipv4Addr)>>,
    /// What each process takes of its node's disk; 0: that is not known.
    disk_bytes: Cell<u64>,
}

struct FakeProcess {
    sim: Sim,
    exits_after: Duration,
    ended: Signal,
    signals: Cell<u32>,
}

impl Runtime for Fake {
    fn start(&self, pod: &StartingPod) -> Rc<dyn Process> {
        self.started.borrow_mut().insert(pod.ip, self.sim.now());
        let ended = Signal::default();
        if let Some(crash) = self.crashes_after {
            let (sim, ended) = (self.sim.clone(), ended.clone());
            self.sim.spawn("crash", async move {
                sim.sleep(crash).await;
                ended.raise();
            });
        }
        let (sim, exits_after) = (self.sim.clone(), self.exits_after);
        Rc::new(FakeProcess { sim, exits_after, ended, signals: Cell::new(0) })
    }

    fn probe(&self, ip: Ipv4Addr, _: &ProbeAction) -> LocalFuture<bool> {
        let passes = self.started.borrow()[&ip].after(self.ready_after) <= self.sim.now();
        Box::pin(std::future::ready(passes))
    }

    fn disk_use(&self, _: Ipv4Addr) -> Option<DiskUse> {
        let layer_bytes = self.disk_bytes.get();
        (layer_bytes > 0).then_some(DiskUse { layer_bytes, ..DiskUse::default() })
    }

    fn released(&self, ip: Ipv4Addr) {
        self.released.borrow_mut().push((self.sim.now().as_nanos() / 1_000_000, ip));
    }
}

impl Process for FakeProcess {
    fn terminate(&self, _: EventId) {
        self.signals.set(self.signals.get() + 1);
        let (sim, ended, after) = (self.sim.clone(), self.ended.clone(), self.exits_after);
        self.sim.spawn("exit", async move {
            sim.sleep(after).await;
            ended.raise();
        });
    }

    fn kill(&self, _: EventId) {
        self.ended.raise();
    }

    fn exited(&self) -> LocalFuture<()> {
        Box::pin(self.ended.raised())
    }
}

struct World {
    sim: Sim,
    log: Rc<RefCell<EventLog>>,
    cluster: Cluster,
    runtime: Rc<Fake>,
}

const EDGE: &str = "ns/edge";

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    let strategy = Strategy::RollingUpdate {
        max_surge: IntOrPercent::Int(surge),
        max_unavailable: IntOrPercent::Int(unavailable),
    };
    let readiness = Probe {
        action: ProbeAction::Tcp { port: 80 },
        spec: ProbeSpec { period_seconds: 1, failure_threshold: 1, ..ProbeSpec::default() },
    };
    let template = PodTemplate {
        probes: Probes { readiness: Some(readiness), ..Probes::default() },
        ..PodTemplate::plain(
            BTreeMap::from([("app".to_owned(), "edge".to_owned())]),
            "proxy:1",
            Resources { cpu_millicores: 500, memory_bytes: 1 << 20 },
        )
    };
    Deployment {
        key: Rc::from(EDGE),
        replicas,
        strategy,
        is_paused: false,
        min_ready_seconds: 0,
        progress_deadline_seconds: Some(600),
        revision_history_limit: 10,
        template,
    }
}

fn world(seed: u64, nodes: usize, ready_after: Duration, exits_after: Duration) -> World {
    world_with(seed, config(nodes), ready_after, exits_after, None)
}

/// A cluster of `count` nodes in three zones.
fn config(count: usize) -> ClusterConfig {
    let node = |index: usize| {
        Node::new(
            Rc::from(format!("node-{index}")),
            Ipv4Addr::new(192, 168, u8::try_from(index / 256).unwrap(), u8::try_from(index % 256).unwrap()),
            Rc::from(["a", "b", "c"][index % 3]),
            Resources { cpu_millicores: 4000, memory_bytes: 8 << 30 },
        )
    };
    ClusterConfig {
        identity: Identity::ALONE,
        version: Version::new(1, 33),
        wall_phase: Some(Duration::ZERO),
        nodes: (0..count).map(node).collect(),
        hop: Delay::Constant(Duration::from_millis(10)),
        schedule: Delay::Constant(Duration::from_millis(10)),
        pod_start: Delay::Uniform { min: seconds(1), max: seconds(4) },
        image_pull: Delay::ZERO,
        bad_images: BTreeSet::new(),
        image_sizes: BTreeMap::new(),
        preloaded_images: BTreeSet::new(),
        terminated_pods_max: crate::cluster::pod_collection::THRESHOLD,
        endpoint_propagation: Delay::Constant(Duration::from_millis(300)),
        init_container: Delay::ZERO,
        sandbox_removal: Delay::Constant(seconds(2)),
        autoscaler: None,
        client_rates: ClientRates::DEFAULT,
        stands_at_zero: false,
    }
}

fn world_with(
    seed: u64,
    config: ClusterConfig,
    ready_after: Duration,
    exits_after: Duration,
    crashes_after: Option<Duration>,
) -> World {
    let sim = Sim::new();
    let log = Rc::new(RefCell::new(EventLog::default()));
    let runtime = Rc::new(Fake {
        sim: sim.clone(),
        ready_after,
        exits_after,
        crashes_after,
        started: RefCell::default(),
        released: RefCell::default(),
        disk_bytes: Cell::default(),
    });
    let kept: Rc<dyn Runtime> = Rc::<Fake>::clone(&runtime);
    let cluster = Cluster::new(&sim, Streams::new(seed), Rc::clone(&log), config, kept);
    World { sim, log, cluster, runtime }
}

impl World {
    fn run_to(&self, second: u64) {
        self.sim.run_until(SimTime::ZERO.after(seconds(second))).unwrap();
    }

    /// Brings up a Deployment until it is settled.
    fn settled(&self, spec: Deployment) {
        self.cluster.apply_deployment(spec, None);
        self.run_to(60);
        assert!(self.cluster.is_settled(EDGE));
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.log.borrow().events().iter().map(|event| event.kind).collect()
    }
}

#[test]
fn a_pod_prefers_the_node_that_has_its_large_image() {
    // One pod of two nodes gives way to a new one: the other node is the emptier, unless the image counts.
    for (bytes, stays) in [(None, false), (Some(46 << 20), false), (Some(2000 << 20), true)] {
        let image_sizes = bytes.map(|bytes| ("proxy:1".to_owned(), bytes)).into_iter().collect();
        let world = world_with(1, ClusterConfig { image_sizes, ..config(2) }, Duration::ZERO, seconds(5), None);
        world.settled(deployment(1, 0, 1));
        world.cluster.restart(EDGE, None);
        world.run_to(120);
        let records = world.cluster.pod_records();
        assert_eq!((records.len(), records[0].node == records[1].node), (2, stays), "{bytes:?}");
    }
}

#[test]
fn an_image_that_nobody_can_pull_any_more_runs_on_where_it_is() {
    // The pod's second run comes to the only node that is open: the one that has the image since before the run, or the other.
    for (has_image, ready, failed) in [(true, 1, false), (false, 0, true)] {
        let config =
            ClusterConfig { bad_images: BTreeSet::from(["proxy:1".to_owned()]), stands_at_zero: true, ..config(2) };
        let world = world_with(1, config, Duration::ZERO, seconds(1), None);
        world.cluster.apply_deployment(deployment(1, 1, 0), None);
        world.run_to(60);
        assert_eq!(world.cluster.counts(EDGE).ready, 1, "what the run finds has its image");
        let node = world.cluster.pod_records()[0].node.clone().unwrap();
        for name in ["node-0", "node-1"] {
            world.cluster.cordon(name, (name == &*node) != has_image);
        }
        world.cluster.delete_pod_named(&world.cluster.pod_records()[0].key.clone(), None);
        world.run_to(100);
        assert_eq!(world.cluster.counts(EDGE).ready, ready, "has it: {has_image}");
        assert_eq!(world.kinds().contains(&"image_pull_failed"), failed, "has it: {has_image}");
    }
}

#[test]
fn when_an_image_is_pulled_is_the_containers_to_say() {
    use PullPolicy::{Always, IfNotPresent, Never};
    // Whether anybody can pull it, whether every node has it; the policy; whether the second run comes up at a node with it, and without.
    for (is_bad, is_preloaded, pull, with, without) in [
        (false, false, IfNotPresent, true, true),
        (true, false, IfNotPresent, true, false),
        (true, true, IfNotPresent, true, true),
        (false, false, Always, true, true),
        (true, false, Always, false, false),
        (true, true, Always, false, false),
        (false, false, Never, true, false),
        (false, true, Never, true, true),
        (true, true, Never, true, true),
    ] {
        let image = |is_it: bool| if is_it { BTreeSet::from(["proxy:1".to_owned()]) } else { BTreeSet::new() };
        for (has_image, comes_up) in [(true, with), (false, without)] {
            let (bad_images, preloaded_images) = (image(is_bad), image(is_preloaded));
            let config = ClusterConfig { bad_images, preloaded_images, stands_at_zero: true, ..config(2) };
            let world = world_with(1, config, Duration::ZERO, seconds(1), None);
            let mut spec = deployment(1, 1, 0);
            let name = Rc::from("proxy");
            let asked = ContainerRequest {
                name,
                cpu_millicores: None,
                memory_bytes: None,
                pull,
                is_refused: false,
                beside: None,
            };
            spec.template.containers = vec![asked];
            world.cluster.apply_deployment(spec, None);
            world.run_to(60);
            assert_eq!(world.cluster.counts(EDGE).ready, 1, "what the run finds has its image");
            let node = world.cluster.pod_records()[0].node.clone().unwrap();
            for name in ["node-0", "node-1"] {
                world.cluster.cordon(name, (name == &*node) != has_image);
            }
            world.cluster.delete_pod_named(&world.cluster.pod_records()[0].key.clone(), None);
            world.run_to(100);
            let told = format!("{pull:?}, bad: {is_bad}, preloaded: {is_preloaded}, has it: {has_image}");
            assert_eq!(world.cluster.counts(EDGE).ready, usize::from(comes_up), "{told}");
            assert_eq!(world.kinds().contains(&"image_never_pulled"), pull == Never && !comes_up, "{told}");
            assert_eq!(world.kinds().contains(&"image_pull_failed"), pull != Never && !comes_up, "{told}");
        }
    }
}

#[test]
fn a_rollout_replaces_every_pod_and_tells_its_story() {
    let world = world(1, 3, Duration::ZERO, seconds(5));
    world.settled(deployment(4, 1, 0));
    world.cluster.restart(EDGE, None);
    world.run_to(300);
    assert!(world.cluster.is_settled(EDGE));
    let rollouts = world.cluster.rollouts();
    assert_eq!((rollouts.len(), rollouts[0].revision, rollouts[0].pods_max, rollouts[0].ready_min), (1, 2, 5, 4));
    assert!(rollouts[0].ended_at.is_some());
    let records = world.cluster.pod_records();
    assert_eq!(records.iter().filter(|record| record.gone_at.is_some()).count(), 4);
    assert_eq!(records.iter().filter(|record| record.revision == 2 && record.gone_at.is_none()).count(), 4);
    // The first deletion goes back to the restart.
    let log = world.log.borrow();
    let sigterm = log.events().iter().find(|event| event.kind == "sigterm").unwrap();
    let chain: Vec<_> = log.causes(sigterm.id).map(|event| event.kind).collect();
    assert_eq!(
        chain,
        [
            "sigterm",
            "pod_terminating",
            "replicaset_scaled",
            "pod_ready",
            "container_started",
            "pod_scheduled",
            "pod_created",
            "replicaset_scaled",
            "replicaset_created",
            "rollout_started"
        ]
    );
}

#[test]
fn a_pod_ends_by_hook_signal_and_kill_at_exact_times() {
    for (pre_stop_s, grace_s, exits_after_s, sigterm_ms, exited_ms, reason) in [
        (0, 30, 5, 0, 5_000, "completed"),
        (10, 30, 5, 10_000, 15_000, "completed"),
        (0, 10, 20, 0, 10_000, "grace period over"),
        (9, 10, 20, 9_000, 11_000, "grace period over"),
    ] {
        let world = world(1, 1, Duration::ZERO, seconds(exits_after_s));
        let mut spec = deployment(1, 1, 0);
        spec.template.grace_seconds = grace_s;
        spec.template.pre_stop = (pre_stop_s > 0).then(|| seconds(pre_stop_s));
        world.settled(spec);
        world.cluster.scale(EDGE, 0, None);
        world.run_to(200);
        let record = world.cluster.pod_records().remove(0);
        // Deployment, set, and kubelet are a hop of 10 ms each.
        let begins_ms = 60_000 + 30;
        let ms = |at: Option<SimTime>| at.unwrap().as_nanos() / 1_000_000;
        assert_eq!(ms(record.terminating_at), begins_ms - 10);
        assert_eq!(ms(record.sigterm_at), begins_ms + sigterm_ms);
        assert_eq!((ms(record.exited_at), record.exit_reason), (begins_ms + exited_ms, Some(reason)));
        assert_eq!(record.gone_at, record.exited_at);
        assert_eq!(world.runtime.released.take(), [(begins_ms + exited_ms + 2000, record.ip.unwrap())]);
    }
}

#[test]
fn endpoints_follow_readiness_and_deletion_after_their_delay() {
    let world = world(1, 1, Duration::ZERO, seconds(5));
    world.cluster.apply_service(Service {
        key: Rc::from("ns/edge-svc"),
        selector: BTreeMap::from([("app".to_owned(), "edge".to_owned())]),
        publish_not_ready: false,
        face: ServiceFace::default(),
    });
    let mut watch = world.cluster.watch_endpoints("ns/edge-svc", "test").unwrap();
    let seen: Rc<RefCell<Vec<String>>> = Rc::default();
    let (clock, notes) = (world.sim.clone(), Rc::clone(&seen));
    world.sim.spawn("watch", async move {
        loop {
            let snapshot = watch.next().await;
            let states: Vec<String> = snapshot
                .iter()
                .map(|endpoint| {
                    format!(
                        "{}{}{}",
                        u8::from(endpoint.ready),
                        u8::from(endpoint.serving),
                        u8::from(endpoint.terminating)
                    )
                })
                .collect();
            notes.borrow_mut().push(format!("{} {}", clock.now().as_nanos() / 1_000_000, states.join(" ")));
        }
    });
    world.settled(deployment(1, 1, 0));
    seen.borrow_mut().clear();
    world.cluster.scale(EDGE, 0, None);
    world.run_to(100);
    // Deleted at 60.02 s: not ready at once, though it still serves; gone when its process has ended.
    assert_eq!(seen.take(), ["60320 011", "65330 "]);
    assert!(world.cluster.watch_endpoints("ns/none", "test").is_none());
}

#[test]
fn a_pod_without_room_waits_for_it() {
    let world = world(1, 1, Duration::ZERO, seconds(1));
    world.cluster.apply_deployment(deployment(9, 1, 0), None);
    world.run_to(60);
    let counts = world.cluster.counts(EDGE);
    assert_eq!((counts.active, counts.ready), (9, 8), "4 cores hold eight halves");
    assert!(world.kinds().contains(&"pod_unschedulable"));
    let mut smaller = deployment(9, 0, 3);
    smaller.template.requests.cpu_millicores = 400;
    world.cluster.apply_deployment(smaller, None);
    world.run_to(200);
    assert!(world.cluster.is_settled(EDGE));
}

#[test]
fn a_pod_is_ready_at_the_first_tick_that_passes() {
    let world = world(1, 1, Duration::from_millis(2500), seconds(1));
    world.settled(deployment(1, 1, 0));
    let record = world.cluster.pod_records().remove(0);
    let (bound, started, ready) = (record.scheduled_at.unwrap(), record.started_at.unwrap(), record.ready_at.unwrap());
    assert!(ready.since(started) >= Duration::from_millis(2500));
    assert!(ready.since(started) < Duration::from_millis(3500));
    assert_eq!(ready.since(bound).as_nanos() % 1_000_000_000, 0, "ticks are anchored at the pod's admission");
}

#[test]
fn minimum_ready_seconds_slow_a_rollout() {
    let spans: Vec<u64> = [0, 20]
        .map(|min_ready_seconds| {
            let world = world(1, 3, Duration::ZERO, seconds(1));
            let mut spec = deployment(3, 1, 0);
            spec.min_ready_seconds = min_ready_seconds;
            world.cluster.apply_deployment(spec, None);
            world.run_to(100);
            world.cluster.restart(EDGE, None);
            world.run_to(400);
            let rollout = world.cluster.rollouts().remove(0);
            rollout.ended_at.unwrap().since(rollout.started_at).as_secs()
        })
        .to_vec();
    assert!(spans[1] >= spans[0] + 55, "{spans:?}");
}

#[test]
fn recreate_waits_until_the_old_pods_have_ended() {
    let world = world(1, 3, Duration::ZERO, seconds(8));
    let mut spec = deployment(3, 1, 0);
    spec.strategy = Strategy::Recreate;
    world.settled(spec);
    world.cluster.restart(EDGE, None);
    world.run_to(200);
    assert!(world.cluster.is_settled(EDGE));
    let records = world.cluster.pod_records();
    let last_exit = records.iter().filter_map(|record| record.exited_at).max().unwrap();
    let first_new = records.iter().filter(|record| record.revision == 2).map(|record| record.created_at).min().unwrap();
    assert!(first_new >= last_exit);
}

#[test]
fn a_process_that_crashes_is_started_again_with_growing_waits() {
    let world = world_with(1, config(1), Duration::ZERO, seconds(1), Some(seconds(1)));
    world.cluster.apply_deployment(deployment(1, 1, 0), None);
    world.run_to(100);
    let log = world.log.borrow();
    let times = |kind: &str| -> Vec<u64> {
        log.events().iter().filter(|event| event.kind == kind).map(|event| event.at.as_nanos() / 1_000_000).collect()
    };
    let (starts, exits) = (times("container_started"), times("container_exited"));
    // The back-off, and up to the second and the quarter of a minute that the kubelet takes to look.
    let waits = starts[1..].iter().zip(&exits).map(|(start, exit)| start - exit);
    let leasts = [0, 10_000, 20_000, 40_000];
    assert!(starts.len() == 4 || starts.len() == 5, "{starts:?}");
    for (wait_ms, least_ms) in waits.zip(leasts) {
        assert!((least_ms..least_ms + 16_000).contains(&wait_ms), "{wait_ms} for {least_ms}");
    }
}

#[test]
fn a_quiet_hour_costs_little_and_a_cluster_of_empty_nodes_nothing() {
    let world = world(1, 200, Duration::ZERO, seconds(1));
    world.run_to(3600);
    assert_eq!(world.sim.polls_total(), 0);
}

#[test]
fn a_world_that_stands_at_zero_is_ready_at_zero() {
    let mut world = world(1, 3, seconds(9), seconds(1));
    let runtime: Rc<dyn Runtime> = Rc::<Fake>::clone(&world.runtime);
    let mut config = world.cluster.inner.config.clone();
    config.stands_at_zero = true;
    world.cluster = Cluster::new(&world.sim, Streams::new(1), Rc::clone(&world.log), config, runtime);
    world.cluster.apply_deployment(deployment(5, 1, 0), None);
    world.sim.run_until(SimTime::ZERO).unwrap();
    assert!(world.cluster.is_settled(EDGE));
    world.run_to(20);
    world.cluster.restart(EDGE, None);
    world.run_to(25);
    assert!(!world.cluster.is_settled(EDGE), "what comes later takes its time");
}

#[test]
fn two_runs_tell_the_same_story() {
    let print = |seed| {
        let world = world(seed, 3, Duration::from_millis(700), seconds(5));
        world.settled(deployment(6, 2, 1));
        world.cluster.restart(EDGE, None);
        world.run_to(70);
        world.cluster.scale(EDGE, 9, None);
        world.run_to(400);
        assert!(world.cluster.is_settled(EDGE));
        world.log.borrow().fingerprint().to_string()
    };
    assert_eq!(print(1), print(1));
    assert_ne!(print(1), print(2));
}

proptest! {
    /// Whatever the limits and the sizes, resized in the middle or not: never more pods than replicas + surge, never fewer
    /// available than replicas − unavailable while nothing fails, and the rollout ends.
    #[test]
    fn a_rollout_keeps_its_limits(
        seed in 0_u64..1000,
        replicas in 1_i32..12,
        surge in 0_i32..4,
        unavailable in 0_i32..4,
        exits_after_s in 0_u64..40,
        resize in proptest::option::of((1_u64..20, 1_i32..12)),
    ) {
        let world = world(seed, 4, Duration::from_millis(300), seconds(exits_after_s));
        world.settled(deployment(replicas, surge, unavailable));
        world.cluster.restart(EDGE, None);
        let (mut now, mut wanted) = (60, replicas);
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let mut resized_at = None;
        while now < 900 && (!world.cluster.is_settled(EDGE) || now < 90) {
            now += 1;
            if let Some((after, size)) = resize && now == 60 + after {
                wanted = size;
                resized_at = Some(now);
                world.cluster.scale(EDGE, size, None);
            }
            world.run_to(now);
            let counts = world.cluster.counts(EDGE);
            // A resize takes a moment to arrive, and growing takes pods their time to start.
            if resized_at.is_none_or(|at| now > at + 10) {
                let most = usize::try_from(wanted + surge).unwrap();
                prop_assert!(counts.active <= most, "{counts:?} at {now} with {wanted} wanted");
            }
            if resized_at.is_none() {
                let least = usize::try_from((wanted - unavailable).max(0)).unwrap();
                prop_assert!(counts.available >= least, "{counts:?} at {now} with {wanted} wanted");
            }
        }
        prop_assert!(world.cluster.is_settled(EDGE));
        let counts = world.cluster.counts(EDGE);
        prop_assert_eq!(counts.available, usize::try_from(wanted).unwrap());
    }
}
