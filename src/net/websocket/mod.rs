//! WebSocket (RFC 6455), sans-io: frames in, the bytes in them out, and back.
//!
//! Called by [`super::transport`]. MQTT is a stream in binary frames: a packet may lie in several, a frame may
//! hold several packets [MQTT-6.0.0-1..4]. So payloads are handed on as they come, and nothing but a piece of
//! a header is ever kept. Frame headers are read and written by `tungstenite`, requests by `httparse`.
//!
//! Not here: who may connect from where beside path and origin; what the bytes mean.

pub mod upgrade;

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::config::doors::WebSocketOptions;

use upgrade::{Request, Upgrade};

/// Longest payload of a control frame (5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// How the frames of a connection went.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// More may come.
    Open,
    /// The client has said Close, and has its answer.
    Closed,
}

/// A client that breaks the rules, or is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault(pub &'static str);

/// The frame whose payload is being received.
#[derive(Debug)]
struct Payload {
    opcode: OpCode,
    mask: [u8; 4],
    /// How much has come.
    at: u64,
    bytes: u64,
}

/// The WebSocket state of a connection.
#[derive(Debug, Default)]
pub struct WebSocket {
    is_open: bool,
    /// We have said Close; nothing follows it.
    is_closed: bool,
    /// The first frame of a message has come and its last has not.
    in_message: bool,
    /// A part of the request, of a frame's header, or of a control frame's payload.
    kept: Vec<u8>,
    payload: Option<Box<Payload>>,
    /// What the last ping said, if it is not answered. An answer to the last one is enough (5.5.3), so that a
    /// flood of them takes no memory.
    ping: Option<Vec<u8>>,
}

impl WebSocket {
    /// Takes received bytes. What is in binary frames is appended to `stream`, what is to be sent in answer
    /// to `wire`. `upgraded` becomes what the request had in X-Forwarded-For, when it is complete.
    ///
    /// # Errors
    /// The client breaks the rules, or is refused; `wire` has what tells it so.
    pub fn receive(
        &mut self,
        options: &WebSocketOptions,
        bytes: &[u8],
        stream: &mut Vec<u8>,
        wire: &mut Vec<u8>,
        upgraded: &mut Option<Option<String>>,
    ) -> Result<Received, Fault> {
        let mut rest = bytes;
        if !self.is_open {
            self.kept.extend_from_slice(bytes);
            match Request::parse(&self.kept, options) {
                Ok(Upgrade::Incomplete) => return Ok(Received::Open),
                Ok(Upgrade::Accepted(request)) => {
                    wire.extend_from_slice(&request.response);
                    *upgraded = Some(request.forwarded);
                    self.is_open = true;
                    // What follows the request came with these bytes: an incomplete request was kept whole.
                    let behind = self.kept.len() - request.bytes;
                    rest = &bytes[bytes.len() - behind..];
                    self.kept = Vec::new();
                }
                Err(refusal) => {
                    wire.extend_from_slice(refusal.response.as_bytes());
                    self.is_closed = true;
                    return Err(Fault(refusal.cause));
                }
            }
        }
        while !rest.is_empty() {
            match self.take(options, rest, stream, wire) {
                Ok((used, Received::Open)) => rest = &rest[used..],
                Ok((_, Received::Closed)) => return Ok(Received::Closed),
                Err((code, cause)) => {
                    self.close(code, wire);
                    return Err(Fault(cause));
                }
            }
        }
        Ok(Received::Open)
    }

    /// Takes a header, or some of a payload.
    fn take(
        &mut self,
        options: &WebSocketOptions,
        bytes: &[u8],
        stream: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(usize, Received), (CloseCode, &'static str)> {
        let Some(payload) = &mut self.payload else {
            return self.take_header(options, bytes, wire);
        };
        let left = usize::try_from(payload.bytes - payload.at).unwrap_or(usize::MAX);
        let part = &bytes[..bytes.len().min(left)];
        let into = match payload.opcode {
            OpCode::Control(_) => &mut self.kept,
            OpCode::Data(_) => stream,
        };
        unmask(part, payload.mask, payload.at, into);
        payload.at += part.len() as u64;
        let received = match payload.at == payload.bytes {
            true => self.finish_payload(wire)?,
            false => Received::Open,
        };
        Ok((part.len(), received))
    }

    fn take_header(
        &mut self,
        options: &WebSocketOptions,
        bytes: &[u8],
        wire: &mut Vec<u8>,
    ) -> Result<(usize, Received), (CloseCode, &'static str)> {
        let kept = self.kept.len();
        let parsed = match kept {
            0 => parse(bytes)?,
            _ => {
                self.kept.extend_from_slice(&bytes[..bytes.len().min(14)]);
                parse(&self.kept)?
            }
        };
        let Some((header, length, used)) = parsed else {
            if kept == 0 {
                self.kept.extend_from_slice(bytes);
            }
            // All of it is kept: a header has no more than 14 bytes.
            return Ok((bytes.len(), Received::Open));
        };
        let used = used - kept;
        self.kept = Vec::new();
        let Some(mask) = header.mask else {
            return Err((CloseCode::Protocol, "a WebSocket frame without a mask"));
        };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            let cause = "a WebSocket extension that was not agreed on";
            return Err((CloseCode::Protocol, cause));
        }
        match header.opcode {
            OpCode::Control(_) => {
                if !header.is_final || length > CONTROL_BYTES_MAX as u64 {
                    let cause = "a WebSocket control frame that is long or fragmented";
                    return Err((CloseCode::Protocol, cause));
                }
            }
            OpCode::Data(kind) => {
                let begins = kind != Data::Continue;
                if begins == self.in_message {
                    let cause = "WebSocket fragments out of order";
                    return Err((CloseCode::Protocol, cause));
                }
                if kind == Data::Text {
                    // [MQTT-6.0.0-1]
                    return Err((
                        CloseCode::Unsupported,
                        "a WebSocket frame that is not binary",
                    ));
                }
                if length > u64::from(options.frame_bytes_max) {
                    let cause = "a WebSocket frame over websocket_frame_bytes_max";
                    return Err((CloseCode::Size, cause));
                }
                self.in_message = !header.is_final;
            }
        }
        self.payload = Some(Box::new(Payload {
            opcode: header.opcode,
            mask,
            at: 0,
            bytes: length,
        }));
        let received = match length {
            0 => self.finish_payload(wire)?,
            _ => Received::Open,
        };
        Ok((used, received))
    }

