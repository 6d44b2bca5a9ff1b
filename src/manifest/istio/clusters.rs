//! Destinations to clusters.
//!
//! - A host without dots is a Service of the namespace of the object that names it; one with dots is a whole name.
//! - The port is the one that is written, or the Service's only one, or the listener's.
//! - A cluster is `outbound|port|subset|host`. A Service, port or subset that is not there makes a cluster that does not exist.
//! - Its policies come from one DestinationRule or several (`policies.rs`).
//!
//! Sources: istio pkg/config/model.go `ResolveShortnameToFQDN`; istio pilot/pkg/networking/core/route/route.go `GetDestinationCluster`;
//! istio pilot/pkg/model/service.go `BuildSubsetKey`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::HeaderName;

use super::cluster_config::cluster_config;
use super::destination::Destination;
use super::destination_rule::DestinationRule;
use super::load_balancer::HashKey;
use super::locality::endpoint_policy;
use super::policies::Policies;
use crate::gateway::routes::HashPolicy;
use crate::manifest::problem::{Place, Problem};
use crate::manifest::read::{Sink, did_you_mean};
use crate::manifest::routes::{Around, Missing, Proxy, Upstream};
use crate::record::results::FidelityStatus;

/// The domain of Services.
pub(in crate::manifest) const DOMAIN: &str = ".svc.cluster.local";

/// The clusters that routes lead to.
pub(in crate::manifest) struct Clusters<'a> {
    around: &'a Around<'a>,
    sink: &'a Sink,
    policies: Policies<'a>,
    /// Places of destinations whose problems were told.
    told: RefCell<BTreeSet<Place>>,
    upstreams: RefCell<Vec<Upstream>>,
    /// Clusters that are not there, each with the first place that names it.
    nowhere: RefCell<BTreeMap<Arc<str>, Place>>,
}

/// Where a destination leads.
#[derive(Clone, Debug)]
pub(in crate::manifest) struct Located {
    /// The cluster's name.
    pub(in crate::manifest) cluster: Arc<str>,
    /// What binds its requests to endpoints.
    pub(in crate::manifest) hash: Option<HashPolicy>,
    upstream: Option<Upstream>,
}

/// A host that is there: a Service with these ports, none meaning all.
struct Known {
    key: String,
    ports: Option<Vec<u16>>,
}

impl<'a> Clusters<'a> {
    pub(in crate::manifest) fn new(around: &'a Around<'a>, rules: &'a [DestinationRule], sink: &'a Sink) -> Self {
        let policies = Policies::new(rules);
        let (told, upstreams, nowhere) = Default::default();
        Self { around, sink, policies, told, upstreams, nowhere }
    }

    /// The clusters that were used, and those that are not there.
    pub(in crate::manifest) fn into_upstreams(self) -> (Vec<Upstream>, BTreeMap<Arc<str>, Place>) {
        self.policies.note_unused(self.sink);
        (self.upstreams.into_inner(), self.nowhere.into_inner())
    }

    /// Where a destination leads, and that something leads there. None: it is refused.
    pub(in crate::manifest) fn resolve(
        &self,
        destination: &Destination,
        proxy: &str,
        listener_port: u16,
    ) -> Option<Located> {
        let located = self.locate(destination, proxy, listener_port)?;
        if located.upstream.is_none() {
            self.nowhere.borrow_mut().entry(Arc::clone(&located.cluster)).or_insert(destination.at);
        }
        let mut upstreams = self.upstreams.borrow_mut();
        if let Some(upstream) = &located.upstream
            && !upstreams.iter().any(|known| known.cluster == upstream.cluster)
        {
            upstreams.push(upstream.clone());
        }
        Some(located)
    }

