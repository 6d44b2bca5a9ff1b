//! The steps of a case: what its set-up and its actions do.

use std::time::Duration;

use gatedrill::manifest::{Files, Sink, autoscaler, deployment, disruption_budget, object, yaml};
use serde_json::{Value, json};

use super::case::Case;
use super::eviction::Asked;
use super::world::World;

/// Sets up a case, carries out its actions, and lets it go on for as long as it was recorded.
pub(crate) fn replay(case: &Case) -> World {
    replay_with(case, |_| {})
}

/// The same on a cluster that is made ready for it first.
pub(crate) fn replay_with(case: &Case, prepare: impl FnOnce(&World)) -> World {
    let inputs = &case.json["inputs"];
    let mut world = World::new(case);
    prepare(&world);
    for step in inputs["setup"].as_array().expect("steps") {
        carry_out(&mut world, step);
    }
    assert!(world.sim.now() <= world.trigger, "{}: the set-up ends {} ms late", case.name, world.now_ms());
    world.run_to(world.trigger);
    world.start_recording();
    for step in inputs["actions"].as_array().expect("steps") {
        world.run_to(world.trigger.after(seconds(&step["at"])));
        carry_out(&mut world, step);
    }
    world.run_to(world.trigger.after(seconds(&case.json["measured"]["recorded_s"])));
    world
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs_f64(value.as_f64().expect("a number of seconds"))
}

fn count(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a count")).expect("a small count")
}

/// Carries out one step.
fn carry_out(world: &mut World, step: &Value) {
    match step["do"].as_str().expect("a verb") {
        "create" => create(world, &step["manifest"]),
        "image" => {
            edit(world, &[("/spec/template/spec/containers/0/image", &step["image"])]);
        }
        "scale" => edit(world, &[("/spec/replicas", &step["replicas"])]),
        "patch" => patch(world, &step["patch"]),
        "set_ready" => world.cluster.report_ready(id(&step["pod"]), step["ready"] == true),
        "restart" => {
            let restarts = u32::try_from(count(&step["count"])).expect("few restarts");
            world.cluster.report_restarts(id(&step["pod"]), restarts);
        }
        "delete_pod" => {
            let pods = world.cluster.all_pod_views();
            let pod = pods.iter().find(|pod| pod.id == id(&step["pod"])).expect("the pod is there");
            let namespace = pod.owner.split('/').next().expect("a namespace");
            assert!(world.cluster.delete_pod_named(&format!("{namespace}/{}", pod.name), None));
        }
        "evict" => {
            let pods = world.cluster.all_pod_views();
            let mut living = pods.iter().filter(|pod| !pod.is_deleting);
            let pod = match &step["pod"] {
                Value::String(word) if word == "ready" => living.find(|pod| pod.is_ready),
                Value::String(word) if word == "pending" => living.find(|pod| pod.status == "Pending"),
                ordinal => living.find(|pod| pod.id == id(ordinal)),
            };
            let id = pod.expect("the pod is there").id;
            evict(world, id);
        }
        "drain" => drain(world, step),
        "cordon" => {
            let node = step["node"].as_str().expect("a name");
            assert!(world.cluster.cordon(node, step["on"] == true), "no node is called {node}");
        }
        "add_pod" => add_pod(world, step),
        "uncordon_all" => cordon_all_but(world, None),
        "sleep" => world.pass(seconds(&step["s"])),
        "wait_settled" => {
            let wanted = count(&step["n"]);
            world.wait(|world| is_settled(world, wanted));
        }
        "wait_pods" => {
            let wanted = count(&step["n"]);
            world.wait(|world| world.cluster.all_pod_views().len() == wanted);
        }
        other => panic!("nobody carries out `{other}`"),
    }
}

fn id(ordinal: &Value) -> u64 {
    ordinal.as_u64().expect("an ordinal") - 1
}

fn is_settled(world: &World, wanted: usize) -> bool {
    let pods = world.cluster.all_pod_views();
    let views = world.cluster.deployment_keys();
    let available: i32 =
        views.iter().filter_map(|key| world.cluster.deployment_view(key)).map(|view| view.status.available).sum();
    pods.len() == wanted
        && pods.iter().all(|pod| pod.is_ready && !pod.is_deleting)
        && usize::try_from(available) == Ok(wanted)
}

