//! The annotations that Alibaba's controllers read: of which product, what they may say, and whether that matters here.
//!
//! Values go two ways. What the controller hands to the cloud's API as it stands, or cannot read as a number, fails: nothing of the Service is changed. What
//! it compares with a word itself, such as `on`, it takes for off without a complaint. Some words count in any case of letters (`EqualFold`, `ToUpper`), or are
//! handed to an API whose own spelling differs (`Wrr`, `TCP`). An empty value is none: the controller asks whether a value is empty, and of both spellings of a
//! name the newer hides the older even so.
//!
//! Sources: kubernetes/cloud-provider-alibaba-cloud eeb0ddc68 pkg/controller/service/reconcile/annotation (the names; `Get`) and {clbv1,nlbv2}
//! (`buildListenerFromServicePort`, `setServerGroupAttributeFromAnno`, `buildVGroupForServicePort`), pkg/model/nlb (`GetAddressType`); Alibaba Cloud "Use annotations to
//! configure CLB", "… NLB"; the API's pages on listeners and server groups for the ranges.

use super::super::read::{Field, did_you_mean};
use crate::record::results::FidelityStatus;

/// Both spellings of Alibaba's annotations; the first is looked up first. Source: cloud-provider-alibaba-cloud.
pub const PREFIXES: [&str; 2] =
    ["service.beta.kubernetes.io/alibaba-cloud-loadbalancer-", "service.beta.kubernetes.io/alicloud-loadbalancer-"];

/// Which product's controller reads an annotation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the products' names")]
pub enum Product {
    Clb,
    Nlb,
    Both,
}

