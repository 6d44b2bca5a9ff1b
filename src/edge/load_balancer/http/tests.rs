//! A proxy before targets that behave by a script, on links of 1 ms each: so a client is 2 ms from the proxy, and the proxy 2 ms from a target.

use super::*;
use crate::cluster::{EndpointView, Identity};
use crate::edge::controller::{Pace, TargetRules};
use crate::edge::http_proxy::{HttpRules, clb, message};
use crate::edge::load_balancer::{BackendMode, LoadBalancerConfig, Probe};
use crate::edge::product::aws_alb;
use crate::edge::{BalancerConfig, Limits, OnRemoval, Scheduler, Ways};
use crate::engine::{Delay, EventLog, Sim, Streams};
use crate::net::{Host, LinkConfig, Net};
use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;

const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// From one host to another.
const LINK: Duration = Duration::from_millis(2);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What a target does with each request, after this long.
#[derive(Clone, Copy)]
enum Does {
    Answers,
    AnswersAndCloses,
    Closes,
    Resets,
    SendsHalf,
}

#[derive(Clone, Copy)]
struct Script {
    does: Does,
    after: Duration,
    /// A connection that is idle for so long is closed.
    idle: Duration,
    /// The process is not there.
    is_absent: bool,
    /// The host is not there.
    is_gone: bool,
}

const WELL: Script =
    Script { does: Does::Answers, after: ms(0), idle: ms(1_000_000), is_absent: false, is_gone: false };

struct World {
    sim: Sim,
    client: Host,
    balancer: LoadBalancer,
    /// What targets were asked: which, and the head.
    asked: Rc<RefCell<Vec<(usize, String)>>>,
    /// Connections that targets accepted.
    accepted: Rc<Cell<usize>>,
}

fn world(rules: HttpRules, limits: Limits, scripts: &[Script]) -> World {
    world_with(config(rules, limits), scripts)
}

fn world_with(config: LoadBalancerConfig, scripts: &[Script]) -> World {
    let (sim, streams) = (Sim::new(), Streams::new(1));
    let net = Net::new(&sim, streams);
    let link = LinkConfig { latency: LINK / 2, ..LinkConfig::default() };
    let (asked, accepted) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
    let ip = |index: usize| Ipv4Addr::new(10, 0, 0, u8::try_from(index + 1).expect("few targets"));
    for (index, script) in scripts.iter().copied().enumerate() {
        let host = net.attach(ip(index), link);
        if script.is_gone {
            host.vanish();
        } else if !script.is_absent {
            sim.spawn("target", serve(sim.clone(), host, (index, script), Rc::clone(&asked), Rc::clone(&accepted)));
        }
    }
    let prober = net.attach(Ipv4Addr::new(100, 64, 0, 1), link);
    let log = Rc::new(RefCell::new(EventLog::default()));
    let balancer = LoadBalancer::new(&sim, &net, prober, streams, log, (config, None));
    balancer.set_addresses([VIP]);
    let view = |index: usize| EndpointView {
        ip: ip(index),
        pod: Rc::from(format!("edge-{index}")),
        node: Rc::from("node"),
        ready: true,
        serving: true,
        terminating: false,
        because: None,
    };
    balancer.handle_endpoints(&(0..scripts.len()).map(view).collect::<Vec<_>>());
    net.forward(VIP, LinkConfig::default(), Rc::new(balancer.clone()));
    let client = net.attach(Ipv4Addr::new(198, 51, 100, 1), link);
    sim.run_until(SimTime::ZERO.after(ms(10))).expect("the world moves");
    World { sim, client, balancer, asked, accepted }
}

