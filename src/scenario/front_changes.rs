//! An edit of the Service in front in mid-run: what kube-proxies and the balancer's controller make of it.
//!
//! - The controller looks at balancer and listeners when the Service's ports, type, policies, class or annotations change, and then at all of it.
//! - What an annotation no longer says stays as the cloud has it: the controller sends only what is written. So taking `established-timeout` out changes nothing;
//!   another value does.
//! - The listeners of a reused balancer without `force-override-listeners` are not the controller's: nothing of them changes.
//! - What a CLB cannot change once it is there fails the whole reconcile, targets included, until it is taken back: address type, zones, resource group, version
//!   of addresses, another `…-loadbalancer-id`. An NLB's controller goes on with the rest.
//! - An NLB moves to other zones when its list names one that it is not in: an added one gets an address, one that is left out then goes. A list that is only
//!   shorter changes nothing.
//! - An annotation of which the controller, or the cloud, makes nothing leaves the balancer as it is: [`rejected`].
//! - What becomes of the balancer of a Service that is no `LoadBalancer` any more, or becomes one, or is deleted: [`fate`]. Node ports stay as long as the type has any.
//! - What the API server does not let change is refused here.
//!
//! Sources: kubernetes/cloud-provider-alibaba-cloud pkg/controller/service/clbv1/{model_applier,loadbalancer,listeners}.go (`Update`, `isNeedUpdate`),
//! nlbv2/{model_applier,loadbalancer,listeners,server_groups}.go, pkg/controller/helper (hash of a Service); Kubernetes pkg/apis/core/validation.

pub(super) mod fate;
mod rejected;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::balancer::products;
use super::settings::{Location, Settings, TimelineEntry, TimelineVerb};
use super::state::Resolved;
use super::{balancer, front, sharing};
use crate::cluster::endpoints::selects;
use crate::drill::config::{BalancerEdit, BalancerFate, FrontChange, FrontPorts, Listening};
use crate::drill::{FrontSpec, Sources, Verb};
use crate::edge::load_balancer::Failure;
use crate::edge::{LoadBalancerConfig, NO_PORT};
use crate::manifest::service::{ServiceKind, ServiceManifest};
use crate::manifest::{Files, Place, Problem, Sink};
use crate::record::results::FidelityStatus;
use crate::record::{CauseCode, Source};

/// Annotations that are the controller's own rules, or that it compares with what there is: what is not written does not hold. All others the cloud keeps.
const RULES: [&str; 11] = [
    "protocol-port",
    "forward-port",
    "id",
    "force-override-listeners",
    "backend-label",
    "remove-unscheduled-backend",
    "weight",
    "default-weight",
    "ignore-weight-update",
    "graceful-shutdown",
    "hostname",
];
/// What cannot change once the balancer is there: its annotation, what holds where nobody writes it if that is known, and the controller's words.
const FIXED_OF_CLB: [(&str, Option<&str>, &str); 5] = [
    (
        "address-type",
        Some("internet"),
        "alicloud: can not change LoadBalancer AddressType once created. delete and retry",
    ),
    ("master-zoneid", None, "alicloud: can not change LoadBalancer master zone id once created"),
    ("slave-zoneid", None, "alicloud: can not change LoadBalancer slave zone id once created"),
    ("ip-version", Some("ipv4"), "alicloud: can not change LoadBalancer AddressIPVersion once created"),
    ("resource-group-id", None, "alicloud: can not change ResourceGroupId once created"),
];
const FIXED_OF_NLB: [(&str, Option<&str>, &str); 2] = [
    ("ip-version", Some("ipv4"), "AddressIpVersion cannot be changed"),
    ("resource-group-id", None, "ResourceGroupId cannot be changed"),
];
/// Kinds that say where a gateway listens.
const LISTENING: [&str; 5] = ["Gateway", "Service", "IstioGateway", "ListenerSet", "XListenerSet"];
/// Causes whose lines follow the Service in front.
const CODES: [CauseCode; 11] = [
    CauseCode::LbTargetUnchecked,
    CauseCode::LbCheckFails,
    CauseCode::LbLimit,
    CauseCode::LbQueryLimit,
    CauseCode::LbRequestTimeout,
    CauseCode::IdleTimeout,
    CauseCode::LbZoneLost,
    CauseCode::LbCutConnection,
    CauseCode::LocalPolicyBlackhole,
    CauseCode::SnatPortsExhausted,
    CauseCode::LbListenerTaken,
];

