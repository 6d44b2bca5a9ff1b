//! `cluster.autoscaler`: the cluster autoscaler, from its fields to what the cluster is told.

use std::rc::Rc;
use std::time::Duration;

use super::operations::NodeNames;
use super::settings::{NodeGroup, Settings};
use crate::cluster::AutoscalerConfig;
use crate::cluster::node_autoscaler::AutoscalerRules;
use crate::engine::Delay;
use crate::manifest::Field;

/// From the wish for a node to the node that takes pods. An assumption: a machine, its kubelet and its network take a minute and a half.
const NODE_START: Delay = Delay::Constant(Duration::from_secs(90));

/// The autoscaler of one group of nodes.
#[derive(Clone, Debug)]
pub struct AutoscalerSettings {
    /// The group.
    pub group: String,
    /// From the wish for a node to the node that takes pods.
    pub node_start: Delay,
    /// When it grows and shrinks.
    pub rules: AutoscalerRules,
}

/// Reads it; `groups` are the groups of nodes.
pub(super) fn read(field: &Field<'_>, groups: &[NodeGroup]) -> Option<AutoscalerSettings> {
    let fields = field.fields()?;
    let span = |key: &str, usual: Duration| match fields.get(key) {
        Some(field) => field.positive_duration(),
        None => Some(usual),
    };
    let group_field = fields.get("group");
    let group = match &group_field {
        Some(field) => field.text(),
        None => groups.first().map(|group| group.name.as_str()),
    };
    let found = group.and_then(|name| groups.iter().find(|group| group.name == name));
    if let (Some(field), Some(name), None) = (&group_field, group, found) {
        let problem = field.problem(format!("no group of nodes is called `{name}`"));
        field.sink().report(problem.did_you_mean(name, groups.iter().map(|group| group.name.as_str())));
    }
    let count = found.map_or(1, |group| group.count);
    let whole = |key: &str, usual: usize| match fields.get(key) {
        Some(field) => field.whole::<usize>(0, super::nodes::NODES_MAX),
        None => Some(usual),
    };
    let min = whole("min", count.min(1));
    let max_field = fields.require("max", "write how many nodes the group may have: max: 6");
    let max = max_field.as_ref().and_then(|field| field.whole::<usize>(1, super::nodes::NODES_MAX));
    if let (Some(min), Some(max), Some(field)) = (min, max, &max_field) {
        if min > max {
            field.refuse(format!("the group may have {max} nodes and must have {min}"), "write a max of min or more");
        } else if max < count {
            field.refuse(format!("the group begins with {count} nodes"), "write a max of that or more");
        }
    }
    let usual = AutoscalerRules::usual(min.unwrap_or_default(), max.unwrap_or_default());
    let percent =
        fields.get("utilizationPercent").map_or(Some(usual.utilization_percent), |field| field.whole::<u64>(0, 100));
    let node_start = fields.get("nodeStart").map_or(Some(NODE_START), |field| field.delay());
    let (scan, unneeded) = (span("scanInterval", usual.scan), span("unneededTime", usual.unneeded));
    let unready = span("unreadyTime", usual.unready);
    let delay_after_add = span("delayAfterAdd", usual.delay_after_add);
    let delay_after_failure = span("delayAfterFailure", usual.delay_after_failure);
    let unready_ok = whole("okTotalUnreadyCount", usual.unready_ok);
    let unready_percent_max = fields
        .get("maxTotalUnreadyPercentage")
        .map_or(Some(usual.unready_percent_max), |field| field.whole::<usize>(0, 100));
    let choice = |key: &str, usual: bool| fields.get(key).map_or(Some(usual), |field| field.boolean());
    let keeps_local_storage = choice("skipNodesWithLocalStorage", usual.keeps_local_storage);
    let keeps_system = choice("skipNodesWithSystemPods", usual.keeps_system);
    fields.finish();
    Some(AutoscalerSettings {
        group: found?.name.clone(),
        node_start: node_start?,
        rules: AutoscalerRules {
            min: min?,
            max: max?,
            scan: scan?,
            utilization_percent: percent?,
            unneeded: unneeded?,
            unready: unready?,
            delay_after_add: delay_after_add?,
            delay_after_failure: delay_after_failure?,
            unready_ok: unready_ok?,
            unready_percent_max: unready_percent_max?,
            keeps_local_storage: keeps_local_storage?,
            keeps_system: keeps_system?,
        },
    })
}

/// What the cluster gets; `names` knows the nodes that the timeline adds.
pub(super) fn config(settings: &Settings, names: &NodeNames<'_>) -> Option<AutoscalerConfig> {
    let autoscaler = settings.cluster.autoscaler.as_ref()?;
    let group = settings.cluster.nodes.iter().find(|group| group.name == autoscaler.group)?;
    Some(AutoscalerConfig {
        group: Rc::from(group.name.as_str()),
        number_next: names.count(&group.name) + 1,
        zones: group.zones.iter().map(|zone| Rc::from(zone.as_str())).collect(),
        pattern: group.node(0, settings.cluster.identity.node_ip(0)),
        node_start: autoscaler.node_start.clone(),
        rules: autoscaler.rules,
    })
}
