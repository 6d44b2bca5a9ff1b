//! What nobody checks when it is applied to a cluster that runs: routes to what is not there, Gateways for no pod, edits that change nothing.

use super::{Drill, check_lost, check_quiet, count, servers, warnings};
use gatedrill::drill::Outcome;
use gatedrill::record::Source;

/// The VirtualService is edited.
fn route(at: &str, path: &str, value: &str) -> String {
    format!("{{ at: {at}, set: {{ \"VirtualService/default/shop.spec.{path}\": {value} }} }}")
}

/// The Gateway with this selector, as an entry of the timeline.
fn selector(at: &str, labels: &str) -> String {
    servers(at, &[80, 8080]).replace("selector: { istio: edge }", &format!("selector: {labels}"))
}

/// What the first cause goes back to.
fn source(outcome: &Outcome) -> Source {
    outcome.run.results.causes[0].source.clone().expect("the line of the edit")
}

const HOST: &str = "http[0].route[0].destination.host";
/// 100/s from 200 ms after 20 s on, to the end.
const REST: u64 = 3980;

#[test]
fn a_slip_of_the_pen_in_a_route_is_answered_with_503_by_the_gateway() {
    let edit = route("20s", HOST, "wbe");
    let drill = Drill::new(&[&edit]);
    let outcome = drill.run();
    check_lost(&outcome, &[("GD4206", REST)], 4);
    check_quiet(&outcome);
    let found = source(&outcome);
    assert_eq!((found.line, found.path.as_str()), (Some(drill.line("at: 20s")), "spec.http.route.destination"));
    assert_eq!(found.value.as_deref(), Some("outbound|80||wbe.default.svc.cluster.local"));
    assert!(warnings(&outcome).contains("Referenced host not found: \"wbe\" (IST0101)"), "{}", warnings(&outcome));
    assert_eq!(outcome.run.results.totals.gateway_error, outcome.run.results.totals.dropped);
    // Mended, it serves again.
    check_lost(&Drill::new(&[&edit, &route("30s", HOST, "web")]).run(), &[("GD4206", 1000)], 4);
    // Half a name is a whole one to Istio.
    let half = Drill::new(&[&route("20s", HOST, "web.default")]).run();
    check_lost(&half, &[("GD4206", REST)], 4);
    // Applied with the scenario, it is refused: nobody wants to drill that.
    let mut early = Drill::new(&[]);
    early.manifest = Box::leak(super::MANIFEST.replace("host: web", "host: wbe").into_boxed_str());
    assert!(early.load().err().is_some_and(|told| told.contains("no Service is called `default/wbe`")));
}

#[test]
fn a_share_of_a_route_that_leads_nowhere_is_lost_and_no_more() {
    let shares = "[ { weight: 75, destination: { host: web } }, { weight: 25, destination: { host: wbe } } ]";
    let outcome = Drill::new(&[&route("20s", "http[0].route", shares)]).run();
    let lost = outcome.run.results.totals.dropped;
    check_lost(&outcome, &[("GD4206", lost)], 0);
    // A quarter of 3,980: 995, give or take four standard deviations of 27.
    assert!(lost.abs_diff(995) <= 109, "{lost}");
}

#[test]
fn a_port_or_a_subset_that_nobody_has_is_a_cluster_that_is_not_there() {
    for (path, value, told, cluster) in [
        (
            "http[0].route[0].destination",
            "{ host: web, port: { number: 81 } }",
            "Referenced host:port not found: \"web:81\" (IST0101)",
            "outbound|81||web.default.svc.cluster.local",
        ),
        (
            "http[0].route[0].destination",
            "{ host: web, subset: v3 }",
            "Referenced host+subset in destinationrule not found: \"web+v3\" (IST0101)",
            "outbound|80|v3|web.default.svc.cluster.local",
        ),
    ] {
        let outcome = Drill::new(&[&route("20s", path, value)]).run();
        check_lost(&outcome, &[("GD4206", REST)], 4);
        assert!(warnings(&outcome).contains(told), "{value}: {}", warnings(&outcome));
        assert_eq!(source(&outcome).value.as_deref(), Some(cluster));
    }
}

#[test]
fn a_rule_that_goes_takes_the_clusters_of_its_subsets_along() {
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: web, namespace: default }\n\
                spec: { host: web, subsets: [ { name: v1, labels: { app: web } } ] }\n";
    let with = |timeline: &[&str]| {
        let mut drill = Drill::new(timeline);
        drill.manifest = Box::leak(super::MANIFEST.replace("host: web", "host: web, subset: v1").into_boxed_str());
        drill.more = rule.to_owned();
        drill
    };
    let renamed = with(&["{ at: 20s, set: { \"DestinationRule/default/web.spec.subsets[0].name\": v2 } }"]);
    let outcome = renamed.run();
    check_lost(&outcome, &[("GD4206", REST)], 4);
    let found = source(&outcome);
    assert_eq!((found.line, found.path.as_str()), (Some(renamed.line("at: 20s")), "spec.subsets"));
    let deleted = with(&["{ at: 20s, delete: { destinationRule: default/web } }"]);
    let outcome = deleted.run();
    check_lost(&outcome, &[("GD4206", REST)], 4);
    assert_eq!(source(&outcome).line, Some(deleted.line("at: 20s")));
    // It comes back, and its cluster with it.
    let rule = "{ apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: { name: web, namespace: default }, \
                spec: { host: web, subsets: [ { name: v1, labels: { app: web } } ] } }";
    let back = format!("{{ at: 30s, apply: {{ inline: {rule} }} }}");
    let outcome = with(&["{ at: 20s, delete: { destinationRule: default/web } }", &back]).run();
    check_lost(&outcome, &[("GD4206", 1000)], 4);
}

