//! Deployments that one entry of the timeline edits after another: the last write wins, and what has been comes back.

use super::*;

const DEPLOYMENT: &str = concat!(
    r#"apiVersion: apps/v1
kind: Deployment
metadata: { name: edge, namespace: istio-system }
spec:
  replicas: 2
  selector: { matchLabels: { istio: edge } }
  strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }
  template:
    metadata: { labels: { istio: edge } }
    spec:
      containers: [ { name: istio-proxy, image: "proxy:1", ports: [ { containerPort: 80 } ] } ]
---
apiVersion: v1
kind: Service
metadata: { name: edge, namespace: istio-system }
spec: { SERVICE, selector: { istio: edge }, ports: [ { name: http, port: 80 }, { name: alt, port: 8080 } ] }
"#,
    shop_of_istio_edge!(with "    - { port: { number: 8080, name: alt, protocol: HTTP }, hosts: [\"shop.example.com\"] }\n")
);

/// The Deployment as it is written above.
pub(super) fn drill(timeline: &[&str]) -> Drill {
    let mut drill = Drill::new(timeline);
    drill.manifest = DEPLOYMENT;
    drill.service = "type: LoadBalancer".to_owned();
    drill
}

/// Pods that there are at the end, and the revision of the last one made.
pub(super) fn end(results: &Results) -> (usize, Option<String>) {
    let there = results.pods.iter().filter(|pod| pod.terminating_ms.is_none());
    let last = results.pods.iter().max_by_key(|pod| pod.created_ms);
    (there.count(), last.map(|pod| pod.revision.to_string()))
}

const IMAGE: &str = "spec.template.spec.containers[0].image";

#[test]
fn a_deployment_that_was_scaled_is_set_to_another_size() {
    let set = "{ at: 20s, set: { Deployment/istio-system/edge.spec.replicas: 3 } }";
    let both = "{ at: 20s, set: { Deployment/istio-system/edge.spec.replicas: 3, \
                Deployment/edge.spec.template.spec.terminationGracePeriodSeconds: 50 } }";
    for (timeline, pods) in [
        (vec!["{ at: 5s, scale: { replicas: 5 } }"], 5),
        (vec!["{ at: 5s, scale: { replicas: 5 } }", set], 3),
        (vec!["{ at: 5s, scale: { replicas: 5 } }", both], 3),
        (vec!["{ at: 5s, set: { target.spec.replicas: 5 } }", set], 3),
        (vec![set, "{ at: 40s, scale: { replicas: 1 } }"], 1),
    ] {
        assert_eq!(end(&drill(&timeline).run().run.results).0, pods, "{timeline:?}");
    }
}

#[test]
fn an_image_is_set_over_another_and_over_a_rollback() {
    let set =
        |at: u32, of: &str, image: u32| format!("{{ at: {at}s, set: {{ \"{of}.{IMAGE}\": \"proxy:{image}\" }} }}");
    let (target, object) = ("target", "Deployment/istio-system/edge");
    for (timeline, revision) in [
        (vec![set(5, target, 2), set(30, object, 3)], "3"),
        (vec![set(5, object, 2), set(30, target, 3)], "3"),
        (vec![set(5, object, 2), "{ at: 20s, rollback: {} }".to_owned(), set(40, object, 3)], "4"),
    ] {
        let timeline: Vec<&str> = timeline.iter().map(String::as_str).collect();
        let results = drill(&timeline).run().run.results;
        assert_eq!(end(&results), (2, Some(revision.to_owned())), "{timeline:?}");
        assert_eq!(results.rollouts.len(), timeline.len(), "{timeline:?}");
    }
    // What is set to what it is by then changes nothing.
    let same = drill(&[&set(5, target, 2), &set(30, object, 2)]).run();
    assert!(warnings(&same).contains("unchanged"), "{}", warnings(&same));
    assert_eq!(same.run.results.rollouts.len(), 1);
}

