//! Sockets that the service manager listens on and passes to the process (socket activation).
//!
//! They outlive the process: clients that connect while it restarts wait in the kernel's queue. A passed
//! socket belongs to the listener with its name (`FileDescriptorName=`) or with its address. All shards accept
//! at the one socket, since SO_REUSEPORT would need one for each.

use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::config::address::ListenAddress;
use crate::config::{Config, Listener};

/// A socket that was passed.
#[derive(Debug)]
pub struct PassedSocket {
    name: Option<String>,
    /// Where it listens.
    pub address: ListenAddress,
    /// It stays here, for a listener that a reload closes and another one opens again.
    pub socket: OwnedFd,
}

/// All sockets that were passed.
#[derive(Debug, Default)]
pub struct Passed(Vec<PassedSocket>);

impl Passed {
    /// Takes them from the environment, once, before there are other threads.
    ///
    /// # Errors
    /// What was passed is no socket that listens for streams.
    pub fn take() -> Result<Self, String> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let wrong = |error: std::io::Error| {
                format!(
                    "socket {index} that the service manager passed cannot be used: {error}; use ListenStream="
                )
            };
            let tcp = passed.take_tcp_listener(index);
            let socket: OwnedFd = match tcp {
                Ok(Some(listener)) => listener.into(),
                _ => match passed.take_unix_listener(index).map_err(wrong)? {
                    Some(listener) => listener.into(),
                    None => continue,
                },
            };
            let address = address(&socket).map_err(wrong)?;
            sockets.push(PassedSocket {
                name: names.next().filter(|name| !name.is_empty()),
                address,
                socket,
            });
        }
        Ok(Self(sockets))
    }

    /// The socket of a listener, if one was passed.
    pub fn of(&self, listener: &Listener) -> Option<&PassedSocket> {
        let named = |passed: &&PassedSocket| passed.name.as_ref() == Some(&listener.name);
        let mut sockets = self.0.iter();
        sockets
            .clone()
            .find(named)
            .or_else(|| sockets.find(|passed| passed.address == listener.address))
    }

    /// Fails for a socket that nobody would accept at.
    ///
    /// # Errors
    /// Which one, and what to do.
    pub fn check(&self, config: &Config) -> Result<(), String> {
        let is_used = |passed: &PassedSocket| {
            let mut listeners = config.listeners.iter();
            listeners.any(|listener| self.of(listener).is_some_and(|of| std::ptr::eq(of, passed)))
        };
        match self.0.iter().find(|passed| !is_used(passed)) {
            None => Ok(()),
            Some(passed) => Err(format!(
                "the service manager passed a socket at {} (named \"{}\"), and no [[listener]] has that address or that \
                 name; make ListenStream= and address the same, or FileDescriptorName= and name",
                passed.address,
                passed.name.as_deref().unwrap_or_default()
            )),
        }
    }
}

fn address(socket: &OwnedFd) -> std::io::Result<ListenAddress> {
    let address = SockRef::from(socket).local_addr()?;
    let unix = || {
        address
            .as_pathname()
            .map(|path| ListenAddress::Unix(path.into()))
    };
    address
        .as_socket()
        .map(ListenAddress::Tcp)
        .or_else(unix)
        .ok_or_else(|| std::io::Error::other("it has neither a TCP address nor a path"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_belongs_to_the_listener_with_its_name_or_address() {
        let socket = |name: &str| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = ListenAddress::Tcp(listener.local_addr().unwrap());
            PassedSocket {
                name: Some(name.into()),
                address,
                socket: listener.into(),
            }
        };
        let passed = Passed(vec![socket("inside"), socket("ringmq.socket")]);
        let mut by_name = Listener::at("127.0.0.1:1".parse().unwrap());
        by_name.name = "inside".into();
        let by_address = Listener::at(passed.0[1].address.clone());
        assert_eq!(passed.of(&by_name).unwrap().address, passed.0[0].address);
        assert_eq!(passed.of(&by_address).unwrap().address, passed.0[1].address);
        assert!(
            passed
                .of(&Listener::at("127.0.0.1:1".parse().unwrap()))
                .is_none()
        );
        let mut config = Config {
            listeners: vec![by_name],
            ..Config::default()
        };
        let error = passed.check(&config).unwrap_err();
        assert!(error.contains("ringmq.socket"), "{error}");
        config.listeners.push(by_address);
        assert_eq!(passed.check(&config), Ok(()));
    }
}
