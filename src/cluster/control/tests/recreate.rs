//! Rollouts by `Recreate`: when they begin, and what becomes of one that is overtaken while its old pods end.

use super::*;

fn recreated(world: &World) {
    let mut spec = deployment(2, 1, 0);
    spec.strategy = Strategy::Recreate;
    world.settled(spec);
    world.cluster.restart(EDGE, None);
}

/// The revision of each rollout, its start in milliseconds after the first minute, and its span if it was completed.
fn rollouts(world: &World) -> Vec<(i64, u64, Option<u64>)> {
    let ms = |at: SimTime| at.as_nanos() / 1_000_000;
    let all = world.cluster.rollouts();
    all.iter()
        .map(|it| (it.revision, ms(it.started_at) - 60_000, it.ended_at.map(|end| ms(end) - ms(it.started_at))))
        .collect()
}

#[test]
fn the_clock_runs_from_the_first_old_pods_end_on() {
    let mut spans = [0; 2];
    for (exits_after, span) in [8, 20].into_iter().zip(&mut spans) {
        let world = world(1, 3, Duration::ZERO, seconds(exits_after));
        recreated(&world);
        world.run_to(120);
        let found = rollouts(&world);
        let [(2, 10, Some(took))] = found[..] else { panic!("one rollout from the first sync on: {found:?}") };
        *span = took;
        // Nobody is ready in between, and of the old pods all were counted.
        let rollout = &world.cluster.rollouts()[0];
        assert_eq!((rollout.pods_max, rollout.ready_min), (2, 0));
        let kinds = world.kinds();
        let first = |kind| kinds.iter().rposition(|known| *known == kind).unwrap();
        assert!(first("rollout_started") < first("pod_terminating") && first("pod_gone") < first("replicaset_created"));
        assert_eq!(kinds.iter().filter(|kind| **kind == "rollout_started").count(), 1);
    }
    // The new pods take as long in both: the rest is the ends of the old ones.
    assert_eq!(spans[1] - spans[0], 12_000, "{spans:?}");
}

#[test]
fn another_template_while_the_old_pods_end_is_another_rollout() {
    let world = world(1, 3, Duration::ZERO, seconds(8));
    recreated(&world);
    world.run_to(64);
    world.cluster.restart(EDGE, None);
    world.run_to(120);
    let found = rollouts(&world);
    assert!(matches!(found[..], [(2, 10, None), (2, 4010, Some(_))]), "one set is made in the end: {found:?}");
    assert!(world.cluster.is_settled(EDGE));
}

#[test]
fn a_template_that_is_taken_back_while_the_old_pods_end_brings_their_set_back() {
    let world = world(1, 3, Duration::ZERO, seconds(8));
    let mut spec = deployment(2, 1, 0);
    spec.strategy = Strategy::Recreate;
    world.settled(spec.clone());
    world.cluster.restart(EDGE, None);
    world.run_to(64);
    world.cluster.apply_deployment(spec, None);
    world.run_to(120);
    let found = rollouts(&world);
    assert!(matches!(found[..], [(2, 10, None), (1, 4010, Some(_))]), "{found:?}");
    assert!(world.cluster.is_settled(EDGE));
    assert!(world.cluster.pod_records().iter().all(|record| record.revision == 1));
}

#[test]
fn a_rollout_that_does_not_recreate_begins_with_its_set() {
    let world = world(1, 3, Duration::ZERO, seconds(8));
    world.settled(deployment(2, 1, 0));
    world.cluster.restart(EDGE, None);
    world.run_to(120);
    let [(2, 10, Some(_))] = rollouts(&world)[..] else { panic!("{:?}", rollouts(&world)) };
    let kinds = world.kinds();
    let started = kinds.iter().position(|kind| *kind == "rollout_started").unwrap();
    assert_eq!(kinds[started + 1], "replicaset_created");
}
