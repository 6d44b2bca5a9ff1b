//! The nodes of a world, as its balancer and its lost requests have to do with them.

use std::rc::Rc;

use super::World;
use crate::cluster::Cluster;
use crate::edge::LoadBalancer;
use crate::edge::load_balancer::NodeTarget;
use crate::engine::EventId;
use crate::load::Finished;

impl World {
    /// A node's view of the endpoints of the balancer's Service.
    pub(super) fn start_kube_proxy(&self, cluster: &Cluster, balancer: &LoadBalancer, node: &Rc<str>) {
        let service = &self.config.front.balancer.service;
        let Some(mut watch) = cluster.watch_endpoints(service, &format!("kube-proxy/{node}")) else { return };
        let (balancer, name) = (balancer.clone(), Rc::clone(node));
        self.around.sim.spawn("kube-proxy", async move {
            loop {
                let seen = watch.next().await;
                balancer.handle_node_endpoints(&name, seen.to_vec());
            }
        });
    }

    /// Tells the balancer's controller which nodes there are, and starts what runs on new ones.
    pub(super) fn watch_nodes(self: &Rc<Self>, cluster: &Cluster, balancer: &LoadBalancer) {
        let (world, cluster, balancer) = (Rc::downgrade(self), cluster.clone(), balancer.clone());
        self.around.sim.spawn("cloud-controller-nodes", async move {
            let mut seen = cluster.node_changes();
            let mut started: Vec<Rc<str>> = cluster.nodes().iter().map(|(name, _)| Rc::clone(name)).collect();
            loop {
                seen = cluster.nodes_changed_since(seen).await;
                let Some(world) = world.upgrade() else { return };
                for (name, _) in cluster.nodes() {
                    if !started.contains(&name) {
                        world.start_kube_proxy(&cluster, &balancer, &name);
                        started.push(name);
                    }
                }
                let ready = cluster.ready_nodes().into_iter().map(|(name, ip)| NodeTarget { name, ip });
                balancer.handle_nodes(ready.collect());
            }
        });
    }

    /// The death of the node that a request was sent to, or went through, before its end.
    pub(super) fn node_death(&self, finished: &Finished) -> Option<EventId> {
        let sight = &finished.sight;
        let of_target =
            sight.target.and_then(|target| self.cluster().death_at(*target.ip(), sight.tried_at, finished.ended_at));
        let balancer = self.balancer.borrow();
        let on_the_way = || balancer.as_ref()?.cut_by_death(sight.connection?);
        of_target.or_else(on_the_way)
    }
}
