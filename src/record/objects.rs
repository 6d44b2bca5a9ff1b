//! What `kubectl get` would have shown at a moment of a run: data only, in rows of texts.

/// The objects at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectsShown {
    /// When, in milliseconds since the start of the measured time; negative in the warm-up.
    pub at_ms: i64,
    /// Why then.
    pub why: String,
    /// The cluster they are in, if there are several.
    pub cluster: Option<String>,
    /// One table per kind; a kind without objects has none.
    pub tables: Vec<ObjectTable>,
}

/// The objects of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectTable {
    /// The kind as one types it.
    pub kind: &'static str,
    /// The columns.
    pub head: Vec<&'static str>,
    /// A row per object, as many cells as columns.
    pub rows: Vec<Vec<String>>,
}
