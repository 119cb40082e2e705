//! Listening sockets: TCP with SO_REUSEPORT, one for each shard, and Unix sockets that all shards share.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::config::address::ListenAddress;
use crate::config::owner;
use crate::config::resolved::UnixOptions;

/// Why a listener cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is in use, not of this machine, or not allowed.
    #[error("cannot listen on {address}: {source}; {remedy}")]
    Bind {
        /// Where.
        address: ListenAddress,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A Unix socket's owner or group does not exist.
    #[error("cannot listen on unix:{path}: there is no {kind} \"{name}\"")]
    Owner {
        /// The socket.
        path: PathBuf,
        /// `user` or `group`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

/// The sockets of one listener, one for each shard, all at the same address.
#[derive(Debug)]
pub struct BoundListener {
    /// The address, with the port that the kernel chose.
    pub address: ListenAddress,
    /// In the order of the shards.
    pub sockets: Vec<OwnedFd>,
    /// A Unix socket's file goes with its listener, unless the service manager made it.
    owns_file: bool,
}

/// Listens on `address` with `count` sockets. With `shares_port`, other listeners of this process have or had
/// the same port, and it is not asked whether it is free.
///
/// # Errors
/// With address and remedy.
pub fn bind(
    address: &ListenAddress,
    unix: &UnixOptions,
    count: usize,
    backlog: u32,
    shares_port: bool,
) -> Result<BoundListener, ListenError> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    let at = |source: io::Error| ListenError::Bind {
        address: address.clone(),
        remedy: remedy(address, &source),
        source,
    };
    match address {
        ListenAddress::Tcp(tcp) => {
            if !shares_port {
                check_free(*tcp).map_err(at)?;
            }
            let first = bind_tcp(*tcp, backlog).map_err(at)?;
            let actual = first.local_addr().map_err(at)?.as_socket().unwrap_or(*tcp);
            let mut sockets = vec![OwnedFd::from(first)];
            for _ in 1..count {
                sockets.push(bind_tcp(actual, backlog).map_err(at)?.into());
            }
            Ok(BoundListener {
                address: ListenAddress::Tcp(actual),
                sockets,
                owns_file: false,
            })
        }
        ListenAddress::Unix(path) => {
            let (owner, group) = owners(path, unix)?;
            let socket = bind_unix(path).map_err(at)?;
            // From here on the file goes away if anything fails.
            let mut bound = BoundListener {
                address: address.clone(),
                sockets: Vec::with_capacity(count),
                owns_file: true,
            };
            // Nobody can connect before it listens, and by then owner and mode are right.
            if owner.is_some() || group.is_some() {
                std::os::unix::fs::chown(path, owner, group).map_err(|source| {
                    ListenError::Bind {
                        address: address.clone(),
                        source,
                        remedy: "run as root or as a member of that group",
                    }
                })?;
            }
            let mode = unix.mode.unwrap_or(0o660);
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(at)?;
            socket.listen(backlog).map_err(at)?;
            for _ in 0..count {
                bound
                    .sockets
                    .push(socket.as_fd().try_clone_to_owned().map_err(at)?);
            }
            Ok(bound)
        }
    }
}

impl Drop for BoundListener {
    fn drop(&mut self) {
        if let ListenAddress::Unix(path) = &self.address
            && self.owns_file
        {
            // Somebody may have removed it before.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Accepts with `count` shards at a socket that listens already.
///
/// # Errors
/// No descriptors are left.
pub fn take_over(
    address: &ListenAddress,
    socket: BorrowedFd<'_>,
    count: usize,
) -> Result<BoundListener, ListenError> {
    let sockets: io::Result<Vec<_>> = (0..count).map(|_| socket.try_clone_to_owned()).collect();
    Ok(BoundListener {
        address: address.clone(),
        sockets: sockets.map_err(|source| ListenError::Bind {
            address: address.clone(),
            source,
            remedy: "raise LimitNOFILE (ulimit -n)",
        })?,
        owns_file: false,
    })
}

fn remedy(address: &ListenAddress, error: &io::Error) -> &'static str {
    let unix = matches!(address, ListenAddress::Unix(_));
    match error.kind() {
        io::ErrorKind::AddrInUse if unix => "stop the other program or choose another path",
        io::ErrorKind::AddrInUse => "stop the other program or choose another port",
        io::ErrorKind::AddrNotAvailable => "choose an address of this machine",
        io::ErrorKind::PermissionDenied if unix => "choose a directory that may be written",
        io::ErrorKind::PermissionDenied => "choose a port from 1024 on",
        io::ErrorKind::NotFound => "create the directory first",
        _ => "check the address",
    }
}

/// SO_REUSEPORT would let a second broker listen at the same place and get a part of the clients: a bind
/// without it says whether the address is free.
fn check_free(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn bind_tcp(address: SocketAddr, backlog: i32) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

/// A socket file that nobody answers on is left over from an earlier run and is removed.
fn bind_unix(path: &Path) -> io::Result<Socket> {
    if let Ok(metadata) = std::fs::symlink_metadata(path)
        && metadata.file_type().is_socket()
    {
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?
            }
            Err(error) => return Err(error),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// The numbers of the owner and the group that a Unix socket is to have.
fn owners(path: &Path, unix: &UnixOptions) -> Result<(Option<u32>, Option<u32>), ListenError> {
    type Number = fn(&str) -> Option<u32>;
    let find = |name: &Option<String>, kind, number: Number| match name {
        None => Ok(None),
        Some(name) => number(name).map(Some).ok_or_else(|| ListenError::Owner {
            path: path.into(),
            kind,
            name: name.clone(),
        }),
    };
    Ok((
        find(&unix.owner, "user", owner::user)?,
        find(&unix.group, "group", owner::group)?,
    ))
}

/// Changes how many connections the kernel queues for a socket that listens already.
pub fn set_backlog(socket: impl AsFd, backlog: u32) {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // A socket that listens takes any number.
    let _ = SockRef::from(&socket).listen(backlog);
}

/// Makes small packets leave at once: the broker does its own batching.
pub fn set_nodelay(socket: impl AsFd) {
    // A Unix socket has no such option, and a socket that is already gone says so at its first receive.
    let _ = SockRef::from(&socket).set_tcp_nodelay(true);
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_backlog_of_a_socket_that_listens_can_be_changed() {
        let address = "127.0.0.1:0".parse().unwrap();
        let bound = bind(&address, &UnixOptions::default(), 1, 1, false).unwrap();
        let ListenAddress::Tcp(address) = bound.address else {
            panic!("{bound:?}");
        };
        let patience = Duration::from_millis(300);
        let connect = || TcpStream::connect_timeout(&address, patience);
        // Nobody accepts: one more than the backlog fits.
        let first: Vec<_> = (0..2).map(|_| connect().unwrap()).collect();
        assert!(connect().is_err(), "the queue is full");
        set_backlog(&bound.sockets[0], 16);
        let more: Vec<_> = (0..10).map(|_| connect().unwrap()).collect();
        assert_eq!(first.len() + more.len(), 12);
    }
}
