//! `cluster.images` and `cluster.badImages`: what is known of the images of pods.

use std::collections::BTreeSet;

use super::resolved::{list, map, text};
use super::settings::{ClusterSettings, ImageSize, Settings};
use crate::manifest::{Field, Fields, Node, Place, Problem, Sink};

/// Images of known size, and images that no node can pull, each with where it is named.
pub(super) type Images = (Vec<ImageSize>, Vec<(String, Place)>);

/// Reads both.
pub(super) fn read(cluster: Option<&Fields<'_>>) -> Option<Images> {
    let items = |key: &str| cluster.and_then(|fields| fields.get(key)).map(|field| field.items()).unwrap_or_default();
    let sized = |field: &Field<'_>| {
        let fields = field.fields()?;
        let name =
            fields.require("name", "name the image as pods do: name: gateway:1.2").and_then(|field| field.text());
        let size = fields.require("size", "write how much of a node's disk it takes: size: 300MiB");
        let bytes = size.and_then(|field| field.bytes());
        let preloaded = fields.get("preloaded").map_or(Some(false), |field| field.boolean());
        fields.finish();
        Some(ImageSize { name: name?.to_owned(), bytes: bytes?, is_preloaded: preloaded?, at: field.place() })
    };
    let sizes: Vec<Option<ImageSize>> = items("images").iter().map(sized).collect();
    let bad = items("badImages").iter().filter_map(|field| Some((field.text()?.to_owned(), field.place()))).collect();
    Some((sizes.into_iter().collect::<Option<_>>()?, bad))
}

/// An image that is described, and that nobody asks for, is a slip of the pen.
pub(super) fn check(settings: &Settings, images: &BTreeSet<String>, sink: &Sink) {
    let bad = settings.cluster.bad_images.iter().map(|(image, place)| (image, *place, "spec.cluster.badImages"));
    let sized = settings.cluster.images.iter().map(|image| (&image.name, image.at, "spec.cluster.images"));
    for (image, place, path) in bad.chain(sized).filter(|(image, ..)| !images.contains(*image)) {
        let problem = Problem::at(place, path, format!("no pod ever asks for `{image}`"));
        sink.report(problem.did_you_mean(image, images.iter().map(String::as_str)));
    }
}

/// Both, as a scenario says them.
pub(super) fn written(cluster: &ClusterSettings) -> [(&'static str, Node); 2] {
    let sized = |image: &ImageSize| {
        let mut entries = vec![("name", text(&image.name)), ("size", text(&format!("{}B", image.bytes)))];
        entries.extend(image.is_preloaded.then(|| ("preloaded", Node::boolean(Place::NOWHERE, true))));
        map(entries)
    };
    [
        ("images", list(cluster.images.iter().map(sized).collect())),
        ("badImages", list(cluster.bad_images.iter().map(|(image, _)| text(image)).collect())),
    ]
}
