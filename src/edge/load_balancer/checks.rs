//! Health checks of a balancer, on the simulated network.
//!
//! Each target is probed for itself. (The real product probes each from several hosts that do so independently; here one of them stands for all.)

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::{BackendMode, Inner, LoadBalancer};
use crate::edge::NO_PORT;
use crate::edge::balancer::{HealthChange, TargetId};
use crate::edge::product::GateOpens;
use crate::engine::EventId;
use crate::units::SimTime;

/// What a health check does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probe {
    /// Opens a connection to the first target port and resets it.
    Tcp,
    /// The same at this port of the target, whatever its listener's is.
    TcpAt {
        /// The port.
        port: u16,
    },
    /// Asks for a path.
    Http(HttpProbe),
    /// Asks the Service's `healthCheckNodePort` of a node.
    ServiceHealth {
        /// The port.
        port: u16,
        /// 200 passes; else it is enough that somebody listens.
        asks_status: bool,
    },
    /// Asks a node's kube-proxy for its own health.
    ProxyHealth {
        /// The port.
        port: u16,
        /// 200 passes; else it is enough that somebody listens.
        asks_status: bool,
    },
    /// Asks a port of nodes on which nobody listens.
    NobodyListens {
        /// The port.
        port: u16,
    },
}

/// A check that asks for a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpProbe {
    /// The port of the target.
    pub port: u16,
    /// The path.
    pub path: String,
    /// The host it names; none: the target's address.
    pub host: Option<String>,
    /// It asks with HEAD in place of GET.
    pub asks_head: bool,
    /// The answers that pass: ranges of status codes, both ends included.
    pub passes: Vec<(u16, u16)>,
}

/// A target that has not passed its checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed {
    /// Its address.
    pub ip: Ipv4Addr,
    /// The event with which it came, or failed.
    pub event: EventId,
    /// It has never passed.
    pub is_new: bool,
}

impl HttpProbe {
    /// It asks with GET, and 200 to 399 passes.
    #[must_use]
    pub fn get(port: u16, path: &str) -> Self {
        Self { port, path: path.to_owned(), host: None, asks_head: false, passes: vec![(200, 399)] }
    }

