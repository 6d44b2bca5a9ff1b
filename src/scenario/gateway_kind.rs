//! `gateway.kind`: whose way of shutting down the gateway has. The data plane stays ours.
//!
//! Each kind but `istio` has a map of its own settings beside `kind`; one of another kind is refused. Defaults are those of
//! [`crate::gateway::shutdown`], as the products document them.
//!
//! | kind | settings |
//! | --- | --- |
//! | `istio` | `terminationDrainDuration`, `drainDuration`, `drainStrategy`, `drainTimeout`, `delayedCloseTimeout`, directly under `gateway` |
//! | `ingress-nginx` | `ingressNginx: { shutdownGracePeriod: 0s, workerShutdownTimeout: 240s, postShutdownGracePeriod: 10s }` |
//! | `contour` | `contour: { drainDelay: 0s, checkDelay: 0s, checkInterval: 5s, minOpenConnections: 0 }` |
//! | `traefik` | `traefik: { requestAcceptGraceTimeout: 0s, graceTimeOut: 10s }` |
//! | `haproxy` | `haproxy: { stopSignal: SIGUSR1, grace: 0s, hardStopAfter: 0s (never), monitorFailIfStopping: false }` |

use std::time::Duration;

use super::resolved::{bare, map, span, text};
use crate::gateway::Move;
use crate::gateway::shutdown::{Contour, Haproxy, IngressNginx, StopSignal, Traefik};
use crate::manifest::quantity::duration_text;
use crate::manifest::{Field, Fields, Node, Place};
use crate::record::CauseCode;

/// A kind of gateway with its settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "names of products")]
pub enum Kind {
    Istio,
    IngressNginx(IngressNginx),
    Contour(Contour),
    Traefik(Traefik),
    Haproxy(Haproxy),
}

/// The kinds by their names, with the key of their own settings.
const KINDS: [(&str, Kind, Option<&str>); 5] = [
    ("istio", Kind::Istio, None),
    ("ingress-nginx", Kind::IngressNginx(IngressNginx::DEFAULT), Some("ingressNginx")),
    ("contour", Kind::Contour(Contour::DEFAULT), Some("contour")),
    ("traefik", Kind::Traefik(Traefik::DEFAULT), Some("traefik")),
    ("haproxy", Kind::Haproxy(Haproxy::DEFAULT), Some("haproxy")),
];

/// What an Istio gateway alone has.
pub(super) const OF_ISTIO: [&str; 5] =
    ["terminationDrainDuration", "drainDuration", "drainStrategy", "drainTimeout", "delayedCloseTimeout"];

/// The kind of a scenario's gateway.
#[derive(Clone, Debug)]
pub struct KindSettings {
    /// With its settings.
    pub kind: Kind,
    /// Where it is written.
    pub at: Place,
    /// The settings that are written, with their places.
    pub written: Vec<(&'static str, Place)>,
}

impl KindSettings {
    /// What holds where nothing is written.
    pub const ISTIO: Self = Self { kind: Kind::Istio, at: Place::NOWHERE, written: Vec::new() };
}

/// Reads `kind` and its settings out of `gateway`.
pub(super) fn read(gateway: Option<&Fields<'_>>) -> Option<KindSettings> {
    let Some(gateway) = gateway else { return Some(KindSettings::ISTIO) };
    let field = gateway.get("kind");
    let words = KINDS.map(|(name, kind, key)| (name, (name, kind, key)));
    let (name, kind, own) = match &field {
        Some(field) => field.choice(&words)?,
        None => KINDS[0],
    };
    let at = field.as_ref().map_or(Place::NOWHERE, Field::place);
    let mut is_right = true;
    for (other, _, key) in KINDS {
        if let Some(field) = key.filter(|_| other != name).and_then(|key| gateway.get(key)) {
            field.refuse(
                format!("these are settings of kind {other}, and the gateway is of kind {name}"),
                format!("write kind: {other}, or remove them"),
            );
            is_right = false;
        }
    }
    for key in OF_ISTIO {
        if let Some(field) = gateway.look(key).filter(|_| name != "istio") {
            field.refuse(
                format!("this is a setting of kind istio, and the gateway is of kind {name}"),
                own.map_or(String::new(), |own| format!("the settings of {name} stand under gateway.{own}")),
            );
            is_right = false;
        }
    }
    let settings = own.and_then(|own| gateway.get(own));
    let mut reader = Reader { fields: settings.as_ref().and_then(Field::fields), written: Vec::new(), is_right };
    let kind = reader.kind(kind);
    if let Some(fields) = &reader.fields {
        fields.finish();
    }
    reader.is_right.then_some(KindSettings { kind, at, written: reader.written })
}

struct Reader<'a> {
    fields: Option<Fields<'a>>,
    written: Vec<(&'static str, Place)>,
    is_right: bool,
}

impl<'a> Reader<'a> {
    fn get<T>(&mut self, key: &'static str, usual: T, read: impl FnOnce(&Field<'a>) -> Option<T>) -> T {
        let Some(field) = self.fields.as_ref().and_then(|fields| fields.get(key)) else { return usual };
        self.written.push((key, field.place()));
        let found = read(&field);
        self.is_right &= found.is_some();
        found.unwrap_or(usual)
    }

