//! Rollouts on clusters without containers: what the controllers promise, whatever is asked of them.
//!
//! Method: pods become ready and end after set times; the clock moves in small steps, and at each step the promises are checked: never more pods asked for than
//! replicas + surge, never fewer available than replicas − unavailable as long as nothing but a rollout happens.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::daemon_set::Update;
use gatedrill::cluster::deployment::Strategy;
use gatedrill::cluster::int_or_percent::IntOrPercent;
use gatedrill::cluster::objects::{DaemonSet, Deployment, Node, PodTemplate, Resources};
use gatedrill::cluster::{
    ClientLimits, ClientRates, Cluster, ClusterConfig, HollowKubelet, HollowPod, Identity, Version,
};
use gatedrill::engine::{Delay, EventLog, Sim, Streams};
use gatedrill::units::SimTime;
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

const EDGE: &str = "ns/edge";
/// Pods of this image never start.
const BAD: &str = "edge:bad";

/// Starts pods after a second and a bit, ends them after three.
struct Kubelet {
    sim: Sim,
    cluster: RefCell<Option<Cluster>>,
}

impl Kubelet {
    fn later(&self, span: Duration, act: impl FnOnce(&Cluster) + 'static) {
        let (sim, cluster) = (self.sim.clone(), self.cluster.borrow().clone().expect("attached"));
        self.sim.spawn("later", async move {
            sim.sleep(span).await;
            act(&cluster);
        });
    }
}

impl HollowKubelet for Kubelet {
    fn bound(&self, pod: &HollowPod) {
        let id = pod.id;
        if pod.image != BAD {
            self.later(Duration::from_millis(1000 + 170 * (id % 7)), move |cluster| cluster.report_running(id, true));
        }
    }

    fn deleted(&self, pod: &HollowPod) {
        let id = pod.id;
        self.later(Duration::from_secs(3), move |cluster| cluster.report_gone(id));
    }
}

struct World {
    sim: Sim,
    log: Rc<RefCell<EventLog>>,
    cluster: Cluster,
}

fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    let template = PodTemplate::plain(
        BTreeMap::from([("app".to_owned(), "edge".to_owned())]),
        "edge:1",
        Resources { cpu_millicores: 100, memory_bytes: 1 << 20 },
    );
    Deployment {
        key: Rc::from(EDGE),
        replicas,
        strategy: Strategy::RollingUpdate {
            max_surge: IntOrPercent::Int(surge),
            max_unavailable: IntOrPercent::Int(unavailable),
        },
        is_paused: false,
        min_ready_seconds: 0,
        progress_deadline_seconds: Some(30),
        revision_history_limit: 10,
        template,
    }
}

impl World {
    fn new(seed: u64, version: Version) -> Self {
        Self::of_size(seed, version, 4, ClientRates::DEFAULT)
    }

    fn of_size(seed: u64, version: Version, nodes: u8, client_rates: ClientRates) -> Self {
        let sim = Sim::new();
        let resources = Resources { cpu_millicores: 16_000, memory_bytes: 32 << 30 };
        let node = |index: u8| {
            let zone = Rc::from(["a", "b", "c"][usize::from(index) % 3]);
            Node::new(Rc::from(format!("node-{index}")), Ipv4Addr::new(192, 168, 0, index + 1), zone, resources)
        };
        let config = ClusterConfig {
            identity: Identity::ALONE,
            version,
            wall_phase: None,
            nodes: (0..nodes).map(node).collect(),
            hop: Delay::Uniform { min: Duration::from_millis(2), max: Duration::from_millis(20) },
            schedule: Delay::Constant(Duration::from_millis(10)),
            pod_start: Delay::ZERO,
            image_pull: Delay::ZERO,
            bad_images: BTreeSet::new(),
            image_sizes: BTreeMap::new(),
            preloaded_images: BTreeSet::new(),
            terminated_pods_max: gatedrill::cluster::pod_collection::THRESHOLD,
            endpoint_propagation: Delay::ZERO,
            init_container: Delay::ZERO,
            sandbox_removal: Delay::ZERO,
            autoscaler: None,
            client_rates,
            stands_at_zero: false,
        };
        let kubelet = Rc::new(Kubelet { sim: sim.clone(), cluster: RefCell::new(None) });
        let log = Rc::new(RefCell::new(EventLog::default()));
        let kept: Rc<dyn HollowKubelet> = Rc::<Kubelet>::clone(&kubelet);
        let cluster = Cluster::hollow(&sim, Streams::new(seed), Rc::clone(&log), config, kept);
        *kubelet.cluster.borrow_mut() = Some(cluster.clone());
        Self { sim, log, cluster }
    }

