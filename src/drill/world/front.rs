//! The way in: the balancer if there is one, the nodes where connections pass over them, and the doors of clients that dial no balancer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::member::Member;
use crate::cluster::Cluster;
use crate::drill::config::{Creation, DoorSpec};
use crate::edge::controller::is_virtual;
use crate::edge::door::{Door, DoorKind};
use crate::edge::kube_proxy::pace::SyncPace;
use crate::edge::load_balancer::{NodeTarget, address};
use crate::edge::{Eligibility, LoadBalancer, LoadBalancerConfig, NodePlace, Nodes};
use crate::engine::EventId;
use crate::load::Finished;
use crate::net::{Forward, LinkConfig};
use crate::units::SimTime;

/// Addresses of doors: 100.100.cluster.load. Nothing else is there.
const DOORS: Ipv4Addr = Ipv4Addr::new(100, 100, 0, 1);

impl Member {
    pub(super) fn start_front(self: &Rc<Self>, cluster: &Cluster) {
        let front = &self.config.front;
        if let Some(config) = &front.nodes {
            let (sim, log) = (&self.around.sim, Rc::clone(&self.around.log));
            let nodes = Nodes::new(sim, &self.net, self.around.streams, log, config.clone());
            nodes.handle_nodes(places(cluster));
            for place in nodes.places() {
                self.start_kube_proxy(cluster, &nodes, &place.name);
            }
            *self.nodes.borrow_mut() = Some(nodes);
        }
        match (&front.balancer, &front.creation) {
            (Some(config), Creation::Stands | Creation::Unconfigured { .. }) => {
                self.start_balancer(cluster, config.clone());
            }
            (Some(_), Creation::Fails { reason }) => self.fail_creation(reason),
            (None, _) => {}
        }
        if let Creation::Unconfigured { reason } = &front.creation {
            self.tell_unconfigured(reason);
        }
        if front.nodes.is_some() {
            self.watch_nodes(cluster);
        }
        self.doors.borrow_mut().resize(front.doors.len(), None);
        for (load, spec) in front.doors.iter().enumerate() {
            let (Some(DoorSpec { kind, choice, ports }), Some(nodes)) = (spec, &*self.nodes.borrow()) else { continue };
            let door = Rc::new(Door::new(nodes.clone(), *kind, choice.clone(), ports.clone()));
            if *kind == DoorKind::BalancerFromWithin {
                let member = Rc::downgrade(self);
                door.shut_when(Rc::new(move |port| member.upgrade()?.balancer.borrow().as_ref()?.verdict_within(port)));
            }
            self.doors.borrow_mut()[load] = Some(Rc::clone(&door));
            self.net.forward(self.door_address(load), LinkConfig::default(), door);
        }
        self.start_gauge();
    }

    /// The addresses that a load's clients know: of the balancer's, those whose zones are well, or all if none is.
    pub(super) fn entrances(&self, load: usize) -> Vec<Ipv4Addr> {
        let door = self.config.front.doors.get(load).and_then(Option::as_ref);
        if door.is_some() {
            return vec![self.door_address(load)];
        }
        let live = self.balancer.borrow().as_ref().map(LoadBalancer::live_addresses).unwrap_or_default();
        if live.is_empty() { self.vips() } else { live }
    }

