//! What becomes of the balancer of a Service in front that is deleted, or wants none any more, or wants one.
//!
//! - One of its own is deleted, with listeners and address.
//! - With `preserve-lb-on-delete`, whatever it says, it is not. An NLB stays with listeners and targets, and nobody follows endpoints any more. A CLB stays too, but its
//!   controller takes listeners and groups away as it always does, so its address refuses.
//! - A reused one is never deleted. With `force-override-listeners` its controller deletes the listeners that it has written, and the groups; another Service that
//!   has taken a listener over keeps it. An NLB's are left alone if it is to be preserved. Without, listeners are not the controller's, and the cloud deletes no group that
//!   a listener leads to: cleaning up fails, again and again; listeners and targets stay as they were, and so does the object of a deleted Service, since its finalizer is
//!   not taken away.
//! - A Service that wants a balancer again takes the reused one back: groups, then listeners, at the address that clients know. Else it gets another, at an address that
//!   nobody dials. Clients dial what they found at the start.
//!
//! Sources: kubernetes/cloud-provider-alibaba-cloud 130caccb pkg/controller/service/{clbv1,nlbv2}/{model_builder,model_applier,listeners}.go (`deleteLoadBalancer`,
//! `buildActionsForListeners`, `cleanup`), clbv1/service_controller.go (`cleanupLoadBalancerResources`); ACK documents "Service FAQ" (`RspoolVipExist`), NLB API
//! `DeleteServerGroup` (`ResourceInUse.ServerGroup`).

use std::rc::Rc;

use super::{Moments, Standing, balancer_edit, edited_at, of_front, refuse_deleted, source};
use crate::drill::config::{BalancerEdit, BalancerFate, FrontChange, FrontPorts};
use crate::drill::{FrontSpec, Sources, Verb};
use crate::edge::load_balancer::Parting;
use crate::edge::{LoadBalancerConfig, Product};
use crate::manifest::service::{ServiceKind, ServiceManifest};
use crate::manifest::{Files, Place, Sink};
use crate::record::CauseCode;
use crate::record::results::FidelityStatus;
use crate::scenario::balancer::{self, products};
use crate::scenario::settings::{Settings, TimelineEntry};
use crate::scenario::state::Resolved;
use crate::scenario::{front, sharing};

/// Causes that a balancer which stays, and is not followed any more, leads to.
const UNATTENDED: [CauseCode; 4] =
    [CauseCode::LbStaleTarget, CauseCode::LbNoTarget, CauseCode::ConnectTimeout, CauseCode::FrontPortClosed];

/// A balancer that was reused and stays, as it was when its controller let go of it.
#[derive(Clone)]
pub(super) struct Left {
    id: String,
    config: LoadBalancerConfig,
}

/// Which one a Service reuses.
fn reused(service: &ServiceManifest) -> Option<&str> {
    service.balancer_annotation("id").map(|(text, _)| text.as_str()).filter(|text| !text.is_empty())
}

/// How the controller lets go of the balancer of a Service that was `before` and is `after`; the same if it is deleted.
fn parting(before: &ServiceManifest, after: &ServiceManifest, settings: &Settings) -> BalancerFate {
    if settings.balancer.product.product != Product::Alibaba {
        return BalancerFate::Deleted;
    }
    let is_nlb = balancer::is_nlb(before);
    let is_preserved = after.balancer_annotation("preserve-lb-on-delete").is_some_and(|(text, _)| !text.is_empty());
    let left = |keeps_listeners, failure: Option<String>| {
        BalancerFate::Left(Parting { keeps_listeners, failure: failure.map(Rc::from) })
    };
    match (reused(before), reused(after)) {
        (None, _) if is_preserved => left(is_nlb, None),
        (None, _) => BalancerFate::Deleted,
        // The controller does not find it any more.
        (Some(_), None) => left(true, None),
        (Some(_), Some(_)) if is_nlb && is_preserved => left(true, None),
        (Some(_), Some(_)) if sharing::writes_listeners(after) => left(false, None),
        (Some(_), Some(id)) => left(true, Some(group_in_use(id, is_nlb))),
    }
}

/// Why the groups of a balancer are not deleted, in the cloud's words.
fn group_in_use(id: &str, is_nlb: bool) -> String {
    match is_nlb {
        true => format!("nlb [{id}]: ResourceInUse.ServerGroup, the specified server group is in use"),
        false => {
            format!("lb [{id}]: RspoolVipExist, there are vips associating with this vServer group")
        }
    }
}

