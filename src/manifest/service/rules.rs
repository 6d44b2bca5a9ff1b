//! What the API server refuses of a Service, in its own words.
//!
//! Source: Kubernetes v1.28.7 pkg/apis/core/validation/validation.go (`ValidateService`, `validateServicePort`, `ValidateServiceClusterIPsRelatedFields`,
//! `validateServiceExternalTrafficPolicy`, `validateAffinityTimeout`),
//! pkg/registry/core/service/portallocator/allocator.go (node ports, 30000 to 32767 by default).

use std::collections::{BTreeMap, BTreeSet};

use super::{ServiceKind, ServiceManifest};
use crate::edge::TrafficPolicy;
use crate::manifest::names;
use crate::manifest::problem::{Place, Problem};
use crate::manifest::read::{Field, Fields, Sink};
use crate::record::results::FidelityStatus;

/// The first and the last node port. Source: kube-apiserver `--service-node-port-range`.
pub const NODE_PORTS: (i64, i64) = (30_000, 32_767);

const ONLY_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";

/// A node port; 0 counts as absent.
pub(super) fn node_port(field: &Field<'_>) -> Option<u16> {
    let number = field.whole::<u16>(0, 65_535).filter(|number| *number > 0)?;
    if !(NODE_PORTS.0..=NODE_PORTS.1).contains(&i64::from(number)) {
        field.refuse(
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
            format!("{number} is out of it: write one of these, or leave it out and one is drawn"),
        );
        return None;
    }
    Some(number)
}

/// Fields that only some types of Service may have. Returns the `healthCheckNodePort`.
pub(super) fn check_type(spec: &Fields<'_>, kind: ServiceKind, policy: TrafficPolicy) -> Option<(u16, Place)> {
    let has_balancer = kind == ServiceKind::LoadBalancer;
    if let Some(field) = spec.look("externalTrafficPolicy")
        && !matches!(kind, ServiceKind::LoadBalancer | ServiceKind::NodePort)
    {
        let help = "take it out: within the cluster internalTrafficPolicy decides";
        field.refuse("may only be set for externally-accessible services", help);
    }
    for key in ["loadBalancerClass", "allocateLoadBalancerNodePorts", "loadBalancerSourceRanges"] {
        if let Some(field) = spec.look(key)
            && !has_balancer
        {
            field.refuse(ONLY_BALANCER, "take it out, or write type: LoadBalancer");
        }
    }
    let field = spec.look("healthCheckNodePort")?;
    let number = node_port(&field)?;
    if !has_balancer || policy != TrafficPolicy::Local {
        field.refuse(
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            "take it out, or write externalTrafficPolicy: Local for a LoadBalancer",
        );
        return None;
    }
    Some((number, field.place()))
}

/// Ports of nodes that a Service of its type has none of.
pub(super) fn check_node_ports(spec: &Fields<'_>, kind: ServiceKind) {
    let ports = spec.look("ports").map(|field| field.items()).unwrap_or_default();
    for port in ports.iter().filter_map(Field::fields) {
        if let Some(field) = port.look("nodePort")
            && !matches!(kind, ServiceKind::LoadBalancer | ServiceKind::NodePort)
            && field.node().text() != Some("0")
        {
            field.refuse("may not be used when `type` is 'ClusterIP'", "take it out, or write type: NodePort");
        }
    }
}

