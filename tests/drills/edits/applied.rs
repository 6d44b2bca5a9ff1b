//! What `kubectl apply` of a Deployment does to what it had: fields that are not written any more, and those that are written as they were by default.

use super::deployments::{drill, end};

/// Applies the Deployment at this second, with these replicas and so much more in its template and its container.
fn apply(at: &str, replicas: &str, template: &str, container: &str) -> String {
    format!(
        "{{ at: {at}, apply: {{ inline: {{ apiVersion: apps/v1, kind: Deployment, metadata: {{ name: edge, namespace: istio-system }}, spec: {{ {replicas} \
         selector: {{ matchLabels: {{ istio: edge }} }}, strategy: {{ rollingUpdate: {{ maxSurge: 1, maxUnavailable: 0 }} }}, template: {{ \
         metadata: {{ labels: {{ istio: edge }} }}, spec: {{ {template} containers: [ {{ name: istio-proxy, image: \"proxy:1\", {container} \
         ports: [ {{ containerPort: 80 }} ] }} ] }} }} }} }} }} }}"
    )
}

fn ends(timeline: &[&str]) -> (usize, Option<String>) {
    end(&drill(timeline).run().run.results)
}

fn revision(number: u32) -> Option<String> {
    Some(number.to_string())
}

#[test]
fn replicas_that_are_not_written_any_more_fall_back_to_one() {
    let without = apply("20s", "", "", "");
    assert_eq!(ends(&[&without]), (1, revision(1)));
    // Whatever the size was by then.
    assert_eq!(ends(&["{ at: 5s, scale: { replicas: 5 } }", &without]), (1, revision(1)));
    // Who never wrote them keeps the size that somebody else wrote.
    let again = apply("40s", "", "", "env: [ { name: A, value: b } ],");
    assert_eq!(ends(&[&without, "{ at: 30s, scale: { replicas: 4 } }", &again]), (4, revision(2)));
    assert_eq!(ends(&[&apply("20s", "replicas: 3,", "", "")]), (3, revision(1)));
}

#[test]
fn a_field_that_was_set_between_two_manifests_stays_unless_the_first_wrote_it() {
    let grace = "{ at: 20s, set: { target.spec.template.spec.terminationGracePeriodSeconds: 50 } }";
    let with =
        |at: &str, seconds: u32| apply(at, "replicas: 2,", &format!("terminationGracePeriodSeconds: {seconds},"), "");
    let without = apply("40s", "replicas: 2,", "", "");
    // The manifest never said it: the second writes the same, so nothing rolls but for the edit, and the sizes differ to have something to do.
    assert_eq!(ends(&[grace, &apply("40s", "replicas: 3,", "", "")]), (3, revision(2)));
    // It said it, and leaves it out then: 30 s again, which is a third revision.
    assert_eq!(ends(&[&with("5s", 40), grace, &without]).1, revision(4));
}

#[test]
fn defaults_that_are_written_out_roll_nothing() {
    let defaults = "restartPolicy: Always, dnsPolicy: ClusterFirst, schedulerName: default-scheduler, securityContext: {}, tolerations: [],";
    let container = "imagePullPolicy: IfNotPresent, terminationMessagePath: /dev/termination-log, terminationMessagePolicy: File, stdin: false,";
    assert_eq!(ends(&[&apply("20s", "replicas: 3,", defaults, container)]), (3, revision(1)));
    // What only looks like a default makes a revision.
    assert_eq!(ends(&[&apply("20s", "replicas: 3,", "affinity: {},", "")]), (3, revision(2)));
    assert_eq!(ends(&[&apply("20s", "replicas: 3,", "", "imagePullPolicy: Always,")]), (3, revision(2)));
}

#[test]
fn who_is_paused_is_not_restarted_and_has_its_pods() {
    let refused = drill(&["{ at: 5s, pause: {} }", "{ at: 10s, restart: {} }"]).load().expect_err("kubectl refuses it");
    assert!(refused.contains("istio-system/edge is paused then") && refused.contains("resume it first"), "{refused}");
    let mut paused = drill(&["{ at: 10s, set: { target.spec.template.spec.terminationGracePeriodSeconds: 50 } }"]);
    let text = paused.manifest.replace("  replicas: 2\n", "  replicas: 2\n  paused: true\n");
    paused.manifest = Box::leak(text.into_boxed_str());
    let outcome = paused.run();
    assert_eq!((end(&outcome.run.results), outcome.run.results.totals.dropped), ((2, revision(1)), 0));
    paused.timeline.push("{ at: 20s, resume: {} }".to_owned());
    assert_eq!(end(&paused.run().run.results), (2, revision(2)));
}
