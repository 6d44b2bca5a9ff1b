//! Disruption budgets that protect nothing: their selectors mean no pod.

use super::state::Resolved;
use crate::cluster::disruption::DisruptionBudget;
use crate::manifest::{Object, Sink};
use crate::record::results::FidelityStatus;

/// Warns of budgets among these objects whose selectors mean no pod of any object that is simulated.
pub(super) fn warn(objects: &[Object], resolved: &Resolved, sink: &Sink) {
    for budget in &resolved.budgets {
        let is_it = |object: &&Object| object.id.kind == "PodDisruptionBudget" && object.key() == *budget.key;
        let Some(object) = objects.iter().find(is_it) else { continue };
        let Some(text) = fault(budget, resolved) else { continue };
        let place = object.node.find(&["spec", "selector"]).map_or(object.place(), |node| node.at);
        sink.note(place, format!("{}spec.selector", object.prefix()), FidelityStatus::Warning, Some(text));
    }
}

/// Why a budget protects nothing, if it does not.
fn fault(budget: &DisruptionBudget, resolved: &Resolved) -> Option<&'static str> {
    let Some(selector) = &budget.selector else {
        return Some("without a selector the budget means no pod, and holds up no eviction");
    };
    let namespace = budget.key.split('/').next();
    let bare = resolved.pods.values().map(|pod| &pod.manifest);
    let daemons = resolved.daemons.values().map(|daemon| &daemon.manifest);
    // The budget is the same object in every cluster.
    let mut pods = resolved.deployments.values().chain(resolved.elsewhere.values()).chain(bare).chain(daemons);
    let is_meant = pods.any(|manifest| {
        let deployment = &manifest.deployment;
        deployment.key.split('/').next() == namespace && selector.matches(&deployment.template.labels)
    });
    let text = "it means no pod that is simulated: compare it with the labels of the pods, and the namespaces";
    (!is_meant).then_some(text)
}
