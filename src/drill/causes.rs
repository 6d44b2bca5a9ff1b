//! Why a request was lost: from what the client saw, what the gateway noted, and what had happened to the pod.
//!
//! Every loss gets exactly one cause; there is no "unknown". The order of the questions matters: what a hop says of itself
//! outweighs what follows from the pod's life, and the pod's life outweighs the client's view.
//!
//! A balancer that is a proxy for HTTP is the client of its targets: where it answered in place of one, the questions are asked of its own try.

use std::collections::BTreeMap;

use super::process::Ending;
use super::world::entries::{Entries, Entry, entry_behind};
use crate::cluster::{KillCause, PodRecord};
use crate::edge::http_proxy::Ending as Proxied;
use crate::edge::load_balancer::Trial;
use crate::engine::{Datum, EventId, EventLog};
use crate::gateway::Flags;
use crate::load::Finished;
use crate::record::{CauseCode, Lost, Outcome, Remedy, Source};
use crate::units::SimTime;

/// The setting of the user's files behind each cause.
pub type Sources = BTreeMap<CauseCode, Source>;

/// What is known of a lost request beside what its client saw.
pub(super) struct Evidence<'a> {
    /// The life of the pod that the balancer had chosen.
    pub(super) pod: Option<&'a PodRecord>,
    /// How it was on its way.
    pub(super) way: Way,
    /// The death of the node that the request was sent to, or went through.
    pub(super) node_death: Option<EventId>,
    /// What had become of the way in before the request could reach the gateway.
    pub(super) front: Option<(CauseCode, EventId)>,
    /// What became of that pod's listeners and connections before its process ended.
    pub(super) ending: Option<&'a Ending>,
    /// What the gateway noted of the request.
    pub(super) flags: Option<Flags>,
    /// Why a proxy in front had no answer of a target.
    pub(super) proxied: Option<Proxied>,
    /// A rollout has begun in the cluster.
    pub(super) has_rolled: bool,
    /// The event log.
    pub(super) log: &'a EventLog,
    /// What the timeline has done.
    pub(super) entries: &'a Entries,
    /// The event with which its pod's endpoints were last told, for losses without an event of their own.
    pub(super) last_resort: Option<EventId>,
}

/// What lies between a client and the pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// A node chose the pod.
    pub(super) passes_nodes: bool,
    /// It came no farther than a node.
    pub(super) ended_at_node: bool,
}

/// The cause of a lost request. What the pod's own owner decides counts before what is so for all.
pub(super) fn cause_of(finished: &Finished, evidence: &Evidence<'_>, (own, all): (Option<&Sources>, &Sources)) -> Lost {
    let (code, event) = code_and_event(finished, evidence);
    let event = event.or(evidence.last_resort);
    let entry = event.and_then(|event| entry_behind(event, evidence.log, evidence.entries));
    let code = if entry.is_some_and(|entry| entry.gives_grace) { with_grace(code, evidence) } else { code };
    let decided = entry.filter(|entry| decides(entry, code, event, evidence.log));
    let found = own.and_then(|own| own.get(&code)).or_else(|| all.get(&code));
    // Without a rollout its limits have taken nobody down.
    let is_limit = |source: &Source| ["axUnavailable", "strategy.type"].iter().any(|end| source.path.ends_with(end));
    let written = found.filter(|source| evidence.has_rolled || !is_limit(source));
    let source = decided.map(|entry| &entry.source).or(written);
    let remedy = match code {
        CauseCode::GraceExceeded => decided.map(|_| Remedy::Grace),
        CauseCode::LbNoTarget | CauseCode::NoEndpoint if decided.is_some() || source.is_none() => {
            remedy(event, evidence)
        }
        // An edit that leads to nobody.
        CauseCode::LbNoTarget | CauseCode::NoEndpoint => {
            source.filter(|source| !is_limit(source)).map(|_| Remedy::Line)
        }
        _ => None,
    };
    Lost { code, event, source: source.cloned(), remedy }
}

