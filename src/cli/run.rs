//! `gatedrill run`.

use std::path::Path;
use std::time::Duration;

use super::args::{Color, FailOnRun, RunArgs};
use super::batch::{self, Done, Job, Manner, Wanted};
use super::exit::Exit;
use super::folder;
use super::output::{self, Format, Output};
use super::terminal::{colours_stderr, complain, paint_of_stdout, print, tell};
use crate::drill::Watch;
use crate::manifest::{Problems, quantity};
use crate::record::Results;
use crate::record::results::{FidelityStatus, Level, Verdict};
use crate::report;
use crate::report::text::TextOptions;
use crate::scenario::slo;

const FORMATS: [Format; 7] =
    [Format::Text, Format::Json, Format::Md, Format::Html, Format::Junit, Format::Csv, Format::Hgrm];

/// Tells what is wrong with the input.
pub(super) fn refuse(problems: &Problems, color: Color) -> Exit {
    tell(&problems.render(colours_stderr(color)));
    Exit::Input
}

/// Tells what went wrong otherwise.
pub(super) fn fail(text: &str) -> Exit {
    complain(text);
    Exit::Unexpected
}

pub(super) fn run(args: &RunArgs, color: Color) -> Exit {
    let outputs = match output::parse(&args.outputs, &FORMATS) {
        Ok(outputs) => outputs,
        Err(text) => {
            complain(&text);
            return Exit::Usage;
        }
    };
    let jobs = match all_jobs(args) {
        Ok(jobs) => jobs,
        Err(problems) => return refuse(&problems, color),
    };
    if let Some(format) = outputs
        .iter()
        .map(|output| output.format)
        .find(|format| *format != Format::Text && jobs.len() > 1 && is_for_one(*format))
    {
        complain(
            &format!("{format:?} holds one run, and there are {}; every run folder has it", jobs.len()).to_lowercase(),
        );
        return Exit::Usage;
    }
    if let Some(name) = twice(&jobs) {
        complain(&format!(
            "two of the scenarios are called {name}: their run folders would be the same; run them one at a time, or rename one"
        ));
        return Exit::Usage;
    }
    if args.show_scenario {
        for job in &jobs {
            match job.load() {
                Ok(scenario) => print(&scenario.resolved),
                Err(problems) => return refuse(&problems, color),
            }
        }
        return Exit::Ok;
    }
    let watch = match args.watch_objects.as_deref().map(moments).transpose() {
        Ok(watch) => watch,
        Err(text) => {
            complain(&text);
            return Exit::Usage;
        }
    };
    if watch.is_some() && jobs.len() > 1 {
        complain(&format!("--watch-objects shows the objects of one run, and there are {}", jobs.len()));
        return Exit::Usage;
    }
    if let (Some(Watch::At(times)), [job]) = (&watch, &*jobs)
        && let Some(text) = past_the_end(times, job.duration)
    {
        complain(&text);
        return Exit::Usage;
    }
    batch::catch_signals();
    let shows_progress = !args.common.verbosity.quiet;
    let done =
        match batch::run(&jobs, &Manner { threads: args.common.jobs, verify: args.verify, shows_progress, watch }) {
            Ok(done) => done,
            Err(text) => return fail(&text),
        };
    let made: Vec<(&Job, &Done)> =
        jobs.iter().zip(&done).filter_map(|(job, done)| Some((job, done.as_ref()?))).collect();
    let mut folders = Vec::new();
    for (job, done) in &made {
        match folder::write(&args.common.out_dir, &job.folder(), done, &command_of(job, &args.common.out_dir)) {
            Ok(path) => folders.push(path.to_string_lossy().into_owned()),
            Err(error) => return fail(&format!("{}: {error}", args.common.out_dir.join(job.folder()).display())),
        }
    }
    if let Err(text) = write_outputs(&outputs, &made, &folders, args, color) {
        return fail(&text);
    }
    if args.common.verbosity.verbose {
        for (job, done) in &made {
            tell(&speed(job, done));
        }
    }
    judge(args, &made)
}

/// The times of `--watch-objects`; without any, the moments at which something changes.
fn moments(text: &str) -> Result<Watch, String> {
    if text.is_empty() {
        return Ok(Watch::Changes);
    }
    let times = text
        .split(',')
        .map(|time| quantity::duration(time).map_err(|error| format!("--watch-objects: `{time}`: {}", error.text)));
    times.collect::<Result<_, _>>().map(Watch::At)
}

/// What is wrong with a time of `--watch-objects` at which the run is over.
fn past_the_end(times: &[Duration], duration: Duration) -> Option<String> {
    let late = times.iter().find(|time| **time > duration)?;
    let [end, late] = [duration, *late].map(quantity::duration_text);
    Some(format!("--watch-objects: the run ends after {end}, before {late}"))
}

