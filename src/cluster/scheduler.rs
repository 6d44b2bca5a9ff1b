//! Which node a pod gets.
//!
//! A node is possible if the pod's requests fit into what is allocatable and not asked for by others, terminating pods included,
//! and it holds fewer than 110 pods. Among the possible ones the scores, each 0 to 100, are added with their weights; ties are
//! drawn. Usage plays no role, and nothing is moved later.
//!
//! Scores: least allocated (1), balanced allocation (1), preferred anti-affinity (2), and the default topology spread (2): pods of
//! the same revision over nodes (skew 3) and zones (skew 5).
//! Source: Kubernetes v1.28.7 pkg/scheduler/framework/plugins/{noderesources,interpodaffinity,podtopologyspread}.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::objects::{Node, PodTemplate, Resources};
use super::placement::PodTerm;
use crate::engine::Stream;

/// What a container that asks for nothing counts as in the least-allocated score.
/// Source: pkg/scheduler/util/pod_resources.go.
const UNASKED: Resources = Resources { cpu_millicores: 100, memory_bytes: 200 * 1024 * 1024 };

/// A pod that is on a node.
#[derive(Clone, Debug)]
pub struct PlacedPod {
    /// The node's index.
    pub node_index: usize,
    /// What it is made from.
    pub template: Rc<PodTemplate>,
    /// The set it belongs to: one revision of one Deployment.
    pub set: u64,
    /// It is being deleted: it holds its resources, but does not count for spreading.
    pub is_terminating: bool,
}

/// The index of the node for a pod of set `set`, or none if no node is possible. No pod comes to the `cordoned` ones.
pub fn choose_node(
    nodes: &[Node],
    cordoned: &BTreeSet<usize>,
    placed: &[PlacedPod],
    template: &PodTemplate,
    set: u64,
    stream: &mut Stream,
) -> Option<usize> {
    let used: Vec<Used> = usage(nodes, placed);
    let possible: Vec<usize> = (0..nodes.len())
        .filter(|index| !cordoned.contains(index) && fits(&nodes[*index], &used[*index], template.requests))
        .collect();
    if possible.is_empty() {
        return None;
    }
    let spread = normalised_low(
        &possible.iter().map(|index| spread_cost(nodes, placed, set, &possible, *index)).collect::<Vec<_>>(),
    );
    let apart = apart_scores(nodes, placed, template, &possible);
    let totals: Vec<i64> = possible
        .iter()
        .enumerate()
        .map(|(place, index)| {
            let own = resource_scores(&nodes[*index], &used[*index], template.requests);
            own + 2 * spread[place] + 2 * apart[place]
        })
        .collect();
    let best = totals.iter().max()?;
    let ties: Vec<usize> = (0..possible.len()).filter(|place| totals[*place] == *best).collect();
    let drawn = if ties.len() == 1 { 0 } else { stream.below(u64::try_from(ties.len()).unwrap_or(1)) };
    Some(possible[ties[usize::try_from(drawn).unwrap_or(0)]])
}

#[derive(Clone, Copy, Default)]
struct Used {
    asked: Resources,
    /// With the stand-in for those who ask for nothing.
    counted: Resources,
    pods: usize,
}

fn counted(requests: Resources) -> Resources {
    let or = |asked: u64, unasked: u64| if asked == 0 { unasked } else { asked };
    Resources {
        cpu_millicores: or(requests.cpu_millicores, UNASKED.cpu_millicores),
        memory_bytes: or(requests.memory_bytes, UNASKED.memory_bytes),
    }
}

fn usage(nodes: &[Node], placed: &[PlacedPod]) -> Vec<Used> {
    let mut used = vec![Used::default(); nodes.len()];
    for pod in placed {
        let node = &mut used[pod.node_index];
        let (asked, counted) = (pod.template.requests, counted(pod.template.requests));
        node.asked.cpu_millicores += asked.cpu_millicores;
        node.asked.memory_bytes += asked.memory_bytes;
        node.counted.cpu_millicores += counted.cpu_millicores;
        node.counted.memory_bytes += counted.memory_bytes;
        node.pods += 1;
    }
    used
}

