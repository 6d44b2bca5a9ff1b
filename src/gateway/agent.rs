//! Who runs the gateway and decides when it ends: Istio's pilot-agent, and what stands in its place elsewhere. Readiness, and the moves of
//! [`super::shutdown`].
//!
//! ```text
//! SIGTERM ─→ readiness answers 503, drain begins ─┬─ sleep terminationDrainDuration (5 s) ─────────────→ exit
//!                                                 └─ sleep MINIMUM_DRAIN_DURATION (5 s), then each second:
//!                                                    no open connection? ──────────────────────────────→ exit
//! ```
//!
//! The default drain ends long before Envoy's drain time (45 s), so its listeners accept to the last moment. In the second mode
//! (`EXIT_ON_ZERO_ACTIVE_CONNECTIONS`) only the pod's grace period is an upper bound. `/healthz/ready` goes by the agent, once it has seen Envoy
//! ready: neither a drain nor a failed health check that somebody else has ordered changes it.
//! Source: istio pkg/envoy/agent.go, pilot/cmd/pilot-agent/{options,status}.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::host::Host;
use super::server::Gateway;
use super::shutdown::{Move, Order};

/// The agent's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentConfig {
    /// What SIGTERM leads to.
    pub shutdown: Vec<Move>,
    /// Where readiness is answered; 15021 in Istio.
    pub status_port: u16,
    /// The paths by which it is asked for.
    pub status_paths: Vec<String>,
}

/// Runs the agent of `gateway`; ends when the process is to exit. `watch` is told each order that it gives.
///
/// # Errors
///
/// If the status port cannot be bound.
pub async fn run<H: Host>(
    gateway: Gateway<H>,
    config: AgentConfig,
    sigterm: impl Future<Output = ()>,
    watch: impl Fn(Order),
) -> std::io::Result<()> {
    let host = gateway.worker().clone();
    let is_ready = Rc::new(Cell::new(true));
    let listener = host.listen(config.status_port)?;
    let (server, state) = (host.clone(), Rc::clone(&is_ready));
    let paths = config.status_paths.into();
    host.spawn("agent-status", async move { serve_status(server, listener, state, paths).await });
    pin!(sigterm).await;
    carry_out(&host, &gateway, &config.shutdown, &is_ready, watch).await;
    Ok(())
}

/// What the agent runs: a gateway, or several that share one set of ports.
pub trait Proxy {
    /// Carries out an order.
    fn obey(&self, order: Order);
    /// Open downstream connections.
    fn connection_count(&self) -> usize;
}

impl<H: Host> Proxy for Gateway<H> {
    fn obey(&self, order: Order) {
        Self::obey(self, order);
    }

    fn connection_count(&self) -> usize {
        Self::connection_count(self)
    }
}

/// Makes these moves, one after the other; ends when the process is to exit.
pub async fn carry_out<H: Host>(
    host: &H,
    proxy: &impl Proxy,
    moves: &[Move],
    is_ready: &Cell<bool>,
    watch: impl Fn(Order),
) {
    for next in moves {
        match *next {
            Move::FailReadiness => is_ready.set(false),
            Move::Give(order) => {
                proxy.obey(order);
                watch(order);
            }
            Move::Wait(span) => host.sleep_until(host.now().after(span)).await,
            Move::UntilFew { open_max, first, every, limit } => {
                let over_at = limit.map(|limit| host.now().after(limit));
                let mut look_at = host.now().after(first);
                loop {
                    let next_at = over_at.map_or(look_at, |over_at| look_at.min(over_at));
                    host.sleep_until(next_at).await;
                    if proxy.connection_count() <= open_max || over_at == Some(next_at) {
                        break;
                    }
                    look_at = look_at.after(every);
                }
            }
        }
    }
}

/// Istio's paths of readiness.
#[must_use]
pub fn istio_paths() -> Vec<String> {
    ["/healthz/ready", "/healthz"].map(str::to_owned).into()
}

/// Answers for readiness as long as it runs: 200 while the gateway is ready, else 503.
pub async fn serve_status<H: Host>(host: H, listener: H::Listener, is_ready: Rc<Cell<bool>>, paths: Rc<[String]>) {
    loop {
        let Ok((stream, _)) = host.accept(&listener).await else { continue };
        let (is_ready, paths) = (Rc::clone(&is_ready), Rc::clone(&paths));
        host.spawn("agent-status-connection", async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let is_known = paths.iter().any(|path| path == request.uri().path());
                let mut response = Response::new(Full::new(Bytes::new()));
                *response.status_mut() = match (is_known, is_ready.get()) {
                    (false, _) => StatusCode::NOT_FOUND,
                    (true, true) => StatusCode::OK,
                    (true, false) => StatusCode::SERVICE_UNAVAILABLE,
                };
                ready(Ok::<_, Infallible>(response))
            });
            let mut server = http1::Builder::new();
            server.auto_date_header(false).header_read_timeout(None);
            // A prober that breaks off hears nothing, and need not.
            let _ = server.serve_connection(stream, answer).await;
        });
    }
}
