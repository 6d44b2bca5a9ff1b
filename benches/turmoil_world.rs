//! The topology of the benchmark on turmoil: the same hyper endpoints on its simulated network and tokio's paused clock.
//!
//! Its gateway takes backends in turn and keeps connections; it has no routes, no least request, no retries and no processor model,
//! so the comparison is in its favour.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use turmoil::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs `clients` clients, each with `requests` requests at 100 per second, through 2 gateways to 4 backends.
pub(crate) fn run(clients: u8, requests: u32) {
    let mut builder = turmoil::Builder::new();
    builder.tick_duration(Duration::from_millis(1)).simulation_duration(Duration::from_secs(600));
    builder.min_message_latency(Duration::from_micros(200)).max_message_latency(Duration::from_micros(200));
    let mut sim = builder.build();
    for number in 0..4 {
        sim.host(format!("backend-{number}"), backend);
    }
    for number in 0..2 {
        sim.host(format!("gateway-{number}"), gateway);
    }
    for number in 0..clients {
        sim.client(format!("client-{number}"), async move { ask(number, requests).await });
    }
    sim.run().expect("the world moves");
}

fn any() -> (IpAddr, u16) {
    (IpAddr::from(Ipv4Addr::UNSPECIFIED), 80)
}

async fn backend() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(any()).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::task::spawn_local(async move {
            let answer = service_fn(|_: Request<Incoming>| async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&[b'.'; 100]))))
            });
            let _ = server::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

type Kept = Rc<RefCell<Vec<client::SendRequest<Incoming>>>>;

async fn gateway() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(any()).await?;
    let pools: Rc<[Kept; 4]> = Rc::default();
    let turn = Rc::new(Cell::new(0_usize));
    loop {
        let (stream, _) = listener.accept().await?;
        let (pools, turn) = (Rc::clone(&pools), Rc::clone(&turn));
        tokio::task::spawn_local(async move {
            let forward = service_fn(move |request: Request<Incoming>| {
                let (pools, turn) = (Rc::clone(&pools), Rc::clone(&turn));
                async move {
                    let index = turn.replace(turn.get() + 1) % 4;
                    let kept = pools[index].borrow_mut().pop();
                    let mut sender = match kept {
                        Some(sender) => sender,
                        None => {
                            let stream = TcpStream::connect((format!("backend-{index}"), 80)).await?;
                            let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
                            tokio::task::spawn_local(connection);
                            sender
                        }
                    };
                    sender.ready().await?;
                    let (parts, body) = sender.send_request(request).await?.into_parts();
                    let body = body.collect().await?.to_bytes();
                    pools[index].borrow_mut().push(sender);
                    Ok::<_, Failure>(Response::from_parts(parts, Full::new(body)))
                }
            });
            let _ = server::Builder::new().serve_connection(TokioIo::new(stream), forward).await;
        });
    }
}

async fn ask(number: u8, requests: u32) -> Result<(), Box<dyn std::error::Error>> {
    let stream = TcpStream::connect((format!("gateway-{}", number % 2), 80)).await?;
    let (mut sender, connection) = client::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    for _ in 0..requests {
        let service = number % 20;
        let request = Request::get(format!("/service-{service}/item"))
            .header("host", format!("host-{service}.example.com"))
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        assert_eq!(response.status(), 200);
        response.into_body().collect().await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
