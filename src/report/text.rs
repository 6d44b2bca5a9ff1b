//! The summary in the terminal: what happened, what it cost, why, and what to type next. 80 columns suffice.

mod paint;
mod rollout;

use super::{scaling, units};
use crate::record::results::{Cause, FidelityStatus, LatencyUs, Level, Results, Rollout, Slo, Totals, Verdict};
use crate::record::{CauseCode, Run};

pub use paint::Paint;

/// Columns that every terminal has.
pub(crate) const WIDTH: usize = 80;

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct TextOptions<'a> {
    /// Whether to colour.
    pub paint: Paint,
    /// The run folder, if one is written.
    pub folder: Option<&'a str>,
    /// The command to type next.
    pub next: Option<&'a str>,
}

/// The summary of one run. The last line is the verdict.
#[must_use]
pub fn summary(run: &Run, options: &TextOptions<'_>) -> String {
    let (results, paint) = (&run.results, options.paint);
    let mut lines = vec![heading(results, paint), String::new()];
    lines.extend(wrap(&super::sentence(results), 0, 0));
    if !results.complete {
        lines.push(paint.warn("Interrupted: only requests that had ended are counted."));
    }
    section(&mut lines, paint, "Gateway", status_lines(results));
    section(&mut lines, paint, "Rollout", rollout_lines(run, paint));
    section(&mut lines, paint, "Autoscaling", scaling_lines(results, paint));
    section(&mut lines, paint, "Phases", phase_lines(results, paint));
    section(
        &mut lines,
        paint,
        "Lost, by cause",
        results.causes.iter().flat_map(|cause| cause_lines(cause, paint)).collect(),
    );
    section(&mut lines, paint, "Warnings", warning_lines(results));
    section(&mut lines, paint, "SLOs", results.slo.iter().map(|slo| slo_line(slo, paint)).collect());
    lines.push(String::new());
    lines.extend(fidelity_line(results));
    if let Some(folder) = options.folder {
        lines.push(format!("Report: {folder}/report.html"));
    }
    lines.push(verdict(results, options));
    lines.join("\n") + "\n"
}

/// Several runs, a line each; under it the verdict over all.
#[must_use]
pub fn overview(runs: &[&Results], options: &TextOptions<'_>) -> String {
    let paint = options.paint;
    let head =
        format!("{:<24} {:>6} {:>10} {:>8} {:>9} {:>8}  verdict", "scenario", "seed", "sent", "lost", "ratio", "p99");
    let mut lines = vec![paint.dim(&head)];
    for results in runs {
        let totals = &results.totals;
        let verdict = match results.verdict {
            Verdict::Pass => paint.good("pass"),
            Verdict::Fail => paint.bad("FAIL"),
        };
        lines.push(format!(
            "{:<24} {:>6} {:>10} {:>8} {:>9} {:>8}  {verdict}",
            clip(&super::title(results), 24),
            results.seed,
            units::count(totals.sent),
            units::count(totals.dropped),
            totals.dropped_ratio.map_or("–".to_owned(), units::percent),
            results.latency_us.p99.map_or("–".to_owned(), units::micros),
        ));
    }
    let failed = runs.iter().filter(|results| results.verdict == Verdict::Fail).count();
    let painted = |word: &str| if failed == 0 { paint.good(word) } else { paint.bad(word) };
    let what =
        if failed == 0 { format!("all {} runs", runs.len()) } else { format!("{failed} of {} runs", runs.len()) };
    lines.push(String::new());
    lines.push(with_next(if failed == 0 { "PASS" } else { "FAIL" }, painted, &what, options.next));
    lines.join("\n") + "\n"
}

/// The verdict and the next command: the end of a summary, and all that `--quiet` prints.
#[must_use]
pub fn verdict(results: &Results, options: &TextOptions<'_>) -> String {
    let errors: Vec<_> = results.slo.iter().filter(|slo| slo.level == Level::Error).collect();
    let missed = errors.iter().filter(|slo| !slo.ok).count();
    let what = match (errors.len(), missed) {
        (0, _) => format!("no SLO; {} lost", units::count(results.totals.dropped)),
        (1, 0) => "the SLO is met".to_owned(),
        (all, 0) => format!("all {all} SLOs met"),
        (all, missed) => format!("{missed} of {all} SLOs missed"),
    };
    match results.verdict {
        Verdict::Pass => with_next("PASS", |word| options.paint.good(word), &what, options.next),
        Verdict::Fail => with_next("FAIL", |word| options.paint.bad(word), &what, options.next),
    }
}

