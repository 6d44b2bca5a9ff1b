//! The autoscaler's controller: a sync every period, the samples it sees, and what it writes.
//!
//! An autoscaler's first sync comes one period after it was created. One that the run finds is older than the run: its syncs have a phase of their
//! own, and the first comes when there can be samples of the run, since nobody knows what the pods used before. As after a restart of the
//! real controller, it knows no recommendations of before, so the size of its first sync holds back a smaller one for as long as a window says.
//!
//! It looks at all pods that its target's selector matches, also at those of another owner: their use counts, and where two autoscalers see one pod neither
//! scales.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/podautoscaler/horizontal.go (`hpasControllingPodsUnderSelector`); metrics-server's periods in [`crate::cluster::metrics`].

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::calls::MetricsApi;
use super::pod::Pod;
use super::{Caller, Cluster, Inner, Kubelets, namespace_of};
use crate::cluster::autoscaler::reconcile::{Reading, Sight};
use crate::cluster::autoscaler::{
    Autoscaler, AutoscalerSpec, Condition, ConditionKind, ContainerRequests, ContainerUsage, Metric, MetricError,
    MetricId, MetricsSource, PodUsage, PodView, ReadyCondition, ResourceName, ResourceTarget, Rules, Sample, Scale,
    Selector, Start, ValueTarget, Verdict,
};
use crate::cluster::metrics::{MetricOf, MetricsServer, NamedMetric, Point, Rates, Usage};
use crate::cluster::objects::{ContainerRequest, PodTemplate};
use crate::cluster::selector::LabelSelector;
use crate::cluster::version::Version;
use crate::engine::{Datum, EventId, Stream};
use crate::units::SimTime;

/// From a sync's begin to its end, where the next period begins: the metrics API is asked and the status written. An assumption: with the hop
/// before, syncs of recorded controllers come 15.003 to 15.02 s after one another.
const SYNC_TAKES: Duration = Duration::from_millis(6);

/// Calls for the event of a new size.
const EVENT_CALLS: u32 = 1;

/// How autoscaling works in a cluster.
#[derive(Clone, PartialEq, Debug)]
pub struct AutoscalingConfig {
    /// The controller's rules.
    pub rules: Rules,
    /// The metrics server scrapes so often.
    pub metrics_resolution: Duration,
    /// The kubelet reads a container's counters so often.
    pub kubelet_sampling: Duration,
    /// Metrics of pods, objects and of what is outside, by name.
    pub named: Vec<NamedMetric>,
    /// What targets select, by `namespace/name`: others' pods as well as their own. One that is not here has its own.
    pub selectors: BTreeMap<Rc<str>, LabelSelector>,
}

impl AutoscalingConfig {
    /// The defaults of a version of Kubernetes: scrapes every 15 s, as the shipped manifests of metrics-server say.
    #[must_use]
    pub fn of(version: Version) -> Self {
        Self {
            rules: Rules::of(version),
            metrics_resolution: Duration::from_secs(15),
            kubelet_sampling: Duration::from_secs(10),
            named: Vec::new(),
            selectors: BTreeMap::new(),
        }
    }
}

/// One sync of an autoscaler, as it is told.
#[derive(Clone, PartialEq, Debug)]
pub struct AutoscalerStep {
    /// The autoscaler, as `namespace/name`.
    pub object: Rc<str>,
    /// Its target, as `namespace/name`.
    pub target: Rc<str>,
    /// When.
    pub at: SimTime,
    /// Pods wanted before.
    pub current: i32,
    /// Pods wanted after, as the status says: what failed changes nothing there.
    pub desired: i32,
    /// The size was written.
    pub is_scaled: bool,
    /// What its metrics are, and what they came to.
    pub metrics: Vec<(Metric, Option<Reading>)>,
    /// Its conditions.
    pub conditions: BTreeMap<ConditionKind, Condition>,
    /// What went wrong, in words.
    pub error: Option<String>,
}

/// The controller's state.
#[derive(Default)]
pub(in crate::cluster) struct Autoscaling {
    config: Option<AutoscalingConfig>,
    scalers: BTreeMap<Rc<str>, Scaler>,
    server: Option<MetricsServer>,
    /// Samples that come from elsewhere.
    source: Option<Rc<dyn MetricsSource>>,
    /// Pods whose counters are read.
    watched: BTreeSet<u64>,
    steps: Vec<AutoscalerStep>,
}

