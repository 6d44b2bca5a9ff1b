//! `loadBalancer.profile`: whose load balancer it is, and what is said of its own timings.
//!
//! A profile's numbers hold where neither the scenario nor an annotation says otherwise: `healthCheck` and `controllerLatency` as for Alibaba's balancers, and
//! `registrationTime`, `deregistrationTime` and `failover` for what only other products have.

use std::time::Duration;

use super::resolved::{delay, span, text};
use crate::edge::Product;
use crate::edge::kube_proxy::categories::TrafficPolicy;
use crate::edge::product::Profile;
use crate::engine::Delay;
use crate::manifest::{Fields, Node, Place};

/// Whose load balancer it is.
#[derive(Clone, Debug)]
pub struct ProductSettings {
    /// Its maker.
    pub product: Product,
    /// Where that is written, or would be.
    pub at: Place,
    /// From a registration to the first check; the profile's, if the scenario says nothing.
    pub registration: Option<Delay>,
    /// From a deregistration to the last new connection.
    pub deregistration: Option<Delay>,
    /// From a node's death to another that answers for the address.
    pub failover: Option<Delay>,
    /// How long a connection of a proxy for HTTP may be silent, on both of its sides.
    pub idle: Option<Duration>,
}

impl ProductSettings {
    /// How the product behaves under a policy, with what the scenario says; nothing for Alibaba's.
    pub(super) fn profile(&self, policy: TrafficPolicy) -> Option<Profile> {
        let mut profile = self.product.profile(policy)?;
        let ways = &mut profile.ways;
        for (written, usual) in
            [(&self.registration, &mut ways.registration), (&self.deregistration, &mut ways.deregistration)]
        {
            if let Some(written) = written {
                *usual = written.clone();
            }
        }
        ways.failover = ways.failover.take().map(|usual| self.failover.clone().unwrap_or(usual));
        Some(profile)
    }

    /// From an endpoint's change to the controller's call, where the scenario says nothing.
    pub(super) fn controller(&self) -> Option<Delay> {
        Some(self.product.profile(TrafficPolicy::Cluster)?.controller)
    }

    /// What is written, once more.
    pub(super) fn entries(&self) -> Vec<(&'static str, Node)> {
        let Some(profile) = self.profile(TrafficPolicy::Cluster) else { return Vec::new() };
        let mut entries = vec![("profile", text(self.product.name()))];
        match profile.ways.failover {
            Some(failover) => entries.push(("failover", delay(&failover))),
            None => {
                entries.push(("registrationTime", delay(&profile.ways.registration)));
                entries.push(("deregistrationTime", delay(&profile.ways.deregistration)));
            }
        }
        if let Some(http) = profile.http {
            entries.push(("idleTimeout", span(self.idle.unwrap_or(http.client_idle))));
        }
        entries
    }
}

/// What not all products have, and nobody else reads.
const OWN_KEYS: [&str; 4] = ["idleTimeout", "registrationTime", "deregistrationTime", "failover"];

/// Reads it, and refuses what another product has.
pub(super) fn read(balancer: Option<&Fields<'_>>, at: Place) -> Option<ProductSettings> {
    let get = |key: &str| balancer.and_then(|fields| fields.get(key));
    let profile = get("profile");
    let product = match &profile {
        Some(field) => field.choice(&Product::NAMES),
        None => Some(Product::Alibaba),
    };
    let Some(product) = product else {
        // Nobody can say what a product has whose name is not known.
        OWN_KEYS.iter().for_each(|key| drop(get(key)));
        return None;
    };
    let is_alibaba = product == Product::Alibaba;
    let has_leader = product == Product::MetalLb;
    let not_here = [
        ("controller", !is_alibaba, "this is how the controller of Alibaba's balancers works"),
        ("callLatency", !is_alibaba, "this is how the controller of Alibaba's balancers works"),
        ("throttled", !is_alibaba, "this is how the controller of Alibaba's balancers works"),
        ("tlsRoundTrips", !is_alibaba, "nothing is decrypted at this product here"),
        ("withoutDrain", !is_alibaba, "this is assumed of Alibaba's balancers; a profile says what its product does"),
        ("targetKeepAlive", !is_alibaba, "this is assumed of a CLB; a profile says what its product does"),
        (
            "idleTimeout",
            product != Product::AwsAlb,
            "only an Application Load Balancer has it: elsewhere it is an annotation's",
        ),
        ("registrationTime", is_alibaba || has_leader, "this product registers targets at once"),
        ("deregistrationTime", is_alibaba || has_leader, "this product removes targets at once"),
        ("failover", !has_leader, "no node answers for the address of this product"),
        ("healthCheck", has_leader, "MetalLB checks nothing: it follows endpoints and its own speakers"),
    ];
    let mut is_right = true;
    for (key, is_refused, why) in not_here {
        if let Some(field) = get(key).filter(|_| is_refused) {
            let help = format!("take it out, or choose another profile than {}", product.name());
            field.refuse(why, help);
            is_right = false;
        }
    }
    let span = |key: &str| match get(key) {
        Some(field) => field.delay().map(Some),
        None => Some(None),
    };
    let (registration, deregistration, failover) =
        (span("registrationTime"), span("deregistrationTime"), span("failover"));
    let idle = match get("idleTimeout") {
        Some(field) => {
            let idle = field.duration()?;
            if !(Duration::from_secs(1)..=Duration::from_secs(4000)).contains(&idle) {
                field.refuse("AWS takes 1 to 4000 seconds", "write 60s, for example");
                return None;
            }
            Some(Some(idle))
        }
        None => Some(None),
    };
    is_right.then_some(ProductSettings {
        idle: idle?,
        product,
        at: profile.map_or(at, |field| field.place()),
        registration: registration?,
        deregistration: deregistration?,
        failover: failover?,
    })
}
