//! Limits on the rate of change: `behavior`'s policies and the changes they look back on.
//!
//! A policy looks at the size before the changes within its period, so pods added by hand count for nothing, and a change stops counting one
//! period after it was made.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/podautoscaler/horizontal.go, pkg/apis/autoscaling/v2/defaults.go.

use std::time::Duration;

use super::rules::Rules;
use super::{double, pods_above};
use crate::units::SimTime;

/// `behavior`.
#[derive(Clone, PartialEq, Debug)]
pub struct Behavior {
    /// Towards more pods.
    pub up: ScalingRules,
    /// Towards fewer.
    pub down: ScalingRules,
}

/// The rules of one direction.
#[derive(Clone, PartialEq, Debug)]
pub struct ScalingRules {
    /// How long recommendations count, in seconds; none: as the controller is told ([`Rules::downscale_stabilization`]).
    pub stabilization_seconds: Option<u32>,
    /// Which policy decides.
    pub select: SelectPolicy,
    /// The policies, one or more.
    pub policies: Vec<Policy>,
    /// A tolerance of its own, as a share of 1.
    pub tolerance: Option<f64>,
}

/// Which of several policies decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SelectPolicy {
    /// The one that allows the greatest change.
    Max,
    /// The one that allows the smallest.
    Min,
    /// None: no change in this direction.
    Disabled,
}

/// So much change in so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What is counted.
    pub amount: Amount,
    /// In how many seconds.
    pub period_seconds: u32,
}

/// A change's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amount {
    /// So many pods.
    Pods(i32),
    /// So many hundredths of the size before.
    Percent(i32),
}

impl ScalingRules {
    /// Upwards, where nothing is written: at once, by 4 pods or to double the size in 15 s, whichever is more.
    #[must_use]
    pub fn default_up() -> Self {
        let policy = |amount| Policy { amount, period_seconds: 15 };
        Self {
            stabilization_seconds: Some(0),
            select: SelectPolicy::Max,
            policies: vec![policy(Amount::Pods(4)), policy(Amount::Percent(100))],
            tolerance: None,
        }
    }

    /// Downwards, where nothing is written: to any size, after the controller's own window.
    #[must_use]
    pub fn default_down() -> Self {
        Self {
            stabilization_seconds: None,
            select: SelectPolicy::Max,
            policies: vec![Policy { amount: Amount::Percent(100), period_seconds: 15 }],
            tolerance: None,
        }
    }

    /// How long recommendations count.
    #[must_use]
    pub fn window(&self, usual: Duration) -> Duration {
        self.stabilization_seconds.map_or(usual, |seconds| Duration::from_secs(seconds.into()))
    }

    fn longest_period(&self) -> Duration {
        let seconds = self.policies.iter().map(|policy| policy.period_seconds).max().unwrap_or(0);
        Duration::from_secs(seconds.into())
    }
}

/// Changes of one direction, in slots: one that no policy can see any more gives its place to the next.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ScaleEvents {
    /// The slots.
    pub events: Vec<ScaleEvent>,
}

/// A change that was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScaleEvent {
    /// By how many pods, 0 or more.
    pub change: i32,
    /// When.
    pub at: SimTime,
    /// No policy sees it any more.
    pub is_outdated: bool,
}

impl ScaleEvents {
    /// The sum of changes younger than a period.
    #[must_use]
    pub fn within(&self, period: Duration, now: SimTime) -> i32 {
        self.events.iter().filter(|event| now.since(event.at) < period).map(|event| event.change).sum()
    }

    /// Notes a change, if there are policies that could look back on it.
    pub fn store(&mut self, change: i32, rules: Option<&ScalingRules>, now: SimTime) {
        let Some(rules) = rules else { return };
        let longest = rules.longest_period();
        for event in &mut self.events {
            event.is_outdated |= now.since(event.at) > longest;
        }
        let fresh = ScaleEvent { change, at: now, is_outdated: false };
        match self.events.iter_mut().rfind(|event| event.is_outdated) {
            Some(slot) => *slot = fresh,
            None => self.events.push(fresh),
        }
    }
}