/// Each gateway's status and address at the end.
fn status_lines(results: &Results) -> Vec<String> {
    let mut lines: Vec<String> = results.gateway.balancer.iter().map(|product| format!("Behind: {product}")).collect();
    for status in &results.gateway.status {
        let without = if status.message.is_some() { "<pending>" } else { "<none>" };
        let address = status.address.as_deref().unwrap_or(without);
        lines.push(format!("{}  {}  {address}", status.object, status.state));
        lines.extend(status.message.iter().flat_map(|message| wrap(message, 2, 2)));
    }
    lines
}

/// A verdict, its word painted or not, and the next command: on a line of its own where one line has no room for both.
pub(crate) fn with_next(word: &str, paint: impl Fn(&str) -> String, what: &str, next: Option<&str>) -> String {
    let painted = paint(word);
    let Some(next) = next else { return format!("{painted} {what}") };
    let width = [word, " ", what, " · next: ", next].map(|part| part.chars().count()).iter().sum::<usize>();
    if width <= WIDTH {
        return format!("{painted} {what} · next: {next}");
    }
    // A shell reads on behind a backslash, so the command can be copied as it stands.
    let mut lines = vec!["next:".to_owned()];
    for word in next.split(' ') {
        let last = lines.last_mut().expect("there is one");
        if last.trim() == "next:" || last.chars().count() + 1 + word.chars().count() + 2 <= WIDTH {
            last.push_str(&format!(" {word}"));
        } else {
            last.push_str(" \\");
            lines.push(format!("  {word}"));
        }
    }
    format!("{painted} {what}\n{}", lines.join("\n"))
}

fn heading(results: &Results, paint: Paint) -> String {
    let span = units::span(results.measured.end_ms - results.measured.start_ms);
    let rest = format!(" · seed {} · {span} of virtual time · gatedrill {}", results.seed, results.engine_version);
    let title = clip(&super::title(results), WIDTH.saturating_sub(rest.chars().count()).max(20));
    paint.bold(&title) + &paint.dim(&rest)
}

fn section(lines: &mut Vec<String>, paint: Paint, title: &str, body: Vec<String>) {
    if !body.is_empty() {
        lines.extend([String::new(), paint.bold(title)]);
        lines.extend(body);
    }
}

fn rollout_lines(run: &Run, paint: Paint) -> Vec<String> {
    let mut lines: Vec<_> =
        run.results.rollouts.iter().flat_map(|it| rollout_lines_of(it, units::Clock::of(&run.results))).collect();
    lines.extend(rollout::lines(run, paint));
    lines
}

fn rollout_lines_of(rollout: &Rollout, clock: units::Clock) -> Vec<String> {
    let took = match (rollout.complete, rollout.duration_ms) {
        (true, Some(duration_ms)) => format!("took {}", units::span(duration_ms)),
        _ => "was not completed".to_owned(),
    };
    let stuck =
        rollout.stuck_ms.map(|at| format!("; without progress for progressDeadlineSeconds at {}", clock.tell(at)));
    let took = took + &stuck.unwrap_or_default();
    let text = format!(
        "{} to revision {} at {}: {took}; pods ≤ {}, ready ≥ {}",
        rollout.object,
        rollout.revision,
        clock.tell(rollout.start_ms),
        rollout.pods_max,
        rollout.ready_min
    );
    wrap(&text, 2, 4)
}

/// Most lines of one autoscaler.
const SCALING_LINES_MAX: usize = 16;

fn scaling_lines(results: &Results, paint: Paint) -> Vec<String> {
    let clock = units::Clock::of(results);
    let mut lines = Vec::new();
    for story in scaling::stories(results) {
        let (syncs, changes) =
            (units::count_of(story.sync_count, "sync"), units::count_of(story.change_count, "change"));
        lines.extend(wrap(&format!("{}: {syncs}, {changes}", story.object), 2, 4));
        let head = format!("  {:>7} {:>11}  {:<24} {}", "at", "pods", "why", "metrics");
        lines.push(paint.dim(&head));
        for line in story.lines.iter().take(SCALING_LINES_MAX) {
            let (from, to) = (line.step.current, line.step.desired);
            let pods = if from == to { to.to_string() } else { format!("{from} → {to}") };
            let text = format!(
                "  {:>7} {pods:>11}  {:<24} {}",
                clock.tell(line.step.t_ms),
                clip(line.why, 24),
                clip(&line.metrics, 32)
            );
            lines.push(text.trim_end().to_owned());
        }
        if story.lines.len() > SCALING_LINES_MAX {
            lines.push(paint.dim(&format!("  … and {} more", story.lines.len() - SCALING_LINES_MAX)));
        }
    }
    lines
}