    /// The payload of a frame is complete.
    fn finish_payload(
        &mut self,
        wire: &mut Vec<u8>,
    ) -> Result<Received, (CloseCode, &'static str)> {
        let Some(payload) = self.payload.take() else {
            return Ok(Received::Open);
        };
        let OpCode::Control(control) = payload.opcode else {
            return Ok(Received::Open);
        };
        let said = std::mem::take(&mut self.kept);
        match control {
            Control::Ping => self.ping = Some(said),
            Control::Close => {
                let code = match said.len() {
                    0 => CloseCode::Normal,
                    1 => return Err((CloseCode::Protocol, "a malformed WebSocket Close")),
                    _ => CloseCode::from(u16::from_be_bytes([said[0], said[1]])),
                };
                if !code.is_allowed() || std::str::from_utf8(said.get(2..).unwrap_or(&[])).is_err()
                {
                    return Err((CloseCode::Protocol, "a malformed WebSocket Close"));
                }
                self.close(code, wire);
                return Ok(Received::Closed);
            }
            _ => {}
        }
        Ok(Received::Open)
    }

    /// Whether frames may be sent.
    pub fn may_send(&self) -> bool {
        self.is_open && !self.is_closed
    }

    /// Whether a ping waits for its answer.
    pub fn owes_pong(&self) -> bool {
        self.ping.is_some()
    }

    /// Appends the answer to the last ping, if it has none.
    pub fn answer_ping(&mut self, wire: &mut Vec<u8>) {
        if let Some(said) = self.ping.take()
            && self.may_send()
        {
            frame(OpCode::Control(Control::Pong), said.len(), wire);
            wire.extend_from_slice(&said);
        }
    }

    /// Appends the header of a binary frame; its payload follows.
    pub fn frame(&self, bytes: usize, wire: &mut Vec<u8>) {
        frame(OpCode::Data(Data::Binary), bytes, wire);
    }

    /// Appends Close, once.
    pub fn close(&mut self, code: CloseCode, wire: &mut Vec<u8>) {
        if self.may_send() {
            frame(OpCode::Control(Control::Close), 2, wire);
            wire.extend_from_slice(&u16::from(code).to_be_bytes());
        }
        self.is_closed = true;
    }
}

type Parsed = Option<(FrameHeader, u64, usize)>;

/// Reads a header at the front of `bytes`: it, the length of its payload, and its own length.
fn parse(bytes: &[u8]) -> Result<Parsed, (CloseCode, &'static str)> {
    let mut cursor = Cursor::new(bytes);
    match FrameHeader::parse(&mut cursor) {
        Ok(Some((header, length))) => {
            // A position within `bytes`.
            let used = usize::try_from(cursor.position()).unwrap_or(bytes.len());
            Ok(Some((header, length, used)))
        }
        Ok(None) => Ok(None),
        Err(_) => Err((CloseCode::Protocol, "an unknown WebSocket frame")),
    }
}

fn frame(opcode: OpCode, bytes: usize, wire: &mut Vec<u8>) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    // Writing to a vector does not fail.
    let _ = header.format(bytes as u64, wire);
}

/// Appends a part of a payload, from its byte `at` on, without its mask.
fn unmask(part: &[u8], mask: [u8; 4], at: u64, into: &mut Vec<u8>) {
    let mut turned = mask;
    // Less than four.
    turned.rotate_left((at % 4) as usize);
    let start = into.len();
    into.extend_from_slice(part);
    let word = u64::from_ne_bytes([
        turned[0], turned[1], turned[2], turned[3], turned[0], turned[1], turned[2], turned[3],
    ]);
    let mut chunks = into[start..].chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ word).to_ne_bytes());
    }
    for (byte, mask) in chunks
        .into_remainder()
        .iter_mut()
        .zip(turned.iter().cycle())
    {
        *byte ^= mask;
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
