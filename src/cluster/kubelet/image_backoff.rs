//! How often a kubelet tries to pull an image that it cannot get.
//!
//! One back-off per pod and image: 10 s after the first failure, doubled with each one to 300 s. It is counted from the last failure, and looked at when the kubelet
//! syncs the pod: a sync within it changes nothing but the reason that is shown.
//!
//! Source: Kubernetes v1.28.7 pkg/kubelet/images/image_manager.go, pkg/kubelet/kubelet.go (`imageBackOff`),
//! staging/src/k8s.io/client-go/util/flowcontrol/backoff.go.

use std::time::Duration;

use crate::units::SimTime;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// What a sync of a pod does about its image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// It pulls.
    Pull,
    /// It waits: `ImagePullBackOff`.
    Wait,
}

/// The back-off of one pod and image.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ImageBackoff {
    /// The last failure, and how long it is waited after it.
    last: Option<(SimTime, Duration)>,
}

impl ImageBackoff {
    /// What a sync does now.
    #[must_use]
    pub fn at_sync(&self, now: SimTime) -> Attempt {
        match self.last {
            Some((failed_at, wait)) if now.since(failed_at) < wait => Attempt::Wait,
            _ => Attempt::Pull,
        }
    }

    /// A pull has failed.
    pub fn failed(&mut self, now: SimTime) {
        // An entry that has not been used for twice the longest wait begins anew; syncs come too often for that.
        let wait = self.last.map_or(FIRST, |(_, wait)| (wait * 2).min(LONGEST));
        self.last = Some((now, wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_ten_seconds_to_five_minutes() {
        let at = |seconds: u64| SimTime::from_nanos(seconds * 1_000_000_000);
        let mut backoff = ImageBackoff::default();
        assert_eq!(backoff.at_sync(at(0)), Attempt::Pull);
        let mut now = 0;
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            backoff.failed(at(now));
            assert_eq!(backoff.at_sync(at(now + wait - 1)), Attempt::Wait, "{wait}");
            assert_eq!(backoff.at_sync(at(now + wait)), Attempt::Pull, "{wait}");
            now += wait;
        }
    }
}
