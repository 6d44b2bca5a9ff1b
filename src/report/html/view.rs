//! What the template fills in: every figure already as the text people read.

use minijinja::{Value, context};

use super::super::scaling;
use super::super::units::Clock;
use super::super::units::{self, ShortNames};
use super::{HtmlOptions, actions, latency, palette, rollout};
use crate::record::results::{
    Cause, Fidelity, FidelityStatus, LatencyUs, Level, Load, Results, Rollout, Slo, Totals, Verdict,
};
use crate::record::{CauseCode, Outcome, Run, Source, tally};

/// What stands where there is nothing to say.
const NONE: &str = "–";

/// The page of a run as the template sees it.
pub(super) fn page(run: &Run, options: &HtmlOptions<'_>) -> Value {
    let results = &run.results;
    let clock = Clock::of(results);
    let actions = actions::of(options.events);
    context! {
        dark_rules => Value::from_safe_string(palette::dark_rules()),
        title => super::super::title(results),
        passed => results.verdict == Verdict::Pass,
        verdict => verdict(results),
        sentence => super::super::sentence(results),
        complete => results.complete,
        unfinished => units::count(results.unfinished),
        facts => list(facts(results).into_iter().map(|(name, value)| context! { name, value })),
        rollout => picture(rollout::draw(run, &actions, clock)),
        actions => list(actions.iter().map(|action| {
            context! { at => clock.tell(action.t_ms), text => action.text, object => action.object }
        })),
        clock => about_clock(results),
        latency_time => latency::over_time(run, clock).map(picture),
        latency_curve => latency::curve(results).map(picture),
        outcomes => outcomes(results, clock),
        latencies => latencies(results),
        causes => list(results.causes.iter().map(|cause| cause_row(cause, results, clock))),
        slo => list(results.slo.iter().map(slo_row)),
        rollouts => rollouts(&results.rollouts, clock),
        autoscalers => autoscalers(results, clock),
        fidelity => fidelity(&results.fidelity),
        command => options.command,
        scenario => options.scenario,
    }
}

fn list(items: impl IntoIterator<Item = impl Into<Value>>) -> Value {
    items.into_iter().collect()
}

/// A drawing is markup already; its notes are not.
fn picture(picture: super::Picture) -> Value {
    context! { svg => Value::from_safe_string(picture.svg), notes => list(picture.notes) }
}

/// A table of figures: the first column is a name, the others are numbers.
fn table(head: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) -> Value {
    context! { head => list(head), rows => list(rows.into_iter().map(list)) }
}

fn verdict(results: &Results) -> String {
    let errors = || results.slo.iter().filter(|slo| slo.level == Level::Error);
    let (all, missed) = (errors().count(), errors().filter(|slo| !slo.ok).count());
    match (all, missed) {
        (0, _) => "no SLO was asked for".to_owned(),
        (1, 0) => "the SLO is met".to_owned(),
        (all, 0) => format!("all {all} SLOs met"),
        (1, _) => "the SLO is missed".to_owned(),
        (all, missed) => format!("{missed} of {all} SLOs missed"),
    }
}

fn about_clock(results: &Results) -> String {
    let measured = results.measured;
    let span = units::span(measured.end_ms - measured.start_ms);
    match measured.start_ms {
        0 => format!("Times count from the start of the run; {span} were measured."),
        warmup_ms => format!(
            "Times count from the start of the {span} measured. The warm-up of {} before it is not counted; \
             results.json and the tables beside it count from its start, so there the same instant is {} later.",
            units::span(warmup_ms),
            units::span(warmup_ms)
        ),
    }
}

fn facts(results: &Results) -> Vec<(&'static str, String)> {
    let totals = &results.totals;
    let mut facts = vec![
        ("Requests sent", units::count(totals.sent)),
        ("Requests lost", units::count(totals.dropped)),
        ("Lost of sent", totals.dropped_ratio.map_or(NONE.to_owned(), units::percent)),
        ("Latency p99", time(results.latency_us.p99)),
        ("Virtual time measured", units::span(results.measured.end_ms - results.measured.start_ms)),
        ("Seed", results.seed.to_string()),
    ];
    if let (Some(mean), Some(max)) = (results.gateway.cpu_ratio_mean, results.gateway.cpu_ratio_max) {
        facts.push((
            "Gateway CPU, mean / busiest second",
            format!("{} / {}", units::percent(mean), units::percent(max)),
        ));
    }
    facts.extend(results.gateway.balancer.iter().map(|product| ("Load balancer", product.clone())));
    facts.push(("Fingerprint", results.fingerprint.clone()));
    facts.push(("gatedrill", results.engine_version.clone()));
    facts
}

