//! The disks of nodes: what lies on them, images that nobody uses any more, and what fills them from outside.
//!
//! The rules are [`crate::cluster::kubelet::disk`]'s and [`crate::cluster::kubelet::image_gc`]'s. A node whose disk has no known size never runs out of it, and keeps all its images. Images of unknown
//! size take nothing; of pods those count whose runtime tells what they take.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::Cluster;
use super::node_sync::NodeState;
use crate::cluster::kubelet::image_gc::{ImageRecords, PERIOD, bytes_to_free};
use crate::cluster::operation::Fill;
use crate::engine::{Datum, EventId};

/// What a node's disk has beside what its spec says.
#[derive(Default)]
pub(super) struct DiskState {
    /// What is there from outside, in bytes.
    filled_bytes: u64,
    /// The last event that filled it.
    filled_by: Option<EventId>,
    /// What its kubelet remembers of images.
    records: ImageRecords,
}

impl DiskState {
    /// What came from outside and is still there, and the event with which the last of it came.
    fn filled(&self) -> Option<(u64, EventId)> {
        Some((self.filled_bytes, self.filled_by?)).filter(|(bytes, _)| *bytes > 0)
    }
}

/// What lies on a disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Taken {
    /// Images of known size.
    images_bytes: u64,
    /// What pods have written.
    pods_bytes: u64,
    /// The system's own, from the start.
    system_bytes: u64,
    /// What came from outside.
    outside_bytes: u64,
}

impl Taken {
    pub(super) fn total_bytes(self) -> u64 {
        let parts = [self.images_bytes, self.pods_bytes, self.system_bytes, self.outside_bytes];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// How it is told.
    pub(super) fn told(self, capacity_bytes: u64) -> Vec<(&'static str, Datum)> {
        let free_bytes = capacity_bytes.saturating_sub(self.total_bytes());
        let parts = [
            ("free_bytes", free_bytes),
            ("images_bytes", self.images_bytes),
            ("pods_bytes", self.pods_bytes),
            ("system_bytes", self.system_bytes),
            ("outside_bytes", self.outside_bytes),
        ];
        parts.map(|(key, bytes)| (key, number(bytes))).to_vec()
    }
}

fn number(bytes: u64) -> Datum {
    i64::try_from(bytes).unwrap_or(i64::MAX).into()
}

impl Cluster {
    /// The kubelet of a node with a disk looks at it, and at its images, from now on.
    pub(super) fn watch_disk(&self, index: usize) {
        if self.inner.state.borrow().nodes[index].spec.disk.is_none() {
            return;
        }
        self.watch_pressure(index);
        let this = self.clone();
        self.inner.sim.spawn("image-gc", async move {
            let mut phases = this.inner.streams.stream("image-gc", &this.node_name(index));
            // What a standing cluster has is there by then, and has been for long.
            this.inner.sim.sleep(Duration::from_nanos(1)).await;
            this.look_at_images(index);
            let mut wait = phases.uniform(Duration::ZERO, PERIOD);
            while this.inner.state.borrow().nodes[index].is_there() {
                this.inner.sim.sleep(wait).await;
                wait = PERIOD;
                if this.inner.state.borrow().nodes[index].is_dead() {
                    continue;
                }
                this.look_at_images(index);
                let taken = this.disk_taken(index);
                let missing = taken.and_then(|(capacity, taken)| bytes_to_free(capacity, taken.total_bytes()));
                if let Some(bytes) = missing {
                    this.remove_images(index, bytes);
                }
            }
        });
    }

    /// The size of a node's disk, and what lies on it; none if its size is not known.
    pub(super) fn disk_taken(&self, index: usize) -> Option<(u64, Taken)> {
        let pods_bytes =
            self.disk_use_on(index).iter().map(|(_, used)| used.total_bytes()).fold(0, u64::saturating_add);
        let state = self.inner.state.borrow();
        let NodeState { spec, disk, .. } = &state.nodes[index];
        let has = spec.disk?;
        let sizes = &self.inner.config.image_sizes;
        let images = state.images.present(&spec.name, self.inner.sim.now());
        let images_bytes =
            images.filter_map(|image| sizes.get(image)).fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        let (system_bytes, outside_bytes) = (has.used_bytes, disk.filled_bytes);
        Some((has.capacity_bytes, Taken { images_bytes, pods_bytes, system_bytes, outside_bytes }))
    }

