//! The page as a whole: what a reader without eyes for the drawings gets, and that nothing in it can break it.

use super::*;
use crate::record::Results;
use crate::record::results::{LatencyUs, Load, Phase, ReadinessChange, Span, Target, TargetState, Totals};
use crate::report::sample::{FIXED, LOSING, Story, scaled};

const SCENARIO: &str = "apiVersion: gatedrill/v1\nkind: Scenario\nmetadata: { name: rolling-upgrade }\n";

fn page_of(story: Story) -> String {
    let (run, log) = story.tell();
    let command = Some("gatedrill run rolling-upgrade.drill.yaml --seed 42");
    page(&run, &HtmlOptions { events: log.events(), scenario: Some(SCENARIO), command })
}

/// Checks what holds of every page.
#[track_caller]
fn check(page: &str) {
    assert!(page.starts_with("<!doctype html>"));
    for (request, why) in [
        ("<script", "a script"),
        ("<link", "a link"),
        ("src=", "a source"),
        ("url(", "a style"),
        ("@import", "a style"),
    ] {
        assert!(!page.contains(request), "{why} of elsewhere: {request}");
    }
    let mut ids: Vec<_> = attributes(page, " id=").collect();
    for name in attributes(page, " aria-labelledby=").flat_map(str::split_whitespace) {
        assert!(ids.contains(&name), "nothing is called {name}");
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "ids are unique: {ids:?}");
    for svg in drawings(page) {
        assert!(svg.starts_with("<svg ") && svg.contains(" role=\"img\""), "{svg}");
        assert!(svg.contains("<title ") && svg.contains("<desc "), "{svg}");
        assert_eq!(well_formed(svg), Ok(()));
    }
    // Elements that HTML lets stand open are not XML; without them the whole page is.
    let body = page.split_once("<body>").unwrap().1.split_once("</body>").unwrap().0.replace("<br>", "<br/>");
    assert_eq!(well_formed(&body), Ok(()));
}

fn attributes<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    page.split(name).skip(1).filter_map(|rest| rest.strip_prefix('"')?.split_once('"').map(|(value, _)| value))
}

fn drawings(page: &str) -> impl Iterator<Item = &str> {
    page.match_indices("<svg ").map(|(start, _)| {
        let end = page[start..].find("</svg>").unwrap();
        &page[start..start + end + "</svg>".len()]
    })
}

/// Whether every element is closed by its own end, attributes are quoted, and text has no bare `<` or `&`.
fn well_formed(text: &str) -> Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        bare_ampersand(&rest[..start])?;
        let end = rest[start..].find('>').ok_or("an open tag")? + start;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes nothing"));
            }
            continue;
        }
        let (name, attributes) = tag.trim_end_matches('/').split_once(' ').unwrap_or((tag.trim_end_matches('/'), ""));
        if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric()) {
            return Err(format!("<{tag}> has no name"));
        }
        let parts: Vec<_> = attributes.split('"').collect();
        let keys = parts.iter().step_by(2).map(|key| key.trim()).filter(|key| !key.is_empty());
        let mut keys = keys.filter(|key| *key != "open");
        if parts.len().is_multiple_of(2) || keys.any(|key| !key.ends_with('=') || key.contains(' ')) {
            return Err(format!("<{tag}> has an attribute without quotes"));
        }
        parts.iter().skip(1).step_by(2).try_for_each(|value| bare_ampersand(value))?;
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    bare_ampersand(rest)?;
    if open.is_empty() { Ok(()) } else { Err(format!("left open: {open:?}")) }
}

fn bare_ampersand(text: &str) -> Result<(), String> {
    let is_entity = |rest: &str| {
        let name = rest.split(';').next().unwrap_or("");
        name.len() < rest.len() && name.trim_start_matches('#').chars().all(|letter| letter.is_ascii_alphanumeric())
    };
    match text.split('&').skip(1).find(|rest| !is_entity(rest)) {
        Some(rest) => Err(format!("a bare & before {rest}")),
        None => Ok(()),
    }
}