fn is_for_one(format: Format) -> bool {
    matches!(format, Format::Html | Format::Csv | Format::Hgrm)
}

fn twice(jobs: &[Job]) -> Option<String> {
    let mut folders = std::collections::BTreeSet::new();
    jobs.iter().find(|job| !folders.insert(job.folder())).map(|job| job.name.clone())
}

/// All runs, in the order scenario, variant, seed. Everything wrong with any of them is told at once.
fn all_jobs(args: &RunArgs) -> Result<Vec<Job>, Problems> {
    let files = batch::files(&args.scenarios)?;
    let wanted = Wanted { set: &args.common.set, seed: args.common.seed, seeds: args.common.seeds };
    let mut jobs = Vec::new();
    let mut rendered: Vec<Problems> = Vec::new();
    for file in &files {
        match variants_of(args, file, &wanted).and_then(|variants| batch::jobs(file, &variants, &wanted)) {
            Ok(found) => jobs.extend(found),
            Err(problems) => rendered.push(problems),
        }
    }
    match rendered.len() {
        0 => Ok(jobs),
        1 => Err(rendered.remove(0)),
        _ => Err(Problems::joined(rendered)),
    }
}

fn variants_of(args: &RunArgs, file: &str, wanted: &Wanted<'_>) -> Result<Vec<Option<String>>, Problems> {
    if args.variants.is_empty() {
        return Ok(vec![None]);
    }
    if !args.variants.iter().any(|name| name == "*") {
        return Ok(args.variants.iter().cloned().map(Some).collect());
    }
    let text = super::find::scenario_text(file)?;
    let library = super::find::Disk::beside(file);
    let input = crate::scenario::Input {
        name: file,
        text: &text,
        library: &library,
        set: wanted.set,
        variant: None,
        seed: None,
    };
    let scenario = crate::scenario::load(&input)?;
    Ok(std::iter::once(None).chain(scenario.variants.into_iter().map(Some)).collect())
}

/// The command that gives this run again.
pub(super) fn command_of(job: &Job, out_dir: &Path) -> String {
    let mut command = format!("gatedrill run {} --seed {}", typed(&job.bundle.name), job.seed);
    if let Some(variant) = &job.variant {
        command.push_str(&format!(" --variant {}", quoted(variant)));
    }
    for set in &job.set {
        command.push_str(&format!(" --set {}", quoted(set)));
    }
    if out_dir != Path::new("reports") {
        command.push_str(&format!(" --out-dir {}", quoted(&out_dir.to_string_lossy())));
    }
    command
}

/// A scenario as one would type it: its folder, where that holds only this one.
pub(super) fn typed(file: &str) -> String {
    let folder = Path::new(file).parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map(|folder| folder.to_string_lossy().into_owned());
    match folder {
        Some(folder) if super::find::scenarios(&folder).is_ok_and(|found| found == [file]) => quoted(&folder),
        _ => quoted(file),
    }
}

/// As a shell would need it.
pub(super) fn quoted(text: &str) -> String {
    let is_plain =
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-./=:,@%+".contains(letter));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn write_outputs(
    outputs: &[Output],
    made: &[(&Job, &Done)],
    folders: &[String],
    args: &RunArgs,
    color: Color,
) -> Result<(), String> {
    let results: Vec<&Results> = made.iter().map(|(_, done)| &done.outcome.run.results).collect();
    for output in outputs {
        let text = match (output.format, made) {
            (Format::Text, _) => text(made, folders, args, color),
            (Format::Json, [_]) => report::json::one(results[0]),
            (Format::Json, _) => report::json::many(&results),
            (Format::Md, _) => report::md::runs(&results),
            (Format::Junit, _) => report::junit::suites(&results),
            (Format::Html, [(job, done)]) => {
                let command = command_of(job, &args.common.out_dir);
                let events = done.outcome.log.events();
                let options =
                    report::html::HtmlOptions { events, scenario: Some(&done.resolved), command: Some(&command) };
                report::html::page(&done.outcome.run, &options)
            }
            (Format::Csv, [(_, done)]) => report::csv::timeline(&done.outcome.run.seconds),
            (Format::Hgrm, [_]) => report::hgrm::percentiles(results[0]).unwrap_or_default(),
            // Interrupted before the only run began.
            (Format::Html | Format::Csv | Format::Hgrm, _) => String::new(),
        };
        output.write(&text)?;
    }
    Ok(())
}

