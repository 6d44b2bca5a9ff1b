//! The command line: files, terminal, environment, wall clock, and nothing else.
//!
//! - [`args`]: what can be typed. [`exit`]: what the exit code says. `find`: scenarios and their manifests on disk.
//! - `batch`: many runs side by side, with progress and Ctrl-C. `folder`: the run folder. `output`: formats and where they go.
//! - `run`, `compare`, `gateway`: the commands.

pub mod args;
mod batch;
mod compare;
pub mod exit;
mod find;
mod folder;
#[cfg(unix)]
mod gateway;
mod output;
mod run;
mod terminal;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use exit::Exit;

/// Runs the command that was typed.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let exit = match &cli.command {
        Command::Run(args) => run::run(args, cli.color),
        Command::Compare(args) => compare::compare(args, cli.color),
        #[cfg(unix)]
        Command::Gateway(args) => gateway::gateway(args, cli.color),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "gatedrill", &mut std::io::stdout());
            Exit::Ok
        }
    };
    ExitCode::from(exit.code())
}
