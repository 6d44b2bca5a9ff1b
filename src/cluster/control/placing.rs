//! The scheduler at work: it places pods, and hears of what changes on nodes.
//!
//! A pod that found no node waits for a change that may help it ([`Changes`]); the rules of that are `scheduler::queue`'s.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::pod::Pod;
use super::services::ServiceState;
use super::{Cluster, Keeper, ReplicaSet, State, in_namespace};
use crate::cluster::endpoints::selects;
use crate::cluster::kubelet::pressure::MEMORY_PRESSURE;
use crate::cluster::objects::{Node, Resources};
use crate::cluster::placement::{TaintEffect, Toleration, TolerationValue};
use crate::cluster::scheduler::{Change, KindId, PodKind, Rules, Scheduler, Unschedulable};
use crate::cluster::selector::{LabelSelector, Labels};
use crate::engine::Streams;

/// The label by which pods of one revision are known. Source: pkg/controller/deployment/util `DefaultDeploymentUniqueLabelKey`.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// The label that every namespace has.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The scheduler, and the kind of pods that each set makes.
pub(in crate::cluster) struct Placing {
    scheduler: Scheduler,
    kinds: BTreeMap<u64, KindId>,
    /// When its queues are looked at.
    phase: Duration,
}

impl Placing {
    pub(super) fn new(nodes: &[Node], rules: Rules, streams: Streams) -> Self {
        let mut scheduler = Scheduler::new(rules);
        scheduler.cache.put_nodes(nodes.iter().cloned().enumerate());
        // The scheduler began at some time before; its longest period is half a minute.
        let phase = streams.stream("scheduler-queue", "").uniform(Duration::ZERO, Duration::from_secs(30));
        Self { scheduler, kinds: BTreeMap::new(), phase }
    }

    pub(super) fn looked_at(&self) -> u64 {
        self.scheduler.looked_at()
    }

    fn kind_of(&mut self, id: u64, set: &ReplicaSet, services: impl Fn() -> Option<LabelSelector>) -> KindId {
        if let Some(known) = self.kinds.get(&id) {
            return *known;
        }
        let kind = match set.keeper {
            Keeper::Deployment => kind(set),
            Keeper::DaemonSet | Keeper::Nobody => kind_of_bare(set, services()),
        };
        let namespace = Labels::from([(NAMESPACE_NAME.to_owned(), kind.namespace.clone())]);
        self.scheduler.cache.put_namespace(&kind.namespace, namespace);
        let known = self.scheduler.cache.add_kind(kind);
        self.kinds.insert(id, known);
        known
    }

    /// Which of some pods that have found no node would find one now, those of the highest priority first, all of them together. Nothing is bound.
    pub(super) fn would_fit(&self, pods: &[&Pod]) -> BTreeSet<u64> {
        let mut by_priority = pods.to_vec();
        by_priority.sort_by_key(|pod| Reverse(pod.template.placement.priority));
        let (mut fitting, mut hopeless) = (BTreeSet::new(), BTreeSet::new());
        let mut trial: Option<Scheduler> = None;
        for pod in by_priority {
            // Pods of one set are alike: where one finds no place there is none for the next.
            let Some(kind_id) = self.kinds.get(&pod.set).filter(|id| !hopeless.contains(*id)) else { continue };
            let scheduler = trial.as_ref().unwrap_or(&self.scheduler);
            let Some(index) = scheduler.first_possible(&scheduler.cache.kind(*kind_id)) else {
                hopeless.insert(*kind_id);
                continue;
            };
            trial.get_or_insert_with(|| self.scheduler.clone()).cache.place(*kind_id, index);
            fitting.insert(pod.record.id);
        }
        fitting
    }

    /// A node has come, or is another.
    pub(super) fn put_node(&mut self, index: usize, node: Node) {
        self.scheduler.cache.put_node(index, node);
    }

