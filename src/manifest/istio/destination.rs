//! `Destination`: which Service a request goes to.
//!
//! Source: istio api networking/v1alpha3/virtual_service.proto; istio pkg/config/validation/validation.go.

use super::headers::{self, Headers};
use super::values::{self, Wildcard};
use crate::manifest::problem::Place;
use crate::manifest::read::Field;

/// A Service, a port of it, and a subset of its endpoints.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The host as it is written.
    pub host: String,
    /// The subset.
    pub subset: Option<String>,
    /// The Service's port.
    pub port: Option<u16>,
    /// The namespace of the object that names it: short hosts are of this namespace.
    pub namespace: String,
    /// Where the host is written.
    pub at: Place,
    /// Where the port is written, or the host.
    pub port_at: Place,
    /// The key path of the host.
    pub path: String,
}

/// Two destinations are the same wherever they are written.
impl PartialEq for Destination {
    fn eq(&self, other: &Self) -> bool {
        (&self.host, &self.subset, self.port) == (&other.host, &other.subset, other.port)
    }
}

impl Eq for Destination {}

/// A destination with its share and its changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WeightedDestination {
    /// Where to.
    pub destination: Destination,
    /// Its share, relative to the sum of all.
    pub weight: u32,
    /// What it changes.
    pub headers: Option<Headers>,
}

/// A destination that gets copies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// Where to.
    pub destination: Destination,
    /// The share of requests that is copied, in millionths; unset: all.
    pub share: Option<u32>,
}

/// Reads a destination of an object in a namespace.
pub(super) fn read(field: &Field<'_>, namespace: &str) -> Option<Destination> {
    let fields = field.fields()?;
    let host_field = fields.require("host", "a destination has a host: the name of a Service");
    let port_field = fields.look("port");
    let port = port_field.as_ref().map(|field| {
        let inner = field.fields()?;
        let number = inner.require("number", "a port has a number").and_then(|field| values::port(&field));
        inner.finish();
        number
    });
    let subset = fields.get("subset").filter(|field| !field.node().is_empty());
    fields.finish();
    let host_field = host_field?;
    let host = host_field.text()?;
    if host == "*" {
        host_field.refuse("`*` is no destination", "write the name of a Service");
        return None;
    }
    if !values::check_domain(&host_field, host, Wildcard::Yes) {
        return None;
    }
    let subset = match &subset {
        Some(field) => Some(read_subset_name(field)?.to_owned()),
        None => None,
    };
    let port = match port {
        Some(port) => Some(port?),
        None => None,
    };
    Some(Destination {
        host: host.to_owned(),
        subset,
        port,
        namespace: namespace.to_owned(),
        at: host_field.place(),
        port_at: port_field.as_ref().map_or(host_field.place(), Field::place),
        path: host_field.path().to_owned(),
    })
}

/// The name of a subset.
pub(super) fn read_subset_name<'a>(field: &Field<'a>) -> Option<&'a str> {
    let name = field.text()?;
    if !values::is_label(name) {
        field.refuse(format!("`{name}` is no name of a subset"), "write letters, digits and dashes");
        return None;
    }
    Some(name)
}

/// Reads `route`, the destinations of a rule.
pub(super) fn read_weighted(field: &Field<'_>, namespace: &str) -> Vec<WeightedDestination> {
    let before = field.sink().problem_count();
    let items = field.items();
    let found: Vec<WeightedDestination> = items.iter().filter_map(|item| read_one(item, namespace)).collect();
    let is_whole = field.sink().problem_count() == before;
    if is_whole && found.len() > 1 && found.iter().all(|one| one.weight == 0) {
        field.refuse("the weights of several destinations are all 0", "write their shares");
        return Vec::new();
    }
    found
}

fn read_one(item: &Field<'_>, namespace: &str) -> Option<WeightedDestination> {
    let fields = item.fields()?;
    let weight = fields.get("weight").map_or(Some(0), |field| field.whole::<u32>(0, i64::from(i32::MAX)));
    let destination = fields.look("destination");
    let headers = headers::read(&fields);
    fields.finish();
    let Some(destination) = destination else {
        fields.missing("destination", "write a destination with a host");
        return None;
    };
    Some(WeightedDestination { destination: read(&destination, namespace)?, weight: weight?, headers })
}

/// Reads an entry of `mirrors`.
pub(super) fn read_mirror(item: &Field<'_>, namespace: &str) -> Option<Mirror> {
    let fields = item.fields()?;
    let destination = fields.look("destination");
    let share = fields.look("percentage").map(|field| values::millionths(&field));
    fields.finish();
    let Some(destination) = destination else {
        fields.missing("destination", "write who gets the copies");
        return None;
    };
    let share = match share {
        Some(share) => Some(share?),
        None => None,
    };
    Some(Mirror { destination: read(&destination, namespace)?, share })
}
