//! `LoadBalancerSettings`: how requests are spread over endpoints.
//!
//! Source: istio api networking/v1alpha3/destination_rule.proto; istio pkg/config/validation/validation.go.

use std::time::Duration;

use super::locality::{self, Locality};
use super::values;
use crate::manifest::read::Field;
use crate::record::results::FidelityStatus;

/// How requests are spread.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct LoadBalancer {
    /// The algorithm; unset: Istio's default.
    pub simple: Option<Simple>,
    /// Requests that have something in common go to one endpoint.
    pub consistent_hash: Option<ConsistentHash>,
    /// New endpoints get less at first.
    pub warmup: Option<Warmup>,
    /// Near endpoints come first.
    pub locality: Option<Locality>,
    /// The gateway's own zones would say which come first. That is not simulated.
    pub is_zone_aware: bool,
}

/// An algorithm without a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Simple {
    /// The less busy of two.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// Any.
    Random,
    /// The address that the client asked for.
    Passthrough,
}

/// What binds requests to endpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsistentHash {
    /// What they have in common; none: nothing.
    pub key: Option<HashKey>,
    /// How endpoints are found.
    pub table: HashTable,
}

/// What requests have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashKey {
    /// The value of a header.
    Header(String),
    /// The value of a cookie, which is made where it is missing.
    Cookie {
        /// Its name.
        name: String,
        /// Its path.
        path: Option<String>,
        /// Its lifetime; zero is a session cookie.
        ttl: Option<Duration>,
    },
    /// The client's address.
    SourceIp,
    /// The value of a query parameter.
    Query(String),
}

/// How an endpoint is found for a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashTable {
    /// On a ring with at least so many points.
    Ring(u64),
    /// In Maglev's table of so many places.
    Maglev(u64),
}

/// The slow start of new endpoints.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Warmup {
    /// How long it takes.
    pub duration: Duration,
    /// Where it starts, of 100.
    pub minimum_percent: f64,
    /// The exponent's reciprocal: 1 is linear.
    pub aggression: f64,
}

const SIMPLE: [(&str, Option<Simple>); 6] = [
    ("UNSPECIFIED", None),
    ("LEAST_REQUEST", Some(Simple::LeastRequest)),
    ("LEAST_CONN", Some(Simple::LeastRequest)),
    ("ROUND_ROBIN", Some(Simple::RoundRobin)),
    ("RANDOM", Some(Simple::Random)),
    ("PASSTHROUGH", Some(Simple::Passthrough)),
];

/// Source: istio pilot/pkg/networking/core/loadbalancer/loadbalancer.go.
const RING_SIZE_MIN: u64 = 1024;
/// Source: envoy api envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.proto.
const RING_SIZE_MAX: u64 = 8 << 20;
/// Source: envoy source/extensions/load_balancing_policies/maglev.
const MAGLEV_SIZE: u64 = 65_537;
const MAGLEV_SIZE_MAX: u64 = 5_000_011;

/// Reads it. `has_outlier` tells whether endpoints can be put aside, without which failover never happens.
pub(super) fn read(field: &Field<'_>, has_outlier: bool) -> Option<LoadBalancer> {
    let fields = field.fields()?;
    let simple_field = fields.get("simple");
    let simple = simple_field.as_ref().and_then(|field| field.choice(&SIMPLE)).flatten();
    if let Some(field) = simple_field.as_ref().filter(|_| simple == Some(Simple::Passthrough)) {
        field.note(FidelityStatus::Approximated, Some("requests are spread by least request"));
    }
    let hash_field = fields.look("consistentHash");
    if simple_field.is_some() && hash_field.is_some() {
        field.refuse("`simple` and `consistentHash` exclude each other", "write one of them");
    }
    let consistent_hash = hash_field.and_then(|field| read_hash(&field));
    let (locality_field, zone_field) = (fields.look("localityLbSetting"), fields.look("zoneAwareLbSetting"));
    if let (Some(_), Some(zone)) = (&locality_field, &zone_field) {
        zone.refuse("`localityLbSetting` and `zoneAwareLbSetting` exclude each other", "write one of them");
    }
    let locality = locality_field.and_then(|field| locality::read(&field, has_outlier));
    if let Some(zone) = &zone_field {
        zone.note(FidelityStatus::Ignored, Some("spreading by zones is not simulated"));
    }
    let old = fields.get("warmupDurationSecs").map(|field| {
        values::warn(&field, "`warmup` has taken the place of `warmupDurationSecs`");
        let duration = values::span(&field)?;
        Some(Warmup { duration, minimum_percent: 10.0, aggression: 1.0 })
    });
    let warmup = fields.look("warmup").map_or(old.flatten(), |field| read_warmup(&field));
    fields.finish();
    Some(LoadBalancer { simple, consistent_hash, warmup, locality, is_zone_aware: zone_field.is_some() })
}

