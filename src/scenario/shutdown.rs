//! How the target's process ends, out of all that decides it, each with its line; and what in it is probably not what is wanted.
//!
//! Environment of the container before `ProxyConfig` (`manifest::proxy_config`) before the scenario's own word before Istio's default. Another
//! `gateway.kind` has settings of its own, and none of these.
//!
//! Two generations of ASM's graceful shutdown, by `gateway.istio`, whose number is ASM's too: before 1.26 the balancer's connection draining, which
//! should be between 10 and 30 s and no longer than the pod's grace; since then one annotation of the gateway. Both are documented for the
//! editions Enterprise and Ultimate.
//!
//! Sources: istio pilot/cmd/pilot-agent/options, pkg/envoy/agent.go; ASM documents "Use graceful shutdown to avoid traffic loss" (both versions); Kubernetes
//! KEP-3960 (`sleep`: behind a gate in 1.29, on in 1.30; 0 seconds since 1.33).

use std::collections::BTreeMap;
use std::time::Duration;

use super::gateway_kind::Kind;
use super::settings::{Edition, Settings, defaults};
use super::state::Resolved;
use super::target::Workload;
use crate::cluster::ProbeAction;
use crate::cluster::Version;
use crate::cluster::kubelet::grace::stop_times;
use crate::edge::Product;
use crate::gateway::{DrainConfig, Move, Order, ShutdownMode};
use crate::manifest::deployment::{DeploymentManifest, GATEWAY_ENV, PROXY_CONFIG};
use crate::manifest::hook::By;
use crate::manifest::istio_gateway::{DRAIN_ANNOTATION, Generation};
use crate::manifest::proxy_config::ProxyConfig;
use crate::manifest::{Place, Problem, Sink, quantity};
use crate::record::CauseCode;
use crate::record::results::FidelityStatus;

/// The `sleep` action is there by default.
const SLEEP_ACTION: Version = Version::new(1, 30);
/// It may be 0.
const SLEEP_ZERO: Version = Version::new(1, 33);
/// What ASM recommends for the balancer's draining before 1.26.
const RECOMMENDED_S: std::ops::RangeInclusive<u64> = 10..=30;

/// The end of a gateway's process.
pub(super) struct Shutdown {
    /// What SIGTERM leads to.
    pub(super) moves: Vec<Move>,
    /// What a drain of Envoy is like.
    pub(super) drain: DrainConfig,
    /// The port on which readiness is asked for, and its paths.
    pub(super) status: (u16, Vec<String>),
    /// The setting behind the causes of loss that a shutdown has.
    pub(super) decided: Vec<Decided>,
    /// Where Envoy's drain time is written.
    drain_time_at: (Place, String),
}

/// The setting behind some causes of loss.
pub(super) struct Decided {
    pub(super) codes: Vec<CauseCode>,
    pub(super) at: Place,
    pub(super) path: String,
    /// None: nobody wrote it, and this is where it would be.
    pub(super) value: Option<String>,
}

/// The generation of ASM's graceful shutdown.
pub(super) fn generation(settings: &Settings) -> Generation {
    let is_since = Version::parse(&settings.gateway.istio).is_none_or(|version| version >= Version::new(1, 26));
    if is_since { Generation::DrainTimeout } else { Generation::ConnectionDrain }
}

/// How the process of the target's pods ends.
pub(super) fn of(resolved: &Resolved, settings: &Settings, sink: &Sink) -> Option<Shutdown> {
    of_pods((resolved.target()?, resolved.proxy_config()), resolved, settings, sink)
}

/// How the process of a gateway's pods ends.
pub(super) fn of_pods(
    (manifest, config): (&DeploymentManifest, &ProxyConfig),
    resolved: &Resolved,
    settings: &Settings,
    sink: &Sink,
) -> Option<Shutdown> {
    let gateway = &settings.gateway;
    let kind = gateway.kind.kind;
    check_kind(manifest, resolved, settings, sink);
    let (drain_time, drain_time_at) = match &config.drain {
        Some(written) => (written.value, (written.at, written.path.clone())),
        None => (gateway.drain_duration.0, (gateway.drain_duration.1, "spec.gateway.drainDuration".to_owned())),
    };
    let drain = DrainConfig {
        drain_time,
        strategy: gateway.drain.strategy,
        drain_timeout: gateway.drain.timeout,
        delayed_close: gateway.drain.delayed_close,
    };
    let (port, path) = kind.readiness();
    let Some(moves) = kind.moves() else {
        let (mode, decided) = istio_mode((manifest, config), resolved, settings, sink)?;
        let status = (port, vec![path.to_owned(), "/healthz".to_owned()]);
        let mut all = vec![decided];
        all.push(Decided {
            codes: vec![CauseCode::ListenerDrained],
            at: drain_time_at.0,
            path: drain_time_at.1.clone(),
            value: Some(quantity::duration_text(drain_time)),
        });
        return Some(Shutdown { moves: mode.moves(), drain, status, decided: all, drain_time_at });
    };
    // The probe knows where the gateway's own configuration lets it ask.
    let probe = manifest.deployment.template.probes.readiness.as_ref().map(|probe| &probe.action);
    let status = match probe {
        Some(ProbeAction::Http { port, path: asked }) => (*port, vec![asked.clone(), path.to_owned()]),
        _ => (port, vec![path.to_owned()]),
    };
    let decided = gateway.kind.sources().into_iter().map(|(codes, at, path, value)| Decided {
        codes: codes.to_vec(),
        at,
        path,
        value: Some(value),
    });
    Some(Shutdown { moves, drain, status, decided: decided.collect(), drain_time_at })
}

