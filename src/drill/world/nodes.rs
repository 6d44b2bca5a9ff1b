//! The nodes of a cluster, as its balancer and its lost requests have to do with them.

use std::rc::Rc;

use super::member::Member;
use crate::cluster::Cluster;
use crate::edge::kube_proxy::pace::SyncPace;
use crate::edge::load_balancer::NodeTarget;
use crate::edge::{BackendMode, LoadBalancer};
use crate::engine::EventId;
use crate::load::Finished;
use crate::units::SimTime;

impl Member {
    /// A node's kube-proxy: it hears of the endpoints of the balancer's Service, and writes rules for them when its pace allows.
    pub(super) fn start_kube_proxy(&self, cluster: &Cluster, balancer: &LoadBalancer, node: &Rc<str>) {
        let service = &self.config.front.balancer.service;
        let Some(mut watch) = cluster.watch_endpoints(service, &format!("kube-proxy/{node}")) else { return };
        let BackendMode::Nodes { min_sync_period, .. } = self.config.front.balancer.mode else { return };
        let (balancer, name, clock) = (balancer.clone(), Rc::clone(node), self.around.sim.clone());
        let cluster = cluster.clone();
        self.around.sim.spawn("kube-proxy", async move {
            let mut pace = SyncPace::new(min_sync_period);
            loop {
                let mut seen = watch.next().await;
                // A node that is cut off hears of nothing.
                cluster.reached(&name).await;
                // What the run finds has been written before it.
                if clock.now() > SimTime::ZERO {
                    clock.sleep_until(pace.next_run(clock.now())).await;
                }
                // What has come meanwhile is written with it.
                while let Some(newer) = watch.next_now() {
                    seen = newer;
                }
                balancer.handle_node_endpoints(&name, &seen);
            }
        });
    }

    /// Tells the balancer's controller which nodes there are, and starts what runs on new ones.
    pub(super) fn watch_nodes(self: &Rc<Self>, cluster: &Cluster, balancer: &LoadBalancer) {
        let (member, cluster, balancer) = (Rc::downgrade(self), cluster.clone(), balancer.clone());
        self.around.sim.spawn("cloud-controller-nodes", async move {
            let mut seen = cluster.node_changes();
            let mut started: Vec<Rc<str>> = cluster.nodes().iter().map(|(name, _)| Rc::clone(name)).collect();
            loop {
                seen = cluster.nodes_changed_since(seen).await;
                let Some(member) = member.upgrade() else { return };
                for (name, _) in cluster.nodes() {
                    if !started.contains(&name) {
                        member.start_kube_proxy(&cluster, &balancer, &name);
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
