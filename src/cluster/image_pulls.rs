//! Images of nodes: which are there, and when those come that are asked for.
//!
//! A kubelet pulls one image after the other, in the order in which they were asked for. A container that finds its image missing waits for its
//! turn, even if another one's pull brings the image before: then its turn takes no time. A pull goes on whatever becomes of the pod, and ends with its machine.
//! Preloaded images are part of every machine from its first boot on, until they are removed from it.
//! Source: Kubernetes v1.28.7 pkg/kubelet/images/{image_manager,puller}.go (`serialImagePuller`); `serializeImagePulls` is true unless configured.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::units::SimTime;

/// The images of all nodes.
#[derive(Default)]
pub(super) struct ImagePulls {
    nodes: BTreeMap<Rc<str>, NodeImages>,
    preloaded: BTreeSet<String>,
}

#[derive(Default)]
struct NodeImages {
    /// When each image was there, or will be.
    there_at: BTreeMap<String, SimTime>,
    /// When the last pull that was asked for is over.
    free_at: SimTime,
    /// How often each was removed.
    removals: BTreeMap<String, u32>,
}

impl ImagePulls {
    /// No images but those that every node has from the start.
    pub(super) fn new(preloaded: BTreeSet<String>) -> Self {
        Self { preloaded, nodes: BTreeMap::new() }
    }

    /// Whether a node has an image that nobody had to pull there.
    fn is_preloaded(&self, node: &str, image: &str) -> bool {
        let is_removed = || self.nodes.get(node).is_some_and(|node| node.removals.contains_key(image));
        self.preloaded.contains(image) && !is_removed()
    }

    /// A container asks for its image; when it may go on. `pull` says how long the image takes, if it is the first to ask since the image was removed so often.
    pub(super) fn ask(
        &mut self,
        node: &Rc<str>,
        image: &str,
        now: SimTime,
        pull: impl FnOnce(u32) -> Duration,
    ) -> SimTime {
        if self.is_preloaded(node, image) {
            return now;
        }
        let node = self.nodes.entry(Rc::clone(node)).or_default();
        let known = node.there_at.get(image).copied();
        if known.is_some_and(|at| at <= now) {
            return now;
        }
        let turn = node.free_at.max(now);
        if known.is_none() {
            let removals = node.removals.get(image).copied().unwrap_or(0);
            node.free_at = turn.after(pull(removals));
            node.there_at.insert(image.to_owned(), node.free_at);
        }
        // Of an image on its way the pull is before this turn.
        node.free_at
    }

    /// Whether a node has an image now.
    pub(super) fn has(&self, node: &str, image: &str, now: SimTime) -> bool {
        let there_at = self.nodes.get(node).and_then(|node| node.there_at.get(image));
        there_at.is_some_and(|at| *at <= now) || self.is_preloaded(node, image)
    }

    /// A pull that takes so long and brings nothing; when it is over.
    pub(super) fn fail(&mut self, node: &Rc<str>, now: SimTime, takes: Duration) -> SimTime {
        let node = self.nodes.entry(Rc::clone(node)).or_default();
        node.free_at = node.free_at.max(now).after(takes);
        node.free_at
    }

    /// The images that a node has.
    pub(super) fn present<'a>(&'a self, node: &'a str, now: SimTime) -> impl Iterator<Item = &'a str> {
        let known = self.nodes.get(node).into_iter().flat_map(|node| &node.there_at);
        let pulled = known.filter(move |(_, at)| **at <= now).map(|(image, _)| image.as_str());
        let preloaded = self.preloaded.iter().map(String::as_str);
        pulled.chain(preloaded.filter(move |image| self.is_preloaded(node, image)))
    }

    /// An image is removed: whoever needs it next pulls it anew.
    pub(super) fn remove(&mut self, node: &str, image: &str) {
        let is_preloaded = self.is_preloaded(node, image);
        if is_preloaded {
            self.nodes.entry(Rc::from(node)).or_default();
        }
        if let Some(node) = self.nodes.get_mut(node)
            && (node.there_at.remove(image).is_some() || is_preloaded)
        {
            *node.removals.entry(image.to_owned()).or_default() += 1;
        }
    }

