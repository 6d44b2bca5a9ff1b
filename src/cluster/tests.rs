//! Single pods, services and mishaps, on a cluster whose processes follow a script.
//!
//! Method: one deployment, constant delays, and a runtime that is told per run of a container when it answers its probes and when it
//! ends. Events and times are compared exactly.

use super::*;
use crate::cluster::deployment::Strategy;
use crate::cluster::int_or_percent::IntOrPercent;
use crate::cluster::kubelet::probe::ProbeSpec;
use crate::engine::{Delay, EventLog, Signal, Sim, Streams};
use crate::units::SimTime;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const EDGE: &str = "ns/edge";
const READINESS: u16 = 1;
const LIVENESS: u16 = 2;
const STARTUP: u16 = 3;

/// What the processes do. `run` counts the starts of one pod from 0.
struct Script {
    /// Whether a probe passes: the run, its age, and the probe's port.
    answers: fn(u32, Duration, u16) -> bool,
    /// From SIGTERM to the exit.
    exits_after: Duration,
    /// The process ends by itself at this age.
    crashes_at: fn(u32) -> Option<Duration>,
    /// What it says of that end.
    says: Option<ProcessEnd>,
}

const OBEDIENT: Script =
    Script { answers: |_, _, _| true, exits_after: Duration::from_secs(5), crashes_at: |_| None, says: None };

struct Fake {
    sim: Sim,
    script: Script,
    /// The runs of each pod so far, and the start of the last.
    runs: RefCell<BTreeMap<Ipv4Addr, (u32, SimTime)>>,
}

struct FakeProcess {
    sim: Sim,
    exits_after: Duration,
    says: Option<ProcessEnd>,
    ended: Signal,
}

fn later(sim: &Sim, span: Duration, signal: &Signal) {
    let (clock, signal) = (sim.clone(), signal.clone());
    sim.spawn("later", async move {
        clock.sleep(span).await;
        signal.raise();
    });
}

impl Runtime for Fake {
    fn start(&self, pod: &StartingPod) -> Rc<dyn Process> {
        let mut runs = self.runs.borrow_mut();
        let run = runs.get(&pod.ip).map_or(0, |(run, _)| run + 1);
        runs.insert(pod.ip, (run, self.sim.now()));
        let ended = Signal::default();
        if let Some(age) = (self.script.crashes_at)(run) {
            later(&self.sim, age, &ended);
        }
        let Script { exits_after, says, .. } = self.script;
        Rc::new(FakeProcess { sim: self.sim.clone(), exits_after, says, ended })
    }

    fn probe(&self, ip: Ipv4Addr, action: &ProbeAction) -> LocalFuture<bool> {
        let (run, started_at) = self.runs.borrow()[&ip];
        let ProbeAction::Tcp { port } = action else { unreachable!("the script has ports only") };
        let passes = (self.script.answers)(run, self.sim.now().since(started_at), *port);
        Box::pin(std::future::ready(passes))
    }

    fn released(&self, _: Ipv4Addr) {}
}

impl Process for FakeProcess {
    fn terminate(&self, _: EventId) {
        later(&self.sim, self.exits_after, &self.ended);
    }

    fn kill(&self, _: EventId) {
        self.ended.raise();
    }

    fn exited(&self) -> LocalFuture<()> {
        Box::pin(self.ended.raised())
    }

    fn own_end(&self) -> Option<ProcessEnd> {
        self.says
    }
}

