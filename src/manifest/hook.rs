//! preStop hooks: how long they run, and what they order a gateway to do meanwhile.
//!
//! - `sleep: { seconds }` and the command `sleep` take time. Commands follow each other in a shell, after `;`, `&&` or on lines of their own.
//! - A POST to Envoy's administration (`localhost:15000`) orders something: by `curl`, `wget`, or `pilot-agent request POST PATH`. `healthcheck/fail` makes
//!   every answer say close; `drain_listeners` closes the listeners; with `?graceful` it drains, and with `skip_exit` or `inboundonly` (a gateway's
//!   listeners are outbound ones) the listeners stay. A GET changes nothing: Envoy answers 405.
//! - `httpGet` comes from the kubelet. It takes no time, and neither Envoy's administration, which listens on localhost alone, nor the port of
//!   readiness, which only answers, is moved by it.
//! - Whatever else a hook does is noted as ignored.
//!
//! Sources: Kubernetes pkg/kubelet/lifecycle, core/v1 `LifecycleHandler`; envoy source/server/admin/{listeners_handler,server_cmd_handler}.cc; istio
//! pilot/cmd/pilot-agent/app/request.go.

use std::time::Duration;

use super::problem::Place;
use super::read::Field;
use crate::gateway::Order;
use crate::record::results::FidelityStatus;

/// A preStop hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    /// How long it runs.
    pub duration: Duration,
    /// What it orders, and when, from its start.
    pub orders: Vec<(Duration, Order)>,
    /// Where it is written.
    pub at: Place,
    /// Its key path.
    pub path: String,
    /// What carries it out.
    pub by: By,
}

/// What carries out a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum By {
    /// The kubelet itself, with its action `sleep`.
    Sleep,
    /// A program of the image.
    Program(String),
}

/// Envoy's administration and pilot-agent listen there.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// The port of Envoy's administration in Istio.
const ADMIN_PORT: &str = "15000";

/// What one command of a hook does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Sleep(Duration),
    Give(Order),
    Nothing,
}

/// Reads `lifecycle`; none if no hook runs before the end, or none that is understood.
pub(super) fn read_lifecycle(field: &Field<'_>) -> Option<Hook> {
    let fields = field.fields()?;
    fields.ignore(&["postStart"], "hooks after the start are not simulated");
    fields.allow(&["stopSignal"]);
    let hook = fields.look("preStop");
    fields.finish();
    let hook = hook?;
    let hook_fields = hook.fields()?;
    let (exec, sleep) = (hook_fields.look("exec"), hook_fields.look("sleep"));
    let count = ["exec", "sleep", "httpGet", "tcpSocket"].iter().filter(|key| hook_fields.look(key).is_some()).count();
    if count > 1 {
        hook.refuse(format!("a hook does one thing, and here are {count}"), "keep one of exec, sleep and httpGet");
    }
    if let Some(http) = hook_fields.look("httpGet") {
        note_http(&http);
    }
    hook_fields.ignore(&["tcpSocket"], "the API keeps it without a meaning");
    hook_fields.finish();
    if let Some(sleep) = sleep {
        let fields = sleep.fields()?;
        let seconds = fields.require("seconds", "write how long it sleeps, such as seconds: 15");
        let seconds = seconds.and_then(|field| field.whole::<u32>(0, i64::from(i32::MAX)));
        fields.finish();
        let duration = Duration::from_secs(u64::from(seconds?));
        return Some(hook_of(&sleep, duration, Vec::new(), By::Sleep));
    }
    read_exec(&exec?)
}

fn hook_of(field: &Field<'_>, duration: Duration, orders: Vec<(Duration, Order)>, by: By) -> Hook {
    Hook { duration, orders, at: field.place(), path: field.path().to_owned(), by }
}

