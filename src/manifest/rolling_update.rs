//! How a new revision replaces an old one: by how many pods at a time.
//!
//! Source: Kubernetes v1.28.7 pkg/apis/apps/validation (`ValidateRollingUpdateDeployment`), apimachinery pkg/util/intstr.

use super::read::Field;
use crate::cluster::deployment::Strategy;
use crate::cluster::int_or_percent::IntOrPercent;

pub(super) const DEFAULT_STRATEGY: Strategy =
    Strategy::RollingUpdate { max_surge: IntOrPercent::Percent(25), max_unavailable: IntOrPercent::Percent(25) };

pub(super) fn read_strategy(field: &Field<'_>) -> Option<Strategy> {
    let fields = field.fields()?;
    let kind =
        fields.get("type").map_or(Some(true), |kind| kind.choice(&[("RollingUpdate", true), ("Recreate", false)]));
    let rolling = fields.look("rollingUpdate");
    fields.finish();
    let strategy = match (kind?, rolling) {
        (false, rolling) => {
            if let Some(rolling) = rolling.filter(|rolling| !rolling.node().is_empty()) {
                rolling.refuse("`rollingUpdate` has no meaning with type Recreate", "remove it");
            }
            Strategy::Recreate
        }
        (true, None) => DEFAULT_STRATEGY,
        (true, Some(rolling)) => {
            let fields = rolling.fields()?;
            let quarter = Some(IntOrPercent::Percent(25));
            let surge = fields.get("maxSurge").map_or(quarter, |field| int_or_percent(&field));
            let unavailable = fields.get("maxUnavailable").map_or(quarter, |field| int_or_percent(&field));
            fields.finish();
            rolling_update(&rolling, surge?, unavailable?)?
        }
    };
    Some(strategy)
}

/// A rolling update, unless it could never move.
pub(super) fn rolling_update(
    field: &Field<'_>,
    max_surge: IntOrPercent,
    max_unavailable: IntOrPercent,
) -> Option<Strategy> {
    if matches!(max_unavailable, IntOrPercent::Percent(percent) if percent > 100) {
        field.refuse("more than 100% cannot be unavailable", "write maxUnavailable: 100% or less");
        return None;
    }
    let is_zero = |value| matches!(value, IntOrPercent::Int(0) | IntOrPercent::Percent(0));
    if is_zero(max_surge) && is_zero(max_unavailable) {
        field.refuse(
            "the surge and the unavailable pods are both 0, so no pod could ever be replaced",
            "let one of them be 1 or more, or 25%: with a surge and no unavailable pod nothing is taken away early",
        );
        return None;
    }
    Some(Strategy::RollingUpdate { max_surge, max_unavailable })
}

/// A number of pods or a percentage of them. A number in quotes is refused, as the API server does.
pub(super) fn int_or_percent(field: &Field<'_>) -> Option<IntOrPercent> {
    let text = field.scalar()?;
    // A sign is none of its own: the API server takes digits and `%`.
    if let Some(percent) = IntOrPercent::parse_percent(text).ok().filter(|_| !text.starts_with('+')) {
        if matches!(percent, IntOrPercent::Percent(number) if number < 0) {
            field.refuse(format!("`{text}` is negative"), "write 0% or more");
            return None;
        }
        return Some(percent);
    }
    if text.parse::<i64>().is_ok() {
        return field.whole(0, i64::from(i32::MAX)).map(IntOrPercent::Int);
    }
    let number = text.trim_end_matches('%').trim();
    let is_percent = text.ends_with('%') && number.parse::<u32>().is_ok();
    let help = if is_percent { format!("write {number}%, without blanks") } else { "write 1, or 25%".to_owned() };
    field.refuse(format!("`{text}` is neither a number nor a percentage"), help);
    None
}
