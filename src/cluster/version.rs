//! The version of Kubernetes whose behaviour is simulated.
//!
//! Rules that changed between versions compare with the version that brought the change. What is not compared is as in v1.28.7, from which the
//! rules were taken.

use std::fmt;

use super::replica_set::AgeScale;

/// A minor version, such as 1.33.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// `major.minor`.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The second number.
    #[must_use]
    pub const fn minor(self) -> u32 {
        self.minor
    }

    /// Reads `1.33`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// How a `ReplicaSet` compares the ages of pods: in powers of two from 1.22 on.
    /// Source: kubernetes/enhancements KEP-2185, `LogarithmicScaleDown`.
    #[must_use]
    pub fn age_scale(self) -> AgeScale {
        if self >= Self::new(1, 22) { AgeScale::Logarithmic } else { AgeScale::Exact }
    }

    /// Whether a `ReplicaSet` heeds `controller.kubernetes.io/pod-deletion-cost`: from 1.22 on.
    /// Source: kubernetes/enhancements KEP-2255, `PodDeletionCost`.
    #[must_use]
    pub fn has_deletion_cost(self) -> bool {
        self >= Self::new(1, 22)
    }
}

/// As in `1.33`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        assert!(Version::parse("1.9") < Version::parse("1.20"));
        assert_eq!(Version::parse("1.33"), Some(Version::new(1, 33)));
        assert_eq!(Version::new(1, 33).to_string(), "1.33");
        assert_eq!(["1", "1.", "1.2.3", "v1.2"].map(Version::parse), [None; 4]);
        assert_eq!(Version::new(1, 21).age_scale(), AgeScale::Exact);
        assert_eq!(Version::new(1, 22).age_scale(), AgeScale::Logarithmic);
    }
}