/// The Service in front as the cloud has it: what was written last of each annotation, and the ports that nodes were given.
#[derive(Clone, Default)]
pub(super) struct Standing {
    annotations: Annotations,
    node_ports: BTreeMap<u16, u16>,
    /// As its balancer was made for.
    first: Option<ServiceManifest>,
    /// As clients found it at the start: they dial what they dialled then.
    found: Option<ServiceManifest>,
    /// The zones of an NLB, as they were written when the controller last took them over.
    zones: Option<(String, Place)>,
    /// It has been deleted.
    is_deleted: bool,
    /// The balancer that it reused while it wanted one.
    left: Option<fate::Left>,
    /// The annotations that the controller could read last, while it cannot read those that are written.
    readable: Option<Annotations>,
}

/// By name, each with where it is written.
type Annotations = BTreeMap<String, (String, Place)>;

impl Standing {
    /// That of the start.
    pub(super) fn of(resolved: &Resolved) -> Self {
        let Some(service) = resolved.front() else { return Self::default() };
        Self {
            annotations: service.annotations.clone(),
            node_ports: front::node_ports(service, &BTreeMap::new()),
            first: Some(service.clone()),
            found: Some(service.clone()),
            zones: service.balancer_annotation("zone-maps").cloned().filter(|_| balancer::is_nlb(service)),
            is_deleted: false,
            left: None,
            readable: None,
        }
    }

    /// Whether it has been deleted.
    pub(super) fn is_deleted(&self) -> bool {
        self.is_deleted
    }

    /// The objects with the Service in front as the cloud gets it, and why it does not get all of it; what stays although it is no longer written is told.
    fn follow(&mut self, resolved: &Resolved, sink: &Sink) -> (Resolved, Option<Failure>) {
        let mut seen = resolved.clone();
        let key = resolved.front_key().to_owned();
        let Some(service) = seen.services.get_mut(&key) else { return (seen, None) };
        if service.kind != ServiceKind::LoadBalancer {
            // Its balancer goes, and with it all that it was told.
            self.annotations.clone_from(&service.annotations);
            self.node_ports = front::node_ports(service, &self.node_ports);
            self.zones = None;
            return (seen, None);
        }
        let zones = if balancer::is_nlb(service) { self.follow_zones(service, sink) } else { None };
        let crossing = self.follow_crossing(service, sink);
        let failure = zones.or(crossing);
        let rules: Vec<String> = RULES.iter().map(|suffix| service.written_name(suffix)).collect();
        let mut written = service.annotations.clone();
        // An empty value is none.
        written.retain(|name, (text, _)| !text.is_empty() || !ServiceManifest::is_balancer_annotation(name));
        for (name, known) in &self.annotations {
            let is_kept = ServiceManifest::is_balancer_annotation(name) && !rules.contains(name);
            if !written.contains_key(name) && is_kept && !has_suffix_of(&written, name) {
                service.annotations.insert(name.clone(), known.clone());
                let text = "it is no longer written, and the balancer keeps it: the controller changes what is written";
                sink.note(service.annotations_at, format!("Service {key} {name}"), FidelityStatus::Warning, Some(text));
            }
        }
        self.annotations.clone_from(&service.annotations);
        self.node_ports = front::node_ports(service, &self.node_ports);
        (seen, failure)
    }

