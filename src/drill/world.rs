//! The wiring of a world, and the run.
//!
//! At time zero the world stands: pods ready, targets healthy. Then comes the warm-up, in which the loads already run, and then the
//! measured time. Actions and phases are counted from its start.

mod actions;
mod controller;
mod edits;
mod endpoints;
pub(super) mod entries;
mod front;
mod member;
mod push;
mod scaling;
mod sharing;
mod undone;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use self::entries::Entries;
use self::member::{Member, Shared};
use super::causes::{Evidence, Way, cause_of, seen_by_proxy};
use super::config::{MixEntry, Verb, WorldConfig};
use super::process::Surroundings;
use crate::cluster::PodCounts;
use crate::edge::load_balancer::Trial;
use crate::engine::{EventLog, Sim, Stall, Streams};
use crate::gateway::Flags;
use crate::load::{Arrivals, Client, Entrances, Finished, Names, RateSegment, Request, Sink, Site};
use crate::net::{LinkConfig, Net};
use crate::record::results::{GatewayFacts, GatewayStatus, Rollout, Slo};
use crate::record::{
    self, BooksBroken, Done, Facts, Gauge, ObjectsShown, Recorder, RecorderConfig, RequestId, Run, lanes,
};
use crate::units::SimTime;

/// Where the kubelets' probes come from.
const KUBELET: Ipv4Addr = Ipv4Addr::new(192, 168, 255, 254);

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Virtual time so far, warm-up included.
    pub now: SimTime,
    /// Where it ends.
    pub end: SimTime,
    /// Requests lost so far.
    pub dropped: u64,
}

/// Whether the run goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Continue {
    /// On to the next second.
    Yes,
    /// It was interrupted: what there is, is told as incomplete.
    No,
}