struct Scaler {
    autoscaler: Autoscaler,
    /// A scaler that was deleted and made again is another one.
    uid: u64,
    hops: Stream,
    because: Option<EventId>,
    /// The size after the last sync.
    wanted: Option<i32>,
    created_at: SimTime,
}

impl Autoscaling {
    fn config(&self) -> AutoscalingConfig {
        self.config.clone().unwrap_or_else(|| AutoscalingConfig::of(Version::new(1, 33)))
    }

    /// What a target selects, where that may be more than its own pods.
    fn selector_of(&self, target: &str) -> Option<&LabelSelector> {
        self.config.as_ref()?.selectors.get(target)
    }

    /// Whether a target selects this pod.
    fn selects(&self, target: &str, pod: &Pod) -> bool {
        match self.selector_of(target) {
            Some(selector) => namespace_of(target) == &*pod.record.namespace && selector.matches(&pod.template.labels),
            None => *pod.owner == *target,
        }
    }

    /// Whether an autoscaler looks at this pod.
    fn looks_at(&self, pod: &Pod) -> bool {
        self.scalers.values().any(|scaler| self.selects(&scaler.autoscaler.spec.target, pod))
    }
}

impl Cluster {
    /// Says how autoscaling works. Without it, as in 1.33.
    pub fn set_autoscaling(&self, config: AutoscalingConfig) {
        self.inner.autoscaling.borrow_mut().config = Some(config);
    }

    /// Takes samples from elsewhere instead of from the kubelets.
    pub fn set_metrics_source(&self, source: Rc<dyn MetricsSource>) {
        self.inner.autoscaling.borrow_mut().source = Some(source);
    }

    /// Creates an autoscaler, or changes one; that keeps what it remembers.
    pub fn apply_autoscaler(&self, spec: AutoscalerSpec, because: Option<EventId>) {
        let (key, target) = (Rc::clone(&spec.key), Rc::clone(&spec.target));
        // One that the run finds has long reported the size that there is.
        let found = self.deployment(&target).map(|known| known.replicas).filter(|_| self.stands());
        let is_new = {
            let mut autoscaling = self.inner.autoscaling.borrow_mut();
            let uid = autoscaling.scalers.values().map(|scaler| scaler.uid + 1).max().unwrap_or(0);
            match autoscaling.scalers.get_mut(&key) {
                Some(known) => {
                    known.autoscaler.spec = spec;
                    known.because = because;
                    None
                }
                None => {
                    let hops = self.inner.streams.stream("autoscaler-hop", &key);
                    let mut autoscaler = Autoscaler::new(spec);
                    if let Some(found) = found {
                        (autoscaler.status.current, autoscaler.status.desired) = (found, found);
                    }
                    let created_at = self.inner.sim.now();
                    let scaler = Scaler { autoscaler, uid, hops, because, wanted: None, created_at };
                    autoscaling.scalers.insert(Rc::clone(&key), scaler);
                    Some(uid)
                }
            }
        };
        self.start_scrapes();
        self.watch_pods(&target);
        if let Some(uid) = is_new {
            self.start_syncs(key, uid);
        }
    }

    /// Deletes an autoscaler, and what it remembers.
    pub fn delete_autoscaler(&self, key: &str) {
        self.inner.autoscaling.borrow_mut().scalers.remove(key);
    }

    /// An autoscaler as it stands.
    #[must_use]
    pub fn autoscaler(&self, key: &str) -> Option<Autoscaler> {
        self.inner.autoscaling.borrow().scalers.get(key).map(|scaler| scaler.autoscaler.clone())
    }

    /// All autoscalers as they stand, in the order of their names, each with when it was created.
    #[must_use]
    pub fn autoscalers(&self) -> Vec<(Autoscaler, SimTime)> {
        let autoscaling = self.inner.autoscaling.borrow();
        autoscaling.scalers.values().map(|scaler| (scaler.autoscaler.clone(), scaler.created_at)).collect()
    }