#[test]
fn what_is_set_before_the_start_loses_to_what_is_applied_later() {
    let ran = |set: &[&str], timeline: &[&str]| {
        let drill = drill(timeline);
        let set: Vec<String> = set.iter().map(|text| (*text).to_owned()).collect();
        let manifest = DEPLOYMENT.replace("SERVICE", &drill.service);
        ran(loaded(&drill.text(), &manifest, &set, None)).run.results
    };
    let image = format!("target.{IMAGE}=proxy:9");
    let hook = "target.spec.template.spec.containers[0].lifecycle={ preStop: { sleep: { seconds: 6 } } }";
    let written = DEPLOYMENT.split("---").next().expect("the Deployment").replace("proxy:1", "proxy:2");
    let applied: Vec<String> = written.lines().map(|line| format!("          {line}")).collect();
    let apply = format!("at: 20s\n      apply:\n        inline:\n{}", applied.join("\n"));
    // One more revision, of the image that was applied last.
    let results = ran(&[&image], &[&apply]);
    assert_eq!((results.rollouts.len(), end(&results)), (1, (2, Some("2".to_owned()))));
    let back = apply.replace("proxy:2", "proxy:9");
    assert_eq!(ran(&[&image], &[&back]).rollouts.len(), 0, "it is that one already");
    assert_eq!(ran(&[], &[&back]).rollouts.len(), 1);
    // What the manifest does not write stays as it was set.
    let waits = |set: &[&str]| -> Vec<u64> {
        let results = ran(set, &[&apply]);
        let ended = |pod: &gatedrill::record::results::Pod| Some((pod.sigterm_ms? - pod.terminating_ms?) / 1000);
        results.pods.iter().filter_map(ended).collect()
    };
    assert_eq!((waits(&[]), waits(&[hook])), (vec![0, 0], vec![6, 6]));
}

#[test]
fn a_gateway_that_is_made_anew_wins_over_what_it_writes_differently() {
    let edit = "{ at: 40s, set: { IstioGateway/edge.spec.resources.limits.cpu: \"3\" } }";
    let timeline = ["{ at: 5s, restart: {} }", "{ at: 20s, rollback: {} }", edit];
    let results = Drill::new(&timeline).run().run.results;
    assert_eq!((results.rollouts.len(), end(&results).0), (3, 2));
    // A mark of a restart is none of the gateway's: it stays, and one more makes one more rollout.
    let timeline = ["{ at: 5s, restart: {} }", edit];
    assert_eq!(Drill::new(&timeline).run().run.results.rollouts.len(), 2);
}

#[test]
fn a_rollback_in_the_middle_goes_back_to_a_set_that_is_still_there() {
    let limit = "{ at: 1s, set: { Deployment/edge.spec.revisionHistoryLimit: 0 } }";
    let image = format!("{{ at: 5s, set: {{ \"target.{IMAGE}\": \"proxy:2\" }} }}");
    let results = drill(&[limit, &image, "{ at: 7s, rollback: {} }"]).run().run.results;
    let old = results.pods.iter().filter(|pod| pod.created_ms == 0 && pod.terminating_ms.is_none());
    assert_eq!((old.count(), end(&results).0), (2, 2), "the old pods are revived");
    let late = drill(&[limit, &image, "{ at: 50s, rollback: {} }"]).load().map(|_| ());
    let late = late.expect_err("the set has been deleted by then");
    assert!(late.contains("has no revision to go back to then"), "{late}");
}

#[test]
fn edits_of_one_instant_make_one_revision() {
    let image = |at: u32, number: u32| format!("{{ at: {at}s, set: {{ \"target.{IMAGE}\": \"proxy:{number}\" }} }}");
    let to = |revision: u32| format!("{{ at: 40s, rollback: {{ toRevision: {revision} }} }}");
    let load = |second: u32, revision: u32| drill(&[&image(5, 2), &image(second, 3), &to(revision)]).load().map(|_| ());
    assert!(load(5, 1).is_ok(), "the first one is there");
    let current = drill(&[&image(5, 2), &image(5, 3), &to(2)]).run();
    assert!(warnings(&current).contains("skipped rollback"), "{}", warnings(&current));
    let problems = load(5, 3).expect_err("there is none");
    assert!(problems.contains("has no revision 3 then") && problems.contains("there: 1, 2"), "{problems}");
    assert!(load(6, 2).is_ok(), "a second later it is another one");
}