/// An Istio gateway's way to the end, and the setting that decides when it comes.
fn istio_mode(
    (manifest, config): (&DeploymentManifest, &ProxyConfig),
    resolved: &Resolved,
    settings: &Settings,
    sink: &Sink,
) -> Option<(ShutdownMode, Decided)> {
    // What an IstioGateway's annotation becomes stands where the annotation does.
    let annotation = drain_annotation(resolved);
    let codes = vec![
        CauseCode::LbStaleTarget,
        CauseCode::ExitIdleConnection,
        CauseCode::ExitInFlight,
        CauseCode::ConnectTimeout,
        CauseCode::StaleNodeRules,
    ];
    // What ProxyConfig adds to the environment gives way to the container's own.
    let env = |name: &str| {
        let of_container = manifest.env.get(name).map(|(text, at)| (text.clone(), *at, format!("env.{name}")));
        let of_config = config.env.get(name);
        of_container.or_else(|| of_config.map(|it| (it.value.clone(), it.at, it.path.clone())))
    };
    // Source: Go, strconv.ParseBool.
    let is_true = |text: &str| matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True");
    let is_false = |text: &str| matches!(text, "0" | "f" | "F" | "false" | "FALSE" | "False");
    let exits_on_zero = env("EXIT_ON_ZERO_ACTIVE_CONNECTIONS");
    if let Some((text, at, path)) = exits_on_zero.as_ref().filter(|(text, ..)| !is_true(text) && !is_false(text)) {
        let note = format!("`{text}` is no boolean: Istio takes it for false; write \"true\"");
        sink.note(*at, path.clone(), FidelityStatus::Warning, Some(&note));
    }
    if let Some((text, at, path)) = exits_on_zero.filter(|(text, ..)| is_true(text)) {
        let minimum = match env("MINIMUM_DRAIN_DURATION") {
            None => defaults::TERMINATION_DRAIN,
            Some((text, at, path)) => match quantity::duration(&text) {
                Ok(span) => span,
                Err(wrong) => {
                    sink.report(Problem::at(at, path, wrong.text).help(wrong.help));
                    return None;
                }
            },
        };
        if let Some(drain) = &config.termination_drain {
            let note = format!("it has no effect: {path} makes the process end when no connection is left");
            sink.note(drain.at, drain.path.clone(), FidelityStatus::Warning, Some(&note));
        }
        return Some((ShutdownMode::ExitOnZero { minimum }, Decided { codes, at, path, value: Some(text) }));
    }
    let (duration, at, path) = match &config.termination_drain {
        Some(written) if Some(written.at) == annotation => {
            (written.value, written.at, format!("metadata.annotations[{DRAIN_ANNOTATION}]"))
        }
        Some(written) => (written.value, written.at, written.path.clone()),
        None => {
            let (span, at) = settings.gateway.termination_drain;
            (span, at, "spec.gateway.terminationDrainDuration".to_owned())
        }
    };
    let value = quantity::duration_text(duration);
    // Of the two that keep a pod serving, the longer one decides.
    let hook = manifest.hook.as_ref().filter(|hook| hook.duration > duration);
    let decided = match hook {
        Some(hook) => {
            let value = Some(quantity::duration_text(hook.duration));
            Decided { codes, at: hook.at, path: hook.path.clone(), value }
        }
        None => Decided { codes, at, path, value: Some(value).filter(|_| at.is_written()) },
    };
    Some((ShutdownMode::Drain { duration }, decided))
}

