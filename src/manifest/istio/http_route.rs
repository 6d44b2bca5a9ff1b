//! `HTTPRoute`: a rule of a VirtualService.
//!
//! Exactly one of redirect, direct response, destinations and delegate says what becomes of a request.
//! Source: istio api networking/v1alpha3/virtual_service.proto; istio pkg/config/validation/virtualservice.go.

use std::time::Duration;

use super::actions::{self, DirectResponse, Redirect, Rewrite};
use super::cors::{self, CorsPolicy};
use super::destination::{self, Mirror, WeightedDestination};
use super::fault::{self, Fault};
use super::headers::{self, Headers};
use super::matches::{self, MatchRequest};
use super::retry::{self, Retries};
use super::string_match::StringMatch;
use super::values;
use crate::manifest::problem::Place;
use crate::manifest::read::{Field, Fields};

/// A rule.
#[derive(Clone, Debug)]
pub struct HttpRoute {
    /// Its name, part of the route's.
    pub name: String,
    /// Its blocks of conditions, of which one must hold; none: it takes all requests.
    pub matches: Vec<MatchRequest>,
    /// Where clients are sent.
    pub redirect: Option<Redirect>,
    /// What the gateway answers.
    pub direct_response: Option<DirectResponse>,
    /// Where requests go.
    pub destinations: Vec<WeightedDestination>,
    /// The VirtualService whose rules stand here, as `namespace/name`.
    pub delegate: Option<Delegate>,
    /// What changes on the way.
    pub rewrite: Option<Rewrite>,
    /// From the complete request to the end of the answer; zero: no limit.
    pub timeout: Option<Duration>,
    /// What is tried again.
    pub retries: Option<Retries>,
    /// Trouble made on purpose.
    pub fault: Option<Fault>,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
    /// Who else may read answers in a browser.
    pub cors: Option<CorsPolicy>,
    /// What changes in headers.
    pub headers: Option<Headers>,
    /// Where it stands.
    pub at: Place,
    /// Whether everything in it could be read.
    pub is_whole: bool,
}

/// Two rules are the same wherever they are written.
impl PartialEq for HttpRoute {
    fn eq(&self, other: &Self) -> bool {
        let parts = |rule: &Self| {
            let Self { name, matches, redirect, direct_response, destinations, delegate, .. } = rule.clone();
            let Self { rewrite, timeout, retries, fault, mirrors, cors, headers, .. } = rule.clone();
            let delegate = delegate.map(|delegate| delegate.key);
            (
                (name, matches, redirect, direct_response, destinations, delegate),
                (rewrite, timeout, retries, fault, mirrors, cors, headers),
            )
        };
        parts(self) == parts(other)
    }
}

/// Another VirtualService whose rules are taken over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delegate {
    /// Its `namespace/name`.
    pub key: String,
    /// Where it is named.
    pub at: Place,
    /// The key path.
    pub path: String,
}

/// What the rule's VirtualService is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Within<'a> {
    /// Its namespace.
    pub(super) namespace: &'a str,
    /// It has no hosts: its rules are taken over by others.
    pub(super) is_delegate: bool,
}

/// Reads a rule.
pub(super) fn read(rule: &Field<'_>, within: Within<'_>) -> Option<HttpRoute> {
    let before = rule.sink().problem_count();
    let fields = rule.fields()?;
    let Within { namespace, .. } = within;
    let mut matches = Vec::new();
    let mut all_read = true;
    for block in fields.look("match").map(|field| field.items()).unwrap_or_default() {
        match matches::read(&block, namespace) {
            Some(block) => matches.push(block),
            None => all_read = false,
        }
    }
    let redirect = fields.look("redirect");
    let has_prefix = matches.iter().all(|block| matches!(block.uri, None | Some(StringMatch::Prefix(_))));
    let direct = fields.look("directResponse");
    let route = fields.look("route");
    let delegate = fields.look("delegate");
    let mut found = HttpRoute {
        name: values::quiet_text(&fields, "name").unwrap_or_default().to_owned(),
        matches,
        redirect: redirect.as_ref().and_then(|field| actions::read_redirect(field, has_prefix)),
        direct_response: direct.as_ref().and_then(actions::read_direct_response),
        destinations: route.as_ref().map(|field| destination::read_weighted(field, namespace)).unwrap_or_default(),
        delegate: delegate.as_ref().and_then(|field| read_delegate(field, namespace)),
        rewrite: actions::read_rewrite(&fields),
        timeout: fields.get("timeout").and_then(|field| values::span_or_zero(&field)),
        retries: fields.look("retries").and_then(|field| retry::read(&field)),
        fault: fault::read(&fields),
        mirrors: read_mirrors(&fields, namespace),
        cors: cors::read(&fields),
        headers: headers::read(&fields),
        at: rule.place(),
        is_whole: true,
    };
    fields.finish();
    check_authority(&fields, &found);
    let written = Written {
        rule,
        redirect: redirect.as_ref(),
        direct: direct.as_ref(),
        route: route.as_ref(),
        delegate: delegate.as_ref(),
    };
    written.check(&fields, within);
    found.is_whole = all_read && rule.sink().problem_count() == before;
    // A block that cannot be read must not become a rule for all requests.
    (all_read || !found.matches.is_empty()).then_some(found)
}

