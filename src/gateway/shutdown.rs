//! How gateways end: what each kind does from its signal on, as a list of moves that [`super::agent`] carries out.
//!
//! ```text
//! istio          unready ─ drain ─ wait terminationDrainDuration, or look for zero connections ─→ exit
//! ingress-nginx  unready ─ wait shutdown-grace-period ─ quit ─ until none, or worker-shutdown-timeout ─ wait post-shutdown-grace-period ─→ exit
//! contour        wait drain-delay ─ unready, tell ─ wait check-delay ─ look each check-interval for few connections ─→ exit
//! traefik        unready ─ wait requestAcceptGraceTimeout ─ quit ─ until none, or graceTimeOut ─→ exit
//! haproxy        wait grace ─ unready, quit ─ until none, or hard-stop-after ─→ exit; with SIGTERM at once
//! ```
//!
//! To drain and to tell are Envoy's: listeners go on accepting and idle connections hear nothing. To quit is what the others do: the listeners
//! close, idle connections are closed, and every answer says close.
//!
//! ingress-nginx and Contour begin in a preStop hook that blocks until they are done (`/wait-shutdown`, the shutdown manager's `/shutdown`); since
//! it begins at once, it makes no difference here whether hook or signal starts the list. Only the pod's grace period bounds all of them.
//!
//! Sources: kubernetes/ingress-nginx internal/ingress/controller/nginx.go `Stop`, cmd/nginx, docs/user-guide/cli-arguments.md; projectcontour/contour
//! cmd/contour/shutdownmanager.go; traefik/traefik pkg/server/server_entrypoint_tcp.go and Go's net/http `Server.Shutdown`; HAProxy management guide
//! ("Stopping and restarting") and configuration manual (`grace`, `hard-stop-after`, `close-spread-time`).

use std::time::Duration;

/// What the process is told to do with its listeners and connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Envoy's `POST /drain_listeners?graceful`: answers say close, as the strategy has it.
    Drain {
        /// When the drain time is over, the listeners close; not with `skip_exit`, nor with `inboundonly` at a gateway.
        closes_listeners: bool,
    },
    /// Envoy's `POST /healthcheck/fail`: every answer says close, and the listeners stay.
    TellToLeave,
    /// Envoy's `POST /drain_listeners`: the listeners close, and no connection hears of it.
    CloseListeners,
    /// The listeners close, idle connections are closed, every answer says close.
    Quit,
    /// Connections that are still open are closed.
    Cut,
}

/// A move on the way to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Move {
    /// Readiness fails from now on.
    FailReadiness,
    /// An order to the process.
    Give(Order),
    /// Nothing for so long.
    Wait(Duration),
    /// A look at the open connections, again and again, until there are few.
    UntilFew {
        /// So many are few.
        open_max: usize,
        /// From here to the first look.
        first: Duration,
        /// From one look to the next.
        every: Duration,
        /// It goes on after this time, however many are left.
        limit: Option<Duration>,
    },
}

/// What SIGTERM leads to under Istio's pilot-agent, or without it.
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

/// The pause between two looks of pilot-agent. Source: istio pkg/envoy/agent.go `activeConnectionCheckDelay`.
const AGENT_LOOK: Duration = Duration::from_secs(1);

impl ShutdownMode {
    /// Its moves.
    #[must_use]
    pub fn moves(self) -> Vec<Move> {
        let drain = [Move::FailReadiness, Move::Give(Order::Drain { closes_listeners: true })];
        match self {
            Self::ExitAtOnce => Vec::new(),
            Self::Drain { duration } => [&drain[..], &[Move::Wait(duration)]].concat(),
            Self::ExitOnZero { minimum } => {
                let looks = Move::UntilFew { open_max: 0, first: AGENT_LOOK, every: AGENT_LOOK, limit: None };
                [&drain[..], &[Move::Wait(minimum), looks]].concat()
            }
        }
    }
}

/// ingress-nginx: the controller's flags and nginx's own limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IngressNginx {
    /// `--shutdown-grace-period`: from the signal to `nginx -s quit`.
    pub shutdown_grace_period: Duration,
    /// `worker-shutdown-timeout` of the ConfigMap: a worker that quits closes what is still open after it.
    pub worker_shutdown_timeout: Duration,
    /// `--post-shutdown-grace-period`: from the end of nginx to that of the controller.
    pub post_shutdown_grace_period: Duration,
}

impl IngressNginx {
    /// The defaults of controller and ConfigMap.
    pub const DEFAULT: Self = Self {
        shutdown_grace_period: Duration::ZERO,
        worker_shutdown_timeout: Duration::from_secs(240),
        post_shutdown_grace_period: Duration::from_secs(10),
    };

