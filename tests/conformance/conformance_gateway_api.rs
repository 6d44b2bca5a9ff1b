//! The conformance suite of the Gateway API: every request and every condition of every file of `tests/data/conformance/gateway-api`.
//!
//! The manifests of a file and of `base.json` are read as a user's would be; the gateway that comes of them runs in virtual time between a
//! client and the pods of the Deployments. What waits for TLS and HTTP/2 stands in `EXCEPTIONS.md` beside the data.

mod case;
mod cluster;
mod drill;
#[cfg(unix)]
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes, real sockets, real time")]
mod live;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use case::{Case, Condition, File};
use cluster::Cluster;
use gatedrill::manifest::gateway_api::status;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/conformance/gateway-api")
}

/// All files but the base, by name, each with the cluster that its manifests make.
fn files() -> Vec<(String, File, Cluster)> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder()).expect("the folder is there").map(|entry| entry.expect("an entry").path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    names.sort();
    let read = |path: &PathBuf| fs::read_to_string(path).expect("the file is there");
    let base: case::Base = serde_json::from_str(&read(&folder().join("base.json"))).expect("the base");
    names.retain(|path| !path.ends_with("base.json"));
    let files = names.iter().map(|path| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let file: File = serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let manifests = base.manifests.iter().chain(&file.manifests).cloned().collect();
        let cluster = Cluster::new(&name, manifests, file.notes.as_deref());
        (name, file, cluster)
    });
    files.collect()
}

/// What the README says of each file: cases and conditions.
fn counts() -> BTreeMap<String, (usize, usize)> {
    let text = fs::read_to_string(folder().join("README.md")).expect("the README");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_suffix(".json")?;
        Some((name.to_owned(), (cells.get(2)?.parse().ok()?, cells.get(3)?.parse().ok()?)))
    });
    rows.collect()
}

/// The exceptions: what a request needs that is not there yet, and how many cases wait for it.
fn exceptions() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(folder().join("EXCEPTIONS.md")).expect("the exceptions");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let need = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((need.to_owned(), cells.get(2)?.parse().ok()?))
    });
    rows.collect()
}

#[test]
fn conformance_every_file_is_read_whole() {
    let found: BTreeMap<String, (usize, usize)> =
        files().into_iter().map(|(name, file, _)| (name, (file.cases.len(), file.conditions.len()))).collect();
    assert_eq!(found, counts());
}

#[test]
fn conformance_every_request_is_answered_as_the_suite_asks() {
    let mut failures = Vec::new();
    let mut waiting: BTreeMap<String, usize> = BTreeMap::new();
    let mut passed = 0;
    for (name, file, cluster) in files() {
        for case in &file.cases {
            if let Some(need) = case.request.need() {
                *waiting.entry(need).or_default() += 1;
                continue;
            }
            match run(case, &cluster) {
                Ok(()) => passed += 1,
                Err(why) => failures.push(format!("{name} {}: {why}", case.id)),
            }
        }
    }
    assert!(failures.is_empty(), "{passed} passed, {} failed:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(waiting, exceptions(), "cases that wait");
}

fn run(case: &Case, cluster: &Cluster) -> Result<(), String> {
    case.run(&cluster.world(cluster.routing(&case.gateway)))
}

#[cfg(unix)]
#[test]
fn conformance_every_request_is_answered_alike_on_real_sockets() {
    let (mut failures, mut passed) = (Vec::new(), 0);
    for (name, file, cluster) in files() {
        let mut gateways: BTreeMap<&str, Option<live::Live>> = BTreeMap::new();
        for case in file.cases.iter().filter(|case| case.request.need().is_none()) {
            let start = || live::Live::start(&cluster, &case.gateway);
            let Some(gateway) = gateways.entry(&case.gateway).or_insert_with(start) else {
                failures.push(format!("{name} {}: no listener", case.id));
                continue;
            };
            case::Place::behave(gateway, crate::gateway_world::Behavior::default());
            match case.run(gateway) {
                Ok(()) => passed += 1,
                Err(why) => failures.push(format!("{name} {}: {why}", case.id)),
            }
        }
    }
    assert!(failures.is_empty(), "{passed} passed, {} failed:\n{}", failures.len(), failures.join("\n"));
    let all: usize = files().iter().map(|(_, file, _)| file.cases.len()).sum();
    assert_eq!(passed + exceptions().values().sum::<usize>(), all);
}

#[test]
fn conformance_every_condition_is_as_the_suite_asks() {
    let mut failures = Vec::new();
    for (name, file, cluster) in files() {
        let status = cluster.status();
        for condition in &file.conditions {
            if let Err(why) = check(condition, &status) {
                failures.push(format!("{name} {}: {why}", condition.id));
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

fn check(expected: &Condition, status: &status::Status) -> Result<(), String> {
    let key = format!("{}/{}", expected.namespace, expected.name);
    let parent_of = |list: &'_ [status::ParentStatus]| list.iter().find(|parent| parent.key == key).cloned();
    let parent = match expected.kind.as_str() {
        "Gateway" => parent_of(&status.gateways),
        "ListenerSet" => parent_of(&status.listener_sets),
        "HTTPRoute" => None,
        other => return Err(format!("no status of kind {other}")),
    };
    let listener = expected.listener.as_ref().map(|name| {
        let listeners = parent.iter().flat_map(|parent| &parent.listeners);
        listeners.clone().find(|listener| listener.name == *name).cloned().ok_or("no such listener")
    });
    let listener = listener.transpose()?;
    if let Some(count) = expected.attached_routes {
        let found = listener.as_ref().map(|listener| listener.attached_routes);
        if found != Some(count) {
            return Err(format!("{found:?} routes are attached, not {count}"));
        }
    }
    if let Some(kinds) = &expected.supported_kinds {
        let found = listener.as_ref().map(|listener| &listener.supported_kinds);
        if found != Some(kinds) {
            return Err(format!("it takes {found:?}, not {kinds:?}"));
        }
    }
    let Some(about) = &expected.about else { return Ok(()) };
    let conditions = match (&listener, &parent, &expected.parent) {
        (Some(listener), ..) => listener.conditions.clone(),
        (None, Some(parent), _) => parent.conditions.clone(),
        (None, None, Some(parent)) => {
            let route = status.routes.iter().find(|route| route.key == key).ok_or("no such route")?;
            let mut parents = route.parents.iter();
            parents.find(|known| known.key == *parent).ok_or("no status for this parent")?.conditions.clone()
        }
        (None, None, None) => return Err("no such object".to_owned()),
    };
    let found = conditions.iter().find(|condition| condition.about == about).ok_or("no such condition")?;
    let holds = match expected.status.as_deref() {
        Some("True") => true,
        Some("False") => false,
        other => return Err(format!("status {other:?} is not known")),
    };
    if found.holds != holds || expected.reason.as_ref().is_some_and(|reason| found.reason != reason) {
        return Err(format!("{found:?}"));
    }
    Ok(())
}