/// What to set where nobody was left, by what took the last one away; none where that was a rollout.
fn remedy(event: Option<EventId>, evidence: &Evidence<'_>) -> Option<Remedy> {
    let causes = || event.into_iter().flat_map(|event| evidence.log.causes(event));
    let has = |kind: &str| causes().any(|cause| cause.kind == kind);
    let root = causes().find(|cause| cause.kind == "timeline");
    let action = root.and_then(|root| root.data.iter().find(|(key, _)| *key == "action"));
    let begins = |words: &[&str]| matches!(action, Some((_, Datum::Text(action))) if words.iter().any(|word| action.starts_with(word)));
    if has("evicted") {
        Some(Remedy::Evictions)
    } else if has("evicted_by_kubelet") || begins(&["fill the disk"]) {
        Some(Remedy::Pressure)
    } else if begins(&["kill node", "cut node", "node ", "shut node", "reclaim", "remove node", "fail zone"]) {
        Some(Remedy::Nodes)
    } else if begins(&["drain", "evict"]) {
        Some(Remedy::Evictions)
    } else if begins(&["kill", "delete"]) {
        Some(Remedy::Deletions)
    } else if begins(&["scale"]) || has("hpa_scaled") {
        Some(Remedy::Size)
    } else {
        (!evidence.has_rolled).then_some(Remedy::Replicas)
    }
}

/// Whether an entry of the timeline decides a loss, whatever is set elsewhere.
fn decides(entry: &Entry, code: CauseCode, event: Option<EventId>, log: &EventLog) -> bool {
    match code {
        CauseCode::NodeLost => true,
        CauseCode::DiskPressure => entry.fills_disk,
        CauseCode::GraceExceeded => entry.gives_grace,
        CauseCode::LbNoTarget | CauseCode::NoEndpoint => was_taken_down(event, log),
        _ => false,
    }
}

/// What is lost at a pod that has gone, where somebody gave it a grace that was over before it had ended: no other setting would have kept it.
fn with_grace(code: CauseCode, evidence: &Evidence<'_>) -> CauseCode {
    let has_gone = matches!(
        code,
        CauseCode::ConnectTimeout | CauseCode::LbStaleTarget | CauseCode::StaleNodeRules | CauseCode::ExitInFlight
    );
    let was_killed = evidence.pod.is_some_and(|pod| pod.exit_reason == Some("grace period over"));
    if has_gone && was_killed { CauseCode::GraceExceeded } else { code }
}

/// Whether the timeline itself took pods away: no setting of a rollout leaves fewer of them then.
fn was_taken_down(event: Option<EventId>, log: &EventLog) -> bool {
    const TAKES: [&str; 11] =
        ["kill", "delete", "scale", "drain", "evict", "shut", "reclaim", "remove", "cut", "node", "fill"];
    let root = event.into_iter().flat_map(|event| log.causes(event)).find(|cause| cause.kind == "timeline");
    let action = root.and_then(|root| root.data.iter().find(|(key, _)| *key == "action"));
    matches!(action, Some((_, Datum::Text(action))) if TAKES.iter().any(|word| action.starts_with(word)))
}

/// A request as a proxy in front saw it at its last target, as though that were its client.
pub(super) fn seen_by_proxy(finished: &Finished, trial: &Trial) -> Finished {
    let mut seen = finished.clone();
    let sight = &mut seen.sight;
    sight.target = trial.target;
    sight.connection = trial.connection.or(sight.connection);
    sight.why = sight.why.or(trial.why);
    (sight.was_reused, sight.close_was_ignored, sight.tried_at) = (trial.was_reused, false, trial.tried_at);
    seen.ended_at = trial.ended_at.unwrap_or(finished.ended_at);
    seen.outcome = match trial.ending {
        None if trial.was_connecting() && finished.outcome == Outcome::RequestTimeout => Outcome::ConnectTimeout,
        None => finished.outcome,
        // Refused by the balancer, in a way: nobody was asked.
        Some(Proxied::NoTarget | Proxied::NoHealthyTarget | Proxied::OverLimit | Proxied::Refused) => Outcome::Refused,
        Some(Proxied::ConnectTimedOut) => Outcome::ConnectTimeout,
        Some(Proxied::Reset) => Outcome::Reset,
        Some(Proxied::Closed) => Outcome::Closed,
        Some(Proxied::TimedOut) => Outcome::RequestTimeout,
    };
    seen
}

fn code_and_event(finished: &Finished, evidence: &Evidence<'_>) -> (CauseCode, Option<EventId>) {
    let found = code_and_event_of(finished, evidence);
    match (evidence.proxied, found) {
        (Some(_), (CauseCode::ClientTimeout, event)) => (CauseCode::LbRequestTimeout, event),
        (_, found) => found,
    }
}

