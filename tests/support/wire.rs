//! What a test client may have between its socket and its packets: TLS, WebSocket, or both.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::{Client, PATIENCE, Version};

/// A stream of bytes over a socket whose timeouts hold for it, too.
pub trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

/// A TCP connection with timeouts for a test.
pub fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a TCP connection");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a write timeout");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a read timeout");
    stream
}

/// TLS over a socket, as a client that asks for `host`.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A TLS connection whose handshake is done, or why it is not.
pub fn try_tls(stream: TcpStream, config: &Arc<ClientConfig>, host: &str) -> io::Result<Tls> {
    let name = ServerName::try_from(host.to_owned()).expect("a host name");
    let connection = ClientConnection::new(Arc::clone(config), name).expect("a TLS client");
    let mut tls = StreamOwned::new(connection, stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

/// The same, which must succeed.
#[track_caller]
pub fn tls(stream: TcpStream, config: &Arc<ClientConfig>, host: &str) -> Tls {
    try_tls(stream, config, host).expect("a TLS handshake")
}

/// A client over `wire`, which uses `stream`.
pub fn client(stream: TcpStream, wire: impl Wire + 'static, version: Version) -> Client {
    Client::over(stream, Some(Box::new(wire)), version)
}

/// WebSocket over a stream: each write is a binary frame, reads give what is in binary frames.
pub struct WebSocket<W> {
    /// What it runs over.
    pub wire: W,
    received: Vec<u8>,
    payload: Vec<u8>,
    /// The code that the broker closed with.
    pub close_code: Arc<std::sync::Mutex<Option<u16>>>,
}

/// The request that opens a WebSocket, with more lines.
pub fn request(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// Sends `text` and reads the head of an HTTP response.
pub fn http(wire: &mut impl Wire, text: &str) -> String {
    wire.write_all(text.as_bytes())
        .expect("the request is sent");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match wire.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    String::from_utf8(head).expect("a response in ASCII")
}

/// A masked frame: the first byte has FIN and the opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0xa1, 0x5c, 0x03, 0xff];
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).expect("short")),
        middle @ 126..0x1_0000 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(middle).expect("middle").to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

impl<W: Wire> WebSocket<W> {
    /// Opens it at `path`, with more lines in the request.
    #[track_caller]
    pub fn open(mut wire: W, path: &str, more: &str) -> Self {
        let subprotocol = match more.contains("Sec-WebSocket-Protocol") {
            true => "",
            false => "Sec-WebSocket-Protocol: mqtt\r\n",
        };
        let response = http(&mut wire, &request(path, &format!("{more}{subprotocol}")));
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        assert!(
            response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            "{response}"
        );
        Self::opened(wire)
    }

    /// Over a stream on which it is open.
    pub fn opened(wire: W) -> Self {
        Self {
            wire,
            received: Vec::new(),
            payload: Vec::new(),
            close_code: Arc::default(),
        }
    }

    /// The next frame: opcode with FIN, and payload. `None` at the end of the stream.
    pub fn next_frame(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some((header, length)) = frame_length(&self.received)
                && self.received.len() >= header + length
            {
                let first = self.received[0];
                let payload = self.received[header..header + length].to_vec();
                self.received.drain(..header + length);
                return Ok(Some((first, payload)));
            }
            let mut chunk = [0; 16 * 1024];
            match self.wire.read(&mut chunk)? {
                0 => return Ok(None),
                count => self.received.extend(&chunk[..count]),
            }
        }
    }
}

/// The length of the header and of the payload of an unmasked frame.
fn frame_length(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        127 => {
            let length = bytes.get(2..10)?.try_into().expect("eight bytes");
            Some((
                10,
                usize::try_from(u64::from_be_bytes(length)).expect("a length"),
            ))
        }
        126 => {
            let length = bytes.get(2..4)?.try_into().expect("two bytes");
            Some((4, usize::from(u16::from_be_bytes(length))))
        }
        short => {
            assert!(short < 126, "the broker masks a frame");
            Some((2, usize::from(short)))
        }
    }
}

impl<W: Wire> Read for WebSocket<W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.payload.is_empty() {
            match self.next_frame()? {
                None => {
                    let closed = self.close_code.lock().expect("no panic").is_some();
                    assert!(closed, "the broker closed without a Close frame");
                    return Ok(0);
                }
                Some((0x82, payload)) => self.payload = payload,
                Some((0x88, payload)) => {
                    let code = payload.try_into().expect("a code");
                    *self.close_code.lock().expect("no panic") = Some(u16::from_be_bytes(code));
                }
                Some((0x8a, _)) => {}
                Some(other) => {
                    return Err(io::Error::new(ErrorKind::InvalidData, format!("{other:?}")));
                }
            }
        }
        let count = self.payload.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.payload[..count]);
        self.payload.drain(..count);
        Ok(count)
    }
}

impl<W: Wire> Write for WebSocket<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.write_all(&frame(0x82, bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()
    }
}
