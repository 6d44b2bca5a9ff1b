//! `clusterIds` and `overrides`: the clusters that a gateway is deployed to, and what differs in each.
//!
//! Each cluster named gets a Deployment, a Service and a balancer of its own, from the spec with its override laid over it: what an override writes
//! takes the place of what the spec says, maps key by key (an assumption for maps: the documents only show plain values).
//!
//! Sources: aliyun/alibabacloud-servicemesh-api v1 istiogateway_types.go; ASM documents "Configure a unified ingress gateway for multiple clusters".

use crate::manifest::object::Object;
use crate::manifest::problem::{Place, Problem};
use crate::manifest::read::{Fields, Sink};
use crate::manifest::yaml::{Node, Value};
use crate::record::results::FidelityStatus;

/// Checks what is written for each cluster, as the spec itself is checked.
pub(super) fn check(spec: &Fields<'_>, check_spec: fn(&Fields<'_>)) {
    if let Some(field) = spec.get("clusterIds") {
        let _ = field.texts();
    }
    for (_, field) in spec.get("overrides").map(|field| field.map()).unwrap_or_default() {
        if matches!(field.node().value, Value::Null) {
            continue;
        }
        let Some(fields) = field.fields() else { continue };
        for key in ["gatewayType", "clusterIds", "overrides"] {
            if let Some(field) = fields.get(key) {
                field.refuse(format!("`{key}` is the same in all clusters"), "write it in the spec itself");
            }
        }
        check_spec(&fields);
        fields.finish();
    }
}

/// A gateway as a cluster gets it: none if it is not deployed there. Without a name it is the only cluster, and the only one that is named holds.
#[must_use]
pub fn in_cluster(object: &Object, cluster: Option<&str>) -> Option<Object> {
    let named = ids(object);
    let cluster = match (cluster, &named[..]) {
        (Some(cluster), []) => cluster,
        (Some(cluster), named) => named.iter().map(|(id, _)| *id).find(|id| *id == cluster)?,
        (None, [(only, _)]) => only,
        (None, _) => return Some(object.clone()),
    };
    let mut made = object.clone();
    if let Some(over) = object.node.find(&["spec", "overrides", cluster]).cloned() {
        let Value::Map(entries) = &mut made.node.value else { return Some(made) };
        if let Some(spec) = entries.iter_mut().find(|entry| &*entry.key == "spec") {
            lay_over(&mut spec.node, &over);
        }
    }
    Some(made)
}

/// The clusters that a gateway names, each with its place.
fn ids(object: &Object) -> Vec<(&str, Place)> {
    let items = object.node.find(&["spec", "clusterIds"]).map(Node::items).unwrap_or_default();
    items.iter().filter_map(|item| Some((item.text()?, item.at))).collect()
}

/// Checks the clusters that gateways name against those that there are; none have a name if there is only one.
pub fn check_against(objects: &[Object], known: &[(&str, Place)], sink: &Sink) {
    let gateways: Vec<&Object> = objects.iter().filter(|object| object.id.kind == "IstioGateway").collect();
    for object in &gateways {
        if known.is_empty() {
            note_unnamed(object, sink);
        } else {
            check_names(object, known, sink);
        }
    }
    let is_named = |id: &str| gateways.iter().any(|object| ids(object).iter().any(|(named, _)| *named == id));
    for (id, place) in known.iter().filter(|(id, _)| !gateways.is_empty() && !is_named(id)) {
        let problem = Problem::at(*place, "spec.clusters", format!("no gateway is deployed to `{id}`"));
        sink.report(problem.help("name it under clusterIds of the IstioGateway, or take the cluster out"));
    }
}

/// Checks the clusters that a gateway names against those that there are.
pub fn check_names(object: &Object, known: &[(&str, Place)], sink: &Sink) {
    let names = || known.iter().map(|(id, _)| *id);
    let named = ids(object);
    if named.is_empty() {
        let place = object.node.entry("spec").map_or(object.place(), |entry| entry.key_at);
        let problem = Problem::at(place, "spec.clusterIds", "the gateway is deployed to no cluster");
        let ids: Vec<&str> = names().collect();
        sink.report(problem.help(format!("write clusterIds: [{}]", ids.join(", "))));
    }
    for (index, (id, place)) in named.iter().enumerate() {
        if !names().any(|name| name == *id) {
            let problem = Problem::at(*place, "spec.clusterIds", format!("no cluster is called `{id}`"));
            sink.report(problem.did_you_mean(id, names()));
        } else if named[..index].iter().any(|(earlier, _)| earlier == id) {
            let problem = Problem::at(*place, "spec.clusterIds", format!("`{id}` is named twice"));
            sink.report(problem.help("name each cluster once"));
        }
    }
    let overrides = object.node.find(&["spec", "overrides"]).map(Node::entries).unwrap_or_default();
    for entry in overrides {
        let path = format!("spec.overrides.{}", entry.key);
        if !names().any(|name| name == &*entry.key) {
            let problem = Problem::at(entry.key_at, path, format!("no cluster is called `{}`", entry.key));
            sink.report(problem.did_you_mean(&entry.key, names()));
        } else if !named.iter().any(|(id, _)| *id == &*entry.key) {
            let note = "the gateway is not deployed there: clusterIds does not name it";
            sink.note(entry.key_at, format!("{}{path}", object.prefix()), FidelityStatus::Modelled, Some(note));
        }
    }
}

