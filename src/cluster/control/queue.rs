//! The work queue: a change asks for a sync of the object that it concerns, and that comes a hop later.
//!
//! Source: Kubernetes v1.28.7 staging/src/k8s.io/client-go/util/workqueue.

use std::rc::Rc;
use std::time::Duration;

use super::daemon_set_sync::DaemonState;
use super::disruption_sync::BudgetState;
use super::{Caller, Cluster, Keeper, Work};

impl Cluster {
    /// What a change of a set asks for: of a `DaemonSet`'s revisions the whole is synced.
    fn settled_on(&self, work: Work) -> Work {
        let Work::Set(id) = work else { return work };
        let state = self.inner.state.borrow();
        let of_daemon = state.sets.get(&id).filter(|set| set.keeper == Keeper::DaemonSet);
        of_daemon.map_or(Work::Set(id), |set| Work::Daemon(Rc::clone(&set.owner)))
    }

    /// Asks for a sync, a hop from now; one that is asked for already is not asked for twice.
    pub(super) fn enqueue(&self, work: Work) {
        let work = self.settled_on(work);
        let hop = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let hops = match &work {
                Work::Deployment(key) => state.deployments.get_mut(key).map(|known| &mut known.hops),
                Work::Set(id) => {
                    let owner = state.sets.get(id).map(|set| &set.owner);
                    owner.and_then(|owner| state.deployments.get_mut(owner)).map(|known| &mut known.hops)
                }
                Work::Daemon(owner) => state.daemons.get_mut(owner).map(DaemonState::hops),
                Work::Budget(key) => state.budgets.get_mut(key).map(BudgetState::hops),
            };
            let Some(hops) = hops else { return };
            if !state.queued.insert(work.clone()) {
                return;
            }
            let hop = self.inner.config.hop.draw(hops);
            if self.stands() { Duration::ZERO } else { hop }
        };
        let this = self.clone();
        self.inner.sim.spawn("controller", async move {
            this.inner.sim.sleep(hop).await;
            let caller = match &work {
                Work::Deployment(_) => Some(Caller::Deployments),
                Work::Budget(_) => Some(Caller::Budgets),
                // A set's sync waits for each of its calls.
                Work::Set(_) | Work::Daemon(_) => None,
            };
            if let Some(caller) = caller {
                this.inner.sim.sleep(this.wait_for(caller)).await;
            }
            this.inner.state.borrow_mut().queued.remove(&work);
            match work {
                Work::Deployment(key) => this.sync_deployment(&key),
                Work::Set(id) => this.sync_set(id),
                Work::Daemon(owner) => this.sync_daemon_set(&owner),
                Work::Budget(key) => this.sync_budget(&key),
            }
        });
    }

    /// Asks for a sync after a delay, unless one is to come before that anyway: an earlier wish swallows later ones.
    /// Source: Kubernetes v1.28.7 staging/src/k8s.io/client-go/util/workqueue/delaying_queue.go.
    pub(super) fn enqueue_after(&self, work: Work, delay: Duration) {
        let work = self.settled_on(work);
        let due_at = self.inner.sim.now().after(delay);
        {
            let mut state = self.inner.state.borrow_mut();
            if state.delayed.get(&work).is_some_and(|earlier| *earlier <= due_at) {
                return;
            }
            state.delayed.insert(work.clone(), due_at);
        }
        let this = self.clone();
        self.inner.sim.spawn("delayed", async move {
            this.inner.sim.sleep_until(due_at).await;
            let is_due = this.inner.state.borrow().delayed.get(&work) == Some(&due_at);
            if is_due {
                this.inner.state.borrow_mut().delayed.remove(&work);
                this.enqueue(work);
            }
        });
    }
}
