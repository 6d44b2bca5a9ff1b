//! Listeners for HTTP on the simulated network: clients' connections end at a host of the balancer's own, and it has others to targets.
//!
//! The layer-4 part passes a SYN for such a port on to that host, so limits on connections, closed listeners and failed zones are as at any port. The way there and the
//! way from there to a target are links of the cloud, so a request takes one more hop than at a listener for TCP.
//!
//! Of each request that a client may still tell the end of there is a [`Trial`]: what became of it at its last target.

mod session;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::{Rc, Weak};
use std::time::Duration;

use self::session::Session;
use super::{BackendMode, Inner, LoadBalancer, State};
use crate::edge::NO_PORT;
use crate::edge::balancer::TargetId;
use crate::edge::http_proxy::Ending;
use crate::edge::http_proxy::pool::Pool;
use crate::edge::kube_proxy::Origin;
use crate::edge::scheduler::Flow;
use crate::engine::EventId;
use crate::net::{ConnectionId, Forward, Sever, Syn, TcpStream, Trace, Verdict};
use crate::units::SimTime;

/// Connections that may wait to be accepted: they never wait for long.
const BACKLOG: usize = 1 << 20;
/// A target by its name and address.
type Target = (TargetId, Ipv4Addr);

/// A request as the balancer saw it, at its last target.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The connection to the target, once it was dialled.
    pub connection: Option<ConnectionId>,
    /// The target, or the node that stopped the connection to it.
    pub target: Option<SocketAddrV4>,
    /// The event that ended the connection, or left no target.
    pub why: Option<EventId>,
    /// The connection had served a request before.
    pub was_reused: bool,
    /// When the balancer turned to this target.
    pub tried_at: SimTime,
    /// When it gave it up, or had all of its answer.
    pub ended_at: Option<SimTime>,
    /// Why the target did not answer, or not to the end; nothing: it did, or the client left before.
    pub ending: Option<Ending>,
    /// How far the SYN of a connection came that is not open yet.
    way: Rc<Cell<Trace>>,
}

impl Trial {
    /// Whether a connection to the target was still being opened when the client had waited for long enough.
    #[must_use]
    pub fn was_connecting(&self) -> bool {
        self.ending.is_none() && self.connection.is_none() && self.target.is_some()
    }
}

/// What the balancer knows of its work as a proxy.
#[derive(Default)]
pub(super) struct Proxy {
    /// Front ports that it accepts connections on.
    listening: BTreeSet<u16>,
    pool: Pool<TcpStream>,
    /// Somebody closes kept connections that grow old.
    is_sweeping: bool,
    /// Open connections to targets.
    legs: BTreeMap<ConnectionId, TargetId>,
    trials: BTreeMap<Box<str>, Trial>,
}

impl LoadBalancer {
    /// Accepts connections on the front ports that are listeners for HTTP by now.
    pub(super) fn listen_http(&self) {
        let inner = &self.inner;
        for port in inner.live().http.keys().copied() {
            if !inner.proxy.borrow_mut().listening.insert(port) {
                continue;
            }
            let listener = inner.host.listen(port, BACKLOG).expect("the balancer's own host is there");
            let this = self.clone();
            inner.sim.spawn("lb-http-accept", async move {
                loop {
                    let client = listener.accept().await;
                    let session = Session::new(this.clone(), client, port);
                    this.inner.sim.spawn("lb-http", session.serve());
                }
            });
        }
    }

    /// Whether any of its listeners is one for HTTP.
    #[must_use]
    pub fn is_proxy(&self) -> bool {
        !self.inner.proxy.borrow().listening.is_empty()
    }

    /// What became of a request at its last target, if that began at this moment or later. It is told once.
    #[must_use]
    pub fn take_trial(&self, request: &str, since: SimTime) -> Option<Trial> {
        let trial = self.inner.proxy.borrow_mut().trials.remove(request);
        let mut trial = trial.filter(|trial| trial.tried_at >= since)?;
        if trial.was_connecting() {
            let way = trial.way.get();
            (trial.target, trial.why) = (way.reached.or(trial.target), way.why);
        }
        Some(trial)
    }

    /// A target is removed: nothing more is sent to it.
    pub(super) fn forget_kept(&self, target: TargetId) {
        let kept = self.inner.proxy.borrow_mut().pool.remove(target);
        // Closing them tells this balancer.
        drop(kept);
    }

    /// The balancer is deleted: connections to targets that it keeps are closed.
    pub(super) fn forget_all_kept(&self) {
        let kept = self.inner.proxy.borrow_mut().pool.clear();
        drop(kept);
    }

    /// Cuts the requests that are under way to a target, where the product does so.
    pub(super) fn cut_requests(&self, target: TargetId, event: EventId) {
        let inner = &self.inner;
        if !inner.live().http.values().any(|rules| rules.cuts_requests) {
            return;
        }
        let legs: Vec<ConnectionId> = {
            let proxy = inner.proxy.borrow();
            proxy.legs.iter().filter(|(_, to)| **to == target).map(|(id, _)| *id).collect()
        };
        for leg in legs {
            inner.net.sever(leg, Sever::Reset, Some(event));
        }
    }

