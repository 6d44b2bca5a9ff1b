//! Many runs side by side: each on one thread, with nothing shared but the progress they tell and the wish to stop.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::exit::Exit;
use super::find::{Bundle, Disk, scenario_text, scenarios};
use crate::drill::{self, Continue, Outcome, Watch, WorldConfig};
use crate::manifest::Problems;
use crate::manifest::quantity::duration_text;
use crate::scenario::{self, Input, Scenario, slo};

/// Set by Ctrl-C and SIGTERM.
static STOP: AtomicBool = AtomicBool::new(false);

/// One run to be made.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) bundle: std::sync::Arc<Bundle>,
    pub(super) set: Vec<String>,
    pub(super) variant: Option<String>,
    pub(super) seed: u64,
    /// The scenario's name.
    pub(super) name: String,
    /// Virtual seconds it lasts, warm-up included.
    pub(super) virtual_s: u64,
    /// Its measured time.
    pub(super) duration: Duration,
    pub(super) has_variants: bool,
}

/// A run that was made.
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) resolved: String,
    pub(super) slos: Vec<scenario::settings::SloSettings>,
    /// Real time it took.
    pub(super) wall: Duration,
    /// Whether a second run told the same; none if none was asked for.
    pub(super) is_verified: Option<bool>,
}

/// What is asked of all scenarios of a command.
pub(super) struct Wanted<'a> {
    pub(super) set: &'a [String],
    pub(super) seed: Option<u64>,
    pub(super) seeds: u64,
}

/// Loads one scenario with its variants, as jobs in the order variant, seed. The scenario as it is comes back too.
pub(super) fn jobs(file: &str, variants: &[Option<String>], wanted: &Wanted<'_>) -> Result<Vec<Job>, Problems> {
    let text = scenario_text(file)?;
    let disk = Disk::beside(file);
    let mut loaded = Vec::new();
    for variant in variants {
        let input = Input {
            name: file,
            text: &text,
            library: &disk,
            set: wanted.set,
            variant: variant.as_deref(),
            seed: wanted.seed,
        };
        loaded.push((variant.clone(), scenario::load(&input)?));
    }
    let bundle = std::sync::Arc::new(disk.bundle(file, &text));
    let mut jobs = Vec::new();
    for (variant, scenario) in loaded {
        let settings = &scenario.settings;
        for offset in 0..wanted.seeds {
            jobs.push(Job {
                bundle: std::sync::Arc::clone(&bundle),
                set: wanted.set.to_vec(),
                variant: variant.clone(),
                seed: settings.seed + offset,
                name: scenario.id.name.clone(),
                virtual_s: (settings.warmup + settings.duration).as_secs(),
                duration: settings.duration,
                has_variants: !scenario.variants.is_empty(),
            });
        }
    }
    Ok(jobs)
}

