//! What a run says: outcomes, causes, histograms, series, results. Data only.

pub mod outcome;

pub use outcome::Outcome;