/// Names of ports, and ports that stand twice: each protocol has ports of its own.
pub(super) fn check_ports(field: &Field<'_>) {
    let items = field.items();
    let (mut known_names, mut known_ports) = (BTreeSet::new(), BTreeSet::new());
    for item in &items {
        let Some(fields) = item.fields() else { continue };
        let text = |key: &str| fields.look(key).and_then(|field| field.node().text());
        match fields.look("name").filter(|name| name.node().text() != Some("")) {
            None if items.len() > 1 => {
                let path = format!("{}.name", item.path());
                let problem = Problem::at(item.place(), path, "Required value");
                item.sink().report(problem.help("name every port of a Service that has several, as in name: http"));
            }
            None => {}
            Some(name) => {
                let Some(text) = name.text() else { continue };
                if let Some(told) = names::wrong_label(text) {
                    name.refuse(told, format!("`{text}` does not: write a name such as http2"));
                } else if !known_names.insert(text) {
                    name.refuse(format!("Duplicate value: \"{text}\""), "each port has a name of its own");
                }
            }
        }
        if let Some(target) = fields.look("targetPort")
            && let Some(text) = target.node().text().filter(|text| text.parse::<i64>().is_err())
            && let Some(told) = names::wrong_port(text)
        {
            target.refuse(told, format!("`{text}` does not: write a number, or the name of a container's port"));
        }
        if let Some(protocol) = fields.look("appProtocol")
            && protocol.text().is_some_and(|text| !names::is_qualified(text))
        {
            protocol.refuse("it is no qualified name", "write one such as http2 or kubernetes.io/h2c");
        }
        let Some(port) = text("port") else { continue };
        let protocol = text("protocol").filter(|protocol| ["UDP", "SCTP"].contains(protocol)).unwrap_or("TCP");
        if !known_ports.insert((port, protocol)) {
            let help =
                format!("each port of a Service has a number of its own: {port} is there already over {protocol}");
            item.refuse(format!("Duplicate value: {{\"protocol\": \"{protocol}\", \"port\": {port}}}"), help);
        }
    }
}

/// Where it is written that a Service has no address of its own.
pub(super) fn headless_at(spec: &Fields<'_>) -> Option<Place> {
    spec.look("clusterIP").filter(|field| field.node().text() == Some("None")).map(|field| field.place())
}

/// Addresses of a Service, and who may use them.
pub(super) fn check_addresses(spec: &Fields<'_>, kind: ServiceKind) {
    let written = |key: &str| spec.look(key).filter(|field| !field.node().is_empty());
    if kind == ServiceKind::ExternalName {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(field) = written(key).filter(|field| field.node().text() != Some("")) {
                field.refuse("may not be set for ExternalName services", "take it out");
            }
        }
        let name = spec.look("externalName").and_then(|field| Some((field.text()?.to_owned(), field)));
        match name.filter(|(text, _)| !text.is_empty()) {
            None => spec.missing("externalName", "write the DNS name that it stands for"),
            Some((text, field)) if !names::is_subdomain(text.strip_suffix('.').unwrap_or(&text)) => {
                field.refuse(format!("`{text}` is no DNS name"), "write one such as api.example.com");
            }
            Some(_) => {}
        }
    } else {
        check_cluster_addresses(spec, kind);
    }
    for field in spec.look("externalIPs").map(|field| field.items()).unwrap_or_default() {
        if let Some(told) = field.text().and_then(names::wrong_external) {
            field.refuse(told, "write an address that leads to the nodes");
        }
    }
    for field in spec.look("loadBalancerSourceRanges").map(|field| field.items()).unwrap_or_default() {
        if field.text().is_some_and(|text| !names::is_range(text.trim())) {
            let text = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            field.refuse(text, "write the range of clients that may come in");
        }
    }
}

fn check_cluster_addresses(spec: &Fields<'_>, kind: ServiceKind) {
    let address = spec.look("clusterIP").filter(|field| field.node().text() != Some(""));
    let all = spec.look("clusterIPs").map(|field| field.items()).unwrap_or_default();
    let first = all.first().and_then(|field| field.node().text());
    if let (Some(written), Some(list)) = (first, spec.look("clusterIPs")) {
        match address.as_ref().and_then(|field| field.node().text()) {
            None => list.refuse("must be empty when `clusterIP` is not specified", "write clusterIP too, or neither"),
            Some(text) if text != written => {
                list.refuse("first value must match `clusterIP`", format!("write {text} first, or clusterIPs alone"));
            }
            Some(_) => {}
        }
        if all.len() > 2 {
            list.refuse("may only hold up to 2 values", "write one for each family of addresses");
        } else if all.len() > 1 && written == "None" {
            list.refuse("'None' must be the first and only value", "take the others out");
        }
    }
    for field in address.iter().chain(&all) {
        let Some(text) = field.text() else { continue };
        if text == "None" {
            let word = match kind {
                ServiceKind::LoadBalancer => "LoadBalancer",
                ServiceKind::NodePort => "NodePort",
                ServiceKind::ClusterIp | ServiceKind::ExternalName => continue,
            };
            let text = format!("may not be set to 'None' for {word} services");
            field.refuse(text, "take it out: who comes from outside is led to the Service's own address");
        } else if names::address(text).is_none() {
            let help = "leave it out, and the cluster gives it an address";
            field.refuse("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", help);
        }
    }
    let mut known = BTreeSet::new();
    for field in spec.look("ipFamilies").map(|field| field.items()).unwrap_or_default() {
        if field.choice(&[("IPv4", ()), ("IPv6", ())]).is_some() && !known.insert(field.node().text()) {
            field.refuse("Duplicate value", "each family stands once");
        }
    }
    if let Some(field) = spec.look("ipFamilyPolicy") {
        let _ = field.choice(&[("SingleStack", ()), ("PreferDualStack", ()), ("RequireDualStack", ())]);
    }
}

