//! The rules on nodes with pods that are written in short.

use std::net::Ipv4Addr;
use std::rc::Rc;

use super::*;
use crate::cluster::objects::Resources;
use crate::cluster::placement::Taint;

const THERE: Fit = Fit { should_run: true, may_stay: true };
const KEPT: Fit = Fit { should_run: false, may_stay: true };
const AWAY: Fit = Fit { should_run: false, may_stay: false };

/// Nodes, one letter for each pod: `o` an old one that is available, `u` one that is not ready, `n` a new one that is available, `w` one that is ready and no more, `x` one that is
/// not ready; `d` an old one that is being deleted. Pods are numbered from 0.
fn nodes(words: &str) -> Vec<DaemonNode> {
    let mut id = 0;
    let mut pod = |letter: char| {
        id += 1;
        DaemonPod {
            id: id - 1,
            is_current: "nwx".contains(letter),
            is_deleting: letter == 'd',
            is_ready: "onwd".contains(letter),
            is_available: "ond".contains(letter),
        }
    };
    let node = |(index, word): (usize, &str)| DaemonNode {
        index,
        fit: THERE,
        pods: word.chars().filter(|letter| *letter != '-').map(&mut pod).collect(),
        has_failed: false,
    };
    words.split(' ').enumerate().map(node).collect()
}

fn rolling(max_surge: IntOrPercent, max_unavailable: IntOrPercent) -> Update {
    Update::Rolling { max_surge, max_unavailable }
}

#[test]
fn both_limits_round_up_and_one_of_them_moves() {
    use IntOrPercent::{Int, Percent};
    for (surge, unavailable, desired, expected) in [
        (Int(0), Int(1), 10, (0, 1)),
        (Int(0), Percent(10), 10, (0, 1)),
        (Int(0), Percent(10), 11, (0, 2)),
        (Int(0), Percent(1), 1, (0, 1)),
        (Percent(30), Int(0), 5, (2, 0)),
        (Int(0), Int(0), 1, (0, 1)),
        (Int(0), Percent(10), 0, (0, 0)),
    ] {
        let limits = rolling(surge, unavailable).limits(desired).expect("it is rolled");
        assert_eq!((limits.surge, limits.unavailable), expected, "{surge:?} {unavailable:?} of {desired}");
        assert_eq!(rolling(surge, unavailable).surges(), surge != Int(0));
    }
    assert_eq!((Update::OnDelete.limits(5), Update::OnDelete.surges()), (None, false));
}

#[test]
fn old_pods_that_are_not_available_go_at_once_and_the_others_within_the_limit() {
    for (words, unavailable, deletes) in [
        ("o o o", 1, &[0][..]),
        ("o o o", 2, &[0, 1]),
        // It counts nowhere: one more goes beside it.
        ("u o o", 1, &[0, 1]),
        ("u u o", 1, &[0, 1, 2]),
        // New pods that are not available count, whether they are ready or not.
        ("x o o", 1, &[]),
        ("w o o", 1, &[]),
        ("x o o", 2, &[1]),
        ("n o o", 1, &[1]),
        // A node whose pod is on its way out, or that has none yet, counts too.
        ("d o o", 1, &[]),
        ("- o o", 1, &[]),
        ("d o o", 2, &[1]),
        // With too many of its own it is left alone, and counts.
        ("on o", 1, &[]),
        ("oo o", 1, &[]),
        ("n n n", 1, &[]),
        ("u x", 1, &[0]),
    ] {
        let steps = roll(Limits { surge: 0, unavailable }, &nodes(words));
        assert_eq!(steps, Steps { creates: Vec::new(), deletes: deletes.to_vec() }, "{words} with {unavailable}");
    }
}

#[test]
fn new_pods_come_beside_old_ones_within_the_surge() {
    for (words, surge, creates, deletes) in [
        ("o o o", 1, &[0][..], &[][..]),
        ("o o o", 2, &[0, 1], &[]),
        // Beside one that is not available it takes no part of the limit.
        ("u o o", 1, &[0, 1], &[]),
        ("ox o o", 1, &[], &[]),
        ("ow o o", 1, &[], &[]),
        ("ox o o", 2, &[1], &[]),
        ("on o o", 1, &[1], &[0]),
        ("n o", 1, &[1], &[]),
        // What is being deleted is not there, and the node is not the rollout's business.
        ("d o", 1, &[1], &[]),
        ("oo o", 1, &[], &[]),
        ("n n", 1, &[], &[]),
    ] {
        let steps = roll(Limits { surge, unavailable: 0 }, &nodes(words));
        assert_eq!((&steps.creates[..], &steps.deletes[..]), (creates, deletes), "{words} with {surge}");
    }
}

#[test]
fn a_node_that_should_have_none_is_no_part_of_a_rollout() {
    let mut list = nodes("- o");
    list[0].fit = KEPT;
    assert_eq!(roll(Limits { surge: 0, unavailable: 1 }, &list).deletes, [0]);
    list[0].fit = THERE;
    assert_eq!(roll(Limits { surge: 0, unavailable: 1 }, &list).deletes, Vec::<u64>::new());
}