/// What is told of it.
fn text_of(fate: &BalancerFate) -> &'static str {
    match fate {
        BalancerFate::Stays => "",
        BalancerFate::Deleted => {
            "its balancer goes with its listeners and its address; clients go on dialling what they found at the start"
        }
        BalancerFate::Left(Parting { failure: Some(_), .. }) => {
            "the balancer is reused and its listeners are not the controller's, so its groups cannot be deleted: listeners and targets stay as they are, and nobody follows \
             endpoints any more"
        }
        BalancerFate::Left(Parting { keeps_listeners: true, .. }) => {
            "the balancer stays with its listeners and the targets that it has, and nobody follows endpoints any more"
        }
        BalancerFate::Left(Parting { keeps_listeners: false, .. }) => {
            "the balancer stays, and its controller takes away the listeners that it has written: its address refuses from then on"
        }
        BalancerFate::TakenBack => {
            "it reuses the balancer that it had: targets and listeners come back at the address that clients dial"
        }
        BalancerFate::Made(..) => {
            "it gets a balancer at an address that no client dials: they go on dialling what they found at the start"
        }
    }
}

/// What an edit of its type does to the balancer of the Service in front, and the balancer's settings if it is taken back.
pub(super) fn of_edit(
    (before, after): (&ServiceManifest, &ServiceManifest),
    (old, new): (&FrontSpec, &FrontSpec),
    next: &Resolved,
    standing: &mut Standing,
    settings: &Settings,
    sink: &Sink,
) -> (BalancerFate, Option<BalancerEdit>) {
    let has_balancer = |service: &ServiceManifest| products::kind(service, settings) == ServiceKind::LoadBalancer;
    let mut edit = None;
    let fate = match (has_balancer(before), has_balancer(after), &new.balancer) {
        (true, false, _) => {
            let fate = parting(before, after, settings);
            standing.left = match (&fate, reused(after), &old.balancer) {
                (BalancerFate::Left(_), Some(id), Some(config)) => {
                    Some(Left { id: id.to_owned(), config: config.clone() })
                }
                _ => None,
            };
            fate
        }
        (false, true, Some(config)) => {
            let left = standing.left.take().filter(|left| reused(after) == Some(left.id.as_str()));
            match (left, &standing.first) {
                (Some(left), Some(first)) => {
                    edit = Some(balancer_edit((first, after), (&left.config, config.clone()), sink));
                    BalancerFate::TakenBack
                }
                _ => {
                    standing.first = Some(after.clone());
                    BalancerFate::Made(Box::new(config.clone()), sharing::creation(next, settings, sink))
                }
            }
        }
        _ => return (BalancerFate::Stays, None),
    };
    let path = format!("Service {} spec.type", after.service.key);
    sink.note(after.kind_at, path, FidelityStatus::Warning, Some(text_of(&fate)));
    (fate, edit)
}

/// The lines behind losses that follow from an edit of the type: the edit's, until the balancer is attended to again.
pub(super) fn sources(
    moments: &Moments<'_>,
    (fate, seen): (&BalancerFate, &Sources),
    service: &ServiceManifest,
    files: &Files,
) -> Sources {
    let place = edited_at(moments, &["Service", "IstioGateway"], &["type", "serviceType"]);
    let written = |code| (code, source(files, place, "spec.type", &service.kind.to_string()));
    let usual = |code: CauseCode| Some((code, seen.get(&code)?.clone()));
    match fate {
        BalancerFate::Left(_) => UNATTENDED.into_iter().map(written).collect(),
        BalancerFate::TakenBack => UNATTENDED.into_iter().filter_map(usual).collect(),
        _ => [CauseCode::LbDeleted, CauseCode::FrontPortClosed].into_iter().map(written).collect(),
    }
}

/// The Service in front is deleted, by itself or with the gateway: what becomes of its balancer, and kube-proxies' rules go.
pub(in crate::scenario) fn delete(
    (entry, current): (&TimelineEntry, &Resolved),
    standing: &mut Standing,
    (path, value): (&str, &str),
    settings: &Settings,
    files: &Files,
    sink: &Sink,
) -> Option<Verb> {
    let service = current.front()?;
    if standing.is_deleted {
        return refuse_deleted(service, entry, sink);
    }
    let (old, _) = standing.clone().follow(current, &Sink::default());
    let spec = of_front(&old, settings, standing, &Sink::default())?;
    standing.is_deleted = true;
    let has_balancer = products::kind(service, settings) == ServiceKind::LoadBalancer;
    let fate = if has_balancer { parting(service, service, settings) } else { BalancerFate::Stays };
    if matches!(fate, BalancerFate::Left(_)) {
        let of = |place: Place| sink.note(place, path.to_owned(), FidelityStatus::Warning, Some(text_of(&fate)));
        of(entry.place);
    }
    let written = |code| (code, source(files, entry.place, path, value));
    let codes: &[CauseCode] = match fate {
        BalancerFate::Left(_) => &UNATTENDED,
        _ => &[CauseCode::LbDeleted, CauseCode::FrontPortClosed],
    };
    let rules = Some(front::nodes(service, settings).rules);
    Some(Verb::Front(Box::new(FrontChange {
        service: service.service.clone(),
        is_gone: true,
        before: FrontPorts { ports: spec.ports, node_ports: standing.node_ports.clone() },
        after: FrontPorts::default(),
        rules_before: rules,
        rules,
        doors: Vec::new(),
        balancer: None,
        fate,
        sources: codes.iter().copied().map(written).collect(),
    })))
}
