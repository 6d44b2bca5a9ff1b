//! From a host's name to its virtual host, at a cost that does not grow with their number.
//!
//! One hash table for exact names, one for wildcards. Of a wildcard's text only such lengths are tried as there are, longest first: Envoy's
//! wildcards end or begin at any byte (`*-a.example.com`), so that labels alone would not do. The hash is fixed: the same table on each machine.
//!
//! Source: envoy source/common/router/config_impl.cc (`findWildcardVirtualHost`).

use std::collections::BTreeSet;

use hashbrown::HashTable;
use twox_hash::XxHash64;

/// Names and which virtual host each belongs to.
#[derive(Clone, Default, Debug)]
pub(super) struct HostIndex {
    exact: Names,
    /// `.example.com` for `*.example.com`.
    suffixes: Wildcards,
    /// `www.` for `www.*`.
    prefixes: Wildcards,
    any: Option<usize>,
}

/// The names stand one behind the other: a look-up goes to as few places in memory as can be.
#[derive(Clone, Default, Debug)]
struct Names {
    table: HashTable<Entry>,
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    length: u32,
    host: u32,
}

#[derive(Clone, Default, Debug)]
struct Wildcards {
    names: Names,
    lengths: BTreeSet<usize>,
}

fn hash(name: &[u8]) -> u64 {
    XxHash64::oneshot(0, name)
}

/// A table holds less than four thousand million bytes of names.
fn small(number: usize) -> u32 {
    u32::try_from(number).expect("a table of routes is no larger")
}

fn part(text: &[u8], entry: Entry) -> &[u8] {
    let index = |number: u32| usize::try_from(number).expect("an index has 32 bits at least");
    &text[index(entry.start)..][..index(entry.length)]
}

impl Names {
    /// Adds a name; one that is there stays.
    fn add(&mut self, name: &str, host: usize) {
        if self.find(name.as_bytes()).is_some() {
            return;
        }
        let entry = Entry { start: small(self.text.len()), length: small(name.len()), host: small(host) };
        self.text.extend_from_slice(name.as_bytes());
        self.table.insert_unique(hash(name.as_bytes()), entry, |known| hash(part(&self.text, *known)));
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        let found = self.table.find(hash(name), |known| part(&self.text, *known) == name)?;
        usize::try_from(found.host).ok()
    }
}

impl Wildcards {
    fn add(&mut self, text: &str, host: usize) {
        self.names.add(text, host);
        self.lengths.insert(text.len());
    }

    /// The longest that a part of the name equals; `part` cuts so many bytes off it. The wildcard stands for at least one byte.
    fn find<'n>(&self, name: &'n [u8], part: impl Fn(&'n [u8], usize) -> &'n [u8]) -> Option<usize> {
        self.lengths.range(..name.len()).rev().find_map(|length| self.names.find(part(name, *length)))
    }
}

impl HostIndex {
    /// Adds a domain, in lower case. One that is there already stays with its virtual host.
    pub(super) fn add(&mut self, domain: &str, host: usize) {
        if domain == "*" {
            self.any.get_or_insert(host);
        } else if let Some(suffix) = domain.strip_prefix('*') {
            self.suffixes.add(suffix, host);
        } else if let Some(prefix) = domain.strip_suffix('*') {
            self.prefixes.add(prefix, host);
        } else {
            self.exact.add(domain, host);
        }
    }

    /// The virtual host of a name in lower case.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let name = name.as_bytes();
        let wildcard = || self.suffixes.find(name, |name, length| &name[name.len() - length..]);
        let found = self.exact.find(name).or_else(wildcard);
        let found = found.or_else(|| self.prefixes.find(name, |name, length| &name[..length]));
        found.or(self.any.filter(|_| !name.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by looking at every domain.
    fn naive(domains: &[String], name: &str) -> Option<usize> {
        let position = |domain: &str| domains.iter().position(|known| known == domain);
        let longest = |fits: &dyn Fn(&str) -> bool| {
            let fitting =
                domains.iter().filter(|domain| domain.len() > 1 && domain.len() <= name.len() && fits(domain));
            fitting.max_by_key(|domain| domain.len()).and_then(|domain| position(domain))
        };
        position(name)
            .or_else(|| longest(&|domain| domain.strip_prefix('*').is_some_and(|suffix| name.ends_with(suffix))))
            .or_else(|| longest(&|domain| domain.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix))))
            .or_else(|| position("*").filter(|_| !name.is_empty()))
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_look_at_every_domain_finds(
            domains in prop::collection::vec(r"(\*[ab.]{0,4}|[ab.]{1,4}\*?)", 0..12),
            names in prop::collection::vec("[ab.]{0,6}", 1..8),
        ) {
            let mut index = HostIndex::default();
            for (host, domain) in domains.iter().enumerate() {
                index.add(domain, host);
            }
            for name in &names {
                prop_assert_eq!(index.find(name), naive(&domains, name), "{} in {:?}", name, domains);
            }
        }
    }
}