    /// The zones of an NLB follow what is written if it names one that the balancer is not in, with the vSwitch; then the others go. A list that is only shorter is
    /// not noticed. What cannot be read fails the whole reconcile, and so does a list that is not there.
    fn follow_zones(&mut self, service: &mut ServiceManifest, sink: &Sink) -> Option<Failure> {
        let name = service.written_name("zone-maps");
        let written = service.annotations.get(&name).cloned().filter(|(text, _)| !text.is_empty());
        let is_reused = service.balancer_annotation("id").is_some();
        let at = written.as_ref().map_or(service.annotations_at, |(_, place)| *place);
        let path = format!("Service {} zone-maps", service.service.key);
        let known = self.zones.clone();
        let failure = match &written {
            None if is_reused => None,
            None => Some(("ParameterMissing, zone mappings are required".to_owned(), true)),
            Some((text, _)) if text.split(',').any(|part| !part.contains(':')) => {
                let expected = "expect [zone-a:vsw-id-1,zone-b:vsw-id-2]";
                Some((format!("ZoneMapping format error, {expected}, got {text}"), true))
            }
            Some((text, _)) if !names_another(known.as_ref().map_or("", |(text, _)| text), text) => {
                if known
                    .as_ref()
                    .is_some_and(|(known, _)| balancer::zone_names(known).len() > balancer::zone_names(text).len())
                {
                    let text = "a zone that is only left out stays: the controller looks for zones that the balancer does not have";
                    sink.note(at, path.clone(), FidelityStatus::Warning, Some(text));
                }
                None
            }
            Some((text, _)) => {
                let distinct: BTreeSet<Rc<str>> = balancer::zone_names(text).into_iter().collect();
                if distinct.len() < 2 && known.as_ref().is_none_or(|(known, _)| balancer::zone_names(known).len() >= 2)
                {
                    Some(("update zone mappings error: an NLB needs two zones".to_owned(), false))
                } else {
                    self.zones.clone_from(&written);
                    None
                }
            }
        };
        match &self.zones {
            Some(zones) => service.annotations.insert(name, zones.clone()),
            None => service.annotations.remove(&name),
        };
        let (message, stops_all) = failure?;
        let note = match stops_all {
            true => {
                "the controller cannot read it, and until it can it does nothing: zones, listeners and targets stay"
            }
            false => "the controller cannot do it, and tries again and again; all else it does",
        };
        sink.note(at, path, FidelityStatus::Warning, Some(note));
        Some(Failure { message: Rc::from(message), stops_all })
    }
}

impl Standing {
    /// Whether zones are crossed, if the controller can read it; what it cannot read fails the whole reconcile, and leaves all as it was.
    fn follow_crossing(&self, service: &mut ServiceManifest, sink: &Sink) -> Option<Failure> {
        let message = balancer::cross_zone_trouble(service)?;
        let name = service.written_name("cross-zone-enabled");
        let known = self.annotations.get(&name).cloned();
        let (_, at) = match known {
            Some(known) => service.annotations.insert(name, known)?,
            None => service.annotations.remove(&name)?,
        };
        let note = "the controller cannot read it, and until it can it does nothing: zones, listeners and targets stay";
        sink.note(
            at,
            format!("Service {} cross-zone-enabled", service.service.key),
            FidelityStatus::Warning,
            Some(note),
        );
        Some(Failure { message: Rc::from(message), stops_all: true })
    }
}

/// Whether a list of zones names one that the other does not: another zone, vSwitch, or address of one's own.
fn names_another(known: &str, written: &str) -> bool {
    let parts = |text: &str| -> Vec<Vec<String>> {
        text.split(',').map(|part| part.split(':').map(|word| word.trim().to_owned()).collect()).collect()
    };
    let known = parts(known);
    let has = |part: &Vec<String>| {
        let eip = |of: &Vec<String>| of.get(3).cloned().unwrap_or_default();
        let is_same =
            |it: &&Vec<String>| it.get(..2) == part.get(..2) && (eip(part).is_empty() || eip(part) == eip(it));
        known.iter().any(|it| is_same(&it))
    };
    parts(written).iter().any(|part| !has(part))
}

/// Whether an annotation is written in its other spelling.
fn has_suffix_of(written: &BTreeMap<String, (String, Place)>, name: &str) -> bool {
    let suffix = name.rsplit("loadbalancer-").next().unwrap_or(name);
    written
        .keys()
        .any(|key| ServiceManifest::is_balancer_annotation(key) && key.ends_with(&format!("loadbalancer-{suffix}")))
}

/// Two states of the objects, and what stands between them.
pub(super) struct Moments<'a> {
    pub(super) entry: &'a TimelineEntry,
    pub(super) current: &'a Resolved,
    pub(super) next: &'a Resolved,
}

/// What the balancer's controller compares, and kube-proxies: all of the Service but its places.
fn contents(service: &ServiceManifest) -> String {
    let annotations: Vec<(&String, &String)> = service.annotations.iter().map(|(key, (text, _))| (key, text)).collect();
    format!(
        "{:?}",
        (
            (&service.service, &service.ports, service.kind, service.policy, service.internal_policy),
            (service.affinity, service.draws_node_ports, service.health_check_node_port, service.headless_at.is_some()),
            (service.load_balancer_class.as_ref().map(|(class, _)| class), annotations),
        )
    )
}