    /// Who has filled most of a node's disk, the system and images left out, and the last event of that: a pod, or what came from outside.
    pub(super) fn filler_of(&self, index: usize) -> Option<(String, EventId)> {
        let used = self.disk_use_on(index);
        let state = self.inner.state.borrow();
        // Of several that take as much the first: `max_by_key` would give the last.
        let most = used.iter().rev().max_by_key(|(_, used)| used.total_bytes());
        let of_pod = most.and_then(|(id, used)| {
            let pod = state.pods.get(id)?;
            Some((used.total_bytes(), format!("Pod/{}", pod.record.key), pod.last_event))
        });
        let outside = state.nodes[index].disk.filled();
        match (of_pod, outside) {
            (Some((bytes, object, event)), outside) if outside.is_none_or(|(outside, _)| bytes > outside) => {
                Some((object, event))
            }
            (_, outside) => outside.map(|(_, event)| ("outside".to_owned(), event)),
        }
    }

    /// A kubelet looks which images its node has, and which of them its pods use.
    fn look_at_images(&self, index: usize) {
        let now = self.inner.sim.now();
        let mut state = self.inner.state.borrow_mut();
        let state = &mut *state;
        let present: BTreeSet<String> =
            state.images.present(&state.nodes[index].spec.name, now).map(str::to_owned).collect();
        let templates = state.pods.on(index).map(|(_, pod)| &pod.template);
        let used: BTreeSet<String> = templates
            .flat_map(|template| {
                let init = template.init.iter().map(|container| container.image.clone());
                init.chain(template.images()).collect::<Vec<_>>()
            })
            .collect();
        state.nodes[index].disk.records.look(now, &present, &used);
    }

    /// A kubelet removes images that nobody uses, until so many bytes are free.
    pub(super) fn remove_images(&self, index: usize, bytes: u64) {
        self.look_at_images(index);
        let now = self.inner.sim.now();
        let sizes = &self.inner.config.image_sizes;
        let size_of = |image: &str| sizes.get(image).copied().unwrap_or(0);
        let (removed, name, because) = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let node = &mut state.nodes[index];
            let removed = node.disk.records.remove(now, bytes, size_of);
            for image in &removed {
                state.images.remove(&node.spec.name, image);
                state.placing.remove_image(index, image);
            }
            (removed, Rc::clone(&node.spec.name), node.last_event())
        };
        for image in removed {
            let data = vec![("image", image.as_str().into()), ("bytes", number(size_of(&image)))];
            self.tell(because, "image_removed", format!("Node/{name}"), data);
        }
    }

    /// Something from outside fills a node's disk, for a time or for good; why it cannot, if so.
    pub(super) fn fill_disk(
        &self,
        index: usize,
        fill: Fill,
        back_after: Option<Duration>,
        because: EventId,
    ) -> Result<(), &'static str> {
        let (capacity_bytes, taken) = self.disk_taken(index).ok_or("its disk has no size")?;
        let bytes = match fill {
            Fill::By(bytes) => bytes,
            Fill::To(ppm) => {
                let wanted = u128::from(capacity_bytes) * u128::from(ppm) / 1_000_000;
                u64::try_from(wanted).expect("a part of 64 bits").saturating_sub(taken.total_bytes())
            }
        };
        let object = format!("Node/{}", self.node_name(index));
        let data = vec![
            ("bytes", number(bytes)),
            ("free_bytes", number(capacity_bytes.saturating_sub(taken.total_bytes().saturating_add(bytes)))),
        ];
        let event = self.tell(Some(because), "node_disk_filled", object.clone(), data);
        {
            let disk = &mut self.inner.state.borrow_mut().nodes[index].disk;
            disk.filled_bytes = disk.filled_bytes.saturating_add(bytes);
            disk.filled_by = Some(event);
        }
        if let Some(back_after) = back_after {
            let this = self.clone();
            self.inner.sim.spawn("disk-cleaning", async move {
                this.inner.sim.sleep(back_after).await;
                let disk = |state: &mut super::State| {
                    let disk = &mut state.nodes[index].disk;
                    disk.filled_bytes = disk.filled_bytes.saturating_sub(bytes);
                };
                disk(&mut this.inner.state.borrow_mut());
                this.tell(Some(event), "node_disk_freed", object, vec![("bytes", number(bytes))]);
            });
        }
        Ok(())
    }
}
