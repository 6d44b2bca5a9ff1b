//! A population of clients: connection slots, a queue for them, and what each request saw.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::answer::{Answer, AnswerParser};
use super::arrivals::Arrivals;
use super::jar::{Jar, Site};
use super::names::Names;
use crate::engine::{EventId, Sim, Sleep, Stream, Wakeup};
use crate::net::{ConnectErrorKind, ConnectionId, Host, TcpStream, Trace};
pub use crate::record::Outcome;
use crate::units::SimTime;

/// Which free connection the next request takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// The one used most recently, as most connection pools do.
    MostRecent,
    /// The one that has been free for longest: spreads requests evenly over all connections.
    LeastRecent,
    /// None: every request opens a connection of its own and says `Connection: close`.
    Never,
}

/// How one population of clients behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Connections open at once at most; more requests wait. Without meaning for [`Reuse::Never`], which has no limit.
    pub connections: usize,
    /// Which connection a request takes.
    pub reuse: Reuse,
    /// The client closes a connection that has been idle for so long; never if absent.
    pub keep_alive: Option<Duration>,
    /// From the intended time of a request to the moment the client gives up.
    pub timeout: Duration,
    /// How often a request is sent again, on a new connection, if it failed before any answer came.
    pub retries: u32,
    /// A close by the server is noticed while the connection is idle. Otherwise only by the request that meets it.
    pub detect_idle_close: bool,
    /// The client leaves a connection whose answer said `Connection: close`.
    pub honor_connection_close: bool,
    /// Each slot is a user that keeps the cookies of its answers and sends them back. Without meaning for [`Reuse::Never`], where nobody asks twice.
    pub cookies: bool,
    /// All connections are opened, with one request each that is not counted, before the load starts.
    pub prewarm: bool,
}

/// One kind of request in the mix.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its share of the mix, relative to the others.
    pub weight: u32,
    /// The port it is sent to.
    pub port: u16,
    /// From an open connection to one that it can be sent on: the handshake of TLS, if it is spoken.
    pub handshake: Duration,
    /// The request line and all header lines but `x-request-id` and `connection`, each with its line end.
    pub head: Rc<str>,
    /// Whose cookies are sent along.
    pub site: Site,
    /// Bytes of body; `head` states the same number as `content-length` if it is not 0.
    pub body_bytes: usize,
}

/// Where clients get in: each new connection goes to an address that a name server has answered.
#[derive(Debug)]
pub struct Entrances {
    names: Rc<Names>,
    draws: RefCell<Stream>,
}

impl Entrances {
    /// Addresses with their weights, relative to each other, that never change.
    #[must_use]
    pub fn new(addresses: Vec<(Ipv4Addr, u32)>, draws: Stream) -> Self {
        Self::named(Rc::new(Names::new(Duration::ZERO, addresses)), draws)
    }

    /// What a name server answers.
    #[must_use]
    pub fn named(names: Rc<Names>, draws: Stream) -> Self {
        Self { names, draws: RefCell::new(draws) }
    }

    /// The address of the next connection.
    fn draw(&self, now: SimTime) -> Ipv4Addr {
        self.names.draw(now, &mut self.draws.borrow_mut())
    }
}

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What a client could see of the connection that failed or served a request.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The connection, unless none was ever dialled.
    pub connection: Option<ConnectionId>,
    /// The address that was dialled for it.
    pub entrance: Option<Ipv4Addr>,
    /// The host that the balancer had chosen for it, or the node that stopped it.
    pub target: Option<SocketAddrV4>,
    /// The hop or host that ended it, if it told why.
    pub why: Option<EventId>,
    /// The connection had served a request before.
    pub was_reused: bool,
    /// The client had been told `Connection: close` on it and went on.
    pub close_was_ignored: bool,
    /// When the last try began: the moment the request found a connection or dialled.
    pub tried_at: SimTime,
}

