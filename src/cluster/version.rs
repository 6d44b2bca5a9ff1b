//! The version of Kubernetes whose behaviour is simulated.
//!
//! Rules that changed between versions ask [`Version::is_at_least`], and say which version brought the change. What is not asked for is as in
//! v1.28.7, from which the rules were taken.

use std::fmt;

use super::replica_set::AgeScale;

/// A minor version of Kubernetes 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    minor: u32,
}

impl Version {
    /// The version the rules were taken from.
    pub const BASE: Self = Self { minor: 28 };

    /// Version 1.`minor`.
    #[must_use]
    pub const fn minor(minor: u32) -> Self {
        Self { minor }
    }

    /// Reads `1.33`; none if it is not a version of Kubernetes 1.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let minor = text.strip_prefix("1.")?;
        let is_number = !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| minor.parse().ok()).flatten().map(|minor| Self { minor })
    }

    /// Whether it is 1.`minor` or newer.
    #[must_use]
    pub fn is_at_least(self, minor: u32) -> bool {
        self.minor >= minor
    }

    /// How a `ReplicaSet` compares the ages of pods: in powers of two from 1.22 on.
    /// Source: kubernetes/enhancements KEP-2185, `LogarithmicScaleDown`.
    #[must_use]
    pub fn age_scale(self) -> AgeScale {
        if self.is_at_least(22) { AgeScale::Logarithmic } else { AgeScale::Exact }
    }

    /// Whether a `ReplicaSet` heeds `controller.kubernetes.io/pod-deletion-cost`: from 1.22 on.
    /// Source: kubernetes/enhancements KEP-2255, `PodDeletionCost`.
    #[must_use]
    pub fn has_deletion_cost(self) -> bool {
        self.is_at_least(22)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_as_numbers() {
        for (text, minor) in [("1.20", Some(20)), ("1.9", Some(9)), ("2.1", None), ("1.", None), ("1.+3", None)] {
            assert_eq!(Version::parse(text), minor.map(Version::minor), "{text}");
        }
        assert!(Version::minor(9) < Version::minor(20));
        assert!(Version::minor(22).is_at_least(22) && !Version::minor(21).is_at_least(22));
    }
}
