//! `Gateway`, `GatewayClass`, `ListenerSet`.
//!
//! - A Gateway of Istio's class makes a Deployment and a Service `<gateway>-<class>`, unless it names a Service by an address of type
//!   `Hostname`: then the pods behind that Service are the gateway.
//! - A Gateway takes no ListenerSet unless it says from which namespaces.
//!
//! Source: gateway-api apis/v1/{gateway,gatewayclass,listenerset}_types.go; istio pilot/pkg/config/kube/gateway/conversion.go.

use super::listener::{Listener, read_listeners};
use super::namespaces::{From, read_from};
use super::reference::{Reference, read_reference};
use super::values;
use crate::manifest::object::{GATEWAY_API, Object};
use crate::manifest::problem::Place;
use crate::manifest::read::{Field, Fields, Sink};

/// The name of Istio's controller.
pub(super) const CONTROLLER: &str = "istio.io/gateway-controller";
/// The annotation that names Deployment and Service otherwise.
pub(super) const NAME_OVERRIDE: &str = "gateway.istio.io/name-override";

/// A `Gateway`.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) this: Reference,
    pub(super) created: Option<String>,
    pub(super) class: String,
    pub(super) listeners: Vec<Listener>,
    pub(super) sets_from: From,
    /// The Services by which its pods are found, as `namespace/name`.
    pub(super) services: Vec<String>,
    pub(super) at: Place,
}

/// A `ListenerSet`.
#[derive(Debug)]
pub(super) struct ListenerSet {
    pub(super) this: Reference,
    pub(super) created: Option<String>,
    pub(super) parent: Reference,
    pub(super) listeners: Vec<Listener>,
    pub(super) at: Place,
}

/// When an object was made; later than all that is known if that is not written. Instants of RFC 3339 in UTC are ordered as texts.
pub(super) fn created(object: &Object) -> Option<String> {
    object.node.find(&["metadata", "creationTimestamp"])?.text().map(str::to_owned)
}

/// The order in which objects count: the oldest first, then by namespace and name.
pub(super) fn age<'a>(
    created: &'a Option<String>,
    this: &'a Reference,
) -> (bool, &'a Option<String>, &'a str, &'a str) {
    (created.is_none(), created, &this.namespace, &this.name)
}

/// Reads a `Gateway`.
pub(super) fn read_gateway(object: &Object, sink: &Sink) -> Option<Gateway> {
    let prefix = object.prefix();
    let fields = super::open(object, &prefix, &["v1", "v1beta1"], sink)?;
    let spec = open_spec(&fields, "a Gateway has a class and listeners")?;
    let class = spec.require("gatewayClassName", "write istio");
    let class = class.and_then(|field| values::object_name(&field).map(str::to_owned));
    let listeners = read_listeners(&spec, &object.id.namespace);
    let sets_from = spec.look("allowedListeners").and_then(|field| field.fields()).map_or(From::None, |fields| {
        let from = read_from(&fields, &["All", "Selector", "Same", "None"], From::None);
        fields.finish();
        from
    });
    let addresses = read_addresses(&spec);
    if let Some(infrastructure) = spec.look("infrastructure").and_then(|field| field.fields()) {
        infrastructure.allow(&["labels", "annotations"]);
        infrastructure.ignore(&["parametersRef"], "changes of the Deployment and the Service are not simulated");
        infrastructure.finish();
    }
    spec.ignore(&["tls", "backendTLS"], "certificates of clients and towards backends are not simulated");
    spec.ignore_unless("defaultScope", "None", "routes are attached by their parentRefs only");
    spec.finish();
    let class = class?;
    let named = object.node.find(&["metadata", "annotations", NAME_OVERRIDE]).and_then(|node| node.text());
    let made = || named.map_or_else(|| format!("{}-{class}", object.id.name), str::to_owned);
    let namespace = &object.id.namespace;
    let services = match &addresses[..] {
        [] => vec![format!("{namespace}/{}", made())],
        [Address { is_hostname: false, .. }] => vec![format!("{namespace}/{}", made())],
        many => {
            let named = many.iter().filter(|address| address.is_hostname);
            named.map(|address| service_key(&address.value, namespace)).collect()
        }
    };
    Some(Gateway {
        this: Reference::of(object),
        created: created(object),
        class,
        listeners,
        sets_from,
        services,
        at: object.place(),
    })
}