    /// The size that the first autoscaler of a Deployment wants; none before its first sync.
    #[must_use]
    pub fn autoscaled_size(&self, target: &str) -> Option<i32> {
        let autoscaling = self.inner.autoscaling.borrow();
        let of_target = autoscaling.scalers.values().find(|scaler| &*scaler.autoscaler.spec.target == target)?;
        of_target.wanted
    }

    /// All syncs so far.
    #[must_use]
    pub fn autoscaler_steps(&self) -> Vec<AutoscalerStep> {
        self.inner.autoscaling.borrow().steps.clone()
    }

    /// The pods that a Deployment selects as an autoscaler sees them, in the order of their creation.
    #[must_use]
    pub fn autoscaled_pods(&self, target: &str) -> Vec<PodView> {
        let (selected, state) = (self.selected_pods(target), self.inner.state.borrow());
        selected.iter().map(|id| view(&state.pods[id], &self.inner)).collect()
    }

    /// The pods that a target selects, whoever owns them, in the order of their creation.
    fn selected_pods(&self, target: &str) -> BTreeSet<u64> {
        let (autoscaling, state) = (self.inner.autoscaling.borrow(), self.inner.state.borrow());
        match autoscaling.selector_of(target) {
            Some(selector) => state.pods_with(namespace_of(target), |labels| selector.matches(labels)),
            None => state.pods_of(target).map(|pod| pod.record.id).collect(),
        }
    }

    fn start_syncs(&self, key: Rc<str>, uid: u64) {
        let config = self.inner.autoscaling.borrow().config();
        let period = config.rules.sync_period;
        let first = if self.stands() {
            let mut first = self.inner.streams.stream("autoscaler-phase", &key).uniform(Duration::ZERO, period);
            while first < config.kubelet_sampling + config.metrics_resolution {
                first += period;
            }
            first
        } else {
            period
        };
        let this = self.clone();
        self.inner.sim.spawn("autoscaler", async move {
            let mut wait = first;
            loop {
                let Some(hop) = this.hop_of(&key, uid) else { return };
                this.inner.sim.sleep(wait + hop).await;
                if this.hop_of(&key, uid).is_none() {
                    return;
                }
                this.ask_for_samples(&key).await;
                this.sync_autoscaler(&key);
                wait = period + SYNC_TAKES;
            }
        });
    }

    /// How long the controller takes to react; none if the autoscaler is gone.
    fn hop_of(&self, key: &Rc<str>, uid: u64) -> Option<Duration> {
        let mut autoscaling = self.inner.autoscaling.borrow_mut();
        let scaler = autoscaling.scalers.get_mut(key).filter(|scaler| scaler.uid == uid)?;
        Some(self.inner.config.hop.draw(&mut scaler.hops))
    }

    /// The calls before a sync: the target's size, and each metric.
    async fn ask_for_samples(&self, key: &Rc<str>) {
        let apis: Vec<MetricsApi> = {
            let autoscaling = self.inner.autoscaling.borrow();
            let spec = autoscaling.scalers.get(key).map(|scaler| &scaler.autoscaler.spec);
            spec.into_iter().flat_map(|spec| &spec.metrics).filter_map(api_of).collect()
        };
        self.called(Caller::Scales, 1).await;
        for api in apis {
            self.called(Caller::Metrics(api), 1).await;
        }
    }

