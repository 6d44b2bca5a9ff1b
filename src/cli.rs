//! The command line: files, terminal, wall clock.