fn fits(node: &Node, used: &Used, requests: Resources) -> bool {
    used.pods < node.pods_max
        && used.asked.cpu_millicores + requests.cpu_millicores <= node.allocatable.cpu_millicores
        && used.asked.memory_bytes + requests.memory_bytes <= node.allocatable.memory_bytes
}

/// Least allocated plus balanced allocation.
fn resource_scores(node: &Node, used: &Used, requests: Resources) -> i64 {
    let own = counted(requests);
    let free = |capacity: u64, taken: u64| {
        if capacity == 0 || taken > capacity { 0 } else { (capacity - taken) * 100 / capacity }
    };
    let cpu = free(node.allocatable.cpu_millicores, used.counted.cpu_millicores + own.cpu_millicores);
    let memory = free(node.allocatable.memory_bytes, used.counted.memory_bytes + own.memory_bytes);
    let least = (cpu + memory) / 2;
    // Fractions in millionths, so that no float decides; upstream's doubles differ in the last digit only.
    let fraction = |taken: u64, capacity: u64| {
        let millionths = u128::from(taken) * 1_000_000 / u128::from(capacity.max(1));
        i64::try_from(millionths.min(1_000_000)).unwrap_or(1_000_000)
    };
    let cpu = fraction(used.asked.cpu_millicores + requests.cpu_millicores, node.allocatable.cpu_millicores);
    let memory = fraction(used.asked.memory_bytes + requests.memory_bytes, node.allocatable.memory_bytes);
    let deviation = (cpu - memory).abs() / 2;
    let balanced = (1_000_000 - deviation) / 10_000;
    i64::try_from(least).unwrap_or(0) + balanced
}

/// The default spread constraints for one node: fewer is better. In thousandths.
fn spread_cost(nodes: &[Node], placed: &[PlacedPod], set: u64, possible: &[usize], index: usize) -> i64 {
    let peers = placed.iter().filter(|pod| pod.set == set && !pod.is_terminating);
    let (mut on_node, mut in_zone) = (0_i64, 0_i64);
    for pod in peers {
        on_node += i64::from(pod.node_index == index);
        in_zone += i64::from(nodes[pod.node_index].zone == nodes[index].zone);
    }
    let mut zones: Vec<&str> = possible.iter().map(|index| &*nodes[*index].zone).collect();
    zones.sort_unstable();
    zones.dedup();
    on_node * log_thousandths(possible.len() + 2) + 2000 + in_zone * log_thousandths(zones.len() + 2) + 4000
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a logarithm of a count of nodes is small"
)]
fn log_thousandths(count: usize) -> i64 {
    (libm::log(count as f64) * 1000.0) as i64
}

/// Costs to scores: 100·(max + min − cost)/max.
fn normalised_low(costs: &[i64]) -> Vec<i64> {
    let rounded: Vec<i64> = costs.iter().map(|cost| (cost + 500) / 1000).collect();
    let (min, max) = (rounded.iter().min().copied().unwrap_or(0), rounded.iter().max().copied().unwrap_or(0));
    rounded.iter().map(|cost| if max == 0 { 100 } else { 100 * (max + min - cost) / max }).collect()
}

