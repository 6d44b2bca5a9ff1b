//! Upstream policies against vectors taken from Envoy's own tests: every case of every family, and no field of a case left unread.
//!
//! A case is judged by the plain structs of the gateway: `balance`, `outlier`, `limits`, `retry`, `timeouts`. The data and their sources:
//! `tests/data/conformance/routing/README.md`.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

mod balance;
mod hashing;
mod limits;
mod outlier;
mod priority;
mod retry;
mod timeout;

/// A file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "C: DeserializeOwned")]
struct Family<C> {
    family: String,
    source: String,
    licence: String,
    #[serde(default)]
    notes: String,
    #[serde(default)]
    defaults: serde_json::Map<String, serde_json::Value>,
    count: usize,
    #[serde(default)]
    cases: Vec<C>,
    #[serde(default)]
    groups: Vec<Group<C>>,
}

/// Cases with something in common.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "C: DeserializeOwned")]
struct Group<C> {
    name: String,
    policy: retry::PolicySpec,
    #[serde(default)]
    cluster: retry::ClusterSpec,
    operation: Option<String>,
    cases: Vec<C>,
}

/// Reads a family, and sees that none of its cases is lost on the way.
fn family<C: DeserializeOwned>(name: &str) -> Family<C> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/conformance/routing/{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let family: Family<C> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(family.family, name);
    assert!(family.source.starts_with("envoyproxy/envoy") && !family.licence.is_empty());
    assert!(family.notes.len() < 2000, "notes are for people");
    let grouped: usize = family.groups.iter().map(|group| group.cases.len()).sum();
    assert_eq!(family.cases.len() + grouped, family.count, "{name}: cases are missing");
    family
}

/// A value that may be null, told apart from one that is not there.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}