/// What a value may be, and what becomes of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Values {
    /// Anything.
    Any,
    /// A whole number from the first to the second; the cloud's API rejects others.
    Number(u64, u64),
    /// One of these words; the API rejects others.
    Word(&'static [&'static str]),
    /// One of these words, in any case of letters; others are rejected.
    WordAnyCase(&'static [&'static str]),
    /// This word; all others are taken for its contrary.
    Only(&'static str),
    /// This word, in any case of letters; all others are taken for its contrary.
    OnlyAnyCase(&'static str),
}

/// What an annotation does to simulated traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// What it does to real traffic.
    Modelled,
    /// Nearly that.
    Approximated(&'static str),
    /// Nothing, and nothing to real traffic either.
    None,
    /// Nothing, though it would.
    Ignored(&'static str),
}

/// One annotation.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its last part.
    pub suffix: &'static str,
    /// Whose it is.
    pub product: Product,
    /// What it may say.
    pub values: Values,
    /// What it does.
    pub effect: Effect,
}

const fn row(suffix: &'static str, product: Product, values: Values, effect: Effect) -> Row {
    Row { suffix, product, values, effect }
}

use Effect::{Approximated, Ignored, Modelled};
use Product::{Both, Clb, Nlb};
use Values::{Any, Number, Only, OnlyAnyCase, Word, WordAnyCase};

const COOKIES: Effect = Ignored("clients of a drill send no cookies back, so nobody is kept at a target");
/// What is said of server groups that exist already.
pub const REUSE: &str = "server groups that exist already are not simulated";
const ON_OFF: Values = Word(&["on", "off"]);

/// All annotations.
pub const ROWS: &[Row] = &[
    row("address-type", Clb, Word(&["internet", "intranet"]), Effect::None),
    row("address-type", Nlb, WordAnyCase(&["internet", "intranet"]), Effect::None),
    row("id", Both, Any, Modelled),
    row("force-override-listeners", Both, Only("true"), Modelled),
    row("spec", Clb, Any, Modelled),
    row("instance-charge-type", Clb, Word(&["PayBySpec", "PayByCLCU"]), Modelled),
    row("charge-type", Clb, Word(&["paybytraffic", "paybybandwidth"]), Effect::None),
    row("bandwidth", Clb, Number(1, 5000), Ignored("bandwidth is not simulated")),
    row("master-zoneid", Clb, Any, Effect::None),
    row("slave-zoneid", Clb, Any, Effect::None),
    row("vswitch-id", Clb, Any, Effect::None),
    row("slb-network-type", Clb, Any, Effect::None),
    row("ip", Clb, Any, Effect::None),
    row("external-ip-type", Clb, Any, Effect::None),
    row("ip-version", Clb, Word(&["ipv4", "ipv6"]), Effect::None),
    row("ip-version", Nlb, WordAnyCase(&["ipv4", "DualStack"]), Effect::None),
    row("name", Both, Any, Effect::None),
    row("resource-group-id", Both, Any, Effect::None),
    row("additional-resource-tags", Both, Any, Effect::None),
    row("delete-protection", Clb, ON_OFF, Effect::None),
    row("modification-protection", Clb, Word(&["ConsoleProtection", "NonProtection"]), Effect::None),
    row("preserve-lb-on-delete", Both, Any, Modelled),
    row("hostname", Clb, Any, Modelled),
    row("protocol-port", Both, Any, Modelled),
    row("scheduler", Clb, Word(&["rr", "wrr", "wlc", "sch", "tch"]), Modelled),
    row("scheduler", Nlb, WordAnyCase(&["wrr", "rr", "sch", "tch", "qch"]), Modelled),
    row("connection-drain", Clb, Any, Modelled),
    row("connection-drain", Nlb, OnlyAnyCase("on"), Modelled),
    row("connection-drain-timeout", Both, Any, Modelled),
    row("established-timeout", Clb, Number(10, 900), Modelled),
    row("idle-timeout", Clb, Number(1, 60), Modelled),
    row("idle-timeout", Nlb, Number(1, 900), Modelled),
    row("request-timeout", Clb, Number(1, 180), Modelled),
    row("persistence-timeout", Clb, Number(0, 3600), Modelled),
    row("sticky-session", Clb, ON_OFF, COOKIES),
    row("sticky-session-type", Clb, Word(&["insert", "server"]), COOKIES),
    row("cookie-timeout", Clb, Number(1, 86_400), COOKIES),
    row("cookie", Clb, Any, COOKIES),
    row("health-check-switch", Clb, ON_OFF, Modelled),
    row("health-check-flag", Clb, ON_OFF, Modelled),
    row("health-check-flag", Nlb, OnlyAnyCase("on"), Modelled),
    row("health-check-type", Clb, Word(&["tcp", "http"]), Modelled),
    row("health-check-type", Nlb, WordAnyCase(&["tcp", "http"]), Modelled),
    row("health-check-interval", Clb, Number(1, 50), Modelled),
    row("health-check-interval", Nlb, Number(5, 5000), Modelled),
    row("health-check-connect-timeout", Both, Number(1, 300), Modelled),
    row("health-check-timeout", Clb, Number(1, 300), Modelled),
    row("healthy-threshold", Both, Number(2, 10), Modelled),
    row("unhealthy-threshold", Both, Number(2, 10), Modelled),
    row("health-check-connect-port", Both, Any, Modelled),
    row("health-check-uri", Both, Any, Modelled),
    row("health-check-domain", Both, Any, Modelled),
    row("health-check-httpcode", Both, Any, Modelled),
    row("health-check-method", Clb, Word(&["head", "get"]), Modelled),
    row("health-check-method", Nlb, Word(&["GET", "HEAD", "get", "head"]), Modelled),
    row("backend-label", Both, Any, Modelled),
    row("backend-ip-version", Both, Any, Ignored("addresses are IPv4")),
    row("remove-unscheduled-backend", Both, Only("on"), Modelled),
    // Told of where it is known whether it counts.
    row("weight", Both, Any, Effect::None),
    row("default-weight", Both, Number(0, 100), Modelled),
    row("ignore-weight-update", Both, OnlyAnyCase("on"), Modelled),
    row("vgroup-port", Both, Any, Ignored(REUSE)),
    row("graceful-shutdown", Both, Only("true"), Modelled),
    row("acl-status", Clb, Any, Ignored("access lists are not simulated")),
    row("acl-id", Clb, Any, Ignored("access lists are not simulated")),
    row("acl-type", Clb, Any, Ignored("access lists are not simulated")),
    row("forward-port", Clb, Any, Ignored("redirects are not simulated: the listener passes requests on")),
    row("cert-id", Clb, Any, Modelled),
    row("cert-id", Nlb, Any, Modelled),
    row("cacert", Nlb, Any, Ignored("nobody asks for clients' certificates")),
    row("cacert-id", Nlb, Any, Ignored("nobody asks for clients' certificates")),
    row("tls-cipher-policy", Clb, Any, Ignored("loadBalancer.tlsRoundTrips says what a handshake costs")),
    row("tls-cipher-policy", Nlb, Any, Ignored("loadBalancer.tlsRoundTrips says what a handshake costs")),
    row("http2-enabled", Clb, Any, Ignored("clients speak HTTP/1.1")),
    row("xforwardedfor-proto", Clb, ON_OFF, Modelled),
    row("xforwardedfor-slbport", Clb, ON_OFF, Modelled),
    row("xforwardedfor-clientsrcport", Clb, ON_OFF, Modelled),
    row("zone-maps", Nlb, Any, Modelled),
    row("cps", Nlb, Number(0, 1_000_000), Modelled),
    row("cross-zone-enabled", Nlb, Any, Modelled),
    row("preserve-client-ip", Nlb, OnlyAnyCase("on"), Effect::None),
    row("server-group-type", Nlb, WordAnyCase(&["instance", "ip"]), Effect::None),
    row("proxy-protocol", Both, Any, Ignored("gateways are sent no PROXY header")),
    row("ppv2-pvl-ep-id-enabled", Nlb, Any, Ignored("gateways are sent no PROXY header")),
    row("ppv2-pvl-eps-id-enabled", Nlb, Any, Ignored("gateways are sent no PROXY header")),
    row("ppv2-pvl-vpc-id-enabled", Nlb, Any, Ignored("gateways are sent no PROXY header")),
    row("alpn", Nlb, Any, Ignored("nothing is decrypted at the balancer")),
    row("security-group-ids", Nlb, Any, Ignored("security groups are not simulated")),
    row("listener-port-range", Nlb, Any, Ignored("listeners have one port each")),
    row("bandwidth-package-id", Nlb, Any, Effect::None),
];

impl Row {
    /// That of an annotation's last part, as this product's controller reads it.
    #[must_use]
    pub fn find(suffix: &str, is_nlb: bool) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.suffix == suffix && row.is_of(is_nlb))
    }

    /// Whether this is the word that its controller compares with. Not for what is no switch.
    #[must_use]
    pub fn is_on(&self, text: &str) -> bool {
        match self.values {
            Only(word) => text == word,
            OnlyAnyCase(word) => text.eq_ignore_ascii_case(word),
            Any | Number(..) | Word(_) | WordAnyCase(_) => text == "on",
        }
    }

    /// Whether the product's controller reads it.
    #[must_use]
    pub fn is_of(&self, is_nlb: bool) -> bool {
        match self.product {
            Both => true,
            Nlb => is_nlb,
            Clb => !is_nlb,
        }
    }
}

