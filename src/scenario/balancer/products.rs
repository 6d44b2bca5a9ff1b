//! The balancer in front as another cloud's product: its profile, what the scenario says, and the annotations that its controller reads.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use twox_hash::XxHash64;

use super::super::settings::Settings;
use super::super::state::Resolved;
use super::Annotations;
use crate::edge::balancer::{BalancerConfig, OnRemoval};
use crate::edge::http_proxy::Sticky;
use crate::edge::idle::IdleRule;
use crate::edge::load_balancer::Probe;
use crate::edge::product::{Profile, aws_alb, aws_nlb};
use crate::edge::readiness_gate::condition_of;
use crate::edge::{
    BackendMode, Eligibility, HealthCheck, HttpProbe, HttpRules, Limits, LoadBalancerConfig, NodeReach, Pace, Product,
    Scheduler, TargetRules,
};
use crate::gateway::locality::Locality;
use crate::manifest::service::annotations::{Effect, PREFIXES, Values};
use crate::manifest::service::aws::{ALB_PREFIX, ALB_ROWS, ATTRIBUTES, AwsRow, LISTENER, NLB_PREFIX, NLB_ROWS};
use crate::manifest::service::{BACKEND_TYPE, ServiceKind, ServiceManifest};
use crate::manifest::{Place, Problem};
use crate::record::CauseCode;
use crate::record::results::FidelityStatus;

/// The classes of Services that a product's controller looks after, beside those without one.
fn classes(product: Product) -> &'static [&'static str] {
    match product {
        Product::Alibaba => &[super::NLB],
        Product::AwsNlb => &["service.k8s.aws/nlb"],
        Product::AwsAlb => &[],
        Product::GcpPassthrough => &["networking.gke.io/l4-regional-external"],
        Product::MetalLb => &["metallb.io/metallb", "metallb.universe.tf/metallb"],
    }
}

/// The type of a Service, as its clients see it: an ALB is in front of Services of any type.
pub(in crate::scenario) fn kind(service: &ServiceManifest, settings: &Settings) -> ServiceKind {
    match (settings.balancer.product.product, service.kind) {
        (Product::AwsAlb, ServiceKind::ClusterIp | ServiceKind::NodePort) => ServiceKind::LoadBalancer,
        (_, kind) => kind,
    }
}

/// Whether a Service's status names its balancer, so that clients in the cluster leave it.
pub(in crate::scenario) fn has_name(service: &ServiceManifest, settings: &Settings) -> bool {
    match settings.balancer.product.product {
        Product::Alibaba => super::is_nlb(service) || service.balancer_annotation("hostname").is_some(),
        product => product.is_of_aws(),
    }
}

/// The name that a Service's status shows in place of its balancer's address. Its middle, which the cloud makes up, is made from the Service's name here.
///
/// Sources: Alibaba's NLB API, GetLoadBalancerAttribute (`DNSName`), and names of NLBs in public; cloud-provider-alibaba-cloud (`hostname`); aws-load-balancer-controller
/// pkg/service/model_build_load_balancer.go (`buildLoadBalancerName`) and AWS documents on DNS names of balancers.
pub(in crate::scenario) fn balancer_name(service: &ServiceManifest, settings: &Settings) -> Option<String> {
    if !has_name(service, settings) {
        return None;
    }
    if let Some((name, _)) =
        service.balancer_annotation("hostname").filter(|_| !settings.balancer.product.product.is_of_aws())
    {
        return Some(name.clone());
    }
    let zone = settings.cluster.nodes.first().and_then(|group| group.zones.first());
    let region = settings
        .cluster
        .region
        .clone()
        .or_else(|| Some(Locality::of_zone(zone?).region))
        .filter(|region| !region.is_empty());
    let region = region.map(|region| format!("{region}.")).unwrap_or_default();
    // Each cluster makes balancers of its own; one that is alone has no name.
    let cluster = settings.cluster.id.as_deref().map(|id| format!("{id}/")).unwrap_or_default();
    let made_up = format!("{:016x}", XxHash64::oneshot(0, format!("{cluster}{}", service.service.key).as_bytes()));
    let (namespace, name) = service.service.key.split_once('/').unwrap_or(("", &service.service.key));
    let short = |text: &str| text.chars().take(8).collect::<String>();
    let named = || format!("k8s-{}-{}-{}", short(namespace), short(name), &made_up[..10]);
    Some(match settings.balancer.product.product {
        Product::AwsNlb => format!("{}-{made_up}.elb.{region}amazonaws.com", named()),
        Product::AwsAlb => format!("{}-{}.{region}elb.amazonaws.com", named(), &made_up[6..]),
        _ => format!("nlb-{made_up}.{region}nlb.aliyuncsslb.com"),
    })
}

