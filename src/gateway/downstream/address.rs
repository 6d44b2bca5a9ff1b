//! Who the client is: the peer of the connection, or an address that trusted proxies in front of the gateway wrote down.
//!
//! Source: envoy source/common/http/{utility,conn_manager_utility}.cc.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A downstream connection. Made once for each.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address; none for a socket without one.
    pub address: Option<IpAddr>,
    /// The port it came to.
    pub local_port: u16,
    /// Whether it is encrypted.
    pub is_tls: bool,
    /// What proxies behind the gateway are told of the client: its address, or the gateway's own for a client on the same machine.
    forwarded_for: Option<HeaderValue>,
    /// The client's address as text.
    text: Option<HeaderValue>,
}

impl Peer {
    /// The client of a connection, the address and port it came to.
    #[must_use]
    pub fn new(remote: Option<IpAddr>, local: SocketAddr, is_tls: bool) -> Self {
        let text = remote.map(address_value);
        let is_loopback = remote.is_some_and(|remote| remote.to_canonical().is_loopback());
        let forwarded_for = if is_loopback { Some(address_value(local.ip())) } else { text.clone() };
        Self { address: remote, local_port: local.port(), is_tls, forwarded_for, text }
    }

    /// Appends the client to `x-forwarded-for`.
    pub fn append_to(&self, headers: &mut HeaderMap) {
        self.append_after(joined(headers, &FORWARDED_FOR), headers);
    }

    /// Makes `x-forwarded-for` the list so far and the client.
    pub(super) fn append_after(&self, earlier: Option<HeaderValue>, headers: &mut HeaderMap) {
        if let Some(client) = &self.forwarded_for {
            let list = earlier.map_or_else(|| client.clone(), |earlier| both(&earlier, ",", client));
            headers.insert(FORWARDED_FOR, list);
        }
    }

    /// The client's address as a header's value.
    pub(super) fn text_of(&self, address: IpAddr) -> HeaderValue {
        match &self.text {
            Some(text) if self.address == Some(address) => text.clone(),
            _ => address_value(address),
        }
    }
}

fn address_value(address: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string()).expect("an address makes a header")
}

/// All values of a header, joined by commas; none if they are empty.
pub(super) fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().filter(|value| !value.is_empty())?;
    Some(values.fold(first.clone(), |list, value| both(&list, ",", value)))
}

/// Appends a value to a header's list.
pub(super) fn append(headers: &mut HeaderMap, name: HeaderName, separator: &str, value: &HeaderValue) {
    let list = joined(headers, &name).map_or_else(|| value.clone(), |earlier| both(&earlier, separator, value));
    headers.insert(name, list);
}

fn both(first: &HeaderValue, separator: &str, second: &HeaderValue) -> HeaderValue {
    let bytes = [first.as_bytes(), separator.as_bytes(), second.as_bytes()].concat();
    HeaderValue::from_bytes(&bytes).expect("two values with a separator between them are one")
}

/// The last address of an `x-forwarded-for`, after so many from the right, and whether the list held just this one.
#[must_use]
pub fn last_address(forwarded_for: &str, skipped: u32) -> Option<(IpAddr, bool)> {
    let mut list = forwarded_for;
    for _ in 0..skipped {
        list = list.rsplit_once(',')?.0;
    }
    let (text, is_only) = match list.rsplit_once(',') {
        Some((_, last)) => (last, false),
        None => (list, skipped == 0),
    };
    text.trim().parse().ok().map(|address| (address, is_only))
}

/// Which clients count as internal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InternalAddresses {
    /// None. Envoy's default since 1.33.
    Nobody,
    /// Private and loopback addresses. Envoy's default before.
    Private,
}

impl InternalAddresses {
    /// Whether an address is one of them.
    #[must_use]
    pub fn has(self, address: IpAddr) -> bool {
        self == Self::Private
            && match address.to_canonical() {
                IpAddr::V4(address) => address.is_private() || address.is_loopback(),
                IpAddr::V6(address) => address.is_unique_local() || address.is_loopback(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_addresses_are_private_ones_or_none() {
        for (address, is_private) in [
            ("10.0.0.1", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("127.0.0.1", true),
            ("12.0.0.1", false),
            ("::1", true),
            ("fd00::1", true),
            ("2001:db8::1", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(InternalAddresses::Private.has(address), is_private, "{address}");
            assert!(!InternalAddresses::Nobody.has(address));
        }
    }

    #[test]
    fn the_list_grows_by_the_peer_over_several_headers() {
        let peer = Peer::new(Some("10.0.0.9".parse().unwrap()), "10.0.0.1:80".parse().unwrap(), false);
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_static("1.1.1.1"));
        headers.append(FORWARDED_FOR, HeaderValue::from_static("2.2.2.2, 3.3.3.3"));
        peer.append_to(&mut headers);
        assert_eq!(headers.get_all(FORWARDED_FOR).iter().count(), 1);
        assert_eq!(headers[FORWARDED_FOR], "1.1.1.1,2.2.2.2, 3.3.3.3,10.0.0.9");
    }
}
