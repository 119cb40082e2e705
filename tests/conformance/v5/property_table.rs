//! Table 2-4 and the texts of the properties: which packet may carry which, how often, in which form, and
//! what holds when one is absent. Every cell is tried.

use super::*;
use crate::support::packet::PINGREQ;

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Byte,
    Two,
    Four,
    Variable,
    Text,
    Binary,
    Pair,
}

/// Where a client sends properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Connect,
    Will,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Auth,
}

const PLACES: [Place; 11] = [
    Place::Connect,
    Place::Will,
    Place::Publish,
    Place::PubAck,
    Place::PubRec,
    Place::PubRel,
    Place::PubComp,
    Place::Subscribe,
    Place::Unsubscribe,
    Place::Disconnect,
    Place::Auth,
];

const ACKNOWLEDGEMENTS: [Place; 4] = [Place::PubAck, Place::PubRec, Place::PubRel, Place::PubComp];

/// All properties: identifier, form, and the places where a Client may send it.
fn table() -> Vec<(u8, Form, Vec<Place>)> {
    use Form::{Binary, Byte, Four, Pair, Text, Two, Variable};
    let explained = [&ACKNOWLEDGEMENTS[..], &[Place::Disconnect, Place::Auth]].concat();
    vec![
        (0x01, Byte, vec![Place::Publish, Place::Will]),
        (0x02, Four, vec![Place::Publish, Place::Will]),
        (0x03, Text, vec![Place::Publish, Place::Will]),
        (0x08, Text, vec![Place::Publish, Place::Will]),
        (0x09, Binary, vec![Place::Publish, Place::Will]),
        (0x0b, Variable, vec![Place::Subscribe]),
        (0x11, Four, vec![Place::Connect, Place::Disconnect]),
        (0x12, Text, vec![]),
        (0x13, Two, vec![]),
        (0x15, Text, vec![Place::Connect, Place::Auth]),
        (0x16, Binary, vec![Place::Connect, Place::Auth]),
        (0x17, Byte, vec![Place::Connect]),
        (0x18, Four, vec![Place::Will]),
        (0x19, Byte, vec![Place::Connect]),
        (0x1a, Text, vec![]),
        (0x1c, Text, vec![]),
        (0x1f, Text, explained),
        (0x21, Two, vec![Place::Connect]),
        (0x22, Two, vec![Place::Connect]),
        (0x23, Two, vec![Place::Publish]),
        (0x24, Byte, vec![]),
        (0x25, Byte, vec![]),
        (0x26, Pair, PLACES.to_vec()),
        (0x27, Four, vec![Place::Connect]),
        (0x28, Byte, vec![]),
        (0x29, Byte, vec![]),
        (0x2a, Byte, vec![]),
    ]
}

/// A good value.
fn value(form: Form) -> &'static [u8] {
    match form {
        Form::Byte | Form::Variable => &[1],
        Form::Two => &[0, 60],
        Form::Four => &[0, 0, 1, 0],
        Form::Text | Form::Binary => b"\x00\x01v",
        Form::Pair => b"\x00\x01k\x00\x01v",
    }
}

/// The packet with these raw properties in `place`.
fn with_properties(scene: &Scene, place: Place, properties: &[u8]) -> Vec<u8> {
    let length = u8::try_from(properties.len()).expect("few properties");
    let counted = [&[length], properties].concat();
    let id = scene.id("client");
    match place {
        Place::Connect => raw_connect(2, properties, &[id.as_bytes()]),
        Place::Will => {
            let will = [RAW, &counted].concat();
            raw_connect(6, &[], &[id.as_bytes(), &will, b"will", b"x"])
        }
        Place::Publish => raw_publish(0x32, b"t", Some(1), properties),
        Place::PubAck => packet(0x40, &[&[0, 1, 0][..], &counted].concat()),
        Place::PubRec => packet(0x50, &[&[0, 1, 0][..], &counted].concat()),
        Place::PubRel => packet(0x62, &[&[0, 1, 0][..], &counted].concat()),
        Place::PubComp => packet(0x70, &[&[0, 1, 0][..], &counted].concat()),
        Place::Subscribe => raw_subscribe(0x82, 1, properties, b"t", 0),
        Place::Unsubscribe => raw_unsubscribe(0xa2, 1, properties, b"t"),
        Place::Disconnect => packet(0xe0, &[&[0][..], &counted].concat()),
        Place::Auth => packet(0xf0, &[&[0x19][..], &counted].concat()),
    }
}