/// The condition of the readiness gate that the controller opens.
pub(in crate::scenario) fn condition(resolved: &Resolved, settings: &Settings) -> String {
    match settings.balancer.product.product {
        Product::Alibaba => condition_of(resolved.front_key()),
        product if product.is_of_aws() => {
            let gates = resolved.target().map(|manifest| &manifest.gates);
            let its =
                gates.and_then(|gates| gates.iter().find(|gate| gate.name.starts_with(aws_nlb::CONDITION_PREFIX)));
            its.map_or_else(|| format!("{}…", aws_nlb::CONDITION_PREFIX), |gate| gate.name.clone())
        }
        _ => String::new(),
    }
}

/// The balancer in front of the target, by its profile.
pub(super) fn config(
    resolved: &Resolved,
    settings: &Settings,
    (annotations, mut profile): (&Annotations<'_>, Profile),
    (ports, node_ports): (BTreeMap<u16, u16>, BTreeMap<u16, u16>),
) -> Option<LoadBalancerConfig> {
    let service = annotations.service;
    let product = settings.balancer.product.product;
    check_service(annotations, product)?;
    note_others(annotations, product);
    let aws = Aws { annotations, product };
    aws.note();
    let first_port = ports.values().next().copied().unwrap_or(80);
    let mut probe = profile.check.probe(first_port, service.health_check_node_port);
    if product.is_of_aws() {
        probe = aws.probe(probe, first_port)?;
        if product == Product::AwsNlb && matches!(probe, Probe::Http(_)) {
            profile.health_check =
                profile.health_check.map(|usual| HealthCheck { timeout: aws_nlb::HTTP_TIMEOUT, ..usual });
        }
        profile.health_check = profile.health_check.map(|usual| aws.check(usual));
        aws.removal(&mut profile);
        profile.idle = profile.idle.map(|usual| aws.idle(usual, &ports));
        profile.scheduler = aws.scheduler(profile.scheduler);
    }
    let (sticky, slow_start) = if product == Product::AwsAlb { aws.shares() } else { (None, None) };
    if sticky.is_some() {
        let name = format!("{ALB_PREFIX}target-group-attributes");
        let place = service.annotations.get(&name).map_or(service.annotations_at, |(_, place)| *place);
        let path = format!("{}.stickiness.enabled", annotations.path(&name));
        super::http::warn_no_jar(settings, annotations.sink, place, path);
    }
    let http = profile.http.take().map(|usual| {
        let idle = settings.balancer.product.idle.unwrap_or(usual.client_idle);
        Rc::new(HttpRules { client_idle: idle, answer_timeout: idle, target_idle: Some(idle), sticky, ..usual })
    });
    let written = settings.balancer.health_check;
    let health_check = profile.health_check.map(|usual| HealthCheck {
        interval: written.interval.unwrap_or(usual.interval),
        timeout: written.timeout.unwrap_or(usual.timeout),
        healthy_threshold: written.healthy_threshold.unwrap_or(usual.healthy_threshold),
        unhealthy_threshold: written.unhealthy_threshold.unwrap_or(usual.unhealthy_threshold),
        spacing: usual.spacing,
    });
    let mode = if profile.nodes.is_some() { BackendMode::Nodes(service.policy) } else { BackendMode::Pods };
    if service.affinity.is_some() && mode != BackendMode::Pods {
        // What was noted before the product was known took pods for its targets.
        let path = format!("Service {} spec.sessionAffinity", service.service.key);
        let text = "followed by the nodes' kube-proxies, which this balancer sends to";
        annotations.sink.overrule(service.affinity_at, path, FidelityStatus::Modelled, text);
    }
    let mut ways = profile.ways;
    ways.condition = condition(resolved, settings);
    let reach = profile.nodes.unwrap_or(NodeReach::WithPods);
    let http = ports.keys().filter_map(|port| Some((*port, Rc::clone(http.as_ref()?)))).collect();
    Some(LoadBalancerConfig {
        identity: settings.cluster.identity.clone(),
        service: service.service.key.to_string(),
        balancer: BalancerConfig {
            scheduler: profile.scheduler,
            persistence: None,
            health_check,
            first_passes: Some(profile.first_passes),
            on_deregister: profile.on_deregister,
            on_unhealthy: profile.on_unhealthy,
            slow_start,
            fail_open: profile.fail_open,
            groups: 1,
        },
        limits: Limits::default(),
        zones: Vec::new(),
        is_cross_zone: true,
        idle: profile.idle,
        targets: TargetRules { reach, nodes: Eligibility::default(), ..TargetRules::of(mode, 1) },
        pace: Pace::Each,
        probe,
        ways,
        register_latency: settings.balancer.controller_latency.clone(),
        deregister_latency: settings.balancer.controller_latency.clone(),
        ports,
        node_ports: if mode == BackendMode::Pods { BTreeMap::new() } else { node_ports },
        http,
        first_probe: None,
        stands_at_zero: true,
    })
}

/// What a Service of this product cannot say.
fn check_service(annotations: &Annotations<'_>, product: Product) -> Option<()> {
    let service = annotations.service;
    if let Some((class, at)) = &service.load_balancer_class
        && !classes(product).contains(&class.as_str())
    {
        let text = format!("no controller of this cluster handles `{class}`: the balancer stays pending for ever");
        let known = match classes(product) {
            [] => "take it out: an Application Load Balancer is made for an Ingress".to_owned(),
            known => format!("leave it out, or write {}, or choose another loadBalancer.profile", known.join(" or ")),
        };
        annotations.sink.report(Problem::at(*at, "spec.loadBalancerClass", text).help(known));
        return None;
    }
    if service.balancer_annotation("id").is_some() {
        let text = "only Alibaba's controller reuses a balancer by such an id".to_owned();
        annotations.refuse("id", text, "take it out, or take loadBalancer.profile out");
        return None;
    }
    Some(())
}

/// Annotations that this product's controller does not read.
fn note_others(annotations: &Annotations<'_>, product: Product) {
    let of_alibaba = |name: &str| name == BACKEND_TYPE || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    for (name, (_, place)) in &annotations.service.annotations {
        if of_alibaba(name) {
            let text = format!("it is Alibaba's: nobody reads it under profile {}", product.name());
            annotations.sink.overrule(*place, annotations.path(name), FidelityStatus::Ignored, &text);
        } else if product == Product::GcpPassthrough && name == "networking.gke.io/weighted-load-balancing" {
            annotations.sink.note(
                *place,
                annotations.path(name),
                FidelityStatus::Ignored,
                Some("all nodes weigh the same"),
            );
        }
    }
    note_aws_elsewhere(annotations, product);
}

/// AWS's annotations where another product is in front.
pub(super) fn note_aws_elsewhere(annotations: &Annotations<'_>, product: Product) {
    let prefix = match product {
        Product::AwsNlb => [ALB_PREFIX, ALB_PREFIX],
        Product::AwsAlb => [NLB_PREFIX, NLB_PREFIX],
        _ => [NLB_PREFIX, ALB_PREFIX],
    };
    let its = |name: &str| prefix.iter().any(|prefix| name.starts_with(prefix));
    for (name, (_, place)) in annotations.service.annotations.iter().filter(|(name, _)| its(name)) {
        let text = "nobody reads it under this profile of the load balancer";
        annotations.sink.note(*place, annotations.path(name), FidelityStatus::Ignored, Some(text));
    }
}

/// The annotations behind causes of loss under a profile.
pub(in crate::scenario) fn sources(
    service: &ServiceManifest,
    settings: &Settings,
    path: impl Fn(&str) -> String,
) -> Vec<(CauseCode, Place, String, Option<String>)> {
    let product = settings.balancer.product.product;
    let (prefix, suffix) = match product {
        Product::AwsNlb => (NLB_PREFIX, "target-group-attributes"),
        Product::AwsAlb => (ALB_PREFIX, "target-group-attributes"),
        _ => {
            let (at, name) = (settings.balancer.product.at, product.name().to_owned());
            let of_profile = |code| (code, at, "spec.loadBalancer.profile".to_owned(), Some(name.clone()));
            let codes = [CauseCode::LbTargetUnchecked, CauseCode::LbCutConnection, CauseCode::IdleTimeout];
            return codes.map(of_profile).into();
        }
    };
    let name = format!("{prefix}{suffix}");
    let of = |code, name: &str| match service.annotations.get(name) {
        Some((text, place)) => (code, *place, path(name), Some(text.clone())),
        None => (code, service.annotations_at, path(name), None),
    };
    let port = service.ports.first().map_or(80, |port| port.port);
    let idle = match product {
        Product::AwsNlb => format!("{NLB_PREFIX}{LISTENER}{port}"),
        _ => format!("{ALB_PREFIX}load-balancer-attributes"),
    };
    let checked = ["healthcheck-port", "healthcheck-path", "success-codes", "healthcheck-success-codes"];
    let checked = checked.map(|suffix| format!("{prefix}{suffix}"));
    let check = checked.iter().find(|name| service.annotations.contains_key(*name)).unwrap_or(&checked[1]);
    let interval = if product == Product::AwsNlb { "healthcheck-interval" } else { "healthcheck-interval-seconds" };
    let mut found = vec![
        of(CauseCode::LbTargetUnchecked, &format!("{prefix}{interval}")),
        of(CauseCode::LbCutConnection, &name),
        of(CauseCode::IdleTimeout, &idle),
        of(CauseCode::LbCheckFails, check),
    ];
    if product == Product::AwsAlb {
        found.push(of(CauseCode::LbRequestTimeout, &idle));
    }
    found
}

/// What AWS's controller reads.
struct Aws<'a> {
    annotations: &'a Annotations<'a>,
    product: Product,
}