fn code_and_event_of(finished: &Finished, evidence: &Evidence<'_>) -> (CauseCode, Option<EventId>) {
    let sight = &finished.sight;
    if let Some((code, event)) = evidence.front {
        return (code, Some(event));
    }
    if evidence.proxied == Some(Proxied::OverLimit) {
        return (CauseCode::LbQueryLimit, sight.why);
    }
    let exit = evidence.pod.and_then(|pod| Some((pod.exited_at?, pod.exit_event)));
    let closed = evidence.ending.and_then(|ending| ending.closed.get());
    let cut = evidence.ending.and_then(|ending| ending.cut.get());
    // What the gateway answers reached its pod, and came back.
    if let Some(event) = evidence.node_death.filter(|_| finished.outcome != Outcome::GatewayError) {
        return (CauseCode::NodeLost, Some(event));
    }
    let kill = evidence.pod.and_then(|pod| kill(finished, pod));
    let drained = ["target_drained", "group_drained"];
    let severed_by_balancer = sight.why.filter(|why| drained.iter().any(|kind| is_kind(evidence.log, *why, kind)));
    if let Some(event) = sight.why.filter(|why| is_kind(evidence.log, *why, "lb_deleted")) {
        return (CauseCode::LbDeleted, Some(event));
    }
    let full = [
        ("conntrack_full", CauseCode::ConntrackFull),
        ("snat_ports_exhausted", CauseCode::SnatPortsExhausted),
        ("lb_limit_reached", CauseCode::LbLimit),
        ("connection_idle", CauseCode::IdleTimeout),
        ("zone_failed", CauseCode::LbZoneLost),
        ("zone_removed", CauseCode::LbZoneLost),
    ];
    let is_full = full.into_iter().find(|(kind, _)| sight.why.is_some_and(|why| is_kind(evidence.log, why, kind)));
    if let Some((_, code)) = is_full {
        return (code, sight.why);
    }
    let Way { passes_nodes, ended_at_node } = evidence.way;
    match finished.outcome {
        Outcome::Ok | Outcome::BackendError => unreachable!("a served request needs no cause"),
        Outcome::GatewayError => (gateway_error(evidence.flags.unwrap_or_default()), sight.why),
        Outcome::TlsFailed => (CauseCode::ClientTimeout, sight.why),
        Outcome::Refused => match (sight.target, exit, closed) {
            (Some(_), ..) if kill.is_some() => kill.expect("it was killed"),
            (None, _, _) => (nobody(evidence.log, sight.why), sight.why),
            (Some(_), _, _) if ended_at_node => (CauseCode::NoEndpoint, sight.why),
            (Some(_), None, Some(closed)) if closed.is_drain_over => (CauseCode::ListenerDrained, Some(closed.event)),
            (Some(_), None, Some(closed)) => (stale(passes_nodes, CauseCode::LbStaleTarget), Some(closed.event)),
            (Some(_), exit, _) => (stale(passes_nodes, CauseCode::LbStaleTarget), exit.and_then(|(_, event)| event)),
        },
        Outcome::ConnectTimeout => match (sight.target, exit) {
            // Nobody answered for the balancer's choice, or the client's: a node without a pod of its own.
            (Some(_), _) if ended_at_node => (CauseCode::LocalPolicyBlackhole, sight.why),
            // Nodes without a machine, or without an object any more.
            (None, _) => (CauseCode::NodeLost, sight.why),
            // Evicted for good: its network is gone.
            (Some(_), Some(_)) if kill.is_some() => kill.expect("it was killed"),
            (Some(_), Some((_, event))) => (stale(passes_nodes, CauseCode::ConnectTimeout), event),
            (Some(_), None) => (CauseCode::ClientTimeout, None),
        },
        Outcome::Reset | Outcome::Closed | Outcome::Truncated => {
            if let Some(event) = severed_by_balancer {
                return (CauseCode::LbCutConnection, Some(event));
            }
            if let Some(flags) = evidence.flags {
                return (gateway_error(flags), sight.why);
            }
            if let Some(kill) = kill {
                return kill;
            }
            if let Some((cut_at, event)) = cut
                && (sight.tried_at..=finished.ended_at).contains(&cut_at)
            {
                return (CauseCode::ExitInFlight, Some(event));
            }
            if let Some(found) = at_quit(finished, evidence) {
                return found;
            }
            match exit {
                Some((exited_at, event)) if finished.ended_at >= exited_at => {
                    (at_exit(finished, evidence, exited_at), event)
                }
                _ if sight.close_was_ignored => {
                    (CauseCode::DrainCloseIgnored, evidence.pod.and_then(|pod| pod.sigterm_event))
                }
                _ => match closed {
                    // Who quits has closed the connection while it was idle.
                    Some(closed) if !closed.is_drain_over && sight.was_reused && sight.tried_at >= closed.at => {
                        (CauseCode::ExitIdleConnection, Some(closed.event))
                    }
                    _ => (CauseCode::KeepaliveRace, None),
                },
            }
        }
        Outcome::RequestTimeout => (CauseCode::ClientTimeout, None),
    }
}