    /// A settled deployment, ten seconds old.
    fn settled(seed: u64, version: Version, spec: Deployment) -> Self {
        let world = Self::new(seed, version);
        world.cluster.apply_deployment(spec, None);
        world.pass(10_000);
        assert!(world.cluster.is_settled(EDGE));
        world
    }

    fn pass(&self, millis: u64) {
        self.sim.run_until(self.sim.now().after(Duration::from_millis(millis))).expect("the world moves");
    }

    fn change(&self, change: impl FnOnce(&mut Deployment)) {
        let mut spec = self.cluster.deployment(EDGE).expect("it is there");
        change(&mut spec);
        self.cluster.apply_deployment(spec, None);
    }

    fn image(&self, image: &str) {
        self.change(|spec| spec.template.image = image.to_owned());
    }

    /// The sizes asked for, by image; empty sets left out.
    fn sizes(&self) -> BTreeMap<String, i32> {
        let sets = self.cluster.set_views(EDGE).into_iter().filter(|set| set.replicas > 0);
        sets.map(|set| (set.image, set.replicas)).collect()
    }

    fn events(&self, kind: &str) -> Vec<SimTime> {
        let log = self.log.borrow();
        log.events().iter().filter(|event| event.kind == kind).map(|event| event.at).collect()
    }

    /// The conditions `Available` and `Progressing`.
    fn reasons(&self) -> (&'static str, &'static str) {
        let view = self.cluster.deployment_view(EDGE).expect("it is there");
        (view.available.expect("a status").0, view.progressing.expect("a deadline").1)
    }
}

fn sizes(pairs: &[(&str, i32)]) -> BTreeMap<String, i32> {
    pairs.iter().map(|(image, size)| ((*image).to_owned(), *size)).collect()
}

const NOW: Version = Version::new(1, 33);

#[test]
fn pods_are_made_in_batches_of_one_two_four() {
    let world = World::new(1, NOW);
    world.cluster.apply_deployment(deployment(10, 1, 0), None);
    world.pass(5000);
    let mut batches: BTreeMap<SimTime, usize> = BTreeMap::new();
    for record in world.cluster.pod_records() {
        *batches.entry(record.created_at).or_default() += 1;
    }
    assert_eq!(batches.into_values().collect::<Vec<_>>(), [1, 2, 4, 3]);
}

/// From the change to the end, in seconds, with these limits of the controllers' clients.
fn rollout_of_500(controllers: ClientLimits) -> f64 {
    let rates = ClientRates { controllers, ..ClientRates::DEFAULT };
    let world = World::of_size(1, NOW, 12, rates);
    world.cluster.apply_deployment(deployment(500, 125, 125), None);
    world.pass(300_000);
    assert!(world.cluster.is_settled(EDGE));
    world.image("edge:2");
    world.pass(300_000);
    assert!(world.cluster.is_settled(EDGE));
    let rollout = &world.cluster.rollouts()[0];
    rollout.ended_at.expect("it is over").since(rollout.started_at).as_secs_f64()
}

/// 500 creations, 500 deletions, statuses and events at 20 calls a second: the pods themselves would be there in a fraction of it.
#[test]
fn a_large_rollout_is_as_slow_as_the_controllers_calls() {
    let usual = rollout_of_500(ClientLimits::CONTROLLER);
    let raised = rollout_of_500(ClientLimits { per_second: 500, burst: 1000 });
    assert!(usual >= 1000.0 / 20.0, "{usual} s");
    assert!(usual < 120.0 && raised < 20.0, "{usual} s, {raised} s");
    println!("a rollout of 500 pods: {usual:.1} s, with raised limits {raised:.1} s");
}

