//! Nodes that have a pod's images already, the larger and the more common the better.
//!
//! Source: Kubernetes v1.28.7 pkg/scheduler/framework/plugins/imagelocality/image_locality.go.

use super::SCORE_MAX;
use super::cache::{Cache, NodeInfo, PodKind};

const MEBIBYTE: i64 = 1 << 20;
/// Less than this is not worth anything.
const LEAST: i64 = 23 * MEBIBYTE;
/// So much for each container is worth the full score.
const MOST_PER_CONTAINER: i64 = 1000 * MEBIBYTE;

/// Whether a pod's images count for no node: nobody has one that is worth anything.
pub(super) fn counts_nowhere(cache: &Cache, pod: &PodKind) -> bool {
    pod.images.iter().map(|image| cache.image(image)).all(|image| image.nodes == 0 || image.bytes == 0)
}

/// The score of one node.
#[must_use]
pub fn score(cache: &Cache, info: &NodeInfo, pod: &PodKind) -> i64 {
    let there = pod.images.iter().filter(|image| info.images.contains(*image));
    let sum: i64 = there.map(|image| spread_bytes(cache, image)).sum();
    let most = MOST_PER_CONTAINER * i64::try_from(pod.images.len().max(1)).unwrap_or(i64::MAX >> 32);
    SCORE_MAX * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
}

/// An image's size, less when few nodes have it: otherwise one node would attract all pods.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "upstream works in doubles and cuts off, too"
)]
fn spread_bytes(cache: &Cache, image: &str) -> i64 {
    let info = cache.image(image);
    let share = info.nodes as f64 / cache.order().len().max(1) as f64;
    (info.bytes as f64 * share) as i64
}