struct World {
    sim: Sim,
    log: Rc<RefCell<EventLog>>,
    cluster: Cluster,
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn probe(port: u16) -> Option<Probe> {
    let spec = ProbeSpec { period_seconds: 1, failure_threshold: 1, ..ProbeSpec::default() };
    Some(Probe { action: ProbeAction::Tcp { port }, spec })
}

fn deployment(key: &str, replicas: i32) -> Deployment {
    let limit = IntOrPercent::Percent(25);
    let template = PodTemplate::plain(
        BTreeMap::from([("app".to_owned(), key.to_owned())]),
        "proxy:1",
        Resources { cpu_millicores: 1000, memory_bytes: 1 << 20 },
    );
    Deployment {
        key: Rc::from(key),
        replicas,
        strategy: Strategy::RollingUpdate { max_surge: limit, max_unavailable: limit },
        is_paused: false,
        min_ready_seconds: 0,
        progress_deadline_seconds: Some(600),
        revision_history_limit: 10,
        template,
    }
}

/// Delays: 10 ms a hop, 10 ms to schedule, 2 s to start.
fn config(nodes: usize) -> ClusterConfig {
    let node = |index: usize| {
        Node::new(
            Rc::from(format!("node-{index}")),
            Ipv4Addr::from_bits(0xC0A8_0000 + u32::try_from(index).unwrap()),
            Rc::from(["a", "b", "c"][index % 3]),
            Resources { cpu_millicores: 4000, memory_bytes: 8 << 30 },
        )
    };
    ClusterConfig {
        identity: Identity::ALONE,
        version: Version::new(1, 33),
        wall_phase: Some(Duration::ZERO),
        nodes: (0..nodes).map(node).collect(),
        hop: Delay::Constant(millis(10)),
        schedule: Delay::Constant(millis(10)),
        pod_start: Delay::Constant(seconds(2)),
        image_pull: Delay::ZERO,
        bad_images: BTreeSet::new(),
        image_sizes: BTreeMap::new(),
        preloaded_images: BTreeSet::new(),
        terminated_pods_max: pod_collection::THRESHOLD,
        endpoint_propagation: Delay::Constant(millis(300)),
        init_container: Delay::ZERO,
        sandbox_removal: Delay::ZERO,
        autoscaler: None,
        client_rates: ClientRates::DEFAULT,
        stands_at_zero: false,
    }
}

fn world(script: Script, config: ClusterConfig) -> World {
    let sim = Sim::new();
    let log = Rc::new(RefCell::new(EventLog::default()));
    let runtime = Rc::new(Fake { sim: sim.clone(), script, runs: RefCell::default() });
    let cluster = Cluster::new(&sim, Streams::new(1), Rc::clone(&log), config, runtime);
    World { sim, log, cluster }
}

impl World {
    fn run_to(&self, second: u64) {
        self.sim.run_until(SimTime::ZERO.after(seconds(second))).unwrap();
    }

    /// The times, in milliseconds, of all events of a kind.
    fn times(&self, kind: &str) -> Vec<u64> {
        let log = self.log.borrow();
        log.events().iter().filter(|event| event.kind == kind).map(|event| ms(event.at)).collect()
    }

    /// The kinds of the events from a second on, those of endpoints left out.
    fn story(&self, from_second: u64) -> Vec<&'static str> {
        let log = self.log.borrow();
        let later = log.events().iter().filter(|event| ms(event.at) >= from_second * 1000);
        later.map(|event| event.kind).filter(|kind| *kind != "endpoint").collect()
    }
}

fn ms(at: SimTime) -> u64 {
    at.as_nanos() / 1_000_000
}

fn service(key: &str) -> Service {
    Service {
        key: Rc::from(key),
        selector: BTreeMap::from([("app".to_owned(), EDGE.to_owned())]),
        publish_not_ready: false,
        face: ServiceFace::default(),
    }
}

/// Writes down what a consumer sees: the time in milliseconds, and `ready serving terminating` of each endpoint as digits.
fn watch(world: &World, key: &str, consumer: &str) -> Rc<RefCell<Vec<(u64, String)>>> {
    let mut watch = world.cluster.watch_endpoints(key, consumer).unwrap();
    let seen: Rc<RefCell<Vec<(u64, String)>>> = Rc::default();
    let (clock, notes) = (world.sim.clone(), Rc::clone(&seen));
    world.sim.spawn("watch", async move {
        loop {
            let snapshot = watch.next().await;
            let digit = |flag: bool| if flag { '1' } else { '0' };
            let states: Vec<String> = snapshot
                .iter()
                .map(|view| [digit(view.ready), digit(view.serving), digit(view.terminating)].iter().collect())
                .collect();
            notes.borrow_mut().push((ms(clock.now()), states.join(" ")));
        }
    });
    seen
}

#[test]
fn a_restarted_process_without_a_readiness_probe_is_ready_again() {
    let script = Script { crashes_at: |run| (run == 0).then_some(seconds(3)), ..OBEDIENT };
    let world = world(script, config(1));
    world.cluster.apply_deployment(deployment(EDGE, 1), None);
    world.run_to(60);
    assert_eq!(world.cluster.counts(EDGE).ready, 1);
    assert_eq!(world.story(3), ["container_exited", "pod_unready", "container_started", "pod_ready"]);
}

