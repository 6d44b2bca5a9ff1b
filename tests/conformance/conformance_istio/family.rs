//! Families of cases: the files they are read from, the objects they are about, and what those come to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use gatedrill::gateway::routes::{Route, VirtualHost};
use gatedrill::manifest::object::{self, Object};
use gatedrill::manifest::read::Note;
use gatedrill::manifest::routes::{Around, Missing, Options, Proxy, Routing};
use gatedrill::manifest::{Problem, Sink, istio, routes, yaml};
use serde_json::{Map, Value, json};

const FOLDER: &str = "tests/data/conformance/routing";

/// A family's groups: what their cases share, and the cases.
pub(super) fn load(family: &str) -> Vec<(Map<String, Value>, Vec<Value>)> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/conformance/routing").join(format!("{family}.json"));
    let text = fs::read_to_string(&path).expect("the family's file");
    let mut file: Value = serde_json::from_str(&text).expect("a family is JSON");
    only("the file", &file, &["family", "source", "licence", "notes", "count", "groups", "cases"]);
    let count = file["count"].as_u64().expect("a count");
    let mut groups = Vec::new();
    if let Some(cases) = file.get_mut("cases") {
        groups.push((Map::new(), list(&cases.take())));
    }
    for group in file.get("groups").map(list).unwrap_or_default() {
        let Value::Object(mut shared) = group else { panic!("a group is a map") };
        let cases = shared.remove("cases").expect("a group has cases");
        groups.push((shared, list(&cases)));
    }
    let found: usize = groups.iter().map(|(_, cases)| cases.len()).sum();
    assert_eq!(u64::try_from(found).expect("few"), count, "{family}: every case is there");
    groups
}

/// Fails if a map has a key that the test does not know.
pub(super) fn only(label: &str, value: &Value, known: &[&str]) {
    for key in value.as_object().expect("a map").keys() {
        assert!(known.contains(&key.as_str()), "{label}: this test does not know the field `{key}`");
    }
}

pub(super) fn list(value: &Value) -> Vec<Value> {
    value.as_array().expect("a list").clone()
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("`{key}` is a text in {value}"))
}

pub(super) fn texts<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    let items = value[key].as_array().unwrap_or_else(|| panic!("`{key}` is a list in {value}"));
    items.iter().map(|item| item.as_str().expect("a text")).collect()
}

/// An object of networking.istio.io in the namespace `default`.
pub(super) fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "kind": kind, "metadata": { "name": name, "namespace": "default" }, "spec": spec })
}

/// Objects as a file would hold them.
pub(super) fn objects(manifests: &[Value], sink: &Sink) -> Vec<Object> {
    let mut nodes = Vec::new();
    for manifest in manifests {
        let mut whole = manifest.clone();
        let fields = whole.as_object_mut().expect("an object is a map");
        fields.entry("apiVersion").or_insert(json!("networking.istio.io/v1"));
        let (documents, problems) = yaml::parse(&whole.to_string(), 0);
        assert!(problems.is_empty(), "JSON is YAML: {problems:?}");
        nodes.extend(documents);
    }
    object::objects(nodes, sink)
}

/// What Istio's webhook would say.
pub(super) fn checked(manifests: &[Value]) -> (Vec<Problem>, Vec<Note>) {
    let sink = Sink::default();
    let objects = objects(manifests, &sink);
    istio::check(&objects, &sink);
    (sink.take_problems(), sink.take_notes())
}

/// VirtualServices as they are read, whatever the webhook would say.
pub(super) fn virtual_services(manifests: &[Value]) -> Vec<istio::virtual_service::VirtualService> {
    let sink = Sink::default();
    istio::Config::read(&objects(manifests, &sink), &sink).virtual_services
}

/// Complaints by case, against the list of cases that cannot hold: the two must agree.
pub(super) fn judge(family: &str, complaints: &BTreeMap<String, String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join("EXCEPTIONS-istio.md");
    let text = fs::read_to_string(path).expect("the list of exceptions");
    let listed = text.lines().filter_map(|line| line.strip_prefix("- `")?.split_once('`'));
    let listed: BTreeSet<&str> = listed.map(|(id, _)| id).filter(|id| id.starts_with(family)).collect();
    let unknown = complaints.iter().filter(|(id, _)| !listed.contains(id.as_str()));
    let unknown: Vec<String> = unknown.map(|(id, text)| format!("{id}: {text}")).collect();
    assert!(unknown.is_empty(), "{} complaints:\n{}", unknown.len(), unknown.join("\n"));
    let stale: Vec<&&str> = listed.iter().filter(|id| !complaints.contains_key(**id)).collect();
    assert!(stale.is_empty(), "listed as exceptions, and nothing is wrong with them: {stale:?}");
}

/// What objects come to, whatever the webhook would say: the tests of the source's translation never asked it.
pub(super) struct Translated {
    pub(super) routing: Routing,
}

impl Translated {
    /// Short hosts of destinations are Services of `default`, others are hosts of their own.
    pub(super) fn new(manifests: &[Value], options: Options) -> Self {
        let sink = Sink::default();
        let objects = objects(manifests, &sink);
        let config = istio::Config::read(&objects, &Sink::default());
        let (mut declared, mut hosts) = (Vec::new(), Vec::new());
        for rule in config.virtual_services.iter().flat_map(|service| &service.http) {
            let mirrors = rule.mirrors.iter().map(|mirror| &mirror.destination);
            for destination in rule.destinations.iter().map(|one| &one.destination).chain(mirrors) {
                if destination.host.contains('.') {
                    hosts.push(destination.host.clone());
                } else {
                    declared.push(format!("{}/{}", destination.namespace, destination.host));
                }
            }
        }
        let around = Around {
            proxy: Proxy::Named(&[]),
            services: &BTreeMap::new(),
            declared: &declared,
            hosts: &hosts,
            missing: Missing::Answered,
            sometimes: &BTreeMap::new(),
            options,
        };
        Self { routing: routes::read(&objects, &around, &sink) }
    }

    /// The virtual hosts of a table by Istio's name of it.
    pub(super) fn table(&self, name: &str) -> &[VirtualHost] {
        match name.strip_prefix("http.").and_then(|port| port.parse().ok()) {
            Some(port) => self.routing.routes.port(port).expect("a table").hosts(),
            None => &self.routing.secure[name],
        }
    }

    /// The routes of the only virtual host on port 80.
    pub(super) fn routes(&self) -> &[Arc<Route>] {
        let [host] = self.table("http.80") else { panic!("one virtual host: {:?}", self.table("http.80")) };
        &host.routes
    }
}

/// The Gateway that cases have where they name none.
pub(super) fn gateway(namespace: &str, port: u64) -> Value {
    let server = json!({ "port": { "number": port, "name": "http", "protocol": "HTTP" }, "hosts": ["*"] });
    let mut gateway = manifest("Gateway", "gateway", json!({ "servers": [server] }));
    gateway["metadata"]["namespace"] = json!(namespace);
    gateway
}
