//! The control plane's side of the gateway: endpoints and the settings of clusters, as each gateway pod is told them.
//!
//! A pod is told of endpoints by where it runs: its node's zone against theirs (`gateway::locality`). A node's region is its label, or what its
//! zone's name says. Replicas of services without a Deployment take their zones in turn.
//!
//! Clusters that change come with the next push (`push`), before the routes that change with them: a route never leads to what is not there yet.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::member::{Member, Sited};
use crate::backend::Backend;
use crate::cluster::{EndpointView, PodTemplate};
use crate::drill::config::{BackendSpec, ClusterSpec};
use crate::drill::process::{GatewayProcess, GatewaySpec};
use crate::gateway::EndpointConfig;
use crate::gateway::locality::{Locality, REGION, SUBZONE, Site};
use crate::units::SimTime;

impl Member {
    /// Replicas of services without a Deployment: 10.200.service.replica.
    pub(super) fn start_fixed_backends(&self) {
        // Each cluster has a block of numbers of its own.
        let first = self.index * self.config.backends.len();
        for (index, spec) in (first..).zip(&self.config.backends) {
            if spec.is_of_pods() || !spec.runs_in(self.index) {
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
            self.write_endpoints(spec, self.index, endpoints);
        }
    }

    /// Tells all gateways of the endpoints of its own services that have a Deployment.
    pub(super) fn watch_backends(self: &Rc<Self>) {
        for spec in self.config.backends.iter().filter(|spec| spec.runs_in(self.index)) {
            self.watch_backend(self, spec);
        }
    }

    /// Services that run in other clusters only are found there, as the mesh's control plane does.
    pub(super) fn find_backends(self: &Rc<Self>, all: &[Rc<Self>]) {
        for spec in self.config.backends.iter().filter(|spec| !spec.runs_in(self.index)) {
            for home in spec.homes.iter().map(|index| &all[*index]) {
                if spec.is_of_pods() {
                    self.watch_backend(home, spec);
                } else if let Some(found) = home.endpoints_of(&spec.cluster) {
                    self.write_endpoints(spec, home.index, found);
                }
            }
        }
    }

    /// The endpoints of a cluster of the gateway that run here.
    fn endpoints_of(&self, cluster: &str) -> Option<Sited> {
        self.endpoints.borrow().get(cluster)?.get(&self.index).cloned()
    }

    fn write_endpoints(&self, spec: &BackendSpec, home: usize, found: Sited) {
        self.endpoints.borrow_mut().entry(Arc::clone(&spec.cluster)).or_default().insert(home, found);
    }

    fn watch_backend(self: &Rc<Self>, home: &Rc<Self>, spec: &BackendSpec) {
        if !spec.is_of_pods() {
            return;
        }
        let Some(mut watch) = home.cluster().watch_endpoints(&spec.service, &self.consumer(home)) else { return };
        let (member, home, spec) = (Rc::clone(self), Rc::clone(home), spec.clone());
        self.around.sim.spawn("istiod", async move {
            let mut changes = member.around.streams.stream("config-propagation", &spec.service);
            loop {
                let seen = watch.next().await;
                let delay = member.gateway_spec("").config_propagation.draw(&mut changes);
                let now = member.around.sim.now();
                member.around.sim.sleep(if now == SimTime::ZERO { Duration::ZERO } else { delay }).await;
                let subset = member.subset_of(&spec.cluster);
                let found = seen.iter().filter_map(|view| home.endpoint((&spec, &subset), view)).collect();
                member.write_endpoints(&spec, home.index, found);
                member.tell_endpoints(&spec.cluster);
            }
        });
    }

    /// Who looks at a cluster's endpoints on behalf of this one's gateways.
    fn consumer(&self, home: &Self) -> String {
        if self.index == home.index { "istiod".to_owned() } else { format!("istiod/{}", self.index) }
    }

    /// An endpoint of a cluster; none if it is on its way out, or not of the subset.
    fn endpoint(
        &self,
        (spec, subset): (&BackendSpec, &BTreeMap<String, String>),
        view: &EndpointView,
    ) -> Option<(EndpointConfig, Site)> {
        if view.terminating {
            return None;
        }
        let template = self.cluster().template_at(view.ip);
        let labels = template.as_ref().map(|template| &template.labels);
        let has = |(key, value): (&String, &String)| labels.is_some_and(|labels| labels.get(key) == Some(value));
        if !subset.iter().all(has) {
            return None;
        }
        let address = SocketAddr::V4(SocketAddrV4::new(view.ip, spec.port));
        let site = Site::new(self.locality(&view.node), &view.node, labels.unwrap_or(subset));
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
        let Some(homes) = endpoints.get(cluster) else { return };
        let backend = || self.config.backends.iter().find(|spec| &*spec.cluster == cluster);
        let changed = clusters.get(cluster).map(|spec| &spec.endpoints);
        let Some(policy) = changed.or_else(|| Some(&backend()?.endpoints)) else { return };
        let assigned = match homes.len() {
            1 => homes.values().next().map(|found| policy.assign(&process.site, found)),
            _ => Some(policy.assign(&process.site, &homes.values().flatten().cloned().collect::<Sited>())),
        };
        process.gateway.set_endpoints(cluster, &assigned.unwrap_or_default());
    }

    /// Clusters have other settings, or come to be; pods hear of it with the next push.
    pub(super) fn change_clusters(&self, changed: &[ClusterSpec]) {
        for spec in changed {
            let old = self.subset_of(&spec.name);
            self.clusters.borrow_mut().insert(Arc::clone(&spec.name), spec.clone());
            if old != spec.subset {
                self.find_anew(&spec.name);
            }
        }
    }

    /// The labels of a cluster's endpoints, as they are by now.
    fn subset_of(&self, cluster: &str) -> BTreeMap<String, String> {
        if let Some(changed) = self.clusters.borrow().get(cluster) {
            return changed.subset.clone();
        }
        let known = self.config.backends.iter().find(|spec| &*spec.cluster == cluster);
        known.map(|spec| spec.subset.clone()).unwrap_or_default()
    }

    /// The control plane looks for a cluster's endpoints again, among those that it knows.
    fn find_anew(&self, cluster: &str) {
        let Some(spec) = self.config.backends.iter().find(|spec| &*spec.cluster == cluster) else { return };
        if spec.runs_in(self.index) {
            self.cluster().retell_endpoints(&spec.service, "istiod", None);
        }
    }

    /// How many clusters a gateway has that starts now.
    pub(super) fn cluster_count(&self, spec: &GatewaySpec) -> usize {
        let later = self.clusters.borrow();
        spec.config.clusters.len() + later.keys().filter(|name| !spec.config.clusters.contains_key(*name)).count()
    }
}
