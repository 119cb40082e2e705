//! A broker for QoS 0 that does one thing wrong, now and then.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    Lose,
    Repeat,
    Swap,
}

/// One message in so many of a topic is treated wrongly.
const EVERY: u64 = 20;

/// How late a message is that others overtake.
const LATE: Duration = Duration::from_millis(30);

#[derive(Default)]
struct Topic {
    subscribers: Vec<TcpStream>,
    messages: u64,
}

type Topics = Arc<Mutex<HashMap<Vec<u8>, Topic>>>;

/// Starts it; it ends with the test.
pub fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let topics = Topics::default();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (socket, topics) = (socket.unwrap(), Arc::clone(&topics));
            // A client that goes away ends its thread.
            thread::spawn(move || serve(socket, &topics, fault));
        }
    });
    address
}

fn serve(mut socket: TcpStream, topics: &Topics, fault: Fault) -> io::Result<()> {
    socket.set_nodelay(true)?;
    loop {
        let packet = read_packet(&mut socket)?;
        let body = &packet[2..];
        match packet[0] {
            0x10 => socket.write_all(&[0x20, 2, 0, 0])?,
            0x82 => {
                let filter = text(&body[2..]).to_vec();
                let mut topics = topics.lock().unwrap();
                let topic = topics.entry(filter).or_default();
                topic.subscribers.push(socket.try_clone()?);
                socket.write_all(&[0x90, 3, body[0], body[1], 0])?;
            }
            0x30 => {
                let mut topics = topics.lock().unwrap();
                let topic = topics.entry(text(body).to_vec()).or_default();
                relay(topic, packet, fault)?;
            }
            _ => return Ok(()),
        }
    }
}

fn relay(topic: &mut Topic, packet: Vec<u8>, fault: Fault) -> io::Result<()> {
    topic.messages += 1;
    let is_wrong = topic.messages.is_multiple_of(EVERY);
    let copies = match (fault, is_wrong) {
        (Fault::Lose, true) => 0,
        (Fault::Repeat, true) => 2,
        (Fault::Swap, true) => return send_later(topic, packet),
        _ => 1,
    };
    for mut subscriber in &topic.subscribers {
        for _ in 0..copies {
            subscriber.write_all(&packet)?;
        }
    }
    Ok(())
}

/// The messages that follow overtake this one.
fn send_later(topic: &Topic, packet: Vec<u8>) -> io::Result<()> {
    let subscribers: io::Result<Vec<_>> =
        topic.subscribers.iter().map(TcpStream::try_clone).collect();
    let subscribers = subscribers?;
    thread::spawn(move || {
        thread::sleep(LATE);
        for mut subscriber in subscribers {
            // It may be gone by now.
            let _ = subscriber.write_all(&packet);
        }
    });
    Ok(())
}

/// A packet of less than 128 bytes, as all of the tests are.
fn read_packet(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; 2];
    socket.read_exact(&mut packet)?;
    assert!(packet[1] < 0x80, "a long packet");
    packet.resize(2 + usize::from(packet[1]), 0);
    socket.read_exact(&mut packet[2..])?;
    Ok(packet)
}

fn text(bytes: &[u8]) -> &[u8] {
    &bytes[2..2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))]
}
