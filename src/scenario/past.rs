//! What earlier entries of the timeline have done that later ones depend on: revisions to go back to, and Deployments that are gone.

use std::collections::{BTreeMap, BTreeSet};

use super::front_changes::Standing;
use super::settings::TimelineEntry;
use super::state::Resolved;
use crate::cluster::PodTemplate;
use crate::manifest::{Node, Problem, Sink};

/// The past of all Deployments.
#[derive(Default)]
pub(super) struct Past {
    /// The templates of each Deployment with their numbers, the current one last. A template that comes back gets a new number, as a set does.
    revisions: BTreeMap<String, Vec<Revision>>,
    deleted: BTreeSet<String>,
    /// The Service in front, as the cloud has it.
    pub(super) standing: Standing,
    /// What gateway processes read at their start, by the `other` of their template.
    pub(super) processes: BTreeMap<String, String>,
}

struct Revision {
    number: i64,
    template: PodTemplate,
    node: Node,
}

impl Past {
    /// Nothing has happened yet.
    pub(super) fn new(standing: Standing) -> Self {
        Self { standing, ..Self::default() }
    }

    /// Takes note of what the objects have come to.
    pub(super) fn note(&mut self, resolved: &Resolved) {
        for (key, manifest) in &resolved.deployments {
            let known = self.revisions.entry(key.clone()).or_default();
            let template = &manifest.deployment.template;
            // While it is paused a template makes no revision.
            if manifest.deployment.is_paused || known.last().is_some_and(|last| last.template == *template) {
                continue;
            }
            let number = known.iter().map(|revision| revision.number).max().unwrap_or(0) + 1;
            known.retain(|revision| revision.template != *template);
            if let Some(node) = resolved.templates.get(key) {
                known.push(Revision { number, template: template.clone(), node: node.clone() });
            }
            let kept = usize::try_from(manifest.deployment.revision_history_limit).unwrap_or(0) + 1;
            known.drain(..known.len().saturating_sub(kept));
        }
    }

    /// The template of a revision, or of the one before the current. What is impossible is reported.
    pub(super) fn template(
        &self,
        key: &str,
        revision: Option<i64>,
        entry: &TimelineEntry,
        sink: &Sink,
    ) -> Option<Node> {
        let known = self.revisions.get(key).map_or(&[][..], Vec::as_slice);
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

    /// A Deployment is deleted.
    pub(super) fn delete(&mut self, key: &str) {
        self.deleted.insert(key.to_owned());
    }

    /// Whether a Deployment is gone.
    pub(super) fn is_deleted(&self, key: &str) -> bool {
        self.deleted.contains(key)
    }
}