    /// An image is on a node from now on.
    pub(in crate::cluster) fn put_image(&mut self, index: usize, image: &str, bytes: u64) {
        self.scheduler.cache.put_image(image, bytes, index);
    }

    /// An image is no more on a node.
    pub(super) fn remove_image(&mut self, index: usize, image: &str) {
        self.scheduler.cache.remove_image(image, index);
    }

    /// A node is no more.
    pub(super) fn remove_node(&mut self, index: usize) {
        self.scheduler.cache.remove_node(index);
    }

    /// A pod of a set, on a node or not yet, is being deleted.
    pub(super) fn terminate(&mut self, set: u64, node_index: Option<usize>) {
        if let (Some(kind), Some(index)) = (self.kinds.get(&set), node_index) {
            self.scheduler.cache.terminate(*kind, index);
        }
    }

    /// A pod of a set has left its node, if it had one.
    pub(super) fn release(&mut self, set: u64, node_index: Option<usize>, was_terminating: bool) {
        if let (Some(kind), Some(index)) = (self.kinds.get(&set), node_index) {
            self.scheduler.cache.release(*kind, index, was_terminating);
        }
    }

    /// When the scheduler's queues are looked at, as [`crate::cluster::scheduler::queue`] takes it.
    pub(in crate::cluster) fn phase(&self) -> Duration {
        self.phase
    }
}

/// What the scheduler sees of a set's pods. Those of another revision differ by a label.
fn kind(set: &ReplicaSet) -> PodKind {
    let template = &set.template;
    let hash = set.name.rsplit('-').next().unwrap_or_default().to_owned();
    let mut labels = template.labels.clone();
    labels.insert(TEMPLATE_HASH.to_owned(), hash.clone());
    // A Service's selector asks for less than the set's.
    let peers = Some(LabelSelector::of_labels(Labels::from([(TEMPLATE_HASH.to_owned(), hash)])));
    kind_with(set, labels, peers)
}

/// The same of a pod without a `ReplicaSet`: only Services say which pods are its peers.
fn kind_of_bare(set: &ReplicaSet, services: Option<LabelSelector>) -> PodKind {
    kind_with(set, set.template.labels.clone(), services)
}

/// What the Services that select a pod ask for, all together; none if there is none.
/// Source: pkg/scheduler/framework/plugins/helper/spread.go `DefaultSelector`.
fn selector_of_services(services: &BTreeMap<Rc<str>, ServiceState>, set: &ReplicaSet) -> Option<LabelSelector> {
    let selectors = in_namespace(services, set.namespace()).map(|(_, service)| &service.spec.selector);
    let selecting = selectors.filter(|selector| selects(selector, &set.template.labels));
    let asked: Labels = selecting.flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    (!asked.is_empty()).then(|| LabelSelector::of_labels(asked))
}

fn kind_with(set: &ReplicaSet, labels: Labels, peers: Option<LabelSelector>) -> PodKind {
    let template = &set.template;
    let mut placement = template.placement.for_pods_with(&labels);
    if template.requests != Resources::default() {
        // Admission has all but those that ask for nothing bear a node that is short of memory.
        placement.tolerations.push(Toleration {
            key: MEMORY_PRESSURE.to_owned(),
            value: TolerationValue::Exists,
            effect: Some(TaintEffect::NoSchedule),
            seconds: None,
        });
    }
    PodKind {
        namespace: set.namespace().to_owned(),
        labels,
        placement,
        requests: template.requests,
        images: template.images(),
        peers,
    }
}

impl State {
    /// A pod without a controller has another template, and asks for as much as before: the scheduler sees another kind of pod where it is.
    pub(super) fn file_anew(&mut self, id: u64) {
        let Some(pod) = self.pods.get(&id) else { return };
        let Some(former) = self.placing.kinds.remove(&pod.set) else { return };
        let set = self.sets.get(&pod.set).expect("a pod has its set");
        let services = &self.services.known;
        let kind = self.placing.kind_of(pod.set, set, || selector_of_services(services, set));
        let Some(index) = pod.node_index else { return };
        let cache = &mut self.placing.scheduler.cache;
        cache.release(former, index, pod.is_deleting());
        cache.place(kind, index);
        if pod.is_deleting() {
            cache.terminate(kind, index);
        }
    }

