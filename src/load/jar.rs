//! The cookies of one client, as a browser keeps them.
//!
//! - What an answer sets is kept from then on for as long as `Max-Age` says, or else for the rest of the run: a run is one session. A lifetime of 0 or less takes
//!   the cookie out.
//! - It is sent to the host that set it, or with `Domain` to that domain and all below; to paths below its `Path`, which is the asked one up to its last slash if
//!   nothing is said; and with `Secure` over TLS only. Ports do not tell sites apart.
//! - Those with longer paths are sent first, and of equal ones those that came first.
//!
//! Not heeded: `Expires`, since a run has no calendar; `SameSite` and `HttpOnly`, since nobody runs scripts; lists of domains that nobody may set cookies for.
//!
//! Source: RFC 6265, section 5 (5.1.3 domains, 5.1.4 paths, 5.2 attributes, 5.3 and 5.4 what is kept and sent); that a plain answer sets no `Secure` cookie is
//! draft-ietf-httpbis-rfc6265bis, section 5.7.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use crate::net::cookie;
use crate::units::SimTime;

/// Where requests go, as far as cookies heed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    /// The host, in small letters and without a port.
    host: Rc<str>,
    /// The path, without a query.
    path: Rc<str>,
    /// They are sent over TLS.
    is_secure: bool,
}

impl Site {
    /// The site of a `Host` and a path with its query.
    #[must_use]
    pub fn new(host: &str, path: &str, is_secure: bool) -> Self {
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let path = path.split('?').next().unwrap_or_default();
        Self { host: host.to_ascii_lowercase().into(), path: path.into(), is_secure }
    }

    /// The path for which a cookie is that does not say it.
    fn usual_path(&self) -> &str {
        match self.path.rfind('/') {
            Some(slash @ 1..) if self.path.starts_with('/') => &self.path[..slash],
            _ => "/",
        }
    }
}

#[derive(Debug)]
struct Cookie {
    name: Vec<u8>,
    value: Vec<u8>,
    domain: String,
    /// Hosts below its domain are not meant.
    is_of_host: bool,
    path: String,
    is_secure: bool,
    /// Its end; none: with the run.
    ends_at: Option<SimTime>,
}

impl Cookie {
    /// What an answer from a site sets; none, if the site may not.
    fn read(now: SimTime, from: &Site, text: &[u8]) -> Option<Self> {
        let mut parts = cookie::parts(text);
        let (name, value) = parts.next().and_then(|(name, value)| Some((name, value?)))?;
        if name.is_empty() {
            return None;
        }
        let mut cookie = Self {
            name: name.to_vec(),
            value: value.to_vec(),
            domain: from.host.to_string(),
            is_of_host: true,
            path: from.usual_path().to_owned(),
            is_secure: false,
            ends_at: None,
        };
        for (name, value) in parts {
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
            let text = || value.and_then(|value| str::from_utf8(value).ok()).unwrap_or_default();
            if is("max-age") {
                cookie.ends_at = lifetime(text()).map_or(cookie.ends_at, |span| Some(now.after(span)));
            } else if is("domain") {
                let domain = text().strip_prefix('.').unwrap_or(text()).to_ascii_lowercase();
                if !domain.is_empty() {
                    (cookie.domain, cookie.is_of_host) = (domain, false);
                }
            } else if is("path") {
                cookie.path = if text().starts_with('/') { text() } else { from.usual_path() }.to_owned();
            } else if is("secure") {
                cookie.is_secure = true;
            }
        }
        let is_allowed = is_within(&from.host, &cookie.domain) && (from.is_secure || !cookie.is_secure);
        is_allowed.then_some(cookie)
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.domain, &self.path) == (&other.name, &other.domain, &other.path)
    }

    fn is_over(&self, now: SimTime) -> bool {
        self.ends_at.is_some_and(|ends_at| ends_at <= now)
    }

    fn is_for(&self, site: &Site) -> bool {
        let is_there = if self.is_of_host { *self.domain == *site.host } else { is_within(&site.host, &self.domain) };
        let below = site.path.strip_prefix(&*self.path);
        let is_below = below.is_some_and(|rest| rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/'));
        is_there && is_below && (site.is_secure || !self.is_secure)
    }
}

/// What `Max-Age` says; nothing, if it is no number.
fn lifetime(text: &str) -> Option<Duration> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More than four billion seconds are as good as for ever.
    let seconds = if digits.len() < text.len() { 0 } else { digits.parse::<u32>().unwrap_or(u32::MAX) };
    Some(Duration::from_secs(u64::from(seconds)))
}

/// Whether a host is this domain or below it. Nothing is below an address.
fn is_within(host: &str, domain: &str) -> bool {
    let above = host.strip_suffix(domain);
    above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.') && host.parse::<Ipv4Addr>().is_err())
}

/// All cookies that a client has.
#[derive(Default, Debug)]
pub struct Jar {
    /// In the order in which they are sent.
    cookies: Vec<Cookie>,
}

impl Jar {
    /// An answer to a request to `from` has such a `Set-Cookie`.
    pub fn handle_set(&mut self, now: SimTime, from: &Site, text: &[u8]) {
        let Some(new) = Cookie::read(now, from, text) else { return };
        let known = self.cookies.iter().position(|cookie| cookie.is_same(&new));
        match (known, new.is_over(now)) {
            (Some(index), true) => drop(self.cookies.remove(index)),
            (Some(index), false) => self.cookies[index] = new,
            (None, true) => {}
            (None, false) => {
                let place = self.cookies.partition_point(|cookie| cookie.path.len() >= new.path.len());
                self.cookies.insert(place, new);
            }
        }
    }