    fn span(&mut self, key: &'static str, usual: Duration) -> Duration {
        self.get(key, usual, |field| field.duration())
    }

    fn kind(&mut self, usual: Kind) -> Kind {
        match usual {
            Kind::Istio => usual,
            Kind::IngressNginx(usual) => Kind::IngressNginx(IngressNginx {
                shutdown_grace_period: self.span("shutdownGracePeriod", usual.shutdown_grace_period),
                worker_shutdown_timeout: self.span("workerShutdownTimeout", usual.worker_shutdown_timeout),
                post_shutdown_grace_period: self.span("postShutdownGracePeriod", usual.post_shutdown_grace_period),
            }),
            Kind::Contour(usual) => Kind::Contour(Contour {
                drain_delay: self.span("drainDelay", usual.drain_delay),
                check_delay: self.span("checkDelay", usual.check_delay),
                check_interval: self.get("checkInterval", usual.check_interval, |field| field.positive_duration()),
                min_open_connections: self
                    .get("minOpenConnections", usual.min_open_connections, |field| field.whole(0, 1_000_000)),
            }),
            Kind::Traefik(usual) => Kind::Traefik(Traefik {
                request_accept_grace_timeout: self
                    .span("requestAcceptGraceTimeout", usual.request_accept_grace_timeout),
                grace_time_out: self.span("graceTimeOut", usual.grace_time_out),
            }),
            Kind::Haproxy(usual) => {
                let signals = [("SIGUSR1", StopSignal::Usr1), ("SIGTERM", StopSignal::Term)];
                Kind::Haproxy(Haproxy {
                    stop_signal: self.get("stopSignal", usual.stop_signal, |field| field.choice(&signals)),
                    grace: self.span("grace", usual.grace),
                    hard_stop_after: Some(self.span("hardStopAfter", Duration::ZERO)).filter(|span| !span.is_zero()),
                    monitor_fail_if_stopping: self.get(
                        "monitorFailIfStopping",
                        usual.monitor_fail_if_stopping,
                        |field| field.boolean(),
                    ),
                })
            }
        }
    }
}

