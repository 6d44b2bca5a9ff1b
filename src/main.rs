//! The `gatedrill` command.

fn main() -> std::process::ExitCode {
    gatedrill::cli::main()
}
