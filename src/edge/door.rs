//! Ways to a Service without a balancer: its node ports, its own address within the cluster, and the balancer's address within the cluster.
//!
//! - Node ports are dialled from outside. Clients know all nodes that are there and take them in turn, dead ones too: nobody tells them.
//! - Within the cluster clients are on nodes, and the kube-proxy of their node decides. Connections come from the nodes in turn; dead ones have no clients.
//!
//! Both can be narrowed to one node, or to those of a zone. A connection whose SYN is sent again keeps its node.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::rc::Rc;

use super::kube_proxy::Origin;
use super::nodes::{NodeChoice, NodePlace, Nodes};
use crate::net::{ConnectionId, Forward, Syn, Verdict};

/// What clients dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DoorKind {
    /// A port of the nodes, from outside.
    NodePort,
    /// The Service's own address, from within.
    ClusterIp,
    /// The balancer's address, from within: kube-proxy keeps it there.
    BalancerFromWithin,
}

/// A front port behind a door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoorPort {
    /// What is dialled on the node.
    pub node: u16,
    /// What the pods listen on.
    pub pod: u16,
}

/// One way in.
pub struct Door {
    nodes: Nodes,
    kind: DoorKind,
    choice: NodeChoice,
    /// By the port that clients name.
    ports: RefCell<BTreeMap<u16, DoorPort>>,
    turn: Cell<usize>,
    /// Whether it is shut.
    shut: RefCell<Option<Shut>>,
}

/// Tells what becomes of a connection to this port, once a door is shut.
pub type Shut = Rc<dyn Fn(u16) -> Option<Verdict>>;

impl Door {
    /// A way over these nodes.
    #[must_use]
    pub fn new(nodes: Nodes, kind: DoorKind, choice: NodeChoice, ports: BTreeMap<u16, DoorPort>) -> Self {
        Self { nodes, kind, choice, ports: RefCell::new(ports), turn: Cell::new(0), shut: RefCell::default() }
    }

    /// It leads nowhere once this says what becomes of connections: the address behind it is nobody's then, or nobody listens there.
    pub fn shut_when(&self, shut: Shut) {
        *self.shut.borrow_mut() = Some(shut);
    }

    /// The Service has these ports too from now on, if its nodes know of them. What it has no more, they do not know.
    pub fn add_ports(&self, ports: &BTreeMap<u16, DoorPort>) {
        let mut known = self.ports.borrow_mut();
        for (port, door) in ports {
            known.entry(*port).or_insert(*door);
        }
    }

    /// The node of the next connection; the nearest there is to one, if none can be one.
    fn next(&self) -> Result<NodePlace, Option<NodePlace>> {
        let mut places = self.nodes.places();
        places.retain(|place| self.choice.has(place));
        let last = places.last().cloned();
        if self.kind != DoorKind::NodePort {
            places.retain(|place| !self.nodes.is_dead(&place.name));
        }
        if places.is_empty() {
            return Err(last);
        }
        let turn = self.turn.replace(self.turn.get() + 1);
        Ok(places.swap_remove(turn % places.len()))
    }
}

impl Forward for Door {
    fn syn(&self, syn: &Syn) -> Verdict {
        let shut = self.shut.borrow().clone();
        if let Some(verdict) = shut.and_then(|shut| shut(syn.to.port())) {
            return verdict;
        }
        let Some(port) = self.ports.borrow().get(&syn.to.port()).copied() else {
            return Verdict::Refuse { by: None, why: None };
        };
        let known = self.nodes.opened_via(syn.id);
        let place = match known.map_or_else(|| self.next(), Ok) {
            Ok(place) => place,
            // All nodes that clients could be on are dead, or gone.
            Err(last) => {
                let by = last.map(|place| SocketAddrV4::new(place.ip, port.node));
                return Verdict::Drop { by, why: None };
            }
        };
        let origin = match self.kind {
            DoorKind::NodePort => Origin::External,
            DoorKind::ClusterIp => Origin::Internal,
            DoorKind::BalancerFromWithin => Origin::InternalToBalancer,
        };
        self.nodes.cross(syn, &place.name, (port.node, port.pod), origin)
    }

    fn ended(&self, id: ConnectionId) {
        self.nodes.ended(id);
    }
}
