//! The plan of one cluster: its objects from the start to the last entry of the timeline, and the settings of the world's member that they come to.
//!
//! Every cluster begins with the same objects. An `IstioGateway` comes to something else in each, and an entry of the timeline may be for one
//! cluster alone; so each has a state of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::backends::Backends;
use super::changes::{self, Made};
use super::front_changes::Standing;
use super::operations::NodeNames;
use super::past::Past;
use super::settings::{Settings, TimelineEntry, TimelineVerb};
use super::state::{Resolved, State};
use super::world;
use super::{
    autoscaling, balancer, disks, editions, front, images, node_scaling, nodes, pods, sharing, shutdown, sources,
};
use crate::cluster::ClusterConfig;
use crate::drill::config::FrontChange;
use crate::drill::{Action, FrontSpec, GatewayPods, MemberConfig, Sources, Verb};
use crate::engine::Delay;
use crate::manifest::daemon_set::DaemonSetManifest;
use crate::manifest::pod::PodManifest;
use crate::manifest::service::ServiceManifest;
use crate::manifest::{Files, Sink};

/// From an object's change to its controller's work: watch, queue, API call. An assumption, in the range that recorded timelines of the real
/// controllers show.
const HOP: Delay = Delay::Uniform { min: Duration::from_millis(2), max: Duration::from_millis(20) };

/// One cluster's plan.
pub(super) struct Plan<'a> {
    index: usize,
    settings: &'a Settings,
    state: State,
    /// The objects of the start, and of now.
    first: Resolved,
    pub(super) current: Resolved,
    past: Past,
    gateways: BTreeMap<Rc<str>, GatewayPods>,
    pub(super) backends: Backends,
    front: FrontSpec,
    sources: Sources,
    images: BTreeSet<String>,
    names: NodeNames<'a>,
    /// The ports that the clients of each load may name, at some time.
    named: Vec<BTreeSet<u16>>,
    files: &'a Files,
}

impl<'a> Plan<'a> {
    /// The plan of the `index`th cluster before anything happens; `settings` are those of this cluster.
    pub(super) fn new(
        index: usize,
        settings: &'a Settings,
        mut state: State,
        timeline: &[TimelineEntry],
        files: &'a Files,
        sink: &Sink,
    ) -> Option<Self> {
        state.cluster.clone_from(&settings.cluster.id);
        state.version = Some(settings.cluster.version);
        state.foresee(timeline);
        let first = state.resolve(settings, sink)?;
        state.note(&first);
        world::check_replicas(&first, settings, sink);
        pods::check(&first, settings, sink);
        let mut front = front::spec(&first, settings, sink)?;
        front.creation = sharing::creation(&first, settings, sink);
        sharing::check_start(&first, sink);
        let mut gateways: BTreeMap<Rc<str>, GatewayPods> = BTreeMap::new();
        for (owner, other, spec) in world::gateway_specs(&first, settings, sink) {
            let sources = sources::own_sources(&owner, &first, settings, files);
            gateways.insert(owner, GatewayPods { specs: BTreeMap::from([(other, spec)]), sources });
        }
        if !gateways.contains_key(&first.target.owner()) {
            return None;
        }
        let mut backends = Backends::default();
        backends.add(&first, settings, sink);
        nodes::check_placement(&first, settings, sink);
        shutdown::warn(&first, settings, sink);
        editions::warn(&first, settings, sink);
        let mut plan = Self {
            index,
            sources: sources::sources(&first, settings, files),
            current: first.clone(),
            past: Past::new(Standing::of(&first)),
            named: front::named(&front, settings.loads.len()),
            files,
            images: BTreeSet::new(),
            names: NodeNames::new(settings),
            settings,
            state,
            first,
            gateways,
            backends,
            front,
        };
        plan.note(None);
        Some(plan)
    }

    /// The cluster's name, if it has one.
    pub(super) fn name(&self) -> Option<&str> {
        self.settings.cluster.id.as_deref()
    }

    /// The Service in front.
    pub(super) fn front(&self) -> Option<&ServiceManifest> {
        self.first.front()
    }