    /// One sync.
    fn sync_autoscaler(&self, key: &Rc<str>) {
        let now = self.inner.sim.now();
        // Taken out for the sync: what is read meanwhile must not find it borrowed.
        let (mut autoscaler, because, config, source) = {
            let autoscaling = self.inner.autoscaling.borrow();
            let Some(scaler) = autoscaling.scalers.get(key) else { return };
            let source = autoscaling.source.clone();
            (scaler.autoscaler.clone(), scaler.because, autoscaling.config(), source)
        };
        let target = Rc::clone(&autoscaler.spec.target);
        let (pods, scale) = (self.autoscaled_pods(&target), self.scale_of(&target));
        let pipeline = Pipeline { cluster: self, target: &target, config: &config, now };
        let metrics: &dyn MetricsSource = source.as_deref().unwrap_or(&pipeline);
        let current = scale.map_or(autoscaler.status.current, |scale| scale.spec_replicas);
        let mut written = None;
        let sight = Sight { scale, pods: &pods, metrics };
        // Time stamps of the API are on the wall clock, and so is all that they are compared with.
        let wall = self.inner.clock.wall(now);
        let former = autoscaler.status.clone();
        let verdict = autoscaler.reconcile(&config.rules, &sight, wall, |replicas| {
            written = Some(replicas);
            true
        });
        let bounds = autoscaler.spec.min_replicas..=autoscaler.spec.max_replicas;
        let is_within = written.is_none_or(|size| bounds.contains(&size));
        assert!(is_within, "{key} writes a size outside of its bounds: {written:?} and not {bounds:?}");
        let wanted = written.unwrap_or(current);
        let has_news = autoscaler.status != former;
        let evaluated = self.tell_sync(&autoscaler, &verdict, (current, wanted), because);
        let step = AutoscalerStep {
            object: Rc::clone(key),
            target: Rc::clone(&target),
            at: now,
            current,
            desired: autoscaler.status.desired,
            is_scaled: written.is_some(),
            metrics: autoscaler
                .spec
                .metrics
                .iter()
                .enumerate()
                .map(|(index, metric)| (metric.clone(), autoscaler.status.metrics.get(index).copied().flatten()))
                .collect(),
            conditions: autoscaler.status.conditions.clone(),
            error: verdict.error.as_ref().map(ToString::to_string),
        };
        {
            let mut autoscaling = self.inner.autoscaling.borrow_mut();
            autoscaling.steps.push(step);
            if let Some(scaler) = autoscaling.scalers.get_mut(key) {
                scaler.autoscaler = autoscaler;
                scaler.wanted = Some(wanted);
            }
        }
        if let Some(replicas) = written {
            let data = vec![("from", i64::from(current).into()), ("to", i64::from(replicas).into())];
            let event = self.tell(Some(evaluated), "hpa_scaled", format!("HorizontalPodAutoscaler/{key}"), data);
            self.when_called(Caller::Scales, 1, move |this| this.scale(&target, replicas, Some(event)));
            self.calls(Caller::Autoscalers, EVENT_CALLS);
        }
        if has_news {
            self.calls(Caller::Autoscalers, 1);
        }
    }

