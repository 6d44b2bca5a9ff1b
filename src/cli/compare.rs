//! `gatedrill compare`.

use std::path::Path;

use super::args::{Color, CompareArgs, FailOnCompare};
use super::batch::{self, Done, Job, Manner, Wanted};
use super::exit::Exit;
use super::folder;
use super::output::{self, Format};
use super::run::{command_of, fail, quoted, refuse};
use super::terminal::{complain, paint_of_stdout, tell};
use crate::compare::{self, Side};
use crate::manifest::{Files, Problem, Problems};
use crate::record::Results;
use crate::report;

/// One side before it is run.
enum Wish {
    /// Runs to be made.
    Jobs(Vec<Job>),
    /// Runs that were made before.
    Saved(Vec<Results>),
}

pub(super) fn compare(args: &CompareArgs, color: Color) -> Exit {
    let outputs = match output::parse(&args.outputs, &[Format::Text, Format::Md, Format::Json]) {
        Ok(outputs) => outputs,
        Err(text) => {
            complain(&text);
            return Exit::Usage;
        }
    };
    let (base, head) = match wishes(args) {
        Ok(wishes) => wishes,
        Err(problems) => return refuse(&problems, color),
    };
    batch::catch_signals();
    let jobs: Vec<Job> = [&base, &head].into_iter().flat_map(jobs_of).collect();
    let shows_progress = !args.common.verbosity.quiet;
    let manner = Manner { threads: args.common.jobs, verify: false, shows_progress, watch: None };
    let done = match batch::run(&jobs, &manner) {
        Ok(done) => done,
        Err(text) => return fail(&text),
    };
    let done: Vec<Done> = done.into_iter().flatten().collect();
    if let Some(exit) = batch::interruption() {
        complain("interrupted: nothing to compare");
        return exit;
    }
    let folders = match write_folders(args, &jobs, &done) {
        Ok(folders) => folders,
        Err(text) => return fail(&text),
    };
    let mut results = done.into_iter().map(|done| done.outcome.run.results);
    let mut side = |wish: Wish| match wish {
        Wish::Saved(saved) => saved,
        Wish::Jobs(jobs) => results.by_ref().take(jobs.len()).collect::<Vec<Results>>(),
    };
    let (base, head) = (side(base), side(head));
    let [base, head] = [&base, &head].map(|side| side.iter().collect::<Vec<&Results>>());
    let labels = labels(&base, &head);
    let comparison = compare::compare(Side { label: &labels.0, runs: &base }, Side { label: &labels.1, runs: &head });
    let comparison = match comparison {
        Ok(comparison) => comparison,
        Err(error) => {
            let problem = Problem::nowhere(error.to_string());
            return refuse(&Problems::new(vec![problem], Files::default()), color);
        }
    };
    let paint = paint_of_stdout(color);
    let next = next_command(args, &folders);
    for output in &outputs {
        let text = match output.format {
            Format::Md => compare::md::md(&comparison),
            Format::Json => compare::json::json(&comparison),
            _ if args.common.verbosity.quiet => compare::text::verdict(&comparison, paint, next.as_deref()) + "\n",
            _ => compare::text::text(&comparison, paint, next.as_deref()),
        };
        if let Err(text) = output.write(&text) {
            return fail(&text);
        }
    }
    if !args.common.verbosity.quiet && !folders.is_empty() {
        let shown: Vec<String> = shown(&folders).iter().map(|folder| format!("{folder}/report.html")).collect();
        tell(&format!("Reports: {}\n", shown.join("\n         ")));
    }
    if comparison.regressed() && args.fail_on.contains(&FailOnCompare::Regression) {
        Exit::Regression
    } else {
        Exit::Ok
    }
}

fn jobs_of(wish: &Wish) -> Vec<Job> {
    match wish {
        Wish::Jobs(jobs) => jobs.clone(),
        Wish::Saved(_) => Vec::new(),
    }
}

/// The folders of the first seed of each side: the ones to look at.
fn shown(folders: &[String]) -> Vec<&String> {
    match folders.len() {
        0..=2 => folders.iter().collect(),
        many => vec![&folders[0], &folders[many / 2]],
    }
}

