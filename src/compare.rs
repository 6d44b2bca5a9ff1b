//! Two sets of results, paired by seed.
