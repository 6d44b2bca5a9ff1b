//! The hollow kubelet of the recordings: it writes pods' states after set times.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::{Cluster, HollowKubelet, HollowPod};
use gatedrill::engine::Sim;
use serde_json::Value;

/// The programme of a case's pods.
pub(crate) struct Programme {
    sim: Sim,
    /// Set once the cluster is there.
    cluster: RefCell<Option<Cluster>>,
    default: Value,
    rules: Vec<Value>,
    /// How many pods of each rule have been bound, and deleted. The default counts as the rule behind the last.
    bound: RefCell<BTreeMap<usize, usize>>,
    deleted: RefCell<BTreeMap<usize, usize>>,
    /// Pods bound so far.
    pub(crate) bound_count: Cell<usize>,
}

impl Programme {
    /// The programme of `inputs.kubelet`.
    pub(crate) fn new(sim: &Sim, kubelet: &Value) -> Rc<Self> {
        Rc::new(Self {
            sim: sim.clone(),
            cluster: RefCell::new(None),
            default: kubelet["default"].clone(),
            rules: kubelet["rules"].as_array().cloned().unwrap_or_default(),
            bound: RefCell::default(),
            deleted: RefCell::default(),
            bound_count: Cell::new(0),
        })
    }

    /// Tells it the cluster whose pods are its own.
    pub(crate) fn attach(&self, cluster: &Cluster) {
        *self.cluster.borrow_mut() = Some(cluster.clone());
    }

    fn cluster(&self) -> Cluster {
        self.cluster.borrow().clone().expect("attached before the first pod")
    }

    fn rule(&self, image: &str) -> usize {
        self.rules.iter().position(|rule| rule["image"] == image).unwrap_or(self.rules.len())
    }

    /// A value of a rule, or of the default if the rule does not have it.
    fn value(&self, rule: usize, key: &str) -> &Value {
        self.rules.get(rule).and_then(|rule| rule.get(key)).unwrap_or(&self.default[key])
    }

    /// The `turn`th of a list that goes round, or the value itself.
    fn span(&self, rule: usize, key: &str, turn: usize) -> Duration {
        let value = self.value(rule, key);
        let value = value.as_array().map_or(value, |list| &list[turn % list.len()]);
        Duration::from_secs_f64(value.as_f64().expect("seconds"))
    }
}

fn next(counts: &RefCell<BTreeMap<usize, usize>>, rule: usize) -> usize {
    let mut counts = counts.borrow_mut();
    let count = counts.entry(rule).or_default();
    *count += 1;
    *count - 1
}

impl HollowKubelet for Programme {
    fn bound(&self, pod: &HollowPod) {
        self.bound_count.set(self.bound_count.get() + 1);
        let rule = self.rule(&pod.image);
        let turn = next(&self.bound, rule);
        let never_ready = self.value(rule, "never_ready");
        // A list does not go round: behind its end pods are healthy.
        let never_ready = match never_ready.as_array() {
            Some(list) => list.get(turn).and_then(Value::as_str),
            None => never_ready.as_str(),
        };
        if never_ready == Some("pending") {
            return;
        }
        let (start, is_ready) = (self.span(rule, "start_s", turn), never_ready.is_none());
        let (sim, cluster, id) = (self.sim.clone(), self.cluster(), pod.id);
        self.sim.spawn("start", async move {
            sim.sleep(start).await;
            let views = cluster.all_pod_views();
            // A pod that is being deleted before it runs never does.
            if views.iter().any(|view| view.id == id && !view.is_deleting) {
                cluster.report_running(id, is_ready);
            }
        });
    }

    fn deleted(&self, pod: &HollowPod) {
        let rule = self.rule(&pod.image);
        let turn = next(&self.deleted, rule);
        let key = if pod.is_running { "terminate_s" } else { "terminate_pending_s" };
        let span = self.span(rule, key, turn).min(Duration::from_secs(pod.grace_seconds.into()));
        let (sim, cluster, id) = (self.sim.clone(), self.cluster(), pod.id);
        self.sim.spawn("end", async move {
            sim.sleep(span).await;
            cluster.report_gone(id);
        });
    }
}