#[test]
fn routes_that_are_deleted_or_bound_to_no_gateway_answer_404() {
    for edit in ["{ at: 20s, delete: { virtualService: default/shop } }", &route("20s", "gateways", "[ default/none ]")]
    {
        let drill = Drill::new(&[edit]);
        let outcome = drill.run();
        check_lost(&outcome, &[("GD4205", REST)], 4);
        check_quiet(&outcome);
        assert_eq!(source(&outcome).line, Some(drill.line("at: 20s")), "{edit}");
    }
    let told = Drill::new(&["{ at: 20s, delete: { virtualService: default/shpo } }"]).load().err().unwrap_or_default();
    assert!(told.contains("no manifest has a VirtualService `default/shpo` then"), "{told}");
}

#[test]
fn a_gateway_that_selects_no_pod_any_more_listens_nowhere() {
    let away = selector("20s", "{ istio: other }");
    let drill = Drill::new(&[&away]);
    let outcome = drill.run();
    check_lost(&outcome, &[("GD4118", REST)], 4);
    check_quiet(&outcome);
    assert_eq!(count(&outcome, "listener_removed"), 4, "two listeners of two pods");
    let found = source(&outcome);
    assert_eq!((found.line, found.path.as_str()), (Some(drill.line("at: 20s")), "spec.selector"));
    assert!(warnings(&outcome).contains("Referenced selector not found: \"istio=other\" (IST0101)"));
    // The balancer's checks fail too, so when it comes back targets have to pass them first: three, 2 s apart.
    let back = Drill::annotated(&[&away, &selector("40s", "{ istio: edge }")], &[("health-check-switch", "off")]);
    check_lost(&back.run(), &[("GD4118", 2000)], 4);
    let checked = Drill::new(&[&away, &selector("40s", "{ istio: edge }")]).run().run.results.totals.dropped;
    assert!((2380..=2620).contains(&checked), "{checked}");
    // Pods that start meanwhile listen nowhere either; those that are gone answer nothing, as in any rollout.
    let rolled = Drill::annotated(&[&away, "{ at: 25s, restart: {} }"], &[("health-check-switch", "off")]).run();
    let (gone, all) = (rolled.run.results.totals.connect_timeout, rolled.run.results.totals.dropped);
    assert!(all.abs_diff(REST) <= 4 && gone < 400, "{all} and {gone}");
    check_lost(&rolled, &[("GD4118", all - gone), ("GD4302", gone)], 0);
    // Deleted, it is the same.
    let gone = Drill::new(&["{ at: 20s, delete: { gateway: istio-system/shop } }"]);
    let outcome = gone.run();
    check_lost(&outcome, &[("GD4118", REST)], 4);
    assert_eq!(source(&outcome).path, "spec.timeline.delete.gateway");
    // From the start on it is refused.
    let mut early = Drill::new(&[]);
    early.manifest =
        Box::leak(super::MANIFEST.replace("selector: { istio: edge }", "selector: { istio: other }").into_boxed_str());
    assert!(early.load().err().is_some_and(|told| told.contains("the selector matches no pod of the target")));
}

#[test]
fn an_edit_that_changes_nothing_is_unchanged_and_no_error() {
    let edit = route("20s", HOST, "web");
    let drill = Drill::new(&[&edit]);
    let outcome = drill.run();
    check_lost(&outcome, &[], 0);
    check_quiet(&outcome);
    let rows = &outcome.run.results.fidelity;
    let row =
        rows.iter().find(|row| row.note.as_deref().is_some_and(|note| note.starts_with("unchanged"))).expect("told");
    assert_eq!(row.line, Some(drill.line("at: 20s")));
    assert!(outcome.run.results.phases.iter().any(|phase| phase.name == "rollout"), "its phase begins");
    assert_eq!(count(&outcome, "config_applied"), 0, "nothing is triggered");
    // What changes something is not.
    let changed = Drill::new(&[&route("20s", "http[0].timeout", "3s")]).run();
    assert!(!warnings(&changed).contains("unchanged"), "{}", warnings(&changed));
    assert_eq!(count(&changed, "config_applied"), 2);
    // An object that is not there is no edit.
    let told =
        Drill::new(&["{ at: 20s, set: { \"VirtualService/default/shpo.spec.hosts\": [ a.example.com ] } }"]).load();
    assert!(told.err().is_some_and(|told| told.contains("no object of the manifests is called so")));
}