fn config(rules: HttpRules, limits: Limits) -> LoadBalancerConfig {
    LoadBalancerConfig {
        identity: Identity::ALONE,
        service: "default/edge".to_owned(),
        balancer: BalancerConfig {
            scheduler: Scheduler::RoundRobin,
            persistence: None,
            health_check: None,
            first_passes: None,
            on_deregister: OnRemoval::CutAfter(ms(1000)),
            on_unhealthy: OnRemoval::Keep,
            slow_start: None,
            fail_open: false,
            groups: 1,
        },
        limits,
        zones: Vec::new(),
        is_cross_zone: true,
        idle: None,
        targets: TargetRules::of(BackendMode::Pods, 1),
        pace: Pace::Each,
        probe: Probe::Tcp,
        ways: Ways::at_once(String::new()),
        register_latency: Delay::ZERO,
        deregister_latency: Delay::ZERO,
        ports: BTreeMap::from([(80, 8080)]),
        node_ports: BTreeMap::new(),
        http: BTreeMap::from([(80, Rc::new(rules))]),
        first_probe: None,
        stands_at_zero: true,
    }
}

/// A target: it takes connections on port 8080 and plays its script on each.
async fn serve(
    sim: Sim,
    host: Host,
    (index, script): (usize, Script),
    asked: Rc<RefCell<Vec<(usize, String)>>>,
    accepted: Rc<Cell<usize>>,
) {
    let listener = host.listen(8080, 64).expect("the port is free");
    loop {
        let stream = listener.accept().await;
        accepted.set(accepted.get() + 1);
        let (sim, asked) = (sim.clone(), Rc::clone(&asked));
        sim.clone().spawn("target-connection", async move { play(&sim, stream, (index, script), &asked).await });
    }
}

async fn play(
    sim: &Sim,
    mut stream: TcpStream,
    (index, script): (usize, Script),
    asked: &RefCell<Vec<(usize, String)>>,
) {
    let mut buffer = Vec::new();
    loop {
        let mut idle = pin!(sim.sleep(script.idle));
        let has_come = poll_fn(|cx| {
            if let Poll::Ready(read) = stream.poll_read_into(cx, &mut buffer) {
                return Poll::Ready(read.is_ok_and(|length| length > 0));
            }
            idle.as_mut().poll(cx).map(|()| false)
        });
        if !has_come.await {
            return;
        }
        let Ok(Some(head)) = message::read_request(&buffer) else { continue };
        asked.borrow_mut().push((index, String::from_utf8(buffer.drain(..head.length).collect()).expect("a head")));
        sim.sleep(script.after).await;
        let close = matches!(script.does, Does::AnswersAndCloses);
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{}\r\nok",
            if close { "Connection: close\r\n" } else { "" }
        );
        match script.does {
            Does::Closes => return,
            Does::Resets => return stream.abort(),
            Does::SendsHalf => {
                let _ = stream.write_all(answer.as_bytes()).await;
                return;
            }
            Does::Answers | Does::AnswersAndCloses => {
                if stream.write_all(format!("{answer}ok").as_bytes()).await.is_err() || close {
                    return;
                }
            }
        }
    }
}

/// What a client got, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Got {
    /// A complete answer: the status, and whether it says that the connection closes.
    Answer(u16, bool),
    /// The answer ended in the middle.
    Half,
    /// The connection ended before an answer.
    Nothing,
}

impl World {
    /// Sends requests on one connection, each so long after the last answer; opens another where that is over, if the client `watches`.
    fn asks(&self, gaps: &[Duration], watches: bool) -> Vec<Got> {
        let got = Rc::new(RefCell::new(Vec::new()));
        let (sim, client, gaps, told) = (self.sim.clone(), self.client.clone(), gaps.to_vec(), Rc::clone(&got));
        let count = gaps.len();
        self.sim.spawn("client", async move {
            let mut open: Option<TcpStream> = None;
            for (number, gap) in gaps.into_iter().enumerate() {
                sim.sleep(gap).await;
                let kept = open.take().filter(|stream| !watches || stream.ended_by().is_none());
                let mut stream = match kept {
                    Some(stream) => stream,
                    None => client.connect(SocketAddrV4::new(VIP, 80)).await.expect("the balancer takes it"),
                };
                let request = format!("GET /{number} HTTP/1.1\r\nhost: a\r\nx-request-id: a-r{number}\r\n\r\n");
                let sent = stream.write_all(request.as_bytes()).await;
                let answer = if sent.is_ok() { answer(&mut stream).await } else { Got::Nothing };
                let stays = matches!(answer, Got::Answer(_, false));
                told.borrow_mut().push(answer);
                open = Some(stream).filter(|_| stays);
            }
        });
        while got.borrow().len() < count {
            self.wait(ms(1000));
        }
        got.take()
    }