/// The last packet of the broker's answer to properties in a place: `None` if the connection goes on.
#[track_caller]
fn refusal(scene: &Scene, place: Place, properties: &[u8]) -> Option<u8> {
    let bytes = with_properties(scene, place, properties);
    let of_connect = matches!(place, Place::Connect | Place::Will);
    let mut client = match of_connect {
        true => scene.open(),
        false => scene.join(scene.connect("client").expiry_s(60)),
    };
    client.send_raw(&bytes);
    if place == Place::Disconnect {
        // A good one closes without a word.
        return match client.next(PATIENCE) {
            Next::Closed => None,
            Next::Packet(packet) if packet.kind == Kind::Disconnect => Some(packet.code),
            other => panic!("{other:?}"),
        };
    }
    if of_connect {
        let connack = client.expect(Kind::ConnAck);
        if connack.code != 0 {
            client.expect_closed();
            return Some(connack.code);
        }
    }
    client.try_send_raw(&PINGREQ);
    loop {
        match client.next(PATIENCE) {
            Next::Packet(packet) if packet.kind == Kind::PingResp => {
                client.send_raw(&crate::support::packet::DISCONNECT);
                return None;
            }
            Next::Packet(packet) if packet.kind == Kind::Disconnect => return Some(packet.code),
            Next::Packet(_) => {}
            other => panic!("{place:?} {properties:x?}: {other:?}"),
        }
    }
}

/// The broker knows no authentication method: what names one is refused with this code.
fn is_refused_anyway(place: Place, identifier: u8, code: Option<u8>) -> bool {
    let authenticates =
        place == Place::Auth || (place == Place::Connect && matches!(identifier, 0x15 | 0x16));
    authenticates && matches!(code, Some(0x8c)) || (identifier == 0x16 && code == Some(0x82))
}

#[test]
fn each_packet_takes_its_properties_and_no_others() {
    let scene = Scene::new();
    let table = table();
    for identifier in 0..=0x7f {
        let known = table.iter().find(|(other, ..)| *other == identifier);
        for place in PLACES {
            let form = known.map_or(Form::Byte, |(_, form, _)| *form);
            let properties = [&[identifier], value(form)].concat();
            let code = refusal(&scene, place, &properties);
            let allowed = known.is_some_and(|(_, _, places)| places.contains(&place));
            if allowed {
                let fine = code.is_none() || is_refused_anyway(place, identifier, code);
                assert!(fine, "{place:?} with {identifier:#04x}: {code:#04x?}");
            } else {
                let refused = code.is_some_and(|code| EITHER.contains(&code));
                assert!(refused, "{place:?} with {identifier:#04x}: {code:#04x?}");
            }
        }
    }
}

#[test]
fn only_user_property_may_be_there_twice() {
    let scene = Scene::new();
    for (identifier, form, places) in table() {
        for place in places {
            let properties = [&[identifier], value(form)].concat().repeat(2);
            let code = refusal(&scene, place, &properties);
            if identifier == 0x26 {
                assert!(
                    code.is_none() || is_refused_anyway(place, identifier, code),
                    "{place:?}: {code:#04x?}"
                );
            } else {
                assert_eq!(code, Some(0x82), "{place:?} with {identifier:#04x} twice");
            }
        }
    }
}

#[test]
fn a_value_that_is_cut_or_goes_on_is_malformed() {
    let scene = Scene::new();
    for (identifier, form, places) in table() {
        for place in places {
            let whole = [&[identifier], value(form)].concat();
            for end in 1..whole.len() {
                let code = refusal(&scene, place, &whole[..end]);
                assert_eq!(code, Some(0x81), "{place:?}: {:x?}", &whole[..end]);
            }
            // What follows the value is read as the next property: 0x00 is none.
            let code = refusal(&scene, place, &[&whole[..], &[0]].concat());
            assert!(
                code.is_some_and(|code| EITHER.contains(&code)),
                "{place:?} {identifier:#04x}: {code:#04x?}"
            );
        }
    }
}

#[test]
fn a_property_length_that_is_wrong_is_malformed() {
    let scene = Scene::new();
    for place in PLACES {
        let good = with_properties(&scene, place, b"\x26\x00\x01k\x00\x01v");
        let at = good
            .windows(2)
            .position(|pair| pair == [7, 0x26])
            .expect("a Property Length");
        for length in [0, 1, 6, 8, 127] {
            let mut bytes = good.clone();
            bytes[at] = length;
            let of_connect = matches!(place, Place::Connect | Place::Will);
            let what = format!("{place:?} with a Property Length of {length}");
            match of_connect {
                true => drop(refuses(&scene, &what, &bytes, &[0x81, 0x82, 0x85, 0x90])),
                // Payload and filters may begin earlier: then they are what is wrong, or nothing is.
                false if matches!(place, Place::Publish) && length == 0 => {}
                false => ends(&scene, &what, &bytes, EITHER),
            }
        }
    }
}

