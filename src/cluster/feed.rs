//! What consumers see of a Service's endpoints, and when.
//!
//! Every change of an endpoint reaches every consumer after a delay of its own: from the pod's state over the `EndpointSlice` and
//! the watch to whoever acts on it. A consumer sees changes in the order in which they happened.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::endpoint_list::EndpointList;
use super::endpoints::EndpointConditions;
use super::notice::until;
use crate::engine::{Delay, EventId, Names, Sim, Spread, Streams};
use crate::units::SimTime;

/// An endpoint of a Service as one consumer sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointView {
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The pod's name.
    pub pod: Rc<str>,
    /// The node it runs on.
    pub node: Rc<str>,
    /// It gets new connections.
    pub ready: bool,
    /// Its readiness probe passes, whether or not it terminates.
    pub serving: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// The event that brought it into this state.
    pub because: Option<EventId>,
}

impl EndpointView {
    /// What its slice says of it.
    pub(super) fn conditions(&self) -> EndpointConditions {
        EndpointConditions { ready: self.ready, serving: self.serving, terminating: self.terminating }
    }
}

/// A consumer's view of one Service.
pub struct EndpointWatch {
    sim: Sim,
    told: Rc<RefCell<Told>>,
    consumer: usize,
    edition: u64,
}

/// What the consumers of one Service are told.
pub(super) struct Feed {
    told: Rc<RefCell<Told>>,
}

/// What has been told, from the first that somebody has not come to yet.
struct Told {
    streams: Streams,
    service: Rc<str>,
    delay: Spread,
    /// What all are told.
    to_all: VecDeque<Announcement>,
    /// The number of the first of them.
    first: u64,
    consumers: Vec<Consumer>,
    /// Those that have come to the end.
    waiting: BTreeMap<usize, Waker>,
}

/// A state of all endpoints, on its way.
struct Announcement {
    told_at: SimTime,
    way: Way,
    snapshot: EndpointList,
    edition: u64,
    /// So many have not come to it.
    consumers_left: usize,
}

/// What the time of its way is drawn for. It is worked out when a consumer asks for it: of all that comes while a consumer is busy with something else, only the
/// last matters.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// It takes no time.
    AtOnce,
    /// The change with this number.
    Change(u64),
    /// The Service is deleted.
    Deletion,
    /// The edit with this number.
    Edit(u64),
}

struct Consumer {
    name: Rc<str>,
    /// Of the times that changes take to it.
    draws: Names,
    /// The number of what it hears next of all that all are told.
    next: u64,
    /// What it alone is told, and the number of what comes behind it.
    own: VecDeque<(u64, Announcement)>,
    /// Nothing that is still to come arrives before this.
    last_at: SimTime,
}

impl Consumer {
    fn arrives_at(&self, announcement: &Announcement, delay: &Spread) -> SimTime {
        let mut stream = match announcement.way {
            Way::AtOnce => return announcement.told_at,
            Way::Change(number) => self.draws.numbered(number),
            Way::Deletion => self.draws.stream("deleted"),
            Way::Edit(number) => self.draws.stream(&format!("edit-{number}")),
        };
        announcement.told_at.after(delay.draw(&mut stream))
    }

    fn has_arrived(&self, announcement: &Announcement, delay: &Spread, now: SimTime) -> bool {
        match announcement.way {
            Way::Change(number) => {
                announcement.told_at <= now
                    && delay.is_within(now.since(announcement.told_at), &mut self.draws.numbered(number))
            }
            Way::AtOnce | Way::Deletion | Way::Edit(_) => self.arrives_at(announcement, delay) <= now,
        }
    }
}

impl Feed {
    /// What is told of a Service, with these times on the way. Nobody listens yet.
    pub(super) fn new(streams: Streams, service: &str, delay: Delay) -> Self {
        let told = Told {
            streams,
            service: Rc::from(service),
            delay: Spread::new(delay),
            to_all: VecDeque::new(),
            first: 0,
            consumers: Vec::new(),
            waiting: BTreeMap::new(),
        };
        Self { told: Rc::new(RefCell::new(told)) }
    }

    /// Somebody listens from now on, and hears of what is told from now on; the number of this consumer.
    pub(super) fn join(&self, sim: &Sim, name: &str) -> (EndpointWatch, usize) {
        let mut told = self.told.borrow_mut();
        let consumer = Consumer {
            name: Rc::from(name),
            draws: told.streams.names("endpoint", &format!("{}/{name}/", told.service)),
            next: told.end(),
            own: VecDeque::new(),
            last_at: SimTime::ZERO,
        };
        told.consumers.push(consumer);
        let consumer = told.consumers.len() - 1;
        (EndpointWatch { sim: sim.clone(), told: Rc::clone(&self.told), consumer, edition: 0 }, consumer)
    }

    /// The consumers of this name.
    pub(super) fn named(&self, name: &str) -> Vec<usize> {
        let told = self.told.borrow();
        told.consumers.iter().enumerate().filter(|(_, it)| *it.name == *name).map(|(index, _)| index).collect()
    }

    /// How many consumers there are.
    pub(super) fn consumer_count(&self) -> usize {
        self.told.borrow().consumers.len()
    }

    /// All consumers hear of a snapshot by an edition of the Service, each in its time and behind what it was told before.
    pub(super) fn tell_all(&self, now: SimTime, way: Way, snapshot: &EndpointList, edition: u64) {
        let mut told = self.told.borrow_mut();
        let consumers_left = told.consumers.len();
        if consumers_left == 0 {
            return;
        }
        let snapshot = snapshot.clone();
        told.to_all.push_back(Announcement { told_at: now, way, snapshot, edition, consumers_left });
        std::mem::take(&mut told.waiting).into_values().for_each(Waker::wake);
    }