/// A request that has ended, with exactly one outcome.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The load it belongs to.
    pub load_index: usize,
    /// Its number in its load, from 0, in the order of due times.
    pub sequence: u64,
    /// Its kind.
    pub mix_index: usize,
    /// When it was due.
    pub intended_at: SimTime,
    /// When its outcome was known.
    pub ended_at: SimTime,
    /// What the client saw.
    pub outcome: Outcome,
    /// The status, if an answer came.
    pub status: Option<u16>,
    /// Tries after the first.
    pub retries: u32,
    /// The connection of the last try.
    pub sight: Sight,
}

/// Where the clients report to.
pub trait Sink {
    /// A request is due.
    fn sent(&self, load_index: usize, intended_at: SimTime);
    /// A request has ended.
    fn finished(&self, finished: Finished);
    /// A connection was dialled with success.
    fn opened(&self, load_index: usize, at: SimTime);
}

/// One population of clients on one host of the simulated network. Clones share it.
#[derive(Clone)]
pub struct Client {
    inner: Rc<Inner>,
}

struct Inner {
    sim: Sim,
    host: Host,
    config: ClientConfig,
    load_index: usize,
    name: String,
    entrances: Entrances,
    mix: Vec<Request>,
    sink: Rc<dyn Sink>,
    pool: RefCell<Pool>,
}

struct Pool {
    /// Free slots; the one that became free last is at the back, so idle connections stand in the order of their age.
    free: VecDeque<Rc<Slot>>,
    /// Requests without a slot, in the order in which they were due.
    waiting: VecDeque<Due>,
}

/// A place for a connection. Its task begins with its first request and waits for the next one after each: a task for every request would cost more.
#[derive(Default)]
struct Slot {
    /// While no request uses it.
    connection: RefCell<Option<Connection>>,
    /// The request that its task is to carry out next.
    due: Cell<Option<Due>>,
    /// Its task, if it waits.
    task: RefCell<Option<Wakeup>>,
    /// The cookies of its user, if it keeps any.
    jar: Option<RefCell<Jar>>,
}

#[derive(Clone, Copy)]
struct Due {
    sequence: u64,
    mix_index: usize,
    at: SimTime,
}

struct Connection {
    stream: TcpStream,
    to: SocketAddrV4,
    idle_since: SimTime,
    close_was_ignored: bool,
    buffer: Vec<u8>,
}

/// Why a try came to nothing, and whether another may help.
struct Failure {
    outcome: Outcome,
    may_retry: bool,
}

impl Failure {
    fn early(outcome: Outcome) -> Self {
        Self { outcome, may_retry: true }
    }
}

impl Client {
    /// Clients with nothing to do yet. `name` is unique among the loads of a run.
    ///
    /// # Panics
    ///
    /// If the mix is empty or has no weight, or if connections are to be reused and there are none.
    #[must_use]
    pub fn new(
        sim: &Sim,
        host: Host,
        (load_index, name): (usize, &str),
        config: ClientConfig,
        (entrances, mix): (Entrances, Vec<Request>),
        sink: Rc<dyn Sink>,
    ) -> Self {
        assert!(mix.iter().any(|request| request.weight > 0), "a load needs a request with a weight");
        assert!(config.reuse == Reuse::Never || config.connections > 0, "clients need a connection");
        let slots = if config.reuse == Reuse::Never { 0 } else { config.connections };
        let slot = || Rc::new(Slot { jar: config.cookies.then(RefCell::default), ..Slot::default() });
        let pool = RefCell::new(Pool { free: (0..slots).map(|_| slot()).collect(), waiting: VecDeque::new() });
        let (sim, name) = (sim.clone(), name.to_owned());
        let inner = Inner { sim, host, config, load_index, name, entrances, mix, sink, pool };
        Self { inner: Rc::new(inner) }
    }

    /// Opens all connections in order, one request each, as the configuration asks.
    pub async fn prewarm(&self) {
        let inner = &self.inner;
        if !inner.config.prewarm || inner.config.reuse == Reuse::Never {
            return;
        }
        for number in 0..inner.config.connections {
            let Some(slot) = inner.pool.borrow_mut().free.pop_front() else { return };
            let mut connection = slot.connection.take();
            let id = format!("{}-warm{number}", inner.name);
            let mut sight = Sight::default();
            // A failure leaves the slot empty: its first request dials.
            let _ = inner.attempt(&mut connection, &inner.mix[0], &id, (&mut sight, slot.jar.as_ref())).await;
            *slot.connection.borrow_mut() = connection;
            inner.pool.borrow_mut().free.push_back(slot);
        }
    }

