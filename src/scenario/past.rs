//! What earlier entries of the timeline have done that later ones depend on: revisions to go back to, and Deployments that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::front_changes::Standing;
use super::settings::{Settings, TimelineEntry};
use super::state::Resolved;
use crate::cluster::deployment::Strategy;
use crate::cluster::{Deployment, PodTemplate};
use crate::engine::Delay;
use crate::manifest::{Node, Problem, Sink};

/// The past of all Deployments and `DaemonSet`s, by the owner of their pods.
#[derive(Default)]
pub(super) struct Past {
    /// The templates of each.
    revisions: BTreeMap<String, History>,
    deleted: BTreeSet<String>,
    /// The target has left this cluster, and others have it still.
    pub(super) is_elsewhere: bool,
    /// The Service in front, as the cloud has it.
    pub(super) standing: Standing,
    /// What gateway processes read at their start, by the owner of their pods and the `other` of their template.
    pub(super) processes: BTreeMap<(Rc<str>, String), String>,
}

/// The templates of a Deployment with their numbers, the current one last. A template that comes back gets a new number, as a set does.
#[derive(Default)]
struct History {
    known: Vec<Revision>,
    /// Those of before the last instant in which there was an edit, and that instant: its controller sees only what all edits of it come to.
    before: Vec<Revision>,
    edited_at: Option<Duration>,
    /// When the rollout to the last of them can be complete at the earliest. Empty old sets are deleted then, and not before.
    complete_at: Duration,
}

#[derive(Clone)]
struct Revision {
    number: i64,
    template: PodTemplate,
    node: Node,
}

impl History {
    /// What is there at an instant.
    fn prune(&mut self, limit: i32, now: Duration) {
        if now >= self.complete_at {
            let kept = usize::try_from(limit).unwrap_or(0) + 1;
            self.known.drain(..self.known.len().saturating_sub(kept));
        }
    }

    /// A template as of an instant; none: from the start.
    fn note(&mut self, deployment: &Deployment, node: &Node, at: Option<Duration>, pod_start: Duration) {
        let template = &deployment.template;
        // While it is paused a template makes no revision.
        if deployment.is_paused || self.known.last().is_some_and(|last| last.template == *template) {
            return;
        }
        if at.is_none() || self.edited_at != at {
            self.before.clone_from(&self.known);
            self.edited_at = at;
        }
        self.known.clone_from(&self.before);
        if self.known.last().is_some_and(|last| last.template == *template) {
            return;
        }
        let number = self.known.iter().map(|revision| revision.number).max().unwrap_or(0) + 1;
        self.known.retain(|revision| revision.template != *template);
        self.known.push(Revision { number, template: template.clone(), node: node.clone() });
        self.complete_at = at.map_or(Duration::ZERO, |at| at + soonest(deployment, pod_start));
    }
}

/// What a rollout to another template takes at least, if a pod starts in this time.
fn soonest(deployment: &Deployment, pod_start: Duration) -> Duration {
    let wanted = deployment.replicas;
    let at_once = match deployment.strategy {
        Strategy::Recreate => wanted,
        rolling => rolling.max_surge(wanted).saturating_add(rolling.max_unavailable(wanted)),
    };
    let turns = wanted.unsigned_abs().div_ceil(at_once.max(1).unsigned_abs());
    let readiness = deployment.template.probes.readiness.as_ref();
    let delay = readiness.map_or(0, |probe| probe.spec.initial_delay_seconds);
    let each = pod_start + Duration::from_secs(delay.into()) + Duration::from_secs(deployment.min_ready_seconds.into());
    each.saturating_mul(turns)
}

/// What a delay takes at least; of those that have no least, half the usual one.
fn least(delay: &Delay) -> Duration {
    match delay {
        Delay::Constant(span) | Delay::Uniform { min: span, .. } => *span,
        Delay::Lognormal { p50: usual, .. } | Delay::Exponential { mean: usual } => *usual / 2,
        Delay::Values(values) => values.iter().min().copied().unwrap_or_default(),
    }
}

impl Past {
    /// Nothing has happened yet.
    pub(super) fn new(standing: Standing) -> Self {
        Self { standing, ..Self::default() }
    }

    /// Takes note of what the objects have come to at an instant; none: at the start.
    pub(super) fn note(&mut self, resolved: &Resolved, at: Option<Duration>, settings: &Settings) {
        let pod_start = least(&settings.cluster.pod_start);
        for (workload, manifest) in resolved.workloads() {
            let key = workload.owner();
            let history = self.revisions.entry(key.to_string()).or_default();
            let limit = manifest.deployment.revision_history_limit;
            history.prune(limit, at.unwrap_or_default());
            if let Some(node) = resolved.templates.get(&*key) {
                history.note(&manifest.deployment, node, at, pod_start);
            }
        }
    }

    /// The template of a revision, or of the one before the current, while so many empty old sets are kept. What is impossible is reported.
    pub(super) fn template(
        &mut self,
        (key, limit): (&str, i32),
        revision: Option<i64>,
        entry: &TimelineEntry,
        sink: &Sink,
    ) -> Option<Node> {
        let history = self.revisions.entry(key.to_owned()).or_default();
        history.prune(limit, entry.at);
        let known = &history.known;
        let found = match revision {
            Some(number) => known.iter().find(|revision| revision.number == number),
            None => known.iter().rev().nth(1),
        };
        if found.is_none() {
            let text = match revision {
                Some(number) => format!("{key} has no revision {number} then"),
                None => format!("{key} has no revision to go back to then"),
            };
            let numbers: Vec<String> = known.iter().map(|revision| revision.number.to_string()).collect();
            let problem = Problem::at(entry.place, "spec.timeline", text);
            sink.report(problem.help(format!(
                "a template that changes makes a revision, and revisionHistoryLimit old ones are kept; there: {}",
                numbers.join(", ")
            )));
        }
        found.map(|revision| revision.node.clone())
    }

    /// A Deployment is deleted, or another owner of pods.
    pub(super) fn delete(&mut self, key: &str) {
        self.deleted.insert(key.to_owned());
    }

    /// Whether an owner of pods is gone.
    pub(super) fn is_deleted(&self, key: &str) -> bool {
        self.deleted.contains(key)
    }
}
