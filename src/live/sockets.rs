//! Listening sockets, several on one address: each worker accepts on its own, and the kernel spreads the clients.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::BindError;

/// Clients that wait to be accepted. Source: Linux `net.core.somaxconn`, which caps it.
const BACKLOG: i32 = 4096;

/// Binds `count` sockets to one address. With port 0 the system chooses a port, the same for all.
pub(super) fn bind(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, BindError> {
    let fail = |source| BindError { address, source };
    // Two processes of one user may share a port where both say so. That is never meant here: a first socket that does not say so finds out.
    drop(socket(address, Sharing::No).map_err(fail)?);
    bind_again(address, count)
}

/// The same for an address that this process listens on already.
pub(super) fn bind_again(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, BindError> {
    let fail = |source| BindError { address, source };
    let mut sockets: Vec<TcpListener> = Vec::with_capacity(count);
    for _ in 0..count {
        let wanted = match sockets.first() {
            None => address,
            Some(first) => first.local_addr().map_err(fail)?,
        };
        let socket = socket(wanted, Sharing::WithWorkers).map_err(fail)?;
        socket.listen(BACKLOG).map_err(fail)?;
        sockets.push(socket.into());
    }
    Ok(sockets)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    No,
    WithWorkers,
}

fn socket(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process that are still winding down do not block the port.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::WithWorkers)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_port_and_nobody_else_does() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = bind(any, 3).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        let error = bind(address, 1).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        assert!(bind(address, 2).is_ok(), "free again");
    }
}
