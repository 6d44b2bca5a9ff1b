//! What was typed, taken apart: listening addresses and endpoints.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::cli::args::GatewayArgs;
use crate::cli::exit::Exit;

/// The options of the command.
#[derive(Clone, Default, Debug)]
pub(super) struct Options {
    /// Files, folders and globs.
    pub(super) manifests: Vec<String>,
    /// `namespace/name` of the Gateway.
    pub(super) gateway: Option<String>,
    pub(super) listen: Vec<Listen>,
    pub(super) endpoints: Vec<Endpoints>,
}

/// `[PORT=]ADDRESS:PORT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Listen {
    /// The port of the manifests; unset: the only one.
    pub(super) port: Option<u16>,
    pub(super) address: SocketAddr,
}

/// `NAME.NAMESPACE:PORT=ADDRESS,…`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Endpoints {
    /// `namespace/name` of the Service.
    pub(super) service: String,
    pub(super) port: u16,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Endpoints {
    /// As it was typed, without the addresses.
    pub(super) fn name(&self) -> String {
        let (namespace, name) = self.service.split_once('/').unwrap_or(("default", &self.service));
        format!("{name}.{namespace}:{}", self.port)
    }
}

impl Options {
    /// Reads what was typed; names are resolved here, once.
    pub(super) fn read(args: &GatewayArgs) -> Result<Self, (Exit, String)> {
        let listen = args.listen.iter().map(|text| listen(text)).collect::<Result<Vec<_>, _>>()?;
        let mut endpoints: Vec<Endpoints> = Vec::new();
        for text in &args.endpoints {
            let more = endpoint(text)?;
            let known = endpoints.iter_mut().find(|known| known.service == more.service && known.port == more.port);
            match known {
                Some(known) => known.addresses.extend(more.addresses),
                None => endpoints.push(more),
            }
        }
        Ok(Self { manifests: args.manifests.clone(), gateway: args.gateway.clone(), listen, endpoints })
    }

    /// Where readiness is answered: on the address of the first listener.
    pub(super) fn status_address(&self, port: u16) -> SocketAddr {
        let first = self.listen.first().map_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)), |listen| listen.address);
        SocketAddr::new(first.ip(), port)
    }
}

fn listen(text: &str) -> Result<Listen, (Exit, String)> {
    let usage = |what: &str| {
        (Exit::Usage, format!("--listen {text}: {what}; write [PORT=]ADDRESS:PORT, such as 80=127.0.0.1:8080"))
    };
    let (port, address) = match text.split_once('=') {
        None => (None, text),
        Some((port, address)) => (Some(port.parse().map_err(|_| usage(&format!("`{port}` is no port")))?), address),
    };
    // A port alone, or with a colon before it, as other tools take it: on all addresses.
    let address = match address.strip_prefix(':').unwrap_or(address).parse::<u16>() {
        Ok(number) => SocketAddr::from(([0, 0, 0, 0], number)),
        Err(_) if !address.contains(':') => return Err(usage(&format!("`{address}` has no port"))),
        Err(_) => resolved(address).map_err(|why| (Exit::Unexpected, format!("--listen {text}: {why}")))?,
    };
    Ok(Listen { port, address })
}

fn endpoint(text: &str) -> Result<Endpoints, (Exit, String)> {
    let usage = |what: String| {
        let form = "write NAME.NAMESPACE:PORT=ADDRESS:PORT, such as web.default:80=127.0.0.1:9001";
        (Exit::Usage, format!("--endpoint {text}: {what}; {form}"))
    };
    let (service, addresses) = text.split_once('=').ok_or_else(|| usage("no address".to_owned()))?;
    let (host, port) = service.rsplit_once(':').ok_or_else(|| usage(format!("`{service}` has no port")))?;
    let port = port.parse().map_err(|_| usage(format!("`{port}` is no port")))?;
    let host = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
    let (name, namespace) = host.split_once('.').ok_or_else(|| usage(format!("`{host}` has no namespace")))?;
    let mut found = Vec::new();
    for address in addresses.split(',').map(str::trim) {
        if address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(usage(format!("`{address}` is no address with a port")));
        }
        let address = resolved(address).map_err(|why| (Exit::Unexpected, format!("--endpoint {text}: {why}")))?;
        if !found.contains(&address) {
            found.push(address);
        }
    }
    Ok(Endpoints { service: format!("{namespace}/{name}"), port, addresses: found })
}

/// The first address of a name, or the address itself.
fn resolved(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| format!("`{text}` does not resolve: {error}"))?;
    found.next().ok_or_else(|| format!("`{text}` does not resolve to any address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (text, port, address) in [
            ("127.0.0.1:8080", None, "127.0.0.1:8080"),
            ("80=127.0.0.1:8080", Some(80), "127.0.0.1:8080"),
            ("443=[::1]:8443", Some(443), "[::1]:8443"),
            ("8080", None, "0.0.0.0:8080"),
            ("80=:8080", Some(80), "0.0.0.0:8080"),
        ] {
            let expected = Listen { port, address: address.parse().unwrap() };
            assert_eq!(listen(text).map_err(|(_, text)| text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn endpoints_name_a_service_and_addresses() {
        let found = endpoint("web.shop:80=127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9001").map_err(|(_, text)| text);
        let addresses = ["127.0.0.1:9001", "127.0.0.1:9002"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(found, Ok(Endpoints { service: "shop/web".to_owned(), port: 80, addresses }));
        let full = endpoint("web.shop.svc.cluster.local:80=127.0.0.1:9001").map(|found| found.service);
        assert_eq!(full.map_err(|(_, text)| text), Ok("shop/web".to_owned()));
    }

    #[test]
    fn what_cannot_be_understood_is_refused_in_a_line() {
        for (text, part) in [("x=127.0.0.1:8080", "`x` is no port"), ("127.0.0.1", "`127.0.0.1` has no port")] {
            let (exit, told) = listen(text).unwrap_err();
            assert!(exit == Exit::Usage && told.contains(part), "{told}");
        }
        for (text, part) in [
            ("web.default:80", "no address"),
            ("web.default=127.0.0.1:1", "has no port"),
            ("web:80=127.0.0.1:1", "`web` has no namespace"),
            ("web.default:80=127.0.0.1", "no address with a port"),
        ] {
            let (exit, told) = endpoint(text).unwrap_err();
            assert!(exit == Exit::Usage && told.contains(part), "{told}");
        }
    }
}