/// A scenario with one cluster stands for whatever cluster a gateway names.
fn note_unnamed(object: &Object, sink: &Sink) {
    let named = ids(object);
    let note = |key: &str, status, text: &str| {
        if let Some(entry) = object.node.find(&["spec"]).and_then(|spec| spec.entry(key)) {
            sink.note(entry.key_at, format!("{}spec.{key}", object.prefix()), status, Some(text));
        }
    };
    if named.len() > 1 {
        let text =
            "one cluster is simulated, and it stands for one of these: the scenario's `clusters` simulates them all";
        note("clusterIds", FidelityStatus::Approximated, text);
        note("overrides", FidelityStatus::Ignored, "the scenario does not say which cluster it simulates");
    }
}

/// Writes what an override says into a spec.
fn lay_over(under: &mut Node, over: &Node) {
    match (&mut under.value, &over.value) {
        (_, Value::Null) => {}
        (Value::Map(entries), Value::Map(more)) => {
            for entry in more {
                match entries.iter_mut().find(|known| known.key == entry.key) {
                    Some(known) => {
                        known.key_at = entry.key_at;
                        lay_over(&mut known.node, &entry.node);
                    }
                    None => entries.push(entry.clone()),
                }
            }
            under.at = over.at;
        }
        _ => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::object::objects;
    use crate::manifest::yaml::{parse, write};

    const GATEWAY: &str = "
apiVersion: istio.alibabacloud.com/v1
kind: IstioGateway
metadata: { name: edge, namespace: istio-system }
spec:
  clusterIds: [ c-1, c-2 ]
  replicaCount: 2
  serviceAnnotations: { a: one, b: one }
  ports: [ { port: 80 } ]
  overrides:
    c-2:
      replicaCount: 5
      serviceAnnotations: { b: two, c: two }
      ports: [ { port: 81 } ]
    c-3: { replicaCount: 9 }
";

    fn gateway(text: &str) -> Object {
        objects(parse(text, 0).0, &Sink::default()).remove(0)
    }

    fn spec_in(text: &str, cluster: Option<&str>) -> Option<String> {
        let object = in_cluster(&gateway(text), cluster)?;
        let spec = object.node.find(&["spec"])?;
        let keys = ["replicaCount", "serviceAnnotations", "ports"];
        Some(keys.iter().filter_map(|key| Some(write(spec.find(&[key])?))).collect::<String>().replace('\n', " "))
    }

    #[test]
    fn an_override_takes_the_place_of_what_the_spec_says() {
        assert_eq!(spec_in(GATEWAY, Some("c-1")).unwrap(), "2 a: one b: one - port: 80 ");
        assert_eq!(spec_in(GATEWAY, Some("c-2")).unwrap(), "5 a: one b: two c: two - port: 81 ");
        assert_eq!(spec_in(GATEWAY, Some("c-3")), None, "clusterIds does not name it");
        assert_eq!(spec_in(GATEWAY, None).unwrap(), "2 a: one b: one - port: 80 ", "nobody knows which one it is");
        let alone = GATEWAY.replace("[ c-1, c-2 ]", "[ c-2 ]");
        assert_eq!(spec_in(&alone, None).unwrap(), "5 a: one b: two c: two - port: 81 ");
    }

    #[test]
    fn clusters_that_nobody_knows_are_told() {
        let told = |text: &str, known: &[&str]| {
            let sink = Sink::default();
            let known: Vec<(&str, Place)> = known.iter().map(|id| (*id, Place::NOWHERE)).collect();
            check_against(&[gateway(text)], &known, &sink);
            let problems = sink.take_problems();
            problems.iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect::<Vec<_>>()
        };
        assert_eq!(told(GATEWAY, &["c-1", "c-2", "c-3"]), ["spec.clusters: no gateway is deployed to `c-3`"]);
        assert_eq!(told(GATEWAY, &["c-1", "c-2"]), ["spec.overrides.c-3: no cluster is called `c-3`"]);
        let bare = GATEWAY.replace("clusterIds: [ c-1, c-2 ]", "gatewayType: ingress");
        assert_eq!(told(&bare, &["c-1"])[0], "spec.clusterIds: the gateway is deployed to no cluster");
        let twice = GATEWAY.replace("[ c-1, c-2 ]", "[ c-1, c-2, c-2, c-4 ]");
        let found = told(&twice, &["c-1", "c-2", "c-3"]);
        assert_eq!(
            found[..2],
            ["spec.clusterIds: `c-2` is named twice", "spec.clusterIds: no cluster is called `c-4`"]
        );
        assert_eq!(told(GATEWAY, &[]), Vec::<String>::new());
    }
}
