//! The addresses of a balancer, one in each of its zones, and what becomes of them when a zone fails.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::{LoadBalancer, Vip};
use crate::edge::limits::Meter;
use crate::engine::EventId;
use crate::net::{ConnectionId, Sever};

impl LoadBalancer {
    /// Its addresses, in the order of its zones. To be told before the first connection.
    pub fn set_addresses(&self, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        let vip = |ip| Vip { ip, dead: None, meter: Meter::default(), open_count: 0 };
        self.inner.state.borrow_mut().vips = addresses.into_iter().map(vip).collect();
    }

    /// The zones of the nodes. They matter where an address sends to its own zone only.
    pub fn set_node_zones(&self, zones: BTreeMap<Rc<str>, Rc<str>>) {
        self.inner.state.borrow_mut().node_zones = zones;
    }

    /// The addresses whose zones are well.
    #[must_use]
    pub fn live_addresses(&self) -> Vec<Ipv4Addr> {
        self.inner.state.borrow().vips.iter().filter(|vip| vip.dead.is_none()).map(|vip| vip.ip).collect()
    }

    /// Whether it has an address in this zone.
    #[must_use]
    pub fn is_in(&self, zone: &str) -> bool {
        self.inner.config.zones.iter().any(|known| &**known == zone)
    }

    /// A zone fails: its address answers nobody any more, and connections through it hear nothing.
    pub fn fail_zone(&self, zone: &str, why: EventId) {
        let inner = &self.inner;
        let Some(index) = inner.config.zones.iter().position(|known| &**known == zone) else { return };
        let event = self.tell_zone("zone_failed", zone, why);
        let lost: Vec<ConnectionId> = {
            let mut state = inner.state.borrow_mut();
            let state = &mut *state;
            state.vips[index].dead = Some(event);
            let lost = state.connections.ids(|entry| entry.vip == index);
            for id in &lost {
                state.forget(*id);
                state.forgotten.insert(*id, event);
            }
            lost
        };
        for id in lost {
            inner.net.sever(id, Sever::Blackhole, Some(event));
        }
    }

    /// It is back.
    pub fn restore_zone(&self, zone: &str, why: EventId) {
        let Some(index) = self.inner.config.zones.iter().position(|known| &**known == zone) else { return };
        self.inner.state.borrow_mut().vips[index].dead = None;
        self.tell_zone("zone_restored", zone, why);
    }

    fn tell_zone(&self, kind: &'static str, zone: &str, why: EventId) -> EventId {
        let inner = &self.inner;
        let object = inner.config.identity.object(format!("Service/{}", inner.config.service));
        let data = vec![("zone", zone.into())];
        inner.log.borrow_mut().record(inner.sim.now(), Some(why), kind, object, data)
    }
}
