//! Connections of a balancer that are silent for too long, on the simulated network.

use super::{LoadBalancer, number};
use crate::edge::idle::{IdleEnd, IdleRule};
use crate::engine::EventId;
use crate::net::{ConnectionId, Sever};

impl LoadBalancer {
    /// The event with which a connection was forgotten for its silence.
    #[must_use]
    pub fn forgotten(&self, connection: ConnectionId) -> Option<EventId> {
        self.inner.state.borrow().forgotten.get(&connection).copied()
    }

    /// Ends connections that are silent for too long, for as long as there are any connections.
    pub(super) fn watch_idle(&self, rule: IdleRule) {
        let this = self.clone();
        self.inner.sim.spawn("lb-idle", async move {
            let inner = &this.inner;
            loop {
                let next = inner.state.borrow().idle.next();
                let Some(next) = next else { break };
                inner.sim.sleep_until(next).await;
                let due = inner.state.borrow_mut().idle.due(inner.sim.now());
                if let Some(id) = due {
                    this.look_at(id, rule);
                }
            }
            inner.state.borrow_mut().idle_is_watched = false;
        });
    }

    /// Ends a connection if it has been silent for long enough, or says when to look again.
    fn look_at(&self, id: ConnectionId, rule: IdleRule) {
        let inner = &self.inner;
        let now = inner.sim.now();
        {
            let mut state = inner.state.borrow_mut();
            let state = &mut *state;
            let Some(entry) = state.connections.get_mut(&id) else { return };
            // One that is being opened has its own end.
            let ends_at = inner.net.last_passage(id).unwrap_or(now).after(rule.timeout);
            if ends_at > now {
                entry.look_at = ends_at;
                state.idle.add(ends_at, id);
                return;
            }
            state.forget(id);
        }
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