/// The last part of an annotation of Alibaba's balancers, in either spelling.
pub(super) fn suffix(name: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))
}

/// Warns of what looks like an annotation of a balancer, and is none.
pub(super) fn note_unread(value: &Field<'_>, name: &str) {
    if let Some(near) = stranger(name) {
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        value.note(FidelityStatus::Warning, Some(&format!("no controller reads such an annotation{hint}")));
    }
}

/// Whether a name that nobody reads looks like an annotation of Alibaba's balancers, and like which. Only last parts are compared: what is before them is much
/// the same in all.
fn stranger(name: &str) -> Option<Option<String>> {
    if let Some((before, rest)) = name.split_once("loadbalanc") {
        let is_like_one = ["alibaba", "alicloud"].iter().any(|word| before.contains(word));
        let tail = rest.split_once('-').map(|(_, tail)| tail);
        let near = tail.and_then(|tail| did_you_mean(tail, ROWS.iter().map(|row| row.suffix)));
        return is_like_one.then(|| near.map(|near| format!("{}{near}", PREFIXES[0])));
    }
    let (domain, known) = super::BACKEND_TYPE.split_once('/')?;
    let rest = name.strip_prefix(domain)?.strip_prefix('/')?;
    did_you_mean(rest, [known]).map(|_| Some(super::BACKEND_TYPE.to_owned()))
}

