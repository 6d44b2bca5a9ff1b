//! Which namespaces a Gateway takes routes and listeners from.
//!
//! Every namespace carries the label `kubernetes.io/metadata.name`; of one that the manifests do not hold no other label is known.
//! Source: gateway-api apis/v1/gateway_types.go; istio pilot/pkg/config/kube/gateway/conversion.go.

use std::collections::BTreeMap;

use crate::manifest::object::Object;
use crate::manifest::read::{Field, Fields, Sink};

/// The namespaces of the manifests, with their labels.
#[derive(Default)]
pub(super) struct Namespaces {
    labels: BTreeMap<String, BTreeMap<String, String>>,
}

/// From where something is taken.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum From {
    All,
    /// The Gateway's own.
    Same,
    None,
    Selector(Selector),
}

/// Conditions on labels; all must hold.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Selector {
    requirements: Vec<(String, Requirement)>,
}

#[derive(Clone, PartialEq, Debug)]
enum Requirement {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl Namespaces {
    /// Reads a `Namespace`.
    pub(super) fn read(&mut self, object: &Object, sink: &Sink) {
        let prefix = object.prefix();
        let Some(fields) = object.open(sink, &prefix) else { return };
        fields.allow(&["spec"]);
        let metadata = fields.look("metadata").and_then(|field| field.fields());
        let labels = metadata.and_then(|metadata| metadata.look("labels")).map(|field| field.text_map());
        fields.finish();
        self.labels.insert(object.id.name.clone(), labels.unwrap_or_default());
    }

    /// Whether the manifests hold it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.labels.contains_key(name)
    }

    /// Whether something in the namespace `name` is taken by a Gateway in the namespace `own`.
    pub(super) fn accepts(&self, from: &From, own: &str, name: &str) -> bool {
        match from {
            From::All => true,
            From::Same => own == name,
            From::None => false,
            From::Selector(selector) => selector.holds(|key| match key {
                "kubernetes.io/metadata.name" => Some(name),
                _ => self.labels.get(name)?.get(key).map(String::as_str),
            }),
        }
    }
}

impl Selector {
    fn holds<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|(key, requirement)| match (requirement, label(key)) {
            (Requirement::In(values), Some(value)) => values.iter().any(|known| known == value),
            (Requirement::NotIn(values), Some(value)) => !values.iter().any(|known| known == value),
            (Requirement::Exists, Some(_)) | (Requirement::NotIn(_) | Requirement::DoesNotExist, None) => true,
            (Requirement::In(_) | Requirement::Exists, None) | (Requirement::DoesNotExist, Some(_)) => false,
        })
    }
}

/// Reads `namespaces`, where `words` are the values of `from`; what is absent is `default`.
pub(super) fn read_from(fields: &Fields<'_>, words: &[&str], default: From) -> From {
    let Some(inner) = fields.look("namespaces").and_then(|field| field.fields()) else { return default };
    let selector_field = inner.look("selector");
    let selector = selector_field.as_ref().and_then(read_selector);
    let field = inner.get("from");
    let known: Vec<(&str, &str)> = words.iter().map(|word| (*word, *word)).collect();
    let from = match field.as_ref().map(|field| field.choice(&known)) {
        None | Some(None) => default,
        Some(Some("All")) => From::All,
        Some(Some("Same")) => From::Same,
        Some(Some("None")) => From::None,
        Some(Some(_)) => match selector {
            Some(selector) => From::Selector(selector),
            // The API server lets it pass; Istio then takes routes from everywhere, and listeners from nowhere.
            None => {
                if words.contains(&"None") {
                    From::None
                } else {
                    From::All
                }
            }
        },
    };
    inner.finish();
    from
}

fn read_selector(field: &Field<'_>) -> Option<Selector> {
    let fields = field.fields()?;
    let mut selector = Selector::default();
    if let Some(labels) = fields.get("matchLabels") {
        for (key, value) in labels.text_map() {
            selector.requirements.push((key, Requirement::In(vec![value])));
        }
    }
    for item in fields.look("matchExpressions").map(|field| field.items()).unwrap_or_default() {
        let Some(fields) = item.fields() else { continue };
        let key = fields.require("key", "write the label").and_then(|field| field.text().map(str::to_owned));
        let operator = fields.require("operator", "write In, NotIn, Exists or DoesNotExist");
        let values = fields.get("values").map(|field| field.texts()).unwrap_or_default();
        fields.finish();
        let words = [("In", 0), ("NotIn", 1), ("Exists", 2), ("DoesNotExist", 3)];
        let Some(operator) = operator.and_then(|field| field.choice(&words)) else { continue };
        if (operator < 2) == values.is_empty() {
            let text = if operator < 2 { "no value is given" } else { "this operator takes no values" };
            item.refuse(text, "In and NotIn take values, Exists and DoesNotExist none");
        }
        let requirement = match operator {
            0 => Requirement::In(values),
            1 => Requirement::NotIn(values),
            2 => Requirement::Exists,
            _ => Requirement::DoesNotExist,
        };
        selector.requirements.extend(key.map(|key| (key, requirement)));
    }
    fields.finish();
    Some(selector)
}