    fn wait(&self, span: Duration) {
        self.sim.run_until(self.sim.now().after(span)).expect("the world moves");
    }

    /// What became of the request of that number at its last target.
    fn trial(&self, number: usize) -> Option<Trial> {
        self.balancer.take_trial(&format!("a-r{number}"), SimTime::ZERO)
    }

    fn ending(&self, number: usize) -> Option<Ending> {
        self.trial(number).expect("it came to the balancer").ending
    }
}

async fn answer(stream: &mut TcpStream) -> Got {
    let (mut buffer, mut body) = (Vec::new(), None);
    loop {
        if body.is_none()
            && let Ok(Some(head)) = message::read_answer(&buffer, false)
        {
            buffer.drain(..head.length);
            body = Some(head);
        }
        if let Some(head) = &mut body {
            let (taken, is_complete) = head.body.take(&buffer).expect("it is an answer");
            buffer.drain(..taken);
            if is_complete {
                return Got::Answer(head.status, head.says_close);
            }
        }
        if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
            return if body.is_some() || !buffer.is_empty() { Got::Half } else { Got::Nothing };
        }
    }
}

const OK: Got = Got::Answer(200, false);

fn own(status: u16) -> Got {
    Got::Answer(status, false)
}

#[test]
fn requests_of_one_connection_go_to_targets_in_turn() {
    let world = world(clb::rules(), Limits::default(), &[WELL; 3]);
    assert_eq!(world.asks(&[ms(1); 7], true), vec![OK; 7]);
    let order: Vec<usize> = world.asked.borrow().iter().map(|(index, _)| *index).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
    let head = "GET /0 HTTP/1.1\r\nhost: a\r\nx-request-id: a-r0\r\nX-Forwarded-For: 198.51.100.1\r\nConnection: close\r\n\r\n";
    assert_eq!(world.asked.borrow()[0].1, head);
    assert_eq!((world.accepted.get(), world.balancer.connection_count()), (7, 0));
    let trial = world.trial(6).expect("it came to the balancer");
    assert_eq!((trial.ending, trial.was_reused), (None, false));
    assert_eq!(trial.target, Some(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 8080)));
    assert!(world.trial(6).is_none(), "it is told once");
}

#[test]
fn requests_under_way_count_where_fewest_decide() {
    let mut config = config(aws_alb::rules(), Limits::default());
    config.balancer.scheduler = Scheduler::WeightedLeastConnections;
    let world = world_with(config, &[Script { after: ms(500), ..WELL }, WELL]);
    let slow = world.client.clone();
    world.sim.spawn("slow", async move {
        let mut stream = slow.connect(SocketAddrV4::new(VIP, 80)).await.expect("the balancer takes it");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it is open");
        assert_eq!(answer(&mut stream).await, OK);
    });
    // The first target has one request for half a second; then both have none, and the first is asked again.
    assert_eq!(world.asks(&[ms(20), ms(20), ms(20), ms(600)], true), vec![OK; 4]);
    let order: Vec<usize> = world.asked.borrow().iter().map(|(index, _)| *index).collect();
    assert_eq!(order, [0, 1, 1, 1, 0]);
}

#[test]
fn connections_to_targets_are_kept_where_the_product_keeps_them() {
    let alb = |scripts: &[Script]| world(aws_alb::rules(), Limits::default(), scripts);
    let turns = alb(&[WELL; 2]);
    assert_eq!(turns.asks(&[ms(1); 6], true), vec![OK; 6]);
    assert_eq!(turns.accepted.get(), 2);
    assert!(turns.trial(5).is_some_and(|trial| trial.was_reused));
    assert!(!turns.asked.borrow()[0].1.contains("Connection"));
    // The balancer closes them after a minute of silence, a moment before which they still serve.
    for (gap_ms, accepted) in [(59_990, 1), (60_010, 2)] {
        let world = alb(&[WELL]);
        assert_eq!(world.asks(&[ms(1), ms(gap_ms)], true), vec![OK; 2]);
        assert_eq!(world.accepted.get(), accepted, "{gap_ms} ms");
    }
    // A target that says so closes its own.
    let closing = alb(&[Script { does: Does::AnswersAndCloses, ..WELL }]);
    assert_eq!(closing.asks(&[ms(1); 4], true), vec![OK; 4], "what it says is not for the client");
    assert_eq!(closing.accepted.get(), 4);
}