fn phase_lines(results: &Results, paint: Paint) -> Vec<String> {
    let head = format!(
        "  {:<16} {:>7} {:>10} {:>7} {:>9} {:>7} {:>7} {:>7}",
        "phase", "from", "sent", "lost", "ratio", "p50", "p99", "max"
    );
    let mut lines = vec![paint.dim(&head)];
    for phase in &results.phases {
        lines.push(figures_line(
            &phase.name,
            &units::Clock::of(results).tell(phase.start_ms),
            &phase.totals,
            &phase.latency_us,
            paint,
        ));
    }
    if results.phases.len() > 1 {
        lines.push(figures_line("total", "", &results.totals, &results.latency_us, paint));
    }
    if results.loads.len() > 1 {
        for load in &results.loads {
            lines.push(figures_line(&format!("load {}", load.name), "", &load.totals, &load.latency_us, paint));
        }
    }
    lines
}

fn figures_line(name: &str, from: &str, totals: &Totals, latency: &LatencyUs, paint: Paint) -> String {
    let lost = format!("{:>7}", units::count(totals.dropped));
    let time = |value: Option<u64>| value.map_or("–".to_owned(), units::micros);
    format!(
        "  {:<16} {from:>7} {:>10} {} {:>9} {:>7} {:>7} {:>7}",
        clip(name, 16),
        units::count(totals.sent),
        if totals.dropped > 0 { paint.bad(&lost) } else { lost },
        totals.dropped_ratio.map_or("–".to_owned(), units::percent),
        time(latency.p50),
        time(latency.p99),
        time(latency.max),
    )
}

fn cause_lines(cause: &Cause, paint: Paint) -> Vec<String> {
    let flag = cause.envoy_flag.as_ref().map(|flag| format!(" ({flag})")).unwrap_or_default();
    let name = format!("{} {}", cause.code, cause.name);
    let seen = format!("clients saw: {}{flag}", cause.client_sees);
    let has_room = 10 + name.chars().count() + 3 + seen.chars().count() <= WIDTH;
    let count = paint.bad(&format!("{:>7}", units::count(cause.count)));
    let mut lines = vec![format!("  {count} {}", paint.bold(&name))];
    match has_room {
        true => lines[0].push_str(&paint.dim(&format!(" · {seen}"))),
        false => lines.extend(wrap(&seen, 10, 12).iter().map(|line| paint.dim(line))),
    }
    if let Some(code) = CauseCode::find(&cause.code) {
        lines.extend(wrap(code.meaning(), 10, 10));
    }
    if let Some(source) = &cause.source {
        lines.extend(wrap(&format!("set by {}", super::place(source)), 10, 12));
    }
    if let Some(fix) = cause.fix() {
        lines.extend(wrap(&format!("→ {fix}"), 10, 12));
    }
    lines
}

fn slo_line(slo: &Slo, paint: Paint) -> String {
    let value = slo.value.map_or("nothing measured".to_owned(), |value| units::in_unit(value, &slo.unit));
    let mark = match (slo.ok, slo.level) {
        (true, _) => paint.good("✓ met   "),
        (false, Level::Error) => paint.bad("✗ missed"),
        (false, Level::Warn) => paint.warn("! warn  "),
    };
    format!("  {mark} {:<42} {value:>9}  limit {}", clip(&slo.name, 42), units::in_unit(slo.limit, &slo.unit))
}

fn fidelity_line(results: &Results) -> Option<String> {
    let count = |status| results.fidelity.iter().filter(|row| row.status == status).count();
    let (ignored, approximated) = (count(FidelityStatus::Ignored), count(FidelityStatus::Approximated));
    (ignored + approximated > 0).then(|| {
        format!("Fields of the manifests not simulated: {ignored}, approximated: {approximated} (see the report).")
    })
}

/// What is written and probably not wanted, each with its line.
fn warning_lines(results: &Results) -> Vec<String> {
    let warnings = results.fidelity.iter().filter(|row| row.status == FidelityStatus::Warning);
    warnings
        .flat_map(|row| {
            let place = row.file.as_ref().map_or_else(String::new, |file| match row.line {
                Some(line) => format!("{file}:{line} "),
                None => format!("{file} "),
            });
            let text = format!("{place}{}: {}", row.path, row.note.as_deref().unwrap_or_default());
            wrap(&text, 2, 4)
        })
        .collect()
}

