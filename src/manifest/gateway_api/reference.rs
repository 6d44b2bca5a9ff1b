//! How objects name others, and who may name what in another namespace.
//!
//! A reference across namespaces needs a `ReferenceGrant` in the namespace it leads to. Routes need none for their parents: those say
//! themselves whom they take.
//!
//! Source: gateway-api apis/v1/{object_reference,shared,referencegrant}_types.go.

use std::fmt;

use super::values;
use crate::manifest::object::{GATEWAY_API, Object};
use crate::manifest::problem::Place;
use crate::manifest::read::{Field, Fields, Sink};

/// Who an object is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Reference {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// As in `Service shop/web`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Reference {
    pub(super) fn of(object: &Object) -> Self {
        let id = &object.id;
        Self { group: id.group.clone(), kind: id.kind.clone(), namespace: id.namespace.clone(), name: id.name.clone() }
    }

    pub(super) fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }

    /// `namespace/name`.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Reads the fields that every reference has; what is absent is `group`, `kind`, and the namespace of the object that it stands in.
pub(super) fn read_reference(fields: &Fields<'_>, group: &str, kind: &str, namespace: &str) -> Option<Reference> {
    let part = |key: &str, default: &str, check: fn(&Field<'_>) -> Option<String>| match fields.get(key) {
        None => Some(default.to_owned()),
        Some(field) => check(&field),
    };
    let group = part("group", group, |field| values::group(field).map(str::to_owned));
    let kind = part("kind", kind, |field| values::kind(field).map(str::to_owned));
    let namespace = part("namespace", namespace, |field| values::namespace(field).map(str::to_owned));
    let name = fields.require("name", "write the object's name");
    let name = name.and_then(|field| values::object_name(&field).map(str::to_owned));
    Some(Reference { group: group?, kind: kind?, namespace: namespace?, name: name? })
}

/// A parent that a route wants to be attached to.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct ParentRef {
    pub(super) to: Reference,
    pub(super) section: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) at: Place,
}

/// Reads `parentRefs`.
pub(super) fn read_parents(spec: &Fields<'_>, namespace: &str) -> Vec<ParentRef> {
    let items = values::items(spec, "parentRefs", 32);
    let parents: Vec<Option<ParentRef>> = items.iter().map(|item| read_parent(item, namespace)).collect();
    for (index, parent) in parents.iter().enumerate() {
        let Some(parent) = parent else { continue };
        let mut same = parents[..index].iter().flatten().filter(|known| known.to == parent.to);
        let Some(known) = same.next() else { continue };
        let differs_in_kind =
            known.section.is_some() != parent.section.is_some() || known.port.is_some() != parent.port.is_some();
        let is_told_apart = std::iter::once(known)
            .chain(same)
            .all(|known| (&known.section, known.port) != (&parent.section, parent.port));
        if differs_in_kind {
            let text = format!("{} stands twice, once with and once without a section or port", parent.to);
            items[index].refuse(text, "write sectionName, or port, with each of them");
        } else if !is_told_apart {
            items[index].refuse(format!("{} stands twice", parent.to), "tell them apart by sectionName or port");
        }
    }
    parents.into_iter().flatten().collect()
}

fn read_parent(item: &Field<'_>, namespace: &str) -> Option<ParentRef> {
    let fields = item.fields()?;
    let to = read_reference(&fields, GATEWAY_API, "Gateway", namespace);
    let section = fields.get("sectionName").map(|field| values::section_name(&field).map(str::to_owned));
    let port = fields.get("port").map(|field| values::port(&field));
    fields.finish();
    let section = section.map_or(Some(None), |section| section.map(Some))?;
    let port = port.map_or(Some(None), |port| port.map(Some))?;
    Some(ParentRef { to: to?, section, port, at: item.place() })
}

/// All `ReferenceGrant`s.
#[derive(Default)]
pub(super) struct Grants {
    list: Vec<Grant>,
}

struct Grant {
    from_group: String,
    from_kind: String,
    from_namespace: String,
    to_group: String,
    to_kind: String,
    to_namespace: String,
    /// None: all of the kind.
    to_name: Option<String>,
}

impl Grants {
    /// Whether an object may name another: always in its own namespace.
    pub(super) fn allow(&self, from: &Reference, to: &Reference) -> bool {
        from.namespace == to.namespace
            || self.list.iter().any(|grant| {
                from.is(&grant.from_group, &grant.from_kind)
                    && from.namespace == grant.from_namespace
                    && to.is(&grant.to_group, &grant.to_kind)
                    && to.namespace == grant.to_namespace
                    && grant.to_name.as_ref().is_none_or(|name| *name == to.name)
            })
    }

    /// Reads a `ReferenceGrant`.
    pub(super) fn read(&mut self, object: &Object, sink: &Sink) {
        let prefix = object.prefix();
        let Some(fields) = super::open(object, &prefix, &["v1", "v1beta1"], sink) else { return };
        let spec_field = fields.look("spec");
        fields.finish();
        let Some(spec) = spec_field.and_then(|field| field.fields()) else {
            fields.missing("spec", "a ReferenceGrant says from whom to what");
            return;
        };
        for (key, help) in [("from", "say who may name"), ("to", "say what may be named")] {
            if spec.look(key).is_none_or(|field| field.items().is_empty()) {
                spec.missing(key, help);
            }
        }
        let mut from = Vec::new();
        for item in values::items(&spec, "from", 16) {
            let Some(fields) = item.fields() else { continue };
            let group = fields.require("group", "write gateway.networking.k8s.io");
            let kind = fields.require("kind", "write one such as HTTPRoute");
            let namespace = fields.require("namespace", "write where those stand who may name");
            fields.finish();
            let group = group.and_then(|field| values::group(&field).map(str::to_owned));
            let kind = kind.and_then(|field| values::kind(&field).map(str::to_owned));
            let namespace = namespace.and_then(|field| values::namespace(&field).map(str::to_owned));
            if let (Some(group), Some(kind), Some(namespace)) = (group, kind, namespace) {
                from.push((group, kind, namespace));
            }
        }
        for item in values::items(&spec, "to", 16) {
            let Some(fields) = item.fields() else { continue };
            let group = fields.require("group", "write \"\" for Services and Secrets");
            let kind = fields.require("kind", "write one such as Service");
            let name = fields.get("name").map(|field| values::object_name(&field).map(str::to_owned));
            fields.finish();
            let group = group.and_then(|field| values::group(&field).map(str::to_owned));
            let kind = kind.and_then(|field| values::kind(&field).map(str::to_owned));
            let name = name.map_or(Some(None), |name| name.map(Some));
            let (Some(group), Some(kind), Some(name)) = (group, kind, name) else { continue };
            self.list.extend(from.iter().map(|(from_group, from_kind, from_namespace)| Grant {
                from_group: from_group.clone(),
                from_kind: from_kind.clone(),
                from_namespace: from_namespace.clone(),
                to_group: group.clone(),
                to_kind: kind.clone(),
                to_namespace: object.id.namespace.clone(),
                to_name: name.clone(),
            }));
        }
        spec.finish();
    }
}
