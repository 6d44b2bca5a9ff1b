//! Pushes of the whole configuration to the gateway's pods.
//!
//! The control plane sends each pod all that it should have: listeners, clusters, endpoints, routes. It arrives after the propagation delay, drawn for
//! each pod. A resource that is as it was is not applied again: Envoy compares what it gets with what it has, so nothing drains, no connection
//! closes, and no count begins anew. So a push for its own sake changes nothing for requests; what it shows is when each pod has the present
//! configuration.
//!
//! Source: envoy source/common/{router/route_config_provider_impl,upstream/cluster_manager_impl}.cc and
//! source/common/listener_manager/listener_manager_impl.cc (a hash of each resource decides); Istio pilot/pkg/xds (a full push to every proxy).

use std::rc::Rc;
use std::time::Duration;

use super::member::Member;
use crate::drill::process::GatewayProcess;
use crate::engine::EventId;
use crate::units::SimTime;

impl Member {
    /// Pushes once for all that is edited at the same moment.
    pub(super) fn push_once(self: &Rc<Self>, because: EventId) {
        let now = Some(self.around.sim.now());
        if self.pushed_at.replace(now) != now {
            self.push_config(because);
        }
    }

    /// Pushes all configuration to all gateway pods.
    pub(super) fn push_config(self: &Rc<Self>, because: EventId) {
        let now = self.around.sim.now();
        for (ip, process) in &*self.gateways.borrow() {
            let Some(record) = self.cluster().pod_at(*ip) else { continue };
            let purpose = format!("{}/{}", record.key, now.as_nanos());
            let mut pushes = self.around.streams.stream("config-push", &purpose);
            let drawn = self.target_spec().config_propagation.draw(&mut pushes);
            let delay = if now == SimTime::ZERO { Duration::ZERO } else { drawn };
            let (member, process, ip, key) = (Rc::clone(self), Rc::clone(process), *ip, record.key);
            self.pushes_pending.set(self.pushes_pending.get() + 1);
            self.around.sim.spawn("config-push", async move {
                member.around.sim.sleep(delay).await;
                member.pushes_pending.set(member.pushes_pending.get() - 1);
                // Whoever has ended meanwhile hears nothing.
                let is_there = member.gateways.borrow().get(&ip).is_some_and(|known| Rc::ptr_eq(known, &process));
                if is_there {
                    member.apply_config(&process, because);
                    let (object, data) =
                        (member.identity().object(format!("Pod/{key}")), vec![("pod", (&*key).into())]);
                    let at = member.around.sim.now();
                    member.around.log.borrow_mut().record(at, Some(because), "config_applied", object, data);
                }
            });
        }
    }

    /// Gives a pod all that it should have now. Clusters come before the routes that lead to them.
    fn apply_config(&self, process: &GatewayProcess, because: EventId) {
        let spec = self.target_spec();
        process.listen(&self.listeners.borrow(), because);
        let gone = self.gone_clusters.borrow();
        process.gateway.retain_clusters(|name| !gone.contains(name));
        for (name, config) in &spec.config.clusters {
            if !self.clusters.borrow().contains_key(name) && !gone.contains(name) {
                process.gateway.set_cluster(name, *config);
            }
        }
        self.tell_all(process);
        process.memory.set_cluster_count(process.gateway.cluster_count());
        process.gateway.set_routes(Rc::clone(&self.routes.borrow()));
    }
}