/// What an edit of the Service in front asks of the world; what cannot be is reported.
pub(super) fn change(
    moments: &Moments<'_>,
    (standing, spec): (&mut Standing, &mut FrontSpec),
    settings: &Settings,
    files: &Files,
    sink: &Sink,
) -> Option<Verb> {
    let Moments { entry, current, next } = *moments;
    let (before, after) = (current.front()?, next.front()?);
    if current.front_key() != next.front_key() {
        let text = format!("{} is in front now, and it was {}", next.front_key(), current.front_key());
        let problem = Problem::at(entry.place, "spec.timeline", text);
        sink.report(problem.help("which Service is in front stays: compare two scenarios instead"));
        return None;
    }
    // What sizes the pods may change what is warned of, and nothing else.
    if contents(before) == contents(after) {
        return None;
    }
    if standing.is_deleted {
        return refuse_deleted(after, entry, sink);
    }
    refuse_fixed(before, after, entry, sink)?;
    refuse_other_address((before, after), settings, entry, sink)?;
    warn_external_name(after, sink);
    warn_selector(next, sink);
    warn_ports(moments, sink);
    let old_standing = standing.clone();
    let (old, _) = old_standing.clone().follow(&old_standing.as_read(current), &Sink::default());
    let has_balancer = [before, after].iter().all(|it| products::kind(it, settings) == ServiceKind::LoadBalancer);
    let rejected = if has_balancer { standing.reject(&old, next, settings, sink) } else { None };
    let (seen, trouble) = standing.follow(&standing.as_read(next), sink);
    let stays = rejected.as_ref().is_some_and(|failure| !failure.stops_all);
    let trouble = rejected.or(trouble);
    let (old_spec, new_spec) = (of_front(&old, settings, &old_standing, &Sink::default())?, {
        let fresh = Sink::default();
        let made = of_front(&seen, settings, standing, &fresh);
        fresh.take_problems().into_iter().for_each(|problem| sink.report(problem));
        for note in fresh.take_notes() {
            sink.note(note.place, note.path, note.status, note.text.as_deref());
        }
        made?
    });
    let old_ports = FrontPorts { ports: old_spec.ports.clone(), node_ports: old_standing.node_ports.clone() };
    let new_ports = FrontPorts { ports: new_spec.ports.clone(), node_ports: standing.node_ports.clone() };
    if new_spec.nodes.is_some() && spec.nodes.is_none() {
        // Nodes are there from the start, though nothing passes over them until then.
        spec.nodes = Some(front::nodes(current.front()?, settings));
    }
    let rules = |service: &ServiceManifest| Some(front::nodes(service, settings).rules);
    let edit = new_spec.balancer.clone().and_then(|config| {
        let old_config = old_spec.balancer.as_ref()?;
        let mut edit = balancer_edit((standing.first.as_ref()?, after), (old_config, config), sink);
        if stays {
            keep_listeners(&mut edit.config, old_config, balancer::is_nlb(after));
            edit.writes_listeners = false;
        }
        edit.failure = trouble.or(edit.failure);
        Some(edit)
    });
    let (fate, taken_back) = fate::of_edit((before, after), (&old_spec, &new_spec), next, standing, settings, sink);
    let edit = edit.or(taken_back);
    let sources = sources(moments, (&old, &seen), (&old_ports, &new_ports), &fate, settings, files);
    Some(Verb::Front(Box::new(FrontChange {
        service: after.service.clone(),
        is_gone: false,
        before: old_ports,
        after: new_ports,
        rules_before: rules(before),
        rules: rules(after),
        doors: new_spec.doors,
        balancer: edit,
        fate,
        sources,
    })))
}

/// What is gone is not edited.
fn refuse_deleted(service: &ServiceManifest, entry: &TimelineEntry, sink: &Sink) -> Option<Verb> {
    let text = format!("Service {} has been deleted by then", service.service.key);
    let problem = Problem::at(entry.place, "spec.timeline", text);
    sink.report(problem.help("what is deleted cannot be restored in the run: compare two scenarios instead"));
    None
}

/// The way in, with the node ports that the API server has given.
fn of_front(resolved: &Resolved, settings: &Settings, standing: &Standing, sink: &Sink) -> Option<FrontSpec> {
    front::spec_with(resolved, settings, (&standing.node_ports, standing.found.as_ref()?), sink)
}