#[test]
fn a_paused_deployment_waits_with_its_template_and_follows_its_size() {
    let world = World::settled(1, NOW, deployment(4, 1, 1));
    world.change(|spec| spec.is_paused = true);
    world.image("edge:2");
    world.pass(5000);
    assert_eq!((world.sizes(), world.reasons()), (sizes(&[("edge:1", 4)]), ("True", "DeploymentPaused")));
    world.change(|spec| spec.replicas = 6);
    world.pass(40_000);
    assert_eq!(world.sizes(), sizes(&[("edge:1", 6)]));
    assert!(world.events("rollout_stuck").is_empty(), "a pause stops the clock of the deadline");
    world.change(|spec| spec.is_paused = false);
    world.pass(30_000);
    assert_eq!((world.sizes(), world.reasons()), (sizes(&[("edge:2", 6)]), ("True", "NewReplicaSetAvailable")));
}

#[test]
fn a_pause_in_the_middle_keeps_both_revisions_where_they_are() {
    let world = World::settled(1, NOW, deployment(6, 1, 1));
    world.image("edge:2");
    world.pass(2500);
    let before = world.sizes();
    assert_eq!(before.len(), 2, "in the middle: {before:?}");
    world.change(|spec| spec.is_paused = true);
    world.pass(1000);
    let paused = world.sizes();
    world.pass(20_000);
    assert_eq!(world.sizes(), paused);
    world.change(|spec| spec.is_paused = false);
    world.pass(30_000);
    assert_eq!(world.sizes(), sizes(&[("edge:2", 6)]));
}

#[test]
fn going_back_revives_the_old_set_with_the_pods_it_still_has() {
    let world = World::settled(1, NOW, deployment(4, 1, 1));
    let old = world.cluster.pod_views(EDGE);
    world.image(BAD);
    world.pass(5000);
    assert_eq!(world.sizes(), sizes(&[("edge:1", 3), (BAD, 2)]));
    world.image("edge:1");
    world.pass(10_000);
    assert!(world.cluster.is_settled(EDGE));
    let sets = world.cluster.set_views(EDGE);
    assert_eq!(sets.iter().map(|set| (set.revision, set.replicas)).collect::<Vec<_>>(), [(3, 4), (2, 0)]);
    let kept = world.cluster.pod_views(EDGE).iter().filter(|pod| old.iter().any(|one| one.id == pod.id)).count();
    assert_eq!(kept, 3, "what still ran is not restarted");
}

#[test]
fn a_rollout_that_sticks_is_told_once_and_goes_on_when_it_can() {
    let world = World::settled(1, NOW, deployment(4, 1, 1));
    world.image(BAD);
    world.pass(60_000);
    assert_eq!(world.reasons(), ("True", "ProgressDeadlineExceeded"));
    let stuck = world.events("rollout_stuck");
    assert_eq!(stuck.len(), 1);
    let after = stuck[0].since(world.cluster.rollouts()[0].started_at);
    assert!((30.0..32.1).contains(&after.as_secs_f64()), "{after:?}");
    assert_eq!(world.cluster.counts(EDGE).available, 3, "it costs the one pod that may be missing");
    world.image("edge:2");
    world.pass(20_000);
    assert_eq!(world.reasons(), ("True", "NewReplicaSetAvailable"));
}

#[test]
fn old_sets_beyond_the_limit_go() {
    let mut spec = deployment(2, 1, 0);
    spec.revision_history_limit = 1;
    let world = World::settled(1, NOW, spec);
    for image in ["edge:2", "edge:3", "edge:4"] {
        world.image(image);
        world.pass(20_000);
    }
    let images: Vec<String> = world.cluster.set_views(EDGE).into_iter().map(|set| set.image).collect();
    assert_eq!(images, ["edge:3", "edge:4"]);
}

