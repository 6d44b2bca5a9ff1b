//! Manifests and options into what the gateway is to do: the one place where the live gateway meets the readers of manifests.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::options::{Listen, Options};
use crate::cli::find;
use crate::gateway::EndpointConfig;
use crate::live::{ClusterTable, ListenerPlan, Plan, Tables};
use crate::manifest::object::{Object, objects};
use crate::manifest::proxy_config::objects::KINDS;
use crate::manifest::read::Note;
use crate::manifest::routes::{self, Around, Missing, Proxy, Routing};
use crate::manifest::{Files, Problem, Problems, Sink, Value, service, yaml};
use crate::record::results::FidelityStatus;
use crate::scenario::NamedText;

/// A configuration that can be served.
pub(super) struct Configuration {
    pub(super) plan: Plan,
    /// Routes and services, in words.
    pub(super) summary: String,
    /// What the user may not have meant.
    pub(super) warnings: Vec<String>,
    /// Endpoints of services that no route names: a slip at the start, and the way of things after a change.
    pub(super) unnamed: Vec<String>,
}

/// Why there is none.
pub(super) enum Refusal {
    /// The manifests cannot be read or are invalid.
    Problems(Problems),
    /// Manifests and options do not go together.
    Usage(String),
}

/// Reads the manifests and what the options make of them.
pub(super) fn read(options: &Options) -> Result<Configuration, Refusal> {
    let texts = find::manifests(&options.manifests).map_err(Refusal::Problems)?;
    let (routing, files, notes) = resolve(&texts, options)?;
    let listeners = listeners(&routing, options)?;
    let mut warnings = not_carried_out(&files, &notes);
    warnings.extend(unused_ports(&routing, options, &listeners));
    let unnamed = unnamed(&routing, options);
    let (clusters, without) = clusters(&routing, options);
    for name in without {
        warnings.push(format!(
            "{name} has no endpoint: its requests are answered 503 UH; give it one with --endpoint {name}=…"
        ));
    }
    for upstream in routing.upstreams.iter().filter(|upstream| !upstream.subset.is_empty()) {
        let name = upstream_name(upstream);
        warnings.push(format!(
            "{} is a subset of {name}: addresses have no labels, so it has all of them",
            upstream.cluster
        ));
    }
    for upstream in routing.upstreams.iter().filter(|upstream| upstream.endpoints.locality.is_weighted()) {
        let name = upstream_name(upstream);
        warnings.push(format!("addresses have no localities, so those of {name} are alike; in a drill they have"));
    }
    let count = |count: usize, of: &str| format!("{count} {of}{}", if count == 1 { "" } else { "s" });
    let routes = routing.routes.route_count();
    let summary = format!("{} to {}", count(routes, "route"), count(clusters.len(), "service"));
    // Routes are built by each worker for itself: they are not shared between threads.
    let (texts, options) = (Arc::new(texts), options.clone());
    let build = move || {
        let resolved = resolve(&texts, &options).ok();
        let (routing, _, _) = resolved.expect("what was read once reads the same again");
        let (clusters, _) = self::clusters(&routing, &options);
        Tables { routes: Rc::new(routing.routes), clusters }
    };
    Ok(Configuration { plan: Plan { listeners, build: Arc::new(build) }, summary, warnings, unnamed })
}

type Resolved = (Routing, Files, Vec<Note>);

/// The routes of the chosen Gateways.
fn resolve(texts: &[NamedText], options: &Options) -> Result<Resolved, Refusal> {
    let (mut files, sink) = (Files::default(), Sink::default());
    let mut found: Vec<Object> = Vec::new();
    for (name, text) in texts {
        let index = files.add(name, text);
        let (documents, problems) = yaml::parse(text, index);
        problems.into_iter().for_each(|problem| sink.report(problem));
        for object in objects(documents, &sink) {
            // As `kubectl apply` would: the last of a name stays.
            match found.iter_mut().find(|known| known.id == object.id) {
                Some(known) => *known = object,
                None => found.push(object),
            }
        }
    }
    if sink.problem_count() > 0 {
        return Err(Refusal::Problems(Problems::new(sink.take_problems(), files)));
    }
    let chosen = choose_gateways(&found, options, &sink)?;
    for object in found.iter().filter(|object| KINDS.iter().any(|(kind, group)| object.is(kind, group))) {
        let text = "how many workers it has and how it ends its options say";
        sink.note(object.place(), object.id.to_string(), FidelityStatus::Ignored, Some(text));
    }
    let mut services = BTreeMap::new();
    for object in found.iter().filter(|object| object.id.kind == "Service") {
        services.extend(service::read(object, &sink).map(|manifest| (object.key(), manifest)));
    }
    let declared: Vec<String> = options.endpoints.iter().map(|endpoints| endpoints.service.clone()).collect();
    let around = Around {
        proxy: Proxy::Named(&chosen),
        services: &services,
        declared: &declared,
        hosts: &[],
        missing: Missing::Refused,
        sometimes: &BTreeMap::new(),
        options: routes::Options::default(),
    };
    let routing = if sink.problem_count() == 0 { routes::read(&found, &around, &sink) } else { Routing::default() };
    let problems = sink.take_problems();
    if !problems.is_empty() {
        return Err(Refusal::Problems(Problems::new(problems, files)));
    }
    Ok((routing, files, sink.take_notes()))
}