/// Whoever selects other pods than the gateway's sends clients to them.
fn warn_selector(next: &Resolved, sink: &Sink) {
    let Some(service) = next.front() else { return };
    if !next.gateways().any(|(_, pods)| selects(&service.service.selector, &pods.deployment.template.labels)) {
        let text = "it does not select the gateway's pods: its clients go to others, if there are any, and no gateway is simulated there";
        let path = format!("Service {} spec.selector", service.service.key);
        sink.note(service.policy_at, path, FidelityStatus::Warning, Some(text));
    }
}

/// A port that leads to a name which no container of the gateway has leads nowhere.
fn warn_ports(moments: &Moments<'_>, sink: &Sink) {
    let (Some(service), Some(target)) = (moments.next.front(), moments.next.target()) else { return };
    let place = edited_at(moments, &["Service", "IstioGateway"], &["ports"]);
    for (port, name) in front::unnamed(service, &target.ports) {
        let text = format!(
            "port {port} leads to `{name}`, and no container of the gateway calls a port so: no pod is an endpoint for it"
        );
        sink.note(place, format!("Service {} spec.ports", service.service.key), FidelityStatus::Warning, Some(&text));
    }
}

/// What the API server, or the simulation, does not let change.
fn refuse_fixed(before: &ServiceManifest, after: &ServiceManifest, entry: &TimelineEntry, sink: &Sink) -> Option<()> {
    let class = |service: &ServiceManifest| service.load_balancer_class.as_ref().map(|(class, _)| class.clone());
    let are_balanced = before.kind == ServiceKind::LoadBalancer && after.kind == ServiceKind::LoadBalancer;
    if are_balanced && class(before) != class(after) {
        let place = after.load_balancer_class.as_ref().map_or(entry.place, |(_, place)| *place);
        let problem = Problem::at(place, "spec.loadBalancerClass", "may not change once set");
        sink.report(problem.help("the API server refuses it: another kind of balancer needs another Service"));
        return None;
    }
    let have_addresses = [before, after].iter().all(|service| service.kind != ServiceKind::ExternalName);
    if have_addresses && before.headless_at.is_some() != after.headless_at.is_some() {
        let place = after.headless_at.unwrap_or(entry.place);
        let problem = Problem::at(place, "spec.clusterIPs[0]", "may not change once set");
        sink.report(
            problem.help("the API server refuses it: a Service with an address, or without, is another Service"),
        );
        return None;
    }
    Some(())
}

/// From an `ExternalName` a Service comes back with another address of its own, unless it is written. What its clients make of that is not simulated.
fn refuse_other_address(
    (before, after): (&ServiceManifest, &ServiceManifest),
    settings: &Settings,
    entry: &TimelineEntry,
    sink: &Sink,
) -> Option<()> {
    let is_back = before.kind == ServiceKind::ExternalName && after.kind != ServiceKind::ExternalName;
    if is_back && settings.loads.iter().any(|load| load.way.location == Location::Cluster) {
        let text = "a Service that was an ExternalName gets another address, and when clients in the cluster find it is not simulated";
        let problem = Problem::at(entry.place, "spec.type", text);
        sink.report(problem.help("compare two scenarios instead"));
        return None;
    }
    Some(())
}

/// Whoever asks DNS for it is sent elsewhere; those of a drill go on dialling what they found.
fn warn_external_name(service: &ServiceManifest, sink: &Sink) {
    if service.kind == ServiceKind::ExternalName {
        let text = "an ExternalName is a name in DNS: it has no address, no port of the nodes and no balancer any more; clients go on dialling what they found at the start";
        let path = format!("Service {} spec.type", service.service.key);
        sink.note(service.kind_at, path, FidelityStatus::Warning, Some(text));
    }
}

/// What the controller makes of a balancer that is to be as `new`.
fn balancer_edit(
    (first, after): (&ServiceManifest, &ServiceManifest),
    (old, new): (&LoadBalancerConfig, LoadBalancerConfig),
    sink: &Sink,
) -> BalancerEdit {
    let writes_listeners = sharing::writes_listeners(after);
    let is_nlb = balancer::is_nlb(after);
    let mut config = new;
    if !writes_listeners {
        let (place, text) =
            (after.annotations_at, "the listeners of this balancer are not the controller's: they stay");
        sink.note(place, format!("Service {}", after.service.key), FidelityStatus::Warning, Some(text));
        keep_listeners(&mut config, old, is_nlb);
    }
    BalancerEdit { config, writes_listeners, failure: failure((first, after), is_nlb, sink) }
}

