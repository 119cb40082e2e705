//! Turns made by hand: how often the kernel is asked.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::*;
use crate::config::address::ListenAddress;
use crate::net::listener;
use crate::shard::mesh;

/// A shard on this thread, whose turns the test makes, and where it listens.
fn shard() -> (Shard, std::net::SocketAddr) {
    let mut config = Config::default();
    config.listeners[0].address = "127.0.0.1:0".parse().unwrap();
    let unix = &config.listeners[0].unix;
    let mut bound = listener::bind(&config.listeners[0].address, unix, 1, 16, false).unwrap();
    let ListenAddress::Tcp(address) = bound.address else {
        panic!("{bound:?}");
    };
    let (peers, mut inboxes) = mesh::connect(1, 16).unwrap();
    let setup = Setup {
        id: ShardId(0),
        config: Arc::new(config),
        hasher: TopicHasher::new(1),
        listeners: vec![ListenerSocket {
            place: 0,
            socket: bound.sockets.pop().unwrap(),
            gate: ListenerGate::new(10),
        }],
        inbox: inboxes.pop().unwrap(),
        peers,
        started: (Instant::now(), 0),
    };
    assert!(setup.peers[0].send(Message::Open).is_ok());
    (Shard::new(setup, None).unwrap(), address)
}

/// Makes turns until `count` bytes have come.
fn read(shard: &mut Shard, client: &mut TcpStream, count: usize) {
    let mut bytes = vec![0; count];
    let mut got = 0;
    while got < count {
        match client.read(&mut bytes[got..]) {
            Ok(0) => panic!("closed after {got} bytes"),
            Ok(more) => got += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => shard.turn().unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A 3.1.1 client.
fn client(shard: &mut Shard, address: std::net::SocketAddr, id: u8) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nonblocking(true).unwrap();
    let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, id];
    stream.write_all(&connect).unwrap();
    read(shard, &mut stream, 4);
    stream
}

#[test]
fn a_turn_has_one_enter_and_each_connection_one_send() {
    const SUBSCRIBERS: usize = 3;
    const MESSAGES: usize = 50;
    const ROUNDS: u64 = 20;
    let (mut shard, address) = shard();
    let mut subscribers: Vec<TcpStream> = (0..SUBSCRIBERS)
        .map(|_| {
            // There are few.
            let id = u8::try_from(shard.open).unwrap() + b'a';
            let mut stream = client(&mut shard, address, id);
            stream.write_all(&[0x82, 6, 0, 1, 0, 1, b't', 0]).unwrap();
            read(&mut shard, &mut stream, 5);
            stream
        })
        .collect();
    let mut publisher = client(&mut shard, address, b'p');
    let publish = [0x32, 6, 0, 1, b't', 0, 1, b'x'].repeat(MESSAGES);
    let (turns, before) = (shard.turns, shard.ring.counts());
    for _ in 0..ROUNDS {
        publisher.write_all(&publish).unwrap();
        for subscriber in &mut subscribers {
            read(&mut shard, subscriber, 6 * MESSAGES);
        }
        // All acknowledgements are one send too.
        read(&mut shard, &mut publisher, 4 * MESSAGES);
    }
    let counts = shard.ring.counts();
    let enters = counts.enters - before.enters;
    assert!(
        enters <= u64::from(shard.turns - turns),
        "{enters} enters in {} turns",
        shard.turns - turns
    );
    assert_eq!(
        counts.sends - before.sends,
        ROUNDS * (SUBSCRIBERS as u64 + 1)
    );
    assert!(
        u64::from(shard.turns - turns) <= ROUNDS * 4,
        "messages share turns"
    );
}

#[test]
fn connections_that_come_and_go_leave_no_buffer() {
    let (mut shard, address) = shard();
    let mut most = 0;
    for round in 0..30 {
        let stream = client(&mut shard, address, b'a');
        drop(stream);
        while shard.open > 0 {
            shard.turn().unwrap();
        }
        match round {
            0..10 => most = most.max(shard.spare.free_bytes()),
            _ => assert!(shard.spare.free_bytes() <= most),
        }
    }
}