/// The keys of the chosen Gateways. Selectors speak of pods, and here there are none: those with one selector are for the same pods, which serve
/// all of them, as Istio merges them.
fn choose_gateways(found: &[Object], options: &Options, sink: &Sink) -> Result<Vec<String>, Refusal> {
    let gateways: Vec<&Object> = found.iter().filter(|object| object.id.kind == "Gateway").collect();
    let names: Vec<String> = gateways.iter().map(|object| object.key()).collect();
    let Some(first) = gateways.first() else {
        let problem = Problem::nowhere("the manifests hold no Gateway");
        sink.report(problem.help("name the file that has it"));
        return Err(Refusal::Problems(Problems::new(sink.take_problems(), Files::default())));
    };
    let beside = |chosen: &Object| -> Vec<String> {
        let is_beside = |other: &&&Object| other.id == chosen.id || is_for_the_same_pods(other, chosen);
        gateways.iter().filter(is_beside).map(|object| object.key()).collect()
    };
    if let Some(name) = &options.gateway {
        let chosen = gateways.iter().find(|object| object.key() == *name);
        return chosen.map(|chosen| beside(chosen)).ok_or_else(|| {
            Refusal::Usage(format!("--gateway {name}: there is no such Gateway; there are {}", names.join(", ")))
        });
    }
    let all = beside(first);
    if all.len() == gateways.len() {
        return Ok(all);
    }
    Err(Refusal::Usage(format!(
        "the manifests hold {} Gateways: {}; choose one with --gateway {}",
        names.len(),
        names.join(", "),
        names[0]
    )))
}

/// Whether both are Istio's, with one selector. A Gateway of the Gateway API has pods of its own.
fn is_for_the_same_pods(one: &Object, other: &Object) -> bool {
    let labels = |object: &Object| -> Option<BTreeMap<String, String>> {
        let selector = object.node.find(&["spec", "selector"])?;
        let Value::Map(entries) = &selector.value else { return None };
        let pairs = entries.iter().map(|entry| Some((entry.key.to_string(), entry.node.text()?.to_owned())));
        pairs.collect()
    };
    let is_istio = |object: &Object| object.id.group == "networking.istio.io";
    is_istio(one) && is_istio(other) && labels(one).is_some() && labels(one) == labels(other)
}

/// Where to listen. Each `--listen` stands for one port of the manifests.
fn listeners(routing: &Routing, options: &Options) -> Result<Vec<ListenerPlan>, Refusal> {
    let ports: Vec<u16> = routing.listeners.iter().map(|(_, port)| *port).collect();
    let listed: Vec<String> = ports.iter().map(u16::to_string).collect();
    let mut listeners: Vec<ListenerPlan> = Vec::new();
    for Listen { port, address } in &options.listen {
        let port = match (port, &ports[..]) {
            (Some(port), ports) if ports.contains(port) => *port,
            // It may come with a reload.
            (Some(_), _) => continue,
            (None, [only]) => *only,
            (None, ports) => {
                let text = format!("the Gateway has ports {}; say which one {address} is for", listed.join(", "));
                let first = ports.first().map_or("80".to_owned(), u16::to_string);
                return Err(Refusal::Usage(format!("{text}: --listen {first}={address}")));
            }
        };
        let is_chosen_by_system = address.port() == 0;
        if !is_chosen_by_system && listeners.iter().any(|known| known.address == *address) {
            return Err(Refusal::Usage(format!("--listen names {address} twice")));
        }
        listeners.push(ListenerPlan { address: *address, port });
    }
    if listeners.is_empty() {
        let text = "no --listen is for a port of the Gateway, so nothing would be served";
        return Err(Refusal::Usage(format!("{text}; its ports are {}", listed.join(", "))));
    }
    Ok(listeners)
}

/// Ports that nothing comes of.
fn unused_ports(routing: &Routing, options: &Options, listeners: &[ListenerPlan]) -> Vec<String> {
    let is_served = |port: u16| listeners.iter().any(|listener| listener.port == port);
    let unserved = routing.listeners.iter().map(|(_, port)| *port).filter(|port| !is_served(*port));
    let mut warnings: Vec<String> = unserved
        .map(|port| format!("port {port} of the Gateway is not served; add --listen {port}=ADDRESS:PORT"))
        .collect();
    for listen in &options.listen {
        if let Some(port) = listen.port.filter(|port| !is_served(*port)) {
            warnings.push(format!("nothing listens on {}: the Gateway has no port {port}", listen.address));
        }
    }
    warnings
}