#[test]
fn nodes_get_what_they_lack_and_lose_what_is_too_much() {
    let plain = Update::DEFAULT;
    let surging = rolling(IntOrPercent::Int(1), IntOrPercent::Int(0));
    for (update, fit, words, creates, deletes) in [
        (plain, THERE, "-", &[0][..], &[][..]),
        (plain, THERE, "o", &[], &[]),
        (plain, THERE, "d", &[], &[]),
        (plain, THERE, "on", &[], &[1]),
        (plain, KEPT, "-", &[], &[]),
        (plain, KEPT, "o", &[], &[]),
        (plain, AWAY, "o", &[], &[0]),
        (plain, AWAY, "od", &[], &[0]),
        (plain, AWAY, "-", &[], &[]),
        (Update::OnDelete, THERE, "-", &[0], &[]),
        (Update::OnDelete, THERE, "o", &[], &[]),
        // With a surge nobody waits for one that is on its way out.
        (surging, THERE, "d", &[0], &[]),
        (surging, KEPT, "d", &[], &[]),
        (surging, THERE, "ox", &[], &[]),
        (surging, THERE, "ow", &[], &[]),
        (surging, THERE, "on", &[], &[0]),
        (surging, THERE, "ux", &[], &[0]),
        (surging, THERE, "oox", &[], &[1]),
        (surging, THERE, "oxx", &[], &[2]),
        (surging, AWAY, "ox", &[], &[0, 1]),
    ] {
        let mut list = nodes(words);
        list[0].fit = fit;
        let steps = manage(update, &list);
        assert_eq!((&steps.creates[..], &steps.deletes[..]), (creates, deletes), "{update:?} {fit:?} {words}");
    }
    let mut failed = nodes("-");
    failed[0].has_failed = true;
    assert!(manage(plain, &failed).is_empty() && manage(surging, &failed).is_empty());
}

#[test]
fn a_node_fits_by_its_labels_and_taints() {
    use TaintEffect::{NoExecute, NoSchedule, PreferNoSchedule};
    let selecting = Placement { node_selector: [("gpu".to_owned(), "yes".to_owned())].into(), ..Placement::default() };
    for (selects, label, taint, expected) in [
        (false, None, None, THERE),
        (true, None, None, AWAY),
        (true, Some("yes"), None, THERE),
        (true, Some("no"), None, AWAY),
        (false, None, Some(("own", PreferNoSchedule)), THERE),
        (false, None, Some(("own", NoSchedule)), KEPT),
        (false, None, Some(("own", NoExecute)), AWAY),
        (false, None, Some(("node.kubernetes.io/unschedulable", NoSchedule)), THERE),
        (false, None, Some(("node.kubernetes.io/memory-pressure", NoSchedule)), THERE),
        // A node that fails keeps its pod, and gets none.
        (false, None, Some((NOT_READY, NoSchedule)), KEPT),
        (false, None, Some((NOT_READY, NoExecute)), THERE),
        (false, None, Some((UNREACHABLE, NoExecute)), THERE),
    ] {
        let mut node = Node::new(Rc::from("n"), Ipv4Addr::LOCALHOST, Rc::from("a"), Resources::default());
        node.labels.extend(label.map(|value| ("gpu".to_owned(), value.to_owned())));
        node.taints.extend(taint.map(|(key, effect)| Taint { key: key.to_owned(), value: String::new(), effect }));
        let placement = with_tolerations(if selects { selecting.clone() } else { Placement::default() });
        assert_eq!(fit(&placement, &node), expected, "{selects} {label:?} {taint:?}");
    }
}

#[test]
fn what_the_controller_has_pods_bear_takes_the_place_of_what_the_template_says() {
    let own = |seconds| Toleration {
        key: NOT_READY.to_owned(),
        value: TolerationValue::Exists,
        effect: Some(TaintEffect::NoExecute),
        seconds,
    };
    let placement = with_tolerations(Placement { tolerations: vec![own(Some(5))], ..Placement::default() });
    assert!(placement.tolerations.contains(&own(None)) && !placement.tolerations.contains(&own(Some(5))));
    assert_eq!(with_tolerations(placement.clone()), placement, "once is enough");
}

#[test]
fn the_status_is_of_the_oldest_pods_of_nodes_that_should_have_one() {
    let status = DaemonStatus::of(&nodes("o n w x u - d ox"));
    let expected = DaemonStatus { desired: 8, current: 7, ready: 5, updated: 3, available: 4, misscheduled: 0 };
    assert_eq!(status, expected);
    assert!(!status.is_complete(Update::DEFAULT));
    let mut list = nodes("n o");
    assert!(!DaemonStatus::of(&list).is_complete(Update::DEFAULT), "one is old");
    assert!(DaemonStatus::of(&list).is_complete(Update::OnDelete), "nobody waits for it");
    list[1].fit = KEPT;
    let status = DaemonStatus::of(&list);
    assert_eq!((status.desired, status.misscheduled), (1, 1));
    assert!(status.is_complete(Update::DEFAULT));
}

#[test]
fn pods_that_fail_are_made_again_after_longer_and_longer() {
    let at = |seconds: u64| SimTime::ZERO.after(Duration::from_secs(seconds));
    let mut backoff = FailureBackoff::default();
    assert_eq!(
        [100, 100, 101, 103, 120].map(|second| backoff.handle_failure(at(second))),
        [at(100), at(101), at(103), at(107), at(120),]
    );
    // 16 s after that, and so on to a quarter of an hour.
    let mut now = 120;
    for wait in [16, 32, 64, 128, 256, 512, 900, 900] {
        assert_eq!(backoff.handle_failure(at(now)), at(now + wait));
        now += wait;
    }
    assert_eq!(backoff.handle_failure(at(now + 1801)), at(now + 1801), "after two of them it is forgotten");
    assert_eq!(backoff.handle_failure(at(now + 1801)), at(now + 1802));
}