/// Reads a `ListenerSet`, or the `XListenerSet` that it was before.
pub(super) fn read_listener_set(object: &Object, sink: &Sink) -> Option<ListenerSet> {
    let prefix = object.prefix();
    let versions: &[&str] = if object.id.kind == "ListenerSet" { &["v1"] } else { &["v1alpha1"] };
    let fields = super::open(object, &prefix, versions, sink)?;
    let spec = open_spec(&fields, "a ListenerSet has a parent and listeners")?;
    let parent_field = spec.look("parentRef");
    let listeners = read_listeners(&spec, &object.id.namespace);
    spec.finish();
    let Some(parent) = parent_field.as_ref().and_then(Field::fields) else {
        spec.missing("parentRef", "name the Gateway that gets the listeners");
        return None;
    };
    let reference = read_reference(&parent, GATEWAY_API, "Gateway", &object.id.namespace);
    parent.finish();
    Some(ListenerSet {
        this: Reference::of(object),
        created: created(object),
        parent: reference?,
        listeners,
        at: object.place(),
    })
}

/// Reads a `GatewayClass`; none if its Gateways are not Istio's.
pub(super) fn read_class(object: &Object, sink: &Sink) -> Option<()> {
    let prefix = object.prefix();
    let fields = super::open(object, &prefix, &["v1", "v1beta1"], sink)?;
    let spec = open_spec(&fields, "a GatewayClass names its controller")?;
    let controller = spec.require("controllerName", &format!("write {CONTROLLER}"));
    if let Some(description) = spec.look("description") {
        let _ = values::text(&description, 64);
    }
    spec.ignore(&["parametersRef"], "not simulated");
    spec.finish();
    let controller = controller?;
    let text = values::text(&controller, 253)?;
    let is_right = text.split_once('/').is_some_and(|(_, path)| !path.is_empty());
    let help = format!("write a domain and a path, such as {CONTROLLER}");
    values::refuse_unless(&controller, is_right, &format!("`{text}` is not the name of a controller"), &help)?;
    (text == CONTROLLER).then_some(())
}

fn open_spec<'a>(fields: &Fields<'a>, help: &str) -> Option<Fields<'a>> {
    let spec = fields.look("spec");
    fields.finish();
    if spec.is_none() {
        fields.missing("spec", help);
    }
    spec?.fields()
}

struct Address {
    is_hostname: bool,
    value: String,
}

fn read_addresses(spec: &Fields<'_>) -> Vec<Address> {
    let items = values::items(spec, "addresses", 16);
    let mut found = Vec::new();
    let mut keys = Vec::new();
    for item in &items {
        let Some(fields) = item.fields() else {
            keys.push(None);
            continue;
        };
        let kind = fields.get("type").and_then(|field| field.text()).unwrap_or("IPAddress");
        let is_hostname = kind == "Hostname";
        let field = fields.get("value");
        fields.finish();
        let value = field.as_ref().map_or(Some(""), |field| {
            let text = field.text()?;
            if is_hostname && !text.is_empty() { values::hostname(field) } else { Some(text) }
        });
        keys.push(value.filter(|value| !value.is_empty()).map(|value| (kind, value)));
        found.extend(value.map(|value| Address { is_hostname, value: value.to_owned() }));
    }
    values::refuse_twice(&items, &keys, |(_, value)| format!("`{value}` stands twice"));
    found
}

/// The Service that an address names: `web`, or `web.shop.svc.cluster.local`.
fn service_key(host: &str, namespace: &str) -> String {
    let host = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
    match host.split_once('.') {
        None => format!("{namespace}/{host}"),
        Some((name, within)) => format!("{within}/{name}"),
    }
}