#[test]
fn a_restarted_process_must_pass_its_readiness_probe_anew() {
    let script = Script {
        crashes_at: |run| (run == 0).then_some(millis(3250)),
        answers: |run, age, port| port != READINESS || run == 0 || age >= seconds(4),
        ..OBEDIENT
    };
    let world = world(script, config(1));
    let mut spec = deployment(EDGE, 1);
    spec.template.probes = Probes { readiness: probe(READINESS), liveness: probe(LIVENESS), startup: probe(STARTUP) };
    world.cluster.apply_deployment(spec, None);
    world.run_to(60);
    let (starts, readies) = (world.times("container_started"), world.times("pod_ready"));
    assert_eq!((starts.len(), readies.len()), (2, 2));
    assert!((4000..5000).contains(&(readies[1] - starts[1])), "{starts:?} {readies:?}");
}

#[test]
fn a_failed_liveness_probe_ends_every_run_with_hook_and_grace() {
    let script = Script { answers: |_, age, port| port != LIVENESS || age < seconds(8), ..OBEDIENT };
    let world = world(script, config(1));
    let mut spec = deployment(EDGE, 1);
    spec.template.pre_stop = Some(seconds(3));
    spec.template.probes.liveness = probe(LIVENESS);
    world.cluster.apply_deployment(spec, None);
    world.run_to(40);
    let ended = ["prestop_started", "prestop_finished", "sigterm", "container_exited"];
    let story = world.story(3);
    assert_eq!(story[..4], ended);
    assert_eq!(story[4], "container_started", "by the same sync: without a readiness probe the pod is ready all along");
    assert_eq!(story[5..9], ended, "the second run is watched like the first");
    let (hooks, terms, exits) =
        (world.times("prestop_started"), world.times("sigterm"), world.times("container_exited"));
    assert_eq!((terms[0] - hooks[0], exits[0] - terms[0]), (3000, 5000));
    // Ticks are anchored at the binding, 30 ms in: the first at an age of 8 s or more.
    assert_eq!(hooks[0], 10_030);
}

#[test]
fn a_container_that_is_killed_again_and_again_waits_for_the_end_of_the_run_before() {
    // Ended after 20 s each time: the second and third kill find an exit 20 s ago and waits of 0 and 10 s, the fourth a wait of 20 s that is just over, the fifth one of 40 s.
    let script = Script { answers: |_, age, port| port != LIVENESS || age < seconds(15), ..OBEDIENT };
    let world = world(script, config(1));
    let mut spec = deployment(EDGE, 1);
    spec.template.probes.liveness = probe(LIVENESS);
    world.cluster.apply_deployment(spec, None);
    world.run_to(160);
    let (starts, exits) = (world.times("container_started"), world.times("container_exited"));
    for run in 0..4 {
        assert_eq!(starts[run + 1], exits[run], "{starts:?} {exits:?}");
    }
    // The sync after the fifth counts from that exit, and further ones look every 10 to 15 s.
    let waited = starts[5] - exits[4];
    assert!((40_000..56_000).contains(&waited), "{waited} ms: {starts:?} {exits:?}");
    assert_eq!(world.times("pod_unready").len(), 1, "told when it waits");
}

#[test]
fn a_deletion_takes_over_from_a_probes_kill_with_its_own_grace() {
    // Told to end by the probe at 10.03 s, the process takes a minute; the pod is deleted at 20 s, or not.
    for (deletes, kills, hooks, is_restarted) in
        [(false, vec![40_030], vec![10_030], true), (true, vec![50_030], vec![10_030, 20_030], false)]
    {
        let script = Script {
            answers: |run, age, port| port != LIVENESS || run > 0 || age < seconds(8),
            exits_after: seconds(60),
            ..OBEDIENT
        };
        let world = world(script, config(1));
        let mut spec = deployment(EDGE, 1);
        spec.template.pre_stop = Some(seconds(3));
        spec.template.probes.liveness = probe(LIVENESS);
        world.cluster.apply_deployment(spec, None);
        world.run_to(20);
        if deletes {
            world.cluster.scale(EDGE, 0, None);
        }
        world.run_to(70);
        assert_eq!(world.times("prestop_started"), hooks, "the hook runs anew");
        assert_eq!(world.times("sigterm"), [13_030], "SIGTERM is sent once");
        assert_eq!(world.times("sigkill"), kills);
        assert_eq!(world.times("container_started").len() > 1, is_restarted);
    }
}

