//! A Network Connection to a broker, as a client has it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::cli::admin::Reach;
use crate::mqtt::data_types::{PacketIdentifier, ProtocolVersion, Role};
use crate::mqtt::frame::{Framing, frame};
use crate::mqtt::packet::connect::Connect;
use crate::mqtt::packet::disconnect::Disconnect;
use crate::mqtt::packet::{PINGREQ, Packet};
use crate::mqtt::properties::Properties;
use crate::mqtt::reason_code::ReasonCode;

use super::super::Failure;
use super::{PATIENCE, failed, why};

/// The largest packet that is taken, bytes.
const PACKET_BYTES_MAX: usize = 268_435_460;

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn set_read_timeout(&self, timeout: Duration) -> std::io::Result<()> {
        // Nothing is not a timeout that a socket takes.
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }
}

/// A connection that the broker has accepted.
pub(super) struct Link {
    stream: Stream,
    version: ProtocolVersion,
    received: Vec<u8>,
    keep_alive: Duration,
    sent: Instant,
    identifier: u16,
}

impl Link {
    /// Connects, and waits for CONNACK.
    pub(super) fn connect(reach: &Reach) -> Result<Self, Failure> {
        let stream = open(&reach.broker)
            .map_err(|error| failed(format!("no broker at {}: {error}", reach.broker)))?;
        let version = match reach.mqtt.as_str() {
            "3.1.1" => ProtocolVersion::V3_1_1,
            _ => ProtocolVersion::V5,
        };
        let password = match &reach.password_file {
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| failed(format!("cannot read {}: {error}", file.display())))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            None => None,
        };
        let mut link = Self {
            stream,
            version,
            received: Vec::new(),
            keep_alive: Duration::from_secs(reach.keep_alive.into()),
            sent: Instant::now(),
            identifier: 0,
        };
        let connect = Connect {
            protocol_version: version,
            clean_start: reach.session.is_none(),
            keep_alive_s: reach.keep_alive,
            client_identifier: reach.id.as_deref().unwrap_or_default(),
            will: None,
            user_name: reach.user.as_deref(),
            password: password.as_deref().map(str::as_bytes),
            properties: Properties {
                session_expiry_interval_s: reach.session.filter(|_| version.is_v5()),
                ..Properties::default()
            },
        };
        link.send(|_, out| connect.encode(out))?;
        link.wait(PATIENCE, |packet| match packet {
            Packet::ConnAck(connack) => Some(match connack.reason_code {
                ReasonCode::Success => Ok(()),
                code => Err(failed(format!(
                    "the broker refuses the connection: {code:?}{}",
                    why(&connack.properties)
                ))),
            }),
            _ => None,
        })??;
        Ok(link)
    }

    pub(super) fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// A Packet Identifier for the next request.
    pub(super) fn next_identifier(&mut self) -> PacketIdentifier {
        self.identifier = self.identifier.checked_add(1).unwrap_or(1);
        PacketIdentifier::new(self.identifier).unwrap_or(PacketIdentifier::MIN)
    }

    /// Sends what `encode` writes.
    pub(super) fn send(
        &mut self,
        encode: impl FnOnce(ProtocolVersion, &mut Vec<u8>),
    ) -> Result<(), Failure> {
        let mut packet = Vec::new();
        encode(self.version, &mut packet);
        self.sent = Instant::now();
        self.stream
            .write_all(&packet)
            .map_err(|error| failed(format!("cannot send: {error}")))
    }

    /// Waits for the packet that `wanted` takes; others are passed over.
    pub(super) fn wait<T>(
        &mut self,
        patience: Duration,
        mut wanted: impl FnMut(&Packet<'_>) -> Option<T>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next(Some(left), |packet| Ok(wanted(packet)))? {
                Some(Some(found)) => return Ok(found),
                Some(None) => {}
                None => return Err(failed("the broker does not answer")),
            }
        }
    }

    /// Gives the next packet to `take`; nothing if none comes in time.
    pub(super) fn next<T>(
        &mut self,
        patience: Option<Duration>,
        take: impl FnOnce(&Packet<'_>) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let packet_bytes = loop {
            match frame(&self.received, PACKET_BYTES_MAX).map_err(|error| failed(error.cause()))? {
                Framing::Complete(frame) => break frame.packet_bytes,
                Framing::Incomplete { .. } => {
                    if !self.receive(deadline)? {
                        return Ok(None);
                    }
                }
            }
        };
        let bytes: Vec<u8> = self.received.drain(..packet_bytes).collect();
        let Ok(Framing::Complete(frame)) = frame(&bytes, PACKET_BYTES_MAX) else {
            return Err(failed("a packet is not whole"));
        };
        let packet = Packet::decode(&frame, self.version, Role::Server).map_err(|error| {
            failed(format!(
                "the broker sent what is no packet: {}",
                error.cause()
            ))
        })?;
        if let Packet::Disconnect(disconnect) = &packet {
            return Err(failed(format!(
                "the broker ended the connection: {:?}{}",
                disconnect.reason_code,
                why(&disconnect.properties)
            )));
        }
        take(&packet).map(Some)
    }

    /// Receives more; false if nothing comes before the deadline. Keeps the connection alive meanwhile.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<bool, Failure> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(false);
            }
            let mut left = deadline.map_or(PATIENCE, |deadline| deadline - now);
            if !self.keep_alive.is_zero() {
                let due = self.sent + self.keep_alive * 3 / 4;
                if now >= due {
                    self.send(|_, out| out.extend_from_slice(&PINGREQ))?;
                    continue;
                }
                left = left.min(due - now);
            }
            self.stream.set_read_timeout(left).map_err(failed)?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(failed("the broker closed the connection")),
                Ok(bytes) => {
                    self.received.extend_from_slice(&buffer[..bytes]);
                    return Ok(true);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(failed(format!("the connection broke: {error}"))),
            }
        }
    }

    /// Ends the connection in order.
    pub(super) fn disconnect(mut self) -> Result<(), Failure> {
        self.send(|version, out| Disconnect::new(ReasonCode::Success).encode(version, out))
    }
}

fn open(broker: &str) -> std::io::Result<Stream> {
    if let Some(path) = broker.strip_prefix("unix:") {
        return UnixStream::connect(path).map(Stream::Unix);
    }
    let mut last = std::io::Error::from(ErrorKind::NotFound);
    for address in broker.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(Stream::Tcp(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
