//! Services as `kubectl get svc -o wide` shows them.
//!
//! Node ports that nobody wrote are drawn by the API server, from the upper part of their range; here they follow from the Service's name and port, so that
//! they are the same in every run. Those of the Service in front are the ones that nodes really listen on.
//!
//! Source: Kubernetes v1.28.7 pkg/printers/internalversion/printers.go `printService`, `makePortString`, `getServiceExternalIP`; KEP-3668 (the first 86 of the range are left for those who choose).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::service_ips::{hash, service_ips};
use super::{age, plain};
use crate::cluster::{FacePort, Service, ServiceKind};
use crate::units::SimTime;

/// Node ports that are drawn.
const DRAWN: std::ops::RangeInclusive<u16> = 30_086..=32_767;

/// The Service in front, and its address.
pub(in crate::drill) struct Front<'a> {
    pub(in crate::drill) service: &'a str,
    /// The balancer's name or address, if there is one.
    pub(in crate::drill) address: Option<String>,
    /// Each with its node port, if nodes have one.
    pub(in crate::drill) ports: BTreeMap<u16, Option<u16>>,
    /// The balancer is wanted, and not there.
    pub(in crate::drill) is_pending: bool,
    /// Further Services of type `LoadBalancer` that came in mid-run, each with its address; none: it is pending.
    pub(in crate::drill) further: BTreeMap<Rc<str>, Further>,
}

/// The address of a further Service of type `LoadBalancer`; none: it is pending.
#[derive(Clone)]
pub(in crate::drill) struct Further {
    pub(in crate::drill) ip: Option<Ipv4Addr>,
}

/// All Services of a cluster.
pub(super) struct Rows<'a> {
    services: Vec<(Service, SimTime)>,
    front: &'a Front<'a>,
    ips: BTreeMap<Rc<str>, Ipv4Addr>,
    drawn: BTreeMap<(Rc<str>, u16), u16>,
}

impl<'a> Rows<'a> {
    /// Those that a cluster knows, with the times of their creation.
    pub(super) fn new(services: Vec<(Service, SimTime)>, front: &'a Front<'a>) -> Self {
        let ips = service_ips(services.iter().map(|(service, _)| &service.key));
        let drawn = drawn_ports(services.iter().map(|(service, _)| service), front);
        Self { services, front, ips, drawn }
    }

    /// The rows of a namespace.
    pub(super) fn of(&self, namespace: &str, now: SimTime) -> Vec<Vec<String>> {
        let is_here = |service: &Service| service.key.split('/').next() == Some(namespace);
        self.services
            .iter()
            .filter(|(service, _)| is_here(service))
            .map(|(service, at)| self.row(service, *at, now))
            .collect()
    }

    fn row(&self, service: &Service, created_at: SimTime, now: SimTime) -> Vec<String> {
        let kind = self.kind(service);
        let none = || "<none>".to_owned();
        let cluster_ip = match &service.face.cluster_ip {
            _ if kind == ServiceKind::ExternalName => none(),
            Some(written) => written.clone(),
            None => self.ips[&service.key].to_string(),
        };
        let external = match kind {
            ServiceKind::LoadBalancer => self.address(service).unwrap_or_else(|| "<pending>".to_owned()),
            ServiceKind::ExternalName => service.face.external_name.clone().unwrap_or_else(none),
            ServiceKind::ClusterIp | ServiceKind::NodePort => none(),
        };
        let ports = service.face.ports.iter().map(|port| match self.node_port(service, port) {
            Some(node_port) => format!("{}:{node_port}/{}", port.port, port.protocol),
            None => format!("{}/{}", port.port, port.protocol),
        });
        let ports: Vec<String> = ports.collect();
        let ports = if ports.is_empty() { none() } else { ports.join(",") };
        vec![plain(&service.key), kind.to_string(), cluster_ip, external, ports, age(created_at, now)]
    }

    /// Its type: of the Service in front, a drill may want a balancer whatever the manifest says.
    fn kind(&self, service: &Service) -> ServiceKind {
        let has_balancer = self.is_front(service) && (self.front.address.is_some() || self.front.is_pending);
        if has_balancer { ServiceKind::LoadBalancer } else { service.face.kind }
    }

    fn is_front(&self, service: &Service) -> bool {
        *service.key == *self.front.service
    }

    /// The address of its balancer. One that stood from the start has one; whoever names the balancer of the Service in front has that one's.
    fn address(&self, service: &Service) -> Option<String> {
        if self.is_front(service) {
            return self.front.address.clone();
        }
        if let Some(further) = self.front.further.get(&service.key) {
            return further.ip.map(|ip| ip.to_string());
        }
        let of_front = self.services.iter().find(|(front, _)| self.is_front(front));
        let id = service.face.balancer_id.as_ref();
        if id.is_some() && of_front.and_then(|(front, _)| front.face.balancer_id.as_ref()) == id {
            return self.front.address.clone();
        }
        // One of a range for examples, by its name.
        let own = u8::try_from(hash(&service.key) % 54).unwrap_or_default();
        Some(Ipv4Addr::new(203, 0, 113, 200 + own).to_string())
    }