/// Notes what an annotation of a balancer does.
pub(super) fn note(value: &Field<'_>, suffix: &str, is_nlb: bool) {
    let Some(row) = Row::find(suffix, is_nlb) else {
        if Row::find(suffix, !is_nlb).is_some() {
            let text =
                if is_nlb { "an NLB's controller does not read it" } else { "a CLB's controller does not read it" };
            return value.note(FidelityStatus::Warning, Some(text));
        }
        let near = did_you_mean(suffix, ROWS.iter().map(|row| row.suffix));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return value.note(FidelityStatus::Warning, Some(&format!("no controller reads such an annotation{hint}")));
    };
    if value.node().text() == Some("") && row.effect != Effect::None {
        return value.note(FidelityStatus::Modelled, Some("it is empty, which is as if it were not written"));
    }
    match row.effect {
        Modelled => value.note(FidelityStatus::Modelled, None),
        Approximated(text) => value.note(FidelityStatus::Approximated, Some(text)),
        Ignored(text) => value.note(FidelityStatus::Ignored, Some(text)),
        Effect::None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_annotation_stands_once() {
        for row in ROWS {
            for is_nlb in [true, false].into_iter().filter(|is_nlb| row.is_of(*is_nlb)) {
                let count = ROWS.iter().filter(|other| other.suffix == row.suffix && other.is_of(is_nlb)).count();
                assert_eq!(count, 1, "{}", row.suffix);
            }
        }
    }

    #[test]
    fn a_switch_is_on_as_its_controller_compares() {
        for (suffix, is_nlb, text, expected) in [
            ("connection-drain", true, "on", true),
            ("connection-drain", true, "ON", true),
            ("connection-drain", true, "true", false),
            ("connection-drain", false, "on", true),
            ("connection-drain", false, "On", false),
            ("health-check-flag", true, "On", true),
            ("health-check-flag", false, "On", false),
            ("ignore-weight-update", true, "ON", true),
            ("ignore-weight-update", false, "ON", true),
            ("remove-unscheduled-backend", false, "ON", false),
            ("force-override-listeners", true, "true", true),
            ("force-override-listeners", true, "True", false),
            ("force-override-listeners", true, "on", false),
        ] {
            let row = Row::find(suffix, is_nlb).expect("a row");
            assert_eq!(row.is_on(text), expected, "{suffix} {text} {is_nlb}");
        }
    }

    #[test]
    fn strangers_are_known_by_their_likeness() {
        let scheduler = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-scheduler";
        for (name, expected) in [
            ("service.beta.kubernetes.io/alibaba-cloud-loadbalance-scheduler", Some(Some(scheduler))),
            ("service.beta.kubernetes.io/alibabacloud-loadbalancer-scheduler", Some(Some(scheduler))),
            ("service.kubernetes.io/alicloud-loadbalancer-schedular", Some(Some(scheduler))),
            ("service.beta.kubernetes.io/alibaba-cloud-loadbalancer_scheduler", Some(None)),
            ("service.beta.kubernetes.io/alibaba-cloud-loadbalance-quite-another", Some(None)),
            ("service.beta.kubernetes.io/backendtype", Some(Some(super::super::BACKEND_TYPE))),
            ("service.beta.kubernetes.io/other-loadbalancer-scheduler", None),
            ("service.beta.kubernetes.io/aws-load-balancer-type", None),
            ("service.beta.kubernetes.io/alibaba-cloud-private-zone-id", None),
            ("example.com/backend-type", None),
        ] {
            let found = stranger(name);
            assert_eq!(found.as_ref().map(|near| near.as_deref()), expected, "{name}");
        }
    }

    #[test]
    fn both_spellings_are_known() {
        assert_eq!(suffix("service.beta.kubernetes.io/alibaba-cloud-loadbalancer-spec"), Some("spec"));
        assert_eq!(suffix("service.beta.kubernetes.io/alicloud-loadbalancer-spec"), Some("spec"));
        assert_eq!(suffix("service.beta.kubernetes.io/backend-type"), None);
    }
}