    /// How reports call its balancer, if the scenario names a product.
    pub(super) fn product(&self) -> Option<&'static str> {
        self.config.front.balancer.as_ref()?.ways.title
    }

    /// The addresses that the balancer has or had: one for each of its zones.
    pub(super) fn vips(&self) -> Vec<Ipv4Addr> {
        let known = self.balancer.borrow().as_ref().map(LoadBalancer::addresses).unwrap_or_default();
        if !known.is_empty() {
            return known;
        }
        let zones = self.config.front.balancer.as_ref().map_or(1, |config| config.zones.len().max(1));
        (0..zones).map(|zone| address(self.vip, zone)).collect()
    }

    /// Whether this is an address of its own.
    pub(super) fn is_entered_at(&self, ip: Ipv4Addr) -> bool {
        let mut doors = self.config.front.doors.iter().enumerate().filter(|(_, door)| door.is_some());
        self.vips().contains(&ip) || doors.any(|(load, _)| self.door_address(load) == ip)
    }

    fn door_address(&self, load: usize) -> Ipv4Addr {
        let offset = (u32::try_from(self.index).unwrap_or(0) << 16) + u32::try_from(load).unwrap_or(0);
        Ipv4Addr::from_bits(DOORS.to_bits() + offset)
    }

    /// Whether the connections of a load pass over nodes.
    pub(super) fn passes_nodes(&self, load: usize) -> bool {
        let front = &self.config.front;
        let to_nodes = self.balancer.borrow().as_ref().is_some_and(LoadBalancer::reaches_nodes);
        to_nodes || front.doors.get(load).is_some_and(Option::is_some)
    }

    fn start_balancer(self: &Rc<Self>, cluster: &Cluster, config: LoadBalancerConfig) {
        let balancer = self.place_balancer(cluster, config, (self.prober, self.vips()));
        *self.balancer.borrow_mut() = Some(balancer);
    }

    /// A balancer at these addresses, which probes from the first.
    pub(super) fn place_balancer(
        &self,
        cluster: &Cluster,
        config: LoadBalancerConfig,
        (prober, vips): (Ipv4Addr, Vec<Ipv4Addr>),
    ) -> LoadBalancer {
        let sim = &self.around.sim;
        let prober = self.net.attach(prober, self.cloud_link());
        let (streams, log) = (self.around.streams, Rc::clone(&self.around.log));
        let nodes = self.nodes.borrow().clone();
        let balancer = LoadBalancer::new(sim, &self.net, prober, streams, log, (config.clone(), nodes));
        balancer.set_addresses(vips.iter().copied());
        balancer.set_eligible(eligible(cluster.node_specs(), &config.targets.nodes));
        let front: Rc<dyn Forward> = Rc::new(balancer.clone());
        // The client's link holds the way to the balancer.
        for vip in vips {
            self.net.forward(vip, LinkConfig::default(), Rc::clone(&front));
        }
        self.watch_front(cluster, &config, &balancer);
        balancer
    }

    /// The balancer that the Service in front has now.
    pub(super) fn current_balancer(&self) -> Option<LoadBalancer> {
        let is_alive = |balancer: &LoadBalancer| balancer.deleted_by().is_none();
        let made = self.made.borrow().clone();
        made.or_else(|| self.balancer.borrow().clone()).filter(is_alive)
    }

    /// All balancers that it has or had.
    pub(super) fn balancers(&self) -> Vec<LoadBalancer> {
        self.balancer.borrow().iter().chain(self.made.borrow().iter()).cloned().collect()
    }

    /// What is read once a second.
    fn start_gauge(self: &Rc<Self>) {
        let member = Rc::downgrade(self);
        self.around.sim.spawn("gauge-targets", async move {
            loop {
                let Some(member) = member.upgrade() else { return };
                let clock = member.around.sim.clone();
                member.read_front();
                drop(member);
                clock.sleep(Duration::from_secs(1)).await;
            }
        });
    }

    fn read_front(&self) {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (balancer, nodes) = (self.current_balancer(), self.nodes.borrow());
        let through_balancer = self.balancers().iter().map(LoadBalancer::connection_count).sum::<usize>();
        let through_doors = nodes.as_ref().map_or(0, Nodes::connection_count);
        // Where nodes are the balancer's targets, its connections are theirs.
        self.connections.set(wide(through_balancer.max(through_doors)));
        self.targets_healthy.set(balancer.as_ref().map(|balancer| wide(balancer.healthy_count())));
        self.targets_settled.set(balancer.as_ref().is_none_or(LoadBalancer::is_settled));
    }

    /// Whether all nodes that live have rules for the endpoints as they are.
    pub(super) fn nodes_are_settled(&self) -> bool {
        let nodes = self.nodes.borrow();
        let Some(nodes) = &*nodes else { return true };
        let ready = self.cluster().ready_endpoints(&self.config.front.service);
        nodes.all_know(&ready.into_iter().collect())
    }

    /// A node's kube-proxy: it hears of the endpoints of the Service in front, and writes rules for them when its pace allows.
    fn start_kube_proxy(&self, cluster: &Cluster, nodes: &Nodes, node: &Rc<str>) {
        let service = &self.config.front.service;
        let Some(mut watch) = cluster.watch_endpoints(service, &format!("kube-proxy/{node}")) else { return };
        let (nodes, name, clock) = (nodes.clone(), Rc::clone(node), self.around.sim.clone());
        let cluster = cluster.clone();
        self.around.sim.spawn("kube-proxy", async move {
            let mut pace = SyncPace::new(nodes.config().min_sync_period);
            loop {
                let mut seen = watch.next().await;
                // A node that is cut off hears of nothing.
                cluster.reached(&name).await;
                // What the run finds has been written before it.
                if clock.now() > SimTime::ZERO {
                    nodes.handle_change(&name);
                    clock.sleep_until(pace.next_run(clock.now())).await;
                }
                // What has come meanwhile is written with it.
                while let Some(newer) = watch.next_now() {
                    seen = newer;
                }
                nodes.handle_endpoints(&name, &seen);
            }
        });
    }

    /// Tells whoever sends to nodes which there are, and starts what runs on new ones.
    fn watch_nodes(self: &Rc<Self>, cluster: &Cluster) {
        let (member, cluster) = (Rc::downgrade(self), cluster.clone());
        self.around.sim.spawn("cloud-controller-nodes", async move {
            let mut seen = cluster.node_changes();
            let mut started: BTreeSet<Rc<str>> = cluster.nodes().into_iter().map(|(name, _)| name).collect();
            loop {
                seen = cluster.nodes_changed_since(seen).await;
                let Some(member) = member.upgrade() else { return };
                let Some(nodes) = member.nodes.borrow().clone() else { return };
                nodes.handle_nodes(places(&cluster));
                for (name, _) in cluster.nodes() {
                    if started.insert(Rc::clone(&name)) {
                        member.start_kube_proxy(&cluster, &nodes, &name);
                    }
                }
                let ready: BTreeSet<Rc<str>> = cluster.ready_nodes().into_iter().map(|(name, _)| name).collect();
                for balancer in member.balancers() {
                    let counts = |node: &crate::cluster::Node| ready.contains(&node.name) || is_virtual(node);
                    let specs = cluster.node_specs().into_iter().filter(counts);
                    balancer.handle_nodes(eligible(specs.collect(), &balancer.node_rules()));
                }
            }
        });
    }

    /// The death of the node that a request was sent to, or went through, before its end.
    pub(super) fn node_death(&self, finished: &Finished) -> Option<EventId> {
        let sight = &finished.sight;
        let of_target =
            sight.target.and_then(|target| self.cluster().death_at(*target.ip(), sight.tried_at, finished.ended_at));
        let nodes = self.nodes.borrow();
        let on_the_way = || nodes.as_ref()?.cut_by_death(sight.connection?);
        of_target.or_else(on_the_way)
    }

    /// Whether a request came no farther than a node.
    pub(super) fn ended_at_node(&self, finished: &Finished) -> bool {
        let nodes = self.nodes.borrow();
        finished.sight.target.zip(nodes.as_ref()).is_some_and(|(target, nodes)| nodes.is_node(*target.ip()))
    }
}

/// The nodes that the balancer's controller may take as targets.
pub(super) fn eligible(nodes: Vec<crate::cluster::Node>, rules: &Eligibility) -> Vec<NodeTarget> {
    let accepted = nodes.into_iter().filter(|node| rules.accepts(node));
    let target =
        |node: crate::cluster::Node| NodeTarget { is_virtual: is_virtual(&node), name: node.name, ip: node.ip };
    accepted.map(target).collect()
}

/// The zone of each node.
pub(super) fn zones(cluster: &Cluster) -> BTreeMap<Rc<str>, Rc<str>> {
    cluster.node_specs().into_iter().map(|node| (node.name, node.zone)).collect()
}

fn places(cluster: &Cluster) -> Vec<NodePlace> {
    let place = |node: crate::cluster::Node| NodePlace {
        name: node.name,
        ip: node.ip,
        zone: node.zone,
        cores: node.allocatable.cpu_millicores.div_ceil(1000),
    };
    // No machine is behind a virtual node, and no kube-proxy.
    cluster.node_specs().into_iter().filter(|node| !is_virtual(node)).map(place).collect()
}
