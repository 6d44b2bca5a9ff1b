//! What a drill is about: the scenario file, its manifests, its timeline, and what must hold.
//!
//! A config's walk: text → nodes with their places → all problems at once, or a [`Scenario`] without options left → the plain settings of
//! a world. This room and `manifest` are the only ones that know YAML. Reading files is the caller's business: [`Library`].
//!
//! - [`settings`]: what a scenario says, and the defaults with their sources; `read` and `timeline` fill them.
//! - [`address`]: paths of `--set`, `set` and variants. [`slo`]: expressions and their evaluation.
//! - [`operations`]: verbs about pods and nodes; [`node_scaling`]: the cluster autoscaler.
//! - [`gateway_kind`]: other gateways' ways to end; `shutdown`: the gateway's end, out of all that decides it.
//! - `judging`: what is wrong with objects where something keeps the world from being made.
//! - `state`: the objects at a moment of the timeline, in one cluster; `plan`: a cluster from the start to the end of the timeline; `past`: what earlier moments leave to later ones; `rates`: loads that change in mid-run; `route_changes`: the lines behind what an edit of routes loses. `sharing`: who gets which balancer. `backends`: what is behind the gateway. `balancer`, `world`, [`autoscaling`]: into the settings of edge and drill. `resolved`: back into YAML.

pub mod address;
pub mod autoscaling;
mod backends;
mod balancer;
mod budgets;
mod changes;
mod control_plane;
mod departures;
pub mod disks;
mod editions;
mod edits;
mod front;
mod front_changes;
pub mod gateway_kind;
mod gateway_template;
mod images;
mod judging;
pub mod kubelet;
pub mod node_scaling;
mod nodes;
pub mod operations;
mod past;
mod plan;
mod pods;
pub mod product;
mod rates;
mod read;
mod resolved;
mod route_changes;
pub mod settings;
mod sharing;
mod shutdown;
pub mod slo;
mod sources;
mod state;
mod target;
mod timeline;
mod world;

use std::rc::Rc;

use crate::drill::WorldConfig;
use crate::engine::Fingerprint;
use crate::manifest::object;
use crate::manifest::yaml;
use crate::manifest::{Dialect, Field, Fields, Files, Node, Object, Place, Problem, Problems, Sink};
use crate::record::results::ScenarioId;

use address::{Patch, Subject};
use settings::{Settings, TimelineEntry, Variant};
use state::State;

/// A file as a library gives it: its name as the user would write it, and its text.
pub type NamedText = (String, String);

/// Where manifests come from.
pub trait Library {
    /// The files under a path that a scenario names: one file, or all manifests of a folder in the order of their names.
    ///
    /// # Errors
    ///
    /// What is wrong and what to write instead, if there is nothing to read.
    fn read(&self, path: &str) -> Result<Vec<NamedText>, (String, String)>;
}

/// What is to be loaded.
pub struct Input<'a> {
    /// The scenario file's name, as the user would write it.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Its manifests.
    pub library: &'a dyn Library,
    /// `PATH=VALUE`, in order; they win over the variant's.
    pub set: &'a [String],
    /// The variant to apply.
    pub variant: Option<&'a str>,
    /// A seed that wins over the scenario's.
    pub seed: Option<u64>,
}

/// A scenario, checked and ready to run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name and variant, and the hash of all that was read.
    pub id: ScenarioId,
    /// What it says.
    pub settings: Settings,
    /// The world it describes.
    pub world: WorldConfig,
    /// All of it as YAML, with every default filled in. It runs as it stands.
    pub resolved: Rc<str>,
    /// The names of its variants.
    pub variants: Vec<String>,
}

impl Scenario {
    /// The same with another seed.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        let mut other = self.clone();
        other.settings.seed = seed;
        other.world.seed = seed;
        other
    }
}

/// Loads a scenario.
///
/// # Errors
///
/// Everything that is wrong with it, each with its place.
pub fn load(input: &Input<'_>) -> Result<Scenario, Problems> {
    let mut loader = Loader { files: Files::default(), sink: Sink::default(), library: input.library };
    match loader.load(input) {
        Some(scenario) if loader.sink.problem_count() == 0 => Ok(scenario),
        _ => Err(Problems::new(loader.sink.take_problems(), loader.files)),
    }
}