impl Aws<'_> {
    fn prefix(&self) -> &'static str {
        if self.product == Product::AwsNlb { NLB_PREFIX } else { ALB_PREFIX }
    }

    fn rows(&self) -> &'static [AwsRow] {
        if self.product == Product::AwsNlb { &NLB_ROWS } else { &ALB_ROWS }
    }

    fn text(&self, suffix: &str) -> Option<&str> {
        let (text, _) = self.annotations.service.annotations.get(&format!("{}{suffix}", self.prefix()))?;
        Some(text)
    }

    fn refuse(&self, suffix: &str, text: String, help: &str) {
        let name = format!("{}{suffix}", self.prefix());
        let service = self.annotations.service;
        let place = service.annotations.get(&name).map_or(service.annotations_at, |(_, place)| *place);
        self.annotations.sink.report(Problem::at(place, self.annotations.path(&name), text).help(help));
    }

    /// Notes what each annotation does, and refuses values that the controller or AWS does.
    fn note(&self) {
        let annotations = self.annotations;
        let its = annotations
            .service
            .annotations
            .iter()
            .filter(|(name, _)| self.product.is_of_aws() && name.starts_with(self.prefix()));
        for (name, (text, place)) in its {
            let suffix = &name[self.prefix().len()..];
            let note = |status, text: Option<&str>| annotations.sink.note(*place, annotations.path(name), status, text);
            if self.product == Product::AwsNlb && suffix.starts_with("listener-attributes.") {
                note(FidelityStatus::Modelled, None);
                continue;
            }
            let Some(row) = self.rows().iter().find(|row| row.suffix == suffix) else {
                note(
                    FidelityStatus::Warning,
                    Some("the AWS Load Balancer Controller reads no such annotation of a Service"),
                );
                continue;
            };
            if let Some((text, help)) = wrong(row.values, text) {
                self.refuse(suffix, text, &help);
            }
            if let Some((status, text)) = effect(row.effect) {
                note(status, text);
            }
        }
        self.note_attributes();
    }

    /// What is written of the target group.
    fn attributes(&self) -> BTreeMap<&str, &str> {
        let text = self.text("target-group-attributes").unwrap_or_default();
        text.split(',').filter_map(|part| part.split_once('=')).map(|(key, value)| (key.trim(), value.trim())).collect()
    }

    fn note_attributes(&self) {
        let name = format!("{}target-group-attributes", self.prefix());
        let Some((text, place)) = self.annotations.service.annotations.get(&name).filter(|_| self.product.is_of_aws())
        else {
            return;
        };
        if let Some(part) = text.split(',').find(|part| !part.trim().is_empty() && !part.contains('=')) {
            let help = "write key=value,key=value";
            self.refuse("target-group-attributes", format!("`{}` is no attribute", part.trim()), help);
        }
        for (key, value) in self.attributes() {
            let path = format!("{}.{key}", self.annotations.path(&name));
            let is_nlb = self.product == Product::AwsNlb;
            let known = ATTRIBUTES.iter().find(|known| known.name == key && known.is_of(is_nlb));
            let Some(known) = known else {
                let text = format!("AWS knows no attribute `{key}` of such a target group: it refuses the change");
                let names = ATTRIBUTES.iter().filter(|it| it.is_of(is_nlb));
                let problem = Problem::at(*place, path, text);
                self.annotations.sink.report(problem.did_you_mean(key, names.map(|it| it.name)));
                continue;
            };
            if let Some((text, help)) = wrong(known.values, value) {
                self.refuse("target-group-attributes", format!("{key}: {text}"), &help);
            }
            if let Some((status @ FidelityStatus::Ignored, text)) = effect(known.effect) {
                self.annotations.sink.note(*place, path, status, text);
            }
        }
    }

    /// A number that was judged already.
    fn number(&self, suffixes: [&str; 2], usual: u64) -> u64 {
        let suffix = if self.product == Product::AwsNlb { suffixes[0] } else { suffixes[1] };
        self.text(suffix).and_then(|text| text.parse().ok()).unwrap_or(usual)
    }

    fn check(&self, usual: HealthCheck) -> HealthCheck {
        let span = |suffixes, usual: Duration| Duration::from_secs(self.number(suffixes, usual.as_secs()));
        let count = |suffixes, usual: u32| u32::try_from(self.number(suffixes, u64::from(usual))).unwrap_or(u32::MAX);
        let check = HealthCheck {
            interval: span(["healthcheck-interval", "healthcheck-interval-seconds"], usual.interval),
            timeout: span(["healthcheck-timeout", "healthcheck-timeout-seconds"], usual.timeout),
            healthy_threshold: count(
                ["healthcheck-healthy-threshold", "healthy-threshold-count"],
                usual.healthy_threshold,
            ),
            unhealthy_threshold: count(
                ["healthcheck-unhealthy-threshold", "unhealthy-threshold-count"],
                usual.unhealthy_threshold,
            ),
            spacing: usual.spacing,
        };
        // The interval alone may be shortened: then the timeout that nobody wrote gives way.
        let is_written = self.text("healthcheck-timeout").or(self.text("healthcheck-timeout-seconds")).is_some();
        if is_written && check.timeout > check.interval {
            let suffix =
                if self.product == Product::AwsNlb { "healthcheck-timeout" } else { "healthcheck-timeout-seconds" };
            self.refuse(suffix, "AWS refuses a timeout above the interval".to_owned(), "write a smaller one");
        }
        HealthCheck { timeout: check.timeout.min(check.interval), ..check }
    }

    /// What checks do: the port and the path may be another's.
    fn probe(&self, usual: Probe, first_port: u16) -> Option<Probe> {
        let port = match self.text("healthcheck-port") {
            None | Some("traffic-port") => first_port,
            Some(text) => match text.parse::<u16>() {
                Ok(port) => port,
                Err(_) => {
                    let help = "write one in quotes, such as \"15021\", or traffic-port";
                    self.refuse("healthcheck-port", format!("`{text}` is no port"), help);
                    return None;
                }
            },
        };
        let is_http = match self.text("healthcheck-protocol") {
            None => matches!(usual, Probe::Http(_)),
            Some(word) => word.to_ascii_lowercase().starts_with("http"),
        };
        match is_http {
            true => {
                let path = self.text("healthcheck-path").unwrap_or("/");
                Some(Probe::Http(HttpProbe { passes: self.success_codes()?, ..HttpProbe::get(port, path) }))
            }
            false if port == first_port => Some(Probe::Tcp),
            false => Some(Probe::TcpAt { port }),
        }
    }

    /// The answers that pass: numbers and ranges with commas between. An ALB's are 200 unless somebody says otherwise, an NLB's 200 to 399.
    fn success_codes(&self) -> Option<Vec<(u16, u16)>> {
        let (suffix, usual, last) = match self.product {
            Product::AwsNlb => ("healthcheck-success-codes", "200-399", 599),
            _ => ("success-codes", "200", 499),
        };
        let text = self.text(suffix).unwrap_or(usual);
        let range = |part: &str| {
            let (first, end) = part.split_once('-').unwrap_or((part, part));
            let (first, end) = (first.trim().parse::<u16>().ok()?, end.trim().parse::<u16>().ok()?);
            (200 <= first && first <= end && end <= last).then_some((first, end))
        };
        let ranges: Option<Vec<(u16, u16)>> = text.split(',').map(range).collect();
        if ranges.is_none() {
            let text = format!("`{text}` names no status codes from 200 to {last}");
            self.refuse(suffix, text, "write \"200\", \"200,302\" or \"200-399\", for example");
        }
        ranges
    }

    /// What open connections meet.
    fn removal(&self, profile: &mut Profile) {
        let attributes = self.attributes();
        let delay = attributes.get("deregistration_delay.timeout_seconds").and_then(|text| text.parse().ok());
        let delay = delay.map_or(aws_nlb::DRAIN, Duration::from_secs);
        let is = |name: &str, usual: bool| attributes.get(name).map_or(usual, |text| *text == "true");
        if self.product == Product::AwsAlb || is("deregistration_delay.connection_termination.enabled", false) {
            profile.on_deregister = OnRemoval::CutAfter(delay);
        }
        if !is("target_health_state.unhealthy.connection_termination.enabled", true) {
            profile.on_unhealthy = OnRemoval::Keep;
        }
    }

    /// How an ALB chooses targets.
    fn scheduler(&self, usual: Scheduler) -> Scheduler {
        match self.attributes().get("load_balancing.algorithm.type") {
            Some(&"least_outstanding_requests") if self.product == Product::AwsAlb => {
                Scheduler::WeightedLeastConnections
            }
            Some(&"weighted_random") => {
                let name = format!("{}target-group-attributes", self.prefix());
                let (place, path) = (
                    self.annotations.service.annotations.get(&name).map(|(_, place)| *place),
                    self.annotations.path(&name),
                );
                let text = "weighted_random is simulated as turns";
                let place = place.unwrap_or(self.annotations.service.annotations_at);
                self.annotations.sink.note(place, path, FidelityStatus::Approximated, Some(text));
                usual
            }
            _ => usual,
        }
    }

    /// How an ALB keeps sessions at targets, and how long targets are new. What AWS refuses together is refused.
    fn shares(&self) -> (Option<Sticky>, Option<Duration>) {
        const NAME: &str = "target-group-attributes";
        let attributes = self.attributes();
        let seconds = |name: &str, usual: u64| {
            Duration::from_secs(attributes.get(name).and_then(|text| text.parse().ok()).unwrap_or(usual))
        };
        let is_sticky = attributes.get("stickiness.enabled") == Some(&"true");
        let slow = Some(seconds("slow_start.duration_seconds", 0)).filter(|span| !span.is_zero());
        if slow.is_some_and(|span| span < aws_alb::SLOW_START_LEAST) {
            let text = "slow_start.duration_seconds: AWS refuses a number below 30 that is not 0".to_owned();
            self.refuse(NAME, text, "write 0, or 30 to 900");
        }
        let algorithm = attributes.get("load_balancing.algorithm.type").copied().unwrap_or("round_robin");
        if slow.is_some() && algorithm != "round_robin" {
            let text = format!("AWS refuses slow start with the algorithm {algorithm}");
            self.refuse(NAME, text, "take one of the two out");
        }
        if is_sticky && algorithm == "weighted_random" {
            let text = "AWS refuses stickiness with the algorithm weighted_random".to_owned();
            self.refuse(NAME, text, "take one of the two out");
        }
        let cookie = attributes.get("stickiness.app_cookie.cookie_name").copied();
        if let Some(name) = cookie.filter(|name| name.is_empty() || name.starts_with("AWSALB")) {
            let text = format!("AWS refuses `{name}` as the name of the targets' cookie");
            self.refuse(NAME, text, "write the name of the gateway's cookie");
        }
        let day = 24 * 3600;
        let sticky = match (attributes.get("stickiness.type").copied(), cookie) {
            _ if !is_sticky => None,
            (Some("app_cookie"), Some(cookie)) => {
                Some(aws_alb::sticky_beside(cookie, seconds("stickiness.app_cookie.duration_seconds", day)))
            }
            (Some("app_cookie"), None) => {
                let text = "stickiness.type=app_cookie without stickiness.app_cookie.cookie_name: AWS refuses it";
                self.refuse(NAME, text.to_owned(), "name the gateway's cookie");
                None
            }
            _ => Some(aws_alb::sticky(seconds("stickiness.lb_cookie.duration_seconds", day))),
        };
        (sticky, slow)
    }

    /// How long connections may be silent: the first listener's attribute stands for all.
    fn idle(&self, usual: IdleRule, ports: &BTreeMap<u16, u16>) -> IdleRule {
        if self.product != Product::AwsNlb {
            return usual;
        }
        let found = ports.keys().find_map(|port| {
            let suffix = format!("{LISTENER}{port}");
            let text = self.text(&suffix)?;
            let value = text.split(',').find_map(|part| part.trim().strip_prefix("tcp.idle_timeout.seconds="))?;
            Some((suffix, value.to_owned()))
        });
        let Some((suffix, value)) = found else { return usual };
        match value.parse::<u64>() {
            Ok(seconds) if (60..=6000).contains(&seconds) => {
                IdleRule { timeout: Duration::from_secs(seconds), ..usual }
            }
            _ => {
                self.refuse(&suffix, format!("`{value}` is no number from 60 to 6000"), "write 350, for example");
                usual
            }
        }
    }
}

/// What is wrong with a value, and what to write.
fn wrong(values: Values, text: &str) -> Option<(String, String)> {
    match values {
        Values::Number(least, most) if !text.parse::<u64>().is_ok_and(|number| (least..=most).contains(&number)) => {
            Some((format!("`{text}` is no number from {least} to {most}"), format!("write \"{least}\", for example")))
        }
        Values::Word(words) if !words.contains(&text) => {
            let what = if words == ["ip"] { "only IP targets are simulated" } else { "AWS's controller refuses it" };
            Some((format!("`{text}`: {what}"), format!("write one of {}", words.join(", "))))
        }
        _ => None,
    }
}

fn effect(effect: Effect) -> Option<(FidelityStatus, Option<&'static str>)> {
    match effect {
        Effect::Modelled => Some((FidelityStatus::Modelled, None)),
        Effect::Approximated(text) => Some((FidelityStatus::Approximated, Some(text))),
        Effect::Ignored(text) => Some((FidelityStatus::Ignored, Some(text))),
        Effect::None => None,
    }
}
