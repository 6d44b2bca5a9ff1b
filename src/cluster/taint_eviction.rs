//! When `NoExecute` taints drive a pod from its node.
//!
//! A pod stays for as long as the shortest of the tolerations that it needs: for each taint the first toleration that bears it. One taint that none
//! bears ends it at once. An eviction that is planned stays planned if taints come or go, as long as one is left, and begins anew with the
//! first taint after a time without any.
//!
//! Every pod bears a node that is not ready, or not reachable, for five minutes unless its manifest says otherwise: [`with_defaults`].
//! Source: Kubernetes v1.28.7 pkg/controller/nodelifecycle/scheduler/taint_manager.go,
//! plugin/pkg/admission/defaulttolerationseconds/admission.go.

use std::time::Duration;

use super::placement::{Taint, TaintEffect, Toleration, TolerationValue};

/// The taint of a node whose kubelet says that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint of a node whose kubelet says nothing.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The taint of a cordoned node.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// How long pods bear a failed node where their manifest says nothing, in seconds. Source: admission.go.
pub const DEFAULT_SECONDS: i64 = 300;

/// What becomes of a pod on a node with `NoExecute` taints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stay {
    /// It has to leave now.
    Leaves,
    /// It has to leave after this time, counted from the first of the taints.
    For(Duration),
    /// It may stay.
    Forever,
}

/// How long a pod with these tolerations stays beside these taints, of which only those with `NoExecute` count.
#[must_use]
pub fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    let mut shortest = None::<i64>;
    for taint in taints.iter().filter(|taint| taint.effect == TaintEffect::NoExecute) {
        let Some(used) = tolerations.iter().find(|toleration| toleration.tolerates(taint)) else { return Stay::Leaves };
        shortest = match (shortest, used.seconds) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
    }
    match shortest.map(u64::try_from) {
        None => Stay::Forever,
        Some(Ok(0) | Err(_)) => Stay::Leaves,
        Some(Ok(seconds)) => Stay::For(Duration::from_secs(seconds)),
    }
}

/// The tolerations of a pod once it is admitted: those of its manifest, and five minutes for a failed node where they do not speak of it.
#[must_use]
pub fn with_defaults(mut tolerations: Vec<Toleration>) -> Vec<Toleration> {
    for key in [NOT_READY, UNREACHABLE] {
        let speaks_of_it = |toleration: &Toleration| {
            (toleration.key == key || toleration.key.is_empty())
                && toleration.effect.is_none_or(|effect| effect == TaintEffect::NoExecute)
        };
        if !tolerations.iter().any(speaks_of_it) {
            tolerations.push(Toleration {
                key: key.to_owned(),
                value: TolerationValue::Exists,
                effect: Some(TaintEffect::NoExecute),
                seconds: Some(DEFAULT_SECONDS),
            });
        }
    }
    tolerations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str) -> Taint {
        Taint { key: key.to_owned(), value: String::new(), effect: TaintEffect::NoExecute }
    }

    fn toleration(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration { key: key.to_owned(), value: TolerationValue::Exists, effect: None, seconds }
    }

    #[test]
    fn the_first_toleration_of_each_taint_counts_and_the_shortest_of_these_decides() {
        let (a, b) = (taint("a"), taint("b"));
        let long_then_short = [toleration("a", Some(60)), toleration("a", Some(5)), toleration("b", Some(30))];
        assert_eq!(stay(std::slice::from_ref(&a), &long_then_short), Stay::For(Duration::from_secs(60)));
        assert_eq!(stay(&[a.clone(), b.clone()], &long_then_short), Stay::For(Duration::from_secs(30)));
        assert_eq!(stay(&[a.clone(), b], &[toleration("a", None)]), Stay::Leaves);
        assert_eq!(stay(std::slice::from_ref(&a), &[toleration("", None)]), Stay::Forever);
        assert_eq!(stay(&[a], &[toleration("a", Some(-1))]), Stay::Leaves);
        let only_new = Taint { effect: TaintEffect::NoSchedule, ..taint("c") };
        assert_eq!(stay(&[only_new], &[]), Stay::Forever);
    }

    #[test]
    fn five_minutes_are_added_unless_the_manifest_speaks() {
        let added = with_defaults(Vec::new());
        for key in [NOT_READY, UNREACHABLE] {
            assert_eq!(stay(&[taint(key)], &added), Stay::For(Duration::from_secs(300)));
        }
        let own = with_defaults(vec![toleration(NOT_READY, Some(10))]);
        assert_eq!(stay(&[taint(NOT_READY)], &own), Stay::For(Duration::from_secs(10)));
        assert_eq!(own.len(), 2);
        assert_eq!(with_defaults(vec![toleration("", None)]).len(), 1);
    }
}