fn labels(base: &[&Results], head: &[&Results]) -> (String, String) {
    let label = |side: &[&Results]| side.first().map(|results| compare::label(results)).unwrap_or_default();
    let (base, head) = (label(base), label(head));
    if base == head { (format!("{base} (base)"), format!("{head} (head)")) } else { (base, head) }
}

/// A comparison of one seed proves little: more come next. Otherwise the report of head.
fn next_command(args: &CompareArgs, folders: &[String]) -> Option<String> {
    if args.common.seeds < 5 && !folders.is_empty() {
        return Some(format!("gatedrill compare {} {} --seeds 5", quoted(&args.base), quoted(&args.head)));
    }
    shown(folders).last().map(|folder| format!("open {folder}/report.html"))
}

fn wishes(args: &CompareArgs) -> Result<(Wish, Wish), Problems> {
    let head_text = match args.head.strip_prefix(':') {
        Some(variant) => format!("{}:{variant}", without_variant(&args.base)),
        None => args.head.clone(),
    };
    let mut seeds = Wanted { set: &args.common.set, seed: args.common.seed, seeds: args.common.seeds };
    let saved_head = saved(&head_text)?;
    // Runs that exist decide the seeds.
    if let Some(saved) = &saved_head {
        seeds = saved_seeds(saved, args);
    }
    let base = match saved(&args.base)? {
        Some(saved) => Wish::Saved(saved),
        None => Wish::Jobs(jobs(&args.base, &seeds)?),
    };
    let (first, count) = match &base {
        Wish::Jobs(jobs) => (jobs.first().map(|job| job.seed), seeds.seeds),
        Wish::Saved(saved) => (saved.iter().map(|results| results.seed).min(), saved.len() as u64),
    };
    let head = match saved_head {
        Some(saved) => Wish::Saved(saved),
        None => Wish::Jobs(jobs(&head_text, &Wanted { set: &args.common.set, seed: first, seeds: count })?),
    };
    Ok((base, head))
}

fn saved_seeds<'a>(saved: &[Results], args: &'a CompareArgs) -> Wanted<'a> {
    let first = saved.iter().map(|results| results.seed).min();
    Wanted { set: &args.common.set, seed: first, seeds: saved.len() as u64 }
}

/// The results in a run folder, if it is one.
fn saved(text: &str) -> Result<Option<Vec<Results>>, Problems> {
    let path = Path::new(text).join("results.json");
    if !path.is_file() {
        return Ok(None);
    }
    let fail = |what: String| {
        let problem = Problem::nowhere(format!("{}: {what}", path.display()));
        Problems::new(vec![problem.help("run the scenario again")], Files::default())
    };
    let text = std::fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
    let results = report::json::read(&text).map_err(|error| fail(format!("these are no results: {error}")))?;
    Ok(Some(vec![results]))
}

/// `SCENARIO:VARIANT` without its variant. A colon in a path that exists is part of the path.
fn without_variant(text: &str) -> &str {
    if Path::new(text).exists() { text } else { text.rsplit_once(':').map_or(text, |(path, _)| path) }
}

fn jobs(text: &str, wanted: &Wanted<'_>) -> Result<Vec<Job>, Problems> {
    let path = without_variant(text);
    let variant = text.strip_prefix(path).and_then(|rest| rest.strip_prefix(':')).map(str::to_owned);
    let files = batch::files(&[path.to_owned()])?;
    let [file] = &files[..] else {
        let problem = Problem::nowhere(format!("`{path}` holds {} scenarios: {}", files.len(), files.join(", ")));
        return Err(Problems::new(vec![problem.help("name one of them")], Files::default()));
    };
    batch::jobs(file, &[variant], wanted)
}

fn write_folders(args: &CompareArgs, jobs: &[Job], done: &[Done]) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for job in jobs {
        let name = job.folder();
        // Two versions of one scenario: the second is told apart.
        names.push(if names.contains(&name) { format!("{name}-head") } else { name });
    }
    let mut folders = Vec::new();
    for ((job, done), name) in jobs.iter().zip(done).zip(&names) {
        let path = folder::write(&args.common.out_dir, name, done, &command_of(job, &args.common.out_dir));
        let path = path.map_err(|error| format!("{}: {error}", args.common.out_dir.join(name).display()))?;
        folders.push(path.to_string_lossy().into_owned());
    }
    Ok(folders)
}