/// Another kind than Istio's is a workload that somebody wrote.
fn check_kind(manifest: &DeploymentManifest, resolved: &Resolved, settings: &Settings, sink: &Sink) {
    let kind = &settings.gateway.kind;
    if kind.kind != Kind::Istio && Workload::of(&resolved.origin).is_none() {
        let text = format!("the target is made by an {}, which runs Istio's gateway", resolved.origin.id.kind);
        let problem = Problem::at(kind.at, "spec.gateway.kind", text);
        sink.report(
            problem.help(format!("write kind: istio, or the Deployment and the Service of {}", kind.kind.name())),
        );
    }
    if kind.kind == Kind::Istio {
        return;
    }
    let of_env = GATEWAY_ENV.iter().filter_map(|name| Some((format!("env[{name}]"), manifest.env.get(*name)?.1)));
    let config = manifest.proxy_config.as_ref().map(|(_, at)| (format!("metadata.annotations[{PROXY_CONFIG}]"), *at));
    for (path, at) in of_env.chain(config) {
        let text = format!("only Istio's gateway reads it, and this one is of kind {}", kind.kind.name());
        sink.overrule(at, path, FidelityStatus::Ignored, &text);
    }
}

/// Takes out a hook that the cluster or the image does not have. Which image the injector gives to pods that it makes is not the template's: that keeps the hook.
pub(super) fn settle_hook(manifest: &mut DeploymentManifest, config: &ProxyConfig, version: Version, sink: &Sink) {
    let Some(hook) = &manifest.hook else { return };
    match &hook.by {
        By::Sleep => {
            let text = if version < SLEEP_ACTION {
                Some(format!("Kubernetes {version} has no `sleep` for hooks: it came with 1.30"))
            } else if hook.duration.is_zero() && version < SLEEP_ZERO {
                Some(format!("Kubernetes {version} wants more than 0 seconds"))
            } else {
                None
            };
            if let Some(text) = text {
                let problem = Problem::at(hook.at, hook.path.clone(), text);
                sink.report(problem.help("write exec: { command: [sleep, \"15\"] }, or a newer cluster.version"));
            }
        }
        By::Program(program) => {
            let has_words = |text: &str| text.contains("distroless");
            let is_of_template = has_words(&manifest.deployment.template.image);
            let is_bare = is_of_template || config.image_type.as_ref().is_some_and(|it| has_words(&it.value));
            if is_bare && program.rsplit('/').next() != Some("pilot-agent") {
                let note = format!(
                    "the image is distroless and has no `{program}`: the hook fails and SIGTERM comes at once; write sleep: {{ seconds: … }}"
                );
                sink.note(hook.at, hook.path.clone(), FidelityStatus::Warning, Some(&note));
                manifest.hook = None;
                if is_of_template {
                    manifest.deployment.template.pre_stop = None;
                }
            }
        }
    }
}

/// What will be regretted: told with its line, and simulated as it is.
pub(super) fn warn(resolved: &Resolved, settings: &Settings, sink: &Sink) {
    let (Some(manifest), Some(front)) = (resolved.target(), resolved.front()) else { return };
    let Some(shutdown) = of(resolved, settings, &Sink::default()) else { return };
    let warning = |at: Place, path: &str, text: String| {
        sink.note(at, path.to_owned(), FidelityStatus::Warning, Some(&text));
    };
    let template = &manifest.deployment.template;
    let hook = template.pre_stop.filter(|_| manifest.hook.is_some());
    let pre_stop = hook.unwrap_or_default();
    let longest = longest(&shutdown.moves);
    let grace = Duration::from_secs(template.grace_seconds.into());
    if !longest.is_zero() && pre_stop + longest >= grace {
        let times = stop_times(template.grace_seconds, hook);
        let left = times.sigkill.saturating_sub(times.sigterm);
        let [pre_stop, longest, left] = [pre_stop, longest, left.min(longest)].map(quantity::duration_text);
        let text = format!(
            "preStop {pre_stop} and a shutdown of up to {longest} do not fit into the grace period of {grace}: SIGKILL comes \
             after {left} of it",
            grace = quantity::duration_text(grace)
        );
        let usual = (manifest.grace_at, "spec.template.spec.terminationGracePeriodSeconds");
        // An IstioGateway has no such field: what is too long is what can be changed.
        let of_gateway = Some(&resolved.origin).filter(|origin| origin.id.kind == "IstioGateway").map(|_| {
            let hook = manifest.hook.as_ref().map(|hook| (hook.at, hook.path.as_str()));
            hook.or_else(|| shutdown.decided.first().map(|decided| (decided.at, decided.path.as_str())))
                .unwrap_or(usual)
        });
        let (at, path) = of_gateway.unwrap_or(usual);
        warning(at, path, text);
    }
    let drains = shutdown.moves.contains(&Move::Give(Order::Drain { closes_listeners: true }));
    if drains && shutdown.drain.drain_time < longest {
        let text = format!(
            "the listeners close {} before the process ends, and the balancer may still send to it",
            quantity::duration_text(longest - shutdown.drain.drain_time)
        );
        let (at, path) = &shutdown.drain_time_at;
        warning(*at, path, text);
    }
    let draining = front_draining(front).filter(|_| settings.balancer.product.product == Product::Alibaba);
    warn_of_draining(draining, template.grace_seconds, settings, &warning);
    let annotation = drain_annotation(resolved);
    if let Some(at) = annotation {
        let path = format!("metadata.annotations[{DRAIN_ANNOTATION}]");
        if generation(settings) == Generation::ConnectionDrain {
            let text = format!("ASM {} does not know it: it has no effect before 1.26", settings.gateway.istio);
            warning(at, &path, text);
        } else if settings.gateway.edition == Edition::Standard {
            warning(at, &path, "it is documented for the editions Enterprise and Ultimate only".to_owned());
        }
    }
}