    /// What an entry of the timeline does in this cluster.
    pub(super) fn act(&mut self, entry: &TimelineEntry, sink: &Sink) -> Vec<Action> {
        let mut actions: Vec<Action> = match &entry.verb {
            TimelineVerb::Operate(operation) => {
                let owner = changes::workload(entry, &self.current, &self.past, sink).map(|of| of.owner());
                let zones = self.current.front().map(balancer::zones).unwrap_or_default();
                owner.map(|owner| self.names.actions(entry, operation, (&owner, &zones), sink)).unwrap_or_default()
            }
            _ => {
                let made = Made {
                    gateways: &mut self.gateways,
                    backends: &mut self.backends,
                    front: &mut self.front,
                    files: self.files,
                };
                let moments = (&mut self.current, &mut self.past);
                changes::act(entry, &mut self.state, moments, made, self.settings, sink)
            }
        };
        self.note(Some(entry.at));
        pods::note_gates(&self.current, self.settings, sink);
        for action in &mut actions {
            action.member = self.index;
            if let Some(Verb::Front(change)) = &action.verb {
                self.name_ports(change);
            }
        }
        actions
    }

    /// Clients may name the ports that come with an edit.
    fn name_ports(&mut self, change: &FrontChange) {
        for (load, named) in self.named.iter_mut().enumerate() {
            match change.doors.get(load).and_then(Option::as_ref) {
                Some(door) => named.extend(door.ports.keys()),
                None => named.extend(change.after.ports.keys()),
            }
        }
    }

    fn note(&mut self, at: Option<Duration>) {
        self.past.note(&self.current, at, self.settings);
        let bare = self.current.pods.values().map(|pod| &pod.manifest);
        let daemons = self.current.daemons.values().map(|daemon| &daemon.manifest);
        let all = self.current.deployments.values().chain(bare).chain(daemons);
        self.images.extend(all.flat_map(world::images_of));
    }

    /// What the world gets.
    pub(super) fn finish(self, sink: &Sink) -> MemberConfig {
        let Self { settings, first: resolved, .. } = self;
        for (load, named) in settings.loads.iter().zip(&self.named) {
            front::check_urls(load, named, sink);
        }
        images::check(settings, &self.images, sink);
        disks::check(&resolved, settings, sink);
        let cluster = ClusterConfig {
            identity: settings.cluster.identity.clone(),
            version: settings.cluster.version,
            wall_phase: None,
            nodes: nodes::made(settings),
            hop: HOP,
            schedule: settings.cluster.schedule.clone(),
            pod_start: settings.cluster.pod_start.clone(),
            init_container: settings.cluster.init_container.clone(),
            image_pull: settings.cluster.image_pull.clone(),
            bad_images: settings.cluster.bad_images.iter().map(|(image, _)| image.clone()).collect(),
            image_sizes: settings.cluster.images.iter().map(|image| (image.name.clone(), image.bytes)).collect(),
            preloaded_images: {
                let preloaded = settings.cluster.images.iter().filter(|image| image.is_preloaded);
                preloaded.map(|image| image.name.clone()).collect()
            },
            endpoint_propagation: settings.cluster.endpoint_propagation.clone(),
            sandbox_removal: settings.cluster.sandbox_removal.clone(),
            autoscaler: node_scaling::config(settings, &self.names),
            client_rates: settings.cluster.client_rates,
            terminated_pods_max: settings.cluster.terminated_pods_max,
            stands_at_zero: true,
        };
        MemberConfig {
            weight: settings.cluster.weight,
            cluster,
            deployments: resolved.deployments.values().map(|manifest| manifest.deployment.clone()).collect(),
            pods: resolved.pods.values().map(PodManifest::pod).collect(),
            daemon_sets: resolved.daemons.values().map(DaemonSetManifest::daemon_set).collect(),
            services: resolved.services.values().map(|manifest| manifest.service.clone()).collect(),
            budgets: resolved.budgets.clone(),
            target: resolved.target.owner(),
            deletion_costs: Vec::new(),
            gateways: self.gateways,
            routes: resolved.routing.routes.clone(),
            front: self.front,
            backends: self.backends.specs,
            processes: self.backends.processes,
            scaling: autoscaling::spec(&resolved, settings, sink),
            sources: self.sources,
        }
    }
}