/// A target closes a kept connection after `T` of silence; its last answer left at 0. The balancer has that answer a link later, and knows of the close at `T` + link.
/// A request that leaves at `s` arrives at `s` + link. So it meets the close if `T` − link ≤ `s` < `T` + link, and at no other time.
#[test]
fn a_request_that_meets_a_close_on_its_way_is_lost() {
    let idle = ms(5000);
    for (at_ms, expected) in [
        (4990, None),
        (4997, None),
        (4999, Some(Ending::Reset)),
        (5000, Some(Ending::Reset)),
        (5001, Some(Ending::Reset)),
        (5003, None),
        (5010, None),
    ] {
        let world = world(aws_alb::rules(), Limits::default(), &[Script { idle, ..WELL }]);
        // From the answer's start at the target: a link to the balancer, one to the client, and one back.
        let gap = ms(at_ms).saturating_sub(3 * LINK);
        let got = world.asks(&[ms(1), gap], true);
        let status = if expected.is_some() { 502 } else { 200 };
        assert_eq!(got, [OK, own(status)], "{at_ms} ms");
        let trial = world.trial(1).expect("it came to the balancer");
        let is_closed = trial.ending.is_some_and(|ending| matches!(ending, Ending::Reset | Ending::Closed));
        assert_eq!(is_closed, expected.is_some(), "{at_ms} ms: {trial:?}");
        // Before the window the kept connection serves, behind it there is a new one.
        assert_eq!(trial.was_reused, at_ms < 5002, "{at_ms} ms");
        assert_eq!(world.accepted.get(), if at_ms < 5002 { 1 } else { 2 }, "{at_ms} ms");
    }
}

#[test]
fn a_silent_client_is_closed_after_its_time() {
    for (gap, watches, expected) in [(ms(14_990), false, OK), (ms(15_010), false, Got::Nothing), (ms(15_010), true, OK)]
    {
        let world = world(clb::rules(), Limits::default(), &[WELL]);
        assert_eq!(world.asks(&[ms(1), gap], watches), [OK, expected.clone()], "{gap:?}");
        assert_eq!(world.asked.borrow().len(), if expected == OK { 2 } else { 1 });
        assert_eq!(world.trial(1).is_some(), expected == OK, "what never came is not known");
    }
}

#[test]
fn the_hundredth_request_is_the_last_of_its_connection() {
    let world = world(clb::rules(), Limits::default(), &[WELL]);
    let got = world.asks(&[ms(1); 205], true);
    let closing: Vec<usize> = (0..205).filter(|number| got[*number] == Got::Answer(200, true)).collect();
    assert_eq!(closing, [99, 199]);
    assert!(got.iter().all(|got| matches!(got, Got::Answer(200, _))));
}

#[test]
fn an_answer_that_is_late_is_not_waited_for() {
    for (rules, limit_ms) in [(clb::rules(), 60_000), (aws_alb::rules(), 60_000)] {
        for (after_ms, expected) in [(limit_ms - 10, OK), (limit_ms + 10, own(504))] {
            let script = Script { after: ms(after_ms), ..WELL };
            let world = world(rules.clone(), Limits::default(), &[script]);
            assert_eq!(world.asks(&[ms(1)], true), std::slice::from_ref(&expected), "{after_ms} ms");
            assert_eq!(world.ending(0), (expected != OK).then_some(Ending::TimedOut));
        }
    }
}

