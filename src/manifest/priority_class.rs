//! Priorities of pods: `PriorityClass` objects, and what a pod's spec says.
//!
//! Admission writes the class's value into each pod. A class that is not there, or a `priority` beside it that differs, has every pod of the template
//! refused: the Deployment would stand without pods. Without a class a pod gets that of the global default, or 0.
//!
//! Preemption is not simulated: priorities decide who is tried first when pods wait for a node, and whom a kubelet evicts first.
//!
//! Source: Kubernetes v1.28.7 plugin/pkg/admission/priority/admission.go, pkg/apis/scheduling/validation/validation.go, pkg/apis/scheduling/types.go.

use super::deployment::{DeploymentManifest, Written};
use super::object::Object;
use super::problem::{Place, Problem};
use super::read::{Fields, Sink};
use crate::record::results::FidelityStatus;

/// The greatest value that a class of a user may have. Source: types.go `HighestUserDefinablePriority`.
const HIGHEST: i64 = 1_000_000_000;
/// Classes that every cluster has. Source: pkg/apis/scheduling/v1/helpers.go.
const SYSTEM: [(&str, i32); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// A class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PriorityClass {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: i32,
    /// Pods without a class get it.
    pub is_default: bool,
}

/// What a pod's spec says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PodPriority {
    /// Its class.
    pub class: Option<Written>,
    /// Its value, where that is written.
    pub value: Option<(i32, Place, String)>,
}

/// Reads a class.
pub fn read(object: &Object, sink: &Sink) -> Option<PriorityClass> {
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let name = object.id.name.clone();
    if name.starts_with("system-") && !SYSTEM.iter().any(|(known, _)| *known == name) {
        let text = "priority class names with 'system-' prefix are reserved for system use only";
        sink.report(Problem::at(object.place(), format!("{prefix}metadata.name"), text).help("choose another name"));
    }
    let value = fields.require("value", "write the priority: value: 1000").and_then(|field| {
        let value = field.whole::<i64>(i64::from(i32::MIN), i64::from(i32::MAX))?;
        if value > HIGHEST && !SYSTEM.iter().any(|(known, _)| *known == name) {
            field.refuse(
                format!("maximum allowed value of a user defined priority is {HIGHEST}"),
                "write a smaller one",
            );
            return None;
        }
        i32::try_from(value).ok()
    });
    let is_default = fields.get("globalDefault").map_or(Some(false), |field| field.boolean());
    if let Some(field) = fields.look("preemptionPolicy") {
        let _ = field.choice(&[("PreemptLowerPriority", ()), ("Never", ())]);
        field.note(FidelityStatus::Ignored, Some("nobody is preempted"));
    }
    fields.allow(&["description"]);
    fields.finish();
    Some(PriorityClass { name, value: value?, is_default: is_default? })
}

/// Reads what a pod's spec says.
pub(super) fn read_pod(spec: &Fields<'_>) -> PodPriority {
    // An empty name is none, as charts write it.
    let class = spec.get("priorityClassName").filter(|field| field.node().text() != Some("")).and_then(|field| {
        Some(Written { name: field.text()?.to_owned(), at: field.place(), path: field.path().to_owned() })
    });
    let value = spec.look("priority").and_then(|field| {
        let value = field.whole::<i32>(i64::from(i32::MIN), i64::from(i32::MAX))?;
        // 0 is what the API server writes where nobody wanted anything.
        if value != 0 {
            field.note(FidelityStatus::Modelled, None);
        }
        Some((value, field.place(), field.path().to_owned()))
    });
    PodPriority { class, value }
}

/// Writes the priorities of a Deployment's pods, as admission does it.
pub fn admit(manifest: &mut DeploymentManifest, classes: &[PriorityClass], sink: &Sink) {
    let PodPriority { class, value } = manifest.priority.clone();
    let of_system = |name: &str| SYSTEM.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let of_user = |name: &str| classes.iter().find(|known| known.name == name).map(|known| known.value);
    let admitted = match &class {
        None => classes.iter().filter(|class| class.is_default).map(|class| class.value).min().unwrap_or(0),
        Some(Written { name, at, path }) => {
            let Some(value) = of_system(name).or_else(|| of_user(name)) else {
                let text = format!("no PriorityClass with name {name} was found: every pod is refused");
                let known = classes.iter().map(|class| class.name.as_str()).chain(SYSTEM.map(|(name, _)| name));
                sink.report(Problem::at(*at, path.clone(), text).did_you_mean(name, known));
                return;
            };
            value
        }
    };
    if let Some((written, at, path)) = value.filter(|(written, ..)| *written != admitted) {
        let text = format!(
            "the integer value of priority ({written}) must not be provided in pod spec; its class says {admitted}"
        );
        sink.report(Problem::at(at, path, text).help("take it out, and write priorityClassName"));
    }
    manifest.deployment.template.placement.priority = admitted;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{deployment, object, yaml};

    const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: edge }
spec:
  selector: { matchLabels: { app: edge } }
  template:
    metadata: { labels: { app: edge } }
    spec: { PRIORITY containers: [ { name: a, image: b } ] }";

    /// The priority that pods with this get beside these classes, or the first problem.
    fn admitted(priority: &str, classes: &[&str]) -> Result<i32, String> {
        let class = |text: &&str| format!("---\napiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\n{text}\n");
        let text = classes.iter().map(class).collect::<String>() + "---" + &DEPLOYMENT.replace("PRIORITY", priority);
        let sink = Sink::default();
        let (documents, problems) = yaml::parse(&text, 0);
        assert!(problems.is_empty(), "{problems:?}");
        let objects = object::objects(documents, &sink);
        let of_kind = |kind: &'static str| objects.iter().filter(move |object| object.id.kind == kind);
        let classes: Vec<_> = of_kind("PriorityClass").filter_map(|object| read(object, &sink)).collect();
        let mut manifest =
            deployment::read(of_kind("Deployment").next().expect("it is there"), &sink).expect("it is whole");
        admit(&mut manifest, &classes, &sink);
        match sink.take_problems().into_iter().next() {
            Some(problem) => Err(problem.text),
            None => Ok(manifest.deployment.template.placement.priority),
        }
    }

    #[test]
    fn admission_writes_the_value_of_the_class() {
        let high = "metadata: { name: high }\nvalue: 1000";
        let usual = "metadata: { name: usual }\nvalue: 5\nglobalDefault: true";
        for (priority, classes, expected) in [
            ("", &[][..], Ok(0)),
            ("", &[high], Ok(0)),
            ("", &[high, usual], Ok(5)),
            ("priorityClassName: high,", &[high, usual], Ok(1000)),
            ("priorityClassName: high, priority: 1000,", &[high], Ok(1000)),
            ("priorityClassName: system-node-critical,", &[], Ok(2_000_001_000)),
            ("priorityClassName: \"\",", &[high], Ok(0)),
            ("priorityClassName: hihg,", &[high], Err("no PriorityClass with name hihg was found")),
            (
                "priorityClassName: high, priority: 7,",
                &[high],
                Err("the integer value of priority (7) must not be provided"),
            ),
            ("priority: 7,", &[], Err("the integer value of priority (7) must not be provided")),
            ("", &["metadata: { name: system-x }\nvalue: 1"], Err("priority class names with 'system-' prefix")),
            (
                "",
                &["metadata: { name: x }\nvalue: 1000000001"],
                Err("maximum allowed value of a user defined priority"),
            ),
        ] {
            match (admitted(priority, classes), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{priority}"),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found} instead of {expected}"),
                (found, expected) => panic!("{priority}: {found:?} instead of {expected:?}"),
            }
        }
    }
}