/// What stands under `spec`, as far as it could be read.
struct Spec {
    /// None if something could not be read that objects are judged by.
    settings: Option<Settings>,
    /// Whether all of the settings could be read.
    is_whole: bool,
    /// The Services of backends that could not be read.
    described: Vec<String>,
    /// None if some could not be read.
    objects: Option<Vec<Object>>,
    /// What entries of the timeline bring that could not be read.
    lost: Vec<Object>,
    timeline: Vec<TimelineEntry>,
}

struct Loader<'a> {
    files: Files,
    sink: Sink,
    library: &'a dyn Library,
}

impl Loader<'_> {
    fn load(&mut self, input: &Input<'_>) -> Option<Scenario> {
        let mut document = self.document(input)?;
        // Variants are read before they are applied: a patch may not add one.
        let variants = self.variants(&document);
        let (scenario_patches, object_patches) = self.patches(input, &variants);
        if let Some(seed) = input.seed {
            match i64::try_from(seed) {
                Ok(seed) => {
                    let patch = Patch::new("seed", Place::NOWHERE, Node::number(Place::NOWHERE, seed));
                    self.write(&patch.ok()?, &mut document);
                }
                Err(_) => {
                    let problem = Problem::nowhere(format!("the seed {seed} is out of range"));
                    self.sink.report(problem.help(format!("write 0 to {}", i64::MAX)));
                }
            }
        }
        for patch in &scenario_patches {
            self.write(patch, &mut document);
        }
        let name = self.envelope(&document);
        let spec_node = document.find(&["spec"])?.clone();
        let Spec { settings, is_whole, described, objects, lost, timeline } = self.spec(&spec_node)?;
        let generation = settings.as_ref().map(shutdown::generation).unwrap_or_default();
        let mut state = State::new(generation);
        state.apply(objects?);
        state.described = described;
        lost.iter().for_each(|object| state.foresee_object(object));
        for patch in &object_patches {
            state.patch(patch, &self.sink);
        }
        let (Some(settings), true, Some(name)) = (&settings, is_whole, name) else {
            // The objects are judged as far as that needs no more of the scenario, so that all problems are told at once.
            judging::judge(settings.as_ref(), &state, &timeline, &self.sink);
            return None;
        };
        let settings = settings.clone();
        let id = ScenarioId { name, variant: input.variant.map(str::to_owned), input_hash: self.input_hash(input) };
        let resolved = resolved::write(&id, &document, &settings, &state, &timeline, &object_patches);
        let ingredients = world::Ingredients { settings: &settings, state, timeline: &timeline, id: id.clone() };
        let world = world::world(ingredients, &self.files, &self.sink)?;
        let variants = variants.into_iter().map(|variant| variant.name).collect();
        Some(Scenario { id, settings, world, resolved: Rc::from(resolved), variants })
    }

    fn document(&mut self, input: &Input<'_>) -> Option<Node> {
        let index = self.files.add(input.name, input.text);
        let (documents, problems) = yaml::parse(input.text, index);
        let is_broken = !problems.is_empty();
        for problem in problems {
            self.sink.report(problem);
        }
        let count = documents.len();
        let mut documents = documents.into_iter();
        let document = documents.next();
        match document {
            None if !is_broken => {
                let problem = Problem::at(Place::new(index, 0, 0), "", "the file is empty");
                self.sink.report(problem.help("write apiVersion: gatedrill/v1, kind: Scenario, metadata and spec"));
            }
            Some(_) if count > 1 => {
                let place = documents.next().map_or(Place::NOWHERE, |node| node.at);
                let problem = Problem::at(place, "", "a scenario file holds one document");
                self.sink
                    .report(problem.help("put manifests into files of their own, or under spec.manifests as inline"));
            }
            _ => {}
        }
        document
    }

    fn variants(&self, document: &Node) -> Vec<Variant> {
        let quiet = Sink::default();
        let Some(spec) = document.find(&["spec"]) else { return Vec::new() };
        let root = Field::root(&quiet, Dialect::Scenario, "", spec);
        let found = root.fields().and_then(|fields| fields.look("variants"));
        found.map(|field| read::variants(&field)).unwrap_or_default()
    }

    /// What the chosen variant and `--set` change, in this order: of the scenario, and of objects.
    fn patches(&mut self, input: &Input<'_>, variants: &[Variant]) -> (Vec<Patch>, Vec<Patch>) {
        let mut wanted: Vec<(String, Place, Node)> = Vec::new();
        if let Some(name) = input.variant {
            match variants.iter().find(|variant| variant.name == name) {
                Some(variant) => wanted.extend(variant.set.clone()),
                None => {
                    let known: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
                    let problem = Problem::nowhere(format!("{} has no variant `{name}`", input.name));
                    self.sink.report(problem.did_you_mean(name, known));
                }
            }
        }
        for text in input.set {
            let index = self.files.add("--set", text);
            let place = Place::new(index, 0, text.len());
            let Some((path, value)) = text.split_once('=') else {
                let problem = Problem::at(place, "", format!("`{text}` sets nothing"));
                self.sink.report(problem.help("write PATH=VALUE, such as load.shoppers.rate=600/s"));
                continue;
            };
            // The value is parsed as YAML, so that numbers, lists and maps can be set.
            let (mut documents, problems) = yaml::parse(value, index);
            if !problems.is_empty() || documents.len() > 1 {
                self.sink.report(Problem::at(place, path.to_owned(), format!("`{value}` is not one YAML value")));
                continue;
            }
            let mut node = documents.pop().unwrap_or(Node { at: place, value: crate::manifest::Value::Null });
            place_at(&mut node, place);
            wanted.push((path.trim().to_owned(), place, node));
        }
        let (mut of_scenario, mut of_objects) = (Vec::new(), Vec::new());
        for (path, place, node) in wanted {
            match Patch::new(&path, place, node) {
                Ok(patch) if patch.subject == Subject::Scenario => of_scenario.push(patch),
                Ok(patch) => of_objects.push(patch),
                Err(text) => self.sink.report(
                    Problem::at(place, "", text).help("write steps with dots, keys that hold dots in brackets"),
                ),
            }
        }
        (of_scenario, of_objects)
    }

    fn write(&self, patch: &Patch, document: &mut Node) {
        let crate::manifest::Value::Map(entries) = &mut document.value else { return };
        let Some(spec) = entries.iter_mut().find(|entry| &*entry.key == "spec") else { return };
        if let Err(text) = patch.write(&mut spec.node) {
            self.sink.report(Problem::at(patch.at, patch.text.clone(), text));
        }
    }

    /// Checks what stands around `spec`; returns the scenario's name.
    fn envelope(&self, document: &Node) -> Option<String> {
        let fields = Field::root(&self.sink, Dialect::Scenario, "", document).fields()?;
        for (key, expected) in [("apiVersion", "gatedrill/v1"), ("kind", "Scenario")] {
            match fields.require(key, &format!("write {key}: {expected}")) {
                Some(field) if field.scalar() != Some(expected) => {
                    field.refuse(
                        format!("`{}` is not a scenario's", field.scalar().unwrap_or_default()),
                        format!("write {expected}"),
                    );
                }
                _ => {}
            }
        }
        let metadata = fields.require("metadata", "write metadata: { name: … }").and_then(|field| field.fields());
        let mut name = None;
        if let Some(metadata) = metadata {
            name =
                metadata.require("name", "give the scenario a name").and_then(|field| Some(field.text()?.to_owned()));
            if let Some(field) = metadata.get("description") {
                let _ = field.scalar();
            }
            metadata.allow(&["labels", "annotations"]);
            metadata.finish();
        }
        let spec = fields.require("spec", "write what is to be drilled under spec");
        fields.finish();
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
        };
        if let Some(name) = &name
            && !is_name(name)
        {
            let place = document.find(&["metadata", "name"]).map_or(Place::NOWHERE, |node| node.at);
            let problem = Problem::at(place, "metadata.name", format!("`{name}` cannot name a folder"));
            self.sink.report(problem.help("use letters, digits, dashes and dots"));
        }
        spec?;
        name
    }

    fn spec(&mut self, spec_node: &Node) -> Option<Spec> {
        // The sink is shared while files are added: it is moved out and back.
        let sink = std::mem::take(&mut self.sink);
        let found = self.spec_with(spec_node, &sink);
        self.sink = sink;
        found
    }

    fn spec_with(&mut self, spec_node: &Node, sink: &Sink) -> Option<Spec> {
        let root = SpecField { sink, node: spec_node };
        let spec = root.fields()?;
        let read::Read { settings, is_whole, described } = read::settings(&spec);
        let manifests = spec.require("manifests", "name the manifests: manifests: [ { path: manifests/ } ]");
        let before = sink.problem_count();
        let objects = manifests.as_ref().map(|field| self.manifests(field)).unwrap_or_default();
        let are_whole = manifests.is_some() && sink.problem_count() == before;
        let duration = spec_node.find(&["duration"]).and_then(Node::text);
        let duration = duration.and_then(|text| crate::manifest::quantity::duration(text).ok());
        let entries = spec.get("timeline").map(|field| field.items()).unwrap_or_default();
        let mut timeline = Vec::new();
        let mut lost = Vec::new();
        for field in &entries {
            let mut coming = Vec::new();
            let mut apply = |field: &Field<'_>| {
                coming = self.manifest(field);
                coming.clone()
            };
            match timeline::entry(field, duration, &mut apply) {
                Some(entry) => timeline.push(entry),
                None => {
                    judging::check_each(&coming, sink);
                    lost.extend(coming);
                }
            }
        }
        timeline.sort_by_key(|entry: &TimelineEntry| entry.at);
        if let Some(field) = spec.get("variants") {
            let _ = read::variants(&field);
        }
        spec.finish();
        let slo_places: Vec<Place> =
            spec.get("slo").map(|field| field.items()).unwrap_or_default().iter().map(Field::place).collect();
        // An entry that could not be read would have begun a phase: nobody can say which names are wrong then.
        if let Some(settings) = settings.as_ref().filter(|_| is_whole && timeline.len() == entries.len()) {
            read::check_references(settings, &timeline, &slo_places, sink);
        }
        // Objects can be judged beside each other only if they could all be read: what is missing would be told again and again.
        if !are_whole {
            judging::check_each(&objects, sink);
            judging::check_coming(&timeline, sink);
        }
        let objects = are_whole.then_some(objects);
        Some(Spec { settings, is_whole, described, objects, lost, timeline })
    }

    fn manifests(&mut self, field: &Field<'_>) -> Vec<Object> {
        let items = field.items();
        if items.is_empty() {
            field.refuse("no manifest is named", "write manifests: [ { path: manifests/ } ]");
        }
        items.iter().flat_map(|item| self.manifest(item)).collect()
    }

    /// The objects of `{ path: … }` or `{ inline: … }`.
    fn manifest(&mut self, item: &Field<'_>) -> Vec<Object> {
        let Some(fields) = item.fields() else { return Vec::new() };
        let (path, inline) = (fields.get("path"), fields.get("inline"));
        fields.finish();
        match (path, inline) {
            (Some(path), None) => self.files_under(&path),
            (None, Some(inline)) => object::objects(vec![inline.node().clone()], item.sink()),
            _ => {
                item.refuse("this names no manifest", "write { path: … } or { inline: { apiVersion: …, … } }");
                Vec::new()
            }
        }
    }

    fn files_under(&mut self, path: &Field<'_>) -> Vec<Object> {
        let Some(text) = path.text() else { return Vec::new() };
        let files = match self.library.read(text) {
            Ok(files) => files,
            Err((what, help)) => {
                path.refuse(what, help);
                return Vec::new();
            }
        };
        let mut objects = Vec::new();
        for (name, text) in files {
            let index = self.files.add(&name, &text);
            let (documents, problems) = yaml::parse(&text, index);
            for problem in problems {
                path.sink().report(problem);
            }
            objects.extend(object::objects(documents, path.sink()));
        }
        objects
    }

    /// A hash over all that was read. File names are not part of it: the same words elsewhere are the same input.
    fn input_hash(&self, input: &Input<'_>) -> String {
        let texts = self.files.all().iter().map(|file| &*file.text);
        let variant = input.variant.unwrap_or_default();
        Fingerprint::of(texts.chain([variant])).to_string()
    }
}

/// `spec`, with paths that begin with `spec.`.
struct SpecField<'a> {
    sink: &'a Sink,
    node: &'a Node,
}

impl<'a> SpecField<'a> {
    fn fields(&self) -> Option<Fields<'a>> {
        Field::root(self.sink, Dialect::Scenario, "", self.node).under("spec").fields()
    }
}

fn place_at(node: &mut Node, place: Place) {
    node.at = place;
    match &mut node.value {
        crate::manifest::Value::List(items) => items.iter_mut().for_each(|item| place_at(item, place)),
        crate::manifest::Value::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.key_at = place;
            place_at(&mut entry.node, place);
        }),
        _ => {}
    }
}
