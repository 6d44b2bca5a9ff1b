//! Deployments and their sets.

use gatedrill::cluster::deployment::{
    Fenceposts, PodPhase, ReplicaSetView, Strategy, reconcile_new, reconcile_old, scale_in_proportion,
};
use gatedrill::cluster::int_or_percent::IntOrPercent;
use gatedrill::cluster::replica_set::{AgeScale, Candidate, choose_to_delete};

use super::world::{EDGE, OBEDIENT, World, at, deployment};

fn rolling(surge: IntOrPercent, unavailable: IntOrPercent) -> Strategy {
    Strategy::RollingUpdate { max_surge: surge, max_unavailable: unavailable }
}

/// A set of this size, all of whose pods are there and so many available.
fn set(created: i64, replicas: i32, available: i32) -> ReplicaSetView {
    ReplicaSetView {
        replicas,
        status_replicas: replicas,
        ready: available,
        available,
        created,
        desired_annotation: None,
        max_annotation: None,
        revision: Some(created),
        is_deleting: false,
    }
}

#[test]
fn a_sync_grows_or_shrinks_and_what_is_ending_counts_nowhere() {
    // Two sizes could change here: the new set may grow by two, and an old pod is one too many. Only the first happens.
    let strategy = rolling(IntOrPercent::Int(2), IntOrPercent::Int(1));
    assert_eq!(reconcile_new(strategy, 6, &set(2, 0, 0), &[set(1, 6, 6)]), 2);
    let world = World::with(OBEDIENT, &["a", "b", "c", "d"], deployment(6, 2, 1));
    world.image("edge:2");
    let (mut most_asked, mut most_there, mut both) = (0, 0, 0);
    let mut before = world.sizes();
    for _ in 0..4000 {
        world.pass_ms(10);
        let sizes = world.sizes();
        most_asked = most_asked.max(sizes.iter().sum::<i32>());
        most_there = most_there.max(world.pods());
        if let ([old, new], [old_before, new_before]) = (&sizes[..], &before[..]) {
            both += i32::from(old < old_before && new > new_before);
        }
        before = sizes;
    }
    assert!(world.cluster.is_settled(EDGE));
    assert_eq!((most_asked, both), (8, 0), "replicas + surge, one direction at a time");
    // Pods take five seconds to end and two to start, so three generations meet: all six old ones are still there when the last new ones come.
    assert!(most_there > 8, "{most_there} pods were there at a time");
    // A Recreate waits for every end.
    let mut spec = deployment(6, 0, 0);
    spec.strategy = Strategy::Recreate;
    let world = World::with(OBEDIENT, &["a", "b", "c", "d"], spec);
    world.image("edge:2");
    let mut most_there = 0;
    for _ in 0..4000 {
        world.pass_ms(10);
        most_there = most_there.max(world.pods());
    }
    assert!(world.cluster.is_settled(EDGE));
    assert_eq!(most_there, 6);
}

#[test]
fn ready_is_not_available_and_the_unhealthy_go_first() {
    let mut spec = deployment(4, 1, 0);
    spec.min_ready_seconds = 10;
    let world = World::with(OBEDIENT, &["a", "b"], spec);
    let ready_at = *world.times_ms("pod_ready").last().expect("four pods") / 1000;
    // Ready by 3 s; time stamps are whole seconds, and ten of them must have passed: at ten it is too early.
    let early = World::new(OBEDIENT, &["a", "b"]);
    let mut spec = deployment(4, 1, 0);
    spec.min_ready_seconds = 10;
    early.cluster.apply_deployment(spec, None);
    early.sim.run_until(at(ready_at + 10)).expect("it moves");
    let counts = early.cluster.counts(EDGE);
    assert_eq!((counts.ready, counts.available), (4, 0));
    early.pass_ms(1100);
    assert_eq!(early.cluster.counts(EDGE).available, 4);
    // Ten wanted, eight must be available. Of the younger old set four pods are not, and go though only one may by the count of those that
    // are; then one of the older set.
    let strategy = rolling(IntOrPercent::Int(3), IntOrPercent::Int(2));
    assert_eq!(reconcile_old(strategy, 10, &set(3, 3, 3), &[set(1, 5, 5), set(2, 5, 1)]), [4, 1]);
    // New pods that are not available yet protect as many old ones.
    assert_eq!(reconcile_old(strategy, 10, &set(3, 3, 0), &[set(1, 5, 5), set(2, 5, 1)]), [5, 3]);
}