    fn node_port(&self, service: &Service, port: &FacePort) -> Option<u16> {
        let of_front = || self.front.ports.get(&port.port).copied().flatten().filter(|_| self.is_front(service));
        let drawn = || self.drawn.get(&(Rc::clone(&service.key), port.port)).copied();
        if !self.kind(service).is_on_nodes() {
            return None;
        }
        of_front().or(port.node_port).or_else(drawn)
    }
}

/// Node ports for those ports that need one and have none, each from its Service's name and number.
fn drawn_ports<'a>(services: impl Iterator<Item = &'a Service>, front: &Front<'_>) -> BTreeMap<(Rc<str>, u16), u16> {
    let mut services: Vec<&Service> = services.collect();
    services.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let written = services.iter().flat_map(|service| &service.face.ports).filter_map(|port| port.node_port);
    let mut taken: BTreeSet<u16> = front.ports.values().flatten().copied().chain(written).collect();
    let mut drawn = BTreeMap::new();
    let count = DRAWN.end() - DRAWN.start() + 1;
    for service in services.iter().filter(|service| !service.face.draws_no_node_ports) {
        for port in service.face.ports.iter().filter(|port| port.node_port.is_none()) {
            let first =
                u16::try_from(hash(&format!("{}:{}", service.key, port.port)) % u32::from(count)).unwrap_or_default();
            let mut all = (0..count).map(|step| DRAWN.start() + (first + step) % count);
            if let Some(free) = all.find(|number| !taken.contains(number)) {
                taken.insert(free);
                drawn.insert((Rc::clone(&service.key), port.port), free);
            }
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ServiceFace;

    fn service(key: &str, kind: ServiceKind, ports: &[(u16, Option<u16>)]) -> (Service, SimTime) {
        let ports =
            ports.iter().map(|(port, node_port)| FacePort { port: *port, node_port: *node_port, protocol: "TCP" });
        let face = ServiceFace { kind, ports: ports.collect(), ..ServiceFace::default() };
        let key = Rc::from(key);
        (Service { key, selector: BTreeMap::new(), publish_not_ready: false, face }, SimTime::ZERO)
    }

    fn front(ports: &[(u16, Option<u16>)]) -> Front<'static> {
        let ports = ports.iter().copied().collect();
        Front { service: "edge/gateway", address: None, ports, is_pending: false, further: BTreeMap::new() }
    }

    #[test]
    fn each_type_shows_what_it_has() {
        let front = Front { address: Some("lb.example".to_owned()), ..front(&[(80, Some(31_080))]) };
        let mut services = vec![
            service("edge/gateway", ServiceKind::LoadBalancer, &[(80, None), (443, Some(30_443))]),
            service("edge/headless", ServiceKind::ClusterIp, &[(8080, None)]),
            service("edge/nodes", ServiceKind::NodePort, &[(80, Some(30_081))]),
            service("edge/outside", ServiceKind::ExternalName, &[]),
            service("other/internal", ServiceKind::ClusterIp, &[(80, None), (81, None)]),
        ];
        services[1].0.face.cluster_ip = Some("None".to_owned());
        services[3].0.face.external_name = Some("shop.example".to_owned());
        let rows = Rows::new(services, &front);
        let shown = |namespace: &str| {
            let rows = rows.of(namespace, SimTime::from_nanos(5_000_000_000)).into_iter();
            rows.map(|row| [&row[1], &row[3], &row[4], &row[5]].map(String::as_str).join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(
            shown("edge"),
            [
                "LoadBalancer lb.example 80:31080/TCP,443:30443/TCP 5s",
                "ClusterIP <none> 8080/TCP 5s",
                "NodePort <none> 80:30081/TCP 5s",
                "ExternalName shop.example <none> 5s",
            ]
        );
        assert_eq!(shown("other"), ["ClusterIP <none> 80/TCP,81/TCP 5s"]);
        assert_eq!(
            (rows.of("edge", SimTime::ZERO)[1][2].as_str(), rows.of("edge", SimTime::ZERO)[3][2].as_str()),
            ("None", "<none>")
        );
    }

    #[test]
    fn node_ports_that_nobody_wrote_are_drawn_and_no_two_alike() {
        let services: Vec<_> = (0..500)
            .map(|number| service(&format!("a/s{number}"), ServiceKind::NodePort, &[(80, None), (81, None)]))
            .collect();
        let front = front(&[(80, Some(31_080))]);
        let drawn = drawn_ports(services.iter().map(|(service, _)| service), &front);
        let distinct: BTreeSet<u16> = drawn.values().copied().collect();
        assert_eq!((drawn.len(), distinct.len()), (1000, 1000));
        assert!(distinct.iter().all(|port| DRAWN.contains(port) && *port != 31_080));
        // Who is to draw none has none.
        let mut closed = service("a/closed", ServiceKind::LoadBalancer, &[(80, None)]);
        closed.0.face.draws_no_node_ports = true;
        assert_eq!(Rows::new(vec![closed], &front).of("a", SimTime::ZERO)[0][4], "80/TCP");
    }
}
