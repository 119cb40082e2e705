//! A blocking MQTT client that sends and shows bytes as they are, for tests.
//!
//! It does nothing on its own: no pings, no acknowledgements, no reconnection, unless a helper is called.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::packet::{
    self, Connect, Kind, Packet, Publish, Subscribe, Version, acknowledgement, acknowledgement_with,
};
use super::wire::Wire;
use super::{Broker, PATIENCE};

/// What came, or did not come.
#[derive(Debug)]
pub enum Next {
    /// A packet.
    Packet(Box<Packet>),
    /// The broker closed the connection.
    Closed,
    /// Nothing, for as long as asked.
    Silence,
}

impl Next {
    /// Whether it is a packet.
    pub fn is_packet(&self) -> bool {
        matches!(self, Self::Packet(_))
    }
}

/// A Network Connection to the broker.
pub struct Client {
    stream: TcpStream,
    /// What lies between the socket and the packets, if anything does.
    wire: Option<Box<dyn Wire>>,
    version: Version,
    received: Vec<u8>,
    held: VecDeque<Packet>,
    packet_identifier: u16,
    /// The CONNACK, once it came.
    pub connack: Option<Packet>,
}

impl Client {
    /// A connection on which nothing is sent yet.
    pub fn open(address: SocketAddr, version: Version) -> Self {
        let stream =
            TcpStream::connect_timeout(&address, PATIENCE).expect("a TCP connection to the broker");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a write timeout");
        Self::over(stream, None, version)
    }

    /// A connection over a socket, with something between it and the packets or not.
    pub fn over(stream: TcpStream, wire: Option<Box<dyn Wire>>, version: Version) -> Self {
        Self {
            stream,
            wire,
            version,
            received: Vec::new(),
            held: VecDeque::new(),
            packet_identifier: 0,
            connack: None,
        }
    }

    /// Sends CONNECT and expects that it is accepted.
    pub fn connect(broker: &Broker, connect: Connect) -> Self {
        let mut client = Self::open(broker.address(), connect.version);
        client.send_raw(&connect.bytes());
        client.expect_accepted();
        client
    }

    /// Sends CONNECT and expects that it is refused: gives the CONNACK before the close.
    pub fn refused(broker: &Broker, connect: &Connect) -> Packet {
        let mut client = Self::open(broker.address(), connect.version);
        client.send_raw(&connect.bytes());
        let connack = client.expect(Kind::ConnAck);
        assert!(connack.code != 0, "accepted: {connack:?}");
        assert!(
            !connack.session_present,
            "Session Present in a refusal [MQTT-3.2.2-6]"
        );
        client.expect_closed();
        connack
    }

    /// Sends CONNECT over what is there already, and expects that it is accepted.
    pub fn connected(mut self, connect: &Connect) -> Self {
        self.send_raw(&connect.bytes());
        self.expect_accepted();
        self
    }

    /// What the packets go through.
    fn wire(&mut self) -> &mut dyn Wire {
        match &mut self.wire {
            Some(wire) => wire.as_mut(),
            None => &mut self.stream,
        }
    }

    /// Expects a CONNACK of Success.
    pub fn expect_accepted(&mut self) -> &Packet {
        let connack = self.expect(Kind::ConnAck);
        assert_eq!(connack.code, 0, "CONNECT was refused: {connack:?}");
        self.connack.insert(connack)
    }

    /// Whether CONNACK had Session Present.
    pub fn session_present(&self) -> bool {
        self.connack.as_ref().expect("a CONNACK").session_present
    }

    /// The number in a property of CONNACK.
    pub fn granted(&self, identifier: u8) -> Option<u32> {
        self.connack.as_ref().expect("a CONNACK").number(identifier)
    }