fn read_exec(exec: &Field<'_>) -> Option<Hook> {
    let fields = exec.fields()?;
    let words = fields.look("command").map(|field| field.items()).unwrap_or_default();
    if words.is_empty() {
        // Source: Kubernetes pkg/apis/core/validation/validation.go (`validateExecAction`).
        fields.missing("command", "write what is run, such as command: [sleep, \"15\"]");
        return None;
    }
    let command: Vec<String> = words.iter().filter_map(|word| word.scalar()).map(str::to_owned).collect();
    let Some(steps) = steps_of(&command) else {
        // What an Istio gateway does not know may be another kind's own hook.
        let is_own = command.iter().any(|word| word.contains("wait-shutdown"));
        let note = if is_own {
            "it sends SIGTERM and waits, as gateway.kind: ingress-nginx does it"
        } else {
            "only `sleep` and POSTs to Envoy are simulated; this command takes no time here"
        };
        let status = if is_own { FidelityStatus::Modelled } else { FidelityStatus::Ignored };
        exec.note(status, Some(note));
        return None;
    };
    let (mut at, mut orders, mut is_idle) = (Duration::ZERO, Vec::new(), false);
    for step in steps {
        match step {
            // Longer than any grace period can be is as long as it can be.
            Step::Sleep(span) => at = at.saturating_add(span).min(SLEEP_MAX),
            Step::Give(order) => orders.push((at, order)),
            Step::Nothing => is_idle = true,
        }
    }
    let note = "a GET changes nothing: Envoy answers 405 to all but POST";
    exec.note(if is_idle { FidelityStatus::Warning } else { FidelityStatus::Modelled }, is_idle.then_some(note));
    Some(hook_of(exec, at, orders, By::Program(command.first()?.clone())))
}

const SLEEP_MAX: Duration = Duration::from_secs(i32::MAX as u64);

fn note_http(field: &Field<'_>) {
    let port = field.node().find(&["port"]).and_then(|node| node.text()).unwrap_or_default();
    let path = field.node().find(&["path"]).and_then(|node| node.text()).unwrap_or("/");
    let (status, note) = match (port, path) {
        (ADMIN_PORT, _) => (
            FidelityStatus::Warning,
            "Envoy's administration listens on localhost alone, so the hook fails and nothing happens: use exec with pilot-agent request POST",
        ),
        (_, "/shutdown") => {
            (FidelityStatus::Modelled, "it waits for Contour's shutdown manager, as gateway.kind: contour does it")
        }
        ("15020" | "15021", _) => {
            (FidelityStatus::Warning, "the port of readiness only answers: the hook takes no time and changes nothing")
        }
        _ => (FidelityStatus::Ignored, "hooks over the network take no time here"),
    };
    field.note(status, Some(note));
}

/// What the commands do, one after the other; none if one of them is not understood.
fn steps_of(command: &[String]) -> Option<Vec<Step>> {
    match command {
        [shell, flag, script] if shell.ends_with("sh") && flag.starts_with('-') && flag.ends_with('c') => {
            let lines = script.split([';', '\n']).flat_map(|line| line.split("&&"));
            let commands = lines.map(str::trim).filter(|text| !text.is_empty());
            commands.map(|text| step_of(&words(text))).collect()
        }
        [] => None,
        words => Some(vec![step_of(&words.iter().map(String::as_str).collect::<Vec<_>>())?]),
    }
}

/// The words of a command, without the quotes around them.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect()
}

fn step_of(words: &[&str]) -> Option<Step> {
    let (program, arguments) = words.split_first()?;
    match program.rsplit('/').next()? {
        "sleep" => {
            let [time] = arguments else { return None };
            slept(time).map(Step::Sleep)
        }
        "pilot-agent" => match arguments {
            ["request", "POST", path] => order_of(path).map(Step::Give),
            ["request", "GET", path] => order_of(path).map(|_| Step::Nothing),
            _ => None,
        },
        "curl" | "wget" => {
            let url =
                arguments.iter().find(|word| word.contains("://") || LOCAL.iter().any(|it| word.starts_with(it)))?;
            let rest = url.split_once("://").map_or(*url, |(_, rest)| rest);
            let (address, path) = rest.split_once('/')?;
            let (host, port) = address.rsplit_once(':')?;
            if !LOCAL.contains(&host) || port != ADMIN_PORT {
                return None;
            }
            let is_post = arguments.windows(2).any(|pair| matches!(pair, ["-X" | "--request", "POST"]))
                || arguments.iter().any(|word| {
                    matches!(*word, "-XPOST" | "--request=POST" | "--method=POST")
                        || word.starts_with("--post-")
                        || word.starts_with("-d")
                        || word.starts_with("--data")
                });
            order_of(path).map(|order| if is_post { Step::Give(order) } else { Step::Nothing })
        }
        _ => None,
    }
}