#[test]
fn what_is_deleted_ends_and_is_seen_no_more() {
    let world = World::settled(1, NOW, deployment(3, 1, 0));
    world.cluster.delete_deployment(EDGE, None);
    world.pass(1000);
    assert!(world.cluster.deployment_view(EDGE).is_none() && world.cluster.deployment_keys().is_empty());
    assert_eq!(world.cluster.counts(EDGE).terminating, 3);
    world.pass(5000);
    assert!(world.cluster.all_pod_views().is_empty());
}

/// The youngest goes first, and since 1.22 only the youngest by powers of two: at an age of 20 and 30 seconds it is chance.
#[test]
fn from_1_22_on_pods_of_like_ages_go_by_chance() {
    let youngest_goes = |minor: u32| {
        (0..40).filter(move |seed| {
            let world = World::new(*seed, Version::new(1, minor));
            // One node, so that no pod goes for its neighbours.
            for node in 1..4 {
                world.cluster.cordon(&format!("node-{node}"), true);
            }
            world.cluster.apply_deployment(deployment(1, 1, 0), None);
            world.pass(10_000);
            world.change(|spec| spec.replicas = 2);
            world.pass(20_000);
            world.change(|spec| spec.replicas = 1);
            world.pass(1000);
            let pods = world.cluster.all_pod_views();
            pods.iter().any(|pod| pod.id == 1 && pod.is_deleting)
        })
    };
    assert_eq!(youngest_goes(20).count(), 40);
    let by_chance = youngest_goes(22).count();
    assert!((8..=32).contains(&by_chance), "{by_chance} of 40");
}

