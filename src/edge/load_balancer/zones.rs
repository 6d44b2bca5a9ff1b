//! The addresses of a balancer, one in each of its zones, and what becomes of them when a zone fails, or the balancer leaves it.
//!
//! An address that is given back answers nobody any more, and connections through it hear nothing: what the cloud does to them is not documented, so that is an
//! assumption. The name server knows at once: it is the same control plane that takes the address out of it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::{LoadBalancer, State, Vip};
use crate::edge::limits::Meter;
use crate::engine::EventId;
use crate::net::{ConnectionId, LinkConfig, Sever};

/// From an address of a balancer to that of its next zone.
const STEP: u32 = 1 << 8;

impl State {
    /// The place of the address in the zone of a target's node.
    pub(super) fn zone_of(&self, ip: Ipv4Addr) -> Option<usize> {
        let wanted = self.wanted.get(&ip).or_else(|| self.last_seen.get(&ip))?;
        self.vip_in(self.node_zones.get(&wanted.node)?)
    }

    /// The place of the address in a zone.
    pub(super) fn vip_in(&self, zone: &str) -> Option<usize> {
        self.vips.iter().position(|vip| vip.zone.as_deref() == Some(zone) && !vip.is_gone)
    }
}

/// The address of the `index`th zone of a balancer whose first one has this.
#[must_use]
pub fn address(first: Ipv4Addr, index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(first.to_bits() + u32::try_from(index).unwrap_or(0) * STEP)
}

impl LoadBalancer {
    /// Its addresses, in the order of its zones. To be told before the first connection.
    pub fn set_addresses(&self, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        let mut zones = self.inner.config.zones.iter().cloned();
        let vip = |ip| new_vip(zones.next(), ip);
        self.inner.state.borrow_mut().vips = addresses.into_iter().map(vip).collect();
    }

    /// From now on `hook` is called when it has other addresses.
    pub fn when_readdressed(&self, hook: Rc<dyn Fn()>) {
        *self.inner.on_readdressed.borrow_mut() = Some(hook);
    }

    /// The zones of the nodes. They matter where an address sends to its own zone only.
    pub fn set_node_zones(&self, zones: BTreeMap<Rc<str>, Rc<str>>) {
        self.inner.state.borrow_mut().node_zones = zones;
    }

    /// All addresses that it has or had.
    #[must_use]
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        self.inner.state.borrow().vips.iter().map(|vip| vip.ip).collect()
    }

    /// The addresses whose zones are well.
    #[must_use]
    pub fn live_addresses(&self) -> Vec<Ipv4Addr> {
        self.inner.state.borrow().vips.iter().filter(|vip| vip.dead.is_none()).map(|vip| vip.ip).collect()
    }

    /// Whether it has an address in this zone.
    #[must_use]
    pub fn is_in(&self, zone: &str) -> bool {
        self.inner.state.borrow().vip_in(zone).is_some()
    }

    /// A zone fails: its address answers nobody any more, and connections through it hear nothing.
    pub fn fail_zone(&self, zone: &str, why: EventId) {
        let Some(index) = self.inner.state.borrow().vip_in(zone) else { return };
        let event = self.tell_zone("zone_failed", zone, why);
        self.silence(index, event);
    }

    /// An address answers nobody.
    fn silence(&self, index: usize, event: EventId) {
        let inner = &self.inner;
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
        let Some(index) = self.inner.state.borrow().vip_in(zone) else { return };
        self.inner.state.borrow_mut().vips[index].dead = None;
        self.tell_zone("zone_restored", zone, why);
    }

    /// It is in these zones from now on: new ones get an address, those that are left lose theirs.
    pub(super) fn move_to(&self, zones: &[Rc<str>], why: EventId) {
        let inner = &self.inner;
        let known: Vec<(usize, Rc<str>)> = {
            let state = inner.state.borrow();
            let living = state.vips.iter().enumerate().filter(|(_, vip)| !vip.is_gone);
            living.filter_map(|(index, vip)| Some((index, vip.zone.clone()?))).collect()
        };
        if known.is_empty() || zones.is_empty() {
            return;
        }
        let fresh = zones.iter().filter(|zone| known.iter().all(|(_, known)| known != *zone));
        for zone in fresh {
            self.tell_zone("zone_added", zone, why);
            let ip = {
                let mut state = inner.state.borrow_mut();
                let ip = address(state.vips[0].ip, state.vips.len());
                state.vips.push(new_vip(Some(Rc::clone(zone)), ip));
                ip
            };
            inner.net.forward(ip, LinkConfig::default(), Rc::new(self.clone()));
        }
        for (index, zone) in known.iter().filter(|(_, known)| !zones.contains(known)) {
            let event = self.tell_zone("zone_removed", zone, why);
            self.silence(*index, event);
            inner.state.borrow_mut().vips[*index].is_gone = true;
        }
        let hook = inner.on_readdressed.borrow().clone();
        if let Some(hook) = hook {
            hook();
        }
    }

    fn tell_zone(&self, kind: &'static str, zone: &str, why: EventId) -> EventId {
        let inner = &self.inner;
        let object = inner.config.identity.object(format!("Service/{}", inner.config.service));
        let data = vec![("zone", zone.into())];
        inner.log.borrow_mut().record(inner.sim.now(), Some(why), kind, object, data)
    }
}

fn new_vip(zone: Option<Rc<str>>, ip: Ipv4Addr) -> Vip {
    Vip { zone, ip, dead: None, is_gone: false, meter: Meter::default(), open_count: 0 }
}
