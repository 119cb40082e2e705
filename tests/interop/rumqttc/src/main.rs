//! rumqttc against a broker: `interop-rumqttc HOST PORT VERSION` (311 or 5).
//!
//! The crate has one client for each protocol version; `client!` makes the same small client of both.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(300);
/// Events that wait for the test.
const EVENTS_MAX: usize = 10_000;

/// What a connection told, with what of it matters here.
#[derive(Debug)]
enum Event {
    Connected,
    Subscribed,
    Acknowledged,
    Message(Message),
}

/// A message that came.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    topic: String,
    payload: String,
    qos: u8,
    retain: bool,
}

/// Waits for the next event that `wanted` takes; messages that come before it are lost.
fn wait<T>(events: &Receiver<Event>, what: &str, wanted: impl Fn(Event) -> Option<T>) -> T {
    loop {
        match events.recv_timeout(PATIENCE) {
            Ok(event) => {
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
            Err(error) => panic!("no {what}: {error}"),
        }
    }
}

macro_rules! client {
    ($module:ident, $($path:ident)::+, $will:expr, $text:expr) => {
        mod $module {
            use $($path)::+::mqttbytes::QoS;
            use $($path)::+::{Client as Rumqttc, Event as Told, Incoming, MqttOptions};

            use super::*;

            const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

            pub struct Client {
                rumqttc: Rumqttc,
                events: Receiver<Event>,
            }

            impl Client {
                pub fn connect(address: &(String, u16), name: &str) -> Self {
                    Self::start(options(address, name))
                }

                fn start(options: MqttOptions) -> Self {
                    let (rumqttc, mut connection) = Rumqttc::new(options, 100);
                    let (sender, events) = sync_channel(EVENTS_MAX);
                    thread::spawn(move || {
                        for told in connection.iter() {
                            match told {
                                Ok(told) => tell(&sender, told),
                                Err(_) => return,
                            }
                        }
                    });
                    wait(&events, "CONNACK", |event| matches!(event, Event::Connected).then_some(()));
                    Self { rumqttc, events }
                }

                pub fn subscribe(&self, filter: &str, qos: usize) {
                    self.rumqttc.subscribe(filter, LEVELS[qos]).expect("a request");
                    wait(&self.events, "SUBACK", |event| matches!(event, Event::Subscribed).then_some(()));
                }

                pub fn publish(&self, topic: &str, payload: &str, qos: usize, retain: bool) {
                    let payload = payload.to_owned();
                    self.rumqttc.publish(topic, LEVELS[qos], retain, payload).expect("a request");
                    if qos > 0 {
                        wait(&self.events, "PUBACK or PUBCOMP", |event| {
                            matches!(event, Event::Acknowledged).then_some(())
                        });
                    }
                }

                pub fn message(&self) -> Message {
                    wait(&self.events, "message", |event| match event {
                        Event::Message(message) => Some(message),
                        _ => None,
                    })
                }

                /// The payloads of all messages until nothing more comes.
                pub fn drain(&self) -> Vec<String> {
                    let mut payloads = Vec::new();
                    loop {
                        match self.events.recv_timeout(SILENCE) {
                            Ok(Event::Message(message)) => payloads.push(message.payload),
                            Ok(_) => {}
                            Err(RecvTimeoutError::Timeout) => return payloads,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }

                pub fn disconnect(self) {
                    self.rumqttc.disconnect().expect("a request");
                }
            }

            fn options((host, port): &(String, u16), name: &str) -> MqttOptions {
                let mut options = MqttOptions::new(name, host.as_str(), *port);
                options.set_keep_alive(Duration::from_secs(30));
                options
            }

            fn tell(sender: &SyncSender<Event>, told: Told) {
                let event = match told {
                    Told::Incoming(Incoming::ConnAck(_)) => Event::Connected,
                    Told::Incoming(Incoming::SubAck(_)) => Event::Subscribed,
                    Told::Incoming(Incoming::PubAck(_) | Incoming::PubComp(_)) => Event::Acknowledged,
                    Told::Incoming(Incoming::Publish(publish)) => Event::Message(Message {
                        topic: $text(&publish.topic),
                        payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                        qos: publish.qos as u8,
                        retain: publish.retain,
                    }),
                    Told::Incoming(_) | Told::Outgoing(_) => return,
                };
                sender.send(event).expect("the test waits for events");
            }

            /// Connects with a will and drops the connection without DISCONNECT.
            fn die(address: &(String, u16), name: &str, topic: &str) {
                let mut options = options(address, name);
                options.set_last_will($will(topic, "gone", LEVELS[1]));
                let (_rumqttc, mut connection) = Rumqttc::new(options, 10);
                for told in connection.iter() {
                    let told = told.expect("a connection");
                    if matches!(told, Told::Incoming(Incoming::ConnAck(_))) {
                        return;
                    }
                }
            }

            /// All that a client must be able to do.
            pub fn run(address: &(String, u16), prefix: &str) {
                let name = |part: &str| format!("{prefix}-{part}");
                let topic = |part: &str| format!("{prefix}/{part}");
                let reader = Client::connect(address, &name("reader"));
                let writer = Client::connect(address, &name("writer"));

                reader.subscribe(&topic("qos/#"), 2);
                for qos in 0..3 {
                    let topic = topic(&format!("qos/{qos}"));
                    writer.publish(&topic, "message", qos, false);
                    let expected = Message { topic, payload: "message".into(), qos: qos as u8, retain: false };
                    assert_eq!(reader.message(), expected);
                }

                writer.publish(&topic("retained"), "kept", 1, true);
                reader.subscribe(&topic("retained"), 1);
                let message = reader.message();
                assert_eq!((message.payload.as_str(), message.retain), ("kept", true));
                writer.publish(&topic("retained"), "", 1, true);
                assert_eq!(reader.message().payload, "");
                let late = Client::connect(address, &name("late"));
                late.subscribe(&topic("retained"), 1);
                assert!(late.drain().is_empty(), "a retained message that was cleared");

                reader.subscribe(&topic("will"), 1);
                die(address, &name("dying"), &topic("will"));
                assert_eq!(reader.message().payload, "gone");

                let group = format!("$share/group/{}", topic("shared"));
                late.subscribe(&group, 1);
                reader.subscribe(&group, 1);
                for n in 0..40 {
                    writer.publish(&topic("shared"), &n.to_string(), 1, false);
                }
                let (one, two) = (late.drain(), reader.drain());
                assert!(one.len() >= 5 && two.len() >= 5, "members got {} and {}", one.len(), two.len());
                let all: BTreeSet<&String> = one.iter().chain(&two).collect();
                assert_eq!((all.len(), one.len() + two.len()), (40, 40), "each message once");
                for client in [reader, writer, late] {
                    client.disconnect();
                }
            }
        }
    };
}

client!(
    v311,
    rumqttc,
    |topic: &str, payload: &str, qos| rumqttc::LastWill::new(topic, payload, qos, false),
    |topic: &String| topic.clone()
);
client!(
    v5,
    rumqttc::v5,
    |topic: &str, payload: &str, qos| rumqttc::v5::mqttbytes::v5::LastWill::new(
        topic,
        payload.to_owned(),
        qos,
        false,
        None
    ),
    |topic: &[u8]| String::from_utf8_lossy(topic).into_owned()
);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, host, port, version] = arguments.as_slice() else {
        panic!("usage: interop-rumqttc HOST PORT VERSION");
    };
    let address = (host.clone(), port.parse().expect("a port"));
    let prefix = format!("rumqttc-{version}-{}", std::process::id());
    match version.as_str() {
        "311" => v311::run(&address, &prefix),
        "5" => v5::run(&address, &prefix),
        other => panic!("rumqttc has no version {other}"),
    }
    println!("ok: rumqttc, version {version}");
}
