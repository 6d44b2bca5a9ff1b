//! Disruption budgets that protect nothing, since their selectors mean no pod, or all at once, since their controller cannot count.

use super::state::Resolved;
use crate::cluster::disruption::{Budget, DisruptionBudget};
use crate::manifest::deployment::DeploymentManifest;
use crate::manifest::{Object, Sink};
use crate::record::results::FidelityStatus;

/// Warns of budgets among these objects whose selectors mean no pod of any object that is simulated, or pods that cannot be counted.
pub(super) fn warn(objects: &[Object], resolved: &Resolved, sink: &Sink) {
    for budget in &resolved.budgets {
        let is_it = |object: &&Object| object.id.kind == "PodDisruptionBudget" && object.key() == *budget.key;
        let Some(object) = objects.iter().find(is_it) else { continue };
        let Some(text) = fault(budget, resolved) else { continue };
        let place = object.node.find(&["spec", "selector"]).map_or(object.place(), |node| node.at);
        sink.note(place, format!("{}spec.selector", object.prefix()), FidelityStatus::Warning, Some(text));
    }
}

/// Why a budget does not do what it is for, if it does not.
fn fault(budget: &DisruptionBudget, resolved: &Resolved) -> Option<&'static str> {
    let Some(selector) = &budget.selector else {
        return Some("without a selector the budget means no pod, and holds up no eviction");
    };
    let namespace = budget.key.split('/').next();
    let means = |manifest: &DeploymentManifest| {
        let deployment = &manifest.deployment;
        deployment.key.split('/').next() == namespace && selector.matches(&deployment.template.labels)
    };
    if resolved.daemons.values().any(|daemon| means(&daemon.manifest)) {
        let text = "it allows no eviction, since its controller cannot count the pods of a DaemonSet (\"daemonsets.apps does not implement the scale \
                    subresource\"): write minAvailable as a number";
        return budget.budget.is_some_and(Budget::counts_wanted).then_some(text);
    }
    let bare = resolved.pods.values().map(|pod| &pod.manifest);
    // The budget is the same object in every cluster.
    let mut pods = resolved.deployments.values().chain(resolved.elsewhere.values()).chain(bare);
    let text = "it means no pod that is simulated: compare it with the labels of the pods, and the namespaces";
    (!pods.any(means)).then_some(text)
}