/// Breaks text at spaces into lines of at most 80 columns; a word that is longer than a line, such as a path, behind one of its marks.
pub(crate) fn wrap(text: &str, first_indent: usize, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = " ".repeat(first_indent);
    let mut is_empty = true;
    let room = WIDTH - first_indent.max(indent);
    for (word, begins) in text.split_whitespace().flat_map(|word| pieces(word, room)) {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            is_empty = true;
        }
        if !is_empty && begins {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines
}

/// A word in pieces that have room on a line, each with whether it begins the word.
fn pieces(word: &str, room: usize) -> Vec<(&str, bool)> {
    let (mut pieces, mut rest, mut begins) = (Vec::new(), word, true);
    while rest.chars().count() > room {
        let end = rest.char_indices().nth(room).map_or(rest.len(), |(at, _)| at);
        let cut = rest[..end].rfind(['[', '.', '/', '-', ',']).map_or(end, |at| at + 1);
        pieces.push((&rest[..cut], begins));
        (rest, begins) = (&rest[cut..], false);
    }
    pieces.push((rest, begins));
    pieces
}

/// At most `width` characters, the last an ellipsis if some had to go.
pub(crate) fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{FIXED, LOSING, Story, scaled};

    const PLAIN: TextOptions<'_> = TextOptions {
        paint: Paint::Plain,
        folder: Some("reports/rolling-upgrade-42"),
        next: Some("gatedrill explain reports/rolling-upgrade-42 GD4101"),
    };

    #[test]
    fn a_drill_that_loses_is_told_with_its_causes() {
        insta::assert_snapshot!(summary(&LOSING.tell().0, &PLAIN));
    }

    #[test]
    fn a_drill_that_loses_nothing_is_short() {
        insta::assert_snapshot!(summary(&FIXED.tell().0, &PLAIN));
    }

    #[test]
    fn an_autoscaler_is_told_by_its_changes() {
        let mut run = LOSING.tell().0;
        run.results.autoscaler = scaled();
        let text = summary(&run, &PLAIN);
        let section = text.split("\n\n").find(|part| part.starts_with("Autoscaling"));
        insta::assert_snapshot!(section.expect("a section"));
    }

    #[test]
    fn several_seeds_are_a_table() {
        let runs: Vec<_> = [LOSING, Story { seed: 43, ..LOSING }, FIXED].map(|story| story.tell().0.results).into();
        insta::assert_snapshot!(overview(&runs.iter().collect::<Vec<_>>(), &PLAIN));
    }

    #[test]
    fn eighty_columns_suffice() {
        let mut run = Story { pods: 40, ..LOSING }.tell().0;
        run.results.complete = false;
        run.results.autoscaler = scaled();
        for _ in 0..3 {
            run.results.autoscaler[3].metrics.extend(scaled()[3].metrics.clone());
        }
        run.results.scenario.variant = Some("a-variant-with-a-rather-long-name".into());
        let options = TextOptions { next: Some("gatedrill explain reports/x-42 GD4101"), ..PLAIN };
        let text = summary(&run, &options) + &overview(&[&run.results], &options);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
        }
    }

    #[test]
    fn a_next_command_without_room_has_a_line_of_its_own() {
        let results = LOSING.tell().0.results;
        let told = |next: &str, paint: Paint| verdict(&results, &TextOptions { next: Some(next), paint, ..PLAIN });
        let one = told("x", Paint::Plain);
        let room = WIDTH - one.chars().count() + 1;
        for (length, lines) in [(room, 1), (room + 1, 2)] {
            let next = "x".repeat(length);
            for paint in [Paint::Plain, Paint::Ansi] {
                assert_eq!(told(&next, paint).lines().count(), lines, "{length}");
            }
            assert!(told(&next, Paint::Plain).lines().all(|line| line.chars().count() <= WIDTH));
            assert!(told(&next, Paint::Plain).ends_with(&format!("next: {next}")));
        }
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let (run, _) = LOSING.tell();
        let coloured = summary(&run, &TextOptions { paint: Paint::Ansi, ..PLAIN });
        let mut plain = String::new();
        let mut is_escape = false;
        for character in coloured.chars() {
            match character {
                '\x1b' => is_escape = true,
                'm' if is_escape => is_escape = false,
                _ if !is_escape => plain.push(character),
                _ => {}
            }
        }
        assert_eq!(plain, summary(&run, &PLAIN));
    }
}
