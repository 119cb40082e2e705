//! What lies between the socket of a connection and its MQTT: PROXY header, TLS, WebSocket, in this order.
//!
//! Sans-io and owned by its connection, with which it moves to its home shard. Called by `shard::door`. A
//! plain connection has none. What a layer has to say of its own (a handshake, an answer to a ping, an alert)
//! waits in `pending` until the shard sends it.
//!
//! Not here: sockets, and when a handshake may begin.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::config::doors::{CertificateIdentity, Doors};

use super::peer::PeerAddress;
use super::proxy_protocol::{self, Header};
use super::tls::{self, TlsStream};
use super::websocket::{self, WebSocket};

/// Why a transport ends its connection.
#[derive(Debug)]
pub enum Fault {
    /// The client has closed it in order.
    Closed,
    /// There is no good PROXY header.
    Proxy(&'static str),
    /// The client's address may not connect.
    Denied,
    /// TLS failed.
    Tls(String),
    /// WebSocket failed.
    WebSocket(&'static str),
}

/// Buffers of nobody, used again by every connection of a shard.
#[derive(Debug, Default)]
pub struct Scratch {
    records: Vec<u8>,
    frames: Vec<u8>,
    plaintext: Vec<u8>,
}

/// The layers below the MQTT of one connection.
#[derive(Debug, Default)]
pub struct Transport {
    /// Received before the handshake could begin.
    pub unread: Vec<u8>,
    awaits_header: bool,
    awaits_tls: bool,
    /// It waits for its turn to be decoded.
    pub queued: bool,
    closed: bool,
    tls: Option<Box<TlsStream>>,
    websocket: Option<Box<WebSocket>>,
    /// To be sent as it is.
    pending: Vec<u8>,
}

impl Transport {
    /// For a listener that is not plain; `None` if it is.
    pub fn of(doors: &Doors) -> Option<Box<Self>> {
        (!doors.are_plain()).then(|| {
            Box::new(Self {
                awaits_header: doors.proxy_protocol,
                awaits_tls: doors.tls.is_on(),
                websocket: doors.websocket.is_on.then(Box::default),
                ..Self::default()
            })
        })
    }

    /// Takes the PROXY header off what is unread; false if it is not complete. `peer` becomes the client's.
    ///
    /// # Errors
    /// It is no good, or the client may not connect.
    pub fn take_header(&mut self, doors: &Doors, peer: &mut PeerAddress) -> Result<bool, Fault> {
        if !self.awaits_header {
            return Ok(true);
        }
        match proxy_protocol::header(&self.unread).map_err(Fault::Proxy)? {
            Header::Incomplete => Ok(false),
            Header::Complete { bytes, client } => {
                self.awaits_header = false;
                self.unread.drain(..bytes);
                if let Some(client) = client {
                    *peer = client.into();
                }
                admit(doors, peer)?;
                Ok(true)
            }
        }
    }

    /// Whether a TLS handshake is to begin as soon as it may.
    pub fn awaits_tls(&self) -> bool {
        self.awaits_tls && !self.awaits_header && !self.unread.is_empty()
    }

    /// Begins the TLS handshake.
    ///
    /// # Errors
    /// The settings serve nobody.
    pub fn begin_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), Fault> {
        self.awaits_tls = false;
        let stream = TlsStream::new(config).map_err(|error| Fault::Tls(error.to_string()))?;
        self.tls = Some(Box::new(stream));
        Ok(())
    }

    /// Decodes what is unread.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn receive_unread(
        &mut self,
        doors: &Doors,
        peer: &mut PeerAddress,
        scratch: &mut Scratch,
        stream: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let unread = std::mem::take(&mut self.unread);
        self.receive(doors, peer, &unread, scratch, stream)
    }