fn add_pod(world: &mut World, step: &Value) {
    let before = world.kubelet.bound_count.get();
    cordon_all_but(world, step["node"].as_str());
    let replicas = world.manifests["web"]["spec"]["replicas"].as_u64().expect("a count") + 1;
    edit(world, &[("/spec/replicas", &replicas.into())]);
    if step["no_wait"] == true {
        world.wait(|world| world.kubelet.bound_count.get() > before);
    } else {
        let wanted = before + 1;
        world.wait(|world| world.kubelet.bound_count.get() == wanted && is_settled(world, wanted));
    }
}

/// One request; whether the pod is evicted.
fn evict(world: &mut World, id: u64) -> bool {
    let code = world.cluster.evict_pod(id).expect("the pod is there");
    world.asked.push(Asked { at_ms: world.now_ms(), code });
    code == 201
}

/// Evicts the pods of a node one after the other; who is refused is asked again.
fn drain(world: &mut World, step: &Value) {
    let deadline = world.sim.now().after(seconds(&step["timeout_s"]));
    let pods = world.cluster.all_pod_views();
    let on_it = pods.iter().filter(|pod| pod.node.as_deref() == step["node"].as_str() && !pod.is_deleting);
    let mut waiting: Vec<u64> = on_it.map(|pod| pod.id).collect();
    while !waiting.is_empty() && world.sim.now() < deadline {
        waiting.retain(|id| !evict(world, *id));
        if !waiting.is_empty() {
            world.pass(seconds(&step["retry_s"]));
        }
    }
}

/// Keeps pods off all nodes but one, or off none.
fn cordon_all_but(world: &World, node: Option<&str>) {
    for name in world.cluster.node_names() {
        world.cluster.cordon(&name, node.is_some_and(|node| *node != *name));
    }
}

/// Writes values into the Deployment `web`.
fn edit(world: &mut World, values: &[(&str, &Value)]) {
    let manifest = world.manifests.get_mut("web").expect("the Deployment is there");
    for (pointer, value) in values {
        *manifest.pointer_mut(pointer).expect("the field is there") = (*value).clone();
    }
    let manifest = manifest.clone();
    apply(world, &manifest);
}

/// A merge patch of the Deployment `web`.
fn patch(world: &mut World, patch: &Value) {
    fn merge(into: &mut Value, patch: &Value) {
        let Some(entries) = patch.as_object() else {
            *into = patch.clone();
            return;
        };
        if !into.is_object() {
            *into = json!({});
        }
        for (key, value) in entries {
            if value.is_null() {
                into.as_object_mut().expect("an object").remove(key);
            } else {
                merge(&mut into[key], value);
            }
        }
    }
    let mut manifest = world.manifests["web"].clone();
    merge(&mut manifest, patch);
    world.manifests.insert("web".to_owned(), manifest.clone());
    apply(world, &manifest);
}

fn create(world: &mut World, manifest: &Value) {
    let name = manifest["metadata"]["name"].as_str().expect("a name").to_owned();
    if manifest["kind"] == "Deployment" {
        world.manifests.insert(name, manifest.clone());
    }
    apply(world, manifest);
}

/// Reads a manifest as the tool reads it, and applies it.
fn apply(world: &World, manifest: &Value) {
    let (mut files, sink) = (Files::default(), Sink::default());
    let text = manifest.to_string();
    let file_index = files.add("manifest.json", &text);
    let (nodes, problems) = yaml::parse(&text, file_index);
    assert!(problems.is_empty(), "{problems:?}");
    for object in object::objects(nodes, &sink) {
        match object.id.kind.as_str() {
            "Deployment" => {
                let read = deployment::read(&object, &sink).expect("it is read");
                world.cluster.apply_deployment(read.deployment, None);
            }
            "HorizontalPodAutoscaler" => {
                let read = autoscaler::read(&object, &sink).expect("it is read");
                world.cluster.apply_autoscaler(read.spec, None);
            }
            "PodDisruptionBudget" => {
                let read = disruption_budget::read(&object, &sink).expect("it is read");
                world.cluster.apply_budget(read);
            }
            other => panic!("nobody applies a {other}"),
        }
    }
    assert_eq!(sink.problem_count(), 0, "{:?}", sink.take_problems());
}