    fn tell_sync(
        &self,
        autoscaler: &Autoscaler,
        verdict: &Verdict,
        (current, wanted): (i32, i32),
        because: Option<EventId>,
    ) -> EventId {
        let mut data: Vec<(&'static str, Datum)> =
            vec![("current", i64::from(current).into()), ("desired", i64::from(wanted).into())];
        data.extend(verdict.recommended.map(|best| ("recommended", i64::from(best).into())));
        let metrics = autoscaler.spec.metrics.iter().zip(&autoscaler.status.metrics);
        let metrics: Vec<String> = metrics.map(|(metric, reading)| reading_text(metric, *reading)).collect();
        if !metrics.is_empty() {
            data.push(("metrics", metrics.join(", ").into()));
        }
        for (kind, condition) in &autoscaler.status.conditions {
            data.push((kind.name(), condition.reason.into()));
        }
        data.extend(verdict.error.as_ref().map(|error| ("error", error.to_string().into())));
        self.tell(because, "hpa_evaluated", format!("HorizontalPodAutoscaler/{}", autoscaler.spec.key), data)
    }

    fn scale_of(&self, target: &str) -> Option<Scale> {
        let (pods, state) = (self.selected_pods(target), self.inner.state.borrow());
        // Pods of one set are alike.
        let alike: BTreeMap<u64, &Pod> = pods.iter().map(|id| &state.pods[id]).map(|pod| (pod.set, pod)).collect();
        let is_shared = {
            let autoscaling = self.inner.autoscaling.borrow();
            let targets = autoscaling.scalers.values().map(|scaler| &*scaler.autoscaler.spec.target);
            let looks = |other: &str| other == target || alike.values().any(|pod| autoscaling.selects(other, pod));
            targets.filter(|other| looks(other)).count() > 1
        };
        let known = state.deployments.get(target).filter(|known| !known.is_deleted)?;
        Some(Scale {
            spec_replicas: known.spec.replicas,
            status_replicas: known.status.replicas,
            selector: if is_shared { Selector::Shared } else { Selector::Clear },
        })
    }

    /// The metrics server scrapes from the first autoscaler on, at a phase of its own.
    fn start_scrapes(&self) {
        let resolution = {
            let mut autoscaling = self.inner.autoscaling.borrow_mut();
            if autoscaling.server.is_some() || autoscaling.source.is_some() {
                return;
            }
            let resolution = autoscaling.config().metrics_resolution;
            autoscaling.server = Some(MetricsServer::new(resolution));
            resolution
        };
        let phase = self.inner.streams.stream("metrics-server", "").uniform(Duration::ZERO, resolution);
        let this = self.clone();
        self.inner.sim.spawn("metrics-server", async move {
            this.inner.sim.sleep(phase).await;
            loop {
                this.scrape();
                this.inner.sim.sleep(resolution).await;
            }
        });
    }

    fn scrape(&self) {
        if let Some(server) = &mut self.inner.autoscaling.borrow_mut().server {
            server.scrape();
        }
    }

    /// Reads the counters of the pods that a Deployment selects from now on.
    fn watch_pods(&self, target: &str) {
        let mut running = self.selected_pods(target);
        running.retain(|id| self.inner.state.borrow().pods[id].ip.is_some());
        for id in running {
            self.watch_pod(id);
        }
    }

    /// A pod's container runs: its counters are read if an autoscaler looks at it. The first reading comes with the start, the others one period
    /// apart; those of pods that the run finds at phases of their own.
    pub(in crate::cluster) fn watch_pod(&self, id: u64) {
        let identity = match self.inner.state.borrow().pods.get(&id) {
            Some(pod) if self.inner.autoscaling.borrow().looks_at(pod) => Rc::clone(&pod.identity),
            _ => return,
        };
        let period = {
            let mut autoscaling = self.inner.autoscaling.borrow_mut();
            if autoscaling.source.is_some() || !autoscaling.watched.insert(id) {
                return;
            }
            autoscaling.config().kubelet_sampling
        };
        let phase = if self.inner.sim.now() == SimTime::ZERO {
            self.inner.streams.stream("kubelet-sampling", &identity).uniform(Duration::ZERO, period)
        } else {
            period
        };
        let this = self.clone();
        self.inner.sim.spawn("kubelet-sampling", async move {
            let mut wait = phase;
            while this.read_counters(id) {
                this.inner.sim.sleep(wait).await;
                wait = period;
            }
        });
    }

    fn usage(&self, ip: std::net::Ipv4Addr) -> Option<Usage> {
        match &self.inner.kubelets {
            Kubelets::Agents(runtime) => runtime.usage(ip),
            Kubelets::Hollow(_) => None,
        }
    }

    /// Reads a pod's counters; whether the pod is still there.
    fn read_counters(&self, id: u64) -> bool {
        let found = {
            let state = self.inner.state.borrow();
            state.pods.get(&id).map(|pod| {
                // Nobody can ask the kubelet of a node that is silent.
                let is_silent = pod.node_index.is_some_and(|index| state.nodes[index].is_silent());
                (pod.ip.filter(|_| !is_silent), start_of_container(pod, self.inner.config.stands_at_zero))
            })
        };
        let usage = found.and_then(|(ip, start)| Some((start, self.usage(ip?)?)));
        let now = self.inner.sim.now();
        let mut autoscaling = self.inner.autoscaling.borrow_mut();
        if let Some(server) = &mut autoscaling.server {
            match usage {
                Some((start, usage)) if self.stands() => server.find(id, Point { at: now, start, usage }),
                Some((start, usage)) => server.read(id, Point { at: now, start, usage }),
                None => server.forget(id),
            }
        }
        if found.is_none() {
            autoscaling.watched.remove(&id);
        }
        found.is_some()
    }
}

/// The samples of the kubelets, and the named metrics. Of several series of one name those that are meant are added up, as the usual adapters ask for
/// them: `sum(…) by (pod)`.
struct Pipeline<'a> {
    cluster: &'a Cluster,
    target: &'a str,
    config: &'a AutoscalingConfig,
    now: SimTime,
}

