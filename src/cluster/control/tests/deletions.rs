//! Deletions of pods that are being deleted already, and by force: who is found, what is left of the grace, and who waits for whom.

use super::*;
use crate::cluster::operation::{NodeChoice, NodeFailure, Operation, PodChoice};
use crate::engine::Datum;

const EDGE_POD: u64 = 0;

impl World {
    fn kill(&self, pod: PodChoice, grace_seconds: Option<u32>) {
        let because = self.cluster.tell(None, "timeline", "test".to_owned(), Vec::new());
        let owner = Rc::from(EDGE);
        self.cluster.operate(&Operation::KillPod { owner, pod, grace_seconds }, because);
    }

    fn fail(&self, node: &str, failure: NodeFailure, back_after: Option<Duration>) {
        let because = self.cluster.tell(None, "timeline", "test".to_owned(), Vec::new());
        let node = NodeChoice::Named(Rc::from(node));
        self.cluster.operate(&Operation::FailNode { node, failure, back_after }, because);
    }

    /// Milliseconds after the first minute of every event of a kind of the first pod.
    fn of_first(&self, kind: &str) -> Vec<u64> {
        let record = self.cluster.pod_records().into_iter().find(|record| record.id == EDGE_POD).unwrap();
        let object = format!("Pod/{}", record.key);
        let log = self.log.borrow();
        let told = log.events().iter().filter(|event| event.kind == kind && event.object == object);
        told.filter_map(|event| (event.at.as_nanos() / 1_000_000).checked_sub(60_000)).collect()
    }

    fn first_name(&self) -> PodChoice {
        let records = self.cluster.pod_records();
        PodChoice::Named(Rc::clone(&records.iter().find(|record| record.id == EDGE_POD).unwrap().name))
    }

    /// The object and the reason of what was not found, and the kind of the event that asked for it.
    fn not_found(&self) -> Vec<(String, String, &'static str)> {
        let log = self.log.borrow();
        let told = log.events().iter().filter(|event| event.kind == "nothing_found");
        told.map(|event| {
            let (_, Datum::Text(reason)) = &event.data[0] else { unreachable!("a reason is a text") };
            let because = log.events().iter().find(|other| Some(other.id) == event.because).unwrap();
            (event.object.clone(), reason.clone(), because.kind)
        })
        .collect()
    }
}

/// One pod whose process takes a minute from its SIGTERM on, if nobody kills it.
fn slow(pre_stop: Option<Duration>) -> World {
    let world = world(1, 2, Duration::ZERO, seconds(60));
    let mut spec = deployment(1, 1, 0);
    spec.template.pre_stop = pre_stop;
    world.settled(spec);
    world
}

#[test]
fn a_second_deletion_shortens_and_never_prolongs() {
    // (the second request's grace, SIGKILL, whether it changes anything).
    for (second, sigkill, changes) in [
        (None, 30_010, false),
        (Some(30), 30_010, false),
        (Some(29), 32_000, true),
        (Some(5), 8_000, true),
        (Some(1), 5_000, true),
    ] {
        let world = slow(None);
        world.kill(PodChoice::Ordinal(EDGE_POD), None);
        world.run_to(63);
        // By name it is found too, though it is being deleted.
        world.kill(world.first_name(), second);
        world.run_to(120);
        assert_eq!(world.of_first("sigterm"), [10], "{second:?}: once");
        assert_eq!(world.of_first("sigkill"), [sigkill], "{second:?}");
        assert_eq!(world.of_first("pod_terminating"), [0]);
        assert_eq!(world.of_first("pod_grace_shortened"), if changes { vec![3000] } else { vec![] }, "{second:?}");
        assert_eq!(world.of_first("container_exited"), [sigkill]);
        let told = world.not_found();
        assert_eq!(told.len(), usize::from(!changes), "{second:?}");
        if let [(object, reason, because)] = &told[..] {
            assert!(object.starts_with("Pod/ns/edge-") && *because == "timeline", "{object}");
            assert_eq!(reason, "it is being deleted already, and its grace of 30 s can only be shortened");
        }
    }
}

