//! Verbs about pods and nodes, and the cluster's autoscaler, back into YAML.

use std::time::Duration;

use super::{bare, delay, map, span, text};
use crate::cluster::operation::{Fill, PodChoice};
use crate::manifest::Node;
use crate::scenario::node_scaling::AutoscalerSettings;
use crate::scenario::operations::{FAILURES, OperationSettings};

/// The verb and what stands under it.
pub(super) fn operation(operation: &OperationSettings) -> (&'static str, Node) {
    let seconds = |seconds: &Option<u32>| seconds.map(|seconds| ("grace", span(Duration::from_secs(seconds.into()))));
    let (verb, entries) = match operation {
        OperationSettings::Evict(choice) => ("evict", vec![("pod", pod(choice))]),
        OperationSettings::KillPod(choice, grace) => {
            let mut entries = vec![("pod", pod(choice))];
            entries.extend(seconds(grace));
            ("killPod", entries)
        }
        OperationSettings::Drain(node, settings) => {
            let mut entries = vec![("node", text(node.text()))];
            entries.extend(seconds(&settings.grace_seconds));
            entries.extend(settings.timeout.map(|timeout| ("timeout", span(timeout))));
            entries.push(("ignoreDaemonSets", bare(settings.ignores_daemon_sets)));
            entries.push(("deleteEmptyDirData", bare(settings.deletes_empty_dir_data)));
            entries.push(("force", bare(settings.forces)));
            ("drainNode", entries)
        }
        OperationSettings::Cordon(node, is_cordoned) => {
            (if *is_cordoned { "cordonNode" } else { "uncordonNode" }, vec![("node", text(node.text()))])
        }
        OperationSettings::FailNode(node, failure, back_after) => {
            let mode = FAILURES.iter().find(|(_, known)| known == failure).map_or("machine", |(name, _)| name);
            let mut entries = vec![("node", text(node.text())), ("mode", text(mode))];
            entries.extend(back_after.map(|back_after| ("for", span(back_after))));
            ("killNode", entries)
        }
        OperationSettings::FailZone(zone, back_after, with_nodes) => {
            let mut entries = vec![("zone", text(zone.text()))];
            entries.extend(back_after.map(|back_after| ("for", span(back_after))));
            entries.push(("nodes", bare(with_nodes)));
            ("failZone", entries)
        }
        OperationSettings::ShutDownNode(node, back_after) => {
            let mut entries = vec![("node", text(node.text()))];
            entries.extend(back_after.map(|back_after| ("for", span(back_after))));
            ("shutdownNode", entries)
        }
        OperationSettings::ReclaimNode(node, notice, is_heeded) => {
            ("reclaimNode", vec![("node", text(node.text())), ("notice", span(*notice)), ("drain", bare(is_heeded))])
        }
        OperationSettings::FillDisk(node, fill, back_after) => {
            let mut entries = vec![("node", text(node.text()))];
            entries.push(match fill {
                Fill::To(ppm) => ("to", bare(f64::from(*ppm) / 1_000_000.0)),
                Fill::By(bytes) => ("amount", text(&format!("{bytes}B"))),
            });
            entries.extend(back_after.map(|back_after| ("for", span(back_after))));
            ("fillDisk", entries)
        }
        OperationSettings::RemoveNode(node) => ("removeNode", vec![("node", text(node.text()))]),
        OperationSettings::AddNode(group, count) => {
            let mut entries: Vec<(&str, Node)> = group.iter().map(|group| ("group", text(group))).collect();
            entries.push(("count", bare(count)));
            ("addNode", entries)
        }
    };
    (verb, map(entries))
}

fn pod(choice: &PodChoice) -> Node {
    match choice {
        PodChoice::Ordinal(number) => bare(number),
        PodChoice::Named(name) => text(name),
        PodChoice::Oldest => text("oldest"),
        PodChoice::Newest => text("newest"),
        PodChoice::Ready => text("ready"),
        PodChoice::Unready => text("unready"),
        PodChoice::Pending => text("pending"),
    }
}

/// `cluster.autoscaler`.
pub(super) fn autoscaler(autoscaler: &AutoscalerSettings) -> Node {
    let rules = &autoscaler.rules;
    map(vec![
        ("group", text(&autoscaler.group)),
        ("min", bare(rules.min)),
        ("max", bare(rules.max)),
        ("nodeStart", delay(&autoscaler.node_start)),
        ("scanInterval", span(rules.scan)),
        ("utilizationPercent", bare(rules.utilization_percent)),
        ("unneededTime", span(rules.unneeded)),
        ("unreadyTime", span(rules.unready)),
        ("delayAfterAdd", span(rules.delay_after_add)),
        ("delayAfterFailure", span(rules.delay_after_failure)),
        ("okTotalUnreadyCount", bare(rules.unready_ok)),
        ("maxTotalUnreadyPercentage", bare(rules.unready_percent_max)),
        ("skipNodesWithLocalStorage", bare(rules.keeps_local_storage)),
        ("skipNodesWithSystemPods", bare(rules.keeps_system)),
    ])
}