fn time(value: Option<u64>) -> String {
    value.map_or(NONE.to_owned(), units::micros)
}

/// Names, totals and latencies of everything that has its own row: phases, the whole, loads.
fn parts(results: &Results) -> Vec<(String, &Totals, &LatencyUs)> {
    let mut parts: Vec<_> =
        results.phases.iter().map(|phase| (phase.name.clone(), &phase.totals, &phase.latency_us)).collect();
    if results.phases.len() != 1 {
        parts.push(("all phases".to_owned(), &results.totals, &results.latency_us));
    }
    if results.loads.len() > 1 {
        let load = |load: &Load| format!("load {}", load.name);
        parts.extend(results.loads.iter().map(|row| (load(row), &row.totals, &row.latency_us)));
    }
    parts
}

/// One row per part; outcomes that never happened have no column.
fn outcomes(results: &Results, clock: Clock) -> Value {
    let of = |totals: &Totals, outcome| match outcome {
        Outcome::Ok => totals.ok,
        Outcome::BackendError => totals.backend_error,
        Outcome::GatewayError => totals.gateway_error,
        Outcome::Refused => totals.refused,
        Outcome::Reset => totals.reset,
        Outcome::Closed => totals.closed,
        Outcome::Truncated => totals.truncated,
        Outcome::ConnectTimeout => totals.connect_timeout,
        Outcome::RequestTimeout => totals.request_timeout,
        Outcome::TlsFailed => totals.tls_failed,
    };
    let is_seen = |outcome: &Outcome| *outcome == Outcome::Ok || of(&results.totals, *outcome) > 0;
    let seen: Vec<_> = Outcome::ALL.into_iter().filter(is_seen).collect();
    let mut head: Vec<_> = ["phase", "from", "sent", "lost", "lost of sent"].map(str::to_owned).into();
    head.extend(seen.iter().map(|outcome| outcome.to_string().replace('_', " ")));
    let starts = results.phases.iter().map(|phase| clock.tell(phase.start_ms)).map(Some).chain(std::iter::repeat(None));
    let row = |((name, totals, _), start): ((String, &Totals, &LatencyUs), Option<String>)| {
        let ratio = totals.dropped_ratio.map_or(NONE.to_owned(), units::percent);
        let mut row =
            vec![name, start.unwrap_or_default(), units::count(totals.sent), units::count(totals.dropped), ratio];
        row.extend(seen.iter().map(|outcome| units::count(of(totals, *outcome))));
        row
    };
    table(head, parts(results).into_iter().zip(starts).map(row))
}

fn latencies(results: &Results) -> Value {
    let head = ["phase", "answered", "mean", "p50", "p90", "p99", "p99.9", "longest"].map(str::to_owned).into();
    let row = |(name, _, latency): (String, &Totals, &LatencyUs)| {
        let mean = latency.mean.map(units::whole);
        let mut row = vec![name, units::count(latency.count)];
        row.extend([mean, latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max].map(time));
        row
    };
    table(head, parts(results).into_iter().map(row))
}

fn cause_row(cause: &Cause, results: &Results, clock: Clock) -> Value {
    let known = CauseCode::find(&cause.code);
    context! {
        code => &cause.code,
        name => &cause.name,
        meaning => known.map(CauseCode::meaning),
        fix => cause.fix(),
        count => units::count(cause.count),
        share => tally::ratio(cause.count, results.totals.dropped).map_or(NONE.to_owned(), units::percent),
        first => clock.tell(cause.first_ms),
        last => clock.tell(cause.last_ms),
        sees => cause.client_sees.replace('_', " "),
        flag => cause.envoy_flag.as_deref().unwrap_or(NONE),
        place => cause.source.as_ref().and_then(place),
        setting => cause.source.as_ref().map(setting),
    }
}

