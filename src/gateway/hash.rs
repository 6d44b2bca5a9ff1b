//! What requests that belong together have in common, as a number for balancers that hash.
//!
//! Each policy that finds its input gives the xxHash64 of it; several are combined by turning what there is left by one bit and an exclusive
//! or. Several values of a header are put in order first. A cookie that is missing is made if it has a lifetime: its value is a hash of the
//! connection's two addresses, so that requests side by side on one connection get the same one.
//!
//! Source: envoy source/common/http/hash_policy.cc, source/common/router/router.h (`addDownstreamSetCookie`), source/common/http/utility.cc
//! (`makeSetCookieValue`).

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use twox_hash::XxHash64;

use super::parameters::{cookie, query_parameter};
use super::routes::HashPolicy;

/// What the policies look at.
#[derive(Clone, Copy, Debug)]
pub struct HashInput<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// Its query.
    pub query: Option<&'a str>,
    /// Its client.
    pub client: Option<IpAddr>,
    /// The peer of its connection.
    pub remote: SocketAddr,
    /// The gateway's end of its connection.
    pub local: SocketAddr,
}

/// A request's number, and the cookies that its answer sets.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Hashed {
    /// The number; none if no policy found anything: any endpoint may be picked.
    pub hash: Option<u64>,
    /// Values for `set-cookie`.
    pub cookies: Vec<HeaderValue>,
}

/// Hashes a request.
#[must_use]
pub fn hash(policies: &[HashPolicy], input: &HashInput<'_>) -> Hashed {
    let mut hashed = Hashed::default();
    for policy in policies {
        if let Some(new) = policy.hash(input, &mut hashed.cookies) {
            hashed.hash = Some(hashed.hash.map_or(0, |old| old.rotate_left(1)) ^ new);
        }
    }
    hashed
}

impl HashPolicy {
    fn hash(&self, input: &HashInput<'_>, cookies: &mut Vec<HeaderValue>) -> Option<u64> {
        match self {
            Self::Header(name) => {
                let mut values: Vec<&[u8]> = input.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                values.sort_unstable();
                // Each value's hash is the seed of the next one's.
                values.into_iter().fold(None, |seed, value| Some(XxHash64::oneshot(seed.unwrap_or(0), value)))
            }
            Self::Cookie { name, path, ttl } => match cookie(input.headers, name).filter(|value| !value.is_empty()) {
                Some(value) => Some(xx_hash(value)),
                None => {
                    let lifetime_s = (*ttl)?.as_secs();
                    let value = format!("{:016x}", xx_hash(&format!("{}{}", input.remote, input.local)));
                    cookies.extend(set_cookie(name, &value, lifetime_s, path.as_deref()));
                    Some(xx_hash(&value))
                }
            },
            Self::SourceAddress => input.client.map(|client| xx_hash(&client.to_string())),
            Self::Query(name) => query_parameter(input.query?, name).map(xx_hash),
        }
    }
}

fn xx_hash(text: &str) -> u64 {
    XxHash64::oneshot(0, text.as_bytes())
}

fn set_cookie(name: &str, value: &str, lifetime_s: u64, path: Option<&str>) -> Option<HeaderValue> {
    let mut text = format!("{name}=\"{value}\"");
    if lifetime_s > 0 {
        text += &format!("; Max-Age={lifetime_s}");
    }
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        text += &format!("; Path={path}");
    }
    HeaderValue::from_str(&(text + "; HttpOnly")).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderName;
    use http::header::COOKIE;

    use super::*;

    fn input(headers: &HeaderMap) -> HashInput<'_> {
        HashInput {
            headers,
            query: Some("user=ann&x=1"),
            client: Some("1.2.3.4".parse().unwrap()),
            remote: "1.2.3.4:5000".parse().unwrap(),
            local: "10.0.0.1:80".parse().unwrap(),
        }
    }

    /// Source of the numbers: the xxHash64 of the reference implementation, seed 0.
    #[test]
    fn the_hash_is_xxhash64() {
        assert_eq!(xx_hash(""), 0xef46_db37_51d8_e999);
        assert_eq!(xx_hash("a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xx_hash("abc"), 0x44bc_2cf5_ad77_0999);
    }

    #[test]
    fn several_policies_are_turned_and_mixed() {
        let headers = HeaderMap::new();
        let query = HashPolicy::Query("user".to_owned());
        let both = [query.clone(), HashPolicy::Header(HeaderName::from_static("x-none")), HashPolicy::SourceAddress];
        let expected = xx_hash("ann").rotate_left(1) ^ xx_hash("1.2.3.4");
        assert_eq!(hash(&both, &input(&headers)).hash, Some(expected));
        assert_eq!(
            hash(&[query.clone(), query], &input(&headers)).hash,
            Some(xx_hash("ann").rotate_left(1) ^ xx_hash("ann"))
        );
        assert_eq!(hash(&[HashPolicy::Query("none".to_owned())], &input(&headers)), Hashed::default());
    }

    #[test]
    fn the_order_of_a_headers_values_makes_no_difference() {
        let policy = [HashPolicy::Header(HeaderName::from_static("x-user"))];
        let of = |values: &[&'static str]| {
            let pairs = values.iter().map(|value| (HeaderName::from_static("x-user"), HeaderValue::from_static(value)));
            let mut headers = HeaderMap::new();
            pairs.for_each(|(name, value)| {
                headers.append(name, value);
            });
            hash(&policy, &input(&headers)).hash
        };
        assert_eq!(of(&["foo", "bar"]), of(&["bar", "foo"]));
        assert_eq!(of(&["foo"]), Some(xx_hash("foo")));
        assert_ne!(of(&["foo"]), of(&["foo", "bar"]));
    }

    #[test]
    fn a_missing_cookie_is_made_if_it_has_a_lifetime() {
        let policy = |ttl: Option<u64>| {
            let path = Some("/p".to_owned());
            [HashPolicy::Cookie { name: "user".to_owned(), path, ttl: ttl.map(Duration::from_secs) }]
        };
        let none = HeaderMap::new();
        assert_eq!(hash(&policy(None), &input(&none)), Hashed::default());
        let made = hash(&policy(Some(60)), &input(&none));
        let value = format!("{:016x}", xx_hash("1.2.3.4:500010.0.0.1:80"));
        assert_eq!(made.hash, Some(xx_hash(&value)));
        assert_eq!(made.cookies, [format!("user=\"{value}\"; Max-Age=60; Path=/p; HttpOnly").as_str()]);
        let session = hash(&policy(Some(0)), &input(&none));
        assert_eq!(session.cookies, [format!("user=\"{value}\"; Path=/p; HttpOnly").as_str()]);
        let there = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("a=b; user=\"ann\""))]);
        assert_eq!(hash(&policy(Some(60)), &input(&there)), Hashed { hash: Some(xx_hash("ann")), cookies: Vec::new() });
    }
}