/// The listeners stay as they are.
fn keep_listeners(config: &mut LoadBalancerConfig, old: &LoadBalancerConfig, is_nlb: bool) {
    config.ports.clone_from(&old.ports);
    config.idle = old.idle;
    config.limits.listener_connections_per_s = old.limits.listener_connections_per_s;
    if !is_nlb {
        // All of these are a CLB's listener's.
        config.balancer = old.balancer.clone();
        config.probe = old.probe.clone();
        config.http.clone_from(&old.http);
    }
}

/// Why the controller cannot do it.
fn failure((first, after): (&ServiceManifest, &ServiceManifest), is_nlb: bool, sink: &Sink) -> Option<Failure> {
    let text = |service: &ServiceManifest, suffix: &str| {
        service.balancer_annotation(suffix).map(|(text, _)| text.clone()).filter(|text| !text.is_empty())
    };
    let fixed: &[(&str, Option<&str>, &str)] = if is_nlb { &FIXED_OF_NLB } else { &FIXED_OF_CLB };
    let changed = fixed.iter().find_map(|(suffix, usual, message)| {
        let wanted = text(after, suffix)?;
        let had = text(first, suffix).or(usual.map(str::to_owned))?;
        (!wanted.eq_ignore_ascii_case(&had)).then(|| (*suffix, (*message).to_owned()))
    });
    let other = || {
        let (had, wanted) = (text(first, "id"), text(after, "id"));
        let message = match (had == wanted, wanted) {
            (true, _) => return None,
            (_, Some(id)) => {
                format!(
                    "alicloud: the loadbalancer {id} can not be reused, service has been associated with another ip"
                )
            }
            (_, None) => {
                "alicloud: can not find loadbalancer, but it's defined in service: this may happen when you delete \
                          the loadbalancer"
                    .to_owned()
            }
        };
        Some(("id", message))
    };
    let (suffix, message) = changed.or_else(other)?;
    let stops_all = !is_nlb || suffix == "id";
    let place = after.balancer_annotation(suffix).map_or(after.annotations_at, |(_, place)| *place);
    let note = match stops_all {
        true => {
            "the controller cannot change it, and until it is taken back nothing else either: listeners and targets stay"
        }
        false => "the controller cannot change it, and tries again and again; all else it does",
    };
    sink.note(place, format!("Service {} {suffix}", after.service.key), FidelityStatus::Warning, Some(note));
    Some(Failure { message: Rc::from(message), stops_all })
}

/// The lines behind causes of loss that an edit moves.
fn sources(
    moments: &Moments<'_>,
    (old, seen): (&Resolved, &Resolved),
    (before, after): (&FrontPorts, &FrontPorts),
    fate: &BalancerFate,
    settings: &Settings,
    files: &Files,
) -> Sources {
    let of = |resolved: &Resolved| super::sources::sources(resolved, settings, files);
    let (known, all) = (of(old), of(seen));
    let mut found = all.clone();
    found.retain(|code, source| CODES.contains(code) && known.get(code) != Some(source));
    let Moments { current, next, .. } = *moments;
    if let (Some(known), Some(service)) = (current.front(), next.front())
        && known.service.selector != service.service.selector
    {
        let place = edited_at(moments, &["Service"], &["selector"]);
        let labels: Vec<String> =
            service.service.selector.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        for code in [CauseCode::LbNoTarget, CauseCode::NoEndpoint] {
            found.insert(code, source(files, place, "spec.selector", &labels.join(", ")));
        }
    }
    if let (Some(known), Some(service)) = (current.front(), next.front())
        && known.kind != service.kind
    {
        found.extend(fate::sources(moments, (fate, &all), service, files));
    }
    let moved: Vec<String> = after
        .ports
        .iter()
        .filter(|(port, target)| before.ports.get(port).is_some_and(|known| known != *target))
        .map(|(port, target)| match target {
            &NO_PORT => format!("{port} to a name that no container has"),
            target => format!("{port} to {target}"),
        })
        .collect();
    if !moved.is_empty() {
        let place = edited_at(moments, &["Service", "IstioGateway"], &["ports"]);
        if after.ports.values().any(|target| *target == NO_PORT) {
            for code in [CauseCode::LbNoTarget, CauseCode::NoEndpoint, CauseCode::ListenerRemoved] {
                found.insert(code, source(files, place, "spec.ports.targetPort", &moved.join(", ")));
            }
        }
        found.insert(CauseCode::LbTargetUnchecked, source(files, place, "spec.ports.targetPort", &moved.join(", ")));
    }
    let gone: Vec<String> =
        before.ports.keys().filter(|port| !after.ports.contains_key(port)).map(u16::to_string).collect();
    let is_name = next.front().is_some_and(|service| service.kind == ServiceKind::ExternalName);
    if !gone.is_empty() && !is_name {
        let place = edited_at(moments, &["Service", "IstioGateway"], &["ports"]);
        found.insert(
            CauseCode::FrontPortClosed,
            source(files, place, "spec.ports", &format!("without {}", gone.join(", "))),
        );
    }
    found
}