    /// Writes the header line for a request to a site, if any cookie is for it.
    pub fn write(&self, now: SimTime, to: &Site, out: &mut Vec<u8>) {
        let mut between: &[u8] = b"cookie: ";
        for cookie in self.cookies.iter().filter(|cookie| !cookie.is_over(now) && cookie.is_for(to)) {
            for part in [between, &cookie.name, b"=", &cookie.value] {
                out.extend_from_slice(part);
            }
            between = b"; ";
        }
        if between == b"; " {
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(second))
    }

    /// What a client sends at a second to a site, after answers of another one at second 10 have set these cookies.
    #[track_caller]
    fn check(from: (&str, &str, bool), set: &[&str], second: u64, to: (&str, &str, bool), expected: &str) {
        let site = |(host, path, is_secure): (&str, &str, bool)| Site::new(host, path, is_secure);
        let mut jar = Jar::default();
        for text in set {
            jar.handle_set(at(10), &site(from), text.as_bytes());
        }
        let mut out = Vec::new();
        jar.write(at(second), &site(to), &mut out);
        let expected = if expected.is_empty() { String::new() } else { format!("cookie: {expected}\r\n") };
        assert_eq!(String::from_utf8_lossy(&out), expected, "{set:?} from {from:?} to {to:?} at {second} s");
    }

    const SHOP: (&str, &str, bool) = ("shop.example.com", "/", false);

    #[test]
    fn what_is_set_is_sent_back_until_its_end() {
        for (set, second, expected) in [
            (&["a=1"][..], 1_000_000, "a=1"),
            (&["a=1; Path=/", "b=\"2=3\"; HttpOnly; SameSite=Lax"], 10, "a=1; b=\"2=3\""),
            (&["a=1", "b=2", "a=3"], 10, "a=3; b=2"),
            (&["a=1; Max-Age=60"], 69, "a=1"),
            (&["a=1; Max-Age=60"], 70, ""),
            (&["a=1; max-age=60; MAX-AGE=5"], 14, "a=1"),
            (&["a=1; max-age=60; MAX-AGE=5"], 15, ""),
            (&["a=1; Max-Age=99999999999"], 4_000_000_000, "a=1"),
            (&["a=1; Max-Age=1x"], 1_000_000, "a=1"),
            (&["a=1", "a=; Max-Age=0"], 10, ""),
            (&["a=1", "a=; Max-Age=-1"], 10, ""),
            (&["a=1; Expires=Thu, 01 Jan 2099 00:00:00 GMT"], 10, "a=1"),
            (&["a=", "no equals sign", "=no name"], 10, "a="),
        ] {
            check(SHOP, set, second, SHOP, expected);
        }
    }

    #[test]
    fn hosts_get_their_own_and_domains_those_below() {
        for (from, text, to, is_sent) in [
            ("shop.example.com", "a=1", "SHOP.example.com:8080", true),
            ("shop.example.com", "a=1", "api.example.com", false),
            ("shop.example.com", "a=1", "a.shop.example.com", false),
            ("shop.example.com", "a=1; Domain=.Example.com", "api.example.com", true),
            ("shop.example.com", "a=1; Domain=example.com", "badexample.com", false),
            ("shop.example.com", "a=1; Domain=", "shop.example.com", true),
            // Nobody sets cookies for others.
            ("shop.example.com", "a=1; Domain=api.example.com", "api.example.com", false),
            ("10.0.0.1", "a=1; Domain=0.0.1", "10.0.0.1", false),
            ("10.0.0.1", "a=1; Domain=10.0.0.1", "10.0.0.1", true),
        ] {
            check((from, "/", false), &[text], 10, (to, "/", false), if is_sent { "a=1" } else { "" });
        }
    }

    #[test]
    fn paths_get_what_is_for_them_the_closest_first() {
        for (asked, text, to, is_sent) in [
            ("/cart/items?x=/y", "a=1", "/cart", true),
            ("/cart/items", "a=1", "/cart/other", true),
            ("/cart/items", "a=1", "/carts", false),
            ("/cart/items", "a=1", "/", false),
            ("/cart", "a=1", "/", true),
            ("/cart/items", "a=1; Path=/", "/", true),
            ("/", "a=1; Path=/shop/", "/shop", false),
            ("/", "a=1; Path=/shop/", "/shop/x?y", true),
            ("/cart/items", "a=1; Path=cart", "/", false),
        ] {
            let at = |path| ("a.example", path, false);
            check(at(asked), &[text], 10, at(to), if is_sent { "a=1" } else { "" });
        }
        let set = ["a=1; Path=/", "b=2; Path=/x/y", "c=3; Path=/", "d=4; Path=/x/y", "a=5; Path=/x"];
        check(SHOP, &set, 10, (SHOP.0, "/x/y/z", false), "b=2; d=4; a=5; a=1; c=3");
    }

    #[test]
    fn what_is_secure_goes_over_tls_only() {
        let over = |is_secure| (SHOP.0, "/", is_secure);
        check(over(true), &["a=1; Secure"], 10, over(true), "a=1");
        check(over(true), &["a=1; Secure"], 10, over(false), "");
        check(over(false), &["a=1; Secure"], 10, over(true), "");
        check(over(true), &["a=1"], 10, over(false), "a=1");
    }
}
