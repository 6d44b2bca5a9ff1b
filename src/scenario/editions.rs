//! What needs another edition of ASM, or a newer version of it or of Kubernetes, than the scenario has: told with its line, and simulated all the same.
//!
//! - Autoscaling of a gateway is documented for the editions Enterprise and Ultimate.
//! - An NLB needs Kubernetes 1.24 and, in front of a gateway of ASM, ASM 1.18.
//!
//! Graceful shutdown is told of where it is read ([`super::shutdown`]).
//!
//! Sources: ASM documents, "Create an ingress gateway" and "Use network-based load balancing (NLB) in the ASM ingress gateway"; ACK documents, "Configure NLB
//! instances by using annotations".

use super::settings::{Edition, Settings};
use super::state::Resolved;
use crate::cluster::Version;
use crate::edge::Product;
use crate::manifest::Sink;
use crate::record::results::FidelityStatus;

/// The first Kubernetes with NLBs, and the first ASM.
const NLB_SINCE: (Version, Version) = (Version::new(1, 24), Version::new(1, 18));

/// Tells of what is there too early, or in the wrong edition.
pub(super) fn warn(resolved: &Resolved, settings: &Settings, sink: &Sink) {
    if settings.balancer.product.product != Product::Alibaba {
        return;
    }
    let is_made = resolved.origin.id.kind == "IstioGateway";
    if let Some(service) = resolved.front().filter(|service| service.is_nlb())
        && let Some((_, at)) = &service.load_balancer_class
    {
        let mesh = Version::parse(&settings.gateway.istio).filter(|_| is_made);
        if let Some(text) = too_early(settings.cluster.version, mesh) {
            sink.note(*at, "spec.loadBalancerClass".to_owned(), FidelityStatus::Warning, Some(&text));
        }
    }
    let autoscaled =
        resolved.origin.node.find(&["spec", "autoscaleEnabled"]).filter(|node| node.text() == Some("true"));
    if let Some(node) = autoscaled.filter(|_| is_made && settings.gateway.edition == Edition::Standard) {
        let text = "autoscaling is documented for the editions Enterprise and Ultimate only";
        sink.note(node.at, "spec.autoscaleEnabled".to_owned(), FidelityStatus::Warning, Some(text));
    }
}

/// Which of both is too old for an NLB.
fn too_early(kubernetes: Version, mesh: Option<Version>) -> Option<String> {
    let (of_kubernetes, of_mesh) = NLB_SINCE;
    if kubernetes < of_kubernetes {
        return Some(format!("an NLB needs Kubernetes {of_kubernetes} or later, and this is {kubernetes}"));
    }
    let mesh = mesh.filter(|mesh| *mesh < of_mesh)?;
    Some(format!("an NLB needs ASM {of_mesh} or later, and this is {mesh}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nlb_needs_both() {
        for (kubernetes, mesh, expected) in [
            (24, Some(18), None),
            (23, Some(18), Some("an NLB needs Kubernetes 1.24 or later, and this is 1.23")),
            (24, Some(17), Some("an NLB needs ASM 1.18 or later, and this is 1.17")),
            (23, Some(17), Some("an NLB needs Kubernetes 1.24 or later, and this is 1.23")),
            (24, None, None),
        ] {
            let mesh = mesh.map(|minor| Version::new(1, minor));
            assert_eq!(too_early(Version::new(1, kubernetes), mesh).as_deref(), expected, "{kubernetes} {mesh:?}");
        }
    }
}