    /// Sends the requests of `arrivals`, counted from now; ends when the last is due. Those in flight go on.
    pub async fn run(&self, arrivals: Arrivals, mut mix_stream: Stream) {
        let inner = &self.inner;
        if let Some(keep_alive) = inner.config.keep_alive {
            let sweeper = Rc::clone(inner);
            inner.sim.spawn("client-keep-alive", async move { sweeper.close_idle(keep_alive).await });
        }
        let start = inner.sim.now();
        let weight_total: u64 = inner.mix.iter().map(|request| u64::from(request.weight)).sum();
        for (sequence, offset) in (0..).zip(arrivals) {
            let at = start.after(offset);
            inner.sim.sleep_until(at).await;
            let mut drawn = if inner.mix.len() == 1 { 0 } else { mix_stream.below(weight_total) };
            let mix_index = inner.mix.iter().position(|request| {
                let is_drawn = drawn < u64::from(request.weight);
                drawn = drawn.saturating_sub(u64::from(request.weight));
                is_drawn
            });
            let mix_index = mix_index.unwrap_or(0);
            inner.sink.sent(inner.load_index, at);
            inner.start(Due { sequence, mix_index, at });
        }
    }

    /// Connections held open while no request uses them.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.inner.pool.borrow().free.iter().filter(|slot| slot.connection.borrow().is_some()).count()
    }
}

impl Inner {
    /// Gives the request a slot, or lets it wait for one.
    fn start(self: &Rc<Self>, due: Due) {
        let this = Rc::clone(self);
        if self.config.reuse == Reuse::Never {
            self.sim.spawn("request", async move { this.carry_out(&mut None, due, &mut None, None).await });
            return;
        }
        let slot = {
            let mut pool = self.pool.borrow_mut();
            let is_most_recent = self.config.reuse == Reuse::MostRecent;
            let free = if is_most_recent { pool.free.pop_back() } else { pool.free.pop_front() };
            if free.is_none() {
                pool.waiting.push_back(due);
            }
            free
        };
        let Some(slot) = slot else { return };
        slot.due.set(Some(due));
        let waits = slot.task.take();
        match waits {
            Some(task) => self.sim.wake(task),
            None => {
                self.sim.spawn("requests", async move { this.serve(slot).await });
            }
        }
    }

    /// Carries out the requests that a slot is given, each with those that wait when it is over.
    async fn serve(self: Rc<Self>, slot: Rc<Slot>) {
        let mut limit = None;
        loop {
            let mut due = poll_fn(|cx| match slot.due.take() {
                Some(due) => Poll::Ready(due),
                None => {
                    *slot.task.borrow_mut() = Some(self.sim.wakeup(cx.waker()));
                    Poll::Pending
                }
            })
            .await;
            let mut connection = slot.connection.take();
            loop {
                self.carry_out(&mut connection, due, &mut limit, slot.jar.as_ref()).await;
                let next = self.pool.borrow_mut().waiting.pop_front();
                let Some(next) = next else { break };
                due = next;
            }
            *slot.connection.borrow_mut() = connection;
            self.pool.borrow_mut().free.push_back(Rc::clone(&slot));
        }
    }

