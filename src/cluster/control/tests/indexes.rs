//! What controllers look up is what a look at every pod would have found.

use super::*;
use crate::cluster::disruption::{Budget, DisruptionBudget, UnhealthyPods};
use crate::cluster::drain::DrainSettings;
use crate::cluster::operation::{NodeChoice, NodeFailure, Operation};
use crate::cluster::selector::LabelSelector;

/// Namespaces of which one's name begins with the other's, and comes before it where names are compared with what follows.
const NAMESPACES: [&str; 2] = ["ns", "ns-a"];

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), "edge".to_owned())])
}

impl World {
    /// The addresses that a Service of a namespace should have, with ready, serving and terminating, from all pods there are.
    fn naive_endpoints(&self, namespace: &str) -> Vec<(Ipv4Addr, [bool; 3])> {
        let state = self.cluster.inner.state.borrow();
        let pods = state.pods.values().filter(|pod| &*pod.record.namespace == namespace && !pod.phase.is_over());
        pods.filter_map(|pod| {
            let ready = pod.is_ready && !pod.is_deleting();
            Some((pod.ip?, [ready, pod.is_ready, pod.is_deleting()]))
        })
        .collect()
    }

    fn told_endpoints(&self, namespace: &str) -> Vec<(Ipv4Addr, [bool; 3])> {
        let state = self.cluster.inner.state.borrow();
        let service = &state.services.known[&*format!("{namespace}/edge")];
        let told = service.snapshot.iter();
        told.map(|endpoint| (endpoint.ip, [endpoint.ready, endpoint.serving, endpoint.terminating])).collect()
    }
}

#[test]
fn endpoints_and_budgets_are_those_of_their_own_namespace_whatever_happens() {
    let world = world(1, 4, seconds(1), seconds(3));
    for namespace in NAMESPACES {
        let mut spec = deployment(6, 2, 1);
        spec.key = Rc::from(format!("{namespace}/edge"));
        spec.template.requests.cpu_millicores = 100;
        world.cluster.apply_deployment(spec, None);
        let key: Rc<str> = Rc::from(format!("{namespace}/edge"));
        let (selector, publish_not_ready) = (labels(), false);
        world.cluster.apply_service(Service {
            key: Rc::clone(&key),
            selector,
            publish_not_ready,
            face: ServiceFace::default(),
        });
        world.cluster.apply_budget(DisruptionBudget {
            key,
            selector: Some(LabelSelector::of_labels(labels())),
            budget: Some(Budget::MinAvailable(IntOrPercent::Int(1))),
            unhealthy: UnhealthyPods::IfHealthyBudget,
        });
    }
    let mut differing = 0;
    for second in 1..200 {
        world.run_to(second);
        let because = world.cluster.tell(None, "timeline", "test".to_owned(), Vec::new());
        let node = |number: usize| NodeChoice::Named(Rc::from(format!("node-{number}")));
        match second {
            60 => world.cluster.restart("ns/edge", None),
            70 => world.cluster.scale("ns-a/edge", 3, None),
            90 => {
                world.cluster.operate(&Operation::Drain { node: node(1), settings: DrainSettings::default() }, because)
            }
            110 => {
                let (failure, back_after) = (NodeFailure::Machine, Some(seconds(70)));
                world.cluster.operate(&Operation::FailNode { node: node(2), failure, back_after }, because);
            }
            _ => {}
        }
        for namespace in NAMESPACES {
            let told = world.told_endpoints(namespace);
            assert_eq!(told, world.naive_endpoints(namespace), "{namespace} at {second} s");
            differing += usize::from(told.iter().any(|(_, [ready, ..])| !ready));
        }
    }
    assert!(differing > 10, "something happened to the endpoints");
    let ready = NAMESPACES.map(|namespace| world.cluster.ready_endpoints(&format!("{namespace}/edge")).len());
    assert_eq!(ready, [6, 3]);
    let healthy =
        NAMESPACES.map(|namespace| world.cluster.budget(&format!("{namespace}/edge")).unwrap().status.current_healthy);
    assert_eq!(healthy, [6, 3]);
}
