//! The `gatedrill` command.

/// A request of a simulated world allocates two dozen times; this allocator makes a run an eighth faster than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    gatedrill::cli::main()
}