    /// Whether a request's time is up. The timer is armed again only when the old one has rung: the deadlines of a slot's requests only grow, and most requests are
    /// over long before theirs.
    fn poll_deadline(&self, deadline: SimTime, limit: &mut Option<Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if deadline <= self.sim.now() {
                return Poll::Ready(());
            }
            let sleep = limit.get_or_insert_with(|| self.sim.sleep_until(deadline));
            if Pin::new(sleep).poll(cx).is_pending() {
                return Poll::Pending;
            }
            *limit = None;
        }
    }

    /// Carries out a request.
    async fn carry_out(
        &self,
        slot: &mut Option<Connection>,
        due: Due,
        limit: &mut Option<Sleep>,
        jar: Option<&RefCell<Jar>>,
    ) {
        let request = &self.mix[due.mix_index];
        let id = request_id(&self.name, due.sequence);
        let deadline = due.at.after(self.config.timeout);
        let mut retries = 0;
        let mut sight;
        let result = loop {
            sight = Sight { tried_at: self.sim.now(), ..Sight::default() };
            let tried = {
                let mut attempt = pin!(self.attempt(slot, request, &id, (&mut sight, jar)));
                poll_fn(|cx| match attempt.as_mut().poll(cx) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending => self.poll_deadline(deadline, limit, cx).map(|()| None),
                })
                .await
            };
            match tried {
                None => {
                    // Dropping the connection is how a client gives up; without one it was still dialling.
                    let outcome =
                        if sight.connection.is_some() { Outcome::RequestTimeout } else { Outcome::ConnectTimeout };
                    break Err(Failure { outcome, may_retry: false });
                }
                Some(Err(failure)) if failure.may_retry && retries < self.config.retries => retries += 1,
                Some(result) => break result,
            }
        };
        let (outcome, status) = match result {
            Ok(answer) => (outcome_of(&answer), Some(answer.status)),
            Err(failure) => (failure.outcome, None),
        };
        self.sink.finished(Finished {
            load_index: self.load_index,
            sequence: due.sequence,
            mix_index: due.mix_index,
            intended_at: due.at,
            ended_at: self.sim.now(),
            outcome,
            status,
            retries,
            sight,
        });
    }

    /// One try on the slot's connection, or on a new one. Leaves the connection in the slot if it can be used again.
    async fn attempt(
        &self,
        slot: &mut Option<Connection>,
        request: &Request,
        id: &str,
        (sight, jar): (&mut Sight, Option<&RefCell<Jar>>),
    ) -> Result<Answer, Failure> {
        let kept = slot.take().filter(|kept| kept.to.port() == request.port);
        let kept = kept.filter(|kept| !(self.config.detect_idle_close && kept.is_seen_closed()));
        let was_reused = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            // In a box: connections are opened seldom, and every request's task would keep the place for it.
            None => Box::pin(self.dial(request, sight)).await?,
        };
        sight.connection = Some(connection.stream.id());
        sight.entrance = Some(*connection.to.ip());
        sight.target = Some(connection.stream.target());
        sight.was_reused = was_reused;
        sight.close_was_ignored = connection.close_was_ignored;
        let result = self.exchange(&mut connection, request, id, jar).await;
        match &result {
            Err(_) => sight.why = connection.stream.ended_by().and_then(|ending| ending.why),
            Ok(answer) => {
                let is_over = answer.says_close && self.config.honor_connection_close;
                connection.close_was_ignored |= answer.says_close;
                if !is_over && self.config.reuse != Reuse::Never {
                    connection.idle_since = self.sim.now();
                    *slot = Some(connection);
                }
            }
        }
        result
    }

    async fn dial(&self, request: &Request, sight: &mut Sight) -> Result<Connection, Failure> {
        let to = SocketAddrV4::new(self.entrances.draw(self.sim.now()), request.port);
        sight.entrance = Some(*to.ip());
        let trace = Rc::new(Cell::new(Trace::default()));
        // A client that gives up drops this future: what is known by then is written down on the way out.
        let told = OnDrop(|| (sight.target, sight.why) = (trace.get().reached, trace.get().why));
        let dialled = self.host.connect_noting(to, Rc::clone(&trace)).await;
        drop(told);
        match dialled {
            Ok(stream) => {
                self.sink.opened(self.load_index, self.sim.now());
                if !request.handshake.is_zero() {
                    self.sim.sleep(request.handshake).await;
                }
                let idle_since = self.sim.now();
                Ok(Connection { stream, to, idle_since, close_was_ignored: false, buffer: Vec::new() })
            }
            Err(error) => {
                sight.connection = Some(error.id);
                sight.target = error.target;
                sight.why = error.why;
                Err(Failure::early(match error.kind {
                    ConnectErrorKind::Refused => Outcome::Refused,
                    ConnectErrorKind::TimedOut => Outcome::ConnectTimeout,
                    ConnectErrorKind::Reset => Outcome::Reset,
                }))
            }
        }
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        request: &Request,
        id: &str,
        jar: Option<&RefCell<Jar>>,
    ) -> Result<Answer, Failure> {
        let close = if self.config.reuse == Reuse::Never { "connection: close\r\n" } else { "" };
        let mut bytes = Vec::with_capacity(request.head.len() + id.len() + 40 + request.body_bytes);
        for part in [&request.head, "x-request-id: ", id, "\r\n", close] {
            bytes.extend_from_slice(part.as_bytes());
        }
        if let Some(jar) = jar {
            jar.borrow().write(self.sim.now(), &request.site, &mut bytes);
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.resize(bytes.len() + request.body_bytes, b'x');
        if connection.stream.write_all(&bytes).await.is_err() {
            return Err(Failure::early(Outcome::Reset));
        }
        let mut parser = AnswerParser::default();
        loop {
            let pushed = match jar {
                None => parser.push(&mut connection.buffer),
                Some(jar) => parser.push_telling(
                    &mut connection.buffer,
                    Some(&mut |text| jar.borrow_mut().handle_set(self.sim.now(), &request.site, text)),
                ),
            };
            match pushed {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                // A server of ours never sends such bytes; a cut connection cannot make them either.
                Err(_) => return Err(Failure { outcome: Outcome::Truncated, may_retry: false }),
            }
            let has_begun = parser.has_head() || !connection.buffer.is_empty();
            let failed = |outcome| {
                if has_begun {
                    Failure { outcome: Outcome::Truncated, may_retry: false }
                } else {
                    Failure::early(outcome)
                }
            };
            match connection.stream.read(&mut connection.buffer).await {
                Ok(0) => return parser.end().ok_or_else(|| failed(Outcome::Closed)),
                Ok(_) => {}
                Err(_) => return Err(failed(Outcome::Reset)),
            }
        }
    }

    /// Closes connections that have been idle for `keep_alive`, each at its time.
    async fn close_idle(self: Rc<Self>, keep_alive: Duration) {
        loop {
            let now = self.sim.now();
            let next = {
                let pool = self.pool.borrow();
                let mut next = None;
                for slot in &pool.free {
                    let mut kept = slot.connection.borrow_mut();
                    let Some(connection) = &*kept else { continue };
                    let at = connection.idle_since.after(keep_alive);
                    if at > now {
                        next = Some(at);
                        break;
                    }
                    *kept = None;
                }
                // What is not idle yet cannot be due earlier than this.
                next.unwrap_or_else(|| now.after(keep_alive))
            };
            self.sim.sleep_until(next).await;
        }
    }
}

