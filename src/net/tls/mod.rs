//! TLS of a connection, sans-io: records in, plaintext out, and back.
//!
//! Called by [`super::transport`]. Driven through rustls' unbuffered interface, so that an idle connection
//! holds its keys and no buffer: only a record that is not complete is kept.
//!
//! Not here: sockets; which files the keys come from ([`settings`]); when a handshake may begin (`shard`).

pub mod certificate;
pub mod settings;

use std::fmt;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus,
};
use rustls::{HandshakeKind, ServerConfig};

use certificate::Names;

/// What comes before the contents of a record.
const RECORD_HEADER_BYTES: usize = 5;
/// The largest contents of a record, and what encryption may add.
const RECORD_BYTES_MAX: usize = 16_384 + 2_048;
/// Plaintext of one record.
const FRAGMENT_BYTES_MAX: usize = 16_384;
/// What a record is longer than its plaintext, at most: header, nonce, type and tag.
const RECORD_OVERHEAD_BYTES: usize = 48;

/// How the records of a connection went.
#[derive(Debug)]
pub enum Received {
    /// More may come.
    Open,
    /// The client has ended its side in order.
    Closed,
}

/// The TLS state of a connection.
pub struct TlsStream {
    connection: UnbufferedServerConnection,
    /// A record that is not complete, or several that are one handshake message.
    kept: Vec<u8>,
    closed_by_client: bool,
    failed: bool,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("kept", &self.kept.len())
            .finish_non_exhaustive()
    }
}

impl TlsStream {
    /// A connection whose client speaks first.
    ///
    /// # Errors
    /// If the settings cannot serve anybody.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            kept: Vec::new(),
            closed_by_client: false,
            failed: false,
        })
    }

    /// Whether the handshake goes on.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the handshake resumed an earlier session; `None` before its end.
    pub fn is_resumed(&self) -> Option<bool> {
        let kind = self.connection.handshake_kind()?;
        (!self.is_handshaking()).then_some(kind == HandshakeKind::Resumed)
    }

    /// The names in the client's certificate, if it has shown one.
    pub fn client_names(&self) -> Option<Names> {
        let certificate = self.connection.peer_certificates()?.first()?;
        Names::of(certificate)
    }

    /// Takes received records. Plaintext is appended to `plaintext`, what is to be sent in answer to `wire`.
    /// `scratch` is a buffer of nobody.
    ///
    /// # Errors
    /// The client breaks the protocol, or is refused; `wire` has the alert that says so.
    pub fn receive(
        &mut self,
        records: &[u8],
        scratch: &mut Vec<u8>,
        plaintext: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Received, rustls::Error> {
        let result = if self.kept.is_empty() {
            scratch.clear();
            scratch.extend_from_slice(records);
            let (consumed, result) = self.take_records(scratch, plaintext, wire);
            self.kept.extend_from_slice(&scratch[consumed..]);
            result
        } else {
            self.kept.extend_from_slice(records);
            if !begins_with_a_record(&self.kept) {
                return Ok(Received::Open);
            }
            let mut kept = std::mem::take(&mut self.kept);
            let (consumed, result) = self.take_records(&mut kept, plaintext, wire);
            if consumed < kept.len() {
                kept.drain(..consumed);
                self.kept = kept;
            }
            result
        };
        result?;
        match self.closed_by_client {
            true => Ok(Received::Closed),
            false => Ok(Received::Open),
        }
    }

    /// Gives how many bytes are done, whatever the result.
    fn take_records(
        &mut self,
        records: &mut [u8],
        plaintext: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> (usize, Result<(), rustls::Error>) {
        let mut consumed = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self
                .connection
                .process_tls_records(&mut records[consumed..]);
            let mut done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        plaintext.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, wire),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.closed_by_client = true,
                Ok(_) => done = true,
                Err(error) => {
                    self.failed = true;
                    self.take_alerts(wire);
                    return (records.len(), Err(error));
                }
            }
            consumed = (consumed + discard).min(records.len());
            if done {
                return (consumed, Ok(()));
            }
        }
    }

    /// Appends what is to be told after a failure. No further than that: rustls asserts that nobody reads on.
    fn take_alerts(&mut self, wire: &mut Vec<u8>) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, wire),
                _ => return,
            }
        }
    }

    /// Appends `plaintext` as records to `wire`.
    ///
    /// # Errors
    /// If nothing can be sent any more, which ends the connection.
    pub fn send(&mut self, plaintext: &[u8], wire: &mut Vec<u8>) -> Result<(), &'static str> {
        let fragments = plaintext.len() / FRAGMENT_BYTES_MAX + 1;
        let room = plaintext.len() + fragments * RECORD_OVERHEAD_BYTES;
        self.write(wire, room, |traffic, room| traffic.encrypt(plaintext, room))
    }

    /// Appends the end of this side to `wire`.
    ///
    /// # Errors
    /// If the handshake is not over.
    pub fn close(&mut self, wire: &mut Vec<u8>) -> Result<(), &'static str> {
        self.write(wire, RECORD_OVERHEAD_BYTES, |traffic, room| {
            traffic.queue_close_notify(room)
        })
    }

    fn write(
        &mut self,
        wire: &mut Vec<u8>,
        mut room: usize,
        write: impl Fn(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Result<(), &'static str> {
        if self.failed {
            return Err("TLS has failed");
        }
        loop {
            // What is kept is looked at again, so that a message of several records stays where it is.
            let status = self.connection.process_tls_records(&mut self.kept);
            let discard = status.discard;
            let mut result = None;
            match status.state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, wire),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.closed_by_client = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let start = wire.len();
                    wire.resize(start + room, 0);
                    match write(&mut traffic, &mut wire[start..]) {
                        Ok(written) => {
                            wire.truncate(start + written);
                            result = Some(Ok(()));
                        }
                        Err(EncryptError::InsufficientSize(InsufficientSizeError {
                            required_size,
                        })) if required_size > room => {
                            wire.truncate(start);
                            room = required_size;
                        }
                        Err(_) => {
                            wire.truncate(start);
                            result = Some(Err("TLS has no keys left"));
                        }
                    }
                }
                _ => result = Some(Err("TLS cannot send")),
            }
            if discard > 0 {
                self.kept.drain(..discard.min(self.kept.len()));
            }
            if let Some(result) = result {
                return result;
            }
        }
    }
}

/// Appends a handshake record or an alert to `wire`.
fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, wire: &mut Vec<u8>) {
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        data.encode(&mut [])
    else {
        return;
    };
    let start = wire.len();
    wire.resize(start + required_size, 0);
    // It has just said how much room it takes.
    let written = data.encode(&mut wire[start..]).unwrap_or(0);
    wire.truncate(start + written);
}

/// Whether there is a whole record at the front, or what can be none.
fn begins_with_a_record(bytes: &[u8]) -> bool {
    let &[_, _, _, high, low, ..] = bytes else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    length > RECORD_BYTES_MAX || bytes.len() >= RECORD_HEADER_BYTES + length
}
