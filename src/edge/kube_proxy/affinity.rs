//! `sessionAffinity: ClientIP`: the endpoint that a client's next connection goes to.
//!
//! Each endpoint has a list of clients with the time of their last connection. A client goes to the first endpoint, in the order of
//! the rules, whose list has it and whose entry is no older than the timeout; each connection makes its entry young again. An endpoint
//! that has no rules any more has no list any more, so whoever comes back to it is unknown.
//!
//! A list of the iptables proxy is one of the kernel's `recent` lists and holds 100 clients; the client that has been away longest
//! makes room. That is why affinity seems to fail at random behind many clients. The IPVS proxy has no such limit.
//!
//! Source: Kubernetes v1.28.7 pkg/proxy/iptables/proxier.go `writeServiceToEndpointRules`; Linux net/netfilter/xt_recent.c
//! (`ip_list_tot`, an entry of exactly the timeout's age still counts).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::units::SimTime;

/// Clients that one list of the kernel remembers.
pub const RECENT_CLIENTS_MAX: usize = 100;

/// Who has been where, as one node remembers it for one Service.
#[derive(Clone, Debug)]
pub struct Affinity {
    timeout: Duration,
    clients_max: Option<usize>,
    /// By endpoint: its clients, and when they last came.
    seen: BTreeMap<Ipv4Addr, BTreeMap<Ipv4Addr, SimTime>>,
}

impl Affinity {
    /// Nobody has been anywhere. `clients_max` is the length of a list.
    #[must_use]
    pub const fn new(timeout: Duration, clients_max: Option<usize>) -> Self {
        Self { timeout, clients_max, seen: BTreeMap::new() }
    }

    /// Which of the endpoints, in the order of the rules, a client sticks to.
    pub fn endpoint_of(
        &self,
        client: Ipv4Addr,
        endpoints: impl Iterator<Item = Ipv4Addr>,
        now: SimTime,
    ) -> Option<Ipv4Addr> {
        let knows = |endpoint: &Ipv4Addr| {
            let last = self.seen.get(endpoint).and_then(|clients| clients.get(&client));
            last.is_some_and(|last| now.since(*last) <= self.timeout)
        };
        let mut endpoints = endpoints;
        endpoints.find(knows)
    }

    /// A client's connection goes to an endpoint.
    pub fn handle_connection(&mut self, client: Ipv4Addr, endpoint: Ipv4Addr, now: SimTime) {
        let clients = self.seen.entry(endpoint).or_default();
        if !clients.contains_key(&client) && self.clients_max.is_some_and(|most| clients.len() >= most) {
            let oldest = clients.iter().min_by_key(|(client, last)| (**last, **client)).map(|(client, _)| *client);
            if let Some(oldest) = oldest {
                clients.remove(&oldest);
            }
        }
        clients.insert(client, now);
    }

    /// Only these endpoints have rules from now on.
    pub fn keep(&mut self, holds: impl Fn(Ipv4Addr) -> bool) {
        self.seen.retain(|endpoint, _| holds(*endpoint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn client(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 51, 100, number)
    }

    fn at(seconds: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(seconds))
    }

    fn sticks_to(affinity: &Affinity, number: u8, now: SimTime) -> Option<Ipv4Addr> {
        affinity.endpoint_of(client(number), [A, B].into_iter(), now)
    }

    #[test]
    fn a_client_is_forgotten_after_the_timeout_and_each_connection_renews_it() {
        let mut affinity = Affinity::new(Duration::from_secs(10), None);
        assert_eq!(sticks_to(&affinity, 1, at(0)), None);
        affinity.handle_connection(client(1), B, at(0));
        assert_eq!(sticks_to(&affinity, 1, at(10)), Some(B));
        assert_eq!(sticks_to(&affinity, 1, at(10).after(Duration::from_nanos(1))), None);
        affinity.handle_connection(client(1), B, at(9));
        assert_eq!(sticks_to(&affinity, 1, at(19)), Some(B));
        assert_eq!(sticks_to(&affinity, 2, at(9)), None);
    }

    #[test]
    fn an_endpoint_without_rules_forgets_its_clients() {
        let mut affinity = Affinity::new(Duration::from_secs(10), None);
        affinity.handle_connection(client(1), A, at(0));
        // While it is not among those that may be used, another one takes over.
        assert_eq!(affinity.endpoint_of(client(1), [B].into_iter(), at(1)), None);
        affinity.handle_connection(client(1), B, at(1));
        assert_eq!(sticks_to(&affinity, 1, at(2)), Some(A));
        affinity.keep(|endpoint| endpoint == B);
        assert_eq!(sticks_to(&affinity, 1, at(2)), Some(B));
    }

    #[test]
    fn a_full_list_forgets_whoever_was_away_longest() {
        let mut affinity = Affinity::new(Duration::from_secs(100), Some(2));
        affinity.handle_connection(client(1), A, at(0));
        affinity.handle_connection(client(2), A, at(1));
        affinity.handle_connection(client(1), A, at(2));
        affinity.handle_connection(client(3), A, at(3));
        let known = [1, 2, 3].map(|number| sticks_to(&affinity, number, at(4)).is_some());
        assert_eq!(known, [true, false, true]);
    }
}