#[test]
fn targets_that_fail_make_answers_of_the_balancer() {
    let table = [
        ("refuses", Script { is_absent: true, ..WELL }, own(502), Some(Ending::Refused)),
        ("closes", Script { does: Does::Closes, ..WELL }, own(502), Some(Ending::Closed)),
        ("resets", Script { does: Does::Resets, ..WELL }, own(502), Some(Ending::Reset)),
        ("breaks off", Script { does: Does::SendsHalf, ..WELL }, Got::Half, Some(Ending::Closed)),
        ("is gone", Script { is_gone: true, ..WELL }, own(504), Some(Ending::ConnectTimedOut)),
    ];
    for (name, script, expected, ending) in table {
        for rules in [clb::rules(), aws_alb::rules()] {
            let world = world(rules, Limits::default(), &[script]);
            assert_eq!(world.asks(&[ms(1)], true), std::slice::from_ref(&expected), "{name}");
            assert_eq!(world.ending(0), ending, "{name}");
        }
    }
    // Nobody at all.
    let world = world(clb::rules(), Limits::default(), &[]);
    assert_eq!(world.asks(&[ms(1)], true), [own(503)]);
    assert_eq!(world.ending(0), Some(Ending::NoTarget));
}

#[test]
fn one_that_takes_no_connection_is_followed_by_the_next_where_the_product_does_so() {
    let gone = Script { is_gone: true, ..WELL };
    let clb = world(clb::rules(), Limits::default(), &[gone, WELL]);
    let started_at = clb.sim.now();
    assert_eq!(clb.asks(&[ms(0)], true), [OK]);
    let trial = clb.trial(0).expect("it came to the balancer");
    // A round trip to the balancer, the half of another, and five seconds.
    assert_eq!(trial.tried_at.since(started_at), 3 * LINK + ms(5000));
    assert_eq!(trial.target, Some(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 8080)));
    let alb = world(aws_alb::rules(), Limits::default(), &[gone, WELL]);
    assert_eq!(alb.asks(&[ms(0)], true), [own(504)]);
    let trial = alb.trial(0).expect("it came to the balancer");
    assert_eq!(trial.ended_at.expect("it is over").since(trial.tried_at), ms(10_000));
    // One that refuses is not followed.
    let refused = world(clb::rules(), Limits::default(), &[Script { is_absent: true, ..WELL }, WELL]);
    assert_eq!(refused.asks(&[ms(0), ms(0)], true), [own(502), OK]);
}

#[test]
fn requests_over_the_limit_of_their_second_are_answered_503() {
    let limits = Limits { queries_per_s: Some(3), ..Limits::default() };
    let world = world(clb::rules(), limits, &[WELL]);
    world.wait(ms(990 - 1));
    // The first of these opens the connection.
    let got = world.asks(&[ms(1), ms(0), ms(0), ms(0), ms(0), ms(1000)], true);
    assert_eq!(got, [OK, OK, OK, own(503), own(503), OK]);
    let trial = world.trial(3).expect("it came to the balancer");
    assert!(trial.ending == Some(Ending::OverLimit) && trial.why.is_some() && trial.target.is_none());
    assert_eq!(world.asked.borrow().len(), 4);
}

#[test]
fn requests_to_a_removed_target_are_finished_or_cut_at_the_end_of_its_time() {
    for (rules, after_ms, expected) in [
        (aws_alb::rules(), 900, OK),
        (aws_alb::rules(), 1200, own(502)),
        // A CLB leaves them alone.
        (clb::rules(), 1200, OK),
    ] {
        let world = world(rules, Limits::default(), &[Script { after: ms(after_ms), ..WELL }]);
        let balancer = world.balancer.clone();
        let clock = world.sim.clone();
        world.sim.spawn("removal", async move {
            clock.sleep(ms(20)).await;
            balancer.handle_endpoints(&[]);
        });
        assert_eq!(world.asks(&[ms(1)], true), std::slice::from_ref(&expected), "{after_ms} ms");
        let trial = world.trial(0).expect("it came to the balancer");
        assert_eq!(trial.why.is_some(), expected != OK, "the event of the cut is known");
        assert_eq!(world.asks(&[ms(1)], true), [own(503)]);
    }
}
