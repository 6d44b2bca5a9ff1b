//! `gatedrill gateway`: the gateway of the manifests on real sockets.
//!
//! Standard output is the access log. What listens where, reloads and the drain are told on standard error, and so is what the manifests say that
//! is not carried out.

mod config;
mod options;

use super::args::{AccessLog, Color, GatewayArgs};
use super::exit::Exit;
use super::terminal::{colours_stderr, complain, tell};
use crate::gateway::{DrainConfig, ShutdownMode};
use crate::live::{self, End, Event, LogFormat, Operator, Plan, ServeError, Settings};
use crate::manifest::quantity::duration_text;

use config::{Configuration, Refusal};
use options::Options;

/// What Istio's agent does at SIGTERM. Source: istio pkg/config/mesh/mesh.go `TerminationDrainDuration`.
const SHUTDOWN: ShutdownMode = ShutdownMode::Drain { duration: std::time::Duration::from_secs(5) };

pub(super) fn gateway(args: &GatewayArgs, color: Color) -> Exit {
    let mut terminal = Terminal { color, options: Options::default(), routes_told: String::new() };
    match Options::read(args) {
        Ok(options) => terminal.options = options,
        Err((exit, text)) => {
            complain(&text);
            return exit;
        }
    }
    let configuration = match config::read(&terminal.options) {
        Ok(configuration) => configuration,
        Err(refusal) => return terminal.refuse(&refusal, "nothing was started"),
    };
    if !configuration.unnamed.is_empty() {
        configuration.unnamed.iter().for_each(|text| complain(text));
        return Exit::Usage;
    }
    let plan = terminal.accept(configuration);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = Settings {
        workers: args.workers.map_or(cores, usize::from),
        status: args.status_port.map(|port| terminal.options.status_address(port)),
        shutdown: SHUTDOWN,
        drain: DrainConfig::ISTIO,
        log: match args.access_log {
            AccessLog::Text => Some(LogFormat::Text),
            AccessLog::Json => Some(LogFormat::Json),
            AccessLog::Off => None,
        },
        seed: args.seed,
    };
    match live::serve(&settings, plan, &mut terminal) {
        Ok(End::Drained) => Exit::Ok,
        Ok(End::Interrupted) => Exit::Interrupted,
        Ok(End::Terminated) => Exit::Terminated,
        Err(error) => {
            complain(&match &error {
                ServeError::Bind(bind) => bind_failure(bind),
                other => other.to_string(),
            });
            Exit::Unexpected
        }
    }
}

/// The user, who typed the options and reads standard error.
struct Terminal {
    color: Color,
    options: Options,
    /// Routes and services of the present configuration, in words.
    routes_told: String,
}

impl Terminal {
    /// Tells what is wrong, and what follows.
    fn refuse(&self, refusal: &Refusal, ending: &str) -> Exit {
        match refusal {
            Refusal::Problems(problems) => {
                tell(&problems.render_ending(colours_stderr(self.color), ending));
                Exit::Input
            }
            Refusal::Usage(text) => {
                complain(text);
                Exit::Usage
            }
        }
    }

    /// Tells what was found beside a good configuration, and keeps the words for it.
    fn accept(&mut self, configuration: Configuration) -> Plan {
        for warning in configuration.warnings.iter().chain(&configuration.unnamed) {
            tell(&format!("warning: {warning}\n"));
        }
        self.routes_told = configuration.summary;
        configuration.plan
    }
}

impl Operator for Terminal {
    fn reload(&mut self) -> Option<Plan> {
        match config::read(&self.options) {
            Ok(configuration) => Some(self.accept(configuration)),
            Err(refusal) => {
                self.refuse(&refusal, "the former configuration stays");
                None
            }
        }
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Listening { listeners, status } => {
                for listener in listeners {
                    tell(&format!("listening on {} for port {}\n", listener.address, listener.port));
                }
                if let Some(address) = status {
                    tell(&format!("readiness at http://{address}/healthz/ready\n"));
                }
                let process = std::process::id();
                tell(&format!(
                    "{}; reload: kill -HUP {process}; drain and stop: kill -TERM {process}, or Ctrl-C\n",
                    self.routes_told
                ));
            }
            Event::Reloaded { listeners } => {
                let addresses: Vec<String> = listeners.iter().map(|listener| listener.address.to_string()).collect();
                tell(&format!("reloaded: {} on {}\n", self.routes_told, addresses.join(", ")));
            }
            Event::NotReloaded(error) => {
                complain(&format!("{}; the former configuration stays", bind_failure(&error)));
            }
            Event::Draining(mode) => {
                let how = match mode {
                    ShutdownMode::ExitAtOnce => "stops at once".to_owned(),
                    ShutdownMode::Drain { duration } => format!("drains for {}", duration_text(duration)),
                    ShutdownMode::ExitOnZero { minimum } => {
                        format!("drains for {} and until no connection is open", duration_text(minimum))
                    }
                };
                tell(&format!("{how}; a second signal stops it at once\n"));
            }
            Event::Drained { connections: 0 } => tell("drained\n"),
            Event::Drained { connections } => tell(&format!("drained; {connections} connections were still open\n")),
            Event::LinesLost(lines) => {
                tell(&format!("warning: {lines} lines of the access log were left out: nobody read them in time\n"));
            }
        }
    }
}

fn bind_failure(error: &live::BindError) -> String {
    let help = match error.source.kind() {
        std::io::ErrorKind::AddrInUse => "; another process listens there",
        std::io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need more rights",
        _ => "",
    };
    format!("{error}{help}")
}