#[test]
fn a_failed_startup_probe_holds_the_others_back_and_restarts() {
    let script = Script { answers: |run, _, port| port != STARTUP || run == 1, ..OBEDIENT };
    let world = world(script, config(1));
    let mut spec = deployment(EDGE, 1);
    spec.template.probes = Probes { readiness: probe(READINESS), liveness: probe(LIVENESS), startup: probe(STARTUP) };
    world.cluster.apply_deployment(spec, None);
    world.run_to(40);
    let story = world.story(2);
    assert_eq!(story, ["container_started", "sigterm", "container_exited", "container_started", "pod_ready"]);
    let (starts, readies) = (world.times("container_started"), world.times("pod_ready"));
    assert!(readies[0] - starts[1] <= 1000, "ready as soon as the startup probe has passed");
}

/// The numbers and texts that the events of a kind carry.
fn data(world: &World, kind: &str) -> Vec<String> {
    let log = world.log.borrow();
    let told = log.events().iter().filter(|event| event.kind == kind);
    told.map(|event| event.data.iter().map(|(_, datum)| format!("{datum:?} ")).collect()).collect()
}

#[test]
fn a_process_that_the_kernel_kills_for_its_memory_restarts_in_place_under_the_crash_back_off() {
    let script = Script { crashes_at: |_| Some(seconds(3)), says: Some(ProcessEnd::OutOfMemory), ..OBEDIENT };
    let world = world(script, config(2));
    let mut spec = deployment(EDGE, 1);
    spec.template.pre_stop = Some(seconds(5));
    world.cluster.apply_deployment(spec, None);
    world.run_to(60);
    let story = world.story(3);
    let one_run = ["sigkill", "container_exited", "pod_unready", "container_started", "pod_ready"];
    assert_eq!(story[..10], [one_run, one_run].concat(), "no hook, no SIGTERM");
    assert_eq!(data(&world, "sigkill")[0], "Text(\"OOMKilled\") ");
    assert_eq!(data(&world, "container_exited")[0], "Number(137) Text(\"OOMKilled\") ");
    let (starts, exits) = (world.times("container_started"), world.times("container_exited"));
    assert!(starts[1] - exits[0] <= 1000, "the first restart is immediate: {starts:?} {exits:?}");
    // The second waits 10 s after its exit, and is noticed at a sync within 15 s more.
    assert!((10_000..26_000).contains(&(starts[2] - exits[1])), "{starts:?} {exits:?}");
    let pods = world.cluster.pod_records();
    assert_eq!((pods.len(), world.times("pod_scheduled").len()), (1, 1), "the same pod on the same node");
    let oom = pods[0].killed.expect("it was killed");
    assert_eq!(oom.why, KillCause::OutOfMemory);
    assert_eq!(Some(&ms(oom.at)), exits.last());
    let last_start = starts.iter().copied().rfind(|start| *start > ms(oom.at));
    assert_eq!(oom.restarted_at.map(ms), last_start);
}

#[test]
fn a_process_that_ends_by_itself_tells_its_code_and_restarts_even_after_success() {
    for (says, code) in [(None, 1), (Some(ProcessEnd::Exited(0)), 0), (Some(ProcessEnd::Exited(3)), 3)] {
        let script = Script { crashes_at: |run| (run == 0).then_some(seconds(3)), says, ..OBEDIENT };
        let world = world(script, config(1));
        world.cluster.apply_deployment(deployment(EDGE, 1), None);
        world.run_to(10);
        assert_eq!(data(&world, "container_exited"), [format!("Number({code}) ")]);
        assert_eq!((world.times("container_started").len(), world.times("sigkill").len()), (2, 0));
        assert_eq!(world.cluster.pod_records()[0].killed, None);
        // A list tells when the run before the present one ended.
        let view = world.cluster.pod_views(EDGE).remove(0);
        assert_eq!((view.restarts, view.last_exit.map(ms)), (1, Some(world.times("container_exited")[0])));
    }
}

#[test]
fn a_process_killed_for_its_memory_on_its_way_to_the_end_is_not_killed_again() {
    let script = Script { crashes_at: |_| Some(seconds(12)), exits_after: seconds(20), ..OBEDIENT };
    let world = world(Script { says: Some(ProcessEnd::OutOfMemory), ..script }, config(1));
    world.cluster.apply_deployment(deployment(EDGE, 1), None);
    world.run_to(10);
    world.cluster.scale(EDGE, 0, None);
    world.run_to(60);
    assert_eq!(
        world.story(10),
        ["replicaset_scaled", "pod_terminating", "sigterm", "sigkill", "container_exited", "pod_gone"]
    );
    assert_eq!(world.times("container_exited"), [world.times("container_started")[0] + 12_000]);
}