impl Pipeline<'_> {
    /// The target's pods that have samples.
    fn rates(&self) -> Vec<(Rc<str>, Rates, Rc<PodTemplate>)> {
        let (selected, state) = (self.cluster.selected_pods(self.target), self.cluster.inner.state.borrow());
        let autoscaling = self.cluster.inner.autoscaling.borrow();
        let Some(server) = &autoscaling.server else { return Vec::new() };
        let rates = selected.iter().map(|id| &state.pods[id]).filter_map(|pod| {
            Some((Rc::clone(&pod.record.name), server.rates(pod.record.id)?, Rc::clone(&pod.template)))
        });
        rates.collect()
    }

    /// The series that are meant.
    fn named(&self, metric: &MetricId) -> impl Iterator<Item = &MetricOf> {
        let is_meant = move |named: &&NamedMetric| named.name == metric.name && metric.selector.matches(&named.labels);
        self.config.named.iter().filter(is_meant).map(|named| &named.of)
    }

    /// Adds to each pod's sample what one series says of it.
    fn add_series(&self, of: &MetricOf, samples: &mut BTreeMap<Rc<str>, Sample>) {
        let mut add = |pod: Rc<str>, sample: Sample| {
            samples.entry(pod).and_modify(|sum| sum.milli = sum.milli.saturating_add(sample.milli)).or_insert(sample);
        };
        match of {
            MetricOf::Requests => {
                for (pod, rates, _) in self.rates() {
                    if let Some(milli) = rates.requests_milli {
                        add(pod, Sample { milli, at: rates.at, window: rates.window });
                    }
                }
            }
            MetricOf::Pods(curve) => {
                let sample = Sample { milli: curve.at(self.now), at: self.now, window: Duration::ZERO };
                let (selected, state) = (self.cluster.selected_pods(self.target), self.cluster.inner.state.borrow());
                let running = selected.iter().map(|id| &state.pods[id]).filter(|pod| pod.ip.is_some());
                running.for_each(|pod| add(Rc::clone(&pod.record.name), sample));
            }
            MetricOf::Object(..) | MetricOf::External(_) => {}
        }
    }
}

/// Where the samples of a metric come from.
fn api_of(metric: &Metric) -> Option<MetricsApi> {
    match metric {
        Metric::Resource { .. } => Some(MetricsApi::Resource),
        Metric::Pods { .. } | Metric::Object { .. } => Some(MetricsApi::Custom),
        Metric::External { .. } => Some(MetricsApi::External),
        Metric::Unknown { .. } => None,
    }
}

fn no_metric(api: &str) -> MetricError {
    MetricError::NoMetrics { api: Rc::from(api) }
}

impl MetricsSource for Pipeline<'_> {
    fn pod_usage(&self) -> Result<Vec<PodUsage>, MetricError> {
        let usage = |(pod, rates, template): (Rc<str>, Rates, Rc<PodTemplate>)| {
            let memory = rates.memory_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(1000));
            // The simulated process is the first container's; the others are idle.
            let asked = requests_of(&template, self.cluster.inner.config.version);
            let containers = asked.iter().enumerate().map(|(index, container)| ContainerUsage {
                name: Rc::clone(&container.name),
                cpu_milli: if index == 0 { rates.cpu_milli } else { Some(0) },
                memory_milli: if index == 0 { memory } else { Some(0) },
            });
            let at = self.cluster.inner.clock.stamp(rates.at);
            let containers = containers.collect();
            PodUsage { pod, at, window: rates.window, containers }
        };
        Ok(self.rates().into_iter().map(usage).collect())
    }

    fn pods_metric(&self, metric: &MetricId) -> Result<BTreeMap<Rc<str>, Sample>, MetricError> {
        let mut samples = BTreeMap::new();
        self.named(metric).for_each(|of| self.add_series(of, &mut samples));
        if samples.is_empty() { Err(no_metric("custom metrics API")) } else { Ok(samples) }
    }

    fn object_metric(&self, metric: &MetricId, object: &str) -> Result<i64, MetricError> {
        let value = |of: &MetricOf| match of {
            MetricOf::Object(known, curve) if **known == *object => Some(curve.at(self.now)),
            _ => None,
        };
        let values = self.named(metric).filter_map(value);
        values.reduce(i64::saturating_add).ok_or_else(|| no_metric("custom metrics API"))
    }

    fn external_metric(&self, metric: &MetricId) -> Result<Vec<i64>, MetricError> {
        let value = |of: &MetricOf| if let MetricOf::External(curve) = of { Some(curve.at(self.now)) } else { None };
        let values: Vec<i64> = self.named(metric).filter_map(value).collect();
        if values.is_empty() { Err(no_metric("external metrics API")) } else { Ok(values) }
    }
}