    /// Where a destination leads, for a gateway in the namespace `proxy`. Problems are told once.
    pub(super) fn locate(&self, destination: &Destination, proxy: &str, listener_port: u16) -> Option<Located> {
        let host = full_name(&destination.host, &destination.namespace);
        let subset = destination.subset.as_deref().unwrap_or_default();
        let nowhere = |port: u16| Located { cluster: name(port, subset, &host), hash: None, upstream: None };
        let Some(known) = self.find(&host) else {
            let is_gone = service_key(&host).is_some_and(|key| self.around.is_there_sometimes(&key, None));
            if is_gone {
                self.note_gone(destination, &format!("no Service is called `{host}` then"));
            } else if self.around.missing == Missing::Answered {
                self.note_unknown(destination, "host", &destination.host);
            }
            if is_gone || self.around.missing == Missing::Answered {
                return Some(nowhere(destination.port.unwrap_or(listener_port)));
            }
            self.refuse(destination, |problem| self.no_service(destination, &host, problem));
            return None;
        };
        let port = match (destination.port, known.ports.as_deref()) {
            (Some(port), None) => port,
            (Some(port), Some(ports)) if ports.contains(&port) => port,
            (Some(port), Some(ports)) => {
                let text = format!("Service `{}` has no port {port}", known.key);
                let is_gone = self.around.is_there_sometimes(&known.key, Some(port));
                if is_gone {
                    self.note_gone(destination, &format!("{text} then"));
                } else if self.around.missing == Missing::Answered {
                    self.note_unknown(destination, "host:port", &format!("{}:{port}", destination.host));
                }
                if is_gone || self.around.missing == Missing::Answered {
                    return Some(nowhere(port));
                }
                let list: Vec<String> = ports.iter().map(u16::to_string).collect();
                let help = format!("its ports are {}", list.join(", "));
                self.tell(destination, Problem::at(destination.port_at, port_path(destination), text).help(help));
                return None;
            }
            (None, Some([only])) => *only,
            (None, Some([_, _, ..])) if self.around.missing == Missing::Refused => {
                let text = format!("Service `{}` has several ports", known.key);
                self.refuse(destination, |problem| Problem { text, ..problem }.help("name one: port: { number: … }"));
                return None;
            }
            (None, Some(ports @ [_, _, ..])) => {
                self.note_several(destination, ports, listener_port);
                if !ports.contains(&listener_port) {
                    return Some(nowhere(listener_port));
                }
                listener_port
            }
            // A Service that is declared without its ports.
            (None, _) if self.around.declared.contains(&known.key) => 80,
            (None, Some([])) => 80,
            (None, None) => listener_port,
        };
        let service_namespace = known.key.split_once('/').map(|(namespace, _)| namespace);
        let found = self.policies.find(&host, service_namespace, proxy, subset, port);
        let labels = match found.labels {
            Some(labels) => labels.clone(),
            None if subset.is_empty() => BTreeMap::new(),
            None if self.around.missing == Missing::Answered => {
                let text = format!("{}+{subset}", destination.host);
                self.note_unknown(destination, "host+subset in destinationrule", &text);
                return Some(nowhere(port));
            }
            None => {
                let text = format!("no DestinationRule of `{host}` has the subset `{subset}`");
                self.refuse(destination, |problem| {
                    Problem { text, ..problem }
                        .help("add one with subsets, in the Service's namespace or the gateway's")
                });
                return None;
            }
        };
        let balancer = found.policy.load_balancer.as_ref();
        let hash = balancer.and_then(|balancer| hash_policy(balancer.consistent_hash.as_ref()?.key.as_ref()?));
        let cluster = name(port, subset, &host);
        let options = self.around.options;
        let service = self.around.services.get(&known.key);
        let distribution = service.and_then(|service| service.traffic_distribution);
        let endpoints = endpoint_policy(&found.policy, distribution, options.tells_unready);
        let mut config = cluster_config(&found.policy, options.always_ejects_one);
        config.balance.is_locality_weighted = endpoints.locality.is_weighted();
        let upstream = Upstream {
            cluster: Arc::clone(&cluster),
            service: known.key,
            port,
            subset: labels,
            config,
            endpoints,
            at: destination.at,
        };
        Some(Located { cluster, hash, upstream: Some(upstream) })
    }

    fn find(&self, host: &str) -> Option<Known> {
        if let Some(key) = service_key(host) {
            if let Some(service) = self.around.services.get(&key) {
                let ports = service.ports.iter().map(|port| port.port).collect();
                return Some(Known { key, ports: Some(ports) });
            }
            if self.around.declared.contains(&key) {
                return Some(Known { key, ports: None });
            }
        }
        let is_there = self.around.hosts.iter().any(|known| known == host);
        is_there.then(|| Known { key: host.to_owned(), ports: None })
    }

    fn refuse(&self, destination: &Destination, make: impl FnOnce(Problem) -> Problem) {
        self.tell(destination, make(Problem::at(destination.at, destination.path.clone(), "")));
    }

    /// What a route leads to is not there, and was or will be.
    fn note_gone(&self, destination: &Destination, text: &str) {
        let text = format!("{text}: its cluster is gone, and the gateway answers 503 (NC)");
        self.sink.note(destination.at, destination.path.clone(), FidelityStatus::Warning, Some(&text));
    }