    /// One consumer hears of it; when it does.
    pub(super) fn tell(
        &self,
        consumer: usize,
        now: SimTime,
        way: Way,
        snapshot: &EndpointList,
        edition: u64,
    ) -> SimTime {
        let mut told = self.told.borrow_mut();
        let told = &mut *told;
        let announcement = Announcement { told_at: now, way, snapshot: snapshot.clone(), edition, consumers_left: 1 };
        let end = told.end();
        told.consumers[consumer].own.push_back((end, announcement));
        if let Some(waker) = told.waiting.remove(&consumer) {
            waker.wake();
        }
        told.all_heard_at(consumer)
    }
}

impl Told {
    /// The number of what all are told next.
    fn end(&self) -> u64 {
        self.first + u64::try_from(self.to_all.len()).expect("a number of announcements")
    }

    fn index_of(&self, number: u64) -> usize {
        usize::try_from(number - self.first).expect("an index of an announcement")
    }

    /// What a consumer hears next, and whether it alone does.
    fn next(&self, consumer: usize) -> Option<(&Announcement, bool)> {
        let consumer = &self.consumers[consumer];
        match consumer.own.front().filter(|(behind, _)| *behind <= consumer.next) {
            Some((_, own)) => Some((own, true)),
            None => self.to_all.get(self.index_of(consumer.next)).map(|of_all| (of_all, false)),
        }
    }

    /// When a consumer hears of what it hears next.
    fn due(&mut self, consumer: usize) -> Option<SimTime> {
        let (next, _) = self.next(consumer)?;
        let arrives_at = self.consumers[consumer].arrives_at(next, &self.delay);
        let last_at = &mut self.consumers[consumer].last_at;
        *last_at = arrives_at.max(*last_at);
        Some(*last_at)
    }

    /// When a consumer has heard of all that it has been told.
    fn all_heard_at(&self, consumer: usize) -> SimTime {
        let consumer = &self.consumers[consumer];
        let own = consumer.own.iter().map(|(_, own)| own);
        let pending = own.chain(self.to_all.range(self.index_of(consumer.next)..));
        pending.map(|next| consumer.arrives_at(next, &self.delay)).fold(consumer.last_at, SimTime::max)
    }

    /// A consumer hears of what is next.
    fn take(&mut self, consumer: usize) -> Option<(EndpointList, u64)> {
        let (next, is_own) = self.next(consumer)?;
        let heard = (next.snapshot.clone(), next.edition);
        if is_own {
            self.consumers[consumer].own.pop_front();
            return Some(heard);
        }
        let index = self.index_of(self.consumers[consumer].next);
        self.consumers[consumer].next += 1;
        self.to_all[index].consumers_left -= 1;
        while self.to_all.front().is_some_and(|oldest| oldest.consumers_left == 0) {
            self.to_all.pop_front();
            self.first += 1;
        }
        Some(heard)
    }

    /// The same, if it has come by now.
    fn take_by(&mut self, consumer: usize, now: SimTime) -> Option<(EndpointList, u64)> {
        let (next, _) = self.next(consumer)?;
        let of = &self.consumers[consumer];
        let has_come = of.last_at <= now && of.has_arrived(next, &self.delay, now);
        if has_come { self.take(consumer) } else { None }
    }
}

impl EndpointWatch {
    /// The next state of all endpoints. The first comes with the consumer's first delay.
    pub async fn next(&mut self) -> EndpointList {
        loop {
            let due = self.told.borrow_mut().due(self.consumer);
            match due {
                Some(at) => {
                    self.sim.sleep_until(at).await;
                    let heard = self.told.borrow_mut().take(self.consumer);
                    if let Some((snapshot, edition)) = heard {
                        self.edition = edition;
                        return snapshot;
                    }
                }
                None => {
                    poll_fn(|cx| {
                        let mut told = self.told.borrow_mut();
                        if told.next(self.consumer).is_some() {
                            return Poll::Ready(());
                        }
                        told.waiting.insert(self.consumer, cx.waker().clone());
                        Poll::Pending
                    })
                    .await;
                }
            }
        }
    }

    /// The edition of the Service by which the last state was worked out.
    #[must_use]
    pub const fn edition(&self) -> u64 {
        self.edition
    }

    /// The next state, unless it comes later than `limit`.
    pub async fn next_by(&mut self, limit: Option<SimTime>) -> Option<EndpointList> {
        match limit {
            None => Some(self.next().await),
            Some(limit) => {
                let sim = self.sim.clone();
                until(sim.sleep_until(limit), self.next()).await
            }
        }
    }

    /// The state that follows this one when no other comes at once, and how many came: where nothing takes time, as at the start of a run, changes come one
    /// after the other within an instant, and who acts on the last of them alone does the same at less cost.
    pub async fn last_at_once(&mut self, mut seen: EndpointList) -> (EndpointList, usize) {
        let mut count = 0;
        loop {
            after_the_ready().await;
            let before = count;
            while let Some(newer) = self.next_now() {
                (seen, count) = (newer, count + 1);
            }
            if count == before {
                return (seen, count);
            }
        }
    }

    /// The next state, if it has come already.
    pub fn next_now(&mut self) -> Option<EndpointList> {
        let (snapshot, edition) = self.told.borrow_mut().take_by(self.consumer, self.sim.now())?;
        self.edition = edition;
        Some(snapshot)
    }
}

/// Lets all tasks have their turn that are ready now.
async fn after_the_ready() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