proptest! {
    /// Whatever happens in whatever order: sizes never exceed replicas + surge, and in the end all is as it was asked for.
    #[test]
    fn a_swarm_of_changes_ends_as_asked(
        seed in 0_u64..1_000_000,
        replicas in 1_i32..15,
        surge in 0_i32..4,
        unavailable in 0_i32..4,
        min_ready in 0_u32..4,
        changes in proptest::collection::vec((0_u8..6, 0_i32..15, 100_u64..6000), 0..8),
    ) {
        let mut spec = deployment(replicas, surge, unavailable);
        spec.min_ready_seconds = min_ready;
        let world = World::new(seed, NOW);
        world.cluster.apply_deployment(spec, None);
        world.pass(15_000);
        prop_assert!(world.cluster.is_settled(EDGE));
        let (mut most, mut image) = (replicas, 1);
        for (what, size, wait) in changes {
            match what {
                0 | 1 => {
                    image += 1;
                    world.image(&format!("edge:{image}"));
                }
                2 => world.image("edge:1"),
                3 => {
                    most = most.max(size);
                    world.change(|spec| spec.replicas = size);
                }
                4 => world.change(|spec| spec.is_paused = !spec.is_paused),
                _ => world.image(BAD),
            }
            for _ in 0..wait / 100 {
                world.pass(100);
                let asked: i32 = world.cluster.set_views(EDGE).iter().map(|set| set.replicas).sum();
                prop_assert!(asked <= most + surge.max(1), "{asked} pods asked for, at most {most} wanted");
            }
        }
        world.change(|spec| spec.is_paused = false);
        world.image("edge:last");
        world.pass(200_000);
        prop_assert!(world.cluster.is_settled(EDGE), "{:?}", world.cluster.deployment_view(EDGE));
        let wanted = world.cluster.deployment(EDGE).expect("it is there").replicas;
        let expected = if wanted > 0 { sizes(&[("edge:last", wanted)]) } else { BTreeMap::new() };
        prop_assert_eq!(world.sizes(), expected);
    }

    /// As long as nothing but a rollout happens, its limits hold at every moment.
    #[test]
    fn a_rollout_keeps_its_limits_at_every_moment(
        seed in 0_u64..1_000_000,
        replicas in 1_i32..15,
        surge in 0_i32..4,
        unavailable in 0_i32..4,
        min_ready in 0_u32..4,
    ) {
        let mut spec = deployment(replicas, surge, unavailable);
        spec.min_ready_seconds = min_ready;
        // Calls that wait for their turn would leave pods that give way for longer than a look.
        let controllers = ClientLimits { per_second: 500, burst: 1000 };
        let world = World::of_size(seed, NOW, 4, ClientRates { controllers, ..ClientRates::DEFAULT });
        world.cluster.apply_deployment(spec, None);
        world.pass(15_000);
        world.image("edge:2");
        let missing = if surge == 0 { unavailable.max(1) } else { unavailable };
        let most = replicas + surge;
        let mut was_above = false;
        for _ in 0..2000 {
            world.pass(50);
            let asked: i32 = world.cluster.set_views(EDGE).iter().map(|set| set.replicas).sum();
            prop_assert!(asked <= most, "{asked} asked for");
            let counts = world.cluster.counts(EDGE);
            // A set may make its pods some milliseconds before another has deleted those that give way to them.
            let is_above = counts.active > usize::try_from(most).unwrap();
            prop_assert!(!(is_above && was_above), "{counts:?}");
            was_above = is_above;
            prop_assert!(counts.available >= usize::try_from((replicas - missing).max(0)).unwrap(), "{counts:?}");
        }
        prop_assert!(world.cluster.is_settled(EDGE));
    }

    /// So it is with a `DaemonSet`: no node has two pods at work unless it surges, and no more nodes than may be are without an available one.
    #[test]
    fn a_daemon_sets_rollout_keeps_its_limits_at_every_moment(
        seed in 0_u64..1_000_000,
        nodes in 1_u8..8,
        surge in 0_i32..4,
        unavailable in 1_i32..4,
        min_ready_seconds in 0_u32..4,
    ) {
        // The API server wants one of both to be 0.
        let unavailable = if surge > 0 { 0 } else { unavailable };
        let (max_surge, max_unavailable) = (IntOrPercent::Int(surge), IntOrPercent::Int(unavailable));
        let update = Update::Rolling { max_surge, max_unavailable };
        let template = deployment(1, 0, 0).template;
        let spec = DaemonSet { key: Rc::from(EDGE), update, min_ready_seconds, template };
        let owner = spec.owner();
        let controllers = ClientLimits { per_second: 500, burst: 1000 };
        let world = World::of_size(seed, NOW, nodes, ClientRates { controllers, ..ClientRates::DEFAULT });
        world.cluster.apply_daemon_set(spec.clone(), None);
        world.pass(15_000);
        prop_assert!(world.cluster.is_settled(&owner));
        let template = PodTemplate { image: "edge:2".to_owned(), ..spec.template.clone() };
        world.cluster.apply_daemon_set(DaemonSet { template, ..spec }, None);
        let count = |number: i32| usize::try_from(number).unwrap();
        let (most, fewest) = (usize::from(nodes) + count(surge), usize::from(nodes).saturating_sub(count(unavailable)));
        let mut was_above = false;
        for _ in 0..1500 {
            world.pass(50);
            let counts = world.cluster.counts(&owner);
            // Pods that surge are made some milliseconds before those that they replace are deleted.
            let is_above = counts.active > most;
            prop_assert!(!(is_above && was_above), "{counts:?}");
            was_above = is_above;
            prop_assert!(counts.available >= fewest, "{counts:?}");
            let mut by_node: BTreeMap<Rc<str>, usize> = BTreeMap::new();
            let views = world.cluster.all_pod_views();
            let at_work = views.into_iter().filter(|pod| pod.owner == owner && !pod.is_deleting);
            at_work.filter_map(|pod| pod.node).for_each(|node| *by_node.entry(node).or_default() += 1);
            prop_assert!(by_node.values().all(|pods| *pods <= 1 + usize::from(surge > 0)), "{by_node:?}");
        }
        prop_assert!(world.cluster.is_settled(&owner), "{:?}", world.cluster.daemon_set_views());
        let rollouts = world.cluster.rollouts();
        prop_assert_eq!(rollouts.len(), 1);
        prop_assert!(rollouts[0].ended_at.is_some() && rollouts[0].ready_min >= fewest, "{:?}", rollouts);
    }
}