    /// Sends `bytes` as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.wire()
            .write_all(bytes)
            .expect("the broker takes what is sent");
    }

    /// Sends `bytes`; false if the broker closed the connection or does not read.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        self.wire().write_all(bytes).is_ok()
    }

    /// The socket, to configure it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The next Packet Identifier, 1 to 65,535 and again.
    pub fn next_identifier(&mut self) -> u16 {
        self.packet_identifier = self.packet_identifier.checked_add(1).unwrap_or(1);
        self.packet_identifier
    }

    /// What comes within `patience`.
    pub fn next(&mut self, patience: Duration) -> Next {
        match self.held.pop_front() {
            Some(packet) => Next::Packet(Box::new(packet)),
            None => self.read(patience),
        }
    }

    fn read(&mut self, patience: Duration) -> Next {
        let deadline = Instant::now() + patience;
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(packet) = Packet::parse(self.version, &self.received) {
                self.received.drain(..packet.packet_bytes);
                return Next::Packet(Box::new(packet));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Silence;
            }
            self.stream
                .set_read_timeout(Some(left))
                .expect("a read timeout");
            match self.wire().read(&mut chunk) {
                Ok(0) => return Next::Closed,
                Ok(count) => self.received.extend(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Next::Closed,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("cannot read: {error}"),
            }
        }
    }

    /// The next packet as bytes.
    #[track_caller]
    pub fn receive_bytes(&mut self) -> Vec<u8> {
        assert!(self.held.is_empty(), "{:?} came before", self.held);
        let deadline = Instant::now() + PATIENCE;
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(packet) = Packet::parse(self.version, &self.received) {
                return self.received.drain(..packet.packet_bytes).collect();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing came");
            self.stream
                .set_read_timeout(Some(left))
                .expect("a read timeout");
            match self.wire().read(&mut chunk) {
                Ok(count) if count > 0 => self.received.extend(&chunk[..count]),
                other => panic!("{other:?} instead of a packet"),
            }
        }
    }

    /// The next packet, whatever it is.
    #[track_caller]
    pub fn receive(&mut self) -> Packet {
        match self.next(PATIENCE) {
            Next::Packet(packet) => *packet,
            other => panic!("{other:?} instead of a packet"),
        }
    }

    /// The next packet, which must be a `kind`.
    #[track_caller]
    pub fn expect(&mut self, kind: Kind) -> Packet {
        match self.next(PATIENCE) {
            Next::Packet(packet) if packet.kind == kind => *packet,
            other => panic!("{other:?} instead of {kind:?}"),
        }
    }

    /// The next packet that `wanted` takes; others are kept for later.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Packet) -> bool) -> Packet {
        if let Some(index) = self.held.iter().position(&wanted) {
            return self
                .held
                .remove(index)
                .expect("a position that was just found");
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.read(deadline.saturating_duration_since(Instant::now())) {
                Next::Packet(packet) if wanted(&packet) => return *packet,
                Next::Packet(packet) => self.held.push_back(*packet),
                other => panic!(
                    "{other:?} instead of {what}; before it came {:?}",
                    self.held
                ),
            }
        }
    }

    /// Nothing more comes and the broker closes the connection.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        match self.next(PATIENCE) {
            Next::Closed => {}
            other => panic!("{other:?} instead of a closed connection"),
        }
    }

    /// The broker ends the connection: a 5.0 client is told `reason_code` first [MQTT-4.13].
    #[track_caller]
    pub fn expect_end(&mut self, reason_code: u8) {
        self.expect_end_with(&[reason_code]);
    }

    /// The same where the specification leaves a choice of Reason Codes.
    #[track_caller]
    pub fn expect_end_with(&mut self, reason_codes: &[u8]) {
        if self.version == Version::V5 {
            let disconnect = self.expect(Kind::Disconnect);
            assert!(
                reason_codes.contains(&disconnect.code),
                "DISCONNECT {:#04x} instead of {reason_codes:#04x?}: {disconnect:?}",
                disconnect.code
            );
        }
        self.expect_closed();
    }

    /// Nothing comes for `ms` milliseconds, and the connection stays.
    #[track_caller]
    pub fn expect_nothing(&mut self, ms: u64) {
        match self.next(Duration::from_millis(ms)) {
            Next::Silence => {}
            other => panic!("{other:?} instead of nothing"),
        }
    }

    /// A PINGREQ is answered, and nothing came before: what the broker had to send by now it has not sent.
    #[track_caller]
    pub fn expect_nothing_before_pong(&mut self) {
        self.send_raw(&packet::PINGREQ);
        self.expect(Kind::PingResp);
    }

    /// Sends SUBSCRIBE, waits for SUBACK and gives its Reason Codes.
    #[track_caller]
    pub fn subscribe_with(&mut self, subscribe: &Subscribe) -> Vec<u8> {
        let identifier = self.next_identifier();
        self.send_raw(&subscribe.bytes(self.version, identifier));
        self.wait_for("SUBACK", |packet| {
            packet.kind == Kind::SubAck && packet.identifier == identifier
        })
        .codes
    }

    /// Subscribes to one filter and expects that its QoS is granted. `options` as in [`Subscribe::to`].
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, options: u8) {
        let codes = self.subscribe_with(&Subscribe::to(filter, options));
        assert_eq!(codes, [options & 3], "subscription to {filter}");
    }

    /// Unsubscribes and gives the Reason Codes of UNSUBACK.
    #[track_caller]
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let identifier = self.next_identifier();
        self.send_raw(&packet::unsubscribe(self.version, identifier, filters));
        self.wait_for("UNSUBACK", |packet| {
            packet.kind == Kind::UnsubAck && packet.identifier == identifier
        })
        .codes
    }

    /// Publishes with the whole flow of its QoS and gives the Reason Code of PUBACK or PUBREC.
    #[track_caller]
    pub fn publish_with(&mut self, mut publish: Publish) -> u8 {
        if publish.qos == 0 {
            self.send_raw(&publish.bytes(self.version));
            return 0;
        }
        let identifier = match publish.identifier {
            Some(identifier) => identifier,
            None => self.next_identifier(),
        };
        publish.identifier = Some(identifier);
        self.send_raw(&publish.bytes(self.version));
        let answer = if publish.qos == 1 {
            Kind::PubAck
        } else {
            Kind::PubRec
        };
        let code = self.wait_for_acknowledgement(answer, identifier).code;
        if publish.qos == 2 && code < 0x80 {
            self.send_raw(&acknowledgement(Kind::PubRel, identifier));
            let complete = self.wait_for_acknowledgement(Kind::PubComp, identifier);
            assert_eq!(complete.code, 0, "{complete:?}");
        }
        code
    }

    /// Publishes with the whole flow of its QoS and expects success.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) {
        let code = self.publish_with(Publish::new(topic, payload).qos(qos));
        assert!(
            code < 0x80,
            "PUBLISH to {topic} was refused with {code:#04x}"
        );
    }

    /// Waits for an acknowledgement of `identifier`.
    #[track_caller]
    pub fn wait_for_acknowledgement(&mut self, kind: Kind, identifier: u16) -> Packet {
        self.wait_for(&format!("{kind:?} {identifier}"), |packet| {
            packet.kind == kind && packet.identifier == identifier
        })
    }

    /// Sends an acknowledgement of Success.
    pub fn acknowledge(&mut self, kind: Kind, identifier: u16) {
        self.send_raw(&acknowledgement(kind, identifier));
    }

    /// Sends an acknowledgement with a Reason Code.
    pub fn acknowledge_with(&mut self, kind: Kind, identifier: u16, reason_code: u8) {
        self.send_raw(&acknowledgement_with(kind, identifier, reason_code));
    }

    /// The next packet, a PUBLISH, which is acknowledged as its QoS asks.
    #[track_caller]
    pub fn message(&mut self) -> Packet {
        let publish = self.expect(Kind::Publish);
        match publish.qos {
            1 => self.acknowledge(Kind::PubAck, publish.identifier),
            2 => {
                self.acknowledge(Kind::PubRec, publish.identifier);
                self.wait_for_acknowledgement(Kind::PubRel, publish.identifier);
                self.acknowledge(Kind::PubComp, publish.identifier);
            }
            _ => {}
        }
        publish
    }

    /// The next message, which must be this one.
    #[track_caller]
    pub fn expect_message(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> Packet {
        let publish = self.message();
        let found = (
            publish.topic.as_str(),
            String::from_utf8_lossy(&publish.payload),
        );
        assert_eq!(
            found,
            (topic, String::from_utf8_lossy(payload.as_ref())),
            "{publish:?}"
        );
        publish
    }

    /// All messages until nothing comes for `ms` milliseconds, acknowledged.
    pub fn drain(&mut self, ms: u64) -> Vec<Packet> {
        let mut messages = Vec::new();
        loop {
            match self.next(Duration::from_millis(ms)) {
                Next::Packet(packet) => self.held.push_front(*packet),
                Next::Silence => return messages,
                Next::Closed => panic!("closed after {} messages", messages.len()),
            }
            messages.push(self.message());
        }
    }

    /// Counts the packets until nothing comes for `ms` milliseconds, and answers none of them.
    pub fn drain_without_acknowledging(&mut self, ms: u64) -> usize {
        let mut count = 0;
        while self.next(Duration::from_millis(ms)).is_packet() {
            count += 1;
        }
        count
    }

    /// Sends DISCONNECT and waits until the broker has closed.
    pub fn disconnect(mut self) {
        self.send_raw(&packet::DISCONNECT);
        self.wait_until_closed();
    }

    /// Closes without DISCONNECT, and waits until the broker has seen it.
    pub fn cut(mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a half close");
        self.wait_until_closed();
    }

    fn wait_until_closed(&mut self) {
        loop {
            match self.next(PATIENCE) {
                Next::Closed => return,
                Next::Packet(_) => {}
                Next::Silence => panic!("the broker does not close"),
            }
        }
    }
}
