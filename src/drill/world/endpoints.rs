//! The control plane's side of the gateway: endpoints and the settings of clusters, as each gateway pod is told them.
//!
//! A pod is told of endpoints by where it runs: its node's zone against theirs (`gateway::locality`). A node's region is its label, or what its
//! zone's name says. Replicas of services without a Deployment take their zones in turn.
//!
//! Clusters that change are told at once, before the routes that change with them: a route never leads to what is not there yet.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::member::Member;
use crate::backend::Backend;
use crate::cluster::{Cluster, EndpointView, PodTemplate};
use crate::drill::config::{BackendSpec, ClusterSpec};
use crate::drill::process::GatewayProcess;
use crate::gateway::EndpointConfig;
use crate::gateway::locality::{Locality, REGION, SUBZONE, Site};
use crate::units::SimTime;

impl Member {
    /// Replicas of services without a Deployment: 10.200.service.replica.
    pub(super) fn start_fixed_backends(&self, member: usize) {
        // Each cluster has a block of numbers of its own.
        let first = member * self.config.backends.len();
        for (index, spec) in (first..).zip(&self.config.backends) {
            if spec.deployment.is_some() {
                continue;
            }
            let mut endpoints = Vec::new();
            for replica in 0..spec.replicas {
                let offset = u32::try_from(index * 4096 + replica + 1).expect("fewer than 2^20 replicas");
                let ip = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + offset);
                let host = self.net.attach(ip, self.cloud_link());
                let started =
                    Backend::start(&self.around.sim, self.around.streams, &host, spec.port, spec.config.clone());
                started.expect("a host that was just attached is there");
                let zone = spec.zones.get(replica % spec.zones.len().max(1));
                let locality = zone.map(|zone| Locality::of_zone(zone)).unwrap_or_default();
                let endpoint = EndpointConfig::new(SocketAddr::V4(SocketAddrV4::new(ip, spec.port)));
                endpoints.push((endpoint, Site::new(locality, "", &spec.subset)));
            }
            self.endpoints.borrow_mut().insert(Arc::clone(&spec.cluster), endpoints);
        }
    }

    /// Tells all gateways of the endpoints of services that have a Deployment.
    pub(super) fn watch_backends(self: &Rc<Self>, cluster: &Cluster) {
        for spec in self.config.backends.iter().filter(|spec| spec.deployment.is_some()) {
            let Some(mut watch) = cluster.watch_endpoints(&spec.service, "istiod") else { continue };
            let (member, spec) = (Rc::clone(self), spec.clone());
            self.around.sim.spawn("istiod", async move {
                let mut changes = member.around.streams.stream("config-propagation", &spec.service);
                loop {
                    let seen = watch.next().await;
                    let delay = member.gateway_spec("").config_propagation.draw(&mut changes);
                    let now = member.around.sim.now();
                    member.around.sim.sleep(if now == SimTime::ZERO { Duration::ZERO } else { delay }).await;
                    let found = seen.iter().filter_map(|view| member.endpoint(&spec, view)).collect();
                    member.endpoints.borrow_mut().insert(Arc::clone(&spec.cluster), found);
                    member.tell_endpoints(&spec.cluster);
                }
            });
        }
    }

    /// An endpoint of a cluster; none if it is on its way out, or not of the subset.
    fn endpoint(&self, spec: &BackendSpec, view: &EndpointView) -> Option<(EndpointConfig, Site)> {
        if view.terminating {
            return None;
        }
        let template = self.cluster().template_at(view.ip);
        let labels = template.as_ref().map(|template| &template.labels);
        let has = |(key, value): (&String, &String)| labels.is_some_and(|labels| labels.get(key) == Some(value));
        if !spec.subset.iter().all(has) {
            return None;
        }
        let address = SocketAddr::V4(SocketAddrV4::new(view.ip, spec.port));
        let site = Site::new(self.locality(&view.node), &view.node, labels.unwrap_or(&spec.subset));
        Some((EndpointConfig { is_healthy: view.ready, ..EndpointConfig::new(address) }, site))
    }

    /// Where a node is.
    fn locality(&self, node: &str) -> Locality {
        let Some(node) = self.config.cluster.nodes.iter().find(|known| &*known.name == node) else {
            return Locality::default();
        };
        let mut locality = Locality::of_zone(&node.zone);
        if let Some(region) = node.labels.get(REGION) {
            locality.region.clone_from(region);
        }
        locality.subzone = node.labels.get(SUBZONE).cloned().unwrap_or_default();
        locality
    }

    /// Where a pod is.
    pub(super) fn site(&self, node: &str, template: &PodTemplate) -> Site {
        Site::new(self.locality(node), node, &template.labels)
    }

    /// Tells a gateway that starts of all clusters.
    pub(super) fn tell_all(&self, process: &GatewayProcess) {
        for spec in self.clusters.borrow().values() {
            process.gateway.set_cluster(&spec.name, spec.config);
        }
        for cluster in self.endpoints.borrow().keys() {
            self.tell(cluster, process);
        }
    }

    /// Tells all gateways of a cluster's endpoints.
    fn tell_endpoints(&self, cluster: &str) {
        for process in self.gateways.borrow().values() {
            self.tell(cluster, process);
        }
    }

    fn tell(&self, cluster: &str, process: &GatewayProcess) {
        let (endpoints, clusters) = (self.endpoints.borrow(), self.clusters.borrow());
        let Some(found) = endpoints.get(cluster) else { return };
        let backend = || self.config.backends.iter().find(|spec| &*spec.cluster == cluster);
        let changed = clusters.get(cluster).map(|spec| &spec.endpoints);
        let Some(policy) = changed.or_else(|| Some(&backend()?.endpoints)) else { return };
        process.gateway.set_endpoints(cluster, &policy.assign(&process.site, found));
    }

    /// Clusters get other settings, or come to be.
    pub(super) fn change_clusters(&self, changed: &[ClusterSpec]) {
        for spec in changed {
            self.clusters.borrow_mut().insert(Arc::clone(&spec.name), spec.clone());
            for process in self.gateways.borrow().values() {
                process.gateway.set_cluster(&spec.name, spec.config);
                self.tell(&spec.name, process);
            }
        }
    }
}
