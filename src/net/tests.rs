//! TCP's rules on a simulated wire, each at the exact nanosecond; and whole conversations under drawn conditions.

use super::*;
use crate::units::SimTime;
use proptest::prelude::{prop, prop_assert_eq, proptest};
use std::future::Future;

const MS: Duration = Duration::from_millis(1);

struct World {
    sim: Sim,
    net: Net,
    client: Host,
    server: Host,
    said: Rc<RefCell<Vec<String>>>,
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn link(latency: Duration) -> LinkConfig {
    LinkConfig { latency, ..LinkConfig::default() }
}

/// A client and a server, 1 ms and 2 ms away from the fabric: 3 ms one way.
fn world() -> World {
    world_with(link(MS), link(2 * MS))
}

fn world_with(client: LinkConfig, server: LinkConfig) -> World {
    let sim = Sim::new();
    let net = Net::new(&sim, Streams::new(1));
    let (client, server) = (net.attach(address(1), client), net.attach(address(2), server));
    World { sim, net, client, server, said: Rc::default() }
}

impl World {
    fn spawn<F: Future<Output = ()> + 'static>(
        &self,
        task: impl FnOnce(Sim, Host, Rc<dyn Fn(&str)>) -> F,
        host: &Host,
    ) {
        let (sim, said) = (self.sim.clone(), Rc::clone(&self.said));
        let clock = self.sim.clone();
        let say = move |text: &str| {
            let micros = clock.now().as_nanos() / 1000;
            said.borrow_mut().push(format!("{}.{} {text}", micros / 1000, micros % 1000 / 100));
        };
        self.sim.spawn("test", task(sim, host.clone(), Rc::new(say)));
    }

    /// Runs to the end and returns what was said, with the time in milliseconds.
    fn run(&self) -> Vec<String> {
        self.sim.run_until(SimTime::ZERO.after(Duration::from_secs(60))).unwrap();
        self.said.take()
    }
}

fn server_addr() -> SocketAddrV4 {
    SocketAddrV4::new(address(2), 80)
}