/// What an answer means. An error that the gateway made never reached a backend; whether it was configured so, the client cannot see.
fn outcome_of(answer: &Answer) -> Outcome {
    match (answer.status, answer.is_from_backend) {
        (..400, _) | (..500, true) => Outcome::Ok,
        (_, true) => Outcome::BackendError,
        (_, false) => Outcome::GatewayError,
    }
}

/// `shoppers-r42`. By hand: one is made for each request, and `format!` takes ten times as long for it.
fn request_id(load: &str, mut sequence: u64) -> String {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + u8::try_from(sequence % 10).expect("a digit");
        sequence /= 10;
        if sequence == 0 {
            break;
        }
    }
    let digits = std::str::from_utf8(&digits[first..]).expect("digits are text");
    let mut id = String::with_capacity(load.len() + 2 + digits.len());
    id.extend([load, "-r", digits]);
    id
}

impl Connection {
    /// Whether a client that watches its idle connections knows that this one is over.
    fn is_seen_closed(&self) -> bool {
        self.stream.poll_peer_closed(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Streams;
    use crate::net::{LinkConfig, Net};

    #[test]
    fn ids_hold_the_number_in_decimals() {
        for sequence in [0, 9, 10, 48_213, u64::MAX] {
            assert_eq!(request_id("shoppers", sequence), format!("shoppers-r{sequence}"));
        }
    }

    /// When each request was over, in milliseconds, and how.
    #[derive(Default)]
    struct Ends(RefCell<Vec<(u64, Outcome)>>);

    impl Sink for Ends {
        fn sent(&self, _: usize, _: SimTime) {}
        fn finished(&self, finished: Finished) {
            self.0.borrow_mut().push((finished.ended_at.as_nanos() / 1_000_000, finished.outcome));
        }
        fn opened(&self, _: usize, _: SimTime) {}
    }

    /// The ends of requests that are due and served for so long, in milliseconds, with one connection and five seconds for each.
    fn ends(requests: &[(u64, u64)]) -> Vec<(u64, Outcome)> {
        let (sim, streams) = (Sim::new(), Streams::new(1));
        let net = Net::new(&sim, streams);
        let [here, there] = [1, 2].map(|number| net.attach(Ipv4Addr::new(10, 0, 0, number), LinkConfig::default()));
        let times: Rc<RefCell<VecDeque<u64>>> = Rc::new(RefCell::new(requests.iter().map(|(_, ms)| *ms).collect()));
        let (clock, listener) = (sim.clone(), there.listen(80, 8).expect("a free port"));
        sim.spawn("server", async move {
            loop {
                let (mut stream, times, clock) = (listener.accept().await, Rc::clone(&times), clock.clone());
                clock.clone().spawn("connection", async move {
                    let mut buffer = Vec::new();
                    while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
                        let Some(ms) = times.borrow_mut().pop_front() else { return };
                        clock.sleep(Duration::from_millis(ms)).await;
                        let answer =
                            b"HTTP/1.1 200 OK\r\nx-envoy-upstream-service-time: 1\r\ncontent-length: 0\r\n\r\n";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let config = ClientConfig {
            connections: 1,
            reuse: Reuse::MostRecent,
            keep_alive: None,
            timeout: Duration::from_secs(5),
            retries: 0,
            detect_idle_close: true,
            honor_connection_close: true,
            cookies: false,
            prewarm: false,
        };
        let request = Request {
            weight: 1,
            port: 80,
            head: "GET / HTTP/1.1\r\nhost: a\r\n".into(),
            site: Site::new("a", "/", false),
            body_bytes: 0,
            handshake: Duration::ZERO,
        };
        let entrances = Entrances::new(vec![(there.ip(), 1)], streams.stream("entrances", "a"));
        let sink = Rc::new(Ends::default());
        let told = Rc::clone(&sink) as Rc<dyn Sink>;
        let client = Client::new(&sim, here, (0, "a"), config, (entrances, vec![request]), told);
        for (sequence, (due, _)) in (0..).zip(requests) {
            let at = SimTime::ZERO.after(Duration::from_millis(*due));
            sim.run_until(at).expect("no stall");
            client.inner.start(Due { sequence, mix_index: 0, at });
        }
        sim.run_until(SimTime::ZERO.after(Duration::from_secs(60))).expect("no stall");
        sim.end();
        sink.0.take()
    }

    #[test]
    fn each_request_has_its_own_time_to_its_deadline() {
        // The second is under way when the first's time would be up; the third waits for it, and for its own.
        let served = ends(&[(0, 100), (3000, 4900), (4000, 1200)]);
        assert_eq!(
            served.iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>(),
            [Outcome::Ok, Outcome::Ok, Outcome::RequestTimeout]
        );
        assert_eq!(served[2].0, 9000);
        assert!((7900..7950).contains(&served[1].0), "{served:?}");
        // And one that is late is given up at its own deadline, not at the next ring.
        assert_eq!(ends(&[(0, 100), (3000, 5100)])[1], (8000, Outcome::RequestTimeout));
        assert_eq!(ends(&[(0, 100), (3000, 4990)])[1].1, Outcome::Ok);
    }
}