#[test]
fn no_edit_gives_an_object_another_name() {
    for path in ["target.metadata.name", "Deployment/edge.metadata.namespace", "target.kind", "target.metadata"] {
        let timeline = [format!("{{ at: 5s, set: {{ {path}: x }} }}")];
        let problems = drill(&[&timeline[0]]).load().map(|_| ()).expect_err(path);
        assert!(problems.contains("cannot make another object") && problems.contains("metadata.labels"), "{problems}");
    }
    assert!(drill(&["{ at: 5s, set: { target.spec.template.metadata.labels.x: z } }"]).load().is_ok());
}

#[test]
fn an_image_that_the_injector_gives_later_counts_for_pods_that_start_later() {
    let config = "---\napiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: { name: all, namespace: istio-system }\n\
                  spec: { image: { imageType: IMAGE } }\n";
    let hook = "lifecycle: { preStop: { exec: { command: [ sleep, \"6\" ] } } }, ports: [ { containerPort: 80 } ]";
    let ran = |first: &str, timeline: &[&str]| {
        let mut drill = drill(timeline);
        drill.manifest = Box::leak(DEPLOYMENT.replace("ports: [ { containerPort: 80 } ]", hook).into_boxed_str());
        drill.more = config.replace("IMAGE", first);
        let outcome = drill.run();
        let waited = |pod: &gatedrill::record::results::Pod| Some((pod.sigterm_ms? - pod.terminating_ms?) / 1000);
        let waits: Vec<u64> = outcome.run.results.pods.iter().filter_map(waited).collect();
        (outcome.run.results.rollouts.len(), waits, count(&outcome, "prestop_failed"))
    };
    let edit =
        |to: &str| format!("{{ at: 5s, set: {{ \"ProxyConfig/istio-system/all.spec.image.imageType\": {to} }} }}");
    let (first, second) = ("{ at: 8s, restart: {} }", "{ at: 35s, restart: {} }");
    // The edit rolls nothing. Pods of before it have the program of their hook, those of after it do not.
    assert_eq!(ran("default", &[&edit("distroless")]), (0, vec![], 0));
    assert_eq!(ran("default", &[&edit("distroless"), first, second]), (2, vec![6, 6, 0, 0], 2));
    assert_eq!(ran("distroless", &[&edit("default"), first, second]), (2, vec![0, 0, 6, 6], 2));
    assert_eq!(ran("distroless", &[first]), (1, vec![0, 0], 2));
    assert_eq!(ran("default", &[first]), (1, vec![6, 6], 0));
}

#[test]
fn another_deployment_that_comes_is_no_other_gateway() {
    let other = "{ apiVersion: apps/v1, kind: Deployment, metadata: { name: batch, namespace: default }, spec: { replicas: 1, selector: { matchLabels: { app: batch } }, \
                 template: { metadata: { labels: { app: batch } }, spec: { containers: [ { name: batch, image: batch } ] } } } }";
    let outcome = drill(&[&format!("{{ at: 5s, apply: {{ inline: {other} }} }}")]).run();
    check_lost(&outcome, &[], 0);
    let made =
        outcome.log.events().iter().filter(|event| event.kind == "pod_created" && event.object.contains("batch"));
    assert_eq!(made.count(), 1);
    // From the start on nobody knows which of the two is meant.
    let mut both = drill(&[]);
    both.more = format!("---\n{other}\n");
    assert!(both.load().err().is_some_and(|told| told.contains("there are 2 gateways")));
}