#[test]
fn a_process_that_ends_during_its_hook_gets_no_signal() {
    let script = Script { crashes_at: |_| Some(seconds(30)), ..OBEDIENT };
    let world = world(script, config(1));
    let mut spec = deployment(EDGE, 1);
    spec.template.pre_stop = Some(seconds(15));
    world.cluster.apply_deployment(spec, None);
    world.run_to(20);
    world.cluster.scale(EDGE, 0, None);
    world.run_to(60);
    let story = world.story(20);
    assert_eq!(story, ["replicaset_scaled", "pod_terminating", "prestop_started", "container_exited", "pod_gone"]);
    let started = world.times("container_started")[0];
    assert_eq!(world.times("pod_gone"), [started + 30_000]);
}

#[test]
fn a_deletion_during_the_crash_back_off_finds_nothing_to_stop() {
    let script = Script { crashes_at: |_| Some(seconds(1)), ..OBEDIENT };
    let world = world(script, config(1));
    world.cluster.apply_deployment(deployment(EDGE, 1), None);
    world.run_to(12);
    assert_eq!(world.times("container_exited").len(), 2, "it waits for its second restart");
    world.cluster.scale(EDGE, 0, None);
    world.run_to(13);
    assert_eq!(world.story(12), ["replicaset_scaled", "pod_terminating", "pod_gone"]);
}

#[test]
fn a_pod_that_waits_for_room_gets_it_when_another_leaves() {
    let world = world(OBEDIENT, config(1));
    world.cluster.apply_deployment(deployment(EDGE, 4), None);
    world.run_to(10);
    world.cluster.apply_deployment(deployment("ns/other", 1), None);
    world.run_to(100);
    assert_eq!(world.times("pod_unschedulable").len(), 1);
    let polls = world.sim.polls_total();
    world.run_to(200);
    assert!(world.sim.polls_total() - polls <= 2, "waiting costs nothing");
    world.cluster.scale(EDGE, 3, None);
    world.run_to(300);
    let gone = world.times("pod_gone");
    assert_eq!((gone.len(), world.times("pod_scheduled").last()), (1, gone.last()));
    assert_eq!(world.cluster.counts("ns/other").ready, 1);
}

#[test]
fn the_back_off_of_the_scheduler_holds_even_when_there_is_room() {
    let world = world(Script { exits_after: millis(100), ..OBEDIENT }, config(1));
    world.cluster.apply_deployment(deployment(EDGE, 4), None);
    world.run_to(10);
    world.cluster.scale(EDGE, 3, None);
    world.cluster.apply_deployment(deployment("ns/other", 1), None);
    world.run_to(20);
    // Tried at 10.03 s, when the old pod still held its room until 10.13 s: the next attempt is at least a second later, when the
    // scheduler looks at its queue, which it does in this run 14 ms after each full second.
    assert_eq!(world.times("pod_unschedulable"), [10_030]);
    assert_eq!(world.times("pod_gone"), [10_130]);
    assert_eq!(world.times("pod_scheduled").last(), Some(&12_014));
}

#[test]
fn an_image_is_pulled_once_per_node_and_all_wait_for_it() {
    let mut config = config(1);
    config.image_pull = Delay::Constant(seconds(20));
    let world = world(OBEDIENT, config);
    world.cluster.apply_deployment(deployment(EDGE, 2), None);
    world.run_to(15);
    world.cluster.scale(EDGE, 3, None);
    world.run_to(30);
    world.cluster.scale(EDGE, 4, None);
    world.run_to(60);
    // Two at 20.03 + 2, the one that came in mid-pull with them, the late one after its start alone.
    assert_eq!(world.times("container_started"), [22_030, 22_030, 22_030, 32_030]);
}

