//! Whose a pod is: a Deployment's, a `DaemonSet`'s, or nobody's but its own.
//!
//! A Deployment is called `namespace/name` as the owner of its pods. The others are called as no Deployment can be: `namespace/daemonset/name`, and
//! `namespace/pod/name`.

use std::rc::Rc;

/// A kind of owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OwnerKind {
    /// It sizes sets of pods.
    Deployment,
    /// It has a pod on each node that will do.
    DaemonSet,
    /// A pod that no controller has made.
    Pod,
}

impl OwnerKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Deployment, Self::DaemonSet, Self::Pod];

    /// The kind of its object.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
            Self::Pod => "Pod",
        }
    }

    /// What the object of this `namespace/name` is called as an owner.
    #[must_use]
    pub fn owner(self, key: &str) -> Rc<str> {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        match self {
            Self::Deployment => Rc::from(key),
            Self::DaemonSet => Rc::from(format!("{namespace}/daemonset/{name}")),
            Self::Pod => Rc::from(format!("{namespace}/pod/{name}")),
        }
    }
}

/// The object that is called so as an owner, as `Kind/namespace/name`.
#[must_use]
pub fn object_of(owner: &str) -> String {
    match owner.split('/').collect::<Vec<_>>()[..] {
        [namespace, "daemonset", name] => format!("DaemonSet/{namespace}/{name}"),
        [namespace, "pod", name] => format!("Pod/{namespace}/{name}"),
        _ => format!("Deployment/{owner}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_called_as_no_other_kind() {
        for (kind, key, owner) in [
            (OwnerKind::Deployment, "shop/web", "shop/web"),
            (OwnerKind::Deployment, "pod/web", "pod/web"),
            (OwnerKind::DaemonSet, "shop/web", "shop/daemonset/web"),
            (OwnerKind::Pod, "shop/web", "shop/pod/web"),
            (OwnerKind::Pod, "daemonset/pod", "daemonset/pod/pod"),
        ] {
            assert_eq!(&*kind.owner(key), owner);
            assert_eq!(object_of(owner), format!("{}/{key}", kind.name()));
        }
    }
}
