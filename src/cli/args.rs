//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A fire drill for gateways: simulates the rollout you are about to apply and counts the requests it would lose.
#[derive(Debug, Parser)]
#[command(name = "gatedrill", version, propagate_version = true)]
pub struct Cli {
    /// When to colour: NO_COLOR and CLICOLOR_FORCE are heeded.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Simulate scenarios, print the verdict, write run folders.
    Run(RunArgs),
    /// Run two scenarios or variants over the same seeds and tell what a change makes better or worse.
    Compare(CompareArgs),
    /// Serve real clients with the gateway that manifests describe.
    #[cfg(unix)]
    Gateway(GatewayArgs),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// When to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How much to say.
#[derive(Clone, Copy, Debug, Args)]
pub struct Verbosity {
    /// Only the verdict.
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Also how fast it ran: requests, events and virtual seconds per second.
    #[arg(short, long)]
    pub verbose: bool,
}

/// What all commands that run scenarios take.
#[derive(Debug, Args)]
pub struct Common {
    /// The seed, instead of the scenario's (for compare: BASE's).
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// So many seeds, counted up from the first.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub seeds: u64,
    /// Change a setting or a manifest: load.shoppers.rate=600/s, target.spec.replicas=8. Repeatable.
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Where run folders go.
    #[arg(long, value_name = "DIR", default_value = "reports")]
    pub out_dir: PathBuf,
    /// Runs at once; the number of cores if absent.
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// How much to say.
    #[command(flatten)]
    pub verbosity: Verbosity,
}

/// What `run` takes.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A scenario file, a folder with *.drill.yaml, a glob, or - for standard input.
    #[arg(required = true, value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// Format and where to: text, json, md, html, junit, csv, hgrm; without a path to standard output. Repeatable.
    #[arg(short, long = "output", value_name = "FORMAT[=PATH]")]
    pub outputs: Vec<String>,
    /// Run this variant. Repeatable; * stands for all of them, after the scenario as it is.
    #[arg(long = "variant", value_name = "NAME")]
    pub variants: Vec<String>,
    /// Fail (96) if a manifest sets something that is not modelled.
    #[arg(long)]
    pub strict: bool,
    /// Run everything twice and fail (97) if the results differ.
    #[arg(long)]
    pub verify: bool,
    /// Also fail (99) on missed SLOs of level warn.
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    pub fail_on: Vec<FailOnRun>,
    /// Exit 0 whatever the SLOs say.
    #[arg(long)]
    pub exit_zero: bool,
    /// Show what `kubectl get` would have shown: before each entry of the timeline, after each phase and at the end, or at these times (10s,1m30s).
    #[arg(long, value_name = "TIMES", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub watch_objects: Option<String>,
    /// Print the scenario with every default filled in, and stop.
    #[arg(long)]
    pub show_scenario: bool,
    /// Seeds, settings, where to, how much to say.
    #[command(flatten)]
    pub common: Common,
}

/// What makes `run` fail beside missed SLOs of level error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum FailOnRun {
    /// Missed SLOs of level error: always so.
    Error,
    /// Missed SLOs of level warn.
    Warn,
}

/// What `compare` takes.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// What is: a scenario, SCENARIO:VARIANT, or a run folder.
    #[arg(value_name = "BASE")]
    pub base: String,
    /// What is to come: the same; :VARIANT for a variant of BASE.
    #[arg(value_name = "HEAD")]
    pub head: String,
    /// Format and where to: text, md, json; without a path to standard output. Repeatable.
    #[arg(short, long = "output", value_name = "FORMAT[=PATH]")]
    pub outputs: Vec<String>,
    /// Fail (98) on a regression.
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    pub fail_on: Vec<FailOnCompare>,
    /// Seeds, settings, where to, how much to say.
    #[command(flatten)]
    pub common: Common,
}

/// What makes `compare` fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum FailOnCompare {
    /// Head is worse in something that gates.
    Regression,
}

/// What `gateway` takes.
#[derive(Debug, Args)]
pub struct GatewayArgs {
    /// A manifest file, a folder of them, or a glob. Read again on SIGHUP.
    #[arg(required = true, value_name = "MANIFEST")]
    pub manifests: Vec<String>,
    /// Which Gateway, where the manifests hold several; those of Istio with the same selector are served together.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub gateway: Option<String>,
    /// Where to listen; PORT is the port that the manifests speak of, needed when they speak of several. Repeatable.
    #[arg(long, required = true, value_name = "[PORT=]ADDRESS:PORT")]
    pub listen: Vec<String>,
    /// Where a Service is: web.default:80=127.0.0.1:9001,127.0.0.1:9002. Repeatable.
    #[arg(long = "endpoint", value_name = "NAME.NAMESPACE:PORT=ADDRESS[,...]")]
    pub endpoints: Vec<String>,
    /// Answer /healthz/ready on this port: 200 while it serves, 503 while it drains.
    #[arg(long, value_name = "PORT")]
    pub status_port: Option<u16>,
    /// Worker threads; the number of cores if absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// How requests are printed to standard output.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = AccessLog::Text)]
    pub access_log: AccessLog,
    /// Weights, mirrors and faults are drawn from this seed, so that with --workers 1 the same requests go the same ways.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// How requests are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum AccessLog {
    /// Istio's text format.
    Text,
    /// Istio's JSON format.
    Json,
    /// Not at all.
    Off,
}
