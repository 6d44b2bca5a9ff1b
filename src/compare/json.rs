//! The comparison as JSON: pretty, with sorted keys, like `results.json`.

use super::Comparison;

/// The whole comparison, every seed of every figure included.
#[must_use]
pub fn json(comparison: &Comparison) -> String {
    crate::report::json::sorted(comparison)
}