#[test]
fn a_hook_begins_anew_within_the_shorter_grace() {
    let world = slow(Some(seconds(20)));
    world.kill(PodChoice::Ordinal(EDGE_POD), None);
    world.run_to(65);
    world.kill(PodChoice::Ordinal(EDGE_POD), Some(3));
    world.run_to(120);
    assert_eq!(world.of_first("prestop_started"), [10, 5000]);
    // The hook is given up when the grace is over, and then there are the least two seconds.
    assert_eq!((world.of_first("sigterm"), world.of_first("sigkill")), (vec![8000], vec![10_000]));
}

#[test]
fn by_force_the_object_goes_at_once_and_the_container_after_it() {
    let world = slow(None);
    let address = world.cluster.pod_records()[0].ip.unwrap();
    world.kill(PodChoice::Oldest, Some(0));
    world.run_to(61);
    assert_eq!((world.of_first("pod_terminating"), world.of_first("pod_gone")), (vec![0], vec![0]));
    assert_eq!(world.cluster.counts(EDGE).terminating, 0);
    world.run_to(120);
    assert_eq!((world.of_first("sigterm"), world.of_first("sigkill")), (vec![10], vec![2010]));
    let record = world.cluster.pod_records().into_iter().find(|record| record.id == EDGE_POD).unwrap();
    let since = |at: Option<SimTime>| at.unwrap().as_nanos() / 1_000_000 - 60_000;
    assert_eq!((since(record.gone_at), since(record.sigterm_at), since(record.exited_at)), (0, 10, 2010));
    assert_eq!(world.runtime.released.borrow()[..], [(64_010, address)]);
    assert!(world.cluster.is_settled(EDGE));
    // It is found by nobody any more.
    world.kill(world.first_name(), Some(0));
    world.kill(PodChoice::Ordinal(EDGE_POD), None);
    world.kill(PodChoice::Unready, None);
    let told = world.not_found();
    let reasons: Vec<(&str, &str)> = told.iter().map(|(_, reason, because)| (&**reason, *because)).collect();
    assert_eq!(
        reasons,
        [
            ("there is no such pod", "timeline"),
            ("its pod 0 is gone, or was never made", "timeline"),
            ("none of its pods runs without being ready", "timeline")
        ]
    );
    assert!(told[0].0.starts_with("Pod/ns/edge-") && told[1].0 == "Deployment/ns/edge");
}

#[test]
fn who_is_being_deleted_can_still_be_forced() {
    let world = slow(None);
    world.kill(PodChoice::Oldest, None);
    world.run_to(65);
    assert_eq!(world.of_first("pod_gone"), [] as [u64; 0]);
    world.kill(PodChoice::Ordinal(EDGE_POD), Some(0));
    world.run_to(120);
    assert_eq!((world.of_first("pod_gone"), world.of_first("sigkill")), (vec![5000], vec![7000]));
}

#[test]
fn a_pod_on_a_dead_node_goes_by_force_only_and_a_recreate_waits_for_that() {
    for (grace, is_gone) in [(Some(1), false), (Some(0), true)] {
        let world = slow(None);
        let mut spec = world.cluster.deployment(EDGE).unwrap();
        spec.strategy = Strategy::Recreate;
        world.cluster.apply_deployment(spec, None);
        let node = world.cluster.pod_records()[0].node.clone().unwrap();
        // Nobody knows yet that it is dead: the new pod is not to come there.
        world.cluster.cordon(&node, true);
        world.fail(&node, NodeFailure::Machine, None);
        world.cluster.restart(EDGE, None);
        world.run_to(100);
        assert!(!world.cluster.is_settled(EDGE));
        world.kill(PodChoice::Ordinal(EDGE_POD), grace);
        world.run_to(200);
        assert_eq!(world.of_first("pod_gone"), if is_gone { vec![40_000] } else { vec![] }, "{grace:?}");
        assert_eq!(world.cluster.is_settled(EDGE), is_gone, "{grace:?}");
    }
}

#[test]
fn a_kubelet_that_is_cut_off_ends_a_forced_pod_when_it_hears_of_it() {
    let world = slow(None);
    let node = world.cluster.pod_records()[0].node.clone().unwrap();
    world.fail(&node, NodeFailure::Partition, Some(seconds(30)));
    world.run_to(70);
    world.kill(PodChoice::Ordinal(EDGE_POD), Some(0));
    world.run_to(89);
    assert_eq!((world.of_first("pod_gone"), world.of_first("sigterm")), (vec![10_000], vec![]));
    world.run_to(120);
    assert_eq!((world.of_first("sigterm"), world.of_first("container_exited")), (vec![30_010], vec![32_010]));
}