    /// Its moves.
    #[must_use]
    pub fn moves(self) -> Vec<Move> {
        vec![
            Move::FailReadiness,
            Move::Wait(self.shutdown_grace_period),
            Move::Give(Order::Quit),
            // The controller looks each second whether nginx is gone.
            Move::UntilFew {
                open_max: 0,
                first: Duration::from_secs(1),
                every: Duration::from_secs(1),
                limit: Some(self.worker_shutdown_timeout),
            },
            Move::Give(Order::Cut),
            Move::Wait(self.post_shutdown_grace_period),
        ]
    }
}

/// Contour: the flags of `contour envoy shutdown`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contour {
    /// `--drain-delay`: before connections are told to leave.
    pub drain_delay: Duration,
    /// `--check-delay`: from there to the first look at the open connections.
    pub check_delay: Duration,
    /// `--check-interval`: from one look to the next.
    pub check_interval: Duration,
    /// `--min-open-connections`: so many may be left.
    pub min_open_connections: usize,
}

impl Contour {
    /// The defaults of the shutdown manager; `--check-delay` was 60 s before Contour 1.15.
    pub const DEFAULT: Self = Self {
        drain_delay: Duration::ZERO,
        check_delay: Duration::ZERO,
        check_interval: Duration::from_secs(5),
        min_open_connections: 0,
    };

    /// Its moves.
    #[must_use]
    pub fn moves(self) -> Vec<Move> {
        let looks = Move::UntilFew {
            open_max: self.min_open_connections,
            first: Duration::ZERO,
            every: self.check_interval,
            limit: None,
        };
        vec![
            Move::Wait(self.drain_delay),
            Move::FailReadiness,
            Move::Give(Order::TellToLeave),
            Move::Wait(self.check_delay),
            looks,
        ]
    }
}

/// Traefik: `entryPoints.<name>.transport.lifeCycle`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traefik {
    /// `requestAcceptGraceTimeout`: it goes on accepting for so long.
    pub request_accept_grace_timeout: Duration,
    /// `graceTimeOut`: then requests under way have so long.
    pub grace_time_out: Duration,
}

/// The pause between two looks of Traefik's connection tracker.
const TRAEFIK_LOOK: Duration = Duration::from_millis(500);

impl Traefik {
    /// Traefik's defaults.
    pub const DEFAULT: Self =
        Self { request_accept_grace_timeout: Duration::ZERO, grace_time_out: Duration::from_secs(10) };

    /// Its moves.
    #[must_use]
    pub fn moves(self) -> Vec<Move> {
        vec![
            Move::FailReadiness,
            Move::Wait(self.request_accept_grace_timeout),
            Move::Give(Order::Quit),
            Move::UntilFew {
                open_max: 0,
                first: Duration::ZERO,
                every: TRAEFIK_LOOK,
                limit: Some(self.grace_time_out),
            },
            Move::Give(Order::Cut),
        ]
    }
}

/// The signal that the container runtime sends to HAProxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopSignal {
    /// Soft stop. The official image asks for it (`STOPSIGNAL`).
    Usr1,
    /// Hard stop.
    Term,
}

/// HAProxy: the global section, and its image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Haproxy {
    /// Which signal it gets.
    pub stop_signal: StopSignal,
    /// `grace`: it goes on accepting for so long, with `stopping` true.
    pub grace: Duration,
    /// `hard-stop-after`: from the soft stop to the end of all connections; none: never.
    pub hard_stop_after: Option<Duration>,
    /// `monitor fail if { stopping }` is configured: readiness fails during `grace` already.
    pub monitor_fail_if_stopping: bool,
}

/// How soon HAProxy ends after its last connection: at once, but for this.
const HAPROXY_LOOK: Duration = Duration::from_millis(100);

impl Haproxy {
    /// HAProxy's defaults, in its official image.
    pub const DEFAULT: Self = Self {
        stop_signal: StopSignal::Usr1,
        grace: Duration::ZERO,
        hard_stop_after: None,
        monitor_fail_if_stopping: false,
    };

    /// Its moves.
    #[must_use]
    pub fn moves(self) -> Vec<Move> {
        if self.stop_signal == StopSignal::Term {
            return Vec::new();
        }
        let mut moves = if self.monitor_fail_if_stopping { vec![Move::FailReadiness] } else { Vec::new() };
        moves.extend([
            Move::Wait(self.grace),
            Move::FailReadiness,
            Move::Give(Order::Quit),
            // hard-stop-after counts from the signal.
            Move::UntilFew {
                open_max: 0,
                first: Duration::ZERO,
                every: HAPROXY_LOOK,
                limit: self.hard_stop_after.map(|limit| limit.saturating_sub(self.grace)),
            },
            Move::Give(Order::Cut),
        ]);
        moves
    }
}