#[test]
fn an_endpoint_is_told_when_its_state_changes_and_never_else() {
    let world = world(OBEDIENT, config(1));
    world.cluster.apply_service(service("ns/svc"));
    let seen = watch(&world, "ns/svc", "lb");
    let mut spec = deployment(EDGE, 2);
    spec.template.probes.readiness = probe(READINESS);
    spec.template.pre_stop = Some(seconds(2));
    world.cluster.apply_deployment(spec, None);
    world.run_to(10);
    world.cluster.scale(EDGE, 1, None);
    world.run_to(12);
    // Another change while the first pod is being stopped must not tell it again.
    world.cluster.scale(EDGE, 2, None);
    world.run_to(40);
    let log = world.log.borrow();
    let told: Vec<String> = log
        .events()
        .iter()
        .filter(|event| event.kind == "endpoint" && ms(event.at) >= 10_000)
        .map(|event| {
            let cause = log.causes(event.id).nth(1).map(|cause| cause.kind);
            format!("{} {}", ms(event.at), cause.unwrap_or("nothing"))
        })
        .collect();
    let expected = ["10020 pod_terminating", "14030 container_started", "14030 pod_ready", "17030 pod_gone"];
    assert_eq!(told, expected);
    let last = seen.borrow().last().cloned();
    assert_eq!(last, Some((17_330, "110 110".to_owned())));
}

#[test]
fn every_consumer_sees_a_change_after_a_delay_of_its_own_and_in_order() {
    let mut config = config(1);
    config.endpoint_propagation = Delay::Uniform { min: millis(100), max: seconds(3) };
    let world = world(OBEDIENT, config);
    world.cluster.apply_service(service("ns/svc"));
    let (one, two) = (watch(&world, "ns/svc", "proxy"), watch(&world, "ns/svc", "balancer"));
    world.cluster.apply_deployment(deployment(EDGE, 4), None);
    world.run_to(20);
    let states = |seen: &Rc<RefCell<Vec<(u64, String)>>>| {
        seen.borrow().iter().map(|(_, states)| states.clone()).collect::<Vec<_>>()
    };
    let times = |seen: &Rc<RefCell<Vec<(u64, String)>>>| seen.borrow().iter().map(|(at, _)| *at).collect::<Vec<_>>();
    assert_eq!(states(&one), states(&two));
    assert_ne!(times(&one), times(&two));
    assert!(times(&one).is_sorted());
    // Applied again, the service keeps its watchers.
    world.cluster.apply_service(service("ns/svc"));
    world.cluster.scale(EDGE, 0, None);
    world.run_to(60);
    assert_eq!(states(&one).last().map(String::as_str), Some(""));
}

#[test]
fn a_rollout_that_cannot_move_is_told_stuck_once_and_goes_on_when_it_can() {
    let world = world(OBEDIENT, config(1));
    let mut spec = deployment(EDGE, 4);
    spec.progress_deadline_seconds = Some(30);
    spec.strategy = Strategy::RollingUpdate { max_surge: IntOrPercent::Int(1), max_unavailable: IntOrPercent::Int(0) };
    world.cluster.apply_deployment(spec.clone(), None);
    world.run_to(20);
    world.cluster.restart(EDGE, None);
    world.run_to(300);
    // The surge pod finds no room. The last progress is its creation, 40 ms after the restart; the look comes a second late.
    let stuck = world.times("rollout_stuck");
    assert_eq!(stuck.len(), 1);
    assert!((51_000..51_200).contains(&stuck[0]), "{stuck:?}");
    assert!(world.cluster.rollouts()[0].ended_at.is_none());
    let polls = world.sim.polls_total();
    world.run_to(3600);
    assert!(world.sim.polls_total() - polls < 200, "a stuck rollout costs next to nothing");
    let mut looser = world.cluster.deployment(EDGE).unwrap();
    looser.strategy =
        Strategy::RollingUpdate { max_surge: IntOrPercent::Int(1), max_unavailable: IntOrPercent::Int(1) };
    world.cluster.apply_deployment(looser, None);
    world.run_to(4000);
    assert!(world.cluster.is_settled(EDGE));
    assert_eq!(world.times("rollout_completed").len(), 1);
}

#[test]
fn an_undo_in_mid_rollout_takes_the_old_set_up_again() {
    let world = world(OBEDIENT, config(4));
    let spec = deployment(EDGE, 8);
    world.cluster.apply_deployment(spec.clone(), None);
    world.run_to(20);
    let first: Vec<_> = world.cluster.pod_records().iter().map(|record| Rc::clone(&record.name)).collect();
    world.cluster.restart(EDGE, None);
    world.run_to(21);
    world.cluster.apply_deployment(spec, None);
    world.run_to(100);
    assert!(world.cluster.is_settled(EDGE));
    let rollouts = world.cluster.rollouts();
    assert_eq!(rollouts.iter().map(|rollout| rollout.revision).collect::<Vec<_>>(), [2, 3]);
    assert!(rollouts[0].ended_at.is_none() && rollouts[1].ended_at.is_some());
    let records = world.cluster.pod_records();
    let kept = records.iter().filter(|record| first.contains(&record.name) && record.terminating_at.is_none()).count();
    assert_eq!(kept, 6, "the two that had gone at once are replaced, the others stay");
}

