//! The scenario file: read, checked, with all problems at once.
