//! A pod's containers, probes, restarts and end.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::deployment::PodPhase;
use gatedrill::cluster::kubelet::probe::ProbeSpec;
use gatedrill::cluster::{Probe, ProbeAction, Probes, ProcessEnd};

use super::world::{EDGE, OBEDIENT, Script, World, deployment, seconds};

const READINESS: u16 = 1;
const LIVENESS: u16 = 2;
const STARTUP: u16 = 3;

fn probe(port: u16, period_seconds: u32, failure_threshold: u32) -> Option<Probe> {
    let spec = ProbeSpec { period_seconds, failure_threshold, ..ProbeSpec::default() };
    Some(Probe { action: ProbeAction::Tcp { port }, spec })
}

/// From a pod's deletion to these events, in milliseconds; its process does not heed SIGTERM.
fn end_of_a_pod(pre_stop: Option<Duration>) -> (Vec<u64>, Vec<u64>) {
    let mut spec = deployment(1, 1, 0);
    spec.template.pre_stop = pre_stop;
    let world = World::with(Script { exits_after: seconds(600), ..OBEDIENT }, &["a"], spec);
    world.change(|spec| spec.replicas = 0);
    world.run_to(100);
    let begin = world.times_ms("pod_terminating")[0];
    let since = |kind| world.times_ms(kind).iter().map(|time| time - begin).collect();
    (since("sigterm"), since("sigkill"))
}

#[test]
fn the_grace_is_a_deadline_that_holds_for_the_hook_and_endpoints_leave_beside_it() {
    // The kubelet hears of the deletion 10 ms later. The hook's time is part of the grace of 30 s, which leaves two seconds at least.
    assert_eq!(end_of_a_pod(None), (vec![10], vec![30_010]));
    assert_eq!(end_of_a_pod(Some(seconds(20))), (vec![20_010], vec![30_010]));
    assert_eq!(end_of_a_pod(Some(seconds(29))), (vec![29_010], vec![31_010]));
    assert_eq!(end_of_a_pod(Some(seconds(90))), (vec![30_010], vec![32_010]));
    // Nobody waits for the consumers of endpoints: SIGTERM is there 290 ms before they hear that the pod goes.
    let world = World::with(OBEDIENT, &["a"], deployment(1, 1, 0));
    let mut watch = world.cluster.watch_endpoints(EDGE, "balancer").expect("the Service is there");
    let heard: Rc<RefCell<Vec<(u64, bool, bool)>>> = Rc::default();
    let (clock, notes) = (world.sim.clone(), Rc::clone(&heard));
    world.sim.spawn("balancer", async move {
        loop {
            let endpoints = watch.next().await;
            let now = clock.now().as_nanos() / 1_000_000;
            notes.borrow_mut().extend(endpoints.iter().map(|one| (now, one.ready, one.serving)));
        }
    });
    world.change(|spec| spec.replicas = 0);
    world.run_to(40);
    let (begin, sigterm) = (world.times_ms("pod_terminating")[0], world.times_ms("sigterm")[0]);
    assert_eq!(sigterm - begin, 10);
    assert_eq!(heard.borrow()[1], (begin + 300, false, true), "no longer ready, and still serving");
}

#[test]
fn readiness_is_asked_to_the_end_and_liveness_is_not() {
    // Both fail from an age of 20 s on. The pod is deleted at 15 s, and its hook runs for 25 s.
    let fails = Script { answers: |age, _| age < seconds(20), ..OBEDIENT };
    let mut spec = deployment(1, 1, 0);
    spec.template.pre_stop = Some(seconds(25));
    spec.template.probes = Probes { readiness: probe(READINESS, 1, 3), liveness: probe(LIVENESS, 1, 3), startup: None };
    let world = World::with(fails, &["a"], spec.clone());
    // Age 18 s.
    world.change(|spec| spec.replicas = 0);
    world.run_to(60);
    let (deleted, unready) = (world.times_ms("pod_terminating")[0], world.times_ms("pod_unready"));
    assert_eq!(unready.len(), 1);
    assert!((4000..6000).contains(&(unready[0] - deleted)), "three failures in a row, while it ends");
    assert_eq!(world.times_ms("sigterm").len(), 1, "one end, that of the deletion");
    // The same probes on a pod that stays end it.
    let stays = World::with(fails, &["a"], spec);
    stays.run_to(60);
    assert!(stays.times_ms("sigterm").len() == 1 && stays.times_ms("pod_terminating").is_empty());
    assert_eq!(stays.times_ms("container_started").len(), 2);
}