/// What a read gives, as text.
async fn read(stream: &mut TcpStream) -> String {
    let mut buffer = Vec::new();
    match stream.read(&mut buffer).await {
        Ok(0) => "end".to_owned(),
        Ok(_) => String::from_utf8(buffer).unwrap(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

#[test]
fn connecting_takes_a_round_trip_and_bytes_one_way() {
    let world = world();
    world.spawn(
        |_, host, say| async move {
            let listener = host.listen(80, 8).unwrap();
            let mut stream = listener.accept().await;
            say(&format!("accepted from {}", stream.peer_addr().ip()));
            say(&read(&mut stream).await);
            stream.write_all(b"pong").await.unwrap();
            say(&read(&mut stream).await);
        },
        &world.server,
    );
    world.spawn(
        |_, host, say| async move {
            let mut stream = host.connect(server_addr()).await.unwrap();
            say("connected");
            stream.write_all(b"ping").await.unwrap();
            say(&read(&mut stream).await);
        },
        &world.client,
    );
    assert_eq!(world.run(), ["6.0 connected", "9.0 accepted from 10.0.0.1", "9.0 ping", "12.0 pong", "15.0 end"]);
    assert_eq!(world.net.connection_count(), 0);
}

#[test]
fn a_closed_port_refuses_and_a_vanished_host_says_nothing() {
    let world = world();
    world.spawn(
        |_, host, say| async move {
            let error = host.connect(server_addr()).await.err().unwrap();
            say(&format!("{:?}", error.kind));
            let error = host.connect(SocketAddrV4::new(address(9), 80)).await.err().unwrap();
            say(&format!("{:?}", error.kind));
        },
        &world.client,
    );
    assert_eq!(world.run(), ["6.0 Refused", "15006.0 TimedOut"]);
}

#[test]
fn a_lost_syn_is_sent_again_after_one_second() {
    let world = world();
    world.spawn(
        |sim, host, say| async move {
            let listener = host.listen(80, 0).unwrap();
            sim.sleep(Duration::from_millis(500)).await;
            drop(listener);
            let listener = host.listen(80, 1).unwrap();
            let _stream = listener.accept().await;
            say("accepted");
            sim.sleep(Duration::from_secs(2)).await;
        },
        &world.server,
    );
    world.spawn(
        |_, host, say| async move {
            let _stream = host.connect(server_addr()).await.unwrap();
            say("connected");
        },
        &world.client,
    );
    assert_eq!(world.run(), ["1006.0 connected", "1009.0 accepted"]);
}

/// The server accepts, waits, does `act`, and the client then writes and reads twice.
fn after(act: impl FnOnce(TcpStream) -> Option<TcpStream> + 'static, client_waits: Duration) -> Vec<String> {
    let world = world();
    world.spawn(
        |sim, host, _| async move {
            let listener = host.listen(80, 8).unwrap();
            let stream = listener.accept().await;
            sim.sleep(Duration::from_millis(91)).await;
            let _kept = act(stream);
            sim.sleep(Duration::from_secs(1)).await;
        },
        &world.server,
    );
    world.spawn(
        move |sim, host, say| async move {
            let mut stream = host.connect(server_addr()).await.unwrap();
            sim.sleep(client_waits).await;
            for _ in 0..2 {
                let written = stream.write_all(b"hello").await;
                say(&written.map_or_else(|error| format!("write {:?}", error.kind()), |()| "written".to_owned()));
                say(&read(&mut stream).await);
            }
        },
        &world.client,
    );
    world.run()
}

#[test]
fn an_idle_connection_whose_process_dies_ends_with_fin_and_then_rst() {
    // The FIN of 100 ms is here at 103; the request of 206 is answered with RST at 212.
    let said = after(
        |stream| {
            drop(stream);
            None
        },
        Duration::from_millis(200),
    );
    assert_eq!(said, ["206.0 written", "206.0 end", "206.0 written", "206.0 end"]);
}

#[test]
fn a_process_that_dies_with_unread_bytes_resets() {
    let said = after(
        |stream| {
            drop(stream);
            None
        },
        Duration::ZERO,
    );
    assert_eq!(said, ["6.0 written", "103.0 ConnectionReset", "103.0 write ConnectionReset", "103.0 ConnectionReset"]);
}

#[test]
fn bytes_on_their_way_to_a_closing_socket_meet_rst_behind_the_fin() {
    // Written at 98 ms, the request arrives at 101, one after the close: FIN at 103, RST at 104.
    let said = after(
        |stream| {
            drop(stream);
            None
        },
        Duration::from_millis(92),
    );
    assert_eq!(said[..2], ["98.0 written", "103.0 end"]);
}

#[test]
fn what_arrived_before_a_reset_can_be_read() {
    let world = world();
    world.spawn(
        |_, host, _| async move {
            let listener = host.listen(80, 8).unwrap();
            let mut stream = listener.accept().await;
            stream.write_all(b"last words").await.unwrap();
            stream.abort();
        },
        &world.server,
    );
    world.spawn(
        |sim, host, say| async move {
            let mut stream = host.connect(server_addr()).await.unwrap();
            sim.sleep(Duration::from_millis(50)).await;
            say(&read(&mut stream).await);
            say(&read(&mut stream).await);
            assert_eq!(stream.ended_by(), Some(Ending { kind: EndingKind::Reset, why: None }));
        },
        &world.client,
    );
    assert_eq!(world.run(), ["56.0 last words", "56.0 ConnectionReset"]);
}

/// Passes everything on to the server, and remembers.
#[derive(Default)]
struct Balancer {
    passed_on: RefCell<Vec<ConnectionId>>,
    ended: RefCell<Vec<ConnectionId>>,
    refuses: Cell<bool>,
}

impl Forward for Balancer {
    fn syn(&self, syn: &Syn) -> Verdict {
        if self.refuses.get() {
            return Verdict::Refuse { by: None, why: None };
        }
        self.passed_on.borrow_mut().push(syn.id);
        Verdict::To { target: server_addr(), extra_latency: MS, snat: Some(address(77)) }
    }

    fn ended(&self, id: ConnectionId) {
        self.ended.borrow_mut().push(id);
    }
}

fn balanced(world: &World) -> (Rc<Balancer>, SocketAddrV4) {
    let balancer = Rc::new(Balancer::default());
    world.net.forward(address(100), link(4 * MS), Rc::clone(&balancer) as Rc<dyn Forward>);
    (balancer, SocketAddrV4::new(address(100), 443))
}

#[test]
fn a_balancer_chooses_adds_its_latency_and_hears_of_the_end() {
    let world = world();
    let (balancer, vip) = balanced(&world);
    world.spawn(
        |_, host, say| async move {
            let listener = host.listen(80, 8).unwrap();
            let mut stream = listener.accept().await;
            say(&format!("from {}", stream.peer_addr().ip()));
            say(&read(&mut stream).await);
        },
        &world.server,
    );
    world.spawn(
        move |_, host, say| async move {
            let mut stream = host.connect(vip).await.unwrap();
            say(&format!("connected to {}", stream.target()));
            stream.write_all(b"x").await.unwrap();
            assert_eq!(stream.peer_addr(), vip);
        },
        &world.client,
    );
    // One way: 1 + 4 + 1 (hop) + 2 = 8 ms.
    assert_eq!(world.run(), ["16.0 connected to 10.0.0.2:80", "24.0 from 10.0.0.77", "24.0 x"]);
    assert_eq!(*balancer.passed_on.borrow(), *balancer.ended.borrow());
    assert_eq!(balancer.ended.borrow().len(), 1);
}

#[test]
fn a_balancer_without_targets_refuses_for_itself() {
    let world = world();
    let (balancer, vip) = balanced(&world);
    balancer.refuses.set(true);
    world.spawn(
        move |_, host, say| async move {
            let error = host.connect(vip).await.err().unwrap();
            say(&format!("{:?} {:?}", error.kind, error.target));
        },
        &world.client,
    );
    assert_eq!(world.run(), ["10.0 Refused None"]);
    assert!(balancer.ended.borrow().is_empty());
}

#[test]
fn a_refusal_by_the_target_ends_the_connection_for_the_balancer_too() {
    let world = world();
    let (balancer, vip) = balanced(&world);
    world.spawn(
        move |_, host, say| async move {
            let error = host.connect(vip).await.err().unwrap();
            say(&format!("{:?} {:?}", error.kind, error.target));
        },
        &world.client,
    );
    assert_eq!(world.run(), ["16.0 Refused Some(10.0.0.2:80)"]);
    assert_eq!(balancer.ended.borrow().len(), 1);
}

/// A hop severs an idle connection at 100 ms; the client then writes at 200 ms.
fn severed(how: Sever) -> Vec<String> {
    let world = world();
    let (balancer, vip) = balanced(&world);
    world.spawn(
        |_, host, say| async move {
            let listener = host.listen(80, 8).unwrap();
            let mut stream = listener.accept().await;
            say(&format!("server {}", read(&mut stream).await));
        },
        &world.server,
    );
    let (net, known) = (world.net.clone(), Rc::clone(&balancer));
    world.spawn(
        move |sim, _, _| async move {
            sim.sleep(Duration::from_millis(100)).await;
            net.sever(known.passed_on.borrow()[0], how, None);
        },
        &world.client,
    );
    world.spawn(
        move |sim, host, say| async move {
            let mut stream = host.connect(vip).await.unwrap();
            sim.sleep_until(SimTime::ZERO.after(Duration::from_millis(200))).await;
            let written = stream.write_all(b"x").await;
            say(&written.map_or_else(|error| format!("write {:?}", error.kind()), |()| "written".to_owned()));
            say(&format!("client {}", read(&mut stream).await));
        },
        &world.client,
    );
    world.run()
}

#[test]
fn a_hop_severs_in_four_ways() {
    assert_eq!(
        severed(Sever::Reset),
        ["103.0 server ConnectionReset", "200.0 write ConnectionReset", "200.0 client ConnectionReset"]
    );
    assert_eq!(severed(Sever::Fin), ["103.0 server end", "200.0 written", "200.0 client end"]);
    // The hop is 5 ms away from the client.
    assert_eq!(severed(Sever::Silent), ["200.0 written", "210.0 client ConnectionReset"]);
    assert_eq!(severed(Sever::Blackhole), ["200.0 written"]);
}

#[test]
fn a_full_buffer_holds_the_writer_until_there_is_room() {
    let world = world();
    world.spawn(
        |sim, host, say| async move {
            let listener = host.listen(80, 8).unwrap();
            let mut stream = listener.accept().await;
            sim.sleep(Duration::from_millis(91)).await;
            let mut total = Vec::new();
            while stream.read(&mut total).await.unwrap() > 0 {}
            say(&format!("read {}", total.len()));
        },
        &world.server,
    );
    world.spawn(
        |_, host, say| async move {
            let mut stream = host.connect(server_addr()).await.unwrap();
            stream.write_all(&vec![0; BUFFER_BYTES]).await.unwrap();
            say("first buffer");
            stream.write_all(&[0]).await.unwrap();
            say("one more");
        },
        &world.client,
    );
    assert_eq!(world.run(), ["6.0 first buffer", "100.0 one more", "103.0 read 65537"]);
}

#[test]
fn bandwidth_spaces_segments() {
    let world = world_with(LinkConfig { bytes_per_s: Some(1_000_000), ..link(MS) }, link(2 * MS));
    world.spawn(
        |_, host, say| async move {
            let listener = host.listen(80, 8).unwrap();
            let mut stream = listener.accept().await;
            for _ in 0..2 {
                say(&read(&mut stream).await.len().to_string());
            }
        },
        &world.server,
    );
    world.spawn(
        |sim, host, _| async move {
            let mut stream = host.connect(server_addr()).await.unwrap();
            stream.write_all(&[b'a'; 1000]).await.unwrap();
            stream.write_all(&[b'b'; 500]).await.unwrap();
            sim.sleep(MS * 100).await;
        },
        &world.client,
    );
    assert_eq!(world.run(), ["10.0 1000", "10.5 500"]);
}

#[test]
fn listeners_that_share_a_port_share_the_connections() {
    let world = world();
    let counts = Rc::new(RefCell::new([0_u32; 2]));
    for worker in 0..2 {
        let counts = Rc::clone(&counts);
        world.spawn(
            move |_, host, _| async move {
                let listener = host.listen(80, 1000).unwrap();
                loop {
                    drop(listener.accept().await);
                    counts.borrow_mut()[worker] += 1;
                }
            },
            &world.server,
        );
    }
    world.spawn(
        |_, host, _| async move {
            for _ in 0..400 {
                host.connect(server_addr()).await.unwrap();
            }
        },
        &world.client,
    );
    world.run();
    let counts = *counts.borrow();
    assert_eq!(counts[0] + counts[1], 400);
    assert!(counts.iter().all(|count| *count > 150), "{counts:?}");
}

proptest! {
    /// Whatever the pieces, the jitter and the bandwidth: the bytes arrive whole and in order.
    #[test]
    fn bytes_arrive_whole_and_in_order(
        pieces in prop::collection::vec((0_usize..70_000, 0_u64..5_000_000), 0..12),
        jitter_ns in 0_u64..3_000_000,
        bytes_per_s in prop::option::of(1_000_000_u64..100_000_000),
        seed in 0_u64..50,
    ) {
        let sim = Sim::new();
        let net = Net::new(&sim, Streams::new(seed));
        let rough = LinkConfig { latency: MS, jitter: Duration::from_nanos(jitter_ns), bytes_per_s };
        let (client, server) = (net.attach(address(1), rough), net.attach(address(2), rough));
        let received = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&received);
        sim.spawn("server", async move {
            let listener = server.listen(80, 8).unwrap();
            let mut stream = listener.accept().await;
            let mut bytes = Vec::new();
            while stream.read(&mut bytes).await.unwrap() > 0 {}
            *sink.borrow_mut() = bytes;
        });
        let mut sent = Vec::new();
        let mut chunks = Vec::new();
        for (length, pause_ns) in pieces {
            let chunk: Vec<u8> = (0..length).map(|index| u8::try_from((sent.len() + index) % 251).unwrap()).collect();
            sent.extend_from_slice(&chunk);
            chunks.push((chunk, pause_ns));
        }
        let clock = sim.clone();
        sim.spawn("client", async move {
            let mut stream = client.connect(server_addr()).await.unwrap();
            for (chunk, pause_ns) in chunks {
                stream.write_all(&chunk).await.unwrap();
                clock.sleep(Duration::from_nanos(pause_ns)).await;
            }
        });
        sim.run_until(SimTime::ZERO.after(Duration::from_secs(600))).unwrap();
        prop_assert_eq!(received.borrow().len(), sent.len());
        prop_assert_eq!(&*received.borrow(), &sent);
        prop_assert_eq!(net.connection_count(), 0);
        prop_assert_eq!(sim.timer_count(), 0);
    }
}
