//! A number of pods, absolute or as a percentage of the wanted ones.
//!
//! Source: Kubernetes v1.28.7 apimachinery/pkg/util/intstr/intstr.go `GetScaledValueFromIntOrPercent`.

use std::fmt;

/// A count, or a share of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntOrPercent {
    /// So many.
    Int(i32),
    /// So many of a hundred.
    Percent(i32),
}

/// The text is neither a number nor a percentage. A number in quotes is not accepted, as Kubernetes does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotAPercentage {
    /// What was written.
    pub text: String,
}

impl fmt::Display for NotAPercentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a percentage (write a number without quotes, or one with %)", self.text)
    }
}

impl std::error::Error for NotAPercentage {}

/// Which way a share that is no whole number goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounding {
    /// To the next greater number.
    Up,
    /// To the next smaller number.
    Down,
}

impl IntOrPercent {
    /// Reads a percentage such as `25%`.
    ///
    /// # Errors
    ///
    /// If the text does not end in `%` or its number cannot be read.
    pub fn parse_percent(text: &str) -> Result<Self, NotAPercentage> {
        let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
        number.map(Self::Percent).ok_or_else(|| NotAPercentage { text: text.to_owned() })
    }

    /// The count, of `total`.
    #[must_use]
    pub fn scaled(self, total: i32, rounding: Rounding) -> i32 {
        match self {
            Self::Int(count) => count,
            Self::Percent(percent) => {
                let hundredths = i64::from(percent) * i64::from(total);
                let scaled = match rounding {
                    Rounding::Down => hundredths.div_euclid(100),
                    Rounding::Up => -(-hundredths).div_euclid(100),
                };
                i32::try_from(scaled).unwrap_or(i32::MAX)
            }
        }
    }
}