    /// Decodes received bytes; what is MQTT in them is appended to `stream`, also before an error.
    ///
    /// # Errors
    /// The connection is to end; what is pending tells the client why.
    pub fn receive(
        &mut self,
        doors: &Doors,
        peer: &mut PeerAddress,
        bytes: &[u8],
        scratch: &mut Scratch,
        stream: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if self.closed {
            return Ok(());
        }
        let Some(tls) = &mut self.tls else {
            return self.receive_frames(doors, peer, bytes, &mut scratch.plaintext, stream);
        };
        let Scratch {
            records,
            frames,
            plaintext,
        } = scratch;
        let received = match &self.websocket {
            None => tls.receive(bytes, records, stream, &mut self.pending),
            Some(_) => {
                frames.clear();
                tls.receive(bytes, records, frames, &mut self.pending)
            }
        };
        if self.websocket.is_some() && !frames.is_empty() {
            self.receive_frames(doors, peer, frames, plaintext, stream)?;
        }
        match received {
            Ok(tls::Received::Open) => Ok(()),
            Ok(tls::Received::Closed) => Err(Fault::Closed),
            Err(error) => {
                self.closed = true;
                Err(Fault::Tls(error.to_string()))
            }
        }
    }

    fn receive_frames(
        &mut self,
        doors: &Doors,
        peer: &mut PeerAddress,
        bytes: &[u8],
        answer: &mut Vec<u8>,
        stream: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let Some(websocket) = &mut self.websocket else {
            stream.extend_from_slice(bytes);
            return Ok(());
        };
        answer.clear();
        let mut upgraded = None;
        let options = &doors.websocket;
        let received = websocket.receive(options, bytes, stream, answer, &mut upgraded);
        let sent = self.send_wire(answer);
        if let Some(forwarded) = upgraded {
            take_forwarded(doors, peer, forwarded.as_deref())?;
        }
        match received {
            Ok(websocket::Received::Open) => sent.map_err(|cause| Fault::Tls(cause.into())),
            Ok(websocket::Received::Closed) => Err(Fault::Closed),
            Err(websocket::Fault(cause)) => Err(Fault::WebSocket(cause)),
        }
    }

    /// Puts bytes of the WebSocket layer into `pending`, through TLS if there is TLS.
    fn send_wire(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        match &mut self.tls {
            _ if bytes.is_empty() => Ok(()),
            None => {
                self.pending.extend_from_slice(bytes);
                Ok(())
            }
            Some(tls) => tls.send(bytes, &mut self.pending),
        }
    }

    /// Whether something of its own waits to be sent.
    pub fn has_pending(&self) -> bool {
        let owes_pong = |websocket: &WebSocket| websocket.owes_pong();
        !self.pending.is_empty() || self.websocket.as_deref().is_some_and(owes_pong)
    }

    /// Appends what waits to `wire`.
    pub fn take_pending(&mut self, wire: &mut Vec<u8>) {
        if let Some(websocket) = &mut self.websocket
            && websocket.owes_pong()
        {
            let mut answer = Vec::new();
            websocket.answer_ping(&mut answer);
            // A connection that cannot send any more ends with its next output.
            let _ = self.send_wire(&answer);
        }
        if !self.pending.is_empty() {
            wire.extend_from_slice(&self.pending);
            self.pending = Vec::new();
        }
    }

