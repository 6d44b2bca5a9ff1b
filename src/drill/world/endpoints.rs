//! The control plane's side of the gateway: endpoints and the settings of clusters, as each gateway pod is told them.
//!
//! A pod is told of endpoints by where it runs: its node's zone against theirs (`gateway::locality`). A node's region is its label, or what its
//! zone's name says. Replicas of services without a Deployment take their zones in turn.
//!
//! Clusters that change come with the next push (`push`), before the routes that change with them: a route never leads to what is not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;

use super::member::{Member, Sited};
use crate::backend::Backend;
use crate::cluster::{EndpointView, Node, PodTemplate, TargetPort};
use crate::drill::Sources;
use crate::drill::config::{BackendSpec, ClusterChange, ServiceChange};
use crate::drill::process::{GatewayProcess, GatewaySpec, Surroundings};
use crate::engine::EventId;
use crate::gateway::locality::{Locality, REGION, SUBZONE, Site};
use crate::gateway::{EndpointConfig, LoadAssignment};
use crate::units::SimTime;

/// Where each of the nodes is.
pub(super) fn localities(nodes: &[Node]) -> BTreeMap<Rc<str>, Locality> {
    let of = |node: &Node| {
        let mut locality = Locality::of_zone(&node.zone);
        if let Some(region) = node.labels.get(REGION) {
            locality.region.clone_from(region);
        }
        locality.subzone = node.labels.get(SUBZONE).cloned().unwrap_or_default();
        (Rc::clone(&node.name), locality)
    };
    nodes.iter().map(of).collect()
}

impl Member {
    /// Replicas of services without a Deployment: 10.200.service.replica.
    pub(super) fn start_fixed_backends(&self) {
        // Each cluster has a block of numbers of its own.
        let first = self.index * self.config.backends.len();
        for (index, spec) in (first..).zip(&self.config.backends) {
            if spec.has_pods || !spec.runs_in(self.index) {
                continue;
            }
            let mut endpoints = Vec::new();
            for replica in 0..spec.replicas {
                let offset = u32::try_from(index * 4096 + replica + 1).expect("fewer than 2^20 replicas");
                let ip = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 200, 0, 0)) + offset);
                let host = self.net.attach(ip, self.cloud_link());
                let Surroundings { sim, streams, .. } = &self.around;
                let started = Backend::start(sim, *streams, &host, [spec.port], spec.config.clone());
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
                if spec.has_pods {
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
        self.assignments.borrow_mut().remove(&spec.cluster);
        self.endpoints.borrow_mut().entry(Arc::clone(&spec.cluster)).or_default().insert(home, found);
    }

    fn watch_backend(self: &Rc<Self>, home: &Rc<Self>, spec: &BackendSpec) {
        if !spec.has_pods {
            return;
        }
        let mut watch = home.cluster().await_endpoints(&spec.service, &self.consumer(home));
        let (member, home, spec) = (Rc::clone(self), Rc::clone(home), spec.clone());
        self.around.sim.spawn("istiod", async move {
            let mut changes = member.around.streams.stream("config-propagation", &spec.service);
            loop {
                let mut seen = watch.next().await;
                let propagation = member.target_spec().config_propagation.clone();
                let delay = propagation.draw(&mut changes);
                if member.around.sim.now() == SimTime::ZERO {
                    // What the run finds has been told before it.
                    let (last, count) = watch.last_at_once(seen).await;
                    seen = last;
                    for _ in 0..count {
                        propagation.draw(&mut changes);
                    }
                } else {
                    member.around.sim.sleep(delay).await;
                }
                let edition = watch.edition();
                let target = home.target_of(&spec, edition);
                let subset = member.subset_of(&spec.cluster);
                let found = seen.iter().filter_map(|view| home.endpoint((&target, &subset), view)).collect();
                member.write_endpoints(&spec, home.index, found);
                member.tell_endpoints(&spec.cluster);
                member.heed_edit(&home, &spec.service, edition);
            }
        });
    }

