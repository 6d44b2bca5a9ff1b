//! `cluster.kubelet`: settings of the nodes' kubelets, by the names that their configuration has.
//!
//! Source: Kubernetes v1.28.7 staging/src/k8s.io/kubelet/config/v1beta1/types.go, pkg/kubelet/apis/config/validation/validation.go;
//! kubernetes/enhancements KEP-2712 (priorities from 1.24 on).

use std::time::Duration;

use super::resolved::{bare, list, map, span};
use crate::cluster::kubelet::shutdown::{GroupGrace, ShutdownGraces};
use crate::cluster::{ClientLimits, Version};
use crate::manifest::{Field, Fields, Node};

/// The first version that goes by priorities.
const BY_PRIORITY: Version = Version::new(1, 24);

/// What all kubelets of a cluster are set to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KubeletSettings {
    /// How fast each may call the API server.
    pub limits: ClientLimits,
    /// How long pods may take when their machine shuts down.
    pub shutdown: ShutdownSettings,
}

/// How long pods may take when their machine shuts down, as it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShutdownSettings {
    /// So long all of them, and so long of that the critical ones.
    Periods(Duration, Duration),
    /// By their priorities.
    ByPriority(Vec<GroupGrace>),
}

impl ShutdownSettings {
    /// The groups that they come to.
    #[must_use]
    pub fn graces(&self) -> ShutdownGraces {
        match self {
            Self::Periods(all, critical) => ShutdownGraces::of_periods(*all, *critical),
            Self::ByPriority(groups) => ShutdownGraces::by_priority(groups.clone()),
        }
    }
}

/// Reads the settings; what is not written is as the version has it.
pub(super) fn read(cluster: Option<&Fields<'_>>, version: Option<Version>) -> Option<KubeletSettings> {
    let version = version?;
    let usual = ClientLimits::of_kubelet(version);
    let fields = cluster.and_then(|fields| fields.get("kubelet")).and_then(|field| field.fields());
    let Some(fields) = fields else {
        let shutdown = ShutdownSettings::Periods(Duration::ZERO, Duration::ZERO);
        return Some(KubeletSettings { limits: usual, shutdown });
    };
    let limit = |key: &str, usual: u32| match fields.get(key) {
        Some(field) => field.whole::<u32>(1, 100_000),
        None => Some(usual),
    };
    let (per_second, burst) = (limit("kubeAPIQPS", usual.per_second), limit("kubeAPIBurst", usual.burst));
    let shutdown = shutdown(&fields, version);
    fields.finish();
    Some(KubeletSettings { limits: ClientLimits { per_second: per_second?, burst: burst? }, shutdown: shutdown? })
}

fn shutdown(fields: &Fields<'_>, version: Version) -> Option<ShutdownSettings> {
    let all_field = fields.get("shutdownGracePeriod");
    let critical_field = fields.get("shutdownGracePeriodCriticalPods");
    let all = period(all_field.as_ref());
    let critical = period(critical_field.as_ref());
    let by_priority = fields.get("shutdownGracePeriodByPodPriority");
    let groups: Vec<Option<GroupGrace>> =
        by_priority.as_ref().map(|field| field.items().iter().map(group).collect()).unwrap_or_default();
    let (all, critical) = (all?, critical?);
    let groups: Vec<GroupGrace> = groups.into_iter().collect::<Option<_>>()?;
    if let Some(field) = by_priority.filter(|_| !groups.is_empty()) {
        if version < BY_PRIORITY {
            let text = format!("Kubernetes {version} does not go by priorities when a node shuts down");
            field.refuse(text, "write shutdownGracePeriod, or simulate cluster.version \"1.24\" or newer");
            return None;
        }
        if !all.is_zero() || !critical.is_zero() {
            field.refuse(
                "shutdownGracePeriodByPodPriority and shutdownGracePeriod cannot both be set",
                "the kubelet does not start with both: remove one of them",
            );
            return None;
        }
        if let Some(twice) = groups
            .iter()
            .enumerate()
            .find(|(index, group)| groups[..*index].iter().any(|earlier| earlier.priority == group.priority))
        {
            field.refuse(format!("two groups begin at priority {}", twice.1.priority), "write each priority once");
            return None;
        }
        return Some(ShutdownSettings::ByPriority(groups));
    }
    if critical > all {
        let field = critical_field.or(all_field).expect("one of them is written");
        field.refuse(
            "shutdownGracePeriodCriticalPods is longer than shutdownGracePeriod, of which it is a part",
            "the kubelet does not start so: raise shutdownGracePeriod",
        );
        return None;
    }
    Some(ShutdownSettings::Periods(all, critical))
}

/// A period: nothing, or a second and more.
fn period(field: Option<&Field<'_>>) -> Option<Duration> {
    let Some(field) = field else { return Some(Duration::ZERO) };
    let span = field.duration()?;
    if !span.is_zero() && span < Duration::from_secs(1) {
        field.refuse("a period must be either zero or at least a second", "write 0s, or 1s and more");
        return None;
    }
    Some(span)
}

fn group(field: &Field<'_>) -> Option<GroupGrace> {
    let fields = field.fields()?;
    let priority = fields.require("priority", "write the lowest priority of the group: priority: 0");
    let priority = priority.and_then(|field| field.whole::<i32>(i64::from(i32::MIN), i64::from(i32::MAX)));
    let seconds = fields.require("shutdownGracePeriodSeconds", "write its time in seconds");
    let seconds = seconds.and_then(|field| field.whole::<u32>(0, i64::from(i32::MAX)));
    fields.finish();
    Some(GroupGrace { priority: priority?, seconds: seconds? })
}

/// The same with every default.
pub(super) fn written(settings: &KubeletSettings) -> Node {
    let ClientLimits { per_second, burst } = settings.limits;
    let mut entries = vec![("kubeAPIQPS", bare(per_second)), ("kubeAPIBurst", bare(burst))];
    match &settings.shutdown {
        ShutdownSettings::Periods(all, critical) => {
            entries.push(("shutdownGracePeriod", span(*all)));
            entries.push(("shutdownGracePeriodCriticalPods", span(*critical)));
        }
        ShutdownSettings::ByPriority(groups) => {
            let group = |group: &GroupGrace| {
                map(vec![("priority", bare(group.priority)), ("shutdownGracePeriodSeconds", bare(group.seconds))])
            };
            entries.push(("shutdownGracePeriodByPodPriority", list(groups.iter().map(group).collect())));
        }
    }
    map(entries)
}