    /// A machine died: what it had by then is all that it has when it boots.
    pub(super) fn interrupt(&mut self, node: &str, died_at: SimTime) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.there_at.retain(|_, at| *at <= died_at);
            node.free_at = node.free_at.min(died_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn one_image_after_the_other_and_each_once() {
        let (one, two) = (Rc::<str>::from("node-1"), Rc::<str>::from("node-2"));
        let mut pulls = ImagePulls::default();
        let mut ask = |node: &Rc<str>, image: &str, now: u64| {
            let there_at = pulls.ask(node, image, at(now), |_| Duration::from_secs(20));
            there_at.since(SimTime::ZERO).as_secs()
        };
        // (node, image, asked, there): all in the order of their asking.
        for (node, image, now, expected) in [
            (&one, "web:2", 10, 30),
            (&one, "api:2", 10, 50),
            // Another node pulls for itself.
            (&two, "api:2", 10, 30),
            // It is there at 30 s, but this container's turn comes after the second pull.
            (&one, "web:2", 29, 50),
            // Who asks when it is there waits for nobody.
            (&one, "web:2", 30, 30),
            (&one, "api:2", 49, 50),
            (&one, "api:2", 60, 60),
            (&one, "log:1", 60, 80),
        ] {
            assert_eq!(ask(node, image, now), expected, "{node} {image} at {now} s");
        }
    }

    #[test]
    fn a_failure_takes_its_turn_and_a_dead_machine_forgets_what_was_on_its_way() {
        let node: Rc<str> = Rc::from("node-1");
        let mut pulls = ImagePulls::default();
        let pull = |_: u32| Duration::from_secs(20);
        assert_eq!(pulls.fail(&node, at(0), Duration::from_secs(5)), at(5));
        assert_eq!(pulls.ask(&node, "web:1", at(1), pull), at(25));
        assert_eq!(pulls.ask(&node, "web:2", at(1), pull), at(45));
        let has = |image: &str, second: u64| pulls.has("node-1", image, at(second));
        assert_eq!((has("web:1", 24), has("web:1", 25), has("web:3", 99)), (false, true, false));
        pulls.interrupt("node-1", at(30));
        pulls.interrupt("node-2", at(30));
        assert_eq!(pulls.ask(&node, "web:1", at(40), pull), at(40));
        assert_eq!(pulls.ask(&node, "web:2", at(40), pull), at(60));
    }

    #[test]
    fn what_was_removed_is_pulled_anew() {
        let node: Rc<str> = Rc::from("node-1");
        let mut pulls = ImagePulls::default();
        let pull = |removals: u32| Duration::from_secs(10 + u64::from(removals));
        assert_eq!(pulls.ask(&node, "web:1", at(0), pull), at(10));
        let present = |pulls: &ImagePulls, now| pulls.present("node-1", at(now)).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!((present(&pulls, 9), present(&pulls, 10)), (vec![], vec!["web:1".to_owned()]));
        pulls.remove("node-1", "web:1");
        pulls.remove("node-1", "web:9");
        assert_eq!(present(&pulls, 20), Vec::<String>::new());
        assert_eq!(pulls.ask(&node, "web:1", at(20), pull), at(31));
    }

    #[test]
    fn what_is_preloaded_is_there_until_it_is_removed() {
        let node: Rc<str> = Rc::from("node-1");
        let mut pulls = ImagePulls::new(BTreeSet::from(["web:1".to_owned()]));
        let pull = |_: u32| Duration::from_secs(10);
        assert_eq!(pulls.ask(&node, "web:1", at(0), pull), at(0));
        assert_eq!(pulls.ask(&node, "web:2", at(0), pull), at(10));
        pulls.interrupt("node-1", at(5));
        assert_eq!(pulls.present("node-1", at(20)).collect::<Vec<_>>(), ["web:1"]);
        pulls.remove("node-1", "web:1");
        assert!(!pulls.has("node-1", "web:1", at(20)) && pulls.has("node-2", "web:1", at(20)));
        assert_eq!(pulls.ask(&node, "web:1", at(20), pull), at(30));
        assert!(pulls.has("node-1", "web:1", at(30)));
    }
}