fn read_delegate(field: &Field<'_>, namespace: &str) -> Option<Delegate> {
    let fields = field.fields()?;
    let name = fields.require("name", "name a VirtualService without hosts")?;
    let name = name.text()?;
    let within = values::text(&fields, "namespace").unwrap_or(namespace);
    fields.finish();
    Some(Delegate { key: format!("{within}/{name}"), at: field.place(), path: field.path().to_owned() })
}

/// `mirrors`, or `mirror` with its percentage. A share of 0 copies nothing, and the mirror is left out.
fn read_mirrors(fields: &Fields<'_>, namespace: &str) -> Vec<Mirror> {
    let several = fields.look("mirrors");
    let single = fields.look("mirror");
    let share = fields.look("mirrorPercentage").map(|field| values::millionths(&field));
    let mut old_share = None;
    for key in ["mirrorPercent", "mirror_percent"] {
        if let Some(field) = fields.get(key) {
            values::warn(&field, "`mirrorPercentage` has taken the place of `mirrorPercent`");
            old_share = Some(field.whole::<u32>(0, 100).map(|percent| percent * 10_000));
        }
    }
    if let (Some(single), true) = (&single, several.as_ref().is_some_and(|field| !field.items().is_empty())) {
        single.refuse("`mirror` and `mirrors` exclude each other", "write one of them");
    }
    let mut found: Vec<Mirror> = Vec::new();
    if let Some(field) = &single {
        let share = share.or(old_share);
        let read = destination::read(field, namespace);
        found.extend(read.map(|destination| Mirror { destination, share: share.flatten() }));
    }
    for item in several.map(|field| field.items()).unwrap_or_default() {
        found.extend(destination::read_mirror(&item, namespace));
    }
    found.retain(|mirror| mirror.share != Some(0));
    found
}

/// The `Host` header is changed in one place only.
fn check_authority(fields: &Fields<'_>, found: &HttpRoute) {
    let rewritten = found.rewrite.as_ref().and_then(|rewrite| rewrite.authority.as_ref());
    let empty = Headers::default();
    let changes = &found.headers.as_ref().unwrap_or(&empty).request;
    let changed = changes.set.iter().chain(&changes.add).filter(|(name, _)| headers::is_authority(name)).count();
    if usize::from(rewritten.is_some()) + changed > 1
        && let Some(field) = fields.look(if rewritten.is_some() { "rewrite" } else { "headers" })
    {
        field.refuse("the Host header is changed more than once", "change it in one place");
    }
}

/// Which actions are written.
struct Written<'a, 'b> {
    rule: &'b Field<'a>,
    redirect: Option<&'b Field<'a>>,
    direct: Option<&'b Field<'a>>,
    route: Option<&'b Field<'a>>,
    delegate: Option<&'b Field<'a>>,
}

impl Written<'_, '_> {
    /// Refuses what excludes each other.
    fn check(&self, fields: &Fields<'_>, within: Within<'_>) {
        let exclude = |field: &Field<'_>, what: &str, other: &str| {
            field.refuse(format!("a rule cannot have both {what} and {other}"), "write two rules, or one of them");
        };
        if let Some(delegate) = self.delegate {
            if within.is_delegate {
                let help = "write hosts, or take the delegate's rules over here";
                delegate.refuse("a VirtualService without hosts is a delegate and cannot have one itself", help);
            }
            let others = [(self.redirect, "redirect"), (self.route, "route"), (self.direct, "directResponse")];
            for (field, key) in others {
                if let Some(field) = field {
                    exclude(field, key, "delegate");
                }
            }
            return;
        }
        let has_route = self.route.filter(|field| !field.items().is_empty());
        if self.redirect.is_none() && self.direct.is_none() && has_route.is_none() {
            let path = format!("{}.route", self.rule.path());
            let problem = crate::manifest::Problem::at(self.rule.place(), path, "this is missing");
            self.rule.sink().report(problem.help("a rule has destinations, a redirect or a directResponse"));
        }
        for (own, key) in [(self.redirect, "redirect"), (self.direct, "directResponse")] {
            let Some(own) = own else { continue };
            if has_route.is_some() {
                exclude(own, key, "route");
            }
            for other in ["fault", "rewrite"] {
                if fields.look(other).is_some() {
                    exclude(own, key, other);
                }
            }
        }
        if let (Some(redirect), true) = (self.redirect, self.direct.is_some()) {
            exclude(redirect, "redirect", "directResponse");
        }
    }
}