fn text(made: &[(&Job, &Done)], folders: &[String], args: &RunArgs, color: Color) -> String {
    let paint = paint_of_stdout(color);
    let results: Vec<&Results> = made.iter().map(|(_, done)| &done.outcome.run.results).collect();
    match made {
        [(job, done)] => {
            let next = next_command(job, results[0], &folders[0]);
            let options = TextOptions { paint, folder: Some(&folders[0]), next: Some(&next) };
            if args.common.verbosity.quiet {
                report::text::verdict(results[0], &options) + "\n"
            } else {
                report::objects::text(&done.outcome.objects) + &report::text::summary(&done.outcome.run, &options)
            }
        }
        _ => {
            let failed =
                made.iter().zip(folders).find(|((_, done), _)| done.outcome.run.results.verdict == Verdict::Fail);
            let folder = failed.map(|(_, folder)| folder).or(folders.first());
            let next = folder.map(|folder| format!("open {folder}/report.html"));
            let options = TextOptions { paint, folder: None, next: next.as_deref() };
            let text = report::text::overview(&results, &options);
            let verdict = text.rsplit("\n\n").next().unwrap_or_default();
            if args.common.verbosity.quiet { verdict.to_owned() } else { text }
        }
    }
}

/// What to type next: a lossy run is looked at, or compared with its variants; a good one is tried with more seeds.
fn next_command(job: &Job, results: &Results, folder: &str) -> String {
    let name = typed(&job.bundle.name);
    match results.verdict {
        Verdict::Pass => format!("gatedrill run {name} --seeds 5"),
        Verdict::Fail if job.has_variants && job.variant.is_none() => format!("gatedrill run {name} --variant '*'"),
        Verdict::Fail => format!("open {folder}/report.html"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn speed(job: &Job, done: &Done) -> String {
    let wall = done.wall.as_secs_f64().max(1e-9);
    let results = &done.outcome.run.results;
    let events = done.outcome.polls as f64 / wall;
    format!(
        "{}: {:.0} requests/s, {events:.0} events/s, {:.0} virtual seconds per second ({:.2} s)\n",
        job.folder(),
        results.totals.sent as f64 / wall,
        job.virtual_s as f64 / wall,
        done.wall.as_secs_f64(),
    )
}

fn judge(args: &RunArgs, made: &[(&Job, &Done)]) -> Exit {
    let mut exits = Vec::new();
    exits.extend(batch::interruption());
    for (job, done) in made {
        if done.is_verified == Some(false) {
            complain(&format!(
                "{}: a second run told another story; this is a mistake of gatedrill: please report it",
                job.folder()
            ));
            exits.push(Exit::Differs);
        }
    }
    if args.strict {
        for (job, done) in made {
            let ignored = done.outcome.run.results.fidelity.iter().filter(|row| row.status == FidelityStatus::Ignored);
            for row in ignored {
                let place = match (&row.file, row.line) {
                    (Some(file), Some(line)) => format!("{file}:{line}: "),
                    _ => String::new(),
                };
                complain(&format!("{}: {place}{} is not modelled", job.name, row.path));
                exits.push(Exit::NotModelled);
            }
        }
    }
    let fails_on_warn = args.fail_on.contains(&FailOnRun::Warn);
    if !args.exit_zero && made_missed(made, fails_on_warn) {
        exits.push(Exit::SloMissed);
    }
    Exit::first(&exits)
}

/// Whether an SLO is missed, taken over the seeds of each scenario and variant as each SLO says.
fn made_missed(made: &[(&Job, &Done)], fails_on_warn: bool) -> bool {
    let mut groups: std::collections::BTreeMap<(&str, Option<&str>), Vec<&Done>> = std::collections::BTreeMap::new();
    for (job, done) in made {
        groups.entry((&job.bundle.name, job.variant.as_deref())).or_default().push(done);
    }
    groups.values().any(|group| {
        let Some(first) = group.first() else { return false };
        first.slos.iter().enumerate().any(|(index, slo)| {
            let counts = slo.level == Level::Error || fails_on_warn;
            let rows: Vec<_> = group.iter().filter_map(|done| done.outcome.run.results.slo.get(index)).collect();
            counts && !slo::holds_over(slo, &rows)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_taken_before_the_end() {
        let end = Duration::from_secs(150);
        let looks = |seconds: &[u64]| seconds.iter().map(|at| Duration::from_secs(*at)).collect::<Vec<_>>();
        assert_eq!(past_the_end(&looks(&[0, 150]), end), None);
        assert_eq!(past_the_end(&[], end), None);
        let told = past_the_end(&looks(&[20, 151, 5940]), end);
        assert_eq!(told.as_deref(), Some("--watch-objects: the run ends after 2m30s, before 2m31s"));
    }
}