#[test]
fn the_draws_of_a_deployment_do_not_depend_on_its_neighbours() {
    let lives = |neighbours: i32| {
        let mut config = config(8);
        config.pod_start = Delay::Uniform { min: seconds(1), max: seconds(9) };
        config.hop = Delay::Uniform { min: millis(1), max: millis(50) };
        let world = world(OBEDIENT, config);
        if neighbours > 0 {
            world.cluster.apply_deployment(deployment("ns/other", neighbours), None);
        }
        world.cluster.apply_deployment(deployment(EDGE, 5), None);
        world.run_to(30);
        world.cluster.restart(EDGE, None);
        world.run_to(100);
        let own = world.cluster.pod_records().into_iter().filter(|record| &*record.owner == EDGE);
        own.map(|record| (record.name, record.created_at, record.started_at)).collect::<Vec<_>>()
    };
    assert_eq!(lives(0), lives(7));
}

#[test]
fn the_most_crowded_node_loses_its_pods_first() {
    let mut nodes = config(2);
    nodes.nodes[0].allocatable.cpu_millicores = 16_000;
    let world = world(OBEDIENT, nodes);
    // Six pods cannot be even over a node of 4 and one of 16: fill the small one with another's pods first.
    world.cluster.apply_deployment(deployment("ns/other", 4), None);
    world.run_to(10);
    world.cluster.apply_deployment(deployment(EDGE, 8), None);
    world.run_to(20);
    let on_node = |world: &World| {
        let mut counts = BTreeMap::new();
        for record in world.cluster.pod_records() {
            if &*record.owner == EDGE && record.terminating_at.is_none() {
                *counts.entry(record.node.unwrap()).or_insert(0) += 1;
            }
        }
        counts.into_values().collect::<Vec<i32>>()
    };
    let before = on_node(&world);
    world.cluster.scale(EDGE, 4, None);
    world.run_to(40);
    let after = on_node(&world);
    assert!(before[0] > before[1], "{before:?}");
    // Counted once, not anew after each: the crowded node alone pays.
    assert_eq!((after[0], after[1]), (before[0] - 4, before[1]));
}

#[test]
fn a_quiet_hour_of_two_hundred_nodes_costs_its_probes_only() {
    let world = world(OBEDIENT, config(200));
    let mut spec = deployment(EDGE, 100);
    spec.template.probes.readiness = Some(Probe { spec: ProbeSpec::default(), ..probe(READINESS).unwrap() });
    world.cluster.apply_deployment(spec, None);
    world.cluster.apply_deployment(deployment("ns/plain", 300), None);
    world.run_to(60);
    assert!(world.cluster.is_settled(EDGE) && world.cluster.is_settled("ns/plain"));
    let polls = world.sim.polls_total();
    world.run_to(3660);
    // 100 pods, a probe in ten seconds: a poll for each, and one for those that come at one instant.
    let spent = world.sim.polls_total() - polls;
    assert!((30_000..=36_000).contains(&spent), "{spent}");
}

#[test]
fn a_default_rollout_of_ten_keeps_within_its_quarters() {
    let mut config = config(6);
    config.pod_start = Delay::Uniform { min: seconds(1), max: seconds(20) };
    let world = world(OBEDIENT, config);
    world.cluster.apply_deployment(deployment(EDGE, 10), None);
    world.run_to(60);
    world.cluster.restart(EDGE, None);
    for tenth in 600..3000 {
        world.sim.run_until(SimTime::ZERO.after(millis(tenth * 100))).unwrap();
        let counts = world.cluster.counts(EDGE);
        assert!(counts.active <= 13 && counts.available >= 8, "{counts:?} at {tenth}");
    }
    assert!(world.cluster.is_settled(EDGE));
    let rollout = &world.cluster.rollouts()[0];
    assert_eq!((rollout.pods_max, rollout.ready_min), (13, 8));
}
