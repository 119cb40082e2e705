//! TLS and WebSocket between a connection's socket and its packets, as the command line asks for it.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What all connections of this process have; set once, before the first.
static LAYERS: OnceLock<Layers> = OnceLock::new();

/// The request that opens a WebSocket; always with the same key, whose answer is not looked at.
const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Which layers.
#[derive(Debug, Default)]
pub struct Layers {
    tls: Option<Arc<ClientConfig>>,
    websocket: bool,
}

/// Lets all connections speak TLS, with the authorities in a PEM file, or WebSocket, or both.
///
/// # Errors
/// What is wrong with the file.
pub fn set(authorities: Option<&Path>, websocket: bool) -> Result<(), String> {
    let tls = authorities.map(config).transpose()?;
    // There is one command line.
    let _ = LAYERS.set(Layers { tls, websocket });
    Ok(())
}

fn config(file: &Path) -> Result<Arc<ClientConfig>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("--tls {}: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
        let authority = authority.map_err(|error| wrong(&error))?;
        roots.add(authority).map_err(|error| wrong(&error))?;
    }
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // The same for every broker.
    let suites = &mut provider.cipher_suites;
    suites.retain(|suite| {
        matches!(
            suite.suite(),
            rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
                | rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | rustls::CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// The layers of one connection.
#[derive(Debug)]
pub struct Layer {
    tls: Option<ClientConnection>,
    websocket: Option<WebSocket>,
    /// Encoded, and to be written.
    pub wire: Vec<u8>,
    /// Between the two.
    frames: Vec<u8>,
}

#[derive(Debug, Default)]
struct WebSocket {
    requested: bool,
    open: bool,
    received: Vec<u8>,
}

impl Layer {
    /// For a new connection; `None` if it is plain.
    pub fn new() -> io::Result<Option<Box<Self>>> {
        let Some(layers) = LAYERS.get() else {
            return Ok(None);
        };
        if layers.tls.is_none() && !layers.websocket {
            return Ok(None);
        }
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let tls = layers.tls.as_ref().map(|config| {
            let mut tls =
                ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
            // The generator's own buffers are what is bounded.
            tls.set_buffer_limit(None);
            io::Result::Ok(tls)
        });
        Ok(Some(Box::new(Self {
            tls: tls.transpose()?,
            websocket: layers.websocket.then(WebSocket::default),
            wire: Vec::new(),
            frames: Vec::new(),
        })))
    }

    /// Encodes what is to be sent, as far as the layers are open; what is encoded leaves `out`.
    pub fn encode(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if let Some(websocket) = &mut self.websocket {
            if !websocket.requested {
                websocket.requested = true;
                self.frames.extend_from_slice(REQUEST);
            }
            if websocket.open && !out.is_empty() {
                frame(out, &mut self.frames);
                out.clear();
            }
        } else {
            self.frames.append(out);
        }
        match &mut self.tls {
            None => self.wire.append(&mut self.frames),
            Some(tls) => {
                // What comes before the end of the handshake is kept by rustls.
                tls.writer().write_all(&self.frames)?;
                self.frames.clear();
                while tls.wants_write() {
                    tls.write_tls(&mut self.wire)?;
                }
            }
        }
        Ok(())
    }

    /// Decodes received bytes and appends what is MQTT in them; whether something is to be sent now.
    pub fn decode(&mut self, mut bytes: &[u8], stream: &mut Vec<u8>) -> io::Result<bool> {
        let opened = |websocket: &Option<WebSocket>| websocket.as_ref().is_some_and(|web| web.open);
        let before = opened(&self.websocket);
        let Some(tls) = &mut self.tls else {
            match &mut self.websocket {
                None => stream.extend_from_slice(bytes),
                Some(websocket) => websocket.decode(bytes, stream)?,
            }
            return Ok(opened(&self.websocket) != before);
        };
        let mut plain = [0; 16 * 1024];
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            tls.process_new_packets().map_err(io::Error::other)?;
            while let Ok(count) = tls.reader().read(&mut plain) {
                if count == 0 {
                    break;
                }
                match &mut self.websocket {
                    None => stream.extend_from_slice(&plain[..count]),
                    Some(websocket) => websocket.decode(&plain[..count], stream)?,
                }
            }
        }
        let wants_write = tls.wants_write();
        Ok(wants_write || opened(&self.websocket) != before)
    }
}

impl WebSocket {
    fn decode(&mut self, bytes: &[u8], stream: &mut Vec<u8>) -> io::Result<()> {
        self.received.extend_from_slice(bytes);
        if !self.open {
            let end = self
                .received
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            let Some(end) = end else { return Ok(()) };
            if !self.received.starts_with(b"HTTP/1.1 101 ") {
                return Err(io::Error::other("the broker opens no WebSocket"));
            }
            self.open = true;
            self.received.drain(..end + 4);
        }
        let mut done = 0;
        while let Some((first, payload, length)) = next_frame(&self.received[done..]) {
            if first & 0x0f < 8 {
                stream.extend_from_slice(&self.received[done + payload..done + length]);
            }
            done += length;
        }
        self.received.drain(..done);
        Ok(())
    }
}

/// A whole frame at the front: its first byte, where its payload begins, and its length.
fn next_frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (header, payload) = match *bytes.get(1)? {
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        126 => (
            4,
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        short => (2, u64::from(short)),
    };
    let length = header + usize::try_from(payload).ok()?;
    (bytes.len() >= length).then_some((bytes[0], header, length))
}

/// One binary frame. Its mask is zero: that costs the generator nothing, and the broker as much as any.
fn frame(payload: &[u8], frames: &mut Vec<u8>) {
    frames.push(0x82);
    match payload.len() {
        // Below 126, and below 65,536.
        short @ 0..126 => frames.push(0x80 | short as u8),
        middle @ 126..0x1_0000 => {
            frames.push(0x80 | 126);
            frames.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            frames.push(0x80 | 127);
            frames.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frames.extend_from_slice(&[0; 4]);
    frames.extend_from_slice(payload);
}