/// Preferred anti-affinity, the pod's own terms and those of the pods that are there.
fn apart_scores(nodes: &[Node], placed: &[PlacedPod], template: &PodTemplate, possible: &[usize]) -> Vec<i64> {
    let same_domain = |key: &str, one: usize, two: usize| {
        let domain = nodes[one].labels.get(key);
        domain.is_some() && domain == nodes[two].labels.get(key)
    };
    let holds =
        |term: &PodTerm, of: &PodTemplate| term.selector.as_ref().is_some_and(|selector| selector.matches(&of.labels));
    let raw: Vec<i64> = possible
        .iter()
        .map(|index| {
            let mut score = 0;
            for pod in placed.iter().filter(|pod| !pod.is_terminating) {
                let ours = template.placement.pod_anti_affinity.preferred.iter();
                let theirs = pod.template.placement.pod_anti_affinity.preferred.iter();
                let ours = ours.filter(|(_, term)| holds(term, &pod.template));
                for (weight, term) in ours.chain(theirs.filter(|(_, term)| holds(term, template))) {
                    if same_domain(&term.topology_key, *index, pod.node_index) {
                        score -= weight;
                    }
                }
            }
            score
        })
        .collect();
    let (min, max) = (raw.iter().min().copied().unwrap_or(0), raw.iter().max().copied().unwrap_or(0));
    raw.iter().map(|score| if max == min { 0 } else { 100 * (score - min) / (max - min) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::objects::Probes;
    use crate::cluster::placement::{HOSTNAME, Placement};
    use crate::cluster::selector::LabelSelector;
    use crate::engine::Streams;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    fn node(name: &str, zone: &str, cpu_millicores: u64) -> Node {
        let allocatable = Resources { cpu_millicores, memory_bytes: 8 << 30 };
        Node::new(Rc::from(name), Ipv4Addr::LOCALHOST, Rc::from(zone), allocatable)
    }

    fn template(cpu_millicores: u64) -> PodTemplate {
        PodTemplate {
            labels: BTreeMap::from([("app".to_owned(), "edge".to_owned())]),
            annotations: BTreeMap::new(),
            image: "proxy".to_owned(),
            requests: Resources { cpu_millicores, memory_bytes: 256 << 20 },
            grace_seconds: 30,
            pre_stop: None,
            probes: Probes::default(),
            placement: Placement::default(),
            other: String::new(),
        }
    }

    /// Places `count` pods of one set one after the other; how many land on each node, and how many nowhere.
    fn place(nodes: &[Node], template: &PodTemplate, count: usize) -> (Vec<usize>, usize) {
        let mut stream = Streams::new(1).stream("scheduler", "");
        let (mut placed, mut counts, mut nowhere) = (Vec::new(), vec![0; nodes.len()], 0);
        for _ in 0..count {
            match choose_node(nodes, &BTreeSet::new(), &placed, template, 1, &mut stream) {
                Some(node_index) => {
                    counts[node_index] += 1;
                    let template = Rc::new(template.clone());
                    placed.push(PlacedPod { node_index, template, set: 1, is_terminating: false });
                }
                None => nowhere += 1,
            }
        }
        (counts, nowhere)
    }

    #[test]
    fn requests_fill_nodes_to_the_last_millicore_and_not_beyond() {
        let nodes = [node("a", "z", 1000), node("b", "z", 999)];
        assert_eq!(place(&nodes, &template(500), 4), (vec![2, 1], 1));
    }

    #[test]
    fn a_set_spreads_over_nodes_and_zones() {
        let nodes = [node("a", "x", 4000), node("b", "x", 4000), node("c", "y", 4000), node("d", "y", 4000)];
        assert_eq!(place(&nodes, &template(200), 8), (vec![2; 4], 0));
    }

    #[test]
    fn anti_affinity_outweighs_the_emptier_node() {
        let mut apart = template(200);
        let selector = Some(LabelSelector::of_labels(apart.labels.clone()));
        let term = PodTerm { topology_key: HOSTNAME.to_owned(), selector, ..PodTerm::default() };
        apart.placement.pod_anti_affinity.preferred = vec![(100, term)];
        let nodes = [node("small", "z", 1000), node("big", "z", 16_000)];
        assert_eq!(place(&nodes, &apart, 2).0, [1, 1]);
        assert_eq!(place(&nodes, &apart, 10).1, 0, "preferred never blocks");
    }
}
