//! Images that a kubelet removes from its node: those that no pod uses, the longest unused first.
//!
//! Every five minutes it looks which images there are and which are used; and if 85 % of the disk are taken it removes as many as bring that down to 80 %. When the node is short of disk
//! ([`super::disk`]) it removes all it can. An image is only removed two minutes after it was first seen, and one that has come since the last look is seen for the first time by the look that would remove it.
//!
//! Images that are equally old in all that counts go by name, where the real order is a hash map's.
//! Source: Kubernetes v1.28.7 pkg/kubelet/images/image_gc_manager.go, pkg/kubelet/kubelet.go (`ImageGCPeriod`), pkg/kubelet/apis/config/v1beta1/defaults.go (`ImageGCHighThresholdPercent`,
//! `ImageGCLowThresholdPercent`, `ImageMinimumGCAge`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::units::SimTime;

/// From one look to the next.
pub const PERIOD: Duration = Duration::from_secs(300);
/// From this share of the disk on, in percent, images are removed,
const HIGH_PERCENT: u64 = 85;
/// until no more than this is taken.
const LOW_PERCENT: u64 = 80;
/// An image stays for so long after it was first seen.
const AGE_MIN: Duration = Duration::from_secs(120);

/// What a kubelet remembers of its node's images.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ImageRecords {
    records: BTreeMap<String, Record>,
    /// It has looked before.
    has_looked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Record {
    /// None: it was there at the first look of all.
    first_seen_at: Option<SimTime>,
    /// None: it has not been seen in use.
    last_used_at: Option<SimTime>,
}

impl ImageRecords {
    /// Looks which images are there, and which of them are used.
    pub fn look(&mut self, now: SimTime, present: &BTreeSet<String>, used: &BTreeSet<String>) {
        self.records.retain(|image, _| present.contains(image));
        let first_seen_at = self.has_looked.then_some(now);
        self.has_looked = true;
        for image in present {
            let new = Record { first_seen_at, last_used_at: None };
            let record = self.records.entry(image.clone()).or_insert(new);
            if used.contains(image) {
                record.last_used_at = Some(now);
            }
        }
    }

    /// The images that go to free so many bytes, as far as there are any; `size_of` is what each takes. A look comes before.
    pub fn remove(&mut self, now: SimTime, bytes: u64, size_of: impl Fn(&str) -> u64) -> Vec<String> {
        let is_old = |record: &Record| record.first_seen_at.is_none_or(|at| now.since(at) >= AGE_MIN);
        let mut order: Vec<(Record, String)> = self
            .records
            .iter()
            .filter(|(_, record)| record.last_used_at != Some(now) && is_old(record))
            .map(|(image, record)| (*record, image.clone()))
            .collect();
        order.sort_by(|(a, one), (b, other)| {
            (a.last_used_at, a.first_seen_at, one).cmp(&(b.last_used_at, b.first_seen_at, other))
        });
        let (mut freed, mut removed) = (0_u64, Vec::new());
        for (_, image) in order {
            freed = freed.saturating_add(size_of(&image));
            self.records.remove(&image);
            removed.push(image);
            if freed >= bytes {
                break;
            }
        }
        removed
    }
}

/// What has to be freed of a disk of which `used_bytes` are taken; none: nothing.
///
/// # Panics
///
/// Never: a part of 64 bits fits into 64 bits.
#[must_use]
pub fn bytes_to_free(capacity_bytes: u64, used_bytes: u64) -> Option<u64> {
    let (capacity, free) = (u128::from(capacity_bytes), u128::from(capacity_bytes.saturating_sub(used_bytes)));
    let used_percent = 100 - (free * 100).checked_div(capacity)?;
    let wanted = capacity * u128::from(100 - LOW_PERCENT) / 100;
    let missing = u64::try_from(wanted.saturating_sub(free)).expect("a part of 64 bits");
    (used_percent >= u128::from(HIGH_PERCENT)).then_some(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(seconds))
    }

    fn names(images: &[&str]) -> BTreeSet<String> {
        images.iter().map(|image| (*image).to_owned()).collect()
    }

    #[test]
    fn from_85_percent_on_the_disk_is_brought_down_to_80() {
        for (used, expected) in [(0, None), (840, None), (841, Some(41)), (850, Some(50)), (1000, Some(200))] {
            // Free space is cut to whole percents, so that 84.1 % count as 85 %.
            assert_eq!(bytes_to_free(1000, used), expected, "{used} of 1000");
        }
        assert_eq!(bytes_to_free(0, 0), None);
    }

    #[test]
    fn unused_images_go_the_longest_unused_first() {
        let mut records = ImageRecords::default();
        records.look(at(0), &names(&["a", "b", "c", "d"]), &names(&["a", "b"]));
        records.look(at(300), &names(&["a", "b", "c", "d"]), &names(&["a"]));
        records.look(at(600), &names(&["a", "b", "c", "d"]), &names(&["d"]));
        // "c" was never used, "b" last at 0 s, "a" at 300 s; "d" is used.
        let mut all = records.clone();
        assert_eq!(all.remove(at(600), u64::MAX, |_| 10), ["c", "b", "a"]);
        assert_eq!(all.remove(at(600), u64::MAX, |_| 10), Vec::<String>::new());
        assert_eq!(records.clone().remove(at(600), 10, |_| 10), ["c"]);
        assert_eq!(records.remove(at(600), 11, |_| 10), ["c", "b"]);
    }

    #[test]
    fn a_new_image_stays_for_two_minutes_after_it_was_first_seen() {
        let mut records = ImageRecords::default();
        records.look(at(0), &names(&[]), &names(&[]));
        // It came at 10 s; nobody looked before this.
        records.look(at(200), &names(&["new"]), &names(&[]));
        assert_eq!(records.clone().remove(at(200), 1, |_| 10), Vec::<String>::new());
        records.look(at(319), &names(&["new"]), &names(&[]));
        assert_eq!(records.clone().remove(at(319), 1, |_| 10), Vec::<String>::new());
        records.look(at(320), &names(&["new"]), &names(&[]));
        assert_eq!(records.remove(at(320), 1, |_| 10), ["new"]);
        // Pulled anew it is a new one.
        records.look(at(330), &names(&["new"]), &names(&[]));
        assert_eq!(records.remove(at(330), 1, |_| 10), Vec::<String>::new());
    }
}