/// As in `manifests/edge.yaml:31`; none for a default.
fn place(source: &Source) -> Option<String> {
    source.file.as_ref().map(|file| file_line(file, source.line))
}

fn file_line(file: &str, line: Option<u32>) -> String {
    line.map_or(file.to_owned(), |line| format!("{file}:{line}"))
}

fn setting(source: &Source) -> String {
    match &source.value {
        Some(value) => format!("{}: {value}", source.path),
        None => source.path.clone(),
    }
}

fn slo_row(slo: &Slo) -> Value {
    let (mark, class) = match (slo.ok, slo.level) {
        (true, _) => ("✓ met", "good"),
        (false, Level::Error) => ("✗ missed", "bad"),
        (false, Level::Warn) => ("! missed, warns only", "warn"),
    };
    context! {
        mark,
        class,
        name => &slo.name,
        expr => (slo.expr != slo.name).then_some(slo.expr.as_str()),
        value => slo.value.map_or("nothing measured".to_owned(), |value| units::in_unit(value, &slo.unit)),
        limit => units::in_unit(slo.limit, &slo.unit),
        margin => slo.margin_ratio.map_or(NONE.to_owned(), margin),
    }
}

/// The room left, as in `12% left` or `30% over`.
fn margin(ratio: f64) -> String {
    if ratio < -10.0 {
        format!("{} times the limit", units::count(units::whole(1.0 - ratio)))
    } else if ratio < 0.0 {
        format!("{} over", units::percent(-ratio))
    } else {
        format!("{} left", units::percent(ratio))
    }
}

fn rollouts(rollouts: &[Rollout], clock: Clock) -> Value {
    let names = ShortNames::among(rollouts.iter().map(|rollout| rollout.object.as_str()));
    let row = |rollout: &Rollout| {
        list([
            names.of(&rollout.object).to_owned(),
            rollout.revision.to_string(),
            clock.tell(rollout.start_ms),
            match (rollout.end_ms, rollout.stuck_ms) {
                (Some(end_ms), _) => clock.tell(end_ms),
                (None, Some(stuck_ms)) => format!("not completed; deadline passed at {}", clock.tell(stuck_ms)),
                (None, None) => "not completed".to_owned(),
            },
            rollout.duration_ms.map_or(NONE.to_owned(), units::span),
            rollout.pods_max.to_string(),
            rollout.ready_min.to_string(),
        ])
    };
    list(rollouts.iter().map(row))
}

/// Each autoscaler with its syncs that are worth a line.
fn autoscalers(results: &Results, clock: Clock) -> Value {
    let row = |line: &scaling::Line<'_>| {
        let (from, to) = (line.step.current, line.step.desired);
        let pods = if from == to { to.to_string() } else { format!("{from} → {to}") };
        let error = line.step.error.as_deref().unwrap_or("");
        context! { at => clock.tell(line.step.t_ms), pods, why => line.why, metrics => &line.metrics, error }
    };
    let story = |story: scaling::Story<'_>| {
        context! {
            object => story.object,
            syncs => units::count_of(story.sync_count, "sync"),
            changes => units::count_of(story.change_count, "change"),
            rows => list(story.lines.iter().map(row)),
        }
    };
    list(scaling::stories(results).into_iter().map(story))
}

/// What is not simulated comes first: it is what a reader must know.
fn fidelity(rows: &[Fidelity]) -> Value {
    let groups = [
        (FidelityStatus::Warning, "warning", "simulated as it is written, which is probably not what is wanted"),
        (FidelityStatus::Ignored, "ignored", "not simulated at all"),
        (FidelityStatus::Approximated, "approximated", "simulated with a difference"),
        (FidelityStatus::Modelled, "modelled", "simulated as the real system does it"),
    ];
    let group = |(status, name, meaning)| {
        let of_status: Vec<_> = rows.iter().filter(|row| row.status == status).collect();
        let count = of_status.len();
        (count > 0)
            .then(|| context! { status => name, meaning, count, rows => list(of_status.into_iter().map(fidelity_row)) })
    };
    list(groups.into_iter().filter_map(group))
}

fn fidelity_row(row: &Fidelity) -> Value {
    let place = row.file.as_ref().map_or(NONE.to_owned(), |file| file_line(file, row.line));
    context! { path => &row.path, place, note => row.note.as_deref().unwrap_or("") }
}
