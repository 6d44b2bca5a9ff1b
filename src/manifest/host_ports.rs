//! Ports of the node that a pod's containers take: `hostPort`, and all of their ports with `hostNetwork`, judged as the API server judges them.
//!
//! A node has each of its ports once, so it is the scheduler's matter. Who dials the node at such a port is not simulated.
//! Source: Kubernetes v1.28.7 pkg/apis/core/validation/validation.go (`AccumulateUniqueHostPorts`, `validateHostNetwork`),
//! pkg/apis/core/v1/defaults.go (`defaultHostNetworkPorts`).

use std::collections::BTreeSet;

use super::read::{Field, Fields};
use crate::cluster::placement::{HostPort, Protocol};

const PROTOCOLS: [(&str, Protocol); 3] = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];
const NOTE: &str = "the port is taken on the pod's node; what is dialled at it is not simulated";

/// What the containers of a pod's specification take.
pub(super) fn read(spec: &Fields<'_>, containers: &[Field<'_>]) -> BTreeSet<HostPort> {
    let is_of_host = spec.look("hostNetwork").is_some_and(|field| field.node().text() == Some("true"));
    let mut taken = BTreeSet::new();
    for port in containers.iter().filter_map(ports_of).flatten() {
        let Some(fields) = port.fields() else { continue };
        let own = fields.look("containerPort").and_then(|field| field.node().text()?.parse::<u16>().ok());
        let written = fields.approximated("hostPort", NOTE);
        let number = written.as_ref().and_then(|field| field.whole::<u16>(0, 65535)).filter(|number| *number > 0);
        if is_of_host && let (Some(field), Some(number)) = (&written, number.filter(|number| Some(*number) != own)) {
            let text = format!("{number} is not the container's port, as it must be with hostNetwork: true");
            field.refuse(text, "write the containerPort, or leave hostPort out: it is taken anyway");
            continue;
        }
        let Some(number) = number.or(own.filter(|_| is_of_host)) else { continue };
        // A word that is none of these is refused where ports are read.
        let word = fields.look("protocol");
        let word = word.as_ref().and_then(|field| field.node().text()).filter(|word| !word.is_empty()).unwrap_or("TCP");
        let protocol = PROTOCOLS.iter().find(|(known, _)| *known == word).map(|(_, protocol)| *protocol);
        let ip = fields.look("hostIP").and_then(|field| field.text()).filter(|ip| !["", "0.0.0.0"].contains(ip));
        let Some(protocol) = protocol else { continue };
        if !taken.insert(HostPort { number, protocol, ip: ip.map(str::to_owned) }) {
            let field = written.as_ref().unwrap_or(&port);
            field.refuse(format!("another container of the pod takes port {number} of the node"), "give each its own");
        }
    }
    taken
}

fn ports_of<'a>(container: &Field<'a>) -> Option<Vec<Field<'a>>> {
    Some(container.fields()?.look("ports")?.items())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::read::Sink;
    use crate::manifest::{deployment, object, yaml};

    /// The host ports of a Deployment whose only container has these ports, and whose pods have these further fields; and the problems.
    fn load(ports: &str, pod: &str) -> (Option<BTreeSet<HostPort>>, Vec<String>) {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: edge, namespace: ns }}\nspec:\n  \
             selector: {{ matchLabels: {{ app: edge }} }}\n  template:\n    metadata: {{ labels: {{ app: edge }} }}\n    \
             spec:\n      {pod}\n      containers: [{{ name: proxy, image: i, ports: [{ports}] }}]\n"
        );
        let (documents, problems) = yaml::parse(&text, 0);
        assert!(problems.is_empty(), "{text}");
        let sink = Sink::default();
        let objects = object::objects(documents, &sink);
        let read = objects.first().and_then(|object| deployment::read(object, &sink));
        let problems = sink.take_problems().iter().map(|problem| problem.text.clone()).collect();
        (read.map(|manifest| manifest.deployment.template.placement.host_ports), problems)
    }

    fn port(number: u16, protocol: Protocol, ip: Option<&str>) -> HostPort {
        HostPort { number, protocol, ip: ip.map(str::to_owned) }
    }

    #[test]
    fn what_is_written_is_taken_and_with_the_hosts_network_every_port() {
        let tcp = |number: u16| port(number, Protocol::Tcp, None);
        for (ports, pod, expected) in [
            ("{ containerPort: 80 }", "restartPolicy: Always", vec![]),
            ("{ containerPort: 80, hostPort: 0 }", "hostNetwork: false", vec![]),
            ("{ containerPort: 80, hostPort: 8080 }", "hostNetwork: false", vec![tcp(8080)]),
            ("{ containerPort: 80, hostPort: 80, hostIP: 0.0.0.0 }", "hostNetwork: false", vec![tcp(80)]),
            (
                "{ containerPort: 53, hostPort: 53 }, { containerPort: 53, hostPort: 53, protocol: UDP, hostIP: 10.0.0.1 }",
                "hostNetwork: false",
                vec![tcp(53), port(53, Protocol::Udp, Some("10.0.0.1"))],
            ),
            (
                "{ containerPort: 80 }, { containerPort: 443, hostPort: 443 }",
                "hostNetwork: true",
                vec![tcp(80), tcp(443)],
            ),
        ] {
            let (taken, problems) = load(ports, pod);
            assert_eq!(problems, Vec::<String>::new(), "{ports}");
            assert_eq!(taken, Some(expected.into_iter().collect()), "{ports} {pod}");
        }
    }

    #[test]
    fn what_the_api_server_refuses_is_refused() {
        for (ports, pod, expected) in [
            (
                "{ containerPort: 80, hostPort: 81 }",
                "hostNetwork: true",
                "81 is not the container's port, as it must be with hostNetwork: true",
            ),
            (
                "{ containerPort: 80, hostPort: 80 }, { containerPort: 81, hostPort: 80 }",
                "hostNetwork: false",
                "another container of the pod takes port 80 of the node",
            ),
            ("{ containerPort: 80, hostPort: 70000 }", "hostNetwork: false", "70000"),
            ("{ containerPort: 80, hostPort: 80, protocol: tcp }", "hostNetwork: false", "`tcp` is not known here"),
        ] {
            let (_, problems) = load(ports, pod);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{ports}: {problems:?}");
        }
    }
}
