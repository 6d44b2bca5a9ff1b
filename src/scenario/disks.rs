//! Disks: of nodes (`cluster.nodes[].disk`), of what gateways and backends write there (`disk`), and what fills them from outside (`fillDisk`).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::operations::node_name;
use super::resolved::{map, text};
use super::settings::Settings;
use super::state::Resolved;
use crate::cluster::operation::Fill;
use crate::cluster::{NodeDisk, PodTemplate};
use crate::drill::DiskCosts;
use crate::manifest::{Field, Fields, Node, Place, Problem, Sink};

/// What a pod takes of its node's disk, and where it is written in which volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskSettings {
    /// What it takes.
    pub costs: DiskCosts,
    /// Where the volume is named, if it is.
    pub volume_at: Option<Place>,
}

/// Reads a node's disk.
pub(super) fn node(field: &Field<'_>) -> Option<NodeDisk> {
    let fields = field.fields()?;
    let size_field = fields.require("size", "write how large the disk of each is: size: 100GiB");
    let size = size_field.as_ref().and_then(Field::bytes);
    let used = fields.get("used").map_or(Some(0), |field| field.bytes());
    fields.finish();
    let (capacity_bytes, used_bytes) = (size?, used?);
    if used_bytes > capacity_bytes || capacity_bytes == 0 {
        field.refuse("there is more on the disk than its size", "make size larger than used");
    }
    Some(NodeDisk { capacity_bytes, used_bytes })
}

/// The same, as it is written.
pub(super) fn node_written(disk: NodeDisk) -> Node {
    map(vec![("size", size(disk.capacity_bytes)), ("used", size(disk.used_bytes))])
}

/// Reads what a pod takes.
pub(super) fn costs(field: &Field<'_>) -> Option<DiskSettings> {
    let fields = field.fields()?;
    let size = |key: &str| fields.get(key).map_or(Some(0), |field| field.bytes());
    let (base, request, log) = (size("base"), size("perRequest"), size("logPerRequest"));
    let volume_field = fields.get("volume");
    let volume = match &volume_field {
        Some(field) => field.text().map(|text| Some(Rc::from(text))),
        None => Some(None),
    };
    fields.finish();
    let costs = DiskCosts { base_bytes: base?, request_bytes: request?, log_bytes: log?, volume: volume? };
    Some(DiskSettings { costs, volume_at: volume_field.map(|field| field.place()) })
}

/// The same, as it is written.
pub(super) fn written(costs: &DiskCosts) -> Node {
    let parts = [("base", costs.base_bytes), ("perRequest", costs.request_bytes), ("logPerRequest", costs.log_bytes)];
    let mut entries: Vec<(&str, Node)> = parts.map(|(key, bytes)| (key, size(bytes))).to_vec();
    entries.extend(costs.volume.as_ref().map(|volume| ("volume", text(volume))));
    map(entries)
}

fn size(bytes: u64) -> Node {
    text(&format!("{bytes}B"))
}

/// Reports volumes that the pods do not have.
pub(super) fn check(resolved: &Resolved, settings: &Settings, sink: &Sink) {
    let report = |disk: &DiskSettings, path: String, template: Option<&PodTemplate>| {
        let (Some(volume), Some(at), Some(template)) = (&disk.costs.volume, disk.volume_at, template) else { return };
        let known = || template.storage.empty_dirs.iter().map(|known| &*known.name);
        if known().all(|name| *name != **volume) {
            let problem = Problem::at(at, path, format!("the pods have no emptyDir on disk that is called `{volume}`"));
            sink.report(match known().next() {
                Some(_) => problem.did_you_mean(volume, known()),
                None => problem.help("take `volume` out: then it lies in the container's writable layer"),
            });
        }
    };
    if let Some(disk) = &settings.gateway.disk {
        let target = resolved.target().map(|manifest| &manifest.deployment.template);
        report(disk, "spec.gateway.disk.volume".to_owned(), target);
    }
    let pods: BTreeMap<&str, &PodTemplate> = {
        let bare = resolved.pods.iter().map(|(name, pod)| (name, &pod.manifest));
        let daemons = resolved.daemons.iter().map(|(name, daemon)| (name, &daemon.manifest));
        let all = bare.chain(daemons).chain(&resolved.deployments);
        all.map(|(name, manifest)| (name.as_str(), &manifest.deployment.template)).collect()
    };
    for (index, backend) in settings.backends.iter().enumerate() {
        let template = backend.pods().and_then(|(name, _)| pods.get(name.as_str()).copied());
        if let Some(disk) = &backend.disk {
            report(disk, format!("spec.backends[{index}].disk.volume"), template);
        }
    }
}

/// Reads how much `fillDisk` fills.
pub(super) fn fill(fields: &Fields<'_>) -> Option<Fill> {
    match (fields.get("to"), fields.get("amount")) {
        (Some(to), None) => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000,000")]
            let ppm = (to.ratio()? * 1e6).round() as u32;
            Some(Fill::To(ppm))
        }
        (None, Some(amount)) => Some(Fill::By(amount.bytes()?)),
        (Some(_), Some(amount)) => {
            amount.refuse("`to` says how full it gets", "remove amount, or to");
            None
        }
        (None, None) => {
            fields.missing("to", "write how full it gets, such as to: 95%, or how much comes, such as amount: 20GiB");
            None
        }
    }
}

/// How the timeline tells it.
pub(super) fn fill_text(fill: Fill) -> String {
    match fill {
        Fill::To(ppm) => format!("to {}%", f64::from(ppm) / 10_000.0),
        Fill::By(bytes) => format!("with {bytes}B"),
    }
}

/// Reports a node whose disk has no size: it never fills. One that is chosen by a word is of any group.
pub(super) fn check_fill(settings: &Settings, (name, at): (&str, Place), sink: &Sink) {
    let groups = &settings.cluster.nodes;
    // Nodes that come later have the next numbers.
    let is_of = |prefix: &str| {
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
        number.is_some_and(|number| number.parse::<usize>().is_ok())
    };
    let mut meant = groups.iter().filter(|group| {
        let is_first = (0..group.count).any(|index| node_name(group, index) == name);
        name == "busiest" || is_first || is_of(&group.name)
    });
    if meant.all(|group| group.disk.is_none()) {
        let problem = Problem::at(at, "spec.timeline", format!("the disk of {name} has no size, so it never fills"));
        sink.report(problem.help("give its group in cluster.nodes one: disk: { size: 100GiB }"));
    }
}