    /// Who looks at a cluster's endpoints on behalf of this one's gateways.
    fn consumer(&self, home: &Self) -> String {
        if self.index == home.index { "istiod".to_owned() } else { format!("istiod/{}", self.index) }
    }

    /// An endpoint of a cluster; none if it is on its way out, not of the subset, or without the port.
    fn endpoint(
        &self,
        (target, subset): (&TargetPort, &BTreeMap<String, String>),
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
        let port = match (target, &template) {
            (TargetPort::Number(number), _) => *number,
            (TargetPort::Name(_), template) => target.on(template.as_ref()?)?,
        };
        let address = SocketAddr::V4(SocketAddrV4::new(view.ip, port));
        let site = Site::new(self.locality(&view.node), &view.node, labels.unwrap_or(subset));
        Some((EndpointConfig { is_healthy: view.ready, ..EndpointConfig::new(address) }, site))
    }

    /// Where a node is.
    fn locality(&self, node: &str) -> Locality {
        self.localities.get(node).cloned().unwrap_or_default()
    }

    /// Where a pod is.
    pub(super) fn site(&self, node: &str, template: &PodTemplate) -> Site {
        Site::new(self.locality(node), node, &template.labels)
    }

    /// Tells a gateway that starts of all clusters.
    pub(super) fn tell_all(&self, process: &GatewayProcess) {
        let gone = self.gone_clusters.borrow();
        for spec in self.clusters.borrow().values().filter(|spec| !gone.contains(&spec.name)) {
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
        if let Some(assignment) = self.assignment(cluster, &process.site) {
            process.gateway.set_endpoints(cluster, &assignment);
        }
    }

    /// What gateways at a site are told of a cluster's endpoints: one list for all that see the same.
    fn assignment(&self, cluster: &str, site: &Site) -> Option<LoadAssignment> {
        let (endpoints, clusters) = (self.endpoints.borrow(), self.clusters.borrow());
        let (name, homes) = endpoints.get_key_value(cluster)?;
        let backend = || self.config.backends.iter().find(|spec| &*spec.cluster == cluster);
        let changed = clusters.get(cluster).map(|spec| &spec.endpoints);
        let policy = changed.or_else(|| Some(&backend()?.endpoints))?;
        let mut assignments = self.assignments.borrow_mut();
        let by_view = assignments.entry(Arc::clone(name)).or_default();
        let known = by_view.entry(policy.view(site)).or_insert_with(|| {
            let assigned = match homes.len() {
                1 => homes.values().next().map(|found| policy.assign(site, found)),
                _ => Some(policy.assign(site, &homes.values().flatten().cloned().collect::<Sited>())),
            };
            LoadAssignment::new(assigned.unwrap_or_default())
        });
        Some(known.clone())
    }

    /// Clusters have other settings, come to be, or go; pods hear of it with the next push.
    pub(super) fn change_clusters(&self, change: &ClusterChange) {
        self.gone_clusters.borrow_mut().extend(change.gone.iter().cloned());
        for spec in &change.changed {
            self.gone_clusters.borrow_mut().remove(&spec.name);
            let old = self.subset_of(&spec.name);
            self.clusters.borrow_mut().insert(Arc::clone(&spec.name), spec.clone());
            self.assignments.borrow_mut().remove(&spec.name);
            if old != spec.subset {
                self.find_anew(&spec.name);
            }
        }
    }

    /// A Service behind the gateway comes, or is another: it has other pods, or leads to another of their ports. Its endpoints follow as the control plane
    /// hears of them; whoever listens goes on where it listens.
    pub(super) fn change_service(self: &Rc<Self>, change: &ServiceChange, event: EventId) {
        let (cluster, key) = (self.cluster(), &change.service.key);
        let edition = cluster.apply_service(change.service.clone());
        // What is lost until the gateways hear of it goes back to what was before.
        self.edited.borrow_mut().insert(Rc::clone(key), (edition, change.sources.clone()));
        let mut is_moved = false;
        for spec in self.config.backends.iter().filter(|spec| spec.service == *key) {
            let Some(target) = change.targets.get(&spec.cluster) else { continue };
            if self.target_of(spec, u64::MAX) == *target {
                continue;
            }
            is_moved = true;
            let mut targets = self.targets.borrow_mut();
            targets.entry(Arc::clone(&spec.cluster)).or_default().insert(edition, target.clone());
            drop(targets);
            if !spec.has_pods {
                self.move_fixed(spec, &change.sources, event);
            }
        }
        if is_moved {
            cluster.retell_edit(key, event.number());
        }
    }

    /// The gateways have heard of an edit of a Service of `home`, at the latest by this edition: what is lost from now on goes back to it.
    fn heed_edit(&self, home: &Self, service: &Rc<str>, edition: u64) {
        let Some((since, sources)) = home.edited.borrow().get(service).filter(|(since, _)| *since <= edition).cloned()
        else {
            return;
        };
        if self.heeded.borrow_mut().insert(Rc::clone(service), since) != Some(since) {
            self.heed_sources(&sources);
        }
    }

    /// A Service behind the gateway is deleted.
    pub(super) fn lose_service(&self, key: &str, sources: &Sources) {
        self.cluster().delete_service(key);
        self.heed_sources(sources);
    }

    /// Where the Service of a cluster leads by an edition of it.
    fn target_of(&self, spec: &BackendSpec, edition: u64) -> TargetPort {
        let targets = self.targets.borrow();
        let changed = targets.get(&spec.cluster).and_then(|by| by.range(..=edition).next_back());
        changed.map_or_else(|| spec.target.clone(), |(_, target)| target.clone())
    }

    /// Replicas without a Deployment are asked for at another port than theirs.
    fn move_fixed(self: &Rc<Self>, spec: &BackendSpec, sources: &Sources, event: EventId) {
        let (member, spec, sources) = (Rc::clone(self), spec.clone(), sources.clone());
        self.pushes_pending.set(self.pushes_pending.get() + 1);
        let purpose = format!("{}/istiod/edit-{}", spec.service, event.number());
        let streams = self.around.streams;
        let told = self.config.cluster.endpoint_propagation.draw(&mut streams.stream("endpoint", &purpose));
        let heard = self.target_spec().config_propagation.draw(&mut streams.stream("config-propagation", &purpose));
        self.around.sim.spawn("istiod", async move {
            member.around.sim.sleep(told + heard).await;
            member.pushes_pending.set(member.pushes_pending.get() - 1);
            member.heed_sources(&sources);
            let port = match member.target_of(&spec, u64::MAX) {
                TargetPort::Number(number) => number,
                TargetPort::Name(_) => spec.port,
            };
            if let Some(homes) = member.endpoints.borrow_mut().get_mut(&spec.cluster) {
                let all = homes.values_mut().flatten();
                all.for_each(|(endpoint, _)| endpoint.address.set_port(port));
            }
            member.assignments.borrow_mut().remove(&spec.cluster);
            member.tell_endpoints(&spec.cluster);
        });
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

    /// The same for all clusters that have endpoints by their labels.
    pub(super) fn find_subsets_anew(&self) {
        for spec in self.config.backends.iter().filter(|spec| spec.has_pods) {
            if !self.subset_of(&spec.cluster).is_empty() {
                self.find_anew(&spec.cluster);
            }
        }
    }

    /// How many clusters a gateway has that starts now.
    pub(super) fn cluster_count(&self, spec: &GatewaySpec) -> usize {
        let (later, gone) = (self.clusters.borrow(), self.gone_clusters.borrow());
        let names: BTreeSet<&Arc<str>> = spec.config.clusters.keys().chain(later.keys()).collect();
        names.difference(&gone.iter().collect()).count()
    }
}
