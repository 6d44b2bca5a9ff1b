//! Istio's pilot-agent: readiness, and how the process ends.
//!
//! ```text
//! SIGTERM ─→ readiness answers 503, drain begins ─┬─ sleep terminationDrainDuration (5 s) ─────────────→ exit
//!                                                 └─ sleep MINIMUM_DRAIN_DURATION (5 s), then each second:
//!                                                    no open connection? ──────────────────────────────→ exit
//! ```
//!
//! The default drain ends long before Envoy's drain time (45 s), so its listeners accept to the last moment. In the second mode
//! (`EXIT_ON_ZERO_ACTIVE_CONNECTIONS`) only the pod's grace period is an upper bound.
//! Source: istio pkg/envoy/agent.go, pilot/cmd/pilot-agent/{options,status}.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::host::Host;
use super::server::Gateway;

/// The pause between two looks at the connection count. Source: istio pkg/envoy/agent.go `activeConnectionCheckDelay`.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What SIGTERM leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShutdownMode {
    /// The process ends at once: Envoy itself got the signal.
    ExitAtOnce,
    /// Drain for this time, then end.
    Drain {
        /// `terminationDrainDuration`.
        duration: Duration,
    },
    /// Drain for this time, then end as soon as a look each second finds no open connection.
    ExitOnZero {
        /// `MINIMUM_DRAIN_DURATION`.
        minimum: Duration,
    },
}

/// The agent's settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AgentConfig {
    /// What SIGTERM leads to.
    pub shutdown: ShutdownMode,
    /// Where `/healthz/ready` is answered; 15021 in Istio.
    pub status_port: u16,
}

/// What the process does next; told to whoever watches it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The drain has begun.
    DrainStarted,
}

/// Runs the agent of `gateway`; ends when the process is to exit.
///
/// # Errors
///
/// If the status port cannot be bound.
pub async fn run<H: Host>(
    gateway: Gateway<H>,
    config: AgentConfig,
    sigterm: impl Future<Output = ()>,
    watch: impl Fn(Step),
) -> std::io::Result<()> {
    let host = gateway.worker().clone();
    let is_ready = Rc::new(Cell::new(true));
    let listener = host.listen(config.status_port)?;
    let (server, state) = (host.clone(), Rc::clone(&is_ready));
    host.spawn("agent-status", async move { serve_status(server, listener, state).await });
    pin!(sigterm).await;
    is_ready.set(false);
    shut_down(&host, &gateway, config.shutdown, watch).await;
    Ok(())
}

/// What the agent runs: a gateway, or several that share one set of ports.
pub trait Proxy {
    /// Begins to drain, as `POST /drain_listeners?graceful` does.
    fn drain(&self);
    /// Open downstream connections.
    fn connection_count(&self) -> usize;
}

impl<H: Host> Proxy for Gateway<H> {
    fn drain(&self) {
        Self::drain(self);
    }

    fn connection_count(&self) -> usize {
        Self::connection_count(self)
    }
}

/// What SIGTERM leads to; ends when the process is to exit.
pub async fn shut_down<H: Host>(host: &H, proxy: &impl Proxy, mode: ShutdownMode, watch: impl Fn(Step)) {
    match mode {
        ShutdownMode::ExitAtOnce => {}
        ShutdownMode::Drain { duration } => {
            proxy.drain();
            watch(Step::DrainStarted);
            host.sleep_until(host.now().after(duration)).await;
        }
        ShutdownMode::ExitOnZero { minimum } => {
            proxy.drain();
            watch(Step::DrainStarted);
            let mut next = host.now().after(minimum);
            host.sleep_until(next).await;
            loop {
                next = next.after(LOOK_INTERVAL);
                host.sleep_until(next).await;
                if proxy.connection_count() == 0 {
                    break;
                }
            }
        }
    }
}

/// Answers `/healthz/ready` for as long as it runs: 200 while the gateway is ready, else 503.
pub async fn serve_status<H: Host>(host: H, listener: H::Listener, is_ready: Rc<Cell<bool>>) {
    loop {
        let Ok((stream, _)) = host.accept(&listener).await else { continue };
        let is_ready = Rc::clone(&is_ready);
        host.spawn("agent-status-connection", async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let is_known = matches!(request.uri().path(), "/healthz/ready" | "/healthz");
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
