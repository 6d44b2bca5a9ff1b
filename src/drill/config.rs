//! The settings of a world: all that a run needs, and nothing that is only written in a file.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::causes::Sources;
use super::process::GatewaySpec;
use crate::backend::BackendConfig;
use crate::cluster::disruption::DisruptionBudget;
use crate::cluster::operation::Operation;
use crate::cluster::{ClusterConfig, Deployment, Service};
use crate::edge::LoadBalancerConfig;
use crate::gateway::locality::EndpointPolicy;
use crate::gateway::{ClusterConfig as UpstreamConfig, Routes};
use crate::load::{ClientConfig, Pacing, RateSegment};
use crate::record::results::ScenarioId;

/// Everything a run needs.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// What it is called.
    pub scenario: ScenarioId,
    /// The seed of all draws.
    pub seed: u64,
    /// Time before the measured one, in which the loads already run.
    pub warmup: Duration,
    /// The measured time.
    pub duration: Duration,
    /// The cluster.
    pub cluster: ClusterConfig,
    /// All Deployments, the gateway's among them.
    pub deployments: Vec<Deployment>,
    /// All Services.
    pub services: Vec<Service>,
    /// All disruption budgets.
    pub budgets: Vec<DisruptionBudget>,
    /// The gateway's Deployment, as `namespace/name`.
    pub target: Rc<str>,
    /// Deletion costs of the gateway pods that the run finds, in the order of their creation.
    pub deletion_costs: Vec<i32>,
    /// The gateway's processes, by the `other` of their pod template; the empty text for all that are not named.
    pub gateways: BTreeMap<String, GatewaySpec>,
    /// The gateway's routes.
    pub routes: Routes,
    /// The way in.
    pub front: FrontSpec,
    /// The services behind.
    pub backends: Vec<BackendSpec>,
    /// Who asks.
    pub loads: Vec<LoadSpec>,
    /// What happens, in the order of time.
    pub actions: Vec<Action>,
    /// The setting behind each cause of loss.
    pub sources: Sources,
    /// How faithfully each manifest field is simulated.
    pub fidelity: Vec<crate::record::results::Fidelity>,
    /// When the cluster's objects are shown; none: never.
    pub watch: Option<super::objects::Watch>,
}

/// The way in: the load balancer and the links.
#[derive(Clone, Debug)]
pub struct FrontSpec {
    /// The balancer.
    pub balancer: LoadBalancerConfig,
    /// One way between two hosts of the cloud.
    pub cloud_latency: Duration,
}

/// The replicas of a service behind the gateway.
#[derive(Clone, Debug)]
pub struct BackendSpec {
    /// The gateway's cluster that leads there.
    pub cluster: Arc<str>,
    /// The Service, as `namespace/name`.
    pub service: Rc<str>,
    /// Labels that the cluster's endpoints have; empty: it has all of the Service.
    pub subset: BTreeMap<String, String>,
    /// The port its replicas listen on.
    pub port: u16,
    /// Its Deployment; none: a fixed number of replicas that never change.
    pub deployment: Option<Rc<str>>,
    /// Replicas without a Deployment.
    pub replicas: usize,
    /// Their zones, taken in turn; none: nobody knows where they are.
    pub zones: Vec<String>,
    /// Which of its endpoints come first.
    pub endpoints: EndpointPolicy,
    /// How they behave.
    pub config: BackendConfig,
    /// How long one serves on after SIGTERM; none: it dies of it, as a program does that does not handle it.
    pub shutdown_delay: Option<Duration>,
}

/// One population of clients.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// Its name.
    pub name: String,
    /// Its rate over the measured time; the first value holds in the warm-up.
    pub segments: Vec<RateSegment>,
    /// Its gaps.
    pub pacing: Pacing,
    /// Whether it already runs in the warm-up.
    pub runs_in_warmup: bool,
    /// How the clients behave.
    pub client: ClientConfig,
    /// Round trip between a client and the balancer.
    pub rtt: Duration,
    /// What they ask for.
    pub mix: Vec<MixEntry>,
}

/// One kind of request.
#[derive(Clone, Debug)]
pub struct MixEntry {
    /// Its share.
    pub weight: u32,
    /// Method.
    pub method: String,
    /// As the user wrote it.
    pub url: String,
    /// `Host`.
    pub host: String,
    /// The balancer's port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// Bytes of body.
    pub body_bytes: usize,
}

/// Something that happens, and the phase it begins.
#[derive(Clone, Debug)]
pub struct Action {
    /// From the start of the measured time.
    pub at: Duration,
    /// The name of the phase that begins.
    pub phase: Option<String>,
    /// What happens; nothing: only a phase begins.
    pub verb: Option<Verb>,
    /// How the timeline tells it.
    pub text: String,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Verb {
    /// All pods of a Deployment start anew.
    Restart(Rc<str>),
    /// A Deployment gets another size.
    Scale(Rc<str>, i32),
    /// A Deployment is applied.
    Apply(Box<Deployment>),
    /// The routes change.
    Routes(Routes),
    /// A disruption budget is applied.
    Budget(DisruptionBudget),
    /// Something happens to pods or nodes.
    Operate(Operation),
    /// A Deployment is deleted; with the gateway's goes its Service, and with that the balancer.
    Delete(Rc<str>),
    /// The rate of a load, or of all, changes by this factor. The loads know it beforehand.
    Load(Option<String>, f64),
    /// Clusters of the gateway change, or come to be.
    Clusters(Vec<ClusterSpec>),
}

/// A cluster of the gateway. Its endpoints are those of the [`BackendSpec`] of that name.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings.
    pub config: UpstreamConfig,
    /// Which of its endpoints come first.
    pub endpoints: EndpointPolicy,
}
