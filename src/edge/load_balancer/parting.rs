//! A balancer that its controller lets go of, and that stays: one that was reused, or is to be preserved.
//!
//! - From the deletion of its Service on, or another type, nobody follows endpoints: the next reconcile is the one that cleans up.
//! - When the controller has come to it, its listeners go with their groups, or they stay with the targets that they had, for as long as nobody mends that.
//! - It may fail at that: groups that listeners lead to are not deleted. Then it tries again and again.
//!
//! Sources: kubernetes/cloud-provider-alibaba-cloud pkg/controller/service/{clbv1,nlbv2}/model_applier.go (`deleteLoadBalancer`, `cleanup`); ACK documents,
//! "Service FAQ" (`RspoolVipExist`).

use std::rc::Rc;

use super::LoadBalancer;
use crate::engine::EventId;
use crate::net::Verdict;

/// How a controller lets go of a balancer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parting {
    /// Listeners and targets stay as they are then.
    pub keeps_listeners: bool,
    /// Why it cannot clean up.
    pub failure: Option<Rc<str>>,
}

impl LoadBalancer {
    /// Its Service wants it no more, and it stays. `then` is called when its controller is done, if it comes to an end.
    pub fn part_later(&self, parting: Parting, because: EventId, then: impl FnOnce() + 'static) {
        let inner = &self.inner;
        let number = self.ask_change();
        inner.state.borrow_mut().is_stuck = true;
        let this = self.clone();
        inner.sim.spawn("lb-part", async move {
            let inner = &this.inner;
            inner.sim.sleep(this.update_latency(&format!("{}/{}", inner.config.service, because.number()))).await;
            if !this.may_change(number) {
                return;
            }
            inner.state.borrow_mut().is_left = true;
            if !parting.keeps_listeners {
                this.clear(because);
            }
            match &parting.failure {
                Some(why) => this.fail(number, ("CleanLoadBalancerFailed", why), because).await,
                None => {
                    this.tell_service(because, "lb_left", Vec::new());
                    then();
                }
            }
        });
    }

    /// What becomes of a connection from within the cluster that its address led to the Service before: kube-proxies know that address only from the Service's status.
    #[must_use]
    pub fn verdict_within(&self, port: u16) -> Option<Verdict> {
        let state = self.inner.state.borrow();
        if let Some(why) = state.deleted {
            return Some(Verdict::Drop { by: None, why: Some(why) });
        }
        let closed = state.closed.get(&port).filter(|_| state.is_left);
        closed.map(|why| Verdict::Refuse { by: None, why: Some(*why) })
    }

    /// Its listeners go, but for those that another Service has, and all targets with them.
    fn clear(&self, because: EventId) {
        let inner = &self.inner;
        let ports: Vec<u16> = {
            let state = inner.state.borrow();
            inner.live().ports.keys().copied().filter(|port| !state.handed.contains_key(port)).collect()
        };
        for port in ports {
            let event = self.tell_service(because, "lb_listener_deleted", vec![("port", i64::from(port).into())]);
            self.close(port, event);
        }
        let gone = {
            let mut state = inner.state.borrow_mut();
            state.wanted.clear();
            state.last_seen.clear();
            std::mem::take(&mut state.registered)
        };
        for (ip, id) in gone {
            let Some(id) = id else { continue };
            let name = {
                let mut state = inner.state.borrow_mut();
                state.balancer.deregister(id);
                state.leave_groups(id);
                state.names.remove(&id).unwrap_or_else(|| Rc::from(ip.to_string()))
            };
            let event = inner.tell(Some(because), "target_deregistered", &name, ip);
            inner.state.borrow_mut().last_removal = Some(event);
            self.forget_kept(id);
        }
    }
}