/// What the page says, without its style; of drawings what stands in them.
fn skeleton(page: &str) -> String {
    let body = page.split_once("<body>").unwrap().1;
    let mut lines = Vec::new();
    for line in body.replace("&#x2f;", "/").lines().map(str::trim) {
        let is_shape = ["<rect", "<line", "<polyline", "<polygon", "<circle", "</text>"];
        if line.starts_with("<text") {
            lines.push("<text>".to_owned());
        } else if !line.is_empty() && !is_shape.iter().any(|shape| line.starts_with(shape)) {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n").replace("<text>\n", "¶ ")
}

#[test]
fn the_page_is_pinned() {
    let page = page_of(LOSING);
    check(&page);
    insta::assert_snapshot!(skeleton(&page));
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    assert!(page_of(LOSING) == page_of(LOSING));
}

#[test]
fn a_drill_that_loses_nothing_passes_in_words() {
    let page = page_of(FIXED);
    check(&page);
    assert!(page.contains("✓ Pass") && page.contains("No request was lost."));
    assert!(!page.contains("still sent to"), "the legend has only what is in the picture");
}

#[test]
fn markup_in_names_stays_text() {
    let (mut run, _) = LOSING.tell();
    let nasty = "<script>alert(1)</script>&\"'";
    let results = &mut run.results;
    results.scenario.name = nasty.into();
    results.scenario.variant = Some(nasty.into());
    results.pods[0].name = format!("ns/{nasty}");
    results.phases[1].name = nasty.into();
    results.loads[0].name = nasty.into();
    results.causes[0].name = nasty.into();
    results.causes[0].code = nasty.into();
    results.causes[0].client_sees = nasty.into();
    results.causes[0].envoy_flag = Some(nasty.into());
    let source = results.causes[1].source.as_mut().unwrap();
    (source.file, source.path, source.value) = (Some(nasty.into()), nasty.into(), Some(nasty.into()));
    results.slo[0].name = nasty.into();
    results.slo[0].expr = nasty.into();
    results.rollouts[0].object = nasty.into();
    results.fidelity[0].path = nasty.into();
    results.fidelity[1].note = Some(nasty.into());
    let state = TargetState { t_ms: 0, state: "healthy".into() };
    results.targets.push(Target { name: nasty.into(), pod: None, states: vec![state] });
    results.fingerprint = nasty.into();
    let mut log = crate::engine::EventLog::default();
    let at = crate::units::SimTime::from_nanos(60_000_000_000);
    log.record(at, None, "timeline", nasty, vec![("action", nasty.into())]);
    check(&page(&run, &HtmlOptions { events: log.events(), scenario: Some(nasty), command: Some(nasty) }));
}

fn clear(results: &mut Results) {
    results.totals = Totals::default();
    results.latency_us = LatencyUs::default();
    for Phase { totals, latency_us, .. } in &mut results.phases {
        (*totals, *latency_us) = (Totals::default(), LatencyUs::default());
    }
    for Load { totals, latency_us, .. } in &mut results.loads {
        (*totals, *latency_us) = (Totals::default(), LatencyUs::default());
    }
    results.causes.clear();
}

#[test]
fn a_run_without_requests_has_a_page() {
    let (mut run, log) = FIXED.tell();
    clear(&mut run.results);
    for row in &mut run.seconds {
        (row.sent, row.ok, row.backend_error) = (0, 0, 0);
        (row.latency_p50_us, row.latency_p99_us) = (None, None);
    }
    let page = page(&run, &HtmlOptions { events: log.events(), ..HtmlOptions::default() });
    check(&page);
    assert!(page.contains("No request was sent.") && page.contains("No request was answered"));
}

#[test]
fn an_empty_run_has_a_page() {
    let (mut run, _) = FIXED.tell();
    let results = &mut run.results;
    clear(results);
    results.measured = Span::default();
    results.phases.clear();
    results.loads.clear();
    results.rollouts.clear();
    results.pods.clear();
    results.targets.clear();
    results.slo.clear();
    results.fidelity.clear();
    results.complete = false;
    run.seconds.clear();
    run.requests.clear();
    let page = page(&run, &HtmlOptions::default());
    check(&page);
    for words in ["Interrupted.", "Nothing was rolled out.", "The scenario asks for none.", "No gateway pod was seen"] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn a_run_in_which_nothing_happens_has_a_page() {
    let (mut run, _) = FIXED.tell();
    run.results.rollouts.clear();
    run.results.pods.retain(|pod| pod.created_ms == 0);
    run.results.targets.retain(|target| target.states.first().is_some_and(|state| state.t_ms == 0));
    for pod in &mut run.results.pods {
        (pod.terminating_ms, pod.sigterm_ms, pod.exited_ms, pod.gone_ms) = (None, None, None, None);
    }
    for target in &mut run.results.targets {
        target.states.truncate(2);
    }
    let page = page(&run, &HtmlOptions::default());
    check(&page);
    assert!(!page.contains("The picture shows"), "the whole time is shown");
}

#[test]
fn two_hundred_pods_are_a_picture_one_can_read() {
    let page = page_of(Story { pods: 100, ..LOSING });
    check(&page);
    let height = |svg: &str| svg.split("viewBox=\"0 0 1000 ").nth(1)?.split('"').next()?.parse::<u32>().ok();
    assert!(drawings(&page).all(|svg| height(svg).unwrap() < 900));
    assert!(page.contains("pods are shown, those in which something happened first."));
    assert!(page.len() < 300_000, "{} bytes", page.len());
}

#[test]
fn a_long_run_with_many_phases_stays_small() {
    let (mut run, _) = LOSING.tell();
    let (first, rest) = run.seconds.split_first().unwrap();
    let hour = rest.iter().cycle().take(4 * 3_600).enumerate();
    let rows = hour.map(|(index, row)| crate::record::Second { t_s: first.t_s + 1 + index as u64, ..row.clone() });
    run.seconds = rows.collect();
    let results = &mut run.results;
    results.measured.end_ms = 4 * 3_600_000;
    let phase = results.phases[1].clone();
    let phases = (0..40).map(|index| Phase {
        name: format!("step {index} of a long list of phases"),
        start_ms: 10_000 + index * 360_000,
        end_ms: 10_000 + (index + 1) * 360_000,
        ..phase.clone()
    });
    results.phases = phases.collect();
    // The first and the last pod change, so that the picture is that of the whole time.
    results.pods[0].readiness = vec![ReadinessChange { t_ms: 20_000, ready: false }];
    results.pods[7].readiness = vec![ReadinessChange { t_ms: 14_000_000, ready: false }];
    let page = page(&run, &HtmlOptions::default());
    check(&page);
    assert!(page.contains("is the worst of its 58 seconds") && page.contains("hours:minutes:seconds"));
    assert!(page.len() < 200_000, "{} bytes", page.len());
}

#[test]
fn nodes_as_targets_have_lanes_of_their_own() {
    let (mut run, _) = LOSING.tell();
    for (index, target) in run.results.targets.iter_mut().enumerate() {
        (target.name, target.pod) = (format!("pool-a-{index}"), None);
    }
    let page = page(&run, &HtmlOptions::default());
    check(&page);
    assert!(page.contains("node pool-a-3"));
}

#[test]
fn the_checks_of_these_tests_find_faults() {
    for broken in ["<a><b></a></b>", "<a", "<a b=c></a>", "x & y", "<a b=\"&\"/>", "<a>", "1 < 2 > 1"] {
        assert!(well_formed(broken).is_err(), "{broken}");
    }
    assert_eq!(well_formed("<a b=\"c d\" e=\"\"><f/>&lt;&#39;</a>"), Ok(()));
}

#[test]
fn autoscalers_have_a_section_of_their_own_if_there_are_any() {
    let (mut run, log) = LOSING.tell();
    let options = HtmlOptions { events: log.events(), scenario: None, command: None };
    assert!(!page(&run, &options).contains("Autoscaling"));
    run.results.autoscaler = scaled();
    let page = page(&run, &options);
    check(&page);
    for told in ["5 syncs, 2 changes", "4 → 8", "ScaleUpLimit", "cpu 200%", "no metrics returned"] {
        assert!(page.contains(told), "{told}");
    }
}