/// The time that the moves take at most, as far as they have a limit.
fn longest(moves: &[Move]) -> Duration {
    let of = |next: &Move| match next {
        Move::Wait(span) => *span,
        Move::UntilFew { limit, .. } => limit.unwrap_or_default(),
        Move::FailReadiness | Move::Give(_) => Duration::ZERO,
    };
    moves.iter().map(of).fold(Duration::ZERO, Duration::saturating_add)
}

/// Seconds of the balancer's draining as the Service has it written, with their place and name.
type Draining = (u64, Place, String);

fn front_draining(front: &crate::manifest::service::ServiceManifest) -> Option<Draining> {
    let is_on = front.is_on("connection-drain") == Some(true);
    let (text, at) = front.balancer_annotation("connection-drain-timeout").filter(|_| is_on)?;
    let name = format!("metadata.annotations[{}]", front.written_name("connection-drain-timeout"));
    Some((text.parse().ok()?, *at, name))
}

fn warn_of_draining(
    draining: Option<Draining>,
    grace_seconds: u32,
    settings: &Settings,
    warning: &impl Fn(Place, &str, String),
) {
    let Some((seconds, at, path)) = draining else { return };
    let is_first = generation(settings) == Generation::ConnectionDrain;
    if seconds > u64::from(grace_seconds) {
        let text = format!(
            "the balancer keeps connections for {seconds} s, and the pod is killed after {grace_seconds} s: the rest is lost"
        );
        warning(at, &path, text);
    } else if is_first && !RECOMMENDED_S.contains(&seconds) {
        let text = format!("before ASM 1.26 {} to {} s are recommended", RECOMMENDED_S.start(), RECOMMENDED_S.end());
        warning(at, &path, text);
    }
    if is_first && settings.gateway.edition == Edition::Standard {
        warning(at, &path, "graceful shutdown is documented for the editions Enterprise and Ultimate only".to_owned());
    }
}

/// Where the gateway's annotation of the second generation is written.
pub(super) fn drain_annotation(resolved: &Resolved) -> Option<Place> {
    let origin = &resolved.origin;
    if origin.id.kind != "IstioGateway" {
        return None;
    }
    origin.node.find(&["metadata", "annotations", DRAIN_ANNOTATION]).map(|node| node.at)
}

/// What an edit of the second generation's annotation comes to on an ASM that does not read it.
pub(super) fn unread_edit(before: &Resolved, after: &Resolved, settings: &Settings) -> Option<String> {
    let written = |resolved: &Resolved| -> Option<String> {
        let node = resolved.origin.node.find(&["metadata", "annotations", DRAIN_ANNOTATION])?;
        Some(node.text().unwrap_or_default().to_owned())
    };
    let is_edited = generation(settings) == Generation::ConnectionDrain && written(before) != written(after);
    let version = &settings.gateway.istio;
    is_edited.then(|| format!("ASM {version} does not know {DRAIN_ANNOTATION}: no pod restarts, and nothing changes"))
}

/// Ports that readiness must not share with requests.
pub(super) fn check_status(shutdown: &Shutdown, listeners: &[(u16, u16)], settings: &Settings, sink: &Sink) {
    let bound: BTreeMap<u16, u16> = listeners.iter().copied().collect();
    if bound.contains_key(&shutdown.status.0) {
        let kind = &settings.gateway.kind;
        let text = format!("port {} answers requests, so it cannot answer for readiness too", shutdown.status.0);
        let problem = Problem::at(kind.at, "spec.gateway.kind", text);
        sink.report(problem.help("let the readiness probe ask another port: the drill answers it there"));
    }
}