/// When the first event of a kind came, counted from the pod's binding, in milliseconds. Its process starts after 2 s.
fn after_binding(answers: fn(Duration, u16) -> bool, probes: Probes, kind: &str) -> u64 {
    let mut spec = deployment(1, 1, 0);
    spec.template.probes = probes;
    let world = World::with(Script { answers, ..OBEDIENT }, &["a"], spec);
    world.run_to(120);
    world.times_ms(kind)[0] - world.times_ms("pod_scheduled")[0]
}

#[test]
fn probes_tick_from_the_binding_and_readiness_is_asked_once_more() {
    let readiness = || Probes { readiness: probe(READINESS, 10, 3), ..Probes::default() };
    // Asked at the start of the container, besides the ticks.
    assert_eq!(after_binding(|_, _| true, readiness(), "pod_ready"), 2000);
    // Too early by a millisecond: the next tick is ten seconds after the binding, not after the start.
    assert_eq!(after_binding(|age, _| age >= Duration::from_millis(1), readiness(), "pod_ready"), 10_000);
    assert_eq!(after_binding(|age, _| age >= Duration::from_millis(8001), readiness(), "pod_ready"), 20_000);
    // Three failures in a row end a container: from an age of 20 s on, at the ticks 25, 30 and 35.
    let liveness = || Probes { liveness: probe(LIVENESS, 5, 3), ..Probes::default() };
    assert_eq!(after_binding(|age, _| age < seconds(20), liveness(), "sigterm"), 35_000);
    // One that passes in between begins the count anew: only the failure at 33 s and its two successors count.
    let blinks = |age: Duration, _: u16| age < seconds(20) || (30..33).contains(&age.as_secs());
    assert_eq!(after_binding(blinks, liveness(), "sigterm"), 35_000);
    let saved = |age: Duration, _: u16| age < seconds(20) || (30..34).contains(&age.as_secs());
    assert_eq!(after_binding(saved, liveness(), "sigterm"), 50_000);
    // Nothing else is asked before the startup probe has passed: for 30 s no liveness probe fails, though each would have.
    let slow = |age: Duration, port: u16| if port == STARTUP { age >= seconds(30) } else { age >= seconds(29) };
    let all = || Probes {
        readiness: probe(READINESS, 1, 1),
        liveness: probe(LIVENESS, 1, 1),
        startup: probe(STARTUP, 1, 60),
    };
    let ready = after_binding(slow, all(), "pod_ready");
    assert!((32_000..33_001).contains(&ready), "{ready}");
}

#[test]
fn the_first_restart_is_immediate_and_memory_kills_restart_in_place() {
    let script = Script { crash: Some((seconds(3), ProcessEnd::OutOfMemory)), ..OBEDIENT };
    let world = World::with(script, &["a", "b"], deployment(1, 1, 0));
    world.run_to(200);
    let (starts, exits) = (world.times_ms("container_started"), world.times_ms("container_exited"));
    let waits: Vec<u64> = starts[1..].iter().zip(&exits).map(|(start, exit)| start - exit).collect();
    // The end is seen at a relist, once a second. Then 10 s, 20 s, 40 s from the exit, looked at by syncs that are 10 to 15 s apart.
    assert!(waits[0] <= 1000, "{waits:?}");
    for (wait, least) in waits[1..4].iter().zip([10_000, 20_000, 40_000]) {
        assert!((least..least + 16_000).contains(wait), "{waits:?}");
    }
    // The same pod on the same node: nobody makes another.
    let pods = world.cluster.pod_records();
    assert_eq!((pods.len(), world.times_ms("pod_scheduled").len()), (1, 1));
    let views = world.cluster.pod_views(EDGE);
    assert_eq!(usize::try_from(views[0].restarts).expect("few"), starts.len() - 1);
    assert_eq!(PodPhase::Running < PodPhase::Failed, !views[0].is_deleting, "it has not failed");
}