impl Kind {
    /// Its name, as scenarios write it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Istio => "istio",
            Self::IngressNginx(_) => "ingress-nginx",
            Self::Contour(_) => "contour",
            Self::Traefik(_) => "traefik",
            Self::Haproxy(_) => "haproxy",
        }
    }

    /// The key of its settings.
    fn key(&self) -> &'static str {
        KINDS.iter().find_map(|(name, _, key)| key.filter(|_| *name == self.name())).unwrap_or_default()
    }

    /// What SIGTERM leads to; none for Istio, whose manifests say it.
    pub(super) fn moves(&self) -> Option<Vec<Move>> {
        match self {
            Self::Istio => None,
            Self::IngressNginx(settings) => Some(settings.moves()),
            Self::Contour(settings) => Some(settings.moves()),
            Self::Traefik(settings) => Some(settings.moves()),
            Self::Haproxy(settings) => Some(settings.moves()),
        }
    }

    /// Where its readiness is asked for unless the pod's probe says another port, and the path.
    pub(super) fn readiness(&self) -> (u16, &'static str) {
        match self {
            Self::Istio => (15021, "/healthz/ready"),
            Self::IngressNginx(_) => (10254, "/healthz"),
            Self::Contour(_) => (8002, "/ready"),
            Self::Traefik(_) => (8080, "/ping"),
            Self::Haproxy(_) => (1042, "/healthz"),
        }
    }

    /// The setting that decides a loss: its key and its value.
    fn deciding(&self) -> Vec<(&'static [CauseCode], &'static str, String)> {
        const EARLY: &[CauseCode] = &[CauseCode::LbStaleTarget, CauseCode::ConnectTimeout, CauseCode::StaleNodeRules];
        const IDLE: &[CauseCode] = &[CauseCode::ExitIdleConnection, CauseCode::KeepaliveRace];
        const OPEN: &[CauseCode] = &[CauseCode::ExitInFlight];
        let never = |span: Option<Duration>| span.map_or("0s".to_owned(), duration_text);
        match self {
            Self::Istio => Vec::new(),
            Self::IngressNginx(it) => {
                let grace = duration_text(it.shutdown_grace_period);
                let timeout = duration_text(it.worker_shutdown_timeout);
                vec![
                    (EARLY, "shutdownGracePeriod", grace.clone()),
                    (IDLE, "shutdownGracePeriod", grace),
                    (OPEN, "workerShutdownTimeout", timeout),
                ]
            }
            Self::Contour(it) => {
                let delay = duration_text(it.check_delay);
                vec![
                    (EARLY, "checkDelay", delay.clone()),
                    (IDLE, "checkDelay", delay),
                    (OPEN, "minOpenConnections", it.min_open_connections.to_string()),
                ]
            }
            Self::Traefik(it) => {
                let grace = duration_text(it.request_accept_grace_timeout);
                vec![
                    (EARLY, "requestAcceptGraceTimeout", grace.clone()),
                    (IDLE, "requestAcceptGraceTimeout", grace),
                    (OPEN, "graceTimeOut", duration_text(it.grace_time_out)),
                ]
            }
            Self::Haproxy(it) if it.stop_signal == StopSignal::Term => {
                [EARLY, IDLE, OPEN].map(|codes| (codes, "stopSignal", "SIGTERM".to_owned())).into()
            }
            Self::Haproxy(it) => {
                let grace = duration_text(it.grace);
                vec![
                    (EARLY, "grace", grace.clone()),
                    (IDLE, "grace", grace),
                    (OPEN, "hardStopAfter", never(it.hard_stop_after)),
                ]
            }
        }
    }

    /// Its settings as a scenario writes them, every default filled in.
    fn settings(&self) -> Vec<(&'static str, Node)> {
        match self {
            Self::Istio => Vec::new(),
            Self::IngressNginx(it) => vec![
                ("shutdownGracePeriod", span(it.shutdown_grace_period)),
                ("workerShutdownTimeout", span(it.worker_shutdown_timeout)),
                ("postShutdownGracePeriod", span(it.post_shutdown_grace_period)),
            ],
            Self::Contour(it) => vec![
                ("drainDelay", span(it.drain_delay)),
                ("checkDelay", span(it.check_delay)),
                ("checkInterval", span(it.check_interval)),
                ("minOpenConnections", bare(it.min_open_connections)),
            ],
            Self::Traefik(it) => vec![
                ("requestAcceptGraceTimeout", span(it.request_accept_grace_timeout)),
                ("graceTimeOut", span(it.grace_time_out)),
            ],
            Self::Haproxy(it) => {
                let signal = if it.stop_signal == StopSignal::Usr1 { "SIGUSR1" } else { "SIGTERM" };
                vec![
                    ("stopSignal", text(signal)),
                    ("grace", span(it.grace)),
                    ("hardStopAfter", span(it.hard_stop_after.unwrap_or_default())),
                    ("monitorFailIfStopping", bare(it.monitor_fail_if_stopping)),
                ]
            }
        }
    }
}

impl KindSettings {
    /// The settings that decide losses, with their paths and where they are written: at the kind, if they are not.
    pub(super) fn sources(&self) -> Vec<(&'static [CauseCode], Place, String, String)> {
        let place = |key: &str| self.written.iter().find(|(known, _)| *known == key).map_or(self.at, |(_, at)| *at);
        let row = |(codes, key, value): (&'static [CauseCode], &'static str, String)| {
            (codes, place(key), format!("spec.gateway.{}.{key}", self.kind.key()), value)
        };
        self.kind.deciding().into_iter().map(row).collect()
    }

    /// The kind and its settings as a scenario writes them.
    pub(super) fn entries(&self) -> Vec<(&'static str, Node)> {
        let mut entries = vec![("kind", text(self.kind.name()))];
        if self.kind != Kind::Istio {
            entries.push((self.kind.key(), map(self.kind.settings())));
        }
        entries
    }
}