#[test]
fn values_that_are_not_allowed_are_protocol_errors() {
    let scene = Scene::new();
    let cases: [(Place, &[u8], u8); 12] = [
        (Place::Publish, &[0x01, 2], 0x82),
        (Place::Publish, &[0x01, 255], 0x82),
        (Place::Publish, &[0x23, 0, 0], 0x94),
        (Place::Will, &[0x01, 2], 0x82),
        (Place::Connect, &[0x17, 2], 0x82),
        (Place::Connect, &[0x19, 2], 0x82),
        (Place::Connect, &[0x21, 0, 0], 0x82),
        (Place::Connect, &[0x27, 0, 0, 0, 0], 0x82),
        (Place::Connect, &[0x16, 0, 0], 0x82),
        (Place::Subscribe, &[0x0b, 0], 0x82),
        (
            Place::Subscribe,
            &[0x0b, 0xff, 0xff, 0xff, 0xff, 0x01],
            0x81,
        ),
        (Place::Publish, &[0x08, 0, 0], 0x90),
    ];
    for (place, properties, code) in cases {
        let found = refusal(&scene, place, properties);
        let fine = found == Some(code) || (code == 0x90 && matches!(found, Some(0x81 | 0x82)));
        assert!(fine, "{place:?} {properties:x?}: {found:#04x?}");
    }
}

#[test]
fn absent_properties_of_connect_have_their_defaults() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.join(scene.connect("client").resume());
    client.subscribe(&topic, 2);
    let mut writer = scene.client("writer");
    // Maximum Packet Size: no limit. Topic Alias Maximum 0: no alias.
    writer.publish(&topic, vec![b'x'; 100_000], 0);
    writer.publish(&topic, vec![b'x'; 100_000], 0);
    for _ in 0..2 {
        let message = client.message();
        assert_eq!(
            (message.payload.len(), message.topic.as_str()),
            (100_000, topic.as_str())
        );
        assert!(message.properties.is_empty());
    }
    // Receive Maximum 65,535: what the broker itself allows is in flight.
    for n in 0..1_000 {
        writer.publish(&topic, n.to_string(), 1);
    }
    arrive(&mut client, 1_000);
    // Request Response Information 0.
    let connack = client.connack.clone().unwrap();
    assert_eq!(connack.property(property::RESPONSE_INFORMATION), None);
    // Request Problem Information 1: a DISCONNECT may say why.
    client.send_raw(&[0xc1, 0]);
    let end = client.expect(Kind::Disconnect);
    assert!(end.property(property::REASON_STRING).is_some());
    client.expect_closed();
    // Session Expiry Interval 0: the session ends with its connection.
    assert!(
        !scene
            .join(scene.connect("client").resume())
            .session_present()
    );
}

#[test]
fn absent_properties_of_connack_mean_what_they_are_by_default() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.join(scene.connect("client").expiry_s(77).keep_alive_s(60));
    let absent_or = |client: &Client, identifier, default| {
        let told = client.granted(identifier);
        assert!(
            told.is_none_or(|told| told == default),
            "{identifier:#04x} is {told:?}"
        );
    };
    // Each is absent or says its default, and the broker does what that means.
    absent_or(&client, property::SESSION_EXPIRY_INTERVAL, 77);
    absent_or(&client, property::SERVER_KEEP_ALIVE, 60);
    absent_or(&client, property::RETAIN_AVAILABLE, 1);
    absent_or(&client, property::WILDCARD_SUBSCRIPTION_AVAILABLE, 1);
    absent_or(&client, property::SUBSCRIPTION_IDENTIFIER_AVAILABLE, 1);
    absent_or(&client, property::SHARED_SUBSCRIPTION_AVAILABLE, 1);
    assert_eq!(client.granted(property::MAXIMUM_QOS), None);
    let connack = client.connack.clone().unwrap();
    assert_eq!(connack.property(property::ASSIGNED_CLIENT_IDENTIFIER), None);
    client.publish_with(Publish::new(&topic, "kept").qos(2).retain());
    let subscribe = Subscribe::to(&scene.topic("+"), 2)
        .and(&scene.shared("s"), 2)
        .identified(5);
    assert_eq!(client.subscribe_with(&subscribe), [2, 2]);
    assert_eq!(
        client
            .expect_message(&topic, "kept")
            .subscription_identifiers(),
        [5]
    );
}

#[test]
fn absent_properties_of_publish_and_will_stay_absent() {
    let scene = Scene::new();
    let mut reader = scene.reader("reader", "#", 1);
    let mut writer = scene.client("writer");
    writer.publish(&scene.topic("t"), b"\xff\x00", 1);
    assert!(
        reader.message().properties.is_empty(),
        "no expiry, no format, nothing"
    );
    let will = Will::new(&scene.topic("will"), b"gone");
    // Without a Will Delay Interval it is sent at once, even if the session stays.
    let started = std::time::Instant::now();
    scene
        .join(scene.connect("dying").expiry_s(60).will(will))
        .cut();
    assert!(
        reader
            .expect_message(&scene.topic("will"), "gone")
            .properties
            .is_empty()
    );
    assert!(started.elapsed() < std::time::Duration::from_millis(700));
}