/// The scenario files of all arguments, each once.
pub(super) fn files(arguments: &[String]) -> Result<Vec<String>, Problems> {
    let mut files: Vec<String> = Vec::new();
    let mut problems: Option<Problems> = None;
    for argument in arguments {
        match scenarios(argument) {
            Ok(found) => files.extend(found),
            Err(found) => match &mut problems {
                Some(problems) => problems.list.extend(found.list),
                None => problems = Some(found),
            },
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    problems.map_or(Ok(files), Err)
}

impl Job {
    /// The scenario of this job.
    pub(super) fn load(&self) -> Result<Scenario, Problems> {
        let Bundle { name, text, .. } = &*self.bundle;
        let library = &*self.bundle;
        let variant = self.variant.as_deref();
        scenario::load(&Input { name, text, library, set: &self.set, variant, seed: Some(self.seed) })
    }

    /// The name of its run folder.
    pub(super) fn folder(&self) -> String {
        match &self.variant {
            Some(variant) => format!("{}-{variant}-{}", self.name, self.seed),
            None => format!("{}-{}", self.name, self.seed),
        }
    }
}

/// How a batch is run.
#[derive(Clone)]
pub(super) struct Manner {
    /// Runs at once; none: one per core.
    pub(super) threads: Option<usize>,
    /// Each twice.
    pub(super) verify: bool,
    /// A bar on standard error, if that is a terminal.
    pub(super) shows_progress: bool,
    /// When the cluster's objects are shown.
    pub(super) watch: Option<Watch>,
}

struct Progress {
    bar: ProgressBar,
    virtual_s: AtomicU64,
    dropped: AtomicU64,
    total_s: u64,
    speed: Mutex<Clock>,
}

/// The wall clock.
struct Clock {
    #[expect(clippy::disallowed_types, reason = "progress and speed are told in real time")]
    started_at: std::time::Instant,
}

impl Clock {
    fn start() -> Self {
        #[expect(clippy::disallowed_types, reason = "progress and speed are told in real time")]
        let started_at = std::time::Instant::now();
        Self { started_at }
    }

    fn elapsed(&self) -> Duration {
        self.started_at.elapsed()
    }
}

impl Progress {
    fn new(jobs: &[Job], manner: &Manner) -> Self {
        let runs = if manner.verify { 2 } else { 1 };
        let total_s = jobs.iter().map(|job| job.virtual_s).sum::<u64>() * runs;
        let target = if manner.shows_progress { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total_s.max(1)), target);
        let style = ProgressStyle::with_template("{bar:24} {msg}").expect("the template is well-formed");
        bar.set_style(style.progress_chars("█▌░"));
        Self {
            bar,
            virtual_s: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            total_s,
            speed: Mutex::new(Clock::start()),
        }
    }

    /// One more virtual second of some run, in which so many more requests were lost.
    fn second(&self, dropped: u64) {
        let virtual_s = self.virtual_s.fetch_add(1, Ordering::Relaxed) + 1;
        let dropped = self.dropped.fetch_add(dropped, Ordering::Relaxed) + dropped;
        if self.bar.is_hidden() {
            return;
        }
        let elapsed = self.speed.lock().map_or(1.0, |clock| clock.elapsed().as_secs_f64().max(0.001));
        #[expect(clippy::cast_precision_loss, reason = "seconds of a run are few")]
        let speed = virtual_s as f64 / elapsed;
        let [now, end] = [virtual_s, self.total_s].map(|seconds| duration_text(Duration::from_secs(seconds)));
        self.bar.set_position(virtual_s);
        self.bar.set_message(format!("{now} of {end} · {speed:.0}× real time · {dropped} lost"));
    }
}

/// Makes all runs; results come in the order of the jobs. A run that was interrupted is incomplete, one that had not begun is missing.
pub(super) fn run(jobs: &[Job], manner: &Manner) -> Result<Vec<Option<Done>>, String> {
    let progress = Progress::new(jobs, manner);
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = manner.threads {
        pool = pool.num_threads(threads.max(1));
    }
    let pool = pool.build().map_err(|error| format!("no threads to run on: {error}"))?;
    let one = |job: &Job| if STOP.load(Ordering::Relaxed) { Ok(None) } else { make(job, manner, &progress).map(Some) };
    let done = pool.install(|| jobs.par_iter().map(one).collect());
    progress.bar.finish_and_clear();
    done
}

fn make(job: &Job, manner: &Manner, progress: &Progress) -> Result<Done, String> {
    let clock = Clock::start();
    let (outcome, scenario) = once(job, manner, progress)?;
    let wall = clock.elapsed();
    let is_verified = if manner.verify && outcome.run.results.complete {
        let (second, _) = once(job, manner, progress)?;
        // Interrupted runs prove nothing.
        second.run.results.complete.then(|| second.run == outcome.run && second.log.events() == outcome.log.events())
    } else {
        None
    };
    Ok(Done { outcome, resolved: scenario.resolved.to_string(), slos: scenario.settings.slos, wall, is_verified })
}

fn once(job: &Job, manner: &Manner, progress: &Progress) -> Result<(Outcome, Scenario), String> {
    let scenario = job.load().map_err(|problems| problems.to_string())?;
    let slos = scenario.settings.slos.clone();
    let mut seen = 0;
    let world = WorldConfig { watch: manner.watch.clone(), ..scenario.world.clone() };
    let outcome = drill::run(
        world,
        |recorder, rollouts| slo::evaluate(&slos, recorder, rollouts),
        |now| {
            progress.second(now.dropped - seen);
            seen = now.dropped;
            if STOP.load(Ordering::Relaxed) { Continue::No } else { Continue::Yes }
        },
    );
    let outcome = outcome.map_err(|error| format!("{} (seed {}): {error}", job.name, job.seed))?;
    Ok((outcome, scenario))
}

/// Lets Ctrl-C and SIGTERM end the runs early; what they had so far is written.
pub(super) fn catch_signals() {
    // A second handler, as in a test that runs commands in its own process, changes nothing.
    let _ = ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed));
}

/// How an interrupted batch ends.
pub(super) fn interruption() -> Option<Exit> {
    STOP.load(Ordering::Relaxed).then_some(Exit::Interrupted)
}