/// A seconds' count of `sessionAffinityConfig`.
pub(super) fn affinity_seconds(field: &Field<'_>) -> Option<u64> {
    let seconds = field.whole::<i64>(i64::MIN, i64::MAX)?;
    if !(1..=super::AFFINITY_SECONDS_MAX).contains(&seconds) {
        let help = format!("{seconds} is out of range: write 1 to {}", super::AFFINITY_SECONDS_MAX);
        field.refuse(format!("must be greater than 0 and less than {}", super::AFFINITY_SECONDS_MAX), help);
        return None;
    }
    u64::try_from(seconds).ok()
}

/// Annotations of a balancer on a Service that has none.
pub(super) fn note_unused(value: &Field<'_>) {
    value.note(FidelityStatus::Ignored, Some("no balancer's controller reads it: the Service has another type"));
}

/// No two Services have the same node port.
pub fn check_allocation(services: &BTreeMap<String, ServiceManifest>, sink: &Sink) {
    let mut taken: BTreeMap<u16, &str> = BTreeMap::new();
    for (key, service) in services {
        for (port, place) in &service.taken {
            let Some(other) = taken.insert(*port, key) else { continue };
            let text = if other == key {
                format!("Duplicate value: {port}")
            } else {
                "provided port is already allocated".to_owned()
            };
            let problem = Problem::at(*place, "spec.ports.nodePort", text);
            sink.report(problem.help(format!("Service {other} has node port {port}: write another, or leave it out")));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::service::{self, ServiceManifest};
    use crate::manifest::{Sink, object, yaml};

    /// A Service with these lines in its spec: what is read, and the problems.
    fn load(spec: &str) -> (Option<ServiceManifest>, Vec<String>) {
        let text =
            format!("apiVersion: v1\nkind: Service\nmetadata: {{ name: edge, namespace: ns }}\nspec: {{ {spec} }}\n");
        let (documents, problems) = yaml::parse(&text, 0);
        assert!(problems.is_empty(), "{text}");
        let sink = Sink::default();
        let objects = object::objects(documents, &sink);
        let manifest = service::read(&objects[0], &sink);
        let problems = sink.take_problems();
        assert!(problems.iter().all(|problem| problem.help.is_some() && problem.place.is_written()), "{problems:?}");
        (manifest, problems.iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect())
    }

    #[track_caller]
    fn taken(spec: &str) -> ServiceManifest {
        let (manifest, problems) = load(spec);
        assert_eq!(problems, Vec::<String>::new(), "{spec}");
        manifest.expect("it is whole")
    }

    #[track_caller]
    fn refused(spec: &str, part: &str) {
        let (_, problems) = load(spec);
        assert!(problems.len() == 1 && problems[0].contains(part), "{spec}: {problems:?}, not {part}");
    }

    #[test]
    fn ports_have_names_where_there_are_several() {
        taken("ports: [ { port: 80 } ]");
        taken("ports: [ { port: 80, name: \"\" } ]");
        taken("ports: [ { port: 80, name: a }, { port: 81, name: b } ]");
        refused("ports: [ { port: 80 }, { port: 81, name: b } ]", "spec.ports[0].name: Required value");
        refused("ports: [ { port: 80, name: a }, { port: 81, name: \"\" } ]", "spec.ports[1].name: Required value");
        refused(
            "ports: [ { port: 80, name: a }, { port: 81, name: a } ]",
            "spec.ports[1].name: Duplicate value: \"a\"",
        );
        refused("ports: [ { port: 80, name: A_b } ]", "spec.ports[0].name: a lowercase RFC 1123 label must");
        taken("ports: [ { port: 80, name: a-name-of-more-than-fifteen } ]");
        refused(
            "ports: [ { port: 80, targetPort: a-name-of-more-than-fifteen } ]",
            "targetPort: must be no more than 15",
        );
        refused("ports: [ { port: 80, appProtocol: a b } ]", "appProtocol: it is no qualified name");
        taken("ports: [ { port: 80, appProtocol: kubernetes.io/h2c, targetPort: fifteen-letters } ]");
    }

    #[test]
    fn each_protocol_has_ports_of_its_own() {
        let both = "ports: [ { port: 53, name: a, protocol: TCP }, { port: 53, name: b, protocol: UDP } ]";
        assert_eq!(taken(both).ports.len(), 1, "only TCP is simulated");
        refused(
            "ports: [ { port: 80, name: a }, { port: 80, name: b, protocol: TCP } ]",
            "spec.ports[1]: Duplicate value: {\"protocol\": \"TCP\", \"port\": 80}",
        );
        refused(
            "ports: [ { port: 53, name: a, protocol: UDP }, { port: 53, name: b, protocol: UDP } ]",
            "Duplicate value",
        );
        refused("ports: [ { port: 80, protocol: HTTP } ]", "spec.ports[0].protocol: `HTTP` is not known here");
        refused("ports: [ { port: 80, protocol: tcp } ]", "spec.ports[0].protocol: `tcp`");
    }

    #[test]
    fn addresses_are_addresses_and_ranges_are_ranges() {
        const PORTS: &str = "ports: [ { port: 80 } ]";
        for spec in [
            "clusterIP: 10.0.0.1",
            "clusterIP: None",
            "clusterIP: None, clusterIPs: [ None ]",
            "clusterIP: \"\"",
            "clusterIP: 10.0.0.1, clusterIPs: [ 10.0.0.1, \"fd00::1\" ]",
            "ipFamilyPolicy: PreferDualStack, ipFamilies: [ IPv6, IPv4 ]",
            "externalIPs: [ 1.2.3.4 ]",
            "type: LoadBalancer, loadBalancerSourceRanges: [ 10.0.0.0/8, \" 1.2.3.4/32 \" ]",
        ] {
            taken(&format!("{PORTS}, {spec}"));
        }
        assert!(taken(&format!("{PORTS}, clusterIP: None")).headless_at.is_some());
        assert!(taken(&format!("{PORTS}, clusterIP: 10.0.0.1")).headless_at.is_none());
        for (spec, part) in [
            ("clusterIP: none", "spec.clusterIP: must be a valid IP address"),
            ("type: LoadBalancer, clusterIP: None", "may not be set to 'None' for LoadBalancer services"),
            ("type: NodePort, clusterIP: None", "may not be set to 'None' for NodePort services"),
            ("clusterIPs: [ 10.0.0.1 ]", "must be empty when `clusterIP` is not specified"),
            ("clusterIP: 10.0.0.1, clusterIPs: [ 10.0.0.2 ]", "first value must match `clusterIP`"),
            ("clusterIP: None, clusterIPs: [ None, 10.0.0.2 ]", "'None' must be the first and only value"),
            ("ipFamilyPolicy: Dual", "spec.ipFamilyPolicy: `Dual` is not known here"),
            ("ipFamilies: [ IPv4, IPv4 ]", "spec.ipFamilies[1]: Duplicate value"),
            ("ipFamilies: [ ipv4 ]", "spec.ipFamilies[0]: `ipv4`"),
            ("externalIPs: [ 1.2.3.400 ]", "spec.externalIPs[0]: must be a valid IP address"),
            ("externalIPs: [ 127.0.0.1 ]", "may not be in the loopback range"),
            (
                "type: LoadBalancer, loadBalancerSourceRanges: [ 10.0.0.0/40 ]",
                "spec.loadBalancerSourceRanges[0]: must be a valid CIDR value",
            ),
        ] {
            refused(&format!("{PORTS}, {spec}"), part);
        }
    }

    #[test]
    fn external_names_have_a_name_and_no_address() {
        taken("type: ExternalName, externalName: api.example.com.");
        refused("type: ExternalName", "spec.externalName: this is missing");
        refused("type: ExternalName, externalName: A_b", "`A_b` is no DNS name");
        refused(
            "type: ExternalName, externalName: a.b, clusterIP: 10.0.0.1",
            "may not be set for ExternalName services",
        );
        refused(
            "type: ExternalName, externalName: a.b, ipFamilyPolicy: SingleStack",
            "may not be set for ExternalName",
        );
    }
}