/// What a POST to Envoy's administration orders.
fn order_of(path: &str) -> Option<Order> {
    let path = path.trim_start_matches('/');
    let (name, query) = path.split_once('?').unwrap_or((path, ""));
    let has = |flag: &str| query.split('&').any(|part| part == flag);
    match name {
        "healthcheck/fail" => Some(Order::TellToLeave),
        "drain_listeners" if has("graceful") => {
            Some(Order::Drain { closes_listeners: !has("skip_exit") && !has("inboundonly") })
        }
        "drain_listeners" if query.is_empty() => Some(Order::CloseListeners),
        _ => None,
    }
}

/// The time of `sleep`: `30`, `0.5`, `2m`.
fn slept(time: &str) -> Option<Duration> {
    let (digits, unit_seconds) = match time.split_at_checked(time.len().checked_sub(1)?)? {
        (digits, "s") => (digits, 1.0),
        (digits, "m") => (digits, 60.0),
        (digits, "h") => (digits, 3600.0),
        _ => (time, 1.0),
    };
    let seconds = digits.parse::<f64>().ok()? * unit_seconds;
    Duration::try_from_secs_f64(seconds.min(f64::from(i32::MAX))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Step {
        Step::Sleep(Duration::from_secs(seconds))
    }

    #[test]
    fn commands_are_understood_or_not_at_all() {
        let of = |words: &[&str]| steps_of(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let tell = Step::Give(Order::TellToLeave);
        let drain = |closes_listeners| Step::Give(Order::Drain { closes_listeners });
        for (words, steps) in [
            (&["sleep", "30"][..], Some(vec![s(30)])),
            (&["/bin/sleep", "5s"], Some(vec![s(5)])),
            (&["sleep", "2m"], Some(vec![s(120)])),
            (&["sleep", "0.5"], Some(vec![Step::Sleep(Duration::from_millis(500))])),
            (&["/bin/sh", "-c", "sleep 15"], Some(vec![s(15)])),
            (&["sh", "-c", "sleep 5 && sleep 10; sleep 1"], Some(vec![s(5), s(10), s(1)])),
            (
                &["bash", "-ec", "curl -s -X POST http://localhost:15000/healthcheck/fail\nsleep 20"],
                Some(vec![tell, s(20)]),
            ),
            (
                &["sh", "-c", "curl -XPOST '127.0.0.1:15000/drain_listeners?graceful' && sleep 9"],
                Some(vec![drain(true), s(9)]),
            ),
            (
                &["sh", "-c", "wget --post-data= http://127.0.0.1:15000/healthcheck/fail; sleep 3"],
                Some(vec![tell, s(3)]),
            ),
            (&["sh", "-c", "curl localhost:15000/healthcheck/fail; sleep 3"], Some(vec![Step::Nothing, s(3)])),
            (&["pilot-agent", "request", "POST", "drain_listeners?graceful&skip_exit"], Some(vec![drain(false)])),
            (
                &["/usr/local/bin/pilot-agent", "request", "POST", "drain_listeners?inboundonly&graceful"],
                Some(vec![drain(false)]),
            ),
            (&["pilot-agent", "request", "POST", "drain_listeners"], Some(vec![Step::Give(Order::CloseListeners)])),
            (&["pilot-agent", "request", "GET", "healthcheck/fail"], Some(vec![Step::Nothing])),
            (&["sh", "-c", "while true; do sleep 1; done"], None),
            (&["sh", "-c", "sleep 15; curl localhost"], None),
            (&["curl", "-XPOST", "http://example.com:15000/healthcheck/fail"], None),
            (&["sleep", "forever"], None),
            (&["sleep"], None),
            (&["/wait-shutdown"], None),
            (&[], None),
        ] {
            assert_eq!(of(words), steps, "{words:?}");
        }
    }
}