    /// What a route leads to has never been there. The words of `istioctl analyze`, and what becomes of it.
    fn note_unknown(&self, destination: &Destination, what: &str, name: &str) {
        let text = format!(
            "Referenced {what} not found: \"{name}\" (IST0101): there is no such cluster, and the gateway answers 503 (NC)"
        );
        self.sink.note(destination.at, destination.path.clone(), FidelityStatus::Warning, Some(&text));
    }

    /// A Service has several ports, and a route to it names none.
    fn note_several(&self, destination: &Destination, ports: &[u16], listener_port: u16) {
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        let becomes = match ports.contains(&listener_port) {
            true => format!("it leads to {listener_port}, the port of the gateway's server"),
            false => format!(
                "none is the gateway's {listener_port}, so there is no cluster, and the gateway answers 503 (NC)"
            ),
        };
        let text = format!(
            "This VirtualService routes to a host \"{}\" that exposes multiple ports [{}] (IST0112): {becomes}",
            destination.host,
            list.join(" ")
        );
        self.sink.note(destination.at, destination.path.clone(), FidelityStatus::Warning, Some(&text));
    }

    fn tell(&self, destination: &Destination, problem: Problem) {
        if self.told.borrow_mut().insert(destination.at) {
            self.sink.report(problem);
        }
    }

    fn no_service(&self, destination: &Destination, host: &str, problem: Problem) -> Problem {
        let written = &destination.host;
        if written.contains('.') && !written.ends_with(DOMAIN) {
            return half_a_name(written, &destination.namespace, problem);
        }
        let key = service_key(host).unwrap_or_else(|| host.to_owned());
        let known: Vec<String> = self.around.services.keys().chain(self.around.declared).cloned().collect();
        let near = did_you_mean(&key, known.iter().map(String::as_str));
        let declare = match self.around.proxy {
            Proxy::Pods { .. } => "declare it under spec.backends".to_owned(),
            Proxy::Named(_) => {
                let (namespace, name) = key.split_once('/').unwrap_or(("default", &key));
                let port = destination.port.map_or("PORT".to_owned(), |port| port.to_string());
                format!("give its endpoints: --endpoint {name}.{namespace}:{port}=ADDRESS:PORT")
            }
        };
        let help = near.map_or_else(
            || format!("add it to the manifests, or {declare}; there are: {}", known.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        Problem { text: format!("no Service is called `{key}`"), ..problem }.help(help)
    }
}

/// A name with dots is a whole name to Istio: `web.shop` is no Service, though resolvers elsewhere find one.
pub(super) fn half_a_name(written: &str, namespace: &str, problem: Problem) -> Problem {
    let (name, within) = written.split_once('.').unwrap_or((written, namespace));
    let within = within.split('.').next().unwrap_or_default();
    let text = format!("Istio takes `{written}` for a whole name, and no Service is called so");
    Problem { text, ..problem }.help(format!("write {name}.{within}{DOMAIN}, or the name alone within its namespace"))
}

fn port_path(destination: &Destination) -> String {
    let object = destination.path.strip_suffix(".host").unwrap_or(&destination.path);
    format!("{object}.port")
}

/// The whole name of a host.
pub(super) fn full_name(host: &str, namespace: &str) -> String {
    if host.contains('.') || host.starts_with('*') { host.to_owned() } else { format!("{host}.{namespace}{DOMAIN}") }
}

/// `namespace/name` of the Service that a whole name is of.
fn service_key(host: &str) -> Option<String> {
    let (name, namespace) = host.strip_suffix(DOMAIN)?.split_once('.')?;
    Some(format!("{namespace}/{name}"))
}

fn name(port: u16, subset: &str, host: &str) -> Arc<str> {
    Arc::from(format!("outbound|{port}|{subset}|{host}"))
}

fn hash_policy(key: &HashKey) -> Option<HashPolicy> {
    Some(match key {
        HashKey::Header(name) => HashPolicy::Header(HeaderName::try_from(name).ok()?),
        HashKey::Cookie { name, path, ttl } => HashPolicy::Cookie { name: name.clone(), path: path.clone(), ttl: *ttl },
        HashKey::SourceIp => HashPolicy::SourceAddress,
        HashKey::Query(name) => HashPolicy::Query(name.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_services() {
        for (host, full, key) in [
            ("web", "web.shop.svc.cluster.local", Some("shop/web")),
            ("web.other", "web.other", None),
            ("web.x.svc.cluster.local", "web.x.svc.cluster.local", Some("x/web")),
        ] {
            assert_eq!(full_name(host, "shop"), full);
            assert_eq!(service_key(full).as_deref(), key);
        }
    }
}