/// A run that has no results.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The world makes no progress.
    #[error(transparent)]
    Stall(#[from] Stall),
    /// The counts do not add up.
    #[error(transparent)]
    Books(#[from] BooksBroken),
}

/// What a run gives.
#[derive(Debug)]
pub struct Outcome {
    /// The results and their rows.
    pub run: Run,
    /// The event log.
    pub log: EventLog,
    /// The cluster's objects at the moments that were asked for.
    pub objects: Vec<ObjectsShown>,
    /// Task polls: the engine's measure of work.
    pub polls: u64,
}

struct World {
    around: Surroundings,
    net: Net,
    config: WorldConfig,
    members: Vec<Rc<Member>>,
    flags: Rc<RefCell<BTreeMap<String, Flags>>>,
    recorder: RefCell<Option<Recorder>>,
    cpu_seen: Cell<Duration>,
    /// The last action began a phase that ends when the gateway has settled; how often a second found it busy since.
    unsettled_s: Cell<Option<u64>>,
    /// Within so many seconds its effect begins at the latest.
    begins_within_s: Cell<u64>,
    cpu_ratios: RefCell<Vec<f64>>,
    /// Most memory of one gateway.
    memory_max: Cell<u64>,
    objects: RefCell<Vec<ObjectsShown>>,
    /// What the timeline has done.
    entries: RefCell<Entries>,
    /// What the clients of each load are told of the way in.
    names: RefCell<Vec<Rc<Names>>>,
}

/// Runs a world to its end.
///
/// `slo` judges the recorder before it is closed; `progress` is called once per virtual second.
///
/// # Errors
///
/// If the simulator itself is at fault: a world that does not move, or books that do not balance.
///
/// # Panics
///
/// If an invariant of the simulator is broken.
pub fn run(
    config: WorldConfig,
    slo: impl FnOnce(&Recorder, &[crate::cluster::Rollout]) -> Vec<Slo>,
    mut progress: impl FnMut(Progress) -> Continue,
) -> Result<Outcome, RunError> {
    let world = World::build(config);
    let start = SimTime::ZERO.after(world.config.warmup);
    let end = start.after(world.config.duration);
    let sim = world.around.sim.clone();
    sim.run_until(SimTime::ZERO)?;
    for member in &world.members {
        member.cluster().set_deletion_costs(&member.config.target, &member.config.deletion_costs);
    }
    // Before the loads, whose first request may be due at the moment of an action: it belongs to the phase that begins then.
    world.schedule_actions(start);
    let drains = world.start_loads(start);
    world.schedule_looks(start);
    let mut complete = true;
    let mut next = SimTime::ZERO;
    while next < end {
        next = next.after(Duration::from_secs(1)).min(end);
        sim.run_until(next)?;
        world.read_gauges(next);
        let dropped = world.recorder().dropped();
        if progress(Progress { now: next, end, dropped }) == Continue::No {
            complete = false;
            break;
        }
    }
    if complete {
        // Every request has ended when its client gives up at the latest.
        sim.run_until(end.after(drains))?;
    }
    let outcome = world.finish(complete, slo);
    // Tasks hold the world they live in: without this it would stay in memory, and the next run's would come on top.
    sim.end();
    outcome
}

impl World {
    fn build(config: WorldConfig) -> Rc<Self> {
        let sim = Sim::new();
        let streams = Streams::new(config.seed);
        let log = Rc::new(RefCell::new(EventLog::default()));
        let net = Net::new(&sim, streams);
        let first = config.members.first().expect("a world has a cluster");
        let cloud = LinkConfig { latency: first.front.cloud_latency / 2, ..LinkConfig::default() };
        let kubelet = net.attach(KUBELET, cloud);
        let around = Surroundings { sim, streams, log };
        let flags = Rc::default();
        let is_owned_later = config.actions.iter().any(|action| matches!(action.verb, Some(Verb::Own(_))));
        let shared =
            Shared { around: around.clone(), net: net.clone(), kubelet, flags: Rc::clone(&flags), is_owned_later };
        let of_config = config.members.iter().enumerate();
        let members: Vec<Rc<Member>> =
            of_config.map(|(index, member)| Member::build(index, member.clone(), &shared)).collect();
        for member in &members {
            member.find_backends(&members);
        }
        let world = Rc::new(Self {
            around,
            net,
            members,
            flags,
            recorder: RefCell::new(Some(recorder(&config))),
            cpu_seen: Cell::new(Duration::ZERO),
            unsettled_s: Cell::new(None),
            begins_within_s: Cell::new(0),
            cpu_ratios: RefCell::default(),
            memory_max: Cell::new(0),
            objects: RefCell::default(),
            entries: RefCell::default(),
            names: RefCell::default(),
            config,
        });
        for member in &world.members {
            let told = Rc::downgrade(&world);
            if let Some(balancer) = &*member.balancer.borrow() {
                balancer.when_readdressed(Rc::new(move || {
                    told.upgrade().iter().for_each(|world| world.tell_names());
                }));
            }
        }
        world
    }

    /// The name server answers with the addresses as they are now.
    fn tell_names(&self) {
        let (now, names) = (self.around.sim.now(), self.names.borrow().clone());
        for (load, names) in names.iter().enumerate() {
            names.change(now, self.addresses(load));
        }
    }

    /// The cluster behind an address that a client dialled; the first one for a request that never got so far.
    fn member_at(&self, entrance: Option<Ipv4Addr>) -> &Rc<Member> {
        let found = entrance.and_then(|ip| self.members.iter().find(|member| member.is_entered_at(ip)));
        found.unwrap_or(&self.members[0])
    }

    fn recorder(&self) -> std::cell::RefMut<'_, Recorder> {
        std::cell::RefMut::map(self.recorder.borrow_mut(), |recorder| {
            recorder.as_mut().expect("the recorder is open until the run is over")
        })
    }

    /// Starts all clients; returns how long the last request may take after the end.
    fn start_loads(self: &Rc<Self>, start: SimTime) -> Duration {
        let sim = &self.around.sim;
        for (index, spec) in self.config.loads.iter().enumerate() {
            let ip =
                Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(198, 51, 100, 0)) + u32::try_from(index).unwrap_or(0) + 1);
            let host = self.net.attach(ip, LinkConfig { latency: spec.rtt / 2, ..LinkConfig::default() });
            let mix = spec.mix.iter().map(|entry| request(entry, spec.rtt)).collect();
            let sink: Rc<dyn Sink> = Rc::new(Ledger(Rc::downgrade(self)));
            let streams = self.around.streams;
            let ttl = self.members[0].config.front.names.ttl;
            let names = Rc::new(Names::new(ttl, self.addresses(index)));
            self.names.borrow_mut().push(Rc::clone(&names));
            let entrances = Entrances::named(names, streams.stream("entrance", &spec.name));
            let client = Client::new(sim, host, (index, &spec.name), spec.client.clone(), (entrances, mix), sink);
            let mut segments = spec.segments.clone();
            let mut begins_at = start;
            if spec.runs_in_warmup && !self.config.warmup.is_zero() {
                let rate = segments.first().map_or(0.0, |first| first.from_per_s);
                let warmup = RateSegment { duration: self.config.warmup, from_per_s: rate, to_per_s: rate };
                segments.insert(0, warmup);
                begins_at = SimTime::ZERO;
            }
            let arrivals = Arrivals::new(segments, spec.pacing.clone(), streams.stream("arrivals", &spec.name));
            let mix_stream = streams.stream("mix", &spec.name);
            let clock = sim.clone();
            sim.spawn("load", async move {
                client.prewarm().await;
                clock.sleep_until(begins_at).await;
                client.run(arrivals, mix_stream).await;
            });
        }
        let longest = self.config.loads.iter().map(|load| load.client.timeout).max();
        longest.unwrap_or_default() + Duration::from_secs(1)
    }

    /// The addresses that the clients of a load are told by now, with their weights. A cluster's weight is that of all its addresses together.
    fn addresses(&self, load: usize) -> Vec<(Ipv4Addr, u32)> {
        let known: Vec<(u32, Vec<Ipv4Addr>)> =
            self.members.iter().map(|member| (member.config.weight, member.entrances(load))).collect();
        let scale = known.iter().fold(1_u32, |scale, (_, ips)| lcm(scale, u32::try_from(ips.len()).unwrap_or(1)));
        let weighed = known.into_iter().flat_map(|(weight, ips)| {
            let each = weight * scale / u32::try_from(ips.len()).unwrap_or(1);
            ips.into_iter().map(move |ip| (ip, each))
        });
        weighed.collect()
    }

    /// A zone of a cluster's balancer fails. The name server finds out after a while, and likewise when the zone is back.
    fn fail_zone(
        self: &Rc<Self>,
        member: usize,
        zone: &Rc<str>,
        back_after: Option<Duration>,
        event: crate::engine::EventId,
    ) {
        let (world, zone, clock) = (Rc::clone(self), Rc::clone(zone), self.around.sim.clone());
        if let Some(balancer) = &*self.members[member].balancer.borrow() {
            balancer.fail_zone(&zone, event);
        }
        let probing = self.members[member].config.front.names.probing;
        self.around.sim.spawn("zone-back", async move {
            let Some(back_after) = back_after else { return };
            clock.sleep(back_after).await;
            if let Some(balancer) = &*world.members[member].balancer.borrow() {
                balancer.restore_zone(&zone, event);
            }
        });
        for delay in std::iter::once(Duration::ZERO).chain(back_after) {
            let (world, clock) = (Rc::clone(self), self.around.sim.clone());
            self.around.sim.spawn("name-server", async move {
                clock.sleep(delay + probing).await;
                world.tell_names();
            });
        }
    }

    /// Ends the phase of an action once nothing of the gateway is on its way any more.
    fn watch_phase(&self, now: SimTime) {
        let Some(seconds) = self.unsettled_s.get() else { return };
        let is_quiet = self.members.iter().all(|member| member.is_quiet());
        // The second of the action itself proves nothing: its controllers may not have begun.
        if seconds > self.begins_within_s.get() && is_quiet {
            self.unsettled_s.set(None);
            self.look_at_change("the phase ends");
            // Requests that are due at this very instant have been counted already.
            self.recorder().phase("after", now.after(Duration::from_nanos(1)));
        } else {
            self.unsettled_s.set(Some(seconds + 1));
        }
    }

    fn read_gauges(&self, now: SimTime) {
        self.watch_phase(now);
        let small = |count: usize| Some(u32::try_from(count).unwrap_or(u32::MAX));
        let mut counts = PodCounts::default();
        let (mut spent, mut limit_millicores) = (Duration::ZERO, 0_u64);
        let (mut targets_healthy, mut connections, mut hpa_desired) = (None, 0_u64, None);
        for member in &self.members {
            let cluster = member.cluster();
            counts += member.counts();
            for process in member.gateways.borrow().values() {
                spent += process.cpu.spent(now);
                let memory = process.usage(now).memory_bytes;
                self.memory_max.set(self.memory_max.get().max(memory.unwrap_or(0)));
                limit_millicores += process.limit_millicores.unwrap_or(0);
            }
            targets_healthy =
                member.targets_healthy.get().map(|count| count + targets_healthy.unwrap_or(0)).or(targets_healthy);
            connections += member.connections.get();
            let desired = cluster.autoscaled_size(&member.config.target).and_then(|size| u32::try_from(size).ok());
            hpa_desired = desired.map(|size| size + hpa_desired.unwrap_or(0)).or(hpa_desired);
        }
        let used = spent.saturating_sub(self.cpu_seen.replace(spent));
        #[expect(clippy::cast_precision_loss, reason = "thousandths of a core fit a double")]
        let limit_cores = limit_millicores as f64 / 1000.0;
        let cpu_ratio = (limit_millicores > 0).then(|| used.as_secs_f64() / limit_cores);
        // The gauge belongs to the second that ends now.
        let within = SimTime::from_nanos(now.as_nanos().saturating_sub(1));
        if within >= SimTime::ZERO.after(self.config.warmup) {
            self.cpu_ratios.borrow_mut().extend(cpu_ratio);
        }
        let gauge = Gauge {
            pods: small(counts.active + counts.terminating),
            pods_ready: small(counts.ready),
            pods_available: small(counts.available),
            pods_terminating: small(counts.terminating),
            lb_targets_healthy: targets_healthy.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
            hpa_desired,
            cpu_ratio,
            connections: Some(connections),
        };
        self.recorder().gauge(within, gauge);
    }

    fn finish(
        self: Rc<Self>,
        complete: bool,
        slo: impl FnOnce(&Recorder, &[crate::cluster::Rollout]) -> Vec<Slo>,
    ) -> Result<Outcome, RunError> {
        self.look_at_change("the end");
        let rollouts = self.rollouts();
        let recorder = self.recorder.borrow_mut().take().expect("a run is finished once");
        let slo = slo(&recorder, &rollouts);
        let now = self.around.sim.now();
        let statuses = self.members.iter().map(|member| member.status(now)).collect();
        let log = std::mem::take(&mut *self.around.log.borrow_mut());
        let mut fidelity = self.config.fidelity.clone();
        fidelity.extend(undone::operations(&log, &self.entries.borrow()));
        fidelity.extend(undone::restored(&log, self.config.warmup));
        if complete {
            fidelity.extend(self.unfinished(&rollouts, &log));
        }
        let mut gateway_pods = BTreeSet::new();
        for member in &self.members {
            let records = member.cluster().pod_records();
            let of_gateway = records.iter().filter(|record| member.config.gateways.contains_key(&record.owner));
            gateway_pods.extend(of_gateway.map(|record| member.identity().key(&record.key)));
        }
        let pods = lanes::pods(log.events(), |name| gateway_pods.contains(name));
        let facts = Facts {
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: self.config.scenario.clone(),
            seed: self.config.seed,
            fingerprint: log.fingerprint().to_string(),
            complete,
            rollouts: rollouts.iter().map(rollout_row).collect(),
            targets: lanes::targets(log.events()),
            pods,
            autoscaler: self.autoscaler_rows(),
            gateway: self.gateway_facts(statuses),
            slo,
            fidelity,
        };
        let run = recorder.finish(facts)?;
        Ok(Outcome { run, log, objects: self.objects.take(), polls: self.around.sim.polls_total() })
    }

    /// The rollouts of all clusters, in the order of their start.
    fn rollouts(&self) -> Vec<crate::cluster::Rollout> {
        let mut all = Vec::new();
        for member in &self.members {
            for mut rollout in member.cluster().rollouts() {
                rollout.object = member.identity().key(&rollout.object);
                all.push(rollout);
            }
        }
        all.sort_by_key(|rollout| rollout.started_at);
        all
    }

    /// Rollouts that have not come to an end, and were not overtaken by another: the last of each Deployment.
    fn unfinished(&self, rollouts: &[crate::cluster::Rollout], log: &EventLog) -> Vec<record::results::Fidelity> {
        let is_last = |index: usize| rollouts[index + 1..].iter().all(|later| later.object != rollouts[index].object);
        let open = (0..rollouts.len()).filter(|index| rollouts[*index].ended_at.is_none() && is_last(*index));
        open.map(|index| {
            let found = self.members.iter().flat_map(|member| {
                let pods = member.cluster().all_pod_views();
                pods.into_iter().filter(|pod| *member.identity().key(&pod.owner) == *rollouts[index].object)
            });
            undone::rollout(&rollouts[index], &found.collect::<Vec<_>>(), log)
        })
        .collect()
    }

    /// The syncs of all clusters' autoscalers, in the order of time.
    fn autoscaler_rows(&self) -> Vec<record::results::AutoscalerStep> {
        let mut all = Vec::new();
        for member in &self.members {
            let steps = member.cluster().autoscaler_steps();
            all.extend(steps.iter().map(|step| scaling::step_row(step, member.identity())));
        }
        all.sort_by_key(|row| row.t_ms);
        all
    }

    fn gateway_facts(&self, statuses: Vec<GatewayStatus>) -> GatewayFacts {
        let ratios = self.cpu_ratios.borrow();
        #[expect(clippy::cast_precision_loss, reason = "a run has fewer than 2^53 seconds")]
        let mean = (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64);
        GatewayFacts {
            cpu_ratio_mean: mean,
            cpu_ratio_max: ratios.iter().copied().reduce(f64::max),
            memory_bytes_max: Some(self.memory_max.get()).filter(|bytes| *bytes > 0),
            balancer: self.members.iter().find_map(|member| member.product()).map(str::to_owned),
            status: statuses,
            ..GatewayFacts::default()
        }
    }

    /// An answer such as 404 that a route asks for is what its owner wants: the gateway remarked nothing.
    fn heed_configured(&self, finished: &mut Finished) {
        let may_be =
            finished.outcome == record::Outcome::GatewayError && finished.status.is_some_and(|status| status < 500);
        if may_be && !self.flags.borrow().contains_key(&self.request_name(finished)) {
            finished.outcome = record::Outcome::Ok;
        }
    }

    /// Whose connection a hop has forgotten hears of it by an RST that names nobody.
    fn heed_silence(&self, finished: &mut Finished) {
        let sight = &mut finished.sight;
        if !finished.outcome.is_dropped() || sight.why.is_some() {
            return;
        }
        let balancer = self.member_at(sight.entrance).balancer.borrow();
        sight.why = sight.connection.and_then(|id| balancer.as_ref()?.forgotten(id));
    }

    fn request_name(&self, finished: &Finished) -> String {
        format!("{}-r{}", self.config.loads[finished.load_index].name, finished.sequence)
    }

    /// What became of a request at its last target, where the balancer before it is a proxy and the request has come so far.
    fn trial_of(&self, member: &Member, finished: &Finished) -> Option<Trial> {
        let balancer = member.balancer.borrow();
        let balancer = balancer.as_ref().filter(|balancer| balancer.is_proxy())?;
        balancer.take_trial(&self.request_name(finished), finished.sight.tried_at)
    }

    /// The one outcome of a request, with its cause if it was lost.
    fn account(&self, finished: &Finished) {
        let load = &self.config.loads[finished.load_index];
        let entry = &load.mix[finished.mix_index];
        let member = self.member_at(finished.sight.entrance);
        let trial = self.trial_of(member, finished);
        let proxied = trial.as_ref().and_then(|trial| trial.ending);
        let seen = trial.as_ref().map(|trial| seen_by_proxy(finished, trial));
        // Where the balancer is a proxy it knows more of the way than the client does.
        let seen = seen.as_ref().unwrap_or(finished);
        let ip = seen.sight.target.map(|target| *target.ip());
        let record = ip.and_then(|ip| member.cluster().pod_at(ip));
        let pod = record.as_ref().map(|record| member.pod_key(record.id, &record.key));
        // A name is made only for the few that are lost.
        let id = finished.outcome.is_dropped().then(|| self.request_name(finished));
        let flags = id.as_ref().and_then(|id| self.flags.borrow_mut().remove(id));
        let flag_text = flags.map(|flags| flags.to_string());
        let cause = finished.outcome.is_dropped().then(|| {
            let log = self.around.log.borrow();
            let ending = ip.and_then(|ip| member.gateways.borrow().get(&ip).map(|it| Rc::clone(&it.ending)));
            let last_resort = record.as_ref().and_then(|record| record.exit_event.or(record.sigterm_event));
            let node_death = member.node_death(seen);
            let way = Way {
                passes_nodes: member.passes_nodes(finished.load_index),
                ended_at_node: member.ended_at_node(seen),
            };
            let front = member.front_trouble(finished, entry.port);
            let front = front.or_else(|| member.port_trouble(seen, entry.port)).or_else(|| member.check_trouble(seen));
            let (pod, ending) = (record.as_ref(), ending.as_deref());
            let has_rolled = member.cluster().has_rolled();
            let entries = &*self.entries.borrow();
            let log = &*log;
            let evidence =
                Evidence { pod, way, node_death, front, ending, flags, proxied, has_rolled, log, entries, last_resort };
            let own = pod.and_then(|pod| member.config.gateways.get(&pod.owner)).map(|pods| &pods.sources);
            cause_of(seen, &evidence, (own, &member.sources.borrow()))
        });
        if let (Some(lost), Some(id)) = (&cause, &id) {
            let data = vec![
                ("request", id.as_str().into()),
                ("outcome", finished.outcome.name().into()),
                ("cause", lost.code.code().into()),
            ];
            let object = format!("Load/{}", load.name);
            self.around.log.borrow_mut().record(self.around.sim.now(), lost.event, "request_lost", object, data);
        }
        let mut recorder = self.recorder.borrow_mut();
        let Some(recorder) = recorder.as_mut() else { return };
        if finished.outcome == record::Outcome::Reset {
            recorder.connection_reset(finished.load_index, finished.intended_at);
        }
        recorder.done(&Done {
            request: RequestId { client: u32::try_from(finished.load_index).unwrap_or(0), number: finished.sequence },
            load: finished.load_index,
            intended_at: finished.intended_at,
            ended_at: finished.ended_at,
            outcome: finished.outcome,
            status: finished.status,
            flag: flag_text.as_deref(),
            cause,
            pod: pod.as_deref(),
            method: &entry.method,
            url: &entry.url,
            connection: finished.sight.connection.map(crate::net::ConnectionId::number),
            retries: finished.retries,
        });
    }
}

