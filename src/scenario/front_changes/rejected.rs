//! Annotations that are written in mid-run, and of which the controller or the cloud makes nothing.
//!
//! - What the controller cannot read (a number that is none) fails as it builds its model, before it has done anything: listeners and targets stay as they are.
//! - What the cloud rejects of a CLB's listener fails at the listener. Groups come first, so targets are followed; listeners stay as they are, and none is made.
//!
//! Either way it tells `SyncLoadBalancerFailed` and tries again and again, until the annotation is mended. All else that is rejected stays an error, as at the start: which step fails is not known.
//!
//! Source: kubernetes/cloud-provider-alibaba-cloud pkg/controller/service/clbv1/{model_builder,model_applier,listeners}.go (`Build`, `Apply`, `applyVGroups`, `applyListeners`),
//! nlbv2/model_builder.go, pkg/controller/service/reconcile (`FailedSyncLB`).

use std::rc::Rc;

use super::{Standing, of_front};
use crate::edge::Product;
use crate::edge::load_balancer::Failure;
use crate::manifest::service::ServiceManifest;
use crate::manifest::service::annotations::{ROWS, Values};
use crate::manifest::{Problem, Sink};
use crate::record::results::FidelityStatus;
use crate::scenario::balancer;
use crate::scenario::settings::Settings;
use crate::scenario::state::Resolved;

/// What a CLB's listener has, and nothing before it, beside all that begins with `health-check-`.
const OF_LISTENER: [&str; 9] = [
    "scheduler",
    "persistence-timeout",
    "established-timeout",
    "idle-timeout",
    "request-timeout",
    "connection-drain",
    "connection-drain-timeout",
    "healthy-threshold",
    "unhealthy-threshold",
];

/// Where it fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    /// At the listeners, when the groups have their targets.
    Listeners,
    /// As the controller reads the Service.
    Model,
}

/// The step at which an annotation with a problem fails, where that is known.
fn step(service: &ServiceManifest, problem: &Problem) -> Option<Step> {
    let is_nlb = balancer::is_nlb(service);
    let (_, name) = problem.path.rsplit_once("loadbalancer-")?;
    let suffix = name.trim_end_matches(']');
    let (text, _) = service.balancer_annotation(suffix)?;
    let mut rows = ROWS.iter().filter(|row| row.is_of(is_nlb) && row.suffix == suffix);
    let is_number = rows.any(|row| matches!(row.values, Values::Number(..)));
    if is_number && text.parse::<i64>().is_err() {
        return Some(Step::Model);
    }
    let is_of_listener = OF_LISTENER.contains(&suffix) || suffix.starts_with("health-check-");
    let is_rejected = is_number || problem.text.contains("the API rejects");
    (!is_nlb && is_of_listener && is_rejected).then_some(Step::Listeners)
}

impl Standing {
    /// The objects as the controller can read them.
    pub(super) fn as_read(&self, resolved: &Resolved) -> Resolved {
        let mut read = resolved.clone();
        if let (Some(annotations), Some(service)) = (&self.readable, read.services.get_mut(resolved.front_key())) {
            service.annotations.clone_from(annotations);
        }
        read
    }

    /// Takes note of annotations that are rejected in mid-run, if it is known what follows from it. Those of before hold, as they were in `old`.
    pub(super) fn reject(
        &mut self,
        old: &Resolved,
        next: &Resolved,
        settings: &Settings,
        sink: &Sink,
    ) -> Option<Failure> {
        let former = self.readable.take();
        if settings.balancer.product.product != Product::Alibaba {
            return None;
        }
        let (service, before) = (next.front()?, old.front()?.annotations.clone());
        let quiet = Sink::default();
        let (seen, _) = self.clone().follow(next, &Sink::default());
        let _ = of_front(&seen, settings, self, &quiet);
        let problems = quiet.take_problems();
        let steps = problems.iter().map(|problem| step(service, problem)).collect::<Option<Vec<Step>>>()?;
        let step = steps.into_iter().max()?;
        self.readable = Some(former.unwrap_or(before));
        let follows = match step {
            Step::Model => "it does nothing else either: listeners and targets stay",
            Step::Listeners => "listeners stay as they are, and targets are followed",
        };
        for Problem { place, path, text, .. } in &problems {
            let text = format!(
                "{text}. The controller tells SyncLoadBalancerFailed and tries again and again; until it is mended {follows}"
            );
            sink.note(*place, path.clone(), FidelityStatus::Warning, Some(&text));
        }
        let message = problems.first().map_or("", |problem| &problem.text);
        Some(Failure { message: Rc::from(message), stops_all: step == Step::Model })
    }
}
