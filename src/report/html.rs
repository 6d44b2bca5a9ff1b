//! The page: one offline file that tells a run to somebody who was not there.
//!
//! It opens with the verdict and one sentence, then the rollout as a picture: what every gateway pod did, what the load
//! balancer believed of it, and the requests lost, on one axis of time. Figures, causes and settings follow. Nothing is
//! loaded from elsewhere and nothing needs a script; colour is never the only signal.
//!
//! Every text of the user is escaped: by the template outside of drawings, by the SVG backend inside.
//!
//! Times on the page count from the start of the measured time, as `at:` in a scenario does; the warm-up is cut off.

mod actions;
mod axis;
mod latency;
mod palette;
mod rollout;
mod svg;
mod view;

#[cfg(test)]
mod tests;

use minijinja::Environment;

use crate::engine::Event;
use crate::record::Run;

const TEMPLATE: &str = include_str!("html/page.html");

/// What the page tells beside the run itself.
#[derive(Clone, Copy, Default, Debug)]
pub struct HtmlOptions<'a> {
    /// The event log: the actions of the timeline are marked in the pictures. Empty if there is none.
    pub events: &'a [Event],
    /// The scenario as it was run, every default filled in, as YAML.
    pub scenario: Option<&'a str>,
    /// The command that gives this run again.
    pub command: Option<&'a str>,
}

/// The page of one run. Equal input gives equal bytes.
///
/// # Panics
///
/// Never: the template is part of the program, and a test fills it in.
#[must_use]
pub fn page(run: &Run, options: &HtmlOptions<'_>) -> String {
    let mut templates = Environment::new();
    templates.add_template("page.html", TEMPLATE).expect("the template is well-formed");
    let template = templates.get_template("page.html").expect("the template was just added");
    template.render(view::page(run, options)).expect("the template asks for nothing the page does not have")
}

/// A drawing and what has to be said beneath it.
#[derive(Debug)]
struct Picture {
    svg: String,
    notes: Vec<String>,
}
