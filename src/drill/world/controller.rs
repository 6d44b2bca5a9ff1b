//! The balancer's controller: it hears of endpoints, makes targets of them, and opens the gates of the pods that it has added.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::front::zones;
use super::member::Member;
use crate::cluster::Cluster;
use crate::edge::readiness_gate::{RECHECK, select};
use crate::edge::{LoadBalancer, LoadBalancerConfig};
use crate::engine::EventId;

impl Member {
    /// Makes targets of the endpoints of the balancer's Service.
    pub(super) fn watch_front(&self, cluster: &Cluster, config: &LoadBalancerConfig, balancer: &LoadBalancer) {
        let watch = cluster.watch_endpoints(&config.service, "cloud-controller-manager");
        let mut watch = watch.expect("the balancer's Service is among the world's");
        let gate: Rc<str> = Rc::from(config.ways.condition.as_str());
        let (opens, opened) = (cluster.clone(), Rc::clone(&gate));
        let open = Rc::new(move |ip: Ipv4Addr, event: Option<EventId>| opens.open_gate(ip, &opened, event));
        let by_target = Rc::clone(&open);
        balancer.when_registered(Rc::new(move |ip, event| by_target(ip, Some(event))));
        let (cluster, balancer, sim) = (cluster.clone(), balancer.clone(), self.around.sim.clone());
        let (streams, latency) = (self.around.streams, config.register_latency.clone());
        self.around.sim.spawn("cloud-controller-manager", async move {
            let mut seen = watch.next().await;
            let mut known = BTreeSet::new();
            loop {
                let selection = select(seen.to_vec(), |ip| cluster.gated_at(ip, &gate));
                if !balancer.is_cross_zone() {
                    balancer.set_node_zones(zones(&cluster));
                }
                balancer.handle_endpoints(&selection.endpoints);
                // Where nodes are the targets no pod is registered: its gate opens when its endpoint has been dealt with.
                let fresh = selection.endpoints.iter().filter(|endpoint| selection.gated.contains(&endpoint.ip));
                for endpoint in fresh.filter(|endpoint| balancer.reaches_nodes() && known.insert(endpoint.ip)) {
                    let (sim, open, ip, because) = (sim.clone(), Rc::clone(&open), endpoint.ip, endpoint.because);
                    let wait = latency.draw(&mut streams.stream("lb-register", &endpoint.pod));
                    sim.clone().spawn("lb-gate", async move {
                        sim.sleep(wait).await;
                        open(ip, because);
                    });
                }
                let limit = selection.looks_again.then(|| sim.now().after(RECHECK));
                if let Some(newer) = watch.next_by(limit).await {
                    seen = newer;
                }
            }
        });
    }
}
