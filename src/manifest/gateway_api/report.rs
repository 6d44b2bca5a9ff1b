//! What is told of the objects: their status, as Istio's controller writes it, and notes on what takes no part.

use super::Objects;
use super::attach::{Attachment, Listening, Outcome, takes};
use super::rules::Built;
use super::status::{Condition, ListenerStatus, ParentStatus, RouteParentStatus, RouteStatus, Status};
use crate::manifest::read::Sink;
use crate::manifest::routes::{Around, Proxy};
use crate::record::results::FidelityStatus;

const ACCEPTED: &str = "Accepted";
const PROGRAMMED: &str = "Programmed";
const RESOLVED: &str = "ResolvedRefs";

/// The status of all objects.
pub(super) fn status(
    found: &Objects,
    listeners: &[Listening],
    outcomes: &[Vec<Outcome<'_>>],
    built: &[Built],
) -> Status {
    let gateways = found.gateways.iter().map(|gateway| {
        let own: Vec<&Listening> = listeners.iter().filter(|listening| listening.owner == gateway.this).collect();
        ParentStatus {
            key: gateway.this.key(),
            conditions: of_whole(&own),
            listeners: own.into_iter().map(of_listener).collect(),
        }
    });
    let listener_sets = found.sets.iter().map(|set| {
        let parent = found.gateways.iter().find(|gateway| gateway.this == set.parent);
        let own: Vec<&Listening> = listeners.iter().filter(|listening| listening.owner == set.this).collect();
        let conditions = match parent {
            Some(gateway) if takes(gateway, set, &found.namespaces) => of_whole(&own),
            Some(gateway) => {
                let text = format!("{} takes no listeners of {}", gateway.this, set.this.namespace);
                let bad = |about| Condition::bad(about, "NotAllowed", text.clone());
                vec![bad(ACCEPTED), bad(PROGRAMMED)]
            }
            None => Vec::new(),
        };
        ParentStatus { key: set.this.key(), conditions, listeners: own.into_iter().map(of_listener).collect() }
    });
    let routes = found.routes.iter().zip(outcomes).zip(built).map(|((route, outcomes), built)| RouteStatus {
        key: route.this.key(),
        parents: outcomes.iter().map(|outcome| of_parent(outcome, built)).collect(),
    });
    Status { gateways: gateways.collect(), listener_sets: listener_sets.collect(), routes: routes.collect() }
}

/// The conditions of a Gateway or a ListenerSet as a whole: one listener that is as it should be suffices.
fn of_whole(listeners: &[&Listening]) -> Vec<Condition> {
    let wrong: Vec<&str> = listeners
        .iter()
        .filter(|listening| !listening.is_valid())
        .map(|listening| listening.listener.name.as_str())
        .collect();
    let text = format!("not accepted: {}", wrong.join(", "));
    if wrong.is_empty() {
        vec![Condition::good(ACCEPTED, "Accepted"), Condition::good(PROGRAMMED, "Programmed")]
    } else if wrong.len() < listeners.len() {
        let accepted = Condition { message: text, ..Condition::good(ACCEPTED, "ListenersNotValid") };
        vec![accepted, Condition::good(PROGRAMMED, "Programmed")]
    } else {
        vec![Condition::bad(ACCEPTED, "ListenersNotValid", text.clone()), Condition::bad(PROGRAMMED, "Invalid", text)]
    }
}

fn of_listener(listening: &Listening) -> ListenerStatus {
    let conflict = listening.conflict.map(|reason| (reason, "an earlier listener has this place".to_owned()));
    let refused = listening.refused.clone().or_else(|| conflict.clone());
    let accepted = match &refused {
        None => Condition::good(ACCEPTED, "Accepted"),
        Some((reason, text)) => Condition::bad(ACCEPTED, reason, text.clone()),
    };
    let is_programmed = refused.is_none() && !listening.is_bad_tls;
    let programmed = if is_programmed {
        Condition::good(PROGRAMMED, "Programmed")
    } else {
        Condition::bad(PROGRAMMED, "Invalid", "")
    };
    let conflicted = match conflict {
        None => Condition::bad("Conflicted", "NoConflicts", ""),
        Some((reason, message)) => Condition { message, ..Condition::good("Conflicted", reason) },
    };
    let resolved = match &listening.unresolved {
        None => Condition::good(RESOLVED, "ResolvedRefs"),
        Some((reason, text)) => Condition::bad(RESOLVED, reason, text.clone()),
    };
    ListenerStatus {
        name: listening.listener.name.clone(),
        conditions: vec![accepted, programmed, conflicted, resolved],
        supported_kinds: listening.kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        attached_routes: listening.attached,
    }
}

fn of_parent(outcome: &Outcome<'_>, built: &Built) -> RouteParentStatus {
    let accepted = match &outcome.denied {
        None => Condition::good(ACCEPTED, "Accepted"),
        Some(denied) => Condition::bad(ACCEPTED, denied.reason(), denied.words()),
    };
    let resolved = match &built.unresolved {
        None => Condition::good(RESOLVED, "ResolvedRefs"),
        Some((reason, text)) => Condition::bad(RESOLVED, reason, text.clone()),
    };
    RouteParentStatus {
        kind: outcome.parent.to.kind.clone(),
        key: outcome.parent.to.key(),
        section: outcome.parent.section.clone(),
        port: outcome.parent.port,
        conditions: vec![accepted, resolved],
    }
}

/// Notes what takes no part, and why.
pub(super) fn note(
    found: &Objects,
    listeners: &[Listening],
    attachments: &[Attachment],
    outcomes: &[Vec<Outcome<'_>>],
    is_ours: &[bool],
    around: &Around<'_>,
    sink: &Sink,
) {
    let ignored = |place, path: String, text: &str| sink.note(place, path, FidelityStatus::Ignored, Some(text));
    // Who is named is chosen among others.
    let is_chosen = matches!(around.proxy, Proxy::Named(_));
    for (gateway, is_ours) in found.gateways.iter().zip(is_ours) {
        if !is_ours && !is_chosen {
            let services = gateway.services.join(", ");
            let text = format!("its pods are those behind the Service {services}, not the target's");
            ignored(gateway.at, gateway.this.to_string(), &text);
        }
    }
    for set in &found.sets {
        match found.gateways.iter().find(|gateway| gateway.this == set.parent) {
            None => ignored(set.at, set.this.to_string(), &format!("there is no {}", set.parent)),
            Some(gateway) if !takes(gateway, set, &found.namespaces) => {
                let text = format!("{} takes no listeners of {}", gateway.this, set.this.namespace);
                ignored(set.at, set.this.to_string(), &text);
            }
            Some(_) => {}
        }
    }
    for listening in listeners.iter().filter(|listening| is_ours[listening.gateway] && !listening.serves_http()) {
        let refused = listening.refused.as_ref().map(|(_, text)| text.as_str());
        let conflict = listening.conflict.map(|_| "an earlier listener has this place");
        let text = refused.or(conflict).unwrap_or("only plain HTTP is simulated; this listener is left out");
        let path = format!("{} {}", listening.owner, listening.listener.name);
        ignored(listening.listener.at, path, text);
    }
    for ((index, route), outcomes) in found.routes.iter().enumerate().zip(outcomes) {
        let mine = attachments.iter().filter(|attachment| attachment.route == index);
        if mine.clone().any(|attachment| is_ours[listeners[attachment.listening].gateway]) {
            continue;
        }
        let denied: Vec<&str> = outcomes.iter().filter_map(|outcome| Some(outcome.denied.as_ref()?.words())).collect();
        let text = if mine.count() > 0 {
            if is_chosen {
                continue;
            }
            "its Gateways are for other pods".to_owned()
        } else if denied.is_empty() {
            let parents: Vec<String> = route.parents.iter().map(|parent| parent.to.to_string()).collect();
            format!("none of its parents is there: {}", parents.join(", "))
        } else {
            denied.join("; ")
        };
        ignored(route.at, route.this.to_string(), &text);
    }
}