/// What an edit of the gateway's listeners asks of the world.
pub(super) fn listening(moments: &Moments<'_>, files: &Files) -> Listening {
    let Moments { current, next, .. } = *moments;
    let is_bound = |bound: u16| next.routing.listeners.iter().any(|(other, _)| *other == bound);
    let gone = current.routing.listeners.iter().map(|(bound, _)| *bound).filter(|bound| !is_bound(*bound));
    let gone: Vec<String> = gone.map(|bound| bound.to_string()).collect();
    let mut sources = Sources::new();
    if !gone.is_empty() {
        let value = format!("without {}", gone.join(", "));
        let is_unselected = next.routing.unselected.iter().any(|key| !current.routing.unselected.contains(key));
        let (kinds, keys, path) = match &moments.entry.verb {
            TimelineVerb::DeleteObject((field, _), ..) => (&[][..], &[][..], format!("spec.timeline.delete.{field}")),
            _ if is_unselected => (&["Gateway"][..], &["selector"][..], "spec.selector".to_owned()),
            _ => (&LISTENING[..], &["servers", "listeners", "ports", "addresses"][..], "spec.servers".to_owned()),
        };
        let place = edited_at(moments, kinds, keys);
        sources.insert(CauseCode::ListenerRemoved, source(files, place, &path, &value));
    }
    Listening { listeners: next.routing.listeners.clone(), sources }
}

/// Where an entry of the timeline writes one of these keys of an object's spec, of one of these kinds; else the entry.
pub(super) fn edited_at(moments: &Moments<'_>, kinds: &[&str], keys: &[&str]) -> Place {
    let entry = moments.entry;
    let found = match &entry.verb {
        TimelineVerb::Apply(objects) => objects
            .iter()
            .filter(|object| kinds.contains(&object.id.kind.as_str()))
            .flat_map(|object| keys.iter().filter_map(|key| object.node.find(&["spec", key])))
            .map(|node| node.at)
            .next(),
        TimelineVerb::Set(patches) => {
            let is_one = |text: &str| keys.iter().any(|key| text.contains(&format!(".{key}")));
            patches.iter().find(|patch| is_one(&patch.text)).map(|patch| patch.at)
        }
        _ => None,
    };
    found.unwrap_or(entry.place)
}

pub(super) fn source(files: &Files, place: Place, path: &str, value: &str) -> Source {
    let position = files.position(place);
    Source {
        file: position.map(|(file, ..)| file.to_owned()),
        line: position.map(|(_, line, _)| line),
        path: path.to_owned(),
        value: Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::names_another;

    #[test]
    fn a_list_of_zones_is_written_when_it_names_what_the_balancer_does_not_have() {
        for (known, written, expected) in [
            ("a:x,b:y", "a:x,b:y", false),
            ("a:x,b:y", "b:y, a:x", false),
            ("a:x,b:y,c:z", "a:x,b:y", false),
            ("a:x,b:y", "a:x,b:y,c:z", true),
            ("a:x,b:y", "a:other,b:y", true),
            ("a:x,b:y", "a:x:10.0.0.1,b:y", false),
            ("a:x,b:y", "a:x:10.0.0.1:eip-1,b:y", true),
            ("a:x:10.0.0.1:eip-1,b:y", "a:x:10.0.0.1:eip-1,b:y", false),
            ("a:x:10.0.0.1:eip-1,b:y", "a:x,b:y", false),
            ("", "a:x,b:y", true),
        ] {
            assert_eq!(names_another(known, written), expected, "{known} to {written}");
        }
    }
}