/// Endpoints of services that no route names.
fn unnamed(routing: &Routing, options: &Options) -> Vec<String> {
    let named: Vec<String> = routing.upstreams.iter().map(upstream_name).collect();
    let endpoints = options.endpoints.iter().map(super::options::Endpoints::name);
    let unnamed = endpoints.filter(|name| !named.contains(name));
    unnamed.map(|name| format!("--endpoint {name}: no route names it; the routes name {}", named.join(", "))).collect()
}

/// A service as `--endpoint` names it.
fn upstream_name(upstream: &routes::Upstream) -> String {
    let (namespace, name) = upstream.service.split_once('/').unwrap_or(("default", &upstream.service));
    format!("{name}.{namespace}:{}", upstream.port)
}

/// The clusters with their endpoints, and the names of those without.
fn clusters(routing: &Routing, options: &Options) -> (BTreeMap<Arc<str>, ClusterTable>, Vec<String>) {
    let mut clusters = BTreeMap::new();
    let mut without = Vec::new();
    for upstream in &routing.upstreams {
        let is_for = |of: &&super::options::Endpoints| of.service == upstream.service && of.port == upstream.port;
        let found = options.endpoints.iter().find(is_for).map(|found| found.addresses.as_slice());
        let endpoints: Vec<EndpointConfig> =
            found.unwrap_or_default().iter().copied().map(EndpointConfig::new).collect();
        if endpoints.is_empty() {
            without.push(upstream_name(upstream));
        }
        let table = ClusterTable { config: upstream.config, endpoints };
        clusters.insert(Arc::clone(&upstream.cluster), table);
    }
    (clusters, without)
}

/// What the manifests say and the gateway does not do, with file and line.
fn not_carried_out(files: &Files, notes: &[Note]) -> Vec<String> {
    let notes = notes.iter().filter(|note| note.status == FidelityStatus::Ignored);
    notes
        .map(|note| {
            let place =
                files.position(note.place).map(|(file, line, _)| format!("{file}:{line}: ")).unwrap_or_default();
            let why = note.text.as_deref().map(|text| format!(" ({text})")).unwrap_or_default();
            format!("{place}{} is not carried out{why}", note.path)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(name: &str, group: &str, selector: &str) -> String {
        format!(
            "{{ apiVersion: {group}/v1, kind: Gateway, metadata: {{ name: {name} }}, spec: {{ selector: {selector} }} }}\n---\n"
        )
    }

    /// The chosen Gateways of these; none if one must be named.
    fn chosen(texts: &[String], named: Option<&str>) -> Option<Vec<String>> {
        let sink = Sink::default();
        let (documents, _) = yaml::parse(&texts.concat(), 0);
        let found = objects(documents, &sink);
        let options = Options { gateway: named.map(str::to_owned), ..Options::default() };
        choose_gateways(&found, &options, &sink).ok()
    }

    #[test]
    fn what_only_a_drill_heeds_is_told() {
        let config = "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: { name: p }\nspec: { concurrency: 4 }\n";
        let read = |text: String| {
            let texts = [("all.yaml".to_owned(), text)];
            let Ok((_, files, notes)) = resolve(&texts, &Options::default()) else { panic!("it can be read") };
            not_carried_out(&files, &notes).concat()
        };
        let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: { name: a }\nspec: { selector: { istio: edge }, \
                       servers: [ { port: { number: 80, name: http, protocol: HTTP }, hosts: [\"*\"] } ] }\n";
        assert_eq!(read(gateway.to_owned()), "");
        let told = read(format!("{gateway}---\n{config}"));
        assert!(told.starts_with("all.yaml:7: ProxyConfig") && told.contains("is not carried out"), "{told}");
    }

    #[test]
    fn gateways_for_the_same_pods_are_served_together() {
        let istio = |name, selector| gateway(name, "networking.istio.io", selector);
        let two = [istio("a", "{ istio: edge }"), istio("b", "{ istio: edge }")];
        let keys = |names: &[&str]| Some(names.iter().map(|name| format!("default/{name}")).collect::<Vec<_>>());
        assert_eq!(chosen(&two, None), keys(&["a", "b"]));
        assert_eq!(chosen(&two, Some("default/b")), keys(&["a", "b"]));
        let three = [two.concat(), istio("c", "{ istio: other }")];
        assert_eq!(chosen(&three, None), None);
        assert_eq!(chosen(&three, Some("default/a")), keys(&["a", "b"]));
        assert_eq!(chosen(&three, Some("default/c")), keys(&["c"]));
        assert_eq!(chosen(&three, Some("default/d")), None);
        let of_api = |name| gateway(name, "gateway.networking.k8s.io", "{}");
        assert_eq!(chosen(&[of_api("a"), of_api("b")], None), None);
        assert_eq!(chosen(&[of_api("a")], None), keys(&["a"]));
    }
}