    /// Encodes the pieces of an output and appends them to `wire`.
    ///
    /// # Errors
    /// Nothing can be sent any more.
    pub fn send<'p>(
        &mut self,
        pieces: impl Iterator<Item = &'p [u8]> + Clone,
        scratch: &mut Scratch,
        wire: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let bytes = pieces.clone().map(<[u8]>::len).sum();
        if let Some(websocket) = &self.websocket {
            if !websocket.may_send() {
                return Ok(());
            }
            if self.tls.is_none() {
                websocket.frame(bytes, wire);
                pieces.for_each(|piece| wire.extend_from_slice(piece));
                return Ok(());
            }
        }
        let Some(tls) = &mut self.tls else {
            pieces.for_each(|piece| wire.extend_from_slice(piece));
            return Ok(());
        };
        let mut alone = pieces.clone();
        if let (Some(piece), None, None) = (alone.next(), alone.next(), &self.websocket) {
            return tls.send(piece, wire);
        }
        scratch.plaintext.clear();
        if let Some(websocket) = &self.websocket {
            websocket.frame(bytes, &mut scratch.plaintext);
        }
        pieces.for_each(|piece| scratch.plaintext.extend_from_slice(piece));
        tls.send(&scratch.plaintext, wire)
    }

    /// Ends this side in order: what says so is pending then. False if it had ended before.
    pub fn close(&mut self, going_away: bool) -> bool {
        if self.closed {
            return false;
        }
        self.closed = true;
        if let Some(websocket) = &mut self.websocket {
            let code = match going_away {
                true => CloseCode::Away,
                false => CloseCode::Normal,
            };
            let mut frame = Vec::new();
            websocket.close(code, &mut frame);
            // Without a handshake there is nobody to be told.
            let _ = self.send_wire(&frame);
        }
        if let Some(tls) = &mut self.tls {
            let _ = tls.close(&mut self.pending);
        }
        true
    }

    /// Whether a TLS handshake goes on.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_deref().is_some_and(TlsStream::is_handshaking)
    }

    /// Whether its TLS session is resumed; `None` without TLS or before its end.
    pub fn is_resumed(&self) -> Option<bool> {
        self.tls.as_deref()?.is_resumed()
    }

    /// Who the client is by its certificate: its name as the listener wants it, and its whole subject.
    pub fn certificate(&self, identity: CertificateIdentity) -> Option<(Option<String>, String)> {
        let names = self.tls.as_deref()?.client_names()?;
        let subject = names.distinguished_name.clone().unwrap_or_default();
        let name = match identity {
            CertificateIdentity::CommonName => names.common_name,
            CertificateIdentity::AlternativeName => names.alternative_names.into_iter().next(),
            CertificateIdentity::DistinguishedName => names.distinguished_name,
        };
        Some((name, subject))
    }
}

fn admit(doors: &Doors, peer: &PeerAddress) -> Result<(), Fault> {
    match doors.admits(peer.ip()) {
        true => Ok(()),
        false => Err(Fault::Denied),
    }
}

/// The client's address as trusted proxies tell it: the last in their chain that is none of them.
fn take_forwarded(doors: &Doors, peer: &mut PeerAddress, chain: Option<&str>) -> Result<(), Fault> {
    let Some(chain) = chain.filter(|_| doors.trusts(peer.ip())) else {
        return admit(doors, peer);
    };
    for hop in chain.rsplit(',') {
        let Some(ip) = forwarded_ip(hop.trim()) else {
            return Err(Fault::WebSocket("X-Forwarded-For has what is no address"));
        };
        *peer = SocketAddr::from((ip, 0)).into();
        if !doors.trusts(Some(ip)) {
            break;
        }
    }
    admit(doors, peer)
}

/// An address, with or without a port.
fn forwarded_ip(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    let with_port = || hop.parse::<SocketAddr>().map(|address| address.ip());
    bare.parse().or_else(|_| with_port()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hop_that_is_not_trusted_is_the_client() {
        let trusted = |text: &str| text.parse().unwrap();
        let doors = Doors {
            trusted_proxies: vec![trusted("10.0.0.0/8"), trusted("127.0.0.1")],
            deny: vec![trusted("203.0.113.0/24")],
            ..Doors::default()
        };
        let client = |from: &str, chain: &str| {
            let mut peer = PeerAddress::from(SocketAddr::new(from.parse().unwrap(), 1));
            take_forwarded(&doors, &mut peer, Some(chain)).map(|()| peer.ip().unwrap().to_string())
        };
        let is = |from, chain, wanted: &str| assert_eq!(client(from, chain).unwrap(), wanted);
        // The first is what the client itself may have written.
        is(
            "127.0.0.1",
            "198.51.100.9, 192.0.2.1, 10.1.2.3",
            "192.0.2.1",
        );
        is("127.0.0.1", "10.9.9.9", "10.9.9.9");
        is("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1");
        is("192.0.2.7", "198.51.100.9", "192.0.2.7");
        assert!(matches!(
            client("127.0.0.1", "203.0.113.5"),
            Err(Fault::Denied)
        ));
        assert!(client("127.0.0.1", "192.0.2.1, unknown").is_err());
    }
}
