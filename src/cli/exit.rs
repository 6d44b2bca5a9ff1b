//! What the exit code says. The same in every format, so that scripts need not parse anything.

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// All error-level SLOs were met; nothing regressed.
    Ok,
    /// The simulator, the disk or the terminal failed.
    Unexpected,
    /// The command line cannot be carried out.
    Usage,
    /// Input cannot be read or is invalid; nothing was run.
    Input,
    /// `--strict`, and something is not modelled.
    NotModelled,
    /// `--verify`, and a second run differed.
    Differs,
    /// Head regressed against base.
    Regression,
    /// An error-level SLO was missed.
    SloMissed,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::Input => 65,
            Self::NotModelled => 96,
            Self::Differs => 97,
            Self::Regression => 98,
            Self::SloMissed => 99,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The one that is told when several hold: an interruption, then 65, 97, 99, 98, 96.
    #[must_use]
    pub fn first(of: &[Self]) -> Self {
        let order = [
            Self::Interrupted,
            Self::Terminated,
            Self::Unexpected,
            Self::Usage,
            Self::Input,
            Self::Differs,
            Self::SloMissed,
            Self::Regression,
            Self::NotModelled,
        ];
        order.into_iter().find(|exit| of.contains(exit)).unwrap_or(Self::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_the_first_in_order_is_told() {
        assert_eq!(Exit::first(&[Exit::NotModelled, Exit::SloMissed, Exit::Differs]), Exit::Differs);
        assert_eq!(Exit::first(&[Exit::NotModelled, Exit::Regression]), Exit::Regression);
        assert_eq!(Exit::first(&[Exit::Regression, Exit::SloMissed]), Exit::SloMissed);
        assert_eq!(Exit::first(&[Exit::Ok]), Exit::Ok);
        assert_eq!(Exit::first(&[]), Exit::Ok);
    }
}