#[test]
fn a_resize_in_mid_rollout_is_shared_out_in_proportion() {
    let sized =
        |created, replicas, max| ReplicaSetView { max_annotation: Some(max), ..set(created, replicas, replicas) };
    let scale = |desired, surge, new: ReplicaSetView, old: &[ReplicaSetView]| {
        let strategy = rolling(IntOrPercent::Int(surge), IntOrPercent::Int(1));
        scale_in_proportion(strategy, desired, 0, Some(&new), old)
    };
    // 10 + 3 become 15 + 3: 8 and 5 become 11 and 7. All to the new one would be 8 and 10.
    assert_eq!(scale(15, 3, sized(2, 5, 13), &[sized(1, 8, 13)]), (Some(7), vec![11]));
    // 3 + 1 become 5 + 1: a half is rounded away from zero, so 4.5 pods are 5, and nothing is left for the 1.5 of the other.
    assert_eq!(scale(5, 1, sized(2, 1, 4), &[sized(1, 3, 4)]), (Some(1), vec![5]));
    // 6 + 1 become 7 + 1: no share comes to a whole pod, and the largest set gets what is left; of two such the newer.
    assert_eq!(scale(7, 1, sized(3, 1, 7), &[sized(1, 3, 7), sized(2, 3, 7)]), (Some(1), vec![3, 4]));
}

#[test]
fn a_missed_deadline_changes_nothing_and_going_back_revives_the_old_set() {
    let mut spec = deployment(6, 2, 1);
    spec.progress_deadline_seconds = Some(60);
    let world = World::with(OBEDIENT, &["a", "b", "c"], spec);
    let old: Vec<u64> = world.cluster.pod_views(EDGE).iter().map(|pod| pod.id).collect();
    world.image("edge:bad");
    world.run_to(200);
    let progress = world.cluster.deployment_view(EDGE).and_then(|view| view.progressing);
    assert_eq!(progress, Some(("False", "ProgressDeadlineExceeded")));
    let since = world.times_ms("rollout_stuck")[0] - world.times_ms("rollout_started")[0];
    assert!((60_000..63_000).contains(&since), "{since} ms after its start");
    assert_eq!(world.sizes(), [5, 3], "it stands where it stuck: three that cannot start, one pod short");
    world.image("edge:1");
    world.run_to(230);
    assert!(world.cluster.is_settled(EDGE));
    let pods: Vec<u64> = world.cluster.pod_views(EDGE).iter().map(|pod| pod.id).collect();
    let kept = pods.iter().filter(|id| old.contains(id)).count();
    assert_eq!((pods.len(), kept), (6, 5), "five of the old pods were never touched");
    assert_eq!(world.cluster.set_views(EDGE).len(), 2, "no third set");
}

#[test]
fn a_smaller_size_takes_the_unready_the_cheap_the_crowded_and_the_roughly_youngest() {
    let now = at(10_000);
    let candidate = |uid: &str, age: u64| Candidate {
        is_assigned: true,
        phase: PodPhase::Running,
        is_ready: true,
        deletion_cost: 0,
        rank: 1,
        ready_since: Some(at(10_000 - age)),
        restarts: 0,
        created_at: Some(at(10_000 - age)),
        uid: uid.to_owned(),
    };
    let first = |pods: &[Candidate]| choose_to_delete(pods, 1, AgeScale::Logarithmic, now)[0];
    let young = candidate("a", 1);
    // Each of these is ten times as old, and goes before the young one all the same.
    let old = candidate("b", 10);
    assert_eq!(first(&[young.clone(), Candidate { is_ready: false, ..old.clone() }]), 1);
    assert_eq!(first(&[young.clone(), Candidate { deletion_cost: -1, ..old.clone() }]), 1);
    assert_eq!(first(&[young.clone(), Candidate { rank: 2, ..old.clone() }]), 1);
    assert_eq!(first(&[young.clone(), Candidate { is_assigned: false, ..old.clone() }]), 1);
    assert_eq!(first(&[young, old]), 0);
    // 18 and 34 seconds lie between the same powers of two of a nanosecond: the name decides, which is chance. 17 and 18 do not.
    assert_eq!(first(&[candidate("a", 34), candidate("b", 18)]), 0);
    assert_eq!(first(&[candidate("b", 34), candidate("a", 18)]), 1);
    assert_eq!(first(&[candidate("a", 18), candidate("b", 17)]), 1);
}

#[test]
fn one_pod_at_25_percent_is_safe_and_two_zeroes_become_one() {
    let quarter = IntOrPercent::Percent(25);
    let resolve = |surge, unavailable, desired| {
        let posts = Fenceposts::resolve(surge, unavailable, desired);
        (posts.surge, posts.unavailable)
    };
    // Up for the surge, down for what may be missing.
    assert_eq!(resolve(quarter, quarter, 1), (1, 0));
    assert_eq!(resolve(quarter, quarter, 3), (1, 0));
    assert_eq!(resolve(quarter, quarter, 4), (1, 1));
    assert_eq!(resolve(IntOrPercent::Int(0), quarter, 3), (0, 1), "both come to 0, and one pod may be missing");
    let availability = |strategy| {
        let mut spec = deployment(1, 1, 0);
        spec.strategy = strategy;
        let world = World::with(OBEDIENT, &["a", "b"], spec);
        world.image("edge:2");
        let mut least = usize::MAX;
        for _ in 0..3000 {
            world.pass_ms(10);
            least = least.min(world.cluster.counts(EDGE).available);
        }
        assert!(world.cluster.is_settled(EDGE));
        least
    };
    assert_eq!(availability(rolling(quarter, quarter)), 1);
    assert_eq!(availability(rolling(IntOrPercent::Int(0), quarter)), 0);
}