fn view(pod: &Pod, inner: &Inner) -> PodView {
    let (clock, stands_at_zero) = (inner.clock, inner.config.stands_at_zero);
    let scheduled_at = pod.record.scheduled_at;
    let stood = stands_at_zero && pod.record.created_at == SimTime::ZERO;
    // The kubelet writes the first status when it sees the pod, not ready.
    let since = pod.ready_since.or(scheduled_at);
    PodView {
        name: Rc::clone(&pod.record.name),
        phase: pod.phase,
        is_deleting: pod.is_deleting(),
        start: if stood { Some(Start::LongAgo) } else { scheduled_at.map(|at| Start::At(clock.stamp(at))) },
        ready: since.map(|since| ReadyCondition { is_ready: pod.is_ready, since: clock.stamp(since) }),
        containers: requests_of(&pod.template, inner.config.version),
    }
}

fn start_of_container(pod: &Pod, stands_at_zero: bool) -> Start {
    match pod.started_at {
        Some(at) if at > SimTime::ZERO || !stands_at_zero => Start::At(at),
        _ => Start::LongAgo,
    }
}

/// What the containers of a pod request, from 1.29 on its sidecars among them. A template that does not name them has one.
///
/// Source: Kubernetes v1.29 pkg/controller/podautoscaler/replica_calculator.go (`calculatePodRequests`).
fn requests_of(template: &PodTemplate, version: Version) -> Rc<[ContainerRequests]> {
    let milli = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    if template.containers.is_empty() {
        let whole = ContainerRequests {
            name: Rc::from("app"),
            cpu_milli: Some(milli(template.requests.cpu_millicores)),
            memory_milli: Some(milli(template.requests.memory_bytes.saturating_mul(1000))),
        };
        return Rc::from([whole]);
    }
    let container = |asked: &ContainerRequest| ContainerRequests {
        name: Rc::clone(&asked.name),
        cpu_milli: asked.cpu_millicores.map(milli),
        memory_milli: asked.memory_bytes.map(|bytes| milli(bytes.saturating_mul(1000))),
    };
    let sidecars = template.init.iter().filter(|init| init.sidecar.is_some() && version >= Version::new(1, 29));
    template.containers.iter().chain(sidecars.map(|init| &init.asked)).map(container).collect()
}

/// A metric's reading beside its target, as `kubectl get hpa` writes it: `cpu 87%/80%`.
#[must_use]
pub fn reading_text(metric: &Metric, reading: Option<Reading>) -> String {
    let amount = |milli: i64| match (metric, milli % 1000) {
        (Metric::Resource { resource: ResourceName::Cpu, .. }, _) => format!("{milli}m"),
        (_, 0) => format!("{}", milli / 1000),
        _ => format!("{milli}m"),
    };
    let seen = match reading {
        None => "<unknown>".to_owned(),
        Some(Reading::Utilization { percent, .. }) => format!("{percent}%"),
        Some(Reading::Average(milli) | Reading::Value(milli)) => amount(milli),
    };
    let target = match metric {
        Metric::Resource { target: ResourceTarget::Utilization(percent), .. } => format!("{percent}%"),
        Metric::Resource { target: ResourceTarget::AverageMilli(milli), .. }
        | Metric::Pods { average_milli: milli, .. }
        | Metric::Object { target: ValueTarget::AverageMilli(milli), .. }
        | Metric::External { target: ValueTarget::AverageMilli(milli), .. } => format!("{} (avg)", amount(*milli)),
        Metric::Object { target: ValueTarget::ValueMilli(milli), .. }
        | Metric::External { target: ValueTarget::ValueMilli(milli), .. } => amount(*milli),
        Metric::Unknown { .. } => "?".to_owned(),
    };
    format!("{} {seen}/{target}", metric.name())
}

#[cfg(test)]
mod tests;