    /// Whether an answer passes.
    #[must_use]
    pub fn accepts(&self, status: u16) -> bool {
        self.passes.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl LoadBalancer {
    /// Whether its checks ask a port on which nobody listens.
    #[must_use]
    pub fn asks_nobody(&self) -> bool {
        matches!(self.inner.live().probe, Probe::NobodyListens { .. })
    }

    /// Targets that have not passed their checks, or not any more, if none has; and how long a target that answers would have taken to pass.
    #[must_use]
    pub fn failed_targets(&self) -> Option<(Duration, Vec<Failed>)> {
        let check = self.inner.live().balancer.health_check?;
        let state = self.inner.state.borrow();
        if state.balancer.healthy_count() > 0 {
            return None;
        }
        let thresholds = check.healthy_threshold.max(check.unhealthy_threshold);
        let span = (check.interval + check.timeout) * (thresholds + 1);
        let known = state.registered.iter().filter_map(|(ip, id)| Some((*ip, (*id)?)));
        let failed = known.filter_map(|(ip, id)| {
            let (event, is_new) = state.balancer.why_unhealthy(id)?;
            Some(Failed { ip, event, is_new })
        });
        Some((span, failed.collect()))
    }

    /// A pod that the run finds without a listener has long failed its checks: one that a Service selects, say, and no Gateway. Whose process ends with the first
    /// instant has not.
    async fn heed_the_past(&self, id: TargetId, ip: Ipv4Addr, because: &mut EventId) {
        let inner = &self.inner;
        // Who stands listens before the first nanosecond is over.
        inner.sim.sleep_until(SimTime::from_nanos(1)).await;
        let live = inner.live();
        let Some(check) = live.balancer.health_check else { return };
        let at = SocketAddrV4::new(ip, live.usual_port());
        let is_pod = live.targets.mode == BackendMode::Pods && live.probe == Probe::Tcp && at.port() != NO_PORT;
        if !is_pod || !inner.host.was_never_served(at) {
            return;
        }
        let changes: Vec<HealthChange> = {
            let (mut state, now) = (inner.state.borrow_mut(), inner.sim.now());
            let mut probed = || state.balancer.handle_probe(now, id, false, Some(*because));
            (0..check.unhealthy_threshold).filter_map(|_| probed()).collect()
        };
        if changes.contains(&HealthChange::Unhealthy) {
            let name = inner.state.borrow().names.get(&id).cloned().unwrap_or_else(|| Rc::from(""));
            *because = inner.tell(Some(*because), "target_unhealthy", &name, ip);
            inner.state.borrow_mut().balancer.set_why(id, *because);
        }
    }

    /// Probes a target for as long as it is registered.
    pub(super) async fn probe(&self, id: TargetId, ip: Ipv4Addr, mut because: EventId, stands: bool) {
        let inner = &self.inner;
        let probing = inner.probing.get();
        let Some(check) = inner.live().balancer.health_check else { return };
        let mut next = inner.sim.now();
        if !stands {
            let name = inner.state.borrow().names.get(&id).cloned().unwrap_or_default();
            let wait = inner.config.ways.registration.draw(&mut inner.streams.stream("lb-registration", &name));
            if !wait.is_zero() {
                next = next.after(wait);
                inner.sim.sleep_until(next).await;
            }
        }
        if stands {
            self.heed_the_past(id, ip, &mut because).await;
            // Its probes began at some time before the run.
            next = next.after(inner.config.first_probe.unwrap_or_else(|| {
                inner.streams.stream("lb-probe-phase", &ip.to_string()).uniform(Duration::ZERO, check.interval)
            }));
            inner.sim.sleep_until(next).await;
        }
        loop {
            let Some(check) = inner.live().balancer.health_check.filter(|_| inner.probing.get() == probing) else {
                return;
            };
            let live = inner.live();
            let port = live.usual_port();
            if port == NO_PORT && live.probe == Probe::Tcp && live.targets.mode == BackendMode::Pods {
                // No listener has a target, so nothing is checked.
                next = check.next_probe(next, inner.sim.now());
                inner.sim.sleep_until(next).await;
                continue;
            }
            let is_ok = inner.passes(ip, port, check.timeout).await;
            let change = {
                let mut state = inner.state.borrow_mut();
                let Some(name) = state.names.get(&id).cloned() else { return };
                let change = state.balancer.handle_probe(inner.sim.now(), id, is_ok, Some(because));
                if let Some(change) = change {
                    let kind = match change {
                        HealthChange::Healthy => "target_healthy",
                        HealthChange::Unhealthy => "target_unhealthy",
                    };
                    because = inner.tell(Some(because), kind, &name, ip);
                    state.balancer.set_why(id, because);
                }
                change
            };
            if change == Some(HealthChange::Healthy) {
                inner.tell_hook(GateOpens::Healthy, ip, because);
            }
            if change == Some(HealthChange::Unhealthy) {
                let name = inner.state.borrow().names.get(&id).cloned().unwrap_or_else(|| Rc::from(""));
                self.cut_later(id, name, ip, inner.removal.get().on_unhealthy, because);
            }
            next = check.next_probe(next, inner.sim.now());
            inner.sim.sleep_until(next).await;
        }
    }
}

impl Inner {
    pub(super) fn probe_port(&self) -> u16 {
        let live = self.live();
        match &live.probe {
            Probe::Http(HttpProbe { port, .. })
            | Probe::TcpAt { port }
            | Probe::ServiceHealth { port, .. }
            | Probe::ProxyHealth { port, .. }
            | Probe::NobodyListens { port } => *port,
            Probe::Tcp => live.usual_port(),
        }
    }

    /// Whether a probe of the target at `ip` passes in time; `port` is what a check without a port of its own asks.
    pub(super) async fn passes(&self, ip: Ipv4Addr, port: u16, timeout: Duration) -> bool {
        let mut probing = pin!(self.probe_once(ip, port));
        let mut limit = pin!(self.sim.sleep(timeout));
        std::future::poll_fn(|cx| match probing.as_mut().poll(cx) {
            Poll::Ready(is_ok) => Poll::Ready(is_ok),
            Poll::Pending => limit.as_mut().poll(cx).map(|()| false),
        })
        .await
    }

    /// One probe of the target at `ip`; a node passes it on as it would any connection.
    async fn probe_once(&self, ip: Ipv4Addr, port: u16) -> bool {
        let (mut ip, live) = (ip, self.live());
        let port = if live.probe == Probe::Tcp { port } else { self.probe_port() };
        let name = self.state.borrow().node_at(ip).cloned();
        if name.is_none() && live.targets.mode != BackendMode::Pods {
            // It is a target no more, and nobody asks the node.
            return false;
        }
        let node = name.filter(|name| self.is_node(name));
        if let Some((nodes, node)) = self.nodes.as_ref().and_then(|nodes| Some((nodes, node?))) {
            if nodes.is_dead(&node) {
                // Nobody answers: only the time limit ends it.
                std::future::pending::<()>().await;
            }
            let hop = self.sim.sleep(2 * nodes.config().hop_latency);
            match live.probe {
                Probe::ProxyHealth { asks_status, .. } => {
                    hop.await;
                    let status = nodes.proxy_health(&node);
                    return if asks_status { status == Some(200) } else { status.is_some() };
                }
                Probe::ServiceHealth { asks_status, .. } => {
                    hop.await;
                    let answer = nodes.service_health(&node);
                    return if asks_status { answer.is_some_and(|it| it.status() == 200) } else { answer.is_some() };
                }
                Probe::NobodyListens { .. } => {
                    hop.await;
                    return false;
                }
                Probe::Tcp | Probe::TcpAt { .. } | Probe::Http(_) => {}
            }
            let Some(pod) = nodes.behind(&node, self.host.ip()) else { return false };
            ip = pod;
        }
        let Ok(mut stream) = self.host.connect(SocketAddrV4::new(ip, port)).await else { return false };
        match &live.probe {
            Probe::Tcp
            | Probe::TcpAt { .. }
            | Probe::ServiceHealth { .. }
            | Probe::ProxyHealth { .. }
            | Probe::NobodyListens { .. } => {
                stream.abort();
                true
            }
            Probe::Http(asked) => {
                let host = asked.host.clone().unwrap_or_else(|| ip.to_string());
                let (method, path) = (if asked.asks_head { "HEAD" } else { "GET" }, &asked.path);
                let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
                if stream.write_all(request.as_bytes()).await.is_err() {
                    return false;
                }
                let mut answer = Vec::new();
                // "HTTP/1.1 200": the status is complete after twelve bytes.
                while answer.len() < 12 {
                    if !matches!(stream.read(&mut answer).await, Ok(1..)) {
                        return false;
                    }
                }
                let status = std::str::from_utf8(&answer[9..12]).ok().and_then(|text| text.parse().ok());
                status.is_some_and(|status| asked.accepts(status))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HttpProbe;

    #[test]
    fn an_answer_passes_within_the_ranges() {
        let with = |passes: &[(u16, u16)]| HttpProbe { passes: passes.to_vec(), ..HttpProbe::get(80, "/") };
        for (passes, accepted, refused) in [
            (&[(200, 399)][..], &[200, 302, 399][..], &[199, 400, 503][..]),
            (&[(200, 299), (400, 499)], &[200, 299, 400, 404], &[301, 500]),
            (&[(200, 200)], &[200], &[199, 201]),
            (&[], &[], &[200]),
        ] {
            accepted.iter().for_each(|status| assert!(with(passes).accepts(*status), "{status}"));
            refused.iter().for_each(|status| assert!(!with(passes).accepts(*status), "{status}"));
        }
    }
}
