//! Who sizes the Deployments of a cluster, and what their pods use.
//!
//! The mesh's control plane writes the replicas of a gateway that it owns again and again, whoever wrote others meanwhile.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::member::Member;
use crate::cluster::autoscaler::reconcile::Reading;
use crate::cluster::autoscaler::{Metric, ResourceTarget, ValueTarget};
use crate::cluster::kubelet::disk::DiskUse;
use crate::cluster::metrics::Usage;
use crate::cluster::{AutoscalerStep, Cluster, Deployment, Identity};
use crate::drill::config::Size;
use crate::engine::EventId;
use crate::record::results::{self, AutoscalerMetric};

impl Member {
    /// Starts the autoscalers and the control plane's care for replicas.
    pub(super) fn start_scaling(self: &Rc<Self>, cluster: &Cluster, is_owned_later: bool) {
        cluster.set_autoscaling(self.config.scaling.config.clone());
        for spec in &self.config.scaling.autoscalers {
            cluster.apply_autoscaler(spec.clone(), None);
        }
        if self.owned.get().is_none() && !is_owned_later {
            return;
        }
        let member = Rc::downgrade(self);
        let clock = self.around.sim.clone();
        let mut phases = self.around.streams.stream("replicas-sync", &self.config.target);
        self.around.sim.spawn("replicas-sync", async move {
            let mut is_first = true;
            loop {
                // Looked at again each second while nothing is owned: that may change in mid-run.
                let owned = match member.upgrade() {
                    Some(member) => member.owned.get(),
                    None => return,
                };
                let wait = match owned {
                    Some(owned) if is_first => phases.uniform(Duration::ZERO, owned.period),
                    Some(owned) => owned.period,
                    None => Duration::from_secs(1),
                };
                is_first &= owned.is_none();
                clock.sleep(wait).await;
                let Some(member) = member.upgrade() else { return };
                member.restore_replicas();
            }
        });
    }

    /// Writes the replicas that the control plane owns, if they are others.
    fn restore_replicas(&self) {
        let (cluster, target) = (self.cluster(), &self.config.target);
        let Some((owned, now)) = self.owned.get().zip(cluster.deployment(target)) else { return };
        if now.replicas == owned.replicas {
            return;
        }
        let data = vec![("from", i64::from(now.replicas).into()), ("to", i64::from(owned.replicas).into())];
        let at = self.around.sim.now();
        let object = self.identity().object(format!("Deployment/{target}"));
        let event = self.around.log.borrow_mut().record(at, None, "replicas_restored", object, data);
        cluster.scale(target, owned.replicas, Some(event));
    }

    /// Applies a Deployment of the timeline.
    pub(super) fn apply(&self, deployment: &Deployment, size: Size, event: EventId) {
        let cluster = self.cluster();
        let mut deployment = deployment.clone();
        if let (Size::Kept, Some(known)) = (size, cluster.deployment(&deployment.key)) {
            deployment.replicas = known.replicas;
        }
        cluster.apply_deployment(deployment, Some(event));
    }

    /// What a pod's process has used so far.
    pub(super) fn usage(&self, ip: Ipv4Addr) -> Option<Usage> {
        if let Some(process) = self.gateways.borrow().get(&ip) {
            return Some(process.usage(self.around.sim.now()));
        }
        self.backends.borrow().get(&ip).map(|process| process.usage())
    }

    /// What a pod takes of its node's disk, if that is known.
    pub(super) fn disk_use(&self, ip: Ipv4Addr) -> Option<DiskUse> {
        if let Some(process) = self.gateways.borrow().get(&ip) {
            return Some(self.config.scaling.disk.as_ref()?.used(process.memory.requests()));
        }
        let backends = self.backends.borrow();
        let process = backends.get(&ip)?;
        Some(process.disk.as_ref()?.used(process.usage().requests?))
    }
}

/// A sync as the results tell it.
pub(super) fn step_row(step: &AutoscalerStep, identity: &Identity) -> results::AutoscalerStep {
    let count = |size: i32| u32::try_from(size).unwrap_or(0);
    let conditions = step.conditions.iter().map(|(kind, condition)| {
        let status = if condition.holds { "True" } else { "False" };
        (kind.name().to_owned(), format!("{status}/{}", condition.reason))
    });
    results::AutoscalerStep {
        object: identity.key(&step.object).to_string(),
        target: identity.key(&step.target).to_string(),
        t_ms: step.at.as_nanos() / 1_000_000,
        current: count(step.current),
        // What failed wants nothing else than there is.
        desired: count(if step.is_scaled { step.desired } else { step.current }),
        metrics: step.metrics.iter().map(|(metric, reading)| metric_row(metric, *reading)).collect(),
        conditions: conditions.collect(),
        error: step.error.clone(),
    }
}

fn metric_row(metric: &Metric, reading: Option<Reading>) -> AutoscalerMetric {
    #[expect(clippy::cast_precision_loss, reason = "figures of metrics fit a double")]
    let whole = |milli: i64| milli as f64 / 1000.0;
    let (target, unit) = match metric {
        Metric::Resource { target: ResourceTarget::Utilization(percent), .. } => (f64::from(*percent), "percent"),
        Metric::Resource { target: ResourceTarget::AverageMilli(milli), .. }
        | Metric::Pods { average_milli: milli, .. }
        | Metric::Object { target: ValueTarget::AverageMilli(milli), .. }
        | Metric::External { target: ValueTarget::AverageMilli(milli), .. } => (whole(*milli), "per_pod"),
        Metric::Object { target: ValueTarget::ValueMilli(milli), .. }
        | Metric::External { target: ValueTarget::ValueMilli(milli), .. } => (whole(*milli), "value"),
        Metric::Unknown { .. } => (0.0, "value"),
    };
    let value = reading.map(|reading| match reading {
        Reading::Utilization { percent, .. } => f64::from(percent),
        Reading::Average(milli) | Reading::Value(milli) => whole(milli),
    });
    AutoscalerMetric {
        kind: metric.kind().to_owned(),
        name: metric.name().to_owned(),
        value,
        target,
        unit: unit.to_owned(),
    }
}