    /// Puts a pod onto a node, whether it fits or not; why its kubelet does not take it, if it does not.
    pub(super) fn place_named(&mut self, id: u64, index: usize) -> Option<String> {
        let pod = self.pods.get(&id).expect("a pod that is placed is there");
        let set = self.sets.get(&pod.set).expect("a pod has its set");
        let services = &self.services.known;
        let kind_id = self.placing.kind_of(pod.set, set, || selector_of_services(services, set));
        let kind = self.placing.scheduler.cache.kind(kind_id);
        let misfit = self.placing.scheduler.refusal(&kind, index);
        self.placing.scheduler.cache.place(kind_id, index);
        self.pods.bind(id, index);
        misfit
    }
}

impl Cluster {
    /// A node for a pod, which is bound to it.
    ///
    /// # Errors
    ///
    /// If none is possible: why, and what may change that.
    pub(in crate::cluster) fn place(&self, id: u64) -> Result<usize, Unschedulable> {
        let index = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let pod = state.pods.get(&id).expect("a pod that is placed is there");
            let set = state.sets.get(&pod.set).expect("a pod has its set");
            let mut ties = self.inner.streams.stream("scheduler", &pod.identity);
            let services = &state.services.known;
            let kind_id = state.placing.kind_of(pod.set, set, || selector_of_services(services, set));
            let kind = state.placing.scheduler.cache.kind(kind_id);
            let index = match pod.only_on {
                Some(index) => state.placing.scheduler.only(&kind, index)?,
                None => state.placing.scheduler.choose(&kind, &mut ties)?,
            };
            // Every run checks its own books: what was chosen is looked at once more, as the node's kubelet does.
            let misfit = state.placing.scheduler.refusal(&kind, index);
            assert!(misfit.is_none(), "the scheduler chose a node on which the pod does not fit: {misfit:?}");
            state.placing.scheduler.cache.place(kind_id, index);
            state.pods.bind(id, index);
            index
        };
        self.inner.changes.raise(Change::PodPlaced);
        Ok(index)
    }
}

/// Changes that pods without a node wait for.
#[derive(Default)]
pub(in crate::cluster) struct Changes {
    count: Cell<u64>,
    /// The number of the last change of each kind.
    last: RefCell<BTreeMap<Change, u64>>,
    /// Whoever waits for a kind of change, with its priority, in the order of their first poll; the highest are woken first, equals in that order.
    waiting: RefCell<BTreeMap<Change, Vec<(i32, Waker)>>>,
}

impl Changes {
    /// The number of changes so far.
    pub(in crate::cluster) fn count(&self) -> u64 {
        self.count.get()
    }

    /// Something has changed.
    pub(in crate::cluster) fn raise(&self, change: Change) {
        self.count.set(self.count.get() + 1);
        self.last.borrow_mut().insert(change, self.count.get());
        let mut waiting = self.waiting.borrow_mut().remove(&change).unwrap_or_default();
        waiting.sort_by_key(|(priority, _)| Reverse(*priority));
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    /// Ends when there is a change of one of these kinds later than the one numbered `seen`. Of those whom a change wakes the highest priority comes first.
    pub(in crate::cluster) async fn any_since(&self, kinds: &BTreeSet<Change>, seen: u64, priority: i32) {
        poll_fn(|cx| {
            let last = self.last.borrow();
            if kinds.iter().any(|kind| last.get(kind).is_some_and(|number| *number > seen)) {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            for kind in kinds {
                let list = waiting.entry(*kind).or_default();
                if !list.iter().any(|(_, waker)| waker.will_wake(cx.waker())) {
                    list.push((priority, cx.waker().clone()));
                }
            }
            Poll::Pending
        })
        .await;
    }
}
