//! Pods that wait for a node: who is woken first.

use super::*;
use crate::cluster::operation::Operation;

/// One pod of this priority that takes a whole node.
fn whole(name: &str, priority: i32) -> Deployment {
    let mut spec = deployment(1, 1, 0);
    spec.key = Rc::from(format!("ns/{name}"));
    spec.template.requests = Resources { cpu_millicores: 4000, memory_bytes: 1 << 20 };
    spec.template.placement.priority = priority;
    spec
}

#[test]
fn the_highest_priority_is_woken_first_and_equals_in_their_order() {
    for (priorities, order) in [
        ([0, 0, 0], ["a", "b", "c"]),
        ([0, 5, 10], ["c", "b", "a"]),
        ([5, -1, 5], ["a", "c", "b"]),
        ([-1, 7, 0], ["b", "c", "a"]),
    ] {
        let world = world(1, 0, Duration::ZERO, seconds(1));
        for (name, priority) in ["a", "b", "c"].iter().zip(priorities) {
            world.cluster.apply_deployment(whole(name, priority), None);
            world.run_to(world.sim.now().as_nanos() / 1_000_000_000 + 1);
        }
        // Whatever their back-off, it is over by then.
        for (number, name) in order.iter().enumerate() {
            world.run_to(100 * (number as u64 + 1));
            let node = config(number + 1).nodes.pop().unwrap();
            let because = world.cluster.tell(None, "timeline", "test".to_owned(), Vec::new());
            world.cluster.operate(&Operation::AddNodes(vec![node]), because);
            world.run_to(100 * (number as u64 + 1) + 20);
            let placed: Vec<String> = world
                .cluster
                .pod_records()
                .iter()
                .filter(|record| {
                    record.scheduled_at.is_some_and(|at| at >= SimTime::ZERO.after(seconds(100 * (number as u64 + 1))))
                })
                .map(|record| record.owner.to_string())
                .collect();
            assert_eq!(placed, [format!("ns/{name}")], "{priorities:?}, node {number}");
        }
    }
}

#[test]
fn of_many_that_wait_for_several_kinds_of_change_each_is_woken_once_and_in_order() {
    use crate::cluster::scheduler::Change;
    let sim = Sim::new();
    let changes: Rc<Changes> = Rc::default();
    let woken: Rc<RefCell<Vec<&'static str>>> = Rc::default();
    for (name, priority, kinds) in [
        ("low", -5, [Change::NodeAdded, Change::PodGone]),
        ("high", 9, [Change::NodeAdded, Change::PodGone]),
        ("middle", 1, [Change::NodeTaints, Change::NodeAdded]),
        ("other", 100, [Change::NodeTaints, Change::PodGone]),
    ] {
        let (changes, woken) = (Rc::clone(&changes), Rc::clone(&woken));
        sim.spawn("waiting", async move {
            changes.any_since(&BTreeSet::from(kinds), 0, priority).await;
            woken.borrow_mut().push(name);
        });
    }
    sim.run_until(SimTime::ZERO.after(seconds(1))).unwrap();
    assert_eq!(*woken.borrow(), [] as [&str; 0]);
    changes.raise(Change::NodeAdded);
    sim.run_until(SimTime::ZERO.after(seconds(2))).unwrap();
    assert_eq!(*woken.borrow(), ["high", "middle", "low"]);
    changes.raise(Change::PodGone);
    sim.run_until(SimTime::ZERO.after(seconds(3))).unwrap();
    assert_eq!(*woken.borrow(), ["high", "middle", "low", "other"]);
}
