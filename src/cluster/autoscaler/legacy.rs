//! The limits of an autoscaler without `behavior`: at most double the size, or 4 pods, in one step up; none down.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/podautoscaler/horizontal.go `convertDesiredReplicasWithRules`, `calculateScaleUpLimit`.

use super::behavior::Wish;
use super::rules::Rules;

/// The size after the limits, and the reason of `ScalingLimited`.
#[must_use]
pub fn limited(wish: Wish, rules: &Rules) -> (i32, &'static str) {
    let limit = rules.scale_up_limit(wish.current);
    let (most, reason) = if wish.most > limit { (limit, "ScaleUpLimit") } else { (wish.most, "TooManyReplicas") };
    if wish.desired < wish.least {
        (wish.least, "TooFewReplicas")
    } else if wish.desired > most {
        (most, reason)
    } else {
        (wish.desired, "DesiredWithinRange")
    }
}
