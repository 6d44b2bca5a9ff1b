//! Addresses of Services within the cluster. A drill never dials them; views show them.
//!
//! The range is the one of ACK's own examples. An API server draws an address from the upper part of its range; here it comes from the
//! Service's name, so that a Service has the same address in every run. Two Services whose names lead to one address: the later name gets the next
//! that is free.
//!
//! Source: Alibaba Cloud ACK documents "Plan the network of an ACK managed cluster" (172.21.0.0/20); Kubernetes KEP-3070 (the first 256 of a range of
//! this size are left for those who choose).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

/// The first address of the range.
const BASE: Ipv4Addr = Ipv4Addr::new(172, 21, 0, 0);
/// Addresses that are not drawn.
const RESERVED: u32 = 256;
/// The last address of the range, counted from the first; the very last is its broadcast address.
const LAST: u32 = (1 << 12) - 2;

/// The addresses of Services, by `namespace/name`.
pub(super) fn service_ips<'a>(keys: impl Iterator<Item = &'a Rc<str>>) -> BTreeMap<Rc<str>, Ipv4Addr> {
    let mut keys: Vec<&Rc<str>> = keys.collect();
    keys.sort_unstable();
    let (mut taken, mut ips) = (std::collections::BTreeSet::new(), BTreeMap::new());
    let count = LAST - RESERVED + 1;
    for key in keys {
        let first = hash(key) % count;
        // More Services than addresses: some share one.
        let offset = (0..count).map(|step| (first + step) % count).find(|offset| !taken.contains(offset));
        let offset = offset.unwrap_or(first);
        taken.insert(offset);
        ips.insert(Rc::clone(key), Ipv4Addr::from_bits(BASE.to_bits() + RESERVED + offset));
    }
    ips
}

/// FNV-1a.
pub(super) fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(names: &[String]) -> BTreeMap<Rc<str>, Ipv4Addr> {
        let keys: Vec<Rc<str>> = names.iter().map(|name| Rc::from(name.as_str())).collect();
        service_ips(keys.iter())
    }

    #[test]
    fn a_service_keeps_its_address_and_shares_it_with_none() {
        let names: Vec<String> = (0..1000).map(|number| format!("shop/service-{number}")).collect();
        let all = ips(&names);
        let (first, last) = (Ipv4Addr::new(172, 21, 1, 0), Ipv4Addr::new(172, 21, 15, 254));
        assert!(all.values().all(|ip| (first..=last).contains(ip)));
        let mut distinct: Vec<&Ipv4Addr> = all.values().collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 1000);
        let alone = ips(&names[7..8]);
        let others = ips(&names[7..9]);
        assert_eq!(alone["shop/service-7"], others["shop/service-7"]);
    }

    #[test]
    fn a_range_that_is_full_is_shared() {
        let names: Vec<String> = (0..4000).map(|number| format!("a/{number}")).collect();
        assert_eq!(ips(&names).len(), 4000);
    }
}