fn read_hash(field: &Field<'_>) -> Option<ConsistentHash> {
    let fields = field.fields()?;
    let text = |key: &str| values::text(&fields, key).map(str::to_owned);
    let mut keys = Vec::new();
    keys.extend(text("httpHeaderName").map(HashKey::Header));
    let cookie = fields.look("httpCookie");
    keys.extend(cookie.and_then(|field| read_cookie(&field)));
    keys.extend(values::flag(&fields, "useSourceIp").then_some(HashKey::SourceIp));
    keys.extend(text("httpQueryParameterName").map(HashKey::Query));
    if keys.len() > 1 {
        field.refuse(
            "requests are bound by more than one thing",
            "write one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName",
        );
    }
    let old = fields.get("minimumRingSize");
    if let Some(old) = &old {
        values::warn(old, "`ringHash` has taken the place of `minimumRingSize`");
    }
    let (ring, maglev) = (fields.look("ringHash"), fields.look("maglev"));
    fields.finish();
    if old.is_some() && (ring.is_some() || maglev.is_some()) || ring.is_some() && maglev.is_some() {
        field.refuse("more than one table", "write one of ringHash and maglev");
    }
    let size = |field: &Field<'_>| {
        let size = field.whole::<u64>(0, i64::MAX)?;
        if size > RING_SIZE_MAX {
            field.refuse(format!("Envoy's rings have at most {RING_SIZE_MAX} points"), "write less");
        }
        Some(size.min(RING_SIZE_MAX)).filter(|size| *size > 0)
    };
    let table = match (&ring, &maglev) {
        (_, Some(maglev)) => read_maglev(maglev)?,
        (Some(ring), None) => {
            let inner = ring.fields()?;
            let least = inner.get("minimumRingSize").and_then(|field| size(&field));
            inner.finish();
            HashTable::Ring(least.unwrap_or(RING_SIZE_MIN))
        }
        (None, None) => HashTable::Ring(old.and_then(|field| size(&field)).unwrap_or(RING_SIZE_MIN)),
    };
    Some(ConsistentHash { key: keys.into_iter().next(), table })
}

fn read_maglev(field: &Field<'_>) -> Option<HashTable> {
    let fields = field.fields()?;
    let size_field = fields.get("tableSize");
    fields.finish();
    let Some(size_field) = size_field else { return Some(HashTable::Maglev(MAGLEV_SIZE)) };
    let size = size_field.whole::<u64>(0, i64::MAX)?;
    if size >= MAGLEV_SIZE_MAX || !is_prime(size) {
        size_field.refuse(format!("{size} is no prime number below {MAGLEV_SIZE_MAX}"), "write 65537, for example");
        return None;
    }
    Some(HashTable::Maglev(size))
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
}

fn read_cookie(field: &Field<'_>) -> Option<HashKey> {
    let fields = field.fields()?;
    let name = fields.require("name", "a cookie has a name");
    let path = values::text(&fields, "path").map(str::to_owned);
    let ttl = fields.get("ttl").and_then(|field| field.duration());
    let mut seen: Vec<&str> = Vec::new();
    let attributes = fields.look("attributes");
    for item in attributes.map(|field| field.items()).unwrap_or_default() {
        item.note(FidelityStatus::Ignored, Some("cookies are made without it"));
        let Some(inner) = item.fields() else { continue };
        let name = inner.require("name", "an attribute has a name").and_then(|field| field.text());
        inner.allow(&["value"]);
        inner.finish();
        if let Some(name) = name {
            if seen.contains(&name) {
                item.refuse(format!("`{name}` stands here twice"), "write each attribute once");
            }
            seen.push(name);
        }
    }
    fields.finish();
    let name = name?;
    let text = name.text()?;
    if text.is_empty() {
        name.refuse("a cookie has a name", "write one");
        return None;
    }
    Some(HashKey::Cookie { name: text.to_owned(), path, ttl })
}

fn read_warmup(field: &Field<'_>) -> Option<Warmup> {
    let fields = field.fields()?;
    let duration = fields.require("duration", "a warm-up has a duration").and_then(|field| values::span(&field));
    let number = |key: &str, default: f64, range: std::ops::RangeInclusive<f64>, help: &str| {
        let Some(field) = fields.get(key) else { return Some(default) };
        let number = field.float()?;
        if !range.contains(&number) {
            field.refuse(format!("{number} is out of range"), help);
            return None;
        }
        Some(number)
    };
    let minimum = number("minimumPercent", 10.0, 0.0..=100.0, "write 0 to 100");
    let aggression = number("aggression", 1.0, 1.0..=f64::MAX, "write 1 or more");
    fields.finish();
    Some(Warmup { duration: duration?, minimum_percent: minimum?, aggression: aggression? })
}
