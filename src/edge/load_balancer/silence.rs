//! Connections of a balancer that are silent for too long, on the simulated network.

use super::{LoadBalancer, number};
use crate::edge::idle::IdleEnd;
use crate::engine::EventId;
use crate::net::{ConnectionId, Sever};
use crate::units::SimTime;

/// Who looks after silent connections: one at a time, and another where one sleeps too long because it began when connections could be silent for longer.
#[derive(Default)]
pub(super) struct Watcher {
    number: u64,
    /// When it looks next; none: it is not there.
    wakes_at: Option<SimTime>,
}

impl Watcher {
    /// The number of a new one, if somebody has to look before the present one does.
    pub(super) fn is_wanted(&mut self, look_at: SimTime) -> Option<u64> {
        if self.wakes_at.is_some_and(|wakes_at| wakes_at <= look_at) {
            return None;
        }
        self.number += 1;
        self.wakes_at = Some(look_at);
        Some(self.number)
    }
}

impl LoadBalancer {
    /// The event with which a connection was forgotten for its silence.
    #[must_use]
    pub fn forgotten(&self, connection: ConnectionId) -> Option<EventId> {
        self.inner.state.borrow().forgotten.get(&connection).copied()
    }

    /// Ends connections that are silent for too long, for as long as there are any connections.
    pub(super) fn watch_idle(&self, number: u64) {
        let this = self.clone();
        self.inner.sim.spawn("lb-idle", async move {
            let inner = &this.inner;
            loop {
                let next = {
                    let mut state = inner.state.borrow_mut();
                    if state.idle_watcher.number != number {
                        return;
                    }
                    state.idle_watcher.wakes_at = state.idle.next();
                    state.idle_watcher.wakes_at
                };
                let Some(next) = next else { return };
                inner.sim.sleep_until(next).await;
                let due = inner.state.borrow_mut().idle.due(inner.sim.now());
                if let Some(id) = due {
                    this.look_at(id);
                }
            }
        });
    }

    /// Ends a connection if it has been silent for long enough, or says when to look again.
    fn look_at(&self, id: ConnectionId) {
        let inner = &self.inner;
        let now = inner.sim.now();
        let rule = {
            let mut state = inner.state.borrow_mut();
            let state = &mut *state;
            let Some(entry) = state.connections.get_mut(id) else { return };
            let Some(rule) = entry.idle else { return };
            // One that is being opened has its own end.
            let ends_at = inner.net.last_passage(id).unwrap_or(now).after(rule.timeout);
            entry.look = (ends_at > now).then(|| state.idle.add(ends_at, id));
            if entry.look.is_some() {
                return;
            }
            state.forget(id);
            rule
        };
        let object = inner.config.identity.object(format!("Service/{}", inner.config.service));
        let data = vec![("connection", number(id.number()).into())];
        let event = inner.log.borrow_mut().record(now, None, "connection_idle", object, data);
        let how = match rule.end {
            IdleEnd::Reset => Sever::Reset,
            IdleEnd::Forgotten => {
                inner.state.borrow_mut().forgotten.insert(id, event);
                Sever::Silent
            }
        };
        inner.net.sever(id, how, Some(event));
    }
}