    /// Counts a request, or tells the limit that it would go over.
    fn admit_query(&self, port: u16) -> Result<(), EventId> {
        let inner = &self.inner;
        let (live, now) = (inner.live(), inner.sim.now());
        let mut state = inner.state.borrow_mut();
        let counted = state.meter.count_query(&live.limits, now);
        counted.map_err(|(limit, value)| inner.tell_limit(&mut state, port, limit, value))
    }

    /// The target of a request, or why there is none. The one that it claims has it, if that is one, and well.
    fn choose(
        &self,
        flow: Flow,
        failed: &[TargetId],
        claimed: Option<SocketAddrV4>,
    ) -> Result<Target, (Ending, Option<EventId>)> {
        let (now, port) = (self.inner.sim.now(), flow.to.port());
        let mut state = self.inner.state.borrow_mut();
        let kept = claimed.and_then(|address| {
            let target = state.claimed(port, *address.ip())?;
            (self.inner.address_of(&state, target, port) == address).then_some(target)
        });
        let chosen = kept.or_else(|| state.choose_for_request(now, flow, failed));
        chosen.ok_or_else(|| {
            let is_empty = state.balancer.target_count() == 0;
            (if is_empty { Ending::NoTarget } else { Ending::NoHealthyTarget }, state.why_nobody(flow.to.port(), 0))
        })
    }

    /// What cookies call a target.
    fn address_of(&self, target: Target, port: u16) -> SocketAddrV4 {
        self.inner.address_of(&self.inner.state.borrow(), target, port)
    }

    /// Keeps a connection to a target for other requests, if that is still one.
    fn keep(&self, to: (TargetId, u16), leg: TcpStream) {
        let inner = &self.inner;
        if inner.state.borrow().balancer.weight(to.0).is_none() {
            return;
        }
        let is_sweeping = {
            let mut proxy = inner.proxy.borrow_mut();
            proxy.pool.keep(inner.sim.now(), to, leg);
            std::mem::replace(&mut proxy.is_sweeping, true)
        };
        if !is_sweeping {
            let this = self.clone();
            inner.sim.spawn("lb-http-sweep", async move { this.sweep().await });
        }
    }

    /// Closes kept connections when their time has come, for as long as there are any.
    async fn sweep(&self) {
        let inner = &self.inner;
        loop {
            // All of its listeners keep them for as long.
            let idle = inner.live().http.values().find_map(|rules| rules.target_idle).unwrap_or_default();
            let expired = inner.proxy.borrow_mut().pool.expire(inner.sim.now(), idle);
            drop(expired);
            let next = {
                let mut proxy = inner.proxy.borrow_mut();
                let next = proxy.pool.next_expiry(idle);
                proxy.is_sweeping = next.is_some();
                next
            };
            let Some(next) = next else { return };
            inner.sim.sleep_until(next).await;
        }
    }

    /// A client's connection has been silent for so long that it is closed; who comes too late finds out why.
    fn tell_idle(&self, client: ConnectionId) {
        let inner = &self.inner;
        let object = inner.config.identity.object(format!("Service/{}", inner.config.service));
        let data = vec![("connection", super::number(client.number()).into())];
        let event = inner.log.borrow_mut().record(inner.sim.now(), None, "connection_idle", object, data);
        inner.state.borrow_mut().forgotten.insert(client, event);
    }
}

impl Inner {
    /// A target's address, with the port that a front port's requests go to.
    fn address_of(&self, state: &State, (id, ip): Target, port: u16) -> SocketAddrV4 {
        let live = self.live();
        let is_node = state.names.get(&id).is_some_and(|name| self.is_node(name));
        let of_node = live.node_ports.get(&port).filter(|_| is_node);
        SocketAddrV4::new(ip, of_node.or_else(|| live.ports.get(&port)).copied().unwrap_or(port))
    }
}

/// The way from the balancer's host to a target that is chosen: to a pod, or over a node.
struct Leg {
    inner: Weak<Inner>,
    target: Target,
    /// The front port.
    port: u16,
}

impl Forward for Leg {
    fn syn(&self, syn: &Syn) -> Verdict {
        let Some(inner) = self.inner.upgrade() else { return Verdict::Drop { by: None, why: None } };
        let (live, (id, ip)) = (inner.live(), self.target);
        let port = live.ports.get(&self.port).copied();
        let is_there = |port: &u16| *port != NO_PORT || live.targets.mode != BackendMode::Pods;
        let Some(port) = port.filter(is_there) else { return Verdict::Refuse { by: None, why: None } };
        let node = inner.state.borrow().names.get(&id).filter(|name| inner.is_node(name)).cloned();
        let verdict = match inner.nodes.as_ref().zip(node) {
            None => Verdict::To { target: SocketAddrV4::new(ip, port), extra_latency: Duration::ZERO, snat: None },
            Some((nodes, node)) => {
                let node_port = live.node_ports.get(&self.port).copied().unwrap_or(port);
                nodes.cross(syn, &node, (node_port, port), Origin::External)
            }
        };
        if matches!(verdict, Verdict::To { .. }) {
            inner.proxy.borrow_mut().legs.insert(syn.id, id);
        }
        verdict
    }

    fn ended(&self, id: ConnectionId) {
        let Some(inner) = self.inner.upgrade() else { return };
        if let Some(nodes) = &inner.nodes {
            nodes.ended(id);
        }
        inner.proxy.borrow_mut().legs.remove(&id);
    }
}

#[cfg(test)]
mod tests;