/// The least common multiple.
fn lcm(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

fn recorder(config: &WorldConfig) -> Recorder {
    let start = SimTime::ZERO.after(config.warmup);
    Recorder::new(RecorderConfig {
        start,
        end: start.after(config.duration),
        loads: config.loads.iter().map(|load| load.name.clone()).collect(),
        first_phase: "before".to_owned(),
        dropped_rows_max: 100_000,
        served_rows: 1000,
    })
}

fn rollout_row(rollout: &crate::cluster::Rollout) -> Rollout {
    let ms = |at: SimTime| at.as_nanos() / 1_000_000;
    let end_ms = rollout.ended_at.map(ms);
    Rollout {
        object: rollout.object.to_string(),
        revision: u64::try_from(rollout.revision).unwrap_or(0),
        start_ms: ms(rollout.started_at),
        end_ms,
        duration_ms: end_ms.map(|end_ms| end_ms - ms(rollout.started_at)),
        complete: end_ms.is_some(),
        stuck_ms: rollout.stuck_at.map(ms),
        pods_max: u32::try_from(rollout.pods_max).unwrap_or(u32::MAX),
        ready_min: u32::try_from(rollout.ready_min).unwrap_or(u32::MAX),
    }
}

fn request(entry: &MixEntry, rtt: Duration) -> Request {
    let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", entry.method, entry.path, entry.host);
    for (name, value) in &entry.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if entry.body_bytes > 0 {
        head.push_str(&format!("content-length: {}\r\n", entry.body_bytes));
    }
    let handshake = rtt * entry.tls_round_trips;
    Request {
        weight: entry.weight,
        port: entry.port,
        handshake,
        head: Rc::from(head),
        site: Site::new(&entry.host, &entry.path, entry.speaks_tls()),
        body_bytes: entry.body_bytes,
    }
}

/// The clients' ledger.
struct Ledger(Weak<World>);

impl Sink for Ledger {
    fn sent(&self, load_index: usize, intended_at: SimTime) {
        if let Some(world) = self.0.upgrade()
            && let Some(recorder) = world.recorder.borrow_mut().as_mut()
        {
            recorder.sent(load_index, intended_at);
        }
    }

    fn finished(&self, mut finished: Finished) {
        if let Some(world) = self.0.upgrade() {
            world.heed_configured(&mut finished);
            let port = world.config.loads[finished.load_index].mix[finished.mix_index].port;
            world.member_at(finished.sight.entrance).heed_foreign(&mut finished, port);
            world.heed_silence(&mut finished);
            world.account(&finished);
        }
    }

    fn opened(&self, load_index: usize, at: SimTime) {
        if let Some(world) = self.0.upgrade()
            && let Some(recorder) = world.recorder.borrow_mut().as_mut()
        {
            recorder.connection_opened(load_index, at);
        }
    }
}