/// The changes of both directions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ScaleLog {
    /// Towards more pods.
    pub ups: ScaleEvents,
    /// Towards fewer.
    pub downs: ScaleEvents,
}

impl ScaleLog {
    /// Notes a change from one size to another.
    pub fn store(&mut self, from: i32, to: i32, behavior: Option<&Behavior>, now: SimTime) {
        if to > from {
            self.ups.store(to - from, behavior.map(|behavior| &behavior.up), now);
        } else {
            self.downs.store(from - to, behavior.map(|behavior| &behavior.down), now);
        }
    }

    /// The size upward policies allow; it may be below the present one.
    #[must_use]
    pub fn up_limit(&self, current: i32, allowed: &ScalingRules, rules: &Rules, now: SimTime) -> i32 {
        let proposals = allowed.policies.iter().map(|policy| {
            let period = Duration::from_secs(policy.period_seconds.into());
            let taken = if rules.counts_both_directions() { self.downs.within(period, now) } else { 0 };
            let start = current - self.ups.within(period, now) + taken;
            match policy.amount {
                Amount::Pods(pods) => start.saturating_add(pods),
                // Rounded up, or one pod could never become two.
                Amount::Percent(percent) => pods_above(double(start.into()) * (1.0 + double(percent.into()) / 100.0)),
            }
        });
        match allowed.select {
            SelectPolicy::Disabled => current,
            SelectPolicy::Max => proposals.max().unwrap_or(current),
            SelectPolicy::Min => proposals.min().unwrap_or(current),
        }
    }

    /// The size downward policies allow; it may be above the present one.
    #[must_use]
    pub fn down_limit(&self, current: i32, allowed: &ScalingRules, rules: &Rules, now: SimTime) -> i32 {
        let proposals = allowed.policies.iter().map(|policy| {
            let period = Duration::from_secs(policy.period_seconds.into());
            let added = if rules.counts_both_directions() { self.ups.within(period, now) } else { 0 };
            let start = current - added + self.downs.within(period, now);
            match policy.amount {
                Amount::Pods(pods) => start.saturating_sub(pods),
                Amount::Percent(percent) => cut(double(start.into()) * (1.0 - double(percent.into()) / 100.0)),
            }
        });
        match allowed.select {
            SelectPolicy::Disabled => current,
            SelectPolicy::Max => proposals.min().unwrap_or(current),
            SelectPolicy::Min => proposals.max().unwrap_or(current),
        }
    }

    /// The size after the limits, and the reason of `ScalingLimited`.
    #[must_use]
    pub fn limited(&self, wish: Wish, behavior: &Behavior, rules: &Rules, now: SimTime) -> (i32, &'static str) {
        let Wish { current, desired, least, most } = wish;
        if desired > current {
            let limit = self.up_limit(current, &behavior.up, rules, now).max(current);
            let (allowed, reason) = if most > limit { (limit, "ScaleUpLimit") } else { (most, "TooManyReplicas") };
            if desired > allowed {
                return (allowed, reason);
            }
        } else if desired < current {
            let limit = self.down_limit(current, &behavior.down, rules, now).min(current);
            let (allowed, reason) = if least < limit { (limit, "ScaleDownLimit") } else { (least, "TooFewReplicas") };
            if desired < allowed {
                return (allowed, reason);
            }
        }
        (desired, "DesiredWithinRange")
    }
}

/// A size that is wanted, between bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    /// The size that is wanted now.
    pub current: i32,
    /// The size after stabilization.
    pub desired: i32,
    /// Fewest pods.
    pub least: i32,
    /// Most pods.
    pub most: i32,
}

/// Without its fraction.
#[expect(clippy::cast_possible_truncation, reason = "a number out of range becomes the nearest one that is in it")]
fn cut(value: f64) -> i32 {
    value as i32
}
