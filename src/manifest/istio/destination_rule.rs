//! `DestinationRule`: policies for a host's clusters, and subsets of its endpoints.
//!
//! Source: istio api networking/v1alpha3/destination_rule.proto; istio pkg/config/validation/validation.go.

use std::collections::BTreeMap;

use super::destination::read_subset_name;
use super::traffic_policy::{self, TrafficPolicy};
use super::values::{self, Wildcard};
use crate::manifest::object::Object;
use crate::manifest::problem::Place;
use crate::manifest::read::{Field, Sink};
use crate::record::results::FidelityStatus;

/// A DestinationRule.
#[derive(Clone, Debug)]
pub struct DestinationRule {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The host it is for, as it is written.
    pub host: String,
    /// Policies of all its clusters.
    pub policy: Option<TrafficPolicy>,
    /// Subsets, the first of each name.
    pub subsets: Vec<Subset>,
    /// Namespaces that see it; empty: all.
    pub export_to: Vec<String>,
    /// It is for the sidecars of these pods.
    pub is_for_sidecars: bool,
    /// Where the host is written.
    pub at: Place,
}

/// A part of a host's endpoints.
#[derive(Clone, Debug)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// Labels that its endpoints have.
    pub labels: BTreeMap<String, String>,
    /// What differs from the policies of the whole.
    pub policy: Option<TrafficPolicy>,
}

/// Reads a DestinationRule and reports what the webhook would.
pub fn read(object: &Object, sink: &Sink) -> Option<DestinationRule> {
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let spec_field = fields.look("spec");
    fields.finish();
    let Some(spec) = spec_field.as_ref().and_then(Field::fields) else {
        if spec_field.is_none() {
            fields.missing("spec", "a DestinationRule has a spec");
        }
        return None;
    };
    let host_field = spec.require("host", "a DestinationRule has a host: the name of a Service");
    let policy = spec.look("trafficPolicy").and_then(|field| traffic_policy::read(&field));
    let mut subsets: Vec<Subset> = Vec::new();
    for item in spec.look("subsets").map(|field| field.items()).unwrap_or_default() {
        let Some(subset) = read_subset(&item) else { continue };
        if subsets.iter().any(|known| known.name == subset.name) {
            item.refuse(format!("subset `{}` stands here twice", subset.name), "give each subset a name of its own");
            continue;
        }
        subsets.push(subset);
    }
    let export_to = values::export_to(&spec, &object.id.namespace);
    let is_for_sidecars = spec.look("workloadSelector").is_some_and(|field| check_selector(&field));
    if is_for_sidecars && export_to.iter().any(|name| *name != object.id.namespace) {
        let field = spec.look("exportTo");
        if let Some(field) = field {
            field.refuse("a rule for some pods is seen in their namespace only", "write `.`");
        }
    }
    spec.finish();
    let host_field = host_field?;
    let host = host_field.text()?;
    if !values::check_domain(&host_field, host, Wildcard::Yes) {
        return None;
    }
    Some(DestinationRule {
        namespace: object.id.namespace.clone(),
        name: object.id.name.clone(),
        host: host.to_owned(),
        policy,
        subsets,
        export_to,
        is_for_sidecars,
        at: host_field.place(),
    })
}

fn read_subset(item: &Field<'_>) -> Option<Subset> {
    let fields = item.fields()?;
    let name = fields.require("name", "a subset has a name");
    let labels = fields.get("labels").map(|field| values::labels(&field)).unwrap_or_default();
    let policy = fields.look("trafficPolicy").and_then(|field| traffic_policy::read(&field));
    fields.finish();
    let name = read_subset_name(&name?)?.to_owned();
    Some(Subset { name, labels, policy })
}

fn check_selector(field: &Field<'_>) -> bool {
    field.note(FidelityStatus::Ignored, Some("a rule for some sidecars says nothing to a gateway"));
    let Some(fields) = field.fields() else { return true };
    let labels = fields.look("matchLabels").map(|field| field.map()).unwrap_or_default();
    for (key, value) in &labels {
        if key.is_empty() || key.contains('*') || value.node().text().is_some_and(|text| text.contains('*')) {
            value.refuse("a selector has no wildcards", "write whole labels");
        }
    }
    if labels.is_empty() {
        values::warn(field, "a selector without labels");
    }
    fields.finish();
    true
}
