//! The floor: a relay on the broker's own ring that does the least that can be called MQTT.
//!
//! It understands CONNECT, SUBSCRIBE and PUBLISH with QoS 0 and 1 in 3.1.1, matches exact topics, keeps no
//! sessions and checks little. What a broker needs beyond it is what the broker costs. One thread, one ring.

mod client;
mod relay;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use ringmq::config::address::ListenAddress;
use ringmq::config::resolved::UnixOptions;
use ringmq::net::listener;

use crate::measure::placement;

/// How it is started.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub listen: SocketAddr,
    /// The CPU that it runs on
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

/// Serves until the process is ended.
///
/// # Errors
/// If it cannot listen, or the ring fails.
pub fn run(options: &Options) -> io::Result<()> {
    if let Some(cpu) = options.cpu {
        placement::pin(&[cpu])?;
    }
    let address = ListenAddress::Tcp(options.listen);
    let mut bound = listener::bind(&address, &UnixOptions::default(), 1, BACKLOG, false)
        .map_err(|error| io::Error::other(error.to_string()))?;
    eprintln!("ringmq-bench: floor listening on {}", bound.address);
    let listening: OwnedFd = bound
        .sockets
        .pop()
        .ok_or_else(|| io::Error::other("no socket to listen on"))?;
    relay::Relay::new(listening)
        .map_err(|error| io::Error::other(error.to_string()))?
        .run()
}