/// The pod's process had been killed, and its pod not deleted, before the request ended, and no other ran yet when the request was tried.
fn kill(finished: &Finished, pod: &PodRecord) -> Option<(CauseCode, Option<EventId>)> {
    let kill = pod.killed?;
    let is_back = kill.restarted_at.is_some_and(|restarted_at| finished.sight.tried_at >= restarted_at);
    let code = match kill.why {
        KillCause::OutOfMemory => CauseCode::OutOfMemory,
        KillCause::Probe => CauseCode::ProbeKill,
        KillCause::NodePressure => CauseCode::NodePressure,
        KillCause::DiskPressure => CauseCode::DiskPressure,
        KillCause::StorageLimit => CauseCode::StorageLimit,
    };
    (kill.at <= finished.ended_at && !is_back).then_some((code, Some(kill.event)))
}

/// A connection that was idle, for its gateway, when that quit. Who quits waits until nobody is left, or cuts, or is killed: whoever was lost before the exit and
/// met neither had not been heard of.
fn at_quit(finished: &Finished, evidence: &Evidence<'_>) -> Option<(CauseCode, Option<EventId>)> {
    let sight = &finished.sight;
    let (quit_at, event) = evidence.ending?.quit.get()?;
    let pod = evidence.pod?;
    let was_killed = pod.exit_reason == Some("grace period over");
    if was_killed || finished.ended_at < quit_at || sight.tried_at >= pod.exited_at? {
        return None;
    }
    let code = match sight.was_reused {
        // Its first request had not come yet.
        false => stale(evidence.way.passes_nodes, CauseCode::LbStaleTarget),
        true if sight.tried_at >= quit_at => CauseCode::ExitIdleConnection,
        true => CauseCode::KeepaliveRace,
    };
    Some((code, Some(event)))
}

/// A connection that ended because its process did.
fn at_exit(finished: &Finished, evidence: &Evidence<'_>, exited_at: SimTime) -> CauseCode {
    let (pod, sight) = (evidence.pod, &finished.sight);
    if sight.tried_at < exited_at {
        let was_killed = pod.is_some_and(|pod| pod.exit_reason == Some("grace period over"));
        if was_killed { CauseCode::GraceExceeded } else { CauseCode::ExitInFlight }
    } else if sight.was_reused {
        CauseCode::ExitIdleConnection
    } else {
        stale(evidence.way.passes_nodes, CauseCode::LbStaleTarget)
    }
}

/// Why a balancer had nobody: targets that it does not send to yet, or none.
fn nobody(log: &EventLog, why: Option<EventId>) -> CauseCode {
    let unchecked = ["target_registered", "lb_listener_changed"];
    let is_unchecked = why.is_some_and(|why| unchecked.iter().any(|kind| is_kind(log, why, kind)));
    if is_unchecked { CauseCode::LbTargetUnchecked } else { CauseCode::LbNoTarget }
}

/// Who sent a new connection to a pod that is no more: a node's kube-proxy, or the balancer.
fn stale(passes_nodes: bool, else_by_balancer: CauseCode) -> CauseCode {
    if passes_nodes { CauseCode::StaleNodeRules } else { else_by_balancer }
}

fn gateway_error(flags: Flags) -> CauseCode {
    let table = [
        (Flags::UH, CauseCode::NoHealthyUpstream),
        (Flags::NC, CauseCode::ClusterNotFound),
        (Flags::UF, CauseCode::UpstreamRefused),
        (Flags::UC, CauseCode::UpstreamClosed),
        (Flags::UPE, CauseCode::UpstreamClosed),
        (Flags::UT, CauseCode::UpstreamTimeout),
        (Flags::NR, CauseCode::NoRoute),
        (Flags::UO, CauseCode::UpstreamOverflow),
        (Flags::FI, CauseCode::FaultInjected),
        (Flags::DPE, CauseCode::RequestRefused),
    ];
    let found = table.into_iter().find(|(flag, _)| flags.has(*flag));
    found.map_or(CauseCode::DirectResponse, |(_, code)| code)
}

fn is_kind(log: &EventLog, id: EventId, kind: &str) -> bool {
    log.causes(id).next().is_some_and(|event| event.kind == kind)
}
